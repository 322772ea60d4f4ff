/** What strangers can write into names must not be obeyed by the terminal that shows them. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { encodeControls, quoteJson } from "../cli/text.ts";
import { attach, LoopError } from "../mod.ts";
import { writeGpt } from "./cases/disk_image.ts";
import { isolated, onThisRuntime, output, ROOT, run, scratch, test } from "./support/support.ts";

const MIB = 1024 * 1024;
const LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4";

/** By kind; all of them fit into a GPT name and a file name. */
const HOSTILE = {
  "ESC sequences": "a\x1b[31mred\x1b]0;title\x07z",
  "C1 controls": "a\x9b2Jz\x85\x90z",
  "newlines": "a\nz\rz\vz\x7fz",
  "bidi overrides": "a\u202egnp.exe\u202c\u2066z\u200f",
  "line separators": "a\u2028z\u2029z",
};

/** First and last of what a terminal obeys, or what breaks lines or turns the direction of writing. */
const OBEYED = [[0, 9], [11, 31], [0x7f, 0x9f], [0x61c, 0x61c], [0x200e, 0x200f]]
  .concat([[0x2028, 0x202e], [0x2066, 0x2069]]);

const obeyed = (character: string) =>
  OBEYED.some(([first, last]) => {
    const code = character.codePointAt(0)!;
    return first <= code && code <= last;
  });

/** Makes an image of that name whose partition is called so, too. */
function makeHostileImage(name: string): string {
  const path = scratch(name + ".img");
  writeFileSync(path, "");
  output(["truncate", "-s", `${2 * MIB}`, path]);
  writeGpt(path, 2 * MIB, [{ number: 1, start: MIB / 2, size: MIB / 2, type: LINUX, name }]);
  return path;
}

/** What a terminal gets from a command, which finds the hostile name in $NAME. */
function typed(command: string, name: string): string {
  // Colours of the runtimes' own would look like the name's, and so could anything in a variable.
  const { PATH, HOME } = process.env;
  const env = { PATH, HOME, NAME: name, NO_COLOR: "1", TERM: "xterm" };
  const { stdout } = run([...isolated("terminal"), "sh", "-c", command], { env });
  return stdout.replaceAll("\r\n", "\n");
}

function assertHarmless(text: string, name: string, what: string): void {
  assert(![...text].some(obeyed), `${what}: ${JSON.stringify(text)}`);
  if (name.includes("\n")) assert(!text.includes("a\nz"), `${what}: ${JSON.stringify(text)}`);
}

const quoted = (script: string) => onThisRuntime(join(ROOT, script)).join(" ");

for (const [kind, name] of Object.entries(HOSTILE)) {
  test(`cli.ts obeys no ${kind} in a backing file's name`, ["root"], async () => {
    const path = makeHostileImage(name);
    await using loop = await attach(path, { partscan: "userspace" });
    const cli = quoted("cli.ts");
    const shows = ["-l", "-lJ", "-l --raw", "-a", '-j "$NAME"', "-lO BACK-FILE,NAME,REF"];
    for (const options of [...shows, loop.path, `-l ${loop.path}`]) {
      const text = typed(`${cli} ${options}`, path);
      assertHarmless(text, name, options);
      assertStringIncludes(text, loop.path, options);
    }
    const json = output([...onThisRuntime(join(ROOT, "cli.ts")), "-lJ"]);
    const files = JSON.parse(json).loopdevices.map((row: Record<string, string>) =>
      row["back-file"]
    );
    assert(files.includes(path), json);
    for (
      const options of ['-f "$NAME/no"', '"$NAME"', '-d "$NAME"', '-P0 "$NAME"']
    ) {
      const text = typed(`${cli} ${options}`, path);
      assertHarmless(text, name, options);
      assertStringIncludes(text, "loopdev: ", options);
    }
  });

  test(`attach.ts obeys no ${kind} in names of files and partitions`, ["root"], () => {
    const path = makeHostileImage(name);
    const attachTs = quoted("examples/attach.ts");
    const use = `${attachTs} --partscan=userspace "$NAME" -- env -u NAME`;
    const shown = typed(use, path);
    assertHarmless(shown, name, use);
    assertStringIncludes(shown, "LOOP_PARTITION_1=/dev/loop");
    for (
      const wrong of ['"$NAME" "$NAME"', '"$NAME/no"', '-o "$NAME" x', '"-$NAME"', 'x --"$NAME"']
    ) {
      const text = typed(`${attachTs} ${wrong}`, path);
      assertHarmless(text, name, wrong);
      assertStringIncludes(text, "attach: ", wrong);
    }
  });

  test(
    `a partition's name with ${kind} is given as it is, and shown encoded`,
    ["root"],
    async () => {
      await using loop = await attach(makeHostileImage(name), { partscan: "userspace" });
      assertEquals(loop.partitions.map((partition) => partition.name), [name]);
      const [{ name: given = "" }] = loop.partitions;
      for (const shown of [encodeControls(given), quoteJson(given)]) {
        assert(![...shown].some((c) => c === "\n" || obeyed(c)), JSON.stringify(shown));
      }
      assertEquals(JSON.parse(quoteJson(given)), name);
    },
  );
}

test("loopdev ls and grow obey no name of an image or a partition", ["root"], () => {
  const name = "a\x1b[31mz\x9b2J\nz\u202eg\u2028z";
  const path = makeHostileImage(name);
  const cli = quoted("cli.ts");
  for (const verb of ["ls", "ls --json", "grow --dry-run", "grow --dry-run --json"]) {
    const text = typed(`${cli} ${verb} "$NAME"`, path);
    assertHarmless(text, name, verb);
    assertStringIncludes(text, verb.includes("json") ? "{" : ".img: 2M", verb);
  }
  const json = JSON.parse(output([...onThisRuntime(join(ROOT, "cli.ts")), "ls", "--json", path]));
  assertEquals([json.images[0].image, json.images[0].partitions[0].name], [path, name]);
});

test("what a verb says begins on a line of its own, and not behind how far it is", [], () => {
  const script = scratch("status.ts");
  const parts = ["output.ts", "runtime.ts", "verbs/console.ts"].map((name) => `cli/${name}`);
  const [output, runtime, console] = parts.map((path) => JSON.stringify(join(ROOT, path)));
  writeFileSync(
    script,
    `import { Output } from ${output};
import { currentRuntime } from ${runtime};
import { Console } from ${console};
const runtime = currentRuntime();
const console = new Console(runtime, new Output(runtime));
console.status("");
console.status("file system: 7 %");
console.complain(new Error("no space left"));
console.status("");`,
  );
  const shown = typed(onThisRuntime(script).join(" "), "");
  assertEquals(shown, "\r\x1b[Kfile system: 7 %\r\x1b[Kloopdev: no space left\n");
});

test("a LoopError obeys no name of a file", [], () => {
  for (const [kind, name] of Object.entries(HOSTILE)) {
    // Turning the direction of writing is left to whoever shows the message.
    if (kind === "bidi overrides" || kind === "line separators") continue;
    const { message } = new LoopError({ code: "ENOENT", syscall: "open", path: name });
    assertHarmless(message, name, kind);
  }
});
