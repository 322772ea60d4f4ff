/** cli.ts in scripts, beyond losetup, and what its parts promise. */
import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { spawn } from "node:child_process";
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { delimiter, join } from "node:path";
import process from "node:process";
import { parseCommand } from "../cli/command.ts";
import { removeDevice } from "../cli/detach.ts";
import { Failure, messagesOf } from "../cli/failure.ts";
import { UsageError } from "../cli/getopt.ts";
import { helpText } from "../cli/help.ts";
import { manPage } from "../cli/man.ts";
import { OPTIONS } from "../cli/options.ts";
import { LOSETUP_VERSION, VERSION } from "../cli/program.ts";
import { parseSize } from "../cli/size.ts";
import { inOurWords } from "../cli/words.ts";
import { COMPILE } from "../dev/compile.ts";
import * as loopdev from "../mod.ts";
import { report, status } from "../mod.ts";
import { filesIn } from "./support/imports.ts";
import { attached, CLI, cliDevices, detachAll, env, ON, OURS } from "./support/cli_beside.ts";
import {
  holdOpen,
  isolated,
  leftNodes,
  losetup,
  makeImage,
  output,
  ROOT,
  run,
  RUNTIMES,
  scratch,
  sysfs,
  test,
  THREE_PARTITIONS,
  until,
} from "./support/support.ts";
import { whileStopped } from "./support/traced.ts";

for (const runtime of RUNTIMES) {
  test(`cli.ts -P returns when every node is usable, on ${runtime}`, [
    "root",
    runtime,
  ], async () => {
    const file = makeImage("disk.img", 8, THREE_PARTITIONS);
    for (const options of [["-P"], ["--partscan=userspace"], ["-P", "--workaround=always"]]) {
      const path = output([...ON[runtime], ...options, "-f", "--show", file]).trim();
      try {
        for (const [number, mib] of [[1, 1], [2, 2]]) {
          output(["dd", `if=${path}p${number}`, "of=/dev/null", "bs=1M", `count=${mib}`]);
        }
        const partscan = options[0] === "-P" ? "1" : "0";
        assertEquals(sysfs(`${path.slice(5)}/loop/partscan`), partscan, options.join());
        assertEquals(sysfs(`${path.slice(5)}/loop/autoclear`), "0");
        assertEquals(run(["sh", "-c", `ls ${path}p*`]).stdout.split("\n").length, 4);
      } finally {
        output([...ON[runtime], "-d", "--wait", path]);
      }
      await until(() => leftNodes(path) === "", "the nodes to go");
    }
  });
}

/** A script as people have them, from before there was cli.ts. */
const SCRIPT = `set -e
dev=$(losetup -fP --show "$1")
losetup -a | cat > "$1.all"
echo "$dev" > "$1.dev"
test "$(losetup -nO BACK-FILE "$dev")" = "$1"
test "$(losetup --raw -j "$1" -nO NAME)" = "$dev"
case $(losetup --json --list "$dev") in *'"log-sec": 512'*) ;; *) exit 1 ;; esac
truncate -s 16M "$1"
losetup --set-capacity "$dev"
test "$(cat "/sys/block/\${dev#/dev/}/size")" = 32768
if losetup --offset 1X -f "$1" 2> "$1.err"; then exit 1; fi
losetup --detach "$dev"
if losetup /dev/loop1048575 2>> "$1.err"; then exit 1; fi
echo ok
`;

/** Puts cli.ts there as `losetup`; gives the name it then goes by. */
const INSTALL = {
  compiled(path: string) {
    output(["bun", "build", ...COMPILE, CLI, "--outfile", path], { cwd: ROOT });
    return "losetup";
  },
  // As package.json's `bin` does; Bun runs it by its first line.
  linked(path: string) {
    symlinkSync(CLI, path);
    return "losetup";
  },
  // What stands there does not tell its name.
  "by deno install"(path: string) {
    const root = ["--root", join(path, "../.."), "--name", "losetup"];
    output(["deno", "install", "--global", "--quiet", ...root, "--allow-ffi", CLI]);
    return "loopdev";
  },
  "as a script"(path: string) {
    // A file that begins with #! loses its argv[0]; a runtime keeps it.
    const program = OURS[0] === CLI ? ["bun", CLI] : OURS;
    const command = program.map((word) => `'${word}'`).join(" ");
    writeFileSync(path, `#!/bin/bash\nexec -a losetup ${command} "$@"\n`);
    chmodSync(path, 0o755);
    return "losetup";
  },
};

