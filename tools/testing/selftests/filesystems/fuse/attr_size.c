// SPDX-License-Identifier: GPL-2.0
/* The size after passthrough I/O is right at once, however it is asked for. */
#define _GNU_SOURCE
#include <sys/sendfile.h>
#include <sys/uio.h>

#include "async_test.h"
#include "io_test.h"
#include "../../kselftest_harness.h"

#define LEN	(64 * KIB)

FIXTURE(attr_size) {
	struct fuse_server s;
	char *buf;
	int fd, lower;
};

FIXTURE_VARIANTS_WRITEBACK(attr_size);

FIXTURE_SETUP(attr_size)
{
	struct stat st;

	self->s.writeback = variant->writeback;
	self->fd = serve_file(&self->s, OPEN_PASSTHROUGH, LEN);
	self->buf = pages(2 * LEN);
	ASSERT_NE(NULL, self->buf);
	self->lower = lower_open(&self->s, "f", O_RDWR);
	ASSERT_LE(0, self->fd);
	ASSERT_LE(0, self->lower);
	/* Cached now. */
	ASSERT_EQ(0, fstat(self->fd, &st));
	ASSERT_EQ(LEN, st.st_size);
}

FIXTURE_TEARDOWN(attr_size)
{
	EXPECT_EQ(0, server_io(&self->s));
	close(self->fd);
	close(self->lower);
	fuse_server_stop(&self->s);
}

/* Each way to get the size returns the size of the lower file. */
static bool size_everywhere(struct fuse_server *s, int fd, off_t want)
{
	char buf[16];
	struct stat st, low;
	struct statx stx;
	off_t pos;
	bool ok;
	int flags = fcntl(fd, F_GETFL);

	/* The reads below are too small for O_DIRECT. */
	fcntl(fd, F_SETFL, flags & ~O_DIRECT);
	fstatat(s->dirfd, "f", &low, 0);
	pos = lseek(fd, 0, SEEK_CUR);
	ok = low.st_size == want &&
		lseek(fd, 0, SEEK_END) == want &&
		!fstat(fd, &st) && st.st_size == want &&
		!stat(fuse_path(s, "f"), &st) && st.st_size == want &&
		!statx(AT_FDCWD, fuse_path(s, "f"), AT_STATX_DONT_SYNC, STATX_SIZE,
		       &stx) && (off_t)stx.stx_size == want &&
		pread(fd, buf, sizeof(buf), want) == 0 &&
		(!want || pread(fd, buf, sizeof(buf), want - 1) == 1) &&
		lseek(fd, want, SEEK_DATA) == -1 && errno == ENXIO;
	lseek(fd, pos, SEEK_SET);
	fcntl(fd, F_SETFL, flags);
	if (!ok)
		printf("# size wanted %lld, lower %lld\n", (long long)want,
		       (long long)low.st_size);
	return ok;
}

/* lseek(SEEK_END) comes first, before a stat could refresh the size. */
TEST_F_TIMEOUT(attr_size, seek_end_at_once, IO_TIMEOUT)
{
	unsigned int i;

	for (i = 1; i <= 8; i++) {
		ASSERT_EQ(10, pwrite(self->fd, self->buf, 10, LEN + (i - 1) * 10));
		ASSERT_EQ(LEN + i * 10, lseek(self->fd, 0, SEEK_END));
	}
	EXPECT_EQ(0, fuse_server_count(&self->s, FUSE_GETATTR));
	EXPECT_TRUE(size_everywhere(&self->s, self->fd, LEN + 80));
}

/*
 * The size is right after appends, extending writes, writes beyond the end,
 * vectors and splices.
 */
