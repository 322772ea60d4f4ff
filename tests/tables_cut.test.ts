/** GPTs whose disk has lost its end: what is said of them, and whether what is said helps. */
import { assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { crc32 } from "node:zlib";
import { attach, LoopError, readPartitions } from "../mod.ts";
import { HEADER, type Header, HEADER_BYTES, put, seal } from "./cases/gpt.ts";
import {
  assertDetached,
  makeImage,
  output,
  scratch,
  test,
  THREE_PARTITIONS,
} from "./support/support.ts";

const MIB = 2 ** 20;

async function refusal(attempt: () => Promise<unknown>): Promise<string> {
  const error = await assertRejects(attempt, LoopError);
  assertEquals(error.code, "EUCLEAN");
  return error.message;
}

/** The command at the end of a message. */
const commandIn = (message: string) => /truncate -s .*(?=\)$)/.exec(message)![0];

for (const sectorSize of [512, 4096]) {
  test(`the command in the message repairs a cut-off GPT of ${sectorSize}-byte sectors`, [
    "root",
  ], async () => {
    const file = makeImage("it's cut off.img", 8, THREE_PARTITIONS, sectorSize);
    const whole = await readPartitions(file);
    // Two partitions are in what is left; as genimage leaves it without a backup, all three.
    for (const size of [5 * MIB, 7 * MIB + 4096]) {
      const asked = { partscan: true, sectorSize: "auto" } as const;
      for (const attempt of [() => readPartitions(file), () => attach(file, asked)]) {
        truncateSync(file, size);
        const message = await refusal(attempt);
        assertStringIncludes(message, `its GPT is made for a disk of ${8 * MIB} bytes`);
        assertDetached(file);
        output(["sh", "-c", commandIn(message)]);
        const repaired = await readPartitions(file);
        assertEquals([repaired.header, repaired.partitions], ["primary", whole.partitions]);
        await using loop = await attach(file, asked);
        const places = loop.partitions.map(({ number, start, size }) => [number, start, size]);
        assertEquals(
          places,
          whole.partitions.map(({ number, start, size }) => [
            number,
            start,
            size,
          ]),
        );
      }
    }
  });
}

test("a cut-off GPT within a file: the command counts from the file's beginning", [], async () => {
  const offset = 12_345;
  const image = readFileSync(makeImage("disk.img", 8, THREE_PARTITIONS));
  const file = scratch("inside.img");
  writeFileSync(file, new Uint8Array([...new Uint8Array(offset), ...image.subarray(0, 6 * MIB)]));
  const message = await refusal(() => readPartitions(file, { offset }));
  assertEquals(commandIn(message), `truncate -s ${offset + 8 * MIB} ${file}`);
  output(["sh", "-c", commandIn(message)]);
  assertEquals((await readPartitions(file, { offset })).partitions.length, 3);
});

test("a GPT that sizelimit cuts off asks for a larger one", [], async () => {
  const file = makeImage("limited.img", 8, THREE_PARTITIONS);
  const message = await refusal(() => readPartitions(file, { sizelimit: 6 * MIB }));
  const sizelimit = Number(/sizelimit of (\d+), or none/.exec(message)![1]);
  assertEquals(sizelimit, 8 * MIB);
  for (const options of [{ sizelimit }, {}]) {
    assertEquals((await readPartitions(file, options)).partitions.length, 3);
  }
});

test("rescan() says how a device with a cut-off GPT gets its partitions", ["root"], async () => {
  const file = makeImage("device.img", 8, THREE_PARTITIONS);
  truncateSync(file, 6 * MIB);
  await using loop = await attach(file);
  const message = await refusal(() => loop.rescan());
  assertStringIncludes(message, `${8 * MIB} bytes`);
  truncateSync(file, 8 * MIB);
  await loop.setCapacity();
  await loop.rescan();
  assertEquals(loop.partitions.map(({ name }) => name), ["one", "zwei ü", "three"]);
  // A larger file is of no use to a device that may not grow.
  await using limited = await attach(file, { sizelimit: 6 * MIB });
  const says = await refusal(() => limited.rescan());
  const sizelimit = Number(/attach it with a sizelimit of (\d+), or none; no p/.exec(says)![1]);
  await using wider = await attach(file, { partscan: true, sizelimit });
  assertEquals(wider.partitions.length, 3);
});

