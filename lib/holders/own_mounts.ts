/**
 * The mounts that this process has made. No list of the kernel's has those without a directory.
 *
 * @module
 */

/** One of them. */
export interface OwnMount {
  /** What is mounted: "/dev/loop4p1". */
  readonly device: string;
  /** Where its files are: "/proc/1234/fd/17", "/mnt". */
  readonly path: string;
  /** Device number that its files have; of btrfs it is none of a block device: "0:47". */
  readonly dev: string;
  /** Ours, which are no users of it. Empty once it is unmounted, while others still use its files. */
  readonly descriptors: readonly number[];
}

const mounts = new Map<object, OwnMount>();

/** Enters a mount, or what it has become. */
export function setOwnMount(key: object, mount: OwnMount): void {
  mounts.set(key, mount);
}

/** Strikes it out. */
export function removeOwnMount(key: object): void {
  mounts.delete(key);
}

/** Those of one of these devices; the unmounted ones whose device `isFree` are struck out. */
export function ownMountsOf(
  devices: readonly string[],
  isFree: (device: string) => boolean = () => false,
): OwnMount[] {
  for (const [key, { device, descriptors }] of mounts) {
    if (devices.includes(device) && descriptors.length === 0 && isFree(device)) mounts.delete(key);
  }
  return [...mounts.values()].filter(({ device }) => devices.includes(device));
}
