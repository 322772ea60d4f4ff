/**
 * Pipes.
 *
 * @module
 */
import { libc } from "../runtime/libc.ts";
import { check, O_CLOEXEC, OpenFile } from "./file.ts";
import { SYS } from "./syscalls.ts";

/** `pipe2(O_CLOEXEC)` */
export function pipe(name: string): { readEnd: OpenFile; writeEnd: OpenFile } {
  const pair = new Int32Array(new ArrayBuffer(8));
  check(libc().syscall(SYS("pipe2"), new Uint8Array(pair.buffer), O_CLOEXEC), "pipe2", name);
  return { readEnd: new OpenFile(pair[0], name), writeEnd: new OpenFile(pair[1], name) };
}
