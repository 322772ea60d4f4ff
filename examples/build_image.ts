/**
 * Makes a bootable disk of a folder, a kernel and an initrd.
 *
 *     debootstrap --include=linux-image-cloud-amd64,systemd-sysv trixie tree
 *     bun examples/build_image.ts disk.img --tree tree --kernel tree/vmlinuz --initrd tree/initrd.img
 *     qemu-system-x86_64 -m 1024 -drive file=disk.img,format=raw
 */
import { closeSync, lstatSync, mkdirSync, openSync, readFileSync, renameSync } from "node:fs";
import { rmSync, statSync, truncateSync, writeFileSync, writeSync } from "node:fs";
import { attach, type LoopDevice } from "../mod.ts";
import { parseOptions, print, runMain } from "./program.ts";
import { Steps } from "./steps.ts";
import { copyTree, sizeOfTree, tool } from "./tools.ts";

const HELP = `Usage: build_image.ts IMAGE --tree FOLDER --kernel FILE --initrd FILE [options]

Makes IMAGE, which must not exist yet: a disk that a PC boots, with a GPT, an EFI system partition
that has kernel, initrd and SYSLINUX, and an ext4 file system that has all that is in FOLDER. The
kernel is told the ext4 partition by its PARTUUID.

      --tree FOLDER   what the root file system shall have, as debootstrap makes it
      --kernel FILE   vmlinuz
      --initrd FILE   what brings the kernel to the root file system
      --size MIB      of the disk (1024)
      --append WORDS  for the kernel's command line ("quiet")
  -h, --help          this text

Needs root, and of Debian's packages dosfstools, e2fsprogs, fdisk, mtools, syslinux,
syslinux-common and tar.`;

const MIB = 1024 * 1024;
const ESP_MIB = 128;
/** Boot code of a PC's master boot record: it starts the partition with the attribute below. */
const BOOT_CODE = "/usr/lib/syslinux/mbr/gptmbr.bin";
/** Bytes before the disk identifier and the entries of an MBR. */
const MOST_BOOT_CODE = 440;
const TABLE = `label: gpt
size=${ESP_MIB}MiB, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name=esp, attrs=LegacyBIOSBootable
type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, name=root
`;
const [ESP, ROOT] = [1, 2];

interface Plan {
  readonly image: string;
  readonly tree: string;
  readonly kernel: string;
  readonly initrd: string;
  readonly mib: number;
  readonly append: string;
}

function parse(args: string[]): Plan | undefined {
  const { values, operands: [image, ...others] } = parseOptions(args, {
    tree: { type: "string" },
    kernel: { type: "string" },
    initrd: { type: "string" },
    size: { type: "string" },
    append: { type: "string" },
    help: { type: "boolean", short: "h" },
  });
  if (values.help) return undefined;
  if (image === undefined) throw new Error("no image given; try --help");
  if (others.length > 0) throw new Error(`more than one image: '${others[0]}'`);
  const given = (name: "tree" | "kernel" | "initrd"): string => {
    const path = values[name];
    if (path === undefined) throw new Error(`--${name} is missing; try --help`);
    const isFolder = statSync(path, { throwIfNoEntry: false })?.isDirectory();
    if (isFolder === undefined) throw new Error(`--${name}: there is no '${path}'`);
    if (isFolder !== (name === "tree")) {
      throw new Error(`--${name}: '${path}' is ${isFolder ? "a" : "no"} folder`);
    }
    return path;
  };
  const { size = "1024", append = "quiet" } = values;
  if (!/^\d+$/.test(size) || Number(size) < 2 * ESP_MIB) {
    throw new Error(`--size takes a number of MiB from ${2 * ESP_MIB} on, not '${size}'`);
  }
  // It becomes a line of a configuration file.
  if (/[^ -~]/.test(append)) throw new Error("--append takes printable ASCII characters");
  if (exists(image)) throw new Error(`'${image}' exists already`);
  const [tree, kernel, initrd] = [given("tree"), given("kernel"), given("initrd")];
  return { image, tree, kernel, initrd, mib: Number(size), append };
}

