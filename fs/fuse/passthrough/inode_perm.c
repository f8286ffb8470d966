// SPDX-License-Identifier: GPL-2.0
/*
 * FUSE passthrough: the client's rights to an attached inode are those to the
 * lower inode, by its mode, owner and ACL and the id mapping of the lower
 * mount.
 */

#include "../fuse_i.h"
#include "passthrough_i.h"

/*
 * Check without sleeping.  The FUSE inode must have the same mode and owner:
 * the VFS reads them there (setuid bits at exec, the owner in sticky
 * directories).
 */
static int try_check(struct inode *inode, const struct fuse_lower_path *lp,
		     int mask)
{
	const struct path *path = &lp->path;
	struct inode *lower = d_inode_rcu(path->dentry);
	int err;

	if (!lower || !fuse_lower_same_mode(inode, lp, lower))
		return -ECHILD;

	err = generic_permission(fuse_lower_idmap(path), lower,
				 mask | MAY_NOT_BLOCK);
	/* Attributes of a network file system may be stale. */
	return err == -EACCES ? -ECHILD : err;
}

/* The same after a stat of the lower file */
static int check(struct inode *inode, struct fuse_lower_path *lp, int mask)
{
	int err;

	err = fuse_lower_refresh_mode(inode, lp);
	if (err)
		return err;

	/* The VFS refuses this too, but before the owner was refreshed. */
	if ((mask & MAY_WRITE) &&
	    (!uid_valid(inode->i_uid) || !gid_valid(inode->i_gid)))
		return -EACCES;
	return generic_permission(fuse_lower_idmap(&lp->path),
				  d_inode(lp->path.dentry), mask);
}

/**
 * fuse_passthrough_permission - check access to an inode by its lower inode
 * @inode: a FUSE inode
 * @mask: MAY_*
 * @err: the result
 *
 * Return: false if the inode does not have GETATTR attached, or the server
 * checks permissions
 */
bool fuse_passthrough_permission(struct inode *inode, int mask, int *err)
{
	struct fuse_inode *fi = get_fuse_inode(inode);
	struct fuse_lower_path *lp;

	if (likely(!rcu_access_pointer(fi->lower_path)))
		return false;
	if (fuse_lower_path_lost(inode, err))
		return true;
	if (!get_fuse_conn(inode)->default_permissions)
		return false;

	rcu_read_lock();
	lp = rcu_dereference(fi->lower_path);
	if (lp && !(lp->ops & LOWER_OP(FUSE_GETATTR)))
		lp = NULL;
	if (lp)
		*err = try_check(inode, lp, mask);
	rcu_read_unlock();
	if (!lp)
		return false;
	if (*err != -ECHILD || (mask & MAY_NOT_BLOCK))
		return true;

	lp = fuse_lower_path_get(inode, LOWER_OP(FUSE_GETATTR));
	if (!lp)
		return fuse_lower_path_lost(inode, err);
	*err = check(inode, lp, mask);
	fuse_lower_path_put(lp);
	return true;
}
