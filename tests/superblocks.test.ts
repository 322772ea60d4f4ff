/** What is a superblock and what is none: made by hand, without any tool. */
import { assert, assertEquals } from "@std/assert";
import { createHash } from "node:crypto";
import { crc32, crc32c, crc_itu_t } from "../lib/base/checksums.ts";
import { blake2b256, sha256, xxh64 } from "../lib/superblocks/digests.ts";
import { findContainer, findFileSystems } from "../lib/superblocks/file_systems.ts";
import { hex } from "../lib/superblocks/superblock.ts";
import { SparseDisk } from "./cases/sparse_disk.ts";
import { test } from "./support/support.ts";

const MIB = 1024 * 1024;
const latin1 = (text: string) => Uint8Array.from(text, (character) => character.charCodeAt(0));
const ascii = latin1;
const counting = (length: number) => Uint8Array.from({ length }, (_, i) => i * 7);

/** A disk with these bytes, numbers little-endian. */
function disk(...parts: readonly [offset: number, bytes: Uint8Array | string][]): SparseDisk {
  const made = new SparseDisk(16 * MIB, 512);
  for (const [offset, bytes] of parts) {
    made.write(offset, typeof bytes === "string" ? latin1(bytes) : bytes);
  }
  return made;
}

const le = (value: number, length: number) =>
  Uint8Array.from({ length }, (_, i) => Math.floor(value / 256 ** i));

/** An ext2 file system of revision 0, as far as its superblock goes. */
const EXT2: [number, Uint8Array | string][] = [
  [1024 + 0x0, le(128, 4)],
  [1024 + 0x4, le(1024, 4)],
  [1024 + 0x20, le(8192, 4)],
  [1024 + 0x28, le(128, 4)],
  [1024 + 0x38, "\x53\xef"],
  [1024 + 0x68, "0123456789abcdef"],
  [1024 + 0x78, "made by hand \0rest"],
];

/** A FAT16 of 512-byte sectors with a label in its root directory. */
const FAT16: [number, Uint8Array | string][] = [
  [0, "\xeb\x3c\x90mkfs.fat"],
  [0xb, le(512, 2)],
  [0xd, le(4, 1)],
  [0xe, le(4, 2)],
  [0x10, le(2, 1)],
  [0x11, le(512, 2)],
  [0x13, le(32_768, 2)],
  [0x15, "\xf8"],
  [0x16, le(32, 2)],
  [0x26, "\x29\xcd\xab\x34\x12NO NAME    FAT16   "],
  [0x1fe, "\x55\xaa"],
  [(4 + 64) * 512, "\xe5OLD LABEL \x08"],
  [(4 + 64) * 512 + 32, "Z\x9aRICH     \x08"],
];

test("checksums and digests are the published ones", [], () => {
  const check = ascii("123456789");
  assertEquals(crc32(check), 0xcbf43926);
  assertEquals(~crc32c(-1, check) >>> 0, 0xe3069283);
  assertEquals(crc_itu_t(check), 0x31c3);
  assertEquals(hex(xxh64(new Uint8Array())), "99e9d85137db46ef");
  assertEquals(hex(xxh64(ascii("Nobody inspects the spammish repetition"))), "f18b378a3ca8cefb");
  assertEquals(
    hex(blake2b256(ascii("abc"))),
    "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319",
  );
  assertEquals(
    hex(blake2b256(counting(4064))),
    "2ae0e750490c971d7f61570898b8b98f2be2a8f0c15b9b511a0feb03a9ea6e72",
  );
  for (const length of [0, 3, 55, 56, 63, 64, 65, 4064]) {
    const expected = createHash("sha256").update(counting(length)).digest("hex");
    assertEquals(hex(sha256(counting(length))), expected);
  }
});

test("a superblock is found with its label and UUID", [], () => {
  assertEquals(findFileSystems(disk(...EXT2)), [{
    type: "ext2",
    label: "made by hand",
    uuid: "30313233-3435-3637-3839-616263646566",
  }]);
  // A label in a code page keeps its bytes.
  assertEquals(findFileSystems(disk(...FAT16)), [
    { type: "vfat", label: "Z\udc9aRICH", uuid: "1234-ABCD" },
  ]);
});

