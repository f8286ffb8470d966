// SPDX-License-Identifier: GPL-2.0
/*
 * FUSE passthrough: I/O of an open goes straight to a lower file.
 *
 * A server attaches a lower file to an open that it is about to answer, either
 * to the request (FUSE_DEV_IOC_PASSTHROUGH_OPEN) or by a backing id in the
 * answer (FUSE_DEV_IOC_BACKING_OPEN, FOPEN_PASSTHROUGH).  Both end as the lower
 * file of the open's struct fuse_file, and from then on take the same path.
 *
 * Rules that the code below keeps:
 *
 * - Every lower call runs under the server's credentials and nothing else does.
 *   They are switched without a reference: the fuse_file holds one for at least
 *   as long as the client's file is open, which outlives the call.
 * - Locks nest pipe lock, FUSE inode lock, lower freeze protection, locks of the
 *   lower file system.  Nothing waits for the server with freeze protection held:
 *   the server may need that to answer.  Nothing waits for a thaw with a lock
 *   held: a splice to the lower file system holds up the freeze while it waits for
 *   the pipe, and who has the pipe may wait for the inode lock.  (What a stacked
 *   lower file system does below is out of reach.)
 * - FUSE's own page cache of the inode is clean over a range before the lower
 *   file is read or written there, and holds nothing of it after a write.
 * - A size that passthrough raises is never beyond the lower file's own.
 *
 * See Documentation/filesystems/fuse-passthrough.rst for what this means to
 * servers and clients.
 */

#include "fuse_i.h"

#include <linux/cred.h>
#include <linux/fadvise.h>
#include <linux/file.h>
#include <linux/fsnotify.h>
#include <linux/magic.h>
#include <linux/pagemap.h>
#include <linux/percpu.h>
#include <linux/seq_file.h>
#include <linux/splice.h>
#include <linux/uio.h>
#include <linux/xarray.h>

#define CREATE_TRACE_POINTS
#include <trace/events/fuse_passthrough.h>

/* What of a client's iocb means the same to the lower file. */
#define FUSE_PASSTHROUGH_READ \
	(IOCB_DIRECT | IOCB_DSYNC | IOCB_SYNC | IOCB_NOWAIT | IOCB_HIPRI)
#define FUSE_PASSTHROUGH_WRITE \
	(FUSE_PASSTHROUGH_READ | IOCB_APPEND | IOCB_WRITE)

/* Non-blocking abilities that an open inherits from its lower file. */
#define FUSE_PASSTHROUGH_FMODE (FMODE_NOWAIT | FMODE_BUF_WASYNC)

/* Attributes that are not to be trusted after a passthrough write. */
#define FUSE_PASSTHROUGH_STATX (FUSE_STATX_MODIFY | STATX_MODE)

/* What may be combined with FOPEN_PASSTHROUGH, as in Linux 6.9 and later. */
#define FOPEN_PASSTHROUGH_MASK \
	(FOPEN_PASSTHROUGH | FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES | \
	 FOPEN_NOFLUSH)

/**
 * struct fuse_backing - a lower file registered under a backing id
 * @file: as the server passed it; O_PATH is enough, since opens reopen its path
 * @cred: credentials of the registering task
 * @count: one for the id, one for each open that is being resolved
 * @rcu: lookups by id take no lock
 */
struct fuse_backing {
	struct file *file;
	const struct cred *cred;
	refcount_t count;
	struct rcu_head rcu;
};

/**
 * struct fuse_passthrough_aio - an asynchronous direct I/O on a lower file
 * @kiocb: the lower file's iocb
 * @client: the client's iocb; it keeps the client's file open, and with it the
 *	lower file, until it is completed
 * @next: of the spare ones, while it is one
 * @start: where it begins; some network file systems leave ki_pos at that
 * @count: the submitter's and the completion's: lower file systems look at
 *	their iocb even after they have queued it
 * @work: for completions that need to sleep
 * @res: result handed to @work
 */
struct fuse_passthrough_aio {
	struct kiocb kiocb;
	union {
		struct kiocb *client;
		struct fuse_passthrough_aio *next;
	};
	loff_t start;
	refcount_t count;
	struct work_struct work;
	long res;
};

static struct kmem_cache *fuse_passthrough_aio_cachep;

/*
 * Those that a CPU keeps for its next ones: to allocate and free one costs as much
 * as all the rest of this file does for a direct read.  Touched by that CPU alone,
 * with interrupts off.
 */
struct fuse_passthrough_spares {
	struct fuse_passthrough_aio *first;
	unsigned int count;
};

#define FUSE_PASSTHROUGH_SPARES_MAX 32

static DEFINE_PER_CPU(struct fuse_passthrough_spares, fuse_passthrough_spares);

/* Of passthrough opens; of opens that only map their lower file. */
static struct file_operations fuse_passthrough_fops __ro_after_init;
static struct file_operations fuse_passthrough_mmap_fops __ro_after_init;

static long fuse_passthrough_refuse(struct fuse_conn *fc, const char *reason,
				    int error)
{
	pr_debug("passthrough refused on connection %u: %s (%d)\n",
		 MINOR(fc->dev), reason, error);
	trace_fuse_passthrough_refuse(fc->dev, reason, error);

	return error;
}

static void fuse_passthrough_free(struct fuse_passthrough *fp)
{
	fput(fp->lower);
	put_cred(fp->cred);
	fp->lower = NULL;
	fp->cred = NULL;
}

/*
 * Credentials, see the rule at the top.  The result is to be restored by
 * fuse_passthrough_revert().
 */
static const struct cred *fuse_passthrough_override(const struct cred *cred)
{
	/* There every override has to be counted. */
	if (IS_ENABLED(CONFIG_DEBUG_CREDENTIALS))
		return override_creds(cred);
	return rcu_replace_pointer(current->cred, cred, true);
}

static void fuse_passthrough_revert(const struct cred *old)
{
	if (IS_ENABLED(CONFIG_DEBUG_CREDENTIALS))
		revert_creds(old);
	else
		rcu_assign_pointer(current->cred, old);
}

/* Negotiation */

/**
 * fuse_passthrough_offer - INIT flag to offer to the server of a connection
 * @fc: the connection
 *
 * A virtiofs server has no descriptors that this kernel could look up.
 *
 * Return: FUSE_PASSTHROUGH or 0
 */
u64 fuse_passthrough_offer(const struct fuse_conn *fc)
{
	return fc->iq.ops == &fuse_dev_fiq_ops ? FUSE_PASSTHROUGH : 0;
}

/**
 * fuse_passthrough_negotiate - take a server's FUSE_PASSTHROUGH in INIT
 * @fm: the mount
 * @out: the server's answer, with FUSE_PASSTHROUGH set
 *
 * A depth that is too large leaves passthrough off, as in Linux 6.9 and later:
 * the server then gets EPERM from its first ioctl.
 */
void fuse_passthrough_negotiate(struct fuse_mount *fm,
				const struct fuse_init_out *out)
{
	struct fuse_conn *fc = fm->fc;
	unsigned int depth = out->max_stack_depth ?: 1;

	if (!fuse_passthrough_offer(fc))
		return;

	if (depth > FILESYSTEM_MAX_STACK_DEPTH) {
		fuse_passthrough_refuse(fc, "max_stack_depth too large",
					-EINVAL);
		return;
	}

	/* Its works wait for this server, which other connections must not. */
	fc->passthrough_wq = alloc_workqueue("fuse-passthrough-%u",
					     WQ_MEM_RECLAIM, 0,
					     MINOR(fc->dev));
	if (!fc->passthrough_wq) {
		fuse_passthrough_refuse(fc, "no workqueue", -ENOMEM);
		return;
	}

	fc->max_stack_depth = depth;
	fm->sb->s_stack_depth = depth;
	fc->passthrough = 1;
}

/* Attach by request */

/*
 * Files that the kernel keeps for itself, or makes up as they are read, are not
 * what a server may put under a client's writes with the server's privileges.
 */
static bool fuse_lower_is_special(const struct super_block *sb)
{
	return (sb->s_flags & SB_KERNMOUNT) || (sb->s_iflags & SB_I_NOEXEC) ||
		sb->s_magic == HUGETLBFS_MAGIC;
}

/* FUSE itself, with a server that may wait for this one; virtiofs does not. */
static bool fuse_lower_is_fuse(const struct super_block *sb)
{
	return !strcmp(sb->s_type->name, "fuse") ||
		!strcmp(sb->s_type->name, "fuseblk");
}

static const char *fuse_lower_unfit(const struct fuse_conn *fc,
				    const struct file *lower)
{
	const struct super_block *sb = file_inode(lower)->i_sb;

	if (!S_ISREG(file_inode(lower)->i_mode))
		return "not a regular file";
	if (!lower->f_op->read_iter || !lower->f_op->write_iter)
		return "no read_iter or no write_iter";
	if (fuse_lower_is_special(sb))
		return "on an internal or pseudo file system";
	if (fuse_lower_is_fuse(sb))
		return "on FUSE";
	if (sb->s_stack_depth >= fc->max_stack_depth)
		return "stacked too deep";
	return NULL;
}

