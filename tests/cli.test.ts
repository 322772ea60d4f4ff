/**
 * cli.ts beside the machine's losetup: the same command lines on the same state, and what both print,
 * return and leave in the kernel. Never -D: other devices could be attached here.
 */
import { assert, assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
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
import { helpText } from "../cli/help.ts";
import { manPage } from "../cli/man.ts";
import { OPTIONS } from "../cli/options.ts";
import { VERSION } from "../cli/program.ts";
import { parseSize } from "../cli/size.ts";
import { report, status } from "../mod.ts";
import { DIFFERENCES, DIFFERENCES_TO_242, LINES, MANGLED, STATES } from "./cli_cases.ts";
import {
  type Finished,
  holdOpen,
  makeImage,
  output,
  ROOT,
  run,
  scratch,
  sysfs,
  test,
  THREE_PARTITIONS,
  until,
} from "./support.ts";

const CLI = join(ROOT, "cli.ts");

/** As users run it: on Deno --allow-ffi is enough. */
const ON = {
  bun: ["bun", CLI],
  deno: ["deno", "run", "--no-prompt", "--quiet", "--allow-ffi", CLI],
};
const OURS = ON["Deno" in globalThis ? "deno" : "bun"];
const env = { ...process.env, LC_ALL: "C.UTF-8", NO_COLOR: "1" };

/** Devices of our own, far from what others are given; both runtimes' tests may run at once. */
const FIRST = 300 + 2 * (process.pid % 2000);
const [D, E] = [`/dev/loop${FIRST}`, `/dev/loop${FIRST + 1}`];

const ATTRIBUTES =
  "loop/offset loop/sizelimit loop/autoclear loop/partscan loop/dio ro size queue/logical_block_size"
    .split(" ");

/** Every device that a file in `folder` is attached to, with what sysfs says of it. */
function attached(folder: string, partitions = false): Record<string, string> {
  const found: Record<string, string> = {};
  for (const name of readdirSync("/sys/block").filter((name) => name.startsWith("loop"))) {
    try {
      const file = sysfs(`${name}/loop/backing_file`);
      if (!file.startsWith(folder)) continue;
      const facts = [file, ...ATTRIBUTES.map((attribute) => sysfs(`${name}/${attribute}`))];
      const children = readdirSync(`/sys/block/${name}`).filter((entry) => entry.startsWith(name));
      if (partitions) facts.push(...children.map((entry) => sysfs(`${name}/${entry}/start`)));
      found[`/dev/${name}`] = facts.join(" | ");
    } catch {
      // Not bound, or gone while we looked.
    }
  }
  return found;
}

async function detachAll(folder: string): Promise<void> {
  for (const path of Object.keys(attached(folder))) run(["losetup", "--detach", path]);
  await until(() => Object.keys(attached(folder)).length === 0, "scratch devices gone");
}

/**
 * The same for both tools: the program's name (getopt takes it as it was called, and Deno calls by
 * path), and names of devices that were not asked for.
 */
function normalize(text: string): string {
  return text.replaceAll(/^(loopdev|\/\S*\/losetup): /gm, "losetup: ").replaceAll(
    "Try 'loopdev ",
    "Try 'losetup ",
  )
    .replaceAll(
      /\/dev\/loop\d+(?= |$)/gm,
      (path) => path === D || path === E ? path : "/dev/loopN",
    );
}

interface Observed extends Finished {
  kernel: string[];
}

/** One command line on a state that losetup prepares. */
async function observe(
  tool: string[],
  line: string,
  state: keyof typeof STATES,
  { folder, partitions }: { folder: string; partitions: boolean },
): Promise<Observed> {
  const fill = (word: string) =>
    word === "''" ? "" : word.replace("$D", D).replace("$E", E).replace("$d", D.slice(5));
  await detachAll(folder);
  for (const words of STATES[state]) output(["losetup", ...words.map(fill)], { cwd: folder });
  const words = line.split(" ").filter((word) => word !== "").map(fill);
  const { status, stdout, stderr } = run([...tool, ...words], { env, cwd: folder });
  // Somebody who lists devices has each open for a moment, and defers its detaching.
  if (/^(-d|--detach)/.test(line) && status === 0) {
    await until(() => !(D in attached(folder)), `${D} detached`);
  }
  return {
    status,
    stdout: normalize(stdout),
    stderr: normalize(stderr),
    kernel: Object.entries(attached(folder, partitions)).map((entry) => normalize(entry.join(" "))),
  };
}

const CASES = Object.entries(LINES).flatMap(([state, lines]) =>
  lines.trim().split(/\n */).map((line) => ({ state: state as keyof typeof STATES, line }))
);

const IS_238 = run(["sh", "-c", "losetup --version"]).stdout.includes(" 2.38");

/** undefined, or what is wrong with ours. */
function compare(line: string, ours: Observed, theirs: Observed): string | undefined {
  if (!IS_238) {
    const known = DIFFERENCES_TO_242.find(({ lines }) => lines.includes(line));
    if (known?.theirs.test(theirs.stderr)) return undefined;
  }
  const difference = DIFFERENCES.find(({ lines }) => lines.includes(line));
  if (difference && JSON.stringify(ours) === JSON.stringify(theirs)) {
    // A newer losetup has what 2.38 lacks.
    return IS_238 ? "no difference any more" : undefined;
  }
  const { status = theirs.status, stdout = theirs.stdout, stderr = theirs.stderr } = difference ??
    {};
  const expected = { status, stdout, stderr, kernel: theirs.kernel };
  const isRight = typeof stdout === "string" ? stdout === ours.stdout : stdout.test(ours.stdout);
  if (isRight && JSON.stringify({ ...expected, stdout: ours.stdout }) === JSON.stringify(ours)) {
    return undefined;
  }
  return `ours     ${JSON.stringify(ours)}\n  expected ${JSON.stringify(expected)} ${stdout}`;
}

test(
  `cli.ts does what losetup does, on ${CASES.length} command lines`,
  ["root", "losetup", "sfdisk"],
  async () => {
    const folder = scratch("");
    makeImage("disk.img", 8, THREE_PARTITIONS);
    const sizes = { "a.img": 4 << 20, "b.img": 4 << 20, [MANGLED]: 1 << 20, "empty.img": 0 };
    for (const [name, size] of Object.entries({ ...sizes, "small.img": 100, "odd.img": 1000 })) {
      output(["truncate", "-s", `${size}`, scratch(name)]);
    }
    // Where the kernel has no parser for GPT only ours finds partitions.
    const { parsers } = await report();
    const where = { folder, partitions: parsers.gpt };
    const wrong: string[] = [];
    try {
      for (const { state, line } of CASES) {
        let problem: string | undefined;
        // Others attach and detach here too, which a list of everything shows.
        for (let tries = 0; tries < 3; tries++) {
          const theirs = await observe(["losetup"], line, state, where);
          problem = compare(line, await observe(OURS, line, state, where), theirs);
          if (problem === undefined) break;
        }
        if (problem !== undefined) wrong.push(`${state}: losetup ${line}\n  ${problem}`);
      }
    } finally {
      await detachAll(folder);
      run([...OURS, "--remove", D, E]);
    }
    assertEquals(wrong.join("\n"), "");
    assert(CASES.length >= 60);
    const lines = CASES.map(({ line }) => line);
    assertEquals(DIFFERENCES.flatMap(({ lines }) => lines).filter((l) => !lines.includes(l)), []);
  },
);

test("cli.ts fills a terminal as losetup does, and sends no control characters to it", [
  "root",
  "losetup",
], async () => {
  const folder = scratch("");
  const long = "a-rather-long-name-".repeat(4) + ".img";
  for (const name of [MANGLED, long]) output(["truncate", "-s", "1M", scratch(name)]);
  try {
    output(["losetup", D, MANGLED], { cwd: folder });
    output(["losetup", E, long], { cwd: folder });
    // Where a line is too long 2.38 takes from NAME too, which 2.40 leaves alone.
    for (const columns of IS_238 ? [250] : [50, 90, 160, 250]) {
      for (const options of ["-l", "-lO BACK-FILE,NAME", "-lO NAME,BACK-FILE"]) {
        const on = (tool: string[]) => {
          const command = `stty cols ${columns}; ${tool.join(" ")} ${options} -j`;
          const both = [MANGLED, long].map((name) =>
            output(["script", "-qec", `${command} "$NAME"`, "/dev/null"], {
              cwd: folder,
              env: { ...env, NAME: name },
            })
          );
          return both.join("");
        };
        assertEquals(on(OURS), on(["losetup"]), `${columns} ${options}`);
      }
    }
    // The name in a line, and in an error.
    const commands = `${OURS.join(" ")} ${D}; ${OURS.join(" ")} "$NAME"`;
    const { stdout: typed } = run(["script", "-qec", commands, "/dev/null"], {
      env: { ...env, NAME: MANGLED },
    });
    assert(!typed.includes("\x1b") && !typed.includes("\t"), typed);
    assertStringIncludes(typed, "c\\x1b[31m ü");
  } finally {
    await detachAll(folder);
    run([...OURS, "--remove", D, E]);
  }
});

for (const runtime of ["bun", "deno"] as const) {
  test(`cli.ts -P returns when every node is usable, on ${runtime}`, [
    "root",
    "sfdisk",
    runtime,
  ], () => {
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
      assertEquals(run(["sh", "-c", `ls ${path}p*`]).stdout, "");
    }
  });
}

