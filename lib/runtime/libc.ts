/**
 * Picks the runtime's adapter.
 *
 * @module
 */
import type { Libc } from "./contract.ts";
import { makeSteps } from "./steps.ts";

/** Literal imports, which bundlers and Deno see in advance; one of them is evaluated. */
const adapter: { load(): Libc } = "Deno" in globalThis
  ? await import("./deno.ts")
  : "Bun" in globalThis
  ? await import("./bun.ts")
  : await import("./node.ts");

let loaded: Libc | undefined;
let threadless = false;

/** From now on this thread makes every call: for a program that does nothing else while it waits. */
export function waitHere(): void {
  threadless = true;
}

/** The runtime's libc. The first call opens it: importing loopdev needs no permission. */
export function libc(): Libc {
  if (!loaded) {
    refuseOtherMachines();
    const calls = loaded = adapter.load();
    if (threadless) {
      const chain: Libc["chain"] = async (steps, signal) => {
        signal?.throwIfAborted();
        return await makeSteps(steps, calls.syscall);
      };
      loaded = { ...calls, chain, threaded: true, startThread() {} };
    }
  }
  return loaded;
}

/** As Deno calls them, and as the others do. */
const MACHINES = ["x86_64", "aarch64", "x64", "arm64"];

function refuseOtherMachines(): void {
  const { platform, arch } = "Deno" in globalThis
    ? { platform: Deno.build.os, arch: Deno.build.arch }
    : globalThis.process;
  if (platform === "linux" && MACHINES.includes(arch)) return;
  throw new TypeError(
    "loopdev makes system calls of Linux on x86-64 and aarch64, and this is " +
      `${platform} on ${arch}: run it in a virtual machine of that kind`,
  );
}
