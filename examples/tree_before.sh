#!/bin/sh
# Mounts an image's root and what its /etc/fstab puts below it, runs a command there, unmounts: what
# scripts do without loopdev. docs/images.md has the same by mountImage().
#
#     sh examples/tree_before.sh disk.img 2 ls boot
set -u
image=$1
number=$2
shift 2
at=$(mktemp -d) || exit
loop=$(losetup --find --show --partscan "$image") || exit
clean() {
  cd /
  umount --recursive "$at"
  # A kernel that did not find the partitions by itself does not take them away either.
  partx --delete "$loop" 2>/dev/null
  losetup --detach "$loop"
  rmdir "$at"
}
trap clean EXIT
trap 'exit 130' INT TERM HUP
[ -e "${loop}p$number" ] || partx --add "$loop" || exit
mount "${loop}p$number" "$at" || exit

device_of() {
  case $1 in
    UUID=* | LABEL=* | PARTUUID=* | PARTLABEL=*) key=${1%%=*} value=${1#*=} ;;
    /dev/disk/by-*/*) key=${1#/dev/disk/by-} && key=${key%%/*} value=${1##*/} ;;
    *) return 1 ;;
  esac
  case $key in
    UUID | uuid) key=UUID ;;
    LABEL | label) key=LABEL ;;
    PARTUUID | partuuid) key=PART_ENTRY_UUID ;;
    PARTLABEL | partlabel) key=PART_ENTRY_NAME ;;
  esac
  for partition in "$loop"p*; do
    found=$(blkid --probe --match-tag "$key" --output value "$partition")
    [ "$found" = "$value" ] && echo "$partition" && return
  done
  return 1
}

grep '^[^#]' "$at/etc/fstab" | sort -k 2,2 | while read -r source point type options _; do
  case $point in / | none | swap) continue ;; esac
  case $options in noauto | *,noauto* | noauto,*) continue ;; esac
  device=$(device_of "$source") || continue
  mount -t "$type" -o "$options" "$device" "$at$point" || echo "$point is not mounted" >&2
done
cd "$at" && "$@"
