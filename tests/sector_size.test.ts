/** Which sector size a GPT is made for: every size, every header, two of them, and none. */
import { assert, assertEquals } from "@std/assert";
import { SECTOR_SIZES } from "../lib/table/sectors.ts";
import { findTable } from "../lib/table/sector_size.ts";
import { type Copy, gptImage, putCopy, reader, summary } from "./cases/gpt_image.ts";
import { putEntries } from "./cases/mbr.ts";
import { test } from "./support/support.ts";

type Wanted = number | "auto";
const WANTED: readonly Wanted[] = ["auto", ...SECTOR_SIZES];
const PAIRS = SECTOR_SIZES.flatMap((a) => SECTOR_SIZES.flatMap((b) => a < b ? [[a, b]] : []));

const find = (image: Uint8Array, wanted: Wanted) => summary(findTable(reader(image), wanted));

/** Both headers of a table. */
const both = (sectorSize: number, mark: number): Copy[] =>
  (["primary", "backup"] as const).map((header) => ({ sectorSize, header, mark }));

for (const sectorSize of SECTOR_SIZES) {
  test(`findTable() finds a GPT for ${sectorSize}-byte sectors, whatever is wanted`, [], () => {
    const images = [
      [[{ sectorSize, header: "primary" }], "primary"],
      [[{ sectorSize, header: "backup" }], "backup"],
      [both(sectorSize, 1), "primary"],
    ] as const;
    for (const [copies, header] of images) {
      for (const wanted of WANTED) {
        const found = find(gptImage(copies), wanted);
        assertEquals(found, `${sectorSize} ${header} table 1`, `${wanted}, ${header}`);
      }
    }
  });
}

test("findTable() believes a primary header before any backup", [], () => {
  for (const [a, b] of [...PAIRS, ...PAIRS.map((pair) => pair.toReversed())]) {
    const image = gptImage([
      { sectorSize: a, header: "primary", mark: 1 },
      { sectorSize: b, header: "backup", mark: 2 },
    ]);
    for (const wanted of WANTED) assertEquals(find(image, wanted), `${a} primary table 1`);
  }
});

test("findTable() takes the wanted size's primary header, whichever is confirmed", [], () => {
  for (const [a, b] of PAIRS) {
    for (const copies of [both(a, 1), both(b, 2)]) {
      const primary = (sectorSize: number, mark: number): Copy => ({
        sectorSize,
        header: "primary",
        mark,
      });
      const image = gptImage([...copies, primary(a, 1), primary(b, 2)]);
      assertEquals(find(image, a), `${a} primary table 1`);
      assertEquals(find(image, b), `${b} primary table 2`);
    }
  }
});

test(
  'findTable("auto") takes the primary header that its backup confirms, else the smallest',
  [],
  () => {
    for (const [a, b] of PAIRS) {
      const primaries = [a, b].map((sectorSize, i): Copy => ({
        sectorSize,
        header: "primary",
        mark: i + 1,
      }));
      assertEquals(find(gptImage(primaries), "auto"), `${a} primary table 1`, "neither");
      const confirmed = gptImage([...both(b, 2), primaries[0]]);
      assertEquals(find(confirmed, "auto"), `${b} primary table 2`, "the larger");
      const smaller = gptImage([...both(a, 1), primaries[1]]);
      assertEquals(find(smaller, "auto"), `${a} primary table 1`, "the smaller");
      // A backup of another table confirms nothing.
      const foreign = gptImage([...primaries, { sectorSize: b, header: "backup", mark: 3 }]);
      assertEquals(find(foreign, "auto"), `${a} primary table 1`, "a stranger's");
      if (b === 4096) continue;
      // On a disk that ends within a larger sector, the last ones of both sizes are apart.
      const odd = gptImage([...both(a, 1), ...both(b, 2)], 2 * 1024 * 1024 + a);
      assertEquals(find(odd, "auto"), `${a} primary table 1`, "both");
    }
  },
);

test("findTable() takes of two backups the wanted one, else the smallest", [], () => {
  for (const [a, b] of PAIRS) {
    const image = gptImage(
      [{ sectorSize: a, header: "backup", mark: 1 }, { sectorSize: b, header: "backup", mark: 2 }],
      2 * 1024 * 1024 + a,
    );
    assertEquals(find(image, a), `${a} backup table 1`);
    assertEquals(find(image, b), `${b} backup table 2`);
    assertEquals(find(image, "auto"), `${a} backup table 1`);
  }
});

