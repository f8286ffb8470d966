// SPDX-License-Identifier: GPL-2.0
/*
 * splice, sendfile, tee, vmsplice and copy_file_range between each pair of
 * files
 */
#define _GNU_SOURCE
#include <linux/fs.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

#include "io_test.h"
#include "../../kselftest_harness.h"

#define LEN	(40 * KIB + 77)	/* fits a pipe */

enum kind { KIND_PASSTHROUGH, KIND_CACHED, KIND_LOWER };

FIXTURE(pair) {
	struct fuse_server s;
	char *buf;
	int in, out;
	int pipe[2];
};

FIXTURE_VARIANT(pair) { enum kind from, to; };
FIXTURE_VARIANT_ADD(pair, passthrough_to_passthrough)
	{ KIND_PASSTHROUGH, KIND_PASSTHROUGH };
FIXTURE_VARIANT_ADD(pair, passthrough_to_cached)
	{ KIND_PASSTHROUGH, KIND_CACHED };
FIXTURE_VARIANT_ADD(pair, passthrough_to_lower)
	{ KIND_PASSTHROUGH, KIND_LOWER };
FIXTURE_VARIANT_ADD(pair, cached_to_passthrough)
	{ KIND_CACHED, KIND_PASSTHROUGH };
FIXTURE_VARIANT_ADD(pair, lower_to_passthrough)
	{ KIND_LOWER, KIND_PASSTHROUGH };

static int open_kind(struct fuse_server *s, enum kind kind, const char *name,
		     int flags)
{
	switch (kind) {
	case KIND_PASSTHROUGH:
		return fs_open(s, OPEN_PASSTHROUGH, name, flags);
	case KIND_CACHED:
		return fs_open(s, OPEN_CACHED, name, flags);
	default:
		return lower_open(s, name, flags);
	}
}

FIXTURE_SETUP(pair)
{
	ASSERT_EQ(0, fuse_server_start(&self->s));
	ASSERT_EQ(0, lower_make(&self->s, "in", LEN, 1));
	ASSERT_EQ(0, lower_make(&self->s, "out", 0, 0));
	self->buf = pages(2 * LEN);
	ASSERT_NE(NULL, self->buf);
	self->in = open_kind(&self->s, variant->from, "in", O_RDWR);
	self->out = open_kind(&self->s, variant->to, "out", O_RDWR);
	ASSERT_LE(0, self->in);
	ASSERT_LE(0, self->out);
	ASSERT_EQ(0, pipe2(self->pipe, O_CLOEXEC));
}

FIXTURE_TEARDOWN(pair)
{
	if (variant->from != KIND_CACHED && variant->to != KIND_CACHED) {
		EXPECT_EQ(0, fuse_server_count(&self->s, FUSE_READ));
	}
	if (variant->to != KIND_CACHED) {
		EXPECT_EQ(0, fuse_server_count(&self->s, FUSE_WRITE));
	}
	close(self->pipe[0]);
	close(self->pipe[1]);
	close(self->in);
	close(self->out);
	fuse_server_stop(&self->s);
}

/*
 * Splices through a pipe, with and without offsets, have the right data,
 * offsets and size.
 */
