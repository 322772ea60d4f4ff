/** What mount() says of a device that it cannot mount: what is there, and never what would destroy it. */
import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { attach, LoopError, type MountOptions } from "../mod.ts";
import { type ErrorCode, LoopError as OwnError, type LoopErrorInit } from "../lib/base/errors.ts";
import { openKernelLog } from "../lib/kernel/kmsg.ts";
import { isBefore } from "../lib/kernel/release.ts";
import { explainNoOwner, type Owner } from "../lib/mount/owner.ts";
import type { FailedMount } from "../lib/kernel/mount.ts";
import { remedyOf } from "../lib/mount/causes.ts";
import { type Attempt, explainRefusal } from "../lib/mount/errors.ts";
import { checkMountOptions } from "../lib/mount/options.ts";
import { ownDevices } from "./support/own_devices.ts";
import {
  assertDetached,
  isolated,
  makeImage,
  MOD,
  type Need,
  onThisRuntime,
  output,
  scratch,
  test,
  testsOf,
  THREE_PARTITIONS,
} from "./support/support.ts";

const withTools = testsOf("what is said where a mount is refused", [
  "root",
  "mkfs.ext4",
  "mkfs.xfs",
  "mkfs.btrfs",
  "mkfs.ntfs",
  "qemu-img",
]);

/** Why an image is not mounted; undefined if it is. */
async function refusal(file: string, options?: MountOptions): Promise<LoopError | undefined> {
  await using loop = await attach(file);
  try {
    await using _ = await loop.mount(undefined, options);
    return undefined;
  } catch (error) {
    if (error instanceof LoopError) return error;
    throw error;
  }
}

/** Turns one bit of a file over. */
function flip(file: string, at: number, bit: number): void {
  const fd = openSync(file, "r+");
  const byte = new Uint8Array(1);
  readSync(fd, byte, 0, 1, at);
  byte[0] ^= 1 << bit;
  writeSync(fd, byte, 0, 1, at);
  closeSync(fd);
}

const MADE: [type: string, need: Need, mib: number, superblock: number, command: string[]][] = [
  ["ext4", "mkfs.ext4", 8, 1024, ["mkfs.ext4", "-q", "-F"]],
  ["xfs", "mkfs.xfs", 320, 0, ["mkfs.xfs", "-q"]],
  ["btrfs", "mkfs.btrfs", 128, 64 * 1024, ["mkfs.btrfs", "-q"]],
];
/** Bytes of the three superblocks that have fields: magic numbers, sizes, UUIDs, features, labels. */
const BYTES = [0x00, 0x04, 0x18, 0x20, 0x24, 0x38, 0x40, 0x58, 0x60, 0x64, 0x68, 0x6c, 0x78, 0xe0];

for (const [type, need, mib, superblock, command] of MADE) {
  withTools(`a wrong bit in a superblock of ${type} is no reason to make a new one`, [
    "root",
    need,
  ], async () => {
    const file = makeImage("bits.img", mib);
    output([...command, file]);
    let named = 0;
    for (const [i, at] of BYTES.entries()) {
      flip(file, superblock + at, i % 8);
      const error = await refusal(file, { readOnly: true });
      flip(file, superblock + at, i % 8);
      if (error === undefined) continue;
      assert(!error.message.includes("mkfs"), `${at}: ${error.message}`);
      // The driver's own words, or that this kernel has none.
      const names = new RegExp(type, "i");
      assertMatch(error.message, /not empty|EXT4-fs|XFS|BTRFS|no driver/, `${at}`);
      if (names.test(error.message)) named++;
    }
    // All but those in the magic number itself.
    assert(named >= BYTES.length - 3, `${named} of ${BYTES.length} name ${type}`);
  });
}

withTools(
  "an NTFS is mounted by ntfs3, or that driver is named",
  ["root", "mkfs.ntfs"],
  async () => {
    const file = makeImage("ntfs.img", 8);
    output(["mkfs.ntfs", "-q", "-F", file]);
    const error = await refusal(file);
    if (hasDriver("ntfs3")) assertEquals(error, undefined);
    else assertStringIncludes(error!.message, "no driver for ntfs3: load the module ntfs3");
    const other = await refusal(file, { type: "ext4" });
    assertStringIncludes(other!.message, "its superblock says ntfs, not ext4");
  },
);

