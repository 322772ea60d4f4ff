/**
 * Makes the images of strangers by the tools of strangers, and keeps the tables of each as a sketch in
 * images.json. What a kernel shows of them is recorded afterwards:
 *
 *     bun tests/strangers/make.ts
 *     deno task vm --step strangers --cell "6.12 fixed/257" --flavour generic --json generic.json
 *     deno task vm --step strangers --cell 7.2/262 --json cloud.json
 *     bun tests/strangers/record.ts generic.json cloud.json
 *
 * Needs root (sectors of 4096 bytes need a device) and Debian's fdisk, gdisk, parted, genimage, xorriso,
 * genisoimage, cgpt, mtools, dosfstools, ntfs-3g, exfatprogs, e2fsprogs, syslinux, syslinux-utils, isolinux
 * and mount.
 */
import { Buffer } from "node:buffer";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { gzipSync } from "node:zlib";
import { readOptions } from "../../dev/options.ts";
import type { Sketch } from "./images.ts";

const HELP = `Usage: tests/strangers/make.ts

Makes the images of strangers by the tools of strangers, and writes images.json. Needs root, and the
Debian packages that this file's head names.

  -h, --help  this text`;
readOptions(HELP, {});

const folder = mkdtempSync(join(tmpdir(), "loopdev-strangers-"));
const IMAGE = join(folder, "image");
const KIB = 1024;
/** Of an image with files in it what is at both ends and chained boot records are kept: tables lie there. */
const [HEAD, TAIL] = [34 * KIB, 20 * KIB];
/** Of an image with less than that, all. */
const LITTLE = 64 * KIB;

function sh(script: string): void {
  const options = { cwd: folder, encoding: "utf8", env: { ...process.env, LC_ALL: "C" } } as const;
  const { status, stderr, stdout } = spawnSync("bash", ["-euo", "pipefail", "-c", script], options);
  if (status !== 0) throw new Error(`${script}\n${stdout}${stderr}`);
}

function sketch(name: string, by: readonly string[], sectorSize: Sketch["sectorSize"]): Sketch {
  const image = readFileSync(IMAGE);
  const sectors = Array.from({ length: Math.ceil(image.length / 512) }, (_, i) => ({
    offset: 512 * i,
    bytes: image.subarray(512 * i, 512 * (i + 1)),
  })).filter(({ bytes }) => bytes.some((byte) => byte !== 0));
  const isRecord = (bytes: Uint8Array) => bytes[510] === 0x55 && bytes[511] === 0xaa;
  const kept = sectors.length * 512 <= LITTLE
    ? sectors
    : sectors.filter(({ offset, bytes }) =>
      offset < HEAD || offset >= image.length - TAIL || isRecord(bytes)
    );
  const pieces: [number, number][] = [];
  for (const { offset, bytes } of kept) {
    const last = pieces.at(-1);
    if (last && last[0] + last[1] === offset) last[1] += bytes.length;
    else pieces.push([offset, bytes.length]);
  }
  const all = gzipSync(Buffer.concat(kept.map(({ bytes }) => bytes)), { level: 9 });
  return { name, by, size: image.length, sectorSize, pieces, bytes: all.toString("base64") };
}

const sketches: Sketch[] = [];

/** Makes one: an empty image of `mib`, and scripts of bash that have it as $I. */
function make(
  name: string,
  mib: number,
  scripts: string | string[],
  sectorSize: Sketch["sectorSize"] = 512,
): void {
  const by = [scripts].flat();
  rmSync(IMAGE, { force: true });
  if (mib > 0) sh(`truncate -s ${mib}M ${IMAGE}`);
  try {
    for (const script of by) sh(`I=${IMAGE}; ${script}`);
  } catch (e) {
    console.error("FAILED", name, String(e).slice(-600));
    return;
  }
  sketches.push(sketch(name, by, sectorSize));
  console.error(name, sketches.at(-1)!.bytes.length);
}

const sfdisk = (table: string, options = "") =>
  `printf '%s\\n' ${
    table.split("\n").map((line) => `'${line}'`).join(" ")
  } | sfdisk -q ${options} $I`;
