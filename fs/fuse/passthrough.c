// SPDX-License-Identifier: GPL-2.0
/*
 * FUSE passthrough: I/O of an open goes straight to a lower file.
 *
 * A server attaches a lower file to an open that it is about to answer, either
 * to the request (FUSE_DEV_IOC_PASSTHROUGH_OPEN) or by a backing id in the
 * reply (FUSE_DEV_IOC_BACKING_OPEN, FOPEN_PASSTHROUGH).  In both cases the
 * struct fuse_file of the open then owns the lower file, and I/O takes the same
 * code path.  Or the server attaches a lower path to an inode
 * (FUSE_DEV_IOC_PASSTHROUGH_INODE), which serves operations on the inode
 * itself, see passthrough/path.c.
 *
 * The parts of the engine are in passthrough/, see passthrough_i.h there.
 * They keep these rules:
 *
 * - Only lower calls run under the server's credentials.  A lower call that
 *   changes data runs without CAP_FSETID, so that a client gains no right to
 *   keep setuid and setgid bits.  I/O takes no reference to the credentials:
 *   the struct fuse_file holds one at least until the client's file is closed,
 *   after the last call.
 * - Lock order: pipe lock, FUSE inode lock, lower freeze protection, locks of
 *   the lower file system.  No task waits for the server with freeze protection
 *   held: the server may need it to answer.  No task waits for a thaw with a
 *   lock held: a splice to the lower file system holds up the freeze while it
 *   waits for the pipe, and the owner of the pipe may wait for the inode lock.
 *   (Not covered: locks that a stacked lower file system takes below, and
 *   locks that the server takes before it accepts dirty pages.)
 * - FUSE's own page cache of the inode is clean over a range before the lower
 *   file is read or written there, and empty over that range after a write.
 * - An inode with GETATTR attached has the attributes of the lower inode: mode,
 *   owner and size are read there when they are needed, and attributes in
 *   replies of the server are ignored.
 * - Passthrough never raises the size beyond that of the lower file.
 *
 * See Documentation/filesystems/fuse-passthrough.rst for what this means to
 * servers and clients.
 */

#include "fuse_i.h"
#include "passthrough/passthrough_i.h"

#include <linux/file.h>

#include <trace/events/fuse_passthrough.h>

/**
 * fuse_passthrough_offer - INIT flag to offer to the server of a connection
 * @fc: the connection
 *
 * A virtiofs server has no descriptors in this kernel.
 *
 * Return: FUSE_PASSTHROUGH or 0
 */
u64 fuse_passthrough_offer(const struct fuse_conn *fc)
{
	return fc->iq.ops == &fuse_dev_fiq_ops ? FUSE_PASSTHROUGH : 0;
}

/**
 * fuse_passthrough_negotiate - enable passthrough as the server asks in INIT
 * @fm: the mount
 * @out: the server's reply, with FUSE_PASSTHROUGH set
 *
 * If the depth is too large passthrough stays off, as in Linux 6.9 and later:
 * the first ioctl of the server then fails with EPERM.
 */
void fuse_passthrough_negotiate(struct fuse_mount *fm,
				const struct fuse_init_out *out)
{
	struct fuse_conn *fc = fm->fc;
	unsigned int depth = out->max_stack_depth ?: 1;

	if (!fuse_passthrough_offer(fc))
		return;

	if (depth > FILESYSTEM_MAX_STACK_DEPTH) {
		fuse_lower_refuse(fc, "max_stack_depth too large", -EINVAL);
		return;
	}

	fc->max_stack_depth = depth;
	fm->sb->s_stack_depth = depth;
	fc->passthrough = 1;
}

/**
 * fuse_passthrough_request_free - release a lower file that no open took
 * @req: a request that is about to be freed
 *
 * Context: any in which a request may be freed.
 */
void fuse_passthrough_request_free(struct fuse_req *req)
{
	fuse_lower_path_put(req->lower_path);
	req->lower_path = NULL;
	if (!req->passthrough.lower)
		return;

	trace_fuse_passthrough_release(req->fm->fc->dev, req->in.h.nodeid,
				       file_inode(req->passthrough.lower),
				       FUSE_LOWER_BY_REQUEST);
	fuse_lower_drop(&req->passthrough);
}

/**
 * fuse_passthrough_take - move the lower file from a request to its opener
 * @ff: the opener's struct fuse_file, not yet visible to other tasks
 * @req: the finished request
 * @err: result of the open; after an error the lower file is released here,
 *	not later, when the server's task drops the request
 *
 * Only the opener calls this, after the request has left its queue: no attach
 * can follow.
 */
void fuse_passthrough_take(struct fuse_file *ff, struct fuse_req *req, int err)
{
	if (err) {
		fuse_passthrough_request_free(req);
		return;
	}

	ff->lower_path = fuse_passthrough_take_path(req, 0);
	ff->passthrough = req->passthrough;
	req->passthrough.lower = NULL;
	req->passthrough.creds = NULL;
	if (ff->passthrough.lower)
		atomic_inc(&ff->fm->fc->passthrough_files);
}

