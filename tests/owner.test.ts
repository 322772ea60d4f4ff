/** A user's mount: whose files are in the mount and on the disk, and who gets to it. */
import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { spawn } from "node:child_process";
import { chmodSync, chownSync, existsSync, mkdirSync, statSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { attach, LoopError, type LoopMount, type MountOptions, type RunOptions } from "../mod.ts";
import { idMap, ownerOf } from "../lib/mount/owner.ts";
import { kernelRelease } from "../lib/kernel/release.ts";
import { prepareOwned, SPARE, USER } from "./cases/owned_files.ts";
import { keepersOf, killAll } from "./support/keepers.ts";
import { e2fsck, ext4Image } from "./support/mount_image.ts";
import { busyboxImage } from "./support/run_image.ts";
import {
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

const withExt4 = testsOf("mounts of a user's", [
  ...["root", "mkfs.ext4", "setpriv", "unshare"] as const,
]);

const decode = (bytes: Uint8Array | undefined) => new TextDecoder().decode(bytes);

/** What a shell of a user prints, or why it fails. */
function as(user: number, script: string, cwd?: string): string {
  const ids = ["--reuid", `${user}`, "--regid", `${user}`, "--clear-groups"];
  const command = cwd === undefined ? script : `cd "$0" && ${script}`;
  const { stdout, stderr } = run(["setpriv", ...ids, "sh", "-c", command, cwd ?? "sh"]);
  return (stdout + stderr).trim();
}

/** An image with a file of root's, of another user's, and of the user with the owner's number. */
async function ownedImage(name: string): Promise<string> {
  const file = ext4Image(name);
  await using loop = await attach(file);
  await using root = await loop.mount();
  prepareOwned(root.path);
  return file;
}

/** Owner and group of a file on the disk, as debugfs reads it without a mount. */
function onDisk(file: string, name: string): string {
  const text = output(["debugfs", "-R", `stat /${name}`, file]);
  return /User:\s*(\d+)\s+Group:\s*(\d+)/.exec(text)!.slice(1).join(":");
}

const ownersIn = ({ path }: LoopMount, names: readonly string[]) =>
  names.map((name) => statSync(`${path}/${name}`)).map(({ uid, gid }) => `${uid}:${gid}`);

test("a map of ids gives each id of the disk one place", [], () => {
  for (const id of [0, 1, 1000, USER, SPARE - 1]) {
    const ranges = idMap(id).trim().split("\n").map((line) => line.split(" ").map(Number));
    const inside = (n: number) => {
      const range = ranges.find(([disk, , count]) => disk <= n && n < disk + count);
      return range && range[1] + n - range[0];
    };
    assertEquals(inside(0), id);
    if (id !== 0) assertEquals([inside(id), inside(SPARE)], [SPARE, undefined]);
    for (const other of [2, 33, 999, 1001, 65535, SPARE + 1, 2 ** 32 - 2]) {
      assertEquals(inside(other), other);
    }
    assertEquals(inside(2 ** 32 - 1), undefined);
    // No two ways to one place.
    const ends = ranges.map(([, mount, count]) => [mount, mount + count]).sort(([a], [b]) => a - b);
    assert(ends.every(([, end], i) => i + 1 === ends.length || end <= ends[i + 1][0]), idMap(id));
  }
  assertEquals(ownerOf({ uid: 7, gid: 8 }), { uid: 7, gid: 8 });
  assertEquals(ownerOf(0), undefined);
  assertEquals(ownerOf(987654), { uid: 987654, gid: 987654 });
});

test(
  "without /etc/passwd a group has the user's number, and an old kernel is named",
  ["root"],
  () => {
    const [owner, errors] = ["lib/mount/owner.ts", "lib/base/errors.ts"].map((name) =>
      JSON.stringify(new URL(`../${name}`, import.meta.url).href)
    );
    const child = scratch("child.ts");
    writeFileSync(
      child,
      `import { explainNoOwner, ownerOf } from ${owner};
     import { LoopError } from ${errors};
     const user = ownerOf(4);
     const { message } = explainNoOwner(new LoopError({ code: "EINVAL", path: "/x" }), "xfs", user);
     console.log(user.gid, message);`,
    );
    const surroundings = isolated("tmpfs=/etc", "personality=uname-2.6");
    assertMatch(
      output([...surroundings, ...onThisRuntime(child)]),
      /^4 EINVAL: .*\(owner: xfs takes idmapped mounts from Linux 5\.12 on, and this is 2\.6\.\S+\)\n$/,
    );
  },
);

withExt4("owner: what is root's on the disk is the user's in the mount", ["debugfs"], async () => {
  const file = await ownedImage("owned.img");
  await using loop = await attach(file);
  {
    await using root = await loop.mount(undefined, { owner: USER });
    const own = `${USER}:${USER}`;
    assertEquals(ownersIn(root, [".", "root", "other", "own"]), [
      own,
      own,
      "33:44",
      `${SPARE}:${SPARE}`,
    ]);
    const edit = "mkdir etc && echo by the user >etc/new && echo more >>root && echo done";
    assertEquals(as(USER, edit, root.path), "done");
    // What belongs to others on the disk he cannot change.
    for (const name of ["other", "own"]) {
      assertStringIncludes(as(USER, `echo more >>${name}`, root.path), "Permission denied");
    }
    // Root changes files, gives them away, and makes none.
    writeFileSync(`${root.path}/own`, "by root\n");
    chownSync(`${root.path}/etc/new`, SPARE, 44);
    assertStringIncludes(as(0, "echo x >by-root", root.path), "Value too large");
    // The command of run() is root's on the disk.
    const command = ["sh", "-c", 'echo x >"$LOOPDEV_ROOT/by-run"'];
    assert((await root.run(command, { chroot: false })).success);
    assertEquals(ownersIn(root, ["by-run"]), [own]);
  }
  const names = ["root", "by-run", "etc", "etc/new", "other", "own"];
  const owners = ["0:0", "0:0", "0:0", `${USER}:44`, "33:44", `${USER}:${USER}`];
  assertEquals(names.map((name) => onDisk(file, name)), owners);
  assertEquals([await loop.detach(), e2fsck(file)], ["detached", "clean"]);
});

withExt4("owner: only that user and root enter the mount", [], async () => {
  await using loop = await attach(await ownedImage("entered.img"));
  const root = await loop.mount(undefined, { owner: { uid: 4321, gid: 8765 } });
  assertMatch(root.path, /^\/run\/loopdev-owned\/\d+-\d+-\w{10}-\d{6}\/loop\d+$/);
  const parent = dirname(root.path);
  const { uid, gid, mode } = statSync(parent);
  assertEquals([uid, gid, mode & 0o777], [4321, 8765, 0o500]);
  const all = statSync(dirname(parent));
  assertEquals([all.uid, all.mode & 0o777], [0, 0o711]);
  assertEquals(statSync("/run/loopdev").mode & 0o777, 0o700);
  assertEquals(as(4321, "cat root", root.path), "before");
  assertStringIncludes(as(4322, `cat ${root.path}/root`), "Permission denied");
  assertStringIncludes(as(4322, `ls ${dirname(parent)}`), "Permission denied");
  const mountsThere = (await loop.holders()).filter(({ kind }) => kind === "mount");
  assertEquals(mountsThere.map(({ by }) => by), [root.path]);
  assertEquals(await root.unmount(), "unmounted");
  assertEquals(existsSync(parent), false);
  // On a directory of his it is his to say who enters.
  const at = scratch("at");
  mkdirSync(at);
  chownSync(at, 4321, 4321);
  chmodSync(dirname(at), 0o755);
  await using again = await loop.mount(undefined, { owner: 4321, at });
  assertEquals([again.path, ownersIn(again, ["root"])], [at, ["4321:4321"]]);
  assertEquals(as(4321, "echo his >root && cat root", at), "his");
});

withExt4("owner: a user's directory in which he has left something stays", [], async () => {
  await using loop = await attach(ext4Image("left.img"));
  const root = await loop.mount(undefined, { owner: USER });
  const parent = dirname(root.path);
  assertEquals(as(USER, `chmod 700 ${parent} && mkdir ${parent}/his && echo done`), "done");
  assertEquals(await root.unmount(), "unmounted");
  assertEquals([existsSync(root.path), existsSync(parent)], [false, true]);
  output(["rm", "-r", parent]);
  await using again = await loop.mount(undefined, { owner: USER });
  assert(again.path !== root.path);
});

/** A process that has mounted an image for the user, and frozen it. */
async function frozenMounter(file: string) {
  const [command, ...args] = onThisRuntime(
    `${ROOT}tests/support/mounter.ts`,
    ...[file, "frozen", JSON.stringify({ owner: USER })],
  );
  const child = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] });
  const ended = new Promise((resolve) => child.on("exit", resolve));
  const path = await new Promise<string>((resolve) =>
    child.stdout!.once("data", (data) => resolve(JSON.parse(String(data)).path))
  );
  return { child, ended, path };
}

