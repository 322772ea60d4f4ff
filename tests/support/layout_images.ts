/** Makes the images of tests/cases/layouts.ts, by the tools that people make theirs with. */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import {
  type Content,
  type ContentType,
  type Files,
  type Layout,
  layout,
} from "../cases/layouts.ts";
import { type Need, output } from "./support.ts";

const MIB = 1024 * 1024;

const TOOLS: Record<ContentType, readonly Need[]> = {
  ext2: ["mkfs.ext4"],
  ext4: ["mkfs.ext4"],
  vfat: ["mkfs.vfat", "mcopy"],
  squashfs: ["mksquashfs"],
  erofs: ["mkfs.erofs"],
  btrfs: ["root", "mkfs.btrfs", "mount", "unshare"],
  swap: ["mkswap"],
  luks: ["cryptsetup"],
  iso9660: ["xorriso", "mksquashfs", "mkfs.vfat", "mcopy"],
};

/** What makeLayout() needs for it. */
export function needsOf({ table, contents, behind }: Layout): Need[] {
  const all = [...Object.values(contents), ...behind ? [behind.content] : []];
  const tools = all.flatMap(({ type }) => TOOLS[type]);
  return [...new Set([...table === undefined ? [] : ["sfdisk"], ...tools])];
}

/** Makes the image of that name at `file`, and gives the layout. */
export function makeLayout(name: string, file: string): Layout {
  const found = layout(name);
  const work = mkdtempSync(join(tmpdir(), "loopdev-test-"));
  rmSync(file, { force: true });
  try {
    makeDisk(found, file, work);
  } finally {
    rmSync(work, { recursive: true });
  }
  return found;
}

function makeDisk({ mib, table, contents, behind }: Layout, file: string, work: string): void {
  writeFileSync(file, "");
  truncateSync(file, mib * MIB);
  const areas = new Map([[0, { start: 0, size: mib * MIB }]]);
  if (table !== undefined) {
    output(["sfdisk", "-q", "--no-reread", "--no-tell-kernel", file], { input: table });
    const { partitiontable } = JSON.parse(tool("sfdisk", "--json", file));
    for (const { node, start, size } of partitiontable.partitions) {
      const number = Number(node.slice(file.length).replace(/^p/, ""));
      areas.set(number, { start: start * 512, size: size * 512 });
    }
  }
  for (const [number, content] of Object.entries(contents)) {
    const { start, size } = areas.get(Number(number))!;
    writeContent(file, start, size, content, work);
  }
  if (behind !== undefined) {
    const { start, size } = areas.get(behind.partition)!;
    writeContent(file, start + behind.at, size - behind.at, behind.content, work);
  }
}

/** Puts a file system of `size` bytes into `file`, `start` bytes behind its beginning. */
function writeContent(
  file: string,
  start: number,
  size: number,
  content: Content,
  work: string,
): void {
  const tree = treeOf(content.files ?? {}, work);
  const { type } = content;
  if (type === "ext4" || type === "ext2") makeExt(file, start, size, content, tree);
  else if (type === "vfat") makeVfat(file, start, size, content, tree);
  else if (type === "iso9660") makeIso(file, content, tree, work);
  else {
    const own = join(work, "file-system.img");
    makeAlone(own, size, content, tree);
    const sparse = ["bs=64K", "conv=notrunc,sparse", "oflag=seek_bytes", `seek=${start}`];
    tool("dd", "status=none", `if=${own}`, `of=${file}`, ...sparse);
    rmSync(own);
  }
}

type Maker = (file: string, start: number, size: number, content: Content, tree: string) => void;

/** An option with its value, of which there may be none. */
const option = (name: string, value = "") => value === "" ? [] : [name, value];

const makeExt: Maker = (file, start, size, { type, label, uuid }, tree) => {
  // mke2fs makes no journal on so small a disk by itself.
  const journal = type === "ext4" ? ["-J", "size=1"] : [];
  const names = [...option("-L", label), ...option("-U", uuid)];
  const options = ["-q", "-F", "-t", type, "-b", "1024", ...journal, ...names];
  const within = ["-E", `offset=${start},root_owner=0:0`, "-d", tree];
  tool("mke2fs", ...options, ...within, file, String(size / 1024));
};

