// SPDX-License-Identifier: GPL-2.0
/*
 * FUSE passthrough: the completion of asynchronous direct I/O.
 *
 * The client's iocb is completed last.  Work that the context of the lower
 * file's completion does not allow goes to the connection's workqueue.
 */

#include "../fuse_i.h"
#include "passthrough_i.h"

#include <linux/fsnotify.h>
#include <linux/pagemap.h>

/**
 * struct fuse_lower_aio - an asynchronous direct I/O on a lower file
 * @kiocb: the lower file's iocb
 * @client: the client's iocb; it keeps the client's file open, and with it the
 *	lower file, until it is completed
 * @start: first byte; some network file systems do not advance ki_pos.  After
 *	completion: where @work continues
 * @end: end of the range for @work
 * @res: result for the client, kept for @work
 * @count: references of submitter and completion: lower file systems use their
 *	iocb even after they have queued it
 * @delay: in jiffies, until @work tries again
 * @work: for completions that need process context
 */
struct fuse_lower_aio {
	struct kiocb kiocb;
	struct kiocb *client;
	loff_t start;
	loff_t end;
	long res;
	refcount_t count;
	unsigned int delay;
	struct delayed_work work;
};

static struct kmem_cache *aio_cachep;

static void put_aio(struct fuse_lower_aio *aio)
{
	if (refcount_dec_and_test(&aio->count))
		kmem_cache_free(aio_cachep, aio);
}

/* The completion may release the client's file, and with it the lower file. */
static void end_aio(struct fuse_lower_aio *aio, long res)
{
	struct kiocb *client = aio->client;

	client->ki_pos = aio->kiocb.ki_pos;
	put_aio(aio);
	client->ki_complete(client, res);
}

static bool try_end_aio(struct fuse_lower_aio *aio)
{
	struct fuse_file *ff = aio->client->ki_filp->private_data;
	struct inode *inode = file_inode(aio->client->ki_filp);
	enum fuse_lower_lock lock = LOWER_UNLOCKED;
	bool cached, done;

	/* An append already has its position: no exclusive lock. */
	cached = READ_ONCE(inode->i_data.nrpages);
	if (cached || (READ_ONCE(ff->passthrough_write) & LOWER_SHARES))
		lock = LOWER_SHARED;
	if (!fuse_lower_trylock(inode, lock))
		return false;

	done = !cached || fuse_lower_try_drop(inode->i_mapping, &aio->start,
					      aio->end);
	if (done)
		fuse_lower_raise_size(inode, aio->kiocb.ki_filp, aio->end);
	fuse_lower_unlock(inode, lock);
	return done;
}

static void queue_aio(struct fuse_lower_aio *aio)
{
	struct inode *inode = file_inode(aio->client->ki_filp);

	queue_delayed_work(READ_ONCE(get_fuse_conn(inode)->passthrough_wq),
			   &aio->work, aio->delay);
}

/*
 * The work never sleeps for a server, so no server can block a worker: waiting
 * costs only a timer.  While a lock stays busy the delay grows.
 */
static void aio_work(struct work_struct *work)
{
	struct fuse_lower_aio *aio =
		container_of(work, struct fuse_lower_aio, work.work);

	fuse_lower_touch(file_inode(aio->client->ki_filp));
	if (try_end_aio(aio)) {
		end_aio(aio, aio->res);
		return;
	}
	aio->delay = clamp_t(unsigned int, 2 * aio->delay, 1, HZ);
	queue_aio(aio);
}

/*
 * Does a completed write need page locks or fi->lock?  On 32 bits an interrupt
 * cannot read a size whose update it has interrupted.
 */
static bool needs_work(const struct fuse_lower_aio *aio, long res)
{
	struct inode *inode = file_inode(aio->client->ki_filp);

	if (!fuse_lower_touched(inode) ||
	    !IS_ENABLED(CONFIG_64BIT) || res < 0 ||
	    (aio->kiocb.ki_flags & IOCB_APPEND))
		return true;

	return !fuse_lower_write_is_done(inode, aio->start + res);
}

/* Called in any context, including interrupts */
static void complete_aio(struct kiocb *kiocb, long res)
{
	struct fuse_lower_aio *aio =
		container_of(kiocb, struct fuse_lower_aio, kiocb);

	if (kiocb->ki_flags & IOCB_WRITE) {
		struct super_block *sb = file_inode(kiocb->ki_filp)->i_sb;

		__sb_writers_acquired(sb, SB_FREEZE_WRITE);
		sb_end_write(sb);
	}

	if ((kiocb->ki_flags & IOCB_WRITE) && res && needs_work(aio, res)) {
		/* In these cases only the lower file system knows the range. */
		bool all = (kiocb->ki_flags & IOCB_APPEND) || res < 0;

		aio->end = all ? LLONG_MAX : aio->start + res;
		if (all)
			aio->start = 0;
		aio->res = res;
		aio->delay = 0;
		INIT_DELAYED_WORK(&aio->work, aio_work);
		queue_aio(aio);
		return;
	}
	end_aio(aio, res);
}

