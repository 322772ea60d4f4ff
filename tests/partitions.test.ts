/** Partitions that another program drops while attach() looks whether they are ready. */
import { assertEquals, assertRejects } from "@std/assert";
import { readdirSync } from "node:fs";
import { blkpgDelPartition } from "../lib/kernel/block.ts";
import { ifExists, O_RDONLY, open } from "../lib/kernel/file.ts";
import { DevNodes } from "../lib/binding/nodes.ts";
import { readTable } from "../lib/binding/image_table.ts";
import { DevicePartitions } from "../lib/binding/partitions.ts";
import { removePartitions } from "../lib/binding/removal.ts";
import { attach, LoopError } from "../mod.ts";
import { makeImage, test, THREE_PARTITIONS } from "./support/support.ts";

/** Another program, which drops partition 1 after its node was looked at, `times` times. */
class Meddler extends DevNodes {
  readonly disk: string;
  times: number;

  constructor(disk: string, times: number) {
    super("auto");
    this.disk = disk;
    this.times = times;
  }

  override ensure(path: string, dev: string): string | undefined {
    const problem = super.ensure(path, dev);
    if (path === `${this.disk}p3` && problem === undefined && this.times > 0) {
      this.times--;
      using device = open(this.disk, O_RDONLY);
      ifExists(() => blkpgDelPartition(device, 1));
    }
    return problem;
  }
}

const partitionsOf = (number: number) =>
  readdirSync(`/sys/block/loop${number}`).filter((name) => name.startsWith(`loop${number}p`))
    .sort();

test(
  "DevicePartitions.ready() looks again when a partition vanishes while it looks",
  ["root"],
  async () => {
    await using loop = await attach(makeImage("meddled.img", 8, THREE_PARTITIONS));
    using device = open(loop.path, O_RDONLY);
    const nodes = new Meddler(loop.path, 2);
    const partitions = new DevicePartitions(device, loop, nodes);
    await partitions.ready((await readTable(device, 512)).partitions, 10_000);
    const { list } = partitions;
    assertEquals(partitionsOf(loop.number), list.map(({ path }) => path.slice(5)));
    assertEquals([list.length, nodes.times], [3, 0]);
    // A neighbour may look at one for a moment.
    await removePartitions(device, loop.number, list);
  },
);

test(
  "DevicePartitions.ready() says so when partitions vanish until its timeout",
  ["root"],
  async () => {
    await using loop = await attach(makeImage("dropped.img", 8, THREE_PARTITIONS));
    using device = open(loop.path, O_RDONLY);
    const nodes = new Meddler(loop.path, Infinity);
    const partitions = new DevicePartitions(device, loop, nodes);
    await assertRejects(
      async () => await partitions.ready((await readTable(device, 512)).partitions, 100),
      LoopError,
      "another program drops partitions again and again",
    );
    assertEquals(partitionsOf(loop.number), []);
  },
);
