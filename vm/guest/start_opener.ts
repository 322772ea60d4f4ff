/** Starts the hostile opener as a process of its own, so that it has a processor of its own. */
import { spawn } from "node:child_process";
import process from "node:process";
import type { OpenerKind } from "../../tools/race_check/opener.ts";

/** Resolves when the opener is warm; it lives until it is disposed of. */
export async function startOpener(disk: string, kind: OpenerKind): Promise<AsyncDisposable> {
  const opener = spawn(process.execPath, [
    ...(("Deno" in globalThis) ? ["run", "-A", "--no-check", "--no-config", "--no-lock"] : []),
    new URL("../../tools/race_check/opener.ts", import.meta.url).pathname,
    disk,
    kind,
  ], { stdio: ["ignore", "pipe", "inherit"] });
  const exited = new Promise<void>((resolve) => opener.once("exit", () => resolve()));
  await new Promise<void>((resolve, reject) => {
    opener.stdout.once("data", () => resolve());
    opener.once("error", reject);
    exited.then(() => reject(new Error("the hostile opener did not start")));
  });
  return {
    async [Symbol.asyncDispose]() {
      opener.kill("SIGKILL");
      await exited;
    },
  };
}
