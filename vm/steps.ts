/** What runs in each guest, and what its results mean. */
import { type Cell, type Init, type Kind, kindOf } from "./cells.ts";
import type { GuestCommand } from "./initramfs.ts";
import type { GuestEvent } from "./qemu.ts";
import { packBusybox } from "./busybox.ts";
import { packLayouts } from "./layouts.ts";
import { packTools } from "./tools.ts";
import { packOwnerImages, wronglyMapped, wronglyOwned } from "./owners.ts";
import type { Runtime } from "../dev/runtimes.ts";
import { differences, type GuestView } from "../tests/strangers/ours.ts";

export interface Context {
  cell: Cell;
  /** The kernel's release, "6.12.90". */
  release: string;
  cycles: number;
  /** How many partition tables, and the seed that makes them. */
  tables: number;
  seed: number;
}

/** "inconclusive": the cell ran, but does not show what it should be able to show. */
export interface Verdict {
  outcome: "pass" | "fail" | "inconclusive";
  reason?: string;
}

/**
 * One program of vm/guest; whatever it reports with `event: "result"` is a row. It runs only in cells whose
 * kernel is of its kind.
 */
export interface Step extends Kind {
  name: string;
  /** "once": with the first of the chosen runtimes; "each": with each of them. */
  runtimes: "once" | "each";
  /** `false`: runs only if `--step` names it. */
  unasked?: boolean;
  /** Runs only where this is PID 1; without it everywhere, and by default under our own. */
  init?: Init;
  /** What the guest must have beside loop.ko. */
  needs?: "ext4";
  /** A package of Debian's: runs only in the suites that bring it. */
  package?: string;
  /** Modules that it loads itself, from /guest/modules. */
  modules?: readonly string[];
  /** What it finds in /guest, by name: made here, where the tools are. */
  files?(): Readonly<Record<string, Uint8Array>>;
  /** Runs only on kernels that have the race. */
  affected?: boolean;
  /** The program, from the project's root, and its arguments. */
  script: string;
  args?(context: Context): readonly (string | number)[];
  /** Its deadline, many times what it takes. */
  seconds(context: Context): number;
  /** Judges one row; `all` are this step's rows in this cell. */
  judge(result: GuestEvent, context: Context, all: readonly GuestEvent[]): Verdict;
}

/** systemd-udevd before 259 re-reads the table when a writable fd of the whole disk is closed. */
const UDEV_WITHOUT_REREAD = 259;

const control: Step = {
  name: "control",
  runtimes: "once",
  script: "vm/guest/control.ts",
  args: ({ cycles }) => [Math.max(12, Math.ceil(cycles / 5))],
  seconds: ({ cycles }) => 300 + cycles * 6,
  judge(result, { cell }, all) {
    const spurious = Number(result.spurious);
    const races = cell.kernel.affected || cell.suite.udev < UDEV_WITHOUT_REREAD;
    if (result.lost || result.overruns) {
      return { outcome: "inconclusive", reason: `${result.lost} uevents were lost` };
    }
    if (!races && spurious > 0) {
      return { outcome: "fail", reason: "flickers where neither race is expected" };
    }
    // Which opener hits the window depends on the kernel: "spin" from 6.12 on, "react" on 6.1.
    if (cell.kernel.affected && all.every((row) => row.spurious === 0)) {
      return { outcome: "inconclusive", reason: "an affected kernel did not flicker" };
    }
    return { outcome: "pass" };
  },
};

/** Whatever makes a row worthless: an event that we did not hear may have been the one. */
function unheard(result: GuestEvent): Verdict | undefined {
  if (!result.lost && !result.overruns) return undefined;
  return { outcome: "inconclusive", reason: `${result.lost} uevents were lost` };
}

/** A row of vm/guest/cases.ts. */
function judgeCase({ kind, shown, seen, refused, faults }: GuestEvent): Verdict {
  const wrong = (faults as string[]).join(", ");
  if (wrong !== "") return { outcome: "fail", reason: wrong };
  if (kind === "control" && !shown) {
    return { outcome: "inconclusive", reason: `did not show it: ${seen}` };
  }
  return { outcome: "pass", reason: String(refused ?? (seen || "")) || undefined };
}

