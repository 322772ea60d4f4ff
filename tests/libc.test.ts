/** The contract of lib/runtime/libc.ts, on whichever runtime runs this. */
import { assert, assertEquals } from "@std/assert";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Descriptor } from "../lib/runtime/contract.ts";
import { libc } from "../lib/runtime/libc.ts";
import { cString, memoryFile, O_RDWR, open, readAt, writeAt } from "../lib/kernel/file.ts";
import { withOwnDevices } from "./support/own_devices.ts";
import { MOD, onThisRuntime, output, ROOT, run, scratch, test } from "./support/support.ts";

test("errno survives garbage collections on other threads", [], () => {
  const missing = cString("/no/such/file");
  const none = -1 as Descriptor;
  const wrong = new Map<string, number>();
  const count = (call: string, errno: number) => {
    wrong.set(`${call} ${errno}`, (wrong.get(`${call} ${errno}`) ?? 0) + 1);
  };
  let garbage: unknown[] = [];
  for (let i = 0; i < 200_000; i++) {
    // Enough allocation for parallel collections all the time: their futexes leave EAGAIN in errno.
    garbage.push({ i, text: String(i) }, new Uint8Array(64));
    if (garbage.length > 20_000) garbage = [];
    const opened = libc().open(missing, 0, 0);
    if (opened !== -2) count("open", opened);
    const closed = libc().close(none);
    if (closed !== -9) count("close", closed);
    const controlled = libc().ioctl(none, 0x4c82, 0);
    if (controlled !== -9) count("ioctl", controlled);
  }
  assertEquals([...wrong], []);
});

test("each of libc's calls gives −errno", [], () => {
  const [missing, none, bytes] = [cString("/no/such/file"), -1 as Descriptor, new Uint8Array(4096)];
  const calls = libc();
  const [ENOENT, EBADF] = [-2, -9];
  assertEquals(calls.unlink(missing), ENOENT);
  assertEquals(calls.readlink(missing, bytes), ENOENT);
  assertEquals(calls.pread(none, bytes, 0), EBADF);
  assertEquals(calls.pwrite(none, bytes, 0), EBADF);
  assertEquals(calls.fcntl(none, 1, 0), EBADF);
  assertEquals(calls.ioctlBuffer(none, 0x1260, bytes), EBADF);
  const program = { args: ["x"], env: [], files: [], close: [], session: false } as const;
  assertEquals(calls.spawn({ ...program, path: "/no/such/file" }), ENOENT);
  assertEquals(calls.spawn({ ...program, path: "/bin/sh", files: [[1, none]] }), EBADF);
  const fsync = calls.machine === "x86_64" ? 74 : 82;
  assertEquals(calls.syscall(fsync, none), EBADF);
  const getdents64 = calls.machine === "x86_64" ? 217 : 61;
  assertEquals(calls.syscallBuffer(getdents64, none, bytes, bytes.length, 0), EBADF);
});

test("libc's ioctl() takes a negative number", ["root"], async () => {
  await withOwnDevices(async (number) => {
    using device = open(`/dev/loop${number}`, O_RDWR);
    // The backing file's descriptor. −1 is none: EBADF. As 0 it would be stdin, and as 2**32 − 1 or
    // more it may be cut to anything.
    const LOOP_SET_FD = 0x4c00;
    assertEquals(device.call((fd) => libc().ioctl(fd, LOOP_SET_FD, -1)), -9);
    await Promise.resolve();
  });
});

test("musl 1.2.3 and later have every function that is asked for", ["musl-gcc"], () => {
  const sources = ["bun", "deno", "node"].flatMap((name) => [name, `${name}_threads`])
    .map((name) => readFileSync(join(ROOT, `lib/runtime/${name}.ts`), "utf8"));
  const signatures = /(\w+): \{\s*(?:name: "(\w+)",\s*)?(?:args|parameters|arguments): \[/g;
  const names = sources.flatMap((source) =>
    [...source.matchAll(signatures)].map(([, name, symbol = name]) => symbol)
  );
  assert(["ioctl", "mmap", "_exit"].every((name) => names.includes(name)));
  const source = scratch("musl.c");
  writeFileSync(
    source,
    `#include <dlfcn.h>
     #include <stdio.h>
     int main(int count, char **names) {
       void *libc = dlopen("libc.so.6", RTLD_NOW);
       if (!libc) return puts(dlerror()), 1;
       for (int i = 1; i < count; i++) if (!dlsym(libc, names[i])) puts(names[i]);
       return 0;
     }`,
  );
  output(["musl-gcc", "-o", scratch("musl"), source]);
  assertEquals(output([scratch("musl"), ...new Set(names), "no_such"]), "no_such\n");
});

test("libc's calls take offsets beyond 4 GiB and give what was written", [], () => {
  using file = memoryFile("loopdev-test", 1);
  const far = 5 * 2 ** 30 + 3;
  writeAt(file, far, new TextEncoder().encode("far away"));
  assertEquals(new TextDecoder().decode(readAt(file, far, 100)), "far away");
  assertEquals(readAt(file, far + 8, 10).length, 0);
});

test("libc tells this process's environment, and that there is none any more", [], () => {
  const program = scratch("environment.ts");
  writeFileSync(
    program,
    `import { libc } from ${JSON.stringify(join(ROOT, "lib/runtime/libc.ts"))};
     const seen = libc().environment().includes("LOOPDEV_TEST=seen é");
     if ("Deno" in globalThis) {
       Deno.dlopen("libc.so.6", { clearenv: { parameters: [], result: "i32" } }).symbols.clearenv();
     } else for (const name of Object.keys(process.env)) delete process.env[name];
     console.log(seen, libc().environment());`,
  );
  const { stdout } = run(["env", "LOOPDEV_TEST=seen é", ...onThisRuntime(program)]);
  assertEquals(stdout, "true []\n");
});

test("a program that libc starts keeps the standard descriptors", [], () => {
  const program = scratch("spawn.ts");
  writeFileSync(
    program,
    `import { libc } from ${JSON.stringify(join(ROOT, "lib/runtime/libc.ts"))};
     const args = ["sh", "-c", "echo out; echo err >&2"];
     const pid = libc().spawn({ path: "/bin/sh", args, env: [], files: [], close: [] });
     const wait4 = libc().machine === "x86_64" ? 61 : 260;
     await libc().chain([{ number: wait4, args: [pid, 0, 0, 0] }]);`,
  );
  const { stdout, stderr } = run(onThisRuntime(program));
  assertEquals([stdout, stderr], ["out\n", "err\n"]);
});

test(
  "on another system or processor the first call says so, and importing says nothing",
  [],
  () => {
    // There is no such machine here: the runtime's own answer is a made-up one.
    const program = scratch("machine.ts");
    writeFileSync(
      program,
      `const [platform, arch] = ["darwin", "ppc64"];
     const build = { ...globalThis.Deno?.build, os: platform, arch };
     if ("Deno" in globalThis) Object.defineProperty(Deno, "build", { value: build });
     else Object.defineProperties(process, { platform: { value: platform }, arch: { value: arch } });
     const { readPartitions } = await import(${JSON.stringify(MOD)});
     console.log(await readPartitions("/dev/null").catch(String));`,
    );
    const { stdout, stderr } = run(onThisRuntime(program));
    assertEquals([stdout, stderr], [
      "TypeError: loopdev makes system calls of Linux on x86-64 and aarch64, and this is " +
      "darwin on ppc64: run it in a virtual machine of that kind\n",
      "",
    ]);
  },
);
