/** The verbs of cli.ts: loopdev ls and the like. */
import { assert, assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { helpText } from "../cli/help.ts";
import { manPage } from "../cli/man.ts";
import { VERBS } from "../cli/verb_table.ts";
import { formatSize } from "../cli/verbs/bytes.ts";
import { parseLine } from "../cli/verbs/line.ts";
import { parseOwner } from "../cli/verbs/owner.ts";
import { parsePartition } from "../cli/verbs/partition.ts";
import { parseCopy } from "../cli/verbs/place.ts";
import { UsageError } from "../cli/getopt.ts";
import { verbHelp } from "../cli/verbs/help.ts";
import { attach, readPartitions } from "../mod.ts";
import { OURS } from "./support/cli_beside.ts";
import { recordsOf } from "./support/keepers.ts";
import { ext4Image, makeExt4 } from "./support/mount_image.ts";
import {
  assertDetached,
  holdOpen,
  isolated,
  leftAttached,
  losetup,
  makeImage,
  output,
  run,
  scratch,
  test,
  THREE_PARTITIONS,
  until,
} from "./support/support.ts";
import { whileStopped } from "./support/traced.ts";

const loopdev = (...args: string[]) => run([...OURS, ...args], { cwd: scratch("") });

/** What succeeds without a word. */
const NOTHING = { status: 0, stdout: "", stderr: "" };

const BOOT_ROOT_HOME = `label: gpt
size=1MiB, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name=boot
size=4MiB, name=root
type=933AC7E1-2EB4-4F13-B844-0E14E2AEF915
`;

/** An image with an empty ESP, a root of which only its files tell that it is one, and an empty home. */
async function makeSystem(name = "disk.img"): Promise<string> {
  const file = makeImage(name, 8, BOOT_ROOT_HOME);
  const tree = scratch("system");
  for (const folder of ["etc", "home"]) mkdirSync(join(tree, folder), { recursive: true });
  writeFileSync(join(tree, "etc/os-release"), 'PRETTY_NAME="Tiny\x1b[31m 1"\n');
  const [, root, home] = (await readPartitions(file)).partitions;
  assert(makeExt4(file, root, tree) && makeExt4(file, home));
  return file;
}

test("loopdev ls lists partitions, what they hold, and the nodes of those that are attached", [
  "root",
  "mkfs.ext4",
], async () => {
  const file = await makeSystem();
  assertEquals(
    loopdev("ls", "disk.img").stdout,
    "disk.img: 8M, gpt, sectors of 512 bytes; Tiny\\x1b[31m 1\n" +
      "PART SIZE TYPE             NAME FSTYPE\n" +
      "   1   1M EFI System       boot \n" +
      "   2   4M Linux filesystem root ext4\n" +
      "   3   1M Linux home            ext4\n",
  );
  await using loop = await attach(file, { partscan: true });
  // By another name of the file.
  symlinkSync(file, scratch("link.img"));
  const both = loopdev("ls", "--output-all", "link.img", loop.path).stdout;
  assertMatch(both, new RegExp(`root ext4 .*${loop.path}p2\n`));
  const { uuid } = (await readPartitions(file)).partitions[1];
  const row = `   2 2097152   4M Linux filesystem root ext4 +[0-9a-f-]{36} ${uuid}`;
  assertEquals(both.match(new RegExp(row, "g"))?.length, 2, both);
  assertMatch(both, new RegExp(`^${loop.path}: 8M, gpt, `, "m"));
  const [listed] = JSON.parse(loopdev("ls", "--json", "disk.img").stdout).images;
  assertEquals([listed.image, listed.size, listed.table], ["disk.img", 8 << 20, "gpt"]);
  assertEquals(listed.nodes, [loop.path]);
  const table = await readPartitions(file);
  for (const [i, { fileSystem: _, nodes, ...partition }] of listed.partitions.entries()) {
    assertEquals(partition, JSON.parse(JSON.stringify(table.partitions[i])));
    assertEquals(nodes, [`${loop.path}p${i + 1}`]);
  }
  assertEquals(
    listed.partitions.map(({ fileSystem }: { fileSystem?: { type: string } }) => fileSystem?.type),
    [undefined, "ext4", "ext4"],
  );
  assertEquals(listed.osRelease, { PRETTY_NAME: "Tiny\x1b[31m 1" });
});

test("loopdev ls says what an image is that has no table, or a damaged one", [
  "root",
  "mkfs.ext4",
  "mksquashfs",
], () => {
  const bare = makeImage("bare.img", 4);
  assert(makeExt4(bare, { start: 0, size: 4 << 20 }));
  makeImage("empty.img", 1);
  const cut = makeImage("cut.img", 8, THREE_PARTITIONS);
  writeFileSync(cut, readFileSync(cut).fill(0, 512, 1024));
  truncateSync(cut, 4 << 20);
  const roots = makeImage("roots.img", 8, "label: gpt\nsize=3MiB\nsize=3MiB\n");
  for (const start of [1 << 20, 4 << 20]) assert(makeExt4(roots, { start, size: 3 << 20 }));
  const both = makeImage("both.img", 4);
  assert(makeExt4(both, { start: 0, size: 4 << 20 }));
  output(["mksquashfs", directory("empty"), scratch("over"), "-noappend", "-quiet"]);
  const over = ["dd", `if=${scratch("over")}`, `of=${both}`, "bs=512", "count=1"];
  output([...over, "conv=notrunc", "status=none"]);
  writeFileSync(scratch("packed.gz"), new Uint8Array([0x1f, 0x8b, 8, ...new Array(600).fill(0)]));
  const { status, stdout, stderr } = loopdev(
    ...["ls", "none.img", "bare.img", "packed.gz", "cut.img", "empty.img", "roots.img", "both.img"],
  );
  assertEquals(status, 1);
  assertEquals(
    stdout,
    "bare.img: 4M, no partition table\nSIZE FSTYPE\n  4M ext4\n" +
      "empty.img: 1M, no partition table, and no file system that is known\n" +
      // Nothing tells which one is the root.
      "roots.img: 8M, gpt, sectors of 512 bytes\nPART SIZE TYPE             FSTYPE\n" +
      "   1   3M Linux filesystem ext4\n   2   3M Linux filesystem ext4\n" +
      "both.img: 4M, no partition table, and no file system that is known\n",
  );
  const [none, packed, damaged, ambiguous, ...rest] = stderr.split("\n");
  assertMatch(ambiguous, /both\.img: .*superblocks of ext4 and of squashfs: wipefs removes one$/);
  assertMatch(none, /^loopdev: \/.*\/none\.img: no such file or directory$/);
  assertMatch(packed, /^loopdev: \/.*\/packed\.gz: .*compressed by gzip.*gzip -dc/);
  assertMatch(damaged, /^loopdev: \/.*\/cut\.img: structure needs cleaning: .*GPT/);
  assertEquals(rest, [""]);
});

test("loopdev ls needs no root", ["root", "setpriv", "mkfs.ext4"], async () => {
  const file = makeImage("disk.img", 8, THREE_PARTITIONS);
  assert(makeExt4(file, (await readPartitions(file)).partitions[1]));
  const damaged = makeImage("damaged.img", 8, THREE_PARTITIONS);
  writeFileSync(damaged, readFileSync(damaged).fill(0, 512, 1024));
  for (const path of [file, dirname(file)]) chmodSync(path, 0o755);
  const asNobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
  const { stdout, stderr, status } = run([...asNobody, ...OURS, "ls", file, damaged]);
  assertEquals([status, stderr], [0, ""]);
  assertMatch(stdout, /zwei ü +ext4/);
  assertMatch(stdout, /disk\.img: 8M, gpt, .*; as root it says which system that is\n/);
  assertMatch(stdout, /damaged\.img: .*; the primary GPT header is damaged, this is the backup\n/);
});

test("loopdev run gives a command the image, and returns its exit code", [
  "root",
  "mkfs.ext4",
  "unshare",
], async () => {
  const file = await makeSystem();
  const shell = 'echo "$(pwd)" "$LOOPDEV_ROOT"; cat; echo from the command >written; exit 7';
  const ran = run(
    [...OURS, "run", "--no-chroot", "disk.img", "NAME=root", "--", "sh", "-c", shell],
    {
      cwd: scratch(""),
      input: "given\n",
    },
  );
  assertEquals(ran.status, 7);
  assertMatch(ran.stderr, MISSING_BOOT);
  assertMatch(ran.stdout, /^(\/\S+) \1\ngiven\n$/);
  const from = run([...OURS, "run", "disk.img", "2", "--no-chroot"], {
    cwd: scratch(""),
    env: { ...process.env, SHELL: "/bin/sh" },
    input: "cat written; kill -9 $$\n",
  });
  assertEquals([from.status, from.stdout], [137, "from the command\n"]);
  const wrong = (args: string[], code: number, said: RegExp) => {
    const { status, stdout, stderr } = loopdev("run", ...args);
    assertMatch(stderr, said);
    assertEquals([status, stdout], [code, ""]);
  };
  wrong(["none.img", "--", "ls"], 125, /^loopdev: .*\/none\.img: no such file or directory\n$/);
  wrong(
    ["disk.img", "2", "ls"],
    125,
    /^loopdev: extra operand 'ls' \(a command stands behind '--'\)/,
  );
  wrong(
    ["disk.img", "2", "--", "ls"],
    127,
    /loopdev: ls: no such file or directory: the image has no/,
  );
  wrong(
    ["disk.img", "bash"],
    125,
    /'bash' is no partition: a number, .* \(a command stands behind '--'\)\nTry '/,
  );
  wrong(
    ["--root=1", "disk.img", "2", "--", "ls"],
    125,
    /^loopdev: both '2' and --root name a partition\nTry '/,
  );
  wrong(
    ["--no-chroot", "disk.img", "--", "ls -l"],
    127,
    /loopdev: ls -l: .* in the folders of PATH, .*; each argument is a word of its own\n$/,
  );
  wrong(
    ["--no-chroot", "disk.img", "--", "/etc/passwd"],
    126,
    /\nloopdev: \/etc\/passwd: permission denied: \/etc\/passwd is there, and nobody may /,
  );
  // Without a command: a shell, which the image does not have.
  wrong(["disk.img"], 127, /\nloopdev: \/bin\/sh: .*: the image has no such program\n$/);
  wrong(["-r", "--no-chroot", "disk.img", "--", "sh", "-c", ">x"], 2, /x: Read-only file system/);
  assertDetached(file);
});

test("loopdev run ends with the signal that ends it, and leaves nothing", [
  "root",
  "mkfs.ext4",
  "unshare",
], async () => {
  const file = await makeSystem();
  const [ready, image] = [scratch("ready"), scratch("disk.img")];
  const command = ["run", "--no-chroot", image, "--", "sh", "-c", `echo >${ready}; exec sleep 999`];
  const script = 'mkfifo "$0"; "$@" & pid=$!; read _ <"$0"; kill -TERM $pid; wait $pid';
  assertEquals(run(["sh", "-c", script, ready, ...OURS, ...command]).status, 143);
  assertDetached(file);
});

/** What is said of an image whose ESP has no file system. */
const MISSING_BOOT =
  /disk\.img: \/(?:boot|efi) is not mounted: partition 1: it holds no file system/;

test("loopdev cp copies as cp -a does, and follows the image's links inside the image", [
  "root",
  "mkfs.ext4",
  "unshare",
], async () => {
  const file = await makeSystem();
  const tree = directory("tree");
  for (const name of ["bin", "etc", "usr"]) mkdirSync(join(tree, name));
  writeFileSync(join(tree, "bin/sh"), "#!\n", { mode: 0o750 });
  chownSync(join(tree, "bin/sh"), 1234, 2345);
  // Names of this machine, which the image has other files of.
  const outside = scratch("outside");
  symlinkSync(outside, join(tree, "etc/link"));
  symlinkSync("/usr", join(tree, "lib"));
  assertEquals(loopdev("cp", "tree/.", "disk.img:/"), NOTHING);
  writeFileSync(scratch("new"), "new\n");
  assertEquals(loopdev("cp", "new", "disk.img:/lib/"), NOTHING);
  assertEquals(loopdev("cp", "new", "disk.img:/lib/../etc/renamed"), NOTHING);
  // A directory whose file has the name of a link there.
  mkdirSync(scratch("etc"));
  writeFileSync(scratch("etc/link"), "no link\n");
  assertEquals(loopdev("cp", "etc", "disk.img:/"), NOTHING);
  assertEquals(existsSync(outside), false);

  assertEquals(loopdev("cp", "disk.img:/lib", "disk.img:/bin/sh", "disk.img:/etc/", "."), NOTHING);
  assertEquals(readlinkSync(scratch("lib")), "/usr");
  const { uid, gid, mode } = statSync(scratch("sh"));
  assertEquals([uid, gid, mode & 0o777], [1234, 2345, 0o750]);
  assertEquals(readFileSync(scratch("etc/link"), "utf8"), "no link\n");
  assertEquals(readFileSync(scratch("etc/renamed"), "utf8"), "new\n");
  assertEquals(loopdev("cp", "disk.img:/lib/new", "again"), NOTHING);
  assertEquals(readFileSync(scratch("again"), "utf8"), "new\n");
  assertDetached(file);
});

test("loopdev cp writes to nothing that a link or a node which it has copied leads to", [
  "root",
  "mkfs.ext4",
  "unshare",
], async () => {
  const file = await makeSystem();
  const tree = directory("tree");
  const victim = scratch("victim");
  writeFileSync(victim, "precious\n");
  writeFileSync(join(tree, "file"), "from the image\n");
  symlinkSync(victim, join(tree, "name"));
  output(["mkfifo", join(tree, "pipe")]);
  assertEquals(loopdev("cp", "tree", "disk.img:/"), NOTHING);
  directory("backup");
  assertEquals(loopdev("cp", "disk.img:/tree/.", "backup"), NOTHING);
  assertEquals(readlinkSync(scratch("backup/name")), victim);
  // Meanwhile the image has files of these names.
  const later = directory("later");
  for (const name of ["name", "pipe"]) writeFileSync(join(later, name), "from the image\n");
  assertEquals(loopdev("cp", "later/.", "disk.img:/tree"), NOTHING);
  assertEquals(loopdev("cp", "disk.img:/tree/.", "backup/"), NOTHING);
  assertEquals(loopdev("cp", "disk.img:/tree/name", "backup"), NOTHING);
  assertEquals(readFileSync(victim, "utf8"), "precious\n");
  for (const name of ["name", "pipe"]) {
    assertEquals(readFileSync(scratch(`backup/${name}`), "utf8"), "from the image\n");
  }
  // What is named itself is written to.
  symlinkSync(victim, scratch("link"));
  assertEquals(loopdev("cp", "disk.img:/tree/file", "link"), NOTHING);
  assertEquals(readFileSync(victim, "utf8"), "from the image\n");
  const piped = [
    "sh",
    "-c",
    '"$@" | cat',
    "sh",
    ...OURS,
    "cp",
    "disk.img:/tree/file",
    "/dev/stdout",
  ];
  assertEquals(output(piped, { cwd: scratch("") }), "from the image\n");
  assertDetached(file);
});

test("loopdev cp overwrites no image, and copies none into itself", [
  "root",
  "mkfs.ext4",
  "unshare",
], async () => {
  const file = await makeSystem();
  const inner = directory("inner");
  mkdirSync(join(inner, "deep"));
  for (const name of ["disk.img", "deep/disk.img"]) writeFileSync(join(inner, name), "another\n");
  symlinkSync("deep", join(inner, "link"));
  assertEquals(loopdev("cp", "inner", "disk.img:/"), NOTHING);
  linkSync(file, scratch("second"));
  symlinkSync("second", scratch("third"));
  symlinkSync(".", scratch("here"));
  const size = statSync(file).size;
  const folder = dirname(realpathSync(file));
  mkdirSync(scratch("deep"));
  const refused = (args: string[], said: RegExp) => {
    const { status, stderr } = loopdev("cp", ...args);
    assertMatch(stderr, said);
    assertEquals([status, statSync(file).size], [1, size]);
  };
  for (const to of ["disk.img", "second", "third", "here/disk.img"]) {
    const said =
      `^loopdev: '${to}' is the image itself, and .*: a place in it is disk.img:/path\n$`;
    refused(["disk.img:/etc/os-release", to], new RegExp(said));
  }
  for (
    const [from, to, over] of [
      ["/inner/disk.img", ".", "/inner/disk.img"],
      ["/inner/.", "here", "/inner/disk.img"],
      ["/inner/deep/disk.img", "deep/..", "/inner/deep/disk.img"],
      ["/inner/link/disk.img", folder, "/inner/deep/disk.img"],
    ]
  ) {
    const said = `'${file}' is the image itself, and .*: disk\\.img:${over} has its name\n$`;
    refused([`disk.img:${from}`, to], new RegExp(said));
  }
  renameSync(file, scratch("deep/disk.img"));
  const moved = loopdev("cp", "deep/disk.img:/inner/deep", ".");
  assertMatch(
    moved.stderr,
    /'.*\/deep\/disk\.img' is the image itself, .*:\/inner\/deep\/disk\.img has/,
  );
  assertEquals(loopdev("cp", "deep/disk.img:/inner/disk.img", "."), NOTHING);
  assertEquals([statSync(scratch("deep/disk.img")).size, statSync(file).size], [size, 8]);
  renameSync(scratch("second"), file);
  refused(["disk.img", "disk.img:/"], /^loopdev: 'disk\.img' cannot be copied into itself\n$/);
  for (const source of [".", "here/.", folder, "/"]) {
    refused([source, "disk.img:/home"], /^loopdev: '.*' has disk\.img in it, which cannot be /);
  }
  // A link is copied as one.
  assertEquals(loopdev("cp", "here", "third", "disk.img:/home"), NOTHING);
  assertDetached(file);
});

test("loopdev cp names the image in its errors, and not where it was mounted", [
  "root",
  "mkfs.ext4",
  "unshare",
], async () => {
  const file = await makeSystem();
  writeFileSync(scratch("new"), "new\n");
  const wrong = (args: string[], said: RegExp) => {
    const { status, stdout, stderr } = loopdev("cp", ...args);
    assertMatch(stderr, said);
    assertEquals([status, stdout], [1, ""]);
  };
  wrong(
    ["disk.img:/none", "."],
    /^loopdev: cannot stat 'disk\.img:\/none': No such file or directory\n$/,
  );
  wrong(
    ["new", "none", "disk.img:/"],
    /^loopdev: cannot stat '\/.*\/none': No such file or directory\n$/,
  );
  wrong(["new", "disk.img:/new/x"], /^loopdev: disk\.img:\/new\/x: not a directory\n$/);
  const noFile = "No such file or directory\n$";
  wrong(["it's", "disk.img:/"], new RegExp(`^loopdev: cannot stat ".*/it's": ${noFile}`));
  wrong(["disk.img:/it's", "."], new RegExp(`^loopdev: cannot stat "disk\\.img:/it's": ${noFile}`));
  const bytes = 'exec "$@" "$(printf "disk.img:/\\351")" .';
  const latin = run(["sh", "-c", bytes, "sh", ...OURS, "cp"], { cwd: scratch("") });
  assertMatch(latin.stderr, /^loopdev: '\/.+' is not UTF-8: copy the directory that it lies in\n$/);
  const [, { start }] = (await readPartitions(file)).partitions;
  output(["tune2fs", "-O", "read-only", `${file}?offset=${start}`]);
  wrong(
    ["new", "disk.img:/x"],
    /^loopdev: cannot create regular file 'disk\.img:\/x': Read-only file system/,
  );
});

test("loopdev cp says on a terminal how far it is, from its first second on", [
  "root",
  "mkfs.ext4",
  "strace",
  "unshare",
], async () => {
  await makeSystem();
  for (const name of ["one", "two"]) writeFileSync(scratch(name), new Uint8Array(1 << 19).fill(1));
  // cp(1) gives that advice of each file, and no other process does.
  const wait = ["-e", "trace=fadvise64", "-e", "inject=fadvise64:delay_enter=1700ms:when=2"];
  const strace = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", ...wait];
  const command = [...isolated("terminal"), ...strace, ...OURS, "cp", "one", "two", "disk.img:/"];
  const { status, stdout } = run(command, { cwd: scratch("") });
  assertEquals(status, 0, stdout);
  const lines = stdout.replaceAll("\r\x1b[K", "|");
  // On a busy machine the first second ends before the first file is copied.
  assertMatch(lines, /^(\|copied \d+B)?(\|copied 512K)+\|?((\|writing it back)+\|)?$/);
});

/** What is mounted on a directory or below it. */
const mountsBelow = (folder: string) =>
  readFileSync("/proc/self/mountinfo", "utf8").split("\n").map((line) => line.split(" ")[4])
    .filter((point) => point === folder || point?.startsWith(`${folder}/`));

/** A neighbour that begins a mount namespace of its own has a copy of each mount there, for a while. */
const detached = (file: string) =>
  until(() => losetup(file).length === 0, `${file} to be detached`);

/** Unmounts what a test leaves on a directory if it fails: the next one could not remove its files. */
const cleared = (folder: string): Disposable => ({
  [Symbol.dispose]() {
    for (const point of mountsBelow(folder).reverse()) run(["umount", point]);
  },
});

/** A directory to mount on. */
function directory(name: string): string {
  mkdirSync(scratch(name));
  return realpathSync(scratch(name));
}

test("loopdev mount leaves the files there, and loopdev umount takes all away that it made", [
  "quiet",
  "root",
  "mkfs.ext4",
], async () => {
  const file = await makeSystem();
  const folder = directory("mnt");
  const mounted = loopdev("mount", "disk.img", "mnt");
  assertMatch(mounted.stderr, MISSING_BOOT);
  assertEquals([mounted.status, mounted.stdout], [0, ""]);
  try {
    assertEquals(mountsBelow(folder), [folder, join(folder, "home")]);
    const [{ name, autoclear }] = losetup(file);
    assertEquals(autoclear, true);
    writeFileSync(join(folder, "home/written"), "by me\n");
    assertStringIncludes(loopdev("ls", "disk.img").stdout, `${name}p2\n`);
  } finally {
    // By another name of the directory.
    symlinkSync(folder, scratch("link"));
    const [{ name }] = losetup(file);
    const user = openSync(`${name}p2`, "r");
    const { status, stderr } = loopdev("umount", "link");
    closeSync(user);
    assertEquals(status, 0);
    assertMatch(
      stderr,
      /^loopdev: link: unmounted; the kernel detaches \S+ after its last user \(/,
    );
    assertStringIncludes(stderr, `${process.pid}`);
  }
  assertEquals(mountsBelow(folder), []);
  await detached(file);
  await using loop = await attach(file, { partscan: true, readOnly: true });
  await using home = await loop.mount(3);
  assertEquals(readFileSync(join(home.path, "written"), "utf8"), "by me\n");
});

test("loopdev umount leaves alone what is in use, and what is not its own", [
  "quiet",
  "root",
  "mkfs.ext4",
], async () => {
  const outer = await makeSystem("outer.img");
  const inner = await makeSystem("inner.img");
  const folder = directory("mnt");
  const refused = (name: string, why: RegExp) => {
    const { status, stderr } = loopdev("umount", name);
    assertMatch(stderr, why);
    assertEquals(status, 1);
  };
  refused("none", /^loopdev: none: no such file or directory\n$/);
  refused("mnt", /^loopdev: mnt: invalid argument: nothing is mounted on it: it lies in \//);
  refused(
    "/proc",
    /^loopdev: \/proc: .*it is no tree that loopdev mount made, but a mount of proc/,
  );
  assertEquals(loopdev("mount", "--root=2", "outer.img", "mnt").status, 0);
  try {
    mkdirSync(join(folder, "below"));
    refused("mnt/below", /nothing is mounted on it: it lies in .*\/mnt\n$/);
    assertEquals(loopdev("mount", "--root=2", "--read-only", "inner.img", "mnt/below").status, 0);
    refused(
      "mnt",
      /busy: another mount lies on .*\/mnt\/below \(ext4\): unmount that one first\n$/,
    );
    {
      await using _ = await holdOpen(join(folder, "below"));
      refused(
        "mnt/below",
        /\/mnt\/below: device or resource busy: in use by process \d+ \(\w+\)\n$/,
      );
    }
    assertEquals(mountsBelow(folder).length, 4);
  } finally {
    assertEquals(loopdev("umount", "mnt/below", "mnt").status, 0);
  }
  // A process that lives has mounted this one itself.
  await using loop = await attach(outer, { partscan: true });
  await using _ = await loop.mount(2, { at: folder });
  refused("mnt", new RegExp(`process ${process.pid} unmounts it when it ends`));
  await detached(inner);
});

test("loopdev umount names who keeps a tree or its device, also where that is no process", [
  "quiet",
  "root",
  "losetup",
  "mount",
  "mkfs.ext4",
], async () => {
  // A mount of another process, which has a record of it.
  await using other = await attach(ext4Image("other.img"));
  await using _mount = await other.mount();
  const file = ext4Image("disk.img");
  const folder = directory("mnt");
  using _cleared = cleared(folder);
  const device = output(["losetup", "--find", "--show", file]).trim();
  output(["mount", device, folder]);
  const foreign = loopdev("umount", "mnt");
  assertMatch(
    foreign.stderr,
    /no tree that loopdev mount made, but a mount of \/dev\/loop\d+ \(ext4\)/,
  );
  output(["umount", folder]);
  output(["losetup", "--detach", device]);
  await detached(file);
  assertEquals(loopdev("mount", "disk.img", "mnt"), NOTHING);
  const [{ name }] = losetup(file);
  const inner = join(folder, "inner.img");
  writeFileSync(inner, new Uint8Array(2 ** 20));
  const over = output(["losetup", "--find", "--show", inner]).trim();
  const busy = loopdev("umount", "mnt");
  output(["losetup", "--detach", over]);
  assertEquals([busy.status, mountsBelow(folder)], [1, [folder]]);
  assertStringIncludes(busy.stderr, `busy: in use by ${name}: loop device ${over}\n`);
  {
    await using _ = await holdOpen(name);
    const { status, stderr } = loopdev("umount", "mnt");
    assertMatch(
      stderr,
      /mnt: unmounted; the kernel detaches \S+ after its last user \(\S+ process \d+ /,
    );
    assertEquals([status, mountsBelow(folder)], [0, []]);
  }
  await detached(file);
  assertEquals(loopdev("mount", "disk.img", "mnt"), NOTHING);
  const script = 'exec 7<mnt && umount -l mnt && "$@" umount /proc/$$/fd/7';
  const lazily = run(["sh", "-c", script, "sh", ...OURS], { cwd: scratch("") });
  assertMatch(
    lazily.stderr,
    /^loopdev: \/proc\/\d+\/fd\/7: invalid argument: nothing is mounted on it\n$/,
  );
  await detached(file);
});

test("loopdev umount unmounts nothing that others have mounted or unmounted meanwhile", [
  "quiet",
  "root",
  "strace",
  "mount",
  "mkfs.ext4",
], async () => {
  const file = await makeSystem();
  const folder = directory("mnt");
  using _cleared = cleared(folder);
  assertEquals(loopdev("mount", "disk.img", "mnt").status, 0);
  const meanwhile = async (at: string[], act: () => void) =>
    (await whileStopped(at, [...OURS, "umount", "mnt"], act, { cwd: scratch("") })).stderr;
  const umount = ["-e", "trace=umount2", "-e", "inject=umount2:signal=STOP:when=1"];
  const covered = await meanwhile(umount, () => {
    output(["mount", "-t", "tmpfs", "none", folder]);
  });
  assertMatch(
    covered,
    /\/mnt: device or resource busy: another mount came over it: unmount that one first\n$/,
  );
  assertEquals(mountsBelow(folder), [folder, folder]);
  output(["umount", folder]);
  const [{ name }] = losetup(file);
  const open = ["-e", "trace=openat", "-P", name, "-e", "inject=openat:signal=STOP:when=1"];
  const gone = await meanwhile(open, () => {
    output(["umount", folder]);
  });
  assertMatch(gone, /^loopdev: mnt: invalid argument: somebody else has just unmounted it\n$/);
  await detached(file);
});

test("loopdev umount says of what it cannot see that it cannot, and needs nothing in /run", [
  "quiet",
  "root",
  "mount",
  "unshare",
  "mkfs.btrfs",
], async () => {
  const file = makeImage("disk.img", 32);
  output(["mkfs.btrfs", "-q", "--mixed", file]);
  directory("mnt");
  // The shell is no process of the namespace in which umount looks.
  const script = `
    umount() {
      unshare --pid --fork sh -c 'mount -t proc none /proc && "$@"' sh "$@" umount mnt 5<&- 6<&-
    }
    see() { command umount /proc; }
    "$@" mount disk.img mnt && mount -t tmpfs none /run
    exec 5<mnt
    umount "$@"; see
    exec 6<"$(awk -v at="$(pwd -P)/mnt" '$2 == at { print $1 }' /proc/self/mounts)" 5<&-
    umount "$@"; see`;
  const { stderr } = run([...isolated("tmpfs=/run"), "sh", "-c", script, "sh", ...OURS], {
    cwd: scratch(""),
  });
  const [busy, kept] = stderr.split("\n");
  assertMatch(busy, /^loopdev: \S+mnt: .*busy: in use by something that this process cannot see$/);
  assertMatch(kept, /mnt: unmounted; .* last user \(something that this process cannot see\)$/);
  await detached(file);
});

test("loopdev mount leaves nothing if it fails or is killed, or all in its last step", [
  "root",
  "mkfs.ext4",
  "strace",
], async () => {
  const file = await makeSystem();
  const folder = directory("mnt");
  const { status, stderr } = loopdev("mount", "--root=LABEL=none", "disk.img", "mnt");
  assertEquals(status, 1);
  assertMatch(
    stderr,
    /^loopdev: disk\.img: no such device.*: none of its partitions has the label "none"\n +/,
  );
  /** Gives the process that was killed. */
  const killAt = (call: string) => {
    const kill = ["strace", "-f", "-qq", "-o", "/dev/null", `--inject=${call}`];
    const told = ["sh", "-c", 'echo $$ >"$0" && exec "$@"', scratch("pid"), ...OURS];
    run([...kill, ...told, "mount", "disk.img", "mnt"], { cwd: scratch("") });
    return Number(readFileSync(scratch("pid"), "utf8"));
  };
  for (const call of ["fsmount", "move_mount"]) {
    killAt(`${call}:signal=KILL`);
    await detached(file);
    assertEquals(mountsBelow(folder), []);
  }
  // The keeper's record of the second mount.
  const killed = killAt("unlinkat:signal=KILL:when=2");
  await until(() => recordsOf(killed).length === 0, "the keeper to end");
  assertEquals(mountsBelow(folder), [folder, join(folder, "home")]);
  assertEquals(loopdev("umount", "mnt").status, 0);
});

test("loopdev mount leaves nothing where it cannot say what is missing", [
  "root",
  "mkfs.ext4",
], async () => {
  const file = await makeSystem();
  const folder = directory("mnt");
  const script = 'exec "$@" 2>/dev/full';
  const command = ["sh", "-c", script, "sh", ...OURS, "mount", "disk.img", "mnt"];
  assertEquals(run(command, { cwd: scratch("") }).status, 1);
  await detached(file);
  assertEquals(mountsBelow(folder), []);
});

test("loopdev mount and run --owner give the files to a user, or to the one who called sudo", [
  "root",
  "mkfs.ext4",
  "setpriv",
  "unshare",
], async () => {
  await makeSystem();
  const folder = directory("mnt");
  chmodSync(scratch(""), 0o755);
  const env = { ...process.env, SUDO_UID: "1234", SUDO_GID: "2345" };
  const options = { cwd: scratch(""), env };
  assertEquals(run([...OURS, "mount", "--owner", "disk.img", "mnt"], options).status, 0);
  try {
    const { uid, gid } = statSync(join(folder, "etc"));
    assertEquals([uid, gid], [1234, 2345]);
    const asUser = ["setpriv", "--reuid=1234", "--regid=2345", "--clear-groups"];
    output([...asUser, "sh", "-c", 'echo mine >"$0"', join(folder, "etc/mine")]);
  } finally {
    assertEquals(loopdev("umount", "mnt").status, 0);
  }
  const script = "stat -c '%u %g' etc/mine; id -u; echo >etc/too";
  const asUser = run([
    ...OURS,
    "run",
    "--no-chroot",
    "--owner",
    "disk.img",
    "--",
    "sh",
    "-c",
    script,
  ], options);
  assertEquals(asUser.stdout, "1234 2345\n1234\n", asUser.stderr);
  const list = ["--", "stat", "-c", "%u %g", "etc/mine", "etc/too"];
  assertEquals(loopdev("run", "--no-chroot", "-r", "disk.img", ...list).stdout, "0 0\n0 0\n");
  for (const [word, owner] of [["7", 7], ["7:8", { uid: 7, gid: 8 }]] as const) {
    assertEquals(parseOwner(word), owner);
  }
  assertEquals(parseOwner("root"), { uid: 0, gid: 0 });
  assertThrows(() => parseOwner("no-such-user"), Error, "/etc/passwd has no user 'no-such-user'");
});

test("loopdev grow says what it would do, and does it", ["root", "mkfs.ext4"], async () => {
  const file = await makeSystem();
  const grown =
    /^disk\.img: 8M to 12M\ngpt: (?:to be )?written\npartition 3: 1M to \S+M\next4: .+\n$/;
  const plan = loopdev("grow", "--size=12M", "--dry-run", "disk.img", "TYPE=home");
  assertMatch(plan.stdout, grown);
  assertEquals(statSync(file).size, 8 << 20);
  const refused = loopdev("grow", "--size=12M", "disk.img", "2");
  assertEquals([refused.status, refused.stdout], [1, ""]);
  assertMatch(
    refused.stderr,
    /^loopdev: disk\.img: no space left on device: partition 2 cannot grow/,
  );
  const { status, stdout } = loopdev("grow", "--size=12M", "disk.img");
  assertMatch(stdout, grown);
  assertEquals([status, statSync(file).size], [0, 12 << 20]);
  truncateSync(makeImage("cut.img", 8, THREE_PARTITIONS), 4 << 20);
  assertEquals(
    loopdev("grow", "--size=9P", "disk.img").stderr,
    "loopdev: failed to parse size: '9P': Numerical result out of range\n",
  );
  assertEquals(
    loopdev("grow", "--size=+1G", "disk.img").stderr,
    "loopdev: failed to parse size: '+1G': it is the size of the whole image, not what is added to it\n",
  );
  // losetup takes these for 2147483648 and 2415919103 bytes.
  for (const [size, to] of [["1.10G", 1_181_116_416], ["2.25GiB", 2_415_919_104]]) {
    const planned = loopdev("grow", "--dry-run", "--json", `--size=${size}`, "disk.img");
    assertEquals(JSON.parse(planned.stdout).file.to, to);
  }
  const cut = loopdev("grow", "cut.img");
  assertMatch(cut.stderr, /is made for a disk of 8388608 bytes; attach it without --partscan, or /);
  const [, , { size }] = (await readPartitions(file)).partitions;
  const bare = makeImage("bare.img", 4);
  assert(makeExt4(bare, { start: 0, size: 4 << 20 }));
  assertEquals(
    loopdev("grow", "bare.img").stdout,
    "bare.img: 4M as before\next4: 4M as before\n",
  );
  const json = JSON.parse(loopdev("grow", "--json", "disk.img").stdout);
  assertEquals([json.partition.from, json.partition.to, leftAttached(file)], [size, size, []]);
});

test("a first argument that is a verb is one under the name loopdev alone", ["bun"], () => {
  makeImage("ls", 1);
  const bin = scratch("bin");
  mkdirSync(bin);
  symlinkSync(OURS.at(-1)!, join(bin, "losetup"));
  // losetup takes the first for a device, and the second for its file.
  const { status, stderr } = run([join(bin, "losetup"), "ls", "ls"], { cwd: scratch("") });
  assertEquals(status, 1);
  assertMatch(stderr, /^losetup: /);
  assertEquals(loopdev("-j", "ls").stdout, "");
  assertMatch(loopdev("ls", "./ls").stdout, /^\.\/ls: 1M, no partition table/);
});

test("each verb has a --help, and a place in loopdev --help and in the manual", [], () => {
  const help = helpText("loopdev");
  assert(!helpText("losetup").includes("Verbs"));
  for (const verb of VERBS) {
    const { name, summary, synopsis, options } = verb;
    assertMatch(help, new RegExp(`^ ${name} +${summary}$`, "m"));
    const own = verbHelp(verb);
    for (const line of own.split("\n")) assert(line.length <= 90, line);
    assertStringIncludes(manPage(), `.SS ${name}\n\\fBloopdev ${name}\\fR `);
    for (const line of synopsis) assertStringIncludes(own, ` loopdev ${name} ${line}\n`);
    for (const { long } of options) assertMatch(own, new RegExp(` --${long}\\b`));
  }
  const [ls] = VERBS.filter(({ name }) => name === "ls");
  assertEquals(loopdev("ls", "--help"), { status: 0, stdout: verbHelp(ls), stderr: "" });
});

test("a verb names no device that is detached by then, and each error once", [
  "root",
  "mkswap",
  "mkfs.ext4",
  "unshare",
], async () => {
  const file = await makeSystem();
  const [, , home] = (await readPartitions(file)).partitions;
  const swap = makeImage("swap.img", 1);
  output(["mkswap", swap]);
  const remedy = (image: string) => `where loopdev -fP --show ${image} prints DEVICE\n`;
  assertEquals(
    loopdev("run", "swap.img").stderr,
    "loopdev: swap.img: invalid argument: it holds swap: it is swap space, which swapon DEVICE uses, " +
      remedy("swap.img"),
  );
  output([
    "dd",
    `if=${swap}`,
    `of=${file}`,
    `seek=${home.start}`,
    "oflag=seek_bytes",
    "conv=notrunc",
  ]);
  const home3 = "/home is not mounted: partition 3: it holds swap: it is swap space, which swapon";
  const ran = loopdev("run", "disk.img", "--no-chroot", "--", "true").stderr;
  assertStringIncludes(ran, `${home3} DEVICEp3 uses, ${remedy("disk.img")}`);
  // This one stays.
  directory("mnt");
  try {
    assertMatch(loopdev("mount", "disk.img", "mnt").stderr, /swapon \/dev\/loop\d+p3 uses\n/);
  } finally {
    assertEquals(loopdev("umount", "mnt").status, 0);
  }
  const full = run(["sh", "-c", 'exec "$@" >/dev/full', "sh", ...OURS, "ls", file]);
  assertEquals(full.stderr, "loopdev: write error: No space left on device\n");
  assertDetached(file);
});

test("a verb names the word that is wrong, and points to its help", [], () => {
  const { status, stderr } = loopdev("run", "--no-such-option", "disk.img");
  assertEquals([status, stderr], [
    125,
    "loopdev: unrecognized option '--no-such-option'\n" +
    "Try 'loopdev run --help' for more information.\n",
  ]);
  const refused: [words: string, why: string][] = [
    ["ls", "missing operand"],
    ["run a.img 2 ls", "extra operand 'ls' (a command stands behind '--')"],
    ["run a.img --", "no command behind '--'"],
    ["run a.img -- ", "no command behind '--'"],
    ["mount a.img", "missing operand"],
    ["mount --root", "option '--root' requires an argument"],
    ["umount --lazy x", "unrecognized option '--lazy'"],
  ];
  for (const [words, why] of refused) {
    const [name, ...args] = words.split(" ");
    const verb = VERBS.find((verb) => verb.name === name)!;
    assertEquals(assertThrows(() => parseLine(verb, args), UsageError).message, why);
  }
  const run = VERBS.find(({ name }) => name === "run")!;
  const line = parseLine(run, ["a", "--read", "--", "--", "--read-only"]);
  assertEquals([line.operands, line.command], [["a"], ["--", "--read-only"]]);
  assertEquals([line.has("read-only"), line.has("no-chroot")], [true, false]);
});

test("parsePartition() and parseCopy() read what the manual says", [], () => {
  const partitions: [string, unknown][] = [["2", 2], ["LABEL=a b", { label: "a b" }]];
  partitions.push(["partlabel=x", { name: "x" }], ["Name=x", { name: "x" }]);
  partitions.push(["UUID=1", { uuid: "1" }], ["type=root", { type: "root" }]);
  for (const [word, meant] of partitions) assertEquals(parsePartition(word), meant);
  for (const word of ["0", "-1", "ls", "LABEL=", "size=3", "LABEL"]) {
    assertThrows(() => parsePartition(word), UsageError, `'${word}' is no partition`);
  }
  const out = { image: "./a.img", into: false, from: ["/b", "/c:/d"], to: "e:f" };
  assertEquals(parseCopy(["./a.img:/b", "./a.img:/c:/d", "e:f"]), out);
  assertEquals(parseCopy(["e:f", "g", "a.img:/"]), {
    ...{ image: "a.img", into: true, from: ["e:f", "g"], to: "/" },
  });
  for (const words of ["a b", "a:/b c:/d", "a:/b c d", "a b:/c d", "a b:/c d:/e"]) {
    assertThrows(() => parseCopy(words.split(" ")), UsageError, "one side must be in an image");
  }
  assertThrows(() => parseCopy(["a:/b", "c:/d", "e"]), UsageError, "must be of one image");
});

test("formatSize() prints what lsblk does", [], () => {
  const sizes: [number, string][] = [[0, "0B"], [512, "512B"], [1536, "1.5K"], [8 << 20, "8M"]];
  sizes.push([2 ** 33 + 2 ** 29, "8.5G"], [2 ** 40 - 1, "1024G"], [953.87 * 2 ** 20, "953.9M"]);
  for (const [bytes, text] of sizes) assertEquals(formatSize(bytes), text);
});
