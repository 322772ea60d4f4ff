# Sourced by init.sh; run by guest.service where systemd is PID 1.
. /guest/job.env
emit() { printf '#guest %s\n' "$1"; }

step() { # NAME SECONDS COMMAND...
  name=$1 seconds=$2
  shift 2
  emit "{\"event\":\"begin\",\"step\":\"$name\"}"
  timeout -k 5 "$seconds" "$@"
  emit "{\"event\":\"end\",\"step\":\"$name\",\"status\":$?}"
}

run_steps() {
  udev=none
  if [ "$GUEST_UDEV" = yes ]; then udev=$(udevadm --version); fi
  losetup=$(losetup --version | sed 's/.* //')
  emit "{\"event\":\"ready\",\"udev\":\"$udev\",\"losetup\":\"$losetup\"}"
  cd /project
  . /guest/job.steps
  emit '{"event":"done"}'
  sync
  echo b >/proc/sysrq-trigger # with -no-reboot QEMU exits here
  sleep 60
}
