/**
 * Looks whether a command can be executed, before it is: its exit code alone, 127, would not tell why not.
 *
 * @module
 */
import { isErrno, LoopError } from "../base/errors.ts";
import { decodeName } from "../base/names.ts";
import { chainOnThread } from "../kernel/chain.ts";
import {
  check,
  cString,
  ifAllowed,
  listDirectory,
  O_CLOEXEC,
  O_NONBLOCK,
  O_RDONLY,
  OpenFile,
  readAt,
  readText,
} from "../kernel/file.ts";
import { fileStatus } from "../kernel/stat.ts";
import { machine as ownMachine } from "../kernel/syscalls.ts";
import { find, type Root } from "./run_tree.ts";

/** Where the command is looked for. */
export interface Lookup {
  readonly root: Root;
  /** Folders as in PATH. */
  readonly path: string;
  /** What a name with a slash, but none at its beginning, counts from. */
  readonly directory: string;
  /** "the image", or "this machine". */
  readonly whose: string;
}

/** A `#!` line may name a script. The kernel follows four. */
const MOST_SCRIPTS = 4;
/** The kernel looks at 256 bytes; the program headers follow the ELF header soon. */
const HEAD_BYTES = 4096;

/** Rejects with LoopError if the command is not there, or the kernel could not execute it. */
export async function checkCommand(program: string, lookup: Lookup): Promise<void> {
  const { whose, path, directory } = lookup;
  const candidates = program.includes("/")
    ? [program.startsWith("/") ? program : `${directory}/${program}`]
    : path.split(":").map((folder) => `${folder || directory}/${program}`);
  for (const candidate of candidates) {
    const head = await headOf(lookup.root, candidate);
    if (head) return await checkHead(head, candidate, lookup, 0);
  }
  for (const candidate of candidates) {
    if ((await find(lookup.root, candidate))?.type !== "file") continue;
    const hint = `${candidate} is there, and nobody may execute it: chmod +x`;
    throw new LoopError({ code: "EACCES", path: program, hint });
  }
  const hint = [
    `${whose} has no such program`,
    program.includes("/") ? "" : ` in the folders of PATH, ${path}`,
    /\s/.test(program) ? '; a command and its arguments are an array: ["ls", "-l"]' : "",
  ].join("");
  throw new LoopError({ code: "ENOENT", path: program, hint });
}

/** The beginning of a file that can be executed. */
async function headOf(root: Root, name: string): Promise<Uint8Array | undefined> {
  const found = await find(root, name);
  if (found?.type !== "file") return undefined;
  const flags = O_RDONLY | O_NONBLOCK | O_CLOEXEC;
  const path = cString(found.below);
  const [fd] = await root.file.callOnThread((fd) =>
    chainOnThread([{ name: "openat", args: [fd, path, flags, 0] }])
  );
  if (isErrno(fd, "ENOENT")) return undefined;
  check(fd, "open", name);
  using file = new OpenFile(fd, name);
  return (fileStatus(file).mode & 0o111) === 0 ? undefined : readAt(file, 0, HEAD_BYTES);
}

async function checkHead(
  head: Uint8Array,
  name: string,
  lookup: Lookup,
  scripts: number,
): Promise<void> {
  const elf = readElf(head);
  if (elf) return await checkElf(elf, head, name, lookup);
  const [, interpreter] = /^#![ \t]*([^ \t\n]+)/.exec(decodeName(head.subarray(0, 256))) ?? [];
  if (interpreter === undefined || scripts === MOST_SCRIPTS) return;
  const next = await headOf(lookup.root, `/${interpreter}`);
  if (next) return await checkHead(next, interpreter, lookup, scripts + 1);
  const hint = `${name} is a script for it, and ${lookup.whose} has no such program`;
  throw new LoopError({ code: "ENOENT", path: interpreter, hint });
}

interface Elf {
  readonly machine: number;
  /** The dynamic linker that it asks for. */
  readonly interpreter: string | undefined;
}

const PT_INTERP = 3;

