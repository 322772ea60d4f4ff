/**
 * Text on a terminal: its width, and which characters must not get there raw.
 *
 * @module
 */

import { encodeName } from "../lib/losetup/list.ts";

/** Printable ASCII without a backslash, as nearly all text is: it needs no closer look. */
const PLAIN = /^[\x20-\x5b\x5d-\x7e]*$/;

function hex(text: string): string {
  return [...encodeName(text)].map((byte) => `\\x${byte.toString(16).padStart(2, "0")}`)
    .join("");
}

/**
 * Encodes characters that are not printable as \xHH, byte by byte, and the backslash of a literal \x. So
 * are those that change the direction of writing: they make a name look like another. losetup does not
 * encode these.
 */
export function encodeControls(text: string): string {
  if (PLAIN.test(text)) return text;
  return text.replace(/\\(?=x)|[\p{Cc}\p{Cs}\p{Cn}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu, hex);
}

/** A JSON string of the same value, with those characters as \uHHHH that JSON.stringify() leaves raw. */
export function quoteJson(text: string): string {
  return escapeJson(JSON.stringify(text));
}

/** JSON of a value for people and programs, indented, with the same characters as \uHHHH. */
export function formatJson(value: unknown): string {
  return `${escapeJson(JSON.stringify(value, undefined, 3))}\n`;
}

/** The controls below \x20 are escaped in it already, but for the line breaks between its values. */
function escapeJson(json: string): string {
  return json.replace(
    /[\x7f-\x9f\p{Zl}\p{Zp}\p{Bidi_Control}]/gu,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** Encodes blanks, backslashes and all but printable ASCII as \xHH. */
export function encodeNonBlank(text: string): string {
  return text.replace(/[^\x21-\x5b\x5d-\x7e]/gu, hex);
}

/** East Asian wide and fullwidth characters, and emoji. */
const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1faff}\u{20000}-\u{3fffd}]/u;

/** How many cells of a terminal `text` takes. */
export function width(text: string): number {
  if (PLAIN.test(text)) return text.length;
  let cells = 0;
  for (const character of text) {
    if (/[\p{Mn}\p{Me}\u200b-\u200f]/u.test(character)) continue;
    cells += WIDE.test(character) ? 2 : 1;
  }
  return cells;
}
