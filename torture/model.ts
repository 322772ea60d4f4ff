/**
 * What the answers of a program's calls say about the kernel: a state machine of devices, handles and mounts,
 * and a search for an order of the calls that explains all answers and what the kernel shows in the end.
 *
 * A call takes effect at one moment between the call and its answer; those of a handle in their order. As
 * long as a call has no answer, the states with and without its effect are both allowed.
 */
import { isRead, numbersIn, STRANGERS_PARTITION } from "./images.ts";
import type { Call, FileName, HandleOp, TableName } from "./programs.ts";
import type { Seen } from "./seen.ts";

/** What came of a call: `ok`, or the error's code or name. */
export interface Answer {
  readonly ok?: unknown;
  readonly error?: string;
  readonly message?: string;
  /** Which use of which device, and the file that sysfs shows of it then. */
  readonly number?: number;
  readonly diskseq?: number;
  readonly shown?: string;
  /** "ID POINT", of a mount that is in a list of mounts. */
  readonly mount?: string;
}

export type Event =
  | { readonly call: number; readonly step: Call }
  | ({ readonly answer: number } & Answer);

/** One use of a device. `parts` and `sector`: undefined where the answers do not say. */
interface Use {
  file: string;
  bound: boolean;
  auto: boolean;
  sector: number;
  scanned: boolean;
  parts: number[] | undefined;
}

interface Handle {
  use: string;
  own: boolean;
  is: "open" | "detached" | "persistent" | "closed";
  /** The partitions that a table had when this handle last read one. */
  known: number[];
}

interface Mounted {
  use?: string;
  partition?: number;
  handle?: string;
  /** What lies on one another there. */
  place: string;
  line?: string;
}

export interface State {
  uses: Record<string, Use>;
  handles: Record<string, Handle>;
  /** In the order in which they were mounted. */
  mounts: Record<string, Mounted>;
  /** Where each mount was made, for what is mounted there after its end. */
  places: Record<string, string>;
  tables: Partial<Record<FileName, TableName>>;
  /** Those that were in a file before: the page cache of a device still has what was read through it. */
  earlier: Partial<Record<FileName, TableName[]>>;
  keeper: boolean;
}

interface Made {
  readonly id: number;
  readonly step: Call;
  readonly answer: Answer | undefined;
  /** Whether another call for the same file was under way beside it. */
  readonly beside: boolean;
  /** Whether no call at all was. */
  readonly alone: boolean;
}

const tableOf = (state: State, file: string): TableName =>
  state.tables[file as FileName] ?? (file === "disk" ? "none" : "both");
const isStrangers = (mount: Mounted) => mount.handle === undefined;
const above = (state: State, name: string): string[] => {
  const names = Object.keys(state.mounts);
  const { place } = state.mounts[name];
  return names.slice(names.indexOf(name) + 1).filter((one) => state.mounts[one].place === place);
};

/** A device with LO_FLAGS_AUTOCLEAR goes with its last user. */
function letGo(state: State, id: string): void {
  const use = state.uses[id];
  const isOpen = Object.values(state.handles).some((one) => one.use === id && one.is === "open");
  const isMounted = Object.values(state.mounts).some((one) => one.use === id);
  if (use?.auto && !isOpen && !isMounted) use.bound = false;
}

/** Whether it could be: a stranger's mount over it, or over one that lies on it, is in the way. */
function unmount(state: State, name: string): boolean {
  const covering = above(state, name);
  if (covering.some((one) => isStrangers(state.mounts[one]))) return false;
  for (const one of [name, ...covering]) {
    const { use } = state.mounts[one];
    delete state.mounts[one];
    if (use !== undefined) letGo(state, use);
  }
  return true;
}

function unmountAll(state: State, handle: string): boolean {
  const names = Object.keys(state.mounts).filter((one) => state.mounts[one].handle === handle);
  return names.reverse().map((one) => !(one in state.mounts) || unmount(state, one)).every(Boolean);
}

/** What a rescan makes of a device's partitions. */
function rescan({ use, known }: { use: Use; known: number[] }, table: TableName): number[] {
  const now = numbersIn(table);
  const before = use.parts;
  // Sectors of another size: the same numbers mean other places.
  use.parts = use.sector !== 512
    ? undefined
    : isRead(table)
    ? now
    : before?.filter((number) => !known.includes(number));
  return now;
}

