// SPDX-License-Identifier: GPL-2.0
/*
 * Mirror a directory, with a policy for some names.
 *
 *	policy SOURCE MOUNTPOINT
 *
 * Files whose names end in ".private" are read-only, and digits in them read as
 * "#".  The daemon serves open and read of these files.  Other operations are
 * attached: the kernel serves them without a request.  That includes stat of
 * private files, since the filter keeps the size.
 *
 * This needs a kernel that attaches inodes: there are no handlers for attached
 * operations.  There is no rename, which could change the policy of a file: a
 * daemon that has it calls fuse_passthrough_inode_detach() for the renamed
 * file.
 */
#define _GNU_SOURCE
#define FUSE_USE_VERSION 312
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OP(name)	FUSE_PASSTHROUGH_OP(FUSE_##name)
#define OPS_LOOK	(OP(GETATTR) | OP(GETXATTR) | OP(LISTXATTR))
#define OPS_CHANGE	(OP(SETATTR) | OP(SETXATTR) | OP(REMOVEXATTR))
#define OPS_FILE	(OP(OPEN) | OP(FSYNC) | OP(FALLOCATE) | OP(LSEEK) | \
			 OP(COPY_FILE_RANGE))
#define OPS_DIRECTORY	(OP(OPENDIR) | OP(READDIR) | OP(FSYNCDIR))

/*
 * An inode of the kernel.  The policy depends on the name, so a file with a
 * private and another name has two nodes.
 */
struct node {
	struct node *next;
	int fd;			/* O_PATH: keeps the inode number from reuse */
	dev_t dev;
	ino_t ino;
	mode_t type;
	bool private;
	uint64_t lookups;
};

static struct node root = { .type = S_IFDIR };
static struct fuse_session *se;

static struct node *node_of(fuse_ino_t ino)
{
	return ino == FUSE_ROOT_ID ? &root : (struct node *)(uintptr_t)ino;
}

static bool is_private(const char *name)
{
	const char *end = strrchr(name, '.');

	return end && !strcmp(end, ".private");
}

static uint64_t ops_of(const struct node *node)
{
	if (node->private)
		return OPS_LOOK;
	if (S_ISDIR(node->type))
		return OPS_LOOK | OPS_CHANGE | OPS_DIRECTORY;
	if (S_ISLNK(node->type))
		return OPS_LOOK | OPS_CHANGE | OP(READLINK);
	return OPS_LOOK | OPS_CHANGE | OPS_FILE;
}

/* Returns an errno. */
static int node_get(int dir, const char *name, struct fuse_entry_param *e)
{
	int fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct node *node;
	bool private;

	memset(e, 0, sizeof(*e));
	if (fd == -1 || fstat(fd, &e->attr))
		return errno;
	private = S_ISREG(e->attr.st_mode) && is_private(name);
	for (node = root.next; node; node = node->next)
		if (node->ino == e->attr.st_ino && node->dev == e->attr.st_dev &&
		    node->private == private)
			break;
	if (!node) {
		node = calloc(1, sizeof(*node));
		if (!node)
			abort();
		node->dev = e->attr.st_dev;
		node->ino = e->attr.st_ino;
		node->type = e->attr.st_mode & S_IFMT;
		node->private = private;
		node->fd = fd;
		node->next = root.next;
		root.next = node;
	} else {
		close(fd);
	}
	node->lookups++;
	e->ino = (uintptr_t)node;
	e->entry_timeout = 1;
	return 0;
}

static void node_put(struct node *node, uint64_t lookups)
{
	struct node **p = &root.next;

	node->lookups -= lookups;
	if (node == &root || node->lookups)
		return;
	while (*p != node)
		p = &(*p)->next;
	*p = node->next;
	close(node->fd);
	free(node);
}

static void policy_init(void *data, struct fuse_conn_info *conn)
{
	conn->want |= conn->capable & FUSE_CAP_PASSTHROUGH;
	conn->want &= ~(FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS);
}

static void policy_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e;
	int error = node_get(node_of(parent)->fd, name, &e);
	struct node *node = node_of(e.ino);

	if (error) {
		fuse_reply_err(req, error);
		return;
	}
	fuse_passthrough_inode(req, node->fd, ops_of(node), 0);
	if (fuse_reply_entry(req, &e))
		node_put(node, 1);
}

