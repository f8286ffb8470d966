// SPDX-License-Identifier: GPL-2.0
/*
 * A frozen lower file system: passthrough writes wait for the thaw, reads do
 * not wait, and changes of attached inodes go to the server.  FUSE_TEST_LOWER
 * names a file system that can be frozen.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/fs.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "async_test.h"
#include "inode_test.h"
#include "io_test.h"
#include "../../kselftest_harness.h"

#define LEN	(16 * PAGE)

FIXTURE(freeze) {
	struct fuse_server s;
	char *buf;
	int fd;
	int top;	/* of the lower file system */
	unsigned long io;	/* READs and WRITEs that the test expects */
	pid_t guard;
};

/* A child that thaws the file system, however the test ends. */
static pid_t guard_start(int top)
{
	pid_t parent = getpid(), pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGUSR1);
	setpgid(0, 0);
	if (getppid() == parent) {
		sigset_t set;
		int sig;

		sigemptyset(&set);
		sigaddset(&set, SIGUSR1);
		sigprocmask(SIG_BLOCK, &set, NULL);
		sigwait(&set, &sig);
	}
	ioctl(top, FITHAW, 0);
	_exit(0);
}

static void init_flags(struct fuse_server *s, struct fuse_init_out *out)
{
	out->flags |= FUSE_POSIX_ACL | FUSE_ATOMIC_O_TRUNC;
}

FIXTURE_SETUP(freeze)
{
	sigset_t set;

	/* The signal is blocked before the guard exists. */
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);

	self->s.permissions = true;
	self->s.xattrs = true;
	self->s.init = init_flags;
	self->fd = serve_file(&self->s, OPEN_PASSTHROUGH, LEN);
	self->buf = pages(LEN);
	ASSERT_NE(NULL, self->buf);
	ASSERT_LE(0, self->fd);
	/* Fill the page cache: a read that has to map blocks may wait for the thaw. */
	ASSERT_EQ(LEN, pread(self->fd, self->buf, LEN, 0));
	self->top = open(getenv("FUSE_TEST_LOWER") ?: "/", O_RDONLY | O_CLOEXEC);
	self->guard = guard_start(self->top);
	ASSERT_LT(0, self->guard);
}

FIXTURE_TEARDOWN(freeze)
{
	int status;

	EXPECT_EQ(self->io, server_io(&self->s));
	ioctl(self->top, FITHAW, 0);
	kill(self->guard, SIGUSR1);
	waitpid(self->guard, &status, 0);
	close(self->fd);
	close(self->top);
	fuse_server_stop(&self->s);
}

/*
 * Returns 0, or -1 if the lower file system cannot be frozen or FUSE_TEST_LOWER
 * is unset.
 */
static int freeze_lower(FIXTURE_DATA(freeze) *self)
{
	if (!getenv("FUSE_TEST_LOWER"))
		return -1;
	return ioctl(self->top, FIFREEZE, 0);
}

static void thaw_lower(FIXTURE_DATA(freeze) *self)
{
	ioctl(self->top, FITHAW, 0);
}

#define FREEZE_OR_SKIP(self)						\
	if (freeze_lower(self)) {					\
		if (getenv("FUSE_TEST_LOWER"))				\
			ASSERT_EQ(EOPNOTSUPP, errno);			\
		SKIP(return, "the lower file system cannot be frozen");	\
	}

struct one_io {
	int fd;
	char *buf;
	off_t off;
	int pipe;
	ssize_t ret;
};

static void call_write(void *arg)
{
	struct one_io *io = arg;

	io->ret = pwrite(io->fd, io->buf, PAGE, io->off);
}

static void call_splice(void *arg)
{
	struct one_io *io = arg;
	loff_t off = io->off;

	io->ret = splice(io->pipe, NULL, io->fd, &off, PAGE, 0);
}

static void call_store(void *arg)
{
	struct one_io *io = arg;

	pattern(io->buf, PAGE, io->off, 2);
	io->ret = PAGE;
}

/* A write waits for the thaw and then completes; reads go on meanwhile. */
TEST_F_TIMEOUT(freeze, write_waits_read_passes, IO_TIMEOUT)
{
	struct one_io io = { .fd = self->fd, .buf = self->buf };
	struct blocker b;
	char in[PAGE];

	FREEZE_OR_SKIP(self);
	pattern(self->buf, PAGE, 0, 2);
	EXPECT_TRUE(blocker_start(&b, call_write, &io));
	EXPECT_EQ(PAGE, pread(self->fd, in, PAGE, 4 * PAGE));
	EXPECT_EQ(-1, pattern_differs(in, PAGE, 4 * PAGE, 1));
	EXPECT_EQ(PAGE, pread(self->fd, in, PAGE, 0));
	EXPECT_EQ(-1, pattern_differs(in, PAGE, 0, 1));
	EXPECT_FALSE(blocker_done(&b));

	thaw_lower(self);
	blocker_join(&b);
	EXPECT_EQ(PAGE, io.ret);
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, PAGE, 2));
}

