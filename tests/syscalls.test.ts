/**
 * What the kernel is really asked to do, in strace's own decoding; and what becomes of attach() when
 * the kernel refuses, by strace's fault injection.
 */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import type { AttachOptions } from "../mod.ts";
import { removeMade } from "./support/own_devices.ts";
import {
  assertDetached,
  losetup,
  makeImage,
  run,
  testsOf,
  THREE_PARTITIONS,
  until,
} from "./support/support.ts";
import { type Fault, traced, tracedWithFault } from "./support/traced.ts";

const withStrace = testsOf("attach() makes the right system calls", ["strace"]);

/** What a traced script prints at its end. */
interface Outcome {
  strategy?: string;
  detached?: string;
  code?: string;
  request?: string;
  message?: string;
}

const CALLS = "?open,openat,close,ioctl";

/** Attaches and detaches under strace; gives the outcome and the calls in their order. */
function trace(
  file: string,
  options: AttachOptions,
  fault?: Fault,
): { outcome: Outcome; calls: string[] } {
  const body = `try {
    const loop = await attach(${JSON.stringify(file)}, ${JSON.stringify(options)});
    console.log(JSON.stringify({ strategy: loop.strategy, detached: await loop.detach() }));
  } catch ({ code, request, message }) {
    console.log(JSON.stringify({ code, request, message }));
  }`;
  const { stdout, calls } = fault
    ? tracedWithFault(body, { calls: CALLS }, fault)
    : traced(body, { calls: CALLS });
  return { outcome: JSON.parse(stdout), calls: calls.map(({ text }) => text) };
}

