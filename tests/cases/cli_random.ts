/**
 * Command lines at random, the same ones each time: what losetup 2.38 and 2.42 both take, or refuse
 * in the same words. Nothing that detaches what is not the test's own.
 */
import type { Case, STATES } from "./cli_states.ts";
import { Random } from "./random.ts";

const NUMBERS = ("0 512 1024 4096 0x200 0X1000 01000 1K 1k 2KiB 1M 1MiB 0.5M 1.5k 0.25K 3M 4M 5M " +
  "+512 abc -1 -512 1X 1KI 1Kb2 99999999999999999999 17E 16E 0x 08 1.5 .5K 1.K 512B 1b '' 0x1K " +
  "4194304").split(" ");
const SECTORS = "512 1024 2048 4096 4K 8192 513 256 0 1 x '' 1M".split(" ");
const COLUMNS = ("NAME AUTOCLEAR BACK-FILE BACK-INO OFFSET PARTSCAN RO SIZELIMIT DIO LOG-SEC " +
  "name back-file Ro").split(" ");
const FILES = "a.img b.img disk.img a.img empty.img ./a.img ../none".split(" ");

/** `count` of them, no two alike. */
export function randomCases(count: number): Case[] {
  const random = new Random(20_261_125);
  const pick = <T>(list: readonly T[]): T => random.pick(list);
  const often = (chance: number) => random.u32() < chance * 2 ** 32;
  const device = () => pick(["$D", "$E"]);

  /** An option and its value, in one of the ways to write it. */
  const valued = (short: string, long: string, value: string) => {
    const ways = value === "''" ? [`-${short} ''`, `--${long} ''`, `--${long}=`] : [
      `-${short} ${value}`,
      `-${short}${value}`,
      `--${long} ${value}`,
      `--${long}=${value}`,
    ];
    return pick(short === "" ? ways.slice(-2) : ways);
  };
  const offset = () => valued("o", pick(["offset", "offs"]), pick(NUMBERS));
  const sizelimit = () => valued("", pick(["sizelimit", "siz"]), pick(NUMBERS));
  const sectorSize = () => valued("b", pick(["sector-size", "sect"]), pick(SECTORS));
  const output = () => {
    const list = Array.from({ length: random.between(1, 5) }, () => pick(COLUMNS)).join(",");
    const broken = pick(["", "", "", "", ",", ",,RO", ",FOO"]);
    return valued("O", "output", (often(0.3) ? "+" : "") + list + broken);
  };
  const shuffled = (words: string[]) =>
    words.map((word) => ({ word, at: random.u32() })).toSorted((a, b) => a.at - b.at)
      .map(({ word }) => word).join(" ");

  const list = () => {
    const what = pick(["-a", "--all", "-l", "--list", "-la", "-j", "-j", "", device()]);
    const words = [what === "-j" ? valued("j", "associated", pick(FILES)) : what];
    if (what === "-j" && often(0.5)) words.push(offset());
    if (often(0.5)) words.push(pick(["-J", "--raw", "--json", "--raw -n", "-l"]));
    if (often(0.5)) words.push(output());
    return shuffled(words.filter((word) => word !== ""));
  };
  const attach = () => {
    // 2.42 names the device where the file is missing, so that only -f gets such a one.
    const onDevice = often(0.6);
    const file = pick(onDevice ? FILES.slice(0, -1) : FILES);
    const words = onDevice ? [`${device()} ${file}`] : [`${pick(["-f", "--find"])} ${file}`];
    if (often(0.4)) words.push(offset());
    if (often(0.4)) words.push(sizelimit());
    if (often(0.2)) words.push(sectorSize());
    if (often(0.3)) words.push(pick(["-r", "--read-only", "--read"]));
    if (often(0.2)) words.push(pick(["--direct-io", "--direct-io=on", "--direct-io=off", "--dir"]));
    // Ours warns where an option hides the disk's table: LINES has that, and DIFFERENCES.
    const hidesTable = file === "disk.img" && words.length > 1;
    if (often(0.2) && !hidesTable) words.push(pick(["-P", "--partscan", "--part"]));
    if (often(0.3)) words.push("--show");
    if (often(0.2)) words.push(pick(["-L", "--nooverlap", "--noov"]));
    return shuffled(words);
  };
  const change = () =>
    pick([
      () => `-d ${device()}`,
      () => `--detach ${device()}`,
      () => `-c ${device()}`,
      () => `--set-cap ${device()}`,
      () => shuffled([pick(["--direct-io", "--direct-io=on", "--direct-io=off"]), device()]),
      () => shuffled([sectorSize(), device()]),
      () => shuffled([device(), offset()]),
      () => shuffled([device(), sizelimit()]),
    ])();
  const nonsense = () =>
    shuffled([
      pick(["-x", "--nothing", "--find=x", "-o", "-j", "--off", "-P", "-r", "--show", "--"]),
      ...often(0.5) ? [pick(["-r", "-P", "--show", "-L", "-b 512"])] : [],
      ...often(0.5) ? [offset()] : [],
    ]);

  const cases = new Map<string, Case>();
  while (cases.size < count) {
    const state = pick<keyof typeof STATES>(["free", "bound", "two", "part", "readOnly"]);
    const line = pick([list, list, attach, attach, attach, change, nonsense])();
    if (!cases.has(line)) cases.set(line, { state, line });
  }
  // In the order of their states, each of which stays until a line changes it.
  return [...cases.values()].toSorted((a, b) => a.state < b.state ? -1 : Number(a.state > b.state));
}
