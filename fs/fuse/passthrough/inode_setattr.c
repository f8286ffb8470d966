// SPDX-License-Identifier: GPL-2.0
/*
 * FUSE passthrough: SETATTR of an attached inode goes to the lower file.
 *
 * The client's rights and the mode bits to drop are decided by the lower inode
 * with its lock held, right before notify_change(): after an earlier check the
 * file may have got another owner.  notify_change() then checks the server's
 * rights, except those that truncate() and open() check; these are checked
 * here.
 */

#include "../fuse_i.h"
#include "passthrough_i.h"

#include <linux/mount.h>
#include <linux/posix_acl.h>

#define KILL_MODE	(ATTR_KILL_SUID | ATTR_KILL_SGID)

/* Changes that writes and truncations make: they do not require ownership. */
#define OF_DATA		(KILL_MODE | ATTR_KILL_PRIV | ATTR_SIZE | ATTR_MTIME | \
			 ATTR_CTIME)

/* With the lower inode's lock, by the client's credentials. */
static int may_change(const struct fuse_lower_path *lp, struct iattr *attr,
		      bool opened)
{
	struct mnt_idmap *idmap = fuse_lower_idmap(&lp->path);
	struct inode *lower = d_inode(lp->path.dentry);
	int err = 0;

	if (((attr->ia_valid & ATTR_TOUCH) &&
	     !inode_owner_or_capable(idmap, lower)) ||
	    ((attr->ia_valid & ATTR_SIZE) && !opened))
		err = generic_permission(idmap, lower, MAY_WRITE);

	return err ?: setattr_prepare(idmap, lp->path.dentry, attr);
}

/* A chown() that changes neither owner nor group still drops bits. */
static bool is_chown(unsigned int valid)
{
	return (valid & (ATTR_UID | ATTR_GID)) ||
		((valid & KILL_MODE) && !(valid & (ATTR_FORCE | ATTR_SIZE)));
}

/* Does a chown() drop bits of the lower inode?  Only the owner may do that. */
static bool takes_bits(const struct inode *lower, unsigned int valid,
		       unsigned int kill)
{
	return is_chown(valid) &&
		(((kill & ATTR_KILL_SUID) && (lower->i_mode & S_ISUID)) ||
		 ((kill & ATTR_KILL_SGID) && (lower->i_mode & S_ISGID)));
}

/* ATTR_KILL_*, with the lower inode's lock and the client's credentials */
static unsigned int bits_to_drop(const struct fuse_lower_path *lp,
				 unsigned int valid)
{
	struct mnt_idmap *idmap = fuse_lower_idmap(&lp->path);
	struct inode *lower = d_inode(lp->path.dentry);
	unsigned int kill = 0;

	if (S_ISDIR(lower->i_mode))
		return 0;
	if (is_chown(valid))
		kill = ATTR_KILL_SUID | ATTR_KILL_PRIV |
			setattr_should_drop_sgid(idmap, lower);
	if (valid & (ATTR_SIZE | KILL_MODE))
		kill |= setattr_should_drop_suidgid(idmap, lower);
	if (valid & ATTR_SIZE)
		kill |= ATTR_KILL_PRIV;
	return kill | (valid & ATTR_KILL_PRIV);
}

/* Can the server and the FUSE file system both name the new owner? */
static bool ids_are_known(const struct fuse_conn *fc,
			  const struct fuse_lower_path *lp,
			  const struct iattr *attr)
{
	struct user_namespace *ns = lp->creds->full->user_ns;

	if (attr->ia_valid & ATTR_UID) {
		kuid_t uid = vfsuid_into_kuid(attr->ia_vfsuid);

		if (!kuid_has_mapping(ns, uid) ||
		    !kuid_has_mapping(fc->user_ns, uid))
			return false;
	}
	if (attr->ia_valid & ATTR_GID) {
		kgid_t gid = vfsgid_into_kgid(attr->ia_vfsgid);

		if (!kgid_has_mapping(ns, gid) ||
		    !kgid_has_mapping(fc->user_ns, gid))
			return false;
	}
	return true;
}