// Alone: each mount() of a process in this namespace looks for what is left.
withExt4("owner: SIGKILL leaves nothing, with the keeper or without", ["quiet"], async () => {
  const file = ext4Image("killed.img");
  for (const whom of ["the process", "both"]) {
    const { child, ended, path } = await frozenMounter(file);
    const parent = dirname(path);
    assert(existsSync(path) && parent.startsWith("/run/loopdev-owned/"));
    if (whom === "both") killAll(keepersOf(child.pid!));
    child.kill("SIGKILL");
    await ended;
    if (whom === "both") {
      assert(existsSync(path));
      await using loop = await attach(ext4Image("other.img"));
      await using _root = await loop.mount();
      await until(() => !existsSync(parent), "the next mount()'s keeper to take it away");
    }
    await until(() => losetup(file).length === 0 && !existsSync(parent), "all of it to go");
    assertEquals(e2fsck(file), "clean");
  }
});

withExt4("owner: read-only file systems, and an ext2, are a user's, too", [
  "mksquashfs",
  "mkfs.erofs",
  "mkfs.ext2",
], async () => {
  const folder = scratch("tree");
  mkdirSync(folder);
  writeFileSync(`${folder}/file`, "content\n");
  chmodSync(`${folder}/file`, 0o600);
  const makers: Record<string, (image: string) => string[]> = {
    squashfs: (image) => ["mksquashfs", folder, image, "-noappend", "-quiet", "-no-progress"],
    erofs: (image) => ["mkfs.erofs", image, folder],
    ext4: (image) => ["mkfs.ext2", "-q", "-d", folder, image],
  };
  for (const [type, make] of Object.entries(makers)) {
    const image = makeImage(`${type}.img`, 1);
    output(make(image));
    await using loop = await attach(image);
    await using root = await loop.mount(undefined, { owner: USER });
    assertEquals([root.type, as(USER, "cat file", root.path)], [type, "content"]);
  }
});

