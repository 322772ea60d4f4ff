/**
 * Who keeps a device from being let go, as far as this process may see it.
 *
 * @module
 */
import { isRefusal } from "../base/errors.ts";
import { type HiddenMounts, hiddenMounts, hiddenUses, ifAllowed } from "./file_users.ts";
import {
  ifExists,
  listDirectory,
  O_EXCL,
  O_RDONLY,
  open,
  readLink,
  readText,
} from "../kernel/file.ts";
import { mounts } from "../kernel/mountinfo.ts";
import { ownMountsOf } from "./own_mounts.ts";
import { sysfsDev, sysfsPartitions } from "../kernel/sysfs.ts";
import { breathe } from "../runtime/turns.ts";

/**
 * Somebody who holds a loop device or one of its partitions.
 *
 * @example
 * ```ts
 * import { type Holder } from "@loopdev/loopdev";
 * const show = ({ path, kind, by }: Holder) => `${path}: ${kind} ${by}`; // /dev/loop4p1: mount /mnt
 * ```
 */
export interface Holder {
  /** What is held: "/dev/loop4p1". */
  readonly path: string;
  /** A mount, another block device on top of it (LVM, dm-crypt, md), or an open file. */
  readonly kind: "mount" | "device" | "process";
  /**
   * The mount point, the device's node, or the process: "/mnt", "/dev/dm-0", "1234 (qemu)". Of a
   * mount of this process's without a directory its path: "/proc/1234/fd/17".
   */
  readonly by: string;
}

/**
 * Whether the disk or a partition of it has an owner: it is mounted, in whatever namespace, or another
 * device lies on it. Who just looks at it does not open it O_EXCL.
 */
export function isHeldExclusively(path: string): boolean {
  try {
    ifExists(() => open(path, O_RDONLY | O_EXCL))?.close();
    return false;
  } catch (error) {
    return isRefusal(error, "EBUSY");
  }
}

/** As a message names them: "/dev/loop4p1: mount /mnt". Empty if there are none. */
export function describeHolders(holders: readonly Holder[]): string {
  return holders.map(({ path, kind, by }) => `${path}: ${kind} ${by}`).join(", ");
}

/** Everyone who holds loop device `number` or a partition of it. */
export async function findHolders(number: number): Promise<Holder[]> {
  const disk = `loop${number}`;
  const held = new Map([[sysfsDev(number), disk]]);
  for (const { name, dev } of sysfsPartitions(number)) held.set(dev, name);
  const folders = [...held.values()].map((
    name,
  ) => [name, name === disk ? disk : `${disk}/${name}`]);
  const devices = [...held.values()].map((name) => `/dev/${name}`);
  const own = ownMountsOf(devices, (device) => !isHeldExclusively(device));
  const hidden = devices.some(isHeldExclusively)
    ? hiddenMounts(
      new Map([...held, ...own.map(({ dev, device }) => [dev, device.slice(5)] as const)]),
      own.flatMap(({ descriptors }) => descriptors),
    )
    : undefined;
  const shown = mountsOf(held);
  const unseen = own.filter(({ path, descriptors }) =>
    descriptors.length > 0 && !shown.some(({ by }) => by === path)
  );
  return [
    ...shown,
    ...unseen.map(({ device, path }): Holder => ({ path: device, kind: "mount", by: path })),
    ...folders.flatMap(([name, folder]) =>
      (ifExists(() => listDirectory(`/sys/block/${folder}/holders`)) ?? [])
        .map((by): Holder => ({ path: `/dev/${name}`, kind: "device", by: `/dev/${by}` }))
    ),
    ...await processes(new Set(held.values()), hidden),
  ];
}

/** udevd's processes: "(udev-worker)" since systemd 251, and "(udev-synth)". */
const UDEVD = /^\d+ \(\(?(?:systemd-udevd|udevd|udev-[a-z]+)\)?\)$/;

/** Whether only udevd is at work on the device, somebody else has it, or nobody in sight. */
export async function heldBy(number: number): Promise<"udevd" | "others" | "nobody"> {
  const holders = await findHolders(number);
  if (holders.length === 0) return "nobody";
  const isUdevd = ({ kind, by }: Holder) => kind === "process" && UDEVD.test(by);
  return holders.every(isUdevd) ? "udevd" : "others";
}

