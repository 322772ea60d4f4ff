/** cli.ts on a machine where others attach and detach while it looks. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { namedDevice } from "../cli/device.ts";
import { type CliDevices, cliDevices, OURS } from "./support/cli_beside.ts";
import { attachElsewhere, detachElsewhere, detachOwn } from "./support/others.ts";
import { makeImage, output, run, scratch, test } from "./support/support.ts";
import { whileStopped } from "./support/traced.ts";

const numberOf = (device: string) => Number(device.slice("/dev/loop".length));

/** Others detach the device, and attach another file to it. */
async function giveAway(device: string, file: string, offset = 0): Promise<void> {
  await detachOwn(device);
  attachElsewhere(file, { number: numberOf(device), offset });
}

/** What cli.ts prints if others `act` where it has just asked the device for its file. */
async function printedWhile(
  { D }: CliDevices,
  args: string[],
  act: () => Promise<void>,
): Promise<string> {
  const out = scratch("printed");
  const at = ["-P", D, "-e", "trace=close", "-e", "inject=close:signal=STOP:when=1"];
  const command = ["sh", "-c", 'exec "$@" > "$0"', out, ...OURS, ...args];
  const { status, stderr } = await whileStopped(at, command, act);
  assertEquals([status, stderr], [0, ""]);
  return readFileSync(out, "utf8");
}

test("cli.ts -j lists no device that another file has got meanwhile, and none without a file", [
  "root",
  "strace",
], async () => {
  const [wanted, other] = [makeImage("wanted.img", 1), makeImage("other.img", 1)];
  const formats = [[], ["-n"], ["--raw", "-nO", "NAME,BACK-FILE"]];
  for (const format of formats) {
    await using devices = cliDevices();
    const { D } = devices;
    attachElsewhere(wanted, { number: numberOf(D) });
    const list = ["-j", wanted, ...format];
    assertEquals(await printedWhile(devices, list, () => giveAway(D, other)), "", list.join(" "));
  }
  await using devices = cliDevices();
  const { D } = devices;
  attachElsewhere(wanted, { number: numberOf(D) });
  const json = ["-J", "-l", "-j", wanted];
  const printed = await printedWhile(devices, json, () => detachOwn(D));
  assertEquals(JSON.parse(printed), { loopdevices: [] });
});

test("cli.ts shows of a device that is named one use alone", ["root"], async () => {
  const [first, second] = [makeImage("first.img", 1), makeImage("second.img", 1)];
  await using devices = cliDevices();
  const { D } = devices;
  attachElsewhere(first, { number: numberOf(D) });
  let looks = 0;
  const seen = namedDevice(D).inOneUse((device) => {
    const { backingFile } = device;
    if (looks++ === 0) {
      detachElsewhere(D);
      attachElsewhere(second, { number: numberOf(D), offset: 512 });
    }
    return [backingFile, Number(device.backingInode), device.attribute("loop/offset")];
  });
  assertEquals(seen, [second, statSync(second).ino, "512"]);
});

test("cli.ts lists every other device beside one whose path the kernel cannot tell", [
  "root",
], async () => {
  await using devices = cliDevices();
  const { D, E } = devices;
  const base = scratch("deep");
  const folder = `${base}${`/${"d".repeat(200)}`.repeat(19)}`;
  mkdirSync(folder, { recursive: true });
  writeFileSync(`${folder}/a.img`, new Uint8Array(2 ** 20));
  attachElsewhere(`${folder}/a.img`, { number: numberOf(D) });
  const other = makeImage("other.img", 1);
  attachElsewhere(other, { number: numberOf(E) });
  const long = scratch("e".repeat(250));
  renameSync(base, long);
  try {
    const lines = output([...OURS, "-a"]);
    assertMatch(lines, new RegExp(`^${E}: .*\\(${other}\\)$`, "m"));
    assert(!lines.includes(`${D}:`), lines);
    const { loopdevices } = JSON.parse(output([...OURS, "-J", "-l", "-O", "NAME,BACK-FILE"]));
    const rowOf = (device: string) =>
      loopdevices.find(({ name }: { name: string }) => name === device)["back-file"];
    assertEquals([rowOf(D), rowOf(E)], [null, other]);
    const { status, stderr } = run([...OURS, D]);
    assertEquals(status, 1);
    assertStringIncludes(stderr, `${D}: File name too long\n`);
    assert(!output([...OURS, "-j", "", "-nO", "NAME"]).includes(D), "no file has no name");
  } finally {
    renameSync(long, base);
  }
});

test("cli.ts -L refuses no file for a device that was detached meanwhile", [
  "root",
  "strace",
], async () => {
  const file = makeImage("part.img", 4);
  await using devices = cliDevices();
  const { D, E } = devices;
  // Its first mebibyte, which does not overlap the rest.
  attachElsewhere(file, { number: numberOf(D), sizelimit: 1 << 20 });
  const printed = await printedWhile(devices, ["-L", "-o", "1M", "--show", E, file], async () => {
    await detachOwn(D);
  });
  assertEquals(printed, `${E}\n`);
});