/** The counts that must be zero and are not. */
function faultsOf(result: GuestEvent, counts: readonly string[]): Verdict | undefined {
  const faults = counts.filter((key) => result[key]).map((key) => `${result[key]} ${key}`);
  if (faults.length === 0) return undefined;
  const refusals = Object.keys(result.refusals ?? {});
  return { outcome: "fail", reason: [...faults, ...refusals].join(", ") };
}

const verdictOn = (result: GuestEvent, counts: readonly string[]): Verdict =>
  faultsOf(result, counts) ?? unheard(result) ?? { outcome: "pass" };

const loopdev: Step = {
  name: "loopdev",
  runtimes: "each",
  script: "vm/guest/loopdev.ts",
  args: ({ cycles }) => [cycles],
  seconds: ({ cycles }) => 600 + cycles * 15,
  judge(result, { cell }) {
    if (result.kind === "verdict") {
      const expected = cell.kernel.affected ? "affected" : "fixed";
      const probes = Object.keys(result.probes as object);
      // Under a hostile opener the probe may say that it cannot tell; it must not say what is wrong.
      const agree = result.gate === expected && probes.includes(expected) &&
        probes.every((verdict) => verdict === expected || verdict === "inconclusive");
      const reason = `gate ${result.gate}, probe ${JSON.stringify(result.probes)}`;
      return { outcome: agree ? "pass" : "fail", reason: agree ? undefined : reason };
    }
    return verdictOn(result, ["spurious", "missing", "absent", "left"]);
  },
};

/** The command line tool, whose process ends each time. */
const cli: Step = {
  ...loopdev,
  name: "cli",
  script: "vm/guest/cli.ts",
  args: ({ cycles }) => [Math.max(4, Math.ceil(cycles / 20))],
};

/** Many images at once. */
const many: Step = {
  ...loopdev,
  name: "many",
  script: "vm/guest/many.ts",
};

/** A neighbour that opens the device for writing: without the lock what is seen is told, not promised. */
const writer: Step = {
  name: "writer",
  runtimes: "each",
  script: "vm/guest/writer.ts",
  args: ({ cycles }) => [Math.max(10, Math.ceil(cycles / 7))],
  seconds: ({ cycles }) => 300 + cycles * 10,
  judge(result) {
    const faults = result.kind === "locks" ? ["spurious", "absent", "left"] : ["left"];
    return verdictOn(result, faults);
  },
};

/** mkfs under lock(), and what settled() waits for. */
const locks: Step = {
  name: "locks",
  runtimes: "each",
  script: "vm/guest/locks.ts",
  args: ({ cycles }) => [cycles],
  seconds: ({ cycles }) => 300 + cycles * 30,
  judge(result) {
    const failed = faultsOf(result, ["spurious", "missing", "busy", "unlinked", "left"]);
    const times = Object.entries(result.milliseconds as Record<string, number>)
      .map(([what, ms]) => `${what} ${Math.round(ms)} ms`).join(", ");
    if (result.kind === "control") {
      return { outcome: "pass", reason: `${failed?.reason ?? "nothing went wrong"}; ${times}` };
    }
    return failed ?? unheard(result) ?? { outcome: "pass", reason: times };
  },
};

/** Whether udevd hears of an image without partitions. */
const links: Step = {
  name: "links",
  runtimes: "each",
  unasked: false,
  script: "vm/guest/links.ts",
  args: ({ cycles }) => [Math.max(2, Math.ceil(cycles / 20))],
  seconds: ({ cycles }) => 300 + cycles * 30,
  judge(result) {
    const failed = faultsOf(result, ["unlinked"]);
    if (result.kind !== "control") return failed ?? { outcome: "pass" };
    return { outcome: "pass", reason: failed ? failed.reason : "it announces the device" };
  },
};

/** What must flicker, so that the zeros beside it mean something. */
const mutants: Step = {
  name: "mutants",
  runtimes: "once",
  script: "vm/guest/loopdev.ts",
  args: ({ cycles }) => [cycles, "mutants"],
  seconds: ({ cycles }) => 400 + cycles * 2,
  judge(result, { cell }, all) {
    const name = String(result.case).replace(/ \+ opener .*/, "");
    // 6.1 scans only once more without the drain where an opener is very lucky.
    const expected = {
      "mutant on the watched node": cell.suite.udev < UDEV_WITHOUT_REREAD,
      "mutant one-step": cell.kernel.affected,
      "mutant without drain": cell.kernel.affected && cell.kernel.series !== "6.1",
    }[name];
    // Which opener hits the window depends on the kernel: one of them is enough.
    const flickers = all.some((row) => String(row.case).startsWith(name) && row.spurious);
    if (expected && !flickers) return { outcome: "inconclusive", reason: "did not flicker" };
    return { outcome: "pass" };
  },
};

