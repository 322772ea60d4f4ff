/** A device that others detach and attach anew while it is looked at. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { attachElsewhere, detachElsewhere, detachOwn } from "./support/others.ts";
import { ownDevices } from "./support/own_devices.ts";
import { isFile, makeImage, MOD, onThisRuntime, scratch, test } from "./support/support.ts";
import { whileStopped } from "./support/traced.ts";

/** What a script prints while which others `act`, stopped as `at` says (strace). */
async function printedBy(
  body: string,
  at: string[],
  act: () => void | Promise<void>,
): Promise<string> {
  const [script, out] = [scratch("looks.ts"), scratch("printed")];
  writeFileSync(script, `import * as loopdev from ${JSON.stringify(MOD)};\n${body}`);
  const command = ["sh", "-c", 'exec "$@" > "$0"', out, ...onThisRuntime(script)];
  const { status, stderr } = await whileStopped(
    ["--quiet=attach,exit,path-resolution", ...at],
    command,
    act,
  );
  assertEquals([status, stderr], [0, ""]);
  return readFileSync(out, "utf8").trim();
}

test("status() and list() say of each device what is true of one use", [
  "root",
  "strace",
], async () => {
  const [first, second] = [makeImage("first.img", 1), makeImage("second.img", 1)];
  await using own = ownDevices(1);
  const [[number], [path]] = [own.numbers, own.paths];
  const row = `backingFile, backingInode, offset }) => [backingFile, Number(backingInode), offset]`;
  const looks = [
    `[await loopdev.status("${path}")]`,
    `(await loopdev.list()).filter(({ path }) => path === "${path}")`,
  ];
  for (const look of looks) {
    attachElsewhere(first, { number });
    // It has asked for the file's inode then, and goes on with the range.
    const at = ["-P", path, "-e", "trace=close", "-e", "inject=close:signal=STOP:when=1"];
    const body = `console.log(JSON.stringify((${look}).map(({ ${row})));`;
    const printed = await printedBy(body, at, async () => {
      await detachOwn(path);
      attachElsewhere(second, { number, offset: 512 });
    });
    await detachOwn(path);
    assertEquals(JSON.parse(printed), [[second, statSync(second).ino, 512]], look);
  }
});

test("openLoop() opens no other device than the name led to when it looked", [
  "root",
  "strace",
], async () => {
  const [file, another] = [makeImage("meant.img", 1), makeImage("other.img", 1)];
  const [meant, other] = [attachElsewhere(file), attachElsewhere(another)];
  const link = scratch("link");
  symlinkSync(meant, link);
  const at = ["-P", link, "-e", "trace=statx", "-e", "inject=statx:signal=STOP:when=1"];
  const body = `const error = await loopdev.openLoop("${link}").catch((error) => error);
    console.log(error.code, error.message);`;
  const printed = await printedBy(body, at, () => {
    rmSync(link);
    symlinkSync(other, link);
  });
  detachElsewhere(meant, isFile(file));
  detachElsewhere(other, isFile(another));
  assertStringIncludes(printed, `ENXIO ENXIO: no such device or address, '${link}'`);
  assertStringIncludes(printed, `it was ${meant}, and leads to another device by now`);
});
