/**
 * mountImage() on images laid out as those that people use, and docs/images.md, which is about them.
 * vm/guest/layouts.ts has systemd-dissect beside it.
 */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { LoopError, mountImage } from "../mod.ts";
import { LAYOUTS, SHOWN } from "./cases/layouts.ts";
import { faultsOf } from "./support/image_tree.ts";
import { makeLayout, needsOf } from "./support/layout_images.ts";
import { busyboxImage } from "./support/run_image.ts";
import {
  assertDetached,
  MOD,
  onThisRuntime,
  output,
  ROOT,
  run,
  scratch,
  test as plainTest,
  testsOf,
} from "./support/support.ts";

const read = (path: string) => readFileSync(join(ROOT, path), "utf8");
const digest = (file: string) => createHash("sha256").update(readFileSync(file)).digest("hex");

/** Whether this kernel has the driver; it may have loaded it when it was asked for it. */
function mountable(type: string): boolean {
  return readFileSync("/proc/filesystems", "utf8").split("\n")
    .some((line) => line.split("\t")[1] === type);
}

const test = testsOf("mountImage() of images that people use", [
  ...new Set(LAYOUTS.flatMap(needsOf)),
  "root",
]);

for (const row of LAYOUTS) {
  const { name, of, root, candidates = [] } = row;
  test(`mountImage() mounts ${of} (${name})`, [], async () => {
    const file = scratch(`${name}.img`);
    makeLayout(name, file);
    const before = digest(file);
    if (candidates.length > 0) {
      const { message } = await assertRejects(
        () => mountImage(file, { readOnly: true }),
        LoopError,
      );
      assertStringIncludes(message, `the partitions ${candidates.join(" and ")} `);
    }
    try {
      await using image = await mountImage(file, { readOnly: true, root });
      assertEquals(faultsOf(row, image, mountable), []);
    } catch (error) {
      // Without the driver of its root nothing is left to see.
      assert(!mountable(row.mounts[0].type), `${error}`);
    }
    assertDetached(file);
    assertEquals(digest(file), before, "a read-only image was changed");
  });
}

plainTest(
  "docs/images.md has each layout, what is mounted, and where systemd-dissect differs",
  [],
  () => {
    const page = read("docs/images.md").replaceAll(/ +\|/g, " |");
    for (const { of, mounts, dissect } of LAYOUTS) {
      const mounted = mounts.map(({ point, partition, type }) =>
        [point, partition, type].filter((word) => word !== undefined).join(" ")
      );
      const cells = [of, mounted.join(", "), dissect ?? "the same"];
      assertStringIncludes(page, `| ${cells.join(" | ")} |`);
    }
  },
);

test(
  "each program of docs/images.md runs",
  [],
  () => {
    const page = read("docs/images.md");
    const programs = [...page.matchAll(/^```ts\n([^]*?)^```$/gm)].map(([, code]) => code);
    assert(programs.length >= 4);
    const disk = scratch("disk.img");
    for (const code of programs) {
      makeLayout(/mountImage|partscan/.test(code) ? "arch" : "alpine", disk);
      const file = scratch("program.ts");
      writeFileSync(file, code.replace('"../mod.ts"', JSON.stringify(MOD)));
      const { status, stderr } = run(onThisRuntime(file), { cwd: dirname(disk) });
      assertEquals(status, 0, `${code}\n${stderr}`);
      assertDetached(disk);
    }
  },
);

test(
  "tree_before.sh and mountImage() show a command the same files",
  ["losetup", "umount", "blkid", "partx"],
  async () => {
    const file = scratch("tree.img");
    makeLayout("two-slots", file);
    const command = ["sh", "-c", "cat etc/hostname && ls data/mender && echo kept >data/kept"];
    const script = join(ROOT, "examples/tree_before.sh");
    const before = output(["unshare", "--mount", "sh", script, file, "3", ...command]);
    await using image = await mountImage(file, { root: 3 });
    assertEquals(readFileSync(`${image.path}/data/kept`, "utf8"), "kept\n");
    const after = await image.run(command, { chroot: false, stdout: "piped" });
    assertEquals(new TextDecoder().decode(after.stdout), before);
    assertEquals([before, after.code], ["poky\ndevice_type\n", 0]);
  },
);

test("mount_image.ts runs a command in the image, and passes its exit code on", ["busybox"], () => {
  const file = busyboxImage("box.img");
  const program = onThisRuntime(join(ROOT, "examples/mount_image.ts"), file);
  const inside = ["--", "sh", "-c", "cat && pwd && echo box >/etc/hostname; exit 7"];
  const { status, stdout, stderr } = run([...program, ...inside], { input: "given\n" });
  assertEquals([status, stdout, stderr], [7, "given\n/\n", ""]);
  const written = run([...program, "-r", "--", "sh", "-c", "cat /etc/hostname; >/etc/hostname"]);
  assertEquals([written.status, written.stdout], [1, "box\n"]);
  assertStringIncludes(written.stderr, "Read-only file system");
  assertDetached(file);
});

plainTest("docs/images.md says how many lines tree_before.sh has", [], () => {
  const lines = read("examples/tree_before.sh").split("\n")
    .filter((line) => /^\s*[^#\s]/.test(line));
  const page = read("docs/images.md").replaceAll(/\s+/g, " ");
  assertStringIncludes(page, `does that in ${lines.length} lines,`);
});

test("mount_image.ts prints what docs/images.svg shows", [], () => {
  const session: { command: string; printed: string[] }[] = JSON.parse(read("docs/images.json"));
  assertEquals(session.length, SHOWN.length);
  for (const [i, [name, ...options]] of SHOWN.entries()) {
    const { command, printed } = session[i];
    assertEquals(command, ["bun examples/mount_image.ts", `${name}.img`, ...options].join(" "));
    const file = scratch(`${name}.img`);
    makeLayout(name, file);
    const program = onThisRuntime(join(ROOT, "examples/mount_image.ts"), file, ...options);
    const { stdout, stderr } = run(program);
    const lines = (stdout + stderr).trimEnd().split("\n")
      .map((line) => line.replace(file, `${name}.img`).replace(/loop\d+/, "loop0"));
    // What this kernel has no driver for it cannot show.
    const isShown = (line: string) => mountable("vfat") || !/ vfat$|not mounted/.test(line);
    assertEquals(lines.filter(isShown), printed.filter(isShown), command);
  }
});

plainTest("docs/images.svg is what dev/terminal_picture.ts makes of docs/images.json", [], () => {
  const drawn = output(onThisRuntime(join(ROOT, "dev/terminal_picture.ts")));
  assertEquals(drawn, read("docs/images.svg"));
});