/* Flags of the client's open; they come first in all three requests. */
static u32 fuse_req_open_flags(const struct fuse_req *req)
{
	BUILD_BUG_ON(offsetof(struct fuse_open_in, flags));
	BUILD_BUG_ON(offsetof(struct fuse_create_in, flags));

	return *(const u32 *)req->args->in_args[0].value;
}

static bool fuse_req_is_open(const struct fuse_req *req)
{
	switch (req->in.h.opcode) {
	case FUSE_OPEN:
	case FUSE_CREATE:
	case FUSE_TMPFILE:
		return true;
	default:
		return false;
	}
}

/* With fpq->lock: the opener waits, so that its arguments are there to read. */
static long fuse_req_attach(struct fuse_conn *fc, struct fuse_req *req,
			    const struct fuse_passthrough *fp)
{
	fmode_t mode;

	lockdep_assert_held(&fc->lock);

	if (!fuse_req_is_open(req))
		return fuse_passthrough_refuse(fc, "not an open request",
					       -EINVAL);

	mode = OPEN_FMODE(fuse_req_open_flags(req)) & (FMODE_READ | FMODE_WRITE);
	if (mode & ~fp->lower->f_mode)
		return fuse_passthrough_refuse(fc, "access mode not covered",
					       -EACCES);
	if (req->passthrough.lower)
		return fuse_passthrough_refuse(fc, "already attached", -EBUSY);

	req->passthrough = *fp;
	trace_fuse_passthrough_attach(fc->dev, req->in.h.nodeid,
				      file_inode(fp->lower), false);
	return 0;
}

/* The request may be in process at any device of the connection. */
static long fuse_passthrough_attach(struct fuse_conn *fc, u64 unique,
				    const struct fuse_passthrough *fp)
{
	struct fuse_req *req = NULL;
	struct fuse_dev *fud;
	long err = -ENOENT;

	spin_lock(&fc->lock);
	list_for_each_entry(fud, &fc->devices, entry) {
		struct fuse_pqueue *fpq = &fud->pq;

		spin_lock(&fpq->lock);
		req = fpq->connected ? fuse_request_find(fpq, unique) : NULL;
		if (req)
			err = fuse_req_attach(fc, req, fp);
		spin_unlock(&fpq->lock);
		if (req)
			break;
	}
	spin_unlock(&fc->lock);

	if (!req)
		fuse_passthrough_refuse(fc, "no such request", err);
	return err;
}

static long fuse_passthrough_ioc_open(struct fuse_conn *fc, void __user *arg)
{
	struct fuse_passthrough_out out;
	struct fuse_passthrough fp;
	const char *unfit;
	long err;

	if (copy_from_user(&out, arg, sizeof(out)))
		return -EFAULT;

	if (out.len || out.vec)
		return fuse_passthrough_refuse(fc, "unknown extension",
					       -EINVAL);

	fp.lower = fget(out.fd);
	if (!fp.lower)
		return fuse_passthrough_refuse(fc, "bad descriptor", -EBADF);
	fp.cred = get_current_cred();

	unfit = fuse_lower_unfit(fc, fp.lower);
	if (unfit)
		err = fuse_passthrough_refuse(fc, unfit, -EINVAL);
	else
		err = fuse_passthrough_attach(fc, out.unique, &fp);

	if (err)
		fuse_passthrough_free(&fp);
	return err;
}

/**
 * fuse_passthrough_request_free - release what nobody took
 * @req: a request that is about to be freed
 *
 * Context: any in which a request may be freed.
 */
void fuse_passthrough_request_free(struct fuse_req *req)
{
	if (!req->passthrough.lower)
		return;

	trace_fuse_passthrough_release(req->fm->fc->dev, req->in.h.nodeid,
				       file_inode(req->passthrough.lower),
				       false);
	fuse_passthrough_free(&req->passthrough);
}

/**
 * fuse_passthrough_take - move an attached lower file to the opener
 * @ff: the opener's file, not yet visible to anybody
 * @req: its finished request
 * @err: what the open ended with; after an error the lower file is released, here
 *	and now, rather than when the server's task drops the request
 *
 * Called by the opener alone, after the request has left its queue: no attach
 * can come any more.
 */
void fuse_passthrough_take(struct fuse_file *ff, struct fuse_req *req, int err)
{
	if (err) {
		fuse_passthrough_request_free(req);
		return;
	}

	ff->passthrough = req->passthrough;
	req->passthrough.lower = NULL;
	req->passthrough.cred = NULL;
	if (ff->passthrough.lower)
		atomic_inc(&ff->fm->fc->passthrough_files);
}

/* Attach by backing id */

static void fuse_backing_put(struct fuse_backing *fb)
{
	if (!refcount_dec_and_test(&fb->count))
		return;

	fput(fb->file);
	put_cred(fb->cred);
	kfree_rcu(fb, rcu);
}

static struct fuse_backing *fuse_backing_get(struct fuse_conn *fc, u32 id)
{
	struct fuse_backing *fb;

	rcu_read_lock();
	fb = xa_load(&fc->backing, id);
	if (fb && !refcount_inc_not_zero(&fb->count))
		fb = NULL;
	rcu_read_unlock();

	return fb;
}

/* Ids pin files that no open file accounts for, hence the privilege. */
static long fuse_backing_allowed(struct fuse_conn *fc)
{
	if (!capable(CAP_SYS_ADMIN))
		return fuse_passthrough_refuse(fc, "not privileged", -EPERM);
	return 0;
}

static long fuse_backing_unfit(struct fuse_conn *fc, const struct file *file)
{
	const struct super_block *sb = file_inode(file)->i_sb;

	if (d_is_dir(file->f_path.dentry))
		return fuse_passthrough_refuse(fc, "a directory", -EISDIR);
	if (!d_is_reg(file->f_path.dentry))
		return fuse_passthrough_refuse(fc, "not a regular file",
					       -EINVAL);
	if (fuse_lower_is_special(sb))
		return fuse_passthrough_refuse(fc,
			"on an internal or pseudo file system", -EINVAL);
	if (fuse_lower_is_fuse(sb) || sb->s_stack_depth >= fc->max_stack_depth)
		return fuse_passthrough_refuse(fc, "stacked too deep", -ELOOP);
	return 0;
}

static long fuse_backing_register(struct fuse_conn *fc, struct file *file)
{
	struct fuse_backing *fb;
	u32 id;
	int err;

	fb = kmalloc(sizeof(*fb), GFP_KERNEL_ACCOUNT);
	if (!fb)
		return -ENOMEM;

	fb->file = get_file(file);
	fb->cred = get_current_cred();
	refcount_set(&fb->count, 1);

	err = xa_alloc_cyclic(&fc->backing, &id, fb, XA_LIMIT(1, INT_MAX),
			      &fc->backing_next, GFP_KERNEL_ACCOUNT);
	if (err < 0) {
		fuse_backing_put(fb);
		return err == -EBUSY ? -ENOSPC : err;
	}
	return id;
}

static long fuse_backing_ioc_open(struct fuse_conn *fc, void __user *arg)
{
	struct fuse_backing_map map;
	struct file *file;
	long err;

	if (copy_from_user(&map, arg, sizeof(map)))
		return -EFAULT;

	err = fuse_backing_allowed(fc);
	if (err)
		return err;

	if (map.flags || map.padding)
		return fuse_passthrough_refuse(fc, "unknown flags", -EINVAL);

	file = fget_raw(map.fd);
	if (!file)
		return fuse_passthrough_refuse(fc, "bad descriptor", -EBADF);

	err = fuse_backing_unfit(fc, file);
	if (!err)
		err = fuse_backing_register(fc, file);
	fput(file);

	return err;
}

static long fuse_backing_ioc_close(struct fuse_conn *fc, u32 __user *arg)
{
	struct fuse_backing *fb;
	long err;
	u32 id;

	if (get_user(id, arg))
		return -EFAULT;

	err = fuse_backing_allowed(fc);
	if (err)
		return err;

	if (!id || id > INT_MAX)
		return fuse_passthrough_refuse(fc, "bad backing id", -EINVAL);

	fb = xa_erase(&fc->backing, id);
	if (!fb)
		return fuse_passthrough_refuse(fc, "no such backing id",
					       -ENOENT);
	fuse_backing_put(fb);
	return 0;
}

