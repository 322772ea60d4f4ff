#!/bin/sh
# PID 1 of the guest. Results go to the second serial port, so that kernel messages on the first
# cannot break a line; a line that starts with "#guest " is for the host, all others are its log.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb
. /guest/job.env

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
exec </dev/null >"$GUEST_PORT" 2>&1
stty raw -echo <&1
. /guest/steps.sh
emit "{\"event\":\"boot\",\"release\":\"$(uname -r)\",\"version\":\"$(uname -v)\"}"

if [ "$GUEST_DEV" = static ]; then
  # As in many containers: nobody makes a node here, whatever the kernel adds.
  mount -t tmpfs -o mode=0755 tmpfs /tmp
  for node in null zero full random urandom tty ttyS0 ttyS1 ttyAMA0 kmsg; do
    [ -e /dev/$node ] && cp -a /dev/$node /tmp/
  done
  mknod -m 600 /tmp/loop-control c 10 237
  for n in 0 1 2 3 4 5 6 7; do mknod -m 660 /tmp/loop$n b 7 $((n << GUEST_MINOR_SHIFT)); done
  mount --move /tmp /dev
  ln -s /proc/self/fd /dev/fd
fi
mkdir -p /dev/shm
mount -t tmpfs tmpfs /dev/shm

if [ "$GUEST_UDEV" = yes ] && [ "$GUEST_INIT" = steps ]; then
  udevd=/lib/systemd/systemd-udevd
  [ -x $udevd ] || udevd=/usr/lib/systemd/systemd-udevd
  $udevd --daemon || emit '{"event":"error","message":"systemd-udevd did not start"}'
fi
# module.sig_enforce=1: the kernel takes loop.ko only with the signature of its own build.
insmod /guest/loop.ko $GUEST_LOOP_PARAMETERS ||
  emit '{"event":"error","message":"insmod loop.ko failed"}'

# What depends on another one of them comes later.
for module in /guest/ext4/*.ko; do [ -e "$module" ] && insmod "$module"; done

if [ "$GUEST_INIT" = systemd ]; then
  # systemd as PID 1 starts udevd itself, and runs the steps as a service.
  umount /run /tmp
  exec /lib/systemd/systemd --unit=guest.service
fi
if [ "$GUEST_UDEV" = yes ]; then udevadm settle --timeout=30; fi
run_steps
