/**
 * What becomes of a call when the kernel refuses one kind of system call altogether: of an old kernel, a
 * filter of a container, or a limit. strace refuses it here.
 */
import { assertEquals, assertMatch } from "@std/assert";
import { chmodSync, copyFileSync, writeFileSync } from "node:fs";
import { attach, type MountOptions } from "../mod.ts";
import { ext4Image } from "./support/mount_image.ts";
import { ownDevices } from "./support/own_devices.ts";
import { busyboxImage } from "./support/run_image.ts";
import {
  assertDetached,
  isolated,
  makeImage,
  MOD,
  type Need,
  onThisRuntime,
  output,
  scratch,
  test,
  THREE_PARTITIONS,
} from "./support/support.ts";
import { traced, tracedWithFault } from "./support/traced.ts";

interface Refusal {
  readonly name: string;
  /** As behind strace's `-e inject=`. */
  readonly inject: string;
  /** The first call that is like it is the only one that is refused. */
  readonly call?: RegExp;
  /** The file of which the calls are refused; by default of all. */
  readonly on?: (image: string) => string;
  /** Gets `file`, and gives what is printed. */
  readonly body: string;
  readonly says: RegExp;
  readonly image?: (name: string) => string;
  readonly needs?: readonly Need[];
}

const mounting = (options: string) =>
  `await using loop = await attach(file);
   await using root = await loop.mount(undefined, ${options});
   return "mounted";`;

const KERNEL = (file: string) => JSON.stringify(new URL(`lib/kernel/${file}.ts`, MOD));
const running = `await using loop = await attach(file);
  await using root = await loop.mount();
  return await root.run("true");`;
const RUNS: readonly Need[] = ["mkfs.ext4", "busybox", "unshare", "mount"];

