/**
 * Text on a terminal: how wide it is, and what must not get there raw.
 *
 * @module
 */

import { encodeName } from "../lib/losetup/list.ts";

/** What nearly everything is, and what spares a closer look: printable ASCII without a backslash. */
const PLAIN = /^[\x20-\x5b\x5d-\x7e]*$/;

function hex(text: string): string {
  return [...encodeName(text)].map((byte) => `\\x${byte.toString(16).padStart(2, "0")}`)
    .join("");
}

/**
 * What is no printable character as \xHH, byte by byte, and so the backslash of a literal \x. Those
 * that turn the direction of writing, which losetup lets through, can make a line read as another.
 */
export function encodeControls(text: string): string {
  if (PLAIN.test(text)) return text;
  return text.replace(/\\(?=x)|[\p{Cc}\p{Cs}\p{Cn}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu, hex);
}

/** The same in a JSON string, whose value stays: what JSON.stringify() leaves alone as \uHHHH. */
export function quoteJson(text: string): string {
  return JSON.stringify(text).replace(
    /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** Blanks, backslashes and everything but printable ASCII as \xHH. */
export function encodeNonBlank(text: string): string {
  return text.replace(/[^\x21-\x5b\x5d-\x7e]/gu, hex);
}

/** East Asian wide and fullwidth, and emoji, as far as file names need it. */
const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1faff}\u{20000}-\u{3fffd}]/u;

/** Terminal cells that `text` takes. */
export function width(text: string): number {
  if (PLAIN.test(text)) return text.length;
  let cells = 0;
  for (const character of text) {
    if (/[\p{Mn}\p{Me}\u200b-\u200f]/u.test(character)) continue;
    cells += WIDE.test(character) ? 2 : 1;
  }
  return cells;
}
