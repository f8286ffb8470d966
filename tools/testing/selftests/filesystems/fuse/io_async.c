// SPDX-License-Identifier: GPL-2.0
/* Native AIO and io_uring: data, completions and cost */
#define _GNU_SOURCE
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <linux/fs.h>

#include "async_test.h"
#include "inode_test.h"
#include "../../kselftest_harness.h"

#define NR	64
#define LEN	(NR * BLOCK)

FIXTURE(io_async) {
	struct fuse_server s;
	char *buf;
	int fd;
	bool o_direct;		/* the lower file has O_DIRECT */
};

FIXTURE_VARIANTS_HOW(io_async);
FIXTURE_VARIANT_ADD(io_async, by_inode) { .how = OPEN_BY_INODE };

FIXTURE_SETUP(io_async)
{
	int lower;

	self->fd = serve_file(&self->s, variant->how, LEN);
	ASSERT_LE(0, self->fd);
	self->buf = pages(LEN);
	ASSERT_NE(NULL, self->buf);
	lower = lower_open(&self->s, "f", O_RDWR | O_DIRECT);
	self->o_direct = !passes_through(variant->how) || lower >= 0;
	close(lower);
}

/* No POLL requests: a regular file is always ready. */
FIXTURE_TEARDOWN(io_async)
{
	EXPECT_EQ(0, server_bypassed(&self->s, variant->how));
	if (passes_through(variant->how)) {
		EXPECT_EQ(0, fuse_server_count(&self->s, FUSE_POLL));
	}
	close(self->fd);
	fuse_server_stop(&self->s);
}

/* Wait for the last close of each of @nr opens.  @self->fd is not one of them. */
static void wait_released(FIXTURE_DATA(io_async) *self, enum fuse_server_open how,
			  unsigned long nr)
{
	if (how != OPEN_BY_INODE)
		fuse_server_wait(&self->s, FUSE_RELEASE, nr);
	else
		while (files_attached(&self->s) != 1)
			sched_yield();
}

/* A permutation of 0..NR-1 that moves neighbours far apart. */
static unsigned int shuffled(unsigned int i)
{
	return (i * 37 + 11) % NR;
}

/* Rounds write and read in turn; rounds from 4 on use O_DIRECT. */
static unsigned int rounds(FIXTURE_DATA(io_async) *self)
{
	return self->o_direct ? 8 : 4;
}

static bool round_writes(unsigned int round)
{
	return !(round & 1);
}

static unsigned int round_seed(unsigned int round)
{
	return 2 + round / 2;
}

/* Returns 0, or -1 if the file cannot be switched to O_DIRECT. */
static int round_begin(FIXTURE_DATA(io_async) *self, unsigned int round)
{
	if (round_writes(round))
		pattern(self->buf, LEN, 0, round_seed(round));
	else
		memset(self->buf, 0, LEN);
	return round == 4 ? fcntl(self->fd, F_SETFL, O_DIRECT) : 0;
}

/*
 * Returns -1, or where the data differ from what the round wrote or should have
 * read.
 */
static long round_differs(FIXTURE_DATA(io_async) *self, unsigned int round)
{
	unsigned int seed = round_seed(round);

	return round_writes(round) ?
		lower_differs(&self->s, "f", 0, LEN, seed) :
		pattern_differs(self->buf, LEN, 0, seed);
}

/* NR native AIO requests in flight complete once each, with the right data. */
TEST_F_TIMEOUT(io_async, aio_many, IO_TIMEOUT)
{
	static struct io_event ev[NR];
	static struct iocb iocb[NR], *p[NR];
	struct iovec iov[NR][2];
	unsigned int i, round;
	aio_context_t ctx;

	ASSERT_EQ(0, aio_setup(NR, &ctx));
	/* Buffered and direct; plain and vectored; write, then read. */
	for (round = 0; round < rounds(self); round++) {
		bool write_it = round_writes(round), vector = round & 2;
		bool seen[NR] = {};

		ASSERT_EQ(0, round_begin(self, round));
		for (i = 0; i < NR; i++) {
			unsigned int n = shuffled(i);
			char *b = self->buf + n * BLOCK;

			iov[n][0] = (struct iovec){ b, BLOCK / 2 };
			iov[n][1] = (struct iovec){ b + BLOCK / 2, BLOCK / 2 };
			if (vector)
				aio_prep(&iocb[i], write_it ? IOCB_CMD_PWRITEV :
					 IOCB_CMD_PREADV, self->fd, iov[n], 2,
					 n * BLOCK, n);
			else
				aio_prep(&iocb[i], write_it ? IOCB_CMD_PWRITE :
					 IOCB_CMD_PREAD, self->fd, b, BLOCK,
					 n * BLOCK, n);
			p[i] = &iocb[i];
		}
		ASSERT_EQ(NR, aio_submit(ctx, NR, p));
		ASSERT_EQ(NR, aio_wait(ctx, NR, ev));
		for (i = 0; i < NR; i++) {
			ASSERT_EQ(BLOCK, ev[i].res);
			ASSERT_GT(NR, ev[i].data);
			ASSERT_FALSE(seen[ev[i].data]);
			seen[ev[i].data] = true;
		}
		EXPECT_EQ(-1, round_differs(self, round));
	}
	EXPECT_EQ(0, aio_destroy(ctx));
}

