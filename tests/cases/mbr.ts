/** Boot records with four entries: a disk's own, and those of a chain. */

/** An entry of a boot record. */
export interface MbrEntry {
  readonly type: number;
  /** Sectors: from the beginning of the disk, of the record, or of the extended partition. */
  readonly start: number;
  readonly count: number;
  readonly boot?: number;
}

/** Offset of the first entry in a boot record. */
export const ENTRIES_OFFSET = 446;
const ID_OFFSET = 440;

/** Writes entries and signature over those of a boot record; the code before them stays. */
export function putEntries(
  record: Uint8Array,
  entries: readonly MbrEntry[],
  { id, signature = 0xaa55 }: { id?: number; signature?: number } = {},
): void {
  const view = new DataView(record.buffer, record.byteOffset, 512);
  record.fill(0, ENTRIES_OFFSET, 510);
  entries.forEach(({ type, start, count, boot = 0 }, i) => {
    const at = ENTRIES_OFFSET + 16 * i;
    view.setUint8(at, boot);
    view.setUint8(at + 4, type);
    view.setUint32(at + 8, start, true);
    view.setUint32(at + 12, count, true);
  });
  if (id !== undefined) view.setUint32(ID_OFFSET, id, true);
  view.setUint16(510, signature, true);
}
