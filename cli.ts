#!/usr/bin/env bun
/**
 * losetup(8), drop-in, with the races taken out.
 *
 *     bun cli.ts --find --show --partscan disk.img
 *     deno run --allow-ffi cli.ts -fP --show disk.img
 *
 * @module
 */
import { main } from "./cli/main.ts";
import { currentRuntime } from "./cli/runtime.ts";
import { waitHere } from "./lib/libc.ts";

// Nothing else is going on: a thread would only take time to start.
waitHere();
const runtime = await currentRuntime();
runtime.exit(await main(runtime));
