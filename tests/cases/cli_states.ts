/** The states of the comparison with losetup. */

/** A name that nobody should print raw. */
export const MANGLED = 'a\tb\nc\x1b[31m ü \\x41 "q" 日本';

/** losetup's command lines that make a state; $D and $E are devices of the test's own. */
export const STATES = {
  free: [],
  bound: [["$D", "a.img"]],
  two: [["-o", "512", "--sizelimit", "1M", "$D", "a.img"], ["-r", "$E", "a.img"]],
  part: [["-o", "1M", "--sizelimit", "1M", "$D", "a.img"]],
  readOnly: [["-r", "$D", "a.img"]],
  mangled: [["$D", MANGLED]],
} as const;

/** A command line, and the state on which it is run. `VARIABLE=value` may stand before it. */
export interface Case {
  readonly state: keyof typeof STATES;
  readonly line: string;
}
