/** A static /dev, as in containers: whatever the kernel adds, nobody makes a node. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { writeFileSync } from "node:fs";
import { attach } from "../mod.ts";
import { detachElsewhere } from "./others.ts";
import { ownDevices } from "./own_devices.ts";
import {
  losetup,
  makeImage,
  MOD,
  onThisRuntime,
  output,
  scratch,
  sysfs,
  test,
  THREE_PARTITIONS,
  withStaticDev,
} from "./support.ts";

/** {@linkcode THREE_PARTITIONS} without the second one. */
const WITHOUT_THE_SECOND = `label: gpt
1: start=2048, size=2048, name=one
3: start=8192, size=6144, name=three
`;

const CONTROL = "mknod /dev/loop-control c 10 237";

/** Runs `body`, which may use attach() and `file`, in such a /dev, and gives what it prints as JSON. */
function inStaticDev(setup: string, file: string, body: string): unknown {
  const script = scratch("static.ts");
  writeFileSync(
    script,
    `import { attach } from ${JSON.stringify(MOD)};
     import { spawnSync } from "node:child_process";
     import { readdirSync } from "node:fs";
     const file = ${JSON.stringify(file)};
     // Of other devices may be nodes, too: attach() makes one before it loses the race for a device.
     const nodes = (number) => readdirSync("/dev").filter((name) => {
       return new RegExp("^(\\\\.loopdev-)?loop" + number + "(p\\\\d+)?$").test(name);
     }).sort();
     const dev = (path) => spawnSync("stat", ["-c", "%t:%T", path], { encoding: "utf8" }).stdout.trim();
     ${body}`,
  );
  return JSON.parse(output([...withStaticDev(setup), ...onThisRuntime(script)]));
}

test("attach() makes the nodes that do not appear, and detach() removes them", ["root"], () => {
  const file = makeImage("static.img", 8, THREE_PARTITIONS);
  const [number, during, after] = inStaticDev(
    CONTROL,
    file,
    `const loop = await attach(file, { partscan: true });
     const during = nodes(loop.number);
     await loop.detach();
     console.log(JSON.stringify([loop.number, during, nodes(loop.number)]));`,
  ) as [number, string[], string[]];
  const disk = `loop${number}`;
  assertEquals(during, [disk, `${disk}p1`, `${disk}p2`, `${disk}p3`]);
  assertEquals(after, []);
  assertEquals(losetup(file), []);
});

test("attach() takes the wanted device without /dev/loop-control", [
  "root",
  "unshare",
], async () => {
  const file = makeImage("alone.img", 1);
  await using own = ownDevices(1);
  const [number] = own.numbers;
  const body = `const { code, path } = await attach(file, { number: ${number} })
      .then(async (loop) => (await loop.detach(), loop), (error) => error);
    console.log(JSON.stringify([code, path]));`;
  const make = (minor: number) => `mknod /dev/loop${number} b 7 ${minor}`;
  // Neither the device nor anything to make it with.
  assertEquals(inStaticDev("true", file, body), ["ENOENT", "/dev/loop-control"]);
  // Opening its node makes the device; then it is there.
  for (let times = 0; times < 2; times++) {
    assertEquals(inStaticDev(make(number), file, body), [null, `/dev/loop${number}`]);
  }
  assertEquals(losetup(file), []);
});

test("attach() replaces a stale node, and only one of a block device", ["root"], async () => {
  const file = makeImage("stale.img", 8, THREE_PARTITIONS);
  await using own = ownDevices(1);
  const [[number], [path]] = [own.numbers, own.paths];
  const stale = `mknod ${path} b 7 99; mknod ${path}p1 b 7 98`;
  const [disk, first] = inStaticDev(
    `${CONTROL} && ${stale}`,
    file,
    `await using loop = await attach(file, { partscan: true, number: ${number} });
     console.log(JSON.stringify([dev(loop.path), dev(loop.path + "p1")]));`,
  ) as [string, string];
  assertEquals(disk, `7:${number.toString(16)}`);
  assert(first !== "7:62", first);

  const regular = `mknod ${path} b 7 ${number}; touch ${path}p1`;
  const { code, message } = inStaticDev(
    `${CONTROL} && ${regular}`,
    file,
    `const options = { partscan: true, timeout: 300, number: ${number} };
     const { code, message } = await attach(file, options).catch((e) => e);
     console.log(JSON.stringify({ code, message }));`,
  ) as { code: string; message: string };
  assertEquals(code, "ETIMEDOUT");
  assertStringIncludes(message, "p1: a file, not a block device");
});

test('attach() with nodes "kernel" only waits, with "never" does not look', ["root"], async () => {
  const file = makeImage("policy.img", 8, THREE_PARTITIONS);
  await using own = ownDevices(1);
  const [number] = own.numbers;
  const nodes = `${CONTROL} && mknod /dev/loop${number} b 7 ${number}`;
  const body = (policy: string) =>
    `const options = { partscan: true, timeout: 300, nodes: "${policy}", number: ${number} };
     const outcome = await attach(file, options)
       .then(async (loop) => (await loop.detach(), loop.partitions.length), ({ code }) => code);
     console.log(JSON.stringify(outcome));`;
  assertEquals(inStaticDev(nodes, file, body("kernel")), "ETIMEDOUT");
  assertEquals(inStaticDev(nodes, file, body("never")), 3);
  assertEquals(losetup(file), []);
});

test("persist() leaves the nodes that it made", ["root"], () => {
  const file = makeImage("kept.img", 1);
  const [path, left] = inStaticDev(
    CONTROL,
    file,
    `const loop = await attach(file);
     await loop.persist();
     console.log(JSON.stringify([loop.path, nodes(loop.number)]));`,
  ) as [string, string[]];
  assertEquals(detachElsewhere(path), 0);
  assertEquals(left, [path.slice("/dev/".length)]);
});

test("attach() takes dev_t from sysfs, not from the device's number", ["root"], async () => {
  await using loop = await attach(makeImage("dev.img", 1));
  assertEquals(
    output(["stat", "-c", "%Hr:%Lr", loop.path]).trim(),
    sysfs(`loop${loop.number}/dev`),
  );
});

test("rescan() removes the nodes of partitions that are gone, and keeps the others", [
  "root",
], () => {
  const file = makeImage("rescan.img", 8, THREE_PARTITIONS);
  const [number, left] = inStaticDev(
    CONTROL,
    file,
    `const loop = await attach(file, { partscan: true });
     const { writeTable } = await import(${
      JSON.stringify(new URL("disk_image.ts", import.meta.url))
    });
     writeTable(file, ${JSON.stringify(WITHOUT_THE_SECOND)});
     await loop.rescan();
     const left = nodes(loop.number);
     await loop.detach();
     console.log(JSON.stringify([loop.number, left]));`,
  ) as [number, string[]];
  assertEquals(left, [`loop${number}`, `loop${number}p1`, `loop${number}p3`]);
});
