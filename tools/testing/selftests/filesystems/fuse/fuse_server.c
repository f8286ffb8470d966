// SPDX-License-Identifier: GPL-2.0
#define _GNU_SOURCE
#include "fuse_server.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <unistd.h>

struct request {
	struct fuse_in_header h;
	char body[];
};

int fuse_server_reply(struct fuse_server *s, uint64_t unique, int error,
		      const void *out, size_t len)
{
	struct fuse_out_header h = {
		.unique = unique,
		.error = error,
		.len = sizeof(h) + (error ? 0 : len),
	};
	struct iovec iov[] = {
		{ .iov_base = &h, .iov_len = sizeof(h) },
		{ .iov_base = (void *)out, .iov_len = error ? 0 : len },
	};

	return writev(s->dev, iov, 2) < 0 ? -errno : 0;
}

/* ENOENT: interrupted; ENODEV: unmounted.  The tests see the effect. */
static void reply(struct fuse_server *s, const struct request *rq, int error,
		  const void *out, size_t len)
{
	fuse_server_reply(s, rq->h.unique, error, out, len);
}

/* Node ids are indices of names; the root is 1. */
static uint64_t node_of(struct fuse_server *s, const char *name)
{
	unsigned int i;

	for (i = 2; i < FUSE_SERVER_NODES; i++) {
		if (!s->nodes[i])
			s->nodes[i] = strdup(name);
		if (!strcmp(s->nodes[i], name))
			return i;
	}
	abort();
}

static const char *name_of(struct fuse_server *s, const struct request *rq)
{
	return rq->h.nodeid == FUSE_ROOT_ID ? "." : s->nodes[rq->h.nodeid];
}

int fuse_server_attr(struct fuse_server *s, uint64_t nodeid, const char *name,
		     struct fuse_attr *a)
{
	struct stat st;

	if (fstatat(s->dirfd, name, &st, AT_SYMLINK_NOFOLLOW))
		return -errno;

	*a = (struct fuse_attr) {
		.ino = nodeid,
		.size = st.st_size,
		.blocks = st.st_blocks,
		.atime = st.st_atim.tv_sec,
		.mtime = st.st_mtim.tv_sec,
		.ctime = st.st_ctim.tv_sec,
		.atimensec = st.st_atim.tv_nsec,
		.mtimensec = st.st_mtim.tv_nsec,
		.ctimensec = st.st_ctim.tv_nsec,
		.mode = st.st_mode,
		.nlink = st.st_nlink,
		.uid = st.st_uid,
		.gid = st.st_gid,
		.blksize = st.st_blksize,
	};
	return 0;
}

static int fill_entry(struct fuse_server *s, const char *name,
		      struct fuse_entry_out *e)
{
	memset(e, 0, sizeof(*e));
	e->nodeid = node_of(s, name);
	e->entry_valid = s->attr_valid;
	e->attr_valid = s->attr_valid;
	return fuse_server_attr(s, e->nodeid, name, &e->attr);
}

static void do_init(struct fuse_server *s, const struct request *rq)
{
	const struct fuse_init_in *in = (const void *)rq->body;
	uint64_t want = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_MAX_PAGES |
		FUSE_INIT_EXT | FUSE_PASSTHROUGH;
	struct fuse_init_out out = {
		.major = FUSE_KERNEL_VERSION,
		.minor = FUSE_KERNEL_MINOR_VERSION,
		.max_readahead = in->max_readahead,
		.max_background = 64,
		.congestion_threshold = 48,
		.max_write = 128 * 1024,
		.max_pages = 32,
		.time_gran = 1,
		.max_stack_depth = 2,
	};

	if (s->writeback)
		want |= FUSE_WRITEBACK_CACHE;
	want &= in->flags | (uint64_t)in->flags2 << 32;
	out.flags = want;
	out.flags2 = want >> 32;
	if (s->init)
		s->init(s, &out);
	s->init_flags = out.flags | (uint64_t)out.flags2 << 32;
	reply(s, rq, 0, &out, sizeof(out));
}

static void do_lookup(struct fuse_server *s, const struct request *rq)
{
	struct fuse_entry_out e;

	reply(s, rq, fill_entry(s, rq->body, &e), &e, sizeof(e));
}

static void reply_attr(struct fuse_server *s, const struct request *rq)
{
	struct fuse_attr_out out = { .attr_valid = s->attr_valid };
	int err = fuse_server_attr(s, rq->h.nodeid, name_of(s, rq), &out.attr);

	reply(s, rq, err, &out, sizeof(out));
}

