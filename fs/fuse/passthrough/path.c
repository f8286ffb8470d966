// SPDX-License-Identifier: GPL-2.0
/*
 * FUSE passthrough: the lower path of an inode.
 *
 * Until its sender has the reply, a request owns the lower path, in the form of
 * the struct file that the server passed: a request may be freed in a context
 * where path_put() must not be called.  The sender replaces the file by its
 * path and installs that on the inode, which owns it until the path is detached
 * or the inode evicted.  An inode keeps no struct file: it would affect write
 * denial, leases and read-only remounts of the lower file system.
 *
 * fc->lower_lock guards the pointer in the inode and the connection's list.
 * fi->lock nests inside.  It is held while a path is installed, so that
 * attributes in a reply are either applied before, or ignored.  A user of a
 * path takes a reference under RCU.  Code that does not sleep may look at the
 * path under RCU without a reference: the dentry, its inode and the mount are
 * valid for a grace period, but d_inode_rcu() may be NULL.
 */

#include "../fuse_i.h"
#include "passthrough_i.h"

#include <linux/file.h>
#include <linux/path.h>
#include <linux/posix_acl.h>
#include <trace/events/fuse_passthrough.h>

/*
 * Replaces a lower path that was detached because the connection has ended.  It
 * serves no operation, and nobody takes a reference to it.
 */
static struct fuse_lower_path lost;

/**
 * fuse_lower_path_new - allocate a lower path for a request
 * @fc: the connection
 * @file: the server's file; on success the lower path owns the reference
 * @in: argument of the ioctl
 *
 * Return: one reference, or NULL if there is no memory
 */
struct fuse_lower_path *fuse_lower_path_new(struct fuse_conn *fc,
					    struct file *file,
					    const struct fuse_passthrough_inode *in)
{
	struct fuse_lower_path *lp;

	lp = kzalloc(sizeof(*lp), GFP_KERNEL_ACCOUNT);
	if (!lp)
		return NULL;

	lp->creds = fuse_lower_creds_current(fc);
	if (!lp->creds) {
		kfree(lp);
		return NULL;
	}
	lp->file = file;
	lp->ops = in->ops;
	lp->rdonly = in->flags & FUSE_PASSTHROUGH_RDONLY;
	refcount_set(&lp->count, 1);
	INIT_LIST_HEAD(&lp->entry);
	return lp;
}

/**
 * fuse_lower_path_settle - replace the server's file by its path
 * @lp: a lower path that has just been taken from its request
 *
 * Context: may sleep
 */
void fuse_lower_path_settle(struct fuse_lower_path *lp)
{
	if (!lp->file)
		return;

	lp->path = lp->file->f_path;
	path_get(&lp->path);
	fput(lp->file);
	lp->file = NULL;
}

/**
 * fuse_lower_path_put - drop a reference
 * @lp: a lower path, or NULL
 *
 * Context: any while a request owns it; later one that may sleep
 */
void fuse_lower_path_put(struct fuse_lower_path *lp)
{
	if (!lp || !refcount_dec_and_test(&lp->count))
		return;

	if (lp->file) {
		fput(lp->file);
	} else {
		might_sleep();
		path_put(&lp->path);
	}
	fuse_lower_creds_put(lp->creds);
	kfree_rcu(lp, rcu);
}

/**
 * fuse_lower_path_get - find the lower path of an inode for an operation
 * @inode: a FUSE inode
 * @op: LOWER_OP() of the operation
 *
 * Return: a reference, or NULL if it does not serve the operation
 */
struct fuse_lower_path *fuse_lower_path_get(struct inode *inode, u64 op)
{
	struct fuse_inode *fi = get_fuse_inode(inode);
	struct fuse_lower_path *lp;

	if (likely(!rcu_access_pointer(fi->lower_path)))
		return NULL;

