// SPDX-License-Identifier: GPL-2.0
/*
 * passthroughfs: a file system that mirrors a directory, with FUSE passthrough.
 *
 * Rules that the code below keeps:
 *
 * - An inode is known by its place in the lower file system, (dev, ino) and
 *   time of birth, and found again by its parent and last known name.  It has a
 *   descriptor (O_PATH) only while that is in use, or in a cache of bounded
 *   size, or when it has no name left.
 * - What is found again by name is compared with what was looked up: something
 *   else of that name is ESTALE, on which the client's kernel looks it up anew.
 * - A name changes below table.names, held for writing, together with what the
 *   table says of it; who resolves a name holds it for reading.
 * - The client's kernel has checked permissions (default_permissions) except
 *   where it says otherwise below; what is made belongs to the client.
 */

#define _GNU_SOURCE
#define FUSE_USE_VERSION 312

#include <fuse_lowlevel.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <syslog.h>
#include <unistd.h>

#ifndef PASSTHROUGHFS_VERSION
#define PASSTHROUGHFS_VERSION "1"
#endif

/* Requests */

#define OPERATIONS(X) \
	X(INIT) X(LOOKUP) X(FORGET) X(BATCH_FORGET) X(GETATTR) \
	X(SETATTR) X(READLINK) X(SYMLINK) X(MKNOD) X(MKDIR) X(UNLINK) X(RMDIR) \
	X(RENAME) X(LINK) X(OPEN) X(READ) X(WRITE) X(STATFS) X(RELEASE) \
	X(FSYNC) X(SETXATTR) X(GETXATTR) X(LISTXATTR) X(REMOVEXATTR) X(FLUSH) \
	X(OPENDIR) X(READDIR) X(READDIRPLUS) X(RELEASEDIR) X(FSYNCDIR) \
	X(CREATE) X(IOCTL) X(POLL) X(FALLOCATE) X(LSEEK) X(COPY_FILE_RANGE)

enum operation {
#define X(name) OP_##name,
	OPERATIONS(X)
#undef X
	OP_COUNT
};

static const char *const operation_names[] = {
#define X(name) #name,
	OPERATIONS(X)
#undef X
};

enum attach { ATTACH_AUTO, ATTACH_REQUEST, ATTACH_ID };

/* What the command line says, and what comes of it at the start. */
static struct {
	char *source;
	char *passthrough;
	char *attach_name;
	char *stats;
	char *stats_part;
	double timeout;
	int writeback;
	int killpriv_v2;
	int help;
	int version;

	bool privileged;	/* may act as the client */
	bool foreground;
	bool offered;		/* passthrough was negotiated */
	enum attach attach;
	unsigned int stack_depth;
	int proc_fd;		/* /proc/self/fd */
	bool own_umask;		/* threads can have one each */
	gid_t *groups;
	int group_count;
	struct __user_cap_data_struct caps[2];
} config = { .timeout = 1.0, .proc_fd = -1 };

