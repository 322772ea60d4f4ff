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
import { readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { readOptions } from "./options.ts";

const ROOT = join(import.meta.dirname, "..");
const [MAIN, LATE] = ["loopdev.bun.cjs", "loopdev.late.cjs"];

/** What each late.ts loads, by the name that the late file gives it. */
const PARTS = {
  "lib/mount/late.ts": {
    loadMount: "lib/mount/mount.ts",
    loadFileSystem: "lib/mount/file_system.ts",
    loadSelect: "lib/mount/select.ts",
  },
  "lib/image/late.ts": {
    loadTree: "lib/image/tree.ts",
    loadOptions: "lib/image/options.ts",
  },
  "lib/grow/late.ts": { loadGrow: "lib/grow/grow.ts" },
};

/** CommonJS cannot wait while it loads, and here the runtime is known. */
const STATIC = {
  "lib/runtime/libc.ts": [
    /^const adapter: [^;]*;$/m,
    'import * as adapter from "./bun.ts";',
  ],
  "lib/runtime/bun.ts": [
    'const { dlopen, ptr, read } = await import("bun:ffi");',
    'import { dlopen, ptr, read } from "bun:ffi";',
  ],
};

const source = (file) => readFileSync(join(ROOT, file), "utf8");
const quoted = (text) => JSON.stringify(text);

function replaced(file) {
  const [from, to] = STATIC[file];
  const text = source(file);
  const code = text.replace(from, () => to);
  if (code === text) {
    throw new Error(`${file} has changed: there is no ${from}`);
  }
  return code;
}

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
        return {
          contents: file in STATIC ? replaced(file) : source(file),
          loader: "ts",
        };
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

const transpiler = new Bun.Transpiler({ loader: "ts" });
const exportsOf = (file) => transpiler.scan(source(file)).exports;
const names = exportsOf("mod.ts");

/** Stands for each late.ts: as there, nothing of the late file is loaded before it is wanted. */
const late = Object.fromEntries(
  Object.entries(PARTS).map(([file, parts]) => [
    file,
    Object.keys(parts).map((load) =>
      `export const ${load} = async () => require("./${LATE}").${load};\n`
    ).join(""),
  ]),
);
const lateCode = Object.values(PARTS).flatMap((parts) =>
  Object.entries(parts).map(([load, file]) => `export * as ${load} from "./${file}";\n`)
).join("");
const mainCode = `export { ${names} } from "./mod.ts";\n`;

// What both need is in the main file alone, and the late one takes it from there.
const inMain = await build(MAIN, mainCode, late, folder);
const inLate = await build(LATE, lateCode, late, folder);
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
await build(MAIN, mainCode + sharing, late, folder);
await build(LATE, lateCode, borrowed, folder);

// By a path that no bundler sees: the pieces would not fit into another file. What is bundled has another
// name, and gets the library as it is on all runtimes.
await Bun.write(
  join(folder, "loopdev.bun.js"),
  `const { require: load, dir, file } = import.meta;
const isCompiled = file === "loopdev.bun.js" &&
  Bun.revision === ${quoted(Bun.revision)} && process.arch === ${quoted(process.arch)};
export const {
  ${names.join(",\n  ")},
} = isCompiled ? load(\`\${dir}/${MAIN}\`) : await import("./loopdev.js");
`,
);
