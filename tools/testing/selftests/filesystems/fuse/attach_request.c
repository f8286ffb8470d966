// SPDX-License-Identifier: GPL-2.0
/* Requests to which a lower file can be attached, and from which task and device */
#define _GNU_SOURCE
#include "attach_test.h"
#include "../../kselftest_harness.h"

#define LEN	10000

FIXTURE(attach_request) {
	struct fuse_server s;
	struct attempt a;
};

FIXTURE_SETUP(attach_request)
{
	ASSERT_EQ(0, serve_attempts(&self->s, &self->a, LEN, LEN));
}

FIXTURE_TEARDOWN(attach_request)
{
	fuse_server_stop(&self->s);
}

/*
 * Requests other than OPEN, CREATE and TMPFILE cannot have a lower file:
 * EINVAL.
 */
TEST_F_TIMEOUT(attach_request, other_requests, IO_TIMEOUT)
{
	static const struct trial t = { "", EINVAL, other, O_RDONLY };
	static const int opcodes[] = {
		FUSE_LOOKUP, FUSE_GETATTR, FUSE_OPENDIR, FUSE_READ, FUSE_WRITE,
		FUSE_STATFS, FUSE_UNLINK, FUSE_RELEASE, FUSE_MKDIR,
	};
	struct statfs st;
	struct statx stx;
	struct stat sb;
	unsigned int i;
	char c = 'x';
	int fd;

	self->a.t = &t;
	for (i = 0; i < ARRAY_SIZE(opcodes); i++) {
		self->a.got = -1;
		self->a.opcode = opcodes[i];
		self->s.request = try_attach;
		stat(fuse_path(&self->s, "f"), &sb);
		statfs(self->s.mnt, &st);
		mkdir(fuse_path(&self->s, "d"), 0700);
		close(open(self->s.mnt, O_RDONLY | O_DIRECTORY));
		fd = fs_open(&self->s, OPEN_DIRECT, "f", O_RDWR | O_CREAT);
		ASSERT_LE(0, fd);
		EXPECT_EQ(0, statx(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC,
				   STATX_BASIC_STATS, &stx));
		EXPECT_EQ(1, pwrite(fd, &c, 1, 0));
		EXPECT_EQ(1, pread(fd, &c, 1, 0));
		close(fd);
		unlink(fuse_path(&self->s, "f"));
		rmdir(fuse_path(&self->s, "d"));
		/* RELEASE is sent in the background: let it be served. */
		fuse_server_wait(&self->s, FUSE_RELEASE, i + 1);
		statfs(self->s.mnt, &st);
		EXPECT_EQ(EINVAL, self->a.got) TH_LOG("opcode %d", opcodes[i]);
	}
	EXPECT_EQ(0, access(lower_path(&self->s, "other"), F_OK));
	EXPECT_EQ(-1, lower_differs(&self->s, "other", 0, LEN, 2));
}

static bool remember(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct attempt *a = s->arg;

	if (in->opcode == FUSE_OPEN)
		a->last = in->unique;
	return false;
}

/* After the answer it is too late: ENOENT, and the open stays as it is. */
TEST_F_TIMEOUT(attach_request, answered, IO_TIMEOUT)
{
	int fd, low;

	self->s.request = remember;
	fd = fs_open(&self->s, OPEN_CACHED, "f", O_RDWR);
	ASSERT_LE(0, fd);
	low = other(&self->s);
	ASSERT_LE(0, low);
	EXPECT_EQ(ENOENT, attach(self->s.dev, self->a.last, low));
	EXPECT_EQ(ENOENT, attach(self->s.dev, 0, low));
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 1, false));
	close(low);
	close(fd);
}

static void open_other(void *arg)
{
	struct fuse_server *s = arg;

	close(open(fuse_path(s, "other"), O_RDONLY | O_CLOEXEC));
}

static struct blocker queued;

