/**
 * The digests that Btrfs can have in place of CRC-32C (mkfs.btrfs --csum): of one superblock at a
 * time, and at once, which the runtimes' own cannot do everywhere.
 *
 * @module
 */

const MASK = 2n ** 64n - 1n;

/** The sum, modulo 2^64. */
const add = (...terms: bigint[]) => terms.reduce((sum, term) => sum + term) & MASK;
const multiply = (a: bigint, b: bigint) => a * b & MASK;
const rotateLeft = (word: bigint, by: bigint) => (word << by | word >> (64n - by)) & MASK;

function viewOf({ buffer, byteOffset, byteLength }: Uint8Array): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}

function littleEndian(words: readonly bigint[]): Uint8Array {
  const bytes = new Uint8Array(8 * words.length);
  words.forEach((word, i) => viewOf(bytes).setBigUint64(8 * i, word, true));
  return bytes;
}

const [P1, P2, P3, P4, P5] = [
  0x9e3779b185ebca87n,
  0xc2b2ae3d27d4eb4fn,
  0x165667b19e3779f9n,
  0x85ebca77c2b2ae63n,
  0x27d4eb2f165667c5n,
];

/** xxHash64 with seed 0, its 8 bytes in little-endian order. */
export function xxh64(data: Uint8Array): Uint8Array {
  const view = viewOf(data);
  const round = (sum: bigint, word: bigint) =>
    multiply(rotateLeft(add(sum, multiply(word, P2)), 31n), P1);
  let at = 0;
  let hash = P5;
  if (data.length >= 32) {
    const lanes = [add(P1, P2), P2, 0n, add(MASK + 1n, -P1)];
    for (; at + 32 <= data.length; at += 32) {
      for (let i = 0; i < 4; i++) lanes[i] = round(lanes[i], view.getBigUint64(at + 8 * i, true));
    }
    const turns = [1n, 7n, 12n, 18n];
    hash = add(...lanes.map((lane, i) => rotateLeft(lane, turns[i])));
    for (const lane of lanes) hash = add(multiply(hash ^ round(0n, lane), P1), P4);
  }
  hash = add(hash, BigInt(data.length));
  for (; at + 8 <= data.length; at += 8) {
    hash ^= round(0n, view.getBigUint64(at, true));
    hash = add(multiply(rotateLeft(hash, 27n), P1), P4);
  }
  if (at + 4 <= data.length) {
    hash ^= multiply(BigInt(view.getUint32(at, true)), P1);
    hash = add(multiply(rotateLeft(hash, 23n), P2), P3);
    at += 4;
  }
  for (; at < data.length; at++) {
    hash = multiply(rotateLeft(hash ^ multiply(BigInt(data[at]), P5), 11n), P1);
  }
  hash = multiply(hash ^ hash >> 33n, P2);
  hash = multiply(hash ^ hash >> 29n, P3);
  return littleEndian([hash ^ hash >> 32n]);
}

/** The first 32 bits of the fractions of the cube roots of the first 64 primes. */
function cubeRoots(): Uint32Array {
  const primes: number[] = [];
  for (let n = 2; primes.length < 64; n++) if (primes.every((p) => n % p !== 0)) primes.push(n);
  return Uint32Array.from(primes, (prime) => (Math.cbrt(prime) % 1) * 2 ** 32);
}

const SHA256_INITIAL = [
  0x6a09e667,
  0xbb67ae85,
  0x3c6ef372,
  0xa54ff53a,
  0x510e527f,
  0x9b05688c,
  0x1f83d9ab,
  0x5be0cd19,
];

