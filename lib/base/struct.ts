/**
 * C structs as data: the header's lines in the header's order, natural alignment, little-endian. Each
 * struct states its size, so that a missing line fails when the module is imported.
 *
 * @module
 */

/** A C type: its size and alignment in bytes, and how it is read and written. */
export interface CType<T> {
  readonly size: number;
  readonly align: number;
  get(view: DataView, at: number): T;
  set(view: DataView, at: number, value: T): void;
}

/** A struct: a C type that also knows its fields and converts whole buffers. */
export interface Struct<T> extends CType<T> {
  readonly name: string;
  /** offsetof(3) of each field. */
  readonly offsets: Readonly<Record<keyof T & string, number>>;
  /** All zero, for the kernel to fill. */
  buffer(): Uint8Array<ArrayBuffer>;
  /** Fields left out are zero, as in a C initialiser. */
  encode(value: Partial<T>): Uint8Array<ArrayBuffer>;
  /** Sets some fields of an encoded struct. */
  write(encoded: Uint8Array, value: Partial<T>): void;
  /** All fields; those that are bytes are views of `encoded`. */
  decode(encoded: Uint8Array): T;
  /** Reads single fields, where decoding the whole struct would be a waste. */
  reader(encoded: Uint8Array): <K extends keyof T>(field: K) => T[K];
}

/** The JavaScript value of a C type. */
export type Value<C> = C extends CType<infer T> ? T : never;

/** `get` and `set` call the view's methods by their names: only such a call becomes one instruction. */
function integer<T>(size: number, get: CType<T>["get"], set: CType<T>["set"]): CType<T> {
  return { size, align: size, get, set };
}

export const __u8: CType<number> = integer(
  1,
  (view, at) => view.getUint8(at),
  (view, at, value) => view.setUint8(at, value),
);
export const __u16: CType<number> = integer(
  2,
  (view, at) => view.getUint16(at, true),
  (view, at, value) => view.setUint16(at, value, true),
);
export const int: CType<number> = integer(
  4,
  (view, at) => view.getInt32(at, true),
  (view, at, value) => view.setInt32(at, value, true),
);
export const __u32: CType<number> = integer(
  4,
  (view, at) => view.getUint32(at, true),
  (view, at, value) => view.setUint32(at, value, true),
);
export const __u64: CType<bigint> = integer(
  8,
  (view, at) => view.getBigUint64(at, true),
  (view, at, value) => view.setBigUint64(at, value, true),
);
/** Also a user-space pointer on 64-bit machines. */
export const long_long: CType<bigint> = integer(
  8,
  (view, at) => view.getBigInt64(at, true),
  (view, at, value) => view.setBigInt64(at, value, true),
);

/** `__u8 name[length]`, `char name[length]`: the bytes, NULs and all. */
export function bytes(length: number): CType<Uint8Array> {
  return {
    size: length,
    align: 1,
    get: (view, at) => new Uint8Array(view.buffer, view.byteOffset + at, length),
    set(view, at, value) {
      if (value.length > length) {
        throw new RangeError(`${value.length} bytes in a field of ${length}`);
      }
      new Uint8Array(view.buffer, view.byteOffset + at, length).set(value);
    },
  };
}

/** `type name[length]`; elements left out are zero. */
export function array<T>(type: CType<T>, length: number): CType<T[]> {
  return {
    size: type.size * length,
    align: type.align,
    get: (view, at) => Array.from({ length }, (_, i) => type.get(view, at + i * type.size)),
    set(view, at, values) {
      if (values.length > length) {
        throw new RangeError(`${values.length} values in an array of ${length}`);
      }
      values.forEach((value, i) => type.set(view, at + i * type.size, value));
    },
  };
}

/** Lays out `fields` in their order; `size` is sizeof(3) and must come out exactly. */
// deno-lint-ignore no-explicit-any -- each field has its own type; Value<> recovers it
export function struct<F extends Record<string, CType<any>>>(
  name: string,
  size: number,
  fields: F,
): Struct<{ [K in keyof F]: Value<F[K]> }> {
  type T = { [K in keyof F]: Value<F[K]> };
  const offsets = {} as Record<keyof F & string, number>;
  const places = {} as { [K in keyof F]: { at: number; type: CType<T[K]> } };
  let end = 0;
  let align = 1;
  for (const [field, type] of Object.entries(fields)) {
    end = roundUp(end, type.align);
    offsets[field as keyof F & string] = end;
    places[field as keyof F] = { at: end, type };
    end += type.size;
    align = Math.max(align, type.align);
  }
  end = roundUp(end, align);
  if (end !== size) throw new TypeError(`struct ${name} has ${end} bytes, expected ${size}`);

  const get = (view: DataView, at: number): T => {
    const value = {} as T;
    for (const field in fields) value[field] = fields[field].get(view, at + offsets[field]);
    return value;
  };
  const set = (view: DataView, at: number, value: Partial<T>): void => {
    for (const field in fields) {
      if (value[field] !== undefined) fields[field].set(view, at + offsets[field], value[field]);
    }
  };
  return {
    name,
    size,
    align,
    offsets,
    get,
    set,
    buffer: () => zeroed(size),
    encode(value) {
      const encoded = zeroed(size);
      set(viewOf(encoded), 0, value);
      return encoded;
    },
    write: (encoded, value) => set(viewOf(encoded), 0, value),
    decode: (encoded) => get(viewOf(encoded), 0),
    reader(encoded) {
      const view = viewOf(encoded);
      return (field) => {
        const { at, type } = places[field];
        return type.get(view, at);
      };
    },
  };
}

/** Made over an ArrayBuffer, since JavaScriptCore is slow to make one later, for the view. */
function zeroed(size: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new ArrayBuffer(size));
}

function viewOf({ buffer, byteOffset, byteLength }: Uint8Array): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}

function roundUp(n: number, to: number): number {
  return Math.ceil(n / to) * to;
}
