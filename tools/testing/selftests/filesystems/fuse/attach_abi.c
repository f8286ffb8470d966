// SPDX-License-Identifier: GPL-2.0
/* The ABI of attaching a lower file to a request: layout, errors, callers */
#define _GNU_SOURCE
#include <stddef.h>
#include <sys/uio.h>

#include "attach_test.h"
#include "../../kselftest_harness.h"

#define LEN	10000

/* The numbers and layouts are those that servers are built with. */
TEST(layout)
{
	struct fuse_passthrough_out out;
	struct fuse_backing_map map;

	EXPECT_EQ(0x4018e501, FUSE_DEV_IOC_PASSTHROUGH_OPEN);
	EXPECT_EQ(24, sizeof(out));
	EXPECT_EQ(0, offsetof(struct fuse_passthrough_out, unique));
	EXPECT_EQ(8, offsetof(struct fuse_passthrough_out, fd));
	EXPECT_EQ(12, offsetof(struct fuse_passthrough_out, len));
	EXPECT_EQ(16, offsetof(struct fuse_passthrough_out, vec));
	EXPECT_EQ(8, sizeof(out.unique));
	EXPECT_EQ(4, sizeof(out.fd));
	EXPECT_EQ(4, sizeof(out.len));
	EXPECT_EQ(8, sizeof(out.vec));

	EXPECT_EQ(0x4010e501, FUSE_DEV_IOC_BACKING_OPEN);
	EXPECT_EQ(0x4004e502, FUSE_DEV_IOC_BACKING_CLOSE);
	EXPECT_EQ(16, sizeof(map));
	EXPECT_EQ(0, offsetof(struct fuse_backing_map, fd));
	EXPECT_EQ(4, offsetof(struct fuse_backing_map, flags));
	EXPECT_EQ(8, offsetof(struct fuse_backing_map, padding));
	EXPECT_EQ(0x80, FOPEN_PASSTHROUGH);
	EXPECT_EQ(12, offsetof(struct fuse_open_out, backing_id));
	EXPECT_EQ(16, sizeof(struct fuse_open_out));

	EXPECT_EQ(1ULL << 37, FUSE_PASSTHROUGH);
	EXPECT_EQ(36, offsetof(struct fuse_init_out, max_stack_depth));
	EXPECT_EQ(64, sizeof(struct fuse_init_out));
}

/* An attempt while an open waits for its answer, and the expected result */
struct trial {
	const char *what;
	int want;
	int flags;			/* of the client */
	int (*lower)(struct fuse_server *s);
	uint64_t unique;		/* added to the right one */
	uint32_t len;
	uint64_t vec;
};

struct attempt {
	const struct trial *t;
	int opcode;
	int got;
	int dev;			/* to ask at; -1: the server's */
	int fd;
	int given;			/* what given() gives */
	uint64_t last;			/* unique of the last open */
};

FIXTURE(attach_abi) {
	struct fuse_server s;
	struct attempt a;
};

FIXTURE_SETUP(attach_abi)
{
	struct stat st;

	self->a.dev = -1;
	self->s.arg = &self->a;
	ASSERT_EQ(0, fuse_server_start(&self->s));
	ASSERT_EQ(0, lower_make(&self->s, "f", LEN, 1));
	ASSERT_EQ(0, lower_make(&self->s, "other", LEN, 2));
	ASSERT_EQ(0, stat(self->s.mnt, &st));
	ASSERT_TRUE(self->s.init_flags & FUSE_PASSTHROUGH);
}

FIXTURE_TEARDOWN(attach_abi)
{
	fuse_server_stop(&self->s);
}

static int attempt_dev(struct fuse_server *s)
{
	struct attempt *a = s->arg;

	return a->dev < 0 ? s->dev : a->dev;
}

static bool try_it(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct attempt *a = s->arg;
	const struct trial *t = a->t;
	struct fuse_passthrough_out out;
	int fd;

	if (in->opcode != (uint32_t)a->opcode)
		return false;
	fd = t->lower(s);
	out = (struct fuse_passthrough_out) {
		.unique = in->unique + t->unique,
		.fd = fd,
		.len = t->len,
		.vec = t->vec,
	};
	a->got = attach_out(attempt_dev(s), &out);
	a->fd = fd;
	close(fd);
	return false;
}

