/** Tables that are neither GPT nor MBR, by the tools that write them, beside what partx makes of them. */
import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { attach, LoopError, type PartitionTable, readPartitions } from "../mod.ts";
import { readAmiga } from "../lib/table/amiga.ts";
import { readAtari } from "../lib/table/atari.ts";
import { readKarma, readSgi, readSun, readSysv68, readUltrix } from "../lib/table/labels.ts";
import { readMac } from "../lib/table/mac.ts";
import { runSteps, wanted } from "../lib/table/steps.ts";
import {
  assertDetached,
  makeImage,
  onThisRuntime,
  output,
  ROOT,
  run,
  sysfs,
  test,
  testsOf,
} from "./support/support.ts";

const withParted = testsOf("tables of other kinds by parted", ["parted"]);

type Row = [number: number, start: number, size: number];

/** Partitions in sectors of 512 bytes. */
const rows = ({ partitions }: PartitionTable): Row[] =>
  partitions.map(({ number, start, size }) => [number, start / 512, size / 512]);

/** What partx, which asks libblkid, says of a file. */
function partx(path: string): Row[] {
  const columns = ["--noheadings", "--output", "NR,START,SECTORS"];
  const lines = output(["partx", "--show", ...columns, path]).trim().split("\n");
  return lines.map((line) => line.trim().split(/\s+/).map(Number) as Row);
}

/** An image with a table and two partitions, of 16384 sectors from 4096 on and behind it. */
function byParted(label: string): string {
  const path = makeImage(`${label}.img`, 64);
  const make = label === "bsd" || label === "sun" ? ["ext2"] : ["primary", "ext2"];
  const first = ["mkpart", ...make, "4096s", "20479s"];
  const second = ["mkpart", ...make, "20480s", "36863s"];
  output(["parted", "--script", "--align", "none", path, "mklabel", label, ...first, ...second]);
  return path;
}

const TWO: Row[] = [[1, 4096, 16384], [2, 20480, 16384]];

/**
 * parted's labels: the kind, what the kernel makes of them, and whether libblkid knows them. Of Sun's it
 * leaves out the whole disk, which the kernel shows as 3, and an Amiga's it does not know.
 */
const LABELS: [label: string, kind: string, rows: Row[], byPartx: Row[] | undefined][] = [
  [
    "mac",
    "mac",
    [[1, 1, 63], [2, 4096, 16384], [3, 20480, 16384], [4, 64, 4032], [5, 36864, 94208]],
    [[1, 1, 63], [2, 4096, 16384], [3, 20480, 16384], [4, 64, 4032], [5, 36864, 94208]],
  ],
  ["bsd", "bsd", TWO, TWO],
  ["sun", "sun", [...TWO, [3, 0, 131072]], TWO],
  ["dvh", "sgi", [...TWO, [9, 0, 4096], [11, 0, 131072]], [
    ...TWO,
    [9, 0, 4096],
    [11, 0, 131072],
  ]],
  ["amiga", "amiga", TWO, undefined],
  ["atari", "atari", TWO, TWO],
];

for (const [label, kind, expected, byPartx] of LABELS) {
  withParted(`readPartitions() reads parted's ${label} with the kernel's numbers`, [
    "parted",
    "partx",
  ], async () => {
    const path = byParted(label);
    const table = await readPartitions(path);
    assertEquals([table.kind, rows(table)], [kind, expected]);
    if (byPartx) assertEquals(partx(path), byPartx);
    // In sectors of another size it is the same table; the Atari's is one of 512 bytes alone.
    const wide = await readPartitions(path, { sectorSize: 4096 });
    if (kind === "atari") assertEquals(wide.kind, "none");
    else assertEquals(rows(wide), expected);
  });
}

withParted("readPartitions() gives types and names as the table has them", ["parted"], async () => {
  const described = async (label: string) =>
    (await readPartitions(byParted(label))).partitions.slice(0, 2)
      .map(({ type, name, uuid }) => [type, name, uuid]);
  const mac = [["Apple_partition_map", "Apple"], ["Apple_UNIX_SVR2", "primary"]];
  assertEquals(await described("mac"), mac.map((row) => [...row, undefined]));
  assertEquals((await described("amiga"))[0], ["0x4c4e5800", "primary", undefined]);
  assertEquals((await described("atari"))[0], ["LNX", undefined, undefined]);
  assertEquals((await described("sun"))[0], ["0x83", undefined, undefined]);
});

