/**
 * What a caller may ask of run(), checked before any system call.
 *
 * @module
 */
import { checkBoolean, checkPath, checkSignal, checkText, show } from "../base/checks.ts";
import { checkAgainst, type Checked, oneOf, type Rows } from "../base/options.ts";
import { checkOwner } from "./owner.ts";

/**
 * Options of {@linkcode LoopMount.run}.
 *
 * @example
 * ```ts
 * import type { RunOptions } from "@loopdev/loopdev";
 * const quiet: RunOptions = { stdout: "piped", env: { DEBIAN_FRONTEND: "noninteractive" } };
 * console.log(quiet.stdout); // piped
 * ```
 */
export interface RunOptions {
  /**
   * `true`: the image is the root directory of the command, which is a program of the image. `false`: the
   * command is a program of this machine, and finds the image below `$LOOPDEV_ROOT`. Default `true`.
   */
  chroot?: boolean;
  /** Its working directory, as the command sees it. Default: `/` with `chroot`, else the image's root. */
  cwd?: string;
  /** Variables that it gets beside this process's, or instead of them. */
  env?: Readonly<Record<string, string>>;
  /** `true`: it gets those of `env` alone, and a PATH. Default `false`. */
  clearEnv?: boolean;
  /** Where it reads from: nothing, what this process reads from, or these bytes. Default `"null"`. */
  stdin?: "null" | "inherit" | Uint8Array;
  /** `"piped"`: what it writes is in the result. Default `"inherit"`: it writes where this process does. */
  stdout?: "inherit" | "piped" | "null";
  /** The same of what it writes to its standard error. */
  stderr?: "inherit" | "piped" | "null";
  /**
   * `true`: set-user-ID bits and file capabilities of the image have effect for the command, also where
   * the mount says `nosuid`. sudo, su and ping of a plain user need it. Default `false`.
   */
  suid?: boolean;
  /**
   * The user as whom it runs, by number, or with the number of a group; a uid alone means the user's own
   * group. What is root's in the image is the user's then, and what he makes there is root's on the disk,
   * as with {@linkcode MountOptions.owner}. Without `chroot` it has the user's HOME, USER and LOGNAME.
   * Linux 5.12. Default: root, whom the image's files belong to as they are on the disk.
   */
  owner?: number | { uid: number; gid: number };
  /** Device nodes of this machine that it finds in its /dev too: `["/dev/fuse"]`. Only with `chroot`. */
  devices?: readonly string[];
  /**
   * Stops the command: SIGTERM, and after 5 s SIGKILL for it and all that it has started. run() then
   * rejects with the signal's reason.
   */
  signal?: AbortSignal;
}

/**
 * How a command of {@linkcode LoopMount.run} ended: what `Deno.Command` gives.
 *
 * @example
 * ```ts
 * import type { LoopMount, RunOutput } from "@loopdev/loopdev";
 * const list = async (root: LoopMount): Promise<string> => {
 *   const { success, stdout }: RunOutput = await root.run(["ls", "/"], { stdout: "piped" });
 *   return success ? new TextDecoder().decode(stdout) : "";
 * };
 * console.log(typeof list); // function
 * ```
 */
export interface RunOutput {
  /** Whether the exit code is 0. */
  readonly success: boolean;
  /** Its exit code; 128 + the signal's number, if one killed it. */
  readonly code: number;
  /** The signal that killed it: `"SIGTERM"`. */
  readonly signal: string | undefined;
  /** What it wrote, if `stdout` was `"piped"`. */
  readonly stdout: Uint8Array<ArrayBuffer> | undefined;
  /** What it wrote, if `stderr` was `"piped"`. */
  readonly stderr: Uint8Array<ArrayBuffer> | undefined;
}

const OUTPUT = { check: oneOf("inherit", "piped", "null"), default: "inherit" } as const;

const RUN = {
  chroot: { check: checkBoolean, default: true },
  cwd: { check: checkPath },
  env: { check: checkEnv, default: {} },
  clearEnv: { check: checkBoolean, default: false },
  stdin: { check: checkInput, default: "null" },
  stdout: OUTPUT,
  stderr: OUTPUT,
  suid: { check: checkBoolean, default: false },
  owner: { check: checkOwner },
  devices: { check: checkDevices, default: [] },
  signal: { check: checkSignal },
} satisfies Rows<RunOptions>;

/** A command and its options. */
export interface CheckedRun extends Checked<RunOptions, typeof RUN> {
  /** The program, and its arguments. */
  readonly command: readonly [program: string, ...args: string[]];
}

/** Throws a TypeError that names what is wrong. */
export function checkRun(command: unknown, options: RunOptions): CheckedRun {
  const words: unknown = typeof command === "string" ? [command] : command;
  const isList = Array.isArray(words) && words.every((word) => typeof word === "string");
  if (!isList || !words[0]) {
    throw new TypeError(
      `command must be a program, or an array of it and its arguments, not ${show(command)}`,
    );
  }
  for (const word of words) checkText("command", word);
  const checked = checkAgainst(options, RUN);
  if (checked.devices.length > 0 && !checked.chroot) {
    throw new TypeError("devices is for a command with chroot: without it /dev is this machine's");
  }
  return { ...checked, command: words as [string, ...string[]] };
}

function checkEnv(name: string, value: unknown): void {
  const isRecord = typeof value === "object" && value !== null && !Array.isArray(value);
  if (!isRecord) throw new TypeError(`${name} must be an object of strings, not ${show(value)}`);
  for (const [key, text] of Object.entries(value)) {
    if (key === "" || key.includes("=")) {
      throw new TypeError(`${name}: ${show(key)} is no name of a variable`);
    }
    if (typeof text !== "string") {
      throw new TypeError(`${name}.${key} must be a string, not ${show(text)}`);
    }
    checkText(name, `${key}=${text}`);
  }
}

function checkInput(name: string, value: unknown): void {
  if (value === "null" || value === "inherit" || value instanceof Uint8Array) return;
  throw new TypeError(`${name} must be "null", "inherit" or a Uint8Array, not ${show(value)}`);
}

function checkDevices(name: string, value: unknown): void {
  if (!Array.isArray(value)) {
    throw new TypeError(`${name} must be an array of paths below /dev, not ${show(value)}`);
  }
  for (const path of value) {
    checkPath(name, path);
    if (/^\/dev(\/(?!\.{1,2}(\/|$))[^/]+)+$/.test(path)) continue;
    throw new TypeError(`${name} must name nodes below /dev, not ${show(path)}`);
  }
}