static int given(struct fuse_server *s)
{
	struct attempt *a = s->arg;

	return dup(a->given);
}

static int proc_file(struct fuse_server *s)
{
	return open("/proc/self/oom_score_adj", O_RDWR);
}

static int sysfs_file(struct fuse_server *s)
{
	return open("/sys/module/fuse/parameters/max_user_bgreq", O_RDWR);
}

static const struct trial refused[] = {
	{ "unique 2 further on", ENOENT, O_RDWR, other, .unique = 2 },
	{ "unique of its interrupt", ENOENT, O_RDWR, other, .unique = 1 },
	{ "unique far off", ENOENT, O_RDWR, other, .unique = 1ULL << 40 },
	{ "len", EINVAL, O_RDWR, other, .len = 1 },
	{ "len, last bit", EINVAL, O_RDWR, other, .len = 1U << 31 },
	{ "len and vec", EINVAL, O_RDWR, other, .len = 8, .vec = 4096 },
	{ "len before vec is read", EINVAL, O_RDWR, other, .len = 8, .vec = -1 },
	{ "len before the descriptor", EINVAL, O_RDWR, minus_one, .len = 8 },
	{ "descriptor closed", EBADF, O_RDWR, closed },
	{ "descriptor -1", EBADF, O_RDWR, minus_one },
	{ "O_PATH", EBADF, O_RDONLY, other_path },
	{ "directory", EINVAL, O_RDONLY, directory },
	{ "pipe", EINVAL, O_RDONLY, pipe_end },
	{ "socket", EINVAL, O_RDWR, unix_socket },
	{ "eventfd", EINVAL, O_RDWR, event_fd },
	{ "character device", EINVAL, O_RDWR, char_device },
	{ "memfd", EINVAL, O_RDWR, memfd },
	{ "hugetlb memfd", EINVAL, O_RDWR, huge_memfd },
	{ "hugetlbfs", EINVAL, O_RDWR, huge_file },
	{ "sysctl", EINVAL, O_RDWR, sysctl_file },
	{ "proc", EINVAL, O_RDWR, proc_file },
	{ "sysfs", EINVAL, O_RDWR, sysfs_file },
	{ "O_RDWR on O_RDONLY", EACCES, O_RDWR, other_rdonly },
	{ "O_RDWR on O_WRONLY", EACCES, O_RDWR, other_wronly },
	{ "O_WRONLY on O_RDONLY", EACCES, O_WRONLY, other_rdonly },
	{ "O_RDONLY on O_WRONLY", EACCES, O_RDONLY, other_wronly },
};

static bool lower_missing(const struct trial *t, int fd)
{
	return fd < 0 && t->lower != minus_one;
}

/*
 * Each row of the errno table that concerns the request or the lower file.  A
 * refusal changes nothing: the open then has no passthrough, or passes through
 * to another file.
 */
TEST_F_TIMEOUT(attach_abi, refused, IO_TIMEOUT)
{
	static const enum fuse_server_open hows[] = { OPEN_CACHED, OPEN_PASSTHROUGH };
	unsigned int i, j;
	bool pass;
	int fd;

	self->a.opcode = FUSE_OPEN;
	self->s.request = try_it;
	for (i = 0; i < ARRAY_SIZE(refused); i++) {
		const struct trial *t = &refused[i];

		self->a.t = t;
		for (j = 0; j < ARRAY_SIZE(hows); j++) {
			pass = hows[j] == OPEN_PASSTHROUGH;
			self->a.got = -1;
			fd = fs_open(&self->s, hows[j], "f", t->flags);
			ASSERT_LE(0, fd) TH_LOG("%s: %d", t->what, errno);
			ASSERT_FALSE(lower_missing(t, self->a.fd))
				TH_LOG("%s: no such file", t->what);
			EXPECT_EQ(t->want, self->a.got) TH_LOG("%s", t->what);
			if (t->flags == O_WRONLY) {
				EXPECT_TRUE(writes_pattern(&self->s, fd, "f", LEN,
							   1, pass))
					TH_LOG("%s", t->what);
			} else {
				EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 1, pass))
					TH_LOG("%s", t->what);
			}
			close(fd);
		}
	}
}

/*
 * Files whose contents are generated at each read are refused, even if their
 * file system has no flag for this.
 */
