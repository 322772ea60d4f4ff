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
 * @returns {{ name: string, skipped: boolean, failed: boolean }[]}
 */
export function readReport(path) {
  let xml;
  try {
    xml = readFileSync(path, "utf8");
  } catch {
    return [];
  }
  const cases = /<testcase name="([^"]*)"[^>]*?(?:\/>|>(.*?)<\/testcase>)/gs;
  return [...xml.matchAll(cases)].map(([, name, body = ""]) => ({
    name: unescape(name),
    skipped: /<skipped/.test(body),
    failed: /<(failure|error)[ >/]/.test(body),
  }));
}
