// SPDX-License-Identifier: GPL-2.0
/* Attributes of files, extended attributes, and attributes of the file system */
#define _GNU_SOURCE
#include "server_i.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/xattr.h>
#include <unistd.h>

void server_reply_attr(struct fuse_server *s, const struct request *rq)
{
	struct fuse_attr_out out = { .attr_valid = s->attr_valid };
	int err = fuse_server_attr(s, rq->h.nodeid, server_name(s, rq), &out.attr);

	server_reply(s, rq, err, &out, sizeof(out));
}

void server_getattr(struct fuse_server *s, const struct request *rq, char *buf)
{
	server_attach(s, rq, rq->h.nodeid);
	server_reply_attr(s, rq);
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

static int set_owner(struct fuse_server *s, const char *name,
		     const struct fuse_setattr_in *in)
{
	uid_t uid = in->valid & FATTR_UID ? in->uid : (uid_t)-1;
	gid_t gid = in->valid & FATTR_GID ? in->gid : (gid_t)-1;

	return fchownat(s->dirfd, name, uid, gid, AT_SYMLINK_NOFOLLOW) ? -errno : 0;
}

void server_setattr(struct fuse_server *s, const struct request *rq, char *buf)
{
	const struct fuse_setattr_in *in = (const void *)rq->body;
	const char *name = server_name(s, rq);
	struct timespec ts[2];
	int err = 0;

	if (in->valid & (FATTR_UID | FATTR_GID))
		err = set_owner(s, name, in);
	if (!err && (in->valid & FATTR_MODE))
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
		server_reply(s, rq, err, NULL, 0);
	else
		server_reply_attr(s, rq);
}

static const char *lower_name(struct fuse_server *s, const struct request *rq,
			      struct server_path *path)
{
	snprintf(path->s, sizeof(path->s), "%s/%s", s->lower, server_name(s, rq));
	return path->s;
}

/* GETXATTR has a name, LISTXATTR has none. */
void server_getxattr(struct fuse_server *s, const struct request *rq, char *buf)
{
	const struct fuse_getxattr_in *in = (const void *)rq->body;
	const char *name = rq->body + sizeof(*in);
	struct fuse_getxattr_out out = {};
	struct server_path path;
	ssize_t n = -1;

	if (!s->xattrs)
		errno = ENOSYS;
	else if (rq->h.opcode == FUSE_GETXATTR)
		n = lgetxattr(lower_name(s, rq, &path), name, buf, in->size);
	else
		n = llistxattr(lower_name(s, rq, &path), buf, in->size);
	out.size = n;
	if (in->size)
		server_reply(s, rq, n < 0 ? -errno : 0, buf, n);
	else
		server_reply(s, rq, n < 0 ? -errno : 0, &out, sizeof(out));
}

void server_setxattr(struct fuse_server *s, const struct request *rq, char *buf)
{
	const struct fuse_setxattr_in *in = (const void *)rq->body;
	const char *name = rq->body + (s->init_flags & FUSE_SETXATTR_EXT ?
		sizeof(*in) : FUSE_COMPAT_SETXATTR_IN_SIZE);
	struct server_path path;
	int ret = -1;

	if (!s->xattrs)
		errno = ENOSYS;
	else
		ret = lsetxattr(lower_name(s, rq, &path), name,
				name + strlen(name) + 1, in->size, in->flags);
	server_reply_call(s, rq, ret);
}

void server_removexattr(struct fuse_server *s, const struct request *rq, char *buf)
{
	struct server_path path;
	int ret = -1;

	if (!s->xattrs)
		errno = ENOSYS;
	else
		ret = lremovexattr(lower_name(s, rq, &path), rq->body);
	server_reply_call(s, rq, ret);
}

void server_statfs(struct fuse_server *s, const struct request *rq, char *buf)
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
	server_reply(s, rq, err, &out, sizeof(out));
}
