/**
 * What is loaded when mountImage() is first called.
 *
 * @module
 */

/** Finds what belongs together, and mounts it. */
export const loadTree = (): Promise<typeof import("./tree.ts")> => import("./tree.ts");

/** The check of what is asked for. */
export const loadOptions = (): Promise<typeof import("./options.ts")> => import("./options.ts");
