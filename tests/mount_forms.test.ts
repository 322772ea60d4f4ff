/** The three forms of a mount: no tool is led out of it, and no end of a process leaves it behind. */
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { type ChildProcess, spawn } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { attach, type LoopDevice, LoopError, type LoopMount, type MountOptions } from "../mod.ts";
import { kernelRelease } from "../lib/kernel/release.ts";
import { KEEPER_SCRIPT } from "../lib/mount/keeper_script.ts";
import { e2fsck, ext4Image, ext4Partitions, mountsAt, mountsOf } from "./support/mount_image.ts";
import {
  assertDetached,
  isolated,
  losetup,
  makeImage,
  onThisRuntime,
  output,
  ROOT,
  run,
  scratch,
  test,
  testsOf,
  until,
} from "./support/support.ts";
import { killAll, namespaceOf, unlessGone } from "./support/keepers.ts";

const withExt4 = testsOf("forms of a mount", ["root", "mkfs.ext4", "umount"]);
const [major, minor] = kernelRelease().split(".").map(Number);
const hasUniqueNumbers = major > 6 || major === 6 && minor >= 8;
const takesDetached = major > 6 || major === 6 && minor >= 15;

/** What the tools saw through the path of a mount of that form. */
// deno-lint-ignore no-explicit-any
function toolsOn(form: string): Record<string, any> {
  const image = ext4Image("tools.img");
  output(["debugfs", "-w", "-R", `write ${output(["which", "busybox"]).trim()} busybox`, image]);
  output(["debugfs", "-w", "-R", "sif busybox mode 0100755", image]);
  const script = join(ROOT, "tests/support/mount_tools.ts");
  const { stdout, stderr } = run(
    [...isolated("tmpfs=/run", "read-only=/"), ...onThisRuntime(script, image, form)],
  );
  assert(stdout.startsWith("{"), stderr);
  return JSON.parse(stdout);
}

const TOOLS = ["busybox", "rsync", "bwrap", "mount"] as const;
const said = (stdout: string) => ({ status: 0, stdout, stderr: "" });

for (const form of ["directory", "at"]) {
  withExt4(`a mount's path is a directory for every tool: ${form}`, [...TOOLS], () => {
    const results = toolsOn(form);
    const { path } = results;
    if (form === "directory") assertMatch(path, /^\/run\/loopdev\/\d+-\d+-\w{10}\/loop\d+-\d{6}$/);
    for (const name of ["realpath", "readlink -f"]) assertEquals(results[name], said(path), name);
    for (const name of ["find", "tar"]) assertEquals(results[name], said("1"), name);
    const reads = ["cp", "cp -r", "cd", "cd and realpath", "mount --bind", "chroot", "bwrap"];
    for (const name of reads) assertEquals(results[name], said("the image's"), name);
    assertEquals(results.du, said("some"));
    assertEquals(results["chown -R"], said("1234"));
    assertEquals(results.rsync, said("x"));
    assertEquals(results["mount -t proc"], said("cat"));
    assertEquals(results["mount -o remount,ro"].stdout, "refused");
    for (const name of ["realpathSync", "chdir", "a child's cwd"]) {
      assertEquals(results[name], "the image's\n", name);
    }
    assertEquals(results.cpSync, [true, true]);
    assertEquals([results.unmounted, results.detached, results.left], [
      "unmounted",
      "detached",
      false,
    ]);
    assertEquals(results.after, form === "at" ? 0 : "ENOENT");
  });
}

withExt4("a detached mount's path leads to the image, or is an error", [...TOOLS], () => {
  const results = toolsOn("detached");
  if (!takesDetached) return;
  assertMatch(results.path, /^\/proc\/\d+\/fd\/\d+\/\w{20}\/loop\d+$/);
  for (const name of ["find", "tar"]) assertEquals(results[name], said("1"), name);
  for (const name of ["cp", "cp -r", "cd", "mount --bind", "chroot"]) {
    assertEquals(results[name], said("the image's"), name);
  }
  assertEquals(results["chown -R"], said("1234"));
  for (const name of ["cd and realpath", "bwrap", "rsync"]) {
    const { status, stdout } = results[name];
    assert(status !== 0 || ["the image's", "x"].includes(stdout), name);
  }
  for (const name of ["realpath", "readlink -f"]) assert(results[name].status !== 0, name);
  assertEquals([results.astray, results.realpathSync], [undefined, "ENOENT"]);
  assertEquals([results["two up"], results.after, results.left], [false, "ENOENT", false]);
  assertEquals([results.unmounted, results.detached], ["unmounted", "detached"]);
});

