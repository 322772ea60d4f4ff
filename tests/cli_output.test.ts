/** What cli.ts prints, and what becomes of it where nobody reads: as losetup, beside it. */
import { assertEquals } from "@std/assert";
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { OURS } from "./support/cli_beside.ts";
import { ownDevices } from "./support/own_devices.ts";
import { makeImage, output, run, scratch, testsOf, until } from "./support/support.ts";

const withLosetup = testsOf("cli.ts writes as losetup does", ["losetup"]);

const env = { ...process.env, LC_ALL: "C.UTF-8", NO_COLOR: "1" };

interface Ended {
  code: number | null;
  signal: string | null;
  stderr: string;
}

async function ended(child: ChildProcess): Promise<Ended> {
  let stderr = "";
  child.stderr!.setEncoding("utf8").on("data", (text: string) => stderr += text);
  return await new Promise((resolve) =>
    child.on("close", (code, signal) => resolve({ code, signal, stderr }))
  );
}

/** Runs a command whose stdout is a pipe that nobody reads any more. */
async function withoutReader(command: string[]): Promise<Ended> {
  const fifo = scratch("unread");
  run(["mkfifo", fifo]);
  const script = 'exec 4<>"$0" 5>"$0" 4<&- && exec "$@" >&5 5>&-';
  return await ended(spawn("sh", ["-c", script, fifo, ...command], { env }));
}

withLosetup(
  "cli.ts dies of SIGPIPE without a word, as losetup does",
  ["root", "losetup"],
  async () => {
    const file = makeImage("pipe.img", 1);
    for (const args of [["-f"], ["--version"], ["--help"], ["-f", "--show", file]]) {
      const expected = { code: null, signal: "SIGPIPE", stderr: "" };
      assertEquals(await withoutReader(["losetup", ...args]), expected, `losetup ${args}`);
      assertEquals(await withoutReader([...OURS, ...args]), expected, `ours ${args}`);
    }
    // What was to be done is done, by both.
    const devices = output(["losetup", "-nO", "NAME", "-j", file]).trim().split("\n");
    assertEquals(devices.length, 2);
    for (const device of devices) output(["losetup", "-d", device.trim()]);
  },
);

/** How blktests' loop/006 ends: its reader, a command substitution, is killed in the midst of it. */
withLosetup(
  "cli.ts stays silent when the shell that reads it is killed",
  ["root", "losetup"],
  async () => {
    const file = makeImage("killed.img", 1);
    const script = 'while dev=$("$@" -f --show "$0"); do losetup -d "$dev"; done';
    const isAttached = () => output(["losetup", "-j", file]) !== "";
    let said = "";
    for (let times = 0; times < 3; times++) {
      const child = spawn("bash", ["-c", script, file, ...OURS], { env });
      child.stderr.setEncoding("utf8").on("data", (text: string) => said += text);
      // Closed when the last writer, ours, has gone too.
      const ended = new Promise((resolve) => child.on("close", resolve));
      await until(isAttached, `${file} attached`);
      child.kill("SIGKILL");
      await ended;
    }
    assertEquals(said, "");
    for (const line of output(["losetup", "-j", file]).split("\n")) {
      if (line !== "") output(["losetup", "-d", line.split(":")[0]]);
    }
  },
);

withLosetup("cli.ts writes a list piece by piece, so that it ends with head(1)", [
  "root",
  "losetup",
  "strace",
], async () => {
  const folder = scratch("");
  // Names so long that few devices fill more than the 4096 bytes that are written at once.
  const name = "n".repeat(250);
  output(["mkdir", "-p", scratch(`${name}/${name}/${name}`)]);
  const file = join(folder, name, name, name, "a.img");
  output(["truncate", "-s", "1M", file]);
  await using own = ownDevices(12);
  const devices = own.paths;
  try {
    for (const device of devices) output(["losetup", device, file]);
    // Each write to it takes so long that the reader has gone before the next one.
    const fifo = scratch("fifo");
    output(["mkfifo", fifo]);
    const slow = ["strace", "-f", "-qq", "-o", "/dev/null", "-P", fifo];
    slow.push("-e", "inject=write:delay_exit=500000");
    const script = 'head -c 10 < "$0" > /dev/null & exec "$@" > "$0"';
    for (const tool of [["losetup"], OURS]) {
      const command = [fifo, ...slow, ...tool, "-j", file];
      const expected = { code: null, signal: "SIGPIPE", stderr: "" };
      assertEquals(await ended(spawn("sh", ["-c", script, ...command], { env })), expected);
    }
  } finally {
    for (const device of devices) run(["losetup", "-d", device]);
    await until(() => output(["losetup", "-j", file]) === "", "scratch devices gone");
  }
});

withLosetup("cli.ts -j reads of other files' devices nothing but which file it is", [
  "root",
  "losetup",
  "strace",
], () => {
  const [file, other] = [makeImage("wanted.img", 1), makeImage("other.img", 1)];
  const devices = [file, other].map((each) => output(["losetup", "-f", "--show", each]).trim());
  try {
    const trace = scratch("trace");
    const calls = ["-f", "-o", trace, "-e", "trace=open,openat,statx"];
    output(["strace", ...calls, ...OURS, "-j", file], { env });
    const [wanted, unwanted] = devices.map((device) => {
      const name = new RegExp(`"(/[^"]*/${device.slice(5)}(/[^"]*)?)"`, "g");
      return [...readFileSync(trace, "utf8").matchAll(name)].map(([, path]) => path).sort();
    });
    const folder = (device: string) => `/sys/block/${device.slice(5)}`;
    assertEquals(unwanted, [devices[1], `${folder(devices[1])}/loop`]);
    const read = ["diskseq", "loop", "loop/backing_file", "loop/offset", "loop/sizelimit"];
    const paths = read.map((name) => `${folder(devices[0])}/${name}`);
    assertEquals([...new Set(wanted)], [devices[0], ...paths]);
  } finally {
    for (const device of devices) output(["losetup", "-d", device]);
  }
});

withLosetup("cli.ts says what it cannot write, in losetup's words", ["losetup"], () => {
  const on = (tool: string[], redirection: string) =>
    run(["sh", "-c", `"$@" --version ${redirection}`, "sh", ...tool], { env });
  const full = on(OURS, "> /dev/full");
  assertEquals(full.status, 1);
  assertEquals(full.stderr.replace(/^loopdev/, "losetup"), on(["losetup"], "> /dev/full").stderr);
  // An error that cannot be said is one all the same.
  for (const tool of [["losetup"], OURS]) {
    const { status, stdout } = run(["sh", "-c", '"$@" --foo 2> /dev/full', "sh", ...tool], { env });
    assertEquals([status, stdout], [1, ""]);
  }
});

withLosetup("cli.ts prints paths and warnings in losetup's order", ["root", "losetup"], () => {
  const file = scratch("odd.img");
  writeFileSync(file, new Uint8Array(1000));
  const both = [["losetup"], OURS].map((tool) => {
    const merged = output(["sh", "-c", '"$@" -f --show "$0" 2>&1', file, ...tool], { env });
    const device = /^\/dev\/loop\d+$/m.exec(merged)![0];
    output(["losetup", "-d", device]);
    return merged.split("\n").map((line) =>
      line.startsWith(device) ? "device" : line.split(":")[1]
    );
  });
  assertEquals(both[1].length, 3);
  assertEquals(both[1], both[0]);
});
