/**
 * What is loaded when it is first wanted: it takes a fifth of the time in which the library is loaded, and
 * most programs need none of it.
 *
 * @module
 */

/** mount() and what it needs. */
export const loadMount = (): Promise<typeof import("./mount.ts")> => import("./mount.ts");

/** What is on a device. */
export const loadFileSystem = (): Promise<typeof import("./file_system.ts")> =>
  import("./file_system.ts");

/** What is in an image. */
export const loadSuperblocks = (): Promise<typeof import("../superblocks/file_systems.ts")> =>
  import("../superblocks/file_systems.ts");
