// SPDX-License-Identifier: GPL-2.0
/*
 * FUSE passthrough: attributes of the FUSE inode after I/O on the lower file.
 *
 * bits of fi->state         set                            cleared
 * FUSE_I_PASSTHROUGH_...
 *
 * WRITTEN   times and mode  with fi->lock before the       never
 *           are the lower   first write of an open; by a
 *           file's          writable mapping
 * MAPPED    no attribute    by a writable mapping, or at   never
 *           is trusted      an open that finds one
 * TOUCHED   a write has     with fi->lock by the first     with fi->lock by a
 *           invalidated     write after a request; also    task that is about
 *           attributes      puts LOWER_STATX into          to ask for
 *           since the last  inval_mask and renews          attributes
 *           request         attr_version
 *
 * Barriers, and what they pair with:
 *
 * smp_mb() in fuse_lower_touched()           smp_mb__after_atomic() in
 *   write to the lower file, then the bit      fuse_passthrough_inval_mask()
 *                                              bit cleared, then the request
 *   A write that finds the bit set is in the reply to any request that was sent
 *   after the bit was cleared.
 * smp_store_release() in                     smp_load_acquire() in
 *   fuse_lower_begin_writing()                 fuse_lower_try_write()
 *   A writer that finds LOWER_FIRST_WRITE clear finds WRITTEN set.
 */

#include "../fuse_i.h"
#include "passthrough_i.h"

/* With fi->lock: replies to requests that were sent before this are stale. */
static void renew_version(struct fuse_inode *fi)
{
	struct fuse_conn *fc = get_fuse_conn(&fi->inode);

	lockdep_assert_held(&fi->lock);
	fi->attr_version = atomic64_inc_return(&fc->attr_version);
}

/**
 * fuse_lower_first_touch - invalidate what a write has made stale
 * @inode: a FUSE inode
 *
 * The first write between two requests for attributes calls this, see the table
 * at the top.
 *
 * Context: takes fi->lock; not for interrupts
 */
noinline void fuse_lower_first_touch(struct inode *inode)
{
	struct fuse_inode *fi = get_fuse_inode(inode);

	spin_lock(&fi->lock);
	fuse_invalidate_attr_mask(inode, LOWER_STATX);
	set_bit(FUSE_I_PASSTHROUGH_TOUCHED, &fi->state);
	renew_version(fi);
	spin_unlock(&fi->lock);
}

/**
 * fuse_lower_begin_writing - note that an inode is written by passthrough
 * @inode: a FUSE inode
 * @ff: the open whose first write is to come
 *
 * Context: takes fi->lock
 */
void fuse_lower_begin_writing(struct inode *inode, struct fuse_file *ff)
{
	struct fuse_inode *fi = get_fuse_inode(inode);

	/* A SETATTR whose reply is trusted ends before the write begins. */
	spin_lock(&fi->lock);
	set_bit(FUSE_I_PASSTHROUGH_WRITTEN, &fi->state);
	/* Pairs with fuse_lower_try_write(), see above. */
	smp_store_release(&ff->passthrough_write,
			  ff->passthrough_write & ~LOWER_FIRST_WRITE);
	spin_unlock(&fi->lock);
	/* From here on the server has the times, even if the write fails. */
	fuse_lower_touch(inode);
}

/**
 * fuse_lower_set_mapped - note that a lower file is mapped writable
 * @inode: the FUSE inode; nobody sees the stores of the mapping
 */
void fuse_lower_set_mapped(struct inode *inode)
{
	struct fuse_inode *fi = get_fuse_inode(inode);

	set_bit(FUSE_I_PASSTHROUGH_WRITTEN, &fi->state);
	set_bit(FUSE_I_PASSTHROUGH_MAPPED, &fi->state);
}

/**
 * fuse_lower_drop_mode - drop mode bits that a write has dropped
 * @inode: a FUSE inode
 * @lower: the lower inode that was written
 * @had: setuid and setgid bits that @lower had before the write
 *
 * Bits that @lower has lost go at once: exec looks at the inode's mode without
 * a request.  Others stay: plain FUSE drops only bits that the inode has.
 *
 * Context: takes fi->lock
 */
