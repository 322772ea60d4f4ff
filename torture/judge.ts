/** Whether the answers of a program's calls, and what the kernel shows afterwards, are what they may be. */
import { differences, type Event, explain, leftMounts } from "./model.ts";
import { describe } from "./programs.ts";
import type { Seen } from "./seen.ts";

/** No call gives these: EBADF says that a descriptor was used after its end. */
const NEVER = /^(EBADF|EFAULT|Error|RangeError|ReferenceError|SuppressedError|InternalError)$/;
const PAUSE_MS = 20;

/** What is wrong; undefined if nothing is, or after at most `ms` nothing is any more. */
export async function judge(
  events: readonly Event[],
  look: () => Seen,
  ms: number,
): Promise<string | undefined> {
  const wrong = wrongError(events);
  if (wrong !== undefined) return wrong;
  for (const end = Date.now() + ms;;) {
    const seen = look();
    let least: string[] | undefined;
    const { unexplained, isAccepted } = explain(events, (state) => {
      const all = [...differences(state, seen), ...leftMounts(events, state, seen)];
      if (!least || all.length < least.length) least = all;
      return all.length === 0;
    });
    if (isAccepted) return undefined;
    if (unexplained) {
      const { step, answer } = unexplained;
      const said = answer?.error ?? answer?.ok ?? "nothing";
      const why = answer?.message === undefined ? "" : `: ${answer.message}`;
      return `${callText(step)}: no state allows that it answers ${said}${why}`;
    }
    if (Date.now() > end) return least!.join("; ");
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}

export const callText = (step: Parameters<typeof describe>[0] | object): string =>
  describe({ ...step, leave: "await", ms: undefined } as Parameters<typeof describe>[0]);

function wrongError(events: readonly Event[]): string | undefined {
  for (const event of events) {
    if (!("answer" in event) || event.error === undefined || !NEVER.test(event.error)) continue;
    const made = events.find((one) => "call" in one && one.call === event.answer);
    const step = (made as Event & { step: { op: string } }).step;
    // The stranger's errors are not the library's.
    if (step.op.startsWith("stranger")) continue;
    return `${callText(step)} failed with ${event.error}: ${event.message}`;
  }
  return undefined;
}
