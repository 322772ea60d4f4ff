/**
 * A frozen file system, and who thaws it.
 *
 * FIFREEZE belongs to no descriptor and no process. If this process died, the file system would stay frozen:
 * whoever writes to it hangs, SIGKILL does not end him, and after an unmount the kernel keeps the device
 * for ever. So a helper starts before the freeze: a shell that has the mount's root directory and the
 * read end of a pipe open. It thaws when the pipe ends, which it does with this process, and when the
 * time is over. The time matters where the thread that would call thaw() writes to the frozen file
 * system itself: it hangs in the kernel, and its process cannot end.
 *
 * For the case that helper and process are killed together the keeper's records say that the mount is
 * frozen: the keeper that unmounts it thaws it before.
 *
 * @module
 */
import { checkTimeout } from "../base/checks.ts";
import { isRefusal, LoopError, withMore } from "../base/errors.ts";
import { checkAgainst, type Rows } from "../base/options.ts";
import { poll } from "../base/retry.ts";
import { whyNotPermitted } from "../kernel/capabilities.ts";
import type { OpenFile } from "../kernel/file.ts";
import { hasReader, writeToPipe } from "../kernel/program.ts";
import { fiFreeze, fiThaw } from "../kernel/super_block.ts";
import { startHelper } from "./helper.ts";

/**
 * A frozen file system: {@linkcode LoopMount.freeze}. The end of an `await using` block thaws it.
 *
 * @example
 * ```ts
 * import type { FrozenMount, LoopMount } from "@loopdev/loopdev";
 * import { copyFileSync } from "node:fs";
 *
 * async function snapshot(root: LoopMount, image: string): Promise<void> {
 *   await using _frozen: FrozenMount = await root.freeze();
 *   copyFileSync(image, `${image}.copy`);
 * }
 * console.log(typeof snapshot); // function
 * ```
 */
export interface FrozenMount extends AsyncDisposable {
  /** The mount's path. */
  readonly path: string;
  /**
   * Lets those go on who wait to write. Rejects with {@linkcode LoopError} EINVAL if it was not frozen
   * any more, after its `timeout` or since somebody else has thawed it: what was copied meanwhile may
   * have changed while it was copied. Called again it gives the same answer.
   */
  thaw(): Promise<void>;
}

export interface FreezeOptions {
  timeout?: number;
}

const OPTIONS = { timeout: { check: checkTimeout, default: 60_000 } } satisfies Rows<FreezeOptions>;

/** Throws a TypeError or RangeError that names the option. Gives the time in ms. */
export function checkFreezeOptions(options: FreezeOptions): number {
  return checkAgainst(options, OPTIONS).timeout;
}

/**
 * Descriptor 3 is the pipe, 4 the mount's root directory, `$1` the time in seconds. A line that says that
 * it is thawed ends the script; the end of the pipe or of the time thaws it. SIGKILL, since head ignores
 * what the script ignores.
 */
const SCRIPT = `
for tool in fsfreeze timeout head; do command -v "$tool" >/dev/null || exit 127; done
cd /
trap '' HUP INT QUIT TERM
exec >/dev/null 2>&1
(
  exec 5<&-
  case $(timeout -s KILL "$1" head -n 1 <&3 4<&-) in
    thawed) ;;
    *) fsfreeze --unfreeze /proc/self/fd/4 ;;
  esac
) &
`;
const NEEDS =
  "freeze() starts a shell, which thaws the file system if this process is killed; it needs fsfreeze " +
  "(util-linux), timeout and head (coreutils), or busybox";
const LATE =
  "it was not frozen any more: its timeout has passed, or somebody else has thawed it. What " +
  "was copied meanwhile may have changed";
/** What timeout(1) takes for a time without end, in seconds. busybox's takes 0 for a time that is over. */
const ENDLESS = 2 ** 31 - 1;
/** The helper ends in a few ms after its line. */
const HELPER_ENDS_MS = 1000;

/** What is to be frozen. */
interface Freezing {
  readonly path: string;
  /** Its root directory. */
  readonly root: OpenFile;
  readonly type: string;
  /** Has the keeper's records say whether it is frozen. */
  setFrozen(isFrozen: boolean): void;
}

export class Frozen implements FrozenMount {
  readonly path: string;
  readonly #freezing: Freezing;
  readonly #helper: OpenFile;
  #thawed: Promise<void> | undefined;
  /** A caller of thaw() gets the error: the end of the block does not throw it again. */
  #isTold = false;