test(
  "findTable() says that a protective MBR without a readable GPT is a GPT without header",
  [],
  () => {
    const alone = gptImage([]);
    const damaged = gptImage(SECTOR_SIZES.flatMap((size) => both(size, 1)));
    for (const size of SECTOR_SIZES) {
      damaged[size + 60] ^= 1;
      damaged[damaged.length - size + 60] ^= 1;
    }
    // Type 0xEE elsewhere than at sector 1: the kernel looks for no GPT, and takes no other entry.
    const elsewhere = gptImage(both(512, 1));
    putEntries(elsewhere, [{ type: 0xee, start: 2, count: 9 }, {
      type: 0x83,
      start: 99,
      count: 9,
    }]);
    for (const wanted of WANTED) {
      const size = wanted === "auto" ? 512 : wanted;
      assertEquals(find(alone, wanted), `${size} gpt`, "alone");
      assertEquals(find(damaged, wanted), `${size} gpt`, "damaged");
      assertEquals(find(elsewhere, wanted), `${size} gpt`, "elsewhere");
    }
  },
);

test("findTable() believes in no GPT without a protective MBR, as the kernel does", [], () => {
  for (const sectorSize of SECTOR_SIZES) {
    const image = gptImage(both(sectorSize, 1));
    putEntries(image, [{ type: 0x83, start: 64, count: 64 }]);
    assertEquals(find(image, "auto"), "512 mbr 0x83");
    assertEquals(find(image, 4096), "4096 mbr 0x83");
    image.fill(0, 0, 512);
    assertEquals(find(image, "auto"), "512 none");
  }
});

test("findTable() tells an empty MBR from a file system's boot sector", [], () => {
  const image = new Uint8Array(65536);
  assertEquals(find(image, "auto"), "512 none", "zeros");
  // As mkfs.fat leaves it: a jump, no code where the table would be, no disk signature.
  image.set([0xeb, 0x3c, 0x90]);
  image.set([0x55, 0xaa], 510);
  assertEquals(find(image, "auto"), "512 none", "FAT");
  image.fill(0, 0, 3).set([1, 2, 3, 4], 440);
  assertEquals(find(image, "auto"), "512 mbr", "an empty table");
});

test("findTable() reads the beginning once, and more only where the GPT is not there", [], () => {
  const count = (image: Uint8Array, wanted: Wanted) => {
    const { reads, ...disk } = reader(image);
    findTable(disk, wanted);
    return reads.length;
  };
  const usual = (sectorSize: number) =>
    gptImage([{ sectorSize, header: "primary", entriesAt: 2 * sectorSize }]);
  const mbr = new Uint8Array(65536);
  putEntries(mbr, [{ type: 0x83, start: 64, count: 64 }]);
  for (const wanted of WANTED) {
    assertEquals(count(new Uint8Array(65536), wanted), 1, "nothing");
    assertEquals(count(mbr, wanted), 1, "MBR");
    for (const size of SECTOR_SIZES) {
      assertEquals(count(usual(size), wanted), 1, `GPT of ${size}`);
      // Its end, and the entries before that.
      const image = gptImage([{ sectorSize: size, header: "backup" }]);
      assertEquals(count(image, wanted), 3, `backup of ${size}`);
    }
    assertEquals(count(gptImage([]), wanted), 2, "protective MBR alone");
  }
});

test("findTable() reads images of any length, and only what they have", [], () => {
  for (let size = 0; size <= 9 * 4096; size += 512) {
    const image = new Uint8Array(Math.max(size, 512));
    putEntries(image, [{ type: 0xee, start: 1, count: 1 }]);
    for (const wanted of WANTED) {
      const disk = reader(image.subarray(0, size));
      findTable(disk, wanted);
      for (const [offset, length] of disk.reads) {
        assert(offset >= 0 && length >= 0 && offset + length <= size, `${offset} ${length}`);
      }
    }
  }
});

test("findTable() reads hybrid images by their GPT, where the MBR protects one", [], () => {
  // MBR, GPT and ISO 9660 (2048-byte sectors, from byte 32768 on) in one, as installers are.
  const iso = gptImage(both(512, 1));
  iso.set(new TextEncoder().encode("\x01CD001\x01"), 32768);
  const others = [{ type: 0xee, start: 1, count: 63 }, { type: 0xef, start: 2048, count: 64 }];
  putEntries(iso, [{ type: 0, start: 0, count: 1, boot: 0x80 }, ...others]);
  for (const wanted of WANTED) assertEquals(find(iso, wanted), "512 primary table 1");
  // As isohybrid leaves it: nothing protects the GPT, so the MBR counts.
  putEntries(iso, [{ type: 0x17, start: 0, count: 4096, boot: 0x80 }, others[1], others[1]]);
  assertEquals(find(iso, "auto"), "512 mbr 0x17 0xef 0xef");
  // A table for the medium's own sectors.
  const medium = gptImage(both(2048, 1));
  medium.set(new TextEncoder().encode("\x01CD001\x01"), 32768);
  for (const wanted of WANTED) assertEquals(find(medium, wanted), "2048 primary table 1");
  putCopy(medium, { sectorSize: 512, header: "primary", mark: 2 });
  assertEquals(find(medium, 512), "512 primary table 2");
  assertEquals(find(medium, "auto"), "2048 primary table 1");
});
