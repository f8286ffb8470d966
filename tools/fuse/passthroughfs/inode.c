// SPDX-License-Identifier: GPL-2.0
/* The inode table. */

#include "passthroughfs.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#define HASH_SIZE (1 << 16)

struct inode_table table = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* Under table.lock */
static struct inode *hash[HASH_SIZE];
static dev_t devs[255];		/* seen so far; the root's is the first */
static unsigned int dev_count;

int place_at(int dir, const char *name, struct place *place)
{
	struct stat *st = &place->st;
	struct statx stx;

	if (statx(dir, name, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
		  STATX_BASIC_STATS | STATX_BTIME, &stx) == -1)
		return -1;

	memset(place, 0, sizeof(*place));
	st->st_dev = makedev(stx.stx_dev_major, stx.stx_dev_minor);
	st->st_ino = stx.stx_ino;
	st->st_mode = stx.stx_mode;
	st->st_nlink = stx.stx_nlink;
	st->st_uid = stx.stx_uid;
	st->st_gid = stx.stx_gid;
	st->st_rdev = makedev(stx.stx_rdev_major, stx.stx_rdev_minor);
	st->st_size = stx.stx_size;
	st->st_blksize = stx.stx_blksize;
	st->st_blocks = stx.stx_blocks;
	st->st_atim.tv_sec = stx.stx_atime.tv_sec;
	st->st_atim.tv_nsec = stx.stx_atime.tv_nsec;
	st->st_mtim.tv_sec = stx.stx_mtime.tv_sec;
	st->st_mtim.tv_nsec = stx.stx_mtime.tv_nsec;
	st->st_ctim.tv_sec = stx.stx_ctime.tv_sec;
	st->st_ctim.tv_nsec = stx.stx_ctime.tv_nsec;
	/* On overlayfs a copy-up changes the birth time. */
	if ((stx.stx_mask & STATX_BTIME) && !config.stack_depth) {
		place->born.tv_sec = stx.stx_btime.tv_sec;
		place->born.tv_nsec = stx.stx_btime.tv_nsec;
	}
	return 0;
}

bool is_at(const struct inode *inode, const struct place *place)
{
	return inode->ino == place->st.st_ino && inode->dev == place->st.st_dev &&
		inode->type == (place->st.st_mode & S_IFMT) &&
		inode->born.tv_sec == place->born.tv_sec &&
		inode->born.tv_nsec == place->born.tv_nsec;
}

static struct inode **hash_slot(dev_t dev, ino_t ino)
{
	uint64_t h = (ino ^ ((uint64_t)dev << 32)) * 0x9e3779b97f4a7c15ULL;

	return &hash[h >> 48];
}

static void unhash(struct inode *inode)
{
	struct inode **p;

	for (p = hash_slot(inode->dev, inode->ino); *p != inode; p = &(*p)->next)
		;
	*p = inode->next;
	inode->unhashed = true;
}

/* With table.lock held.  Unhashes an inode whose number was reused. */
struct inode *inode_find(const struct place *place)
{
	struct inode *inode = *hash_slot(place->st.st_dev, place->st.st_ino);

	for (; inode; inode = inode->next) {
		if (inode->ino != place->st.st_ino ||
		    inode->dev != place->st.st_dev)
			continue;
		if (is_at(inode, place))
			return inode;
		unhash(inode);
		return NULL;
	}
	return NULL;
}

/* With table.lock held: frees an unused inode, then its unused parents. */
void inode_release(struct inode *inode)
{
	while (inode && inode != &table.root && !inode->lookups && !inode->refs) {
		struct inode *parent = inode->parent;

		if (!inode->unhashed)
			unhash(inode);
		if (inode->fd != -1)
			fd_drop(inode);
		pthread_mutex_destroy(&inode->id_lock);
		free(inode->name);
		free(inode);

		if (parent)
			parent->refs--;
		inode = parent;
	}
}

