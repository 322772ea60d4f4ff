/**
 * Mounts all that belongs together in an image, says what lies where, and runs a command in it.
 *
 *     bun examples/mount_image.ts disk.img
 *     deno run -A examples/mount_image.ts disk.img -- apt-get install -y curl
 */
import { mountImage } from "../mod.ts";
import { printable } from "./printable.ts";
import { parseOptions, parsePartition, print, runMain } from "./program.ts";

const HELP = `Usage: mount_image.ts IMAGE [options] [-- COMMAND [ARGUMENT...]]

Mounts the root of IMAGE and what its /etc/fstab or the types of its partitions put below it. Without
COMMAND it prints what is mounted where, and what is not and why. With COMMAND it runs that inside the
image, in namespaces of its own, and passes its exit code on. Nothing outlives this process.

      --root PARTITION  where the image does not say which one it is: a number, or as in label=root
  -r, --read-only       change no byte of IMAGE
  -h, --help            this text`;

function parse(args: string[]) {
  const { values, operands: [image, ...others], command } = parseOptions(args, {
    "root": { type: "string" },
    "read-only": { type: "boolean", short: "r" },
    "help": { type: "boolean", short: "h" },
  });
  if (values.help) return undefined;
  if (image === undefined) throw new Error("no image given; try --help");
  if (others.length > 0) throw new Error(`'${others[0]}' is one too many (a command follows --)`);
  const root = values.root === undefined ? undefined : parsePartition(values.root);
  return { image, options: { root, readOnly: values["read-only"] }, command };
}

async function main(args: string[], signal: AbortSignal): Promise<number> {
  const parsed = parse(args);
  if (parsed === undefined) {
    print(HELP);
    return 0;
  }
  await using image = await mountImage(parsed.image, { ...parsed.options, signal });
  if (parsed.command.length > 0) {
    return (await image.run(parsed.command, { stdin: "inherit", signal })).code;
  }
  print(printable(image.osRelease?.PRETTY_NAME ?? "no os-release"));
  for (const { point, mount } of image.mounts) {
    const where = mount.partition === undefined
      ? "the whole image"
      : `partition ${mount.partition}`;
    print(`  ${printable(point).padEnd(14)} ${where.padEnd(13)} ${mount.type}`);
  }
  for (const { partition, point, source, reason } of image.skipped) {
    const what = partition === undefined ? source ?? "" : `partition ${partition}`;
    print(
      `  not mounted: ${printable([point, what].filter(Boolean).join(", "))}: ${printable(reason)}`,
    );
  }
  return 0;
}

await runMain("mount_image", main);
