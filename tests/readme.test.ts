/** The README's programs do what their comments say. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { readPartitions } from "../mod.ts";
import { makeExt4 } from "./support/mount_image.ts";
import {
  assertDetached,
  makeImage,
  MOD,
  onThisRuntime,
  output,
  ROOT,
  run,
  scratch,
  test,
} from "./support/support.ts";

const README = readFileSync(join(ROOT, "README.md"), "utf8");

/** The programs, in the order in which they stand. */
const programs = [...README.matchAll(/^```ts\n([^]*?)^```$/gm)].map(([, code]) => code);

/** disk.img has an EFI system partition and an ext4 with /etc; a.img and b.img are as large, and empty. */
async function makeImages(): Promise<string> {
  const table = "label: gpt\nsize=2MiB, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B\nsize=8MiB\n";
  const disk = makeImage("disk.img", 12, table);
  assert(makeExt4(disk, (await readPartitions(disk)).partitions[1]));
  for (const name of ["a.img", "b.img"]) copyFileSync(disk, scratch(name));
  return disk;
}

test(
  "each program of the README runs, and prints what its comment says",
  ["root", "mkfs.ext4"],
  async () => {
    const disk = await makeImages();
    const cwd = dirname(disk);
    const prepare = onThisRuntime(join(ROOT, "examples/edit_image.ts"), disk, "2", "--");
    output([...prepare, "sh", "-c", "mkdir etc && echo ID=debian >etc/os-release"]);
    assert(programs.length >= 5);
    for (const [i, code] of programs.entries()) {
      const file = scratch(`program-${i}.ts`);
      writeFileSync(file, code.replace('"./mod.ts"', JSON.stringify(MOD)));
      const { status, stdout, stderr } = run(onThisRuntime(file), { cwd });
      assertEquals(status, 0, `${code}\n${stderr}`);
      const [, said] = /\/\/ ([\w[].*)\n/.exec(code) ?? [];
      if (said === undefined) continue;
      // Node prints texts in a list between other quotes.
      const pattern = said.replaceAll(/[[\]().]/g, "\\$&").replaceAll(/loop\d+/g, "loop\\d+")
        .replaceAll('"', "[\"']");
      assertMatch(stdout + stderr, new RegExp(`^${pattern.replaceAll(" ", "\\s+")}$`, "m"));
    }
    assertEquals(output([...prepare, "cat", "etc/hostname"]), "box\n");
    assertDetached(disk);
  },
);
