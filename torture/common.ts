/** What the parts share: how a part is asked and answers, and what the kernel has of ours. */
import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import type { RuntimeName, ScenarioName } from "./scenarios.ts";

/** What the table shows, and the JSON: one verdict. */
export interface Row {
  readonly part: string;
  readonly name: string;
  readonly outcome: "pass" | "fail";
  readonly detail: string;
}

/** How a part shall be run. */
export interface Request {
  readonly full: boolean;
  /** Multiplies how often things are done. */
  readonly scale: number;
  readonly runtimes: readonly RuntimeName[];
  readonly scenarios: readonly ScenarioName[];
  /** Only cases whose names match. */
  readonly only: RegExp | undefined;
  /** Of random programs. */
  readonly seed?: number;
  /** A file with the one program that shall be run. */
  readonly program?: string;
}

export type Part = (request: Request) => Promise<Row[]>;

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return undefined;
  }
}

/** A loop device that is bound to a file. */
export interface Bound {
  readonly number: number;
  readonly autoclear: boolean;
}

/** The devices that are bound to `file`, by what sysfs says. */
export function devicesOf(file: string): Bound[] {
  return readdirSync("/sys/block").flatMap((name) => {
    const number = /^loop(\d+)$/.exec(name)?.[1];
    if (number === undefined) return [];
    const backing = read(`/sys/block/${name}/loop/backing_file`);
    if (backing !== file && backing !== `${file} (deleted)`) return [];
    const autoclear = read(`/sys/block/${name}/loop/autoclear`) === "1";
    return [{ number: Number(number), autoclear }];
  });
}

/** Whether any file is bound to loop device `number`. */
export function isBound(number: number): boolean {
  return existsSync(`/sys/block/loop${number}/loop/backing_file`);
}

/** Partitions that the kernel has on loop device `number`: their numbers. */
export function partitionsOf(number: number): number[] {
  try {
    return readdirSync(`/sys/block/loop${number}`)
      .flatMap((name) => /^loop\d+p(\d+)$/.exec(name)?.[1] ?? []).map(Number);
  } catch {
    return [];
  }
}

/** What a process has open of a library's making; its runtime's own files come and go. */
export function openFiles(pid: number): string[] {
  const folder = `/proc/${pid}/fd`;
  return readdirSync(folder).flatMap((fd) => {
    try {
      const link = readlinkSync(`${folder}/${fd}`);
      return /^\/($|dev\/\.?loop|dev\/kmsg|sys\/|proc\/|memfd:|.*\/loopdev-test-)|fscontext/.test(
          link,
        )
        ? [link]
        : [];
    } catch {
      return [];
    }
  }).sort();
}

/** Resolves to whether the condition came true in time. */
export async function within(ms: number, condition: () => boolean): Promise<boolean> {
  for (const end = Date.now() + ms; !condition();) {
    if (Date.now() > end) return false;
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  return true;
}

/** "EIO 12, EPERM 3": how often each came. */
export function tally(words: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const word of words) counts.set(word, (counts.get(word) ?? 0) + 1);
  return [...counts].sort().map(([word, count]) => `${word} ${count}`).join(", ");
}
