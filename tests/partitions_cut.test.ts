/** What an MBR says of a partition that is not so: that it is all there, or that it has a PARTUUID. */
import { assert, assertEquals } from "@std/assert";
import { truncateSync } from "node:fs";
import { attach, readPartitions } from "../mod.ts";
import { makeImage, output, run, sysfs, test } from "./support/support.ts";

const MIB = 1024 * 1024;

test("a partition that is cut at the image's end has both sizes", ["root"], async () => {
  const file = makeImage("cut.img", 12, "label: dos\n1: size=1MiB\n2: size=6MiB\n");
  assertEquals((await readPartitions(file)).partitions.map((one) => "truncated" in one), [
    false,
    false,
  ]);
  truncateSync(file, 6 * MIB);
  const truncated = { from: 6 * MIB, to: 4 * MIB };
  const { partitions } = await readPartitions(file);
  assertEquals(partitions.map((one) => one.truncated), [undefined, truncated]);
  for (const partscan of [true, "userspace"] as const) {
    await using loop = await attach(file, { partscan });
    assertEquals(loop.partitions.map((one) => one.truncated), [undefined, truncated]);
    assertEquals(Number(sysfs(`loop${loop.number}/loop${loop.number}p2/size`)) * 512, 4 * MIB);
    truncateSync(file, 7 * MIB);
    await loop.setCapacity();
    await loop.rescan();
    assertEquals(loop.partitions[1].truncated, { from: 6 * MIB, to: 5 * MIB });
    truncateSync(file, 12 * MIB);
    await loop.setCapacity();
    await loop.rescan();
    assertEquals([loop.partitions[1].size, "truncated" in loop.partitions[1]], [6 * MIB, false]);
    truncateSync(file, 6 * MIB);
  }
});

test("an MBR whose identifier is 0 has no UUID, and its partitions no PARTUUID, as for blkid", [
  "root",
  "blkid",
], async () => {
  for (const [id, uuid] of [["0x0", undefined], ["0x1a2b3c4d", "1a2b3c4d-01"]]) {
    const file = makeImage("id.img", 8, `label: dos\nlabel-id: ${id}\n1: size=1MiB\n`);
    const table = await readPartitions(file);
    assertEquals([table.kind, table.uuid], ["mbr", uuid?.slice(0, 8)]);
    assertEquals("uuid" in table, uuid !== undefined);
    assertEquals(table.partitions.map((one) => one.uuid), [uuid]);
    const whole = run(["blkid", "-p", "-o", "value", "-s", "PTUUID", file]).stdout.trim();
    assertEquals(whole, table.uuid ?? "");
    await using loop = await attach(file, { partscan: "userspace" });
    const [partition] = loop.partitions;
    assertEquals(partition.uuid, uuid);
    const asked = ["blkid", "-p", "-o", "export", partition.path];
    const said = output(asked);
    assert(said.includes("PART_ENTRY_SCHEME=dos"), said);
    assertEquals(/^PART_ENTRY_UUID=(.*)$/m.exec(said)?.[1], uuid);
  }
});
