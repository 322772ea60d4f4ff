/**
 * Who holds a device, made by those who really do, and whether it is held at all: an answer that takes
 * nothing away from anybody, and that is not "nobody" where it cannot be known.
 */
import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { closeSync, existsSync, mkdirSync, openSync, writeFileSync } from "node:fs";
import { attach, type Holder, type LoopDevice, type LoopMount } from "../mod.ts";
import { poll } from "../lib/base/retry.ts";
import { holdOf, isHeldExclusively } from "../lib/holders/exclusive.ts";
import { hiddenUse, linksToAsk } from "../lib/holders/file_users.ts";
import { describeHolders } from "../lib/holders/holder.ts";
import { heldBy, othersThan } from "../lib/holders/holders.ts";
import { describeOpeners, describeWriters, processName } from "../lib/holders/processes.ts";
import { isBefore, kernelRelease } from "../lib/kernel/release.ts";
import { libc } from "../lib/runtime/libc.ts";
import { ext4Image } from "./support/mount_image.ts";
import { ownDevices } from "./support/own_devices.ts";
import {
  holdBy,
  holdOpen,
  makeImage,
  MOD,
  onThisRuntime,
  output,
  PATIENTLY,
  scratch,
  testsOf,
  THREE_PARTITIONS,
  until,
} from "./support/support.ts";
import { traced } from "./support/traced.ts";

const withRoot = testsOf("who holds a device", [
  ...["root", "mkfs.ext4", "mkfs.btrfs", "mkfs.xfs", "mkswap", "swapon"] as const,
]);

/** Mounts by mount(8), for as long as `use` takes. */
async function mounted(args: string[], use: (folder: string) => Promise<void>): Promise<void> {
  const folder = scratch("mount");
  mkdirSync(folder, { recursive: true });
  output(["mount", ...args, folder]);
  try {
    await use(folder);
  } finally {
    output(["umount", folder]);
  }
}

/** Holders but processes. */
async function holdersOf(loop: LoopDevice): Promise<Holder[]> {
  return (await loop.holders()).filter(({ kind }) => kind !== "process");
}

/**
 * Waits until nobody holds it: a process that somebody started in a mount namespace of its own while it
 * was mounted has it mounted, too.
 */
async function nobodyHolds(loop: LoopDevice): Promise<void> {
  const isFree = async () =>
    (await holdersOf(loop)).length === 0 && await holdOf(loop.path) === "free";
  assert(await poll(async () => await isFree() || undefined, 30_000), `${loop.path} is held`);
}

withRoot("holders() names swap, on a partition and in a file", ["mkswap", "swapon"], async () => {
  const file = makeImage("swap.img", 8, THREE_PARTITIONS);
  await using loop = await attach(file, { partscan: "userspace" });
  const { path } = loop.partitions[1];
  output(["mkswap", path]);
  output(["swapon", path]);
  try {
    assertEquals(await holdersOf(loop), [{ path, kind: "swap", by: path }]);
    assertEquals([await holdOf(path), await holdOf(loop.path)], ["held", "held"]);
    assertEquals(await holdOf(loop.partitions[0].path), "free");
    assertEquals(describeHolders(await holdersOf(loop)), `${path}: swap ${path}`);
  } finally {
    output(["swapoff", path]);
  }
  await nobodyHolds(loop);
});

withRoot("holders() names a swap file on the file system", [
  "mkfs.ext4",
  "mount",
  "mkswap",
  "swapon",
], async () => {
  await using loop = await attach(ext4Image("files.img"));
  await mounted([loop.path], async (folder) => {
    const by = `${folder}/swap file`;
    output(["dd", "if=/dev/zero", `of=${by}`, "bs=64k", "count=16"]);
    output(["chmod", "600", by]);
    output(["mkswap", by]);
    output(["swapon", by]);
    try {
      assertEquals(await holdersOf(loop), [
        { path: loop.path, kind: "mount", by: folder },
        { path: loop.path, kind: "swap", by },
      ]);
    } finally {
      output(["swapoff", by]);
    }
  });
});