test("a disc's UUID is the date that blkid takes, or none", [], () => {
  const MODIFIED = "2026013123595900\0",
    CREATED = "2025013123595900\0",
    UNSET = "0".repeat(16) + "\0";
  const uuid = (created: string, modified: string) =>
    findFileSystems(disk(
      [0x8000, "\x01CD001\x01"],
      [0x8080, le(2048, 2)],
      [0x809c, le(34, 1)],
      [0x809e, le(20, 4)],
      [0x832d, created + modified],
      [20 * 2048, le(34, 1)],
      [20 * 2048 + 2, le(20, 4)],
      [20 * 2048 + 32, "\x01"],
    )).map((found) => found.uuid)[0];
  assertEquals(uuid(CREATED, MODIFIED), "2026-01-31-23-59-59-00");
  assertEquals(uuid(CREATED, UNSET), "2025-01-31-23-59-59-00");
  assertEquals(uuid(UNSET, UNSET), undefined);
  // blkid prints these bytes; another date instead would be a link that udev does not make.
  assertEquals(uuid(CREATED, MODIFIED.replace("0131", "@-t\xcd")), undefined);
});

test("an F2FS of version 1.0 has its label and UUID elsewhere", [], () => {
  const made = disk(
    [1024, "\x10\x20\xf5\xf2\x01"],
    ...[9, 3, 12, 9].map((value, i): [number, Uint8Array] => [1024 + 8 + 4 * i, le(value, 4)]),
    ...[3, 1, 2].map((value, i): [number, Uint8Array] => [1024 + 0x60 + 4 * i, le(value, 4)]),
    [1024 + 0x6c, "0123456789abcdef"],
    [1024 + 0x7c, "o\0l\0d\0"],
  );
  assertEquals(findFileSystems(made), [{ type: "f2fs" }]);
  made.write(1024 + 6, le(16, 2));
  const uuid = "30313233-3435-3637-3839-616263646566";
  assertEquals(findFileSystems(made), [{ type: "f2fs", label: "old", uuid }]);
});

test("no bit of a checksummed superblock can be wrong", [], () => {
  const sum = (made: SparseDisk, start: number, length: number, at: number) =>
    made.write(at, le(crc32c(-1, made.read(start, length)), 4));
  const ext4 = disk(...EXT2, [1024 + 0x60, le(0x40, 4)], [1024 + 0x64, le(0x400, 4)]);
  sum(ext4, 1024, 1020, 1024 + 1020);
  const erofs = disk([1024, "\xe2\xe1\xf5\xe0"], [1024 + 8, le(1, 4)], [1024 + 12, le(12, 1)]);
  sum(erofs, 1024, 3072, 1024 + 4);
  // The bits that say that there is a checksum.
  const cases = [["ext4", ext4, 1024, 1024 + 0x65, 4], [
    "erofs",
    erofs,
    3072,
    1024 + 8,
    1,
  ]] as const;
  for (const [type, made, length, flagAt, flag] of cases) {
    const types = () => findFileSystems(made).map(({ type }) => type);
    made.size = 8192; // each look reads as much
    assertEquals(types(), [type]);
    for (let at = 1024; at < 1024 + length; at++) {
      const byte = made.read(at, 1);
      for (let bit = 1; bit < 256; bit <<= 1) {
        made.write(at, byte.map((value) => value ^ bit));
        assertEquals(types(), at === flagAt && bit === flag ? [type] : [], `${bit} at ${at}`);
      }
      made.write(at, byte);
    }
  }
});

test("two superblocks on one disk are two file systems", [], () => {
  const types = findFileSystems(disk(...EXT2, ...FAT16)).map(({ type }) => type);
  assertEquals(types, ["vfat", "ext2"]);
});

