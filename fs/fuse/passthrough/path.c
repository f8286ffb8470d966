// SPDX-License-Identifier: GPL-2.0
/*
 * FUSE passthrough: the lower path of an inode.
 *
 * Until its sender has the answer, a request owns it, with the struct file that the
 * server passed: a request may be freed where path_put() must not be called.  The
 * sender makes the path of the file and gives it to the inode, which owns it until
 * it is evicted or the path is detached.  A struct file is not kept: write denial,
 * leases and read-only remounts of the lower file system stay as they are.
 *
 * fc->lower_lock guards the pointer in the inode and the connection's list; fi->lock
 * nests inside, and is held while a path comes, so that an answer with attributes
 * is either before that or ignored.  Who uses a path takes a reference under RCU.
 * What can do without looks at it under RCU: the dentry, its inode and the mount
 * are valid for a grace period, but d_inode_rcu() may be NULL.
 */

#include "../fuse_i.h"
#include "passthrough_i.h"

#include <linux/file.h>
#include <linux/path.h>
#include <linux/posix_acl.h>
#include <trace/events/fuse_passthrough.h>

/*
 * What an inode has whose lower path went with the connection.  It serves nothing,
 * and is never referred to otherwise.
 */
static struct fuse_lower_path lost;

/**
 * fuse_lower_path_new - make what a request is to own
 * @fc: the connection
 * @file: the server's file, whose reference it takes over if it is made
 * @in: what the server asked for
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
 * fuse_lower_path_settle - keep the path of the server's file, not the file
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
 * Context: any while a request owns it, else one that may sleep
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
 * Return: a reference, or NULL if the operation goes to the server
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
 * @err: -ENOTCONN if so, else left alone
 *
 * Nothing that it has left may be told to anybody, not even as cached.
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
 * @lp: the caller's only reference, which goes to the inode
 *
 * Context: may sleep
 * Return: 0; -EBUSY if the inode has one; -EINVAL if it is of another type; -EIO for
 * a bad inode; -ENOTCONN after an abort.  After an error @lp is still the caller's.
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
			/* From here on nothing local is the newest. */
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

/* With fc->lower_lock, which keeps the inode from going away. */
static void detach(struct fuse_conn *fc, struct fuse_lower_path *lp)
{
	struct fuse_inode *fi = get_fuse_inode(lp->inode);

	spin_lock(&fi->lock);
	rcu_assign_pointer(fi->lower_path,
			   READ_ONCE(fc->connected) ? NULL : &lost);
	/* What the server has said meanwhile was not listened to. */
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
 * fuse_lower_path_detach - take the lower path of an inode
 * @inode: a FUSE inode, which may be about to be freed
 * @only: detach nothing but this, or NULL for whatever it has
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
 * fuse_lower_path_detach_all - take the lower paths of all inodes, one by one
 * @fc: their connection
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
 * fuse_passthrough_take_path - move an attached lower path to a request's sender
 * @req: the finished request
 * @err: what it ended with; after an error the lower path is released here
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
 * fuse_passthrough_attach_inode - give an inode what came with an answer about it
 * @inode: the FUSE inode, or NULL if the answer leads to none
 * @lp: the lower path, or NULL; dropped if the inode has one or is of another type
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
 * @fi: the inode, whose memory may have been another's
 */
void fuse_passthrough_init_inode(struct fuse_inode *fi)
{
	RCU_INIT_POINTER(fi->lower_path, NULL);
}

/**
 * fuse_passthrough_evict - release the lower path of an inode that goes away
 * @inode: the FUSE inode
 */
void fuse_passthrough_evict(struct inode *inode)
{
	if (rcu_access_pointer(get_fuse_inode(inode)->lower_path))
		fuse_lower_path_detach(inode, NULL);
}

/**
 * fuse_passthrough_abort - a connection has been aborted
 * @fc: the connection, no longer connected: nothing can be attached after this
 *
 * Context: may sleep
 */
void fuse_passthrough_abort(struct fuse_conn *fc)
{
	fuse_lower_path_detach_all(fc);
}