static struct timespec set_time(uint32_t valid, uint32_t set, uint32_t now,
				uint64_t sec, uint32_t nsec)
{
	struct timespec t = { .tv_sec = sec, .tv_nsec = nsec };

	if (!(valid & set))
		t.tv_nsec = UTIME_OMIT;
	else if (valid & now)
		t.tv_nsec = UTIME_NOW;
	return t;
}

static int set_size(struct fuse_server *s, const char *name, uint64_t size)
{
	int fd = openat(s->dirfd, name, O_WRONLY | O_CLOEXEC);
	int err = 0;

	if (fd < 0 || ftruncate(fd, size))
		err = -errno;
	if (fd >= 0)
		close(fd);
	return err;
}

static void do_setattr(struct fuse_server *s, const struct request *rq)
{
	const struct fuse_setattr_in *in = (const void *)rq->body;
	const char *name = name_of(s, rq);
	struct timespec ts[2];
	int err = 0;

	if (in->valid & FATTR_MODE)
		err = fchmodat(s->dirfd, name, in->mode & 07777, 0) ? -errno : 0;
	if (!err && (in->valid & FATTR_SIZE))
		err = set_size(s, name, in->size);
	if (!err && (in->valid & (FATTR_ATIME | FATTR_MTIME))) {
		ts[0] = set_time(in->valid, FATTR_ATIME, FATTR_ATIME_NOW,
				 in->atime, in->atimensec);
		ts[1] = set_time(in->valid, FATTR_MTIME, FATTR_MTIME_NOW,
				 in->mtime, in->mtimensec);
		err = utimensat(s->dirfd, name, ts, 0) ? -errno : 0;
	}
	if (err)
		reply(s, rq, err, NULL, 0);
	else
		reply_attr(s, rq);
}

/* The lower file of an open, with what the answer says of it. */
static int open_lower(struct fuse_server *s, const struct request *rq,
		      const char *name, uint32_t flags,
		      struct fuse_open_out *out)
{
	bool pass = s->how == OPEN_PASSTHROUGH || s->how == OPEN_BACKING_ID;
	int mode = s->open_mode;
	int fd;

