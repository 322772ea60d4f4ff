/**
 * Disk images laid out as those that people use, and the tree that mountImage() shall make of each.
 * Tables, types, names and files are those of the real images; the sizes are not.
 * tests/support/layout_images.ts makes them.
 */

/** By path: a file's text, a link, or with a "/" at the path's end a directory. */
export type Files = Readonly<Record<string, string | { readonly link: string }>>;

export type ContentType =
  | "ext2"
  | "ext4"
  | "vfat"
  | "squashfs"
  | "erofs"
  | "btrfs"
  | "swap"
  | "luks"
  | "iso9660";

/** What is put into a partition, or into the whole image. */
export interface Content {
  readonly type: ContentType;
  readonly label?: string;
  readonly uuid?: string;
  readonly files?: Files;
  /** btrfs: files by subvolume. */
  readonly subvolumes?: Readonly<Record<string, Files>>;
  /** iso9660: a file that is a squashfs of these files. */
  readonly live?: { readonly path: string; readonly files: Files };
  /** iso9660: the ESP behind it, which the table in front of it names. */
  readonly esp?: Files;
}

/** A mount that mountImage() shall make; the data has them in no order. */
export interface ExpectedMount {
  readonly point: string;
  /** undefined: the whole image. */
  readonly partition?: number;
  /** As statfs(2) and mountinfo have it. */
  readonly type: string;
}

/** What mountImage() shall list as skipped. */
export interface ExpectedSkip {
  readonly point?: string;
  readonly partition?: number;
  readonly reason: RegExp;
}

export interface Layout {
  /** For file names and command lines. */
  readonly name: string;
  /** Whose images look so. */
  readonly of: string;
  readonly mib: number;
  /** In sfdisk's language; undefined: no table. */
  readonly table?: string;
  /** By partition; 0 is the whole image. */
  readonly contents: Readonly<Record<number, Content>>;
  /** Bytes behind the file system of a partition, as OpenWrt has its overlay. */
  readonly behind?: { readonly partition: number; readonly at: number; readonly content: Content };
  /** What mountImage() must be told, where the image itself does not say which root is meant. */
  readonly root?: number;
  /** Partitions that the error lists which comes without `root`. */
  readonly candidates?: readonly number[];
  readonly mounts: readonly ExpectedMount[];
  readonly skipped?: readonly ExpectedSkip[];
  readonly osRelease?: Readonly<Record<string, string>>;
  /** Where systemd-dissect mounts something else, or nothing: why that is so. */
  readonly dissect?: string;
}

/** Empty directories that every root has. */
const EMPTY = ["boot", "dev", "home", "proc", "root", "run", "srv", "sys", "tmp", "var"];

function empty(...names: string[]): Files {
  return Object.fromEntries(names.map((name) => [`${name}/`, ""]));
}

const osRelease = (id: string, name: string) => `ID=${id}\nPRETTY_NAME="${name}"\n`;

/** A system's root. */
function root(id: string, name: string, files: Files): Files {
  return {
    ...empty(...EMPTY),
    "usr/lib/os-release": osRelease(id, name),
    "usr/bin/": "",
    "etc/os-release": { link: "../usr/lib/os-release" },
    "etc/hostname": `${id}\n`,
    ...files,
  };
}

/** The same number in each group, as a UUID. */
function uuid(n: number): string {
  const digit = n.toString(16);
  return [8, 4, 4, 4, 12].map((length) => digit.repeat(length)).join("-");
}

/** Of this process alone: mkfs.btrfs refuses a UUID that any device of the machine has. */
const BTRFS_UUID = crypto.randomUUID();

/** Type GUIDs. */
const ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B";
const XBOOTLDR = "BC13C2FF-59E6-4262-A352-B275FD6F7172";
const BIOS_BOOT = "21686148-6449-6E6F-744E-656564454649";
const ROOT_X86_64 = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709";
const USR_X86_64 = "8484680C-9521-48C6-9C11-B0720656F69E";
const LINUX = "0FC63DAF-8483-4772-8E79-3D69D8477DE4";
const SWAP = "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F";
const HOME = "933AC7E1-2EB4-4F13-B844-0E14E2AEF915";
const SRV = "3B8F8425-20E0-4F3B-907F-1A25A76F98E8";
const VAR = "4D21B016-B534-45C2-A9FB-5C16E091FD2D";
const LUKS = "CA7D7CCB-63ED-4C53-861C-1742536059CC";
const CHROMEOS_KERNEL = "FE3A2A5D-4F32-41A7-B725-ACCC3285A309";
const CHROMEOS_ROOT = "3CB8E202-3B7E-47DD-8A3C-7FF2A13CFCEC";
const CHROMEOS_RESERVED = "2E0A753D-9E48-43B0-8337-B15192CB1B5E";
const CHROMEOS_FIRMWARE = "CAB6E88E-ABF3-4102-A07A-D4BB9BE3C1D3";
const BASIC_DATA = "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7";

