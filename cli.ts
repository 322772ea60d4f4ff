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

const runtime = await currentRuntime();
runtime.exit(await main(runtime));
