/**
 * --help, in losetup's form.
 *
 * @module
 */
import { COLUMNS } from "./columns.ts";
import { type Option, OPTIONS } from "./options.ts";

/** How the program is called, one line for each way. */
export const SYNOPSIS: readonly string[] = [
  "[options] [<loopdev>]",
  "[options] -f | <loopdev> <file>",
];

/** What it is, in one line. */
export const SUMMARY = "Set up and control loop devices.";

const SECTIONS: readonly [Option["section"], heading: string][] = [
  ["command", "\nOptions:\n"],
  ["setup", "\n"],
  ["output", "\n"],
  ["beyond", "\nBeyond losetup(8):\n"],
  ["general", "\n"],
];

/** The whole text. */
export function helpText(program: string): string {
  const usage = SYNOPSIS.map((line) => ` ${program} ${line}\n`).join("");
  const options = SECTIONS.map(([section, heading]) => {
    const lines = OPTIONS.filter((option) => option.section === section).map(formatOption);
    return heading + lines.join("");
  });
  const columns = COLUMNS.map(({ name, help }) => ` ${name.padStart(12)}  ${help}\n`);
  return `\nUsage:\n${usage}\n${SUMMARY}\n${options.join("")}` +
    `\nAvailable output columns:\n${columns.join("")}\nFor more details see loopdev(8).\n`;
}

function formatOption({ short, long, value = "", help }: Option): string {
  const names = ` ${short === undefined ? "   " : `-${short},`} --${long}${value}`;
  return `${names.padEnd(31)}${help}\n`;
}
