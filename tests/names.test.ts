/** Names that are no UTF-8: as text and back, and through cli.ts, beside the machine's losetup. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import process from "node:process";
import { decodeName, encodeName } from "../lib/base/names.ts";
import { attach, list } from "../mod.ts";
import { OURS } from "./support/cli_beside.ts";
import { detachElsewhere } from "./support/others.ts";
import { bound, isFile, output, scratch, sysfs, test, until } from "./support/support.ts";

const env = { ...process.env, LC_ALL: "C.UTF-8" };

test("decodeName() and encodeName() lose no byte of a name", [], () => {
  const same = (...bytes: number[]) => {
    const text = decodeName(new Uint8Array(bytes));
    assert(encodeName(text).join() === bytes.join(), bytes.join());
    return text;
  };
  for (let first = 1; first < 256; first++) {
    same(first);
    for (let second = 1; second < 256; second++) same(0x61, first, second, 0x62);
  }
  // Cut short, overlong, a surrogate, beyond Unicode, and a literal U+FFFD and U+FEFF among them.
  same(0xf0, 0x9f, 0x98);
  same(0xc0, 0xaf, 0xe0, 0x80, 0xaf);
  same(0xed, 0xa0, 0x80, 0xed, 0xb3, 0xa9);
  same(0xf4, 0x90, 0x80, 0x80, 0xff);
  assertEquals(same(0xef, 0xbb, 0xbf, 0x61, 0xef, 0xbf, 0xbd, 0xe9), "\ufeffa\ufffd\udce9");
  assertEquals(same(...new TextEncoder().encode("日本 😀")), "日本 😀");
  assertEquals(same(0x63, 0xe9, 0xc3, 0xa9), "c\udce9é");
  assert(same(0xe9) !== same(0xe8));
  same(0xe9, ...new TextEncoder().encode("日😀"));
});

/** Runs a script with losetup, or ours, as $1 and further. */
async function both(script: string): Promise<{ theirs: string; ours: string }> {
  const on = async (tool: string[]) => {
    // Their output is bytes: as hexadecimal numbers here.
    const shell = `set -e; { ${script}; } | od -An -tx1 | tr -d ' \\n'`;
    const printed = output(["sh", "-c", shell, "sh", ...tool], { cwd: scratch(""), env });
    // Whoever looks at all devices defers what the script has detached.
    const isHere = (path: string) => path.startsWith(scratch(""));
    await until(() => bound(isHere).length === 0, "the script's device to go");
    return printed;
  };
  return { theirs: await on(["losetup"]), ours: await on(OURS) };
}

test(
  "cli.ts takes the bytes of a name that is no UTF-8",
  ["quiet", "root", "losetup"],
  async () => {
    const make =
      'bad=$(printf "caf\\351.img") other=$(printf "caf\\350.img"); truncate -s 1M "$bad"';
    const attachIt = `${make}; dev=$("$@" -f --show "$bad"); trap '"$@" -d $dev' EXIT`;
    const cut = `"$PWD/$bad" | sed "s/^[^:]*/dev/"`;
    for (
      const look of [
        `"$@" -j ${cut}`,
        `cd .. && "$@" -j "$OLDPWD/$bad" | sed "s/^[^:]*/dev/"`,
        `"$@" $dev | sed "s/^[^:]*/dev/"`,
        `"$@" --raw -O BACK-FILE $dev`,
        `"$@" -lO BACK-FILE $dev`,
        `"$@" -a | grep -aF "$PWD/$bad" | sed "s/^[^:]*/dev/"`,
        `"$@" -j "$PWD/$other"; echo none`,
        `"$@" -j "$other"; echo none`,
        `"$@" -f "$other" 2>&1 | sed "s/^[^:]*//"; echo none`,
        `"$@" -L -f --show "$bad" | sed "s/[0-9]*$//"`,
      ]
    ) {
      const { theirs, ours } = await both(`${attachIt}; ${look}`);
      assert(theirs !== "", look);
      assertEquals(ours, theirs, look);
    }
    assertEquals((await both(`${make}; "$@" -j "$bad"; echo none`)).ours, "6e6f6e650a");

    // The library says the same name, and JSON stays JSON.
    const shell = `${make}; "$@" -f --show "$bad"`;
    const device = output(["sh", "-c", shell, "sh", ...OURS], { cwd: scratch(""), env }).trim();
    try {
      const { backingFile } = (await list()).find(({ path }) => path === device)!;
      assertEquals(backingFile, `${scratch("").replace(/\/$/, "")}/caf\udce9.img`);
      const { loopdevices } = JSON.parse(output([...OURS, "-lJ", device], { env }));
      assertEquals(loopdevices[0]["back-file"], backingFile);
      await assertRejects(() => attach(backingFile), TypeError, "not valid Unicode");
      const terminal = output(["script", "-qec", `${OURS.join(" ")} ${device}`, "/dev/null"], {
        env,
      });
      assert(terminal.includes("caf\\xe9.img"), terminal);
    } finally {
      output(["losetup", "-d", device]);
    }
  },
);

test("cli.ts cuts the reference after 63 bytes, as losetup does", ["root"], async () => {
  const name = "ü".repeat(60);
  const file = scratch(name);
  output(["truncate", "-s", "1M", file]);
  for (const options of [[], ["--loop-ref", `x${name}`]]) {
    const device = output([...OURS, ...options, "-f", "--show", file], { env }).trim();
    try {
      const found = (await list()).find(({ path }) => path === device)!;
      const whole = new TextEncoder().encode(options[1] ?? file);
      assertEquals(encodeName(found.reference!), whole.slice(0, 63));
      assertEquals(sysfs(`${device.slice(5)}/loop/backing_file`), file);
    } finally {
      detachElsewhere(device, isFile(file));
    }
  }
});
