/** run(): a command in an image, what it sees, and its end, which leaves nothing. */
import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import process from "node:process";
import { attach, LoopError, type LoopMount, type MountOptions, type RunOptions } from "../mod.ts";
import { busyboxImage } from "./support/run_image.ts";
import {
  assertDetached,
  isolated,
  leftAttached,
  losetup,
  makeImage,
  MOD,
  onThisRuntime,
  openDescriptors,
  output,
  ROOT,
  run,
  RUNTIME,
  scratch,
  test,
  testsOf,
  until,
} from "./support/support.ts";

const withBusybox = testsOf("run()", ["root", "mkfs.ext4", "busybox", "unshare", "mount"]);
const RUNNER = `${ROOT}tests/support/runner.ts`;
const text = (bytes: Uint8Array | undefined) => new TextDecoder().decode(bytes);

async function withRoot(
  use: (root: LoopMount, file: string) => Promise<void>,
  options: MountOptions & { change?: (tree: string) => void } = {},
): Promise<void> {
  const { change, ...more } = options;
  const file = busyboxImage("run.img", change);
  {
    await using loop = await attach(file);
    await using root = await loop.mount(undefined, more);
    await use(root, file);
  }
  assertDetached(file);
}

/** What a shell of the image prints. */
async function sh(root: LoopMount, script: string, options: RunOptions = {}): Promise<string> {
  const { stdout, stderr } = await root.run(
    ["sh", "-c", script],
    { stdout: "piped", stderr: "piped", ...options },
  );
  return text(stdout) + text(stderr);
}

/** Processes whose command line has the word. */
const processesWith = (word: string) =>
  readdirSync("/proc").filter((name) => {
    try {
      return /^\d+$/.test(name) && readFileSync(`/proc/${name}/cmdline`, "utf8").includes(word);
    } catch {
      return false;
    }
  });

const unique = () => String(900_000 + Math.floor(Math.random() * 99_999) + process.pid / 1e7);

withBusybox(
  "a command gets arguments, input, environment, and gives code and output",
  [],
  async () => {
    await withRoot(async (root) => {
      const stdin = new TextEncoder().encode("in\n");
      const printed = await root.run([
        "sh",
        "-c",
        'cat; echo "$0" "$X" "$HOME"; echo e >&2; exit 7',
        "a b",
      ], {
        stdin,
        stdout: "piped",
        stderr: "piped",
        env: { X: "x y", "odd-name": "1" },
        clearEnv: true,
      });
      assertEquals({ ...printed, stdout: text(printed.stdout), stderr: text(printed.stderr) }, {
        success: false,
        code: 7,
        signal: undefined,
        stdout: "in\na b x y \n",
        stderr: "e\n",
      });
      const odd = await root.run("env", { stdout: "piped", env: { "odd-name": "1" } });
      assertStringIncludes(text(odd.stdout), "odd-name=1\n");
      const { success, stdout } = await root.run("true");
      assertEquals([success, stdout], [true, undefined]);
      for (const signal of ["TERM", "KILL", "INT"]) {
        const ended = await root.run(["sh", "-c", `kill -${signal} $$`]);
        assertEquals([ended.success, ended.signal], [false, `SIG${signal}`]);
      }
      assertEquals((await root.run(["sh", "-c", "exit 137"])).signal, undefined);
      const realTime = await root.run(["sh", "-c", "kill -40 $$"], { stdout: "null" });
      assertEquals([realTime.signal, realTime.stdout], ["SIGRT40", undefined]);
      const inFile = root.run("true", { cwd: "/bin/busybox" });
      assertEquals((await assertRejects(() => inFile, LoopError)).code, "ENOTDIR");
      assertEquals(await sh(root, "pwd; echo $PATH", { cwd: "/etc" }), `/etc\n${PATH}\n`);
      const many = await sh(root, "yes | head -c 1000000 | tr y x; echo; trap | cat");
      assertEquals(many.length, 1_000_001);
    });
  },
);

const PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

