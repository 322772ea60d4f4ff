/** An error leads back to the line of the program that called us, whatever queue or thread lies between. */
import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import process from "node:process";
import {
  attach,
  attachAll,
  detach,
  LoopError,
  openLoop,
  readPartitions,
  type SectorSize,
} from "../mod.ts";
import { makeImage, scratch, test } from "./support/support.ts";

async function errorOf(name: string, call: () => Promise<unknown>): Promise<Error> {
  try {
    await call();
  } catch (error) {
    return error as Error;
  }
  throw new Error(`${name} did not fail`);
}

/** If a queue cuts the stack off, this file is not in it at all. */
async function assertLeadsHere(calls: Record<string, () => Promise<unknown>>): Promise<void> {
  for (const [name, call] of Object.entries(calls)) {
    const { stack } = await errorOf(name, call);
    assertStringIncludes(stack!, "stacks.test.ts", name);
  }
}

test("an error of a method leads back to the line that called it", ["root"], async () => {
  const file = makeImage("stack.img", 1);
  const missing = scratch("missing.img");
  const loop = await attach(file);
  const held = await loop.lock();
  await assertLeadsHere({
    mount: async () => await loop.mount(7),
    fileSystem: async () => await loop.fileSystem(7),
    changeFile: async () => await loop.changeFile(missing),
    setSectorSize: async () => await loop.setSectorSize(7 as SectorSize),
    lock: async () => void await loop.lock({ timeout: 5 }),
    attach: async () => await attach(missing),
    number: async () => await attach(makeImage("other.img", 1), { number: loop.number }),
    overlap: async () => await attach(file, { overlap: "refuse" }),
    attachAll: async () => await attachAll([file, missing]),
    openLoop: async () => await openLoop("/dev/null"),
    detach: async () => await detach(missing),
    readPartitions: async () => await readPartitions(missing),
  });
  held.release();
  await loop.detach();
  await assertLeadsHere({
    mount: async () => await loop.mount(),
    fileSystem: async () => await loop.fileSystem(),
    persist: async () => await loop.persist(),
    lock: async () => void await loop.lock(),
    settled: async () => await loop.settled(),
    rescan: async () => await loop.rescan(),
    setCapacity: async () => await loop.setCapacity(),
    setDirectIo: async () => await loop.setDirectIo(false),
    setSectorSize: async () => await loop.setSectorSize(512),
    changeFile: async () => await loop.changeFile(file),
  });
});

test("an error with a hint of its own is one error, with one stack", ["root"], async () => {
  await using loop = await attach(makeImage("taken.img", 1));
  const other = makeImage("other.img", 1);
  const error = await assertRejects(() => attach(other, { number: loop.number }), LoopError);
  assertEquals([error.code, error.cause], ["EBUSY", undefined]);
  const hint = "the wanted device is attached or held already";
  assertStringIncludes(error.message, hint);
  // The stack is that of the call that was refused.
  assertStringIncludes(error.stack!, "loopConfigure");
  const { inspect } = process.getBuiltinModule("node:util");
  assertEquals(inspect(error).split("LoopError: ").length, 2, "it is printed once");
  assertEquals(error.stack!.split(hint).length, 2);
});