TEST_F_TIMEOUT(pair, splice, IO_TIMEOUT)
{
	loff_t in = 1000, out = 5000;
	size_t done, n;

	for (done = 0; done < LEN - 1000; done += n) {
		n = splice(self->in, &in, self->pipe[1], NULL, LEN, 0);
		ASSERT_LT(0, (ssize_t)n);
		ASSERT_EQ(n, splice(self->pipe[0], NULL, self->out, &out, n, 0));
	}
	EXPECT_EQ(LEN, in);
	EXPECT_EQ(LEN + 4000, out);
	EXPECT_EQ(0, splice(self->in, &in, self->pipe[1], NULL, LEN, 0));
	EXPECT_EQ(LEN + 4000, size_of(self->out));
	ASSERT_EQ(LEN + 4000, pread(self->out, self->buf, 2 * LEN, 0));
	EXPECT_TRUE(all_zero(self->buf, 5000));
	EXPECT_EQ(-1, pattern_differs(self->buf + 5000, LEN - 1000, 1000, 1));

	/* Without offsets, at the positions of the files */
	ASSERT_EQ(100, splice(self->in, NULL, self->pipe[1], NULL, 100, 0));
	ASSERT_EQ(100, splice(self->pipe[0], NULL, self->out, NULL, 100, 0));
	EXPECT_EQ(100, lseek(self->in, 0, SEEK_CUR));
	EXPECT_EQ(100, lseek(self->out, 0, SEEK_CUR));
	ASSERT_EQ(100, pread(self->out, self->buf, 100, 0));
	EXPECT_EQ(-1, pattern_differs(self->buf, 100, 0, 1));
	fsync(self->out);
	EXPECT_EQ(-1, lower_differs(&self->s, "out", 0, 100, 1));
}

/*
 * sendfile copies everything, in portions of any size, and advances the offset.
 */
TEST_F_TIMEOUT(pair, sendfile, IO_TIMEOUT)
{
	off_t off = 0;
	ssize_t n;

	while (off < LEN) {
		n = sendfile(self->out, self->in, &off, LEN);
		ASSERT_LT(0, n);
	}
	EXPECT_EQ(LEN, off);
	EXPECT_EQ(LEN, size_of(self->out));
	fsync(self->out);
	EXPECT_EQ(-1, lower_differs(&self->s, "out", 0, LEN, 1));
	EXPECT_EQ(0, sendfile(self->out, self->in, &off, LEN));
}

/* A pipe keeps the data that was in the file at the splice, after tee too. */
TEST_F_TIMEOUT(pair, tee, IO_TIMEOUT)
{
	int copy[2];

	ASSERT_EQ(0, pipe2(copy, O_CLOEXEC));
	ASSERT_EQ(8192, splice(self->in, NULL, self->pipe[1], NULL, 8192, 0));
	ASSERT_EQ(8192, tee(self->pipe[0], copy[1], 8192, 0));
	ASSERT_EQ(8192, splice(self->pipe[0], NULL, self->out, NULL, 8192, 0));
	ASSERT_EQ(8192, splice(copy[0], NULL, self->out, NULL, 8192, 0));
	ASSERT_EQ(16384, pread(self->out, self->buf, 16384, 0));
	EXPECT_EQ(-1, pattern_differs(self->buf, 8192, 0, 1));
	EXPECT_EQ(-1, pattern_differs(self->buf + 8192, 8192, 0, 1));
	close(copy[0]);
	close(copy[1]);
}

/* User pages in a pipe, gifted or not, reach the file. */
TEST_F_TIMEOUT(pair, vmsplice, IO_TIMEOUT)
{
	char *p = pages(8192);
	struct iovec iov = { p, 8192 };

	pattern(p, 8192, 0, 5);
	ASSERT_EQ(8192, vmsplice(self->pipe[1], &iov, 1, 0));
	ASSERT_EQ(8192, splice(self->pipe[0], NULL, self->out, NULL, 8192, 0));
	ASSERT_EQ(8192, vmsplice(self->pipe[1], &iov, 1, SPLICE_F_GIFT));
	ASSERT_EQ(8192, splice(self->pipe[0], NULL, self->out, NULL, 8192,
			       SPLICE_F_MOVE));
	ASSERT_EQ(16384, pread(self->out, self->buf, 16384, 0));
	EXPECT_EQ(-1, pattern_differs(self->buf, 8192, 0, 5));
	EXPECT_EQ(-1, pattern_differs(self->buf + 8192, 8192, 0, 5));
}

/*
 * The server does copy_file_range within the mount; between mounts it is EXDEV.
 */