withBusybox(
  "in a chroot it has /proc, /dev and the rest, and none of the machine's",
  [],
  async () => {
    const nodes = ["null", "zero", "full", "random", "urandom", "tty", "ptmx"];
    const inDev = () =>
      output(["stat", "-c", "%n %i %f %t:%T", ...nodes.map((name) => `/dev/${name}`)]);
    const before = inDev();
    await withRoot(async (root) => {
      assertEquals(
        (await sh(root, "ls /dev; ls /dev/pts")).trim().split(/\s+/).join(" "),
        "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero ptmx",
      );
      assertEquals(await sh(root, "echo x >/dev/null; head -c 3 /dev/zero | wc -c"), "3\n");
      assertEquals(
        await sh(root, "stat -c '%a %F' /dev/null /tmp /run /dev/shm"),
        [
          "666 character special file",
          "1777 directory",
          "755 directory",
          "1777 directory",
        ].map((line) => `${line}\n`).join(""),
      );
      const read = await sh(root, "ps -o pid,args; id -u; cat /proc/1/comm");
      assertMatch(read, /^ *1 .*\n/m);
      assert(!/deno|bun|node/.test(read), read);
      const refused = await sh(
        root,
        "echo 1 >/proc/sys/kernel/printk; echo x >/sys/kernel/mm/ksm/run; echo x >/etc/resolv.conf",
      );
      assertEquals(refused.match(/Read-only file system/g)?.length, 3);
      if (existsSync("/etc/resolv.conf")) {
        const own = readFileSync("/etc/resolv.conf", "utf8");
        assertEquals(await sh(root, "cat /etc/resolv.conf"), own);
      }
      await sh(root, "echo x >/tmp/x; echo x >/run/x; echo x >/dev/shm/x; mount -t tmpfs x /etc");
      assertEquals(await sh(root, "rm -rf /dev/* 2>/dev/null; ls /dev"), "pts\n");
      assertEquals(readdirSync(`${root.path}/tmp`), []);
      assertEquals(run(["findmnt", "-rno", "TARGET", "-R", root.path]).stdout, `${root.path}\n`);
    }, { change: (tree) => symlinkSync("../run/systemd/resolv.conf", `${tree}/etc/resolv.conf`) });
    assertEquals(inDev(), before);
  },
);

withBusybox(
  "an image that has no such directories, or may not be written, keeps every byte",
  [],
  async () => {
    const file = busyboxImage("bare.img", (tree) => {
      for (const name of ["dev", "etc", "run", "sys", "tmp"]) {
        rmSync(`${tree}/${name}`, { recursive: true });
      }
    });
    const sum = () => createHash("sha256").update(readFileSync(file)).digest("hex");
    const before = sum();
    {
      await using loop = await attach(file, { readOnly: true });
      await using root = await loop.mount();
      assertEquals(
        await sh(root, "ls /; ls /proc/1/comm; touch /x"),
        [
          "bin\nlost+found\nproc\n/proc/1/comm\n",
          "touch: /x: Read-only file system\n",
        ].join(""),
      );
    }
    assertEquals(sum(), before);
  },
);

withBusybox(
  "without chroot it is a program of this machine, beside the image",
  ["losetup"],
  async () => {
    await withRoot(async (root) => {
      const script =
        'pwd; echo "$LOOPDEV_ROOT"; realpath .; echo x >"$LOOPDEV_ROOT/etc/x"; ls -d /proc/[0-9]*';
      const [cwd, path, real, ...processes] = (await sh(root, script, { chroot: false })).split(
        "\n",
      );
      assertEquals([cwd, path, real], [root.path, root.path, root.path]);
      assertEquals(readFileSync(`${root.path}/etc/x`, "utf8"), "x\n");
      assert(processes.length < 9, "this machine's processes are seen");
      const place = scratch("");
      assertEquals(
        await sh(root, "pwd", { chroot: false, cwd: place }),
        `${run(["realpath", place]).stdout}`,
      );
      // Where it is in PATH by default, and not where every libc looks without one.
      const bare = { chroot: false, clearEnv: true, stdout: "piped" } as const;
      assertEquals((await root.run(["losetup", "--version"], bare)).code, 0);
      assertEquals(await sh(root, "echo $PATH", bare), `${PATH}\n`);
    });
  },
);

withBusybox(
  "mounts with at and detached have a directory in the command's namespace",
  [],
  async () => {
    const at = scratch("at");
    mkdirSync(at);
    const [major, minor] = output(["uname", "-r"]).split(".").map(Number);
    const takesDetached = major > 6 || major === 6 && minor >= 15;
    for (const form of [{ at }, ...takesDetached ? [{ detached: true }] : []]) {
      await withRoot(async (root) => {
        assertEquals(await sh(root, "echo y >/etc/y; cat /etc/y; ls -d /proc/1"), "y\n/proc/1\n");
        const script = 'cd / && ls "$LOOPDEV_ROOT/etc" && realpath "$LOOPDEV_ROOT"';
        assertMatch(await sh(root, script, { chroot: false }), /^y\n\/(run|mnt|media)/);
      }, form);
    }
  },
);

