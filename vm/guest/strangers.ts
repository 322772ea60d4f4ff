/**
 * The images of strangers, each scanned by the kernel alone, and then attached by us: what the kernel
 * shows stays, whether we can read the table or not.
 *
 *     bun vm/guest/strangers.ts
 */
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { release } from "node:os";
import { O_RDONLY, open } from "../../lib/kernel/file.ts";
import { LO_FLAGS_AUTOCLEAR, LO_FLAGS_PARTSCAN, loopConfigure } from "../../lib/kernel/loop.ts";
import { until } from "../../tests/support/support.ts";
import { draw, type Seen, type Sketch, SKETCHES } from "../../tests/strangers/images.ts";
import type { GuestView } from "../../tests/strangers/ours.ts";
import { attachedView, readView } from "../../tests/strangers/views.ts";
import { progress, report } from "./report.ts";
import { stopUdevd } from "./udevd.ts";

const disk = "loop0";
const image = "/tmp/stranger.img";

/** The kernel's own scan: nothing is added by us. */
function kernelView({ sectorSize }: Sketch): Seen[] {
  using backing = open(image, O_RDONLY);
  using device = open(`/dev/${disk}`, O_RDONLY);
  loopConfigure(device, backing, {
    block_size: sectorSize,
    info: { lo_flags: LO_FLAGS_AUTOCLEAR | LO_FLAGS_PARTSCAN },
  });
  const sys = `/sys/block/${disk}`;
  return readdirSync(sys).filter((name) => name.startsWith(`${disk}p`)).map((name): Seen => {
    const read = (attribute: string) => Number(readFileSync(`${sys}/${name}/${attribute}`, "utf8"));
    return [read("partition"), read("start") * 512, read("size") * 512];
  }).sort(([a], [b]) => a - b);
}

using _ = stopUdevd();
/** By the tool that made them. */
const images: Record<string, Record<string, GuestView>> = {};
for (const [done, sketch] of SKETCHES.entries()) {
  const { name, sectorSize } = sketch;
  draw(sketch, image);
  const kernel = kernelView(sketch);
  await until(() => !existsSync(`/sys/block/${disk}/loop`), `${disk} to be detached`);
  const read = await readView(image, sectorSize);
  const options = { sectorSize, readOnly: true } as const;
  const scanned = await attachedView(image, { ...options, partscan: true });
  const userspace = await attachedView(image, { ...options, partscan: "userspace" });
  rmSync(image);
  (images[name.split(/[ ,]/)[0]] ??= {})[name] = { kernel, read, scanned, userspace };
  progress(done + 1, SKETCHES.length);
}
for (const [tool, views] of Object.entries(images)) {
  report({ event: "result", case: `images by ${tool}`, kernel: release(), images: views });
}
