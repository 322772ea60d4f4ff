/** The npm package: its manifest, its README, and what require() gets of it. */
import config from "../deno.json" with { type: "json" };
import about from "../package.json" with { type: "json" };

/** A text of this repository and how the reader of a package imports what it shows. */
interface Reader {
  /** What imports call the library where the package is read. */
  name: string;
  version: string;
  /** Where the repository is; "" as long as it has no address. */
  repository: string;
}

/**
 * The README for those who have a package and no repository. In README.md
 * `<!-- repository: -->` and `<!-- :repository -->` enclose what only the repository's readers get;
 * `<!-- package:` begins a comment that only the package's readers get.
 */
export function packageReadme(text: string, { name, version, repository }: Reader): string {
  const own = text
    .replaceAll(/<!-- repository: -->\n[^]*?<!-- :repository -->\n+/g, "")
    .replaceAll(/<!-- package:\n([^]*?)-->\n/g, "$1")
    .replaceAll('"./mod.ts"', `"${name}"`)
    .replaceAll('"./gpt.ts"', `"${name}/gpt"`);
  const at = (kind: string, path: string) => `${repository}/${kind}/v${version}/${path}`;
  return own.replaceAll(/(!?)\[([^\]]*)\]\((?!https?:|#)([^)]+)\)/g, (_, mark, label, path) => {
    if (repository === "") return mark ? "" : label;
    return `${mark}[${label}](${at(mark ? "raw" : "blob", path)})`;
  });
}

const USE_IMPORT =
  'loopdev is an ES module: import it, or use await import("loopdev") in a CommonJS file';

/**
 * What `require("loopdev")` gets, and its types. Node cannot require() a module that awaits while it
 * loads, and older ones can require() no ES module: their own messages say neither what to do.
 */
export const REQUIRE: Record<string, string> = {
  "require.cjs": `"use strict";\nthrow new Error('${USE_IMPORT}');\n`,
  "require.d.cts": `/** ${USE_IMPORT}. */\nexport {};\n`,
};

/** Files that stand in dist/, too. */
export const SHARED: readonly string[] = [
  ...["loopdev.js", "loopdev.d.ts", "gpt.js", "gpt.d.ts", "losetup.js", "loopdev.8"],
  ...["loopdev.bun.js", "loopdev.bun.cjs", "loopdev.late.cjs"],
  ...["loopdev.bun.cjs.jsc", "loopdev.late.cjs.jsc"],
  ...["loopdev.deno.js", "loopdev.deno.shared.js", "loopdev.deno.late.js"],
];

/** The package's package.json. */
export function manifest(): string {
  const { name, description, keywords, license, type, os, cpu, repository } = about;
  const links = {
    homepage: `${repository}#readme`,
    repository: { type: "git", url: `git+${repository}.git` },
    bugs: `${repository}/issues`,
  };
  const value = {
    name,
    version: config.version,
    description,
    keywords,
    ...repository === "" ? {} : links,
    license,
    type,
    exports: {
      ".": {
        require: { types: "./require.d.cts", default: "./require.cjs" },
        bun: { types: "./loopdev.d.ts", default: "./loopdev.bun.js" },
        deno: { types: "./loopdev.d.ts", default: "./loopdev.deno.js" },
        default: { types: "./loopdev.d.ts", default: "./loopdev.js" },
      },
      "./gpt": { types: "./gpt.d.ts", default: "./gpt.js" },
      "./package.json": "./package.json",
    },
    types: "./loopdev.d.ts",
    bin: { loopdev: "losetup.js" },
    man: ["loopdev.8"],
    files: [...SHARED, ...Object.keys(REQUIRE), "CHANGELOG.md"],
    os,
    cpu,
    engines: { bun: ">=1.3", deno: ">=2.7", node: ">=26.10" },
  };
  return JSON.stringify(value, undefined, 2) + "\n";
}
