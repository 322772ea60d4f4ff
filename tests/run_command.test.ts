/** What run() looks at before it executes a command: files made by hand, in a folder that stands for an image. */
import { assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { chmodSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { LoopError, type RunOptions } from "../mod.ts";
import { O_RDONLY, open } from "../lib/kernel/file.ts";
import { machine } from "../lib/kernel/syscalls.ts";
import { checkRun } from "../lib/mount/run_options.ts";
import { checkCommand } from "../lib/mount/run_command.ts";
import { onThisRuntime, output, ROOT, scratch, test } from "./support/support.ts";

interface Elf {
  machine?: number;
  /** Of 32 bits. */
  small?: boolean;
  interpreter?: string;
  /** Where the program headers begin. */
  table?: number;
  /** Where the interpreter's name is. */
  at?: number;
}

const OWN = machine() === "x86_64" ? 62 : 183;
/** A machine that nobody has. What is registered for it is seen by all suites: each process has one of its own. */
const NOBODYS = 0x4000 + process.pid % 0x4000;

/** An ELF header, and a program header that is no PT_INTERP before the one that is. */
function elf({ machine = OWN, small, interpreter, table = 64, at = 512 }: Elf): Uint8Array {
  const bytes = new Uint8Array(1024);
  const view = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, small ? 1 : 2, 1]);
  view.setUint16(18, machine, true);
  view.setBigUint64(32, BigInt(table), true);
  view.setUint16(54, 56, true);
  view.setUint16(56, interpreter === undefined ? 0 : 2, true);
  if (interpreter === undefined || table > 400) return bytes;
  view.setUint32(table, 1, true);
  view.setUint32(table + 56, 3, true);
  view.setBigUint64(table + 56 + 8, BigInt(at), true);
  view.setBigUint64(table + 56 + 32, BigInt(interpreter.length + 1), true);
  if (at < 900) bytes.set(new TextEncoder().encode(interpreter), at);
  return bytes;
}

function makeRoot(): string {
  const path = scratch("root");
  mkdirSync(join(path, "bin"), { recursive: true });
  const put = (name: string, bytes: Uint8Array | string, mode = 0o755) => {
    writeFileSync(join(path, name), bytes);
    chmodSync(join(path, name), mode);
  };
  put("bin/own", elf({ interpreter: "/bin/ld" }));
  put("bin/ld", elf({}));
  put("bin/static", elf({}));
  put("bin/unlinked", elf({ interpreter: "/bin/none" }));
  put("bin/far", elf({ interpreter: "/bin/ld", table: 2000 }));
  put("bin/beyond", elf({ interpreter: "/bin/ld", at: 5000 }));
  put("bin/small", elf({ machine: 3, small: true }));
  put("bin/foreign", elf({ machine: 243 }));
  put("bin/unknown", elf({ machine: NOBODYS }));
  put("bin/data", elf({}), 0o644);
  put("bin/text", "echo hello\n");
  put("bin/script", "#!/bin/static\n");
  put("bin/orphan", "#! /bin/none\n");
  for (const n of [1, 2, 3, 4, 5]) put(`bin/chain${n}`, `#!/bin/chain${n + 1}\n`);
  put("bin/chain6", "#!/bin/none\n");
  symlinkSync("circle", join(path, "bin/circle"));
  return path;
}

/** Why a command could not be executed; undefined if it could. */
async function whyNot(root: string, program: string): Promise<string | undefined> {
  using file = open(root, O_RDONLY);
  const lookup = { path: "/none:/bin:", directory: "/bin", whose: "the image" };
  try {
    await checkCommand(program, { ...lookup, root: { file, path: root } });
  } catch (error) {
    if (error instanceof LoopError) return error.message;
    throw error;
  }
}

test("checkRun() names what is wrong in the options", [], () => {
  const wrong: [options: unknown, says: string][] = [
    [{ env: null }, "env must be an object of strings, not null"],
    [{ env: [] }, "env must be an object of strings, not an array"],
    [{ env: "A=b" }, "env must be an object of strings"],
    [{ env: { "": "x" } }, 'env: "" is no name of a variable'],
    [{ env: { "a=b": "x" } }, 'env: "a=b" is no name of a variable'],
    [{ env: { A: 1 } }, "env.A must be a string, not 1"],
    [{ stdin: "pipe" }, 'stdin must be "null", "inherit" or a Uint8Array'],
    [{ devices: "/dev/kvm" }, "devices must be an array of paths below /dev"],
    [{ devices: ["/dev/../etc"] }, "devices must name nodes below /dev"],
    [{ devices: ["/dev/kvm"], chroot: false }, "devices is for a command with chroot"],
  ];
  for (const [options, says] of wrong) {
    const { message } = assertThrows(() => checkRun("true", options as RunOptions), TypeError);
    assertStringIncludes(message, says.replace("not an array", "not "));
  }
  for (const stdin of ["null", "inherit", new Uint8Array(1)] as const) {
    assertEquals(checkRun(["true", "x"], { stdin, devices: ["/dev/mapper/a"] }).stdin, stdin);
  }
});

