// SPDX-License-Identifier: GPL-2.0
/* Names: nodes and their paths, entries, attaches to inodes, changes of directories */
#define _GNU_SOURCE
#include "server_i.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* Node ids are indices of the node table.  The id of a removed name stays unused. */
uint64_t fuse_server_nodeid(struct fuse_server *s, const char *name)
{
	uint64_t i;

	pthread_mutex_lock(&s->lock);
	for (i = FUSE_ROOT_ID; i < FUSE_SERVER_NODES; i++) {
		if (!s->nodes[i].name)
			s->nodes[i] = (struct fuse_server_node) {
				.name = strdup(name), .ops = s->new_ops,
			};
		if (!strcmp(s->nodes[i].name, name))
			break;
	}
	pthread_mutex_unlock(&s->lock);
	if (i == FUSE_SERVER_NODES)
		abort();
	return i;
}

struct fuse_server_node *fuse_server_node(struct fuse_server *s, const char *name)
{
	return &s->nodes[fuse_server_nodeid(s, name)];
}

const char *server_name(struct fuse_server *s, const struct request *rq)
{
	if (rq->h.nodeid >= FUSE_SERVER_NODES)
		return "";
	return s->nodes[rq->h.nodeid].name ?: "";
}

const char *server_child(struct fuse_server *s, const struct request *rq,
			 const char *name, struct server_path *path)
{
	if (rq->h.nodeid == FUSE_ROOT_ID)
		return name;
	if (snprintf(path->s, sizeof(path->s), "%s/%s", server_name(s, rq), name) >=
	    (int)sizeof(path->s))
		abort();
	return path->s;
}

static void forget_name(struct fuse_server *s, const char *name)
{
	struct fuse_server_node *node = fuse_server_node(s, name);

	free(node->name);
	node->name = strdup("");
}

/* A file without a name has the path of a descriptor instead. */
static bool is_descriptor(const char *name)
{
	return !strncmp(name, "/proc/", 6);
}

int fuse_server_attr(struct fuse_server *s, uint64_t nodeid, const char *name,
		     struct fuse_attr *a)
{
	struct stat st;

	if (fstatat(s->dirfd, name, &st,
		    is_descriptor(name) ? 0 : AT_SYMLINK_NOFOLLOW))
		return -errno;

	*a = (struct fuse_attr) {
		.ino = nodeid,
		.size = st.st_size,
		.blocks = st.st_blocks,
		.atime = st.st_atim.tv_sec,
		.mtime = st.st_mtim.tv_sec,
		.ctime = st.st_ctim.tv_sec,
		.atimensec = st.st_atim.tv_nsec,
		.mtimensec = st.st_mtim.tv_nsec,
		.ctimensec = st.st_ctim.tv_nsec,
		.mode = st.st_mode,
		.nlink = st.st_nlink,
		.uid = st.st_uid,
		.gid = st.st_gid,
		.blksize = st.st_blksize,
	};
	return 0;
}

/* OPEN_BY_INODE attaches to regular files only. */
static uint64_t ops_by_inode(struct fuse_server *s, int fd)
{
	struct stat st;

	if (s->how != OPEN_BY_INODE || fstat(fd, &st) || !S_ISREG(st.st_mode))
		return 0;
	return FUSE_SERVER_BY_INODE;
}

void server_attach(struct fuse_server *s, const struct request *rq,
		   uint64_t nodeid)
{
	const struct fuse_server_node *node = &s->nodes[nodeid];
	const char *name = node->lower ?: node->name;
	struct fuse_passthrough_inode in = {
		.unique = rq->h.unique,
		.flags = node->flags,
		.ops = node->ops,
	};

	if ((!node->ops && s->how != OPEN_BY_INODE) ||
	    !(s->attach_in & FUSE_PASSTHROUGH_OP(rq->h.opcode)))
		return;
	in.fd = openat(s->dirfd, name, O_PATH | O_CLOEXEC |
		       (is_descriptor(name) ? 0 : O_NOFOLLOW));
	if (!in.ops)
		in.ops = ops_by_inode(s, in.fd);
	if (in.ops && ioctl(s->dev, FUSE_DEV_IOC_PASSTHROUGH_INODE, &in))
		s->inode_error = errno;
	close(in.fd);
}

