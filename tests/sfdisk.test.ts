/** What sfdisk says of the same images, and of hybrid ones by xorriso. */
import { assert, assertEquals } from "@std/assert";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { attach, type PartitionTable, readPartitions, type SectorSize } from "../mod.ts";
import { gptTypeName } from "../lib/table/gpt_types.ts";
import { mbrTypeName } from "../lib/table/mbr_types.ts";
import { makeImage, output, scratch, testsOf, withSectorSize } from "./support/support.ts";

const withSfdisk = testsOf("readPartitions() and attach() see what sfdisk sees", ["sfdisk"]);

/** sfdisk's names for attribute bits; others are "GUID:60,63". */
const ATTRIBUTES: Record<string, number> = {
  RequiredPartition: 0,
  NoBlockIOProtocol: 1,
  LegacyBIOSBootable: 2,
};

/** The table as sfdisk reads it, without the names of types, which it does not print as JSON. */
function sfdisk(path: string, sectorSize: number): ReturnType<typeof withoutNames> {
  const json = withSectorSize(path, sectorSize, (disk) => output(["sfdisk", "--json", disk]));
  const { label, id, partitions } = JSON.parse(json).partitiontable;
  const isGpt = label === "gpt";
  return {
    kind: isGpt ? "gpt" : "mbr",
    sectorSize,
    ...isGpt ? { header: "primary" } : {},
    uuid: isGpt ? id.toLowerCase() : id.slice(2),
    // deno-lint-ignore no-explicit-any
    partitions: partitions.map(({ node, start, size, type, uuid, name, attrs, bootable }: any) => {
      const number = Number(/\d+$/.exec(node)![0]);
      const bits = (attrs ?? "").split(/[ ,]+/).filter(Boolean);
      const extended = !isGpt && ["5", "f", "85"].includes(type);
      return {
        number,
        start: start * sectorSize,
        // The kernel shows an extended partition as 1 KiB, or one sector if that is more.
        size: extended ? Math.max(1024, sectorSize) : size * sectorSize,
        ...isGpt
          ? {
            type: type.toLowerCase(),
            uuid: uuid.toLowerCase(),
            name: name ?? "",
            attributes: bits.map((bit: string) =>
              ATTRIBUTES[bit] ?? Number(bit.replace("GUID:", ""))
            ),
          }
          : {
            type: `0x${type}`,
            uuid: `${id.slice(2)}-${number.toString(16).padStart(2, "0")}`,
            attributes: bootable ? [7] : [],
          },
      };
    }),
  };
}

const withoutNames = (table: PartitionTable) => ({
  ...table,
  partitions: table.partitions.map(({ typeName: _, ...rest }) => rest),
});

const GPT = `label: gpt
label-id: 01234567-89AB-CDEF-0123-456789ABCDEF
size=1MiB, type=U, name=esp, attrs="RequiredPartition,LegacyBIOSBootable"
size=2MiB, type=4f68bce3-e8cd-4db1-96e7-fbcaf984b709, name="root ü", attrs="GUID:60,GUID:63"
7: size=1MiB, type=00000000-0000-0000-0000-000000000001
`;

const MBR = `label: dos
label-id: 0x1a2b3c4d
size=1MiB, type=c, bootable
size=5MiB, type=5
size=1MiB, type=82
size=1MiB, type=83
type=72
`;

/** An image that sfdisk itself has formatted. */
function formatted(name: string, mib: number, table: string, sectorSize: number): string {
  const path = makeImage(name, mib);
  withSectorSize(path, sectorSize, (disk) => {
    output(["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", disk], { input: table });
  });
  return path;
}

for (const sectorSize of [512, 2048, 4096]) {
  withSfdisk(
    `readPartitions() reads GPT and MBR of ${sectorSize}-byte sectors as sfdisk does`,
    ["sfdisk", "losetup", "root"],
    async () => {
      const gpt = formatted("gpt.img", 8, GPT, sectorSize);
      const table = await readPartitions(gpt);
      assertEquals(withoutNames(table), sfdisk(gpt, sectorSize));
      assertEquals(
        table.partitions.map(({ number, typeName }) => [number, typeName]),
        [[1, "EFI System"], [2, "Linux root (x86-64)"], [7, undefined]],
      );
      assertEquals(table.partitions.map(({ attributes }) => attributes), [[0, 2], [60, 63], []]);

      const mbr = formatted("mbr.img", 16, MBR, sectorSize);
      const chain = await readPartitions(mbr, { sectorSize: sectorSize as SectorSize });
      assertEquals(withoutNames(chain), sfdisk(mbr, sectorSize));
      const names = ["W95 FAT32 (LBA)", "Extended", "Linux swap / Solaris", "Linux", undefined];
      assertEquals(
        chain.partitions.map(({ typeName }) => typeName).toSorted(),
        [...names].toSorted(),
      );
      if (sectorSize === 512) assertEquals(await readPartitions(mbr), chain);
    },
  );
}

