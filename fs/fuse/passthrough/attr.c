// SPDX-License-Identifier: GPL-2.0
/*
 * FUSE passthrough: attributes of the FUSE inode after I/O on the lower file.
 *
 * bits of fi->state         set                            cleared
 * FUSE_I_PASSTHROUGH_...
 *
 * WRITTEN   times and mode  with fi->lock before the       never
 *           are the lower   first write of an open, and
 *           file's          with a path that has GETATTR;
 *                           by a writable mapping
 * MAPPED    no cached       by a writable mapping, or at   never
 *           attribute is    an open that finds one
 *           trusted
 * TOUCHED   a write has     with fi->lock by the first     with fi->lock by a
 *           invalidated     write after a request; also    task that is about
 *           attributes      puts LOWER_STATX into          to request
 *           since the last  inval_mask and renews          attributes
 *           request         attr_version
 * STALE     cached pages    see inode_attr.c
 *           must be
 *           dropped
 *
 * Barriers in pairs:
 *
 * smp_mb() in fuse_lower_touched()           smp_mb__after_atomic() in
 *   write the lower file, then test the        fuse_passthrough_inval_mask()
 *   bit                                        clear the bit, then request
 *   A write that finds the bit set is covered by the reply to every request
 *   sent after the bit was cleared.
 * smp_store_release() in                     smp_load_acquire() in
 *   fuse_lower_begin_writing()                 fuse_lower_try_write()
 *   A writer that finds LOWER_FIRST_WRITE clear also finds WRITTEN set.
 */

#include "../fuse_i.h"
#include "passthrough_i.h"

/* With fi->lock: make replies to all requests sent before this stale. */
static void renew_version(struct fuse_inode *fi)
{
	struct fuse_conn *fc = get_fuse_conn(&fi->inode);

	lockdep_assert_held(&fi->lock);
	fi->attr_version = atomic64_inc_return(&fc->attr_version);
}

/**
 * fuse_lower_first_touch - invalidate attributes after a write
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
 * fuse_lower_begin_writing - mark an inode as written by passthrough
 * @inode: a FUSE inode
 * @ff: the open, before its first write
 *
 * Context: takes fi->lock
 */
void fuse_lower_begin_writing(struct inode *inode, struct fuse_file *ff)
{
	struct fuse_inode *fi = get_fuse_inode(inode);

	/* A SETATTR trusts its reply only if it ends before this. */
	spin_lock(&fi->lock);
	set_bit(FUSE_I_PASSTHROUGH_WRITTEN, &fi->state);
	/* Pairs with fuse_lower_try_write(), see above. */
	smp_store_release(&ff->passthrough_write,
			  ff->passthrough_write & ~LOWER_FIRST_WRITE);
	spin_unlock(&fi->lock);
	/* Local times no longer count, even if the write fails: invalidate. */
	fuse_lower_touch(inode);
}

/**
 * fuse_lower_set_mapped - mark an inode whose lower file is mapped writable
 * @inode: the FUSE inode; stores through the mapping are not seen
 */
void fuse_lower_set_mapped(struct inode *inode)
{
	struct fuse_inode *fi = get_fuse_inode(inode);

	set_bit(FUSE_I_PASSTHROUGH_WRITTEN, &fi->state);
	set_bit(FUSE_I_PASSTHROUGH_MAPPED, &fi->state);
}

/**
 * fuse_lower_drop_mode - drop mode bits that the lower inode has lost
 * @inode: a FUSE inode
 * @lower: the lower inode that was written
 * @had: setuid and setgid bits that @lower had before the write
 *
 * Bits that @lower has lost are dropped at once: exec reads the FUSE inode's
 * mode without a request.  Other bits stay: plain FUSE drops bits only if the
 * inode has them.
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
	/* A reply to an earlier request may still have the bits. */
	renew_version(fi);
	spin_unlock(&fi->lock);
}

/**
 * fuse_lower_raise_size - raise the size after a write
 * @inode: a FUSE inode
 * @lower: the lower file
 * @end: where the write ended
 *
 * A completion may run after a truncation, so the lower file's size is the
 * limit.  SETATTR takes fi->lock after the lower file was truncated.  Writers
 * with FUSE_WRITEBACK_CACHE raise the size without fi->lock; the inode lock
 * excludes them, see fuse_lower_lock().
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
 * fuse_passthrough_inval_mask - prepare for a request for attributes
 * @inode: a FUSE inode
 *
 * The caller then reads the inode's inval_mask and requests the attributes in
 * it.  A write after this invalidates attributes again.
 *
 * Context: takes fi->lock
 * Return: STATX_* mask of stale attributes, to be added to inval_mask
 */
u32 fuse_passthrough_inval_mask(struct inode *inode)
{
	struct fuse_inode *fi = get_fuse_inode(inode);

	if (test_bit(FUSE_I_PASSTHROUGH_TOUCHED, &fi->state)) {
		/* Under fi->lock inval_mask was set together with the bit. */
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
 * Their replies may be older than a write that found TOUCHED set, or that did
 * not have to raise the size.
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
 * The times of such an inode are the lower file's.  Local times, which
 * FUSE_WRITEBACK_CACHE keeps, must not overwrite them.
 */
bool fuse_passthrough_written(struct inode *inode)
{
	return test_bit(FUSE_I_PASSTHROUGH_WRITTEN,
			&get_fuse_inode(inode)->state);
}

/**
 * fuse_passthrough_written_back - the server has written cached data
 * @inode: a FUSE inode
 *
 * Return: true if the inode keeps no local times, see
 * fuse_passthrough_written()
 */
bool fuse_passthrough_written_back(struct inode *inode)
{
	if (!fuse_passthrough_written(inode))
		return false;

	fuse_lower_touch(inode);
	return true;
}

/**
 * fuse_passthrough_cache_mask - attributes that may be kept locally
 * @inode: a FUSE inode
 * @mask: STATX_* mask of what FUSE_WRITEBACK_CACHE keeps
 *
 * The size stays local: dirty pages beyond the server's size would be lost.
 * Passthrough raises it at once.
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
 * @attr: attributes in the reply to a SETATTR; setuid and setgid bits that
 *	@inode does not have are removed
 *
 * A passthrough write does not wait for a SETATTR: the reply may be older than
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
 * fuse_passthrough_setattr - invalidate attributes after a SETATTR
 * @inode: a FUSE inode, its lock and fi->lock held, other attributes updated
 * @attr: attributes in the reply; the size is corrected
 * @truncate: the SETATTR changes the size
 *
 * The reply may be older than passthrough I/O that has ended since: the next
 * stat sends a GETATTR.  A size that such a write has raised stays.
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
 * Plain FUSE and exec read the inode's mode without a request, so a GETATTR has
 * to tell now whether the file has the removed bits.
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
 * @inode: a FUSE inode that an open with FUSE_ATOMIC_O_TRUNC has truncated
 *
 * The open has set the size to 0.  This sets it again unless a passthrough
 * write may have raised it since.
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
 * fuse_passthrough_outdated - may a reply be older than a passthrough write?
 * @inode: a FUSE inode that is in use, with fi->lock
 * @attr: attributes in the reply
 * @version: fc->attr_version from before the request, 0 if it was not read
 *
 * Plain FUSE reads no version where the inode lock excludes writes; it does not
 * exclude passthrough writes.  The link count is used all the same: no write
 * changes it, and a LINK reports it only here.
 *
 * Return: true if the caller must not use the other attributes in the reply;
 * the next stat asks for all of them
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