withExt4(
  "detached: true is refused where the kernel cannot, and names the default",
  [],
  async () => {
    await using loop = await attach(ext4Image("old.img"));
    if (takesDetached) {
      await using root = await loop.mount(undefined, { detached: true });
      writeFileSync(`${root.path}/hello`, "world");
      assertEquals(mountsOf(loop.path), []);
      return;
    }
    const refused = () => loop.mount(undefined, { detached: true });
    await assertRejects(refused, LoopError, "leave it out, and the mount lies on a directory");
  },
);

withExt4("a path is never used again", [], async () => {
  const file = await ext4Partitions("ten.img", 10);
  await using loop = await attach(file, { partscan: true });
  const forms: MountOptions[] = takesDetached ? [{}, { detached: true }] : [{}];
  for (const form of forms) {
    const paths = new Set<string>();
    for (const { number } of loop.partitions) {
      const root = await loop.mount(number, form);
      for (const old of paths) assert(!existsSync(old) && !existsSync(`${old}/.`), old);
      writeFileSync(`${root.path}/number`, String(number));
      paths.add(root.path);
      await root.unmount();
    }
    assertEquals(paths.size, 10);
  }
});

const HOSTILE_LINKS: Record<string, string> = {
  "absolute": "/abs/victim",
  "relative": "../../../../../../../abs/victim",
  "chain": "absolute",
  "folder": "/abs",
  "loop": "loop",
};

withExt4("resolve() follows the image's links inside the image", [], async () => {
  const forms: MountOptions[] = takesDetached ? [{}, { detached: true }] : [{}];
  await using loop = await attach(ext4Image("links.img"));
  for (const form of forms) {
    await using root = await loop.mount(undefined, form);
    const { path } = root;
    rmSync(`${path}/etc`, { recursive: true, force: true });
    rmSync(`${path}/abs`, { recursive: true, force: true });
    mkdirSync(`${path}/etc`);
    mkdirSync(`${path}/abs`);
    writeFileSync(`${path}/abs/victim`, "the image's");
    for (const [name, to] of Object.entries(HOSTILE_LINKS)) symlinkSync(to, `${path}/etc/${name}`);
    symlinkSync("../run/resolve/stub.conf", `${path}/etc/resolv.conf`);
    const expected: [name: string, below: string][] = [
      ["etc/absolute", "abs/victim"],
      ["/etc/relative", "abs/victim"],
      ["etc/chain", "abs/victim"],
      ["etc/folder/victim", "abs/victim"],
      ["etc/folder/new", "abs/new"],
      ["etc/folder/../etc/./new", "etc/new"],
      ["../../etc/new/../other", "etc/other"],
      ["etc/resolv.conf", "run/resolve/stub.conf"],
      ["not/there/yet", "not/there/yet"],
    ];
    for (const [name, below] of expected) {
      assertEquals(await root.resolve(name), `${path}/${below}`, name);
    }
    for (const name of ["", "/", ".", "etc/..", "../.."]) {
      assertEquals(await root.resolve(name), path, name);
    }
    assertEquals(readFileSync(await root.resolve("etc/relative"), "utf8"), "the image's");
    const refused: [name: string, code: string][] = [
      ["etc/loop", "ELOOP"],
      ["abs/victim/x", "ENOTDIR"],
      ["x".repeat(300), "ENAMETOOLONG"],
    ];
    for (const [name, code] of refused) {
      const error = await assertRejects(() => root.resolve(name), LoopError);
      assertEquals(error.code, code);
    }
    await assertRejects(() => root.resolve("a\0b"), TypeError, "contains a NUL");
    await root.unmount();
    const error = await assertRejects(() => root.resolve("etc"), LoopError);
    assertEquals(error.code, "EBADF");
  }
});

// Alone: a namespace that another suite makes meanwhile keeps a copy of a mount on a directory that stays.
withExt4("at: a link, a relative name, and a directory that is renamed", ["quiet"], async () => {
  await using loop = await attach(ext4Image("at.img"));
  const folder = scratch("folder");
  mkdirSync(join(folder, "real"), { recursive: true });
  symlinkSync("real", join(folder, "link"));
  {
    await using root = await loop.mount(undefined, { at: join(folder, "link") });
    assertEquals(root.path, join(folder, "real"));
  }
  const back = process.cwd();
  process.chdir(folder);
  try {
    const mounting = loop.mount(undefined, { at: "real" });
    process.chdir(back);
    await using root = await mounting;
    assertEquals(root.path, join(folder, "real"));
  } finally {
    process.chdir(back);
  }
  const root = await loop.mount(undefined, { at: join(folder, "real") });
  const renamed = scratch("renamed");
  renameSync(folder, renamed);
  mkdirSync(join(folder, "real"), { recursive: true });
  writeFileSync(join(renamed, "real/x"), "x");
  assertEquals([await root.unmount(), mountsOf(loop.path)], ["unmounted", []]);
  assert(!existsSync(join(renamed, "real/x")));
});

