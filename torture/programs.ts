/**
 * Random programs as data: what they do to handles, mounts and tables, how each call is left, and what a
 * stranger does meanwhile. A seed and an index give a program again; play.ts runs it, model.ts judges it.
 */
import type { AttachOptions, MountOptions } from "../mod.ts";
import { Random } from "../tests/cases/random.ts";

/** How a program goes on after a call: it awaits it, or until a timer of `ms` is faster, or not at all. */
export type Leave = "await" | "race" | "tick" | "forget";

export const CLOSING = ["persist", "detach", "dispose"] as const;
export const HANDLE_OPS = [
  ...["setSectorSize", "setDirectIo", "setCapacity", "rescan", "changeFile"] as const,
  ...["holders", "isCurrent", "lock", "settled"] as const,
  ...CLOSING,
] as const;
export type HandleOp = typeof HANDLE_OPS[number];

/** A file of the lane: partitioned ones, one that is a file system as a whole, and those of a stranger. */
export type FileName = "own-0" | "own-1" | "own-2" | "disk" | "foreign-0" | "foreign-1";

/** What is written to the beginning of a partitioned file. `"unknown"` is no table that is read here. */
export type TableName = "both" | "first" | "more" | "none" | "unknown";

/**
 * One call. `handle` and `mount` are names: the step that makes one is followed by those that use it, and
 * one whose maker has failed, or was left out, is not made.
 */
export type Call =
  | {
    op: "attach";
    handle: string;
    file: FileName;
    options: Omit<AttachOptions, "signal" | "onDeferred">;
    /** Aborted after so many ms. */
    abort?: number;
  }
  | { op: "attachAll" | "detachFile"; file: FileName }
  /** Of another handle's device, or of the stranger's first or second one. */
  | { op: "openLoop"; handle: string; of: string | number }
  | { op: HandleOp; handle: string; file?: FileName; value?: number; timeout?: number }
  | {
    op: "mount";
    mount: string;
    handle: string;
    partition?: number;
    options: Omit<MountOptions, "signal" | "at">;
    /** One of the lane's directories. */
    at?: string;
  }
  | { op: "unmount"; mount: string }
  | { op: "writeTable"; file: FileName; table: TableName }
  | { op: "killKeeper" | "die" }
  /** The stranger's. */
  | { op: "strangerAttaches"; number: number; file: FileName }
  | { op: "strangerDetaches"; number: number }
  | { op: "strangerHolds"; number: number; value: number }
  | { op: "strangerMounts"; mount: string; over: string }
  | { op: "strangerMountsDevice"; mount: string; handle: string; partition?: number }
  | { op: "strangerUnmounts"; mount: string }
  | { op: "strangerAddsPartition"; handle: string };

export type Step = Call & { leave: Leave; ms?: number };

export interface Program {
  readonly seed: number;
  readonly index: number;
  readonly kind: string;
  readonly steps: readonly Step[];
}

/** Of two times that are alike, the library's own call and the next one, the program may see either. */
const SHORT_MS = 4;
const OWN: readonly FileName[] = ["own-0", "own-1", "own-2"];

/** A program in the making. */
class Draft {
  readonly steps: Step[] = [];
  readonly random: Random;
  #names = 0;

  constructor(random: Random) {
    this.random = random;
  }

  add(call: Call, leave: Leave = "await", ms?: number): void {
    this.steps.push({ ...call, leave, ...ms === undefined ? {} : { ms } });
  }

  /** Left in whatever way. */
  muddle(call: Call): void {
    const leave = this.random.pick(["await", "race", "tick", "forget"] as const);
    this.add(call, leave, leave === "race" ? this.random.below(SHORT_MS) : undefined);
  }

