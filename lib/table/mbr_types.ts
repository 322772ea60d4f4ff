/**
 * Names of MS-DOS tables' system ids, in the words of `sfdisk --label dos --list-types`.
 *
 * @module
 */

/** One text, so that a program which looks at no partition does not pay for an object a type. */
const TYPES = `
00 Empty
01 FAT12
02 XENIX root
03 XENIX usr
04 FAT16 <32M
05 Extended
06 FAT16
07 HPFS/NTFS/exFAT
08 AIX
09 AIX bootable
0a OS/2 Boot Manager
0b W95 FAT32
0c W95 FAT32 (LBA)
0e W95 FAT16 (LBA)
0f W95 Ext'd (LBA)
10 OPUS
11 Hidden FAT12
12 Compaq diagnostics
14 Hidden FAT16 <32M
16 Hidden FAT16
17 Hidden HPFS/NTFS
18 AST SmartSleep
1b Hidden W95 FAT32
1c Hidden W95 FAT32 (LBA)
1e Hidden W95 FAT16 (LBA)
24 NEC DOS
27 Hidden NTFS WinRE
39 Plan 9
3c PartitionMagic recovery
40 Venix 80286
41 PPC PReP Boot
42 SFS
4d QNX4.x
4e QNX4.x 2nd part
4f QNX4.x 3rd part
50 OnTrack DM
51 OnTrack DM6 Aux1
52 CP/M
53 OnTrack DM6 Aux3
54 OnTrackDM6
55 EZ-Drive
56 Golden Bow
5c Priam Edisk
61 SpeedStor
63 GNU HURD or SysV
64 Novell Netware 286
65 Novell Netware 386
70 DiskSecure Multi-Boot
75 PC/IX
80 Old Minix
81 Minix / old Linux
82 Linux swap / Solaris
83 Linux
84 OS/2 hidden or Intel hibernation
85 Linux extended
86 NTFS volume set
87 NTFS volume set
88 Linux plaintext
8e Linux LVM
93 Amoeba
94 Amoeba BBT
9f BSD/OS
a0 IBM Thinkpad hibernation
a5 FreeBSD
a6 OpenBSD
a7 NeXTSTEP
a8 Darwin UFS
a9 NetBSD
ab Darwin boot
af HFS / HFS+
b7 BSDI fs
b8 BSDI swap
bb Boot Wizard hidden
bc Acronis FAT32 LBA
be Solaris boot
bf Solaris
c1 DRDOS/sec (FAT-12)
c4 DRDOS/sec (FAT-16 < 32M)
c6 DRDOS/sec (FAT-16)
c7 Syrinx
da Non-FS data
db CP/M / CTOS / ...
de Dell Utility
df BootIt
e0 NX emuMMC
e1 DOS access
e3 DOS R/O
e4 SpeedStor
ea Linux extended boot
eb BeOS fs
ee GPT
ef EFI (FAT-12/16/32)
f0 Linux/PA-RISC boot
f1 SpeedStor
f2 DOS secondary
f4 SpeedStor
f8 EBBR protective
fb VMware VMFS
fc VMware VMKCORE
fd Linux raid autodetect
fe LANstep
ff BBT
`;

let names: Map<number, string> | undefined;

/** "Linux" for 0x83; undefined for an unknown id. */
export function mbrTypeName(id: number): string | undefined {
  names ??= new Map(
    TYPES.trim().split("\n").map((line) => [parseInt(line.slice(0, 2), 16), line.slice(3)]),
  );
  return names.get(id);
}
