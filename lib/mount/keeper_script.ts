/**
 * What a keeper does, as a script for a POSIX shell: dash, bash or busybox. It needs umount, rm and rmdir
 * besides.
 *
 * @module
 */

/**
 * `$1` is the directory of all users' mounts, and what follows are owners' directories. Descriptor 3 is the
 * pipe, and those from 4 on are the owners' locks.
 *
 * The script finds a mount by its id in mountinfo, since its directory may have been renamed. umount takes a
 * path, which may lead to another mount. So the script first compares the mnt_id in fdinfo, and looks whether
 * anybody has mounted something on it or below it. Where others have, the mount stays, and its record with
 * it. A frozen one is thawed first: an unmount would leave it frozen for ever.
 *
 * The id is not trusted alone: the mount must be of the device that the record names, by mountinfo's source.
 */
export const KEEPER_SCRIPT = `
for tool in umount rm rmdir; do command -v "$tool" >/dev/null || exit 127; done
users=$1
shift
for owner; do cd "$owner" || exit 126; done
trap '' HUP INT QUIT TERM
exec >/dev/null 2>&1

# shows SOURCE NAME: whether a mount of device NAME can have that source. A btrfs shows one device of all that
# it has, by the name that it was told last: not the one that was mounted, or /dev/mapper/secret of dm-0.
shows() {
  case $1 in */"$2") return 0 ;; esac
  for member in /sys/fs/btrfs/*/devices/"$2"; do
    for other in "\${member%/*}"/*; do
      mapped=/
      [ ! -f "$other/dm/name" ] || read -r mapped <"$other/dm/name"
      case $1 in /dev/"\${other##*/}" | /dev/mapper/"$mapped") return 0 ;; esac
      [ "/dev/\${other##*/}" -ef "$1" ] && return 0
    done
  done
  return 1
}

# find ID NAME [WHERE]: sets where, as mountinfo writes it. Status 1: it is gone; 2: a mount lies on it.
find() {
  where=
  while read -r id parent dev root point options rest; do
    [ "$parent" = "$1" ] && return 2
    [ "$id" = "$1" ] || continue
    rest=" $rest"; rest=\${rest##* - }; rest=\${rest#* }
    shows "\${rest%% *}" "$2" && [ "\${3-$point}" = "$point" ] && where=$point
  done </proc/self/mountinfo
  [ -n "$where" ]
}

# unescape POINT: sets path. mountinfo writes spaces and the like as octal numbers.
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

# leads ID: whether path leads to that mount.
leads() {
  found=
  { while read -r key value; do
    case $key in mnt_id:) found=$value ;; esac
  done </proc/self/fdinfo/9; } 9<"$path" && [ "$found" = "$1" ]
}

# reaches ID: the same by mountinfo alone, which has path as where. For what cannot be opened: an XFS that has shut
# down refuses even its root directory. No other mount hides a part of the way to this one.
reaches() {
  way=" $1 "
  below=$1
  while [ -n "$below" ]; do
    over=
    while read -r id parent rest; do [ "$id" != "$below" ] || over=$parent; done </proc/self/mountinfo
    case $way in *" $over "*) over= ;; esac
    way="$way$over "
    below=$over
  done
  while read -r id parent dev root point rest; do
    case $way in *" $id "*) continue ;; *" $parent "*) ;; *) continue ;; esac
    case $where/ in "\${point%/}"/*) return 1 ;; esac
  done </proc/self/mountinfo
}

# end ID NAME [WHERE]: unmounts it; where it is in use, the kernel does so after the last user.
end() {
  find "$@"
  case $? in 1) return 0 ;; 2) return 1 ;; esac
  unescape "$where"
  leads "$1" || { [ -z "$found" ] && reaches "$1"; } || return 1
  [ ! -f ".frozen-$number" ] || fsfreeze --unfreeze "$path"
  umount "$path" || umount -l "$path"
}

# clean OWNER
clean() {
  cd "$1" || return
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
      owned-"\${boot%%-*}"*) folder=$users/\${1##*/}-$number
        end "$id" "$name" &&
        { rmdir "$folder/$name" || [ -h "$folder/$name" ] || [ ! -d "$folder/$name" ]; } &&
        { rmdir "$folder" || true; } ;;
      at-"\${boot%%-*}"*) [ -e .left ] || end "$id" "$name" ;;
    esac && rm -f "$record" ".frozen-$number"
  done
  # Without its mount's record it says nothing, and would keep the directory for ever.
  for frozen in .frozen-*; do
    for record in ".\${frozen#.frozen-}".*; do [ -f "$record" ] || rm -f "$frozen"; done
  done
  rm -f .left
  cd / && rmdir "$1"
}

# Of several owners none waits for the others: the unmount of a file system can take long.
(
  exec <&3 3<&-
  if [ $# = 1 ]; then exec 5<&-; fi
  while read -r _; do :; done
  if [ $# = 1 ]; then clean "$1"; else for owner; do clean "$owner" & done; fi
) &
`;