static bool try_queued(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct attempt *a = s->arg;
	int fd;

	if (in->opcode != FUSE_OPEN || a->got >= 0)
		return false;
	fd = other(s);
	a->got = -blocker_start(&queued, open_other, s);
	/* Its OPEN is the next request. */
	if (a->got < 0)
		a->got = attach(s->dev, in->unique + 2, fd);
	close(fd);
	return false;
}

/*
 * A request that the server has not read yet cannot have a lower file: ENOENT.
 */
TEST_F_TIMEOUT(attach_request, not_read_yet, IO_TIMEOUT)
{
	int fd;

	self->a.got = -1;
	self->s.request = NULL;
	/* Known from here on: the next request of an open is OPEN. */
	fd = fs_open(&self->s, OPEN_CACHED, "other", O_RDONLY);
	ASSERT_LE(0, fd);
	close(fd);
	fuse_server_wait(&self->s, FUSE_RELEASE, 1);

	self->s.request = try_queued;
	fd = fs_open(&self->s, OPEN_CACHED, "f", O_RDONLY);
	ASSERT_LE(0, fd);
	EXPECT_EQ(ENOENT, self->a.got);
	blocker_join(&queued);
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 1, false));
	close(fd);
}

static bool attach_create(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct attempt *a = s->arg;
	int fd;

	if (in->opcode == FUSE_LOOKUP)
		return fuse_server_reply(s, in->unique, -ENOENT, NULL, 0), true;
	if (in->opcode != FUSE_CREATE && in->opcode != FUSE_TMPFILE)
		return false;
	a->opcode = in->opcode;
	fd = other(s);
	a->got = attach(s->dev, in->unique, fd);
	close(fd);
	reply_create(s, in->unique, 50, S_IFREG | 0600);
	return true;
}

/* CREATE and TMPFILE pass through like OPEN, from the first byte on. */
TEST_F_TIMEOUT(attach_request, create_and_tmpfile, IO_TIMEOUT)
{
	int fd;

	self->s.request = attach_create;
	fd = open(fuse_path(&self->s, "new"), O_RDWR | O_CREAT | O_EXCL, 0600);
	ASSERT_LE(0, fd);
	EXPECT_EQ(FUSE_CREATE, self->a.opcode);
	EXPECT_EQ(0, self->a.got);
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 2, true));
	EXPECT_TRUE(writes_pattern(&self->s, fd, "other", LEN, 3, true));
	close(fd);

	fd = open(self->s.mnt, O_RDWR | O_TMPFILE, 0600);
	ASSERT_LE(0, fd);
	EXPECT_EQ(FUSE_TMPFILE, self->a.opcode);
	EXPECT_EQ(0, self->a.got);
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 3, true));
	EXPECT_TRUE(writes_pattern(&self->s, fd, "other", LEN, 4, true));
	close(fd);
	EXPECT_EQ(0, server_io(&self->s));
}

struct answer {
	struct fuse_server *s;
	uint64_t unique;
	int got;
};

static void *answer_thread(void *arg)
{
	struct answer *an = arg;
	int fd = other(an->s);

	an->got = attach(an->s->dev, an->unique, fd);
	close(fd);
	if (reply_open(an->s, an->unique))
		an->got = -1;
	return NULL;
}

static bool by_thread(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct attempt *a = s->arg;
	struct answer an = { .s = s, .unique = in->unique };
	pthread_t thread;

	if (in->opcode != FUSE_OPEN)
		return false;
	pthread_create(&thread, NULL, answer_thread, &an);
	pthread_join(thread, NULL);
	a->got = an.got;
	return true;
}