static void policy_forget(fuse_req_t req, fuse_ino_t ino, uint64_t lookups)
{
	node_put(node_of(ino), lookups);
	fuse_reply_none(req);
}

/* The root has no lookup: attach it here. */
static void policy_getattr(fuse_req_t req, fuse_ino_t ino,
			   struct fuse_file_info *fi)
{
	struct node *node = node_of(ino);
	struct stat st;

	if (node == &root)
		fuse_passthrough_inode_nodeid(se, ino, node->fd, ops_of(node), 0);
	if (fstat(node->fd, &st))
		fuse_reply_err(req, errno);
	else
		fuse_reply_attr(req, &st, 0);
}

static void policy_open(fuse_req_t req, fuse_ino_t ino,
			struct fuse_file_info *fi)
{
	struct node *node = node_of(ino);
	char path[40];
	int fd = -1;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", node->fd);
	errno = EACCES;
	if (!node->private || (fi->flags & (O_ACCMODE | O_TRUNC)) == O_RDONLY)
		fd = open(path, fi->flags & ~(O_CREAT | O_EXCL | O_NOFOLLOW));
	if (fd == -1) {
		fuse_reply_err(req, errno);
		return;
	}
	fi->fh = fd;
	/* The kernel sends OPEN of an attached file for an ioctl, e.g. */
	if (!node->private)
		fuse_passthrough_enable(req, fd);
	if (fuse_reply_open(req, fi))
		close(fd);
}

static void policy_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
			struct fuse_file_info *fi)
{
	char *buf = malloc(size);
	ssize_t i, n = pread(fi->fh, buf, size, off);

	for (i = 0; i < n; i++)
		if (node_of(ino)->private && isdigit((unsigned char)buf[i]))
			buf[i] = '#';
	if (n == -1)
		fuse_reply_err(req, errno);
	else
		fuse_reply_buf(req, buf, n);
	free(buf);
}

static void policy_release(fuse_req_t req, fuse_ino_t ino,
			   struct fuse_file_info *fi)
{
	close(fi->fh);
	fuse_reply_err(req, 0);
}

/* The open is by inode: the daemon keeps no handle.  fi->flags has O_EXCL. */
static void policy_create(fuse_req_t req, fuse_ino_t parent, const char *name,
			  mode_t mode, struct fuse_file_info *fi)
{
	int dir = node_of(parent)->fd, fd, error;
	struct fuse_entry_param e;

	if (is_private(name)) {
		fuse_reply_err(req, EACCES);
		return;
	}
	fd = openat(dir, name, fi->flags | O_CREAT | O_NOFOLLOW, mode);
	error = fd == -1 ? errno : node_get(dir, name, &e);
	if (!error) {
		error = -fuse_passthrough_inode(req, fd, ops_of(node_of(e.ino)), 0);
		if (error)
			node_put(node_of(e.ino), 1);
	}
	if (error)
		fuse_reply_err(req, error);
	else if (fuse_reply_create(req, &e, fi))
		node_put(node_of(e.ino), 1);
	if (fd != -1)
		close(fd);
}

static void policy_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	int dir = node_of(parent)->fd;

	fuse_reply_err(req, unlinkat(dir, name, 0) ? errno : 0);
}

static const struct fuse_lowlevel_ops policy_ops = {
	.init = policy_init,
	.lookup = policy_lookup,
	.forget = policy_forget,
	.getattr = policy_getattr,
	.open = policy_open,
	.read = policy_read,
	.release = policy_release,
	.create = policy_create,
	.unlink = policy_unlink,
};

int main(int argc, char **argv)
{
	/* The kernel checks permissions on the lower files. */
	char *mount_argv[] = { argv[0], "-o", "default_permissions" };
	struct fuse_args args = FUSE_ARGS_INIT(3, mount_argv);

	if (argc != 3)
		return 1;
	root.fd = open(argv[1], O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root.fd == -1)
		return 1;
	umask(0);
	se = fuse_session_new(&args, &policy_ops, sizeof(policy_ops), NULL);
	if (!se || fuse_session_mount(se, argv[2]))
		return 1;
	fuse_daemonize(0);
	fuse_session_loop(se);
	fuse_session_unmount(se);
	fuse_session_destroy(se);
	return 0;
}
