/**
 * A line on the terminal that says how far a copy is, from its first second on.
 *
 * @module
 */
import { ifExists, isRefusal, listDirectory, readText } from "../../lib/losetup/list.ts";
import { formatSize } from "./bytes.ts";
import type { Console } from "./console.ts";

const FIRST_MS = 1000;
const NEXT_MS = 250;

/** Shows it until it is disposed of. */
export class CopyProgress implements Disposable {
  readonly #console: Console;
  readonly #begun = performance.now();
  readonly #timer: ReturnType<typeof setInterval>;
  #copied: number | undefined = 0;

  /** `total`: bytes, if they are known. */
  constructor(console: Console, total: number | undefined) {
    this.#console = console;
    const of = total === undefined ? "" : ` of ${formatSize(total)}`;
    this.#timer = setInterval(() => {
      if (performance.now() - this.#begun < FIRST_MS) return;
      if (this.#copied === undefined) return console.status("writing it back");
      // A process that has ended counts no more.
      this.#copied = Math.max(this.#copied, bytesWritten());
      console.status(`copied ${formatSize(this.#copied)}${of}`);
    }, NEXT_MS);
  }

  /** All is copied; what is left is the kernel's. */
  finish(): void {
    this.#copied = undefined;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#console.status("");
  }
}

/** What the processes below this one have written, as the kernel counts it: copy_file_range(2) included. */
function bytesWritten(): number {
  let bytes = 0;
  for (const pids = childrenOf("self"); pids.length > 0;) {
    const pid = pids.shift()!;
    pids.push(...childrenOf(pid));
    bytes += Number(/^wchar: (\d+)$/m.exec(read(`/proc/${pid}/io`))?.[1] ?? 0);
  }
  return bytes;
}

function childrenOf(pid: string): string[] {
  const tasks = ifExists(() => listDirectory(`/proc/${pid}/task`)) ?? [];
  return tasks.flatMap((task) => read(`/proc/${pid}/task/${task}/children`).match(/\d+/g) ?? []);
}

/** "" of what is gone meanwhile, or what this kernel does not count. */
function read(path: string): string {
  try {
    return ifExists(() => readText(path)) ?? "";
  } catch (error) {
    if (isRefusal(error)) return "";
    throw error;
  }
}
