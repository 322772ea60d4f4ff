/**
 * The kernel's numbers as lib/ has them, beside the kernel's own headers, of x86-64 and of aarch64:
 * requests, flags, errors, system calls. They are read from the source, so that none is forgotten.
 */
import { assert, assertEquals } from "@std/assert";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { SYSCALLS } from "../lib/system.ts";
import { output, ROOT, scratch, test } from "./support.ts";

/** Names that are the kernel's. */
const KERNELS = /^(?:(?:AT|F|LO|LOOP|MFD|O|RESOLVE|S|STATX)_\w+|BLK\w+|E(?!NTRIES)[A-Z0-9]+)$/;
/** Linux 6.5: newer than the headers of Debian 12. The same number on every machine (451). */
const NEWER = ["SYS_cachestat"];

const literal = (text: string) => Number(text.replaceAll("_", "").replace(/n$/, ""));

/** Each constant's name, and its value on each machine. */
function constants(): Map<string, { x86_64: number; aarch64: number }> {
  const found = new Map<string, { x86_64: number; aarch64: number }>(
    Object.entries(SYSCALLS).map(([name, numbers]) => [`SYS_${name}`, numbers]),
  );
  const files = readdirSync(join(ROOT, "lib"), { recursive: true }).map(String);
  for (const file of files.filter((file) => file.endsWith(".ts"))) {
    const source = readFileSync(join(ROOT, "lib", file), "utf8");
    const lines = source.matchAll(/^(?:export )?const ([A-Z]\w+)(?:: [^=]+)? = (.*);/gm);
    for (const [, name, text] of lines) {
      if (!KERNELS.test(name)) continue;
      const one = /^(-?)(0?\w+)$/.exec(text);
      if (one) found.set(name, { x86_64: literal(one[2]), aarch64: literal(one[2]) });
    }
  }
  return found;
}

const HEADERS = [
  ...["types", "loop", "fs", "blkpg", "stat", "openat2", "memfd", "fcntl", "major"]
    .map((name) => `linux/${name}.h`),
  ...["asm/fcntl.h", "asm/errno.h", "asm/unistd.h"],
];

/** What the headers say of these names; a name that they do not have is left out. */
function fromHeaders(names: string[], flags: string[]): Map<string, number> {
  const source = scratch("constants.c");
  const lines = names.flatMap((name) => {
    const word = name.replace(/^SYS_/, "__NR_");
    const print = `printf("${name} %lld\\n", (long long)(${word}));`;
    // An enumerator, of which the preprocessor knows nothing.
    return name.startsWith("LO_FLAGS_") ? [print] : [`#ifdef ${word}`, print, "#endif"];
  });
  writeFileSync(
    source,
    HEADERS.map((header) => `#include <${header}>\n`).join("") +
      `typedef unsigned long size_t;\nextern int printf(const char *, ...);\nint main(void) {\n${
        lines.join("\n")
      }\nreturn 0;\n}\n`,
  );
  output(["cc", "-w", ...flags, "-o", scratch("constants"), source]);
  return new Map(
    output([scratch("constants")]).trim().split("\n").map((line) => line.split(" "))
      .map(([name, value]) => [name, Number(value)]),
  );
}

function compare(machine: "x86_64" | "aarch64", flags: string[]): void {
  const ours = constants();
  assert(ours.size > 40, [...ours.keys()].join());
  const theirs = fromHeaders([...ours.keys()], flags);
  const missing = [...ours.keys()].filter((name) => !theirs.has(name));
  assertEquals(missing.filter((name) => !NEWER.includes(name)), []);
  // lib/ has some with a minus: as system calls return errors, and AT_FDCWD.
  for (const [name, value] of theirs) {
    assertEquals([name, ours.get(name)![machine]], [name, Math.abs(value)]);
  }
}

/** The headers of one machine alone, and not the compiler's own. */
const only = (folder: string) => ["-nostdinc", "-isystem", folder];
const X86_64 = [...only("/usr/include/x86_64-linux-gnu"), "-isystem", "/usr/include"];
const AARCH64 = only("/usr/aarch64-linux-gnu/include");

test("lib/ has the kernel's numbers of x86-64", ["cc", "headers of x86-64"], () => {
  compare("x86_64", X86_64);
});

test("lib/ has the kernel's numbers of aarch64", ["cc", "headers of aarch64"], () => {
  compare("aarch64", AARCH64);
});
