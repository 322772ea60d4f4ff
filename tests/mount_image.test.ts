/** mountImage(): all of an image in one call, on the file systems that this kernel mounts. */
import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { spawn } from "node:child_process";
import { createHash, randomUUID } from "node:crypto";
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import process from "node:process";
import { attach, LoopError, mountImage, type MountImageOptions, readPartitions } from "../mod.ts";
import { checkFileSystem } from "../lib/image/check.ts";
import { parseFstab, partsNamed, whyNotMounted } from "../lib/image/fstab.ts";
import { parseOsRelease } from "../lib/image/os_release.ts";
import { type Part, readParts } from "../lib/image/parts.ts";
import { findRoot, Looks } from "../lib/image/root.ts";
import { compareVersions } from "../lib/image/types.ts";
import { e2fsck } from "./support/mount_image.ts";
import { putBusybox } from "./support/run_image.ts";
import {
  assertDetached,
  holdBy,
  isolated,
  losetup,
  makeImage,
  MOD,
  onThisRuntime,
  output,
  run,
  scratch,
  test,
  testsOf,
  until,
} from "./support/support.ts";
import { tracedWithFault } from "./support/traced.ts";

const UUID = (number: number) => `00000000-0000-4000-8000-0000000000${number + 10}`;

/** Files by name; a name that ends with a slash is a directory, and `-> ` before a text makes a link. */
type Files = Record<string, string>;

function makeFiles(files: Files = {}): string {
  const folder = scratch(`files-${Math.random()}`);
  mkdirSync(folder);
  for (const [name, text] of Object.entries(files)) {
    const path = join(folder, name);
    mkdirSync(name.endsWith("/") ? path : dirname(path), { recursive: true });
    if (text.startsWith("-> ")) symlinkSync(text.slice(3), path);
    else if (!name.endsWith("/")) writeFileSync(path, text);
  }
  return folder;
}

interface Content {
  type?: string;
  name?: string;
  label?: string;
  files?: Files;
}

/** A GPT image of partitions of 4 MiB with an ext4 each, whose UUID ends with the partition's number. */
async function imageOf(name: string, contents: readonly Content[]): Promise<string> {
  const lines = contents.map(({ type, name }) =>
    ["size=4MiB", ...type ? [`type=${type}`] : [], ...name ? [`name="${name}"`] : []].join(", ")
  );
  const file = makeImage(name, 4 * contents.length + 2, `label: gpt\n${lines.join("\n")}\n`);
  for (const { number, start, size } of (await readPartitions(file)).partitions) {
    const { label, files } = contents[number - 1];
    if (files) makeExt4(file, { start, size, number, label, files });
  }
  return file;
}

function makeExt4(
  file: string,
  { start, size, number, label, files, folder = makeFiles(files) }: {
    start: number;
    size: number;
    number: number;
    label?: string;
    files?: Files;
    /** What is in it, if not `files`. */
    folder?: string;
  },
): void {
  const names = ["-U", UUID(number), ...label ? ["-L", label] : []];
  const journal = size < 8 * 2 ** 20 ? ["-O", "^has_journal"] : ["-J", "size=1"];
  const where = ["-E", `offset=${start},root_owner=0:0`, "-d", folder];
  output(["mkfs.ext4", "-q", "-b", "1024", ...journal, ...names, ...where, file, `${size / 1024}`]);
}

const points = (tree: { mounts: readonly { point: string; mount: { partition?: number } }[] }) =>
  tree.mounts.map(({ point, mount }) => `${point} ${mount.partition}`);
const checksum = (file: string) => createHash("sha256").update(readFileSync(file)).digest("hex");

/** No device, and no mount in this namespace. */
function assertNothingLeft(file: string, path?: string): void {
  assertDetached(file);
  if (path === undefined) return;
  assert(!readFileSync("/proc/self/mountinfo", "utf8").includes(path));
  assert(!existsSync(path));
}

const withExt4 = testsOf("mountImage()", ["root", "mkfs.ext4"]);
const SYSTEM = { "etc/os-release": 'ID=box\nPRETTY_NAME="The Box"\n' };

withExt4(
  "mountImage() mounts what fstab names, parents first, and unmounts it in reverse",
  [],
  async () => {
    const fstab = `# comment
UUID=${UUID(4)}\t/srv/data/deep ext4 defaults 0 2
LABEL=data  /srv/data auto noatime,nofail 0 2
PARTLABEL=boot\\040it /boot ext4 ro 0 2
UUID=${UUID(3)} / ext4 errors=remount-ro 0 1
tmpfs /tmp tmpfs defaults 0 0
`;
    const file = await imageOf("tree.img", [
      { name: "boot it", files: { "vmlinuz": "kernel", "release": "-> /etc/os-release" } },
      { label: "data", files: { "deep/": "" } },
      {
        files: { ...SYSTEM, "etc/fstab": fstab, "boot/": "", "srv/data/": "", "tmp/": "" },
      },
      { files: { "here": "it is" } },
    ]);
    const tree = await mountImage(file);
    assertEquals(points(tree), ["/ 3", "/srv/data 2", "/srv/data/deep 4", "/boot 1"]);
    assertEquals(tree.skipped, []);
    assertEquals(tree.osRelease, { ID: "box", PRETTY_NAME: "The Box" });
    assertEquals(readFileSync(join(tree.path, "srv/data/deep/here"), "utf8"), "it is");
    assertEquals(await tree.resolve("boot/vmlinuz"), `${tree.path}/boot/vmlinuz`);
    assertEquals(await tree.resolve("boot/release"), `${tree.path}/etc/os-release`);
    assertEquals(tree.mounts.map(({ mount }) => mount.readOnly), [false, false, false, true]);
    writeFileSync(await tree.resolve("srv/data/deep/new"), "written");
    assertEquals(JSON.parse(JSON.stringify(tree)).mounts[1].point, "/srv/data");
    assertEquals(await tree.unmount(), "unmounted");
    assertEquals(await tree.unmount(), "unmounted");
    assertNothingLeft(file, tree.path);
    await using again = await mountImage(file, { readOnly: false });
    assertEquals(readFileSync(join(again.path, "srv/data/deep/new"), "utf8"), "written");
    // Asked for by the caller, it counts for more than fstab's word.
    assertEquals(again.mounts.map(({ mount }) => mount.readOnly), [false, false, false, false]);
  },
);

