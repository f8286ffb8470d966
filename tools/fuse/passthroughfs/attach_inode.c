// SPDX-License-Identifier: GPL-2.0
/*
 * Attaching inodes: the client's kernel then serves stat, open and other
 * operations from the lower file, and sends no request.
 */

#include "passthroughfs.h"

#include <errno.h>
#include <linux/fuse.h>
#include <string.h>

#define OP(name) FUSE_PASSTHROUGH_OP(FUSE_##name)

#define OPS_ATTRIBUTES \
	(OP(GETATTR) | OP(SETATTR) | OP(GETXATTR) | OP(LISTXATTR) | \
	 OP(SETXATTR) | OP(REMOVEXATTR))
#define OPS_OPEN_FILE \
	(OP(FSYNC) | OP(FALLOCATE) | OP(LSEEK) | OP(COPY_FILE_RANGE))
#define OPS_LISTING \
	(OP(OPENDIR) | OP(READDIR) | OP(FSYNCDIR))

static bool lacking;		/* the kernel does not attach inodes */

/* Warn only if --inodes was given. */
static void refused(int err)
{
	static bool said;

	if (config.inodes_asked &&
	    !__atomic_exchange_n(&said, true, __ATOMIC_RELAXED))
		fuse_log(FUSE_LOG_WARNING,
			 "passthroughfs: inodes are not attached (%s): requests instead, here and whenever that happens again\n",
			 strerror(-err));
}

/* The kernel opens without O_NOATIME: on noatime mounts the daemon opens. */
static uint64_t ops_of(const struct inode *inode)
{
	switch (inode->type) {
	case S_IFLNK:
		return OPS_ATTRIBUTES | OP(READLINK);
	case S_IFDIR:
		return OPS_ATTRIBUTES |
			(config.readdir && !is_noatime(true) ? OPS_LISTING : 0);
	default:
		return OPS_ATTRIBUTES | OPS_OPEN_FILE |
			(is_noatime(false) ? 0 : OP(OPEN));
	}
}

/* Reads of an attached file pass through, so --passthrough must match too. */
static bool is_wanted(struct inode *inode)
{
	switch (inode->type) {
	case S_IFREG:
		if (!matches(inode, config.passthrough))
			return false;
		break;
	case S_IFLNK:
	case S_IFDIR:
		if (config.files_only)
			return false;
		break;
	default:
		return false;
	}
	return matches(inode, config.inodes);
}

/* Attach with CAP_FSETID: a chmod() may then keep setuid and setgid. */
static int attach_as_self(fuse_req_t req, int fd, uint64_t ops)
{
	int err;

	keep_bits(true);
	err = fuse_passthrough_inode(req, fd, ops, 0);
	keep_bits(false);
	return err;
}

/*
 * Should the inode be attached?  An attached inode whose new name does not
 * match is detached.  No lock is held: the kernel may write back pages to the
 * daemon.
 */
bool review_inode(struct inode *inode)
{
	enum attached now = __atomic_load_n(&inode->attached, __ATOMIC_RELAXED);

	if (!config.offered || __atomic_load_n(&lacking, __ATOMIC_RELAXED) ||
	    now == REFUSED || (now == ATTACHED && !config.by_name))
		return false;
	if (is_wanted(inode))
		return now == UNATTACHED;
	if (now == ATTACHED) {
		unattached(inode);
		fuse_passthrough_inode_detach(config.session, number_of(inode));
	}
	return false;
}

/*
 * Called before a reply about the inode; fd may be O_PATH.  Returns true if the
 * client's opens will not reach the daemon.
 */
bool attach_inode(fuse_req_t req, struct inode *inode, int fd)
{
	uint64_t ops = ops_of(inode);
	int err = attach_as_self(req, fd, ops);

	switch (err) {
	case 0:
		__atomic_store_n(&inode->attached, ATTACHED, __ATOMIC_RELAXED);
		count_inode();
		return ops & OP(OPEN);
	case -ENOTTY:
	case -EPERM:
		__atomic_store_n(&lacking, true, __ATOMIC_RELAXED);
		refused(err);
		return false;
	case -EINVAL:
		__atomic_store_n(&inode->attached, REFUSED, __ATOMIC_RELAXED);
		refused(err);
		return false;
	default:
		return false;
	}
}
