// SPDX-License-Identifier: GPL-2.0
/*
 * FUSE passthrough: splice from the lower file to a pipe, and back.
 */

#include "../fuse_i.h"
#include "passthrough_i.h"

#include <linux/bvec.h>
#include <linux/fsnotify.h>
#include <linux/splice.h>
#include <linux/uio.h>

/**
 * fuse_lower_splice_read - splice_read of a passthrough open
 * @file: the client's file
 * @ppos: its position
 * @pipe: the pipe, locked
 * @len: bytes
 * @flags: SPLICE_F_*
 *
 * Pages of the lower file's page cache go to the pipe.  If the lower file or
 * the client's file has O_DIRECT, data is read with the client's flags and
 * copied.
 *
 * Return: bytes or a negative errno
 */
ssize_t fuse_lower_splice_read(struct file *file, loff_t *ppos,
			       struct pipe_inode_info *pipe,
			       size_t len, unsigned int flags)
{
	struct fuse_file *ff = file->private_data;
	struct file *lower = ff->passthrough.lower;
	struct inode *inode = file_inode(file);
	const struct cred *old;
	ssize_t ret;

	if (fuse_is_bad(inode))
		return -EIO;
	if (((file->f_flags | lower->f_flags) & O_DIRECT) ||
	    !lower->f_op->splice_read)
		return copy_splice_read(file, ppos, pipe, len, flags);

	if (fuse_lower_cached(inode)) {
		struct kiocb kiocb = {
			.ki_filp = lower,
			.ki_pos = *ppos,
		};

		ret = fuse_lower_clean(inode, &kiocb, len, READ);
		if (ret)
			return ret;
	}

	old = fuse_lower_override(ff->passthrough.creds->full);
	ret = vfs_splice_read(lower, ppos, pipe, len, flags);
	if (ret > 0)
		fsnotify_access(lower);
	fuse_lower_revert(old);
	fuse_lower_accessed(inode);

	return ret;
}

static int to_lower(struct pipe_inode_info *pipe, struct pipe_buffer *buf,
		    struct splice_desc *sd)
{
	struct file *file = sd->u.file;
	struct fuse_file *ff = file->private_data;
	struct file *lower = ff->passthrough.lower;
	struct bio_vec bvec = {
		.bv_page = buf->page,
		.bv_offset = buf->offset,
		.bv_len = sd->len,
	};
	struct kiocb iocb, kiocb;
	struct iov_iter from;
	int flags, err;
	ssize_t ret;

	init_sync_kiocb(&iocb, file);
	iocb.ki_pos = sd->pos;
	flags = fuse_lower_flags(&iocb, lower, WRITE);
	err = fuse_lower_able(lower, flags);
	if (err)
		return err;

	kiocb = fuse_lower_kiocb(&iocb, lower, flags);
	iov_iter_bvec(&from, ITER_SOURCE, &bvec, 1, sd->len);
	ret = fuse_lower_try_write(file, &kiocb, &from);
	/* An append sets the position; the caller adds @ret. */
	if (ret > 0)
		sd->pos = kiocb.ki_pos - ret;
	return ret;
}

/**
 * fuse_lower_splice_write - splice_write of a passthrough open
 * @pipe: the pipe
 * @file: the client's file
 * @ppos: its position
 * @len: bytes
 * @flags: SPLICE_F_*
 *
 * A splice to the lower file system itself takes freeze protection before the
 * pipe lock.  The generic splice_write would wait for a thaw with the pipe
 * locked.
 *
 * Return: bytes or a negative errno
 */
ssize_t fuse_lower_splice_write(struct pipe_inode_info *pipe,
				struct file *file, loff_t *ppos,
				size_t len, unsigned int flags)
{
	struct fuse_file *ff = file->private_data;
	struct splice_desc sd = {
		.total_len = len,
		.flags = flags,
		.pos = *ppos,
		.u.file = file,
	};
	ssize_t ret;

	if (fuse_is_bad(file_inode(file)))
		return -EIO;

	for (;;) {
		pipe_lock(pipe);
		ret = __splice_from_pipe(pipe, &sd, to_lower);
		pipe_unlock(pipe);
		if (ret != LOWER_FROZEN)
			break;
		fuse_lower_wait_thaw(ff->passthrough.lower);
	}

	if (ret > 0)
		*ppos = sd.pos;
	return ret;
}