/** Whether systemd kills a unit that is bound to a partition. */
const symptom: Step = {
  name: "symptom",
  runtimes: "once",
  init: "systemd",
  script: "vm/guest/symptom.ts",
  args: ({ cycles }) => [Math.max(100, Math.ceil(cycles / 2))],
  seconds: ({ cycles }) => 900 + cycles * 20,
  judge(result, { cell }, all) {
    const counts = ["broken", "stopped", "failed", "dead", "missing", "absent", "left"]
      .filter((key) => result[key]).map((key) => `${result[key]} ${key}`).join(", ");
    if (result.missing || result.absent || result.left) return { outcome: "fail", reason: counts };
    if (result.kind === "loopdev") {
      return result.broken || result.spurious
        ? { outcome: "fail", reason: `${counts}, ${result.spurious} spurious` }
        : unheard(result) ?? { outcome: "pass" };
    }
    // losetup and one-step race alike, and which of them loses is chance: one is enough.
    const breaks = all.some((row) => row.kind === "control" && row.broken);
    if (cell.kernel.affected && !breaks) {
      return { outcome: "inconclusive", reason: "an affected kernel broke no unit" };
    }
    return { outcome: "pass", reason: counts || undefined };
  },
};

/** What an attach costs there; only where it is asked for. */
const bench: Step = {
  name: "bench",
  runtimes: "once",
  unasked: false,
  script: "vm/guest/bench.ts",
  args: ({ cycles }) => [Math.max(3, Math.ceil(cycles / 10))],
  seconds: ({ cycles }) => 300 + cycles * 20,
  judge: (result) => ({ outcome: Number(result.nanoseconds) > 0 ? "pass" : "fail" }),
};

/** Whether our parser and the kernel's read the same from the tables of strangers. */
const tables: Step = {
  name: "tables",
  runtimes: "once",
  script: "vm/guest/tables.ts",
  args: ({ tables, seed }) => [tables, seed],
  seconds: ({ tables }) => 120 + tables,
  judge(result) {
    const listed = (counts: unknown) =>
      Object.entries(counts as Record<string, number>).map(([name, n]) => `${n} ${name}`).join(
        ", ",
      );
    if (result.differing) {
      return { outcome: "fail", reason: `${result.differing} differ: ${result.examples}` };
    }
    // Tables that neither side finds a partition in say little.
    if (Number(result.adds) < Number(result.cycles) / 2) {
      return { outcome: "inconclusive", reason: `only ${result.adds} partitions` };
    }
    const expected = listed(result.expected);
    return { outcome: "pass", reason: expected && `different on purpose: ${expected}` };
  },
};

/** The tables of other systems, beside the kernel's own parsers. */
const foreign: Step = {
  name: "foreign",
  runtimes: "once",
  unasked: false,
  flavour: "generic",
  script: "vm/guest/foreign.ts",
  args: ({ tables, seed }) => [Math.max(4, Math.ceil(tables / 20)), seed],
  seconds: ({ tables }) => 120 + tables,
  judge(result) {
    if (result.kind !== "foreign") return judgeCase(result);
    const { cycles, adds, differing, removed, expected, examples } = result;
    // Which parsers it has was decided when it was built.
    if (!adds) return { outcome: "inconclusive", reason: "this kernel shows none of them" };
    if (differing || removed) {
      return {
        outcome: "fail",
        reason: `${differing} of ${cycles} differ, rescan() removed ${removed}: ${examples}`,
      };
    }
    const named = Object.entries(expected as Record<string, number>)
      .map(([name, times]) => `, ${times} differ on purpose: ${name}`);
    return { outcome: "pass", reason: `${adds} partitions${named.join("")}` };
  },
};

/** The images of strangers: what the kernel shows of them, as it was recorded, and what we make of that. */
const strangers: Step = {
  name: "strangers",
  runtimes: "once",
  script: "vm/guest/strangers.ts",
  seconds: () => 600,
  judge(result) {
    const images = Object.entries(result.images as Record<string, GuestView>);
    const differing = images.flatMap(([name, view]) =>
      differences(name, view, String(result.kernel)).map((difference) => `${name}: ${difference}`)
    );
    if (differing.length > 0) return { outcome: "fail", reason: differing.join("; ") };
    return { outcome: "pass", reason: `${images.length} images` };
  },
};