/* Is this an ftruncate() of a lower file that is open for writing? */
static bool has_opened(const struct iattr *attr, const struct inode *lower)
{
	const struct fuse_file *ff;
	const struct file *file;

	if (!(attr->ia_valid & ATTR_FILE))
		return false;
	ff = attr->ia_file->private_data;
	file = ff->passthrough.lower;
	return file && file_inode(file) == lower && (file->f_mode & FMODE_WRITE);
}

/* Check that the server may truncate; gets write access to the lower inode. */
static int begin_truncate(const struct fuse_lower_path *lp,
			  const struct iattr *attr)
{
	struct inode *lower = d_inode(lp->path.dentry);
	const struct cred *old;
	int err = 0;

	old = fuse_lower_override(lp->creds->full);
	if (!has_opened(attr, lower))
		err = inode_permission(fuse_lower_idmap(&lp->path), lower,
				       MAY_WRITE);
	if (!err && IS_APPEND(lower))
		err = -EPERM;
	if (!err)
		err = get_write_access(lower);
	if (!err) {
		err = break_lease(lower, O_WRONLY);
		if (err)
			put_write_access(lower);
	}
	fuse_lower_revert(old);
	return err;
}

/*
 * With the server's credentials: force the change, as file_remove_privs() and
 * truncate() do.  This requires the right to write, which begin_truncate() has
 * checked for ATTR_SIZE.
 */
static int force(const struct fuse_lower_path *lp, unsigned int asked,
		 struct iattr *attr)
{
	attr->ia_valid |= ATTR_FORCE;
	if (asked & ATTR_SIZE)
		return 0;
	return inode_permission(fuse_lower_idmap(&lp->path),
				d_inode(lp->path.dentry), MAY_WRITE);
}

/* @asked: ia_valid from the VFS; @attr: the change of the lower file */
static int change_locked(const struct fuse_lower_path *lp, unsigned int asked,
			 struct iattr *attr, struct inode **delegated)
{
	struct inode *lower = d_inode(lp->path.dentry);
	const struct cred *old;
	unsigned int kill;
	int err;

	err = may_change(lp, attr, asked & (ATTR_FILE | ATTR_OPEN));
	if (err)
		return err;
	kill = bits_to_drop(lp, asked);
	if (takes_bits(lower, asked, kill) &&
	    !inode_owner_or_capable(fuse_lower_idmap(&lp->path), lower))
		return -EPERM;
	/* notify_change() takes a mode or bits to drop, never both. */
	if (attr->ia_valid & ATTR_MODE) {
		if (kill & ATTR_KILL_SUID)
			attr->ia_mode &= ~S_ISUID;
		if (kill & ATTR_KILL_SGID)
			attr->ia_mode &= ~S_ISGID;
		kill &= ~KILL_MODE;
	}
	attr->ia_valid |= kill;
	if (!attr->ia_valid)
		return 0;

	/*
	 * @attr has all bits to drop.  With the full credentials others stay,
	 * if the server may keep them.
	 */
	old = fuse_lower_override(lp->creds->full);
	if ((asked & (ATTR_SIZE | ATTR_FORCE)) && kill &&
	    !(attr->ia_valid & ~OF_DATA))
		err = force(lp, asked, attr);
	if (!err)
		err = notify_change(fuse_lower_idmap(&lp->path),
				    lp->path.dentry, attr, delegated);
	fuse_lower_revert(old);
	return err;
}

