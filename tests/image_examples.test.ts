/** The examples that go from an image to its files, and from files to an image. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync } from "node:fs";
import { writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileSystem, readPartitions } from "../mod.ts";
import {
  assertDetached,
  losetup,
  makeImage,
  onThisRuntime,
  output,
  ROOT,
  run,
  scratch,
  testsOf,
  until,
} from "./support/support.ts";

const EDIT = join(ROOT, "examples/edit_image.ts");
const BUILD = join(ROOT, "examples/build_image.ts");

/** Two partitions; the second has an ext4. */
async function image(name: string): Promise<string> {
  const file = makeImage(name, 16, "label: gpt\nsize=2MiB, name=raw\nname=files\n");
  const [, { start, size }] = (await readPartitions(file)).partitions;
  const blocks = String(Math.floor(size / 1024));
  output(["mkfs.ext4", "-q", "-b", "1024", "-E", `offset=${start}`, file, blocks]);
  return file;
}

/** No device, and no mount in this namespace; others may mount in theirs. */
function assertNothingLeft(file: string): void {
  assertDetached(file);
  assert(!readFileSync("/proc/self/mountinfo", "utf8").includes(dirname(file)));
}

const test = testsOf("the examples that mount", ["root", "mkfs.ext4"]);

test(
  "edit_image.ts runs a command where the files are, and passes its exit code on",
  [],
  async () => {
    const file = await image("edit.img");
    const script =
      'test "$PWD" = "$LOOPDEV_ROOT" && test -b $LOOPDEV_PARTITION && pwd && ls && echo box >name; exit 7';
    const { status, stdout, stderr } = run(
      onThisRuntime(EDIT, file, "2", "--", "sh", "-c", script),
    );
    assertEquals([status, stderr], [7, ""]);
    assertMatch(stdout, /^\/run\/loopdev\/\S+\nlost\+found\n$/);
    assertNothingLeft(file);
    assertEquals(output(onThisRuntime(EDIT, file, "name=files", "--", "cat", "name")), "box\n");
    const written = run(onThisRuntime(EDIT, file, "2", "-r", "--", "touch", "other"));
    assertEquals(written.status, 1);
    assertStringIncludes(written.stderr, "Read-only file system");
  },
);

test("edit_image.ts mounts an image without a table, with options, and on a folder", [], () => {
  const file = makeImage("whole.img", 4);
  output(["mkfs.ext4", "-q", "-O", "^has_journal", file]);
  const folder = scratch("at");
  mkdirSync(folder);
  const options = ["-o", "noatime,errors=remount-ro", "-t", "ext4", "--at", folder];
  const script = 'pwd -P && grep " $PWD " /proc/self/mountinfo';
  const printed = output(onThisRuntime(EDIT, file, ...options, "--", "sh", "-c", script));
  assertEquals(printed.split("\n")[0], folder);
  assertMatch(printed, /noatime.* ext4 .*errors=remount-ro/);
  assertNothingLeft(file);
});

test(
  "before_after.ts makes the same tree in both ways, and leaves nothing",
  ["losetup", "mount"],
  () => {
    const program = join(ROOT, "examples/before_after.ts");
    const folder = scratch("temporary");
    mkdirSync(folder);
    const command = onThisRuntime(program, "--images", "1");
    const { status, stdout, stderr } = run(command, { env: { ...process.env, TMPDIR: folder } });
    assertEquals([status, stderr], [0, ""]);
    const children =
      /^before: 39 child processes an image(, each through sudo)?, [\d.]+ ms an image$/m;
    assertMatch(stdout, children);
    assertMatch(stdout, /^after: {2}the same tree, [\d.]+ ms an image, [\d.]+ times as fast$/m);
    assertEquals(readdirSync(folder), []);
    assert(!readFileSync("/proc/self/mountinfo", "utf8").includes(folder));
  },
);

