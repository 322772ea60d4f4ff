/**
 * What stands on a disk may be a stranger's, and a terminal would obey it: controls, line separators,
 * and what turns the direction of writing come out as \\u001b.
 */
export function printable(text: string): string {
  return text.replace(
    /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
