// SPDX-License-Identifier: GPL-2.0
/* Extended attributes; for an O_PATH descriptor they need its path in /proc. */

#include "passthroughfs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
		 size_t size)
{
	struct inode *inode = inode_of(ino);
	char *value = NULL;
	struct fd_path path;
	ssize_t n;
	int fd;

	count(OP_GETXATTR);
	if (size) {
		value = malloc(size);
		if (!value)
			return reply_error(req, ENOMEM);
	}
	fd = fd_get(inode);
	n = fd;
	if (fd != -1) {
		n = getxattr(fd_path(fd, &path), name, value, size);
		fd_put(inode);
	}
	if (n == -1)
		reply_error(req, errno);
	else if (size)
		fuse_reply_buf(req, value, n);
	else
		fuse_reply_xattr(req, n);
	free(value);
}

void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct inode *inode = inode_of(ino);
	char *list = NULL;
	struct fd_path path;
	ssize_t n;
	int fd;

	count(OP_LISTXATTR);
	if (size) {
		list = malloc(size);
		if (!list)
			return reply_error(req, ENOMEM);
	}
	fd = fd_get(inode);
	n = fd;
	if (fd != -1) {
		n = listxattr(fd_path(fd, &path), list, size);
		fd_put(inode);
	}
	if (n == -1)
		reply_error(req, errno);
	else if (size)
		fuse_reply_buf(req, list, n);
	else
		fuse_reply_xattr(req, n);
	free(list);
}

/* Whether setting an ACL clears setgid depends on the caller's credentials. */
void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
		 const char *value, size_t size, int flags)
{
	struct inode *inode = inode_of(ino);
	bool acl = !strcmp(name, "system.posix_acl_access");
	struct fd_path path;
	int fd, error = 0;

	count(OP_SETXATTR);
	fd = fd_get(inode);
	if (fd == -1)
		return reply_error(req, errno);
	if (acl) {
		keep_bits(true);
		error = act_as(req, CLIENT);
	}
	if (!error) {
		if (setxattr(fd_path(fd, &path), name, value, size, flags) == -1)
			error = errno;
		if (acl)
			act_as_self(CLIENT);
	}
	fd_put(inode);
	reply_error(req, error);
}

void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct inode *inode = inode_of(ino);
	struct fd_path path;
	int fd, res;

	count(OP_REMOVEXATTR);
	fd = fd_get(inode);
	if (fd == -1)
		return reply_error(req, errno);
	res = removexattr(fd_path(fd, &path), name);
	fd_put(inode);
	reply_error(req, res == -1 ? errno : 0);
}
