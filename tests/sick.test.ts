/**
 * A disk that does not answer: a FUSE file system whose server says nothing, so that every name on it
 * keeps whoever looks it up. Signals are heard all the same, and other disks served.
 */
import { assert, assertEquals } from "@std/assert";
import { closeSync, openSync, truncateSync, writeFileSync, writeSync } from "node:fs";
import { attach } from "../mod.ts";
import { ext4Image } from "./support/mount_image.ts";
import {
  isolated,
  losetup,
  makeImage,
  MOD,
  onThisRuntime,
  output,
  scratch,
} from "./support/support.ts";
import { test, testsOf, until } from "./support/support.ts";

const withSickDisk = testsOf("a disk that does not answer", ["root", "mount", "fuse"]);

const MOUNT = "exec 9<>/dev/fuse\n" +
  "mount -i -t fuse -o fd=9,rootmode=40000,user_id=0,group_id=0 sick /mnt\n" +
  'exec "$@"';

/** Runs a program for which /mnt is such a disk, and `file` an image; what it shows. */
function besideSickDisk(file: string, body: string): Record<string, unknown> {
  const script = scratch("sick.ts");
  writeFileSync(
    script,
    `import process from "node:process";
     import { attach } from ${JSON.stringify(MOD)};
     const [file, sick] = [${JSON.stringify(file)}, "/mnt/sick.img"];
     const show = (value) => {
       console.log(JSON.stringify(value));
       process.exit(0);
     };
     ${body}`,
  );
  const shell = ["sh", "-ec", MOUNT, "sh"];
  return JSON.parse(output([...isolated("tmpfs=/mnt"), ...shell, ...onThisRuntime(script)]));
}

withSickDisk("attach() hears its signal while a disk hangs, and other disks are served", [], () => {
  // More than Bun's usual threads.
  const { reasons, took, detached } = besideSickDisk(
    makeImage("well.img", 1),
    `const begun = performance.now();
     const attaches = Array.from({ length: 20 }, () =>
       attach(sick, { signal: AbortSignal.timeout(300) }));
     const ended = await Promise.allSettled(attaches);
     const took = performance.now() - begun;
     const options = { partscan: true, workaround: "always", signal: AbortSignal.timeout(20_000) };
     const loop = await attach(file, options);
     show({ reasons: ended.map(({ reason }) => reason?.name), took, detached: await loop.detach() });`,
  );
  assertEquals(reasons, Array(20).fill("TimeoutError"));
  // The disk never answers.
  assert(Number(took) < 30_000, `${took} ms`);
  assertEquals(detached, "detached");
});

withSickDisk("an operation behind one that hangs hears its signal", [], async () => {
  const file = makeImage("handle.img", 1);
  const shown = besideSickDisk(
    file,
    `const loop = await attach(file, { readOnly: true });
     loop.changeFile(sick).catch(() => {});
     const names = {};
     for (const name of ["rescan", "settled", "lock", "detach"]) {
       const signal = AbortSignal.timeout(100);
       names[name] = await loop[name]({ signal }).then(() => "done", (error) => error.name);
     }
     show(names);`,
  );
  const heard = { rescan: "TimeoutError", settled: "TimeoutError", lock: "TimeoutError" };
  assertEquals(shown, { ...heard, detach: "TimeoutError" });
  await until(() => losetup(file).length === 0, "the device to go with its process");
});

test("rescan() hears its signal while the backing file's disk hangs", [
  ...["root", "mkfs.ext4", "umount", "fsfreeze"] as const,
], async () => {
  await using outer = await attach(ext4Image("outer.img"));
  await using root = await outer.mount();
  const file = `${root.path}/inner.img`;
  writeFileSync(file, "");
  truncateSync(file, 2 ** 20);
  await using loop = await attach(file);
  // It ends by itself: where the signal is not heard, the test fails and does not hang.
  await using _frozen = await root.freeze({ timeout: 20_000 });
  const disk = openSync(loop.path, "r+");
  writeSync(disk, new Uint8Array(4096).fill(1), 0, 4096, 2 ** 19);
  const begun = performance.now();
  const { name } = await loop.rescan({ signal: AbortSignal.timeout(100) }).then(
    () => ({ name: "done" }),
    (error) => error,
  );
  const took = performance.now() - begun;
  closeSync(disk);
  assertEquals(name, "TimeoutError");
  assert(took < 10_000, `${took} ms`);
});