/** Another file system on a directory, by mount(8), until it is disposed of. */
function strangersMount(on: string): Disposable {
  output(["mount", "-t", "tmpfs", "stranger", on]);
  writeFileSync(join(on, "strangers"), "mine");
  return {
    [Symbol.dispose]() {
      output(["umount", on]);
    },
  };
}

// Alone: a namespace that another suite makes meanwhile keeps a copy of a mount on a directory that stays.
withExt4(
  "unmount() takes nothing of others away: over it, and below it",
  ["quiet", "mount"],
  async () => {
    await using loop = await attach(ext4Image("strangers.img"));
    const at = scratch("at");
    mkdirSync(at);
    for (const form of [{}, { at }]) {
      const root = await loop.mount(undefined, form);
      mkdirSync(`${root.path}/below`, { recursive: true });
      for (const on of [root.path, `${root.path}/below`]) {
        using _stranger = strangersMount(on);
        const error = await assertRejects(
          () => root.unmount(),
          LoopError,
          `another mount lies on ${on}`,
        );
        assertEquals([error.code, readFileSync(join(on, "strangers"), "utf8")], ["EBUSY", "mine"]);
        // The device's end tells it as well, and takes nothing away either.
        assertEquals(mountsOf(loop.path).length, 1);
      }
      assertEquals([await root.unmount(), mountsOf(loop.path)], ["unmounted", []]);
    }
  },
);

// Alone: a namespace that another suite makes meanwhile keeps a copy of a mount on a directory that stays.
withExt4("a stranger's mount on a directory above hides ours and stays", [
  "quiet",
  "mount",
], async () => {
  await using loop = await attach(ext4Image("hidden.img"));
  const outer = scratch("outer");
  mkdirSync(join(outer, "at"), { recursive: true });
  const root = await loop.mount(undefined, { at: join(outer, "at") });
  using _stranger = strangersMount(outer);
  assertEquals(await root.unmount(), "unmounted");
  assertEquals(readFileSync(join(outer, "strangers"), "utf8"), "mine");
});

withExt4(
  "unmount() says that a mount came over it, and how the mount ends",
  ["mount"],
  async () => {
    await using loop = await attach(ext4Image("over.img"));
    const root = await loop.mount();
    // It looks for other mounts before it waits for anything.
    const refused = assertRejects(() => root.unmount(), LoopError);
    strangersMount(root.path);
    const { code, message } = await refused;
    assertEquals([code, mountsAt(root.path).length, mountsOf(loop.path).length], ["EBUSY", 1, 1]);
    const [, remedy] =
      /at this very moment.*; .*still be mounted there: (umount \S+) /.exec(message) ?? [];
    assert(remedy, message);
    output(["sh", "-c", remedy]);
    assertEquals(mountsOf(loop.path), []);
  },
);

withExt4("unmount() ends what others have moved or unmounted, and takes nothing of theirs", [
  "mount",
], () => {
  const child = scratch("child.ts");
  writeFileSync(
    child,
    `import { attach } from ${JSON.stringify(new URL("../mod.ts", import.meta.url).href)};
     import { spawnSync } from "node:child_process";
     import { existsSync, mkdirSync, readFileSync } from "node:fs";
     const sh = (script) => spawnSync("sh", ["-ec", script], { stdio: "inherit" });
     await using loop = await attach(${JSON.stringify(ext4Image("moved.img"))});
     mkdirSync("/run/elsewhere");
     for (const options of [{}, { owner: 1234 }]) {
       for (const end of ["mount --move $path /run/elsewhere", "umount -l $path"]) {
         const root = await loop.mount(undefined, options);
         sh("path=" + root.path + "; " + end + "; mount -t tmpfs stranger $path; touch $path/theirs");
         const ended = await root.unmount();
         const isMounted = readFileSync("/proc/self/mountinfo", "utf8").includes(loop.path + " ");
         console.log(ended, isMounted, existsSync(root.path + "/theirs"));
         sh("umount " + root.path);
       }
     }`,
  );
  // The records stay for the keeper, which takes the directories away when the process has ended.
  const gone =
    '"$@" && while [ "$(find /run/loopdev /run/loopdev-owned | wc -l)" -gt 2 ]; do :; done';
  const { stdout, stderr } = run([
    ...isolated("tmpfs=/run"),
    ...["sh", "-c", gone, "sh"],
    ...onThisRuntime(child),
  ]);
  assertEquals(stdout, "unmounted false true\n".repeat(4), stderr);
});