for (const [how, install] of Object.entries(INSTALL)) {
  // exec -a is Bash's.
  const more = how === "as a script" ? ["bash"] : [];
  test(`a script that calls losetup runs unchanged with cli.ts under that name, ${how}`, [
    "root",
    "bun",
    "deno",
    ...more,
  ], async () => {
    const file = makeImage("script.img", 8);
    mkdirSync(scratch("bin"));
    const tool = scratch("bin/losetup");
    const name = install(tool);
    const PATH = [scratch("bin"), process.env.PATH].join(delimiter);
    try {
      const { stdout, stderr } = run(["sh", "-c", SCRIPT, "sh", file], { env: { ...env, PATH } });
      assertEquals([stdout, stderr], ["ok\n", ""]);
      const device = readFileSync(`${file}.dev`, "utf8").trim();
      const all = readFileSync(`${file}.all`, "utf8").split("\n");
      const line = all.find((line) => line.startsWith(`${device}: `)) ?? "";
      assertEquals(line.replace(/\[\d+\]:\d+/, "[]:"), `${device}: []: (${file})`);
      const errors = readFileSync(`${file}.err`, "utf8");
      assertEquals(
        errors.replace(/\d+/, "N").replace(/loop\d+/, "loopN"),
        `${name}: failed to parse offset: 'NX': Invalid argument\n` +
          `${name}: /dev/loopN: No such file or directory\n`,
      );
      const version = `${name} from util-linux ${LOSETUP_VERSION} (loopdev ${VERSION})\n`;
      assertEquals(output([tool, "--version"]), version);
    } finally {
      await detachAll(scratch(""));
    }
  });
}

test("cli.ts -f gives every one of many processes its own device", ["root"], async () => {
  const folder = scratch("");
  const file = makeImage("many.img", 1);
  try {
    const line = `for i in 1 2 3 4 5 6; do ${OURS.join(" ")} -f --show '${file}' & done; wait`;
    const paths = output(["sh", "-c", line]).trim().split("\n");
    assertEquals(paths.toSorted(), Object.keys(attached(folder)).toSorted());
    assertEquals(new Set(paths).size, 6);
  } finally {
    await detachAll(folder);
  }
});

test(
  "cli.ts --loop-ref, --output-all and --remove do what losetup 2.42 does",
  ["root"],
  async () => {
    const folder = scratch("");
    const file = makeImage("ref.img", 1);
    await using devices = cliDevices();
    const { D } = devices;
    output([...OURS, "--loop-ref", "r".repeat(70), D, file]);
    assertEquals((await status(D)).reference, "r".repeat(63));
    const json = JSON.parse(output([...OURS, "-J", "--output-all", D])).loopdevices[0];
    assertEquals([json.ref, json.maj, json["back-file"]], ["r".repeat(63), 7, file]);
    assertEquals(
      Object.keys(json),
      output([...OURS, "--raw", "--output-all", D]).split("\n")[0]
        .toLowerCase().split(" "),
    );
    assertEquals(run([...OURS, "--remove", D]).status, 1);
    await detachAll(folder);
    output([...OURS, D, "ref.img"], { cwd: folder });
    assertEquals((await status(D)).reference, file);
    await detachAll(folder);
    // Whoever lists devices has each of them open for a moment.
    await until(() => run([...OURS, "--remove", D]).status === 0, `${D} removed`);
    assertEquals(readdirSync("/sys/block").includes(D.slice(5)), false);
  },
);

