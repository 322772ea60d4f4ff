/**
 * Writes down what kernels show of each image: kernel.json, of what two runs of `deno task vm --step
 * strangers --json FILE` gave, one with a kernel that has all of Debian's parsers (`--flavour generic`),
 * one with a cloud's.
 *
 *     bun tests/strangers/record.ts GENERIC CLOUD
 */
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { readOptions } from "../../dev/options.ts";
import type { GuestView } from "./ours.ts";

interface Cell {
  release: string;
  results: { step: string; images: Record<string, GuestView> }[];
}

function rowsOf(file: string): { release: string; rows: [name: string, partitions: string][] } {
  const [{ release, results }] = JSON.parse(readFileSync(file, "utf8")).cells as Cell[];
  const rows = results.filter(({ step }) => step === "strangers")
    .flatMap(({ images }) => Object.entries(images))
    .map(([name, { kernel }]): [string, string] => [name, JSON.stringify(kernel)]);
  return { release, rows };
}

const HELP = `Usage: tests/strangers/record.ts GENERIC CLOUD

Writes kernel.json: what kernels show of each image, of what two runs of
deno task vm --step strangers --json FILE gave, one with --flavour generic, one with a cloud's.

  -h, --help  this text`;
const { operands } = readOptions(HELP, {}, { least: 2, most: 2 });
const [generic, cloud] = operands.map(rowsOf);
const known = new Map(generic.rows);
const recorded = {
  kernel: generic.release,
  partitions: Object.fromEntries(generic.rows.map(([name, row]) => [name, JSON.parse(row)])),
  cloud: {
    kernel: cloud.release,
    partitions: Object.fromEntries(
      cloud.rows.filter(([name, row]) => known.get(name) !== row)
        .map(([name, row]) => [name, JSON.parse(row)]),
    ),
  },
};
const path = join(import.meta.dirname!, "kernel.json");
writeFileSync(path, JSON.stringify(recorded));
spawnSync("deno", ["fmt", "--quiet", path]);
