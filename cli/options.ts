/**
 * The one table of losetup's options: the parser, --help and the manual page read it.
 *
 * @module
 */

/** An option of the command line. In `manual` backquotes are bold, angle brackets italic. */
export interface Option {
  readonly short?: string;
  readonly long: string;
  /** "required": behind a `=`, or the next argument. "optional": only behind a `=`, never after -x. */
  readonly argument?: "required" | "optional";
  /** Its argument in --help: " <num>". */
  readonly value?: string;
  readonly help: string;
  /** For the manual page; `help` if left out. */
  readonly manual?: string;
}

/** An option of losetup's. */
export interface LosetupOption extends Option {
  /** Its part of --help. */
  readonly section: "command" | "setup" | "output" | "beyond" | "general";
}

/** In the order of --help. */
export const OPTIONS: readonly LosetupOption[] = [
  {
    short: "a",
    long: "all",
    section: "command",
    help: "list all attached devices",
    manual:
      "Lists every attached device, one on each line. Without root it leaves out what only root may " +
      "ask. With `--list`, `--raw`, `--json` or `--output`: as a table.",
  },
  {
    short: "d",
    long: "detach",
    value: " <loopdev>...",
    section: "command",
    help: "detach one or more devices",
    manual:
      "Detaches the devices, and returns at once. If one is mounted or otherwise in use, the kernel " +
      "detaches it after its last user. This counts as a success, since udev is such a user for some " +
      "milliseconds. See `--wait`.",
  },
  {
    short: "D",
    long: "detach-all",
    section: "command",
    help: "detach all devices of this machine",
    manual: "Detaches every loop device of this machine, whoever attached it.",
  },
  {
    short: "f",
    long: "find",
    section: "command",
    help: "use, or print, the first unused device",
    manual:
      "With a <file>: attaches it to an unused device, and tries again with another one if another " +
      "process takes that device first; scripts need no lock. Without: prints the first unused device, " +
      "which another process may take at any time.",
  },
  {
    short: "c",
    long: "set-capacity",
    value: " <loopdev>",
    section: "command",
    help: "take over a new size of the file",
    manual: "Gives the device the file's present size.",
  },
  {
    short: "j",
    long: "associated",
    argument: "required",
    value: " <file>",
    section: "command",
    help: "list all devices that <file> is attached to",
    manual:
      "Lists the devices that <file> is attached to; with `--offset` only those that begin there. " +
      "It goes by the file's inode, or by its name if the file does not exist.",
  },
  {
    short: "L",
    long: "nooverlap",
    section: "command",
    help: "never attach a part of a file twice",
    manual:
      "With `--find`: if a device already has exactly this part of the file, it is used again; any " +
      "other overlap is an error. With <loopdev>: every overlap is an error.",
  },
  {
    long: "remove",
    value: " <loopdev>...",
    section: "command",
    help: "remove one or more unused devices",
    manual: "Removes devices without a file, and their nodes.",
  },
  {
    short: "o",
    long: "offset",
    argument: "required",
    value: " <num>",
    section: "setup",
    help: "begin at byte <num> of the file",
  },
  {
    long: "sizelimit",
    argument: "required",
    value: " <num>",
    section: "setup",
    help: "use at most <num> bytes of the file",
  },
  {
    short: "b",
    long: "sector-size",
    argument: "required",
    value: " <num>",
    section: "setup",
    help: "set the logical sector size to <num>",
    manual:
      "Sets the logical sector size of a new device or of an attached one. The kernel reads a " +
      "partition table in units of this size.",
  },
  {
    short: "P",
    long: "partscan",
    argument: "optional",
    value: "[=userspace]",
    section: "setup",
    help: "make the file's partitions usable",
    manual:
      "Makes the partitions usable, and returns when every node exists and is the right device. If " +
      "that takes longer than `--timeout`, it detaches the device and fails. If the image's GPT is " +
      "damaged, or is made for another sector size, it attaches the file without partitions, and a " +
      "warning says why. No partition vanishes again, as it can after `losetup -P` on most kernels. " +
      "With `--partscan=userspace` the kernel never scans: loopdev adds the partitions one by one.",
  },
  {
    short: "r",
    long: "read-only",
    section: "setup",
    help: "make the device read-only",
  },
  {
    long: "direct-io",
    argument: "optional",
    value: "[=<on|off>]",
    section: "setup",
    help: "bypass the file's page cache",
    manual:
      "Makes a new device or an attached one bypass the file's page cache. Where the file does not " +
      "allow that, a new device is attached without it.",
  },
  {
    long: "loop-ref",
    argument: "required",
    value: " <string>",
    section: "setup",
    help: "reference string, instead of the file's name",
    manual:
      "The device's reference string (`--output REF`). The kernel keeps 63 bytes of it. The default is " +
      "the file's path. udev makes the link in /dev/disk/by-loop-ref from it.",
  },
  {
    long: "show",
    section: "setup",
    help: "print the device's name (with -f)",
  },
  {
    short: "J",
    long: "json",
    section: "output",
    help: "print the table as JSON",
  },
  {
    short: "l",
    long: "list",
    section: "output",
    help: "print a table of all or the given device (default)",
  },
  {
    short: "n",
    long: "noheadings",
    section: "output",
    help: "print the table without headings",
  },
  {
    short: "O",
    long: "output",
    argument: "required",
    value: " <cols>",
    section: "output",
    help: "print these columns of the table",
    manual:
      "The columns of the table, separated by commas, in upper or lower case; `+`<cols> adds them to " +
      "the default ones.",
  },
  {
    long: "output-all",
    section: "output",
    help: "print all columns of the table",
  },
  {
    long: "raw",
    section: "output",
    help: "print the table unaligned, blanks as \\x20",
  },
  {
    long: "timeout",
    argument: "required",
    value: " <ms>",
    section: "beyond",
    help: "how long -P and --wait may take (10000)",
  },
  {
    long: "workaround",
    argument: "required",
    value: " <when>",
    section: "beyond",
    help: "the kernel's partscan race: auto, probe, always, never",
    manual:
      "When `--partscan` works around the kernel's race. `auto`, the default: where the kernel's " +
      "release is affected. `probe`: where a test of the running kernel shows the race (for vendor " +
      "kernels). `always`, or `never`.",
  },
  {
    long: "autoclear",
    section: "beyond",
    help: "detach the device after its last user",
    manual:
      "Lets the kernel detach the device after its last user, for instance at umount. If nobody uses " +
      "an attached <loopdev>, it is detached at once. At setup this program is the first user, so " +
      "the device is detached when it exits, unless another process has opened or mounted it by then.",
  },
  {
    long: "wait",
    section: "beyond",
    help: "-d, -D: return when the kernel has let go",
    manual:
      "With `--detach` and `--detach-all`: returns when the kernel has let go of the file and " +
      "the partitions. Then all that was written is in the file, the file can be moved or attached " +
      "elsewhere, and the device can be used again. Without `--wait` each of these may come a moment " +
      "later. Older kernels leave partitions behind that a process had open; they are removed when it " +
      "closes them. If the kernel has not let go after `--timeout`, it is an error that names who " +
      "holds the device.",
  },
  {
    long: "report",
    section: "beyond",
    help: "what this host is, and what -P does on it",
    manual:
      "Prints what this host is, what `--partscan` does on it, and why; with `--json` as JSON. To find " +
      "out, it attaches three scratch devices.",
  },
  {
    short: "v",
    long: "verbose",
    section: "beyond",
    help: "explain errors",
    manual: "Prints the cause of an error and what helps, after the error, where they are known.",
  },
  {
    short: "h",
    long: "help",
    section: "general",
    help: "display this help",
  },
  {
    short: "V",
    long: "version",
    section: "general",
    help: "display version",
  },
];

/** Options that exclude each other, by their long names: one group on each line. */
export const EXCLUSIVE: readonly (readonly string[])[] = [
  ["detach-all", "all", "set-capacity", "detach", "find", "associated", "remove", "report"],
  ["detach-all", "set-capacity", "detach", "find", "list", "remove", "report"],
  ["detach-all", "output", "set-capacity", "detach", "find", "remove", "report"],
  ["json", "raw"],
];
