// SPDX-License-Identifier: GPL-2.0
/*
 * Mirror one file, with the lower file attached to the inode.
 *
 *	by-inode FILE MOUNTPOINT
 *
 * The file appears as "f" in MOUNTPOINT.  The only handlers are lookup, and
 * getattr for the root: stat, open and I/O succeed only if the kernel serves
 * them.  A daemon with the other handlers also serves files that the kernel
 * refuses to attach.
 */
#define _GNU_SOURCE
#define FUSE_USE_VERSION 312
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_INO 2

static const char *lower;

static void mirror_init(void *data, struct fuse_conn_info *conn)
{
	if (conn->capable & FUSE_CAP_PASSTHROUGH)
		conn->want |= FUSE_CAP_PASSTHROUGH;
	/* The kernel attaches OPEN only if it keeps the locks itself. */
	conn->want &= ~(FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS);
}

static void mirror_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = { .ino = FILE_INO };
	int fd;

	if (parent != FUSE_ROOT_ID || strcmp(name, "f") ||
	    stat(lower, &e.attr)) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	fd = open(lower, O_PATH);
	/* After an error all that is attached here comes to the daemon. */
	fuse_passthrough_inode(req, fd, FUSE_PASSTHROUGH_OP(FUSE_GETATTR) |
			       FUSE_PASSTHROUGH_OP(FUSE_SETATTR) |
			       FUSE_PASSTHROUGH_OP(FUSE_OPEN), 0);
	close(fd);
	fuse_reply_entry(req, &e);
}

static void mirror_getattr(fuse_req_t req, fuse_ino_t ino,
			   struct fuse_file_info *fi)
{
	struct stat st;

	if (ino != FUSE_ROOT_ID || stat("/", &st))
		fuse_reply_err(req, ENOENT);
	else
		fuse_reply_attr(req, &st, 0);
}

static const struct fuse_lowlevel_ops mirror_ops = {
	.init = mirror_init,
	.lookup = mirror_lookup,
	.getattr = mirror_getattr,
};

int main(int argc, char **argv)
{
	/* The kernel checks permissions on the lower file. */
	char *mount_argv[] = { argv[0], "-o", "default_permissions" };
	struct fuse_args args = FUSE_ARGS_INIT(3, mount_argv);
	struct fuse_session *se;

	if (argc != 3)
		return 1;
	lower = realpath(argv[1], NULL);
	if (!lower)
		return 1;
	se = fuse_session_new(&args, &mirror_ops, sizeof(mirror_ops), NULL);
	if (!se || fuse_session_mount(se, argv[2]))
		return 1;
	fuse_daemonize(0);
	fuse_session_loop(se);
	fuse_session_unmount(se);
	fuse_session_destroy(se);
	return 0;
}
