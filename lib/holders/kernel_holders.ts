/**
 * The kernel's own holders of a block device: another device, swap, a btrfs of several devices, the
 * journal or log of a file system elsewhere, loop devices over it or over a file on it. Devices are
 * compared by number, since a node's name may lead to another device.
 *
 * @module
 */
import { Shared, within } from "../base/retry.ts";
import {
  decodeDev,
  ifAllowed,
  ifExists,
  listDirectory,
  readLines,
  readText,
} from "../kernel/file.ts";
import { loop_info64, loopStatusAt } from "../kernel/loop.ts";
import { type Mount, unescapeOctal } from "../kernel/mountinfo.ts";
import { placeOf } from "../kernel/stat.ts";
import { sysfsIsBound } from "../kernel/sysfs.ts";
import type { Holder } from "./holder.ts";

/** Names of block devices by their numbers: "7:4" → "loop4". */
export type Held = ReadonlyMap<string, string>;

/** The types whose mounts {@linkcode kernelHolders} looks at. */
export const ASKED_TYPES = ["btrfs", "xfs"] as const;

/**
 * The holders of these devices, loop devices and file systems on them apart. `all` gives every mount of this
 * namespace, or at least those of {@linkcode ASKED_TYPES}. It is called only where one of these is mounted.
 */
export async function kernelHolders(held: Held, all: () => readonly Mount[]): Promise<Holder[]> {
  return [
    ...devicesOver(held),
    ...await swapOn(held, "block device"),
    ...await btrfsOn(held, all),
    ...journalsOn(held),
    ...await xfsLogsOn(held, all),
  ];
}

/** dm-crypt, LVM, md, bcache. */
function devicesOver(held: Held): Holder[] {
  return [...held].flatMap(([dev, name]) =>
    namesIn(`/sys/dev/block/${dev}/holders`)
      .map((by): Holder => ({ path: `/dev/${name}`, kind: "device", by: `/dev/${by}` }))
  );
}

/** These devices, those over them, and so on: who has the upper one mounted holds the lower one, too. */
export function withDevicesOver(held: Held): Held {
  const all = new Map(held);
  // What is entered meanwhile is visited as well.
  for (const dev of all.keys()) {
    const folder = `/sys/dev/block/${dev}/holders`;
    for (const name of namesIn(folder)) {
      const over = ifAllowed(() => readText(`${folder}/${name}/dev`));
      if (over !== undefined) all.set(over, name);
    }
  }
  return all;
}

/** The holders of files on these file systems: `held` by the device numbers that their files have. */
export async function holdersOfFiles(held: Held): Promise<Holder[]> {
  return [...await swapOn(held, "file"), ...await loopsOver(held)];
}

async function swapOn(held: Held, wanted: "block device" | "file"): Promise<Holder[]> {
  const [, ...lines] = ifAllowed(() => readLines("/proc/swaps")) ?? [];
  return await holdersBy(held, lines, async (line) => {
    const by = unescapeOctal(line.split(/\s/)[0]);
    const place = await placeOf(by);
    const dev = place?.type === "file" ? place.dev : place?.rdev;
    return { dev: place?.type === wanted ? dev : undefined, kind: "swap", by };
  });
}

/** A btrfs has a device number of its own, and one or more devices. */
async function btrfsOn(held: Held, all: () => readonly Mount[]): Promise<Holder[]> {
  const holders: Holder[] = [];
  for (const uuid of namesIn("/sys/fs/btrfs")) {
    // What the driver can do; no file system.
    if (uuid === "features") continue;
    const folder = `/sys/fs/btrfs/${uuid}/devices`;
    const members = namesIn(folder).flatMap((name) =>
      ifExists(() => readText(`${folder}/${name}/dev`)) ?? []
    );
    const ours = members.filter((dev) => held.has(dev));
    if (ours.length === 0) continue;
    const points: { point: string; source: string }[] = [];
    for (const { type, source, point } of all()) {
      const of = type === "btrfs" ? (await placeOf(source))?.rdev : undefined;
      if (of !== undefined && members.includes(of)) points.push({ point, source: of });
    }
    for (const dev of ours) {
      const path = `/dev/${held.get(dev)}`;
      for (const { point, source } of points) {
        holders.push({ path, kind: source === dev ? "mount" : "btrfs", by: point });
      }
      // Mounted in another namespace, or without a directory.
      if (points.length === 0) holders.push({ path, kind: "btrfs", by: uuid });
    }
  }
  return holders;
}

