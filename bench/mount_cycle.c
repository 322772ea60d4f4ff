/*
 * The system calls of loopdev's mount() and unmount(), and no more: what the kernel takes for them.
 *
 *     mount_cycle /dev/loop0 40
 *
 * prints the nanoseconds of each of 40 cycles.
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

static void cycle(const char *device)
{
	struct statfs status;
	struct stat directory;

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
	must("fstat", fstat(root, &directory));
	close(context);
	close(log);
	must("syncfs", syncfs(root));
	close(root);
	close(mount);
	close(must("still mounted", open(device, O_RDONLY | O_EXCL | O_CLOEXEC)));
}

int main(int argc, char **argv)
{
	int rounds = argc > 2 ? atoi(argv[2]) : 1;
	struct timespec start, end;

	for (int round = 0; round < rounds; round++) {
		clock_gettime(CLOCK_MONOTONIC, &start);
		cycle(argv[1]);
		clock_gettime(CLOCK_MONOTONIC, &end);
		printf("%ld\n", (end.tv_sec - start.tv_sec) * 1000000000L + end.tv_nsec - start.tv_nsec);
	}
	return 0;
}