withBusybox("what it leaves behind ends with it, and unmounts with it", [], async () => {
  await withRoot(async (root) => {
    const [daemon, orphan] = [unique(), unique()];
    const script =
      `setsid sleep ${daemon} & (sleep ${orphan} & ) ; kill -9 -1 2>/dev/null; sleep ${daemon} &
      cd /bin; trap '' TERM; sleep ${orphan} & echo left`;
    assertEquals(await sh(root, script), "left\n");
    assertEquals([processesWith(daemon), processesWith(orphan)], [[], []]);
    assertEquals(await root.unmount(), "unmounted");
  });
});

withBusybox("a signal that aborts stops it, also while no file can be opened", [], () => {
  const script = scratch("full.ts");
  // Others run the same test meanwhile: each waits for its own command.
  const word = unique();
  writeFileSync(
    script,
    `import { attach } from ${JSON.stringify(MOD)};
     import { closeSync, openSync, readdirSync, readFileSync } from "node:fs";
     import process from "node:process";
     // Deno opens a socket for signals half a second after its start, and panics where there is no descriptor.
     process.on("SIGUSR2", () => {}).removeAllListeners("SIGUSR2");
     await using loop = await attach(${JSON.stringify(busyboxImage("full.img"))});
     await using root = await loop.mount();
     const stopping = new AbortController();
     const ends = root.run(["sleep", ${JSON.stringify(word)}], { signal: stopping.signal })
       .then(() => "done", (error) => error);
     const runs = (pid) => {
       try {
         return readFileSync("/proc/" + pid + "/cmdline", "utf8") === ["sleep", "${word}", ""].join("\\0");
       } catch {
         return false;
       }
     };
     while (!readdirSync("/proc").some(runs)) await new Promise((r) => setTimeout(r, 10));
     const all = [];
     try {
       for (;;) all.push(openSync("/dev/null", "r"));
     } catch {
       // There is no descriptor left.
     }
     stopping.abort("enough");
     await new Promise((r) => setTimeout(r, 100));
     for (const fd of all) closeSync(fd);
     const begun = performance.now();
     console.log(JSON.stringify([await ends, performance.now() - begun < 60_000]));`,
  );
  const few = ["sh", "-c", 'ulimit -n 256 && exec "$@"', "sh"];
  const { stdout, stderr } = run([...few, ...onThisRuntime(script)], { timeout: 200_000 });
  assertEquals(JSON.parse(stdout || "null"), ["enough", true], stderr);
});

withBusybox("a signal that aborts stops it, also one that ignores SIGTERM", [], async () => {
  await withRoot(async (root) => {
    const reason = new Error("enough");
    const stopped = async (script: string) => {
      const controller = new AbortController();
      const word = unique();
      const running = root.run(["sh", "-c", script.replace("WORD", word)], {
        signal: controller.signal,
      });
      await until(() => processesWith(`sleep\0${word}`).length > 0, "the command");
      controller.abort(reason);
      assertEquals(await assertRejects(() => running), reason);
      assertEquals(processesWith(word), []);
    };
    await Promise.all([
      stopped("exec sleep WORD"),
      stopped("trap 'sleep 0; exit 3' TERM; sleep WORD & wait"),
      // Killed after 5 s, which are the same on every runtime.
      ...RUNTIME === "deno" ? [stopped("trap '' TERM; while :; do sleep WORD; done")] : [],
    ]);
    // What runs the command has been started, and has no child yet.
    const atOnce = new AbortController();
    const listen = atOnce.signal.addEventListener.bind(atOnce.signal);
    atOnce.signal.addEventListener = (...event: Parameters<typeof listen>) => {
      listen(...event);
      queueMicrotask(() => atOnce.abort(reason));
    };
    const word = unique();
    const begun = root.run(["sleep", word], { signal: atOnce.signal });
    assertEquals(await assertRejects(() => begun), reason);
    assertEquals(processesWith(word), []);
    const early = AbortSignal.abort(reason);
    assertEquals(await assertRejects(() => root.run("true", { signal: early })), reason);
    assertEquals((await root.run("true")).success, true);
  });
});