/* The same for io_uring, with and without registered files and buffers */
TEST_F_TIMEOUT(io_async, uring_many, IO_TIMEOUT)
{
	struct io_uring_cqe cqe;
	struct iovec iov = { self->buf, LEN };
	unsigned int i, round;
	struct uring u;

	ASSERT_EQ(0, uring_setup(&u, NR));
	ASSERT_EQ(0, uring_register(&u, IORING_REGISTER_BUFFERS, &iov, 1));
	ASSERT_EQ(0, uring_register(&u, IORING_REGISTER_FILES, &self->fd, 1));
	for (round = 0; round < rounds(self); round++) {
		bool write_it = round_writes(round), fixed = round & 2;
		bool seen[NR] = {};
		int op;

		if (fixed)
			op = write_it ? IORING_OP_WRITE_FIXED : IORING_OP_READ_FIXED;
		else
			op = write_it ? IORING_OP_WRITE : IORING_OP_READ;
		ASSERT_EQ(0, round_begin(self, round));
		for (i = 0; i < NR; i++) {
			unsigned int n = shuffled(i);
			struct io_uring_sqe *sqe;

			sqe = uring_prep(&u, op, fixed ? 0 : self->fd,
					 self->buf + n * BLOCK, BLOCK,
					 n * BLOCK, n);
			if (fixed)
				sqe->flags |= IOSQE_FIXED_FILE;
		}
		ASSERT_EQ(0, uring_enter(&u, NR));
		for (i = 0; i < NR; i++) {
			ASSERT_EQ(0, uring_wait(&u, &cqe));
			ASSERT_EQ(BLOCK, cqe.res);
			ASSERT_GT(NR, cqe.user_data);
			ASSERT_FALSE(seen[cqe.user_data]);
			seen[cqe.user_data] = true;
		}
		EXPECT_EQ(-1, round_differs(self, round));
	}
	uring_destroy(&u);
}

/*
 * Linked requests run in order; a drained request runs after all earlier ones.
 */
TEST_F_TIMEOUT(io_async, linked_and_drained, IO_TIMEOUT)
{
	char *out = pages(BLOCK), *in = pages(BLOCK);
	struct io_uring_cqe cqe;
	struct io_uring_sqe *sqe;
	unsigned int i, round;
	struct uring u;

	ASSERT_EQ(0, uring_setup(&u, NR));
	for (round = 0; round < 16; round++) {
		pattern(out, BLOCK, 0, 20 + round);
		memset(in, 0, BLOCK);
		uring_prep(&u, IORING_OP_WRITE, self->fd, out, BLOCK, 0,
			   0)->flags |= IOSQE_IO_LINK;
		uring_prep(&u, IORING_OP_FSYNC, self->fd, NULL, 0, 0,
			   1)->flags |= IOSQE_IO_LINK;
		uring_prep(&u, IORING_OP_READ, self->fd, in, BLOCK, 0, 2);
		ASSERT_EQ(0, uring_enter(&u, 3));
		for (i = 0; i < 3; i++) {
			ASSERT_EQ(0, uring_wait(&u, &cqe));
			ASSERT_EQ(i, cqe.user_data);
			ASSERT_EQ(i == 1 ? 0 : BLOCK, cqe.res);
		}
		EXPECT_EQ(-1, pattern_differs(in, BLOCK, 0, 20 + round));

		pattern(self->buf, 8 * BLOCK, 0, 40 + round);
		for (i = 0; i < 8; i++)
			uring_prep(&u, IORING_OP_WRITE, self->fd,
				   self->buf + i * BLOCK, BLOCK, i * BLOCK, i);
		sqe = uring_prep(&u, IORING_OP_READ, self->fd,
				 self->buf + 8 * BLOCK, 8 * BLOCK, 0, 8);
		sqe->flags |= IOSQE_IO_DRAIN;
		ASSERT_EQ(0, uring_enter(&u, 9));
		for (i = 0; i < 9; i++) {
			ASSERT_EQ(0, uring_wait(&u, &cqe));
			ASSERT_EQ(i == 8, cqe.user_data == 8);
			ASSERT_EQ(i == 8 ? 8 * BLOCK : BLOCK, cqe.res);
		}
		EXPECT_EQ(-1, pattern_differs(self->buf + 8 * BLOCK, 8 * BLOCK,
					      0, 40 + round));
	}
	uring_destroy(&u);
}

