/**
 * The checksums of partition tables and superblocks.
 *
 * @module
 */

/** Four tables of 256 entries: the CRC of each byte with 0 to 3 zero bytes after it. */
function crcTables(polynomial: number): Int32Array {
  const made = new Int32Array(4 * 256);
  for (let n = 0; n < made.length; n++) {
    let crc = n;
    if (n < 256) {
      for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ polynomial : crc >>> 1;
    } else crc = (made[n - 256] >>> 8) ^ made[made[n - 256] & 0xff];
    made[n] = crc;
  }
  return made;
}

/** The CRC, four bytes a step ("slicing-by-4"); neither `seed` nor the result is inverted. */
function remainder(t: Int32Array, seed: number, data: Uint8Array): number {
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

let ieee: Int32Array | undefined;
let castagnoli: Int32Array | undefined;

/** The kernel's crc32_le(): IEEE 802.3's polynomial; neither `seed` nor the result is inverted. */
export function crc32_le(seed: number, data: Uint8Array): number {
  return remainder(ieee ??= crcTables(0xedb88320), seed, data);
}

/** CRC-32 as in IEEE 802.3 and zlib. */
export function crc32(data: Uint8Array): number {
  return ~crc32_le(-1, data) >>> 0;
}

/** The kernel's crc32c(): Castagnoli's polynomial; neither `seed` nor the result is inverted. */
export function crc32c(seed: number, data: Uint8Array): number {
  return remainder(castagnoli ??= crcTables(0x82f63b78), seed, data);
}

/** The kernel's crc_itu_t(), from 0: polynomial 0x1021, the highest bit first. */
export function crc_itu_t(data: Uint8Array): number {
  let crc = 0;
  for (const byte of data) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit++) crc = (crc << 1 ^ (crc & 0x8000 ? 0x1021 : 0)) & 0xffff;
  }
  return crc;
}
