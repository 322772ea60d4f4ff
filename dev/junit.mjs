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

const MOST_WORDS = 400;

/** What a case says of its failure: the attribute, or, of Bun and Deno, also the text. */
function whyIn(body) {
  const [, attributes = "", text = ""] =
    /<(?:failure|error)\b((?:[^>"]|"[^"]*")*?)(?:\/>|>(.*?)<\/(?:failure|error)>)/s.exec(body) ??
      [];
  const message = /\bmessage="([^"]*)"/.exec(attributes)?.[1] ?? "";
  const said = unescape(`${message} ${text.replace(/^<!\[CDATA\[|\]\]>$/g, "")}`);
  // deno-lint-ignore no-control-regex
  return said.replaceAll(/\u001b\[[\d;]*m/g, "").replaceAll(/\s+/g, " ").trim().slice(
    0,
    MOST_WORDS,
  );
}

/**
 * The cases of a report; none if there is no report.
 *
 * @param {string} path
 * @returns {{ name: string, file?: string, skipped: boolean, failed: boolean, why: string }[]}
 *   `file`: whose code registered the test; `why`: what the runner says of a failure, in one line
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
    why: whyIn(body),
  }));
}
