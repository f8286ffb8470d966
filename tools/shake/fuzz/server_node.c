// SPDX-License-Identifier: GPL-2.0
/* Nodes of the daemon, and requests on names and attributes */
#include "server.h"

#include <sys/statfs.h>
#include <sys/xattr.h>
#include <sys/syscall.h>

void nodes_init(void)
{
	struct stat st;
	unsigned int i;

	for (i = 0; i < NODES; i++)
		d.nodes[i].fd = -1;
	for (i = 0; i < HANDLES; i++)
		d.handles[i].fd = -1;
	d.nodes[FUSE_ROOT_ID].fd = open(served, O_PATH | O_CLOEXEC);
	if (fstat(d.nodes[FUSE_ROOT_ID].fd, &st))
		_exit(1);
	d.nodes[FUSE_ROOT_ID].dev = st.st_dev;
	d.nodes[FUSE_ROOT_ID].ino = st.st_ino;
}

int node_fd(uint64_t nodeid)
{
	int fd;

	pthread_mutex_lock(&d.lock);
	fd = nodeid < NODES ? d.nodes[nodeid].fd : -1;
	pthread_mutex_unlock(&d.lock);
	return fd;
}

const char *node_path(uint64_t nodeid, struct path *p)
{
	snprintf(p->s, sizeof(p->s), "/proc/self/fd/%d", node_fd(nodeid));
	return p->s;
}

int node_attr(uint64_t nodeid, struct fuse_attr *a)
{
	struct stat st;

	if (fstatat(node_fd(nodeid), "", &st, AT_EMPTY_PATH))
		return -errno;
	*a = (struct fuse_attr) {
		.ino = nodeid,
		.size = st.st_size,
		.blocks = st.st_blocks,
		.atime = st.st_atime,
		.mtime = st.st_mtime,
		.ctime = st.st_ctime,
		.atimensec = st.st_atim.tv_nsec,
		.mtimensec = st.st_mtim.tv_nsec,
		.ctimensec = st.st_ctim.tv_nsec,
		.mode = st.st_mode,
		.nlink = st.st_nlink,
		.uid = st.st_uid,
		.gid = st.st_gid,
		.blksize = PAGE,
	};
	if (!sh->cfg.calm && percent(1))
		a->size = random_bits() >> rnd(64);
	return 0;
}

/* The node of an O_PATH descriptor, which is taken over; 0: no room.  Needs the lock. */
static uint64_t node_of(int fd, const struct stat *st)
{
	uint64_t free = 0, i;

	for (i = FUSE_ROOT_ID; i < NODES; i++) {
		struct node *n = &d.nodes[i];

		if (n->fd < 0) {
			free = free ?: i;
		} else if (n->dev == st->st_dev && n->ino == st->st_ino) {
			close(fd);
			return i;
		}
	}
	if (!free) {
		close(fd);
		return 0;
	}
	d.nodes[free] = (struct node) {
		.fd = fd,
		.dev = st->st_dev,
		.ino = st->st_ino,
		.generation = d.nodes[free].generation + 1,
	};
	return free;
}