test("cli.ts --autoclear lets the device go with its last user", ["root"], async () => {
  const folder = scratch("");
  const file = makeImage("autoclear.img", 1);
  await using devices = cliDevices();
  const { D } = devices;
  const isFree = () => Object.keys(attached(folder)).length === 0;
  output([...OURS, "--autoclear", D, file]);
  await until(isFree, `${D} gone`);
  output([...OURS, D, file]);
  {
    await using _ = await holdOpen(D);
    output([...OURS, "--autoclear", D]);
    assertEquals(Object.keys(attached(folder)), [D]);
  }
  await until(isFree, `${D} gone`);
  // Less than a sector, which attach() refuses.
  const tiny = scratch("tiny.img");
  writeFileSync(tiny, "tiny");
  assertEquals(run([...OURS, "--autoclear", "--show", D, tiny]).stdout, `${D}\n`);
  await until(isFree, `${D} gone`);
});

test("cli.ts --detach --wait says who holds the device", ["root"], async () => {
  const folder = scratch("");
  await using devices = cliDevices();
  const { D } = devices;
  output([...OURS, D, makeImage("wait.img", 1)]);
  {
    await using _ = await holdOpen(D);
    const { status, stderr } = run([...OURS, "--detach", "--wait", "--timeout", "50", D]);
    assertEquals(status, 1);
    // A neighbour who lists all devices may have it open, too.
    assertMatch(stderr, /still in use after 50 ms \((.*, )?\/dev\/loop\d+: process \d+ \(sh\)[,)]/);
    assertEquals(run([...OURS, "--detach", D]).status, 0);
  }
  await until(() => Object.keys(attached(folder)).length === 0, `${D} gone`);
  output([...OURS, D, makeImage("again.img", 1)]);
  const holder = await holdOpen(D);
  const [name, ...args] = [...OURS, "--detach", "--wait", "--timeout", "60000", D];
  const ended = new Promise((resolve) =>
    spawn(name, args, { stdio: "ignore" }).on("exit", resolve)
  );
  await until(() => sysfs(`${D.slice(5)}/loop/autoclear`) === "1", "it to wait");
  await holder[Symbol.asyncDispose]();
  assertEquals([await ended, Object.keys(attached(folder))], [0, []]);
});

test("cli.ts --detach --wait names nobody who has gone while it looked", [
  "root",
  "strace",
], async () => {
  await using devices = cliDevices();
  const { D } = devices;
  output([...OURS, D, makeImage("gone.img", 1)]);
  await using holder = await holdOpen(D);
  // By then the time is over, and the holders are looked for.
  const at = ["-P", "/proc/swaps", "-e", "trace=openat", "-e", "inject=openat:signal=STOP:when=1"];
  const command = [...OURS, "--detach", "--wait", "--timeout", "50", D];
  const { status, stderr } = await whileStopped(at, command, async () => {
    await holder[Symbol.asyncDispose]();
    await until(() => Object.keys(attached(scratch(""))).length === 0, `${D} gone`);
  });
  assertEquals([status, stderr], [0, ""]);
});

test("cli.ts --detach does not wait for those who hold the device", [
  "root",
  "losetup",
  "strace",
], async () => {
  const folder = scratch("");
  const trace = scratch("trace");
  await using devices = cliDevices();
  const { D } = devices;
  output([...OURS, D, makeImage("held.img", 1)]);
  {
    await using _ = await holdOpen(D);
    output(["strace", "-f", "-o", trace, "-e", "trace=open,openat", ...OURS, "-d", D]);
    const looks = readFileSync(trace, "utf8").split(`${D.slice(5)}/loop/backing_file"`).length - 1;
    assert(looks >= 1 && looks <= 3, `it looked ${looks} times whether the device has gone`);
    assertEquals(Object.keys(attached(folder)), [D]);
  }
  await until(() => Object.keys(attached(folder)).length === 0, `${D} gone`);
});

test("cli.ts --report says what report() says", ["root"], async () => {
  // A udevd may start or end between the two; another test has one for a moment.
  const both = async () => [await report(), JSON.parse(output([...OURS, "--report", "-J"])).report];
  let [facts, printed] = await both();
  for (let tries = 0; printed.udev !== facts.udev && tries < 5; tries++) {
    [facts, printed] = await both();
  }
  assertEquals(printed, facts);
  assertStringIncludes(output([...OURS, "--report"]), `kernel    ${facts.kernel}\n`);
});

