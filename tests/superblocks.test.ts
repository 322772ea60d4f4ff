/** What is a superblock and what is none: made by hand, without any tool. */
import { assert, assertEquals } from "@std/assert";
import { crc32 } from "../lib/base/checksums.ts";
import { type FileSystem, findFileSystems } from "../lib/superblocks/file_systems.ts";
import type { Image } from "../lib/table/disk.ts";
import { sizeSteps } from "../lib/superblocks/sizes.ts";
import { runSteps, wanted } from "../lib/table/steps.ts";
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

test(
  "a disc's longest name counts, and an offset alone makes a date",
  [],
  () => {
    const descriptor = (n: number, type: string) =>
      [0x8000 + 0x800 * n, `${type}CD001\x01`] as [number, string];
    const supplementary = Array.from({ length: 40 }, (_, n) => descriptor(n + 1, "\x02"));
    const made = disk(descriptor(0, "\x01"), ...supplementary, [0x8800 + 0x58, "%/E"], [
      0x8800 + 0x28,
      "\0a\0b",
    ], [0x833e, "0".repeat(16) + "\x04"]);
    assertEquals(found(made).map(({ label, uuid }) => [label, uuid]), [[
      "ab",
      "0000-00-00-00-00-00-00",
    ]]);
  },
);

test("a disc's label is put together of its two descriptors, as blkid does", [], () => {
  const wide = (text: string) =>
    Uint8Array.from({ length: 2 * text.length }, (_, i) => {
      const unit = text.charCodeAt(i >> 1);
      return i % 2 === 0 ? unit >> 8 : unit;
    });
  const label = (primary: string, joliet: string) =>
    found(disk(
      [0x8000, "\x01CD001\x01"],
      [0x8028, primary.padEnd(32)],
      [0x8800, "\x02CD001\x01"],
      [0x8858, "%/E"],
      [0x8828, wide(joliet.padEnd(16, joliet.includes("\0") ? "\0" : " "))],
    ))[0].label;
  const cases: [primary: string, joliet: string, label?: string][] = [
    ["WIN_PRO_X64_GERMAN_DISC", "Win Pro x64 Germ", "Win Pro x64 GermAN_DISC"],
    ["a/b", "a_b", "a/b"],
    ["_pfel und Birnen", "Äpfel und Birnen", "Äpfel und Birnen"],
    ["lower", "LOWER", "lower"],
    ["X_ and more than sixteen", "X\ud834\udd1e and more tha", "X\u{1d11e} and more than sixteen"],
    ["XX and more than sixteen", "X\ud834\udd1e and more tha", "X\u{1d11e} and more tha"],
    ["ANOTHER NAME THAT IS LONGER", "a name", "a name"],
    ["\xc3\x84pfel", "_pfel", "_pfel"],
    ["a name", "a\0", "a"],
    ["a_name", "a\0", "a"],
    ["NAME", "\0"],
    ["", "  "],
  ];
  for (const [primary, joliet, expected] of cases) {
    assertEquals(label(primary, joliet), expected, `${primary} ${joliet}`);
  }
});

test("a UDF has its names at its anchor, in a block of its size, or none", [], () => {
  const volume: [number, string][] = [[0x8001, "BEA01"], [0x8801, "NSR02"], [0x9001, "TEA01"]];
  const tag = (block: number, kind: number): [number, Uint8Array | string] => [
    block * 512,
    Uint8Array.from([...le(kind, 2), ...new Uint8Array(10), ...le(block, 4)]),
  ];
  const anchor = tag(256, 2);
  const parts: [number, Uint8Array | string][] = [
    ...volume,
    anchor,
    [256 * 512 + 16, le(3 * 512, 4)],
    [256 * 512 + 20, le(300, 4)],
    ...[tag(300, 1), tag(301, 6), tag(302, 8)],
  ];
  const names = (...more: [number, Uint8Array | string][]) =>
    found(disk(...parts, ...more)).map(({ label, uuid }) => [label, uuid])[0];
  const [set, label] = [300 * 512 + 0x48, 301 * 512 + 0x54];
  const dstring = (at: number, text: string): [number, string][] => [[at, text], [
    at + 0x7f,
    String.fromCharCode(text.length),
  ]];
  assertEquals(names(), [undefined, undefined]);
  assertEquals(names(...dstring(label, "\x08disc")), ["disc", undefined]);
  assertEquals(names(...dstring(label, "\x10\0d")), ["d", undefined]);
  assertEquals(names(...dstring(set, "\x080123ABCDxyz!0123")), [undefined, "0123abcd78797a21"]);
  assertEquals(names(...dstring(set, "\x080123abcd01234567")), [undefined, "0123abcd01234567"]);
  assertEquals(names(...dstring(set, "\x08no digits")), [undefined, "6e6f206469676974"]);
  assertEquals(names(...dstring(set, "\x08few")), [undefined, undefined]);
  const short = new SparseDisk(256 * 512 + 100, 512);
  for (const [at, bytes] of volume) short.write(at, latin1(bytes));
  assertEquals(found(short), []);
});