static struct {
	unsigned long requests[OP_COUNT];
	unsigned long attached;
	unsigned long refused;
	pthread_mutex_t lock;	/* one writer of the file at a time */
} stats = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void bump(unsigned long *counter)
{
	__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

static void count(enum operation op)
{
	bump(&stats.requests[op]);
}

static unsigned long counted(const unsigned long *counter)
{
	return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

/* The umask is of no use here: it is 0, or a client's. */
static FILE *open_stats(void)
{
	int fd = open(config.stats_part, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW |
		      O_CLOEXEC, 0644);
	FILE *f = fd == -1 ? NULL : fdopen(fd, "w");

	if (!f && fd != -1)
		close(fd);
	return f;
}

/* Readers of the file see all of it or the one before. */
static void write_stats(void)
{
	unsigned long total = 0;
	FILE *f;
	int i;

	if (!config.stats)
		return;

	pthread_mutex_lock(&stats.lock);
	f = open_stats();
	if (!f)
		goto fail;
	fputs("{\"requests\": {", f);
	for (i = 0; i < OP_COUNT; i++) {
		unsigned long n = counted(&stats.requests[i]);

		total += n;
		fprintf(f, "%s\"%s\": %lu", i ? ", " : "", operation_names[i], n);
	}
	fprintf(f, "}, \"total\": %lu, \"passthrough\": {\"attached\": %lu, \"refused\": %lu}}\n",
		total, counted(&stats.attached), counted(&stats.refused));
	if (fclose(f) || rename(config.stats_part, config.stats))
		goto fail;
	pthread_mutex_unlock(&stats.lock);
	return;

fail:
	fuse_log(FUSE_LOG_ERR, "passthroughfs: cannot write %s: %m\n",
		 config.stats);
	pthread_mutex_unlock(&stats.lock);
}

/* Inodes */

struct inode {
	struct inode *next;		/* in the hash chain */
	struct inode *newer, *older;	/* in the list of idle descriptors */
	struct inode *parent;		/* holds a reference */
	char *name;
	dev_t dev;
	ino_t ino;
	struct timespec born;
	mode_t type;
	uint64_t lookups;		/* by the client's kernel */
	unsigned int refs;		/* children and open files */
	int fd;				/* O_PATH or -1 */
	unsigned int fd_users;
	bool nameless;			/* its name is gone: fd is all there is */
	bool unhashed;			/* something else is in its place now */
	unsigned int id_users;		/* open files with backing_id */
	int backing_id;
	pthread_mutex_t id_lock;	/* the last two */
};

#define HASH_SIZE (1 << 16)

/* No name that the kernel sends is longer. */
#define CLIENT_NAME_MAX 1024

static struct {
	pthread_mutex_t lock;		/* all below, and what inodes hold */
	pthread_rwlock_t names;		/* comes before lock */
	struct inode *hash[HASH_SIZE];
	struct inode idle;		/* ring of inodes with an unused fd */
	unsigned long cached;		/* inodes in it */
	unsigned long cache_max;
	unsigned long opens;		/* by clients; atomic */
	unsigned long opens_max;
	dev_t devs[255];		/* seen so far; the root's is the first */
	unsigned int dev_count;
	struct inode root;
} table = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* What stat says, and when the file was born, which tells reused numbers. */
struct place {
	struct stat st;
	struct timespec born;
};

static struct inode *inode_of(fuse_ino_t ino)
{
	return ino == FUSE_ROOT_ID ? &table.root : (struct inode *)ino;
}

static fuse_ino_t number_of(struct inode *inode)
{
	return inode == &table.root ? FUSE_ROOT_ID : (uintptr_t)inode;
}

static void idle_add(struct inode *inode)
{
	inode->newer = &table.idle;
	inode->older = table.idle.older;
	inode->older->newer = inode;
	table.idle.older = inode;
	table.cached++;
}

static void idle_remove(struct inode *inode)
{
	inode->newer->older = inode->older;
	inode->older->newer = inode->newer;
	inode->newer = inode->older = NULL;
	table.cached--;
}

static void fd_drop(struct inode *inode)
{
	if (inode->newer)
		idle_remove(inode);
	close(inode->fd);
	inode->fd = -1;
}

/* With table.lock: close the descriptors that have been idle for longest. */
static void cache_shrink(unsigned long max)
{
	while (table.cached > max)
		fd_drop(table.idle.newer);
}

/* A descriptor could not be had: is it worth trying again? */
static bool make_room(int error)
{
	bool room;

	if (error != EMFILE && error != ENFILE)
		return false;

	pthread_mutex_lock(&table.lock);
	room = table.cached > 0;
	cache_shrink(table.cached / 2);
	pthread_mutex_unlock(&table.lock);

	return room;
}

/* openat() that gives way to a full table of descriptors. */
static int open_at(int dir, const char *name, int flags)
{
	int fd;

	do {
		fd = openat(dir, name, flags | O_CLOEXEC);
	} while (fd == -1 && make_room(errno));

	return fd;
}

static int place_at(int dir, const char *name, struct place *place)
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
	/* On overlayfs it is that of the copy, which may be made at any time. */
	if ((stx.stx_mask & STATX_BTIME) && !config.stack_depth) {
		place->born.tv_sec = stx.stx_btime.tv_sec;
		place->born.tv_nsec = stx.stx_btime.tv_nsec;
	}
	return 0;
}

static bool is_at(const struct inode *inode, const struct place *place)
{
	return inode->ino == place->st.st_ino && inode->dev == place->st.st_dev &&
		inode->type == (place->st.st_mode & S_IFMT) &&
		inode->born.tv_sec == place->born.tv_sec &&
		inode->born.tv_nsec == place->born.tv_nsec;
}

static struct inode **hash_slot(dev_t dev, ino_t ino)
{
	uint64_t h = (ino ^ ((uint64_t)dev << 32)) * 0x9e3779b97f4a7c15ULL;

	return &table.hash[h >> 48];
}

static void unhash(struct inode *inode)
{
	struct inode **p;

	for (p = hash_slot(inode->dev, inode->ino); *p != inode; p = &(*p)->next)
		;
	*p = inode->next;
	inode->unhashed = true;
}

/* With table.lock: the inode that is there; one that was there before goes. */
static struct inode *inode_find(const struct place *place)
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

/* With table.lock: free what nobody knows any more, parents after children. */
static void inode_release(struct inode *inode)
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

static void inode_forget(fuse_ino_t ino, uint64_t n)
{
	struct inode *inode = inode_of(ino);

	if (inode == &table.root)
		return;
	pthread_mutex_lock(&table.lock);
	inode->lookups -= n;
	inode_release(inode);
	pthread_mutex_unlock(&table.lock);
}

static void inode_ref(struct inode *inode)
{
	pthread_mutex_lock(&table.lock);
	inode->refs++;
	pthread_mutex_unlock(&table.lock);
}

static void inode_unref(struct inode *inode)
{
	int error = errno;

	pthread_mutex_lock(&table.lock);
	inode->refs--;
	inode_release(inode);
	pthread_mutex_unlock(&table.lock);
	errno = error;
}

/* Leaves errno alone. */
static void fd_put(struct inode *inode)
{
	int error = errno;

	pthread_mutex_lock(&table.lock);
	if (--inode->fd_users == 0 && !inode->nameless) {
		idle_add(inode);
		cache_shrink(table.cache_max);
	}
	pthread_mutex_unlock(&table.lock);
	errno = error;
}

/* With table.lock: the descriptor that is there, or -1. */
static int fd_use(struct inode *inode)
{
	if (inode->fd != -1 && inode->fd_users++ == 0 && inode->newer)
		idle_remove(inode);
	return inode->fd;
}

/* With table.names: what is still of that name, opened for whoever uses it now. */
static int fd_open(struct inode *inode, int dir, const char *name)
{
	struct place place;
	int fd = open_at(dir, name, O_PATH | O_NOFOLLOW);

	if (fd == -1) {
		if (errno == ENOENT)
			errno = ESTALE;
		return -1;
	}
	if (place_at(fd, "", &place) == -1 || !is_at(inode, &place)) {
		close(fd);
		errno = ESTALE;
		return -1;
	}

	pthread_mutex_lock(&table.lock);
	if (inode->fd == -1)
		inode->fd = fd;
	else
		close(fd);
	fd = fd_use(inode);
	pthread_mutex_unlock(&table.lock);
	return fd;
}

static void fd_put_and_unref(struct inode *inode)
{
	if (!inode)
		return;
	fd_put(inode);
	inode_unref(inode);
}

/*
 * With table.names: a descriptor to be given back by fd_put(), or -1.  Each
 * turn opens one more of those on the way, from the nearest that is open; a
 * tree can be deeper than a thread's stack.
 */
static int fd_get_named(struct inode *inode)
{
	struct inode *last = NULL, *next, *parent;
	char name[CLIENT_NAME_MAX + 1];
	int dir, fd;

	for (;;) {
		pthread_mutex_lock(&table.lock);
		fd = fd_use(inode);
		next = inode;
		while (next->parent && next->parent->fd == -1)
			next = next->parent;
		parent = next->parent;
		if (fd != -1 || !parent)
			break;
		strcpy(name, next->name);
		dir = fd_use(parent);
		parent->refs++;
		next->refs++;
		pthread_mutex_unlock(&table.lock);

		fd = fd_open(next, dir, name);
		fd_put_and_unref(parent);
		fd_put_and_unref(last);
		last = next;
		if (fd == -1) {
			inode_unref(next);
			return -1;
		}
	}
	pthread_mutex_unlock(&table.lock);
	fd_put_and_unref(last);
	if (fd == -1)
		errno = ESTALE;
	return fd;
}

static int fd_get(struct inode *inode)
{
	int fd;

	pthread_mutex_lock(&table.lock);
	fd = fd_use(inode);
	pthread_mutex_unlock(&table.lock);
	if (fd != -1)
		return fd;

	pthread_rwlock_rdlock(&table.names);
	fd = fd_get_named(inode);
	pthread_rwlock_unlock(&table.names);
	return fd;
}

static bool is_above(const struct inode *inode, const struct inode *below)
{
	while (below && below != inode)
		below = below->parent;
	return below;
}

/*
 * With table.lock; table.names keeps the name where it is meanwhile.  A bind
 * mount, or what others have moved, can seem to put a directory below itself.
 */
static int inode_name(struct inode *inode, struct inode *parent,
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
 * Files of other file systems that are mounted in the source could have the
 * numbers of files of its own.  With table.lock.
 */
static ino_t visible_ino(dev_t dev, ino_t ino)
{
	unsigned int i;

	for (i = 0; i < table.dev_count && table.devs[i] != dev; i++)
		;
	if (i == table.dev_count && i < sizeof(table.devs) / sizeof(dev_t))
		table.devs[table.dev_count++] = dev;

	return ino ^ ((uint64_t)i << 56);
}

static struct inode *inode_new(const struct place *place)
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

/*
 * What is at a name, counted as looked up by the client's kernel.  The caller
 * has held table.names since it was seen there.
 */
static int enter(struct inode *parent, const char *name,
		 const struct place *place, struct fuse_entry_param *e)
{
	struct inode *inode;
	int error;

	memset(e, 0, sizeof(*e));
	pthread_mutex_lock(&table.lock);
	inode = inode_find(place);
	if (!inode)
		inode = inode_new(place);
	if (!inode || inode_name(inode, parent, name) == -1) {
		error = errno;
		inode_release(inode);
		pthread_mutex_unlock(&table.lock);
		return error;
	}
	inode->lookups++;
	e->attr = place->st;
	e->attr.st_ino = visible_ino(place->st.st_dev, place->st.st_ino);
	pthread_mutex_unlock(&table.lock);

	e->ino = number_of(inode);
	e->attr_timeout = config.timeout;
	e->entry_timeout = config.timeout;
	return 0;
}

/* Look up a name below a directory whose descriptor is dir; with table.names. */
static int lookup_named(struct inode *parent, int dir, const char *name,
			struct fuse_entry_param *e)
{
	struct place place;

	if (place_at(dir, name, &place) == -1)
		return errno;
	return enter(parent, name, &place, e);
}

/* Acting as the client, per thread as Linux has it */

enum part {
	MAKER,		/* makes what will be the client's; checked already */
	CLIENT,		/* may do what the client may */
};

/* A umask of its own for each thread, which also tells ACLs what to do. */
static void use_umask(mode_t mask)
{
	static __thread bool own;

	if (!config.own_umask)
		return;
	if (!own)
		own = unshare(CLONE_FS) == 0;
	umask(mask);
}

static void take_caps(bool fsetid)
{
	struct __user_cap_header_struct head = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct caps[2] = { config.caps[0], config.caps[1] };

	if (!fsetid)
		caps[0].effective &= ~(1U << CAP_FSETID);
	syscall(SYS_capset, &head, caps);
}

/*
 * With --killpriv-v2 the lower file system is to take setuid and setgid bits
 * away, whoever writes or truncates, which it does where CAP_FSETID is missing;
 * but then it also takes some that the client's kernel has decided to keep.
 */
static void keep_bits(bool keep)
{
	if (config.killpriv_v2)
		take_caps(keep);
}

/* Back from another user the kernel raises CAP_FSETID again. */
static void act_as_self(enum part part)
{
	int error = errno;

	if (config.privileged) {
		setfsuid(geteuid());
		setfsgid(getegid());
		if (part == CLIENT)
			syscall(SYS_setgroups, config.group_count, config.groups);
	}
	keep_bits(false);
	errno = error;
}

static void use_client_groups(fuse_req_t req)
{
	gid_t groups[256];
	int max = sizeof(groups) / sizeof(*groups);
	int n = fuse_req_getgroups(req, max, groups);

	/* Of a client that is gone, or has too many, none is better than ours. */
	syscall(SYS_setgroups, n > 0 && n <= max ? n : 0, groups);
}

/* Returns 0 or an error, after which nothing is to be undone. */
static int act_as(fuse_req_t req, enum part part)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	use_umask(ctx->umask);
	if (!config.privileged)
		return 0;

	if (part == CLIENT)
		use_client_groups(req);
	setfsgid(ctx->gid);
	setfsuid(ctx->uid);
	if ((gid_t)setfsgid(-1) != ctx->gid || (uid_t)setfsuid(-1) != ctx->uid) {
		act_as_self(part);
		return EPERM;
	}
	if (part == MAKER)
		take_caps(true);
	return 0;
}

/* Passthrough */

struct handle {
	int fd;
	bool by_id;
	struct inode *inode;
};

static struct handle *handle_of(const struct fuse_file_info *fi)
{
	return (struct handle *)(uintptr_t)fi->fh;
}

struct directory {
	DIR *dp;
	struct dirent *entry;		/* read, and not yet handed out */
	off_t offset;
	pthread_mutex_t lock;
};

static struct directory *directory_of(const struct fuse_file_info *fi)
{
	return (struct directory *)(uintptr_t)fi->fh;
}

static void refused(const char *why)
{
	static bool said;

	bump(&stats.refused);
	if (!__atomic_exchange_n(&said, true, __ATOMIC_RELAXED))
		fuse_log(FUSE_LOG_WARNING,
			 "passthroughfs: passthrough was refused (%s): ordinary I/O instead, here and whenever that happens again\n",
			 why);
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

/* A pattern with a slash is about the path, any other about the name alone. */
static bool wants_passthrough(struct inode *inode)
{
	const char *pattern = config.passthrough;
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

/* All opens of an inode share an id, as kernels that only know ids want it. */
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

static void detach(fuse_req_t req, struct handle *h)
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

static bool attach(fuse_req_t req, struct handle *h, struct fuse_file_info *fi)
{
	int err = -ENOTTY;

	if (!wants_passthrough(h->inode))
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
	bump(&stats.attached);
	return true;
}

/* Files */

static void reply_error(fuse_req_t req, int error)
{
	fuse_reply_err(req, error);
}

/* What a request says of an open or not: a descriptor, given back by io_put(). */
static int io_get(struct inode *inode, const struct fuse_file_info *fi)
{
	return fi && fi->fh ? handle_of(fi)->fd : fd_get(inode);
}

static void io_put(struct inode *inode, const struct fuse_file_info *fi)
{
	if (!fi || !fi->fh)
		fd_put(inode);
}

/* A name in proc_fd, which the kernel follows to whatever fd is open on. */
struct fd_name {
	char s[16];
};

static const char *fd_name(int fd, struct fd_name *name)
{
	snprintf(name->s, sizeof(name->s), "%d", fd);
	return name->s;
}

struct fd_path {
	char s[40];
};

static const char *fd_path(int fd, struct fd_path *path)
{
	snprintf(path->s, sizeof(path->s), "/proc/self/fd/%d", fd);
	return path->s;
}

/*
 * Flags for the lower file.  O_DIRECT and O_APPEND are a matter of each request,
 * or of the kernel, not of the open; O_TRUNC comes as a request of its own.
 */
static int lower_flags(int flags)
{
	flags &= ~(O_NOFOLLOW | O_DIRECT | O_APPEND | O_TRUNC | O_CREAT | O_EXCL);
	/* Pages that are written in part are read first. */
	if (config.writeback && (flags & O_ACCMODE) == O_WRONLY)
		flags = (flags & ~O_ACCMODE) | O_RDWR;
	return flags;
}

/* Only an append-only file has to be opened with O_APPEND, and then says so. */
static int reopen(int fd, int flags)
{
	struct fd_name name;
	int lower = lower_flags(flags);
	int new;

	new = open_at(config.proc_fd, fd_name(fd, &name), lower);
	if (new == -1 && errno == EACCES && (lower & O_ACCMODE) != (flags & O_ACCMODE)) {
		lower = (lower & ~O_ACCMODE) | (flags & O_ACCMODE);
		new = open_at(config.proc_fd, name.s, lower);
	}
	if (new == -1 && errno == EPERM && (flags & O_APPEND))
		new = open_at(config.proc_fd, name.s, lower | O_APPEND);
	return new;
}

/*
 * Opens leave some descriptors alone, so that files can still be found when
 * clients have opened all they may.  Sets errno if there are too many.
 */
static bool open_begin(void)
{
	if (__atomic_fetch_add(&table.opens, 1, __ATOMIC_RELAXED) < table.opens_max)
		return true;
	__atomic_fetch_sub(&table.opens, 1, __ATOMIC_RELAXED);
	errno = EMFILE;
	return false;
}

static void open_end(void)
{
	__atomic_fetch_sub(&table.opens, 1, __ATOMIC_RELAXED);
}

static struct handle *handle_new(void)
{
	struct handle *h;

	if (!open_begin())
		return NULL;
	h = calloc(1, sizeof(*h));
	if (h)
		h->fd = -1;
	else
		open_end();
	return h;
}

static void handle_set_inode(struct handle *h, struct inode *inode)
{
	h->inode = inode;
	inode_ref(inode);
}

/* Leaves errno alone. */
static void handle_free(struct handle *h)
{
	int error = errno;

	if (h->fd != -1)
		close(h->fd);
	if (h->inode)
		inode_unref(h->inode);
	free(h);
	open_end();
	errno = error;
}

/* File systems that say at once, not at a close, what they could not keep. */
static bool close_says_nothing(int fd)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) == -1)
		return false;
	switch (fs.f_type) {
	case EXT4_SUPER_MAGIC:
	case XFS_SUPER_MAGIC:
	case BTRFS_SUPER_MAGIC:
	case TMPFS_MAGIC:
		return true;
	default:
		return false;
	}
}