function exists(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

/** What IMAGE is until it is whole. */
function makeEmpty(path: string): void {
  if (exists(path)) throw new Error(`'${path}' exists: another build is at it, or was killed`);
  closeSync(openSync(path, "wx", 0o666));
}

/** An empty disk with a partition table and the boot code before it. */
async function makeDisk(path: string, mib: number, stop: AbortSignal): Promise<void> {
  truncateSync(path, mib * MIB);
  await tool(["sfdisk", "--quiet", path], { stop, input: TABLE });
  const code = readFileSync(BOOT_CODE);
  if (code.length > MOST_BOOT_CODE) throw new Error(`${BOOT_CODE} has ${code.length} bytes`);
  const disk = openSync(path, "r+");
  try {
    writeSync(disk, code, 0, code.length, 0);
  } finally {
    closeSync(disk);
  }
}

/** What the BIOS, and then SYSLINUX, needs. mtools write FAT without the kernel's driver for it. */
async function fillEsp(loop: LoopDevice, plan: Plan, stop: AbortSignal): Promise<void> {
  const { path } = partitionOf(loop, ESP);
  await tool(["syslinux", "--install", path], { stop });
  await tool(["mcopy", "-i", path, plan.kernel, "::/vmlinuz"], { stop });
  await tool(["mcopy", "-i", path, plan.initrd, "::/initrd.img"], { stop });
  const root = `root=PARTUUID=${partitionOf(loop, ROOT).uuid} ro ${plan.append}`;
  const serial = plan.append.includes("console=ttyS0") ? "SERIAL 0 115200\n" : "";
  const input =
    `${serial}DEFAULT linux\nLABEL linux\n  LINUX /vmlinuz\n  INITRD /initrd.img\n  APPEND ${root}\n`;
  await tool(["mcopy", "-i", path, "-", "::/syslinux.cfg"], { stop, input });
}

/** The tree, and where its partitions shall be mounted. */
async function fillRoot(
  loop: LoopDevice,
  plan: Plan,
  steps: Steps,
  signal: AbortSignal,
): Promise<void> {
  await using root = await loop.mount(ROOT, { signal });
  const total = await sizeOfTree(plan.tree, signal);
  await copyTree(plan.tree, root.path, signal, (bytes) => steps.show(bytes, total));
  const etc = `${root.path}/etc`;
  if (!exists(etc)) mkdirSync(etc);
  // A link there could lead to this machine's own /etc.
  if (!lstatSync(etc).isDirectory()) throw new Error(`'${plan.tree}/etc' is no folder`);
  rmSync(`${etc}/fstab`, { force: true });
  const fstab = [
    `PARTUUID=${partitionOf(loop, ROOT).uuid} / ext4 defaults 0 1`,
    `PARTUUID=${partitionOf(loop, ESP).uuid} /boot/efi vfat umask=0077,nofail 0 2`,
  ];
  writeFileSync(`${etc}/fstab`, fstab.join("\n") + "\n", { flag: "wx" });
  await root.unmount();
}

function partitionOf(loop: LoopDevice, number: number) {
  const found = loop.partitions.find((partition) => partition.number === number);
  if (found === undefined) throw new Error(`${loop.path} has no partition ${number}`);
  return found;
}

async function main(args: string[], stop: AbortSignal): Promise<number> {
  const plan = parse(args);
  if (plan === undefined) {
    print(HELP);
    return 0;
  }
  const part = `${plan.image}.part`;
  using steps = new Steps(5);
  makeEmpty(part);
  try {
    await steps.run("empty disk", () => makeDisk(part, plan.mib, stop));
    {
      await using loop = await attach(part, { partscan: true, signal: stop });
      const [esp, root] = [ESP, ROOT].map((number) => partitionOf(loop, number).path);
      await steps.run("file systems", async () => {
        await tool(["mkfs.vfat", "-F", "32", "-n", "ESP", esp], { stop });
        await tool(["mkfs.ext4", "-q", "-L", "root", root], { stop });
      });
      await steps.run("boot loader and kernel", () => fillEsp(loop, plan, stop));
      await steps.run("root file system", () => fillRoot(loop, plan, steps, stop));
      await steps.run("written back", () => loop.detach());
    }
    renameSync(part, plan.image);
  } catch (error) {
    rmSync(part, { force: true });
    throw error;
  }
  print(
    `${plan.image}: ${plan.mib} MiB; try qemu-system-x86_64 -m 1024 -drive file=${plan.image},format=raw`,
  );
  return 0;
}

await runMain("build_image", main);
