/**
 * The processes that this one may look at, and where their descriptors lead.
 *
 * @module
 */
import { unlessRefused } from "../base/errors.ts";
import { ifAllowed, listDirectory, readLink, readText } from "../kernel/file.ts";
import { type Place, placeOf, placesOf } from "../kernel/stat.ts";
import { UNTOLD } from "../kernel/sysfs.ts";
import { yieldToEventLoop } from "../runtime/event_loop.ts";
import type { Held } from "./kernel_holders.ts";

/** Where a process's descriptors lead, by their numbers. */
export type Links = ReadonlyMap<string, string>;

/** A process with its id. */
export interface Process {
  readonly pid: string;
  readonly links: Links;
}

export async function* processes(): AsyncGenerator<Process> {
  for await (const pid of processIds()) yield processOf(pid);
}

/** By the number of another thread where the first one has ended, and so has no files, and that one has. */
function processOf(pid: string): Process {
  const links = linksOf(pid);
  if (links.size > 0) return { pid, links };
  for (const thread of ifAllowed(() => listDirectory(`/proc/${pid}/task`)) ?? []) {
    const links = linksOf(thread);
    if (links.size > 0) return { pid: thread, links };
  }
  return { pid, links };
}

export async function* processIds(): AsyncGenerator<string> {
  for (const pid of listDirectory("/proc").filter((name) => /^\d+$/.test(name))) {
    await yieldToEventLoop();
    yield pid;
  }
}

export function linksOf(pid: string): Links {
  const folder = `/proc/${pid}/fd`;
  const links = new Map<string, string>();
  for (const fd of ifAllowed(() => listDirectory(folder)) ?? []) {
    const link = linkIn(`${folder}/${fd}`);
    if (link !== undefined) links.set(fd, link);
  }
  return links;
}

/** Where a link of a process leads; undefined: it is gone, or this process may not look. */
export function linkIn(path: string): string | undefined {
  // Any user can have opened a file whose path is too long. The others' paths begin with "/", too.
  return ifAllowed(() => unlessRefused(() => readLink(path), "ENAMETOOLONG") ?? `/${UNTOLD}`);
}

/** "1234 (qemu)" */
export function processName(pid: string): string {
  const comm = ifAllowed(() => readText(`/proc/${pid}/comm`));
  return `${pid}${comm === undefined ? "" : ` (${comm})`}`;
}

/** "loop4p1", if a link leads to a node of a loop device or partition, loopdev's own nodes included. */
export function loopNode(link: string): string | undefined {
  return /^\/dev\/(?:\.loopdev-)?(loop\d+(?:p\d+)?)(?: \(deleted\))?$/.exec(link)?.[1];
}

/** Whether a link can lead to a file of a disk: not to a pipe, a device or a file of /proc or /sys. */
export function canBeOnDisk(link: string): boolean {
  return link.startsWith("/") && !/^\/(dev|proc|sys)\//.test(link);
}

/** What nearly every process has open, and is no disk. */
const NO_DISK = /^\/dev\/(?:null|zero|pts\/|shm\/)/;

/**
 * Descriptors of a process that may be of nodes of these devices: which ones are, {@linkcode nodeAt} says of
 * where they lead. A name does not: LVM has nodes of its own in /dev/mapper, a chroot or a container has the
 * nodes in another folder, and there a name can belong to another device.
 */
export function nodesToAsk({ pid, links }: Process, held: Held): { fd: string; link: string }[] {
  const names = [...held.values()];
  const canBeNode = (link: string) =>
    link.startsWith("/dev/")
      ? !NO_DISK.test(link)
      : names.some((name) => link.endsWith(`/${name}`) || link.endsWith(`/${name} (deleted)`));
  return [...links].filter(([, link]) => canBeNode(link))
    .map(([fd]) => ({ fd, link: `/proc/${pid}/fd/${fd}` }));
}

/** Which of the devices has its node there; undefined: none. */
export function nodeAt(place: Place | undefined, held: Held): string | undefined {
  return place?.type === "block device" ? held.get(place.rdev) : undefined;
}

/** A descriptor of a process. */
export interface Opener {
  readonly pid: string;
  readonly fd: string;
  /** The process, as {@linkcode processName} named it then: it may end meanwhile. */
  readonly by: string;
}

/** Who has a node of these devices open. */
export async function openersOf(held: Held): Promise<Opener[]> {
  const asked: { opener: Opener; link: string }[] = [];
  for await (const one of processes()) {
    const nodes = nodesToAsk(one, held);
    if (nodes.length === 0) continue;
    const { pid } = one;
    const by = processName(pid);
    asked.push(...nodes.map(({ fd, link }) => ({ opener: { pid, fd, by }, link })));
  }
  const places = await placesOf(asked.map(({ link }) => link));
  return asked.flatMap(({ opener }, i) => nodeAt(places[i], held) === undefined ? [] : [opener]);
}

/** As fdinfo shows it of a descriptor that can write: O_WRONLY or O_RDWR; the flags are octal. */
const CAN_WRITE = /^flags:\s*[0-7]*[12]$/m;

/** Who can write to a block device by a descriptor of a node of it, for a message; undefined: nobody in sight. */
export async function describeWriters(device: string): Promise<string | undefined> {
  const rdev = (await placeOf(device))?.rdev;
  if (rdev === undefined) return undefined;
  const held = new Map([[rdev, device.slice(device.lastIndexOf("/") + 1)]]);
  return describe(await openersOf(held), CAN_WRITE);
}

/**
 * Who has a file open, for a message; undefined: nobody in sight. `isIt`: whether a link leads to the file.
 * `kind` matches the fdinfo of the descriptors that are meant: those with a lock. Descriptor `ours` of this
 * process does not count.
 */
export async function describeOpeners(
  isIt: (link: string) => boolean,
  kind: RegExp,
  ours?: number,
): Promise<string | undefined> {
  const self = readLink("/proc/self");
  const openers: Opener[] = [];
  for await (const { pid, links } of processes()) {
    for (const [fd, link] of links) {
      if (!isIt(link) || pid === self && Number(fd) === ours) continue;
      openers.push({ pid, fd, by: processName(pid) });
    }
  }
  return describe(openers, kind);
}

function describe(openers: readonly Opener[], kind: RegExp): string | undefined {
  const self = readLink("/proc/self");
  const shown = new Set<string>();
  for (const { pid, fd, by } of openers) {
    // Not /proc/locks: it names the process that took a lock, which may have left it to a child.
    const info = ifAllowed(() => readText(`/proc/${pid}/fdinfo/${fd}`));
    if (!info || !kind.test(info)) continue;
    shown.add(`${pid === self ? "this process," : "process"} ${by}`);
  }
  return [...shown].join(", ") || undefined;
}