/*
 * A close is of no interest where nothing was written; nor where all that was
 * is the lower file's already, mappings too, and that has no more to say.
 */
static void fill_open(fuse_req_t req, struct handle *h, struct fuse_file_info *fi)
{
	bool attached = attach(req, h, fi);

	fi->fh = (uintptr_t)h;
	fi->noflush = (fi->flags & O_ACCMODE) == O_RDONLY ||
		      (attached && close_says_nothing(h->fd));
}

/*
 * An open that nobody waits for any more.  A backing id stays with its inode for
 * the next open: there is no request left to give it up with.
 */
static void open_lost(struct handle *h)
{
	if (h->by_id) {
		pthread_mutex_lock(&h->inode->id_lock);
		h->inode->id_users--;
		pthread_mutex_unlock(&h->inode->id_lock);
	}
	handle_free(h);
}

static int open_inode(struct inode *inode, int flags)
{
	int path = fd_get(inode);
	int fd = -1;

	if (path != -1) {
		fd = reopen(path, flags);
		fd_put(inode);
	}
	return fd;
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct inode *inode = inode_of(ino);
	struct handle *h;

	count(OP_OPEN);
	h = handle_new();
	if (!h)
		return reply_error(req, errno);
	h->fd = open_inode(inode, fi->flags);
	if (h->fd == -1) {
		handle_free(h);
		return reply_error(req, errno);
	}
	handle_set_inode(h, inode);
	fill_open(req, h, fi);
	if (fuse_reply_open(req, fi) == -ENOENT)
		open_lost(h);
}

/*
 * The client's kernel thought that there is nothing of that name.  If there is,
 * nobody has checked yet whether the client may open it.
 */
