/** What the documentation says is shown by tests is: it names tests that exist. */
import { assert, assertEquals } from "@std/assert";
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { CELLS } from "../compat/cells.ts";
import { readRows } from "../compat/page.ts";
import {
  onThisRuntime,
  output,
  ROOT,
  RUNTIME_NAMES,
  RUNTIMES,
  scratch,
  test,
} from "./support/support.ts";

const read = (path: string) => readFileSync(join(ROOT, path), "utf8");

/** The last column of a table's rows: "attach: attach() makes every…; torture: kill". */
function claims(text: string): string[] {
  return text.split("\n").filter((line) => line.startsWith("| ")).slice(2)
    .flatMap((line) => line.split("|").at(-2)!.split(";")).map((claim) => claim.trim());
}

for (const path of ["docs/guarantees.md", "docs/surroundings.md"]) {
  test(`${path} names tests, parts and pages that exist`, [], () => {
    const all = claims(read(path));
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
        const step = /^`deno task vm --step (\w+)`$/.exec(claim)?.[1];
        assert(read("vm/steps.ts").includes(`name: "${step}"`), claim);
      }
    }
  });
}

test("every page of docs/ is linked from the README", [], () => {
  const readme = read("README.md");
  for (const page of readdirSync(join(ROOT, "docs"))) {
    // A folder is linked by its index.
    if (page === "decisions") continue;
    // A picture or the data of a page are linked from that page.
    const own = page.replace(/\.(svg|json)$/, ".md");
    const isLinked = own !== page && read(`docs/${own}`).includes(`(${page})`);
    assert(readme.includes(`docs/${page}`) || isLinked, page);
  }
});

