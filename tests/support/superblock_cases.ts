/**
 * Superblocks as disks lose them: those that file systems' own tools make, with bits and fields
 * changed, cut off, and put over one another.
 *
 * @module
 */
import { closeSync, openSync, readSync, statSync } from "node:fs";
import { findFileSystems } from "../../lib/superblocks/file_systems.ts";
import { runSteps } from "../../lib/table/steps.ts";
import { CASES, make } from "./file_system_cases.ts";
import { missing } from "./support.ts";
import type { Random } from "../cases/random.ts";
import { SparseDisk } from "../cases/sparse_disk.ts";

/** A disk with a file system, as far as it is looked at; the rest is zero. */
export interface Template {
  readonly type: string;
  /** The command that made it, without paths. */
  readonly name: string;
  readonly disk: SparseDisk;
  /** Where it was read, in bytes: what is worth damaging. */
  readonly read: readonly (readonly [offset: number, length: number])[];
}

/** All that the machine's tools can make; the ones that it lacks are left out. */
export function makeTemplates(): Template[] {
  return CASES.filter(({ tool }) => missing(tool) === undefined).map((each) => {
    const { image, line } = make(each);
    return { name: line.replaceAll(/\/\S+\//g, ""), type: each.type, ...templateOf(image) };
  });
}

function templateOf(path: string): Pick<Template, "disk" | "read"> {
  const fd = openSync(path, "r");
  const { size } = statSync(path);
  const disk = new SparseDisk(size, 512);
  const read: [number, number][] = [];
  runSteps(findFileSystems(size), (offset, length) => {
    const bytes = new Uint8Array(length);
    readSync(fd, bytes, 0, length, offset);
    disk.write(offset, bytes);
    read.push([offset, length]);
    return bytes;
  });
  closeSync(fd);
  return { disk, read };
}

/** A disk of its own with the same bytes. */
export function copyOf({ disk, read }: Template): SparseDisk {
  const copy = new SparseDisk(disk.size, 512);
  for (const [offset, length] of read) copy.write(offset, disk.read(offset, length));
  return copy;
}

/** Numbers at which arithmetic goes wrong. */
function hostile(random: Random, bytes: Uint8Array): void {
  const value = random.pick([0, 0xff, 0x7f, 0x80, 1, random.below(256)]);
  bytes.fill(value);
  if (random.oneIn(2)) bytes[random.below(bytes.length)] = random.below(256);
}

/** Changes one thing where it is looked at, mostly in the superblock's first bytes. */
export function damage(random: Random, { read }: Template, disk: SparseDisk): void {
  const starts = [0, 0, 512, 1024, 1024, 32_768, 34_816, 65_536, ...read.map(([at]) => at)];
  const start = random.pick(starts);
  const at = start + random.below(random.pick([64, 256, 1024, 4096]));
  const length = random.pick([1, 1, 2, 4, 8]);
  const bytes = disk.read(at, length);
  if (bytes.length === 0) return;
  random.pick([
    () => bytes[random.below(bytes.length)] ^= 1 << random.below(8),
    () => hostile(random, bytes),
    () => bytes.set(random.bytes(bytes.length)),
    () => bytes.set(disk.read(random.pick(starts) + random.below(512), bytes.length)),
  ])();
  disk.write(at, bytes);
}