	/* A write-back cache reads for, and writes through, any open. */
	if (mode < 0)
		mode = pass ? flags & O_ACCMODE : O_RDWR;
	fd = openat(s->dirfd, s->open_lower ?: name,
		    mode | (flags & O_TRUNC) | O_CLOEXEC);
	if (fd < 0 && !pass)
		fd = openat(s->dirfd, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;

	memset(out, 0, sizeof(*out));
	out->fh = fd;
	out->open_flags = s->open_flags;

	if (s->how == OPEN_PASSTHROUGH) {
		struct fuse_passthrough_out p = {
			.unique = rq->h.unique,
			.fd = fd,
		};

		if (ioctl(s->dev, FUSE_DEV_IOC_PASSTHROUGH_OPEN, &p))
			s->open_error = errno;
	} else if (s->how == OPEN_BACKING_ID) {
		struct fuse_backing_map map = { .fd = fd };
		int id = ioctl(s->dev, FUSE_DEV_IOC_BACKING_OPEN, &map);

		if (id > 0) {
			out->backing_id = id;
			out->open_flags |= FOPEN_PASSTHROUGH;
		} else {
			s->open_error = errno;
		}
	} else if (s->how == OPEN_DIRECT) {
		out->open_flags |= FOPEN_DIRECT_IO;
	}
	return 0;
}

static void do_open(struct fuse_server *s, const struct request *rq)
{
	const struct fuse_open_in *in = (const void *)rq->body;
	struct fuse_open_out out = {};
	int err = open_lower(s, rq, name_of(s, rq), in->flags, &out);

	reply(s, rq, err, &out, sizeof(out));
}

static void do_create(struct fuse_server *s, const struct request *rq)
{
	const struct fuse_create_in *in = (const void *)rq->body;
	const char *name = rq->body + sizeof(*in);
	struct {
		struct fuse_entry_out e;
		struct fuse_open_out o;
	} out = {};
	int fd, err;

	fd = openat(s->dirfd, name, (in->flags & O_EXCL) | O_CREAT | O_RDWR |
		    O_CLOEXEC, in->mode & 07777);
	err = fd < 0 ? -errno : 0;
	if (fd >= 0)
		close(fd);
	if (!err)
		err = open_lower(s, rq, name, in->flags, &out.o);
	if (!err)
		err = fill_entry(s, name, &out.e);
	reply(s, rq, err, &out, sizeof(out));
}

static void do_read(struct fuse_server *s, const struct request *rq, char *buf)
{
	const struct fuse_read_in *in = (const void *)rq->body;
	ssize_t n = pread(in->fh, buf, in->size, in->offset);

	reply(s, rq, n < 0 ? -errno : 0, buf, n);
}

static void do_write(struct fuse_server *s, const struct request *rq)
{
	const struct fuse_write_in *in = (const void *)rq->body;
	ssize_t n = pwrite(in->fh, rq->body + sizeof(*in), in->size, in->offset);
	struct fuse_write_out out = { .size = n };

	reply(s, rq, n < 0 ? -errno : 0, &out, sizeof(out));
}

static bool keep_back(struct fuse_server *s, const struct request *rq)
{
	unsigned char last = ((const char *)rq)[rq->h.len - 1];
	bool held = false;

	pthread_mutex_lock(&s->lock);
	if (s->hold && last == s->hold_last && s->nr_held < FUSE_SERVER_HELD) {
		void *copy = malloc(rq->h.len);

		memcpy(copy, rq, rq->h.len);
		s->held[s->nr_held++] = copy;
		held = true;
		pthread_cond_broadcast(&s->change);
	}
	pthread_mutex_unlock(&s->lock);
	return held;
}

static void do_lseek(struct fuse_server *s, const struct request *rq)
{
	const struct fuse_lseek_in *in = (const void *)rq->body;
	off_t off = lseek(in->fh, in->offset, in->whence);
	struct fuse_lseek_out out = { .offset = off };

	reply(s, rq, off < 0 ? -errno : 0, &out, sizeof(out));
}

static void do_fallocate(struct fuse_server *s, const struct request *rq)
{
	const struct fuse_fallocate_in *in = (const void *)rq->body;
	int err = fallocate(in->fh, in->mode, in->offset, in->length);

	reply(s, rq, err ? -errno : 0, NULL, 0);
}

static void do_copy(struct fuse_server *s, const struct request *rq)
{
	const struct fuse_copy_file_range_in *in = (const void *)rq->body;
	off_t from = in->off_in, to = in->off_out;
	ssize_t n = copy_file_range(in->fh_in, &from, in->fh_out, &to,
				    in->len, 0);
	struct fuse_write_out out = { .size = n };

	reply(s, rq, n < 0 ? -errno : 0, &out, sizeof(out));
}

static void do_fsync(struct fuse_server *s, const struct request *rq)
{
	const struct fuse_fsync_in *in = (const void *)rq->body;
	int err = in->fsync_flags & FUSE_FSYNC_FDATASYNC ? fdatasync(in->fh) :
		fsync(in->fh);

	reply(s, rq, err ? -errno : 0, NULL, 0);
}

static void do_release(struct fuse_server *s, const struct request *rq)
{
	const struct fuse_release_in *in = (const void *)rq->body;

	if (rq->h.opcode == FUSE_RELEASE)
		close(in->fh);
	reply(s, rq, 0, NULL, 0);
}

static void do_unlink(struct fuse_server *s, const struct request *rq)
{
	int err = unlinkat(s->dirfd, rq->body, 0);

	reply(s, rq, err ? -errno : 0, NULL, 0);
}

static void do_statfs(struct fuse_server *s, const struct request *rq)
{
	struct fuse_statfs_out out = {};
	struct statfs st;
	int err = fstatfs(s->dirfd, &st) ? -errno : 0;

	out.st.blocks = st.f_blocks;
	out.st.bfree = st.f_bfree;
	out.st.bavail = st.f_bavail;
	out.st.bsize = st.f_bsize;
	out.st.frsize = st.f_frsize;
	out.st.namelen = 255;
	reply(s, rq, err, &out, sizeof(out));
}

static void handle(struct fuse_server *s, const struct request *rq, char *buf)
{
	static const struct fuse_open_out none;

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
	case FUSE_CREATE:	return do_create(s, rq);
	case FUSE_READ:		return do_read(s, rq, buf);
	case FUSE_WRITE:
		if (!keep_back(s, rq))
			do_write(s, rq);
		return;
	case FUSE_LSEEK:	return do_lseek(s, rq);
	case FUSE_FALLOCATE:	return do_fallocate(s, rq);
	case FUSE_COPY_FILE_RANGE: return do_copy(s, rq);
	case FUSE_FSYNC:	return do_fsync(s, rq);
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR:	return do_release(s, rq);
	case FUSE_UNLINK:	return do_unlink(s, rq);
	case FUSE_STATFS:	return do_statfs(s, rq);
	case FUSE_OPENDIR:	return reply(s, rq, 0, &none, sizeof(none));
	case FUSE_READDIR:	return reply(s, rq, 0, NULL, 0);
	default:		return reply(s, rq, -ENOSYS, NULL, 0);
	}
}

