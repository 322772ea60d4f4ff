/**
 * inotify(7), for one question: has anybody opened this node? It knows opens by this very inode, those of
 * this process included.
 *
 * @module
 */
import { check, cString, O_CLOEXEC, O_NONBLOCK, OpenFile } from "./file.ts";
import { isErrno } from "../base/errors.ts";
import { libc } from "../runtime/libc.ts";
import { SYS } from "./syscalls.ts";

const IN_OPEN = 0x20;
/** Of several; one with a name as long as it may be would fit, and a watched node's event has none. */
const EVENT_BYTES = 4096;

/** Listens from when it is made. */
export class OpenWatch implements Disposable {
  readonly #queue: OpenFile;
  readonly #buffer = new Uint8Array(new ArrayBuffer(EVENT_BYTES));

  /** ENOENT if there is no such node: then nobody can open it either. */
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

  /** Whether anybody has opened it since the last question. */
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