/*
 * Requests finish even if their descriptors are closed right after submission.
 */
TEST_F_TIMEOUT(io_async, close_before_completion, IO_TIMEOUT)
{
	static struct io_event ev[NR];
	static struct iocb iocb[NR], *p[NR];
	struct io_uring_cqe cqe;
	aio_context_t ctx;
	unsigned int i;
	struct uring u;
	int fd;

	ASSERT_EQ(0, aio_setup(NR, &ctx));
	fd = fs_open(&self->s, variant->how, "f",
		     O_RDWR | (self->o_direct ? O_DIRECT : 0));
	ASSERT_LE(0, fd);
	pattern(self->buf, LEN, 0, 2);
	for (i = 0; i < NR; i++) {
		aio_prep(&iocb[i], IOCB_CMD_PWRITE, fd, self->buf + i * BLOCK,
			 BLOCK, i * BLOCK, i);
		p[i] = &iocb[i];
	}
	ASSERT_EQ(NR, aio_submit(ctx, NR, p));
	close(fd);
	ASSERT_EQ(NR, aio_wait(ctx, NR, ev));
	for (i = 0; i < NR; i++)
		ASSERT_EQ(BLOCK, ev[i].res);
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, LEN, 2));
	EXPECT_EQ(0, aio_destroy(ctx));

	ASSERT_EQ(0, uring_setup(&u, NR));
	fd = fs_open(&self->s, variant->how, "f",
		     O_RDWR | (self->o_direct ? O_DIRECT : 0));
	ASSERT_LE(0, fd);
	pattern(self->buf, LEN, 0, 3);
	for (i = 0; i < NR; i++)
		uring_prep(&u, IORING_OP_WRITE, fd, self->buf + i * BLOCK,
			   BLOCK, i * BLOCK, i)->flags |=
			i & 1 ? IOSQE_ASYNC : 0;
	ASSERT_EQ(0, uring_enter(&u, 0));
	close(fd);
	for (i = 0; i < NR; i++) {
		ASSERT_EQ(0, uring_wait(&u, &cqe));
		ASSERT_EQ(BLOCK, cqe.res);
	}
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, LEN, 3));
	uring_destroy(&u);

	wait_released(self, variant->how, 2);
}

/*
 * Each request that is cancelled in flight gives one result: success or
 * ECANCELED.
 */
TEST_F_TIMEOUT(io_async, cancel, IO_TIMEOUT)
{
	bool seen[2 * NR] = {};
	struct io_uring_cqe cqe;
	unsigned int i;
	struct uring u;

	if (self->o_direct) {
		ASSERT_EQ(0, fcntl(self->fd, F_SETFL, O_DIRECT));
	}
	ASSERT_EQ(0, uring_setup(&u, 2 * NR));
	for (i = 0; i < NR; i++)
		uring_prep(&u, IORING_OP_READ, self->fd, self->buf + i * BLOCK,
			   BLOCK, i * BLOCK, i)->flags |=
			i & 1 ? IOSQE_ASYNC : 0;
	for (i = 0; i < NR; i++)
		uring_prep(&u, IORING_OP_ASYNC_CANCEL, -1,
			   (void *)(uintptr_t)i, 0, 0, NR + i);
	ASSERT_EQ(0, uring_enter(&u, 2 * NR));
	for (i = 0; i < 2 * NR; i++) {
		unsigned int n;

		ASSERT_EQ(0, uring_wait(&u, &cqe));
		n = cqe.user_data;
		ASSERT_GT(2 * NR, n);
		ASSERT_FALSE(seen[n]);
		seen[n] = true;
		if (n >= NR)
			continue;
		if (cqe.res == BLOCK) {
			EXPECT_EQ(-1, pattern_differs(self->buf + n * BLOCK,
						      BLOCK, n * BLOCK, 1));
			continue;
		}
		EXPECT_TRUE(cqe.res == -ECANCELED || cqe.res == -EINTR);
	}
	uring_destroy(&u);
}

