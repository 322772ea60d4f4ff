/** What the source tree promises: who imports whom, and from where it can be imported. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { dirname, join } from "node:path";
import { spawn } from "node:child_process";
import process from "node:process";
import { SYS } from "../lib/kernel/syscalls.ts";
import { code, filesImported, filesIn, imports, source } from "./support/imports.ts";
import {
  assertDetached,
  makeImage,
  MOD,
  onRuntime,
  run,
  RUNTIME,
  scratch,
  test,
  THREE_PARTITIONS,
  until,
} from "./support/support.ts";

const library = () => ["mod.ts", "gpt.ts", ...filesIn("lib")];
const BELOW_LIB: Record<string, readonly string[]> = {
  "lib/base": [],
  "lib/runtime": ["lib/base"],
  "lib/table": ["lib/base"],
  "lib/superblocks": ["lib/base", "lib/table"],
  "lib/kernel": ["lib/base", "lib/runtime"],
  "lib/holders": ["lib/base", "lib/runtime", "lib/kernel"],
  "lib/udev": ["lib/base", "lib/runtime", "lib/kernel", "lib/holders"],
  "lib/binding": ["base", "runtime", "table", "kernel", "holders", "udev"].map((x) => `lib/${x}`),
  "lib/mount": ["base", "table", "superblocks", "kernel", "holders", "binding"]
    .map((x) => `lib/${x}`),
  "lib/grow": [
    ...["base", "table", "superblocks", "kernel", "udev", "binding", "mount"].map((x) =>
      `lib/${x}`
    ),
  ],
};
const LIB = [...Object.keys(BELOW_LIB), "lib"];
const SUPPORT = [
  ...LIB,
  "lib/image",
  "mod.ts",
  "gpt.ts",
  "cli",
  "cli/verbs",
  "dev",
  "tools/race_check",
  "tests/cases",
];

/**
 * The folders are the floors: from which of them a file may import, beside its own. Each names only those
 * before it, so that no import can lead back. A file in the root is a floor of its own.
 */
const FLOORS: Record<string, readonly string[]> = {
  "deno.json": [],
  "package.json": [],
  ...BELOW_LIB,
  "lib": Object.keys(BELOW_LIB),
  // The whole image stands on attach() and the device's handle.
  "lib/image": LIB,
  "mod.ts": [...LIB, "lib/image"],
  "gpt.ts": ["lib/table"],
  // For losetup(8) alone.
  "lib/losetup": LIB,
  "cli": ["deno.json", "mod.ts", "lib/losetup"],
  "cli/verbs": ["mod.ts", "lib/losetup", "cli"],
  "cli.ts": ["cli", "cli/verbs"],
  // What users can use.
  "examples": ["mod.ts", "gpt.ts"],
  "dev": ["deno.json", "package.json", "cli", "examples", "lib/image", ...LIB],
  "tools/race_check": ["mod.ts", "examples", "dev", ...LIB],
  // Data, and what writes it: nothing here runs anything.
  "tests/cases": LIB,
  "tests/support": SUPPORT,
  "tests/strangers": ["tests/support", ...SUPPORT],
  "compat": ["deno.json", "dev", "tests/support"],
  "tests": ["package.json", "examples", "tests/support", "tests/strangers", "compat", ...SUPPORT],
  "bench": ["examples", "tests/support", ...SUPPORT],
  "torture": ["tests/support", ...SUPPORT],
  "vm/guest": ["tests/support", "tests/strangers", "bench", ...SUPPORT],
  "vm": ["tests/support", "tests/strangers", "compat", ...SUPPORT],
};

test("a file imports from its own folder and from floors below, types too", [], () => {
  const places = Object.keys(FLOORS);
  const above = places.flatMap((place, n) =>
    FLOORS[place].filter((below) => !places.slice(0, n).includes(below))
  );
  assertEquals(above, [], "named before it is a floor");
  const placeOf = (file: string) => dirname(file) === "." ? file : dirname(file);
  for (const file of filesIn(".")) {
    const own = placeOf(file);
    assert(own in FLOORS, `${own} is no floor`);
    for (const imported of filesImported(file)) {
      const place = placeOf(imported);
      assert(place === own || FLOORS[own].includes(place), `${file} imports ${imported}`);
    }
  }
});

