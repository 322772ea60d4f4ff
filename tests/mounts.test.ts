/** Mounts: their files, their end, and what they leave, which is nothing. */
import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import {
  closeSync,
  copyFileSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import process from "node:process";
import { attach, LoopError, type MountOptions, openLoop } from "../mod.ts";
import { O_EXCL, O_RDONLY, open } from "../lib/kernel/file.ts";
import { kernelRelease } from "../lib/kernel/release.ts";
import {
  e2fsck,
  ext4Image,
  ext4Partitions,
  mountsAt,
  mountsOf,
  onDirectory,
} from "./support/mount_image.ts";
import {
  assertDetached,
  isolated,
  leftAttached,
  leftNodes,
  losetup,
  makeImage,
  MOD,
  onThisRuntime,
  output,
  ROOT,
  run,
  scratch,
  testsOf,
  until,
  withStaticDev,
} from "./support/support.ts";

const withExt4 = testsOf("mounts", ["root", "mkfs.ext4"]);
const [major, minor] = kernelRelease().split(".").map(Number);
const takesDetached = major > 6 || major === 6 && minor >= 15;
const MOUNTER = `${ROOT}tests/support/mounter.ts`;

/** A child's next line of stdout, as JSON. */
async function said(child: ChildProcess): Promise<Record<string, string>> {
  let text = "";
  for await (const data of child.stdout!) {
    text += data;
    if (text.includes("\n")) break;
  }
  return JSON.parse(text);
}

const ended = (child: ChildProcess) => new Promise((resolve) => child.on("exit", resolve));

/** A shell that works in a directory until it is stopped. */
async function workIn(path: string): Promise<AsyncDisposable & { pid: number }> {
  const child = spawn("sh", ["-c", 'cd "$0" && echo "{}" && read _', path]);
  const end = ended(child);
  await said(child);
  return {
    pid: child.pid!,
    async [Symbol.asyncDispose]() {
      child.stdin.end("\n");
      await end;
    },
  };
}

/** Descriptors of this process that only mounts have. */
function mountDescriptors(): string[] {
  return readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      const link = readlinkSync(`/proc/self/fd/${fd}`);
      const isMounts = /^\/$|fscontext|^\/dev\/kmsg$|^\/run\/loopdev\/.*\/loop/.test(link);
      return isMounts ? [link] : [];
    } catch {
      return [];
    }
  });
}

const hash = (file: string) => createHash("sha256").update(readFileSync(file)).digest("hex");

withExt4(
  "mount() waits for whoever asks for a moment whether the device is in use",
  [],
  async () => {
    await using loop = await attach(await ext4Partitions("asked.img", 1), { partscan: true });
    // With a keeper that runs, a mount takes less than the claim.
    await (await loop.mount(1)).unmount();
    // Who claims the disk claims its partitions, too.
    const claim = open(loop.path, O_RDONLY | O_EXCL);
    setTimeout(() => claim.close(), 8);
    await using root = await loop.mount(1);
    assertEquals([claim.isClosed, mountsOf(root.device).length], [true, 1]);
  },
);

withExt4("mount() gives files on a directory of their own, and they stay", [], async () => {
  const file = ext4Image("stays.img");
  {
    await using loop = await attach(file);
    const { type, label } = (await loop.fileSystem())!;
    assertEquals([type, label], ["ext4", "data"]);
    await using root = await loop.mount();
    assertMatch(root.path, /^\/run\/loopdev\/\d+-\d+-\w{10}\/loop\d+-\d{6}$/);
    writeFileSync(`${root.path}/hello`, "world\n");
    assertEquals(output(["cat", `${root.path}/hello`]), "world\n");
    assertEquals(mountsOf(loop.path).length, 1);
    assertEquals([root.device, root.partition, root.type], [loop.path, undefined, "ext4"]);
    assertEquals([root.readOnly, JSON.parse(JSON.stringify(root)).path], [false, root.path]);
    assertEquals(await root.unmount(), "unmounted");
    assertEquals(await root.unmount(), "unmounted");
    assertEquals([mountsOf(loop.path), existsSync(root.path)], [[], false]);
  }
  assertEquals([leftAttached(file), mountDescriptors(), e2fsck(file)], [[], [], "clean"]);
  await using loop = await attach(file, { readOnly: true });
  await using root = await loop.mount();
  assertEquals([root.readOnly, readFileSync(`${root.path}/hello`, "utf8")], [true, "world\n"]);
});