/* A thread other than the one that read the request may attach and answer. */
TEST_F_TIMEOUT(attach_request, other_thread, IO_TIMEOUT)
{
	int fd;

	self->a.got = -1;
	self->s.request = by_thread;
	fd = open(fuse_path(&self->s, "f"), O_RDWR);
	ASSERT_LE(0, fd);
	/* The thread may answer before it is joined. */
	fuse_server_count(&self->s, FUSE_OPEN);
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 2, true));
	EXPECT_TRUE(writes_pattern(&self->s, fd, "other", LEN, 3, true));
	close(fd);
	fuse_server_wait(&self->s, FUSE_RELEASE, 1);
	EXPECT_EQ(0, self->a.got);
}

static bool by_process(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct attempt *a = s->arg;
	int status = -1;
	pid_t pid;

	if (in->opcode != FUSE_OPEN)
		return false;
	pid = fork();
	if (!pid) {
		/* Descriptor 200 is open in this process alone. */
		int fd = other(s);

		_exit(dup2(fd, 200) == 200 ? attach(s->dev, in->unique, 200) : 255);
	}
	waitpid(pid, &status, 0);
	a->got = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	reply_open(s, in->unique);
	return true;
}

/*
 * The descriptor belongs to the caller, which may be another process of the
 * server.
 */
TEST_F_TIMEOUT(attach_request, other_process, IO_TIMEOUT)
{
	int fd;

	ASSERT_EQ(-1, fcntl(200, F_GETFD));
	self->s.request = by_process;
	fd = open(fuse_path(&self->s, "f"), O_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, self->a.got);
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 2, true));
	close(fd);
}

/* The next request is read from the other device; its answer goes there too. */
static bool switch_or_try(struct fuse_server *s, const struct fuse_in_header *in)
{
	if (in->opcode != FUSE_STATFS)
		return try_attach(s, in);
	switch_dev(s, in);
	return true;
}

/* The request is found from any device of the connection, whichever read it. */
TEST_F_TIMEOUT(attach_request, cloned_device, IO_TIMEOUT)
{
	static const struct trial t = { "", 0, other, O_RDWR };
	struct statfs st;
	int fd, i, extra;

	self->a.dev = clone_dev(self->s.dev);
	extra = clone_dev(self->s.dev);
	ASSERT_LE(0, self->a.dev);
	ASSERT_LE(0, extra);
	self->a.opcode = FUSE_OPEN;
	self->a.t = &t;
	self->s.request = switch_or_try;
	for (i = 0; i < 4; i++) {
		self->a.got = -1;
		fd = fs_open(&self->s, OPEN_CACHED, "f", O_RDWR);
		ASSERT_LE(0, fd);
		EXPECT_EQ(0, self->a.got);
		EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 2, true));
		close(fd);
		fuse_server_wait(&self->s, FUSE_RELEASE, i + 1);
		/* The thread then reads from the device that did the last attach. */
		statfs(self->s.mnt, &st);
	}
	EXPECT_EQ(0, server_io(&self->s));
	close(extra);
	close(self->a.dev);
}

/* A /dev/fuse that belongs to no connection, or to another one, cannot attach. */
TEST_F_TIMEOUT(attach_request, wrong_device, IO_TIMEOUT)
{
	static const struct trial t = { "", EPERM, other, O_RDWR };
	struct fuse_server s2 = {};
	struct stat st;
	int fd;

	self->a.opcode = FUSE_OPEN;
	self->a.t = &t;
	self->s.request = try_attach;
	self->a.dev = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->a.dev);
	fd = fs_open(&self->s, OPEN_CACHED, "f", O_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_EQ(EPERM, self->a.got);
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 1, false));
	close(fd);
	close(self->a.dev);

	/* Uniques are counted by connection: it has had few of its own. */
	ASSERT_EQ(0, fuse_server_start(&s2));
	ASSERT_EQ(0, stat(s2.mnt, &st));
	self->a.dev = s2.dev;
	fd = fs_open(&self->s, OPEN_CACHED, "f", O_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_EQ(ENOENT, self->a.got);
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 1, false));
	close(fd);
	fuse_server_stop(&s2);
}

TEST_HARNESS_MAIN
