/**
 * The mounts of one handle.
 *
 * @module
 */
import { LoopError } from "../base/errors.ts";
import { checkPartition, checkSelector, type PartitionSelector } from "../base/selector.ts";
import type { BoundDevice } from "../binding/bound_device.ts";
import type { Partition } from "../binding/partitions.ts";
import { startThread } from "../kernel/chain.ts";
import { writeDown } from "../kernel/blocking.ts";
import { absolutePath } from "../kernel/file.ts";
import type { FileSystem } from "../superblocks/file_systems.ts";
import { refuseStale } from "./device_source.ts";
import { loadFileSystem, loadMount, loadSelect } from "./late.ts";
import type { LoopMount } from "./mounted.ts";
import type { MountOptions } from "./options.ts";

/** The options with an absolute `at`: the working directory may be another one when it is used. */
export function withAbsoluteAt<T extends Pick<MountOptions, "at">>(options: T): T {
  const { at } = options ?? {};
  if (typeof at !== "string" || at === "") return options;
  return { ...options, at: absolutePath(at) };
}

/** The mounts that are not unmounted yet. */
export class MountSet {
  readonly #alive = new Set<LoopMount>();

  async mount(
    bound: BoundDevice,
    selector: PartitionSelector | undefined,
    options: MountOptions,
  ): Promise<LoopMount> {
    const { path: device, number: partition } = await meant(bound, selector);
    const { number, readOnly, backingFile } = bound.facts;
    const source = { device, number, partition, readOnly, backingFile };
    // It makes a mount's calls, and starts while this thread loads what mounts.
    startThread();
    const { mount } = await loadMount();
    const mounted = await mount(source, options, (ended) => this.#alive.delete(ended));
    this.#alive.add(mounted);
    return mounted;
  }

  async fileSystem(
    bound: BoundDevice,
    selector: PartitionSelector | undefined,
  ): Promise<FileSystem | undefined> {
    const { path } = await meant(bound, selector);
    const { fileSystemOn } = await loadFileSystem();
    return await fileSystemOn(path);
  }

  /** Leaves all where they are; they must lie on directories of the user's. */
  async leave(): Promise<void> {
    const { leaveMounts } = await loadMount();
    await leaveMounts([...this.#alive]);
  }

  /** Unmounts all, the last one first. Resolves to the first error that no unmount() has given yet. */
  async end(): Promise<{ error: unknown } | undefined> {
    let failed: { error: unknown } | undefined;
    for (const mount of [...this.#alive].reverse()) {
      await mount[Symbol.asyncDispose]().catch((error) => failed ??= { error });
    }
    return failed;
  }
}

/** The partition that is meant. */
export async function partitionOf(
  bound: BoundDevice,
  selector: PartitionSelector,
): Promise<Partition> {
  checkSelector("partition", selector);
  const { list, skipped } = bound.partitions;
  const { path } = bound;
  // Whoever wants a partition reads it next.
  await writeDown(bound.device, bound.facts.size);
  let number = selector;
  if (typeof number === "object") {
    const { selectPartition } = await loadSelect();
    const { fileSystemsOn } = await loadFileSystem();
    const whyNone = WITHOUT_PARTITIONS;
    const contentOf = async ({ number }: { number: number }) => {
      const found = list.find((one) => one.number === number);
      if (!found) return [];
      refuseStale({ device: found.path, number: bound.number, partition: number });
      return await fileSystemsOn(found.path);
    };
    // One that was skipped can be meant, too: the error then says why it cannot be used.
    const partitions = [...list, ...skipped].sort((a, b) => a.number - b.number);
    ({ number } = await selectPartition(number, { partitions, path, whyNone, contentOf }));
  }
  const found = list.find((one) => one.number === number);
  if (found) return found;
  throw new LoopError({ code: "ENXIO", path, hint: whyMissing(bound, number) });
}

/** Its node and number, or those of the whole device, which has no number. */
async function meant(
  bound: BoundDevice,
  selector: PartitionSelector | undefined,
): Promise<{ path: string; number?: number }> {
  checkPartition(selector);
  const found = selector === undefined
    ? { path: bound.path, number: undefined }
    : await partitionOf(bound, selector);
  refuseStale({ device: found.path, number: bound.number, partition: found.number });
  return found;
}

const WITHOUT_PARTITIONS = "it was attached without partscan, or has none; rescan() looks again";

function whyMissing(bound: BoundDevice, partition: number): string {
  const { list, skipped } = bound.partitions;
  const other = skipped.find(({ number }) => number === partition);
  if (other) {
    const { offset, sizelimit, reason } = other;
    return `partition ${partition} was skipped, ${reason}: attach() the file with ` +
      `{ offset: ${offset}, sizelimit: ${sizelimit} }, and mount that device`;
  }
  const numbers = list.map(({ number }) => number).join(", ");
  return `there is no partition ${partition} of it: ` +
    (list.length > 0 ? `it has ${numbers}` : WITHOUT_PARTITIONS);
}
