/** The files of the source tree, and what each imports. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { ROOT } from "../../dev/runtimes.ts";

/** What npm, the build and the tests' runs put into the tree. */
const OTHERS = ["node_modules", "dist", "reports", "tmp"];

/** The files below a folder that are code. */
export const filesIn = (folder: string): string[] =>
  readdirSync(join(ROOT, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return OTHERS.includes(entry.name) ? [] : filesIn(path);
    return /\.(ts|mjs)$/.test(entry.name) ? [path] : [];
  });

export const source = (file: string): string => readFileSync(join(ROOT, file), "utf8");

/** Without comments. */
export const code = (file: string): string => source(file).replaceAll(/\/\*[^]*?\*\/|\/\/.*/g, "");

/** What a file imports, types included. */
export const imports = (file: string): string[] =>
  [...code(file).matchAll(/(?:from|import\(|import) ?"([^"]+)"/g)].map(([, specifier]) =>
    specifier
  );

/** Those of its own tree. A text that a program writes or replaces can look like an import, too. */
export const filesImported = (file: string): string[] =>
  imports(file).filter((specifier) => specifier.startsWith("."))
    .map((specifier) => join(dirname(file), specifier))
    .filter((imported) => existsSync(join(ROOT, imported)));