/*
 * Made at the first asynchronous write: a mount alone gets no kernel thread.
 * No system workqueue: the pages of one huge write would delay other works.  No
 * rescuer: the queue of a loop device, which may wait for these works, has none
 * either.
 */
static int make_queue(struct fuse_conn *fc, bool nowait)
{
	struct workqueue_struct *wq;

	if (nowait)
		return -EAGAIN;

	wq = alloc_workqueue("fuse-passthrough-%u", WQ_UNBOUND, 1,
			     MINOR(fc->dev));
	if (!wq)
		return -ENOMEM;
	if (cmpxchg(&fc->passthrough_wq, NULL, wq))
		destroy_workqueue(wq);
	return 0;
}

/**
 * fuse_lower_new_aio - make an iocb for an asynchronous direct I/O
 * @client: the client's iocb, which pins its file and with it @lower
 * @lower: the lower file
 * @flags: IOCB_* of the lower call
 * @rw: READ or WRITE
 *
 * The caller submits the iocb and then calls fuse_lower_submitted_aio().
 *
 * Context: may sleep unless @flags contain IOCB_NOWAIT.
 * Return: the lower file's iocb, or ERR_PTR(-EAGAIN) if this would have to
 * sleep, or ERR_PTR(-ENOMEM)
 */
struct kiocb *fuse_lower_new_aio(struct kiocb *client, struct file *lower,
				 int flags, int rw)
{
	struct fuse_conn *fc = get_fuse_conn(file_inode(client->ki_filp));
	bool nowait = flags & IOCB_NOWAIT;
	struct fuse_lower_aio *aio;
	int err;

	if (rw == WRITE && unlikely(!READ_ONCE(fc->passthrough_wq))) {
		err = make_queue(fc, nowait);
		if (err)
			return ERR_PTR(err);
	}

	aio = kmem_cache_alloc(aio_cachep, nowait ? GFP_NOWAIT | __GFP_NOWARN :
						    GFP_KERNEL);
	if (!aio)
		return ERR_PTR(nowait ? -EAGAIN : -ENOMEM);

	/* This iocb is not polled for completion. */
	flags &= ~IOCB_HIPRI;
	/* Not every submitter sets it. */
	if (rw == WRITE)
		flags |= IOCB_WRITE;
	aio->kiocb = fuse_lower_kiocb(client, lower, flags);
	aio->kiocb.ki_complete = complete_aio;
	aio->client = client;
	aio->start = client->ki_pos;
	refcount_set(&aio->count, 2);

	return &aio->kiocb;
}

/**
 * fuse_lower_submitted_aio - drop the submitter's reference to an iocb
 * @kiocb: from fuse_lower_new_aio(); invalid after this
 * @ret: result of the lower call; unless it is -EIOCBQUEUED no completion
 *	follows, and the submitter owns the client's iocb again
 */
void fuse_lower_submitted_aio(struct kiocb *kiocb, ssize_t ret)
{
	struct fuse_lower_aio *aio =
		container_of(kiocb, struct fuse_lower_aio, kiocb);

	if (ret != -EIOCBQUEUED) {
		aio->client->ki_pos = kiocb->ki_pos;
		put_aio(aio);
	}
	put_aio(aio);
}

/**
 * fuse_lower_free_queue - free the workqueue of a connection, if it has one
 * @fc: a connection that is no longer in use
 *
 * No work is pending: each work completes a client's iocb, whose file pins the
 * connection.  No work of this queue calls this: in a kernel thread the last
 * fput() and the last mntput() are deferred to system works.
 */
void fuse_lower_free_queue(struct fuse_conn *fc)
{
	if (fc->passthrough_wq)
		destroy_workqueue(fc->passthrough_wq);
}

/**
 * fuse_lower_init_aio - set up asynchronous I/O
 *
 * Return: 0 or -ENOMEM
 */
int __init fuse_lower_init_aio(void)
{
	aio_cachep = KMEM_CACHE(fuse_lower_aio, 0);
	return aio_cachep ? 0 : -ENOMEM;
}

/**
 * fuse_lower_exit_aio - undo fuse_lower_init_aio()
 */
void fuse_lower_exit_aio(void)
{
	kmem_cache_destroy(aio_cachep);
}