test(
  "only a device that is all zero is advised to be made a file system of",
  ["root"],
  async () => {
    const file = makeImage("zero.img", 8);
    const says = async () => {
      const { code, message } = (await refusal(file))!;
      assertEquals(code, "EINVAL");
      assertStringIncludes(message, "no file system that is known here is on it");
      return message.includes("mkfs");
    };
    assertEquals(await says(), true);
    for (const at of [0, 511, 4096, 3 * 1024 * 1024 + 5, 8 * 1024 * 1024 - 1]) {
      flip(file, at, 3);
      assertEquals(await says(), false, `${at}`);
      flip(file, at, 3);
    }
    assertEquals(await says(), true);
    // More than is looked at: nobody knows.
    const large = await refusal(makeImage("large.img", 100));
    assertStringIncludes(large!.message, "what was read of it is zero");
    assert(!large!.message.includes("mkfs"));
  },
);

test(
  "a partition table in a partition is named, and what shows its partitions",
  ["root"],
  async () => {
    const inner = readFileSync(makeImage("inner.img", 8, THREE_PARTITIONS));
    const file = makeImage("outer.img", 16, "label: gpt\nsize=8MiB\n");
    const descriptor = openSync(file, "r+");
    writeSync(descriptor, inner, 0, inner.length, 2 ** 20);
    closeSync(descriptor);
    await using loop = await attach(file, { partscan: true });
    const [{ path }] = loop.partitions;
    const error = await assertRejects(
      () => loop.mount(1),
      LoopError,
      `attach("${path}", { partscan`,
    );
    assertStringIncludes(
      error.message,
      "a partition table with 1, 2, 3, which the kernel does not",
    );
    // What the message advises.
    await using nested = await attach(path, { partscan: true });
    assertEquals(nested.partitions.map(({ number }) => number), [1, 2, 3]);
  },
);

test("a partition table without its partitions is named", ["root"], async () => {
  const error = await refusal(makeImage("table.img", 8, THREE_PARTITIONS));
  assertStringIncludes(error!.message, "a partition table with 1, 2, 3, which the kernel does not");
  {
    // What the message advises.
    await using loop = await attach(scratch("table.img"));
    await loop.rescan();
    await assertRejects(() => loop.mount(), LoopError, "mount one of 1, 2, 3");
  }
  const empty = await refusal(makeImage("empty-table.img", 8, "label: gpt\n"));
  assertStringIncludes(empty!.message, "a partition table without a partition");
});

/** Whether this kernel has a driver; a test that needs one is none where it is missing. */
function hasDriver(type: string): boolean {
  return readFileSync("/proc/filesystems", "utf8").split("\n").some((line) => line === `\t${type}`);
}

/** A message without a guess: nothing that nobody has looked up. */
function assertSays(error: LoopError | undefined, ...says: (string | RegExp)[]): void {
  for (const each of says) {
    assertMatch(error!.message, each instanceof RegExp ? each : quoted(each));
  }
  assert(!/damaged|newer than|is the device's node/.test(error!.message), error!.message);
}
const quoted = (text: string) => new RegExp(text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));

/** A copy of an image while it is mounted and something is in its journal: as a power cut leaves it. */
async function dirtyCopy(file: string, name: string): Promise<string> {
  const copy = scratch(name);
  await using loop = await attach(file);
  await using root = await loop.mount();
  writeFileSync(`${root.path}/other`, "other");
  const fd = openSync(`${root.path}/saved`, "w");
  writeSync(fd, "saved");
  fsyncSync(fd);
  closeSync(fd);
  output(["cp", "--sparse=always", file, copy]);
  return copy;
}

const REPLAYS: [type: string, need: Need, mib: number, option: string, command: string[]][] = [
  ["ext4", "mkfs.ext4", 16, "noload", ["mkfs.ext4", "-q", "-F"]],
  ["xfs", "mkfs.xfs", 320, "norecovery", ["mkfs.xfs", "-q"]],
  ["btrfs", "mkfs.btrfs", 128, "rescue=nologreplay", ["mkfs.btrfs", "-q"]],
];
for (const [type, need, mib, option, command] of REPLAYS) {
  withTools(`a journal of ${type} on a read-only device: the option that does without`, [
    "root",
    need,
  ], async () => {
    if (!hasDriver(type)) return;
    const file = makeImage("clean.img", mib);
    output([...command, file]);
    await using loop = await attach(await dirtyCopy(file, "dirty.img"), { readOnly: true });
    const error = await assertRejects(() => loop.mount(), LoopError);
    assertSays(error, "to replay its journal", `options: ["${option}"] as it is`);
    await using root = await loop.mount(undefined, { options: [option] });
    assert(root.readOnly);
  });
}

