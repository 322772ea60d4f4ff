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

export const VERBS: readonly Verb[] = [
  {
    name: "ls",
    synopsis: ["[options] <image>..."],
    summary: "list what an image holds",
    manual: [
      "Lists the partitions of an image or a block device: number, size, type and name as its table has " +
      "them, what is on them, and their nodes where the image is attached. A column without a value is " +
      "left out. It needs neither root nor a loop device.",
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
];