const MBR = `label: dos
label-id: 0x1a2b3c4d
1: start=2048, size=4096, type=83
2: start=8192, size=81920, type=TYPE
3: start=90112, size=20480, type=5
4: start=112640, size=2048, type=83
5: start=92160, size=4096, type=83
`;
/** As the kernel shows it: an extended partition has 1 KiB. */
const PRIMARY: Row[] = [[1, 2048, 4096], [2, 8192, 81920], [3, 90112, 2], [4, 112640, 2048], [
  5,
  92160,
  4096,
]];

function withSlice(type: string): string {
  return makeImage("slices.img", 64, MBR.replace("TYPE", type));
}

/** Both views of an MBR; partx shows an extended partition whole. */
async function assertSlices(path: string, slices: readonly Row[]): Promise<void> {
  const table = await readPartitions(path);
  const expected = [...PRIMARY, ...slices];
  assertEquals([table.kind, rows(table)], ["mbr", expected]);
  const whole = (row: Row): Row => row[0] === 3 ? [3, 90112, 20480] : row;
  assertEquals(partx(path), expected.map(whole));
}

const withPartx = testsOf("readPartitions() reads slices as partx does", ["partx"]);

withPartx("readPartitions() numbers the BSD slices of an MBR's partition after the logical ones", [
  "fdisk",
], async () => {
  const path = withSlice("a5");
  const add = (letter: string, start: number, size: number) => ["n", letter, start, `+${size - 1}`];
  const type = (letter: string, type: number) => ["t", letter, type];
  const answers = [
    ...["b", "y", ...add("a", 8192, 8192), ...add("b", 16384, 4096), ...add("e", 20480, 2048)],
    ...[...type("a", 7), ...type("b", 1), ...type("e", 7), "w", "r", "w", ""],
  ];
  run(["fdisk", path], { input: answers.join("\n") });
  await assertSlices(path, [[6, 8192, 8192], [7, 16384, 4096], [8, 20480, 2048]]);
  const { partitions } = await readPartitions(path);
  assertEquals(partitions.slice(5).map(({ type, uuid }) => [type, uuid]), [
    ["0x7", undefined],
    ["0x1", undefined],
    ["0x7", undefined],
  ]);
  // FreeBSD counts from the slice's beginning where partition c begins at 0.
  const at = (sector: number) => 512 * (8192 + 1) + 148 + 16 * sector + 4;
  patch(path, at(2), le32(0));
  [8192, 8192 + 16384, 8192 + 20480].forEach((start, i) =>
    patch(path, at([0, 1, 4][i]), le32(start - 8192))
  );
  const relative = rows(await readPartitions(path)).slice(5);
  assertEquals(relative, [[6, 8192, 8192], [7, 24576, 4096], [8, 28672, 2048]]);
});

const le16 = (value: number) => [value & 0xff, value >>> 8 & 0xff];
const le32 = (value: number) => [...le16(value), ...le16(value >>> 16)];

function patch(path: string, offset: number, bytes: readonly number[]): void {
  const fd = openSync(path, "r+");
  writeSync(fd, Uint8Array.from(bytes), 0, bytes.length, offset);
  closeSync(fd);
}

const SLICE = 512 * 8192;

withPartx("readPartitions() reads the subpartitions of Minix", [], async () => {
  const path = withSlice("81");
  const entry = (start: number, size: number) => [
    ...[0, 0, 0, 0, 0x81, 0, 0, 0],
    ...le32(start),
    ...le32(size),
  ];
  patch(path, SLICE + 446, [...entry(8200, 100), ...entry(8400, 200)]);
  patch(path, SLICE + 510, [0x55, 0xaa]);
  await assertSlices(path, [[6, 8200, 100], [7, 8400, 200]]);
});

/** A slice of System V: tag, flags, start and size. */
const vtoc = (tag: number, start: number, size: number) => [
  ...le16(tag),
  ...le16(0),
  ...le32(start),
  ...le32(size),
];

withPartx("readPartitions() reads the slices of Solaris, not a Linux swap", [], async () => {
  const path = withSlice("82");
  await assertSlices(path, []);
  patch(path, SLICE + 512 + 12, [...le32(0x600ddeee), ...le32(1)]);
  patch(path, SLICE + 512 + 30, le16(16));
  patch(path, SLICE + 512 + 72, [...vtoc(2, 100, 1000), ...vtoc(0, 0, 0), ...vtoc(8, 2000, 500)]);
  await assertSlices(path, [[6, 8292, 1000], [7, 10192, 500]]);
});