const REFUSALS: readonly Refusal[] = [
  {
    name: "the probe says what it saw where nobody can be watched",
    inject: "inotify_init1:error=EMFILE",
    body: "return await probePartscanRace();",
    says: /^(affected|fixed|inconclusive)$/,
  },
  {
    name: "the probe says what it saw where this node cannot be watched",
    inject: "inotify_add_watch:error=ENOSPC",
    body: "return await probePartscanRace();",
    says: /^(affected|fixed|inconclusive)$/,
  },
  {
    name: "attach() passes a refusal on of which it sees no cause",
    inject: "?open,openat,openat2:error=EPERM",
    on: (image) => image,
    body: "await attach(file);",
    says: /^EPERM: operation not permitted, open '[^']*refused.img'$/,
  },
  {
    name: "attach() says that a file ends before what it is said to have",
    inject: "pread64,preadv,preadv2,readv:retval=0",
    on: (image) => image,
    body: "await attach(file, { partscan: true });",
    says: /^EIO: .*pread '[^']*refused.img' \(only 0 of \d+ bytes at \d+ could be read\)$/,
  },
  {
    name: "detach() writes back by fsync() where sync_file_range() is forbidden",
    inject: "sync_file_range:error=EPERM",
    body: `const loop = await attach(file, { partscan: "userspace" });
      return await loop.detach();`,
    image: (name) => makeImage(name, 8, THREE_PARTITIONS),
    says: /^detached$/,
  },
  {
    name: "detach() writes back by fsync() where the kernel has no sync_file_range()",
    inject: "sync_file_range:error=ENOSYS",
    body: "return await (await attach(file)).detach();",
    says: /^detached$/,
  },
  {
    name: "unmount() goes on where nobody says what is mounted",
    inject: "quotactl:error=EPERM",
    body: `await using loop = await attach(file);
      const root = await loop.mount();
      return await root.unmount();`,
    image: ext4Image,
    needs: ["mkfs.ext4"],
    says: /^unmounted$/,
  },
  {
    name: "mount() says that nothing can be mounted in another namespace",
    inject: "move_mount:error=EINVAL",
    body: mounting("{}"),
    image: ext4Image,
    needs: ["mkfs.ext4"],
    says: /^EINVAL: .*nothing can be mounted there: perhaps it lies in another mount namespace/,
  },
  {
    name: "mount() says which capability a mount in its place takes",
    inject: "move_mount:error=EPERM",
    body: mounting("{}"),
    image: ext4Image,
    needs: ["mkfs.ext4"],
    says: /^EPERM: .*CAP_SYS_ADMIN/,
  },
  {
    name: "mount() gives the kernel's own error where it has no other",
    inject: "move_mount:error=ENOMEM",
    body: mounting("{}"),
    image: ext4Image,
    needs: ["mkfs.ext4"],
    says: /^ENOMEM: /,
  },
  {
    name: "a detached mount says which kernel it needs",
    inject: "move_mount:error=EINVAL",
    body: mounting("{ detached: true }"),
    image: ext4Image,
    needs: ["mkfs.ext4"],
    says: /^EINVAL: .*detached: true needs Linux 6\.15 or later/,
  },
  {
    name: "run() says which kernel waiting for a program needs",
    inject: "pidfd_open:error=ENOSYS",
    body: running,
    image: busyboxImage,
    needs: RUNS,
    says: /^ENOSYS: .*waiting for a program takes Linux 5\.3/,
  },
  {
    name: "run() says that making namespaces needs a capability",
    inject: "unshare:error=EPERM",
    body: running,
    image: busyboxImage,
    needs: RUNS,
    says: /^EPERM: .*CAP_SYS_ADMIN/,
  },
  {
    name: "run() says that what makes a command's surroundings was killed",
    inject: "unshare:signal=KILL",
    body: running,
    image: busyboxImage,
    needs: RUNS,
    says: /^EIO: .*the process that makes a command's surroundings has ended/,
  },
  {
    name: "mount() leaves nothing where it can make no directory",
    inject: "mkdirat:error=ENOSPC",
    body: mounting("{}"),
    image: ext4Image,
    needs: ["mkfs.ext4"],
    says: /^ENOSPC: /,
  },
  {
    name: "mount() says which kernel an owner takes",
    inject: "mount_setattr:error=EINVAL",
    body: mounting("{ owner: 65534 }"),
    image: ext4Image,
    needs: ["mkfs.ext4"],
    says: /^EINVAL: .*owner: ext4 takes idmapped mounts from Linux 5\.12 on/,
  },
  {
    name: "mount() leaves no directory that it could not give to its owner",
    inject: "fchown:error=EIO",
    body: mounting("{ owner: 65534 }"),
    image: ext4Image,
    needs: ["mkfs.ext4", "unshare"],
    says: /^EIO: (?!.*is left)/,
  },
  {
    name: "mount() reads the kernel's log on where a record was overwritten",
    inject: "read:error=EPIPE:when=1",
    on: () => "/dev/kmsg",
    body: mounting('{ type: "ext4" }'),
    says: /^EINVAL: /,
  },
  {
    name: "run() rejects where it cannot wait for a program, and leaves no child",
    inject: "ppoll:error=ENOMEM",
    // Of the pipe that interrupts the wait, and of the program.
    call: /^ppoll\(\[\{fd=\d+, events=POLLIN\}, \{/,
    body: `const { signalChildren } = await import(${KERNEL("program")});
      const said = await (async () => { ${running} })().catch(({ message }) => message);
      return said + ", children: " + signalChildren(process.pid, 0);`,
    image: busyboxImage,
    needs: RUNS,
    says: /^ENOMEM: .*ppoll.*, children: false$/,
  },
  {
    name: "run() that found no room for what unshare says runs the next command",
    // The keeper's script, the messages and the script of a namespace, and then what unshare says of itself.
    inject: "memfd_create:error=EMFILE:when=4",
    body: `await using loop = await attach(file);
      await using root = await loop.mount();
      const refused = await root.run("true").catch(({ message }) => message);
      return [refused, (await root.run("true")).code].join();`,
    image: busyboxImage,
    needs: RUNS,
    says: /^EMFILE: .*memfd_create.*,0$/,
  },
  {
    name: "scriptFile() leaves no file of which memory has no room for the content",
    inject: "pwrite64:error=ENOSPC",
    call: /^pwrite64\(\d+, "echo/,
    body: `const { readdirSync, readlinkSync } = await import("node:fs");
      const { scriptFile } = await import(${KERNEL("program")});
      await using loop = await attach(file);
      const left = () => readdirSync("/proc/self/fd").filter((fd) => {
        try { return readlinkSync("/proc/self/fd/" + fd).includes("memfd:held"); } catch {}
      });
      try {
        return scriptFile("held", "echo").path;
      } catch ({ code }) {
        return [code, left().length].join();
      }`,
    says: /^ENOSPC,0$/,
  },
  {
    name: "signalChildren() passes over a child that has ended meanwhile",
    inject: "pidfd_open:error=ESRCH",
    body: `const { exitOf, signalChildren, startProgram } = await import(${KERNEL("program")});
      const plan = { path: "/bin/sleep", args: ["sleep", "60"], env: [], session: false, files: [] };
      const pid = startProgram(plan);
      const sent = signalChildren(process.pid, 0);
      process.kill(pid);
      return [sent, (await exitOf(pid)).signal].join();`,
    says: /^false,15$/,
  },
  {
    name: "a chain goes on where a signal interrupted it, with the descriptors that it has",
    inject: "read:error=EINTR:when=1",
    on: (image) => image,
    body: `const { chainOnThread } = await import(${KERNEL("chain")});
      const { ${"AT_FDCWD, cString, OpenFile"} } = await import(${KERNEL("file")});
      const [fd, read] = await chainOnThread([
        { name: "openat", args: [AT_FDCWD, cString(file), 0, 0] },
        { name: "read", on: 0, args: [new Uint8Array(new ArrayBuffer(8)), 8] },
      ]);
      new OpenFile(fd, file).close();
      return String(read);`,
    says: /^8$/,
  },
  {
    name: "an error names the capability also where nobody says which ones a process has",
    inject: "move_mount,capget:error=EPERM",
    body: mounting("{}"),
    image: ext4Image,
    needs: ["mkfs.ext4"],
    says: /^EPERM: .*needs CAP_SYS_ADMIN(?!; this process has it)/,
  },
  {
    name: "UeventGroup keeps no socket that cannot be bound",
    inject: "bind:error=EACCES",
    body: `const { UeventGroup } = await import(${KERNEL("uevents")});
      return new UeventGroup("kernel");`,
    says: /^EACCES: .*bind 'kernel's netlink group'/,
  },
];

const emptyImage = (name: string) => makeImage(name, 1);

for (const { name, inject, call, on, body, says, image = emptyImage, needs } of REFUSALS) {
  test(name, ["root", "strace", ...needs ?? []], () => {
    const file = image("refused.img");
    const script = `const file = ${JSON.stringify(file)};
      const said = await (async () => { ${body} })().catch(({ message }) => message);
      console.log(said);`;
    const [calls, error] = inject.split(":");
    const how = (nth: number) => `${error}:when=${nth}`;
    const { stdout } = call
      ? tracedWithFault(script, { calls: `${calls},?open,openat` }, { call, how })
      : traced(script, { calls, inject, on: on?.(file) });
    assertMatch(stdout.trim(), says);
    assertDetached(file);
  });
}

test("detach() passes over a partition that somebody removes while it looks", [
  "root",
  "strace",
], async () => {
  await using own = ownDevices(1);
  const [[number], [path]] = [own.numbers, own.paths];
  const file = makeImage("removed.img", 8, THREE_PARTITIONS);
  const loop = await attach(file, { number, partscan: "userspace" });
  await loop.persist();
  const { stdout } = traced(
    `const { detach } = await import(${JSON.stringify(MOD)});
     const { sysfsPartitions } = await import(${KERNEL("sysfs")});
     const seen = sysfsPartitions(${number}).map(({ number }) => number).join();
     console.log(seen, await detach(${JSON.stringify(path)}));`,
    {
      calls: "?open,openat",
      inject: "?open,openat:error=ENOENT",
      on: `/sys/block/loop${number}/loop${number}p2/dev`,
    },
  );
  assertEquals(stdout, "1,3 detached\n");
  assertDetached(file);
});

/** How a mount ends in a /run of its own, which `setup` changes first. `around`: what runs the runtime. */
function mountedIn(setup: string, options: MountOptions = {}, around: string[] = []): string {
  const file = ext4Image("own-run.img");
  const script = scratch("own-run.ts");
  writeFileSync(
    script,
    `import { attach } from ${JSON.stringify(MOD)};
     await using loop = await attach(${JSON.stringify(file)});
     const mounting = loop.mount(undefined, ${JSON.stringify(options)});
     console.log(await mounting.then((root) => root.unmount(), ({ message }) => message));`,
  );
  const own = [...isolated("tmpfs=/run"), "sh", "-c", `${setup} && exec "$@"`, "sh"];
  const wrapper = [...own, ...around];
  const said = output([...wrapper, ...onThisRuntime(script)]).trim();
  assertDetached(file);
  return said;
}

test("mount() lies in no directory of others, and says how root gets it back", [
  "root",
  "mkfs.ext4",
], () => {
  const [all, users] = ["/run/loopdev", "/run/loopdev-owned"];
  assertMatch(
    mountedIn(`mkdir -m 700 ${all} && chown 65534 ${all}`),
    /^EPERM: .*others may enter or own this directory/,
  );
  const owner = { owner: 65534 };
  assertMatch(
    mountedIn(`mkdir -m 777 ${users}`, owner),
    /^EPERM: .*or may write to it, .*chmod 711/,
  );
  assertMatch(
    mountedIn(`mkdir -m 711 ${users} && chown 65534 ${users}`, owner),
    /^EPERM: .*others own this directory/,
  );
  // A umask that leaves nobody in.
  assertMatch(mountedIn(`mkdir -m 700 ${users}`, owner), /^unmounted$/);
});

test("mount() has its keeper though the shell that started it was killed then", [
  "root",
  "mkfs.ext4",
  "mount",
], () => {
  const [shell, killed] = [scratch("shell"), scratch("killed")];
  copyFileSync("/bin/sh", shell);
  writeFileSync(killed, `#!${shell}\n${shell} "$@"\nkill -KILL $$\n`);
  for (const path of [shell, killed]) chmodSync(path, 0o755);
  assertMatch(mountedIn(`mount --bind ${killed} /bin/sh`), /^unmounted$/);
});

/** What `body` gives, to which `file` and attach() are known, in a process that ignores SIGCHLD. */
function ignoringSigchld(file: string, body: string): string[] {
  const script = scratch("orphans.ts");
  // struct sigaction of the kernel: its handler is SIG_IGN.
  writeFileSync(
    script,
    `import { attach } from ${JSON.stringify(MOD)};
     import { SYS } from ${KERNEL("syscalls")};
     import { libc } from ${JSON.stringify(new URL("lib/runtime/libc.ts", MOD))};
     const file = ${JSON.stringify(file)};
     const [SIGCHLD, SIG_IGN] = [17, 1];
     const action = new Uint8Array(new ArrayBuffer(32));
     action[0] = SIG_IGN;
     libc().syscall(SYS("rt_sigaction"), SIGCHLD, action, 0, 8);
     console.log(await (async () => { ${body} })().catch(({ message }) => message));`,
  );
  return onThisRuntime(script);
}

test("run() and check say that nobody can know how a program ended where SIGCHLD is ignored", [
  "root",
  ...RUNS,
], () => {
  const file = busyboxImage("orphans.img");
  const checking = `const { checkFileSystem } = await import(${
    JSON.stringify(new URL("lib/image/check.ts", MOD))
  });
    return await checkFileSystem("ext4", file) ?? "clean";`;
  for (const [body, path] of [[running, "true"], [checking, "e2fsck"]]) {
    const says =
      `ECHILD: no child processes, wait4 '${path}' (this process ignores SIGCHLD, so the ` +
      "kernel does not keep how its children ended)";
    assertEquals(output(ignoringSigchld(file, body)).trim(), says);
  }
  assertDetached(file);
});

test("mount() says that its keeper has ended also where SIGCHLD is ignored", [
  "root",
  "mount",
  "mkfs.ext4",
], () => {
  const file = ext4Image("no-keeper.img");
  const [shell, ending] = [scratch("shell"), scratch("ending")];
  copyFileSync("/bin/sh", shell);
  writeFileSync(ending, `#!${shell}\nexit 3\n`);
  for (const path of [shell, ending]) chmodSync(path, 0o755);
  const mount = `await using loop = await attach(file);
    await using root = await loop.mount();
    return root.path;`;
  const own = [
    ...isolated("tmpfs=/run"),
    shell,
    "-c",
    `mount --bind ${ending} /bin/sh; exec "$@"`,
    "sh",
  ];
  const said = output([...own, ...ignoringSigchld(file, mount)]);
  assertMatch(
    said,
    /^EIO: .*posix_spawn '\/bin\/sh' \(loopdev-keeper ended; mount\(\) starts a shell/,
  );
  assertDetached(file);
});

const refusing = (inject: string) => {
  const calls = inject.split(":")[0];
  return ["strace", "-f", "-o", "/dev/null", "-e", `trace=${calls}`, "-e", `inject=${inject}`];
};

test("mount() says why it has no directory for its mounts", [
  "root",
  "strace",
  "mount",
  "mkfs.ext4",
], () => {
  assertMatch(
    mountedIn("mount -o remount,ro /run"),
    /^EROFS: .*where root must be able to make directories/,
  );
  assertMatch(mountedIn("true", {}, refusing("flock:error=EAGAIN")), /^EAGAIN: .*flock/);
});

test("mount() names the directory of a user's that it could not remove again", [
  "root",
  "strace",
  "unshare",
  "mkfs.ext4",
], () => {
  const there = "mkdir -m 711 /run/loopdev-owned";
  const inject = refusing("fchown,unlinkat:error=EIO:when=1");
  assertMatch(
    mountedIn(there, { owner: 65534 }, inject),
    /^EIO: .*fchown.* is left: rm -r \/run\/loopdev-owned\//,
  );
});

test("mount() names the capabilities that a user's mount takes", [
  "root",
  "setpriv",
  "unshare",
  "mkfs.ext4",
], () => {
  const without = ["setpriv", "--bounding-set", "-setuid", "--"];
  assertMatch(
    mountedIn("true", { owner: 65534 }, without),
    /^EPERM: .*this needs CAP_SETUID, .* to map root's id/,
  );
});
