/**
 * The one table of verbs, `loopdev ls` and the like: the parser, --help and the manual page read it. In
 * its texts backquotes are bold, angle brackets italic.
 *
 * @module
 */
import type { Option } from "./options.ts";

/** What the program does beside losetup's options, under the name loopdev. */
export interface Verb {
  readonly name: string;
  /** What stands behind the name, one line for each way. */
  readonly synopsis: readonly string[];
  readonly summary: string;
  /** Paragraphs of the manual page. */
  readonly manual: readonly string[];
  /** Its options, without --help. */
  readonly options: readonly Option[];
  /** Whether something goes on while it waits for the kernel: a command, a clock. */
  readonly threads: boolean;
  /** Whether it takes a command behind `--`, and returns its exit code. */
  readonly command?: boolean;
  /** How many operands it takes. */
  readonly operands: readonly [least: number, most: number];
}

export const HELP: Option = { short: "h", long: "help", help: "display this help" };

/** What a <partition> can be. */
export const PARTITION_WORDS =
  "a number, or LABEL=, UUID=, PARTLABEL=, PARTUUID= or TYPE= with a value";

const ROOT: Option = {
  long: "root",
  argument: "required",
  value: " <partition>",
  help: "the partition with the root directory",
  manual:
    "The partition with the root directory, where nothing in the image tells, or another one is meant.",
};

const AS_JSON: Option = {
  short: "J",
  long: "json",
  help: "print it as JSON, sizes in bytes",
};

const READ_ONLY: Option = {
  short: "r",
  long: "read-only",
  help: "change nothing in the image",
};

export const VERBS: readonly Verb[] = [
  {
    name: "run",
    synopsis: ["[options] <image> [<partition>] [-- <command>...]"],
    summary: "run a command, or a shell, in an image",
    manual: [
      "Mounts an image as its own system has it, runs a command with it as its root directory, and unmounts " +
      "it again. Without a command it runs a shell. The command has process numbers, /proc, /dev, /run and " +
      "/tmp of its own; whatever it starts ends with it. <partition> is what `--root` takes.",
      "The exit code is that of the command, 128 and the signal's number if a signal killed it; 125 if " +
      "`loopdev` itself fails, 126 if the command cannot be executed, 127 if it does not exist.",
    ],
    options: [
      ROOT,
      READ_ONLY,
      {
        long: "no-chroot",
        help: "run a command of this machine instead",
        manual:
          "Runs a command of this machine, which finds the image in its working directory, and in " +
          "`$LOOPDEV_ROOT`.",
      },
      {
        long: "owner",
        argument: "optional",
        value: "[=<user>]",
        help: "run the command as this user, who has root's files then",
        manual:
          "Runs the command as <user>, a name or a number of this machine. What is root's in the image is " +
          "<user>'s then, and what <user> makes there is root's in the image. Without <user> it is the one " +
          "who called sudo. Needs file systems that can map owners, and Linux 5.12 or later.",
      },
    ],
    threads: true,
    command: true,
    operands: [1, 2],
  },
  {
    name: "ls",
    synopsis: ["[options] <image>..."],
    summary: "list what an image holds",
    manual: [
      "Lists the partitions of an image or a block device: number, size, type and name as its table has " +
      "them, what is on them, and their nodes where the image is attached. A column without a value is " +
      "left out. It needs neither root nor a loop device; as root it also says which system the image " +
      "holds, and mounts it read-only for that.",
    ],
    options: [
      AS_JSON,
      {
        long: "output-all",
        help: "print all columns",
        manual: "Prints also where each partition begins, in bytes, and the UUIDs.",
      },
    ],
    threads: false,
    operands: [1, Infinity],
  },
  {
    name: "cp",
    synopsis: [
      "[options] <image>:<path>... <path>",
      "[options] <path>... <image>:<path>",
    ],
    summary: "copy files out of an image, or into it",
    manual: [
      "Copies files and directories as `cp -a --sparse=auto` does, with owners, times and attributes. The " +
      "image is mounted as its own system has it, and its links lead where they lead there. What is copied " +
      "into a directory replaces a link or a device node of that name there; a link that is named as the " +
      "target itself is followed. An <image>:<path> has a slash behind the colon, as in " +
      "disk.img:/etc/fstab. From its first second on, a line on the terminal says how far it is.",
    ],
    options: [ROOT],
    threads: true,
    operands: [2, Infinity],
  },
  {
    name: "mount",
    synopsis: ["[options] <image> <directory>"],
    summary: "mount the files of an image, until loopdev umount",
    manual: [
      "Attaches an image and mounts it on a directory, as its own system has it. Both stay when the program ends; if it fails or is " +
      "interrupted, nothing stays. Device nodes and set-user-ID bits of the image have no effect there.",
    ],
    options: [
      ROOT,
      READ_ONLY,
      {
        long: "owner",
        argument: "optional",
        value: "[=<user>]",
        help: "whose the files are that root has in the image",
        manual:
          "Gives <user>, a name or a number, what is root's in the image; what <user> makes there is " +
          "root's in the image. Without <user> it is the one who called sudo. Needs a file system that " +
          "can map owners, and Linux 5.12 or later.",
      },
    ],
    threads: false,
    operands: [2, 2],
  },
  {
    name: "umount",
    synopsis: ["<directory>..."],
    summary: "unmount what loopdev mount has mounted, and detach it",
    manual: [
      "Unmounts all that `loopdev mount` has mounted on a directory and below it, and detaches the loop " +
      "device. All that was written is in the image when it returns. If a process uses the files, or " +
      "something else is mounted among them, it fails.",
    ],
    options: [],
    threads: false,
    operands: [1, Infinity],
  },
  {
    name: "grow",
    synopsis: ["[options] <image> [<partition>]"],
    summary: "grow an image, with a partition and its file system",
    manual: [
      "Makes an image longer, and grows its partition table, its last partition or <partition>, and the " +
      "file system there, without unmounting it. At each moment a whole table can be read. What cannot " +
      "grow is said; nothing becomes smaller.",
    ],
    options: [
      {
        long: "size",
        argument: "required",
        value: " <num>",
        help: "the image's new size",
        manual:
          "The image's new size, as in 8G. Without it the image stays as long as it is, and what is " +
          "in it grows to its end.",
      },
      {
        long: "dry-run",
        help: "only say what would be done",
      },
      AS_JSON,
    ],
    threads: true,
    operands: [1, 2],
  },
];