/** SHA-256 (FIPS 180-4): 32 bytes. */
export function sha256(data: Uint8Array): Uint8Array {
  const padded = new Uint8Array(Math.ceil((data.length + 9) / 64) * 64);
  padded.set(data);
  padded[data.length] = 0x80;
  const view = viewOf(padded);
  view.setBigUint64(padded.length - 8, BigInt(data.length) * 8n);
  const k = cubeRoots();
  const turn = (word: number, by: number) => word >>> by | word << (32 - by);
  const state = Int32Array.from(SHA256_INITIAL);
  const w = new Int32Array(64);
  for (let block = 0; block < padded.length; block += 64) {
    for (let i = 0; i < 16; i++) w[i] = view.getInt32(block + 4 * i);
    for (let i = 16; i < 64; i++) {
      const [a, b] = [w[i - 15], w[i - 2]];
      const s0 = turn(a, 7) ^ turn(a, 18) ^ a >>> 3;
      const s1 = turn(b, 17) ^ turn(b, 19) ^ b >>> 10;
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    let [a, b, c, d, e, f, g, h] = state;
    for (let i = 0; i < 64; i++) {
      const t1 = h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + (e & f ^ ~e & g) + k[i] + w[i];
      const t2 = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + (a & b ^ a & c ^ b & c);
      [h, g, f, e, d, c, b, a] = [g, f, e, d + t1 | 0, c, b, a, t1 + t2 | 0];
    }
    [a, b, c, d, e, f, g, h].forEach((word, i) => state[i] += word);
  }
  const digest = new Uint8Array(32);
  state.forEach((word, i) => viewOf(digest).setInt32(4 * i, word));
  return digest;
}

const BLAKE2B_INITIAL = [
  0x6a09e667f3bcc908n,
  0xbb67ae8584caa73bn,
  0x3c6ef372fe94f82bn,
  0xa54ff53a5f1d36f1n,
  0x510e527fade682d1n,
  0x9b05688c2b3e6c1fn,
  0x1f83d9abfb41bd6bn,
  0x5be0cd19137e2179n,
];

/** Which word of the message each step takes: RFC 7693's SIGMA, a hexadecimal digit each. */
const SIGMA = [
  "0123456789abcdef",
  "ea489fd61c02b753",
  "b8c052fdae367194",
  "7931dcbe265a40f8",
  "905724afe1bc683d",
  "2c6a0b834d75fe19",
  "c51fed4a0763928b",
  "db7ec13950f4862a",
  "6fe9b308c2d714a5",
  "a2847615fb9e3cd0",
];

/** Which words a step mixes: the columns, then the diagonals. */
const MIXED = [
  [0, 4, 8, 12],
  [1, 5, 9, 13],
  [2, 6, 10, 14],
  [3, 7, 11, 15],
  [0, 5, 10, 15],
  [1, 6, 11, 12],
  [2, 7, 8, 13],
  [3, 4, 9, 14],
];

/** BLAKE2b without a key (RFC 7693), of 32 bytes. */
export function blake2b256(data: Uint8Array): Uint8Array {
  const padded = new Uint8Array(Math.max(1, Math.ceil(data.length / 128)) * 128);
  padded.set(data);
  const view = viewOf(padded);
  const state = BLAKE2B_INITIAL.with(0, BLAKE2B_INITIAL[0] ^ 0x01010020n);
  for (let block = 0; block < padded.length; block += 128) {
    const message = Array.from({ length: 16 }, (_, i) => view.getBigUint64(block + 8 * i, true));
    const v = [...state, ...BLAKE2B_INITIAL];
    v[12] ^= BigInt(Math.min(data.length, block + 128));
    if (block + 128 === padded.length) v[14] ^= MASK;
    for (let round = 0; round < 12; round++) {
      MIXED.forEach(([a, b, c, d], step) => {
        for (const [half, first, second] of [[0, 32n, 24n], [1, 16n, 63n]] as const) {
          v[a] = add(v[a], v[b], message[parseInt(SIGMA[round % 10][2 * step + half], 16)]);
          v[d] = rotateLeft(v[d] ^ v[a], 64n - first);
          v[c] = add(v[c], v[d]);
          v[b] = rotateLeft(v[b] ^ v[c], 64n - second);
        }
      });
    }
    for (let i = 0; i < 8; i++) state[i] ^= v[i] ^ v[i + 8];
  }
  return littleEndian(state.slice(0, 4));
}
