/** File systems as their own tools make them: what each command line shall be taken for. */
import { mkdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import process from "node:process";
import { decodeName } from "../../lib/base/names.ts";
import { type Need, output, run, scratch } from "./support.ts";

/** A command line that makes a file system in `image`, a file of `mib` MiB, or of what `folder` has. */
export interface Case {
  readonly type: string;
  readonly tool: Need;
  readonly mib: number;
  command(image: string, folder: string): readonly string[];
}

// Of this process alone: mkfs.btrfs refuses a UUID that any device of the machine has.
const UUID = crypto.randomUUID();

/** A case for each line of a tool's options, in which "~" is a space. */
const cases = (type: string, mib: number, tool: Need, lines: readonly string[]): Case[] =>
  lines.map((line) => {
    const options = line.split(" ").filter((word) => word !== "")
      .map((word) => word.replaceAll("~", " "));
    return { type, tool, mib, command: (image) => [String(tool), ...options, image] };
  });

const DISKS: readonly Case[] = [
  ...cases("ext4", 16, "mkfs.ext4", [
    "-q -F",
    "-q -F -L zwei~ü~文件",
    "-q -F -L ~blank~~",
    "-q -F -b 1024 -O ^64bit",
    "-q -F -b 4096 -O ^metadata_csum",
    "-q -F -O ^has_journal",
    "-q -F -O ^has_journal,^metadata_csum,^64bit,^extent,^flex_bg,^huge_file",
    "-q -F -I 128 -N 64",
    "-q -F -O inline_data,bigalloc",
    `-q -F -U ${UUID}`,
    "-q -F -U clear",
    "-q -F -g 1024 -N 16",
  ]),
  ...cases("ext3", 16, "mkfs.ext3", ["-q -F", "-q -F -b 2048 -L three", "-q -F -I 128"]),
  ...cases("ext2", 8, "mkfs.ext2", [
    "-q -F",
    "-q -F -r 0",
    "-q -F -b 4096 -L two",
    "-q -F -O ext_attr",
  ]),
  ...cases("xfs", 320, "mkfs.xfs", [
    "-q",
    "-q -L zwei~ü",
    "-q -m crc=0",
    "-q -m crc=0 -L oldformat -n ftype=1",
    "-q -b size=1024",
    "-q -s size=4096",
    "-q -i size=2048 -b size=32768",
    "-q -d agcount=2",
    `-q -m uuid=${UUID}`,
  ]),
  ...cases("btrfs", 128, "mkfs.btrfs", [
    "-q",
    `-q -L ${"äöü~文件系统~label".repeat(6)}`,
    "-q --csum crc32c -n 65536",
    "-q --csum xxhash",
    "-q --csum sha256",
    "-q --csum blake2",
    "-q --mixed -U " + UUID,
  ]),
  ...cases("f2fs", 64, "mkfs.f2fs", [
    "-q",
    "-q -l fünf~文件~𝄞",
    "-q -O extra_attr,sb_checksum",
    "-q -O extra_attr,inode_checksum,sb_checksum,compression -l summed",
    "-q -w 4096",
    `-q -U ${UUID}`,
  ]),
  ...cases("exfat", 32, "mkfs.exfat", ["", "-L Äpfel~文件", "-c 1M", "-c 512", "-L elevenchars"]),
  ...cases("vfat", 8, "mkfs.vfat", [
    "-F 12",
    "-F 16 -s 1",
    "-n ZWEI~X -i 1a2bc3d4",
    "-n a~b -i 00000001",
    "-i 00000000",
    "-S 4096",
    "-S 2048 -s 4 -r 512",
    "-f 1 -R 8",
    "--mbr=y",
    "-M 0xf0",
  ]),
  ...cases("vfat", 1, "mkfs.vfat", ["", "-n FLOPPY"]),
  ...cases("vfat", 260, "mkfs.vfat", [
    "-F 32",
    "-F 32 -n EFI~SYSTEM",
    "-F 32 -S 4096 -s 1",
    "-F 32 -s 128 -a",
    "-F 16 -s 64",
    "-F 32 -R 3 -f 1 -b 0",
  ]),
  ...cases("udf", 16, "mkudffs", [
    "--utf8",
    "--utf8 -b 512 -l fünfhundert",
    "--utf8 -b 1024 -l Привет",
    "--utf8 -b 2048 -m dvd -l 文件𝄞",
    "--utf8 -b 4096 -u 0123456789abcdef",
    "--utf8 -u a0000000ffffffff -r 1.50",
    "--utf8 --fullvsid=Äpfel~und~Birnen -r 1.02",
    "--utf8 --fullvsid=A2345678Ä~u.",
    "--utf8 -m cdr",
    "--utf8 -m bdr -r 2.50",
    "--utf8 -b 512 --bootarea=mbr",
    "--utf8 -l ~blank~",
  ]),
  ...cases("ntfs", 8, "mkfs.ntfs", ["-q -F", "-q -F -c 65536"]),
  ...cases("jfs", 16, "mkfs.jfs", ["-q", "-q -L zwei~ü"]),
  ...cases("nilfs2", 136, "mkfs.nilfs2", ["-q", "-q -b 1024 -L zwei~ü~文件"]),
];

const LUKS = "luksFormat -q --pbkdf-force-iterations 1000 --key-file /proc/sys/kernel/ostype";

/** What cannot be mounted by itself. */
const CONTAINERS: readonly Case[] = [
  ...cases("swap", 1, "mkswap", ["-q", "-q -p 65536 -L ~blank~~", `-q -U ${UUID}`]),
  ...cases("crypto_LUKS", 20, "cryptsetup", [
    `${LUKS} --type luks1`,
    `${LUKS} --type luks2 --pbkdf pbkdf2 --label zwei~ü`,
  ]),
  ...cases("bcache", 80, "make-bcache", ["-B", "-C"]),
];

/** A folder with something in it. */
function tree(): string {
  const folder = scratch("tree");
  mkdirSync(`${folder}/etc`, { recursive: true });
  writeFileSync(`${folder}/etc/hostname`, "box\n");
  writeFileSync(`${folder}/zeros`, new Uint8Array(100_000));
  return folder;
}

type Packer = Case["command"];

const packed = (type: string, tool: Need, commands: readonly Packer[]): Case[] =>
  commands.map((command) => ({ type, tool, mib: 0, command }));

const mksquashfs = (...options: string[]): Packer => (image, folder) => [
  "mksquashfs",
  folder,
  image,
  "-noappend",
  "-quiet",
  ...options,
];
const mkerofs = (...options: string[]): Packer => (image, folder) => [
  "mkfs.erofs",
  "--quiet",
  ...options,
  image,
  folder,
];
const genisoimage = (...options: string[]): Packer => (image, folder) => [
  "genisoimage",
  "-quiet",
  "-input-charset",
  "utf-8",
  ...options,
  "-o",
  image,
  folder,
];
const xorriso = (...options: string[]): Packer => (image, folder) => [
  "xorriso",
  "-outdev",
  image,
  "-map",
  folder,
  "/",
  ...options,
];

/** File systems that are made of a folder. */
const PACKED: readonly Case[] = [
  ...packed("squashfs", "mksquashfs", [
    mksquashfs(),
    mksquashfs("-b", "4096", "-comp", "xz"),
    mksquashfs("-b", "1M", "-comp", "zstd", "-no-xattrs", "-no-exports"),
    mksquashfs("-noI", "-noD", "-noF", "-no-fragments"),
  ]),
  ...packed("erofs", "mkfs.erofs", [
    mkerofs(),
    mkerofs("-zlz4hc", "-U", UUID),
    mkerofs("-Enosbcrc"),
  ]),
  ...packed("iso9660", "genisoimage", [
    genisoimage(),
    genisoimage("-V", "A label of thirty-two characters"),
    genisoimage("-J", "-R", "-V", "Mixed Case"),
    genisoimage("-J", "-V", "With Joliet, longer than 16 char"),
    genisoimage("-J", "-V", "Äpfel_und Birnen"),
    genisoimage("-V", "  "),
  ]),
  ...packed("udf", "genisoimage", [
    genisoimage("-udf", "-V", "Bridge"),
    genisoimage("-udf", "-J", "-R", "-V", "bridge of three"),
  ]),
  ...packed("iso9660", "xorriso", [
    xorriso("-volid", "XORRISO"),
    xorriso("-volid", "joliet_small", "-joliet", "on"),
    xorriso("-volid", "OLD", "-volume_date", "c", "2001020304050600"),
    xorriso("-volid", "UUID", "-volume_date", "uuid", "2026013123595900"),
    xorriso("-volid", "HYBRID", "-boot_image", "any", "partition_table=on"),
  ]),
];

export const CASES: readonly Case[] = [...DISKS, ...CONTAINERS, ...PACKED];

/** Makes one, in UTF-8 whatever the machine speaks; gives the path and the command. */
export function make({ mib, command }: Case): { image: string; line: string } {
  const image = scratch("file-system.img");
  rmSync(image, { force: true });
  if (mib > 0) {
    writeFileSync(image, "");
    truncateSync(image, mib * 1024 * 1024);
  }
  const words = command(image, tree());
  output([...words], { env: { ...process.env, LC_ALL: "C.UTF-8" } });
  return { image, line: words.join(" ") };
}

/** A tool's second opinion. */
export interface Opinion {
  readonly type?: string;
  readonly label?: string;
  readonly uuid?: string;
  readonly usage?: string;
}

/** What blkid says of a file's content; `"ambivalent"` of several file systems. */
export function blkid(path: string): Opinion {
  const { status, stdout } = run(["blkid", "-p", "-o", "udev", path]);
  if (status === 8) return { type: "ambivalent" };
  const value = (name: string) => {
    const found = new RegExp(`^ID_FS_${name}=(.+)$`, "m").exec(stdout)?.[1];
    return found === undefined ? {} : { [name.replace("_ENC", "").toLowerCase()]: decode(found) };
  };
  return { ...value("TYPE"), ...value("LABEL_ENC"), ...value("UUID_ENC"), ...value("USAGE") };
}

/** udev writes a byte that may have a meaning to somebody as \xNN. */
function decode(encoded: string): string {
  const bytes = encoded.split(/(\\x[\da-f]{2})/).flatMap((part) =>
    /^\\x/.test(part) ? [parseInt(part.slice(2), 16)] : [...new TextEncoder().encode(part)]
  );
  return decodeName(new Uint8Array(bytes));
}