/** /proc/fs/jbd2 has the names of journal devices; a journal within its file system has "-8" behind it. */
function journalsOn(held: Held): Holder[] {
  const journals = namesIn("/proc/fs/jbd2");
  return [...held.values()].filter((name) => journals.includes(name)).map((name) => {
    const by = namesIn("/sys/fs/ext4").find((fileSystem) => {
      const pid = ifAllowed(() => readText(`/sys/fs/ext4/${fileSystem}/journal_task`));
      return pid && ifAllowed(() => readText(`/proc/${pid}/comm`)) === `jbd2/${name}`;
    });
    const path = `/dev/${name}`;
    return { path, kind: "journal", by: by === undefined ? "an ext4 out of sight" : `/dev/${by}` };
  });
}

/** The value is the node as it was given to mount. */
const XFS_DEVICE = /^(logdev|rtdev)=(.*)$/;

/** What of /sys/fs/xfs is the driver's own; each mounted xfs has a folder beside these. */
const OF_XFS_DRIVER = ["stats", "debug"];

async function xfsLogsOn(held: Held, all: () => readonly Mount[]): Promise<Holder[]> {
  if (namesIn("/sys/fs/xfs").every((name) => OF_XFS_DRIVER.includes(name))) return [];
  const asked = all().filter(({ type }) => type === "xfs").flatMap(({ superOptions, point }) =>
    superOptions.flatMap((option) => {
      const [, name, value] = XFS_DEVICE.exec(option) ?? [];
      return name === undefined ? [] : [{ name, node: unescapeOctal(value), by: point }];
    })
  );
  return await holdersBy(held, asked, async ({ name, node, by }) => ({
    dev: (await placeOf(node))?.rdev,
    kind: name === "logdev" ? "journal" : "realtime",
    by,
  }));
}

/** Those of `candidates` for which `look` finds one of the devices. */
async function holdersBy<T>(
  held: Held,
  candidates: readonly T[],
  look: (candidate: T) => Promise<{ dev: string | undefined; kind: Holder["kind"]; by: string }>,
): Promise<Holder[]> {
  const holders: Holder[] = [];
  for (const candidate of candidates) {
    const { dev, kind, by } = await look(candidate);
    const name = dev === undefined ? undefined : held.get(dev);
    if (name !== undefined) holders.push({ path: `/dev/${name}`, kind, by });
  }
  return holders;
}

/**
 * How long one device may take to answer. If its disk hangs, the call keeps one thread until the disk
 * answers, however often it is asked for.
 */
const PATIENCE_MS = 1000;
const asked = new Shared<Uint8Array | undefined>();

/** Loop devices whose backing file is one of these devices or lies on one of these file systems. */
async function loopsOver(held: Held): Promise<Holder[]> {
  const names = namesIn("/sys/block").filter((name) =>
    /^loop\d+$/.test(name) && sysfsIsBound(Number(name.slice("loop".length)))
  );
  const statuses = await Promise.all(names.map((name) => {
    const node = `/dev/${name}`;
    return within(asked.ask(node, () => loopStatusAt(node)), PATIENCE_MS, undefined);
  }));
  return statuses.filter((status) => status !== undefined).flatMap((status): Holder[] => {
    const { lo_number, lo_device, lo_rdevice } = loop_info64.decode(status);
    const name = held.get(decodeDev(lo_rdevice)) ?? held.get(decodeDev(lo_device));
    return name === undefined
      ? []
      : [{ path: `/dev/${name}`, kind: "loop", by: `/dev/loop${lo_number}` }];
  });
}

function namesIn(folder: string): string[] {
  return ifAllowed(() => listDirectory(folder)) ?? [];
}
