/**
 * Mounts beside systemd as PID 1: services with namespaces of their own and containers pin nothing, no unit
 * is left or fails, and what the end of a service that mounts leaves. Then what only a machine of its own may try: file
 * systems that send no flush, and tools that would reach the host's tree if a path led there.
 *
 *     bun vm/guest/services.ts
 */
import { spawnSync } from "node:child_process";
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname } from "node:path";
import process from "node:process";
import { attach, type LoopError, type LoopMount, type MountOptions } from "../../mod.ts";
import { type Finding, tryCase } from "./cases.ts";
import { isBound, run } from "./image.ts";
import { report } from "./report.ts";

const WORK = "/tmp/services";
/** PrivateTmp hides /tmp. */
const AT = "/run/services/at";
/** The file system of partition 1. */
const FIRST = { offset: 1024 * 1024, sizelimit: 8 * 1024 * 1024 };
/** Longer than systemd takes for anything here, under emulation. */
const SOON_MS = 20_000;

for (const folder of [WORK, AT]) mkdirSync(folder, { recursive: true });
const copyOf = (name: string, source = "ext4.img") => {
  copyFileSync(`/guest/${source}`, `${WORK}/${name}`);
  return `${WORK}/${name}`;
};

async function within(ms: number, condition: () => boolean): Promise<boolean> {
  for (const end = Date.now() + ms; !condition();) {
    if (Date.now() > end) return false;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return true;
}

/** The namespaces with a mount of the device, and a process in each of them. */
function seenBy(device: string): string[] {
  const seen = new Map<string, string>();
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      if (!readFileSync(`/proc/${pid}/mountinfo`, "utf8").includes(` ${device} `)) continue;
      seen.set(
        readlinkSync(`/proc/${pid}/ns/mnt`),
        readFileSync(`/proc/${pid}/comm`, "utf8").trim(),
      );
    } catch {
      // It has ended.
    }
  }
  return [...seen.values()];
}

/** Names of units: the columns behind them are as wide as the longest of them. */
const unitNames = (...options: string[]) =>
  run(["systemctl", "list-units", ...options, "--plain", "--no-legend"]).split("\n")
    .map((line) => line.trim().split(/\s+/)[0]).filter((name) => name !== "");

/** Units that systemd has made of mounts, of any but those that a container has as long as it runs. */
const allMountUnits = () =>
  unitNames("--all", "--type=mount").filter((name) => !name.startsWith("run-systemd-nspawn-"));

/** Of mounts of ours. */
const mountUnits = () => allMountUnits().filter((line) => /run-(loopdev|services)-/.test(line));

const failedUnits = () => unitNames("--failed");

const owners = () => existsSync("/run/loopdev") ? readdirSync("/run/loopdev") : [];

/** Waits until systemd has seen that all is gone; what it still has. */
async function unitsLeft(): Promise<string[]> {
  await within(SOON_MS, () => mountUnits().length === 0);
  return mountUnits();
}

/** Roots for containers, of a busybox alone. nspawn locks them. */
const TREES = ["nspawn", "nspawn-bind"].map((name) => `${dirname(AT)}/${name}`);

function makeRoot(tree: string): void {
  for (const name of ["usr/bin", "etc", "proc", "sys", "dev", "run", "tmp", "var", "seen"]) {
    mkdirSync(`${tree}/${name}`, { recursive: true });
  }
  writeFileSync(`${tree}/etc/os-release`, "ID=image\n");
  copyFileSync("/guest/busybox", `${tree}/busybox`);
  run(["chmod", "755", `${tree}/busybox`]);
}

/** By this number the processes of neighbours are known. */
const WORD = "954323";
const SLEEP = ["sleep", WORD];
const NSPAWN = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--pipe", "-D"];

/** What others start while an image is mounted, each with a namespace of its own. */
const NEIGHBOURS: Record<string, readonly string[]> = {
  PrivateTmp: ["-p", "PrivateTmp=yes", ...SLEEP],
  PrivateMounts: ["-p", "PrivateMounts=yes", ...SLEEP],
  ProtectSystem: ["-p", "ProtectSystem=strict", "-p", "ProtectHome=yes", ...SLEEP],
  unshare: ["unshare", "-m", "--propagation", "private", ...SLEEP],
  // It leaves the host's mounts, all but those that it is given.
  nspawn: [...NSPAWN, TREES[0], "/busybox", ...SLEEP],
  "nspawn-bind": [...NSPAWN, TREES[1], "--bind=/run:/seen", "/busybox", ...SLEEP],
};
/** nspawn alone sees none of them. */
const SEEING = Object.keys(NEIGHBOURS).length - 1;

