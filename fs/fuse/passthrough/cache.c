// SPDX-License-Identifier: GPL-2.0
/*
 * FUSE passthrough: coherence with FUSE's own page cache of the inode.
 *
 * Over a range, the cache is clean before the lower file is read or written
 * there, and empty after a write.
 */

#include "../fuse_i.h"
#include "passthrough_i.h"

#include <linux/pagemap.h>
#include <linux/pagevec.h>
#include <linux/uio.h>

/**
 * fuse_lower_wait - wait until the server has taken pages under writeback
 * @inode: a FUSE inode
 * @start: first byte
 * @end: last byte
 *
 * This includes WRITEs of temporary pages.  Errors stay recorded for fsync() by
 * the writer.
 *
 * Return: 0 or -ERESTARTSYS after a fatal signal
 */
int fuse_lower_wait(struct inode *inode, loff_t start, loff_t end)
{
	filemap_fdatawait_range_keep_errors(inode->i_mapping, start, end);

	return wait_event_killable(get_fuse_inode(inode)->page_waitq,
				   !fuse_range_is_writeback(inode,
							    start >> PAGE_SHIFT,
							    end >> PAGE_SHIFT));
}

/* Send dirty pages from @start to @end to the server, and wait. */
static int flush_range(struct inode *inode, loff_t start, loff_t end)
{
	int err;

	err = filemap_fdatawrite_range(inode->i_mapping, start, end);

	return err ?: fuse_lower_wait(inode, start, end);
}

/**
 * fuse_lower_flush - write back all dirty pages to the server
 * @inode: a FUSE inode
 *
 * Context: waits for the server
 * Return: 0 or an error of writeback
 */
int fuse_lower_flush(struct inode *inode)
{
	return flush_range(inode, 0, LLONG_MAX);
}

/* The range that I/O of @count bytes by @kiocb may read or write */
static void range_of(const struct kiocb *kiocb, size_t count,
		     loff_t *start, loff_t *end)
{
	loff_t size = i_size_read(file_inode(kiocb->ki_filp));

	*start = kiocb->ki_pos;
	*end = kiocb->ki_pos + count - 1;

	/* Dirty pages further on may extend the lower file. */
	if (*end >= size)
		*end = LLONG_MAX;
	if (kiocb->ki_flags & IOCB_APPEND) {
		*start = 0;
		*end = LLONG_MAX;
	}
}

/* A write also has to drop clean pages. */
static bool would_wait(struct inode *inode, loff_t start, loff_t end, int rw)
{
	struct address_space *mapping = inode->i_mapping;

	if (rw == WRITE && filemap_range_has_page(mapping, start, end))
		return true;
	if (rw == READ && filemap_range_needs_writeback(mapping, start, end))
		return true;

	return fuse_range_is_writeback(inode, start >> PAGE_SHIFT,
				       end >> PAGE_SHIFT);
}

/**
 * fuse_lower_clean - write back the pages that lower I/O may overlap
 * @inode: a FUSE inode
 * @kiocb: the lower file's iocb
 * @count: bytes of the I/O
 * @rw: READ or WRITE
 *
 * Context: waits for the server, unless @kiocb has IOCB_NOWAIT
 * Return: 0, -EAGAIN if it would have to wait, or an error of writeback
 */
int fuse_lower_clean(struct inode *inode,
		     const struct kiocb *kiocb, size_t count, int rw)
{
	loff_t start, end;

	if (!count)
		return 0;

	range_of(kiocb, count, &start, &end);

	if (!(kiocb->ki_flags & IOCB_NOWAIT))
		return flush_range(inode, start, end);

	return would_wait(inode, start, end, rw) ? -EAGAIN : 0;
}

/**
 * fuse_lower_fault_in - fault a buffer in before any lock is held
 * @kiocb: an iocb; IOCB_NOWAIT makes this fail
 * @iter: the buffer
 * @len: bytes of it
 * @rw: READ or WRITE
 *
 * The buffer may map FUSE's page cache of this inode.  To fill a page there the
 * server reads the lower file.  It cannot do that while the lower file system
 * holds the lower inode's lock for the client.
 *
 * Return: 0, or -EAGAIN with IOCB_NOWAIT
 */
