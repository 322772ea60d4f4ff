/** Attaches an image, makes the device persistent, prints its path, and exits. */
import process from "node:process";
import { attach } from "../../mod.ts";

const loop = await attach(process.argv[2], { partscan: true });
await loop.persist();
console.log(loop.path);