/** `<linux/elf.h>` */
function readElf(head: Uint8Array): Elf | undefined {
  if (head.length < 64 || decodeName(head.subarray(1, 4)) !== "ELF" || head[0] !== 0x7f) return;
  const view = new DataView(head.buffer, head.byteOffset, head.length);
  const little = head[5] === 1;
  const machine = view.getUint16(18, little);
  if (head[4] !== 2) return { machine, interpreter: undefined };
  const [table, size, count] = [
    Number(view.getBigUint64(32, little)),
    view.getUint16(54, little),
    view.getUint16(56, little),
  ];
  for (let i = 0; i < count; i++) {
    const at = table + i * size;
    if (at + 56 > head.length) break;
    if (view.getUint32(at, little) !== PT_INTERP) continue;
    const begin = Number(view.getBigUint64(at + 8, little));
    const end = begin + Number(view.getBigUint64(at + 32, little)) - 1;
    if (end <= head.length) {
      return { machine, interpreter: decodeName(head.subarray(begin, end)) };
    }
  }
  return { machine, interpreter: undefined };
}

/** `e_machine`: what `<linux/elf-em.h>` calls it, and QEMU. */
const MACHINES: Readonly<Record<number, string>> = {
  3: "i386",
  8: "mips",
  20: "ppc",
  21: "ppc64",
  22: "s390x",
  40: "arm",
  62: "x86_64",
  183: "aarch64",
  243: "riscv64",
  258: "loongarch64",
};
/** What the kernel of a machine executes itself, where it was built to. */
const NATIVE = { x86_64: [62, 3], aarch64: [183, 40] } as const;

async function checkElf(
  { machine, interpreter }: Elf,
  head: Uint8Array,
  name: string,
  { root, whose }: Lookup,
): Promise<void> {
  const host = ownMachine();
  if (!(NATIVE[host] as readonly number[]).includes(machine)) {
    const emulator = emulatorFor(head);
    if (emulator && (emulator.isOpen || await headOf(root, emulator.path))) return;
    const called = MACHINES[machine] ?? `machine ${machine}`;
    const hint = emulator
      ? `it is a program for ${called}, and binfmt_misc names ${emulator.path} for it, which the ` +
        "image does not have: register it with the flag F (install qemu-user-static), or copy it there"
      : `it is a program for ${called}, and this machine is ${host}: install qemu-user-static and ` +
        "binfmt-support (Fedora: qemu-user-static; Arch: qemu-user-static-binfmt), which register " +
        "an emulator for it";
    throw new LoopError({ code: "ENOEXEC", path: name, hint });
  }
  if (interpreter === undefined || await headOf(root, interpreter)) return;
  const hint = `${name} needs it to be started (its dynamic linker), and ${whose} does not have it`;
  throw new LoopError({ code: "ENOENT", path: interpreter, hint });
}

const BINFMT = "/proc/sys/fs/binfmt_misc";

/** The emulator that the kernel takes for a file that begins so. `isOpen`: the image need not have it. */
function emulatorFor(head: Uint8Array): { path: string; isOpen: boolean } | undefined {
  const names = ifAllowed(() => listDirectory(BINFMT)) ?? [];
  if (ifAllowed(() => readText(`${BINFMT}/status`)) !== "enabled") return undefined;
  for (const name of names) {
    if (name === "register" || name === "status") continue;
    const text = ifAllowed(() => readText(`${BINFMT}/${name}`)) ?? "";
    const field = (key: string) => new RegExp(`^${key}:? (.*)$`, "m").exec(text)?.[1];
    const [path, offset, magic] = [field("interpreter"), field("offset"), field("magic")];
    if (!text.startsWith("enabled") || path === undefined || magic === undefined) continue;
    const mask = field("mask");
    const isAlike = bytesOf(magic).every((byte, i) => {
      const bits = mask === undefined ? 0xff : bytesOf(mask)[i];
      return ((head[Number(offset) + i] ^ byte) & bits) === 0;
    });
    if (isAlike) return { path, isOpen: field("flags")?.includes("F") ?? false };
  }
}

const bytesOf = (hex: string) => hex.match(/../g)!.map((byte) => parseInt(byte, 16));
