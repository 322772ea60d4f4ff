/**
 * A neighbour for the tests: uses loop devices as other programs of a machine do, until a signal ends it. It takes
 * the device that the kernel offers, writes a table, adds partitions, mounts, triggers events, lets go, looks
 * through all devices as blkid does, and begins mount namespaces. No test may fail beside it. Plain JavaScript, as
 * dev/test.mjs is.
 *
 *     node dev/neighbour.mjs [SECONDS]
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as wait } from "node:timers/promises";
import { readOperands } from "./operands.mjs";

const HELP = `Usage: node dev/neighbour.mjs [SECONDS]

Uses loop devices as other programs of a machine do, for SECONDS, or until a signal ends it. Run tests beside it.
Needs root, util-linux and e2fsprogs.

  -h, --help  this text`;
const [seconds = Infinity] = readOperands(
  HELP,
  (text) => Number(text) > 0 ? undefined : `'${text}' is no number of seconds; try --help`,
).map(Number);

const folder = mkdtempSync(join(tmpdir(), "loopdev-neighbour-"));
const image = join(folder, "disk.img");
const plain = join(folder, "ext4.img");
const mountpoint = join(folder, "mnt");

/** What the tool said, or "" where it failed: whoever uses the same devices may be in the way. */
function tool(name, args, input = "") {
  const { status, stdout } = spawnSync(name, args, { input, encoding: "utf8" });
  return status === 0 ? stdout.trim() : "";
}

function bind(file) {
  return tool("losetup", ["--find", "--show", file]);
}

function partitioned() {
  const device = bind(image);
  if (device === "") return;
  tool("sfdisk", ["--quiet", "--no-reread", "--no-tell-kernel", device], "size=2MiB\nsize=2MiB\n");
  tool("partx", ["--add", device]);
  tool("partx", ["--delete", device]);
  tool("losetup", ["--detach", device]);
}

function mounted() {
  const device = bind(plain);
  if (device === "") return;
  if (tool("mount", [device, mountpoint, "--verbose"]) !== "") {
    // The device goes with its last user.
    tool("losetup", ["--detach", device]);
    tool("umount", [mountpoint]);
  } else tool("losetup", ["--detach", device]);
}

function announced() {
  const device = bind(plain);
  if (device === "") return;
  writeFileSync(device.replace("/dev", "/sys/block") + "/uevent", "change\n");
  tool("losetup", ["--detach", device]);
}

function looked() {
  tool("blkid", ["--cache-file", "/dev/null"]);
  tool("losetup", ["--list"]);
}

function two() {
  const devices = [bind(plain), bind(image)].filter((device) => device !== "");
  for (const device of devices) tool("losetup", ["--detach", device]);
}

/** As a container, or a service with PrivateTmp: until it ends, it has a copy of each mount that there is. */
function apart() {
  tool("unshare", ["--mount", "sleep", "0.1"]);
}

const DEEDS = [partitioned, mounted, announced, looked, two, apart];
let ended = false;
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => ended = true);
mkdirSync(mountpoint);
for (const file of [image, plain]) {
  writeFileSync(file, "");
  truncateSync(file, 8 << 20);
}
tool("mkfs.ext4", ["-q", plain]);
const end = Date.now() + seconds * 1000;
let rounds = 0;
while (!ended && Date.now() < end) {
  DEEDS[Math.floor(Math.random() * DEEDS.length)]();
  rounds++;
  await wait(Math.random() * 20);
}
rmSync(folder, { recursive: true });
console.log(`${rounds} rounds`);