  constructor(freezing: Freezing, helper: OpenFile) {
    this.path = freezing.path;
    this.#freezing = freezing;
    this.#helper = helper;
  }

  async thaw(): Promise<void> {
    this.#isTold = true;
    await this.end();
  }

  /** The same for who does not tell the caller of freeze() what came of it. */
  async end(): Promise<void> {
    await (this.#thawed ??= this.#thaw());
  }

  /** The file system was thawed, and has been frozen again: that is not this one's to thaw. */
  supersede(): void {
    if (this.#thawed) return;
    this.#thawed = Promise.reject(this.#late());
    this.#thawed.catch(() => {});
    endHelper(this.#helper).catch(() => {});
  }

  #late(): LoopError {
    const { path } = this;
    return new LoopError({ code: "EINVAL", syscall: "ioctl", path, request: "FITHAW", hint: LATE });
  }

  async #thaw(): Promise<void> {
    try {
      await fiThaw(this.#freezing.root);
    } catch (error) {
      if (isRefusal(error, "EINVAL")) {
        this.#freezing.setFrozen(false);
        await endHelper(this.#helper).catch(() => {});
        throw this.#late();
      }
      throw leaveToHelper(error, this.#helper);
    }
    this.#freezing.setFrozen(false);
    await endHelper(this.#helper);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const isTold = this.#isTold;
    await this.thaw().catch((error) => {
      if (!isTold) throw error;
    });
  }
}

/** Freezes it for `timeout` ms at most. */
export async function freeze(freezing: Freezing, timeout: number): Promise<Frozen> {
  const helper = await startThawer(freezing, timeout);
  let isFrozen = false;
  try {
    await fiFreeze(freezing.root);
    isFrozen = true;
    // It has thawed nothing if its time was over before the freeze, and nobody else would.
    if (!hasReader(helper)) throw tooLate(freezing, timeout);
    freezing.setFrozen(true);
    return new Frozen(freezing, helper);
  } catch (error) {
    const isThawed = !isFrozen ||
      await fiThaw(freezing.root).then(() => true, (error) => isRefusal(error, "EINVAL"));
    if (!isThawed) throw leaveToHelper(error, helper);
    // Somebody else may have frozen it: the helper must not thaw it.
    await endHelper(helper).catch(() => {});
    if (!isRefusal(error)) throw error;
    const hint = whyNoFreeze(error, freezing.type);
    throw hint === undefined ? error : error.withHint(hint);
  }
}

function tooLate({ path }: Freezing, timeout: number): LoopError {
  const hint = `its timeout, ${timeout} ms, was over before it was frozen: give it more time`;
  return new LoopError({ code: "ETIMEDOUT", path, hint });
}

/** Why a file system of this type was not frozen. */
export function whyNoFreeze({ code }: LoopError, type: string): string | undefined {
  switch (code) {
    case "EBUSY":
      return "it is frozen already";
    case "EOPNOTSUPP":
      return `the driver of ${type} does not freeze`;
    case "EPERM":
      return whyNotPermitted("freeze()", "CAP_SYS_ADMIN");
    default:
      return undefined;
  }
}

function startThawer({ root }: Freezing, timeout: number): Promise<OpenFile> {
  const seconds = Math.max(1, Math.min(Math.ceil(timeout / 1000), ENDLESS));
  return startHelper({
    text: SCRIPT,
    name: "loopdev-thaw",
    args: [`${seconds}`],
    files: [root],
    tool: "fsfreeze",
    needs: NEEDS,
  });
}

/** The end of its pipe has it thaw what this process could not. The record stays for the keeper. */
function leaveToHelper(error: unknown, helper: OpenFile): unknown {
  helper.close();
  return withMore(
    error,
    "it is left to a helper process to thaw the file system (fsfreeze --unfreeze)",
  );
}

/** Tells it that nothing is left to do, and waits until it has let the directory go. */
async function endHelper(helper: OpenFile): Promise<void> {
  using pipe = helper;
  // If it could not be told, it would thaw what somebody else may have frozen since.
  if (hasReader(pipe)) writeToPipe(pipe, new TextEncoder().encode("thawed\n"));
  await poll(() => hasReader(pipe) ? undefined : true, HELPER_ENDS_MS);
}
