/**
 * What is told where a call fails, and then what was to explain it or to undo it fails as well. strace makes
 * them fail; torture's part "faults" does it with every call.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { attach, list, LoopError } from "../mod.ts";
import { withMore, withSecond } from "../lib/base/errors.ts";
import { ext4Image } from "./support/mount_image.ts";
import { makeImage, scratch, test } from "./support/support.ts";
import { traced } from "./support/traced.ts";

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
  const { stdout } = traced(
    `${told(image, {})}
     say(await act(async (loop) => {
       const root = await loop.mount();
       try {
         await root.unmount();
       } catch (error) {
         return { ...tell(error), path: root.path };
       }
     }));`,
    { calls: "openat,readlinkat", inject: "readlinkat:error=EIO:when=1+", here: true },
  );
  const { code, path, message } = JSON.parse(stdout).result;
  assertEquals(code, "EIO");
  assert(message.includes(`umount ${path} unmounts it`), message);
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
  const long = scratch("e".repeat(250));
  renameSync(base, long);
  try {
    const { path } = loop;
    const [status] = (await list()).filter((one) => one.path === path);
    assertMatch(status.backingFile, /too long for the kernel to tell/);
    const other = makeImage("short.img", 1);
    await using beside = await attach(other, { overlap: "refuse" });
    assertEquals(beside.backingFile, other);
    assertEquals(await loop.detach(), "detached");
  } finally {
    renameSync(long, base);
  }
});
