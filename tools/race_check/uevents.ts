/**
 * Listens to the kernel's uevents: what udevd hears, before udevd has touched it.
 *
 * The kernel multicasts every uevent on netlink group 1 (udevd repeats them, with its own
 * properties, on group 2, which nobody here reads). A partition that appears is one `add`, one that
 * is dropped is one `remove`: counting both shows a flicker that polling /sys would miss.
 *
 * @module
 */
import { isErrno } from "../../lib/base/errors.ts";
import { __u16, int, long_long, struct } from "../../lib/base/struct.ts";
import { check } from "../../lib/kernel/file.ts";
import { SYS } from "../../lib/kernel/syscalls.ts";
import { UeventGroup } from "../../lib/kernel/uevents.ts";
import { libc } from "../../lib/runtime/libc.ts";

/** A block device's uevent; every KEY=VALUE the kernel sent is in `env`. */
export interface Uevent {
  action: string;
  devpath: string;
  seqnum: number;
  env: Record<string, string>;
}

const SETSOCKOPT = { x86_64: 54, aarch64: 208 };
const SOL_SOCKET = 1;
const SO_RCVBUFFORCE = 33;
const POLLIN = 1;
const ENOBUFS = 105;

const pollfd = struct("pollfd", 8, { fd: int, events: __u16, revents: __u16 });
const timespec = struct("__kernel_timespec", 16, { tv_sec: long_long, tv_nsec: long_long });

const decoder = new TextDecoder();

/** Decodes `add@/devices/…\0ACTION=add\0…`; undefined for anything else. */
export function parseUevent(message: Uint8Array): Uevent | undefined {
  const [header, ...fields] = decoder.decode(message).split("\0");
  if (!/^[a-z]+@\//.test(header)) return undefined;
  const env: Record<string, string> = {};
  for (const field of fields) {
    const equals = field.indexOf("=");
    if (equals > 0) env[field.slice(0, equals)] = field.slice(equals + 1);
  }
  return { action: env.ACTION, devpath: env.DEVPATH, seqnum: Number(env.SEQNUM), env };
}

/** A NETLINK_KOBJECT_UEVENT socket. Needs no privilege; as root its buffer is 16 MiB. */
export class UeventSocket implements Disposable {
  /** How often the kernel dropped events because our buffer was full (ENOBUFS). */
  overruns = 0;
  readonly #group = new UeventGroup("kernel");
  #received = 0;
  #lowest = Infinity;
  #highest = 0;

  constructor() {
    const size = new Uint8Array(Int32Array.of(16 << 20).buffer);
    this.#group.socket.call((fd) =>
      libc().syscall(SETSOCKOPT[libc().machine], fd, SOL_SOCKET, SO_RCVBUFFORCE, size, 4)
    );
  }

  /**
   * Events of this machine that never reached us, by their numbers. Newer kernels number an event
   * before they take the lock under which they send it, so order proves nothing and only the count
   * does. In a network namespace other than the first, gaps are normal (foreign interfaces).
   */
  get missing(): number {
    return this.#received === 0 ? 0 : this.#highest - this.#lowest + 1 - this.#received;
  }

  /** Takes every event that has arrived; never blocks. */
  drain(): Uevent[] {
    const events: Uevent[] = [];
    for (;;) {
      const message = this.#group.read();
      if (typeof message === "number") {
        if (isErrno(message, "EAGAIN")) return events;
        if (message === -ENOBUFS) this.overruns++;
        else if (!isErrno(message, "EINTR")) check(message, "read", this.#group.socket.path);
        continue;
      }
      const event = parseUevent(message);
      if (event === undefined) continue;
      this.#received++;
      this.#lowest = Math.min(this.#lowest, event.seqnum);
      this.#highest = Math.max(this.#highest, event.seqnum);
      events.push(event);
    }
  }

  /** Throws away every event that has arrived, without decoding it. */
  discard(): void {
    while (typeof this.#group.read() !== "number");
  }

  /** Blocks the thread until an event has arrived or the time is over. */
  wait(milliseconds: number): boolean {
    // The kernel writes what is left of the time into it.
    const time = timespec.encode({
      tv_sec: BigInt(Math.floor(milliseconds / 1000)),
      tv_nsec: BigInt(milliseconds % 1000 * 1e6),
    });
    return this.#group.socket.call((fd) =>
      libc().syscall(SYS("ppoll"), pollfd.encode({ fd, events: POLLIN }), 1, time, 0, 0)
    ) > 0;
  }

  [Symbol.dispose](): void {
    this.#group[Symbol.dispose]();
  }
}
