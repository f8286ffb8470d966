// SPDX-License-Identifier: GPL-2.0
/*
 * Ownership of the lower file.  The lower file is on a file system of its own,
 * which can be unmounted after the last reference is dropped.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>

#include "attach_test.h"
#include "../../kselftest_harness.h"

#define LEN	OWN_FS_LEN
#define RACES	200

/* Action of the server after the attach */
enum then {
	ANSWER,
	ANSWER_ERROR,
	ANSWER_SHORT,	/* too short for an answer to an open */
	ANSWER_WRONG,	/* CREATE, TMPFILE: an entry of a wrong type */
	HOLD,
	DIE,
};

struct plan {
	int opcode;
	enum then then;
	enum then interrupt;	/* action at FUSE_INTERRUPT */
	int error;
	struct own_fs fs;
	int got;
	uint64_t unique;
	int attached[2];	/* a pipe: one byte for each attach */
};

FIXTURE(ownership) {
	struct fuse_server s;
	struct plan p;
};

FIXTURE_VARIANT(ownership) { int opcode; };
FIXTURE_VARIANT_ADD(ownership, open) { .opcode = FUSE_OPEN };
FIXTURE_VARIANT_ADD(ownership, create) { .opcode = FUSE_CREATE };
FIXTURE_VARIANT_ADD(ownership, tmpfile) { .opcode = FUSE_TMPFILE };

static int answer(struct fuse_server *s, const struct plan *p, mode_t mode)
{
	if (p->opcode == FUSE_OPEN)
		return reply_open(s, p->unique);
	return reply_create(s, p->unique, 50, mode);
}

static void then_do(struct fuse_server *s, const struct plan *p, enum then then)
{
	switch (then) {
	case ANSWER:
		answer(s, p, S_IFREG | 0600);
		break;
	case ANSWER_ERROR:
		fuse_server_reply(s, p->unique, p->error, NULL, 0);
		break;
	case ANSWER_SHORT:
		fuse_server_reply(s, p->unique, 0, "x", 1);
		break;
	case ANSWER_WRONG:
		answer(s, p, S_IFDIR | 0700);
		break;
	case HOLD:
		break;
	case DIE:
		close_device(s);
		break;
	}
}

static bool follow_plan(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct plan *p = s->arg;
	int fd;

	if (in->opcode == FUSE_INTERRUPT) {
		then_do(s, p, p->interrupt);
		return true;
	}
	if (in->opcode != (uint32_t)p->opcode)
		return false;

	/* The server keeps no descriptor of the lower file. */
	fd = open(p->fs.path, O_RDWR | O_CLOEXEC);
	p->unique = in->unique;
	p->got = attach(s->dev, in->unique, fd);
	close(fd);
	then_do(s, p, p->then);
	if (write(p->attached[1], "", 1) != 1)
		abort();
	return true;
}

static int plan_open(struct fuse_server *s)
{
	const struct plan *p = s->arg;

	return open_as(s, p->opcode);
}

static bool plan_wait(struct plan *p)
{
	char c;

	return read(p->attached[0], &c, 1) == 1;
}

FIXTURE_SETUP(ownership)
{
	struct plan *p = &self->p;

	p->opcode = variant->opcode;
	p->error = -EACCES;
	self->s.arg = p;
	ASSERT_EQ(0, fuse_server_start(&self->s));
	ASSERT_EQ(0, lower_make(&self->s, "f", LEN, 9));
	ASSERT_EQ(0, pipe(p->attached));
	ASSERT_TRUE(own_fs_mount(&p->fs));
	self->s.request = follow_plan;
}

FIXTURE_TEARDOWN(ownership)
{
	EXPECT_EQ(0, server_io(&self->s));
	fuse_server_stop(&self->s);
	/* No reference is left, whatever the test did. */
	EXPECT_TRUE(own_fs_free(&self->p.fs));
	own_fs_end(&self->p.fs);
}

/* The open owns the lower file until its last descriptor is closed. */
TEST_F_TIMEOUT(ownership, last_close, IO_TIMEOUT)
{
	int fd, fd2, status;
	pid_t pid;
	char c;

	fd = plan_open(&self->s);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, self->p.got);
	EXPECT_TRUE(own_fs_busy(&self->p.fs));
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, OWN_FS_SEED, true));

	fd2 = dup(fd);
	close(fd);
	EXPECT_TRUE(own_fs_busy(&self->p.fs));
	EXPECT_TRUE(reads_pattern(&self->s, fd2, LEN, OWN_FS_SEED, true));

	pid = fork();
	if (!pid) {
		raise(SIGSTOP);
		_exit(pread(fd2, &c, 1, 0) != 1);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, WUNTRACED));
	close(fd2);
	EXPECT_TRUE(own_fs_busy(&self->p.fs));
	kill(pid, SIGCONT);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_TRUE(own_fs_free(&self->p.fs));
}