withExt4("what was written to the disk is in its partitions", [], async () => {
  const content = readFileSync(ext4Image("content.img"));
  const file = makeImage("disk.img", 12, "label: gpt\nsize=8MiB\n");
  await using loop = await attach(file, { partscan: true });
  const [{ start }] = loop.partitions;
  // As dd without conv=fsync does: it stays in the page cache, since the handle has the disk open, too.
  const write = (bytes: Uint8Array) => {
    const disk = openSync(loop.path, "r+");
    writeSync(disk, bytes, 0, bytes.length, start);
    closeSync(disk);
  };
  write(content);
  assertEquals((await loop.fileSystem(1))?.label, "data");
  write(new Uint8Array(content.length));
  assertEquals(await loop.fileSystem(1), undefined);
  write(content);
  assertEquals((await loop.partition({ label: "data" })).number, 1);
  write(new Uint8Array(content.length));
  assertEquals(await loop.fileSystem(1), undefined);
  write(content);
  await using root = await loop.mount(1);
  assertEquals([root.type, await root.unmount()], ["ext4", "unmounted"]);
});

withExt4(
  "mount() takes no other disk's partition for one that was dropped",
  ["partx"],
  async () => {
    const files = [await ext4Partitions("own.img", 1), await ext4Partitions("other.img", 1)];
    const script = scratch("dropped.ts");
    writeFileSync(
      script,
      `import { attach } from ${JSON.stringify(MOD)};
     import { execFileSync } from "node:child_process";
     const [own, other] = ${JSON.stringify(files)};
     const loop = await attach(own, { partscan: true });
     const { uuid } = await loop.fileSystem(1);
     execFileSync("delpart", [loop.path, "1"]);
     // The kernel gives it the number that a node of the first one still has.
     await using _other = await attach(other, { partscan: true });
     const told = ({ code, message }) => ({ code, message });
     const seen = [
       await loop.fileSystem(1).catch(told),
       await loop.mount(1).then(({ path }) => ({ path }), told),
       await loop.partition({ uuid }).catch(told),
     ];
     await loop.rescan();
     const again = (await loop.fileSystem(1)).uuid === uuid;
     const root = await loop.mount(1);
     console.log(JSON.stringify({ seen, again, unmounted: await root.unmount() }));
     await loop.detach();`,
    );
    const printed = output([
      ...withStaticDev("mknod /dev/loop-control c 10 237"),
      ...onThisRuntime(script),
    ]);
    const { seen, again, unmounted } = JSON.parse(printed);
    assertEquals(
      [seen[0].code, seen[1].code, seen[2].code],
      ["ESTALE", "ESTALE", "ENXIO"],
      printed,
    );
    assertMatch(
      seen[1].message,
      /the node is device 259:\d+, and that of loop\d+ is gone: rescan\(\)/,
    );
    assertStringIncludes(seen[2].message, "unreadable: ESTALE");
    assertEquals([again, unmounted], [true, "unmounted"]);
  },
);

withExt4("SIGKILL leaves neither mount, device nor node", [], async () => {
  for (const what of ["whole", "partition"]) {
    const file = what === "whole"
      ? ext4Image("killed.img")
      : await ext4Partitions("killed-partition.img", 1);
    const [command, ...args] = onThisRuntime(MOUNTER, file, what);
    const child = spawn(command, args);
    const end = ended(child);
    const { loop, path } = await said(child);
    assertEquals(readFileSync(`${path}/written`, "utf8"), "by mounter\n");
    child.kill("SIGKILL");
    await end;
    await until(() => losetup(file).length === 0, "the device to be detached");
    assertEquals(mountsAt(path), []);
    await until(() => !existsSync(path), "the keeper to take the directory away");
    if (what === "partition") await until(() => leftNodes(loop) === "", "the node to go");
    // A neighbour who takes the device has such a node for two system calls.
    const node = `/dev/.loopdev-${loop.slice(5)}`;
    await until(() => !existsSync(node), `${node} to go`);
    await using again = await attach(file, { partscan: what === "partition" });
    await using root = await again.mount(what === "partition" ? 1 : undefined);
    assertEquals(readFileSync(`${root.path}/written`, "utf8"), "by mounter\n");
  }
});