/** libblkid knows it too, but looks for its magic number where it is not (29174 bytes in). */
test("readPartitions() reads the slices of UnixWare", [], async () => {
  const path = withSlice("63");
  patch(path, SLICE + 512 * 29 + 4, le32(0xca5e600d));
  patch(path, SLICE + 512 * 29 + 156, le32(0x600ddeee));
  patch(path, SLICE + 512 * 29 + 216, [
    ...vtoc(5, 8192, 81920),
    ...vtoc(2, 8300, 1000),
    ...vtoc(0, 0, 0),
    ...vtoc(4, 9400, 600),
  ]);
  const expected = [...PRIMARY, [6, 8300, 1000], [7, 9400, 600]];
  assertEquals(rows(await readPartitions(path)), expected);
});

withPartx("readPartitions() reads Ultrix's table", [], async () => {
  const path = makeImage("ultrix.img", 16);
  patch(path, 16384 - 72, [
    ...[...le32(0x032957), ...le32(1)],
    ...[...le32(1000), ...le32(64), ...le32(0), ...le32(0), ...le32(500), ...le32(2000)],
  ]);
  const table = await readPartitions(path);
  assertEquals([table.kind, rows(table)], ["ultrix", [[1, 64, 1000], [3, 2000, 500]]]);
  assertEquals(partx(path), rows(table));
});

test("readPartitions() reads the tables of Rio's Karma and of Motorola", [], async () => {
  const karma = makeImage("karma.img", 16);
  patch(karma, 510, le16(0xab56));
  assertEquals((await readPartitions(karma)).kind, "none", "a magic number without a partition");
  patch(karma, 270 + 4, [0x4d, 0, 0, 0, ...le32(64), ...le32(100)]);
  patch(karma, 286 + 4, [0x4c, 0, 0, 0, ...le32(200), ...le32(100)]);
  const read = await readPartitions(karma);
  assertEquals([read.kind, rows(read)], ["karma", [[1, 64, 100]]]);

  const motorola = makeImage("sysv68.img", 16);
  patch(motorola, 248, [..."MOTOROLA"].map((letter) => letter.charCodeAt(0)));
  patch(motorola, 384, [0, 0, 0, 2, 0, 3]);
  patch(motorola, 1024, [0, 0, 1, 0, 0, 0, 0, 64, 0, 0, 0, 32, 0, 0, 4, 0, 0, 0, 128, 0]);
  const slices = await readPartitions(motorola);
  assertEquals([slices.kind, rows(slices)], ["sysv68", [[1, 64, 256], [2, 1024, 32]]]);
});

const ascii = (text: string) => [...text].map((letter) => letter.charCodeAt(0));

withParted("readPartitions() takes a wrong checksum for no table", ["parted"], async () => {
  for (const label of ["sun", "dvh", "amiga"]) {
    const path = byParted(label);
    // A word within the label; the Amiga's is in the third sector.
    patch(path, label === "amiga" ? 1024 + 0x40 : 0x24, [1]);
    assertEquals((await readPartitions(path)).kind, "none", label);
  }
});

withParted("readPartitions() reads a BSD disklabel in the second sector, with its checksum", [
  "parted",
], async () => {
  const label = readFileSync(byParted("bsd")).subarray(64, 64 + 148 + 16 * 8);
  const path = makeImage("bsdlabel.img", 64);
  const words = new Uint16Array(Uint8Array.from(label).buffer);
  words[136 / 2] = 0;
  words[136 / 2] = words.reduce((sum, word) => sum ^ word, 0);
  patch(path, 512, [...new Uint8Array(words.buffer)]);
  const table = await readPartitions(path);
  assertEquals([table.kind, rows(table)], ["bsd", TWO]);
  patch(path, 512 + 40, [1]);
  assertEquals((await readPartitions(path)).kind, "none");
});

withParted("readPartitions() takes a half label for none", ["parted"], async () => {
  const bsd = byParted("bsd");
  patch(bsd, 64 + 132, le32(0));
  assertEquals((await readPartitions(bsd)).kind, "none");
  const ultrix = makeImage("ultrix.img", 16);
  patch(ultrix, 16384 - 72, [...le32(0x032957), ...le32(2), ...le32(1000), ...le32(64)]);
  assertEquals((await readPartitions(ultrix)).kind, "none");
  const motorola = makeImage("sysv68.img", 16);
  patch(motorola, 248, ascii("MOTOROLA"));
  patch(motorola, 384, [0xff, 0xff, 0xff, 0xff, 0, 3]);
  assertEquals((await readPartitions(motorola)).kind, "none");
  const unixware = withSlice("63");
  patch(unixware, SLICE + 512 * 29 + 4, le32(0xca5e600d));
  assertEquals(rows(await readPartitions(unixware)), PRIMARY);
  const pc98 = withSlice("83");
  patch(pc98, 4, ascii("IPL1"));
  assertEquals(rows(await readPartitions(pc98)), PRIMARY);
});