withExt4(
  "mountImage() mounts nothing that lies outside the image, nor anywhere outside it",
  [],
  async () => {
    const outside = scratch("outside");
    mkdirSync(outside);
    const fstab = [
      "/etc /mnt none bind 0 0",
      "//nas/share /mnt cifs guest 0 0",
      "nas:/export /mnt nfs defaults 0 0",
      "/dev/sdb1 /mnt ext4 defaults 0 0",
      "LABEL=a /a/../../out ext4 defaults 0 0",
      "LABEL=b /link ext4 defaults 0 0",
      "LABEL=c /slash ext4 defaults 0 0",
      "LABEL=d /mnt ext4 device=/dev/sda,noatime 0 0",
      "LABEL=e /mnt ext4 noauto 0 0",
      "LABEL=f /not/there ext4 defaults 0 0",
      "LABEL=g /mnt ext4 suid,dev,exec,X-mount.owner=1 0 0",
      "LABEL=g /nul\\000 ext4 defaults 0 0",
      "LABEL=g /latin\\351 ext4 defaults 0 0",
    ].join("\n");
    const labels = ["a", "b", "c", "d", "e", "f", "g"];
    const root = {
      ...{ ...SYSTEM, "etc/fstab": fstab, "mnt/": "", "slash": "-> /", "link": `-> ${outside}` },
    };
    const file = await imageOf("hostile.img", [
      ...labels.map((label) => ({ label, files: {} })),
      // The link leads to a directory that the image has as well.
      { files: { ...root, [`${outside.slice(1)}/`]: "" } },
    ]);
    await using tree = await mountImage(file);
    assertEquals(points(tree), ["/ 8", "/link 2"]);
    assertEquals(tree.mounts[1].mount.path, join(tree.path, outside));
    assertEquals(statSync(outside).dev, statSync(dirname(outside)).dev);
    const said = tree.skipped.map(({ partition, source, reason }) =>
      `${partition ?? source}: ${reason}`
    );
    const expected = [
      /^1: its point has "\.\."/,
      /^3: its point is that of \S+: a link leads from \/slash there/,
      /^4: its option device=\/dev\/sda names a device outside/,
      /^5: fstab says noauto/,
      /^6: the root has no directory \/not\/there/,
      /^7: its point "\/nul\\u0000" is no name in UTF-8/,
      /^7: its point "\/latin\\udce9" is no name in UTF-8/,
      /^7: fstab: .*X-mount\.owner/,
      /^\/etc: it is a bind mount/,
      /^\/\/nas\/share: .*network/,
      /^nas:\/export: .*network/,
      /^\/dev\/sdb1: .*nothing of this image/,
    ];
    assertEquals(said.length, expected.length, said.join("\n"));
    expected.forEach((expression, i) => assertMatch(said[i], expression));
  },
);

withExt4("mountImage() mounts by type where fstab is silent", [], async () => {
  const [root, usr] = [ROOT_TYPE, USR_TYPE];
  const empty = { "usr/": "", "home/": "", "var/": "", "efi/": "", "boot/": "", "srv": "a file" };
  const file = await imageOf("typed.img", [
    { type: "933ac7e1-2eb4-4f13-b844-0e14e2aef915", files: {} },
    { type: root, name: "os_9", files: {} },
    { type: root, name: "os_10", files: { ...empty, "etc/fstab": `UUID=${UUID(6)} /var auto\n` } },
    { type: root, name: "_empty" },
    { type: usr, files: { "lib/os-release": "ID=typed\n" } },
    { files: {} },
    { type: "4d21b016-b534-45c2-a9fb-5c16e091fd2d", files: {} },
    { type: "3b8f8425-20e0-4f3b-907f-1a25a76f98e8", files: {} },
    { type: "bc13c2ff-59e6-4262-a352-b275fd6f7172", files: {} },
    { type: "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", files: {} },
  ]);
  await using tree = await mountImage(file);
  assertEquals(points(tree), ["/ 3", "/usr 5", "/var 6", "/home 1", "/boot 9", "/efi 10"]);
  assertEquals(tree.osRelease, { ID: "typed" });
  assertEquals(tree.skipped.map(({ partition }) => partition), [2, 4, 7, 8]);
  assertMatch(tree.skipped[0].reason, /it is a root, too; partition 3 was taken/);
  assertMatch(tree.skipped[3].reason, /ENOTDIR/);
});

