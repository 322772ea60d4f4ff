/** What the kernel shows of a lane's devices and mounts, asked by sysfs and mountinfo, not by the library. */
import { readdirSync, readFileSync } from "node:fs";
import { partitionsOf } from "./common.ts";

/** undefined of a device that is not bound, or ends just then. */
export function sysfs(number: number, attribute: string): string | undefined {
  try {
    return readFileSync(`/sys/block/loop${number}/${attribute}`, "utf8").trim();
  } catch {
    return undefined;
  }
}

/** A line of mountinfo. */
export interface MountLine {
  readonly id: number;
  readonly parent: number;
  readonly point: string;
  readonly source: string;
}

/** In the order in which they were mounted. No path of the torture's own has a space. */
export function mountInfo(): MountLine[] {
  return readFileSync("/proc/self/mountinfo", "utf8").trim().split("\n").map((line) => {
    const [mount, rest] = line.split(" - ");
    const [id, parent, , , point] = mount.split(" ");
    return { id: Number(id), parent: Number(parent), point, source: rest.split(" ")[1] };
  });
}

/** The mount that a path leads to, of those that lie just there; `source`: of those of that device. */
export function topmost(point: string, source?: string): MountLine | undefined {
  return mountInfo().findLast((one) =>
    one.point === point && (source === undefined || one.source === source)
  );
}

/** A device while it is bound. */
export interface SeenDevice {
  readonly file: string;
  readonly auto: boolean;
  readonly sector: number;
  readonly parts: readonly number[];
}

export interface Seen {
  /** By "NUMBER:DISKSEQ", which names the use. */
  readonly devices: Readonly<Record<string, SeenDevice>>;
  /** Each as "ID POINT". */
  readonly mounts: ReadonlySet<string>;
}

/** Of the devices that are bound to the files of that prefix: `nameOf` gives what the lane calls one. */
export function look(nameOf: (backing: string) => string | undefined): Seen {
  const devices: Record<string, SeenDevice> = {};
  for (const entry of readdirSync("/sys/block")) {
    const number = Number(/^loop(\d+)$/.exec(entry)?.[1] ?? NaN);
    if (Number.isNaN(number)) continue;
    const file = nameOf(sysfs(number, "loop/backing_file") ?? "");
    const diskseq = sysfs(number, "diskseq");
    if (file === undefined || diskseq === undefined) continue;
    devices[`${number}:${diskseq}`] = {
      file,
      auto: sysfs(number, "loop/autoclear") === "1",
      sector: Number(sysfs(number, "queue/logical_block_size")),
      parts: partitionsOf(number).sort((a, b) => a - b),
    };
  }
  return { devices, mounts: new Set(mountInfo().map(({ id, point }) => `${id} ${point}`)) };
}