test("edit_image.ts says what is wrong on stderr", [], async () => {
  const file = await image("wrong.img");
  const cases: [args: string[], message: RegExp][] = [
    [[], /^edit_image: no image given; try --help\n$/],
    [[file, "2"], /^edit_image: no command given: it follows --; try --help\n$/],
    [
      [file, "2", "3", "--", "true"],
      /^edit_image: '3' is one too many \(a command follows --\)\n$/,
    ],
    [
      [file, "two", "--", "true"],
      /^edit_image: the partition must be a number from 1 on, or name=, .* not 'two'/,
    ],
    [
      [file, "--frobnicate", "--", "true"],
      /^edit_image: unknown option '--frobnicate'; try --help/,
    ],
    [[file, "3", "--", "true"], /^edit_image: ENXIO: .*partition 3/],
    [[file, "1", "--", "true"], /^edit_image: EINVAL: .*no file system/],
    [[file, "--", "true"], /^edit_image: EINVAL: .*no file system/],
    [[file, "2", "-o", "frobnicate", "--", "true"], /^edit_image: EINVAL: .*frobnicate/],
    [[file, "2", "-t", "nosuchfs", "--", "true"], /^edit_image: ENODEV: .*nosuchfs/],
    [[file, "2", "--", "/no/such/command"], /^edit_image: cannot run '\/no\/such\/command': /],
    [["/nowhere", "2", "--", "true"], /^edit_image: ENOENT: /],
  ];
  for (const [args, message] of cases) {
    const { status, stdout, stderr } = run(onThisRuntime(EDIT, ...args));
    assertEquals([status, stdout], [1, ""], args.join(" "));
    assertMatch(stderr, message);
  }
  assertStringIncludes(output(onThisRuntime(EDIT, "--help")), "Usage: edit_image.ts IMAGE");
  assertNothingLeft(file);
});

test(
  "edit_image.ts unmounts when the command is told to end, and when it is killed itself",
  [],
  async () => {
    const file = await image("signals.img");
    const script = "trap 'exit 9' TERM; echo $$; while :; do sleep 0.01; done";
    for (const [signal, end] of [["SIGTERM", 9], ["SIGKILL", "SIGKILL"]] as const) {
      const [name, ...args] = onThisRuntime(EDIT, file, "2", "--", "sh", "-c", script);
      const child = spawn(name, args, { stdio: ["ignore", "pipe", "inherit"] });
      const ended = new Promise((resolve) => child.on("exit", (code, by) => resolve(by ?? code)));
      const pid = await new Promise((resolve) => child.stdout.once("data", resolve));
      process.kill(child.pid!, signal);
      assertEquals(await ended, end);
      // A command that is left alone has the files still.
      if (signal === "SIGKILL") process.kill(Number(pid), "SIGKILL");
      await until(() => losetup(file).length === 0, "the kernel to detach");
      assertNothingLeft(file);
    }
  },
);

