/** A one-off script: what importing loopdev and attaching once add to an empty one. */
type BunGlobals = typeof globalThis & { Bun: { argv: string[] } };
const args = "Deno" in globalThis ? Deno.args : (globalThis as BunGlobals).Bun.argv.slice(2);
if (args.length > 0) {
  const { attach } = await import("../mod.ts");
  await attach(args[0], { partscan: true, workaround: "never" });
}
export {};
