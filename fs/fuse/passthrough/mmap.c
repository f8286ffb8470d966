// SPDX-License-Identifier: GPL-2.0
/*
 * FUSE passthrough: mappings of the lower file.
 */

#include "../fuse_i.h"
#include "passthrough_i.h"

#include <linux/mman.h>
#include <linux/moduleparam.h>
#include <linux/pagemap.h>

static bool passthrough_mprotect_exec __read_mostly = true;
module_param(passthrough_mprotect_exec, bool, 0644);
MODULE_PARM_DESC(passthrough_mprotect_exec,
		 "Let mprotect() make passthrough mappings executable");

/* Checks of do_mmap(), repeated on the lower inode */
static int may_mmap(const struct file *file, const struct file *lower,
		    const struct vm_area_struct *vma)
{
	struct inode *inode = file_inode(lower);

	if (!lower->f_op->mmap)
		return -ENODEV;
	if (!(vma->vm_flags & VM_MAYSHARE))
		return 0;
	if (IS_APPEND(inode) && (file->f_mode & FMODE_WRITE))
		return -EACCES;
	if (IS_SWAPFILE(inode) && (vma->vm_flags & VM_WRITE))
		return -ETXTBSY;
	return 0;
}

/*
 * The caller holds the mmap lock: wait for the server only within the mapping.
 * WRITEs of later pages are queued too, so that few are left if the mapping
 * grows.  Queueing waits for no reply: the pages are copied, and the limit of
 * background requests does not apply.
 */
static int clean_mapping(struct inode *inode, const struct file *lower,
			 const struct vm_area_struct *vma)
{
	loff_t start = (loff_t)vma->vm_pgoff << PAGE_SHIFT;
	loff_t end = start + (vma->vm_end - vma->vm_start) - 1;
	int err;

	err = filemap_fdatawrite(inode->i_mapping);
	if (err)
		return err;

	/* Dirty pages further on may extend the lower file. */
	if (end >= i_size_read(file_inode(lower)))
		end = LLONG_MAX;
	return fuse_lower_wait(inode, start, end);
}

/*
 * An LSM that checks vm_file has checked the FUSE file at mmap(), but checks
 * the lower file at mprotect().  The client may have other rights there.
 */
static void limit_mprotect(struct vm_area_struct *vma)
{
	if (!READ_ONCE(passthrough_mprotect_exec) && !(vma->vm_flags & VM_EXEC))
		vm_flags_clear(vma, VM_MAYEXEC);
}

/**
 * fuse_lower_mmap - mmap of a passthrough open
 * @file: the client's file
 * @vma: the mapping; it becomes a mapping of the lower file, and pins the lower
 *	file instead of @file
 *
 * Context: the mmap lock is held; may wait for the server, see clean_mapping()
 * Return: 0 or a negative errno
 */
int fuse_lower_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct fuse_file *ff = file->private_data;
	struct file *lower = ff->passthrough.lower;
	struct inode *inode = file_inode(file);
	const struct cred *old;
	int err;

	if (fuse_is_bad(inode))
		return -EIO;

	err = may_mmap(file, lower, vma);
	if (err)
		return err;

	if ((vma->vm_flags & (VM_SHARED | VM_MAYWRITE)) ==
	    (VM_SHARED | VM_MAYWRITE))
		fuse_lower_set_mapped(inode);

	if (fuse_lower_cached(inode)) {
		err = clean_mapping(inode, lower, vma);
		if (err)
			return err;
	}

	limit_mprotect(vma);
	vma_set_file(vma, lower);
	old = fuse_lower_override(ff->passthrough.creds->full);
	err = fuse_lower_may_map(vma, lower, file);
	if (!err)
		err = call_mmap(lower, vma);
	fuse_lower_revert(old);
	fuse_lower_accessed(inode);

	return err;
}
