/**
 * What this process itself has open of a device: whoever keeps his own device busy wants to know by what.
 *
 * @module
 */
import { ifAllowed } from "./file_users.ts";
import { isRefusal } from "../base/errors.ts";
import { decodeDev, listDirectory, O_RDONLY, open, readLink } from "../kernel/file.ts";
import { loop_info64, loopGetStatus64 } from "../kernel/loop.ts";
import { ownMountsOf } from "./own_mounts.ts";
import { placeOf } from "../kernel/stat.ts";
import { sysfsBoundFile, sysfsDev, sysfsPartitionDevs } from "../kernel/sysfs.ts";

/** A node of a loop device or partition; loopdev's own nodes are links, too. */
const NODE = /^\/dev\/(?:\.loopdev-)?(loop(\d+)(?:p\d+)?)(?: \(deleted\))?$/;
/** No file of a disk's: devices, and what the kernel makes up. */
const ELSEWHERE = /^(?!\/)|^\/(dev|proc|sys)\//;

/** One use of a device by this process. */
export interface OwnUse {
  /** For a message: "descriptor 17, /dev/loop4p1", "its working directory". */
  readonly what: string;
  /** The node of a loop device of ours that is attached to a file on it. */
  readonly device?: string;
}

/** How this process uses loop device `number`, its partitions and the files on them. */
export async function ownUses(number: number): Promise<OwnUse[]> {
  const partitions = sysfsPartitionDevs(number);
  const names = [`loop${number}`, ...partitions.map(({ name }) => name)];
  const mounts = ownMountsOf(names.map((name) => `/dev/${name}`));
  const devs = new Set([...partitions, ...mounts].map(({ dev }) => dev));
  devs.add(sysfsDev(number));
  const links = new Map<string, string>();
  for (const fd of ifAllowed(() => listDirectory("/proc/self/fd")) ?? []) {
    const link = ifAllowed(() => readLink(`/proc/self/fd/${fd}`));
    if (link !== undefined) links.set(fd, link);
  }
  const attached = attachedThere([...links.values()], devs);
  const uses: OwnUse[] = attached.map(({ device, file }) => (
    { what: `${device}, attached to ${file} there`, device }
  ));
  for (const [fd, link] of links) {
    const node = NODE.exec(link)?.[1];
    if (node !== undefined && names.includes(node)) {
      uses.push({ what: `descriptor ${fd}, /dev/${node}` });
    }
    if (ELSEWHERE.test(link) || attached.some(({ file }) => file === link)) continue;
    const place = await placeOf(`/proc/self/fd/${fd}`);
    if (place && devs.has(place.dev)) uses.push({ what: `descriptor ${fd}, ${link} there` });
  }
  const cwd = await placeOf("/proc/self/cwd");
  if (cwd && devs.has(cwd.dev)) uses.push({ what: "its working directory" });
  return uses;
}

/** The loop devices that this process has open and whose files lie on one of these devices. */
function attachedThere(
  links: readonly string[],
  devs: ReadonlySet<string>,
): { device: string; file: string }[] {
  const numbers = new Set(links.flatMap((link) => NODE.exec(link)?.[2] ?? []));
  return [...numbers].flatMap((number) => {
    const device = `/dev/loop${number}`;
    try {
      using node = open(device, O_RDONLY);
      const info = loop_info64.reader(loopGetStatus64(node));
      if (!devs.has(decodeDev(info("lo_device")))) return [];
      return [{ device, file: sysfsBoundFile(Number(number)) }];
    } catch (error) {
      // Let go just now.
      if (isRefusal(error)) return [];
      throw error;
    }
  });
}