const RASPBERRY_PI: Layout = {
  name: "raspberry-pi",
  of: "Raspberry Pi OS: an MBR, PARTUUIDs in fstab",
  mib: 28,
  table: `label: dos
label-id: 0x9730496b
start=4MiB, size=8MiB, type=c
start=12MiB, size=16MiB, type=83
`,
  contents: {
    1: {
      type: "vfat",
      label: "bootfs",
      uuid: "50C8AEAE",
      files: {
        "cmdline.txt": "console=serial0,115200 console=tty1 root=PARTUUID=9730496b-02 " +
          "rootfstype=ext4 fsck.repair=yes rootwait\n",
        "config.txt": "dtparam=audio=on\n",
        "overlays/README": "overlays\n",
      },
    },
    2: {
      type: "ext4",
      label: "rootfs",
      files: root("debian", "Debian GNU/Linux 12 (bookworm)", {
        "boot/firmware/": "",
        "etc/fstab": `proc            /proc           proc    defaults          0       0
PARTUUID=9730496b-01  /boot/firmware  vfat    defaults          0       2
PARTUUID=9730496b-02  /               ext4    defaults,noatime  0       1
# a swapfile is not a swap partition, no line here
#   use  dphys-swapfile swap[on|off]  for that
`,
      }),
    },
  },
  mounts: [
    { point: "/", partition: 2, type: "ext4" },
    { point: "/boot/firmware", partition: 1, type: "vfat" },
  ],
  osRelease: { ID: "debian" },
  dissect: "takes a Linux partition of an MBR for the root only if it is marked as bootable",
};

const DEBIAN_CLOUD: Layout = {
  name: "debian-cloud",
  of: "Debian's cloud images: partitions 14, 15 and 1",
  mib: 34,
  table: `label: gpt
14: start=1MiB, size=3MiB, type=${BIOS_BOOT}
15: start=4MiB, size=8MiB, type=${ESP}, uuid=${uuid(15)}
1: start=12MiB, size=20MiB, type=${ROOT_X86_64}, uuid=${uuid(1)}
`,
  contents: {
    15: { type: "vfat", files: { "EFI/BOOT/BOOTX64.EFI": "shim\n" } },
    1: {
      type: "ext4",
      files: root("debian", "Debian GNU/Linux 13 (trixie)", {
        "boot/efi/": "",
        "boot/grub/grub.cfg": `linux /boot/vmlinuz root=PARTUUID=${uuid(1)} ro\n`,
        "etc/fstab": `# /etc/fstab: static file system information
PARTUUID=${uuid(1)} / ext4 rw,discard,errors=remount-ro,x-systemd.growfs 0 1
PARTUUID=${uuid(15)} /boot/efi vfat defaults 0 0
`,
      }),
    },
  },
  mounts: [
    { point: "/", partition: 1, type: "ext4" },
    { point: "/boot/efi", partition: 15, type: "vfat" },
  ],
  osRelease: { ID: "debian" },
  dissect: "reads no fstab, and would make /efi for the ESP",
};

