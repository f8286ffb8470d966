/* SPDX-License-Identifier: GPL-2.0 */
/*
 * FUSE passthrough: compatibility with Linux 6.1.  The engine uses the names of
 * newer kernels.  Names that this kernel lacks are defined here.
 */
#ifndef _FS_FUSE_PASSTHROUGH_KERNEL_H
#define _FS_FUSE_PASSTHROUGH_KERNEL_H

#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/lockdep.h>
#include <linux/mm.h>
#include <linux/mount.h>
#include <linux/path.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <linux/slab.h>
#include <linux/xattr.h>

/* 6.3: mounts have a struct mnt_idmap instead of a user namespace */
#define mnt_idmap	user_namespace
#define file_mnt_idmap	file_mnt_user_ns

static inline struct mnt_idmap *fuse_lower_idmap(const struct path *path)
{
	return mnt_user_ns(path->mnt);
}

/* This kernel has no idmapped mounts of FUSE. */
static inline bool fuse_lower_may_be_idmapped(const struct super_block *sb)
{
	return false;
}

/* 6.2: ACL functions take a dentry */
static inline struct posix_acl *fuse_lower_get_acl(const struct path *path,
						   int type)
{
	if (!IS_POSIXACL(d_inode(path->dentry)))
		return ERR_PTR(-EOPNOTSUPP);
	return get_acl(d_inode(path->dentry), type);
}

/*
 * overlayfs and 9p have ->get_acl, and set ACLs as extended attributes.  LSMs
 * are asked here as there.
 */
static inline int fuse_lower_set_acl_xattr(const struct path *path, int type,
					   const struct posix_acl *acl)
{
	const char *name = type == ACL_TYPE_ACCESS ? XATTR_NAME_POSIX_ACL_ACCESS :
						     XATTR_NAME_POSIX_ACL_DEFAULT;
	int size = acl ? posix_acl_xattr_size(acl->a_count) : 0;
	void *value;
	int err;

	if (!acl) {
		err = __vfs_removexattr_locked(mnt_user_ns(path->mnt),
					       path->dentry, name, NULL);
		return err == -ENODATA ? 0 : err;
	}

	value = kvmalloc(size, GFP_KERNEL);
	if (!value)
		return -ENOMEM;
	err = posix_acl_to_xattr(&init_user_ns, acl, value, size);
	if (err >= 0)
		err = __vfs_setxattr_locked(mnt_user_ns(path->mnt), path->dentry,
					    name, value, size, 0, NULL);
	kvfree(value);
	return err;
}

static inline int fuse_lower_set_acl(const struct path *path, int type,
				     struct posix_acl *acl)
{
	struct inode *inode = d_inode(path->dentry);

	if (IS_POSIXACL(inode) && inode->i_op->get_acl && !inode->i_op->set_acl)
		return fuse_lower_set_acl_xattr(path, type, acl);
	return set_posix_acl(mnt_user_ns(path->mnt), inode, type, acl);
}

/* 6.7: accessors of the times of an inode */
static inline struct timespec64 inode_get_mtime(const struct inode *inode)
{
	return inode->i_mtime;
}

static inline struct timespec64
inode_set_mtime_to_ts(struct inode *inode, struct timespec64 ts)
{
	return inode->i_mtime = ts;
}

static inline void vm_flags_clear(struct vm_area_struct *vma,
				  unsigned long flags)
{
	vma->vm_flags &= ~flags;
}

static inline int generic_error_remove_folio(struct address_space *mapping,
					     struct folio *folio)
{
	return generic_error_remove_page(mapping, &folio->page);
}

/* Until 6.5, generic_file_splice_read() called ->read_iter. */
#define copy_splice_read	generic_file_splice_read

/* Exported since 6.6.  The caller has limited @len to the room in @pipe. */
static inline ssize_t vfs_splice_read(struct file *in, loff_t *ppos,
				      struct pipe_inode_info *pipe,
				      size_t len, unsigned int flags)
{
	int err = rw_verify_area(READ, in, ppos, len);

	return err ?: in->f_op->splice_read(in, ppos, pipe, len, flags);
}

/* 6.10 dropped an argument; argument and field have the same @name */
#define fuse_lower_assign_str(name)	__assign_str(name, name)

/*
 * Buffered writes that need not block: a flag of the struct file here.
 * Return: true if @file needs the file operations that have the flag
 */
static inline bool fuse_lower_inherit_wasync(struct file *file,
					     const struct file *lower)
{
	file->f_mode |= lower->f_mode & FMODE_BUF_WASYNC;
	return false;
}

static inline void fuse_lower_set_wasync(struct file_operations *fops)
{
}

/* Open a lower file by @path; this kernel does not record @user. */
static inline struct file *fuse_lower_open(const struct file *user, int flags,
					   const struct path *path,
					   const struct cred *cred)
{
	return dentry_open(path, flags, cred);
}

/*
 * mnt_want_write() for a caller that holds locks: -EAGAIN instead of waiting
 * for a thaw.  The only exported way to write access to a mount includes that
 * wait.  While s_umount is held no freeze can begin, so mnt_want_write() takes
 * freeze protection a second time without waiting.  lockdep does not know this:
 * it is off during the call, and records a trylock afterwards.
 */
static inline int fuse_lower_try_want_write(struct vfsmount *mnt)
{
	struct super_block *sb = mnt->mnt_sb;
	int err = -EAGAIN;

	if (!down_read_trylock(&sb->s_umount))
		return -EAGAIN;
	if (sb->s_writers.frozen == SB_UNFROZEN && sb_start_write_trylock(sb)) {
		lockdep_off();
		err = mnt_want_write(mnt);
		lockdep_on();
		sb_end_write(sb);
		if (!err)
			__sb_writers_acquired(sb, SB_FREEZE_WRITE);
	}
	up_read(&sb->s_umount);
	return err;
}

/* LSMs have no hook for the mapping of a lower file. */
static inline int fuse_lower_may_map(struct vm_area_struct *vma,
				     struct file *lower, struct file *user)
{
	return 0;
}

/*
 * override_creds() takes a reference before 6.14.  Without a reference, a task
 * that oopses inside the lower call drops one that it does not hold, as on
 * 6.14.
 */
static inline const struct cred *fuse_lower_override(const struct cred *cred)
{
	/* This option checks that each override takes a reference. */
	if (IS_ENABLED(CONFIG_DEBUG_CREDENTIALS))
		return override_creds(cred);
	return rcu_replace_pointer(current->cred, cred, true);
}

/* @old: result of fuse_lower_override() */
static inline void fuse_lower_revert(const struct cred *old)
{
	if (IS_ENABLED(CONFIG_DEBUG_CREDENTIALS))
		revert_creds(old);
	else
		rcu_assign_pointer(current->cred, old);
}

#endif /* _FS_FUSE_PASSTHROUGH_KERNEL_H */