/**
 * fuse_passthrough_ioctl - ioctls of /dev/fuse that concern passthrough
 * @fud: the device, NULL before a mount
 * @cmd: the ioctl
 * @arg: its argument, the same for 32-bit servers
 *
 * Context: a task of the server; its credentials are taken here.
 * Return: depends on @cmd, or a negative errno; -ENOTTY for other ioctls
 */
long fuse_passthrough_ioctl(struct fuse_dev *fud, unsigned int cmd,
			    unsigned long arg)
{
	void __user *argp = (void __user *)arg;

	switch (cmd) {
	case FUSE_DEV_IOC_PASSTHROUGH_OPEN:
	case FUSE_DEV_IOC_PASSTHROUGH_INODE:
	case FUSE_DEV_IOC_BACKING_OPEN:
	case FUSE_DEV_IOC_BACKING_CLOSE:
		break;
	default:
		return -ENOTTY;
	}

	if (!fud)
		return -EPERM;
	if (!fud->fc->passthrough)
		return fuse_lower_refuse(fud->fc, "not negotiated", -EPERM);

	switch (cmd) {
	case FUSE_DEV_IOC_PASSTHROUGH_OPEN:
		return fuse_lower_attach(fud->fc, argp);
	case FUSE_DEV_IOC_PASSTHROUGH_INODE:
		return fuse_lower_inode_ioctl(fud->fc, argp);
	case FUSE_DEV_IOC_BACKING_OPEN:
		return fuse_lower_id_open(fud->fc, argp);
	default:
		return fuse_lower_id_close(fud->fc, argp);
	}
}

/* Read a file of fusectl: the number that @count returns for a connection */
static ssize_t ctl_read(struct file *file, char __user *buf, size_t len,
			loff_t *ppos, long (*count)(const struct fuse_conn *fc))
{
	const struct fuse_conn *fc;
	char tmp[16];
	int size;

	/* One count for a task that reads byte by byte. */
	if (!*ppos) {
		long n = -1;

		/* fuse_ctl_remove_conn() clears it before @fc is freed. */
		mutex_lock(&fuse_mutex);
		fc = file_inode(file)->i_private;
		if (fc)
			n = count(fc);
		mutex_unlock(&fuse_mutex);
		if (n < 0)
			return 0;
		file->private_data = (void *)n;
	}

	size = scnprintf(tmp, sizeof(tmp), "%ld\n", (long)file->private_data);

	return simple_read_from_buffer(buf, len, ppos, tmp, size);
}

static long count_files(const struct fuse_conn *fc)
{
	return atomic_read(&fc->passthrough_files);
}

static long count_inodes(const struct fuse_conn *fc)
{
	return READ_ONCE(fc->passthrough_inodes);
}

static ssize_t ctl_read_files(struct file *file, char __user *buf,
			      size_t len, loff_t *ppos)
{
	return ctl_read(file, buf, len, ppos, count_files);
}

static ssize_t ctl_read_inodes(struct file *file, char __user *buf,
			       size_t len, loff_t *ppos)
{
	return ctl_read(file, buf, len, ppos, count_inodes);
}

const struct file_operations fuse_passthrough_ctl_ops = {
	.open = nonseekable_open,
	.read = ctl_read_files,
};

const struct file_operations fuse_passthrough_inodes_ctl_ops = {
	.open = nonseekable_open,
	.read = ctl_read_inodes,
};

/**
 * fuse_passthrough_init_conn - set up a new connection
 * @fc: the connection, zeroed
 */
void fuse_passthrough_init_conn(struct fuse_conn *fc)
{
	fuse_lower_init_ids(fc);
	spin_lock_init(&fc->lower_lock);
	INIT_LIST_HEAD(&fc->lower_paths);
	atomic_set(&fc->passthrough_files, 0);
}

/**
 * fuse_passthrough_free_conn - free the passthrough state of a connection
 * @fc: a connection that is no longer in use
 *
 * Context: may sleep.
 */
void fuse_passthrough_free_conn(struct fuse_conn *fc)
{
	fuse_lower_free_ids(fc);
	fuse_lower_creds_put(rcu_dereference_protected(fc->lower_creds, true));
	fuse_lower_free_queue(fc);
}

/**
 * fuse_passthrough_init - set up the engine
 *
 * Return: 0 or -ENOMEM
 */
int __init fuse_passthrough_init(void)
{
	fuse_lower_init_fops();
	return fuse_lower_init_aio();
}

/**
 * fuse_passthrough_cleanup - undo fuse_passthrough_init()
 */
void fuse_passthrough_cleanup(void)
{
	fuse_lower_exit_aio();
}