const FEDORA: Layout = {
  name: "fedora",
  of: "Fedora: subvolumes of btrfs, /boot and ESP",
  mib: 62,
  table: `label: gpt
start=1MiB, size=1MiB, type=${BIOS_BOOT}, name=p.legacy
start=2MiB, size=4MiB, type=${ESP}, name=p.UEFI
start=6MiB, size=8MiB, type=${XBOOTLDR}, name=p.lxboot
start=14MiB, size=46MiB, type=${ROOT_X86_64}, name=p.lxroot
`,
  contents: {
    2: { type: "vfat", label: "EFI", uuid: "7B7795E7", files: { "EFI/fedora/grub.cfg": "\n" } },
    3: {
      type: "ext4",
      label: "BOOT",
      uuid: uuid(3),
      files: {
        "efi/": "",
        "loader/entries/linux.conf":
          `title Fedora\nlinux /vmlinuz\noptions root=UUID=${BTRFS_UUID} rootflags=subvol=root ro\n`,
      },
    },
    4: {
      type: "btrfs",
      label: "fedora",
      uuid: BTRFS_UUID,
      subvolumes: {
        root: root("fedora", "Fedora Linux 44 (Cloud Edition)", {
          "etc/fstab": `UUID=${BTRFS_UUID} / btrfs compress=zstd:1,defaults,subvol=root 0 1
UUID=${uuid(3)} /boot ext4 defaults 0 0
UUID=7B77-95E7 /boot/efi vfat defaults,umask=0077,shortname=winnt 0 0
UUID=${BTRFS_UUID} /home btrfs compress=zstd:1,subvol=home 0 0
UUID=${BTRFS_UUID} /var btrfs compress=zstd:1,subvol=var 0 0
`,
        }),
        home: { "fedora/.bashrc": "# .bashrc\n" },
        var: { "log/": "", "lib/": "" },
      },
    },
  },
  mounts: [
    { point: "/", partition: 4, type: "btrfs" },
    { point: "/boot", partition: 3, type: "ext4" },
    { point: "/boot/efi", partition: 2, type: "vfat" },
    { point: "/home", partition: 4, type: "btrfs" },
    { point: "/var", partition: 4, type: "btrfs" },
  ],
  osRelease: { ID: "fedora" },
  dissect: "takes no ext4 for XBOOTLDR, and no subvolume for the root",
};

const ARCH: Layout = {
  name: "arch",
  of: "Arch Linux: the ESP on /boot, /home on LUKS",
  mib: 56,
  table: `label: gpt
start=1MiB, size=8MiB, type=${ESP}
start=9MiB, size=2MiB, type=${SWAP}
start=11MiB, size=18MiB, type=${ROOT_X86_64}
start=29MiB, size=24MiB, type=${LUKS}
`,
  contents: {
    1: {
      type: "vfat",
      uuid: "ABCD1234",
      files: {
        "loader/entries/arch.conf": `title Arch Linux\nlinux /vmlinuz-linux\noptions root=UUID=${
          uuid(3)
        } rw\n`,
        "vmlinuz-linux": "kernel\n",
      },
    },
    2: { type: "swap", uuid: uuid(2) },
    3: {
      type: "ext4",
      uuid: uuid(3),
      files: root("arch", "Arch Linux", {
        "etc/crypttab": `home UUID=${uuid(4)} none\n`,
        "etc/fstab": `# Static information about the filesystems.
# <file system> <dir> <type> <options> <dump> <pass>
# /dev/vda3
UUID=${uuid(3)}\t/         \text4      \trw,relatime\t0 1

# /dev/vda1
UUID=ABCD-1234      \t/boot     \tvfat      \trw,relatime,fmask=0022,dmask=0022,codepage=437,` +
          `iocharset=ascii,shortname=mixed,utf8,errors=remount-ro\t0 2

# /dev/vda2
UUID=${uuid(2)}\tnone      \tswap      \tdefaults  \t0 0

/dev/mapper/home\t/home\text4\trw,relatime\t0 2
tmpfs\t/tmp\ttmpfs\tnosuid,nodev\t0 0
`,
      }),
    },
    4: { type: "luks", uuid: uuid(4) },
  },
  mounts: [
    { point: "/", partition: 3, type: "ext4" },
    { point: "/boot", partition: 1, type: "vfat" },
  ],
  skipped: [
    { partition: 2, reason: /swap/ },
    { point: "/home", reason: /mapper/ },
  ],
  osRelease: { ID: "arch" },
};

