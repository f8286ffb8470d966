// SPDX-License-Identifier: GPL-2.0
/* Making, linking, renaming and removing names. */

#include "passthroughfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* MKNOD, MKDIR and, with a target, SYMLINK */
static void make_node(fuse_req_t req, fuse_ino_t ino, const char *name,
		      mode_t mode, dev_t rdev, const char *target)
{
	struct inode *parent = inode_of(ino);
	struct fuse_entry_param e;
	int dir, error, res;

	dir = fd_get(parent);
	if (dir == -1)
		return reply_error(req, errno);

	pthread_rwlock_rdlock(&table.names);
	error = act_as(req, MAKER);
	if (!error) {
		if (target)
			res = symlinkat(target, dir, name);
		else if (S_ISDIR(mode))
			res = mkdirat(dir, name, mode);
		else
			res = mknodat(dir, name, mode, rdev);
		error = res == -1 ? errno : 0;
		act_as_self(MAKER);
	}
	if (!error)
		error = lookup_named(parent, dir, name, &e);
	pthread_rwlock_unlock(&table.names);
	fd_put(parent);

	if (error)
		reply_error(req, error);
	else
		reply_entry(req, &e);
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name,
	      mode_t mode, dev_t rdev)
{
	count(OP_MKNOD);
	make_node(req, parent, name, mode, rdev, NULL);
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name,
	      mode_t mode)
{
	count(OP_MKDIR);
	make_node(req, parent, name, S_IFDIR | (mode & 07777), 0, NULL);
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent,
		const char *name)
{
	count(OP_SYMLINK);
	make_node(req, parent, name, 0, 0, target);
}

void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent,
	     const char *name)
{
	struct inode *inode = inode_of(ino), *parent = inode_of(new_parent);
	struct fuse_entry_param e;
	struct fd_name from;
	int fd, dir, error = 0;

	count(OP_LINK);
	fd = fd_get(inode);
	if (fd == -1)
		return reply_error(req, errno);
	dir = fd_get(parent);
	if (dir == -1) {
		error = errno;
		fd_put(inode);
		return reply_error(req, error);
	}

	pthread_rwlock_rdlock(&table.names);
	if (linkat(proc_fd, fd_name(fd, &from), dir, name,
		   AT_SYMLINK_FOLLOW) == -1)
		error = errno;
	else
		error = lookup_named(parent, dir, name, &e);
	pthread_rwlock_unlock(&table.names);
	fd_put(parent);
	fd_put(inode);

	if (error)
		reply_error(req, error);
	else
		reply_entry(req, &e);
}

/*
 * The inode of a name, with a reference, or NULL if the client's kernel does
 * not know it.  The name may change unless table.names is held for writing.
 */
static struct inode *inode_at(int dir, const char *name)
{
	struct inode *inode = NULL;
	struct place place;

	if (place_at(dir, name, &place) == -1)
		return NULL;
	pthread_mutex_lock(&table.lock);
	inode = inode_find(&place);
	if (inode)
		inode->refs++;
	pthread_mutex_unlock(&table.lock);
	return inode;
}

static bool is_named(const struct inode *inode, const struct inode *parent,
		     const char *name)
{
	return inode->parent == parent && !strcmp(inode->name, name);
}

/*
 * The name is about to be removed.  Its inode may be in use, so it keeps a
 * descriptor.  If that cannot be opened the name is removed all the same.
 */
static struct inode *victim_get(int dir, const char *name)
{
	struct inode *inode = inode_at(dir, name);

	if (inode && fd_get_named(inode) == -1) {
		inode_unref(inode);
		inode = NULL;
	}
	return inode;
}

static void victim_put(struct inode *inode, struct inode *parent,
		       const char *name, bool gone)
{
	if (!inode)
		return;
	pthread_mutex_lock(&table.lock);
	if (gone && is_named(inode, parent, name))
		inode->nameless = true;
	pthread_mutex_unlock(&table.lock);
	fd_put(inode);
	inode_unref(inode);
}

static void remove_name(fuse_req_t req, fuse_ino_t ino, const char *name,
			int flags)
{
	struct inode *parent = inode_of(ino), *victim;
	int dir, error;

	dir = fd_get(parent);
	if (dir == -1)
		return reply_error(req, errno);

	pthread_rwlock_wrlock(&table.names);
	victim = victim_get(dir, name);
	error = unlinkat(dir, name, flags) == -1 ? errno : 0;
	victim_put(victim, parent, name, !error);
	pthread_rwlock_unlock(&table.names);
	fd_put(parent);
	reply_error(req, error);
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	count(OP_UNLINK);
	remove_name(req, parent, name, 0);
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	count(OP_RMDIR);
	remove_name(req, parent, name, AT_REMOVEDIR);
}

/* An inode that the table has under another name keeps that name. */
static void moved(struct inode *inode, struct inode *from, const char *old,
		  struct inode *to, const char *new)
{
	if (!inode)
		return;
	pthread_mutex_lock(&table.lock);
	if (is_named(inode, from, old))
		inode_name(inode, to, new);
	pthread_mutex_unlock(&table.lock);
}

/* With table.names held for writing */
static int rename_at(struct inode *from, int from_dir, const char *old,
		     struct inode *to, int to_dir, const char *new,
		     unsigned int flags)
{
	struct inode *inode = inode_at(from_dir, old);
	struct inode *other = victim_get(to_dir, new);
	bool done = renameat2(from_dir, old, to_dir, new, flags) == 0;
	int error = done ? 0 : errno;

	/* rename() between two links of one inode does nothing. */
	if (inode == other)
		done = false;
	if (done)
		moved(inode, from, old, to, new);
	if (done && (flags & RENAME_EXCHANGE)) {
		moved(other, to, new, from, old);
		done = false;
	}
	victim_put(other, to, new, done);
	if (inode)
		inode_unref(inode);
	return error;
}

static void review_name(int dir, const char *name)
{
	struct inode *inode = inode_at(dir, name);

	if (!inode)
		return;
	review_inode(inode);
	inode_unref(inode);
}

void op_rename(fuse_req_t req, fuse_ino_t ino, const char *name,
	       fuse_ino_t new_ino, const char *new_name,
	       unsigned int flags)
{
	struct inode *from = inode_of(ino), *to = inode_of(new_ino);
	int from_dir, to_dir, error;

	count(OP_RENAME);
	from_dir = fd_get(from);
	if (from_dir == -1)
		return reply_error(req, errno);
	to_dir = fd_get(to);
	if (to_dir == -1) {
		error = errno;
		fd_put(from);
		return reply_error(req, error);
	}

	pthread_rwlock_wrlock(&table.names);
	error = rename_at(from, from_dir, name, to, to_dir, new_name, flags);
	pthread_rwlock_unlock(&table.names);
	if (!error && config.by_name) {
		review_name(to_dir, new_name);
		if (flags & RENAME_EXCHANGE)
			review_name(from_dir, name);
	}
	fd_put(to);
	fd_put(from);
	reply_error(req, error);
}