withRoot("holders() names a loop device over it, by whatever name", [], async () => {
  const file = makeImage("under.img", 8, THREE_PARTITIONS);
  await using loop = await attach(file, { partscan: "userspace" });
  const { path } = loop.partitions[1];
  // Another name of the same device, and the same name for another one.
  const [name, other] = [scratch("name"), makeImage("loop0", 1)];
  output(["cp", "-a", path, name]);
  await using _other = await attach(other);
  assertEquals(await holdersOf(loop), []);
  await using over = await attach(name);
  assertEquals(await holdersOf(loop), [{ path, kind: "loop", by: over.path }]);
  assertEquals(describeHolders(await holdersOf(loop)), `${path}: loop device ${over.path}`);
  assertEquals(await holdersOf(over), []);
});

withRoot("holders() names a loop device over an image on its file system", [
  "mkfs.ext4",
], async () => {
  await using loop = await attach(ext4Image("outer.img"));
  await using root = await loop.mount();
  const inner = `${root.path}/inner.img`;
  writeFileSync(inner, new Uint8Array(2 ** 20));
  await using over = await attach(inner);
  const found = (await holdersOf(loop)).filter(({ kind }) => kind === "loop");
  assertEquals(found, [{ path: loop.path, kind: "loop", by: over.path }]);
});

withRoot("holders() names a btrfs, on each of its devices", [
  "mkfs.btrfs",
  "mount",
  "unshare",
], async () => {
  const [a, b] = ["a.img", "b.img"].map((name) => makeImage(name, 128));
  await using first = await attach(a);
  await using second = await attach(b);
  output(["mkfs.btrfs", "-q", "-f", "-d", "single", first.path, second.path]);
  await mounted(["-o", `device=${second.path}`, first.path], async (by) => {
    const found = [...await holdersOf(first), ...await holdersOf(second)];
    assertEquals(new Set(found.map(({ kind }) => kind)), new Set(["mount", "btrfs"]));
    assertEquals(found.map(({ path }) => path), [first.path, second.path]);
    assertEquals(found.map(({ by }) => by), [by, by]);
    assertEquals([await holdOf(first.path), await holdOf(second.path)], ["held", "held"]);
    const inner = `${by}/inner.img`;
    writeFileSync(inner, new Uint8Array(2 ** 20));
    await using over = await attach(inner);
    const kinds = [...await holdersOf(first), ...await holdersOf(second)]
      .filter(({ by }) => by === over.path).map(({ kind }) => kind);
    assertEquals(kinds, ["loop"]);
  });
  await nobodyHolds(first);
  await nobodyHolds(second);

  // In the namespace of a child.
  const mountIt = 'mount -o "device=$1" "$0" /mnt && echo held && read _';
  const inNamespace = `unshare -m sh -c '${mountIt}' "$0" "$1"`;
  await using _child = await holdBy(inNamespace, first.path, second.path);
  const { uuid } = (await first.fileSystem())!;
  assertEquals(await holdersOf(second), [{ path: second.path, kind: "btrfs", by: uuid! }]);
});

withRoot("holders() names an idle mount of another mount namespace, once", [
  "mkfs.ext4",
  "mount",
  "unshare",
], async () => {
  await using loop = await attach(ext4Image("elsewhere.img"));
  const { path } = loop;
  const folder = scratch("a mount");
  mkdirSync(folder);
  {
    // Besides, a process there that has ended and one that has not.
    const script = 'mount "$0" "$1" && { sleep 0 & } && { sleep 100 & } && ' +
      "echo held && read _; kill $!";
    await using _child = await holdBy(`exec unshare -m sh -c '${script}' "$0" "$1"`, path, folder);
    const [{ by, ...mount }, ...others] = await holdersOf(loop);
    assertEquals([mount, others], [{ path, kind: "mount" }, []]);
    assertMatch(by, /^\/proc\/\d+\/root\/.*\/a mount$/);
    assert(existsSync(`${by}/lost+found`));
    const { message } = await assertRejects(() => loop.mount(undefined, { readOnly: true }));
    assertStringIncludes(message, `it is in use already: ${path}: mount ${by}`);
    // Here it is in sight.
    await mounted([path], async (point) => {
      assertEquals(await holdersOf(loop), [{ path, kind: "mount", by: point }]);
    });
  }
  await nobodyHolds(loop);
});

