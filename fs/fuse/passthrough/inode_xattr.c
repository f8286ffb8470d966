// SPDX-License-Identifier: GPL-2.0
/*
 * FUSE passthrough: extended attributes of an attached inode are the lower file's.
 *
 * The VFS checks the client's rights before it calls, but for what it leaves to the
 * file system: whoever's right is ownership of the inode is asked for it again with
 * the lower inode's lock held, where nobody can give the file away.
 */

#include "../fuse_i.h"
#include "passthrough_i.h"

#include <linux/mount.h>
#include <linux/xattr.h>

/*
 * ACLs come by fuse_passthrough_get_acl() and fuse_passthrough_set_acl().  The rights
 * to all else in "system." are known to the file system that has it.
 */
static bool is_servers(const char *name)
{
	return !strncmp(name, XATTR_SYSTEM_PREFIX, XATTR_SYSTEM_PREFIX_LEN);
}

/* With the lower inode's lock, by the client's credentials. */
static int may_set(const struct path *path, const char *name)
{
	struct mnt_idmap *idmap = fuse_lower_idmap(path);
	struct inode *lower = d_inode(path->dentry);

	if (!strcmp(name, XATTR_NAME_CAPS))
		return capable_wrt_inode_uidgid(idmap, lower, CAP_SETFCAP) ?
			0 : -EPERM;
	if (strncmp(name, XATTR_USER_PREFIX, XATTR_USER_PREFIX_LEN))
		return 0;
	if (S_ISDIR(lower->i_mode) && (lower->i_mode & S_ISVTX) &&
	    !inode_owner_or_capable(idmap, lower))
		return -EPERM;
	return generic_permission(idmap, lower, MAY_WRITE);
}

static int set_locked(const struct fuse_lower_path *lp, const char *name,
		      const void *value, size_t size, int flags,
		      struct inode **delegated)
{
	struct mnt_idmap *idmap = fuse_lower_idmap(&lp->path);
	struct dentry *dentry = lp->path.dentry;
	const struct cred *old;
	int err;

	err = may_set(&lp->path, name);
	if (err)
		return err;

	old = fuse_lower_override(lp->creds->full);
	if (value)
		err = __vfs_setxattr_locked(idmap, dentry, name, value, size,
					    flags, delegated);
	else
		err = __vfs_removexattr_locked(idmap, dentry, name, delegated);
	fuse_lower_revert(old);
	return err;
}

/*
 * The value names a root user, by the file system's user namespace as the VFS calls
 * us, by the caller's in vfs_setxattr(): both have to be the same.
 */
static int set_caps(struct inode *inode, const struct fuse_lower_path *lp,
		    const void *value, size_t size, int flags)
{
	struct mnt_idmap *idmap = fuse_lower_idmap(&lp->path);
	const struct cred *old;
	int err;

	if (lp->creds->full->user_ns != inode->i_sb->s_user_ns ||
	    !capable_wrt_inode_uidgid(idmap, d_inode(lp->path.dentry),
				      CAP_SETFCAP))
		return -EPERM;

	old = fuse_lower_override(lp->creds->full);
	err = vfs_setxattr(idmap, lp->path.dentry, XATTR_NAME_CAPS, value, size,
			   flags);
	fuse_lower_revert(old);
	return err;
}

static int set_other(const struct fuse_lower_path *lp, const char *name,
		     const void *value, size_t size, int flags)
{
	struct inode *lower = d_inode(lp->path.dentry);
	struct inode *delegated = NULL;
	int err;

	do {
		inode_lock(lower);
		err = set_locked(lp, name, value, size, flags, &delegated);
		inode_unlock(lower);
		if (!delegated)
			break;
		err = break_deleg_wait(&delegated);
	} while (!err);

	return err;
}

/* With write access to the lower mount; @value NULL: remove it */
static int set(struct inode *inode, const struct fuse_lower_path *lp,
	       const char *name, const void *value, size_t size, int flags)
{
	/* The right to these is a capability over the file system. */
	if (!strncmp(name, XATTR_SECURITY_PREFIX, XATTR_SECURITY_PREFIX_LEN) &&
	    lp->creds->full->user_ns != inode->i_sb->s_user_ns)
		return -EPERM;
	if (value && !strcmp(name, XATTR_NAME_CAPS))
		return set_caps(inode, lp, value, size, flags);
	return set_other(lp, name, value, size, flags);
}

