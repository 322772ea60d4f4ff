/** What people see who print a device. */
import { assert, assertEquals } from "@std/assert";
import { writeFileSync } from "node:fs";
import process from "node:process";
import { inspect } from "node:util";
import { attach } from "../mod.ts";
import {
  makeImage,
  MOD,
  onThisRuntime,
  output,
  scratch,
  test,
  THREE_PARTITIONS,
} from "./support/support.ts";

const FIELDS =
  "path number backingFile offset sizelimit size sectorSize readOnly directIo diskseq strategy partitions skipped"
    .split(" ");

test("JSON.stringify() of a LoopDevice has every getter's value", ["root"], async () => {
  const file = makeImage("json.img", 8, THREE_PARTITIONS);
  await using loop = await attach(file, { partscan: true, readOnly: true });
  const json = JSON.parse(JSON.stringify(loop));
  assertEquals(Object.keys(json), FIELDS);
  for (const field of FIELDS) {
    assertEquals(json[field], loop[field as keyof typeof loop], field);
  }
  assertEquals(
    [json.backingFile, json.readOnly, json.partitions.length, json.size],
    [file, true, 3, 8 * 1024 * 1024],
  );
});

test("console.log() of a LoopDevice shows the same, at any depth", ["root"], () => {
  const file = makeImage("shown.img", 8, THREE_PARTITIONS);
  const script = scratch("show.ts");
  writeFileSync(
    script,
    `import { attach } from ${JSON.stringify(MOD)};
     await using loop = await attach(${JSON.stringify(file)}, { partscan: true });
     console.log(loop);
     console.log({ loop });`,
  );
  const shown = output(onThisRuntime(script), { env: { ...process.env, NO_COLOR: "1" } });
  assertEquals(shown.match(/LoopDevice \{/g)?.length, 2, shown);
  for (const field of FIELDS) {
    const count = shown.match(new RegExp(`\\b${field}: `, "g"))?.length ?? 0;
    assert(count >= 2, `${field}: ${shown}`);
  }
  assertEquals(shown.match(/name: "zwei ü"|name: 'zwei ü'/g)?.length, 2, shown);
  assert(!shown.includes("Getter"), shown);
});

test("node:util's inspect() of a LoopDevice shows the same", ["root"], async () => {
  await using loop = await attach(makeImage("inspected.img", 1));
  const shown = inspect(loop);
  for (const field of FIELDS) assert(shown.includes(`${field}: `), shown);
});
