import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import process from "node:process";
import { attach, isAffected, type KernelBug } from "../mod.ts";
import { LoopError } from "../lib/base/errors.ts";
import { readWithoutWaiting } from "../lib/kernel/blocking.ts";
import { chainOnThread, uninterruptedOnThread } from "../lib/kernel/chain.ts";
import { isBeingClaimed, whileClaiming } from "../lib/kernel/claims.ts";
import {
  absolutePath,
  AT_FDCWD,
  cString,
  memoryFile,
  O_CLOEXEC,
  O_RDONLY,
  O_RDWR,
  open,
  OpenFile,
  readText,
} from "../lib/kernel/file.ts";
import { ext4ResizeFs, writeThrough } from "../lib/kernel/growth.ts";
import { loopStatusAt } from "../lib/kernel/loop.ts";
import { makeHolder } from "../lib/kernel/mount.ts";
import { isNodev } from "../lib/kernel/mountinfo.ts";
import { OpenWatch } from "../lib/kernel/open_watch.ts";
import { hasSuperblock } from "../lib/kernel/quotactl.ts";
import { flock, tryLockAlone } from "../lib/kernel/record_lock.ts";
import { parseRelease } from "../lib/kernel/release.ts";
import { isThere, placesOf, unwritableBy } from "../lib/kernel/stat.ts";
import { libcCall, must } from "./support/libc_call.ts";
import {
  isolated,
  makeImage,
  MOD,
  onThisRuntime,
  openDescriptors,
  output,
  run,
  RUNTIME,
  scratch,
  test,
} from "./support/support.ts";

/**
 * Release → affected, each with what proves it. Measured rows are real boots of that kernel; the others
 * have the forms of real releases.
 */
