/**
 * Makes GUID partition tables, so that an image needs no sfdisk. Pure: writing is left to the caller,
 * who needs neither Linux nor a permission for this.
 *
 * @module
 */
export { encodeGpt } from "./lib/table/gpt_writer.ts";
export type { NewPartition, Piece } from "./lib/table/gpt_writer.ts";
