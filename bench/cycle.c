/*
 * The yardstick: the same system calls as loopdev, with nothing around them. Reads lines
 * "STRATEGY CYCLES" and answers each with the nanoseconds of every attach + detach on one line.
 *
 *     cc -O2 -o cycle bench/cycle.c && echo "one-step 100" | ./cycle plain.img disk.img
 */
#include <fcntl.h>
#include <linux/blkpg.h>
#include <linux/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

/* The image has these partitions of 1 MiB each, from 1 MiB on. */
#define PARTITIONS 4
#define MIB (1024LL * 1024)

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void partition(int fd, int op, int number)
{
	struct blkpg_partition data = { .start = number * MIB, .length = MIB, .pno = number };
	struct blkpg_ioctl_arg arg = { .op = op, .datalen = sizeof data, .data = &data };

	if (ioctl(fd, BLKPG, &arg) < 0)
		die("BLKPG");
}

static void cycle(int control, const char *image, const char *strategy)
{
	struct loop_config config = { .info.lo_flags = LO_FLAGS_AUTOCLEAR };
	int userspace = !strcmp(strategy, "userspace");
	int one_step = !strcmp(strategy, "one-step");
	int two_step = !strcmp(strategy, "two-step");
	char path[32];
	int number, fd, i;

	config.fd = open(image, O_RDWR | O_CLOEXEC);
	if ((int)config.fd < 0)
		die(image);
	number = ioctl(control, LOOP_CTL_GET_FREE);
	snprintf(path, sizeof path, "/dev/loop%d", number);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		die(path);
	if (one_step)
		config.info.lo_flags |= LO_FLAGS_PARTSCAN;
	if (ioctl(fd, LOOP_CONFIGURE, &config) < 0)
		die("LOOP_CONFIGURE");
	close(config.fd);
	if (two_step) {
		struct loop_info64 info;

		close(open(path, O_RDONLY | O_CLOEXEC));
		if (ioctl(fd, LOOP_GET_STATUS64, &info) < 0)
			die("LOOP_GET_STATUS64");
		info.lo_flags |= LO_FLAGS_PARTSCAN;
		if (ioctl(fd, LOOP_SET_STATUS64, &info) < 0)
			die("LOOP_SET_STATUS64");
	}
	if (userspace) {
		for (i = 1; i <= PARTITIONS; i++)
			partition(fd, BLKPG_ADD_PARTITION, i);
		for (i = 1; i <= PARTITIONS; i++)
			partition(fd, BLKPG_DEL_PARTITION, i);
	}
	close(fd);
}

int main(int argc, char **argv)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	char strategy[32];
	int cycles;

	if (argc != 3) {
		fprintf(stderr, "Usage: cycle IMAGE PARTITIONED_IMAGE\n");
		return 1;
	}
	if (control < 0)
		die("/dev/loop-control");
	while (scanf("%31s %d", strategy, &cycles) == 2) {
		while (cycles-- > 0) {
			struct timespec start, end;

			clock_gettime(CLOCK_MONOTONIC, &start);
			cycle(control, argv[strcmp(strategy, "userspace") ? 1 : 2], strategy);
			clock_gettime(CLOCK_MONOTONIC, &end);
			printf("%lld ", (end.tv_sec - start.tv_sec) * 1000000000LL + end.tv_nsec - start.tv_nsec);
		}
		printf("\n");
		fflush(stdout);
	}
	return 0;
}
