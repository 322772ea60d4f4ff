/** What docs/kernel-matrix.md shows, as boots: which cells run which steps, the most important first. */
import { type Cell, chooseCells, type Init, KERNELS, type Kind } from "./cells.ts";
import type { Runtime } from "../dev/runtimes.ts";
import type { Job } from "./run_jobs.ts";
import { type Step, STEPS, stepsIn } from "./steps.ts";

/** Cells that run the same. */
export interface Part extends Kind {
  /** What --part calls it. */
  name: string;
  /** "6.1/252", as --cell of vm/run.ts takes it. */
  cells: readonly string[];
  steps: readonly string[];
  cycles: number;
  /** By default Bun and Deno. */
  runtimes?: readonly Runtime[];
  init?: Init;
}

/** One with the race and one without it, on which all of a cell runs on both runtimes. */
const WHOLE = ["6.1/252", "7.2/262"];
const EACH_SERIES = [...WHOLE, "6.12 fixed/257", "5.10/247", "7.3/262"];
const namesOf = (machine?: "arm64") =>
  KERNELS.filter((row) => row.machine === machine)
    .flatMap(({ id, udev }) => udev.map((version) => `${id}/${version}`));
/** The others, in two halves: each has its cycles on one runtime first, on the other one if there is time. */
const OTHERS = namesOf().filter((cell) => !WHOLE.includes(cell));
const [EVEN, ODD] = [0, 1].map((half) => OTHERS.filter((_, i) => i % 2 === half));
const FIRST = ["loopdev", "mounts"];
const THEN = ["many", "cli", "control", "mutants"];

export const PLAN: readonly Part[] = [
  {
    name: "restricted",
    cells: ["6.12 fixed/257", "7.2/262"],
    parameters: ["bdev_allow_write_mounted=0"],
    steps: ["restricted"],
    cycles: 8,
  },
  {
    name: "muted",
    cells: ["6.12 fixed/257", "7.2/262"],
    muted: true,
    steps: ["links"],
    cycles: 60,
  },
  {
    name: "parsers",
    cells: ["6.12 fixed/257", "7.2/262"],
    flavour: "generic",
    steps: ["foreign", "strangers", "tables"],
    cycles: 8,
  },
  { name: "systemd", cells: ["7.2/262"], init: "systemd", steps: ["services"], cycles: 8 },
  { name: "cells", cells: WHOLE, steps: [...FIRST, ...THEN], cycles: 8 },
  { name: "images", cells: EACH_SERIES, steps: ["run", "grow", "owners"], cycles: 6 },
  { name: "others", cells: EVEN, steps: FIRST, cycles: 6, runtimes: ["bun"] },
  { name: "others", cells: ODD, steps: FIRST, cycles: 6, runtimes: ["deno"] },
  { name: "controls", cells: EVEN, steps: THEN, cycles: 8, runtimes: ["bun"] },
  { name: "controls", cells: ODD, steps: THEN, cycles: 8, runtimes: ["deno"] },
  { name: "tool", cells: ["7.2/262"], steps: ["verbs"], cycles: 6 },
  {
    name: "udev",
    cells: ["5.10/247", "6.1/252", "6.12 fixed/257", "7.2/262"],
    steps: ["locks"],
    cycles: 10,
  },
  { name: "node", cells: EACH_SERIES, steps: FIRST, cycles: 8, runtimes: ["node"] },
  { name: "writer", cells: ["6.1/252", "7.0 before/257"], steps: ["writer"], cycles: 100 },
  { name: "symptom", cells: ["7.0 before/262"], init: "systemd", steps: ["symptom"], cycles: 100 },
  { name: "halves", cells: EVEN, steps: FIRST, cycles: 6, runtimes: ["deno"] },
  { name: "halves", cells: ODD, steps: FIRST, cycles: 6, runtimes: ["bun"] },
  { name: "arm64", cells: namesOf("arm64"), steps: [...FIRST, ...THEN], cycles: 6 },
  { name: "more", cells: namesOf(), steps: ["loopdev"], cycles: 30 },
];

/** Seconds of a step with each runtime on two idle processors: in any case, and for each cycle. */
const SECONDS: Record<string, readonly [number, number]> = {
  boot: [22, 0],
  control: [14, 0],
  mutants: [27, 0],
  loopdev: [6, 1.7],
  many: [10, 0.3],
  cli: [11, 0.1],
  mounts: [8, 1.6],
  run: [14, 3],
  grow: [20, 0.3],
  owners: [14, 0],
  locks: [10, 4],
  writer: [10, 1],
  links: [30, 0.3],
  symptom: [30, 2],
  services: [120, 0],
  tables: [40, 0],
  verbs: [90, 0],
  restricted: [30, 0],
};
const USUAL: readonly [number, number] = [25, 1];

/** What a boot may take, in seconds: what `Progress` then corrects by what others took. */
export function estimate(
  { steps, runtimes, cycles }: Pick<Job, "steps" | "runtimes" | "cycles">,
): number {
  const secondsOf = (name: string) => {
    const [least, each] = SECONDS[name] ?? USUAL;
    return least + each * cycles;
  };
  return steps.reduce(
    (sum, step) => sum + secondsOf(step.name) * (step.runtimes === "once" ? 1 : runtimes.length),
    secondsOf("boot"),
  );
}

/** The boots of these parts, in the plan's order; of each cell the steps that it can run. */
export function jobsOf(parts: readonly Part[]): Job[] {
  return parts.flatMap((part) => part.cells.flatMap((cell) => jobOf(part, cell)));
}

function stepOf(name: string): Step {
  const found = STEPS.find((step) => step.name === name);
  if (found === undefined) throw new RangeError(`no step is called "${name}"`);
  return found;
}

function jobOf(part: Part, name: string): Job[] {
  const { cycles, runtimes = ["bun", "deno"], init = "steps", flavour, parameters, muted } = part;
  const [kernel, udev] = name.split("/");
  const [chosen] = chooseCells([kernel], [udev], init);
  const cell: Cell = { ...chosen, flavour, parameters, muted };
  const named = part.steps.map(stepOf);
  const steps = stepsIn(named, cell, init);
  const common = { cell, steps, runtimes, cycles, tables: 200, seed: 1, guest: {}, init };
  return steps.length === 0 ? [] : [{ ...common, estimate: estimate(common) }];
}
