/**
 * Who keeps a device from being let go, as far as this process may see it.
 *
 * @module
 */
import { isRefusal } from "./base/errors.ts";
import { ifExists, listDirectory, readLink, readText } from "./kernel/file.ts";
import { mounts } from "./kernel/mountinfo.ts";
import { sysfsDev, sysfsPartitions } from "./kernel/sysfs.ts";
import { breathe } from "./runtime/turns.ts";

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
  /** The mount point, the device's node, or the process: "/mnt", "/dev/dm-0", "1234 (qemu)". */
  readonly by: string;
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
  return [
    ...mountsOf(held),
    ...folders.flatMap(([name, folder]) =>
      (ifExists(() => listDirectory(`/sys/block/${folder}/holders`)) ?? [])
        .map((by): Holder => ({ path: `/dev/${name}`, kind: "device", by: `/dev/${by}` }))
    ),
    ...await processes(new Set(held.values())),
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
  for await (const { pid, fd } of openNodes(new Set([`loop${number}`]))) {
    const by = processName(pid);
    if (!UDEVD.test(by) && (pid !== own || Number(fd) !== ours)) others.push(by);
  }
  return others;
}

function mountsOf(held: Map<string, string>): Holder[] {
  return mounts().flatMap(({ dev, point }): Holder[] => {
    const name = held.get(dev);
    return name === undefined ? [] : [{ path: `/dev/${name}`, kind: "mount", by: point }];
  });
}

/** An open file of a process, which is a loop device or a partition. */
interface OpenNode {
  readonly name: string;
  readonly pid: string;
  readonly fd: string;
}

/** Those of every process whose descriptors we may read; loopdev's own nodes are links, too. */
async function* openNodes(names: ReadonlySet<string>): AsyncGenerator<OpenNode> {
  for (const pid of listDirectory("/proc").filter((name) => /^\d+$/.test(name))) {
    await breathe();
    const folder = `/proc/${pid}/fd`;
    for (const fd of ifAllowed(() => listDirectory(folder)) ?? []) {
      const link = ifAllowed(() => readLink(`${folder}/${fd}`));
      const name = /^\/dev\/(?:\.loopdev-)?(loop\d+(?:p\d+)?)(?: \(deleted\))?$/.exec(link ?? "")
        ?.[1];
      if (name !== undefined && names.has(name)) yield { name, pid, fd };
    }
  }
}

async function processes(names: ReadonlySet<string>): Promise<Holder[]> {
  const holders = new Map<string, Holder>();
  for await (const { name, pid } of openNodes(names)) {
    holders.set(`${name} ${pid}`, { path: `/dev/${name}`, kind: "process", by: processName(pid) });
  }
  return [...holders.values()];
}

/** Who has the device's own node locked with flock(2): `by` is "1234 (sfdisk)". */
export async function findLockers(
  number: number,
): Promise<{ pid: string; fd: string; by: string }[]> {
  const lockers = [];
  for await (const { pid, fd } of openNodes(new Set([`loop${number}`]))) {
    // /proc/locks has who took a lock, which may have left it to a child and ended since.
    const info = ifAllowed(() => readText(`/proc/${pid}/fdinfo/${fd}`));
    if (info && /^lock:.* FLOCK /m.test(info)) lockers.push({ pid, fd, by: processName(pid) });
  }
  return lockers;
}

function processName(pid: string): string {
  const comm = ifAllowed(() => readText(`/proc/${pid}/comm`));
  return `${pid}${comm === undefined ? "" : ` (${comm})`}`;
}

function ifAllowed<T>(look: () => T): T | undefined {
  try {
    return ifExists(look);
  } catch (error) {
    if (isRefusal(error, "EACCES", "EPERM", "ESRCH")) return undefined;
    throw error;
  }
}
