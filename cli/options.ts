/**
 * Every option, once: the parser, --help and the manual page read this table.
 *
 * @module
 */

/** An option of the command line. In `manual` backquotes are bold, angle brackets italic. */
export interface Option {
  readonly short?: string;
  readonly long: string;
  /** "required": its own or the next argument. "optional": only behind a `=`, never after -x. */
  readonly argument?: "required" | "optional";
  /** What stands behind it in --help: " <num>". */
  readonly value?: string;
  /** Where it stands in --help. */
  readonly section: "command" | "setup" | "output" | "beyond" | "general";
  readonly help: string;
  /** For the manual page; `help` if left out. */
  readonly manual?: string;
}

/** In the order of --help. */
export const OPTIONS: readonly Option[] = [
  {
    short: "a",
    long: "all",
    section: "command",
    help: "list all attached devices",
    manual:
      "Lists every attached device, one a line. What only root may ask is left out for others. " +
      "With `--list`, `--raw`, `--json` or `--output`: as a table.",
  },
  {
    short: "d",
    long: "detach",
    value: " <loopdev>...",
    section: "command",
    help: "detach one or more devices",
    manual:
      "Detaches the devices, and returns at once. One that is mounted, or otherwise in use, is " +
      "detached by the kernel after its last user, and that is a success: udev too is a user, for " +
      "some milliseconds. See `--wait`.",
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
      "With a <file>: attaches it to an unused device; when other processes are faster it is tried " +
      "again, so that no lock is needed. Without: prints the first unused device, which another " +
      "process may take at any time.",
  },
  {
    short: "c",
    long: "set-capacity",
    value: " <loopdev>",
    section: "command",
    help: "take over a new size of the file",
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
      "The file is known by its inode, or by its name if it is gone.",
  },
  {
    short: "L",
    long: "nooverlap",
    section: "command",
    help: "never attach a part of a file twice",
    manual:
      "With `--find`: the device that has just this part of the file already is used again; any " +
      "other overlap is an error. With <loopdev>: every overlap is an error.",
  },
  {
    long: "remove",
    value: " <loopdev>...",
    section: "command",
    help: "remove one or more unused devices",
    manual: "Removes devices that nothing is attached to, and their nodes.",
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
      "Sets the logical sector size, of a new device or of an attached one. A partition table is " +
      "read in these units.",
  },
  {
    short: "P",
    long: "partscan",
    argument: "optional",
    value: "[=userspace]",
    section: "setup",
    help: "make the file's partitions usable",
    manual:
      "Makes the partitions usable, and returns when every node exists and is the right device; if " +
      "that takes longer than `--timeout` the device is detached, and it is an error. Where the " +
      "image has a GPT that is damaged, or is made for another sector size, the file is attached " +
      "without partitions, and a warning says why. No partition " +
      "vanishes again, as it can after `losetup -P` on most kernels. `--partscan=userspace`: the " +
      "kernel never scans, the partitions are added one by one.",
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
      "Bypasses the file's page cache, of a new device or of an attached one. A new device goes on " +
      "without where the file does not allow it.",
  },
  {
    long: "loop-ref",
    argument: "required",
    value: " <string>",
    section: "setup",
    help: "reference string, instead of the file's name",
    manual:
      "The device's reference string (`--output REF`), of which the kernel keeps 63 bytes. By " +
      "default the file's path. udev makes /dev/disk/by-loop-ref of it.",
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
      "The columns of the table, separated by commas, in any case; `+`<cols> adds them to the " +
      "default ones.",
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
      "When `--partscan` walks around the kernel's race: `auto`, the default, decides by the " +
      "kernel's release, `probe` by trying (for vendor kernels), `always`, or `never`.",
  },
  {
    long: "autoclear",
    section: "beyond",
    help: "detach the device after its last user",
    manual:
      "Lets the kernel detach the device after its last user, for instance at umount. On an " +
      "attached <loopdev>: from now on; one that nobody uses is detached at once. At setup: this " +
      "program is its first user, so the device is gone when it exits, unless another has opened " +
      "or mounted it by then.",
  },
  {
    long: "wait",
    section: "beyond",
    help: "-d, -D: return when the kernel has let go",
    manual: "With `--detach` and `--detach-all`: returns when the kernel has let go of file and " +
      "partitions. Then all that was written is in the file, which can be moved or attached " +
      "elsewhere, and the device can be used again; without it any of these may come a moment too " +
      "early. Partitions that older kernels leave behind, since somebody had them open, are removed " +
      "when they are let go. If the kernel has not let go after `--timeout` it is an error that " +
      "names who holds the device.",
  },
  {
    long: "report",
    section: "beyond",
    help: "what this host is, and what -P does on it",
    manual:
      "Prints what this host is, what `--partscan` therefore does, and why; with `--json` as JSON. " +
      "Attaches three scratch devices for it.",
  },
  {
    short: "v",
    long: "verbose",
    section: "beyond",
    help: "explain errors",
    manual: "Prints cause and remedy behind an error, where they are known.",
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

/** Groups of options that exclude each other, by their long names. */
export const EXCLUSIVE: readonly (readonly string[])[] = [
  ["detach-all", "all", "set-capacity", "detach", "find", "associated", "remove", "report"],
  ["detach-all", "set-capacity", "detach", "find", "list", "remove", "report"],
  ["detach-all", "output", "set-capacity", "detach", "find", "remove", "report"],
  ["json", "raw"],
];
