// SPDX-License-Identifier: GPL-2.0
/*
 * FUSE passthrough: opens by inode.  The kernel opens the lower path; the
 * server keeps no handle.
 */

#include "../fuse_i.h"
#include "passthrough_i.h"

#include <linux/fcntl.h>
#include <linux/file.h>
#include <linux/mount.h>
#include <trace/events/fuse_passthrough.h>

static bool writes(unsigned int flags)
{
	return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);
}

/*
 * The checks of open() or execve() on @path, with the server's credentials.
 * @may: FMODE_* of a file that the server has open there: no check needed
 */
static int may_open_lower(const struct path *path, unsigned int flags,
			  fmode_t may)
{
	struct mnt_idmap *idmap = fuse_lower_idmap(path);
	struct inode *lower = d_inode(path->dentry);
	int mask = MAY_OPEN, err;

	if (flags & __FMODE_EXEC) {
		if (path->mnt->mnt_flags & MNT_NOEXEC)
			return -EACCES;
		mask |= MAY_EXEC;
	} else if ((flags & O_ACCMODE) != O_WRONLY && !(may & FMODE_READ)) {
		mask |= MAY_READ;
	}
	if (writes(flags) && !(may & FMODE_WRITE))
		mask |= MAY_WRITE;
	if (flags & O_APPEND)
		mask |= MAY_APPEND;

	err = inode_permission(idmap, lower, mask);
	if (err)
		return err;
	if (IS_IMMUTABLE(lower) && writes(flags))
		return -EPERM;
	if (IS_APPEND(lower) && writes(flags) &&
	    (!(flags & O_APPEND) || (flags & O_TRUNC)))
		return -EPERM;
	if ((flags & O_NOATIME) && !inode_owner_or_capable(idmap, lower))
		return -EPERM;
	return 0;
}

/*
 * O_APPEND and O_DIRECT come from the client's file at each call, and O_TRUNC
 * comes as a SETATTR.
 */
static struct file *open_lower(struct fuse_conn *fc,
			       const struct fuse_lower_path *lp,
			       const struct file *user, unsigned int flags,
			       fmode_t may)
{
	enum fuse_lower_unfit unfit;
	const struct cred *old;
	struct file *lower;
	int err;

	old = fuse_lower_override(lp->creds->full);
	err = may_open_lower(&lp->path, flags, may);
	if (err)
		lower = ERR_PTR(err);
	else
		lower = fuse_lower_open(user, O_LARGEFILE |
					(flags & ~(O_CREAT | O_EXCL | O_NOCTTY |
						   O_TRUNC | O_APPEND |
						   O_DIRECT | __O_TMPFILE)),
					&lp->path, lp->creds->full);
	fuse_lower_revert(old);
	if (IS_ERR(lower) || S_ISDIR(file_inode(lower)->i_mode))
		return lower;

	unfit = fuse_lower_unfit(fc, lower, flags);
	if (!unfit)
		return lower;
	fput(lower);
	return ERR_PTR(fuse_lower_refuse(fc, fuse_lower_reasons[unfit], -EINVAL));
}

/* On success @ff owns the caller's reference to @lp. */
static int open_by_inode(struct fuse_file *ff, struct fuse_lower_path *lp,
			 const struct file *user, unsigned int flags,
			 fmode_t may)
{
	struct fuse_conn *fc = ff->fm->fc;
	struct file *lower = open_lower(fc, lp, user, flags, may);

	if (IS_ERR(lower))
		return PTR_ERR(lower);

	ff->passthrough.lower = lower;
	ff->passthrough.creds = fuse_lower_creds_get(lp->creds);
	ff->passthrough_by = FUSE_LOWER_BY_INODE;
	ff->lower_path = lp;
	ff->open_flags = FOPEN_KEEP_CACHE | FOPEN_NOFLUSH;
	ff->fh = 0;
	atomic_inc(&lp->opens);
	atomic_inc(&fc->passthrough_files);
	trace_fuse_passthrough_attach(fc->dev, ff->nodeid, file_inode(lower),
				      FUSE_LOWER_BY_INODE);
	return 0;
}

/* Repeat the VFS's check for exec: the lower mode may have changed since. */
static int may_still_exec(struct inode *inode, unsigned int flags)
{
	int err;

	/* If the inode was detached since, the VFS's check remains. */
	if (!(flags & __FMODE_EXEC) ||
	    !fuse_passthrough_permission(inode, MAY_EXEC | MAY_OPEN, &err))
		return 0;
	return err;
}

/**
 * fuse_passthrough_open - open an attached inode
 * @inode: a FUSE inode
 * @file: the client's file; its private_data is set
 * @err: 0 or a negative errno
 *
 * Return: false if the request goes to the server
 */
bool fuse_passthrough_open(struct inode *inode, struct file *file, int *err)
{
	struct fuse_lower_path *lp;
	struct fuse_file *ff;

	lp = fuse_lower_path_get(inode, LOWER_OP(S_ISDIR(inode->i_mode) ?
						 FUSE_OPENDIR : FUSE_OPEN));
	if (!lp)
		return fuse_lower_path_lost(inode, err);
	if (lp->rdonly && writes(file->f_flags)) {
		fuse_lower_path_put(lp);
		return false;
	}

	*err = -ENOMEM;
	ff = fuse_file_alloc(get_fuse_mount(inode), false);
	if (!ff)
		goto put_path;
	ff->nodeid = get_node_id(inode);
	*err = open_by_inode(ff, lp, file, file->f_flags, 0);
	if (*err)
		goto free_file;
	lp = NULL;
	*err = may_still_exec(inode, file->f_flags);
	if (*err)
		goto free_file;

	file->private_data = ff;
	if (S_ISREG(inode->i_mode))
		fuse_passthrough_finish_open(inode, file);
	return true;

free_file:
	fuse_file_free(ff);
put_path:
	fuse_lower_path_put(lp);
	return true;
}

/**
 * fuse_passthrough_created - open the lower path that came with CREATE
 * @ff: the open, not yet visible
 * @user: the client's file
 * @flags: its flags
 *
 * If OPEN was attached in CREATE, this open is by inode, and the server keeps
 * no handle.
 *
 * Return: 0, or a negative errno if the lower file does not open.  The caller
 * then releases @ff, without a RELEASE.
 */
int fuse_passthrough_created(struct fuse_file *ff, const struct file *user,
			     unsigned int flags)
{
	struct fuse_lower_path *lp = ff->lower_path;
	fmode_t may = 0;

	if (!lp || !(lp->ops & LOWER_OP(FUSE_OPEN)) || ff->passthrough.lower)
		return 0;
	/* The server has done the truncation. */
	flags &= ~O_TRUNC;
	if (lp->rdonly && writes(flags))
		return 0;

	/* A new file may be open although its mode does not permit that. */
	if (lp->file)
		may = lp->file->f_mode & (FMODE_READ | FMODE_WRITE);
	fuse_lower_path_settle(lp);
	fuse_file_unseen(ff);
	return open_by_inode(ff, lp, user, flags, may);
}