test("checkCommand() takes what the kernel executes, and names what it lacks", [], async () => {
  const root = makeRoot();
  const fine = ["own", "static", "script", "./own", "/bin/own", "far", "beyond", "text"];
  // The kernel follows four scripts, and so far does this look.
  for (const name of [...fine, "chain1"]) assertEquals(await whyNot(root, name), undefined, name);
  const wrong: [name: string, says: string][] = [
    ["none", "the image has no such program in the folders of PATH, /none:/bin:"],
    ["./none", "the image has no such program)"],
    ["ls -l", 'a command and its arguments are an array: ["ls", "-l"]'],
    ["data", "/bin/data is there, and nobody may execute it: chmod +x"],
    ["./data", "EACCES"],
    ["circle", "no such program"],
    [
      "unlinked",
      "/bin/unlinked needs it to be started (its dynamic linker), and the image does not",
    ],
    ["orphan", "/bin/orphan is a script for it, and the image has no such program"],
    ["chain3", "chain6 is a script for it"],
    ["foreign", "it is a program for riscv64, and this machine is "],
    ["unknown", `it is a program for machine ${NOBODYS}`],
  ];
  for (const [name, says] of wrong) assertStringIncludes(await whyNot(root, name) ?? "", says);
  if (machine() === "x86_64") assertEquals(await whyNot(root, "small"), undefined);
  using file = open(root, O_RDONLY);
  const lookup = {
    path: "/bin",
    directory: "/",
    root: { file, path: root },
    whose: "this machine",
  };
  await assertRejects(() => checkCommand("none", lookup), LoopError, "this machine has no such");
});

test(
  "checkCommand() takes a foreign program that binfmt_misc has an emulator for",
  ["root", "unshare", "mount", "strace"],
  () => {
    if (!readFileSync("/proc/filesystems", "utf8").includes("binfmt_misc")) return;
    const root = makeRoot();
    const script = scratch("ask.ts");
    const url = (path: string) => JSON.stringify(join(ROOT, path));
    writeFileSync(
      script,
      `import { O_RDONLY, open } from ${url("lib/kernel/file.ts")};
       import { checkCommand } from ${url("lib/mount/run_command.ts")};
       using file = open(${JSON.stringify(root)}, O_RDONLY);
       const lookup = { path: "/bin", directory: "/", whose: "the image", root: { file, path: "/" } };
       console.log(await checkCommand("unknown", lookup).then(() => "fine", ({ message }) => message));`,
    );
    // What else is registered stays, and what is here goes.
    const name = `loopdev-${process.pid}-${Date.now()}`;
    const asked = (...rules: string[]) =>
      output([
        ...["unshare", "--mount", "sh", "-c"],
        `cd /proc/sys/fs/binfmt_misc && mount -t binfmt_misc none . && cd . || exit
         cd /proc/sys/fs/binfmt_misc
         register() { printf %s "$1" >register; }
         ${rules.join("\n")}
         "$@"
         for entry in ${name}-*; do echo -1 >"$entry"; done`,
        ...["sh", ...onThisRuntime(script)],
      ]).trim();
    const byte = (value: number) => `\\x${(value & 0xff).toString(16).padStart(2, "0")}`;
    const [low, high, other] = [NOBODYS, NOBODYS >> 8, (NOBODYS >> 8) + 0x80].map(byte);
    const rule = (n: number, magic: string, emulator: string, flags = "") =>
      `register ':${name}-${n}:M:18:${magic}:${emulator}:${flags}'`;
    const others = [
      `register ':${name}-1:E::${name}::/bin/sh:'`,
      rule(2, `${low}${other}:`, "/bin/sh", "F"),
      `${rule(3, `${low}${high}:`, "/bin/sh", "F")}; echo 0 >${name}-3`,
    ];
    assertStringIncludes(asked(...others), "install qemu-user-static");
    assertStringIncludes(
      asked(rule(4, `${low}${other}:\\xff\\x7f`, "/bin/sh")),
      "binfmt_misc names /bin/sh for it, which the image does not have",
    );
    // A kernel that was built without it.
    const withoutIt = ["-P", "/proc/sys/fs/binfmt_misc", "-e", "inject=?open,openat:error=ENOENT"];
    const strace = ["strace", "-f", "-o", "/dev/null", ...withoutIt];
    assertStringIncludes(output([...strace, ...onThisRuntime(script)]), "install qemu-user-static");
    assertEquals(asked(rule(5, `${low}${high}:`, "/bin/static")), "fine");
    assertEquals(asked(rule(6, `${low}${high}:`, "/bin/sh", "F")), "fine");
  },
);
