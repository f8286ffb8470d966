// SPDX-License-Identifier: GPL-2.0
/*
 * Flags and ways of asynchronous calls: each gives the result of the same call
 * on a lower file without passthrough.
 */
#define _GNU_SOURCE
#include <linux/fs.h>
#include <linux/magic.h>
#include <poll.h>

#include "async_test.h"
#include "io_test.h"
#include "../../kselftest_harness.h"

#define NR	64
#define LEN	(NR * BLOCK)

FIXTURE(io_flags) {
	struct fuse_server s;
	struct uring u;
	aio_context_t ctx;
	char *buf;
	int fd[2];		/* through FUSE; another lower file */
	bool o_direct;		/* the lower files have O_DIRECT */
};

FIXTURE_VARIANT(io_flags) { enum fuse_server_open how; };
FIXTURE_VARIANT_ADD(io_flags, by_request) { .how = OPEN_PASSTHROUGH };
FIXTURE_VARIANT_ADD(io_flags, by_inode) { .how = OPEN_BY_INODE };

FIXTURE_SETUP(io_flags)
{
	self->s.permissions = variant->how == OPEN_BY_INODE;
	ASSERT_EQ(0, fuse_server_start(&self->s));
	ASSERT_EQ(0, lower_make(&self->s, "f", LEN, 1));
	ASSERT_EQ(0, lower_make(&self->s, "twin", LEN, 1));
	self->buf = pages(LEN);
	ASSERT_NE(NULL, self->buf);
	ASSERT_EQ(0, uring_setup(&self->u, NR));
	ASSERT_EQ(0, aio_setup(NR, &self->ctx));
	self->fd[0] = fs_open(&self->s, variant->how, "f", O_RDWR);
	self->fd[1] = lower_open(&self->s, "twin", O_RDWR);
	ASSERT_LE(0, self->fd[0]);
	ASSERT_LE(0, self->fd[1]);
	self->o_direct = !fcntl(self->fd[1], F_SETFL, O_DIRECT);
	ASSERT_EQ(0, fcntl(self->fd[1], F_SETFL, 0));
}

FIXTURE_TEARDOWN(io_flags)
{
	EXPECT_EQ(0, server_bypassed(&self->s, variant->how));
	EXPECT_EQ(0, fuse_server_count(&self->s, FUSE_POLL));
	uring_destroy(&self->u);
	aio_destroy(self->ctx);
	close(self->fd[0]);
	close(self->fd[1]);
	fuse_server_stop(&self->s);
}

/*
 * Make one call with RWF_ flags, by native AIO or by io_uring.  Returns its
 * result.
 */
static int with_flags(FIXTURE_DATA(io_flags) *self, bool by_aio, bool write_it,
		      int fd, int flags)
{
	struct iovec iov[] = { { self->buf, BLOCK / 2 },
			       { self->buf + BLOCK / 2, BLOCK / 2 } };
	struct iocb iocb, *p = &iocb;
	struct io_uring_cqe cqe;
	struct io_event ev;
	int ret;

	if (by_aio) {
		aio_prep(&iocb, write_it ? IOCB_CMD_PWRITEV : IOCB_CMD_PREADV, fd,
			 iov, 2, BLOCK, 0);
		iocb.aio_rw_flags = flags;
		ret = aio_submit(self->ctx, 1, &p);
		if (ret != 1)
			return ret;
		ret = aio_wait(self->ctx, 1, &ev);
		return ret == 1 ? ev.res : ret;
	}
	uring_prep(&self->u, write_it ? IORING_OP_WRITEV : IORING_OP_READV, fd, iov,
		   2, BLOCK, 0)->rw_flags = flags;
	ret = uring_enter(&self->u, 1) ?: uring_wait(&self->u, &cqe);
	return ret ?: cqe.res;
}

/*
 * Compare a call with @flags on the FUSE file and on the lower file, both
 * prepared alike.
 */
static void compare(struct __test_metadata *_metadata, FIXTURE_DATA(io_flags) *self,
		    unsigned int how, int flags, int ret[2])
{
	bool by_aio = how & 1, write_it = how & 2, direct = how & 4;
	int n;

	for (n = 0; n < 2; n++) {
		/* In the page cache and clean: nothing to wait for. */
		ASSERT_EQ(0, fcntl(self->fd[n], F_SETFL, 0));
		ASSERT_EQ(LEN, pread(self->fd[n], self->buf, LEN, 0));
		ASSERT_EQ(0, fsync(self->fd[n]));
		ASSERT_EQ(0, fcntl(self->fd[n], F_SETFL, direct ? O_DIRECT : 0));
		if (write_it)
			pattern(self->buf, BLOCK, BLOCK, 1);
		else
			memset(self->buf, 0, BLOCK);
		ret[n] = with_flags(self, by_aio, write_it, self->fd[n], flags);
		if (ret[n] == BLOCK) {
			EXPECT_EQ(-1, pattern_differs(self->buf, BLOCK, BLOCK, 1));
		}
	}
}

