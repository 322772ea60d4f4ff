/** Command lines by hand. */
import type { STATES } from "./cli_states.ts";

/** In which state which command lines are run, one a line; '' is an empty argument, $d D's name. */
export const LINES: Record<keyof typeof STATES, string> = {
  two: `
    LIBSMARTCOLS_JSON=compact -lJ -O NAME,RO
    LIBSMARTCOLS_JSON=lines -lJ -O NAME,RO
    LIBSMARTCOLS_JSON=lines -lJ -j none
    LIBSMARTCOLS_JSON=compact -lJ -j none
    LIBSMARTCOLS_JSON=other -lJ -O NAME
    COLUMNS=20 -l
    -l /dev/null
    -l /tmp
    -J -l /dev/null
    /dev/null
    /tmp
    -j ''
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
    -f ''
    -f --show ''
    $D ''
    $D .
    $D a.img/x
    -r $D none
    --direct-io $D none
    /dev/null none
    -L $D none
    -L -f none
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
    $E none
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
