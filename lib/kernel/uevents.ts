/**
 * NETLINK_KOBJECT_UEVENT: the socket on which the kernel sends its uevents, and udevd sends each again once
 * it has processed it.
 *
 * @module
 */
import { check, O_CLOEXEC, O_NONBLOCK, OpenFile } from "./file.ts";
import { libc } from "../runtime/libc.ts";
import { __u16, __u32, struct } from "../base/struct.ts";
import { SYS } from "./syscalls.ts";

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const NETLINK_KOBJECT_UEVENT = 15;
/** Room for udevd's messages with all their properties; the kernel's have at most 2 KiB and a path. */
const MESSAGE_BYTES = 32 * 1024;

/** libudev's UDEV_MONITOR_KERNEL and UDEV_MONITOR_UDEV. */
const GROUPS = { kernel: 1, udevd: 2 };

/** `<linux/netlink.h>` */
export const sockaddr_nl = struct("sockaddr_nl", 12, {
  nl_family: __u16,
  nl_pad: __u16,
  nl_pid: __u32,
  nl_groups: __u32,
});

/**
 * Listens from its construction on. Listening needs no privilege; sending needs CAP_NET_ADMIN, so that the
 * messages can be trusted.
 */
export class UeventGroup implements Disposable {
  readonly socket: OpenFile;
  readonly #buffer = new Uint8Array(new ArrayBuffer(MESSAGE_BYTES));

  constructor(sender: keyof typeof GROUPS) {
    const name = `${sender}'s netlink group`;
    // SOCK_CLOEXEC and SOCK_NONBLOCK are the open flags.
    const type = SOCK_RAW | O_CLOEXEC | O_NONBLOCK;
    const fd = libc().syscall(SYS("socket"), AF_NETLINK, type, NETLINK_KOBJECT_UEVENT);
    this.socket = new OpenFile(check(fd, "socket", name), name);
    const address = sockaddr_nl.encode({ nl_family: AF_NETLINK, nl_groups: GROUPS[sender] });
    const bound = this.socket.call((fd) =>
      libc().syscall(SYS("bind"), fd, address, address.length)
    );
    if (bound < 0) this.socket.close();
    check(bound, "bind", name);
  }

  /**
   * The next message, valid until the next call, or −errno. EAGAIN: there is none yet. ENOBUFS: the
   * kernel dropped some because the socket's buffer was full; the next call goes on.
   */
  read(): Uint8Array<ArrayBuffer> | number {
    const length = this.socket.call((fd) =>
      libc().syscall(SYS("read"), fd, this.#buffer, MESSAGE_BYTES)
    );
    return length < 0 ? length : this.#buffer.subarray(0, length);
  }

  [Symbol.dispose](): void {
    this.socket.close();
  }
}
