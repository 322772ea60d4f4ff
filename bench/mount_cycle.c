/*
 * The floor of bench/mount_cycles.ts: attaches an image, mounts it, writes ten files, unmounts it and
 * detaches it. The system calls are those of loopdev, in their order, with nothing around them; what
 * loopdev lets another thread do is done here at once. bench/calls.ts compares the two lists.
 *
 *     cc -O2 -o mount_cycle bench/mount_cycle.c && echo loopdev 40 | ./mount_cycle disk.img
 *
 * answers each line, a name and a count, with one line: of each cycle the ns of its five parts.
 */
#define _GNU_SOURCE
#include <linux/fs.h>
#include <linux/loop.h>
#include <linux/mount.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <time.h>

#include "calls.h"

#define FILES 10
#define FILE_SIZE 4096
#define PARTS 5
#define MOUNTS "/run/mount_cycle"
#define BEGINNING (68 * 1024)
#define END (60 * 1024)

#define MNT_DETACH 2

/* <sys/mount.h> and <sys/quota.h> cannot stand beside <linux/mount.h> in every libc. */
int umount2(const char *path, int flags);
#define Q_GETFMT_USER (0x800004 << 8)

/* What attach() gives to the rest: the device, and the image behind it. */
struct use {
	char node[32], disk[32], block[32];
	int device, backing, in_memory;
};

/* What mount() gives to the rest. */
struct mounted {
	int mount, root;
	char path[64];
};

static struct use attach(const char *image)
{
	struct loop_config config = { .info.lo_flags = LO_FLAGS_AUTOCLEAR };
	struct loop_info64 info;
	struct statfs file_system;
	struct use use;
	char link[32];
	uint64_t size, diskseq;
	int control, number, writable, read_only, sector_size;

	config.fd = open_cached(image, O_RDWR | O_NONBLOCK);
	look_at(config.fd, STATX_BASIC_STATS);
	/* In memory: whether it is a file system that loop devices can lie on. No disk waits for its pages. */
	use.in_memory = status.stx_dev_major == 0;
	if (use.in_memory)
		must(fstatfs(config.fd, &file_system), "fstatfs");
	fcntl(config.fd, F_SETFL, 0);
	if (!use.in_memory)
		count_dirty(config.fd);
	control = must(open("/dev/loop-control", O_RDWR | O_CLOEXEC), "/dev/loop-control");
	for (;;) {
		number = must(ioctl(control, LOOP_CTL_GET_FREE), "LOOP_CTL_GET_FREE");
		snprintf(use.node, sizeof use.node, "/dev/loop%d", number);
		snprintf(use.disk, sizeof use.disk, "/sys/block/loop%d", number);
		snprintf(use.block, sizeof use.block, "/sys/dev/block/7:%d", number);
		/* Somebody removes devices. */
		if (look(use.node) < 0 && usleep(1000) == 0)
			continue;
		look(use.disk);
		use.device = open_unwatched(number, &writable);
		if (ioctl(writable, LOOP_CONFIGURE, &config) == 0)
			break;
		if (errno != EBUSY)
			must(-1, "LOOP_CONFIGURE");
		close(writable);
		close(use.device);
	}
	sync_file_range(use.device, 0, 0, 1);
	must(ioctl(use.device, BLKROGET, &read_only), "BLKROGET");
	must(ioctl(use.device, LOOP_GET_STATUS64, &info), "LOOP_GET_STATUS64");
	snprintf(link, sizeof link, "/proc/self/fd/%d", config.fd);
	must(readlink(link, buffer, 4096), link);
	must(ioctl(use.device, BLKGETSIZE64, &size), "BLKGETSIZE64");
	must(ioctl(use.device, BLKSSZGET, &sector_size), "BLKSSZGET");
	ioctl(use.device, BLKGETDISKSEQ, &diskseq);
	use.backing = config.fd;
	close(writable);
	close(control);
	return use;
}

static void read_superblocks(int fd)
{
	uint64_t size;

	must(ioctl(fd, BLKGETSIZE64, &size), "BLKGETSIZE64");
	count_dirty(fd);
	must(pread(fd, buffer, BEGINNING, 0), "pread");
	must(pread(fd, buffer, END, size - 64 * 1024), "pread");
	close(fd);
}

/* `owner`: the directory of this process, in which its mounts lie. */
static struct mounted mount_it(const struct use *use, const char *folder, int owner)
{
	struct statfs file_system;
	struct mounted mounted;
	struct pollfd keeper = { .fd = owner };
	int node, log, context;

