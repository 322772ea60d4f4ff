/** Kernels that lose an event: the device is announced once more, and on others not. */
import { assertEquals } from "@std/assert";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { KernelBug } from "../mod.ts";
import { hasBug } from "../lib/kernel/release.ts";
import { LOST_CHANGE_EVENT } from "../lib/udev/lost_event.ts";
import {
  isolated,
  makeImage,
  MOD,
  onThisRuntime,
  output,
  ROOT,
  scratch,
  test,
  THREE_PARTITIONS,
} from "./support/support.ts";

const isLost = (release: string, bug: KernelBug = LOST_CHANGE_EVENT) => hasBug(release, bug);

test("LOST_CHANGE_EVENT: the releases that lose the event, and those that may", [], () => {
  const lost = ["5.15.120", "5.19.17", "6.1.135", "6.1.0-56-amd64", "6.6.88", "6.8.0-110-generic"];
  const right = [
    "5.10.223",
    "5.15.186",
    "6.1.142",
    "6.6.94",
    "6.12.34",
    "6.14.11",
    "6.16.12",
    "7.0.9",
  ];
  assertEquals(lost.filter((release) => !isLost(release)), []);
  assertEquals(right.filter((release) => isLost(release)), []);
});

/**
 * Attaches in a process of its own; how often somebody, and not the driver, announced the device as
 * changed: those events say SYNTH_UUID=0, and DISKSEQ tells this binding from a neighbour's of the same device.
 * `old`: uname(2) says a release that proves nothing.
 */
function announced(file: string, body: string, old: boolean): number {
  const script = scratch("announced.ts");
  writeFileSync(
    script,
    `import { attach } from ${JSON.stringify(MOD)};
     import { spawnSync } from "node:child_process";
     import { readFileSync } from "node:fs";
     import { UeventSocket } from ${JSON.stringify(join(ROOT, "tools/race_check/uevents.ts"))};
     const file = ${JSON.stringify(file)};
     const tool = (...args) => {
       const [name, ...rest] = ${JSON.stringify(onThisRuntime(join(ROOT, "cli.ts")))};
       return spawnSync(name, [...rest, ...args], { encoding: "utf8" }).stdout.trim();
     };
     const diskseqOf = (path) =>
       readFileSync(path.replace("/dev", "/sys/block") + "/diskseq", "utf8").trim();
     using socket = new UeventSocket();
     const diskseq = await (async () => { ${body} })();
     const events = [...socket.drain()].filter(({ action, env }) =>
       action === "change" && env.DISKSEQ === diskseq && env.SYNTH_UUID === "0");
     console.log(events.length);`,
  );
  const surroundings = old ? isolated("personality=uname-2.6") : [];
  return Number(output([...surroundings, ...onThisRuntime(script)]));
}

/** Each binds a device, and lets it go again; the value is the diskseq of the binding. */
const LOSETUP = `const path = tool("-f", "--show", file);
     const diskseq = diskseqOf(path);
     tool("-d", path);
     return diskseq;`;
const WAYS: [what: string, table: string | undefined, body: string, times: number][] = [
  [
    "attach()",
    undefined,
    `const loop = await attach(file);
     const diskseq = diskseqOf(loop.path);
     await loop.detach();
     return diskseq;`,
    1,
  ],
  [
    "attach() with partscan, of an image without partitions",
    undefined,
    `const loop = await attach(file, { partscan: true });
     const diskseq = diskseqOf(loop.path);
     await loop.detach();
     return diskseq;`,
    1,
  ],
  [
    'attach() with partscan "userspace"',
    THREE_PARTITIONS,
    `const loop = await attach(file, { partscan: "userspace" });
     const diskseq = diskseqOf(loop.path);
     await loop.detach();
     return diskseq;`,
    1,
  ],
  [
    "losetup -f --show",
    undefined,
    LOSETUP,
    1,
  ],
  [
    "losetup -f --show of less than a sector",
    "small",
    LOSETUP,
    1,
  ],
];

for (const [what, table, body, times] of WAYS) {
  test(`${what} announces the device where the kernel may not have`, ["root"], () => {
    const file = makeImage("announced.img", 8, table === "small" ? undefined : table);
    if (table === "small") writeFileSync(file, "less than a sector");
    assertEquals(announced(file, body, true), times);
    const release = output(["uname", "-r"]).trim();
    assertEquals(announced(file, body, false), isLost(release) ? times : 0);
  });
}
