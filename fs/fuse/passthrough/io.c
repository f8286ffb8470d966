// SPDX-License-Identifier: GPL-2.0
/*
 * FUSE passthrough: read and write.
 */

#include "../fuse_i.h"
#include "passthrough_i.h"

#include <linux/pagemap.h>
#include <linux/uio.h>

/* Limit of one fault-in for I/O that can be short */
#define FAULT_IN_MAX SZ_16M

static ssize_t read_lower(struct file *file, struct kiocb *kiocb,
			  struct iov_iter *to)
{
	struct fuse_file *ff = file->private_data;
	struct inode *inode = file_inode(file);
	const struct cred *old;
	ssize_t ret;

	if (mapping_mapped(inode->i_mapping)) {
		ret = fuse_lower_fault_in(kiocb, to, iov_iter_count(to), READ);
		if (ret)
			return ret;
	}

	if (fuse_lower_cached(inode)) {
		ret = fuse_lower_clean(inode, kiocb, iov_iter_count(to), READ);
		if (ret)
			return ret;
	}

	old = fuse_lower_override(ff->passthrough.creds->full);
	ret = vfs_iocb_iter_read(kiocb->ki_filp, kiocb, to);
	fuse_lower_revert(old);
	fuse_lower_accessed(inode);

	return ret;
}

static ssize_t write_lower(struct file *file, struct kiocb *kiocb,
			   struct iov_iter *from)
{
	ssize_t ret;

	for (;;) {
		ret = fuse_lower_try_write(file, kiocb, from);
		if (likely(ret != LOWER_FROZEN))
			return ret;
		if (kiocb->ki_flags & IOCB_NOWAIT)
			return -EAGAIN;
		fuse_lower_wait_thaw(kiocb->ki_filp);
	}
}

static ssize_t submit_aio(struct kiocb *iocb, struct file *lower, int flags,
			  struct iov_iter *iter, int rw)
{
	struct kiocb *kiocb = fuse_lower_new_aio(iocb, lower, flags, rw);
	ssize_t ret;

	if (IS_ERR(kiocb))
		return PTR_ERR(kiocb);

	if (rw == READ)
		ret = read_lower(iocb->ki_filp, kiocb, iter);
	else
		ret = write_lower(iocb->ki_filp, kiocb, iter);
	fuse_lower_submitted_aio(kiocb, ret);
	return ret;
}

/*
 * Buffered I/O completes before it returns, even for an asynchronous iocb.
 * Only direct I/O needs an iocb that outlives the call.
 */
static bool is_async(struct kiocb *iocb)
{
	return (iocb->ki_flags & IOCB_DIRECT) && !is_sync_kiocb(iocb);
}

static __always_inline ssize_t rw_sync(struct kiocb *iocb, struct file *lower,
				       int flags, struct iov_iter *iter, int rw)
{
	struct kiocb kiocb = fuse_lower_kiocb(iocb, lower, flags);
	ssize_t ret;

	if (rw == READ)
		ret = read_lower(iocb->ki_filp, &kiocb, iter);
	else
		ret = write_lower(iocb->ki_filp, &kiocb, iter);
	iocb->ki_pos = kiocb.ki_pos;
	return ret;
}

static noinline ssize_t once(struct kiocb *iocb, struct file *lower, int flags,
			     struct iov_iter *iter, int rw)
{
	if (is_async(iocb))
		return submit_aio(iocb, lower, flags, iter, rw);
	return rw_sync(iocb, lower, flags, iter, rw);
}

/*
 * A lower call faults in its buffer under the server's credentials.  A buffer
 * that maps a FUSE file may need the client's: FUSE fails a request whose ids
 * have no mapping in the user namespace of the mount.  If a call moved no data,
 * fault in the buffer under the client's credentials, with no lock and no
 * freeze protection held, and repeat the call.
 */
