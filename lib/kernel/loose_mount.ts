/**
 * Mounts that belong to a descriptor until somebody moves them to a place: copies of others, and new ones
 * of memory. The kernel ends them when the descriptor is closed.
 *
 * @module
 */
import { chainOnThread, eachOnThread, type NamedStep, uninterruptedOnThread } from "./chain.ts";
import { AT_FDCWD, check, cString, encodeDev, O_CLOEXEC, OpenFile, S_IFBLK } from "./file.ts";
import {
  checkLast,
  CREATE,
  FSMOUNT_CLOEXEC,
  FSOPEN_CLOEXEC,
  type MountStep,
  NO_NAME,
  openedBy,
  type Setting,
  statfs,
  stepOf,
} from "./mount.ts";
import { libc } from "../runtime/libc.ts";
import { AT_EMPTY_PATH } from "./stat.ts";
import { SYS } from "./syscalls.ts";

const OPEN_TREE_CLONE = 1;
const S_IFREG = 0o100000;
const S_IFCHR = 0o020000;

/** A copy of the mount that an open directory lies in, without the mounts below it. */
export async function copyMount(directory: OpenFile): Promise<OpenFile> {
  const flags = OPEN_TREE_CLONE | AT_EMPTY_PATH | O_CLOEXEC;
  const fd = await directory.callOnThread((fd) =>
    uninterruptedOnThread("open_tree", fd, NO_NAME, flags)
  );
  return new OpenFile(check(fd, "open_tree", directory.path), directory.path);
}

/** A mount of one file. Symbolic links are followed. */
export async function fileMount(path: string): Promise<OpenFile> {
  const flags = OPEN_TREE_CLONE | O_CLOEXEC;
  const fd = await uninterruptedOnThread("open_tree", AT_FDCWD, cString(path), flags);
  return new OpenFile(check(fd, "open_tree", path), path);
}

/** Mounts a file system that needs no device. */
export async function newMount(
  type: string,
  settings: Readonly<Record<string, string>>,
  attributes: number,
): Promise<OpenFile> {
  const all = Object.entries(settings).map(([name, value]): Setting => ({ name, value }));
  const steps: readonly MountStep[] = [
    { name: "fsopen", args: [cString(type), FSOPEN_CLOEXEC] },
    ...all.map((setting): MountStep => ({ ...stepOf(setting), on: 0 })),
    CREATE,
    { name: "fsmount", on: 0, args: [FSMOUNT_CLOEXEC, attributes] },
  ];
  const results = await chainOnThread(steps);
  openedBy(results, 0, type)?.close();
  checkLast(steps, results, type);
  return new OpenFile(results[steps.length - 1], type);
}

/** `<linux/statfs.h>`, and mount(8)'s words. */
const FLAGS: readonly [flag: bigint, word: string][] = [
  [0x1n, "ro"],
  [0x2n, "nosuid"],
  [0x4n, "nodev"],
  [0x8n, "noexec"],
  [0x400n, "noatime"],
  [0x800n, "nodiratime"],
  [0x2000n, "nosymfollow"],
];

/** The options of the mount that an open directory lies in, as mount(8) calls them: "ro", "nosuid". */
export function wordsOf(directory: OpenFile): string[] {
  const buffer = statfs.buffer();
  const result = directory.call((fd) => libc().syscall(SYS("fstatfs"), fd, buffer));
  check(result, "fstatfs", directory.path);
  const flags = statfs.reader(buffer)("f_flags");
  return FLAGS.flatMap(([flag, word]) => (flags & flag) === 0n ? [] : [word]);
}

/** What lies in a directory. */
export type Entry =
  | { readonly directory: string; readonly mode: number }
  /** Device `rdev`, "1:3". */
  | {
    readonly node: string;
    readonly mode: number;
    readonly rdev: string;
    readonly isBlock?: boolean;
  }
  | { readonly link: string; readonly to: string }
  /** Empty. */
  | { readonly file: string; readonly mode: number };

/** Makes entries in an open directory, in order. umask(2) has no effect on their modes. */
export async function makeEntries(directory: OpenFile, entries: readonly Entry[]): Promise<void> {
  await directory.callOnThread(async (fd) => {
    const made = entries.map((entry): [name: string, steps: readonly NamedStep[]] => {
      if ("link" in entry) {
        const { link, to } = entry;
        return [link, [{ name: "symlinkat", args: [cString(to), fd, cString(link)] }]];
      }
      const { mode } = entry;
      const name = "directory" in entry
        ? entry.directory
        : "file" in entry
        ? entry.file
        : entry.node;
      const path = cString(name);
      const make: NamedStep = "directory" in entry
        ? { name: "mkdirat", args: [fd, path, mode] }
        : "file" in entry
        ? { name: "mknodat", args: [fd, path, S_IFREG | mode, 0] }
        : {
          name: "mknodat",
          args: [fd, path, (entry.isBlock ? S_IFBLK : S_IFCHR) | mode, encodeDev(entry.rdev)],
        };
      return [name, [make, { name: "fchmodat", args: [fd, path, mode] }]];
    });
    const steps = made.flatMap(([name, steps]) => steps.map((step) => ({ name, step })));
    const results = await eachOnThread(steps.map(({ step }) => step));
    results.forEach((result, i) => check(result, steps[i].step.name, steps[i].name));
  });
}
