/** The runners' own JUnit reports. */
import { readFileSync } from "node:fs";

const unescape = (text) =>
  text.replace(
    /&(?:#(\d+)|#x([0-9a-f]+)|(\w+));/gi,
    (_, decimal, hex, name) =>
      name
        ? { quot: '"', apos: "'", lt: "<", gt: ">", amp: "&" }[name]
        : String.fromCodePoint(decimal ? Number(decimal) : parseInt(hex, 16)),
  );

/**
 * The cases of a report; none if there is no report.
 *
 * @param {string} path
 * @returns {{ name: string, file?: string, skipped: boolean, failed: boolean }[]} `file`: whose code
 *   registered the test
 */
export function readReport(path) {
  let xml;
  try {
    xml = readFileSync(path, "utf8");
  } catch {
    return [];
  }
  const cases = /<testcase name="([^"]*)"([^>]*?)(?:\/>|>(.*?)<\/testcase>)/gs;
  return [...xml.matchAll(cases)].map(([, name, attributes, body = ""]) => ({
    name: unescape(name),
    file: /\bfile="([^"]*)"/.exec(attributes)?.[1],
    skipped: /<skipped/.test(body),
    failed: /<(failure|error)[ >/]/.test(body),
  }));
}
