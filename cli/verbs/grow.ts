/**
 * `loopdev grow`: a larger image, with its table, partition and file system.
 *
 * @module
 */
import { growImage, type GrownFileSystem, type GrownSize, type Growth } from "../../mod.ts";
import { UsageError } from "../getopt.ts";
import { parseSize } from "../size.ts";
import { formatJson } from "../text.ts";
import { formatSize } from "./bytes.ts";
import type { Console } from "./console.ts";
import type { VerbLine } from "./line.ts";
import { optionalPartition } from "./partition.ts";

/** Grows it, or says what would become of it. */
export async function grow(line: VerbLine, console: Console): Promise<void> {
  const [image, word] = line.operands;
  const size = line.value("size");
  const dryRun = line.has("dry-run");
  console.subject = image;
  const signal = console.abortOn();
  const growth = await growImage(image, {
    partition: optionalPartition(word),
    size: size === undefined ? undefined : parseLength(size),
    dryRun,
    signal,
    onProgress: ({ step, done, total }) =>
      console.status(
        step === "fileSystem" ? `file system: ${Math.floor(100 * done / total)} %` : "",
      ),
  });
  console.status("");
  console.output.write(
    line.has("json") ? [formatJson(growth)] : describe(console.shown(image), growth, dryRun),
  );
}

/** 1.5G: what losetup makes of a fraction is another number, 2G of 1.10G. */
const FRACTION = /^(\d+)\.(\d+)([KMGTPE])(i?B)?$/i;
/** To whole sectors: nobody means a part of one. */
const SECTOR = 512n;

/** More than a number holds is more than a file can have. */
function parseLength(text: string): number {
  const fail = (reason: string) => new UsageError(`failed to parse size: '${text}': ${reason}`);
  if (/^\s*\+/.test(text)) throw fail("it is the size of the whole image, not what is added to it");
  const bytes = exactSize(text) ?? parseSize(text, "size");
  if (bytes <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(bytes);
  throw fail("Numerical result out of range");
}

/** A size with a fraction, rounded up; undefined: it has none. */
function exactSize(text: string): bigint | undefined {
  const [, whole, fraction, suffix, unit] = FRACTION.exec(text) ?? [];
  if (suffix === undefined) return undefined;
  const base = /^b$/i.test(unit ?? "") ? 1000n : 1024n;
  const scaled = BigInt(whole + fraction) *
    base ** BigInt("KMGTPE".indexOf(suffix.toUpperCase()) + 1);
  const one = 10n ** BigInt(fraction.length) * SECTOR;
  return (scaled + one - 1n) / one * SECTOR;
}

function* describe(image: string, growth: Growth, dryRun: boolean): Generator<string> {
  const { file, table, partition, fileSystem } = growth;
  yield `${image}: ${change(file)}\n`;
  const written = dryRun ? "to be written" : "written";
  if (table) yield `${table.kind}: ${table.writes.length === 0 ? "as before" : written}\n`;
  if (partition) yield `partition ${partition.number}: ${change(partition)}\n`;
  if (fileSystem) yield `${fileSystem.type}: ${changeOf(fileSystem)}\n`;
}

const change = ({ from, to }: GrownSize) =>
  from === to ? `${formatSize(to)} as before` : `${formatSize(from)} to ${formatSize(to)}`;

function changeOf({ from, to, reason }: GrownFileSystem): string {
  const sizes = from === undefined || to === undefined ? "" : change({ from, to });
  return [sizes, reason].filter(Boolean).join("; ");
}