static int open_existing(fuse_req_t req, int dir, const char *name, int flags)
{
	int error = act_as(req, CLIENT);
	int lower, fd;

	if (error) {
		errno = error;
		return -1;
	}
	lower = lower_flags(flags) | O_NOFOLLOW | O_NONBLOCK | (flags & O_TRUNC);
	fd = open_at(dir, name, lower);
	if (fd == -1 && errno == EPERM && (flags & O_APPEND))
		fd = open_at(dir, name, lower | O_APPEND);
	act_as_self(CLIENT);
	return fd;
}

static int create_at(fuse_req_t req, int dir, const char *name, int flags,
		     mode_t mode)
{
	int error, fd;

	error = act_as(req, MAKER);
	if (error) {
		errno = error;
		return -1;
	}
	do {
		fd = openat(dir, name, lower_flags(flags) | O_CREAT | O_EXCL |
			    O_NOFOLLOW | O_CLOEXEC, mode);
	} while (fd == -1 && make_room(errno));
	act_as_self(MAKER);

	if (fd == -1 && errno == EEXIST && !(flags & O_EXCL))
		fd = open_existing(req, dir, name, flags);
	return fd;
}

static int create_in(fuse_req_t req, struct inode *parent, const char *name,
		     mode_t mode, int flags, struct handle *h,
		     struct fuse_entry_param *e)
{
	struct place place;
	int dir, error;

	dir = fd_get(parent);
	if (dir == -1)
		return errno;

	pthread_rwlock_rdlock(&table.names);
	h->fd = create_at(req, dir, name, flags, mode);
	if (h->fd == -1 || place_at(h->fd, "", &place) == -1)
		error = errno;
	else if (!S_ISREG(place.st.st_mode))
		error = ESTALE;
	else
		error = enter(parent, name, &place, e);
	pthread_rwlock_unlock(&table.names);
	fd_put(parent);
	return error;
}

static void op_create(fuse_req_t req, fuse_ino_t ino, const char *name,
		      mode_t mode, struct fuse_file_info *fi)
{
	struct fuse_entry_param e;
	struct handle *h;
	int error;

	count(OP_CREATE);
	h = handle_new();
	if (!h)
		return reply_error(req, errno);
	error = create_in(req, inode_of(ino), name, mode, fi->flags, h, &e);
	if (error) {
		handle_free(h);
		return reply_error(req, error);
	}
	handle_set_inode(h, inode_of(e.ino));
	fill_open(req, h, fi);
	if (fuse_reply_create(req, &e, fi) == -ENOENT) {
		open_lost(h);
		inode_forget(e.ino, 1);
	}
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	struct fuse_bufvec buf = FUSE_BUFVEC_INIT(size);

	(void)ino;
	count(OP_READ);
	buf.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
	buf.buf[0].fd = handle_of(fi)->fd;
	buf.buf[0].pos = off;
	fuse_reply_data(req, &buf, 0);
}

/* The end of the file is where it is when the write is done. */
static ssize_t append(int fd, struct fuse_bufvec *in)
{
	size_t size = fuse_buf_size(in);
	struct fuse_bufvec out = FUSE_BUFVEC_INIT(size);
	struct iovec iov;
	ssize_t n;

	iov.iov_base = out.buf[0].mem = malloc(size ? size : 1);
	if (!iov.iov_base)
		return -ENOMEM;
	n = fuse_buf_copy(&out, in, 0);
	if (n >= 0) {
		iov.iov_len = n;
		n = pwritev2(fd, &iov, 1, -1, RWF_APPEND);
		if (n == -1)
			n = -errno;
	}
	free(iov.iov_base);
	return n;
}

static void op_write_buf(fuse_req_t req, fuse_ino_t ino, struct fuse_bufvec *in,
			 off_t off, struct fuse_file_info *fi)
{
	struct fuse_bufvec out = FUSE_BUFVEC_INIT(fuse_buf_size(in));
	int fd = handle_of(fi)->fd;
	ssize_t n;

	(void)ino;
	count(OP_WRITE);
	if ((fi->flags & O_APPEND) && !config.writeback) {
		n = append(fd, in);
	} else {
		out.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
		out.buf[0].fd = fd;
		out.buf[0].pos = off;
		n = fuse_buf_copy(&out, in, 0);
	}
	if (n < 0)
		reply_error(req, -n);
	else
		fuse_reply_write(req, n);
}

/* Closing a copy is how the lower file system gets to say what went wrong. */
static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	int fd;

	(void)ino;
	count(OP_FLUSH);
	do {
		fd = fcntl(handle_of(fi)->fd, F_DUPFD_CLOEXEC, 0);
	} while (fd == -1 && make_room(errno));
	reply_error(req, fd != -1 && close(fd) == -1 ? errno : 0);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct handle *h = handle_of(fi);

	(void)ino;
	count(OP_RELEASE);
	detach(req, h);
	handle_free(h);
	reply_error(req, 0);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync,
		     struct fuse_file_info *fi)
{
	int fd = handle_of(fi)->fd;

	(void)ino;
	count(OP_FSYNC);
	reply_error(req, (datasync ? fdatasync(fd) : fsync(fd)) ? errno : 0);
}

static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off,
			 off_t len, struct fuse_file_info *fi)
{
	(void)ino;
	count(OP_FALLOCATE);
	reply_error(req, fallocate(handle_of(fi)->fd, mode, off, len) ? errno : 0);
}

static void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
		     struct fuse_file_info *fi)
{
	off_t to;

	(void)ino;
	count(OP_LSEEK);
	to = lseek(handle_of(fi)->fd, off, whence);
	if (to == -1)
		reply_error(req, errno);
	else
		fuse_reply_lseek(req, to);
}

static void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
			       struct fuse_file_info *fi_in, fuse_ino_t ino_out,
			       off_t off_out, struct fuse_file_info *fi_out,
			       size_t len, int flags)
{
	ssize_t n;

	(void)ino_in;
	(void)ino_out;
	count(OP_COPY_FILE_RANGE);
	n = copy_file_range(handle_of(fi_in)->fd, &off_in, handle_of(fi_out)->fd,
			    &off_out, len, flags);
	if (n == -1)
		reply_error(req, errno);
	else
		fuse_reply_write(req, n);
}

static void op_poll(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi,
		    struct fuse_pollhandle *ph)
{
	(void)ino;
	(void)fi;
	count(OP_POLL);
	if (ph)
		fuse_pollhandle_destroy(ph);
	/* Said once: regular files are always ready. */
	reply_error(req, ENOSYS);
}

/* Attributes */

/* Gives fd back first: once answered, the inode may be forgotten and gone. */
static void reply_attr(fuse_req_t req, struct inode *inode,
		       const struct fuse_file_info *fi, int fd)
{
	struct place place;
	int res = place_at(fd, "", &place);

	io_put(inode, fi);
	if (res == -1)
		return reply_error(req, errno);
	pthread_mutex_lock(&table.lock);
	place.st.st_ino = visible_ino(place.st.st_dev, place.st.st_ino);
	pthread_mutex_unlock(&table.lock);
	fuse_reply_attr(req, &place.st, config.timeout);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct inode *inode = inode_of(ino);
	int fd;

	count(OP_GETATTR);
	/* A directory's handle is none of a file; its inode does as well. */
	if (inode->type == S_IFDIR)
		fi = NULL;
	fd = io_get(inode, fi);
	if (fd == -1)
		return reply_error(req, errno);
	reply_attr(req, inode, fi, fd);
}

static int set_size(int fd, off_t size, const struct fuse_file_info *fi)
{
	struct fd_path path;

	if (fi && fi->fh)
		return ftruncate(fd, size);
	return truncate(fd_path(fd, &path), size);
}

static int set_times(int fd, const struct stat *attr, int set)
{
	struct timespec times[2] = {
		{ .tv_nsec = UTIME_OMIT }, { .tv_nsec = UTIME_OMIT },
	};

	if (set & FUSE_SET_ATTR_ATIME_NOW)
		times[0].tv_nsec = UTIME_NOW;
	else if (set & FUSE_SET_ATTR_ATIME)
		times[0] = attr->st_atim;
	if (set & FUSE_SET_ATTR_MTIME_NOW)
		times[1].tv_nsec = UTIME_NOW;
	else if (set & FUSE_SET_ATTR_MTIME)
		times[1] = attr->st_mtim;
	return utimensat(fd, "", times, AT_EMPTY_PATH);
}