withRoot("holders() names a mount without a directory once, a btrfs too", [
  "mkfs.ext4",
  "mkfs.btrfs",
], async () => {
  if (isBefore(kernelRelease(), "6.15")) return;
  const btrfs = makeImage("btrfs.img", 128);
  output(["mkfs.btrfs", "-q", btrfs]);
  for (const file of [ext4Image("ext4.img"), btrfs]) {
    await using loop = await attach(file);
    await using root = await loop.mount(undefined, { detached: true });
    assertEquals(await holdersOf(loop), [{ path: loop.path, kind: "mount", by: root.path }]);
  }
});

withRoot("holders() names whose external journal it is: ext4", [
  "mkfs.ext4",
  "mount",
  "unshare",
], async () => {
  await using journal = await attach(makeImage("journal.img", 8));
  await using data = await attach(makeImage("data.img", 16));
  output(["mkfs.ext4", "-q", "-b", "1024", "-O", "journal_dev", journal.path]);
  output(["mkfs.ext4", "-q", "-b", "1024", "-J", `device=${journal.path}`, data.path]);
  const mine = { path: journal.path, kind: "journal", by: data.path };
  await mounted([data.path], async () => {
    assertEquals(await holdersOf(journal), [mine]);
    assertEquals(describeHolders([mine as Holder]), `${journal.path}: journal of ${data.path}`);
    assertEquals((await holdersOf(data)).map(({ kind }) => kind), ["mount"]);
    assertEquals(await holdOf(journal.path), "held");
    // The thread that writes the journal has no number in another PID namespace.
    const script = scratch("journal.ts");
    writeFileSync(
      script,
      `import { openLoop } from ${JSON.stringify(MOD)};
       await using loop = await openLoop(${JSON.stringify(journal.path)});
       const holders = (await loop.holders()).filter(({ kind }) => kind !== "process");
       console.log(JSON.stringify(holders));`,
    );
    const unshare = ["unshare", "--pid", "--fork", "--mount-proc"];
    const found = JSON.parse(output([...unshare, ...onThisRuntime(script)]));
    assertEquals(found, [{ ...mine, by: "an ext4 out of sight" }]);
  });
  await nobodyHolds(journal);
});

withRoot("holders() names whose external log it is: xfs", ["mkfs.xfs", "mount"], async () => {
  await using log = await attach(makeImage("log.img", 64));
  await using data = await attach(makeImage("data.img", 512));
  const name = scratch("log");
  output(["cp", "-a", log.path, name]);
  output(["mkfs.xfs", "-q", "-f", "-l", `logdev=${log.path}`, data.path]);
  await mounted(["-o", `logdev=${name}`, data.path], async (by) => {
    assertEquals(await holdersOf(log), [{ path: log.path, kind: "journal", by }]);
    assertEquals(await holdOf(log.path), "held");
  });
  await nobodyHolds(log);
});

/** Asks of a device that is free, and of the same with a mount, in all ways; under strace. */
function ask(file: string, inject?: string): ReturnType<typeof traced> {
  const body = `const loop = await attach(${JSON.stringify(file)});
    const { holdOf } = await import(${JSON.stringify(new URL("lib/holders/exclusive.ts", MOD))});
    const before = await holdOf(loop.path);
    const root = await loop.mount();
    console.log(before, await holdOf(loop.path), (await loop.holders()).length);
    process.exit();`;
  const importing = 'import process from "node:process";\n';
  return traced(importing + body, { calls: "?open,openat,quotactl", inject });
}

withRoot("the question whether a device is held takes it from nobody", [
  "mkfs.ext4",
  "strace",
], () => {
  const file = ext4Image("asked.img");
  const taken = /\/dev\/loop\d+".*O_EXCL/;
  const { stdout, calls } = ask(file);
  assertMatch(stdout, /^free held [1-9]/);
  assertEquals(calls.filter(({ text }) => taken.test(text)), []);
  // A kernel without quotactl(2), and a container that may not call it.
  for (const error of ["ENOSYS", "EPERM"]) {
    const { stdout, calls } = ask(file, `quotactl:error=${error}`);
    assertMatch(stdout, /^free held [1-9]/);
    assert(calls.some(({ text }) => taken.test(text)));
  }
});