/*
 * A process that exits or is killed with requests in flight leaves no open
 * file.
 */
TEST_F_TIMEOUT(io_async, exit_in_flight, IO_TIMEOUT)
{
	unsigned int i, round;

	for (round = 0; round < 4; round++) {
		int status;
		pid_t pid;
		int fd = fs_open(&self->s, variant->how, "f",
				 O_RDWR | (self->o_direct ? O_DIRECT : 0));

		ASSERT_LE(0, fd);
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			static struct iocb iocb[NR], *p[NR];
			aio_context_t ctx;
			struct uring u;

			pattern(self->buf, LEN, 0, 5);
			if (aio_setup(NR, &ctx) || uring_setup(&u, NR))
				_exit(1);
			for (i = 0; i < NR; i++) {
				aio_prep(&iocb[i], i & 1 ? IOCB_CMD_PREAD :
					 IOCB_CMD_PWRITE, fd,
					 self->buf + i * BLOCK, BLOCK,
					 i * BLOCK, i);
				p[i] = &iocb[i];
				uring_prep(&u, i & 1 ? IORING_OP_WRITE :
					   IORING_OP_READ, fd,
					   self->buf + i * BLOCK, BLOCK,
					   i * BLOCK, i)->flags |=
					i & 2 ? IOSQE_ASYNC : 0;
			}
			if (round & 2 ? uring_enter(&u, 0) :
			    aio_submit(ctx, NR, p) != NR)
				_exit(2);
			if (round & 1)
				kill(getpid(), SIGKILL);
			_exit(0);
		}
		close(fd);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		if (round & 1) {
			EXPECT_TRUE(WIFSIGNALED(status));
		} else {
			EXPECT_EQ(0, status);
		}
		wait_released(self, variant->how, round + 1);
	}
	pattern(self->buf, LEN, 0, 6);
	fcntl(self->fd, F_SETFL, 0);
	EXPECT_EQ(LEN, pwrite(self->fd, self->buf, LEN, 0));
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, LEN, 6));
}

static volatile sig_atomic_t signals;

static void count_signal(int sig)
{
	signals++;
}

/* RLIMIT_FSIZE of the submitter holds for async writes: EFBIG and SIGXFSZ. */
TEST_F_TIMEOUT(io_async, rlimit_fsize, IO_TIMEOUT)
{
	struct rlimit lim = { .rlim_cur = LEN, .rlim_max = RLIM_INFINITY };
	struct iocb iocb, *p = &iocb;
	struct io_event ev;
	aio_context_t ctx;
	struct uring u;
	int ret, o_direct;

	ASSERT_EQ(0, aio_setup(1, &ctx));
	ASSERT_EQ(0, uring_setup(&u, 4));
	signal(SIGXFSZ, count_signal);
	ASSERT_EQ(0, setrlimit(RLIMIT_FSIZE, &lim));
	for (o_direct = 0; o_direct <= self->o_direct; o_direct++) {
		ASSERT_EQ(0, fcntl(self->fd, F_SETFL, o_direct ? O_DIRECT : 0));
		signals = 0;
		aio_prep(&iocb, IOCB_CMD_PWRITE, self->fd, self->buf, BLOCK, LEN, 0);
		ret = aio_submit(ctx, 1, &p);
		if (ret == 1) {
			ASSERT_EQ(1, aio_wait(ctx, 1, &ev));
			ret = ev.res;
		}
		EXPECT_EQ(-EFBIG, ret);
		EXPECT_EQ(1, signals);
		EXPECT_EQ(-EFBIG, uring_do(&u, IORING_OP_WRITE, self->fd,
					   self->buf, BLOCK, LEN));
		EXPECT_EQ(LEN, size_of(self->fd));
	}
	uring_destroy(&u);
	EXPECT_EQ(0, aio_destroy(ctx));
}

