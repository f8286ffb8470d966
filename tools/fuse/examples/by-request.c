// SPDX-License-Identifier: GPL-2.0
/*
 * Mirror one file, with the lower file attached to each open.
 *
 *	by-request FILE MOUNTPOINT
 *
 * The file appears as "f" in MOUNTPOINT.  There is no read or write handler:
 * I/O succeeds only if it passes through.  A daemon with these handlers also
 * serves opens that the kernel refuses to pass through.
 */
#define FUSE_USE_VERSION 312
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_INO 2

static const char *lower;

static const char *path_of(fuse_ino_t ino)
{
	return ino == FILE_INO ? lower : "/";
}

static void mirror_init(void *data, struct fuse_conn_info *conn)
{
	if (conn->capable & FUSE_CAP_PASSTHROUGH)
		conn->want |= FUSE_CAP_PASSTHROUGH;
}

static void mirror_open(fuse_req_t req, fuse_ino_t ino,
			struct fuse_file_info *fi)
{
	int fd = open(path_of(ino), fi->flags & ~(O_CREAT | O_EXCL | O_NOFOLLOW));

	if (fd == -1) {
		fuse_reply_err(req, errno);
		return;
	}
	fi->fh = fd;
	/* After an error READ and WRITE come here, as without passthrough. */
	fuse_passthrough_enable(req, fd);
	fuse_reply_open(req, fi);
}

static void mirror_release(fuse_req_t req, fuse_ino_t ino,
			   struct fuse_file_info *fi)
{
	close(fi->fh);
	fuse_reply_err(req, 0);
}

static void mirror_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = { .ino = FILE_INO };

	if (parent != FUSE_ROOT_ID || strcmp(name, "f") ||
	    stat(lower, &e.attr)) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	fuse_reply_entry(req, &e);
}

static void mirror_getattr(fuse_req_t req, fuse_ino_t ino,
			   struct fuse_file_info *fi)
{
	struct stat st;

	if (stat(path_of(ino), &st))
		fuse_reply_err(req, errno);
	else
		fuse_reply_attr(req, &st, 0);
}

static const struct fuse_lowlevel_ops mirror_ops = {
	.init = mirror_init,
	.open = mirror_open,
	.release = mirror_release,
	.lookup = mirror_lookup,
	.getattr = mirror_getattr,
};

int main(int argc, char **argv)
{
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
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