withExt4(
  "owner: an error names the driver, the kernel, and what helps",
  ["mkfs.ext3"],
  async () => {
    const file = makeImage("refused.img", 8);
    output(["mkfs.ext3", "-q", "-b", "1024", "-J", "size=1", file]);
    await using loop = await attach(file);
    const refusal = async (options: MountOptions) =>
      (await assertRejects(() => loop.mount(undefined, options), LoopError)).message;
    const said = await refusal({ owner: USER, type: "ext3" });
    assertStringIncludes(said, `EINVAL: invalid argument, mount_setattr '${loop.path}'`);
    assertStringIncludes(
      said,
      `the driver of ext3 does not take idmapped mounts in Linux ${kernelRelease()}`,
    );
    assertStringIncludes(said, 'with type: "ext4"');
    for (
      const owner of ["me", -1, 1.5, SPARE, { uid: 1 }, { uid: 1, gid: "x" }, {
        uid: 1,
        gid: 1,
        x: 1,
      }]
    ) {
      const error = await loop.mount(undefined, { owner: owner as number }).catch((error) => error);
      assert(error instanceof TypeError || error instanceof RangeError, `${error}`);
      assertStringIncludes(error.message, "owner");
    }
    const both = { owner: 1, detached: true };
    assertStringIncludes(
      await loop.mount(undefined, both).catch(({ message }) => message),
      "exclude",
    );
    const idmap = { options: ["X-mount.idmap=0:1:1"] };
    assertStringIncludes(
      await loop.mount(undefined, idmap).catch(({ message }) => message),
      "use owner",
    );
    assertEquals((await loop.holders()).filter(({ kind }) => kind === "mount"), []);
  },
);

/** What CAP_SYS_ADMIN is not enough for: to map root's id. */
const MAPPING = "sys_admin,setuid,setgid,setfcap";

