/**
 * What part "mounts" kills: attaches IMAGE, mounts in one form after the other, writes, unmounts and
 * detaches, again and again, and says in a line what it is at, and what is saved. Uses nothing but
 * mod.ts.
 */
import { spawnSync } from "node:child_process";
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { release } from "node:os";
import { readOptions } from "../dev/options.ts";
import { attach, type MountOptions } from "../mod.ts";

const HELP = `Usage: torture/mount_subject.ts IMAGE FIRST

What part "mounts" starts, and kills. FIRST is the number of the form of mount to begin with.

  -h, --help  this text`;
const { operands: [image, first] } = readOptions(HELP, {}, { least: 2, most: 2 });

const at = `${image}.at`;
mkdirSync(at, { recursive: true });
const [major, minor] = release().split(".").map(Number);
const takesDetached = major > 6 || major === 6 && minor >= 15;
/** Nobody's processes have this number. */
const USER = 65534;
const FORMS: readonly MountOptions[] = [
  ...[{}, { at }, { owner: USER }],
  ...takesDetached ? [{ detached: true }] : [],
];

const say = (line: string) => void writeSync(1, `${line}\n`);

/** In a user's mount root makes no file. */
function makeFile(folder: string, name: string): void {
  const ids = ["--reuid", `${USER}`, "--regid", `${USER}`, "--clear-groups"];
  const { status } = spawnSync("setpriv", [...ids, "touch", `${folder}/${name}`]);
  if (status !== 0) throw new Error(`setpriv ends with ${status}`);
}

/** Saved: what fsync() has returned of must be there after whatever end. */
function save(folder: string, n: number): void {
  const path = `${folder}/saved-${n}`;
  const fd = openSync(path, "w");
  writeSync(fd, String(n).repeat(500));
  fsyncSync(fd);
  closeSync(fd);
  // Its name, too.
  const directory = openSync(folder, "r");
  fsyncSync(directory);
  closeSync(directory);
  say(`saved ${n}`);
}

for (let n = Number(first);; n++) {
  say("attaching");
  const loop = await attach(image, { partscan: true });
  say(`loop ${loop.number}`);
  say("mounting");
  const form = FORMS[n % FORMS.length];
  const root = await loop.mount(1, form);
  say("writing");
  if (form.owner) { for (const name of [`saved-${n}`, "unsaved"]) makeFile(root.path, name); }
  save(root.path, n);
  writeFileSync(`${root.path}/unsaved`, new Uint8Array(300_000 + n % 7));
  if (n % 3 === 0) unlinkSync(`${root.path}/unsaved`);
  if (n % 5 < 3) {
    say("freezing");
    const frozen = await root.freeze();
    say("frozen, copying");
    // Every third time the unmount does it.
    if (n % 3 !== 0) await frozen.thaw();
  }
  say("unmounting");
  // Every fourth time the end of the handle does it.
  if (n % 4 !== 0) await root.unmount();
  say("detaching");
  await loop.detach();
}
