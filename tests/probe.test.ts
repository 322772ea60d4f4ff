/** The probe: that it asks on a device of its own alone, and leaves nothing, whatever comes of it. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { existsSync } from "node:fs";
import process from "node:process";
import { makeBlockNode, O_RDWR, open } from "../lib/kernel/file.ts";
import { loopCtlAdd } from "../lib/kernel/loop.ts";
import { probePartscanRace } from "../mod.ts";
import { scratchNodes } from "./own_devices.ts";
import { makeImage, output, sysfs, test, testsOf } from "./support.ts";
import { traced } from "./traced.ts";

const withStrace = testsOf("probePartscanRace() and report() touch nothing else", ["strace"]);

/** Numbers of scratch devices begin here. */
const HIGH = 2 ** 19;

/** What a child process says, and the calls that it makes for it. */
function asked(script: string, inject?: string) {
  const body = `const say = (what: unknown) => console.log(JSON.stringify(what));
    const pid = ${"Deno" in globalThis ? "Deno.pid" : "process.pid"};
    ${script}`;
  const traces = "openat,ioctl,mknod,mknodat,memfd_create,unlink";
  const { stdout, calls } = traced(body, { calls: traces, inject, here: true });
  return {
    said: stdout.trim().split("\n").map((line) => JSON.parse(line)),
    calls: calls.map(({ text }) => text),
  };
}

withStrace("probePartscanRace() opens no loop device but its own", ["root", "strace"], () => {
  const { said, calls } = asked("say([await probePartscanRace(), pid]);");
  const opened = calls.flatMap((call) =>
    /^openat\(\w+, "(\/dev\/[^"]*loop[^"]*)"/.exec(call)?.[1] ?? []
  );
  const own = new RegExp(`^/dev/\\.loopdev-scratch-${said[0][1]}-\\d+$`);
  assert(opened.some((path) => own.test(path)), opened.join());
  assertEquals(opened.filter((path) => path !== "/dev/loop-control" && !own.test(path)), []);
  assertEquals(calls.filter((call) => /BLKPG/.test(call)), []);
});

withStrace(
  "probePartscanRace() that fails leaves no device and no node",
  ["root", "strace"],
  () => {
    const ask = `await probePartscanRace().then(
    (verdict) => say({ pid, verdict }),
    ({ name, syscall, request, code }) => say({ pid, name, syscall, request, code }),
  );`;
    const { calls } = asked(ask);
    // Of those that the runtime makes in the same number each time.
    for (
      const kind of [/^ioctl.*LOOP_CTL_ADD/, /^mknod/, /^memfd_create/, /^ioctl.*LOOP_CONFIGURE/]
    ) {
      const call = calls.find((call) => kind.test(call));
      if (call === undefined) throw new Error(`no call like ${kind}: ${calls.join("\n")}`);
      const [name] = call.split("(");
      const nth = calls.slice(0, calls.indexOf(call) + 1).filter((call) =>
        call.startsWith(`${name}(`)
      )
        .length;
      const { said: [{ pid, verdict, ...error }], calls: made } = asked(
        ask,
        `${name}:error=EIO:when=${nth}`,
      );
      assert(made.some((call) => call.includes("(INJECTED)") && kind.test(call)), `${kind}`);
      if (verdict === undefined) assertEquals([error.name, error.code], ["LoopError", "EIO"]);
      // mknod() alone may fail: then the device's own node must do.
      else assert(name.startsWith("mknod"), `${call} failed, and the verdict is ${verdict}`);
      assertEquals(scratchNodes(pid), []);
      const device = made.flatMap((call) => /LOOP_CTL_ADD.* = (\d+)$/.exec(call)?.[1] ?? [])[0];
      assertEquals(device !== undefined && existsSync(`/sys/block/loop${device}`), false);
    }
  },
);

test("what a killed probe left goes with the next one", ["root"], async () => {
  const number = 2 * HIGH - 1 - process.pid % HIGH;
  // Of a process that is no more.
  const pid = Number(output(["sh", "-c", "echo $$"]));
  const node = `/dev/.loopdev-scratch-${pid}-${number}`;
  {
    using control = open("/dev/loop-control", O_RDWR);
    loopCtlAdd(control, number);
    makeBlockNode(node, sysfs(`loop${number}/dev`));
  }
  assertMatch(await probePartscanRace(), /^(affected|fixed)$/);
  assertEquals([existsSync(node), existsSync(`/sys/block/loop${number}`)], [false, false]);
});

withStrace("attach() asks again after an inconclusive probe", ["root", "strace"], () => {
  const file = makeImage("again.img", 1);
  const script = `for (let i = 0; i < 3; i++) {
    await using loop = await attach(${
    JSON.stringify(file)
  }, { partscan: true, workaround: "probe" });
    say(loop.strategy);
  }`;
  const added = (calls: string[]) => calls.filter((call) => call.includes("LOOP_CTL_ADD"));
  const { said: [strategy], calls } = asked(script);
  assertEquals(added(calls).length, 1);
  const nth = calls.filter((call) =>
    call.startsWith("ioctl(")
  ).findIndex((call) => call.includes("LOOP_CTL_ADD")) + 1;
  const refused = asked(script, `ioctl:error=EPERM:when=${nth}`);
  assertEquals(added(refused.calls).length, 2);
  assertEquals(refused.said, ["two-step", strategy, strategy]);
});

withStrace("report() asks on devices of its own too", ["root", "strace"], () => {
  const { calls } = asked("say((await report()).probe);");
  const bound = calls.filter((call) => call.includes("LOOP_CONFIGURE"));
  assert(bound.length > 2);
  assertEquals(calls.filter((call) => /^openat.*"\/dev\/(\.loopdev-)?loop\d/.test(call)), []);
});