// Alone: a namespace that another suite makes meanwhile keeps a copy of a mount on a directory that stays.
withExt4("one mount below another: the inner one first", ["quiet"], async () => {
  const file = await ext4Partitions("nested.img", 2);
  await using loop = await attach(file, { partscan: true });
  {
    const root = await loop.mount(1);
    mkdirSync(`${root.path}/boot/efi`, { recursive: true });
    const efi = await loop.mount(2, { at: `${root.path}/boot/efi` });
    writeFileSync(`${root.path}/boot/efi/loader`, "x");
    assertEquals(readFileSync(`${efi.path}/loader`, "utf8"), "x");
    assertEquals(await efi.unmount(), "unmounted");
    assert(!existsSync(`${root.path}/boot/efi/loader`));
    assertEquals((await loop.holders()).filter(({ kind }) => kind === "mount").length, 1);
    assertEquals(await root.unmount(), "unmounted");
  }
  const root = await loop.mount(1);
  const efi = await loop.mount(2, { at: `${root.path}/boot/efi` });
  assertEquals([await root.unmount(), await efi.unmount()], ["unmounted", "unmounted"]);
  assertEquals([mountsOf(`${loop.path}p1`), mountsOf(`${loop.path}p2`)], [[], []]);
  if (!takesDetached) return;
  await using detached = await loop.mount(1, { detached: true });
  const at = `${detached.path}/boot/efi`;
  await assertRejects(() => loop.mount(2, { at }), LoopError, "without detached");
});

withExt4("a namespace that was made meanwhile does not keep a mount", ["unshare"], async () => {
  await using loop = await attach(ext4Image("namespace.img"));
  const root = await loop.mount();
  const child = spawn("unshare", ["-m", "--propagation", "private", "sh", "-c", "echo; read _"]);
  const end = new Promise((resolve) => child.on("exit", resolve));
  await new Promise((resolve) => child.stdout.once("data", resolve));
  assertEquals(mountsOf(loop.path, child.pid).length, 1);
  assertEquals([await root.unmount(), mountsOf(loop.path, child.pid)], ["unmounted", []]);
  child.stdin.end("\n");
  await end;
});

/** A process that has mounted an image in a form, and its keeper. */
interface Mounter {
  child: ChildProcess;
  exit: Promise<unknown>;
  loop: string;
  path: string;
  owner: string;
  keeper: number;
}

const script = join(ROOT, "tests/support/form_mounter.ts");

/** The process whose working directory is an owner's: its keeper. */
const keeperOf = (owner: string): number | undefined =>
  readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map(Number).find((pid) => {
    try {
      const args = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
      return args[0] === "sh" && args.includes(owner);
    } catch {
      return false;
    }
  });

async function startMounter(image: string, form: string, at: string, end = ""): Promise<Mounter> {
  const [command, ...args] = onThisRuntime(script, image, form, at, end);
  const child = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] });
  const exit = new Promise((resolve) => child.on("exit", resolve));
  let text = "";
  for await (const data of child.stdout!) {
    text += data;
    if (text.includes("\n")) break;
  }
  const { loop, path, owner } = JSON.parse(text);
  const keeper = keeperOf(owner);
  if (keeper === undefined) throw new Error("no keeper");
  return { child, exit, loop, path, owner, keeper };
}

async function nothingLeft(image: string, { owner, path }: Mounter, at: string) {
  await until(() => mountsAt(path).length === 0, "the mount to go");
  await until(() => losetup(image).length === 0, "the device to be detached");
  await until(() => !existsSync(owner), "the owner's directory to go");
  assertEquals([existsSync(path) && path !== at, existsSync(at)], [false, true]);
  assertEquals(e2fsck(image), "clean");
}

const ENDS = ["SIGKILL", "SIGTERM", "SIGINT", "exit", "throw", "end"];

for (const form of ["directory", "at"]) {
  withExt4(`whatever ends the process ends its mount: ${form}`, [], async () => {
    const image = ext4Image("ends.img");
    const at = scratch("a directory (of ours) with\na newline and a \\");
    mkdirSync(at, { recursive: true });
    for (const end of ENDS) {
      const mounter = await startMounter(image, form, at, end);
      if (end.startsWith("SIG")) mounter.child.kill(end as NodeJS.Signals);
      else mounter.child.stdin!.end("\n");
      await mounter.exit;
      await nothingLeft(image, mounter, at);
    }
  });
}

