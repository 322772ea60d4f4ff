/**
 * What is told where a call fails, and then what was to explain it or to undo it fails as well. strace makes
 * them fail; torture's part "faults" does it with every call.
 */
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { attach, list, LoopError } from "../mod.ts";
import {
  laterUnlessRefused,
  orRefusal,
  withMore,
  withPath,
  withSecond,
} from "../lib/base/errors.ts";
import { writeTable } from "./cases/disk_image.ts";
import { USER } from "./cases/owned_files.ts";
import { deadOwner, OWNERS } from "./support/keepers.ts";
import { ext4Image } from "./support/mount_image.ts";
import { ownDevices } from "./support/own_devices.ts";
import {
  assertDetached,
  isolated,
  makeImage,
  MOD,
  PATIENTLY,
  scratch,
  test,
  THREE_PARTITIONS,
} from "./support/support.ts";
import { type Fault, traced, tracedWithFault } from "./support/traced.ts";

const told = (image: string, options: unknown) =>
  `const tell = ({ code, path, message }) => ({ code, path, message });
   const warned = [];
   console.warn = (text) => warned.push(text);
   const act = async (use) => {
     try {
       await using loop = await attach(${JSON.stringify(image)}, ${JSON.stringify(options)});
       return { result: await use(loop) };
     } catch (thrown) {
       return tell(thrown instanceof SuppressedError ? thrown.suppressed : thrown);
     }
   };
   const say = (outcome) => console.log(JSON.stringify({ ...outcome, warned }));`;

test("the first error stays the error, and tells what cannot be undone", [], () => {
  const first = new LoopError({ code: "EMFILE", syscall: "open", path: "/one" });
  const second = new LoopError({ code: "EMFILE", syscall: "open", path: "/two" });
  const both = withSecond(first, second) as LoopError;
  assertEquals([both.code, both.path, both.stack?.includes("/one")], ["EMFILE", "/one", true]);
  assertMatch(
    both.message,
    /\(this process .*; and then EMFILE: too many open files, open '\/two'\)$/,
  );
  assertEquals(both.message.match(/ulimit/g)?.length, 1, "what both say is told once");
  assertEquals(withSecond(first, first), first);
  const other = new Error("no refusal");
  assertEquals([withSecond(other, second), withMore(other, "more")], [other, other]);
  assertEquals([withSecond(first, other), withPath(other, "/three")], [first, other]);
  const renamed = withPath(first, "/three") as LoopError;
  assertEquals([renamed.path, renamed.syscall, renamed.code], ["/three", "open", "EMFILE"]);
  assert(renamed.message === first.message.replace("/one", "/three"), renamed.message);
});

test("what is refused with another code, or is no refusal, is no answer", [], async () => {
  const refused = () => Promise.reject(new LoopError({ code: "EIO", path: "/one" }));
  const wrong = () => Promise.reject(new TypeError("no refusal"));
  assertEquals(await laterUnlessRefused(refused, "EIO"), undefined);
  await assertRejects(() => laterUnlessRefused(refused, "ENOENT"), LoopError, "EIO");
  assertEquals((await orRefusal(refused) as { code: string }).code, "EIO");
  await assertRejects(() => orRefusal(wrong), TypeError, "no refusal");
});

test("attach() warns of a node of its own that cannot be removed", ["root", "strace"], () => {
  const image = makeImage("node.img", 1);
  const inject = "unlink,unlinkat:error=EROFS:when=1";
  const { stdout } = traced(
    `${told(image, {})}
     say(await act((loop) => loop.path));`,
    { calls: "openat,unlink,unlinkat", inject, here: true },
  );
  const { warned: [text] } = JSON.parse(stdout);
  const [, node] = / rm (\/dev\/\.loopdev-loop\d+) /.exec(text) ?? [];
  const says =
    `EROFS: read-only file system, unlink '${node}': the node is left, and rm ${node} removes it`;
  assertEquals(text, `loopdev: ${says}`);
  rmSync(node, { force: true });
});

