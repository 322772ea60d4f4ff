/**
 * What --verbose prints: the cause of an error, in this program's words.
 *
 * @module
 */
import { statusOf } from "./device.ts";

/** The library's advice names functions and options of the library; here is what does the same. */
const ADVICE: readonly [theirs: RegExp, ours: string][] = [
  [/; without it: readPartitions\(\), or systemd-mountfsd/g, ""],
  [/(attach|read) it with sectorSize: (\d+)(?:, or "auto")?/g, "$1 it with --sector-size $2"],
  [/call setSectorSize\((\d+)\) first/g, "set --sector-size $1 first"],
  [/attach\(\) without partscan shows/g, "without --partscan the device shows"],
  [/attach it without partscan/g, "attach it without --partscan"],
  [/holders\(\) or losetup, findmnt say who/g, "findmnt and lsof say who"],
  [/holders\(\) says by whom/g, "findmnt and lsof say by whom"],
  [/attach it with readOnly: true/g, "attach it with --read-only"],
  [/mount it with readOnly: true/g, "mount it with --read-only"],
  [/must have the same readOnly/g, "must be --read-only if the first is, and else must not"],
  [/(, )?or mount with detached: true \(Linux 6\.15\), which needs no keeper/g, ""],
  [
    /grow it by the handle that attach\(\) gave, or detach it and call growImage\(\) of its file/g,
    "detach it, then grow its file",
  ],
  [/grow\(\) makes/g, "growing makes"],
  [/another grow\(\) goes on/g, "growing it again goes on"],
  [
    /this part of it is attached already: (\S+) \(offset 0, sizelimit 0\)/g,
    "it is attached already, as $1: unmount and detach that first",
  ],
  [/\bat: (make the directory first|it is no directory|it lies in)/g, "$1"],
  [/: mount the outer one without detached/g, ""],
  [
    /attach\(\) and LoopDevice\.mount\(\) mount the file system without reading this file/g,
    "attached with --partscan, it can be mounted by mount(8), which does not read this file",
  ],
  [/Say which with root\b/g, "Say which: --root <partition>"],
  [/owner: mount\(\) has unshare/g, "--owner has unshare"],
  [/; options: \["uid=\d+", "gid=\d+"\] do the same for \w+/g, ""],
  [/, or with options: \["\w+"\] as it is/g, ""],
  [/; with type: "\w+" it is mounted by a driver that does/g, ""],
  [
    /: mount\(\) takes the type that is meant, and wipefs removes the other/g,
    ": wipefs removes one",
  ],
  [/: say which with type\b/g, ""],
  [/mount\(\) starts a shell/g, "mounting starts a shell"],
  [/is still mounted: unmount\(\) can be called again/g, "is mounted until this program ends"],
  [
    /a command and its arguments are an array: \["ls", "-l"\]/g,
    "each argument is a word of its own",
  ],
  [/run\(\) mounts the image there/g, "the image is mounted there"],
  [/run\(\) needs sh/g, "running a command needs sh"],
  [/which run\(\) cannot pass on/g, "which cannot be passed on"],
  [/run\(\) has not ended/g, "the command has not ended"],
  [/it was attached without partscan, or has none; rescan\(\) looks again/g, "it has none"],
  [/: attach\(\) the file with \{ offset: \d+, sizelimit: \d+ \}, and mount that device/g, ""],
  [/, call setCapacity\(\), then rescan\(\)/g, ", set its capacity (-c), then attach it again"],
  [
    /: rescan\(\), or attach the image with partscan, and mount one of them/g,
    ": attach that part alone, with --offset and --partscan",
  ],
  [
    /: attach\("(.+)", \{ partscan: true \}\) makes a loop device with them, and mount one of those/g,
    ": attach $1 with --partscan, and mount one of its partitions",
  ],
  [/: call grow\(\) without size/g, ": grow it without --size"],
  [/: growImage\(\) with .* grows it/g, ""],
  [/end that first, or attach it with overlap: "allow"/g, "end that first"],
  [/, then setCapacity\(\) of the device's handle takes its size over/g, ""],
  [/write it again, then persist\(\)/g, "write it again, then attach it again"],
  [/^(?:file|at) (".*") is not valid Unicode$/g, "$1 is not UTF-8: take a link to it that is"],
];

/** The message of an error, with this program's options in it. */
export function inOurWords(message: string): string {
  return ADVICE.reduce((text, [theirs, ours]) => text.replaceAll(theirs, ours), message);
}

/**
 * What to do if the user named a file where a device belongs: an option is missing. A name without a
 * slash counts as a node in /dev.
 */
export function explainFile(device: string): string | undefined {
  const file = [device, device.replace(/^\/dev\//, "")].find((path) =>
    statusOf(path)?.type === "file"
  );
  return file === undefined
    ? undefined
    : `${file} is a file: to attach it use -f, to find its devices -j`;
}
