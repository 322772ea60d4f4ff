/** What the documentation says is shown by tests is: it names tests that exist. */
import { assert, assertEquals } from "@std/assert";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { CELLS } from "./compat/cells.ts";
import { readRows } from "./compat/page.ts";
import { ROOT, test } from "./support.ts";

const read = (path: string) => readFileSync(join(ROOT, path), "utf8");

/** The last column of a table's rows: "attach: attach() makes every…; torture: kill". */
function claims(text: string): string[] {
  return text.split("\n").filter((line) => line.startsWith("| ")).slice(2)
    .flatMap((line) => line.split("|").at(-2)!.split(";")).map((claim) => claim.trim());
}

for (const [path, section] of [["README.md", "## Guarantees"], ["docs/surroundings.md", ""]]) {
  test(`${path} names tests, parts and pages that exist`, [], () => {
    const text = read(path).split(section === "" ? /^# /m : `${section}\n`)[1].split("\n## ")[0];
    const all = claims(text);
    assert(all.length > 10);
    for (const claim of all) {
      const [, file, name] = /^(\w+): (.*?)…?$/.exec(claim) ?? [];
      const link = /\]\(([^)]+)\)/.exec(claim)?.[1];
      if (link !== undefined) {
        assert(existsSync(join(ROOT, path, "..", link)), claim);
      } else if (file === "torture") {
        assert(existsSync(join(ROOT, "torture", `${name}.ts`)), claim);
      } else if (file !== undefined) {
        assert(read(`tests/${file}.test.ts`).includes(name), claim);
      } else {
        assertEquals(claim, "`deno task vm --step tables`");
      }
    }
  });
}

test("every page of docs/ is linked from the README", [], () => {
  const readme = read("README.md");
  for (const page of readdirSync(join(ROOT, "docs"))) {
    assert(readme.includes(`docs/${page}`) || page === "performance.svg", page);
  }
});

test("docs/machines.md has each runtime that the README names, and nothing that failed", [], () => {
  const rows = readRows();
  const [, bun, deno] = /Bun (\d+\.\d+) or Deno (\d+\.\d+) and later/.exec(read("README.md"))!;
  for (
    const { name, runtime, version, libc } of CELLS.filter(({ version }) => version !== "latest")
  ) {
    assert(version.startsWith(`${runtime === "bun" ? bun : deno}.`), `${name} is not the oldest`);
    const shown = `${runtime === "bun" ? "Bun" : "Deno"} ${version}`;
    const row = rows.find((cells) => cells[1].startsWith(libc) && cells[2] === shown);
    assert(row, `no row of ${shown}`);
  }
  assert(rows.some((cells) => cells[1].startsWith("musl")), "no row of musl");
  for (const cells of rows) assert(/^\d+ passed/.test(cells[4]), cells.join(" | "));
});