const MKOSI: Layout = {
  name: "mkosi",
  of: "mkosi: types alone, and a /usr of its own",
  mib: 60,
  table: `label: gpt
start=1MiB, size=8MiB, type=${ESP}, name=esp
start=9MiB, size=12MiB, type=${ROOT_X86_64}, name=root-x86-64
start=21MiB, size=8MiB, type=${USR_X86_64}, name=example_1
start=29MiB, size=8MiB, type=${HOME}, name=home
start=37MiB, size=8MiB, type=${SRV}, name=srv
start=45MiB, size=2MiB, type=${SWAP}, name=swap
start=47MiB, size=8MiB, type=${VAR}, name=var
`,
  contents: {
    1: { type: "vfat", files: { "EFI/Linux/example_1.efi": "a unified kernel image\n" } },
    2: { type: "ext4", files: empty("efi", "boot", "etc", "home", "srv", "usr", "var") },
    3: {
      type: "erofs",
      files: { "lib/os-release": osRelease("example", "Example 1"), "bin/": "" },
    },
    4: { type: "ext4", files: { "user/notes": "mine\n" } },
    5: { type: "ext4", files: { "www/index.html": "<p>\n" } },
    6: { type: "swap" },
    7: { type: "ext4", files: { "lib/": "", "log/": "" } },
  },
  mounts: [
    { point: "/", partition: 2, type: "ext4" },
    { point: "/boot", partition: 1, type: "vfat" },
    { point: "/home", partition: 4, type: "ext4" },
    { point: "/srv", partition: 5, type: "ext4" },
    { point: "/usr", partition: 3, type: "erofs" },
    { point: "/var", partition: 7, type: "ext4" },
  ],
  skipped: [{ partition: 6, reason: /swap/ }],
  osRelease: { ID: "example" },
};

const CHROMEOS: Layout = {
  name: "chromeos",
  of: "ChromeOS: twelve partitions, numbered in no order",
  mib: 60,
  table: `label: gpt
11: start=1MiB, size=1MiB, type=${CHROMEOS_FIRMWARE}, name=RWFW
6: start=2MiB, size=1MiB, type=${CHROMEOS_KERNEL}, name=KERN-C
7: start=3MiB, size=1MiB, type=${CHROMEOS_ROOT}, name=ROOT-C
9: start=4MiB, size=1MiB, type=${CHROMEOS_RESERVED}, name=reserved
10: start=5MiB, size=1MiB, type=${CHROMEOS_RESERVED}, name=reserved
2: start=6MiB, size=4MiB, type=${CHROMEOS_KERNEL}, name=KERN-A
4: start=10MiB, size=4MiB, type=${CHROMEOS_KERNEL}, name=KERN-B
8: start=14MiB, size=8MiB, type=${BASIC_DATA}, name=OEM
12: start=22MiB, size=8MiB, type=${ESP}, name=EFI-SYSTEM
5: start=30MiB, size=2MiB, type=${CHROMEOS_ROOT}, name=ROOT-B
3: start=32MiB, size=14MiB, type=${CHROMEOS_ROOT}, name=ROOT-A
1: start=46MiB, size=12MiB, type=${BASIC_DATA}, name=STATE
`,
  contents: {
    1: {
      type: "ext4",
      label: "STATE",
      files: { "unencrypted/": "", "dev_image/etc/lsb-release": "" },
    },
    3: {
      type: "ext2",
      label: "ROOT-A",
      files: root("chromeos", "Chrome OS", {
        "boot/vmlinuz": "kernel\n",
        "mnt/stateful_partition/": "",
        "etc/lsb-release": "CHROMEOS_RELEASE_TRACK=stable-channel\n",
      }),
    },
    8: { type: "ext4", label: "OEM", files: { "oem.conf": "\n" } },
    12: { type: "vfat", label: "EFI-SYSTEM", files: { "efi/boot/grub.cfg": "set timeout=0\n" } },
  },
  mounts: [{ point: "/", partition: 3, type: "ext2" }],
  osRelease: { ID: "chromeos" },
  dissect: "knows none of these types",
};

const HOME_ASSISTANT: Layout = {
  name: "home-assistant",
  of: "Home Assistant OS: names, and types that say nothing",
  mib: 42,
  table: `label: gpt
start=1MiB, size=8MiB, type=${ESP}, name=hassos-boot
start=9MiB, size=2MiB, type=${LINUX}, name=hassos-kernel0
start=11MiB, size=4MiB, type=${LINUX}, name=hassos-system0
start=15MiB, size=2MiB, type=${LINUX}, name=hassos-kernel1
start=17MiB, size=4MiB, type=${LINUX}, name=hassos-system1
start=21MiB, size=1MiB, type=${LINUX}, name=hassos-bootstate
start=22MiB, size=8MiB, type=${LINUX}, name=hassos-overlay
start=30MiB, size=10MiB, type=${LINUX}, name=hassos-data
`,
  contents: {
    1: { type: "vfat", label: "hassos-boot", files: { "cmdline.txt": "zram.enabled=1\n" } },
    2: { type: "squashfs", files: { "bzImage": "kernel\n" } },
    3: {
      type: "squashfs",
      files: root("hassos", "Home Assistant OS 17.0", {
        "etc/fstab": "# UNCONFIGURED FSTAB FOR BASE SYSTEM\n",
        "mnt/boot/": "",
        "mnt/data/": "",
        "mnt/overlay/": "",
        "boot/kernel": "kernel\n",
        "usr/lib/systemd/system/mnt-data.mount":
          "[Mount]\nWhat=/dev/disk/by-label/hassos-data\nWhere=/mnt/data\nType=ext4\n",
      }),
    },
    7: { type: "ext4", label: "hassos-overlay", files: { "etc/": "" } },
    8: { type: "ext4", label: "hassos-data", files: { "supervisor/homeassistant/": "" } },
  },
  mounts: [{ point: "/", partition: 3, type: "squashfs" }],
  osRelease: { ID: "hassos" },
  dissect: "several partitions of the generic type, of which it takes none",
};