TEST_F_TIMEOUT(pair, copy_file_range, IO_TIMEOUT)
{
	bool within = variant->from != KIND_LOWER && variant->to != KIND_LOWER;
	loff_t in = 10, out = 0;
	ssize_t n;

	/* The copy has the data that passthrough wrote just before. */
	pattern(self->buf, 4096, 0, 7);
	ASSERT_EQ(4096, pwrite(self->in, self->buf, 4096, 0));
	n = copy_file_range(self->in, &in, self->out, &out, 8000, 0);
	if (!within) {
		EXPECT_EQ(-1, n);
		EXPECT_EQ(EXDEV, errno);
		goto out;
	}
	ASSERT_EQ(8000, n);
	EXPECT_EQ(1, fuse_server_count(&self->s, FUSE_COPY_FILE_RANGE));
	EXPECT_EQ(8000, size_of(self->out));
	ASSERT_EQ(8000, pread(self->out, self->buf, LEN, 0));
	EXPECT_EQ(-1, pattern_differs(self->buf, 4086, 10, 7));
	EXPECT_EQ(-1, pattern_differs(self->buf + 4086, 8000 - 4086, 4096, 1));
out:
	/* The WRITE of the cached open is the test's own. */
	if (variant->from == KIND_CACHED)
		self->s.count[FUSE_WRITE] = 0;
}

/* A splice to a file with O_APPEND is refused, as on any file system. */
TEST_F_TIMEOUT(pair, append_refused, IO_TIMEOUT)
{
	int fd = open_kind(&self->s, variant->to, "out", O_WRONLY | O_APPEND);

	ASSERT_LE(0, fd);
	ASSERT_EQ(100, splice(self->in, NULL, self->pipe[1], NULL, 100, 0));
	EXPECT_EQ(-1, splice(self->pipe[0], NULL, fd, NULL, 100, 0));
	EXPECT_EQ(EINVAL, errno);
	close(fd);
}

#define LOOPS	40

struct splicer {
	int in, out;
	off_t at;
	int error;
};

static void *splice_loop(void *arg)
{
	struct splicer *sp = arg;
	int p[2], i;

	if (pipe2(p, O_CLOEXEC)) {
		sp->error = errno;
		return NULL;
	}
	for (i = 0; i < LOOPS && !sp->error; i++) {
		loff_t in = 0, out = sp->at;
		ssize_t n = splice(sp->in, &in, p[1], NULL, 8192, 0);

		while (n > 0) {
			ssize_t m = splice(p[0], NULL, sp->out, &out, n, 0);

			if (m <= 0) {
				sp->error = errno ?: EIO;
				break;
			}
			n -= m;
		}
	}
	close(p[0]);
	close(p[1]);
	return NULL;
}

/* Splices to one file from many threads neither deadlock nor lose data. */
TEST_F_TIMEOUT(pair, many, IO_TIMEOUT)
{
	pthread_t t[4];
	struct splicer sp[4];
	unsigned int i;

	for (i = 0; i < 4; i++) {
		sp[i] = (struct splicer){ .in = self->in, .at = i * 8192 };
		sp[i].out = open_kind(&self->s, i & 1 ? KIND_LOWER : variant->to,
				      "out", O_RDWR);
		ASSERT_LE(0, sp[i].out);
		ASSERT_EQ(0, pthread_create(&t[i], NULL, splice_loop, &sp[i]));
	}
	for (i = 0; i < 4; i++) {
		pthread_join(t[i], NULL);
		EXPECT_EQ(0, sp[i].error);
		fsync(sp[i].out);
		close(sp[i].out);
	}
	if (variant->to != KIND_CACHED)
		for (i = 0; i < 4; i++) {
			ASSERT_EQ(8192, pread(self->out, self->buf, 8192, i * 8192));
			EXPECT_EQ(-1, pattern_differs(self->buf, 8192, 0, 1));
		}
}

/* Splices to a passthrough open */
FIXTURE(to) {
	struct fuse_server s;
	int fd;
	int pipe[2];
};

FIXTURE_SETUP(to)
{
	self->fd = serve_file(&self->s, OPEN_PASSTHROUGH, LEN);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, pipe2(self->pipe, O_CLOEXEC));
}

