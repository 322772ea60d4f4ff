/** attach() and rescan() of images whose GPT is made for sectors of another size than the device's. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { attach, type AttachOptions, detach, LoopError, openLoop } from "../mod.ts";
import { SECTOR_SIZES } from "../lib/table/sectors.ts";
import { type Copy, gptImage, START } from "./cases/gpt_image.ts";
import {
  assertDetached,
  leftAttached,
  losetup,
  onThisRuntime,
  output,
  PATIENTLY,
  ROOT,
  run,
  scratch,
  sysfs,
  test,
  testsOf,
  until,
} from "./support/support.ts";
import { traced } from "./support/traced.ts";

const withLosetup = testsOf("attach() deals with tables for other sectors", ["losetup"]);

const OTHERS = SECTOR_SIZES.filter((size) => size !== 512);

/** Both headers of a table. */
const both = (sectorSize: number): Copy[] =>
  (["primary", "backup"] as const).map((header) => ({ sectorSize, header }));

function write(name: string, image: Uint8Array): string {
  const path = scratch(name);
  writeFileSync(path, image);
  return path;
}

/** attach() must refuse, and leave nothing; gives the error. */
async function refusal(file: string, options: AttachOptions): Promise<LoopError> {
  const error = await assertRejects(() => attach(file, options), LoopError);
  assertEquals([error.path, leftAttached(file)], [file, []]);
  return error;
}

for (const sectorSize of SECTOR_SIZES) {
  for (const header of ["primary", "backup"] as const) {
    test(
      `attach() with sectorSize "auto" finds a GPT for ${sectorSize} bytes by its ${header} header`,
      ["root"],
      async () => {
        const file = write("auto.img", gptImage([{ sectorSize, header }]));
        for (const partscan of [true, "userspace", false] as const) {
          await using loop = await attach(file, { partscan, sectorSize: "auto" });
          assertEquals(loop.sectorSize, sectorSize);
          const size = Number(sysfs(`loop${loop.number}/queue/logical_block_size`));
          assertEquals(size, sectorSize);
          const found = loop.partitions.map(({ start, name }) => [start, name]);
          assertEquals(found, partscan ? [[START, "table 1"]] : []);
        }
      },
    );
  }
}

withLosetup("attach() refuses a GPT for other sectors than the device's, by code, with the size", [
  "root",
  "losetup",
], async () => {
  for (const made of OTHERS) {
    for (const header of ["primary", "backup"] as const) {
      const file = write("other.img", gptImage([{ sectorSize: made, header }]));
      for (const partscan of [true, "userspace"] as const) {
        for (const sectorSize of [undefined, ...SECTOR_SIZES].filter((size) => size !== made)) {
          const error = await refusal(file, { partscan, sectorSize });
          assertEquals([error.code, error.syscall], ["EMEDIUMTYPE", "pread"]);
          assertStringIncludes(
            error.message,
            `its GPT is made for sectors of ${made} bytes, and would look empty in sectors of ` +
              `${sectorSize ?? 512}; attach it with sectorSize: ${made}, or "auto"`,
          );
        }
      }
      // Who does not ask for partitions may attach it as he likes.
      await using loop = await attach(file);
      assertEquals([loop.sectorSize, loop.partitions], [512, []]);
    }
  }
});

withLosetup("attach() takes a primary header before a stale backup for the default sectors", [
  "root",
  "losetup",
], async () => {
  const file = write(
    "stale.img",
    gptImage([
      { sectorSize: 4096, header: "primary", mark: 1 },
      { sectorSize: 512, header: "backup", mark: 2 },
    ]),
  );
  assertEquals((await refusal(file, { partscan: true })).code, "EMEDIUMTYPE");
  await using loop = await attach(file, { partscan: true, sectorSize: "auto" });
  assertEquals([loop.sectorSize, loop.partitions[0].name], [4096, "table 1"]);
});

