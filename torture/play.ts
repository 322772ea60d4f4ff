/**
 * Runs a program by the public API, and notes each call and each answer in the order in which they came.
 */
import process from "node:process";
import { attach, attachAll, detach, type LoopDevice, type LoopMount, openLoop } from "../mod.ts";
import { keepersOf, killAll } from "../tests/support/keepers.ts";
import { writeTable } from "./images.ts";
import type { Answer, Event } from "./model.ts";
import type { Call, FileName, Program, Step } from "./programs.ts";
import { sysfs, topmost } from "./seen.ts";

/** What a program may use; nobody else has these. */
export interface Lane {
  readonly files: Readonly<Record<FileName, string>>;
  /** "d0" and "d1", on which the program mounts, and "beside", on which the stranger mounts devices. */
  readonly folders: Readonly<Record<string, string>>;
  /** The stranger's devices. */
  readonly numbers: readonly number[];
  /** Asks the stranger to do something; rejects if he cannot. */
  ask(request: string): Promise<Answer>;
  note(event: Event): void;
}

/** They take effect at a path or in a file: what the program has called must have been answered. */
const AFTER_ALL: readonly string[] = [
  ...["strangerMounts", "strangerUnmounts", "strangerMountsDevice", "strangerAddsPartition"],
  ...["writeTable", "killKeeper"],
];
/** What the end of a program leaves to be unmounted lies on one another at most so often. */
const MOST_LAYERS = 12;

export const pause = (ms: number): Promise<void> =>
  new Promise<void>((resolve) => setTimeout(resolve, ms));

/** Its device has been detached: nothing may be done to whoever has that number now. */
class Gone extends Error {
  override readonly name = "Gone";
}

export class Player {
  readonly #lane: Lane;
  readonly #handles = new Map<string, Promise<LoopDevice>>();
  readonly #mounts = new Map<string, Promise<LoopMount>>();
  /** Of the stranger, by their names: as `ID POINT`. */
  readonly #theirs = new Map<string, string>();
  /** The last use that the stranger has made of each of his devices. */
  readonly #attached = new Map<number, Answer>();
  readonly #calls: Promise<unknown>[] = [];
  #number = 0;

  constructor(lane: Lane) {
    this.#lane = lane;
  }

  /** Resolves when all calls have been answered. */
  async run({ steps }: Program): Promise<void> {
    for (const step of steps) {
      if (AFTER_ALL.includes(step.op)) await this.#settle();
      await this.#leave(this.#start(step), step);
    }
    await this.#settle();
  }

