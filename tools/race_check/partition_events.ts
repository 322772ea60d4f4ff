/**
 * The events of a loop device's partitions: heard on a thread of its own, counted cycle by cycle.
 *
 * A uevent carries no time, and attach() blocks its thread while the kernel sends them: only a thread
 * that does nothing but wait can stamp each with the time of its receipt, some µs after it was sent.
 *
 * @module
 */
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { deadTime, type PartitionEvent, spans } from "./timeline.ts";
import { UeventSocket } from "./uevents.ts";

/** A uevent of a disk, or of one of its partitions. */
export interface Heard {
  /** "loop0" */
  disk: string;
  /** 1 for loop0p1; undefined for the disk itself. */
  partition: number | undefined;
  /** The kernel's word: "add", "remove", "change". */
  action: string;
  /** PARTNAME: only a partition that a parser of the kernel's found has it. */
  name: string | undefined;
  /** DISKSEQ: which use of the device it is; undefined before Linux 5.15. */
  use: string | undefined;
  /** Of receipt: ms on the listening thread's clock. */
  at: number;
}

/** Words that both threads see: whether to end, how much was lost, how far main has asked. */
const END = 0;
const OVERRUNS = 1;
const ASKED = 2;

/** The listening thread, until it shall end. */
function listen(words: Int32Array): void {
  using socket = new UeventSocket();
  let answered = 0;
  while (Atomics.load(words, END) === 0) {
    socket.wait(5);
    const at = performance.now();
    // The kernel queues an event at our socket before the call that causes it returns: whatever was
    // caused before main asked is found now, and posted before the answer.
    const asked = Atomics.load(words, ASKED);
    for (const { action, devpath, env } of socket.drain()) {
      const disk = /\/block\/(loop\d+)(?:\/|$)/.exec(devpath)?.[1];
      if (disk === undefined) continue;
      const partition = env.DEVTYPE === "partition" ? Number(env.PARTN) : undefined;
      const heard: Heard = { disk, partition, action, name: env.PARTNAME, use: env.DISKSEQ, at };
      parentPort!.postMessage(heard);
    }
    Atomics.store(words, OVERRUNS, socket.overruns);
    if (asked !== answered) parentPort!.postMessage(answered = asked);
  }
}

if (!isMainThread && workerData instanceof Int32Array) listen(workerData);

/**
 * Tells the events of one use of a device from those of the next, to be asked of each event in its order. Another
 * process may take the device as soon as it is free. The kernel numbers the uses (DISKSEQ), and sends the removals
 * at the end of a use with that number or with a later one.
 */
export function ofUse(diskseq: number | undefined): (event: Heard) => boolean {
  const theirs = new Set<number>();
  return ({ action, partition, use }) => {
    if (partition === undefined || use === undefined) return true;
    if (action === "remove") return !theirs.delete(partition);
    if (action === "add" && Number(use) !== diskseq) theirs.add(partition);
    return Number(use) === diskseq;
  };
}

/** Follows one loop device at a time. */
export class Listener implements AsyncDisposable {
  readonly #words = new Int32Array(new SharedArrayBuffer(12));
  readonly #exited: Promise<void>;
  #failure: Error | undefined;
  #answered = 0;
  #disk = "";
  #heard: Heard[] = [];

  constructor() {
    const worker = new Worker(new URL(import.meta.url), { workerData: this.#words });
    worker.on("error", (error) => this.#failure = error as Error);
    worker.on("message", (message: Heard | number) => {
      if (typeof message === "number") this.#answered = message;
      else if (message.disk === this.#disk) this.#heard.push(message);
    });
    this.#exited = new Promise((resolve) => worker.on("exit", () => resolve()));
  }

  /** From now on hears `disk` alone; what it sent before is forgotten. */
  async follow(disk: string): Promise<void> {
    await this.hear();
    this.#disk = disk;
  }

  /** What the device has sent since the last time. */
  async hear(): Promise<Heard[]> {
    await this.#catchUp();
    return this.#heard.splice(0);
  }

  /** The same, when it has sent nothing for `ms`. */
  async hearUntilQuiet(ms: number): Promise<Heard[]> {
    for (let before = -1; this.#heard.length > before;) {
      before = this.#heard.length;
      await new Promise((resolve) => setTimeout(resolve, ms));
      await this.#catchUp();
    }
    return this.#heard.splice(0);
  }

  async #catchUp(): Promise<void> {
    const asked = Atomics.add(this.#words, ASKED, 1) + 1;
    while (this.#answered < asked) {
      if (this.#failure) throw new Error(`cannot listen: ${this.#failure.message}`);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    if (Atomics.load(this.#words, OVERRUNS) > 0) {
      throw new Error("uevents were lost: this machine sends more of them than can be read");
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    Atomics.store(this.#words, END, 1);
    await this.#exited;
  }
}

/** What many cycles of attach and detach added up to. */
export class Tally {
  cycles = 0;
  /** Cycles with spurious events. */
  flickered = 0;
  /** Adds and removes beyond the one of each that a cycle owes each partition. */
  spurious = 0;
  /** Adds and removes that never came. */
  missing = 0;
  /** The cycle in which partitions were dead for longest; the first one if none ever died. */
  picture: { cycle: number; events: PartitionEvent[] } | undefined;
  #score = -1;

  /** Adds a cycle: what was heard of its attach, and of its detach. */
  add(partitions: number, attaching: readonly Heard[], detaching: readonly Heard[]): void {
    this.cycles++;
    const owed = new Map<string, number>();
    for (let n = 1; n <= partitions; n++) owed.set(`add ${n}`, 1).set(`remove ${n}`, 1);
    let spurious = 0;
    for (const { action, partition } of partitionEvents([...attaching, ...detaching])) {
      const left = owed.get(`${action} ${partition}`) ?? 0;
      if (left === 0) spurious++;
      else owed.set(`${action} ${partition}`, left - 1);
    }
    this.spurious += spurious;
    if (spurious > 0) this.flickered++;
    this.missing += [...owed.values()].filter((left) => left > 0).length;

    const events = partitionEvents(attaching);
    const lines = [...spans({ title: "", events, end: events.at(-1)?.at ?? 0 }).values()];
    const died = lines.some((own) => own.some(({ state }) => state === "dead"));
    const score = died ? 1 + Math.max(...lines.map(deadTime)) : 0;
    if (score > this.#score) {
      this.#score = score;
      this.picture = { cycle: this.cycles, events };
    }
  }
}

/** Adds and removes, from time 0: the kernel's announcement of the disk, or whatever came first. */
function partitionEvents(heard: readonly Heard[]): PartitionEvent[] {
  const first = heard.find(({ action, partition }) =>
    partition !== undefined || action === "change"
  );
  return heard.flatMap(({ action, partition, at }) =>
    partition !== undefined && (action === "add" || action === "remove")
      ? [{ at: at - first!.at, partition, action }]
      : []
  );
}