withBusybox("unmount() is refused while it runs; the end of the block kills it", [], async () => {
  const file = busyboxImage("running.img");
  const word = unique();
  let running;
  {
    await using loop = await attach(file);
    await using root = await loop.mount();
    running = root.run(["sleep", word]);
    await until(() => processesWith(`sleep\0${word}`).length > 0, "the command");
    const error = await assertRejects(() => root.unmount(), LoopError, `sleep ${word}`);
    assertEquals(error.code, "EBUSY");
    assert(existsSync(`${root.path}/bin`));
  }
  assertEquals([leftAttached(file), processesWith(word)], [[], []]);
  assertEquals((await running).signal, "SIGKILL");
  await using loop = await attach(file);
  const root = await loop.mount();
  const refused = root.run("true").catch(({ message }) => message);
  await root[Symbol.asyncDispose]();
  assertStringIncludes(await refused, "it has been unmounted before the command began");
});

withBusybox("devices may lie in folders of /dev, but not where its links lead", [], async () => {
  const folder = `/dev/shm/loopdev-${unique()}`;
  mkdirSync(folder);
  const opened = openSync("/dev/null", "r");
  try {
    for (const name of ["a", "b"]) output(["mknod", `${folder}/${name}`, "c", "1", "3"]);
    await withRoot(async (root) => {
      const devices = [`${folder}/a`, `${folder}/b`];
      assertEquals(await sh(root, `ls ${folder}`, { devices }), "a\nb\n");
      const beside = root.run("true", { devices: [`/dev/fd/${opened}`] });
      assertEquals((await assertRejects(() => beside, LoopError)).code, "EEXIST");
    });
  } finally {
    closeSync(opened);
    rmSync(folder, { recursive: true });
  }
});

withBusybox("an image's links that lead nowhere, and directories that do not read", [
  "debugfs",
], async () => {
  const file = busyboxImage("links.img", (tree) => {
    symlinkSync("resolv.conf", `${tree}/etc/resolv.conf`);
  });
  const refused = async (options: RunOptions = {}) => {
    await using loop = await attach(file, { readOnly: true });
    await using root = await loop.mount();
    const { code, path, message } = await assertRejects(() => root.run("true", options), LoopError);
    return { code, path: path!.replace(root.path, ""), message };
  };
  assertEquals((await refused({ cwd: "/etc/resolv.conf" })).code, "ENOENT");
  output(["debugfs", "-w", "-R", "zap_block -p 255 -f /etc 0", file]);
  const damaged = await refused();
  assertEquals([damaged.code, damaged.path], ["EBADMSG", "/etc/resolv.conf"]);
  await withRoot(async (root) => {
    rmdirSync(`${root.path}/tmp`);
    mkdirSync(`${root.path}/line\nbreak`);
    symlinkSync("line\nbreak", `${root.path}/tmp`);
    const { code, message } = await assertRejects(() => root.run("true"), LoopError);
    assertEquals(code, "EINVAL");
    assertStringIncludes(message, "/line\\nbreak' (its path has a line break, which run() cannot");
  });
});

test(
  "run() says which driver does not give the image to a user",
  ["root", "mkfs.ext2"],
  async () => {
    const file = makeImage("ext2.img", 1);
    output(["mkfs.ext2", "-q", "-F", file]);
    await using loop = await attach(file);
    await using root = await loop.mount();
    const { code, message } = await assertRejects(
      () => root.run("true", { owner: 1000 }),
      LoopError,
    );
    assertEquals(code, "EINVAL");
    assertStringIncludes(message, 'with type: "ext4" it is mounted by a driver');
  },
);

withBusybox("after unmount() it says so", [], async () => {
  await withRoot(async (root) => {
    await root.unmount();
    const error = await assertRejects(() => root.run("true"), LoopError, "unmounted");
    assertEquals(error.code, "EBADF");
  });
});

