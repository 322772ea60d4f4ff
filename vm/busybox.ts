/** The image of tests/support/run_image.ts for a guest, which has not the tools that make it. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makeBusyboxImage } from "../tests/support/run_image.ts";

export function packBusybox(): Uint8Array {
  const folder = mkdtempSync(join(tmpdir(), "loopdev-test-"));
  try {
    const file = join(folder, "run.img");
    makeBusyboxImage(file, join(folder, "tree"));
    return readFileSync(file);
  } finally {
    rmSync(folder, { recursive: true });
  }
}