static int set_owner(int fd, const struct stat *attr, int set)
{
	uid_t uid = set & FUSE_SET_ATTR_UID ? attr->st_uid : (uid_t)-1;
	gid_t gid = set & FUSE_SET_ATTR_GID ? attr->st_gid : (gid_t)-1;
	int res;

	keep_bits(true);
	res = fchownat(fd, "", uid, gid, AT_EMPTY_PATH);
	keep_bits(false);
	return res;
}

static int set_mode(int fd, mode_t mode)
{
	struct fd_path path;
	int res;

	keep_bits(true);
	res = chmod(fd_path(fd, &path), mode & 07777);
	keep_bits(false);
	return res;
}

/* The mode comes after the owner, whose change takes bits of it away. */
static int set_attr(int fd, const struct stat *attr, int set,
		    const struct fuse_file_info *fi)
{
	if ((set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) &&
	    set_owner(fd, attr, set) == -1)
		return -1;
	if ((set & FUSE_SET_ATTR_SIZE) && set_size(fd, attr->st_size, fi) == -1)
		return -1;
	if ((set & FUSE_SET_ATTR_MODE) && set_mode(fd, attr->st_mode) == -1)
		return -1;
	if ((set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME)) &&
	    set_times(fd, attr, set) == -1)
		return -1;
	return 0;
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int set,
		       struct fuse_file_info *fi)
{
	struct inode *inode = inode_of(ino);
	int fd;

	count(OP_SETATTR);
	if (inode->type == S_IFDIR)
		fi = NULL;
	fd = io_get(inode, fi);
	if (fd == -1)
		return reply_error(req, errno);
	if (set_attr(fd, attr, set, fi) == -1) {
		io_put(inode, fi);
		return reply_error(req, errno);
	}
	reply_attr(req, inode, fi, fd);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct inode *inode = inode_of(ino);
	struct statvfs st;
	int fd, res;

	count(OP_STATFS);
	fd = fd_get(inode);
	if (fd == -1)
		return reply_error(req, errno);
	res = fstatvfs(fd, &st);
	fd_put(inode);
	if (res == -1)
		reply_error(req, errno);
	else
		fuse_reply_statfs(req, &st);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct inode *inode = inode_of(ino);
	char target[PATH_MAX + 1];
	ssize_t n;
	int fd;

	count(OP_READLINK);
	fd = fd_get(inode);
	if (fd == -1)
		return reply_error(req, errno);
	n = readlinkat(fd, "", target, sizeof(target));
	fd_put(inode);
	if (n == -1)
		return reply_error(req, errno);
	if (n == sizeof(target))
		return reply_error(req, ENAMETOOLONG);
	target[n] = '\0';
	fuse_reply_readlink(req, target);
}

/* What FS_IOC_GETFLAGS and its like are about; the kernel has checked rights. */
static void op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned int cmd, void *arg,
		     struct fuse_file_info *fi, unsigned int flags,
		     const void *in, size_t in_size, size_t out_size)
{
	union {
		unsigned int flags;
		struct fsxattr xattr;
	} data = { .flags = 0 };
	size_t size = sizeof(data.flags);
	int fd;

	(void)ino;
	(void)arg;
	count(OP_IOCTL);
	switch (cmd) {
	case FS_IOC_FSGETXATTR:
	case FS_IOC_FSSETXATTR:
		size = sizeof(data.xattr);
		break;
	case FS_IOC_GETFLAGS:
	case FS_IOC_SETFLAGS:
		break;
	default:
		return reply_error(req, ENOTTY);
	}
	if (cmd == FS_IOC_GETFLAGS || cmd == FS_IOC_FSGETXATTR) {
		if (out_size < size)
			return reply_error(req, EINVAL);
	} else {
		if (in_size < size)
			return reply_error(req, EINVAL);
		memcpy(&data, in, size);
	}

	if (flags & FUSE_IOCTL_DIR)
		fd = dirfd(directory_of(fi)->dp);
	else
		fd = handle_of(fi)->fd;
	if (ioctl(fd, cmd, &data) == -1)
		reply_error(req, errno);
	else
		fuse_reply_ioctl(req, 0, &data, out_size < size ? out_size : size);
}

/* Extended attributes; of an O_PATH descriptor only by its name in /proc. */

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
			size_t size)
{
	struct inode *inode = inode_of(ino);
	char *value = NULL;
	struct fd_path path;
	ssize_t n;
	int fd;

	count(OP_GETXATTR);
	if (size) {
		value = malloc(size);
		if (!value)
			return reply_error(req, ENOMEM);
	}
	fd = fd_get(inode);
	n = fd;
	if (fd != -1) {
		n = getxattr(fd_path(fd, &path), name, value, size);
		fd_put(inode);
	}
	if (n == -1)
		reply_error(req, errno);
	else if (size)
		fuse_reply_buf(req, value, n);
	else
		fuse_reply_xattr(req, n);
	free(value);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct inode *inode = inode_of(ino);
	char *list = NULL;
	struct fd_path path;
	ssize_t n;
	int fd;

	count(OP_LISTXATTR);
	if (size) {
		list = malloc(size);
		if (!list)
			return reply_error(req, ENOMEM);
	}
	fd = fd_get(inode);
	n = fd;
	if (fd != -1) {
		n = listxattr(fd_path(fd, &path), list, size);
		fd_put(inode);
	}
	if (n == -1)
		reply_error(req, errno);
	else if (size)
		fuse_reply_buf(req, list, n);
	else
		fuse_reply_xattr(req, n);
	free(list);
}

/* Whether an ACL takes the setgid bit away depends on who sets it. */
static void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
			const char *value, size_t size, int flags)
{
	struct inode *inode = inode_of(ino);
	bool acl = !strcmp(name, "system.posix_acl_access");
	struct fd_path path;
	int fd, error = 0;

	count(OP_SETXATTR);
	fd = fd_get(inode);
	if (fd == -1)
		return reply_error(req, errno);
	if (acl) {
		keep_bits(true);
		error = act_as(req, CLIENT);
	}
	if (!error) {
		if (setxattr(fd_path(fd, &path), name, value, size, flags) == -1)
			error = errno;
		if (acl)
			act_as_self(CLIENT);
	}
	fd_put(inode);
	reply_error(req, error);
}

static void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct inode *inode = inode_of(ino);
	struct fd_path path;
	int fd, res;

	count(OP_REMOVEXATTR);
	fd = fd_get(inode);
	if (fd == -1)
		return reply_error(req, errno);
	res = removexattr(fd_path(fd, &path), name);
	fd_put(inode);
	reply_error(req, res == -1 ? errno : 0);
}

/* Names */

static void reply_entry(fuse_req_t req, const struct fuse_entry_param *e)
{
	if (fuse_reply_entry(req, e) == -ENOENT && e->ino)
		inode_forget(e->ino, 1);
}

static void op_lookup(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct inode *parent = inode_of(ino);
	struct fuse_entry_param e;
	int dir, error;

	count(OP_LOOKUP);
	dir = fd_get(parent);
	if (dir == -1)
		return reply_error(req, errno);
	pthread_rwlock_rdlock(&table.names);
	error = lookup_named(parent, dir, name, &e);
	pthread_rwlock_unlock(&table.names);
	fd_put(parent);

	if (error == ENOENT && config.timeout > 0) {
		/* That there is nothing may be remembered as well. */
		e.ino = 0;
		e.entry_timeout = config.timeout;
		error = 0;
	}
	if (error)
		reply_error(req, error);
	else
		reply_entry(req, &e);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n)
{
	count(OP_FORGET);
	inode_forget(ino, n);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t n,
			    struct fuse_forget_data *forgets)
{
	size_t i;