  /** "a", "b": also what the printed program calls it. */
  name(): string {
    return String.fromCharCode("a".charCodeAt(0) + this.#names++);
  }

  attach(file: FileName = this.random.pick(OWN), more: Partial<AttachOptions> = {}): string {
    const { random } = this;
    const lock = random.pick([undefined, "shared"] as const);
    const options = {
      partscan: random.pick([false, false, true, "userspace"] as const),
      workaround: random.pick(["never", "never", "always"] as const),
      ...lock ? { lock } : {},
      ...random.oneIn(5) ? { readOnly: true } : {},
      ...more,
    };
    const handle = this.name();
    const abort = random.oneIn(6) ? { abort: random.below(3) } : {};
    this.add({ op: "attach", handle, file, options, ...abort });
    return handle;
  }

  operation(handle: string, op: HandleOp): Call {
    const { random } = this;
    switch (op) {
      case "setSectorSize":
        return { op, handle, value: random.pick([512, 4096]) };
      case "setDirectIo":
        return { op, handle, value: random.below(2) };
      case "changeFile":
        return { op, handle, file: random.pick(OWN) };
      case "lock":
        return { op, handle, timeout: random.below(20), value: random.below(2) };
      case "detach":
        return random.oneIn(2) ? { op, handle } : { op, handle, timeout: random.below(20) };
      default:
        return { op, handle };
    }
  }

  /** Goes on in the midst of the last call, if it is one of the library's. */
  pause(): void {
    const last = this.steps.at(-1)!;
    if (/^(stranger|writeTable|killKeeper)/.test(last.op)) return;
    this.steps[this.steps.length - 1] = { ...last, leave: "race", ms: this.random.below(20) };
  }
}

/** Two to eight handles, calls in a muddle, blocks that end in their midst. */
function handles(draft: Draft): void {
  const { random } = draft;
  let open: string[] = [];
  let made = 0;
  const add = () => (made++, open.push(draft.attach()));
  for (let i = random.between(2, 4); i > 0; i--) add();
  for (let step = random.between(4, 12); step > 0; step--) {
    const handle = random.pick(open);
    const op = random.pick([...HANDLE_OPS, "setSectorSize"] as const);
    draft.muddle(draft.operation(handle, op));
    if (!CLOSING.some((name) => name === op)) continue;
    // Once in a while a handle is used that has been closed.
    if (!random.oneIn(4)) open = open.filter((other) => other !== handle);
    if (made < 8) add();
  }
}

/** persist(), detach() and the end of the block at once. */
function ending(draft: Draft): void {
  const { random } = draft;
  const handle = draft.attach();
  const operations = ["persist", "detach", "dispose", "setSectorSize", "isCurrent"] as const;
  for (let i = random.between(2, 5); i > 0; i--) {
    draft.add(draft.operation(handle, random.pick(operations)), "forget");
  }
  draft.add({ op: "dispose", handle });
}

/** The same file many times at once: refused, used again, or all or nothing. */
function overlap(draft: Draft): void {
  const { random } = draft;
  const file = random.pick(OWN);
  if (random.oneIn(3)) return draft.add({ op: "attachAll", file });
  const overlap = random.pick(["refuse", "reuse"] as const);
  const handles = Array.from({ length: random.between(2, 6) }, () => {
    const handle = draft.name();
    draft.add({ op: "attach", handle, file, options: { overlap } }, "forget");
    return handle;
  });
  // The last one is waited for: those before it have been answered by then.
  draft.add({ op: "isCurrent", handle: handles.at(-1)! });
  for (const handle of handles) if (random.oneIn(2)) draft.muddle({ op: "dispose", handle });
}

/** A stranger swaps the files of his device while it is to be used again. */
function swapping(draft: Draft): void {
  const { random } = draft;
  for (let i = 0; i < 6; i++) {
    const file = i % 2 === 0 ? "foreign-0" : "foreign-1";
    draft.add({ op: "strangerAttaches", number: 0, file }, random.pick(["await", "forget"]));
    draft.add({ op: "strangerDetaches", number: 0 }, "forget");
    for (let times = random.between(1, 3); times > 0; times--) {
      const handle = draft.name();
      const options = { overlap: "reuse" } as const;
      draft.add({ op: "attach", handle, file: "foreign-0", options });
      draft.muddle({ op: "dispose", handle });
    }
  }
}

/** A handle of another's device that is left in the midst of its detach(), and then the next one. */
function leaving(draft: Draft): void {
  const { random } = draft;
  draft.add({ op: "strangerAttaches", number: 0, file: "foreign-0" });
  const mine = draft.attach("own-0", { readOnly: false });
  draft.add({ op: "persist", handle: mine });
  const [again, next] = [draft.name(), draft.name()];
  draft.add({ op: "openLoop", handle: again, of: mine });
  draft.add({ op: "detach", handle: again }, "race", random.below(3));
  draft.add({ op: "dispose", handle: again });
  draft.add({ op: "openLoop", handle: next, of: 0 });
  draft.add({ op: "isCurrent", handle: next }, "race", random.below(20));
}

/** detach() of a file on two devices; one is held open, the other gets a new owner meanwhile. */
function detaching(draft: Draft): void {
  draft.add({ op: "strangerAttaches", number: 0, file: "foreign-0" });
  draft.add({ op: "strangerAttaches", number: 1, file: "foreign-0" });
  draft.add({ op: "strangerHolds", number: 0, value: 400 });
  draft.add({ op: "detachFile", file: "foreign-0" }, "race", draft.random.below(20));
  draft.add({ op: "strangerDetaches", number: 1 });
  draft.add({ op: "strangerAttaches", number: 1, file: "foreign-1" });
}

/** Two mounts at least, in any form, and strangers' mounts over, below and beside them. */
function mounting(draft: Draft): void {
  const { random } = draft;
  const disk = random.oneIn(3);
  const file = disk ? "disk" : random.pick(OWN);
  const partscan = disk ? false : random.pick([true, "userspace"] as const);
  const open = [draft.attach(file, { partscan, readOnly: random.oneIn(6), overlap: "refuse" })];
  const mounts: string[] = [];
  const theirs: string[] = [];
  const form = (): Pick<Call & { op: "mount" }, "options" | "at"> => {
    const at = random.oneIn(3) ? { at: random.pick(["d0", "d1"]) } : {};
    const options: MountOptions = random.oneIn(6)
      ? { detached: true }
      : random.oneIn(8)
      ? { owner: 65534 }
      : random.oneIn(6)
      ? { readOnly: true }
      : {};
    return { options, ...options.detached ? {} : at };
  };
  const partition = () => disk ? {} : { partition: random.between(1, 2) };
  const addMount = () => {
    const mount = draft.name();
    mounts.push(mount);
    const handle = random.pick(open);
    draft.muddle({ op: "mount", mount, handle, ...partition(), ...form() });
  };
  addMount();
  const acts: Record<string, () => void> = {
    mount: addMount,
    unmount: () => draft.muddle({ op: "unmount", mount: random.pick(mounts) }),
    cover: () => {
      const mount = draft.name();
      theirs.push(mount);
      const over = random.pick([...mounts, "d0", "d1"]);
      draft.add({ op: "strangerMounts", mount, over });
    },
    beside: () => {
      const mount = draft.name();
      theirs.push(mount);
      draft.add({ op: "strangerMountsDevice", mount, handle: open[0], ...partition() });
    },
    uncover: () => {
      if (theirs.length > 0) draft.add({ op: "strangerUnmounts", mount: random.pick(theirs) });
    },
    killKeeper: () => draft.add({ op: "killKeeper" }),
    operation: () => {
      const op = random.pick(["rescan", "lock", "setSectorSize", "holders", ...CLOSING] as const);
      draft.muddle(draft.operation(random.pick(open), op));
    },
    openLoop: () => {
      const handle = draft.name();
      draft.add({ op: "openLoop", handle, of: open[0] });
      open.push(handle);
    },
  };
  const drawn = ["mount", "mount", "unmount", "unmount", "cover", "cover", "beside", "uncover"];
  const all = [...drawn, "uncover", "killKeeper", "operation", "operation", "openLoop"];
  for (let step = random.between(2, 8); step > 0; step--) acts[random.pick(all)]();
}

/** The table in the file changes, a stranger adds a partition, and the kernel is to be brought in line. */
function tables(draft: Draft): void {
  const { random } = draft;
  const file = random.pick(OWN);
  const write = () => {
    const table = random.pick(["both", "first", "more", "none", "unknown"] as const);
    draft.add({ op: "writeTable", file, table });
  };
  if (random.oneIn(3)) write();
  const open = [draft.attach(file, { partscan: random.pick([false, true, "userspace"] as const) })];
  for (let step = random.between(2, 7); step > 0; step--) {
    const what = random.below(8);
    if (what < 2) write();
    else if (what === 2) draft.add({ op: "strangerAddsPartition", handle: open[0] });
    else if (what === 3) {
      const handle = draft.name();
      draft.add({ op: "openLoop", handle, of: open[0] });
      open.push(handle);
    } else if (what === 4) {
      const mount = draft.name();
      const partition = random.between(1, 2);
      draft.add({ op: "mount", mount, handle: random.pick(open), partition, options: {} });
    } else {
      const op = random.pick(["rescan", "rescan", "rescan", "changeFile", "persist"] as const);
      draft.muddle(draft.operation(random.pick(open), op));
    }
  }
}

/** Any of those, and SIGKILL in its midst. */
function dying(draft: Draft): void {
  const { random } = draft;
  const drawn = random.pick([mounting, mounting, mounting, handles, tables]);
  drawn(draft);
  draft.steps.length = random.between(Math.min(3, draft.steps.length), draft.steps.length);
  if (random.oneIn(2)) draft.pause();
  draft.add({ op: "die" });
}

/** With how often each is drawn. */
const KINDS: Record<string, { weight: number; draw: (draft: Draft) => void }> = {
  handles: { weight: 50, draw: handles },
  ending: { weight: 16, draw: ending },
  overlap: { weight: 10, draw: overlap },
  swapping: { weight: 2, draw: swapping },
  leaving: { weight: 3, draw: leaving },
  detaching: { weight: 1, draw: detaching },
  mounting: { weight: 8, draw: mounting },
  tables: { weight: 8, draw: tables },
  dying: { weight: 2, draw: dying },
};
const DRAWN = Object.entries(KINDS).flatMap(([kind, { weight }]) => Array(weight).fill(kind));

/** The program of that number. With `only`, of kinds whose names match. */
export function draw(seed: number, index: number, only?: RegExp): Program {
  const random = new Random(seed, index);
  const kind = random.pick(only ? DRAWN.filter((kind) => only.test(kind)) : DRAWN);
  const draft = new Draft(random);
  KINDS[kind].draw(draft);
  return { seed, index, kind, steps: draft.steps };
}

/** As a line of a log: "attach a own-0 {…}". */
export function describe({ op, leave, ms, ...rest }: Step): string {
  const words = Object.values(rest).map((value) =>
    typeof value === "object" ? JSON.stringify(value) : String(value)
  );
  const how = leave === "await" ? [] : [`(${leave}${ms === undefined ? "" : ` ${ms} ms`})`];
  return [op, ...words, ...how].join(" ");
}