const OPENWRT: Layout = {
  name: "openwrt",
  of: "OpenWrt: squashfs, and an ext4 behind it",
  mib: 28,
  table: `label: dos
label-id: 0x5452574f
start=1MiB, size=8MiB, type=83, bootable
start=9MiB, size=18MiB, type=83
`,
  contents: {
    1: {
      type: "ext2",
      files: {
        "boot/vmlinuz": "kernel\n",
        "boot/grub/grub.cfg": "linux /boot/vmlinuz root=PARTUUID=5452574f-02 rootwait\n",
      },
    },
    2: {
      type: "squashfs",
      files: root("openwrt", "OpenWrt 24.10.4", {
        "etc/fstab": { link: "/tmp/fstab" },
        "etc/config/network": "config interface 'loopback'\n",
        "overlay/": "",
        "rom/note": "SQUASHFS USERS:\n",
      }),
    },
  },
  behind: {
    partition: 2,
    at: 1024 * 1024,
    content: { type: "ext4", label: "rootfs_data", files: { "upper/etc/": "", "work/": "" } },
  },
  mounts: [{ point: "/", partition: 2, type: "squashfs" }],
  osRelease: { ID: "openwrt" },
  dissect: "takes what is marked as bootable for the root: the partition of the kernel",
};

const YOCTO: Layout = {
  name: "yocto",
  of: "Yocto's wic: the names of an SD card in fstab",
  mib: 30,
  table: `label: dos
label-id: 0x076c4a2a
start=4MiB, size=8MiB, type=c, bootable
start=12MiB, size=16MiB, type=83
`,
  contents: {
    1: { type: "vfat", label: "boot", files: { "Image": "kernel\n", "boot.scr": "\n" } },
    2: {
      type: "ext4",
      label: "root",
      files: root("poky", "Poky (Yocto Project Reference Distro) 5.0", {
        "etc/fstab": `# stock fstab - you probably want to override this with a machine specific one

/dev/root            /                    auto       defaults              1  1
proc                 /proc                proc       defaults              0  0
devpts               /dev/pts             devpts     mode=0620,ptmxmode=0666,gid=5      0  0
tmpfs                /run                 tmpfs      mode=0755,nodev,nosuid,strictatime 0  0
tmpfs                /var/volatile        tmpfs      defaults              0  0

# uncomment this if your device has a SD/MMC/Transflash slot
#/dev/mmcblk0p1       /media/card          auto       defaults,sync,noauto  0  0

/dev/mmcblk0p1\t/boot\tvfat\tdefaults\t0\t0
`,
      }),
    },
  },
  mounts: [
    { point: "/", partition: 2, type: "ext4" },
    { point: "/boot", partition: 1, type: "vfat" },
  ],
  osRelease: { ID: "poky" },
  dissect: "takes a Linux partition of an MBR for the root only if it is marked as bootable",
};

const ALPINE: Layout = {
  name: "alpine",
  of: "Alpine in a microVM: an ext4 without a table",
  mib: 16,
  contents: {
    0: {
      type: "ext4",
      label: "/",
      uuid: uuid(10),
      files: root("alpine", "Alpine Linux v3.22", {
        "etc/fstab": `UUID=${uuid(10)}\t/\text4\tnoatime\t0 1
/dev/cdrom\t/media/cdrom\tiso9660\tnoauto,ro 0 0
/dev/usbdisk\t/media/usb\tvfat\tnoauto\t0 0
`,
        "media/cdrom/": "",
        "media/usb/": "",
      }),
    },
  },
  mounts: [{ point: "/", type: "ext4" }],
  osRelease: { ID: "alpine" },
};

