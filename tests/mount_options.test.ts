/** Options of a line of fstab: what the kernel has after them, beside what it has after mount(8). */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { mkdirSync, rmSync, statSync } from "node:fs";
import { attach, type LoopDevice, LoopError, type MountOptions } from "../mod.ts";
import { checkMountOptions } from "../lib/mount/options.ts";
import { ext4Image, mountsOf, onDirectory } from "./support/mount_image.ts";
import { makeImage, type Need, output, scratch, test, testsOf } from "./support/support.ts";

const withFileSystem = testsOf("options of a mount", ["root", "mkfs.ext4", "mount"]);

/** Of a line of mountinfo: the mount's words and the file system's. */
function words(line: string): string {
  const fields = line.split(" ");
  const own = fields[5].split(",");
  const fileSystem = fields.at(-1)!.split(",").filter((word) => word !== "errors=remount-ro");
  return `${own.sort()} ${fileSystem.sort()}`;
}

/** What the kernel has after mount(). */
function ours(loop: LoopDevice, options: MountOptions): Promise<string> {
  return onDirectory(async (at) => {
    await using _ = await loop.mount(undefined, { ...options, at });
    const [line] = mountsOf(loop.path);
    return words(line);
  });
}

/** What it has after mount(8), in a namespace of its own. */
function mount8(device: string, list: string): string {
  const at = scratch("theirs");
  mkdirSync(at, { recursive: true });
  const script = 'mount -o "$0" "$1" "$2" && grep -F " $1 " /proc/self/mountinfo; umount "$2"';
  return words(output(["unshare", "-m", "sh", "-c", script, list, device, at]).trim());
}

const LISTS = [
  ["defaults", "nofail", "noauto", "_netdev", "x-systemd.automount", "X-mine", "comment=x"],
  ["user"],
  ["users", "exec"],
  ["exec", "user"],
  ["user", "suid", "dev"],
  ["owner"],
  ["group", "suid"],
  ["user=root", "nouser"],
  ["ro"],
  ["ro", "rw"],
  ["rw", "ro"],
  ["noexec", "exec"],
  ["exec", "noexec", "nosuid"],
  ["suid", "dev"],
  ["noatime"],
  ["noatime", "atime"],
  ["noatime", "relatime"],
  ["strictatime"],
  ["strictatime", "nostrictatime"],
  ["nodiratime", "diratime"],
  ["nodiratime", "noatime"],
  ["relatime", "norelatime"],
  ["sync"],
  ["sync", "async"],
  ["dirsync", "lazytime"],
  ["lazytime", "nolazytime"],
  ["data=journal", "noatime"],
];

withFileSystem("options of a line of fstab are taken as mount(8) takes them", [
  "root",
  "mount",
  "unshare",
  "mkfs.ext4",
], async () => {
  await using loop = await attach(ext4Image("fstab.img"));
  for (const options of LISTS) {
    // What is different by design: nosuid and nodev, which a line of fstab can take back.
    const wanted = mount8(loop.path, ["nosuid", "nodev", ...options].join());
    assertEquals(await ours(loop, { options }), wanted, options.join());
  }
  // Not every mount(8) and kernel between them know these.
  const without = await ours(loop, {});
  for (const option of ["iversion", "noiversion", "silent", "loud", "seclabel", "helper=x"]) {
    assertEquals(await ours(loop, { options: [option] }), without, option);
  }
});

withFileSystem(
  "X-mount.mkdir makes the directory, and those above it",
  ["root", "mkfs.ext4"],
  async () => {
    await using loop = await attach(ext4Image("mkdir.img"));
    const at = scratch("some/where/below");
    await assertRejects(() => loop.mount(undefined, { at }), LoopError, "ENOENT");
    for (const option of ["X-mount.mkdir=0711", "x-mount.mkdir"]) {
      await using root = await loop.mount(undefined, { at, options: [option] });
      assertEquals(root.path, at);
    }
    assertEquals(statSync(at).mode & 0o777, 0o711);
    rmSync(at, { recursive: true });
  },
);