withExt4(
  "a keeper that was killed is replaced, and the next mount cleans up after two deaths",
  ["quiet"],
  async () => {
    const image = ext4Image("keeper.img");
    const at = scratch("at");
    mkdirSync(at);
    for (const form of ["directory", "at"]) {
      const first = await startMounter(image, form, at);
      killAll([first.keeper]);
      // It mounts once more, which starts another keeper.
      first.child.stdin!.write("again\n");
      await until(() => {
        const keeper = keeperOf(first.owner);
        return keeper !== undefined && keeper !== first.keeper;
      }, "another keeper");
      first.child.kill("SIGKILL");
      await first.exit;
      await nothingLeft(image, first, at);

      const second = await startMounter(image, form, at);
      killAll([second.keeper]);
      second.child.kill("SIGKILL");
      await second.exit;
      assertEquals(mountsAt(second.path).length, 1);
      await using other = await attach(ext4Image("other.img"));
      const mounting = other.mount();
      const isMounted = () => mountsAt(second.path).length > 0;
      while (isMounted() && keeperOf(second.owner) === undefined) {
        await new Promise((resolve) => setImmediate(resolve));
      }
      // From there on the keeper is alone: this process's event loop stands still.
      for (const end = Date.now() + 30_000; isMounted();) assert(Date.now() < end, "still there");
      await using _root = await mounting;
      await nothingLeft(image, second, at);
    }
  },
);

withExt4("a keeper that could not be started is started by the next mount", ["mount"], () => {
  const child = scratch("child.ts");
  writeFileSync(
    child,
    `import { attach } from ${JSON.stringify(new URL("../mod.ts", import.meta.url).href)};
     import { spawnSync } from "node:child_process";
     import process from "node:process";
     import { keepersOf, killAll } from ${JSON.stringify(join(ROOT, "tests/support/keepers.ts"))};
     const [umount, hider] = process.argv.slice(2);
     await using loop = await attach(${JSON.stringify(ext4Image("restarted.img"))});
     await (await loop.mount()).unmount();
     killAll(keepersOf(process.pid));
     spawnSync("mount", ["--bind", "/dev/null", umount]);
     const refused = await loop.mount().catch(({ code }) => code);
     spawnSync(hider, ["-l", umount]);
     await using root = await loop.mount();
     console.log(refused, keepersOf(process.pid).length);`,
  );
  const umount = output(["realpath", output(["which", "umount"]).trim()]).trim();
  // By another name: this one is hidden meanwhile.
  const hider = scratch("umount");
  copyFileSync(umount, hider);
  output(["chmod", "755", hider]);
  const { stdout, stderr } = run([
    ...isolated("tmpfs=/run"),
    ...onThisRuntime(child, umount, hider),
  ]);
  assertEquals(stdout, "ENOENT 1\n", stderr);
});

withExt4("a process mounts on where its directory was removed", ["mount"], () => {
  const child = scratch("child.ts");
  writeFileSync(
    child,
    `import { attach } from ${JSON.stringify(new URL("../mod.ts", import.meta.url).href)};
     import { rmSync } from "node:fs";
     import process from "node:process";
     import { ownersOf } from ${JSON.stringify(join(ROOT, "tests/support/keepers.ts"))};
     await using loop = await attach(${JSON.stringify(ext4Image("cleared.img"))});
     for (const cleared of [() => "/run/loopdev", () => ownersOf(process.pid)[0]]) {
       await (await loop.mount()).unmount();
       rmSync(cleared(), { recursive: true });
     }
     await using root = await loop.mount();
     console.log(root.path.startsWith(ownersOf(process.pid)[0]));`,
  );
  const { stdout, stderr } = run([...isolated("tmpfs=/run"), ...onThisRuntime(child)]);
  assertEquals(stdout, "true\n", stderr);
});

withExt4("the keeper takes nothing of others away", ["quiet", "mount"], async () => {
  const image = ext4Image("kept.img");
  const at = scratch("at");
  mkdirSync(at);
  const mounter = await startMounter(image, "at", at);
  {
    using _stranger = strangersMount(at);
    mounter.child.kill("SIGKILL");
    await mounter.exit;
    await until(() => keeperOf(mounter.owner) === undefined, "the keeper to end");
    assertEquals(readFileSync(join(at, "strangers"), "utf8"), "mine");
    assertEquals(mountsAt(at).length, 2);
  }
  await using other = await attach(ext4Image("other.img"));
  await using _root = await other.mount();
  await nothingLeft(image, mounter, at);
});

/** Runs a script that prints what it has mounted, and kills it; what it printed. */
async function killedAfter(body: string): Promise<Record<"path" | "source" | "owner", string>> {
  const script = scratch("killed.ts");
  const mod = JSON.stringify(new URL("../mod.ts", import.meta.url).href);
  writeFileSync(
    script,
    `import { execFileSync } from "node:child_process";
     import { readFileSync } from "node:fs";
     import process from "node:process";
     import { attach } from ${mod};
     import { ownersOf } from ${JSON.stringify(join(ROOT, "tests/support/keepers.ts"))};
     const run = (name, ...args) => execFileSync(name, args);
     ${body}
     const own = readFileSync("/proc/self/mountinfo", "utf8").split("\\n")
       .find((line) => line.split(" ")[4] === root.path);
     const [, source] = own.split(" - ")[1].split(" ");
     const [owner] = ownersOf(process.pid);
     console.log(JSON.stringify({ path: root.path, source, owner }));
     setInterval(() => {}, 1000);`,
  );
  const [command, ...args] = onThisRuntime(script);
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "inherit"] });
  const exit = new Promise((resolve) => child.on("exit", resolve));
  let text = "";
  for await (const data of child.stdout!) {
    text += data;
    if (text.includes("\n")) break;
  }
  child.kill("SIGKILL");
  await exit;
  return JSON.parse(text);
}

