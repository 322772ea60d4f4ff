/**
 * Prints the manual page:
 *
 *     deno run -A dev/man_page.ts > docs/loopdev.8
 */
import { manPage } from "../cli/man.ts";
import { readOptions } from "./options.ts";

const HELP = `Usage: dev/man_page.ts

Prints the manual page loopdev(8), which docs/loopdev.8 has.

  -h, --help  this text`;

readOptions(HELP, {});
console.log(manPage().trimEnd());