void fuse_lower_drop_mode(struct inode *inode,
			  const struct inode *lower, umode_t had)
{
	struct fuse_inode *fi = get_fuse_inode(inode);
	umode_t gone;

	spin_lock(&fi->lock);
	gone = had & ~lower->i_mode;
	inode->i_mode &= ~gone;
	fi->orig_i_mode &= ~gone;
	fuse_invalidate_attr_mask(inode, STATX_MODE);
	/* Replies under way may still have them. */
	renew_version(fi);
	spin_unlock(&fi->lock);
}

/**
 * fuse_lower_raise_size - raise the size after a write
 * @inode: a FUSE inode
 * @lower: the lower file
 * @end: where the write ended
 *
 * A completion may follow a truncate, so that the lower file's size is the
 * limit; the reply to the truncate takes fi->lock after the lower file has been
 * cut.  Writers with FUSE_WRITEBACK_CACHE raise the size without fi->lock; the
 * inode lock keeps them out, see fuse_lower_lock().
 *
 * Context: takes fi->lock
 */
void fuse_lower_raise_size(struct inode *inode,
			   const struct file *lower, loff_t end)
{
	struct fuse_inode *fi = get_fuse_inode(inode);

	if (end <= i_size_read(inode))
		return;

	spin_lock(&fi->lock);
	end = min(end, i_size_read(file_inode(lower)));
	if (end > inode->i_size) {
		renew_version(fi);
		i_size_write(inode, end);
	}
	spin_unlock(&fi->lock);
}

/**
 * fuse_passthrough_inval_mask - attributes that passthrough makes stale
 * @inode: a FUSE inode
 *
 * The caller is about to read the inode's inval_mask and to request the
 * attributes in it: a write after this has to invalidate them again.
 *
 * Context: takes fi->lock
 * Return: STATX_* to add to the inode's inval_mask, which is to be read after this
 */
u32 fuse_passthrough_inval_mask(struct inode *inode)
{
	struct fuse_inode *fi = get_fuse_inode(inode);

	if (test_bit(FUSE_I_PASSTHROUGH_TOUCHED, &fi->state)) {
		/* fi->lock, to see the inval_mask that was set with the bit. */
		spin_lock(&fi->lock);
		clear_bit(FUSE_I_PASSTHROUGH_TOUCHED, &fi->state);
		/* Pairs with fuse_lower_touched(). */
		smp_mb__after_atomic();
		spin_unlock(&fi->lock);
	}
	return test_bit(FUSE_I_PASSTHROUGH_MAPPED, &fi->state) ?
		LOWER_STATX : 0;
}

/**
 * fuse_passthrough_distrusted - attributes that a reply leaves invalid
 * @inode: a FUSE inode, with fi->lock, whose attributes are being updated
 *
 * LOOKUP and READDIRPLUS do not call fuse_passthrough_inval_mask() first.
 * Their replies may be older than a write that found the bit set, or that found
 * the size large enough.
 *
 * Return: a STATX_* mask
 */
u32 fuse_passthrough_distrusted(struct inode *inode)
{
	return test_bit(FUSE_I_PASSTHROUGH_TOUCHED,
			&get_fuse_inode(inode)->state) ?
		LOWER_STATX | STATX_SIZE : 0;
}

/**
 * fuse_passthrough_written - has passthrough written to an inode?
 * @inode: a FUSE inode
 *
 * The times of such an inode are the lower file's.  Local ones, as
 * FUSE_WRITEBACK_CACHE keeps them, must not be flushed over them.
 */
bool fuse_passthrough_written(struct inode *inode)
{
	return test_bit(FUSE_I_PASSTHROUGH_WRITTEN,
			&get_fuse_inode(inode)->state);
}

/**
 * fuse_passthrough_written_back - the server has taken cached data
 * @inode: a FUSE inode
 *
 * Return: true if the inode's times are the server's, see above
 */
bool fuse_passthrough_written_back(struct inode *inode)
{
	if (!fuse_passthrough_written(inode))
		return false;

	fuse_lower_touch(inode);
	return true;
}

/**
 * fuse_passthrough_cache_mask - what FUSE_WRITEBACK_CACHE may keep locally
 * @inode: a FUSE inode
 * @mask: STATX_* mask of what it keeps otherwise
 *
 * The size stays local: dirty pages beyond the server's size would be lost, and
 * passthrough raises it at once.
 *
 * Return: the part of @mask that stays local
 */