/* After an async write at the end of the file, the size covers its data. */
TEST_F_TIMEOUT(io_async, extending, IO_TIMEOUT)
{
	static struct iocb iocb[NR], *p[NR];
	struct io_event ev;
	aio_context_t ctx;
	unsigned int i;

	if (self->o_direct) {
		ASSERT_EQ(0, fcntl(self->fd, F_SETFL, O_DIRECT));
	}
	ASSERT_EQ(0, aio_setup(NR, &ctx));
	pattern(self->buf, LEN, LEN, 1);
	for (i = 0; i < NR; i++) {
		unsigned int n = shuffled(i);

		aio_prep(&iocb[i], IOCB_CMD_PWRITE, self->fd,
			 self->buf + n * BLOCK, BLOCK, LEN + n * BLOCK, n);
		p[i] = &iocb[i];
	}
	ASSERT_EQ(NR, aio_submit(ctx, NR, p));
	for (i = 0; i < NR; i++) {
		ASSERT_EQ(1, aio_wait(ctx, 1, &ev));
		ASSERT_EQ(BLOCK, ev.res);
		EXPECT_LE(LEN + (ev.data + 1) * BLOCK, size_of(self->fd));
	}
	EXPECT_EQ(2 * LEN, size_of(self->fd));
	EXPECT_EQ(2 * LEN, lseek(self->fd, 0, SEEK_END));
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, 2 * LEN, 1));
	EXPECT_EQ(0, aio_destroy(ctx));
}

/* io_uring on passthrough files: no needless worker threads, no POLL */
FIXTURE(nowait) {
	struct fuse_server s;
	struct uring u;
	char *buf;
	int fd;
	bool can;		/* the lower file can read with RWF_NOWAIT */
	bool can_write;		/* and can overwrite with it */
};

/*
 * Can RWF_NOWAIT overwrite the file?  A lower file system may block to update
 * timestamps: only a refusal within one clock tick counts.
 */
static bool can_overwrite(int fd, char *buf)
{
	struct iovec iov = { buf, BLOCK };
	struct timespec before, after;
	bool can;

	do {
		clock_gettime(CLOCK_REALTIME_COARSE, &before);
		can = pwrite(fd, buf, BLOCK, 0) == BLOCK &&
			pwritev2(fd, &iov, 1, 0, RWF_NOWAIT) == BLOCK;
		clock_gettime(CLOCK_REALTIME_COARSE, &after);
	} while (!can && memcmp(&before, &after, sizeof(before)));
	return can;
}

FIXTURE_SETUP(nowait)
{
	int lower, nocow = FS_NOCOW_FL;
	struct iovec iov;

	ASSERT_EQ(0, fuse_server_start(&self->s));
	/* Btrfs always waits for copy on write. */
	lower = lower_open(&self->s, "f", O_RDWR | O_CREAT);
	ASSERT_LE(0, lower);
	ioctl(lower, FS_IOC_SETFLAGS, &nocow);
	close(lower);
	ASSERT_EQ(0, lower_make(&self->s, "f", LEN, 1));
	self->buf = pages(LEN);
	ASSERT_NE(NULL, self->buf);
	ASSERT_EQ(0, uring_setup(&self->u, NR));

	lower = lower_open(&self->s, "f", O_RDWR);
	iov = (struct iovec){ self->buf, BLOCK };
	/*
	 * The data of the file: can_overwrite() writes it, even if the read was
	 * refused.
	 */
	pattern(self->buf, BLOCK, 0, 1);
	self->can = preadv2(lower, &iov, 1, 0, RWF_NOWAIT) == BLOCK;
	self->can_write = can_overwrite(lower, self->buf);
	close(lower);

	self->fd = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDWR);
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(nowait)
{
	EXPECT_EQ(0, server_io(&self->s));
	EXPECT_EQ(0, fuse_server_count(&self->s, FUSE_POLL));
	uring_destroy(&self->u);
	close(self->fd);
	fuse_server_stop(&self->s);
}

/*
 * Reads from the page cache finish in the submitter: no worker thread, no poll.
 */
