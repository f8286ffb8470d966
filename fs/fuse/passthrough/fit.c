// SPDX-License-Identifier: GPL-2.0
/*
 * FUSE passthrough: check whether a file can be a lower file.  All ways to
 * attach share the check; each has its own errnos.
 */

#include "../fuse_i.h"
#include "passthrough_i.h"

#include <linux/magic.h>

#define CREATE_TRACE_POINTS
#include <trace/events/fuse_passthrough.h>

/**
 * fuse_lower_refuse - report why a request of the server is refused
 * @fc: the connection
 * @reason: for the tracepoint
 * @error: a negative errno
 *
 * Return: @error
 */
long fuse_lower_refuse(struct fuse_conn *fc, const char *reason, int error)
{
	pr_debug("passthrough refused on connection %u: %s (%d)\n",
		 MINOR(fc->dev), reason, error);
	trace_fuse_passthrough_refuse(fc->dev, reason, error);

	return error;
}

/* CONFIGFS_MAGIC, which fs/configfs keeps for itself. */
#define FUSE_LOWER_CONFIGFS 0x62656570

/*
 * Internal files of the kernel, and files whose contents the kernel generates,
 * are refused: clients would write to them with the server's privileges.
 * SB_KERNMOUNT and SB_I_NOEXEC do not mark all file systems with such files;
 * the others, except configfs, have no operations to fill a page cache.
 */
static bool is_special(const struct inode *inode)
{
	const struct super_block *sb = inode->i_sb;

	return (sb->s_flags & SB_KERNMOUNT) || (sb->s_iflags & SB_I_NOEXEC) ||
		sb->s_magic == HUGETLBFS_MAGIC ||
		sb->s_magic == FUSE_LOWER_CONFIGFS ||
		(S_ISREG(inode->i_mode) &&
		 inode->i_mapping->a_ops == &empty_aops);
}

/* The server of FUSE may wait for this server; virtiofs does not. */
static bool is_fuse(const struct super_block *sb)
{
	return !strcmp(sb->s_type->name, "fuse") ||
		!strcmp(sb->s_type->name, "fuseblk");
}

const char * const fuse_lower_reasons[] = {
	[FUSE_LOWER_DIRECTORY] = "a directory",
	[FUSE_LOWER_NOT_REGULAR] = "not a regular file",
	[FUSE_LOWER_NO_READ] = "no read_iter",
	[FUSE_LOWER_NO_WRITE] = "no write_iter",
	[FUSE_LOWER_PSEUDO] = "on an internal or pseudo file system",
	[FUSE_LOWER_ON_FUSE] = "on FUSE",
	[FUSE_LOWER_TOO_DEEP] = "stacked too deep",
	[FUSE_LOWER_NO_DIRECT] = "no O_DIRECT",
	[FUSE_LOWER_NO_TYPE] = "neither file, directory nor symbolic link",
};

static enum fuse_lower_unfit unfit_inode(const struct fuse_conn *fc,
					 const struct inode *inode)
{
	if (is_special(inode))
		return FUSE_LOWER_PSEUDO;
	if (is_fuse(inode->i_sb))
		return FUSE_LOWER_ON_FUSE;
	if (inode->i_sb->s_stack_depth >= fc->max_stack_depth)
		return FUSE_LOWER_TOO_DEEP;
	return 0;
}

/**
 * fuse_lower_unfit - check whether a file can be a lower file
 * @fc: the connection
 * @lower: the file; it may be O_PATH if each open of its path is checked again
 * @flags: flags of the client's open; O_ACCMODE, neither read nor write, if
 *	there is no open yet
 *
 * Return: 0 if it is fit, else the reason
 */
enum fuse_lower_unfit fuse_lower_unfit(const struct fuse_conn *fc,
				       const struct file *lower,
				       unsigned int flags)
{
	const struct inode *inode = file_inode(lower);
	const struct file_operations *fops = lower->f_op;
	fmode_t mode = OPEN_FMODE(flags);
	enum fuse_lower_unfit unfit;

	if (S_ISDIR(inode->i_mode))
		return FUSE_LOWER_DIRECTORY;
	if (!S_ISREG(inode->i_mode))
		return FUSE_LOWER_NOT_REGULAR;
	unfit = unfit_inode(fc, inode);
	if (unfit)
		return unfit;

	/* An O_PATH file has no operations: use those of a later open. */
	if (lower->f_mode & FMODE_PATH)
		fops = inode->i_fop;
	if (!fops->read_iter && ((mode & FMODE_READ) || !fops->write_iter))
		return FUSE_LOWER_NO_READ;
	if (!fops->write_iter && (mode & FMODE_WRITE))
		return FUSE_LOWER_NO_WRITE;
	if ((flags & O_DIRECT) && !(lower->f_mode & FMODE_CAN_ODIRECT))
		return FUSE_LOWER_NO_DIRECT;
	return 0;
}

/**
 * fuse_lower_unfit_inode - check whether a file can be attached to an inode
 * @fc: the connection
 * @lower: the file, directory or symbolic link; it may be O_PATH
 *
 * Return: 0 if it is fit, else the reason
 */
enum fuse_lower_unfit fuse_lower_unfit_inode(const struct fuse_conn *fc,
					     const struct file *lower)
{
	const struct inode *inode = file_inode(lower);

	if (S_ISREG(inode->i_mode))
		return fuse_lower_unfit(fc, lower, O_ACCMODE);
	if (!S_ISDIR(inode->i_mode) && !S_ISLNK(inode->i_mode))
		return FUSE_LOWER_NO_TYPE;
	return unfit_inode(fc, inode);
}

/**
 * fuse_passthrough_serves - does the I/O of an open go to a lower file?
 * @ff: the open
 */
bool fuse_passthrough_serves(const struct fuse_file *ff)
{
	return ff->passthrough.lower &&
		!(ff->passthrough_by == FUSE_LOWER_BY_ID &&
		  (ff->open_flags & FOPEN_DIRECT_IO));
}