TEST_F_TIMEOUT(attach_abi, pseudo, IO_TIMEOUT)
{
	const struct { struct trial t; int given; } files[] = {
		{ { "configfs", EINVAL, O_RDWR, given }, configfs_file(O_RDWR) },
		{ { "configfs to read", EINVAL, O_RDONLY, given },
		  configfs_file(O_RDONLY) },
		{ { "tracefs", EINVAL, O_RDONLY, given },
		  file_on("tracefs", NULL, "trace", O_RDONLY) },
	};
	unsigned int i;
	int fd;

	self->a.opcode = FUSE_OPEN;
	self->s.request = try_it;
	for (i = 0; i < ARRAY_SIZE(files); i++) {
		if (files[i].given < 0)
			SKIP(return, "no file on %s", files[i].t.what);
		self->a.given = files[i].given;
		self->a.t = &files[i].t;
		self->a.got = -1;
		fd = fs_open(&self->s, OPEN_CACHED, "f", files[i].t.flags);
		ASSERT_LE(0, fd);
		EXPECT_EQ(EINVAL, self->a.got) TH_LOG("%s", files[i].t.what);
		EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 1, false));
		close(fd);
		close(self->a.given);
	}
}

static const struct trial accepted[] = {
	{ "O_RDONLY", 0, O_RDONLY, other_rdonly },
	{ "O_RDONLY on O_RDWR", 0, O_RDONLY, other },
	{ "O_WRONLY", 0, O_WRONLY, other_wronly },
	{ "O_WRONLY on O_RDWR", 0, O_WRONLY, other },
	{ "O_RDWR", 0, O_RDWR, other },
	{ "neither on O_RDONLY", 0, O_ACCMODE, other_rdonly },
	{ "vec", 0, O_RDWR, other, .vec = 1 },
	{ "vec, upper half", 0, O_RDWR, other, .vec = 1ULL << 32 },
	{ "vec of no memory", 0, O_RDWR, other, .vec = -1 },
};

/*
 * A lower file whose access mode covers the client's is accepted.  No other
 * flag matters, nor does the value of vec while len is 0.
 */
TEST_F_TIMEOUT(attach_abi, accepted, IO_TIMEOUT)
{
	unsigned int i;
	int fd;

	self->a.opcode = FUSE_OPEN;
	self->s.request = try_it;
	for (i = 0; i < ARRAY_SIZE(accepted); i++) {
		const struct trial *t = &accepted[i];

		self->a.t = t;
		fd = fs_open(&self->s, OPEN_CACHED, "f", t->flags);
		ASSERT_LE(0, fd);
		EXPECT_EQ(0, self->a.got) TH_LOG("%s", t->what);
		if (t->flags == O_WRONLY || t->flags == O_RDWR) {
			EXPECT_TRUE(writes_pattern(&self->s, fd, "other", LEN, 2,
						   true)) TH_LOG("%s", t->what);
		}
		if (t->flags == O_RDONLY || t->flags == O_RDWR) {
			EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 2, true))
				TH_LOG("%s", t->what);
		}
		close(fd);
	}
	EXPECT_EQ(0, server_io(&self->s));
}

/*
 * A file system without a write operation serves clients that only read.  For
 * other clients the attach is refused.
 */
TEST_F_TIMEOUT(attach_abi, read_only, IO_TIMEOUT)
{
	static const struct trial trials[] = {
		{ "O_RDONLY", 0, O_RDONLY, given },
		{ "O_RDWR", EINVAL, O_RDWR, given },
		{ "O_WRONLY", EINVAL, O_WRONLY, given },
	};
	unsigned int i;
	int fd;

	self->a.given = squashfs_file(O_RDONLY);
	if (self->a.given < 0)
		SKIP(return, "no squashfs, or no loop devices");
	self->a.opcode = FUSE_OPEN;
	self->s.request = try_it;
	for (i = 0; i < ARRAY_SIZE(trials); i++) {
		const struct trial *t = &trials[i];

		self->a.t = t;
		self->a.got = -1;
		fd = fs_open(&self->s, OPEN_CACHED, "f", t->flags);
		ASSERT_LE(0, fd);
		EXPECT_EQ(t->want, self->a.got) TH_LOG("%s", t->what);
		if (!t->want) {
			EXPECT_TRUE(reads_pattern(&self->s, fd, SQUASHFS_LEN,
						  SQUASHFS_SEED, true));
		} else {
			EXPECT_TRUE(writes_pattern(&self->s, fd, "f", LEN, i,
						   false));
		}
		close(fd);
	}
	close(self->a.given);
}