int node_entry(uint64_t parent, const char *name, struct fuse_entry_out *e)
{
	int fd = openat(node_fd(parent), name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	memset(e, 0, sizeof(*e));
	if (fd < 0)
		return -errno;
	if (fstatat(fd, "", &st, AT_EMPTY_PATH)) {
		close(fd);
		return -ENOENT;
	}
	pthread_mutex_lock(&d.lock);
	e->nodeid = node_of(fd, &st);
	if (e->nodeid) {
		d.nodes[e->nodeid].lookups++;
		e->generation = d.nodes[e->nodeid].generation;
	}
	pthread_mutex_unlock(&d.lock);
	if (!e->nodeid)
		return -ENFILE;
	e->entry_valid = rnd(3);
	e->attr_valid = rnd(3);
	return node_attr(e->nodeid, &e->attr);
}

static void node_forget(uint64_t nodeid, uint64_t lookups)
{
	struct node *n = &d.nodes[nodeid];

	if (nodeid <= FUSE_ROOT_ID || nodeid >= NODES)
		return;
	pthread_mutex_lock(&d.lock);
	n->lookups -= lookups < n->lookups ? lookups : n->lookups;
	if (!n->lookups && n->fd >= 0) {
		close(n->fd);
		n->fd = -1;
		n->ops = 0;
	}
	pthread_mutex_unlock(&d.lock);
}

void node_unentry(const struct fuse_entry_out *e)
{
	/* After a wrong answer the daemon does not know what the kernel took. */
	if (sh->cfg.calm)
		node_forget(e->nodeid, 1);
}

static void forget(const struct request *rq, char *buf)
{
	const struct fuse_forget_in *in = (const void *)rq->body;

	node_forget(rq->h.nodeid, in->nlookup);
}

static void batch_forget(const struct request *rq, char *buf)
{
	const struct fuse_batch_forget_in *in = (const void *)rq->body;
	const struct fuse_forget_one *one = (const void *)(in + 1);
	unsigned int i;

	for (i = 0; i < in->count; i++)
		node_forget(one[i].nodeid, one[i].nlookup);
}

static void reply_entry(const struct request *rq, const char *name)
{
	struct fuse_entry_out e;
	int err = node_entry(rq->h.nodeid, name, &e);

	if (!err)
		attach_inode(rq, e.nodeid);
	if (!reply(rq, err, &e, sizeof(e)) && !err)
		node_unentry(&e);
}

static void look_up(const struct request *rq, char *buf)
{
	reply_entry(rq, rq->body);
}

static void reply_made(const struct request *rq, int ret, const char *name)
{
	if (ret)
		reply_call(rq, ret);
	else
		reply_entry(rq, name);
}

static void mknod_(const struct request *rq, char *buf)
{
	const struct fuse_mknod_in *in = (const void *)rq->body;
	const char *name = (const char *)(in + 1);

	reply_made(rq, mknodat(node_fd(rq->h.nodeid), name, in->mode, in->rdev), name);
}

static void mkdir_(const struct request *rq, char *buf)
{
	const struct fuse_mkdir_in *in = (const void *)rq->body;
	const char *name = (const char *)(in + 1);

	reply_made(rq, mkdirat(node_fd(rq->h.nodeid), name, in->mode), name);
}

static void symlink_(const struct request *rq, char *buf)
{
	const char *name = rq->body, *target = name + strlen(name) + 1;

	reply_made(rq, symlinkat(target, node_fd(rq->h.nodeid), name), name);
}

static void link_(const struct request *rq, char *buf)
{
	const struct fuse_link_in *in = (const void *)rq->body;
	const char *name = (const char *)(in + 1);
	struct path p;

	reply_made(rq, linkat(AT_FDCWD, node_path(in->oldnodeid, &p),
			      node_fd(rq->h.nodeid), name, AT_SYMLINK_FOLLOW), name);
}

static void unlink_(const struct request *rq, char *buf)
{
	reply_call(rq, unlinkat(node_fd(rq->h.nodeid), rq->body,
				rq->h.opcode == FUSE_RMDIR ? AT_REMOVEDIR : 0));
}

static void rename_(const struct request *rq, char *buf)
{
	const struct fuse_rename2_in *in = (const void *)rq->body;
	bool second = rq->h.opcode == FUSE_RENAME2;
	const char *from = rq->body + (second ? sizeof(*in) :
				       sizeof(struct fuse_rename_in));
	const char *to = from + strlen(from) + 1;

	reply_call(rq, syscall(SYS_renameat2, node_fd(rq->h.nodeid), from,
			       node_fd(in->newdir), to, second ? in->flags : 0));
}

static void readlink_(const struct request *rq, char *buf)
{
	ssize_t n = readlinkat(node_fd(rq->h.nodeid), "", buf, PAGE);

	reply(rq, n < 0 ? -errno : 0, buf, n < 0 ? 0 : n);
}

static void reply_attr(const struct request *rq, int err)
{
	struct fuse_attr_out out = { .attr_valid = rnd(3) };

	err = err ?: node_attr(rq->h.nodeid, &out.attr);
	reply(rq, err, &out, sizeof(out));
}

static void getattr(const struct request *rq, char *buf)
{
	attach_inode(rq, rq->h.nodeid);
	reply_attr(rq, 0);
}

/* On a symlink only times and owner change: a descriptor's path does not lead to it. */
static void setattr(const struct request *rq, char *buf)
{
	const struct fuse_setattr_in *in = (const void *)rq->body;
	struct timespec t[2] = {
		{ .tv_sec = in->atime, .tv_nsec = in->atimensec },
		{ .tv_sec = in->mtime, .tv_nsec = in->mtimensec },
	};
	int fd = node_fd(rq->h.nodeid), err = 0;
	struct path p;
	const char *path = node_path(rq->h.nodeid, &p);

	if ((in->valid & FATTR_SIZE) && truncate(path, in->size))
		err = -errno;
	if ((in->valid & (FATTR_UID | FATTR_GID)) &&
	    fchownat(fd, "", in->valid & FATTR_UID ? in->uid : -1u,
		     in->valid & FATTR_GID ? in->gid : -1u, AT_EMPTY_PATH))
		err = -errno;
	if ((in->valid & FATTR_MODE) && chmod(path, in->mode & 07777))
		err = -errno;
	if (!(in->valid & FATTR_ATIME))
		t[0].tv_nsec = UTIME_OMIT;
	else if (in->valid & FATTR_ATIME_NOW)
		t[0].tv_nsec = UTIME_NOW;
	if (!(in->valid & FATTR_MTIME))
		t[1].tv_nsec = UTIME_OMIT;
	else if (in->valid & FATTR_MTIME_NOW)
		t[1].tv_nsec = UTIME_NOW;
	if ((in->valid & (FATTR_ATIME | FATTR_MTIME)) &&
	    utimensat(AT_FDCWD, path, t, 0))
		err = -errno;
	reply_attr(rq, err);
}

static void reply_xattr(const struct request *rq, ssize_t n, const char *buf,
			uint32_t size)
{
	struct fuse_getxattr_out out = { .size = n };

	if (n < 0)
		reply(rq, -errno, NULL, 0);
	else if (!size)
		reply(rq, 0, &out, sizeof(out));
	else
		reply(rq, 0, buf, n);
}

static void getxattr_(const struct request *rq, char *buf)
{
	const struct fuse_getxattr_in *in = (const void *)rq->body;
	const char *name = (const char *)(in + 1);
	uint32_t size = in->size < BUF ? in->size : BUF;
	struct path p;

	reply_xattr(rq, getxattr(node_path(rq->h.nodeid, &p), name, buf, size), buf,
		    size);
}

static void listxattr_(const struct request *rq, char *buf)
{
	const struct fuse_getxattr_in *in = (const void *)rq->body;
	uint32_t size = in->size < BUF ? in->size : BUF;
	struct path p;

	reply_xattr(rq, listxattr(node_path(rq->h.nodeid, &p), buf, size), buf, size);
}

static void setxattr_(const struct request *rq, char *buf)
{
	const struct fuse_setxattr_in *in = (const void *)rq->body;
	const char *name = rq->body + (sh->cfg.init_flags & FUSE_SETXATTR_EXT ?
				       sizeof(*in) : FUSE_COMPAT_SETXATTR_IN_SIZE);
	struct path p;

	reply_call(rq, setxattr(node_path(rq->h.nodeid, &p), name,
				name + strlen(name) + 1, in->size, in->flags));
}

static void removexattr_(const struct request *rq, char *buf)
{
	struct path p;

	reply_call(rq, removexattr(node_path(rq->h.nodeid, &p), rq->body));
}

static void statfs_(const struct request *rq, char *buf)
{
	struct fuse_statfs_out out = { .st = { .bsize = PAGE, .namelen = 255 } };

	reply(rq, 0, &out, sizeof(out));
}

const answer_fn node_answers[64] = {
	[FUSE_LOOKUP] = look_up,
	[FUSE_FORGET] = forget,
	[FUSE_BATCH_FORGET] = batch_forget,
	[FUSE_GETATTR] = getattr,
	[FUSE_SETATTR] = setattr,
	[FUSE_READLINK] = readlink_,
	[FUSE_SYMLINK] = symlink_,
	[FUSE_MKNOD] = mknod_,
	[FUSE_MKDIR] = mkdir_,
	[FUSE_UNLINK] = unlink_,
	[FUSE_RMDIR] = unlink_,
	[FUSE_RENAME] = rename_,
	[FUSE_RENAME2] = rename_,
	[FUSE_LINK] = link_,
	[FUSE_STATFS] = statfs_,
	[FUSE_SETXATTR] = setxattr_,
	[FUSE_GETXATTR] = getxattr_,
	[FUSE_LISTXATTR] = listxattr_,
	[FUSE_REMOVEXATTR] = removexattr_,
};