/** Processes but udevd that have the device open by another descriptor than this one of ours. */
export async function othersThan(number: number, ours: number | undefined): Promise<string[]> {
  const own = readLink("/proc/self");
  const others: string[] = [];
  const names = new Set([`loop${number}`]);
  for await (const { pid, links } of descriptors()) {
    const by = processName(pid);
    if (UDEVD.test(by)) continue;
    const isOther = ({ fd }: { fd: string }) => pid !== own || Number(fd) !== ours;
    if (openNodes(links, names).some(isOther)) others.push(by);
  }
  return others;
}

function mountsOf(held: Map<string, string>): Holder[] {
  return mounts().flatMap(({ dev, point }): Holder[] => {
    const name = held.get(dev);
    return name === undefined ? [] : [{ path: `/dev/${name}`, kind: "mount", by: point }];
  });
}

/** Where the descriptors of every process lead to that we may look at, by their numbers. */
async function* descriptors(): AsyncGenerator<{ pid: string; links: Map<string, string> }> {
  for (const pid of listDirectory("/proc").filter((name) => /^\d+$/.test(name))) {
    await breathe();
    const folder = `/proc/${pid}/fd`;
    const links = new Map<string, string>();
    for (const fd of ifAllowed(() => listDirectory(folder)) ?? []) {
      const link = ifAllowed(() => readLink(`${folder}/${fd}`));
      if (link !== undefined) links.set(fd, link);
    }
    yield { pid, links };
  }
}

/** Those that are one of these loop devices or partitions; loopdev's own nodes are links, too. */
function openNodes(
  links: ReadonlyMap<string, string>,
  names: ReadonlySet<string>,
): { name: string; fd: string }[] {
  return [...links].flatMap(([fd, link]) => {
    const name = /^\/dev\/(?:\.loopdev-)?(loop\d+(?:p\d+)?)(?: \(deleted\))?$/.exec(link)?.[1];
    return name !== undefined && names.has(name) ? [{ name, fd }] : [];
  });
}

async function processes(
  names: ReadonlySet<string>,
  hidden: HiddenMounts | undefined,
): Promise<Holder[]> {
  const holders = new Map<string, Holder>();
  for await (const { pid, links } of descriptors()) {
    const opened = openNodes(links, names).map(({ name }) => name);
    const used = hidden ? await hiddenUses(pid, links, hidden) : [];
    for (const name of [...opened, ...used]) {
      const by = processName(pid);
      holders.set(`${name} ${pid}`, { path: `/dev/${name}`, kind: "process", by });
    }
  }
  return [...holders.values()];
}

/** Who has the device's own node locked with flock(2): `by` is "1234 (sfdisk)". */
export async function findLockers(
  number: number,
): Promise<{ pid: string; fd: string; by: string }[]> {
  const names = new Set([`loop${number}`]);
  const lockers = [];
  for await (const { pid, links } of descriptors()) {
    for (const { fd } of openNodes(links, names)) {
      // /proc/locks has who took a lock, which may have left it to a child and ended since.
      const info = ifAllowed(() => readText(`/proc/${pid}/fdinfo/${fd}`));
      if (info && /^lock:.* FLOCK /m.test(info)) lockers.push({ pid, fd, by: processName(pid) });
    }
  }
  return lockers;
}

/**
 * Who has a lock of the file at `path` that fdinfo shows by such a line, but descriptor `ours` of this
 * process: "1234 (bun)".
 */
export async function findFileLockers(
  path: string,
  lock: RegExp,
  ours: number | undefined,
): Promise<string[]> {
  const own = readLink("/proc/self");
  const lockers = new Set<string>();
  for await (const { pid, links } of descriptors()) {
    for (const [fd, link] of links) {
      if (link !== path || pid === own && Number(fd) === ours) continue;
      const info = ifAllowed(() => readText(`/proc/${pid}/fdinfo/${fd}`));
      if (info && lock.test(info)) lockers.add(processName(pid));
    }
  }
  return [...lockers];
}

function processName(pid: string): string {
  const comm = ifAllowed(() => readText(`/proc/${pid}/comm`));
  return `${pid}${comm === undefined ? "" : ` (${comm})`}`;
}