const makeVfat: Maker = (file, start, size, { label, uuid }, tree) => {
  const names = [...option("-n", label), ...option("-i", uuid)];
  tool("mkfs.vfat", ...names, "--offset", String(start / 512), file, String(size / 1024));
  tool("sh", "-c", 'mcopy -i "$0" -s "$1"/* ::/', `${file}@@${start}`, tree);
};

function makeIso(file: string, { label = "", live, esp }: Content, tree: string, work: string) {
  if (live) makeSquashfs(join(tree, live.path), treeOf(live.files, work));
  const appended = join(work, "esp.img");
  writeFileSync(appended, "");
  truncateSync(appended, 2 * MIB);
  makeVfat(appended, 0, 2 * MIB, { type: "vfat" }, treeOf(esp ?? {}, work));
  const options = ["-as", "mkisofs", "-quiet", "-r", "-V", label, "-partition_offset", "16"];
  tool("xorriso", ...options, "-append_partition", "2", "0xef", appended, "-o", file, tree);
}

function makeSquashfs(file: string, tree: string): void {
  tool("mksquashfs", tree, file, "-noappend", "-quiet", "-no-progress", "-no-xattrs");
}

/** What no tool can make within another file. */
function makeAlone(file: string, size: number, content: Content, tree: string): void {
  const { type, uuid, label, subvolumes = {} } = content;
  if (type === "squashfs") return makeSquashfs(file, tree);
  if (type === "erofs") {
    tool("mkfs.erofs", "--quiet", ...option("-U", uuid), file, tree);
    return;
  }
  writeFileSync(file, "");
  truncateSync(file, size);
  if (type === "swap") tool("mkswap", "-q", ...option("-U", uuid), file);
  else if (type === "luks") {
    const cheap = ["--type", "luks1", "--pbkdf-force-iterations", "1000"];
    const key = ["--key-file", "/proc/sys/kernel/ostype", ...option("--uuid", uuid)];
    tool("cryptsetup", "luksFormat", "-q", ...cheap, ...key, file);
  } else {
    // Mixed, since it is far below the size that btrfs wants otherwise.
    tool("mkfs.btrfs", "-q", "--mixed", ...option("-L", label), ...option("-U", uuid), file);
    for (const [name, files] of Object.entries(subvolumes)) putFiles(join(tree, name), files);
    // mkfs.btrfs makes subvolumes from 6.12 on; before it takes a mount.
    const script = 'mkdir "$1/.at" && mount -t btrfs -o loop "$0" "$1/.at" && cd "$1" && ' +
      'for name in *; do btrfs -q subvolume create ".at/$name" && ' +
      'cp -a "$name/." ".at/$name/" || exit; done && umount .at';
    tool("unshare", "-m", "--propagation", "private", "sh", "-c", script, file, tree);
  }
}

function treeOf(files: Files, work: string): string {
  const tree = mkdtempSync(join(work, "tree-"));
  chmodSync(tree, 0o755);
  putFiles(tree, files);
  return tree;
}

/** Makes the files below `folder`, and it. */
function putFiles(folder: string, files: Files): void {
  mkdirSync(folder, { recursive: true });
  for (const [path, content] of Object.entries(files)) {
    const target = join(folder, path);
    mkdirSync(path.endsWith("/") ? target : dirname(target), { recursive: true });
    if (path.endsWith("/")) continue;
    if (typeof content === "string") writeFileSync(target, content);
    else symlinkSync(content.link, target);
  }
}

/** In UTF-8 whatever the machine speaks. */
const ENV = { ...process.env, LC_ALL: "C.UTF-8", MTOOLS_SKIP_CHECK: "1" };

const tool = (...command: string[]) => output(command, { env: ENV });