const VERDICTS: [release: string, affected: boolean, why: string][] = [
  ["2.6.78", true, "what setarch --uname-2.6 makes of 6.18"],
  ["4.19.0-27-amd64", true, "has no LOOP_CONFIGURE: nobody asks there"],
  ["5.4.0-204-generic", true, "has no LOOP_CONFIGURE: nobody asks there"],
  ["5.8.0-63-generic", false, "older than the bug, Ubuntu"],
  ["5.11.0-1028-aws", false, "older than the bug, Ubuntu's flavour"],
  ["5.10.0-0.deb10.30-cloud-amd64", false, "older than the bug, Debian's backports"],
  ["5.10.223", false, "measured"],
  ["5.10.0-33-cloud-amd64", false, "measured: 5.10.262"],
  ["5.14.21", false, "last series without the bug"],
  ["5.15-rc1", true, "the bug came in the merge window"],
  ["5.15.0", true, "first release with the bug"],
  ["5.15.0-25-generic", true, "Ubuntu hides the stable level"],
  ["5.15.999", true, "5.15.y has no fix"],
  ["5.19.17", true, "ended before the fix"],
  ["6.1.176", true, "measured"],
  ["6.1.0-56-amd64", true, "Debian hides the stable level"],
  ["6.6.140", true, "last before the fix"],
  ["6.6.141", false, "5dd9d864eb96"],
  ["6.8.0-110-generic", true, "Ubuntu hides the stable level"],
  ["6.12.90", true, "measured"],
  ["6.12.90+deb13.1-amd64", true, "measured, Debian shows the stable level"],
  ["6.12.91-rc1", true, "a candidate may lack what the release has"],
  ["6.12.91", false, "3cef9aa17bf7"],
  ["6.12.94+deb13+1-cloud-amd64", false, "measured"],
  ["6.12.117", false, "measured"],
  ["6.16.12", true, "measured"],
  ["6.17.13", true, "measured"],
  ["6.18.15", true, "measured"],
  ["6.18.32", true, "last before the fix"],
  ["6.18.33", false, "37466ec483ea"],
  ["6.18.44-fc-v657", false, "measured: a number with the fix is proof, whoever built it"],
  ["6.19.14", true, "measured"],
  ["7.0.0-14-generic", true, "Ubuntu hides the stable level"],
  ["7.0.9", true, "measured"],
  ["7.0.10", false, "measured"],
  ["7.1.0-rc7", true, "a candidate may lack what the release has"],
  ["7.1.0", false, "267ec4d7223a"],
  ["7.1.3+deb14-amd64", false, "measured"],
  ["7.3.4", false, "measured"],
  ["8.0.0-rc1", false, "every later series"],
  ["10.2", false, "every later series"],
  ["4.18.0-553.el8_10.x86_64", true, "RHEL's block layer is not 4.18's"],
  ["5.14.0-503.el9.x86_64", true, "RHEL's block layer is not 5.14's"],
  ["6.12.0-211.el10.x86_64", true, "RHEL hides what it carries"],
  ["5.14.21-150500.55.19-default", true, "SLE's block layer is not 5.14's"],
  ["5.4.17-2136.338.4.el8uek.x86_64", true, "Oracle's block layer is not 5.4's"],
  ["5.10.102.1-microsoft-standard-WSL2", true, "an unknown builder below the bug's birth"],
  ["5.10.0-60.18.0.50.oe2203.x86_64", true, "an unknown builder below the bug's birth"],
  ["7.1.0-1-default", false, "Tumbleweed: a series that had the fix from its first release on"],
  ["7.1.3-1-default", false, "Tumbleweed"],
  ["7.0.10-1-default", false, "Tumbleweed packs the stable release with the fix"],
  ["6.18.33-1-default", false, "Tumbleweed packs the stable release with the fix"],
  ["6.18.32-1-default", true, "Tumbleweed, the last before the fix"],
  ["6.17.9-1-default", true, "Tumbleweed, a series without a fix"],
  ["7.1.0-rc3-1.g7a5b3e2-default", true, "openSUSE's Kernel:HEAD, a candidate"],
  ["6.12.0-160000.5-default", true, "SLE 16 and Leap 16 hide what they carry"],
  ["6.12.95-160000.5-default", true, "an enterprise kernel's third number is its own"],
  ["7.1.0-170000.2-default", false, "an enterprise kernel of a series that has the fix"],
  ["6.4.0-150600.23.47-default", true, "SLE 15.6 and Leap 15.6"],
  ["5.3.18-lp152.19-default", true, "Leap 15.2 has no LOOP_CONFIGURE: nobody asks there"],
  ["5.14.21-1-default", true, "Tumbleweed, but SLE had this form as well"],
  ["5.14.21-9.1-azure", true, "an unknown builder below the bug's birth"],
  ["5.14.0-570.12.1.el9_6.x86_64", true, "RHEL 9.6"],
  ["6.12.0-55.9.1.el10_0.x86_64", true, "RHEL 10.0"],
  ["7.1.0-21.el11.x86_64", false, "an enterprise kernel of a series that has the fix"],
  ["7.1.0-0.rc3.20260511git5d6919055dec.30.el11.x86_64", true, "the same, of a candidate"],
  ["6.12.0-100.28.2.el10uek.x86_64", true, "Oracle's UEK 8 hides what it carries"],
  ["6.18.33-1.el9.elrepo.x86_64", false, "ELRepo packs kernel.org's stable release"],
  ["6.18.30-1.el9.elrepo.x86_64", true, "ELRepo, before the fix"],
  ["6.19.14-200.fc43.x86_64", true, "Fedora, a series without a fix"],
  ["7.0.10-200.fc44.x86_64", false, "Fedora packs the stable release with the fix"],
  ["7.1.0-0.rc3.250516g5d6919055dec.30.fc45.x86_64", true, "Rawhide, a candidate"],
  ["7.1.2-61.fc45.x86_64", false, "Fedora"],
  ["6.18.33-arch1-1", false, "Arch"],
  ["7.0.9-arch1-1", true, "Arch, the last before the fix"],
  ["7.1.1-zen1-1-zen", false, "Arch's zen"],
  ["6.12.91-1-lts", false, "Arch's long-term kernel"],
  ["6.12.85-1-lts", true, "Arch's long-term kernel, before the fix"],
  ["7.1.0-hardened1-1-hardened", false, "Arch's hardened one"],
  ["6.12.73+deb13-amd64", true, "Debian 13"],
  ["6.12.107+deb13-rt-amd64", false, "Debian 13's real-time flavour"],
  ["6.1.0-45-cloud-arm64", true, "Debian 12"],
  ["7.0.12+deb14-arm64", false, "Debian's testing"],
  ["7.1-rc6-amd64", true, "Debian's experimental, a candidate"],
  ["5.15.0-173-generic", true, "Ubuntu 22.04"],
  ["6.8.0-1052-azure", true, "Ubuntu's Azure flavour hides the stable level"],
  ["6.17.0-19-generic", true, "Ubuntu's hardware enablement"],
  ["7.1.0-070100rc3-generic", true, "Ubuntu's mainline builds, a candidate"],
  ["7.1.2-070102-generic", false, "Ubuntu's mainline builds"],
  ["6.18.35-061835-generic", false, "Ubuntu's mainline builds of a stable release with the fix"],
  ["6.1.176-219.360.amzn2023.x86_64", true, "Amazon Linux 2023, a series without a fix"],
  ["6.12.94-128.161.amzn2023.x86_64", false, "Amazon Linux 2023 shows the stable level"],
  ["5.10.240-238.966.amzn2.x86_64", true, "Amazon Linux 2, an unknown builder"],
  ["6.6.141.1-1.azl3", false, "Azure Linux shows the stable level"],
  ["6.6.104.2-4.azl3", true, "Azure Linux, before the fix"],
  ["6.6.87.2-microsoft-standard-WSL2", true, "WSL2, before the fix"],
  ["6.6.141.1-microsoft-standard-WSL2", false, "WSL2 shows the stable level"],
  ["5.15.167.4-microsoft-standard-WSL2", true, "WSL2, a series without a fix"],
  ["6.6.127-android15-8-g0f1b63a0f11a-ab14443332-4k", true, "Android, before the fix"],
  ["5.10.236-android13-4-00003-gb6cbd36e1dd6", true, "Android, an unknown builder"],
  ["6.12.75+rpt-rpi-2712", true, "Raspberry Pi OS, before the fix"],
  ["6.12.93+rpt-rpi-v8", false, "Raspberry Pi OS shows the stable level"],
  ["6.1.21-v8+", true, "Raspberry Pi's older form"],
  ["6.8.12-18-pve", true, "Proxmox, a series without a fix"],
  ["6.17.13-2-pve", true, "Proxmox, a series without a fix"],
  ["7.0.10-2-pve", false, "Proxmox shows the stable level"],
  ["6.12.60-0-virt", true, "Alpine, before the fix"],
  ["6.18.36-0-lts", false, "Alpine shows the stable level"],
  ["6.12.68", true, "NixOS, before the fix"],
  ["6.18.33-gentoo", false, "Gentoo shows the stable level"],
  ["6.12.58-gentoo-dist", true, "Gentoo, before the fix"],
  ["6.12.92_1", false, "Void shows the stable level"],
  ["6.12.63_1", true, "Void, before the fix"],
  ["6.18.24-talos", true, "Talos, before the fix"],
  ["6.18.34-talos", false, "Talos shows the stable level"],
  ["6.1.158", true, "Bottlerocket, a series without a fix"],
  ["6.6.122+", true, "Container-Optimized OS, before the fix"],
  ["6.12.94+", false, "Container-Optimized OS shows the stable level"],
  ["6.12.88-flatcar", true, "Flatcar, before the fix"],
  ["6.12.91-flatcar", false, "Flatcar shows the stable level"],
  ["7.1.0-next-20260622", false, "linux-next"],
  ["", true, "empty"],
  ["linux", true, "no version"],
  ["v6.12.117", true, "does not begin with a version"],
  ["6", true, "no minor"],
  ["99999999999.1.1", true, "no kernel"],
];

