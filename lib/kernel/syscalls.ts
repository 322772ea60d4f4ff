/**
 * What differs between the machines: numbers of system calls, and flags.
 *
 * @module
 */
import type { Machine } from "../runtime/contract.ts";
import { libc } from "../runtime/libc.ts";
import { SYSCALLS } from "../runtime/syscall_numbers.ts";

export type SyscallName = keyof typeof SYSCALLS;

/** The machine whose programs this process can run: "x86_64". */
export function machine(): Machine {
  return libc().machine;
}

/** The number of a system call on this machine. */
export function SYS(name: SyscallName): number {
  return SYSCALLS[name][machine()];
}

/** `<asm/fcntl.h>`: open flags that differ between the machines. */
export const OPEN_FLAGS = {
  O_DIRECTORY: { x86_64: 0o200000, aarch64: 0o40000 },
  O_NOFOLLOW: { x86_64: 0o400000, aarch64: 0o100000 },
} satisfies Record<string, Record<Machine, number>>;

export function openFlag(name: keyof typeof OPEN_FLAGS): number {
  return OPEN_FLAGS[name][machine()];
}
