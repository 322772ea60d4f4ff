/**
 * Reading in several calls what others replace meanwhile.
 *
 * @module
 */

/** So often it may be another one after it was read. */
const LOOKS = 16;

/** What `read` gives of one thing alone: `identify` gives the same before and after it, or it is read again. */
export function readSteadily<T>(identify: () => unknown, read: () => T): T {
  for (let looks = 1;; looks++) {
    const identity = identify();
    const result = read();
    if (identify() === identity || looks === LOOKS) return result;
  }
}
