/**
 * attachAll(): many files at once, all or nothing.
 *
 * @module
 */
import { afterUndoing } from "./base/errors.ts";
import { attach } from "./attach.ts";
import { allEnded } from "./base/retry.ts";
import { absolutePath } from "./kernel/file.ts";
import { checkFunction, checkObject, checkPath, checkWholeNumber } from "./base/checks.ts";
import type { LoopDevice } from "./device.ts";
import { type AttachOptions, checkOptions } from "./binding/options.ts";

/**
 * Options of {@linkcode attachAll}: those of attach() for each file, and two of its own.
 *
 * @example
 * ```ts
 * import { type AttachAllOptions } from "@loopdev/loopdev";
 * const options: AttachAllOptions = { readOnly: true, concurrency: 4 };
 * ```
 */
export interface AttachAllOptions extends Omit<AttachOptions, "number"> {
  /** How many files are worked on at a time. Default 32; more wait for the kernel no faster. */
  concurrency?: number;
  /** Called after each file. */
  onProgress?: (progress: { attached: number; total: number; device: LoopDevice }) => void;
}

/**
 * In the order of the files. `await using` detaches them all. If something is lost that was written to
 * one of them, and no detach() of it has said so, the end of the block rejects with that error; an
 * AggregateError if it is several.
 *
 * @example
 * ```ts
 * import { attachAll, type LoopDevices } from "@loopdev/loopdev";
 * import { writeFileSync } from "node:fs";
 * const image = "/tmp/loopdev-example.img";
 * writeFileSync(image, new Uint8Array(2 ** 20));
 * await using loops: LoopDevices = await attachAll([image]);
 * console.log(loops.length); // 1
 * ```
 */
export interface LoopDevices extends ReadonlyArray<LoopDevice>, AsyncDisposable {}

const CONCURRENCY = 32;

/**
 * Attaches many files at once, so that their waits for the kernel overlap: all of them, or none. The
 * first that fails stops the others; what was attached is detached before it rejects with that
 * failure. With plain `Promise.all` those would stay. The event loop turns every few ms
 * meanwhile, so that timers and `signal` are heard.
 *
 * Throws (rejects with) what {@linkcode attach} does, and RangeError or TypeError for a bad option.
 *
 * @example
 * ```ts
 * import { attachAll } from "@loopdev/loopdev";
 * import { writeFileSync } from "node:fs";
 * const images = ["/tmp/loopdev-example.img", "/tmp/loopdev-example-2.img"];
 * for (const image of images) writeFileSync(image, new Uint8Array(2 ** 20));
 * await using loops = await attachAll(images, { partscan: true });
 * console.log(loops.map(({ path }) => path));
 * ```
 */
export async function attachAll(
  files: readonly (string | URL)[],
  options: AttachAllOptions = {},
): Promise<LoopDevices> {
  if (!Array.isArray(files)) throw new TypeError("files must be an array of paths");
  // A caller's mistake shows before anything is attached.
  const paths = files.map((file, i) => absolutePath(checkPath(`files[${i}]`, file)));
  checkObject(options);
  const { concurrency = CONCURRENCY, onProgress, ...each } = options;
  checkWholeNumber("concurrency", concurrency, 1, Number.MAX_SAFE_INTEGER);
  checkFunction("onProgress", onProgress);
  if ("number" in each) throw new TypeError("number is for one file; attachAll() takes many");
  checkOptions(each);
  const devices = new Map<number, LoopDevice>();
  const stop = new AbortController();
  const signal = each.signal ? AbortSignal.any([each.signal, stop.signal]) : stop.signal;
  let next = 0;
  const work = async () => {
    while (next < paths.length) {
      const index = next++;
      const device = await attach(paths[index], { ...each, signal });
      devices.set(index, device);
      onProgress?.({ attached: devices.size, total: paths.length, device });
    }
  };
  const detachAll = async () => {
    await allEnded([...devices.values()].map((device) => device[Symbol.asyncDispose]()));
  };
  let failure: { error: unknown } | undefined;
  await Promise.all(
    Array.from({ length: Math.min(concurrency, paths.length) }, async () => {
      try {
        await work();
      } catch (error) {
        failure ??= { error };
        stop.abort(error);
      }
    }),
  );
  if (failure) {
    // The first error wins. What cannot be undone is detached when the process ends, at the latest.
    throw await afterUndoing(failure.error, detachAll());
  }
  const loops = paths.map((_, index) => devices.get(index)!);
  return Object.assign(loops, { [Symbol.asyncDispose]: detachAll });
}
