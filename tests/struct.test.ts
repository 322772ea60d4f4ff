import { assertEquals, assertThrows } from "@std/assert";
import { __u32, __u64, __u8, array, bytes, struct } from "../lib/base/struct.ts";
import { test } from "./support/support.ts";

test("struct() refuses a layout of another size", [], () => {
  assertThrows(() => struct("s", 12, { a: __u32, b: __u64 }), TypeError, "struct s has 16 bytes");
});

test("struct() encodes what it decodes, and zero where nothing is given", [], () => {
  const s = struct("s", 24, { a: __u8, b: __u64, c: bytes(3), d: __u32 });
  const encoded = s.encode({ a: 255, b: 2n ** 64n - 1n, c: Uint8Array.of(1, 2) });
  assertEquals(s.decode(encoded), { a: 255, b: 2n ** 64n - 1n, c: Uint8Array.of(1, 2, 0), d: 0 });
  assertThrows(() => s.encode({ c: new Uint8Array(4) }), RangeError, "4 bytes in a field of 3");
});

test("array() encodes each element, and refuses more than it has", [], () => {
  const s = struct("s", 16, { a: array(__u32, 3), b: __u8, c: bytes(3) });
  assertEquals(s.decode(s.encode({ a: [1, 2] })).a, [1, 2, 0]);
  assertThrows(() => s.encode({ a: [1, 2, 3, 4] }), RangeError, "4 values in an array of 3");
});
