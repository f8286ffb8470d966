// SPDX-License-Identifier: GPL-2.0
/*
 * FUSE passthrough: operations on a directory that was opened by inode.
 */

#include "../fuse_i.h"
#include "passthrough_i.h"

/**
 * fuse_passthrough_readdir - read a directory that was opened by inode
 * @file: the client's file, its position locked
 * @ctx: takes the entries
 * @err: 0 or a negative errno
 *
 * Entries and positions are those of the lower directory.
 *
 * Return: false if the request goes to the server
 */
bool fuse_passthrough_readdir(struct file *file, struct dir_context *ctx,
			      int *err)
{
	struct fuse_file *ff = file->private_data;
	struct file *lower = ff->passthrough.lower;
	const struct cred *old;
	loff_t pos = 0;

	if (fuse_passthrough_seen(ff))
		return false;

	old = fuse_lower_override(ff->passthrough.creds->full);
	/* Always seek to 0: a rewind makes new entries visible. */
	if (lower->f_pos != ctx->pos || !ctx->pos)
		pos = vfs_llseek(lower, ctx->pos, SEEK_SET);
	*err = pos < 0 ? pos : iterate_dir(lower, ctx);
	fuse_lower_revert(old);
	return true;
}

/**
 * fuse_passthrough_fsyncdir - fsync of a directory that was opened by inode
 * @file: the client's file
 * @start: as for ->fsync
 * @end: as for ->fsync
 * @datasync: as for ->fsync
 * @err: 0 or a negative errno
 *
 * Return: false if the request goes to the server
 */
bool fuse_passthrough_fsyncdir(struct file *file, loff_t start, loff_t end,
			       int datasync, int *err)
{
	struct fuse_file *ff = file->private_data;
	const struct cred *old;

	if (fuse_passthrough_seen(ff) ||
	    !fuse_lower_path_serves(file_inode(file), LOWER_OP(FUSE_FSYNCDIR)))
		return false;

	old = fuse_lower_override(ff->passthrough.creds->full);
	*err = vfs_fsync_range(ff->passthrough.lower, start, end, datasync);
	fuse_lower_revert(old);
	return true;
}
