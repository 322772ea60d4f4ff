/**
 * Nobody who watches a loop device's node hears us close it: systemd-udevd before 259 would have the
 * partitions dropped and added again. inotifywait listens as udevd does.
 */
import { assert, assertEquals } from "@std/assert";
import { spawn } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import { attach } from "../mod.ts";
import { makeBlockNode, O_RDWR, open, type OpenFile } from "../lib/file.ts";
import { loopCtlAdd, loopCtlRemove } from "../lib/loop.ts";
import {
  losetup,
  makeImage,
  MOD,
  onThisRuntime,
  output,
  run,
  scratch,
  test,
  until,
} from "./support.ts";

/** Two devices that nobody else is offered: far beyond the first free one. They go at the end. */
async function withOwnDevices(use: (a: number, b: number) => Promise<void>): Promise<void> {
  const numbers = [0, 1].map((n) => 10_000 + 2 * (process.pid % 100_000) + n);
  const each = async (act: (control: OpenFile, number: number) => unknown) => {
    using control = open("/dev/loop-control", O_RDWR);
    for (const number of numbers) await act(control, number);
  };
  await each(loopCtlAdd);
  try {
    await use(numbers[0], numbers[1]);
  } finally {
    await each(loopCtlRemove);
  }
}

/** Which of the devices' nodes were closed by somebody who could write, while `act` ran. */
async function closedWritable(
  numbers: number[],
  act: () => Promise<void> | void,
): Promise<string[]> {
  const log = scratch("inotify.log");
  const last = scratch("last");
  writeFileSync(last, "");
  const nodes = numbers.map((number) => `/dev/loop${number}`);
  const args = ["--monitor", "--event", "close_write", "--format", "%w", "--outfile", log];
  const watcher = spawn("inotifywait", [...args, ...nodes, last], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  let said = "";
  watcher.stderr.on("data", (data) => said += data);
  const ended = new Promise((resolve) => watcher.on("exit", resolve));
  try {
    await until(() => said.includes("Watches established"), "inotifywait to watch");
    await act();
    // A close of our own at the end: when that is in the log, so is everything before it.
    writeFileSync(last, "end");
    await until(
      () => existsSync(log) && readFileSync(log, "utf8").includes(last),
      "the last close",
    );
  } finally {
    watcher.kill();
    await ended;
  }
  return readFileSync(log, "utf8").trim().split("\n").filter((name) => name !== last);
}

test("the watcher hears losetup", ["root", "inotifywait", "losetup"], async () => {
  const file = makeImage("losetup.img", 1);
  await withOwnDevices(async (number) => {
    const heard = await closedWritable([number], () => {
      output(["losetup", `/dev/loop${number}`, file]);
      output(["losetup", "--detach", `/dev/loop${number}`]);
    });
    assert(heard.length > 0, "losetup was not heard: the tests below would see nothing");
  });
});

for (const workaround of ["always", "never"] as const) {
  test(
    `attach() and detach() are not heard, workaround ${workaround}`,
    ["root", "inotifywait"],
    async () => {
      const file = makeImage("quiet.img", 1);
      await withOwnDevices(async (number) => {
        const heard = await closedWritable([number], async () => {
          await using _ = await attach(file, { partscan: true, workaround, number });
        });
        assertEquals(heard, []);
      });
    },
  );
}

test("persist(), exit and SIGKILL are not heard", ["root", "inotifywait", "losetup"], async () => {
  const file = makeImage("exit.img", 1);
  await withOwnDevices(async (kept, lost) => {
    const script = scratch("exit.ts");
    writeFileSync(
      script,
      `import { attach } from ${JSON.stringify(MOD)};
       const kept = await attach(${JSON.stringify(file)}, { number: ${kept} });
       await kept.persist();
       await attach(${JSON.stringify(file)}, { number: ${lost} });
       process.kill(process.pid, "SIGKILL");`,
    );
    const heard = await closedWritable([kept, lost], async () => {
      run(onThisRuntime(script));
      await until(() => losetup(file).length === 1, "the device without persist() to go");
    });
    assertEquals(losetup(file).map(({ name }) => name), [`/dev/loop${kept}`]);
    output(["losetup", "--detach", `/dev/loop${kept}`]);
    assertEquals(heard, []);
  });
});

const ownNode = (number: number) => `/dev/.loopdev-loop${number}`;

test("attach() leaves no node of its own, and takes one over that a killed process left", [
  "root",
], async () => {
  const file = makeImage("node.img", 1);
  const { number } = await attach(file).then(async (loop) => {
    assertEquals(existsSync(ownNode(loop.number)), false);
    await loop.detach();
    return loop;
  });
  makeBlockNode(ownNode(number), `7:${number}`);
  await using _again = await attach(file, { number });
  assertEquals(existsSync(ownNode(number)), false);
});

test("attach() works where no node can be made", ["root", "setpriv"], () => {
  const file = makeImage("no-mknod.img", 1);
  const script = scratch("no-mknod.ts");
  writeFileSync(
    script,
    `import { attach } from ${JSON.stringify(MOD)};
     await using loop = await attach(${JSON.stringify(file)});
     console.log(loop.size);`,
  );
  const without = ["setpriv", "--bounding-set=-mknod", "--inh-caps=-mknod", "--"];
  assertEquals(output([...without, ...onThisRuntime(script)]), "1048576\n");
});
