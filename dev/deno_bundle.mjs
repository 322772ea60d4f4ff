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
  JSON.parse(
    readFileSync(join(import.meta.dirname, "deno_start.json"), "utf8"),
  ),
);

const [MAIN, SHARED, LATE] = ["", ".shared", ".late"].map((piece) => `loopdev.deno${piece}.js`);
const CHANGES = staticAdapter("deno.ts");
const STAND_INS = lateBy(`await import("./${LATE}")`);

const isNode = (value) => typeof value?.type === "string";
/** Whether a function's parent makes it a method, which has no `function` of its own. */
const isMethod = (parent) =>
  parent.type === "MethodDefinition" || parent.method ||
  parent.kind === "get" || parent.kind === "set";

/** What an arrow function takes from around it. */
const OUTER = /\b(?:this|super|arguments|new\.target)\b/;

/** What replaces a part of the code: from, to, by what. `{ open(path) {} }`, as `{ open: (function(path) {}) }` */
function methodInParentheses({ start, end, key, computed, value }, code) {
  const name = code.slice(computed ? key.start - 1 : key.start, value.start);
  const kind = `${value.async ? "async " : ""}function${value.generator ? "*" : ""}`;
  return [[start, value.start, `${name}: (${kind}`], [end, end, ")"]];
}

/** V8 heeds no parenthesis before `async () => call()`: it becomes `(async function () { return (call()); })` */
function asyncInParentheses({ start, end, params, body, expression }, code) {
  const afterAsync = start + "async".length;
  const begin = params.at(-1)?.end ?? afterAsync;
  const [open, close] = expression ? ["{ return (", "); })"] : ["", ")"];
  return [
    [start, afterAsync, "(async function"],
    [begin, body.start, code.slice(begin, body.start).replace("=>", open)],
    [end, end, close],
  ];
}

/** What gives a function its parenthesis. */
function inParentheses(node, parent, code) {
  const { type, start, end } = node;
  const text = code.slice(start, end);
  if (type === "Property" && node.method) {
    return /\bsuper\b/.test(text) ? [] : methodInParentheses(node, code);
  }
  if (type === "ArrowFunctionExpression" && node.async && !OUTER.test(text)) {
    return asyncInParentheses(node, code);
  }
  const isExpression = /^(Arrow)?FunctionExpression$/.test(type) &&
    !isMethod(parent);
  return isExpression ? [[start, start, "("], [end, end, ")"]] : [];
}

/** The same for all functions in a node, in the code's order. Of two at one place, the inner one is first. */
function replacements(node, parent, code) {
  const within = Object.values(node).flat().filter(isNode)
    .flatMap((value) => replacements(value, node, code));
  const [first, ...rest] = inParentheses(node, parent, code);
  return [...first ? [first] : [], ...within, ...rest].toSorted(([a], [b]) => a - b);
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
    for (
      const [from, to, instead] of wanted.flatMap((part) => replacements(part, {}, code))
    ) {
      text += code.slice(at, from) + instead;
      at = to;
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
const renamed = codes.flatMap((
  code,
) => [...code.matchAll(/\b((\w+)\d) as \2\b/g)]);
for (const [index, { path }] of outputs.entries()) {
  const code = codes[index].replace(/^(?:\/\/ @bun\n)+/, "");
  await Bun.write(
    join(folder, path),
    inAscii(compiledAtOnce(withUsersNames(code))),
  );
}

/**
 * For a text with any other character, Deno makes a copy that has two bytes for each. Such characters stand
 * in strings alone.
 */
function inAscii(code) {
  const escaped = (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return code.replaceAll(/[^\0-\x7F]/g, escaped);
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