/* RWF_NOWAIT does not wait for a thaw. */
TEST_F_TIMEOUT(freeze, nowait_write, IO_TIMEOUT)
{
	struct iovec iov = { self->buf, PAGE };
	ssize_t ret;

	FREEZE_OR_SKIP(self);
	ret = pwritev2(self->fd, &iov, 1, 0, RWF_NOWAIT);
	EXPECT_EQ(-1, ret);
	EXPECT_TRUE(errno == EAGAIN || errno == EOPNOTSUPP);
	thaw_lower(self);
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, PAGE, 1));
}

/* A waiting splice does not hold the pipe lock: it takes freeze protection first. */
TEST_F_TIMEOUT(freeze, splice_waits, IO_TIMEOUT)
{
	struct one_io io = { .fd = self->fd };
	struct blocker b;
	int p[2];

	ASSERT_EQ(0, pipe2(p, O_CLOEXEC));
	FREEZE_OR_SKIP(self);
	pattern(self->buf, PAGE, 0, 2);
	ASSERT_EQ(PAGE, write(p[1], self->buf, PAGE));
	io.pipe = p[0];
	EXPECT_TRUE(blocker_start(&b, call_splice, &io));
	EXPECT_EQ(1, write(p[1], "x", 1));
	thaw_lower(self);
	blocker_join(&b);
	EXPECT_EQ(PAGE, io.ret);
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, PAGE, 2));
	close(p[0]);
	close(p[1]);
}

static void call_freeze(void *arg)
{
	struct one_io *io = arg;

	io->ret = ioctl(io->fd, FIFREEZE, 0);
}

/*
 * A splice that waits for the server holds the pipe, another one of the same
 * pipe waits with freeze protection, and a freeze waits for that.  An abort ends
 * all three.
 */
TEST_F_TIMEOUT(freeze, splices_of_one_pipe, IO_TIMEOUT)
{
	struct one_io write_io = { .buf = self->buf }, top = { .fd = self->top };
	struct one_io pass = { .fd = self->fd }, low = { .off = 4 * PAGE };
	struct blocker b[4];
	int p[2];

	FREEZE_OR_SKIP(self);
	thaw_lower(self);
	ASSERT_EQ(0, pipe2(p, O_CLOEXEC));
	ASSERT_EQ(2 * PAGE, write(p[1], self->buf, 2 * PAGE));
	pass.pipe = p[0];
	low.pipe = p[0];
	low.fd = lower_open(&self->s, "f", O_RDWR);
	write_io.fd = fs_open(&self->s, OPEN_CACHED, "f", O_RDWR);
	ASSERT_LE(0, write_io.fd);
	/* This write holds the inode lock until the server answers. */
	fuse_server_hold(&self->s, pattern_at(PAGE - 1, 1));
	EXPECT_TRUE(blocker_start(&b[0], call_write, &write_io));
	fuse_server_wait_held(&self->s, 1);
	EXPECT_TRUE(blocker_start(&b[1], call_splice, &pass));
	EXPECT_TRUE(blocker_start(&b[2], call_splice, &low));
	EXPECT_TRUE(blocker_start(&b[3], call_freeze, &top));
	EXPECT_FALSE(blocker_done(&b[1]));
	EXPECT_FALSE(blocker_done(&b[2]));

	fuse_server_die(&self->s);
	blocker_join(&b[2]);
	blocker_join(&b[3]);
	thaw_lower(self);
	blocker_join(&b[0]);
	blocker_join(&b[1]);
	EXPECT_EQ(PAGE, pass.ret);
	EXPECT_EQ(PAGE, low.ret);
	EXPECT_EQ(0, top.ret);
	self->io = 1;
	close(write_io.fd);
	close(low.fd);
	close(p[0]);
	close(p[1]);
}

/* A store to a clean page of a shared mapping waits for the thaw. */
TEST_F_TIMEOUT(freeze, mapping_waits, IO_TIMEOUT)
{
	struct blocker b;
	struct one_io io = {};

	io.buf = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, self->fd, 0);
	ASSERT_NE(MAP_FAILED, io.buf);
	FREEZE_OR_SKIP(self);
	EXPECT_EQ(-1, pattern_differs(io.buf, LEN, 0, 1));
	EXPECT_TRUE(blocker_start(&b, call_store, &io));
	thaw_lower(self);
	blocker_join(&b);
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, PAGE, 2));
	munmap(io.buf, LEN);
}

