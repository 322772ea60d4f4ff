/**
 * Changes a device that is attached.
 *
 * @module
 */
import {
  changeUnchecked,
  loopClrFd,
  loopSetBlockSize,
  loopSetCapacity,
  loopSetDirectIo,
} from "../lib/losetup/change.ts";
import type { OpenFile } from "../lib/losetup/list.ts";
import type { Command } from "./command.ts";
import { Failure } from "./failure.ts";

/** Changes `command.device` as `command.action` says. */
export async function change({ action, device, directIo, sectorSize }: Command): Promise<void> {
  const [what, request] = changes(action, directIo === true, Number(sectorSize ?? 0));
  await changeUnchecked(device!, request).catch((error) => {
    throw new Failure(`${device}: ${what} failed`, error);
  });
}

function changes(
  action: Command["action"],
  directIo: boolean,
  sectorSize: number,
): [what: string, request: (device: OpenFile) => void | Promise<void>] {
  switch (action) {
    case "set-capacity":
      return ["set capacity", loopSetCapacity];
    case "direct-io":
      return ["set direct io", (device) => loopSetDirectIo(device, directIo)];
    case "sector-size":
      return ["set logical block size", (device) => loopSetBlockSize(device, sectorSize)];
    default:
      // With other openers LOOP_CLR_FD only sets LO_FLAGS_AUTOCLEAR.
      return ["set autoclear", loopClrFd];
  }
}
