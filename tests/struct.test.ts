import { assertEquals, assertThrows } from "@std/assert";
import { writeFileSync } from "node:fs";
import { blkpg_ioctl_arg, blkpg_partition } from "../lib/blkpg.ts";
import { loop_config, loop_info64 } from "../lib/loop.ts";
import { statx } from "../lib/stat.ts";
import { __u32, __u64, __u8, bytes, type Struct, struct } from "../lib/struct.ts";
import { cachestat, open_how } from "../lib/waiting.ts";
import { output, scratch, test } from "./support.ts";

// deno-lint-ignore no-explicit-any
type AnyStruct = Struct<any>;

const STRUCTS: AnyStruct[] = [
  ...[loop_info64, loop_config, blkpg_ioctl_arg, blkpg_partition, statx, open_how],
];

/** What gcc printed on x86-64 and aarch64 alike, so that a machine without a compiler checks too. */
const GOLDEN = `
loop_info64 232: lo_device 0 lo_inode 8 lo_rdevice 16 lo_offset 24 lo_sizelimit 32 lo_number 40
  lo_encrypt_type 44 lo_encrypt_key_size 48 lo_flags 52 lo_file_name 56 lo_crypt_name 120
  lo_encrypt_key 184 lo_init 216
loop_config 304: fd 0 block_size 4 info 8 __reserved 240
blkpg_ioctl_arg 24: op 0 flags 4 datalen 8 data 16
blkpg_partition 152: start 0 length 8 pno 16 devname 20 volname 84
statx 256: stx_mask 0 stx_blksize 4 stx_attributes 8 stx_nlink 16 stx_uid 20 stx_gid 24 stx_mode 28
  stx_ino 32 stx_size 40 stx_blocks 48 stx_attributes_mask 56 stx_atime 64 stx_btime 80
  stx_ctime 96 stx_mtime 112 stx_rdev_major 128 stx_rdev_minor 132 stx_dev_major 136
  stx_dev_minor 140
open_how 24: flags 0 mode 8 resolve 16
`;

/** struct cachestat_range with struct cachestat behind it (Linux 6.5), which the same call takes. */
const CACHESTAT =
  "cachestat 56: off 0 len 8 nr_cache 16 nr_dirty 24 nr_writeback 32 nr_evicted 40 " +
  "nr_recently_evicted 48";

/** Padding has other names in other versions of a header. */
const publicFields = ({ offsets }: AnyStruct) =>
  Object.entries(offsets).filter(([field]) => !field.startsWith("__spare"));

function layout(type: AnyStruct): string {
  const fields = publicFields(type).map(([field, offset]) => `${field} ${offset}`);
  return `${type.name} ${type.size}: ${fields.join(" ")}`;
}

test("every struct has the layout that gcc gave", [], () => {
  const golden = GOLDEN.trim().replaceAll(/\n {2}/g, " ").split("\n");
  assertEquals(STRUCTS.map(layout), golden);
  assertEquals(layout(cachestat), CACHESTAT);
});

test("every struct has the layout that this machine's compiler gives", ["cc"], () => {
  const lines = STRUCTS.flatMap((type) => [
    `printf("${type.name} %zu:", sizeof(struct ${type.name}));`,
    ...publicFields(type).map(([field]) =>
      `printf(" ${field} %zu", offsetof(struct ${type.name}, ${field}));`
    ),
    `puts("");`,
  ]);
  const source = scratch("layout.c");
  writeFileSync(
    source,
    `#include <stdio.h>\n#include <stddef.h>\n#include <linux/types.h>\n` +
      `#include <linux/loop.h>\n#include <linux/blkpg.h>\n#include <linux/stat.h>\n#include <linux/openat2.h>\n` +
      `int main(void) {\n${lines.join("\n")}\nreturn 0;\n}\n`,
  );
  output(["cc", "-o", scratch("layout"), source]);
  assertEquals(output([scratch("layout")]).trim().split("\n"), STRUCTS.map(layout));
});

test("struct() refuses a layout of another size", [], () => {
  assertThrows(() => struct("s", 12, { a: __u32, b: __u64 }), TypeError, "struct s has 16 bytes");
});

test("struct() encodes what it decodes, and zero where nothing is given", [], () => {
  const s = struct("s", 24, { a: __u8, b: __u64, c: bytes(3), d: __u32 });
  const encoded = s.encode({ a: 255, b: 2n ** 64n - 1n, c: Uint8Array.of(1, 2) });
  assertEquals(s.decode(encoded), { a: 255, b: 2n ** 64n - 1n, c: Uint8Array.of(1, 2, 0), d: 0 });
  assertThrows(() => s.encode({ c: new Uint8Array(4) }), RangeError, "4 bytes in a field of 3");
});
