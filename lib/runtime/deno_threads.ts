/**
 * System calls on the threads of Deno's pool, with their errors.
 *
 * Deno makes a `nonblocking` call on another thread, and errno stays behind there: nothing that
 * JavaScript can call afterwards is sure to run on the same thread. Making the request once more to
 * learn its error would be a second request, perhaps to a device that is somebody else's by then. So
 * the pool's threads call these instructions instead of libc: syscall(3) without its last step, which
 * moves a negative result into errno.
 *
 * @module
 */
import type { Machine } from "./contract.ts";

const INSTRUCTIONS: Record<Machine, string> = {
  // endbr64; mov rax, rdi; mov rdi, rsi; mov rsi, rdx; mov rdx, rcx; mov r10, r8; mov r8, r9;
  // syscall; ret
  x86_64: "f30f1efa 4889f8 4889f7 4889d6 4889ca 4d89c2 4d89c8 0f05 c3",
  // mov x8, x0; mov x0, x1; mov x1, x2; mov x2, x3; mov x3, x4; mov x4, x5; svc #0; ret
  aarch64: "e80300aa e00301aa e10302aa e20303aa e30304aa e40305aa 010000d4 c0035fd6",
};

const PAGE = 65536;
const PROT_READ = 1;
const PROT_WRITE = 2;
const PROT_EXEC = 4;
const MAP_PRIVATE = 0x02;
const MAP_ANONYMOUS = 0x20;

/** `(number, a, b, c, d, e)`: what the kernel returns, −errno if it refuses. */
export type Syscall<Result = number> = (...args: (number | bigint)[]) => Result;

/**
 * Undefined where memory cannot be made executable (SELinux's execmem, a seccomp filter), which
 * rarely lets V8's own compiler work either.
 */
export function loadSyscall(machine: Machine): Syscall<Promise<number>> | undefined {
  const { symbols: libc } = Deno.dlopen("libc.so.6", {
    mmap: { parameters: ["usize", "usize", "i32", "i32", "i32", "i64"], result: "pointer" },
    memcpy: { parameters: ["pointer", "buffer", "usize"], result: "pointer" },
    mprotect: { parameters: ["pointer", "usize", "i32"], result: "i32" },
  });
  const writable = PROT_READ | PROT_WRITE;
  const page = libc.mmap(0n, BigInt(PAGE), writable, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0n);
  // MAP_FAILED is −1.
  if (page === null || Deno.UnsafePointer.value(page) === 2n ** 64n - 1n) return undefined;
  const code = Uint8Array.from(
    INSTRUCTIONS[machine].match(/[0-9a-f]{2}/g)!,
    (hex) => parseInt(hex, 16),
  );
  libc.memcpy(page, code, BigInt(code.length));
  // Never writable and executable at once; on aarch64 the kernel also makes the caches agree here.
  if (libc.mprotect(page, BigInt(PAGE), PROT_READ | PROT_EXEC) < 0) return undefined;
  const call = new Deno.UnsafeFnPointer(
    page as Deno.PointerObject<{
      parameters: ["isize", "isize", "isize", "isize", "isize", "isize"];
      result: "i32";
      nonblocking: true;
    }>,
    {
      parameters: ["isize", "isize", "isize", "isize", "isize", "isize"],
      result: "i32",
      nonblocking: true,
    },
  );
  return (number, a = 0, b = 0, c = 0, d = 0, e = 0) =>
    // The runtime takes numbers for 64-bit parameters, too; its types do not say so.
    (call.call as (...args: (number | bigint)[]) => Promise<number>)
      .call(call, number, a, b, c, d, e);
}