test(
  "a FAT with a field that fat_read_bpb() refuses is none; its serial and name have marks",
  [],
  () => {
    const fat = (...more: [number, Uint8Array | string][]) => found(disk(...FAT16, ...more))[0];
    const wrong: [number, number, number][] = [
      ...[[0xb, 2, 0], [0xb, 2, 768], [0xb, 2, 256], [0xb, 2, 8192], [0xd, 1, 3]] as const,
      ...[[0x16, 2, 0], [0x11, 2, 3], [0x13, 2, 70]] as const,
    ].map((field) => [...field]);
    for (const [at, length, value] of wrong) assertEquals(fat([at, le(value, length)]), undefined);
    assertEquals(fat([0x26, "\x28"]).uuid, "1234-ABCD");
    assertEquals(fat([0x26, "\x00"]).uuid, undefined);
    assertEquals(fat([(4 + 64) * 512 + 32, "\x05"]).label, "\udce5\udc9aRICH");
    assertEquals(fat([(4 + 64) * 512 + 32 + 11, "\x00"]).label, undefined);
  },
);

/** A directory of three clusters of 512 bytes, of which the last has the entry. */
const spread = (table: number, heap: number, entry: string): [number, Uint8Array | string][] => {
  const [first, second, third] = [2, 9, 4];
  const at = (cluster: number) => heap + (cluster - 2) * 512;
  const files = ("FILE       \x20" + "x".repeat(20)).repeat(16);
  return [
    [table + 4 * first, le(second, 4)],
    [table + 4 * second, le(third + 0xa0000000, 4)],
    [table + 4 * third, le(0xffffffff, 4)],
    [at(first), files],
    [at(second), files],
    [at(third), `${files.slice(0, 32)}${entry}`],
  ];
};

test("a label behind the first cluster of a root directory counts", [], () => {
  const FAT32: [number, Uint8Array | string][] = [
    ...FAT16,
    [0xd, le(1, 1)],
    [0x11, le(0, 2)],
    [0x16, le(0, 2)],
    [0x24, le(32, 4)],
    [0x2c, le(2, 4)],
    [0x43, "\xcd\xab\x34\x12NO NAME    FAT32   "],
  ];
  const label = (...more: [number, Uint8Array | string][]) => found(disk(...more))[0].label;
  const [table, heap] = [4 * 512, (4 + 64) * 512];
  const fat = spread(table, heap, "LATE LABEL \x08");
  assertEquals(label(...FAT32, ...fat), "LATE LABEL");
  // The end of the directory, of the table, and of the disk; and clusters without end.
  assertEquals(label(...FAT32, ...fat, [heap + 32, "\0"]), undefined);
  for (const next of [0, 1, 32 * 512 / 4, 0x0fffffff, 0x0ffffff7, 2]) {
    assertEquals(label(...FAT32, ...fat, [table + 8, le(next, 4)]), undefined);
  }
  assertEquals(label(...FAT32, ...fat, [0x2c, le(0xffffffff, 4)]), undefined);

  const exfat = (clusters: number): [number, Uint8Array | string][] => [
    [3, "EXFAT   "],
    [0x50, le(24, 4)],
    [0x58, le(64, 4)],
    [0x5c, le(clusters, 4)],
    [0x60, le(2, 4)],
    [0x6c, "\x09\0"],
  ];
  const late = spread(24 * 512, 64 * 512, "\x83\x02l\0b\0");
  const whole: [number, Uint8Array | string] = [24 * 512 + 4 * 9, le(4, 4)];
  assertEquals(label(...exfat(100), ...late, whole), "lb");
  // All 32 bits count.
  assertEquals(label(...exfat(100), ...late), undefined);
  assertEquals(label(...exfat(7), ...late, whole), undefined);
  for (const bits of ["\x08\0", "\x0d\0", "\x09\x11"]) {
    assertEquals(label(...exfat(100), ...late, whole, [0x6c, bits]), undefined);
  }
});

test("an ext2 with a feature of ext3's is none without its journal", [], () => {
  assertEquals(found(disk(...EXT2, [1024 + 0x60, le(4, 4)])), []);
  assertEquals(found(disk(...EXT2, [1024 + 0x5c, le(4, 4)])).map(({ type }) => type), ["ext3"]);
});

test("sizeSteps() reads the size of an ext of any width, and none of what cannot grow", [], () => {
  const size = (type: string, ...more: [number, Uint8Array | string][]) => {
    const made = disk(...EXT2, ...more);
    return runSteps(
      sizeSteps({ size: made.size, read: wanted }, type),
      (at, length) => made.read(at, length),
    );
  };
  assertEquals(size("ext2"), { size: MIB, block: 1024 });
  const high = 2 ** 32 * 1024 + MIB;
  assertEquals(size("ext4", [1024 + 0x60, le(0x80, 4)], [1024 + 0x150, le(1, 4)])?.size, high);
  assertEquals(size("vfat"), undefined);
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
