// SPDX-License-Identifier: GPL-2.0
/* OPEN, CREATE and TMPFILE, which make a handle. */

#include "passthroughfs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/statfs.h>

/* File systems without ->flush, where close() reports no error */
static bool close_says_nothing(int fd)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) == -1)
		return false;
	switch (fs.f_type) {
	case EXT4_SUPER_MAGIC:
	case XFS_SUPER_MAGIC:
	case BTRFS_SUPER_MAGIC:
	case TMPFS_MAGIC:
		return true;
	default:
		return false;
	}
}

/*
 * FLUSH is not needed for a read-only open; nor if all writes, also through
 * mappings, went to the lower file, and its close() reports no error.
 */
static void fill_open(fuse_req_t req, struct handle *h, struct fuse_file_info *fi)
{
	bool attached;

	follow_noatime(h->fd, false);
	attached = attach(req, h, fi);
	fi->fh = (uintptr_t)h;
	fi->noflush = (fi->flags & O_ACCMODE) == O_RDONLY ||
		      (attached && close_says_nothing(h->fd));
}

static void open_lost(struct handle *h)
{
	unattached(h->inode);
	detach_lost(h);
	handle_free(h);
}

void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct inode *inode = inode_of(ino);
	struct handle *h;

	count(OP_OPEN);
	h = handle_new();
	if (!h)
		return reply_error(req, errno);
	h->fd = open_inode(inode, fi->flags);
	if (h->fd == -1) {
		handle_free(h);
		return reply_error(req, errno);
	}
	handle_set_inode(h, inode);
	/* Takes effect with the next open: this one has a handle. */
	if (review_inode(inode))
		attach_inode(req, inode, h->fd);
	fill_open(req, h, fi);
	if (fuse_reply_open(req, fi) == -ENOENT)
		open_lost(h);
}

/*
 * The client's kernel had a negative dentry for the name, so it has not checked
 * permissions of the file, which exists.
 */
static int open_existing(fuse_req_t req, int dir, const char *name, int flags)
{
	int error = act_as(req, CLIENT);
	int lower, fd;

	if (error) {
		errno = error;
		return -1;
	}
	lower = lower_flags(flags) | O_NOFOLLOW | O_NONBLOCK | (flags & O_TRUNC);
	fd = open_at(dir, name, lower);
	if (fd == -1 && errno == EPERM && (flags & O_APPEND))
		fd = open_at(dir, name, lower | O_APPEND);
	act_as_self(CLIENT);
	return fd;
}

static int open_new(int dir, const char *name, int flags, mode_t mode)
{
	int fd;

	do {
		fd = openat(dir, name, flags | O_CLOEXEC, mode);
	} while (fd == -1 && make_room(errno));

	return fd;
}

static int create_at(fuse_req_t req, int dir, const char *name, int flags,
		     mode_t mode)
{
	int error, fd;

	error = act_as(req, MAKER);
	if (error) {
		errno = error;
		return -1;
	}
	fd = open_new(dir, name, lower_flags(flags) | O_CREAT | O_EXCL |
		      O_NOFOLLOW, mode);
	act_as_self(MAKER);

	if (fd == -1 && errno == EEXIST && !(flags & O_EXCL))
		fd = open_existing(req, dir, name, flags);
	return fd;
}

static int create_in(fuse_req_t req, struct inode *parent, const char *name,
		     mode_t mode, int flags, struct handle *h,
		     struct fuse_entry_param *e)
{
	struct place place;
	int dir, error;

	dir = fd_get(parent);
	if (dir == -1)
		return errno;

	pthread_rwlock_rdlock(&table.names);
	h->fd = create_at(req, dir, name, flags, mode);
	if (h->fd == -1 || place_at(h->fd, "", &place) == -1)
		error = errno;
	else if (!S_ISREG(place.st.st_mode))
		error = ESTALE;
	else
		error = enter(parent, name, &place, e);
	pthread_rwlock_unlock(&table.names);
	fd_put(parent);
	return error;
}

static void reply_created(fuse_req_t req, struct handle *h,
			  const struct fuse_entry_param *e,
			  struct fuse_file_info *fi)
{
	struct inode *inode = inode_of(e->ino);

	if (review_inode(inode) && attach_inode(req, inode, h->fd)) {
		/* This open is by inode too: there will be no RELEASE. */
		handle_free(h);
		h = NULL;
	} else {
		handle_set_inode(h, inode);
		fill_open(req, h, fi);
	}
	if (fuse_reply_create(req, e, fi) == -ENOENT) {
		if (h)
			open_lost(h);
		inode_forget(e->ino, 1);
	}
}

void op_create(fuse_req_t req, fuse_ino_t ino, const char *name,
	       mode_t mode, struct fuse_file_info *fi)
{
	struct fuse_entry_param e;
	struct handle *h;
	int error;

	count(OP_CREATE);
	h = handle_new();
	if (!h)
		return reply_error(req, errno);
	error = create_in(req, inode_of(ino), name, mode, fi->flags, h, &e);
	if (error) {
		handle_free(h);
		return reply_error(req, error);
	}
	reply_created(req, h, &e, fi);
}

/* O_EXCL is passed on: such a file can never be linked. */
static int create_nameless(fuse_req_t req, struct inode *parent, mode_t mode,
			   int flags, struct handle *h,
			   struct fuse_entry_param *e)
{
	int lower = lower_flags(flags) | O_TMPFILE | (flags & O_EXCL);
	int dir, error;

	dir = fd_get(parent);
	if (dir == -1)
		return errno;
	error = act_as(req, MAKER);
	if (!error) {
		h->fd = open_new(dir, ".", lower, mode);
		if (h->fd == -1)
			error = errno;
		act_as_self(MAKER);
	}
	if (!error)
		error = enter_nameless(parent, h->fd, e);
	fd_put(parent);
	return error;
}

void op_tmpfile(fuse_req_t req, fuse_ino_t ino, mode_t mode,
		struct fuse_file_info *fi)
{
	struct fuse_entry_param e;
	struct handle *h;
	int error;

	count(OP_TMPFILE);
	h = handle_new();
	if (!h)
		return reply_error(req, errno);
	error = create_nameless(req, inode_of(ino), mode, fi->flags, h, &e);
	if (error) {
		handle_free(h);
		return reply_error(req, error);
	}
	reply_created(req, h, &e, fi);
}
