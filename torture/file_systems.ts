/**
 * Damages superblocks by the ten thousand, and looks what file system is found then.
 *
 *     deno run -A torture/file_systems.ts --count 100000
 */
import {
  closeSync,
  ftruncateSync,
  openSync,
  readFileSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import process from "node:process";
import { type FileSystem, findFileSystems, ROWS } from "../lib/superblocks/file_systems.ts";
import { runSteps } from "../lib/table/steps.ts";
import { missing, run, scratch } from "../tests/support/support.ts";
import { cleanUp, cleanUpWhenInterrupted } from "./cleanup.ts";
import { type Row, tally } from "./common.ts";
import { progress } from "../dev/terminal.ts";
import { Random } from "../tests/cases/random.ts";
import { SparseDisk } from "../tests/cases/sparse_disk.ts";
import { copyOf, damage, makeTemplates, type Template } from "../tests/support/superblock_cases.ts";
import { parseTableOptions } from "./table_options.ts";

const HELP = `Usage: torture/file_systems.ts [options]

Damages the superblocks that file systems' own tools make, and checks what is found.
Exits with 1 if random bytes are a file system, anything throws, reads beyond the disk or without end,
or has another type than blkid gives a disk that this kernel mounts as that.

      --count N    how many damaged disks (100000)
      --seed N     gives the same ones again (random)
      --json FILE  writes the verdicts
  -h, --help       this text`;
/**
 * For one disk: both ends, UDF's anchors and their sequence, and a root directory of each kind, whose 64 KiB can
 * be clusters of 512 bytes, each with the number of the next one.
 */
const MOST_READS = 10 + 2 * 2 * 128;
const MOST_BYTES = 600 * 1024;
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
    const found = runSteps(findFileSystems(disk.size), read);
    if (reads > MOST_READS || bytes > MOST_BYTES) {
      violations.push(`${what}: ${reads} reads of ${bytes} bytes`);
    }
    for (const { label = "x", uuid = "x" } of found) {
      if (!/[^\0]/.test(label) || label.length > 512 || !/^[-\w]{1,40}$/.test(uuid)) {
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

/** Bytes of chance, and behind each magic string. */
function randomBytes(count: number, seed: number): void {
  const before = violations.length;
  const behindMagic: string[] = [];
  for (let number = 0; number < count; number++) {
    const random = new Random(seed, number);
    const disk = new SparseDisk(random.pick([70, 100, 256]) * 1024, 512);
    const sparse = random.oneIn(2);
    const row = random.oneIn(4) ? undefined : random.pick(ROWS);
    for (const at of [0, 1024, 32_768, 65_536]) {
      const length = 4096 - at % 4096;
      disk.write(at, sparse ? new Uint8Array(length) : random.bytes(length));
    }
    if (row !== undefined) {
      const start = typeof row.start === "number" ? row.start : row.start(disk.size);
      const [offset, value] = random.pick(row.magic);
      disk.write(start, random.bytes(row.length ?? 512));
      disk.write(start + offset, Uint8Array.from(value, (c) => c.charCodeAt(0)));
    }
    const found = find(disk, `random ${number}`);
    // What the magic number alone tells is for the driver to judge. UDF's can be that of ISO 9660.
    if (
      found.every(({ type }) => type === row?.type || row?.type === "udf" && type === "iso9660")
    ) {
      behindMagic.push(...found.map(({ type }) => type));
    } else violations.push(`random bytes ${seed}/${number}: ${JSON.stringify(found)}`);
  }
  conclude("random bytes", before, `${count} disks; behind the right magic: ${tally(behindMagic)}`);
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
function damagedDisk(templates: readonly Template[], seed: number, number: number): SparseDisk {
  const random = new Random(seed, number);
  const template = templates[number % templates.length];
  const disk = copyOf(template);
  if (random.oneIn(8)) {
    const other = random.pick(templates);
    // blkid looks for Btrfs on disks of 1 MiB and more alone.
    disk.size = Math.max(disk.size, other.disk.size);
    for (const [at, length] of other.read) {
      if (random.oneIn(2)) disk.write(at, other.disk.read(at, length));
    }
  }
  for (let n = random.between(1, 5); n > 0; n--) damage(random, template, disk);
  return disk;
}

interface Damaged {
  readonly disk: SparseDisk;
  readonly found: readonly FileSystem[];
  readonly what: string;
}

/** Types that this kernel mounts now. */
const mountable = new Set(
  readFileSync("/proc/filesystems", "utf8").split("\n").flatMap((line) =>
    line.match(/^\t(.+)/)?.[1] ?? []
  ),
);

/** Whether this kernel mounts the disk as that, in a namespace that ends with the mount. */
function isMountedAs(type: string, path: string): boolean {
  if (!mountable.has(type) || missing("root") !== undefined) return false;
  const mount = ["mount", "-t", type, "-o", "ro,loop", path, "/mnt"];
  return run(["unshare", "-m", ...mount]).status === 0;
}

/** Where blkid gives what is no UUID, or none if a byte behind it is set, or follows another anchor of UDF. */
const LOOSE = new Set(["iso9660", "udf", "crypto_LUKS", "swap"]);

function damageFields(templates: readonly Template[], count: number, seed: number): void {
  const before = violations.length;
  const kept: string[] = [];
  const beside = { equal: 0, several: 0, ours: [] as string[], theirs: [] as string[] };
  let batch: Damaged[] = [];
  const compareBatch = () => {
    const theirs = askBlkid(batch.map(({ disk }) => disk));
    for (const [i, { found, what }] of batch.entries()) {
      const { type: their, uuid, path } = theirs[i];
      const ours = found.map(({ type }) => type).join("+");
      if (found.length > 1 || their === "ambivalent") beside.several++;
      else if (their === ours) {
        beside.equal++;
        if (found.length > 0 && uuid !== found[0].uuid && !LOOSE.has(their)) {
          violations.push(`${what}: uuid ${found[0].uuid}, blkid says ${uuid}`);
        }
      } else {
        if (ours !== "") beside.ours.push(ours);
        if (their !== "") beside.theirs.push(their);
        if (isMountedAs(their, path)) {
          violations.push(
            `${what}: ${ours || "nothing"}, but it is mounted as ${their}, as blkid says`,
          );
        }
      }
    }
    batch = [];
  };
  for (let number = 0; number < count; number++) {
    const disk = damagedDisk(templates, seed, number);
    const what = `${templates[number % templates.length].name}, damaged (${seed}/${number})`;
    const found = find(disk, what);
    kept.push(found.map(({ type }) => type).join("+") || "none");
    // To write a file and ask takes a thousand times as long as to look.
    if (number % 10 === 0) batch.push({ disk, found, what });
    if (batch.length === BATCH) {
      compareBatch();
      progress(`damaged fields: ${number} of ${count}`);
    }
  }
  compareBatch();
  const { equal, several, ours, theirs } = beside;
  conclude(
    "damaged fields",
    before,
    `${count} disks: ${
      tally(kept)
    }; beside blkid: ${equal} equal, several: ${several}, another here: ` +
      `${tally(ours) || "0"}, another there: ${tally(theirs) || "0"}`,
  );
}

/** What blkid says of a disk: "" if it knows nothing. */
interface Opinion {
  readonly path: string;
  readonly type: string;
  readonly uuid?: string;
}

function askBlkid(disks: readonly SparseDisk[]): Opinion[] {
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
    if (type !== undefined) return { path, type, uuid: value("UUID") };
    return { path, type: stderr.includes(`${path}: ambivalent`) ? "ambivalent" : "" };
  });
}

const { count, seed, json } = parseTableOptions(HELP);
cleanUpWhenInterrupted();
try {
  console.error(`seed ${seed}`);
  const templates = makeTemplates();
  if (templates.length === 0) throw new Error("no tool here makes a file system");
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