static struct file *fuse_backing_reopen(const struct fuse_backing *fb,
					unsigned int flags)
{
	const struct cred *old;
	struct file *file;
	bool direct;

	/* An open by path would be refused this, dentry_open() does not ask. */
	if ((flags & O_ACCMODE) != O_RDONLY &&
	    IS_IMMUTABLE(d_inode(fb->file->f_path.dentry)))
		return ERR_PTR(-EPERM);

	/*
	 * O_APPEND and O_DIRECT are the client's at each call.  A stacked file
	 * system of 6.1 would go by those of its struct file instead.
	 */
	direct = flags & O_DIRECT;
	flags &= ~(O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_TMPFILE |
		   O_APPEND | O_DIRECT);
	old = fuse_passthrough_override(fb->cred);
	file = dentry_open(&fb->file->f_path, flags | O_LARGEFILE, fb->cred);
	fuse_passthrough_revert(old);
	if (IS_ERR(file))
		return file;

	if (!file->f_op->read_iter || !file->f_op->write_iter ||
	    (direct && !(file->f_mode & FMODE_CAN_ODIRECT))) {
		fput(file);
		return ERR_PTR(-EINVAL);
	}
	return file;
}

/**
 * fuse_passthrough_open_id - resolve the backing id of an answer
 * @ff: the opener's file, open_flags and nodeid set, not yet visible
 * @out: the server's answer
 * @flags: the client's open flags
 *
 * Does nothing where the server has not negotiated passthrough, or has not set
 * FOPEN_PASSTHROUGH.
 *
 * Return: 0; -EBUSY if a lower file was attached to the request as well; -EIO
 * for any other mistake of the server, as in Linux 6.9 and later, the reason
 * being in the tracepoint.  After an error the caller releases the open.
 */
int fuse_passthrough_open_id(struct fuse_file *ff,
			     const struct fuse_open_out *out,
			     unsigned int flags)
{
	struct fuse_conn *fc = ff->fm->fc;
	struct fuse_backing *fb;
	struct file *lower;

	if (!fc->passthrough || !(ff->open_flags & FOPEN_PASSTHROUGH))
		return 0;

	if (ff->passthrough.lower)
		return fuse_passthrough_refuse(fc, "already attached", -EBUSY);
	if (ff->open_flags & ~FOPEN_PASSTHROUGH_MASK)
		return fuse_passthrough_refuse(fc, "flags do not go together",
					       -EIO);

	fb = out->backing_id > 0 ? fuse_backing_get(fc, out->backing_id) : NULL;
	if (!fb)
		return fuse_passthrough_refuse(fc, "no such backing id", -EIO);

	lower = fuse_backing_reopen(fb, flags);
	if (!IS_ERR(lower)) {
		ff->passthrough.lower = lower;
		ff->passthrough.cred = get_cred(fb->cred);
		ff->passthrough_by_id = true;
		atomic_inc(&fc->passthrough_files);
		trace_fuse_passthrough_attach(fc->dev, ff->nodeid,
					      file_inode(lower), true);
	}
	fuse_backing_put(fb);

	if (IS_ERR(lower))
		return fuse_passthrough_refuse(fc, "lower file does not open",
					       -EIO);
	return 0;
}

/**
 * fuse_passthrough_ioctl - ioctls of /dev/fuse that concern passthrough
 * @fud: the device, NULL before a mount
 * @cmd: the ioctl
 * @arg: its argument, the same for 32-bit servers
 *
 * Context: a task of the server; its credentials are taken here.
 * Return: by command, or a negative errno; -ENOTTY for what is not ours
 */
long fuse_passthrough_ioctl(struct fuse_dev *fud, unsigned int cmd,
			    unsigned long arg)
{
	void __user *argp = (void __user *)arg;

	switch (cmd) {
	case FUSE_DEV_IOC_PASSTHROUGH_OPEN:
	case FUSE_DEV_IOC_BACKING_OPEN:
	case FUSE_DEV_IOC_BACKING_CLOSE:
		break;
	default:
		return -ENOTTY;
	}

	if (!fud)
		return -EPERM;
	if (!fud->fc->passthrough)
		return fuse_passthrough_refuse(fud->fc, "not negotiated",
					       -EPERM);

	switch (cmd) {
	case FUSE_DEV_IOC_PASSTHROUGH_OPEN:
		return fuse_passthrough_ioc_open(fud->fc, argp);
	case FUSE_DEV_IOC_BACKING_OPEN:
		return fuse_backing_ioc_open(fud->fc, argp);
	default:
		return fuse_backing_ioc_close(fud->fc, argp);
	}
}

/* Life of an open */

/**
 * fuse_file_passthrough - does the I/O of an open go to a lower file?
 * @ff: the open
 */
bool fuse_file_passthrough(const struct fuse_file *ff)
{
	return ff->passthrough.lower &&
		!(ff->passthrough_by_id && (ff->open_flags & FOPEN_DIRECT_IO));
}

/*
 * A stacked file system of 6.1 goes by the flags of its struct file and drops
 * IOCB_APPEND.  The end of such a file is found here.
 */
static bool fuse_passthrough_is_stacked(const struct file *lower)
{
	return file_inode(lower)->i_sb->s_stack_depth;
}

/**
 * fuse_passthrough_finish_open - choose the file operations of an open
 * @inode: the FUSE inode
 * @file: its newly opened file, with its struct fuse_file in place
 *
 * FOPEN_DIRECT_IO beside a backing id leaves reads and writes to the server and
 * passes through mappings only, as in Linux 6.9 and later.
 */
void fuse_passthrough_finish_open(struct inode *inode, struct file *file)
{
	struct fuse_file *ff = file->private_data;
	struct file *lower = ff->passthrough.lower;

	if (test_bit(FUSE_I_PASSTHROUGH_MAPPED, &get_fuse_inode(inode)->state))
		ff->open_flags &= ~FOPEN_KEEP_CACHE;

	if (!lower)
		return;

	ff->passthrough_write = FUSE_PASSTHROUGH_FIRST;
	if (fuse_passthrough_is_stacked(lower) ||
	    get_fuse_conn(inode)->writeback_cache)
		ff->passthrough_write |= FUSE_PASSTHROUGH_LOCKED;
	if (!(file->f_flags & O_LARGEFILE))
		ff->passthrough_write |= FUSE_PASSTHROUGH_LIMITED;

	if (!fuse_file_passthrough(ff)) {
		file->f_op = &fuse_passthrough_mmap_fops;
		return;
	}
	file->f_op = &fuse_passthrough_fops;
	file->f_mode |= lower->f_mode & FUSE_PASSTHROUGH_FMODE;
}

/**
 * fuse_passthrough_put - release the lower file of an open that goes away
 * @ff: the open; nothing uses it any more
 */
void fuse_passthrough_put(struct fuse_file *ff)
{
	if (!ff->passthrough.lower)
		return;

	trace_fuse_passthrough_release(ff->fm->fc->dev, ff->nodeid,
				       file_inode(ff->passthrough.lower),
				       ff->passthrough_by_id);
	fuse_passthrough_free(&ff->passthrough);
	atomic_dec(&ff->fm->fc->passthrough_files);
}

/* Attributes */

/* With fi->lock: replies to requests that were sent before this are stale. */
static void fuse_passthrough_new_version(struct fuse_inode *fi)
{
	struct fuse_conn *fc = get_fuse_conn(&fi->inode);

	lockdep_assert_held(&fi->lock);
	fi->attr_version = atomic64_inc_return(&fc->attr_version);
}

/*
 * After each write: leave a mark, which is all that it tells anybody.  The next
 * stat makes something of it.
 */
static __always_inline void fuse_passthrough_touch(struct inode *inode)
{
	struct fuse_inode *fi = get_fuse_inode(inode);

	/*
	 * The write comes before what is looked at here, and after it by
	 * fuse_passthrough_write_is_done() and fuse_passthrough_end_write().
	 * Pairs with fuse_passthrough_settle() and the server's look at the
	 * lower file; and with a reader that fills a page from the old data: it
	 * has put that into the page cache before the server's read, a round
	 * trip.
	 */
	smp_mb();
	if (!test_bit(FUSE_I_PASSTHROUGH_TOUCHED, &fi->state))
		set_bit(FUSE_I_PASSTHROUGH_TOUCHED, &fi->state);
}

/*
 * Before a request for attributes is sent, or cached ones are looked at; with
 * fi->lock.  After a write the mark is there, or the attributes are not trusted
 * and answers to older requests are not taken.
 */
static void fuse_passthrough_settle(struct inode *inode)
{
	struct fuse_inode *fi = get_fuse_inode(inode);

	lockdep_assert_held(&fi->lock);

	if (!test_bit(FUSE_I_PASSTHROUGH_TOUCHED, &fi->state))
		return;

	fuse_invalidate_attr_mask(inode, FUSE_PASSTHROUGH_STATX);
	clear_bit(FUSE_I_PASSTHROUGH_SETATTR, &fi->state);
	clear_bit(FUSE_I_PASSTHROUGH_TOUCHED, &fi->state);
	/*
	 * Who found the mark still there has written before any request that
	 * the version lets through is sent.  Pairs with
	 * fuse_passthrough_touch().
	 */
	smp_mb__after_atomic();
	fuse_passthrough_new_version(fi);
}

/* Before the first write through an open. */
static void fuse_passthrough_begin_writing(struct inode *inode,
					   struct fuse_file *ff)
{
	struct fuse_inode *fi = get_fuse_inode(inode);