withBusybox("what cannot be executed is an error that says why", [], async () => {
  await withRoot(async (root) => {
    const refused = async (command: string | string[], options: RunOptions = {}) => {
      const error = await assertRejects(() => root.run(command, options), LoopError);
      return `${error.code} ${error.path}: ${error.message}`;
    };
    assertStringIncludes(
      await refused("no-such"),
      `the image has no such program in the folders of PATH, ${PATH}`,
    );
    assertStringIncludes(await refused("ls -l"), '["ls", "-l"]');
    assertStringIncludes(await refused("/etc/plain"), "EACCES /etc/plain:");
    assertStringIncludes(await refused("script"), "ENOENT /no/interpreter:");
    assertStringIncludes(
      await refused("/etc/foreign"),
      "it is a program for s390x, and this machine is",
    );
    assertStringIncludes(await refused("/etc/dynamic"), "its dynamic linker");
    assertStringIncludes(
      await refused("true", { cwd: "/no" }),
      "cwd: the image has no such directory",
    );
    assertStringIncludes(
      await refused("no-such", { chroot: false }),
      "this machine has no such program",
    );
    for (const command of [[], [1], "", ["a\0b"], undefined] as never[]) {
      await assertRejects(() => root.run(command), TypeError);
    }
    for (
      const options of [{ stdin: "x" }, { stdout: "x" }, { env: { "a=b": "" } }, {
        cmd: 1,
      }] as never[]
    ) {
      await assertRejects(() => root.run("true", options), TypeError);
    }
  }, {
    change(tree) {
      writeFileSync(`${tree}/etc/plain`, "x");
      writeFileSync(`${tree}/bin/script`, "#!/no/interpreter -x\n", { mode: 0o755 });
      const elf = new Uint8Array(256);
      elf.set([0x7f, 0x45, 0x4c, 0x46, 2, 2, 1]);
      elf[19] = 22;
      writeFileSync(`${tree}/etc/foreign`, elf, { mode: 0o755 });
      const own = readFileSync(process.execPath).subarray(0, 4096);
      writeFileSync(`${tree}/etc/dynamic`, own, { mode: 0o755 });
    },
  });
});

withBusybox("suid and devices are for the command alone", [], async () => {
  await withRoot(async (root) => {
    const options = () => sh(root, "grep ' / ' /proc/mounts", { suid: true });
    assertMatch(await sh(root, "grep ' / ' /proc/mounts"), /rw,nosuid,nodev/);
    assertMatch(await options(), / rw,nodev/);
    assertMatch(run(["findmnt", "-no", "OPTIONS", root.path]).stdout, /^rw,nosuid,nodev/);
    const devices = [root.device, "/dev/null"];
    const listed = await sh(root, `stat -c '%t:%T' ${root.device}`, { devices });
    assertEquals(listed, run(["stat", "-c", "%t:%T", root.device]).stdout);
    const error = await assertRejects(() => root.run("true", { devices: ["/dev/shm"] }), LoopError);
    assertEquals(error.path, "/dev/shm");
  });
});

type Told = Pick<RunOptions, "chroot"> & { stdin?: string };

/** What run() gives for each command and its options, in a process that starts so; and what that leaves open. */
function toldIn(wrapper: string[], ...runs: [command: string[], options?: Told][]) {
  const file = busyboxImage("told.img", (tree) => {
    writeFileSync(`${tree}/etc/resolv.conf`, "of the image\n");
  });
  const script = scratch("told.ts");
  writeFileSync(
    script,
    `import { attach } from ${JSON.stringify(MOD)};
     import { readdirSync, readlinkSync } from "node:fs";
     const opened = () => readdirSync("/proc/self/fd").filter((fd) => {
       try {
         return readlinkSync("/proc/self/fd/" + fd).startsWith("/memfd:loopdev");
       } catch {}
     }).length;
     const told = [];
     await using loop = await attach(${JSON.stringify(file)});
     await using root = await loop.mount();
     for (const [command, { stdin, ...options } = {}] of ${JSON.stringify(runs)}) {
       const bytes = stdin && new TextEncoder().encode(stdin);
       told.push(await root.run(command, { stdout: "piped", ...bytes && { stdin: bytes }, ...options })
         .then(({ code, stdout }) => code + " " + new TextDecoder().decode(stdout),
           ({ code, path, message }) => code + " " + path + ": " + message));
     }
     console.log(JSON.stringify({ told, left: opened() }));`,
  );
  const { stdout, stderr } = run([...wrapper, ...onThisRuntime(script)]);
  assertDetached(file);
  const line = stdout.split("\n").find((line) => line.startsWith("{"));
  if (line === undefined) throw new Error(stderr);
  return JSON.parse(line) as { told: string[]; left: number };
}

/** A beginning of a command line that makes system calls fail, those of children too. */
const failing = (calls: Record<string, string>, ...paths: string[]) => [
  ...["strace", "-f", "-o", "/dev/null", "-e", `trace=${Object.keys(calls)}`],
  ...Object.entries(calls).flatMap(([call, how]) => ["-e", `inject=${call}:${how}`]),
  ...paths.flatMap((path) => ["-P", path]),
];

