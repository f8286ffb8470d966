// SPDX-License-Identifier: GPL-2.0
#define _GNU_SOURCE
#include "id_server.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILE_NODE	2
#define REQUEST_MAX	(1 << 20)

struct request {
	struct fuse_in_header h;
	char body[];
};

static void reply(struct id_server *s, const struct request *rq, int error,
		  const void *out, size_t len)
{
	struct fuse_out_header h = {
		.unique = rq->h.unique,
		.error = error,
		.len = sizeof(h) + len,
	};
	struct iovec iov[] = {
		{ .iov_base = &h, .iov_len = sizeof(h) },
		{ .iov_base = (void *)out, .iov_len = len },
	};

	/* Nobody waits for what was interrupted. */
	if (writev(s->dev, iov, 2) < 0 && errno != ENOENT && errno != ENODEV)
		abort();
}

static struct fuse_attr attr_of(struct id_server *s, uint64_t node)
{
	struct fuse_attr a = {
		.ino = node,
		.mode = S_IFDIR | 0755,
		.nlink = 1,
	};
	struct stat st;

	if (node == FILE_NODE && !fstat(s->lower, &st)) {
		a.mode = st.st_mode;
		a.size = st.st_size;
		a.uid = st.st_uid;
		a.gid = st.st_gid;
	}
	return a;
}

/* The passthrough of Linux 6.9: one id for all opens. */
static void do_init(struct id_server *s, const struct request *rq)
{
	uint64_t want = FUSE_INIT_EXT | FUSE_PASSTHROUGH | s->handles;
	struct fuse_init_out out = {
		.major = FUSE_KERNEL_VERSION,
		.minor = FUSE_KERNEL_MINOR_VERSION,
		.max_write = 65536,
		.flags = want,
		.flags2 = want >> 32,
		.max_stack_depth = 1,
	};

	reply(s, rq, 0, &out, sizeof(out));
}

static void do_lookup(struct id_server *s, const struct request *rq)
{
	struct fuse_entry_out out = {
		.nodeid = FILE_NODE,
		.entry_valid = 3600,
		.attr_valid = 3600,
		.attr = attr_of(s, FILE_NODE),
	};

	if (strcmp(rq->body, "f"))
		reply(s, rq, -ENOENT, NULL, 0);
	else
		reply(s, rq, 0, &out, sizeof(out));
}

static void reply_attr(struct id_server *s, const struct request *rq)
{
	struct fuse_attr_out out = {
		.attr_valid = 3600,
		.attr = attr_of(s, rq->h.nodeid),
	};

	reply(s, rq, 0, &out, sizeof(out));
}

static void do_setattr(struct id_server *s, const struct request *rq)
{
	const struct fuse_setattr_in *in = (const void *)rq->body;

	if ((in->valid & FATTR_MODE) && fchmod(s->lower, in->mode & 07777))
		reply(s, rq, -errno, NULL, 0);
	else
		reply_attr(s, rq);
}

static void do_open(struct id_server *s, const struct request *rq)
{
	struct fuse_backing_map map = { .fd = s->lower };
	struct fuse_open_out out = { .open_flags = FOPEN_PASSTHROUGH };
	int id = s->id ?: ioctl(s->dev, FUSE_DEV_IOC_BACKING_OPEN, &map);

	if (id <= 0) {
		reply(s, rq, -errno, NULL, 0);
		return;
	}
	s->id = id;
	out.backing_id = id;
	reply(s, rq, 0, &out, sizeof(out));
}

static void handle(struct id_server *s, const struct request *rq)
{
	switch (rq->h.opcode) {
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		return;
	case FUSE_INIT:		return do_init(s, rq);
	case FUSE_LOOKUP:	return do_lookup(s, rq);
	case FUSE_GETATTR:	return reply_attr(s, rq);
	case FUSE_SETATTR:	return do_setattr(s, rq);
	case FUSE_OPEN:		return do_open(s, rq);
	/* There are none; the kernel asks again each time. */
	case FUSE_GETXATTR:	return reply(s, rq, -ENODATA, NULL, 0);
	case FUSE_RELEASE:	return reply(s, rq, 0, NULL, 0);
	default:		return reply(s, rq, -ENOSYS, NULL, 0);
	}
}

static void *serve(void *arg)
{
	struct id_server *s = arg;
	struct request *rq = malloc(REQUEST_MAX);

	for (;;) {
		ssize_t n = read(s->dev, rq, REQUEST_MAX);

		if (n < 0 && (errno == EINTR || errno == EAGAIN ||
			      errno == ENOENT))
			continue;
		if (n < (ssize_t)sizeof(*rq))
			break;
		if (rq->h.opcode < 64)
			__atomic_add_fetch(&s->count[rq->h.opcode], 1,
					   __ATOMIC_SEQ_CST);
		handle(s, rq);
	}
	free(rq);
	return NULL;
}

int id_server_start(struct id_server *s)
{
	const char *base = getenv("FUSE_TEST_LOWER") ?: getenv("TMPDIR") ?: "/tmp";
	char name[128], opts[96];

	if (unshare(CLONE_NEWNS) ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return -errno;
	snprintf(name, sizeof(name), "%s/lower.XXXXXX", base);
	s->lower = mkstemp(name);
	if (s->lower < 0 || unlink(name) || fchmod(s->lower, 0666))
		return -errno;
	strcpy(s->mnt, "/tmp/id.XXXXXX");
	if (!mkdtemp(s->mnt))
		return -errno;
	snprintf(s->file, sizeof(s->file), "%s/f", s->mnt);

	s->dev = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	snprintf(opts, sizeof(opts),
		 "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", s->dev);
	if (s->dev < 0 || mount("id", s->mnt, "fuse", MS_NODEV, opts))
		return -errno;
	return -pthread_create(&s->thread, NULL, serve, s);
}

void id_server_stop(struct id_server *s)
{
	/* Aborts; the thread's read gets ENODEV. */
	umount2(s->mnt, MNT_FORCE | MNT_DETACH);
	pthread_join(s->thread, NULL);
	close(s->dev);
	close(s->lower);
	rmdir(s->mnt);
}

unsigned long id_server_count(struct id_server *s, int opcode)
{
	return __atomic_load_n(&s->count[opcode], __ATOMIC_SEQ_CST);
}

unsigned long id_server_total(struct id_server *s)
{
	unsigned long sum = 0;
	int i;

	for (i = 0; i < 64; i++)
		sum += id_server_count(s, i);
	return sum;
}
