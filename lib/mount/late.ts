/**
 * What is loaded when it is first wanted: it takes a fifth of the time in which the library is loaded, and
 * most programs need none of it.
 *
 * @module
 */

/** mount() and what it needs. */
export const loadMount = (): Promise<typeof import("./mount.ts")> => import("./mount.ts");

/** What a device or an image holds. */
export const loadFileSystem = (): Promise<typeof import("./file_system.ts")> =>
  import("./file_system.ts");

/** Finds the partition that a selector means. */
export const loadSelect = (): Promise<typeof import("./select.ts")> => import("./select.ts");
