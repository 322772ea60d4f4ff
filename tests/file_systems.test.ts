/** What file systems' own tools make, beside what blkid says of it. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { mkdirSync, writeFileSync } from "node:fs";
import { attach, type FileSystem, fileSystem, LoopError, readPartitions } from "../mod.ts";
import { blkid, CASES, make, type Opinion } from "./support/file_system_cases.ts";
import { makeImage, output, scratch, testsOf, THREE_PARTITIONS } from "./support/support.ts";

const test = testsOf("file systems by their own tools are what blkid says", ["blkid"]);

/** blkid's words for what we call by other ones, or do not read. */
function asOurs(opinion: Opinion): Opinion {
  const { label: _, ...nameless } = opinion;
  // The label of NTFS is in a file.
  if (opinion.type === "ntfs") return nameless;
  return opinion.type === "swap" ? { ...opinion, usage: "swap" } : opinion;
}

for (const tool of new Set(CASES.map(({ tool }) => tool))) {
  const cases = CASES.filter((each) => each.tool === tool);
  test(
    `${cases.length} file systems by ${tool} are what blkid says, and no strange table`,
    [tool],
    async () => {
      for (const each of cases) {
        const { image, line } = make(each);
        const opinion = blkid(image);
        assertEquals(await fileSystem(image), { ...asOurs(opinion) } as FileSystem, line);
        assertEquals(opinion.type, each.type, line);
        // Some of these tools write an MBR, or a GPT, besides.
        const { kind } = await readPartitions(image);
        assert(["none", "mbr", "gpt"].includes(kind), `${line}: ${kind}`);
      }
    },
  );
}

const withRoot = testsOf("what is no file system, on a device", [
  "root",
  "blkid",
  "cryptsetup",
  "make-bcache",
  "mkswap",
  "pvcreate",
]);
const LUKS =
  "cryptsetup luksFormat -q --pbkdf-force-iterations 1000 --key-file /proc/sys/kernel/ostype";

for (
  const [type, usage, command, opens] of [
    ["crypto_LUKS", "crypto", `${LUKS} --type luks1`, "cryptsetup open DEVICE NAME"],
    ["LVM2_member", "raid", "pvcreate -q -ff -y", "vgchange -ay"],
    ["bcache", "other", "make-bcache -B", "echo DEVICE >/sys/fs/bcache/register"],
    ["swap", "swap", "mkswap -q", "swapon DEVICE"],
  ] as const
) {
  withRoot(`mount() says that it is ${type}, and what opens it`, [], async () => {
    await using loop = await attach(makeImage("container.img", 16));
    output([...command.split(" "), loop.path]);
    const { label: _, uuid, type: theirs } = blkid(loop.path);
    assertEquals(await loop.fileSystem(), { type, uuid, usage } as FileSystem);
    assertEquals(theirs, type);
    for (const options of [{}, { type: "ext4" }]) {
      const { message } = await assertRejects(() => loop.mount(undefined, options), LoopError);
      assertStringIncludes(message, `it holds ${type}: `);
      assertStringIncludes(message, opens.replace("DEVICE", loop.path));
    }
  });
}

test(
  "fileSystem() of a part of an image is that of the partition's device",
  ["root", "mkfs.ext4"],
  async () => {
    const image = makeImage("parts.img", 32, THREE_PARTITIONS);
    await using loop = await attach(image, { partscan: true });
    output(["mkfs.ext4", "-q", "-L", "two", loop.partitions[1].path]);
    for (const { number, start, size } of (await readPartitions(image)).partitions) {
      const found = await fileSystem(image, { offset: start, sizelimit: size });
      assertEquals(found, await loop.fileSystem(number));
      assertEquals(found?.label, number === 2 ? "two" : undefined);
    }
    assertEquals(await fileSystem(image), undefined);
    // A block device is as good.
    assertEquals((await fileSystem(loop.partitions[1].path))?.label, "two");
  },
);

test("an HFS+ in an Apple map has its type", ["xorriso"], async () => {
  const [tree, image] = [scratch("tree"), scratch("hfsplus.iso")];
  mkdirSync(tree);
  writeFileSync(`${tree}/file`, "file\n");
  output(["xorriso", "-as", "mkisofs", "-quiet", "-hfsplus", "-V", "BOTH", "-o", image, tree]);
  assertEquals((await fileSystem(image))?.type, "iso9660");
  const { partitions } = await readPartitions(image);
  const { start, size } = partitions.find(({ type }) => type === "Apple_HFS")!;
  const part = { offset: start, sizelimit: size };
  assertEquals(await fileSystem(image, part), { type: "hfsplus", usage: "filesystem" });
  const theirs = output(["blkid", "-p", "-O", `${start}`, "-S", `${size}`, "-o", "export", image]);
  assertStringIncludes(theirs, "TYPE=hfsplus\n");
});

test("the superblocks of two file systems are an error that names both", [
  "root",
  "mkfs.ext4",
  "mksquashfs",
], async () => {
  const [image, over, tree] = [makeImage("two.img", 16), scratch("over.img"), scratch("tree")];
  output(["mkfs.ext4", "-q", "-F", image]);
  mkdirSync(tree);
  writeFileSync(`${tree}/file`, "file\n");
  output(["mksquashfs", tree, over, "-noappend", "-quiet"]);
  // As one writes an image to a disk. A small squashfs ends before an ext4's superblock.
  output(["dd", `if=${over}`, `of=${image}`, "bs=512", "count=1", "conv=notrunc", "status=none"]);
  assertEquals(blkid(image).type, "ambivalent");
  await using loop = await attach(image);
  for (const asked of [() => fileSystem(image), () => loop.fileSystem(), () => loop.mount()]) {
    const { code, message } = await assertRejects(asked, LoopError);
    assertEquals(code, "EUCLEAN");
    assertStringIncludes(message, "the superblocks of ext4 and of squashfs");
  }
  await using _ = await loop.mount(undefined, { type: "ext4" });
});

test("fileSystem() refuses what is no disk yet, and bad options", ["qemu-img"], async () => {
  const [raw, made] = [makeImage("raw.img", 1), scratch("made.qcow2")];
  output(["qemu-img", "convert", "-O", "qcow2", raw, made]);
  const { code, message } = await assertRejects(() => fileSystem(made), LoopError);
  assertEquals(code, "EINVAL");
  assertStringIncludes(message, "it is a qcow2 image");
  assertEquals(await fileSystem(raw), undefined);
  const wrong: [object, new () => Error][] = [
    [{ offset: -1 }, RangeError],
    [{ offset: "0" }, TypeError],
    [{ sectorSize: 512 }, TypeError],
    [{ nonesuch: true }, TypeError],
  ];
  for (const [options, kind] of wrong) await assertRejects(() => fileSystem(raw, options), kind);
  const signal = AbortSignal.abort(new Error("enough"));
  await assertRejects(() => fileSystem(raw, { signal }), Error, "enough");
  const none = await assertRejects(() => fileSystem("/no/such.img"), LoopError);
  assertEquals([none.code, none.path], ["ENOENT", "/no/such.img"]);
});