withExt4("the keeper ends a btrfs of two devices, also where the list names the other one", [
  "mkfs.btrfs",
], async () => {
  const images = ["one.img", "two.img"].map((name) => makeImage(name, 128));
  const { path, source } = await killedAfter(
    `const loops = [];
     for (const image of ${JSON.stringify(images)}) loops.push(await attach(image));
     const paths = loops.map(({ path }) => path);
     run("mkfs.btrfs", "-q", "-f", "-d", "single", ...paths);
     run("btrfs", "device", "scan", ...paths);
     const root = await loops[1].mount();`,
  );
  try {
    await until(() => mountsAt(path).length === 0, `the mount to go, whose source is ${source}`);
  } finally {
    run(["umount", path]);
  }
  for (const image of images) assertDetached(image);
});

withExt4("the keeper ends an XFS that has shut down, of which nothing can be opened", [
  "mkfs.xfs",
  "xfs_io",
  "mount",
], async () => {
  const [image, other] = ["shut.img", "other.img"].map((name) => makeImage(name, 320));
  for (const each of [image, other]) output(["mkfs.xfs", "-q", each]);
  const body = `
    const loop = await attach(${JSON.stringify(image)});
    const root = await loop.mount();
    run("xfs_io", "-x", "-c", "shutdown", root.path);`;
  const { path } = await killedAfter(body);
  try {
    await until(() => mountsAt(path).length === 0, "the mount to go");
  } finally {
    run(["umount", path]);
  }
  assertDetached(image);
  // On the way to it lies another one, of which nothing can be opened either: then both stay.
  const over = scratch("over");
  const at = join(over, "at");
  mkdirSync(at, { recursive: true });
  const cover = [
    ["mount", "-t", "tmpfs", "theirs", over],
    ["mkdir", at],
    ["mount", "-o", "loop", other, at],
    ["xfs_io", "-x", "-c", "shutdown", at],
  ];
  const { owner } = await killedAfter(
    `${body.replace("mount()", `mount(undefined, { at: ${JSON.stringify(at)} })`)}
     for (const words of ${JSON.stringify(cover)}) run(...words);`,
  );
  try {
    await until(() => keeperOf(owner) === undefined, "the keeper to end");
    assertEquals([mountsAt(over).length, mountsAt(at).length], [1, 2]);
  } finally {
    for (const each of [at, over, at]) run(["umount", each]);
  }
  for (const each of [image, other]) assertDetached(each);
});

/** What {@linkcode KEEPER_SCRIPT}'s function says of sources and devices, where these are all the btrfs. */
test("the keeper knows a btrfs by each name of each of its devices", ["root"], () => {
  const begin = KEEPER_SCRIPT.indexOf("shows() {");
  const script = KEEPER_SCRIPT.slice(begin, KEEPER_SCRIPT.indexOf("\n}\n", begin) + 3);
  const { stdout, stderr } = run([
    ...isolated("tmpfs=/sys/fs", "tmpfs=/run"),
    ...["sh", "-ec"],
    `${script}
     mkdir -p /sys/fs/btrfs/a/devices/dm-0/dm /sys/fs/btrfs/a/devices/loop5 /sys/fs/btrfs/b/devices/loop6
     echo secret >/sys/fs/btrfs/a/devices/dm-0/dm/name
     ln -s /dev/null /run/alias
     mkdir -p /sys/fs/btrfs/c/devices/null
     ask() { shows "$@" && echo yes || echo no; }
     ask /dev/loop4 loop4; ask /dev/loop4 loop5; ask /dev/mapper/secret loop5; ask /dev/dm-0 loop5
     ask /dev/loop5 dm-0; ask /dev/loop6 loop5; ask /dev/mapper/secret loop6; ask /dev/mapper/ loop6
     ask /run/alias null; ask none loop6`,
  ]);
  const answers = "yes no yes yes yes no no no yes no";
  assertEquals(stdout.trim().replaceAll("\n", " "), answers, stderr);
});

