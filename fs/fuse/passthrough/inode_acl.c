// SPDX-License-Identifier: GPL-2.0
/*
 * FUSE passthrough: ACLs of an attached inode are the lower inode's if the
 * server negotiated FUSE_POSIX_ACL.  They are not cached.
 */

#include "../fuse_i.h"
#include "passthrough_i.h"

#include <linux/fsnotify.h>
#include <linux/mount.h>
#include <linux/posix_acl.h>

/*
 * Copy @acl.  With @show, map the ids of the lower file system to those that
 * the lower mount and the FUSE file system show; without, map them back.
 */
static struct posix_acl *map_acl(const struct fuse_conn *fc,
				 const struct fuse_lower_path *lp,
				 struct posix_acl *acl, bool show)
{
	struct mnt_idmap *idmap = fuse_lower_idmap(&lp->path);
	struct user_namespace *ns = i_user_ns(d_inode(lp->path.dentry));
	struct posix_acl *copy = posix_acl_clone(acl, GFP_KERNEL);
	struct posix_acl_entry *pa, *pe;
	kuid_t uid;
	kgid_t gid;

	if (!copy)
		return ERR_PTR(-ENOMEM);

	FOREACH_ACL_ENTRY(pa, copy, pe) {
		if (pa->e_tag == ACL_USER && show) {
			uid = vfsuid_into_kuid(make_vfsuid(idmap, ns, pa->e_uid));
			pa->e_uid = fuse_lower_show_uid(fc, uid);
		} else if (pa->e_tag == ACL_USER) {
			pa->e_uid = from_vfsuid(idmap, ns,
						VFSUIDT_INIT(pa->e_uid));
		} else if (pa->e_tag == ACL_GROUP && show) {
			gid = vfsgid_into_kgid(make_vfsgid(idmap, ns, pa->e_gid));
			pa->e_gid = fuse_lower_show_gid(fc, gid);
		} else if (pa->e_tag == ACL_GROUP) {
			pa->e_gid = from_vfsgid(idmap, ns,
						VFSGIDT_INIT(pa->e_gid));
		}
	}
	return copy;
}

/* Can the server and the FUSE file system both name all ids of @acl? */
static bool ids_are_known(const struct fuse_conn *fc,
			  const struct fuse_lower_path *lp,
			  const struct posix_acl *acl)
{
	struct user_namespace *ns = lp->creds->full->user_ns;
	const struct posix_acl_entry *pa, *pe;

	FOREACH_ACL_ENTRY(pa, acl, pe) {
		if (pa->e_tag == ACL_USER &&
		    (!kuid_has_mapping(ns, pa->e_uid) ||
		     !kuid_has_mapping(fc->user_ns, pa->e_uid)))
			return false;
		if (pa->e_tag == ACL_GROUP &&
		    (!kgid_has_mapping(ns, pa->e_gid) ||
		     !kgid_has_mapping(fc->user_ns, pa->e_gid)))
			return false;
	}
	return true;
}

/**
 * fuse_passthrough_get_acl - get an ACL of an attached inode
 * @inode: a FUSE inode
 * @type: ACL_TYPE_*
 * @acl: a reference, NULL if there is none, or an error pointer
 *
 * Return: false if the request goes to the server
 */
bool fuse_passthrough_get_acl(struct inode *inode, int type,
			      struct posix_acl **acl)
{
	struct fuse_conn *fc = get_fuse_conn(inode);
	struct fuse_lower_path *lp;
	const struct cred *old;
	struct posix_acl *lower;
	int err;

	if (!fc->posix_acl)
		return false;
	lp = fuse_lower_path_get(inode, LOWER_OP(FUSE_GETXATTR));
	if (!lp) {
		if (!fuse_lower_path_lost(inode, &err))
			return false;
		*acl = ERR_PTR(err);
		return true;
	}

	old = fuse_lower_override(lp->creds->full);
	lower = fuse_lower_get_acl(&lp->path, type);
	fuse_lower_revert(old);
	*acl = lower;
	if (!IS_ERR_OR_NULL(lower)) {
		*acl = map_acl(fc, lp, lower, true);
		posix_acl_release(lower);
	}
	fuse_lower_path_put(lp);

	/* The caller caches the ACL only if its sentinel is still in place. */
	forget_all_cached_acls(inode);
	return true;
}

