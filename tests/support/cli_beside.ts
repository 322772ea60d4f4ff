/**
 * cli.ts beside the machine's losetup: one command line on one state, and what each prints, returns
 * and leaves in the kernel. Never -D: other devices could be attached here.
 */
import { assertEquals } from "@std/assert";
import { mkdirSync, readdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { parseCommand } from "../../cli/command.ts";
import { DIFFERENCES, DIFFERENCES_TO_242 } from "../cases/cli_differences.ts";
import { type Case, MANGLED, STATES } from "../cases/cli_states.ts";
import { detachElsewhere } from "./others.ts";
import { ownDevices } from "./own_devices.ts";
import {
  type Finished,
  makeImage,
  onRuntime,
  output,
  ROOT,
  run,
  RUNTIME,
  scratch,
  sysfs,
  THREE_PARTITIONS,
  until,
} from "./support.ts";

export const CLI: string = join(ROOT, "cli.ts");

/** As users run it: on Deno --allow-ffi is enough. */
export const ON = {
  bun: [CLI],
  deno: ["deno", "run", "--no-prompt", "--quiet", "--allow-ffi", CLI],
  node: onRuntime("node", CLI),
};
export const OURS: string[] = ON[RUNTIME];
export const env: Record<string, string | undefined> = {
  ...process.env,
  LC_ALL: "C.UTF-8",
  NO_COLOR: "1",
};

export const IS_238: boolean = run(["sh", "-c", "losetup --version"]).stdout.includes(" 2.38");

const ATTRIBUTES =
  "loop/offset loop/sizelimit loop/autoclear loop/partscan loop/dio ro size queue/logical_block_size"
    .split(" ");

/** Every device that a file in `folder` is attached to, with what sysfs says of it. */
export function attached(folder: string, partitions = false): Record<string, string> {
  const found: Record<string, string> = {};
  for (const name of readdirSync("/sys/block").filter((name) => name.startsWith("loop"))) {
    try {
      const file = sysfs(`${name}/loop/backing_file`);
      if (!file.startsWith(folder)) continue;
      const facts = [file, ...ATTRIBUTES.map((attribute) => sysfs(`${name}/${attribute}`))];
      const children = readdirSync(`/sys/block/${name}`).filter((entry) => entry.startsWith(name));
      if (partitions) facts.push(...children.map((entry) => sysfs(`${name}/${entry}/start`)));
      found[`/dev/${name}`] = facts.join(" | ");
    } catch {
      // Not bound, or gone while we looked.
    }
  }
  return found;
}

export async function detachAll(folder: string): Promise<void> {
  const isBelow = (path: string) => path.startsWith(folder);
  for (const path of Object.keys(attached(folder))) detachElsewhere(path, isBelow);
  await until(() => Object.keys(attached(folder)).length === 0, "scratch devices gone");
}

/** Devices of one test's own, which command lines call $D and $E; they go with what is attached. */
export interface CliDevices extends AsyncDisposable {
  readonly D: string;
  readonly E: string;
}

export function cliDevices(): CliDevices {
  const folder = scratch("");
  const own = ownDevices(2);
  const [D, E] = own.paths;
  return {
    D,
    E,
    async [Symbol.asyncDispose]() {
      await detachAll(folder);
      await own[Symbol.asyncDispose]();
    },
  };
}

/**
 * The same for both tools: the program's name (getopt takes it as it was called, and Deno calls by
 * path), and names of devices that were not asked for.
 */
function normalize(text: string, { D, E }: CliDevices): string {
  return text.replaceAll(/^(loopdev|\/\S*\/losetup): /gm, "losetup: ")
    .replaceAll("Try 'loopdev ", "Try 'losetup ")
    .replaceAll(
      /\/dev\/loop\d+(?= |$)/gm,
      (path) => path === D || path === E ? path : "/dev/loopN",
    );
}

interface Observed extends Finished {
  kernel: string[];
}

/** Both tools on the same files. */
export class Beside {
  readonly #folder = scratch("");
  readonly #blocks = scratch("blocks");
  readonly #partitions: boolean;
  readonly #devices: CliDevices;
  #prepared: { state: string; kernel: string } | undefined;

  /** `partitions`: whether the kernel finds them itself; else only ours has some. */
  constructor(devices: CliDevices, partitions: boolean) {
    this.#devices = devices;
    this.#partitions = partitions;
    makeImage("disk.img", 8, THREE_PARTITIONS);
    const sizes = { "a.img": 4 << 20, "b.img": 4 << 20, [MANGLED]: 1 << 20, "empty.img": 0 };
    for (const [name, size] of Object.entries({ ...sizes, "small.img": 100, "odd.img": 1000 })) {
      output(["truncate", "-s", `${size}`, scratch(name)]);
    }
    // Lists of everything shall not show what others attach just then.
    mkdirSync(this.#blocks);
    const { D, E } = devices;
    for (const device of [D, E]) {
      output(["losetup", device, scratch("a.img")]);
      output(["losetup", "--detach", device]);
    }
    for (const name of [D.slice(5), E.slice(5)]) {
      symlinkSync(`../devices/virtual/block/${name}`, join(this.#blocks, name));
    }
  }

  /** Fails with every difference that is not known, and not as it is known. */
  async compare(cases: readonly Case[]): Promise<void> {
    const wrong: string[] = [];
    for (const each of cases) {
      let problem: string | undefined;
      // Others may hold a device for a moment.
      for (let tries = 0; tries < 3; tries++) {
        const theirs = await this.#observe(["losetup"], each);
        problem = judge(each.line, await this.#observe(OURS, each), theirs, this.#devices);
        if (problem === undefined) break;
      }
      if (problem !== undefined) wrong.push(`${each.state}: losetup ${each.line}\n  ${problem}`);
    }
    assertEquals(wrong.join("\n"), "");
  }

  async #observe(tool: string[], { state, line }: Case): Promise<Observed> {
    await this.#prepare(state);
    const { D, E } = this.#devices;
    const words = line.split(" ").filter((word) => word !== "").map((word) => this.#fill(word));
    const first = words.findIndex((word) => !/^[A-Z_]+=/.test(word));
    const variables = words.slice(0, first).map((word) => word.split("="));
    const args = words.slice(first);
    const command = isList(args) ? [...this.#masked(), ...tool] : tool;
    const { status, stdout, stderr } = run([...command, ...args], {
      env: { ...env, ...Object.fromEntries(variables) },
      cwd: this.#folder,
    });
    // Somebody who lists devices has each open for a moment, and defers its detaching.
    if (/^(-d|--detach)/.test(line) && status === 0) {
      const named = [D, E].filter((device) => args.some((word) => word.endsWith(device)));
      const isGone = () => !named.some((device) => device in attached(this.#folder));
      await until(isGone, `${named.join()} detached`);
    }
    return {
      status,
      stdout: normalize(stdout, this.#devices),
      stderr: normalize(stderr, this.#devices),
      kernel: Object.entries(attached(this.#folder, this.#partitions))
        .map((entry) => normalize(entry.join(" "), this.#devices)).sort(),
    };
  }

  /** losetup makes the state, unless it is there still. */
  async #prepare(state: keyof typeof STATES): Promise<void> {
    const kernel = () => JSON.stringify(attached(this.#folder));
    if (this.#prepared?.state === state && this.#prepared.kernel === kernel()) return;
    await detachAll(this.#folder);
    for (const words of STATES[state]) {
      const command = ["losetup", ...words.map((word) => this.#fill(word))];
      // A device is busy for a moment after its file has gone, and while somebody else looks at it.
      let last: Finished | undefined;
      const isDone = () => {
        last = run(command, { cwd: this.#folder });
        return !last.stderr.includes("Device or resource busy");
      };
      await until(isDone, `${command.join(" ")} not to be busy`);
      if (last!.status !== 0) throw new Error(`${command.join(" ")}: ${last!.stderr}`);
    }
    this.#prepared = { state, kernel: kernel() };
  }

  #fill(word: string): string {
    const { D, E } = this.#devices;
    return word === "''" ? "" : word.replace("$D", D).replace("$E", E).replace("$d", D.slice(5));
  }

  /** Runs the rest where /sys/block has nothing but our devices. */
  #masked(): string[] {
    const script = 'mount --bind "$0" /sys/block && exec "$@"';
    return ["unshare", "--mount", "sh", "-c", script, this.#blocks];
  }
}

function isList(args: string[]): boolean {
  try {
    return parseCommand(args).action === "show";
  } catch {
    return false;
  }
}

/** undefined, or what is wrong with ours. */
function judge(
  line: string,
  ours: Observed,
  theirs: Observed,
  { D, E }: CliDevices,
): string | undefined {
  if (!IS_238) {
    const known = DIFFERENCES_TO_242.find(({ lines }) => lines.includes(line));
    if (known?.theirs.test(theirs.stderr)) return undefined;
  }
  const difference = DIFFERENCES.find(({ lines }) => lines.includes(line));
  if (difference && JSON.stringify(ours) === JSON.stringify(theirs)) {
    // A newer losetup has what 2.38 lacks.
    return IS_238 ? "no difference any more" : undefined;
  }
  const { status = theirs.status, stdout = theirs.stdout, stderr = theirs.stderr } = difference ??
    {};
  const said = stderr.replace("$D", D).replace("$E", E);
  const expected = { status, stdout, stderr: said, kernel: theirs.kernel };
  const isRight = typeof stdout === "string" ? stdout === ours.stdout : stdout.test(ours.stdout);
  if (isRight && JSON.stringify({ ...expected, stdout: ours.stdout }) === JSON.stringify(ours)) {
    return undefined;
  }
  return `ours     ${JSON.stringify(ours)}\n  expected ${JSON.stringify(expected)} ${stdout}`;
}
