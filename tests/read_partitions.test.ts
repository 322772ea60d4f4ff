/** readPartitions() beside sfdisk, beside attach(), and where there is neither root nor device. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import {
  chmodSync,
  closeSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { attach, LoopError, readPartitions, type ReadPartitionsOptions } from "../mod.ts";
import { SECTOR_SIZES, type SectorSize } from "../lib/table/sectors.ts";
import type { SparseDisk } from "./cases/sparse_disk.ts";
import { makeCase } from "./cases/table_cases.ts";
import { gptImage, START } from "./cases/gpt_image.ts";
import { putEntries } from "./cases/mbr.ts";
import {
  assertDetached,
  makeImage,
  MOD,
  onThisRuntime,
  output,
  ROOT,
  run,
  scratch,
  test,
  THREE_PARTITIONS,
} from "./support/support.ts";

const MIB = 1024 * 1024;

/** Exactly the keys there are, so that a table's partition and attach()'s can be compared. */
async function attached(file: string, options: ReadPartitionsOptions) {
  await using loop = await attach(file, { ...options, partscan: "userspace", readOnly: true });
  return loop.partitions.map(({ path: _, ...rest }) => rest);
}

/** The same with those that BLKPG refuses beside others, as the kernel's own parsers do not. */
async function attachedOrSkipped(file: string, options: ReadPartitionsOptions) {
  await using loop = await attach(file, { ...options, partscan: "userspace", readOnly: true });
  const skipped = loop.skipped.map(({ reason, offset, sizelimit, ...rest }) => {
    assertEquals([offset, sizelimit], [rest.start, rest.size]);
    // Most tables count in sectors of 512 bytes: what BLKPG refuses in larger ones is told.
    const sectorSize = Number(/within a sector of (\d+) bytes$/.exec(reason)?.[1]);
    if (sectorSize) {
      const isWithin = rest.start % sectorSize !== 0 || rest.size % sectorSize !== 0;
      assert(isWithin && sectorSize === loop.sectorSize, reason);
      return rest;
    }
    const other = Number(/^it overlaps partition (\d+)$/.exec(reason)?.[1]);
    const { start, size } = loop.partitions.find(({ number }) => number === other)!;
    assert(start < rest.start + rest.size && rest.start < start + size, reason);
    return rest;
  });
  const partitions = loop.partitions.map(({ path: _, ...rest }) => rest);
  return [...partitions, ...skipped].sort((a, b) => a.number - b.number);
}

/** The value, or the code of the error. */
async function orCode<T>(promise: Promise<T>): Promise<T | string> {
  try {
    return await promise;
  } catch (error) {
    if (error instanceof LoopError) return error.code;
    throw error;
  }
}

test("readPartitions() gives what attach() gives, for every sector size", ["root"], async () => {
  for (const sectorSize of SECTOR_SIZES) {
    for (const header of ["primary", "backup"] as const) {
      const file = scratch("each.img");
      writeFileSync(file, gptImage([{ sectorSize, header }]));
      const table = await readPartitions(file);
      assertEquals([table.sectorSize, table.header], [sectorSize, header]);
      assertEquals(table.partitions.length, 1);
      assertEquals(await attached(file, { sectorSize }), [...table.partitions]);
      assertEquals(await attached(file, { sectorSize: "auto" }), [...table.partitions]);
      for (const wrong of SECTOR_SIZES.filter((size) => size !== sectorSize)) {
        assertEquals(await orCode(attached(file, { sectorSize: wrong })), "EMEDIUMTYPE");
        assertEquals(await orCode(readPartitions(file, { sectorSize: wrong })), "EMEDIUMTYPE");
      }
    }
  }
});

function writeSparse(path: string, disk: SparseDisk): void {
  const fd = openSync(path, "w");
  ftruncateSync(fd, disk.size);
  for (const { offset, bytes } of disk.written()) writeSync(fd, bytes, 0, bytes.length, offset);
  closeSync(fd);
}

test("readPartitions() gives what attach() gives, of 100 torture tables", ["root"], async () => {
  const tally = { equal: 0, refused: 0, overlapping: 0 };
  const file = scratch("torture.img");
  for (let number = 0; number < 105; number++) {
    const { kind, disk } = makeCase(3, number);
    // ext4's largest file, and images that are none.
    if (disk.size > 2 ** 43 || disk.size < 512) continue;
    writeSparse(file, disk);
    const sectorSize = disk.sectorSize as SectorSize;
    const read = await orCode(readPartitions(file, { sectorSize }));
    const shown = await orCode(attachedOrSkipped(file, { sectorSize }));
    const ofTable = typeof read === "string" ? read : [...read.partitions];
    assertEquals(shown, ofTable, `case ${number}, ${kind}`);
    tally[typeof shown === "string" ? "refused" : "equal"]++;
    if (shown.length > (await orCode(attached(file, { sectorSize }))).length) tally.overlapping++;
  }
  assert(tally.equal > 40 && tally.refused > 5 && tally.overlapping > 0, JSON.stringify(tally));
});