withLosetup("attach() refuses a protective MBR without a readable GPT, whatever the sector size", [
  "root",
  "losetup",
], async () => {
  const cut = gptImage(both(4096)).subarray(0, START + 65536);
  const whole = gptImage([]).length;
  const damaged = [
    [
      gptImage([]),
      "its MBR announces a GPT (type 0xee), but",
      "repair it (gdisk), or attach it without partscan",
    ],
    [cut, `it is cut off: its GPT is made for a disk of ${whole} bytes`, `truncate -s ${whole} /`],
  ] as const;
  for (const [image, what, remedy] of damaged) {
    const file = write("damaged.img", image);
    for (const sectorSize of [undefined, "auto", ...SECTOR_SIZES] as const) {
      const error = await refusal(file, { partscan: true, sectorSize });
      assertEquals(error.code, "EUCLEAN");
      assertStringIncludes(error.message, what);
      assertStringIncludes(error.message, remedy);
      assertStringIncludes(error.message, "attach it without partscan");
    }
    await using loop = await attach(file, { sectorSize: "auto" });
    assertEquals([loop.sectorSize, loop.partitions], [512, []]);
  }
});

test("attach() with offset and sizelimit looks for the table where the device will be", [
  "root",
], async () => {
  const image = gptImage(both(2048));
  const offset = 3 * 512;
  const whole = new Uint8Array(offset + image.length + 5000);
  whole.set(image, offset);
  whole.fill(0, offset + 2048, offset + 4096);
  const options = { offset, sizelimit: image.length, partscan: true } as const;
  const file = write("inside.img", whole);
  await using loop = await attach(file, { ...options, sectorSize: "auto" });
  assertEquals([loop.sectorSize, loop.size], [2048, image.length]);
  assertEquals(loop.partitions.map(({ start }) => start), [START], "by the backup at its end");
});

withLosetup("attach() with directIo looks for the table in the sectors that the kernel chose", [
  "root",
  "losetup",
], async () => {
  const file = write("dio.img", gptImage(both(4096)));
  await using chosen = await attach(file, { directIo: true });
  const sectorSize = chosen.sectorSize;
  assertEquals(await chosen.detach(PATIENTLY), "detached");
  if (sectorSize === 4096) {
    await using loop = await attach(file, { directIo: true, partscan: true });
    assertEquals(loop.partitions.length, 1);
  } else {
    const error = await refusal(file, { directIo: true, partscan: true });
    assertStringIncludes(error.message, `sectors of ${sectorSize};`);
  }
  await using loop = await attach(file, { directIo: true, partscan: true, sectorSize: "auto" });
  assertEquals([loop.sectorSize, loop.partitions.length], [4096, 1]);
});

test('attach() with overlap "reuse" takes no device with other sectors', ["root"], async () => {
  const file = write("reuse.img", gptImage(both(4096)));
  await using narrow = await attach(file);
  const options = { overlap: "reuse", sectorSize: "auto" } as const;
  const error = await assertRejects(() => attach(file, options), LoopError);
  assertEquals([error.code, error.path], ["EEXIST", narrow.path]);
  assertStringIncludes(error.message, "attached in sectors of 512 bytes, not 4096");
  await narrow.setSectorSize(4096);
  await narrow.rescan();
  await using same = await attach(file, { ...options, partscan: true });
  assertEquals([same.path, same.partitions.length], [narrow.path, 1]);
});

test("rescan() reads past a page that the kernel cannot read", ["root"], async () => {
  // Where a device ends in a part of a sector, the page around it is EIO.
  const image = gptImage([]);
  const file = write("part.img", new Uint8Array([...image, ...new Uint8Array(1536)]));
  await using loop = await attach(file, { sectorSize: 1024 });
  const error = await assertRejects(() => loop.rescan(), LoopError);
  assertEquals(error.code, "EUCLEAN");
  // Where that page is the only one, there is nothing to read.
  const tiny = scratch("tiny.img");
  writeFileSync(tiny, new Uint8Array(2560));
  await using small = await attach(tiny, { sectorSize: 2048 });
  assertEquals([small.size, await small.rescan()], [2560, []]);
});

