/**
 * Counts a loop device's partition uevents, cycle by cycle. A cycle that attaches an image of N
 * partitions and detaches it again owes exactly N adds and N removes; everything beyond is spurious.
 */
import { existsSync, readdirSync } from "node:fs";
import type { UeventSocket } from "../../tools/race_check/uevents.ts";

/** What many cycles added up to. */
export interface Tally {
  cycles: number;
  adds: number;
  removes: number;
  /** Adds and removes beyond one of each for each partition. */
  spurious: number;
  /** Adds and removes that never came. */
  missing: number;
  /** Cycles with at least one spurious event. */
  flickered: number;
}

/** Counts the events of loop devices' partitions; nobody else makes any in the guest. */
export class PartitionCounter {
  readonly tally: Tally = {
    cycles: 0,
    adds: 0,
    removes: 0,
    spurious: 0,
    missing: 0,
    flickered: 0,
  };
  #adds = 0;
  #removes = 0;

  readonly socket: UeventSocket;
  readonly partitions: number;

  constructor(socket: UeventSocket, partitions: number) {
    this.socket = socket;
    this.partitions = partitions;
  }

  /** Takes what has arrived. */
  drain(): void {
    for (const event of this.socket.drain()) {
      if (event.env.DEVTYPE !== "partition") continue;
      if (!event.devpath.includes("/block/loop")) continue;
      if (event.action === "add") this.#adds++;
      if (event.action === "remove") this.#removes++;
    }
  }

  /** Waits until no event has come for `milliseconds`: udevd's own re-read has then happened. */
  quiet(milliseconds: number): void {
    do this.drain(); while (this.socket.wait(milliseconds));
  }

  /** Waits until every partition of `disk` is in sysfs; false when the deadline passes first. */
  present(disk: string, milliseconds: number, partitions: number = this.partitions): boolean {
    const numbers = Array.from({ length: partitions }, (_, i) => i + 1);
    return this.within(
      milliseconds,
      () => numbers.every((n) => existsSync(`/sys/block/${disk}/${disk}p${n}`)),
    );
  }

  /** Waits for a condition, while events are counted; false when the deadline passes. */
  within(milliseconds: number, condition: () => boolean): boolean {
    const deadline = Date.now() + milliseconds;
    while (!condition()) {
      if (Date.now() > deadline) return false;
      this.socket.wait(5);
      this.drain();
    }
    return true;
  }

  /** Waits until `disk` has no backing file and no partition; false when the deadline passes. */
  detached(disk: string, milliseconds: number): boolean {
    const partition = (name: string) => name.startsWith(`${disk}p`);
    return this.within(
      milliseconds,
      () =>
        !existsSync(`/sys/block/${disk}/loop`) &&
        !readdirSync(`/sys/block/${disk}`).some(partition),
    );
  }

  /** Events of this cycle beyond an add for each partition: while the image is attached. */
  get early(): number {
    return Math.max(0, this.#adds - this.partitions) + this.#removes;
  }

  /** The tally, and what was not heard: an event lost may have been the one. */
  row(): Tally & { lost: number; overruns: number } {
    return { ...this.tally, lost: this.socket.missing, overruns: this.socket.overruns };
  }

  /** Closes one cycle and adds it to the tally. */
  endCycle(): void {
    const { tally, partitions } = this;
    const over = Math.max(0, this.#adds - partitions) + Math.max(0, this.#removes - partitions);
    tally.cycles++;
    tally.adds += this.#adds;
    tally.removes += this.#removes;
    tally.spurious += over;
    tally.missing += Math.max(0, partitions - this.#adds) + Math.max(0, partitions - this.#removes);
    if (over > 0) tally.flickered++;
    this.#adds = this.#removes = 0;
  }
}
