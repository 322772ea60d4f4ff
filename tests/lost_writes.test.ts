/**
 * What was written to a device and is lost is said. The image lies in a tmpfs that is too small for it:
 * programs write into the page cache of the device, exit with 0, and the kernel loses it afterwards.
 */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  assertDetached,
  isolated,
  makeImage,
  MOD,
  onThisRuntime,
  output,
  PATIENTLY,
  ROOT,
  run,
  scratch,
  test,
  testsOf,
  THREE_PARTITIONS,
} from "./support/support.ts";
import { traced } from "./support/traced.ts";

const withFullDisk = testsOf("what was written and is lost", ["root", "mount", "mkfs.ext4"]);

/** What is left of an error on its way through JSON. */
interface Told {
  code: string;
  syscall: string;
  path: string;
  message: string;
  isLoopError: boolean;
}

const TABLE = "label: gpt\nsize=20MiB, name=one\nsize=40MiB, name=two\n";

/** A command that runs where `image.img` in `folder` has 64 MiB, and the file system below it 16. */
function whereFull(folder: string): string[] {
  mkdirSync(folder, { recursive: true });
  const image = makeImage("image.img", 64, TABLE);
  const setUp = 'mount -o remount,size=16m "$0" && cp --sparse=always "$1" "$0/image.img" && ' +
    'shift && exec "$@"';
  return [...isolated(`tmpfs=${folder}`), "sh", "-c", setUp, folder, image];
}

/** What does not fit there. */
function content(): string {
  const path = scratch("content");
  writeFileSync(path, new Uint8Array(40 * 1024 * 1024).fill(7));
  return path;
}

/** What `body` says there. It knows what mod.ts exports, fill(node), which dd does, and tell(error). */
function saidWhereFull(body: string): { said: Record<string, unknown>; stderr: string } {
  const [folder, script] = [scratch("full"), scratch("body.ts")];
  writeFileSync(
    script,
    `import { spawnSync } from "node:child_process";
     import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
     import { attach, attachAll, detach, growImage, LoopError, mountImage, openLoop, readPartitions } from ${
      JSON.stringify(MOD)
    };
     const image = ${JSON.stringify(`${folder}/image.img`)};
     const run = (...words) => {
       const { status, stderr } = spawnSync(words[0], words.slice(1), { encoding: "utf8" });
       if (status !== 0) throw new Error(stderr);
     };
     const fill = (node) => run("dd", "if=${content()}", "of=" + node, "bs=1M", "conv=notrunc");
     const sparse = (path, mib) => {
       writeFileSync(path, "");
       truncateSync(path, mib * 1024 * 1024);
       return path;
     };
     const tell = (error) => {
       const { code, syscall, path, message } = error;
       return { code, syscall, path, message, isLoopError: error instanceof LoopError };
     };
     // For a detach() whose result is looked at: a neighbour on a busy machine may have the device open.
     const patiently = ${JSON.stringify(PATIENTLY)};
     const said = {};
     ${body}
     console.log(JSON.stringify(said));`,
  );
  const { stdout, stderr } = run([...whereFull(folder), ...onThisRuntime(script)]);
  assert(stdout.startsWith("{"), stderr);
  return { said: JSON.parse(stdout), stderr };
}

function assertLost(error: unknown, what: RegExp): void {
  const { code, syscall, path, message, isLoopError } = error as Told;
  assertEquals([code, isLoopError], ["EIO", true], message);
  assertMatch(syscall, /^(fsync|sync_file_range)$/);
  assertMatch(path, what);
  assertStringIncludes(message, "image.img, and it is lost: is there space left");
}

withFullDisk("detach() says that what was written to the device is lost", ["root", "mount"], () => {
  const { said } = saidWhereFull(`{
    await using loop = await attach(image);
    fill(loop.path);
    said.first = await loop.detach(patiently).catch(tell);
    said.again = await loop.detach().catch(tell);
    said.isGone = !(await loop.isCurrent()) && (await loop.holders()).length === 0;
  }`);
  assertLost(said.first, /^\/dev\/loop\d+$/);
  assertStringIncludes((said.first as Told).message, "The device is detached; attach the file");
  assertEquals([said.again, said.isGone], [said.first, true]);
});

