/**
 * Stands for lib/mount/late.ts in dist/loopdev.js: one file has nothing to load late, and Bun wraps each
 * module that a late one shares into a function, which costs a start more than the modules themselves.
 *
 * @module
 */
import * as fileSystem from "../lib/mount/file_system.ts";
import type * as late from "../lib/mount/late.ts";
import * as mount from "../lib/mount/mount.ts";
import * as select from "../lib/mount/select.ts";

export const loadMount: typeof late.loadMount = () => Promise.resolve(mount);
export const loadFileSystem: typeof late.loadFileSystem = () => Promise.resolve(fileSystem);
export const loadSelect: typeof late.loadSelect = () => Promise.resolve(select);