withTools("a second xfs of the same UUID: nouuid", ["root", "mkfs.xfs"], async () => {
  if (!hasDriver("xfs")) return;
  const file = makeImage("one.img", 320);
  output(["mkfs.xfs", "-q", file]);
  const copy = scratch("two.img");
  output(["cp", "--sparse=always", file, copy]);
  await using one = await attach(file);
  await using _ = await one.mount();
  assertSays(await refusal(copy), "duplicate UUID", 'mount it with options: ["nouuid"]');
  assertEquals(await refusal(copy, { options: ["nouuid"] }), undefined);
});

withTools("a subvolume that btrfs has not got", ["root", "mkfs.btrfs"], async () => {
  if (!hasDriver("btrfs")) return;
  const file = makeImage("subvolume.img", 128);
  output(["mkfs.btrfs", "-q", file]);
  for (const option of ["subvol=@nope", "subvolid=777"]) {
    const error = await refusal(file, { options: [option] });
    assertEquals(error!.code, "ENOENT");
    assertSays(error, `perhaps it has no subvolume of ${option}`);
  }
});

withTools("what this kernel cannot do with an ext4 is said, and what helps", [
  "root",
  "mkfs.ext4",
], async () => {
  const made = (name: string, ...options: string[]) => {
    const file = makeImage(name, 64);
    output(["mkfs.ext4", "-q", "-F", ...options, file]);
    return file;
  };
  const file = made("features.img");
  const withFeature = (feature: string) => {
    const copy = scratch(`${feature}.img`);
    output(["cp", "--sparse=always", file, copy]);
    output(["debugfs", "-w", "-R", `feature ${feature}`, copy]);
    return copy;
  };
  const readOnly = withFeature("FEATURE_R31");
  assertSays(await refusal(readOnly), "unsupported optional features", "with readOnly: true");
  assertEquals(await refusal(readOnly, { readOnly: true }), undefined);
  assertSays(await refusal(withFeature("FEATURE_I31")), /features that Linux .* does not know/);

  // Later kernels take both.
  const large = await refusal(made("large.img", "-b", "65536"));
  if (large) assertSays(large, "bad block size 65536", "does not take its blocks of 65536 bytes");
  const folded = await refusal(made("folded.img", "-O", "casefold"));
  if (folded) assertSays(folded, "built without CONFIG_UNICODE");

  await using loop = await attach(made("small.img", "-b", "1024"), { sectorSize: 4096 });
  const error = await assertRejects(() => loop.mount(), LoopError);
  assertSays(
    error,
    "blocks have 1024 bytes, and the device has sectors of 4096",
    "sectorSize: 1024",
  );
  await using again = await attach(scratch("small.img"), { sectorSize: 1024 });
  await using _ = await again.mount();
});

withTools("an xfs whose sectors are smaller than the device's", ["root", "mkfs.xfs"], async () => {
  if (!hasDriver("xfs")) return;
  const file = makeImage("sectors.img", 320);
  output(["mkfs.xfs", "-q", file]);
  await using loop = await attach(file, { sectorSize: 4096 });
  const error = await assertRejects(() => loop.mount(), LoopError);
  // The kernel answers ENOSYS, which is not of a call that it lacks.
  assertSays(error, "device supports 4096 byte sectors", "attach it with sectorSize: 512");
  assert(!error.message.includes("Linux 5.2"), error.message);
});

withTools("an image that is cut off: the driver's words, and no guess", [
  "root",
  "mkfs.ext4",
], async () => {
  const file = makeImage("cut.img", 16);
  output(["mkfs.ext4", "-q", "-F", file]);
  truncateSync(file, 8 * 1024 * 1024);
  assertSays(await refusal(file), "exceeds size of device");
});

withTools("a type that is not what is there", ["root", "qemu-img"], async () => {
  const raw = makeImage("raw.img", 4);
  const made = scratch("made.qcow2");
  output(["qemu-img", "convert", "-O", "qcow2", raw, made]);
  assertSays(await refusal(made, { type: "ext4" }), "it is a qcow2 image", "convert it first");
  assertStringIncludes((await refusal(raw, { type: "ext4" }))!.message, "all of it is zero");
});