withLosetup("rescan() removes no partition of a device with other sectors than its GPT's", [
  "root",
  "losetup",
], async () => {
  const file = write("others.img", gptImage(both(4096)));
  const path = output(["losetup", "--find", "--show", file]).trim();
  // Whoever lists devices has each partition open for a moment.
  const removed = (number: string) =>
    until(() => run(["delpart", path, number]).status === 0, `partition ${number} removed`);
  try {
    output(["addpart", path, "3", String(START / 512), "128"]);
    {
      await using loop = await openLoop(path);
      assertEquals(loop.partitions.map(({ number, type }) => [number, type]), [[3, undefined]]);
      const error = await assertRejects(() => loop.rescan(), LoopError);
      assertEquals([error.code, error.path], ["EMEDIUMTYPE", path]);
      assertStringIncludes(error.message, "call setSectorSize(4096) first");
      assertEquals(sysfs(`loop${loop.number}/loop${loop.number}p3/start`), String(START / 512));
      await removed("3");
      await loop.setSectorSize(4096);
      assertEquals((await loop.rescan()).map(({ name }) => name), ["table 1"]);
    }
    // A table that is damaged meanwhile takes no partition away either.
    const image = gptImage([]);
    writeFileSync(file, image.subarray(0, START), { flag: "r+" });
    writeFileSync(file, image, { flag: "r+" });
    await using loop = await openLoop(path);
    const error = await assertRejects(() => loop.rescan(), LoopError);
    assertEquals(error.code, "EUCLEAN");
    assertEquals(sysfs(`loop${loop.number}/loop${loop.number}p1/start`), String(START / 512));
    // What was added without LO_FLAGS_PARTSCAN would outlive the device on some kernels.
    await removed("1");
  } finally {
    assertEquals(await detach(path, PATIENTLY), "detached");
  }
});

test("attach() reads the table before it binds, once, and none without partscan", [
  "root",
  "strace",
], () => {
  const usual = gptImage([{ sectorSize: 512, header: "primary", entriesAt: 1024 }]);
  const file = write("reads.img", usual);
  const wide = write("wide.img", gptImage([{ sectorSize: 4096, header: "primary" }]));
  const reads = (file: string, options: AttachOptions) => {
    const body = `try {
        await using loop = await attach(${JSON.stringify(file)}, ${JSON.stringify(options)});
      } catch ({ code }) {
        console.log(code);
      }`;
    const tracing = { calls: "pread64,ioctl", names: true };
    const { stdout, calls } = traced(body, tracing);
    const bind = calls.findIndex(({ text }) => text.includes("LOOP_CONFIGURE"));
    const ofImage = calls.flatMap(({ text }, i) =>
      text.includes("pread64") && text.includes(`<${file}>`) ? [i] : []
    );
    assert(bind < 0 || ofImage.every((index) => index < bind), "before the bind");
    return [ofImage.length, bind >= 0, stdout.trim()];
  };
  assertEquals(reads(file, {}), [0, true, ""]);
  assertEquals(reads(file, { partscan: true, workaround: "never" }), [1, true, ""]);
  assertEquals(reads(file, { partscan: "userspace" }), [1, true, ""]);
  assertEquals(reads(file, { sectorSize: "auto" }), [1, true, ""]);
  assertEquals(reads(wide, { partscan: true }), [2, false, "EMEDIUMTYPE"]);
});

withLosetup("cli.ts warns of a GPT that it cannot show, and attaches all the same", [
  "quiet",
  "root",
  "losetup",
], () => {
  const cases = [
    [
      gptImage(both(4096)),
      "its GPT is made for sectors of 4096 bytes: use --sector-size 4096.",
    ],
    [gptImage([]), "its GPT is damaged or cut off."],
  ] as const;
  for (const [image, why] of cases) {
    const file = write("cli.img", image);
    for (const partscan of ["-P", "--partscan=userspace"]) {
      const cli = onThisRuntime(join(ROOT, "cli.ts"), "-f", "--show", partscan, file);
      const { status, stdout, stderr } = run(cli);
      const path = stdout.trim();
      try {
        assertEquals([status, losetup(file).map(({ name }) => name)], [0, [path]], stderr);
        assertStringIncludes(stderr, `: ${file}: Warning: no partitions are shown; ${why}\n`);
        const again = run(onThisRuntime(join(ROOT, "cli.ts"), "-fL", "--show", partscan, file));
        assertEquals([again.status, again.stdout.trim()], [0, path], again.stderr);
        assertStringIncludes(again.stderr, `no partitions are shown; ${why}\n`);
        const flag = sysfs(`${path.slice(5)}/loop/partscan`);
        assertEquals(flag, partscan === "-P" ? "1" : "0");
      } finally {
        output(["losetup", "--detach", path]);
        assertDetached(file);
      }
    }
  }
});