const parted = (...commands: string[]) => `parted -s $I ${commands.join(" ")}`;
const fdisk = (...answers: string[]) =>
  `printf '%s\\n' ${
    answers.map((a) => `'${a}'`).join(" ")
  } | fdisk -w never -W never $I >/dev/null`;
const put = (offset: number, bytes: string) =>
  `printf '${bytes}' | dd of=$I bs=1 seek=${offset} conv=notrunc status=none`;
const ID = "label-id: 0x1a2b3c4d";
const GUID = "label-id: 11111111-2222-3333-4444-555555555555";
const on4096 = (script: string) =>
  `D=$(losetup -f --show -b 4096 $I); (I=$D; ${script}) && losetup -d $D || { losetup -d $D; false; }`;

// sfdisk
make("sfdisk dos", 16, sfdisk(`label: dos\n${ID}\n,1M,83\n,2M,82\n,,c,*`));
make(
  "sfdisk dos with logical partitions",
  32,
  sfdisk(`label: dos\n${ID}\n,1M,83\n,12M,5\n,1M,83\n,,82\n,1M,83\n,2M,82\n,,83`),
);
make(
  "sfdisk dos with 40 logical partitions",
  96,
  sfdisk(`label: dos\n${ID}\n,,f\n${Array(40).fill(",1M,83").join("\n")}`),
);
make(
  "sfdisk dos, Linux extended",
  16,
  sfdisk(`label: dos\n${ID}\n1: size=1M\n2: size=8M, type=85\n5: size=2M\n6: size=2M`),
);
make("sfdisk dos without partitions", 8, sfdisk(`label: dos\n${ID}`));
make("sfdisk dos, no identifier", 8, [sfdisk(`label: dos\n${ID}\n,1M`), put(440, "\\0\\0\\0\\0")]);
make("sfdisk dos, cut off", 16, [sfdisk(`label: dos\n${ID}\n,1M\n,10M\n,1M`), "truncate -s 8M $I"]);
make("sfdisk dos, odd end", 8, [sfdisk(`label: dos\n${ID}\n,1M\n,,83`), "truncate -s -700 $I"]);
make("sfdisk dos, overlapping", 8, [
  sfdisk(`label: dos\n${ID}\n,1M\n,2M\n,1M`),
  // The first entry is made as long as all of them.
  put(446 + 12, "\\0\\x30\\0\\0"),
]);
make("sfdisk gpt", 16, sfdisk(`label: gpt\n${GUID}\n,1M,U\n,2M,S\n,,L`));
make(
  "sfdisk gpt, numbers with gaps",
  16,
  sfdisk(`label: gpt\n${GUID}\n3: size=1M\n7: size=1M\n128: size=1M`),
);
make(
  "sfdisk gpt, 200 entries",
  16,
  sfdisk(`label: gpt\n${GUID}\ntable-length: 200\n1: size=1M\n200: size=1M`),
);
make("sfdisk gpt, 4 entries", 16, sfdisk(`label: gpt\n${GUID}\ntable-length: 4\n,1M\n,1M`));
make("sfdisk gpt without partitions", 8, sfdisk(`label: gpt\n${GUID}`));
make("sfdisk gpt, unaligned", 8, sfdisk(`label: gpt\n${GUID}\nfirst-lba: 34\nstart=35, size=3\n`));
make("sfdisk gpt, cut off", 16, [sfdisk(`label: gpt\n${GUID}\n,1M\n,,`), "truncate -s 9M $I"]);
make("sfdisk gpt, grown", 8, [sfdisk(`label: gpt\n${GUID}\n,1M\n,,`), "truncate -s 12M $I"]);
make("sfdisk sun", 32, sfdisk(`label: sun\n,8M\n,8M`, "-f"));
make("sfdisk sgi", 32, sfdisk(`label: sgi\n,8M\n,8M`, "-f"));
make("sfdisk gpt, 4096-byte sectors", 16, on4096(sfdisk(`label: gpt\n${GUID}\n,1M\n,2M`)), 4096);
make("sfdisk dos, 4096-byte sectors", 16, on4096(sfdisk(`label: dos\n${ID}\n,1M\n,2M`)), 4096);
make("sfdisk gpt, for 4096-byte sectors", 16, on4096(sfdisk(`label: gpt\n${GUID}\n,1M\n,2M`)));

