/*
 * The yardstick. Reads lines "STRATEGY CYCLES" and answers each with the nanoseconds of every
 * attach + detach on one line. "same" makes the system calls that loopdev makes, in their order, with
 * nothing around them; "bare" only those without which nothing is attached.
 *
 *     cc -O2 -o cycle bench/cycle.c && echo "one-step 100" | ./cycle same plain.img disk.img
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/blkpg.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

/* The image has these partitions of 1 MiB each, from 1 MiB on. */
#define PARTITIONS 4
#define MIB (1024LL * 1024)

#define SYS_CACHESTAT 451
#define SYS_OPENAT2 437

static char buffer[24576];
static struct statx status;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int must(int result, const char *what)
{
	if (result < 0)
		die(what);
	return result;
}

static void partition(int fd, int op, int number)
{
	struct blkpg_partition data = { .start = number * MIB, .length = MIB, .pno = number };
	struct blkpg_ioctl_arg arg = { .op = op, .datalen = sizeof data, .data = &data };

	must(ioctl(fd, BLKPG, &arg), "BLKPG");
}

static void look(const char *path)
{
	statx(AT_FDCWD, path, 0, STATX_BASIC_STATS, &status);
}

static void look_at(int fd)
{
	must(statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &status), "statx");
}

static void read_text(const char *path)
{
	int fd = must(open(path, O_RDONLY | O_CLOEXEC), path);

	must(pread(fd, buffer, 4096, 0), path);
	close(fd);
}

static void count_dirty(int fd)
{
	uint64_t range[2] = { 0, 1 << 30 }, result[5];

	syscall(SYS_CACHESTAT, fd, range, result, 0);
}

static int open_cached(const char *path)
{
	/* struct open_how: flags, mode, resolve = RESOLVE_CACHED */
	uint64_t how[3] = { O_RDWR | O_NONBLOCK | O_CLOEXEC, 0, 0x20 };

	return must(syscall(SYS_OPENAT2, AT_FDCWD, path, how, sizeof how), path);
}

/*
 * A node of our own, which no udev watches: see lib/udev/udev_reread.ts. Gives the descriptor that keeps
 * the device, and in `writable` the one through which it is bound.
 */
static int open_unwatched(int number, int *writable)
{
	uint32_t header[2] = { 0x20080522, 0 }, capabilities[6];
	char own[64];
	int fd;

	syscall(SYS_capget, header, capabilities);

	snprintf(own, sizeof own, "/dev/.loopdev-loop%d", number);
	/* Who attaches at the same time makes and unlinks the same node. */
	do {
		if (mknod(own, S_IFBLK | 0600, makedev(7, number)) < 0 && errno != EEXIST)
			die(own);
		fd = open(own, O_RDONLY | O_CLOEXEC);
		*writable = fd < 0 ? fd : open(own, O_RDWR | O_CLOEXEC);
		if (*writable < 0 && fd >= 0)
			close(fd);
	} while (*writable < 0 && errno == ENOENT);
	must(*writable, own);
	unlink(own);
	return fd;
}

/* What was written to the device has reached the file, or an error says that it has not. */
static void write_back(const int *nodes, int count, int backing)
{
	int i;

	for (i = 0; i < count; i++)
		count_dirty(nodes[i]);
	count_dirty(backing);
	for (i = 0; i < count; i++)
		must(sync_file_range(nodes[i], 0, 0, 7), "sync_file_range");
	must(sync_file_range(backing, 0, 0, 7), "sync_file_range");
}

static void drain(const char *path)
{
	close(must(open(path, O_RDONLY | O_CLOEXEC), path));
}

static void two_steps(int fd, const char *path)
{
	struct loop_info64 info;

	drain(path);
	must(ioctl(fd, LOOP_GET_STATUS64, &info), "LOOP_GET_STATUS64");
	info.lo_flags |= LO_FLAGS_PARTSCAN;
	must(ioctl(fd, LOOP_SET_STATUS64, &info), "LOOP_SET_STATUS64");
}

static void bare(const char *image, const char *strategy)
{
	struct loop_config config = { .info.lo_flags = LO_FLAGS_AUTOCLEAR };
	int control = must(open("/dev/loop-control", O_RDWR | O_CLOEXEC), "/dev/loop-control");
	char path[32];
	int fd, i;

	config.fd = must(open(image, O_RDWR | O_CLOEXEC), image);
	if (!strcmp(strategy, "one-step"))
		config.info.lo_flags |= LO_FLAGS_PARTSCAN;
	for (;;) {
		snprintf(path, sizeof path, "/dev/loop%d", ioctl(control, LOOP_CTL_GET_FREE));
		fd = must(open(path, O_RDWR | O_CLOEXEC), path);
		if (ioctl(fd, LOOP_CONFIGURE, &config) == 0)
			break;
		if (errno != EBUSY)
			die("LOOP_CONFIGURE");
		close(fd);
	}
	close(control);
	close(config.fd);
	if (!strcmp(strategy, "two-step"))
		two_steps(fd, path);
	if (!strcmp(strategy, "userspace")) {
		drain(path);
		for (i = 1; i <= PARTITIONS; i++)
			partition(fd, BLKPG_ADD_PARTITION, i);
		for (i = 1; i <= PARTITIONS; i++)
			partition(fd, BLKPG_DEL_PARTITION, i);
	}
	close(fd);
}