FIXTURE_TEARDOWN(to)
{
	EXPECT_EQ(0, server_io(&self->s));
	close(self->fd);
	close(self->pipe[0]);
	close(self->pipe[1]);
	fuse_server_stop(&self->s);
}

/* A splice to an append-only lower file appends. */
TEST_F_TIMEOUT(to, append_only, IO_TIMEOUT)
{
	int lower = lower_open(&self->s, "f", O_RDONLY);
	int none, attr, ret;
	loff_t off = 0;

	if (ioctl(lower, FS_IOC_GETFLAGS, &none)) {
		ASSERT_EQ(ENOTTY, errno);
		SKIP(return, "no append-only files on this lower file system");
	}
	attr = none | FS_APPEND_FL;
	ASSERT_EQ(0, ioctl(lower, FS_IOC_SETFLAGS, &attr));
	ASSERT_EQ(5, write(self->pipe[1], "hello", 5));
	ret = splice(self->pipe[0], NULL, self->fd, &off, 5, 0);
	ASSERT_EQ(0, ioctl(lower, FS_IOC_SETFLAGS, &none));
	EXPECT_EQ(5, ret);
	/* The offset follows the append, as on the lower file. */
	EXPECT_EQ(LEN + 5, off);
	EXPECT_EQ(LEN + 5, size_of(self->fd));
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, LEN, 1));
	close(lower);
}

/*
 * A splice needs the access mode of the client's open: it neither writes to a
 * file opened for reading nor reads from one opened for writing.
 */
TEST_F_TIMEOUT(to, access_mode, IO_TIMEOUT)
{
	int rd = fs_open_mode(&self->s, OPEN_PASSTHROUGH, "f", O_RDONLY, O_RDWR);
	int wr = fs_open_mode(&self->s, OPEN_PASSTHROUGH, "f", O_WRONLY, O_RDWR);

	ASSERT_LE(0, rd);
	ASSERT_LE(0, wr);
	ASSERT_EQ(5, write(self->pipe[1], "hello", 5));
	EXPECT_EQ(-1, splice(self->pipe[0], NULL, rd, NULL, 5, 0));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, splice(wr, NULL, self->pipe[1], NULL, 5, 0));
	EXPECT_EQ(EBADF, errno);
	close(rd);
	close(wr);
}

/* A splice to O_DSYNC and O_SYNC opens writes unaligned data. */
TEST_F_TIMEOUT(to, flags, IO_TIMEOUT)
{
	static const int flags[] = { O_DSYNC, O_SYNC };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		int fd = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDWR | flags[i]);
		loff_t off = 33;

		ASSERT_LE(0, fd);
		ASSERT_EQ(5, write(self->pipe[1], "hello", 5));
		EXPECT_EQ(5, splice(self->pipe[0], NULL, fd, &off, 5, 0));
		EXPECT_EQ(38, off);
		close(fd);
	}
}

/*
 * A write that is refused half way leaves the rest in the pipe, and returns the
 * number of bytes written.
 */
TEST_F_TIMEOUT(to, rlimit, IO_TIMEOUT)
{
	struct rlimit lim = { .rlim_cur = LEN + 3, .rlim_max = RLIM_INFINITY };
	loff_t off = LEN;
	char buf[8] = "";

	signal(SIGXFSZ, SIG_IGN);
	ASSERT_EQ(0, setrlimit(RLIMIT_FSIZE, &lim));
	ASSERT_EQ(5, write(self->pipe[1], "hello", 5));
	EXPECT_EQ(3, splice(self->pipe[0], NULL, self->fd, &off, 5, 0));
	EXPECT_EQ(-1, splice(self->pipe[0], NULL, self->fd, &off, 2, 0));
	EXPECT_EQ(EFBIG, errno);
	EXPECT_EQ(2, read(self->pipe[0], buf, sizeof(buf)));
	EXPECT_STREQ("lo", buf);
	EXPECT_EQ(LEN + 3, size_of(self->fd));
}

TEST_HARNESS_MAIN
