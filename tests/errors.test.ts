import { assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { mkdirSync, writeFileSync } from "node:fs";
import { attach, type AttachOptions, detach, LoopError, status } from "../mod.ts";
import { ownDevices } from "./support/own_devices.ts";
import {
  isolated,
  makeImage,
  MOD,
  onThisRuntime,
  openDescriptors,
  output,
  PATIENTLY,
  scratch,
  test,
  withoutCapability,
  withStaticDev,
} from "./support/support.ts";

/** Mistakes of the caller: refused before any system call, so the file need not exist. */
const MISTAKES: [options: unknown, error: string, message: RegExp][] = [
  [
    { offest: 1 },
    "TypeError",
    /unknown option 'offest'; options are directIo, lock, nodes, number, /,
  ],
  [{ offset: "1" }, "TypeError", /offset must be a number of bytes, not "1"/],
  [{ offset: -1 }, "RangeError", /offset must be a whole number of bytes from 0 on, not -1/],
  [{ offset: 0.5 }, "RangeError", /not 0.5/],
  [{ offset: 2 ** 53 }, "RangeError", /offset/],
  [{ sizelimit: NaN }, "RangeError", /sizelimit .*not NaN/],
  [{ sizelimit: 511 }, "RangeError", /sizelimit 511 leaves no whole 512-byte sector/],
  [
    { sectorSize: 513 },
    "RangeError",
    /sectorSize must be one of 512, 1024, 2048, 4096, "auto", not 513/,
  ],
  [{ sectorSize: "512" }, "TypeError", /sectorSize must be one of .*, "auto", not "512"/],
  [{ sectorSize: 8192 }, "RangeError", /not 8192/],
  [{ partscan: "yes" }, "TypeError", /partscan must be one of false, true, "userspace", not "yes"/],
  [
    { workaround: true },
    "TypeError",
    /workaround must be one of "auto", "probe", "always", "never"/,
  ],
  [{ readOnly: 1 }, "RangeError", /readOnly must be one of true, false, not 1/],
  [{ directIo: null }, "TypeError", /directIo/],
  [{ timeout: -1 }, "RangeError", /timeout must be a number of ms from 0 on, not -1/],
  [{ signal: "stop" }, "TypeError", /signal must be an AbortSignal, not "stop"/],
];
for (const [options, name, message] of MISTAKES) {
  test(`attach() rejects ${JSON.stringify(options)} with a ${name}`, [], async () => {
    const error = await assertRejects(() => attach("/nowhere", options as AttachOptions), Error);
    assertEquals(error.name, name);
    assertMatch(error.message, message);
  });
}

test("attach() rejects what is no path", [], async () => {
  await assertRejects(() => attach(1 as unknown as string), TypeError, "file must be a path");
  await assertRejects(() => attach("a\0b"), TypeError, "contains a NUL");
});

async function refusal(file: string, options?: AttachOptions): Promise<LoopError> {
  const error = await assertRejects(() => attach(file, options), LoopError);
  assertEquals(openDescriptors(), []);
  return error;
}

test("LoopError has the shape of Node's system errors", ["root"], async () => {
  const error = await refusal("/no/such.img");
  const { name, code, errno, syscall, path, request } = error;
  assertEquals({ name, code, errno, syscall, path, request }, {
    name: "LoopError",
    code: "ENOENT",
    errno: -2,
    syscall: "open",
    path: "/no/such.img",
    request: undefined,
  });
  assertEquals(error.message, "ENOENT: no such file or directory, open '/no/such.img'");
});

test("attach() says what is wrong with a file", ["root"], async () => {
  mkdirSync(scratch("folder"));
  writeFileSync(scratch("empty"), "");
  writeFileSync(scratch("small"), new Uint8Array(511));
  output(["mkfifo", scratch("fifo")]);
  const cases: [path: string, options: AttachOptions, code: string, message: RegExp][] = [
    [scratch("folder"), {}, "EISDIR", /is a directory/],
    [scratch("folder"), { readOnly: true }, "EISDIR", /a directory cannot be attached/],
    [scratch("empty"), {}, "EINVAL", /it is empty/],
    [scratch("small"), {}, "EINVAL", /it has 511 bytes, less than one 512-byte sector/],
    [scratch("fifo"), { readOnly: true }, "EINVAL", /it is a FIFO; only regular files/],
    ["/dev/null", {}, "EINVAL", /it is a character device/],
    [makeImage("small.img", 1), { offset: 1048576 }, "EINVAL", /offset 1048576 leaves no whole/],
    [makeImage("small.img", 1), { offset: 1048065 }, "EINVAL", /of its 1048576 bytes/],
    [scratch("x".repeat(256)), {}, "ENAMETOOLONG", /file name too long/],
  ];
  for (const [path, options, code, message] of cases) {
    const error = await refusal(path, options);
    assertEquals(error.code, code, path);
    assertMatch(error.message, message);
  }
});

test("LoopError never passes control characters on", ["root"], async () => {
  const { message } = await refusal("/no/\x1b[31mred\x9b\n");
  assertEquals(message.replaceAll(/[ -~]/g, ""), "");
  assertStringIncludes(message, String.raw`'/no/\u001b[31mred\u009b\n'`);
});

/** Attaches in a child process, in other surroundings, and gives code and message. */
function refusalIn(wrapper: string[], file: string): { code: string; message: string } {
  const script = scratch("attach.ts");
  writeFileSync(
    script,
    `import { attach } from ${JSON.stringify(MOD)};
     const error = await attach(${JSON.stringify(file)}, { partscan: true }).catch((e) => e);
     console.log(JSON.stringify({ code: error.code, message: error.message }));`,
  );
  return JSON.parse(output([...wrapper, ...onThisRuntime(script)]));
}

test("attach() says that it needs root", ["root"], () => {
  // Root without capabilities is nobody special, but can still read the runtime.
  const control = "mknod -m 600 /dev/loop-control c 10 237 && chown 1 /dev/loop-control";
  const nobody = withoutCapability("all");
  const file = makeImage("user.img", 1);
  const { code, message } = refusalIn([...withStaticDev(control), ...nobody], file);
  assertEquals(code, "EACCES");
  assertStringIncludes(message, "open '/dev/loop-control' (attaching loop devices needs root");
  // What there is for people without it: the table, and a mount of a whole image.
  assertStringIncludes(message, "without it: readPartitions(), or systemd-mountfsd");
});

test("attach() says that /dev/loop-control is missing", ["root"], () => {
  const { code, message } = refusalIn(withStaticDev("true"), makeImage("control.img", 1));
  assertEquals(code, "ENOENT");
  assertStringIncludes(message, "is the loop module loaded (modprobe loop)");
});

test("attach() says that making a missing node needs CAP_MKNOD", ["root"], () => {
  const control = "mknod /dev/loop-control c 10 237";
  const without = withoutCapability("mknod");
  const wrapper = [...withStaticDev(control), ...without];
  const { code, message } = refusalIn(wrapper, makeImage("node.img", 1));
  assertEquals(code, "EPERM");
  assertMatch(
    message,
    /mknod '\/dev\/loop\d+' \(\/dev lacks this node, and making it needs CAP_MKNOD/,
  );
});

test("attach() says that sysfs is missing", ["root"], () => {
  const wrapper = isolated("unmount=/sys");
  const { code, message } = refusalIn(wrapper, makeImage("sysfs.img", 1));
  assertEquals(code, "ENOENT");
  assertStringIncludes(message, "is sysfs mounted on /sys?");
});

test("LoopError names no system call where none failed", [], () => {
  const refused = new LoopError({ code: "EBUSY", path: "/dev/loop4", hint: "release the lock" });
  assertEquals(refused.message, "EBUSY: device or resource busy, '/dev/loop4' (release the lock)");
  assertEquals([refused.syscall, "syscall" in { ...refused }], [undefined, false]);
  assertEquals(
    refused.withHint("wait").message,
    "EBUSY: device or resource busy, '/dev/loop4' (wait)",
  );
});

test("LoopError says why no process can be started", [], () => {
  const { message } = new LoopError({ code: "EAGAIN", syscall: "posix_spawn", path: "/bin/sh" });
  assertStringIncludes(message, "posix_spawn '/bin/sh' (no process can be started: this user or");
});

test("what loopdev itself refuses names no system call", ["root"], async () => {
  const file = makeImage("named.img", 1);
  writeFileSync(scratch("empty"), "");
  await using own = ownDevices(1);
  await (await attach(file, { number: own.numbers[0] })).detach(PATIENTLY);
  await using loop = await attach(file, { readOnly: true });
  const overlap = "reuse";
  const calls: Record<string, () => Promise<unknown>> = {
    EINVAL: () => attach(scratch("empty")),
    EEXIST: () => attach(file, { overlap: "refuse" }),
    "EEXIST, reuse, writable": () => attach(file, { overlap, readOnly: false }),
    "EEXIST, reuse, other sectors": () => attach(file, { overlap, sectorSize: 4096 }),
    ENOTBLK: () => status(file),
    ENXIO: () => status(own.paths[0]),
    "ENXIO, detach": () => detach(scratch("empty")),
  };
  for (const [what, call] of Object.entries(calls)) {
    const { code, syscall, message } = await assertRejects(call, LoopError);
    assertEquals([code, syscall], [what.split(",")[0], undefined], message);
  }
  assertEquals(await loop.isCurrent(), true);
});

test(
  "LoopError keeps the number of frames that a program asked for, and names any number",
  [],
  () => {
    const errors = Error as { stackTraceLimit?: number };
    const usual = errors.stackTraceLimit;
    for (const limit of [1, undefined]) {
      errors.stackTraceLimit = limit;
      const error = new LoopError({ code: 4095, path: "/x" });
      assertEquals(errors.stackTraceLimit, limit);
      assertEquals([error.code, error.errno, error.reason], ["E4095", -4095, "error 4095"]);
      assertStringIncludes(error.withHint("why").message, "(why)");
    }
    errors.stackTraceLimit = usual;
  },
);