u32 fuse_passthrough_cache_mask(struct inode *inode, u32 mask)
{
	return fuse_passthrough_written(inode) ? mask & STATX_SIZE : mask;
}

/**
 * fuse_passthrough_mask_setattr - remove mode bits that may be stale
 * @inode: a FUSE inode, its lock and fi->lock held
 * @attr: attributes in the answer to a SETATTR; setuid and setgid bits that
 *	@inode does not have are removed
 *
 * A passthrough write does not wait for a SETATTR: the answer may be older than
 * a write that dropped these bits.
 *
 * Return: true if bits were removed, see fuse_passthrough_end_setattr()
 */
bool fuse_passthrough_mask_setattr(struct inode *inode, struct fuse_attr *attr)
{
	umode_t gained = attr->mode & ~inode->i_mode & (S_ISUID | S_ISGID);

	if (fuse_lower_replace_answer(inode, attr) || !gained ||
	    !fuse_passthrough_written(inode))
		return false;

	attr->mode &= ~gained;
	return true;
}

/**
 * fuse_passthrough_setattr - distrust the answer to a SETATTR
 * @inode: a FUSE inode, its lock and fi->lock held, other attributes updated
 * @attr: attributes in the answer; the size is corrected
 * @truncate: the SETATTR changes the size
 *
 * It may be older than passthrough I/O that ended meanwhile, so that the next stat
 * asks again.  A size that such a write raised stays.
 */
void fuse_passthrough_setattr(struct inode *inode, struct fuse_attr *attr,
			      bool truncate)
{
	if (!fuse_passthrough_written(inode))
		return;

	fuse_invalidate_attr_mask(inode, FUSE_STATX_MODSIZE | STATX_MODE |
				  STATX_ATIME);
	if (!truncate)
		attr->size = i_size_read(inode);
}

/**
 * fuse_passthrough_end_setattr - finish a SETATTR
 * @inode: a FUSE inode, its lock held, its attributes updated
 * @file: the open that the SETATTR was sent for, or NULL
 * @masked: the result of fuse_passthrough_mask_setattr()
 *
 * Plain FUSE and exec look at the inode's mode bits without a request, so that
 * the server is asked now whether it has the removed bits.
 *
 * Context: may wait for the server
 */
void fuse_passthrough_end_setattr(struct inode *inode, struct file *file,
				  bool masked)
{
	if (masked)
		fuse_update_attributes(inode, file, STATX_MODE);
}

/**
 * fuse_passthrough_open_truncated - the size after an open that truncates
 * @inode: a FUSE inode that an open with FUSE_ATOMIC_O_TRUNC has cut
 *
 * It has set the size, which is set again only if no passthrough write can have
 * raised it since.
 *
 * Context: takes fi->lock
 * Return: true if passthrough has written to the inode
 */
bool fuse_passthrough_open_truncated(struct inode *inode)
{
	struct fuse_inode *fi = get_fuse_inode(inode);
	bool written;

	spin_lock(&fi->lock);
	written = fuse_passthrough_written(inode);
	if (!written)
		i_size_write(inode, 0);
	spin_unlock(&fi->lock);
	return written;
}

/**
 * fuse_passthrough_outdated - may an answer be older than a passthrough write?
 * @inode: a FUSE inode that is in use, with fi->lock
 * @attr: attributes in the answer
 * @version: fc->attr_version from before the request, 0 if nobody read it
 *
 * Plain FUSE needs no version where the inode lock keeps writes out; it does
 * not keep passthrough out.  The link count is taken all the same: no write
 * changes it, and nothing else reports it.
 *
 * Return: true if the other attributes in the answer are to be left alone; the
 * next stat asks for all of them
 */
bool fuse_passthrough_outdated(struct inode *inode,
			       const struct fuse_attr *attr, u64 version)
{
	if (fuse_lower_answered(inode, attr))
		return true;
	if (version || !fuse_passthrough_written(inode))
		return false;

	set_nlink(inode, attr->nlink);
	renew_version(get_fuse_inode(inode));
	fuse_invalidate_attr(inode);
	return true;
}