TEST_F_TIMEOUT(attr_size, size_after_write, IO_TIMEOUT)
{
	struct iovec iov[] = { { self->buf, 100 }, { self->buf, 23 } };
	int p[2];
	off_t size = LEN;

	ASSERT_EQ(LEN, lseek(self->fd, 0, SEEK_END));
	ASSERT_EQ(5, write(self->fd, self->buf, 5));
	EXPECT_TRUE(size_everywhere(&self->s, self->fd, size += 5));

	ASSERT_EQ(0, fcntl(self->fd, F_SETFL, O_APPEND));
	ASSERT_EQ(7, write(self->fd, self->buf, 7));
	EXPECT_TRUE(size_everywhere(&self->s, self->fd, size += 7));
	ASSERT_EQ(0, fcntl(self->fd, F_SETFL, 0));

	ASSERT_EQ(123, pwritev2(self->fd, iov, 2, 0, RWF_APPEND));
	EXPECT_TRUE(size_everywhere(&self->s, self->fd, size += 123));

	ASSERT_EQ(1, pwrite(self->fd, "x", 1, size + 10000));
	EXPECT_TRUE(size_everywhere(&self->s, self->fd, size += 10001));

	ASSERT_EQ(0, pipe(p));
	ASSERT_EQ(6, write(p[1], "splice", 6));
	ASSERT_EQ(size, lseek(self->fd, 0, SEEK_END));
	ASSERT_EQ(6, splice(p[0], NULL, self->fd, NULL, 6, 0));
	EXPECT_TRUE(size_everywhere(&self->s, self->fd, size += 6));
	close(p[0]);
	close(p[1]);

	/* An overwrite changes nothing. */
	ASSERT_EQ(100, pwrite(self->fd, self->buf, 100, 0));
	EXPECT_TRUE(size_everywhere(&self->s, self->fd, size));
}

/*
 * The size is right after native AIO and io_uring, buffered and direct, at the
 * end of the file.
 */
TEST_F_TIMEOUT(attr_size, size_after_async, IO_TIMEOUT)
{
	struct iocb iocb, *p = &iocb;
	off_t size = LEN;
	struct io_event ev;
	aio_context_t ctx;
	struct uring u;
	int o_direct;

	ASSERT_EQ(0, aio_setup(1, &ctx));
	ASSERT_EQ(0, uring_setup(&u, 4));
	for (o_direct = 0; o_direct < 2; o_direct++) {
		ASSERT_EQ(0, fcntl(self->fd, F_SETFL, o_direct ? O_DIRECT : 0));
		/* Not every lower file system has O_DIRECT. */
		if (o_direct && pread(self->fd, self->buf, BLOCK, 0) < 0)
			break;
		aio_prep(&iocb, IOCB_CMD_PWRITE, self->fd, self->buf, BLOCK,
			 size, 0);
		ASSERT_EQ(1, aio_submit(ctx, 1, &p));
		ASSERT_EQ(1, aio_wait(ctx, 1, &ev));
		ASSERT_EQ(BLOCK, ev.res);
		EXPECT_EQ(size + BLOCK, lseek(self->fd, 0, SEEK_END));
		EXPECT_TRUE(size_everywhere(&self->s, self->fd, size += BLOCK));

		ASSERT_EQ(BLOCK, uring_do(&u, IORING_OP_WRITE, self->fd,
					  self->buf, BLOCK, size));
		EXPECT_EQ(size + BLOCK, lseek(self->fd, 0, SEEK_END));
		EXPECT_TRUE(size_everywhere(&self->s, self->fd, size += BLOCK));
	}
	uring_destroy(&u);
	EXPECT_EQ(0, aio_destroy(ctx));
}

/*
 * The size is right after ftruncate, truncate by path, O_TRUNC and fallocate,
 * and after writes that follow each.
 */
TEST_F_TIMEOUT(attr_size, size_after_truncate, IO_TIMEOUT)
{
	int fd;

	ASSERT_EQ(0, ftruncate(self->fd, 1000));
	EXPECT_TRUE(size_everywhere(&self->s, self->fd, 1000));
	ASSERT_EQ(10, pwrite(self->fd, self->buf, 10, 2000));
	EXPECT_TRUE(size_everywhere(&self->s, self->fd, 2010));
	ASSERT_EQ(0, truncate(fuse_path(&self->s, "f"), 5000));
	EXPECT_TRUE(size_everywhere(&self->s, self->fd, 5000));
	ASSERT_EQ(10, pwrite(self->fd, self->buf, 10, 5000));
	EXPECT_TRUE(size_everywhere(&self->s, self->fd, 5010));

	fd = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_WRONLY | O_TRUNC);
	ASSERT_LE(0, fd);
	EXPECT_TRUE(size_everywhere(&self->s, self->fd, 0));
	ASSERT_EQ(10, write(fd, self->buf, 10));
	EXPECT_TRUE(size_everywhere(&self->s, self->fd, 10));
	close(fd);

	if (!fallocate(self->fd, 0, 0, 30000)) {
		EXPECT_TRUE(size_everywhere(&self->s, self->fd, 30000));
	}
}

