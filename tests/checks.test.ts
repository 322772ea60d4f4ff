/** Names and options: one check for every entry of the public API, before any system call. */
import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { pathToFileURL } from "node:url";
import {
  attach,
  attachAll,
  detach,
  find,
  type LoopDevice,
  openLoop,
  readPartitions,
  status,
} from "../mod.ts";
import { checkBoolean, checkByteCount } from "../lib/base/checks.ts";
import { checkAgainst, type Rows } from "../lib/base/options.ts";
import { assertDetached, makeImage, openDescriptors, PATIENTLY, test } from "./support/support.ts";

// deno-lint-ignore no-explicit-any -- what a caller without types may give
type Anything = any;

/** Every function that takes a name. */
const TAKES_A_NAME: Record<string, (name: Anything) => Promise<unknown>> = {
  attach: (name) => attach(name),
  attachAll: (name) => attachAll([name]),
  detach: (name) => detach(name),
  find: (name) => find(name),
  openLoop: (name) => openLoop(name),
  readPartitions: (name) => readPartitions(name),
  status: (name) => status(name),
};

const BAD_NAMES: [name: Anything, message: string][] = [
  ["A.img\0x", "contains a NUL"],
  ["\ud800.img", "is not valid Unicode"],
  [{}, "must be a path or a file: URL, not an object"],
  [["A.img"], "must be a path or a file: URL, not an array"],
  [5, "must be a path or a file: URL, not 5"],
  [5n, "not 5n"],
  [Symbol("A"), "not Symbol(A)"],
  [undefined, "not undefined"],
  [null, "not null"],
  [new URL("http://localhost/A.img"), "a file: URL of this machine, not http://localhost/A.img"],
  [new URL("file://elsewhere/A.img"), "a file: URL of this machine"],
  [new URL("file:///tmp/A%00.img"), "contains a NUL"],
  [new URL("file:///tmp/A%2F.img"), "has an encoded slash"],
  [new URL("file:///tmp/A%ff.img"), "is not valid UTF-8"],
];

for (const [entry, call] of Object.entries(TAKES_A_NAME)) {
  test(`${entry}() says what is wrong with a name`, [], async () => {
    for (const [name, message] of BAD_NAMES) {
      const error = await assertRejects(() => call(name), TypeError);
      assertStringIncludes(error.message, message);
    }
  });
}

test("changeFile() says what is wrong with a name", ["root"], async () => {
  await using loop = await attach(makeImage("named.img", 1));
  for (const [name, message] of BAD_NAMES) {
    const error = await assertRejects(() => loop.changeFile(name), TypeError);
    assertStringIncludes(error.message, message);
  }
});

test("a name with a NUL does not mean the part before it, nor an object descriptor 0", [
  "root",
], async () => {
  const file = makeImage("part.img", 1);
  await using loop = await attach(file);
  for (const name of [`${file}\0x`, `${file}\0/other`, {}]) {
    await assertRejects(() => detach(name as string), TypeError);
    await assertRejects(() => find(name as string), TypeError);
  }
  assertEquals(await loop.isCurrent(), true);
});

test("attach(), find() and detach() take a file: URL", ["root"], async () => {
  const url = pathToFileURL(makeImage("sp ace ü%.img", 1));
  const loop = await attach(url);
  assertEquals((await find(url)).map(({ path }) => path), [loop.path]);
  await loop.persist();
  assertEquals(await detach(url, PATIENTLY), "detached");
});

const BAD_OPTIONS: [options: Anything, message: string][] = [
  [5, "options must be an object, not 5"],
  ["readOnly", 'options must be an object, not "readOnly"'],
  [null, "options must be an object, not null"],
  [[], "options must be an object, not an array"],
  [{ readonly: true }, "unknown option 'readonly'; options are directIo"],
  [{ [Symbol("offset")]: 1 }, "unknown option 'Symbol(offset)'"],
  [{ offset: 512n }, "offset must be a number of bytes, not 512n"],
  [{ offset: Symbol("one") }, "offset must be a number of bytes, not Symbol(one)"],
  [{ reference: "\ud800" }, "is not valid Unicode"],
  [{ reference: "a\0" }, "contains a NUL"],
  [{ onDeferred: "yes" }, 'onDeferred must be a function, not "yes"'],
  [{ signal: {} }, "signal must be an AbortSignal, not an object"],
];

