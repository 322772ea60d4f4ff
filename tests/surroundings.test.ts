/** Surroundings that nobody would choose: what attach() says in them, and that nothing is left. */
import { assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { spawn } from "node:child_process";
import {
  chmodSync,
  chownSync,
  mkdirSync,
  readFileSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { dirname } from "node:path";
import { attach, type AttachOptions, LoopError } from "../mod.ts";
import { ownDevices } from "./support/own_devices.ts";
import {
  assertDetached,
  bound,
  isolated,
  leftAttached,
  makeImage,
  MOD,
  onRuntime,
  onThisRuntime,
  openDescriptors,
  output,
  run,
  RUNTIME,
  scratch,
  test,
  THREE_PARTITIONS,
  until,
  withoutCapability,
  withStaticDev,
} from "./support/support.ts";

/** Attaches in a child process and gives what became of it: the first bytes, or code and message. */
function attachIn(
  wrapper: string[],
  file: string,
  options: AttachOptions = {},
  cwd?: string,
): { content?: string; code?: string; request?: string; message?: string } {
  const script = scratch("attach.ts");
  writeFileSync(
    script,
    `import { attach } from ${JSON.stringify(MOD)};
     import { readFileSync } from "node:fs";
     try {
       await using loop = await attach(${JSON.stringify(file)}, ${JSON.stringify(options)});
       console.log(JSON.stringify({ content: readFileSync(loop.path, "latin1").slice(0, 5) }));
     } catch ({ code, request, message }) {
       console.log(JSON.stringify({ code, request, message }));
     }`,
  );
  return JSON.parse(output([...wrapper, ...onThisRuntime(script)], { cwd }));
}

function writtenImage(name: string, content: string): string {
  const file = makeImage(name, 1);
  truncateSync(file, 0);
  writeFileSync(file, content);
  truncateSync(file, 1024 * 1024);
  return file;
}

test("a user who may open the devices but lacks CAP_SYS_ADMIN attaches, without partitions", [
  "root",
], async () => {
  const file = makeImage("disk-group.img", 8, THREE_PARTITIONS);
  await using own = ownDevices(1);
  const [[number], [path]] = [own.numbers, own.paths];
  // As udev's rules do for group disk.
  const nodes = `mknod -m 666 /dev/loop-control c 10 237 && mknod -m 666 ${path} b 7 ${number}`;
  const wrapper = [...withStaticDev(nodes), ...withoutCapability("all")];
  const plain = attachIn(wrapper, file, { number });
  assertEquals(plain.code, undefined, plain.message);
  // The kernel tells what of a file is cached to its owner alone, and to who may write to it.
  chownSync(file, 65534, 65534);
  chmodSync(file, 0o644);
  const refused = attachIn(wrapper, file, { partscan: "userspace", number });
  assertEquals([refused.code, refused.request], ["EACCES", "BLKPG_ADD_PARTITION"]);
  assertStringIncludes(refused.message!, "adding and removing partitions needs CAP_SYS_ADMIN");
  assertDetached(file);
});

test("CAP_SYS_ADMIN is all that partitions need beyond access to the devices", ["root"], () => {
  const file = makeImage("sys-admin.img", 8, THREE_PARTITIONS);
  writeFileSync(file, "HELLO", { flag: "r+" });
  for (const workaround of ["always", "never"] as const) {
    const { content, message } = attachIn(isolated("with=sys_admin"), file, {
      partscan: true,
      workaround,
    });
    assertEquals(content, "HELLO", message);
  }
});

test("attach() says that there is no loop driver behind /dev/loop-control", ["root"], () => {
  // A misc device of which this kernel has no driver, as loop's is where the module is missing.
  const wrapper = withStaticDev("mknod /dev/loop-control c 10 251");
  const { code, message } = attachIn(wrapper, makeImage("driver.img", 1));
  assertEquals(code, "ENODEV");
  assertStringIncludes(message!, "this kernel has no loop driver, or its module is not installed");
});

test("attach() says that /dev is mounted nodev, to root too", ["root"], () => {
  const wrapper = [...withStaticDev("mknod /dev/loop-control c 10 237"), ...isolated("nodev=/dev")];
  const { code, message } = attachIn(wrapper, makeImage("nodev.img", 1));
  assertEquals(code, "EACCES");
  assertStringIncludes(message!, "/dev is mounted nodev: mount -o remount,dev /dev");
});

test("attach() says that /dev/loop-control is something else", ["root"], () => {
  const file = makeImage("else.img", 1);
  const { code, message } = attachIn(withStaticDev("ln -s null /dev/loop-control"), file);
  assertEquals(code, "ENOTTY");
  assertStringIncludes(message!, "it is not the loop driver's control device");
});

test("attach() works under another personality, and believes no release below 5.8", [
  "root",
], () => {
  const file = makeImage("personality.img", 1);
  writeFileSync(file, "IMAGE", { flag: "r+" });
  assertEquals(attachIn(isolated("personality=linux32"), file).content, "IMAGE");
  const script = scratch("release.ts");
  writeFileSync(
    script,
    `import { report } from ${JSON.stringify(MOD)};
     const { kernel, gate } = await report();
     console.log(kernel.split(".")[0], gate);`,
  );
  const old = [...isolated("personality=uname-2.6"), ...onThisRuntime(script)];
  assertEquals(output(old).trim(), "2 affected");
});

test("attach() works where /dev is read-only", ["root"], () => {
  const file = writtenImage("read-only-dev.img", "HELLO");
  const { content, message } = attachIn(isolated("read-only=/dev"), file);
  assertEquals(content, "HELLO", message);
});

test("a file that is truncated while it is attached can still be detached", ["root"], async () => {
  const file = makeImage("truncated.img", 1);
  await using loop = await attach(file, { partscan: true });
  truncateSync(file, 4096);
  assertEquals(loop.size, 1024 * 1024);
  // Beyond its end there are zeros or errors, as the file system likes; nothing hangs.
  run(["dd", `if=${loop.path}`, "of=/dev/null", "bs=64k", "iflag=direct"]);
  await loop.setCapacity();
  assertEquals(loop.size, 4096);
  assertEquals(await loop.detach(), "detached");
  assertEquals([leftAttached(file), openDescriptors()], [[], []]);
});

test("a file that grows while it is attached is as large as it was, until setCapacity()", [
  "root",
], async () => {
  const file = makeImage("grown.img", 1);
  await using loop = await attach(file);
  truncateSync(file, 4 * 1024 * 1024);
  assertEquals(loop.size, 1024 * 1024);
  await loop.setCapacity();
  assertEquals(loop.size, 4 * 1024 * 1024);
});

test("attach() takes files of tmpfs, and read-only mounts read-only", ["root"], async () => {
  const folder = scratch("mounted");
  mkdirSync(folder);
  const fill = `printf HELLO >"$0/a.img" && truncate -s 1M "$0/a.img" && exec "$@"`;
  const onTmpfs = [...isolated(`tmpfs=${folder}`), "sh", "-c", fill, folder];
  const file = `${folder}/a.img`;
  assertEquals(attachIn(onTmpfs, file), { content: "HELLO" });
  const readOnly = [...onTmpfs, ...isolated(`read-only=${folder}`)];
  assertEquals(attachIn(readOnly, file), { content: "HELLO" });
  const refused = attachIn(readOnly, file, { readOnly: false });
  assertEquals(refused.code, "EROFS");
  assertStringIncludes(refused.message!, "read-only file system, open");
  await until(() => bound((path) => path.startsWith(folder)).length === 0, "the devices to go");
});

test("attach() attaches what it has looked at: a name that changes in between is no matter", [
  "root",
], async () => {
  const images = ["AAAAA", "BBBBB"].map((content) => writtenImage(`${content}.img`, content));
  const link = scratch("link.img");
  const swap = `while :; do ln -sfn ${images[0]} "$0"; ln -sfn ${images[1]} "$0"; done`;
  output(["ln", "-s", images[0], link]);
  // A group of its own: the shell's ln ends with it.
  const swapper = spawn("sh", ["-c", swap, link], { detached: true });
  const isOver = new Promise((resolve) => swapper.on("exit", resolve));
  try {
    const seen = new Set<string>();
    for (let round = 0; round < 100; round++) {
      await using loop = await attach(link).catch((error) => {
        // ln replaces a link by removing it first.
        if (error instanceof LoopError && error.code === "ENOENT") return undefined;
        throw error;
      });
      if (!loop) continue;
      const content = readFileSync(loop.path, "latin1").slice(0, 5);
      assertEquals(loop.backingFile, scratch(`${content}.img`));
      seen.add(content);
    }
    assertEquals(seen.size, 2, "both were met");
  } finally {
    process.kill(-swapper.pid!, "SIGKILL");
    await isOver;
  }
});

test("attach() takes a name of 4095 bytes, and says that one of 4096 is too long", [
  "root",
], async () => {
  const base = scratch("long");
  const folders = `/${"d".repeat(200)}`.repeat(Math.floor((4095 - base.length - 100) / 201));
  mkdirSync(base + folders, { recursive: true });
  const start = `${base}${folders}/`;
  const file = start + "f".repeat(4095 - start.length);
  const [name, folder] = [file.slice(start.length), dirname(file)];
  output(["truncate", "-s", "1M", name], { cwd: folder });
  await using loop = await attach(file);
  assertEquals([loop.backingFile, loop.size], [file, 1024 * 1024]);
  const error = await assertRejects(() => attach(`${file}f`), LoopError);
  assertEquals(error.code, "ENAMETOOLONG");
  assertMatch(error.message, /file name too long/);
});

test("a file whose name is no UTF-8 is attached by a link, and found by its inode", [
  "root",
], async () => {
  const image = makeImage("plain.img", 1);
  const folder = scratch("bytes");
  mkdirSync(folder);
  output([
    "sh",
    "-c",
    'mv "$0" "$1/$(printf "\\377\\376")" && ln -s "$1"/* "$1.link"',
    image,
    folder,
  ]);
  await using loop = await attach(`${folder}.link`);
  assertEquals(loop.backingFile, `${folder}/\udcff\udcfe`);
  const same = `[ "$(cat "/sys/block/loop$1/loop/backing_file")" -ef "$0" ]`;
  assertEquals(run(["sh", "-c", same, `${folder}.link`, `${loop.number}`]).status, 0);
  await assertRejects(() => attach("/tmp/\ud800.img"), TypeError, "is not valid Unicode");
});

test("attach() on Bun says that memory cannot be made executable", ["root", "bun"], () => {
  const refusing = isolated("refuse=executable-memory");
  // PR_SET_MDWE came with Linux 6.3.
  if (run([...refusing, "true"]).status !== 0) return;
  const script = scratch("refused.ts");
  writeFileSync(
    script,
    `import { attach } from ${JSON.stringify(MOD)};
     const { name, message } = await attach("/etc/passwd").catch((error) => error);
     console.log(JSON.stringify([name, message]));`,
  );
  const [name, message] = JSON.parse(output([...refusing, ...onRuntime("bun", script)]));
  assertEquals(name, "Error");
  assertStringIncludes(message, "Bun's FFI cannot make memory executable here: allow it");
});

test("attach() on Deno works where memory cannot be made executable, with V8's --jitless", [
  "root",
], () => {
  const refusing = isolated("refuse=executable-memory");
  if (RUNTIME !== "deno" || run([...refusing, "true"]).status !== 0) return;
  const file = makeImage("jitless.img", 1);
  const script = scratch("jitless.ts");
  writeFileSync(
    script,
    `import { attach } from ${JSON.stringify(MOD)};
     const options = { partscan: true, workaround: "always" };
     const loop = await attach(${JSON.stringify(file)}, options);
     console.log(loop.strategy, await loop.detach());`,
  );
  const [deno, ...rest] = onThisRuntime(script);
  const jitless = rest.toSpliced(1, 0, "--v8-flags=--jitless");
  assertEquals(output([...refusing, deno, ...jitless]), "two-step detached\n");
});

test("a libc.so.6 in the working directory is not loaded", ["root", "cc"], () => {
  const folder = scratch("planted");
  mkdirSync(folder);
  const source = `${folder}/planted.c`;
  writeFileSync(
    source,
    `#include <stdlib.h>
     __attribute__((constructor)) static void load(void) { system("touch ${folder}/loaded"); }`,
  );
  output(["cc", "-shared", "-fPIC", "-o", `${folder}/libc.so.6`, source]);
  chmodSync(`${folder}/libc.so.6`, 0o755);
  const file = writtenImage("planted.img", "HELLO");
  assertEquals(attachIn([], file, {}, folder), { content: "HELLO" });
  assertEquals(run(["ls", `${folder}/loaded`]).status === 0, false);
});