withExt4("beside a partition of dm-verity the root is read-only", [], async () => {
  const file = await imageOf("verity.img", [
    { type: ROOT_TYPE, files: SYSTEM },
    { type: VERITY_TYPE },
  ]);
  await using tree = await mountImage(file);
  assertEquals(tree.mounts.map(({ mount }) => mount.readOnly), [true]);
  assertMatch(tree.skipped[0].reason, /dm-verity's data about root, .* without that check/);
});

const isArm = process.arch === "arm64";
const ROOT_TYPE = isArm
  ? "b921b045-1df0-41c3-af44-4c6f280d3fae"
  : "4f68bce3-e8cd-4db1-96e7-fbcaf984b709";
const USR_TYPE = isArm
  ? "b0e01050-ee5f-4390-949a-9101b17104e9"
  : "8484680c-9521-48c6-9c11-b0720656f69e";
const VERITY_TYPE = isArm
  ? "df3300ce-d69f-4c92-978c-9bfb0f38d820"
  : "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5";

withExt4(
  "mountImage() finds the root that the boot loader names, or says which there are",
  [],
  async () => {
    const slots = (boot: Files) => [
      { files: boot },
      { name: "a", files: SYSTEM },
      { name: "b", files: SYSTEM },
    ];
    const two = await imageOf("two.img", slots({ "extlinux/extlinux.conf": "# root=LABEL=x\n" }));
    const before = checksum(two);
    const error = await assertRejects(() => mountImage(two), LoopError);
    assertEquals(error.code, "EINVAL");
    assertStringIncludes(error.message, "the partitions 2 and 3 have an os-release file each");
    assertMatch(error.message, /\n {2}3 +Linux filesystem +b +ext\d +0{8}-\S+13 +4194304(\n|$)/);
    // It was looked into, and not changed.
    assertEquals(checksum(two), before);
    assertNothingLeft(two);
    await using chosen = await mountImage(two, { root: { name: "b" } });
    assertEquals(points(chosen), ["/ 3"]);
    {
      const line = `title Box\noptions quiet root=UUID=${UUID(3)}\n`;
      // Of a damaged or hostile image: what stands for no file.
      const odd = { "cmdline.txt": "-> /", "uEnv.txt": "-> uEnv.txt" };
      const slotted = slots({ "loader/entries/box.conf": line, ...odd });
      await using tree = await mountImage(await imageOf("entries.img", slotted));
      assertEquals(points(tree), ["/ 3"]);
    }
    for (const root of [`UUID=${UUID(3)}`, "/dev/mmcblk0p3"]) {
      const line = `APPEND quiet root=${root} rootwait\n`;
      const named = await imageOf("named.img", slots({ "boot/extlinux/extlinux.conf": line }));
      await using tree = await mountImage(named);
      assertEquals(points(tree), ["/ 3"], root);
    }
  },
);

withExt4("mountImage() says why a root cannot be mounted", [], async () => {
  const swap = await imageOf("swap.img", [{ type: ROOT_TYPE, name: "system" }]);
  {
    await using loop = await attach(swap, { partscan: true });
    output(["mkswap", loop.partitions[0].path]);
  }
  const cases: [file: string, says: RegExp][] = [
    [swap, /partition 1 is the root, and it holds swap: .*\n {2}NUMBER .*\n {2}1 .* system +swap /],
    [makeImage("zero.img", 1), /all of it is zero/],
    [makeImage("empty.img", 2, "label: gpt\n"), /partition table without a partition/],
  ];
  for (const [file, says] of cases) {
    const { code, message } = await assertRejects(() => mountImage(file), LoopError);
    assertEquals(code, "EINVAL");
    assertMatch(message, says);
    assertNothingLeft(file);
  }
});

withExt4("mountImage() takes a bare file system for its own root", [], async () => {
  const file = makeImage("bare.img", 4);
  makeExt4(file, { start: 0, size: 4 * 2 ** 20, number: 1, files: SYSTEM });
  await using tree = await mountImage(file);
  assertEquals([points(tree), tree.skipped], [["/ undefined"], []]);
  assertEquals(tree.osRelease?.ID, "box");
});

withExt4(
  "mountImage() waits for no FIFO, and takes what of fstab this kernel takes",
  [],
  async () => {
    const lines = [
      "/dev/root / ext4 noatime,frobnicate=1,journal_dev=7 0 0",
      "/dev/\\033[31m /red ext4",
      "LABEL=other /mnt ext4",
      "LABEL=other /mnt/below ext4",
      ...Array(300).fill("LABEL=other /mnt ext4"),
    ];
    const files = makeFiles({ "etc/fstab": lines.join("\n"), "mnt/": "" });
    output(["mkfifo", join(files, "etc/os-release")]);
    const file = await imageOf("odd.img", [
      { type: "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", label: "other", files: { "below/": "" } },
      { files: {} },
    ]);
    const [, { start, size }] = (await readPartitions(file)).partitions;
    const where = ["-E", `offset=${start}`, "-d", files];
    output(["mkfs.ext4", "-q", "-F", "-b", "1024", ...where, file, `${size / 1024}`]);
    // The only one whose type says nothing else.
    await using tree = await mountImage(file);
    assertEquals([points(tree), tree.osRelease], [["/ 2", "/mnt 1", "/mnt/below 1"], undefined]);
    const reasons = tree.skipped.map(({ reason }) => reason);
    assertEquals([reasons.length, reasons[253]], [254, "only its first 256 lines are read"]);
    assertEquals(reasons[0], "fstab has another line for /mnt");
    assertEquals(reasons[252], "/dev/\\u001b[31m is nothing of this image");
  },
);

withExt4("the end of a tree tells its first error, and what is still mounted for it", [
  "strace",
], async () => {
  const file = await imageOf("ends.img", [
    { files: { ...SYSTEM, "etc/fstab": "LABEL=data /srv ext4\n", "srv/": "" } },
    { label: "data", files: {} },
  ]);
  const { stdout } = tracedWithFault(
    `import { mountImage } from ${JSON.stringify(MOD)};
     const tree = await mountImage(${JSON.stringify(file)});
     const { code, message } = await tree.unmount().catch((error) => error);
     console.log(JSON.stringify([code, message, tree.path]));`,
    { calls: "openat,umount2" },
    { call: /^umount2/, how: (nth) => `error=EPERM:when=${nth}` },
  );
  const [code, message, path] = JSON.parse(stdout);
  assertEquals(code, "EPERM");
  assertStringIncludes(message, `umount ${path}/srv unmounts it`);
  assertStringIncludes(message, `and then EBUSY: device or resource busy, '${path}'`);
});

withExt4("MountedImage.trim() gives back what no file system of the tree uses", [], async () => {
  const file = await imageOf("trim.img", [
    { files: { ...SYSTEM, "etc/fstab": "LABEL=data /srv ext4\n", "srv/": "" } },
    { label: "data", files: {} },
  ]);
  await using tree = await mountImage(file);
  for (const name of ["big", "srv/big"]) {
    const path = join(tree.path, name);
    writeFileSync(path, "x".repeat(2 ** 20));
    output(["sync", "-f", path]);
    rmSync(path);
  }
  const before = statSync(file).blocks * 512;
  const bytes = await tree.trim();
  assert(bytes >= 2 * 2 ** 20, `${bytes}`);
  const after = statSync(file).blocks * 512;
  assert(before - after >= 1.5 * 2 ** 20, `${before} to ${after}`);
});

withExt4("mountImage() with owner gives all mounts to a user", [], async () => {
  const [uid, gid] = [54321, 54322];
  const file = await imageOf("owner.img", [
    { files: { ...SYSTEM, "etc/fstab": "LABEL=data /srv ext4\n", "srv/": "" } },
    { label: "data", files: { "file": "x" } },
  ]);
  const tree = await mountImage(file, { owner: { uid, gid } });
  for (const name of ["etc", "srv", "srv/file"]) {
    const status = statSync(join(tree.path, name));
    assertEquals([status.uid, status.gid], [uid, gid], name);
  }
  assertEquals(await tree.unmount(), "unmounted");
  assertNothingLeft(file, tree.path);
});

withExt4("mountImage() refuses a second writable mount of the same file", [], async () => {
  const file = await imageOf("twice.img", [{ files: SYSTEM }]);
  await using first = await mountImage(file);
  const { code, message } = await assertRejects(() => mountImage(file), LoopError);
  assertEquals(code, "EEXIST");
  assertStringIncludes(message, first.loop.path);
  await (await mountImage(file, { readOnly: true })).unmount();
});

withExt4(
  "mountImage() refuses a disk that is mounted without a loop device over it",
  [],
  async () => {
    const file = await imageOf("disk.img", [{ files: SYSTEM }]);
    await using disk = await attach(file, { partscan: true });
    const nodes = [disk.path, disk.partitions[0].path];
    {
      await using _mount = await disk.mount(1);
      for (const node of nodes) {
        for (const begin of [mountImage, attach]) {
          const refused = () => begin(node, { overlap: "refuse" });
          const { code, path, message } = await assertRejects(refused, LoopError);
          assertEquals([code, path], ["EBUSY", node]);
          assertStringIncludes(message, `lsblk ${node} shows by which`);
        }
        assertDetached(node);
        await (await mountImage(node, { readOnly: true })).unmount();
      }
    }
    for (const node of nodes) await (await mountImage(node)).unmount();
  },
);

const withBusybox = testsOf("MountedImage.run()", [
  "root",
  "mkfs.ext4",
  "busybox",
  "unshare",
  "mount",
]);

withBusybox("MountedImage.run() runs a command with all mounts of the tree", [], async () => {
  const file = makeImage("run.img", 22, "label: gpt\nsize=16MiB\nsize=4MiB\n");
  const [root, data] = (await readPartitions(file)).partitions;
  // This machine has a /tmp as well, and a command gets a new one where the image has none mounted.
  const files = { "etc/fstab": "LABEL=data /link ext4\n", "tmp/": "", "link": "-> /tmp" };
  const folder = makeFiles({ ...SYSTEM, ...files });
  putBusybox(folder);
  makeExt4(file, { ...root, folder });
  makeExt4(file, { ...data, label: "data", files: { "file": "of the data" } });
  await using image = await mountImage(file);
  assertEquals(points(image), ["/ 1", "/link 2"]);
  const name = `new-${process.pid}`;
  const script = `cat /tmp/file; touch /link/${name}; exit 7`;
  const { code, stdout } = await image.run(["sh", "-c", script], { stdout: "piped" });
  assertEquals([code, new TextDecoder().decode(stdout)], [7, "of the data"]);
  assert(existsSync(join(image.path, "tmp", name)) && !existsSync(join("/tmp", name)));
  const sleeping = image.run(["sh", "-c", "touch /tmp/begun; sleep 100"]);
  await until(() => existsSync(join(image.path, "tmp/begun")), "the command to begin");
  const busy = await assertRejects(() => image.unmount(), LoopError);
  assertEquals(busy.code, "EBUSY");
  // The end of a block kills it.
  await image[Symbol.asyncDispose]();
  assert((await sleeping).signal !== undefined);
  assertNothingLeft(file, image.path);
});

/** A copy of an image while an ext4 on it is mounted and its journal has to be replayed. */
async function dirtyCopy(name: string): Promise<string> {
  const file = makeImage(`live-${name}`, 18, `label: gpt\nsize=16MiB, type=${ROOT_TYPE}\n`);
  const [{ start, size }] = (await readPartitions(file)).partitions;
  makeExt4(file, { start, size, number: 1, files: SYSTEM });
  const copy = scratch(name);
  await using loop = await attach(file, { partscan: true });
  await using root = await loop.mount(1);
  for (let i = 0; i < 20; i++) writeFileSync(join(root.path, `file${i}`), "x".repeat(2000));
  output(["sync", "-f", root.path]);
  output(["sync", file]);
  copyFileSync(file, copy);
  return copy;
}

withExt4("mountImage() with readOnly changes no byte, whatever its journal says", [], async () => {
  const file = await dirtyCopy("dirty.img");
  const state = output(["dumpe2fs", "-h", `${file}?offset=${2 ** 20}`]);
  assertStringIncludes(state, "needs_recovery");
  const before = checksum(file);
  {
    await using tree = await mountImage(file, { readOnly: true });
    assertEquals(tree.osRelease?.ID, "box");
    assert(tree.mounts[0].mount.readOnly);
  }
  assertEquals(checksum(file), before);
  await using tree = await mountImage(file);
  assertEquals(readFileSync(join(tree.path, "file19"), "utf8"), "x".repeat(2000));
});

/** How many sectors of a device were written. */
const writtenOn = (device: string) =>
  Number(readFileSync(`/sys/class/block/${basename(device)}/stat`, "utf8").trim().split(/ +/)[6]);

withExt4("mountImage() writes no byte of a partition that the table lets nobody write", [
  "mkfs.xfs",
  "sgdisk",
], async () => {
  const verity = `label: gpt\nsize=300MiB, type=${ROOT_TYPE}\nsize=1MiB, type=${VERITY_TYPE}\n`;
  const clean = makeImage("verity.img", 303, verity);
  {
    await using loop = await attach(clean, { partscan: true });
    output(["mkfs.xfs", "-q", "-K", loop.partitions[0].path]);
  }
  {
    await using tree = await mountImage(clean);
    const [{ mount }] = tree.mounts;
    assertEquals([mount.type, mount.readOnly, tree.loop.readOnly], ["xfs", true, false]);
    await mount.unmount();
    assertEquals(writtenOn(mount.device), 0);
  }
  const dirty = await dirtyCopy("dirty.img");
  output(["sgdisk", "--attributes=1:set:60", dirty]);
  const before = checksum(dirty);
  {
    await using tree = await mountImage(dirty);
    assert(tree.mounts[0].mount.readOnly);
  }
  assertEquals(checksum(dirty), before);
  await using tree = await mountImage(dirty, { readOnly: false });
  assertEquals(readFileSync(join(tree.path, "file19"), "utf8"), "x".repeat(2000));
});

withExt4(
  "check has the file system's own tool repair it, and what that leaves is an error",
  [],
  async () => {
    const file = makeImage("damaged.img", 4);
    makeExt4(file, { start: 0, size: 4 * 2 ** 20, number: 1, files: SYSTEM });
    output(["debugfs", "-w", "-R", "set_inode_field etc links_count 9", file]);
    output(["debugfs", "-w", "-R", "set_super_value state 0", file]);
    assert(run(["e2fsck", "-fn", file]).status !== 0);
    await (await mountImage(file, { check: true })).unmount();
    assertEquals(e2fsck(file), "clean");
    output(["debugfs", "-w", "-R", "clri <2>", file]);
    output(["debugfs", "-w", "-R", "set_super_value state 0", file]);
    const { code, message } = await assertRejects(
      () => mountImage(file, { check: true }),
      LoopError,
    );
    assertEquals(code, "EUCLEAN");
    assertMatch(
      message,
      /e2fsck -p \/dev\/loop\d+ gave exit code 4: run it by hand, without -p\)\n {2}/,
    );
    assertNothingLeft(file);
  },
);

