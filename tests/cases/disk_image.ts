/**
 * Writes partition tables, so that the tests need no sfdisk. A table is said in sfdisk's own language,
 * as much of it as the tests use, and comes out as sfdisk's does: that is a test of its own.
 */
import { closeSync, openSync, statSync, writeSync } from "node:fs";
import { encodeTable, type NewPartition } from "./gpt.ts";
import { type MbrEntry, putEntries } from "./mbr.ts";

const MIB = 1024 * 1024;
const LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4";
const EXTENDED = [0x05, 0x0f, 0x85];

/** A line of the script: `3: start=2048, size=1MiB, type=83, name="a b", bootable`. */
interface Line {
  number?: number;
  /** Sectors. */
  start?: number;
  size?: number;
  type?: string;
  name?: string;
  bootable: boolean;
}

function parseLine(line: string, sectorSize: number): Line {
  const [, number, rest] = /^(?:(\d+): *)?(.*)$/.exec(line)!;
  const fields: Record<string, string> = {};
  for (const [, key, quoted, plain] of rest.matchAll(/(\w+)(?:=(?:"([^"]*)"|([^,\s]+)))?/g)) {
    fields[key] = quoted ?? plain ?? "";
  }
  const { start, size, type, name, bootable, ...unknown } = fields;
  if (Object.keys(unknown).length > 0) throw new Error(`what is ${JSON.stringify(unknown)}?`);
  return {
    number: number === undefined ? undefined : Number(number),
    start: sectors(start, sectorSize),
    size: sectors(size, sectorSize),
    type,
    name,
    bootable: bootable !== undefined,
  };
}

function sectors(text: string | undefined, sectorSize: number): number | undefined {
  if (text === undefined) return undefined;
  const [, number, unit] = /^(\d+)(MiB)?$/.exec(text)!;
  return unit ? Number(number) * MIB / sectorSize : Number(number);
}

/** Writes the table over the disk image at `path`, for sectors of that size. */
export function writeTable(path: string, script: string, sectorSize = 512): void {
  const lines = script.trim().split("\n");
  const header = (name: string) => {
    const index = lines.findIndex((line) => line.startsWith(`${name}: `));
    return index < 0 ? undefined : lines.splice(index, 1)[0].slice(name.length + 2);
  };
  const [label, id] = [header("label"), header("label-id")];
  const parsed = lines.map((line) => parseLine(line, sectorSize));
  if (label === "gpt") writeGptTable(path, parsed, sectorSize);
  else if (label === "dos") new Dos(path, sectorSize).write(parsed, Number(id ?? "0x12345678"));
  else throw new Error(`no label in ${script}`);
}

function writeGptTable(path: string, lines: Line[], sectorSize: number): void {
  const grain = MIB / sectorSize;
  const { size: bytes } = statSync(path);
  // The backup takes less than a MiB at the end, and partitions end at whole MiB.
  const end = Math.floor(bytes / sectorSize / grain - 1) * grain;
  let next = grain;
  const partitions = lines.map((line, i): NewPartition => {
    const start = line.start ?? next;
    const size = line.size ?? end - start;
    next = start + size;
    return {
      number: line.number ?? i + 1,
      start: start * sectorSize,
      size: size * sectorSize,
      type: line.type?.toLowerCase() ?? LINUX,
      name: line.name ?? "",
    };
  });
  writeGpt(path, bytes, partitions, sectorSize);
}

/** Writes the table over an image that has `size` bytes. */
export function writeGpt(
  path: string,
  size: number,
  partitions: readonly NewPartition[],
  sectorSize = 512,
): void {
  const fd = openSync(path, "r+");
  for (const { offset, bytes } of encodeTable(size, partitions, sectorSize)) {
    writeSync(fd, bytes, 0, bytes.length, offset);
  }
  closeSync(fd);
}

/** A master boot record with logical partitions, laid out at whole MiB. */
class Dos {
  readonly #path: string;
  readonly #sectorSize: number;
  readonly #grain: number;
  readonly #sectors: number;

  constructor(path: string, sectorSize: number) {
    this.#path = path;
    this.#sectorSize = sectorSize;
    this.#grain = MIB / sectorSize;
    this.#sectors = statSync(path).size / sectorSize;
  }

  write(lines: Line[], id: number): void {
    const primary: MbrEntry[] = [];
    const logical: MbrEntry[] = [];
    let next = this.#grain;
    let extended: MbrEntry | undefined;
    let nextRecord = 0;
    for (const line of lines) {
      const isLogical = extended && (primary.length === 4 || next >= this.#sectors);
      const start = line.start ?? (isLogical ? nextRecord + this.#grain : next);
      const end = isLogical ? extended!.start + extended!.count : this.#sectors;
      const entry = {
        boot: line.bootable ? 0x80 : 0,
        type: parseInt(line.type ?? "83", 16),
        start,
        count: line.size ?? end - start,
      };
      if (isLogical) {
        logical.push(entry);
        nextRecord = start + entry.count;
      } else {
        primary.push(entry);
        next = start + entry.count;
        if (EXTENDED.includes(entry.type)) [extended, nextRecord] = [entry, start];
      }
    }
    this.#record(0, primary, id);
    if (!extended) return;
    const base = extended.start;
    const records = logical.map((_, i) =>
      i === 0 ? base : logical[i - 1].start + logical[i - 1].count
    );
    logical.forEach((entry, i) => {
      // Starts in a chain are relative: a partition's to its record, a link's to the first one.
      const own = { ...entry, start: entry.start - records[i] };
      const after = logical[i + 1];
      const link = after && {
        boot: 0,
        type: 0x05,
        start: records[i + 1] - base,
        count: after.start + after.count - records[i + 1],
      };
      this.#record(records[i], link ? [own, link] : [own]);
    });
  }

  #record(lba: number, entries: MbrEntry[], id = 0): void {
    const record = new Uint8Array(512);
    putEntries(record, entries, { id });
    const fd = openSync(this.#path, "r+");
    writeSync(fd, record, 0, 512, lba * this.#sectorSize);
    closeSync(fd);
  }
}
