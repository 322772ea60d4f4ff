/** A contender in a process of its own, and the images that it attaches. */
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { onRuntime, ROOT, scratch } from "../tests/support/support.ts";
import type { RuntimeName } from "./scenarios.ts";
import { Lines } from "./subject_process.ts";

/** An image that no other is like. */
export function makePattern(name: string): string {
  const path = scratch(name);
  const line = `${path} `.repeat(Math.ceil(65536 / path.length)).slice(0, 65536);
  writeFileSync(path, line);
  return path;
}

/** A process that answers lines with JSON. */
export class Contender {
  readonly #lines: Lines;
  readonly #child;

  constructor(runtime: RuntimeName, images: readonly string[]) {
    const [name, ...args] = onRuntime(runtime, join(ROOT, "torture/contender.ts"), ...images);
    this.#child = spawn(name, args, { stdio: "pipe" });
    this.#lines = new Lines(this.#child);
  }

  async ready(): Promise<void> {
    await this.#lines.next();
  }

  // deno-lint-ignore no-explicit-any -- whatever contender.ts answers
  async ask(request: string, ms?: number): Promise<any> {
    this.#child.stdin.write(`${request}\n`);
    return JSON.parse(await this.#lines.next(ms));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.stdin.end();
    await this.#lines.ended;
  }
}