	/* A SETATTR whose answer is taken before is over before the write. */
	spin_lock(&fi->lock);
	set_bit(FUSE_I_PASSTHROUGH_WRITTEN, &fi->state);
	/* Who sees that it is not the first sees the bit. */
	smp_store_release(&ff->passthrough_write,
			  ff->passthrough_write & ~FUSE_PASSTHROUGH_FIRST);
	spin_unlock(&fi->lock);
	/* From here on times are the server's, whatever becomes of the write. */
	fuse_passthrough_touch(inode);
}

/* With fi->lock: exec looks at the mode that the inode has, without asking. */
static void fuse_passthrough_mask_mode(struct inode *inode, umode_t bits)
{
	inode->i_mode &= ~bits;
	get_fuse_inode(inode)->orig_i_mode &= ~bits;
}

/*
 * After a write to a lower file that had setuid or setgid bits.  Those that are
 * gone go at once.  Others stay: plain FUSE's I/O has only those dropped that it
 * sees here.
 */
static void fuse_passthrough_drop_mode(struct inode *inode,
				       const struct inode *lower, umode_t had)
{
	struct fuse_inode *fi = get_fuse_inode(inode);
	umode_t gone;

	spin_lock(&fi->lock);
	gone = had & ~lower->i_mode;
	if (gone) {
		fuse_passthrough_mask_mode(inode, gone);
		set_bit(FUSE_I_PASSTHROUGH_DROPPED, &fi->state);
	}
	fuse_invalidate_attr_mask(inode, STATX_MODE);
	/* Answers on their way may still have them. */
	clear_bit(FUSE_I_PASSTHROUGH_SETATTR, &fi->state);
	fuse_passthrough_new_version(fi);
	spin_unlock(&fi->lock);
}

/**
 * fuse_passthrough_inval_mask - attributes that passthrough makes untrustworthy
 * @inode: a FUSE inode
 *
 * Makes of the mark that a write has left what plain FUSE does at each write.
 *
 * Context: takes fi->lock
 * Return: a STATX_* mask, to be added to the inode's own, which is to be read
 * after this
 */
u32 fuse_passthrough_inval_mask(struct inode *inode)
{
	struct fuse_inode *fi = get_fuse_inode(inode);
	u32 mask = 0;

	if (test_bit(FUSE_I_PASSTHROUGH_TOUCHED, &fi->state)) {
		spin_lock(&fi->lock);
		fuse_passthrough_settle(inode);
		spin_unlock(&fi->lock);
	}
	if (test_bit(FUSE_I_PASSTHROUGH_MAPPED, &fi->state))
		mask = FUSE_PASSTHROUGH_STATX;
	/* Whoever settles marks the inode stale before the bit goes. */
	smp_rmb();

	return mask;
}

/**
 * fuse_passthrough_written - has passthrough written to an inode?
 * @inode: a FUSE inode
 *
 * The times of such an inode are the lower file's.  Local ones, as
 * FUSE_WRITEBACK_CACHE keeps them, must not be flushed over them.
 */
bool fuse_passthrough_written(struct inode *inode)
{
	return test_bit(FUSE_I_PASSTHROUGH_WRITTEN,
			&get_fuse_inode(inode)->state);
}

/**
 * fuse_passthrough_written_back - the server has taken cached data
 * @inode: a FUSE inode
 *
 * Return: true if the inode's times are the server's, see above
 */
bool fuse_passthrough_written_back(struct inode *inode)
{
	if (!fuse_passthrough_written(inode))
		return false;

	fuse_passthrough_touch(inode);
	return true;
}

/**
 * fuse_passthrough_cache_mask - what FUSE_WRITEBACK_CACHE may keep locally
 * @inode: a FUSE inode
 * @mask: STATX_* mask of what it keeps otherwise
 *
 * The size stays local: dirty pages beyond the server's idea of it would be
 * lost, and passthrough raises it at once.
 *
 * Return: the part of @mask that stays local
 */
u32 fuse_passthrough_cache_mask(struct inode *inode, u32 mask)
{
	return fuse_passthrough_written(inode) ? mask & STATX_SIZE : mask;
}

/**
 * fuse_passthrough_begin_setattr - a SETATTR is about to be sent
 * @inode: a FUSE inode, its lock held
 *
 * If passthrough I/O ends before the answer comes, that may be older.  A read takes
 * the bit away that is set here; a write leaves its mark, and who settles that
 * takes the bit away.
 *
 * Context: takes fi->lock
 */
void fuse_passthrough_begin_setattr(struct inode *inode)
{
	struct fuse_inode *fi = get_fuse_inode(inode);

	if (!fuse_passthrough_written(inode))
		return;

	spin_lock(&fi->lock);
	fuse_passthrough_settle(inode);
	set_bit(FUSE_I_PASSTHROUGH_SETATTR, &fi->state);
	clear_bit(FUSE_I_PASSTHROUGH_DROPPED, &fi->state);
	spin_unlock(&fi->lock);
}

/**
 * fuse_passthrough_setattr - do not let a SETATTR undo what a write raised
 * @inode: a FUSE inode, its lock and fi->lock held, other attributes updated
 * @attr: what the server answered; its size is corrected
 * @truncate: was the size to be changed?
 *
 * Writes do not wait for a SETATTR: its answer may be older than what the inode
 * has.  Where the sizes differ, and after a truncate, it is for the server to say
 * which, and for the next who wants to know the size to ask: a write may have
 * found that already raised.
 */
void fuse_passthrough_setattr(struct inode *inode, struct fuse_attr *attr,
			      bool truncate)
{
	struct fuse_inode *fi = get_fuse_inode(inode);

	if (!fuse_passthrough_written(inode))
		return;

	if (!test_and_clear_bit(FUSE_I_PASSTHROUGH_SETATTR, &fi->state) ||
	    test_bit(FUSE_I_PASSTHROUGH_TOUCHED, &fi->state))
		fuse_invalidate_attr_mask(inode, FUSE_STATX_MODSIZE |
					  STATX_MODE | STATX_ATIME);
	if (test_bit(FUSE_I_PASSTHROUGH_DROPPED, &fi->state))
		fuse_passthrough_mask_mode(inode, S_ISUID | S_ISGID);
	if (truncate || attr->size != i_size_read(inode))
		fuse_invalidate_attr_mask(inode, STATX_SIZE);
	if (!truncate)
		attr->size = i_size_read(inode);
}

/**
 * fuse_passthrough_end_setattr - a SETATTR is over
 * @inode: a FUSE inode, its lock held, its attributes updated
 * @file: the open that it was sent for, or NULL
 *
 * Mode bits that were not believed are asked for, as whatever else is to drop
 * them looks at the inode's without asking.
 *
 * Context: may wait for the server
 */
void fuse_passthrough_end_setattr(struct inode *inode, struct file *file)
{
	if (test_bit(FUSE_I_PASSTHROUGH_DROPPED, &get_fuse_inode(inode)->state))
		fuse_update_attributes(inode, file, STATX_MODE);
}

/**
 * fuse_passthrough_open_truncated - the size after an open that truncates
 * @inode: a FUSE inode that an open with FUSE_ATOMIC_O_TRUNC has cut
 *
 * That open has set the size; it is set again only where no passthrough write
 * can have raised it since.
 *
 * Context: takes fi->lock
 * Return: true if passthrough has written to the inode
 */
bool fuse_passthrough_open_truncated(struct inode *inode)
{
	struct fuse_inode *fi = get_fuse_inode(inode);
	bool written;

	spin_lock(&fi->lock);
	written = fuse_passthrough_written(inode);
	if (!written)
		i_size_write(inode, 0);
	spin_unlock(&fi->lock);

	return written;
}

/**
 * fuse_passthrough_outdated - may an answer be older than a passthrough write?
 * @inode: a FUSE inode that is in use, with fi->lock
 * @attr: attributes in the answer
 * @version: fc->attr_version from before the request, 0 if nobody read it
 *
 * Plain FUSE needs no version where the inode lock keeps writes out, which it
 * does not do here.  The number of links, which nobody else tells and no write
 * changes, is taken all the same.
 *
 * Return: true if the other attributes in the answer are to be left alone; the
 * next stat asks for all of them
 */
bool fuse_passthrough_outdated(struct inode *inode,
			       const struct fuse_attr *attr, u64 version)
{
	if (version || !fuse_passthrough_written(inode))
		return false;

	set_nlink(inode, attr->nlink);
	fuse_passthrough_new_version(get_fuse_inode(inode));
	fuse_invalidate_attr(inode);
	return true;
}

static __always_inline void fuse_passthrough_accessed(struct inode *inode)
{
	struct fuse_inode *fi = get_fuse_inode(inode);

	/*
	 * Who has moved atime has had a barrier since, to mark it dirty.  The
	 * mask is looked at after the bit.
	 */
	if (test_bit(FUSE_I_PASSTHROUGH_SETATTR, &fi->state)) {
		clear_bit(FUSE_I_PASSTHROUGH_SETATTR, &fi->state);
		/* Pairs with fuse_passthrough_setattr() taking the bit. */
		smp_mb__after_atomic();
	} else {
		/* The same: it renews the mask first. */
		smp_rmb();
	}
	if (!(READ_ONCE(fi->inval_mask) & STATX_ATIME))
		fuse_invalidate_atime(inode);
}