withExt4("owner: without what it takes, mount() says so and leaves nothing", ["mount"], () => {
  const child = scratch("child.ts");
  writeFileSync(
    child,
    `import { attach } from ${JSON.stringify(new URL("../mod.ts", import.meta.url).href)};
     import { execFileSync } from "node:child_process";
     import { existsSync, readdirSync } from "node:fs";
     import process from "node:process";
     const sh = (script) => execFileSync("sh", ["-ec", script]);
     const all = "/run/loopdev-owned";
     await using loop = await attach(${JSON.stringify(ext4Image("without.img"))});
     for (const change of process.argv.slice(2)) {
       const [before, after] = change.split(";");
       sh(before);
       const mounting = loop.mount(undefined, { owner: 1000 });
       const said = await mounting.then((root) => root.path, ({ message }) => message);
       console.log(existsSync(all) ? readdirSync(all).length : 0, said);
       sh(after);
     }`,
  );
  const program = (name: string, text: string) => {
    writeFileSync(scratch(name), `#!/bin/sh\n${text}\n`);
    chmodSync(scratch(name), 0o755);
    return scratch(name);
  };
  const failing = program("failing", "echo 'unshare: unshare failed: No space left' >&2; exit 1");
  // Its child has ended when it is asked for.
  const ended = program("ended", "sh -c 'echo $$ >&4'");
  const unshare = output(["realpath", output(["which", "unshare"]).trim()]).trim();
  const as = (by: string) => `mount --bind ${by} ${unshare}; umount ${unshare}`;
  const all = "/run/loopdev-owned";
  const readOnly = `mkdir -p ${all} && mount -t tmpfs -o ro,mode=711 none ${all}; umount ${all}`;
  const cases: [surroundings: string[], changes: string[], says: RegExp][] = [
    [
      [],
      [
        as("/dev/null"),
        as(failing),
        as(ended),
        readOnly,
        `chmod 777 ${all};chmod 711 ${all}`,
        `chown 1 ${all};true`,
      ],
      new RegExp(
        "^0 ENOENT.*unshare \\(util-linux.*\n0 EIO.*No space left.*\n" +
          "0 ENOENT.*, open '/proc/\\d+/uid_map'.*\n0 EROFS.*, mkdir '/run/loopdev-owned/.*\n" +
          "(0 EPERM.*chown root /run/loopdev-owned && chmod 711 /run/loopdev-owned\\)\n){2}$",
      ),
    ],
    [["with=sys_admin"], ["true;true"], /^0 EPERM.*uid_map' \(owner: .* needs CAP_SETUID, CAP_/],
    [[`with=${MAPPING}`], ["true;true"], /^0 EPERM.*, fchown '\/run\/loopdev-owned\/.* CAP_CHOWN,/],
    [[`with=${MAPPING},chown`], ["true;true"], /^0 EPERM.*, fchmod .* CAP_FOWNER and/],
    [[`with=${MAPPING},chown,fowner`], ["true;true"], /^0 EACCES.*, mkdir .* CAP_DAC_OVERRIDE/],
    [[`with=${MAPPING},chown,fowner,dac_override`], ["true;true"], /^1 \/run\/loopdev-owned\//],
  ];
  for (const [surroundings, changes, says] of cases) {
    const { stdout, stderr } = run([
      ...isolated("tmpfs=/run", ...surroundings),
      ...onThisRuntime(child, ...changes),
    ]);
    assertMatch(stdout, says, stderr);
  }
});

withExt4("owner: the keeper finds a mount that the user has moved away", [], async () => {
  const file = ext4Image("moved.img");
  // Only from a namespace in which nothing is mounted there can its directory be renamed.
  const mv = 'cd "$0" && chmod 700 . && mv loop* moved && echo moved';
  const script = 'echo ready; read -r path; exec setpriv "$@" "$path"';
  const user = ["--reuid", `${USER}`, "--regid", `${USER}`, "--clear-groups", "sh", "-c", mv];
  const earlier = spawn("unshare", [
    "-m",
    "--propagation",
    "private",
    "sh",
    "-c",
    script,
    "sh",
    ...user,
  ]);
  const said = () =>
    new Promise<string>((resolve) =>
      earlier.stdout.once("data", (data) => resolve(String(data).trim()))
    );
  assertEquals(await said(), "ready");
  const { child, ended, path } = await frozenMounter(file);
  const moved = said();
  earlier.stdin.end(`${dirname(path)}\n`);
  assertEquals(await moved, "moved");
  assert(existsSync(`${dirname(path)}/moved/lost+found`));
  child.kill("SIGKILL");
  await ended;
  await until(() => losetup(file).length === 0, "the keeper to unmount it");
  assertEquals(e2fsck(file), "clean");
  output(["rm", "-r", dirname(path)]);
});

test("run() with owner runs as the user, and what he makes is root's on the disk", [
  ...["root", "mkfs.ext4", "busybox", "unshare", "mount", "debugfs"] as const,
], async () => {
  const file = busyboxImage("as-user.img");
  const owner = { uid: USER, gid: USER };
  {
    await using loop = await attach(file);
    await using root = await loop.mount();
    const printed = async (script: string, options: RunOptions) => {
      const command = ["sh", "-c", script];
      const { stdout, stderr } = await root.run(command, {
        ...{ stdout: "piped", stderr: "piped", owner },
        ...options,
      });
      return decode(stdout) + decode(stderr);
    };
    const who =
      "id -u; id -G; stat -c %u:%g . ; echo x >etc/inside; kill -0 1 2>/dev/null || echo no";
    const said = `${USER}\n${USER}\n${USER}:${USER}\nno\n`;
    assertEquals(await printed(who, {}), said);
    const outside = 'cd "$LOOPDEV_ROOT" && id -u && mkdir etc/folder && echo y >etc/folder/outside';
    assertEquals(await printed(outside, { chroot: false }), `${USER}\n`);
    assertEquals(await printed("echo $LOGNAME", { chroot: false, owner: 1 }), "daemon\n");
    assertEquals(await printed("id -u", { owner: 0 }), "0\n");
    assertEquals(statSync(`${root.path}/etc/inside`).uid, 0);
    await assertRejects(() => root.run("id", { owner: -1 }), RangeError, "owner");
  }
  for (const name of ["etc/inside", "etc/folder", "etc/folder/outside"]) {
    assertEquals(onDisk(file, name), "0:0", name);
  }
});
