/**
 * What drivers say of why they refuse, and what can be done then. Their words are the cause; no error
 * number knows more. Each row has the words as the driver's source has them, on all kernels from 5.9 on.
 *
 * @module
 */
import { O_RDONLY, open } from "../kernel/file.ts";
import { blkSszGet } from "../kernel/block.ts";
import { kernelRelease } from "../kernel/release.ts";

/** What a remedy is made of. */
interface Mounting {
  readonly type: string;
  /** Its node. */
  readonly device: string;
}

interface Cause {
  readonly words: RegExp;
  remedy(match: RegExpExecArray, mounting: Mounting): string | undefined;
}

/** Of what has a journal: the option that mounts it without a replay. */
const WITHOUT_REPLAY = new Map([
  ["ext3", "noload"],
  ["ext4", "noload"],
  ["xfs", "norecovery"],
  ["btrfs", "rescue=nologreplay"],
  ["f2fs", "norecovery"],
  ["nilfs2", "norecovery"],
]);

/** The option that keeps a read-only mount from replaying the journal; undefined: it has none. */
export function optionWithoutReplay(type: string): string | undefined {
  return WITHOUT_REPLAY.get(type);
}

/** A journal that cannot be replayed on a device that is read-only. */
export function withoutReplay({ type }: Mounting): string {
  const option = WITHOUT_REPLAY.get(type);
  return "it must be written to first, to replay its journal, and the device is read-only: " +
    "mount it once on a writable device" +
    (option ? `, or with options: ["${option}"] as it is` : "");
}

const READ_ONLY = "this kernel can read it and not write it: mount it with readOnly: true";

/** The first that fits counts. */
const CAUSES: readonly Cause[] = [
  {
    // XFS
    words: /Filesystem has duplicate UUID/,
    remedy: () =>
      "a file system with the same UUID is mounted, of which this one is a copy: mount it with " +
      'options: ["nouuid"]',
  },
  {
    // btrfs, which answers EIO; ext4; XFS, whose error -30 is EROFS
    words:
      /log replay required on RO media|write access unavailable|log mount\/recovery failed: error -30/,
    remedy: (_, mounting) => withoutReplay(mounting),
  },
  {
    // ext4; XFS; btrfs
    words:
      /couldn't mount RDWR because of unsupported|can only be safely mounted read only|cannot mount read-write because of unknown compat_ro/i,
    remedy: () => READ_ONLY,
  },
  {
    // ext4; XFS and btrfs; erofs
    words:
      /Couldn't mount because of unsupported optional features|unknown incompat(?:ible)? features|unidentified incompatible feature/i,
    remedy: () => `it has features that Linux ${kernelRelease()} does not know: a later one may`,
  },
  {
    // btrfs, which answers EINVAL
    words: /superblock checksum mismatch/,
    remedy: (_, mounting) => isDamaged(mounting),
  },
  {
    // ext4, f2fs
    words: /casefold feature.* without CONFIG_UNICODE/,
    remedy: () => "this kernel was built without CONFIG_UNICODE: only another kernel mounts it",
  },
  {
    // ext4, f2fs: the tables are a module of their own
    words: /superblock charset|Encoding requested by superblock is unknown/,
    remedy: () =>
      "the kernel lacks its tables: perhaps the module utf8data can be loaded (modprobe)",
  },
  {
    // FAT; exFAT and UDF
    words: /(?:codepage|IO ?charset) (\S+) not found/i,
    remedy: ([, name]) =>
      `this kernel lacks that character set: load the module nls_${name} (modprobe nls_${name}), ` +
      "or name another one",
  },
  {
    // ext4; btrfs; XFS before 6.12; f2fs
    words:
      /bad block size (\d+)|sectorsize (\d+) not yet supported|with blocksize (\d+) bytes\. Only pagesize|Invalid log_blocksize \((\d+)\)/,
    remedy: (match, { device }) => {
      const [, bytes, sector, xfs, log] = match;
      const size = log === undefined ? Number(bytes ?? sector ?? xfs) : 2 ** Number(log);
      return blockSize(size, sectorSizeOf(device));
    },
  },
  {
    // FAT; XFS, which answers ENOSYS
    words:
      /logical sector size too small for device \(logical sector size = (\d+)\)|device supports \d+ byte sectors \(not (\d+)\)/,
    remedy: ([, fat, xfs], { device }) => blockSize(Number(fat ?? xfs), sectorSizeOf(device)),
  },
];

function blockSize(size: number, sectorSize: number): string | undefined {
  if (size < sectorSize) {
    return `its blocks have ${size} bytes, and the device has sectors of ${sectorSize}: attach it ` +
      `with sectorSize: ${size}`;
  }
  return size > 4096
    ? `Linux ${kernelRelease()} does not take its blocks of ${size} bytes: perhaps a later one does, ` +
      "or one with larger pages of memory"
    : undefined;
}

function sectorSizeOf(path: string): number {
  using device = open(path, O_RDONLY);
  return blkSszGet(device);
}

/** What can be done about what the driver has said; undefined: it has said all. */
export function remedyOf(said: readonly string[], mounting: Mounting): string | undefined {
  const text = said.join("\n");
  for (const { words, remedy } of CAUSES) {
    const match = words.exec(text);
    if (match) return remedy(match, mounting);
  }
  return undefined;
}

/** How the file system's own tool looks for damage without a change. */
const CHECKS = new Map([
  ["ext2", "e2fsck -fn"],
  ["ext3", "e2fsck -fn"],
  ["ext4", "e2fsck -fn"],
  ["xfs", "xfs_repair -n"],
  ["btrfs", "btrfs check --readonly"],
  ["vfat", "fsck.vfat -n"],
  ["exfat", "fsck.exfat -n"],
  ["f2fs", "fsck.f2fs --dry-run"],
]);

export function isDamaged(mounting: Mounting): string {
  const check = checkCommand(mounting);
  return "the file system is damaged" + (check ? `: look at it with ${check}` : "");
}

/** The command line that does; undefined: no such tool is known. */
export function checkCommand({ type, device }: Mounting): string | undefined {
  const command = CHECKS.get(type);
  return command && `${command} ${device}`;
}
