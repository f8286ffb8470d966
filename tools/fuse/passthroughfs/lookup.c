// SPDX-License-Identifier: GPL-2.0
/* Resolving: a name to an inode, an inode to a descriptor. */

#include "passthroughfs.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* FUSE_NAME_MAX of the client's kernel */
#define CLIENT_NAME_MAX 1024

/* With table.names held: opens an inode by name; put by fd_put() */
static int fd_open(struct inode *inode, int dir, const char *name)
{
	struct place place;
	int fd = open_at(dir, name, O_PATH | O_NOFOLLOW);

	if (fd == -1) {
		if (errno == ENOENT)
			errno = ESTALE;
		return -1;
	}
	if (place_at(fd, "", &place) == -1 || !is_at(inode, &place)) {
		close(fd);
		errno = ESTALE;
		return -1;
	}

	pthread_mutex_lock(&table.lock);
	if (inode->fd == -1)
		inode->fd = fd;
	else
		close(fd);
	fd = fd_use(inode);
	pthread_mutex_unlock(&table.lock);
	return fd;
}

static void fd_put_and_unref(struct inode *inode)
{
	if (!inode)
		return;
	fd_put(inode);
	inode_unref(inode);
}

/*
 * With table.names held: returns a descriptor, put by fd_put(), or -1.  Each
 * round opens the child of the nearest ancestor that has a descriptor.  There
 * is no recursion: a tree can be deeper than a thread's stack allows.
 */
int fd_get_named(struct inode *inode)
{
	struct inode *last = NULL, *next, *parent;
	char name[CLIENT_NAME_MAX + 1];
	int dir, fd;

	for (;;) {
		pthread_mutex_lock(&table.lock);
		fd = fd_use(inode);
		next = inode;
		while (next->parent && next->parent->fd == -1)
			next = next->parent;
		parent = next->parent;
		if (fd != -1 || !parent)
			break;
		strcpy(name, next->name);
		dir = fd_use(parent);
		parent->refs++;
		next->refs++;
		pthread_mutex_unlock(&table.lock);

		fd = fd_open(next, dir, name);
		fd_put_and_unref(parent);
		fd_put_and_unref(last);
		last = next;
		if (fd == -1) {
			inode_unref(next);
			return -1;
		}
	}
	pthread_mutex_unlock(&table.lock);
	fd_put_and_unref(last);
	if (fd == -1)
		errno = ESTALE;
	return fd;
}

int fd_get(struct inode *inode)
{
	int fd;

	pthread_mutex_lock(&table.lock);
	fd = fd_use(inode);
	pthread_mutex_unlock(&table.lock);
	if (fd != -1)
		return fd;

	pthread_rwlock_rdlock(&table.names);
	fd = fd_get_named(inode);
	pthread_rwlock_unlock(&table.names);
	return fd;
}

/*
 * Finds or makes the inode of a name, and counts a lookup by the client's
 * kernel.  The caller has held table.names since it got "place" by the name.
 */
int enter(struct inode *parent, const char *name,
	  const struct place *place, struct fuse_entry_param *e)
{
	struct inode *inode;
	int error;

	memset(e, 0, sizeof(*e));
	pthread_mutex_lock(&table.lock);
	inode = inode_find(place);
	if (!inode)
		inode = inode_new(place);
	if (!inode || inode_name(inode, parent, name) == -1) {
		error = errno;
		inode_release(inode);
		pthread_mutex_unlock(&table.lock);
		return error;
	}
	inode->lookups++;
	e->attr = place->st;
	e->attr.st_ino = visible_ino(place->st.st_dev, place->st.st_ino);
	pthread_mutex_unlock(&table.lock);

	e->ino = number_of(inode);
	e->attr_timeout = config.timeout;
	e->entry_timeout = config.timeout;
	return 0;
}

/* With table.names held; dir is a descriptor of parent. */
int lookup_named(struct inode *parent, int dir, const char *name,
		 struct fuse_entry_param *e)
{
	struct place place;

	if (place_at(dir, name, &place) == -1)
		return errno;
	return enter(parent, name, &place, e);
}

/*
 * An inode that has no name yet keeps a descriptor, like an unlinked one.  The
 * empty name stands for no name.
 */
int enter_nameless(struct inode *parent, int fd,
		   struct fuse_entry_param *e)
{
	struct inode *inode;
	struct fd_name name;
	struct place place;
	int path, error;

	if (place_at(fd, "", &place) == -1)
		return errno;
	path = open_at(proc_fd, fd_name(fd, &name), O_PATH);
	if (path == -1)
		return errno;
	error = enter(parent, "", &place, e);
	if (error) {
		close(path);
		return error;
	}

	inode = inode_of(e->ino);
	pthread_mutex_lock(&table.lock);
	inode->nameless = true;
	if (inode->newer)
		idle_remove(inode);
	if (inode->fd == -1)
		inode->fd = path;
	else
		close(path);
	pthread_mutex_unlock(&table.lock);
	return 0;
}

/* Of attached inodes only directories will need their descriptor soon. */
static void attach_entry(fuse_req_t req, struct inode *inode)
{
	int fd;

	if (!review_inode(inode))
		return;
	fd = fd_get(inode);
	if (fd == -1)
		return;
	attach_inode(req, inode, fd);
	if (inode->type == S_IFDIR)
		fd_put(inode);
	else
		fd_put_last(inode);
}

void reply_entry(fuse_req_t req, const struct fuse_entry_param *e)
{
	if (e->ino)
		attach_entry(req, inode_of(e->ino));
	if (fuse_reply_entry(req, e) == -ENOENT && e->ino)
		inode_forget(e->ino, 1);
}

void op_lookup(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct inode *parent = inode_of(ino);
	struct fuse_entry_param e;
	int dir, error;

	count(OP_LOOKUP);
	dir = fd_get(parent);
	if (dir == -1)
		return reply_error(req, errno);
	pthread_rwlock_rdlock(&table.names);
	error = lookup_named(parent, dir, name, &e);
	pthread_rwlock_unlock(&table.names);
	fd_put(parent);

	if (error == ENOENT && config.timeout > 0) {
		/* A negative dentry is cached as long as a positive one. */
		e.ino = 0;
		e.entry_timeout = config.timeout;
		error = 0;
	}
	if (error)
		reply_error(req, error);
	else
		reply_entry(req, &e);
}

void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n)
{
	count(OP_FORGET);
	inode_forget(ino, n);
	fuse_reply_none(req);
}

void op_forget_multi(fuse_req_t req, size_t n,
		     struct fuse_forget_data *forgets)
{
	size_t i;

	count(OP_BATCH_FORGET);
	for (i = 0; i < n; i++)
		inode_forget(forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}
