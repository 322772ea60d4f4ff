/**
 * `loopdev run`: a command in an image.
 *
 * @module
 */
import { fileStatus, isRefusal } from "../../lib/losetup/list.ts";
import { type MountedImage, mountImage, type PartitionSelector } from "../../mod.ts";
import { UsageError } from "../getopt.ts";
import { environment } from "../program.ts";
import type { Signal } from "../runtime.ts";
import type { Console } from "./console.ts";
import { BEHIND, type VerbLine } from "./line.ts";
import { parseOwner } from "./owner.ts";
import { optionalPartition, parsePartition } from "./partition.ts";
import { sayWhatIsMissing } from "./skipped.ts";

/** As env(1) and shells have them: the command cannot be executed, or does not exist. */
const CANNOT_EXECUTE = 126;
const NOT_FOUND = 127;

/** Resolves to the exit code of the command. */
export async function run(line: VerbLine, console: Console): Promise<number> {
  const [image] = line.operands;
  const root = rootOf(line);
  const readOnly = line.has("read-only") || undefined;
  const chroot = !line.has("no-chroot");
  const owner = line.has("owner") ? parseOwner(line.value("owner")) : undefined;
  console.subject = image;
  let isRunning = false;
  // These the terminal sends to the command, too, which decides what they mean.
  const isOfTerminal = (name: Signal) => name === "SIGINT" || name === "SIGQUIT";
  const signal = console.abortOn((name) => !(isRunning && isOfTerminal(name)));
  await using tree = await mountImage(image, { root, readOnly, signal });
  console.callPath(tree.path, `${image}:`);
  sayWhatIsMissing(image, tree, console, { stays: false });
  const command = line.command ?? [await shellFor(tree, chroot)];
  isRunning = true;
  try {
    return (await tree.run(command, { chroot, owner, stdin: "inherit", signal })).code;
  } catch (error) {
    if (!isRefusal(error) || error.path !== command[0]) throw error;
    console.complain(error);
    return error.code === "ENOENT" ? NOT_FOUND : CANNOT_EXECUTE;
  }
}

/** The partition that the operand or --root names. */
function rootOf(line: VerbLine): PartitionSelector | undefined {
  const [, word] = line.operands;
  if (word === undefined) return optionalPartition(line.value("root"));
  if (!line.has("root")) return parsePartition(word, BEHIND);
  throw new UsageError(`both '${word}' and --root name a partition`, true);
}

/** An interactive shell: the image's, or this machine's. */
async function shellFor(tree: MountedImage, chroot: boolean): Promise<string> {
  if (!chroot) return environment("SHELL") ?? "/bin/sh";
  try {
    return fileStatus(await tree.resolve("/bin/bash")) && "/bin/bash";
  } catch (error) {
    if (isRefusal(error)) return "/bin/sh";
    throw error;
  }
}
