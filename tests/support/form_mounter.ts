/**
 * A process that mounts: `form_mounter.ts IMAGE FORM AT END`. Prints a line of JSON, and ends as END
 * says when a line comes; "again" makes it mount once more.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import process from "node:process";
import { attach } from "../../mod.ts";

const [image, form, at, end] = process.argv.slice(2);
const loop = await attach(image);
const own = await loop.mount();
const owner = dirname(own.path);
const root = form === "at" ? (await own.unmount(), await loop.mount(undefined, { at })) : own;
writeFileSync(`${root.path}/written`, "x");
mkdirSync(`${root.path}/folder`, { recursive: true });
console.log(JSON.stringify({ loop: loop.path, path: root.path, owner }));
for await (const data of process.stdin) {
  if (String(data).includes("again")) {
    await loop.mount();
    continue;
  }
  if (end === "exit") process.exit(3);
  if (end === "throw") throw new Error("as the test wishes");
  break;
}
