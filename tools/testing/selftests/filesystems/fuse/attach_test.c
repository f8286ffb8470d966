// SPDX-License-Identifier: GPL-2.0
#define _GNU_SOURCE
#include "attach_test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

int ioctl_errno(int dev, unsigned long cmd, const void *arg)
{
	return ioctl(dev, cmd, arg) ? errno : 0;
}

int ioctl_unreadable(int dev, unsigned long cmd, const void *arg, size_t len)
{
	char *edge = (char *)pages(2 * PAGE) + PAGE;
	int err;

	munmap(edge, PAGE);
	/* All but the last byte is readable. */
	memcpy(edge - len + 1, arg, len - 1);

	err = ioctl_errno(dev, cmd, NULL);
	if (err == EFAULT)
		err = ioctl_errno(dev, cmd, edge - len + 1);
	if (err == EFAULT)
		err = ioctl_errno(dev, cmd, (void *)-4096L);
	munmap(edge - PAGE, PAGE);
	return err;
}

int attach_out(int dev, const struct fuse_passthrough_out *out)
{
	return ioctl_errno(dev, FUSE_DEV_IOC_PASSTHROUGH_OPEN, out);
}

int attach(int dev, uint64_t unique, int fd)
{
	struct fuse_passthrough_out out = { .unique = unique, .fd = fd };

	return attach_out(dev, &out);
}

int reply_open(struct fuse_server *s, uint64_t unique)
{
	struct fuse_open_out out = { .fh = -1 };

	return fuse_server_reply(s, unique, 0, &out, sizeof(out));
}

int reply_create(struct fuse_server *s, uint64_t unique, uint64_t nodeid,
		 mode_t mode)
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

int open_as(struct fuse_server *s, int opcode)
{
	switch (opcode) {
	case FUSE_OPEN:
		return open(fuse_path(s, "f"), O_RDWR | O_CLOEXEC);
	case FUSE_CREATE:
		return open(fuse_path(s, "new"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	default:
		return open(s->mnt, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
	}
}

int clone_dev(int dev)
{
	uint32_t from = dev;
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd >= 0 && ioctl(fd, FUSE_DEV_IOC_CLONE, &from)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

int serve_attempts(struct fuse_server *s, struct attempt *a, size_t len,
		   size_t other_len)
{
	int err;

	a->dev = -1;
	s->arg = a;
	err = fuse_server_start(s);
	if (err)
		return err;
	if (lower_make(s, "f", len, 1) || lower_make(s, "other", other_len, 2) ||
	    lookup(s, "."))
		return -EIO;
	return s->init_flags & FUSE_PASSTHROUGH ? 0 : -EPERM;
}

int attempt_dev(struct fuse_server *s)
{
	struct attempt *a = s->arg;

	return a->dev < 0 ? s->dev : a->dev;
}

bool try_attach(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct attempt *a = s->arg;
	struct fuse_passthrough_out out = a->t->out;

	if (in->opcode != (uint32_t)a->opcode)
		return false;
	out.unique += in->unique;
	out.fd = a->t->lower(s);
	a->fd = out.fd;
	a->got = attach_out(attempt_dev(s), &out);
	close(out.fd);
	return false;
}

bool lower_missing(const struct trial *t, int fd)
{
	return fd < 0 && t->lower != minus_one && t->lower != minus_two;
}

void switch_dev(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct attempt *a = s->arg;
	int dev = s->dev;

	fuse_server_reply(s, in->unique, -EIO, NULL, 0);
	s->dev = a->dev;
	a->dev = dev;
}

bool reads_pattern(struct fuse_server *s, int fd, size_t len, unsigned int seed,
		   bool passthrough)
{
	unsigned long before = fuse_server_count(s, FUSE_READ);
	char *buf = malloc(len);
	bool ok;

	ok = pread(fd, buf, len, 0) == (ssize_t)len &&
		pattern_differs(buf, len, 0, seed) == -1;
	free(buf);
	return ok && (fuse_server_count(s, FUSE_READ) == before) == passthrough;
}

bool writes_pattern(struct fuse_server *s, int fd, const char *name, size_t len,
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

bool send_fd(int sock, int fd, const char *text)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} u = {};
	struct iovec iov = { (void *)text, strlen(text) + 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = u.buf,
		.msg_controllen = sizeof(u.buf),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	return sendmsg(sock, &msg, 0) == (ssize_t)iov.iov_len;
}

int receive_fd(int sock, char *text, size_t len)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} u = {};
	struct iovec iov = { text, len };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = u.buf,
		.msg_controllen = sizeof(u.buf),
	};
	int fd = -1;

	if (recvmsg(sock, &msg, MSG_CMSG_CLOEXEC) > 0 && CMSG_FIRSTHDR(&msg))
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(int));
	return fd;
}

static bool device_closed;

void close_device(struct fuse_server *s)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	dup2(fd, s->dev);
	close(fd);
	__atomic_store_n(&device_closed, true, __ATOMIC_RELEASE);
}

void wait_for_close(void)
{
	while (!__atomic_load_n(&device_closed, __ATOMIC_ACQUIRE))
		sched_yield();
}

bool die_at_statfs(struct fuse_server *s, const struct fuse_in_header *in)
{
	if (in->opcode != FUSE_STATFS)
		return false;
	close_device(s);
	return true;
}
