/**
 * Mounts that are a user's, on each file system that can be: he reads and writes what is root's on the
 * disk, and a mount without an owner shows whose it is there. Where the kernel is too old the error must
 * say so. And a device of the mapper over a partition, mounted by its node.
 *
 *     bun vm/guest/owners.ts
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, statSync } from "node:fs";
import { attach, type LoopDevice, mount } from "../../mod.ts";
import { ioctl, O_RDWR, open } from "../../lib/kernel/file.ts";
import { kernelRelease } from "../../lib/kernel/release.ts";
import { OWNED_FILES, prepareOwned, USER } from "../../tests/cases/owned_files.ts";
import { unpackSparse } from "../../tests/support/sparse_pack.ts";
import { progress, report } from "./report.ts";

const FOLDER = "/tmp/owners";
mkdirSync(FOLDER, { recursive: true });
for (const name of readdirSync("/guest/modules").toSorted()) {
  spawnSync("insmod", [`/guest/modules/${name}`]);
}
const names = unpackSparse(readFileSync("/guest/owners"), FOLDER);

/** What a shell of a user says, in a directory. */
function as(user: number, path: string, script: string): string {
  const ids = ["--reuid", `${user}`, "--regid", `${user}`, "--clear-groups"];
  const command = ["sh", "-c", `cd "$0" && ${script}`, path];
  const { stdout, stderr } = spawnSync("setpriv", [...ids, ...command], { encoding: "utf8" });
  return `${stdout}${stderr}`.trim();
}

const ownersIn = (path: string, names: readonly string[]) =>
  Object.fromEntries(names.map((name) => {
    const { uid, gid } = statSync(`${path}/${name}`);
    return [name, `${uid}:${gid}`];
  }));

/** What is seen of one file system. */
async function tryType(loop: LoopDevice): Promise<Record<string, unknown>> {
  const files = OWNED_FILES.map(([name]) => name);
  const isReadOnly = await (async () => {
    await using plain = await loop.mount();
    if (!plain.readOnly) prepareOwned(plain.path);
    return plain.readOnly;
  })();
  const edit = isReadOnly ? "" : " && echo by the user >by-user && mkdir made";
  const seen: Record<string, unknown> = {};
  {
    await using root = await loop.mount(undefined, { owner: USER });
    seen.user = as(USER, root.path, `cat root${edit}`);
    seen.stranger = as(1234, root.path, "cat root");
    seen.root = isReadOnly ? "" : as(0, root.path, "echo >by-root");
    seen.inMount = ownersIn(root.path, files);
    seen.unmounted = await root.unmount();
  }
  await using plain = await loop.mount();
  seen.onDisk = ownersIn(plain.path, isReadOnly ? files : [...files, "by-user", "made"]);
  return seen;
}

/** `<linux/dm-ioctl.h>`: struct dm_ioctl, 312 bytes, and one struct dm_target_spec of 40. */
function mapper(
  request: number,
  name: string,
  flags: number,
  target?: { sectors: number; text: string },
) {
  const buffer = new Uint8Array(new ArrayBuffer(16384));
  const view = new DataView(buffer.buffer);
  [4, 0, 0, buffer.length, 312, target ? 1 : 0, 0, flags]
    .forEach((value, i) => view.setUint32(4 * i, value, true));
  buffer.set(new TextEncoder().encode(name), 48);
  if (target) {
    view.setBigUint64(312 + 8, BigInt(target.sectors), true);
    buffer.set(new TextEncoder().encode("linear"), 312 + 24);
    buffer.set(new TextEncoder().encode(target.text), 312 + 40);
  }
  using control = open("/dev/mapper/control", O_RDWR);
  ioctl(control, "DM", 0xc138fd00 + request, buffer);
  // dev: encoded as by new_encode_dev(), for a small minor number.
  return Number(view.getBigUint64(40, true) & 0xffn);
}
const [DEV_CREATE, DEV_REMOVE, DEV_SUSPEND, TABLE_LOAD] = [3, 4, 6, 9];

/** A volume over a partition, as LVM makes them, mounted by its node; who holds the loop device then. */
async function tryMapper(): Promise<Record<string, unknown>> {
  await using loop = await attach("/guest/ext4.img", { readOnly: true, partscan: true });
  const { path, size } = loop.partitions[0];
  const minor = mapper(DEV_CREATE, "volume", 0);
  const node = `/dev/dm-${minor}`;
  try {
    // DM_READONLY_FLAG
    mapper(TABLE_LOAD, "volume", 1, { sectors: size / 512, text: `${path} 0` });
    mapper(DEV_SUSPEND, "volume", 0);
    const root = await mount(node);
    const held = (await loop.holders()).filter(({ kind }) => kind !== "process");
    const busy = await mount(path).then(() => "mounted", ({ message }) => message);
    return {
      ...{ device: root.device, type: root.type, files: readdirSync(root.path), busy },
      holders: held.map(({ path, kind, by }) => `${path}: ${kind} ${by}`).toSorted(),
      expected: [`${node}: mount ${root.path}`, `${path}: device ${node}`],
      unmounted: await root.unmount(),
    };
  } finally {
    mapper(DEV_REMOVE, "volume", 0);
  }
}

const common = { event: "result", release: kernelRelease() };
const failed = ({ message }: Error) => ({ refused: message });
for (const [done, name] of names.entries()) {
  const loop = await attach(`${FOLDER}/${name}`);
  const seen = await tryType(loop).catch(failed);
  const detached = await loop.detach();
  report({ ...common, case: name, kind: "owner", ...seen, detached });
  progress(done + 1, names.length);
}
report({ ...common, case: "mapper", kind: "mapper", ...await tryMapper().catch(failed) });
