/**
 * The tree of an attached image: which file system lies where, and mounting them, parents first.
 *
 * @module
 */
import { afterUndoing, isRefusal, LoopError, orRefusal, printable } from "../base/errors.ts";
import type { DpsName } from "../base/selector.ts";
import type { LoopDevice } from "../device.ts";
import { isThere } from "../kernel/stat.ts";
import type { LoopMount } from "../mount/mounted.ts";
import type { MountOptions } from "../mount/options.ts";
import { driverOf } from "../mount/unknown.ts";
import { discoverable } from "../table/dps.ts";
import { checkFileSystem } from "./check.ts";
import {
  type FstabLine,
  isTag,
  isVirtual,
  MOST_LINES,
  OTHER_DEVICE,
  parseFstab,
  partsNamed,
  refusedOption,
  whyNotMounted,
} from "./fstab.ts";
import { keepUnwritten, type Look, withoutReplay } from "./look.ts";
import type { CheckedImage } from "./options.ts";
import {
  makeMountedImage,
  type MountedImage,
  type SkippedMount,
  type TreeMount,
} from "./mounted_image.ts";
import { parseOsRelease } from "./os_release.ts";
import { type Part, type Parts, readParts, whyNot } from "./parts.ts";
import { findRoot, Looks, refuseRoot } from "./root.ts";
import { listInTree, osReleaseInTree, readInTree } from "./tree_files.ts";
import { byType, isReadOnlyByTable, verityOf } from "./types.ts";

/** What is asked of a tree. */
type Asked = Pick<
  CheckedImage,
  "root" | "check" | "at" | "owner" | "nosuid" | "nodev" | "noexec" | "readOnly" | "signal"
>;

/** What belongs on a point. */
interface Wanted {
  readonly part: Part;
  readonly point: string;
  /** Options of fstab's. */
  readonly options: readonly string[];
  /** fstab's words for it. */
  readonly source?: string;
  readonly type?: string;
}

/** Mounts all of it. On failure everything is undone, the device included, which is the tree's. */
export async function mountTree(loop: LoopDevice, asked: Asked): Promise<MountedImage> {
  try {
    if (asked.check && loop.readOnly) {
      const hint = "check: true repairs what it finds, and the image cannot be written";
      throw new LoopError({ code: "EROFS", path: loop.backingFile, hint });
    }
    return await new TreeBuilder(loop, asked, await readParts(loop)).build();
  } catch (error) {
    // The first error wins.
    throw await afterUndoing(error, loop[Symbol.asyncDispose]());
  }
}

/** A tree that is being mounted. */
class TreeBuilder {
  readonly #loop: LoopDevice;
  readonly #asked: Asked;
  readonly #parts: Parts;
  readonly #mounts: TreeMount[] = [];
  readonly #skipped: SkippedMount[] = [];
  /** Those that a file system's own tool has found sound, or repaired. */
  readonly #checked = new Set<Part>();
  /** Those that fstab has a line for. */
  readonly #inFstab = new Set<Part>();

  constructor(loop: LoopDevice, asked: Asked, parts: Parts) {
    this.#loop = loop;
    this.#asked = asked;
    this.#parts = parts;
  }