static void look_at_partitions(const char *disk, int number)
{
	static const char *attributes[] = { "start", "size", "dev" };
	char path[96];
	int fd, i, j;

	look(disk);
	fd = must(open(disk, O_RDONLY | O_CLOEXEC), disk);
	while (syscall(SYS_getdents64, fd, buffer, 8192) > 0)
		;
	close(fd);
	look(disk);
	for (i = 1; i <= PARTITIONS; i++)
		for (j = 0; j < 3; j++) {
			snprintf(path, sizeof path, "%s/loop%dp%d/%s", disk, number, i, attributes[j]);
			read_text(path);
		}
	for (i = 1; i <= PARTITIONS; i++) {
		snprintf(path, sizeof path, "/dev/loop%dp%d", number, i);
		look(path);
	}
}

static int open_partitions(const char *disk, int number, int *nodes)
{
	char path[96];
	int fd, i;

	fd = must(open(disk, O_RDONLY | O_CLOEXEC), disk);
	while (syscall(SYS_getdents64, fd, buffer, 8192) > 0)
		;
	close(fd);
	for (i = 1; i <= PARTITIONS; i++) {
		snprintf(path, sizeof path, "%s/loop%dp%d/dev", disk, number, i);
		read_text(path);
	}
	for (i = 1; i <= PARTITIONS; i++) {
		snprintf(path, sizeof path, "/dev/loop%dp%d", number, i);
		nodes[i - 1] = must(open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC), path);
		look_at(nodes[i - 1]);
	}
	return PARTITIONS;
}

static void same(const char *image, const char *strategy)
{
	struct loop_config config = { .info.lo_flags = LO_FLAGS_AUTOCLEAR };
	struct loop_info64 info;
	char path[32], disk[32], link[32];
	int nodes[PARTITIONS + 1];
	int control, number, fd, writable, backing, sector_size, i;
	uint64_t size, diskseq;
	int none = !strcmp(strategy, "none");
	int userspace = !strcmp(strategy, "userspace");

	config.fd = open_cached(image);
	look_at(config.fd);
	fcntl(config.fd, F_SETFL, 0);
	count_dirty(config.fd);
	/* The partition table, at every sector size that it can have. */
	if (!none)
		pread(config.fd, buffer, sizeof buffer, 0);
	control = must(open("/dev/loop-control", O_RDWR | O_CLOEXEC), "/dev/loop-control");
	if (!strcmp(strategy, "one-step"))
		config.info.lo_flags |= LO_FLAGS_PARTSCAN;
	for (;;) {
		number = must(ioctl(control, LOOP_CTL_GET_FREE), "LOOP_CTL_GET_FREE");
		snprintf(path, sizeof path, "/dev/loop%d", number);
		snprintf(disk, sizeof disk, "/sys/block/loop%d", number);
		look(path);
		look(disk);
		fd = open_unwatched(number, &writable);
		if (ioctl(writable, LOOP_CONFIGURE, &config) == 0)
			break;
		if (errno != EBUSY)
			die("LOOP_CONFIGURE");
		close(writable);
		close(fd);
	}
	sync_file_range(fd, 0, 0, 1);
	must(ioctl(fd, LOOP_GET_STATUS64, &info), "LOOP_GET_STATUS64");
	snprintf(link, sizeof link, "/proc/self/fd/%d", config.fd);
	must(readlink(link, buffer, 4096), link);
	must(ioctl(fd, BLKGETSIZE64, &size), "BLKGETSIZE64");
	must(ioctl(fd, BLKSSZGET, &sector_size), "BLKSSZGET");
	ioctl(fd, BLKGETDISKSEQ, &diskseq);
	backing = must(fcntl(config.fd, F_DUPFD_CLOEXEC, 0), "F_DUPFD_CLOEXEC");
	close(writable);
	close(control);
	if (!strcmp(strategy, "two-step"))
		two_steps(fd, path);
	if (userspace)
		drain(path);
	if (!none)
		look(disk);
	if (userspace) {
		for (i = 1; i <= PARTITIONS; i++)
			partition(fd, BLKPG_ADD_PARTITION, i);
		look_at_partitions(disk, number);
	}
	close(config.fd);
	look(disk);
	i = userspace ? open_partitions(disk, number, nodes) : 0;
	nodes[i] = fd;
	write_back(nodes, i + 1, backing);
	while (i-- > 0)
		close(nodes[i]);
	if (userspace)
		for (i = 1; i <= PARTITIONS; i++)
			partition(fd, BLKPG_DEL_PARTITION, i);
	close(backing);
	count_dirty(fd);
	close(fd);
	look(disk);
}

int main(int argc, char **argv)
{
	void (*cycle)(const char *, const char *);
	char strategy[32];
	int cycles;

	if (argc != 4 || (strcmp(argv[1], "same") && strcmp(argv[1], "bare"))) {
		fprintf(stderr, "Usage: cycle same|bare IMAGE PARTITIONED_IMAGE\n");
		return 1;
	}
	cycle = !strcmp(argv[1], "same") ? same : bare;
	while (scanf("%31s %d", strategy, &cycles) == 2) {
		while (cycles-- > 0) {
			struct timespec start, end;

			clock_gettime(CLOCK_MONOTONIC, &start);
			cycle(argv[strcmp(strategy, "userspace") ? 2 : 3], strategy);
			clock_gettime(CLOCK_MONOTONIC, &end);
			printf("%lld ", (end.tv_sec - start.tv_sec) * 1000000000LL + end.tv_nsec - start.tv_nsec);
		}
		printf("\n");
		fflush(stdout);
	}
	return 0;
}
