/**
 * mount() in all its forms, once each: what is mounted lies where it should with the attributes that were
 * asked for, takes a file, and is gone after the end. What this kernel cannot do is refused with the words
 * that say since when it can.
 */
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { spawnSync } from "node:child_process";
import process from "node:process";
import { kernelRelease } from "../../lib/kernel/release.ts";
import {
  attach,
  type AttachOptions,
  type LoopMount,
  mount,
  mountImage,
  type MountOptions,
  type PartitionSelector,
} from "../../mod.ts";
import { until } from "../../tests/support/support.ts";
import { differing, type Finding, refusalOf, tryCase, unsaid } from "./cases.ts";
import { isBound, run } from "./image.ts";

const WORK = "/tmp/forms";
const AT = `${WORK}/at`;
/** The file system of partition 1. */
const FIRST = { offset: 1024 * 1024, sizelimit: 8 * 1024 * 1024 };
const USER = 1000;

interface Form {
  image?: "vfat.img";
  /** Default: with partitions. */
  attach?: AttachOptions;
  selector?: PartitionSelector;
  mount?: MountOptions;
  /** Words of its line in mountinfo, and words that the line has not. */
  words?: readonly string[];
  without?: readonly string[];
  /** The first series whose kernels can do it; what the others answer says so. */
  since?: string;
}

/** mount() of a loop device. The keys are the names of the rows. */
const FORMS: Record<string, Form> = {
  "partition by number": { selector: 1, words: ["rw", "nosuid", "nodev"], without: ["noexec"] },
  "partition by name": { selector: { name: "second" } },
  "partitions of BLKPG": { attach: { partscan: "userspace" }, selector: 2 },
  "whole device": { attach: FIRST },
  "whole device, vfat": {
    image: "vfat.img",
    attach: {},
    mount: { options: [`uid=${USER}`, "umask=077"] },
    words: [`uid=${USER}`],
  },
  "at": { selector: 1, mount: { at: AT } },
  "at, made by x-mount.mkdir": {
    selector: 1,
    mount: { at: `${WORK}/made/below`, options: ["x-mount.mkdir"] },
  },
  "read-only": { selector: 1, mount: { readOnly: true }, words: ["ro"] },
  "read-only device": { attach: { partscan: true, readOnly: true }, selector: 1, words: ["ro"] },
  "options": {
    selector: 1,
    mount: { type: "ext4", options: ["noatime", "data=journal"], noexec: true },
    words: ["noatime", "noexec", "data=journal", "errors=remount-ro"],
  },
  "suid and dev": {
    selector: 1,
    mount: { nosuid: false, nodev: false },
    without: ["nosuid", "nodev"],
  },
  "nosymfollow": {
    selector: 1,
    mount: { options: ["nosymfollow"] },
    words: ["nosymfollow"],
    since: "5.14",
  },
  "owner": { selector: 1, mount: { owner: USER }, words: ["idmapped"], since: "5.12" },
  "owner, at": { selector: 1, mount: { owner: USER, at: AT }, since: "5.12" },
  "detached": { selector: 1, mount: { detached: true }, since: "6.15" },
  "detached, whole device": { attach: FIRST, mount: { detached: true }, since: "6.15" },
};

const [major, minor] = kernelRelease().split(".").map(Number);

function isBefore(since: string): boolean {
  const [a, b] = since.split(".").map(Number);
  return major < a || major === a && minor < b;
}

/** Of a device, in this process's namespace. */
const linesOf = (device: string) =>
  readFileSync("/proc/self/mountinfo", "utf8").split("\n")
    .filter((line) => line.split(" - ")[1]?.split(" ")[1] === device);

const imageOf = (name = "ext4.img") => `${WORK}/${name}`;

/** What is wrong of a mount while it is there; leaves a file in it. */
function lookInto(root: LoopMount, form: Form): (string | undefined)[] {
  const lines = linesOf(root.device);
  if (form.mount?.detached) return [differing("lines in mountinfo", lines.length, 0)];
  if (lines.length !== 1) return [`${lines.length} lines in mountinfo`];
  const words = lines[0].split(/[ ,]/);
  return [
    differing("place", lines[0].split(" ")[4], root.path),
    differing("without", form.words?.filter((word) => !words.includes(word)) ?? [], []),
    differing("with", form.without?.filter((word) => words.includes(word)) ?? [], []),
  ];
}

/** A user's mount takes no file of root's. */
function write(root: LoopMount, form: Form): string | undefined {
  const file = `${root.path}/written`;
  if (form.mount?.owner !== undefined) {
    const ids = ["--reuid", `${USER}`, "--regid", `${USER}`, "--clear-groups"];
    const { stderr } = spawnSync("setpriv", [...ids, "sh", "-c", 'echo x >"$0"', file], {
      encoding: "utf8",
    });
    // Of a directory of the caller's it is for him to say who may enter it.
    if (stderr !== "") return `the user: ${stderr.trim()}`;
  } else if (root.readOnly) {
    try {
      writeFileSync(file, "x");
      return "it takes a file";
    } catch {
      return undefined;
    }
  } else writeFileSync(file, "x");
  rmSync(file);
  return undefined;
}

