// SPDX-License-Identifier: GPL-2.0
/*
 * FUSE passthrough: one attempt at a write.
 *
 * Lock order: FUSE inode lock, lower freeze protection, locks of the lower file
 * system.  Freeze protection is only tried: a caller that has to wait for a
 * thaw drops all locks first, and starts over.
 */

#include "../fuse_i.h"
#include "passthrough_i.h"

#include <linux/cred.h>
#include <linux/fsnotify.h>
#include <linux/pagemap.h>
#include <linux/uio.h>

/* The lower file may have O_LARGEFILE although the client's file has not. */
static int limit_size(const struct kiocb *kiocb, struct iov_iter *from)
{
	loff_t pos = kiocb->ki_pos;

	if (kiocb->ki_flags & IOCB_APPEND)
		pos = i_size_read(file_inode(kiocb->ki_filp));
	if (pos >= MAX_NON_LFS)
		return -EFBIG;

	iov_iter_truncate(from, MAX_NON_LFS - pos);
	return 0;
}

/* Prepare for the lower call.  After an error @lock is not held. */
static noinline int prepare_write(struct file *file, struct kiocb *kiocb,
				  struct iov_iter *from, unsigned int takes,
				  enum fuse_lower_lock lock)
{
	struct fuse_file *ff = file->private_data;
	struct inode *inode = file_inode(file);
	int err = 0;

	if (mapping_mapped(inode->i_mapping)) {
		err = fuse_lower_fault_in(kiocb, from, iov_iter_count(from),
					  WRITE);
		if (err)
			return err;
	}

	if (is_sxid(inode->i_mode) && iov_iter_count(from)) {
		err = fuse_lower_drop_own(file, kiocb);
		if (err)
			return err;
	}

	if (!(kiocb->ki_flags & IOCB_NOWAIT))
		fuse_lower_lock(inode, lock);
	else if (!fuse_lower_trylock(inode, lock))
		return -EAGAIN;

	if (fuse_lower_cached(inode))
		err = fuse_lower_clean(inode, kiocb, iov_iter_count(from),
				       WRITE);
	if (!err && (takes & LOWER_LIMITED) && iov_iter_count(from))
		err = limit_size(kiocb, from);
	if (err) {
		fuse_lower_unlock(inode, lock);
		return err;
	}

	if (lock == LOWER_EXCLUSIVE)
		kiocb->ki_pos = i_size_read(file_inode(kiocb->ki_filp));
	if (takes & LOWER_FIRST_WRITE)
		fuse_lower_begin_writing(inode, ff);
	return 0;
}

/*
 * A synchronous write may fail after data has reached the lower file.  The
 * position after such an error depends on the file system: drop all pages.
 */
static noinline void failed_write(struct inode *inode,
				  const struct kiocb *kiocb, ssize_t ret,
				  enum fuse_lower_lock held)
{
	if (ret && ret != -EAGAIN && ret != -EOPNOTSUPP &&
	    ret != -EIOCBQUEUED && ret != LOWER_FROZEN)
		fuse_lower_end_write(inode, kiocb->ki_filp, 0, LLONG_MAX,
				     held);
}

/* The completion of a queued write ends its freeze protection. */
static __always_inline ssize_t write_unfrozen(struct kiocb *kiocb,
					      struct iov_iter *from)
{
	struct file *lower = kiocb->ki_filp;
	struct super_block *sb = file_inode(lower)->i_sb;
	bool sync = is_sync_kiocb(kiocb);
	ssize_t ret;

	if (unlikely(!sb_start_write_trylock(sb)))
		return LOWER_FROZEN;

	if (!sync)
		__sb_writers_release(sb, SB_FREEZE_WRITE);
	ret = lower->f_op->write_iter(kiocb, from);
	if (ret == -EIOCBQUEUED)
		return ret;
	if (!sync)
		__sb_writers_acquired(sb, SB_FREEZE_WRITE);
	if (ret > 0)
		fsnotify_modify(lower);
	else if (unlikely(ret == LOWER_FROZEN))
		ret = -EIO;
	sb_end_write(sb);
	return ret;
}

