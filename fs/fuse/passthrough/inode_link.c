// SPDX-License-Identifier: GPL-2.0
/*
 * FUSE passthrough: the target of an attached symbolic link.
 */

#include "../fuse_i.h"
#include "passthrough_i.h"

#include <linux/delayed_call.h>
#include <linux/namei.h>
#include <linux/slab.h>

static const char *copy_link(const struct fuse_lower_path *lp)
{
	DEFINE_DELAYED_CALL(done);
	const struct cred *old;
	const char *link;
	char *copy;

	old = fuse_lower_override(lp->creds->full);
	link = vfs_get_link(lp->path.dentry, &done);
	fuse_lower_revert(old);
	if (IS_ERR(link))
		return link;

	copy = kstrdup(link, GFP_KERNEL_ACCOUNT);
	do_delayed_call(&done);
	return copy ?: ERR_PTR(-ENOMEM);
}

/**
 * fuse_passthrough_get_link - read an attached symbolic link
 * @dentry: NULL in RCU walk
 * @inode: the FUSE inode
 * @done: frees the copy that is returned
 *
 * Return: the target, or an error pointer; NULL if the request goes to the
 * server
 */
const char *fuse_passthrough_get_link(struct dentry *dentry,
				      struct inode *inode,
				      struct delayed_call *done)
{
	struct fuse_lower_path *lp;
	const char *link;
	int err;

	/* RCU walk cannot drop the last reference to the lower path. */
	if (!dentry && fuse_lower_path_serves(inode, LOWER_OP(FUSE_READLINK)))
		return ERR_PTR(-ECHILD);

	lp = dentry ? fuse_lower_path_get(inode, LOWER_OP(FUSE_READLINK)) : NULL;
	if (!lp)
		return fuse_lower_path_lost(inode, &err) ? ERR_PTR(err) : NULL;

	link = copy_link(lp);
	if (!IS_ERR(link))
		set_delayed_call(done, kfree_link, (void *)link);
	fuse_lower_path_put(lp);
	return link;
}