/*
 * A lower file without O_DIRECT is refused for an open with O_DIRECT, which the
 * server can then serve.  Without O_DIRECT it is accepted, and O_DIRECT that is
 * set later makes each call fail with EINVAL until it is cleared.
 */
TEST_F_TIMEOUT(attach_abi, direct_that_cannot, IO_TIMEOUT)
{
	struct trial t = { "tmpfs", 0, O_RDWR | O_DIRECT, given };
	struct attempt *a = &self->a;
	char *buf = pages(BLOCK);
	int fd;

	a->given = file_on("tmpfs", NULL, "t", O_RDWR | O_CREAT);
	ASSERT_LE(0, a->given);
	ASSERT_EQ(0, ftruncate(a->given, LEN));
	a->opcode = FUSE_OPEN;
	a->t = &t;
	self->s.request = try_it;
	t.want = can_direct(a->given) ? 0 : EINVAL;
	a->got = -1;
	fd = fs_open(&self->s, OPEN_CACHED, "f", t.flags);
	ASSERT_LE(0, fd);
	EXPECT_EQ(t.want, a->got);
	if (t.want)
		EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 1, false));
	close(fd);

	t.flags = O_RDWR;
	fd = fs_open(&self->s, OPEN_CACHED, "f", t.flags);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, a->got);
	ASSERT_EQ(0, fcntl(fd, F_SETFL, O_DIRECT));
	errno = 0;
	EXPECT_EQ(t.want ? -1 : BLOCK, pread(fd, buf, BLOCK, 0));
	EXPECT_EQ(t.want, errno);
	errno = 0;
	EXPECT_EQ(t.want ? -1 : BLOCK, pwrite(fd, buf, BLOCK, 0));
	EXPECT_EQ(t.want, errno);
	ASSERT_EQ(0, fcntl(fd, F_SETFL, 0));
	EXPECT_EQ(BLOCK, pread(fd, buf, BLOCK, 0));
	close(fd);
	close(a->given);
	munmap(buf, BLOCK);
}

/* Passthrough wins over FOPEN_DIRECT_IO and FOPEN_KEEP_CACHE in the answer. */
TEST_F_TIMEOUT(attach_abi, wins_over_direct, IO_TIMEOUT)
{
	int fd;

	self->s.open_flags = FOPEN_DIRECT_IO | FOPEN_KEEP_CACHE;
	fd = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 1, true));
	EXPECT_TRUE(writes_pattern(&self->s, fd, "f", LEN, 3, true));
	close(fd);
}

static bool try_twice(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct attempt *a = s->arg;
	int f, o;

	if (in->opcode != FUSE_OPEN)
		return false;
	f = lower_open(s, "f", O_RDWR);
	o = lower_open(s, "other", O_RDWR);
	a->got = attach(s->dev, in->unique, f) ?: -1;
	if (a->got < 0)
		a->got = attach(s->dev, in->unique, o);
	if (a->got == EBUSY)
		a->got = attach(s->dev, in->unique, f);
	close(f);
	close(o);
	return false;
}

/* A second lower file, or the same again, is EBUSY, and the first one stays. */
TEST_F_TIMEOUT(attach_abi, busy, IO_TIMEOUT)
{
	int fd;

	self->s.request = try_twice;
	fd = fs_open(&self->s, OPEN_CACHED, "f", O_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_EQ(EBUSY, self->a.got);
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 1, true));
	close(fd);
}

static bool try_fuse(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct attempt *a = s->arg;

	if (in->opcode == FUSE_OPEN)
		a->got = attach(s->dev, in->unique, a->fd);
	return false;
}

