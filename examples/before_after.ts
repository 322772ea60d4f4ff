/**
 * Edits images as programs do that start losetup and mount, and then by loopdev; prints what each took.
 *
 *     bun examples/before_after.ts *.img
 */
import { execFileSync } from "node:child_process";
import { closeSync, constants, mkdtempSync, openSync, rmdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { attach } from "../mod.ts";
import { parseOptions, print, runMain } from "./program.ts";

const HELP = `Usage: before_after.ts IMAGE...

Writes the file edited.txt into each IMAGE, which is one file system, twice: by the child processes
that most programs start for it, and by loopdev. Prints what each took. Needs root, losetup, mount.

  -h, --help  this text`;

const { O_WRONLY, O_CREAT, O_TRUNC, O_NOFOLLOW } = constants;

/** Follows no link: one that the image has there would lead to the host's files. */
function write(path: string, text: string): void {
  const file = openSync(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW);
  try {
    writeFileSync(file, text);
  } finally {
    closeSync(file);
  }
}

let children = 0;

function start(name: string, ...args: string[]): string {
  children++;
  return execFileSync(name, args, { encoding: "utf8" }).trim();
}

/** Leaves device, mount and directory behind if it is killed. */
function before(image: string): void {
  const at = mkdtempSync(join(tmpdir(), "image-"));
  let device: string | undefined;
  try {
    device = start("losetup", "--find", "--show", image);
    start("mount", device, at);
    try {
      write(join(at, "edited.txt"), "before\n");
    } finally {
      start("umount", at);
    }
  } finally {
    if (device !== undefined) start("losetup", "--detach", device);
    rmdirSync(at);
  }
}

/** Leaves nothing. */
async function after(image: string): Promise<void> {
  await using loop = await attach(image);
  await using root = await loop.mount();
  write(await root.resolve("edited.txt"), "after\n");
}

async function main(args: string[], stop: AbortSignal): Promise<number> {
  const { values, operands: images } = parseOptions(args, {
    help: { type: "boolean", short: "h" },
  });
  if (values.help) {
    print(HELP);
    return 0;
  }
  if (images.length === 0) throw new Error("no image given; try --help");
  const took = { before: 0, after: 0 };
  for (const image of images) {
    stop.throwIfAborted();
    const begin = performance.now();
    before(image);
    const middle = performance.now();
    await after(image);
    took.before += middle - begin;
    took.after += performance.now() - middle;
  }
  const each = (ms: number) => `${(ms / images.length).toFixed(1)} ms an image`;
  print(`before: ${children} child processes, ${each(took.before)}`);
  print(`after:  ${each(took.after)}, ${(took.before / took.after).toFixed(1)} times as fast`);
  return 0;
}

await runMain("before_after", main);
