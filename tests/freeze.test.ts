/** trim() and freeze(): by the mount's own descriptor, and nothing stays frozen. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { type ChildProcess, spawn } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import process from "node:process";
import { attach, type FrozenMount, LoopError, type LoopMount, type MountOptions } from "../mod.ts";
import { kernelRelease } from "../lib/kernel/release.ts";
import { deadOwner, keepersOf, killAll, unlessGone } from "./support/keepers.ts";
import { e2fsck, ext4Image } from "./support/mount_image.ts";
import {
  leftAttached,
  losetup,
  makeImage,
  MOD,
  onThisRuntime,
  output,
  PATIENTLY,
  ROOT,
  scratch,
  testsOf,
  until,
} from "./support/support.ts";

const withExt4 = testsOf("trim and freeze", ["root", "mkfs.ext4", "fsfreeze"]);
const [major, minor] = kernelRelease().split(".").map(Number);
const takesDetached = major > 6 || major === 6 && minor >= 15;
const MOUNTER = `${ROOT}tests/support/mounter.ts`;

const refusalOf = async (refused: () => Promise<unknown>) => {
  const { code, request, message } = await assertRejects(refused, LoopError);
  return { code, request, message };
};

/** A child that writes a file of the mount. */
function writeTo({ path }: LoopMount): { isStuck: () => boolean; ended: Promise<unknown> } {
  const child = spawn("sh", ["-c", 'echo by a child >"$0"', `${path}/written`]);
  return {
    isStuck: () => unlessGone(() => /^State:\tD/m.test(statusOf(child.pid!))) ?? false,
    ended: new Promise((resolve) => child.on("exit", resolve)),
  };
}

const statusOf = (pid: number) => readFileSync(`/proc/${pid}/status`, "utf8");

/** A process that mounts, and what it says. */
async function mounter(image: string, what: string, options: MountOptions = {}) {
  const [command, ...args] = onThisRuntime(MOUNTER, image, what, JSON.stringify(options));
  const child = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] });
  const ended = new Promise((resolve) => child.on("exit", resolve));
  return { child, ended, ...await said(child) };
}

async function said(child: ChildProcess): Promise<{ loop: string; path: string }> {
  let text = "";
  return await new Promise((resolve) =>
    child.stdout!.on("data", (data) => {
      text += data;
      if (text.includes("\n")) resolve(JSON.parse(text.split("\n")[0]));
    })
  );
}

/** Processes that have the mount's root directory open: of a mount without a user only those that thaw it. */
function thawersOf(path: string, mounter: number): number[] {
  return readdirSync("/proc").map(Number).filter((pid) => pid > 0 && pid !== mounter).filter(
    (pid) => {
      const fds = unlessGone(() => readdirSync(`/proc/${pid}/fd`)) ?? [];
      return fds.some((fd) => unlessGone(() => readlinkSync(`/proc/${pid}/fd/${fd}`)) === path);
    },
  );
}

withExt4("trim() gives back what the file system does not use", [], async () => {
  const file = ext4Image("trimmed.img");
  await using loop = await attach(file);
  const root = await loop.mount();
  writeFileSync(`${root.path}/big`, new Uint8Array(2 ** 21).fill(7));
  output(["sync", "-f", root.path]);
  rmSync(`${root.path}/big`);
  output(["sync", "-f", root.path]);
  const before = statSync(file).blocks;
  const trimmed = await root.trim();
  assert(trimmed >= 2 ** 21 && trimmed < 2 ** 23, `${trimmed}`);
  const given = (before - statSync(file).blocks) * 512;
  assert(given >= 2 ** 21, `${given} bytes of the image's file`);
  assertEquals(await root.unmount(), "unmounted");
  assertEquals((await refusalOf(() => root.trim())).code, "EBADF");
  assertEquals(e2fsck(file), "clean");
});

