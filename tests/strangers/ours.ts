/** What we make of the images beside what a kernel shows of them, and where that differs on purpose. */
import { RECORDED, type Seen } from "./images.ts";
import { type Attached, together, type View } from "./views.ts";

/** Where we see something else than the kernel, each with its reason. */
export const DIFFERENT: Readonly<Record<string, View>> = {
  // The kernel says nothing of a full disk whose table it cannot use; we refuse it.
  "sfdisk gpt, cut off": "EUCLEAN",
  "sgdisk, protective MBR alone": "EUCLEAN",
  "genimage gpt-no-backup": "EUCLEAN",
  "sfdisk gpt, for 4096-byte sectors": "EMEDIUMTYPE",
  "parted pc98": "EMEDIUMTYPE",
  "IBM's AIX": "EMEDIUMTYPE",
  // The kernel takes no partition from a backup without `gpt` on its command line.
  "sgdisk, primary header wiped": [[1, 1048576, 1048576], [2, 2097152, 2097152]],
};

/** What readPartitions() gives, and attach() with what it skips. */
export const oursOf = (name: string): View => DIFFERENT[name] ?? kernelsOf(name);

/** What a kernel with all of Debian's parsers shows; of the cloud's flavour, which has few. */
export function kernelsOf(name: string, kernel = ""): readonly Seen[] {
  const { partitions, cloud } = RECORDED;
  return (kernel.includes("-cloud-") ? cloud.partitions[name] : undefined) ?? partitions[name] ??
    [];
}

/** What is seen of an image where the kernel has parsers. */
export interface GuestView {
  readonly kernel: readonly Seen[];
  readonly read: View;
  readonly scanned: Attached;
  readonly userspace: Attached;
}

/** What is not as it should be, in words. */
export function differences(name: string, view: GuestView, running: string): string[] {
  const { kernel, read, scanned, userspace } = view;
  const ours = oursOf(name);
  // A table that we refuse is not attached; of any other all that the kernel shows is there, and ours.
  const shown = typeof ours === "string" ? ours : withKernels(name, ours);
  const after = (view: View) => typeof view === "string" ? [] : view;
  const compared: [what: string, is: unknown, expected: unknown][] = [
    ["the kernel shows", kernel, kernelsOf(name, running)],
    ["readPartitions()", read, ours],
    ["attach()", together(scanned), shown],
    ["rescan()", scanned.rescanned, after(scanned.partitions)],
    ["attach() in userspace", together(userspace), ours],
    ["rescan() in userspace", userspace.rescanned, after(userspace.partitions)],
  ];
  return compared.map((
    [what, is, expected],
  ) => [what, ...[is, expected].map((x) => JSON.stringify(x))])
    .filter(([, is, expected]) => is !== expected)
    .map(([what, is, expected]) => `${what} ${is}, not ${expected}`);
}

function withKernels(name: string, ours: readonly Seen[]): readonly Seen[] {
  const kernel = kernelsOf(name);
  const numbers = kernel.map(([number]) => number);
  return [...kernel, ...ours.filter(([number]) => !numbers.includes(number))]
    .sort(([a], [b]) => a - b);
}
