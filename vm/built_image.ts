/**
 * Builds a disk with examples/build_image.ts, on both runtimes, and boots it in QEMU: from the BIOS
 * through its boot loader and kernel to its own init, which says what it finds.
 *
 *     deno task vm:image --kernel 7.2
 */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  chownSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
} from "node:fs";
import { writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import process from "node:process";
import { readOptions } from "../dev/options.ts";
import { readPartitions } from "../mod.ts";
import { onRuntime, output } from "../tests/support/support.ts";
import { Apt } from "./apt.ts";
import { KERNEL_SUITES, KERNELS } from "./cells.ts";
import { CpioWriter } from "./cpio.ts";
import { lockCache } from "./cache.ts";
import { installEmulator } from "./emulator.ts";
import { fetchKernel, findKernel, listKernels } from "./kernel.ts";
import { MACHINES } from "./machines.ts";
import { fetchModules } from "./modules.ts";

const HELP = `Usage: vm/built_image.ts [options]

Boots a disk that examples/build_image.ts builds.

      --kernel ID  a row of the matrix (7.2)
  -h, --help       this text`;
/** Emulated, a boot takes 10 s; machines can be busy. */
const MOST_SECONDS = 300;
/** What the kernel needs to find the disk and what is on it. */
const MODULES = ["virtio_pci", "virtio_blk", "ext4"];
/** Of busybox-static: it needs no library. */
const BUSYBOX = "/bin/busybox";
const GUEST = join(import.meta.dirname!, "guest");

const { values: options } = readOptions(HELP, { kernel: { type: "string" } });

function fail(reason: string): never {
  console.error(reason);
  return process.exit(1);
}

/** An initrd that loads the modules. */
function writeInitrd(path: string, modules: readonly string[]): void {
  const cpio = new CpioWriter(path);
  cpio.file("init", readFileSync(join(GUEST, "initrd_init.sh")), 0o755);
  cpio.file("bin/busybox", readFileSync(BUSYBOX), 0o755);
  for (const folder of ["proc", "sys", "dev", "sysroot"]) cpio.directory(folder);
  for (const module of modules) cpio.file(`modules/${basename(module)}`, readFileSync(module));
  cpio.file("modules/order", modules.map((module) => basename(module)).join("\n") + "\n");
  cpio.close();
}

/** A root file system of one program, with something in it that must arrive as it is. */
function makeTree(tree: string): Uint8Array {
  for (const folder of ["bin", "sbin", "etc", "proc", "dev", "sys"]) {
    mkdirSync(join(tree, folder), { recursive: true });
  }
  cpSync(BUSYBOX, join(tree, "bin/busybox"));
  cpSync(join(GUEST, "disk_init.sh"), join(tree, "sbin/init"));
  chmodSync(join(tree, "sbin/init"), 0o755);
  writeFileSync(join(tree, "etc/hostname"), "box\n");
  writeFileSync(join(tree, "owned"), "");
  chmodSync(join(tree, "owned"), 0o640);
  chownSync(join(tree, "owned"), 1234, 5678);
  const written = crypto.getRandomValues(new Uint8Array(65_536));
  writeFileSync(join(tree, "written"), written);
  return written;
}

/** What the guest writes to its serial port, until it is off. */
function boot(image: string): Promise<string> {
  const { command: [program, ...first] } = emulator;
  const child = spawn(program, [
    ...first,
    ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"],
    ...["-cpu", "max", "-accel", "tcg", "-m", "512"],
    ...["-drive", `file=${image},format=raw,if=virtio`],
  ], { stdio: ["ignore", "pipe", "inherit"] });
  const deadline = setTimeout(() => child.kill("SIGKILL"), MOST_SECONDS * 1000);
  const onExit = () => child.kill("SIGKILL");
  process.once("exit", onExit);
  let said = "";
  child.stdout.on("data", (data) => said += data);
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", () => {
      clearTimeout(deadline);
      process.removeListener("exit", onExit);
      resolve(said.replaceAll("\r", ""));
    });
  });
}

const row = KERNELS.find(({ id }) => id === (options.kernel ?? "7.2"));
if (row === undefined) fail(`no kernel is called '${options.kernel}'`);
const caches = process.env.XDG_CACHE_HOME || join(process.env.HOME ?? "/root", ".cache");
const cache = join(caches, "loopdev-vm");
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(130));
const work = mkdtempSync(join(tmpdir(), "loopdev-test-"));
process.once("exit", () => rmSync(work, { recursive: true, force: true }));

const initrd = join(work, "initrd.img");
const { emulator, kernel } = lockCache(cache, () => {
  const apt = new Apt(join(cache, "apt"), KERNEL_SUITES, "amd64");
  for (const complaint of apt.update(false)) console.error(`apt: ${complaint}`);
  const found = findKernel(listKernels(apt, "cloud"), row!) ??
    fail(`kernel ${row!.id}: not in the archive`);
  writeInitrd(initrd, fetchModules(apt, join(cache, "modules"), found.image, MODULES));
  return {
    emulator: installEmulator(join(cache, "qemu"), apt.mirror, MACHINES.amd64),
    kernel: fetchKernel(apt, join(cache, "kernels"), found),
  };
});
const tree = join(work, "tree");
const digest = createHash("sha256").update(makeTree(tree)).digest("hex");

let failed = 0;

/** Builds one, boots it, and says what came of it. */
async function tryRuntime(runtime: "bun" | "deno"): Promise<void> {
  const image = join(work, `${runtime}.img`);
  const given = ["--tree", tree, "--kernel", kernel.vmlinuz, "--initrd", initrd, "--size", "256"];
  const script = join(import.meta.dirname!, "../examples/build_image.ts");
  const append = ["--append", "console=ttyS0 mitigations=off panic=-1"];
  output(onRuntime(runtime, script, image, ...given, ...append), { timeout: 120_000 });
  const { partitions } = await readPartitions(image);
  const start = Date.now();
  const said = await boot(image);
  const expected = [
    "disk: box, Linux ",
    "disk: /dev/vda2 / ext4 ro",
    `disk: PARTUUID=${partitions[1].uuid} / ext4 defaults 0 1`,
    `disk: ${digest}`,
    "disk: 1234:5678 640",
    "disk: end",
  ];
  const missing = expected.filter((line) => !said.includes(`\n${line}`));
  // uname -r may hide it, and uname -v has the package's version.
  if (!/^disk: box.*$/m.exec(said)?.[0].includes(kernel.release)) missing.push(kernel.release);
  const seconds = ((Date.now() - start) / 1000).toFixed(1);
  if (missing.length === 0) {
    console.log(
      `pass  built on ${runtime}: Linux ${kernel.release} from its own disk, ${seconds} s`,
    );
  } else {
    failed++;
    console.log(
      `fail  built on ${runtime}: not said: ${missing.join(" | ")}\n${said.slice(-5000)}`,
    );
  }
}
await Promise.all([tryRuntime("bun"), tryRuntime("deno")]);
process.exit(failed > 0 ? 1 : 0);