withBusybox("it says what its surroundings lack", ["strace"], () => {
  const plain: [string[]] = [["true"]];
  const beside: [string[], Told] = [["echo", "fine"], { chroot: false }];
  assertEquals(toldIn(isolated("without=mknod"), plain, beside).told, [
    "EPERM null: EPERM: operation not permitted, mknodat 'null' (making the nodes of a command's " +
    "/dev needs CAP_MKNOD)",
    "0 fine\n",
  ]);
  const folders = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/run/current-system/sw/bin"];
  const nsenter = folders.map((folder) => `${folder}/nsenter`);
  // Process 1 reads its status, and nothing else here does.
  const [missing, killed] = toldIn(
    failing(
      { statx: `error=ENOENT:when=1..${nsenter.length}`, "?open,openat": "signal=SIGKILL" },
      ...[...nsenter, "/proc/self/stat"],
    ),
    ...[plain, plain],
  ).told;
  assertMatch(missing, /^ENOENT nsenter: .*run\(\) needs sh, unshare, nsenter and mount: install/);
  assertMatch(
    killed,
    /^EIO .*unshare: .* makes a command's surroundings has ended: it was killed\)$/,
  );
  // The first one makes five files in memory, that of the keeper's script among them. Then one is refused for the
  // messages of the second one's namespace, and one for the third one's input.
  const input: [string[], Told] = [["cat"], { stdin: "input" }];
  const { told: [entered, ...refused], left } = toldIn(
    failing({ setns: "error=EPERM", memfd_create: "error=EMFILE:when=6+4" }),
    ...[plain, plain, input],
  );
  assertMatch(entered, /^EIO true: .*\(nsenter: reassociate to .* failed: .*not permitted\)$/);
  for (const error of refused) assertMatch(error, /^EMFILE .*memfd_create .*ulimit -n/);
  assertEquals([refused.length, left], [2, 0]);
});

/** Runs a command in a chroot of all that is in this machine's root directory. */
const inChroot = (isMount: boolean) => [
  ...["unshare", "--mount", "sh", "-c"],
  `mkdir "$0" && mount -t tmpfs none "$0" && cd "$0" && mkdir root || exit
   ${isMount ? "mount --bind root root && cd . || exit" : ""}
   for each in /*; do
     if [ -h "$each" ]; then cp -P "$each" "root$each"
     elif [ -d "$each" ]; then mkdir "root$each" && mount --rbind "$each" "root$each"
     fi || exit
   done
   exec chroot root "$@"`,
  scratch(`chroot-${isMount}`),
];

withBusybox("in a chroot it runs where that is a mount, and says what to do where not", [], () => {
  const ends: [string[]] = [["sh", "-c", "exit 4"]];
  assertEquals(toldIn(inChroot(true), ends).told, ["4 "]);
  const [said] = toldIn(inChroot(false), ends).told;
  assertMatch(said, /^EIO .*root directory is none of a mount, .*: mount --bind the directory on/);
});

withBusybox("busybox's own unshare, nsenter and mount are enough", [], () => {
  const script = 'for tool in unshare nsenter mount; do mount --bind "$(command -v busybox)" ' +
    '"$(command -v $tool)" || exit; done; exec "$@"';
  const { told } = toldIn(
    ["unshare", "--mount", "sh", "-c", script, "sh"],
    [["sh", "-c", "echo in $(cat /proc/1/comm); exit 3"]],
    [["sh", "-c", "kill $$"], { chroot: false }],
  );
  assertEquals(told, ["3 in sh\n", "143 "]);
});

withBusybox("without a resolv.conf of this machine it has the image's", [], () => {
  const { told } = toldIn(isolated("tmpfs=/etc"), [["cat", "/etc/resolv.conf"]]);
  assertEquals(told, ["0 of the image\n"]);
});

withBusybox("SIGKILL of its process ends everything", [], async () => {
  const file = busyboxImage("killed.img");
  const word = unique();
  const script = `trap '' TERM INT HUP; setsid sleep ${word} & sleep ${word}`;
  const [program, ...args] = onThisRuntime(RUNNER, file, "{}", "sh", "-c", script);
  const child = spawn(program, args, { stdio: ["pipe", "inherit", "inherit"] });
  const ended = new Promise((resolve) => child.on("exit", resolve));
  await until(() => processesWith(`sleep\0${word}`).length === 2, "the command");
  child.kill("SIGKILL");
  await ended;
  await until(() => processesWith(word).length === 0, "the command to end");
  await until(() => losetup(file).length === 0, "the device to be detached");
});