withExt4("check looks at each file system once, and before it is in use", [], async () => {
  const fstab = "LABEL=data /one ext4\nLABEL=data /two ext4\n";
  const file = await imageOf("once.img", [
    { files: { ...SYSTEM, "etc/fstab": fstab, "one/": "", "two/": "" } },
    { label: "data", files: {} },
  ]);
  await using tree = await mountImage(file, { check: true });
  assertEquals([points(tree), tree.skipped], [["/ 1", "/one 2", "/two 2"], []]);
});

test("check has an xfs replay its log, which is no damage", ["root", "mkfs.xfs"], async () => {
  const [file, copy] = [makeImage("live.img", 300), scratch("cut-off.img")];
  output(["mkfs.xfs", "-q", file]);
  {
    await using loop = await attach(file);
    await using root = await loop.mount();
    for (let i = 0; i < 50; i++) mkdirSync(join(root.path, `folder${i}`));
    writeFileSync(join(root.path, "saved"), "x");
    output(["sync", join(root.path, "saved")]);
    output(["cp", "--sparse=always", file, copy]);
  }
  assertEquals(run(["xfs_repair", "-n", copy]).status, 1);
  {
    await using tree = await mountImage(copy, { check: true });
    assertEquals(readFileSync(join(tree.path, "saved"), "utf8"), "x");
  }
  assertEquals(run(["xfs_repair", "-n", copy]).status, 0);
});

withExt4("nothing of a mounted image outlives its process", [], async () => {
  const file = await imageOf("killed.img", [
    { files: { ...SYSTEM, "etc/fstab": "LABEL=data /srv ext4\n", "srv/": "" } },
    { label: "data", files: {} },
  ]);
  const script = scratch("killed.ts");
  writeFileSync(
    script,
    `import { mountImage } from ${JSON.stringify(MOD)};
     const tree = await mountImage(${JSON.stringify(file)});
     console.log(tree.path, tree.mounts.length);
     setInterval(() => {}, 1000);`,
  );
  const [name, ...args] = onThisRuntime(script);
  const child = spawn(name, args, { stdio: ["ignore", "pipe", "inherit"] });
  const [path, count] = String(await new Promise((resolve) => child.stdout.once("data", resolve)))
    .trim().split(" ");
  assertEquals(count, "2");
  assert(readFileSync("/proc/self/mountinfo", "utf8").includes(`${path}/srv `));
  const ended = new Promise((resolve) => child.on("exit", resolve));
  child.kill("SIGKILL");
  await ended;
  await until(() => !existsSync(path) && losetup(file).length === 0, "all of it to end");
  assertNothingLeft(file, path);
});