test("cli.ts --list loads nothing of what attaches, detaches or changes", [], () => {
  const loaded = new Set<string>();
  const load = (file: string) => {
    if (loaded.has(file) || !file.endsWith(".ts")) return;
    loaded.add(file);
    for (
      const [, specifier] of code(file).matchAll(/^(?:import|export)\b(?! type)[^;]*?"(\.[^"]+)"/gm)
    ) {
      load(join(dirname(file), specifier));
    }
  };
  load("cli.ts");
  assert(loaded.has("lib/losetup/list.ts"));
  const late = [
    "cli/verbs/face.ts",
    "cli/setup.ts",
    "cli/detach.ts",
    "cli/change.ts",
    "mod.ts",
    "lib/losetup/attach.ts",
  ];
  assertEquals([...late, "lib/losetup/change.ts"].filter((file) => loaded.has(file)), []);
  assert(loaded.size <= 32, `${loaded.size} modules: ${[...loaded].sort()}`);
});

test("no import leads back to its own file, in the whole tree", [], () => {
  const done = new Set<string>();
  const visit = (file: string, path: readonly string[]) => {
    assert(!path.includes(file), [...path, file].join(" → "));
    if (done.has(file)) return;
    for (const imported of filesImported(file)) visit(imported, [...path, file]);
    done.add(file);
  };
  for (const file of filesIn(".")) visit(file, []);
  assert(done.size > 300);
});

