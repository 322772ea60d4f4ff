/**
 * Listens to the kernel's uevents: what udevd hears, before udevd has touched it.
 *
 * The kernel multicasts every uevent on netlink group 1 (udevd repeats them, with its own
 * properties, on group 2, which nobody here reads). A partition that appears is one `add`, one that
 * is dropped is one `remove`: counting both shows a flicker that polling /sys would miss.
 *
 * @module
 */
import { libc } from "../../examples/libc.ts";

/** A block device's uevent; every KEY=VALUE the kernel sent is in `env`. */
export interface Uevent {
  action: string;
  devpath: string;
  seqnum: number;
  env: Record<string, string>;
}

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const NETLINK_KOBJECT_UEVENT = 15;
const SOL_SOCKET = 1;
const SO_RCVBUFFORCE = 33;
const POLLIN = 1;
const EINTR = 4;
const EAGAIN = 11;
const ENOBUFS = 105;
/** The kernel's UEVENT_BUFFER_SIZE is 2 KiB; the header adds the path. */
const MESSAGE_BYTES = 8192;

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
  readonly #fd: number;
  readonly #buffer = new Uint8Array(MESSAGE_BYTES);
  readonly #pollfd = new Uint8Array(8);
  #received = 0;
  #lowest = Infinity;
  #highest = 0;

  constructor() {
    this.#fd = libc.socket(
      AF_NETLINK,
      SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK,
      NETLINK_KOBJECT_UEVENT,
    );
    if (this.#fd < 0) throw new Error(`socket(NETLINK_KOBJECT_UEVENT): errno ${libc.errno()}`);
    const size = new Uint8Array(new Int32Array([16 << 20]).buffer);
    libc.setsockopt(this.#fd, SOL_SOCKET, SO_RCVBUFFORCE, size, 4);
    const sockaddr_nl = new Uint8Array(12);
    new DataView(sockaddr_nl.buffer).setUint16(0, AF_NETLINK, true);
    new DataView(sockaddr_nl.buffer).setUint32(8, 1, true); // nl_groups: the kernel's own events
    if (libc.bind(this.#fd, sockaddr_nl, 12) < 0) {
      throw new Error(`bind(NETLINK_KOBJECT_UEVENT): errno ${libc.errno()}`);
    }
    new DataView(this.#pollfd.buffer).setInt32(0, this.#fd, true);
    new DataView(this.#pollfd.buffer).setInt16(4, POLLIN, true);
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
      const length = libc.recv(this.#fd, this.#buffer, MESSAGE_BYTES, 0);
      if (length < 0) {
        const errno = libc.errno();
        if (errno === EAGAIN) return events;
        if (errno === ENOBUFS) this.overruns++;
        else if (errno !== EINTR) throw new Error(`recv(NETLINK_KOBJECT_UEVENT): errno ${errno}`);
        continue;
      }
      const event = parseUevent(this.#buffer.subarray(0, length));
      if (event === undefined) continue;
      this.#received++;
      this.#lowest = Math.min(this.#lowest, event.seqnum);
      this.#highest = Math.max(this.#highest, event.seqnum);
      events.push(event);
    }
  }

  /** Throws away every event that has arrived, without decoding it. */
  discard(): void {
    while (libc.recv(this.#fd, this.#buffer, MESSAGE_BYTES, 0) > 0);
  }

  /** Blocks the thread until an event has arrived or the time is over. */
  wait(milliseconds: number): boolean {
    return libc.poll(this.#pollfd, 1, milliseconds) > 0;
  }

  [Symbol.dispose](): void {
    libc.close(this.#fd);
  }
}