type Op<N extends Call["op"]> = Call & { op: N };

function attached(state: State, call: Op<"attach">, { answer, beside }: Made): State[] {
  const { file, options, handle } = call;
  const live = Object.keys(state.uses).filter((id) => {
    const use = state.uses[id];
    return use.bound && use.file === file;
  });
  const overlap = options.overlap ?? "allow";
  if (!answer) return [state];
  if (answer.error === "AbortError") return call.abort === undefined ? [] : [state];
  if (answer.error === "EEXIST") {
    return overlap !== "allow" && (live.length > 0 || beside) ? [state] : [];
  }
  // Others attach and detach it all the time.
  if (answer.error === "EBUSY") return overlap === "reuse" && beside ? [state] : [];
  if (answer.error) return [];
  const id = `${answer.number}:${answer.diskseq}`;
  if (answer.shown !== file) return [];
  const known = state.uses[id];
  if (known) {
    if (overlap !== "reuse") return [];
    // One that just ends is opened again.
    known.bound = true;
    state.handles[handle] = { use: id, own: false, is: "open", known: [] };
    return [state];
  }
  if (overlap !== "allow" && live.length > 0) return [];
  const table = options.partscan ? numbersIn(tableOf(state, file)) : [];
  const use = { file, bound: true, auto: true, sector: 512, scanned: Boolean(options.partscan) };
  state.uses[id] = { ...use, parts: table };
  state.handles[handle] = { use: id, own: true, is: "open", known: table };
  return [state];
}

function opened(state: State, call: Op<"openLoop">, { answer }: Made): State[] {
  if (!answer || ["ENXIO", "ENOENT", "Gone"].includes(answer.error!)) return [state];
  const id = `${answer.number}:${answer.diskseq}`;
  const use = state.uses[id];
  if (answer.error || !use || answer.shown !== use.file) return [];
  use.bound = true;
  const earlier = state.earlier[use.file as FileName] ?? [];
  return [tableOf(state, use.file), ...earlier].map((table) => {
    const known = (use.parts ?? []).filter((one) => numbersIn(table).includes(one));
    const next = structuredClone(state);
    next.handles[call.handle] = { use: id, own: false, is: "open", known };
    return next;
  });
}

/** detach(), and the end of the block. */
function ended(state: State, name: string, op: "detach" | "dispose", answer?: Answer): State[] {
  const handle = state.handles[name];
  const isQuiet = op === "dispose" ? handle.is !== "open" : handle.is === "detached";
  if (isQuiet) return !answer?.error || answer.error === "EBUSY" ? [state] : [];
  if (handle.is !== "open") return !answer || answer.error === "TypeError" ? [state] : [];
  const isUnmounted = unmountAll(state, name);
  handle.is = op === "detach" || handle.own ? "detached" : "closed";
  const use = state.uses[handle.use];
  if (op === "detach") use.auto = true;
  // Those that were added go before the device does, even if somebody just opens it.
  use.parts = undefined;
  letGo(state, handle.use);
  if (!answer) return [state];
  // An unmount() may have said so already.
  const isExplained = answer.error === undefined || !isUnmounted && answer.error === "EBUSY";
  return isExplained ? [state] : [];
}

/** Another backing file is another use for all who have the device. */
function rename(state: State, before: string, now: string): void {
  state.uses[now] = state.uses[before];
  if (now !== before) delete state.uses[before];
  for (const one of [...Object.values(state.handles), ...Object.values(state.mounts)]) {
    if (one.use === before) one.use = now;
  }
}

