// SPDX-License-Identifier: GPL-2.0
/*
 * FUSE passthrough: extended attributes of an attached inode are the lower
 * file's.
 *
 * The VFS checks the client's rights first, except those that it leaves to the
 * file system.  A right that depends on ownership is checked again with the
 * lower inode's lock held, which excludes a chown().
 */

#include "../fuse_i.h"
#include "passthrough_i.h"

#include <linux/mount.h>
#include <linux/xattr.h>

/*
 * With FUSE_POSIX_ACL, ACLs go through fuse_passthrough_get_acl() and
 * fuse_passthrough_set_acl().  Rights to other names in "system." are known
 * only to the file system that has them: they go to the server.
 */
static bool is_servers(const char *name)
{
	return !strncmp(name, XATTR_SYSTEM_PREFIX, XATTR_SYSTEM_PREFIX_LEN);
}

/* With the lower inode's lock and the client's credentials */
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
 * The value contains a root uid.  The VFS passes it here in terms of the FUSE
 * file system's user namespace; vfs_setxattr() expects it in terms of that of
 * the credentials, here the server's.  Both must be the same.
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
	/*
	 * The client's right to these is a capability in the FUSE file
	 * system's user namespace.  The lower call checks the server's.
	 */
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
 * @name: name of the attribute, with its prefix
 * @value: its value, or NULL to remove it
 * @size: of @value
 * @flags: XATTR_CREATE, XATTR_REPLACE
 * @err: 0 or a negative errno
 *
 * Return: false if the request goes to the server, as it does if the lower file
 * system is frozen
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
 * chown(), truncate() and O_TRUNC ask whether there are file capabilities to
 * drop.  This must not cost a request if they go to the lower file.
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
 * @name: name of the attribute, with its prefix
 * @value: result
 * @size: size of @value; 0 to get only the size of the attribute
 * @ret: its size or a negative errno
 *
 * Return: false if the request goes to the server
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

/* The server may list names that the client must not see. */
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
 * @list: result
 * @size: size of @list; 0 to get only the size of the result
 * @ret: size of the result or a negative errno
 *
 * Return: false if the request goes to the server
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
	/* A list without them is no denial to be audited. */
	if (size && *ret > 0 &&
	    !ns_capable_noaudit(&init_user_ns, CAP_SYS_ADMIN))
		*ret = without_trusted(list, *ret);
	fuse_lower_path_put(lp);
	return true;
}
