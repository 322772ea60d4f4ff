/** What is broken on purpose, and which check has to notice. */
import { LOOK_AT_ONCE, NUMBER_REUSED, OUT_OF_TURN } from "./planted_bugs.ts";
import type { Replacement } from "./replace.ts";

const DENO = ["deno", "run", "--quiet", "--no-lock", "--allow-all"];
const torture = (...args: string[]) => [...DENO, "torture/run.ts", "--size", "full", ...args];
const testOf = (file: string, name: string) => [
  ...["deno", "test", "--quiet", "--no-lock", "--allow-all", "--filter", name],
  `tests/${file}.test.ts`,
];
const onBun = ["--runtime", "bun", "--scenario", "none"];
const failingConfigure = ["--part", "faults", ...onBun, "--only", "LOOP_CONFIGURE .* (EBUSY|EIO)$"];

/** Commands that pass on the tree as it is. */
export const CHECKS: Record<string, string[]> = {
  "torture --part kill": torture("--part", "kill", ...onBun, "--only", "access|BLKGET"),
  "torture --part faults, calls without faults": torture(
    ...["--part", "faults", ...onBun, "--only", "LOOP_CTL_GET_FREE .* EPERM$"],
  ),
  "torture --part faults, LOOP_CONFIGURE": torture(...failingConfigure),
  "torture --part faults, mount": torture(
    ...["--part", "faults", "--runtime", "bun", "--scenario", "mount"],
    ...["--only", "FSCONFIG_CMD_CREATE .* EIO$|openat fd / .* EIO$"],
  ),
  "torture --part faults, at": torture(
    ...["--part", "faults", "--runtime", "bun", "--scenario", "mount-at"],
    ...["--only", "readlink /proc/self/fd/N .* EIO$"],
  ),
  "torture --part kill, both": torture(
    ...["--part", "kill", "--runtime", "bun", "--scenario", "mount"],
    ...["--only", "both. (syncfs|fsync)"],
  ),
  "mount forms, no keeper": testOf("mount_forms", "a keeper that could not be started"),
  "torture --part interleave": torture(
    ...["--part", "interleave", "--runtime", "bun", "--scale", "0.003"],
  ),
  "openFound()": testOf("others", "openFound()"),
  "mounts, not awaited": testOf("mounts", "a mount that nobody awaits"),
  "mounts, disk full": testOf("mounts", "unmount() says that the backing file"),
  "tables": [...DENO, "torture/tables.ts", "--count", "20000", "--seed", "1"],
  "superblocks": [
    ...["deno", "test", "--quiet", "--no-lock", "--allow-all"],
    "tests/superblocks.test.ts",
  ],
  "read_tables": [...DENO, "torture/read_tables.ts", "--count", "5000", "--seed", "1"],
};

export interface Mutation {
  readonly name: string;
  readonly check: keyof typeof CHECKS;
  readonly replacements: Replacement[];
}

