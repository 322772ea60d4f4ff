/**
 * Tables of which only the magic number is known here, so that a disk with partitions is not taken for
 * one without a table.
 *
 * Of Acorn's tables only two are recognised. PowerTec's, ADFS's and Cumana's have no more than a checksum of
 * one byte, which one of 256 disks with random bytes has, too; and only Acorn kernels read them.
 *
 * @module
 */
import type { BootRecord } from "./mbr.ts";
import { readSector, textAt } from "./sectors.ts";
import type { SteppedDisk, Steps } from "./steps.ts";

/** The table's name in a message; undefined if there is none of them. */
export function* nameUnreadable(
  disk: SteppedDisk,
  record?: BootRecord,
): Steps<string | undefined> {
  for (const [name, isIt] of TESTS) if (yield* isIt(disk, record)) return name;
}

type Test = (disk: SteppedDisk, record?: BootRecord) => Steps<boolean>;

const TESTS: readonly [name: string, isIt: Test][] = [
  ["a dynamic disk of Windows (LDM)", isLdm],
  ["an AIX disk", isAix],
  ["a PC-98's", isPc98],
  ["an IBM mainframe's (DASD)", isDasd],
  ["an Acorn's (ICS)", isAcornIcs],
  ["an Acorn's (EESOX)", isAcornEesox],
];

const LDM_PARTITION = 0x42;

/** ldm.c: a partition of that type, and the first of three headers of the database. */
function* isLdm(disk: SteppedDisk, record?: BootRecord): Steps<boolean> {
  if (!record?.entries.some(({ sys_ind }) => sys_ind === LDM_PARTITION)) return false;
  const head = yield* readSector(disk, 6);
  return head !== undefined && textAt(head, 0, 8) === "PRIVHEAD";
}

/** "IBMA" in EBCDIC. */
const AIX_LABEL_MAGIC = 0xc9c2d4c1;
/** With an entry of one of these types, aix_magic_present() of msdos.c believes in the MS-DOS table. */
const NOT_AIX = [0x05, 0x0f, 0x82, 0x83, 0x85, 0x8e, 0xfd];

/** The kernel also wants an LVM volume group, libblkid does not. */
function* isAix(disk: SteppedDisk, record?: BootRecord): Steps<boolean> {
  const sector = yield* readSector(disk, 0);
  return sector?.getUint32(0) === AIX_LABEL_MAGIC &&
    !record?.entries.some(({ sys_ind }) => NOT_AIX.includes(sys_ind));
}

/** parted's test. The kernel and libblkid take it for an empty MS-DOS table. */
// deno-lint-ignore require-yield
function* isPc98(_: SteppedDisk, record?: BootRecord): Steps<boolean> {
  return record !== undefined && textAt(record.view, 4, 4) === "IPL1" &&
    record.entries.every(({ sys_ind, nr_sects }) => sys_ind === 0 && nr_sects === 0);
}

/** "VOL1", "LNX1" and "CMS1" in EBCDIC. */
const DASD_LABELS = [0xe5d6d3f1, 0xd3d5e7f1, 0xc3d4e2f1];

/** ibm.c, which the kernel tries after MS-DOS: a label in sector 1, block 1 or block 2. */
function* isDasd(disk: SteppedDisk, record?: BootRecord): Steps<boolean> {
  if (record) return false;
  const block = disk.sectorSize / 512;
  for (const n of [1, block, 2 * block]) {
    const label = (yield* readSector(disk, n))?.getUint32(0);
    if (label !== undefined && DASD_LABELS.includes(label)) return true;
  }
  return false;
}

/** acorn.c, valid_ics_sector() */
function* isAcornIcs(disk: SteppedDisk): Steps<boolean> {
  const sector = yield* readSector(disk, 0);
  if (!sector) return false;
  let sum = 0x50617274;
  for (let i = 0; i < 508; i++) sum += sector.getUint8(i);
  return sum === sector.getUint32(508, true);
}

/** acorn.c: the table is XORed with this name. */
const EESOX_NAME = "Neil Critchell  ";

function* isAcornEesox(disk: SteppedDisk): Steps<boolean> {
  const sector = yield* readSector(disk, 7);
  return sector !== undefined &&
    [..."Eesox\0"].every((letter, i) =>
      (sector.getUint8(i) ^ EESOX_NAME.charCodeAt(i)) === letter.charCodeAt(0)
    );
}