/* The client's kernel did not get the reply, or has forgotten the inode. */
void unattached(struct inode *inode)
{
	enum attached was = ATTACHED;

	__atomic_compare_exchange_n(&inode->attached, &was, UNATTACHED, false,
				    __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

void inode_forget(fuse_ino_t ino, uint64_t n)
{
	struct inode *inode = inode_of(ino);

	if (inode == &table.root)
		return;
	pthread_mutex_lock(&table.lock);
	inode->lookups -= n;
	/* The client's kernel may have a new inode since: attach it again. */
	unattached(inode);
	inode_release(inode);
	pthread_mutex_unlock(&table.lock);
}

void inode_ref(struct inode *inode)
{
	pthread_mutex_lock(&table.lock);
	inode->refs++;
	pthread_mutex_unlock(&table.lock);
}

void inode_unref(struct inode *inode)
{
	int error = errno;

	pthread_mutex_lock(&table.lock);
	inode->refs--;
	inode_release(inode);
	pthread_mutex_unlock(&table.lock);
	errno = error;
}

static bool is_above(const struct inode *inode, const struct inode *below)
{
	while (below && below != inode)
		below = below->parent;
	return below;
}

/*
 * With table.lock held, and table.names, so that the name does not change.
 * After a bind mount, or a rename behind the daemon, a directory can seem to be
 * below itself.
 */
int inode_name(struct inode *inode, struct inode *parent,
	       const char *name)
{
	struct inode *old = inode->parent;
	char *copy;

	if (old == parent && old && !strcmp(inode->name, name))
		goto named;
	if (inode->type == S_IFDIR && is_above(inode, parent)) {
		errno = ELOOP;
		return -1;
	}

	copy = strdup(name);
	if (!copy)
		return -1;
	free(inode->name);
	inode->name = copy;
	inode->parent = parent;
	parent->refs++;
	if (old) {
		old->refs--;
		inode_release(old);
	}
named:
	if (inode->nameless) {
		inode->nameless = false;
		if (inode->fd != -1 && !inode->fd_users)
			idle_add(inode);
	}
	return 0;
}

/*
 * With table.lock held.  Another file system mounted in the source can use the
 * same inode numbers; the upper byte tells them apart.
 */
ino_t visible_ino(dev_t dev, ino_t ino)
{
	unsigned int i;

	for (i = 0; i < dev_count && devs[i] != dev; i++)
		;
	if (i == dev_count && i < sizeof(devs) / sizeof(dev_t))
		devs[dev_count++] = dev;

	return ino ^ ((uint64_t)i << 56);
}

struct inode *inode_new(const struct place *place)
{
	struct inode **slot = hash_slot(place->st.st_dev, place->st.st_ino);
	struct inode *inode = calloc(1, sizeof(*inode));

	if (!inode)
		return NULL;
	inode->fd = -1;
	inode->dev = place->st.st_dev;
	inode->ino = place->st.st_ino;
	inode->born = place->born;
	inode->type = place->st.st_mode & S_IFMT;
	pthread_mutex_init(&inode->id_lock, NULL);
	inode->next = *slot;
	*slot = inode;

	return inode;
}

/* The path from the root, without a leading slash, or NULL. */
static char *path_of(struct inode *inode)
{
	struct inode *i;
	size_t len = 0;
	char *path = NULL;

	pthread_mutex_lock(&table.lock);
	for (i = inode; i && i != &table.root; i = i->parent)
		len += strlen(i->name) + 1;
	if (len)
		path = malloc(len);
	for (i = inode; path && i && i != &table.root; i = i->parent) {
		size_t n = strlen(i->name);

		path[--len] = i == inode ? '\0' : '/';
		len -= n;
		memcpy(path + len, i->name, n);
	}
	pthread_mutex_unlock(&table.lock);

	return path;
}

/* "all", "none", or a pattern: of paths if it has a slash, else of names */
bool matches(struct inode *inode, const char *pattern)
{
	const char *name;
	bool match;
	char *path;

	if (!strcmp(pattern, "all"))
		return true;
	if (!strcmp(pattern, "none"))
		return false;

	path = path_of(inode);
	if (!path)
		return false;
	name = strrchr(path, '/');
	if (strchr(pattern, '/'))
		match = !fnmatch(pattern + (*pattern == '/'), path, FNM_PATHNAME);
	else
		match = !fnmatch(pattern, name ? name + 1 : path, 0);
	free(path);

	return match;
}

void prepare_root(void)
{
	pthread_rwlockattr_t attr;
	struct place place;
	struct statfs fs;
	struct inode *root = &table.root;

	/* A stream of lookups must not starve a rename. */
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr,
		PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&table.names, &attr);

	root->fd = open(config.source, O_PATH | O_CLOEXEC);
	if (root->fd == -1 || fstatfs(root->fd, &fs) == -1)
		fail("cannot mirror %s: %s", config.source, strerror(errno));
	if (fs.f_type == OVERLAYFS_SUPER_MAGIC || fs.f_type == ECRYPTFS_SUPER_MAGIC)
		config.stack_depth = FUSE_BACKING_STACKED_OVER;
	if (place_at(root->fd, "", &place) == -1)
		fail("cannot mirror %s: %s", config.source, strerror(errno));
	if (!S_ISDIR(place.st.st_mode))
		fail("cannot mirror %s: it is not a directory", config.source);
	root->dev = place.st.st_dev;
	root->ino = place.st.st_ino;
	root->born = place.born;
	root->type = S_IFDIR;
	root->nameless = true;
	pthread_mutex_init(&root->id_lock, NULL);
	root->next = *hash_slot(root->dev, root->ino);
	*hash_slot(root->dev, root->ino) = root;
	visible_ino(root->dev, root->ino);
}
