/**
 * The hostile opener: answers every uevent by opening one loop device O_RDONLY and closing it, as
 * fast as it can. A first open after the device is bound, while its scan is still owed, makes the
 * kernel scan it; LOOP_CONFIGURE's own scan then drops what was found and adds it again.
 *
 *     bun tests/vm/guest/opener.ts loop0 [react | spin]
 *
 * "spin" does not wait for uevents: it opens and closes without a pause.
 */
import process from "node:process";
import { cString, openAndClose, UeventSocket } from "../../../examples/uevents.ts";

const [disk, how = "react"] = process.argv.slice(2);
const path = cString(`/dev/${disk}`);

using socket = new UeventSocket();
// Warm up: the first calls are interpreted, and too slow to hit the window.
for (let i = 0; i < 5000; i++) {
  socket.wait(0);
  openAndClose(path);
  socket.discard();
}
console.log("ready");
for (;;) {
  // Open first, read afterwards: the window is as long as the kernel takes from uevent to scan.
  if (how === "react") socket.wait(-1);
  openAndClose(path);
  socket.discard();
}