// sgdisk
const sgdisk = (options: string) => `sgdisk ${options} $I >/dev/null`;
make("sgdisk", 16, sgdisk("-n 1:0:+1M -t 1:ef00 -n 2:0:+2M -A 2:set:60 -n 3:0:0 -c 3:root"));
make("sgdisk hybrid", 16, [sgdisk("-n 1:0:+1M -n 2:0:+2M -n 3:0:+1M"), sgdisk("-h 1:2")]);
make("sgdisk hybrid, 0xee last", 16, [
  sgdisk("-n 1:0:+1M -n 2:0:+2M -n 3:0:+1M"),
  "printf 'r\\nh\\n1 2\\nn\\n\\nn\\n\\nn\\nn\\nw\\ny\\n' | gdisk $I >/dev/null",
]);
make("sgdisk, primary header wiped", 16, [
  sgdisk("-n 1:0:+1M -n 2:0:+2M"),
  "dd if=/dev/zero of=$I bs=512 seek=1 count=1 conv=notrunc status=none",
]);
make("sgdisk, protective MBR alone", 16, [
  sgdisk("-n 1:0:+1M"),
  "dd if=/dev/zero of=$I bs=512 seek=1 count=40 conv=notrunc status=none",
  "dd if=/dev/zero of=$I bs=1M seek=15 count=1 conv=notrunc status=none",
]);
make("sgdisk, converted to MBR", 16, [sgdisk("-n 1:0:+1M -n 2:0:+2M"), sgdisk("-m 1:2")]);
make("sgdisk without protective MBR", 16, [
  sgdisk("-n 1:0:+1M"),
  "dd if=/dev/zero of=$I bs=512 count=1 conv=notrunc status=none",
]);

// parted
const two = ["mkpart 1MiB 3MiB", "mkpart 3MiB 8MiB"];
const named = (kind: string) => two.map((make) => make.replace("mkpart", `mkpart ${kind}`));
make("parted gpt", 16, parted("mklabel gpt", ...named("data"), "set 1 esp on"));
make(
  "parted msdos with logical partitions",
  32,
  parted(
    "mklabel msdos",
    "mkpart primary 1MiB 4MiB",
    "mkpart extended 4MiB 30MiB",
    "mkpart logical 5MiB 9MiB",
    "mkpart logical 10MiB 20MiB",
  ),
);
make("parted mac", 16, parted("mklabel mac", ...named("data")));
make("parted bsd", 16, parted("mklabel bsd", ...two));
make("parted sun", 64, parted("mklabel sun", "mkpart 8MiB 24MiB", "mkpart 24MiB 48MiB"));
make("parted dvh", 64, parted("mklabel dvh", "mkpart primary 8MiB 24MiB"));
make(
  "parted amiga",
  64,
  parted("mklabel amiga", "mkpart DH0 ext2 2MiB 24MiB", "mkpart DH1 ext2 24MiB 48MiB"),
);
make("parted atari", 16, parted("mklabel atari", ...named("primary")));
make("parted pc98", 64, parted("mklabel pc98", "mkpart primary 8MiB 24MiB"));
make("parted loop", 16, parted("mklabel loop"));
make("IBM's AIX", 16, put(0, "\\xc9\\xc2\\xd4\\xc1"));