/** What a mount() leaves of dead owners, as {@linkcode deadOwner} in a /run of its own plants them. */
const AMONG_DEAD_OWNERS = `
  import { attach } from ${JSON.stringify(new URL("../mod.ts", import.meta.url).href)};
  import { spawn, spawnSync } from "node:child_process";
  import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
  import process from "node:process";
  import { deadOwner, namespaceOf } from ${JSON.stringify(join(ROOT, "tests/support/keepers.ts"))};
  const plant = (namespace, folder, record) => {
    const path = deadOwner(namespace);
    mkdirSync(path + "/" + (folder ?? ""), { recursive: true, mode: 0o700 });
    if (record) writeFileSync(path + "/" + record, "");
    return path;
  };
  const RECORD = ".000001.1.directory.loop4";
  mkdirSync("/run/loopdev", { mode: 0o700 });
  const stranger = spawn("unshare", ["-m", "sh", "-c", "read path; mount -t tmpfs mine $path; echo; cat"]);
  while (namespaceOf(stranger.pid) === namespaceOf()) await new Promise((r) => setImmediate(r));
  const own = namespaceOf();
  const gone = [
    plant(own), plant(own, "loop4-000001"), plant(own, "", RECORD), plant(own, "loop4-000001", RECORD),
  ];
  const used = plant(own, "loop4-000001");
  const names = ["/run/loopdev/theirs", deadOwner(own)];
  mkdirSync(names[0]);
  writeFileSync(names[1], "");
  spawnSync("mount", ["-t", "tmpfs", "mine", used + "/loop4-000001"]);
  const users = [
    plant(namespaceOf(stranger.pid), "loop4-000001", RECORD), used, plant(own, "theirs"), ...names,
  ];
  await using loop = await attach(process.argv[2]);
  // The kernel has given a stranger's mount the number of one that has ended, or its namespace with it.
  mkdirSync("/run/theirs");
  spawnSync("mount", [loop.path, "/run/theirs"]);
  const ofTheirs = () => readFileSync("/proc/self/mountinfo", "utf8").split("\\n")
    .find((line) => line.includes(" /run/theirs "))?.split(" ")[0];
  const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").slice(0, 8);
  const record = (unique) =>
    ".000001." + ofTheirs() + ".at-" + boot + unique + "." + loop.path.slice(5);
  const ended = plant(1, "", record(""));
  if (${hasUniqueNumbers}) gone.push(plant(own, "", record("-" + 2 ** 40)));
  // A process that has ended, and whose parent does not ask.
  const zombies = spawn("sh", ["-c", "true & echo; exec cat"]);
  await new Promise((resolve) => zombies.stdout.once("data", resolve));
  const mayGo = process.argv[3] === "0" ? [ended] : [];
  const theirs = users[0] + "/loop4-000001";
  stranger.stdin.write(theirs + "\\n");
  await new Promise((resolve) => stranger.stdout.once("data", resolve));
  await using root = await loop.mount();
  for (const end = Date.now() + 30_000; [...gone, ...mayGo].some(existsSync) && Date.now() < end;) {
    await new Promise((resolve) => setImmediate(resolve));
  }
  // What a keeper has not taken away when it lets its locks go, it leaves. This process has them, too, until
  // the event loop turns.
  const isLocked = (path) => spawnSync("flock", ["--nonblock", path, "true"]).status !== 0;
  while (users.some(isLocked)) await new Promise((resolve) => setTimeout(resolve, 5));
  const mounts = readFileSync("/proc/" + stranger.pid + "/mountinfo", "utf8");
  stranger.stdin.end();
  zombies.stdin.end();
  const left = [gone, users, [ended]].map((paths) => paths.filter(existsSync).length);
  console.log(JSON.stringify([left, mounts.includes(theirs), ofTheirs() !== undefined]));
  spawnSync("umount", ["/run/theirs"]);`;

withExt4(
  "mount() removes what dead owners left, but not what others use, in whatever mount namespace",
  ["flock", "mount", "unshare"],
  () => {
    const child = scratch("child.ts");
    writeFileSync(child, AMONG_DEAD_OWNERS);
    // Whether a namespace has ended is known only to who sees each process, which root of a container does not.
    const isSeen = (pid: string) =>
      pid === "1" || unlessGone(() => namespaceOf(pid)) !== undefined ||
      !existsSync(`/proc/${pid}/ns`) ||
      / Z /.test(unlessGone(() => readFileSync(`/proc/${pid}/stat`, "utf8")) ?? " Z ");
    const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
    const ended = statSync("/proc/self/ns/pid").ino === 4026531836 && pids.every(isSeen) ? 0 : 1;
    const image = ext4Image("dead.img");
    // A machine that hides its first process alone is as one that hides none.
    const seen = "readlink /proc/1/ns/mnt >/dev/null || mount --bind /proc/$$ /proc/1";
    const container = ["unshare", "--pid", "--fork", "--mount-proc"];
    for (
      const [surroundings, left] of [[["sh", "-c", `${seen}; exec "$@"`, "sh"], ended], [
        [...container, "sh", "-c", '"$@"; exit $?', "sh"],
        1,
      ]] as const
    ) {
      const { stdout, stderr } = run([
        ...isolated("tmpfs=/run"),
        ...surroundings,
        ...onThisRuntime(child, image, String(left)),
      ]);
      assertEquals(JSON.parse(stdout || "null"), [[0, 5, left], true, true], stderr);
    }
  },
);

