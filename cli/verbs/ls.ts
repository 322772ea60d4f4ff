/**
 * `loopdev ls`: what images hold, without root and without a loop device.
 *
 * @module
 */
import { fileStatus, isRefusal, readText } from "../../lib/losetup/list.ts";
import {
  type FileSystem,
  fileSystem,
  type MountedImage,
  mountImage,
  type PartitionTable,
  readPartitions,
  type TablePartition,
} from "../../mod.ts";
import { type Layout, listTable } from "../table.ts";
import { encodeControls, formatJson } from "../text.ts";
import { formatSize } from "./bytes.ts";
import type { Console } from "./console.ts";
import type { VerbLine } from "./line.ts";
import { findNodes } from "./nodes.ts";

/** What a part of an image holds, and its nodes. */
interface Content {
  readonly fileSystem: FileSystem | null;
  readonly nodes: readonly string[];
}

/** An image; bytes. Without a partition table it may have a file system itself. */
interface Listing extends Content, Omit<PartitionTable, "kind"> {
  readonly image: string;
  readonly size: number;
  readonly table: PartitionTable["kind"];
  readonly partitions: readonly (TablePartition & Content)[];
  /** os-release(5), as its system has it; null: it has none. undefined: not read, without root. */
  readonly osRelease: MountedImage["osRelease"] | null;
}

/** Lists the images. One that cannot be read does not keep the others from being listed. */
export async function ls(line: VerbLine, console: Console): Promise<void> {
  const { output } = console;
  const listings: Listing[] = [];
  for (const image of line.operands) {
    try {
      const listing = await list(image, console);
      listings.push(listing);
      const shown = { ...listing, image: console.shown(image) };
      if (!line.has("json")) output.write(format(shown, line.has("output-all"), output.terminal));
    } catch (error) {
      console.complain(error);
    }
  }
  if (line.has("json")) output.write([formatJson({ images: listings })]);
}

async function list(image: string, console: Console): Promise<Listing> {
  const { kind: table, partitions, ...rest } = await readPartitions(image, { sectorSize: "auto" });
  const size = sizeOf(image);
  const nodesOf = findNodes(image);
  const contentOf = async (start: number, size: number) => ({
    fileSystem: await holds(image, start, size, console),
    nodes: nodesOf({ start, size: size - size % 512 }),
  });
  const contents: Listing["partitions"][number][] = [];
  for (const partition of partitions) {
    contents.push({ ...partition, ...await contentOf(partition.start, partition.size) });
  }
  // A table's sectors can look like a file system's, too.
  const own = table === "none" ? await contentOf(0, size) : {
    ...{ fileSystem: null, nodes: nodesOf({ start: 0, size: size - size % 512 }) },
  };
  const osRelease = [own, ...contents].some((one) => one.fileSystem?.usage === "filesystem")
    ? await osReleaseOf(image)
    : null;
  return { image, size, table, ...rest, ...own, partitions: contents, osRelease };
}

/** As root alone can read it: in its files, of which nothing is changed. */
async function osReleaseOf(image: string): Promise<Listing["osRelease"]> {
  if (fileStatus("/proc/self").uid !== 0) return undefined;
  try {
    await using tree = await mountImage(image, { readOnly: true });
    return tree.osRelease ?? null;
  } catch (error) {
    if (!isRefusal(error)) throw error;
    return null;
  }
}

function sizeOf(image: string): number {
  const { type, size, rdev } = fileStatus(image);
  return type === "block device" ? Number(readText(`/sys/dev/block/${rdev}/size`)) * 512 : size;
}

/** null: nothing that is known. */
async function holds(
  image: string,
  offset: number,
  sizelimit: number,
  console: Console,
): Promise<FileSystem | null> {
  try {
    return await fileSystem(image, { offset, sizelimit }) ?? null;
  } catch (error) {
    if (!isRefusal(error)) throw error;
    console.complain(error);
    return null;
  }
}

interface Column extends Layout {
  /** Shown with --output-all alone. */
  readonly more?: boolean;
  value(partition: Row): string | number | undefined;
}

/** A partition, or a whole image without a table. */
type Row = Partial<TablePartition> & Pick<TablePartition, "start" | "size"> & Content;

const column = (name: string, value: Column["value"], more = false, right = false): Column => ({
  ...{ name, json: "string", width: 0, right, value, more },
});

const COLUMNS: readonly Column[] = [
  column("PART", ({ number }) => number, false, true),
  column("START", ({ start }) => start, true, true),
  column("SIZE", ({ size }) => formatSize(size), false, true),
  column("TYPE", ({ typeName, type }) => typeName ?? type),
  column("NAME", ({ name }) => name),
  column("FSTYPE", ({ fileSystem }) => fileSystem?.type),
  column("LABEL", ({ fileSystem }) => fileSystem?.label),
  column("UUID", ({ fileSystem }) => fileSystem?.uuid, true),
  column("PARTUUID", ({ uuid }) => uuid, true),
  column("NODE", ({ nodes }) => nodes.join(",")),
];

/** The name is whatever its maker wrote there: a terminal must not obey it. */
function systemOf(osRelease: Listing["osRelease"]): string {
  if (osRelease === undefined) return "as root it says which system that is";
  return encodeControls(osRelease?.PRETTY_NAME ?? "");
}

function* format(
  { image, size, table, sectorSize, fileSystem, nodes, partitions, header, osRelease }: Listing,
  all: boolean,
  terminal: number | undefined,
): Generator<string> {
  const kind = table === "none"
    ? fileSystem === null
      ? "no partition table, and no file system that is known"
      : "no partition table"
    : `${table}, sectors of ${sectorSize} bytes`;
  const damage = header === "backup"
    ? "; the primary GPT header is damaged, this is the backup"
    : "";
  const system = systemOf(osRelease);
  yield `${image}: ${formatSize(size)}, ${kind}${damage}${system === "" ? "" : `; ${system}`}\n`;
  const whole: Row = { start: 0, size, fileSystem, nodes };
  const rows: readonly Row[] = table === "none" ? fileSystem === null ? [] : [whole] : partitions;
  const columns = COLUMNS.filter(({ more, value }) =>
    (all || !more) && rows.some((row) => (value(row) ?? "") !== "")
  );
  const cells = rows.map((row) => columns.map(({ value }) => `${value(row) ?? ""}`));
  yield* listTable(columns, cells, { headings: true, terminal });
}
