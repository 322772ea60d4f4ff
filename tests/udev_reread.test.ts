/**
 * Nobody who watches a loop device's node hears us close it: systemd-udevd before 259 would have the
 * partitions dropped and added again. The tests listen as udevd does.
 */
import { assert, assertEquals } from "@std/assert";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import { attach } from "../mod.ts";
import { isErrno } from "../lib/base/errors.ts";
import { makeBlockNode } from "../lib/kernel/file.ts";
import { libcCall, must, zeroed } from "./support/libc_call.ts";
import { attachElsewhere, detachElsewhere } from "./support/others.ts";
import { withOwnDevices } from "./support/own_devices.ts";
import {
  isolated,
  losetup,
  makeImage,
  MOD,
  onThisRuntime,
  output,
  run,
  scratch,
  sysfs,
  test,
  until,
  withoutCapability,
} from "./support/support.ts";

const inotify_init1 = libcCall("inotify_init1", "i32");
const inotify_add_watch = libcCall("inotify_add_watch", "i32", "buffer", "i32");
const read = libcCall("read", "i32", "buffer", "u64");
const close = libcCall("close", "i32");
const IN_CLOSE_WRITE = 8;
const IN_NONBLOCK = 0o4000, IN_CLOEXEC = 0o2000000;

/** Which of the devices' nodes were closed by somebody who could write, while `act` ran. */
async function closedWritable(
  numbers: number[],
  act: () => Promise<void> | void,
): Promise<string[]> {
  const fd = must(inotify_init1(IN_NONBLOCK | IN_CLOEXEC), "inotify_init1");
  try {
    const nodes = new Map(numbers.map((number) => {
      const node = `/dev/loop${number}`;
      return [must(inotify_add_watch(fd, node, IN_CLOSE_WRITE), node), node];
    }));
    await act();
    // The kernel queues the event in close() itself: whatever was closed by now is there.
    const heard: string[] = [];
    const buffer = zeroed(4096);
    for (;;) {
      const length = read(fd, buffer, buffer.length);
      if (isErrno(length, "EAGAIN")) return heard;
      must(length, "read");
      // struct inotify_event: int wd, __u32 mask, cookie, len, char name[len].
      const view = new DataView(buffer.buffer);
      for (let at = 0; at < length; at += 16 + view.getUint32(at + 12, true)) {
        heard.push(nodes.get(view.getInt32(at, true))!);
      }
    }
  } finally {
    close(fd);
  }
}

test("the watcher hears whoever attaches and detaches otherwise", ["root"], async () => {
  const file = makeImage("heard.img", 1);
  await withOwnDevices(async (number) => {
    const heard = await closedWritable([number], () => {
      assertEquals(detachElsewhere(attachElsewhere(file, { number })), 0);
    });
    const node = `/dev/loop${number}`;
    assert(heard.includes(node), "not heard: the tests below would see nothing");
    assertEquals(new Set(heard), new Set([node]));
  });
});

for (const workaround of ["always", "never"] as const) {
  test(
    `attach() and detach() are not heard, workaround ${workaround}`,
    ["root"],
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

test("locks are not heard", ["root"], async () => {
  const file = makeImage("locked.img", 1);
  await withOwnDevices(async (number) => {
    const heard = await closedWritable([number], async () => {
      await using loop = await attach(file, { lock: "shared", number });
      (await loop.lock()).release();
      await loop.lock();
    });
    assertEquals(heard, []);
  });
});

test("persist(), exit and SIGKILL are not heard", ["root"], async () => {
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
    assertEquals(detachElsewhere(`/dev/loop${kept}`), 0);
    assertEquals(heard, []);
  });
});

const ownNode = (number: number) => `/dev/.loopdev-loop${number}`;

test("attach() leaves no node of its own, and takes one over that a killed process left", [
  "root",
], async () => {
  const file = makeImage("node.img", 1);
  await withOwnDevices(async (number, other) => {
    {
      await using _loop = await attach(file, { number });
      assertEquals(existsSync(ownNode(number)), false);
    }
    // The last one leads to another device, and is not opened for ours.
    for (const led of [number, other]) {
      makeBlockNode(ownNode(number), `7:${led}`);
      await using loop = await attach(file, { number });
      assertEquals([loop.number, existsSync(ownNode(number))], [number, false]);
    }
    assertEquals(existsSync(`/sys/block/loop${other}/loop`), false);
  });
});

/** Whether this process has the device open for writing, by whatever node. */
function isWritable(number: number): boolean {
  const { stdout } = run(["ls", "-l", `/proc/${process.pid}/fd`]);
  const open = stdout.matchAll(/ (\d+) -> \/dev\/(?:\.loopdev-)?loop(\d+)(?: |\n)/g);
  const numbers = [...open].filter(([, , loop]) => Number(loop) === number).map(([, fd]) => fd);
  assert(numbers.length > 0, "the device is not open at all");
  const flags = (fd: string) =>
    readFileSync(`/proc/self/fdinfo/${fd}`, "utf8").match(/flags:\s*(\d+)/)![1];
  return numbers.some((fd) => (parseInt(flags(fd), 8) & 3) !== 0);
}

test("attach() keeps no writable descriptor, which would stand in a mount's way", [
  "root",
], async () => {
  const file = makeImage("kept.img", 1);
  for (const workaround of ["always", "never"] as const) {
    await using loop = await attach(file, { partscan: true, workaround });
    assertEquals(isWritable(loop.number), false);
    assertEquals([loop.readOnly, sysfs(`loop${loop.number}/ro`)], [false, "0"]);
  }
});

test("attach() keeps a writable one where the kernel wants it: without CAP_SYS_ADMIN", [
  "root",
], () => {
  const file = makeImage("no-admin.img", 1);
  const script = scratch("no-admin.ts");
  writeFileSync(
    script,
    `import { attach } from ${JSON.stringify(MOD)};
     const loop = await attach(${JSON.stringify(file)}, { partscan: true, workaround: "always" });
     await loop.setCapacity();
     await loop.persist();
     console.log(loop.strategy);`,
  );
  assertEquals(output([...isolated("with=mknod"), ...onThisRuntime(script)]), "two-step\n");
  assertEquals(detachElsewhere(losetup(file)[0].name), 0);
});

test("attach() works where no node can be made", ["root"], () => {
  const file = makeImage("no-mknod.img", 1);
  const script = scratch("no-mknod.ts");
  writeFileSync(
    script,
    `import { attach } from ${JSON.stringify(MOD)};
     await using loop = await attach(${JSON.stringify(file)});
     console.log(loop.size);`,
  );
  const without = withoutCapability("mknod");
  assertEquals(output([...without, ...onThisRuntime(script)]), "1048576\n");
});
