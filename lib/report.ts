/**
 * report(): what this host is, and what attach() will therefore do.
 *
 * @module
 */
import { memoryFile, writeAt } from "./kernel/file.ts";
import { isDevtmpfs } from "./kernel/mountinfo.ts";
import { encodeGpt, mbrSector, type Piece } from "./table/gpt_writer.ts";
import { isAffected, PARTSCAN_RACE, probePartscanRace, scanOnce } from "./binding/partscan_race.ts";
import { bindScratchDevice } from "./binding/scratch_device.ts";
import { boundPartitions, sysfsMaxPart } from "./kernel/sysfs.ts";
import { kernelRelease } from "./kernel/release.ts";
import { REREAD_UNTIL } from "./udev/close_write_race.ts";
import { udevVersion } from "./udev/udev.ts";

/**
 * What {@linkcode report} found.
 *
 * @example
 * ```ts
 * import { type Report } from "@loopdev/loopdev";
 * const isSafe = ({ gate, probe }: Report) => gate === "fixed" && probe !== "affected";
 * ```
 */
export interface Report {
  /** `uname -r`. */
  readonly kernel: string;
  /** What {@linkcode isAffected} says of it. */
  readonly gate: "affected" | "fixed";
  /** What {@linkcode probePartscanRace} says. */
  readonly probe: "affected" | "fixed" | "inconclusive";
  /** Which partition tables the kernel was seen to read; loopdev adds what it cannot. */
  readonly parsers: { readonly gpt: boolean; readonly mbr: boolean };
  /** Version of the running systemd-udevd; `"unknown"` if one runs out of sight (a container). */
  readonly udev: number | "unknown" | "none";
  /** Whether the kernel makes nodes by itself, or /dev is what somebody put there. */
  readonly dev: "devtmpfs" | "static";
  /** loop.max_part; above 0 the kernel scans every device, asked or not. */
  readonly maxPart: number;
  /** What attach() with `partscan: true` and `workaround: "auto"` does here. */
  readonly strategy: "one-step" | "two-step";
  /** Why, in sentences. */
  readonly reasons: readonly string[];
}

/**
 * Says what this host is and what {@linkcode attach} with `partscan: true` will do on it, and why.
 * Binds scratch files to free devices for it, one after another, and leaves nothing behind; takes some 50 ms.
 * Rejects with {@linkcode LoopError} where attach() would.
 *
 * @example
 * ```ts
 * import { report } from "@loopdev/loopdev";
 * const { kernel, strategy, reasons } = await report();
 * console.log(kernel, strategy, reasons.join(" "));
 * ```
 */
export async function report(): Promise<Report> {
  const kernel = kernelRelease();
  const gate = isAffected(kernel) ? "affected" : "fixed";
  const maxPart = sysfsMaxPart();
  const facts = {
    kernel,
    gate,
    probe: await probePartscanRace(),
    parsers: {
      gpt: await isParsed(encodeGpt(SCRATCH_BYTES, [{ start: 65536, size: 65536, type: LINUX }])),
      mbr: await isParsed([{ offset: 0, bytes: mbrSector(0x83, 128, 128) }]),
    },
    udev: udevVersion(),
    dev: kindOfDev(),
    maxPart,
    strategy: gate === "affected" && maxPart === 0 ? "two-step" : "one-step",
  } as const;
  return { ...facts, reasons: explain(facts) };
}

const SCRATCH_BYTES = 1024 * 1024;
const LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4";

/** Whether the kernel finds the partition of this table on a scratch device. */
async function isParsed(table: readonly Piece[]): Promise<boolean> {
  using backing = memoryFile("loopdev-report", SCRATCH_BYTES);
  for (const { offset, bytes } of table) writeAt(backing, offset, bytes);
  using scratch = await bindScratchDevice(backing);
  await scanOnce(scratch.device);
  return boundPartitions(scratch.number).length > 0;
}

function kindOfDev(): Report["dev"] {
  return isDevtmpfs() ? "devtmpfs" : "static";
}

/** What the facts mean, in sentences. */
export function explain(facts: Omit<Report, "reasons">): string[] {
  const { kernel, gate, probe, parsers, udev, dev, maxPart } = facts;
  const reasons = [
    maxPart > 0
      ? `loop.max_part is ${maxPart}: the kernel scans in LOOP_CONFIGURE, asked or not.`
      : gate === "affected"
      ? `Linux ${kernel} has ${PARTSCAN_RACE.name}, or its release does not prove otherwise.`
      : `Partitions do not flicker on Linux ${kernel}: it is free of ${PARTSCAN_RACE.name}.`,
  ];
  if (gate === "affected" && probe === "fixed" && maxPart === 0) {
    reasons.push(
      'The probe shows that it is fixed all the same: workaround "probe" takes one step.',
    );
  }
  if (gate === "fixed" && probe === "affected") {
    reasons.push(
      'The probe shows the race all the same: use workaround "probe", and please report it.',
    );
  }
  if (!parsers.gpt || !parsers.mbr) {
    const missing = [parsers.gpt ? "" : "GPT", parsers.mbr ? "" : "MBR"].filter(Boolean).join(
      " and ",
    );
    reasons.push(`The kernel does not read ${missing}: those partitions are added with BLKPG.`);
  }
  if (typeof udev === "number" && udev < REREAD_UNTIL) {
    reasons.push(
      `systemd-udevd ${udev} re-reads the table when a watched node is closed: ours is not watched.`,
    );
  }
  if (dev === "static") {
    reasons.push(
      "/dev is static: nodes that are missing are made with mknod, and removed at detach.",
    );
  }
  return reasons;
}
