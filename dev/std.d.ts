// npm's deno-std carries no types, and JSR's packages cannot be named here: just enough for tsc.
// Deno checks the same imports against the JavaScript.
declare module "@std/cli/parse-args" {
  // deno-lint-ignore no-explicit-any
  export function parseArgs(args: string[], options?: object): any;
}