test("a cut-off GPT on a block device asks for a larger one", ["root"], async () => {
  const file = makeImage("smaller.img", 8, THREE_PARTITIONS);
  await using loop = await attach(file, { sizelimit: 6 * MIB });
  const message = await refusal(() => readPartitions(loop.path));
  assertStringIncludes(message, "copy it to a device that is large enough");
});

/** Writes a header's field, and its checksum. */
function spoil(file: string, fields: Partial<Header>): void {
  const image = new Uint8Array(readFileSync(file));
  for (const at of [512, image.length - 512]) {
    const header = image.subarray(at, at + HEADER_BYTES);
    put(header, HEADER, fields);
    seal(header);
  }
  writeFileSync(file, image);
}

test("a GPT that cannot be right is refused with the value that is wrong", [], async () => {
  const wrong: [Partial<Header>, string][] = [
    [{ num_partition_entries: 32769 }, "it has 32769 entries; the most are 32768"],
    [{ num_partition_entries: 0xffffffff }, "it has 4294967295 entries"],
    [{ sizeof_partition_entry: 256 }, "an entry has 256 bytes"],
    [{ last_usable_lba: 2n ** 64n - 1n }, "sectors up to 18446744073709551615 can be used"],
    [{ first_usable_lba: 9n, last_usable_lba: 8n }, "sectors 9 to 8 can be used"],
    [{ partition_entry_array_crc32: 1 }, "the checksum of its GPT's entries is wrong"],
    [{ partition_entry_lba: 2n ** 40n }, "it ends before the entries of its GPT do"],
  ];
  for (const [fields, message] of wrong) {
    const file = makeImage("wrong.img", 8, THREE_PARTITIONS);
    spoil(file, fields);
    assertStringIncludes(await refusal(() => readPartitions(file)), message);
  }
});

/** What mkpart of a tool with larger entries leaves: both copies, sound by the specification. */
function widenEntries(file: string, size: number): void {
  const image = new Uint8Array(readFileSync(file));
  const sectors = image.length / 512;
  const old = image.slice(1024, 1024 + 128 * 128);
  const entries = new Uint8Array(32 * size);
  for (let i = 0; i < 32; i++) entries.set(old.subarray(i * 128, i * 128 + 128), i * size);
  const backup = sectors - 33;
  for (const [at, array] of [[1, 2], [sectors - 1, backup]]) {
    image.fill(0, array * 512, (array + 32) * 512);
    image.set(entries, array * 512);
    const header = image.subarray(at * 512, at * 512 + HEADER_BYTES);
    put(header, HEADER, {
      ...{ num_partition_entries: 32, sizeof_partition_entry: size },
      partition_entry_array_crc32: crc32(entries),
    });
    seal(header);
  }
  writeFileSync(file, image);
}

test("the message for entries of another size names what keeps the partitions", [
  "sfdisk",
], async () => {
  const file = makeImage("wide.img", 8, THREE_PARTITIONS);
  const before = await readPartitions(file);
  widenEntries(file, 256);
  const message = await refusal(() => readPartitions(file));
  assertMatch(message, /the kernel cannot read its GPT: .* 256 bytes; sfdisk --dump DISK >table/);
  const [dump, write] = message.match(/sfdisk (--dump DISK >table|DISK <table)/g)!;
  const shell = (command: string) =>
    output(["sh", "-c", `cd "$1" && ${command.replace("DISK", "wide.img")}`, "sh", dirname(file)]);
  shell(dump);
  shell(write);
  assertEquals(await readPartitions(file), before);
  spoil(file, { sizeof_partition_entry: 100 });
  assertMatch(await refusal(() => readPartitions(file)), /damaged or cut off .*100 bytes/);
});
