/**
 * Mounts what is in an image, runs a command there, unmounts.
 *
 *     bun examples/edit_image.ts disk.img 2 -- sh -c 'echo box > etc/hostname'
 *     deno run -A examples/edit_image.ts disk.img 2 --read-only -- ls -l
 */
import { attach, type MountOptions } from "../mod.ts";
import { runCommand } from "./command.ts";
import { parseOptions, parsePartition, print, runMain } from "./program.ts";

const HELP = `Usage: edit_image.ts IMAGE [PARTITION] [options] -- COMMAND [ARGUMENT...]

Mounts partition PARTITION of IMAGE, or all of IMAGE without one, and runs COMMAND there with
  LOOPDEV_ROOT       the path of its files
  LOOPDEV_PARTITION  the device that is mounted, as in /dev/loop4p2
in its environment. Unmounts and detaches when COMMAND ends, and passes its exit code on. Nothing of
it outlives this process and COMMAND, not even after SIGKILL.

PARTITION is a number, or name=, label=, uuid=, partuuid= or type= with a value, as in label=data or
type=root.

  -t, --type NAME        the file system's, instead of what its superblock says
  -r, --read-only        refuse writes
  -o, --options OPTIONS  as of mount(8), separated by commas
      --at FOLDER        mounts it there, and not on a directory below /run/loopdev
  -h, --help             this text`;

function parse(args: string[]) {
  const { values, operands: [image, wanted, ...others], command } = parseOptions(args, {
    "type": { type: "string", short: "t" },
    "read-only": { type: "boolean", short: "r" },
    "options": { type: "string", short: "o" },
    "at": { type: "string" },
    "help": { type: "boolean", short: "h" },
  });
  if (values.help) return undefined;
  if (image === undefined) throw new Error("no image given; try --help");
  if (others.length > 0) throw new Error(`'${others[0]}' is one too many (a command follows --)`);
  const partition = wanted === undefined ? undefined : parsePartition(wanted);
  if (command.length === 0) throw new Error("no command given: it follows --; try --help");
  const { type, options, at, "read-only": readOnly } = values;
  const mount: MountOptions = { type, readOnly, at, options: options?.split(",") };
  return { image, partition, mount, command };
}

async function main(args: string[], signal: AbortSignal): Promise<number> {
  const parsed = parse(args);
  if (parsed === undefined) {
    print(HELP);
    return 0;
  }
  const { image, partition, mount, command } = parsed;
  const { readOnly } = mount;
  await using loop = await attach(image, { partscan: partition !== undefined, readOnly, signal });
  await using root = await loop.mount(partition, { ...mount, signal });
  signal.throwIfAborted();
  const env = { LOOPDEV_ROOT: root.path, LOOPDEV_PARTITION: root.device };
  const status = await runCommand(command, env, root.path);
  // What was written may not have reached the image: that rejects, and is worse than any exit code.
  if (await root.unmount() === "deferred") {
    console.error(
      "edit_image: a process that the command started still uses the files: it is unmounted when " +
        "the last one ends",
    );
  }
  return status;
}

await runMain("edit_image", main);
