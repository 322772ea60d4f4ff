/**
 * Why a device cannot be mounted, and what can be done with it.
 *
 * @module
 */
import { LoopError } from "../base/errors.ts";
import { fileSystemsOn, type OtherContent, otherContentOn } from "./file_system.ts";
import type { MountSource } from "./mounted.ts";
import { sysfsPartitions } from "../kernel/sysfs.ts";
import type { FileSystem } from "../superblocks/file_systems.ts";
import { describeWrapper } from "../superblocks/wrappers.ts";

/** Its file was shorter than a sector when it was bound, or was cut since. */
export const NO_BYTES =
  "the device has 0 bytes, as of its file it has whole 512-byte sectors: make the " +
  "file longer (truncate -s), then setCapacity() of the device's handle takes its size over";

const NONE = "no file system that is known here is on it";

/** What each container is, and the command that opens it. DEVICE stands for the node. */
const CONTAINERS = new Map([
  ["crypto_LUKS", "it is encrypted: cryptsetup open DEVICE NAME makes /dev/mapper/NAME of it"],
  [
    "BitLocker",
    "it is encrypted: cryptsetup open --type bitlk DEVICE NAME makes /dev/mapper/NAME of it",
  ],
  [
    "LVM2_member",
    "it belongs to a volume group of LVM: vgchange -ay makes the devices of the group's volumes, " +
    "and lvs -o lv_path names them",
  ],
  [
    "linux_raid_member",
    "it belongs to an md array: mdadm --assemble /dev/md/NAME DEVICE and the other members make the " +
    "array's device",
  ],
  ["bcache", "it belongs to bcache: echo DEVICE >/sys/fs/bcache/register makes /dev/bcacheN of it"],
  ["swap", "it is swap space, which swapon DEVICE uses"],
  ["swsuspend", "it is swap space with a hibernated system, which only that system can resume"],
]);

/** What a container is, and what opens it. */
export function describeContainer({ type }: FileSystem, device: string): string {
  const what = CONTAINERS.get(type)?.replaceAll("DEVICE", device) ?? "it cannot be mounted";
  return `it holds ${type}: ${what}`;
}

/** A device, as {@linkcode MountSource} has it. */
type Place = Pick<MountSource, "device" | "number" | "partition">;

/** The error for a device that holds a container (`found`), or nothing that is known. */
export async function refuseUnknown(
  place: Place,
  found: FileSystem | undefined,
): Promise<LoopError> {
  const { device, number, partition } = place;
  const all = partition === undefined && number !== undefined ? sysfsPartitions(number) : [];
  const known = all.map(({ number }) => number);
  const hint = known.length > 0
    ? `it has no file system but partitions: mount one of ${known.join(", ")}`
    : found
    ? describeContainer(found, device)
    : await describeUnknown(place);
  return new LoopError({ code: "EINVAL", path: device, hint });
}

async function describeUnknown(place: Place): Promise<string> {
  const content = await otherContentOn(place.device);
  return certainly(content, place) ??
    (content.isZero === undefined
      ? `${NONE}, and what was read of it is zero`
      : `${NONE}, and it is not empty: say which with type`);
}

/** What is there instead of a file system. It advises mkfs only if every byte is zero. */
function certainly(
  { size, partitions, wrapper, isZero }: OtherContent,
  { device, number, partition }: Place,
): string | undefined {
  if (size === 0) return NO_BYTES;
  if (partitions !== undefined) {
    const isLoop = number !== undefined && partition === undefined;
    const numbers = partitions.join(", ");
    return "it has no file system but a partition table" +
      (numbers === ""
        ? " without a partition"
        : ` with ${numbers}, which the kernel does not show` +
          (isLoop
            ? ": rescan(), or attach the image with partscan, and mount one of them"
            : `: attach("${device}", { partscan: true }) makes a loop device with them, and mount one of those`));
  }
  if (wrapper !== undefined) return describeWrapper(wrapper);
  return isZero ? `${NONE}: all of it is zero. Make one first (mkfs)` : undefined;
}

/** Names of drivers that differ from the type. */
const DRIVERS = new Map([["ntfs", "ntfs3"]]);

/** Which driver mounts it. */
export function driverOf({ type }: FileSystem): string {
  return DRIVERS.get(type) ?? type;
}

/** What a device holds that the driver of `type` has refused. Undefined: that type, or nothing known. */
export async function whatIsThere(type: string, place: Place): Promise<string | undefined> {
  const { device } = place;
  const found = await fileSystemsOn(device);
  if (found.some((each) => each.type === type || driverOf(each) === type)) return undefined;
  if (found.length === 0) return certainly(await otherContentOn(device), place);
  const [first] = found;
  return first.usage === "filesystem"
    ? `its superblock says ${found.map(({ type }) => type).join(" and ")}, not ${type}`
    : describeContainer(first, device);
}
