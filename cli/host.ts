/**
 * --report: what this host is.
 *
 * @module
 */
import { report } from "../mod.ts";

/** report() as text, or as JSON. */
export async function formatReport(json: boolean): Promise<string> {
  const found = await report();
  if (json) return `${JSON.stringify({ report: found }, null, 3)}\n`;
  const { reasons, parsers, ...facts } = found;
  const read = Object.entries(parsers).filter(([, reads]) => reads).map(([name]) => name);
  const lines = Object.entries({ ...facts, parsers: read.join(" ") || "none" });
  return lines.map(([name, value]) => `${name.padEnd(10)}${value}\n`).join("") +
    reasons.map((reason) => `${reason}\n`).join("");
}