test("cli.ts reports what it cannot print or is not allowed to do", ["deno"], () => {
  const { status, stderr } = run(["sh", "-c", `${OURS.join(" ")} --help > /dev/full`]);
  assertEquals(status, 1);
  assertMatch(stderr, /^loopdev: write error: .*No space left on device/i);
  const denied = run(["deno", "run", "--no-prompt", "--quiet", CLI, "-f"]);
  assertEquals(denied.status, 1);
  assertStringIncludes(denied.stderr, "--allow-ffi");
});

test("cli.ts on Bun says that memory may not be executable, and what it cannot write", [
  "bun",
], () => {
  const refusing = isolated("refuse=executable-memory");
  // PR_SET_MDWE came with Linux 6.3.
  if (run([...refusing, "true"]).status !== 0) return;
  const { status, stderr } = run([...refusing, ...ON.bun, "-f"]);
  assertEquals(status, 1);
  assertMatch(
    stderr,
    /^loopdev: cannot find an unused loop device: Bun's FFI cannot make memory executable here: .*\n$/,
  );
  // Without FFI the runtime writes: what goes wrong then is an error, too, and is said once.
  const full = run([...refusing, "sh", "-c", `${ON.bun.join(" ")} --version > /dev/full`]);
  assertEquals(full.status, 1);
  assertMatch(full.stderr, /^loopdev: write error: .*no space left on device.*\n$/i);
  const version = output([...refusing, ...ON.bun, "--version"]);
  assertEquals(version, `loopdev from util-linux ${LOSETUP_VERSION} (loopdev ${VERSION})\n`);
});

test("cli.ts by its first lines says that Bun needs /proc", ["root", "bun"], () => {
  const { status, stdout, stderr } = run([...isolated("unmount=/proc"), ...ON.bun, "-f"]);
  assertEquals([status, stdout], [1, ""]);
  assertEquals(stderr, "loopdev: Bun needs a mounted /proc: mount -t proc proc /proc\n");
});

test("cli.ts --nooverlap leaves a device alone that another file has got meanwhile", [
  "root",
  "strace",
  "losetup",
], async () => {
  const [wanted, other] = ["wanted.img", "other.img"].map((name) => makeImage(name, 1));
  const device = output(["losetup", "-f", "--show", wanted]).trim();
  try {
    // It stops where it has asked which file the device has.
    const log = scratch("calls");
    writeFileSync(log, "");
    const strace = ["strace", "-f", "-qq", "-o", log, "-P", device, "-e", "trace=close"];
    const [name, ...args] = [...strace, "-e", "inject=close:signal=STOP:when=1"];
    const child = spawn(name, [...args, ...OURS, "-Lf", "--show", wanted], { env });
    let printed = "";
    child.stdout.on("data", (data) => printed += data);
    const ended = new Promise((resolve) => child.on("close", (code, by) => resolve(by ?? code)));
    await until(() => readFileSync(log, "utf8").includes("--- stopped by SIGSTOP"), "its stop");
    output(["losetup", "-d", device]);
    // If it fails, a neighbour has taken the device: that is another file, too.
    run(["losetup", device, other]);
    // A thread of its own stops at its first call, too.
    const pid = readFileSync(log, "utf8").split(" ")[0];
    const goOn = setInterval(() => run(["kill", "-CONT", pid]), 20);
    assertEquals(await ended.finally(() => clearInterval(goOn)), 0);
    assertEquals(losetup(wanted).map(({ name }) => name), [printed.trim()]);
  } finally {
    await detachAll(scratch(""));
  }
});

test("cli.ts -f succeeds though the file's name is gone when it has attached it", [
  "root",
  "strace",
], async () => {
  const file = makeImage("gone.img", 1);
  // It asks for the size before the attach, twice, and afterwards, for a warning.
  const strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-P", file, "-e", "trace=statx"];
  const inject = ["-e", "inject=statx:error=ENOENT:when=3+"];
  try {
    const { status, stdout, stderr } = run([...strace, ...inject, ...OURS, "-f", "--show", file]);
    assertEquals([status, stderr], [0, ""]);
    assertEquals(losetup(file).map(({ name }) => `${name}\n`), [stdout]);
  } finally {
    await detachAll(scratch(""));
  }
});