test("an option beside one of ours that says the opposite is a mistake", [], () => {
  const wrong: [MountOptions, RegExp][] = [
    [{ options: ["ro"], readOnly: false }, /option "ro" says the opposite of readOnly: false/],
    [{ options: ["rw"], readOnly: true }, /option "rw" says the opposite of readOnly: true/],
    [{ options: ["suid"], nosuid: true }, /option "suid" says the opposite of nosuid: true/],
    [{ options: ["nodev"], nodev: false }, /option "nodev" says the opposite of nodev: false/],
    [{ options: ["exec"], noexec: true }, /option "exec" says the opposite of noexec: true/],
    [{ options: ["noatime", "strictatime"] }, /"noatime" and "strictatime" exclude one another/],
    [{ options: ["X-mount.subdir=a"] }, /use a folder below the mount's path instead/],
    [{ options: ["X-mount.owner=1"] }, /mount\(8\)'s, and mount\(\) does not do it/],
    [{ options: ["rshared"] }, /mount\(8\)'s, and mount\(\) does not do it/],
    [{ options: ["X-mount.mkdir=9"] }, /its mode must be octal/],
    [{ options: ["loop"] }, /use attach\(\) instead/],
  ];
  for (const [options, says] of wrong) {
    try {
      checkMountOptions(options);
    } catch (error) {
      assert(error instanceof TypeError && says.test(error.message), String(error));
      continue;
    }
    throw new Error(`${JSON.stringify(options)} was taken`);
  }
  // The same said twice is none, and our own word decides over what another word implies.
  assertEquals(checkMountOptions({ options: ["ro"], readOnly: true }).readOnly, true);
  assertEquals(
    checkMountOptions({ options: ["user"], noexec: false }).attributes,
    checkMountOptions({}).attributes,
  );
});

withFileSystem('"ro" and "rw" go with the device', ["root", "mkfs.ext4"], async () => {
  const file = ext4Image("device.img");
  await using loop = await attach(file, { readOnly: true });
  // As mount(8): what cannot be written is mounted read-only.
  const root = await loop.mount(undefined, { options: ["rw", "defaults"] });
  assert(root.readOnly);
  assertEquals(await root.unmount(), "unmounted");
  const { code } = await assertRejects(
    () => loop.mount(undefined, { options: ["rw"], readOnly: false }),
    LoopError,
  );
  assertEquals(code, "EACCES");
});

for (const type of ["ext2", "ext3", "ext4"]) {
  withFileSystem(`an error in ${type} makes it read-only, whatever its superblock says`, [
    "root",
    `mkfs.${type}` as Need,
  ], async () => {
    const file = makeImage("errors.img", 8);
    output([`mkfs.${type}`, "-q", "-F", file]);
    output(["tune2fs", "-e", "panic", file]);
    await using loop = await attach(file);
    const onErrors = (options: MountOptions) =>
      onDirectory(async (at) => {
        await using _ = await loop.mount(undefined, { ...options, at });
        return /errors=([\w-]+)/.exec(mountsOf(loop.path)[0])?.[1];
      });
    assertEquals(await onErrors({}), "remount-ro");
    assertEquals(await onErrors({ readOnly: true }), "remount-ro");
    assertEquals(await onErrors({ options: ["errors=continue"] }), "continue");
    assertEquals(await onErrors({ type, options: ["noatime"] }), "remount-ro");
  });
}

withFileSystem("what has no device is no type", ["root", "mkfs.ext4"], async () => {
  await using loop = await attach(ext4Image("types.img"));
  for (const type of ["tmpfs", "proc", "sysfs", "devtmpfs", "cgroup2", "overlay", "fuse.sshfs"]) {
    const error = await assertRejects(() => loop.mount(undefined, { type }), LoopError);
    if (error.code === "ENODEV") continue;
    assertEquals([error.code, error.path], ["EINVAL", loop.path], type);
    assertStringIncludes(error.message, `${type} is a file system without a device`);
  }
  for (const type of ["constructor", "__proto__", "toString", "hasOwnProperty"]) {
    const error = await assertRejects(() => loop.mount(undefined, { type }), LoopError);
    assertEquals(error.code, "ENODEV");
    assertStringIncludes(error.message, `load the module ${type} (modprobe ${type})`);
    const option = await assertRejects(() => loop.mount(undefined, { options: [type] }), LoopError);
    assertStringIncludes(option.message, `does not take the option "${type}"`);
  }
});
