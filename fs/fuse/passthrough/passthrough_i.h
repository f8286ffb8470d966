/* SPDX-License-Identifier: GPL-2.0 */
/*
 * FUSE passthrough: declarations that its parts share.
 *
 * Layers, top down: ../passthrough.c; inode; inode_open; attach, id; file;
 * mmap, splice, inode_copy, inode_dir, inode_file; io; aio, write; suid;
 * inode_acl, inode_link, inode_perm, inode_setattr, inode_xattr; inode_attr;
 * cache; attr; inode_mode; path; cred, fit.  No call goes up a layer.
 */
#ifndef _FS_FUSE_PASSTHROUGH_I_H
#define _FS_FUSE_PASSTHROUGH_I_H

#include <linux/cred.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/list.h>
#include <linux/path.h>
#include <linux/refcount.h>
#include <linux/workqueue.h>

#include "kernel.h"

/* Client iocb flags that are passed to the lower file */
#define LOWER_READ_FLAGS \
	(IOCB_DIRECT | IOCB_DSYNC | IOCB_SYNC | IOCB_NOWAIT | IOCB_HIPRI)
#define LOWER_WRITE_FLAGS \
	(LOWER_READ_FLAGS | IOCB_APPEND | IOCB_WRITE)

/* Attributes that a passthrough write makes stale */
#define LOWER_STATX (FUSE_STATX_MODIFY | STATX_MODE)

/**
 * struct fuse_lower_creds - credentials of lower calls
 * @full: credentials of the server task that attached
 * @write: the same without CAP_FSETID, for calls that change data
 * @count: one for each request, open, backing id and lower path, one for the
 *	connection's cache
 * @rcu: for freeing, since readers of the cache take no lock
 */
struct fuse_lower_creds {
	const struct cred *full;
	const struct cred *write;
	refcount_t count;
	struct rcu_head rcu;
};

/* Bit of an operation in the ops of a struct fuse_lower_path */
#define LOWER_OP(opcode)	FUSE_PASSTHROUGH_OP(opcode)

/**
 * struct fuse_lower_path - lower path attached to an inode; see path.c
 * @path: the lower file, directory or symbolic link; valid if @file is NULL
 * @file: the server's file, while a request owns the lower path; then NULL
 * @creds: credentials of the server task that attached it, one reference
 * @ops: LOWER_OP() mask of the operations that it serves
 * @rdonly: opens that write or truncate go to the server all the same
 * @opens: number of opens by inode that have a reference
 * @inode: the FUSE inode that owns it, under fc->lower_lock
 * @entry: in fc->lower_paths, under fc->lower_lock
 * @count: one for the request, then the inode; one for each open by inode and
 *	each call that uses it
 * @rcu: for freeing, since RCU readers look at it without a reference
 */
struct fuse_lower_path {
	struct path path;
	struct file *file;
	struct fuse_lower_creds *creds;
	u64 ops;
	bool rdonly;
	atomic_t opens;
	struct inode *inode;
	struct list_head entry;
	refcount_t count;
	struct rcu_head rcu;
};

/* How a write holds the FUSE inode lock */
enum fuse_lower_lock {
	LOWER_UNLOCKED,
	LOWER_SHARED,
	LOWER_EXCLUSIVE,
};

/*
 * Result of a call that only tries to take lower freeze protection, if the
 * lower file system is frozen.  It is not an errno that is in use; a lower file
 * that returns it all the same fails with EIO.
 */
#define LOWER_FROZEN	(-MAX_ERRNO)

/* Why a file cannot be a lower file; 0: it can */
enum fuse_lower_unfit {
	FUSE_LOWER_DIRECTORY = 1,
	FUSE_LOWER_NOT_REGULAR,
	FUSE_LOWER_NO_READ,
	FUSE_LOWER_NO_WRITE,
	FUSE_LOWER_PSEUDO,
	FUSE_LOWER_ON_FUSE,
	FUSE_LOWER_TOO_DEEP,
	FUSE_LOWER_NO_DIRECT,
	FUSE_LOWER_NO_TYPE,
};

/* fit.c */
extern const char *const fuse_lower_reasons[];
long fuse_lower_refuse(struct fuse_conn *fc, const char *reason, int error);
enum fuse_lower_unfit fuse_lower_unfit(const struct fuse_conn *fc,
				       const struct file *lower,
				       unsigned int flags);
enum fuse_lower_unfit fuse_lower_unfit_inode(const struct fuse_conn *fc,
					     const struct file *lower);

/* cred.c */
void fuse_lower_creds_put(struct fuse_lower_creds *creds);
struct fuse_lower_creds *fuse_lower_creds_current(struct fuse_conn *fc);
const struct cred *fuse_lower_creds_outside(const struct fuse_lower_creds *creds);
void fuse_lower_drop(struct fuse_passthrough *fp);

/* path.c */
struct fuse_lower_path *fuse_lower_path_new(struct fuse_conn *fc,
					    struct file *file,
					    const struct fuse_passthrough_inode *in);
