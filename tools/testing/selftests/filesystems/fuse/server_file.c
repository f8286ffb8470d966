// SPDX-License-Identifier: GPL-2.0
/* Opens, and requests on open files and directories */
#define _GNU_SOURCE
#include "server_i.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Open the lower file, and fill in the answer. */
static int open_lower(struct fuse_server *s, const struct request *rq,
		      const char *name, uint32_t flags,
		      struct fuse_open_out *out)
{
	bool pass = s->how != OPEN_CACHED && s->how != OPEN_DIRECT;
	int mode = s->open_mode;
	int fd;

	/* Writeback reads and writes through any open file. */
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

void server_open(struct fuse_server *s, const struct request *rq, char *buf)
{
	const struct fuse_open_in *in = (const void *)rq->body;
	struct fuse_open_out out = {};
	int err = open_lower(s, rq, server_name(s, rq), in->flags, &out);

	if (!err)
		server_attach(s, rq, rq->h.nodeid);
	server_reply(s, rq, err, &out, sizeof(out));
}

/* Answer a CREATE or TMPFILE. */
static void reply_new(struct fuse_server *s, const struct request *rq, int err,
		      const char *name, uint32_t flags)
{
	struct {
		struct fuse_entry_out e;
		struct fuse_open_out o;
	} out = {};

	if (!err)
		err = open_lower(s, rq, name, flags, &out.o);
	if (!err)
		err = server_entry(s, rq, name, &out.e);
	/* No RELEASE will close it. */
	if (s->how == OPEN_BY_INODE && !err) {
		close(out.o.fh);
		out.o.fh = 0;
	}
	server_reply(s, rq, err, &out, sizeof(out));
}

void server_create(struct fuse_server *s, const struct request *rq, char *buf)
{
	const struct fuse_create_in *in = (const void *)rq->body;
	struct server_path path;
	const char *name = server_child(s, rq, rq->body + sizeof(*in), &path);
	int fd, err;

	fd = openat(s->dirfd, name, (in->flags & O_EXCL) | O_CREAT | O_RDWR |
		    O_CLOEXEC, in->mode & 07777);
	err = fd < 0 ? -errno : 0;
	if (fd >= 0)
		close(fd);
	reply_new(s, rq, err, name, in->flags);
}

/* The file's descriptor stays open, since the file has no other name. */
void server_tmpfile(struct fuse_server *s, const struct request *rq, char *buf)
{
	const struct fuse_create_in *in = (const void *)rq->body;
	char name[32];
	int fd = openat(s->dirfd, server_name(s, rq),
			O_TMPFILE | O_RDWR | O_CLOEXEC, in->mode & 07777);
	int err = fd < 0 ? -errno : 0;

	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	reply_new(s, rq, err, name, in->flags & ~(O_TMPFILE | O_EXCL));
}

void server_opendir(struct fuse_server *s, const struct request *rq, char *buf)
{
	struct fuse_open_out out = {};
	int fd = openat(s->dirfd, server_name(s, rq),
			O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int err = fd < 0 ? -errno : 0;

	out.fh = fd;
	if (!err)
		server_attach(s, rq, rq->h.nodeid);
	server_reply(s, rq, err, &out, sizeof(out));
}

/* The file of a request: its handle, or with handle 0 a file opened for the request */
struct handle {
	int fd;
	bool own;
};

static struct handle handle_of(struct fuse_server *s, const struct request *rq,
			       uint64_t nodeid, uint64_t fh, int flags)
{
	struct handle h = { .fd = fh, .own = !fh };

	if (h.own)
		h.fd = openat(s->dirfd, s->nodes[nodeid].name, flags | O_CLOEXEC);
	return h;
}

static void handle_end(struct handle *h)
{
	int err = errno;

	if (h->own)
		close(h->fd);
	errno = err;
}

void server_read(struct fuse_server *s, const struct request *rq, char *buf)
{
	const struct fuse_read_in *in = (const void *)rq->body;
	struct handle h = handle_of(s, rq, rq->h.nodeid, in->fh, O_RDONLY);
	ssize_t n = pread(h.fd, buf, in->size, in->offset);

	handle_end(&h);
	server_reply(s, rq, n < 0 ? -errno : 0, buf, n);
}

void server_write(struct fuse_server *s, const struct request *rq, char *buf)
{
	const struct fuse_write_in *in = (const void *)rq->body;
	struct handle h = handle_of(s, rq, rq->h.nodeid, in->fh, O_WRONLY);
	ssize_t n = pwrite(h.fd, rq->body + sizeof(*in), in->size, in->offset);
	struct fuse_write_out out = { .size = n };

	handle_end(&h);
	server_reply(s, rq, n < 0 ? -errno : 0, &out, sizeof(out));
}

void server_lseek(struct fuse_server *s, const struct request *rq, char *buf)
{
	const struct fuse_lseek_in *in = (const void *)rq->body;
	struct handle h = handle_of(s, rq, rq->h.nodeid, in->fh, O_RDONLY);
	off_t off = lseek(h.fd, in->offset, in->whence);
	struct fuse_lseek_out out = { .offset = off };

	handle_end(&h);
	server_reply(s, rq, off < 0 ? -errno : 0, &out, sizeof(out));
}

void server_fallocate(struct fuse_server *s, const struct request *rq, char *buf)
{
	const struct fuse_fallocate_in *in = (const void *)rq->body;
	struct handle h = handle_of(s, rq, rq->h.nodeid, in->fh, O_WRONLY);
	int ret = fallocate(h.fd, in->mode, in->offset, in->length);

	handle_end(&h);
	server_reply_call(s, rq, ret);
}

void server_copy(struct fuse_server *s, const struct request *rq, char *buf)
{
	const struct fuse_copy_file_range_in *in = (const void *)rq->body;
	struct handle from = handle_of(s, rq, rq->h.nodeid, in->fh_in, O_RDONLY);
	struct handle to = handle_of(s, rq, in->nodeid_out, in->fh_out, O_WRONLY);
	off_t off_in = in->off_in, off_out = in->off_out;
	ssize_t n = copy_file_range(from.fd, &off_in, to.fd, &off_out, in->len, 0);
	struct fuse_write_out out = { .size = n };

	handle_end(&from);
	handle_end(&to);
	server_reply(s, rq, n < 0 ? -errno : 0, &out, sizeof(out));
}

void server_fsync(struct fuse_server *s, const struct request *rq, char *buf)
{
	const struct fuse_fsync_in *in = (const void *)rq->body;
	struct handle h = handle_of(s, rq, rq->h.nodeid, in->fh, O_RDONLY);
	int ret = in->fsync_flags & FUSE_FSYNC_FDATASYNC ? fdatasync(h.fd) :
		fsync(h.fd);

	handle_end(&h);
	server_reply_call(s, rq, ret);
}

/* RELEASE and RELEASEDIR. */
void server_release(struct fuse_server *s, const struct request *rq, char *buf)
{
	const struct fuse_release_in *in = (const void *)rq->body;

	if (in->fh)
		close(in->fh);
	server_reply(s, rq, 0, NULL, 0);
}

struct entry64 {
	uint64_t ino;
	int64_t next;
	unsigned short len;
	unsigned char type;
	char name[];
};

void server_readdir(struct fuse_server *s, const struct request *rq, char *buf)
{
	const struct fuse_read_in *in = (const void *)rq->body;
	struct handle h = handle_of(s, rq, rq->h.nodeid, in->fh,
				    O_RDONLY | O_DIRECTORY);
	char entries[4096];
	size_t len = 0;
	long n, at;

	lseek(h.fd, in->offset, SEEK_SET);
	n = syscall(SYS_getdents64, h.fd, entries, sizeof(entries));
	for (at = 0; at < n; ) {
		const struct entry64 *e = (const void *)(entries + at);
		struct fuse_dirent *d = (void *)(buf + len);
		size_t need = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + strlen(e->name));

		if (len + need > in->size)
			break;
		memset(d, 0, need);
		d->ino = e->ino;
		d->off = e->next;
		d->namelen = strlen(e->name);
		d->type = e->type;
		memcpy(d->name, e->name, d->namelen);
		len += need;
		at += e->len;
	}
	handle_end(&h);
	server_reply(s, rq, n < 0 ? -errno : 0, buf, len);
}