withBusybox("it waits for the reader of its output, though its process does not", [], async () => {
  const file = busyboxImage("blocking.img");
  const script = "grep -h flags /proc/self/fdinfo/0 /proc/self/fdinfo/1 /proc/self/fdinfo/2";
  const [program, ...args] = onThisRuntime(RUNNER, file, "{}", "sh", "-c", script);
  const child = spawn(program, args, { stdio: ["pipe", "pipe", "pipe"] });
  let printed = "";
  child.stdout.on("data", (data) => printed += data);
  await new Promise((resolve) => child.on("close", resolve));
  const flags = [...printed.matchAll(/^flags:\s+([0-7]+)$/gm)].map(([, flags]) =>
    parseInt(flags, 8)
  );
  assertEquals(flags.map((flags) => flags & 0o4000), [0, 0, 0]);
});

withBusybox("Ctrl-C is the command's, which says how it ends", ["script"], async () => {
  const file = busyboxImage("terminal.img");
  const script =
    "trap 'echo got; exit 5' INT; test -t 0 && echo ready; while :; do sleep 0.1; done";
  const command = onThisRuntime(RUNNER, file, "{}", "sh", "-c", script);
  const quoted = command.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");
  const child = spawn("script", ["-qfec", quoted, "/dev/null"]);
  let printed = "";
  child.stdout.on("data", (data) => {
    printed += data;
    if (`${data}`.includes("ready")) child.stdin.write("\x03");
  });
  await new Promise((resolve) => child.on("exit", resolve));
  const [, major, minor] = /(\d+)\.(\d+)/.exec(output(["unshare", "--version"]))!.map(Number);
  const isHeard = major > 2 || minor >= 38;
  assertMatch(printed, isHeard ? /ready\s+(\^C)?got\s+\{"code":5\}/ : /"signal":"SIGINT"/);
  assertDetached(file);
});

withBusybox("where mounts are shared, nothing of it shows outside", [
  "unshare",
  "mount",
], async () => {
  const file = busyboxImage("shared.img");
  // Private first: shared with this machine, its other mounts would come and go here, too.
  const shared = ["unshare", "--mount", "--propagation", "private", "--"];
  // Others' mounts may go meanwhile: the kernel takes a mount off everywhere whose directory is removed.
  const before = scratch("before");
  const mounts = "cut -d ' ' -f 1,5 /proc/self/mountinfo";
  const script = `mount --make-rshared / && ${mounts} >${before}; "$@"
    ${mounts} | grep -vxFf ${before} || echo nothing`;
  const command = onThisRuntime(RUNNER, file, "{}", "sh", "-c", "mount | wc -l; ls /dev/null");
  const { stdout, stderr } = run([...shared, "sh", "-c", script, "sh", ...command]);
  assertEquals(stdout.split("\n").slice(1), ["/dev/null", '{"code":0}', "nothing", ""], stderr);
  assertDetached(file);
  await Promise.resolve();
});

withBusybox(
  "more commands run at once than there are threads, and other calls go on",
  [],
  async () => {
    await withRoot(async (root) => {
      const words = Array.from({ length: 30 }, unique);
      const script = "echo x >/etc/$0; while [ ! -e /etc/go ]; do sleep 0.05; done; echo $0";
      const runs = words.map((word) => root.run(["sh", "-c", script, word], { stdout: "piped" }));
      await until(
        () => words.every((word) => existsSync(`${root.path}/etc/${word}`)),
        "them",
        60_000,
      );
      assertEquals((await root.run(["touch", "/etc/go"])).success, true);
      assertEquals((await Promise.all(runs)).map(({ stdout }) => text(stdout).trim()), words);
    });
  },
);

withBusybox("it leaves no descriptor open", [], async () => {
  await withRoot(async (root) => {
    await root.run("true");
    const before = openDescriptors();
    for (const options of [{}, { chroot: false, stdout: "piped", stdin: new Uint8Array(1) }]) {
      await root.run("true", options as RunOptions);
    }
    await assertRejects(() => root.run("no-such"));
    assertEquals(openDescriptors(), before);
  });
});
