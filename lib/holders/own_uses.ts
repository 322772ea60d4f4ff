/**
 * What this process itself has open of a device, for the message to a program that keeps its own device
 * busy.
 *
 * @module
 */
import { unlessRefused } from "../base/errors.ts";
import { decodeDev, O_RDONLY, open } from "../kernel/file.ts";
import { loop_info64, loopGetStatus64 } from "../kernel/loop.ts";
import { ownMountsOf } from "./own_mounts.ts";
import { canBeOnDisk, linksOf, loopNode } from "./processes.ts";
import { placesOf } from "../kernel/stat.ts";
import { sysfsBoundFile, sysfsDev, sysfsPartitionDevs } from "../kernel/sysfs.ts";

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
  const devs = new Set<string | undefined>([...partitions, ...mounts].map(({ dev }) => dev));
  devs.add(sysfsDev(number));
  const links = linksOf("self");
  const attached = attachedThere([...links.values()], devs);
  const uses: OwnUse[] = attached.map(({ device, file }) => (
    { what: `${device}, attached to ${file} there`, device }
  ));
  const asked: { what: string; path: string }[] = [];
  for (const [fd, link] of links) {
    const node = loopNode(link);
    if (node !== undefined && names.includes(node)) {
      uses.push({ what: `descriptor ${fd}, /dev/${node}` });
    }
    if (!canBeOnDisk(link) || attached.some(({ file }) => file === link)) continue;
    asked.push({ what: `descriptor ${fd}, ${link} there`, path: `/proc/self/fd/${fd}` });
  }
  asked.push({ what: "its working directory", path: "/proc/self/cwd" });
  const places = await placesOf(asked.map(({ path }) => path));
  // A descriptor may have been closed meanwhile.
  const there = asked.filter((_, i) => devs.has(places[i]?.dev));
  return [...uses, ...there.map(({ what }) => ({ what }))];
}

/** The loop devices that this process has open and whose files lie on one of these devices. */
function attachedThere(
  links: readonly string[],
  devs: ReadonlySet<string | undefined>,
): { device: string; file: string }[] {
  const disks = new Set(links.flatMap((link) => /^loop\d+/.exec(loopNode(link) ?? "")?.[0] ?? []));
  return [...disks].flatMap((disk) => {
    const device = `/dev/${disk}`;
    const look = () => {
      using node = open(device, O_RDONLY);
      const info = loop_info64.reader(loopGetStatus64(node));
      if (!devs.has(decodeDev(info("lo_device")))) return [];
      return [{ device, file: sysfsBoundFile(Number(disk.slice("loop".length))) }];
    };
    // None of one that has just been detached.
    return unlessRefused(look) ?? [];
  });
}