for (const [release, affected, why] of VERDICTS) {
  test(`isAffected("${release}") is ${affected}: ${why}`, [], () => {
    assertEquals(isAffected(release), affected);
  });
}

test("isAffected() judges another bug by its own rows", [], () => {
  const bug: KernelBug = {
    name: "OTHER",
    symptom: "",
    since: { release: "4.4", commit: "a" },
    until: { release: "4.9", commit: "b" },
    backports: [{ release: "4.4.7", commit: "c" }],
  };
  const verdicts = ["4.3.9", "4.4.6", "4.4.7", "4.5.99", "4.9.0"].map((r) => isAffected(r, bug));
  assertEquals(verdicts, [false, true, false, true, false]);
});

test("parseRelease() names who built the kernel", [], () => {
  const origins = ["6.1.0-56-amd64", "6.8.0-110-generic", "6.12.0-211.el10", "6.18.44", "5.4.1-foo"]
    .map((release) => parseRelease(release)?.origin);
  assertEquals(origins, ["debian", "ubuntu", "enterprise", "upstream", "unknown"]);
});

test("absolutePath() leaves what is absolute or empty, and adds the working directory", [], () => {
  assertEquals(["", "/x", "x"].map(absolutePath), ["", "/x", `${process.cwd()}/x`]);
});

test("isNodev() asks for the mount of a folder, or the root's", [], () => {
  assertEquals(["/proc", "/no/mount/there"].map(isNodev).map((is) => typeof is), [
    "boolean",
    "boolean",
  ]);
});

