/** Who is waited for when a device is let go, and for how long. */
import { assertEquals } from "@std/assert";
import { spawn } from "node:child_process";
import { copyFileSync } from "node:fs";
import { attach } from "../mod.ts";
import { losetup, makeImage, scratch, test, until } from "./support.ts";

/** Detaches while a program of this name has the device open, for longer than anybody's patience. */
async function detachBeside(program: string): Promise<string> {
  const file = makeImage("held.img", 1);
  const loop = await attach(file);
  // The kernel calls a process by its program's file.
  copyFileSync("/bin/sh", scratch(program));
  const script = 'exec 3<"$0" && echo held && read _ <&0';
  const child = spawn(scratch(program), ["-c", script, loop.path]);
  const closed = new Promise((resolve) => child.on("close", resolve));
  await new Promise((resolve) => child.stdout.once("data", resolve));
  const begin = performance.now();
  const outcome = loop.detach();
  await until(() => performance.now() - begin > 1500, "the end of our patience");
  child.stdin.end("\n");
  await closed;
  const said = await outcome;
  await until(() => losetup(file).length === 0, "the device to go");
  return said;
}

test("detach() waits for udevd longer than for others", ["root", "losetup"], async () => {
  assertEquals(await detachBeside("systemd-udevd"), "detached");
  assertEquals(await detachBeside("some-program"), "deferred");
});
