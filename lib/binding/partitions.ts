/**
 * What the table says ↔ what the kernel has ↔ which nodes exist, and bringing the three together.
 *
 * The kernel does not tell how a scan ended: the ioctl returns 0 also where it failed, or where no parser
 * is built in. So sysfs is compared with the table, what is missing is added with BLKPG, and a partition
 * counts only once its node is there and is the right device.
 *
 * @module
 */
import { blkFlsBuf, blkpgAddPartition, blkpgResizePartition, blkSszGet } from "../kernel/block.ts";
import type { Extent } from "../kernel/block.ts";
import { isRefusal, LoopError, toExplain } from "../base/errors.ts";
import type { OpenFile } from "../kernel/file.ts";
import type { LoopFacts } from "./facts.ts";
import { isComplete, readTable, refuseUnreadable } from "./image_table.ts";
import type { DevNodes } from "./nodes.ts";
import type { TablePartition, Truncation } from "../table/disk.ts";
import { SECTOR_SIZES } from "../table/sectors.ts";
import { poll } from "../base/retry.ts";
import { isSamePartition, removeAfter, removePartitions, removeTogether } from "./removal.ts";
import { boundPartitions, type SysfsPartition, sysfsStillHas } from "../kernel/sysfs.ts";

/**
 * A partition of an attached image; bytes throughout.
 *
 * @example
 * ```ts
 * import { type Partition } from "@loopdev/loopdev";
 * const isEsp = ({ type }: Partition) => type === "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
 * ```
 */
export interface Partition {
  /** As in the node's name: 1 for /dev/loop4p1. */
  readonly number: number;
  /** The node, which exists and is this partition. */
  readonly path: string;
  /** Where it begins on the loop device, in bytes. */
  readonly start: number;
  /** Bytes. */
  readonly size: number;
  /** GPT: type GUID in lower case. MBR: system id, "0x83". Absent if the table is of another kind. */
  readonly type?: string;
  /** What sfdisk calls the type, if it is well known: "Linux filesystem". */
  readonly typeName?: string;
  /** PARTUUID, as in /dev/disk/by-partuuid; an MBR whose identifier is 0 gives none. */
  readonly uuid?: string;
  /** GPT partition name; may be empty, and is whatever a stranger wrote there. */
  readonly name?: string;
  /** Which attribute bits are set; GPT: 60 read-only, MBR: 7 active. See {@linkcode TablePartition}. */
  readonly attributes?: readonly number[];
  /** Only of a partition that is cut at the device's end, since the table lets it end beyond. */
  readonly truncated?: Truncation;
}

/**
 * A partition of the table that the kernel does not have, and why; bytes.
 *
 * @example
 * ```ts
 * import { attach, type SkippedPartition } from "@loopdev/loopdev";
 * const attachAlone = (file: string, { offset, sizelimit }: SkippedPartition) =>
 *   attach(file, { offset, sizelimit });
 * ```
 */
export interface SkippedPartition extends TablePartition {
  /** In words: "it overlaps partition 1". */
  readonly reason: string;
  /** Where it begins in the backing file, for {@linkcode attach}: it makes a device of it alone. */
  readonly offset: number;
  /** Its size, for the same. */
  readonly sizelimit: number;
}

/** The partitions of one bound device: what the kernel has, and what of it came from us. */
export class DevicePartitions {
  readonly #device: OpenFile;
  readonly #number: number;
  /** Where the device begins in its backing file. */
  readonly #offset: number;
  /** The most bytes that the device may have; 0: no limit. */
  readonly #sizelimit: number;
  readonly #nodes: DevNodes;
  /** In the order of their numbers; each had its node. */
  list: readonly Partition[] = [];
  /** Those that exist only because we added them. */
  added: readonly Extent[] = [];
  /** Those that cannot be partitions beside the others. */
  skipped: readonly SkippedPartition[] = [];

  constructor(
    device: OpenFile,
    { number, offset, sizelimit }: Pick<LoopFacts, "number" | "offset" | "sizelimit">,
    nodes: DevNodes,
  ) {
    this.#device = device;
    this.#number = number;
    this.#offset = offset;
    this.#sizelimit = sizelimit;
    this.#nodes = nodes;
  }

