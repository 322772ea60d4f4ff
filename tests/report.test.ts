/** What report() makes of other machines' facts, and which udevd it finds. */
import { assert, assertEquals } from "@std/assert";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { report } from "../mod.ts";
import { explain } from "../lib/report.ts";
import {
  isolated,
  MOD,
  onThisRuntime,
  output,
  ROOT,
  scratch,
  test,
  withStaticDev,
} from "./support/support.ts";
import { traced } from "./support/traced.ts";

test("report() gives a sentence for each fact that counts", ["root"], async () => {
  const { reasons, ...facts } = await report();
  assertEquals(explain(facts), reasons);
  const parsers = { gpt: true, mbr: true };
  const plain = { ...facts, parsers, udev: "none", dev: "devtmpfs", maxPart: 0 } as const;
  const fixed = { ...plain, kernel: "7.2.0", gate: "fixed", probe: "fixed" } as const;
  const affected = { ...plain, kernel: "6.1.0", gate: "affected", probe: "affected" } as const;
  const says = (...given: Parameters<typeof explain>) => explain(...given).join(" ");
  assert(/^Partitions do not flicker on Linux 7\.2\.0: it is free of \w+\.$/.test(says(fixed)));
  assert(/^Linux 6\.1\.0 has \w+, or its release does not/.test(says(affected)));
  assert(says({ ...affected, probe: "fixed" }).includes("it is fixed all the same"));
  assert(says({ ...fixed, probe: "affected" }).includes("please report it"));
  assert(says({ ...affected, maxPart: 7 }).startsWith("loop.max_part is 7: the kernel scans"));
  const reads = (gpt: boolean, mbr: boolean) => says({ ...fixed, parsers: { gpt, mbr } });
  assert(reads(false, true).includes("does not read GPT: those"));
  assert(reads(true, false).includes("does not read MBR: those"));
  assert(reads(false, false).includes("does not read GPT and MBR: those"));
  assert(says({ ...fixed, udev: 257 }).includes("systemd-udevd 257 re-reads the table"));
  assert(!says({ ...fixed, udev: 262 }).includes("re-reads"));
  assert(says({ ...fixed, dev: "static" }).includes("/dev is static"));
});

test("report() says what a static /dev and loop.max_part mean", ["root", "mount"], () => {
  const [script, parameter] = [scratch("report.ts"), scratch("max_part")];
  writeFileSync(parameter, "7\n");
  writeFileSync(
    script,
    `import { report } from ${JSON.stringify(MOD)};
     console.log(JSON.stringify(await report()));`,
  );
  const setUp =
    "mknod /dev/loop-control c 10 237 && for n in $(seq 0 63); do mknod /dev/loop$n b 7 $n; " +
    `done && mount --bind ${parameter} /sys/module/loop/parameters/max_part`;
  const { dev, maxPart, probe, strategy, reasons } = JSON.parse(
    output([...withStaticDev(setUp), ...onThisRuntime(script)]),
  );
  // Where the kernel scans in any case, nothing can be asked of it.
  assertEquals([dev, maxPart, probe, strategy], ["static", 7, "inconclusive", "one-step"]);
  assert(reasons[0].startsWith("loop.max_part is 7: the kernel scans"), reasons[0]);
  assert(reasons.at(-1).startsWith("/dev is static"), reasons.at(-1));
});

test("udevVersion() reads it from the program that runs", ["root", "unshare", "mount"], () => {
  const script = scratch("version.ts");
  const udev = JSON.stringify(join(ROOT, "lib/udev/udev.ts"));
  writeFileSync(
    script,
    `import { udevVersion } from ${udev};
     console.log(udevVersion());`,
  );
  // In a list of processes of its own: a neighbour's tests look for udevd, too.
  const alone = ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c"];
  const beside = (words: string) =>
    output([
      ...alone,
      `{ cat "$(command -v sleep)"; printf '${words}'; } >"$0/systemd-udevd" || exit
       chmod 755 "$0/systemd-udevd"
       "$0/systemd-udevd" 60 &
       until [ "$(cat /proc/$!/comm)" = systemd-udevd ]; do :; done
       "$@"
       kill $!`,
      ...[scratch("."), ...onThisRuntime(script)],
    ]).trim();
  assertEquals(beside("\\nStarting version 257\\n"), "257");
  assertEquals(beside("\\nsystemd-udevd version 262\\n"), "262");
  assertEquals(beside("\\nanother program\\n"), "unknown");
  const hidden = [...isolated("tmpfs=/run"), ...alone];
  assertEquals(output([...hidden, '"$@"', "sh", ...onThisRuntime(script)]).trim(), "none");
  const recorded = 'mkdir -p /run/udev/data && "$@"';
  assertEquals(output([...hidden, recorded, "sh", ...onThisRuntime(script)]).trim(), "unknown");
});

test("report() reads past a process that ends while it looks for udevd", ["root", "strace"], () => {
  // The first of the list stands for one that has ended since its file was opened: whatever udevd a neighbour
  // starts comes later.
  const on = "/proc/1/comm";
  const inject = "pread64:error=ESRCH";
  const body = 'console.log("udev" in await report());';
  const { stdout, calls } = traced(body, { calls: "pread64", inject, on });
  assert(calls.some(({ text }) => text.includes("(INJECTED)")));
  assertEquals(stdout, "true\n");
});