withExt4("a mount that nobody awaits ends with the handle that mounts it", [], async () => {
  const file = ext4Image("unawaited.img");
  for (const turns of [0, 1, 5, 20]) {
    let mounting: Promise<unknown> = Promise.resolve();
    {
      await using loop = await attach(file);
      mounting = loop.mount().then(({ path }) => writeFileSync(`${path}/x`, "x"), () => {});
      for (let i = 0; i < turns; i++) await new Promise((resolve) => setTimeout(resolve));
    }
    assertEquals([leftAttached(file), mountDescriptors()], [[], []]);
    await mounting.catch(() => {});
  }
  const loop = await attach(file);
  const root = await loop.mount();
  writeFileSync(`${root.path}/forgotten`, "no");
  assertEquals(await loop.detach(), "detached");
  assertEquals(await root.unmount(), "unmounted");
  await assertRejects(() => loop.mount(), TypeError, "has been detached");
  assertEquals(e2fsck(file), "clean");
});

withExt4("unmounting and detaching at the same time wait for one another", [], async () => {
  const file = ext4Image("both.img");
  const loop = await attach(file);
  const root = await loop.mount();
  const [unmounted, detached] = await Promise.all([root.unmount(), loop.detach()]);
  assertEquals([unmounted, detached], ["unmounted", "detached"]);
});

withExt4("two handles of a device mount what they want of it", [], async () => {
  const file = await ext4Partitions("two.img", 2);
  await using loop = await attach(file, { partscan: true });
  const other = await openLoop(loop.path);
  const [one, two] = [await loop.mount(1), await other.mount(2)];
  const again = await other.mount(1);
  writeFileSync(`${one.path}/a`, "a");
  assertEquals(readFileSync(`${again.path}/a`, "utf8"), "a");
  // The same file system is mounted twice.
  assertEquals(await one.unmount(), "deferred");
  assertEquals(readFileSync(`${again.path}/a`, "utf8"), "a");
  const mounts = (await loop.holders()).filter(({ kind }) => kind === "mount");
  assertEquals(mounts.map(({ path, by }) => [path, by]).sort(), [
    [again.device, again.path],
    [two.device, two.path],
  ]);
  await other[Symbol.asyncDispose]();
  assertEquals([await two.unmount(), await again.unmount()], ["unmounted", "unmounted"]);
  assertEquals((await loop.holders()).filter(({ kind }) => kind === "mount"), []);
});

withExt4("twelve partitions of an image are mounted at once", [], async () => {
  const file = await ext4Partitions("twelve.img", 12);
  {
    await using loop = await attach(file, { partscan: true });
    const mounts = await Promise.all(loop.partitions.map(({ number }) => loop.mount(number)));
    for (const { path, partition } of mounts) writeFileSync(`${path}/number`, String(partition));
    assertEquals(new Set(mounts.map(({ path }) => path)).size, 12);
  }
  assertDetached(file);
  await using loop = await attach(file, { partscan: true, readOnly: true });
  for (const { number } of loop.partitions) {
    await using root = await loop.mount(number);
    assertEquals(readFileSync(`${root.path}/number`, "utf8"), String(number));
  }
});

withExt4("a read-only image is mounted without a change, while others read it", [], async () => {
  const file = ext4Image("read-only.img");
  const before = hash(file);
  await using loop = await attach(file, { readOnly: true });
  const root = await loop.mount();
  const reader = spawn("sh", ["-c", 'cat "$0" >/dev/null && ls "$1"', file, root.path]);
  assertEquals(await ended(reader), 0);
  assertEquals(await root.unmount(), "unmounted");
  await assertRejects(
    () => loop.mount(undefined, { readOnly: false }),
    LoopError,
    "mount it with readOnly: true",
  );
  assertEquals(hash(file), before);
});

withExt4("a child that works there defers the unmount, and holders() names it", [], async () => {
  const file = ext4Image("child.img");
  await using loop = await attach(file);
  const root = await loop.mount();
  const ours = { path: loop.path, kind: "mount", by: root.path };
  assert((await loop.holders()).some((holder) => JSON.stringify(holder) === JSON.stringify(ours)));
  {
    await using child = await workIn(root.path);
    assertEquals(await root.unmount(), "deferred");
    assertEquals(await root.unmount(), "deferred");
    const holders = await loop.holders();
    assert(holders.some(({ path, by }) => path === loop.path && by === `${child.pid} (sh)`));
    assertEquals(holders.filter(({ kind }) => kind === "mount"), []);
  }
  const again = await loop.mount();
  const open = openSync(`${again.path}/lost+found`, "r");
  assertEquals(await again.unmount(), "deferred");
  closeSync(open);
  assertEquals(await loop.detach(), "detached");
});

