/** What mount() says of a device that it cannot mount: what is there, and never what would destroy it. */
import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { closeSync, openSync, readSync, writeSync } from "node:fs";
import { attach, LoopError, type MountOptions } from "../mod.ts";
import { ext4Image } from "./mount_image.ts";
import { makeImage, type Need, output, test, THREE_PARTITIONS } from "./support.ts";

/** Why an image is not mounted; undefined if it is. */
async function refusal(file: string, options?: MountOptions): Promise<LoopError | undefined> {
  await using loop = await attach(file);
  try {
    await using _ = await loop.mount(undefined, options);
    return undefined;
  } catch (error) {
    if (error instanceof LoopError) return error;
    throw error;
  }
}

/** Turns one bit of a file over. */
function flip(file: string, at: number, bit: number): void {
  const fd = openSync(file, "r+");
  const byte = new Uint8Array(1);
  readSync(fd, byte, 0, 1, at);
  byte[0] ^= 1 << bit;
  writeSync(fd, byte, 0, 1, at);
  closeSync(fd);
}

const MADE: [type: string, need: Need, mib: number, superblock: number, command: string[]][] = [
  ["ext4", "mkfs.ext4", 8, 1024, ["mkfs.ext4", "-q", "-F"]],
  ["xfs", "mkfs.xfs", 320, 0, ["mkfs.xfs", "-q"]],
  ["btrfs", "mkfs.btrfs", 128, 64 * 1024, ["mkfs.btrfs", "-q"]],
];
/** Bytes of the three superblocks that have fields: magic numbers, sizes, UUIDs, features, labels. */
const BYTES = [0x00, 0x04, 0x18, 0x20, 0x24, 0x38, 0x40, 0x58, 0x60, 0x64, 0x68, 0x6c, 0x78, 0xe0];

for (const [type, need, mib, superblock, command] of MADE) {
  test(`a wrong bit in a superblock of ${type} is no reason to make a new one`, [
    "root",
    need,
  ], async () => {
    const file = makeImage("bits.img", mib);
    output([...command, file]);
    let named = 0;
    for (const [i, at] of BYTES.entries()) {
      flip(file, superblock + at, i % 8);
      const error = await refusal(file, { readOnly: true });
      flip(file, superblock + at, i % 8);
      if (error === undefined) continue;
      assert(!error.message.includes("mkfs"), `${at}: ${error.message}`);
      assertMatch(error.message, /magic number of .*damaged|not empty|driver/, `${at}`);
      if (error.message.includes(`type: "${type}"`)) named++;
    }
    // All but those in the magic number itself.
    assert(named >= BYTES.length - 3, `${named} of ${BYTES.length} name ${type}`);
  });
}

test("a file system that only its driver can judge is named", ["root", "mkfs.ntfs"], async () => {
  const file = makeImage("ntfs.img", 8);
  output(["mkfs.ntfs", "-q", "-F", file]);
  const error = await refusal(file);
  assertStringIncludes(error!.message, "it seems to hold NTFS");
  assertStringIncludes(error!.message, 'mount it with type: "ntfs3"');
  assert(!error!.message.includes("mkfs"));
});

test(
  "only a device that is all zero is advised to be made a file system of",
  ["root"],
  async () => {
    const file = makeImage("zero.img", 8);
    const says = async () => {
      const { code, message } = (await refusal(file))!;
      assertEquals(code, "EINVAL");
      assertStringIncludes(message, "no file system that is known here is on it");
      return message.includes("mkfs");
    };
    assertEquals(await says(), true);
    for (const at of [0, 511, 4096, 3 * 1024 * 1024 + 5, 8 * 1024 * 1024 - 1]) {
      flip(file, at, 3);
      assertEquals(await says(), false, `${at}`);
      flip(file, at, 3);
    }
    assertEquals(await says(), true);
    // More than is looked at: nobody knows.
    const large = await refusal(makeImage("large.img", 100));
    assertStringIncludes(large!.message, "what was read of it is zero");
    assert(!large!.message.includes("mkfs"));
  },
);

test("a partition table without its partitions is named", ["root"], async () => {
  const error = await refusal(makeImage("table.img", 8, THREE_PARTITIONS));
  assertStringIncludes(error!.message, "a partition table with 1, 2, 3, which the kernel does not");
  const empty = await refusal(makeImage("empty-table.img", 8, "label: gpt\n"));
  assertStringIncludes(empty!.message, "a partition table without a partition");
});