	count(OP_BATCH_FORGET);
	for (i = 0; i < n; i++)
		inode_forget(forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

/* MKNOD, MKDIR and SYMLINK: target is set for the last. */
static void make_node(fuse_req_t req, fuse_ino_t ino, const char *name,
		      mode_t mode, dev_t rdev, const char *target)
{
	struct inode *parent = inode_of(ino);
	struct fuse_entry_param e;
	int dir, error, res;

	dir = fd_get(parent);
	if (dir == -1)
		return reply_error(req, errno);

	pthread_rwlock_rdlock(&table.names);
	error = act_as(req, MAKER);
	if (!error) {
		if (target)
			res = symlinkat(target, dir, name);
		else if (S_ISDIR(mode))
			res = mkdirat(dir, name, mode);
		else
			res = mknodat(dir, name, mode, rdev);
		error = res == -1 ? errno : 0;
		act_as_self(MAKER);
	}
	if (!error)
		error = lookup_named(parent, dir, name, &e);
	pthread_rwlock_unlock(&table.names);
	fd_put(parent);

	if (error)
		reply_error(req, error);
	else
		reply_entry(req, &e);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name,
		     mode_t mode, dev_t rdev)
{
	count(OP_MKNOD);
	make_node(req, parent, name, mode, rdev, NULL);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name,
		     mode_t mode)
{
	count(OP_MKDIR);
	make_node(req, parent, name, S_IFDIR | (mode & 07777), 0, NULL);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent,
		       const char *name)
{
	count(OP_SYMLINK);
	make_node(req, parent, name, 0, 0, target);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent,
		    const char *name)
{
	struct inode *inode = inode_of(ino), *parent = inode_of(new_parent);
	struct fuse_entry_param e;
	struct fd_name from;
	int fd, dir, error = 0;

	count(OP_LINK);
	fd = fd_get(inode);
	if (fd == -1)
		return reply_error(req, errno);
	dir = fd_get(parent);
	if (dir == -1) {
		error = errno;
		fd_put(inode);
		return reply_error(req, error);
	}

	pthread_rwlock_rdlock(&table.names);
	if (linkat(config.proc_fd, fd_name(fd, &from), dir, name,
		   AT_SYMLINK_FOLLOW) == -1)
		error = errno;
	else
		error = lookup_named(parent, dir, name, &e);
	pthread_rwlock_unlock(&table.names);
	fd_put(parent);
	fd_put(inode);

	if (error)
		reply_error(req, error);
	else
		reply_entry(req, &e);
}

/*
 * With table.names for writing: the inode that has that name, if the client's
 * kernel knows it, with a reference.
 */
static struct inode *inode_at(int dir, const char *name)
{
	struct inode *inode = NULL;
	struct place place;

	if (place_at(dir, name, &place) == -1)
		return NULL;
	pthread_mutex_lock(&table.lock);
	inode = inode_find(&place);
	if (inode)
		inode->refs++;
	pthread_mutex_unlock(&table.lock);
	return inode;
}

static bool is_named(const struct inode *inode, const struct inode *parent,
		     const char *name)
{
	return inode->parent == parent && !strcmp(inode->name, name);
}

/*
 * A name is about to go, and its inode may be in use: it keeps a descriptor.
 * If there is none to be had the name goes all the same.
 */
static struct inode *victim_get(int dir, const char *name)
{
	struct inode *inode = inode_at(dir, name);

	if (inode && fd_get_named(inode) == -1) {
		inode_unref(inode);
		inode = NULL;
	}
	return inode;
}

static void victim_put(struct inode *inode, struct inode *parent,
		       const char *name, bool gone)
{
	if (!inode)
		return;
	pthread_mutex_lock(&table.lock);
	if (gone && is_named(inode, parent, name))
		inode->nameless = true;
	pthread_mutex_unlock(&table.lock);
	fd_put(inode);
	inode_unref(inode);
}

static void remove_name(fuse_req_t req, fuse_ino_t ino, const char *name,
			int flags)
{
	struct inode *parent = inode_of(ino), *victim;
	int dir, error;

	dir = fd_get(parent);
	if (dir == -1)
		return reply_error(req, errno);

	pthread_rwlock_wrlock(&table.names);
	victim = victim_get(dir, name);
	error = unlinkat(dir, name, flags) == -1 ? errno : 0;
	victim_put(victim, parent, name, !error);
	pthread_rwlock_unlock(&table.names);
	fd_put(parent);
	reply_error(req, error);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	count(OP_UNLINK);
	remove_name(req, parent, name, 0);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	count(OP_RMDIR);
	remove_name(req, parent, name, AT_REMOVEDIR);
}

/* An inode that is known by another of its names keeps that. */
static void moved(struct inode *inode, struct inode *from, const char *old,
		  struct inode *to, const char *new)
{
	if (!inode)
		return;
	pthread_mutex_lock(&table.lock);
	if (is_named(inode, from, old))
		inode_name(inode, to, new);
	pthread_mutex_unlock(&table.lock);
}

/* With table.names for writing */
static int rename_at(struct inode *from, int from_dir, const char *old,
		     struct inode *to, int to_dir, const char *new,
		     unsigned int flags)
{
	struct inode *inode = inode_at(from_dir, old);
	struct inode *other = victim_get(to_dir, new);
	bool done = renameat2(from_dir, old, to_dir, new, flags) == 0;
	int error = done ? 0 : errno;

	/* Between two names of one file rename() does nothing. */
	if (inode == other)
		done = false;
	if (done)
		moved(inode, from, old, to, new);
	if (done && (flags & RENAME_EXCHANGE)) {
		moved(other, to, new, from, old);
		done = false;
	}
	victim_put(other, to, new, done);
	if (inode)
		inode_unref(inode);
	return error;
}

static void op_rename(fuse_req_t req, fuse_ino_t ino, const char *name,
		      fuse_ino_t new_ino, const char *new_name,
		      unsigned int flags)
{
	struct inode *from = inode_of(ino), *to = inode_of(new_ino);
	int from_dir, to_dir, error;

	count(OP_RENAME);
	from_dir = fd_get(from);
	if (from_dir == -1)
		return reply_error(req, errno);
	to_dir = fd_get(to);
	if (to_dir == -1) {
		error = errno;
		fd_put(from);
		return reply_error(req, error);
	}

	pthread_rwlock_wrlock(&table.names);
	error = rename_at(from, from_dir, name, to, to_dir, new_name, flags);
	pthread_rwlock_unlock(&table.names);
	fd_put(to);
	fd_put(from);
	reply_error(req, error);
}

/* Directories */

static struct directory *directory_new(struct inode *inode)
{
	struct directory *d;
	int path, fd = -1;

	path = fd_get(inode);
	if (path != -1) {
		fd = open_at(path, ".", O_RDONLY | O_DIRECTORY);
		fd_put(inode);
	}
	if (fd == -1)
		return NULL;

	d = calloc(1, sizeof(*d));
	if (d)
		d->dp = fdopendir(fd);
	if (!d || !d->dp) {
		free(d);
		close(fd);
		errno = ENOMEM;
		return NULL;
	}
	pthread_mutex_init(&d->lock, NULL);
	return d;
}

static void directory_free(struct directory *d)
{
	closedir(d->dp);
	pthread_mutex_destroy(&d->lock);
	free(d);
	open_end();
}

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct directory *d;
	int error;

	count(OP_OPENDIR);
	if (!open_begin())
		return reply_error(req, errno);
	d = directory_new(inode_of(ino));
	if (!d) {
		error = errno;
		open_end();
		return reply_error(req, error);
	}
	fi->fh = (uintptr_t)d;
	if (fuse_reply_open(req, fi) == -ENOENT)
		directory_free(d);
}

static bool is_dots(const char *name)
{
	return name[0] == '.' &&
		(!name[1] || (name[1] == '.' && !name[2]));
}

/*
 * What is not known of an entry is left out, on which the client's kernel looks
 * it up when somebody asks.  Returns the room that it takes, of size bytes, or 0
 * if it is gone.
 */
static size_t add_entry(fuse_req_t req, struct inode *inode, struct directory *d,
			char *p, size_t size, off_t next, bool plus)
{
	const struct dirent *entry = d->entry;
	struct fuse_entry_param e = { .ino = 0 };
	int error = EAGAIN;
	size_t room;

	if (plus && !is_dots(entry->d_name)) {
		pthread_rwlock_rdlock(&table.names);
		error = lookup_named(inode, dirfd(d->dp), entry->d_name, &e);
		pthread_rwlock_unlock(&table.names);
		if (error == ENOENT)
			return 0;
	}
	if (error) {
		memset(&e, 0, sizeof(e));
		pthread_mutex_lock(&table.lock);
		e.attr.st_ino = visible_ino(inode->dev, entry->d_ino);
		pthread_mutex_unlock(&table.lock);
		e.attr.st_mode = DTTOIF(entry->d_type);
	}
	if (!plus)
		return fuse_add_direntry(req, p, size, entry->d_name, &e.attr, next);
	room = fuse_add_direntry_plus(req, p, size, entry->d_name, &e, next);
	if (room > size && e.ino)
		inode_forget(e.ino, 1);
	return room;
}

static int fill_entries(fuse_req_t req, struct inode *inode, struct directory *d,
			char *buf, size_t size, off_t off, bool plus, size_t *used)
{
	size_t room;

	if (off != d->offset) {
		seekdir(d->dp, off);
		d->entry = NULL;
		d->offset = off;
	}
	for (;;) {
		if (!d->entry) {
			errno = 0;
			d->entry = readdir(d->dp);
			if (!d->entry)
				return errno;
		}
		room = add_entry(req, inode, d, buf + *used, size - *used,
				 d->entry->d_off, plus);
		if (room > size - *used)
			return 0;
		*used += room;
		d->offset = d->entry->d_off;
		d->entry = NULL;
	}
}

static void read_directory(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
			   struct fuse_file_info *fi, bool plus)
{
	struct directory *d = directory_of(fi);
	char *buf = malloc(size);
	size_t used = 0;
	int error;

