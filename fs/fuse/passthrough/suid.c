// SPDX-License-Identifier: GPL-2.0
/*
 * FUSE passthrough: setuid and setgid bits fall at a write as they would if the
 * client wrote to the lower file itself.
 */

#include "../fuse_i.h"
#include "passthrough_i.h"

#include <linux/cred.h>

/**
 * fuse_lower_suid_cred - credentials of a write to a file with mode bits
 * @creds: credentials of the open
 * @lower: the lower file
 * @mode: its mode, with setuid or setgid
 *
 * With these credentials the lower file system drops the bits that it would
 * drop if the client wrote to the file.  It decides with its inode lock held: a
 * chmod() in between errs on the side of dropping.  For setgid without
 * group-exec it checks the groups of the writer.  If the server's groups give
 * another result than the client's, the write runs with groups that give the
 * client's result.  The server gains no group that it could not set itself.
 *
 * Context: the client's; may allocate
 * Return: a reference or -ENOMEM
 */
const struct cred *
fuse_lower_suid_cred(const struct fuse_lower_creds *creds, struct file *lower,
		     umode_t mode)
{
	struct mnt_idmap *idmap = file_mnt_idmap(lower);
	struct inode *inode = file_inode(lower);
	kgid_t gid = vfsgid_into_kgid(i_gid_into_vfsgid(idmap, inode));
	const struct cred *old;
	bool keep, in_group;
	struct cred *cred;

	if (capable(CAP_FSETID))
		return get_cred(creds->full);
	if ((mode & (S_ISGID | 0010)) != S_ISGID)
		return get_cred(creds->write);

	/* A chmod() may have removed the bit since. */
	keep = !(setattr_should_drop_suidgid(idmap, inode) & ATTR_KILL_SGID) &&
		(READ_ONCE(inode->i_mode) & S_ISGID);

	old = fuse_lower_override(creds->write);
	in_group = in_group_p(gid);
	if (keep && !in_group && (!kgid_has_mapping(current_user_ns(), gid) ||
				  !ns_capable_noaudit(current_user_ns(), CAP_SETGID)))
		keep = false;
	cred = keep && !in_group ? prepare_creds() : NULL;
	fuse_lower_revert(old);

	if (keep == in_group)
		return get_cred(creds->write);
	if (!keep)
		return fuse_lower_creds_outside(creds);
	if (!cred)
		return ERR_PTR(-ENOMEM);
	cred->fsgid = gid;
	return cred;
}

/*
 * Setuid and setgid bits of the FUSE inode that the client's write has to drop;
 * 0 if the lower inode has them all, since the lower write drops them.
 */
static umode_t own_bits(struct file *file, const struct file *lower)
{
	int kill = setattr_should_drop_suidgid(file_mnt_idmap(file),
					       file_inode(file));
	umode_t bits = 0;

	if (kill & ATTR_KILL_SUID)
		bits |= S_ISUID;
	if (kill & ATTR_KILL_SGID)
		bits |= S_ISGID;

	return bits & ~file_inode(lower)->i_mode ? bits : 0;
}

/**
 * fuse_lower_drop_own - drop mode bits that only the FUSE inode has
 * @file: the client's file
 * @kiocb: the lower file's iocb, of a write
 *
 * A server that keeps modes elsewhere needs a SETATTR before the write, even if
 * it drops bits in WRITE: it gets no WRITE.  The SETATTR has the new mode,
 * since FUSE would leave ATTR_KILL_* to the server.
 *
 * Context: takes the inode lock and waits for the server if bits have to be
 * dropped, unless @kiocb has IOCB_NOWAIT
 * Return: 0, -EAGAIN, or the server's error
 */
int fuse_lower_drop_own(struct file *file, const struct kiocb *kiocb)
{
	struct iattr attr = { .ia_valid = ATTR_MODE | ATTR_FORCE };
	struct inode *inode = file_inode(file);
	umode_t bits;
	int err;

	if (!own_bits(file, kiocb->ki_filp))
		return 0;
	if (kiocb->ki_flags & IOCB_NOWAIT)
		return -EAGAIN;

	inode_lock(inode);
	/* The SETATTR sets the whole mode, which may be stale here. */
	fuse_invalidate_attr_mask(inode, STATX_MODE);
	err = fuse_update_attributes(inode, file, STATX_MODE);
	bits = own_bits(file, kiocb->ki_filp);
	if (!err && bits) {
		attr.ia_mode = inode->i_mode & ~bits;
		err = notify_change(file_mnt_idmap(file), file_dentry(file),
				    &attr, NULL);
	}
	inode_unlock(inode);

	return err;
}