test("attach() and attachAll() say what is wrong with options", [], async () => {
  for (const [options, message] of BAD_OPTIONS) {
    for (const call of [() => attach("A.img", options), () => attachAll(["A.img"], options)]) {
      assertStringIncludes((await assertRejects(call, TypeError)).message, message);
    }
  }
});

test(
  "find(), detach(), attachAll() and readPartitions() say what is wrong with theirs",
  [],
  async () => {
    const calls: [call: () => Promise<unknown>, message: string][] = [
      [() => find("A", { offset: -1 }), "offset must be a whole number of bytes"],
      [() => find("A", { sizelimit: NaN }), "sizelimit must be a whole number of bytes"],
      [() => find("A", { size: 1 } as Anything), "unknown option 'size'"],
      [() => readPartitions("A", { offset: "0" } as Anything), "offset must be a number of bytes"],
      [() => readPartitions("A", { sizelimit: 511 }), "sizelimit 511 leaves no whole 512-byte"],
      [() => readPartitions("A", { sectorSize: "4096" } as Anything), 'not "4096"'],
      [() => readPartitions("A", { partscan: true } as Anything), "unknown option 'partscan'"],
      [() => readPartitions("A", 5 as Anything), "options must be an object, not 5"],
      [() => detach("A", { remove: 1 } as Anything), "remove must be one of true, false, not 1"],
      [() => detach("A", { rm: true } as Anything), "unknown option 'rm'"],
      [() => attachAll({ length: 2, 0: "a", 1: "b" } as Anything), "files must be an array"],
      [() => attachAll("A.img" as Anything), "files must be an array"],
      [() => attachAll([], { concurrency: 0 }), "concurrency must be a whole number from 1"],
      [() => attachAll([], { onProgress: 1 } as Anything), "onProgress must be a function"],
    ];
    for (const [call, message] of calls) {
      assertStringIncludes((await assertRejects(call)).message, message);
    }
  },
);

test("a handle's operations say what is wrong with their arguments", ["root"], async () => {
  await using loop = await attach(makeImage("arguments.img", 1));
  const calls: [call: (loop: LoopDevice) => Promise<unknown>, message: string][] = [
    [(loop) => loop.setDirectIo("no" as Anything), "on must be one of true, false"],
    [(loop) => loop.setSectorSize(513 as 512), "sectorSize must be one of 512, 1024, 2048, 4096"],
    [(loop) => loop.rescan({ timeout: NaN }), "timeout must be a number of ms"],
    [(loop) => loop.rescan({ timeout: -1 }), "timeout must be a number of ms"],
    [(loop) => loop.rescan({ wait: 1 } as Anything), "unknown option 'wait'"],
    [(loop) => loop.rescan(5 as Anything), "options must be an object"],
    [(loop) => loop.rescan({ signal: 5 } as Anything), "signal must be an AbortSignal"],
    [(loop) => loop.rescan({ signal: AbortSignal.abort(new Error("enough")) }), "enough"],
  ];
  for (const [call, message] of calls) {
    assertStringIncludes((await assertRejects(() => call(loop))).message, message);
  }
});

test("bad names and options leave no device and no descriptor", ["root"], async () => {
  const file = makeImage("left.img", 1);
  const before = openDescriptors();
  await assertRejects(() => attachAll([file, `${file}\0`]), TypeError);
  await assertRejects(() => attachAll([file, file], { offset: "0" } as Anything), TypeError);
  assertDetached(file);
  assertEquals(openDescriptors(), before);
});

interface Two {
  first?: number;
  second?: boolean;
}

test("an option has one row, which an interface with another option does not let pass", [], () => {
  // @ts-expect-error second has no row
  void ({ first: { check: checkByteCount } } satisfies Rows<Two>);
  const rows = {
    first: { check: checkByteCount, default: 7 },
    second: { check: checkBoolean },
  } satisfies Rows<Two>;
  const { first, ...others } = checkAgainst<Two, typeof rows>({ first: undefined }, rows);
  // It is no number | undefined, since the row has a default.
  const whole: number = first;
  assertEquals([whole, others], [7, {}]);
  assertEquals(checkAgainst<Two, typeof rows>({ second: true }, rows), { first: 7, second: true });
});