test("LoopMount.unmount() tells of a mount of which nobody can say whether it has ended", [
  "root",
  "strace",
  "mount",
  "mkfs.ext4",
], () => {
  const image = ext4Image("stays.img");
  const body = `${told(image, {})}
    say(await act(async (loop) => {
      const root = await loop.mount();
      try {
        await root.unmount();
      } catch (error) {
        return { ...tell(error), mount: root.path, device: loop.path };
      }
    }));`;
  for (const calls of ["readlinkat", "syncfs,readlinkat"]) {
    const { stdout } = traced(body, { calls, inject: `${calls}:error=EIO:when=1+`, here: true });
    const { code, path, message, mount, device } = JSON.parse(stdout).result;
    const isLost = calls !== "readlinkat";
    assertEquals([code, path], ["EIO", isLost ? device : mount]);
    assert(message.includes(`umount ${mount} unmounts it`), message);
    if (!isLost) continue;
    assert(message.includes("stays.img, and it is lost: "), message);
    assertMatch(message, /Check the file system before use; and then EIO: .*, readlink '/);
  }
});

test("LoopMount.unmount() that cannot look for other mounts changes nothing", [
  "root",
  "strace",
  "mkfs.ext4",
], () => {
  const { stdout } = traced(
    `${told(ext4Image("unseen.img"), {})}
     say(await act(async (loop) => {
       const root = await loop.mount();
       const refused = await root.unmount().catch(tell);
       return { ...refused, mount: root.path, ended: await root.unmount() };
     }));`,
    {
      calls: "openat",
      on: "/proc/self/mountinfo",
      inject: "openat:error=EMFILE:when=1",
      here: true,
    },
  );
  const { code, path, message, mount, ended } = JSON.parse(stdout).result;
  assertEquals([code, path, ended], ["EMFILE", "/proc/self/mountinfo", "unmounted"]);
  assert(message.includes(`${mount} is still mounted: unmount() can be called again`), message);
});

test("mount() with owner takes a directory away that it cannot give, or tells of it", [
  "root",
  "strace",
  "mkfs.ext4",
  "unshare",
], async () => {
  const image = ext4Image("given.img");
  {
    await using loop = await attach(image);
    // The directory of all users is there from then on.
    await using _root = await loop.mount(undefined, { owner: USER });
  }
  const body = `import { existsSync } from "node:fs";
    ${told(image, {})}
    const refused = await act((loop) => loop.mount(undefined, { owner: ${USER} }));
    say({ ...refused, isLeft: existsSync(refused.path) });`;
  const all = "/run/loopdev-owned";
  // The first one opens the directory of all users.
  const second = "openat:error=EMFILE:when=2";
  const onAll = { calls: "openat", on: all, inject: second, here: true };
  const unopened = JSON.parse(traced(body, onAll).stdout);
  assert(unopened.path.startsWith(`${all}/`), unopened.path);
  assertEquals([unopened.code, unopened.isLeft], ["EMFILE", false]);
  const inject = "fchown,unlinkat:error=EROFS";
  const left = JSON.parse(traced(body, { calls: "fchown,unlinkat", inject, here: true }).stdout);
  // The keeper could not remove the record either, whose number is another mount's by now.
  const owner = left.path.slice(all.length + 1).replace(/-\d+$/, "");
  rmSync(`${OWNERS}/${owner}`, { recursive: true, force: true });
  assertEquals([left.code, left.isLeft], ["EROFS", true]);
  const says = `fchown '${left.path}' (${left.path} is left: rm -r ${left.path})`;
  assert(left.message.endsWith(says), left.message);
});

test("a signal that comes when the mount has its place takes it away again", [
  "root",
  "strace",
  "mkfs.ext4",
], () => {
  const at = scratch("at");
  mkdirSync(at);
  const body = `import { readFileSync, readdirSync } from "node:fs";
    ${told(ext4Image("placed.img"), {})}
    const isPlaced = () =>
      readFileSync("/proc/self/mountinfo", "utf8").includes(${JSON.stringify(at)});
    await act(async (loop) => {
      // With a keeper that runs, no timer is waited for.
      const other = await loop.mount();
      const stopping = new AbortController();
      const options = { at: ${JSON.stringify(at)}, signal: stopping.signal };
      const mounting = loop.mount(undefined, options).then(() => "mounted", (error) => error);
      for (let turns = 1; !isPlaced() && turns < 10_000; turns++) {
        // On a busy machine mount() lets the event loop turn.
        await (turns % 200 > 0 ? undefined : new Promise((resolve) => setImmediate(resolve)));
      }
      const wasPlaced = isPlaced();
      stopping.abort("enough");
      const ended = await mounting;
      const records = readdirSync(other.path + "/..").filter((name) => name.includes(".at-"));
      console.log(JSON.stringify([wasPlaced, ended, isPlaced(), records.length]));
    });`;
  const calls = "readlinkat";
  for (const inject of [undefined, `${calls}:error=EIO`]) {
    // The mount may have its place, and mount() its end, before the test looks again.
    let seen: unknown[] = [];
    for (let tries = 0; tries < 10 && seen[1] !== "enough"; tries++) {
      seen = JSON.parse(traced(body, { calls, here: true, ...inject && { inject } }).stdout);
    }
    // Where nobody can say whether it has gone, the keeper looks.
    assertEquals(seen, [true, "enough", false, inject ? 1 : 0]);
  }
});

test("mount() gives up where it cannot lock what it has made", [
  "root",
  "strace",
  "mkfs.ext4",
], () => {
  const { stdout } = traced(
    `${told(ext4Image("unlocked.img"), {})}
     say(await act((loop) => loop.mount()));`,
    { calls: "flock", inject: "flock:error=EAGAIN", here: true },
  );
  const { code, message } = JSON.parse(stdout);
  assertEquals(code, "EAGAIN");
  assertMatch(message, /, flock '\/run\/loopdev\/\d+-\d+-\w{10}'/);
});

test("mount() tells what forbids a mount its place, and leaves nothing there", [
  "root",
  "strace",
  "mkfs.ext4",
], () => {
  const { stdout } = traced(
    `${told(ext4Image("placeless.img"), {})}
     say(await act((loop) =>
       Promise.all([{}, { detached: true }].map((options) => loop.mount(undefined, options).catch(tell)))));`,
    { calls: "move_mount", inject: "move_mount:error=EPERM", here: true },
  );
  const [directory, detached] = JSON.parse(stdout).result;
  assertEquals([directory.code, detached.code], ["EPERM", "EPERM"]);
  assertMatch(directory.path, /^\/run\/loopdev\/.*\/loop\d+-\d{6}$/);
  assertEquals(existsSync(directory.path), false);
  assertMatch(
    directory.message,
    /move_mount '\S+' \(mounting needs CAP_SYS_ADMIN; this process has it/,
  );
});

test("mount() that reaches the limit of open files with its keeper says so", [
  "root",
  "strace",
  "mkfs.ext4",
], () => {
  const { stdout } = traced(
    `${told(ext4Image("limited.img"), {})}
     say(await act((loop) => loop.mount()));`,
    { calls: "memfd_create", inject: "memfd_create:error=EMFILE:when=1", here: true },
  );
  const { code, path, message } = JSON.parse(stdout);
  assertEquals([code, path], ["EMFILE", "loopdev-keeper"]);
  assertMatch(message, /reached its limit of open files \(ulimit -n\); mount\(\) starts a shell/);
});

test("mount() goes on where it cannot look for what dead owners have left", [
  "quiet",
  "root",
  "strace",
  "mkfs.ext4",
], () => {
  const dead = deadOwner();
  const image = ext4Image("looking.img");
  const body = `import { existsSync, mkdirSync } from "node:fs";
    ${told(image, {})}
    say(await act(async (loop) => {
      const seen = [];
      for (const round of [1, 2]) {
        mkdirSync(${JSON.stringify(dead)}, { mode: 0o700 });
        const root = await loop.mount();
        while (existsSync(${JSON.stringify(dead)})) await new Promise((r) => setTimeout(r));
        seen.push(await root.unmount());
      }
      return seen;
    }));`;
  const unlisted = traced(
    `${told(image, {})}
     say(await act(async (loop) => await (await loop.mount()).unmount()));`,
    // After that of our own, and of its lock.
    { calls: "openat", on: OWNERS, inject: "openat:error=EMFILE:when=3", here: true },
  );
  assertEquals(JSON.parse(unlisted.stdout).result, "unmounted");
  // Each looks three times. The second look at the first one fails, which a keeper takes away then, and the last
  // look at the second one.
  const inject = "getdents64:error=EIO:when=3..8+5";
  const looked = traced(body, { calls: "getdents64", on: dead, inject, here: true });
  assertEquals(JSON.parse(looked.stdout).result, ["unmounted", "unmounted"]);
});

test("what losetup attaches and attach() does not is undone where its last step fails", [
  "root",
  "strace",
], () => {
  const file = scratch("tiny.img");
  writeFileSync(file, "tiny");
  const { stdout } = tracedWithFault(
    `import { attachUnchecked } from ${JSON.stringify(new URL("lib/losetup/attach.ts", MOD))};
     import { detach } from ${JSON.stringify(MOD)};
     const options = { offset: 0, sizelimit: 0, autoclear: false, partscan: false };
     const told = await attachUnchecked(${JSON.stringify(file)}, options).catch((error) => error);
     // Where another call than the one that is meant has failed, it may be one of these.
     if (typeof told === "string") await detach(told).catch(() => detach(told));
     console.log(told.code, told.request);`,
    { calls: "openat,ioctl" },
    { call: /LOOP_SET_STATUS64/, how: (nth) => `error=EIO:when=${nth}` },
  );
  assertEquals(stdout, "EIO LOOP_SET_STATUS64\n");
  assertDetached(file);
});

/** attach() asks no device of others, of which there are more or fewer each time. */
const UNASKED = '{ overlap: "allow" }';

test("MountedImage.trim() leaves out a file system whose driver does not trim", [
  "root",
  "strace",
  "mkfs.ext4",
], () => {
  const image = ext4Image("untrimmed.img");
  const { stdout } = tracedWithFault(
    `import { mountImage } from ${JSON.stringify(MOD)};
     const trim = async () => {
       await using tree = await mountImage(${JSON.stringify(image)}, ${UNASKED});
       return await tree.trim();
     };
     console.log(await trim().catch((error) => error.message));`,
    { calls: "openat,ioctl" },
    { call: /FITRIM/, how: (nth) => `error=ENOTTY:when=${nth}` },
  );
  assertEquals(stdout, "0\n");
});

test("mountImage() mounts nothing that its look has left read-only", [
  "root",
  "strace",
  "mkfs.ext4",
], () => {
  const image = ext4Image("sealed.img");
  const { stdout } = tracedWithFault(
    `import { mountImage } from ${JSON.stringify(MOD)};
     const { code, request, path } = await mountImage(${JSON.stringify(image)}, ${UNASKED})
       .catch((error) => error);
     console.log(code, request, path);`,
    { calls: "openat,ioctl" },
    { call: /BLKROSET, \[0\]/, how: (nth) => `error=EACCES:when=${nth}` },
  );
  assertMatch(stdout, /^EACCES BLKROSET \/dev\/loop\d+\n$/);
  assertDetached(image);
});

/** What the tests of freeze() write into a script: a child that writes, and waits while the mount is frozen. */
const FREEZING = `
  const { spawnSync } = await import("node:child_process");
  const write = (root) => spawnSync("sh", ["-c", 'echo x >"$0"', root.path + "/file"]).status;`;

test("FrozenMount.thaw() leaves to its helper what it cannot thaw, and says it once", [
  "root",
  "strace",
  "mkfs.ext4",
  "fsfreeze",
], () => {
  const image = ext4Image("frozen.img");
  const { stdout } = tracedWithFault(
    `${told(image, {})} ${FREEZING}
     say(await act(async (loop) => {
       const root = await loop.mount();
       const frozen = await root.freeze();
       const block = async () => { await using _ = frozen; };
       const told = [await block().catch(tell), await frozen.thaw().catch(tell), await block()];
       return { told, written: write(root), unmounted: await root.unmount() };
     }));`,
    { calls: "openat,ioctl" },
    { call: /FITHAW/, how: (nth) => `error=EIO:when=${nth}` },
  );
  const { result: { told: [first, second, third], written, unmounted } } = JSON.parse(stdout);
  assertEquals([first.code, second, third], ["EIO", first, null]);
  assertMatch(
    first.message,
    /FITHAW .*it is left to a helper process to thaw the file system \(fsfreeze/,
  );
  assertEquals([written, unmounted], [0, "unmounted"]);
});

test(
  "LoopMount.freeze() leaves nothing frozen where the kernel or the keeper's records refuse it",
  [
    "root",
    "strace",
    "mkfs.ext4",
    "fsfreeze",
    "mount",
  ],
  () => {
    const image = ext4Image("refused.img");
    const refused = tracedWithFault(
      `${told(image, {})} ${FREEZING}
     say(await act(async (loop) => {
       const root = await loop.mount();
       const error = await root.freeze().catch(tell);
       // The run without a fault has frozen it.
       await error.thaw?.();
       return { error, written: write(root) };
     }));`,
      { calls: "openat,ioctl" },
      { call: /FIFREEZE/, how: (nth) => `error=EIO:when=${nth}` },
    );
    const { error, written } = JSON.parse(refused.stdout).result;
    assertEquals([error.message, written], [
      `EIO: input/output error, FIFREEZE '${error.path}'`,
      0,
    ]);
    // Its thaw after that fails as well.
    const unrecorded = tracedWithFault(
      `${told(image, {})} ${FREEZING}
     const remount = (how) => spawnSync("mount", ["-o", "remount," + how, "/run"]);
     say(await act(async (loop) => {
       const root = await loop.mount();
       remount("ro");
       const error = await root.freeze().catch(tell);
       remount("rw");
       return { error, written: write(root) };
     }));`,
      { calls: "openat,ioctl", around: isolated("tmpfs=/run") },
      { call: /FITHAW/, how: (nth) => `error=EIO:when=${nth}` },
    );
    const { result } = JSON.parse(unrecorded.stdout);
    assertEquals([result.error.code, result.written], ["EROFS", 0]);
    assertMatch(result.error.message, /\/\.frozen-\d+'.*it is left to a helper process to thaw/);
  },
);

test("the end of a handle says whose mount nobody can ask about, and releases the device", [
  "root",
  "strace",
  "mkfs.ext4",
], () => {
  const { stdout } = traced(
    `${told(ext4Image("unasked.img"), {})}
     import { openLoop } from ${JSON.stringify(MOD)};
     say(await act(async (loop) => {
       const other = await openLoop(loop.path);
       const mounts = [await loop.mount(), await other.mount()];
       const ends = [() => loop.detach(), () => other[Symbol.asyncDispose]()];
       const errors = [];
       for (const end of ends) errors.push(await end().then(() => undefined, tell));
       return { errors, paths: mounts.map(({ path }) => path) };
     }));`,
    { calls: "openat,readlinkat", inject: "readlinkat:error=EIO:when=1+", here: true },
  );
  const { errors, paths } = JSON.parse(stdout).result;
  errors.forEach(({ code, message }: { code: string; message: string }, i: number) => {
    assertEquals(code, "EIO");
    assert(message.includes(`umount ${paths[i]} unmounts it`), message);
  });
});

test("a device whose file has a path that the kernel cannot tell is in nobody's way", [
  "root",
], async () => {
  const base = scratch("deep");
  const folder = `${base}${`/${"d".repeat(200)}`.repeat(19)}`;
  mkdirSync(folder, { recursive: true });
  const file = `${folder}/a.img`;
  writeFileSync(file, new Uint8Array(2 ** 20));
  await using loop = await attach(file);
  writeFileSync(`${folder}/b.img`, new Uint8Array(2 ** 20));
  const there = openSync(folder, "r");
  const long = scratch("e".repeat(250));
  renameSync(base, long);
  try {
    // By a name that can be told.
    const name = `/proc/self/fd/${there}/b.img`;
    {
      await using inside = await attach(name);
      assertEquals(inside.backingFile, name);
    }
    const { path } = loop;
    const [status] = (await list()).filter((one) => one.path === path);
    assertMatch(status.backingFile, /too long for the kernel to tell/);
    const other = makeImage("short.img", 1);
    await using beside = await attach(other, { overlap: "refuse" });
    assertEquals(beside.backingFile, other);
    assertEquals((await beside.holders()).filter(({ kind }) => kind === "loop"), []);
    assertEquals(await loop.detach(), "detached");
  } finally {
    closeSync(there);
    renameSync(long, base);
  }
});

/** What `body` says, which knows what mod.ts exports, and loopCtlRemove(). */
function saidWith(fault: Fault, body: string): string {
  const kernel = (name: string) => JSON.stringify(new URL(`lib/kernel/${name}.ts`, MOD));
  const script = `import { detach, openLoop } from ${JSON.stringify(MOD)};
    import { O_RDWR, open } from ${kernel("file")};
    import { loopCtlRemove } from ${kernel("loop")};
    const said = await (async () => { ${body} })().catch((error) => error.suppressed ?? error);
    console.log(said.message ?? said);`;
  const calls = `openat,ioctl,statx,fsync${fault.then ? `,${fault.then[0]}` : ""}`;
  return tracedWithFault(script, { calls }, fault).stdout.trim();
}

const from = (error: string): Fault["how"] => (nth) => `error=${error}:when=${nth}+`;
const twice = (error: string): Fault["how"] => (nth) => `error=${error}:when=${nth}..${nth + 1}`;
const once = (error: string): Fault["how"] => (nth) => `error=${error}:when=${nth}`;

test("attach() tells why a device was not bound, whatever then fails", [
  "root",
  "strace",
], async () => {
  const image = JSON.stringify(makeImage("unbound.img", 1));
  await using own = ownDevices(1);
  const [number] = own.numbers;
  // Nor can the device be taken away that was made for it.
  const configuring: Fault = { call: /LOOP_CONFIGURE/, how: from("EINVAL") };
  const made = `{
      using control = open("/dev/loop-control", O_RDWR);
      await loopCtlRemove(control, ${number}).catch(() => {});
    }
    return await attach(${image}, { number: ${number} });`;
  const said = saidWith(configuring, made);
  assert(said.startsWith(`EINVAL: invalid argument, LOOP_CONFIGURE '/dev/loop${number}'`), said);
  // Nobody can say either whether the device is still there.
  const looking: Fault = { call: /^statx\(.*"\/sys\/block\/loop\d+"/, how: twice("EIO") };
  assertMatch(
    saidWith(looking, `return await attach(${image});`),
    /^EIO: input\/output error, statx '\/sys\/block\/loop\d+'$/,
  );
});

test("attach() and rescan() tell which partition was refused, whatever then fails", [
  "root",
  "strace",
], () => {
  const parts = makeImage("parts.img", 8, THREE_PARTITIONS);
  const image = JSON.stringify(parts);
  const attaching = `return (await attach(${image}, { partscan: true })).partitions.length;`;
  const adding = /BLKPG_ADD_PARTITION/;
  // Nor does the device tell the size of its sectors.
  assertMatch(
    saidWith({ call: adding, how: from("EINVAL") }, attaching),
    /^EINVAL: invalid argument, BLKPG_ADD_PARTITION '\/dev\/loop\d+'$/,
  );
  // Another program's scan can be in the way for a moment: attach() looks again, wherever the others are.
  writeTable(parts, "label: gpt\n1: start=8192, size=2048\n2: start=2048, size=2048\n");
  const passing: Fault = { call: /BLKPG_ADD_PARTITION.*pno=2/, how: once("EBUSY") };
  assertEquals(saidWith(passing, attaching), "2");
  const unseen: Fault = { ...passing, then: ["getdents64", once("ENOMEM")] };
  assertMatch(saidWith(unseen, attaching), /^EBUSY: .*, BLKPG_ADD_PARTITION '\/dev\/loop\d+'/);
  const flushing: Fault = {
    call: /BLKFLSBUF/,
    how: once("EIO"),
    then: ["getdents64", once("ENOMEM")],
  };
  const rescanning = `await using loop = await attach(${image}, { partscan: true });
    return await loop.rescan();`;
  assertMatch(saidWith(flushing, rescanning), /^EIO: input\/output error, BLKFLSBUF '/);
});

test("detach() tells why the kernel keeps a device, and what is lost besides", [
  "root",
  "strace",
], async () => {
  await using loop = await attach(makeImage("kept.img", 1));
  const refused = { call: /LOOP_CLR_FD/, how: once("EPERM") };
  const detaching = `const loop = await openLoop(${JSON.stringify(loop.path)});
    return await loop.detach({ timeout: 0 });`;
  const why = `EPERM: operation not permitted, LOOP_CLR_FD '${loop.path}'`;
  // Where nobody can say what has become of it.
  assertEquals(saidWith({ ...refused, then: ["statx", once("EIO")] }, detaching), why);
  const losing: Fault = { call: /^fsync/, how: once("EIO"), then: ["ioctl", once("EPERM")] };
  const lost = saidWith(losing, detaching);
  assertMatch(lost, /^EIO: .*fsync '.*kept\.img, and it is lost/);
  assert(lost.includes(`(${why})`), lost);
});

test("a device that is detached between the look and its opening is nobody's", [
  "root",
  "strace",
], async () => {
  const file = makeImage("between.img", 1);
  await using own = ownDevices(1);
  await using loop = await attach(file, { number: own.numbers[0] });
  // Each looks at the device, and then opens it. attach() looks again.
  const { stdout } = traced(
    `import { detach } from ${JSON.stringify(MOD)};
     const file = ${JSON.stringify(file)};
     {
       await using loop = await attach(file, { overlap: "reuse" });
       console.log(loop.path);
     }
     console.log(await detach(file).catch(({ code, message }) => code + message));`,
    { calls: "openat", inject: "openat:error=ENXIO:when=2+4", on: loop.path },
  );
  const [reused, detached] = stdout.trim().split("\n");
  assertEquals(reused, loop.path);
  assertMatch(detached, /^ENXIO.*it is not attached to any loop device/);
  assertEquals(await loop.detach(PATIENTLY), "detached");
});
