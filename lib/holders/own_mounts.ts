/**
 * The mounts that this process has made. The kernel lists none of those without a directory.
 *
 * @module
 */

export interface OwnMount {
  /** What is mounted: "/dev/loop4p1". */
  readonly device: string;
  /** Where its files are: "/proc/1234/fd/17", "/mnt". */
  readonly path: string;
  /** The device number that its files have; of btrfs it is none of a block device: "0:47". */
  readonly dev: string;
  /** Descriptors that keep the mount. Empty once it is unmounted, while others still use its files. */
  readonly descriptors: readonly number[];
}

const mounts = new Map<object, OwnMount>();

/** Enters a mount, or replaces its entry. */
export function setOwnMount(key: object, mount: OwnMount): void {
  mounts.set(key, mount);
}

export function removeOwnMount(key: object): void {
  mounts.delete(key);
}

/** Removes the entries of unmounted mounts of these devices, which nobody holds any more. */
export function forgetEndedMounts(free: readonly string[]): void {
  for (const [key, { device, descriptors }] of mounts) {
    if (descriptors.length === 0 && free.includes(device)) mounts.delete(key);
  }
}

export function ownMountsOf(devices: readonly string[]): OwnMount[] {
  return [...mounts.values()].filter(({ device }) => devices.includes(device));
}
