/**
 * The tool loopdev under a real udevd: each verb does what it says, its partitions do not flicker, and
 * nothing is left of it; beside it a loop device and a mount that others made, which it must not touch.
 *
 *     bun vm/guest/verbs.ts
 */
import { spawn, spawnSync } from "node:child_process";
import {
  chownSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import process from "node:process";
import { UeventSocket } from "../../tools/race_check/uevents.ts";
import { attach } from "../../mod.ts";
import { until } from "../../tests/support/support.ts";
import { anyProcess, differing, type Finding, tryCase, unsaid } from "./cases.ts";
import { PartitionCounter } from "./cycles.ts";
import { isBound, PARTITIONS, run } from "./image.ts";

const WORK = "/tmp/verbs";
const AT = `${WORK}/at`;
const disk = `${WORK}/disk.img`;
const bare = `${WORK}/bare.img`;
for (const folder of [AT, `${WORK}/theirs`]) mkdirSync(folder, { recursive: true });

/** On Deno with all permissions, as the built program has them. */
const deno = ["run", "-A", "--no-check", "--no-config", "--no-lock"];
const LOOPDEV = [process.execPath, ..."Deno" in globalThis ? deno : [], "cli.ts"];

interface Said {
  status: number | null;
  signal: string | null;
  stdout: string;
  stderr: string;
}

function loopdev(...args: string[]): Said {
  const [name, ...own] = LOOPDEV;
  return spawnSync(name, [...own, ...args], { encoding: "utf8", input: "" });
}

/** What is wrong of a call that is to succeed without a complaint. */
const failed = ({ status, stderr }: Said) =>
  differing("status and stderr", [status, stderr], [0, ""]);

const mountsBelow = (folder: string) =>
  readFileSync("/proc/self/mountinfo", "utf8").split("\n").map((line) => line.split(" ")[4] ?? "")
    .filter((point) => point === folder || point.startsWith(`${folder}/`));

/**
 * Of an image with two partitions, each of which is added once and removed once in a use. As root
 * `loopdev ls` is a use, too: it looks for os-release.
 */
async function counted(uses: number, act: () => Promise<Finding>): Promise<Finding> {
  using socket = new UeventSocket();
  const counter = new PartitionCounter(socket, PARTITIONS * uses);
  const found = await act();
  const isOver = counter.within(10_000, () => !isBound(WORK));
  counter.quiet(80);
  counter.endCycle();
  const { spurious, missing, lost, overruns } = counter.row();
  return {
    ...found,
    faults: [
      ...found.faults ?? [],
      isOver ? undefined : "an image is still attached",
      lost || overruns ? undefined : differing("spurious, missing", [spurious, missing], [0, 0]),
      differing("mounts", mountsBelow(WORK).filter((point) => point !== `${WORK}/theirs`), []),
    ],
  };
}

/** A signal, and how the program ends then: as the command, by its exit code, or by the signal. */
const ENDED_BY = { SIGINT: "130", SIGTERM: "143", SIGKILL: "SIGKILL" };

/**
 * A shell in the image that runs, and a signal: it and what it started are gone. As from a terminal SIGINT
 * goes to all of the group.
 */
async function killed(signal: keyof typeof ENDED_BY): Promise<Finding> {
  const [name, ...own] = LOOPDEV;
  const script = "setsid sleep 954322 & echo it runs; while :; do sleep 954322; done";
  const args = [...own, "run", bare, "--", "sh", "-c", script];
  const child = spawn(name, args, {
    stdio: ["ignore", "pipe", "inherit"],
    detached: true,
  });
  const closed = new Promise<string>((resolve) =>
    child.on("exit", (code, by) => resolve(by ?? String(code)))
  );
  await new Promise<void>((resolve) => child.stdout.on("data", () => resolve()));
  process.kill(signal === "SIGINT" ? -child.pid! : child.pid!, signal);
  const by = await closed;
  const isLeft = () =>
    isBound(bare) ||
    spawnSync("grep", ["-lqs", "-e", "954322", ...pids()]).status === 0;
  await until(() => !isLeft(), "the command and its device to be gone").catch(() => {});
  return {
    seen: by,
    faults: [
      differing("ended by", by, ENDED_BY[signal]),
      isLeft() ? "something is left" : undefined,
    ],
  };
}

const pids = () =>
  readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map((pid) => `/proc/${pid}/cmdline`);

const CASES: Record<string, () => Promise<Finding>> = {
  "ls": () =>
    counted(1, async () => {
      const { stdout, ...rest } = await Promise.resolve(loopdev("ls", disk));
      return {
        faults: [
          failed({ stdout, ...rest }),
          unsaid(
            "ls",
            stdout,
            "gpt, sectors of 512 bytes",
            "Verbs 1",
            /first +ext4\n/,
            /second +ext4\n/,
          ),
        ],
      };
    }),
  "ls --json": () =>
    counted(2, async () => {
      await using loop = await attach(disk, { partscan: true, readOnly: true });
      const said = loopdev("ls", "--json", disk);
      const [{ nodes, partitions }] = JSON.parse(said.stdout).images;
      return {
        faults: [
          failed(said),
          differing("nodes", nodes, [loop.path]),
          differing("partitions", partitions.map(({ nodes }: { nodes: string[] }) => nodes), [
            [`${loop.path}p1`],
            [`${loop.path}p2`],
          ]),
        ],
      };
    }),
  "cp": () =>
    counted(2, async () => {
      writeFileSync(`${WORK}/in`, "copied\n");
      const into = loopdev("cp", `${WORK}/in`, `${disk}:/home/in`);
      const out = await Promise.resolve(loopdev("cp", `${disk}:/home/in`, `${WORK}/out`));
      return {
        faults: [
          failed(into),
          failed(out),
          differing("copied", readFileSync(`${WORK}/out`, "utf8"), "copied\n"),
        ],
      };
    }),
  // vfat has no owners, and refuses any but its own.
  "cp of a user's file to vfat": () =>
    counted(0, async () => {
      const esp = `${WORK}/esp.img`;
      copyFileSync("/guest/vfat.img", esp);
      writeFileSync(`${WORK}/config.txt`, "dtoverlay\n");
      chownSync(`${WORK}/config.txt`, 1000, 1000);
      const into = loopdev("cp", `${WORK}/config.txt`, `${esp}:/`);
      const out = await Promise.resolve(loopdev("cp", `${esp}:/config.txt`, `${WORK}/of-esp`));
      return {
        faults: [
          failed(into),
          failed(out),
          differing("copied", readFileSync(`${WORK}/of-esp`, "utf8"), "dtoverlay\n"),
        ],
      };
    }),
  "run": () =>
    counted(0, async () => {
      const script = "cat; ls /proc/1/comm; exit 7";
      const said = await Promise.resolve(loopdev("run", bare, "--", "sh", "-c", script));
      const { status, stdout } = said;
      return { faults: [differing("status, stdout", [status, stdout], [7, "/proc/1/comm\n"])] };
    }),
  "run --no-chroot": () =>
    counted(1, async () => {
      const script = 'cat "$LOOPDEV_ROOT/home/in"';
      const said = loopdev("run", "--no-chroot", disk, "--", "sh", "-c", script);
      return await Promise.resolve({
        faults: [failed(said), differing("stdout", said.stdout, "copied\n")],
      });
    }),
  "run, SIGINT": () => counted(0, () => killed("SIGINT")),
  "run, SIGTERM": () => counted(0, () => killed("SIGTERM")),
  "run, SIGKILL": () => counted(0, () => killed("SIGKILL")),
  "mount, umount": () =>
    counted(2, async () => {
      const mounted = loopdev("mount", disk, AT);
      const points = mountsBelow(AT);
      writeFileSync(`${AT}/home/written`, "x");
      const there = isBound(disk);
      const listed = loopdev("ls", disk).stdout;
      const ended = await Promise.resolve(loopdev("umount", AT));
      return {
        faults: [
          failed(mounted),
          differing("mounts", points, [AT, `${AT}/home`]),
          differing("attached", there, true),
          unsaid("ls", listed, /second +ext4 +\/dev\/loop\d+p2\n/),
          failed(ended),
        ],
      };
    }),
  "umount, in use": () =>
    counted(1, async () => {
      const mounted = loopdev("mount", disk, AT);
      const user = spawn("sleep", ["1000"], { cwd: `${AT}/home`, stdio: "ignore" });
      const refused = loopdev("umount", AT);
      const points = mountsBelow(AT);
      user.kill("SIGKILL");
      await new Promise((resolve) => user.on("exit", resolve));
      const ended = loopdev("umount", AT);
      return {
        refused: anyProcess(refused.stderr.trim()),
        faults: [
          failed(mounted),
          unsaid("umount", refused.stderr, `process ${user.pid}`),
          differing("mounts", points, [AT, `${AT}/home`]),
          failed(ended),
        ],
      };
    }),
  "grow": () =>
    counted(2, async () => {
      const { status, stdout, stderr } = loopdev("grow", "--size", "32M", disk);
      const listed = await Promise.resolve(loopdev("ls", "--json", "--output-all", disk));
      const [, { size }] = JSON.parse(listed.stdout).images[0].partitions;
      return {
        seen: stdout.trim().split("\n").at(-1),
        faults: [
          differing("status", [status, stderr], [0, ""]),
          size > 22 * 2 ** 20 ? undefined : `partition 2 has ${size} bytes`,
        ],
      };
    }),
  /** The same by losetup and umount: only they leave a loop device. */
  async "losetup, mount, umount"() {
    const path = run(["losetup", "-f", "--show", "-P", disk]);
    run(["udevadm", "settle"]);
    run(["mount", `${path}p1`, AT]);
    run(["umount", AT]);
    const shown = isBound(disk);
    run(["losetup", "-d", path]);
    await until(() => !isBound(disk), `${disk} to be detached`);
    return { seen: "the loop device stays until losetup -d", shown };
  },
};

/** A root that says how it is mounted, and a home. */
async function makeDisk(): Promise<void> {
  copyFileSync("/guest/ext4.img", disk);
  await using loop = await attach(disk, { partscan: true });
  await using root = await loop.mount(1);
  for (const name of ["etc", "home", "usr"]) mkdirSync(`${root.path}/${name}`);
  writeFileSync(`${root.path}/etc/os-release`, 'PRETTY_NAME="Verbs 1"\n');
  writeFileSync(
    `${root.path}/etc/fstab`,
    "PARTLABEL=first / ext4 defaults 0 1\nPARTLABEL=second /home ext4 defaults 0 2\n",
  );
}

await makeDisk();
copyFileSync("/guest/run.img", bare);
const theirs = "/tmp/theirs.img";
copyFileSync("/guest/ext4.img", theirs);
const their = run(["losetup", "-f", "--show", "-o", "1MiB", "--sizelimit", "8MiB", theirs]);
run(["mount", their, `${WORK}/theirs`]);
for (const [name, find] of Object.entries(CASES)) await tryCase(name, find);
await tryCase("what others have", () => ({
  faults: [
    differing("mounts", mountsBelow(`${WORK}/theirs`), [`${WORK}/theirs`]),
    isBound(theirs) ? undefined : "the loop device is gone",
  ],
}));
run(["umount", `${WORK}/theirs`]);
run(["losetup", "-d", their]);
