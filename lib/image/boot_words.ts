/**
 * What the configurations of boot loaders call the root: `root=` of a kernel's command line.
 *
 * @module
 */
import type { OpenFile } from "../kernel/file.ts";
import { listBelow, readBelow } from "./files.ts";

/** On a partition of its own, or below /boot of the root. */
const PREFIXES = ["", "boot/"];
const FILES = [
  // Raspberry Pi
  "cmdline.txt",
  "firmware/cmdline.txt",
  // U-Boot, syslinux
  "extlinux/extlinux.conf",
  "syslinux/syslinux.cfg",
  "syslinux.cfg",
  "armbianEnv.txt",
  "uEnv.txt",
  // GRUB
  "grub/grub.cfg",
  "grub2/grub.cfg",
  "EFI/BOOT/grub.cfg",
];
/** The Boot Loader Specification's (UAPI.1). */
const ENTRIES = "loader/entries";
/** A stranger may have made any number of them. */
const MOST_ENTRIES = 64;

/** Each once; also those that no partition has. */
export async function rootWords(root: OpenFile): Promise<string[]> {
  const words = new Set<string>();
  const read = async (name: string) => {
    for (const word of wordsIn(await readBelow(root, name) ?? "")) words.add(word);
  };
  for (const prefix of PREFIXES) {
    for (const name of FILES) await read(prefix + name);
    const entries = await listBelow(root, prefix + ENTRIES);
    for (const name of entries.slice(0, MOST_ENTRIES)) await read(`${prefix}${ENTRIES}/${name}`);
  }
  return [...words];
}

/** Not of a line that is a comment. */
function wordsIn(text: string): string[] {
  const lines = text.split("\n").filter((line) => !/^\s*#/.test(line));
  const found = lines.flatMap((line) => [...line.matchAll(/(?:^|[\s"'])root(?:dev)?=([^\s"']+)/g)]);
  return found.map(([, word]) => word);
}
