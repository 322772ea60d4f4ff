/** The probe: that it binds the free device that it is offered, and leaves nothing, whatever comes of it. */
import { assert, assertEquals } from "@std/assert";
import { readFileSync, writeFileSync } from "node:fs";
import { O_RDONLY, open } from "../lib/kernel/file.ts";
import { OpenWatch } from "../lib/kernel/open_watch.ts";
import {
  bound,
  makeImage,
  MOD,
  onThisRuntime,
  run,
  scratch,
  test,
  testsOf,
  until,
} from "./support/support.ts";
import { traced, tracedWithFault } from "./support/traced.ts";

const withStrace = testsOf("probePartscanRace() and report() touch nothing else", ["strace"]);

const CALLS = "openat,openat2,ioctl,mknod,mknodat,memfd_create,unlink";

/** What a child process says, and the calls that it makes for it; the first of a kind fails. */
function asked(script: string, kind?: RegExp, error = "EIO") {
  const body = `const say = (what: unknown) => console.log(JSON.stringify(what));
    ${script}`;
  const { stdout, calls } = kind
    ? tracedWithFault(body, { calls: CALLS }, {
      call: kind,
      how: (nth) => `error=${error}:when=${nth}`,
    })
    : traced(body, { calls: CALLS, here: true });
  return {
    said: stdout.trim().split("\n").map((line) => JSON.parse(line)),
    calls: calls.map(({ text }) => text),
  };
}

/** The devices that LOOP_CTL_GET_FREE offered, by their numbers. */
const offered = (calls: string[]) =>
  calls.flatMap((call) => /LOOP_CTL_GET_FREE.* = (\d+)/.exec(call)?.[1] ?? []);

/** The same of those that were opened, through their own node or ours. */
const opened = (calls: string[]) =>
  calls.flatMap((call) => /^openat\(\w+, "\/dev\/(?:\.loopdev-)?loop(\d+)"/.exec(call)?.[1] ?? []);

/** Whether a probe's file is bound to the device. */
const isProbed = (number: string) =>
  bound((path) => path.includes("memfd:loopdev-probe")).includes(`loop${number}`);

for (const ask of ["probePartscanRace()", "report().then(({ probe }) => probe)"]) {
  withStrace(`${ask.split(".")[0]} opens no loop device but those that it is offered, makes none`, [
    "root",
    "strace",
  ], () => {
    const { calls } = asked(`say(await ${ask});`);
    const made = calls.join("\n");
    assert(opened(calls).length > 0, made);
    assertEquals(opened(calls).filter((number) => !offered(calls).includes(number)), [], made);
    assertEquals(calls.filter((call) => /BLKPG|LOOP_CTL_ADD|LOOP_CTL_REMOVE/.test(call)), []);
    const configured = calls.filter((call) => call.includes("LOOP_CONFIGURE"));
    assert(configured.length > 0 && configured.every((call) => call.includes("READ_ONLY")), made);
  });
}

withStrace(
  "probePartscanRace() that fails leaves no device bound",
  ["root", "strace"],
  async () => {
    const ask = `await probePartscanRace().then(
    (verdict) => say({ verdict }),
    ({ name, syscall, request, code }) => say({ name, syscall, request, code }),
  );`;
    // Of those that the runtime makes in the same number each time.
    for (
      const kind of [
        /^ioctl.*LOOP_CTL_GET_FREE/,
        /^mknod/,
        /^memfd_create/,
        /^ioctl.*LOOP_CONFIGURE/,
      ]
    ) {
      const { said: [{ verdict, ...error }], calls: made } = asked(ask, kind);
      assert(made.some((call) => call.includes("(INJECTED)") && kind.test(call)), `${kind}`);
      if (verdict === undefined) assertEquals([error.name, error.code], ["LoopError", "EIO"]);
      // mknod() alone may fail: then the device's own node must do.
      else assert(kind.test("mknod"), `${kind} failed, and the verdict is ${verdict}`);
      for (const number of offered(made)) {
        await until(() => !isProbed(number), `loop${number} free`);
      }
    }
  },
);

withStrace("a probe that is killed leaves no device bound, and none that it made", [
  "root",
  "strace",
], async () => {
  const [script, log] = [scratch("killed.ts"), scratch("killed.log")];
  writeFileSync(
    script,
    `import { probePartscanRace } from ${JSON.stringify(MOD)}; await probePartscanRace();`,
  );
  const ended = (inject: string[]) =>
    run([
      ...["strace", "-f", "-o", log, "-e", "trace=ioctl,memfd_create", ...inject],
      ...onThisRuntime(script),
    ]).status;
  assertEquals(ended([]), 0);
  // At the second page the first device is let go, and the next is about to be bound. How many a probe takes
  // is up to whoever opens its device meanwhile.
  for (const when of [1, 2]) {
    ended(["-e", `inject=memfd_create:signal=KILL:when=${when}`]);
    const calls = readFileSync(log, "utf8").split("\n");
    const pages = calls.filter((call) => call.includes('memfd_create("loopdev-probe"')).length;
    const isKilled = calls.some((call) => call.includes("killed by SIGKILL"));
    assertEquals(isKilled, pages === when);
    assert(isKilled || when > 1);
    assertEquals(calls.filter((call) => /LOOP_CTL_(ADD|REMOVE)/.test(call)), []);
    for (const number of offered(calls)) await until(() => !isProbed(number), `loop${number} free`);
  }
});

test("OpenWatch tells whether a node was opened since the last question", ["root"], () => {
  const path = makeImage("watched.img", 1);
  using watch = new OpenWatch(path);
  assertEquals(watch.wasOpened, false);
  for (let times = 0; times < 3; times++) open(path, O_RDONLY).close();
  assertEquals([watch.wasOpened, watch.wasOpened], [true, false]);
  // By another process, too.
  run(["sh", "-c", 'exec 3<"$0"', path]);
  assertEquals([watch.wasOpened, watch.wasOpened], [true, false]);
});

withStrace("attach() asks again after an inconclusive probe", ["root", "strace"], () => {
  const file = makeImage("again.img", 1);
  const script = `for (let i = 0; i < 3; i++) {
    await using loop = await attach(${
    JSON.stringify(file)
  }, { partscan: true, workaround: "probe" });
    say(loop.strategy);
  }`;
  // A probe comes before its attach opens the image.
  const probes = (calls: string[]) =>
    calls.join("\n").split(/^openat2?\(.*again\.img.*$/m)
      .filter((before) => before.includes("loopdev-probe")).length;
  const { said: [strategy], calls } = asked(script);
  assertEquals(probes(calls), 1);
  const refused = asked(script, /LOOP_CTL_GET_FREE/, "EPERM");
  assertEquals(probes(refused.calls), 2);
  assertEquals(refused.said, ["two-step", strategy, strategy]);
});