/**
 * fuse_passthrough_setxattr - set or remove an attribute of an attached inode
 * @inode: a FUSE inode, its lock held
 * @name: of the attribute, with its prefix
 * @value: NULL to remove it
 * @size: of @value
 * @flags: XATTR_CREATE, XATTR_REPLACE
 * @err: 0 or a negative errno
 *
 * Return: false if the server is to be asked, or to wait for a thaw
 */
bool fuse_passthrough_setxattr(struct inode *inode, const char *name,
			       const void *value, size_t size, int flags,
			       int *err)
{
	struct fuse_lower_path *lp;
	bool ask;

	lp = fuse_lower_path_get(inode, LOWER_OP(value ? FUSE_SETXATTR :
							 FUSE_REMOVEXATTR));
	if (!lp)
		return fuse_lower_path_lost(inode, err);
	*err = is_servers(name) ? -EAGAIN :
				  fuse_lower_try_want_write(lp->path.mnt);
	ask = *err == -EAGAIN;
	if (!*err) {
		*err = set(inode, lp, name, value, size, flags);
		mnt_drop_write(lp->path.mnt);
	}
	fuse_lower_path_put(lp);
	return !ask;
}

/*
 * chown(), truncate() and O_TRUNC ask whether there are capabilities to be dropped.
 * Where they go to the lower file they are not to cost a request.
 */
static u64 ops_for(const char *name, size_t size)
{
	u64 ops = LOWER_OP(FUSE_GETXATTR);

	if (!size && !strcmp(name, XATTR_NAME_CAPS))
		ops |= LOWER_OP(FUSE_SETATTR) | LOWER_OP(FUSE_OPEN);
	return ops;
}

/**
 * fuse_passthrough_getxattr - get an attribute of an attached inode
 * @inode: a FUSE inode
 * @name: of the attribute, with its prefix
 * @value: the result
 * @size: of @value; 0 to ask how much there is
 * @ret: its size or a negative errno
 *
 * Return: false if the server is to be asked
 */
bool fuse_passthrough_getxattr(struct inode *inode, const char *name,
			       void *value, size_t size, ssize_t *ret)
{
	struct fuse_lower_path *lp;
	const struct cred *old;
	int err;

	lp = fuse_lower_path_get(inode, ops_for(name, size));
	if (!lp) {
		if (!fuse_lower_path_lost(inode, &err))
			return false;
		*ret = err;
		return true;
	}
	if (is_servers(name)) {
		fuse_lower_path_put(lp);
		return false;
	}

	old = fuse_lower_override(lp->creds->full);
	*ret = vfs_getxattr(fuse_lower_idmap(&lp->path), lp->path.dentry, name,
			    value, size);
	fuse_lower_revert(old);
	fuse_lower_path_put(lp);
	return true;
}

/* The server may list more than the client. */
static ssize_t without_trusted(char *list, ssize_t size)
{
	char *from = list, *to = list, *end = list + size;

	while (from < end) {
		size_t len = strlen(from) + 1;

		if (strncmp(from, XATTR_TRUSTED_PREFIX,
			    XATTR_TRUSTED_PREFIX_LEN)) {
			memmove(to, from, len);
			to += len;
		}
		from += len;
	}
	return to - list;
}

/**
 * fuse_passthrough_listxattr - list the attributes of an attached inode
 * @inode: a FUSE inode
 * @list: the result
 * @size: of @list; 0 to ask how much there is
 * @ret: its size or a negative errno
 *
 * Return: false if the server is to be asked
 */
bool fuse_passthrough_listxattr(struct inode *inode, char *list, size_t size,
				ssize_t *ret)
{
	struct fuse_lower_path *lp;
	const struct cred *old;
	int err;

	lp = fuse_lower_path_get(inode, LOWER_OP(FUSE_LISTXATTR));
	if (!lp) {
		if (!fuse_lower_path_lost(inode, &err))
			return false;
		*ret = err;
		return true;
	}

	old = fuse_lower_override(lp->creds->full);
	*ret = vfs_listxattr(lp->path.dentry, list, size);
	fuse_lower_revert(old);
	if (size && *ret > 0 && !capable(CAP_SYS_ADMIN))
		*ret = without_trusted(list, *ret);
	fuse_lower_path_put(lp);
	return true;
}
