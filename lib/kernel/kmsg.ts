/**
 * The kernel's log. File systems tell there why they refuse to mount; few tell the fs context.
 *
 * @module
 */
import { isErrno, unlessRefused } from "../base/errors.ts";
import { decodeName } from "../base/names.ts";
import { libc } from "../runtime/libc.ts";
import { O_NONBLOCK, O_RDONLY, open, type OpenFile } from "./file.ts";
import { SYS } from "./syscalls.ts";

const SEEK_END = 2;
const WARNING = 4;
/** Others may fill the log as fast as we read it. */
const MOST_RECORDS = 1000;

const record = new Uint8Array(new ArrayBuffer(8192));

/** Opens the log at its end; undefined where there is no /dev/kmsg, or this process may not read it. */
export function openKernelLog(): OpenFile | undefined {
  const log = unlessRefused(() => open("/dev/kmsg", O_RDONLY | O_NONBLOCK));
  log?.call((fd) => libc().syscall(SYS("lseek"), fd, 0, SEEK_END));
  return log;
}

/** The errors and warnings since the last read that match. */
export function readKernelLog(log: OpenFile, matches: RegExp): string[] {
  const lines: string[] = [];
  for (let records = 0; records < MOST_RECORDS; records++) {
    const length = log.call((fd) => libc().syscall(SYS("read"), fd, record, record.length));
    // A record was overwritten before we read it: the next read goes on behind it.
    if (isErrno(length, "EPIPE")) continue;
    if (length <= 0) break;
    // "6,1234,5678901,-;message", and lines of properties that begin with a space.
    const text = decodeName(record.subarray(0, length));
    const level = Number(/^\d+/.exec(text)?.[0]) & 7;
    const [said] = text.slice(text.indexOf(";") + 1).split("\n", 1);
    if (level <= WARNING && matches.test(said)) lines.push(said);
  }
  return lines;
}
