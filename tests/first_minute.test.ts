/**
 * From the packed tarball to an edited image in three lines, within a minute, on a machine that has npm
 * and no runtime: PATH has sh, node, npm, npx, coreutils and umount. Needs `deno task build` before.
 */
import { assert, assertEquals } from "@std/assert";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { readPartitions } from "../mod.ts";
import { makeExt4 } from "./support/mount_image.ts";
import { dist, TARBALL } from "./support/package.ts";
import {
  assertDetached,
  makeImage,
  output,
  ROOT,
  run,
  RUNTIMES,
  scratch,
  testsOf,
} from "./support/support.ts";

/** It starts the same programs, whichever runtime does: on one of them is enough. */
const needs = ["dist", "root", "npx", "umount", "mkfs.ext4"];
const test = "Bun" in globalThis ? testsOf("an image edited with the package", needs) : () => {};

const TOOLS = ["sh", "node", "npm", "npx", "rm", "rmdir", "cat", "ls", "env", "umount"];
const { devDependencies, optionalDependencies } = JSON.parse(
  readFileSync(join(ROOT, "dev/package.json"), "utf8"),
);

/** What npm takes for each runtime; the versions are those that `npm run setup` has brought already. */
const NODE = `node-linux-${process.arch === "arm64" ? "arm64" : "x64"}`;
const PACKAGES = {
  bun: `bun@${devDependencies.bun}`,
  deno: `deno@${devDependencies.deno}`,
  node: `${NODE}@${optionalDependencies[NODE]}`,
};
const COMMANDS = {
  bun: "npx bun edit.ts",
  deno: "npx deno run --allow-ffi --allow-write edit.ts",
  node: "npx node edit.ts",
};

/** An image with an ext4 in partition 2 that has an /etc; and how debugfs calls that. */
async function makeDisk(): Promise<{ file: string; part: string }> {
  const file = makeImage("disk.img", 12, "label: gpt\nsize=2MiB\nsize=8MiB\n");
  const partition = (await readPartitions(file)).partitions[1];
  assert(makeExt4(file, partition));
  const part = `${file}?offset=${partition.start}`;
  output(["debugfs", "-w", "-R", "mkdir etc", part]);
  return { file, part };
}

for (const runtime of RUNTIMES) {
  test(`from the tarball to an edited image in three lines, within a minute, on ${runtime}`, [
    ...needs,
    runtime,
  ], async () => {
    const { file, part } = await makeDisk();
    const cwd = dirname(file);
    const tools = scratch("tools");
    mkdirSync(tools);
    for (const name of TOOLS) {
      symlinkSync(output(["sh", "-c", `command -v ${name}`]).trim(), join(tools, name));
    }
    const env = { ...process.env, PATH: tools };
    // The README's first program.
    const [, program] = /^```ts\n([^]*?)^```$/m.exec(dist("npm/README.md"))!;
    writeFileSync(scratch("README.ts"), program);
    const lines = [
      `npm install --prefer-offline ${TARBALL} ${PACKAGES[runtime]}`,
      "cat README.ts >edit.ts",
      COMMANDS[runtime],
    ];
    const begin = Date.now();
    for (const line of lines) {
      const { status, stdout, stderr } = run(["sh", "-c", line], { cwd, env });
      assertEquals(status, 0, `${line}\n${stdout}${stderr}`);
    }
    const ms = Date.now() - begin;
    assert(ms < 60_000, `${ms} ms`);
    assertEquals(output(["debugfs", "-R", "cat etc/hostname", part]), "box\n");
    assertDetached(file);
  });
}