/* Coherence with FUSE's own page cache */

/*
 * Cheap while the inode is only used through passthrough.  Of WRITEs in flight,
 * one whose successor is being queued is out of the tree for a moment, and those
 * held back by a SETATTR are not counted for a moment.
 */
static bool fuse_passthrough_cached(struct inode *inode)
{
	const struct fuse_inode *fi = get_fuse_inode(inode);

	if (READ_ONCE(inode->i_data.nrpages))
		return true;
	/* Pages leave the cache only after their WRITE is in the tree. */
	smp_rmb();
	return READ_ONCE(fi->writepages.rb_node) || READ_ONCE(fi->writectr);
}

/*
 * Let the server have what is dirty from @start to @end, also what is on its
 * way in temporary pages.  Errors stay for the fsync of who wrote.
 */
static int fuse_passthrough_flush(struct inode *inode, loff_t start, loff_t end)
{
	struct address_space *mapping = inode->i_mapping;
	int err;

	err = filemap_fdatawrite_range(mapping, start, end);
	if (err)
		return err;

	filemap_fdatawait_range_keep_errors(mapping, start, end);

	return wait_event_killable(get_fuse_inode(inode)->page_waitq,
				   !fuse_range_is_writeback(inode,
							    start >> PAGE_SHIFT,
							    end >> PAGE_SHIFT));
}

/* Where @kiocb's I/O of @count bytes may look or land. */
static void fuse_passthrough_range(const struct kiocb *kiocb, size_t count,
				   loff_t *start, loff_t *end)
{
	loff_t size = i_size_read(file_inode(kiocb->ki_filp));

	*start = kiocb->ki_pos;
	*end = kiocb->ki_pos + count - 1;

	/* Dirty pages further on decide where the lower file ends. */
	if (*end >= size)
		*end = LLONG_MAX;
	if (kiocb->ki_flags & IOCB_APPEND) {
		*start = 0;
		*end = LLONG_MAX;
	}
}

/* What a write would have to drop, clean or not, a read can leave. */
static bool fuse_passthrough_would_wait(struct inode *inode, loff_t start,
					loff_t end, int rw)
{
	struct address_space *mapping = inode->i_mapping;

	if (rw == WRITE && filemap_range_has_page(mapping, start, end))
		return true;
	if (rw == READ && filemap_range_needs_writeback(mapping, start, end))
		return true;

	return fuse_range_is_writeback(inode, start >> PAGE_SHIFT,
				       end >> PAGE_SHIFT);
}

static int fuse_passthrough_clean(struct inode *inode,
				  const struct kiocb *kiocb, size_t count,
				  int rw)
{
	loff_t start, end;

	if (!count)
		return 0;

	fuse_passthrough_range(kiocb, count, &start, &end);

	if (!(kiocb->ki_flags & IOCB_NOWAIT))
		return fuse_passthrough_flush(inode, start, end);

	return fuse_passthrough_would_wait(inode, start, end, rw) ? -EAGAIN : 0;
}

static bool fuse_passthrough_appends_here(const struct kiocb *kiocb)
{
	return (kiocb->ki_flags & IOCB_APPEND) &&
		fuse_passthrough_is_stacked(kiocb->ki_filp);
}

/*
 * With FUSE_WRITEBACK_CACHE a cached writer of some bytes of a page writes back
 * all of it, what it had read of its other bytes before included.  Keep such
 * writers out: they hold the inode lock exclusively.  Without it, no lock, but
 * among writers that append here.
 */
static bool fuse_passthrough_lock(struct inode *inode,
				  const struct kiocb *kiocb)
{
	bool nowait = kiocb->ki_flags & IOCB_NOWAIT;

	if (fuse_passthrough_appends_here(kiocb)) {
		if (nowait)
			return inode_trylock(inode);
		inode_lock(inode);
	} else if (get_fuse_conn(inode)->writeback_cache) {
		if (nowait)
			return inode_trylock_shared(inode);
		inode_lock_shared(inode);
	}
	return true;
}

static void fuse_passthrough_unlock(struct inode *inode,
				    const struct kiocb *kiocb)
{
	if (fuse_passthrough_appends_here(kiocb))
		inode_unlock(inode);
	else if (get_fuse_conn(inode)->writeback_cache)
		inode_unlock_shared(inode);
}

/*
 * A late completion may follow a truncate, so that the lower file's size bounds
 * what is raised; the truncate's own reply takes fi->lock after the lower file
 * was cut.  Writers of a write-back cache, who raise the size without fi->lock,
 * are kept out by fuse_passthrough_lock().
 */
static void fuse_passthrough_raise_size(struct inode *inode,
					const struct file *lower, loff_t end)
{
	struct fuse_inode *fi = get_fuse_inode(inode);

	if (end <= i_size_read(inode))
		return;

	spin_lock(&fi->lock);
	end = min(end, i_size_read(file_inode(lower)));
	if (end > inode->i_size) {
		fuse_passthrough_new_version(fi);
		i_size_write(inode, end);
	}
	spin_unlock(&fi->lock);
}

/* With fuse_passthrough_touch() before: is nothing else to be done up to @end? */
static bool fuse_passthrough_write_is_done(struct inode *inode, loff_t end)
{
	return end <= i_size_read(inode) && !READ_ONCE(inode->i_data.nrpages);
}

/* After a write from @start up to @end of the lower file; may sleep. */
static void fuse_passthrough_end_write(struct inode *inode,
				       const struct file *lower, loff_t start,
				       loff_t end)
{
	if (READ_ONCE(inode->i_data.nrpages))
		invalidate_inode_pages2_range(inode->i_mapping,
					      start >> PAGE_SHIFT,
					      (end - 1) >> PAGE_SHIFT);
	fuse_passthrough_raise_size(inode, lower, end);
}

/* The lower call */

/* The flags of a lower call are the client's, at each call. */
static __always_inline int fuse_passthrough_flags(const struct kiocb *iocb,
						  const struct file *lower,
						  int rw)
{
	int flags = iocb->ki_flags & (rw == WRITE ? FUSE_PASSTHROUGH_WRITE :
						    FUSE_PASSTHROUGH_READ);

	if (rw == WRITE && IS_APPEND(file_inode(lower)))
		flags |= IOCB_APPEND;
	return flags;
}

/* Can the lower file do what they ask for? */
static __always_inline int fuse_passthrough_able(const struct file *lower,
						 int flags)
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
fuse_passthrough_kiocb(const struct kiocb *iocb, struct file *lower, int flags)
{
	return (struct kiocb) {
		.ki_filp = lower,
		.ki_pos = iocb->ki_pos,
		.ki_flags = flags,
		.ki_ioprio = iocb->ki_ioprio,
	};
}

/*
 * A buffer may be a mapping of this very inode by FUSE's cache.  To fault it in
 * the server reads the lower file, which it cannot while the lower file system
 * holds the inode's lock for us: let that happen before.
 */
static int fuse_passthrough_fault_in(const struct kiocb *kiocb,
				     const struct iov_iter *iter, int rw)
{
	size_t len = iov_iter_count(iter);

	if (!user_backed_iter(iter))
		return 0;
	if (kiocb->ki_flags & IOCB_NOWAIT)
		return -EAGAIN;
	if (rw == READ)
		fault_in_iov_iter_writeable(iter, len);
	else
		fault_in_iov_iter_readable(iter, len);
	return 0;
}

static ssize_t fuse_passthrough_read(struct file *file, struct kiocb *kiocb,
				     struct iov_iter *to)
{
	struct fuse_file *ff = file->private_data;
	struct inode *inode = file_inode(file);
	const struct cred *old;
	ssize_t ret;

	if (mapping_mapped(inode->i_mapping)) {
		ret = fuse_passthrough_fault_in(kiocb, to, READ);
		if (ret)
			return ret;
	}

	if (fuse_passthrough_cached(inode)) {
		ret = fuse_passthrough_clean(inode, kiocb, iov_iter_count(to),
					     READ);
		if (ret)
			return ret;
	}

	old = fuse_passthrough_override(ff->passthrough.cred);
	ret = vfs_iocb_iter_read(kiocb->ki_filp, kiocb, to);
	fuse_passthrough_revert(old);
	fuse_passthrough_accessed(inode);

	return ret;
}

/*
 * What drops setuid and setgid bits asks whether the writer may keep them.
 * A client that may not is not to gain that from the server: write without the
 * server's CAP_FSETID.
 */
static const struct cred *fuse_passthrough_nosuid(const struct fuse_file *ff)
{
	const struct cred *old;
	struct cred *cred;

	old = fuse_passthrough_override(ff->passthrough.cred);
	cred = prepare_creds();
	fuse_passthrough_revert(old);
	if (cred)
		cap_lower(cred->cap_effective, CAP_FSETID);
	return cred;
}