TEST_F_TIMEOUT(nowait, read_hit, IO_TIMEOUT)
{
	unsigned int i;

	ASSERT_EQ(LEN, pread(self->fd, self->buf, LEN, 0));
	for (i = 0; i < NR; i++)
		ASSERT_EQ(BLOCK, uring_do(&self->u, IORING_OP_READ, self->fd,
					  self->buf, BLOCK, i * BLOCK));
	if (self->can) {
		EXPECT_EQ(0, uring_workers());
	}
	EXPECT_EQ(-1, pattern_differs(self->buf, BLOCK, LEN - BLOCK, 1));
}

enum { TICK = 100, FAILED };

/*
 * Overwrite in a new process.  Returns the number of worker threads, or TICK if
 * the clock advanced meanwhile: a lower file system may wait to update times.
 */
static int workers_of_write(int fd, int lower, const char *buf, off_t off)
{
	struct stat before, after;
	struct uring u;

	if (uring_setup(&u, 1))
		return FAILED;
	/* The first write opens what the second finds open. */
	if (pwrite(fd, buf, BLOCK, off) != BLOCK || fstat(lower, &before) ||
	    uring_do(&u, IORING_OP_WRITE, fd, buf, BLOCK, off) != BLOCK ||
	    fstat(lower, &after))
		return FAILED;
	return memcmp(&before.st_mtim, &after.st_mtim, sizeof(before.st_mtim)) ?
		TICK : uring_workers();
}

/*
 * So do overwrites, if the lower file system has non-blocking buffered writes.
 */
TEST_F_TIMEOUT(nowait, write_hit, IO_TIMEOUT)
{
	int lower = lower_open(&self->s, "f", O_RDONLY);
	unsigned int i;
	int status;
	pid_t pid;

	ASSERT_LE(0, lower);
	pattern(self->buf, LEN, 0, 2);
	for (i = 0; i < NR; i++) {
		off_t off = i * BLOCK;

		do {
			pid = fork();
			ASSERT_LE(0, pid);
			if (!pid)
				_exit(workers_of_write(self->fd, lower,
						       self->buf + off, off));
			ASSERT_EQ(pid, waitpid(pid, &status, 0));
			ASSERT_TRUE(WIFEXITED(status));
		} while (self->can_write && WEXITSTATUS(status) == TICK);
		ASSERT_NE(FAILED, WEXITSTATUS(status));
		if (self->can_write) {
			ASSERT_EQ(0, WEXITSTATUS(status));
		}
	}
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, LEN, 2));
	close(lower);
}

/*
 * Direct reads are queued by the submitter too, and many are in flight at once.
 */
TEST_F_TIMEOUT(nowait, direct_read, IO_TIMEOUT)
{
	struct rusage before, after;
	struct io_uring_cqe cqe;
	unsigned int i;
	int lower;

	/* The blocks are mapped and on disk: nothing to wait for. */
	ASSERT_EQ(0, fsync(self->fd));
	lower = lower_open(&self->s, "f", O_RDWR | O_DIRECT);
	ASSERT_EQ(0, fcntl(self->fd, F_SETFL, O_DIRECT));
	if (lower < 0) {
		EXPECT_EQ(-EINVAL, uring_do(&self->u, IORING_OP_READ, self->fd,
					    self->buf, BLOCK, 0));
		return;
	}
	posix_fadvise(lower, 0, 0, POSIX_FADV_DONTNEED);
	close(lower);

	for (i = 0; i < NR; i++)
		uring_prep(&self->u, IORING_OP_READ, self->fd,
			   self->buf + i * BLOCK, BLOCK, i * BLOCK, i);
	ASSERT_EQ(0, getrusage(RUSAGE_THREAD, &before));
	ASSERT_EQ(0, uring_enter(&self->u, 0));
	ASSERT_EQ(0, getrusage(RUSAGE_THREAD, &after));
	for (i = 0; i < NR; i++) {
		ASSERT_EQ(0, uring_wait(&self->u, &cqe));
		ASSERT_EQ(BLOCK, cqe.res);
	}
	if (self->can) {
		EXPECT_EQ(0, uring_workers());
		/*
		 * A submitter that waits for each read would sleep in most of
		 * them.
		 */
		EXPECT_GT(NR / 2, after.ru_nvcsw - before.ru_nvcsw);
	}
	EXPECT_EQ(-1, pattern_differs(self->buf, LEN, 0, 1));
}

/*
 * A read that misses the page cache runs in a worker or inline, without a READ.
 */
