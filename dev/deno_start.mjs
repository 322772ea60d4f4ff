/**
 * Finds what Deno runs of the library while a program imports it, attaches, mounts and detaches.
 * dev/deno_bundle.mjs has V8 compile that in advance.
 *
 *     bun dev/deno_start.mjs > dev/deno_start.json
 *
 * A list that does not fit the library any more makes such a program slower, and does nothing else.
 */
import { execFileSync } from "node:child_process";
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseAst } from "rollup/parseAst";
import { readOptions } from "./options.ts";

const HELP = `Usage: dev/deno_start.mjs

Prints which functions and classes Deno runs of the library while a program attaches, mounts and
detaches. Runs on Bun. Needs root, deno, mkfs.ext4 and sfdisk.

  -h, --help  this text`;
readOptions(HELP, {});

/** A file without a table, on a disk and in memory, a disk with two partitions, and a file system. */
const PROGRAM = `
  import { attach } from "./loopdev.deno.js";
  for (const image of ["plain.img", "memory/plain.img", "disk.img"]) {
    const loop = await attach(image, { partscan: true, workaround: "never" });
    await loop.detach();
  }
  const loop = await attach("ext4.img");
  const root = await loop.mount();
  await root.unmount();
  await loop.detach();`;

const folder = mkdtempSync(join(tmpdir(), "loopdev-start-"));
const memory = mkdtempSync("/dev/shm/loopdev-start-");
const run = (command, args, options = {}) =>
  execFileSync(command, args, { cwd: folder, stdio: ["pipe", "ignore", "inherit"], ...options });
const read = (...path) => readFileSync(join(folder, ...path), "utf8");
try {
  run("bun", ["dev/deno_bundle.mjs", folder], { cwd: join(import.meta.dirname, "..") });
  const files = readdirSync(folder);
  writeFileSync(join(folder, "program.js"), PROGRAM);
  symlinkSync(memory, join(folder, "memory"));
  run("truncate", ["--size=8M", "plain.img", "memory/plain.img", "disk.img", "ext4.img"]);
  run("mkfs.ext4", ["-q", "ext4.img"]);
  run("sfdisk", ["--quiet", "disk.img"], { input: "label: gpt\n,1M\n,1M\n" });
  run("deno", ["run", "--allow-ffi", "--coverage=coverage", "program.js"]);
  // A file a module, as V8 writes them.
  const modules = readdirSync(join(folder, "coverage"))
    .map((name) => JSON.parse(read("coverage", name)));
  const names = files.flatMap((file) => {
    const { functions } = modules.find(({ url }) => url.endsWith(`/${file}`));
    // The first function is the module itself.
    const ran = functions.slice(1).map(({ ranges: [whole] }) => whole)
      .filter(({ count }) => count > 0);
    return parseAst(read(file)).body
      .flatMap((statement) => statement.declarations ?? [statement])
      .filter(({ start, end }) => ran.some(({ startOffset: at }) => start <= at && at < end))
      .flatMap(({ id }) => id?.name ?? []);
  });
  console.log(JSON.stringify(names.toSorted(), null, 2));
} finally {
  for (const made of [folder, memory]) rmSync(made, { recursive: true, force: true });
}
