// SPDX-License-Identifier: GPL-2.0
/*
 * FUSE passthrough: attach a lower file, directory or symbolic link to an
 * inode, by a request whose reply is about the inode, or by its nodeid.
 */

#include "../fuse_i.h"
#include "passthrough_i.h"

#include <linux/file.h>
#include <trace/events/fuse_passthrough.h>

/* Only together: positions are those of the directory that was opened. */
#define LOWER_OPS_LISTING \
	(LOWER_OP(FUSE_OPENDIR) | LOWER_OP(FUSE_READDIR))

/* Operations that can be attached, by type of file */
#define LOWER_OPS_COMMON \
	(LOWER_OP(FUSE_GETATTR) | LOWER_OP(FUSE_SETATTR) | \
	 LOWER_OP(FUSE_GETXATTR) | LOWER_OP(FUSE_LISTXATTR) | \
	 LOWER_OP(FUSE_SETXATTR) | LOWER_OP(FUSE_REMOVEXATTR))
#define LOWER_OPS_FILE \
	(LOWER_OPS_COMMON | LOWER_OP(FUSE_OPEN) | LOWER_OP(FUSE_FSYNC) | \
	 LOWER_OP(FUSE_FALLOCATE) | LOWER_OP(FUSE_LSEEK) | \
	 LOWER_OP(FUSE_COPY_FILE_RANGE))
#define LOWER_OPS_DIRECTORY \
	(LOWER_OPS_COMMON | LOWER_OPS_LISTING | LOWER_OP(FUSE_FSYNCDIR))
#define LOWER_OPS_SYMLINK \
	(LOWER_OPS_COMMON | LOWER_OP(FUSE_READLINK))

/* Operations for which FUSE checks the client's rights on the lower inode */
#define LOWER_OPS_CHECKED \
	(LOWER_OP(FUSE_SETATTR) | LOWER_OP(FUSE_OPEN) | LOWER_OPS_LISTING | \
	 LOWER_OP(FUSE_GETXATTR) | LOWER_OP(FUSE_SETXATTR) | \
	 LOWER_OP(FUSE_REMOVEXATTR))
/* Operations that FUSE_PASSTHROUGH_RDONLY excludes: they change the file */
#define LOWER_OPS_WRITING \
	(LOWER_OP(FUSE_SETATTR) | LOWER_OP(FUSE_SETXATTR) | \
	 LOWER_OP(FUSE_REMOVEXATTR) | LOWER_OP(FUSE_FALLOCATE))

static u64 ops_for(umode_t mode)
{
	if (S_ISREG(mode))
		return LOWER_OPS_FILE;
	if (S_ISDIR(mode))
		return LOWER_OPS_DIRECTORY;
	return S_ISLNK(mode) ? LOWER_OPS_SYMLINK : 0;
}

/**
 * fuse_passthrough_honours_excl - does the server honour O_EXCL in CREATE?
 * @fc: its connection
 *
 * A server that attaches no inode may rely on the LOOKUP before the CREATE.
 */
bool fuse_passthrough_honours_excl(const struct fuse_conn *fc)
{
	return READ_ONCE(fc->passthrough_by_inode);
}

/* Is the reply to this request about an inode? */
static bool tells_of_inode(const struct fuse_req *req)
{
	switch (req->in.h.opcode) {
	case FUSE_LOOKUP:
	case FUSE_CREATE:
	case FUSE_MKNOD:
	case FUSE_MKDIR:
	case FUSE_SYMLINK:
	case FUSE_LINK:
	case FUSE_TMPFILE:
	case FUSE_GETATTR:
	case FUSE_OPEN:
	case FUSE_OPENDIR:
		return true;
	default:
		return false;
	}
}

/* With fpq->lock */
static long attach_to(struct fuse_conn *fc, struct fuse_req *req, void *lp)
{
	if (!tells_of_inode(req))
		return fuse_lower_refuse(fc, "answer tells of no inode", -EINVAL);
	if (req->lower_path)
		return fuse_lower_refuse(fc, "already attached", -EBUSY);

	req->lower_path = lp;
	return 0;
}

static long by_nodeid(struct fuse_conn *fc, u64 nodeid,
		      struct fuse_lower_path *lp)
{
	struct inode *inode;
	long err = -ENOENT;

	down_read(&fc->killsb);
	inode = fuse_ilookup(fc, nodeid, NULL);
	if (inode) {
		err = fuse_lower_path_install(inode, lp);
		iput(inode);
	}
	up_read(&fc->killsb);

	return err ? fuse_lower_refuse(fc, "inode cannot have it", err) : 0;
}

