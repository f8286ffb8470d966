// SPDX-License-Identifier: GPL-2.0
/*
 * FUSE passthrough: operations on an open that go to the lower file if the
 * inode has them attached, else to the server.
 */

#include "../fuse_i.h"
#include "passthrough_i.h"

#include <linux/falloc.h>
#include <linux/file.h>
#include <linux/fsnotify.h>

/**
 * fuse_passthrough_seen - has the server seen this open?
 * @ff: the open; only if so, its fh is valid
 */
bool fuse_passthrough_seen(const struct fuse_file *ff)
{
	return ff->passthrough_by != FUSE_LOWER_BY_INODE;
}

/**
 * fuse_lower_flush_file - ->flush
 * @file: the client's file
 * @id: owner of its locks
 *
 * Return: 0 or a negative errno
 */
int fuse_lower_flush_file(struct file *file, fl_owner_t id)
{
	struct fuse_file *ff = file->private_data;
	struct file *lower = ff->passthrough.lower;
	const struct cred *old;
	int err = 0;

	if (fuse_passthrough_seen(ff))
		return fuse_file_operations.flush(file, id);

	if (lower->f_op->flush) {
		old = fuse_lower_override(ff->passthrough.creds->full);
		err = lower->f_op->flush(lower, id);
		fuse_lower_revert(old);
	}
	return err;
}

/* Checks of vfs_fallocate(), repeated on the lower file */
static int may_fallocate(struct file *lower, int mode, loff_t offset, loff_t len)
{
	struct inode *inode = file_inode(lower);

	if (!(lower->f_mode & FMODE_WRITE))
		return -EBADF;
	if (IS_IMMUTABLE(inode) ||
	    ((mode & ~FALLOC_FL_KEEP_SIZE) && IS_APPEND(inode)))
		return -EPERM;
	if (IS_SWAPFILE(inode))
		return -ETXTBSY;
	if (offset + len > inode->i_sb->s_maxbytes)
		return -EFBIG;
	if (!lower->f_op->fallocate)
		return -EOPNOTSUPP;
	return rw_verify_area(WRITE, lower, &offset, len);
}

/* Freeze protection is only tried: the caller may hold the inode lock. */
static long try_fallocate(struct fuse_file *ff, int mode, loff_t offset,
			  loff_t len)
{
	struct file *lower = ff->passthrough.lower;
	struct super_block *sb = file_inode(lower)->i_sb;
	umode_t bits = READ_ONCE(file_inode(lower)->i_mode);
	const struct cred *old, *cred = NULL;
	long err;

	if (is_sxid(bits)) {
		cred = fuse_lower_suid_cred(ff->passthrough.creds, lower, bits);
		if (IS_ERR(cred))
			return PTR_ERR(cred);
	}

	old = fuse_lower_override(cred ?: ff->passthrough.creds->write);
	err = may_fallocate(lower, mode, offset, len);
	if (err)
		goto revert;
	err = LOWER_FROZEN;
	if (!sb_start_write_trylock(sb))
		goto revert;
	err = lower->f_op->fallocate(lower, mode, offset, len);
	if (!err)
		fsnotify_modify(lower);
	else if (err == LOWER_FROZEN)
		err = -EIO;
	sb_end_write(sb);
revert:
	fuse_lower_revert(old);
	put_cred(cred);
	return err;
}

/* Modes that move all data after the range */
static bool moves(int mode)
{
	return mode & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE);
}

static long fallocate_locked(struct file *file, int mode, loff_t offset,
			     loff_t len, enum fuse_lower_lock lock)
{
	struct fuse_file *ff = file->private_data;
	struct inode *inode = file_inode(file);
	struct file *lower = ff->passthrough.lower;
	umode_t had = file_inode(lower)->i_mode & (S_ISUID | S_ISGID);
	long err;

	if (fuse_lower_cached(inode)) {
		err = fuse_lower_flush(inode);
		if (err)
			return err;
	}
	if (ff->passthrough_write & LOWER_FIRST_WRITE)
		fuse_lower_begin_writing(inode, ff);

	err = try_fallocate(ff, mode, offset, len);
	if (had)
		fuse_lower_drop_mode(inode, file_inode(lower), had);
	fuse_lower_touch(inode);
	if (err != LOWER_FROZEN)
		fuse_lower_end_write(inode, lower, offset,
				     moves(mode) ? LLONG_MAX : offset + len,
				     lock);
	if (!err && moves(mode) && fuse_lower_take_size(inode, file_inode(lower)))
		fuse_lower_resized(inode);
	return err;
}

/**
 * fuse_lower_fallocate - ->fallocate
 * @file: the client's file
 * @mode: FALLOC_FL_*
 * @offset: first byte
 * @len: bytes
 *
 * Cached writers of a write-back cache are excluded: they would write back the
 * old contents of a page.
 *
 * Return: 0 or a negative errno
 */
long fuse_lower_fallocate(struct file *file, int mode, loff_t offset, loff_t len)
{
	struct fuse_file *ff = file->private_data;
	struct inode *inode = file_inode(file);
	struct kiocb kiocb = { .ki_filp = ff->passthrough.lower };
	enum fuse_lower_lock lock = LOWER_UNLOCKED;
	long err;

	if (!fuse_lower_path_serves(inode, LOWER_OP(FUSE_FALLOCATE)))
		return fuse_file_operations.fallocate(file, mode, offset, len);
	if (fuse_is_bad(inode))
		return -EIO;

	if (is_sxid(inode->i_mode)) {
		err = fuse_lower_drop_own(file, &kiocb);
		if (err)
			return err;
	}
	if (get_fuse_conn(inode)->writeback_cache || moves(mode))
		lock = LOWER_EXCLUSIVE;
	for (;;) {
		fuse_lower_lock(inode, lock);
		err = fallocate_locked(file, mode, offset, len, lock);
		fuse_lower_unlock(inode, lock);
		if (err != LOWER_FROZEN)
			return err;
		fuse_lower_wait_thaw(ff->passthrough.lower);
	}
}

/**
 * fuse_lower_llseek - ->llseek
 * @file: the client's file
 * @offset: the offset
 * @whence: SEEK_*
 *
 * Only SEEK_DATA and SEEK_HOLE go to the lower file.
 *
 * Return: the new position or a negative errno
 */
loff_t fuse_lower_llseek(struct file *file, loff_t offset, int whence)
{
	struct fuse_file *ff = file->private_data;
	struct inode *inode = file_inode(file);
	const struct cred *old;
	loff_t pos;
	int err;

	if ((whence != SEEK_DATA && whence != SEEK_HOLE) ||
	    !fuse_lower_path_serves(inode, LOWER_OP(FUSE_LSEEK)))
		return fuse_file_operations.llseek(file, offset, whence);

	if (fuse_lower_cached(inode)) {
		err = fuse_lower_flush(inode);
		if (err)
			return err;
	}
	old = fuse_lower_override(ff->passthrough.creds->full);
	pos = vfs_llseek(ff->passthrough.lower, offset, whence);
	fuse_lower_revert(old);

	return pos < 0 ? pos : vfs_setpos(file, pos, inode->i_sb->s_maxbytes);
}