const ISO_HYBRID: Layout = {
  name: "iso-hybrid",
  of: "a live ISO with a partition table in front",
  mib: 2,
  contents: {
    0: {
      type: "iso9660",
      label: "live",
      files: {
        ".disk/info": "Debian GNU/Linux Live\n",
        "boot/grub/grub.cfg": "linux /live/vmlinuz boot=live\n",
        "live/vmlinuz": "kernel\n",
      },
      live: {
        path: "live/filesystem.squashfs",
        files: root("debian", "Debian GNU/Linux 13 (trixie)", {}),
      },
      esp: { "EFI/boot/bootx64.efi": "shim\n" },
    },
  },
  mounts: [{ point: "/", type: "iso9660" }],
  dissect: "goes by the table, which names the ISO's own bytes and the ESP",
};

const TWO_SLOTS: Layout = {
  name: "two-slots",
  of: "two slots (Mender, RAUC): `root` says which",
  mib: 54,
  table: `label: gpt
start=1MiB, size=8MiB, type=${ESP}, name=boot
start=9MiB, size=16MiB, type=${LINUX}, name=rootfs.0
start=25MiB, size=16MiB, type=${LINUX}, name=rootfs.1
start=41MiB, size=12MiB, type=${LINUX}, name=data
`,
  contents: {
    1: {
      type: "vfat",
      label: "boot",
      uuid: "1A2B3C4D",
      files: { "grub/grubenv": "# GRUB Environment Block\n" },
    },
    2: { type: "ext4", uuid: uuid(2), files: slot("7.0") },
    3: { type: "ext4", uuid: uuid(3), files: slot("7.1") },
    4: {
      type: "ext4",
      label: "data",
      uuid: uuid(4),
      files: { "mender/device_type": "qemux86-64\n" },
    },
  },
  root: 3,
  candidates: [2, 3],
  mounts: [
    { point: "/", partition: 3, type: "ext4" },
    { point: "/boot/grub", partition: 1, type: "vfat" },
    { point: "/data", partition: 4, type: "ext4" },
  ],
  osRelease: { ID: "poky", PRETTY_NAME: "Poky 7.1" },
  dissect: "several partitions of the generic type, of which it takes none",
};

/** What each of two slots has. */
function slot(version: string): Files {
  return root("poky", `Poky ${version}`, {
    "boot/grub/": "",
    "data/": "",
    "etc/fstab": `/dev/root / auto defaults 1 1
PARTLABEL=boot /boot/grub auto defaults,sync 0 0
/dev/disk/by-partlabel/data /data auto defaults 0 0
`,
  });
}

const VERSIONS: Layout = {
  name: "versions",
  of: "two versions (systemd-sysupdate): the newest name",
  mib: 46,
  table: `label: gpt
start=1MiB, size=8MiB, type=${ESP}, name=esp
start=9MiB, size=16MiB, type=${ROOT_X86_64}, name=example_10
start=25MiB, size=16MiB, type=${ROOT_X86_64}, name=example_9
start=41MiB, size=2MiB, type=${ROOT_X86_64}, name=_empty
`,
  contents: {
    1: { type: "vfat", files: { "EFI/Linux/example_10.efi": "a unified kernel image\n" } },
    2: { type: "ext4", files: root("example", "Example 10", {}) },
    3: { type: "ext4", files: root("example", "Example 9", {}) },
  },
  mounts: [
    { point: "/", partition: 2, type: "ext4" },
    { point: "/boot", partition: 1, type: "vfat" },
  ],
  osRelease: { PRETTY_NAME: "Example 10" },
};

export const LAYOUTS: readonly Layout[] = [
  RASPBERRY_PI,
  DEBIAN_CLOUD,
  FEDORA,
  ARCH,
  MKOSI,
  CHROMEOS,
  HOME_ASSISTANT,
  OPENWRT,
  YOCTO,
  ALPINE,
  ISO_HYBRID,
  TWO_SLOTS,
  VERSIONS,
];

export function layout(name: string): Layout {
  const found = LAYOUTS.find((each) => each.name === name);
  if (found === undefined) throw new RangeError(`no layout is called '${name}'`);
  return found;
}

/** Layouts and options with which docs/images.svg shows examples/mount_image.ts. */
export const SHOWN: readonly (readonly [layout: string, ...options: string[]])[] = [
  ["fedora"],
  ["two-slots"],
  ["two-slots", "--root", "name=rootfs.1"],
];
