/** What an act left in the kernel, and taking it away, so that the next act begins clean. */
import { rmSync, statSync } from "node:fs";
import { output, run } from "../tests/support/support.ts";
import { devicesOf, isBound, partitionsOf, within } from "./common.ts";
import type { Call } from "./strace.ts";

/** A detach by the last close takes effect a moment later. */
const DETACH_MS = 1000;

export interface Leftovers {
  readonly devices: readonly string[];
  readonly partitions: readonly string[];
  /** Those through which loopdev opens a device: they should live for two system calls. */
  readonly nodes: readonly string[];
}

/** Numbers of the loop devices that the calls had to do with. */
export function touched(calls: readonly Call[]): number[] {
  const numbers = calls.flatMap(({ path }) => /^\/dev\/loop(\d+)$/.exec(path)?.[1] ?? []);
  return [...new Set(numbers.map(Number))];
}

/** Numbers of those that the calls have bound. */
export const boundBy = (calls: readonly Call[]): number[] =>
  touched(calls.filter(({ request, result }) => request === "LOOP_CONFIGURE" && result === 0));

/** What is still there, by default a second later, of `images`, and on the devices that were touched; partitions of those that were `ours` for a while. */
export async function leftovers(
  images: readonly string[],
  numbers: readonly number[],
  wait = true,
  ours = numbers,
): Promise<Leftovers> {
  // A neighbour who opens the same device later makes a node of the same name, which is another file.
  const seen = new Map<string, number>();
  const isSame = (node: string) => {
    const inode = statSync(node, { throwIfNoEntry: false })?.ino;
    if (inode !== undefined && !seen.has(node)) seen.set(node, inode);
    return inode !== undefined && seen.get(node) === inode;
  };
  const left = () => ({
    devices: images.flatMap(devicesOf).map(({ number, autoclear }) =>
      `/dev/loop${number}${autoclear ? " (autoclear)" : ""}`
    ),
    // On a device that somebody else has bound by now they are theirs.
    partitions: ours.filter((number) => !isBound(number)).flatMap((number) =>
      partitionsOf(number).map((partition) => `/dev/loop${number}p${partition}`)
    ),
    nodes: numbers.map((number) => `/dev/.loopdev-loop${number}`).filter(isSame),
  });
  let last = left();
  const clean = () => Object.values(last = left()).flat().length === 0;
  await within(wait ? DETACH_MS : 0, clean);
  return last;
}

/** Takes it away: devices are bound to images of ours, partitions lie on a device that is free. */
export function takeAway({ devices, partitions, nodes }: Leftovers): void {
  for (const device of devices) output(["losetup", "--detach", device.split(" ")[0]]);
  for (const partition of partitions) {
    const [, disk, number] = /^(.*)p(\d+)$/.exec(partition)!;
    run(["delpart", disk, number]);
  }
  for (const node of nodes) rmSync(node, { force: true });
}