async function tryForm(form: Form): Promise<Finding> {
  const image = imageOf(form.image);
  const loop = await attach(image, form.attach ?? { partscan: true });
  const faults: (string | undefined)[] = [];
  let refused: string | undefined;
  if (form.since !== undefined && isBefore(form.since)) {
    refused = await refusalOf(() => loop.mount(form.selector, form.mount)) ?? "it was not refused";
    faults.push(unsaid("the error", refused, `Linux ${form.since}`, kernelRelease()));
  } else {
    const root = await loop.mount(form.selector, form.mount);
    faults.push(...lookInto(root, form), write(root, form));
    faults.push(differing("unmount()", await root.unmount(), "unmounted"));
    const isOurs = form.mount?.at === undefined;
    if (isOurs && existsSync(root.path)) faults.push(`${root.path} is still there`);
  }
  faults.push(differing("mounts", linesOf(loop.path), []));
  faults.push(differing("detach()", await loop.detach(), "detached"), leftOf(image));
  return { refused, faults };
}

const leftOf = (image: string) => isBound(image) ? `${image} is still attached` : undefined;

/** mount(), of any device. */
async function tryDevice(): Promise<Finding> {
  await using loop = await attach(imageOf(), { partscan: true });
  const root = await mount(loop.partitions[1].path);
  const faults = [...lookInto(root, {}), write(root, {})];
  return { faults: [...faults, differing("unmount()", await root.unmount(), "unmounted")] };
}

/** mountImage(), of a root with a directory for the other partition. */
async function tryImage(at?: string): Promise<Finding> {
  {
    await using loop = await attach(imageOf(), { partscan: true });
    await using root = await loop.mount(1);
    mkdirSync(`${root.path}/etc`, { recursive: true });
    mkdirSync(`${root.path}/home`, { recursive: true });
    writeFileSync(`${root.path}/etc/os-release`, "ID=image\n");
    writeFileSync(`${root.path}/etc/fstab`, "PARTLABEL=second /home ext4 defaults,nofail 0 2\n");
  }
  const mounted = await mountImage(imageOf(), { root: { name: "first" }, at });
  const faults = [
    differing("points", mounted.mounts.map(({ point }) => point), ["/", "/home"]),
    differing("skipped", mounted.skipped, []),
    at === undefined ? undefined : differing("path", mounted.path, at),
    differing("lines", mounted.mounts.map(({ mount: { device } }) => linesOf(device).length), [
      1,
      1,
    ]),
  ];
  writeFileSync(await mounted.resolve("/home/written"), "x");
  faults.push(differing("unmount()", await mounted.unmount(), "unmounted"), leftOf(imageOf()));
  return { faults };
}

/** Two mounts of one file system, frozen and trimmed meanwhile. */
async function tryTwice(): Promise<Finding> {
  await using loop = await attach(imageOf(), { partscan: true });
  await using first = await loop.mount(1);
  await using second = await loop.mount(1);
  const faults = [
    differing("lines", linesOf(first.device).length, 2),
    differing("holders", (await loop.holders()).filter(({ kind }) => kind === "mount").length, 2),
  ];
  {
    await using _frozen = await first.freeze();
    faults.push(differing("files", readdirSync(second.path).length > 0, true));
  }
  const trimmed = await second.trim();
  return { seen: `${trimmed} bytes trimmed`, faults };
}

/** A process in it: the mount goes with the process. */
async function tryBusy(): Promise<Finding> {
  const loop = await attach(imageOf(), { partscan: true });
  const root = await loop.mount(2);
  const script = 'cd "$0" && (sleep 100 >/dev/null 2>&1 & echo $!)';
  const pid = Number(run(["sh", "-c", script, root.path]));
  const unmounted = await root.unmount();
  const detached = await loop.detach({ onDeferred() {} });
  const faults = [
    differing("unmount(), detach()", [unmounted, detached], ["deferred", "deferred"]),
    differing("mounts", linesOf(root.device), []),
  ];
  process.kill(pid);
  await until(() => !isBound(imageOf()), `${imageOf()} to be let go`);
  return { faults };
}

/** A script by losetup and mount, killed: what the other rows look for is there. */
async function leavesBehind(): Promise<Finding> {
  const script =
    'echo $(losetup -f --show -P "$0") && mount "$(losetup -j "$0" -O NAME -n)p1" "$1"' +
    " && kill -9 $$";
  const { stdout } = spawnSync("sh", ["-c", script, imageOf(), AT], { encoding: "utf8" });
  const path = stdout.trim();
  const shown = isBound(imageOf()) && linesOf(`${path}p1`).length === 1;
  spawnSync("umount", [AT]);
  spawnSync("losetup", ["-d", path]);
  await until(() => !isBound(imageOf()), `${path} to be detached`);
  return { seen: "device and mount outlive a script by losetup and mount(8)", shown };
}

/** All of them, on copies of the guest's images. */
export async function tryForms(): Promise<void> {
  mkdirSync(AT, { recursive: true });
  for (const name of ["ext4.img", "vfat.img"]) copyFileSync(`/guest/${name}`, imageOf(name));
  const form = (name: string, find: () => Promise<Finding>) => tryCase(name, find, "form");
  await form("losetup and mount(8), killed", leavesBehind);
  for (const [name, row] of Object.entries(FORMS)) await form(name, () => tryForm(row));
  await form("mount(NODE)", tryDevice);
  await form("mountImage()", () => tryImage());
  await form("mountImage(), at", () => tryImage(AT));
  await form("twice, frozen", tryTwice);
  await form("busy", tryBusy);
}
