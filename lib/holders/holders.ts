/**
 * Who keeps a device from being let go, as far as this process may see it.
 *
 * @module
 */
import { holdsOf } from "./exclusive.ts";
import { type HiddenMounts, hiddenMounts, hiddenUses, ifAllowed } from "./file_users.ts";
import { listDirectory, readLink, readText } from "../kernel/file.ts";
import type { Holder } from "./holder.ts";
import { type Held, holdersOfFiles, kernelHolders } from "./kernel_holders.ts";
import { type Mount, mounts } from "../kernel/mountinfo.ts";
import { ownMountsOf } from "./own_mounts.ts";
import { placeOf } from "../kernel/stat.ts";
import { sysfsDev, sysfsPartitions } from "../kernel/sysfs.ts";
import { yieldToEventLoop } from "../runtime/event_loop.ts";

export { describeHolders, type Holder } from "./holder.ts";

/** Everyone who holds loop device `number` or a partition of it. */
export async function findHolders(number: number): Promise<Holder[]> {
  const held = new Map([[sysfsDev(number), `loop${number}`]]);
  for (const { name, dev } of sysfsPartitions(number)) held.set(dev, name);
  const devices = [...held.values()].map((name) => `/dev/${name}`);
  const all = mounts();
  const known = await kernelHolders(held, all);
  const holds = await holdsOf(devices, known);
  const own = ownMountsOf(devices, (device) => holds.get(device) === "free");
  const fileSystems = new Map(held);
  for (const { dev, device } of own) fileSystems.set(dev, device.slice("/dev/".length));
  for (const [dev, name] of await ownNumbers(known)) fileSystems.set(dev, name);
  const hidden = [...holds.values()].some((hold) => hold !== "free")
    ? hiddenMounts(fileSystems, own.flatMap(({ descriptors }) => descriptors))
    : undefined;
  const shown = [...mountsOf(held, all), ...known];
  const unseen = own.filter(({ path, descriptors }) =>
    descriptors.length > 0 && !shown.some(({ by }) => by === path)
  );
  const isOwn = ({ kind, path, by }: Holder) =>
    kind === "btrfs" && !by.startsWith("/") && unseen.some(({ device }) => device === path);
  return [
    ...shown.filter((holder) => !isOwn(holder)),
    ...unseen.map(({ device, path }): Holder => ({ path: device, kind: "mount", by: path })),
    ...await holdersOfFiles(fileSystems),
    ...await processes(new Set(held.values()), hidden),
  ];
}

/** The device numbers that files have on what is mounted there, of a btrfs none of a device. */
async function ownNumbers(known: readonly Holder[]): Promise<[dev: string, name: string][]> {
  const numbers: [string, string][] = [];
  for (const { path, kind, by } of known) {
    const place = kind === "mount" ? await placeOf(by) : undefined;
    if (place) numbers.push([place.dev, path.slice("/dev/".length)]);
  }
  return numbers;
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

function mountsOf(held: Held, all: readonly Mount[]): Holder[] {
  return all.flatMap(({ dev, point }): Holder[] => {
    const name = held.get(dev);
    return name === undefined ? [] : [{ path: `/dev/${name}`, kind: "mount", by: point }];
  });
}

/** Where the descriptors of every process lead to that we may look at, by their numbers. */
async function* descriptors(): AsyncGenerator<{ pid: string; links: Map<string, string> }> {
  for (const pid of listDirectory("/proc").filter((name) => /^\d+$/.test(name))) {
    await yieldToEventLoop();
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