static int drop_sgid(const struct path *path, struct inode **delegated)
{
	struct mnt_idmap *idmap = fuse_lower_idmap(path);
	struct iattr attr = { .ia_valid = ATTR_KILL_SGID };

	return notify_change(idmap, path->dentry, &attr, delegated);
}

/* With the client's credentials: may the client keep setgid? */
static bool keeps_sgid(const struct path *path)
{
	struct mnt_idmap *idmap = fuse_lower_idmap(path);
	struct inode *lower = d_inode(path->dentry);

	return !(lower->i_mode & S_ISGID) ||
		vfsgid_in_group_p(i_gid_into_vfsgid(idmap, lower)) ||
		capable_wrt_inode_uidgid(idmap, lower, CAP_FSETID);
}

static int set_locked(const struct fuse_lower_path *lp, struct posix_acl *acl,
		      int type, struct inode **delegated)
{
	struct mnt_idmap *idmap = fuse_lower_idmap(&lp->path);
	struct inode *lower = d_inode(lp->path.dentry);
	const struct cred *old, *cred = NULL;
	int err;

	if (!inode_owner_or_capable(idmap, lower) ||
	    IS_IMMUTABLE(lower) || IS_APPEND(lower))
		return -EPERM;
	/* A local file system drops setgid when it sets the ACL. */
	if (acl && type == ACL_TYPE_ACCESS && !keeps_sgid(&lp->path)) {
		cred = fuse_lower_creds_outside(lp->creds);
		if (IS_ERR(cred))
			return PTR_ERR(cred);
	}

	old = fuse_lower_override(cred ?: lp->creds->full);
	err = inode_owner_or_capable(idmap, lower) ? 0 : -EPERM;
	if (!err)
		err = try_break_deleg(lower, delegated);
	if (!err)
		err = fuse_lower_set_acl(&lp->path, type, acl);
	if (!err)
		fsnotify_xattr(lp->path.dentry);
	/* NFS leaves the decision to its server, which may know the caller as root. */
	if (!err && cred && (lower->i_mode & S_ISGID))
		err = drop_sgid(&lp->path, delegated);
	fuse_lower_revert(old);
	put_cred(cred);
	return err;
}

/* With write access to the lower mount */
static int set(struct fuse_conn *fc, const struct fuse_lower_path *lp,
	       struct posix_acl *acl, int type)
{
	struct inode *lower = d_inode(lp->path.dentry);
	struct inode *delegated = NULL;
	struct posix_acl *mine = NULL;
	int err;

	if (acl) {
		if (!ids_are_known(fc, lp, acl))
			return -EPERM;
		mine = map_acl(fc, lp, acl, false);
		if (IS_ERR(mine))
			return PTR_ERR(mine);
	}

	do {
		inode_lock(lower);
		err = set_locked(lp, mine, type, &delegated);
		inode_unlock(lower);
		if (!delegated)
			break;
		err = break_deleg_wait(&delegated);
	} while (!err);

	posix_acl_release(mine);
	return err;
}

/**
 * fuse_passthrough_set_acl - set an ACL of an attached inode
 * @inode: a FUSE inode, its lock held
 * @acl: the ACL, or NULL to remove it
 * @type: ACL_TYPE_*
 * @err: 0 or a negative errno
 *
 * Return: false if the request goes to the server, as it does if the lower file
 * system is frozen
 */
bool fuse_passthrough_set_acl(struct inode *inode, struct posix_acl *acl,
			      int type, int *err)
{
	struct fuse_conn *fc = get_fuse_conn(inode);
	struct fuse_lower_path *lp;
	bool frozen;

	if (!fc->posix_acl)
		return false;
	lp = fuse_lower_path_get(inode, LOWER_OP(acl ? FUSE_SETXATTR :
						       FUSE_REMOVEXATTR));
	if (!lp)
		return fuse_lower_path_lost(inode, err);

	*err = fuse_lower_try_want_write(lp->path.mnt);
	frozen = *err == -EAGAIN;
	if (!*err) {
		*err = set(fc, lp, acl, type);
		mnt_drop_write(lp->path.mnt);
	}
	fuse_lower_update_mode(inode, lp, d_inode(lp->path.dentry));
	forget_all_cached_acls(inode);
	fuse_lower_path_put(lp);
	return !frozen;
}