/** The other operations of a handle. */
function changed(state: State, call: Call & { handle: string }, answer?: Answer): State[] {
  const handle = state.handles[call.handle];
  const use = state.uses[handle.use];
  const isAgain = call.op === "persist" && handle.is === "persistent";
  if (isAgain) return answer?.error ? [] : [state];
  if (handle.is !== "open") return !answer || answer.error === "TypeError" ? [state] : [];
  if (answer?.error) {
    if (answer.error === "TypeError") return [];
    // A device may be half changed then; but EBUSY changes nothing.
    if (call.op === "rescan" && answer.error !== "EBUSY") use.parts = undefined;
    return call.op === "persist" ? [] : [state];
  }
  const before = answer ? [] : [structuredClone(state)];
  if (call.op === "persist") {
    handle.is = "persistent";
    use.auto = false;
  } else if (call.op === "setSectorSize") use.sector = call.value!;
  else if (call.op === "rescan") {
    handle.known = rescan({ use, known: handle.known }, tableOf(state, use.file));
  } else if (call.op === "changeFile") {
    use.file = call.file!;
    if (use.scanned || use.parts?.length !== 0) use.parts = undefined;
    if (answer) rename(state, handle.use, `${answer.number}:${answer.diskseq}`);
  }
  return [...before, state];
}

/** A partition, or a whole disk, that nothing keeps from being mounted. */
function mustMount(state: State, call: Op<"mount">, { alone }: Made): boolean {
  const { partition, options } = call;
  const { use: id, known } = state.handles[call.handle];
  const { bound, sector, file, parts } = state.uses[id];
  // A handle does not hear of what another one finds.
  const isThere = partition === undefined
    ? file === "disk"
    : [known, parts, numbersIn(tableOf(state, file))].every((all) => all?.includes(partition));
  // These need what not every kernel has.
  const isPlain = !options.detached && options.owner === undefined;
  const isUsed = Object.values(state.mounts).some((one) =>
    one.use === id && one.partition === partition
  );
  return alone && bound && sector === 512 && Boolean(isThere) && isPlain && !isUsed;
}

/** What it takes to be mounted: `place` is what mounts lie on. */
function mounted(state: State, name: string, mount: Mounted, answer?: Answer): State[] {
  const before = structuredClone(state);
  if (mount.handle !== undefined) state.keeper = true;
  if (!answer) return [before, state];
  state.mounts[name] = { ...mount, line: answer.mount };
  state.places[name] = mount.place;
  return [state];
}

function unmounted(state: State, name: string, answer?: Answer): State[] {
  // Unmounted with its handle, or with what it lay on.
  if (!(name in state.mounts)) return !answer?.error || answer.error === "EBUSY" ? [state] : [];
  const before = structuredClone(state);
  if (!unmount(state, name)) return !answer || answer.error === "EBUSY" ? [state] : [];
  if (!answer) return [before, state];
  return answer.error === undefined ? [state] : [];
}

/**
 * SIGKILL: what the process had open is closed, and its keeper unmounts, except what others cover. Without a
 * keeper the next mount() of any process does, if there is one.
 */
function died(state: State, isKept: boolean): State {
  for (const handle of Object.values(state.handles)) if (handle.is === "open") handle.is = "closed";
  for (const name of Object.keys(state.mounts).reverse()) {
    const mount = state.mounts[name];
    if (!mount || isStrangers(mount) || !isKept && mount.line !== undefined) continue;
    const isCovered = above(state, name).length > 0;
    if (!isCovered) delete state.mounts[name];
  }
  for (const id of Object.keys(state.uses)) letGo(state, id);
  return state;
}

/**
 * After its death another process's mount() may take away the directory of a mount that is covered: one in
 * another mount namespace sees no mount there, and its rmdir() unmounts in all namespaces.
 */
function adopted(state: State): State {
  for (const [name, mount] of Object.entries(state.mounts)) {
    if (!/^(d\d|beside)$/.test(mount.place)) delete state.mounts[name];
  }
  for (const id of Object.keys(state.uses)) letGo(state, id);
  return state;
}

