/** What a mounted image has in it, for a comparison with the data of tests/cases/layouts.ts. */
import { createHash } from "node:crypto";
import { lstatSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import type { MountedImage } from "../../mod.ts";
import type { ExpectedMount, ExpectedSkip, Layout } from "../cases/layouts.ts";

/** Its mounts, the root first. */
export function mountsOf({ mounts }: MountedImage): ExpectedMount[] {
  const root = readFileSync("/proc/self/mountinfo", "utf8").split("\n");
  return mounts.map(({ point, mount }) => {
    const line = root.findLast((line) => line.split(" ")[4] === mount.path);
    const type = / - (\S+) /.exec(line ?? "")?.[1] ?? "not in the list of mounts";
    const { partition } = mount;
    return { point, ...partition === undefined ? {} : { partition }, type };
  });
}

/**
 * What of a layout's expectations a mounted image does not meet. A mount whose type is not `mountable`
 * shall be listed as skipped, with the type in its reason.
 */
export function faultsOf(
  layout: Layout,
  image: MountedImage,
  mountable: (type: string) => boolean = () => true,
): string[] {
  const found = mountsOf(image);
  const late = found.filter(({ point }, i) =>
    found.slice(0, i).some((earlier) => earlier.point.startsWith(point.replace(/\/?$/, "/")))
  ).map(({ point }) => `${point} is mounted over what was below it`);
  const shown = (mounts: readonly ExpectedMount[]) =>
    mounts.map(({ point, partition = "", type }) => `${point} ${partition} ${type}`).toSorted();
  const expected = shown(layout.mounts.filter(({ type }) => mountable(type)));
  const mounts = shown(found).join() === expected.join() ? [] : [`mounts ${shown(found)}`];
  const unknown = layout.mounts.filter(({ type }) => !mountable(type))
    .map(({ type, ...row }): ExpectedSkip => ({ ...row, reason: new RegExp(type) }));
  const skipped = [...layout.skipped ?? [], ...unknown].filter(({ point, partition, reason }) =>
    !image.skipped.some((row) =>
      (point === undefined || row.point === point) &&
      (partition === undefined || row.partition === partition) && reason.test(row.reason)
    )
  ).map((row) => `not skipped: ${row.point ?? row.partition} for ${row.reason}`);
  if (skipped.length > 0) skipped.push(`skipped is ${JSON.stringify(image.skipped)}`);
  const release = Object.entries(layout.osRelease ?? {})
    .filter(([key, value]) => image.osRelease?.[key] !== value)
    .map(([key, value]) => `${key} is ${image.osRelease?.[key]}, not ${value}`);
  return [...late, ...mounts, ...skipped, ...release];
}

/**
 * Each file by its path, in the words of systemd-dissect --mtree: `type=file uid=0 gid=0 size=2
 * sha256sum=…`. Modes are left out: those of a FAT come from fstab's options.
 */
export function treeOf(root: string): Map<string, string> {
  const found = new Map<string, string>();
  const visit = (path: string) => {
    const full = join(root, path);
    const stat = lstatSync(full);
    const owner = `uid=${stat.uid} gid=${stat.gid}`;
    if (stat.isSymbolicLink()) found.set(path, `type=link ${owner} link=${readlinkSync(full)}`);
    else if (stat.isFile()) {
      const sum = createHash("sha256").update(readFileSync(full)).digest("hex");
      found.set(path, `type=file ${owner} size=${stat.size} sha256sum=${sum}`);
    } else if (stat.isDirectory()) {
      found.set(path, `type=dir ${owner}`);
      for (const name of readdirSync(full).toSorted()) visit(`${path}/${name}`);
    } else found.set(path, `type=other ${owner}`);
  };
  visit(".");
  return found;
}

/** The same of what systemd-dissect --mtree prints. */
export function parseMtree(text: string): Map<string, string> {
  const lines = text.split("\n").filter((line) => line.startsWith("."));
  return new Map(lines.map((line) => {
    const [path, ...words] = line.split(" ");
    const kept = words.filter((word) => !word.startsWith("mode="));
    return [path.replace(/(?<=.)\/$/, ""), kept.join(" ")];
  }));
}

/** Paths that only one of them has, or that are not the same in both. */
export function differences(ours: Map<string, string>, theirs: Map<string, string>): string[] {
  const paths = new Set([...ours.keys(), ...theirs.keys()]);
  return [...paths].filter((path) => ours.get(path) !== theirs.get(path)).toSorted();
}