static ssize_t again(struct kiocb *iocb, struct file *lower,
		     int flags, struct iov_iter *iter, int rw)
{
	size_t len = iov_iter_count(iter);
	int err;

	if (!user_backed_iter(iter))
		return -EFAULT;

	/* Direct I/O pins the whole buffer, buffered I/O can be short. */
	if (!(flags & IOCB_DIRECT))
		len = min_t(size_t, len, FAULT_IN_MAX);
	err = fuse_lower_fault_in(iocb, iter, len, rw);
	if (err)
		return err;

	return once(iocb, lower, flags, iter, rw);
}

/*
 * Position in the buffer at which a call begins.  Taking its address keeps it
 * out of registers, which each call would have to save.
 */
struct start {
	struct iov_iter *iter;
	size_t offset;
	unsigned long segs;
};

static noinline ssize_t
start_again(struct kiocb *iocb, const struct start *start, int rw)
{
	struct fuse_file *ff = iocb->ki_filp->private_data;
	struct file *lower = ff->passthrough.lower;
	struct iov_iter *iter = start->iter;

	/* Asynchronous direct I/O may have moved data, buffered I/O has not. */
	if (iter->iov_offset != start->offset || iter->nr_segs != start->segs)
		return -EFAULT;

	return again(iocb, lower, fuse_lower_flags(iocb, lower, rw), iter, rw);
}

/*
 * Synchronous direct I/O may fail after it has moved data, with its position
 * advanced.  Repeat it from its start.  Do not repeat an append: it would add
 * the same data once more.
 */
static noinline ssize_t rw_direct(struct kiocb *iocb, struct file *lower,
				  int flags, struct iov_iter *iter, int rw)
{
	struct iov_iter start = *iter;
	loff_t pos = iocb->ki_pos;
	ssize_t ret;

	ret = once(iocb, lower, flags, iter, rw);
	if (ret != -EFAULT || !user_backed_iter(iter))
		return ret;
	if ((flags & IOCB_APPEND) && (iter->iov_offset != start.iov_offset ||
				      iter->nr_segs != start.nr_segs))
		return ret;

	*iter = start;
	iocb->ki_pos = pos;
	return again(iocb, lower, flags, iter, rw);
}

static __always_inline ssize_t rw_iter(struct kiocb *iocb,
				       struct iov_iter *iter, int rw)
{
	struct fuse_file *ff = iocb->ki_filp->private_data;
	struct file *lower = ff->passthrough.lower;
	int flags = fuse_lower_flags(iocb, lower, rw);
	struct start start = {
		.iter = iter,
		.offset = iter->iov_offset,
		.segs = iter->nr_segs,
	};
	ssize_t ret;

	if (fuse_is_bad(file_inode(iocb->ki_filp)))
		return -EIO;

	if (unlikely(flags & (IOCB_DIRECT | IOCB_NOWAIT))) {
		ret = fuse_lower_able(lower, flags);
		if (ret)
			return ret;
		if (is_async(iocb)) {
			ret = submit_aio(iocb, lower, flags, iter, rw);
			goto out;
		}
		if (flags & IOCB_DIRECT)
			return rw_direct(iocb, lower, flags, iter, rw);
	}

	ret = rw_sync(iocb, lower, flags, iter, rw);
out:
	if (unlikely(ret == -EFAULT))
		ret = start_again(iocb, &start, rw);
	return ret;
}

/**
 * fuse_lower_read_iter - read_iter of a passthrough open
 * @iocb: the client's iocb
 * @to: the buffer
 *
 * Return: bytes or a negative errno
 */
ssize_t fuse_lower_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	return rw_iter(iocb, to, READ);
}

/**
 * fuse_lower_write_iter - write_iter of a passthrough open
 * @iocb: the client's iocb
 * @from: the data
 *
 * Return: bytes or a negative errno
 */
ssize_t fuse_lower_write_iter(struct kiocb *iocb, struct iov_iter *from)
{
	return rw_iter(iocb, from, WRITE);
}
