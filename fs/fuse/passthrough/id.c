// SPDX-License-Identifier: GPL-2.0
/*
 * FUSE passthrough: attach by backing id, with the ABI of Linux 6.9 and later.
 */

#include "../fuse_i.h"
#include "passthrough_i.h"

#include <linux/file.h>
#include <linux/xarray.h>
#include <trace/events/fuse_passthrough.h>

/* Flags that go with FOPEN_PASSTHROUGH, as in Linux 6.9 and later */
#define LOWER_ID_FLAGS \
	(FOPEN_PASSTHROUGH | FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES | \
	 FOPEN_NOFLUSH)

/**
 * struct fuse_lower_id - a lower file registered under a backing id
 * @file: the server's file; it may be O_PATH, since opens reopen its path
 * @creds: credentials of the registering task
 * @count: one for the id, one for each open that is being resolved
 * @rcu: for freeing, since lookups by id take no lock
 */
struct fuse_lower_id {
	struct file *file;
	struct fuse_lower_creds *creds;
	refcount_t count;
	struct rcu_head rcu;
};

static void put_id(struct fuse_lower_id *fb)
{
	if (!refcount_dec_and_test(&fb->count))
		return;

	fput(fb->file);
	fuse_lower_creds_put(fb->creds);
	kfree_rcu(fb, rcu);
}

static struct fuse_lower_id *get_id(struct fuse_conn *fc, u32 id)
{
	struct fuse_lower_id *fb;

	rcu_read_lock();
	fb = xa_load(&fc->backing, id);
	if (fb && !refcount_inc_not_zero(&fb->count))
		fb = NULL;
	rcu_read_unlock();

	return fb;
}

/* Ids pin files that no open descriptor accounts for: privileged only. */
static long may_use_ids(struct fuse_conn *fc)
{
	if (!capable(CAP_SYS_ADMIN))
		return fuse_lower_refuse(fc, "not privileged", -EPERM);
	return 0;
}

/* The errnos of Linux 6.9 and later */
static long errno_of(enum fuse_lower_unfit unfit)
{
	switch (unfit) {
	case FUSE_LOWER_DIRECTORY:
		return -EISDIR;
	case FUSE_LOWER_ON_FUSE:
	case FUSE_LOWER_TOO_DEEP:
		return -ELOOP;
	default:
		return -EINVAL;
	}
}

static long register_id(struct fuse_conn *fc, struct file *file)
{
	struct fuse_lower_id *fb;
	u32 id;
	int err;

	fb = kmalloc(sizeof(*fb), GFP_KERNEL_ACCOUNT);
	if (!fb)
		return -ENOMEM;

	fb->creds = fuse_lower_creds_current(fc);
	if (!fb->creds) {
		kfree(fb);
		return -ENOMEM;
	}
	fb->file = get_file(file);
	refcount_set(&fb->count, 1);

	err = xa_alloc_cyclic(&fc->backing, &id, fb, XA_LIMIT(1, INT_MAX),
			      &fc->backing_next, GFP_KERNEL_ACCOUNT);
	if (err < 0) {
		put_id(fb);
		return err == -EBUSY ? -ENOSPC : err;
	}
	return id;
}

/**
 * fuse_lower_id_open - FUSE_DEV_IOC_BACKING_OPEN
 * @fc: the connection
 * @arg: struct fuse_backing_map
 *
 * Return: an id, or a negative errno
 */
long fuse_lower_id_open(struct fuse_conn *fc, void __user *arg)
{
	enum fuse_lower_unfit unfit;
	struct fuse_backing_map map;
	struct file *file;
	long err;

	if (copy_from_user(&map, arg, sizeof(map)))
		return -EFAULT;

	err = may_use_ids(fc);
	if (err)
		return err;

	if (map.flags || map.padding)
		return fuse_lower_refuse(fc, "unknown flags", -EINVAL);

	file = fget_raw(map.fd);
	if (!file)
		return fuse_lower_refuse(fc, "bad descriptor", -EBADF);

	unfit = fuse_lower_unfit(fc, file, O_ACCMODE);
	if (unfit)
		err = fuse_lower_refuse(fc, fuse_lower_reasons[unfit],
					errno_of(unfit));
	else
		err = register_id(fc, file);
	fput(file);

	return err;
}

/**
 * fuse_lower_id_close - FUSE_DEV_IOC_BACKING_CLOSE
 * @fc: the connection
 * @arg: the id
 *
 * Return: 0 or a negative errno
 */
long fuse_lower_id_close(struct fuse_conn *fc, u32 __user *arg)
{
	struct fuse_lower_id *fb;
	long err;
	u32 id;

	if (get_user(id, arg))
		return -EFAULT;

	err = may_use_ids(fc);
	if (err)
		return err;

	if (!id || id > INT_MAX)
		return fuse_lower_refuse(fc, "bad backing id", -EINVAL);

	fb = xa_erase(&fc->backing, id);
	if (!fb)
		return fuse_lower_refuse(fc, "no such backing id", -ENOENT);
	put_id(fb);
	return 0;
}