export const MUTATIONS: Mutation[] = [
  {
    name: "the magic number of two bytes alone is an ext4",
    check: "superblocks",
    replacements: [{
      file: "lib/superblocks/rows.ts",
      from: "if (s.s_inodes_count === 0 || s.s_log_block_size > 6) return undefined;",
      to: "",
    }],
  },
  {
    name: "a superblock is read beyond the disk",
    check: "superblocks",
    replacements: [{
      file: "lib/superblocks/file_systems.ts",
      from: "const end = Math.min(offset + length, size);",
      to: "const end = offset + length;",
    }],
  },
  {
    name: "a member of an array is mounted by itself",
    check: "superblocks",
    replacements: [{
      file: "lib/superblocks/file_systems.ts",
      from: 'if (one?.usage === "raid" || one?.usage === "crypto") return [one];',
      to: "",
    }],
  },
  {
    name: "bind without LO_FLAGS_AUTOCLEAR",
    check: "torture --part kill",
    replacements: [
      {
        file: "lib/binding/bind.ts",
        from: "const lo_flags = LO_FLAGS_AUTOCLEAR |",
        to: "const lo_flags =",
      },
    ],
  },
  {
    name: "open without O_CLOEXEC",
    check: "torture --part faults, calls without faults",
    replacements: [{
      file: "lib/kernel/file.ts",
      from: "libc().open(bytes, flags | O_CLOEXEC",
      to: "libc().open(bytes, flags",
    }],
  },
  {
    name: "LOOP_CLR_FD after EBUSY",
    check: "torture --part faults, LOOP_CONFIGURE",
    replacements: [
      {
        file: "lib/binding/bind.ts",
        from: 'import { readFacts } from "./facts.ts";\n',
        to: 'import { readFacts } from "./facts.ts";\n' +
          'import { libc } from "../runtime/libc.ts";\n',
      },
      {
        file: "lib/binding/bind.ts",
        from: "    device?.close();\n    lock.drop();\n",
        to: "    device?.call((fd) => libc().ioctl(fd, 0x4c01, 0));\n    device?.close();\n" +
          "    lock.drop();\n",
      },
    ],
  },
  {
    name: "no close after a failing LOOP_CONFIGURE",
    check: "torture --part faults, LOOP_CONFIGURE",
    replacements: [{
      file: "lib/binding/bind.ts",
      from: "    device?.close();\n    lock.drop();\n",
      to: "    lock.drop();\n",
    }],
  },
  {
    name: "close while another thread's call is under way",
    check: "torture --part interleave",
    replacements: [...NUMBER_REUSED],
  },
  {
    name: "a handle's operations at the same time",
    check: "torture --part interleave",
    replacements: [OUT_OF_TURN],
  },
  {
    name: "act on a device that was found without looking again",
    check: "openFound()",
    replacements: [
      {
        file: "lib/open_loop.ts",
        from: "(facts) => isSameUse(facts, found)",
        to: "() => true || isSameUse",
      },
    ],
  },
  {
    name: "a mount that children inherit",
    check: "torture --part faults, mount",
    replacements: [{
      file: "lib/kernel/mount.ts",
      from: '"fsmount", on: context, args: [FSMOUNT_CLOEXEC,',
      to: '"fsmount", on: context, args: [FSMOUNT_CLOEXEC & 0,',
    }],
  },
  {
    name: "no close of a mount whose root cannot be opened",
    check: "torture --part faults, mount",
    replacements: [{
      file: "lib/kernel/mount.ts",
      from: "await closeInOrder(opened.filter((file) => file !== undefined).reverse());",
      to: "await closeInOrder(opened.slice(0, 1) as OpenFile[]);",
    }],
  },
  {
    name: "detach before unmounting",
    check: "mounts, not awaited",
    replacements: [{
      file: "lib/mount/mounts.ts",
      from: "for (const mount of [...this.#alive].reverse())",
      to: "for (const mount of [...this.#alive].slice(1))",
    }],
  },
  {
    name: "unmount without asking what was written",
    check: "mounts, disk full",
    replacements: [{
      file: "lib/mount/mounted.ts",
      from: "const written = !this.readOnly;",
      to: "const written = this.readOnly && !this.readOnly;",
    }],
  },
  {
    name: "no record of a mount",
    check: "torture --part kill, both",
    replacements: [{
      file: "lib/mount/keeper.ts",
      from: "makeEmptyFile(record, parent);",
      to: "makeEmptyFile;",
    }],
  },
  {
    name: "the path of an at: mount is asked for behind the move",
    check: "torture --part faults, at",
    replacements: [{
      file: "lib/mount/place.ts",
      from: "  const path = directory?.call((fd) => readLink(`/proc/self/fd/${fd}`));\n",
      to: "",
    }, {
      file: "lib/mount/place.ts",
      from: "  return {\n    path: path ?? ",
      to: "  const path = directory?.call((fd) => readLink(`/proc/self/fd/${fd}`));\n" +
        "  return {\n    path: path ?? ",
    }],
  },
  {
    name: "a keeper that did not start is taken for one that lives",
    check: "mount forms, no keeper",
    replacements: [{
      file: "lib/mount/keeper.ts",
      from: "      this.#pipe = undefined;\n",
      to: "",
    }],
  },
  {
    name: "look for overlaps at the same time",
    check: "torture --part interleave",
    replacements: [...LOOK_AT_ONCE],
  },
  {
    name: "partitions as large as the table says",
    check: "tables",
    replacements: [{
      file: "lib/table/partition_table.ts",
      from: "return from <= to ? partition",
      to: "return from > 0 ? partition",
    }],
  },
  {
    name: "a stale backup before the primary header of another sector size",
    check: "tables",
    replacements: [{
      file: "lib/table/sector_size.ts",
      from: "  if (primary.length > 0) return primary[0];\n",
      to: "",
    }],
  },
  {
    name: "a table read without the file's offset",
    check: "read_tables",
    replacements: [{
      file: "lib/binding/image_table.ts",
      from: "readWhole(file, at, ",
      to: "readWhole(file, from, ",
    }],
  },
];
