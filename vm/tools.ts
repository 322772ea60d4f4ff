/** Programs of this machine for a guest that lacks them, with the libraries that they need. */
import { execFileSync } from "node:child_process";
import process from "node:process";

/** Where Debian keeps them. */
const PATH = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].join(":");

/** A tar archive: each at its own path, as ldd(1) names them. */
export function packTools(names: readonly string[]): Uint8Array {
  const options = { encoding: "utf8", env: { ...process.env, PATH } } as const;
  const paths = names.map((name) =>
    execFileSync("sh", ["-c", 'command -v "$0"', name], options).trim()
  );
  const libraries = execFileSync("ldd", paths, options).match(/\/\S+(?= \(0x)/g) ?? [];
  const files = [...new Set([...paths, ...libraries])].map((path) => path.slice(1));
  return execFileSync("tar", ["-C", "/", "--dereference", "-cf", "-", ...files], {
    maxBuffer: 2 ** 28,
  });
}
