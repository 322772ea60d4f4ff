/**
 * Damages superblocks by the ten thousand, and looks what file system is found then.
 *
 *     deno run -A torture/file_systems.ts --count 100000
 */
import { closeSync, ftruncateSync, openSync, writeFileSync, writeSync } from "node:fs";
import process from "node:process";
import { type FileSystem, findFileSystems, FORMATS } from "../lib/superblocks/file_systems.ts";
import { run, scratch } from "../tests/support/support.ts";
import { cleanUp, cleanUpWhenInterrupted } from "./cleanup.ts";
import { type Row, tally } from "./common.ts";
import { progress } from "../dev/terminal.ts";
import { Random } from "../tests/cases/random.ts";
import { SparseDisk } from "../tests/cases/sparse_disk.ts";
import {
  copyOf,
  damage,
  makeTemplates,
  summedIn,
  type Template,
} from "../tests/support/superblock_cases.ts";
import { parseTableOptions } from "./table_options.ts";

const HELP = `Usage: torture/file_systems.ts [options]

Damages the superblocks that file systems' own tools make, and checks what is found.
Exits with 1 if a damaged checksum passes, random bytes are a file system, anything throws, reads
beyond the disk or without end, or is found where blkid finds nothing.

      --count N    how many damaged disks (100000)
      --seed N     gives the same ones again (random)
      --json FILE  writes the verdicts
  -h, --help       this text`;
/** For one disk: two root directories, and UDF's sequences in blocks of four sizes. */
const MOST_READS = 1000;
const MOST_BYTES = 4 * 1024 * 1024;
/** Digests that take a hundred times as long as a CRC are tried with so much fewer bits. */
const SLOW = /xxhash|sha256|blake2/;
/** Files that blkid gets at once. */
const BATCH = 100;

const rows: Row[] = [];
const violations: string[] = [];

/** What is found on a disk; whatever must never happen is a violation. */
function find(disk: SparseDisk, what: string): readonly FileSystem[] {
  let reads = 0;
  let bytes = 0;
  const read = (offset: number, length: number) => {
    reads++;
    bytes += length;
    if (!(Number.isSafeInteger(offset) && offset >= 0 && offset + length <= disk.size)) {
      throw new RangeError(`a read of ${length} bytes at ${offset} of ${disk.size}`);
    }
    return disk.read(offset, length);
  };
  try {
    const found = findFileSystems({ size: disk.size, read });
    if (reads > MOST_READS || bytes > MOST_BYTES) {
      violations.push(`${what}: ${reads} reads of ${bytes} bytes`);
    }
    for (const { label = "x", uuid = "x" } of found) {
      if (!/[^\0]/.test(label) || label.length > 512 || !/^[-\w]{1,36}$/.test(uuid)) {
        violations.push(`${what}: label ${JSON.stringify(label)}, uuid ${uuid}`);
      }
    }
    return found;
  } catch (error) {
    violations.push(`${what}: threw ${error}`);
    return [];
  }
}

/** Ends a kind of cases: its verdict is what was added to the violations. */
function conclude(name: string, before: number, detail: string): void {
  const bad = violations.slice(before);
  for (const each of bad.slice(0, 10)) console.error(`VIOLATION: ${each}`);
  const outcome = bad.length === 0 ? "pass" : "fail";
  rows.push({ part: "file_systems", name, outcome, detail: bad[0] ?? detail });
}

/** Each bit that a checksum covers, one after another; of more than `most`, as many at random. */
function flipBits(templates: readonly Template[], most: number, random: Random): void {
  const before = violations.length;
  let flips = 0;
  const types = new Set<string>();
  for (const template of templates) {
    const summed = summedIn(template);
    if (summed === undefined) continue;
    types.add(template.type);
    const { disk, type, name } = template;
    const bits = summed.parts.flatMap(([offset, length]) =>
      Array.from({ length: 8 * length }, (_, i) => [offset + (i >> 3), i & 7] as const)
    ).filter(([at]) => !summed.notSummed?.includes(at));
    const length = Math.ceil(SLOW.test(name) ? most / 100 : most);
    const tried = length < bits.length ? Array.from({ length }, () => random.pick(bits)) : bits;
    for (const [at, bit] of tried) {
      const byte = disk.read(at, 1);
      disk.write(at, byte.map((value) => value ^ 1 << bit));
      const found = find(disk, `${name}, bit ${bit} of byte ${at}`);
      disk.write(at, byte);
      const isFlag = summed.flag?.[0] === at && summed.flag[1] === bit;
      if (found.some((each) => each.type === type) !== isFlag) {
        violations.push(`${name}: bit ${bit} of byte ${at} gives ${JSON.stringify(found)}`);
      }
      flips++;
    }
    progress(`${name}: ${flips} bits`);
  }
  conclude("one bit of a checksummed superblock", before, `${flips} bits of ${[...types]}`);
}