withExt4("a signal stops unmount() from waiting, and the unmount goes on", [], async () => {
  await using loop = await attach(ext4Image("impatient.img"));
  const root = await loop.mount();
  await using _ = await workIn(root.path);
  const reason = new Error("enough");
  const controller = new AbortController();
  const unmounting = root.unmount({ signal: controller.signal }).catch((error) => error);
  await until(() => mountsOf(loop.path).length === 0, "it to be unmounted");
  controller.abort(reason);
  assertEquals([await unmounting, await root.unmount()], [reason, "deferred"]);
});

withExt4(
  "no mount namespace sees a detached mount, made before or after",
  ["unshare"],
  async () => {
    if (!takesDetached) return;
    const file = ext4Image("namespace.img");
    const start = async () => {
      const child = spawn("unshare", ["-m", "sh", "-c", 'echo "{}"; read _; exec sleep 0']);
      await said(child);
      return child;
    };
    const before = await start();
    await using loop = await attach(file);
    const root = await loop.mount(undefined, { detached: true });
    const after = await start();
    for (const { pid } of [process, before, after]) assertEquals(mountsOf(loop.path, pid), []);
    // A copy in one of them would keep it.
    assertEquals(await root.unmount(), "unmounted");
    for (const child of [before, after]) {
      const end = ended(child);
      child.stdin.end("\n");
      await end;
    }
  },
);

withExt4("mount() on a directory, and off it again", [], async () => {
  const file = ext4Image("at.img");
  await using loop = await attach(file);
  const at = scratch("mounted");
  await assertRejects(() => loop.mount(undefined, { at }), LoopError, "make the directory first");
  writeFileSync(scratch("a file"), "");
  await assertRejects(
    () => loop.mount(undefined, { at: scratch("a file") }),
    LoopError,
    "it is no directory",
  );
  const flags = (options: MountOptions) =>
    onDirectory(async (at) => {
      await using root = await loop.mount(undefined, { ...options, at });
      assertEquals(root.path, at);
      const [line] = mountsOf(loop.path);
      return line.split(" ")[5].split(",").sort().join();
    });
  assertEquals(await flags({}), "nodev,nosuid,relatime,rw");
  assertEquals(
    await flags({ nosuid: false, nodev: false, noexec: true, options: ["noatime"] }),
    "noatime,noexec,rw",
  );
  assertEquals(await flags({ readOnly: true }), "nodev,nosuid,relatime,ro");
  assertEquals(mountsOf(loop.path), []);
  mkdirSync(at);
  const root = await loop.mount(undefined, { at });
  await using _ = await workIn(at);
  assertEquals([await root.unmount(), mountsOf(loop.path)], ["deferred", []]);
});

withExt4(
  "mount() of a device that blockdev has made read-only is read-only",
  ["blockdev"],
  async () => {
    await using loop = await attach(ext4Image("set-ro.img"));
    output(["blockdev", "--setro", loop.path]);
    {
      await using root = await loop.mount();
      assertEquals([root.readOnly, loop.readOnly], [true, false]);
    }
    const refused = () => loop.mount(undefined, { readOnly: false });
    const { code } = await assertRejects(refused, LoopError, "mount it with readOnly: true");
    assertEquals(code, "EACCES");
    output(["blockdev", "--setrw", loop.path]);
    await using root = await loop.mount();
    assertEquals(root.readOnly, false);
  },
);

withExt4("mount() says what is wrong, in the file system's own words", [], async () => {
  const file = ext4Image("wrong.img");
  await using loop = await attach(file);
  const wrong: [MountOptions, code: string, says: RegExp][] = [
    [{ options: ["nonesuch=1"] }, "EINVAL", /nonesuch.*does not take the option "nonesuch=1"/],
    [{ options: ["data=nonesuch"] }, "EINVAL", /nonesuch/],
    [{ type: "nonesuch" }, "ENODEV", /no driver for nonesuch: load the module nonesuch/],
  ];
  const others = readFileSync("/proc/filesystems", "utf8").match(/^\t(xfs|btrfs|squashfs)$/m);
  if (others) wrong.push([{ type: others[1] }, "EINVAL", /its superblock says ext4, not/]);
  for (const [options, code, says] of wrong) {
    const error = await assertRejects(() => loop.mount(undefined, options), LoopError);
    assertEquals([error.code, error.path], [code, loop.path]);
    assertMatch(error.message, says);
  }
  const root = await loop.mount();
  await assertRejects(
    () => loop.mount(undefined, { readOnly: true }),
    LoopError,
    `${loop.path}: mount ${root.path}`,
  );
  const none = await assertRejects(() => loop.mount(1), LoopError, "there is no partition 1");
  assertEquals(none.code, "ENXIO");
  assertEquals(await loop.detach(), "detached");
  const bare = await attach(makeImage("bare.img", 1));
  assertEquals(await bare.fileSystem(), undefined);
  await assertRejects(() => bare.mount(), LoopError, "no file system that is known here");
  await bare.detach();
  const table = await attach(await ext4Partitions("table.img", 2), { partscan: true });
  await assertRejects(() => table.mount(), LoopError, "mount one of 1, 2");
  await table.detach();
  assertEquals(mountDescriptors(), []);
});