void fuse_lower_path_settle(struct fuse_lower_path *lp);
bool fuse_lower_path_serves(struct inode *inode, u64 op);
void fuse_lower_path_put(struct fuse_lower_path *lp);
struct fuse_lower_path *fuse_lower_path_get(struct inode *inode, u64 op);
bool fuse_lower_path_lost(struct inode *inode, int *err);
int fuse_lower_path_install(struct inode *inode, struct fuse_lower_path *lp);
bool fuse_lower_path_detach(struct inode *inode,
			    const struct fuse_lower_path *only);
bool fuse_lower_path_detach_all(struct fuse_conn *fc);

/* inode_mode.c */
bool fuse_lower_same_mode(struct inode *inode, const struct fuse_lower_path *lp,
			  const struct inode *lower);
void fuse_lower_update_mode(struct inode *inode,
			    const struct fuse_lower_path *lp,
			    const struct inode *lower);
bool fuse_lower_answered(struct inode *inode, const struct fuse_attr *attr);
bool fuse_lower_replace_answer(struct inode *inode, struct fuse_attr *attr);

/* attr.c */
void fuse_lower_first_touch(struct inode *inode);
void fuse_lower_begin_writing(struct inode *inode, struct fuse_file *ff);
void fuse_lower_set_mapped(struct inode *inode);
void fuse_lower_drop_mode(struct inode *inode,
			  const struct inode *lower, umode_t had);
void fuse_lower_raise_size(struct inode *inode,
			   const struct file *lower, loff_t end);

/* cache.c */
int fuse_lower_wait(struct inode *inode, loff_t start, loff_t end);
int fuse_lower_flush(struct inode *inode);
int fuse_lower_clean(struct inode *inode,
		     const struct kiocb *kiocb, size_t count, int rw);
bool fuse_lower_trylock(struct inode *inode, enum fuse_lower_lock lock);
void fuse_lower_lock(struct inode *inode, enum fuse_lower_lock lock);
void fuse_lower_unlock(struct inode *inode, enum fuse_lower_lock lock);
int fuse_lower_fault_in(const struct kiocb *kiocb, const struct iov_iter *iter,
			size_t len, int rw);
void fuse_lower_end_write(struct inode *inode, const struct file *lower,
			  loff_t start, loff_t end, enum fuse_lower_lock held);
bool fuse_lower_try_drop(struct address_space *mapping,
			 loff_t *start, loff_t end);

/* inode_attr.c */
bool fuse_lower_take_size(struct inode *inode, const struct inode *lower);
void fuse_lower_resized(struct inode *inode);
int fuse_lower_refresh_mode(struct inode *inode,
			    const struct fuse_lower_path *lp);

/* suid.c */
const struct cred *
fuse_lower_suid_cred(const struct fuse_lower_creds *creds, struct file *lower,
		     umode_t mode);
int fuse_lower_drop_own(struct file *file, const struct kiocb *kiocb);

/* aio.c */
struct kiocb *fuse_lower_new_aio(struct kiocb *client, struct file *lower,
				 int flags, int rw);
void fuse_lower_submitted_aio(struct kiocb *kiocb, ssize_t ret);
void fuse_lower_free_queue(struct fuse_conn *fc);
int fuse_lower_init_aio(void);
void fuse_lower_exit_aio(void);

/* write.c */
ssize_t fuse_lower_try_write(struct file *file, struct kiocb *kiocb,
			     struct iov_iter *from);
void fuse_lower_wait_thaw(struct file *lower);

/* io.c */
ssize_t fuse_lower_read_iter(struct kiocb *iocb, struct iov_iter *to);
ssize_t fuse_lower_write_iter(struct kiocb *iocb, struct iov_iter *from);

/* splice.c */
ssize_t fuse_lower_splice_read(struct file *file, loff_t *ppos,
			       struct pipe_inode_info *pipe,
			       size_t len, unsigned int flags);
ssize_t fuse_lower_splice_write(struct pipe_inode_info *pipe,
				struct file *file, loff_t *ppos,
				size_t len, unsigned int flags);

/* mmap.c */
int fuse_lower_mmap(struct file *file, struct vm_area_struct *vma);

/* inode_file.c */
int fuse_lower_flush_file(struct file *file, fl_owner_t id);
long fuse_lower_fallocate(struct file *file, int mode, loff_t offset,
			  loff_t len);
loff_t fuse_lower_llseek(struct file *file, loff_t offset, int whence);

/* inode_copy.c */
loff_t fuse_lower_remap(struct file *in, loff_t pos_in, struct file *out,
			loff_t pos_out, loff_t len, unsigned int flags);

/* file.c */
void __init fuse_lower_init_fops(void);

/* id.c */
void fuse_lower_init_ids(struct fuse_conn *fc);
void fuse_lower_free_ids(struct fuse_conn *fc);
long fuse_lower_id_open(struct fuse_conn *fc, void __user *arg);
long fuse_lower_id_close(struct fuse_conn *fc, u32 __user *arg);

/* attach.c */
long fuse_lower_with_request(struct fuse_conn *fc, u64 unique,
			     long (*fn)(struct fuse_conn *fc,
					struct fuse_req *req, void *arg),
			     void *arg);
