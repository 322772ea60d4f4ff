#!/bin/busybox sh
# /sbin/init of the disk that built_image.ts builds: says what is on it, on the console.
PATH=/bin
busybox mount -t proc proc /proc
busybox mount -t devtmpfs dev /dev
echo "disk: $(busybox cat /etc/hostname), Linux $(busybox uname -rv)"
echo "disk: $(busybox grep ' / ' /proc/mounts | busybox tail -n 1)"
echo "disk: $(busybox grep ' / ' /etc/fstab)"
echo "disk: $(busybox sha256sum </written)"
echo "disk: $(busybox stat -c '%u:%g %a' /owned)"
echo "disk: end"
busybox poweroff -f