test("cli.ts --verbose explains in its own words, and knows a file given for a device", [
  "root",
], () => {
  const file = makeImage("disk.img", 1);
  const folder = scratch("");
  const hint = "is a file: to attach it use -f, to find its devices -j\n";
  for (const given of ["disk.img", file]) {
    for (const options of [["-v"], ["-v", "-d"], ["-v", "-c"]]) {
      const { status, stderr } = run([...OURS, ...options, given], { cwd: folder });
      assertEquals([status, stderr.split("\n").length], [1, 3], stderr);
      assert(stderr.endsWith(`\nloopdev: ${given} ${hint}`), stderr);
    }
  }
  assertEquals(run([...OURS, "disk.img"], { cwd: folder }).stderr.split("\n").length, 2);
  const { stderr } = run([...OURS, "-v", "-f", "none.img"], { cwd: folder });
  assertMatch(
    stderr,
    /^loopdev: none\.img: failed .*\nloopdev: ENOENT: no such file .*none.img'\n$/,
  );
});

/** What a program calls or sets, and an administrator cannot. */
const OF_THE_LIBRARY = new RegExp(
  `\\b(${Object.keys(loopdev).filter((name) => /^[a-z]/.test(name)).join("|")}|` +
    `${Object.getOwnPropertyNames(loopdev.LoopDevice.prototype).join("|")}|` +
    "run|unmount)\\((?!\\d\\))|" +
    "\\b(sectorSize|partscan|overlap|workaround|timeout|nodes): |" +
    '\\b(readOnly|directIo|with type|with(out)? (partscan|detached)|options: \\[|type: ")',
);

/** The strings of a source; one string if the next line goes on with it, whichever quotes they have. */
function stringsOf(source: string): string[] {
  // Comments do not reach anybody.
  const code = source.replaceAll(/^\s*(\/\/|\/?\*).*$/gm, "");
  const found: string[] = [];
  let end = 0;
  for (const match of code.matchAll(/"(?:[^"\\\n]|\\.)*"|`(?:[^`\\\n]|\\.)*`/g)) {
    const text = match[0].slice(1, -1);
    const goesOn = found.length > 0 && /^\s*\+\s*$/.test(code.slice(end, match.index));
    found.push(goesOn ? found.pop() + text : text);
    end = match.index + match[0].length;
  }
  return found;
}

test("no advice of the library reaches an administrator in its own words", [], () => {
  // What cli.ts can reach: it does not wait for udevd, and takes no lock.
  const folders = ["base", "binding", "kernel", "holders", "mount", "image", "grow", "losetup"]
    .map((name) => `lib/${name}`);
  const files = folders.flatMap((folder) =>
    readdirSync(join(ROOT, folder)).map((name) => join(ROOT, folder, name))
  ).filter((path) => !/\/(shown|device_source|\w*options|freeze)\.ts$/.test(path));
  files.push(join(ROOT, "lib/attach.ts"), join(ROOT, "lib/inspect_image.ts"));
  // A name alone is no advice; the warning is for programs, which have a handle.
  const advice = files.flatMap((path) => stringsOf(readFileSync(path, "utf8")))
    .filter((text) => text.includes(" ") && !text.includes("says so without this warning"));
  const explained = advice.map((text) => {
    // As it is with what stands for a number in it, in an error.
    const hint = text.replaceAll(/\$\{[^}]+\}/g, "512").replaceAll('\\"', '"');
    return inOurWords(
      new loopdev.LoopError({ code: "EIO", syscall: "x", path: "/x", hint }).message,
    );
  });
  assert(advice.some((text) => OF_THE_LIBRARY.test(text)), "no advice names a function");
  assertEquals(explained.filter((text) => OF_THE_LIBRARY.test(text)), []);
});

test("an error of several is told as all of them, in their order", [], () => {
  const told = (act: () => void) => messagesOf(assertThrows(act));
  const ends = (why: unknown) => ({ [Symbol.dispose]: () => raise(why) });
  const raise = (why: unknown): never => {
    throw why;
  };
  const both = () => {
    using _outer = ends(new Error("the outer end"));
    using _inner = ends(new AggregateError([new Error("one", { cause: "why" }), new TypeError()]));
    raise(new Error("the body"));
  };
  assertEquals(told(both), ["the body", "one", "why", "TypeError", "the outer end"]);
  assertEquals(messagesOf("no error"), ["no error"]);
});

