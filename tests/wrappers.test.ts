/** Images that are no disks yet, made by their own tools: each is named, and the remedy that is named works. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync, writeSync } from "node:fs";
import { basename, dirname } from "node:path";
import { attach, attachAll, fileSystem, LoopError, readPartitions } from "../mod.ts";
import { findWrapper } from "../lib/superblocks/wrappers.ts";
import { runSteps } from "../lib/table/steps.ts";
import { ext4Image } from "./support/mount_image.ts";
import {
  assertDetached,
  losetup,
  makeImage,
  type Need,
  onThisRuntime,
  output,
  ROOT,
  run,
  scratch,
  test,
  testsOf,
  THREE_PARTITIONS,
} from "./support/support.ts";

/** What makes `made` of `raw`, both names in the working directory. */
interface Case {
  readonly name: string;
  readonly says: string;
  readonly needs: readonly Need[];
  make(raw: string, made: string): void;
}

const tool = (
  says: string,
  name: string,
  needs: Need[],
  command: (raw: string, made: string) => string,
): Case => ({
  name,
  says,
  needs,
  make: (raw, made) => output(["sh", "-c", command(raw, made)], { cwd: dirname(raw) }),
});
const qemu = (says: string, format: string, options = "") =>
  tool(
    says,
    `qemu-img ${format} ${options}`.trim(),
    ["qemu-img"],
    (raw, made) => `qemu-img convert -O ${format} ${options} ${raw} ${made}`,
  );
const packed = (name: string, command = name) =>
  tool(`compressed by ${name}`, command, [name], (raw, made) => `${command} -c <${raw} >${made}`);

const CASES: readonly Case[] = [
  qemu("a qcow2 image", "qcow2"),
  qemu("a qcow2 image", "qcow2", "-c -o compat=0.10,cluster_size=512"),
  qemu("a qcow image", "qcow"),
  qemu("a QED image", "qed"),
  qemu("a VMDK image", "vmdk"),
  qemu("a VMDK image", "vmdk", "-o subformat=streamOptimized"),
  qemu("the description of a VMDK image", "vmdk", "-o subformat=twoGbMaxExtentFlat"),
  qemu("a VDI image", "vdi"),
  qemu("a VHDX image", "vhdx"),
  qemu("a VHD image", "vpc"),
  qemu("a Parallels image", "parallels"),
  packed("xz"),
  packed("xz", "xz --check=sha256 -0"),
  packed("gzip"),
  tool("compressed by gzip", "gzip NAME", ["gzip"], (raw, made) => `gzip -kc ${raw} >${made}`),
  packed("zstd", "zstd -q"),
  packed("zstd", "zstd -q -19 --no-check"),
  packed("bzip2"),
  packed("lz4", "lz4 -q"),
  packed("lz4", "lz4 -q -B4 -BD --content-size"),
  tool("a zip archive", "zip", ["zip"], (raw, made) => `zip -q - ${basename(raw)} >${made}`),
  tool("a 7z archive", "7zz", ["7zz"], (raw, made) => `7zz a -bd -t7z ${made} ${raw}`),
  ...["gnu", "ustar", "pax"].map((format) =>
    tool(
      "a tar archive",
      `tar ${format}`,
      ["tar"],
      (raw, made) => `tar --format=${format} -cf ${made} ${basename(raw)}`,
    )
  ),
  tool(
    "an Android sparse image",
    "img2simg",
    ["img2simg", "simg2img"],
    (raw, made) => `img2simg ${raw} ${made}`,
  ),
  { name: "a made dmg", says: "an Apple disk image", needs: ["qemu-img"], make: makeDmg },
];

