/**
 * Programs that do not await: a call that is under way belongs to its handle, and no other device is
 * touched by it, whatever the program does meanwhile.
 */
import { assertEquals, assertRejects } from "@std/assert";
import { writeFile } from "node:fs/promises";
import { attach } from "../mod.ts";
import { cString, O_RDONLY, open, OpenFile } from "../lib/kernel/file.ts";
import { uninterruptedOnThread } from "../lib/kernel/chain.ts";
import { detachElsewhere } from "./support/others.ts";
import { makeImage, output, scratch, sysfs, test } from "./support/support.ts";
import { traced } from "./support/traced.ts";

const turn = () => new Promise((resolve) => setTimeout(resolve, 0));

test("OpenFile keeps its descriptor until the calls of other threads are over", [], async () => {
  // open() of a FIFO waits for a writer: a call on another thread that ends when we say so.
  const fifo = scratch("fifo");
  output(["mkfifo", fifo]);
  const directory = open(scratch("."), O_RDONLY);
  const number = directory.call((fd) => fd as number);
  const opening = directory.callOnThread((fd) =>
    uninterruptedOnThread("openat", fd, cString("fifo"), O_RDONLY, 0)
  );
  await turn();
  directory.close();
  assertEquals(directory.isClosed, true);
  using other = open("/dev/null", O_RDONLY);
  assertEquals(other.call((fd) => fd === number as number), false, "the number is still taken");
  await writeFile(fifo, "");
  using _reader = new OpenFile(await opening, fifo);
  await turn();
  // Closed by another thread, a moment later.
  const isFree = () => {
    // Several: other tests' descriptors may have left lower numbers.
    const next = Array.from({ length: 64 }, () => open("/dev/null", O_RDONLY));
    const numbers = next.map((file) => file.call((fd) => fd as number));
    for (const file of next) file.close();
    return numbers.includes(number);
  };
  for (const end = Date.now() + 30_000; !isFree();) {
    if (Date.now() > end) throw new Error("the descriptor was never closed");
    await turn();
  }
});

test("setSectorSize() that nobody awaits never lands on the next device", ["root"], async () => {
  const [a, b] = ["a.img", "b.img"].map((name) => makeImage(name, 1));
  for (let round = 0; round < 20; round++) {
    {
      await using loop = await attach(a);
      loop.setSectorSize(4096).catch(() => {});
    }
    await using loop = await attach(b);
    await new Promise((resolve) => setTimeout(resolve, 20));
    assertEquals(sysfs(`loop${loop.number}/queue/logical_block_size`), "512", `round ${round}`);
  }
});

test("a request that another thread makes and the kernel refuses is made once", [
  "root",
  "strace",
], () => {
  const [a, b] = ["a.img", "b.img"].map((name) => makeImage(name, 1));
  const body = `await using loop = await attach(${JSON.stringify(a)}, { readOnly: false });
    console.log(await loop.changeFile(${JSON.stringify(b)}).catch(({ code }) => code));`;
  const { stdout, calls } = traced(body, { calls: "ioctl" });
  assertEquals(stdout, "EINVAL\n");
  assertEquals(calls.filter(({ text }) => text.includes("LOOP_CHANGE_FD")).length, 1);
});

test("a handle's operations take place one after another", ["root"], async () => {
  const file = makeImage("turns.img", 1);
  for (let round = 0; round < 5; round++) {
    const loop = await attach(file);
    const order: string[] = [];
    const settled = await Promise.allSettled([
      loop.setSectorSize(4096).then(() => order.push("setSectorSize")),
      loop.setSectorSize(512).then(() => order.push("again")),
      loop.detach().then(() => order.push("detach")),
      assertRejects(() => loop.setCapacity(), TypeError, "detached"),
    ]);
    assertEquals(settled.map(({ status }) => status), Array(4).fill("fulfilled"));
    assertEquals(order, ["setSectorSize", "again", "detach"]);
  }
});

test("persist() and detach() at once: the first that is called decides", ["root"], async () => {
  const file = makeImage("decides.img", 1);
  for (let round = 0; round < 10; round++) {
    const loop = await attach(file);
    const [persisted, detached] = await Promise.allSettled([loop.persist(), loop.detach()]);
    assertEquals([persisted.status, detached.status], ["fulfilled", "rejected"]);
    assertEquals(sysfs(`loop${loop.number}/loop/autoclear`), "0");
    assertEquals(detachElsewhere(loop.path), 0);

    const other = await attach(file);
    const results = await Promise.allSettled([other.detach(), other.persist()]);
    assertEquals(results.map(({ status }) => status), ["fulfilled", "rejected"]);
    assertEquals((results[0] as PromiseFulfilledResult<string>).value, "detached");
  }
});

test("persist() twice at once, and the end of the block, in their order", ["root"], async () => {
  const file = makeImage("both.img", 1);
  const loop = await attach(file);
  await Promise.all([loop.persist(), loop.persist(), loop[Symbol.asyncDispose]()]);
  assertEquals(sysfs(`loop${loop.number}/loop/autoclear`), "0");
  assertEquals(detachElsewhere(loop.path), 0);

  const other = await attach(file);
  const ended = other[Symbol.asyncDispose]();
  await assertRejects(() => other.persist(), TypeError, "detached");
  await ended;
  assertEquals(await other.detach(), "detached");
  await other[Symbol.asyncDispose]();
});
