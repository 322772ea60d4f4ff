/**
 * apt-get install in an image of Debian, by run(): daemons that the packages start end with the
 * command, and a kill in the middle leaves nothing on this machine.
 *
 *     deno task torture:debian --kills 10
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync } from "node:fs";
import { readlinkSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { numberOf, oneOf, readOptions } from "../dev/options.ts";
import { progress, say } from "../dev/terminal.ts";
import { onRuntime, output, ROOT, run, RUNTIMES } from "../tests/support/support.ts";
import { devicesOf, within } from "./common.ts";

const HELP = `Usage: torture/debian_tree.ts [options]

Makes an image of Debian with debootstrap, once, and installs packages that start daemons in it, with
examples/mount_image.ts. Then kills that with SIGKILL in the middle, and looks at what is left here:
processes, mounts, loop devices, files in /dev and /proc, and the file system. Needs root, debootstrap,
e2fsprogs and a mirror of Debian. Exits with 1 if anything was left.

      --runtime NAME  ${RUNTIMES.join(", ")} (${RUNTIMES[0]})
      --kills N       how often (10)
      --suite NAME    of Debian (bookworm)
  -h, --help          this text`;

const { values } = readOptions(HELP, {
  runtime: { type: "string" },
  kills: { type: "string" },
  suite: { type: "string" },
});
const runtime = oneOf("runtime", values.runtime, RUNTIMES);
const kills = numberOf("kills", values.kills, 10);
const { suite = "bookworm" } = values;

const MIB = 1024 * 1024;
/** Each has a daemon that its postinst starts where no systemd runs. */
const PACKAGES = ["cron", "dbus", "openssh-server"];
/** The kernel has to end a PID namespace and unmount. */
const LEAVE_MS = 10_000;

const cache = join(
  process.env.XDG_CACHE_HOME || join(process.env.HOME!, ".cache"),
  "loopdev-debian",
);

/** This machine's own mirror, and what its apt is told about it. */
function mirror(): string {
  const folder = "/etc/apt/sources.list.d";
  const files = [
    "/etc/apt/sources.list",
    ...readdirSync(folder).map((name) => join(folder, name)),
  ].filter(existsSync);
  const text = files.map((file) => readFileSync(file, "utf8")).join("\n");
  const found = /^(?:URIs:|deb(?: \[.*?\])?) +(\S+)/m.exec(text)?.[1];
  if (found === undefined) throw new Error("this machine's apt has no mirror");
  return found;
}

/** An image of one ext4 with Debian in it; made once, in about a minute. */
function debian(): string {
  const image = join(cache, `${suite}.img`);
  if (existsSync(image)) return image;
  mkdirSync(cache, { recursive: true });
  const work = mkdtempSync(join(cache, "work-"));
  const tree = join(work, "tree");
  try {
    say(`debootstrap ${suite}`);
    output(["debootstrap", "--variant=minbase", suite, tree, mirror()], { timeout: 600_000 });
    const settings = output(["apt-config", "dump"]).split("\n")
      .filter((line) => /^Acquire::(?!IndexTargets|Changelogs)[^ ]+ "[^"]+";/.test(line));
    writeFileSync(join(tree, "etc/apt/apt.conf.d/99host"), settings.join("\n") + "\n");
    output(["chroot", tree, "apt-get", "clean"]);
    writeFileSync(`${image}.part`, "");
    truncateSync(`${image}.part`, 1024 * MIB);
    output(["mke2fs", "-q", "-t", "ext4", "-d", tree, `${image}.part`], { timeout: 600_000 });
    output(["mv", `${image}.part`, image]);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return image;
}

/** What this machine shows, without what comes and goes with processes of others. */
function hostView(): Record<string, string> {
  const list = (command: string) => output(["sh", "-c", command]);
  const own = (line: string) => !/loop|pts\/|\/shm\//.test(line);
  return {
    "/dev": list("find /dev -xdev -printf '%p %y %m %U\\n' | sort").split("\n").filter(own).join(
      "\n",
    ),
    "/proc": list("ls /proc | grep -v '^[0-9]*$'"),
    // Of loop devices leftovers() looks at its own: others mount and unmount theirs meanwhile.
    "mounts": readFileSync("/proc/self/mountinfo", "utf8").split("\n")
      .filter((line) => !line.includes(" /dev/loop")).join("\n"),
    "/run": list("ls -A /run | sort"),
    "resolv.conf": list("cat /etc/resolv.conf; ls -l /etc/resolv.conf"),
  };
}

/** Processes that see a mount of the device, by what they are called. */
function processesWith(device: string): string[] {
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name)).flatMap((pid) => {
    try {
      const isThere = readFileSync(`/proc/${pid}/mountinfo`, "utf8").includes(` ${device} `);
      return isThere ? [`${pid} ${readlinkSync(`/proc/${pid}/exe`)}`] : [];
    } catch {
      return []; // It has ended, or is a thread of the kernel's.
    }
  });
}

