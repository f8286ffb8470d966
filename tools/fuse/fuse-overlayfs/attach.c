// SPDX-License-Identifier: LGPL-2.1-only
/*
 * Passthrough for Debian 12's fuse-overlayfs, which stays as it is packaged: this
 * library is loaded into it (LD_PRELOAD) and stands between it and libfuse.
 *
 * fuse-overlayfs 1.10 opens the file of the upper or of a lower layer, copies it up
 * before if need be, answers with the descriptor as the handle, and does no more at
 * READ and WRITE than to read and write that. So the kernel may do it instead. The
 * handle of a directory is no descriptor: only what open and create answer is attached.
 *
 * If libfuse, the kernel or the file cannot pass through, all is as without this.
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

/* Only the patched libfuse has this function; NULL: nothing passes through. */
static __typeof__(fuse_passthrough_enable) *enable;

/* The request whose handler this thread is in; libfuse frees it at the answer. */
static __thread fuse_req_t opening, syncing;

/* The function of that name that this library hides */
#define libfuse(name) ((__typeof__(name) *)next(#name))

static void *next(const char *name)
{
	void *function = dlsym(RTLD_NEXT, name);

	if (!function)
		abort();
	return function;
}

/* A refusal changes nothing: the daemon serves that open. */
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
 * Without fsync ("volatile") the daemon answers as if it had no such function. The
 * kernel would then sync passthrough files itself, which is what the user turned off.
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
 * The daemon drops options that it does not know: take ours out first. It parses
 * once, before libfuse does.
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
