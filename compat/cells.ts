/** The runtimes that the README names: the oldest and the newest of each, and Bun under musl. */
import process from "node:process";
import type { Runtime } from "../tests/support/support.ts";

export interface Cell {
  readonly name: string;
  readonly runtime: Runtime;
  /** As npm takes it: a version, or a tag. */
  readonly version: string;
  readonly libc: "glibc" | "musl";
}

export const CELLS: readonly Cell[] = [
  { name: "oldest Bun", runtime: "bun", version: "1.3.0", libc: "glibc" },
  { name: "newest Bun", runtime: "bun", version: "latest", libc: "glibc" },
  // npm has no 2.7.0.
  { name: "oldest Deno", runtime: "deno", version: "2.7.1", libc: "glibc" },
  { name: "newest Deno", runtime: "deno", version: "latest", libc: "glibc" },
  // There is no Deno for musl.
  { name: "oldest Node", runtime: "node", version: "26.10.0", libc: "glibc" },
  { name: "newest Node", runtime: "node", version: "latest", libc: "glibc" },
  { name: "newest Bun, musl", runtime: "bun", version: "latest", libc: "musl" },
];

/** The npm package with nothing but this machine's binary, and the binary's path in it. */
export function binaryPackage({ runtime, libc }: Cell): { name: string; binary: string } {
  const arm = process.arch === "arm64";
  if (runtime === "deno") {
    return { name: `@deno/linux-${arm ? "arm64" : "x64"}-glibc`, binary: "deno" };
  }
  if (runtime === "node") {
    return { name: `node-linux-${arm ? "arm64" : "x64"}`, binary: "bin/node" };
  }
  const machine = arm ? "aarch64" : "x64";
  const suffix = libc === "musl" ? "-musl" : "";
  return { name: `@oven/bun-linux-${machine}${suffix}`, binary: "bin/bun" };
}

/** What every runtime must pass: attaching in all its kinds, errors, threads, and what they rest on. */
export const CORE = [
  ...["attach", "attach_all", "errors", "headers", "libc", "manage", "nodes", "owned_calls"],
  ...["partition_table", "persist", "struct", "syscalls", "threads"],
].map((name) => `tests/${name}.test.ts`);
