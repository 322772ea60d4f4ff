/**
 * What a program sees of udevd, without udevd: it takes the kernel's uevents, writes an entry in
 * /run/udev/data for each, and tells its listeners, as late as it is asked to. Prints "ready".
 *
 *     fake_udevd.ts DISK [delay=MS] [silent] [chatty] [forgets=N]
 *
 *     delay     how long an event of a partition takes
 *     silent    the listeners are in another network namespace
 *     chatty    before each event the listeners get what is none of a block device's
 *     forgets   of so many events nothing comes: of a locked device's, before systemd 251
 */
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import process from "node:process";
import { type Uevent, UeventSocket } from "../../tools/race_check/uevents.ts";
import { libcCall, must, zeroed } from "./libc_call.ts";

const socket = libcCall("socket", "i32", "i32", "i32");
const sendto = libcCall("sendto", "i32", "buffer", "u64", "i32", "buffer", "i32");

const AF_NETLINK = 16, SOCK_RAW = 3, SOCK_CLOEXEC = 0o2000000, NETLINK_KOBJECT_UEVENT = 15;
const ECONNREFUSED = -111;

const [disk, ...words] = process.argv.slice(2);
const number = (name: string) =>
  Number(words.find((word) => word.startsWith(`${name}=`))?.split("=")[1] ?? 0);
let forgets = number("forgets");

/** struct udev_monitor_netlink_header, whose filters nobody here uses, and the properties behind it. */
function message(env: Record<string, string>, sender = "libudev"): Uint8Array {
  const lines = Object.entries({ ...env, USEC_INITIALIZED: "1" })
    .map(([name, value]) => `${name}=${value}\0`).join("");
  const properties = new TextEncoder().encode(lines);
  const bytes = zeroed(40 + properties.length);
  const view = new DataView(bytes.buffer);
  bytes.set(new TextEncoder().encode(`${sender}\0`));
  view.setUint32(8, 0xfeedcafe);
  [40, 40, properties.length].forEach((value, i) => view.setUint32(12 + 4 * i, value, true));
  bytes.set(properties, 40);
  return bytes;
}

const group = zeroed(12);
new DataView(group.buffer).setUint16(0, AF_NETLINK, true);
new DataView(group.buffer).setUint32(8, 2, true);
const fd = must(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT), "socket");

async function work(event: Uevent): Promise<void> {
  const of = `${event.devpath}/`.includes(`/block/${disk}/`);
  if (event.env.SUBSYSTEM !== "block" || !of) return;
  if (forgets > 0 && event.env.SYNTH_UUID) return void forgets--;
  if (event.env.DEVTYPE === "partition") {
    await new Promise((resolve) => setTimeout(resolve, number("delay")));
  }
  const entry = `/run/udev/data/b${event.env.MAJOR}:${event.env.MINOR}`;
  if (event.action === "remove") {
    rmSync(entry, { force: true });
  } else {
    writeFileSync(`${entry}.new`, `I:1\nE:EVENT=${event.seqnum}\n`);
    renameSync(`${entry}.new`, entry);
  }
  if (words.includes("silent")) return;
  if (words.includes("chatty")) {
    tell(message(event.env, "another"));
    tell(message({ ...event.env, SUBSYSTEM: "net" }));
    tell(message({ SUBSYSTEM: "block" }));
  }
  tell(message(event.env));
}

function tell(bytes: Uint8Array): void {
  const sent = sendto(fd, bytes, bytes.length, 0, group, group.length);
  if (sent !== ECONNREFUSED) must(sent, "sendto");
}

mkdirSync("/run/udev/data", { recursive: true });
writeFileSync("/run/udev/control", "");
using kernel = new UeventSocket();
console.log("ready");
for (const parent = process.ppid; existsSync(`/proc/${parent}`) && process.ppid === parent;) {
  const events = kernel.drain();
  if (events.length > 0) writeFileSync("/run/udev/queue", "");
  for (const event of events) await work(event);
  rmSync("/run/udev/queue", { force: true });
  await new Promise((resolve) => setTimeout(resolve, 1));
}
