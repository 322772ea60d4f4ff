/**
 * A kernel that lets nobody write to what is mounted (bdev_allow_write_mounted=0, or built without
 * CONFIG_BLK_DEV_WRITE_MOUNTED; Linux 6.8): a mount is EBUSY while anybody has the device open for
 * writing. Whole devices are mounted here, by mount() and by mount(8), each of them once refused because
 * somebody else could write: without that the parameter would not be in force.
 *
 *     bun vm/guest/restricted.ts 10
 */
import { spawnSync } from "node:child_process";
import { closeSync, copyFileSync, mkdirSync, openSync, writeFileSync } from "node:fs";
import process from "node:process";
import { attach, readPartitions } from "../../mod.ts";
import { progress, report } from "./report.ts";

const cycles = Number(process.argv[2] ?? 10);
const [image, folder] = ["/tmp/restricted.img", "/tmp/restricted"];
copyFileSync("/guest/ext4.img", image);
mkdirSync(folder, { recursive: true });
const { partitions: [{ start, size }] } = await readPartitions(image);

let [refused, left, restricted] = [0, 0, 0];
const messages = new Set<string>();

const mount = (path: string) => spawnSync("mount", [path, folder], { encoding: "utf8" });

for (let done = 0; done < cycles; done++) {
  const workaround = done % 2 === 0 ? "always" : "never";
  const loop = await attach(image, {
    ...{ offset: start, sizelimit: size, partscan: true, workaround },
  });
  const writer = openSync(loop.path, "r+");
  if (await loop.mount().then((root) => root.unmount(), ({ code }) => code) === "EBUSY") {
    restricted++;
  }
  closeSync(writer);
  try {
    const root = await loop.mount();
    writeFileSync(`${root.path}/written`, "x");
    if (await root.unmount() !== "unmounted") left++;
  } catch (error) {
    refused++;
    messages.add((error as Error).message);
  }
  const { status, stderr } = mount(loop.path);
  if (status === 0) spawnSync("umount", [folder]);
  else {
    refused++;
    messages.add(stderr.trim());
  }
  if (await loop.detach() !== "detached") left++;
  progress(done + 1, cycles);
}
report({
  event: "result",
  case: "mount of a whole device",
  kind: "restricted",
  cycles,
  restricted,
  refused,
  left,
  messages: [...messages].join("; "),
});
