/**
 * Who holds a device, as far as this process may see it.
 *
 * @module
 */
import { type Hold, holdsOf } from "./exclusive.ts";
import { type HiddenMounts, hiddenMounts, hiddenUse, linksToAsk } from "./file_users.ts";
import { readLink } from "../kernel/file.ts";
import type { Holder } from "./holder.ts";
import { type Held, holdersOfFiles, kernelHolders, withDevicesOver } from "./kernel_holders.ts";
import { type Mount, mounts } from "../kernel/mountinfo.ts";
import { forgetEndedMounts, ownMountsOf } from "./own_mounts.ts";
import { mountsElsewhere } from "./mounts_elsewhere.ts";
import { nodeAt, nodesToAsk, openersOf, processes, processName } from "./processes.ts";
import { placeOf, placesOf } from "../kernel/stat.ts";
import { sysfsDev, sysfsPartitions } from "../kernel/sysfs.ts";

export { describeHolders, type Holder } from "./holder.ts";

/** Everyone who holds loop device `number` or a partition of it. */
export async function findHolders(number: number): Promise<Holder[]> {
  const held = new Map([[sysfsDev(number), `loop${number}`]]);
  for (const { name, dev } of sysfsPartitions(number)) held.set(dev, name);
  return await findHoldersOf(held);
}

/** Everyone who holds one of these devices, or a device over one of them. */
export async function findHoldersOf(below: Held): Promise<Holder[]> {
  const held = withDevicesOver(below);
  const devices = [...held.values()].map((name) => `/dev/${name}`);
  const all = mounts();
  const known = await kernelHolders(held, () => all);
  const holds = await holdsOf(devices, known);
  forgetEndedMounts(devices.filter((device) => holds.get(device) === "free"));
  const own = ownMountsOf(devices);
  const fileSystems = new Map(held);
  for (const { dev, device } of own) fileSystems.set(dev, device.slice("/dev/".length));
  for (const [dev, name] of await numbersOfMounts(known)) fileSystems.set(dev, name);
  const hidden = [...holds.values()].some((hold) => hold !== "free")
    ? hiddenMounts(fileSystems, own.flatMap(({ descriptors }) => descriptors))
    : undefined;
  const shown = [...mountsOf(held, all), ...known];
  const unseen = own.filter(({ path, descriptors }) =>
    descriptors.length > 0 && !shown.some(({ by }) => by === path)
  );
  // A btrfs that is known by its UUID alone, and is one of our mounts without a directory.
  const isOwn = ({ kind, path, by }: Holder) =>
    kind === "btrfs" && !by.startsWith("/") && unseen.some(({ device }) => device === path);
  const found = [
    ...shown.filter((holder) => !isOwn(holder)),
    ...unseen.map(({ device, path }): Holder => ({ path: device, kind: "mount", by: path })),
  ];
  return [
    ...found,
    ...await mountsOutOfSight(held, holds, found),
    ...await holdersOfFiles(fileSystems),
    ...await processHolders(held, hidden),
  ];
}

/** Mounts in other namespaces, of the devices that are held and of which `found` names no holder. */
async function mountsOutOfSight(
  held: Held,
  holds: ReadonlyMap<string, Hold>,
  found: readonly Holder[],
): Promise<Holder[]> {
  const unknown = [...held].filter(([, name]) => {
    const device = `/dev/${name}`;
    return holds.get(device) !== "free" && !found.some(({ path }) => path === device);
  });
  return unknown.length > 0 ? await mountsElsewhere(new Map(unknown)) : [];
}

/** The device numbers of the files on these mounts: on a btrfs they are not its device's. */
async function numbersOfMounts(known: readonly Holder[]): Promise<[dev: string, name: string][]> {
  const numbers: [string, string][] = [];
  for (const { path, kind, by } of known) {
    const place = kind === "mount" ? await placeOf(by) : undefined;
    if (place) numbers.push([place.dev, path.slice("/dev/".length)]);
  }
  return numbers;
}

function mountsOf(held: Held, all: readonly Mount[]): Holder[] {
  return all.flatMap(({ dev, point }): Holder[] => {
    const name = held.get(dev);
    return name === undefined ? [] : [{ path: `/dev/${name}`, kind: "mount", by: point }];
  });
}

async function processHolders(held: Held, hidden: HiddenMounts | undefined): Promise<Holder[]> {
  const users: { by: string; used: Set<string> }[] = [];
  const asked: { link: string; used: Set<string>; isNode: boolean }[] = [];
  for await (const one of processes()) {
    const nodes = nodesToAsk(one, held).map(({ link }) => link);
    const links = hidden ? linksToAsk(one, hidden) : [];
    if (nodes.length + links.length === 0) continue;
    const used = new Set<string>();
    users.push({ by: processName(one.pid), used });
    asked.push(...nodes.map((link) => ({ link, used, isNode: true })));
    asked.push(...links.map((link) => ({ link, used, isNode: false })));
  }
  const places = await placesOf(asked.map(({ link }) => link));
  for (const [i, { used, isNode }] of asked.entries()) {
    const name = isNode ? nodeAt(places[i], held) : hiddenUse(places[i], hidden!);
    if (name !== undefined) used.add(name);
  }
  return users.flatMap(({ by, used }) =>
    [...used].map((name): Holder => ({ path: `/dev/${name}`, kind: "process", by }))
  );
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

/** Processes other than udevd that have the device open, by another descriptor than `ours`. */
export async function othersThan(number: number, ours: number | undefined): Promise<string[]> {
  const self = readLink("/proc/self");
  const openers = await openersOf(new Map([[sysfsDev(number), `loop${number}`]]));
  const others = openers.filter(({ pid, fd, by }) =>
    !UDEVD.test(by) && (pid !== self || Number(fd) !== ours)
  );
  return [...new Set(others.map(({ by }) => by))];
}
