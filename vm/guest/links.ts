/**
 * udev's links of an image without partitions: whether udevd hears of it at all. Beside it, whether it
 * does so from the loop driver alone.
 *
 *     bun vm/guest/links.ts 20
 */
import { realpathSync } from "node:fs";
import process from "node:process";
import { bindFreeDevice } from "../../lib/binding/bind.ts";
import { O_RDWR, open } from "../../lib/kernel/file.ts";
import { attach, detach } from "../../mod.ts";
import { run } from "./image.ts";
import { progress, report } from "./report.ts";

const cycles = Number(process.argv[2] ?? 20);
const image = "/tmp/links.img";
const deno = ["run", "--allow-ffi", "--no-check", "--no-config", "--no-lock"];
const CLI = [process.execPath, ..."Deno" in globalThis ? deno : [], "cli.ts"];

/** udevd on an emulated processor takes some 100 ms. */
const PATIENCE_MS = 5000;

function linkOf(uuid: string): string | undefined {
  try {
    return realpathSync(`/dev/disk/by-uuid/${uuid}`);
  } catch {
    return undefined;
  }
}

async function becomes(condition: () => boolean): Promise<boolean> {
  for (const end = Date.now() + PATIENCE_MS; Date.now() < end;) {
    if (condition()) return true;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return false;
}

/** Attaches the image; gives the path, and how to let go. */
type Way = () => Promise<[path: string, end: () => unknown]>;

const WAYS: Record<string, Way> = {
  async "the driver alone"() {
    const backing = open(image, O_RDWR);
    const { device } = await bindFreeDevice({ backing, readOnly: false, partscan: false });
    backing.close();
    return [device.path, () => device.close()];
  },
  async "attach()"() {
    const loop = await attach(image);
    return [loop.path, () => loop.detach()];
  },
  async "attach(), persist()"() {
    const loop = await attach(image);
    await loop.persist();
    return [loop.path, () => detach(loop.path)];
  },
  async "attach() with partscan"() {
    const loop = await attach(image, { partscan: true });
    return [loop.path, () => loop.detach()];
  },
  "cli.ts -f --show"() {
    const path = run([...CLI, "-f", "--show", image]);
    return Promise.resolve([path, () => run([...CLI, "-d", path])]);
  },
};

for (const [name, way] of Object.entries(WAYS)) {
  let unlinked = 0;
  for (let done = 0; done < cycles; done++) {
    const uuid = crypto.randomUUID();
    run(["truncate", "-s", "0", image]);
    run(["truncate", "-s", "8M", image]);
    run(["mkfs.ext4", "-q", "-F", "-U", uuid, image]);
    const [path, end] = await way();
    if (!await becomes(() => linkOf(uuid) === path)) unlinked++;
    await end();
    // The next one shall not be taken for it.
    await becomes(() => linkOf(uuid) === undefined);
    progress(done + 1, cycles);
  }
  const kind = name === "the driver alone" ? "control" : "links";
  report({ event: "result", case: name, kind, opener: "none", cycles, unlinked });
}
