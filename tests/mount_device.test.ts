/** mount() of a block device's node, whoever has made the device. */
import {
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { attach, LoopError, mount } from "../mod.ts";
import { O_RDONLY, open } from "../lib/kernel/file.ts";
import { refuseOther } from "../lib/mount/device_source.ts";
import { e2fsck, ext4Image, ext4Partitions, mountsOf } from "./support/mount_image.ts";
import {
  isolated,
  leftAttached,
  losetup,
  makeImage,
  MOD,
  onThisRuntime,
  output,
  scratch,
  testsOf,
  withStaticDev,
} from "./support/support.ts";

const withExt4 = testsOf("mounts of any device", ["root", "mkfs.ext4"]);

const refusalOf = async (device: string | URL) => {
  const { code, message } = await assertRejects(() => mount(device), LoopError);
  return { code, message };
};

withExt4("mount() takes any block device, and no second loop device", [], async () => {
  const file = await ext4Partitions("any.img", 2);
  await using loop = await attach(file, { partscan: true });
  const [, { path: node }] = loop.partitions;
  const link = scratch("by-label");
  symlinkSync(node, link);
  for (const name of [node, link, pathToFileURL(link)]) {
    await using root = await mount(name);
    assertEquals([root.device, root.partition, root.type], [node, 2, "ext4"]);
    assertMatch(root.path, /^\/run\/loopdev\/\d+-\d+-\w{10}\/loop\d+p2-\d{6}$/);
    writeFileSync(await root.resolve("hello"), "world\n");
    const mountsThere = { path: node, kind: "mount" as const, by: root.path };
    const held = (await loop.holders()).filter(({ kind }) => kind !== "process");
    assertEquals([held, losetup(file).length], [[mountsThere], 1]);
    assertEquals(await root.unmount(), "unmounted");
    assertEquals(mountsOf(node), []);
  }
  await using again = await loop.mount(2);
  assertEquals(readFileSync(`${again.path}/hello`, "utf8"), "world\n");
});

// Alone: a namespace that another suite makes meanwhile keeps a copy of a mount on a directory that stays.
withExt4("mount() of a device takes the options of a partition's mount", ["quiet"], async () => {
  const file = ext4Image("options.img");
  const at = scratch("at");
  output(["mkdir", at]);
  await using loop = await attach(file);
  await using root = await mount(loop.path, { at, readOnly: true, type: "ext4" });
  assertEquals([root.path, root.partition, root.readOnly], [at, undefined, true]);
  // The mount is its own: the handle of the loop device does not end it.
  assertEquals(await loop.detach(), "deferred");
  assertEquals((await loop.holders()).filter(({ kind }) => kind === "mount").map(({ by }) => by), [
    at,
  ]);
  assertEquals(await root.unmount(), "unmounted");
  assertEquals([leftAttached(file), e2fsck(file)], [[], "clean"]);
  const stop = AbortSignal.abort(new Error("stopped"));
  await assertRejects(() => mount(loop.path, { signal: stop }), Error, "stopped");
  // @ts-expect-error no such option
  await assertRejects(() => mount(loop.path, { partition: 1 }), TypeError, "partition");
  // @ts-expect-error no path
  await assertRejects(() => mount(1), TypeError, "device must be a path");
});

withExt4("mount() of a device by a node of another name takes the device", [], async () => {
  await using loop = await attach(ext4Image("named.img"));
  const node = scratch("some node");
  output(["mknod", node, "b", ...output(["stat", "-c", "%Hr %Lr", loop.path]).trim().split(" ")]);
  await using root = await mount(node);
  assertEquals([root.device, mountsOf(loop.path).length], [loop.path, 1]);
});

/** What a program prints as JSON that has a mount namespace, and in it a /run, of its own. */
function printed(body: string, surroundings = isolated("tmpfs=/run"), ...args: string[]): unknown {
  const script = scratch("alone.ts");
  writeFileSync(
    script,
    `import { attach, mount } from ${JSON.stringify(MOD)};
     import { spawnSync } from "node:child_process";
     import process from "node:process";
     const sh = (script) => spawnSync("sh", ["-ec", script], { encoding: "utf8" });
     const show = (value) => console.log(JSON.stringify(value));
     ${body}`,
  );
  return JSON.parse(output([...surroundings, ...onThisRuntime(script, ...args)]));
}

withExt4("mount() takes a node of which /dev and /sys know nothing", ["mount"], async () => {
  await using loop = await attach(ext4Image("unknown.img"));
  const node = scratch("node");
  output(["mknod", node, "b", ...output(["stat", "-c", "%Hr %Lr", loop.path]).trim().split(" ")]);
  const shown = printed(
    `const seen = [];
     for (const change of ["true", "umount -l /sys"]) {
       sh(change);
       const root = await mount(process.argv[2]);
       seen.push([root.device, root.partition ?? "whole", root.type, await root.unmount()]);
     }
     show(seen);`,
    withStaticDev("mount -t tmpfs none /run"),
    node,
  );
  // Without /sys nobody can say that the kernel has released the device.
  const whole = [node, "whole", "ext4"];
  assertEquals(shown, [[...whole, "unmounted"], [...whole, "deferred"]]);
});

withExt4("run() of a user's mount refuses another device at the node's name", ["unshare"], () => {
  const images = ["meant.img", "other.img"].map(ext4Image);
  const shown = printed(
    `const [meant, other] = await Promise.all(process.argv.slice(2).map((file) => attach(file)));
     const root = await mount(meant.path, { owner: 1000 });
     sh("mount --bind " + other.path + " " + meant.path);
     const refused = await root.run("true", { chroot: false }).catch((error) => error);
     const ends = [await root.unmount(), await other.detach()];
     show([refused.code, refused.path === meant.path, refused.message, ...ends]);`,
    isolated("tmpfs=/run"),
    ...images,
  ) as string[];
  assertEquals([...shown.slice(0, 2), ...shown.slice(3)], [
    "ESTALE",
    true,
    "unmounted",
    "detached",
  ]);
  assertMatch(shown[2], /it led to device 7:\d+, and now to 7:\d+: mount it again/);
});

withExt4("mount() says what is no block device, and what has no file system", [], async () => {
  const file = ext4Image("refused.img");
  const refused = await refusalOf(file);
  assertEquals(refused.code, "ENOTBLK");
  assertStringIncludes(refused.message, "attach() makes a loop device of an image");
  const fifo = scratch("fifo");
  output(["mkfifo", fifo]);
  assertStringIncludes((await refusalOf(fifo)).message, "it is a FIFO");
  assertStringIncludes((await refusalOf("/dev/null")).message, "it is a character device");
  assertEquals((await refusalOf("/dev/no-such-device")).code, "ENOENT");
  await using empty = await attach(makeImage("empty.img", 1));
  assertStringIncludes((await refusalOf(empty.path)).message, "all of it is zero");
});

withExt4("a path that leads to another device by then is refused", [], async () => {
  const file = await ext4Partitions("swapped.img", 2);
  await using loop = await attach(file, { partscan: true });
  await using root = await loop.mount(1);
  using files = open(root.path, O_RDONLY);
  const [own, other] = loop.partitions.map(({ path }) => open(path, O_RDONLY));
  using _own = own, _other = other;
  const source = { device: root.device, number: loop.number, partition: 1, readOnly: false };
  const made = { mount: files, root: files, readOnly: false };
  refuseOther({ ...source, backingFile: file, node: own }, made);
  const { code } = assertThrows(
    () => refuseOther({ ...source, backingFile: file, node: other }, made),
    LoopError,
  );
  assertEquals(code, "ESTALE");
});
