/*
 * The system calls of loopdev's mount() and unmount(), and no more: what the kernel takes for them.
 *
 *     mount_cycle /dev/loop0 40
 *
 * prints the nanoseconds of each of 40 cycles. The mount lies on a directory of its own below /run.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/mount.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define BEGINNING (68 * 1024)
#define TAIL (64 * 1024)

static long must(const char *call, long result)
{
	if (result < 0) {
		fprintf(stderr, "mount_cycle: %s: %m\n", call);
		exit(1);
	}
	return result;
}

static void read_superblocks(const char *device)
{
	static char bytes[2 * TAIL];
	uint64_t size;
	int fd = must("open", open(device, O_RDONLY | O_CLOEXEC));

	must("BLKGETSIZE64", ioctl(fd, BLKGETSIZE64, &size));
	off_t tail = size - size % TAIL - TAIL;
	must("pread", pread(fd, bytes, BEGINNING, 0));
	must("pread", pread(fd, bytes, size - tail, tail));
	close(fd);
}

/* <sys/mount.h>, which cannot stand beside <linux/mount.h> in every libc. */
int umount2(const char *path, int flags);
#define MNT_DETACH 2

static void read_mountinfo(void)
{
	static char bytes[64 * 1024];
	int fd = must("mountinfo", open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC));
	off_t at = 0;
	ssize_t length;

	while ((length = must("pread", pread(fd, bytes, sizeof bytes, at))) > 0)
		at += length;
	close(fd);
}

/* Others look whether a device is free just so. */
static int open_exclusively(const char *device)
{
	int fd, tries = 0;

	while ((fd = open(device, O_RDONLY | O_EXCL | O_CLOEXEC)) < 0 && errno == EBUSY && tries++ < 1000)
		usleep(1000);
	return fd;
}

static void cycle(const char *device, int owner)
{
	struct statfs status;
	struct stat directory;
	struct statx identity;
	char path[64], link[2];

	read_superblocks(device);
	int log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	lseek(log, 0, SEEK_END);
	int context = must("fsopen", syscall(SYS_fsopen, "ext4", FSOPEN_CLOEXEC));
	must("source", syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "source", device, 0));
	must("create", syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0));
	int mount = must("fsmount", syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC,
					    MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV));
	int root = must("openat", openat(mount, ".", O_RDONLY | O_CLOEXEC));
	must("fstatfs", fstatfs(root, &status));
	close(context);
	must("statx", statx(mount, "", AT_EMPTY_PATH, STATX_MNT_ID, &identity));
	must("mknodat", mknodat(owner, ".record", S_IFREG | 0600, 0));
	must("mkdirat", mkdirat(owner, "mount", 0700));
	must("move_mount", syscall(SYS_move_mount, mount, "", owner, "mount", MOVE_MOUNT_F_EMPTY_PATH));
	must("fstat", fstat(root, &directory));
	close(log);

	/* What lies below it, before and after what is ours there. */
	read_mountinfo();
	read_mountinfo();
	int node = must("open", open(device, O_RDONLY | O_CLOEXEC));
	must("syncfs", syncfs(root));
	must("fsync", fsync(node));
	snprintf(path, sizeof path, "/proc/self/fd/%d", mount);
	must("umount2", umount2(path, MNT_DETACH));
	must("readlink", readlink(path, link, sizeof link));
	close(node);
	close(root);
	close(mount);
	must("unlinkat", unlinkat(owner, "mount", AT_REMOVEDIR));
	must("unlinkat", unlinkat(owner, ".record", 0));
	close(must("still mounted", open_exclusively(device)));
}

int main(int argc, char **argv)
{
	int rounds = argc > 2 ? atoi(argv[2]) : 1;
	struct timespec start, end;
	char folder[] = "/run/mount_cycle-XXXXXX";

	if (mkdtemp(folder) == NULL)
		must("mkdtemp", -1);
	int owner = must("open", open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC));

	for (int round = 0; round < rounds; round++) {
		clock_gettime(CLOCK_MONOTONIC, &start);
		cycle(argv[1], owner);
		clock_gettime(CLOCK_MONOTONIC, &end);
		printf("%ld\n", (end.tv_sec - start.tv_sec) * 1000000000L + end.tv_nsec - start.tv_nsec);
	}
	must("rmdir", rmdir(folder));
	return 0;
}
