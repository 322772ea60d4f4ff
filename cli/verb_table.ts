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
  /** How many operands it takes. */
  readonly operands: readonly [least: number, most: number];
}

export const HELP: Option = { short: "h", long: "help", help: "display this help" };

const ROOT: Option = {
  long: "root",
  argument: "required",
  value: " <partition>",
  help: "the partition with the root directory",
};

const READ_ONLY: Option = {
  short: "r",
  long: "read-only",
  help: "change nothing in the image",
};

export const VERBS: readonly Verb[] = [
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
      {
        short: "J",
        long: "json",
        help: "print it as JSON, sizes in bytes",
      },
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
    name: "mount",
    synopsis: ["[options] <image> <directory>"],
    summary: "mount the files of an image, until loopdev umount",
    manual: [
      "Attaches an image and mounts it on a directory, as its own system has it. Both stay when the program ends; if it fails or is " +
      "interrupted, nothing stays. Device nodes and set-user-ID bits of the image have no effect there.",
    ],
    options: [ROOT, READ_ONLY],
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
];