/* io_uring: a read completes while a write waits, which completes after the thaw. */
TEST_F_TIMEOUT(freeze, uring_out_of_order, IO_TIMEOUT)
{
	struct io_uring_cqe cqe;
	struct uring u;
	int i;

	ASSERT_EQ(0, uring_setup(&u, 8));
	FREEZE_OR_SKIP(self);
	pattern(self->buf, 2 * PAGE, 0, 2);
	for (i = 0; i < 2; i++)
		uring_prep(&u, IORING_OP_WRITE, self->fd, self->buf + i * PAGE,
			   PAGE, i * PAGE, i);
	uring_prep(&u, IORING_OP_READ, self->fd, self->buf + 4 * PAGE, PAGE,
		   4 * PAGE, 2);
	ASSERT_EQ(0, uring_enter(&u, 1));
	ASSERT_EQ(0, uring_wait(&u, &cqe));
	EXPECT_EQ(2, cqe.user_data);
	EXPECT_EQ(PAGE, cqe.res);
	EXPECT_EQ(-1, pattern_differs(self->buf + 4 * PAGE, PAGE, 4 * PAGE, 1));
	EXPECT_FALSE(uring_peek(&u, &cqe));

	thaw_lower(self);
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, uring_wait(&u, &cqe));
		EXPECT_EQ(PAGE, cqe.res);
	}
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, 2 * PAGE, 2));
	uring_destroy(&u);
}

/*
 * FIFREEZE waits for direct async writes in flight; their freeze protection is
 * released.
 */
TEST_F_TIMEOUT(freeze, aio_before_freeze, IO_TIMEOUT)
{
	static struct iocb iocb[16], *p[16];
	static struct io_event ev[16];
	aio_context_t ctx;
	int i, round;

	if (fcntl(self->fd, F_SETFL, O_DIRECT) ||
	    pread(self->fd, self->buf, BLOCK, 0) < 0)
		fcntl(self->fd, F_SETFL, 0);
	ASSERT_EQ(0, aio_setup(16, &ctx));
	for (round = 0; round < 8; round++) {
		pattern(self->buf, LEN, 0, 2 + round);
		for (i = 0; i < 16; i++) {
			aio_prep(&iocb[i], IOCB_CMD_PWRITE, self->fd,
				 self->buf + i * PAGE, PAGE, i * PAGE, i);
			p[i] = &iocb[i];
		}
		ASSERT_EQ(16, aio_submit(ctx, 16, p));
		FREEZE_OR_SKIP(self);
		/* FIFREEZE waited for the writers. */
		ASSERT_EQ(16, aio_wait(ctx, 16, ev));
		EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, LEN, 2 + round));
		thaw_lower(self);
	}
	EXPECT_EQ(0, aio_destroy(ctx));
}

enum change {
	CHMOD, CHOWN, TRUNCATE, OPEN_TRUNC, SETXATTR, REMOVEXATTR, SET_ACL, REMOVE_ACL,
	CHANGES
};

static const int asks[CHANGES] = {
	[CHMOD] = FUSE_SETATTR, [CHOWN] = FUSE_SETATTR, [TRUNCATE] = FUSE_SETATTR,
	[OPEN_TRUNC] = FUSE_SETATTR, [SETXATTR] = FUSE_SETXATTR,
	[REMOVEXATTR] = FUSE_REMOVEXATTR, [SET_ACL] = FUSE_SETXATTR,
	[REMOVE_ACL] = FUSE_REMOVEXATTR,
};

struct one_change {
	enum change what;
	const char *path;
	int ret;
};

static void call_change(void *arg)
{
	struct one_change *c = arg;

	switch (c->what) {
	case CHMOD:
		c->ret = chmod(c->path, 0600);
		break;
	case CHOWN:
		c->ret = chown(c->path, USER, GROUP);
		break;
	case TRUNCATE:
		c->ret = truncate(c->path, PAGE);
		break;
	case OPEN_TRUNC:
		c->ret = open(c->path, O_WRONLY | O_TRUNC | O_CLOEXEC);
		close(c->ret);
		break;
	case SETXATTR:
		c->ret = setxattr(c->path, "user.a", "b", 1, 0);
		break;
	case REMOVEXATTR:
		c->ret = removexattr(c->path, "user.a");
		break;
	case SET_ACL:
		c->ret = set_acl(c->path);
		break;
	default:
		c->ret = removexattr(c->path, ACL);
	}
}

