/**
 * What changes a device that is attached.
 *
 * @module
 */
import { FROZEN } from "../lib/bind.ts";
import { O_RDONLY, open, type OpenFile } from "../lib/kernel/file.ts";
import {
  loopClrFd,
  loopSetBlockSize,
  loopSetCapacity,
  loopSetDirectIo,
} from "../lib/kernel/loop.ts";
import { retry } from "../lib/base/retry.ts";
import type { Command } from "./command.ts";
import { Failure } from "./failure.ts";

/** Changes `command.device` as `command.action` says. */
export async function change({ action, device, directIo, sectorSize }: Command): Promise<void> {
  const [what, request] = changes(action, directIo === true, Number(sectorSize ?? 0));
  try {
    using opened = open(device!, O_RDONLY);
    await request(opened);
  } catch (error) {
    throw new Failure(`${device}: ${what} failed`, error);
  }
}

function changes(
  action: Command["action"],
  directIo: boolean,
  sectorSize: number,
): [what: string, request: (device: OpenFile) => void | Promise<void>] {
  switch (action) {
    case "set-capacity":
      return ["set capacity", (device) => retry(FROZEN, () => loopSetCapacity(device))];
    case "direct-io":
      return [
        "set direct io",
        (device) => retry(FROZEN, () => loopSetDirectIo(device, directIo)),
      ];
    case "sector-size":
      return [
        "set logical block size",
        (device) => retry(FROZEN, () => loopSetBlockSize(device, sectorSize)),
      ];
    default:
      // With other openers this sets LO_FLAGS_AUTOCLEAR and no more, also where LOOP_SET_STATUS64
      // answers EBUSY while the device is mounted (from 6.19).
      return ["set autoclear", loopClrFd];
  }
}