int server_entry(struct fuse_server *s, const struct request *rq,
		 const char *name, struct fuse_entry_out *e)
{
	int err;

	memset(e, 0, sizeof(*e));
	e->entry_valid = s->entries_expire ? 0 : s->attr_valid;
	e->attr_valid = s->attr_valid;
	err = fuse_server_attr(s, 0, name, &e->attr);
	if (!err) {
		e->nodeid = fuse_server_nodeid(s, name);
		e->attr.ino = e->nodeid;
		server_attach(s, rq, e->nodeid);
	}
	return err;
}

static void reply_entry(struct fuse_server *s, const struct request *rq, int ret,
			const char *name)
{
	struct fuse_entry_out e;
	int err = ret < 0 ? -errno : server_entry(s, rq, name, &e);

	server_reply(s, rq, err, &e, sizeof(e));
}

void server_lookup(struct fuse_server *s, const struct request *rq, char *buf)
{
	struct server_path path;

	reply_entry(s, rq, 0, server_child(s, rq, rq->body, &path));
}

void server_mknod(struct fuse_server *s, const struct request *rq, char *buf)
{
	const struct fuse_mknod_in *in = (const void *)rq->body;
	struct server_path path;
	const char *name = server_child(s, rq, rq->body + sizeof(*in), &path);

	reply_entry(s, rq, mknodat(s->dirfd, name, in->mode, in->rdev), name);
}

void server_mkdir(struct fuse_server *s, const struct request *rq, char *buf)
{
	const struct fuse_mkdir_in *in = (const void *)rq->body;
	struct server_path path;
	const char *name = server_child(s, rq, rq->body + sizeof(*in), &path);

	reply_entry(s, rq, mkdirat(s->dirfd, name, in->mode), name);
}

void server_symlink(struct fuse_server *s, const struct request *rq, char *buf)
{
	const char *target = rq->body + strlen(rq->body) + 1;
	struct server_path path;
	const char *name = server_child(s, rq, rq->body, &path);

	reply_entry(s, rq, symlinkat(target, s->dirfd, name), name);
}

/* The new name gets its own node. */
void server_link(struct fuse_server *s, const struct request *rq, char *buf)
{
	const struct fuse_link_in *in = (const void *)rq->body;
	struct server_path path;
	const char *name = server_child(s, rq, rq->body + sizeof(*in), &path);

	reply_entry(s, rq, linkat(s->dirfd, s->nodes[in->oldnodeid].name,
				  s->dirfd, name, 0), name);
}

void server_readlink(struct fuse_server *s, const struct request *rq, char *buf)
{
	ssize_t n = readlinkat(s->dirfd, server_name(s, rq), buf, PATH_MAX);

	server_reply(s, rq, n < 0 ? -errno : 0, buf, n);
}

void server_unlink(struct fuse_server *s, const struct request *rq, char *buf)
{
	int flags = rq->h.opcode == FUSE_RMDIR ? AT_REMOVEDIR : 0;
	struct server_path path;
	const char *name = server_child(s, rq, rq->body, &path);
	int ret = unlinkat(s->dirfd, name, flags);

	if (!ret)
		forget_name(s, name);
	server_reply_call(s, rq, ret);
}

/* A file keeps its node id. */
void server_rename(struct fuse_server *s, const struct request *rq, char *buf)
{
	const struct fuse_rename_in *in = (const void *)rq->body;
	const char *old = rq->body + sizeof(*in);
	struct request dir = { .h.nodeid = in->newdir };
	struct server_path path[2];
	const char *from = server_child(s, rq, old, &path[0]);
	const char *to = server_child(s, &dir, old + strlen(old) + 1, &path[1]);
	int ret = renameat(s->dirfd, from, s->dirfd, to);

	if (!ret) {
		struct fuse_server_node *node = fuse_server_node(s, from);

		forget_name(s, to);
		free(node->name);
		node->name = strdup(to);
	}
	server_reply_call(s, rq, ret);
}
