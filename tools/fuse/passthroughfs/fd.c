// SPDX-License-Identifier: GPL-2.0
/* The cache of O_PATH descriptors, and the limit on open files. */

#include "passthroughfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* Under table.lock: a ring of inodes with an idle descriptor */
static struct {
	struct inode idle;
	unsigned long count;
	unsigned long max;
} cache = { .idle = { .newer = &cache.idle, .older = &cache.idle } };

static struct {
	unsigned long count;	/* files that clients have open; atomic */
	unsigned long max;
} opens;

int proc_fd = -1;

void idle_add(struct inode *inode)
{
	inode->newer = &cache.idle;
	inode->older = cache.idle.older;
	inode->older->newer = inode;
	cache.idle.older = inode;
	cache.count++;
}

void idle_remove(struct inode *inode)
{
	inode->newer->older = inode->older;
	inode->older->newer = inode->newer;
	inode->newer = inode->older = NULL;
	cache.count--;
}

void fd_drop(struct inode *inode)
{
	if (inode->newer)
		idle_remove(inode);
	close(inode->fd);
	inode->fd = -1;
}

/* With table.lock held: closes descriptors, the longest idle first. */
static void cache_shrink(unsigned long max)
{
	while (cache.count > max)
		fd_drop(cache.idle.newer);
}

/* Closes idle descriptors after EMFILE or ENFILE; true: try again. */
bool make_room(int error)
{
	bool room;

	if (error != EMFILE && error != ENFILE)
		return false;

	pthread_mutex_lock(&table.lock);
	room = cache.count > 0;
	cache_shrink(cache.count / 2);
	pthread_mutex_unlock(&table.lock);

	return room;
}

int open_at(int dir, const char *name, int flags)
{
	int fd;

	do {
		fd = openat(dir, name, flags | O_CLOEXEC);
	} while (fd == -1 && make_room(errno));

	return fd;
}

static void fd_end(struct inode *inode, bool keep)
{
	int error = errno;

	pthread_mutex_lock(&table.lock);
	if (--inode->fd_users == 0 && !inode->nameless) {
		if (keep) {
			idle_add(inode);
			cache_shrink(cache.max);
		} else {
			fd_drop(inode);
		}
	}
	pthread_mutex_unlock(&table.lock);
	errno = error;
}

/* Preserves errno. */
void fd_put(struct inode *inode)
{
	fd_end(inode, true);
}

/* The same for a descriptor that is not likely to be used again. */
void fd_put_last(struct inode *inode)
{
	fd_end(inode, false);
}

/* With table.lock held: the inode's descriptor if it is open, or -1. */
int fd_use(struct inode *inode)
{
	if (inode->fd != -1 && inode->fd_users++ == 0 && inode->newer)
		idle_remove(inode);
	return inode->fd;
}

const char *fd_name(int fd, struct fd_name *name)
{
	snprintf(name->s, sizeof(name->s), "%d", fd);
	return name->s;
}

const char *fd_path(int fd, struct fd_path *path)
{
	snprintf(path->s, sizeof(path->s), "/proc/self/fd/%d", fd);
	return path->s;
}

/*
 * Open files leave some descriptors free, so that lookups still work when
 * clients have reached the limit.  Fails with EMFILE at the limit.
 */
bool open_begin(void)
{
	if (__atomic_fetch_add(&opens.count, 1, __ATOMIC_RELAXED) < opens.max)
		return true;
	__atomic_fetch_sub(&opens.count, 1, __ATOMIC_RELAXED);
	errno = EMFILE;
	return false;
}

void open_end(void)
{
	__atomic_fetch_sub(&opens.count, 1, __ATOMIC_RELAXED);
}

void prepare_descriptors(void)
{
	struct rlimit limit;
	rlim_t reserve;

	if (getrlimit(RLIMIT_NOFILE, &limit) == -1)
		fail("cannot tell how many files may be open: %s", strerror(errno));
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	reserve = limit.rlim_cur / 2 < 128 ? limit.rlim_cur / 2 : 128;
	opens.max = limit.rlim_cur - reserve;
	cache.max = limit.rlim_cur / 2;
	if (cache.max > 65536)
		cache.max = 65536;
}

/* Called after the last fork, which changes /proc/self. */
bool open_proc(void)
{
	proc_fd = open("/proc/self/fd", O_PATH | O_CLOEXEC);
	if (proc_fd == -1)
		fuse_log(FUSE_LOG_ERR, "passthroughfs: this needs /proc: %m\n");
	return proc_fd != -1;
}
