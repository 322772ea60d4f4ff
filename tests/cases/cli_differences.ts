/** Where ours is not as losetup, by name and reason: 2.38, which Debian 12 has, and 2.42. */

/** What of ours is not as losetup 2.38's. Strings are the whole text. */
export interface Difference {
  readonly reason: string;
  readonly lines: readonly string[];
  readonly status?: number;
  readonly stdout?: string | RegExp;
  readonly stderr?: string;
}

const NO_HEADINGS = "without headings 2.39 does not keep the room for them";
const BY_NAME = "since 2.40 a device need not be named by its path";
const NO_DEVICE = "since 2.40 the kernel refuses what is no device, not losetup";
const COLUMNS = "2.39 has more columns, and no blanks around MAJ:MIN for programs to read";
const OPERANDS = "since 2.42 -d and -c take operands, not an argument";
const EXCLUSIVE = "2.42 names two options that exclude each other, 2.38 all of their group";
const ODD = "2.39 words this warning anew";

const exclusive = (line: string, a: string, b: string): Difference => ({
  reason: EXCLUSIVE,
  lines: [line],
  stderr: `losetup: options --${a} and --${b} cannot be combined\n`,
});
const odd = (file: string, ...lines: string[]): Difference => ({
  reason: ODD,
  lines,
  stderr: `losetup: ${file}: Warning: file does not end on a 512-byte sector boundary; ` +
    "the remaining end of the file will be ignored.\n",
});
const refused = (line: string, message: string): Difference => ({
  reason: NO_DEVICE,
  lines: [line],
  stderr: `losetup: ${message}\n`,
});

const JSON_LAYOUT = "2.41 asks LIBSMARTCOLS_JSON how JSON is laid out";
const NOT_OPEN = "2.42 names the device where the file cannot be opened";

const laidOut = (line: string, stdout: RegExp): Difference => ({
  reason: JSON_LAYOUT,
  lines: [line],
  stdout,
});
const notOpen = (line: string, device: string, why: string): Difference => ({
  reason: NOT_OPEN,
  lines: [line],
  stderr: `losetup: ${device}: failed to set up loop device: ${why}\n`,
});
const EMPTY_ROW = /^NAME +SIZELIMIT .*\n\S+ +0 +0 +0 +\n$/;
const MISSING = "No such file or directory";

