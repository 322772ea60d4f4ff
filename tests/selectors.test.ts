/** Which partition is meant: by number, or by what tells it from the others. */
import { assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { truncateSync } from "node:fs";
import process from "node:process";
import {
  attach,
  LoopError,
  type Partition,
  type PartitionSelector,
  readPartitions,
} from "../mod.ts";
import { DPS_NAMES } from "../lib/base/selector.ts";
import { listPartitions, selectPartition } from "../lib/mount/select.ts";
import type { FileSystem } from "../lib/superblocks/file_systems.ts";
import { discover, discoverable } from "../lib/table/dps.ts";
import { makeImage, output, test, testsOf } from "./support/support.ts";

const ROOT_X86_64 = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709";
const ROOT_ARM64 = "b921b045-1df0-41c3-af44-4c6f280d3fae";
const NATIVE = process.arch === "arm64" ? ROOT_ARM64 : ROOT_X86_64;
const FOREIGN = process.arch === "arm64" ? ROOT_X86_64 : ROOT_ARM64;
const ESP = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";

/** An ESP, roots of two architectures, and two partitions with one name and one label. */
async function diskOfFive(): Promise<string> {
  const file = makeImage(
    "five.img",
    16,
    `label: gpt
size=1MiB, type=${ESP}, name=boot
size=2MiB, type=${FOREIGN}, name=foreign
size=2MiB, type=${NATIVE}, name="native root"
size=2MiB, name=data
size=2MiB, name=data
`,
  );
  const labels = [undefined, undefined, "system", "same", "same"];
  for (const { number, start } of (await readPartitions(file)).partitions) {
    const label = labels[number - 1];
    if (label === undefined) continue;
    const uuid = ["-U", `00000000-0000-4000-8000-00000000000${number}`];
    const offset = ["-E", `offset=${start}`];
    output(["mkfs.ext4", "-q", "-b", "1024", "-L", label, ...uuid, ...offset, file, "2048"]);
  }
  return file;
}

const withExt4 = testsOf("selectors", ["root", "mkfs.ext4"]);

withExt4("LoopDevice.partition() lists what was skipped, too", [], async () => {
  const table = "label: dos\n1: start=2048, size=5MiB\n2: start=4096, size=1MiB\n";
  await using loop = await attach(makeImage("skipped.img", 8, table), { partscan: "userspace" });
  assertEquals(loop.skipped.map(({ number }) => number), [2]);
  const { message } = await assertRejects(() => loop.partition({ label: "x" }), LoopError);
  assertMatch(message, /none of its partitions has the label "x".*\n +1 .*\n +2 /s);
});

withExt4("LoopDevice.partition() finds the one that a selector means", [], async () => {
  const file = await diskOfFive();
  await using loop = await attach(file, { partscan: true });
  const { uuid } = loop.partitions[1];
  const cases: [PartitionSelector, number][] = [
    [4, 4],
    [{ name: "native root" }, 3],
    [{ label: "system" }, 3],
    [{ uuid: "00000000-0000-4000-8000-000000000005" }, 5],
    [{ partuuid: uuid!.toUpperCase() }, 2],
    [{ type: "esp" }, 1],
    [{ type: "root" }, 3],
    [{ type: FOREIGN.toUpperCase() }, 2],
  ];
  for (const [selector, number] of cases) {
    assertEquals((await loop.partition(selector)).number, number, JSON.stringify(selector));
  }
  await using mounted = await loop.mount({ label: "system" });
  assertEquals([mounted.partition, mounted.device], [3, loop.partitions[2].path]);
  assertEquals((await loop.fileSystem({ type: "root" }))?.label, "system");
});

withExt4("a selector that matches none or several lists what there is", [], async () => {
  const file = await diskOfFive();
  await using loop = await attach(file, { partscan: true });
  const none = await assertRejects(() => loop.mount({ label: "Data\n" }), LoopError);
  assertEquals(none.code, "ENXIO");
  const [first, ...lines] = none.message.split("\n");
  assertStringIncludes(first, 'none of its partitions has the label "Data\\n"');
  assertEquals(lines.slice(0, 2), [
    "  NUMBER  TYPE                 NAME         HOLDS  LABEL   UUID                                  SIZE",
    "  1       EFI System           boot                                                              1048576",
  ]);
  assertMatch(
    lines[3],
    /^ {2}3 +Linux root \(\S+\) +native root +ext\d +system +0{8}-\S+ +2097152$/,
  );
  assertEquals(lines.length, 6);
  // A byte is an MBR's type, and none of a GPT's.
  const byte = loop.partition({ type: "83" });
  await assertRejects(() => byte, LoopError, 'none of its partitions has the type "83"');
  for (const selector of [{ name: "data" }, { label: "same" }]) {
    const several = await assertRejects(() => loop.fileSystem(selector), LoopError);
    assertEquals(several.code, "EINVAL");
    assertStringIncludes(several.message, "the partitions 4 and 5 have the ");
    assertEquals(several.message.split("\n").length, 7);
  }
});

withExt4("a partition that cannot be read keeps no other from being found", [], async () => {
  const file = await diskOfFive();
  await using loop = await attach(file, { partscan: true, readOnly: true });
  // Behind the file's end the loop driver answers EIO.
  truncateSync(file, loop.partitions[3].start);
  assertEquals((await loop.partition({ name: "native root" })).number, 3);
  assertEquals((await loop.partition({ label: "system" })).number, 3);
  const { message } = await assertRejects(() => loop.partition({ label: "same" }), LoopError);
  assertMatch(message, /\n {2}4 +Linux filesystem +data +unreadable: EIO +2097152\n/);
});

test("selectPartition() takes only what the system refuses for unreadable", [], async () => {
  const wrong = new TypeError("no refusal");
  const partitions = [{ number: 1, size: 512 }] as Partition[];
  const from = { partitions, path: "/x", whyNone: "", contentOf: () => Promise.reject(wrong) };
  assertEquals(await selectPartition({ label: "x" }, from).catch((error) => error), wrong);
});

test("a selector on a device without partitions says what to do", ["root"], async () => {
  await using loop = await attach(makeImage("bare.img", 1));
  const { code, message } = await assertRejects(() => loop.mount({ name: "x" }), LoopError);
  assertEquals(code, "ENXIO");
  assertStringIncludes(message, 'no partition with the name "x": it was attached without partscan');
});

test("MBR's partitions are selected by their byte", ["root"], async () => {
  const table = "label: dos\nsize=1MiB, type=c\nsize=1MiB, type=82\nsize=1MiB, type=83\n";
  await using loop = await attach(makeImage("mbr.img", 8, table), { partscan: true });
  const numberOf = async (type: string) => (await loop.partition({ type })).number;
  for (const type of ["0x83", "83", "0X83"]) assertEquals(await numberOf(type), 3);
  assertEquals([await numberOf("0x0C"), await numberOf("c"), await numberOf("swap")], [1, 1, 2]);
});

test("listPartitions() leaves out what no partition has, and says what cannot be read", [], () => {
  const lines = (partition: object, content: FileSystem[] | string, key?: string) =>
    listPartitions(
      [{ partition: { number: 1, size: 512, ...partition } as Partition, content }],
      key,
    );
  assertEquals(lines({}, "EIO"), ["NUMBER  HOLDS            SIZE", "1       unreadable: EIO  512"]);
  const named = { type: "0x83", typeName: "Linux", name: "n", uuid: "u" };
  const holds = [{ type: "ext4", label: "l", uuid: "e", usage: "filesystem" }] as FileSystem[];
  assertEquals(lines(named, holds)[0], "NUMBER  TYPE   NAME  HOLDS  LABEL  UUID  SIZE");
  assertEquals(
    lines(named, holds, "type")[0],
    "NUMBER  TYPE   ID    NAME  HOLDS  LABEL  UUID  SIZE",
  );
  assertEquals(lines(named, [], "partuuid")[0], "NUMBER  TYPE   NAME  PARTUUID  SIZE");
  assertEquals(lines({ type: "0x83" }, [], "partuuid")[1], "1       0x83  512");
});

test("what is no selector is a TypeError or RangeError", ["root"], async () => {
  await using loop = await attach(makeImage("bare.img", 1), { partscan: true });
  const wrong: [unknown, typeof TypeError, string][] = [
    [0, RangeError, "a whole number from 1"],
    ["root", TypeError, '{ label: "data" }'],
    [null, TypeError, "not null"],
    [{}, TypeError, "one of name, label, uuid, partuuid, type; this has none"],
    [{ name: "a", label: "b" }, TypeError, "this has name and label"],
    [{ number: 1 }, TypeError, "unknown key 'number' of a partition"],
    [{ label: "" }, TypeError, 'not ""'],
    [{ label: 7 }, TypeError, "not 7"],
    [{ type: "boot" }, TypeError, "root, usr, esp, xbootldr, home, srv, var, tmp, swap"],
  ];
  for (const [selector, Kind, says] of wrong) {
    for (const verb of ["mount", "fileSystem", "partition"] as const) {
      const call = () => loop[verb](selector as number);
      const { message } = await assertRejects<Error>(call, Kind);
      assertStringIncludes(message, says);
    }
  }
  await assertRejects(() => loop.partition(undefined as unknown as number), TypeError);
});

test(
  "discover() prefers the machine's architecture, then that which it runs, else takes all",
  [],
  () => {
    const root = (...architectures: string[]) =>
      architectures.map((name) => ({ typeName: `Linux root (${name})` }));
    const found = (machine: string, ...architectures: string[]) =>
      discover(root(...architectures), "root", machine).map(({ typeName }) =>
        typeName.slice(12, -1)
      );
    assertEquals(found("x86_64", "ARM-64", "x86", "x86-64"), ["x86-64"]);
    assertEquals(found("x86_64", "ARM-64", "x86"), ["x86"]);
    assertEquals(found("aarch64", "ARM", "x86-64"), ["ARM"]);
    assertEquals(found("x86_64", "RISC-V-64"), ["RISC-V-64"]);
    assertEquals(found("x86_64", "ARM", "RISC-V-64"), ["ARM", "RISC-V-64"]);
    assertEquals(found("riscv64", "ARM", "RISC-V-64"), ["ARM", "RISC-V-64"]);
    const verity = [
      { typeName: "Linux root verity (x86-64)" },
      { typeName: "Linux root verity sign. (x86-64)" },
    ];
    assertEquals(DPS_NAMES.flatMap((name) => discover(verity, name, "x86_64")), []);
    assertEquals(verity.map((one) => discoverable(one)?.verity), ["hash", "signature"]);
  },
);