withExt4("mount() of a device of 0 bytes says so, and what helps", [], async () => {
  const file = ext4Image("empty.img");
  await using loop = await attach(file);
  const whole = statSync(file).size;
  truncateSync(file, 0);
  await loop.setCapacity();
  assertEquals(await loop.fileSystem(), undefined);
  for (const options of [{}, { type: "ext4" }]) {
    const error = await assertRejects(() => loop.mount(undefined, options), LoopError);
    assertStringIncludes(error.message, "0 bytes", JSON.stringify(options));
    assertStringIncludes(error.message, "setCapacity()");
    assert(error.message.length < 600, error.message);
  }
  truncateSync(file, whole);
  await loop.setCapacity();
  output(["mkfs.ext4", "-q", loop.path]);
  await using root = await loop.mount();
  assertEquals(root.type, "ext4");
});

withExt4("mount() checks its options before it does anything", [], async () => {
  await using loop = await attach(makeImage("options.img", 1));
  const wrong: [unknown, unknown, string][] = [
    ["1", {}, "partition must be a whole number from 1"],
    [0, {}, "partition must be a whole number from 1"],
    [undefined, null, "options must be an object, not null"],
    [undefined, { nosuch: 1 }, "unknown option 'nosuch'"],
    [undefined, { type: "../ext4" }, "type must be a file system's name"],
    [undefined, { type: 4 }, "type must be a file system's name"],
    [undefined, { readOnly: "yes" }, "readOnly must be one of"],
    [undefined, { options: "noatime" }, "options must be an array"],
    [undefined, { options: ["ro"], readOnly: false }, "says the opposite of readOnly: false"],
    [undefined, { options: ["source=/dev/sda"] }, "use the partition's number instead"],
    [undefined, { options: ["a,b"] }, "has a comma"],
    [undefined, { options: ["a\0b"] }, "contains a NUL"],
    [undefined, { options: ["=x"] }, "an option is a string like"],
    [undefined, { options: [1] }, "an option is a string like"],
    [undefined, { options: ["x=" + "y".repeat(300)] }, "more than 255 bytes"],
    [undefined, { at: 1 }, "at must be a path"],
    [undefined, { detached: "yes" }, "detached must be one of true, false"],
    [undefined, { detached: true, at: "/mnt" }, "at and detached exclude each other"],
    [undefined, { nosuid: 1 }, "nosuid must be one of true, false"],
    [undefined, { signal: 1 }, "signal must be an AbortSignal"],
  ];
  for (const [partition, options, says] of wrong) {
    const error = await loop.mount(partition as number, options as MountOptions).then(
      () => undefined,
      (error) => error,
    );
    assert(error instanceof TypeError || error instanceof RangeError, says);
    assertStringIncludes(error.message, says);
  }
});

withExt4("a signal stops mount(), which leaves nothing", [], async () => {
  const file = ext4Image("aborted.img");
  await using loop = await attach(file);
  const reason = new Error("enough");
  const rejected = await loop.mount(undefined, { signal: AbortSignal.abort(reason) }).catch((e) =>
    e
  );
  assertEquals(rejected, reason);
  let stopped = 0;
  for (let ms = 0; ms < 12; ms++) {
    const controller = new AbortController();
    setTimeout(() => controller.abort(reason), ms / 2);
    await loop.mount(undefined, { signal: controller.signal }).then(
      (root) => root.unmount(),
      (error) => {
        assertEquals(error, reason);
        stopped++;
      },
    );
    // On a busy machine the undoing may outlast the promise, which waits 250 ms for it.
    await until(() => mountDescriptors().length === 0, "the mount's descriptors to be closed");
  }
  assert(stopped > 0);
  assertEquals([await loop.detach(), e2fsck(file)], ["detached", "clean"]);
});