test("every decision is linked from their index, and that from the README", [], () => {
  assert(read("README.md").includes("(docs/decisions/README.md)"));
  const index = read("docs/decisions/README.md");
  const records = readdirSync(join(ROOT, "docs/decisions")).filter((name) => name !== "README.md");
  assert(records.length >= 10);
  for (const record of records) {
    assert(index.includes(`(${record})`), record);
    const text = read(`docs/decisions/${record}`);
    for (const part of ["Context", "Decision", "Consequences", "Evidence"]) {
      assert(text.includes(`**${part}.**`), `${record}: ${part}`);
    }
    for (const [, link] of text.matchAll(/\]\(([^)#:]+)\)/g)) {
      assert(existsSync(join(ROOT, "docs/decisions", link)), `${record}: ${link}`);
    }
  }
});

test("docs/machines.md has each runtime that the README names, and nothing that failed", [], () => {
  const rows = readRows();
  const [, ...oldest] = /Bun (\d+\.\d+), Deno (\d+\.\d+) or Node\.js (\d+\.\d+), and later/.exec(
    read("README.md"),
  )!;
  for (
    const { name, runtime, version, libc } of CELLS.filter(({ version }) => version !== "latest")
  ) {
    const promised = oldest[RUNTIMES.indexOf(runtime)];
    assert(version.startsWith(`${promised}.`), `${name} is not the oldest`);
    const shown = `${RUNTIME_NAMES[runtime]} ${version}`;
    const row = rows.find((cells) => cells[1].startsWith(libc) && cells[2] === shown);
    assert(row, `no row of ${shown}`);
  }
  assert(rows.some((cells) => cells[1].startsWith("musl")), "no row of musl");
  for (const cells of rows) {
    assert(/^\d+ (passed|cycles, 0 spurious events, 0 missing)/.test(cells[4]), cells.join(" | "));
  }
});

test("the numbers of the pages are the code's", [], () => {
  const pages = ["options", "errors"].map((page) => read(`docs/${page}.md`)).join("");
  const says = (text: RegExp) => text.exec(pages)?.[1].replaceAll(/\D/g, "");
  const has = (file: string, code: RegExp) => code.exec(read(file))?.[1].replaceAll("_", "");
  const pairs = [
    [says(/`concurrency`, by default (\d+)/), has("lib/attach_all.ts", /CONCURRENCY = (\d+)/)],
    [
      says(/\| `timeout` +\| `(\d+)`/),
      has("lib/binding/options.ts", /timeout: \{.* default: ([\d_]+) \}/),
    ],
    [says(/\| `EBUSY` +\| (\d+) devices in a row/), has("lib/binding/bind.ts", /tries: (\d+)/)],
  ];
  for (const [said, real] of pairs) assertEquals([said, typeof said], [real, "string"]);
  assert(pages.replaceAll(/\s+/g, " ").includes("up to eight Workers"));
  assertEquals(has("lib/runtime/workers.ts", /USUAL_THREADS = (\d+)/), "8");
  assertEquals(
    [says(/with those that hang up\s+to (\d+)/), says(/on Deno up to (\d+) of the\s+32/)],
    ["workers", "deno_threads"].map((file) =>
      has(`lib/runtime/${file}.ts`, /MOST_THREADS = (\d+)/)
    ),
  );
});

test("what the page of the races says of the kernel matrix is what that page has", [], () => {
  const words = ["", "", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
  const [, kernels, udevs, alone, opener, cycles] =
    /on (\S+) kernels with (\S+) generations of\s+udev:[^]*? up to (\d+) spurious[^]*?up to (\d+)[^]*?more than ([\d ]+) cycles/
      .exec(read("docs/races.md"))!;
  const page = read("docs/kernel-matrix.md");
  const rows = page.split("## Spurious events")[1].split("\n## ")[0].split("\n")
    .filter((line) => line.startsWith("| ")).map((line) => line.slice(2, -2).split(" | "));
  const [head, , ...cells] = rows;
  const column = (title: string) => cells.map((cell) => cell[head.indexOf(title)]);
  const worst = (title: string) =>
    Math.max(...column(title).filter((text) => text !== "–").map((text) => parseInt(text)));
  const count = (title: string) =>
    new Set(column(title).map((text) => text.replace(" ●", ""))).size;
  const spelt = (n: number) => words[n] ?? String(n);
  assertEquals([spelt(count("kernel")), spelt(count("udev"))], [kernels, udevs]);
  assertEquals([worst("losetup -P"), worst("losetup -P, opener")], [Number(alone), Number(opener)]);
  const total = column("loopdev").map((text) => Number(/^0 in (\d+)$/.exec(text)![1]));
  assert(total.reduce((sum, n) => sum + n) > Number(cycles.replaceAll(" ", "")));
});

for (const [generator, count] of [["vm", 3], ["bench", 2]] as const) {
  test(`pages and pictures are what ${generator}/docs.ts makes of the recorded data`, [], () => {
    const out = scratch("pages");
    mkdirSync(out);
    output(onThisRuntime(join(ROOT, `${generator}/docs.ts`), "--out", out), { cwd: "/" });
    const names = readdirSync(out);
    assertEquals(names.length, count);
    for (const name of names) {
      assertEquals(readFileSync(join(out, name), "utf8"), read(`docs/${name}`), name);
    }
  });
}

test("the ratios that pages name are those of the performance page", [], () => {
  const text = (page: string) => read(page).replaceAll(/\s+/g, " ");
  const page = text("docs/performance.md");
  const [, step] = /One step is ([\d to]+) times as fast as two/.exec(page)!;
  const [, userspace] = /"userspace"` is ([\d to]+) times as fast as two steps/.exec(page)!;
  for (const [name, ratio] of [["README.md", step], ["docs/races.md", step]]) {
    assert(text(name).includes(`one step, ${ratio} times as fast`), name);
  }
  for (const name of ["docs/races.md", "docs/affected-kernels.md"]) {
    assert(text(name).includes(`${userspace} times as fast`), name);
  }
});

test("docs/errors.md has every code that loopdev knows", [], () => {
  const declared = /export type ErrorCode =([^;]*);/.exec(read("lib/base/errors.ts"))![1];
  const codes = [...declared.matchAll(/"(E[A-Z0-9]+)"/g)].map(([, code]) => code);
  assert(codes.length > 35);
  const page = read("docs/errors.md");
  assertEquals(codes.filter((code) => !page.includes(`\`${code}\``)), []);
});

interface Exported {
  name: string;
  declarations: { jsDoc?: { doc?: string; tags?: { kind: string; doc?: string }[] } }[];
}

test("every exported symbol has an example, which runs as a test", ["deno"], () => {
  const { nodes } = JSON.parse(
    output(["deno", "doc", "--json", "mod.ts", "gpt.ts"], { cwd: ROOT }),
  );
  const symbols = Object.values<{ symbols: Exported[] }>(nodes).flatMap(({ symbols }) => symbols);
  assert(symbols.length > 25);
  for (const { name, declarations } of symbols) {
    for (const { jsDoc } of declarations) {
      const examples = jsDoc?.tags?.filter(({ kind }) => kind === "example") ?? [];
      assert(examples.length > 0, `${name} has no example`);
      for (const { doc } of examples) assert(/^```ts\n/.test(doc ?? ""), `${name}: it is not run`);
    }
  }
});