/*
 * vfs_iocb_iter_write() waits for freeze protection since Linux 6.8, hence not
 * used.  The checks come before freeze protection, as fsnotify of newer kernels
 * asserts.  The attach has checked that the lower file has write_iter.
 */
static __always_inline ssize_t write_as(const struct cred *cred,
					struct kiocb *kiocb,
					struct iov_iter *from)
{
	const struct cred *old;
	ssize_t ret;

	old = fuse_lower_override(cred);
	ret = rw_verify_area(WRITE, kiocb->ki_filp, &kiocb->ki_pos,
			     iov_iter_count(from));
	if (likely(!ret))
		ret = write_unfrozen(kiocb, from);
	fuse_lower_revert(old);

	return ret;
}

/* Write to a lower file with setuid or setgid bits */
static noinline ssize_t write_suid(struct file *file, struct kiocb *kiocb,
				   struct iov_iter *from)
{
	struct fuse_file *ff = file->private_data;
	struct inode *lower = file_inode(kiocb->ki_filp);
	umode_t mode = READ_ONCE(lower->i_mode);
	const struct cred *cred;
	ssize_t ret;

	if ((kiocb->ki_flags & IOCB_NOWAIT) && !capable(CAP_FSETID))
		return -EAGAIN;

	cred = fuse_lower_suid_cred(ff->passthrough.creds, kiocb->ki_filp,
				    mode);
	if (IS_ERR(cred))
		return PTR_ERR(cred);

	ret = write_as(cred, kiocb, from);
	put_cred(cred);
	fuse_lower_drop_mode(file_inode(file), lower,
			     mode & (S_ISUID | S_ISGID));
	return ret;
}

/**
 * fuse_lower_try_write - write to the lower file unless it is frozen
 * @file: the client's file
 * @kiocb: the lower file's iocb
 * @from: the data
 *
 * Context: may wait for the server, unless @kiocb has IOCB_NOWAIT.  Takes the
 * FUSE inode lock if LOWER_SHARES or LOWER_APPENDS asks for it, and after the
 * lower call if pages are cached.
 * Return: result of write_iter, or LOWER_FROZEN
 */
ssize_t fuse_lower_try_write(struct file *file, struct kiocb *kiocb,
			     struct iov_iter *from)
{
	enum fuse_lower_lock lock = LOWER_UNLOCKED;
	struct fuse_file *ff = file->private_data;
	struct inode *inode = file_inode(file);
	unsigned int takes;
	ssize_t ret;

	/* Pairs with fuse_lower_begin_writing(). */
	takes = smp_load_acquire(&ff->passthrough_write);
	if (unlikely(takes || is_sxid(inode->i_mode) ||
		     mapping_mapped(inode->i_mapping) ||
		     fuse_lower_cached(inode))) {
		lock = fuse_lower_lock_of(takes, kiocb);
		ret = prepare_write(file, kiocb, from, takes, lock);
		if (ret)
			return ret;
	}

	if (unlikely(is_sxid(file_inode(kiocb->ki_filp)->i_mode)))
		ret = write_suid(file, kiocb, from);
	else
		ret = write_as(ff->passthrough.creds->write, kiocb, from);

	fuse_lower_touch(inode);
	if (unlikely(ret <= 0))
		failed_write(inode, kiocb, ret, lock);
	else if (!fuse_lower_write_is_done(inode, kiocb->ki_pos))
		fuse_lower_end_write(inode, kiocb->ki_filp,
				     kiocb->ki_pos - ret, kiocb->ki_pos, lock);
	if (unlikely(lock != LOWER_UNLOCKED))
		fuse_lower_unlock(inode, lock);
	return ret;
}

/**
 * fuse_lower_wait_thaw - wait until the lower file system is not frozen
 * @lower: a lower file
 *
 * Context: no lock is held.
 */
void fuse_lower_wait_thaw(struct file *lower)
{
	file_start_write(lower);
	file_end_write(lower);
}
