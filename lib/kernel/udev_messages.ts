/**
 * What udevd tells the programs that listen to it: every event, with its properties, once its rules
 * have run, its database is written and its links are there.
 *
 * @module
 */
import { check, O_CLOEXEC, O_NONBLOCK, OpenFile } from "./file.ts";
import { libc } from "../runtime/libc.ts";
import { decodeName } from "../base/names.ts";
import { __u16, __u32, struct } from "../base/struct.ts";
import { SYS } from "./syscalls.ts";

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const NETLINK_KOBJECT_UEVENT = 15;
/** libudev's UDEV_MONITOR_UDEV: group 1 is the kernel's own. */
const UDEVD = 2;
/** Of libudev's header; since udev 173 it begins alike, and says where the properties begin. */
const PREFIX = "libudev\0";
const PROPERTIES_OFF = 16;
const MESSAGE_BYTES = 32 * 1024;
const NAME = "udevd's netlink group";

/** `<linux/netlink.h>` */
export const sockaddr_nl = struct("sockaddr_nl", 12, {
  nl_family: __u16,
  nl_pad: __u16,
  nl_pid: __u32,
  nl_groups: __u32,
});

/** Listens from when it is made; needs no privilege. The kernel lets only CAP_NET_ADMIN send here. */
export class UdevMessages implements Disposable {
  readonly #socket: OpenFile;
  readonly #buffer = new Uint8Array(new ArrayBuffer(MESSAGE_BYTES));

  constructor() {
    // SOCK_CLOEXEC and SOCK_NONBLOCK are the open flags.
    const type = SOCK_RAW | O_CLOEXEC | O_NONBLOCK;
    const fd = libc().syscall(SYS("socket"), AF_NETLINK, type, NETLINK_KOBJECT_UEVENT);
    this.#socket = new OpenFile(check(fd, "socket", NAME), NAME);
    const address = sockaddr_nl.encode({ nl_family: AF_NETLINK, nl_groups: UDEVD });
    const bound = this.#socket.call((fd) =>
      libc().syscall(SYS("bind"), fd, address, address.length)
    );
    if (bound < 0) this.#socket.close();
    check(bound, "bind", NAME);
  }

  /** The properties of each event that was told since the last call. */
  take(): Map<string, string>[] {
    const taken: Map<string, string>[] = [];
    for (;;) {
      const length = this.#socket.call((fd) =>
        libc().syscall(SYS("read"), fd, this.#buffer, MESSAGE_BYTES)
      );
      // EAGAIN: that was all. ENOBUFS: what came while the buffer was full is lost; the next look goes on.
      if (length < 0) return taken;
      const message = this.#buffer.subarray(0, length);
      if (decodeName(message.subarray(0, PREFIX.length)) !== PREFIX) continue;
      const view = new DataView(message.buffer, 0, length);
      const properties = decodeName(message.subarray(view.getUint32(PROPERTIES_OFF, true)));
      taken.push(
        new Map(
          properties.split("\0").map((line): [string, string] => {
            const equals = line.indexOf("=");
            return [line.slice(0, equals), line.slice(equals + 1)];
          }),
        ),
      );
    }
  }

  [Symbol.dispose](): void {
    this.#socket.close();
  }
}