/** What kernel and tools answer, with LO_FLAGS_PARTSCAN and without. */
const answersOf = (series: string): Record<string, unknown> => ({
  "tools, two-step": { partscan: "1", rereadpt: "", partx: true },
  "tools, userspace": { partscan: "0", rereadpt: "Invalid argument", partx: true },
  "BLKPG_ADD_PARTITION, not bound": series === "6.1" ? "done" : "EINVAL",
});

/** Other ways to attach on an affected kernel, beside the two steps. */
const ways: Step = {
  name: "ways",
  runtimes: "once",
  unasked: false,
  affected: true,
  script: "vm/guest/ways.ts",
  args: ({ cycles }) => [cycles * 2],
  seconds: ({ cycles }) => 300 + cycles * 30,
  judge(result, { cell }) {
    if (result.kind === "answers") {
      const answers = JSON.stringify(result.answers);
      const agree = answers === JSON.stringify(answersOf(cell.kernel.series)[String(result.case)]);
      return { outcome: agree ? "pass" : "fail", reason: answers };
    }
    if (result.kind === "control") {
      return result.spurious
        ? { outcome: "pass" }
        : { outcome: "inconclusive", reason: "no flicker" };
    }
    const failed = faultsOf(result, ["spurious", "missing", "absent", "left", "unset"]);
    if (failed) return failed;
    const { ready, read, flag } = result.milliseconds as Record<string, number | null>;
    const times =
      `ready in ${ready} ms, then read in ${read} ms, flag after ${flag ?? "\u2013"} ms; ` +
      `${result.warnings} warnings, ${result.fellBack} not this way`;
    return unheard(result) ?? { outcome: "pass", reason: times };
  },
};

/** Mounts: what becomes of them, and of the partitions below them. */
const mounts: Step = {
  name: "mounts",
  runtimes: "each",
  unasked: false,
  needs: "ext4",
  script: "vm/guest/mounts.ts",
  args: ({ cycles }) => [cycles],
  seconds: ({ cycles }) => 300 + cycles * 15,
  judge(result) {
    if (result.kind !== "mounts") return judgeCase(result);
    const faults = ["spurious", "missing", "absent", "left", "seen", "lostFiles"]
      .filter((key) => result[key]).map((key) => `${result[key]} ${key}`);
    if (result.nested !== "unmounted, unmounted") faults.push(`nested: ${result.nested}`);
    const { refused } = result;
    if (refused !== undefined && !/needs Linux 6\.15/.test(String(refused))) {
      faults.push(`detached: ${refused}`);
    }
    if (faults.length > 0) return { outcome: "fail", reason: faults.join(", ") };
    const { mount, unmount } = result.milliseconds as Record<string, number>;
    const reason = `${result.forms} forms, ${result.killed} killed, mount ${mount} ms, ` +
      `unmount ${unmount} ms`;
    return unheard(result) ?? { outcome: "pass", reason };
  },
};

/** The images that people use, mounted by mountImage() and by systemd-dissect. */
const layouts: Step = {
  name: "layouts",
  runtimes: "once",
  unasked: false,
  needs: "ext4",
  package: "systemd-container",
  modules: ["btrfs", "squashfs", "erofs", "isofs"],
  files: () => ({ layouts: packLayouts() }),
  script: "vm/guest/layouts.ts",
  seconds: () => 300,
  judge({ faults, seen }) {
    const wrong = (faults as string[]).join(", ");
    return { outcome: wrong === "" ? "pass" : "fail", reason: wrong || String(seen) };
  },
};

