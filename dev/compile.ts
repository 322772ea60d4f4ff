/**
 * The options of `bun build` with which a program of one file is made of cli.ts, as the README does it.
 * Without the second and the third it would obey bunfig.toml and .env of the directory that root
 * happens to be in. The last two have it start with code that is compiled already.
 */
export const COMPILE: readonly string[] = [
  "--compile",
  "--no-compile-autoload-bunfig",
  "--no-compile-autoload-dotenv",
  "--bytecode",
  "--format=esm",
];
