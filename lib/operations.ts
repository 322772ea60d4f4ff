/**
 * The operations of a handle, and what it says when it is closed.
 *
 * @module
 */
import { Turns } from "./base/turns.ts";
import { yieldToEventLoop } from "./runtime/event_loop.ts";

const WHY_NOT = {
  detached: "has been detached: this handle is closed",
  persistent: "is persistent: openLoop() opens it, detach() of its path detaches it",
  closed: "has been closed: openLoop() opens it again",
};

/** The operations of a handle, one after another in the order in which they were called. */
export class Operations {
  state: "open" | keyof typeof WHY_NOT = "open";
  readonly #path: string;
  readonly #turns = new Turns();

  constructor(path: string) {
    this.#path = path;
  }

  /** When those before it have ended, whatever has become of the handle. */
  async inTurn<T>(operation: () => T | Promise<T>): Promise<T> {
    using _turn = await this.#turns.begin();
    await yieldToEventLoop();
    return await operation();
  }

  /** The same on an open handle; on another one it is refused. `signal` ends the wait for those before. */
  async take<T>(operation: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    using _turn = await this.#turns.begin(signal);
    await yieldToEventLoop();
    this.checkOpen();
    return await operation();
  }

  checkOpen(): void {
    if (this.state !== "open") throw new TypeError(`${this.#path} ${WHY_NOT[this.state]}`);
  }
}
