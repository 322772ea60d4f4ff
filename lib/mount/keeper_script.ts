/**
 * What a keeper does, in the language of a POSIX shell. dash, bash and busybox run it; beside them it
 * needs umount, rm and rmdir.
 *
 * @module
 */

/**
 * `$1` is the owner's directory, descriptor 3 the pipe. The mounts are found by their numbers in
 * mountinfo, since a directory may have been renamed, or have another mount on it by now. umount takes
 * a name alone: so it is asked before whether the name leads to that very mount (fdinfo's mnt_id), and
 * whether anybody has mounted something below it. What others hold stays, with its record.
 */
export const KEEPER_SCRIPT = `
for tool in umount rm rmdir; do command -v "$tool" >/dev/null || exit 127; done
cd "$1" || exit 126
trap '' HUP INT QUIT TERM
exec >/dev/null 2>&1

# find ID NAME [WHERE]: sets where, as mountinfo writes it; 1: it is gone, 2: another mount lies on it.
find() {
  where=
  while read -r id parent dev root point options rest; do
    [ "$parent" = "$1" ] && return 2
    [ "$id" = "$1" ] || continue
    rest=" $rest"; rest=\${rest##* - }; rest=\${rest#* }
    case \${rest%% *} in */"$2") [ "\${3-$point}" = "$point" ] && where=$point ;; esac
  done </proc/self/mountinfo
  [ -n "$where" ]
}

# unescape POINT: sets path; mountinfo has spaces and the like as octal numbers.
unescape() {
  path=
  while case $1 in *\\\\*) true ;; *) false ;; esac; do
    tail=\${1#*\\\\}
    char=$(printf "\\\\\${tail%"\${tail#???}"}.")
    path=$path\${1%%\\\\*}\${char%.}
    set -- "\${tail#???}"
  done
  path=$path$1
}

# leads ID: whether path leads to the mount, and not to one that lies over it.
leads() {
  found=
  { while read -r key value; do
    case $key in mnt_id:) found=$value ;; esac
  done </proc/self/fdinfo/9; } 9<"$path" && [ "$found" = "$1" ]
}

# end ID NAME [WHERE]: unmounts it. One that is in use goes when the last user is gone.
end() {
  find "$@"
  case $? in 1) return 0 ;; 2) return 1 ;; esac
  unescape "$where"
  leads "$1" && { umount "$path" || umount -l "$path"; }
}

clean() {
  records=
  for record in .[0-9]*; do [ -f "$record" ] && records="$record $records"; done
  read -r boot </proc/sys/kernel/random/boot_id
  for record in $records; do
    rest=\${record#.*.}
    id=\${rest%%.*}; rest=\${rest#*.}
    kind=\${rest%%.*}; name=\${rest#*.}
    number=\${record#.}; number=\${number%%.*}
    case $kind in
      directory) end "$id" "$name" "$1/$name-$number" &&
        { rmdir "$name-$number" || [ ! -d "$name-$number" ]; } ;;
      at-"\${boot%%-*}") end "$id" "$name" ;;
    esac && rm -f "$record"
  done
  cd / && rmdir "$1"
}

(
  exec <&3 3<&- 5<&-
  while read -r _; do :; done
  clean "$1"
) &
`;
