#!/bin/busybox sh
# /init of the initrd that built_image.ts makes: mounts root=PARTUUID=… and starts its /sbin/init.
PATH=/bin
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev
for module in $(busybox cat /modules/order); do
  busybox insmod "/modules/$module" || echo "initrd: $module cannot be loaded"
done
for word in $(busybox cat /proc/cmdline); do
  case $word in root=PARTUUID=*) wanted=${word#root=PARTUUID=} ;; esac
done
# The GUID of partition $2 of disk $1, from its GPT: the first three groups are little-endian.
partuuid() {
  busybox dd if="$1" bs=1 skip=$((1024 + 128 * ($2 - 1) + 16)) count=16 2>/dev/null |
    busybox hexdump -e '16/1 "%02x"' | busybox sed -E \
    -e 's/^(..)(..)(..)(..)(..)(..)(..)(..)(.*)$/\4\3\2\1-\6\5-\8\7-\9/' -e 's/(.{12})$/-\1/'
}
node=
try=0
while [ -z "$node" ] && [ $((try += 1)) -le 100 ]; do
  for partition in /sys/block/*/*/partition; do
    folder=$(busybox dirname "$partition")
    disk=/dev/$(busybox basename "$(busybox dirname "$folder")")
    if [ "$(partuuid "$disk" "$(busybox cat "$partition")")" = "$wanted" ]; then
      node=/dev/$(busybox basename "$folder")
    fi
  done
  [ -n "$node" ] || busybox usleep 100000
done
echo "initrd: $wanted is $node"
busybox mount -t ext4 -o ro "$node" /sysroot && exec busybox switch_root /sysroot /sbin/init
echo "initrd: $node cannot be mounted"
busybox poweroff -f
