// SPDX-License-Identifier: GPL-2.0
/*
 * FUSE passthrough: attributes of an attached inode are the lower file's.
 *
 * A stat that finds a new size or mtime may set FUSE_I_PASSTHROUGH_STALE.  The
 * first stat after that which gets the inode lock drops the cached pages.
 */

#include "../fuse_i.h"
#include "passthrough_i.h"

#include <linux/pagemap.h>
#include <linux/posix_acl.h>

/**
 * fuse_lower_take_size - give a FUSE inode the size of its lower inode
 * @inode: the FUSE inode, its lock held if there is a write-back cache
 * @lower: the lower inode
 *
 * Context: takes fi->lock
 * Return: true if the size has changed: cached pages may be stale
 */
bool fuse_lower_take_size(struct inode *inode, const struct inode *lower)
{
	struct fuse_inode *fi = get_fuse_inode(inode);
	loff_t old, size;

	spin_lock(&fi->lock);
	old = inode->i_size;
	size = i_size_read(lower);
	if (size != old)
		i_size_write(inode, size);
	spin_unlock(&fi->lock);

	return size != old;
}

/**
 * fuse_lower_resized - drop cached pages of an inode with a new size
 * @inode: a FUSE inode, its lock held
 *
 * Context: may wait for the server: WRITEs must not be held back by
 * fuse_set_nowrite()
 */
void fuse_lower_resized(struct inode *inode)
{
	if (!READ_ONCE(inode->i_data.nrpages))
		return;

	truncate_pagecache(inode, i_size_read(inode));
	if (!get_fuse_conn(inode)->explicit_inval_data)
		invalidate_inode_pages2(inode->i_mapping);
}

/*
 * With a write-back cache, writers raise the size with the inode lock held
 * before the server has the data.  If the lock is busy, because of such a
 * writer or because the caller holds it, a later stat updates the size of the
 * FUSE inode.  The size that this stat reports is the lower file's.
 */
static void update_size_locked(struct inode *inode, const struct inode *lower)
{
	if (!inode_trylock(inode))
		return;

	if (!fuse_lower_flush(inode) && fuse_lower_take_size(inode, lower))
		fuse_lower_resized(inode);
	inode_unlock(inode);
}

static void update_size(struct inode *inode, const struct inode *lower)
{
	struct fuse_conn *fc = get_fuse_conn(inode);
	loff_t old = i_size_read(inode);

	if (old == i_size_read(lower))
		return;
	if (fc->writeback_cache) {
		update_size_locked(inode, lower);
		return;
	}

	if (!fuse_lower_take_size(inode, lower))
		return;
	if (i_size_read(inode) < old)
		truncate_pagecache(inode, i_size_read(inode));
	if (!fc->explicit_inval_data)
		set_bit(FUSE_I_PASSTHROUGH_STALE, &get_fuse_inode(inode)->state);
}

static void update_mtime(struct inode *inode, const struct kstat *stat)
{
	struct fuse_conn *fc = get_fuse_conn(inode);
	struct fuse_inode *fi = get_fuse_inode(inode);
	struct timespec64 mtime = inode_get_mtime(inode);

	if (timespec64_equal(&mtime, &stat->mtime))
		return;

	spin_lock(&fi->lock);
	inode_set_mtime_to_ts(inode, stat->mtime);
	spin_unlock(&fi->lock);
	if (S_ISREG(inode->i_mode) && fc->auto_inval_data &&
	    !fc->writeback_cache)
		set_bit(FUSE_I_PASSTHROUGH_STALE, &fi->state);
}

/*
 * A cached writer without the write-back cache holds the inode lock until the
 * server has the data of its unlocked page, see drop_pages() in cache.c.  If
 * the lock is busy a later stat drops the pages.
 */
static void drop_stale(struct inode *inode)
{
	struct fuse_inode *fi = get_fuse_inode(inode);

	if (likely(!test_bit(FUSE_I_PASSTHROUGH_STALE, &fi->state)) ||
	    !inode_trylock_shared(inode))
		return;

	clear_bit(FUSE_I_PASSTHROUGH_STALE, &fi->state);
	if (READ_ONCE(inode->i_data.nrpages))
		invalidate_inode_pages2(inode->i_mapping);
	inode_unlock_shared(inode);
}

static int look(const struct fuse_lower_path *lp, struct kstat *stat, u32 mask,
		unsigned int flags)
{
	const struct cred *old;
	int err;

	old = fuse_lower_override(lp->creds->full);
	err = vfs_getattr(&lp->path, stat, mask | STATX_BASIC_STATS,
			  flags & AT_STATX_SYNC_TYPE);
	fuse_lower_revert(old);
	return err;
}

