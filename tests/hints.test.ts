/** Hints say what was looked up: a wrong one sends people the wrong way. */
import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { existsSync, truncateSync, writeFileSync } from "node:fs";
import process from "node:process";
import { attach, type Holder, LoopError, openLoop, status } from "../mod.ts";
import { type ErrorCode, LoopError as OwnError } from "../lib/base/errors.ts";
import { explainNoLock } from "../lib/binding/file_lock.ts";
import { whyRefused } from "../lib/grow/file_systems.ts";
import { warnDeferred, warnLost } from "../lib/binding/detach.ts";
import { O_RDONLY, open, type OpenFile } from "../lib/kernel/file.ts";
import type { NewMount } from "../lib/kernel/mount.ts";
import { fileStatus } from "../lib/kernel/stat.ts";
import { openSource, refuseOther } from "../lib/mount/device_source.ts";
import { whyNoFreeze } from "../lib/mount/freeze.ts";
import { trim, whyNoTrim } from "../lib/mount/trim.ts";
import { withOwnDevices } from "./support/own_devices.ts";
import { ext4Image } from "./support/mount_image.ts";
import {
  isolated,
  makeImage,
  onThisRuntime,
  output,
  ROOT,
  run,
  scratch,
  test,
  testsOf,
} from "./support/support.ts";

const withFileSystem = testsOf("hints about what is mounted or closed", ["root", "mkfs.ext4"]);

/** A loop device that there is not. */
function noDevice(): string {
  for (let number = 777_777;; number++) {
    const path = `/dev/loop${number}`;
    if (!existsSync(path) && !existsSync(`/sys/block/loop${number}`)) return path;
  }
}

const cli = onThisRuntime(`${ROOT}cli.ts`);

test("a device that there is not is not said to lack a node", ["root"], async () => {
  const none = noDevice();
  for (const call of [() => openLoop(none), () => status(none)]) {
    const { code, message } = await assertRejects(call, LoopError);
    assertEquals(code, "ENOENT");
    assertStringIncludes(message, "the kernel has no such device");
    assert(!message.includes("mknod"), message);
  }
  for (const action of [["-d"], ["-c"]]) {
    const { status, stderr } = run([...cli, "-v", ...action, none]);
    assertEquals(status, 1);
    assertStringIncludes(stderr, "the kernel has no such device");
    assert(!stderr.includes("mknod"), stderr);
  }
});

test("a device without its node is said to lack it", ["root"], async () => {
  await using loop = await attach(makeImage("node.img", 1));
  const { status, stderr } = run([...isolated("tmpfs=/dev"), ...cli, "-v", "-c", loop.path]);
  assertEquals(status, 1);
  assertStringIncludes(stderr, "the kernel has this device, but /dev has no node for it");
});

test("what is missing below a /sys that is mounted is not sysfs", ["root"], async () => {
  const { readText } = await import("../lib/kernel/file.ts");
  const error = await assertRejects(
    () => Promise.resolve().then(() => readText("/sys/block/nonesuch/size")),
    LoopError,
  );
  assert(!error.message.includes("sysfs"), error.message);
});

test("settled() under one's own lock is refused wherever udevd runs or not", ["root"], async () => {
  await using loop = await attach(makeImage("settled.img", 1));
  {
    using _ = await loop.lock();
    const { code, message } = await assertRejects(() => loop.settled(), LoopError);
    assertEquals(code, "EBUSY");
    assertStringIncludes(message, "release it first");
  }
  await loop.settled();
});

withFileSystem("a file that chattr has closed is named as such", [
  "root",
  "mkfs.ext4",
  "chattr",
], async () => {
  await using outer = await attach(ext4Image("outer.img"));
  await using root = await outer.mount();
  const file = `${root.path}/inner.img`;
  writeFileSync(file, "");
  truncateSync(file, 2 ** 20);
  for (const [attribute, name] of [["i", "immutable"], ["a", "append-only"]]) {
    output(["chattr", `+${attribute}`, file]);
    try {
      const { code, message } = await assertRejects(() => attach(file), LoopError);
      assertEquals(code, "EPERM");
      assertStringIncludes(message, `the file is ${name} (chattr +${attribute})`);
      await using inner = await attach(file, { readOnly: true });
      assert(inner.readOnly);
    } finally {
      output(["chattr", `-${attribute}`, file]);
    }
  }
  await using inner = await attach(file);
  assert(!inner.readOnly);
});

withFileSystem(
  "a process that has a capability is not told to get it",
  ["root", "mkfs.ext4", "unshare"],
  () => {
    const script = scratch("namespace.ts");
    writeFileSync(
      script,
      `import { whyNotPermitted } from ${JSON.stringify(`${ROOT}lib/kernel/capabilities.ts`)};
     console.log(whyNotPermitted("this", "CAP_SYS_ADMIN"));`,
    );
    const command = onThisRuntime(script);
    assertEquals(output([...isolated("without=all"), ...command]), "this needs CAP_SYS_ADMIN\n");
    assertStringIncludes(output(command), "this process has it, so perhaps");
    const inNamespace = output(["unshare", "--user", "--map-root-user", ...command]);
    assertStringIncludes(
      inNamespace,
      "in the machine's own user namespace, and this process has it only in another one",
    );
  },
);

/** Of lib/ itself, whose functions are asked here, not of dist/. */
const refused = (code: ErrorCode) => new OwnError({ code, path: "/x", request: "REQUEST" });