const work = mkdtempSync("/var/tmp/loopdev-test-");
process.once("exit", () => rmSync(work, { recursive: true, force: true }));
const image = join(work, "debian.img");
const copyImage = () => output(["cp", "--sparse=always", debian(), image], { timeout: 600_000 });
const command = (...inside: string[]) =>
  onRuntime(runtime, join(ROOT, "examples/mount_image.ts"), image, "--", ...inside);
const INSTALL = [
  "sh",
  "-c",
  "apt-get update -q && apt-get install -q -y --no-install-recommends " + PACKAGES.join(" "),
];
const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };

let failed = 0;
function judge(what: string, faults: readonly string[], detail = ""): void {
  if (faults.length > 0) failed++;
  console.log(`${faults.length > 0 ? "fail" : "pass"}  ${what}${detail && `: ${detail}`}`);
  for (const fault of faults) console.log(`      ${fault}`);
}

/** What is left of a command after its end. */
async function leftovers(before: Record<string, string>, device: string | undefined) {
  const faults: string[] = [];
  const isFree = () => devicesOf(image).length === 0;
  if (!await within(LEAVE_MS, isFree)) faults.push("the image is still attached");
  const processes = device === undefined ? [] : processesWith(device);
  if (processes.length > 0) faults.push(`processes: ${processes.join(", ")}`);
  const after = hostView();
  for (const [what, text] of Object.entries(before)) {
    const [was, is] = [text, after[what]].map((one) => one.split("\n"));
    const differing = [
      ...is.filter((line) => !was.includes(line)).map((line) => `+ ${line}`),
      ...was.filter((line) => !is.includes(line)).map((line) => `- ${line}`),
    ];
    if (differing.length > 0) faults.push(`${what} differs: ${differing.join(", ")}`);
  }
  const fsck = run(["sh", "-c", 'e2fsck -p "$0" >/dev/null; e2fsck -fn "$0"', image]);
  if (fsck.status !== 0) faults.push(`e2fsck: ${fsck.stdout.trim()}`);
  return faults;
}

const deviceOf = () => devicesOf(image).map(({ number }) => `/dev/loop${number}`)[0];

/** Installs to the end; daemons run then, and end with it. */
async function install(): Promise<void> {
  const before = hostView();
  const script =
    `{ ${INSTALL[2]}; } >/dev/null 2>&1; (sleep 1000 &) ; service cron restart >/dev/null; ` +
    "cat /proc/[0-9]*/comm | sort | uniq -c | tr -s ' \\n' ' '";
  const child = start(["sh", "-c", script]);
  const ended = endOf(child);
  let said = "";
  child.stdout!.on("data", (data) => said += data);
  await within(5000, () => deviceOf() !== undefined);
  const device = deviceOf();
  const status = await ended;
  const faults = await leftovers(before, device);
  if (status !== 0) faults.push(`it ended with ${status}`);
  if (!/cron/.test(said)) faults.push("no daemon was running");
  judge("daemons end with the command", faults, said.trim());
}

function start(inside: string[]): ChildProcess {
  const [name, ...args] = command(...inside);
  return spawn(name, args, { env, stdio: ["ignore", "pipe", "inherit"] });
}

const endOf = (child: ChildProcess) =>
  new Promise<number | string>((resolve) => child.on("exit", (code, by) => resolve(by ?? code!)));

/** Kills it when it has printed so many lines. */
async function killAfter(lines: number): Promise<number | undefined> {
  const before = hostView();
  copyImage();
  const child = start(INSTALL);
  const ended = endOf(child);
  let printed = "";
  let device: string | undefined;
  child.stdout!.on("data", (data) => {
    printed += data;
    device ??= deviceOf();
    if (printed.split("\n").length > lines) child.kill("SIGKILL");
  });
  const status = await ended;
  if (status !== "SIGKILL") return printed.split("\n").length;
  judge(
    `killed after line ${lines}`,
    await leftovers(before, device),
    printed.trim().split("\n").at(-1),
  );
  return undefined;
}

copyImage();
await install();
// How many lines there are shows the first one that is not killed.
const all = await killAfter(Infinity) ?? 0;
for (let n = 0; n < kills; n++) {
  progress(`kill ${n + 1} of ${kills}`);
  await killAfter(Math.floor(all * (n + 0.5) / kills));
}
if (kills > 0) {
  const [name, ...args] = command(
    "sh",
    "-c",
    "dpkg --configure -a && apt-get -q -y -f install && dpkg -s cron",
  );
  const { status, stderr } = run([name, ...args], { env, timeout: 600_000 });
  judge("dpkg goes on where it was killed", status === 0 ? [] : [stderr.trim()]);
}
process.exit(failed > 0 ? 1 : 0);
