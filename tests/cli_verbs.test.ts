/** The verbs of cli.ts: loopdev ls and the like. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import {
  chmodSync,
  mkdirSync,
  readFileSync,
  realpathSync,
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
import { verbHelp } from "../cli/verbs/help.ts";
import { attach, readPartitions } from "../mod.ts";
import { OURS } from "./support/cli_beside.ts";
import { makeExt4 } from "./support/mount_image.ts";
import {
  holdOpen,
  losetup,
  makeImage,
  run,
  scratch,
  test,
  THREE_PARTITIONS,
  until,
} from "./support/support.ts";

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
  assertMatch(loopdev("ls", "link.img").stdout, new RegExp(`root ext4 +${loop.path}p2\n`));
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
  "mkfs.ext4",
], () => {
  const bare = makeImage("bare.img", 4);
  assert(makeExt4(bare, { start: 0, size: 4 << 20 }));
  makeImage("empty.img", 1);
  const cut = makeImage("cut.img", 8, THREE_PARTITIONS);
  writeFileSync(cut, readFileSync(cut).fill(0, 512, 1024));
  truncateSync(cut, 4 << 20);
  writeFileSync(scratch("packed.gz"), new Uint8Array([0x1f, 0x8b, 8, ...new Array(600).fill(0)]));
  const { status, stdout, stderr } = loopdev(
    ...["ls", "none.img", "bare.img", "packed.gz", "cut.img", "empty.img"],
  );
  assertEquals(status, 1);
  assertEquals(
    stdout,
    "bare.img: 4M, no partition table\nSIZE FSTYPE\n  4M ext4\n" +
      "empty.img: 1M, no partition table, and no file system that is known\n",
  );
  const [none, packed, damaged, ...rest] = stderr.split("\n");
  assertMatch(none, /^loopdev: \/.*\/none\.img: no such file or directory$/);
  assertMatch(packed, /^loopdev: \/.*\/packed\.gz: .*compressed by gzip.*gzip -dc/);
  assertMatch(damaged, /^loopdev: \/.*\/cut\.img: structure needs cleaning: .*GPT/);
  assertEquals(rest, [""]);
});

test("loopdev ls needs no root", ["root", "setpriv"], () => {
  const file = makeImage("disk.img", 8, THREE_PARTITIONS);
  for (const path of [file, dirname(file)]) chmodSync(path, 0o755);
  const asNobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
  const { stdout, stderr, status } = run([...asNobody, ...OURS, "ls", file]);
  assertEquals([status, stderr], [0, ""]);
  assertMatch(stdout, /zwei ü/);
});

/** What is said of an image whose ESP has no file system. */
const MISSING_BOOT =
  /disk\.img: \/(?:boot|efi) is not mounted: partition 1: it holds no file system/;

/** What is mounted on a directory or below it. */
const mountsBelow = (folder: string) =>
  readFileSync("/proc/self/mountinfo", "utf8").split("\n").map((line) => line.split(" ")[4])
    .filter((point) => point === folder || point?.startsWith(`${folder}/`));

/** A directory to mount on. */
function directory(name: string): string {
  mkdirSync(scratch(name));
  return realpathSync(scratch(name));
}

test("loopdev mount leaves the files there, and loopdev umount takes all away that it made", [
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
    assertEquals(loopdev("umount", "link"), NOTHING);
  }
  assertEquals([mountsBelow(folder), losetup(file)], [[], []]);
  await using loop = await attach(file, { partscan: true, readOnly: true });
  await using home = await loop.mount(3);
  assertEquals(readFileSync(join(home.path, "written"), "utf8"), "by me\n");
});

test("loopdev umount leaves alone what is in use, and what is not its own", [
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
    assertEquals(loopdev("umount", "mnt/below", "mnt"), NOTHING);
  }
  // A process that lives has mounted this one itself.
  await using loop = await attach(outer, { partscan: true });
  await using _ = await loop.mount(2, { at: folder });
  refused("mnt", new RegExp(`process ${process.pid} unmounts it when it ends`));
  assertEquals(losetup(inner), []);
});

test("loopdev mount leaves nothing if it fails or is killed", [
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
    /^loopdev: \/dev\/loop\d+: no such device.*: none of its partitions has the label "none"\n +/,
  );
  for (const call of ["fsmount", "move_mount"]) {
    const kill = ["strace", "-f", "-qq", "-o", "/dev/null", `--inject=${call}:signal=KILL`];
    run([...kill, ...OURS, "mount", "--root=2", "disk.img", "mnt"], { cwd: scratch("") });
    await until(() => losetup(file).length === 0, `the device to go after ${call}`);
    assertEquals(mountsBelow(folder), []);
  }
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

test(
  "each verb has a --help, a place in loopdev --help and in the manual, and names a wrong word",
  [],
  () => {
    const help = helpText("loopdev");
    assert(!helpText("losetup").includes("Verbs"));
    for (const verb of VERBS) {
      const { name, synopsis, options } = verb;
      assertMatch(help, new RegExp(`^ ${name} +${verb.summary}$`, "m"));
      assertEquals(loopdev(name, "--help"), { status: 0, stdout: verbHelp(verb), stderr: "" });
      for (const line of verbHelp(verb).split("\n")) assert(line.length <= 90, line);
      assertStringIncludes(manPage(), `.SS ${name}\n\\fBloopdev ${name}\\fR `);
      for (const line of synopsis) {
        assertStringIncludes(verbHelp(verb), ` loopdev ${name} ${line}\n`);
      }
      for (const { long } of options) assertMatch(verbHelp(verb), new RegExp(` --${long}\\b`));
      const { status, stderr } = loopdev(name, "--no-such-option");
      assertEquals([status, stderr], [
        name === "run" ? 125 : 1,
        "loopdev: unrecognized option '--no-such-option'\n" +
        `Try 'loopdev ${name} --help' for more information.\n`,
      ]);
    }
  },
);

test("formatSize() prints what lsblk does", [], () => {
  const sizes: [number, string][] = [[0, "0B"], [512, "512B"], [1536, "1.5K"], [8 << 20, "8M"]];
  sizes.push([2 ** 33 + 2 ** 29, "8.5G"], [2 ** 40 - 1, "1024G"], [953.87 * 2 ** 20, "953.9M"]);
  for (const [bytes, text] of sizes) assertEquals(formatSize(bytes), text);
});
