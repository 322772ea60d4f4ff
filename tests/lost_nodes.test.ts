/** Devices for which a static /dev has no node, or that of another one. */
import { assertEquals } from "@std/assert";
import { writeFileSync } from "node:fs";
import { attachElsewhere, detachElsewhere } from "./support/others.ts";
import {
  isFile,
  losetup,
  makeImage,
  MOD,
  onThisRuntime,
  run,
  scratch,
  sysfs,
  test,
  withoutCapability,
  withStaticDev,
} from "./support/support.ts";

/** A device that somebody else attached; detached at the end. */
function foreign(file: string): { path: string } & Disposable {
  const path = attachElsewhere(file);
  return { path, [Symbol.dispose]: () => void detachElsewhere(path, isFile(file)) };
}

for (const without of [[], ["mknod"]] as const) {
  const named = without.length > 0 ? ", nor can have one" : "";
  test(`attach() with overlap knows a device that /dev has no node for${named}`, [
    "root",
  ], () => {
    const file = makeImage("lost.img", 1);
    using theirs = foreign(file);
    const script = scratch("look.ts");
    writeFileSync(
      script,
      `import { attach, detach, find } from ${JSON.stringify(MOD)};
       const file = ${JSON.stringify(file)};
       const code = (promise) => promise.then(() => "none", ({ code }) => code);
       console.log((await find(file)).map(({ path }) => path).join());
       console.log(await code(attach(file, { overlap: "refuse" })));
       console.log(await code(attach(file, { overlap: "reuse" })));
       console.log(await code(detach(file)));`,
    );
    const command = [
      ...withStaticDev("mknod /dev/loop-control c 10 237"),
      ...without.flatMap(withoutCapability),
      ...onThisRuntime(script),
    ];
    const { stdout, stderr } = run(command);
    assertEquals([stdout, stderr], [`${theirs.path}\nEEXIST\nENOENT\nENOENT\n`, ""]);
    assertEquals(losetup(file).map(({ name }) => name), [theirs.path]);
  });
}

test("attach() asks no other device for what an old node's name says", ["root"], () => {
  const [file, other] = [makeImage("right.img", 1), makeImage("wrong.img", 1)];
  using right = foreign(file);
  using wrong = foreign(other);
  const script = scratch("look.ts");
  writeFileSync(
    script,
    `import { find } from ${JSON.stringify(MOD)};
     for (const file of ${JSON.stringify([file, other])}) {
       console.log((await find(file)).map(({ path }) => path).join());
     }`,
  );
  const minor = sysfs(`${wrong.path.slice(5)}/dev`).split(":")[1];
  // The one has the other's node, which itself has none.
  const setup = `mknod ${right.path} b 7 ${minor}`;
  const { stdout, stderr } = run([...withStaticDev(setup), ...onThisRuntime(script)]);
  assertEquals([stdout, stderr], [`${right.path}\n${wrong.path}\n`, ""]);
});
