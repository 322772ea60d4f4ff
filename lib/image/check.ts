/**
 * Has a file system checked, and what can be repaired without a question repaired, by its own tool.
 *
 * @module
 */
import { LoopError } from "../base/errors.ts";
import { decodeName } from "../base/names.ts";
import { memoryFile, readAt } from "../kernel/file.ts";
import { runScript, unknownExit } from "../kernel/program.ts";
import { whileMounted } from "./look.ts";

/** What an exit code says of a file system. */
type Verdict = "sound" | "damaged" | "unknown";

interface Checker {
  /** The tool and its options; the node follows. */
  readonly command: readonly string[];
  /** The package of Debian and most others that has it. */
  readonly package: string;
  readonly verdict: (status: number) => Verdict;
}

/** fsck(8): the bits up to 2 are repairs, 4 is damage that is still there, all others mean that it was not checked. */
const byBits = (status: number): Verdict =>
  status < 4 ? "sound" : status < 64 && (status & 4) !== 0 ? "damaged" : "unknown";

/** The tools of XFS and btrfs have one code for damage and for what they do not know. */
const byOne = (status: number): Verdict =>
  status === 0 ? "sound" : status === 1 ? "damaged" : "unknown";

const EXT: Checker = { command: ["e2fsck", "-p"], package: "e2fsprogs", verdict: byBits };

/** XFS and btrfs repair themselves at the mount: their tools only look. */
const CHECKERS = new Map<string, Checker>([
  ["ext2", EXT],
  ["ext3", EXT],
  ["ext4", EXT],
  ["vfat", { command: ["fsck.vfat", "-a"], package: "dosfstools", verdict: byBits }],
  ["exfat", { command: ["fsck.exfat", "-p"], package: "exfatprogs", verdict: byBits }],
  ["f2fs", { command: ["fsck.f2fs", "-a"], package: "f2fs-tools", verdict: byBits }],
  ["xfs", { command: ["xfs_repair", "-n"], package: "xfsprogs", verdict: byOne }],
  ["btrfs", { command: ["btrfs", "check", "--readonly"], package: "btrfs-progs", verdict: byOne }],
]);

const ENV = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin", "LC_ALL=C"];
/** What it says goes to descriptor 3. */
const SCRIPT = 'exec </dev/null >&3 2>&3\ncommand -v "$1" >/dev/null || exit 127\nexec "$@"\n';
const MISSING = 127;
const MOST_SAID = 65_536;
const MOST_LINES = 8;

/** xfs_repair's word for a log that the driver has to replay. What only that log mends is damage to xfs_repair. */
const UNREPLAYED = /valuable metadata changes in a log/;

/**
 * Checks the file system on a node, which is not mounted. Nothing is done for a type that cannot be damaged by
 * writes (squashfs, iso9660). Rejects with LoopError EUCLEAN if there is damage that the tool leaves to a person,
 * EOPNOTSUPP if the tool could not check it.
 */
export async function checkFileSystem(type: string, path: string): Promise<void> {
  const checker = CHECKERS.get(type);
  if (!checker) return;
  let checked = await runChecker(checker, path);
  if (checked.verdict !== "sound" && type === "xfs" && UNREPLAYED.test(checked.said)) {
    // The mount replays it.
    await whileMounted(path, type, { options: ["nouuid"] }, () => Promise.resolve());
    checked = await runChecker(checker, path);
  }
  if (checked.verdict !== "sound") throw refusal(type, path, checker, checked);
}

/** What a tool came to. */
interface Checked {
  readonly verdict: Verdict;
  readonly status: number;
  readonly said: string;
}

async function runChecker(
  { command, package: from, verdict }: Checker,
  path: string,
): Promise<Checked> {
  const [tool] = command;
  using output = memoryFile("loopdev-fsck", 1);
  const status = await runScript({
    path: "/bin/sh",
    text: SCRIPT,
    name: "loopdev-fsck",
    args: [...command, path],
    env: ENV,
    files: [output],
  });
  if (status === undefined) throw unknownExit(tool);
  if (status === MISSING) {
    const hint = `check: ${tool} is not installed, which the package ${from} has`;
    throw new LoopError({ code: "ENOENT", path: tool, hint });
  }
  const said = decodeName(readAt(output, 0, MOST_SAID)).replaceAll("\0", "").trim();
  return { verdict: verdict(status), status, said };
}

function refusal(
  type: string,
  path: string,
  { command }: Checker,
  { verdict, status, said }: Checked,
): LoopError {
  const code = `${command.join(" ")} ${path} gave exit code ${status}`;
  const remedy = type === "xfs" || type === "btrfs"
    ? ""
    : `: run it by hand, without ${command[command.length - 1]}`;
  return new LoopError({
    code: verdict === "damaged" ? "EUCLEAN" : "EOPNOTSUPP",
    path,
    hint: verdict === "damaged"
      ? `check: the ${type} is damaged; ${code}${remedy}`
      : `check: the ${type} could not be checked; ${code}`,
    lines: said.split("\n").slice(-MOST_LINES),
  });
}