/* Undo the change below.  Returns 0 or -1. */
static int undo_change(struct fuse_server *s, enum change what)
{
	const char *low = lower_path(s, "f");

	switch (what) {
	case CHMOD:
		return chmod(low, 0644);
	case CHOWN:
		return chown(low, 0, 0);
	case SETXATTR:
		return removexattr(low, "user.a") && errno != ENODATA ? -1 : 0;
	case REMOVEXATTR:
		return setxattr(low, "user.a", "b", 1, 0);
	case SET_ACL:
		return removexattr(low, ACL) && errno != ENODATA ? -1 : 0;
	case REMOVE_ACL:
		return set_acl(low) ? -1 : 0;
	default:
		return truncate(low, LEN);
	}
}

/* Has the lower file been changed? */
static bool is_changed(struct fuse_server *s, enum change what)
{
	const char *low = lower_path(s, "f");
	char value[100];
	struct stat st;

	if (stat(low, &st))
		return false;
	switch (what) {
	case CHMOD:
		return (st.st_mode & 07777) == 0600;
	case CHOWN:
		return st.st_uid == USER && st.st_gid == GROUP;
	case TRUNCATE:
		return st.st_size == PAGE;
	case OPEN_TRUNC:
		return st.st_size == 0;
	case SETXATTR:
		return getxattr(low, "user.a", value, sizeof(value)) == 1;
	case REMOVEXATTR:
		return getxattr(low, "user.a", value, sizeof(value)) < 0;
	case SET_ACL:
		return getxattr(low, ACL, value, sizeof(value)) > 0;
	default:
		return getxattr(low, ACL, value, sizeof(value)) < 0;
	}
}

/* Have the server thread wait, with a change unanswered, while this is set. */
static bool held;
static pid_t server_tid;

static bool hold_change(struct fuse_server *s, const struct fuse_in_header *in)
{
	bool change = in->opcode == FUSE_SETATTR || in->opcode == FUSE_SETXATTR ||
		in->opcode == FUSE_REMOVEXATTR;

	server_tid = gettid();
	while (change && __atomic_load_n(&held, __ATOMIC_ACQUIRE))
		sched_yield();
	return false;
}

/*
 * While the lower file system is frozen, changes of an attached inode go to the
 * server, which waits for the thaw.  Until it answers they do not hold up
 * another freeze.  After the thaw they are made below, without a request.
 */
TEST_F_TIMEOUT(freeze, changes_ask, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	struct one_change c = { .path = fuse_path(s, "f") };
	struct blocker b;
	unsigned long n;
	int refrozen;

	close(self->fd);
	self->fd = -1;
	ASSERT_EQ(0, inode_attach(s, "f", OPS_FILE));
	s->request = hold_change;
	for (c.what = 0; c.what < CHANGES; c.what++) {
		ASSERT_EQ(0, undo_change(s, c.what)) TH_LOG("change %d", c.what);
		n = fuse_server_count(s, asks[c.what]);
		__atomic_store_n(&held, true, __ATOMIC_RELEASE);
		FREEZE_OR_SKIP(self);
		EXPECT_TRUE(blocker_start(&b, call_change, &c))
			TH_LOG("change %d", c.what);
		fuse_server_wait(s, asks[c.what], n + 1);
		thaw_lower(self);
		refrozen = freeze_lower(self);
		__atomic_store_n(&held, false, __ATOMIC_RELEASE);
		ASSERT_EQ(0, refrozen);
		EXPECT_TRUE(falls_asleep(server_tid));
		EXPECT_FALSE(blocker_done(&b));
		thaw_lower(self);
		blocker_join(&b);
		EXPECT_LE(0, c.ret) TH_LOG("change %d", c.what);
		EXPECT_TRUE(is_changed(s, c.what)) TH_LOG("change %d", c.what);

		ASSERT_EQ(0, undo_change(s, c.what));
		call_change(&c);
		EXPECT_LE(0, c.ret) TH_LOG("change %d", c.what);
		EXPECT_TRUE(is_changed(s, c.what)) TH_LOG("change %d", c.what);
		EXPECT_EQ(n + 1, fuse_server_count(s, asks[c.what]));
	}
}

/*
 * A process that is killed while it waits dies at the latest after the thaw,
 * and has written all or nothing.
 */
TEST_F_TIMEOUT(freeze, killed_while_waiting, IO_TIMEOUT)
{
	int status;
	pid_t pid;

	FREEZE_OR_SKIP(self);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		pattern(self->buf, PAGE, 0, 2);
		_exit(pwrite(self->fd, self->buf, PAGE, 0) != PAGE);
	}
	EXPECT_TRUE(falls_asleep(pid));
	kill(pid, SIGKILL);
	thaw_lower(self);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_TRUE(lower_differs(&self->s, "f", 0, PAGE, 1) == -1 ||
		    lower_differs(&self->s, "f", 0, PAGE, 2) == -1);
	/* The killed process released its freeze protection: the next freeze succeeds. */
	ASSERT_EQ(0, freeze_lower(self));
	thaw_lower(self);
}

TEST_HARNESS_MAIN
