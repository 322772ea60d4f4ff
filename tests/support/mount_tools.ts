/**
 * What other people's tools make of a mount's path: `mount_tools.ts IMAGE FORM`. To be run where the
 * host's "/" is read-only and /run a tmpfs, in a namespace of its own: a tool that is led astray must
 * do no harm. Prints JSON: for each tool its exit code, and what it saw or left.
 */
import { spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  writeFileSync,
} from "node:fs";
import process from "node:process";
import { attach, type MountOptions } from "../../mod.ts";

const [image, form] = process.argv.slice(2);
const WORK = "/run/work";
mkdirSync(`${WORK}/tree/sub`, { recursive: true });
for (const name of ["at", "bound"]) mkdirSync(`${WORK}/${name}`);
writeFileSync(`${WORK}/tree/sub/by-rsync`, "x");
spawnSync("cp", [image, `${WORK}/disk.img`]);

const forms: Record<string, MountOptions> = {
  directory: {},
  at: { at: `${WORK}/at` },
  detached: { detached: true },
};
const loop = await attach(`${WORK}/disk.img`);
const root = await loop.mount(undefined, forms[form]);
const { path } = root;
writeFileSync(`${path}/marker`, "the image's\n");
mkdirSync(`${path}/proc`);

const results: Record<string, unknown> = {};
const sh = (script: string) => {
  const { status, stdout, stderr } = spawnSync("sh", ["-c", script, path], { encoding: "utf8" });
  return { status, stdout: stdout.trim(), stderr: stderr.trim() };
};
const attempt = (what: () => unknown) => {
  try {
    return what();
  } catch (error) {
    return (error as { code?: string; name: string }).code ?? (error as Error).name;
  }
};

/** Each tool, and how to see where it went. */
const TOOLS: Record<string, string> = {
  "realpath": 'realpath "$0"',
  "readlink -f": 'readlink -f "$0"',
  "find": 'find "$0" -name marker | wc -l',
  "du": 'test "$(du -s "$0" | cut -f1)" -gt 0 && echo some',
  "tar": 'tar -cf - "$0" 2>/dev/null | tar -tf - | grep -c marker',
  "cp": `cp -a "$0/." ${WORK}/copied && cat ${WORK}/copied/marker`,
  "cp -r": `cp -r "$0" ${WORK}/copied-r && cat ${WORK}/copied-r/marker`,
  "chown -R": 'chown -R 1234 "$0" && stat -c %u "$0/marker"',
  "cd": 'cd "$0" && cat marker',
  "cd and realpath": 'cd "$0" && cat "$(realpath .)/marker"',
  "rsync": `rsync -a ${WORK}/tree/ "$0/" && cat "$0/sub/by-rsync"`,
  "mount --bind":
    `mount --bind "$0" ${WORK}/bound && cat ${WORK}/bound/marker && umount ${WORK}/bound`,
  "mount -t proc": 'mount -t proc p "$0/proc" && cat "$0/proc/self/comm" && umount "$0/proc"',
  "mount -o remount,ro":
    'mount -o remount,ro "$0" && ! touch "$0/x" && mount -o remount,rw "$0" && echo refused',
  "chroot": 'chroot "$0" /busybox cat /marker',
  "bwrap": 'bwrap --bind "$0" / /busybox cat /marker',
};
results.path = path;
const real = sh(TOOLS.realpath);
// Whoever is led to the host by the first one is not given the chance to change it by the others.
const isAstray = real.status === 0 && !existsSync(`${real.stdout}/marker`);
if (!isAstray) {
  for (const [name, script] of Object.entries(TOOLS)) results[name] = sh(script);
  results.realpathSync = attempt(() => readFileSync(`${realpathSync(path)}/marker`, "utf8"));
  results.cpSync = attempt(() => {
    cpSync(path, `${WORK}/cp-sync`, { recursive: true });
    return [lstatSync(`${WORK}/cp-sync`).isDirectory(), readdirSync(`${WORK}/cp-sync`).length > 2];
  });
  results.chdir = attempt(() => {
    process.chdir(path);
    const content = readFileSync("marker", "utf8");
    process.chdir("/");
    return content;
  });
  results["a child's cwd"] = spawnSync("cat", ["marker"], { cwd: path, encoding: "utf8" }).stdout;
  results["two up"] = existsSync(`${path}/../../etc/passwd`);
} else results.astray = real.stdout;
results.unmounted = await root.unmount();
results.after = attempt(() => readdirSync(path).length);
results["realpath after"] = sh(TOOLS.realpath);
results.detached = await loop.detach();
results.left = readFileSync("/proc/self/mountinfo", "utf8").includes(`${loop.path} `);
console.log(JSON.stringify(results));
