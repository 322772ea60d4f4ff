/** cli.ts in scripts, beyond losetup, and what its parts promise. */
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
import { attached, CLI, cliDevices, detachAll, env, ON, OURS } from "./cli_beside.ts";
import {
  holdOpen,
  leftNodes,
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

for (const runtime of ["bun", "deno"] as const) {
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
      await until(() => leftNodes(path) === "", "the nodes to go", 1000);
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
    output([...OURS, "-d", D]);
    output([...OURS, D, "ref.img"], { cwd: folder });
    assertEquals((await status(D)).reference, file);
    await detachAll(folder);
    output([...OURS, "--remove", D]);
    assertEquals(readdirSync("/sys/block").includes(D.slice(5)), false);
  },
);

test("cli.ts --autoclear lets the device go with its last user", ["root"], async () => {
  const folder = scratch("");
  const file = makeImage("autoclear.img", 1);
  await using devices = cliDevices();
  const { D } = devices;
  output([...OURS, "--autoclear", D, file]);
  assertEquals(attached(folder), {});
  output([...OURS, D, file]);
  {
    await using _ = await holdOpen(D);
    output([...OURS, "--autoclear", D]);
    assertEquals(Object.keys(attached(folder)), [D]);
  }
  await until(() => Object.keys(attached(folder)).length === 0, `${D} gone`);
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
    assertMatch(stderr, /still in use after 50 ms \(\/dev\/loop\d+: process \d+ \(sh\)\)/);
    assertEquals(run([...OURS, "--detach", D]).status, 0);
  }
  await until(() => Object.keys(attached(folder)).length === 0, `${D} gone`);
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
  const help = helpText("losetup");
  for (const { long } of OPTIONS) {
    assertMatch(help, new RegExp(`^ (-.,|   ) --${long}\\b`, "m"));
    assertStringIncludes(manPage(), `\\-\\-${long.replaceAll("-", "\\-")}\\fR`);
  }
  for (const line of help.split("\n")) assert(line.length <= 90, line);
});

test("only cli/runtime.ts of the tool names a runtime", [], () => {
  const files = ["cli.ts", ...readdirSync(join(ROOT, "cli")).map((name) => `cli/${name}`)];
  for (const file of files) {
    const source = readFileSync(join(ROOT, file), "utf8");
    assert(file === "cli/runtime.ts" || !/\bDeno\.|\bBun\.|\bprocess\./.test(source), file);
  }
});
