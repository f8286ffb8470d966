// SPDX-License-Identifier: GPL-2.0
/*
 * FUSE passthrough: mode, owner and link count of an attached inode are the
 * lower inode's.
 *
 * The VFS reads them in the FUSE inode without a call.  They are copied there
 * with fi->lock held, from the lower inode as it is at that time: a later copy
 * is never older than an earlier one.
 */

#include "../fuse_i.h"
#include "passthrough_i.h"

/* Owner of the lower inode, as the FUSE file system shows it */
static kuid_t uid_of(const struct fuse_conn *fc,
		     const struct fuse_lower_path *lp, const struct inode *lower)
{
	vfsuid_t uid = i_uid_into_vfsuid(fuse_lower_idmap(&lp->path), lower);

	return fuse_lower_show_uid(fc, vfsuid_into_kuid(uid));
}

static kgid_t gid_of(const struct fuse_conn *fc,
		     const struct fuse_lower_path *lp, const struct inode *lower)
{
	vfsgid_t gid = i_gid_into_vfsgid(fuse_lower_idmap(&lp->path), lower);

	return fuse_lower_show_gid(fc, vfsgid_into_kgid(gid));
}

/* Without default_permissions the VFS must not enforce the sticky bit. */
static umode_t mode_of(const struct fuse_conn *fc, const struct inode *lower)
{
	umode_t mode = READ_ONCE(lower->i_mode);

	return fc->default_permissions ? mode : mode & ~S_ISVTX;
}

/* Compare owners with all id mappings. */
static noinline bool same_owner(struct inode *inode,
				const struct fuse_lower_path *lp,
				const struct inode *lower)
{
	const struct fuse_conn *fc = get_fuse_conn(inode);

	return uid_eq(inode->i_uid, uid_of(fc, lp, lower)) &&
		gid_eq(inode->i_gid, gid_of(fc, lp, lower));
}

/**
 * fuse_lower_same_mode - compare mode and owner with the lower inode's
 * @inode: the FUSE inode
 * @lp: its lower path
 * @lower: the lower inode
 *
 * The owner of the FUSE inode has a mapping or is invalid.  If the lower inode
 * has the same owner, and its mount is not idmapped, no mapping has to be looked
 * up.
 *
 * Return: true if they are equal
 */
bool fuse_lower_same_mode(struct inode *inode, const struct fuse_lower_path *lp,
			  const struct inode *lower)
{
	if (READ_ONCE(inode->i_mode) != mode_of(get_fuse_conn(inode), lower))
		return false;
	if (uid_eq(inode->i_uid, lower->i_uid) &&
	    gid_eq(inode->i_gid, lower->i_gid) &&
	    !is_idmapped_mnt(lp->path.mnt))
		return true;
	return same_owner(inode, lp, lower);
}

/* With fi->lock */
static void copy_mode(struct inode *inode, const struct fuse_lower_path *lp,
		      const struct inode *lower)
{
	const struct fuse_conn *fc = get_fuse_conn(inode);
	struct fuse_inode *fi = get_fuse_inode(inode);

	lockdep_assert_held(&fi->lock);

	fi->orig_i_mode = READ_ONCE(lower->i_mode);
	WRITE_ONCE(inode->i_mode, mode_of(fc, lower));
	inode->i_uid = uid_of(fc, lp, lower);
	inode->i_gid = gid_of(fc, lp, lower);
	set_nlink(inode, lower->i_nlink);
	/* A write may have to drop bits or capabilities of the lower file. */
	inode->i_flags &= ~S_NOSEC;
}

/**
 * fuse_lower_update_mode - copy mode, owner and link count to a FUSE inode
 * @inode: the FUSE inode
 * @lp: its lower path
 * @lower: the lower inode
 *
 * Context: takes fi->lock if anything differs
 */
void fuse_lower_update_mode(struct inode *inode,
			    const struct fuse_lower_path *lp,
			    const struct inode *lower)
{
	struct fuse_inode *fi = get_fuse_inode(inode);

	if (fuse_lower_same_mode(inode, lp, lower) &&
	    inode->i_nlink == lower->i_nlink && !IS_NOSEC(inode))
		return;

	spin_lock(&fi->lock);
	copy_mode(inode, lp, lower);
	spin_unlock(&fi->lock);
}

/**
 * fuse_passthrough_sync_mode - update mode and owner for checks by the VFS
 * @inode: a FUSE inode
 * @rcu: RCU walk: @inode may be about to be freed, and must not be changed
 *
 * Return: false if @inode would have to be changed
 */
bool fuse_passthrough_sync_mode(struct inode *inode, bool rcu)
{
	struct fuse_inode *fi = get_fuse_inode(inode);
	const struct fuse_lower_path *lp;
	const struct inode *lower;
	bool same = true;

	if (likely(!rcu_access_pointer(fi->lower_path)))
		return true;

	rcu_read_lock();
	lp = rcu_dereference(fi->lower_path);
	lower = lp && (lp->ops & LOWER_OP(FUSE_GETATTR)) ?
		d_inode_rcu(lp->path.dentry) : NULL;
	if (lower && rcu)
		same = fuse_lower_same_mode(inode, lp, lower);
	else if (lower)
		fuse_lower_update_mode(inode, lp, lower);
	rcu_read_unlock();

	return same;
}

/* With fi->lock: the result stays attached while the lock is held. */
static const struct fuse_lower_path *attached(struct fuse_inode *fi)
{
	const struct fuse_lower_path *lp;

	lp = rcu_dereference_protected(fi->lower_path,
				       lockdep_is_held(&fi->lock));
	return lp && (lp->ops & LOWER_OP(FUSE_GETATTR)) ? lp : NULL;
}

/**
 * fuse_lower_answered - ignore attributes in a reply about an attached inode
 * @inode: a FUSE inode, with fi->lock
 * @attr: attributes in the reply
 *
 * Only the inode number is taken from the reply.  The link count is copied from
 * the lower inode: nothing but the reply to LINK shows that it has changed.
 *
 * Return: false if the inode does not have GETATTR attached
 */
bool fuse_lower_answered(struct inode *inode, const struct fuse_attr *attr)
{
	struct fuse_inode *fi = get_fuse_inode(inode);
	const struct fuse_lower_path *lp = attached(fi);

	if (likely(!lp))
		return false;

	fi->orig_ino = attr->ino;
	copy_mode(inode, lp, d_inode(lp->path.dentry));
	return true;
}

/**
 * fuse_lower_replace_answer - put the lower file's attributes into a reply
 * @inode: a FUSE inode, with fi->lock
 * @attr: attributes in the reply to a SETATTR
 *
 * Return: false if the inode does not have GETATTR attached
 */
bool fuse_lower_replace_answer(struct inode *inode, struct fuse_attr *attr)
{
	const struct fuse_conn *fc = get_fuse_conn(inode);
	const struct fuse_lower_path *lp = attached(get_fuse_inode(inode));
	const struct inode *lower;

	if (likely(!lp))
		return false;

	lower = d_inode(lp->path.dentry);
	attr->mode = READ_ONCE(lower->i_mode);
	attr->nlink = lower->i_nlink;
	attr->uid = from_kuid(fc->user_ns, uid_of(fc, lp, lower));
	attr->gid = from_kgid(fc->user_ns, gid_of(fc, lp, lower));
	attr->size = i_size_read(lower);
	return true;
}