withSfdisk("readPartitions() takes a block device's own sectors for the unit of its MBR", [
  "sfdisk",
  "losetup",
  "root",
], async () => {
  const file = formatted("device.img", 16, MBR, 4096);
  await using loop = await attach(file, { sectorSize: 4096, partscan: true });
  const table = await readPartitions(loop.path);
  assertEquals(table, await readPartitions(file, { sectorSize: 4096 }));
  assertEquals(table.sectorSize, 4096);
  const part = await readPartitions(loop.partitions[0].path);
  assertEquals([part.kind, part.partitions], ["none", []]);
});

const TABLE = (sectorSize: number) =>
  `label: gpt
label-id: 00000000-0000-0000-0000-00000000${sectorSize}
size=2MiB, name="for ${sectorSize}"
`;

withSfdisk('attach() with "auto" finds the last table of a disk that sfdisk formatted twice', [
  "root",
  "losetup",
  "sfdisk",
], async () => {
  for (const first of [512, 2048, 4096]) {
    for (const second of [512, 2048, 4096].filter((size) => size !== first)) {
      const file = makeImage("twice.img", 8, TABLE(first), first);
      withSectorSize(file, second, (disk) => {
        const quiet = ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--wipe", "never"];
        output([...quiet, disk], { input: TABLE(second) });
      });
      await using loop = await attach(file, { partscan: true, sectorSize: "auto" });
      const found = [loop.sectorSize, ...loop.partitions.map(({ name }) => name)];
      assertEquals(found, [second, `for ${second}`], `first for ${first}`);
    }
  }
});

withSfdisk("attach() reads a hybrid ISO image by xorriso as sfdisk does", [
  "root",
  "sfdisk",
  "xorriso",
], async () => {
  const [file, folder] = [scratch("hybrid.iso"), scratch("files")];
  mkdirSync(folder);
  writeFileSync(join(folder, "file"), "contents");
  writeFileSync(scratch("esp.img"), new Uint8Array(2 ** 20));
  const hybrid = ["-partition_offset", "16", "-appended_part_as_gpt"];
  const esp = ["-append_partition", "2", "0xef", scratch("esp.img")];
  output(["xorriso", "-as", "mkisofs", "-o", file, "-r", "-V", "T", ...hybrid, ...esp, folder]);
  const { partitions } = JSON.parse(output(["sfdisk", "--json", file])).partitiontable;
  for (const sectorSize of [undefined, "auto"] as const) {
    await using loop = await attach(file, { partscan: true, sectorSize, readOnly: true });
    const found = loop.partitions.map(({ start, size, name }) => ({ start, size, name }));
    // deno-lint-ignore no-explicit-any
    const expected = partitions.map(({ start, size, name }: any) => ({
      start: start * 512,
      size: size * 512,
      name,
    }));
    assertEquals([loop.sectorSize, found], [512, expected]);
  }
});

/** "id name" lines of `sfdisk --list-types`. */
function sfdiskTypes(label: string): [id: string, name: string][] {
  const lines = output(["sfdisk", "--label", label, "--list-types"]).trim().split("\n").slice(2);
  return lines.map((line) => {
    const [, id, name] = /^ *(\S+) +(.*)$/.exec(line)!;
    return [id.toLowerCase(), name];
  });
}

withSfdisk("typeName is sfdisk's name of the type", ["sfdisk"], () => {
  const types = sfdiskTypes("gpt");
  const known = types.filter(([guid]) => gptTypeName(guid) !== undefined);
  // A newer sfdisk may know more than we do.
  assert(types.length - known.length < 20, `${types.length - known.length} are missing`);
  // Two operating systems share the first; sfdisk named one of them, then both.
  const shared = "6a898cc3-1dd2-11b2-99a6-080020736631";
  const other = known.filter(([guid, name]) => gptTypeName(guid) !== name && guid !== shared);
  assertEquals(other, []);
  const ids = sfdiskTypes("dos");
  assert(ids.length > 90);
  assertEquals(ids.filter(([id, name]) => mbrTypeName(parseInt(id, 16)) !== name), []);
  assertEquals([gptTypeName(""), mbrTypeName(0x72)], [undefined, undefined]);
});
