/**
 * The mounts of one handle.
 *
 * @module
 */
import { checkPartition } from "../base/checks.ts";
import { LoopError } from "../base/errors.ts";
import type { BoundDevice } from "../binding/bound_device.ts";
import { absolutePath } from "../kernel/file.ts";
import type { FileSystem } from "../superblocks/file_systems.ts";
import { loadFileSystem, loadMount } from "./late.ts";
import type { LoopMount } from "./mounted.ts";
import type { MountOptions } from "./options.ts";

/** The options with an absolute `at`: the working directory may be another one when it is used. */
export function withAbsoluteAt(options: MountOptions): MountOptions {
  const { at } = options ?? {};
  if (typeof at !== "string" || at === "") return options;
  return { ...options, at: absolutePath(at) };
}

/** The mounts that are not unmounted yet. */
export class MountSet {
  readonly #alive = new Set<LoopMount>();

  async mount(
    bound: BoundDevice,
    partition: number | undefined,
    options: MountOptions,
  ): Promise<LoopMount> {
    const { number, readOnly, backingFile } = bound.facts;
    const source = { device: nodeOf(bound, partition), number, partition, readOnly, backingFile };
    const { mount } = await loadMount();
    const mounted = await mount(source, options, (ended) => this.#alive.delete(ended));
    this.#alive.add(mounted);
    return mounted;
  }

  async fileSystem(
    bound: BoundDevice,
    partition: number | undefined,
  ): Promise<FileSystem | undefined> {
    const node = nodeOf(bound, partition);
    const { fileSystemOn } = await loadFileSystem();
    return await fileSystemOn(node);
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

/** The node of a partition, or of the whole device. */
function nodeOf(bound: BoundDevice, partition: number | undefined): string {
  checkPartition(partition);
  if (partition === undefined) return bound.path;
  const found = bound.partitions.list.find(({ number }) => number === partition);
  if (found) return found.path;
  throw new LoopError({ code: "ENXIO", path: bound.path, hint: whyMissing(bound, partition) });
}

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
    (list.length > 0
      ? `it has ${numbers}`
      : "it was attached without partscan, or has none; rescan() looks again");
}
