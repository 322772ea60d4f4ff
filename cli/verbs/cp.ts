/**
 * `loopdev cp`: copies into an image and out of it, by this machine's cp(1).
 *
 * @module
 */
import {
  absolutePath,
  decodeName,
  fileStatus,
  ifExists,
  isRefusal,
} from "../../lib/losetup/list.ts";
import { type MountedImage, mountImage } from "../../mod.ts";
import { Failure } from "../failure.ts";
import type { Console } from "./console.ts";
import { refuseIntoItself, refuseOverItself } from "./itself.ts";
import type { VerbLine } from "./line.ts";
import { optionalPartition } from "./partition.ts";
import { type Copy, parseCopy, splitLast } from "./place.ts";
import { CopyProgress } from "./progress.ts";

/** Resolves to cp's exit code. */
export async function cp(line: VerbLine, console: Console): Promise<number> {
  const copy = parseCopy(line.operands);
  const { image, into, from, to } = copy;
  console.subject = image;
  const other = [...from, to].find((name) => !name.isWellFormed());
  if (other !== undefined) {
    throw new Failure(`'${other}' is not UTF-8: copy the directory that it lies in`);
  }
  const signal = console.abortOn();
  const readOnly = into ? undefined : true;
  const root = optionalPartition(line.value("root"));
  await using tree = await mountImage(image, { root, readOnly, signal });
  console.callPath(tree.path, `${image}:`);
  using progress = new CopyProgress(console, await sizeOf(copy, tree));
  const { code, stderr } = await tree.run(await commandOf(copy, tree), {
    chroot: false,
    // Its words are English then, and names are UTF-8.
    env: { LC_ALL: "C.UTF-8", LANGUAGE: "" },
    stderr: "piped",
    signal,
  });
  console.status("");
  for (const said of decodeName(stderr!).split("\n")) {
    if (said === "") continue;
    // A name with a quotation mark stands between other ones.
    console.say(
      said.replace(/^cp: /, "").replaceAll(/(['"])\.\//g, (_, mark) => `${mark}${image}:/`),
    );
  }
  progress.finish();
  await tree.unmount();
  return code;
}

/**
 * cp(1) works in the root directory of the image, so that names in the image begin with "./". It replaces
 * what it would overwrite in a directory: a link of the image to /etc/passwd, or one that was copied out of
 * it earlier, would have it overwrite this machine's.
 */
async function commandOf(copy: Copy, tree: MountedImage): Promise<string[]> {
  const { into, from, to } = copy;
  const command = ["cp", "-a", "--sparse=auto"];
  if (into) {
    refuseIntoItself(copy);
    const target = await nameIn(tree, to);
    command.push("--remove-destination");
    if (!hasOwners(tree, target)) command.push("--no-preserve=ownership");
    return [...command, "--", ...from.map(absolutePath), target];
  }
  const sources: string[] = [];
  for (const path of from) sources.push(await sourceIn(tree, path));
  refuseOverItself(copy, sources, tree.path);
  const target = absolutePath(to);
  // What is named itself is written to, as with cp(1): it may be /dev/stdout.
  const isDirectory = ifExists(() => fileStatus(target))?.type === "directory";
  if (isDirectory) command.push("--remove-destination");
  return [...command, "--", ...sources, target];
}

/** Their drivers give each file the owner that the mount has, and refuse any other one with EPERM. */
const WITHOUT_OWNERS = ["vfat", "exfat"];

/** Whether files there have owners of their own. `name`: as `nameIn` gives it. */
function hasOwners({ mounts, path }: MountedImage, name: string): boolean {
  const target = `${path}${name.slice(1)}/`;
  const [innermost] = mounts.map(({ mount }) => mount)
    .filter(({ path }) => target.startsWith(`${path}/`))
    .sort((a, b) => b.path.length - a.path.length);
  return !WITHOUT_OWNERS.includes(innermost.type);
}

/** As `nameIn`, but a link at the end stays: cp copies the link itself. */
async function sourceIn(tree: MountedImage, path: string): Promise<string> {
  const { folder, last } = splitLast(path);
  if (last === undefined) return await nameIn(tree, path);
  return `${await nameIn(tree, folder)}${last}`;
}

/** The name without a link in it, from the working directory; a slash at its end stays. */
async function nameIn(tree: MountedImage, path: string): Promise<string> {
  const below = (await tree.resolve(path)).slice(tree.path.length + 1);
  const [end] = /\/\.?$/.exec(path) ?? [""];
  return below === "" ? "./" : `./${below}${end}`;
}

/** The size of what is copied, if it is one file. */
async function sizeOf({ into, from }: Copy, tree: MountedImage): Promise<number | undefined> {
  if (from.length > 1) return undefined;
  try {
    const { type, size } = fileStatus(into ? from[0] : await tree.resolve(from[0]));
    return type === "file" ? size : undefined;
  } catch (error) {
    // cp(1) says what is wrong with it.
    if (isRefusal(error)) return undefined;
    throw error;
  }
}
