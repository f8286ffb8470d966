/* SPDX-License-Identifier: GPL-2.0 */
/* What the tests of attaching share, beside io_test.h. */
#ifndef _SELFTESTS_FUSE_ATTACH_TEST_H
#define _SELFTESTS_FUSE_ATTACH_TEST_H

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "io_test.h"

/* errno values, so that 0 is success. */
static inline int attach_out(int dev, const struct fuse_passthrough_out *out)
{
	return ioctl(dev, FUSE_DEV_IOC_PASSTHROUGH_OPEN, out) ? errno : 0;
}

static inline int attach(int dev, uint64_t unique, int fd)
{
	struct fuse_passthrough_out out = { .unique = unique, .fd = fd };

	return attach_out(dev, &out);
}

/* The answer to an open of which the server keeps nothing: plain I/O fails. */
static inline int reply_open(struct fuse_server *s, uint64_t unique)
{
	struct fuse_open_out out = { .fh = -1 };

	return fuse_server_reply(s, unique, 0, &out, sizeof(out));
}

/* The answer to a CREATE or TMPFILE, likewise. */
static inline int reply_create(struct fuse_server *s, uint64_t unique,
			       uint64_t nodeid, mode_t mode)
{
	struct {
		struct fuse_entry_out e;
		struct fuse_open_out o;
	} out = {
		.e.nodeid = nodeid,
		.e.attr.ino = nodeid,
		.e.attr.mode = mode,
		.e.attr.nlink = 1,
		.o.fh = -1,
	};

	return fuse_server_reply(s, unique, 0, &out, sizeof(out));
}

/* Another descriptor of the same connection. */
static inline int clone_dev(int dev)
{
	uint32_t from = dev;
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd >= 0 && ioctl(fd, FUSE_DEV_IOC_CLONE, &from)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* Descriptors that are not of a lower file. */
static inline int directory(struct fuse_server *s)
{
	return lower_open(s, ".", O_RDONLY);
}

static inline int pipe_end(struct fuse_server *s)
{
	int fd[2];

	if (pipe(fd))
		return -1;
	close(fd[1]);
	return fd[0];
}

static inline int unix_socket(struct fuse_server *s)
{
	return socket(AF_UNIX, SOCK_STREAM, 0);
}

static inline int char_device(struct fuse_server *s)
{
	return open("/dev/zero", O_RDWR);
}

static inline int memfd(struct fuse_server *s)
{
	return syscall(SYS_memfd_create, "m", 0);
}

/*
 * The @len bytes of pattern @seed are read through @fd; the server saw as many
 * READs as that takes, none where passthrough is.
 */
static inline bool reads_pattern(struct fuse_server *s, int fd, size_t len,
				 unsigned int seed, bool passthrough)
{
	unsigned long before = fuse_server_count(s, FUSE_READ);
	char *buf = malloc(len);
	bool ok;

	ok = pread(fd, buf, len, 0) == (ssize_t)len &&
		pattern_differs(buf, len, 0, seed) == -1;
	free(buf);
	return ok && (fuse_server_count(s, FUSE_READ) == before) == passthrough;
}

/* @len bytes of pattern @seed are written through @fd to @name, likewise. */
static inline bool writes_pattern(struct fuse_server *s, int fd,
				  const char *name, size_t len,
				  unsigned int seed, bool passthrough)
{
	unsigned long before = fuse_server_count(s, FUSE_WRITE);
	char *buf = malloc(len);
	bool ok;

	pattern(buf, len, 0, seed);
	ok = pwrite(fd, buf, len, 0) == (ssize_t)len &&
		lower_differs(s, name, 0, len, seed) == -1;
	free(buf);
	return ok && (fuse_server_count(s, FUSE_WRITE) == before) == passthrough;
}

#endif /* _SELFTESTS_FUSE_ATTACH_TEST_H */
