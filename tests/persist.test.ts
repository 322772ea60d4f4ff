import { assert, assertEquals, assertRejects } from "@std/assert";
import { readFileSync, writeFileSync } from "node:fs";
import { attach, isAffected, probePartscanRace, type Report, report } from "../mod.ts";
import { detachElsewhere } from "./support/others.ts";
import {
  assertDetached,
  bound,
  isFile,
  losetup,
  makeImage,
  MOD,
  onThisRuntime,
  openDescriptors,
  output,
  run,
  scratch,
  sysfs,
  test,
  THREE_PARTITIONS,
  until,
} from "./support/support.ts";

test("persist() makes the device outlive the process", ["root"], () => {
  const file = makeImage("persist.img", 8, THREE_PARTITIONS);
  const script = scratch("persist.ts");
  writeFileSync(
    script,
    `import { attach } from ${JSON.stringify(MOD)};
     await using loop = await attach(${JSON.stringify(file)}, { partscan: true, offset: 0 });
     await loop.persist();
     console.log(loop.path);`,
  );
  const path = output(onThisRuntime(script)).trim();
  const [row, ...others] = losetup(file);
  try {
    assertEquals([row.name, row.autoclear, others], [path, false, []]);
    assertEquals(sysfs(`${path.slice(5)}/loop/partscan`), "1");
    assertEquals(run(["sh", "-c", `ls ${path}p*`]).stdout, `${path}p1\n${path}p2\n${path}p3\n`);
  } finally {
    detachElsewhere(path, isFile(file));
  }
  assertDetached(file);
});

test(
  "persist() keeps offset, sizelimit and name, and closes the handle",
  ["root"],
  async () => {
    const file = makeImage("keep.img", 4);
    const loop = await attach(file, { offset: 4096, sizelimit: 1048576 });
    const [before] = losetup(file);
    try {
      await loop.persist();
      await loop.persist();
      const [after] = losetup(file);
      assertEquals(after, { ...before, autoclear: false });
      assertEquals(openDescriptors(), []);
      await assertRejects(() => loop.detach(), TypeError, "is persistent");
      await loop[Symbol.asyncDispose]();
      assertEquals(losetup(file).length, 1);
    } finally {
      assertEquals(detachElsewhere(loop.path), 0);
    }
  },
);

test("persist() after detach() is a TypeError", ["root"], async () => {
  const loop = await attach(makeImage("late.img", 1));
  await loop.detach();
  await assertRejects(() => loop.persist(), TypeError, "has been detached");
});

/** Devices on the unnamed files of a probe or a report, of whatever process. */
const scratchDevices = () => bound((path) => path.includes("memfd:loopdev-"));

/** Whether a process with the name of systemd-udevd runs: another test may start one that is none. */
function udevdRuns(): boolean {
  return run(["sh", "-c", "cat /proc/[0-9]*/comm"]).stdout.split("\n").includes("systemd-udevd");
}

test("probePartscanRace() agrees with the gate and leaves nothing", ["root"], async () => {
  const expected = isAffected(output(["uname", "-r"]).trim()) ? "affected" : "fixed";
  for (let i = 0; i < 5; i++) assertEquals(await probePartscanRace(), expected);
  assertEquals(openDescriptors(), []);
  // Neighbours may be asking, too.
  await until(() => scratchDevices().length === 0, "no probe's device is bound");
});

test('attach() with workaround "probe" does what the probe says', ["root"], async () => {
  const affected = await probePartscanRace() !== "fixed";
  await using loop = await attach(makeImage("probe.img", 1), {
    partscan: true,
    workaround: "probe",
  });
  assertEquals(loop.strategy, affected ? "two-step" : "one-step");
});

/** report(), and whether a udevd ran all the time that it took. */
async function reportBesideUdevd(): Promise<{ told: Report; running: boolean }> {
  for (;;) {
    const running = udevdRuns();
    const told = await report();
    if (udevdRuns() === running) return { told, running };
  }
}

test("report() says what this host is", ["root"], async () => {
  const { told, running } = await reportBesideUdevd();
  const { kernel, gate, probe, strategy, dev, udev, reasons } = told;
  assertEquals(kernel, output(["uname", "-r"]).trim());
  assertEquals([gate, probe], isAffected(kernel) ? ["affected", "affected"] : ["fixed", "fixed"]);
  await using loop = await attach(makeImage("report.img", 1), { partscan: true });
  assertEquals(strategy, loop.strategy);
  const mounts = readFileSync("/proc/mounts", "utf8").split("\n").map((line) => line.split(" "));
  const mounted = mounts.findLast(([, where]) => where === "/dev")?.[2];
  assertEquals(dev, mounted === "devtmpfs" ? "devtmpfs" : "static");
  assertEquals(udev !== "none", running);
  assert(reasons.length > 0);
  await loop.detach();
  assertEquals(openDescriptors(), []);
  // Neighbours may be asking, too.
  await until(() => scratchDevices().length === 0, "no probe's device is bound");
});
