// SPDX-License-Identifier: GPL-2.0
/* Open directories. */

#include "passthroughfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct directory *directory_new(struct inode *inode)
{
	struct directory *d;
	int path, fd = -1;

	path = fd_get(inode);
	if (path != -1) {
		fd = open_at(path, ".", O_RDONLY | O_DIRECTORY);
		fd_put(inode);
	}
	if (fd == -1)
		return NULL;

	follow_noatime(fd, true);
	d = calloc(1, sizeof(*d));
	if (d)
		d->dp = fdopendir(fd);
	if (!d || !d->dp) {
		free(d);
		close(fd);
		errno = ENOMEM;
		return NULL;
	}
	pthread_mutex_init(&d->lock, NULL);
	return d;
}

static void directory_free(struct directory *d)
{
	closedir(d->dp);
	pthread_mutex_destroy(&d->lock);
	free(d);
	open_end();
}

void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct directory *d;
	int error;

	count(OP_OPENDIR);
	if (!open_begin())
		return reply_error(req, errno);
	d = directory_new(inode_of(ino));
	if (!d) {
		error = errno;
		open_end();
		return reply_error(req, error);
	}
	fi->fh = (uintptr_t)d;
	if (fuse_reply_open(req, fi) == -ENOENT)
		directory_free(d);
}

static bool is_dots(const char *name)
{
	return name[0] == '.' &&
		(!name[1] || (name[1] == '.' && !name[2]));
}

/*
 * An entry without a lookup is listed without an inode; the client's kernel
 * looks it up on demand.  Returns the bytes that the entry needs, or 0 if its
 * name was removed.
 */
static size_t add_entry(fuse_req_t req, struct inode *inode, struct directory *d,
			char *p, size_t size, off_t next, bool plus)
{
	const struct dirent *entry = d->entry;
	struct fuse_entry_param e = { .ino = 0 };
	int error = EAGAIN;
	size_t room;

	if (plus && !is_dots(entry->d_name)) {
		pthread_rwlock_rdlock(&table.names);
		error = lookup_named(inode, dirfd(d->dp), entry->d_name, &e);
		pthread_rwlock_unlock(&table.names);
		if (error == ENOENT)
			return 0;
	}
	if (error) {
		memset(&e, 0, sizeof(e));
		pthread_mutex_lock(&table.lock);
		e.attr.st_ino = visible_ino(inode->dev, entry->d_ino);
		pthread_mutex_unlock(&table.lock);
		e.attr.st_mode = DTTOIF(entry->d_type);
	}
	if (!plus)
		return fuse_add_direntry(req, p, size, entry->d_name, &e.attr, next);
	room = fuse_add_direntry_plus(req, p, size, entry->d_name, &e, next);
	if (room > size && e.ino)
		inode_forget(e.ino, 1);
	return room;
}

static int fill_entries(fuse_req_t req, struct inode *inode, struct directory *d,
			char *buf, size_t size, off_t off, bool plus, size_t *used)
{
	size_t room;

	if (off != d->offset) {
		seekdir(d->dp, off);
		d->entry = NULL;
		d->offset = off;
	}
	for (;;) {
		if (!d->entry) {
			errno = 0;
			d->entry = readdir(d->dp);
			if (!d->entry)
				return errno;
		}
		room = add_entry(req, inode, d, buf + *used, size - *used,
				 d->entry->d_off, plus);
		if (room > size - *used)
			return 0;
		*used += room;
		d->offset = d->entry->d_off;
		d->entry = NULL;
	}
}

static void read_directory(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
			   struct fuse_file_info *fi, bool plus)
{
	struct directory *d = directory_of(fi);
	char *buf;
	size_t used = 0;
	int error;

	/* The client's kernel reads directories that it has opened itself. */
	if (!d)
		return reply_error(req, EBADF);
	buf = malloc(size);
	if (!buf)
		return reply_error(req, ENOMEM);
	pthread_mutex_lock(&d->lock);
	error = fill_entries(req, inode_of(ino), d, buf, size, off, plus, &used);
	pthread_mutex_unlock(&d->lock);

	/* If there are entries, report the error in the next READDIR. */
	if (error && !used)
		reply_error(req, error);
	else
		fuse_reply_buf(req, buf, used);
	free(buf);
}

void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		struct fuse_file_info *fi)
{
	count(OP_READDIR);
	read_directory(req, ino, size, off, fi, false);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	count(OP_READDIRPLUS);
	read_directory(req, ino, size, off, fi, true);
}

void op_releasedir(fuse_req_t req, fuse_ino_t ino,
		   struct fuse_file_info *fi)
{
	(void)ino;
	count(OP_RELEASEDIR);
	if (fi->fh)
		directory_free(directory_of(fi));
	reply_error(req, 0);
}

void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync,
		 struct fuse_file_info *fi)
{
	int fd, res = -1;

	count(OP_FSYNCDIR);
	fd = fi->fh ? dirfd(directory_of(fi)->dp) :
		file_get(ino, fi, O_RDONLY | O_DIRECTORY);
	if (fd != -1)
		res = datasync ? fdatasync(fd) : fsync(fd);
	reply_error(req, res ? errno : 0);
	file_put(fi, fd);
}