/* A file on FUSE, plain or passthrough, cannot be a lower file. */
TEST_F_TIMEOUT(attach_abi, lower_on_fuse, IO_TIMEOUT)
{
	static const enum fuse_server_open hows[] = { OPEN_CACHED, OPEN_PASSTHROUGH };
	unsigned int i;
	int fd;

	for (i = 0; i < ARRAY_SIZE(hows); i++) {
		self->s.request = NULL;
		self->a.fd = fs_open(&self->s, hows[i], "other", O_RDWR);
		ASSERT_LE(0, self->a.fd);
		self->s.request = try_fuse;
		self->a.got = -1;
		fd = fs_open(&self->s, OPEN_CACHED, "f", O_RDWR);
		ASSERT_LE(0, fd);
		EXPECT_EQ(EINVAL, self->a.got);
		EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 1, false));
		close(fd);
		close(self->a.fd);
	}
}

static bool try_bad_pointers(struct fuse_server *s,
			     const struct fuse_in_header *in)
{
	struct attempt *a = s->arg;
	struct fuse_passthrough_out out = { .unique = in->unique };
	char *edge;

	if (in->opcode != FUSE_OPEN)
		return false;
	out.fd = lower_open(s, "other", O_RDWR);
	edge = (char *)pages(2 * PAGE) + PAGE;
	munmap(edge, PAGE);
	/* All but the last byte is readable. */
	memcpy(edge - sizeof(out) + 1, &out, sizeof(out) - 1);

	a->got = attach_out(s->dev, NULL);
	if (a->got == EFAULT)
		a->got = attach_out(s->dev, (void *)(edge - sizeof(out) + 1));
	if (a->got == EFAULT)
		a->got = attach_out(s->dev, (void *)-4096L);
	munmap(edge - PAGE, PAGE);
	close(out.fd);
	return false;
}

/* An argument that cannot be read completely is EFAULT. */
TEST_F_TIMEOUT(attach_abi, bad_pointer, IO_TIMEOUT)
{
	int fd;

	self->s.request = try_bad_pointers;
	fd = fs_open(&self->s, OPEN_CACHED, "f", O_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_EQ(EFAULT, self->a.got);
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 1, false));
	close(fd);
}

/*
 * Requests other than OPEN, CREATE and TMPFILE cannot have a lower file:
 * EINVAL.
 */
TEST_F_TIMEOUT(attach_abi, other_requests, IO_TIMEOUT)
{
	static const struct trial t = { "", EINVAL, O_RDONLY, other };
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
		self->s.request = try_it;
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
TEST_F_TIMEOUT(attach_abi, answered, IO_TIMEOUT)
{
	int fd, low;

	self->s.request = remember;
	fd = fs_open(&self->s, OPEN_CACHED, "f", O_RDWR);
	ASSERT_LE(0, fd);
	low = lower_open(&self->s, "other", O_RDWR);
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
	fd = lower_open(s, "other", O_RDWR);
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
TEST_F_TIMEOUT(attach_abi, not_read_yet, IO_TIMEOUT)
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
	fd = lower_open(s, "other", O_RDWR);
	a->got = attach(s->dev, in->unique, fd);
	close(fd);
	reply_create(s, in->unique, 50, S_IFREG | 0600);
	return true;
}

/* CREATE and TMPFILE pass through like OPEN, from the first byte on. */
TEST_F_TIMEOUT(attach_abi, create_and_tmpfile, IO_TIMEOUT)
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
	int fd = lower_open(an->s, "other", O_RDWR);

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
TEST_F_TIMEOUT(attach_abi, other_thread, IO_TIMEOUT)
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
		int fd = lower_open(s, "other", O_RDWR);

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
TEST_F_TIMEOUT(attach_abi, other_process, IO_TIMEOUT)
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
static bool switch_dev(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct attempt *a = s->arg;
	int dev = s->dev;

	if (in->opcode != FUSE_STATFS)
		return a->t ? try_it(s, in) : false;
	fuse_server_reply(s, in->unique, -EIO, NULL, 0);
	s->dev = a->dev;
	a->dev = dev;
	return true;
}

/* The request is found from any device of the connection, whichever read it. */
TEST_F_TIMEOUT(attach_abi, cloned_device, IO_TIMEOUT)
{
	static const struct trial t = { "", 0, O_RDWR, other };
	struct statfs st;
	int fd, i, extra;

	self->a.dev = clone_dev(self->s.dev);
	extra = clone_dev(self->s.dev);
	ASSERT_LE(0, self->a.dev);
	ASSERT_LE(0, extra);
	self->a.opcode = FUSE_OPEN;
	self->a.t = &t;
	self->s.request = switch_dev;
	for (i = 0; i < 4; i++) {
		self->a.got = -1;
		fd = fs_open(&self->s, OPEN_CACHED, "f", O_RDWR);
		ASSERT_LE(0, fd);
		EXPECT_EQ(0, self->a.got);
		EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 2, true));
		close(fd);
		fuse_server_wait(&self->s, FUSE_RELEASE, i + 1);
		/* The thread then reads at the device that was asked before. */
		statfs(self->s.mnt, &st);
	}
	EXPECT_EQ(0, server_io(&self->s));
	close(extra);
	close(self->a.dev);
}