withExt4("MountedImage.unmount() says if somebody still uses a file", [], async () => {
  const file = await imageOf("used.img", [{ files: { ...SYSTEM, "held": "x" } }]);
  const tree = await mountImage(file);
  {
    await using _holder = await holdBy('exec 3<"$0"', join(tree.path, "held"));
    assertEquals(await tree.unmount(), "deferred");
    assert(!existsSync(tree.path));
  }
  await until(() => losetup(file).length === 0, "the device to go");
});

withExt4("mountImage() undoes everything when its signal aborts", [], async () => {
  const file = await imageOf("aborted.img", [{ files: SYSTEM }]);
  for (const delay of [0, 1, 3, 6, 10, 15, 20]) {
    const signal = AbortSignal.timeout(delay);
    const tree = await mountImage(file, { signal }).catch((error) => {
      assertEquals(error.name, "TimeoutError");
      return undefined;
    });
    await tree?.unmount();
    await until(() => losetup(file).length === 0, "the device to go");
  }
});

const withBtrfs = testsOf("mountImage() and btrfs", ["root", "mkfs.btrfs"]);

withBtrfs(
  "mountImage() finds the subvolume of the root, which is not the default one",
  [],
  async () => {
    const file = makeImage("sub.img", 64);
    // The kernel mounts no two with one UUID, and another suite may run this test now.
    const uuid = randomUUID();
    output(["mkfs.btrfs", "-q", "--mixed", "-U", uuid, file]);
    {
      await using loop = await attach(file);
      await using top = await loop.mount();
      const write = (name: string, text: string) => {
        mkdirSync(join(top.path, dirname(name)), { recursive: true });
        writeFileSync(join(top.path, name), text);
      };
      const subvolumes = ["root", "home", "snap"].map((name) => join(top.path, name));
      for (const path of subvolumes) output(["btrfs", "-q", "subvolume", "create", path]);
      const fstab = [
        `UUID=${uuid} / btrfs compress=zstd:1`,
        `UUID=${uuid} /home btrfs subvol=home`,
        `UUID=${uuid} /snap btrfs subvol=snap,ro`,
      ];
      write("root/etc/os-release", "ID=sub\n");
      write("root/etc/fstab", `${fstab.join("\n")}\n`);
      for (const name of ["home", "snap"]) write(`root/${name}/.keep`, "");
      write("home/user", "me");
      write("snap/etc/os-release", "ID=old\n");
    }
    await using tree = await mountImage(file);
    assertEquals(tree.osRelease, { ID: "sub" });
    assertEquals(readFileSync(join(tree.path, "home/user"), "utf8"), "me");
    // Trimmed by one that is writable.
    assertEquals(tree.mounts.map(({ mount }) => mount.readOnly), [false, false, true]);
    assert(await tree.trim() > 0);
    assertEquals(await tree.unmount(), "unmounted");
  },
);

withBtrfs(
  "mountImage() takes the subvolume that it has seen for one that is not there",
  [],
  async () => {
    const file = makeImage("copied.img", 64);
    const uuid = randomUUID();
    output(["mkfs.btrfs", "-q", "--mixed", "-U", uuid, file]);
    {
      await using loop = await attach(file);
      await using top = await loop.mount();
      output(["btrfs", "-q", "subvolume", "create", join(top.path, "@")]);
      mkdirSync(join(top.path, "@/etc"));
      writeFileSync(join(top.path, "@/etc/os-release"), "ID=copied\n");
      // The number that it had where it was copied from.
      const line = `UUID=${uuid} / btrfs noatime,ro,subvolid=300,subvol=/@ 0 0\n`;
      writeFileSync(join(top.path, "@/etc/fstab"), line);
    }
    await using tree = await mountImage(file);
    assertEquals([tree.osRelease, tree.mounts[0].mount.readOnly], [{ ID: "copied" }, true]);
  },
);

withExt4("mountImage() lists what fstab says twice, or below what is not mounted", [], async () => {
  const esp = { type: "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", files: {} };
  const image = async (name: string, fstab: string[], files: Files) =>
    await imageOf(name, [
      { label: "twin", files: {} },
      { label: "twin", files: {} },
      { files: { ...SYSTEM, "etc/fstab": fstab.join("\n"), ...files } },
      { label: "four", files: {} },
      esp,
    ]);
  const tags = [
    ...["LABEL=twin /srv ext4", "LABEL=gone /data/ ext4", "LABEL=four /data/below ext4"],
    ...["LABEL=four /boot ext4 ro", "LABEL=four /boot/ ext4", "LABEL=gone /etc ext4"],
  ];
  const folders = { "srv/": "", "boot/": "", "data/below/": "", "efi/": "", "efi/full": "x" };
  {
    await using tree = await mountImage(await image("twice.img", tags, folders));
    assertEquals(points(tree), ["/ 3", "/boot 4"]);
    const said = tree.skipped.map(({ partition, reason }) => `${partition}: ${reason}`);
    assertEquals(said, [
      "1: neither fstab nor its type says where it belongs",
      "2: neither fstab nor its type says where it belongs",
      "4: fstab has another line for /boot",
      "4: it lies below /data/, which is not mounted",
      "5: /efi is not an empty directory of the root",
      "undefined: LABEL=twin fits the partitions 1 and 2",
      "undefined: LABEL=gone is nothing of this image",
      "undefined: LABEL=gone is nothing of this image",
    ]);
    assert(await tree.trim() >= 0);
  }
  // Names of the kernel's count where what they name holds what the line says.
  const names = [
    ...["/dev/sda1 /boot vfat", "/dev/sda4 /efi auto", "/dev/sda2 /srv vfat,ext4"],
    "/dev/sda5 /mnt ext2",
  ];
  const more = { "srv/": "", "boot/": "", "efi/": "", "mnt/": "" };
  await using tree = await mountImage(await image("names.img", names, more));
  assertEquals(points(tree), ["/ 3", "/efi 4", "/srv 2", "/mnt 5"]);
  const reason = "/dev/sda1 would be partition 1, which holds no vfat";
  assertEquals(tree.skipped.at(-1), { source: "/dev/sda1", point: "/boot", reason });
});