test("readPartitions() reads the part of a file that offset and sizelimit say", [], async () => {
  const image = gptImage([{ sectorSize: 1024, header: "backup" }]);
  const file = scratch("inside.img");
  const offset = 777;
  const whole = new Uint8Array(offset + image.length + 3000);
  whole.set(image, offset);
  writeFileSync(file, whole);
  const { sectorSize, header, partitions } = await readPartitions(file, {
    offset,
    sizelimit: image.length,
  });
  assertEquals([sectorSize, header, partitions[0].start], [1024, "backup", START]);
  assertEquals(await orCode(readPartitions(file, { offset })), "EUCLEAN");
  assertEquals((await readPartitions(file)).kind, "none");
});

test("readPartitions() tells GPT, MBR, none, and a GPT that cannot be read", [], async () => {
  const file = scratch("kinds.img");
  const image = new Uint8Array(MIB);
  writeFileSync(file, image);
  assertEquals(await readPartitions(file), { kind: "none", sectorSize: 512, partitions: [] });
  putEntries(image, [{ type: 0x83, start: 64, count: 64, boot: 0x80 }]);
  image.set([0x4d, 0x3c, 0x2b, 0x1a], 440);
  writeFileSync(file, image);
  assertEquals(await readPartitions(file), {
    kind: "mbr",
    sectorSize: 512,
    uuid: "1a2b3c4d",
    partitions: [{
      number: 1,
      start: 64 * 512,
      size: 64 * 512,
      type: "0x83",
      typeName: "Linux",
      uuid: "1a2b3c4d-01",
      attributes: [7],
    }],
  });
  writeFileSync(file, gptImage([]));
  const error = await assertRejects(() => readPartitions(file), LoopError);
  assertEquals([error.code, error.path], ["EUCLEAN", file]);
  assertStringIncludes(error.message, "repair it (gdisk)");
});

test("readPartitions() says what is no image", [], async () => {
  assertEquals(await orCode(readPartitions("/no/such.img")), "ENOENT");
  assertEquals(await orCode(readPartitions("/tmp")), "EISDIR");
  assertEquals(await orCode(readPartitions("/dev/null")), "EINVAL");
  const file = scratch("empty.img");
  writeFileSync(file, "");
  assertEquals(await orCode(readPartitions(file)), "EINVAL");
});

test("readPartitions() and fileSystem() work for nobody, with nothing in /dev and /sys", [
  "root",
  "mkswap",
  "unshare",
  "setpriv",
  "sfdisk",
], () => {
  const file = makeImage("nobody.img", 8, THREE_PARTITIONS);
  const swap = makeImage("swap.img", 1);
  output(["mkswap", "-q", swap]);
  const script = scratch("nobody.ts");
  writeFileSync(
    script,
    `import { fileSystem, readPartitions } from ${JSON.stringify(MOD)};
     const { kind, partitions } = await readPartitions(${JSON.stringify(file)});
     console.log(kind, partitions.map(({ name }) => name).join());
     console.log((await fileSystem(${JSON.stringify(swap)})).usage);`,
  );
  const home = scratch("home");
  mkdirSync(home);
  chmodSync(dirname(file), 0o755);
  for (const path of [file, swap, script]) chmodSync(path, 0o644);
  chmodSync(home, 0o777);
  const empty = "mount -t tmpfs none /dev && mount -t tmpfs none /sys";
  const nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"];
  const { status, stdout, stderr } = run([
    ...["unshare", "--mount", "sh", "-c", `${empty} && exec "$@"`, "sh"],
    ...["setpriv", ...nobody, "--inh-caps=-all", "--"],
    ...onThisRuntime(script),
  ], { env: { ...process.env, HOME: home, DENO_DIR: home, TMPDIR: home } });
  assertEquals([status, stdout], [0, "gpt one,zwei ü,three\nswap\n"], stderr);
  assertDetached(file);
});

const ESP = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";

test("partitions.ts lists the partitions, and obeys no name", ["root"], () => {
  const list = (...args: string[]) =>
    run(onThisRuntime(join(ROOT, "examples/partitions.ts"), ...args));
  const file = makeImage("list.img", 8, `label: gpt\nsize=1MiB, type=${ESP}, name="a\x1b[31mb"\n`);
  const { status, stdout } = list(file);
  const [about, ...lines] = stdout.trimEnd().split("\n");
  assertEquals([status, about.replace(/, [0-9a-f-]{36}$/, "")], [
    0,
    "gpt, primary header, 512-byte sectors",
  ]);
  assertEquals(lines, [
    "NUMBER    START     SIZE  TYPE        NAME",
    "     1  1048576  1048576  EFI System  a\\u001b[31mb",
  ]);
  for (
    const [args, message] of [
      [[], "partitions: no image given; try --help\n"],
      [["-o", "1K", file], "partitions: --offset takes a number, not '1K'\n"],
      [["-b", "4096", file], "its GPT is made for sectors of 512 bytes"],
      [["/nowhere"], "partitions: ENOENT: no such file or directory, open '/nowhere'\n"],
    ] as const
  ) {
    const { status, stderr } = list(...args);
    assertEquals(status, 1);
    assertStringIncludes(stderr, message);
  }
  assertStringIncludes(list("--help").stdout, "Usage: partitions.ts IMAGE");
});
