/** What is a superblock and what is none: made by hand, without any tool. */
import { assert, assertEquals } from "@std/assert";
import { crc32 } from "../lib/base/checksums.ts";
import { type FileSystem, findFileSystems } from "../lib/superblocks/file_systems.ts";
import type { Image } from "../lib/table/disk.ts";
import { runSteps } from "../lib/table/steps.ts";
import { SparseDisk } from "./cases/sparse_disk.ts";
import { test } from "./support/support.ts";

const MIB = 1024 * 1024;
const latin1 = (text: string) => Uint8Array.from(text, (character) => character.charCodeAt(0));
const found = (image: Image) =>
  runSteps(findFileSystems(image.size), (offset, length) => image.read(offset, length));

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

test("crc32() is the published one", [], () => {
  assertEquals(crc32(latin1("123456789")), 0xcbf43926);
});

test("a superblock is found with its label and UUID", [], () => {
  assertEquals(found(disk(...EXT2)), [{
    type: "ext2",
    label: "made by hand",
    uuid: "30313233-3435-3637-3839-616263646566",
    usage: "filesystem",
  }]);
  // A label in a code page keeps its bytes.
  assertEquals(found(disk(...FAT16)), [
    { type: "vfat", label: "Z\udc9aRICH", uuid: "1234-ABCD", usage: "filesystem" },
  ]);
});