/* A /dev/fuse that belongs to no connection, or to another one, cannot attach. */
TEST_F_TIMEOUT(attach_abi, wrong_device, IO_TIMEOUT)
{
	static const struct trial t = { "", EPERM, O_RDWR, other };
	struct fuse_server s2 = {};
	struct stat st;
	int fd;

	self->a.opcode = FUSE_OPEN;
	self->a.t = &t;
	self->s.request = try_it;
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

static bool try_numbers(struct fuse_server *s, const struct fuse_in_header *in)
{
	static const unsigned long cmds[] = {
		_IOW(FUSE_DEV_IOC_MAGIC, 1, uint32_t),
		_IOR(FUSE_DEV_IOC_MAGIC, 1, struct fuse_passthrough_out),
		_IOWR(FUSE_DEV_IOC_MAGIC, 1, struct fuse_passthrough_out),
		_IO(FUSE_DEV_IOC_MAGIC, 1),
		_IOW(FUSE_DEV_IOC_MAGIC, 3, struct fuse_passthrough_out),
		_IOW(FUSE_DEV_IOC_MAGIC + 1, 1, struct fuse_passthrough_out),
	};
	struct attempt *a = s->arg;
	struct fuse_passthrough_out out = { .unique = in->unique };
	unsigned int i;

	if (in->opcode != FUSE_OPEN)
		return false;
	out.fd = lower_open(s, "other", O_RDWR);
	a->got = ENOTTY;
	for (i = 0; i < ARRAY_SIZE(cmds) && a->got == ENOTTY; i++)
		a->got = ioctl(s->dev, cmds[i], &out) ? errno : 0;
	close(out.fd);
	return false;
}

/* Near misses of the number are unknown: ENOTTY. */
TEST_F_TIMEOUT(attach_abi, other_numbers, IO_TIMEOUT)
{
	int fd;

	self->s.request = try_numbers;
	fd = fs_open(&self->s, OPEN_CACHED, "f", O_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_EQ(ENOTTY, self->a.got);
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 1, false));
	close(fd);
}

FIXTURE(negotiate) {
	struct fuse_server s;
};

FIXTURE_VARIANT(negotiate) {
	bool off, no_ext;
	uint32_t depth;
	int want;
};

FIXTURE_VARIANT_ADD(negotiate, off) { .off = true, .depth = 1, .want = EPERM };
FIXTURE_VARIANT_ADD(negotiate, no_init_ext) { .no_ext = true, .depth = 1, .want = EPERM };
FIXTURE_VARIANT_ADD(negotiate, depth_0) { .depth = 0, .want = 0 };
FIXTURE_VARIANT_ADD(negotiate, depth_1) { .depth = 1, .want = 0 };
FIXTURE_VARIANT_ADD(negotiate, depth_2) { .depth = 2, .want = 0 };
FIXTURE_VARIANT_ADD(negotiate, depth_3) { .depth = 3, .want = EPERM };
FIXTURE_VARIANT_ADD(negotiate, depth_max) { .depth = UINT32_MAX, .want = EPERM };

static void init_as_asked(struct fuse_server *s, struct fuse_init_out *out)
{
	const FIXTURE_VARIANT(negotiate) *variant = s->arg;

	if (variant->off)
		out->flags2 &= ~(FUSE_PASSTHROUGH >> 32);
	if (variant->no_ext)
		out->flags &= ~FUSE_INIT_EXT;
	out->max_stack_depth = variant->depth;
}

FIXTURE_SETUP(negotiate)
{
	self->s.init = init_as_asked;
	self->s.arg = (void *)variant;
	ASSERT_EQ(0, fuse_server_start(&self->s));
	ASSERT_EQ(0, lower_make(&self->s, "f", LEN, 1));
}