withParted("readPartitions() gives a Sun's partitions types if its VTOC is sane", [
  "parted",
], async () => {
  const path = byParted("sun");
  const [version, nparts, sanity] = [128, 140, 188];
  const typesWith = async (...patches: [at: number, bytes: number[]][]) => {
    patch(path, version, [0, 0, 0, 0]);
    patch(path, nparts, [0, 0]);
    patch(path, sanity, [0, 0, 0, 0]);
    for (const [at, bytes] of patches) patch(path, at, bytes);
    const label = readFileSync(path).subarray(0, 512);
    const half = (at: number) => label.readUInt16BE(at);
    const sum = Array.from({ length: 255 }, (_, i) => half(2 * i)).reduce((a, b) => a ^ b, 0);
    patch(path, 510, [sum >> 8, sum & 0xff]);
    return (await readPartitions(path)).partitions.map(({ type }) => type !== undefined);
  };
  assertEquals(await typesWith(), [true, true, true]);
  assertEquals(await typesWith([sanity, [1, 2, 3, 4]]), [false, false, false]);
  assertEquals(await typesWith([version, [0, 0, 0, 1]]), [false, false, false]);
  assertEquals(await typesWith([nparts, [0, 3]]), [false, false, false]);
});

withParted("readPartitions() follows no block of an Amiga's beyond any disk", [
  "parted",
], async () => {
  const path = byParted("amiga");
  const label = readFileSync(path).subarray(0, 512 * 16);
  const at = label.indexOf("RDSK");
  const word = (n: number) => label.readUInt32BE(at + 4 * n);
  const longs = word(1) & 0x7f;
  label.writeUInt32BE(0xfffffe00, at + 16);
  label.writeInt32BE(0x7fffffff, at + 28);
  label.writeUInt32BE(0, at + 8);
  const sum = Array.from({ length: longs }, (_, i) => word(i)).reduce((a, b) => a + b, 0);
  label.writeUInt32BE((2 ** 32 - sum % 2 ** 32) % 2 ** 32, at + 8);
  patch(path, at, [...label.subarray(at, at + 512)]);
  assertEquals(rows(await readPartitions(path)), []);
});

withParted("readPartitions() takes MS-DOS before the tables that the kernel looks for later", [
  "parted",
], async () => {
  const path = byParted("mac");
  patch(path, 446, [0, 0, 0, 0, 0x83, 0, 0, 0, ...le32(64), ...le32(64)]);
  patch(path, 510, [0x55, 0xaa]);
  const table = await readPartitions(path);
  assertEquals([table.kind, rows(table)], ["mbr", [[1, 64, 64]]]);
});

/** Disks that are known by their magic alone: what is written where, and the name in the message. */
const UNREADABLE: [name: string, [offset: number, bytes: readonly number[]][]][] = [
  ["a dynamic disk of Windows (LDM)", [
    [446, [0, 0, 0, 0, 0x42, 0, 0, 0, ...le32(63), ...le32(9000)]],
    [510, [0x55, 0xaa]],
    [6 * 512, ascii("PRIVHEAD")],
  ]],
  ["an AIX disk", [[0, [0xc9, 0xc2, 0xd4, 0xc1]]]],
  ["an AIX disk", [
    [0, [0xc9, 0xc2, 0xd4, 0xc1]],
    [446, [0, 0, 0, 0, 0x41, 0, 0, 0, ...le32(63), ...le32(9000)]],
    [510, [0x55, 0xaa]],
  ]],
  ["a PC-98's", [[4, ascii("IPL1")], [510, [0x55, 0xaa]]]],
  ["an IBM mainframe's (DASD)", [[1024, [0xe5, 0xd6, 0xd3, 0xf1]]]],
  ["an Acorn's (ICS)", [[508, le32(0x50617274)]]],
  ["an Acorn's (EESOX)", [[
    7 * 512,
    ascii("Eesox\0").map((c, i) => c ^ "Neil Critchell".charCodeAt(i)),
  ]]],
];

