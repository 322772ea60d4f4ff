/** How the performance page writes a time, given in ns: in µs, or in ms from 1 ms on. */
export function duration(ns: number): string {
  const us = ns / 1000;
  return us < 1000 ? `${us.toFixed(0)} µs` : `${(us / 1000).toFixed(us < 100_000 ? 1 : 0)} ms`;
}
