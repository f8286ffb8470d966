// SPDX-License-Identifier: LGPL-2.1-only
/*
 * Passthrough for Debian 12's fuse-overlayfs, as it is packaged: LD_PRELOAD
 * loads this library into fuse-overlayfs, where it sits between the program and
 * libfuse.
 *
 * fuse-overlayfs 1.10 opens the file of the upper or of a lower layer, copies
 * it up first if need be, and answers with the descriptor as the handle.  READ
 * and WRITE only read and write that descriptor, so the kernel can do it
 * instead.  The handle of a directory is no descriptor: only answers to open and
 * create attach a file.
 *
 * If libfuse, the kernel or the file lacks passthrough, fuse-overlayfs works as
 * without this library.
 */
#define _GNU_SOURCE
#define FUSE_USE_VERSION 314
#include <dlfcn.h>
#include <errno.h>
#include <fuse_lowlevel.h>
#include <stdlib.h>
#include <string.h>

/* -o passthrough=0|1 */
static int wanted = 1;

static struct fuse_lowlevel_ops daemon_ops;

/* Only the patched libfuse has this function; NULL: no passthrough */
static __typeof__(fuse_passthrough_enable) *enable;

/* The request that this thread handles; libfuse frees it with the answer. */
static __thread fuse_req_t opening, syncing;

/* The function of libfuse that this library overrides */
#define libfuse(name) ((__typeof__(name) *)next(#name))

static void *next(const char *name)
{
	void *function = dlsym(RTLD_NEXT, name);

	if (!function)
		abort();
	return function;
}

/* After a refusal the daemon serves the open. */
static void attach(fuse_req_t req, const struct fuse_file_info *fi)
{
	if (enable)
		enable(req, fi->fh);
}

static void init(void *userdata, struct fuse_conn_info *conn)
{
	if (daemon_ops.init)
		daemon_ops.init(userdata, conn);
	if (!wanted || !(conn->capable & FUSE_CAP_PASSTHROUGH))
		return;
	enable = dlsym(RTLD_NEXT, "fuse_passthrough_enable");
	if (enable)
		conn->want |= FUSE_CAP_PASSTHROUGH;
}

static void open_file(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	opening = req;
	daemon_ops.open(req, ino, fi);
	opening = NULL;
}

int fuse_reply_open(fuse_req_t req, const struct fuse_file_info *fi)
{
	if (req == opening)
		attach(req, fi);
	return libfuse(fuse_reply_open)(req, fi);
}

/*
 * With "volatile" the daemon answers fsync with ENOSYS.  The kernel would then
 * sync passthrough files itself, which the user has turned off: answer 0
 * instead.
 */
static void fsync_file(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	syncing = req;
	daemon_ops.fsync(req, ino, datasync, fi);
	syncing = NULL;
}

int fuse_reply_err(fuse_req_t req, int err)
{
	if (enable && req == syncing && err == ENOSYS)
		err = 0;
	return libfuse(fuse_reply_err)(req, err);
}

int fuse_reply_create(fuse_req_t req, const struct fuse_entry_param *e,
		      const struct fuse_file_info *fi)
{
	attach(req, fi);
	return libfuse(fuse_reply_create)(req, e, fi);
}

struct fuse_session *fuse_session_new(struct fuse_args *args, const struct fuse_lowlevel_ops *op,
				      size_t op_size, void *userdata)
{
	struct fuse_lowlevel_ops ops = {};

	memcpy(&ops, op, op_size < sizeof(ops) ? op_size : sizeof(ops));
	daemon_ops = ops;
	ops.init = init;
	if (ops.open)
		ops.open = open_file;
	if (ops.fsync)
		ops.fsync = fsync_file;
	return libfuse(fuse_session_new)(args, &ops, sizeof(ops), userdata);
}

/*
 * The daemon drops options that it does not know, so remove ours first.  It
 * parses once, before libfuse does.
 */
int fuse_opt_parse(struct fuse_args *args, void *data, const struct fuse_opt opts[],
		   fuse_opt_proc_t proc)
{
	static const struct fuse_opt ours[] = { { "passthrough=%d", 0, 0 }, FUSE_OPT_END };
	static int parsed;

	if (!parsed) {
		parsed = 1;
		if (libfuse(fuse_opt_parse)(args, &wanted, ours, NULL) == -1)
			return -1;
	}
	return libfuse(fuse_opt_parse)(args, data, opts, proc);
}