test("isNodev() is false in a chroot whose root is no mount's", ["root", "mount"], () => {
  const [script, mount] = [scratch("chroot.ts"), scratch("chroot")];
  mkdirSync(mount);
  const from = (file: string) => JSON.stringify(new URL(file, MOD));
  writeFileSync(
    script,
    `import { isNodev, mounts } from ${from("lib/kernel/mountinfo.ts")};
     import { libcCall, must } from ${from("tests/support/libc_call.ts")};
     const chroot = libcCall("chroot", "buffer");
     const root = must(libcCall("open", "buffer", "i32", "i32")("/", 0, 0), "open");
     must(chroot(${JSON.stringify(`${mount}/root`)}), "chroot");
     console.log(mounts().map(({ point }) => point).join(), isNodev("/dev"));
     must(libcCall("fchdir", "i32")(root), "fchdir");
     must(chroot("."), "chroot");`,
  );
  const make = 'mkdir -p "$0" && mount -t proc none "$0" && exec "$@"';
  const inside = [...isolated(`tmpfs=${mount}`), "sh", "-c", make, `${mount}/root/proc`];
  assertEquals(output([...inside, ...onThisRuntime(script)]), "/proc false\n");
});

test("readText() takes a newline from the end, if there is one", [], () => {
  const texts = ["", "one", "one\n", "one\n\n"].map((text) => {
    const path = scratch("text");
    writeFileSync(path, text);
    return readText(path);
  });
  assertEquals(texts, ["", "one", "one", "one\n"]);
});

/** Has the kernel drop a file's clean pages, as it does where memory is short. */
function evict(file: OpenFile, length: number): void {
  const [PROT_READ, MAP_SHARED_FIXED_NOREPLACE] = [1, 0x100001];
  const [MADV_PAGEOUT, MADV_POPULATE_READ] = [21, 22];
  // Below 2 GiB: the result has 32 bits.
  const address = 0x60000000;
  const mmap = libcCall("mmap", "u64", "u64", "i32", "i32", "i32", "u64");
  const madvise = libcCall("madvise", "u64", "u64", "i32");
  file.call((fd) =>
    must(mmap(address, length, PROT_READ, MAP_SHARED_FIXED_NOREPLACE, fd, 0), "mmap")
  );
  for (const advice of [MADV_POPULATE_READ, MADV_PAGEOUT]) {
    must(madvise(address, length, advice), "madvise");
  }
  must(libcCall("munmap", "u64", "u64")(address, length), "munmap");
}

test(
  "readWithoutWaiting() gives what the kernel has evicted, up to the file's end",
  [],
  async () => {
    const path = scratch("evicted");
    const content = new Uint8Array(5 * 4096 - 100).map((_, i) => i);
    writeFileSync(path, content);
    output(["sync", path]);
    using file = open(path, O_RDWR);
    for (const [offset, length] of [[0, 4096], [4096, 5 * 4096]]) {
      evict(file, content.length);
      const bytes = await readWithoutWaiting(file, offset, length);
      assertEquals(bytes, content.slice(offset, offset + length));
    }
  },
);

test("makeBlocking() leaves a descriptor that is closed as it is", [], () => {
  const script = scratch("closed.ts");
  const from = (file: string) => JSON.stringify(new URL(`lib/${file}.ts`, MOD));
  writeFileSync(
    script,
    `import { exitOf, makeBlocking, startProgram } from ${from("kernel/program")};
     import { libc } from ${from("runtime/libc")};
     libc().close(0);
     makeBlocking(0);
     const plan = { path: "/bin/sh", args: ["sh", "-c", "[ ! -e /proc/$$/fd/0 ]"], env: [], files: [] };
     console.log(JSON.stringify(await exitOf(startProgram(plan))));`,
  );
  const { stdout } = run(onThisRuntime(script));
  assertEquals(stdout, '{"code":0}\n');
});

test(
  "unwritableBy() knows no attribute of a file without one, and none of a missing one",
  [],
  () => {
    const file = scratch("plain");
    writeFileSync(file, "");
    assertEquals([file, `${file}.none`].map(unwritableBy), [undefined, undefined]);
  },
);

