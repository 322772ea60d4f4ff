/**
 * Attaches an image, runs a command with it, detaches; without a command, until it is told to stop.
 *
 *     bun examples/attach.ts disk.img --partscan -- sh -c 'mount $LOOP_PARTITION_2 /mnt'
 *     deno run --allow-ffi --allow-run --allow-env --allow-read examples/attach.ts disk.img
 */
import {
  attach,
  type AttachOptions,
  type LoopDevice,
  type PartitionSelector,
  type SectorSize,
} from "../mod.ts";
import { runCommand } from "./command.ts";
import {
  parseNumber,
  parseOptions,
  parsePartition,
  print,
  runMain,
  signalCode,
} from "./program.ts";

const HELP = `Usage: attach.ts IMAGE [options] [-- COMMAND [ARGUMENT...]]

Attaches IMAGE as a loop device and runs COMMAND with
  LOOP_DEVICE        the device, as in /dev/loop4
  LOOP_PARTITIONS    its partitions, separated by spaces
  LOOP_PARTITION_n   partition n
  LOOP_PARTITION     the one that --partition says
in its environment; detaches when it ends and passes its exit code on.
Without COMMAND prints these and detaches at SIGINT or SIGTERM.

  -P, --partscan[=userspace]  make the partitions usable
  -p, --partition PARTITION   the same, and that one must be there: a number, or name=, label=,
                              uuid=, partuuid= or type= with a value
  -r, --read-only             refuse writes
  -o, --offset BYTES          where the device begins in the image
      --sizelimit BYTES       the most bytes it may have
  -b, --sector-size BYTES     512, 1024, 2048, 4096, or 'auto': what the image's GPT is made for
      --direct-io             bypass the page cache
      --workaround WHEN       auto, always or never
      --timeout MS            how long partitions may take to be ready
  -h, --help                  this text`;

function parse(args: string[]) {
  const { values, operands, command } = parseOptions(args, {
    "partscan": { type: "boolean", short: "P", or: ["userspace"] },
    "partition": { type: "string", short: "p" },
    "read-only": { type: "boolean", short: "r" },
    "offset": { type: "string", short: "o" },
    "sizelimit": { type: "string" },
    "sector-size": { type: "string", short: "b" },
    "direct-io": { type: "boolean" },
    "workaround": { type: "string" },
    "timeout": { type: "string" },
    "help": { type: "boolean", short: "h" },
  });
  const number = (name: "offset" | "sizelimit" | "sector-size" | "timeout") =>
    parseNumber(name, values[name]);
  const partition = values.partition === undefined ? undefined : parsePartition(values.partition);
  const options: AttachOptions = {
    partscan: values.partscan ?? partition !== undefined,
    workaround: values.workaround as AttachOptions["workaround"],
    readOnly: values["read-only"],
    directIo: values["direct-io"],
    offset: number("offset"),
    sizelimit: number("sizelimit"),
    sectorSize: values["sector-size"] === "auto" ? "auto" : number("sector-size") as SectorSize,
    timeout: number("timeout"),
  };
  return { help: values.help, files: operands, options, partition, command };
}

/** The device's paths, for a shell to use. */
async function environment(
  loop: LoopDevice,
  partition: PartitionSelector | undefined,
): Promise<Record<string, string>> {
  const { path, partitions } = loop;
  const chosen = partition === undefined ? undefined : await loop.partition(partition);
  return {
    ...chosen && { LOOP_PARTITION: chosen.path },
    LOOP_DEVICE: path,
    LOOP_PARTITIONS: partitions.map((partition) => partition.path).join(" "),
    ...Object.fromEntries(partitions.map(({ number, path }) => [`LOOP_PARTITION_${number}`, path])),
  };
}

/** Stays until the first signal. */
function hold(stop: AbortSignal): Promise<void> {
  const awake = setInterval(() => {}, 2 ** 30);
  return new Promise((resolve) => {
    stop.addEventListener("abort", () => {
      clearInterval(awake);
      resolve();
    });
  });
}

async function main(args: string[], stop: AbortSignal): Promise<number> {
  const { help, files: [image, ...others], options, partition, command } = parse(args);
  if (help) {
    print(HELP);
    return 0;
  }
  if (image === undefined) throw new Error("no image given; try --help");
  if (others.length > 0) {
    throw new Error(`more than one image: '${others[0]}' (a command follows --)`);
  }
  await using loop = await attach(image, { ...options, signal: stop });
  const env = await environment(loop, partition);
  stop.throwIfAborted();
  if (command.length > 0) return await runCommand(command, env);
  for (const [name, value] of Object.entries(env)) print(`${name}=${value}`);
  await hold(stop);
  return signalCode(stop.reason);
}

await runMain("attach", main);
