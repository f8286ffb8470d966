// SPDX-License-Identifier: GPL-2.0
/*
 * The attempt: a FUSE file system of our own with a file for each form of passthrough,
 * all attached to one lower file.  A thread serves it, and the caller is its client.
 *
 * It is unmounted, lazily, before it is used: it lives as long as the descriptor of its
 * root, whatever ends this process, and nobody else ever gets there.
 */

#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#define FIRST_INO 2	/* of the file of form 0 */

static const char *const names[FORMS] = {
	[BY_REQUEST] = "request", [BY_ID] = "id", [BY_INODE] = "inode",
};

/* libfuse's last message: why it could not mount */
static char message[256];

static void keep_message(enum fuse_log_level level, const char *fmt, va_list ap)
{
	(void)level;
	vsnprintf(message, sizeof(message), fmt, ap);
	message[strcspn(message, "\n")] = '\0';
}

bool works(const struct attempt *a)
{
	return !a->attach && !a->open && !a->io && !a->requests;
}

/* The server */

static struct try *try_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

static struct attempt *attempt_of(fuse_req_t req, fuse_ino_t ino)
{
	return &try_of(req)->form[ino - FIRST_INO];
}

/* A request that the kernel should not have sent */
static void asked(fuse_req_t req, fuse_ino_t ino)
{
	__atomic_fetch_add(&attempt_of(req, ino)->requests, 1, __ATOMIC_RELAXED);
}

static void try_init(void *data, struct fuse_conn_info *conn)
{
	struct try *try = data;

	try->minor = conn->proto_minor;
	try->offered = conn->capable & FUSE_CAP_PASSTHROUGH;
	conn->want |= conn->capable & FUSE_CAP_PASSTHROUGH;
	conn->max_backing_stack_depth = try->depth;
}

static int attributes(fuse_req_t req, fuse_ino_t ino, struct stat *st)
{
	int res = 0;

	memset(st, 0, sizeof(*st));
	if (ino == FUSE_ROOT_ID) {
		st->st_mode = S_IFDIR | 0700;
		st->st_uid = geteuid();
	} else {
		res = fstat(try_of(req)->lower, st);
	}
	st->st_ino = ino;
	return res;
}

static void try_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = { .ino = FIRST_INO };

	while (strcmp(names[e.ino - FIRST_INO], name)) {
		if (++e.ino == FIRST_INO + FORMS) {
			fuse_reply_err(req, ENOENT);
			return;
		}
	}
	(void)parent;
	if (attributes(req, e.ino, &e.attr) == -1) {
		fuse_reply_err(req, errno);
		return;
	}
	if (e.ino == FIRST_INO + BY_INODE)
		attempt_of(req, e.ino)->attach =
			-fuse_passthrough_inode(req, try_of(req)->lower,
						FUSE_PASSTHROUGH_OP(FUSE_GETATTR) |
						FUSE_PASSTHROUGH_OP(FUSE_OPEN), 0);
	fuse_reply_entry(req, &e);
}

static void try_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st;

	(void)fi;
	if (ino == FIRST_INO + BY_INODE)
		asked(req, ino);
	if (attributes(req, ino, &st) == -1)
		fuse_reply_err(req, errno);
	else
		fuse_reply_attr(req, &st, 0);
}

/* An open that is not attached is of no use. */
static void try_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct attempt *a = attempt_of(req, ino);

	switch (ino - FIRST_INO) {
	case BY_REQUEST:
		a->attach = -fuse_passthrough_enable(req, try_of(req)->lower);
		break;
	case BY_ID:
		fi->backing_id = fuse_passthrough_open(req, try_of(req)->lower);
		if (fi->backing_id <= 0)
			a->attach = errno;
		break;
	default:
		asked(req, ino);
	}
	if (a->attach)
		fuse_reply_err(req, EIO);
	else
		fuse_reply_open(req, fi);
}

static void try_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		     struct fuse_file_info *fi)
{
	(void)size;
	(void)off;
	(void)fi;
	asked(req, ino);
	fuse_reply_err(req, EIO);
}

static void try_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size,
		      off_t off, struct fuse_file_info *fi)
{
	(void)buf;
	try_read(req, ino, size, off, fi);
}