test("isBeingClaimed() counts a disk and its partitions as one", [], async () => {
  const asked = ["/dev/loop4", "/dev/loop4p1", "/dev/loop4p2", "/dev/loop5"];
  const claimed = (path: string) =>
    whileClaiming(path, () => Promise.resolve(asked.map(isBeingClaimed)));
  assertEquals(await claimed("/dev/loop4"), [true, true, true, false]);
  assertEquals(await claimed("/dev/loop4p1"), [true, true, false, false]);
  assertEquals(asked.map(isBeingClaimed), Array(4).fill(false));
});

test("a chain gives the descriptor of one step to a later one", [], async () => {
  const flags = O_RDONLY | O_CLOEXEC;
  const [opened, read] = await chainOnThread([
    { name: "openat", args: [AT_FDCWD, cString("/proc/self/comm"), flags, 0] },
    { name: "read", on: 0, args: [new Uint8Array(new ArrayBuffer(64)), 64] },
  ]);
  using _ = new OpenFile(opened, "/proc/self/comm");
  assertEquals(read > 0, true);
});

test("OpenFile.giveAway() gives nothing of a file that is closed", [], async () => {
  const file = memoryFile("closed", 1);
  file.close();
  assertEquals(await file.giveAway(), undefined);
  await file.closeOnThread();
});

test("memoryFile() leaves no descriptor where the kernel refuses the size", [], () => {
  const before = openDescriptors();
  assertThrows(() => memoryFile("before its begin", 0));
  assertEquals(openDescriptors(), before);
});

test("isThere() throws what says nothing of whether the name exists", [], () => {
  const long = scratch("n".repeat(300));
  assertEquals(assertThrows(() => isThere(long), LoopError).code, "ENAMETOOLONG");
});

test("placesOf() knows the type of each file, and leaves out what is not there", [], async () => {
  using held = memoryFile("held", 1);
  const watched = scratch("watched");
  writeFileSync(watched, "");
  using watch = new OpenWatch(watched);
  const paths = ["/dev/null", "/proc", "/no/such/file", watched];
  const places = await placesOf([...paths, `/proc/self/fd/${held.call((fd) => fd)}`]);
  const types = places.map((place) => place?.type);
  assertEquals(types, ["character device", "directory", undefined, "file", "file"]);
  assertEquals(watch.wasOpened, false);
  open(watched, O_RDONLY).close();
  assertEquals(watch.wasOpened, true);
});

test("placesOf() calls what has no type unknown", [], async () => {
  const link = scratch("queue");
  using _queue = new OpenWatch("/dev/null");
  // inotify's queues, which have no type, are among this process's files.
  symlinkSync("/proc/self/fd", link);
  const numbers = Array.from({ length: 64 }, (_, fd) => `${link}/${fd}`);
  const types = (await placesOf(numbers)).map((place) => place?.type);
  assertEquals(types.includes("unknown"), true);
});

test(
  "loopStatusAt() says nothing of a node that is not there, and of another device",
  [],
  async () => {
    assertEquals(await loopStatusAt("/no/such/node"), undefined);
    assertEquals(await loopStatusAt("/dev/null"), undefined);
  },
);

test("writeThrough() names the write that was refused", [], async () => {
  const path = scratch("read-only");
  writeFileSync(path, "");
  using file = open(path, O_RDONLY);
  const writing = writeThrough(file, [{ offset: 0, bytes: new Uint8Array(1) }]);
  const { code, syscall } = await assertRejects(() => writing, LoopError);
  assertEquals([code, syscall], ["EBADF", "pwrite"]);
});

test("ext4ResizeFs() names the request that another file system does not know", [], async () => {
  using directory = open("/proc", O_RDONLY);
  const { code, request } = await assertRejects(() => ext4ResizeFs(directory, 1n), LoopError);
  assertEquals([code, request], ["ENOTTY", "EXT4_IOC_RESIZE_FS"]);
});

test("makeHolder() leaves no mount where it can make no directory", ["root"], async () => {
  const before = openDescriptors();
  const making = makeHolder(["", "inner"], "nowhere");
  const { code, syscall } = await assertRejects(() => making, LoopError);
  assertEquals([code, syscall, openDescriptors()], ["ENOENT", "mkdir", before]);
});

test("tryLockAlone() gets no byte that another description has a write lock of", [], async () => {
  const path = scratch("locked");
  writeFileSync(path, "");
  using theirs = open(path, O_RDWR);
  using ours = open(path, O_RDONLY);
  const [F_OFD_SETLK, F_WRLCK] = [37, 1];
  const lock = flock.encode({ l_type: F_WRLCK, l_start: 7n, l_len: 1n });
  const locking = theirs.callOnThread((fd) =>
    uninterruptedOnThread("fcntl", fd, F_OFD_SETLK, lock)
  );
  assertEquals(await locking, 0);
  assertEquals([await tryLockAlone(ours, 7n), await tryLockAlone(ours, 8n)], [false, true]);
});

