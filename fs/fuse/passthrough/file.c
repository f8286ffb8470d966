// SPDX-License-Identifier: GPL-2.0
/*
 * FUSE passthrough: the life of an open, and its file operations.
 */

#include "../fuse_i.h"
#include "passthrough_i.h"

#include <linux/fadvise.h>
#include <linux/file.h>
#include <linux/pagemap.h>
#include <linux/seq_file.h>
#include <trace/events/fuse_passthrough.h>

/*
 * For passthrough opens; for those whose lower file has non-blocking buffered
 * writes; for opens that only map their lower file.
 */
static struct file_operations passthrough_fops __ro_after_init;
static struct file_operations wasync_fops __ro_after_init;
static struct file_operations mmap_fops __ro_after_init;

/**
 * fuse_passthrough_opened - install the lower path that came with an open
 * @inode: the FUSE inode
 * @ff: the open, of a file or a directory
 */
void fuse_passthrough_opened(struct inode *inode, struct fuse_file *ff)
{
	struct fuse_lower_path *lp = ff->lower_path;

	if (likely(!lp))
		return;

	if (fuse_passthrough_seen(ff)) {
		ff->lower_path = NULL;
		fuse_passthrough_attach_inode(inode, lp);
	} else if (!lp->inode) {
		/* From CREATE: the open by inode keeps its reference. */
		refcount_inc(&lp->count);
		fuse_passthrough_attach_inode(inode, lp);
	}
}

/* All writable mappings count, not only those made through FUSE. */
static bool is_mapped_writable(const struct file *lower)
{
	const struct inode *inode = d_real_inode(lower->f_path.dentry);

	return mapping_writably_mapped(inode->i_mapping);
}

/**
 * fuse_passthrough_finish_open - choose the file operations of an open
 * @inode: the FUSE inode
 * @file: the newly opened file, with its struct fuse_file
 *
 * FOPEN_DIRECT_IO beside a backing id leaves reads and writes to the server and
 * passes through mappings only, as in Linux 6.9 and later.
 */
void fuse_passthrough_finish_open(struct inode *inode, struct file *file)
{
	struct fuse_file *ff = file->private_data;
	struct file *lower = ff->passthrough.lower;

	fuse_passthrough_opened(inode, ff);

	/* A mapping does not pin the FUSE inode, and may be older than it. */
	if (lower && is_mapped_writable(lower))
		fuse_lower_set_mapped(inode);
	if (test_bit(FUSE_I_PASSTHROUGH_MAPPED, &get_fuse_inode(inode)->state))
		ff->open_flags &= ~FOPEN_KEEP_CACHE;

	if (!lower)
		return;

	ff->passthrough_write = LOWER_FIRST_WRITE;
	if (fuse_lower_is_stacked(lower))
		ff->passthrough_write |= LOWER_APPENDS;
	if (get_fuse_conn(inode)->writeback_cache)
		ff->passthrough_write |= LOWER_SHARES;
	if (!(file->f_flags & O_LARGEFILE))
		ff->passthrough_write |= LOWER_LIMITED;

	if (!fuse_passthrough_serves(ff)) {
		file->f_op = &mmap_fops;
		return;
	}
	/* The lower file decides which I/O can be non-blocking. */
	file->f_mode |= lower->f_mode & FMODE_NOWAIT;
	file->f_op = fuse_lower_inherit_wasync(file, lower) ? &wasync_fops :
							      &passthrough_fops;
}

/**
 * fuse_passthrough_put - release the lower file of an open
 * @ff: the open, without users, about to be freed
 */
void fuse_passthrough_put(struct fuse_file *ff)
{
	if (ff->lower_path && !fuse_passthrough_seen(ff))
		atomic_dec(&ff->lower_path->opens);
	fuse_lower_path_put(ff->lower_path);
	ff->lower_path = NULL;
	if (!ff->passthrough.lower)
		return;

	trace_fuse_passthrough_release(ff->fm->fc->dev, ff->nodeid,
				       file_inode(ff->passthrough.lower),
				       ff->passthrough_by);
	fuse_lower_drop(&ff->passthrough);
	atomic_dec(&ff->fm->fc->passthrough_files);
}

/*
 * The same as plain FUSE does before FSYNC: write back dirty pages of FUSE's
 * cache, and report errors of these pages and of earlier ones to this open.
 */
static int sync_pages(struct file *file, loff_t start, loff_t end)
{
	struct inode *inode = file_inode(file);
	int err, later;

	err = file_write_and_wait_range(file, start, end);
	/* WRITEs send temporary pages: their errors come only now. */
	fuse_set_nowrite(inode);
	fuse_release_nowrite(inode);
	later = file_check_and_advance_wb_err(file);

	return err ?: later;
}

