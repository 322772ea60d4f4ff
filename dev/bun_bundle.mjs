/**
 * Makes the library for Bun, compiled in advance:
 *
 *     bun dev/bun_bundle.mjs FOLDER
 *
 * Bun compiles a function when it first runs, which was two thirds of a process that attaches one image. In
 * FOLDER it finds the bytecode in NAME.cjs.jsc beside NAME.cjs. Bun compares it with the source, and takes
 * the source if that was changed. The bytecode is that of one Bun: an older one fails with it, so on any other
 * users get loopdev.js. Only CommonJS modules can have it. So there are
 *
 *     loopdev.bun.js    what users import: the names of mod.ts
 *     loopdev.bun.cjs   what mod.ts loads
 *     loopdev.late.cjs  what it loads late
 */
import { join, relative } from "node:path";
import { readOptions } from "./options.ts";
import {
  exportsOf,
  lateBy,
  lateCode,
  mainCode,
  PARTS,
  ROOT,
  sourceOf,
  staticAdapter,
} from "./pieces.mjs";

const [MAIN, LATE] = ["loopdev.bun.cjs", "loopdev.late.cjs"];

/** CommonJS cannot wait while it loads, and here the runtime is known. */
const STATIC = {
  ...staticAdapter("bun.ts"),
  "lib/runtime/bun.ts": [
    'const { dlopen, ptr, read } = await import("bun:ffi");',
    'import { dlopen, ptr, read } from "bun:ffi";',
  ],
};

const quoted = (text) => JSON.stringify(text);

/** Builds NAME of an entry's code. `modules`: code that stands for files. Gives which files were loaded. */
async function build(name, code, modules, folder) {
  const loaded = new Set();
  const plugin = {
    name: "parts",
    setup(builder) {
      builder.onResolve(
        { filter: /^\.\/loopdev\.\w+\.cjs$/ },
        ({ path }) => ({ path, external: true }),
      );
      builder.onLoad({ filter: /\.ts$/ }, ({ path }) => {
        const file = relative(ROOT, path);
        if (modules[file] !== undefined) {
          return { contents: modules[file], loader: "js" };
        }
        loaded.add(file);
        return { contents: sourceOf(file, STATIC), loader: "ts" };
      });
    },
  };
  const entry = join(ROOT, name);
  await Bun.build({
    entrypoints: [entry],
    files: { [entry]: code },
    outdir: folder,
    naming: name,
    target: "bun",
    format: "cjs",
    bytecode: true,
    minify: { syntax: true },
    plugins: [plugin],
  });
  return loaded;
}

const HELP = `Usage: dev/bun_bundle.mjs FOLDER

Makes the library for Bun, compiled in advance, in FOLDER. Runs on the Bun that it is for.

  -h, --help  this text`;
const { operands: [folder] } = readOptions(HELP, {}, { least: 1, most: 1 });

const late = lateBy(`require("./${LATE}")`);

// What both need is in the main file alone, and the late one takes it from there.
const inMain = await build(MAIN, mainCode(), late, folder);
const inLate = await build(LATE, lateCode(), late, folder);
const shared = [
  ...[...inMain].filter((file) => inLate.has(file)),
  ...Object.keys(PARTS),
].toSorted();
const imports = shared.map((file, i) =>
  `import { ${exportsOf(file).map((name) => `${name} as _${i}_${name}`)} } from "./${file}";\n`
);
const objects = shared.map((file, i) =>
  `${quoted(file)}: { ${exportsOf(file).map((name) => `${name}: _${i}_${name}`)} },\n`
);
const sharing = `${imports.join("")}export const shared = () => ({ ${objects.join("")} });\n`;
const borrowed = Object.fromEntries(
  shared.map((file) => [
    file,
    `module.exports = require("./${MAIN}").shared()[${quoted(file)}];\n`,
  ]),
);
await build(MAIN, mainCode() + sharing, late, folder);
await build(LATE, lateCode(), borrowed, folder);

// By a path that no bundler sees: the pieces would not fit into another file. What is bundled has another
// name, and gets the library as it is on all runtimes.
await Bun.write(
  join(folder, "loopdev.bun.js"),
  `const { require: load, dir, file } = import.meta;
const isCompiled = file === "loopdev.bun.js" &&
  Bun.revision === ${quoted(Bun.revision)} && process.arch === ${quoted(process.arch)};
export const {
  ${exportsOf("mod.ts").join(",\n  ")},
} = isCompiled ? load(\`\${dir}/${MAIN}\`) : await import("./loopdev.js");
`,
);