const sleeping = () =>
  readdirSync("/proc").filter((name) => /^\d+$/.test(name)).filter((pid) => {
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
      return words.at(-2) === WORD && /(^|\/)sleep$/.test(words.at(-3) ?? "") && words.length <= 4;
    } catch {
      return false;
    }
  });

/** Starts some of them, and waits until they are there. */
async function startNeighbours(names: readonly string[]): Promise<void> {
  for (const name of names) {
    run([
      "systemd-run",
      "--quiet",
      "--collect",
      `--unit=n-${name}`,
      "-pType=exec",
      ...NEIGHBOURS[name],
    ]);
  }
  if (await within(SOON_MS, () => sleeping().length >= names.length)) return;
  const status = names.map((name) =>
    run(["journalctl", "-u", `n-${name}`, "-n", "5", "--no-pager"])
  );
  throw new Error(`of ${names} only ${sleeping().length} run: ${status.join("; ")}`);
}

function stopNeighbours(names: readonly string[]): void {
  for (const name of names) run(["systemctl", "stop", `n-${name}`]);
}

async function pinning(form: "directory" | "at"): Promise<void> {
  const before = { units: allMountUnits(), failed: failedUnits() };
  const loop = await attach(copyOf("pinned.img"), FIRST);
  const root = await loop.mount(undefined, form === "at" ? { at: AT } : {});
  writeFileSync(`${root.path}/written`, form);
  const hadUnit = await within(SOON_MS, () => mountUnits().length > 0);
  const alone = seenBy(loop.path).length;
  const names = Object.keys(NEIGHBOURS);
  await startNeighbours(names);
  await within(SOON_MS, () => seenBy(loop.path).length >= alone + SEEING);
  const seen = seenBy(loop.path).length - alone;
  const unmounted = await root.unmount();
  const detached = await loop.detach();
  const pinned = seenBy(loop.path);
  const added = () => allMountUnits().filter((unit) => !before.units.includes(unit));
  await within(SOON_MS, () => added().length === 0);
  const [units, failed] = [added(), failedUnits().filter((unit) => !before.failed.includes(unit))];
  stopNeighbours(names);
  const afterwards = await within(SOON_MS, () => !isBound(`${WORK}/pinned.img`));
  report({
    ...{ event: "result", case: `pinning, ${form}`, kind: "pinning", form, hadUnit, cycles: 1 },
    ...{ seen, least: SEEING, unmounted, detached, pinned, units, failed, afterwards },
  });
}

/** The same by losetup and mount(8), on a directory that stays. */
async function pinnedByMount(): Promise<Finding> {
  const image = copyOf("theirs.img");
  const loop = run(["losetup", "-f", "--show", "-o", "1MiB", "--sizelimit", "8MiB", image]);
  run(["mount", loop, AT]);
  await startNeighbours(["unshare"]);
  await within(SOON_MS, () => seenBy(loop).length > 1);
  run(["umount", AT]);
  run(["losetup", "-d", loop]);
  const shown = isBound(image);
  stopNeighbours(["unshare"]);
  await within(SOON_MS, () => !isBound(image));
  return { seen: "a neighbour's namespace keeps the device after umount and losetup -d", shown };
}

/** What is left of a service that mounts, and was ended so. */
const left = (image: string) => ({ device: isBound(image), owners: owners().length });

/** The ends of a service, and the properties it has. */
const ENDS: Record<string, { properties: readonly string[]; end: readonly string[] }> = {
  "stop, control-group": { properties: ["KillMode=control-group"], end: ["stop"] },
  "stop, mixed": { properties: ["KillMode=mixed"], end: ["stop"] },
  "stop, process": { properties: ["KillMode=process"], end: ["stop"] },
  "SIGKILL of all": { properties: [], end: ["kill", "-s", "KILL"] },
  "SIGKILL of the main process": {
    properties: [],
    end: ["kill", "-s", "KILL", "--kill-whom=main"],
  },
  "SIGKILL of all, PrivateTmp": {
    properties: ["PrivateTmp=yes"],
    end: ["kill", "-s", "KILL"],
  },
};

