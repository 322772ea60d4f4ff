/**
 * What JSON.stringify() and console.log() show of a device. By themselves they ignore getters and private
 * fields.
 *
 * @module
 */

/**
 * What {@linkcode LoopDevice.toJSON} shows.
 *
 * @example
 * ```ts
 * import { type LoopDeviceField } from "@loopdev/loopdev";
 * const columns: LoopDeviceField[] = ["path", "size", "backingFile"];
 * ```
 */
// deno-fmt-ignore
export type LoopDeviceField =
  | "path" | "number" | "backingFile" | "offset" | "sizelimit" | "size" | "sectorSize"
  | "readOnly" | "directIo" | "diskseq" | "strategy" | "partitions" | "skipped";

// deno-fmt-ignore
const FIELDS: readonly LoopDeviceField[] = [
  "path", "number", "backingFile", "offset", "sizelimit", "size", "sectorSize",
  "readOnly", "directIo", "diskseq", "strategy", "partitions", "skipped",
];

/** The values of the getters, as an object of plain fields. */
export function dataOf<T extends Record<LoopDeviceField, unknown>>(
  device: T,
): Pick<T, LoopDeviceField> {
  const fields = FIELDS.map((field) => [field, device[field]]);
  return Object.fromEntries(fields) as Pick<T, LoopDeviceField>;
}

type Inspect = (value: unknown, options: object) => string;

/** Makes console.log() show the class's name and what toJSON() gives. */
export function showAsData(shown: { name: string; prototype: { toJSON(): object } }): void {
  // Bun and Node call it with (depth, options, inspect), Deno with (inspect, options).
  function inspect(this: { toJSON(): object }, first: unknown, options: object, third?: Inspect) {
    return `${shown.name} ${(third ?? first as Inspect)(this.toJSON(), options)}`;
  }
  for (const name of ["nodejs.util.inspect.custom", "Deno.customInspect"]) {
    Object.defineProperty(shown.prototype, Symbol.for(name), { value: inspect });
  }
}