/** Every difference there is to 2.38, which Debian 12 has. In texts $D and $E are the devices. */
export const DIFFERENCES: readonly Difference[] = [
  {
    reason: "losetup says nothing of a table that the sector size hides",
    lines: ["-b 4K -P $D disk.img"],
    stderr: "losetup: disk.img: Warning: no partitions are shown; its GPT is made for sectors of " +
      "512 bytes: use --sector-size 512.\n",
  },
  laidOut(
    "LIBSMARTCOLS_JSON=compact -lJ -O NAME,RO",
    /^{"loopdevices":\[(\n{"name":"\/dev\/loop\d+","ro":(true|false)},?){2}\n\]}\n$/,
  ),
  laidOut(
    "LIBSMARTCOLS_JSON=lines -lJ -O NAME,RO",
    /^({"name":"\/dev\/loop\d+","ro":(true|false)}\n){2}$/,
  ),
  laidOut("LIBSMARTCOLS_JSON=lines -lJ -j none", /^$/),
  laidOut("LIBSMARTCOLS_JSON=compact -lJ -j none", /^{"loopdevices":\[\n\]}\n$/),
  {
    reason: NO_DEVICE,
    lines: ["-l /dev/null", "-l /tmp"],
    status: 0,
    stdout: EMPTY_ROW,
    stderr: "",
  },
  {
    reason: NO_DEVICE,
    lines: ["-J -l /dev/null"],
    status: 0,
    stdout: /"name": "\/dev\/null",\n *"sizelimit": null,/,
    stderr: "",
  },
  refused("/dev/null", `/dev/null: ${MISSING}`),
  refused("/tmp", `/tmp: ${MISSING}`),
  {
    reason: "2.38 leaves the error of an earlier call",
    lines: ["-f ''", "-f --show ''", "$D ''"],
    stderr: "losetup: : failed to use backing file: Invalid argument\n",
  },
  notOpen("$D none", "$D", MISSING),
  notOpen("-r $D none", "$D", MISSING),
  notOpen("--direct-io $D none", "$D", MISSING),
  notOpen("-L $D none", "$D", MISSING),
  notOpen("$E none", "$E", MISSING),
  notOpen("/dev/null none", "/dev/null", MISSING),
  notOpen("$D .", "$D", "Is a directory"),
  notOpen("$D a.img/x", "$D", "Not a directory"),
  {
    reason: NO_HEADINGS,
    lines: ["-nl"],
    stdout: /^(\/dev\/loop\d+ {1,7}\d+ {3,5}\d+ 0 [01] \S+\/a\.img 0 {2}512\n)+$/,
  },
  {
    reason: NO_HEADINGS,
    lines: ["-l -nO NAME,DIO,LOG-SEC"],
    stdout: /^(\/dev\/loop\d+ 0 {2}512\n)+$/,
  },
  {
    reason: NO_HEADINGS,
    lines: ["-n -l $D"],
    stdout: /^\/dev\/loop\d+ {3}0 0 {2}0 {2}512\n$/,
  },
  {
    reason: BY_NAME,
    lines: ["$d"],
    status: 0,
    stdout: /^\/dev\/loop\d+: \[\d+\]:\d+ \(.*\/a\.img\), offset 512, sizelimit 1048576\n$/,
    stderr: "",
  },
  {
    reason: COLUMNS,
    lines: ["-O MAJ:MIN,BACK-MAJ:MIN --raw $D"],
    stdout: /^MAJ:MIN BACK-MAJ:MIN\n\d+:\d+ \d+:\d+\n$/,
  },
  {
    reason: "since 2.39 --output-all implies --list",
    lines: ["--output-all -n"],
    status: 0,
    stdout: /^(\/dev\/loop.* 7 .*\n){2,}$/,
    stderr: "",
  },
  odd("a.img", "--direct-io -o 100 $D a.img", "--offset=2kB --sizelimit 1MB -r $D a.img"),
  odd("odd.img", "$D odd.img"),
  refused("-d /dev/loop9999", "/dev/loop9999: detach failed: No such file or directory"),
  refused("-c /dev/loop9999", "/dev/loop9999: set capacity failed: No such file or directory"),
  refused("/dev/loop9999", "/dev/loop9999: No such file or directory"),
  refused("-d /dev/null", "/dev/null: detach failed: Inappropriate ioctl for device"),
  {
    reason: NO_DEVICE,
    lines: ["-d $D /dev/null"],
    stderr: "losetup: /dev/null: detach failed: Inappropriate ioctl for device\n",
  },
  exclusive("-f -d", "find", "detach"),
  exclusive("-a -f", "all", "find"),
  exclusive("-J --raw", "json", "raw"),
  exclusive("-D -j x", "detach-all", "associated"),
  exclusive("-D -a", "detach-all", "all"),
  exclusive("-D -l", "detach-all", "list"),
  {
    ...exclusive("-O NAME -f", "output", "find"),
    reason: "2.38 means to refuse this, and does not",
    status: 1,
    stdout: "",
  },
  {
    reason: OPERANDS,
    lines: ["-d", "-c", "--detach"],
    stderr: "losetup: no loop device specified\n",
  },
  {
    reason: "2.42 words it anew",
    lines: ["--direct-io=foo $D"],
    stderr: "losetup: unsupported argument: foo\n",
  },
  {
    reason: "2.42 and we have more options",
    lines: ["--r"],
    stderr: "losetup: option '--r' is ambiguous; possibilities: '--read-only' '--raw' " +
      "'--remove' '--report'\nTry 'losetup --help' for more information.\n",
  },
];

/** The differences to 2.42: what it says where we do as 2.38 did. Run with one of them first in PATH. */
export const DIFFERENCES_TO_242: readonly { reason: string; lines: string[]; theirs: RegExp }[] = [
  {
    reason: "2.42 dropped -v: scripts that have it still run",
    lines: ["-v", "-v -f b.img", "-d $D -v"],
    theirs: /invalid option -- 'v'/,
  },
  {
    reason: "2.42 lets -d and -c take no argument: scripts that give it one still run",
    lines: ["-d$D", "-c$D", "--detach=$D", "--set-capacity=$D"],
    theirs: /invalid option -- '\/'|doesn't allow an argument/,
  },
];