/** What each of some errors is said to come of; "" where nothing is known. */
function assertHints(
  why: (error: OwnError) => string | undefined,
  says: Partial<Record<ErrorCode, string>>,
): void {
  for (const [code, text] of Object.entries(says)) {
    const hint = why(refused(code as ErrorCode)) ?? "";
    assert(text === "" ? hint === "" : hint.includes(text), `${code}: ${hint}`);
  }
}

test("what trim(), freeze() and a driver that does not grow refuse is explained", [], () => {
  assertHints((error) => whyNoTrim(error, "jfs"), {
    ENOTTY: "the driver of jfs does not trim",
    EOPNOTSUPP: "cryptsetup open --allow-discards",
    EROFS: "it is mounted read-only",
    EPERM: "CAP_SYS_ADMIN",
    EIO: "",
  });
  assertHints((error) => whyNoFreeze(error, "jfs"), {
    EBUSY: "frozen already",
    EOPNOTSUPP: "the driver of jfs does not freeze",
    EPERM: "CAP_SYS_ADMIN",
    EIO: "",
  });
  const said = "the driver refused (REQUEST: ";
  assertHints((error) => whyRefused(error, "btrfs"), { EINVAL: "below 256 MiB", EBUSY: said });
  assertHints((error) => whyRefused(error, "xfs"), { EINVAL: said });
  assertHints((error) => whyRefused(error, "ext4"), {
    EPERM: "it has errors, or CAP_SYS_RESOURCE is one of another user namespace; e2fsck -f",
    EINVAL: "; e2fsck -f and resize2fs on the node",
  });
});

test("trim() of what no driver trims says so", [], async () => {
  using root = open("/proc", O_RDONLY);
  const error = await assertRejects(() => trim(root, "proc"), LoopError);
  assertStringIncludes(error.message, "the driver of proc does not trim");
});

test("a lock that the system refuses says what overlap needs it for", [], () => {
  const thrown = (error: unknown) => {
    try {
      return explainNoLock(error);
    } catch (error) {
      return error as Error;
    }
  };
  assertStringIncludes(thrown(refused("ENOENT")).message, "which needs /proc: is it mounted?");
  assertStringIncludes(thrown(refused("ENOLCK")).message, 'overlap "allow" takes none');
  const other = new TypeError("another");
  assertEquals(thrown(other), other);
});

/** What a call prints as a warning. */
async function warned(call: () => void | Promise<void>): Promise<string> {
  const { warn } = console;
  let said = "";
  console.warn = (text: string) => said += text;
  try {
    await call();
  } finally {
    console.warn = warn;
  }
  return said;
}

test(
  "a device that stays attached is warned of with who holds it: this process, others, or nobody seen",
  [
    "root",
  ],
  async () => {
    const self: Holder = { path: "/dev/x", kind: "process", by: `${process.pid} (me)` };
    const other: Holder = { path: "/dev/x", kind: "process", by: "1 (init)" };
    await withOwnDevices(async (number) => {
      const said = (...holders: Holder[]) => warned(() => warnDeferred("/dev/x", number, holders));
      assertStringIncludes(await said(), "others hold it (out of sight)");
      assertStringIncludes(await said(self, other), "others hold it (/dev/x: process 1 (init)");
      assertStringIncludes(await said(self), "this process held it until just now");
      using _ = open(`/dev/loop${number}`, O_RDONLY);
      assertMatch(await said(self), /this process holds it \(descriptor \d+, \/dev\/loop\d+\); it/);
      assertMatch(
        await said(self, other),
        /holds it \(.*\), and others do \(\/dev\/x: process 1 \(init\)/,
      );
    });
    const lost = await warned(() => warnLost(new TypeError("a loss")));
    assertEquals([lost, await warned(() => warnLost("a loss"))], Array(2).fill("loopdev: a loss"));
  },
);

test("a device that is another one by now is refused", [
  "root",
], async () => {
  await withOwnDevices(async (number) => {
    const device = `/dev/loop${number}`;
    const source = await openSource(device);
    using node = source.node!;
    assertEquals(source.number, number);
    const refused = (root: OpenFile, given = source) => {
      try {
        refuseOther(given, { root } as NewMount);
      } catch (error) {
        return (error as LoopError).message;
      }
    };
    using disk = open("/sys/block", O_RDONLY);
    using root = open("/", O_RDONLY);
    const unheld = { ...source, node: undefined };
    assertEquals(refused(disk, unheld), undefined);
    // Of no block device: where the path leads decides.
    assertEquals(refused(disk), undefined);
    assertStringIncludes(refused(disk, { ...source, device: "/dev/none" })!, "and now to none");
    assertStringIncludes(refused(disk, { ...source, device: "/dev/null" })!, "and now to 1:3");
    if (!/^0:/.test(fileStatus(root).dev)) {
      assertStringIncludes(refused(root)!, "mount it again");
      assertStringIncludes(refused(root, unheld)!, "rescan() makes node and partition anew");
    }
    assertEquals(fileStatus(node).type, "block device");
  });
});

withFileSystem("a mount that a writer is in the way of names who writes", [], async () => {
  const { O_EXCL, O_RDWR, open } = await import("../lib/kernel/file.ts");
  await using loop = await attach(ext4Image("written.img"));
  const writer = open(loop.path, O_RDWR | O_EXCL);
  const { code, message } = await assertRejects(() => loop.mount(), LoopError);
  writer.close();
  assertEquals(code, "EBUSY");
  assertStringIncludes(message, `this process, ${process.pid} (`);
  assertStringIncludes(message, "has it open for writing");
  await using _root = await loop.mount();
});
