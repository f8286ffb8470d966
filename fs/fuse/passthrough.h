/* SPDX-License-Identifier: GPL-2.0 */
/*
 * FUSE passthrough: hooks that the rest of fs/fuse calls.
 *
 * Ownership of a lower file: the pending request (attached under fpq->lock),
 * then the opener's struct fuse_file, until that is freed.  Ownership of a
 * lower path: the pending request, its sender, then the FUSE inode.
 */
#ifndef _FS_FUSE_PASSTHROUGH_H
#define _FS_FUSE_PASSTHROUGH_H

#include <linux/errno.h>
#include <linux/fs.h>
#include <linux/types.h>

struct fuse_attr;
struct fuse_conn;
struct fuse_dev;
struct fuse_file;
struct fuse_init_out;
struct fuse_inode;
struct fuse_lower_creds;
struct fuse_lower_path;
struct fuse_mount;
struct fuse_open_out;
struct fuse_req;
struct delayed_call;
struct dir_context;
struct iattr;
struct kstat;
struct posix_acl;

/**
 * struct fuse_passthrough - a lower file and the credentials of its I/O
 * @lower: the lower file, one reference; NULL if there is none
 * @creds: credentials of the server task that attached it, one reference
 */
struct fuse_passthrough {
	struct file *lower;
	struct fuse_lower_creds *creds;
};

/* How a lower file was attached */
enum fuse_lower_by {
	FUSE_LOWER_BY_REQUEST,
	FUSE_LOWER_BY_ID,
	FUSE_LOWER_BY_INODE,
};

/* Work of a write through this open, in addition to the lower write */
enum {
	/* No write yet: the first one marks the inode as written */
	LOWER_FIRST_WRITE = 1 << 0,
	/* Take the inode lock shared: the connection has a write-back cache */
	LOWER_SHARES = 1 << 1,
	/*
	 * Take the inode lock for appends and position them here: the lower
	 * file is stacked
	 */
	LOWER_APPENDS = 1 << 2,
	/* Limit writes to 2 GiB: the client's file has no O_LARGEFILE */
	LOWER_LIMITED = 1 << 3,
};

/* Used only under IS_ENABLED(CONFIG_FUSE_PASSTHROUGH) */
extern const struct file_operations fuse_passthrough_ctl_ops;
extern const struct file_operations fuse_passthrough_inodes_ctl_ops;

#ifdef CONFIG_FUSE_PASSTHROUGH
int fuse_passthrough_init(void);
void fuse_passthrough_cleanup(void);
void fuse_passthrough_init_conn(struct fuse_conn *fc);
void fuse_passthrough_free_conn(struct fuse_conn *fc);

u64 fuse_passthrough_offer(const struct fuse_conn *fc);
void fuse_passthrough_negotiate(struct fuse_mount *fm,
				const struct fuse_init_out *out);

long fuse_passthrough_ioctl(struct fuse_dev *fud, unsigned int cmd,
			    unsigned long arg);
void fuse_passthrough_request_free(struct fuse_req *req);
void fuse_passthrough_take(struct fuse_file *ff, struct fuse_req *req, int err);
int fuse_passthrough_open_id(struct fuse_file *ff, const struct file *user,
			     const struct fuse_open_out *out,
			     unsigned int flags);
void fuse_passthrough_finish_open(struct inode *inode, struct file *file);
void fuse_passthrough_opened(struct inode *inode, struct fuse_file *ff);
void fuse_passthrough_put(struct fuse_file *ff);
bool fuse_passthrough_serves(const struct fuse_file *ff);

u32 fuse_passthrough_inval_mask(struct inode *inode);
u32 fuse_passthrough_distrusted(struct inode *inode);
u32 fuse_passthrough_cache_mask(struct inode *inode, u32 mask);
bool fuse_passthrough_written(struct inode *inode);
bool fuse_passthrough_written_back(struct inode *inode);
bool fuse_passthrough_outdated(struct inode *inode,
			       const struct fuse_attr *attr, u64 version);
bool fuse_passthrough_mask_setattr(struct inode *inode, struct fuse_attr *attr);
void fuse_passthrough_setattr(struct inode *inode, struct fuse_attr *attr,
			      bool truncate);
void fuse_passthrough_end_setattr(struct inode *inode, struct file *file,
				  bool masked);
bool fuse_passthrough_open_truncated(struct inode *inode);

struct fuse_lower_path *fuse_passthrough_take_path(struct fuse_req *req, int err);
void fuse_passthrough_attach_inode(struct inode *inode,
				   struct fuse_lower_path *lp);
void fuse_passthrough_init_inode(struct fuse_inode *fi);
void fuse_passthrough_evict(struct inode *inode);
void fuse_passthrough_abort(struct fuse_conn *fc);
bool fuse_passthrough_getattr(struct inode *inode, struct kstat *stat, u32 mask,
			      unsigned int flags, int *err);
bool fuse_passthrough_seek(struct file *file, loff_t offset, int whence,
			   loff_t *pos);
bool fuse_passthrough_permission(struct inode *inode, int mask, int *err);
bool fuse_passthrough_sync_mode(struct inode *inode, bool rcu);
bool fuse_passthrough_set_lower(struct inode *inode, const struct iattr *attr,
				int *err);
bool fuse_passthrough_open(struct inode *inode, struct file *file, int *err);
int fuse_passthrough_created(struct fuse_file *ff, const struct file *user,
			     unsigned int flags);
bool fuse_passthrough_seen(const struct fuse_file *ff);
bool fuse_passthrough_setxattr(struct inode *inode, const char *name,
			       const void *value, size_t size, int flags,
			       int *err);
