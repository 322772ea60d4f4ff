/**
 * Draws what a terminal showed, as docs/images.json has it: commands, and what they printed.
 *
 *     deno run -A dev/terminal_picture.ts --out docs/images.svg
 */
import { readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import { readOptions } from "./options.ts";
import { svg, svgText } from "./svg.ts";

const HELP = `Usage: dev/terminal_picture.ts [options]

Writes a picture of the terminal session that docs/images.json has.

      --out FILE     instead of stdout
      --record FILE  first writes docs/images.json anew, from what \`deno task vm --step layouts\`
                     wrote with --json
  -h, --help         this text`;

/** A command, and what it printed. */
interface Shown {
  readonly command: string;
  readonly printed: readonly string[];
}

const LINE = 18;
const MARGIN = 14;
/** So many fit. */
const COLUMNS = 100;

const { values: { out, record } } = readOptions(HELP, {
  out: { type: "string" },
  record: { type: "string" },
});
const data = new URL("../docs/images.json", import.meta.url);

/** What a run of the step "layouts" in vm/ wrote with --json. */
function recorded(file: string): Shown[] {
  const { cells } = JSON.parse(readFileSync(file, "utf8"));
  return cells.flatMap(({ results }: { results: { shown?: Shown }[] }) =>
    results.flatMap(({ shown }) => shown ?? [])
  );
}

if (record !== undefined) {
  writeFileSync(data, JSON.stringify(recorded(record), undefined, 2) + "\n");
}
const session: Shown[] = JSON.parse(readFileSync(data, "utf8"));

/** As a terminal breaks it. */
function wrap(text: string): string[] {
  const rest = text.length > COLUMNS ? wrap(text.slice(COLUMNS)) : [];
  return [text.slice(0, COLUMNS), ...rest];
}

const lines = session.flatMap(({ command, printed }) => [
  { text: `$ ${command}`, attributes: 'fill="#8fd18f"' },
  ...printed.flatMap(wrap).map((text) => ({ text, attributes: "" })),
]);
const height = lines.length * LINE + 2 * MARGIN;
const drawn = svg(height, session.map(({ command }) => command).join("; "), [
  `<rect width="720" height="${height}" rx="6" fill="#1e2430"/>`,
  '<g xml:space="preserve" font-family="monospace" font-size="11.5" fill="#e4e8ef">',
  ...lines.map(({ text, attributes }, i) =>
    svgText(MARGIN, MARGIN + 13 + i * LINE, text, attributes)
  ),
  "</g>",
]);
if (out === undefined) process.stdout.write(drawn);
else writeFileSync(out, drawn);
