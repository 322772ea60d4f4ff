/**
 * Loaded by `node --import` in each process that dev/coverage.mjs counts, for what Node would not tell: the
 * library's Workers run functions' source text and never end by themselves, and where a call hangs the
 * process ends by _exit(2).
 */
import { registerHooks, syncBuiltinESMExports } from "node:module";
import process from "node:process";
import { takeCoverage } from "node:v8";
import threads from "node:worker_threads";

/** How the text begins that lib/runtime/workers.ts gives a Worker. */
const PROGRAM = /^\(async function scope\b/;

/**
 * Runs in the Worker, which gets its source text: whenever `program` waits, writes what V8 has counted of it
 * since, if that is new.
 */
function count(program, folder) {
  const { Session } = process.getBuiltinModule("node:inspector");
  const { randomUUID } = process.getBuiltinModule("node:crypto");
  const { writeFileSync } = process.getBuiltinModule("node:fs");
  // A session with its own thread answers at once.
  const session = new Session();
  session.connect();
  session.post("Profiler.enable");
  session.post("Profiler.startPreciseCoverage", {
    callCount: true,
    detailed: true,
  });
  const url = "loopdev:worker";
  const told = new Set();
  const tell = () =>
    session.post("Profiler.takePreciseCoverage", (_, { result }) => {
      const { functions } = result.find((script) => script.url === url);
      const text = JSON.stringify({ result: [{ url, program, functions }] });
      if (!told.has(text)) {
        writeFileSync(`${folder}/worker-${randomUUID()}.json`, text);
      }
      told.add(text);
    });
  const { wait } = Atomics;
  Atomics.wait = (...args) => {
    tell();
    return wait(...args);
  };
  // In the global scope.
  (0, eval)(`${program}\n//# sourceURL=${url}`);
}

function countWorkers(folder) {
  threads.Worker = class extends threads.Worker {
    constructor(program, options) {
      const args = [program, folder].map((arg) => JSON.stringify(arg));
      const isOurs = options?.eval && PROGRAM.test(program);
      super(isOurs ? `(${count})(${args})` : program, options);
    }
  };
}

/** node:ffi prints a warning where it is loaded: it is changed when the program loads it. */
function countBeforeExit() {
  let isChanged = false;
  registerHooks({
    resolve(specifier, context, next) {
      if (specifier === "node:ffi" && !isChanged) {
        isChanged = true;
        changeExit(process.getBuiltinModule(specifier));
      }
      return next(specifier, context);
    },
  });
}

/** Has _exit(2) tell first what this process has reached. */
function changeExit(ffi) {
  const { dlopen } = ffi;
  ffi.dlopen = (...args) => {
    const opened = dlopen(...args);
    const { _exit } = opened.functions;
    if (_exit) {
      opened.functions._exit = (code) => {
        takeCoverage();
        _exit(code);
      };
    }
    return opened;
  };
  syncBuiltinESMExports();
}

const folder = process.env.NODE_V8_COVERAGE;
if (folder && threads.isMainThread) {
  countWorkers(folder);
  countBeforeExit();
}
