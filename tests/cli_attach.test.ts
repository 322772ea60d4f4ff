/** What cli.ts attaches as losetup does, and what it refuses. */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { statSync } from "node:fs";
import { aloneWith } from "../lib/binding/file_lock.ts";
import { O_RDWR, open } from "../lib/kernel/file.ts";
import { cliDevices, OURS } from "./support/cli_beside.ts";
import { detachElsewhere } from "./support/others.ts";
import { isFile, makeImage, output, run, scratch, sysfs, test } from "./support/support.ts";

test("cli.ts -L says who is just attaching the file", ["root"], async () => {
  const file = makeImage("locked.img", 1);
  using held = open(file, O_RDWR);
  await aloneWith(held, { timeout: 1000 }, () => {
    const { status, stderr } = run([...OURS, "-L", "-f", "--timeout", "50", file]);
    assertEquals(status, 1);
    assertStringIncludes(stderr, `${file}: failed to set up loop device: `);
    assertMatch(stderr, /after 50 ms still being attached by process \d+/);
    return Promise.resolve();
  });
});

test("cli.ts attaches no file that the kernel makes up, however short", ["root"], () => {
  const seqnum = "/sys/kernel/uevent_seqnum";
  for (const args of [["/proc/version"], ["-r", "/proc/version"], ["-o", "4096", seqnum]]) {
    const { status, stdout, stderr } = run([...OURS, "-f", "--show", ...args]);
    const made = isFile(args.at(-1)!);
    if (status === 0) detachElsewhere(stdout.trim(), made);
    const says = `${args.at(-1)}: failed to set up loop device: Invalid argument\n`;
    assertEquals([status, stdout, stderr.replace(/^\w+: /, "")], [1, "", says]);
  }
});

test("cli.ts -L waits for no writer of a FIFO", ["root"], () => {
  const pipe = scratch("pipe");
  output(["mkfifo", pipe]);
  const { status, stderr } = run([...OURS, "-L", "-f", pipe], { timeout: 60_000 });
  assertEquals(status, 1);
  assertStringIncludes(stderr, `${pipe}: failed to set up loop device: Invalid argument\n`);
});

test("cli.ts attaches of a block device what losetup attaches", ["root", "losetup"], async () => {
  await using devices = cliDevices();
  const { D } = devices;
  output(["losetup", D, makeImage("below.img", 1)]);
  const inner = statSync(D).rdev;
  const isOurs = (backing: string) => statSync(backing, { throwIfNoEntry: false })?.rdev === inner;
  const facts = (command: string[]) => {
    const { status, stdout, stderr } = run([...command, "-f", "--show", D]);
    const path = stdout.trim();
    const attributes = path === ""
      ? []
      : ["size", "queue/logical_block_size"].map((name) => sysfs(`${path.slice(5)}/${name}`));
    if (path !== "") detachElsewhere(path, isOurs);
    return [status, attributes, stderr.replace(/^\S+: (?=\/dev)/, "")];
  };
  const lines = ["-b 8192", "-b 513", "-o 1M"];
  for (const line of lines) {
    const options = line.split(" ");
    assertEquals(facts([...OURS, ...options]), facts(["losetup", ...options]), line);
  }
});
