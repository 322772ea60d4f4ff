/**
 * Nobody who watches a loop device's node hears us close it: systemd-udevd before 259 would have the
 * partitions dropped and added again. inotifywait listens as udevd does.
 */
import { assert, assertEquals } from "@std/assert";
import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { attach } from "../mod.ts";
import { makeBlockNode } from "../lib/file.ts";
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

/** Which loop devices' nodes were closed by somebody who could write, while `act` ran. */
async function closedWritable(act: () => Promise<void> | void): Promise<string[]> {
  const log = scratch("inotify.log");
  const nodes = readdirSync("/dev").filter((name) => /^loop\d+$/.test(name)).map((name) =>
    `/dev/${name}`
  );
  const args = [
    "--monitor",
    "--event",
    "close_write",
    "--format",
    "%w",
    "--outfile",
    log,
    ...nodes,
  ];
  const watcher = spawn("inotifywait", args, { stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  watcher.stderr.on("data", (data) => said += data);
  const ended = new Promise((resolve) => watcher.on("exit", resolve));
  try {
    await until(() => said.includes("Watches established"), "inotifywait to watch");
    await act();
    // A close of our own at the end: when that is in the log, so is everything before it.
    output(["sh", "-c", `exec 3<>${nodes[0]}`]);
    await until(
      () => existsSync(log) && readFileSync(log, "utf8").includes(nodes[0]),
      "the last close",
    );
  } finally {
    watcher.kill();
    await ended;
  }
  return readFileSync(log, "utf8").trim().split("\n").slice(0, -1);
}

test("the watcher hears losetup", ["root", "inotifywait", "losetup"], async () => {
  const file = makeImage("losetup.img", 1);
  const heard = await closedWritable(() => {
    const device = output(["losetup", "--find", "--show", file]).trim();
    output(["losetup", "--detach", device]);
  });
  assert(heard.length > 0, "losetup was not heard: the tests below would see nothing");
});

for (const workaround of ["always", "never"] as const) {
  test(
    `attach() and detach() are not heard, workaround ${workaround}`,
    ["root", "inotifywait"],
    async () => {
      const file = makeImage("quiet.img", 1);
      const heard = await closedWritable(async () => {
        await using _ = await attach(file, { partscan: true, workaround });
      });
      assertEquals(heard, []);
    },
  );
}

test("persist(), exit and SIGKILL are not heard", ["root", "inotifywait", "losetup"], async () => {
  const file = makeImage("exit.img", 1);
  const script = scratch("exit.ts");
  writeFileSync(
    script,
    `import { attach } from ${JSON.stringify(MOD)};
     const kept = await attach(${JSON.stringify(file)});
     await kept.persist();
     await attach(${JSON.stringify(file)});
     process.kill(process.pid, "SIGKILL");`,
  );
  const heard = await closedWritable(async () => {
    run(onThisRuntime(script));
    await until(() => losetup(file).length === 1, "the device without persist() to go");
  });
  output(["losetup", "--detach", losetup(file)[0].name]);
  assertEquals(heard, []);
});

const ownNodes = () => readdirSync("/dev").filter((name) => name.startsWith(".loopdev-"));

test("attach() leaves no node of its own, and takes one over that a killed process left", [
  "root",
], async () => {
  const file = makeImage("node.img", 1);
  const { path, number } = await attach(file).then(async (loop) => {
    assertEquals(ownNodes(), []);
    await loop.detach();
    return loop;
  });
  makeBlockNode(`/dev/.loopdev-loop${number}`, `7:${number}`);
  await using again = await attach(file);
  assertEquals([again.path, ownNodes()], [path, []]);
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
