/** cli.ts --detach: which device it tells, and for which it waits. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { spawn } from "node:child_process";
import { rmSync, symlinkSync } from "node:fs";
import { attach } from "../mod.ts";
import { attached, cliDevices, OURS } from "./support/cli_beside.ts";
import { attachElsewhere } from "./support/others.ts";
import {
  holdOpen,
  isBoundTo,
  isFile,
  losetup,
  makeImage,
  run,
  scratch,
  test,
  until,
} from "./support/support.ts";
import { whileStopped } from "./support/traced.ts";

const numberOf = (device: string) => Number(device.slice("/dev/loop".length));

test("cli.ts --detach --wait tells each device before it waits for the first one", [
  "root",
], async () => {
  const file = makeImage("several.img", 1);
  await using devices = cliDevices();
  const { D, E } = devices;
  for (const device of [D, E]) attachElsewhere(file, { number: numberOf(device) });
  const holder = await holdOpen(D);
  const [name, ...args] = [...OURS, "--detach", "--wait", "--timeout", "60000", D, E];
  const child = spawn(name, args, { stdio: "ignore" });
  const ended = new Promise((resolve) => child.on("exit", resolve));
  try {
    await until(() => !isBoundTo(E, isFile(file)), `${E} to be detached`);
    assertEquals(isBoundTo(D, isFile(file)), true);
  } finally {
    await holder[Symbol.asyncDispose]();
  }
  assertEquals([await ended, losetup(file)], [0, []]);
});

test("cli.ts --detach --wait waits for the device that it has opened, wherever a link leads then", [
  "root",
  "strace",
], async () => {
  const [meant, other] = [makeImage("meant.img", 1), makeImage("other.img", 1)];
  await using devices = cliDevices();
  const { D, E } = devices;
  attachElsewhere(meant, { number: numberOf(D) });
  attachElsewhere(other, { number: numberOf(E) });
  const link = scratch("link");
  symlinkSync(D, link);
  const opens = ["-e", "trace=?open,openat", "-e", "inject=?open,openat:signal=STOP:when=1"];
  const command = [...OURS, "--detach", "--wait", "--timeout", "500", link];
  const { status, stderr } = await whileStopped(
    ["--quiet=attach,exit,path-resolution", "-P", link, ...opens],
    command,
    () => {
      rmSync(link);
      symlinkSync(E, link);
    },
  );
  assertEquals([status, stderr], [0, ""]);
  assertEquals(Object.keys(attached(scratch(""))), [E]);
});

test("cli.ts --detach --wait of a partition waits for its disk", ["root"], async () => {
  const file = makeImage("disk.img", 4, "label: gpt\nsize=1MiB\n");
  const loop = await attach(file, { partscan: true });
  const [{ path }] = loop.partitions;
  await loop.persist();
  {
    await using _ = await holdOpen(loop.path);
    const { status, stderr } = run([...OURS, "--detach", "--wait", "--timeout", "50", path]);
    assertEquals(status, 1);
    assertStringIncludes(stderr, `${path}: still in use after 50 ms (`);
  }
  await until(() => losetup(file).length === 0, `${loop.path} gone`);
});
