/**
 * /proc/self/mountinfo as values: all of it, however long, whatever the names. In a mount namespace of
 * the child's own, beside the file itself.
 */
import { assert, assertEquals } from "@std/assert";
import { writeFileSync } from "node:fs";
import { type Mount, mounts, mountsOfTypes, mountsOn } from "../lib/kernel/mountinfo.ts";
import { isolated, onThisRuntime, output, scratch, test, testsOf } from "./support/support.ts";

const withMounts = testsOf("mounts are read from mountinfo", ["root", "mount"]);

/** Runs `setup` by sh on an empty /mnt; what mounts() then gives, and the lines of the file. */
function mountsAfter(setup: string): { mounts: Mount[]; lines: string[] } {
  const script = scratch("mounts.ts");
  const module = JSON.stringify(new URL("../lib/kernel/mountinfo.ts", import.meta.url));
  writeFileSync(
    script,
    `import { readFileSync } from "node:fs";
     import { mounts } from ${module};
     const found = mounts();
     const lines = readFileSync("/proc/self/mountinfo", "latin1").split("\\n").slice(0, -1);
     console.log(JSON.stringify({ mounts: found, lines }));`,
  );
  const shell = ["sh", "-ec", `${setup}\nexec "$@"`, "sh"];
  const options = { maxBuffer: 2 ** 26 };
  return JSON.parse(
    output([...isolated("tmpfs=/mnt"), ...shell, ...onThisRuntime(script)], options),
  );
}

withMounts("mounts() gives every one of 2 MiB of them", ["root", "mount"], () => {
  // Lines of 4 KiB: a path may have no more.
  const { mounts, lines } = mountsAfter(`
    name=$(printf '%0250d' 0)
    folder=/mnt
    for level in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do folder=$folder/$name; done
    mkdir -p $folder
    for n in $(seq 500); do mount -n -t tmpfs none $folder; done
    mkdir /mnt/last
    mount -n -t tmpfs none /mnt/last`);
  assert(lines.join("\n").length > 1_900_000);
  assertEquals(mounts.length, lines.length);
  const [ids, parents] = [0, 1].map((column) =>
    lines.map((line) => Number(line.split(" ")[column]))
  );
  assertEquals(mounts.map(({ id }) => id), ids);
  assertEquals(mounts.map(({ parent }) => parent), parents);
  assertEquals(mounts.at(-1)?.point, "/mnt/last");
  // Each lies on the one before it.
  const stack = mounts.slice(-500, -1);
  assertEquals(stack.slice(1).map(({ parent }) => parent), stack.slice(0, -1).map(({ id }) => id));
});

withMounts("mounts() gives a mount point as it is named", ["root", "mount"], () => {
  const names = [
    "a b",
    "tab\there",
    "two\nlines",
    "back\\slash \\040",
    "a - b",
    "# no comment",
    "return\rhere",
    "line\u2028separator",
    "\ufeffmark",
    "ü",
    "no\udcfftext",
  ];
  const octal = (name: string) =>
    [...new TextEncoder().encode(name.replace("\udcff", "\u0000"))].map((byte) =>
      `\\${(byte || 0xff).toString(8).padStart(3, "0")}`
    ).join("");
  const { mounts, lines } = mountsAfter(
    names.map((name) => `
      name=$(printf '/mnt/${octal(name)}.')
      mkdir "$name"
      mount -n -t tmpfs 'some - thing' "$name"`).join("\n"),
  );
  assertEquals(mounts.length, lines.length);
  assertEquals(
    mounts.slice(-names.length).map(({ point, type }) => [point, type]),
    names.map((name) => [`/mnt/${name}.`, "tmpfs"]),
  );
});

test("mountsOn() and mountsOfTypes() give those of mounts() that they are asked for", [], () => {
  for (let looks = 1;; looks++) {
    const all = mounts();
    const parents = [...new Set(all.map(({ parent }) => parent)), 0];
    const types = [...new Set(all.map(({ type }) => type)), "nonesuch"];
    const given = [
      parents.map((parent) => mountsOn(parent)),
      types.map((type) => mountsOfTypes([type, "nonesuch"])),
    ];
    const expected = [
      parents.map((wanted) => all.filter(({ parent }) => parent === wanted)),
      types.map((wanted) => all.filter(({ type }) => type === wanted)),
    ];
    // Neighbours mount between the looks, but not always.
    if (looks < 100 && JSON.stringify(given) !== JSON.stringify(expected)) continue;
    assertEquals(given, expected);
    return;
  }
});
