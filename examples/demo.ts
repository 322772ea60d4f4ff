/**
 * Makes a partitioned image, attaches it, reads every partition through the loop device, detaches.
 *
 *     bun examples/demo.ts
 *     deno run --allow-ffi examples/demo.ts
 */
import { attach, isAffected, PARTSCAN_RACE } from "../mod.ts";
import { makeImage, type PartitionSpec } from "./image.ts";
import { kernelRelease, readBeginning, remove } from "./files.ts";
import { printable } from "./printable.ts";
import { parseOptions, print, runMain } from "./program.ts";

const ESP = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
const LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4";
const PARTITIONS: PartitionSpec[] = [
  { name: "esp", type: ESP, mib: 2, content: "Hello from the EFI system partition" },
  { name: "root", type: LINUX, mib: 8, content: "Hello from the root partition" },
  { name: "home", type: LINUX, mib: 3, content: "Hello from the home partition" },
  { name: "data", type: LINUX, mib: 1, content: "Hello from the data partition" },
];

const HELP = `Usage: demo.ts

Makes an image with four partitions below /tmp, attaches it, reads each partition through the loop
device, detaches it and removes the image. Needs root.

  -h, --help  this text`;

const say = (label: string, text: string) => print(`${label.padEnd(10)}${text}`);
const mib = (bytes: number) => `${(bytes / 1024 / 1024).toFixed(1)} MiB`;

async function demo(): Promise<void> {
  const release = kernelRelease();
  const flickers = isAffected(release)
    ? `partitions flicker on this kernel unless attached in two steps (${PARTSCAN_RACE.name})`
    : "partitions do not flicker on this kernel";
  say("kernel", `${release}: ${flickers}`);
  const image = `/tmp/loopdev-demo-${crypto.randomUUID().slice(0, 8)}.img`;
  using _ = { [Symbol.dispose]: () => remove(image) };
  say("image", `${image}, ${mib(makeImage(image, PARTITIONS))}, GPT`);

  const start = performance.now();
  await using loop = await attach(image, { partscan: true });
  const attached = performance.now();
  const steps = loop.strategy === "two-step" ? "two steps" : "one step";
  say("attached", `${loop.path} in ${(attached - start).toFixed(1)} ms (${steps})`);

  print("\nNODE              START      SIZE  NAME  BEGINS WITH");
  for (const { path, start, size, name = "" } of loop.partitions) {
    const begin = new TextDecoder().decode(readBeginning(path, 64)).replace(/\0.*/s, "");
    const columns = [path.padEnd(13), mib(start).padStart(9), mib(size).padStart(9)];
    const content = printable(JSON.stringify(begin));
    print(`${columns.join(" ")}  ${printable(name).padEnd(4)}  ${content}`);
    if (begin !== PARTITIONS.find((spec) => spec.name === name)?.content) {
      throw new Error(`${path} does not begin with what was written to partition ${name}`);
    }
  }
  if (loop.partitions.length !== PARTITIONS.length) {
    throw new Error(`${PARTITIONS.length} partitions written, ${loop.partitions.length} seen`);
  }

  print("");
  const detaching = performance.now();
  const outcome = await loop.detach();
  say(
    "detached",
    `${loop.path} in ${(performance.now() - detaching).toFixed(1)} ms (${outcome})`,
  );
}

async function main(args: string[]): Promise<number> {
  const { values, operands: [other] } = parseOptions(args, {
    help: { type: "boolean", short: "h" },
  });
  if (values.help) {
    print(HELP);
    return 0;
  }
  if (other !== undefined) throw new Error(`'${other}' is one too many; try --help`);
  await demo();
  return 0;
}

await runMain("demo", main);
