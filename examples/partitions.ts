/**
 * Lists the partitions of a disk image, without root and without attaching it.
 *
 *     bun examples/partitions.ts disk.img
 *     deno run --allow-ffi examples/partitions.ts disk.img
 */
import {
  type PartitionTable,
  readPartitions,
  type ReadPartitionsOptions,
  type SectorSize,
} from "../mod.ts";
import { printable } from "./printable.ts";
import { parseNumber, parseOptions, print, runMain } from "./program.ts";

const HELP = `Usage: partitions.ts IMAGE [options]

Lists the partitions of IMAGE, a file or a block device. Needs no root. START is what others take:
  mdir -i IMAGE@@START            (mtools)
  mkfs.ext4 -E offset=START IMAGE
  dd if=IMAGE iflag=skip_bytes,count_bytes skip=START count=SIZE of=PARTITION

  -o, --offset BYTES          where the disk begins in the image
      --sizelimit BYTES       the most bytes it may have
  -b, --sector-size BYTES     512, 1024, 2048 or 4096 (what the GPT is made for)
  -h, --help                  this text`;

function parse(args: string[]) {
  const { values, operands } = parseOptions(args, {
    "offset": { type: "string", short: "o" },
    "sizelimit": { type: "string" },
    "sector-size": { type: "string", short: "b" },
    "help": { type: "boolean", short: "h" },
  });
  const number = (name: "offset" | "sizelimit" | "sector-size") => parseNumber(name, values[name]);
  const options: ReadPartitionsOptions = {
    offset: number("offset"),
    sizelimit: number("sizelimit"),
    sectorSize: number("sector-size") as SectorSize,
  };
  return { files: operands, options, help: values.help };
}

/** Whatever stands on a disk may be a stranger's, and a terminal would obey it. */
function format({ kind, sectorSize, header, uuid, partitions }: PartitionTable): string {
  const about = [kind, header && `${header} header`, `${sectorSize}-byte sectors`, uuid];
  const rows = partitions.map(({ number, start, size, type, typeName, name = "" }) => [
    String(number),
    String(start),
    String(size),
    typeName ?? printable(type ?? ""),
    printable(name),
  ]);
  const all = [["NUMBER", "START", "SIZE", "TYPE", "NAME"], ...rows];
  const widths = all[0].map((_, column) => Math.max(...all.map((row) => row[column].length)));
  const line = (row: string[]) =>
    row.map((cell, i) => i < 3 ? cell.padStart(widths[i]) : cell.padEnd(widths[i])).join("  ")
      .trimEnd();
  return [about.filter(Boolean).join(", "), ...all.map(line)].join("\n");
}

async function main(args: string[]): Promise<number> {
  const { files: [image, ...others], options, help } = parse(args);
  if (help) {
    print(HELP);
    return 0;
  }
  if (image === undefined) throw new Error("no image given; try --help");
  if (others.length > 0) throw new Error(`more than one image: '${others[0]}'`);
  print(format(await readPartitions(image, options)));
  return 0;
}

await runMain("partitions", main);
