/** The library in pieces: what mod.ts loads, and what its functions load late. Runs on Bun. */
import { readFileSync } from "node:fs";
import { join } from "node:path";

export const ROOT = join(import.meta.dirname, "..");

/** What each late.ts loads, by the name that the late file gives it. */
export const PARTS = {
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

const source = (file) => readFileSync(join(ROOT, file), "utf8");

/** The names that a file exports. */
export const exportsOf = (file) => new Bun.Transpiler({ loader: "ts" }).scan(source(file)).exports;

/** The code of a file. `changes`: for the files that have one, what is replaced, and by what. */
export function sourceOf(file, changes) {
  const text = source(file);
  if (!(file in changes)) return text;
  const [from, to] = changes[file];
  const code = text.replace(from, () => to);
  if (code === text) {
    throw new Error(`${file} has changed: there is no ${from}`);
  }
  return code;
}

/** Where the runtime is known, its adapter is no import that waits. */
export const staticAdapter = (file) => ({
  "lib/runtime/libc.ts": [
    /^const adapter: [^;]*;$/m,
    `import * as adapter from "./${file}";`,
  ],
});

/** Stands for each late.ts: as there, nothing of the late file is loaded before it is wanted. */
export const lateBy = (load) =>
  Object.fromEntries(
    Object.entries(PARTS).map(([file, parts]) => [
      file,
      Object.keys(parts).map((name) => `export const ${name} = async () => (${load}).${name};\n`)
        .join(""),
    ]),
  );

/** The entries: what users import, and all that is loaded late. */
export const mainCode = () => `export { ${exportsOf("mod.ts")} } from "./mod.ts";\n`;
export const lateCode = () =>
  Object.values(PARTS).flatMap((parts) =>
    Object.entries(parts).map(([load, file]) => `export * as ${load} from "./${file}";\n`)
  ).join("");
