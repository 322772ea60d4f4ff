/** What file systems' own tools make, beside what blkid says of it. */
import { assert, assertEquals } from "@std/assert";
import { closeSync, openSync, readSync, statSync } from "node:fs";
import type { Image } from "../lib/table/disk.ts";
import { findFileSystems } from "../lib/superblocks/file_systems.ts";
import { readPartitions } from "../mod.ts";
import { blkid, CASES, make } from "./support/file_system_cases.ts";
import { testsOf } from "./support/support.ts";

/** What is found in a file; a read beyond its end is an error. */
function found(path: string) {
  const fd = openSync(path, "r");
  try {
    const { size } = statSync(path);
    const read = (offset: number, length: number) => {
      assert(offset >= 0 && length >= 0 && offset + length <= size, `${length} at ${offset}`);
      const bytes = new Uint8Array(length);
      assertEquals(readSync(fd, bytes, 0, length, offset), length);
      return bytes;
    };
    return findFileSystems({ size, read } satisfies Image);
  } finally {
    closeSync(fd);
  }
}

const test = testsOf("file systems by their own tools are what blkid says", ["blkid"]);

for (const tool of new Set(CASES.map(({ tool }) => tool))) {
  const cases = CASES.filter((each) => each.tool === tool);
  test(
    `${cases.length} file systems by ${tool} are what blkid says, and no strange table`,
    [tool],
    async () => {
      for (const each of cases) {
        const { image, line } = make(each);
        const opinion = blkid(image);
        assertEquals(found(image), [{ ...opinion }], line);
        assertEquals(opinion.type, each.type, line);
        // Some of these tools write an MBR, or a GPT, besides.
        const { kind } = await readPartitions(image);
        assert(["none", "mbr", "gpt"].includes(kind), `${line}: ${kind}`);
      }
    },
  );
}