/** Two, and their types: the kernel passes over those without. */
const SLICES = ["n", "a", "", "+4M", "n", "e", "28672", "+4M", "t", "a", "7", "t", "e", "7"];
// fdisk: a BSD label within a partition of an MBR, whose slices are numbered from 5 on.
make("fdisk bsd in dos", 32, [
  sfdisk(`label: dos\n${ID}\n,8M,83\n,16M,a5`),
  fdisk("b", "y", ...SLICES, "w"),
]);
make("fdisk bsd in dos with logical partitions", 48, [
  sfdisk(
    `label: dos\n${ID}\n1: size=8M\n2: size=16M, type=a6\n3: size=16M, type=5\n5: size=2M\n6: size=2M`,
  ),
  fdisk("b", "y", ...SLICES, "w"),
]);
make("minix in dos", 16, [
  sfdisk(`label: dos\n${ID}\n,1M,83\n,8M,81`),
  "truncate -s 8M inner; printf 'label: dos\\nstart=4160,size=2000,type=81\\n" +
  "start=6200,size=2000,type=81\\n' | sfdisk -q -f inner; " +
  "dd if=inner of=$I bs=512 count=1 seek=4096 conv=notrunc status=none",
]);

// genimage
const genimage = (hdimage: string, partitions: string) => [
  "rm -rf gen; mkdir -p gen/root gen/in; truncate -s 1M gen/in/a.bin; echo x > gen/in/b.bin",
  `cat > gen/cfg <<'END'\nimage image.out {\nhdimage {\n${hdimage}\n}\n${partitions}\n}\nEND`,
  "cd gen && genimage --config cfg --inputpath in --rootpath root --tmppath tmp --outputpath out " +
  ">/dev/null 2>&1 && mv out/image.out $I",
];
const twoOf = (type: string) =>
  `partition a {\n${type}\nimage = "a.bin"\n}\npartition b {\n${type}\nimage = "b.bin"\nsize = 3M\n}`;
const mbrType = "partition-type = 0x83";
make("genimage mbr", 0, genimage('partition-table-type = "mbr"', twoOf(mbrType)));
make(
  "genimage mbr with logical partitions",
  0,
  genimage(
    'partition-table-type = "mbr"\nextended-partition = 2',
    twoOf(mbrType) +
      ` partition c {\n${mbrType}\nsize = 2M\n} partition d {\n${mbrType}\nsize = 2M\n}`,
  ),
);
make("genimage gpt", 0, genimage('partition-table-type = "gpt"', twoOf("")));
make(
  "genimage gpt-no-backup",
  0,
  genimage('partition-table-type = "gpt"\ngpt-no-backup = true', twoOf("")),
);
make(
  "genimage hybrid",
  0,
  genimage(
    'partition-table-type = "hybrid"',
    `partition a {\n${mbrType}\nimage = "a.bin"\n}\npartition b {\nimage = "b.bin"\nsize = 3M\n}`,
  ),
);
make(
  "genimage gpt, moved",
  0,
  genimage(
    'partition-table-type = "gpt"\ngpt-location = 512K',
    twoOf(""),
  ),
);
make("genimage without a table", 0, genimage('partition-table-type = "none"', twoOf("")));

// Bootable discs
const TREE = "rm -rf iso; mkdir -p iso/isolinux iso/boot; cp /usr/lib/ISOLINUX/isolinux.bin " +
  "/usr/lib/syslinux/modules/bios/ldlinux.c32 iso/isolinux/; echo hello > iso/boot/file; " +
  "truncate -s 400K iso/boot/efi.img; mkfs.vfat -i 12345678 iso/boot/efi.img >/dev/null";
const BIOS = "-b isolinux/isolinux.bin -c isolinux/boot.cat -no-emul-boot -boot-load-size 4 " +
  "-boot-info-table";
