/**
 * --help of a verb.
 *
 * @module
 */
import { formatOption } from "../help.ts";
import { HELP, PARTITION_WORDS, type Verb } from "../verb_table.ts";

/** The whole text. */
export function verbHelp({ name, synopsis, summary, options }: Verb): string {
  const usage = synopsis.map((line) => ` loopdev ${name} ${line}\n`).join("");
  const text = `${summary[0].toUpperCase()}${summary.slice(1)}.`;
  const lines = [...options, HELP].map(formatOption).join("");
  const words = (usage + lines).includes("<partition>")
    ? `\nA <partition> is ${PARTITION_WORDS}.\n`
    : "";
  return `\nUsage:\n${usage}\n${text}\n\nOptions:\n${lines}${words}` +
    "\nFor more details see loopdev(8).\n";
}
