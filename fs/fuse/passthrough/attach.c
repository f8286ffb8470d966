// SPDX-License-Identifier: GPL-2.0
/*
 * FUSE passthrough: attach by request, to an open that the server is about to
 * answer.
 */

#include "../fuse_i.h"
#include "passthrough_i.h"

#include <linux/file.h>
#include <trace/events/fuse_passthrough.h>

/* Flags of the client's open; they come first in all three requests. */
static u32 open_flags_of(const struct fuse_req *req)
{
	BUILD_BUG_ON(offsetof(struct fuse_open_in, flags));
	BUILD_BUG_ON(offsetof(struct fuse_create_in, flags));

	return *(const u32 *)req->args->in_args[0].value;
}

static bool is_open_request(const struct fuse_req *req)
{
	switch (req->in.h.opcode) {
	case FUSE_OPEN:
	case FUSE_CREATE:
	case FUSE_TMPFILE:
		return true;
	default:
		return false;
	}
}

/* fpq->lock is held: the opener still waits, and its arguments are valid. */
static long attach_to(struct fuse_conn *fc, struct fuse_req *req, void *arg)
{
	const struct fuse_passthrough *fp = arg;
	enum fuse_lower_unfit unfit;
	fmode_t mode;
	u32 flags;

	lockdep_assert_held(&fc->lock);

	if (!is_open_request(req))
		return fuse_lower_refuse(fc, "not an open request", -EINVAL);

	flags = open_flags_of(req);
	unfit = fuse_lower_unfit(fc, fp->lower, flags);
	if (unfit)
		return fuse_lower_refuse(fc, fuse_lower_reasons[unfit],
					 -EINVAL);

	mode = OPEN_FMODE(flags) & (FMODE_READ | FMODE_WRITE);
	if (mode & ~fp->lower->f_mode)
		return fuse_lower_refuse(fc, "access mode not covered",
					 -EACCES);
	if (req->passthrough.lower)
		return fuse_lower_refuse(fc, "already attached", -EBUSY);

	req->passthrough = *fp;
	trace_fuse_passthrough_attach(fc->dev, req->in.h.nodeid,
				      file_inode(fp->lower),
				      FUSE_LOWER_BY_REQUEST);
	return 0;
}

/**
 * fuse_lower_with_request - find a request that waits for its reply
 * @fc: the connection; any of its devices may be processing the request
 * @unique: id of the request
 * @fn: called for the request with fc->lock and fpq->lock
 * @arg: argument of @fn
 *
 * Return: what @fn returned, or -ENOENT
 */
long fuse_lower_with_request(struct fuse_conn *fc, u64 unique,
			     long (*fn)(struct fuse_conn *fc,
					struct fuse_req *req, void *arg),
			     void *arg)
{
	struct fuse_req *req = NULL;
	struct fuse_dev *fud;
	long err = -ENOENT;

	spin_lock(&fc->lock);
	list_for_each_entry(fud, &fc->devices, entry) {
		struct fuse_pqueue *fpq = &fud->pq;

		spin_lock(&fpq->lock);
		req = fpq->connected ? fuse_request_find(fpq, unique) : NULL;
		if (req)
			err = fn(fc, req, arg);
		spin_unlock(&fpq->lock);
		if (req)
			break;
	}
	spin_unlock(&fc->lock);

	if (!req)
		fuse_lower_refuse(fc, "no such request", err);
	return err;
}

/**
 * fuse_lower_attach - FUSE_DEV_IOC_PASSTHROUGH_OPEN
 * @fc: the connection
 * @arg: struct fuse_passthrough_out
 *
 * Return: 0 or a negative errno
 */
long fuse_lower_attach(struct fuse_conn *fc, void __user *arg)
{
	struct fuse_passthrough_out out;
	struct fuse_passthrough fp;
	long err;

	if (copy_from_user(&out, arg, sizeof(out)))
		return -EFAULT;

	/* V9's libfuse leaves @vec uninitialised, with @len 0. */
	if (out.len)
		return fuse_lower_refuse(fc, "unknown extension", -EINVAL);

	fp.lower = fget(out.fd);
	if (!fp.lower)
		return fuse_lower_refuse(fc, "bad descriptor", -EBADF);
	fp.creds = fuse_lower_creds_current(fc);

	if (fp.creds)
		err = fuse_lower_with_request(fc, out.unique, attach_to, &fp);
	else
		err = fuse_lower_refuse(fc, "no memory", -ENOMEM);
	if (err)
		fuse_lower_drop(&fp);
	return err;
}