static const struct fuse_lowlevel_ops try_ops = {
	.init		= try_init,
	.lookup		= try_lookup,
	.getattr	= try_getattr,
	.open		= try_open,
	.read		= try_read,
	.write		= try_write,
};

/* With the device closed whoever still waits for an answer gets ENOTCONN. */
static void *serve(void *se)
{
	fuse_session_loop(se);
	fuse_session_unmount(se);
	return NULL;
}

/* The client */

static void use(struct try *try, enum form form, int root)
{
	struct attempt *a = &try->form[form];
	int fd = openat(root, names[form], O_CLOEXEC |
			(try->writable ? O_RDWR : O_RDONLY | O_NONBLOCK));
	struct stat st;
	char byte;

	if (fd == -1) {
		a->open = errno;
		return;
	}
	errno = EIO;
	if (try->writable &&
	    (pwrite(fd, "x", 1, 0) != 1 || pread(fd, &byte, 1, 0) != 1))
		a->io = errno;
	if (fstat(fd, &st) == -1)
		a->io = errno;
	close(fd);
}

/* The mount */

static bool detach_mount(const char *dir)
{
	int status;
	pid_t pid;

	if (!umount2(dir, MNT_DETACH | UMOUNT_NOFOLLOW))
		return true;
	pid = fork();
	if (!pid) {
		execlp("fusermount3", "fusermount3", "-u", "-z", "-q", "--", dir, NULL);
		_exit(127);
	}
	return pid != -1 && waitpid(pid, &status, 0) == pid && !status;
}

/* Returns the root of the new file system, which has no mount point any more. */
static int mount_nowhere(struct fuse_session *se, struct try *try)
{
	const char *tmp = getenv("TMPDIR");
	char *dir;
	int root = -1;

	if (asprintf(&dir, "%s/passthroughfs-check.XXXXXX",
		     tmp && *tmp == '/' ? tmp : "/tmp") == -1)
		fail("out of memory");
	if (!mkdtemp(dir)) {
		snprintf(try->obstacle, sizeof(try->obstacle),
			 "no temporary directory %s: %s", dir, strerror(errno));
		free(dir);
		return -1;
	}
	if (fuse_session_mount(se, dir) == -1) {
		snprintf(try->obstacle, sizeof(try->obstacle), "%s",
			 *message ? message : "fusermount3 could not mount");
	} else {
		root = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (root == -1 || !detach_mount(dir)) {
			snprintf(try->obstacle, sizeof(try->obstacle),
				 "cannot unmount %s again", dir);
			if (root != -1)
				close(root);
			root = -1;
			fuse_session_unmount(se);
		}
	}
	rmdir(dir);
	free(dir);
	return root;
}

/* No FUSE at all shows here, with a reason that is not libfuse's. */
static bool has_device(struct try *try)
{
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	int error = errno;

	if (fd != -1) {
		close(fd);
		return true;
	}
	snprintf(try->obstacle, sizeof(try->obstacle), "/dev/fuse: %s: %s",
		 strerror(error), error == EACCES || error == EPERM ?
		 "its mode should be 666" :
		 "run modprobe fuse");
	return false;
}

void try_forms(struct try *try)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	sigset_t all, before;
	struct fuse_session *se;
	pthread_t server;
	enum form form;
	int root;

	if (!has_device(try))
		return;
	fuse_set_log_func(keep_message);
	se = fuse_opt_add_arg(&args, "passthroughfs") == -1 ||
		fuse_opt_add_arg(&args, "-ofsname=check,default_permissions") == -1 ?
		NULL : fuse_session_new(&args, &try_ops, sizeof(try_ops), try);
	if (!se)
		fail("no FUSE session: %s", message);
	/* Nothing but SIGKILL comes between the mount and its end. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	root = mount_nowhere(se, try);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (root != -1) {
		if (pthread_create(&server, NULL, serve, se))
			fail("no thread");
		for (form = 0; form < FORMS; form++)
			use(try, form, root);
		close(root);
		pthread_join(server, NULL);
	}
	fuse_session_destroy(se);
	fuse_opt_free_args(&args);
}
