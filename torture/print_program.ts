/** Prints a program that fails as a test: TypeScript with the public API, which runs by itself. */
import { join } from "node:path";
import { ROOT } from "../tests/support/support.ts";
import type { Event } from "./model.ts";
import type { Step } from "./programs.ts";
import type { Violation } from "./interleave_process.ts";

const show = (value: unknown) => JSON.stringify(value);
const path = (file: string) => `files[${show(file)}]`;

/** The expression of a call, which gives a promise. */
function expression(step: Step): string {
  switch (step.op) {
    case "attach": {
      const abort = step.abort === undefined ? "" : `, signal: AbortSignal.timeout(${step.abort})`;
      const options = `{ ...${show(step.options)}${abort} }`;
      return `attach(${path(step.file)}, ${options})`;
    }
    case "attachAll":
      return `attachAll([${path(step.file)}, ${path(step.file)}], { overlap: "refuse" })`;
    case "detachFile":
      return `detach(${path(step.file)})`;
    case "openLoop":
      return typeof step.of === "number"
        ? `openLoop(nodes[${step.of}])`
        : `${step.of}.then(({ path }) => openLoop(path))`;
    case "mount": {
      const at = step.at === undefined ? "" : `, at: folders.${step.at}`;
      const options = `{ ...${show(step.options)}${at} }`;
      return `${step.handle}.then((loop) => loop.mount(${step.partition}, ${options}))`;
    }
    case "unmount":
      return `${step.mount}.then((mount) => mount.unmount())`;
    case "die":
      return `Promise.resolve(process.kill(process.pid, "SIGKILL"))`;
    case "writeTable":
      return `write(${path(step.file)}, ${show(step.table)})`;
    case "killKeeper":
      return `killKeeper()`;
    default:
      if (!step.op.startsWith("stranger")) return operation(step as Step & { handle: string });
  }
  return stranger(step);
}

function operation({ op, handle, ...rest }: Step & Record<string, unknown>): string {
  const timeout = rest.timeout === undefined ? "" : `{ timeout: ${rest.timeout} }`;
  const args: Record<string, string> = {
    setSectorSize: show(rest.value),
    setDirectIo: show(rest.value === 1),
    changeFile: path(`${rest.file}`),
    detach: timeout,
    lock: timeout,
    rescan: "{ timeout: 1000 }",
    settled: "{ timeout: 1000 }",
  };
  const method = op === "dispose" ? "[Symbol.asyncDispose]" : `.${op}`;
  const release = op === "lock" && rest.value === 1 ? ".then((held) => held.release())" : "";
  return `${handle}.then((loop) => loop${method}(${args[op] ?? ""})${release})`;
}

function stranger(step: Step): string {
  const ask = (text: string) => `stranger(\`${text}\`)`;
  switch (step.op) {
    case "strangerAttaches":
      return ask(`attach ${step.number} \${${path(step.file)}}`);
    case "strangerDetaches":
      return ask(`detach ${step.number}`);
    case "strangerHolds":
      return ask(`hold ${step.number} ${step.value}`);
    case "strangerMounts": {
      const isFolder = /^d\d$/.test(step.over);
      return ask(`mount 0 \${${isFolder ? `folders.${step.over}` : `(await ${step.over}).path`}}`);
    }
    case "strangerMountsDevice": {
      const number = `\${(await ${step.handle}).number}`;
      return ask(`mountDevice ${number} ${step.partition ?? 0} \${folders.beside}`);
    }
    case "strangerUnmounts":
      return ask(`unmount \${(await ${step.mount}).id} \${(await ${step.mount}).point}`);
    case "strangerAddsPartition":
      return ask(`add \${(await ${step.handle}).number}`);
    default:
      throw new Error(`${step.op} is not the stranger's`);
  }
}

const nameOf = (step: Step): string | undefined =>
  step.op === "attach" || step.op === "openLoop"
    ? step.handle
    : "mount" in step && step.op !== "unmount" && step.op !== "strangerUnmounts"
    ? step.mount
    : undefined;

function line(step: Step, number: number): string {
  const name = nameOf(step);
  const made = `call(${number}, ${expression(step)})`;
  const promise = name === undefined ? made : name;
  const first = name === undefined ? [] : [`const ${name} = ${made};`];
  const then = {
    await: [`await ${promise}.catch(() => {});`],
    race: [`await Promise.race([${promise}, pause(${step.ms ?? 0})]).catch(() => {});`],
    tick: [...name === undefined ? [`${made};`] : [], "await null;"],
    forget: name === undefined ? [`${made};`] : [],
  }[step.leave];
  return [...first, ...then].join("\n  ");
}

/** The answers, in their order, as the test sees them. */
export function answersOf(events: readonly Event[]): string[] {
  return events.flatMap((event) => {
    if (!("answer" in event)) return [];
    const made = events.find((one) => "call" in one && one.call === event.answer);
    const { step } = made as Event & { step: Step };
    const said = event.error ?? (typeof event.ok === "string" ? event.ok : "done");
    return [`${step.op}: ${said}`];
  });
}

/**
 * The test: `deno test -A FILE`, `bun test FILE` or `node --test FILE`, as root. What the calls answer, and what
 * the kernel shows then, is judged as in the part.
 */
export function printProgram({ violation, program, events }: Violation, runtime: string): string {
  const { seed, index, kind, steps } = program;
  const body = steps.map(line).join("\n  ");
  const names = ["attach", "attachAll", "detach", "openLoop"];
  const used = names.filter((name) => new RegExp(`(?<![.\\w])${name}\\(`).test(body));
  const its = ["files", "folders", "nodes", "call", "pause", "stranger", "write", "killKeeper"];
  const taken = its.filter((name) => new RegExp(`(?<![.\\w])${name}\\b`).test(body));
  const api = used.length > 0
    ? `import { ${used.join(", ")} } from ${show(join(ROOT, "mod.ts"))};\n`
    : "";
  return `// Seed ${seed}, program ${index} (${kind}), on ${runtime}: ${violation}
// ${answersOf(events).join(", ")}
import process from "node:process";
import { test } from "node:test";
${api}import { again } from ${show(join(ROOT, "torture/again.ts"))};

const STEPS = ${JSON.stringify(steps, null, 2)} as const;

const program: Parameters<typeof again>[2] = async ({ ${taken.join(", ")} }) => {
  ${body}
};

const run = () => again(import.meta.filename!, STEPS, program);
if (${show("LOOPDEV_AGAIN")} in process.env) await run();
else test(${show(violation)}, run);
`;
}
