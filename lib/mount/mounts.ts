/**
 * The mounts of one handle, and the module behind them, which is loaded when it is wanted.
 *
 * @module
 */
import { checkPartition } from "../base/checks.ts";
import { LoopError } from "../base/errors.ts";
import { absolutePath } from "../kernel/file.ts";
import type { BoundDevice } from "../binding/bound_device.ts";
import { loadFileSystem, loadMount } from "./late.ts";
import type { MountOptions } from "./options.ts";
import type { LoopMount } from "./mounted.ts";
import type { FileSystem } from "../superblocks/file_systems.ts";

/** Options with `at` as it is meant now: the working directory may be another one when it is used. */
export function asMeantHere(options: MountOptions): MountOptions {
  const { at } = options ?? {};
  if (typeof at !== "string" || at === "") return options;
  return { ...options, at: absolutePath(at) };
}

/** Kept: to ask for it anew takes as long as a dozen system calls. */
let module: ReturnType<typeof load> | undefined;

function load() {
  const loading = loadMount();
  loading.catch(() => module = undefined);
  return loading;
}

/** Those that are not unmounted. */
export class MountSet {
  readonly #alive = new Set<LoopMount>();

  async mount(
    device: BoundDevice,
    partition: number | undefined,
    options: MountOptions,
  ): Promise<LoopMount> {
    const node = nodeOf(device, partition);
    const { number, readOnly, backingFile } = device.facts;
    const { mount } = await (module ??= load());
    const source = { device: node, number, partition, readOnly, backingFile };
    const mounted = await mount(source, options, (ended) => this.#alive.delete(ended));
    this.#alive.add(mounted);
    return mounted;
  }

  async fileSystem(
    device: BoundDevice,
    partition: number | undefined,
  ): Promise<FileSystem | undefined> {
    const node = nodeOf(device, partition);
    const { onlyFileSystem } = await loadFileSystem();
    return await onlyFileSystem(node);
  }

  /** Unmounts all, the last one first; gives the first error that nobody was told, when all are unmounted. */
  async end(): Promise<{ error: unknown } | undefined> {
    let failed: { error: unknown } | undefined;
    for (const mount of [...this.#alive].reverse()) {
      await mount[Symbol.asyncDispose]().catch((error) => failed ??= { error });
    }
    return failed;
  }
}

function nodeOf(
  { path, partitions: { list }, skipped }: BoundDevice,
  partition: number | undefined,
): string {
  checkPartition(partition);
  if (partition === undefined) return path;
  const found = list.find(({ number }) => number === partition);
  if (found) return found.path;
  const other = skipped.find(({ number }) => number === partition);
  if (other) {
    const { offset, sizelimit, reason } = other;
    const hint = `partition ${partition} was skipped, ${reason}: attach() the file with ` +
      `{ offset: ${offset}, sizelimit: ${sizelimit} }, and mount that device`;
    throw new LoopError({ code: "ENXIO", syscall: "mount", path, hint });
  }
  const numbers = list.map(({ number }) => number).join(", ");
  const hint = `there is no partition ${partition} of it: ` +
    (list.length > 0
      ? `it has ${numbers}`
      : "it was attached without partscan, or has none; rescan() looks again");
  throw new LoopError({ code: "ENXIO", syscall: "mount", path, hint });
}
