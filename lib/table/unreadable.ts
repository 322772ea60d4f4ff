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
import { isMarked, type Mark, SECTOR, textAt } from "./sectors.ts";

/**
 * The table's name in a message; undefined if there is none of them. `marked`: the beginning of the disk, which
 * has whole sectors.
 */
export function nameUnreadable(
  marked: DataView,
  sectorSize: number,
  record: BootRecord | undefined,
): string | undefined {
  for (const { name, marks, isIt } of TESTS) {
    if (isMarked(marked, marks) && isIt(marked, record, sectorSize)) return name;
  }
}

/** Of a disk that has the mark: whether the rest is there. */
type Test = (marked: DataView, record: BootRecord | undefined, sectorSize: number) => boolean;

const LDM_PARTITION = 0x42;
const LDM_AT = 6 * SECTOR;
/** The first half of "PRIVHEAD". */
const LDM_MARKS: readonly Mark[] = [[LDM_AT, 32, 0x50524956]];

/** ldm.c: a partition of that type, and the first of three headers of the database. */
const isLdm: Test = (marked, record) =>
  textAt(marked, LDM_AT, 8) === "PRIVHEAD" && hasType(record, [LDM_PARTITION]);

const hasType = (record: BootRecord | undefined, types: readonly number[]) =>
  record?.entries.some(({ sys_ind }) => types.includes(sys_ind)) === true;

/** "IBMA" in EBCDIC. */
const AIX_MARKS: readonly Mark[] = [[0, 32, 0xc9c2d4c1]];
/** With an entry of one of these types, aix_magic_present() of msdos.c believes in the MS-DOS table. */
const NOT_AIX = [0x05, 0x0f, 0x82, 0x83, 0x85, 0x8e, 0xfd];

/** The kernel also wants an LVM volume group, libblkid does not. */
const isAix: Test = (_, record) => !hasType(record, NOT_AIX);

/** "IPL1" */
const PC98_MARKS: readonly Mark[] = [[4, 32, 0x49504c31]];

/** parted's test. The kernel and libblkid take it for an empty MS-DOS table. */
const isPc98: Test = (_, record) =>
  record?.entries.every(({ sys_ind, nr_sects }) => sys_ind === 0 && nr_sects === 0) === true;

/** "VOL1", "LNX1" and "CMS1" in EBCDIC. */
const DASD_LABELS = [0xe5d6d3f1, 0xd3d5e7f1, 0xc3d4e2f1];

const dasdMarks = (sectors: readonly number[]) =>
  sectors.flatMap((n) => DASD_LABELS.map((label): Mark => [n * SECTOR, 32, label]));

/** Sector 1, and blocks 1 and 2 of each sector size. */
const DASD_MARKS: readonly Mark[] = dasdMarks([1, 2, 4, 8, 16]);

/** ibm.c, which the kernel tries after MS-DOS: a label in sector 1, block 1 or block 2. */
const isDasd: Test = (marked, record, sectorSize) => {
  const block = sectorSize / SECTOR;
  return record === undefined && isMarked(marked, dasdMarks([1, block, 2 * block]));
};

const ICS_SEED = 0x50617274;
/** The upper half of the checksum of 508 bytes, whatever they are. */
const ICS_MARKS: readonly Mark[] = [0x5061, 0x5062, 0x5063].map((half) => [510, 16, half, true]);

/** acorn.c, valid_ics_sector() */
const isAcornIcs: Test = (marked) => {
  let sum = ICS_SEED;
  for (let i = 0; i < 508; i++) sum += marked.getUint8(i);
  return sum === marked.getUint32(508, true);
};

/** acorn.c: the table is XORed with this name. */
const EESOX_NAME = "Neil Critchell  ";
const EESOX_AT = 7 * SECTOR;
/** "Eeso", XORed with "Neil". */
const EESOX_MARKS: readonly Mark[] = [[EESOX_AT, 32, 0x4565736f ^ 0x4e65696c]];

const isAcornEesox: Test = (marked) =>
  [..."Eesox\0"].every((letter, i) =>
    (marked.getUint8(EESOX_AT + i) ^ EESOX_NAME.charCodeAt(i)) === letter.charCodeAt(0)
  );

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
