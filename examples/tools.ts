/** Debian's tools, as functions: what they say on stderr is the error, and a signal stops them. */
import { type ChildProcess, spawn } from "node:child_process";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";

interface ToolOptions {
  readonly stop: AbortSignal;
  /** For its stdin. */
  readonly input?: string;
}

/** Runs one to its end; gives what it wrote to stdout. */
export async function tool(command: string[], { stop, input }: ToolOptions): Promise<string> {
  const child = start(command, "pipe", stop);
  let written = "";
  child.stdout!.on("data", (data) => written += data);
  child.stdin!.on("error", () => {}); // it ended without reading: its exit code says why
  child.stdin!.end(input ?? "");
  await endOf(command, child, stop);
  return written;
}

function start([name, ...args]: string[], stdin: "pipe" | "ignore", stop: AbortSignal) {
  stop.throwIfAborted();
  return spawn(name, args, { stdio: [stdin, "pipe", "pipe"] });
}

/** Rejects if it fails; with the signal's name if one ended it that was meant for us, too. */
function endOf([name]: string[], child: ChildProcess, stop: AbortSignal): Promise<void> {
  let said = "";
  child.stderr!.on("data", (data) => said += data);
  const kill = () => child.kill("SIGTERM");
  stop.addEventListener("abort", kill);
  return new Promise<void>((resolve, reject) => {
    child.on("error", (error) => reject(new Error(`cannot run '${name}': ${error.message}`)));
    child.on("close", (code, signal) => {
      const words = said.trim().replaceAll("\n", "; ") || "no word";
      if (stop.aborted) reject(stop.reason);
      else if (code === 0) resolve();
      // A terminal's Ctrl-C goes to all, and may reach us later.
      else if (signal === "SIGINT" || signal === "SIGTERM") reject(signal);
      else reject(new Error(`${name} ended with ${signal ?? code}: ${words}`));
    });
  }).finally(() => stop.removeEventListener("abort", kill));
}

/** Bytes of all files below a folder, about. */
export async function sizeOfTree(folder: string, stop: AbortSignal): Promise<number> {
  return Number.parseInt(await tool(["du", "-s", "-B1", "--apparent-size", folder], { stop }));
}

const AS_THEY_ARE = ["--xattrs", "--acls", "--numeric-owner"];

/** Copies all that is in a folder, with owners and attributes; says how many bytes it is at. */
export async function copyTree(
  from: string,
  to: string,
  stop: AbortSignal,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const pack = ["tar", ...AS_THEY_ARE, "-C", from, "-cf", "-", "."];
  const unpack = ["tar", ...AS_THEY_ARE, "--xattrs-include=*", "-C", to, "-xpf", "-"];
  const source = start(pack, "ignore", stop);
  const target = start(unpack, "pipe", stop);
  let bytes = 0;
  const count = new Transform({
    transform(chunk, _, done) {
      onBytes(bytes += chunk.length);
      done(undefined, chunk);
    },
  });
  const ends = [endOf(pack, source, stop), endOf(unpack, target, stop)];
  // The one that unpacks may end before it has read all; if the flow breaks, it says what is missing.
  pipeline(source.stdout!, count, target.stdin!).catch(() => {});
  const results = await Promise.allSettled(ends);
  for (const result of results) if (result.status === "rejected") throw result.reason;
}
