/**
 * Waiting until udevd has done its work on a device and its partitions: then its links in /dev/disk are
 * there, and say what is on the device now.
 *
 * Neither its database nor its queue can tell. The entry of a loop device outlives the device's use, so
 * that an earlier use's event may have written it; an event can be on its way to udevd when the queue is
 * empty; and udevd does not watch a node while it works on it, so that mkfs may have gone unnoticed.
 *
 * So the kernel is asked to announce disk and partitions once more, with an UUID of ours (SYNTH_UUID).
 * udevd does one event of a device after another, and tells its listeners of each that is done, with its
 * properties. When it tells of ours, everything before is done as well. All versions do so.
 *
 * @module
 */
import { isRefusal, LoopError } from "../base/errors.ts";
import { announce, udevEntry, udevIsBusy, udevRuns } from "./udev.ts";
import { describeLockers, type DeviceLock, isLockedExclusively } from "./lock.ts";
import { findLockers } from "../holders/holders.ts";
import { poll } from "../base/retry.ts";
import { sysfsDev, sysfsPartitions } from "../kernel/sysfs.ts";
import { UdevMessages } from "./messages.ts";

/** udevd with an empty queue that says nothing for so long has not got the event, or dropped it. */
const SILENCE_MS = 1000;
/** Clocks of files are up to a tick late. */
const TICK_MS = 10;

/** A disk or partition that udevd was asked to look at: whether it could be, when, and how often. */
interface Asked {
  readonly dev: string;
  /** What told its entry in udevd's database from others before. */
  readonly before: string;
  readonly announced: boolean;
  readonly at: number;
  readonly times: number;
  answered: boolean;
}

/**
 * Resolves when udevd is done with loop device `number` and its partitions; at once if it does not run.
 * EBUSY, whether it runs or not, while `lock` is held exclusively.
 * `since`: when the device was bound, in ms since 1970. `lock`: our own, which would keep it away.
 */
export async function udevSettled(
  { number, since, lock }: { number: number; since: number; lock: DeviceLock },
  timeout: number,
  signal?: AbortSignal,
): Promise<void> {
  signal?.throwIfAborted();
  // The same everywhere: a program that is tried where no udevd runs is used where one does.
  if (lock.isExclusive) {
    const hint = "udevd looks at it when the lock that lock() took is released: release it first";
    throw new LoopError({ code: "EBUSY", syscall: "settled", path: `/dev/loop${number}`, hint });
  }
  if (!udevRuns()) return;
  using settling = new Settling(number, since);
  if (await poll(() => settling.isDone() || undefined, timeout, signal)) return;
  const lockers = await findLockers(number);
  const why = lockers.length > 0
    ? `it looks at nothing that is locked exclusively, and ${await describeLockers(
      number,
    )} has a lock`
    : "does it run (udevadm control --ping), in this network namespace, and what is it busy with " +
      "(udevadm monitor)?";
  throw new LoopError({
    code: "ETIMEDOUT",
    syscall: "settled",
    path: `/dev/loop${number}`,
    hint: `after ${timeout} ms udevd is not done with ${settling.missing().join(", ")}: ${why}`,
  });
}

class Settling implements Disposable {
  readonly #number: number;
  readonly #since: number;
  readonly #uuid = crypto.randomUUID();
  readonly #messages = listen();
  readonly #asked = new Map<string, Asked>();
  /** Whether udevd was heard to speak of the device: its silence means something then. */
  #heard = false;

  constructor(number: number, since: number) {
    this.#number = number;
    this.#since = since - TICK_MS;
  }

  isDone(): boolean {
    this.#listen();
    const present = this.#present();
    for (const name of this.#asked.keys()) if (!present.has(name)) this.#asked.delete(name);
    for (const [name, dev] of present) {
      if (this.#asked.get(name)?.dev !== dev) this.#ask(name, dev, 1);
    }
    const all = [...this.#asked.entries()];
    if (all.every(([, { answered }]) => answered)) return true;
    if (udevIsBusy()) return false;
    const isSilent = ({ answered, announced, at }: Asked) =>
      !answered && announced && performance.now() - at > SILENCE_MS;
    const forgotten = all.filter(([, asked]) => isSilent(asked));
    // What is locked exclusively udevd does not look at; before systemd 251 it drops the event.
    if (forgotten.length > 0 && isLockedExclusively(this.#number)) return false;
    if (this.#isWritten(all.map(([, asked]) => asked), isSilent)) return true;
    for (const [name, { dev, times }] of forgotten) this.#ask(name, dev, times + 1);
    return false;
  }

  /** What udevd has not done yet, for a message. */
  missing(): string[] {
    return [...this.#asked].filter(([, { answered }]) => !answered).map(([name, { dev }]) =>
      udevEntry(dev) ? `/dev/${name}` : `/dev/${name} (nothing in /run/udev/data/b${dev})`
    );
  }

  /** The disk and its partitions, as the kernel has them: device numbers by name. */
  #present(): Map<string, string> {
    const disk: [string, string] = [`loop${this.#number}`, sysfsDev(this.#number)];
    const partitions = sysfsPartitions(this.#number);
    return new Map([disk, ...partitions.map(({ name, dev }): [string, string] => [name, dev])]);
  }

  #ask(name: string, dev: string, times: number): void {
    const before = identityOf(dev);
    const announced = announce(this.#number, name, this.#uuid);
    this.#asked.set(name, {
      dev,
      before,
      announced,
      times,
      at: performance.now(),
      answered: false,
    });
  }

  #listen(): void {
    for (const message of this.#messages?.take() ?? []) {
      const name = message.get("DEVPATH")?.split("/").at(-1) ?? "";
      const asked = this.#asked.get(name);
      if (!asked || message.get("SUBSYSTEM") !== "block") continue;
      this.#heard = true;
      if (message.get("SYNTH_UUID") === this.#uuid) asked.answered = true;
      // Dropped, and perhaps added again since.
      else if (message.get("ACTION") === "remove") this.#asked.delete(name);
    }
  }

  /**
   * All that can be known where udevd's words do not get through, from another network namespace, or
   * where nobody can ask it, with a read-only /sys: that it has written something, since we asked, or if
   * it is silent even to a second question, since the bind.
   */
  #isWritten(all: readonly Asked[], isSilent: (asked: Asked) => boolean): boolean {
    const isNew = (asked: Asked) => {
      if (asked.announced && identityOf(asked.dev) !== asked.before) return true;
      if (asked.announced && !(asked.times > 1 && isSilent(asked))) return false;
      return (udevEntry(asked.dev)?.modified ?? 0) >= this.#since;
    };
    if (!all.every(isNew) || udevIsBusy()) return false;
    if (!all.some(({ announced }) => announced)) return true;
    // It speaks before its queue is empty.
    this.#listen();
    return !this.#heard;
  }

  [Symbol.dispose](): void {
    this.#messages?.[Symbol.dispose]();
  }
}

/** Each event makes a new file of the entry. */
function identityOf(dev: string): string {
  const entry = udevEntry(dev);
  return entry ? `${entry.inode} ${entry.modified}` : "";
}

function listen(): UdevMessages | undefined {
  try {
    return new UdevMessages();
  } catch (error) {
    // A seccomp filter may know no such sockets.
    if (isRefusal(error)) return undefined;
    throw error;
  }
}