/* A mapping pins the lower file by itself, after the open is gone. */
TEST_F_TIMEOUT(ownership, mapping, IO_TIMEOUT)
{
	char *p;
	int fd;

	fd = plan_open(&self->s);
	ASSERT_LE(0, fd);
	p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, p);
	close(fd);
	fuse_server_wait(&self->s, FUSE_RELEASE, 1);
	EXPECT_TRUE(own_fs_busy(&self->p.fs));
	EXPECT_EQ(-1, pattern_differs(p, LEN, 0, OWN_FS_SEED));
	p[0] = 'x';
	munmap(p, LEN);
	EXPECT_TRUE(own_fs_free(&self->p.fs));
}

/* The opens of a killed process are closed like any other. */
TEST_F_TIMEOUT(ownership, client_killed, IO_TIMEOUT)
{
	int status;
	pid_t pid;

	pid = fork();
	if (!pid) {
		int fd = plan_open(&self->s);

		mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		raise(SIGSTOP);
		_exit(fd < 0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, WUNTRACED));
	ASSERT_TRUE(WIFSTOPPED(status));
	EXPECT_TRUE(own_fs_busy(&self->p.fs));
	kill(pid, SIGKILL);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(own_fs_free(&self->p.fs));
}

/* An answer with an error releases the lower file. */
TEST_F_TIMEOUT(ownership, error, IO_TIMEOUT)
{
	static const int errors[] = { EACCES, ENOENT, EINTR, EIO, 511 };
	unsigned int i;

	self->p.then = ANSWER_ERROR;
	for (i = 0; i < ARRAY_SIZE(errors); i++) {
		self->p.error = -errors[i];
		self->p.got = -1;
		EXPECT_EQ(-1, plan_open(&self->s));
		EXPECT_EQ(errors[i], errno);
		EXPECT_EQ(0, self->p.got);
		EXPECT_TRUE(own_fs_free(&self->p.fs));
	}
}

/*
 * ENOSYS, by which a server declines OPEN or CREATE for good, releases the
 * lower file.
 */
TEST_F_TIMEOUT(ownership, enosys, IO_TIMEOUT)
{
	int fd;

	self->p.then = ANSWER_ERROR;
	self->p.error = -ENOSYS;
	fd = plan_open(&self->s);
	EXPECT_EQ(0, self->p.got);
	/*
	 * An open without an OPEN request has no passthrough.  Without CREATE the
	 * kernel sends MKNOD and OPEN.
	 */
	EXPECT_EQ(variant->opcode != FUSE_TMPFILE, fd >= 0);
	EXPECT_TRUE(own_fs_free(&self->p.fs));
	close(fd);
}

/* An answer of a wrong size releases the lower file. */
TEST_F_TIMEOUT(ownership, short_answer, IO_TIMEOUT)
{
	self->p.then = ANSWER_SHORT;
	EXPECT_EQ(-1, plan_open(&self->s));
	EXPECT_EQ(EIO, errno);
	EXPECT_EQ(0, self->p.got);
	EXPECT_TRUE(own_fs_free(&self->p.fs));
}

static bool refuse_setattr(struct fuse_server *s, const struct fuse_in_header *in)
{
	if (in->opcode != FUSE_SETATTR)
		return follow_plan(s, in);
	fuse_server_reply(s, in->unique, -EDQUOT, NULL, 0);
	return true;
}

/*
 * A failure after the answer releases the lower file: CREATE and TMPFILE fail
 * at the entry in the answer, an open fails at O_TRUNC.
 */
TEST_F_TIMEOUT(ownership, fails_after_answer, IO_TIMEOUT)
{
	self->p.then = ANSWER_WRONG;
	self->s.request = refuse_setattr;
	if (variant->opcode == FUSE_OPEN) {
		EXPECT_EQ(-1, open(fuse_path(&self->s, "f"), O_RDWR | O_TRUNC));
		EXPECT_EQ(EDQUOT, errno);
	} else {
		EXPECT_EQ(-1, plan_open(&self->s));
		EXPECT_EQ(EIO, errno);
	}
	EXPECT_EQ(0, self->p.got);
	EXPECT_TRUE(own_fs_free(&self->p.fs));
}

/*
 * A refused attach keeps no reference, and leaves the earlier attach of the
 * open in place.
 */