/** Ends with our own runtime, which is the one that the step is run on. */
const runtime = "Deno" in globalThis
  ? [process.execPath, "run", "-A", "--no-check", "--no-lock", "--config", "/guest/deno.json"]
  : [process.execPath];

async function service(name: string, form: "directory" | "at", n: number): Promise<void> {
  const { properties, end } = ENDS[name];
  const folder = dirname(AT);
  const [image, said, unit] = [`${folder}/${n}.img`, `${folder}/${n}.said`, `mounter-${n}`];
  copyFileSync("/guest/vfat.img", image);
  const command = [...runtime, "/project/tests/support/form_mounter.ts", image, form, AT];
  // Its stdin never ends.
  const script = `mkfifo ${folder}/${n}.in && exec 3<>${folder}/${n}.in && exec "$@" <&3`;
  run([
    ...["systemd-run", "--quiet", `--unit=${unit}`, `-pStandardOutput=file:${said}`],
    ...["-pEnvironment=HOME=/root", ...properties.map((property) => `-p${property}`)],
    ...["/bin/sh", "-c", script, "sh", ...command],
  ]);
  const isSaid = () => existsSync(said) && readFileSync(said, "utf8").includes("\n");
  if (!await within(60_000, isSaid)) {
    throw new Error(`${name}: ${run(["journalctl", "-u", unit, "--no-pager"])}`);
  }
  const begin = Date.now();
  run(["systemctl", ...end, unit]);
  await within(SOON_MS, () => {
    const { stdout } = spawnSync("systemctl", ["is-active", unit], { encoding: "utf8" });
    return /^(inactive|failed)/.test(stdout);
  });
  const milliseconds = Date.now() - begin;
  // What is under way ends meanwhile: only then it is left.
  await within(2000, () => !isBound(image) && owners().length <= 1);
  const afterwards = left(image);
  {
    await using other = await attach(copyOf("other.img"), FIRST);
    await using root = await other.mount();
    await within(SOON_MS, () => !isBound(image) && owners().length <= 1);
    await root.unmount();
  }
  const next = { ...left(image), units: await unitsLeft() };
  report({
    ...{ event: "result", case: `${name}, ${form}`, kind: "service" },
    ...{ milliseconds, afterwards, next },
  });
}

const tell = (error: unknown) => (error as LoopError).code ?? String(error);

/**
 * Writes what a full disk below takes only into its page cache: an image in an image in a tmpfs that
 * has no space. Only a flush asks for it, and some file systems send none.
 */
async function full(
  what: { source: string; options: MountOptions; name: string },
  module: typeof import("../../mod.ts"),
): Promise<string> {
  const folder = `${WORK}/full`;
  mkdirSync(folder, { recursive: true });
  run(["mount", "-t", "tmpfs", "-o", "size=4m", "full", folder]);
  try {
    run(["cp", "--sparse=always", "/guest/ext4.img", `${folder}/outer.img`]);
    await using outer = await attach(`${folder}/outer.img`, FIRST);
    const below = await outer.mount(undefined, { options: ["nobarrier"] });
    const inner = `${below.path}/inner.img`;
    run(["cp", "--sparse=always", `/guest/${what.source}`, inner]);
    run(["sync", "-f", below.path]);
    // All the space that is left, but for a little.
    const free = Number(run(["stat", "-f", "-c", "%a", folder])) * 4096;
    writeFileSync(`${folder}/filler`, new Uint8Array(Math.max(0, free - 128 * 1024)));
    const range = what.source === "ext4.img" ? FIRST : {};
    const loop = await module.attach(inner, range);
    const root = await loop.mount(undefined, what.options);
    writeFileSync(`${root.path}/big`, new Uint8Array(1536 * 1024).fill(7));
    const said = await root.unmount().catch(tell);
    await loop.detach().catch(tell);
    await below.unmount().catch(tell);
    return said;
  } finally {
    await within(SOON_MS, () => spawnSync("umount", [folder]).status === 0);
  }
}

