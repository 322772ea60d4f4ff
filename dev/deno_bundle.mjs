/**
 * Makes the library for Deno, such that V8 compiles it once:
 *
 *     bun dev/deno_bundle.mjs FOLDER
 *
 * Deno caches what V8 has compiled of a module before any of it ran. V8 compiles a function when it first
 * runs, unless a parenthesis stands before it. So here one does, wherever the language allows it, before
 * each function that a program runs which attaches, mounts and detaches (dev/deno_start.json, by
 * dev/deno_start.mjs), and those are in the cache. The others are not, since the cache is read as a whole,
 * which takes longer the more is in it. For that there are three files, too:
 *
 *     loopdev.deno.js         what users import
 *     loopdev.deno.shared.js  what it and the late file need
 *     loopdev.deno.late.js    what is loaded late
 */
import { readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { parseAst } from "rollup/parseAst";
import { readOptions } from "./options.ts";
import { lateBy, lateCode, mainCode, ROOT, sourceOf, staticAdapter } from "./pieces.mjs";

/** The functions that such a program runs, by the names at the top of the files in which they are. */
const START = new Set(
  JSON.parse(readFileSync(join(import.meta.dirname, "deno_start.json"), "utf8")),
);

const [MAIN, SHARED, LATE] = ["", ".shared", ".late"].map((piece) => `loopdev.deno${piece}.js`);
const CHANGES = staticAdapter("deno.ts");
const STAND_INS = lateBy(`await import("./${LATE}")`);

const isNode = (value) => typeof value?.type === "string";
const isMethod = (parent) =>
  parent.type === "MethodDefinition" || parent.method ||
  parent.kind === "get" || parent.kind === "set";

/** Where parentheses go, in the code's order: position and parenthesis. */
function parentheses(node, parent, found = []) {
  const isExpression = /^(Arrow)?FunctionExpression$/.test(node.type) &&
    !isMethod(parent);
  if (isExpression) found.push([node.start, "("]);
  for (const value of Object.values(node).flat()) {
    if (isNode(value)) parentheses(value, node, found);
  }
  if (isExpression) found.push([node.end, ")"]);
  return found;
}

/**
 * The same module with those functions in parentheses. What it declares comes first: declarations are
 * hoisted, and variables are not.
 */
function compiledAtOnce(code) {
  const declared = [], rest = [];
  for (const statement of parseAst(code).body) {
    let text = "";
    let at = statement.start;
    const wanted = (statement.declarations ?? [statement]).filter(({ id }) => START.has(id?.name));
    for (const [position, parenthesis] of wanted.flatMap((part) => parentheses(part))) {
      text += code.slice(at, position) + parenthesis;
      at = position;
    }
    text += code.slice(at, statement.end);
    if (statement.type === "FunctionDeclaration" && wanted.length > 0) {
      declared.push(`var ${statement.id.name} = (${text});\n`);
    } else rest.push(`${text}\n`);
  }
  return [...declared, ...rest].join("");
}

const HELP = `Usage: dev/deno_bundle.mjs FOLDER

Makes the library for Deno, whose functions are compiled once, in FOLDER. Runs on Bun.

  -h, --help  this text`;
const { operands: [folder] } = readOptions(HELP, {}, { least: 1, most: 1 });

const plugin = {
  name: "pieces",
  setup(builder) {
    builder.onResolve(
      { filter: /^\.\/loopdev\.deno\.late\.js$/ },
      ({ path, importer }) => importer === "" ? undefined : { path, external: true },
    );
    builder.onLoad({ filter: /\.ts$/ }, ({ path }) => {
      const file = relative(ROOT, path);
      return {
        contents: STAND_INS[file] ?? sourceOf(file, CHANGES),
        loader: "ts",
      };
    });
  },
};
const entries = {
  [join(ROOT, MAIN)]: mainCode(),
  [join(ROOT, LATE)]: lateCode(),
};
const { outputs } = await Bun.build({
  entrypoints: Object.keys(entries),
  files: entries,
  target: "node",
  splitting: true,
  naming: { entry: "[name].[ext]", chunk: SHARED },
  minify: { syntax: true },
  plugins: [plugin],
});
const codes = await Promise.all(outputs.map((output) => output.text()));
const renamed = codes.flatMap((code) => [...code.matchAll(/\b((\w+)\d) as \2\b/g)]);
for (const [index, { path }] of outputs.entries()) {
  const code = codes[index].replace(/^(?:\/\/ @bun\n)+/, "");
  await Bun.write(join(folder, path), compiledAtOnce(withUsersNames(code)));
}

/**
 * Bun calls a class of the shared file LoopError2 and exports it as LoopError. Whoever prints an error sees
 * the class's own name, so it gets back the one that users know.
 */
function withUsersNames(code) {
  for (const [, given, own] of renamed) {
    if (new RegExp(`(?:class|const|function|let|var) ${own}\\b`).test(code)) {
      throw new Error(`${own} is the name of something else, too`);
    }
    code = code.replaceAll(new RegExp(`\\b${given}\\b`, "g"), own);
  }
  return code;
}