withExt4("the keeper is nobody's child, and hears no terminal", [], async () => {
  const mounter = await startMounter(ext4Image("orphan.img"), "directory", scratch("unused"));
  const stat = readFileSync(`/proc/${mounter.keeper}/stat`, "utf8");
  const [, parent, , session] = stat.slice(stat.lastIndexOf(")") + 2).split(" ").map(Number);
  assert(parent !== mounter.child.pid, "it is the process's child");
  const own = readFileSync(`/proc/${mounter.child.pid}/stat`, "utf8");
  const [, , , theirs] = own.slice(own.lastIndexOf(")") + 2).split(" ").map(Number);
  assert(session !== theirs, "it is in the process's session");
  const links = readdirSync(`/proc/${mounter.keeper}/fd`).map((fd) =>
    output(["readlink", `/proc/${mounter.keeper}/fd/${fd}`]).trim()
  );
  // Whoever reads our output gets its end when we end.
  for (const link of links) {
    assertMatch(link, /^(\/dev\/null|pipe:\[\d+\]|\/run\/loopdev\/.*|\/memfd:loopdev-keeper.*)$/);
  }
  assertEquals(links.filter((link) => link.startsWith("pipe:")).length, 1, links.join(" "));
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.kill(mounter.keeper, signal);
  }
  assertEquals(mountsOf(mounter.loop).length, 1);
  mounter.child.kill("SIGKILL");
  await mounter.exit;
  await until(() => !existsSync(mounter.owner), "the keeper to clean up in spite of signals");
});

withExt4("without /run, /bin/sh or umount mount() says so and leaves nothing", ["mount"], () => {
  const child = scratch("child.ts");
  writeFileSync(
    child,
    `import { attach } from ${JSON.stringify(new URL("../mod.ts", import.meta.url).href)};
     await using loop = await attach(${JSON.stringify(ext4Image("without.img"))});
     console.log(await loop.mount().then((root) => root.path, ({ message }) => message));`,
  );
  const hide = (path: string) => ["sh", "-c", `mount --bind /dev/null ${path} && exec "$@"`, "sh"];
  const umount = output(["realpath", output(["which", "umount"]).trim()]).trim();
  const after = (script: string) => [
    ...isolated("tmpfs=/run"),
    ...["sh", "-c", `chmod 755 /run && ${script} && exec "$@"`, "sh"],
  ];
  const cases: [surroundings: string[], says: RegExp][] = [
    [isolated("read-only=/"), /EROFS.*\/run\/loopdev.*detached: true/],
    [after("mount -o remount,ro /run"), /^EROFS.*, mkdir '\/run\/loopdev' .*detached: true/],
    [[...isolated("tmpfs=/run"), ...hide(umount)], /umount.*needs umount.*detached: true/],
    [after("mkdir -m 777 /run/loopdev"), /chmod 700/],
    [after("mkdir -m 700 /run/loopdev && chown 1 /run/loopdev"), /chown root \/run\/loopdev/],
  ];
  for (const [surroundings, says] of cases) {
    const { stdout, stderr } = run([...surroundings, ...onThisRuntime(child)]);
    assertMatch(stdout, says, stderr);
  }
});

withExt4(
  "an error that unmount() gave is not given again by the block's end",
  ["mount"],
  async () => {
    await using loop = await attach(ext4Image("told.img"));
    let stranger: Disposable | undefined;
    let told: unknown;
    const block = async (loop: LoopDevice) => {
      await using root: LoopMount = await loop.mount();
      stranger = strangersMount(root.path);
      told = await root.unmount().catch((error) => error);
      return root;
    };
    const root = await block(loop);
    assert(told instanceof LoopError && told.code === "EBUSY");
    stranger![Symbol.dispose]();
    assertEquals(await root.unmount(), "unmounted");
    const again = await loop.mount();
    {
      using _stranger = strangersMount(again.path);
      const ends = [() => again[Symbol.asyncDispose](), () => again.unmount()];
      for (const end of ends) {
        await assertRejects(async () => void await end(), LoopError, "another mount lies on");
      }
    }
    assertEquals(await again.unmount(), "unmounted");
  },
);
