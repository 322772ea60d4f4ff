/**
 * Tables that are neither GPT nor MBR, and those within an MBR's partition: whole, and with numbers at
 * which arithmetic goes wrong. Checksums are right, so that the numbers count.
 *
 * @module
 */
import { mbrDisk, putRecord } from "./mbr_cases.ts";
import type { Random } from "./random.ts";
import type { SparseDisk } from "./sparse_disk.ts";

const SECTOR = 512;

/** Changes one sector. */
function edit(disk: SparseDisk, n: number, change: (view: DataView) => void): void {
  const sector = disk.read(n * SECTOR, SECTOR);
  if (sector.length < SECTOR) return;
  change(new DataView(sector.buffer));
  disk.write(n * SECTOR, sector);
}

/** A number of 32 bits: small, within the disk, at its end, or anything. */
function word(random: Random, disk: SparseDisk): number {
  const sectors = Math.floor(disk.size / SECTOR);
  const pick = random.pick([
    () => random.below(40),
    () => random.below(Math.min(sectors, 2 ** 31)),
    () => sectors + random.between(-2, 2),
    () => random.u32(),
    () => 2 ** 32 - 1 - random.below(3),
  ])();
  return Math.max(0, Math.min(pick, 2 ** 32 - 1));
}

const text = (view: DataView, at: number, letters: string) =>
  [...letters].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));

/** Makes the sum of a sector's 32-bit words zero. */
function fixSum(view: DataView, at: number, words = 128): void {
  view.setUint32(at, 0);
  let sum = 0;
  for (let i = 0; i < words; i++) sum += view.getUint32(4 * i);
  view.setUint32(at, -sum >>> 0);
}

type Make = (random: Random, disk: SparseDisk) => void;

const sgi: Make = (random, disk) =>
  edit(disk, 0, (view) => {
    view.setUint32(0, 0x0be5a941);
    for (let i = 0; i < 16; i++) {
      if (random.oneIn(2)) continue;
      view.setUint32(312 + 12 * i, word(random, disk));
      view.setUint32(316 + 12 * i, word(random, disk));
      view.setUint32(320 + 12 * i, random.below(20));
    }
    fixSum(view, 504);
  });

const sun: Make = (random, disk) =>
  edit(disk, 0, (view) => {
    if (random.oneIn(2)) {
      view.setUint32(128, 1);
      view.setUint16(140, random.between(0, 8));
      view.setUint32(188, 0x600ddeee);
    }
    // Their product is an int to the kernel.
    view.setUint16(436, random.pick([1, 4, 255, 32767]));
    view.setUint16(438, random.pick([1, 32, 63, 32767]));
    for (let i = 0; i < 8; i++) {
      view.setUint32(444 + 8 * i, random.oneIn(3) ? word(random, disk) : random.below(99));
      view.setUint32(448 + 8 * i, word(random, disk));
    }
    view.setUint16(508, 0xdabe);
    let sum = 0;
    for (let i = 0; i < 255; i++) sum ^= view.getUint16(2 * i);
    view.setUint16(510, sum);
  });

/** A BSD disklabel in a sector; its checksum is nobody's business. */
function putBsd(random: Random, disk: SparseDisk, sector: number, at: number, within = 0): void {
  edit(disk, sector, (view) => {
    view.setUint32(at, 0x82564557, true);
    view.setUint32(at + 132, 0x82564557, true);
    const number = random.pick([0, 8, 8, 16, 17, 18, 19, random.below(65536)]);
    view.setUint16(at + 138, number, true);
    for (let i = 0; i < 16; i++) {
      const entry = at + 148 + 16 * i;
      if (entry + 16 > 510) break;
      const start = random.oneIn(3) ? word(random, disk) : within + random.below(99);
      view.setUint32(entry, random.oneIn(3) ? word(random, disk) : random.below(99), true);
      view.setUint32(entry + 4, i === 2 && random.oneIn(2) ? 0 : start, true);
      view.setUint8(entry + 12, random.pick([0, 1, 7, 255]));
    }
  });
}

const bsd: Make = (random, disk) => putBsd(random, disk, 0, 64);

const ultrix: Make = (random, disk) =>
  edit(disk, 31, (view) => {
    view.setUint32(440, 0x032957, true);
    view.setUint32(444, 1, true);
    for (let i = 0; i < 8; i++) {
      if (random.oneIn(2)) continue;
      view.setUint32(448 + 8 * i, word(random, disk), true);
      view.setUint32(452 + 8 * i, word(random, disk), true);
    }
  });

const karma: Make = (random, disk) =>
  edit(disk, 0, (view) => {
    view.setUint16(510, 0xab56, true);
    for (const i of [0, 1]) {
      view.setUint8(274 + 16 * i, random.pick([0x4d, 0x4d, 0x4c]));
      view.setUint32(278 + 16 * i, word(random, disk), true);
      view.setUint32(282 + 16 * i, word(random, disk), true);
    }
  });

const mac: Make = (random, disk) => {
  const block = random.pick([512, 512, 512, 2048, 4096, 1024, 0, 100, 700, 65535]);
  edit(disk, 0, (view) => {
    view.setUint16(0, 0x4552);
    view.setUint16(2, block);
  });
  const count = random.pick([1, 3, 9, 255, 256, 2 ** 32 - 1]);
  const whole = random.between(1, 12);
  for (let number = 1; number <= whole; number++) {
    const entry = new Uint8Array(136);
    const view = new DataView(entry.buffer);
    view.setUint16(0, 0x504d);
    view.setUint32(4, count);
    view.setUint32(8, word(random, disk));
    view.setUint32(12, random.oneIn(4) ? 0 : word(random, disk));
    text(view, 16, "name");
    text(view, 48, "Apple_HFS");
    disk.write(number * block, entry);
  }
};