/** Growing what is mounted and written to; and what the kernel reads of a table in the middle of it. */
const grow: Step = {
  name: "grow",
  runtimes: "once",
  unasked: false,
  needs: "ext4",
  modules: ["xfs", "btrfs"],
  files: () => ({ "grow_tools.tar": packTools(GROW_TOOLS) }),
  script: "vm/guest/grow.ts",
  args: ({ cycles }) => [cycles],
  seconds: ({ cycles }) => 300 + cycles * 10,
  judge(result) {
    if (result.kind === "cut") {
      const { cycles, differing, examples } = result;
      return differing
        ? { outcome: "fail", reason: `${differing} of ${cycles} differ: ${examples}` }
        : { outcome: cycles ? "pass" : "inconclusive", reason: `${cycles} cuts` };
    }
    const failed = faultsOf(result, ["spurious", "lost", "damaged", "left"]);
    if (failed) return { ...failed, reason: `${failed.reason}; ${result.said}` };
    if (!result.grown) return { outcome: "fail", reason: `did not grow: ${result.reason}` };
    const reason = `${
      (result.milliseconds as number[]).join(" and ")
    } ms, ${result.lines} lines written`;
    return { outcome: "pass", reason };
  },
};
const GROW_TOOLS = ["mkfs.ext4", "mkfs.xfs", "mkfs.btrfs", "e2fsck", "xfs_repair", "btrfs"];

/** Mounts that are a user's, on each file system, and the mount of a mapper's device. */
const owners: Step = {
  name: "owners",
  runtimes: "once",
  unasked: false,
  needs: "ext4",
  modules: ["xfs", "btrfs", "f2fs", "erofs", "squashfs", "dm-mod"],
  files: () => ({ owners: packOwnerImages() }),
  script: "vm/guest/owners.ts",
  seconds: () => 300,
  judge(result) {
    const wrong = result.kind === "mapper" ? wronglyMapped(result) : wronglyOwned(result);
    return {
      outcome: wrong === undefined ? "pass" : "fail",
      reason: wrong ?? String(result.refused ?? ""),
    };
  },
};

/** Commands in an image. */
const run: Step = {
  name: "run",
  runtimes: "each",
  unasked: false,
  needs: "ext4",
  files: () => ({ "run.img": packBusybox() }),
  script: "vm/guest/run.ts",
  args: ({ cycles }) => [Math.max(6, cycles)],
  seconds: ({ cycles }) => 300 + cycles * 10,
  judge(result, context, all) {
    const isHit = Number(result.ranWhenKilled) > 0;
    const verdict = layouts.judge(result, context, all);
    if (isHit || verdict.outcome === "fail") return verdict;
    return { outcome: "inconclusive", reason: `no kill hit a command that ran; ${result.seen}` };
  },
};

/** The verbs of the tool. */
const verbs: Step = {
  name: "verbs",
  runtimes: "each",
  unasked: false,
  needs: "ext4",
  files: () => ({ "run.img": packBusybox() }),
  script: "vm/guest/verbs.ts",
  seconds: () => 900,
  judge: judgeCase,
};

/** Mounts of whole devices, where nobody may write to what is mounted. */
const restricted: Step = {
  name: "restricted",
  runtimes: "each",
  unasked: false,
  needs: "ext4",
  parameters: ["bdev_allow_write_mounted=0"],
  script: "vm/guest/restricted.ts",
  args: ({ cycles }) => [Math.max(4, Math.ceil(cycles / 10))],
  seconds: ({ cycles }) => 120 + cycles * 5,
  judge(result) {
    if (result.kind !== "restricted") return judgeCase(result);
    if (result.refused || result.left) {
      return {
        outcome: "fail",
        reason: `${result.refused} refused, ${result.left} left: ${result.messages}`,
      };
    }
    if (result.restricted !== result.cycles) {
      return { outcome: "inconclusive", reason: "this kernel lets others write (before 6.8?)" };
    }
    return { outcome: "pass" };
  },
};

/** What must hold of a row of `services`; the reason that it does not. */
const SERVICES: Record<string, (row: GuestEvent) => string | undefined> = {
  pinning({ seen, least, unmounted, detached, pinned, units, failed, form }) {
    if (Number(seen) < Number(least)) return `only ${seen} of ${least} saw it meanwhile`;
    // A private namespace keeps a mount on a directory that stays.
    const isFree = unmounted === "unmounted" && detached === "detached";
    if (form === "directory" && !isFree) return `${unmounted}, ${detached}, by ${pinned}`;
    const left = [...units as string[], ...failed as string[]];
    return left.length === 0 ? undefined : `units left or failed: ${left}`;
  },
  service({ next }) {
    const { device, owners, units } = next as Record<string, unknown>;
    const isClean = device === false && Number(owners) <= 1 && String(units) === "";
    return isClean ? undefined : `after the next mount(): ${JSON.stringify(next)}`;
  },
  esp: ({ isThere }) => isThere ? undefined : "what was written is not in the file",
  flush: ({ who, unmount }) =>
    who !== "loopdev" || ["EIO", "ENOSPC"].includes(String(unmount)) ? undefined : "not told",
  tool: ({ status, inImage, onHost, said }) =>
    status === 0 && inImage && !onHost ? undefined : `${status}: ${said}`,
  end: ({ unmount, detach, owners, units }) =>
    unmount === "unmounted" && detach === "detached" && owners === 0 && String(units) === ""
      ? undefined
      : "something is left",
};

