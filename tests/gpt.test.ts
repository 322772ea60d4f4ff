import { assertEquals, assertThrows } from "@std/assert";
import { closeSync, ftruncateSync, openSync, writeSync } from "node:fs";
import { encodeGpt, type NewPartition } from "../gpt.ts";
import { readPartitions } from "../mod.ts";
import { output, scratch, test } from "./support/support.ts";

const MIB = 2 ** 20;
const SIZE = 4 * MIB;
const LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4";
const ESP = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
const ZERO = "00000000-0000-0000-0000-000000000000";
const PARTITIONS: NewPartition[] = [
  { start: MIB, size: MIB, type: ESP, name: "x".repeat(36) },
  { number: 128, start: 2 * MIB, size: MIB, type: LINUX, name: "zwei ü" },
];

const one = { start: MIB, size: MIB, type: LINUX };

function writeImage(sectorSize: number): string {
  const path = scratch(`gpt-${sectorSize}.img`);
  const fd = openSync(path, "w+");
  ftruncateSync(fd, SIZE);
  for (const { offset, bytes } of encodeGpt(SIZE, PARTITIONS, { sectorSize })) {
    writeSync(fd, bytes, 0, bytes.length, offset);
  }
  closeSync(fd);
  return path;
}

test("encodeGpt() makes what readPartitions() reads, for every sector size", [], async () => {
  for (const sectorSize of [512, 1024, 2048, 4096]) {
    const table = await readPartitions(writeImage(sectorSize));
    assertEquals([table.kind, table.sectorSize, table.header], ["gpt", sectorSize, "primary"]);
    assertEquals(
      table.partitions.map(({ number, start, size, type, name }) => [
        ...[number, start, size, type, name],
      ]),
      PARTITIONS.map(({ number = 1, start, size, type, name }) => [
        ...[number, start, size, type, name],
      ]),
    );
  }
});

test("encodeGpt() makes what sfdisk finds no fault with", ["sfdisk"], () => {
  assertEquals(output(["sfdisk", "--verify", writeImage(512)]).includes("No errors"), true);
});

test(
  "encodeGpt() writes names beyond the BMP whole, as sfdisk reads them",
  ["sfdisk"],
  async () => {
    const names = ["💾 root", "💾".repeat(18), "a\u{10ffff}b"];
    const path = scratch("names.img");
    const fd = openSync(path, "w+");
    ftruncateSync(fd, 8 * MIB);
    const partitions = names.map((name, i) => ({ ...one, start: (i + 1) * MIB, name }));
    for (const { offset, bytes } of encodeGpt(8 * MIB, partitions)) {
      writeSync(fd, bytes, 0, bytes.length, offset);
    }
    closeSync(fd);
    assertEquals((await readPartitions(path)).partitions.map(({ name }) => name), names);
    const read = JSON.parse(output(["sfdisk", "--json", path])).partitiontable.partitions;
    assertEquals(read.map(({ name }: { name: string }) => name), names);
  },
);

test("encodeGpt() takes undefined for a name or number that is left out", [], () => {
  const bare = encodeGpt(SIZE, [one]);
  const same = encodeGpt(SIZE, [{ ...one, name: undefined, number: undefined }]);
  // Without the unique GUID of the entry.
  const entry = (pieces: typeof bare) => [
    ...pieces[2].bytes.subarray(0, 16),
    ...pieces[2].bytes.subarray(32),
  ];
  assertEquals(entry(same), entry(bare));
});

const WRONG: [arguments: unknown[], message: string][] = [
  [[SIZE + 1, []], "size 4194305 is no whole number of 512-byte sectors"],
  [[512, []], "size 512 leaves no room for a partition; a GPT needs 34816 bytes"],
  [["4 MiB", []], "size must be a number of bytes"],
  [[SIZE, [], { sectorSize: 513 }], "sectorSize must be one of"],
  [[SIZE, [], { sectorsize: 512 }], "unknown option 'sectorsize'"],
  [[SIZE, [{ ...one, start: MIB + 1 }]], "start 1048577 is no whole number"],
  [[SIZE, [{ ...one, start: 0 }]], "this disk has room from 17408 to 4177408"],
  [[SIZE, [{ ...one, size: 0 }]], "partition 1 has start 1048576 and size 0"],
  [[SIZE, [{ ...one, size: 3 * MIB }]], "this disk has room"],
  [[SIZE, [{ ...one, type: "83" }]], 'type must be a GUID, not "83"'],
  [[SIZE, [{ ...one, name: "x".repeat(37) }]], "has 37 UTF-16 units"],
  [[SIZE, [{ ...one, name: "a\0b" }]], "contains a NUL"],
  [[SIZE, [{ ...one, number: 129 }]], "number must be a whole number from 1 to 128"],
  [[SIZE, [one, { ...one, start: 1.5 * MIB }]], "partitions 1 and 2 overlap"],
  [[SIZE, [one, { ...one, number: 1, start: 2 * MIB }]], "two partitions have the same number"],
  [[SIZE, [{ ...one, lable: "root" }]], "unknown key 'lable' of a partition; its keys are name, "],
  [[SIZE, [null]], "a partition must be an object, not null"],
  [[SIZE, "one"], 'partitions must be an array, not "one"'],
  [[SIZE, [{ ...one, type: ZERO }]], `type ${ZERO} means that a partition is not in use`],
  [[SIZE, [{ ...one, type: 5 }]], "type must be a GUID, not 5"],
  [[SIZE, [{ ...one, name: 5 }]], "name must be a string, not 5"],
  // A character beyond the BMP has two units.
  [[SIZE, [{ ...one, name: "💾".repeat(19) }]], "has 38 UTF-16 units; at most 36 fit"],
  [[SIZE, [{ ...one, name: "x".repeat(35) + "💾" }]], "has 37 UTF-16 units; at most 36 fit"],
  [[SIZE, [{ ...one, name: "💾".slice(0, 1) }]], "is not valid Unicode"],
];

test("encodeGpt() names what it cannot make a table of", [], () => {
  for (const [given, message] of WRONG) {
    assertThrows(() => encodeGpt(...given as Parameters<typeof encodeGpt>), Error, message);
  }
});
