/**
 * Mounts the images of tests/cases/layouts.ts by mountImage(), and lists what systemd-dissect makes of
 * them: the same tree, unless the layout's data says why not.
 *
 *     bun vm/guest/layouts.ts
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { mountImage } from "../../mod.ts";
import { type Layout, layout, SHOWN } from "../../tests/cases/layouts.ts";
import { differences, faultsOf, mountsOf, parseMtree } from "../../tests/support/image_tree.ts";
import { treeOf } from "../../tests/support/image_tree.ts";
import { unpackSparse } from "../../tests/support/sparse_pack.ts";
import { bound, onThisRuntime } from "../../tests/support/support.ts";
import { progress, report } from "./report.ts";

const FOLDER = "/tmp/layouts";
mkdirSync(FOLDER, { recursive: true });
for (const name of readdirSync("/guest/modules").toSorted()) {
  spawnSync("insmod", [`/guest/modules/${name}`]);
}
const names = unpackSparse(readFileSync("/guest/layouts"), FOLDER);

/** What systemd-dissect finds, or why it mounts nothing. */
function dissect(image: string): Map<string, string> | string {
  const command = ["--fsck=no", "--read-only", "--mtree", image];
  const { status, stdout, stderr } = spawnSync("systemd-dissect", command, { encoding: "utf8" });
  return status === 0 ? parseMtree(stdout) : stderr.trim().replace(`${image}: `, "");
}

/** What is wrong where it says `theirs` of an image in which we see `ours`. */
function compare({ dissect: reason }: Layout, ours: Map<string, string>, theirs: typeof ours) {
  const paths = differences(ours, theirs);
  if (reason === undefined) return paths.map((path) => `systemd-dissect differs in ${path}`);
  return paths.length === 0 ? [`systemd-dissect sees the same, though it ${reason}`] : [];
}

/** What is wrong of one image, and what was seen. */
async function tryImage(row: Layout, image: string): Promise<{ faults: string[]; seen: string }> {
  const theirs = dissect(image);
  const faults: string[] = [];
  {
    await using mounted = await mountImage(image, { readOnly: true, root: row.root });
    faults.push(...faultsOf(row, mounted));
    const seen = mountsOf(mounted).map(({ point, partition = "all", type }) =>
      `${partition} ${point} ${type}`
    );
    const said = typeof theirs === "string" ? theirs : `${theirs.size} paths`;
    if (typeof theirs !== "string") faults.push(...compare(row, treeOf(mounted.path), theirs));
    else if (row.dissect === undefined) faults.push(`systemd-dissect says ${theirs}`);
    return { faults, seen: `${seen.join(", ")}; systemd-dissect: ${said}` };
  }
}

for (const [done, name] of names.entries()) {
  const image = `${FOLDER}/${name}`;
  const row = layout(name);
  const { faults, seen } = await tryImage(row, image).catch((error: Error) => ({
    faults: [error.message],
    seen: "",
  }));
  const left = bound((path) => path === image);
  if (left.length > 0) faults.push(`left: ${left}`);
  report({ event: "result", case: name, of: row.of, why: row.dissect, faults, seen });
  progress(done + 1, names.length);
}

for (const [name, ...options] of SHOWN) {
  const [program, ...args] = onThisRuntime("examples/mount_image.ts", `${FOLDER}/${name}`);
  const { stdout, stderr } = spawnSync(program, [...args, ...options], { encoding: "utf8" });
  const command = ["bun examples/mount_image.ts", `${name}.img`, ...options].join(" ");
  const printed = (stdout + stderr).trimEnd().split("\n")
    .map((line) => line.replace(`${FOLDER}/${name}`, `${name}.img`).replace(/loop\d+/, "loop0"));
  report({
    event: "result",
    case: command,
    faults: [],
    seen: printed[0],
    shown: { command, printed },
  });
}
