/* SPDX-License-Identifier: GPL-2.0 */
/*
 * FUSE passthrough: compatibility with Linux 6.12.  The engine uses the names
 * of newer kernels.  Names that this kernel lacks are defined here.
 */
#ifndef _FS_FUSE_PASSTHROUGH_KERNEL_H
#define _FS_FUSE_PASSTHROUGH_KERNEL_H

#include <linux/backing-file.h>
#include <linux/cred.h>
#include <linux/filelock.h>
#include <linux/fs.h>
#include <linux/mount.h>
#include <linux/path.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <linux/security.h>

static inline struct posix_acl *fuse_lower_get_acl(const struct path *path,
						   int type)
{
	struct posix_acl *acl;

	acl = vfs_get_acl(mnt_idmap(path->mnt), path->dentry,
			  posix_acl_xattr_name(type));
	return acl == ERR_PTR(-ENODATA) ? NULL : acl;
}

static inline int fuse_lower_set_acl(const struct path *path, int type,
				     struct posix_acl *acl)
{
	return set_posix_acl(mnt_idmap(path->mnt), path->dentry, type, acl);
}

static inline struct mnt_idmap *fuse_lower_idmap(const struct path *path)
{
	return mnt_idmap(path->mnt);
}

/* True if the server negotiated FUSE_ALLOW_IDMAP */
static inline bool fuse_lower_may_be_idmapped(const struct super_block *sb)
{
	return !(sb->s_iflags & SB_I_NOIDMAP);
}

/* Argument and field have the same @name. */
#define fuse_lower_assign_str(name)	__assign_str(name)

/*
 * Buffered writes that need not block: a flag of the file operations.
 * Return: true if @file needs the file operations that have the flag
 */
static inline bool fuse_lower_inherit_wasync(struct file *file,
					     const struct file *lower)
{
	return lower->f_op->fop_flags & FOP_BUFFER_WASYNC;
}

static inline void fuse_lower_set_wasync(struct file_operations *fops)
{
	fops->fop_flags |= FOP_BUFFER_WASYNC;
}

/*
 * Open a lower file by @path.  The file records the path of @user, which its
 * mappings show, and has room for the state that an LSM keeps for @user.
 */
static inline struct file *fuse_lower_open(const struct file *user, int flags,
					   const struct path *path,
					   const struct cred *cred)
{
	return backing_file_open(user, flags, path, cred);
}

/*
 * mnt_want_write() for a caller that holds locks: -EAGAIN instead of waiting
 * for a thaw
 */
static inline int fuse_lower_try_want_write(struct vfsmount *mnt)
{
	struct super_block *sb = mnt->mnt_sb;
	int err;

	if (!sb_start_write_trylock(sb))
		return -EAGAIN;
	err = mnt_get_write_access(mnt);
	if (err)
		sb_end_write(sb);
	return err;
}

/*
 * Called with the credentials of the open.  The LSM accepts only files made by
 * fuse_lower_open(): other files are the server's own, and have no room for the
 * state of the LSM.
 */
static inline int fuse_lower_may_map(struct vm_area_struct *vma,
				     struct file *lower, struct file *user)
{
	if (!(lower->f_mode & FMODE_BACKING))
		return 0;
	return security_mmap_backing_file(vma, lower, user);
}

/*
 * override_creds() takes a reference before 6.14.  Without a reference, a task
 * that oopses inside the lower call drops one that it does not hold, as on
 * 6.14.
 */
static inline const struct cred *fuse_lower_override(const struct cred *cred)
{
	return rcu_replace_pointer(current->cred, cred, true);
}

/* @old: result of fuse_lower_override() */
static inline void fuse_lower_revert(const struct cred *old)
{
	rcu_assign_pointer(current->cred, old);
}

#endif /* _FS_FUSE_PASSTHROUGH_KERNEL_H */
