/* SPDX-License-Identifier: GPL-2.0 */
/*
 * FUSE passthrough: what the rest of fs/fuse calls.
 *
 * Ownership of a lower file: the pending request (attached under fpq->lock),
 * then the opener's struct fuse_file, until that is freed.
 */
#ifndef _FS_FUSE_PASSTHROUGH_H
#define _FS_FUSE_PASSTHROUGH_H

#include <linux/errno.h>
#include <linux/fs.h>
#include <linux/types.h>

struct cred;
struct fuse_attr;
struct fuse_conn;
struct fuse_dev;
struct fuse_file;
struct fuse_init_out;
struct fuse_inode;
struct fuse_mount;
struct fuse_open_out;
struct fuse_req;

/**
 * struct fuse_passthrough - a lower file and the credentials of its I/O
 * @lower: the lower file, one reference; NULL if there is none
 * @cred: credentials of the server task that attached it, one reference
 */
struct fuse_passthrough {
	struct file *lower;
	const struct cred *cred;
};

/* What a write through an open takes beside the lower write */
enum {
	/* To tell the inode: it is the first one */
	FUSE_PASSTHROUGH_FIRST = 1 << 0,
	/* Perhaps the inode's lock */
	FUSE_PASSTHROUGH_LOCKED = 1 << 1,
	/* Without O_LARGEFILE, to end at 2 GiB */
	FUSE_PASSTHROUGH_LIMITED = 1 << 2,
};

#ifdef CONFIG_FUSE_PASSTHROUGH
int fuse_passthrough_init(void);
void fuse_passthrough_cleanup(void);
void fuse_passthrough_init_conn(struct fuse_conn *fc);
void fuse_passthrough_free_conn(struct fuse_conn *fc);
bool fuse_passthrough_ctl_add(struct fuse_conn *fc, struct dentry *parent);
void fuse_passthrough_ctl_remove(struct fuse_conn *fc);

u64 fuse_passthrough_offer(const struct fuse_conn *fc);
void fuse_passthrough_negotiate(struct fuse_mount *fm,
				const struct fuse_init_out *out);

long fuse_passthrough_ioctl(struct fuse_dev *fud, unsigned int cmd,
			    unsigned long arg);
void fuse_passthrough_request_free(struct fuse_req *req);
void fuse_passthrough_take(struct fuse_file *ff, struct fuse_req *req, int err);
int fuse_passthrough_open_id(struct fuse_file *ff,
			     const struct fuse_open_out *out,
			     unsigned int flags);
void fuse_passthrough_finish_open(struct inode *inode, struct file *file);
void fuse_passthrough_put(struct fuse_file *ff);
bool fuse_file_passthrough(const struct fuse_file *ff);

u32 fuse_passthrough_inval_mask(struct inode *inode);
u32 fuse_passthrough_cache_mask(struct inode *inode, u32 mask);
bool fuse_passthrough_written(struct inode *inode);
bool fuse_passthrough_written_back(struct inode *inode);
bool fuse_passthrough_outdated(struct inode *inode,
			       const struct fuse_attr *attr, u64 version);
void fuse_passthrough_begin_setattr(struct inode *inode);
void fuse_passthrough_setattr(struct inode *inode, struct fuse_attr *attr,
			      bool truncate);
void fuse_passthrough_end_setattr(struct inode *inode, struct file *file);
bool fuse_passthrough_open_truncated(struct inode *inode);
#else
static inline int fuse_passthrough_init(void)
{
	return 0;
}

static inline void fuse_passthrough_cleanup(void)
{
}

static inline void fuse_passthrough_init_conn(struct fuse_conn *fc)
{
}

static inline void fuse_passthrough_free_conn(struct fuse_conn *fc)
{
}

static inline u64 fuse_passthrough_offer(const struct fuse_conn *fc)
{
	return 0;
}

static inline void fuse_passthrough_negotiate(struct fuse_mount *fm,
					      const struct fuse_init_out *out)
{
}

static inline long fuse_passthrough_ioctl(struct fuse_dev *fud,
					  unsigned int cmd, unsigned long arg)
{
	return -ENOTTY;
}

static inline void fuse_passthrough_request_free(struct fuse_req *req)
{
}

static inline void fuse_passthrough_take(struct fuse_file *ff,
					 struct fuse_req *req, int err)
{
}

static inline int fuse_passthrough_open_id(struct fuse_file *ff,
					   const struct fuse_open_out *out,
					   unsigned int flags)
{
	return 0;
}

static inline void fuse_passthrough_finish_open(struct inode *inode,
						struct file *file)
{
}

static inline void fuse_passthrough_put(struct fuse_file *ff)
{
}

static inline bool fuse_file_passthrough(const struct fuse_file *ff)
{
	return false;
}

static inline u32 fuse_passthrough_inval_mask(struct inode *inode)
{
	return 0;
}

static inline u32 fuse_passthrough_cache_mask(struct inode *inode, u32 mask)
{
	return mask;
}

static inline bool fuse_passthrough_written(struct inode *inode)
{
	return false;
}

static inline bool fuse_passthrough_written_back(struct inode *inode)
{
	return false;
}

static inline bool fuse_passthrough_outdated(struct inode *inode,
					     const struct fuse_attr *attr,
					     u64 version)
{
	return false;
}

static inline void fuse_passthrough_begin_setattr(struct inode *inode)
{
}

static inline void fuse_passthrough_setattr(struct inode *inode,
					    struct fuse_attr *attr,
					    bool truncate)
{
}

static inline void fuse_passthrough_end_setattr(struct inode *inode,
						struct file *file)
{
}

static inline bool fuse_passthrough_open_truncated(struct inode *inode)
{
	i_size_write(inode, 0);
	return false;
}

static inline bool fuse_passthrough_ctl_add(struct fuse_conn *fc,
					    struct dentry *parent)
{
	return true;
}

static inline void fuse_passthrough_ctl_remove(struct fuse_conn *fc)
{
}
#endif /* CONFIG_FUSE_PASSTHROUGH */

#endif /* _FS_FUSE_PASSTHROUGH_H */
