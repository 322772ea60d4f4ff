/**
 * The checksums of partition tables, and of what compresses.
 *
 * @module
 */

/** Four tables of 256: the CRC of a byte with 0 to 3 zero bytes after it. */
function crcTables(): Int32Array {
  const made = new Int32Array(4 * 256);
  for (let n = 0; n < made.length; n++) {
    let crc = n;
    if (n < 256) {
      for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
    } else crc = (made[n - 256] >>> 8) ^ made[made[n - 256] & 0xff];
    made[n] = crc;
  }
  return made;
}

let tables: Int32Array | undefined;

/**
 * The kernel's crc32_le(): CRC-32 of IEEE 802.3, inverted neither before nor after. Four bytes a step
 * ("slicing-by-4").
 */
export function crc32_le(seed: number, data: Uint8Array): number {
  const t = tables ??= crcTables();
  let crc = seed;
  let i = 0;
  for (; i + 4 <= data.length; i += 4) {
    crc ^= data[i] | data[i + 1] << 8 | data[i + 2] << 16 | data[i + 3] << 24;
    crc = t[768 + (crc & 0xff)] ^ t[512 + (crc >>> 8 & 0xff)] ^ t[256 + (crc >>> 16 & 0xff)] ^
      t[crc >>> 24];
  }
  for (; i < data.length; i++) crc = (crc >>> 8) ^ t[(crc ^ data[i]) & 0xff];
  return crc >>> 0;
}

/** CRC-32 as in IEEE 802.3 and zlib. */
export function crc32(data: Uint8Array): number {
  return ~crc32_le(-1, data) >>> 0;
}