  /** Takes over what the kernel has. `table` only describes it. */
  adopt(table: readonly TablePartition[]): void {
    this.list = boundPartitions(this.#number).map((partition) => describe(partition, table));
  }

  /**
   * Resolves when the kernel has every partition of the table that it can have, and every partition's
   * node is there. On failure, what was added is removed again.
   */
  async ready(
    table: readonly TablePartition[],
    timeout: number,
    signal?: AbortSignal,
  ): Promise<void> {
    const first = await this.#removeImpossible();
    const { list, added, skipped } = await this.#waitUntilReady(table, first, timeout, signal);
    this.list = list;
    this.added = added;
    this.skipped = skipped;
  }

  /**
   * Brings the kernel in line with the table, partition by partition, and waits as ready() does. What has
   * not changed is never touched. What the kernel has and the table has not goes if the table accounts for
   * it, or if it `isKnown`: an earlier table had it. The rest may be of a table that only the kernel can
   * read, or somebody's own, and stays. After an error the list has what is left.
   */
  async rescan(
    isKnown: (partition: SysfsPartition) => boolean,
    timeout: number,
    signal?: AbortSignal,
  ): Promise<void> {
    try {
      await this.#rescan(isKnown, timeout, signal);
    } catch (error) {
      const present = toExplain(() => boundPartitions(this.#number));
      if (!present) throw error;
      this.list = this.list.filter((one) => has(present, one));
      this.added = this.added.filter((one) => has(present, one));
      throw error;
    }
  }

  async #rescan(
    isKnown: (partition: SysfsPartition) => boolean,
    timeout: number,
    signal?: AbortSignal,
  ): Promise<void> {
    const [device, number] = [this.#device, this.#number];
    // A table that was written to the backing file, not through the device, is not in its page cache.
    await blkFlsBuf(device);
    const sectorSize = blkSszGet(device);
    const found = await readTable(device, sectorSize, signal);
    // Before anything is removed: the device may be bound with another sector size than the GPT's.
    const sizelimit = this.#sizelimit;
    refuseUnreadable(found, { path: device.path, sectorSize, call: "rescan", sizelimit });
    const table = found.partitions;
    const present = boundPartitions(number);
    const gone = present.filter((partition) =>
      !has(table, partition) && (isComplete(found) || isKnown(partition))
    );
    await removeTogether(device, number, gone);
    this.#nodes.remove(gone.map(({ name }) => `/dev/${name}`));
    const kept = present.filter((partition) => !gone.includes(partition));
    const tooLarge = this.#resize(kept, table);
    const first = boundPartitions(number);
    const { list, added, skipped } = await this.#waitUntilReady(table, first, timeout, signal);
    this.list = list;
    this.added = [...this.added, ...added].filter((one) => has(list, one));
    this.skipped = [...skipped, ...tooLarge];
  }

  async #waitUntilReady(
    table: readonly TablePartition[],
    first: SysfsPartition[],
    timeout: number,
    signal?: AbortSignal,
  ): Promise<Pick<DevicePartitions, "list" | "added" | "skipped">> {
    const [device, number] = [this.#device, this.#number];
    const added: Extent[] = [];
    let seen: SysfsPartition[] | undefined = first;
    let missing: string[] = [];
    const look = () => {
      let present = seen ?? boundPartitions(number);
      seen = undefined;
      const lacking = inOrder(lackingIn(present, table));
      const skipped = lacking.flatMap((wanted) => this.#add(wanted, added) ?? []);
      if (lacking.length > 0) present = boundPartitions(number);
      missing = lackingIn(present, table)
        .filter((wanted) => !has(skipped, wanted))
        .map((wanted) => `partition ${wanted.number}: the kernel does not show it`)
        .concat(present.flatMap(({ name, dev }) => this.#nodes.ensure(`/dev/${name}`, dev) ?? []));
      if (missing.length > 0) return undefined;
      // Another program's BLKRRPART or BLKPG may have dropped them while we looked at the nodes.
      if (sysfsStillHas(number, present)) {
        return { list: present.map((one) => describe(one, table)), added, skipped };
      }
      missing = ["another program drops partitions again and again"];
    };
    try {
      const ready = await poll(look, timeout, signal);
      if (ready) return ready;
      const hint = `after ${timeout} ms still missing: ${missing.join("; ")}`;
      throw new LoopError({ code: "ETIMEDOUT", path: device.path, hint });
    } catch (error) {
      throw await removeAfter(error, device, number, added);
    }
  }

  /**
   * Adds a partition that the kernel lacks. Called in the table's order, so that of two that overlap the
   * first is there. The kernel's own parsers accept partitions that overlap, or that begin or end within a
   * sector, and BLKPG does not: gives the partition with the reason if it is one of these.
   */
  #add(wanted: TablePartition, added: Extent[]): SkippedPartition | undefined {
    try {
      blkpgAddPartition(this.#device, wanted);
      added.push(wanted);
      return undefined;
    } catch (error) {
      // Most tables count in sectors of 512 bytes, whatever the disk's are.
      if (isRefusal(error, "EINVAL")) {
        const sectorSize = toExplain(() => blkSszGet(this.#device)) ?? 1;
        if (wanted.start % sectorSize === 0 && wanted.size % sectorSize === 0) throw error;
        return this.#skip(wanted, `it begins or ends within a sector of ${sectorSize} bytes`);
      }
      if (!isRefusal(error, "EBUSY")) throw error;
      // Another process's scan may have been faster: sysfs shows the partition now or at the next look.
      const present = toExplain(() => boundPartitions(this.#number));
      if (!present) throw error;
      if (has(present, wanted)) return undefined;
      const taken = present.find(({ number }) => number === wanted.number);
      if (taken) {
        const why = `its number belongs to a partition at ${taken.start}, which stays`;
        return this.#skip(wanted, why);
      }
      const other = present.find((other) => overlap(other, wanted));
      return other && this.#skip(wanted, `it overlaps partition ${other.number}`);
    }
  }

  /** Gives those that cannot grow, because the kernel has another partition there. */
  #resize(
    present: readonly SysfsPartition[],
    table: readonly TablePartition[],
  ): SkippedPartition[] {
    const resized = present.flatMap((partition) => {
      const entry = table.find((entry) => isSamePartition(entry, partition));
      const by = entry ? entry.size - partition.size : 0;
      return entry && by !== 0 ? [{ entry, by }] : [];
    });
    // What shrinks makes room for what grows.
    return resized.sort((a, b) => a.by - b.by).flatMap(({ entry }) => {
      try {
        blkpgResizePartition(this.#device, entry);
        return [];
      } catch (error) {
        const other = present.find(({ number, start, size }) =>
          number !== entry.number && overlap({ start, size }, entry)
        );
        if (!isRefusal(error, "EBUSY") || !other) throw error;
        return [this.#skip(entry, `it cannot grow: partition ${other.number} is in its way`)];
      }
    });
  }

  #skip(wanted: TablePartition, reason: string): SkippedPartition {
    const { start, size } = wanted;
    return { ...wanted, reason, offset: this.#offset + start, sizelimit: size };
  }

  /** Whether a partition is one that a table had when it was last read, or one that we added. */
  isKnown(partition: SysfsPartition): boolean {
    const fromTable = this.list.filter(({ attributes }) => attributes !== undefined);
    return has(fromTable, partition) || has(this.added, partition);
  }

  /** Those that exist only because we added them. One that is in use stays, and so do its nodes. */
  async removeAdded(): Promise<void> {
    await removePartitions(this.#device, this.#number, this.added);
  }

  /**
   * Removes what the kernel has made of a GPT entry whose last sector lies before its first: a partition
   * of almost 2^64 sectors (block/partitions/efi.c checks only that the last lies on the disk). No table
   * means that. Gives the others.
   */
  async #removeImpossible(): Promise<SysfsPartition[]> {
    const present = boundPartitions(this.#number);
    const impossible = present.filter(({ size }) => !Number.isSafeInteger(size));
    if (impossible.length === 0) return present;
    await removePartitions(this.#device, this.#number, impossible);
    return present.filter((partition) => !impossible.includes(partition));
  }
}

/** Whether a partition is among them. */
function has(
  partitions: readonly Pick<Extent, "number" | "start">[],
  wanted: Pick<Extent, "number" | "start">,
): boolean {
  return partitions.some((one) => isSamePartition(one, wanted));
}

function lackingIn(present: SysfsPartition[], table: readonly TablePartition[]): TablePartition[] {
  return table.filter((entry) => !has(present, entry));
}

const EXTENDED = ["0x5", "0xf", "0x85"];
/** How much of an extended partition the kernel shows, or a sector where that is more. */
const EXTENDED_BYTES = 1024;

/**
 * In the table's order, but extended partitions last: genimage puts the first logical partition into the
 * few bytes of one that the kernel shows, and only a boot loader needs those.
 */
function inOrder(table: readonly TablePartition[]): TablePartition[] {
  const isExtended = ({ type, size }: TablePartition) =>
    EXTENDED.includes(type ?? "") && size <= Math.max(EXTENDED_BYTES, ...SECTOR_SIZES);
  return [...table.filter((entry) => !isExtended(entry)), ...table.filter(isExtended)];
}

function overlap(a: { start: number; size: number }, b: { start: number; size: number }): boolean {
  return a.start < b.start + b.size && b.start < a.start + a.size;
}

/** The kernel's word on number, start and size; the table's on type, uuid and name. */
function describe(
  { name, number, start, size }: SysfsPartition,
  table: readonly TablePartition[],
): Partition {
  const entry = table.find((entry) => isSamePartition(entry, { number, start }));
  const { truncated, ...rest } = entry ?? {};
  const partition = { ...rest, number, path: `/dev/${name}`, start, size };
  if (!truncated || size >= truncated.from) return partition;
  return { ...partition, truncated: { from: truncated.from, to: size } };
}