/*
 * SEEK_DATA and SEEK_HOLE find passthrough writes where the lower file has
 * them.
 */
TEST_F_TIMEOUT(attr_size, seek_data_hole, IO_TIMEOUT)
{
	off_t at, next;
	int n;

	ASSERT_EQ(0, ftruncate(self->fd, 0));
	ASSERT_EQ(4096, pwrite(self->fd, self->buf, 4096, 1 << 20));
	ASSERT_EQ(4096, pwrite(self->fd, self->buf, 4096, 3 << 20));
	for (at = 0, n = 0; n < 8; n++, at = next) {
		next = lseek(self->lower, at, n & 1 ? SEEK_HOLE : SEEK_DATA);
		ASSERT_EQ(next, lseek(self->fd, at, n & 1 ? SEEK_HOLE : SEEK_DATA));
		if (next < 0)
			break;
	}
	EXPECT_LT(2, n);
}

/*
 * fstat and a read of that size, as in cp and tail, and copy_file_range see all
 * data.
 */
TEST_F_TIMEOUT(attr_size, copies_see_all, IO_TIMEOUT)
{
	int to = fs_open(&self->s, OPEN_PASSTHROUGH, "copy", O_RDWR | O_CREAT);
	int from = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDONLY);
	loff_t in = 0, out = 0;
	off_t off = LEN;

	ASSERT_LE(0, to);
	ASSERT_LE(0, from);
	pattern(self->buf, 5000, LEN, 1);
	ASSERT_EQ(5000, pwrite(self->fd, self->buf, 5000, LEN));
	EXPECT_EQ(LEN + 5000, copy_file_range(from, &in, to, &out, 1 << 20, 0));
	EXPECT_EQ(LEN + 5000, size_of(to));
	EXPECT_EQ(-1, lower_differs(&self->s, "copy", 0, LEN + 5000, 1));

	ASSERT_EQ(100, pwrite(self->fd, self->buf, 100, LEN + 5000));
	EXPECT_EQ(5100, sendfile(to, from, &off, 1 << 20));
	EXPECT_EQ(LEN + 5100, size_of(from));
	close(from);
	close(to);
}

struct cutter {
	struct fuse_server *s;
	int fd;
	char *buf;
	bool stop;
	int error;
};

static void *write_on(void *arg)
{
	struct cutter *c = arg;
	struct iocb iocb, *p = &iocb;
	struct io_event ev;
	aio_context_t ctx;
	unsigned int i;

	if (aio_setup(1, &ctx)) {
		c->error = 1;
		return NULL;
	}
	for (i = 0; !__atomic_load_n(&c->stop, __ATOMIC_ACQUIRE); i++) {
		off_t off = (i % 16) * BLOCK;

		if (i & 1) {
			if (pwrite(c->fd, c->buf, BLOCK, off) != BLOCK)
				c->error = errno;
			continue;
		}
		aio_prep(&iocb, IOCB_CMD_PWRITE, c->fd, c->buf, BLOCK, off, 0);
		if (aio_submit(ctx, 1, &p) != 1 || aio_wait(ctx, 1, &ev) != 1 ||
		    ev.res != BLOCK)
			c->error = EIO;
	}
	aio_destroy(ctx);
	return NULL;
}

/*
 * Truncates by descriptor and by path race with synchronous and asynchronous
 * writes: the final size is that of the lower file.
 */
