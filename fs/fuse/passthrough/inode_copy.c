// SPDX-License-Identifier: GPL-2.0
/*
 * FUSE passthrough: copies and clones between two open lower files, if both
 * inodes have COPY_FILE_RANGE attached.
 */

#include "../fuse_i.h"
#include "passthrough_i.h"

#include <linux/file.h>

struct copy {
	struct file *in;
	struct file *out;
	loff_t pos_in;
	loff_t pos_out;
	size_t len;
	unsigned int flags;
};

static bool is_served(const struct file *file)
{
	const struct fuse_file *ff = file->private_data;

	return fuse_passthrough_serves(ff) &&
		fuse_lower_path_serves(file_inode(file),
				       LOWER_OP(FUSE_COPY_FILE_RANGE));
}

static int flush_both(const struct copy *c)
{
	struct inode *in = file_inode(c->in), *out = file_inode(c->out);
	int err = 0;

	if (fuse_lower_cached(in))
		err = fuse_lower_flush(in);
	if (!err && in != out && fuse_lower_cached(out))
		err = fuse_lower_flush(out);
	return err;
}

/* Prepare for a change of the destination's data. */
static int prepare(const struct copy *c)
{
	struct fuse_file *ff = c->out->private_data;
	struct kiocb kiocb = { .ki_filp = ff->passthrough.lower };
	struct inode *inode = file_inode(c->out);
	int err = 0;

	if (is_sxid(inode->i_mode))
		err = fuse_lower_drop_own(c->out, &kiocb);
	if (!err)
		err = flush_both(c);
	if (!err && (READ_ONCE(ff->passthrough_write) & LOWER_FIRST_WRITE))
		fuse_lower_begin_writing(inode, ff);
	return err;
}

/*
 * Runs with the destination's credentials.  No lock is held: the lower calls
 * wait for a thaw.
 */
static loff_t copy_below(const struct copy *c,
			 loff_t (*call)(const struct copy *lower))
{
	struct fuse_file *in = c->in->private_data, *out = c->out->private_data;
	struct copy lower = *c;
	const struct cred *old, *cred = NULL;
	struct inode *inode;
	umode_t mode;
	loff_t ret;

	lower.in = in->passthrough.lower;
	lower.out = out->passthrough.lower;
	inode = file_inode(lower.out);
	mode = READ_ONCE(inode->i_mode);
	if (is_sxid(mode)) {
		cred = fuse_lower_suid_cred(out->passthrough.creds, lower.out,
					    mode);
		if (IS_ERR(cred))
			return PTR_ERR(cred);
	}

	old = fuse_lower_override(cred ?: out->passthrough.creds->write);
	ret = call(&lower);
	fuse_lower_revert(old);
	if (cred) {
		put_cred(cred);
		fuse_lower_drop_mode(file_inode(c->out), inode,
				     mode & (S_ISUID | S_ISGID));
	}
	return ret;
}

static loff_t copy(const struct copy *c,
		   loff_t (*call)(const struct copy *lower))
{
	struct fuse_file *out = c->out->private_data;
	struct inode *inode = file_inode(c->out);
	loff_t ret;

	ret = prepare(c);
	if (ret)
		return ret;

	ret = copy_below(c, call);
	fuse_lower_touch(inode);
	if (ret > 0)
		fuse_lower_end_write(inode, out->passthrough.lower, c->pos_out,
				     c->pos_out + ret, LOWER_UNLOCKED);
	fuse_lower_accessed(file_inode(c->in));
	return ret;
}

static loff_t do_copy(const struct copy *lower)
{
	return vfs_copy_file_range(lower->in, lower->pos_in, lower->out,
				   lower->pos_out, lower->len, lower->flags);
}

static loff_t do_clone(const struct copy *lower)
{
	return vfs_clone_file_range(lower->in, lower->pos_in, lower->out,
				    lower->pos_out, lower->len, lower->flags);
}

/**
 * fuse_passthrough_copy - copy_file_range() between open files
 * @in: the client's source
 * @pos_in: position in @in
 * @out: the client's destination
 * @pos_out: position in @out
 * @len: bytes
 * @ret: bytes copied, or a negative errno
 *
 * Return: false if the request goes to the server
 */
bool fuse_passthrough_copy(struct file *in, loff_t pos_in, struct file *out,
			   loff_t pos_out, size_t len, ssize_t *ret)
{
	struct copy c = {
		.in = in, .out = out, .pos_in = pos_in, .pos_out = pos_out,
		.len = len,
	};

	if (file_inode(in)->i_sb != file_inode(out)->i_sb ||
	    !is_served(in) || !is_served(out))
		return false;

	*ret = copy(&c, do_copy);
	return true;
}

/**
 * fuse_lower_remap - ->remap_file_range
 * @in: the client's source
 * @pos_in: position in @in
 * @out: the client's destination
 * @pos_out: position in @out
 * @len: bytes; 0 for all up to the end of @in
 * @flags: REMAP_FILE_*
 *
 * FUSE has no such request: without lower files there are no clones.
 *
 * Return: bytes cloned, or a negative errno
 */
loff_t fuse_lower_remap(struct file *in, loff_t pos_in, struct file *out,
			loff_t pos_out, loff_t len, unsigned int flags)
{
	struct copy c = {
		.in = in, .out = out, .pos_in = pos_in, .pos_out = pos_out,
		.len = len, .flags = flags,
	};

	/* The errors of a file system without this operation */
	if (flags & ~REMAP_FILE_ADVISORY)
		return -EINVAL;
	if (out->f_op->remap_file_range != fuse_lower_remap ||
	    !is_served(in) || !is_served(out))
		return -EOPNOTSUPP;

	return copy(&c, do_clone);
}
