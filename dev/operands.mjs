/** The command line of what every Node that npm runs on can run: plain JavaScript, without dev/options.ts. */
import process from "node:process";
import { parseArgs } from "node:util";

/**
 * The operands. Prints `help`, which begins with "Usage: node FILE", and ends the program if --help is
 * among the options; at an unknown one prints a line that names it and ends with 2, and at an operand
 * of which `refuse` gives what is wrong with it.
 *
 * @param {string} help
 * @param {(operand: string) => string | undefined} [refuse]
 * @returns {string[]}
 */
export function readOperands(help, refuse = () => undefined) {
  try {
    const options = { help: { type: "boolean", short: "h" } };
    const { values, positionals } = parseArgs({ options, allowPositionals: true });
    if (values.help) {
      console.log(help);
      process.exit();
    }
    for (const operand of positionals) {
      const wrong = refuse(operand);
      if (wrong !== undefined) throw new Error(wrong);
    }
    return positionals;
  } catch (error) {
    console.error(`${/^Usage: node (\S+)/.exec(help)[1]}: ${error.message}`);
    return process.exit(2);
  }
}
