/**
 * Which of an image's file systems is its root.
 *
 * @module
 */
import { LoopError } from "../base/errors.ts";
import { findInPart } from "../binding/image_table.ts";
import { openWithoutWaiting } from "../kernel/blocking.ts";
import { O_RDONLY } from "../kernel/file.ts";
import { iso9660Size } from "../superblocks/discs.ts";
import { discoverable } from "../table/dps.ts";
import { partsNamed } from "./fstab.ts";
import { lookAt, type Seen } from "./look.ts";
import {
  isMountable,
  listParts,
  type Part,
  type PartitionPart,
  type Parts,
  whyNot,
} from "./parts.ts";
import { byType } from "./types.ts";

/** Looks into the image's file systems; each is looked into once. */
export class Looks {
  readonly #seen = new Map<string, Promise<Seen>>();

  at(part: Part): Promise<Seen> {
    const { path } = part;
    const known = this.#seen.get(path);
    if (known) return known;
    const look = lookAt(part);
    this.#seen.set(path, look);
    return look;
  }
}

/** The root. Rejects with LoopError, which lists the candidates, if nothing decides. */
export async function findRoot(
  { whole, partitions }: Parts,
  looks: Looks,
  signal: AbortSignal | undefined,
): Promise<Part> {
  if (partitions.length === 0 || await isDisc(whole, partitions)) return whole;
  const [typed, ...others] = byType(partitions, "root");
  const isDecided = typed !== undefined && !others.some((one) => differsInKind(one, typed));
  if (isDecided) return typed;
  const mountable = partitions.filter(isMountable);
  const seen = new Map<Part, Seen>();
  for (const part of mountable) {
    signal?.throwIfAborted();
    seen.set(part, await looks.at(part));
  }
  const named = bootedRoot(mountable, seen) ?? rootOfFstab(mountable, seen);
  if (named) return named;
  const systems = mountable.filter((part) => seen.get(part)!.isSystem);
  if (systems.length === 1) return systems[0];
  const only = onlyOneLeft(partitions, mountable);
  if (only) return only;
  throw undecided(whole, partitions, systems, seen);
}

/**
 * The only file system that has no purpose of its own by its type, or the only one at all, where the root
 * cannot be within a container (LVM, LUKS).
 */
function onlyOneLeft(partitions: readonly Part[], mountable: readonly Part[]): Part | undefined {
  const isContainer = ({ content }: Part) =>
    content.some(({ usage }) => usage === "crypto" || usage === "raid");
  if (partitions.some(isContainer)) return undefined;
  const plain = mountable.filter((part) => discoverable(part) === undefined);
  if (plain.length === 1) return plain[0];
  const [one, another] = mountable;
  // A root cannot be made of /usr alone.
  return another === undefined && one && discoverable(one)?.name !== "usr" ? one : undefined;
}

/** File systems that are written to, and so are no file of a disc. */
const WRITTEN = /^(ext[234]|xfs|btrfs|f2fs)$/;

/**
 * What a CD or DVD has is over the whole device; a table is put before it for machines that boot from disks. Its
 * partitions show files of the disc, as the ESP's, or what lies behind it. A file system that is written to,
 * within the disc, was made over it later: programs that make a table and partitions leave the disc's superblock.
 */
async function isDisc(whole: Part, partitions: readonly Part[]): Promise<boolean> {
  if (whole.content.some(({ type }) => type === "udf")) return true;
  if (!whole.content.some(({ type }) => type === "iso9660")) return false;
  const written = partitions.filter(({ content }) =>
    content.some(({ type }) => WRITTEN.test(type))
  );
  if (written.length === 0) return true;
  using device = await openWithoutWaiting(whole.path, O_RDONLY);
  const end = await findInPart(device, { size: whole.size }, iso9660Size()) ?? 0;
  return written.every(({ start }) => start >= end);
}

/** Roots of several foreign architectures: nothing tells which is meant. */
const differsInKind = (a: Part, b: Part): boolean =>
  discoverable(a)?.architecture !== discoverable(b)?.architecture;

/** The one that all boot loaders' configurations in the image name, as far as they name one of it. */
function bootedRoot(parts: readonly Part[], seen: ReadonlyMap<Part, Seen>): Part | undefined {
  const words = [...seen.values()].flatMap(({ roots }) => roots);
  return onlyOne(words.map((word) => partsNamed(word, parts)));
}

/** The one that every fstab names as "/". */
function rootOfFstab(parts: readonly Part[], seen: ReadonlyMap<Part, Seen>): Part | undefined {
  const found = [...seen].flatMap(([part, { fstab }]) => {
    const line = fstab.find(({ point }) => point === "/");
    if (!line) return [];
    const named = partsNamed(line.source, parts);
    // Of two copies of one file system each names both, and means itself.
    return [named.includes(part) ? [part] : named];
  });
  return onlyOne(found);
}

/** What is named, if it is one part and no name fits several. */
function onlyOne(named: readonly (readonly Part[])[]): Part | undefined {
  if (named.some((parts) => parts.length > 1)) return undefined;
  const found = new Set(named.flat());
  return found.size === 1 ? [...found][0] : undefined;
}

function undecided(
  { path }: Part,
  partitions: readonly PartitionPart[],
  systems: readonly Part[],
  seen: ReadonlyMap<Part, Seen>,
): LoopError {
  const numbers = systems.map(({ number }) => number).join(" and ");
  const unseen = [...seen].flatMap(([{ number }, { error }]) =>
    error ? [`; partition ${number} could not be looked into (${error.message})`] : []
  );
  const why = systems.length > 0
    ? `the partitions ${numbers} have an os-release file each, and no boot loader's configuration or ` +
      "fstab names one of them"
    : "none of its partitions has the type of a root, is named by a boot loader's configuration or an " +
      `fstab, or has an os-release file${unseen.join("")}`;
  const hint = `nothing tells which file system is the root: ${why}. Say which with root`;
  return new LoopError({ code: "EINVAL", path, hint, lines: listParts(partitions) });
}

/** Throws where a partition that is the root cannot be mounted. Of a whole device mount() says it best. */
export function refuseRoot(part: Part, partitions: readonly PartitionPart[]): void {
  const why = part.number === undefined ? undefined : whyNot(part);
  if (why === undefined) return;
  const hint = `partition ${part.number} is the root, and ${why}`;
  throw new LoopError({ code: "EINVAL", path: part.path, hint, lines: listParts(partitions) });
}
