/**
 * Stands for lib/grow/late.ts in dist/loopdev.js, as dev/at_once.ts for lib/mount/late.ts.
 *
 * @module
 */
import * as grow from "../lib/grow/grow.ts";
import type * as late from "../lib/grow/late.ts";

export const loadGrow: typeof late.loadGrow = () => Promise.resolve(grow);
