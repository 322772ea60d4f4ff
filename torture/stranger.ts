/**
 * Somebody else, who attaches and detaches devices of his own, mounts and adds partitions while a program
 * runs. Lines of stdin say what to do, each is answered with a line of JSON, in whatever order:
 *   ID attach NUMBER FILE           attaches FILE to the device, so that it stays: { diskseq }
 *   ID detach NUMBER                detaches it
 *   ID hold NUMBER MS               keeps it open for so long
 *   ID remove NUMBER                takes the device itself away
 *   ID mount 0 FOLDER               mounts a tmpfs there: { id, point } as mountinfo has it
 *   ID mountDevice NUMBER PART FOLDER   mounts a partition of the device, or with 0 all of it
 *   ID unmount ID POINT             unmounts it, if nothing lies on it
 *   ID add NUMBER                   adds partition 7 of 128 KiB at 1408 KiB
 */
import { execFile } from "node:child_process";
import { closeSync, openSync, rmSync } from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { readOptions } from "../dev/options.ts";
import { attach, detach } from "../mod.ts";
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

const VERBS: Record<string, (number: number, rest: string) => Promise<unknown>> = {
  async attach(number, file) {
    const loop = await attach(file, { number });
    const { diskseq } = loop;
    await loop.persist();
    return { diskseq };
  },
  detach: async (number) => ({ outcome: await detach(`/dev/loop${number}`) }),
  hold(number, ms) {
    const fd = openSync(`/dev/loop${number}`, "r");
    setTimeout(() => closeSync(fd), Number(ms));
    return Promise.resolve({});
  },
  async remove(number) {
    await detach(`/dev/loop${number}`, { remove: true }).catch(() => {});
    rmSync(`/dev/loop${number}`, { force: true });
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