/* To a lower file with such bits. */
static noinline ssize_t fuse_passthrough_write_suid(struct file *file,
						    struct kiocb *kiocb,
						    struct iov_iter *from)
{
	struct fuse_file *ff = file->private_data;
	struct inode *lower = file_inode(kiocb->ki_filp);
	umode_t had = lower->i_mode & (S_ISUID | S_ISGID);
	const struct cred *old, *cred, *nosuid = NULL;
	ssize_t ret;

	cred = ff->passthrough.cred;
	if (!capable(CAP_FSETID)) {
		if (kiocb->ki_flags & IOCB_NOWAIT)
			return -EAGAIN;
		nosuid = fuse_passthrough_nosuid(ff);
		if (!nosuid)
			return -ENOMEM;
		cred = nosuid;
	}

	old = fuse_passthrough_override(cred);
	ret = vfs_iocb_iter_write(kiocb->ki_filp, kiocb, from);
	fuse_passthrough_revert(old);
	put_cred(nosuid);
	fuse_passthrough_drop_mode(file_inode(file), lower, had);

	return ret;
}

static __always_inline ssize_t
fuse_passthrough_lower_write(struct file *file, struct kiocb *kiocb,
			     struct iov_iter *from)
{
	struct fuse_file *ff = file->private_data;
	struct file *lower = kiocb->ki_filp;
	const struct cred *old;
	ssize_t ret;

	if (unlikely(file_inode(lower)->i_mode & (S_ISUID | S_ISGID)))
		return fuse_passthrough_write_suid(file, kiocb, from);

	old = fuse_passthrough_override(ff->passthrough.cred);
	ret = vfs_iocb_iter_write(lower, kiocb, from);
	fuse_passthrough_revert(old);

	return ret;
}

/* The lower file is open for large files whatever the client's is. */
static int fuse_passthrough_limit(const struct kiocb *kiocb,
				  struct iov_iter *from)
{
	loff_t pos = kiocb->ki_pos;

	if (kiocb->ki_flags & IOCB_APPEND)
		pos = i_size_read(file_inode(kiocb->ki_filp));
	if (pos >= MAX_NON_LFS)
		return -EFBIG;

	iov_iter_truncate(from, MAX_NON_LFS - pos);
	return 0;
}

/* Freeze protection of a queued write goes to whoever completes it. */
static __always_inline ssize_t
fuse_passthrough_protected_write(struct file *file, struct kiocb *kiocb,
				 struct iov_iter *from, struct super_block *sb)
{
	bool sync = is_sync_kiocb(kiocb);
	ssize_t ret;

	if (!sync)
		__sb_writers_release(sb, SB_FREEZE_WRITE);
	ret = fuse_passthrough_lower_write(file, kiocb, from);
	if (ret == -EIOCBQUEUED)
		return ret;
	if (!sync)
		__sb_writers_acquired(sb, SB_FREEZE_WRITE);
	sb_end_write(sb);

	return ret;
}

/* Whatever there is to do before.  After an error no lock is held. */
static noinline int fuse_passthrough_prepare_write(struct file *file,
						   struct kiocb *kiocb,
						   struct iov_iter *from,
						   unsigned int takes)
{
	struct fuse_file *ff = file->private_data;
	struct inode *inode = file_inode(file);
	int err = 0;

	if (mapping_mapped(inode->i_mapping)) {
		err = fuse_passthrough_fault_in(kiocb, from, WRITE);
		if (err)
			return err;
	}

	if (!fuse_passthrough_lock(inode, kiocb))
		return -EAGAIN;

	if (fuse_passthrough_cached(inode))
		err = fuse_passthrough_clean(inode, kiocb, iov_iter_count(from),
					     WRITE);
	if (!err && (takes & FUSE_PASSTHROUGH_LIMITED))
		err = fuse_passthrough_limit(kiocb, from);
	if (err) {
		fuse_passthrough_unlock(inode, kiocb);
		return err;
	}

	if (fuse_passthrough_appends_here(kiocb))
		kiocb->ki_pos = i_size_read(file_inode(kiocb->ki_filp));
	if (takes & FUSE_PASSTHROUGH_FIRST)
		fuse_passthrough_begin_writing(inode, ff);
	return 0;
}

/* A synchronous one may have failed after the data was in the lower file. */
static noinline void fuse_passthrough_failed_write(struct inode *inode,
						   const struct kiocb *kiocb,
						   ssize_t ret)
{
	bool append = kiocb->ki_flags & IOCB_APPEND;

	if (ret && ret != -EAGAIN && ret != -EIOCBQUEUED)
		fuse_passthrough_end_write(inode, kiocb->ki_filp,
					   append ? 0 : kiocb->ki_pos,
					   LLONG_MAX);
}

static void fuse_passthrough_wait_thaw(struct file *lower)
{
	file_start_write(lower);
	file_end_write(lower);
}

/*
 * With locks held freeze protection is only tried, see the rule at the top.
 * Whoever has more of them passes @frozen: it is set, and -EAGAIN returned, where
 * the caller is to wait for a thaw and come back.
 */
static __always_inline ssize_t
__fuse_passthrough_write(struct file *file, struct kiocb *kiocb,
			 struct iov_iter *from, bool *frozen)
{
	struct fuse_file *ff = file->private_data;
	struct inode *inode = file_inode(file);
	struct file *lower = kiocb->ki_filp;
	struct super_block *sb = file_inode(lower)->i_sb;
	unsigned int takes;
	ssize_t ret;

	/* Pairs with the first write through this open. */
	takes = smp_load_acquire(&ff->passthrough_write);
again:
	if (unlikely(takes || mapping_mapped(inode->i_mapping) ||
		     fuse_passthrough_cached(inode))) {
		ret = fuse_passthrough_prepare_write(file, kiocb, from, takes);
		if (ret)
			return ret;
	}

	if (unlikely(!sb_start_write_trylock(sb))) {
		fuse_passthrough_unlock(inode, kiocb);
		if (frozen)
			*frozen = true;
		if (frozen || (kiocb->ki_flags & IOCB_NOWAIT))
			return -EAGAIN;
		fuse_passthrough_wait_thaw(lower);
		goto again;
	}

	ret = fuse_passthrough_protected_write(file, kiocb, from, sb);
	fuse_passthrough_touch(inode);
	if (unlikely(ret <= 0))
		fuse_passthrough_failed_write(inode, kiocb, ret);
	else if (!fuse_passthrough_write_is_done(inode, kiocb->ki_pos))
		fuse_passthrough_end_write(inode, lower, kiocb->ki_pos - ret,
					   kiocb->ki_pos);
	if (unlikely(takes & FUSE_PASSTHROUGH_LOCKED))
		fuse_passthrough_unlock(inode, kiocb);
	return ret;
}

static noinline ssize_t fuse_passthrough_write(struct file *file,
					       struct kiocb *kiocb,
					       struct iov_iter *from,
					       bool *frozen)
{
	return __fuse_passthrough_write(file, kiocb, from, frozen);
}

/* Asynchronous direct I/O */

static struct fuse_passthrough_aio *fuse_passthrough_take_spare(void)
{
	struct fuse_passthrough_spares *spares;
	struct fuse_passthrough_aio *aio;
	unsigned long flags;

	local_irq_save(flags);
	spares = this_cpu_ptr(&fuse_passthrough_spares);
	aio = spares->first;
	if (aio) {
		spares->first = aio->next;
		spares->count--;
	}
	local_irq_restore(flags);

	return aio;
}

/* False if there are enough; KASAN is to see each end of use. */
static bool fuse_passthrough_keep_spare(struct fuse_passthrough_aio *aio)
{
	struct fuse_passthrough_spares *spares;
	unsigned long flags;
	bool keep;

	local_irq_save(flags);
	spares = this_cpu_ptr(&fuse_passthrough_spares);
	keep = !IS_ENABLED(CONFIG_KASAN) &&
		spares->count < FUSE_PASSTHROUGH_SPARES_MAX;
	if (keep) {
		aio->next = spares->first;
		spares->first = aio;
		spares->count++;
	}
	local_irq_restore(flags);

	return keep;
}

static void fuse_passthrough_free_spares(void)
{
	int cpu;

	for_each_possible_cpu(cpu) {
		struct fuse_passthrough_spares *spares =
			per_cpu_ptr(&fuse_passthrough_spares, cpu);

		while (spares->first) {
			struct fuse_passthrough_aio *aio = spares->first;

			spares->first = aio->next;
			kmem_cache_free(fuse_passthrough_aio_cachep, aio);
		}
	}
}

static void fuse_passthrough_aio_put(struct fuse_passthrough_aio *aio)
{
	if (refcount_dec_and_test(&aio->count) &&
	    !fuse_passthrough_keep_spare(aio))
		kmem_cache_free(fuse_passthrough_aio_cachep, aio);
}

