/**
 * Makes one file of an entry and all that it imports:
 *
 *     bun dev/bundle.mjs ENTRY OUTFILE
 *
 * The target "node" has Bun write `using` out in older JavaScript, so that Node gets as far as our
 * message, and older Buns can run it. Names stay: people read them in stack traces.
 */
import { dirname, join } from "node:path";
import { readOptions } from "./options.ts";

const ROOT = join(import.meta.dirname, "..");
/** What loads late, and what stands for it here. */
const AT_ONCE = new Map([
  [join(ROOT, "lib/mount/late.ts"), join(ROOT, "dev/at_once.ts")],
  [join(ROOT, "lib/image/late.ts"), join(ROOT, "dev/image_at_once.ts")],
  [join(ROOT, "lib/grow/late.ts"), join(ROOT, "dev/grow_at_once.ts")],
]);

/** Takes the one for the other, by the module that an import leads to. */
const atOnce = {
  name: "at-once",
  setup(build) {
    build.onResolve(
      { filter: /\.ts$/ },
      ({ path, importer }) => {
        const standIn = AT_ONCE.get(join(dirname(importer), path));
        return standIn ? { path: standIn } : undefined;
      },
    );
  },
};

const HELP = `Usage: dev/bundle.mjs ENTRY OUTFILE

Makes one file of ENTRY and all that it imports. Runs on Bun.

  -h, --help  this text`;
const { operands: [entry, outfile] } = readOptions(HELP, {}, { least: 2, most: 2 });
const { outputs } = await Bun.build({
  entrypoints: [join(ROOT, entry)],
  target: "node",
  external: ["bun:ffi"],
  // Not the whitespace: beside an error that nobody catches, Node prints the whole line that threw it.
  minify: { syntax: true },
  plugins: [atOnce],
});
await Bun.write(outfile, outputs[0]);