/** The states that the call, with this answer, can have made of one. None: the answer is wrong. */
function effects(before: State, made: Made): State[] {
  const state = structuredClone(before);
  const { step: call, answer } = made;
  switch (call.op) {
    case "attach":
      return attached(state, call, made);
    case "attachAll":
      return answer?.ok ? [] : [state];
    case "openLoop":
      return opened(state, call, made);
    case "detach":
    case "dispose":
      return ended(state, call.handle, call.op, answer);
    case "mount": {
      const handle = state.handles[call.handle];
      if (handle.is !== "open") return !answer || answer.error === "TypeError" ? [state] : [];
      if (answer?.error) {
        return answer.error === "TypeError" || mustMount(state, call, made) ? [] : [state];
      }
      const { handle: name, mount, partition, at } = call;
      const one = { use: handle.use, partition, handle: name, place: at ?? mount };
      return mounted(state, mount, one, answer);
    }
    case "unmount":
      return unmounted(state, call.mount, answer);
    case "writeTable":
      (state.earlier[call.file] ??= []).push(tableOf(state, call.file));
      state.tables[call.file] = call.table;
      return [state];
    case "killKeeper":
      state.keeper = false;
      return [state];
    case "die":
      return [
        died(structuredClone(state), true),
        adopted(died(structuredClone(state), true)),
        ...state.keeper ? [] : [died(state, false)],
      ];
    case "detachFile":
      return detachedByName(state, (use) => use.file === call.file);
    default:
      return "handle" in call && call.op !== "strangerMountsDevice" &&
          call.op !== "strangerAddsPartition"
        ? changed(state, call, answer)
        : byStranger(state, call, answer);
  }
}

function detachedByName(state: State, isMeant: (use: Use, id: string) => boolean): State[] {
  for (const [id, use] of Object.entries(state.uses)) {
    if (!use.bound || !isMeant(use, id)) continue;
    use.auto = true;
    letGo(state, id);
  }
  return [state];
}

function byStranger(state: State, call: Call, answer?: Answer): State[] {
  if (!answer || answer.error) return [state];
  switch (call.op) {
    case "strangerAttaches": {
      const use = { file: call.file, bound: true, auto: false, sector: 512, scanned: false };
      state.uses[`${answer.number}:${answer.diskseq}`] = { ...use, parts: [] };
      return [state];
    }
    case "strangerDetaches":
      return detachedByName(state, (_, id) => id.startsWith(`${answer.number}:`));
    case "strangerMounts": {
      const place = state.places[call.over] ?? call.over;
      return mounted(state, call.mount, { place }, answer);
    }
    case "strangerMountsDevice": {
      const { use } = state.handles[call.handle];
      const { mount, partition } = call;
      return mounted(state, mount, { use, partition, place: "beside" }, answer);
    }
    case "strangerUnmounts": {
      const use = state.mounts[call.mount]?.use;
      delete state.mounts[call.mount];
      if (use !== undefined) letGo(state, use);
      return [state];
    }
    case "strangerAddsPartition": {
      const use = state.uses[state.handles[call.handle].use];
      use.parts = use.parts && [...use.parts, STRANGERS_PARTITION.number];
      return [state];
    }
    default:
      return [state];
  }
}

/** They change nothing, or wait beside the queue. */
const WITHOUT_EFFECT: readonly HandleOp[] = ["holders", "isCurrent", "lock", "settled"];
const isWithoutEffect = ({ op }: Call) => WITHOUT_EFFECT.some((name) => name === op);

/** Calls of one queue take effect in their order. */
const queueOf = (call: Call): string | undefined =>
  call.op === "unmount" ? `unmount ${call.mount}` : "handle" in call ? call.handle : undefined;

/** What must hold when the answer comes, and not only when the call takes effect. */
function holdsThen(state: State, { step, answer }: Made): boolean {
  if (step.op !== "detach" || answer?.ok !== "detached") return true;
  return !state.uses[state.handles[step.handle].use].bound;
}

