// SPDX-License-Identifier: GPL-2.0
/*
 * FUSE passthrough: stat of an attached inode is that of the lower file.
 */

#include "../fuse_i.h"
#include "passthrough_i.h"

#include <linux/pagemap.h>
#include <linux/posix_acl.h>

/**
 * fuse_lower_take_size - give a FUSE inode the size of its lower inode
 * @inode: the FUSE inode; its lock is held where there is a write-back cache
 * @lower: the lower inode
 *
 * Context: takes fi->lock
 * Return: false if it had that size; else fuse_lower_resized() is to come
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
 * Context: may wait for the server, whose WRITEs must not be held back
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
 * Writers of a write-back cache raise the size before the server has the data, with
 * the inode lock.  Who is told a size while such a writer is at work, or holds the
 * lock himself, finds it in the inode with his next stat.
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
 * A cached writer without the write-back cache has its data in an unlocked page
 * before the server has it, with the inode lock: then the next stat drops pages.
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
 * fuse_lower_refresh_mode - look at mode and owner of the lower file anew
 * @inode: a FUSE inode
 * @lp: its lower path
 *
 * Return: 0 or what the server would be told by stat()
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

	/* Dirty pages decide where the lower file ends. */
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

/* As plain FUSE does whenever it asks; a stat writes to no shared cache line. */
static void forget_acls(struct inode *inode)
{
	if (READ_ONCE(inode->i_acl) != ACL_NOT_CACHED ||
	    READ_ONCE(inode->i_default_acl) != ACL_NOT_CACHED)
		forget_all_cached_acls(inode);
}

/**
 * fuse_passthrough_getattr - get the attributes of an attached inode
 * @inode: a FUSE inode
 * @stat: result, or NULL if they are wanted in the inode only
 * @mask: STATX_*
 * @flags: AT_STATX_*
 * @err: 0 or a negative errno
 *
 * A file whose last name is gone is detached at once: it would keep the blocks of
 * the lower file until it is evicted.
 *
 * Context: may wait for the server to take dirty pages
 * Return: false if the server is to be asked
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