/** Mounts beside systemd, and what only a machine of its own may try. */
const services: Step = {
  name: "services",
  runtimes: "once",
  unasked: false,
  init: "systemd",
  needs: "ext4",
  script: "vm/guest/services.ts",
  seconds: () => 900,
  judge(result) {
    if (result.kind === "control") return judgeCase(result);
    const wrong = SERVICES[String(result.kind)](result);
    const common = [
      ...["event", "case", "kind", "step", "runtime", "verdict", "form", "who", "cycles", "least"],
      ...["commit", "date"],
    ];
    const facts = Object.entries(result).filter(([key]) => !common.includes(key));
    const seen = JSON.stringify(Object.fromEntries(facts));
    return { outcome: wrong ? "fail" : "pass", reason: [wrong, seen].filter(Boolean).join("; ") };
  },
};

/** In the order in which they run. */
export const STEPS: readonly Step[] = [
  control,
  mutants,
  loopdev,
  many,
  cli,
  writer,
  locks,
  links,
  tables,
  strangers,
  foreign,
  mounts,
  layouts,
  grow,
  owners,
  run,
  verbs,
  restricted,
  services,
  symptom,
  ways,
  bench,
];

/** The steps of a cell. What does not need systemd runs under it only if `--init` asks for it. */
export function stepsIn(steps: readonly Step[], cell: Cell, asked?: Init): Step[] {
  const { init, kernel, suite } = cell;
  const kind = kindOf(cell);
  return steps.filter((step) =>
    (step.init ?? asked ?? "steps") === init && (kernel.affected || !step.affected) &&
    (step.package === undefined || suite.include.includes(step.package)) &&
    kindOf(step).every((word) => kind.includes(word))
  );
}

/** A cell with the steps that it runs, and for steps that need another kind of kernel a cell of that kind. */
export function cellsFor(
  steps: readonly Step[],
  cell: Cell,
  asked?: Init,
): { cell: Cell; steps: Step[] }[] {
  const own = kindOf(cell).join();
  const kinds = new Map<string, { cell: Cell; steps: Step[] }>();
  for (const step of steps) {
    const { flavour = cell.flavour, parameters, muted = cell.muted } = step;
    const all = [...new Set([...cell.parameters ?? [], ...parameters ?? []])];
    const wanted = { ...cell, flavour, parameters: all, muted };
    const key = kindOf(wanted).join();
    const one = kinds.get(key) ?? { cell: key === own ? cell : wanted, steps: [] };
    kinds.set(key, one);
    one.steps.push(...stepsIn([step], wanted, asked));
  }
  return [...kinds.values()].filter(({ steps }) => steps.length > 0);
}

/** How the guest starts a script; what that starts itself has the same environment. */
const GUEST_RUNTIMES: Record<Runtime, readonly string[]> = {
  bun: ["bun"],
  deno: ["deno", "run", "-A", "--no-check", "--no-lock", "--config", "/guest/deno.json"],
  node: [
    "env",
    "NODE_OPTIONS=--import=/project/dev/resolve.mjs --disable-warning=ExperimentalWarning " +
    "--disable-warning=MODULE_TYPELESS_PACKAGE_JSON",
    "node",
  ],
};

/** A step's command in the guest, whose working directory is the project's root. */
export function guestCommand(step: Step, runtime: Runtime, context: Context): GuestCommand {
  return {
    name: `${step.name}/${runtime}`,
    seconds: step.seconds(context),
    command: [
      // The library goes by the release, and that of a muted module's kernel has the fix: it hides it.
      ...context.cell.muted ? ["setarch", "--uname-2.6"] : [],
      ...GUEST_RUNTIMES[runtime],
      step.script,
      ...(step.args?.(context) ?? []).map(String),
    ],
  };
}
