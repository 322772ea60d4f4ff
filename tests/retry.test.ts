/** What waits for several at once, or until a signal: base/retry.ts. */
import { assertEquals, assertRejects } from "@std/assert";
import { allEnded, endLate, heeding, poll, Shared, unlessAborted } from "../lib/base/retry.ts";
import { test } from "./support/support.ts";

test("Shared gives those who ask meanwhile the first one's answer", [], async () => {
  const shared = new Shared<number>();
  let asked = 0;
  const ask = () => shared.ask("x", () => Promise.resolve(++asked));
  assertEquals(await Promise.all([ask(), ask()]), [1, 1]);
  assertEquals(await ask(), 2);
});

test("allEnded() rejects as the one that did, and names each of several", [], async () => {
  const one = () => Promise.reject(new TypeError("one"));
  assertEquals(await allEnded([Promise.resolve(1), Promise.resolve(2)]), [1, 2]);
  await assertRejects(() => allEnded([Promise.resolve(1), one()]), TypeError, "one");
  await assertRejects(() => allEnded([one(), Promise.reject("two")]), AggregateError, "one; two");
});

test("poll() waits no longer once its signal has aborted, by the question too", [], async () => {
  const stop = new AbortController();
  const ask = () => stop.abort(new TypeError("enough"));
  await assertRejects(() => poll(ask, 100_000, stop.signal), TypeError, "enough");
});

test("unlessAborted() hides no error but that of its signal", [], async () => {
  const failed = () => Promise.reject(new TypeError("one"));
  await assertRejects(() => unlessAborted(failed(), new AbortController().signal), TypeError);
  assertEquals(await unlessAborted(failed(), AbortSignal.abort()), undefined);
});

test(
  "heeding() takes what came before the abort was undone, and undoes what comes later",
  [],
  async () => {
    const aborted = AbortSignal.abort(new TypeError("enough"));
    assertEquals(await heeding(Promise.resolve(1), aborted), 1);
    const { promise, resolve } = Promise.withResolvers<number>();
    const undone = Promise.withResolvers<number>();
    await assertRejects(() => heeding(promise, aborted, undone.resolve), TypeError, "enough");
    resolve(2);
    assertEquals(await undone.promise, 2);
    const failing = Promise.withResolvers<number>();
    const failed = Promise.withResolvers<void>();
    await assertRejects(
      () =>
        heeding(failing.promise, aborted, () => {
          failed.resolve();
          throw new TypeError("nobody hears it");
        }),
      TypeError,
      "enough",
    );
    failing.resolve(3);
    await failed.promise;
    const late = Promise.withResolvers<AsyncDisposableStack>();
    const ended = Promise.withResolvers<void>();
    await assertRejects(() => heeding(late.promise, aborted, endLate), TypeError, "enough");
    const stack = new AsyncDisposableStack();
    stack.defer(ended.resolve);
    late.resolve(stack);
    await ended.promise;
  },
);
