/**
 * The command line of Node's test runner, without the files.
 *
 * @param {string} node the program
 * @param {string} report where the JUnit report goes
 * @returns {string[]}
 */
export const nodeTest = (node, report) => [
  ...[node, "--import", import.meta.resolve("./resolve.mjs")],
  ...["--disable-warning=ExperimentalWarning", "--test"],
  // One file after another: they wait for devices more than they work.
  "--test-concurrency=1",
  ...["--test-reporter=spec", "--test-reporter-destination=stdout"],
  ...["--test-reporter=junit", `--test-reporter-destination=${report}`],
];
