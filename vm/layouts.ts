/** The images of tests/cases/layouts.ts for a guest, which has not the tools that make them. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LAYOUTS } from "../tests/cases/layouts.ts";
import { makeLayout } from "../tests/support/layout_images.ts";
import { packSparse } from "../tests/support/sparse_pack.ts";

/** All of them, as vm/guest/layouts.ts unpacks them. */
export function packLayouts(): Uint8Array {
  const folder = mkdtempSync(join(tmpdir(), "loopdev-test-"));
  try {
    const files = LAYOUTS.map(({ name }) => {
      const path = join(folder, `${name}.img`);
      makeLayout(name, path);
      return [name, path] as const;
    });
    return packSparse(Object.fromEntries(files));
  } finally {
    rmSync(folder, { recursive: true });
  }
}
