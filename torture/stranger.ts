/**
 * Somebody else, who attaches and detaches devices of his own, mounts and adds partitions while a program
 * runs. Lines of stdin say what to do, each is answered with a line of JSON, in whatever order:
 *   ID attach NUMBER FILE           attaches FILE to the device, so that it stays: { diskseq }
 *   ID detach NUMBER                detaches it, if it is still in that use
 *   ID hold NUMBER MS               keeps it open for so long
 *   ID remove NUMBER                takes the device itself away, if it is free
 *   ID mount 0 FOLDER               mounts a tmpfs there: { id, point } as mountinfo has it
 *   ID mountDevice NUMBER PART FOLDER   mounts a partition of the device, or with 0 all of it
 *   ID unmount ID POINT             unmounts it, if nothing lies on it
 *   ID add NUMBER                   adds partition 7 of 128 KiB at 1408 KiB
 */
import { execFile } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { readOptions } from "../dev/options.ts";
import { attach, openLoop } from "../mod.ts";
import { removeMade } from "../tests/support/own_devices.ts";
import { STRANGERS_PARTITION } from "./images.ts";
import { mountInfo, topmost } from "./seen.ts";

const HELP = `Usage: torture/stranger.ts

Somebody else on the machine, for part "interleave". It reads what to do from stdin.

  -h, --help  this text`;
readOptions(HELP, {});

const execute = promisify(execFile);

/** What lies there when mount(8) has ended: nobody else mounts there meanwhile. */
async function mounted(folder: string, ...args: string[]): Promise<object> {
  await execute("mount", [...args, folder]);
  const { id, point } = topmost(folder)!;
  return { id, point };
}

/** The last use that he has made of each device: its diskseq. */
const his = new Map<number, number | undefined>();

const VERBS: Record<string, (number: number, rest: string) => Promise<unknown>> = {
  async attach(number, file) {
    const loop = await attach(file, { number });
    const { diskseq } = loop;
    his.set(number, diskseq);
    await loop.persist();
    return { diskseq };
  },
  async detach(number) {
    const loop = await openLoop(`/dev/loop${number}`);
    // A free device is offered to everybody.
    if (loop.diskseq === his.get(number)) return { outcome: await loop.detach() };
    await loop[Symbol.asyncDispose]();
    throw new Error(`/dev/loop${number} is somebody else's`);
  },
  hold(number, ms) {
    const fd = openSync(`/dev/loop${number}`, "r");
    setTimeout(() => closeSync(fd), Number(ms));
    return Promise.resolve({});
  },
  async remove(number) {
    await removeMade([number]);
    return {};
  },
  mount: (_, folder) => mounted(folder, "-t", "tmpfs", "-o", "size=64k", "loopdev-stranger"),
  mountDevice(number, rest) {
    const [part, folder] = rest.split(" ");
    return mounted(folder, "-t", "ext4", `/dev/loop${number}${part === "0" ? "" : `p${part}`}`);
  },
  async unmount(id, point) {
    const all = mountInfo();
    const isThere = all.some((one) => one.id === id && one.point === point);
    const isCovered = all.some(({ parent }) => parent === id);
    if (!isThere || isCovered) throw new Error(`mount ${id} is ${isThere ? "covered" : "gone"}`);
    await execute("umount", [point]);
    return {};
  },
  async add(number) {
    const { number: partition, start, count } = STRANGERS_PARTITION;
    await execute("addpart", [`/dev/loop${number}`, ...[partition, start, count].map(String)]);
    return {};
  },
};

console.log("ready");
for await (const line of createInterface({ input: process.stdin })) {
  const [, id, verb, number, rest] = /^(\d+) (\w+) (\d+) ?(.*)$/.exec(line)!;
  VERBS[verb](Number(number), rest).then(
    (answer) => console.log(JSON.stringify({ id, answer })),
    ({ message }) => console.log(JSON.stringify({ id, error: message })),
  );
}