test("a disc's UUID is the date that blkid takes, or none", [], () => {
  const MODIFIED = "2026013123595900\0",
    CREATED = "2025013123595900\0",
    UNSET = "0".repeat(16) + "\0";
  const uuid = (created: string, modified: string) =>
    found(disk(
      [0x8000, "\x01CD001\x01"],
      [0x832d, created + modified],
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
    [1024 + 0x6c, "0123456789abcdef"],
    [1024 + 0x7c, "o\0l\0d\0"],
  );
  assertEquals(found(made), [{ type: "f2fs", usage: "filesystem" }]);
  made.write(1024 + 6, le(16, 2));
  const uuid = "30313233-3435-3637-3839-616263646566";
  assertEquals(found(made), [{ type: "f2fs", label: "old", uuid, usage: "filesystem" }]);
});

test("two superblocks on one disk are two file systems", [], () => {
  const types = found(disk(...EXT2, ...FAT16)).map(({ type }) => type);
  assertEquals(types, ["vfat", "ext2"]);
});

test("a magic number alone is no superblock where others have its bytes, too", [], () => {
  const alone: [number, string][] = [
    [1024 + 0x38, "\x53\xef"],
    [1024 + 6, "\x34\x34"],
    [0, "hsqs"],
    [0, "sqsh"],
    [0x36, "FAT16   "],
    [0x52, "FAT32   "],
    [0x8001, "CD001"],
    [0x8001, "BEA01"],
    [0x8001, "NSR02"],
    [0x18, "LVM2 001"],
    [4096 - 10, "SWAPSPACE2"],
    [0, "\xfc\x4e\x2b\xa9"],
    [4096, "\xfc\x4e\x2b\xa9\x01\0\0\0"],
  ];
  for (const part of alone) assertEquals(found(disk(part)), [], part[1]);
});

test("whether the rest of a superblock is sound is left to its driver", [], () => {
  const alone: [type: string, number, string][] = [
    ["xfs", 0, "XFSB"],
    ["btrfs", 0x10040, "_BHRfS_M"],
    ["f2fs", 1024, "\x10\x20\xf5\xf2"],
    ["erofs", 1024, "\xe2\xe1\xf5\xe0"],
    ["exfat", 3, "EXFAT   "],
    ["ntfs", 3, "NTFS    "],
    ["jfs", 0x8000, "JFS1"],
  ];
  for (const [type, ...part] of alone) {
    assertEquals(found(disk(part)), [{ type, usage: "filesystem" }]);
  }
});

test("an MBR and a boot loader in one are no file system", [], () => {
  const cases: Record<string, [number, Uint8Array | string][]> = {
    "MBR": [[0x1be, "\x80\x20\x21\x00\x83"], [0x1fe, "\x55\xaa"]],
    "GRUB": [[0, "\xeb\x63\x90"], [0x5a, "\x00\x08"], [0x1fe, "\x55\xaa"]],
    "a PC's MBR": [[0, "\x33\xc0\x8e\xd0\xbc\x00\x7c\xfb\x50\x07\x50\x1f"], [0x1fe, "\x55\xaa"]],
    "FAT's fields in front of JFS": [...FAT16, [0x36, "JFS     "]],
    "zeros": [],
  };
  for (const [name, parts] of Object.entries(cases)) {
    assertEquals(found(disk(...parts)), [], name);
  }
});

test("NTFS is no FAT, and an external journal no ext4", [], () => {
  const types = (...parts: [number, Uint8Array | string][]) =>
    found(disk(...parts)).map(({ type, usage }) => `${type} ${usage}`);
  const ntfs = "\xeb\x52\x90NTFS    \x00\x02\x08";
  assertEquals(types([0, ntfs], [0x15, "\xf8"], [0x1fe, "\x55\xaa"]), ["ntfs filesystem"]);
  assertEquals(types(...EXT2, [1024 + 0x60, le(0x8, 4)]), []);
});

/** Superblocks of what is no file system. */
const superblock1 = (offset: number): [number, Uint8Array | string][] => [
  [offset, le(0xa92b4efc, 4)],
  [offset + 4, le(1, 4)],
  [offset + 0x10, "0123456789abcdef"],
  [offset + 0x20, "host:name"],
  [offset + 0x90, le(offset / 512, 8)],
];
const END = 16 * MIB;
const BCACHE = "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81";

test("a part of an array or a group, or what is encrypted, is that, whatever it shows", [], () => {
  const cases: [type: string, usage: FileSystem["usage"], [number, Uint8Array | string][]][] = [
    ["crypto_LUKS", "crypto", [[0, "LUKS\xba\xbe\x00\x01"]]],
    ["BitLocker", "crypto", [[3, "-FVE-FS-"]]],
    ["LVM2_member", "raid", [[512, "LABELONE"], [512 + 0x18, "LVM2 001"]]],
    ["linux_raid_member", "raid", superblock1(END - 8192)],
    ["linux_raid_member", "raid", superblock1(4096)],
    ["linux_raid_member", "raid", [[END - 65_536, le(0xa92b4efc, 4)]]],
    ["linux_raid_member", "raid", [[END - 65_536, le(0xa92b4efc, 4).reverse()]]],
  ];
  for (const [type, usage, parts] of cases) {
    const [{ label: _, uuid: __, ...first }, ...others] = found(disk(...EXT2, ...parts));
    assertEquals([first, others], [{ type, usage }, []], type);
  }
});

test("swap space and a cache beside a file system are two, as with blkid", [], () => {
  const header: [number, Uint8Array | string][] = [[1024, le(1, 4)], [1028, le(1000, 4)]];
  const cases: [type: string, usage: FileSystem["usage"], [number, Uint8Array | string][]][] = [
    ["swap", "swap", [[4096 - 10, "SWAPSPACE2"], ...header]],
    ["swap", "swap", [[65_536 - 10, "SWAPSPACE2"], ...header]],
    ["swap", "swap", [[4096 - 10, "SWAP-SPACE"]]],
    ["swsuspend", "other", [[4096 - 10, "S1SUSPEND\0"]]],
    ["bcache", "other", [[4096 + 0x18, BCACHE]]],
  ];
  for (const [type, usage, parts] of cases) {
    const alone = found(disk(...parts));
    assertEquals(alone, [{ type, usage }], type);
    assertEquals(found(disk(...EXT2, ...parts)).map(({ type }) => type), [type, "ext2"]);
  }
});

test("an array's members have its name and its UUID", [], () => {
  assertEquals(found(disk(...superblock1(4096))), [{
    type: "linux_raid_member",
    label: "host:name",
    uuid: "30313233-3435-3637-3839-616263646566",
    usage: "raid",
  }]);
  // 0.90 has four words, in the byte order of its machine.
  const old = (words: (bytes: Uint8Array) => Uint8Array) =>
    found(disk(
      [END - 65_536, words(le(0xa92b4efc, 4))],
      [END - 65_536 + 0x14, words(le(0x33221100, 4))],
      ...[0x77665544, 0xbbaa9988, 0xffeeddcc].map((word, i): [number, Uint8Array] => [
        END - 65_536 + 0x34 + 4 * i,
        words(le(word, 4)),
      ]),
    ))[0].uuid;
  const uuid = "33221100-7766-5544-bbaa-9988ffeeddcc";
  assertEquals([old((bytes) => bytes), old((bytes) => bytes.toReversed())], [uuid, uuid]);
  // The last partition's superblock stands where the disk's would.
  const member: [number, Uint8Array] = [END - 65_536, le(0xa92b4efc, 4)];
  const partition = (sectors: number): [number, Uint8Array | string][] => [
    [0x1be + 4, "\xfd"],
    [0x1be + 8, le(2048, 4)],
    [0x1be + 12, le(sectors, 4)],
    [0x1fe, "\x55\xaa"],
  ];
  const types = (sectors: number) => found(disk(member, ...partition(sectors))).length;
  assertEquals([types(END / 512 - 2048), types(END / 512 - 2048 - 128)], [0, 1]);
});

test("a disk of any size is read within its size", [], () => {
  const whole = disk(...EXT2);
  for (let size = 0; size < 140_000; size += size < 5000 ? 1 : 509) {
    const read = (offset: number, length: number) => {
      assert(offset >= 0 && offset + length <= size, `${length} bytes at ${offset} of ${size}`);
      return whole.read(offset, length);
    };
    const types = found({ size, read }).map(({ type }) => type);
    assertEquals(types, size < 2048 ? [] : ["ext2"]);
  }
});

test("an error of the disk is the caller's to see", [], () => {
  const error = new Error("EIO");
  let thrown: unknown;
  try {
    found({
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
