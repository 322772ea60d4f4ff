#!/usr/bin/env sh
// 2>/dev/null; unset BUN_OPTIONS BUN_INSPECT BUN_INSPECT_PRELOAD NODE_OPTIONS NODE_COMPILE_CACHE; export BUN_RUNTIME_TRANSPILER_CACHE_PATH=0 NODE_NO_WARNINGS=1; if command -v bun >/dev/null; then [ -e /proc/self ] || { echo "loopdev: Bun needs a mounted /proc: mount -t proc proc /proc" >&2; exit 1; }; exec bun --config=/dev/null --no-env-file --tsconfig-override=/dev/null --no-install "$0" "$@"; fi; command -v node >/dev/null || { echo "loopdev: neither bun nor node is in PATH" >&2; exit 127; }; exec node "$0" "$@"
/**
 * losetup(8), drop-in, with the races taken out, and verbs for whole images.
 *
 *     ./cli.ts --find --show --partscan disk.img
 *     deno run --allow-ffi cli.ts ls disk.img
 *
 * The second line, a comment here and a command to sh, takes Bun if there is one, and otherwise Node.
 * Bun runs what bunfig.toml and tsconfig.json of the working directory name, and root may stand in
 * anybody's directory. It also runs compiled modules that lie below HOME, which may be anybody's, too.
 * The second line shuts all of that, and says so where Bun could only crash.
 *
 * @module
 */
import { main } from "./cli/main.ts";
import { currentRuntime } from "./cli/runtime.ts";

const runtime = currentRuntime();
runtime.exit(await main(runtime, () => import("./cli/verbs/face.ts")));
