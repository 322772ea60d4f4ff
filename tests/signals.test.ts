/**
 * SIGINT and SIGTERM at programs that wait with a device in their hands: the device goes, and the exit
 * code is 128 + n, by the program's own doing or by the shell's reading of its end.
 */
import { assert, assertEquals } from "@std/assert";
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { attachElsewhere } from "./support/others.ts";
import {
  bound,
  holdOpen,
  losetup,
  makeImage,
  onThisRuntime,
  ROOT,
  run,
  test,
  THREE_PARTITIONS,
  until,
  withStaticDev,
} from "./support/support.ts";

const CLI = join(ROOT, "cli.ts");
const ATTACH = join(ROOT, "examples/attach.ts");
const SIGNALS = ["SIGINT", "SIGTERM"] as const;

/** A /dev in which no first partition ever gets its node: a file is in its place. */
const OBSTRUCTED = withStaticDev(
  "mknod -m 600 /dev/loop-control c 10 237 && " +
    "touch $(seq -f /dev/loop%gp1 0 999)",
);

/** Starts a command; `ended` is its exit code as a shell tells it. */
function start(command: string[]): { child: ChildProcess; ended: Promise<number> } {
  const [name, ...args] = command;
  const child = spawn(name, args, { stdio: "ignore" });
  const ended = new Promise<number>((resolve) =>
    child.on("exit", (code, by) => resolve(by ? 128 + constants.signals[by] : code!))
  );
  return { child, ended };
}

/** Partitions without a node are no partitions that anybody can use, but they must go, too. */
function partitions(device: string): string {
  return run(["sh", "-c", `ls -d /sys/block/${device.slice(5)}/loop*p*`]).stdout;
}

const WAITING: Record<string, (file: string) => string[]> = {
  "cli.ts -fP --show": (file) => onThisRuntime(CLI, "-fP", "--show", "--timeout=60000", file),
  "attach.ts --partscan": (file) => onThisRuntime(ATTACH, file, "--partscan", "--timeout=60000"),
};
for (const [program, command] of Object.entries(WAITING)) {
  for (const signal of SIGNALS) {
    test(
      `${program} leaves no device when ${signal} comes while it waits for a node`,
      ["root"],
      async () => {
        const file = makeImage("waiting.img", 8, THREE_PARTITIONS);
        const { child, ended } = start([...OBSTRUCTED, ...command(file)]);
        await until(
          () => losetup(file).some(({ name }) => partitions(name) !== ""),
          `${program} to wait for partitions`,
        );
        const [{ name }] = losetup(file);
        // Not child.kill(): on Deno that makes the signal the reported end, whatever the child did.
        process.kill(child.pid!, signal);
        assertEquals(await ended, 128 + constants.signals[signal]);
        await until(() => losetup(file).length === 0, "the kernel to detach");
        // On a device that somebody else has bound by now they are theirs.
        const isTaken = () => bound(() => true).includes(name.slice(5));
        await until(() => partitions(name) === "" || isTaken(), "the partitions to go");
      },
    );
  }
}

for (const signal of SIGNALS) {
  test(
    `cli.ts --detach --wait ends at ${signal}; the device goes with its last user`,
    ["root"],
    async () => {
      const file = makeImage("held.img", 1);
      const device = attachElsewhere(file);
      {
        await using _ = await holdOpen(device);
        const { child, ended } = start(
          onThisRuntime(CLI, "--detach", "--wait", "--timeout=60000", device),
        );
        await until(() => losetup(file)[0].autoclear, "cli.ts to tell the kernel to detach");
        process.kill(child.pid!, signal);
        assertEquals(await ended, 128 + constants.signals[signal]);
        assert(existsSync(`/sys/block/${device.slice(5)}/loop/backing_file`), "held, and yet gone");
      }
      await until(() => losetup(file).length === 0, "the device to go with its holder");
    },
  );
}