/* RWF_ flags of native AIO and io_uring, vectored, buffered and direct. */
TEST_F_TIMEOUT(io_flags, rwf, IO_TIMEOUT)
{
	static const int flags[] = { 0, RWF_NOWAIT, RWF_HIPRI, RWF_DSYNC, RWF_SYNC,
				     RWF_APPEND, 0x40000000 };
	struct timespec before, after;
	unsigned int i, how;
	int ret[2];

	for (how = 0; how < 8; how++)
	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		if ((how & 4) && !self->o_direct)
			continue;
		/* A lower file system may wait to update times. */
		do {
			clock_gettime(CLOCK_REALTIME_COARSE, &before);
			compare(_metadata, self, how, flags[i], ret);
			clock_gettime(CLOCK_REALTIME_COARSE, &after);
		} while (flags[i] == RWF_NOWAIT && ret[0] != ret[1] &&
			 memcmp(&before, &after, sizeof(before)));
		EXPECT_EQ(ret[1], ret[0])
			TH_LOG("aio %d write %d direct %d flags %#x", how & 1,
			       !!(how & 2), !!(how & 4), flags[i]);
		EXPECT_EQ(size_of(self->fd[1]), lseek(self->fd[0], 0, SEEK_END));
	}
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, LEN, 1));
}

/* IORING_SETUP_IOPOLL gets an error: passthrough files cannot be polled for completions. */
TEST_F_TIMEOUT(io_flags, iopoll, IO_TIMEOUT)
{
	struct uring u;
	int direct;

	ASSERT_EQ(0, uring_setup_flags(&u, 4, IORING_SETUP_IOPOLL));
	for (direct = 0; direct < 2; direct++) {
		ASSERT_EQ(0, fcntl(self->fd[0], F_SETFL, direct ? O_DIRECT : 0));
		EXPECT_EQ(-EOPNOTSUPP, uring_do(&u, IORING_OP_READ, self->fd[0],
						self->buf, BLOCK, 0));
		EXPECT_EQ(-EOPNOTSUPP, uring_do(&u, IORING_OP_WRITE, self->fd[0],
						self->buf, BLOCK, 0));
	}
	uring_destroy(&u);
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, LEN, 1));
}

/* IORING_OP_POLL_ADD reports ready without a POLL request. */
TEST_F_TIMEOUT(io_flags, poll_add, IO_TIMEOUT)
{
	struct io_uring_cqe cqe;
	int n, ret[2];

	for (n = 0; n < 2; n++) {
		uring_prep(&self->u, IORING_OP_POLL_ADD, self->fd[n], NULL, 0, 0,
			   0)->poll32_events = POLLIN | POLLOUT;
		ASSERT_EQ(0, uring_enter(&self->u, 1));
		ASSERT_EQ(0, uring_wait(&self->u, &cqe));
		ret[n] = cqe.res;
	}
	EXPECT_EQ(POLLIN | POLLOUT, ret[0]);
	EXPECT_EQ(ret[1], ret[0]);
}

/* Submit NR direct requests at once. Returns how many are in flight then. */
static int under_way(FIXTURE_DATA(io_flags) *self, bool by_aio, bool write_it, int fd)
{
	static struct iocb iocb[NR], *p[NR];
	static struct io_event ev[NR];
	struct io_uring_cqe cqe;
	struct timespec now = {};
	int i, done = 0;

	for (i = 0; i < NR; i++) {
		aio_prep(&iocb[i], write_it ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD, fd,
			 self->buf + i * BLOCK, BLOCK, i * BLOCK, i);
		p[i] = &iocb[i];
		if (!by_aio)
			uring_prep(&self->u, write_it ? IORING_OP_WRITE : IORING_OP_READ,
				   fd, self->buf + i * BLOCK, BLOCK, i * BLOCK, i);
	}
	if (by_aio) {
		if (aio_submit(self->ctx, NR, p) != NR)
			return -1;
		done = syscall(__NR_io_getevents, self->ctx, 0, NR, ev, &now);
		for (i = 0; i < NR - done; i++)
			if (aio_wait(self->ctx, 1, ev) != 1 || ev[0].res != BLOCK)
				return -1;
		return NR - done;
	}
	if (uring_enter(&self->u, 0))
		return -1;
	while (uring_peek(&self->u, &cqe))
		done++;
	for (i = 0; i < NR - done; i++)
		if (uring_wait(&self->u, &cqe) || cqe.res != BLOCK)
			return -1;
	return NR - done;
}

#define ROUNDS	1000

/*
 * Direct requests do not wait for each other: many are in flight, as on the
 * lower file.
 */