static void *serve(void *arg)
{
	struct fuse_server *s = arg;
	struct request *rq = malloc(FUSE_SERVER_BUF);
	char *buf = malloc(FUSE_SERVER_BUF);

	for (;;) {
		ssize_t n = read(s->dev, rq, FUSE_SERVER_BUF);

		if (n < 0 && (errno == EINTR || errno == EAGAIN ||
			      errno == ENOENT))
			continue;
		if (n < (ssize_t)sizeof(*rq))
			break;
		pthread_mutex_lock(&s->lock);
		if (rq->h.opcode < FUSE_SERVER_OPCODES)
			s->count[rq->h.opcode]++;
		pthread_cond_broadcast(&s->change);
		pthread_mutex_unlock(&s->lock);
		if (!s->request || !s->request(s, &rq->h))
			handle(s, rq, buf);
	}
	free(buf);
	free(rq);
	return NULL;
}

int fuse_server_start(struct fuse_server *s)
{
	const char *base = getenv("FUSE_TEST_LOWER") ?: getenv("TMPDIR") ?: "/tmp";
	char opts[128];

	snprintf(s->mnt, sizeof(s->mnt), "/tmp/fuse.XXXXXX");
	snprintf(s->lower, sizeof(s->lower), "%s/lower.XXXXXX", base);
	s->how = OPEN_PASSTHROUGH;
	s->open_mode = -1;
	s->attr_valid = 3600;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->change, NULL);

	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return -errno;
	if (!mkdtemp(s->mnt) || !mkdtemp(s->lower))
		return -errno;
	s->dirfd = open(s->lower, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	s->dev = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (s->dirfd < 0 || s->dev < 0)
		return -errno;

	snprintf(opts, sizeof(opts),
		 "fd=%d,rootmode=40000,user_id=0,group_id=0%s", s->dev,
		 s->owner_only ? "" : ",allow_other");
	if (mount("fuse", s->mnt, "fuse", MS_NOSUID | MS_NODEV, opts))
		return -errno;
	return -pthread_create(&s->thread, NULL, serve, s);
}

void fuse_server_die(struct fuse_server *s)
{
	if (s->dev < 0)
		return;
	/* Aborts; the thread's read gets ENODEV. */
	umount2(s->mnt, MNT_FORCE);
	pthread_join(s->thread, NULL);
	close(s->dev);
	s->dev = -1;
}

void fuse_server_stop(struct fuse_server *s)
{
	struct dirent *d;
	DIR *dir;

	umount2(s->mnt, MNT_FORCE | MNT_DETACH);
	fuse_server_die(s);
	rmdir(s->mnt);

	dir = fdopendir(s->dirfd);
	while (dir && (d = readdir(dir)))
		unlinkat(s->dirfd, d->d_name, 0);
	closedir(dir);
	rmdir(s->lower);
}

unsigned long fuse_server_count(struct fuse_server *s, int opcode)
{
	unsigned long count;

	pthread_mutex_lock(&s->lock);
	count = s->count[opcode];
	pthread_mutex_unlock(&s->lock);
	return count;
}

void fuse_server_wait(struct fuse_server *s, int opcode, unsigned long count)
{
	pthread_mutex_lock(&s->lock);
	while (s->count[opcode] < count)
		pthread_cond_wait(&s->change, &s->lock);
	pthread_mutex_unlock(&s->lock);
}

void fuse_server_hold(struct fuse_server *s, unsigned char last)
{
	pthread_mutex_lock(&s->lock);
	s->hold_last = last;
	s->hold = true;
	pthread_mutex_unlock(&s->lock);
}

void fuse_server_wait_held(struct fuse_server *s, unsigned int nr)
{
	pthread_mutex_lock(&s->lock);
	while (s->nr_held < nr)
		pthread_cond_wait(&s->change, &s->lock);
	pthread_mutex_unlock(&s->lock);
}

void fuse_server_release(struct fuse_server *s)
{
	unsigned int i;

	pthread_mutex_lock(&s->lock);
	s->hold = false;
	for (i = 0; i < s->nr_held; i++) {
		do_write(s, s->held[i]);
		free(s->held[i]);
	}
	s->nr_held = 0;
	pthread_mutex_unlock(&s->lock);
}
