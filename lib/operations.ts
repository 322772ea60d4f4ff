/**
 * The operations of a handle, and what it says when it is closed.
 *
 * @module
 */
import { breathe, Turns } from "./runtime/turns.ts";

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
  inTurn<T>(operation: () => T | Promise<T>): Promise<T> {
    return this.#turns.take(async () => {
      await breathe();
      return await operation();
    });
  }

  /** The same on an open handle; on another one it is refused. */
  take<T>(operation: () => Promise<T>): Promise<T> {
    return this.inTurn(() => {
      this.checkOpen();
      return operation();
    });
  }

  checkOpen(): void {
    if (this.state !== "open") throw new TypeError(`${this.#path} ${WHY_NOT[this.state]}`);
  }
}
