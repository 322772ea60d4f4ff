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
import { canBeOnDisk, linksOf, loopNode, nodeAt, nodesToAsk } from "./processes.ts";
import { type Place, placesOf } from "../kernel/stat.ts";
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
  const held = new Map([[sysfsDev(number), `loop${number}`]]);
  for (const { name, dev } of sysfsPartitionDevs(number)) held.set(dev, name);
  const mounts = ownMountsOf([...held.values()].map((name) => `/dev/${name}`));
  const devs = new Set([...held.keys(), ...mounts.map(({ dev }) => dev)]);
  const links = linksOf("self");
  const attached = attachedThere([...links.values()], devs);
  const asked: { path: string; use: (place: Place) => string | undefined }[] = [];
  for (const { fd, link } of nodesToAsk({ pid: "self", links }, held)) {
    const use = (place: Place) => {
      const node = nodeAt(place, held);
      return node && `descriptor ${fd}, /dev/${node}`;
    };
    asked.push({ path: link, use });
  }
  const askFile = (path: string, what: string) => {
    asked.push({ path, use: ({ dev }) => devs.has(dev) ? what : undefined });
  };
  for (const [fd, link] of links) {
    if (!canBeOnDisk(link) || attached.some(({ file }) => file === link)) continue;
    askFile(`/proc/self/fd/${fd}`, `descriptor ${fd}, ${link} there`);
  }
  askFile("/proc/self/cwd", "its working directory");
  const places = await placesOf(asked.map(({ path }) => path));
  const uses = asked.flatMap(({ use }, i): OwnUse[] => {
    const place = places[i];
    // A descriptor may have been closed meanwhile.
    const what = place && use(place);
    return what === undefined ? [] : [{ what }];
  });
  return [
    ...attached.map(({ device, file }) => ({
      what: `${device}, attached to ${file} there`,
      device,
    })),
    ...uses,
  ];
}

/** The loop devices that this process has open and whose files lie on one of these devices. */
function attachedThere(
  links: readonly string[],
  devs: ReadonlySet<string>,
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
