// SPDX-License-Identifier: GPL-2.0
/*
 * FUSE passthrough: the credentials that lower calls run under.
 *
 * These are the credentials of the server task that attached.  A call that
 * changes data runs without CAP_FSETID, so that a client gains no right to keep
 * setuid and setgid bits.  Request, backing id, lower path and struct fuse_file
 * each hold a reference to the pair.
 */

#include "../fuse_i.h"
#include "passthrough_i.h"

#include <linux/cred.h>
#include <linux/file.h>

/**
 * fuse_lower_creds_put - drop a reference
 * @creds: the pair, or NULL
 *
 * Context: any
 */
void fuse_lower_creds_put(struct fuse_lower_creds *creds)
{
	if (!creds || !refcount_dec_and_test(&creds->count))
		return;

	put_cred(creds->full);
	put_cred(creds->write);
	kfree_rcu(creds, rcu);
}

static struct fuse_lower_creds *make_creds(void)
{
	struct fuse_lower_creds *creds;
	struct cred *write = NULL;

	creds = kmalloc(sizeof(*creds), GFP_KERNEL_ACCOUNT);
	if (!creds)
		return NULL;

	if (cap_raised(current_cap(), CAP_FSETID)) {
		write = prepare_creds();
		if (!write) {
			kfree(creds);
			return NULL;
		}
		cap_lower(write->cap_effective, CAP_FSETID);
	}

	creds->full = get_current_cred();
	creds->write = write ?: get_cred(creds->full);
	refcount_set(&creds->count, 1);
	return creds;
}

/**
 * fuse_lower_creds_current - the pair for the calling task of a server
 * @fc: the server's connection
 *
 * A connection caches the last pair, because most servers always attach with
 * the same credentials.  A struct cred does not change, and the pair has a
 * reference to it: equal pointers mean equal credentials.
 *
 * Return: a reference, or NULL if there is no memory
 */
struct fuse_lower_creds *fuse_lower_creds_current(struct fuse_conn *fc)
{
	struct fuse_lower_creds *creds, *old;

	rcu_read_lock();
	creds = rcu_dereference(fc->lower_creds);
	if (creds && (creds->full != current_cred() ||
		      !refcount_inc_not_zero(&creds->count)))
		creds = NULL;
	rcu_read_unlock();
	if (creds)
		return creds;

	creds = make_creds();
	if (!creds)
		return NULL;

	fuse_lower_creds_get(creds);
	old = unrcu_pointer(xchg(&fc->lower_creds, RCU_INITIALIZER(creds)));
	fuse_lower_creds_put(old);
	return creds;
}

/**
 * fuse_lower_creds_outside - credentials that keep setgid as little as the client
 * @creds: the pair
 *
 * A lower file system that checks whether the caller is in the file's group, or
 * has CAP_FSETID, gets the client's groups and no such capability.
 *
 * Context: the client's credentials, which lack CAP_FSETID; may allocate
 * Return: a reference or -ENOMEM
 */
const struct cred *fuse_lower_creds_outside(const struct fuse_lower_creds *creds)
{
	const struct cred *old = fuse_lower_override(creds->write);
	struct cred *cred = prepare_creds();

	fuse_lower_revert(old);
	if (!cred)
		return ERR_PTR(-ENOMEM);

	cred->fsgid = current_fsgid();
	set_groups(cred, current_cred()->group_info);
	return cred;
}

/**
 * fuse_lower_drop - release a lower file and its credentials
 * @fp: both; cleared
 *
 * Context: any in which fput() may be called
 */
void fuse_lower_drop(struct fuse_passthrough *fp)
{
	fput(fp->lower);
	fuse_lower_creds_put(fp->creds);
	fp->lower = NULL;
	fp->creds = NULL;
}
