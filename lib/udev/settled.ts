/**
 * Waiting until udevd has processed a device and its partitions: then its links in /dev/disk exist and
 * match what is on the device.
 *
 * Neither udevd's database nor its queue shows that. The database entry may be of an earlier use of the
 * same loop device. The queue can be empty while an event is on its way to udevd. And udevd does not
 * watch a node while it processes it, so it may have missed a mkfs.
 *
 * So the kernel is asked to announce disk and partitions once more, with a UUID of ours (SYNTH_UUID).
 * udevd processes a device's events in order and tells its listeners of each that is done. When it tells
 * of ours, all earlier ones are done too. This holds for every version of udevd.
 *
 * @module
 */
import { LoopError, unlessRefused } from "../base/errors.ts";
import { announce, udevEntry, udevIsBusy, udevRuns } from "./udev.ts";
import { describeFlockers, type DeviceLock, isLockedExclusively } from "./lock.ts";
import { poll } from "../base/retry.ts";
import { sysfsDev, sysfsPartitions } from "../kernel/sysfs.ts";
import { UdevMessages } from "./messages.ts";

/** If udevd's queue is empty and it has been silent for so long, it never got the event, or dropped it. */
const SILENCE_MS = 1000;
/** A file's timestamp can be up to one tick early. */
const TICK_MS = 10;

/** A disk or partition that the kernel was asked to announce. */
interface Asked {
  readonly dev: string;
  /** The identity of its entry in udevd's database before that. */
  readonly before: string;
  /** False where the kernel could not be asked. */
  readonly announced: boolean;
  readonly at: number;
  readonly times: number;
  answered: boolean;
}

/**
 * Resolves when udevd has processed loop device `number` and its partitions; at once if udevd does not run.
 * `since`: when the device was bound, in ms since 1970. `lock`: the handle's own. While that is exclusive,
 * udevd would skip the device, so it is EBUSY.
 */
export async function udevSettled(
  { number, since, lock }: { number: number; since: number; lock: DeviceLock },
  timeout: number,
  signal?: AbortSignal,
): Promise<void> {
  signal?.throwIfAborted();
  // Also where no udevd runs: a program that is tested there shall not fail elsewhere.
  if (lock.isExclusive) {
    const hint = "udevd looks at it when the lock that lock() took is released: release it first";
    throw new LoopError({ code: "EBUSY", path: `/dev/loop${number}`, hint });
  }
  if (!udevRuns()) return;
  using settling = new Settling(number, since);
  if (await poll(() => settling.advance() || undefined, timeout, signal)) return;
  const lockers = await describeFlockers(number);
  const why = lockers
    ? `it looks at nothing that is locked exclusively, and ${lockers} has a lock`
    : "does it run (udevadm control --ping), in this network namespace, and what is it busy with " +
      "(udevadm monitor)?";
  throw new LoopError({
    code: "ETIMEDOUT",
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
  /** Whether a message of udevd about the device has come, so that messages reach us at all. */
  #heard = false;

  constructor(number: number, since: number) {
    this.#number = number;
    this.#since = since - TICK_MS;
  }

  /** Reads udevd's messages, announces what is new or unanswered, and gives whether udevd is done. */
  advance(): boolean {
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
    // udevd skips a device that is locked exclusively; before systemd 251 it drops the event.
    if (forgotten.length > 0 && isLockedExclusively(this.#number)) return false;
    if (this.#isWritten(all.map(([, asked]) => asked), isSilent)) return true;
    for (const [name, { dev, times }] of forgotten) this.#ask(name, dev, times + 1);
    return false;
  }

  /** The nodes that udevd has not processed yet, for a message. */
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
    for (const message of this.#messages?.read() ?? []) {
      const name = message.get("DEVPATH")?.split("/").at(-1) ?? "";
      const asked = this.#asked.get(name);
      if (!asked || message.get("SUBSYSTEM") !== "block") continue;
      this.#heard = true;
      if (message.get("SYNTH_UUID") === this.#uuid) asked.answered = true;
      // If it was added again since, it is announced again.
      else if (message.get("ACTION") === "remove") this.#asked.delete(name);
    }
  }

  /**
   * The second-best answer, where udevd's messages do not reach us (it runs in another network namespace)
   * or the kernel cannot be asked (/sys is read-only): whether udevd has written its database since we
   * asked. If it is silent even after a second event, or could not be asked: since the bind.
   */
  #isWritten(all: readonly Asked[], isSilent: (asked: Asked) => boolean): boolean {
    const isNew = (asked: Asked) => {
      if (asked.announced && identityOf(asked.dev) !== asked.before) return true;
      if (asked.announced && !(asked.times > 1 && isSilent(asked))) return false;
      const entry = udevEntry(asked.dev);
      return entry !== undefined && entry.modified >= this.#since;
    };
    if (!all.every(isNew) || udevIsBusy()) return false;
    if (!all.some(({ announced }) => announced)) return true;
    // udevd sends its message before its queue becomes empty.
    this.#listen();
    return !this.#heard;
  }

  [Symbol.dispose](): void {
    this.#messages?.[Symbol.dispose]();
  }
}

/** udevd replaces the entry's file at each event. */
function identityOf(dev: string): string {
  const entry = udevEntry(dev);
  return entry ? `${entry.inode} ${entry.modified}` : "";
}

/** Undefined where a seccomp filter forbids such sockets. */
const listen = () => unlessRefused(() => new UdevMessages());