/** Why no order of the calls explains the answers, or undefined; `accept` gets each possible last state. */
export function explain(
  events: readonly Event[],
  accept: (state: State) => boolean,
): { unexplained?: Made; isAccepted: boolean } {
  const calls = callsOf(events);
  const seen = new Set<string>();
  let furthest = -1;
  const go = (at: number, pending: readonly number[], state: State): boolean => {
    const key = `${at} ${pending} ${JSON.stringify(state)}`;
    if (seen.has(key)) return false;
    seen.add(key);
    furthest = Math.max(furthest, at);
    const event = events[at];
    if (event && "call" in event) {
      const isPending = !isWithoutEffect(event.step);
      return go(at + 1, isPending ? [...pending, event.call] : pending, state);
    }
    // Without an answer, a call may have had no effect; but the process has died.
    const hasDied = !pending.some((id) => calls.get(id)!.step.op === "die");
    if (!event && hasDied && accept(state)) return true;
    const answered = event && calls.get(event.answer)!;
    if (answered && !pending.includes(answered.id) && holdsThen(state, answered)) {
      if (go(at + 1, pending, state)) return true;
    }
    // The one whose answer this is first: most often that is all it takes.
    const order = [...pending].sort((a, b) =>
      Number(b === answered?.id) - Number(a === answered?.id)
    );
    return order.some((id) => {
      const made = calls.get(id)!;
      const queue = queueOf(made.step);
      const first = pending.find((one) => queueOf(calls.get(one)!.step) === queue);
      if (queue !== undefined && first !== id) return false;
      const rest = pending.filter((one) => one !== id);
      return effects(state, made).some((next) => go(at, rest, next));
    });
  };
  const isAccepted = go(0, [], {
    uses: {},
    handles: {},
    mounts: {},
    places: {},
    tables: {},
    earlier: {},
    keeper: true,
  });
  const stuck = events[furthest];
  const unexplained = isAccepted || !stuck
    ? undefined
    : calls.get((stuck as { answer: number }).answer);
  return { unexplained, isAccepted };
}

function callsOf(events: readonly Event[]): Map<number, Made> {
  const calls = new Map<number, Made>();
  const fileOf = (call: Call) => "file" in call ? call.file : undefined;
  events.forEach((event, at) => {
    if (!("call" in event)) return;
    const { call: id, step } = event;
    const end = events.findIndex((one) => "answer" in one && one.answer === id);
    const answer = end < 0 ? undefined : events[end] as Event & Answer;
    const others = events.flatMap((other, i) => {
      if (!("call" in other) || other.call === id) return [];
      const its = events.findIndex((one) => "answer" in one && one.answer === other.call);
      return (end < 0 || i < end) && (its < 0 || its > at) ? [other.step] : [];
    });
    const beside = others.some((other) => fileOf(other) === fileOf(step));
    calls.set(id, { id, step, answer, beside, alone: others.length === 0 });
  });
  return calls;
}

/** In what the kernel differs from a state; nothing: it is as the state says. */
export function differences(state: State, { devices, mounts }: Seen): string[] {
  const wrong: string[] = [];
  const nameOf = (id: string) =>
    Object.entries(state.handles).find(([, { use }]) => use === id)?.[0] ??
      `loop${id.split(":")[0]}`;
  for (const [id, use] of Object.entries(state.uses)) {
    const is = devices[id];
    const name = nameOf(id);
    if (use.bound !== (is !== undefined)) {
      wrong.push(`${name} is ${is ? "still" : "not"} bound`);
    }
    if (!is || !use.bound) continue;
    if (is.file !== use.file) wrong.push(`${name} shows ${is.file}, not ${use.file}`);
    if (is.auto !== use.auto) wrong.push(`autoclear of ${name} is ${is.auto ? "on" : "off"}`);
    if (is.sector !== use.sector) {
      wrong.push(`${name} has sectors of ${is.sector} bytes, not ${use.sector}`);
    }
    const parts = use.parts && [...new Set(use.parts)].sort((a, b) => a - b);
    if (parts && `${parts}` !== `${is.parts}`) {
      wrong.push(`${name} has partitions [${is.parts}], not [${parts}]`);
    }
  }
  for (const [id, { file }] of Object.entries(devices)) {
    if (!(id in state.uses)) wrong.push(`a device of nobody's is bound to ${file}`);
  }
  for (const [name, { line }] of Object.entries(state.mounts)) {
    if (line !== undefined && !mounts.has(line)) wrong.push(`mount ${name} is gone`);
  }
  return wrong;
}

/** Mounts that were made, and are not in the state any more, but in the list. */
export function leftMounts(events: readonly Event[], state: State, { mounts }: Seen): string[] {
  const expected = new Set(Object.values(state.mounts).map(({ line }) => line));
  const made = events.flatMap((event) =>
    "answer" in event && event.mount !== undefined ? [event.mount] : []
  );
  return [...new Set(made)].filter((line) => mounts.has(line) && !expected.has(line))
    .map((line) => `mount ${line.split(" ")[1]} is still there`);
}
