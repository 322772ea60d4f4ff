/**
 * A kernel that lets nobody write to what is mounted (bdev_allow_write_mounted=0, or built without
 * CONFIG_BLK_DEV_WRITE_MOUNTED; Linux 6.8): a mount is EBUSY while anybody has the device open for
 * writing. Whole devices are mounted here, by mount() and by mount(8), each of them once refused because
 * somebody else could write: without that the parameter would not be in force. Then what works beside a
 * mount, what is refused, and whether our messages name the cause.
 *
 *     bun vm/guest/restricted.ts 10
 */
import { spawnSync } from "node:child_process";
import {
  closeSync,
  copyFileSync,
  mkdirSync,
  openSync,
  readFileSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import process from "node:process";
import { attach, growImage, type LoopDevice, readPartitions } from "../../mod.ts";
import { anyProcess, differing, type Finding, refusalOf, tryCase, unsaid } from "./cases.ts";
import { run } from "./image.ts";
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

const FIRST = { offset: start, sizelimit: size };
const MIB = 1024 * 1024;
const CAUSE = "bdev_allow_write_mounted=0";

/** How open(2) for writing ends. */
function openToWrite(path: string): string {
  try {
    closeSync(openSync(path, "r+"));
    return "opened";
  } catch (error) {
    return (error as { code: string }).code;
  }
}

/** What a tool says, if it fails. */
function said(command: string[]): string {
  const [name, ...args] = command;
  const { status, stderr } = spawnSync(name, args, { encoding: "utf8" });
  return status === 0 ? "done" : stderr.trim().split("\n").at(-1)!;
}

/** A fresh image, attached. */
function fresh(options: Parameters<typeof attach>[1]): Promise<LoopDevice> {
  copyFileSync("/guest/ext4.img", image);
  return attach(image, options);
}

const CASES: Record<string, () => Promise<Finding> | Finding> = {
  async "writer named"() {
    await using loop = await fresh(FIRST);
    const writer = openSync(loop.path, "r+");
    const message = await refusalOf(() => loop.mount()) ?? "it was mounted";
    closeSync(writer);
    const named = unsaid("the error", message, `this process, ${process.pid} (`, CAUSE);
    await using _root = await loop.mount();
    return { refused: anyProcess(message), faults: [named] };
  },
  /** A mounted device cannot be opened for writing; the disk of a mounted partition can. */
  async "open to write"() {
    await using whole = await fresh(FIRST);
    const faults: (string | undefined)[] = [];
    {
      await using root = await whole.mount(undefined, { readOnly: true });
      faults.push(differing("the device", openToWrite(root.device), "EBUSY"));
    }
    faults.push(differing("afterwards", openToWrite(whole.path), "opened"));
    await whole.detach();
    await using loop = await fresh({ partscan: true });
    await using root = await loop.mount(1);
    faults.push(differing("the partition", openToWrite(root.device), "EBUSY"));
    faults.push(differing("the disk", openToWrite(loop.path), "opened"));
    return { faults };
  },
  async "mkfs, e2fsck"() {
    await using loop = await fresh(FIRST);
    await using root = await loop.mount();
    writeFileSync(`${root.path}/kept`, "x");
    const mkfs = said(["mkfs.ext4", "-q", "-F", root.device]);
    const e2fsck = said(["e2fsck", "-fy", root.device]);
    const faults = [mkfs, e2fsck].map((text, i) => text === "done" ? `${i}: it ran` : undefined);
    return {
      seen: mkfs,
      faults: [...faults, differing("kept", readFileSync(`${root.path}/kept`, "utf8"), "x")],
    };
  },
  async "attach, losetup"() {
    await using loop = await fresh({ partscan: true });
    await using root = await loop.mount(1);
    const other = "/tmp/restricted-other.img";
    copyFileSync("/guest/ext4.img", other);
    await using second = await attach(other, { partscan: true, workaround: "always" });
    const listed = run(["losetup", "-j", image, "-n", "-O", "NAME"]);
    const capacity = said(["losetup", "-c", loop.path]);
    await loop.rescan();
    return {
      faults: [
        differing("the other's partitions", second.partitions.length, 2),
        differing("losetup -j", listed, loop.path),
        differing("losetup -c", capacity, "done"),
        differing("partitions after rescan()", loop.partitions.length, 2),
        differing(
          "mounted",
          readFileSync("/proc/self/mountinfo", "utf8").includes(root.path),
          true,
        ),
      ],
    };
  },
  /** sfdisk adds a partition beside a mounted one. */
  async "rescan()"() {
    await using loop = await fresh({ partscan: true });
    truncateSync(image, 32 * MIB);
    await loop.setCapacity();
    await using _root = await loop.mount(1);
    run(
      ["sfdisk", "--append", "--no-reread", "--no-tell-kernel", "--quiet", loop.path],
      "size=1MiB\n",
    );
    await loop.rescan();
    return { faults: [differing("partitions", loop.partitions.length, 3)] };
  },
  /** Of a mounted device and of a mounted partition. */
  async "grow(), mounted"() {
    const faults: (string | undefined)[] = [];
    {
      run(["truncate", "-s", "0", image]);
      run(["truncate", "-s", "8M", image]);
      run(["mkfs.ext4", "-q", "-F", image]);
      await using loop = await attach(image);
      await using _root = await loop.mount();
      const { fileSystem } = await loop.grow(undefined, { size: 16 * MIB });
      faults.push(fileSystem?.reason, differing("the device", fileSystem?.to, 16 * MIB));
    }
    await using loop = await fresh({ partscan: true });
    await using _root = await loop.mount(2);
    const { partition, fileSystem } = await loop.grow(2, { size: 32 * MIB });
    faults.push(fileSystem?.reason);
    if (partition === undefined || partition.to < 22 * MIB) faults.push(`it has ${partition?.to}`);
    return { faults };
  },
  /** Of a table while the whole device is mounted: refused, and it goes on after the unmount. */
  async "grow(), whole mounted"() {
    // An ext4 leaves the first sector to a table.
    run(["truncate", "-s", "0", image]);
    run(["truncate", "-s", "16M", image]);
    run(["mkfs.ext4", "-q", "-F", image, "8M"]);
    run(["sfdisk", "--quiet", "--wipe", "never", image], "label: dos\nstart=8MiB, size=4MiB\n");
    await using loop = await attach(image, { partscan: true });
    const root = await loop.mount(undefined, { type: "ext4" });
    const grow = () => loop.grow(1, { size: 32 * MIB });
    const message = await refusalOf(grow) ?? "it grew";
    await root.unmount();
    const { partition } = await grow();
    const grown = Number(partition?.to) > 20 * MIB ? undefined : `partition 1 has ${partition?.to}`;
    return { refused: message, faults: [unsaid("the error", message, "EBUSY", CAUSE), grown] };
  },
  async "growImage()"() {
    copyFileSync("/guest/ext4.img", image);
    const { fileSystem } = await growImage(image, { size: 32 * MIB });
    return { faults: [fileSystem?.reason] };
  },
  async "lock(), mkfs"() {
    await using loop = await fresh(FIRST);
    {
      await using _lock = await loop.lock();
      run(["mkfs.ext4", "-q", "-F", loop.path]);
    }
    await using root = await loop.mount();
    return { faults: [differing("type", root.type, "ext4")] };
  },
  /** What mount(8) itself does with the loop device that it makes. */
  "mount -o loop"() {
    copyFileSync("/guest/ext4.img", image);
    const options = `loop,offset=${start},sizelimit=${size}`;
    const seen = said(["mount", "-o", options, image, folder]);
    if (seen === "done") run(["umount", folder]);
    return { seen, faults: [] };
  },
};
for (const [name, find] of Object.entries(CASES)) await tryCase(name, find);