	if (!buf)
		return reply_error(req, ENOMEM);
	pthread_mutex_lock(&d->lock);
	error = fill_entries(req, inode_of(ino), d, buf, size, off, plus, &used);
	pthread_mutex_unlock(&d->lock);

	/* An error comes after what was read before it, at the next call. */
	if (error && !used)
		reply_error(req, error);
	else
		fuse_reply_buf(req, buf, used);
	free(buf);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		       struct fuse_file_info *fi)
{
	count(OP_READDIR);
	read_directory(req, ino, size, off, fi, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
			   struct fuse_file_info *fi)
{
	count(OP_READDIRPLUS);
	read_directory(req, ino, size, off, fi, true);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t ino,
			  struct fuse_file_info *fi)
{
	(void)ino;
	count(OP_RELEASEDIR);
	directory_free(directory_of(fi));
	reply_error(req, 0);
}

static void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync,
			struct fuse_file_info *fi)
{
	int fd = dirfd(directory_of(fi)->dp);

	(void)ino;
	count(OP_FSYNCDIR);
	reply_error(req, (datasync ? fdatasync(fd) : fsync(fd)) ? errno : 0);
}

/* Start and end */

static void op_init(void *data, struct fuse_conn_info *conn)
{
	const unsigned int wanted = FUSE_CAP_POSIX_ACL | FUSE_CAP_SPLICE_WRITE |
		FUSE_CAP_CACHE_SYMLINKS |
		(config.own_umask ? FUSE_CAP_DONT_MASK : 0) |
		(config.writeback ? FUSE_CAP_WRITEBACK_CACHE : 0) |
		(config.killpriv_v2 ? FUSE_CAP_HANDLE_KILLPRIV_V2 : 0) |
		(strcmp(config.passthrough, "none") ? FUSE_CAP_PASSTHROUGH : 0);

	(void)data;
	count(OP_INIT);
	conn->want |= conn->capable & wanted;
	/* As a request of its own a truncation takes setuid bits away. */
	conn->want &= ~FUSE_CAP_ATOMIC_O_TRUNC;
	conn->max_backing_stack_depth = config.stack_depth;
	config.writeback = !!(conn->want & FUSE_CAP_WRITEBACK_CACHE);
	config.offered = conn->want & FUSE_CAP_PASSTHROUGH;
}

static const struct fuse_lowlevel_ops operations = {
	.init		= op_init,
	.lookup		= op_lookup,
	.forget		= op_forget,
	.forget_multi	= op_forget_multi,
	.getattr	= op_getattr,
	.setattr	= op_setattr,
	.readlink	= op_readlink,
	.mknod		= op_mknod,
	.mkdir		= op_mkdir,
	.symlink	= op_symlink,
	.link		= op_link,
	.unlink		= op_unlink,
	.rmdir		= op_rmdir,
	.rename		= op_rename,
	.open		= op_open,
	.create		= op_create,
	.read		= op_read,
	.write_buf	= op_write_buf,
	.flush		= op_flush,
	.release	= op_release,
	.fsync		= op_fsync,
	.fallocate	= op_fallocate,
	.lseek		= op_lseek,
	.copy_file_range = op_copy_file_range,
	.poll		= op_poll,
	.ioctl		= op_ioctl,
	.statfs		= op_statfs,
	.getxattr	= op_getxattr,
	.setxattr	= op_setxattr,
	.listxattr	= op_listxattr,
	.removexattr	= op_removexattr,
	.opendir	= op_opendir,
	.readdir	= op_readdir,
	.readdirplus	= op_readdirplus,
	.releasedir	= op_releasedir,
	.fsyncdir	= op_fsyncdir,
};

static void log_to_syslog(enum fuse_log_level level, const char *fmt, va_list ap)
{
	vsyslog(level, fmt, ap);
}

static void *stats_thread(void *arg)
{
	sigset_t *set = arg;
	int sig;

	while (!sigwait(set, &sig))
		write_stats();
	return NULL;
}

static void fail(const char *fmt, ...)
{
	va_list ap;

	fputs("passthroughfs: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

#define OPTION(template, field) { template, offsetof(typeof(config), field), 1 }

static const struct fuse_opt options[] = {
	OPTION("--passthrough=%s", passthrough),
	OPTION("passthrough=%s", passthrough),
	OPTION("--attach=%s", attach_name),
	OPTION("attach=%s", attach_name),
	OPTION("--stats=%s", stats),
	OPTION("stats=%s", stats),
	OPTION("--timeout=%lf", timeout),
	OPTION("timeout=%lf", timeout),
	OPTION("--writeback", writeback),
	OPTION("writeback", writeback),
	OPTION("--killpriv-v2", killpriv_v2),
	OPTION("killpriv-v2", killpriv_v2),
	OPTION("--help", help),
	OPTION("-h", help),
	OPTION("--version", version),
	OPTION("-V", version),
	FUSE_OPT_END
};

static int take_source(void *data, const char *arg, int key, struct fuse_args *args)
{
	(void)data;
	(void)args;
	if (key != FUSE_OPT_KEY_NONOPT || config.source)
		return 1;
	config.source = realpath(arg, NULL);
	if (!config.source)
		fail("cannot mirror %s: %s", arg, strerror(errno));
	return 0;
}

/* --option VALUE is the same as --option=VALUE. */
static void join_values(struct fuse_args *args)
{
	static const char *const names[] = {
		"--passthrough", "--attach", "--stats", "--timeout",
	};
	char **argv = calloc(args->argc + 1, sizeof(*argv));
	unsigned int i;
	int from, to = 0;

	if (!argv)
		fail("out of memory");
	for (from = 0; from < args->argc; from++) {
		argv[to] = args->argv[from];
		for (i = 0; i < sizeof(names) / sizeof(*names); i++) {
			if (strcmp(argv[to], names[i]))
				continue;
			if (++from == args->argc)
				fail("%s needs a value (see --help)", names[i]);
			if (asprintf(&argv[to], "%s=%s", names[i],
				     args->argv[from]) == -1)
				fail("out of memory");
			break;
		}
		to++;
	}
	args->argv = argv;
	args->argc = to;
}

static void usage(void)
{
	puts("usage: passthroughfs [OPTION]... SOURCE MOUNTPOINT\n"
	     "\n"
	     "Mirrors the directory SOURCE at MOUNTPOINT; reads and writes of open files go\n"
	     "from the kernel straight to the files in SOURCE where it can do that.\n"
	     "\n"
	     "    --passthrough=WHICH    all (the default), none, or a shell pattern of names\n"
	     "                           (of paths below SOURCE, if there is a / in it)\n"
	     "    --attach=HOW           request, id, or auto (the default)\n"
	     "    --writeback            let the kernel collect writes that do not pass through\n"
	     "    --killpriv-v2          let whoever writes a file take its setuid and setgid\n"
	     "                           bits away; spares the kernel a question per write\n"
	     "    --timeout=SECONDS      how long the kernel may remember names and attributes\n"
	     "                           (1.0)\n"
	     "    --stats=FILE           write the numbers of requests there, as JSON, at exit\n"
	     "                           and on SIGUSR1\n"
	     "    -h, --help             this text\n"
	     "    -V, --version          the version");
	fuse_cmdline_help();
	puts("\nMore for -o:");
	fuse_lowlevel_help();
}

static void parse_attach(void)
{
	static const char *const names[] = {
		[ATTACH_AUTO] = "auto", [ATTACH_REQUEST] = "request", [ATTACH_ID] = "id",
	};
	unsigned int i;

	if (!config.attach_name)
		return;
	for (i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (!strcmp(config.attach_name, names[i])) {
			config.attach = i;
			return;
		}
	}
	fail("--attach is request, id or auto, not '%s'", config.attach_name);
}

/* The daemon changes its directory: names of files become absolute. */
static void prepare_stats(void)
{
	char *cwd, *path;
	struct stat st;
	FILE *f;

	if (!config.stats)
		return;
	if (config.stats[0] != '/') {
		cwd = getcwd(NULL, 0);
		if (!cwd || asprintf(&path, "%s/%s", cwd, config.stats) == -1)
			fail("no current directory: %s", strerror(errno));
		free(cwd);
		free(config.stats);
		config.stats = path;
	}
	if (asprintf(&config.stats_part, "%s.part", config.stats) == -1)
		fail("out of memory");
	/* It is replaced, which a device or a directory is not to be. */
	if (lstat(config.stats, &st) == 0 && !S_ISREG(st.st_mode))
		fail("cannot write %s: it is not a regular file", config.stats);
	f = open_stats();
	if (!f)
		fail("cannot write %s: %s", config.stats, strerror(errno));
	fclose(f);
	unlink(config.stats_part);
}

/* Of what may be open, clients can have most; finding files takes what is free. */
static void prepare_descriptors(void)
{
	struct rlimit limit;
	rlim_t reserve;

	if (getrlimit(RLIMIT_NOFILE, &limit) == -1)
		fail("cannot tell how many files may be open: %s", strerror(errno));
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	reserve = limit.rlim_cur / 2 < 128 ? limit.rlim_cur / 2 : 128;
	table.opens_max = limit.rlim_cur - reserve;
	table.cache_max = limit.rlim_cur / 2;
	if (table.cache_max > 65536)
		table.cache_max = 65536;
}

static void prepare_privilege(void)
{
	struct __user_cap_header_struct head = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	const unsigned int needed = 1U << CAP_SETUID | 1U << CAP_SETGID;

	if (syscall(SYS_capget, &head, config.caps) == -1) {
		config.killpriv_v2 = 0;
		return;
	}
	config.own_umask = unshare(CLONE_FS) == 0;
	config.group_count = getgroups(0, NULL);
	if (config.group_count > 0)
		config.groups = calloc(config.group_count, sizeof(gid_t));
	if (config.groups)
		config.group_count = getgroups(config.group_count, config.groups);
	if (!config.groups || config.group_count < 0)
		config.group_count = 0;
	config.privileged = geteuid() == 0 &&
		(config.caps[0].effective & needed) == needed;
	keep_bits(false);
}

static void prepare_root(void)
{
	pthread_rwlockattr_t attr;
	struct place place;
	struct statfs fs;
	struct inode *root = &table.root;

	/* A stream of lookups is not to keep a rename waiting. */
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr,
		PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&table.names, &attr);
	table.idle.newer = table.idle.older = &table.idle;

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

/* After the last fork, which changes what /proc/self is. */
static bool open_proc(void)
{
	config.proc_fd = open("/proc/self/fd", O_PATH | O_CLOEXEC);
	if (config.proc_fd == -1)
		fuse_log(FUSE_LOG_ERR, "passthroughfs: this needs /proc: %m\n");
	return config.proc_fd != -1;
}

static void add_mount_options(struct fuse_args *args)
{
	char *opts = strdup("subtype=passthroughfs,default_permissions");
	char *fsname;

	if (!opts || asprintf(&fsname, "fsname=%s", config.source) == -1 ||
	    fuse_opt_add_opt_escaped(&opts, fsname) == -1 ||
	    (geteuid() == 0 && fuse_opt_add_opt(&opts, "allow_other") == -1) ||
	    fuse_opt_insert_arg(args, 1, "-o") == -1 ||
	    fuse_opt_insert_arg(args, 2, opts) == -1)
		fail("out of memory");
	free(fsname);
	free(opts);
}

static int serve(struct fuse_session *se, const struct fuse_cmdline_opts *opts)
{
	struct fuse_loop_config *loop;
	int res;

	if (opts->singlethread)
		return fuse_session_loop(se);
	loop = fuse_loop_cfg_create();
	fuse_loop_cfg_set_clone_fd(loop, 1);
	/* libfuse's own default, which it does not take from here. */
	if (opts->max_idle_threads != UINT_MAX)
		fuse_loop_cfg_set_idle_threads(loop, opts->max_idle_threads);
	fuse_loop_cfg_set_max_threads(loop, opts->max_threads);
	res = fuse_session_loop_mt(se, loop);
	fuse_loop_cfg_destroy(loop);
	return res;
}

int main(int argc, char **argv)
{
	struct fuse_args args = FUSE_ARGS_INIT(argc, argv);
	struct fuse_cmdline_opts opts;
	struct fuse_session *se;
	pthread_t thread;
	sigset_t usr1;
	int res;

	join_values(&args);
	if (fuse_opt_parse(&args, &config, options, take_source) == -1)
		return 1;
	if (config.help) {
		usage();
		return 0;
	}
	if (config.version) {
		printf("passthroughfs %s, libfuse %s\n", PASSTHROUGHFS_VERSION,
		       fuse_pkgversion());
		return 0;
	}
	if (fuse_parse_cmdline(&args, &opts) == -1)
		return 1;
	if (!config.source || !opts.mountpoint)
		fail("give the directory to mirror and a mount point (see --help)");
	if (!(config.timeout >= 0))
		fail("--timeout is a number of seconds, not less than 0");
	/* The kernel would leave writes to us that we see too late. */
	if (config.killpriv_v2 && config.writeback)
		fail("--killpriv-v2 does not go with --writeback");
	if (!config.passthrough)
		config.passthrough = strdup("all");
	parse_attach();
	prepare_stats();
	prepare_descriptors();
	prepare_privilege();
	prepare_root();
	add_mount_options(&args);
	umask(0);

	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &usr1, NULL);
	signal(SIGXFSZ, SIG_IGN);

	se = fuse_session_new(&args, &operations, sizeof(operations), NULL);
	if (!se)
		return 1;
	if (fuse_set_signal_handlers(se) == -1)
		return 1;
	if (fuse_session_mount(se, opts.mountpoint) == -1)
		return 1;
	if (!opts.foreground) {
		openlog("passthroughfs", LOG_PID, LOG_DAEMON);
		fuse_set_log_func(log_to_syslog);
	}
	fuse_daemonize(opts.foreground);
	if (config.stats) {
		res = pthread_create(&thread, NULL, stats_thread, &usr1);
		if (res)
			fuse_log(FUSE_LOG_ERR, "passthroughfs: no thread for SIGUSR1: %s\n",
				 strerror(res));
	}

	res = open_proc() ? serve(se, &opts) : -1;

	fuse_session_unmount(se);
	write_stats();
	fuse_remove_signal_handlers(se);
	fuse_session_destroy(se);
	free(opts.mountpoint);
	fuse_opt_free_args(&args);
	/* A signal that asks for the end is a number above 0 here. */
	return res < 0 ? 1 : 0;
}
