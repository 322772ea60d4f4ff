/**
 * What is loaded when something is first grown: most programs grow nothing.
 *
 * @module
 */

/** grow() and what it needs. */
export const loadGrow = (): Promise<typeof import("./grow.ts")> => import("./grow.ts");
