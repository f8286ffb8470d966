// SPDX-License-Identifier: GPL-2.0
/* Passthrough of an open file to its lower file, and backing ids. */

#include "passthroughfs.h"

#include <errno.h>
#include <string.h>

static void refused(const char *why)
{
	static bool said;

	count_refused();
	if (!__atomic_exchange_n(&said, true, __ATOMIC_RELAXED))
		fuse_log(FUSE_LOG_WARNING,
			 "passthroughfs: passthrough was refused (%s): ordinary I/O instead, here and whenever that happens again\n",
			 why);
}

/* Opens of an inode share an id, as kernels that attach by id require. */
static int attach_by_id(fuse_req_t req, struct handle *h,
			struct fuse_file_info *fi)
{
	struct inode *inode = h->inode;
	int id;

	pthread_mutex_lock(&inode->id_lock);
	errno = EINVAL;
	if (!inode->backing_id)
		inode->backing_id = fuse_passthrough_open(req, h->fd);
	id = inode->backing_id;
	if (id)
		inode->id_users++;
	pthread_mutex_unlock(&inode->id_lock);

	if (!id)
		return -errno;
	h->by_id = true;
	fi->backing_id = id;
	return 0;
}

void detach(fuse_req_t req, struct handle *h)
{
	struct inode *inode = h->inode;

	if (!h->by_id)
		return;
	pthread_mutex_lock(&inode->id_lock);
	if (--inode->id_users == 0) {
		fuse_passthrough_close(req, inode->backing_id);
		inode->backing_id = 0;
	}
	pthread_mutex_unlock(&inode->id_lock);
}

/*
 * The open request was interrupted.  The backing id stays with the inode for
 * the next open: closing it would need a request.
 */
void detach_lost(struct handle *h)
{
	if (!h->by_id)
		return;
	pthread_mutex_lock(&h->inode->id_lock);
	h->inode->id_users--;
	pthread_mutex_unlock(&h->inode->id_lock);
}

bool attach(fuse_req_t req, struct handle *h, struct fuse_file_info *fi)
{
	int err = -ENOTTY;

	if (!matches(h->inode, config.passthrough))
		return false;
	if (!config.offered) {
		refused("this kernel does not offer it");
		return false;
	}

	if (config.attach != ATTACH_ID)
		err = fuse_passthrough_enable(req, h->fd);
	if (err == -ENOTTY && config.attach != ATTACH_REQUEST)
		err = attach_by_id(req, h, fi);
	if (err) {
		refused(strerror(-err));
		return false;
	}
	count_attached();
	return true;
}