test("explainNoOwner() names what a driver takes, since when, and what does instead", [], () => {
  const owner = { uid: 7, gid: 8, home: undefined } as unknown as Owner;
  const says = (code: ErrorCode, type: string, text: string) => {
    const error = explainNoOwner(new OwnError({ code, path: "/x" }), type, owner) as LoopError;
    assertStringIncludes(error.message, text);
  };
  says("EPERM", "ext4", "CAP_SYS_ADMIN");
  says("EINVAL", "ext4", "how this kernel was built, may forbid them");
  says("EINVAL", "ext3", 'with type: "ext4" it is mounted by a driver');
  says("EINVAL", "exfat", '["uid=7", "gid=8"] do the same for exfat');
  says("ENOSYS", "jfs", "the driver of jfs does not take idmapped mounts");
  for (const error of [new OwnError({ code: "ENOMEM", path: "/x" }), new TypeError("another")]) {
    assertEquals(explainNoOwner(error, "ext4", owner), error);
  }
  for (const [release, before] of [["5.11.9", true], ["5.12.0", false], ["x", false]] as const) {
    assertEquals(isBefore(release, "5.12"), before, release);
  }
});

test("remedyOf() names what helps with what a driver has said", [], () => {
  const of = (device: string, ...said: string[]) => remedyOf(said, { type: "jfs", device });
  const utf8 =
    "EXT4-fs (loop0): Filesystem with casefold feature cannot be mounted without CONFIG_UNICODE";
  assertStringIncludes(of("/x", utf8)!, "built without CONFIG_UNICODE");
  const tables = "EXT4-fs (loop0): Encoding requested by superblock is unknown";
  assertStringIncludes(of("/x", tables)!, "module utf8data");
  assertStringIncludes(of("/x", "FAT-fs (loop0): codepage cp999 not found")!, "modprobe nls_cp999");
  assertStringIncludes(of("/x", "superblock checksum mismatch")!, "the file system is damaged");
  assertStringIncludes(of("/x", "log replay required on RO media")!, "mount it once on a writable");
  assertEquals(of("/x", "something else"), undefined);
});

test("remedyOf() looks at the device's sectors where a driver names its blocks", [
  "root",
], async () => {
  await using loop = await attach(makeImage("sectors.img", 1));
  const sized = (said: string) => remedyOf([said], { type: "jfs", device: loop.path }) ?? "";
  for (
    const said of [
      "EXT4-fs (loop0): bad block size 65536",
      "BTRFS error (device loop0): sectorsize 65536 not yet supported for page size 4096",
      "XFS (loop0): File system with blocksize 65536 bytes. Only pagesize (4096) or less will work",
      "F2FS-fs (loop0): Invalid log_blocksize (16), supports only 12",
    ]
  ) assertStringIncludes(sized(said), "does not take its blocks of 65536 bytes");
  assertEquals(sized("EXT4-fs (loop0): bad block size 2048"), "");
  const fat =
    "FAT-fs (loop0): logical sector size too small for device (logical sector size = 256)";
  assertStringIncludes(sized(fat), "sectorSize: 256");
  const xfs = "XFS (loop0): device supports 512 byte sectors (not 256)";
  assertStringIncludes(sized(xfs), "sectorSize: 256");
});

/** What a script prints as JSON: told(options) is what mount() of an ext4 says then. */
function toldBy(around: string[], body: string): string[] {
  const file = makeImage("told.img", 1);
  output(["mkfs.ext4", "-q", "-F", file]);
  const script = scratch("told.ts");
  const lib = JSON.stringify(new URL("lib/kernel/file.ts", MOD));
  writeFileSync(
    script,
    `import { attach, mount } from ${JSON.stringify(MOD)};
     import { O_EXCL, O_RDWR, open } from ${lib};
     import { spawnSync } from "node:child_process";
     import { writeFileSync } from "node:fs";
     await using loop = await attach(${JSON.stringify(file)});
     const told = (options) => loop.mount(undefined, options)
       .then((root) => root.unmount(), ({ message }) => message.replaceAll(loop.path, "LOOP"));
     console.log(JSON.stringify(await (async () => { ${body} })()));`,
  );
  const said = output([...around, ...onThisRuntime(script)]);
  assertDetached(file);
  return JSON.parse(said);
}

test("mount() names a /dev that is nodev", ["root", "mkfs.ext4", "unshare", "mount"], () => {
  const [first, nodev] = toldBy(
    ["unshare", "--mount"],
    `const before = await told();
     spawnSync("mount", ["-o", "remount,bind,nodev", "/dev"]);
     return [before, await told({ type: "ext4" })];`,
  );
  assertEquals(first, "unmounted");
  assertMatch(
    nodev,
    /^EACCES: .* 'LOOP' \(.*; \/dev is mounted nodev: mount -o remount,dev \/dev\)$/,
  );
});

