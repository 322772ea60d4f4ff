/**
 * System calls on the threads of Deno's pool, with their errors.
 *
 * Deno makes a `nonblocking` call on another thread. errno stays there, and JavaScript cannot make another
 * call on that thread to read it. To repeat the request would be a second request, by then perhaps to
 * another use of the device. So the pool's threads run these instructions instead of libc's: syscall(3)
 * without its last step, which moves a negative result into errno.
 *
 * @module
 */
import type { Machine, PlainStep } from "./contract.ts";
import type { Thread, ThreadEvents, ThreadsOf } from "./threads.ts";

/**
 * `void chain(struct { int64_t number, *a, b, c, d, e, result, own; } *step, size_t count)`, count > 0:
 * makes one call after another, up to the first negative result. `a` points to the first argument: `own`
 * of the same step, or `result` of an earlier one.
 */
export const INSTRUCTIONS: Record<Machine, string> = {
  x86_64: `
    f30f1efa    endbr64
    53          push rbx
    4989f9      mov r9, rdi
    4889f3      mov rbx, rsi
    498b01      1: mov rax, [r9]
    498b7908    mov rdi, [r9 + 8]
    488b3f      mov rdi, [rdi]
    498b7110    mov rsi, [r9 + 16]
    498b5118    mov rdx, [r9 + 24]
    4d8b5120    mov r10, [r9 + 32]
    4d8b4128    mov r8, [r9 + 40]
    0f05        syscall
    49894130    mov [r9 + 48], rax
    4885c0      test rax, rax
    7809        js 2f
    4983c140    add r9, 64
    48ffcb      dec rbx
    75d2        jnz 1b
    5b          2: pop rbx
    c3          ret`,
  aarch64: `
    e90300aa    mov x9, x0
    ea0301aa    mov x10, x1
    280140f9    1: ldr x8, [x9]
    200540f9    ldr x0, [x9, #8]
    000040f9    ldr x0, [x0]
    210941a9    ldp x1, x2, [x9, #16]
    231142a9    ldp x3, x4, [x9, #32]
    010000d4    svc #0
    201900f9    str x0, [x9, #48]
    8000f8b7    tbnz x0, #63, 2f
    29010191    add x9, x9, #64
    4a0500f1    subs x10, x10, #1
    c1feff54    b.ne 1b
    c0035fd6    2: ret`,
};

const PAGE = 65536;
const PROT_READ = 1;
const PROT_WRITE = 2;
const PROT_EXEC = 4;
const MAP_PRIVATE = 0x02;
const MAP_ANONYMOUS = 0x20;

const CHAIN = { parameters: ["usize", "usize"], result: "void", nonblocking: true } as const;

/** The size of that struct in words of 64 bits, and where in it the fields are. */
const STEP = 8;
const A_POINTER = 1;
const REST = 2;
const RESULT = 6;
const OWN_A = 7;

/**
 * The pool has 32 threads. The runtime needs some for its own files, and turn() one for the event loop.
 */
const MOST_THREADS = 24;

/** `here`: makes the calls where the instructions cannot run. */
export function denoThreads(machine: Machine, here: ThreadsOf["here"]): ThreadsOf {
  const chain = loadChain(machine);
  const start = ({ answered }: ThreadEvents): Thread => {
    if (!chain) throw new Error("no chain");
    const send = (steps: readonly PlainStep[]) =>
      void chain(steps).then(answered, (error) => answered(String(error)));
    // Nobody asks: there are never more of them than the usual ones.
    const isInCall = () => true;
    return { isReady: true, isInCall, send, ref() {}, unref() {}, end() {} };
  };
  return { start, usual: MOST_THREADS, patienceMs: 0, most: MOST_THREADS, here };
}

/** Makes the calls up to the first that fails; resolves to what each returned. */
type Chain = (steps: readonly PlainStep[]) => Promise<number[]>;

/**
 * Undefined where memory cannot be made executable (SELinux's execmem, a seccomp filter). V8's own
 * compiler seldom works there.
 */
function loadChain(machine: Machine): Chain | undefined {
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
    INSTRUCTIONS[machine].match(/^ +[0-9a-f]+/gm)!.join("").match(/[0-9a-f]{2}/g)!,
    (hex) => parseInt(hex, 16),
  );
  libc.memcpy(page, code, BigInt(code.length));
  // Never writable and executable at once; on aarch64 the kernel also makes the caches agree here.
  if (libc.mprotect(page, BigInt(PAGE), PROT_READ | PROT_EXEC) < 0) return undefined;
  const chain = new Deno.UnsafeFnPointer(page as Deno.PointerObject<typeof CHAIN>, CHAIN);
  return async (steps) => {
    const words = new BigInt64Array(STEP * steps.length);
    const address = Deno.UnsafePointer.value(Deno.UnsafePointer.of(words));
    const addressOf = (step: number, word: number) => address + BigInt(8 * (STEP * step + word));
    for (const [i, { number, on, args }] of steps.entries()) {
      const [a = 0, ...rest] = on === undefined ? args : [0, ...args];
      words[STEP * i] = BigInt(number);
      words[STEP * i + OWN_A] = BigInt(a);
      words[STEP * i + A_POINTER] = on === undefined ? addressOf(i, OWN_A) : addressOf(on, RESULT);
      words.set(rest.map(BigInt), STEP * i + REST);
    }
    await chain.call(address, BigInt(steps.length));
    const results = steps.map((_, i) => Number(words[STEP * i + RESULT]));
    const failed = results.findIndex((result) => result < 0);
    return failed < 0 ? results : results.slice(0, failed + 1);
  };
}