TEST_F_TIMEOUT(attr_size, truncate_races, IO_TIMEOUT)
{
	struct cutter c[2];
	pthread_t t[2];
	unsigned int i, round;

	for (round = 0; round < 6; round++) {
		for (i = 0; i < 2; i++) {
			c[i] = (struct cutter){ .s = &self->s, .buf = self->buf };
			c[i].fd = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDWR);
			if (i && pread(c[i].fd, self->buf, BLOCK, 0) >= 0)
				fcntl(c[i].fd, F_SETFL, O_DIRECT);
			if (pread(c[i].fd, self->buf, BLOCK, 0) < 0)
				fcntl(c[i].fd, F_SETFL, 0);
			ASSERT_EQ(0, pthread_create(&t[i], NULL, write_on, &c[i]));
		}
		for (i = 0; i < 40; i++) {
			if (i & 1) {
				ASSERT_EQ(0, ftruncate(self->fd, i * 1000));
			} else {
				ASSERT_EQ(0, truncate(fuse_path(&self->s, "f"),
						      i * 777));
			}
		}
		for (i = 0; i < 2; i++) {
			__atomic_store_n(&c[i].stop, true, __ATOMIC_RELEASE);
			pthread_join(t[i], NULL);
			EXPECT_EQ(0, c[i].error);
		}
		EXPECT_EQ(size_of(self->lower), lseek(self->fd, 0, SEEK_END));
		EXPECT_TRUE(size_everywhere(&self->s, self->fd,
					    size_of(self->lower)));
		for (i = 0; i < 2; i++)
			close(c[i].fd);
	}
}

/* The server truncates for O_TRUNC itself, and then lets the opener wait. */
FIXTURE(otrunc) {
	struct fuse_server s;
	uint64_t unique;	/* of the request without a reply */
	int fd;
};

FIXTURE_VARIANTS_WRITEBACK(otrunc);

static void atomic_o_trunc(struct fuse_server *s, struct fuse_init_out *out)
{
	(void)s;
	out->flags |= FUSE_ATOMIC_O_TRUNC;
}

/* The kernel sends GETXATTR between OPEN and its own part of O_TRUNC. */
static bool keep_getxattr(struct fuse_server *s, const struct fuse_in_header *in)
{
	const char *name = (const char *)(in + 1) + sizeof(struct fuse_getxattr_in);

	if (in->opcode != FUSE_GETXATTR || strcmp(name, "security.capability"))
		return false;
	__atomic_store_n((uint64_t *)s->arg, in->unique, __ATOMIC_RELEASE);
	return true;
}

FIXTURE_SETUP(otrunc)
{
	self->s.writeback = variant->writeback;
	self->s.init = atomic_o_trunc;
	self->s.request = keep_getxattr;
	self->s.arg = &self->unique;
	self->fd = serve_file(&self->s, OPEN_PASSTHROUGH, LEN);
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(otrunc)
{
	EXPECT_EQ(0, server_io(&self->s));
	close(self->fd);
	fuse_server_stop(&self->s);
}

static void call_open_trunc(void *arg)
{
	close(fs_open(arg, OPEN_PASSTHROUGH, "f", O_WRONLY | O_TRUNC));
}

/*
 * The end of an open with O_TRUNC does not undo a later write by another open.
 */
TEST_F_TIMEOUT(otrunc, written_since, IO_TIMEOUT)
{
	struct blocker opener;

	ASSERT_EQ(1, pwrite(self->fd, "x", 1, 0));
	blocker_start(&opener, call_open_trunc, &self->s);
	while (!__atomic_load_n(&self->unique, __ATOMIC_ACQUIRE))
		sched_yield();
	ASSERT_EQ(0, size_of(self->fd));
	ASSERT_EQ(100, pwrite(self->fd, self->s.lower, 100, 0));
	ASSERT_EQ(100, size_of(self->fd));
	ASSERT_EQ(0, fuse_server_reply(&self->s, self->unique, -ENODATA, NULL, 0));
	blocker_join(&opener);
	EXPECT_TRUE(size_everywhere(&self->s, self->fd, 100));
}

TEST_HARNESS_MAIN