test(
  "only late.ts loads late, for which dist/ has another module, and what picks the runtime",
  [],
  () => {
    const late = library().filter((file) => /(?<!typeof )\bimport\(/.test(code(file)));
    const loading = late.filter((file) => !file.startsWith("lib/runtime/"));
    assertEquals(loading.sort(), ["lib/grow/late.ts", "lib/image/late.ts", "lib/mount/late.ts"]);
  },
);

test("the library depends on nothing but itself and the runtime's FFI", [], () => {
  for (const file of library()) {
    const foreign = imports(file).filter((specifier) => !/^\.\.?\//.test(specifier));
    const [, runtime] = /^lib\/runtime\/(bun|node)(?:_threads)?\.ts$/.exec(file) ?? [];
    assertEquals(foreign, runtime === undefined ? [] : [`${runtime}:ffi`], file);
    // In Deno the first touch of `process` costs 16 to 20 ms.
    if (["bun", "node", "node_threads"].some((name) => file === `lib/runtime/${name}.ts`)) continue;
    assert(!/\bprocess\.|\bBuffer\b|\brequire\(/.test(code(file)), `${file} touches process`);
  }
});

test(
  "the command line tool depends on nothing either",
  [],
  () => {
    const files = ["cli.ts", ...filesIn("cli")];
    for (const file of files) {
      const foreign = imports(file).filter((specifier) => !/^\.\.?\//.test(specifier));
      assertEquals(foreign, [], file);
    }
  },
);

test("only the adapters name a runtime", [], () => {
  for (const file of library().filter((file) => !/^lib\/runtime\//.test(file))) {
    // A symbol's name is no use of the runtime.
    assert(!/\bDeno\.(?!customInspect")|\bBun\./.test(code(file)), `${file} names a runtime`);
  }
});

/** Functions and methods with their lines, as `deno fmt` lays them out: the end is indented as the beginning. */
function functionsOf(file: string): { name: string; lines: number }[] {
  const lines = source(file).split("\n");
  return lines.flatMap((line, begin) => {
    const [, outer, called, inner, method] = FUNCTION.exec(line) ?? [];
    const [indent, name] = [outer ?? inner, called ?? method];
    if (name === undefined) return [];
    const end = lines.findIndex((line, i) => i > begin && line.startsWith(`${indent}}`));
    return [{ name: `${file}: ${name}`, lines: end - begin + 1 }];
  });
}

const FUNCTION =
  /^( *)(?:export )?(?:async )?function\*? (\w+)|^( {2})(?:static )?(?:async )?\*?(?!if|for|while|switch|catch)([#\w]+)\((?!.*=>).*[({]$/;

test("no function has more than 60 lines", [], () => {
  const all = library().flatMap(functionsOf);
  assert(all.length > 300, `only ${all.length} functions are seen`);
  // The adapters are one literal, the contract's.
  const long = all.filter(({ name, lines }) => lines > 60 && !name.startsWith("lib/runtime/"));
  assertEquals(long, []);
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
    const known = /^\/(mod\.ts|lib\/(\w+\/)?\w+\.ts)$/.test(path);
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
  assert(served.includes("/mod.ts") && served.includes("/lib/runtime/deno.ts"));
  assertDetached(file);
});

test(
  "on Node without node:ffi, or without its permission, one line says what to do",
  ["node"],
  () => {
    const script = scratch("refused.ts");
    const file = makeImage("refused.img", 8, THREE_PARTITIONS);
    writeFileSync(
      script,
      `import { readPartitions } from ${JSON.stringify(MOD)};
     const { partitions } = await readPartitions(${JSON.stringify(file)});
     console.log(partitions.map(({ name }) => name).join());`,
    );
    const [node, ...quiet] = onRuntime("node", script);
    const cases = [
      ["--no-experimental-ffi", "--experimental-ffi"],
      // Without the inspector Node tells no coverage.
      ["--permission --allow-fs-read=* --allow-inspector", "--allow-ffi"],
    ];
    for (const [options, remedy] of cases) {
      const on = (...more: string[]) => run([node, ...options.split(" "), ...more, ...quiet]);
      const refused = on();
      const says = /^\w*Error: loopdev calls libc .*/m.exec(refused.stderr)?.[0] ?? refused.stderr;
      assertStringIncludes(says, `add ${remedy}`);
      assertEquals([refused.status, refused.stdout], [1, ""]);
      assertEquals(on(remedy).stdout, "one,zwei ü,three\n", `${options}, and then ${remedy}`);
    }
  },
);

test("on a runtime that is no Node and has no node:ffi, one line says what to do", ["node"], () => {
  const script = scratch("other.ts");
  // There is no such runtime here: Node's own name is hidden.
  writeFileSync(
    script,
    `const { process } = globalThis;
     delete globalThis.process;
     const said = await import(${JSON.stringify(MOD)}).catch(String);
     Object.assign(globalThis, { process });
     console.log(said);`,
  );
  const [node, ...quiet] = onRuntime("node", script);
  const { stdout } = run([node, "--no-experimental-ffi", ...quiet]);
  const says = "TypeError: loopdev calls libc through an FFI, which this runtime does not have: " +
    "run it with Node.js 26.10, with `bun` or with `deno run --allow-ffi`\n";
  assertEquals(stdout, says);
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
  // A library's name is no way: Deno would load a stranger's libc.so.6 from the working directory.
  writeFileSync(scratch("libc.so.6"), "not a library");
  for (const permission of [[], ["--allow-ffi=libc.so.6"], ["--allow-ffi=/usr/lib"]]) {
    const command = ["deno", "run", "--no-lock", "--no-prompt", ...permission, script];
    const { stdout } = run(command, { cwd: dirname(script) });
    assertStringIncludes(stdout, "true loopdev calls libc, which needs --allow-ffi without a lib");
  }
});

test("at a terminal Deno asks the person for the permission, and goes on with it", [
  "root",
  "script",
], async () => {
  if (RUNTIME !== "deno") return;
  const script = scratch("asked.ts");
  writeFileSync(
    script,
    `import { readPartitions } from ${JSON.stringify(MOD)};
     console.log(await readPartitions("/dev/null").catch(({ code }) => code));`,
  );
  const deno = `echo pid $$; exec ${process.execPath} run --no-lock --quiet ${script}`;
  const child = spawn("script", ["-qfec", deno, "/dev/null"]);
  let shown = "";
  child.stdout.on("data", (data) => shown += data);
  // Deno throws away what was typed before it reads.
  const reads = `${SYS("read")} 0x0 `;
  await until(() => {
    const pid = /^pid (\d+)/.exec(shown)?.[1];
    return shown.includes("> ") && readFileSync(`/proc/${pid}/syscall`, "utf8").startsWith(reads);
  }, "Deno to ask");
  child.stdin.end("y\n");
  await new Promise((resolve) => child.on("close", resolve));
  assertMatch(shown, /requests .*ffi access/);
  assertMatch(shown, /EINVAL\s*$/);
});
