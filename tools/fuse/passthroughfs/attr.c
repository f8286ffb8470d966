// SPDX-License-Identifier: GPL-2.0
/* Attributes, and the other requests on one inode. */

#include "passthroughfs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* The descriptor of the open file, else of the inode; put by io_put() */
static int io_get(struct inode *inode, const struct fuse_file_info *fi)
{
	return fi && fi->fh ? handle_of(fi)->fd : fd_get(inode);
}

static void io_put(struct inode *inode, const struct fuse_file_info *fi)
{
	if (!fi || !fi->fh)
		fd_put(inode);
}

/*
 * Puts fd before the reply: after it FORGET may free the inode.  Returns false
 * if the client's kernel did not get the attributes.
 */
static bool reply_attr(fuse_req_t req, struct inode *inode,
		       const struct fuse_file_info *fi, int fd)
{
	struct place place;
	int res = place_at(fd, "", &place);

	io_put(inode, fi);
	if (res == -1) {
		reply_error(req, errno);
		return false;
	}
	pthread_mutex_lock(&table.lock);
	place.st.st_ino = visible_ino(place.st.st_dev, place.st.st_ino);
	pthread_mutex_unlock(&table.lock);
	return fuse_reply_attr(req, &place.st, config.timeout) == 0;
}

void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct inode *inode = inode_of(ino);
	int fd;

	count(OP_GETATTR);
	/* For a directory fi->fh is no struct handle: use the inode. */
	if (inode->type == S_IFDIR)
		fi = NULL;
	fd = io_get(inode, fi);
	if (fd == -1)
		return reply_error(req, errno);
	/* Attaches the root, and inodes that READDIRPLUS has entered. */
	if (!review_inode(inode)) {
		reply_attr(req, inode, fi, fd);
		return;
	}
	inode_ref(inode);
	attach_inode(req, inode, fd);
	if (!reply_attr(req, inode, fi, fd))
		unattached(inode);
	inode_unref(inode);
}

static int set_size(int fd, off_t size, const struct fuse_file_info *fi)
{
	struct fd_path path;

	if (fi && fi->fh)
		return ftruncate(fd, size);
	return truncate(fd_path(fd, &path), size);
}

static int set_times(int fd, const struct stat *attr, int set)
{
	struct timespec times[2] = {
		{ .tv_nsec = UTIME_OMIT }, { .tv_nsec = UTIME_OMIT },
	};

	if (set & FUSE_SET_ATTR_ATIME_NOW)
		times[0].tv_nsec = UTIME_NOW;
	else if (set & FUSE_SET_ATTR_ATIME)
		times[0] = attr->st_atim;
	if (set & FUSE_SET_ATTR_MTIME_NOW)
		times[1].tv_nsec = UTIME_NOW;
	else if (set & FUSE_SET_ATTR_MTIME)
		times[1] = attr->st_mtim;
	return utimensat(fd, "", times, AT_EMPTY_PATH);
}

static int set_owner(int fd, const struct stat *attr, int set)
{
	uid_t uid = set & FUSE_SET_ATTR_UID ? attr->st_uid : (uid_t)-1;
	gid_t gid = set & FUSE_SET_ATTR_GID ? attr->st_gid : (gid_t)-1;
	int res;

	keep_bits(true);
	res = fchownat(fd, "", uid, gid, AT_EMPTY_PATH);
	keep_bits(false);
	return res;
}

static int set_mode(int fd, mode_t mode)
{
	struct fd_path path;
	int res;

	keep_bits(true);
	res = chmod(fd_path(fd, &path), mode & 07777);
	keep_bits(false);
	return res;
}

/* The mode is set after the owner: chown() clears setuid and setgid. */
static int set_attr(int fd, const struct stat *attr, int set,
		    const struct fuse_file_info *fi)
{
	if ((set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) &&
	    set_owner(fd, attr, set) == -1)
		return -1;
	if ((set & FUSE_SET_ATTR_SIZE) && set_size(fd, attr->st_size, fi) == -1)
		return -1;
	if ((set & FUSE_SET_ATTR_MODE) && set_mode(fd, attr->st_mode) == -1)
		return -1;
	if ((set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME)) &&
	    set_times(fd, attr, set) == -1)
		return -1;
	return 0;
}

void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int set,
		struct fuse_file_info *fi)
{
	struct inode *inode = inode_of(ino);
	int fd;

	count(OP_SETATTR);
	if (inode->type == S_IFDIR)
		fi = NULL;
	fd = io_get(inode, fi);
	if (fd == -1)
		return reply_error(req, errno);
	if (set_attr(fd, attr, set, fi) == -1) {
		io_put(inode, fi);
		return reply_error(req, errno);
	}
	reply_attr(req, inode, fi, fd);
}

void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct inode *inode = inode_of(ino);
	struct statvfs st;
	int fd, res;

	count(OP_STATFS);
	fd = fd_get(inode);
	if (fd == -1)
		return reply_error(req, errno);
	res = fstatvfs(fd, &st);
	fd_put(inode);
	if (res == -1)
		reply_error(req, errno);
	else
		fuse_reply_statfs(req, &st);
}

void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct inode *inode = inode_of(ino);
	char target[PATH_MAX + 1];
	ssize_t n;
	int fd;

	count(OP_READLINK);
	fd = fd_get(inode);
	if (fd == -1)
		return reply_error(req, errno);
	n = readlinkat(fd, "", target, sizeof(target));
	fd_put(inode);
	if (n == -1)
		return reply_error(req, errno);
	if (n == sizeof(target))
		return reply_error(req, ENAMETOOLONG);
	target[n] = '\0';
	fuse_reply_readlink(req, target);
}

/* Only inode flags and project ids; the client's kernel checked permissions. */
void op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned int cmd, void *arg,
	      struct fuse_file_info *fi, unsigned int flags,
	      const void *in, size_t in_size, size_t out_size)
{
	union {
		unsigned int flags;
		struct fsxattr xattr;
	} data = { .flags = 0 };
	size_t size = sizeof(data.flags);
	int fd;

	(void)arg;
	count(OP_IOCTL);
	switch (cmd) {
	case FS_IOC_FSGETXATTR:
	case FS_IOC_FSSETXATTR:
		size = sizeof(data.xattr);
		break;
	case FS_IOC_GETFLAGS:
	case FS_IOC_SETFLAGS:
		break;
	default:
		return reply_error(req, ENOTTY);
	}
	if (cmd == FS_IOC_GETFLAGS || cmd == FS_IOC_FSGETXATTR) {
		if (out_size < size)
			return reply_error(req, EINVAL);
	} else {
		if (in_size < size)
			return reply_error(req, EINVAL);
		memcpy(&data, in, size);
	}

	if ((flags & FUSE_IOCTL_DIR) && fi->fh)
		fd = dirfd(directory_of(fi)->dp);
	else
		fd = file_get(ino, fi, O_RDONLY | O_NONBLOCK);
	if (fd == -1 || ioctl(fd, cmd, &data) == -1)
		reply_error(req, errno);
	else
		fuse_reply_ioctl(req, 0, &data, out_size < size ? out_size : size);
	file_put(fi, fd);
}
