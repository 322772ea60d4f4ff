/**
 * Prepares the root file systems of sandboxes as programs do that start a command for each step, and
 * then by loopdev; prints what each took.
 *
 *     bun examples/before_after.ts
 */
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { attach } from "../mod.ts";
import { parseNumber, parseOptions, print, runMain } from "./program.ts";

const HELP = `Usage: before_after.ts [options]

Makes ext4 images, and in each of them what a microVM's sandbox needs: keys, environment, network,
units, a user's files. First by the child processes that most programs start for it, through sudo
where that is installed, and then by loopdev in copies of the images. Both must leave the same tree.
Prints what each took. Needs root, mkfs.ext4, mount and losetup.

      --images N  how many images (5)
  -h, --help      this text`;

const SIZE = 16 * 2 ** 20;
const USER = 1000;

interface File {
  readonly path: string;
  readonly mode: number;
  readonly text: string;
}

const UNITS = "etc/systemd/system";
const SERVICE = "[Service]\nExecStart=/usr/local/bin/agent\nEnvironmentFile=/etc/sandbox.env\n";

const FILES: readonly File[] = [
  { path: "etc/hostname", mode: 0o644, text: "sandbox\n" },
  { path: "etc/hosts", mode: 0o644, text: "127.0.0.1 localhost sandbox\n" },
  { path: "etc/resolv.conf", mode: 0o644, text: "nameserver 10.0.0.1\n" },
  { path: "etc/sandbox.env", mode: 0o600, text: "TOKEN=secret\n" },
  { path: "etc/systemd/network/20-eth0.network", mode: 0o644, text: "[Network]\nDHCP=yes\n" },
  { path: `${UNITS}/agent.service`, mode: 0o644, text: SERVICE },
  { path: "usr/local/bin/agent", mode: 0o755, text: "#!/bin/sh\nexec sleep infinity\n" },
  { path: "root/.ssh/authorized_keys", mode: 0o600, text: "ssh-ed25519 AAAA sandbox\n" },
  { path: "home/user/main.ts", mode: 0o644, text: 'console.log("ready");\n' },
];
const LINKS: readonly (readonly [target: string, path: string])[] = [
  ["../agent.service", `${UNITS}/multi-user.target.wants/agent.service`],
  ["/dev/null", `${UNITS}/systemd-networkd-wait-online.service`],
];
const SECRET = "root/.ssh";
const HOME = "home/user";

let children = 0;

/** Leaves device, mount and directory behind if it is killed. */
function before(image: string, sudo: readonly string[]): void {
  const start = (input: string, ...command: string[]) => {
    children++;
    const [name, ...args] = [...sudo, ...command];
    execFileSync(name, args, { input, stdio: ["pipe", "ignore", "inherit"] });
  };
  const at = mkdtempSync(join(tmpdir(), "sandbox-"));
  try {
    start("", "mount", "-o", "loop", image, at);
    try {
      for (const { path, mode, text } of FILES) {
        // `tee` follows a link of the image to a file of this machine: these images have none.
        start("", "mkdir", "-p", dirname(join(at, path)));
        start(text, "tee", join(at, path));
        start("", "chmod", mode.toString(8), join(at, path));
      }
      for (const [target, path] of LINKS) {
        start("", "mkdir", "-p", dirname(join(at, path)));
        start("", "ln", "-s", target, join(at, path));
      }
      start("", "mkdir", "-p", join(at, "workspace"));
      start("", "chmod", "700", join(at, SECRET));
      for (const path of ["workspace", HOME]) {
        start("", "chown", "-R", `${USER}:${USER}`, join(at, path));
      }
      start("", "touch", join(at, "etc/machine-id"));
      start("", "sync", "-f", at);
    } finally {
      start("", "umount", at);
    }
  } finally {
    rmdirSync(at);
  }
}

/** Leaves nothing. */
async function after(image: string): Promise<void> {
  await using loop = await attach(image);
  await using root = await loop.mount();
  for (const { path, mode, text } of FILES) {
    const file = await root.resolve(path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, text);
    chmodSync(file, mode);
  }
  for (const [target, path] of LINKS) {
    const link = await root.resolve(path);
    mkdirSync(dirname(link), { recursive: true });
    symlinkSync(target, link);
  }
  mkdirSync(await root.resolve("workspace"));
  chmodSync(await root.resolve(SECRET), 0o700);
  for (const path of ["workspace", HOME, `${HOME}/main.ts`]) {
    chownSync(await root.resolve(path), USER, USER);
  }
  writeFileSync(await root.resolve("etc/machine-id"), "");
}

/** Names, kinds, modes, owners, targets of links and contents, a line each. */
async function treeOf(image: string): Promise<string> {
  await using loop = await attach(image, { readOnly: true });
  await using root = await loop.mount(undefined, { readOnly: true });
  const names = readdirSync(root.path, { recursive: true, encoding: "utf8" }).sort();
  return names.map((name) => {
    const path = join(root.path, name);
    const { mode, uid, gid } = lstatSync(path);
    const kind = mode & 0o170000;
    const link = kind === 0o120000 ? readlinkSync(path) : "";
    const text = kind === 0o100000 ? readFileSync(path, "utf8") : "";
    return JSON.stringify([name, mode.toString(8), uid, gid, link, text]);
  }).join("\n");
}

function makeImage(path: string): void {
  writeFileSync(path, "");
  truncateSync(path, SIZE);
  execFileSync("mkfs.ext4", ["-q", path]);
}

/** Through sudo, as nearly all programs do, if it works here. */
function findSudo(): string[] {
  try {
    execFileSync("sudo", ["-n", "true"], { stdio: "ignore" });
    return ["sudo"];
  } catch {
    return [];
  }
}

async function main(args: string[], stop: AbortSignal): Promise<number> {
  const { values, operands } = parseOptions(args, {
    images: { type: "string" },
    help: { type: "boolean", short: "h" },
  });
  if (values.help) {
    print(HELP);
    return 0;
  }
  if (operands.length > 0) throw new Error(`'${operands[0]}' is one too many; try --help`);
  const count = parseNumber("images", values.images) ?? 5;
  if (count < 1) throw new Error("--images takes a number from 1 on");
  const sudo = findSudo();
  const folder = mkdtempSync(join(tmpdir(), "before_after-"));
  const took = { before: 0, after: 0 };
  try {
    for (let n = 0; n < count; n++) {
      stop.throwIfAborted();
      const [one, other] = ["before", "after"].map((name) => join(folder, `${name}-${n}.img`));
      for (const image of [one, other]) makeImage(image);
      const begin = performance.now();
      before(one, sudo);
      const middle = performance.now();
      await after(other);
      took.before += middle - begin;
      took.after += performance.now() - middle;
      if (await treeOf(one) !== await treeOf(other)) throw new Error("the trees differ");
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
  const each = (ms: number) => `${(ms / count).toFixed(1)} ms an image`;
  const how = sudo.length > 0 ? ", each through sudo" : "";
  print(`before: ${children / count} child processes an image${how}, ${each(took.before)}`);
  print(
    `after:  the same tree, ${each(took.after)}, ${
      (took.before / took.after).toFixed(1)
    } times as fast`,
  );
  return 0;
}

await runMain("before_after", main);