	rcu_read_lock();
	lp = rcu_dereference(fi->lower_path);
	if (lp && (!(lp->ops & op) || !refcount_inc_not_zero(&lp->count)))
		lp = NULL;
	rcu_read_unlock();

	return lp;
}

/**
 * fuse_lower_path_serves - does an operation go to the lower path of an inode?
 * @inode: a FUSE inode
 * @op: LOWER_OP() of the operation
 */
bool fuse_lower_path_serves(struct inode *inode, u64 op)
{
	struct fuse_lower_path *lp;
	bool serves;

	rcu_read_lock();
	lp = rcu_dereference(get_fuse_inode(inode)->lower_path);
	serves = lp && (lp->ops & op);
	rcu_read_unlock();
	return serves;
}

/**
 * fuse_lower_path_lost - has an inode lost its lower path with the connection?
 * @inode: a FUSE inode
 * @err: set to -ENOTCONN if so
 *
 * Cached attributes of such an inode must not be used: they may be stale.
 */
bool fuse_lower_path_lost(struct inode *inode, int *err)
{
	if (rcu_access_pointer(get_fuse_inode(inode)->lower_path) != &lost)
		return false;

	*err = -ENOTCONN;
	return true;
}

/**
 * fuse_lower_path_install - give a lower path to an inode
 * @inode: a FUSE inode that the caller has a reference to
 * @lp: a lower path with one reference, which the inode takes over
 *
 * Context: may sleep
 * Return: 0; -EBUSY if the inode has a lower path; -EINVAL if the types differ;
 * -EIO for a bad inode; -ENOTCONN after an abort.  After an error the caller
 * still owns the reference.
 */
int fuse_lower_path_install(struct inode *inode, struct fuse_lower_path *lp)
{
	struct fuse_inode *fi = get_fuse_inode(inode);
	struct fuse_conn *fc = get_fuse_conn(inode);
	int err = 0;

	fuse_lower_path_settle(lp);
	if (inode_wrong_type(inode, d_inode(lp->path.dentry)->i_mode))
		return -EINVAL;

	spin_lock(&fc->lower_lock);
	spin_lock(&fi->lock);
	if (fuse_is_bad(inode)) {
		err = -EIO;
	} else if (!READ_ONCE(fc->connected)) {
		err = -ENOTCONN;
	} else if (rcu_access_pointer(fi->lower_path)) {
		err = -EBUSY;
	} else {
		lp->inode = inode;
		list_add(&lp->entry, &fc->lower_paths);
		WRITE_ONCE(fc->passthrough_inodes, fc->passthrough_inodes + 1);
		if (lp->ops & LOWER_OP(FUSE_GETATTR)) {
			/* Attributes in the FUSE inode may be stale now. */
			set_bit(FUSE_I_PASSTHROUGH_WRITTEN, &fi->state);
			fuse_invalidate_attr(inode);
		}
		trace_fuse_passthrough_attach(fc->dev, fi->nodeid,
					      d_inode(lp->path.dentry),
					      FUSE_LOWER_BY_INODE);
		rcu_assign_pointer(fi->lower_path, lp);
	}
	spin_unlock(&fi->lock);
	spin_unlock(&fc->lower_lock);

	if (!err)
		forget_all_cached_acls(inode);
	return err;
}

/*
 * With fc->lower_lock.  Eviction waits for it if it still finds @lp, and frees
 * the inode after a grace period.
 */
static void detach(struct fuse_conn *fc, struct fuse_lower_path *lp)
{
	struct fuse_inode *fi = get_fuse_inode(lp->inode);

	spin_lock(&fi->lock);
	rcu_assign_pointer(fi->lower_path,
			   READ_ONCE(fc->connected) ? NULL : &lost);
	/* The server's attributes were ignored: ask for current ones. */
	fi->attr_version = atomic64_inc_return(&fc->attr_version);
	fuse_invalidate_attr(lp->inode);
	spin_unlock(&fi->lock);

	list_del_init(&lp->entry);
	WRITE_ONCE(fc->passthrough_inodes, fc->passthrough_inodes - 1);
	trace_fuse_passthrough_release(fc->dev, fi->nodeid,
				       d_inode(lp->path.dentry),
				       FUSE_LOWER_BY_INODE);
}

