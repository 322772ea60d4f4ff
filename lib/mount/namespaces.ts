/**
 * Mount namespaces, by the inode numbers that `/proc/PID/ns` shows. The kernel gives a number again after
 * the namespace is gone.
 *
 * @module
 */
import { isRefusal } from "../base/errors.ts";
import { ifExists, listDirectory, readLink } from "../kernel/file.ts";
import { fileStatus } from "../kernel/stat.ts";

/** That of the first PID namespace, `PROC_PID_INIT_INO`: from there all processes are seen. */
const FIRST_PIDS = "pid:[4026531836]";

/** "4026531841": this process's; "0" on a kernel without namespaces. */
export function mountNamespace(): string {
  return namespaceOf("self") ?? "0";
}

/** Those in which a process runs; "unknown" where this process may not see all processes. */
export function livingNamespaces(): ReadonlySet<string> | "unknown" {
  try {
    if (readLink("/proc/self/ns/pid") !== FIRST_PIDS) return "unknown";
    const pids = listDirectory("/proc").filter((name) => /^\d+$/.test(name));
    return new Set(pids.flatMap((pid) => namespaceOf(pid) ?? []));
  } catch (error) {
    if (isRefusal(error)) return "unknown";
    throw error;
  }
}

/** undefined: the process is gone, or the kernel has no namespaces. */
function namespaceOf(pid: string): string | undefined {
  const folder = `/proc/${pid}`;
  try {
    const link = ifExists(() => readLink(`${folder}/ns/mnt`));
    return link === undefined ? undefined : /\[(\d+)\]$/.exec(link)?.[1];
  } catch (error) {
    // EACCES also where the process ended since the folder was found.
    if (isRefusal(error) && ifExists(() => fileStatus(folder)) === undefined) return undefined;
    throw error;
  }
}
