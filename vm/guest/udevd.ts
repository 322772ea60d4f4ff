/** The guest's systemd-udevd, where it would be in the way. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";

/** udevd would open the device in between, and at times hold a partition while it is removed. */
export function stopUdevd(): Disposable {
  const { status } = spawnSync("udevadm", ["control", "--exit"]);
  return {
    [Symbol.dispose]() {
      if (status !== 0) return;
      const paths = ["/lib/systemd/systemd-udevd", "/usr/lib/systemd/systemd-udevd"];
      spawnSync(paths.find(existsSync)!, ["--daemon"]);
    },
  };
}