/* @attr: from the VFS */
static int change(const struct fuse_lower_path *lp, const struct iattr *attr)
{
	struct inode *lower = d_inode(lp->path.dentry);
	struct inode *delegated = NULL;
	struct iattr mine;
	int err;

	do {
		mine = *attr;
		mine.ia_valid &= ~(ATTR_FORCE | ATTR_OPEN | ATTR_FILE |
				   KILL_MODE | ATTR_KILL_PRIV);
		/* The VFS made this mode from one that may be stale. */
		if (attr->ia_valid & KILL_MODE)
			mine.ia_valid &= ~ATTR_MODE;

		inode_lock(lower);
		err = change_locked(lp, attr->ia_valid, &mine, &delegated);
		inode_unlock(lower);
		if (!delegated)
			break;
		err = break_deleg_wait(&delegated);
	} while (!err);

	return err;
}

static int change_lower(const struct fuse_lower_path *lp,
			const struct iattr *attr, bool *frozen)
{
	bool truncate = attr->ia_valid & ATTR_SIZE;
	int err;

	err = fuse_lower_try_want_write(lp->path.mnt);
	*frozen = err == -EAGAIN;
	if (err)
		return err;
	if (truncate)
		err = begin_truncate(lp, attr);
	if (!err) {
		err = change(lp, attr);
		if (truncate)
			put_write_access(d_inode(lp->path.dentry));
	}
	mnt_drop_write(lp->path.mnt);
	return err;
}

/*
 * Dirty pages are written back first: later they would undo the change.  No
 * WRITE is sent while the lower file is truncated.
 */
static int setattr(struct inode *inode, const struct fuse_lower_path *lp,
		   const struct iattr *attr, bool *frozen)
{
	struct inode *lower = d_inode(lp->path.dentry);
	bool truncate = attr->ia_valid & ATTR_SIZE;
	int err;

	if (!ids_are_known(get_fuse_conn(inode), lp, attr))
		return -EPERM;
	if (S_ISREG(inode->i_mode) && fuse_lower_cached(inode)) {
		err = fuse_lower_flush(inode);
		if (err)
			return err;
	}

	if (truncate)
		fuse_set_nowrite(inode);
	err = change_lower(lp, attr, frozen);
	if (truncate) {
		if (!err)
			fuse_lower_take_size(inode, lower);
		fuse_release_nowrite(inode);
		if (!err)
			fuse_lower_resized(inode);
	}

	fuse_lower_update_mode(inode, lp, lower);
	forget_all_cached_acls(inode);
	return err;
}

/* Get the lower path of an open with O_TRUNC, else that of the inode. */
static struct fuse_lower_path *path_for(struct inode *inode,
					const struct iattr *attr)
{
	struct fuse_file *ff;

	if (attr->ia_valid & ATTR_OPEN) {
		ff = attr->ia_file->private_data;
		if (ff->passthrough_by == FUSE_LOWER_BY_INODE) {
			refcount_inc(&ff->lower_path->count);
			return ff->lower_path;
		}
		/* The server has truncated the file in OPEN. */
		if (get_fuse_conn(inode)->atomic_o_trunc)
			return NULL;
	}
	return fuse_lower_path_get(inode, LOWER_OP(FUSE_SETATTR));
}

/**
 * fuse_passthrough_set_lower - change the attributes of an attached inode
 * @inode: a FUSE inode, its lock held
 * @attr: as for ->setattr
 * @err: 0 or a negative errno
 *
 * If the lower file system is frozen the request goes to the server, which
 * waits for the thaw, as without passthrough.  The freeze may wait for a lock
 * that the caller holds.
 *
 * Context: may wait for the server to take dirty pages
 * Return: false if the request goes to the server
 */
bool fuse_passthrough_set_lower(struct inode *inode, const struct iattr *attr,
				int *err)
{
	struct fuse_lower_path *lp;
	bool frozen = false;

	if (likely(!rcu_access_pointer(get_fuse_inode(inode)->lower_path) &&
		   !(attr->ia_valid & ATTR_OPEN)))
		return false;

	lp = path_for(inode, attr);
	if (!lp)
		return fuse_lower_path_lost(inode, err);
	*err = setattr(inode, lp, attr, &frozen);
	fuse_lower_path_put(lp);
	return !frozen;
}