/* The client gets the errno; the reason is in the tracepoint. */
static struct file *reopen(struct fuse_conn *fc, const struct fuse_lower_id *fb,
			   const struct file *user, unsigned int flags)
{
	enum fuse_lower_unfit unfit;
	const struct cred *old;
	struct file *file;
	unsigned int direct = flags & O_DIRECT;
	int err = -EIO;

	/* open(2) refuses this, dentry_open() does not. */
	if ((flags & O_ACCMODE) != O_RDONLY &&
	    IS_IMMUTABLE(d_inode(fb->file->f_path.dentry)))
		return ERR_PTR(fuse_lower_refuse(fc, "immutable", err));

	/*
	 * Each call has the client's O_APPEND and O_DIRECT.  A stacked file
	 * system of 6.1 would use the flags of its struct file instead.
	 */
	flags &= ~(O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_TMPFILE |
		   O_APPEND | O_DIRECT);
	old = fuse_lower_override(fb->creds->full);
	file = fuse_lower_open(user, flags | O_LARGEFILE, &fb->file->f_path,
			       fb->creds->full);
	fuse_lower_revert(old);
	if (IS_ERR(file)) {
		if (PTR_ERR(file) == -EROFS)
			err = -EROFS;
		return ERR_PTR(fuse_lower_refuse(fc,
					"lower file does not open", err));
	}

	unfit = fuse_lower_unfit(fc, file, flags | direct);
	if (unfit) {
		fput(file);
		if (unfit == FUSE_LOWER_NO_DIRECT)
			err = -EINVAL;
		return ERR_PTR(fuse_lower_refuse(fc,
					fuse_lower_reasons[unfit], err));
	}
	return file;
}

/**
 * fuse_passthrough_open_id - open the lower file of a backing id in a reply
 * @ff: the opener's file, open_flags and nodeid set, not yet visible
 * @user: the client's file, for kernels that record it in the lower file; see
 *	fuse_lower_open()
 * @out: the server's reply
 * @flags: the client's open flags
 *
 * Does nothing if the server has not negotiated passthrough, or has not set
 * FOPEN_PASSTHROUGH.
 *
 * Return: 0; -EBUSY if a lower file was also attached to the request; -EROFS if
 * the client opens for writing, but the lower file system is read-only; -EINVAL
 * if the client requests O_DIRECT, but the lower file does not support it; -EIO
 * for every other error, as in Linux 6.9 and later.  The reason is in the
 * tracepoint.  After an error the caller releases the open.
 */
int fuse_passthrough_open_id(struct fuse_file *ff, const struct file *user,
			     const struct fuse_open_out *out,
			     unsigned int flags)
{
	struct fuse_conn *fc = ff->fm->fc;
	struct fuse_lower_id *fb;
	struct file *lower;

	if (!fc->passthrough || !(ff->open_flags & FOPEN_PASSTHROUGH))
		return 0;

	if (ff->passthrough.lower)
		return fuse_lower_refuse(fc, "already attached", -EBUSY);
	if (ff->open_flags & ~LOWER_ID_FLAGS)
		return fuse_lower_refuse(fc, "flags do not go together", -EIO);

	fb = out->backing_id > 0 ? get_id(fc, out->backing_id) : NULL;
	if (!fb)
		return fuse_lower_refuse(fc, "no such backing id", -EIO);

	lower = reopen(fc, fb, user, flags);
	if (!IS_ERR(lower)) {
		ff->passthrough.lower = lower;
		ff->passthrough.creds = fuse_lower_creds_get(fb->creds);
		ff->passthrough_by = FUSE_LOWER_BY_ID;
		atomic_inc(&fc->passthrough_files);
		trace_fuse_passthrough_attach(fc->dev, ff->nodeid,
					      file_inode(lower), FUSE_LOWER_BY_ID);
	}
	put_id(fb);

	return PTR_ERR_OR_ZERO(lower);
}

/**
 * fuse_lower_init_ids - set up the backing ids of a new connection
 * @fc: the connection
 */
void fuse_lower_init_ids(struct fuse_conn *fc)
{
	xa_init_flags(&fc->backing, XA_FLAGS_ALLOC1);
	fc->backing_next = 1;
}

/**
 * fuse_lower_free_ids - drop all backing ids
 * @fc: a connection that is no longer in use
 *
 * Context: may sleep.
 */
void fuse_lower_free_ids(struct fuse_conn *fc)
{
	struct fuse_lower_id *fb;
	unsigned long id;

	xa_for_each(&fc->backing, id, fb) {
		put_id(fb);
		cond_resched();
	}
	xa_destroy(&fc->backing);
}
