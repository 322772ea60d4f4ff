/**
 * What is on a device that shows no file system, and what can be done with it.
 *
 * @module
 */
import { LoopError } from "../base/errors.ts";
import { checkCommand } from "./causes.ts";
import { type OtherContent, otherContentOf } from "./file_system.ts";
import { sysfsPartitions } from "../kernel/sysfs.ts";
import { describeWrapper } from "../superblocks/file_systems.ts";

/** A device that a process which does not look has bound, or whose file was cut since. */
export const NO_BYTES =
  "the device has 0 bytes, as of its file it has whole 512-byte sectors: make the " +
  "file longer (truncate -s), then setCapacity() of the device's handle takes its size over";

const NONE = "no file system that is known here is on it";

/** A device that shows no file system. */
export async function refuseUnknown(
  { device, number, partition }: { device: string; number: number; partition?: number },
): Promise<LoopError> {
  const known = partition === undefined ? sysfsPartitions(number).map(({ number }) => number) : [];
  const hint = known.length > 0
    ? `it has no file system but partitions: mount one of ${known.join(", ")}`
    : await describeUnknown(device);
  return new LoopError({ code: "EINVAL", path: device, hint });
}

async function describeUnknown(device: string): Promise<string> {
  const content = await otherContentOf(device);
  const certain = certainly(content);
  if (certain !== undefined) return certain;
  const { torn, other, isZero } = content;
  if (torn.length > 0) {
    const type = torn.at(-1)!;
    const check = checkCommand({ type, device });
    return `${NONE} but the magic number of ${torn.join(", ")}: the rest of that superblock is ` +
      `damaged, or of a kind that is not known here. With type: "${type}" the driver says more` +
      (check ? `, and so does ${check}` : "");
  }
  if (other !== undefined) {
    return `it seems to hold ${other.name}, which is not told by itself: mount it with type: ` +
      `"${other.type}"`;
  }
  return isZero === undefined
    ? `${NONE}, and what was read of it is zero`
    : `${NONE}, and it is not empty: say which with type`;
}

/** What is there instead of a file system of any type. Never mkfs where anything is. */
function certainly({ size, container, partitions, wrapper, isZero }: OtherContent) {
  if (size === 0) return NO_BYTES;
  if (container !== undefined) return `it holds no file system but ${container}`;
  if (partitions !== undefined) {
    const numbers = partitions.join(", ");
    return "it has no file system but a partition table" +
      (numbers === ""
        ? " without a partition"
        : ` with ${numbers}, which the kernel does not show: rescan(), or attach the image with ` +
          "partscan, and mount one of them");
  }
  if (wrapper !== undefined) return describeWrapper(wrapper);
  return isZero ? `${NONE}: all of it is zero. Make one first (mkfs)` : undefined;
}

/** What its driver was not told of a device that it refuses; undefined: nothing that is known. */
export async function whatIsThere(type: string, device: string): Promise<string | undefined> {
  const content = await otherContentOf(device);
  const found = content.fileSystems.map((each) => each.type);
  if (found.includes(type)) return undefined;
  if (found.length > 0) return `its superblock says ${found.join(" and ")}, not ${type}`;
  const { torn, other } = content;
  const check = torn.includes(type) ? checkCommand({ type, device }) : undefined;
  if (check !== undefined) return `its superblock is damaged: look at it with ${check}`;
  if (torn.length === 0 && other !== undefined && other.type !== type) {
    return `it seems to hold ${other.name}, not ${type}`;
  }
  return certainly(content);
}