TEST_F_TIMEOUT(io_flags, many_under_way, IO_TIMEOUT)
{
	unsigned int how;
	int i, n, most[2];

	if (!self->o_direct || lower_is(&self->s, OVERLAYFS_SUPER_MAGIC))
		return;
	pattern(self->buf, LEN, 0, 1);
	for (n = 0; n < 2; n++) {
		ASSERT_EQ(0, fsync(self->fd[n]));
		ASSERT_EQ(0, fcntl(self->fd[n], F_SETFL, O_DIRECT));
	}
	for (how = 0; how < 4; how++) {
		for (n = 0; n < 2; n++) {
			most[n] = 0;
			for (i = 0; i < ROUNDS && most[n] < 2; i++) {
				int nr = under_way(self, how & 1, how & 2, self->fd[n]);

				ASSERT_LE(0, nr);
				most[n] = nr > most[n] ? nr : most[n];
			}
		}
		EXPECT_EQ(most[1] > 1, most[0] > 1) TH_LOG("case %u: %d, %d", how,
							   most[0], most[1]);
	}
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, LEN, 1));
}

/* A passthrough open and a cached one, with a write-back cache */
FIXTURE(beside) {
	struct fuse_server s;
	char *buf;
	int fd, cached, lower;
};

FIXTURE_SETUP(beside)
{
	self->s.writeback = true;
	self->fd = serve_file(&self->s, OPEN_PASSTHROUGH, LEN);
	self->buf = pages(2 * LEN);
	ASSERT_NE(NULL, self->buf);
	self->cached = fs_open(&self->s, OPEN_CACHED, "f", O_RDWR);
	self->lower = lower_open(&self->s, "f", O_RDWR);
	ASSERT_LE(0, self->fd);
	ASSERT_LE(0, self->cached);
	ASSERT_LE(0, self->lower);
}

FIXTURE_TEARDOWN(beside)
{
	close(self->fd);
	close(self->cached);
	close(self->lower);
	fuse_server_stop(&self->s);
}

/* A non-blocking write next to a dirty page is refused or does not get lost. */
TEST_F_TIMEOUT(beside, nowait_write, IO_TIMEOUT)
{
	struct iovec iov = { self->buf, BLOCK };
	int direct;
	ssize_t n;

	for (direct = 0; direct < 2; direct++) {
		ASSERT_EQ(0, fcntl(self->fd, F_SETFL, direct ? O_DIRECT : 0));
		ASSERT_EQ(0, fsync(self->lower));
		pattern(self->buf, 100, 50, 2);
		ASSERT_EQ(100, pwrite(self->cached, self->buf, 100, 50));
		pattern(self->buf, BLOCK, 0, 3);
		n = pwritev2(self->fd, &iov, 1, 0, RWF_NOWAIT);
		if (n < 0) {
			EXPECT_TRUE(errno == EAGAIN || errno == EOPNOTSUPP ||
				    errno == EINVAL);
			continue;
		}
		EXPECT_EQ(BLOCK, n);
		ASSERT_EQ(0, fsync(self->cached));
		EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, BLOCK, 3));
	}
}

/*
 * A write completes during a truncate, when the lower file is shorter than the
 * write: the size stays that of the truncate.
 */
TEST_F_TIMEOUT(beside, late_completion, IO_TIMEOUT)
{
	static struct iocb iocb[NR], *p[NR];
	static struct io_event ev[NR];
	aio_context_t ctx;
	int i, round;

	if (lower_is(&self->s, OVERLAYFS_SUPER_MAGIC) ||
	    fcntl(self->lower, F_SETFL, O_DIRECT))
		return;
	ASSERT_EQ(0, fcntl(self->lower, F_SETFL, 0));
	ASSERT_EQ(0, fcntl(self->fd, F_SETFL, O_DIRECT));
	ASSERT_EQ(0, aio_setup(NR, &ctx));
	for (round = 0; round < 10; round++) {
		/*
		 * The blocks are allocated, but beyond the size that FUSE
		 * knows.
		 */
		ASSERT_EQ(0, ftruncate(self->fd, LEN));
		pattern(self->buf, 2 * LEN, 0, round);
		ASSERT_EQ(2 * LEN, pwrite(self->lower, self->buf, 2 * LEN, 0));
		ASSERT_EQ(0, fsync(self->lower));
		ASSERT_EQ(LEN, lseek(self->fd, 0, SEEK_END));
		for (i = 0; i < NR; i++) {
			aio_prep(&iocb[i], IOCB_CMD_PWRITE, self->fd,
				 self->buf + i * BLOCK, BLOCK, LEN + i * BLOCK, i);
			p[i] = &iocb[i];
		}
		ASSERT_EQ(NR, aio_submit(ctx, NR, p));
		ASSERT_EQ(0, ftruncate(self->fd, 1000));
		ASSERT_EQ(NR, aio_wait(ctx, NR, ev));
		EXPECT_EQ(1000, size_of(self->lower));
		EXPECT_EQ(1000, lseek(self->fd, 0, SEEK_END));
	}
	EXPECT_EQ(0, aio_destroy(ctx));
	EXPECT_EQ(0, server_io(&self->s));
}

TEST_HARNESS_MAIN