/** Bytes of chance, and behind each magic string. */
function randomBytes(count: number, seed: number): void {
  const before = violations.length;
  const weak: string[] = [];
  for (let number = 0; number < count; number++) {
    const random = new Random(seed, number);
    const disk = new SparseDisk(random.pick([70, 100, 256]) * 1024, 512);
    const sparse = random.oneIn(2);
    const format = random.oneIn(4) ? undefined : random.pick(FORMATS);
    for (const at of [0, 1024, 32_768, 65_536]) {
      const length = 4096 - at % 4096;
      disk.write(at, sparse ? new Uint8Array(length) : random.bytes(length));
    }
    if (format?.magic.length) {
      const [offset, value] = random.pick(format.magic);
      disk.write(format.start, random.bytes(format.length));
      disk.write(format.start + offset, Uint8Array.from(value, (c) => c.charCodeAt(0)));
    }
    const found = find(disk, `random ${number}`);
    // All that EROFS has without its checksum are the magic number and the size of a block.
    if (found.every(({ type }) => type === "erofs" && format?.type === "erofs")) {
      weak.push(...found.map(({ type }) => type));
    } else violations.push(`random bytes ${seed}/${number}: ${JSON.stringify(found)}`);
  }
  conclude("random bytes", before, `${count} disks; behind the right magic: ${tally(weak) || "0"}`);
}

/** Every template, cut off anywhere. */
function cutOff(templates: readonly Template[], seed: number): void {
  const before = violations.length;
  let cuts = 0;
  for (const [index, template] of templates.entries()) {
    const random = new Random(seed, index);
    const copy = copyOf(template);
    for (let n = 0; n < 200; n++) {
      copy.size = random.below(random.pick([2048, 70_000, template.disk.size + 1]));
      const found = find(copy, `${template.name}, ${copy.size} bytes long`);
      if (found.some(({ type }) => type !== template.type && type !== "iso9660")) {
        violations.push(`${template.name}, ${copy.size} bytes: ${JSON.stringify(found)}`);
      }
      cuts++;
    }
  }
  conclude("disks that are cut off", before, `${cuts} disks`);
}

/** A disk with damaged fields, now and then with another file system's beginning over it. */
function damagedDisk(templates: readonly Template[], seed: number, number: number) {
  const random = new Random(seed, number);
  const template = templates[number % templates.length];
  const disk = copyOf(template);
  const isMixed = random.oneIn(8);
  if (isMixed) {
    const other = random.pick(templates);
    // blkid looks for Btrfs on disks of 1 MiB and more alone.
    disk.size = Math.max(disk.size, other.disk.size);
    for (const [at, length] of other.read) {
      if (random.oneIn(2)) disk.write(at, other.disk.read(at, length));
    }
  }
  for (let n = random.between(1, 5); n > 0; n--) damage(random, template, disk);
  return { disk, isMixed };
}

interface Damaged {
  readonly disk: SparseDisk;
  /** It has a part of another file system. */
  readonly isMixed: boolean;
  readonly found: readonly FileSystem[];
  readonly what: string;
}

/** Where blkid says something else since it does not look as the kernel's driver does. */
function isStricter(
  { found: [{ type, uuid }], isMixed }: Damaged,
  their: { type: string; uuid?: string } | undefined,
): boolean {
  // Of a disc's date, which has no digits any more, it prints what is there; of a bridge disc it
  // takes the UDF that is damaged.
  if (type === "iso9660") {
    return their?.type === "udf" || their?.type === "iso9660" && uuid === undefined;
  }
  // A flag that once said that the driver was under development.
  if (type === "ext4") return their?.type === "ext4dev";
  // It takes the first anchor, wherever that leads, and an integrity descriptor with a wrong CRC.
  if (type !== "udf") return false;
  return their === undefined || their.type === "udf" && (their.uuid === undefined || isMixed);
}

