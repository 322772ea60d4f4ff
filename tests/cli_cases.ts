/** The command lines of cli.test.ts, and by name and reason where the machine's losetup differs. */

/** A name that nobody should print raw. */
export const MANGLED = 'a\tb\nc\x1b[31m ü \\x41 "q" 日本';

/** losetup's command lines that make a state; $D and $E are devices of the test's own. */
export const STATES = {
  free: [],
  bound: [["$D", "a.img"]],
  two: [["-o", "512", "--sizelimit", "1M", "$D", "a.img"], ["-r", "$E", "a.img"]],
  part: [["-o", "1M", "--sizelimit", "1M", "$D", "a.img"]],
  readOnly: [["-r", "$D", "a.img"]],
  mangled: [["$D", MANGLED]],
} as const;

/** In which state which command lines are run, one a line; '' is an empty argument, $d D's name. */
export const LINES: Record<keyof typeof STATES, string> = {
  two: `
    -a
    -l
    -la
    --list --all
    -J
    --raw
    -n
    -nl
    -Jl
    -J -n
    -a x y
    -l -O NAME
    -l -O name,Back-File,offset
    -l -O +RO -O OFFSET
    -l -nO NAME,DIO,LOG-SEC
    -O NAME,MAJ:MIN,BACK-MAJ:MIN,BACK-INO,AUTOCLEAR $D
    -O +PARTSCAN --raw $D
    -O MAJ:MIN,BACK-MAJ:MIN --raw $D
    -O BACK-FILE $D
    -O NAME,PARTSCAN,RO $D -J
    $D
    $d
    -- $D
    -l $D
    -lJ $E
    --raw $E -l
    -j a.img
    -j ./a.img -o 512
    -ja.img -o0
    -j a.img -l
    -j a.img -J
    -j b.img
    -j none
    -j a.img -o 1
    --associated=a.img --list
    --assoc a.img --offset=0x200
    --output-all -n
    -d $D
    -d $D $E
    -d$D
    -d $D -v
    -c$D
    --detach=$D
    --set-capacity=$D`,
  free: `
    $D
    -l $D
    -J -l $D
    -n -l $D
    --raw -l $D
    $D a.img
    $d a.img
    -f a.img
    -f --show a.img
    --find --show ./a.img
    -rf a.img
    -r $D a.img
    --show $D a.img
    -P $D disk.img
    -fP --show disk.img
    -o 1M $D a.img
    -o1KiB $D a.img
    --offset=2kB --sizelimit 1MB -r $D a.img
    -o 0.5M $D a.img
    -o 1.3K --sizelimit 1.10K $D a.img
    --sizelimit 0x1000 $D a.img
    --sizelimit 8M $D a.img
    -b 4096 $D a.img
    -b 4K -P $D disk.img
    -b 8192 $D a.img
    -b 0 $D a.img
    --direct-io $D a.img
    --direct-io=off $D a.img
    --direct-io=on -o 512 $D a.img
    --direct-io -o 100 $D a.img
    $D empty.img
    -f small.img
    -r $D small.img
    -o 4M $D a.img
    -o 8M $D a.img
    $D odd.img
    -f none
    $D none
    -f .
    . a.img
    '' a.img
    none a.img
    /dev/null a.img
    -f a.img b.img
    -b 513 $D a.img
    -b 256 $D a.img
    -o 0x8000000000000000 $D a.img
    -d $D
    -c $D
    --direct-io $D
    -b 512 $D
    -d /dev/loop9999
    -c /dev/loop9999
    /dev/loop9999
    -d /dev/null
    -x
    -fx
    --foo
    --foo=1
    --s
    --r
    --of
    -o
    -j
    -O
    --offset
    --show=1
    -o abc $D a.img
    -o -1 $D a.img
    -o 1X $D a.img
    -o 99999999999999999999 $D a.img
    -o 16E $D a.img
    -o 1.5 $D a.img
    -o 08 $D a.img
    -o 1KIB $D a.img
    -o '' $D a.img
    --sizelimit x $D a.img
    -b x $D a.img
    -O FOO $D
    -O NAME,,RO $D
    -O NAME,FOO,RO $D
    -O NAME, $D
    -O '' $D
    -P $D
    --show $D
    -r -a
    -o 5 $D
    -a -o 5
    -P
    -v
    -r
    --
    -b 512
    -L $D
    --sizelimit 0 -a
    --sizelimit 1 -a
    --direct-io -a
    -f --show
    -f -d
    -a -f
    -J --raw
    -D -j x
    -D -a
    -D -l
    -O NAME -f
    --direct-io=foo $D
    -d
    -c
    --detach`,
  bound: `
    -f a.img
    -f b.img
    $D b.img
    $E a.img
    -v -f b.img
    -f --show a.img -o 512
    -L -f --show a.img
    -Lf a.img --show -o 512
    -L $E a.img
    -L -f b.img
    -L $E b.img
    -c $D
    --direct-io $D
    --direct-io=on $D
    --direct-io=off $D
    -b 4096 $D
    --sector-size=1K $D
    -b 513 $D
    -b 8192 $D
    -d $D
    --detach $D
    -d $D $D
    -d $D /dev/null`,
  part: `
    -Lf --show a.img -o 2M
    -Lf --show a.img --sizelimit 1M
    -Lf a.img --sizelimit 1025K`,
  readOnly: `
    -L -f a.img
    -rLf --show a.img`,
  mangled: `
    $D
    -l $D
    -l --raw $D
    -J -l $D`,
};

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
const OPERANDS = "since 2.40 -d and -c take operands, not an argument";
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

/** Every difference there is to 2.38, which Debian 12 has. */
export const DIFFERENCES: readonly Difference[] = [
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
    reason: "2.40 words it anew",
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
    reason: "2.40 dropped -v: scripts that have it still run",
    lines: ["-v", "-v -f b.img", "-d $D -v"],
    theirs: /invalid option -- 'v'/,
  },
  {
    reason: "2.40 lets -d and -c take no argument: scripts that give it one still run",
    lines: ["-d$D", "-c$D", "--detach=$D", "--set-capacity=$D"],
    theirs: /invalid option -- '\/'|doesn't allow an argument/,
  },
  {
    reason: "2.42 names the device where the file is missing",
    lines: ["$D none"],
    theirs: /loop\d+: failed to set up loop device: No such file or directory/,
  },
];
