/**
 * What udevd tells its listeners: every event, with its properties, once it has run its rules, written its
 * database and made its links.
 *
 * @module
 */
import { UeventGroup } from "../kernel/uevents.ts";
import { decodeName } from "../base/names.ts";

/** libudev's header: since udev 173 it begins with this and has the offset of the properties. */
const PREFIX = "libudev\0";
const PROPERTIES_OFF = 16;

/** Listens from when it is made. */
export class UdevMessages implements Disposable {
  readonly #group = new UeventGroup("udevd");

  /** The properties of each event that udevd has told of since the last call. */
  read(): Map<string, string>[] {
    const taken: Map<string, string>[] = [];
    for (;;) {
      const message = this.#group.read();
      // EAGAIN, or ENOBUFS: messages that came while the socket's buffer was full are lost.
      if (typeof message === "number") return taken;
      if (decodeName(message.subarray(0, PREFIX.length)) !== PREFIX) continue;
      const view = new DataView(message.buffer, 0, message.length);
      const properties = decodeName(message.subarray(view.getUint32(PROPERTIES_OFF, true)));
      taken.push(
        new Map(
          properties.split("\0").map((line): [string, string] => {
            const equals = line.indexOf("=");
            return [line.slice(0, equals), line.slice(equals + 1)];
          }),
        ),
      );
    }
  }

  [Symbol.dispose](): void {
    this.#group[Symbol.dispose]();
  }
}