withExt4("trim() and freeze() say which driver does not", ["mksquashfs"], async () => {
  const file = makeImage("squash.img", 1);
  output(["mksquashfs", `${ROOT}vm`, file, "-noappend", "-quiet", "-no-progress"]);
  await using loop = await attach(file);
  await using root = await loop.mount();
  const [trimmed, frozen] = [
    await refusalOf(() => root.trim()),
    await refusalOf(() => root.freeze()),
  ];
  assertEquals([trimmed.code, trimmed.request], ["ENOTTY", "FITRIM"]);
  assertStringIncludes(trimmed.message, "the driver of squashfs does not trim");
  assertEquals([frozen.code, frozen.request], ["EOPNOTSUPP", "FIFREEZE"]);
  assertStringIncludes(frozen.message, "the driver of squashfs does not freeze");
  assertEquals(await root.unmount(), "unmounted");
});

withExt4("freeze() lets nobody write until thaw()", [], async () => {
  const file = ext4Image("frozen.img");
  await using loop = await attach(file);
  await using root = await loop.mount();
  const frozen = await root.freeze();
  assertEquals(frozen.path, root.path);
  const writer = writeTo(root);
  await until(writer.isStuck, "the child to wait for the thaw");
  // What the image's file holds is whole, as after an unmount.
  assertEquals(e2fsck(file), "clean");
  assertEquals((await refusalOf(() => root.freeze())).code, "EBUSY");
  await frozen.thaw();
  await writer.ended;
  await frozen.thaw();
  assertEquals(readFileSync(`${root.path}/written`, "utf8"), "by a child\n");
});

withExt4(
  "mount() removes a dead process's directory with a word of a freeze alone",
  [],
  async () => {
    const dead = deadOwner();
    await using loop = await attach(ext4Image("left.img"));
    await (await loop.mount()).unmount();
    mkdirSync(dead);
    writeFileSync(`${dead}/.frozen-000004`, "");
    await using _root = await loop.mount();
    await until(() => !existsSync(dead), "the directory to go");
  },
);

withExt4("unmount(), detach() and the end of a block thaw first", [], async () => {
  const file = ext4Image("ends.img");
  const loop = await attach(file);
  let frozen: FrozenMount;
  {
    await using root = await loop.mount();
    frozen = await root.freeze();
    {
      await frozen.thaw();
      await using _again = await root.freeze();
    }
    writeFileSync(`${root.path}/after`, "the block");
    frozen = await root.freeze();
    assertEquals(await root.unmount(), "unmounted");
    // The unmount has thawed it.
    await frozen.thaw();
    assertEquals((await refusalOf(() => root.freeze())).code, "EBADF");
    const other = await loop.mount(undefined, takesDetached ? { detached: true } : {});
    frozen = await other.freeze();
    output(["fsfreeze", "--unfreeze", other.path]);
    assertEquals(await other.unmount(), "unmounted");
    assertEquals((await refusalOf(() => frozen.thaw())).code, "EINVAL");
  }
  frozen = await (await loop.mount()).freeze();
  assertEquals(await loop.detach(PATIENTLY), "detached");
  await frozen.thaw();
  assertEquals([leftAttached(file), e2fsck(file)], [[], "clean"]);
});

withExt4("thaw() rejects if it was thawed before, by others or by its timeout", [], async () => {
  await using loop = await attach(ext4Image("late.img"));
  await using root = await loop.mount();
  const frozen = await root.freeze();
  output(["fsfreeze", "--unfreeze", root.path]);
  const { code, request, message } = await refusalOf(() => frozen.thaw());
  assertEquals([code, request], ["EINVAL", "FITHAW"]);
  assertStringIncludes(message, "it was not frozen any more");
  assertEquals((await refusalOf(() => frozen.thaw())).code, "EINVAL");
  const first = await root.freeze({ timeout: 1000 });
  await writeTo(root).ended;
  const second = await root.freeze();
  // Not the second one's.
  assertEquals((await refusalOf(() => first.thaw())).code, "EINVAL");
  await second.thaw();
  await assertRejects(() => root.freeze({ timeout: -1 }), RangeError);
});

withExt4(
  "the end of the block says that it was thawed before, after an unmount too",
  [],
  async () => {
    await using loop = await attach(ext4Image("torn.img"));
    for (const end of ["unmount", "detach"] as const) {
      const root = await loop.mount();
      const snapshot = async () => {
        await using _frozen = await root.freeze();
        output(["fsfreeze", "--unfreeze", root.path]);
        if (end === "unmount") assertEquals(await root.unmount(), "unmounted");
        else assertEquals(await loop.detach(PATIENTLY), "detached");
      };
      const { code, request, message } = await refusalOf(snapshot);
      assertEquals([code, request], ["EINVAL", "FITHAW"]);
      assertStringIncludes(message, "may have changed");
    }
  },
);