/** Apple's UDIF, whose trailer and table of chunks are big-endian: one chunk, stored as it is. */
function makeDmg(raw: string, made: string): void {
  const data = readFileSync(raw);
  const table = new DataView(new ArrayBuffer(204 + 2 * 40));
  table.setUint32(0, 0x6d697368);
  table.setUint32(200, 2);
  const chunk = (at: number, type: number, sector: number, count: number, length: number) => {
    table.setUint32(at, type);
    table.setBigUint64(at + 8, BigInt(sector));
    table.setBigUint64(at + 16, BigInt(count));
    table.setBigUint64(at + 32, BigInt(length));
  };
  const sectors = data.length / 512;
  chunk(204, 1, 0, sectors, data.length);
  chunk(244, 0xffffffff, sectors, 0, 0);
  const base64 = btoa(String.fromCharCode(...new Uint8Array(table.buffer)));
  const plist = new TextEncoder().encode(`<plist><data>${base64}</data></plist>`);
  const trailer = new DataView(new ArrayBuffer(512));
  trailer.setUint32(0, 0x6b6f6c79);
  trailer.setUint32(4, 4);
  trailer.setUint32(8, 512);
  trailer.setBigUint64(0x20, BigInt(data.length));
  trailer.setBigUint64(0xd8, BigInt(data.length));
  trailer.setBigUint64(0xe0, BigInt(plist.length));
  trailer.setBigUint64(0x1ec, BigInt(sectors));
  const pad = new Uint8Array((512 - plist.length % 512) % 512);
  writeFileSync(made, data);
  for (const part of [plist, pad, new Uint8Array(trailer.buffer)]) {
    writeFileSync(made, part, { flag: "a" });
  }
}

/** Four MiB: nothing that is known, zeros, and something again. */
function rawDisk(): string {
  const raw = makeImage("inner", 4);
  const fd = openSync(raw, "r+");
  for (const at of [0, 3 * 1024 * 1024]) {
    const bytes = Uint8Array.from({ length: 64 * 1024 }, (_, i) => i * 7 + (i >> 8) + 1);
    writeSync(fd, bytes, 0, bytes.length, at);
  }
  closeSync(fd);
  return raw;
}

const withTools = testsOf("what is no disk yet, by its tools", [
  ...new Set<Need>(["root", "mkfs.ext4", ...CASES.flatMap(({ needs }) => needs)]),
]);

for (const { name, says, needs, make } of CASES) {
  withTools(`what is no disk yet is named: ${name}`, ["root", ...needs], async () => {
    const raw = rawDisk();
    const made = scratch("made.img");
    make(raw, made);
    const refusals = [
      () => attach(made, { partscan: true }),
      () => attach(made, { partscan: "userspace", overlap: "reuse" }),
      () => attachAll([made], { partscan: true }),
      () => readPartitions(made),
    ];
    for (const refused of refusals) {
      const error = await assertRejects(refused, LoopError);
      assertEquals([error.code, error.path], ["EINVAL", made]);
      assertStringIncludes(error.message, `it is ${says}`);
      assertStringIncludes(error.message, "convert it first (");
      assertDetached(made);
    }
    {
      await using loop = await attach(made);
      assertEquals(await loop.fileSystem(), undefined);
      const error = await assertRejects(() => loop.mount(), LoopError);
      assertStringIncludes(error.message, `it is ${says}`);
      assert(!error.message.includes("mkfs"), error.message);
    }
    const { message } = await assertRejects(() => readPartitions(made), LoopError);
    const command = /convert it first \((.+?)\), and/.exec(message)![1];
    // An archive gives the files by their names.
    mkdirSync(scratch("out"));
    const result = command.includes("DISK") ? scratch("out/disk") : scratch("out/inner");
    output(["sh", "-c", command.replace("FILE", made).replace("DISK", result)], {
      cwd: dirname(result),
    });
    const [got, wanted] = [readFileSync(result), readFileSync(raw)];
    // A cylinder more: VHD has no other sizes.
    assert(got.subarray(0, wanted.length).equals(wanted), command);
  });
}

withTools("losetup -P attaches what is no disk yet, with a warning", ["root", "qemu-img"], () => {
  const raw = rawDisk();
  const made = scratch("made.qcow2");
  output(["qemu-img", "convert", "-O", "qcow2", raw, made]);
  const cli = onThisRuntime(`${ROOT}cli.ts`);
  const { status, stdout, stderr } = run([...cli, "-fP", "--show", made]);
  assertEquals(status, 0, stderr);
  const device = stdout.trim();
  try {
    assertEquals(losetup(made).map(({ name }) => name), [device]);
    assertStringIncludes(stderr, `${made}: Warning: no partitions are shown; it is a qcow2 image`);
  } finally {
    output([...cli, "-d", device]);
  }
});