withRoot("holders() of a kernel without swap and such file systems names the others", [
  "mkfs.btrfs",
  "mount",
  "strace",
], async () => {
  const btrfs = makeImage("btrfs.img", 128);
  const uuid = crypto.randomUUID();
  output(["mkfs.btrfs", "-q", "-U", uuid, btrfs]);
  await using loop = await attach(btrfs);
  await mounted([loop.path], () => {
    const body = `await using loop = await attach(${JSON.stringify(makeImage("plain.img", 1))});
      console.log((await loop.holders()).map(({ path, kind }) => path === loop.path && kind).join());`;
    // The last one is what another process unmounts meanwhile.
    const member = `/sys/fs/btrfs/${uuid}/devices/${loop.path.slice("/dev/".length)}/dev`;
    const on = ["/proc/swaps", "/proc/fs/jbd2", "/sys/fs/xfs", member];
    const { stdout, calls } = traced(body, {
      ...{ on, calls: "?open,openat", inject: "?open,openat:error=ENOENT" },
    });
    assertMatch(stdout, /^(process,?)+$/m);
    assertEquals(calls.length >= on.length, true, calls.map(({ text }) => text).join("\n"));
    return Promise.resolve();
  });
});

withRoot("holders() knows a device by its number, whatever its node is called", [
  "mount",
  "unshare",
], async () => {
  await using loop = await attach(makeImage("one.img", 1));
  await using other = await attach(makeImage("other.img", 1));
  const users = async ({ number }: LoopDevice) => await othersThan(number, undefined);
  const shells = async (device: LoopDevice) =>
    (await users(device)).filter((who) => / \(sh\)$/.test(who));
  const inNamespace = (script: string) =>
    holdBy(
      `exec unshare -m sh -c '${script} && echo held && read _' "$0" "$1"`,
      loop.path,
      other.path,
    );
  for (
    const script of [
      // As in a chroot.
      "mkdir -p /run/chroot && mount -t tmpfs none /run && mkdir -p /run/chroot/dev && " +
      'mount --bind /dev /run/chroot/dev && exec 3<>"/run/chroot$0"',
      // As in a container.
      'cp -a "$0" /tmp/node.$$ && mount -t tmpfs none /dev && cp -a /tmp/node.$$ /dev/disk && ' +
      "rm /tmp/node.$$ && exec 3<>/dev/disk && rm /dev/disk",
      // The other one's name.
      'mount --bind "$0" "$1" && exec 3<>"$1"',
    ]
  ) {
    await using _child = await inNamespace(script);
    assertEquals([(await shells(loop)).length, await shells(other)], [1, []], script);
    const found = (await loop.holders()).map(({ by }) => by);
    const [shell] = await shells(loop);
    assert(found.includes(shell), `${found}, ${shell}`);
    assertEquals((await other.holders()).filter(({ by }) => by === shell), []);
    assertStringIncludes(`${await describeWriters(loop.path)}`, `process ${shell}`);
  }
});

withRoot("holders() names a process whose first thread has ended", ["cc"], async () => {
  await using loop = await attach(makeImage("thread.img", 1));
  const [source, program] = [scratch("threads.c"), scratch("threads")];
  writeFileSync(
    source,
    `#include <fcntl.h>
     #include <pthread.h>
     #include <unistd.h>
     static pthread_t first;
     static void *hold(void *node) {
       char line;
       pthread_join(first, 0);
       open(node, O_RDONLY);
       write(1, "held\\n", 5);
       read(0, &line, 1);
       _exit(0);
     }
     int main(int argc, char **argv) {
       pthread_t second;
       first = pthread_self();
       pthread_create(&second, 0, hold, argv[1]);
       pthread_exit(0);
     }`,
  );
  output(["cc", "-pthread", "-o", program, source]);
  await using _child = await holdBy('exec "$1" "$0"', loop.path, program);
  const others = (await loop.holders()).filter(({ by }) => by.endsWith(" (threads)"));
  assertEquals(others.map(({ path, kind }) => [path, kind]), [[loop.path, "process"]]);
});