long fuse_lower_attach(struct fuse_conn *fc, void __user *arg);

/* inode.c */
long fuse_lower_inode_ioctl(struct fuse_conn *fc, void __user *arg);

static inline struct fuse_lower_creds *
fuse_lower_creds_get(struct fuse_lower_creds *creds)
{
	refcount_inc(&creds->count);
	return creds;
}

/* An id without a mapping in the FUSE file system is shown as invalid. */
static inline kuid_t fuse_lower_show_uid(const struct fuse_conn *fc, kuid_t uid)
{
	return kuid_has_mapping(fc->user_ns, uid) ? uid : INVALID_UID;
}

static inline kgid_t fuse_lower_show_gid(const struct fuse_conn *fc, kgid_t gid)
{
	return kgid_has_mapping(fc->user_ns, gid) ? gid : INVALID_GID;
}

/*
 * A stacked file system may use the flags of its struct file and ignore
 * IOCB_APPEND, as overlayfs of 6.1 does.  Appends to such a file are positioned
 * here.
 */
static inline bool fuse_lower_is_stacked(const struct file *lower)
{
	return file_inode(lower)->i_sb->s_stack_depth;
}

/* @takes: passthrough_write of the open */
static inline enum fuse_lower_lock
fuse_lower_lock_of(unsigned int takes, const struct kiocb *kiocb)
{
	if ((takes & LOWER_APPENDS) && (kiocb->ki_flags & IOCB_APPEND))
		return LOWER_EXCLUSIVE;
	return takes & LOWER_SHARES ? LOWER_SHARED : LOWER_UNLOCKED;
}

/*
 * After a write to the lower file: has a write invalidated the attributes since
 * the last request for them?  The barrier pairs with
 * fuse_passthrough_inval_mask(), see attr.c.  It also orders the write before
 * the checks of fuse_lower_write_is_done() and fuse_lower_end_write().  That
 * pairs with a reader that fills a page with the old data: its page is in the
 * page cache before the server reads the lower file.
 */
static __always_inline bool fuse_lower_touched(struct inode *inode)
{
	/* Pairs with fuse_passthrough_inval_mask(), see above. */
	smp_mb();
	return test_bit(FUSE_I_PASSTHROUGH_TOUCHED,
			&get_fuse_inode(inode)->state);
}

static __always_inline void fuse_lower_touch(struct inode *inode)
{
	if (!fuse_lower_touched(inode))
		fuse_lower_first_touch(inode);
}

static __always_inline void fuse_lower_accessed(struct inode *inode)
{
	struct fuse_inode *fi = get_fuse_inode(inode);

	if (!(READ_ONCE(fi->inval_mask) & STATX_ATIME))
		fuse_invalidate_atime(inode);
}

/*
 * Does FUSE have pages of the inode, or WRITEs in flight?  Cheap while the
 * inode is only used through passthrough.  Neither the tree nor the counter is
 * enough: a WRITE is out of the tree for a moment while its successor is
 * queued, and WRITEs held back by a SETATTR are not counted for a moment.
 */
static inline bool fuse_lower_cached(struct inode *inode)
{
	const struct fuse_inode *fi = get_fuse_inode(inode);

	if (READ_ONCE(inode->i_data.nrpages))
		return true;
	/* Pages leave the cache only after their WRITE is in the tree. */
	smp_rmb();
	return READ_ONCE(fi->writepages.rb_node) || READ_ONCE(fi->writectr);
}

/*
 * After fuse_lower_touch(): does a write up to @end neither raise the size nor
 * leave pages to drop?
 */
static inline bool fuse_lower_write_is_done(struct inode *inode, loff_t end)
{
	return end <= i_size_read(inode) && !READ_ONCE(inode->i_data.nrpages);
}

/* The flags of the client's iocb apply to each lower call. */
static __always_inline int fuse_lower_flags(const struct kiocb *iocb,
					    const struct file *lower, int rw)
{
	int flags = iocb->ki_flags & (rw == WRITE ? LOWER_WRITE_FLAGS :
						    LOWER_READ_FLAGS);

	if (rw == WRITE && IS_APPEND(file_inode(lower)))
		flags |= IOCB_APPEND;
	return flags;
}

/* Can the lower file do I/O with these flags? */
static __always_inline int fuse_lower_able(const struct file *lower, int flags)
{
	if (likely(!(flags & (IOCB_DIRECT | IOCB_NOWAIT))))
		return 0;
	if ((flags & IOCB_DIRECT) && !(lower->f_mode & FMODE_CAN_ODIRECT))
		return -EINVAL;
	if ((flags & IOCB_NOWAIT) && !(lower->f_mode & FMODE_NOWAIT))
		return -EAGAIN;
	return 0;
}

static __always_inline struct kiocb
fuse_lower_kiocb(const struct kiocb *iocb, struct file *lower, int flags)
{
	return (struct kiocb) {
		.ki_filp = lower,
		.ki_pos = iocb->ki_pos,
		.ki_flags = flags,
		.ki_ioprio = iocb->ki_ioprio,
	};
}

#endif /* _FS_FUSE_PASSTHROUGH_I_H */
