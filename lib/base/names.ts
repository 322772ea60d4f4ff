/**
 * File names as text. A name is bytes, usually UTF-8. Each byte that is not becomes a lone surrogate,
 * U+DC80 for 0x80 to U+DCFF for 0xff (Python's surrogateescape), and that byte again on the way back.
 * With U+FFFD instead, two different names could become the same text.
 *
 * @module
 */

const encoder = new TextEncoder();
// U+FEFF at the beginning of a name is part of it, not a byte order mark.
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
const strictDecoder = new TextDecoder("utf-8", { ignoreBOM: true, fatal: true });

const ESCAPE = 0xdc00;

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

/** How many bytes a UTF-8 character has that begins with this one. */
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

/** Lone surrogates that stand for no byte become U+FFFD: the caller has refused them ({@linkcode checkText}). */
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

/** Encodes as much of a name as fits, and gives how many bytes it wrote. UTF-8 is cut between characters. */
export function encodeNameInto(name: string, bytes: Uint8Array<ArrayBuffer>): number {
  if (name.isWellFormed()) return encoder.encodeInto(name, bytes).written;
  const fitting = encodeName(name).subarray(0, bytes.length);
  bytes.set(fitting);
  return fitting.length;
}
