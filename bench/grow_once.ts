/**
 * Grows IMAGE to SIZE bytes: what bench/grow.ts measures and kills.
 *
 *     bun bench/grow_once.ts IMAGE 1073741824
 */
import { readOptions } from "../dev/options.ts";
import { growImage } from "../mod.ts";

const HELP = `Usage: bench/grow_once.ts IMAGE SIZE

What bench/grow.ts starts: grows IMAGE, its last partition and the file system in it to SIZE bytes.

  -h, --help  this text`;
const { operands: [image, size] } = readOptions(HELP, {}, { least: 2, most: 2 });
console.log(JSON.stringify((await growImage(image, { size: Number(size) })).fileSystem));