for (const [name, patches] of UNREADABLE) {
  test(`${name} is refused by name, and attaches without partscan`, ["root"], async () => {
    const path = makeImage("unreadable.img", 16);
    for (const [offset, bytes] of patches) patch(path, offset, bytes);
    const attempts = [
      () => readPartitions(path),
      () => attach(path, { partscan: true }),
      () => attach(path, { partscan: "userspace" }),
    ];
    for (const attempt of attempts) {
      const error = await assertRejects(attempt, LoopError);
      assertEquals([error.code, error.path], ["EMEDIUMTYPE", path]);
      assertStringIncludes(error.message, name);
      assertStringIncludes(error.message, "without partscan");
    }
    assertDetached(path);
    await using loop = await attach(path);
    assertEquals(loop.size, 16 * 2 ** 20);
    const refused = await assertRejects(() => loop.rescan(), LoopError);
    assertStringIncludes(refused.message, name);
  });
}

const LINUX: [offset: number, bytes: readonly number[]][] = [
  [446, [0, 0, 0, 0, 0x83, 0, 0, 0, ...le32(63), ...le32(9000)]],
  [510, [0x55, 0xaa]],
];
const VOL1 = [0xe5, 0xd6, 0xd3, 0xf1];
/** What has the mark of such a table, and is none. */
const ALIKE: [kind: string, [offset: number, bytes: readonly number[]][]][] = [
  ["mbr", [...LINUX, [6 * 512, ascii("PRIVHEAD")]]],
  ["mbr", [...LINUX, [450, [0x42]], [6 * 512, ascii("PRIVATE!")]]],
  ["none", [[6 * 512, ascii("PRIVHEAD")]]],
  ["mbr", [...LINUX, [0, [0xc9, 0xc2, 0xd4, 0xc1]]]],
  ["mbr", [...LINUX, [4, ascii("IPL1")]]],
  ["none", [[4, ascii("IPL1")]]],
  ["mbr", [...LINUX, [1024, VOL1]]],
  // In a block of 2048 bytes.
  ["none", [[2048, VOL1]]],
  ["none", [[508, le32(0x50617275)]]],
  ["none", [[7 * 512, ascii("EesoX").map((c, i) => c ^ "Neil Critchell".charCodeAt(i))]]],
];

test("readPartitions() takes no disk for another machine's by half of its mark", [], async () => {
  for (const [i, [kind, patches]] of ALIKE.entries()) {
    const path = makeImage(`alike${i}.img`, 16);
    for (const [offset, bytes] of patches) patch(path, offset, bytes);
    assertEquals((await readPartitions(path, { sectorSize: 512 })).kind, kind, `${i}`);
  }
});

withParted("parted's pc98 is refused by name", ["parted"], async () => {
  const path = makeImage("pc98.img", 64);
  output(["parted", "--script", path, "mklabel", "pc98"]);
  const error = await assertRejects(() => readPartitions(path), LoopError);
  assertStringIncludes(error.message, "a PC-98's");
});

withParted("partitions.ts obeys no type of an Apple map", ["parted"], () => {
  const path = byParted("mac");
  patch(path, 1024 + 48, ascii("\x1b[31mHFS\0"));
  const { stdout } = run(onThisRuntime(join(ROOT, "examples/partitions.ts"), path));
  assertStringIncludes(stdout, "\\u001b[31mHFS");
  assertEquals(stdout.includes("\x1b"), false);
});

withParted("attach() shows partitions of an Apple map, whether or not the kernel reads them", [
  "root",
  "parted",
], async () => {
  const path = byParted("mac");
  for (const partscan of [true, "userspace"] as const) {
    await using loop = await attach(path, { partscan });
    const shown = loop.partitions.map(({ number, start, size, path: node }) => {
      const dir = `loop${loop.number}/${node.slice("/dev/".length)}`;
      assertEquals([start / 512, size / 512], [
        Number(sysfs(`${dir}/start`)),
        Number(sysfs(`${dir}/size`)),
      ]);
      return [number, start / 512, size / 512];
    });
    assertEquals(shown, LABELS[0][2]);
  }
});

test("each reader of a label finds nothing on an empty disk, or on one of a few bytes", [], () => {
  const readers = [
    readAmiga,
    readAtari,
    readKarma,
    readMac,
    readSgi,
    readSun,
    readSysv68,
    readUltrix,
  ];
  for (const size of [0, 2 ** 16]) {
    const disk = new Uint8Array(size);
    const read = (offset: number, length: number) => disk.subarray(offset, offset + length);
    const stepped = { size, sectorSize: 512, read: wanted };
    const found = readers.map((reader) => runSteps(reader(stepped), read));
    assertEquals(found, readers.map(() => undefined));
  }
});
