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
import { isMarked, type Mark, readSector, SECTOR, textAt } from "./sectors.ts";
import type { SteppedDisk, Steps } from "./steps.ts";

/** The table's name in a message; undefined if there is none of them. `marked`: the disk's beginning. */
export function* nameUnreadable(
  disk: SteppedDisk,
  marked: DataView,
  record?: BootRecord,
): Steps<string | undefined> {
  for (const { name, marks, isIt } of TESTS) {
    if (isMarked(marked, marks) && (yield* isIt(disk, record))) return name;
  }
}

type Test = (disk: SteppedDisk, record?: BootRecord) => Steps<boolean>;

const LDM_PARTITION = 0x42;
const LDM_SECTOR = 6;
/** The first half of "PRIVHEAD". */
const LDM_MARKS: readonly Mark[] = [[LDM_SECTOR * SECTOR, 32, 0x50524956]];

/** ldm.c: a partition of that type, and the first of three headers of the database. */
function* isLdm(disk: SteppedDisk, record?: BootRecord): Steps<boolean> {
  if (!record?.entries.some(({ sys_ind }) => sys_ind === LDM_PARTITION)) return false;
  const head = yield* readSector(disk, LDM_SECTOR);
  return head !== undefined && textAt(head, 0, 8) === "PRIVHEAD";
}

/** "IBMA" in EBCDIC. */
const AIX_LABEL_MAGIC = 0xc9c2d4c1;
const AIX_MARKS: readonly Mark[] = [[0, 32, AIX_LABEL_MAGIC]];
/** With an entry of one of these types, aix_magic_present() of msdos.c believes in the MS-DOS table. */
const NOT_AIX = [0x05, 0x0f, 0x82, 0x83, 0x85, 0x8e, 0xfd];

/** The kernel also wants an LVM volume group, libblkid does not. */
function* isAix(disk: SteppedDisk, record?: BootRecord): Steps<boolean> {
  const sector = yield* readSector(disk, 0);
  return sector?.getUint32(0) === AIX_LABEL_MAGIC &&
    !record?.entries.some(({ sys_ind }) => NOT_AIX.includes(sys_ind));
}

/** "IPL1" */
const PC98_MARKS: readonly Mark[] = [[4, 32, 0x49504c31]];

/** parted's test. The kernel and libblkid take it for an empty MS-DOS table. */
// deno-lint-ignore require-yield
function* isPc98(_: SteppedDisk, record?: BootRecord): Steps<boolean> {
  return record !== undefined && textAt(record.view, 4, 4) === "IPL1" &&
    record.entries.every(({ sys_ind, nr_sects }) => sys_ind === 0 && nr_sects === 0);
}

/** "VOL1", "LNX1" and "CMS1" in EBCDIC. */
const DASD_LABELS = [0xe5d6d3f1, 0xd3d5e7f1, 0xc3d4e2f1];

/** Sector 1, and blocks 1 and 2 of each sector size. */
const DASD_MARKS: readonly Mark[] = [1, 2, 4, 8, 16].flatMap((sector) =>
  DASD_LABELS.map((label): Mark => [sector * SECTOR, 32, label])
);

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

const ICS_SEED = 0x50617274;
/** The upper half of the checksum of 508 bytes, whatever they are. */
const ICS_MARKS: readonly Mark[] = [0x5061, 0x5062, 0x5063].map((half) => [510, 16, half, true]);

/** acorn.c, valid_ics_sector() */
function* isAcornIcs(disk: SteppedDisk): Steps<boolean> {
  const sector = yield* readSector(disk, 0);
  if (!sector) return false;
  let sum = ICS_SEED;
  for (let i = 0; i < 508; i++) sum += sector.getUint8(i);
  return sum === sector.getUint32(508, true);
}

/** acorn.c: the table is XORed with this name. */
const EESOX_NAME = "Neil Critchell  ";
const EESOX_SECTOR = 7;
/** "Eeso", XORed with "Neil". */
const EESOX_MARKS: readonly Mark[] = [[EESOX_SECTOR * SECTOR, 32, 0x4565736f ^ 0x4e65696c]];

function* isAcornEesox(disk: SteppedDisk): Steps<boolean> {
  const sector = yield* readSector(disk, EESOX_SECTOR);
  return sector !== undefined &&
    [..."Eesox\0"].every((letter, i) =>
      (sector.getUint8(i) ^ EESOX_NAME.charCodeAt(i)) === letter.charCodeAt(0)
    );
}

const TESTS: readonly {
  readonly name: string;
  readonly marks: readonly Mark[];
  readonly isIt: Test;
}[] = [
  { name: "a dynamic disk of Windows (LDM)", marks: LDM_MARKS, isIt: isLdm },
  { name: "an AIX disk", marks: AIX_MARKS, isIt: isAix },
  { name: "a PC-98's", marks: PC98_MARKS, isIt: isPc98 },
  { name: "an IBM mainframe's (DASD)", marks: DASD_MARKS, isIt: isDasd },
  { name: "an Acorn's (ICS)", marks: ICS_MARKS, isIt: isAcornIcs },
  { name: "an Acorn's (EESOX)", marks: EESOX_MARKS, isIt: isAcornEesox },
];