FIXTURE_TEARDOWN(negotiate)
{
	fuse_server_stop(&self->s);
}

/*
 * Passthrough is on if the server asked for it in a form that the kernel knows.
 * If it is off, each passthrough ioctl is EPERM, and opens are plain.
 */
TEST_F_TIMEOUT(negotiate, negotiate, IO_TIMEOUT)
{
	struct fuse_backing_map map = {};
	bool on = !variant->want;
	uint32_t id;
	int fd, ret;

	if (on && variant->depth < 2 && lower_is(&self->s, OVERLAYFS_SUPER_MAGIC))
		SKIP(return, "the lower file system is stacked itself");
	fd = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDWR);
	if (on) {
		ASSERT_LE(0, fd);
	} else {
		ASSERT_EQ(-1, fd);
		EXPECT_EQ(EPERM, errno);
		fd = fs_open(&self->s, OPEN_CACHED, "f", O_RDWR);
		ASSERT_LE(0, fd);
	}
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 1, on));
	EXPECT_TRUE(writes_pattern(&self->s, fd, "f", LEN, 2, on));
	close(fd);

	map.fd = lower_open(&self->s, "f", O_RDWR);
	ASSERT_LE(0, map.fd);
	ret = ioctl(self->s.dev, FUSE_DEV_IOC_BACKING_OPEN, &map);
	id = ret;
	if (on) {
		EXPECT_LT(0, ret);
		EXPECT_EQ(0, ioctl(self->s.dev, FUSE_DEV_IOC_BACKING_CLOSE, &id));
	} else {
		EXPECT_EQ(-1, ret);
		EXPECT_EQ(EPERM, errno);
		id = 1;
		EXPECT_EQ(-1, ioctl(self->s.dev, FUSE_DEV_IOC_BACKING_CLOSE, &id));
		EXPECT_EQ(EPERM, errno);
		/*
		 * Passthrough is not negotiated: these have no effect, even
		 * with an id.
		 */
		self->s.open_flags = 1 << 7;
		fd = fs_open(&self->s, OPEN_CACHED, "f", O_RDWR);
		ASSERT_LE(0, fd);
		EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 2, false));
		close(fd);
	}
	close(map.fd);
}

#if __SIZEOF_LONG__ == 4

/*
 * A client without O_LARGEFILE, which only a 32-bit client can be, writes up to
 * 2 GiB and no further, whatever flags the lower file has.
 */
TEST_F_TIMEOUT(attach_abi, not_large, IO_TIMEOUT)
{
	const off_t limit = INT32_MAX;
	enum fuse_server_open how;
	int fd, p[2];
	loff_t off;

	self->s.request = NULL;
	for (how = OPEN_PASSTHROUGH; how <= OPEN_BACKING_ID; how++) {
		self->s.how = how;
		fd = syscall(SYS_openat, AT_FDCWD, fuse_path(&self->s, "f"), O_RDWR);
		ASSERT_LE(0, fd);
		EXPECT_EQ(0, self->s.open_error);
		EXPECT_EQ(3, pwrite(fd, "abcdef", 6, limit - 3));
		EXPECT_EQ(-1, pwrite(fd, "a", 1, limit));
		EXPECT_EQ(EFBIG, errno);
		EXPECT_EQ(limit, size_of(fd));

		/* An append begins at the end of the file. */
		EXPECT_EQ(-1, pwritev2(fd, &(struct iovec){ "a", 1 }, 1, 0, RWF_APPEND));
		EXPECT_EQ(EFBIG, errno);

		ASSERT_EQ(0, pipe2(p, O_NONBLOCK));
		ASSERT_EQ(3, write(p[1], "abc", 3));
		off = limit - 1;
		EXPECT_EQ(1, splice(p[0], NULL, fd, &off, 3, 0));
		EXPECT_EQ(-1, splice(p[0], NULL, fd, &off, 2, 0));
		EXPECT_EQ(EFBIG, errno);
		EXPECT_EQ(limit, size_of(fd));
		close(p[0]);
		close(p[1]);
		close(fd);
		ASSERT_EQ(0, truncate(lower_path(&self->s, "f"), LEN));
	}
	EXPECT_EQ(0, server_io(&self->s));
}

#endif

TEST_HARNESS_MAIN
