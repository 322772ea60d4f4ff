/** What is left of a process's mounts: in the list of mounts, in /run/loopdev, and of its keeper. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { attach } from "../mod.ts";
import { e2fsck, ext4Image, mountsOf } from "../tests/support/mount_image.ts";
import { run, scratch } from "../tests/support/support.ts";
import { devicesOf, partitionsOf, within } from "./common.ts";
import { STAYING } from "./scenarios.ts";
import { keepersOf, ownersOf, recordsOf, unlessGone } from "../tests/support/keepers.ts";

/** As a shell takes for what it unmounts, beside all that a machine does at that time. */
const CLEAN_MS = 10_000;

/** Lines of our list of mounts that name a device of one of the images. */
export const mountsOfImages = (images: readonly string[]): string[] =>
  images.flatMap(devicesOf).flatMap(({ number }) => [
    ...mountsOf(`/dev/loop${number}`),
    ...partitionsOf(number).flatMap((partition) => mountsOf(`/dev/loop${number}p${partition}`)),
  ]);

/** Some other process mounts something. */
export async function nextMount(): Promise<void> {
  const image = scratch("next-mount.img");
  if (!existsSync(image)) ext4Image("next-mount.img");
  // Several at a time mount it.
  await using loop = await attach(image, { readOnly: true });
  await using root = await loop.mount();
  await root.unmount();
}

/** Whether a process is stopped, as by SIGSTOP. */
export function isStopped(pid: number): boolean {
  return unlessGone(() =>
    readdirSync(`/proc/${pid}/task`).every((thread) => {
      const stat = readFileSync(`/proc/${pid}/task/${thread}/stat`, "utf8");
      return /^[Tt]/.test(stat.slice(stat.lastIndexOf(")") + 2));
    })
  ) ?? false;
}

/** Processes of scenario "mount-run". Several of them may run at once. */
const stayingOf = (images: readonly string[]): string[] =>
  readdirSync("/proc").filter((name) => /^\d+$/.test(name)).filter((pid) => {
    const read = (file: string) =>
      unlessGone(() => readFileSync(`/proc/${pid}/${file}`, "utf8")) ?? "";
    if (!read("cmdline").includes(STAYING)) return false;
    const list = read("mountinfo");
    return images.flatMap(devicesOf).some(({ number }) => list.includes(` /dev/loop${number} `));
  });

/** The mounts of images, and their devices. */
export const leftOf = (images: readonly string[]): string[] => [
  ...stayingOf(images).map((pid) => `the command's process ${pid}`),
  ...mountsOfImages(images).map((line) => `the mount ${line}`),
  ...images.flatMap(devicesOf).map(({ number }) => `/dev/loop${number}`),
];

/**
 * What is wrong after the end of a process. `alone`: its keeper was killed as well, so that the next
 * mount() of another process is what takes its mounts away.
 */
export async function endOf(
  pid: number,
  images: readonly string[],
  alone: boolean,
): Promise<string[]> {
  const left = () => [
    ...leftOf(images),
    ...ownersOf(pid),
    ...keepersOf(pid).map((keeper) => `the keeper ${keeper}`),
  ];
  const isClean = () => left().length === 0;
  if (alone) await nextMount();
  if (!await within(CLEAN_MS, isClean)) {
    const wrong = left().map((what) => `${what} is left${alone ? " by the next mount()" : ""}`);
    // So that the next experiment begins clean.
    for (const line of mountsOfImages(images)) run(["umount", "--lazy", line.split(" ")[4]]);
    for (const path of recordsOf(pid)) run(["rmdir", path]);
    await nextMount();
    await within(CLEAN_MS, isClean);
    return wrong;
  }
  return [];
}

/** What is wrong with an ext4, beside what its journal brings back. */
export function damageOf(image: string): string[] {
  const found = e2fsck(image);
  return found === "clean" ? [] : [`e2fsck finds ${found.trim().split("\n").join(" ")}`];
}