withExt4("mountImage() takes the only file system that can be a root, or none", [], async () => {
  const refused = async (name: string, ...contents: Content[]) => {
    const { code, message } = await assertRejects(
      async () => mountImage(await imageOf(name, contents)),
      LoopError,
    );
    assertEquals(code, "EINVAL");
    return message;
  };
  const line = { "extlinux/extlinux.conf": "APPEND root=LABEL=twin\n" };
  const twin = { label: "twin", files: { ...SYSTEM, ...line } };
  assertStringIncludes(await refused("twins.img", twin, twin), "the partitions 1 and 2 have an");
  const none = "none of its partitions has the type of a root";
  assertStringIncludes(await refused("plain.img", { files: {} }, { files: {} }), none);
  assertStringIncludes(await refused("usr.img", { type: USR_TYPE, files: {} }), none);
  const home = { type: "933ac7e1-2eb4-4f13-b844-0e14e2aef915", files: {} };
  {
    await using tree = await mountImage(await imageOf("home.img", [home]));
    assertEquals(points(tree), ["/ 1"]);
  }
  const locked = await imageOf("locked.img", [{ files: {} }, {}]);
  const [, { start }] = (await readPartitions(locked)).partitions;
  const bytes = readFileSync(locked);
  bytes.set([0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe, 0, 1], start);
  writeFileSync(locked, bytes);
  assertStringIncludes((await assertRejects(() => mountImage(locked), LoopError)).message, none);
  // A feature that no kernel has.
  const unknown = await imageOf("unknown.img", [{ files: {} }, { files: {} }]);
  const [, { start: at }] = (await readPartitions(unknown)).partitions;
  const changed = readFileSync(unknown);
  changed[at + 1024 + 0x63] |= 0x80;
  writeFileSync(unknown, changed);
  const { message } = await assertRejects(() => mountImage(unknown), LoopError);
  assertMatch(
    message,
    /has the type of a root.*; partition 2 could not be looked into \(E[A-Z]+: /,
  );
});

test("mountImage() names the file that cannot be read, and the way without it", [
  "root",
  "mksquashfs",
], async () => {
  const fstab = Array.from({ length: 4000 }, (_, i) => i * i).join();
  const bare = scratch("damaged.img");
  const folder = makeFiles({ ...SYSTEM, "etc/fstab": fstab });
  output(["mksquashfs", folder, bare, "-quiet", "-no-fragments", "-no-xattrs", "-noappend"]);
  const bytes = readFileSync(bare);
  // Behind the superblock is the first block of the first file.
  bytes.fill(0x55, 96, 512);
  writeFileSync(bare, bytes);
  const failed = async (file: string) =>
    await assertRejects(() => mountImage(file, { readOnly: true }), LoopError);
  const { code, path, message } = await failed(bare);
  assertEquals([code, path.replace(/^.*loop\d+-\d+/, "")], ["EIO", "/etc/fstab"], message);
  assertStringIncludes(message, "attach() and LoopDevice.mount() mount the file system without");
  assertNothingLeft(bare);
  const twice = await imageOf("twice.img", [{}, {}]);
  const disk = readFileSync(twice);
  for (const { start } of (await readPartitions(twice)).partitions) disk.set(bytes, start);
  writeFileSync(twice, disk);
  const seen = (await failed(twice)).message;
  assertMatch(seen, /partition 2 could not be looked into \(EIO: .*'\/dev\/loop\d+p2\/etc\/fstab'/);
  {
    await using loop = await attach(bare, { readOnly: true });
    await using root = await loop.mount();
    assertStringIncludes(readFileSync(join(root.path, "etc/os-release"), "utf8"), "The Box");
  }
});

withExt4("a point that cannot be told or read keeps none of the others away", [
  "debugfs",
], async () => {
  const fstab = "LABEL=data /odd ext4\nLABEL=data /srv ext4\n";
  const folder = makeFiles({ ...SYSTEM, "etc/fstab": fstab, "srv/": "", "boot/": "" });
  const odd = 'cd "$0" && name=$(printf "latin\\351") && mkdir "$name" && ln -s "$name" odd';
  output(["sh", "-c", odd, folder]);
  const file = await imageOf("odd.img", [
    { type: ROOT_TYPE },
    { label: "data", files: {} },
    { type: "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", files: {} },
  ]);
  const [{ start, size }] = (await readPartitions(file)).partitions;
  makeExt4(file, { start, size, number: 1, folder });
  // No extent begins so.
  const damage = "set_inode_field boot block[0] 1";
  output(["debugfs", "-w", "-R", damage, `${file}?offset=${start}`]);
  // A writable ext4 that finds this turns read-only, and its unmount says so.
  await using tree = await mountImage(file, { readOnly: true });
  assertEquals(points(tree), ["/ 1", "/srv 2"]);
  const [link, damaged] = tree.skipped.map(({ point, reason }) => `${point}: ${reason}`);
  assertStringIncludes(
    link,
    '/odd: a link leads from /odd to "/latin\\udce9", which is no name in',
  );
  assertMatch(damaged, /^\/boot: EUCLEAN: .*\/boot'/);
});

/** Writes a few bytes into an image. */
function patch(file: string, at: number, text: string): void {
  const bytes = Uint8Array.from(text, (letter) => letter.charCodeAt(0));
  const fd = openSync(file, "r+");
  writeSync(fd, bytes, 0, bytes.length, at);
  closeSync(fd);
}

/** The signature of the oldest swap space. */
const SWAP = [4086, "SWAP-SPACE"] as const;

withExt4("mountImage() goes by fstab where that is clear, and says where it is not", [
  "sgdisk",
], async () => {
  const fstab = (root: number, options: string) => `UUID=${UUID(root)} / ext4 ${options}\n`;
  const lines = [
    // Each of them is an option, and not all together.
    fstab(1, "noatime,strictatime,X-mount.owner=1"),
    "LABEL=both /data ext4\nLABEL=made /new/deep ext4 x-mount.mkdir=0700\n/dev/sda5 /other ext4\n",
  ].join("");
  const file = await imageOf("rules.img", [
    { type: ROOT_TYPE, files: { ...SYSTEM, "etc/fstab": lines, "data/": "", "other/": "" } },
    { label: "both", files: {} },
    { label: "made", files: { "here": "" } },
    { type: ROOT_TYPE, files: { ...SYSTEM, "etc/fstab": fstab(1, "ro") } },
    { type: "933ac7e1-2eb4-4f13-b844-0e14e2aef915", files: {} },
  ]);
  output(["sgdisk", "--attributes=5:set:63", file]);
  const [, { start }] = (await readPartitions(file)).partitions;
  patch(file, start + SWAP[0], SWAP[1]);
  {
    await using tree = await mountImage(file);
    assertEquals(points(tree), ["/ 1", "/data 2", "/new/deep 3"]);
    assert(existsSync(join(tree.path, "new/deep/here")));
    const said = tree.skipped.map(({ partition, source, reason }) => [partition ?? source, reason]);
    assertEquals(said, [
      [4, "it is a root, too; partition 1 was taken"],
      [5, "neither fstab nor its type says where it belongs"],
      [
        "/dev/sda5",
        "/dev/sda5 may be another disk's: fstab names those of this one by what is on them",
      ],
    ]);
  }
  // What its fstab says of "/" is about the other one.
  const stop = new AbortController();
  const tree = await mountImage(file, { root: 4 });
  assertEquals([points(tree), tree.mounts[0].mount.readOnly], [["/ 4"], false]);
  const unmounting = tree.unmount({ signal: stop.signal });
  stop.abort(new TypeError("enough"));
  await assertRejects(() => unmounting, TypeError, "enough");
  assertEquals(await tree.unmount(), "unmounted");
});

withExt4("mountImage() takes no disc for the root over which a system was written", [
  "genisoimage",
], async () => {
  const file = await imageOf("stick.img", [{ files: SYSTEM }]);
  const [{ start }] = (await readPartitions(file)).partitions;
  const [iso, big] = [scratch("old.iso"), "x".repeat(start)];
  output(["genisoimage", "-quiet", "-o", iso, makeFiles({ big })]);
  // What a table and a partition leave of it.
  const bytes = readFileSync(iso).subarray(32_768, start);
  const disk = readFileSync(file);
  disk.set(bytes, 32_768);
  writeFileSync(file, disk);
  {
    await using loop = await attach(file);
    assertEquals((await loop.fileSystem())?.type, "iso9660");
  }
  {
    await using tree = await mountImage(file);
    assertEquals([points(tree), tree.osRelease?.ID], [["/ 1"], "box"]);
  }
  // A smaller disc, and a file system behind it.
  output(["genisoimage", "-quiet", "-no-pad", "-o", iso, makeFiles({ small: "x" })]);
  disk.set(readFileSync(iso).subarray(32_768), 32_768);
  writeFileSync(file, disk);
  await using loop = await attach(file, { partscan: true });
  assertEquals((await findRoot(await readParts(loop), new Looks(), undefined)).path, loop.path);
});

withExt4("mountImage() lists a partition that cannot be read", ["losetup"], async () => {
  const file = makeImage("cut.img", 14, `label: dos\n${"size=4MiB\n".repeat(3)}`);
  const { partitions } = await readPartitions(file);
  for (const { number, start, size } of partitions) {
    makeExt4(file, { start, size, number, files: SYSTEM });
  }
  // What an earlier use of the disk has left, and a partition over another one.
  patch(file, ...SWAP);
  patch(file, 446 + 3 * 16, "\0\0\0\0\x83\0\0\0\0\x18\0\0\0\x08\0\0");
  const undecided = () => assertRejects(() => mountImage(file), LoopError);
  assertStringIncludes((await undecided()).message, "the partitions 1 and 2 and 3 have");
  await using disk = await attach(file);
  // The device below ends here, as a failing disk does.
  truncateSync(file, partitions[2].start);
  const { message } = await assertRejects(() => mountImage(disk.path), LoopError);
  assertMatch(message, /the partitions 1 and 2 have .*\n {2}3 +Linux +unreadable: EIO +4194304/s);
  await using tree = await mountImage(disk.path, { root: 1 });
  assertEquals(points(tree), ["/ 1"]);
  const [two, three, four] = tree.skipped.map(({ partition, reason }) => `${partition}: ${reason}`);
  assertEquals(three, "3: it cannot be read: EIO");
  assertEquals(two, "2: neither fstab nor its type says where it belongs");
  assertMatch(four, /^4: it overlaps partition 1/);
});

withExt4("mountImage() says first why the root does not take what its fstab says", [], async () => {
  const file = makeImage("read-only.img", 4);
  const files = makeFiles({ ...SYSTEM, "etc/fstab": "/dev/root / ext4 noatime,data=ordered\n" });
  const features = ["-O", "^metadata_csum,^has_journal"];
  output(["mkfs.ext4", "-q", "-b", "1024", ...features, "-d", files, file]);
  // A feature that no kernel has, and that does not keep anybody from reading.
  patch(file, 1024 + 0x64 + 3, "\x40");
  const { code, message } = await assertRejects(() => mountImage(file), LoopError);
  assertEquals(code, "EINVAL");
  assertStringIncludes(message, "mount it with readOnly: true");
  await using tree = await mountImage(file, { readOnly: true });
  assertEquals(tree.osRelease?.ID, "box");
});

test("mountImage() mounts an xfs beside a copy of it", ["root", "mkfs.xfs"], async () => {
  const file = makeImage("one.img", 300);
  output(["mkfs.xfs", "-q", file]);
  const copies = ["two.img", "three.img"].map(scratch);
  for (const copy of copies) output(["cp", "--sparse=always", file, copy]);
  await using one = await mountImage(file);
  await using two = await mountImage(copies[0]);
  await using three = await mountImage(copies[1], { readOnly: true });
  assertEquals([one, two, three].map(points), Array(3).fill(["/ undefined"]));
});

test("mountImage() finds the system in the only subvolume that has one", [
  "root",
  "mkfs.btrfs",
], async () => {
  const file = makeImage("subvolumes.img", 128);
  output(["mkfs.btrfs", "-q", file]);
  {
    await using loop = await attach(file);
    await using root = await loop.mount();
    output(["btrfs", "subvolume", "create", `${root.path}/system`]);
    // Directories, whose names are no options.
    const odd = 'mkdir -p "$0/$1/etc/a" "$0/$(printf "\\377")/etc/a"';
    output(["sh", "-c", odd, root.path, "n".repeat(250)]);
    for (const folder of ["system", "plain"]) {
      mkdirSync(`${root.path}/${folder}/etc`, { recursive: true });
      writeFileSync(`${root.path}/${folder}/etc/os-release`, `ID=${folder}\n`);
    }
  }
  const bare = makeImage("bare.img", 32);
  output(["mkfs.btrfs", "-q", "--mixed", bare]);
  {
    await using tree = await mountImage(bare);
    assertEquals([points(tree), tree.osRelease], [["/ undefined"], undefined]);
  }
  await using tree = await mountImage(file);
  assertEquals([points(tree), tree.osRelease], [["/ undefined"], { ID: "system" }]);
});

test("checkFileSystem() names what it found, and asks no tool where there is none", [
  "mkfs.xfs",
], async () => {
  const file = makeImage("damaged.img", 1);
  await checkFileSystem("squashfs", file);
  const { code, message } = await assertRejects(() => checkFileSystem("xfs", file), LoopError);
  assertEquals(code, "EUCLEAN");
  assertMatch(message, /the xfs is damaged; xfs_repair -n \S+ gave exit code 1\)/);
});

test("checkFileSystem() calls nothing damaged that its tool could not check", [
  "mkfs.ext4",
], async () => {
  const file = makeImage("newer.img", 4);
  // Without a checksum, which would call the superblock damaged.
  output(["mkfs.ext4", "-q", "-O", "^metadata_csum,^has_journal", file]);
  // A feature that no e2fsck has.
  patch(file, 1024 + 0x60 + 3, "\x80");
  const error = await assertRejects(() => checkFileSystem("ext4", file), Error);
  const { code, message } = error as LoopError;
  assertEquals(code, "EOPNOTSUPP");
  assertMatch(
    message,
    /the ext4 could not be checked; e2fsck -p \S+ gave exit code 8\)\n {2}.*feature/s,
  );
});

withExt4("mountImage() checks nothing that cannot be written, and names a tool that is missing", [
  "losetup",
], () => {
  const file = makeImage("checked.img", 4);
  makeExt4(file, { start: 0, size: 4 * 2 ** 20, number: 1, files: SYSTEM });
  const script = scratch("check.ts");
  writeFileSync(
    script,
    `import { mountImage } from ${JSON.stringify(MOD)};
     const says = await mountImage(${JSON.stringify(file)}, { check: true })
       .then(() => "mounted", ({ code, message }) => code + message);
     console.log(says);`,
  );
  const command = onThisRuntime(script);
  const said = (where: string) => output([...isolated(where), ...command]);
  assertMatch(said(`read-only=${dirname(file)}`), /^EROFS.*the image cannot be written/);
  assertMatch(said("tmpfs=/usr/sbin"), /^ENOENT.*e2fsck is not installed, .* package e2fsprogs/);
  // The look needs it, too, and is not what the error is about.
  assertMatch(said("without=all"), /^EPERM.*fsopen .*mounting needs CAP_SYS_ADMIN/);
});

withExt4(
  "mountImage() takes back what a link led elsewhere meanwhile, and all when it is stopped",
  [
    "losetup",
  ],
  async () => {
    const fstab = "LABEL=data /srv ext4\n";
    const file = await imageOf("meanwhile.img", [
      { files: { ...SYSTEM, "etc/fstab": fstab, "srv/": "", "other/": "" } },
      { label: "data", files: {} },
    ]);
    const [script, at, fifo] = ["meanwhile.ts", "at", "fifo"].map(scratch);
    mkdirSync(at);
    output(["mkfifo", fifo]);
    // In the place of the tool: what others do while it checks the second partition.
    const swap = `rmdir ${at}/srv && ln -s other ${at}/srv`;
    const wait = `echo >${at}/begun && read _ <${fifo}`;
    writeFileSync(
      script,
      `import { mountImage } from ${JSON.stringify(MOD)};
     import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
     const check = (what) =>
       writeFileSync("/usr/sbin/e2fsck", "#!/bin/sh\\ncase $2 in *p2) " + what + ";; esac", { mode: 0o755 });
     const stop = new AbortController();
     const begin = () => mountImage(${JSON.stringify(file)}, {
       ...{ check: true, at: ${JSON.stringify(at)}, signal: stop.signal },
     });
     check(${JSON.stringify(swap)});
     const { mounts: { length }, skipped, ...tree } = await begin().then(async (tree) => {
       await tree.unmount();
       return tree;
     });
     check(${JSON.stringify(wait)});
     const mounting = begin().catch((error) => error.message);
     while (!existsSync(${
        JSON.stringify(`${at}/begun`)
      })) await new Promise((next) => setTimeout(next));
     stop.abort(new Error("enough"));
     writeFileSync(${JSON.stringify(fifo)}, "\\n");
     const end = await mounting;
     const isLeft = readFileSync("/proc/self/mountinfo", "utf8").includes(" ${at} ");
     console.log(JSON.stringify([length, skipped, end, isLeft]));`,
    );
    const said = output([...isolated("tmpfs=/usr/sbin"), ...onThisRuntime(script)]);
    const reason = `its point changed while it was mounted: it lay on ${at}/other`;
    assertEquals(JSON.parse(said), [
      ...[1, [{ partition: 2, source: "LABEL=data", point: "/srv", reason }], "enough", false],
    ]);
    assertNothingLeft(file);
  },
);

test("mountImage() refuses bad options before any system call", [], async () => {
  const cases: [unknown, typeof TypeError][] = [
    [{ partscan: true }, TypeError],
    [{ overlap: "reuse" }, TypeError],
    [{ root: "b" }, TypeError],
    [{ root: 0 }, RangeError],
    [{ check: "yes" }, TypeError],
    [{ check: true, readOnly: true }, TypeError],
    [{ at: 7 }, TypeError],
    [{ noexec: "no" }, TypeError],
    [{ frobnicate: true }, TypeError],
    [{ sectorSize: 513 }, RangeError],
  ];
  for (const [options, Kind] of cases) {
    await assertRejects(() => mountImage("/no/such.img", options as MountImageOptions), Kind);
  }
  const { code } = await assertRejects(() => mountImage("/no/such.img"), LoopError);
  assertEquals(code, "ENOENT");
});

test("parseFstab() reads lines as fstab(5) has them", [], () => {
  const [first, second, ...others] = parseFstab(
    `  # LABEL=x / ext4\n\nLABEL="a b" /mnt/a\\040b ext4 rw,context="x,y" 0 2 \nUUID=1\t/\n/alone\n`,
  );
  const options = ["rw", 'context="x,y"'];
  assertEquals(first, { source: 'LABEL="a b"', point: "/mnt/a b", type: "ext4", options });
  assertEquals(second, { source: "UUID=1", point: "/", type: "auto", options: [] });
  assertEquals(others, []);
  const line = {
    source: "x",
    point: "/x",
    type: "auto",
    options: ["noauto", "x-systemd.automount"],
  };
  assertEquals(whyNotMounted(line), undefined);
  assertEquals(parseFstab("LABEL=\\303\\251t\\303\\251\\134 /x")[0].source, "LABEL=été\\");
  assertEquals(parseFstab("x /x ext4 ,")[0].options, []);
  assertEquals(parseFstab(`LABEL='a\u00a0b c'\t/5"\u00a0disk ext4 a="b\r`), [
    { source: "LABEL='a\u00a0b c'", point: '/5"\u00a0disk', type: "ext4", options: ['a="b'] },
  ]);
  for (const other of [{ type: "swap" }, { point: "none" }, { point: "swap" }]) {
    assertEquals(whyNotMounted({ ...line, ...other }), "it is swap space");
  }
  assertEquals(whyNotMounted({ ...line, point: "x" }), 'its point "x" is no absolute path');
  const part = {
    ...{ number: 2, partuuid: "9730496B-02", name: "a b" },
    content: [{ type: "vfat", uuid: "ABCD-1234", label: "L/1", usage: "filesystem" }],
  } as unknown as Part;
  const names = [
    ...["UUID=abcd-1234", 'LABEL="L/1"', "PARTUUID=9730496b-02", 'PARTLABEL="a b"'],
    "PARTLABEL='a b'",
    ...[
      "/dev/disk/by-label/L\\x2f1",
      "/dev/disk/by-uuid/ABCD-1234",
      "/dev/disk/by-partlabel/a\\x20b",
    ],
    ...["/dev/sda2", "/dev/vda2", "/dev/nvme0n1p2", "/dev/mmcblk1p2"],
  ];
  for (const name of names) assertEquals(partsNamed(name, [part]), [part], name);
  const others_ = [
    "UUID=",
    "LABEL=L",
    "/dev/sdb2",
    "/dev/sda",
    "/dev/sda22",
    "/dev/mapper/a",
    "none",
  ];
  for (const name of others_) assertEquals(partsNamed(name, [part]), [], name);
});

test("parseOsRelease() reads what a shell would, and runs nothing", [], () => {
  const text = `# A='x'
NAME=Plain
PRETTY_NAME="A \\"quoted\\" \\$name \\\`id\\\` $(id)"
VERSION='1 "x" \\n'
  VARIANT_ID=a\\ b
BUG=one"two"'three' four
EMPTY=
not an assignment
NAME=Last
`;
  assertEquals(parseOsRelease(text), {
    NAME: "Last",
    PRETTY_NAME: 'A "quoted" $name `id` $(id)',
    VERSION: '1 "x" \\n',
    VARIANT_ID: "a b",
    BUG: "onetwothree",
    EMPTY: "",
  });
});

test("compareVersions() counts numbers as numbers", [], () => {
  const sorted = ["a_1~rc1", "a_1", "a_1.2", "a_2", "a_10", "b"];
  assertEquals(sorted.toReversed().toSorted(compareVersions), sorted);
  for (const [less, more] of [["", "1"], ["a", "a1"], ["a~", "a"], ["~", ""], ["a", "b"]]) {
    assert(compareVersions(less, more) < 0 && compareVersions(more, less) > 0, `${less} ${more}`);
  }
});
