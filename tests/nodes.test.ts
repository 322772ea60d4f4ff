/** A static /dev, as in containers: whatever the kernel adds, nobody makes a node. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { attach } from "../mod.ts";
import { blkRoSet } from "../lib/kernel/block.ts";
import { O_RDONLY, open } from "../lib/kernel/file.ts";
import { detachElsewhere } from "./support/others.ts";
import { ownDevices } from "./support/own_devices.ts";
import {
  assertDetached,
  isolated,
  makeImage,
  MOD,
  onThisRuntime,
  output,
  PATIENTLY,
  ROOT,
  scratch,
  sysfs,
  test,
  THREE_PARTITIONS,
  withStaticDev,
} from "./support/support.ts";

/** {@linkcode THREE_PARTITIONS} without the second one. */
const WITHOUT_THE_SECOND = `label: gpt
1: start=2048, size=2048, name=one
3: start=8192, size=6144, name=three
`;

const CONTROL = "mknod /dev/loop-control c 10 237";

/**
 * Runs `body`, which may use attach() and `file`, in such a /dev, and gives what it prints as JSON. `around`: what
 * runs the runtime.
 */
function inStaticDev(setup: string, file: string, body: string, around: string[] = []): unknown {
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
  return JSON.parse(output([...withStaticDev(setup), ...around, ...onThisRuntime(script)]));
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
  assertDetached(file);
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
  assertDetached(file);
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

test("attach() says what to do about a file that has the name of a device's node", [
  "root",
], async () => {
  const file = makeImage("obstructed.img", 1);
  await using own = ownDevices(1);
  const [[number], [path]] = [own.numbers, own.paths];
  const [wanted, free, hasWaited, after] = inStaticDev(
    `${CONTROL} && for n in $(seq 0 999) ${number}; do echo mine >/dev/loop$n; done`,
    file,
    `const refusal = (options) => attach(file, options).catch(({ code, message }) => [code, message]);
     // A busy machine may take its time once, but who waits for a node takes a second each time.
     let refused, hasWaited = true;
     for (let tries = 0; tries < 20 && hasWaited; tries++) {
       const since = performance.now();
       refused = [await refusal({ number: ${number} }), await refusal({})];
       hasWaited = performance.now() - since > 1000;
     }
     spawnSync("rm", ["${path}"]);
     await using loop = await attach(file, { number: ${number} });
     console.log(JSON.stringify([...refused, hasWaited, loop.path]));`,
  ) as [string[], string[], boolean, string];
  for (const [code, message] of [wanted, free]) {
    assertEquals(code, "ENOTBLK");
    assertMatch(
      message,
      /a file has the name of this device's node.*mv (\/dev\/loop\d+) .*or rm it/,
    );
  }
  assertEquals([hasWaited, after], [false, path]);
});

test('attach() with nodes "kernel" only waits, with "never" does not look', ["root"], async () => {
  const file = makeImage("policy.img", 8, THREE_PARTITIONS);
  await using own = ownDevices(1);
  const [number] = own.numbers;
  const nodes = `${CONTROL} && mknod /dev/loop${number} b 7 ${number}`;
  const body = (policy: string, timeout: number) =>
    `const options = { partscan: true, timeout: ${timeout}, nodes: "${policy}", number: ${number} };
     const outcome = await attach(file, options)
       .then(async (loop) => (await loop.detach(), loop.partitions.length), ({ code }) => code);
     console.log(JSON.stringify(outcome));`;
  assertEquals(inStaticDev(nodes, file, body("kernel", 300)), "ETIMEDOUT");
  assertEquals(inStaticDev(nodes, file, body("never", 30_000)), 3);
  assertDetached(file);
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
      JSON.stringify(new URL("cases/disk_image.ts", import.meta.url))
    });
     writeTable(file, ${JSON.stringify(WITHOUT_THE_SECOND)});
     await loop.rescan();
     const left = nodes(loop.number);
     await loop.detach();
     console.log(JSON.stringify([loop.number, left]));`,
  ) as [number, string[]];
  assertEquals(left, [`loop${number}`, `loop${number}p1`, `loop${number}p3`]);
});

/** In the static /dev: what cli.ts prints. */
const TOOL = `const tool = (...args) => {
  const [name, ...rest] = ${JSON.stringify(onThisRuntime(join(ROOT, "cli.ts")))};
  return spawnSync(name, [...rest, ...args], { encoding: "utf8" }).stdout.trim();
};`;

test("who detaches removes the nodes of partitions that are gone, whoever made them", [
  "quiet",
  "root",
], async () => {
  const file = makeImage("left.img", 8, THREE_PARTITIONS);
  // Where a neighbour has taken the device meanwhile, its nodes stay.
  await using own = ownDevices(1);
  const path = `/dev/loop${own.numbers[0]}`;
  const ways: [what: string, detaching: string][] = [
    ["losetup -d", `tool("-d", path);`],
    ["losetup -d --wait", `tool("-d", "--wait", path);`],
    ["detach(file)", `await detach(file);`],
    ["openLoop()", `await (await openLoop(path)).detach();`],
  ];
  const disk = path.slice("/dev/".length);
  for (const [what, detaching] of ways) {
    const said = () =>
      inStaticDev(
        CONTROL,
        file,
        `import { detach, openLoop } from ${JSON.stringify(MOD)};
         ${TOOL}
         const path = ${JSON.stringify(path)};
         tool("-P", path, file);
         // Nobody knows who made this one. And these are no node of the partition.
         spawnSync("chmod", ["600", path + "p2"]);
         spawnSync("sh", ["-c", 'rm "$0p3" && mknod "$0p3" b 7 250 && touch "$0p4"', path]);
         const during = nodes(path.slice("/dev/loop".length));
         ${detaching}
         console.log(JSON.stringify([during, nodes(path.slice("/dev/loop".length))]));`,
      ) as [string[], string[]];
    let [during, after] = said();
    assertDetached(file);
    // Where a neighbour looks at all devices just then, he has the last close, and the nodes stay.
    for (let tries = 0; after.includes(disk) && tries < 10; tries++) {
      [during, after] = said();
      assertDetached(file);
    }
    assertEquals(during, [disk, ...[1, 2, 3, 4].map((n) => `${disk}p${n}`)], what);
    assertEquals(after, [`${disk}p3`, `${disk}p4`], what);
  }
});

test("losetup -d leaves the nodes of a device that stays, and the disk's own that others made", [
  "root",
], () => {
  const file = makeImage("stays.img", 8, THREE_PARTITIONS);
  const [path, held, after] = inStaticDev(
    `${CONTROL} && for n in $(seq 0 63); do mknod /dev/loop$n b 7 $n; done`,
    file,
    `import { closeSync, openSync } from "node:fs";
     ${TOOL}
     const path = tool("-fP", "--show", file);
     const partition = openSync(path + "p2", "r");
     tool("-d", path);
     const held = nodes(path.slice("/dev/loop".length));
     closeSync(partition);
     console.log(JSON.stringify([path, held, nodes(path.slice("/dev/loop".length))]));`,
  ) as [string, string[], string[]];
  const disk = path.slice("/dev/".length);
  assertEquals(held, [disk, `${disk}p1`, `${disk}p2`, `${disk}p3`]);
  assert(after.includes(disk));
  assertDetached(file);
});

test("nodes that a killed process made, or one whose device another got, go with the next detach", [
  "root",
], async () => {
  await using own = ownDevices(1);
  const file = makeImage("next.img", 8, THREE_PARTITIONS);
  const [number] = own.numbers;
  const script = scratch("killed.ts");
  writeFileSync(
    script,
    `import { attach } from ${JSON.stringify(MOD)};
     await attach(${JSON.stringify(file)}, { partscan: true, number: ${number} });
     console.log("attached");
     setInterval(() => {}, 1000);`,
  );
  const [killed, lost, refused, after] = inStaticDev(
    CONTROL,
    file,
    `import { spawn } from "node:child_process";
     import { existsSync } from "node:fs";
     import { O_EXCL, O_RDONLY, open } from ${
      JSON.stringify(new URL("../lib/kernel/file.ts", import.meta.url))
    };
     const options = { partscan: true, number: ${number} };
     const [name, ...args] = ${JSON.stringify(onThisRuntime(script))};
     const child = spawn(name, args, { stdio: ["ignore", "pipe", "inherit"] });
     await new Promise((resolve) => child.stdout.once("data", resolve));
     child.kill("SIGKILL");
     await new Promise((resolve) => child.on("close", resolve));
     while (existsSync("/sys/block/loop${number}/loop")) await new Promise((r) => setTimeout(r, 5));
     const killed = nodes(${number});
     await (await attach(file, options)).detach();
     const lost = nodes(${number});
     // Another process is about to take the device.
     spawnSync("mknod", ["/dev/theirs", "b", "7", "${number}"]);
     const theirs = open("/dev/theirs", O_RDONLY | O_EXCL);
     const { code } = await attach(file, options).catch((error) => error);
     const refused = [code, ...nodes(${number})];
     theirs.close();
     await (await attach(file, options)).detach();
     console.log(JSON.stringify([killed, lost, refused, nodes(${number})]));`,
  ) as string[][];
  const disk = `loop${number}`;
  assertEquals(killed, [disk, `${disk}p1`, `${disk}p2`, `${disk}p3`]);
  assertEquals(lost, []);
  assertEquals(refused, ["EBUSY", disk]);
  assertEquals(after, []);
});

/** What the scripts below take from the library's inside. */
const INSIDE = `import { O_RDONLY, O_RDWR, open } from ${
  JSON.stringify(new URL("../lib/kernel/file.ts", import.meta.url))
};
import { LO_FLAGS_AUTOCLEAR, loopConfigure, loopCtlAdd, loopCtlRemove } from ${
  JSON.stringify(new URL("../lib/kernel/loop.ts", import.meta.url))
};
const sh = (...words) => spawnSync(words[0], words.slice(1));`;

test("attach() makes a device again that others remove before it has its node", [
  "root",
], async () => {
  const file = makeImage("again.img", 1);
  await using own = ownDevices(1);
  const [number] = own.numbers;
  const said = inStaticDev(
    CONTROL,
    file,
    `${INSIDE}
     import { existsSync } from "node:fs";
     using control = open("/dev/loop-control", O_RDWR);
     const removed = () => loopCtlRemove(control, ${number}).then(() => true, () => false);
     // On a busy machine the device can be bound before we hear that it is there.
     let loop, during, isMeant = false;
     for (let round = 0; !isMeant && round < 20; round++) {
       while (existsSync("/sys/block/loop${number}")) await removed();
       const attaching = attach(file, { number: ${number} });
       while (!existsSync("/sys/block/loop${number}")) await new Promise((r) => setTimeout(r));
       isMeant = await removed();
       loop = await attaching;
       during = nodes(${number});
       await loop.detach();
     }
     while (existsSync("/sys/block/loop${number}")) await removed();
     // It is removed while attach() waits for the kernel's node, and then the caller gives up.
     const stop = new AbortController();
     const waiting = attach(file, { number: ${number}, nodes: "kernel", signal: stop.signal });
     while (!existsSync("/sys/block/loop${number}")) await new Promise((r) => setTimeout(r));
     while (!await removed());
     stop.abort("enough");
     const reason = await waiting.catch((reason) => reason);
     console.log(JSON.stringify([isMeant, reason, loop.path, during, nodes(${number})]));`,
  );
  assertEquals(said, [true, "enough", `/dev/loop${number}`, [`loop${number}`], []]);
});

test("attach() that may not make a device writable says how, and leaves no node of it", [
  "root",
], async () => {
  const file = makeImage("setro.img", 1);
  await using own = ownDevices(1);
  const [[number], [path]] = [own.numbers, own.paths];
  await (await attach(file, { number })).detach(PATIENTLY);
  {
    using device = open(path, O_RDONLY);
    blkRoSet(device, true);
  }
  // Where a neighbour looks at all devices just then, he has the last close, and the node stays.
  const body = `let refused, left;
    for (let tries = 0; left?.length !== 0 && tries < 10; tries++) {
      refused = await attach(file, { number: ${number} }).catch((error) => error);
      left = nodes(${number});
    }
    console.log(JSON.stringify([refused.code, refused.message, left]));`;
  const [code, message, left] = inStaticDev(
    CONTROL,
    file,
    body,
    isolated("without=sys_admin"),
  ) as [string, string, string[]];
  assertEquals([code, left], ["EACCES", []]);
  assertStringIncludes(message, `an earlier use has left it read-only: blockdev --setrw ${path}`);
  assertDetached(file);
});

test("attach() says that a node is another loop device, and binds nothing there", [
  "root",
], async () => {
  const file = makeImage("swapped.img", 1);
  await using own = ownDevices(2);
  const [number, other] = own.numbers;
  const [code, message, isBound] = inStaticDev(
    `${CONTROL} && mknod /dev/loop${number} b 7 ${other}`,
    file,
    `${INSIDE}
     import { existsSync } from "node:fs";
     {
       using control = open("/dev/loop-control", O_RDWR);
       for (const number of ${JSON.stringify(own.numbers)}) loopCtlAdd(control, number);
     }
     const options = { number: ${number}, readOnly: true, nodes: "never" };
     const { code, message } = await attach(file, options).catch((error) => error);
     // A neighbour who looks at all devices may have it open for a moment.
     const isBound = () => existsSync("/sys/block/loop${other}/loop");
     for (let tries = 0; isBound() && tries < 1000; tries++) await new Promise((r) => setTimeout(r, 5));
     console.log(JSON.stringify([code, message, isBound()]));`,
  ) as [string, string, boolean];
  assertEquals([code, isBound], ["ENOTBLK", false]);
  assertStringIncludes(message, `it is loop device ${other}`);
});

test("attach() probes again after a probe that was refused", ["root"], async () => {
  const file = makeImage("probed.img", 1);
  await using own = ownDevices(1);
  const said = inStaticDev(
    "true",
    file,
    `${INSIDE}
     const probing = () => attach(file, { partscan: true, workaround: "probe", number: ${
      own.numbers[0]
    } })
       .then((loop) => loop.detach(), ({ code, path }) => code + " " + path);
     const refused = await Promise.all([probing(), probing()]);
     sh("mknod", "/dev/loop-control", "c", "10", "237");
     console.log(JSON.stringify([...refused, await probing()]));`,
  );
  const refused = "ENOENT /dev/loop-control";
  assertEquals(said, [refused, refused, "detached"]);
});

test("a /dev in which no node can be made or opened is said, and keeps no device from its end", [
  "root",
  "mount",
], async () => {
  const [file, other] = ["fixed.img", "other.img"].map((name) =>
    makeImage(name, 8, THREE_PARTITIONS)
  );
  await using own = ownDevices(3);
  const [first, second, third] = own.numbers;
  const [rescanned, refused, unopened, left, ends] = inStaticDev(
    `${CONTROL} && for n in ${first} ${second}; do mknod /dev/loop$n b 7 $n; done`,
    file,
    `${INSIDE}
     import { existsSync } from "node:fs";
     const { writeTable } = await import(${
      JSON.stringify(new URL("cases/disk_image.ts", import.meta.url))
    });
     const other = ${JSON.stringify(other)};
     const loop = await attach(file, { partscan: true, number: ${first} });
     const bare = await attach(other, { partscan: true, nodes: "never", number: ${second} });
     const message = ({ message }) => message;
     for (const image of [file, other]) writeTable(image, ${JSON.stringify(WITHOUT_THE_SECOND)});
     const rescanned = (await bare.rescan()).length;
     const remount = (options) => {
       const isDone = () => sh("mount", "-o", "remount,bind," + options, "/dev").status === 0;
       // Whoever is about to write there, if only for a moment, makes it EBUSY.
       for (let tries = 0; !isDone() && tries < 100; tries++);
     };
     remount("ro");
     const refused = await attach(file, { number: ${third} }).catch(message);
     remount("ro,nodev");
     const unopened = await loop.rescan().catch(message);
     const left = existsSync("/sys/block/loop${third}");
     remount("ro,dev");
     const patiently = ${JSON.stringify(PATIENTLY)};
     const ends = [await loop.detach(patiently), await bare.detach(patiently)];
     console.log(JSON.stringify([rescanned, refused, unopened, left, ends]));`,
  ) as [number, string, string, boolean, string[]];
  assertMatch(refused, /^EROFS: read-only file system, mknod '/);
  assertMatch(unopened, /^EACCES: permission denied, open '\/dev\/loop\d+p2'/);
  assertEquals([rescanned, left, ends], [2, false, ["detached", "detached"]]);
});

test("detach() leaves the node of a device that another process has bound since", [
  "root",
], async () => {
  const file = makeImage("since.img", 1);
  await using own = ownDevices(1);
  const [number] = own.numbers;
  const [ended, left] = inStaticDev(
    CONTROL,
    file,
    `${INSIDE}
     let said;
     for (let tries = 0; !said && tries < 10; tries++) {
       const loop = await attach(file, { number: ${number} });
       const holder = open(loop.path, O_RDONLY);
       const ending = loop.detach({ timeout: 30_000 });
       while (nodes(${number}).length > 0) await new Promise((resolve) => setTimeout(resolve, 5));
       // One that another loopdev has made.
       sh("mknod", loop.path, "b", "7", "${number}");
       sh("chmod", "1600", loop.path);
       using backing = open(file, O_RDWR);
       holder.close();
       using theirs = open(loop.path, O_RDWR);
       try {
         loopConfigure(theirs, backing, { info: { lo_flags: LO_FLAGS_AUTOCLEAR } });
         said = [await ending, nodes(${number})];
       } catch {
         // A neighbour who looks at all devices has the last close.
         theirs.close();
         await ending;
       }
     }
     console.log(JSON.stringify(said));`,
  ) as [string, string[]];
  assertEquals([ended, left], ["detached", [`loop${number}`]]);
});
