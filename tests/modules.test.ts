/** What the source tree promises: who imports whom, and from where it can be imported. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { spawn } from "node:child_process";
import { losetup, makeImage, MOD, ROOT, run, scratch, test, THREE_PARTITIONS } from "./support.ts";

const LIB = join(ROOT, "lib");
const source = (file: string) => readFileSync(join(ROOT, file), "utf8");
const code = (file: string) => source(file).replaceAll(/\/\*[^]*?\*\/|\/\/.*/g, "");
const library = () => ["mod.ts", ...readdirSync(LIB).map((name) => `lib/${name}`)];
const imports = (file: string) =>
  [...code(file).matchAll(/(?:from|import\() ?"([^"]+)"/g)].map(([, specifier]) => specifier);

/** From the ground up: a file imports only from floors below its own. */
const FLOORS = [
  ["struct.ts", "names.ts", "errors.ts", "kernel.ts", "checks.ts", "gpt_types.ts", "mbr_types.ts"],
  ["libc_bun_threads.ts", "libc_deno_threads.ts", "retry.ts"],
  ["libc_bun.ts", "libc_deno.ts"],
  ["libc.ts", "gpt.ts", "mbr.ts"],
  ["system.ts", "partition_table.ts"],
  ["file.ts", "turns.ts"],
  ["waiting.ts", "stat.ts", "mountinfo.ts", "gpt_writer.ts", "sector_size.ts"],
  ["loop.ts", "blkpg.ts", "sysfs.ts"],
  ["image_table.ts", "backing_file.ts", "facts.ts", "udev_reread.ts", "nodes.ts", "holders.ts"],
  ["status.ts", "options.ts"],
  ["partitions.ts", "scratch_device.ts", "look_ahead.ts", "read_partitions.ts"],
  ["bind.ts"],
  ["partscan_race.ts", "detached.ts"],
  ["loop_device.ts"],
  ["open_loop.ts"],
  ["attach.ts", "report.ts"],
  ["attach_all.ts"],
];

test("imports point down", [], () => {
  const floorOf = (name: string) => FLOORS.findIndex((floor) => floor.includes(name));
  assertEquals(FLOORS.flat().toSorted(), readdirSync(LIB).toSorted(), "every file has its floor");
  for (const name of FLOORS.flat()) {
    // `import type` disappears: a contract may be named from below.
    const text = source(`lib/${name}`).replaceAll(/^import type .*$/gm, "");
    for (const [, imported] of text.matchAll(/(?:from|import\() ?"\.\/([^"]+)"/g)) {
      assert(floorOf(imported) < floorOf(name), `lib/${name} imports ${imported}`);
    }
  }
});

test("the library depends on nothing but itself and the runtime's FFI", [], () => {
  for (const file of library()) {
    const foreign = imports(file).filter((specifier) => !specifier.startsWith("./"));
    assertEquals(foreign, /libc_bun/.test(file) ? ["bun:ffi"] : [], file);
    // In Deno the first touch of `process` costs 16 to 20 ms.
    if (file === "lib/libc_bun.ts") continue;
    assert(!/\bprocess\.|\bBuffer\b|\brequire\(/.test(code(file)), `${file} touches process`);
  }
});

test(
  "the command line tool depends on nothing either",
  [],
  () => {
    const files = ["cli.ts", ...readdirSync(join(ROOT, "cli")).map((name) => `cli/${name}`)];
    for (const file of files) {
      const foreign = imports(file).filter((specifier) => !/^\.\.?\//.test(specifier));
      assertEquals(foreign, [], file);
      assert(source(file).split("\n").length <= 300, file);
    }
  },
);

test("only the adapters name a runtime", [], () => {
  for (const file of library().filter((file) => !/^lib\/libc/.test(file))) {
    assert(!/\bDeno\.|\bBun\./.test(code(file)), `${file} names a runtime`);
  }
});

test("no file has more than 300 lines", [], () => {
  for (const file of library()) assert(source(file).split("\n").length <= 300, file);
});

test("mod.ts can be imported from a URL on Deno, with --allow-ffi and nothing else", [
  "root",
  "deno",
], async () => {
  const file = makeImage("url.img", 8, THREE_PARTITIONS);
  const served: string[] = [];
  const server = createServer((request, response) => {
    const path = new URL(request.url!, "http://localhost").pathname;
    served.push(path);
    if (path === "/main.ts") {
      response.setHeader("content-type", "text/typescript");
      return response.end(
        `import { attach } from "./mod.ts";
         await using loop = await attach(${JSON.stringify(file)}, { partscan: true });
         console.log(loop.partitions.map(({ name }) => name).join());`,
      );
    }
    const known = /^\/(mod\.ts|lib\/\w+\.ts)$/.test(path);
    response.writeHead(known ? 200 : 404, { "content-type": "text/typescript" });
    response.end(known ? source(path.slice(1)) : "");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    const args = ["run", "--no-prompt", "--no-lock", "--no-config", "--reload", "--allow-ffi"];
    const child = spawn("deno", [...args, `--allow-import=${host}`, `http://${host}/main.ts`]);
    let stdout = "", stderr = "";
    child.stdout.on("data", (data) => stdout += data);
    child.stderr.on("data", (data) => stderr += data);
    const status = await new Promise((resolve) => child.on("close", resolve));
    assertEquals([status, stdout], [0, "one,zwei ü,three\n"], stderr);
  } finally {
    server.close();
  }
  assert(served.includes("/mod.ts") && served.includes("/lib/libc_deno.ts"));
  assertEquals(losetup(file), []);
});

test("mod.ts can be imported without any permission; using it says what is missing", [
  "deno",
], () => {
  const script = scratch("denied.ts");
  writeFileSync(
    script,
    `import { attach, isAffected } from ${JSON.stringify(MOD)};
     console.log(isAffected("6.1.0"), await attach("x.img").catch(({ message }) => message));`,
  );
  const { stdout } = run(["deno", "run", "--no-lock", "--no-prompt", script]);
  assertStringIncludes(stdout, "true ");
  assertStringIncludes(stdout, "--allow-ffi");
});