  async #leave(call: Promise<unknown>, { leave, ms = 0 }: Step): Promise<void> {
    call.catch(() => {});
    this.#calls.push(call);
    if (leave === "await") await call.catch(() => {});
    else if (leave === "race") await Promise.race([call, pause(ms)]).catch(() => {});
    else if (leave === "tick") await null;
  }

  async #settle(): Promise<void> {
    await Promise.allSettled(this.#calls);
  }

  /** Notes the call when it is really made: after whoever makes its handle, if that was not awaited. */
  #start(step: Step): Promise<unknown> {
    const { op } = step;
    if (op === "attach" || op === "openLoop") {
      const handle = op === "attach"
        ? this.#noted(step, () => this.#attach(step))
        : this.#openLoop(step);
      this.#handles.set(step.handle, handle);
      return handle;
    }
    if (op === "mount") {
      const mounting = this.#mount(step);
      this.#mounts.set(step.mount, mounting);
      return mounting;
    }
    return this.#act(step);
  }

  async #noted<T>(
    call: Call,
    make: () => Promise<T>,
    show: (made: T) => Answer = answerOf,
  ): Promise<T> {
    const id = this.#number++;
    this.#lane.note({ call: id, step: call });
    try {
      const made = await make();
      this.#lane.note({ answer: id, ...show(made) });
      return made;
    } catch (error) {
      const { message } = error as Error;
      this.#lane.note({ answer: id, error: errorOf(error), message });
      throw error;
    }
  }

  async #attach({ file, options, abort }: Call & { op: "attach" }): Promise<LoopDevice> {
    const controller = new AbortController();
    const signal = abort === undefined ? {} : { signal: controller.signal };
    const attaching = attach(this.#lane.files[file], { ...options, ...signal, onDeferred() {} });
    if (abort !== undefined) pause(abort).then(() => controller.abort());
    return await attaching;
  }

  async #openLoop(call: Call & { op: "openLoop" }): Promise<LoopDevice> {
    const { of } = call;
    const meant = typeof of === "number" ? this.#attached.get(of) : await this.#bound(of);
    if (!meant) throw new Gone();
    const path = `/dev/loop${meant.number}`;
    return await this.#noted(call, async () => {
      const loop = await openLoop(path);
      if (loop.diskseq === meant.diskseq) return loop;
      // A neighbour has it by now.
      await loop[Symbol.asyncDispose]();
      throw new Gone();
    });
  }

  async #mount(call: Call & { op: "mount" }): Promise<LoopMount> {
    const loop = await this.#handle(call.handle);
    const at = call.at === undefined ? {} : { at: this.#lane.folders[call.at] };
    return await this.#noted(
      call,
      () => loop.mount(call.partition, { ...call.options, ...at }),
    );
  }

  /** Rejects where the handle was never made: a call of it is not made either. */
  async #handle(name: string): Promise<LoopDevice> {
    const handle = this.#handles.get(name);
    if (!handle) throw new Error(`${name} is not there`);
    return await handle;
  }

  /** The same, while its device is still in the use that it was made for. */
  async #bound(name: string): Promise<LoopDevice> {
    const loop = await this.#handle(name);
    if (
      sysfs(loop.number, "diskseq") === String(loop.diskseq) &&
      sysfs(loop.number, "loop/backing_file") !== undefined
    ) return loop;
    throw new Gone();
  }

  async #act(step: Step): Promise<unknown> {
    const { files, numbers } = this.#lane;
    switch (step.op) {
      case "attachAll": {
        const file = files[step.file];
        const both = () => attachAll([file, file], { overlap: "refuse" });
        const loops = await this.#noted(step, both, () => ({ ok: "attached" })).catch(() => {});
        return await loops?.[Symbol.asyncDispose]();
      }
      case "detachFile":
        return await this.#noted(step, () => detach(files[step.file]));
      case "writeTable":
        return await this.#noted(
          step,
          () => Promise.resolve(writeTable(files[step.file], step.table)),
        );
      case "killKeeper":
        return await this.#noted(step, () => Promise.resolve(killAll(keepersOf(process.pid))));
      case "die":
        return await this.#noted(step, () => {
          process.kill(process.pid, "SIGKILL");
          return new Promise(() => {});
        });
      case "unmount": {
        const mount = await this.#mounts.get(step.mount);
        return mount && await this.#noted(step, () => mount.unmount());
      }
      case "strangerAttaches": {
        const request = `attach ${numbers[step.number]} ${files[step.file]}`;
        const answer = await this.#ask(step, request);
        this.#attached.set(step.number, { ...answer, number: numbers[step.number] });
        return answer;
      }
      case "strangerDetaches":
        return await this.#ask(step, `detach ${numbers[step.number]}`);
      case "strangerHolds":
        return await this.#ask(step, `hold ${numbers[step.number]} ${step.value}`);
      case "strangerMounts":
      case "strangerMountsDevice":
        return await this.#theirMount(step);
      case "strangerUnmounts": {
        const theirs = this.#theirs.get(step.mount);
        if (theirs === undefined) return;
        await this.#ask(step, `unmount ${theirs}`);
        // The next mount there may get the same id.
        this.#theirs.delete(step.mount);
        return;
      }
      case "strangerAddsPartition":
        return await this.#ask(step, `add ${(await this.#bound(step.handle)).number}`);
      default:
        return await this.#operate(step as Step & { handle: string });
    }
  }

  async #ask(call: Call, request: string): Promise<Answer> {
    const number = "number" in call ? { number: this.#lane.numbers[call.number] } : {};
    return await this.#noted(call, () => this.#lane.ask(request), (answer) => ({
      ok: "done",
      ...answer,
      ...number,
    }));
  }

  async #theirMount(
    call: Call & { op: "strangerMounts" | "strangerMountsDevice" },
  ): Promise<void> {
    const { folders } = this.#lane;
    const show = (answer: Answer & { id?: number; point?: string }) => {
      const mount = `${answer.id} ${answer.point}`;
      this.#theirs.set(call.mount, mount);
      return { ok: "mounted", mount };
    };
    if (call.op === "strangerMountsDevice") {
      const { number } = await this.#bound(call.handle);
      const request = `mountDevice ${number} ${call.partition ?? 0} ${folders.beside}`;
      await this.#noted(call, () => this.#lane.ask(request), show);
      return;
    }
    const point = folders[call.over] ?? (await this.#mounts.get(call.over))?.path;
    // The path of a detached mount leads nowhere in another process.
    if (point === undefined || point.startsWith("/proc/")) return;
    await this.#noted(call, () => this.#lane.ask(`mount 0 ${point}`), show);
  }

  async #operate(call: Step & { handle: string }): Promise<unknown> {
    const loop = await this.#handle(call.handle);
    const { number } = loop;
    return await this.#noted(call, () => operate(loop, call, this.#lane), (ok) => ({
      ok,
      // Another file is another use of the device.
      ...call.op === "changeFile" ? { number, diskseq: loop.diskseq } : {},
    }));
  }

  /** Ends all that the program and the stranger have left. `attached` gives the files that still are. */
  async end(attached: () => readonly FileName[]): Promise<void> {
    const { ask, files, numbers } = this.#lane;
    const ended = (all: Iterable<Promise<AsyncDisposable>>) =>
      Promise.allSettled([...all].map(async (one) => await (await one)[Symbol.asyncDispose]()));
    for (let layer = 0; layer < MOST_LAYERS && this.#mounts.size + this.#theirs.size > 0; layer++) {
      for (const [name, mount] of this.#theirs) {
        await ask(`unmount ${mount}`).then(() => this.#theirs.delete(name), () => {});
      }
      const results = await ended(this.#mounts.values());
      const left = results.some(({ status }) => status === "rejected");
      if (!left && this.#theirs.size === 0) break;
    }
    await ended(this.#handles.values());
    // What was persisted.
    for (const name of attached()) {
      if (!name.startsWith("foreign")) await detach(files[name]).catch(() => {});
    }
    await Promise.allSettled(
      numbers.filter((number) => sysfs(number, "loop/backing_file"))
        .map((number) => ask(`detach ${number}`)),
    );
    for (const name of attached()) await detach(files[name]).catch(() => {});
  }
}

async function operate(loop: LoopDevice, call: Call, lane: Lane): Promise<unknown> {
  switch (call.op) {
    case "setSectorSize":
      return await loop.setSectorSize(call.value as 512);
    case "setDirectIo":
      return await loop.setDirectIo(call.value === 1);
    case "setCapacity":
      return await loop.setCapacity();
    case "rescan":
      return void await loop.rescan({ timeout: 1000 });
    case "changeFile":
      return await loop.changeFile(lane.files[call.file!]);
    case "holders":
      return void await loop.holders();
    case "isCurrent":
      return await loop.isCurrent();
    case "lock": {
      const held = await loop.lock({ timeout: call.timeout });
      return call.value === 1 ? await held.release() : undefined;
    }
    case "settled":
      return await loop.settled({ timeout: 1000 });
    case "persist":
      return await loop.persist();
    case "detach":
      return await loop.detach(call.timeout === undefined ? {} : { timeout: call.timeout });
    case "dispose":
      return await loop[Symbol.asyncDispose]();
  }
}

/** A handle or mount, with what the kernel shows of it at this moment; or the word of an answer. */
export function answerOf(made: unknown): Answer {
  if (typeof made !== "object" || made === null) return { ok: made };
  if ("unmount" in made) {
    const { path, device } = made as LoopMount;
    const line = topmost(path, device);
    return { ok: "mounted", mount: line && `${line.id} ${line.point}` };
  }
  // The stranger's.
  if ("ok" in made) return made;
  const { number, diskseq } = made as LoopDevice;
  return {
    ok: "attached",
    number,
    diskseq: Number(sysfs(number, "diskseq")) === diskseq ? diskseq : undefined,
    shown: sysfs(number, "loop/backing_file"),
  };
}

/** LoopError: its code. Any other: its name. */
export function errorOf(error: unknown): string {
  const { name, code } = error as { name: string; code?: string };
  return name === "LoopError" ? code! : name;
}