	node = open_cached(use->node, O_RDONLY);
	read_superblocks(node);
	/* Whether somebody has cleared /run. */
	look_at(owner, STATX_BASIC_STATS);
	/* Whether dead processes have left mounts. */
	list(MOUNTS);
	/* Whether the keeper lives. */
	ppoll(&keeper, 1, &(struct timespec) { 0 }, NULL);
	log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	lseek(log, 0, SEEK_END);
	context = must(syscall(SYS_fsopen, "ext4", FSOPEN_CLOEXEC), "fsopen");
	must(syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "source", use->node, 0), "source");
	must(syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "errors", "remount-ro", 0), "errors");
	must(syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0), "create");
	mounted.mount = must(syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC,
				     MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV), "fsmount");
	mounted.root = must(openat(mounted.mount, ".", O_RDONLY | O_CLOEXEC), "openat");
	must(fstatfs(mounted.root, &file_system), "fstatfs");
	close(context);
	look_at(mounted.mount, STATX_MNT_ID);
	must(mknodat(owner, ".record", S_IFREG | 0600, 0), "mknodat");
	must(mkdirat(owner, "mount", 0700), "mkdirat");
	must(syscall(SYS_move_mount, mounted.mount, "", owner, "mount", MOVE_MOUNT_F_EMPTY_PATH),
	     "move_mount");
	look_at(mounted.root, STATX_BASIC_STATS);
	close(log);
	snprintf(mounted.path, sizeof mounted.path, "%s/mount", folder);
	return mounted;
}

/* Files of their own: over one that is there ext4 would write the old one's blocks at its close. */
static void write_files(const char *path)
{
	static int cycles;
	char name[96];
	int fd, i;

	cycles++;
	memset(buffer, 'x', FILE_SIZE);
	for (i = 0; i < FILES; i++) {
		snprintf(name, sizeof name, "%s/%d-%d-%d", path, getpid(), cycles, i);
		fd = must(open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666), name);
		must(write(fd, buffer, FILE_SIZE), "write");
		close(fd);
	}
}

static void unmount_it(const struct use *use, const struct mounted *mounted, int owner)
{
	char path[64], link[2];
	int node;

	/* What lies below it. */
	read_text("/proc/self/mountinfo", 0);
	node = open_cached(use->node, O_RDONLY);
	must(syncfs(mounted->root), "syncfs");
	snprintf(path, sizeof path, "/proc/self/fd/%d", mounted->mount);
	must(umount2(path, MNT_DETACH), "umount2");
	must(readlinkat(AT_FDCWD, path, link, sizeof link), "readlink");
	close(mounted->root);
	close(mounted->mount);
	must(fsync(node), "fsync");
	close(node);
	must(unlinkat(owner, "mount", AT_REMOVEDIR), "unlinkat");
	must(unlinkat(owner, ".record", 0), "unlinkat");
}

/* Whoever may hold the device still. */
static void look_for_holders(const struct use *use)
{
	char path[64];
	uint32_t format;

	look(use->node);
	snprintf(path, sizeof path, "%s/uevent", use->block);
	read_text(path, 1);
	look(use->disk);
	snprintf(path, sizeof path, "%s/holders", use->block);
	list(path);
	read_text("/proc/swaps", 0);
	list("/sys/fs/btrfs");
	list("/proc/fs/jbd2");
	list("/sys/fs/xfs");
	syscall(SYS_quotactl, Q_GETFMT_USER, use->node, 0, &format);
}

static void detach(const struct use *use)
{
	look_for_holders(use);
	look(use->disk);
	count_dirty(use->device);
	if (!use->in_memory)
		count_dirty(use->backing);
	must(sync_file_range(use->device, 0, 0, 7), "sync_file_range");
	must(sync_file_range(use->backing, 0, 0, 7), "sync_file_range");
	look("/dev");
	close(use->backing);
	close(use->device);
	look(use->disk);
}

static long long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void cycle(const char *image, const char *folder, int owner)
{
	long long times[PARTS + 1];
	struct mounted mounted;
	struct use use;
	int i;

	times[0] = now();
	use = attach(image);
	times[1] = now();
	mounted = mount_it(&use, folder, owner);
	times[2] = now();
	write_files(mounted.path);
	times[3] = now();
	unmount_it(&use, &mounted, owner);
	times[4] = now();
	detach(&use);
	times[5] = now();
	for (i = 0; i < PARTS; i++)
		printf("%lld ", times[i + 1] - times[i]);
}

int main(int argc, char **argv)
{
	char folder[] = MOUNTS "/XXXXXX", what[32];
	int owner, cycles;

	if (argc != 2) {
		fprintf(stderr, "Usage: mount_cycle IMAGE\n");
		return 1;
	}
	if (mkdir(MOUNTS, 0700) < 0 && errno != EEXIST)
		die(MOUNTS);
	if (mkdtemp(folder) == NULL)
		die("mkdtemp");
	owner = must(open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open");
	while (scanf("%31s %d", what, &cycles) == 2) {
		while (cycles-- > 0)
			cycle(argv[1], folder, owner);
		printf("\n");
		fflush(stdout);
	}
	must(rmdir(folder), "rmdir");
	/* Another one may have it. */
	rmdir(MOUNTS);
	return 0;
}
