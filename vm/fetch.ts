/** Everything that cells boot from, below one cache: kernels, user spaces, runtimes. */
import { join } from "node:path";
import { Apt, type Package } from "./apt.ts";
import { lockCache } from "./cache.ts";
import { type Cell, KERNEL_SUITES, type KernelRow } from "./cells.ts";
import { type Emulator, installEmulator } from "./emulator.ts";
import { fetchKernel, findKernel, type Flavour, type Kernel, listKernels } from "./kernel.ts";
import { MACHINES } from "./machines.ts";
import { fetchModules } from "./modules.ts";
import type { Runtime } from "../dev/runtimes.ts";
import { buildRootfs, buildRuntime } from "./rootfs.ts";

/** A cell that can boot. */
export interface ReadyCell {
  cell: Cell;
  kernel: Kernel;
  /** cpio archives, to be unpacked one after another. */
  base: readonly string[];
  emulator: Emulator;
}

type MachineOf = Pick<KernelRow, "machine">;

/** Package lists by their folder, for all stores: reading them takes seconds. */
const lists = new Map<string, Apt>();

export class Store {
  /** "bun-1.4.5_deno-2.9.6_node-26.10.0", once a cell is ready. */
  versions = "";
  /** What was fetched or made, or why it could not be: each is tried once. */
  readonly #made = new Map<string, { value: unknown } | { error: Error }>();

  readonly cache: string;
  readonly update: boolean;
  readonly say: (text: string) => void;
  readonly runtimes: readonly Runtime[];
  /** Whether guests must have ext4. */
  readonly ext4: boolean;
  readonly flavour: Flavour;
  /** Modules beside ext4 that a step loads itself. */
  readonly modules: readonly string[];

  constructor(
    cache: string,
    update: boolean,
    say: (text: string) => void,
    runtimes: readonly Runtime[],
    ext4 = false,
    flavour: Flavour = "cloud",
    modules: readonly string[] = [],
  ) {
    this.cache = cache;
    this.update = update;
    this.say = say;
    this.runtimes = runtimes;
    this.ext4 = ext4;
    this.flavour = flavour;
    this.modules = modules;
  }

  /** The kernels that Debian has for this machine, newest first. */
  offered(row: MachineOf): { release: string; image: Package }[] {
    const name = row.machine ?? "amd64";
    return this.#once(`kernels for ${name}`, () => listKernels(this.#apt(row), this.flavour));
  }

  /** Throws, with the reason, if a part of it cannot be had. */
  prepare(cell: Cell): ReadyCell {
    const { kernel: row, suite } = cell;
    const machine = MACHINES[row.machine ?? "amd64"];
    const kernel = this.#once(`kernel ${row.id}`, () => {
      const found = findKernel(this.offered(row), row);
      if (found === undefined) throw new Error("not in the archive");
      const apt = this.#apt(row);
      const fetched = fetchKernel(apt, join(this.cache, "kernels"), found, this.ext4);
      if (this.modules.length === 0) return fetched;
      const modules = fetchModules(apt, join(this.cache, "modules"), found.image, this.modules);
      return { ...fetched, modules };
    });
    const rootfs = this.#once(`udev ${suite.udev} for ${machine.name} (${suite.name})`, () => {
      const { mirror } = this.#apt(row);
      return buildRootfs(join(this.cache, "rootfs"), mirror, suite, machine);
    });
    const runtimes = this.runtimes.map((name) =>
      this.#once(
        `${name} for ${machine.name}`,
        () => buildRuntime(join(this.cache, "runtimes"), machine, name),
      )
    );
    const emulator = this.#once(`QEMU for ${machine.name}`, () => {
      const { mirror } = this.#apt(row);
      return installEmulator(join(this.cache, "qemu"), mirror, machine);
    });
    this.versions = runtimes.map(({ version }) => version).join("_");
    return { cell, kernel, base: [rootfs, ...runtimes.map(({ archive }) => archive)], emulator };
  }

  #apt({ machine = "amd64" }: MachineOf): Apt {
    return this.#once(`package lists for ${machine}`, () => {
      const directory = join(this.cache, machine === "amd64" ? "apt" : `apt-${machine}`);
      const known = lists.get(directory);
      if (known) return known;
      const apt = new Apt(directory, KERNEL_SUITES, machine);
      for (const complaint of apt.update(this.update)) this.say(`apt: ${complaint}`);
      lists.set(directory, apt);
      return apt;
    });
  }

  #once<T>(what: string, make: () => T): T {
    let made = this.#made.get(what);
    if (made === undefined) {
      this.say(`preparing ${what}`);
      try {
        made = { value: lockCache(this.cache, make) };
      } catch (error) {
        made = { error: error as Error };
      }
      this.#made.set(what, made);
    }
    if ("error" in made) throw made.error;
    return made.value as T;
  }
}
