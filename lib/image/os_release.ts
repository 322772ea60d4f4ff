/**
 * os-release(5), which is written as a shell reads it: read as data, and nothing in it is run.
 *
 * @module
 */

/** Its variables. A line that is no assignment is passed over; of two of one name the last counts. */
export function parseOsRelease(text: string): Record<string, string> {
  const lines = [...text.matchAll(/^[ \t]*([A-Za-z_]\w*)=(.*)$/gm)];
  return Object.fromEntries(lines.map(([, name, value]) => [name, unquote(value)]));
}

/** In double quotes a backslash escapes only these; in single quotes nothing. */
function unquote(value: string): string {
  const parts = value.trim().matchAll(/"((?:[^"\\]|\\.)*)"?|'([^']*)'?|\\(.)|([^"'\\\s])|(\s.*)/g);
  return [...parts].map(([, double, single, escaped, plain]) =>
    double?.replaceAll(/\\(["$`\\])/g, "$1") ?? single ?? escaped ?? plain ?? ""
  ).join("");
}