withFullDisk(
  "detach() says that what was written to a partition is lost",
  ["root", "mount"],
  () => {
    const { said } = saidWhereFull(`{
    await using loop = await attach(image, { partscan: true });
    fill(loop.partitions[1].path);
    said.lost = await loop.detach().catch(tell);
  }`);
    assertLost(said.lost, /^\/dev\/loop\d+p2$/);
  },
);

withFullDisk(
  "the end of a block says what is lost, and only what nobody was told",
  ["root", "mount"],
  () => {
    const { said, stderr } = saidWhereFull(`
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

withFullDisk(
  "the end of a block says what is lost, though unmount() had another reason to reject",
  [
    "root",
    "mount",
    "mkfs.ext4",
  ],
  () => {
    const { said } = saidWhereFull(`
    const inBlock = async (name, mount) => {
      run("mkfs.ext4", "-q", "-O", "^has_journal", "-E", "offset=1048576", image, "20m");
      try {
        await using mounted = await mount();
        const folder = mounted.path + "/lost+found";
        run("mount", "-t", "tmpfs", "none", folder);
        said[name] = await mounted.unmount().catch(tell);
        run("umount", folder);
        writeFileSync(mounted.path + "/big", new Uint8Array(17 * 2 ** 20).fill(7));
      } catch (error) {
        said["lost by " + name] = tell(error);
      }
    };
    const loop = await attach(image, { partscan: true });
    await inBlock("a mount", () => loop.mount(1));
    await loop.detach(patiently);
    await inBlock("a tree", () => mountImage(image));
    run("mkfs.ext4", "-q", "-O", "^has_journal", "-E", "offset=1048576", image, "20m");
    const tree = await mountImage(image);
    // Of the partition that is not mounted.
    fill(tree.loop.partitions[1].path);
    said.device = await tree.unmount().catch(tell);
    said.nothing = await tree[Symbol.asyncDispose]() ?? "nothing";
  `);
    assertLost(said.device, /^\/dev\/loop\d+p2$/);
    assertEquals(said.nothing, "nothing");
    for (const name of ["a mount", "a tree"]) {
      assertEquals((said[name] as Told).code, "EBUSY");
      const { code, message } = said[`lost by ${name}`] as Told;
      // An ext4 that has met the error while it wrote its own data is read-only by then. ENOSPC is what the full
      // file system has told the loop device, which the kernel may pass on.
      assertMatch(code, /^(EIO|EROFS|ENOSPC)$/, message);
      assertStringIncludes(message, "and it is lost: is there space left");
    }
  },
);

withFullDisk("persist() says what is lost, and changes nothing then", ["root", "mount"], () => {
  const { said } = saidWhereFull(`{
    await using loop = await attach(image);
    fill(loop.path);
    said.lost = await loop.persist().catch(tell);
    said.isCurrent = await loop.isCurrent();
  }`);
  assertLost(said.lost, /^\/dev\/loop\d+$/);
  assertStringIncludes((said.lost as Told).message, "Nothing was changed");
  assertEquals(said.isCurrent, true);
});

withFullDisk("detach() of a path or a file says what is lost", ["root", "mount"], () => {
  const { said } = saidWhereFull(`
    for (const target of ["file", "path"]) {
      const loop = await attach(image, { partscan: true });
      const { path, partitions } = loop;
      await loop.persist();
      fill(target === "path" ? path : partitions[1].path);
      said[target] = await detach(target === "path" ? path : image, patiently).catch(tell);
      said[target + " again"] = await detach(image).catch(({ code }) => code);
    }
  `);
  assertLost(said.path, /^\/dev\/loop\d+$/);
  assertLost(said.file, /^\/dev\/loop\d+p2$/);
  assertEquals([said["path again"], said["file again"]], ["ENXIO", "ENXIO"]);
});

withFullDisk(
  "a loss that somebody else was told of is said at detach() all the same",
  ["root", "mount"],
  () => {
    const { said } = saidWhereFull(`{
    await using loop = await attach(image);
    fill(loop.path);
    said.theirs = spawnSync("sync", [loop.path]).status;
    said.lost = await loop.detach().catch(tell);
  }
  {
    // A new use of the device: what was lost before it is none of its business.
    await using loop = await attach(image);
    said.next = await loop.detach(patiently);
  }`);
    assertEquals([said.theirs, said.next], [1, "detached"]);
    assertLost(said.lost, /^\/dev\/loop\d+$/);
  },
);

withFullDisk("detach() says that the disk below the backing file lost it", [
  "root",
  "mount",
  "mkfs.ext4",
], () => {
  const { said } = saidWhereFull(`{
    await using outer = await attach(image);
    run("mkfs.ext4", "-q", outer.path);
    const folder = mkdtempSync(image + "-mount");
    run("mount", outer.path, folder);
    const inner = await attach(sparse(folder + "/image.img", 50));
    fill(inner.path);
    // The page cache of the file has all of it: what fails is the disk below.
    said.lost = await inner.detach().catch(tell);
    run("umount", folder);
    await outer.detach().catch(() => {});
  }`);
  assertLost(said.lost, /^\/dev\/loop\d+$|image\.img$/);
});

withFullDisk("an end that was told is not told again", ["root", "mount"], () => {
  const { said, stderr } = saidWhereFull(`
    const loop = await attach(image);
    fill(loop.path);
    said.first = await loop[Symbol.asyncDispose]().catch(tell);
    said.second = await loop[Symbol.asyncDispose]() ?? "nothing";
    const opened = await attach(image).then(async (loop) => {
      await loop.persist();
      return await openLoop(loop.path);
    });
    try {
      await using loop = opened;
      fill(loop.path);
      await loop.detach();
    } catch (error) {
      said.opened = tell(error);
    }
  `);
  assertLost(said.first, /^\/dev\/loop\d+$/);
  assertLost(said.opened, /^\/dev\/loop\d+$/);
  assertEquals([said.second, stderr], ["nothing", ""]);
});

withFullDisk(
  "the end of several devices says each loss that nobody was told of",
  ["root", "mount"],
  () => {
    const { said } = saidWhereFull(`
    const images = [image, ...["b", "c"].map((name) => sparse(image + name, 64))];
    const inBlock = async (told) => {
      await using loops = await attachAll(images);
      for (const { path } of loops) fill(path);
      for (const loop of loops.slice(0, told)) await loop.detach().catch(() => {});
    };
    for (const told of [0, 1, 2, 3]) {
      said[told] = await inBlock(told).then(
        () => [],
        (error) => (error instanceof AggregateError ? error.errors : [error]).map(tell),
      );
    }
  `);
    const counts = [0, 1, 2, 3].map((told) => {
      const errors = said[told] as Told[];
      for (const error of errors) assertEquals([error.code, error.isLoopError], ["EIO", true]);
      return errors.length;
    });
    assertEquals(counts, [3, 2, 1, 0]);
  },
);

withFullDisk("detach() hears its signal while it writes back, and the loss is said later", [
  "root",
  "strace",
], () => {
  const files = [makeImage("slow.img", 16), makeImage("again.img", 16)];
  const delay = 4000;
  const body = `
    import { writeFileSync } from "node:fs";
    const said = await Promise.all(${JSON.stringify(files)}.map(async (file, i) => {
      const loop = await attach(file);
      writeFileSync(loop.path, new Uint8Array(8 * 1024 * 1024).fill(7));
      const signal = AbortSignal.timeout(50);
      const begin = performance.now();
      const heard = await loop.detach({ signal }).catch((error) => error === signal.reason);
      // Less than the write-back takes, however busy the machine is.
      const isSoon = performance.now() - begin < ${delay};
      // The end of a block, or whoever asks again, waits for it and hears how it ended.
      const end = i === 0 ? loop[Symbol.asyncDispose]() : loop.detach();
      const lost = await end.catch(({ code, path }) => [code, path === loop.path]);
      await loop[Symbol.asyncDispose]();
      return [heard, isSoon, lost];
    }));
    console.log(JSON.stringify(said));`;
  const inject = `fsync:error=EIO:delay_enter=${delay * 1000}`;
  const { stdout } = traced(body, { calls: "openat,fsync", inject });
  assertEquals(JSON.parse(stdout), Array(2).fill([true, true, ["EIO", true]]));
  for (const file of files) assertDetached(file);
});

withFullDisk("the examples say what is lost, on stderr and not by an exit code alone", [
  "root",
  "mount",
  "mkfs.ext4",
], () => {
  const folder = scratch("full");
  const image = `${folder}/image.img`;
  const example = (name: string, ...args: string[]) =>
    run([...whereFull(folder), ...onThisRuntime(join(ROOT, `examples/${name}.ts`), ...args)]);
  const cp = ["dd", `if=${content()}`, "bs=1M", "conv=notrunc", "status=none"];
  const written = example("attach", image, "--", "sh", "-c", '"$@" of=$LOOP_DEVICE', "sh", ...cp);
  assertEquals(written.status, 1);
  assertMatch(written.stderr, /^attach: EIO: .* and it is lost: is there space left .*\n$/);
  const script = 'mkfs.ext4 -q "$0" && exec "$@"';
  const wrapper = whereFull(folder);
  const edited = run([
    ...[...wrapper, "sh", "-c", script, image],
    ...onThisRuntime(join(ROOT, "examples/edit_image.ts"), image, "--", ...cp, "of=big"),
  ]);
  assertEquals(edited.status, 1);
  assertMatch(edited.stderr, /^(edit_image: (EIO|ENOSPC): .* and it is lost: .*\n)+$/);
});

withFullDisk("growImage() says that there is no space for its table, which stays whole", [
  "root",
  "mount",
], () => {
  const { said } = saidWhereFull(`
  spawnSync("dd", ["if=/dev/zero", "of=" + image + ".other", "bs=64k"]);
  const before = await readPartitions(image);
  said.grown = await growImage(image, { size: 128 * 2 ** 20 }).catch(tell);
  const after = await readPartitions(image);
  said.isWhole = JSON.stringify(after) === JSON.stringify(before) && after.header === "primary";
  rmSync(image + ".other");
  said.again = (await growImage(image)).partition.to;`);
  const { code, message } = said.grown as Told;
  assertEquals([code, said.isWhole], ["EIO", true], message);
  assertStringIncludes(message, "another grow() goes on from there");
  assert(Number(said.again) > 100 * 2 ** 20);
});

test("detach() lets the device go though it can open no file to ask what was written", [
  "quiet",
  "root",
], () => {
  const file = makeImage("unasked.img", 8, THREE_PARTITIONS);
  const script = scratch("unasked.ts");
  writeFileSync(
    script,
    `import { attach } from ${JSON.stringify(MOD)};
     import { closeSync, openSync, readFileSync } from "node:fs";
     const loop = await attach(${JSON.stringify(file)}, { partscan: true });
     const { number, diskseq } = loop;
     // Whoever has taken the device since has made it another disk.
     const isOver = () => {
       try {
         readFileSync("/sys/block/loop" + number + "/loop/backing_file");
         return readFileSync("/sys/block/loop" + number + "/diskseq", "utf8").trim() !== String(diskseq);
       } catch {
         return true;
       }
     };
     const taken = [];
     try {
       for (;;) taken.push(openSync("/dev/null"));
     } catch {
       // The process has reached its limit.
     }
     const heard = await loop.detach(${JSON.stringify(PATIENTLY)}).catch(({ code }) => code);
     for (const fd of taken) closeSync(fd);
     // Asked before the process ends, which would detach it too.
     for (let tries = 0; !isOver() && tries < 1000; tries++) {
       await new Promise((resolve) => setTimeout(resolve, 10));
     }
     console.log(taken.length > 9, heard, isOver());`,
  );
  const limited = ["sh", "-c", 'ulimit -n 128 && exec "$@"', "sh", ...onThisRuntime(script)];
  assertEquals(output(limited), "true EMFILE true\n");
  assertDetached(file);
});