TEST_F_TIMEOUT(ownership, refused, IO_TIMEOUT)
{
	struct fuse_passthrough_out out;
	int fd;

	fd = plan_open(&self->s);
	ASSERT_LE(0, fd);
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, OWN_FS_SEED, true));
	close(fd);

	/* ENOENT, EINVAL: the reference is dropped at once. */
	out = (struct fuse_passthrough_out) {
		.unique = self->p.unique,
		.fd = open(self->p.fs.path, O_RDWR | O_CLOEXEC),
	};
	EXPECT_EQ(ENOENT, attach_out(self->s.dev, &out));
	out.len = 1;
	EXPECT_EQ(EINVAL, attach_out(self->s.dev, &out));
	close(out.fd);
	EXPECT_TRUE(own_fs_free(&self->p.fs));
}

static bool attach_twice(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct plan *p = s->arg;
	int fd, first;

	if (in->opcode != (uint32_t)p->opcode)
		return false;
	p->unique = in->unique;
	first = lower_open(s, "f", O_RDWR);
	p->got = attach(s->dev, in->unique, first);
	close(first);
	fd = open(p->fs.path, O_RDWR | O_CLOEXEC);
	if (!p->got)
		p->got = attach(s->dev, in->unique, fd);
	close(fd);
	then_do(s, p, ANSWER);
	return true;
}

/* A second attach is refused and keeps no reference. */
TEST_F_TIMEOUT(ownership, twice, IO_TIMEOUT)
{
	int fd;

	self->s.request = attach_twice;
	fd = plan_open(&self->s);
	ASSERT_LE(0, fd);
	EXPECT_EQ(EBUSY, self->p.got);
	EXPECT_TRUE(own_fs_free(&self->p.fs));
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 9, true));
	close(fd);
}

/* A server that dies between the ioctl and the answer leaves no reference. */
TEST_F_TIMEOUT(ownership, server_dies, IO_TIMEOUT)
{
	self->p.then = DIE;
	EXPECT_EQ(-1, plan_open(&self->s));
	EXPECT_EQ(ECONNABORTED, errno);
	EXPECT_TRUE(plan_wait(&self->p));
	EXPECT_EQ(0, self->p.got);
	EXPECT_TRUE(own_fs_free(&self->p.fs));
}

static void blocked_open(void *arg)
{
	struct fuse_server *s = arg;
	int fd = plan_open(s);

	if (fd >= 0)
		close(fd);
}

/* An abort between the ioctl and the answer leaves no reference. */
TEST_F_TIMEOUT(ownership, aborted, IO_TIMEOUT)
{
	struct blocker b;
	int busy = open(self->s.mnt, O_PATH | O_CLOEXEC);

	ASSERT_LE(0, busy);
	self->p.then = HOLD;
	ASSERT_TRUE(blocker_start(&b, blocked_open, &self->s));
	ASSERT_TRUE(plan_wait(&self->p));
	EXPECT_EQ(0, self->p.got);
	EXPECT_TRUE(own_fs_busy(&self->p.fs));
	EXPECT_EQ(-1, umount2(self->s.mnt, MNT_FORCE));
	EXPECT_EQ(EBUSY, errno);
	blocker_join(&b);
	close(busy);
	EXPECT_TRUE(own_fs_free(&self->p.fs));
}

/* A killed opener waits for the answer; any answer releases the lower file. */
TEST_F_TIMEOUT(ownership, opener_killed, IO_TIMEOUT)
{
	static const enum then thens[] = {
		ANSWER, ANSWER_ERROR, ANSWER_SHORT, ANSWER_WRONG, DIE,
	};
	unsigned int i;
	int status;
	pid_t pid;

	self->p.then = HOLD;
	for (i = 0; i < ARRAY_SIZE(thens); i++) {
		self->p.interrupt = thens[i];
		pid = fork();
		if (!pid) {
			close(self->s.dev);
			_exit(plan_open(&self->s) < 0);
		}
		ASSERT_TRUE(plan_wait(&self->p));
		EXPECT_EQ(0, self->p.got);
		EXPECT_TRUE(own_fs_busy(&self->p.fs));
		kill(pid, SIGKILL);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_TRUE(WIFSIGNALED(status));
		EXPECT_TRUE(own_fs_free(&self->p.fs)) TH_LOG("case %u", i);
	}
}

/* An open survives an abort and a lazy unmount, and only its close releases it. */
TEST_F_TIMEOUT(ownership, outlives_mount, IO_TIMEOUT)
{
	int fd;

	fd = plan_open(&self->s);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, umount2(self->s.mnt, MNT_FORCE | MNT_DETACH));
	fuse_server_die(&self->s);
	EXPECT_TRUE(own_fs_busy(&self->p.fs));
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, OWN_FS_SEED, true));
	close(fd);
	EXPECT_TRUE(own_fs_free(&self->p.fs));
}

