import { assert, assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import { spawn } from "node:child_process";
import { cpSync, existsSync, mkdirSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import process from "node:process";
import { messagesOf } from "../examples/printable.ts";
import { parseOptions, parsePartition } from "../examples/program.ts";
import {
  assertDetached,
  bound,
  leftNodes,
  losetup,
  losetupFromSysfs,
  makeImage,
  NODE,
  onThisRuntime,
  output,
  ROOT,
  run,
  RUNTIMES,
  scratch,
  test,
  THREE_PARTITIONS,
  until,
  withoutCapability,
  withStaticDev,
} from "./support/support.ts";

const DEMO = join(ROOT, "examples/demo.ts");
const ATTACH = join(ROOT, "examples/attach.ts");

/** The commands of the README. */
const COMMANDS = {
  bun: ["bun", DEMO],
  deno: ["deno", "run", "--no-prompt", "--allow-ffi", DEMO],
  node: [NODE, DEMO],
};
for (const runtime of RUNTIMES) {
  test(
    `demo.ts lists four nodes, reads them and detaches, on ${runtime}`,
    ["root", runtime],
    async () => {
      const printed = output(COMMANDS[runtime], { cwd: "/" });
      assertEquals(
        printed.match(/^\/dev\/loop\d+p[1-4] .* "Hello from the .*"$/gm)?.length,
        4,
        printed,
      );
      assertMatch(
        printed,
        /^kernel {4}\S+: partitions (do not flicker on this kernel$|flicker .* \(PARTSCAN_RACE\)$)/m,
      );
      assertMatch(printed, /^attached {2}\/dev\/loop\d+ in \d+\.\d ms \((one step|two steps)\)$/m);
      assertMatch(printed, /^detached {2}\/dev\/loop\d+ in \d+\.\d ms \(detached\)$/m);
      const image = /^image {5}(\/tmp\/loopdev-demo-[0-9a-f]{8}\.img), /m.exec(printed)![1];
      await until(() => bound((path) => path.startsWith(image)).length === 0, "the device to go");
      assertEquals(existsSync(image), false);
    },
  );
}

test("demo.ts fails with one line on stderr without root", ["root"], () => {
  const control = "mknod -m 600 /dev/loop-control c 10 237 && chown 1 /dev/loop-control";
  const nobody = withoutCapability("all");
  const { status, stderr } = run([...withStaticDev(control), ...nobody, ...onThisRuntime(DEMO)]);
  assertEquals(status, 1);
  assertMatch(stderr, /^demo: EACCES: .* \(attaching loop devices needs root; .*\)\n$/);
});

test(
  "an example runs without `npm run setup`, and downloads nothing, on Bun",
  ["bun"],
  async () => {
    // As a fresh clone is: without dev/node_modules.
    const clone = scratch("clone");
    mkdirSync(clone);
    for (const name of ["mod.ts", "lib", "examples", "bunfig.toml", "tsconfig.json"]) {
      cpSync(join(ROOT, name), join(clone, name), { recursive: true });
    }
    const asked: string[] = [];
    const registry = createServer(({ url }, response) => {
      asked.push(url!);
      response.writeHead(404).end();
    });
    await new Promise<void>((resolve) => registry.listen(0, "127.0.0.1", resolve));
    try {
      const { port } = registry.address() as { port: number };
      const env = { ...process.env, BUN_CONFIG_REGISTRY: `http://127.0.0.1:${port}/` };
      const child = spawn("bun", ["examples/attach.ts", "--help"], { cwd: clone, env });
      let said = "";
      child.stdout.on("data", (data) => said += data);
      const code = await new Promise((resolve) => child.on("close", resolve));
      assertEquals([code, asked], [0, []]);
      assertMatch(said, /^Usage: attach\.ts IMAGE/);
    } finally {
      registry.close();
    }
  },
);

test(
  "attach.ts runs a command with the paths, and passes its exit code on",
  ["root"],
  () => {
    const file = makeImage("command.img", 8, THREE_PARTITIONS);
    const script =
      'echo "$LOOP_DEVICE|$LOOP_PARTITIONS|$LOOP_PARTITION_3"; test -b $LOOP_PARTITION_2; exit $((40 + $?))';
    const { status, stdout } = run(onThisRuntime(ATTACH, file, "-P", "--", "sh", "-c", script));
    assertEquals(status, 40);
    assertMatch(stdout, /^(\/dev\/loop\d+)\|\1p1 \1p2 \1p3\|\1p3\n$/);
    assertDetached(file);
  },
);

test("attach.ts finds the partition that is asked for", ["root"], () => {
  const file = makeImage("chosen.img", 8, THREE_PARTITIONS);
  const script = 'echo "${LOOP_PARTITION#$LOOP_DEVICE}"';
  for (const partition of ["3", "name=three"]) {
    const args = [file, "-p", partition, "--", "sh", "-c", script];
    assertEquals(output(onThisRuntime(ATTACH, ...args)), "p3\n");
  }
});

test("an example fails where its output cannot be written", ["root"], () => {
  const file = makeImage("full.img", 8, THREE_PARTITIONS);
  for (const [name, ...args] of [["demo"], ["partitions", file], ["attach", file]]) {
    const command = onThisRuntime(join(ROOT, `examples/${name}.ts`), ...args);
    const { status, stderr } = run(["sh", "-c", 'exec "$@" > /dev/full', "sh", ...command]);
    assertEquals(status, 1, name);
    assertMatch(stderr, new RegExp(`^${name}: cannot write to stdout: .*[Nn]o space left.*\n$`));
    assertDetached(file);
  }
});

test("attach.ts gives 128 + n for a command that signal n ended", ["root"], () => {
  const file = makeImage("signal.img", 1);
  assertEquals(run(onThisRuntime(ATTACH, file, "--", "sh", "-c", "kill -KILL $$")).status, 137);
  assertDetached(file);
});

test("attach.ts passes SIGTERM on, and the exit code of a command that handles it", [
  "root",
], async () => {
  const file = makeImage("trap.img", 1);
  const script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done";
  const [name, ...args] = onThisRuntime(ATTACH, file, "--", "sh", "-c", script);
  const child = spawn(name, args, { stdio: ["ignore", "pipe", "inherit"] });
  const ended = new Promise((resolve) => child.on("exit", (code, by) => resolve(by ?? code)));
  await new Promise((resolve) => child.stdout.once("data", resolve));
  process.kill(child.pid!, "SIGTERM");
  assertEquals(await ended, 9);
  assertDetached(file);
});

test("attach.ts passes the options on", ["root"], () => {
  const file = makeImage("options.img", 4);
  const options = ["-r", "-o", "1048576", "--sizelimit=2097152", "-b", "4096", "--direct-io"];
  const attributes =
    "loop/backing_file loop/offset loop/sizelimit ro queue/logical_block_size loop/dio";
  const script = `cd "/sys/block/\${LOOP_DEVICE#/dev/}" && cat ${attributes}`;
  const printed = output(onThisRuntime(ATTACH, ...options, file, "--", "sh", "-c", script));
  assertEquals(printed.trim().split("\n"), [file, "1048576", "2097152", "1", "4096", "1"]);
});

test("attach.ts says what is wrong on stderr, without a stack trace", ["root"], () => {
  const file = makeImage("wrong.img", 1);
  const cases: [args: string[], message: RegExp][] = [
    [[], /^attach: no image given; try --help\n$/],
    [[file, "--frobnicate"], /^attach: unknown option '--frobnicate'; try --help\n$/],
    [[file, file], /^attach: more than one image: /],
    [[file, "-o", "1K"], /^attach: --offset takes a number, not '1K'\n$/],
    [
      [file, "--workaround", "x"],
      /^attach: workaround must be one of "auto", "probe", "always", "never"/,
    ],
    [[file, "--partscan=x"], /^attach: --partscan takes nothing or 'userspace', not 'x'\n$/],
    [
      [file, "--partition=x"],
      /^attach: the partition must be a number from 1 on, or name=, .* 'x'/,
    ],
    [[file, "-p", "name=x"], /^attach: ENXIO: .*no partition with the name "x"/],
    [["/nowhere"], /^attach: ENOENT: no such file or directory, open '\/nowhere'\n$/],
    [[file, "--", "/no/such/command"], /^attach: cannot run '\/no\/such\/command': /],
  ];
  for (const [args, message] of cases) {
    const { status, stdout, stderr } = run(onThisRuntime(ATTACH, ...args));
    assertEquals([status, stdout], [1, ""], args.join(" "));
    assertMatch(stderr, message);
  }
  assertStringIncludes(output(onThisRuntime(ATTACH, "--help")), "Usage: attach.ts IMAGE");
  assertDetached(file);
});

test("parseOptions() and parsePartition() name the argument at fault", [], () => {
  const options = { size: { type: "string" }, all: { type: "boolean" } } as const;
  const wrong: [args: string[], why: string][] = [
    [["--size"], "--size takes a value; try --help"],
    [["--all=x"], "--all takes no value, not 'x'"],
    [["-x"], "unknown option '-x'; try --help"],
  ];
  for (const [args, why] of wrong) {
    assertEquals(assertThrows(() => parseOptions(args, options), Error).message, why);
  }
  const { values, operands, command } = parseOptions(["a", "--size=1", "--", "--all"], options);
  assertEquals([values.size, values.all, operands, command], ["1", undefined, ["a"], ["--all"]]);
  assertEquals([parsePartition("12"), parsePartition("type=root")], [12, { type: "root" }]);
  assertThrows(() => parsePartition("0"), Error, "the partition must be a number from 1 on");
});

test(
  "the examples' messagesOf() gives all that went wrong, in its order, and none twice",
  [],
  () => {
    const raise = (why: unknown): never => {
      throw why;
    };
    const both = () => {
      using _outer = { [Symbol.dispose]: () => raise(new AggregateError([new RangeError()])) };
      using _inner = { [Symbol.dispose]: () => raise(new Error("the end", { cause: "no error" })) };
      raise(new Error("a\x1b[31m", { cause: new Error("the end") }));
    };
    assertEquals(messagesOf(assertThrows(both)), ["a\\u001b[31m", "the end", "RangeError"]);
    assertEquals(messagesOf("a\nb"), ["a\\u000ab"]);
  },
);

for (const signal of ["SIGINT", "SIGTERM", "SIGKILL"] as const) {
  test(
    `attach.ts holds the device until ${signal}, then leaves none`,
    ["root"],
    async () => {
      const file = makeImage("hold.img", 8, THREE_PARTITIONS);
      const [name, ...args] = onThisRuntime(ATTACH, file, "--partscan");
      const child = spawn(name, args, { stdio: ["ignore", "pipe", "inherit"] });
      const ended = new Promise((resolve) => child.on("exit", (code, by) => resolve(by ?? code)));
      let printed = "";
      child.stdout.on("data", (data) => printed += data);
      await until(() => printed.includes("LOOP_PARTITION_3="), "attach.ts to print the paths");
      assertEquals(losetup(file).length, 1);
      // Not child.kill(): on Deno that makes the signal the reported end, whatever the child did.
      process.kill(child.pid!, signal);
      const codes = { SIGINT: 130, SIGTERM: 143, SIGKILL: "SIGKILL" };
      assertEquals(await ended, codes[signal]);
      await until(() => losetup(file).length === 0, "the kernel to detach");
      const device = /LOOP_DEVICE=(\S+)/.exec(printed)![1];
      await until(() => leftNodes(device) === "", "the nodes to go");
    },
  );
}

test("attach.ts ends by a signal that comes while it looks for the partition", [
  "root",
  "mkfs.ext4",
  "strace",
], () => {
  const file = makeImage("looking.img", 8, "label: gpt\nname=files\n");
  output(["mkfs.ext4", "-q", "-L", "data", "-E", `offset=${1 << 20}`, file, "4096k"]);
  // It reads what is on the partitions between the attach, which a signal stops, and its wait for one.
  const nodes = Array.from({ length: 256 }, (_, number) => ["-P", `/dev/loop${number}p1`]).flat();
  const strace = ["strace", "-f", "-qq", "-o", "/dev/null", ...nodes, "-e", "trace=pread64"];
  // The event loop may turn, and the program hear of the signal, only when it waits for one, or for its command.
  for (const [command, codes] of [[[], [143]], [["--", "true"], [143, 0]]]) {
    const { status, stderr } = run([
      ...["timeout", "-s", "KILL", "30", ...strace, "-e", "inject=pread64:signal=TERM:when=1"],
      ...onThisRuntime(ATTACH, file, "-p", "label=data", ...command as string[]),
    ]);
    assert((codes as number[]).includes(status!), `${status}: ${stderr}`);
    assertEquals(stderr, "");
    assertDetached(file);
  }
});

test(
  "attach.ts leaves no device when it is killed while it attaches",
  ["root"],
  async () => {
    const file = makeImage("killed.img", 8, THREE_PARTITIONS);
    const [name, ...args] = onThisRuntime(ATTACH, file, "--partscan", "--workaround=always");
    const isBound = () => losetupFromSysfs(file).length > 0;
    let caught = 0;
    // On a busy machine 100 ms may be over before anything is attached: the last one is waited for.
    for (let ms = 10; ms < 100 || caught === 0; ms += 5) {
      const child = spawn(name, args, { stdio: "ignore" });
      const ended = new Promise((resolve) => child.on("exit", resolve));
      if (ms < 100) await new Promise((resolve) => setTimeout(resolve, ms));
      else await until(isBound, "the device to be bound");
      if (isBound()) caught++;
      child.kill("SIGKILL");
      await ended;
      await until(() => !isBound(), "the kernel to detach");
    }
  },
);