const amiga: Make = (random, disk) => {
  const sector = random.below(16);
  const blocks = random.between(1, 6);
  const scale = random.pick([1, 1, 1, 2, 8, 0]);
  const place = (n: number) => 20 + 3 * n;
  edit(disk, sector, (view) => {
    text(view, 0, "RDSK");
    view.setUint32(4, random.pick([64, 128, 127]));
    view.setUint32(16, scale * 512);
    view.setUint32(28, place(0));
    fixSum(view, 8, view.getUint32(4) & 0x7f);
    // A disk signature of Windows, which the kernel looks past.
    if (random.oneIn(4)) view.setUint32(0xdc, random.u32());
  });
  for (let n = 0; n < blocks; n++) {
    edit(disk, place(n) * scale, (view) => {
      if (!random.oneIn(9)) text(view, 0, "PART");
      view.setUint32(4, 64);
      const isLast = n === blocks - 1;
      view.setUint32(16, isLast ? random.pick([2 ** 32 - 1, place(0), 0]) : place(n + 1));
      view.setUint32(140, random.pick([1, 4, 255, 65536]));
      view.setUint32(148, random.pick([1, 32, 63, 65536]));
      view.setUint32(164, random.oneIn(4) ? word(random, disk) : random.below(99));
      view.setUint32(168, random.oneIn(4) ? word(random, disk) : random.between(1, 199));
      fixSum(view, 8, 64);
    });
  }
};

/** An entry of the Atari's, with a type that is in use: the kernel takes any three letters. */
function putAtari(random: Random, disk: SparseDisk, view: DataView, at: number): void {
  view.setUint8(at, random.pick([0, 1, 1, 0x81]));
  text(view, at + 1, random.pick(["GEM", "BGM", "LNX", "RAW", "XGM"]));
  view.setUint32(at + 4, random.oneIn(3) ? word(random, disk) : random.below(60));
  view.setUint32(at + 8, random.oneIn(3) ? word(random, disk) : random.below(99));
}

const atari: Make = (random, disk) => {
  for (let sector = 0; sector < 60; sector += sector === 0 ? 1 : random.between(1, 9)) {
    edit(disk, sector, (view) => {
      for (let i = 0; i < 4; i++) putAtari(random, disk, view, 0x1c6 + 12 * i);
      for (let i = 0; i < 8; i++) putAtari(random, disk, view, 0x156 + 12 * i);
      view.setUint16(510, 0);
    });
  }
};

/** Slices in up to four partitions of an MBR. */
const slices: Make = (random, disk) => {
  const types = [0xa5, 0xa6, 0xa9, 0x81, 0x63, 0x82, 0xbf];
  const entries = [1, 2, 3, 4].map((n) => ({
    type: random.pick(types),
    start: 40 * n,
    count: random.between(1, 60),
  }));
  putRecord(disk, 0, entries);
  const perSector = disk.sectorSize / SECTOR;
  for (const { type, start: lba } of entries) {
    const start = lba * perSector;
    if (type === 0x81) {
      const entry = () => ({ type: random.pick([0x81, 0x83]), start: word(random, disk) });
      const record = [0, 1, 2, 3].map(() => ({ ...entry(), count: random.below(99) }));
      putRecord(disk, lba, [{ ...record[0], type: 0x81 }, ...record.slice(1)]);
    } else if (type >= 0xa0 && type < 0xb0) putBsd(random, disk, start + 1, 0, start);
    else putVtoc(random, disk, start, type === 0x63);
  }
};

function putVtoc(random: Random, disk: SparseDisk, start: number, isUnixware: boolean): void {
  edit(disk, start + (isUnixware ? 29 : 1), (view) => {
    view.setUint32(isUnixware ? 4 : 12, isUnixware ? 0xca5e600d : 0x600ddeee, true);
    view.setUint32(isUnixware ? 156 : 16, isUnixware ? 0x600ddeee : 1, true);
    if (!isUnixware) view.setUint16(30, random.pick([8, 9, 16]), true);
    for (let i = 0; i < 16; i++) {
      const entry = (isUnixware ? 216 : 72) + 12 * i;
      view.setUint16(entry, random.below(4), true);
      view.setUint32(entry + 4, word(random, disk), true);
      view.setUint32(entry + 8, random.below(99), true);
    }
  });
}

const made = (make: Make) => (random: Random): SparseDisk => {
  const disk = mbrDisk(random);
  make(random, disk);
  return disk;
};

const MAKES = { sgi, sun, bsd, ultrix, karma, mac, amiga, atari, "mbr with slices": slices };

/** One kind of disk for each table, and one with several, of which the kernel's first wins. */
export const LABEL_KINDS: Readonly<Record<string, (random: Random) => SparseDisk>> = {
  ...Object.fromEntries(Object.entries(MAKES).map(([kind, make]) => [kind, made(make)])),
  "several tables": made((random, disk) => {
    for (let n = random.between(2, 4); n > 0; n--) {
      random.pick(Object.values(MAKES))(random, disk);
    }
  }),
};