/* The client's file, and with it the lower one, may go with its iocb. */
static void fuse_passthrough_aio_end(struct fuse_passthrough_aio *aio, long res)
{
	struct kiocb *client = aio->client;

	client->ki_pos = aio->kiocb.ki_pos;
	fuse_passthrough_aio_put(aio);
	client->ki_complete(client, res);
}

/* Where an append landed, or an error hit, the lower file system knows. */
static void fuse_passthrough_aio_work(struct work_struct *work)
{
	struct fuse_passthrough_aio *aio =
		container_of(work, struct fuse_passthrough_aio, work);
	struct inode *inode = file_inode(aio->client->ki_filp);
	bool all = (aio->kiocb.ki_flags & IOCB_APPEND) || aio->res < 0;

	/* The call that NOWAIT was about is over. */
	aio->kiocb.ki_flags &= ~IOCB_NOWAIT;
	fuse_passthrough_lock(inode, &aio->kiocb);
	fuse_passthrough_end_write(inode, aio->kiocb.ki_filp,
				   all ? 0 : aio->start,
				   all ? LLONG_MAX : aio->start + aio->res);
	fuse_passthrough_unlock(inode, &aio->kiocb);
	fuse_passthrough_aio_end(aio, aio->res);
}

/*
 * Has a write something to do that needs to sleep, or fi->lock?  On 32 bits a
 * size that is being written cannot be read under an interrupt.
 */
static bool fuse_passthrough_aio_sleeps(const struct fuse_passthrough_aio *aio,
					long res)
{
	struct inode *inode = file_inode(aio->client->ki_filp);

	if (!IS_ENABLED(CONFIG_64BIT) || res < 0 ||
	    (aio->kiocb.ki_flags & IOCB_APPEND))
		return true;

	return !fuse_passthrough_write_is_done(inode, aio->start + res);
}

/* In any context, interrupts included. */
static void fuse_passthrough_aio_complete(struct kiocb *kiocb, long res)
{
	struct fuse_passthrough_aio *aio =
		container_of(kiocb, struct fuse_passthrough_aio, kiocb);
	struct inode *inode = file_inode(aio->client->ki_filp);

	if (kiocb->ki_flags & IOCB_WRITE) {
		struct super_block *sb = file_inode(kiocb->ki_filp)->i_sb;

		__sb_writers_acquired(sb, SB_FREEZE_WRITE);
		sb_end_write(sb);
		fuse_passthrough_touch(inode);
	}

	if ((kiocb->ki_flags & IOCB_WRITE) && res &&
	    fuse_passthrough_aio_sleeps(aio, res)) {
		aio->res = res;
		INIT_WORK(&aio->work, fuse_passthrough_aio_work);
		queue_work(get_fuse_conn(inode)->passthrough_wq, &aio->work);
		return;
	}
	fuse_passthrough_aio_end(aio, res);
}

static struct fuse_passthrough_aio *fuse_passthrough_aio_alloc(bool nowait)
{
	struct fuse_passthrough_aio *aio = fuse_passthrough_take_spare();

	if (aio)
		return aio;
	return kmem_cache_alloc(fuse_passthrough_aio_cachep,
				nowait ? GFP_NOWAIT | __GFP_NOWARN :
					 GFP_KERNEL);
}

static ssize_t fuse_passthrough_aio(struct kiocb *iocb, struct file *lower,
				    int flags, struct iov_iter *iter, int rw)
{
	bool nowait = flags & IOCB_NOWAIT;
	struct fuse_passthrough_aio *aio;
	ssize_t ret;

	aio = fuse_passthrough_aio_alloc(nowait);
	if (!aio)
		return nowait ? -EAGAIN : -ENOMEM;

	/* Nobody will poll for it. */
	flags &= ~IOCB_HIPRI;
	/* Not every submitter says so. */
	if (rw == WRITE)
		flags |= IOCB_WRITE;
	aio->kiocb = fuse_passthrough_kiocb(iocb, lower, flags);
	aio->kiocb.ki_complete = fuse_passthrough_aio_complete;
	aio->client = iocb;
	aio->start = iocb->ki_pos;
	refcount_set(&aio->count, 2);

	if (rw == READ)
		ret = fuse_passthrough_read(iocb->ki_filp, &aio->kiocb, iter);
	else
		ret = fuse_passthrough_write(iocb->ki_filp, &aio->kiocb, iter,
					     NULL);

	/* What was not queued will not be completed by a callback. */
	if (ret != -EIOCBQUEUED) {
		iocb->ki_pos = aio->kiocb.ki_pos;
		fuse_passthrough_aio_put(aio);
	}
	fuse_passthrough_aio_put(aio);
	return ret;
}

/* File operations */

/*
 * Buffered I/O completes before it returns, whatever the client's iocb could
 * do; only direct I/O needs an iocb that outlives the call.
 */
static bool fuse_passthrough_is_async(struct kiocb *iocb)
{
	return (iocb->ki_flags & IOCB_DIRECT) && !is_sync_kiocb(iocb);
}

static __always_inline ssize_t fuse_passthrough_sync(struct kiocb *iocb,
						     struct file *lower,
						     int flags,
						     struct iov_iter *iter,
						     int rw)
{
	struct kiocb kiocb = fuse_passthrough_kiocb(iocb, lower, flags);
	ssize_t ret;

	if (rw == READ)
		ret = fuse_passthrough_read(iocb->ki_filp, &kiocb, iter);
	else
		ret = __fuse_passthrough_write(iocb->ki_filp, &kiocb, iter,
					       NULL);
	iocb->ki_pos = kiocb.ki_pos;
	return ret;
}

static __always_inline ssize_t fuse_passthrough_rw(struct kiocb *iocb,
						   struct iov_iter *iter,
						   int rw)
{
	struct fuse_file *ff = iocb->ki_filp->private_data;
	struct file *lower = ff->passthrough.lower;
	int flags = fuse_passthrough_flags(iocb, lower, rw);
	int err;

	if (fuse_is_bad(file_inode(iocb->ki_filp)))
		return -EIO;

	err = fuse_passthrough_able(lower, flags);
	if (err)
		return err;

	if (fuse_passthrough_is_async(iocb))
		return fuse_passthrough_aio(iocb, lower, flags, iter, rw);
	return fuse_passthrough_sync(iocb, lower, flags, iter, rw);
}

static ssize_t fuse_passthrough_read_iter(struct kiocb *iocb,
					  struct iov_iter *to)
{
	return fuse_passthrough_rw(iocb, to, READ);
}

static ssize_t fuse_passthrough_write_iter(struct kiocb *iocb,
					   struct iov_iter *from)
{
	return fuse_passthrough_rw(iocb, from, WRITE);
}

/* What the actor is called for; @frozen: it met a frozen lower file system. */
struct fuse_passthrough_splice {
	struct file *file;
	bool frozen;
};

static int fuse_passthrough_splice_actor(struct pipe_inode_info *pipe,
					 struct pipe_buffer *buf,
					 struct splice_desc *sd)
{
	struct fuse_passthrough_splice *splice = sd->u.data;
	struct file *file = splice->file;
	struct fuse_file *ff = file->private_data;
	struct file *lower = ff->passthrough.lower;
	struct bio_vec bvec = {
		.bv_page = buf->page,
		.bv_offset = buf->offset,
		.bv_len = sd->len,
	};
	struct kiocb iocb, kiocb;
	struct iov_iter from;
	int flags, err;
	ssize_t ret;

	init_sync_kiocb(&iocb, file);
	iocb.ki_pos = sd->pos;
	flags = fuse_passthrough_flags(&iocb, lower, WRITE);
	err = fuse_passthrough_able(lower, flags);
	if (err)
		return err;

	kiocb = fuse_passthrough_kiocb(&iocb, lower, flags);
	iov_iter_bvec(&from, ITER_SOURCE, &bvec, 1, sd->len);
	ret = fuse_passthrough_write(file, &kiocb, &from, &splice->frozen);
	/* An append went elsewhere; the caller adds what was written. */
	if (ret > 0)
		sd->pos = kiocb.ki_pos - ret;
	return ret;
}

/*
 * A splice to the lower file system itself takes its freeze protection before
 * the pipe's lock: do not wait for a thaw with the pipe locked, as the generic
 * way would.
 */
static ssize_t fuse_passthrough_splice_write(struct pipe_inode_info *pipe,
					     struct file *file, loff_t *ppos,
					     size_t len, unsigned int flags)
{
	struct fuse_file *ff = file->private_data;
	struct fuse_passthrough_splice splice = { .file = file };
	struct splice_desc sd = {
		.total_len = len,
		.flags = flags,
		.pos = *ppos,
		.u.data = &splice,
	};
	ssize_t ret;

	if (fuse_is_bad(file_inode(file)))
		return -EIO;

	for (;;) {
		splice.frozen = false;
		pipe_lock(pipe);
		ret = __splice_from_pipe(pipe, &sd,
					 fuse_passthrough_splice_actor);
		pipe_unlock(pipe);
		if (ret >= 0 || !splice.frozen)
			break;
		fuse_passthrough_wait_thaw(ff->passthrough.lower);
	}

	if (ret > 0)
		*ppos = sd.pos;
	return ret;
}

