/**
 * A process that runs a command in an image: `runner.ts IMAGE OPTIONS COMMAND...`, the options as JSON.
 * The command has this process's standard descriptors. Prints a line of JSON when it has ended.
 */
import process from "node:process";
import { attach } from "../../mod.ts";

const [image, options, ...command] = process.argv.slice(2);
process.on("SIGINT", () => {});
// Node and Bun make them non-blocking at the first touch.
if ([process.stdin, process.stdout, process.stderr].length !== 3) throw new Error();
await using loop = await attach(image);
await using root = await loop.mount();
const { code, signal } = await root.run(command, { stdin: "inherit", ...JSON.parse(options) });
console.log(JSON.stringify({ code, signal }));
