/**
 * Names of files as text. A name is bytes, mostly UTF-8 but not always: what is none becomes lone
 * surrogates, U+DC80 for the byte 0x80 to U+DCFF for 0xff (Python's surrogateescape), and bytes
 * again on the way back. So two names never become one, as with U+FFFD.
 *
 * @module
 */

const encoder = new TextEncoder();
// A name may begin with U+FEFF, which is no byte order mark there.
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
const strictDecoder = new TextDecoder("utf-8", { ignoreBOM: true, fatal: true });

const ESCAPE = 0xdc00;

/** The text of a name. */
export function decodeName(bytes: Uint8Array): string {
  const text = decoder.decode(bytes);
  return text.includes("\ufffd") ? decodeEscaping(bytes) : text;
}

function decodeEscaping(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length;) {
    const character = decodeFirst(bytes.subarray(at, at + lengthOf(bytes[at])));
    text += character ?? String.fromCharCode(ESCAPE + bytes[at]);
    at += character === undefined ? 1 : lengthOf(bytes[at]);
  }
  return text;
}

/** Bytes of the character that begins with this one. */
function lengthOf(first: number): number {
  return first < 0xc0 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

function decodeFirst(character: Uint8Array): string | undefined {
  try {
    return strictDecoder.decode(character);
  } catch {
    return undefined;
  }
}

/** The bytes of a name. Lone surrogates that stand for no byte become U+FFFD: refuse them before. */
export function encodeName(name: string): Uint8Array<ArrayBuffer> {
  if (name.isWellFormed()) return encoder.encode(name);
  const bytes = [...name].flatMap((character) => {
    const code = character.charCodeAt(0) - ESCAPE;
    return character.length === 1 && code >= 0x80 && code <= 0xff
      ? [code]
      : [...encoder.encode(character)];
  });
  return new Uint8Array(bytes);
}

/** As much of a name as fits, whole characters of one that is UTF-8. Gives the number of bytes. */
export function encodeNameInto(name: string, bytes: Uint8Array<ArrayBuffer>): number {
  if (name.isWellFormed()) return encoder.encodeInto(name, bytes).written;
  const fitting = encodeName(name).subarray(0, bytes.length);
  bytes.set(fitting);
  return fitting.length;
}