test("a magic number alone is no superblock", [], () => {
  const alone: [number, string][] = [
    [1024 + 0x38, "\x53\xef"],
    [0, "XFSB"],
    [0, "hsqs"],
    [0, "sqsh"],
    [0x10040, "_BHRfS_M"],
    [1024, "\x10\x20\xf5\xf2"],
    [1024, "\xe2\xe1\xf5\xe0"],
    [3, "EXFAT   "],
    [0x36, "FAT16   "],
    [0x52, "FAT32   "],
    [0x8001, "CD001"],
    [0x8001, "BEA01"],
    [0x8001, "NSR02"],
  ];
  for (const part of alone) assertEquals(findFileSystems(disk(part)), [], part[1]);
});

test("an MBR, a boot loader in one, NTFS and a journal are no file system", [], () => {
  const cases: Record<string, [number, Uint8Array | string][]> = {
    "MBR": [[0x1be, "\x80\x20\x21\x00\x83"], [0x1fe, "\x55\xaa"]],
    "GRUB": [[0, "\xeb\x63\x90"], [0x5a, "\x00\x08"], [0x1fe, "\x55\xaa"]],
    "a PC's MBR": [[0, "\x33\xc0\x8e\xd0\xbc\x00\x7c\xfb\x50\x07\x50\x1f"], [0x1fe, "\x55\xaa"]],
    "NTFS": [[0, "\xeb\x52\x90NTFS    \x00\x02\x08"], [0x15, "\xf8"], [0x1fe, "\x55\xaa"]],
    "an external journal of ext4": [...EXT2, [1024 + 0x60, le(0x8, 4)]],
    "FAT's fields in front of JFS": [...FAT16, [0x36, "JFS     "]],
    "zeros": [],
  };
  for (const [name, parts] of Object.entries(cases)) {
    assertEquals(findFileSystems(disk(...parts)), [], name);
  }
});

test("what is a part of another disk is no file system, whatever it shows", [], () => {
  const end = 16 * MIB;
  const superblock1 = (offset: number): [number, Uint8Array | string][] => [
    [offset, le(0xa92b4efc, 4)],
    [offset + 4, le(1, 4)],
    [offset + 0x90, le(offset / 512, 8)],
  ];
  const cases: [string, [number, Uint8Array | string][]][] = [
    ["LUKS", [[0, "LUKS\xba\xbe\x00\x01"]]],
    ["LVM", [[512, "LABELONE"], [512 + 0x18, "LVM2 001"]]],
    ["swap", [[4096 - 10, "SWAPSPACE2"]]],
    ["swap", [[65_536 - 10, "SWAPSPACE2"]]],
    ["a hibernated system", [[4096 - 10, "S1SUSPEND\0"]]],
    ["BitLocker", [[3, "-FVE-FS-"]]],
    ["RAID", superblock1(end - 8192)],
    ["RAID", superblock1(4096)],
    ["RAID", [[end - 65_536, le(0xa92b4efc, 4)]]],
    ["RAID", [[end - 65_536, le(0xa92b4efc, 4).reverse()]]],
  ];
  for (const [name, parts] of cases) {
    const member = disk(...EXT2, ...parts);
    assertEquals([findFileSystems(member), findContainer(member)], [[], name]);
  }
  assertEquals(findContainer(disk(...EXT2)), undefined);
});

test("a disk of any size is read within its size", [], () => {
  const whole = disk(...EXT2);
  for (let size = 0; size < 140_000; size += size < 5000 ? 1 : 509) {
    const read = (offset: number, length: number) => {
      assert(offset >= 0 && offset + length <= size, `${length} bytes at ${offset} of ${size}`);
      return whole.read(offset, length);
    };
    const types = findFileSystems({ size, read }).map(({ type }) => type);
    assertEquals(types, size < 2048 ? [] : ["ext2"]);
  }
});

test("an error of the disk is the caller's to see", [], () => {
  const error = new Error("EIO");
  let thrown: unknown;
  try {
    findFileSystems({
      size: MIB,
      read() {
        throw error;
      },
    });
  } catch (caught) {
    thrown = caught;
  }
  assertEquals(thrown, error);
});