TEST_F_TIMEOUT(nowait, read_miss, IO_TIMEOUT)
{
	int lower = lower_open(&self->s, "f", O_RDWR);
	unsigned int i;

	for (i = 0; i < NR; i++) {
		ASSERT_EQ(0, fsync(lower));
		posix_fadvise(lower, 0, 0, POSIX_FADV_DONTNEED);
		ASSERT_EQ(BLOCK, uring_do(&self->u, IORING_OP_READ, self->fd,
					  self->buf + i * BLOCK, BLOCK,
					  i * BLOCK));
	}
	EXPECT_EQ(-1, pattern_differs(self->buf + BLOCK, LEN - BLOCK, BLOCK, 1));
	close(lower);
}

/* poll, epoll and IORING_OP_POLL_ADD report ready, as for any regular file. */
TEST_F_TIMEOUT(nowait, poll_is_local, IO_TIMEOUT)
{
	struct pollfd pfd = { .fd = self->fd, .events = POLLIN | POLLOUT };
	struct epoll_event ev = { .events = EPOLLIN };
	int ep = epoll_create1(EPOLL_CLOEXEC);

	EXPECT_EQ(1, poll(&pfd, 1, 0));
	EXPECT_EQ(POLLIN | POLLOUT, pfd.revents);
	EXPECT_EQ(-1, epoll_ctl(ep, EPOLL_CTL_ADD, self->fd, &ev));
	EXPECT_EQ(EPERM, errno);
	close(ep);
}

/* Each completion signals an eventfd once, with native AIO too. */
TEST_F_TIMEOUT(nowait, eventfd, IO_TIMEOUT)
{
	int efd = eventfd(0, EFD_CLOEXEC);
	struct iocb iocb, *p = &iocb;
	struct io_event ev;
	aio_context_t ctx;
	uint64_t n = 0;

	ASSERT_EQ(0, aio_setup(1, &ctx));
	aio_prep(&iocb, IOCB_CMD_PREAD, self->fd, self->buf, BLOCK, 0, 0);
	iocb.aio_flags = IOCB_FLAG_RESFD;
	iocb.aio_resfd = efd;
	ASSERT_EQ(1, aio_submit(ctx, 1, &p));
	ASSERT_EQ(8, read(efd, &n, 8));
	EXPECT_EQ(1, n);
	ASSERT_EQ(1, aio_wait(ctx, 1, &ev));
	EXPECT_EQ(BLOCK, ev.res);

	ASSERT_EQ(0, uring_register(&self->u, IORING_REGISTER_EVENTFD, &efd, 1));
	ASSERT_EQ(BLOCK, uring_do(&self->u, IORING_OP_READ, self->fd, self->buf,
				  BLOCK, 0));
	ASSERT_EQ(8, read(efd, &n, 8));
	EXPECT_EQ(1, n);
	EXPECT_EQ(0, aio_destroy(ctx));
	close(efd);
}

/* A bad buffer or a closed descriptor fails only its own request. */
TEST_F_TIMEOUT(nowait, errors, IO_TIMEOUT)
{
	char *hole = pages(BLOCK);
	int o_direct;

	munmap(hole, BLOCK);
	for (o_direct = 0; o_direct < 2; o_direct++) {
		int lower = lower_open(&self->s, "f", O_RDWR |
				       (o_direct ? O_DIRECT : 0));
		int want_r, want_w;

		ASSERT_EQ(0, fcntl(self->fd, F_SETFL, o_direct ? O_DIRECT : 0));
		want_r = lower < 0 ? -EINVAL :
			uring_do(&self->u, IORING_OP_READ, lower, hole, BLOCK, 0);
		want_w = lower < 0 ? -EINVAL :
			uring_do(&self->u, IORING_OP_WRITE, lower, hole, BLOCK, 0);
		EXPECT_EQ(want_r, uring_do(&self->u, IORING_OP_READ, self->fd,
					   hole, BLOCK, 0));
		EXPECT_EQ(want_w, uring_do(&self->u, IORING_OP_WRITE, self->fd,
					   hole, BLOCK, 0));
		close(lower);
	}
	EXPECT_EQ(-EBADF, uring_do(&self->u, IORING_OP_READ, 999, self->buf,
				   BLOCK, 0));
	ASSERT_EQ(0, fcntl(self->fd, F_SETFL, 0));
	EXPECT_EQ(0, uring_do(&self->u, IORING_OP_READ, self->fd, self->buf,
			      BLOCK, LEN));
}

TEST_HARNESS_MAIN