const EFI = "-eltorito-alt-boot -e boot/efi.img -no-emul-boot";
const MBR = "-isohybrid-mbr /usr/lib/ISOLINUX/isohdpfx.bin";
const xorriso = (options: string) => [TREE, `xorriso -as mkisofs -quiet -o $I ${options} iso`];
make("xorriso, plain ISO", 0, xorriso(""));
make("xorriso, El Torito", 0, xorriso(BIOS));
make("xorriso isohybrid", 0, xorriso(`${BIOS} ${MBR}`));
make("xorriso isohybrid, EFI", 0, xorriso(`${BIOS} ${MBR} ${EFI} -isohybrid-gpt-basdat`));
make(
  "xorriso isohybrid, EFI and Apple",
  0,
  xorriso(`${BIOS} ${MBR} ${EFI} -isohybrid-gpt-basdat -isohybrid-apm-hfsplus`),
);
make(
  "xorriso, ESP appended",
  0,
  xorriso(`${BIOS} ${MBR} -append_partition 2 0xef iso/boot/efi.img -partition_offset 16`),
);
make(
  "xorriso, ESP appended and GPT",
  0,
  xorriso(
    `${BIOS} ${MBR} -append_partition 2 0xef iso/boot/efi.img -appended_part_as_gpt ` +
      "-eltorito-alt-boot -e --interval:appended_partition_2:all:: -no-emul-boot",
  ),
);
make("xorriso, Apple map", 0, xorriso("-hfsplus -part_like_isohybrid -isohybrid-apm-hfsplus"));
const genisoimage = (options: string) => [TREE, `genisoimage -quiet -o $I ${options} iso`];
make("genisoimage, plain ISO", 0, genisoimage("-R -J"));
make("genisoimage, Apple hybrid", 0, genisoimage("-hfs -part -probe"));
make("genisoimage, isohybrid", 0, [...genisoimage(`-R ${BIOS}`), "isohybrid $I"]);
make("genisoimage, isohybrid with EFI", 0, [
  ...genisoimage(`-R ${BIOS} ${EFI}`),
  "isohybrid --uefi $I",
]);
make("genisoimage, isohybrid with EFI and Apple", 0, [
  ...genisoimage(`-R ${BIOS} ${EFI} -eltorito-alt-boot -e boot/efi.img -no-emul-boot`),
  "isohybrid --uefi --mac $I",
]);

// ChromeOS, mtools, boot sectors without a table
make("cgpt", 16, [
  "cgpt create $I",
  "cgpt add -i 12 -b 2048 -s 2048 -t efi -l EFI-SYSTEM $I",
  "cgpt add -i 2 -b 4096 -s 4096 -t kernel -l KERN-A -S 1 -T 5 -P 10 $I",
  "cgpt add -i 3 -b 8192 -s 8192 -t rootfs -l ROOT-A $I",
  "cgpt boot -p $I >/dev/null",
]);
make("mpartition", 16, [
  'echo "drive z: file=\\"$I\\" partition=1" > rc; MTOOLSRC=rc mpartition -I z:; ' +
  "MTOOLSRC=rc mpartition -c -t 16 -h 64 -s 32 z:",
]);
make("mformat, superfloppy", 0, "mformat -C -i $I -f 1440 -N 12345678 ::");
make("mkfs.vfat, superfloppy", 16, "mkfs.vfat -i 12345678 $I >/dev/null");
make("mkfs.vfat --mbr", 16, "mkfs.vfat --mbr=yes -i 12345678 $I >/dev/null");
make("mkntfs, superfloppy", 16, "mkntfs -F -Q -q -p 0 -s 512 -H 255 -S 63 $I >/dev/null 2>&1");
make("mkfs.exfat, superfloppy", 16, "mkfs.exfat $I >/dev/null");
make("mkfs.ext4", 16, "mkfs.ext4 -q -F $I");
make("syslinux in a superfloppy", 16, "mkfs.vfat -i 12345678 $I >/dev/null; syslinux -i $I");
make("syslinux in a partition", 32, [
  sfdisk(`label: dos\n${ID}\n,24M,e,*`),
  "dd if=/usr/lib/syslinux/mbr/mbr.bin of=$I bs=440 count=1 conv=notrunc status=none",
  "mkfs.vfat -i 12345678 -F 16 --offset 2048 $I 24576 >/dev/null",
  "syslinux -i --offset $((2048 * 512)) $I",
]);
make("zeros", 8, ":");
make("text", 8, "head -c 65536 < <(yes 'not a table') | dd of=$I conv=notrunc status=none");

const path = join(import.meta.dirname!, "images.json");
const lines = sketches.map((one) => JSON.stringify(one));
writeFileSync(path, `[\n${lines.join(",\n")}\n]\n`);
spawnSync("deno", ["fmt", "--quiet", path]);
rmSync(folder, { recursive: true });
console.error(`${sketches.length} images, ${Math.round(lines.join().length / 1024)} KiB`);
