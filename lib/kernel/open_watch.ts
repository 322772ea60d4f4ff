/**
 * inotify(7), to find out whether anybody opened a node. It counts opens through this inode only, this
 * process's own included.
 *
 * @module
 */
import { check, cString, O_CLOEXEC, O_NONBLOCK, OpenFile } from "./file.ts";
import { isErrno } from "../base/errors.ts";
import { libc } from "../runtime/libc.ts";
import { SYS } from "./syscalls.ts";

const IN_OPEN = 0x20;
/** Room for many events: those of a watched node carry no name. */
const EVENT_BYTES = 4096;

/** Watches from its construction on. */
export class OpenWatch implements Disposable {
  readonly #queue: OpenFile;
  readonly #buffer = new Uint8Array(new ArrayBuffer(EVENT_BYTES));

  /** ENOENT if there is no such node. */
  constructor(path: string) {
    // IN_CLOEXEC and IN_NONBLOCK are the open flags.
    const fd = libc().syscall(SYS("inotify_init1"), O_CLOEXEC | O_NONBLOCK);
    this.#queue = new OpenFile(check(fd, "inotify_init1", path), path);
    const watch = this.#queue.call((fd) =>
      libc().syscall(SYS("inotify_add_watch"), fd, cString(path), IN_OPEN)
    );
    if (watch < 0) this.#queue.close();
    check(watch, "inotify_add_watch", path);
  }

  /** Whether anybody has opened it since the last call. */
  get wasOpened(): boolean {
    const length = this.#queue.call((fd) =>
      libc().syscall(SYS("read"), fd, this.#buffer, EVENT_BYTES)
    );
    return !isErrno(length, "EAGAIN") && check(length, "read", this.#queue.path) > 0;
  }

  [Symbol.dispose](): void {
    this.#queue.close();
  }
}