/**
 * fuse_lower_refresh_mode - stat the lower file to update mode and owner
 * @inode: a FUSE inode
 * @lp: its lower path
 *
 * Return: 0 or a negative errno of that stat
 */
int fuse_lower_refresh_mode(struct inode *inode,
			    const struct fuse_lower_path *lp)
{
	struct kstat stat;
	int err;

	err = look(lp, &stat, 0, 0);
	if (!err)
		fuse_lower_update_mode(inode, lp, d_inode(lp->path.dentry));
	return err;
}

static int getattr(struct inode *inode, const struct fuse_lower_path *lp,
		   struct kstat *stat, u32 mask, unsigned int flags)
{
	struct inode *lower = d_inode(lp->path.dentry);
	const struct fuse_conn *fc = get_fuse_conn(inode);
	int err;

	/* Dirty pages may extend the lower file. */
	if (S_ISREG(inode->i_mode) && fuse_lower_cached(inode)) {
		err = fuse_lower_flush(inode);
		if (err)
			return err;
	}

	err = look(lp, stat, mask, flags);
	if (err)
		return err;

	fuse_lower_update_mode(inode, lp, lower);
	update_mtime(inode, stat);
	if (S_ISREG(inode->i_mode)) {
		update_size(inode, lower);
		drop_stale(inode);
	}

	stat->dev = inode->i_sb->s_dev;
	stat->ino = get_fuse_inode(inode)->orig_ino;
	/* As in fuse_lower_same_mode() */
	if (!uid_eq(stat->uid, inode->i_uid))
		stat->uid = fuse_lower_show_uid(fc, stat->uid);
	if (!gid_eq(stat->gid, inode->i_gid))
		stat->gid = fuse_lower_show_gid(fc, stat->gid);
	return 0;
}

/*
 * Plain FUSE forgets ACLs with each request for attributes.  Test first, so
 * that a stat writes to no shared cache line.
 */
static void forget_acls(struct inode *inode)
{
	if (READ_ONCE(inode->i_acl) != ACL_NOT_CACHED ||
	    READ_ONCE(inode->i_default_acl) != ACL_NOT_CACHED)
		forget_all_cached_acls(inode);
}

/**
 * fuse_passthrough_getattr - get the attributes of an attached inode
 * @inode: a FUSE inode
 * @stat: result, or NULL if the caller needs only the FUSE inode updated
 * @mask: STATX_*
 * @flags: AT_STATX_*
 * @err: 0 or a negative errno
 *
 * An inode whose last link is gone is detached at once, unless it is open by
 * inode: it would pin the blocks of the lower file until its eviction.
 *
 * Context: may wait for the server to take dirty pages
 * Return: false if the request goes to the server
 */
bool fuse_passthrough_getattr(struct inode *inode, struct kstat *stat, u32 mask,
			      unsigned int flags, int *err)
{
	struct fuse_lower_path *lp;
	struct kstat own;

	lp = fuse_lower_path_get(inode, LOWER_OP(FUSE_GETATTR));
	if (!lp)
		return fuse_lower_path_lost(inode, err);

	if (!stat)
		stat = &own;
	forget_acls(inode);
	*err = getattr(inode, lp, stat, mask, flags);
	if (!*err && !stat->nlink && !atomic_read(&lp->opens))
		fuse_lower_path_detach(inode, lp);
	fuse_lower_path_put(lp);
	return true;
}

/**
 * fuse_passthrough_seek - seek by the size of an attached inode
 * @file: the client's file, with a lower file or without
 * @offset: the offset
 * @whence: SEEK_END; SEEK_DATA or SEEK_HOLE if the server has no LSEEK
 * @pos: the new position or a negative errno
 *
 * Uses the lower file's size.  The FUSE inode may have an older one: a caller
 * that holds the inode lock keeps update_size_locked() from updating it.
 *
 * Context: may wait for the server to take dirty pages
 * Return: false if the inode does not have GETATTR attached
 */
bool fuse_passthrough_seek(struct file *file, loff_t offset, int whence,
			   loff_t *pos)
{
	struct inode *inode = file_inode(file);
	struct kstat stat;
	int err;

	if (!fuse_passthrough_getattr(inode, &stat, STATX_SIZE, 0, &err))
		return false;

	*pos = err ?: generic_file_llseek_size(file, offset, whence,
					       inode->i_sb->s_maxbytes,
					       stat.size);
	return true;
}
