/** Devices for tests that must have a certain one, which others could be offered as well. */
import process from "node:process";
import { O_RDWR, open, type OpenFile } from "../lib/kernel/file.ts";
import { loopCtlAdd, loopCtlRemove } from "../lib/kernel/loop.ts";

/** Two devices that nobody else is offered: far beyond the first free one. They go at the end. */
export async function withOwnDevices(use: (a: number, b: number) => Promise<void>): Promise<void> {
  const numbers = [0, 1].map((n) => 10_000 + 2 * (process.pid % 100_000) + n);
  const each = async (act: (control: OpenFile, number: number) => unknown) => {
    using control = open("/dev/loop-control", O_RDWR);
    for (const number of numbers) await act(control, number);
  };
  await each(loopCtlAdd);
  try {
    await use(numbers[0], numbers[1]);
  } finally {
    await each(loopCtlRemove);
  }
}