withTools("a disk is none of them, whatever it begins with", ["root", "mkfs.ext4"], async () => {
  const gzip = Uint8Array.of(0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3);
  const begin = (file: string) => {
    const fd = openSync(file, "r+");
    writeSync(fd, gzip, 0, gzip.length, 0);
    closeSync(fd);
    return file;
  };
  const bare = begin(makeImage("bare.img", 1));
  await assertRejects(() => attach(bare, { partscan: true }), LoopError, "compressed by gzip");
  // A file system's superblock, and a partition table, are stronger.
  const ext4 = begin(ext4Image("ext4.img"));
  const gpt = begin(makeImage("gpt.img", 8, THREE_PARTITIONS));
  for (const [file, count] of [[ext4, 0], [gpt, 3]] as const) {
    await using loop = await attach(file, { partscan: true });
    assertEquals(loop.partitions.length, count);
    assertEquals((await readPartitions(file)).partitions.length, count);
  }
  assertEquals(await fileSystem(gpt), undefined);
  // Behind the header of a container the disk begins.
  await using loop = await attach(bare, { partscan: true, offset: 4096 });
  assertEquals(loop.partitions, []);
});

test("a magic string alone is not taken for more", [], () => {
  const magics: [at: number, magic: string][] = [
    [0, "QFI\xfb"],
    [0, "KDMV"],
    [0, "conectix"],
    [0, "vhdxfile"],
    [0, "<<< "],
    [0, "BZh9"],
    [0, "\xfd7zXZ\0"],
    [0, "7z\xbc\xaf\x27\x1c"],
    [0, "PK\x03\x04"],
    [0, "\x04\x22\x4d\x18"],
    [0, "\x3a\xff\x26\xed"],
    [257, "ustar\x0000"],
    [1024 * 1024 - 512, "koly"],
  ];
  for (const [at, magic] of magics) {
    const bytes = new Uint8Array(1024 * 1024);
    bytes.set(Uint8Array.from(magic, (c) => c.charCodeAt(0)), at);
    const read = (offset: number, length: number) => bytes.subarray(offset, offset + length);
    assertEquals(runSteps(findWrapper(bytes.length), read), undefined, JSON.stringify(magic));
    // Of a file that ends before what else there must be.
    const size = 64 * 1024;
    if (at <= size) {
      assertEquals(runSteps(findWrapper(size), read), undefined, JSON.stringify(magic));
    }
  }
});

/** Bytes at offsets. */
type Bytes = readonly (readonly [at: number, bytes: readonly number[]])[];

const text = (letters: string) => [...letters].map((letter) => letter.charCodeAt(0));
const GZIP = [0x1f, 0x8b, 8];
/** What begins as a wrapper and goes on as none does. */
const CHANCE: readonly [name: string, bytes: Bytes][] = [
  ["QED with clusters of 3 bytes", [[0, text("QED\0")], [4, [3]]]],
  ["Parallels of version 9", [[0, text("WithoutFreeSpace")], [16, [9]]]],
  ["xz with a reserved flag", [[0, [0xfd, ...text("7zXZ\0")]], [6, [1]]]],
  ["gzip with reserved flags", [[0, GZIP], [3, [0xe0]]]],
  ["gzip of a system that there is not", [[0, GZIP], [9, [20]]]],
  ["bzip2 of level 0", [[0, text("BZh0")]]],
  ["zip of version 6.4", [[0, [...text("PK"), 3, 4, 64]]]],
  ["7z of version 1", [[0, [...text("7z"), 0xbc, 0xaf, 0x27, 0x1c, 1]]]],
];

test("findWrapper() takes no disk for a wrapper that begins like one by chance", [], () => {
  for (const [name, bytes] of CHANCE) {
    const disk = new Uint8Array(4096);
    for (const [at, some] of bytes) disk.set(some, at);
    const read = (offset: number, length: number) => disk.subarray(offset, offset + length);
    assertEquals(runSteps(findWrapper(disk.length), read), undefined, name);
  }
});
