/**
 * A process that mounts: `mounter.ts IMAGE WHAT [OPTIONS OF mount()]`. Prints a line of JSON when it has, and ends with its
 * stdin, or as the test wishes.
 */
import { closeSync, fsyncSync, openSync, writeFileSync } from "node:fs";
import process from "node:process";
import { attach, type LoopError } from "../../mod.ts";

const [image, what, options = "{}"] = process.argv.slice(2);
const loop = await attach(image, { partscan: what === "partition" });
const mount = await loop.mount(what === "partition" ? 1 : undefined, JSON.parse(options));
const say = (more: object = {}) =>
  console.log(JSON.stringify({ loop: loop.path, device: mount.device, path: mount.path, ...more }));

const sync = (path: string) => {
  const fd = openSync(path, "r+");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
};

switch (what) {
  case "fill": {
    // More than the file below the image can hold: the page cache takes it all the same.
    const errors: string[] = [];
    try {
      writeFileSync(`${mount.path}/big`, new Uint8Array(5 * 1024 * 1024));
      sync(`${mount.path}/big`);
    } catch (error) {
      errors.push((error as { code: string }).code);
    }
    const tell = ({ code, syscall, message }: LoopError) => ({ code, syscall, message });
    const unmounted = await mount.unmount().catch(tell);
    const again = await mount.unmount().catch(tell);
    say({ errors, unmounted, again, detached: await loop.detach() });
    break;
  }
  case "frozen":
    await mount.freeze();
    say();
    for await (const _ of process.stdin);
    break;
  case "stuck":
    await mount.freeze({ timeout: 1000 });
    say();
    // This thread waits in the kernel for a thaw() that only it could call.
    writeFileSync(`${mount.path}/written`, "by mounter\n");
    say();
    break;
  default:
    writeFileSync(`${mount.path}/written`, "by mounter\n");
    sync(`${mount.path}/written`);
    say();
    for await (const _ of process.stdin);
}
