/**
 * What was written to a device and is lost is said. The image lies in a tmpfs that is too small for it:
 * programs write into the page cache of the device, exit with 0, and the kernel loses it afterwards.
 */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { mkdirSync, writeFileSync } from "node:fs";
import { isolated, losetup, makeImage, MOD, onThisRuntime, run, scratch, test } from "./support.ts";

/** What is left of an error on its way through JSON. */
interface Told {
  code: string;
  syscall: string;
  path: string;
  message: string;
  isLoopError: boolean;
}

const TABLE = "label: gpt\nsize=20MiB, name=one\nsize=40MiB, name=two\n";

/**
 * Runs `body` where `image` has 64 MiB and the file system below it 16; gives what it says. It knows what
 * mod.ts exports, fill(node), which cp does, and tell(error).
 */
function whereFull(body: string): { said: Record<string, unknown>; stderr: string } {
  const [folder, script, content] = [scratch("full"), scratch("body.ts"), scratch("content")];
  mkdirSync(folder, { recursive: true });
  writeFileSync(content, new Uint8Array(40 * 1024 * 1024).fill(7));
  const image = makeImage("image.img", 64, TABLE);
  writeFileSync(
    script,
    `import { spawnSync } from "node:child_process";
     import { attach, attachAll, detach, LoopError, openLoop } from ${JSON.stringify(MOD)};
     const image = ${JSON.stringify(`${folder}/image.img`)};
     const fill = (node) => {
       const { status, stderr } = spawnSync("dd", [
         "if=${content}", "of=" + node, "bs=1M", "conv=notrunc",
       ], { encoding: "utf8" });
       if (status !== 0) throw new Error(stderr);
     };
     const tell = (error) => {
       const { code, syscall, path, message } = error;
       return { code, syscall, path, message, isLoopError: error instanceof LoopError };
     };
     const said = {};
     ${body}
     console.log(JSON.stringify(said));`,
  );
  const setUp = 'mount -o remount,size=16m "$0" && cp --sparse=always "$1" "$0/image.img" && ' +
    'shift && exec "$@"';
  const { stdout, stderr } = run([
    ...isolated(`tmpfs=${folder}`),
    ...["sh", "-c", setUp, folder, image],
    ...onThisRuntime(script),
  ]);
  assert(stdout.startsWith("{"), stderr);
  assertEquals(losetup(image), []);
  return { said: JSON.parse(stdout), stderr };
}

function assertLost(error: unknown, what: RegExp): void {
  const { code, syscall, path, message, isLoopError } = error as Told;
  assertEquals([code, isLoopError], ["EIO", true], message);
  assertMatch(syscall, /^(fsync|sync_file_range)$/);
  assertMatch(path, what);
  assertStringIncludes(message, "image.img, and it is lost: is there space left");
}

test("detach() says that what was written to the device is lost", ["root", "mount"], () => {
  const { said } = whereFull(`{
    await using loop = await attach(image);
    fill(loop.path);
    said.first = await loop.detach().catch(tell);
    said.again = await loop.detach().catch(tell);
    said.isGone = !(await loop.isCurrent()) && (await loop.holders()).length === 0;
  }`);
  assertLost(said.first, /^\/dev\/loop\d+$/);
  assertStringIncludes((said.first as Told).message, "The device is detached; attach the file");
  assertEquals([said.again, said.isGone], [said.first, true]);
});

test("detach() says that what was written to a partition is lost", ["root", "mount"], () => {
  const { said } = whereFull(`{
    await using loop = await attach(image, { partscan: true });
    fill(loop.partitions[1].path);
    said.lost = await loop.detach().catch(tell);
  }`);
  assertLost(said.lost, /^\/dev\/loop\d+p2$/);
});

test(
  "the end of a block says what is lost, and only what nobody was told",
  ["root", "mount"],
  () => {
    const { said, stderr } = whereFull(`
    try {
      await using loop = await attach(image);
      fill(loop.path);
    } catch (error) {
      said.block = tell(error);
    }
    try {
      await using loop = await attach(image);
      fill(loop.path);
      await loop.detach();
    } catch (error) {
      said.told = tell(error);
    }
    try {
      await using loops = await attachAll([image]);
      fill(loops[0].path);
    } catch (error) {
      said.all = tell(error);
    }
  `);
    for (const lost of [said.block, said.told, said.all]) assertLost(lost, /^\/dev\/loop\d+$/);
    assertEquals(stderr, "");
  },
);

test("persist() says what is lost, and changes nothing then", ["root", "mount"], () => {
  const { said } = whereFull(`{
    await using loop = await attach(image);
    fill(loop.path);
    said.lost = await loop.persist().catch(tell);
    said.isCurrent = await loop.isCurrent();
  }`);
  assertLost(said.lost, /^\/dev\/loop\d+$/);
  assertStringIncludes((said.lost as Told).message, "Nothing was changed");
  assertEquals(said.isCurrent, true);
});

test("detach() of a path or a file says what is lost", ["root", "mount"], () => {
  const { said } = whereFull(`
    for (const target of ["file", "path"]) {
      const loop = await attach(image, { partscan: true });
      const { path, partitions } = loop;
      await loop.persist();
      fill(target === "path" ? path : partitions[1].path);
      said[target] = await detach(target === "path" ? path : image).catch(tell);
      said[target + " again"] = await detach(image).catch(({ code }) => code);
    }
  `);
  assertLost(said.path, /^\/dev\/loop\d+$/);
  assertLost(said.file, /^\/dev\/loop\d+p2$/);
  assertEquals([said["path again"], said["file again"]], ["ENXIO", "ENXIO"]);
});

test(
  "a loss that somebody else was told of is said at detach() all the same",
  ["root", "mount"],
  () => {
    const { said } = whereFull(`{
    await using loop = await attach(image);
    fill(loop.path);
    said.theirs = spawnSync("sync", [loop.path]).status;
    said.lost = await loop.detach().catch(tell);
  }
  {
    // A new use of the device: what was lost before it is none of its business.
    await using loop = await attach(image);
    said.next = await loop.detach();
  }`);
    assertEquals([said.theirs, said.next], [1, "detached"]);
    assertLost(said.lost, /^\/dev\/loop\d+$/);
  },
);

test("detach() says that the disk below the backing file lost it", [
  "root",
  "mount",
  "mkfs.ext4",
], () => {
  const { said } = whereFull(`{
    const { mkdtempSync, truncateSync, writeFileSync } = await import("node:fs");
    const run = (...words) => {
      const { status, stderr } = spawnSync(words[0], words.slice(1), { encoding: "utf8" });
      if (status !== 0) throw new Error(stderr);
    };
    await using outer = await attach(image);
    run("mkfs.ext4", "-q", outer.path);
    const folder = mkdtempSync(image + "-mount");
    run("mount", outer.path, folder);
    const file = folder + "/image.img";
    writeFileSync(file, "");
    truncateSync(file, 50 * 1024 * 1024);
    const inner = await attach(file);
    fill(inner.path);
    // The page cache of the file has all of it: what fails is the disk below.
    said.lost = await inner.detach().catch(tell);
    run("umount", folder);
    await outer.detach().catch(() => {});
  }`);
  assertLost(said.lost, /^\/dev\/loop\d+$|image\.img$/);
});
