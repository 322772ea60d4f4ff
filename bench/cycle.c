/*
 * The yardstick. Reads lines "STRATEGY CYCLES" and answers each with the nanoseconds of every
 * attach + detach on one line. "same" makes the system calls that loopdev makes, in their order, with
 * nothing around them; "bare" only those without which nothing is attached.
 *
 *     cc -O2 -o cycle bench/cycle.c && echo "one-step 100" | ./cycle same plain.img disk.img
 */
#define _GNU_SOURCE
#include <linux/blkpg.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <time.h>

#include "calls.h"

/* The image has these partitions of 1 MiB each, from 1 MiB on. */
#define PARTITIONS 4
#define MIB (1024LL * 1024)
/* Where its table ends, at most. */
#define TABLE 24576

static void partition(int fd, int op, int number)
{
	struct blkpg_partition data = { .start = number * MIB, .length = MIB, .pno = number };
	struct blkpg_ioctl_arg arg = { .op = op, .datalen = sizeof data, .data = &data };
	int tries = 0;

	/* Somebody looks at the partition: the kernel removes it when he has closed it. */
	while (ioctl(fd, BLKPG, &arg) < 0)
		if (errno != EBUSY || tries++ == 1000 || usleep(1000) < 0)
			die("BLKPG");
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
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd >= 0 && ioctl(fd, LOOP_CONFIGURE, &config) == 0)
			break;
		/* Somebody else was first, or has removed it. */
		if (errno != EBUSY && errno != ENOENT)
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
	int i, j;

	look(disk);
	list(disk);
	for (i = 1; i <= PARTITIONS; i++)
		for (j = 0; j < 3; j++) {
			snprintf(path, sizeof path, "%s/loop%dp%d/%s", disk, number, i, attributes[j]);
			read_text(path, 1);
		}
	for (i = 1; i <= PARTITIONS; i++) {
		snprintf(path, sizeof path, "/dev/loop%dp%d", number, i);
		look(path);
	}
	for (i = 1; i <= PARTITIONS; i++) {
		snprintf(path, sizeof path, "%s/loop%dp%d", disk, number, i);
		look(path);
	}
}

/* Those that are there still, while nobody has the device to himself. */
static void remove_partitions(int fd, const char *node, const char *disk, int number)
{
	char path[96];
	int i, alone;

	/* Somebody looks at it: not for long. */
	while ((alone = open(node, O_RDONLY | O_EXCL | O_CLOEXEC)) < 0 && errno == EBUSY)
		usleep(1000);
	close(must(alone, node));
	for (i = 1; i <= PARTITIONS; i++) {
		snprintf(path, sizeof path, "%s/loop%dp%d/start", disk, number, i);
		read_text(path, 1);
		partition(fd, BLKPG_DEL_PARTITION, i);
	}
}

static int open_partitions(const char *disk, int number, int *nodes)
{
	char path[96];
	int i;

	list(disk);
	for (i = 1; i <= PARTITIONS; i++) {
		snprintf(path, sizeof path, "%s/loop%dp%d/dev", disk, number, i);
		read_text(path, 1);
	}
	for (i = 1; i <= PARTITIONS; i++) {
		snprintf(path, sizeof path, "/dev/loop%dp%d", number, i);
		nodes[i - 1] = must(open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC), path);
		look_at(nodes[i - 1], STATX_BASIC_STATS);
	}
	return PARTITIONS;
}

static void same(const char *image, const char *strategy)
{
	struct loop_config config = { .info.lo_flags = LO_FLAGS_AUTOCLEAR };
	struct loop_info64 info;
	char path[32], disk[32], link[32];
	int nodes[PARTITIONS + 1];
	int control, number, fd, writable, read_only, sector_size, i;
	uint64_t size, diskseq;
	int none = !strcmp(strategy, "none");
	int userspace = !strcmp(strategy, "userspace");

	config.fd = open_cached(image, O_RDWR | O_NONBLOCK);
	look_at(config.fd, STATX_BASIC_STATS);
	fcntl(config.fd, F_SETFL, 0);
	count_dirty(config.fd);
	/* The partition table, at every sector size that it can have; and what no disk has at its end. */
	if (!none) {
		count_dirty(config.fd);
		pread(config.fd, buffer, TABLE, 0);
	}
	if (!none && !userspace) {
		count_dirty(config.fd);
		pread(config.fd, buffer, 512, status.stx_size - 512);
	}
	control = must(open("/dev/loop-control", O_RDWR | O_CLOEXEC), "/dev/loop-control");
	if (!strcmp(strategy, "one-step"))
		config.info.lo_flags |= LO_FLAGS_PARTSCAN;
	for (;;) {
		number = must(ioctl(control, LOOP_CTL_GET_FREE), "LOOP_CTL_GET_FREE");
		snprintf(path, sizeof path, "/dev/loop%d", number);
		snprintf(disk, sizeof disk, "/sys/block/loop%d", number);
		/* Somebody removes devices. */
		if (look(path) < 0 && usleep(1000) == 0)
			continue;
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
	must(ioctl(fd, BLKROGET, &read_only), "BLKROGET");
	must(ioctl(fd, LOOP_GET_STATUS64, &info), "LOOP_GET_STATUS64");
	snprintf(link, sizeof link, "/proc/self/fd/%d", config.fd);
	must(readlink(link, buffer, 4096), link);
	must(ioctl(fd, BLKGETSIZE64, &size), "BLKGETSIZE64");
	must(ioctl(fd, BLKSSZGET, &sector_size), "BLKSSZGET");
	ioctl(fd, BLKGETDISKSEQ, &diskseq);
	close(writable);
	close(control);
	if (!strcmp(strategy, "two-step")) {
		two_steps(fd, path);
		/* Which partitions shall be there now. */
		count_dirty(config.fd);
		pread(config.fd, buffer, TABLE, 0);
	}
	if (userspace)
		drain(path);
	if (!none)
		look(disk);
	if (userspace) {
		for (i = 1; i <= PARTITIONS; i++)
			partition(fd, BLKPG_ADD_PARTITION, i);
		look_at_partitions(disk, number);
	}
	look(disk);
	i = userspace ? open_partitions(disk, number, nodes) : 0;
	nodes[i] = fd;
	write_back(nodes, i + 1, config.fd);
	while (i-- > 0)
		close(nodes[i]);
	look("/dev");
	if (userspace)
		remove_partitions(fd, path, disk, number);
	close(config.fd);
	if (userspace)
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
