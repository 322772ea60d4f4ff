/**
 * Stands for lib/image/late.ts in dist/loopdev.js, as dev/at_once.ts for lib/mount/late.ts.
 *
 * @module
 */
import type * as late from "../lib/image/late.ts";
import * as options from "../lib/image/options.ts";
import * as tree from "../lib/image/tree.ts";

export const loadTree: typeof late.loadTree = () => Promise.resolve(tree);
export const loadOptions: typeof late.loadOptions = () => Promise.resolve(options);