async function flushes(): Promise<void> {
  const plain = { source: "vfat.img", options: {}, name: "vfat" };
  const kinds = [
    plain,
    { source: "ext4.img", options: { options: ["nobarrier"] }, name: "ext4 nobarrier" },
    { source: "ext4.img", options: {}, name: "ext4" },
  ];
  // A library that does not fsync the node, for comparison.
  const mutant = `${WORK}/mutant`;
  for (const name of ["mod.ts", "lib"]) {
    cpSync(`/project/${name}`, `${mutant}/${name}`, { recursive: true });
  }
  const file = `${mutant}/lib/kernel/mount.ts`;
  const text = readFileSync(file, "utf8");
  const changed = text.replace('{ name: "fsync", args: [nodeFd] }, ', "");
  if (changed === text) throw new Error("the mutant is the library itself");
  writeFileSync(file, changed);
  for (
    const [who, module] of [
      ["loopdev", await import("../../mod.ts")],
      ["without fsync", await import(`${mutant}/mod.ts`)],
    ] as const
  ) {
    for (const kind of kinds) {
      const unmount = await full(kind, module);
      report({ event: "result", case: `full, ${kind.name}, ${who}`, kind: "flush", who, unmount });
    }
  }
}

/** Whether what was written to an ESP is in its file. */
async function esp(): Promise<void> {
  const image = copyOf("esp.img", "vfat.img");
  const loop = await attach(image);
  const root = await loop.mount();
  const text = `loader ${Date.now()}`;
  writeFileSync(`${root.path}/loader`, text);
  const unmount = await root.unmount();
  const isThere = readFileSync(image).includes(text);
  report({
    ...{ event: "result", case: "vfat", kind: "esp", unmount, isThere },
    detach: await loop.detach(),
  });
}

/** Tools that would reach the host's tree if the path led there. */
const TOOLS: Record<string, (root: LoopMount) => readonly string[]> = {
  rsync: ({ path }) => ["rsync", "-a", `${WORK}/tree/`, `${path}/`],
  nspawn: ({ path }) => [
    ...["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--pipe", "-D", path],
    ...["/busybox", "sh", "-c", "echo nspawn >/by-nspawn"],
  ],
  fstrim: ({ path }) => ["fstrim", "-v", path],
};

async function tools(): Promise<void> {
  const image = copyOf("tools.img");
  mkdirSync(`${WORK}/tree`, { recursive: true });
  writeFileSync(`${WORK}/tree/by-rsync`, "rsync");
  const loop = await attach(image, FIRST);
  const root = await loop.mount();
  makeRoot(root.path);
  writeFileSync(`${root.path}/big`, new Uint8Array(3 * 1024 * 1024).fill(7));
  run(["sync", "-f", root.path]);
  rmSync(`${root.path}/big`);
  run(["sync", "-f", root.path]);
  const blocks = statSync(image).blocks;
  for (const [name, command] of Object.entries(TOOLS)) {
    const [tool, ...args] = command(root);
    const { status, stderr, stdout } = spawnSync(tool, args, { encoding: "utf8" });
    const mark = `by-${name}`;
    report({
      ...{ event: "result", case: name, kind: "tool", status },
      inImage: name === "fstrim"
        ? statSync(image).blocks < blocks - 4096
        : existsSync(`${root.path}/${mark}`),
      onHost: existsSync(`/${mark}`),
      said: status === 0 ? stdout.trim() : stderr.trim(),
    });
  }
  const unmount = await root.unmount();
  report({
    ...{ event: "result", case: "the end", kind: "end", unmount },
    detach: await loop.detach(),
    owners: owners().filter((name) => !name.startsWith(`${process.pid}-`)).length,
    units: await unitsLeft(),
  });
}

TREES.forEach(makeRoot);
for (const form of ["directory", "at"] as const) await pinning(form);
await tryCase("pinning, losetup and mount(8)", pinnedByMount);
let n = 0;
for (const name of Object.keys(ENDS)) {
  await service(name, n % 2 === 0 || name.includes("Private") ? "directory" : "at", n++);
}
await esp();
await flushes();
await tools();