function damageFields(templates: readonly Template[], count: number, seed: number): void {
  const before = violations.length;
  const kept: string[] = [];
  const compared = { equal: 0, stricter: [] as string[], ambivalent: 0 };
  let batch: Damaged[] = [];
  const compareBatch = () => {
    const theirs = askBlkid(batch.map(({ disk }) => disk));
    batch.forEach((damaged, i) => {
      const { found, what } = damaged;
      const their = theirs[i];
      const ours = found.map(({ type }) => type).join("+");
      if (their?.type === ours || (!their && ours === "")) {
        const same = !their || their.uuid === found[0].uuid;
        if (same) compared.equal++;
        else if (isStricter(damaged, their)) compared.stricter.push(ours);
        else violations.push(`${what}: uuid ${found[0].uuid}, blkid says ${their.uuid}`);
      } else if (found.length > 1 || their?.type === "ambivalent") compared.ambivalent++;
      else if (ours === "") compared.stricter.push(their!.type);
      else if (isStricter(damaged, their)) compared.stricter.push(ours);
      else violations.push(`${what}: ${ours}, blkid says ${their?.type ?? "nothing"}`);
    });
    batch = [];
  };
  for (let number = 0; number < count; number++) {
    const { disk, isMixed } = damagedDisk(templates, seed, number);
    const what = `${templates[number % templates.length].name}, damaged (${seed}/${number})`;
    const found = find(disk, what);
    kept.push(found.map(({ type }) => type).join("+") || "none");
    // To write a file and ask takes a thousand times as long as to look.
    if (number % 10 === 0) batch.push({ disk, isMixed, found, what });
    if (batch.length === BATCH) {
      compareBatch();
      progress(`damaged fields: ${number} of ${count}`);
    }
  }
  compareBatch();
  const { equal, stricter, ambivalent } = compared;
  conclude(
    "damaged fields",
    before,
    `${count} disks: ${tally(kept)}; beside blkid: ${equal} equal, stricter (as the driver is): ` +
      `${tally(stricter) || "0"}, several: ${ambivalent}`,
  );
}

/** What blkid says of each disk; undefined if it knows nothing. */
function askBlkid(disks: readonly SparseDisk[]): ({ type: string; uuid?: string } | undefined)[] {
  if (disks.length === 0) return [];
  const paths = disks.map((disk, i) => {
    const path = scratch(`disk-${i}.img`);
    const fd = openSync(path, "w");
    ftruncateSync(fd, disk.size);
    for (const { offset, bytes } of disk.written()) writeSync(fd, bytes, 0, bytes.length, offset);
    closeSync(fd);
    return path;
  });
  // With several files at once it stops at the first of which it knows nothing.
  const each = 'for file; do blkid -p -o export "$file"; done';
  const { stdout, stderr } = run(["sh", "-c", each, "sh", ...paths]);
  const said = stdout.split(/^(?=DEVNAME=)/m);
  return paths.map((path) => {
    const block = said.find((text) => text.startsWith(`DEVNAME=${path}\n`));
    const value = (name: string) => new RegExp(`^${name}=(.*)$`, "m").exec(block ?? "")?.[1];
    const type = value("TYPE");
    if (type !== undefined) return { type, uuid: value("UUID") };
    return stderr.includes(`${path}: ambivalent`) ? { type: "ambivalent" } : undefined;
  });
}

const { count, seed, json } = parseTableOptions(HELP);
cleanUpWhenInterrupted();
try {
  console.error(`seed ${seed}`);
  const templates = makeTemplates();
  if (templates.length === 0) throw new Error("no tool here makes a file system");
  flipBits(templates, count, new Random(seed));
  randomBytes(count, seed);
  cutOff(templates, seed);
  damageFields(templates, count, seed);
} finally {
  cleanUp();
}
progress("");
for (const { name, outcome, detail } of rows) console.log(`${outcome}  ${name}: ${detail}`);
console.log(`seed ${seed}: ${violations.length} violations`);
if (json !== undefined) writeFileSync(json, JSON.stringify({ rows }) + "\n");
process.exitCode = violations.length > 0 ? 1 : 0;
