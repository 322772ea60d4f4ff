/**
 * The manual page loopdev(8), from the same tables as --help. dev/man_page.ts prints it.
 *
 * @module
 */
import { COLUMNS } from "./columns.ts";
import { SYNOPSIS } from "./help.ts";
import { type LosetupOption, type Option, OPTIONS } from "./options.ts";
import { LOSETUP_VERSION, VERSION } from "./program.ts";
import { HELP, PARTITION_WORDS, type Verb, VERBS } from "./verb_table.ts";

const DESCRIPTION = [
  "`loopdev` attaches files and block devices as loop devices, detaches them, and lists them. It " +
  "takes the options of losetup(8) of util-linux " + LOSETUP_VERSION +
  ", and prints the same. Called " +
  "`losetup`, it uses that name in its messages. Without arguments it lists all attached devices. A " +
  "device stays attached when the program ends.",
  "It differs from losetup in this: two processes never take the same device. With `--partscan` the " +
  "partitions are there when it returns, and do not vanish again. When it exits, udev does not read " +
  "the partition table again.",
  "A <loopdev> that does not begin with a slash is a node in /dev. A <num> may have a fraction and a " +
  "suffix. K, M, G, T, P, E, Z, Y, and KiB and so on are powers of 1024; KB and so on are powers of " +
  "1000. Hexadecimal numbers begin with 0x, octal numbers with 0.",
];

const ABOUT_VERBS = [
  "A first argument that is a verb chooses what to do with a whole image, a file or a block device. Called " +
  "`losetup`, the program knows no verb. Options may stand anywhere behind the verb; what follows `--` is " +
  "no option. All but `ls` need root.",
  `A <partition> is ${PARTITION_WORDS}. TYPE takes a GUID, a byte of an MBR, or root, usr, esp, ` +
  "xbootldr, home, srv, var, tmp or swap.",
];

const DIFFERENCES = [
  "`--partscan` fails if not every partition of the table can be made usable in time.",
  "`--remove` fails where it is not permitted; losetup does nothing there, and succeeds.",
  "`--offset` and `--sizelimit` are at most 2^53-1.",
  "Messages are English, and names are UTF-8 in every locale. Bytes that are not UTF-8 are kept; in " +
  "JSON they are \\udc80 to \\udcff. A verb takes no such name, but a link to it.",
  "`--verbose`, `--detach=`<loopdev> and `-d`<loopdev>, which util-linux has dropped, still work.",
  "In a deleted working directory neither Deno nor a compiled program starts. Without /proc neither " +
  "Bun nor a compiled program starts. None of them starts where memory cannot be made executable.",
  "docs/losetup.md has all differences, each with its reason.",
];

const EXAMPLES: [string, string][] = [
  [
    "Install a package in the image of another machine, and look at one of its files:",
    ["# loopdev run disk.img -- apt-get install -y curl", "# loopdev cp disk.img:/etc/fstab ."]
      .join("\n"),
  ],
  [
    "Leave the files of an image on a directory, as yours, and take them away again:",
    ["$ sudo loopdev mount --owner disk.img mnt", "$ sudo loopdev umount mnt"].join("\n"),
  ],
  [
    "Attach an image, mount its second partition, and detach both at umount:",
    [
      "# dev=$(loopdev -fP --show disk.img)",
      "# mount ${dev}p2 /mnt",
      "# loopdev --autoclear $dev",
    ].join("\n"),
  ],
  [
    "Wait until a device is detached, or learn who holds it:",
    "# loopdev -d --wait /dev/loop0",
  ],
  [
    "Use it in scripts that call losetup:",
    [
      "# bun build --compile --no-compile-autoload-bunfig --no-compile-autoload-dotenv \\",
      "      --bytecode --format=esm cli.ts --outfile /usr/local/sbin/losetup",
    ].join("\n"),
  ],
];

/** Backquotes are bold, angle brackets italic. */
function inline(text: string): string {
  return escape(text)
    .replaceAll(/`([^`]+)`/g, "\\fB$1\\fR")
    .replaceAll(/<([a-z|]+)>/g, "\\fI$1\\fR")
    .replaceAll(/\b((?:losetup|loopdev|udev|loop|mount))\((\d)\)/g, "\\fB$1\\fR(\\fI$2\\fR)");
}

function escape(text: string): string {
  return text.replaceAll("\\", "\\e").replaceAll("-", "\\-").replaceAll(/^(?=[.'])/gm, "\\&");
}

function entry(tag: string, text: string): string {
  return `.TP\n${tag}\n${inline(text)}\n`;
}

function optionEntry({ short, long, value = "", help, manual }: Option): string {
  const names = `${short === undefined ? "" : `\`-${short}\`, `}\`--${long}\`${value}`;
  return entry(inline(names), manual ?? `${help[0].toUpperCase()}${help.slice(1)}.`);
}

function verbEntry({ name, synopsis, manual, options }: Verb): string {
  const ways = synopsis.map((line) => `${inline(`\`loopdev ${name}\` ${line}`)}\n`).join(".br\n");
  return `.SS ${escape(name)}\n${ways}.PP\n${paragraphs(manual)}` +
    [...options, HELP].map(optionEntry).join("");
}

const paragraphs = (texts: readonly string[]) =>
  texts.map((text) => `${inline(text)}\n`).join(".PP\n");

function section(title: string, ...parts: string[]): string {
  return `.SH ${title}\n${parts.join("")}`;
}

/** The page's whole source. */
export function manPage(): string {
  const of = (...sections: LosetupOption["section"][]) =>
    OPTIONS.filter(({ section }) => sections.includes(section)).map(optionEntry).join("");
  return [
    '.\\" Made by cli/man.ts: edit the tables there, in cli/options.ts and in cli/verb_table.ts.\n',
    `.TH LOOPDEV 8 "" "loopdev ${VERSION}" "System Administration"\n`,
    section("NAME", "loopdev \\- set up and control loop devices, and work with disk images\n"),
    section(
      "SYNOPSIS",
      [
        ...SYNOPSIS.map((line) => `\\fBloopdev\\fR ${inline(line)}\n`),
        ...VERBS.flatMap(({ name, synopsis }) =>
          synopsis.map((line) => `${inline(`\`loopdev ${name}\` ${line}`)}\n`)
        ),
      ].join(".br\n"),
    ),
    section("DESCRIPTION", paragraphs(DESCRIPTION)),
    section("VERBS", paragraphs(ABOUT_VERBS), ...VERBS.map(verbEntry)),
    section("OPTIONS", of("command", "setup", "output", "general")),
    section("BEYOND LOSETUP", of("beyond")),
    section(
      "COLUMNS",
      ...COLUMNS.map(({ name, help }) =>
        entry(inline(`\`${name}\``), `${help[0].toUpperCase()}${help.slice(1)}.`)
      ),
    ),
    section("EXIT STATUS", inline("0 on success, 1 if anything failed; `run` has its own.") + "\n"),
    section("DIFFERENCES FROM LOSETUP", paragraphs(DIFFERENCES)),
    section(
      "EXAMPLES",
      ...EXAMPLES.map(([what, how]) => `.PP\n${inline(what)}\n.PP\n.nf\n${escape(how)}\n.fi\n`),
    ),
    section("SEE ALSO", inline("losetup(8), loop(4), mount(8)") + "\n"),
  ].join("");
}
