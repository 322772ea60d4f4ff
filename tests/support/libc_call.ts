/** Calls of libc that the tests need to arrange things, and that the library does not make. */

export type Kind = "i32" | "u64" | "buffer";
export type Argument = number | bigint | string | Uint8Array;

const bun = "Bun" in globalThis ? await import("bun:ffi") : undefined;
const node = bun || "Deno" in globalThis ? undefined : await import("node:ffi");

/** From an ArrayBuffer: JavaScriptCore may move the storage of other small arrays. */
export function zeroed(size: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new ArrayBuffer(size));
}

function cString(text: string): Uint8Array {
  const bytes = new TextEncoder().encode(text);
  const string = zeroed(bytes.length + 1);
  string.set(bytes);
  return string;
}

type Raw = (...args: unknown[]) => number;

function load(symbol: string, kinds: Kind[], returns: "i32" | "pointer"): Raw {
  if (bun) {
    const args = kinds.map((kind) => kind === "buffer" ? "ptr" : kind);
    const signature = { args, returns: returns === "i32" ? "i32" : "ptr" } as never;
    const { symbols } = bun.dlopen("libc.so.6", { [symbol]: signature });
    return (symbols as unknown as Record<string, Raw>)[symbol];
  }
  if (node) {
    const signature = { [symbol]: { arguments: kinds, return: returns } } as const;
    const call = node.dlopen("libc.so.6", signature).functions[symbol] as Raw;
    // Node takes bigint, and nothing else, for 64 bits.
    return (...args) =>
      call(...args.map((arg, i) => kinds[i] === "u64" ? BigInt(arg as number) : arg));
  }
  const signature = { parameters: kinds, result: returns } as const;
  const { symbols } = Deno.dlopen("libc.so.6", { [symbol]: signature });
  return (symbols as unknown as Record<string, Raw>)[symbol];
}

const errnoPointer = load("__errno_location", [], "pointer")() as never;
const errno = () =>
  bun
    ? bun.read.i32(errnoPointer, 0)
    : node
    ? node.getInt32(errnoPointer)
    : new Deno.UnsafePointerView(errnoPointer).getInt32();

/** One libc function; text is passed as a C string. Gives what it returns, or −errno. */
export function libcCall(symbol: string, ...kinds: Kind[]): (...args: Argument[]) => number {
  const raw = load(symbol, kinds, "i32");
  return (...args) => {
    const result = raw(...args.map((arg) => typeof arg === "string" ? cString(arg) : arg));
    return result < 0 ? -errno() : result;
  };
}

/** The result of a call that must not fail. */
export function must(result: number, what: string): number {
  if (result < 0) throw new Error(`${what}: errno ${-result}`);
  return result;
}

/** A C array of strings with a NULL at its end, and what must stay alive as long as it is used. */
export function cStrings(texts: string[]): { array: Uint8Array; strings: Uint8Array[] } {
  const strings = texts.map(cString);
  const array = zeroed(8 * (texts.length + 1));
  const view = new DataView(array.buffer);
  strings.forEach((string, i) => view.setBigUint64(8 * i, addressOf(string), true));
  return { array, strings };
}

function addressOf(buffer: Uint8Array): bigint {
  if (bun) return BigInt(bun.ptr(buffer));
  if (node) return node.getRawPointer(buffer);
  return Deno.UnsafePointer.value(Deno.UnsafePointer.of(buffer as BufferSource));
}