/**
 * fuse_lower_path_detach - detach the lower path of an inode
 * @inode: a FUSE inode, which may be about to be freed
 * @only: the lower path to detach, or NULL for any
 *
 * Context: may sleep
 * Return: false if there was nothing to detach
 */
bool fuse_lower_path_detach(struct inode *inode,
			    const struct fuse_lower_path *only)
{
	struct fuse_inode *fi = get_fuse_inode(inode);
	struct fuse_conn *fc = get_fuse_conn(inode);
	struct fuse_lower_path *lp;

	spin_lock(&fc->lower_lock);
	lp = rcu_dereference_protected(fi->lower_path,
				       lockdep_is_held(&fc->lower_lock));
	if (lp == &lost || (only && lp != only))
		lp = NULL;
	if (lp)
		detach(fc, lp);
	spin_unlock(&fc->lower_lock);

	fuse_lower_path_put(lp);
	return lp;
}

/**
 * fuse_lower_path_detach_all - detach the lower paths of all inodes
 * @fc: the connection
 *
 * Context: may sleep
 * Return: false if there was nothing to detach
 */
bool fuse_lower_path_detach_all(struct fuse_conn *fc)
{
	struct fuse_lower_path *lp;
	bool any = false;

	do {
		spin_lock(&fc->lower_lock);
		lp = list_first_entry_or_null(&fc->lower_paths,
					      struct fuse_lower_path, entry);
		if (lp)
			detach(fc, lp);
		spin_unlock(&fc->lower_lock);

		any = any || lp;
		fuse_lower_path_put(lp);
		cond_resched();
	} while (lp);

	return any;
}

/**
 * fuse_passthrough_take_path - move a lower path from a request to its sender
 * @req: the finished request
 * @err: result of the request; after an error the lower path is released here
 *
 * Only the sender calls this, after the request has left its queue.
 *
 * Return: the lower path or NULL
 */
struct fuse_lower_path *fuse_passthrough_take_path(struct fuse_req *req, int err)
{
	struct fuse_lower_path *lp = req->lower_path;

	req->lower_path = NULL;
	if (!err)
		return lp;

	fuse_lower_path_put(lp);
	return NULL;
}

/**
 * fuse_passthrough_attach_inode - install the lower path of a request
 * @inode: the FUSE inode of the reply, or NULL if there is none
 * @lp: the lower path, or NULL; released if it cannot be installed
 *
 * Context: may sleep
 */
void fuse_passthrough_attach_inode(struct inode *inode,
				   struct fuse_lower_path *lp)
{
	int err;

	if (likely(!lp))
		return;

	err = inode ? fuse_lower_path_install(inode, lp) : -ENOENT;
	if (err)
		fuse_lower_path_put(lp);
}

/**
 * fuse_passthrough_init_inode - set up a new FUSE inode
 * @fi: the inode; its memory may be reused
 */
void fuse_passthrough_init_inode(struct fuse_inode *fi)
{
	RCU_INIT_POINTER(fi->lower_path, NULL);
}

/**
 * fuse_passthrough_evict - release the lower path of an evicted inode
 * @inode: the FUSE inode
 */
void fuse_passthrough_evict(struct inode *inode)
{
	if (rcu_access_pointer(get_fuse_inode(inode)->lower_path))
		fuse_lower_path_detach(inode, NULL);
}

/**
 * fuse_passthrough_abort - a connection has been aborted
 * @fc: the connection, no longer connected: no attach can follow
 *
 * Context: may sleep
 */
void fuse_passthrough_abort(struct fuse_conn *fc)
{
	fuse_lower_path_detach_all(fc);
}