static int send_fsync(struct file *file, loff_t start, loff_t end, int datasync)
{
	struct fuse_conn *fc = get_fuse_conn(file_inode(file));
	int err;

	err = sync_inode_metadata(file_inode(file), 1);
	if (err || fc->no_fsync)
		return err;

	err = fuse_fsync_common(file, start, end, datasync, FUSE_FSYNC);
	if (err == -ENOSYS) {
		fc->no_fsync = 1;
		err = 0;
	}
	return err;
}

/*
 * If the server is gone or has no FSYNC, data written by passthrough can still
 * be synced.
 */
static bool syncs_lower(const struct fuse_conn *fc, int err)
{
	if (err == -ENOTCONN || err == -ECONNABORTED)
		return !READ_ONCE(fc->connected);
	return !err && fc->no_fsync;
}

static int vfs_fsync_lower(struct fuse_file *ff, loff_t start, loff_t end,
			   int datasync)
{
	const struct cred *old;
	int err;

	old = fuse_lower_override(ff->passthrough.creds->full);
	err = vfs_fsync_range(ff->passthrough.lower, start, end, datasync);
	fuse_lower_revert(old);
	return err;
}

static int fsync_by_inode(struct file *file, loff_t start, loff_t end,
			  int datasync)
{
	struct inode *inode = file_inode(file);
	int lost;

	inode_lock(inode);
	lost = sync_pages(file, start, end);
	inode_unlock(inode);

	return lost ?: vfs_fsync_lower(file->private_data, start, end, datasync);
}

/* Sync the lower file even if pages were lost. */
static int fsync_lower(struct file *file, loff_t start, loff_t end,
		       int datasync)
{
	struct fuse_file *ff = file->private_data;
	struct inode *inode = file_inode(file);
	struct fuse_conn *fc = ff->fm->fc;
	int lost, err;

	if (fuse_is_bad(inode))
		return -EIO;

	if (fuse_lower_path_serves(inode, LOWER_OP(FUSE_FSYNC)))
		return fsync_by_inode(file, start, end, datasync);

	inode_lock(inode);
	lost = sync_pages(file, start, end);
	err = send_fsync(file, start, end, datasync);
	/*
	 * The device that held the request was closed.  Another device may take
	 * it; if there is none, the connection has ended.  Retry only once: a
	 * server may reply with this error itself.
	 */
	if (err == -ECONNABORTED && READ_ONCE(fc->connected))
		err = send_fsync(file, start, end, datasync);
	inode_unlock(inode);

	if (syncs_lower(fc, err))
		err = vfs_fsync_lower(ff, start, end, datasync);
	return lost ?: err;
}

static int fadvise_lower(struct file *file, loff_t offset,
			 loff_t len, int advice)
{
	struct fuse_file *ff = file->private_data;
	const struct cred *old;
	int err;

	old = fuse_lower_override(ff->passthrough.creds->full);
	err = vfs_fadvise(ff->passthrough.lower, offset, len, advice);
	fuse_lower_revert(old);
	return err;
}

static void show_fdinfo(struct seq_file *m, struct file *file)
{
	static const char * const by[] = {
		[FUSE_LOWER_BY_REQUEST] = "request",
		[FUSE_LOWER_BY_ID] = "id",
		[FUSE_LOWER_BY_INODE] = "inode",
	};
	const struct fuse_file *ff = file->private_data;
	struct file *lower = ff->passthrough.lower;

	seq_puts(m, "passthrough-lower:\t");
	seq_file_path(m, lower, " \t\n\\");
	seq_printf(m, "\npassthrough-mode:\t%s%s\n",
		   lower->f_mode & FMODE_READ ? "r" : "",
		   lower->f_mode & FMODE_WRITE ? "w" : "");
	seq_printf(m, "passthrough-attach:\t%s\n", by[ff->passthrough_by]);
}

/**
 * fuse_lower_init_fops - derive the file operations from plain FUSE's
 */
void __init fuse_lower_init_fops(void)
{
	mmap_fops = fuse_file_operations;
	mmap_fops.mmap = fuse_lower_mmap;
	mmap_fops.show_fdinfo = show_fdinfo;

	/* No poll: it would send a request; a regular file is always ready. */
	passthrough_fops = mmap_fops;
	passthrough_fops.poll = NULL;
	passthrough_fops.read_iter = fuse_lower_read_iter;
	passthrough_fops.write_iter = fuse_lower_write_iter;
	passthrough_fops.splice_read = fuse_lower_splice_read;
	passthrough_fops.splice_write = fuse_lower_splice_write;
	passthrough_fops.fsync = fsync_lower;
	passthrough_fops.fadvise = fadvise_lower;
	passthrough_fops.flush = fuse_lower_flush_file;
	passthrough_fops.fallocate = fuse_lower_fallocate;
	passthrough_fops.llseek = fuse_lower_llseek;
	passthrough_fops.remap_file_range = fuse_lower_remap;

	wasync_fops = passthrough_fops;
	fuse_lower_set_wasync(&wasync_fops);
}
