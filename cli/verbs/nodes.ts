/**
 * The nodes of an image where it is attached, and of its partitions there.
 *
 * @module
 */
import { fileStatus, isThere, listDirectory } from "../../lib/losetup/list.ts";
import { boundDevices, type Device } from "../device.ts";
import { canonicalPath } from "../show.ts";

/** What a node shows of an image; bytes. */
interface Range {
  readonly start: number;
  readonly size: number;
}

/** The nodes that show just this part of the image. */
export type NodesOf = (range: Range) => string[];

/**
 * Looks for the devices that the image is attached to: by its inode, or by its name where only root may
 * ask for that.
 */
export function findNodes(image: string): NodesOf {
  const identity = fileStatus(image);
  const name = canonicalPath(image);
  const isOurs = (device: Device) => device.isBackedBy(identity) ?? device.backingFile === name;
  const all = [...boundDevices()].filter(isOurs).flatMap(rangesOf);
  return ({ start, size }) =>
    all.filter((node) => node.start === start && node.size === size).map(({ path }) => path);
}

/** The device and its partitions, in bytes of the image. sysfs counts sectors of 512 bytes. */
function rangesOf(device: Device): (Range & { path: string })[] {
  const name = device.path.slice("/dev/".length);
  const offset = Number(device.attribute("loop/offset") ?? 0);
  const whole = { path: device.path, start: offset, size: Number(device.attribute("size")) * 512 };
  const names = listDirectory(`/sys/block/${name}`).filter((entry) => entry.startsWith(`${name}p`));
  const partitions = names.map((partition) => ({
    path: `/dev/${partition}`,
    start: offset + Number(device.attribute(`${partition}/start`)) * 512,
    size: Number(device.attribute(`${partition}/size`)) * 512,
  }));
  return [whole, ...partitions].filter(({ path }) => isThere(path));
}