int fuse_lower_fault_in(const struct kiocb *kiocb, const struct iov_iter *iter,
			size_t len, int rw)
{
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

/**
 * fuse_lower_trylock - fuse_lower_lock() without waiting
 * @inode: a FUSE inode
 * @lock: how
 *
 * Return: false if it would have to wait
 */
bool fuse_lower_trylock(struct inode *inode, enum fuse_lower_lock lock)
{
	switch (lock) {
	case LOWER_EXCLUSIVE:
		return inode_trylock(inode);
	case LOWER_SHARED:
		return inode_trylock_shared(inode);
	default:
		return true;
	}
}

/**
 * fuse_lower_lock - keep cached writers out for a write
 * @inode: a FUSE inode
 * @lock: how
 *
 * With FUSE_WRITEBACK_CACHE a cached write to part of a page writes back the
 * whole page, with older contents of the rest.  Such a writer holds the inode
 * lock exclusively.  Without the write-back cache only appends that are
 * positioned here need the lock.
 */
void fuse_lower_lock(struct inode *inode, enum fuse_lower_lock lock)
{
	if (lock == LOWER_EXCLUSIVE)
		inode_lock(inode);
	else if (lock == LOWER_SHARED)
		inode_lock_shared(inode);
}

/**
 * fuse_lower_unlock - undo fuse_lower_lock()
 * @inode: a FUSE inode
 * @lock: how it was locked
 */
void fuse_lower_unlock(struct inode *inode, enum fuse_lower_lock lock)
{
	if (lock == LOWER_EXCLUSIVE)
		inode_unlock(inode);
	else if (lock == LOWER_SHARED)
		inode_unlock_shared(inode);
}

/*
 * A cached writer without the write-back cache copies its data into a page,
 * unlocks the page, and holds the inode lock until the server has the data.  If
 * the page were dropped in between, a read could fill it again without the
 * data, and it would stay stale.
 */
static void drop_pages(struct inode *inode, loff_t start, loff_t end,
		       enum fuse_lower_lock held)
{
	bool lock = held == LOWER_UNLOCKED;

	if (!READ_ONCE(inode->i_data.nrpages) ||
	    !filemap_range_has_page(inode->i_mapping, start, end - 1))
		return;

	if (lock)
		fuse_lower_lock(inode, LOWER_SHARED);
	invalidate_inode_pages2_range(inode->i_mapping, start >> PAGE_SHIFT,
				      (end - 1) >> PAGE_SHIFT);
	if (lock)
		fuse_lower_unlock(inode, LOWER_SHARED);
}

/**
 * fuse_lower_end_write - drop cached pages and raise the size after a write
 * @inode: a FUSE inode
 * @lower: the lower file
 * @start: where the write began
 * @end: where it ended
 * @held: how the caller holds the inode lock
 *
 * Context: may wait for the server
 */
void fuse_lower_end_write(struct inode *inode, const struct file *lower,
			  loff_t start, loff_t end, enum fuse_lower_lock held)
{
	drop_pages(inode, start, end, held);
	fuse_lower_raise_size(inode, lower, end);
}

/*
 * A dirty page stays: it became dirty after the write was submitted, and
 * reaches the lower file later.  A locked page that is clean has no dirty PTE,
 * see fuse_page_mkwrite().  invalidate_mapping_pages() would leave pages that a
 * per-CPU list refers to.
 */
static bool try_drop_folio(struct address_space *mapping, struct folio *folio)
{
	bool wait;

	if (!folio_trylock(folio))
		return false;

	wait = folio->mapping == mapping && folio_test_writeback(folio);
	if (!wait && !folio_test_dirty(folio))
		generic_error_remove_folio(mapping, folio);
	folio_unlock(folio);
	return !wait;
}

/**
 * fuse_lower_try_drop - drop cached pages without waiting for a page
 * @mapping: of a FUSE inode
 * @start: first byte; advanced to the page that cannot be dropped yet
 * @end: where the range ends
 *
 * It waits for no page lock, whose owner may wait for the server.
 *
 * Context: may sleep, but not for a server.  The inode lock is held, see
 * drop_pages().
 * Return: false if the caller has to try again from @start
 */
bool fuse_lower_try_drop(struct address_space *mapping,
			 loff_t *start, loff_t end)
{
	pgoff_t index = *start >> PAGE_SHIFT;
	struct folio_batch batch;
	bool dropped = true;
	unsigned int i;

	folio_batch_init(&batch);
	while (dropped && filemap_get_folios(mapping, &index,
					     (end - 1) >> PAGE_SHIFT, &batch)) {
		for (i = 0; dropped && i < folio_batch_count(&batch); i++) {
			struct folio *folio = batch.folios[i];
			loff_t pos = folio_pos(folio);

			dropped = try_drop_folio(mapping, folio);
			if (!dropped)
				*start = max(*start, pos);
		}
		folio_batch_release(&batch);
		cond_resched();
	}
	return dropped;
}
