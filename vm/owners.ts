/**
 * Step "owners": images of the file systems that can be a user's, for a guest, which has not the tools that
 * make them; and what the guest must see of them.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type OwnedType, prepareOwned, SPARE, USER } from "../tests/cases/owned_files.ts";
import { packSparse } from "../tests/support/sparse_pack.ts";
import { compareReleases } from "./cells.ts";
import type { GuestEvent } from "./qemu.ts";

const MIB = 2 ** 20;

/** How each is made of an image of so many MiB; those that are read-only of a folder. */
const MAKERS: Record<
  OwnedType,
  [mib: number, command: (image: string, folder: string) => string[]]
> = {
  ext4: [8, (image) => ["mkfs.ext4", "-q", "-b", "1024", "-J", "size=1", image]],
  xfs: [512, (image) => ["mkfs.xfs", "-q", image]],
  btrfs: [128, (image) => ["mkfs.btrfs", "-q", image]],
  vfat: [4, (image) => ["mkfs.vfat", image]],
  f2fs: [64, (image) => ["mkfs.f2fs", "-q", image]],
  erofs: [1, (image, folder) => ["mkfs.erofs", image, folder]],
  squashfs: [1, (image, folder) => ["mksquashfs", folder, image, "-noappend", "-quiet"]],
};

/** All of them, as vm/guest/owners.ts unpacks them. */
export function packOwnerImages(): Uint8Array {
  const work = mkdtempSync(join(tmpdir(), "loopdev-test-"));
  try {
    const folder = join(work, "files");
    mkdirSync(folder);
    prepareOwned(folder);
    const files = Object.entries(MAKERS).map(([type, [mib, command]]) => {
      const image = join(work, `${type}.img`);
      writeFileSync(image, "");
      truncateSync(image, mib * MIB);
      const [name, ...args] = command(image, folder);
      const { status, stderr } = spawnSync(name, args, { encoding: "utf8" });
      if (status !== 0) throw new Error(`${name}: ${stderr}`);
      return [type, image] as const;
    });
    return packSparse(Object.fromEntries(files));
  } finally {
    rmSync(work, { recursive: true });
  }
}

/** From which series on a file system takes an owner. */
const OWNED_SINCE: Partial<Record<string, string>> = {
  ext4: "5.12",
  xfs: "5.12",
  vfat: "5.12",
  btrfs: "5.15",
  f2fs: "5.18",
  erofs: "5.19",
  squashfs: "6.2",
};

/** What is wrong of a file system that was a user's; undefined: nothing. */
export function wronglyOwned(row: GuestEvent): string | undefined {
  const { refused, user, stranger, root, inMount, onDisk, unmounted, detached } = row;
  // Debian's cloud kernels have no f2fs; the generic ones do.
  if (/has no driver for f2fs/.test(String(refused))) return undefined;
  const since = OWNED_SINCE[String(row.case)]!;
  if (compareReleases(String(row.release).replace(/[-+].*/, ""), since) < 0) {
    const names = `takes idmapped mounts from Linux ${since} on, and this is ${row.release}`;
    return String(refused).includes(names) ? undefined : `${refused}, not: ${names}`;
  }
  if (refused !== undefined) return String(refused);
  const hasOwners = row.case !== "vfat";
  const isReadOnly = root === "";
  const mount = hasOwners
    ? { root: `${USER}:${USER}`, other: "33:44", own: `${SPARE}:${SPARE}` }
    : { root: `${USER}:${USER}`, other: `${USER}:${USER}`, own: `${USER}:${USER}` };
  const disk = {
    ...hasOwners
      ? { root: "0:0", other: "33:44", own: `${USER}:${USER}` }
      : { root: "0:0", other: "0:0", own: "0:0" },
    ...isReadOnly ? {} : { "by-user": "0:0", made: "0:0" },
  };
  const faults = [
    user === "before" ? "" : `the user: ${user}`,
    /can't cd|Permission denied/.test(String(stranger)) ? "" : `a stranger: ${stranger}`,
    isReadOnly || /Value too large/.test(String(root)) ? "" : `root: ${root}`,
    same(inMount, mount) ? "" : `in the mount: ${JSON.stringify(inMount)}`,
    same(onDisk, disk) ? "" : `on the disk: ${JSON.stringify(onDisk)}`,
    unmounted === "unmounted" && detached === "detached" ? "" : `${unmounted}, ${detached}`,
  ].filter((fault) => fault !== "");
  return faults.length > 0 ? faults.join("; ") : undefined;
}

/** What is wrong of a mapper's device that was mounted by its node. */
export function wronglyMapped(row: GuestEvent): string | undefined {
  const { holders, expected, unmounted, refused, busy } = row;
  const isRight = refused === undefined && unmounted === "unmounted" &&
    same(holders, expected) && /in use already/.test(String(busy));
  return isRight ? undefined : JSON.stringify({ holders, expected, unmounted, refused, busy });
}

const same = (a: unknown, b: unknown) => JSON.stringify(a) === JSON.stringify(b);
