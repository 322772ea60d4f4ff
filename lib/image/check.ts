/**
 * Has a file system checked, and what can be repaired without a question repaired, by its own tool.
 *
 * @module
 */
import { LoopError } from "../base/errors.ts";
import { decodeName } from "../base/names.ts";
import { memoryFile, readAt } from "../kernel/file.ts";
import { runScript, unknownExit } from "../kernel/program.ts";

interface Checker {
  /** The tool and its options; the node follows. */
  readonly command: readonly string[];
  /** The package of Debian and most others that has it. */
  readonly package: string;
  /** The least exit code that means damage which is still there. */
  readonly damaged: number;
}

const EXT: Checker = { command: ["e2fsck", "-p"], package: "e2fsprogs", damaged: 4 };

/** XFS and btrfs repair themselves at the mount: their tools only look. */
const CHECKERS = new Map<string, Checker>([
  ["ext2", EXT],
  ["ext3", EXT],
  ["ext4", EXT],
  ["vfat", { command: ["fsck.vfat", "-a"], package: "dosfstools", damaged: 4 }],
  ["exfat", { command: ["fsck.exfat", "-p"], package: "exfatprogs", damaged: 4 }],
  ["f2fs", { command: ["fsck.f2fs", "-a"], package: "f2fs-tools", damaged: 4 }],
  ["xfs", { command: ["xfs_repair", "-n"], package: "xfsprogs", damaged: 1 }],
  ["btrfs", { command: ["btrfs", "check", "--readonly"], package: "btrfs-progs", damaged: 1 }],
]);

const ENV = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin", "LC_ALL=C"];
/** What it says goes to descriptor 3. */
const SCRIPT = 'exec </dev/null >&3 2>&3\ncommand -v "$1" >/dev/null || exit 127\nexec "$@"\n';
const MISSING = 127;
const MOST_SAID = 65_536;
const MOST_LINES = 8;

/**
 * Checks the file system on a node. Nothing is done for a type that cannot be damaged by writes (squashfs,
 * iso9660). Rejects with LoopError EUCLEAN if there is damage that the tool leaves to a person.
 */
export async function checkFileSystem(type: string, path: string): Promise<void> {
  const checker = CHECKERS.get(type);
  if (!checker) return;
  const [tool] = checker.command;
  const command = [...checker.command, path];
  using output = memoryFile("loopdev-fsck", 1);
  const status = await runScript({
    path: "/bin/sh",
    text: SCRIPT,
    name: "loopdev-fsck",
    args: command,
    env: ENV,
    files: [output],
  });
  if (status === undefined) throw unknownExit(tool);
  if (status === MISSING) {
    const hint = `check: ${tool} is not installed, which the package ${checker.package} has`;
    throw new LoopError({ code: "ENOENT", path: tool, hint });
  }
  if (status < checker.damaged) return;
  const said = decodeName(readAt(output, 0, MOST_SAID)).replaceAll("\0", "").trim().split("\n");
  const remedy = type === "xfs" || type === "btrfs"
    ? ""
    : ": run it by hand, without " + command[command.length - 2];
  throw new LoopError({
    code: "EUCLEAN",
    path,
    hint: `check: the ${type} is damaged; ${command.join(" ")} gave exit code ${status}${remedy}`,
    lines: said.slice(-MOST_LINES),
  });
}
