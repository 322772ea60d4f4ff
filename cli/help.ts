/**
 * --help, in losetup's form.
 *
 * @module
 */
import { COLUMNS } from "./columns.ts";
import { type LosetupOption, type Option, OPTIONS } from "./options.ts";
import { VERBS } from "./verb_table.ts";

/** How the program is called, one line for each way. */
export const SYNOPSIS: readonly string[] = [
  "[options] [<loopdev>]",
  "[options] -f | <loopdev> <file>",
];

/** What it is, in one line. */
export const SUMMARY = "Set up and control loop devices.";

const SECTIONS: readonly [LosetupOption["section"], heading: string][] = [
  ["command", "\nOptions:\n"],
  ["setup", "\n"],
  ["output", "\n"],
  ["beyond", "\nBeyond losetup(8):\n"],
  ["general", "\n"],
];

/** The whole text. Under the name losetup there are no verbs. */
export function helpText(program: string): string {
  const hasVerbs = program !== "losetup";
  const ways = hasVerbs ? [...SYNOPSIS, "<verb> [options] <image>..."] : SYNOPSIS;
  const usage = ways.map((line) => ` ${program} ${line}\n`).join("");
  const verbs = VERBS.map(({ name, summary }) => ` ${name.padEnd(30)}${summary}\n`);
  const options = SECTIONS.map(([section, heading]) => {
    const lines = OPTIONS.filter((option) => option.section === section).map(formatOption);
    return heading + lines.join("");
  });
  const columns = COLUMNS.map(({ name, help }) => ` ${name.padStart(12)}  ${help}\n`);
  return `\nUsage:\n${usage}\n${SUMMARY}\n${options.join("")}` +
    (hasVerbs ? `\nVerbs, each with a --help of its own:\n${verbs.join("")}` : "") +
    `\nAvailable output columns:\n${columns.join("")}\nFor more details see loopdev(8).\n`;
}

/** An option's line. */
export function formatOption({ short, long, value = "", help }: Option): string {
  const names = ` ${short === undefined ? "   " : `-${short},`} --${long}${value}`;
  return `${names.padEnd(31)}${help}\n`;
}