withExt4("a journal that must be replayed is, and not on a read-only device", [], async () => {
  const file = ext4Image("journal.img");
  const dirty = scratch("dirty.img");
  {
    await using loop = await attach(file);
    await using root = await loop.mount();
    const fd = openSync(`${root.path}/saved`, "w");
    writeSync(fd, "saved");
    fsyncSync(fd);
    closeSync(fd);
    // As a power cut would leave it.
    copyFileSync(file, dirty);
  }
  const before = hash(dirty);
  {
    await using loop = await attach(dirty, { readOnly: true });
    const error = await assertRejects(() => loop.mount(), LoopError);
    assertEquals(error.code, "EROFS");
    assertStringIncludes(error.message, 'or with options: ["noload"] as it is');
    await using root = await loop.mount(undefined, { options: ["noload"] });
    assert(root.readOnly);
  }
  assertEquals(hash(dirty), before);
  await using loop = await attach(dirty);
  await using root = await loop.mount();
  assertEquals(readFileSync(`${root.path}/saved`, "utf8"), "saved");
});

withExt4("a hostile image is refused, and nothing is left of it", [], async () => {
  const file = ext4Image("hostile.img");
  const damages: [at: number, bytes: number[]][] = [
    // The superblock: all kinds of fields and the checksum; blocks in a group; the block size.
    [1024 + 0x60, Array(200).fill(0xee)],
    [1024 + 0x20, [0xff, 0xff, 0xff, 0xff]],
    [1024 + 0x18, [0x1f, 0, 0, 0]],
    // Where the group's inodes are.
    [2048 + 8, [0xff, 0xff, 0xff, 0xff]],
  ];
  for (const [at, bytes] of damages) {
    const bad = scratch("bad.img");
    copyFileSync(file, bad);
    const fd = openSync(bad, "r+");
    writeSync(fd, Uint8Array.from(bytes), 0, bytes.length, at);
    closeSync(fd);
    const loop = await attach(bad);
    const guess = await assertRejects(() => loop.mount(), LoopError);
    assertMatch(guess.message, /EXT4-fs|no file system that is known here/);
    const error = await assertRejects(() => loop.mount(undefined, { type: "ext4" }), LoopError);
    assertMatch(error.code, /^(EBADMSG|EINVAL|EUCLEAN)$/);
    assertStringIncludes(error.message, "EXT4-fs");
    assertEquals([await loop.detach(), mountDescriptors()], ["detached", []]);
  }
});

withExt4("unmount() says that the backing file had no space left", ["mount"], () => {
  const folder = scratch("full");
  mkdirSync(folder);
  const image = ext4Image("full.img");
  const script = 'mount -o remount,size=2m "$0" && cp --sparse=always "$1" "$0/full.img" && ' +
    'shift && exec "$@"';
  const { stdout, stderr } = run([
    ...isolated(`tmpfs=${folder}`),
    ...["sh", "-c", script, folder, image],
    ...onThisRuntime(MOUNTER, `${folder}/full.img`, "fill"),
  ]);
  assert(stdout.startsWith("{"), stderr);
  const { errors, unmounted, again, detached } = JSON.parse(stdout);
  assertEquals(errors.length, 1);
  assertEquals([unmounted.code, unmounted.syscall, detached], ["EIO", "syncfs", "detached"]);
  assertStringIncludes(unmounted.message, "full.img, and it is lost");
  assertEquals(again, unmounted);
});

withExt4("a process that may not mount is told so", [], async () => {
  await using loop = await attach(ext4Image("right.img"));
  const script = scratch("without.ts");
  writeFileSync(
    script,
    `import { openLoop } from ${JSON.stringify(MOD)};
     await using loop = await openLoop(${JSON.stringify(loop.path)});
     console.log(await loop.mount().catch(({ message }) => message));`,
  );
  const { stdout } = run([...isolated("without=all"), ...onThisRuntime(script)]);
  assertStringIncludes(stdout, "mounting needs CAP_SYS_ADMIN");
});

withExt4("LoopMount is shown as data", [], async () => {
  await using loop = await attach(ext4Image("shown.img"));
  await using root = await loop.mount(undefined, { readOnly: true });
  const { inspect } = process.getBuiltinModule("node:util");
  assertMatch(inspect(root), /^LoopMount \{\s+path: ["']\/run\/loopdev\/\S+["']/);
});
