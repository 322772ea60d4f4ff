/**
 * Somebody else, who attaches and detaches devices of his own while a program runs. Lines of stdin
 * say what to do, each is answered with a line of JSON, in whatever order:
 *   ID attach NUMBER FILE    attaches FILE to the device, so that it stays: { diskseq }
 *   ID detach NUMBER         detaches it
 *   ID hold NUMBER MS        keeps it open for so long
 *   ID remove NUMBER         takes the device itself away
 */
import { closeSync, openSync, rmSync } from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";
import { readOptions } from "../dev/options.ts";
import { attach, detach } from "../mod.ts";

const HELP = `Usage: torture/stranger.ts

Somebody else on the machine, for part "interleave". It reads what to do from stdin.

  -h, --help  this text`;
readOptions(HELP, {});

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
};

console.log("ready");
for await (const line of createInterface({ input: process.stdin })) {
  const [, id, verb, number, rest] = /^(\d+) (\w+) (\d+) ?(.*)$/.exec(line)!;
  VERBS[verb](Number(number), rest).then(
    (answer) => console.log(JSON.stringify({ id, answer })),
    ({ message }) => console.log(JSON.stringify({ id, error: message })),
  );
}