static long detach(struct fuse_conn *fc, u64 nodeid)
{
	struct inode *inode;
	bool detached = false;

	if (!nodeid) {
		detached = fuse_lower_path_detach_all(fc);
	} else {
		down_read(&fc->killsb);
		inode = fuse_ilookup(fc, nodeid, NULL);
		if (inode) {
			detached = fuse_lower_path_detach(inode, NULL);
			iput(inode);
		}
		up_read(&fc->killsb);
	}
	return detached ? 0 : fuse_lower_refuse(fc, "nothing attached", -ENOENT);
}

/* Checks on the lower inode cannot apply the id mapping of a FUSE mount. */
static bool may_be_idmapped(struct fuse_conn *fc)
{
	struct fuse_mount *fm;
	bool may = false;

	down_read(&fc->killsb);
	list_for_each_entry(fm, &fc->mounts, fc_entry)
		may = may || (fm->sb && fuse_lower_may_be_idmapped(fm->sb));
	up_read(&fc->killsb);

	return may;
}

/*
 * Reason to refuse operations that exclude each other, or do not work on this
 * connection; NULL if there is none
 */
static const char *senseless(struct fuse_conn *fc,
			     const struct fuse_passthrough_inode *in)
{
	if ((in->ops & LOWER_OPS_CHECKED) && !fc->default_permissions)
		return "needs default_permissions";
	if ((in->ops & LOWER_OPS_CHECKED) && !(in->ops & LOWER_OP(FUSE_GETATTR)))
		return "needs GETATTR";
	if ((in->ops & LOWER_OPS_LISTING) &&
	    (in->ops & LOWER_OPS_LISTING) != LOWER_OPS_LISTING)
		return "one of OPENDIR and READDIR";
	if ((in->ops & LOWER_OP(FUSE_FSYNCDIR)) && !(in->ops & LOWER_OPS_LISTING))
		return "FSYNCDIR without OPENDIR";
	if ((in->flags & FUSE_PASSTHROUGH_RDONLY) && (in->ops & LOWER_OPS_WRITING))
		return "writes, and is read-only";
	/* The server would not see the close of an open that has locks. */
	if ((in->ops & LOWER_OP(FUSE_OPEN)) && (!fc->no_lock || !fc->no_flock))
		return "locks are the server's";
	if (may_be_idmapped(fc))
		return "FUSE_ALLOW_IDMAP";
	return NULL;
}

static long attach(struct fuse_conn *fc,
		   const struct fuse_passthrough_inode *in, struct file *file)
{
	enum fuse_lower_unfit unfit = fuse_lower_unfit_inode(fc, file);
	struct fuse_lower_path *lp;
	const char *why;
	long err;

	if (unfit)
		return fuse_lower_refuse(fc, fuse_lower_reasons[unfit], -EINVAL);
	if (!in->ops || (in->ops & ~ops_for(file_inode(file)->i_mode)))
		return fuse_lower_refuse(fc, "unknown operations", -EINVAL);
	why = senseless(fc, in);
	if (why)
		return fuse_lower_refuse(fc, why, -EINVAL);

	lp = fuse_lower_path_new(fc, file, in);
	if (!lp)
		return fuse_lower_refuse(fc, "no memory", -ENOMEM);
	get_file(file);

	if (in->unique)
		err = fuse_lower_with_request(fc, in->unique, attach_to, lp);
	else
		err = by_nodeid(fc, in->nodeid, lp);
	if (err)
		fuse_lower_path_put(lp);
	else if (!READ_ONCE(fc->passthrough_by_inode))
		WRITE_ONCE(fc->passthrough_by_inode, true);
	return err;
}

/**
 * fuse_lower_inode_ioctl - FUSE_DEV_IOC_PASSTHROUGH_INODE
 * @fc: the connection
 * @arg: struct fuse_passthrough_inode
 *
 * Return: 0 or a negative errno
 */
long fuse_lower_inode_ioctl(struct fuse_conn *fc, void __user *arg)
{
	struct fuse_passthrough_inode in;
	struct file *file;
	long err;

	if (copy_from_user(&in, arg, sizeof(in)))
		return -EFAULT;

	if (in.flags & ~FUSE_PASSTHROUGH_RDONLY)
		return fuse_lower_refuse(fc, "unknown flags", -EINVAL);
	if (in.unique && in.nodeid)
		return fuse_lower_refuse(fc, "by request and by nodeid", -EINVAL);
	if (!in.unique && in.fd == -1) {
		if (in.ops || in.flags)
			return fuse_lower_refuse(fc, "operations of no file",
						 -EINVAL);
		return detach(fc, in.nodeid);
	}

	file = fget_raw(in.fd);
	if (!file)
		return fuse_lower_refuse(fc, "bad descriptor", -EBADF);
	err = attach(fc, &in, file);
	fput(file);

	return err;
}