/* What do_mmap() checks on the outer inode, on the inode that gets mapped. */
static int fuse_passthrough_may_mmap(const struct file *file,
				     const struct file *lower,
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
 * The mapping is one of the lower file and pins that, not the FUSE file.  Its
 * writes are seen by nobody here: from the first writable one on, nothing
 * cached of the inode is trusted.
 */
static int fuse_passthrough_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct fuse_file *ff = file->private_data;
	struct file *lower = ff->passthrough.lower;
	struct inode *inode = file_inode(file);
	const struct cred *old;
	int err;

	if (fuse_is_bad(inode))
		return -EIO;

	err = fuse_passthrough_may_mmap(file, lower, vma);
	if (err)
		return err;

	if ((vma->vm_flags & (VM_SHARED | VM_MAYWRITE)) ==
	    (VM_SHARED | VM_MAYWRITE)) {
		set_bit(FUSE_I_PASSTHROUGH_WRITTEN, &get_fuse_inode(inode)->state);
		set_bit(FUSE_I_PASSTHROUGH_MAPPED, &get_fuse_inode(inode)->state);
	}

	if (fuse_passthrough_cached(inode)) {
		err = fuse_passthrough_flush(inode, 0, LLONG_MAX);
		if (err)
			return err;
	}

	vma_set_file(vma, lower);
	old = fuse_passthrough_override(ff->passthrough.cred);
	err = call_mmap(lower, vma);
	fuse_passthrough_revert(old);
	fuse_passthrough_accessed(inode);

	return err;
}

/*
 * Without a server, or with one that does nothing on FSYNC, what passthrough
 * wrote can still be made durable.
 */
static int fuse_passthrough_fsync(struct file *file, loff_t start, loff_t end,
				  int datasync)
{
	struct fuse_file *ff = file->private_data;
	struct fuse_conn *fc = ff->fm->fc;
	const struct cred *old;
	int err;

	err = fuse_file_operations.fsync(file, start, end, datasync);
	if (err == -ENOTCONN || err == -ECONNABORTED) {
		if (READ_ONCE(fc->connected))
			return err;
	} else if (err || !fc->no_fsync) {
		return err;
	}

	old = fuse_passthrough_override(ff->passthrough.cred);
	err = vfs_fsync_range(ff->passthrough.lower, start, end, datasync);
	fuse_passthrough_revert(old);
	return err;
}

static int fuse_passthrough_fadvise(struct file *file, loff_t offset,
				    loff_t len, int advice)
{
	struct fuse_file *ff = file->private_data;
	const struct cred *old;
	int err;

	old = fuse_passthrough_override(ff->passthrough.cred);
	err = vfs_fadvise(ff->passthrough.lower, offset, len, advice);
	fuse_passthrough_revert(old);
	return err;
}

static void fuse_passthrough_show_fdinfo(struct seq_file *m, struct file *file)
{
	const struct fuse_file *ff = file->private_data;
	struct file *lower = ff->passthrough.lower;

	seq_puts(m, "passthrough-lower:\t");
	seq_file_path(m, lower, " \t\n\\");
	seq_printf(m, "\npassthrough-mode:\t%s%s\n",
		   lower->f_mode & FMODE_READ ? "r" : "",
		   lower->f_mode & FMODE_WRITE ? "w" : "");
	seq_printf(m, "passthrough-attach:\t%s\n",
		   ff->passthrough_by_id ? "id" : "request");
}

/* How many passthrough files are open, for the control file system */
static ssize_t fuse_passthrough_ctl_read(struct file *file, char __user *buf,
					 size_t len, loff_t *ppos)
{
	const struct fuse_conn *fc;
	char tmp[16];
	int size;

	/* One count for a reader who takes it byte by byte. */
	if (!*ppos) {
		long count = -1;

		/* A connection that goes takes its pointer from here first. */
		mutex_lock(&fuse_mutex);
		fc = file_inode(file)->i_private;
		if (fc)
			count = atomic_read(&fc->passthrough_files);
		mutex_unlock(&fuse_mutex);
		if (count < 0)
			return 0;
		file->private_data = (void *)count;
	}

	size = scnprintf(tmp, sizeof(tmp), "%ld\n", (long)file->private_data);

	return simple_read_from_buffer(buf, len, ppos, tmp, size);
}

static const struct file_operations fuse_passthrough_ctl_ops = {
	.open = nonseekable_open,
	.read = fuse_passthrough_ctl_read,
	.llseek = no_llseek,
};

/**
 * fuse_passthrough_ctl_add - show a connection's passthrough files
 * @fc: the connection
 * @parent: its directory in the control file system
 *
 * Called before any other file is added there.  The dentry is not in
 * fc->ctl_dentry, whose growth would move what plain FUSE uses.
 *
 * Context: fuse_mutex is held
 * Return: false if there is no memory
 */
bool fuse_passthrough_ctl_add(struct fuse_conn *fc, struct dentry *parent)
{
	struct dentry *dentry = d_alloc_name(parent, "passthrough");
	struct inode *inode = dentry ? new_inode(parent->d_sb) : NULL;

	fc->passthrough_ctl = NULL;
	if (!inode) {
		dput(dentry);
		return false;
	}

	inode->i_ino = get_next_ino();
	inode->i_mode = S_IFREG | 0400;
	inode->i_uid = fc->user_id;
	inode->i_gid = fc->group_id;
	inode->i_atime = current_time(inode);
	inode->i_mtime = inode->i_atime;
	inode->i_ctime = inode->i_atime;
	inode->i_fop = &fuse_passthrough_ctl_ops;
	inode->i_private = fc;
	d_add(dentry, inode);
	fc->passthrough_ctl = dentry;
	return true;
}

/**
 * fuse_passthrough_ctl_remove - undo fuse_passthrough_ctl_add()
 * @fc: the connection; one without a directory has nothing to undo
 *
 * Context: fuse_mutex is held
 */
void fuse_passthrough_ctl_remove(struct fuse_conn *fc)
{
	struct dentry *dentry = fc->passthrough_ctl;

	/* What is here is older than a control file system that has gone. */
	if (!fc->ctl_ndents || !dentry)
		return;

	d_inode(dentry)->i_private = NULL;
	dput(dentry);
	fc->passthrough_ctl = NULL;
}

/* Set-up and tear-down */

/**
 * fuse_passthrough_init_conn - set up a new connection
 * @fc: the connection, zeroed
 */
void fuse_passthrough_init_conn(struct fuse_conn *fc)
{
	xa_init_flags(&fc->backing, XA_FLAGS_ALLOC1);
	fc->backing_next = 1;
	atomic_set(&fc->passthrough_files, 0);
}

/**
 * fuse_passthrough_free_conn - drop the backing ids that are left
 * @fc: a connection that nobody uses any more
 *
 * Context: may sleep.
 */
void fuse_passthrough_free_conn(struct fuse_conn *fc)
{
	struct fuse_backing *fb;
	unsigned long id;

	xa_for_each(&fc->backing, id, fb) {
		fuse_backing_put(fb);
		cond_resched();
	}
	xa_destroy(&fc->backing);
	if (fc->passthrough_wq)
		destroy_workqueue(fc->passthrough_wq);
}

static void __init fuse_passthrough_init_fops(void)
{
	fuse_passthrough_mmap_fops = fuse_file_operations;
	fuse_passthrough_mmap_fops.mmap = fuse_passthrough_mmap;
	fuse_passthrough_mmap_fops.show_fdinfo = fuse_passthrough_show_fdinfo;

	/* No poll: it would ask the server, and a regular file is ready. */
	fuse_passthrough_fops = fuse_passthrough_mmap_fops;
	fuse_passthrough_fops.poll = NULL;
	fuse_passthrough_fops.read_iter = fuse_passthrough_read_iter;
	fuse_passthrough_fops.write_iter = fuse_passthrough_write_iter;
	fuse_passthrough_fops.splice_write = fuse_passthrough_splice_write;
	fuse_passthrough_fops.fsync = fuse_passthrough_fsync;
	fuse_passthrough_fops.fadvise = fuse_passthrough_fadvise;
}

/**
 * fuse_passthrough_init - set up the engine
 *
 * Return: 0 or -ENOMEM
 */
int __init fuse_passthrough_init(void)
{
	fuse_passthrough_init_fops();

	fuse_passthrough_aio_cachep = KMEM_CACHE(fuse_passthrough_aio, 0);
	return fuse_passthrough_aio_cachep ? 0 : -ENOMEM;
}

/**
 * fuse_passthrough_cleanup - undo fuse_passthrough_init()
 */
void fuse_passthrough_cleanup(void)
{
	fuse_passthrough_free_spares();
	kmem_cache_destroy(fuse_passthrough_aio_cachep);
}
