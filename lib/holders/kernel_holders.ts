/**
 * What the kernel itself has a block device for: another device, swap, a part of a btrfs, the journal
 * or log of a file system elsewhere. And loop devices over it or over a file on it. They are told by
 * device numbers: a name may be another device's.
 *
 * @module
 */
import { Shared, within } from "../base/retry.ts";
import { decodeDev, ifExists, listDirectory, readLines, readText } from "../kernel/file.ts";
import { loop_info64, loopStatusAt } from "../kernel/loop.ts";
import { type Mount, unescapeOctal } from "../kernel/mountinfo.ts";
import { placeOf } from "../kernel/stat.ts";
import { ifAllowed } from "./file_users.ts";
import type { Holder } from "./holder.ts";

/** Names of block devices by their numbers: "7:4" → "loop4". */
export type Held = ReadonlyMap<string, string>;

/** What has one of these devices for itself. `all`: the mounts of this namespace. */
export async function kernelHolders(held: Held, all: readonly Mount[]): Promise<Holder[]> {
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

/** What has a file on one of these file systems: `held` by their own device numbers. */
export async function holdersOfFiles(held: Held): Promise<Holder[]> {
  return [...await swapOn(held, "file"), ...await loopsOver(held)];
}

/** A device, or a file of a file system. */
async function swapOn(held: Held, wanted: "block device" | "file"): Promise<Holder[]> {
  const [, ...lines] = ifAllowed(() => readLines("/proc/swaps")) ?? [];
  return await holdersBy(held, lines, async (line) => {
    const by = unescapeOctal(line.split(/\s/)[0]);
    const place = await placeOf(by);
    const dev = place?.type === "file" ? place.dev : place?.rdev;
    return { dev: place?.type === wanted ? dev : undefined, kind: "swap", by };
  });
}

/** A btrfs has a device number of its own, and any number of devices. */
async function btrfsOn(held: Held, all: readonly Mount[]): Promise<Holder[]> {
  const holders: Holder[] = [];
  for (const uuid of namesIn("/sys/fs/btrfs")) {
    const folder = `/sys/fs/btrfs/${uuid}/devices`;
    const members = namesIn(folder).flatMap((name) =>
      ifExists(() => readText(`${folder}/${name}/dev`)) ?? []
    );
    const ours = members.filter((dev) => held.has(dev));
    if (ours.length === 0) continue;
    const points: { point: string; source: string }[] = [];
    for (const { type, source, point } of all) {
      const of = type === "btrfs" ? (await placeOf(source))?.rdev : undefined;
      if (of !== undefined && members.includes(of)) points.push({ point, source: of });
    }
    for (const dev of ours) {
      const path = `/dev/${held.get(dev)}`;
      for (const { point, source } of points) {
        holders.push({ path, kind: source === dev ? "mount" : "btrfs", by: point });
      }
      // In another namespace, or on no directory.
      if (points.length === 0) holders.push({ path, kind: "btrfs", by: uuid });
    }
  }
  return holders;
}

/** jbd2 has the name of the device here, and for a journal within the file system "-8" behind it. */
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

/** As it was called by who mounted it. */
const XFS_DEVICE = /^(logdev|rtdev)=(.*)$/;

async function xfsLogsOn(held: Held, all: readonly Mount[]): Promise<Holder[]> {
  const asked = all.filter(({ type }) => type === "xfs").flatMap(({ superOptions, point }) =>
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

/** Those of what was asked about that have to do with one of the devices. */
async function holdersBy<T>(
  held: Held,
  asked: readonly T[],
  look: (one: T) => Promise<{ dev: string | undefined; kind: Holder["kind"]; by: string }>,
): Promise<Holder[]> {
  const holders: Holder[] = [];
  for (const one of asked) {
    const { dev, kind, by } = await look(one);
    const name = dev === undefined ? undefined : held.get(dev);
    if (name !== undefined) holders.push({ path: `/dev/${name}`, kind, by });
  }
  return holders;
}

/** A device whose disk hangs keeps the question for so long, and one thread until the disk answers. */
const PATIENCE_MS = 1000;
const asked = new Shared<Uint8Array | undefined>();

/** Loop devices whose backing file is one of these devices, or lies on one of these file systems. */
async function loopsOver(held: Held): Promise<Holder[]> {
  const names = namesIn("/sys/block").filter((name) =>
    /^loop\d+$/.test(name) && ifExists(() => readText(`/sys/block/${name}/loop/backing_file`))
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
