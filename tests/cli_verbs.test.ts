/** The verbs of cli.ts: loopdev ls and the like. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import {
  chmodSync,
  mkdirSync,
  readFileSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { helpText } from "../cli/help.ts";
import { manPage } from "../cli/man.ts";
import { VERBS } from "../cli/verb_table.ts";
import { formatSize } from "../cli/verbs/bytes.ts";
import { verbHelp } from "../cli/verbs/help.ts";
import { attach, readPartitions } from "../mod.ts";
import { OURS } from "./support/cli_beside.ts";
import { makeExt4 } from "./support/mount_image.ts";
import { makeImage, run, scratch, test, THREE_PARTITIONS } from "./support/support.ts";

const loopdev = (...args: string[]) => run([...OURS, ...args], { cwd: scratch("") });

const BOOT_AND_ROOT = `label: gpt
size=1MiB, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name=boot
name=root
`;

/** An image of two partitions; the second one has an ext4, whose UUID and label it says. */
async function makeRoot(name = "disk.img"): Promise<string> {
  const file = makeImage(name, 8, BOOT_AND_ROOT);
  const [, root] = (await readPartitions(file)).partitions;
  assert(makeExt4(file, root));
  return file;
}

test("loopdev ls lists partitions, what they hold, and the nodes of those that are attached", [
  "root",
  "mkfs.ext4",
], async () => {
  const file = await makeRoot();
  assertEquals(
    loopdev("ls", "disk.img").stdout,
    "disk.img: 8M, gpt, sectors of 512 bytes\n" +
      "PART SIZE TYPE             NAME FSTYPE\n" +
      "   1   1M EFI System       boot \n" +
      "   2   5M Linux filesystem root ext4\n",
  );
  await using loop = await attach(file, { partscan: true });
  // By another name of the file.
  symlinkSync(file, scratch("link.img"));
  assertMatch(loopdev("ls", "link.img").stdout, new RegExp(`ext4 +${loop.path}p2\n$`));
  const [listed] = JSON.parse(loopdev("ls", "--json", "disk.img").stdout).images;
  assertEquals([listed.image, listed.size, listed.table], ["disk.img", 8 << 20, "gpt"]);
  assertEquals(listed.nodes, [loop.path]);
  const table = await readPartitions(file);
  for (const [i, { fileSystem: _, nodes, ...partition }] of listed.partitions.entries()) {
    assertEquals(partition, JSON.parse(JSON.stringify(table.partitions[i])));
    assertEquals(nodes, [`${loop.path}p${i + 1}`]);
  }
  assertEquals(
    listed.partitions.map(({ fileSystem }: { fileSystem?: { type: string } }) => fileSystem?.type),
    [undefined, "ext4"],
  );
});

test("loopdev ls says what an image is that has no table, or a damaged one", [
  "mkfs.ext4",
], () => {
  const bare = makeImage("bare.img", 4);
  assert(makeExt4(bare, { start: 0, size: 4 << 20 }));
  makeImage("empty.img", 1);
  const cut = makeImage("cut.img", 8, THREE_PARTITIONS);
  writeFileSync(cut, readFileSync(cut).fill(0, 512, 1024));
  truncateSync(cut, 4 << 20);
  writeFileSync(scratch("packed.gz"), new Uint8Array([0x1f, 0x8b, 8, ...new Array(600).fill(0)]));
  const { status, stdout, stderr } = loopdev(
    ...["ls", "none.img", "bare.img", "packed.gz", "cut.img", "empty.img"],
  );
  assertEquals(status, 1);
  assertEquals(
    stdout,
    "bare.img: 4M, no partition table\nSIZE FSTYPE\n  4M ext4\n" +
      "empty.img: 1M, no partition table, and no file system that is known\n",
  );
  const [none, packed, damaged, ...rest] = stderr.split("\n");
  assertMatch(none, /^loopdev: \/.*\/none\.img: no such file or directory$/);
  assertMatch(packed, /^loopdev: \/.*\/packed\.gz: .*compressed by gzip.*gzip -dc/);
  assertMatch(damaged, /^loopdev: \/.*\/cut\.img: structure needs cleaning: .*GPT/);
  assertEquals(rest, [""]);
});

test("loopdev ls needs no root", ["root", "setpriv"], () => {
  const file = makeImage("disk.img", 8, THREE_PARTITIONS);
  for (const path of [file, dirname(file)]) chmodSync(path, 0o755);
  const asNobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
  const { stdout, stderr, status } = run([...asNobody, ...OURS, "ls", file]);
  assertEquals([status, stderr], [0, ""]);
  assertStringIncludes(stdout, "zwei ü");
});

test("a first argument that is a verb is one under the name loopdev alone", ["bun"], () => {
  makeImage("ls", 1);
  const bin = scratch("bin");
  mkdirSync(bin);
  symlinkSync(OURS.at(-1)!, join(bin, "losetup"));
  // losetup takes the first for a device, and the second for its file.
  const { status, stderr } = run([join(bin, "losetup"), "ls", "ls"], { cwd: scratch("") });
  assertEquals(status, 1);
  assertMatch(stderr, /^losetup: /);
  assertEquals(loopdev("-j", "ls").stdout, "");
  assertMatch(loopdev("ls", "./ls").stdout, /^\.\/ls: 1M, no partition table/);
});

test(
  "each verb has a --help, a place in loopdev --help and in the manual, and names a wrong word",
  [],
  () => {
    const help = helpText("loopdev");
    assert(!helpText("losetup").includes("Verbs"));
    for (const verb of VERBS) {
      const { name, synopsis, options } = verb;
      assertMatch(help, new RegExp(`^ ${name} +${verb.summary}$`, "m"));
      assertEquals(loopdev(name, "--help"), { status: 0, stdout: verbHelp(verb), stderr: "" });
      for (const line of verbHelp(verb).split("\n")) assert(line.length <= 90, line);
      assertStringIncludes(manPage(), `.SS ${name}\n\\fBloopdev ${name}\\fR `);
      for (const line of synopsis) {
        assertStringIncludes(verbHelp(verb), ` loopdev ${name} ${line}\n`);
      }
      for (const { long } of options) assertMatch(verbHelp(verb), new RegExp(` --${long}\\b`));
      const { status, stderr } = loopdev(name, "--no-such-option");
      assertEquals([status, stderr], [
        name === "run" ? 125 : 1,
        "loopdev: unrecognized option '--no-such-option'\n" +
        `Try 'loopdev ${name} --help' for more information.\n`,
      ]);
    }
  },
);

test("formatSize() prints what lsblk does", [], () => {
  const sizes: [number, string][] = [[0, "0B"], [512, "512B"], [1536, "1.5K"], [8 << 20, "8M"]];
  sizes.push([2 ** 33 + 2 ** 29, "8.5G"], [2 ** 40 - 1, "1024G"], [953.87 * 2 ** 20, "953.9M"]);
  for (const [bytes, text] of sizes) assertEquals(formatSize(bytes), text);
});