test("parseSize() reads what losetup documents", [], () => {
  const sizes: [string, number][] = [["512", 512], ["0x200", 512], ["010", 8], [" +1k", 1024]];
  sizes.push(["1KiB", 1024], ["1kB", 1000], ["2G", 2 ** 31], ["1.5M", 1572864], ["0.05K", 51]);
  sizes.push(["0x1.8K", 2048], ["010.5K", 8704], ["1.10K", 2048], ["1.0.5K", 1075]);
  for (const [text, bytes] of sizes) assertEquals(parseSize(text, "size"), BigInt(bytes), text);
  assertThrows(() => parseSize("1Ki", "size"), Error, "failed to parse size: '1Ki'");
  const long: [string, bigint][] = [
    ["1.18446744073709551615K", 1215n],
    ["0.9999Y", 1269156963829338915n],
    // Rounded up digit by digit it is more than 64 bits hold, and losetup keeps those.
    ["15.99E", 104811045873349725n],
  ];
  for (const [text, bytes] of long) assertEquals(parseSize(text, "size"), bytes, text);
  for (const text of ["16E", "1.18446744073709551616K", "0.99999999999999999999E", "16.0E"]) {
    assertThrows(() => parseSize(text, "size"), Error, "Numerical result out of range");
  }
  for (const text of ["1.5", "1.", "1.00", "1.5B", "1.B", "1.5.5K", "1K.5", "0xK"]) {
    assertThrows(() => parseSize(text, "size"), Error, "Invalid argument");
  }
});

test("parseCommand() refuses what has no meaning, in losetup's words", [], () => {
  const refused: [line: string, why: string][] = [
    ["-f -Px a", "invalid option -- 'x'"],
    ["-f --partscan=x a", "unsupported argument: x"],
    ["-f --workaround=x a", "unsupported argument: x"],
    ["-f --timeout=1s a", "failed to parse timeout: '1s'"],
    ["-a --autoclear", "the option --autoclear is not allowed in this context"],
    ["-a --wait", "the option --wait is not allowed in this context"],
    ["-d", "no loop device specified"],
    ["-f a b", "unexpected arguments"],
  ];
  for (const [line, why] of refused) {
    assertEquals(assertThrows(() => parseCommand(line.split(" ")), UsageError).message, why);
  }
});

test("cli.ts --remove takes the number in a name, as losetup does", [], async () => {
  for (const path of ["/dev/none", "/dev/loop", "/dev/7/loop"]) {
    await assertRejects(
      () => removeDevice(path),
      Failure,
      `${path}: remove failed: Invalid argument`,
    );
  }
});

test("parseCommand() detaches everything only when told to, alone", [], () => {
  for (const args of [["-D"], ["--detach-all"], ["--wait", "-D"]]) {
    assertEquals(parseCommand(args).action, "detach-all");
  }
  assertThrows(() => parseCommand(["-D", "-d", "x"]), Error, "cannot be combined");
  assertThrows(() => parseCommand(["--detach-"]).action === "detach-all" && parseCommand(["-Dr"]));
});

test("--help and docs/loopdev.8 come from the one table, and are up to date", [], () => {
  assertEquals(readFileSync(join(ROOT, "docs/loopdev.8"), "utf8"), manPage());
  const help = helpText("losetup");
  for (const { long } of OPTIONS) {
    assertMatch(help, new RegExp(`^ (-.,|   ) --${long}\\b`, "m"));
    assertStringIncludes(manPage(), `\\-\\-${long.replaceAll("-", "\\-")}\\fR`);
  }
  for (const line of help.split("\n")) assert(line.length <= 90, line);
});

test("only cli/runtime.ts of the tool names a runtime", [], () => {
  const files = ["cli.ts", ...filesIn("cli")];
  for (const file of files) {
    const source = readFileSync(join(ROOT, file), "utf8");
    assert(file === "cli/runtime.ts" || !/\bDeno\.|\bBun\.|\bprocess\./.test(source), file);
  }
});