withRoot("heldBy() and othersThan() tell udevd from others", [], async () => {
  await using own = ownDevices(1);
  const [number] = own.numbers;
  const [path] = own.paths;
  {
    await using loop = await attach(makeImage("lower.img", 1), { number });
    await using _over = await attach(loop.path);
    assertEquals(await heldBy(number), "others");
  }
  const becomes = async (who: Awaited<ReturnType<typeof heldBy>>) =>
    await until(async () => await heldBy(number) === who, `${path} to be held by ${who}`);
  await becomes("nobody");
  await using _udevd = await holdBy('printf "(udev-worker)" >/proc/$$/comm && exec 3<"$0"', path);
  await becomes("udevd");
  await until(async () => (await othersThan(number, undefined)).length === 0, "nobody else");
  await using _other = await holdOpen(path);
  await becomes("others");
  assert((await othersThan(number, undefined)).some((who) => who.endsWith(" (sh)")));
});

withRoot("what ends while it is looked at is passed over", [], async () => {
  const held = makeImage("held.img", 1);
  const fd = openSync(held, "r");
  const closes = (link: string) => {
    if (link === held) closeSync(fd);
    return link === held;
  };
  assertEquals(await describeOpeners(closes, /^flags/m), undefined);
  const hidden = {
    names: new Map(),
    visible: new Set<number>(),
    self: "0",
    own: new Set<number>(),
  };
  const links = linksToAsk({ pid: "self", links: new Map([["999999", held]]) }, hidden);
  assertEquals(links.filter((link) => link.startsWith("/proc/self/fd/")), []);
  assertEquals(hiddenUse(undefined, hidden), undefined);
  // Higher than any number of a process.
  assertEquals(processName("4194305"), "4194305");
  // A node without a driver; and no answer at all where the question is wrong.
  const node = scratch("node");
  output(["mknod", node, "b", "240", "0"]);
  assertEquals(isHeldExclusively(node), false);
  await assertRejects(() => holdOf(undefined as never), TypeError);
});

withRoot("a mount is not refused since its device is looked at meanwhile", [
  "mkfs.ext4",
], async () => {
  await using loop = await attach(ext4Image("looked-at.img"));
  for (let n = 0; n < 60; n++) {
    let isMounting = true;
    const mounting: Promise<LoopMount> = loop.mount().finally(() => isMounting = false);
    let looks = 0;
    while (isMounting) {
      for (let k = 0; k < 100; k++, looks++) isHeldExclusively(loop.path);
      await libc().turn();
    }
    assert(looks > 0);
    await (await mounting).unmount();
  }
});

withRoot("what cannot be looked at is not free", ["mkfs.ext4"], () => {
  const script = scratch("emfile.ts");
  const own = ["mod.ts", "lib/holders/exclusive.ts", "lib/kernel/file.ts"];
  const [mod, exclusive, file] = own.map((name) => JSON.stringify(new URL(name, MOD)));
  writeFileSync(
    script,
    `import { attach } from ${mod};
     import { holdOf, isHeldExclusively } from ${exclusive};
     import { open } from ${file};
     const loop = await attach(${JSON.stringify(ext4Image("many.img"))});
     // A thread wants descriptors for its start.
     const before = [await holdOf(loop.path), isHeldExclusively(loop.path)];
     const files = [];
     try {
       for (;;) files.push(open("/dev/null", 0));
     } catch ({ code }) {
       const answers = [await holdOf(loop.path), isHeldExclusively(loop.path)];
       for (const file of files) file.close();
       const detached = await loop.detach(${JSON.stringify(PATIENTLY)});
       console.log(JSON.stringify({ before, code, answers, detached }));
     }`,
  );
  const said = output(["sh", "-c", 'ulimit -n 200; exec "$@"', "sh", ...onThisRuntime(script)]);
  assertEquals(JSON.parse(said), {
    before: ["free", false],
    code: "EMFILE",
    answers: ["unknown", true],
    detached: "detached",
  });
});

withRoot("holders() reads past files whose paths the kernel does not tell", [], async () => {
  await using loop = await attach(makeImage("beside.img", 1));
  const folder = scratch("deep");
  mkdirSync(folder);
  // More than PATH_MAX, 4096 bytes.
  const script = 'cd "$0" && name=$(printf %0200d 0) && for n in $(seq 22); do ' +
    'mkdir "$name" && cd -P "$name" || exit; done && exec 3>file 4<"$1"';
  await using _child = await holdBy(script, folder, loop.path);
  const names = (await loop.holders()).map(({ by }) => by);
  assert(names.some((name) => name.endsWith("(sh)")), names.join());
  output(["rm", "-r", folder]);
});
