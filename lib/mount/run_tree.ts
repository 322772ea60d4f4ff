/**
 * What a command finds in a chroot besides the image: /proc, /sys, /dev, /run, /tmp and resolv.conf. They
 * lie in the command's own mount namespace; nothing of it is written to the image. A directory that the
 * image does not have is left out.
 *
 * @module
 */
import { isRefusal, LoopError } from "../base/errors.ts";
import { whyNotPermitted } from "../kernel/capabilities.ts";
import { ifExists, type OpenFile } from "../kernel/file.ts";
import { type Entry, fileMount, makeEntries, newMount } from "../kernel/loose_mount.ts";
import {
  MOUNT_ATTR_NODEV,
  MOUNT_ATTR_NOEXEC,
  MOUNT_ATTR_NOSUID,
  MOUNT_ATTR_RDONLY,
} from "../kernel/mount.ts";
import { type FileStatus, fileStatus, placeIfThere } from "../kernel/stat.ts";
import { resolveBelow } from "./resolve.ts";
import type { Namespace } from "./run_namespace.ts";

/** A directory as the command's root. */
export interface Root {
  readonly file: OpenFile;
  /** Its name in the namespace, and in errors. */
  readonly path: string;
}

/** A name in it, with the image's links followed. */
export interface Found {
  /** "etc/hostname" */
  readonly below: string;
  readonly type: FileStatus["type"] | undefined;
}

/** undefined: its links lead in a circle, or a file stands in the way. */
export async function find(root: Root, name: string): Promise<Found | undefined> {
  try {
    const below = await resolveBelow(root.file, name, root.path);
    const place = await root.file.callOnThread((fd) =>
      placeIfThere(`/proc/self/fd/${fd}/${below}`, `${root.path}/${below}`)
    );
    return { below, type: place?.type };
  } catch (error) {
    if (isRefusal(error, "ELOOP", "ENOTDIR")) return undefined;
    throw error;
  }
}

/** Character devices of every Linux, by their numbers. */
const NODES: Readonly<Record<string, string>> = {
  null: "1:3",
  zero: "1:5",
  full: "1:7",
  random: "1:8",
  urandom: "1:9",
  tty: "5:0",
};
const LINKS: Readonly<Record<string, string>> = {
  ptmx: "pts/ptmx",
  fd: "/proc/self/fd",
  stdin: "fd/0",
  stdout: "fd/1",
  stderr: "fd/2",
};
const DEV: readonly Entry[] = [
  ...Object.entries(NODES).map(([node, rdev]): Entry => ({ node, rdev, mode: 0o666 })),
  ...Object.entries(LINKS).map(([link, to]): Entry => ({ link, to })),
  { directory: "pts", mode: 0o755 },
  { directory: "shm", mode: 0o1777 },
];
/** 5 is the group tty in nearly every image. */
const PTS = { ptmxmode: "0666", mode: "0620", gid: "5" };
const PLAIN = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
const RESOLV_CONF = "/etc/resolv.conf";

/** Mounts all of it. `points`: where other parts of the image lie, "/tmp". */
export async function furnish(
  namespace: Namespace,
  root: Root,
  points: readonly string[],
  devices: readonly string[],
): Promise<void> {
  const place = async (mount: Promise<OpenFile>, to: string) =>
    namespace.tell("move", namespace.lend(await mount), `${root.path}/${to}`);
  const directory = async (name: string) => {
    const found = await find(root, name);
    if (found?.type !== "directory" || found.below === "") return undefined;
    return points.includes(`/${found.below}`) ? undefined : found.below;
  };
  const [proc, sys, dev, run, tmp] = await Promise.all(
    ["proc", "sys", "dev", "run", "tmp"].map(directory),
  );
  const resolvConf = await find(root, RESOLV_CONF);
  if (proc !== undefined) {
    namespace.tell("proc", `${root.path}/${proc}`);
    // It is the kernel of this machine, whose settings the image's programs must not change.
    namespace.tell("freeze", `${root.path}/${proc}/sys`);
  }
  if (sys !== undefined) {
    await place(newMount("sysfs", {}, PLAIN | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_RDONLY), sys);
  }
  if (dev !== undefined) {
    await place(memory(0o755, MOUNT_ATTR_NOSUID, [...DEV, ...nodesOf(devices)]), dev);
    await place(newMount("devpts", PTS, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC), `${dev}/pts`);
  }
  const isInRun = run !== undefined && resolvConf?.below.startsWith(`${run}/`);
  if (run !== undefined) {
    const inside = isInRun ? fileAt(resolvConf!.below.slice(run.length + 1)) : [];
    await place(memory(0o755, PLAIN, inside), run);
  }
  if (tmp !== undefined) await place(memory(0o1777, PLAIN), tmp);
  // Nothing is made in the image: where it has no such file, it gets none.
  if (!resolvConf || !isInRun && resolvConf.type !== "file") return;
  if (!ifExists(() => fileStatus(RESOLV_CONF))) return;
  await place(fileMount(RESOLV_CONF), resolvConf.below);
  namespace.tell("seal", `${root.path}/${resolvConf.below}`);
}

/** A tmpfs with these entries. */
async function memory(
  mode: number,
  attributes: number,
  entries: readonly Entry[] = [],
): Promise<OpenFile> {
  const mount = await newMount("tmpfs", { mode: mode.toString(8) }, attributes);
  try {
    await makeEntries(mount, entries);
    return mount;
  } catch (error) {
    mount.close();
    if (!isRefusal(error, "EPERM")) throw error;
    throw error.withHint(whyNotPermitted("making the nodes of a command's /dev", "CAP_MKNOD"));
  }
}

/** Nodes that are the same devices as these of this machine. */
function nodesOf(devices: readonly string[]): Entry[] {
  const made = new Set([...Object.keys(NODES), ...Object.keys(LINKS), "pts", "shm"]);
  const entries: Entry[] = [];
  for (const path of devices) {
    const { type, rdev, mode } = fileStatus(path);
    if (type !== "block device" && type !== "character device") {
      throw new LoopError({ code: "ENODEV", path, hint: "devices: it is no device node" });
    }
    const name = path.slice("/dev/".length);
    for (
      const entry of [...foldersOf(name), { node: name, mode, rdev, isBlock: type[0] === "b" }]
    ) {
      const key = "directory" in entry ? entry.directory : entry.node;
      if (!made.has(key)) entries.push(entry);
      made.add(key);
    }
  }
  return entries;
}

/** An empty file, and the directories on the way to it. */
const fileAt = (name: string): Entry[] => [...foldersOf(name), { file: name, mode: 0o644 }];

function foldersOf(name: string): { directory: string; mode: number }[] {
  const ends = [...name.matchAll(/\//g)].map(({ index }) => index);
  return ends.map((end) => ({ directory: name.slice(0, end), mode: 0o755 }));
}