test("edit_image.ts passes no signal on to a command that has ended", ["strace"], async () => {
  const file = await image("ended.img");
  // While it unmounts; its answer would be an error of kill(2), or somebody else has got that number.
  const inject = "inject=umount2:signal=TERM:delay_exit=500ms:when=1";
  const strace = ["strace", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null"];
  const { status, stderr } = run([
    ...[...strace, "-e", "trace=umount2", "-e", inject],
    ...onThisRuntime(EDIT, file, "2", "--", "sh", "-c", "echo box >name; exit 7"),
  ]);
  assertEquals([status, stderr], [7, ""]);
  assertNothingLeft(file);
});

test("edit_image.ts says that somebody still has the files", [], async () => {
  const file = await image("busy.img");
  const script = "sleep 300 >/dev/null 2>&1 & echo $!";
  const { status, stdout, stderr } = run(onThisRuntime(EDIT, file, "2", "--", "sh", "-c", script));
  process.kill(Number(stdout), "SIGKILL");
  assertEquals(status, 0);
  assertMatch(stderr, /^edit_image: a process that the command started still uses the files: /);
  await until(() => losetup(file).length === 0, "the kernel to detach");
});

/** What build_image.ts is given: a tree, and two files that nobody boots here. */
function ingredients(): { tree: string; args: string[] } {
  const tree = scratch("tree");
  mkdirSync(join(tree, "etc"), { recursive: true });
  writeFileSync(join(tree, "etc/hostname"), "box\n");
  writeFileSync(join(tree, "etc/fstab"), "# UNCONFIGURED\n");
  const [kernel, initrd] = ["vmlinuz", "initrd"].map((name) => scratch(name));
  writeFileSync(kernel, "a kernel");
  writeFileSync(initrd, "an initrd");
  return { tree, args: ["--tree", tree, "--kernel", kernel, "--initrd", initrd, "--size", "256"] };
}

const builds = testsOf("build_image.ts", [
  "root",
  "sfdisk",
  "mkfs.vfat",
  "mkfs.ext4",
  "syslinux",
  "mcopy",
]);

builds("build_image.ts makes a disk of a folder, a kernel and an initrd", [], async () => {
  const { args } = ingredients();
  const file = scratch("built.img");
  const { status, stderr } = run(onThisRuntime(BUILD, file, ...args, "--append", "console=ttyS0"));
  assertEquals(status, 0, stderr);
  assertEquals(stderr.replaceAll(/\d+\.\d/g, "N").split("\n").length, 6, stderr);
  const { partitions } = await readPartitions(file);
  assertEquals(partitions.map(({ name, attributes }) => [name, attributes]), [
    ["esp", [2]],
    ["root", []],
  ]);
  const types = await Promise.all(partitions.map(async ({ start, size }) => {
    const { type, label } = (await fileSystem(file, { offset: start, sizelimit: size }))!;
    return `${type} ${label}`;
  }));
  assertEquals(types, ["vfat ESP", "ext4 root"]);
  const esp = `${file}@@${partitions[0].start}`;
  assertEquals(output(["mtype", "-i", esp, "::/vmlinuz"]), "a kernel");
  assertStringIncludes(
    output(["mtype", "-i", esp, "::/syslinux.cfg"]),
    `APPEND root=PARTUUID=${partitions[1].uuid} ro console=ttyS0\n`,
  );
  const read = "cat etc/hostname etc/fstab";
  const printed = output(onThisRuntime(EDIT, file, "2", "-r", "--", "sh", "-c", read));
  assertEquals(printed.split("\n").slice(0, 2), [
    "box",
    `PARTUUID=${partitions[1].uuid} / ext4 defaults 0 1`,
  ]);
  assertNothingLeft(file);
});

builds("build_image.ts leaves nothing of what fails or is interrupted", [], async () => {
  const { tree, args } = ingredients();
  const file = scratch("failed.img");
  const left = () => readdirSync(join(file, "..")).filter((name) => name.startsWith("failed"));
  writeFileSync(scratch("exists.img"), "");
  const cases: [args: string[], message: RegExp][] = [
    [[], /^build_image: no image given; try --help\n$/],
    [[file], /^build_image: --tree is missing; try --help\n$/],
    [[file, ...args, "--size", "255"], /^build_image: --size takes a number of MiB from 256 on/],
    [[file, ...args, "--tree", "/nowhere"], /^build_image: --tree: there is no '\/nowhere'\n$/],
    [[file, ...args, "--kernel", tree], /^build_image: --kernel: '.*' is a folder\n$/],
    [[file, ...args, "--append", "a\nb"], /^build_image: --append takes printable ASCII/],
    [[scratch("exists.img"), ...args], /^build_image: '.*' exists already\n$/],
    [["/nowhere/disk.img", ...args], /^build_image: ENOENT: /],
  ];
  for (const [args, message] of cases) {
    const { status, stdout, stderr } = run(onThisRuntime(BUILD, ...args));
    assertEquals([status, stdout], [1, ""], args.join(" "));
    assertMatch(stderr, message);
  }
  // A tree whose /etc leads out of it.
  const outside = scratch("outside");
  mkdirSync(outside);
  mkdirSync(scratch("stranger"));
  symlinkSync(outside, scratch("stranger/etc"));
  const stranger = run(onThisRuntime(BUILD, file, ...args, "--tree", scratch("stranger")));
  assertMatch(stranger.stderr, /build_image: '.*\/etc' is no folder\n$/);
  assertEquals(readdirSync(outside), []);
  // More than fits.
  writeFileSync(join(tree, "much"), new Uint8Array(140 * 1024 * 1024));
  const full = run(onThisRuntime(BUILD, file, ...args));
  assertMatch(full.stderr, /^build_image: tar ended with 2: \S*tar: /m);
  assertEquals(left(), []);

  const [name, ...rest] = onThisRuntime(BUILD, file, ...args, "--size", "600");
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    const child = spawn(name, rest, { stdio: ["ignore", "ignore", "pipe"] });
    const ended = new Promise((resolve) => child.on("exit", (code, by) => resolve(by ?? code)));
    await new Promise((resolve) => child.stderr.once("data", resolve));
    process.kill(child.pid!, signal);
    assertEquals(await ended, signal === "SIGINT" ? 130 : 143);
    assertEquals(left(), []);
  }
  assert(!existsSync(file));
  assertNothingLeft(file);
});