/** The calls on the loop device in their order, each by its name, with the flags that matter here. */
function onDevice(calls: string[]): string[] {
  const steps: string[] = [];
  const open = new Map<string, string>();
  for (const call of calls) {
    const opened = /^openat\(AT_FDCWD, "(\/dev\/(?:\.loopdev-)?loop\d+)", ([A-Z_|]+)\) = (\d+)/
      .exec(call);
    const closed = /^close\((\d+)\)/.exec(call);
    const request = /^ioctl\((\d+), (LOOP_[A-Z0-9_]+|BLKPG)\b/.exec(call);
    if (opened) {
      assertStringIncludes(opened[2], "O_CLOEXEC");
      open.set(opened[3], opened[2].split("|")[0]);
      steps.push(`open ${open.get(opened[3])}`);
    } else if (closed && open.has(closed[1])) {
      steps.push(`close ${open.get(closed[1])}`);
      open.delete(closed[1]);
    } else if (request && open.has(request[1])) {
      const flags = call.match(/LO_FLAGS_(AUTOCLEAR|PARTSCAN|READ_ONLY)/g) ?? [];
      steps.push([request[2], ...flags.map((flag) => flag.slice(9))].join(" "));
    }
  }
  return steps;
}

/** The read-only descriptor keeps the device: none that can write stands in a mount's way. */
const TWO_STEPS = [
  "open O_RDONLY",
  "open O_RDWR",
  "LOOP_CONFIGURE AUTOCLEAR",
  "LOOP_GET_STATUS64 AUTOCLEAR",
  "close O_RDWR",
  "open O_RDONLY",
  "close O_RDONLY",
  "LOOP_GET_STATUS64 AUTOCLEAR",
  "LOOP_SET_STATUS64 AUTOCLEAR PARTSCAN",
  "close O_RDONLY",
];
const ONE_STEP = [
  "open O_RDONLY",
  "open O_RDWR",
  "LOOP_CONFIGURE AUTOCLEAR PARTSCAN",
  "LOOP_GET_STATUS64 AUTOCLEAR PARTSCAN",
  "close O_RDWR",
  "close O_RDONLY",
];

withStrace(
  'attach() with workaround "always" configures, drains, then scans; "never" in one step',
  [
    "root",
    "strace",
  ],
  () => {
    const expected = { always: ["two-step", TWO_STEPS], never: ["one-step", ONE_STEP] } as const;
    for (const [workaround, [strategy, steps]] of Object.entries(expected)) {
      const file = makeImage(`${workaround}.img`, 1);
      const options = { partscan: true, workaround } as AttachOptions;
      const { outcome, calls } = trace(file, options);
      assertEquals(outcome, { strategy, detached: "detached" });
      assertEquals(onDevice(calls), steps);
    }
  },
);

withStrace(
  'attach() with workaround "auto" does what the release calls for',
  ["root", "strace"],
  async () => {
    const { isAffected } = await import("../mod.ts");
    const affected = isAffected(run(["uname", "-r"]).stdout.trim());
    const file = makeImage("auto.img", 1);
    const { outcome, calls } = trace(file, { partscan: true });
    assertEquals(outcome.strategy, affected ? "two-step" : "one-step");
    assertEquals(onDevice(calls), affected ? TWO_STEPS : ONE_STEP);
  },
);

withStrace(
  'attach() with partscan "userspace" never lets the kernel scan',
  ["root", "strace"],
  () => {
    const file = makeImage("userspace.img", 8, THREE_PARTITIONS);
    const { outcome, calls } = trace(file, { partscan: "userspace" });
    assertEquals(outcome, { strategy: "userspace", detached: "detached" });
    assertEquals(onDevice(calls), [
      "open O_RDONLY",
      "open O_RDWR",
      "LOOP_CONFIGURE AUTOCLEAR",
      "LOOP_GET_STATUS64 AUTOCLEAR",
      "close O_RDWR",
      ...Array(3).fill("BLKPG"),
      // Does it have an owner? Then its partitions stay.
      "open O_RDONLY",
      "close O_RDONLY",
      ...Array(3).fill("BLKPG"),
      "close O_RDONLY",
    ]);
  },
);

withStrace("attach() with readOnly never opens the device for writing", ["root", "strace"], () => {
  const file = makeImage("read-only.img", 1);
  const { calls } = trace(
    file,
    { readOnly: true, partscan: true, workaround: "always" },
  );
  assertEquals(
    onDevice(calls).filter((step) => step.startsWith("open")),
    Array(2).fill("open O_RDONLY"),
  );
});

withStrace(
  "attach() opens every file O_CLOEXEC and never clears a device",
  ["root", "strace"],
  () => {
    const file = makeImage("cloexec.img", 1);
    const { calls } = trace(file, { partscan: true });
    const first = calls.findIndex((call) => call.includes('cloexec.img", O_RDWR'));
    for (const call of calls.slice(first).filter((call) => /"\/(dev|sys)\/.*loop/.test(call))) {
      assertStringIncludes(call, "O_CLOEXEC");
    }
    assertEquals(calls.filter((call) => /LOOP_CLR_FD|LOOP_CTL_REMOVE/.test(call)), []);
  },
);

/** Makes the kernel refuse `request`, `times` times from its first call on. */
function inject(
  file: string,
  options: AttachOptions,
  request: string,
  error: string,
  times: number,
) {
  const to = (from: number) => times === Infinity ? "+" : `..${from + times - 1}`;
  const how = (from: number) => `error=${error}:when=${from}${to(from)}`;
  return trace(file, options, { call: new RegExp(request), how });
}

withStrace(
  "attach() takes another device when it loses the race for one",
  ["root", "strace"],
  () => {
    const file = makeImage("race.img", 1);
    const { outcome, calls } = inject(file, {}, "LOOP_CONFIGURE", "EBUSY", 1);
    assertEquals(outcome, { strategy: "none", detached: "detached" });
    assertEquals(calls.filter((call) => call.includes("LOOP_CONFIGURE")).length, 2);
  },
);

withStrace(
  "attach() makes a device of its own when others hold what is offered",
  ["root", "strace"],
  async () => {
    const file = makeImage("held.img", 1);
    // Between two of them is one LOOP_CTL_GET_FREE.
    const how = (from: number) => `error=EBUSY:when=${from}..${from + 28}+2`;
    const { outcome, calls } = trace(file, {}, { call: /LOOP_CONFIGURE/, how, all: true });
    assertEquals(outcome, { strategy: "none", detached: "detached" });
    const asked = calls.filter((call) => /LOOP_CTL_(GET_FREE|ADD)/.test(call));
    assertEquals(asked.length, 16);
    const made = Number(/LOOP_CTL_ADD.* = (\d+)$/.exec(asked[15])?.[1]);
    await removeMade([made]);
  },
);

withStrace(
  "attach() gives up when 64 devices in a row were taken by others",
  ["root", "strace"],
  async () => {
    const file = makeImage("taken.img", 1);
    // Every second one: between two of them another device is asked for.
    const how = (from: number) => `error=EBUSY:when=${from}+2`;
    let request: string | undefined;
    // A neighbour may take a device before it is asked to bind: that is a lost race, too, without the call. Then
    // the next call that fails asks for a device.
    for (let aims = 0; aims < 10 && request !== "LOOP_CONFIGURE"; aims++) {
      const { outcome, calls } = trace(file, {}, { call: /LOOP_CONFIGURE/, how });
      const asked = calls.filter((call) => /LOOP_CTL_(GET_FREE|ADD)/.test(call));
      assertEquals([outcome.code, asked.length], ["EBUSY", 64]);
      request = outcome.request;
      const made = calls.flatMap((call) => /LOOP_CTL_ADD.* = (\d+)$/.exec(call)?.[1] ?? []);
      await removeMade(made.map(Number));
    }
    assertEquals(request, "LOOP_CONFIGURE");
  },
);

withStrace("attach() says so where the kernel has no LOOP_CONFIGURE", ["root", "strace"], () => {
  const file = makeImage("old.img", 1);
  const { outcome } = inject(file, {}, "LOOP_CONFIGURE", "EINVAL", Infinity);
  assertEquals([outcome.code, outcome.request], ["EINVAL", "LOOP_CONFIGURE"]);
  assertMatch(outcome.message!, /has no LOOP_CONFIGURE; loopdev needs Linux 5.9 or later/);
  const refused = inject(file, {}, "LOOP_CONFIGURE", "EINVAL", 1).outcome;
  assertStringIncludes(refused.message!, "the kernel refuses this file or this combination");
});

withStrace("attach() says that no device is left", ["root", "strace"], () => {
  const file = makeImage("none.img", 1);
  const { outcome } = inject(file, {}, "LOOP_CTL_GET_FREE", "ENOSPC", 1);
  assertEquals([outcome.code, outcome.request], ["ENOSPC", "LOOP_CTL_GET_FREE"]);
  assertStringIncludes(outcome.message!, "no free loop device");
});

withStrace("attach() tries LOOP_SET_STATUS64 again after EAGAIN", ["root", "strace"], () => {
  const options = { partscan: true, workaround: "always" } as const;
  const file = makeImage("again.img", 1);
  const { outcome, calls } = inject(file, options, "LOOP_SET_STATUS64", "EAGAIN", 1);
  assertEquals(outcome, { strategy: "two-step", detached: "detached" });
  assertEquals(calls.filter((call) => call.includes("LOOP_SET_STATUS64")).length, 2);
});

withStrace(
  "attach() undoes everything when LOOP_SET_STATUS64 fails for good",
  ["root", "strace"],
  () => {
    const file = makeImage("fails.img", 1);
    const options = { partscan: true, workaround: "always" } as const;
    const { outcome, calls } = inject(file, options, "LOOP_SET_STATUS64", "EPERM", 1);
    assertEquals([outcome.code, outcome.request], ["EPERM", "LOOP_SET_STATUS64"]);
    assertStringIncludes(outcome.message!, "CAP_SYS_ADMIN");
    assertEquals(calls.filter((call) => call.includes("LOOP_SET_STATUS64")).length, 1);
    assertDetached(file);
  },
);

withStrace("attach() removes the partitions it added when one cannot be added", [
  "root",
  "strace",
], async () => {
  const file = makeImage("blkpg.img", 8, THREE_PARTITIONS);
  const options = { partscan: "userspace" } as const;
  const how = (first: number) => `error=ENOMEM:when=${first + 1}`;
  const { outcome } = trace(file, options, { call: /BLKPG_ADD_PARTITION/, how });
  assertEquals([outcome.code, outcome.request], ["ENOMEM", "BLKPG_ADD_PARTITION"]);
  await until(() => losetup(file).length === 0, "the device to be detached");
});

withStrace("attach() makes interrupted calls again", ["root", "strace"], () => {
  const file = makeImage("interrupted.img", 1);
  const { outcome, calls } = inject(file, {}, "LOOP_CONFIGURE", "EINTR", 2);
  assertEquals(outcome, { strategy: "none", detached: "detached" });
  assertEquals(calls.filter((call) => call.includes("LOOP_CONFIGURE")).length, 3);
});