/* An open that is in flight in a Unix socket stays open. */
TEST_F_TIMEOUT(ownership, in_a_socket, IO_TIMEOUT)
{
	int fd, sk[2];

	fd = plan_open(&self->s);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sk));
	ASSERT_TRUE(send_fd(sk[0], fd, "x"));
	close(fd);
	EXPECT_TRUE(own_fs_busy(&self->p.fs));
	close(sk[0]);
	close(sk[1]);
	EXPECT_TRUE(own_fs_free(&self->p.fs));
}

struct racer {
	struct fuse_server *s;
	pthread_t thread;
	int fd, got;
};

static int race_go;

static void *race_attach(void *arg)
{
	struct racer *r = arg;
	struct plan *p = r->s->arg;

	while (!__atomic_load_n(&race_go, __ATOMIC_ACQUIRE))
		;
	r->got = attach(r->s->dev, p->unique, r->fd);
	close(r->fd);
	return NULL;
}

/* Two threads attach once race_mark() is called. */
static void race_start(struct fuse_server *s, struct racer r[2])
{
	struct plan *p = s->arg;
	int i;

	__atomic_store_n(&race_go, 0, __ATOMIC_RELEASE);
	for (i = 0; i < 2; i++) {
		r[i] = (struct racer){ .s = s };
		r[i].fd = open(p->fs.path, O_RDWR | O_CLOEXEC);
		pthread_create(&r[i].thread, NULL, race_attach, &r[i]);
	}
}

static void race_mark(int spin)
{
	volatile int i;

	__atomic_store_n(&race_go, 1, __ATOMIC_RELEASE);
	for (i = 0; i < spin; i++)
		;
}

/*
 * Returns 0 if one of the two attached, ENOENT if both were too late, -1
 * otherwise.
 */
static int race_end(struct racer r[2])
{
	int i, ok = 0, late = 0, busy = 0;

	for (i = 0; i < 2; i++) {
		pthread_join(r[i].thread, NULL);
		ok += !r[i].got;
		late += r[i].got == ENOENT;
		busy += r[i].got == EBUSY;
	}
	if (ok + late + busy != 2 || ok > 1 || busy > ok)
		return -1;
	return ok ? 0 : ENOENT;
}

static bool race_answer(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct plan *p = s->arg;
	struct racer r[2];

	if (in->opcode != (uint32_t)p->opcode)
		return false;
	p->unique = in->unique;
	race_start(s, r);
	race_mark(p->error);
	answer(s, p, S_IFREG | 0600);
	p->got = race_end(r);
	if (write(p->attached[1], "", 1) != 1)
		abort();
	return true;
}

/*
 * Two attaches race with the answer: at most one succeeds, and the open then
 * has its lower file.  If both fail, the open has no lower file.
 */
TEST_F_TIMEOUT(ownership, attach_races_with_answer, IO_TIMEOUT)
{
	int i, fd;

	self->s.request = race_answer;
	for (i = 0; i < RACES; i++) {
		/* Delay of the answer */
		self->p.error = i % 20 * 200;
		fd = plan_open(&self->s);
		ASSERT_LE(0, fd);
		ASSERT_TRUE(plan_wait(&self->p));
		if (self->p.got == 0) {
			ASSERT_TRUE(own_fs_busy(&self->p.fs));
			ASSERT_TRUE(reads_pattern(&self->s, fd, LEN, OWN_FS_SEED, true));
			close(fd);
		} else {
			ASSERT_EQ(ENOENT, self->p.got);
			ASSERT_TRUE(own_fs_free(&self->p.fs));
			close(fd);
		}
		ASSERT_TRUE(own_fs_free(&self->p.fs)) TH_LOG("round %d", i);
	}
}

static bool hold_only(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct plan *p = s->arg;

	if (in->opcode != (uint32_t)p->opcode)
		return false;
	p->unique = in->unique;
	if (write(p->attached[1], "", 1) != 1)
		abort();
	return true;
}

/* Attaches race with an abort: no reference is left, whichever comes first. */
TEST_F_TIMEOUT(ownership, attach_races_with_abort, IO_TIMEOUT)
{
	struct racer r[2];
	struct blocker b;
	int i;

	for (i = 0; i < RACES / 8; i++) {
		struct fuse_server s = { .arg = &self->p };

		ASSERT_EQ(0, fuse_server_start(&s));
		ASSERT_EQ(0, lower_make(&s, "f", LEN, 9));
		s.request = hold_only;
		ASSERT_TRUE(blocker_start(&b, blocked_open, &s));
		ASSERT_TRUE(plan_wait(&self->p));
		race_start(&s, r);
		race_mark(i * 200);
		umount2(s.mnt, MNT_FORCE);
		ASSERT_LE(0, race_end(r));
		blocker_join(&b);
		ASSERT_TRUE(own_fs_free(&self->p.fs)) TH_LOG("round %d", i);
		fuse_server_stop(&s);
	}
}

TEST_HARNESS_MAIN