bool fuse_passthrough_getxattr(struct inode *inode, const char *name,
			       void *value, size_t size, ssize_t *ret);
bool fuse_passthrough_listxattr(struct inode *inode, char *list, size_t size,
				ssize_t *ret);
bool fuse_passthrough_get_acl(struct inode *inode, int type,
			      struct posix_acl **acl);
bool fuse_passthrough_set_acl(struct inode *inode, struct posix_acl *acl,
			      int type, int *err);
const char *fuse_passthrough_get_link(struct dentry *dentry,
				      struct inode *inode,
				      struct delayed_call *done);
bool fuse_passthrough_honours_excl(const struct fuse_conn *fc);
bool fuse_passthrough_readdir(struct file *file, struct dir_context *ctx,
			      int *err);
bool fuse_passthrough_fsyncdir(struct file *file, loff_t start, loff_t end,
			       int datasync, int *err);
bool fuse_passthrough_copy(struct file *in, loff_t pos_in, struct file *out,
			   loff_t pos_out, size_t len, ssize_t *ret);
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
					   const struct file *user,
					   const struct fuse_open_out *out,
					   unsigned int flags)
{
	return 0;
}

static inline void fuse_passthrough_finish_open(struct inode *inode,
						struct file *file)
{
}

static inline void fuse_passthrough_opened(struct inode *inode,
					   struct fuse_file *ff)
{
}

static inline void fuse_passthrough_put(struct fuse_file *ff)
{
}

static inline bool fuse_passthrough_serves(const struct fuse_file *ff)
{
	return false;
}

static inline u32 fuse_passthrough_inval_mask(struct inode *inode)
{
	return 0;
}

static inline u32 fuse_passthrough_distrusted(struct inode *inode)
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

static inline bool fuse_passthrough_mask_setattr(struct inode *inode,
						 struct fuse_attr *attr)
{
	return false;
}

static inline void fuse_passthrough_setattr(struct inode *inode,
					    struct fuse_attr *attr,
					    bool truncate)
{
}

static inline void fuse_passthrough_end_setattr(struct inode *inode,
						struct file *file, bool masked)
{
}

static inline bool fuse_passthrough_open_truncated(struct inode *inode)
{
	i_size_write(inode, 0);
	return false;
}

static inline struct fuse_lower_path *
fuse_passthrough_take_path(struct fuse_req *req, int err)
{
	return NULL;
}

static inline void fuse_passthrough_attach_inode(struct inode *inode,
						 struct fuse_lower_path *lp)
{
}

static inline void fuse_passthrough_init_inode(struct fuse_inode *fi)
{
}

static inline void fuse_passthrough_evict(struct inode *inode)
{
}

static inline void fuse_passthrough_abort(struct fuse_conn *fc)
{
}

static inline bool fuse_passthrough_getattr(struct inode *inode,
					    struct kstat *stat, u32 mask,
					    unsigned int flags, int *err)
{
	return false;
}

static inline bool fuse_passthrough_seek(struct file *file, loff_t offset,
					 int whence, loff_t *pos)
{
	return false;
}

static inline bool fuse_passthrough_permission(struct inode *inode, int mask,
					       int *err)
{
	return false;
}

static inline bool fuse_passthrough_sync_mode(struct inode *inode, bool rcu)
{
	return true;
}

static inline bool fuse_passthrough_set_lower(struct inode *inode,
					      const struct iattr *attr,
					      int *err)
{
	return false;
}

static inline bool fuse_passthrough_open(struct inode *inode,
					 struct file *file, int *err)
{
	return false;
}

static inline int fuse_passthrough_created(struct fuse_file *ff,
					   const struct file *user,
					   unsigned int flags)
{
	return 0;
}

static inline bool fuse_passthrough_seen(const struct fuse_file *ff)
{
	return true;
}

static inline bool fuse_passthrough_setxattr(struct inode *inode,
					     const char *name,
					     const void *value, size_t size,
					     int flags, int *err)
{
	return false;
}

static inline bool fuse_passthrough_getxattr(struct inode *inode,
					     const char *name, void *value,
					     size_t size, ssize_t *ret)
{
	return false;
}

static inline bool fuse_passthrough_listxattr(struct inode *inode, char *list,
					      size_t size, ssize_t *ret)
{
	return false;
}

static inline bool fuse_passthrough_get_acl(struct inode *inode, int type,
					    struct posix_acl **acl)
{
	return false;
}

static inline bool fuse_passthrough_set_acl(struct inode *inode,
					    struct posix_acl *acl, int type,
					    int *err)
{
	return false;
}

static inline const char *fuse_passthrough_get_link(struct dentry *dentry,
						    struct inode *inode,
						    struct delayed_call *done)
{
	return NULL;
}

static inline bool fuse_passthrough_honours_excl(const struct fuse_conn *fc)
{
	return false;
}

static inline bool fuse_passthrough_readdir(struct file *file,
					    struct dir_context *ctx, int *err)
{
	return false;
}

static inline bool fuse_passthrough_fsyncdir(struct file *file, loff_t start,
					     loff_t end, int datasync,
					     int *err)
{
	return false;
}

static inline bool fuse_passthrough_copy(struct file *in, loff_t pos_in,
					 struct file *out, loff_t pos_out,
					 size_t len, ssize_t *ret)
{
	return false;
}
#endif /* CONFIG_FUSE_PASSTHROUGH */

#endif /* _FS_FUSE_PASSTHROUGH_H */