  async build(): Promise<MountedImage> {
    const { partitions } = this.#parts;
    const looks = new Looks();
    const root = await this.#root(looks);
    refuseRoot(root, partitions);
    await this.#mountRoot(root, await looks.at(root));
    // Not what the look has seen: the journal that was replayed since may have a newer one.
    const fstab = parseFstab(await readInTree(this.#rootMount, "etc/fstab") ?? "");
    const wanted = this.#wantedByFstab(root, fstab);
    const taken = new Set(fstab.map(({ point }) => plain(point)));
    for (
      const one of inOrder([...this.#usr(root, taken), ...wanted, ...this.#typed(root, taken)])
    ) {
      await this.#mountBelow(one);
    }
    await this.#mountBoot(root, taken);
    this.#listRest(root);
    for (const { number, reason } of this.#loop.skipped) {
      this.#skipped.push({ partition: number, reason });
    }
    if (fstab.length === MOST_LINES) {
      this.#skip({ source: "/etc/fstab", reason: `only its first ${MOST_LINES} lines are read` });
    }
    const text = await osReleaseInTree(this.#rootMount);
    return makeMountedImage({
      loop: this.#loop,
      mounts: this.#mounts,
      skipped: sorted(this.#skipped),
      osRelease: text === undefined ? undefined : parseOsRelease(text),
    });
  }

  get #rootMount(): LoopMount {
    return this.#mounts[0].mount;
  }

  async #root(looks: Looks): Promise<Part> {
    const { root, signal } = this.#asked;
    if (root === undefined) return await findRoot(this.#parts, looks, signal);
    const { number } = await this.#loop.partition(root);
    return this.#parts.partitions.find((part) => part.number === number)!;
  }

  /** By the options that fstab has for "/", and the subvolume in which the system was seen. */
  async #mountRoot(root: Part, { fstab, subvolume }: Look): Promise<void> {
    const line = fstab.find(({ point }) => point === "/");
    const named = line ? this.#named(line) : [];
    const isOther = named.length > 0 && !named.includes(root);
    const words = isOther ? [] : line?.options.filter(isUsable) ?? [];
    const isSubvolume = (word: string) => /^subvol(id)?=/.test(word);
    const chosen = words.filter(isSubvolume);
    const seen = subvolume === undefined ? [] : [`subvol=${subvolume}`];
    const others = words.filter((word) => !isSubvolume(word));
    // Options of an old fstab that this kernel's driver does not take must not keep the root away, nor the number
    // that a subvolume had on another disk.
    const attempts = [chosen.length > 0 ? chosen : seen, seen]
      .flatMap((which) => [[...others, ...which], which])
      .filter((options) => refusedOption(options) === undefined);
    const made = await this.#mountFirst(root, attempts);
    this.#mounts.push({ point: "/", mount: made });
  }

  /** By the first of these options with which it can be mounted. */
  async #mountFirst(part: Part, attempts: readonly (readonly string[])[]): Promise<LoopMount> {
    const hasVerity = this.#verityOf(part).length > 0;
    let failed: { error: LoopError } | undefined;
    for (const options of new Map(attempts.map((each) => [each.join(), each])).values()) {
      try {
        return await this.#mount({ part, point: "/", options }, this.#asked.at, hasVerity);
      } catch (error) {
        if (!isRefusal(error) || this.#asked.signal?.aborted) throw error;
        failed ??= { error };
      }
    }
    // The first error wins.
    throw failed!.error;
  }

  #verityOf(part: Part): readonly Part[] {
    const found = discoverable(part);
    return found ? verityOf(this.#parts.partitions, found) : [];
  }

  /** Checks it if that is asked for, and mounts it. */
  async #mount(
    { part, options, type }: Wanted,
    at: string | URL | undefined,
    hasVerity = false,
  ): Promise<LoopMount> {
    const { check, owner, signal } = this.#asked;
    const found = part.content.find(({ usage }) => usage === "filesystem");
    const driver = found && driverOf(found);
    const readOnly = this.#readOnly(part, hasVerity);
    if (check && driver !== undefined && !readOnly) await this.#check(part, driver);
    // A read-only mount alone replays a journal, and that of an XFS writes to its log even where that is clean.
    if (readOnly && !this.#loop.readOnly) await keepUnwritten(part.path);
    signal?.throwIfAborted();
    return await this.#loop.mount(part.number, {
      ...this.#mountOptions(options, driver, readOnly),
      type: isOneOf(part, type) ? type : undefined,
      at,
      owner,
      signal,
    });
  }

  /** Once: a second mount of it, as of another subvolume, comes when the first one is in use. */
  async #check(part: Part, driver: string): Promise<void> {
    if (this.#checked.has(part)) return;
    await checkFileSystem(driver, part.path);
    this.#checked.add(part);
  }

  /** true: no byte of it changes. undefined: as the file system and fstab have it. */
  #readOnly(part: Part, hasVerity: boolean): true | undefined {
    if (this.#loop.readOnly) return true;
    if (this.#asked.readOnly === false) return undefined;
    return hasVerity || isReadOnlyByTable(part) || undefined;
  }

  /** A stranger wrote fstab: it can forbid, and allows nothing that the caller has not allowed. */
  #mountOptions(
    words: readonly string[],
    driver: string | undefined,
    readOnly: true | undefined,
  ): MountOptions {
    const { nosuid, nodev, noexec } = this.#asked;
    const isDecided: Record<string, unknown> = {
      ...{ suid: true, dev: true, nosuid, nodev, noexec, exec: noexec },
      ...{ rw: true, ro: readOnly ?? (this.#asked.readOnly === false || undefined) },
    };
    const isOfJournal = (word: string) => readOnly && OF_JOURNAL.test(word);
    const kept = words.filter((word) => isDecided[word] === undefined && !isOfJournal(word));
    const needed = driver === undefined
      ? []
      : readOnly
      ? withoutReplay(driver)
      : driver === "xfs"
      ? ["nouuid"]
      : [];
    return { options: [...kept, ...needed], readOnly, nosuid, nodev, noexec };
  }

  /** The partitions that a line of fstab may mean. */
  #named({ source }: FstabLine): readonly Part[] {
    const { whole, partitions } = this.#parts;
    return partsNamed(source, partitions.length > 0 ? partitions : [whole]);
  }

  #wantedByFstab(root: Part, fstab: readonly FstabLine[]): Wanted[] {
    // The kernel's names count where none is a name that is written on the disk.
    const hasTags = fstab.some((line) => isTag(line.source) && this.#named(line).length > 0);
    const points = new Set<string>(["/"]);
    return fstab.flatMap((line) => {
      const point = plain(line.point);
      if (point === "/" || isVirtual(line)) return [];
      const { source, type, options } = line;
      const named = this.#named(line);
      const isOther = hasTags && !isTag(source);
      const all = isTag(source) ? named : named.filter((part) => !isOther && agrees(part, type));
      // Of copies of one file system the root's own lines mean the root.
      const parts = all.includes(root) ? [root] : all;
      for (const part of all) if (part !== root) this.#inFstab.add(part);
      const [part, another] = parts;
      const container = part && whyNot(part);
      const why = container ?? whyNotMounted(line) ??
        (part === undefined
          ? whyNone(line, named, isOther)
          : another !== undefined
          ? `${source} fits the partitions ${parts.map(({ number }) => number).join(" and ")}`
          : points.has(point)
          ? `fstab has another line for ${point}`
          : undefined);
      if (why === undefined) {
        points.add(point);
        return [{ part: part!, point, source, type, options }];
      }
      const meant = another === undefined ? part : undefined;
      this.#skip({ part: meant, source, point: line.point, reason: why });
      return [];
    });
  }

  #skip({ part, source, point, reason }: {
    part?: Part;
    source?: string;
    point?: string;
    reason: string | LoopError;
  }): void {
    const isPoint = point?.startsWith("/");
    this.#skipped.push({
      ...part?.number === undefined ? {} : { partition: part.number },
      ...source === undefined ? {} : { source },
      ...isPoint ? { point } : {},
      // A stranger's fstab is quoted in it.
      reason: typeof reason === "string" ? printable(reason) : reason.message,
    });
  }

  /** By type, and not by fstab. */
  #byType(
    root: Part,
    name: DpsName,
    point: string,
    taken: ReadonlySet<string>,
    architecture?: string,
  ): Wanted[] {
    if (taken.has(point)) return [];
    const [part] = byType(this.#parts.partitions, name, architecture);
    if (part === undefined || part === root || this.#inFstab.has(part)) return [];
    const reason = whyNot(part);
    if (reason === undefined) return [{ part, point, options: [] }];
    this.#skip({ part, point, reason });
    return [];
  }

  #usr(root: Part, taken: ReadonlySet<string>): Wanted[] {
    return this.#byType(root, "usr", "/usr", taken, discoverable(root)?.architecture);
  }

  #typed(root: Part, taken: ReadonlySet<string>): Wanted[] {
    const points = [["home", "/home"], ["srv", "/srv"], ["var", "/var"], [
      "tmp",
      "/var/tmp",
    ]] as const;
    return points.flatMap(([name, point]) => this.#byType(root, name, point, taken));
  }

  /**
   * As systemd-dissect(1) from 255 on: XBOOTLDR on /boot, the ESP there too if that is empty then, and else
   * on /efi. Only on directories that are there and empty.
   */
  async #mountBoot(root: Part, taken: ReadonlySet<string>): Promise<void> {
    const isVfat = ({ content }: Part) => content.some(({ type }) => type === "vfat");
    const optionsOf = (part: Part) => ({ options: [...isVfat(part) ? MASKS : [], "noexec"] });
    const [boot] = this.#byType(root, "xbootldr", "/boot", taken);
    if (boot) await this.#mountIfEmpty({ ...boot, ...optionsOf(boot.part) }, ["/boot"]);
    const points = ["/boot", "/efi"].filter((point) => !taken.has(point));
    const [esp] = this.#byType(root, "esp", points[0] ?? "/efi", taken);
    if (esp) await this.#mountIfEmpty({ ...esp, ...optionsOf(esp.part) }, points);
  }

  async #mountIfEmpty(wanted: Wanted, points: readonly string[]): Promise<void> {
    for (const point of points) {
      const names = this.#has(point)
        ? undefined
        : await orRefusal(() => listInTree(this.#rootMount, point));
      if (names instanceof LoopError) return this.#skip({ ...wanted, point, reason: names });
      if (names?.length === 0) return await this.#mountBelow({ ...wanted, point });
    }
    const which = points.length > 1 ? `neither ${points.join(" nor ")}` : `${points[0]} is not`;
    const verb = points.length > 1 ? " is " : " ";
    this.#skip({
      ...wanted,
      point: undefined,
      reason: `${which}${verb}an empty directory of the root`,
    });
  }

  /** Whether something is mounted on a point. */
  #has(point: string): boolean {
    return this.#mounts.some((one) => one.point === point);
  }

  /** Mounts it below the root. What cannot be mounted is listed. */
  async #mountBelow(wanted: Wanted): Promise<void> {
    const reason = await this.#whyNotHere(wanted);
    if (reason !== undefined) this.#skip({ ...wanted, reason });
  }

  async #whyNotHere(wanted: Wanted): Promise<string | LoopError | undefined> {
    const { point, part, options } = wanted;
    const lacking = this.#skipped.find((one) =>
      one.point !== undefined && isBelow(point, plain(one.point)) && !this.#has(plain(one.point))
    );
    if (lacking) return `it lies below ${lacking.point}, which is not mounted`;
    const refused = refusedOption(options);
    if (refused !== undefined) return `fstab: ${refused}`;
    try {
      const path = await this.#rootMount.resolve(point);
      if (!path.isWellFormed()) {
        const name = JSON.stringify(path.slice(this.#rootMount.path.length));
        return `a link leads from ${point} to ${name}, which is no name in UTF-8`;
      }
      const other = this.#mounts.find(({ mount }) => mount.path === path);
      if (other) {
        return `its point is that of ${other.mount.device}: a link leads from ${point} there`;
      }
      const isMade = options.some((option) => /^x-mount\.mkdir(=|$)/i.test(option));
      if (!isMade && !isThere(path)) return `the root has no directory ${point}`;
      const hasVerity = this.#verityOf(part).length > 0;
      const mount = await this.#mount(wanted, path, hasVerity);
      // The kernel says where it lies: a link may have been put in the way meanwhile.
      if (mount.path !== path) {
        await mount.unmount();
        return `its point changed while it was mounted: it lay on ${mount.path}`;
      }
      this.#mounts.push({ point, mount });
    } catch (error) {
      if (this.#asked.signal?.aborted || !isRefusal(error)) throw error;
      return error;
    }
  }

  /** Each partition is mounted or listed. */
  #listRest(root: Part): void {
    const mounted = new Set(this.#mounts.map(({ mount }) => mount.partition));
    const listed = new Set(this.#skipped.map(({ partition }) => partition));
    for (const part of this.#parts.partitions) {
      if (part === root || mounted.has(part.number) || listed.has(part.number)) continue;
      this.#skip({ part, reason: this.#whyLeft(part, root) });
    }
  }

  #whyLeft(part: Part, root: Part): string {
    const { verity, name } = discoverable(part) ?? {};
    if (verity !== undefined) {
      return `it has dm-verity's data about ${name}, which is mounted without that check, and read-only`;
    }
    const reason = whyNot(part);
    if (reason !== undefined) return reason;
    if (name === "root") return `it is a root, too; partition ${root.number} was taken`;
    return "neither fstab nor its type says where it belongs";
  }
}

/** Why a line means none of the partitions that its source may name. */
function whyNone(
  { source, type }: FstabLine,
  [named]: readonly Part[],
  isOther: boolean,
): string {
  if (!named) return `${source} is nothing of this image`;
  return isOther
    ? `${source} may be another disk's: fstab names those of this one by what is on them`
    : `${source} would be partition ${named.number}, which holds no ${type}`;
}

/** Options that ext4 refuses beside "noload". */
const OF_JOURNAL = /^(data|commit|max_batch_time|min_batch_time|journal_\w+|barrier)(=|$)/;

/** systemd's: an ESP may hold a seed for random numbers, and nothing on it is a program of Linux. */
const MASKS = ["fmask=0177", "dmask=0077"];

/** A point without "." and doubled or trailing slashes. */
function plain(point: string): string {
  return `/${point.split("/").filter((part) => part !== "" && part !== ".").join("/")}`;
}

const isBelow = (point: string, parent: string): boolean => point.startsWith(`${parent}/`);

/** As they are given, but each after those that it lies below. */
function inOrder(wanted: readonly Wanted[]): Wanted[] {
  const ordered: Wanted[] = [];
  const put = (one: Wanted) => {
    if (ordered.includes(one)) return;
    for (const other of wanted) if (isBelow(one.point, other.point)) put(other);
    ordered.push(one);
  };
  for (const one of wanted) put(one);
  return ordered;
}

/** The partitions by their numbers, then what is no partition of the image. */
function sorted(skipped: readonly SkippedMount[]): SkippedMount[] {
  return skipped.toSorted((a, b) => (a.partition ?? Infinity) - (b.partition ?? Infinity) || 0);
}

/** Of two superblocks on one device fstab says which counts. */
const isOneOf = ({ content }: Part, type: string | undefined): boolean =>
  content.length > 1 && content.some((each) => each.type === type);

/** Whether mount() takes an option, and it names no device outside the image. */
const isUsable = (option: string): boolean =>
  refusedOption([option]) === undefined && !OTHER_DEVICE.test(option);

/** Whether a part holds what fstab says that it holds: one of a list of types. */
function agrees({ content }: Part, types: string): boolean {
  return types.split(",").some((type) =>
    type === "auto" ||
    content.some((each) =>
      // A driver of one of these mounts the others, too.
      each.type === type || driverOf(each) === type || (isExt(each.type) && isExt(type))
    )
  );
}

const isExt = (type: string): boolean => /^ext[234]$/.test(type);