/** A script as people have them, from before there was cli.ts. */
const SCRIPT = `set -e
dev=$(losetup -fP --show "$1")
losetup -a | grep -q "^$dev: \\[[0-9]*\\]:[0-9]* ($1)$"
test "$(losetup -nO BACK-FILE "$dev")" = "$1"
test "$(losetup --raw -j "$1" -nO NAME)" = "$dev"
losetup --json --list "$dev" | grep -q '"log-sec": 512'
truncate -s 16M "$1"
losetup --set-capacity "$dev"
test "$(blockdev --getsize64 "$dev")" = 16777216
if losetup --offset 1X -f "$1" 2> "$1.err"; then exit 1; fi
losetup --detach "$dev"
if losetup "$dev" 2>> "$1.err"; then exit 1; fi
echo ok
`;

/** Puts cli.ts there as `losetup`; gives the name it then goes by. */
const INSTALL = {
  compiled(path: string) {
    output(["bun", "build", "--compile", CLI, "--outfile", path], { cwd: ROOT });
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
    const command = OURS.map((word) => `'${word}'`).join(" ");
    writeFileSync(path, `#!/bin/bash\nexec -a losetup ${command} "$@"\n`);
    chmodSync(path, 0o755);
    return "losetup";
  },
};

for (const [how, install] of Object.entries(INSTALL)) {
  test(`a script that calls losetup runs unchanged with cli.ts under that name, ${how}`, [
    "root",
    "losetup",
    "bun",
    "deno",
  ], async () => {
    const file = makeImage("script.img", 8);
    mkdirSync(scratch("bin"));
    const tool = scratch("bin/losetup");
    const name = install(tool);
    const PATH = [scratch("bin"), process.env.PATH].join(delimiter);
    try {
      const { stdout, stderr } = run(["sh", "-c", SCRIPT, "sh", file], { env: { ...env, PATH } });
      assertEquals([stdout, stderr], ["ok\n", ""]);
      const errors = readFileSync(`${file}.err`, "utf8");
      assertEquals(
        errors.replace(/\d+/, "N").replace(/loop\d+/, "loopN"),
        `${name}: failed to parse offset: 'NX': Invalid argument\n` +
          `${name}: /dev/loopN: No such file or directory\n`,
      );
      assertStringIncludes(output([tool, "--version"]), `${name} from loopdev ${VERSION}`);
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
    try {
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
      output([...OURS, "-d", D]);
      output([...OURS, D, "ref.img"], { cwd: folder });
      assertEquals((await status(D)).reference, file);
    } finally {
      await detachAll(folder);
      output([...OURS, "--remove", D]);
    }
    assertEquals(readdirSync("/sys/block").includes(D.slice(5)), false);
  },
);

test("cli.ts --autoclear lets the device go with its last user", ["root"], async () => {
  const folder = scratch("");
  const file = makeImage("autoclear.img", 1);
  output([...OURS, "--autoclear", D, file]);
  assertEquals(attached(folder), {});
  output([...OURS, D, file]);
  {
    await using _ = await holdOpen(D);
    output([...OURS, "--autoclear", D]);
    assertEquals(Object.keys(attached(folder)), [D]);
  }
  await until(() => Object.keys(attached(folder)).length === 0, `${D} gone`);
  run([...OURS, "--remove", D]);
});

test("cli.ts --detach --wait says who holds the device", ["root"], async () => {
  const folder = scratch("");
  output([...OURS, D, makeImage("wait.img", 1)]);
  {
    await using _ = await holdOpen(D);
    const { status, stderr } = run([...OURS, "--detach", "--wait", "--timeout", "50", D]);
    assertEquals(status, 1);
    assertMatch(stderr, /still in use after 50 ms \(\/dev\/loop\d+: process \d+ \(sh\)\)/);
    assertEquals(run([...OURS, "--detach", D]).status, 0);
  }
  await until(() => Object.keys(attached(folder)).length === 0, `${D} gone`);
  run([...OURS, "--remove", D]);
});

test("cli.ts --detach does not wait for those who hold the device", [
  "root",
  "losetup",
  "strace",
], async () => {
  const folder = scratch("");
  const trace = scratch("trace");
  output([...OURS, D, makeImage("held.img", 1)]);
  {
    await using _ = await holdOpen(D);
    output(["strace", "-f", "-o", trace, "-e", "trace=open,openat", ...OURS, "-d", D]);
    const looks = readFileSync(trace, "utf8").split(`${D.slice(5)}/loop/backing_file"`).length - 1;
    assert(looks >= 1 && looks <= 3, `it looked ${looks} times whether the device has gone`);
    assertEquals(Object.keys(attached(folder)), [D]);
  }
  await until(() => Object.keys(attached(folder)).length === 0, `${D} gone`);
  run([...OURS, "--remove", D]);
});

test("cli.ts --report says what report() says", ["root"], async () => {
  const { reasons, ...facts } = await report();
  const { report: printed } = JSON.parse(output([...OURS, "--report", "-J"]));
  assertEquals(printed, { ...facts, reasons });
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

test("parseSize() reads what losetup documents", [], () => {
  const sizes: [string, number][] = [["512", 512], ["0x200", 512], ["010", 8], [" +1k", 1024]];
  sizes.push(["1KiB", 1024], ["1kB", 1000], ["2G", 2 ** 31], ["1.5M", 1572864], ["0.05K", 51]);
  for (const [text, bytes] of sizes) assertEquals(parseSize(text, "size"), BigInt(bytes), text);
  assertThrows(() => parseSize("1Ki", "size"), Error, "failed to parse size: '1Ki'");
  assertThrows(() => parseSize("16E", "size"), Error, "Numerical result out of range");
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
  const { version } = JSON.parse(readFileSync(join(ROOT, "deno.json"), "utf8"));
  assertEquals(VERSION, version);
  const help = helpText("losetup");
  for (const { long } of OPTIONS) {
    assertMatch(help, new RegExp(`^ (-.,|   ) --${long}\\b`, "m"));
    assertStringIncludes(manPage(), `\\-\\-${long.replaceAll("-", "\\-")}\\fR`);
  }
  for (const line of help.split("\n")) assert(line.length <= 90, line);
});

test("no file of cli.ts has more than 300 lines", [], () => {
  const files = ["cli.ts", ...readdirSync(join(ROOT, "cli")).map((name) => `cli/${name}`)];
  for (const file of files) {
    const source = readFileSync(join(ROOT, file), "utf8");
    assert(source.split("\n").length <= 300, file);
    assert(file === "cli/runtime.ts" || !/\bDeno\.|\bBun\.|\bprocess\./.test(source), file);
  }
});