test("hasSuperblock() knows a file system with quotas, and nothing of a missing node", [
  "root",
  "mkfs.ext4",
], async () => {
  assertEquals(await hasSuperblock("/dev/no-such-node"), undefined);
  const image = makeImage("quota.img", 8);
  output(["mkfs.ext4", "-q", "-O", "quota", image]);
  await using loop = await attach(image);
  assertEquals(await hasSuperblock(loop.path), false);
  // A kernel without CONFIG_QFMT_V2 mounts it read-only alone, and then its quotas are off.
  const readOnly = () => loop.mount(undefined, { readOnly: true });
  await using root = await loop.mount().catch(readOnly);
  assertEquals(await hasSuperblock(root.device), true);
});

test("without /proc and /sys paths stay relative, and what they would tell is unknown", [
  "root",
], () => {
  // Bun 1.4 aborts without /proc.
  if (RUNTIME === "bun") return;
  const script = scratch("bare.ts");
  const from = (file: string) => JSON.stringify(new URL(`lib/kernel/${file}.ts`, MOD));
  writeFileSync(
    script,
    `import { absolutePath } from ${from("file")};
     import { sysfsMaxPart } from ${from("sysfs")};
     import { forbidsWrites } from ${from("write_mounted")};
     import { whyNotPermitted } from ${from("capabilities")};
     const seen = [absolutePath("x"), sysfsMaxPart(), forbidsWrites() ?? null,
       whyNotPermitted("it", "CAP_SYS_ADMIN")];
     console.log(JSON.stringify(seen));`,
  );
  const bare = isolated("unmount=/proc", "unmount=/sys");
  const seen = JSON.parse(output([...bare, ...onThisRuntime(script)]));
  assertEquals(seen.slice(0, 3), ["x", 0, null]);
  assertEquals(/^it needs CAP_SYS_ADMIN; this process has it, so/.test(seen[3]), true, seen[3]);
});

test("forbidsWrites() takes the kernel's command line for an answer", ["root", "mount"], () => {
  const script = scratch("told.ts");
  const line = scratch("cmdline");
  writeFileSync(
    script,
    `import { forbidsWrites } from ${JSON.stringify(new URL("lib/kernel/write_mounted.ts", MOD))};
     import { writeFileSync } from "node:fs";
     const told = ["0", "1", "off", "on"].map((value) => {
       writeFileSync(${JSON.stringify(line)}, "quiet bdev_allow_write_mounted=" + value + " ro\\n");
       return forbidsWrites();
     });
     console.log(JSON.stringify(told));`,
  );
  writeFileSync(line, "");
  // In a namespace of its own: isolate.ts makes it for any of its words.
  const over = `mount --bind ${line} /proc/cmdline && exec "$@"`;
  const own = [...isolated("tmpfs=/mnt"), "sh", "-c", over, "sh"];
  assertEquals(JSON.parse(output([...own, ...onThisRuntime(script)])), [true, false, true, false]);
});

test("runScript() reaps what earlier scripts left, where orphans are given to this process", [
  "root",
  "unshare",
], () => {
  const script = scratch("first.ts");
  const from = (file: string) => JSON.stringify(new URL(`lib/kernel/${file}.ts`, MOD));
  writeFileSync(
    script,
    `import { runScript } from ${from("program")};
     import { pipe } from ${from("pipe")};
     import { listDirectory, readText } from ${from("file")};
     import process from "node:process";
     const dead = () => listDirectory("/proc").filter((pid) => {
       try { return /\\) Z 1 /.test(readText("/proc/" + pid + "/stat")); } catch {}
     }).length;
     for (let times = 0; times < 3; times++) {
       const { readEnd, writeEnd } = pipe("a helper's");
       const plan = { path: "/bin/sh", text: "read -r _ <&3 &", name: "helper" };
       await runScript({ ...plan, args: [], env: [], files: [readEnd] });
       readEnd.close();
       writeEnd.close();
       while (dead() === 0) await new Promise((resolve) => setTimeout(resolve, 1));
     }
     console.log(process.pid, dead());`,
  );
  const first = ["unshare", "--mount", "--pid", "--fork", "--mount-proc"];
  assertEquals(output([...first, ...onThisRuntime(script)]), "1 1\n");
});