withExt4("freeze() without a timeout lasts until thaw(), with busybox's timeout too", [
  "busybox",
  "mount",
  "unshare",
], () => {
  const file = ext4Image("endless.img");
  const script = scratch("endless.ts");
  writeFileSync(
    script,
    `import { attach } from ${JSON.stringify(MOD)};
     import { spawn } from "node:child_process";
     await using loop = await attach(${JSON.stringify(file)});
     await using root = await loop.mount();
     const frozen = await root.freeze({ timeout: Infinity });
     const child = spawn("sh", ["-c", 'echo x >"$0"', root.path + "/written"]);
     const written = new Promise((resolve) => child.on("exit", () => resolve("thawed")));
     // busybox's timeout counts in whole seconds.
     const late = new Promise((resolve) => setTimeout(resolve, 1200, "frozen"));
     console.log(await Promise.race([written, late]));
     await frozen.thaw();
     await written;`,
  );
  const bind = 'mount --bind "$(command -v busybox)" "$(command -v timeout)" && exec "$@"';
  const inNamespace = ["unshare", "--mount", "sh", "-c", bind, "sh"];
  assertEquals(output([...inNamespace, ...onThisRuntime(script)]), "frozen\n");
});

withExt4("freeze() whose time is over before the freeze leaves nothing frozen", [], async () => {
  await using loop = await attach(ext4Image("busy.img"));
  await using root = await loop.mount();
  const freezing = root.freeze({ timeout: 100 });
  // Promises alone go on until its helper is started; then this thread is busy for longer than that.
  for (let n = 0; n < 100; n++) await null;
  const isThere = () => thawersOf(root.path, process.pid).length > 0;
  // A shell can leave it to another one behind the first look.
  for (const reached of [isThere, () => !isThere() && !isThere()]) {
    for (const end = Date.now() + 30_000; !reached();) {
      assert(Date.now() < end, "waited in vain for the helper");
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
    }
  }
  const { code, message } = await assertRejects(() => freezing, LoopError);
  assertEquals(code, "ETIMEDOUT");
  assertStringIncludes(message, "its timeout, 100 ms, was over before it was frozen");
  await writeTo(root).ended;
  assertEquals(readFileSync(`${root.path}/written`, "utf8"), "by a child\n");
});

withExt4("SIGKILL thaws", [], async () => {
  const file = ext4Image("killed.img");
  for (const whom of ["the process", "all", ...takesDetached ? ["detached"] : []]) {
    const options = { detached: whom === "detached" };
    const { child, ended, path } = await mounter(file, "frozen", options);
    if (whom === "all") {
      const others = [...keepersOf(child.pid!), ...thawersOf(path, child.pid!)];
      assertEquals(others.length >= 2, true, `${others}`);
      killAll(others);
    }
    child.kill("SIGKILL");
    await ended;
    if (whom === "all") {
      // The next mount() of anybody starts a keeper for what is left: a neighbour's may have been faster.
      await using loop = await attach(ext4Image("other.img"));
      await using _root = await loop.mount();
      await until(() => !existsSync(path), "the keeper to unmount it");
    }
    await until(() => losetup(file).length === 0, "the device to be detached");
    await until(() => !existsSync(path), "the keeper to take the directory away");
    assertEquals(e2fsck(file), "clean");
  }
});

withExt4("a process that writes to what it has frozen goes on after the timeout", [], async () => {
  const file = ext4Image("stuck.img");
  const { child, ended } = await mounter(file, "stuck");
  await ended;
  assertEquals([child.exitCode, child.signalCode], [0, null]);
  await until(() => losetup(file).length === 0, "the device to be detached");
  await using loop = await attach(file);
  await using root = await loop.mount();
  assertEquals(readFileSync(`${root.path}/written`, "utf8"), "by mounter\n");
});