test("mount() of a device says that /dev may be nodev", [
  "root",
  "mkfs.ext4",
  "unshare",
  "mount",
], () => {
  const [message] = toldBy(
    ["unshare", "--mount"],
    `spawnSync("mount", ["-o", "remount,bind,nodev", "/dev"]);
     return [await mount(loop.path).catch(({ message }) => message)];`,
  );
  assertMatch(message, /^EACCES: .*, open '.*' \(.*\bnodev: mount -o remount,dev \/dev\)$/);
});

test("mount() says that /proc is not whole", ["root", "mkfs.ext4", "unshare", "mount"], () => {
  const at = scratch("at");
  mkdirSync(at);
  const [first, second] = toldBy(
    ["unshare", "--mount"],
    `const options = { at: ${JSON.stringify(at)} };
     spawnSync("mount", ["-t", "proc", "-o", "subset=pid", "proc", "/proc"]);
     const refused = await told(options);
     spawnSync("umount", ["/proc"]);
     return [refused, await told(options)];`,
  );
  assertMatch(first, /^ENOENT: .*\/boot_id' \(is \/proc mounted whole\? With subset=pid,/);
  assertEquals(second, "unmounted");
});

test("mount() names the kernel's command line where it keeps a writer's device", [
  "root",
  "mkfs.ext4",
  "unshare",
  "mount",
], () => {
  const cmdline = scratch("cmdline");
  writeFileSync(cmdline, "");
  const bind = 'mount --bind "$0" /proc/cmdline && exec "$@"';
  const [off, on] = toldBy(
    ["unshare", "--mount", "sh", "-c", bind, cmdline],
    `using writer = open(loop.path, O_RDWR | O_EXCL);
     const say = async (value) => {
       writeFileSync(${JSON.stringify(cmdline)}, "quiet bdev_allow_write_mounted=" + value);
       return await told({ type: "ext4" });
     };
     return [await say(0), await say(1)];`,
  );
  const closed = "; it can be mounted when that is closed)";
  const writes = /^EBUSY: .* \(.*this process, \d+ \(\S+\) has it open for writing, /;
  for (const said of [off, on]) assertMatch(said, writes);
  assertStringIncludes(off, "and the kernel's command line has bdev_allow_write_mounted=0: then");
  assert(on.endsWith(`writing, exclusively${closed}`) && off.endsWith(closed), on);
});

test("mount() says that a kernel is too old", ["root", "mkfs.ext4", "strace"], () => {
  const fsopen = ["strace", "-f", "-o", "/dev/null", "-e", "inject=fsopen:error=ENOSYS"];
  const around = [...isolated("personality=uname-2.6"), ...fsopen];
  const [said] = toldBy(around, "return [await told()];");
  assertMatch(
    said,
    /^ENOSYS: .* \(mounting needs Linux 5\.2 or later, and this is 2\.6\.\d+\S*\)$/,
  );
});

test("mount() names what has the device, where that is no mount", [
  "root",
  "mkswap",
  "swapon",
], async () => {
  await using loop = await attach(makeImage("swap.img", 1));
  output(["mkswap", loop.path]);
  output(["swapon", loop.path]);
  try {
    const { message } = await assertRejects(
      () => loop.mount(undefined, { type: "ext4" }),
      LoopError,
    );
    assertMatch(message, /^EBUSY: .*it is in use already: (\/dev\/loop\d+): swap \1\)$/);
  } finally {
    output(["swapoff", loop.path]);
  }
});

test("explainRefusal() looks up what a driver has not said", ["root", "mkfs.ext4"], async () => {
  const file = makeImage("explained.img", 8);
  output(["mkfs.ext4", "-q", "-F", file]);
  // A device that is offered to no neighbour: whoever loses the race for one has it open for writing.
  await using own = ownDevices(1);
  await using loop = await attach(file, { number: own.numbers[0] });
  const source = {
    ...{ device: loop.path, number: loop.number as number | undefined },
    ...{ partition: undefined, readOnly: false },
    ...{ backingFile: file, node: undefined },
  };
  const create = { syscall: "fsconfig", request: "FSCONFIG_CMD_CREATE" };
  const hint = async (
    init: Pick<LoopErrorInit, "code" | "syscall" | "request">,
    options: MountOptions = {},
    given: Partial<typeof source & { type: string; said: string; taken: boolean }> = {},
  ) => {
    const { type = "ext4", said, taken = false, ...rest } = given;
    using log = openKernelLog();
    const name = source.device.slice("/dev/".length);
    if (said) output(["sh", "-c", 'echo "<3>$0: $1" >/dev/kmsg', name, said]);
    const attempt = {
      ...{ source: { ...source, ...rest }, type, options: checkMountOptions(options) },
      ...{ owner: undefined, idMap: undefined, log },
    };
    const failed = {
      context: undefined,
      setting: taken ? undefined : attempt.options.settings[0],
    };
    const error = new OwnError({ ...init, path: source.device });
    const { message } = await explainRefusal(error, attempt, failed as FailedMount) as LoopError;
    return message;
  };
  const silent = { ...create, code: "EROFS" } as const;
  assertStringIncludes(await hint(silent, {}, { readOnly: true }), 'options: ["noload"] as it is');
  assert(!(await hint(silent)).includes("noload"));
  assert(!(await hint({ ...create, code: "EACCES" })).includes("read-only"));
  const missing = { device: "/dev/loopdev-missing" };
  assertStringIncludes(await hint({ ...create, code: "ENXIO" }, {}, missing), "node is not there");
  const other = { device: "/dev/null" };
  assertStringIncludes(await hint({ ...create, code: "ENXIO" }, {}, other), "no block device");
  assert(!(await hint({ ...create, code: "ENOENT" })).includes("subvolume"));
  const empty = { device: "/dev/loop-control" };
  assertStringIncludes(await hint({ ...create, code: "EINVAL" }, {}, empty), "a character device");
  assertStringIncludes(await hint({ ...create, code: "EUCLEAN" }), "look at it with e2fsck -fn");
  assertStringIncludes(await hint({ ...create, code: "EUCLEAN" }, {}, { type: "jfs" }), "damaged)");
  assertStringIncludes(await hint({ ...create, code: "EIO" }), "perhaps the image is cut off");
  assertStringIncludes(
    await hint({ ...create, code: "EINVAL" }),
    "ext4 does not say why: perhaps ",
  );
  assertStringIncludes(await hint({ ...create, code: "EBUSY" }), "in another mount namespace");
  assert(!(await hint({ ...create, code: "ENOMEM" })).includes("perhaps"));
  assertStringIncludes(
    await hint({ code: "ENOSYS", syscall: "fsopen" }),
    "a filter of system calls",
  );
  assertStringIncludes(await hint({ code: "ENODEV", syscall: "fsopen" }), "modprobe ext4");
  assertStringIncludes(
    await hint({ code: "EINVAL", syscall: "fsmount" }, { options: ["nosymfollow"] }),
    "has no nosymfollow",
  );
  assert(!(await hint({ code: "EINVAL", syscall: "fsmount" })).includes("nosymfollow"));
  assertStringIncludes(await hint({ code: "EBUSY", syscall: "fsmount" }), "mount namespace");
  assertStringIncludes(await hint({ code: "EINVAL" }, { options: ["x=1"] }), 'the option "x=1"');
  assertStringIncludes(
    await hint({ ...create, code: "EINVAL" }, { options: ["a=1", "b"] }, { taken: true }),
    "perhaps one of its options (a, b) does not fit, or what is on the device is damaged",
  );
  const move = { code: "EBUSY", syscall: "move_mount" } as const;
  assertStringIncludes(await hint(move, {}, { number: undefined }), "in another mount namespace");
  // What is to explain the error fails: then it is told without.
  const unknown = await hint(move, {}, { ...missing, number: undefined });
  assertEquals(unknown, `EBUSY: device or resource busy, move_mount '${loop.path}'`);
  // The driver's own words, and what they leave open.
  const said = `loopdev-test ${crypto.randomUUID()}`;
  const words = `${loop.path.slice("/dev/".length)}: ${said}`;
  const after = async (code: ErrorCode, given: Parameters<typeof hint>[2] = {}) => {
    const message = await hint({ ...create, code }, {}, { ...given, said });
    return message.slice(message.indexOf(words) + words.length);
  };
  assertEquals(await after("EROFS", { readOnly: true }), ")");
  assertEquals(await after("ENOENT"), ")");
  assertEquals(await after("EIO"), `; e2fsck -fn ${loop.path} may say more)`);
  assertEquals(await after("EIO", { type: "jfs" }), ")");
  const thrown = new TypeError("no refusal");
  const none = { context: undefined, setting: undefined } as unknown as FailedMount;
  assertEquals(await explainRefusal(thrown, {} as Attempt, none), thrown);
});
