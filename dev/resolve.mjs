/**
 * Loaded by `node --import`: finds the bare names that tsconfig.json's `paths` gives Bun, and deno.json's
 * `imports` Deno.
 */
import { readFileSync } from "node:fs";
import { registerHooks } from "node:module";

const ROOT = new URL("../", import.meta.url);
const config = readFileSync(new URL("tsconfig.json", ROOT), "utf8");
const { paths } = JSON.parse(config).compilerOptions;

registerHooks({
  resolve(specifier, context, next) {
    const [path] = Object.hasOwn(paths, specifier) ? paths[specifier] : [];
    return next(path ? new URL(path, ROOT).href : specifier, context);
  },
});
