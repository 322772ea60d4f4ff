/* What bench/cycle.c and bench/mount_cycle.c have in common: system calls of loopdev's, one a function. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define SYS_CACHESTAT 451
#define SYS_OPENAT2 437

static char buffer[128 * 1024];
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

static int look(const char *path)
{
	return statx(AT_FDCWD, path, 0, STATX_BASIC_STATS, &status);
}

static void look_at(int fd, unsigned mask)
{
	must(statx(fd, "", AT_EMPTY_PATH, mask, &status), "statx");
}

/* A file that the kernel writes while it is read: to its end, or only once. */
static void read_text(const char *path, int once)
{
	int fd = must(open(path, O_RDONLY | O_CLOEXEC), path);
	off_t at = 0;
	ssize_t length;

	while ((length = must(pread(fd, buffer, 65536, at), path)) > 0 && !once)
		at += length;
	close(fd);
}

static void list(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	while (syscall(SYS_getdents64, fd, buffer, 8192) > 0)
		;
	close(fd);
}

static void count_dirty(int fd)
{
	uint64_t range[2] = { 0, 1 << 30 }, result[5];

	syscall(SYS_CACHESTAT, fd, range, result, 0);
}

static int open_cached(const char *path, int flags)
{
	/* struct open_how: flags, mode, resolve = RESOLVE_CACHED */
	uint64_t how[3] = { flags | O_CLOEXEC, 0, 0x20 };
	int fd = syscall(SYS_OPENAT2, AT_FDCWD, path, how, sizeof how);

	/* Not cached: loopdev lets another thread open it then. */
	if (fd < 0 && errno == EAGAIN)
		fd = open(path, how[0]);
	return must(fd, path);
}

/*
 * A node of our own, which no udev watches: see lib/udev/close_write_race.ts. Gives the descriptor that
 * keeps the device, and in `writable` the one through which it is bound.
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
