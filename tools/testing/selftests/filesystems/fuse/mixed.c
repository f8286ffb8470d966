// SPDX-License-Identifier: GPL-2.0
/*
 * One inode is open with passthrough, cached and direct at once, as coherent as
 * direct and buffered I/O on a local file system.
 */
#define _GNU_SOURCE
#include <sys/uio.h>
#include <sys/wait.h>

#include "async_test.h"
#include "inode_test.h"
#include "../../kselftest_harness.h"

#define LEN	(16 * PAGE)

FIXTURE(mixed) {
	struct fuse_server s;
	char *buf;
	int pass, cached, direct;
};

FIXTURE_VARIANT(mixed) { bool writeback; enum fuse_server_open how; };
FIXTURE_VARIANT_ADD(mixed, writethrough) { .how = OPEN_PASSTHROUGH };
FIXTURE_VARIANT_ADD(mixed, writeback) {
	.how = OPEN_PASSTHROUGH, .writeback = true
};

FIXTURE_VARIANT_ADD(mixed, by_inode) { .how = OPEN_BY_INODE };
FIXTURE_VARIANT_ADD(mixed, by_inode_writeback) {
	.how = OPEN_BY_INODE, .writeback = true
};

FIXTURE_SETUP(mixed)
{
	self->s.writeback = variant->writeback;
	self->s.permissions = variant->how == OPEN_BY_INODE;
	self->cached = serve_file(&self->s, OPEN_CACHED, LEN);
	self->buf = pages(2 * LEN);
	ASSERT_NE(NULL, self->buf);
	self->direct = fs_open(&self->s, OPEN_DIRECT, "f", O_RDWR);
	if (variant->how == OPEN_BY_INODE)
		ASSERT_EQ(0, inode_attach(&self->s, "f", FUSE_SERVER_BY_INODE));
	self->pass = fs_open(&self->s, variant->how, "f", O_RDWR);
	ASSERT_LE(0, self->pass);
	ASSERT_LE(0, self->cached);
	ASSERT_LE(0, self->direct);
	ASSERT_EQ(variant->writeback,
		  !!(self->s.init_flags & FUSE_WRITEBACK_CACHE));
}

FIXTURE_TEARDOWN(mixed)
{
	fuse_server_release(&self->s);
	close(self->pass);
	close(self->cached);
	close(self->direct);
	fuse_server_stop(&self->s);
}

/* Number of READs and WRITEs that the server gets while @io runs */
#define SERVER_IO(s, io) ({				\
	unsigned long before = server_io(s);		\
							\
	io;						\
	server_io(s) - before;				\
})

/*
 * Each handle reads the data that passthrough wrote; passthrough reads the data
 * that each handle wrote.
 */
TEST_F_TIMEOUT(mixed, each_sees_each, IO_TIMEOUT)
{
	int fd[] = { self->pass, self->cached, self->direct };
	static const struct { off_t off; size_t len; } at[] = {
		{ 0, PAGE }, { 100, 200 }, { PAGE - 10, 20 },
		{ 3 * PAGE + 1, 2 * PAGE }, { LEN - 5, 5 },
	};
	unsigned int w, r, i, seed = 2;

	for (i = 0; i < ARRAY_SIZE(at); i++)
	for (w = 0; w < 6; w++, seed++) {
		pattern(self->buf, at[i].len, at[i].off, seed);
		ASSERT_EQ(at[i].len, pwrite(fd[w % 3], self->buf, at[i].len,
					    at[i].off));
		for (r = 0; r < 3; r++) {
			/* FUSE itself leaves old pages under a direct write. */
			if (w % 3 == 2 && r == 1)
				continue;
			memset(self->buf, 0, at[i].len);
			ASSERT_EQ(at[i].len, pread(fd[r], self->buf,
						   at[i].len, at[i].off));
			ASSERT_EQ(-1, pattern_differs(self->buf, at[i].len,
						      at[i].off, seed));
		}
	}
}

/* Beside other handles passthrough still sends no READ and no WRITE. */
TEST_F_TIMEOUT(mixed, no_fallback, IO_TIMEOUT)
{
	EXPECT_EQ(0, SERVER_IO(&self->s, ({
		ASSERT_EQ(LEN, pread(self->pass, self->buf, LEN, 0));
		ASSERT_EQ(LEN, pwrite(self->pass, self->buf, LEN, 0));
	})));
	ASSERT_EQ(LEN, pread(self->cached, self->buf, LEN, 0));
	EXPECT_EQ(0, SERVER_IO(&self->s, ({
		ASSERT_EQ(LEN, pread(self->pass, self->buf, LEN, 0));
		ASSERT_EQ(LEN, pwrite(self->pass, self->buf, LEN, 0));
	})));
}

/* A splice from a direct open sends READ, whatever pages are cached. */
TEST_F_TIMEOUT(mixed, direct_splice, IO_TIMEOUT)
{
	char *map = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
			 self->pass, 0);
	int p[2];

	ASSERT_NE(MAP_FAILED, map);
	ASSERT_EQ(PAGE, pread(self->cached, self->buf, PAGE, 0));
	/* FUSE does not notice the store, and keeps the page. */
	memset(map, 'm', PAGE);
	ASSERT_EQ(0, pipe2(p, O_CLOEXEC));
	EXPECT_LE(1, SERVER_IO(&self->s, ({
		ASSERT_EQ(PAGE, splice(self->direct, NULL, p[1], NULL, PAGE, 0));
	})));
	ASSERT_EQ(PAGE, read(p[0], self->buf, PAGE));
	EXPECT_EQ(0, memcmp(map, self->buf, PAGE));
	munmap(map, PAGE);
	close(p[0]);
	close(p[1]);
}

/* Dirty bytes of a cached page survive a passthrough write to other bytes of the page. */
TEST_F_TIMEOUT(mixed, parts_of_a_page, IO_TIMEOUT)
{
	pattern(self->buf, 100, 50, 2);
	ASSERT_EQ(100, pwrite(self->cached, self->buf, 100, 50));
	pattern(self->buf, 100, 2000, 3);
	ASSERT_EQ(100, pwrite(self->pass, self->buf, 100, 2000));
	pattern(self->buf, 100, 3000, 4);
	ASSERT_EQ(100, pwrite(self->cached, self->buf, 100, 3000));

	ASSERT_EQ(PAGE, pread(self->pass, self->buf, PAGE, 0));
	EXPECT_EQ(-1, pattern_differs(self->buf, 50, 0, 1));
	EXPECT_EQ(-1, pattern_differs(self->buf + 50, 100, 50, 2));
	EXPECT_EQ(-1, pattern_differs(self->buf + 2000, 100, 2000, 3));
	EXPECT_EQ(-1, pattern_differs(self->buf + 3000, 100, 3000, 4));
	ASSERT_EQ(0, fsync(self->cached));
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 2000, 100, 3));
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 3100, PAGE - 3100, 1));
}

/* Passthrough reads the stores to a cached shared mapping, which shows its writes. */
TEST_F_TIMEOUT(mixed, cached_mapping, IO_TIMEOUT)
{
	char *p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED,
		       self->cached, 0);
	unsigned int i;

	ASSERT_NE(MAP_FAILED, p);
	for (i = 0; i < 4; i++) {
		pattern(p, 2 * PAGE, 0, 2 + i);
		ASSERT_EQ(2 * PAGE, pread(self->pass, self->buf, 2 * PAGE, 0));
		EXPECT_EQ(-1, pattern_differs(self->buf, 2 * PAGE, 0, 2 + i));

		pattern(p + PAGE, 10, PAGE, 10 + i);
		pattern(self->buf, 100, PAGE + 100, 20 + i);
		ASSERT_EQ(100, pwrite(self->pass, self->buf, 100, PAGE + 100));
		EXPECT_EQ(-1, pattern_differs(p + PAGE, 10, PAGE, 10 + i));
		EXPECT_EQ(-1, pattern_differs(p + PAGE + 100, 100, PAGE + 100,
					      20 + i));
		EXPECT_EQ(-1, pattern_differs(p + PAGE + 200, 200, PAGE + 200,
					      2 + i));
	}
	munmap(p, LEN);
}

/* An append goes behind dirty cached bytes, even if the server does not know of them yet. */
TEST_F_TIMEOUT(mixed, append_after_cached, IO_TIMEOUT)
{
	struct iovec iov = { self->buf, 100 };

	pattern(self->buf, 100, LEN, 2);
	ASSERT_EQ(100, pwrite(self->cached, self->buf, 100, LEN));
	pattern(self->buf, 100, LEN + 100, 3);
	ASSERT_EQ(100, pwritev2(self->pass, &iov, 1, 0, RWF_APPEND));
	EXPECT_EQ(LEN + 200, size_of(self->pass));
	EXPECT_EQ(LEN + 200, size_of(self->cached));
	ASSERT_EQ(200, pread(self->cached, self->buf, PAGE, LEN));
	EXPECT_EQ(-1, pattern_differs(self->buf, 100, LEN, 2));
	EXPECT_EQ(-1, pattern_differs(self->buf + 100, 100, LEN + 100, 3));

	/* The same in the other order */
	pattern(self->buf, 50, LEN + 200, 4);
	ASSERT_EQ(50, pwritev2(self->cached, &(struct iovec){ self->buf, 50 }, 1,
			       0, RWF_APPEND));
	ASSERT_EQ(50, pread(self->pass, self->buf, PAGE, LEN + 200));
	EXPECT_EQ(-1, pattern_differs(self->buf, 50, LEN + 200, 4));
}

/*
 * A cached mapping reaches data that passthrough has written beyond the end,
 * without a stat in between.
 */
TEST_F_TIMEOUT(mixed, mapping_beyond_end, IO_TIMEOUT)
{
	char *p = mmap(NULL, LEN + PAGE, PROT_READ, MAP_SHARED, self->cached, 0);
	char in[PAGE];
	int fds[2];

	ASSERT_NE(MAP_FAILED, p);
	ASSERT_EQ(0, pipe2(fds, O_CLOEXEC));
	pattern(self->buf, PAGE, LEN, 2);
	EXPECT_EQ(0, SERVER_IO(&self->s, ({
		ASSERT_EQ(PAGE, pwrite(self->pass, self->buf, PAGE, LEN));
	})));
	/* Beyond the end this is EFAULT. */
	ASSERT_EQ(PAGE, write(fds[1], p + LEN, PAGE));
	ASSERT_EQ(PAGE, read(fds[0], in, PAGE));
	EXPECT_EQ(-1, pattern_differs(in, PAGE, LEN, 2));
	close(fds[0]);
	close(fds[1]);
	munmap(p, LEN + PAGE);
}

/* A cached write far beyond the end leaves a hole that passthrough reads as zeros. */
TEST_F_TIMEOUT(mixed, hole_by_cached, IO_TIMEOUT)
{
	ASSERT_EQ(1, pwrite(self->cached, "x", 1, LEN + 3 * PAGE));
	ASSERT_EQ(PAGE, pread(self->pass, self->buf, PAGE, LEN + PAGE));
	EXPECT_TRUE(all_zero(self->buf, PAGE));
	ASSERT_EQ(1, pread(self->pass, self->buf, PAGE, LEN + 3 * PAGE));
	EXPECT_EQ('x', self->buf[0]);
}

/* RWF_NOWAIT beside a dirty cached page gives EAGAIN or the new bytes, never old ones. */
TEST_F_TIMEOUT(mixed, nowait, IO_TIMEOUT)
{
	struct iovec iov = { self->buf, PAGE };
	ssize_t n;

	pattern(self->buf, PAGE, 0, 2);
	ASSERT_EQ(PAGE, pwrite(self->cached, self->buf, PAGE, 0));
	memset(self->buf, 0, PAGE);
	n = preadv2(self->pass, &iov, 1, 0, RWF_NOWAIT);
	if (n < 0) {
		EXPECT_TRUE(errno == EAGAIN || errno == EOPNOTSUPP);
	} else {
		EXPECT_EQ(-1, pattern_differs(self->buf, n, 0, 2));
	}
}

/* Does the lower file support RWF_NOWAIT?  tmpfs does not. */
static bool lower_nowait(struct fuse_server *s)
{
	int lower = lower_open(s, "f", O_RDONLY);
	struct iovec iov;
	char buf[16];
	ssize_t n;

	iov = (struct iovec){ buf, sizeof(buf) };
	n = preadv2(lower, &iov, 1, 0, RWF_NOWAIT);
	close(lower);
	return n == sizeof(buf);
}

/*
 * RWF_NOWAIT reads beside clean cached pages, in the submitter with io_uring.
 * It gives EAGAIN beside dirty pages, which a write-back cache leaves, and for
 * writes.
 */
TEST_F_TIMEOUT(mixed, nowait_beside_pages, IO_TIMEOUT)
{
	struct iovec iov = { self->buf, PAGE };
	bool can = lower_nowait(&self->s);
	int again = can ? EAGAIN : EOPNOTSUPP;
	unsigned long wrote;
	struct uring u;
	ssize_t n;

	ASSERT_EQ(0, uring_setup(&u, 4));
	ASSERT_EQ(LEN, pread(self->cached, self->buf, LEN, 0));
	EXPECT_EQ(0, SERVER_IO(&self->s, ({
		EXPECT_EQ(can ? PAGE : -1,
			  preadv2(self->pass, &iov, 1, PAGE, RWF_NOWAIT));
		EXPECT_EQ(PAGE, uring_do(&u, IORING_OP_READ, self->pass,
					 self->buf, PAGE, PAGE));
		EXPECT_EQ(-1, pattern_differs(self->buf, PAGE, PAGE, 1));
		EXPECT_EQ(can, !uring_workers());
		EXPECT_EQ(-1, pwritev2(self->pass, &iov, 1, PAGE, RWF_NOWAIT));
		EXPECT_EQ(again, errno);
	})));

	pattern(self->buf, PAGE, PAGE, 2);
	wrote = fuse_server_count(&self->s, FUSE_WRITE);
	ASSERT_EQ(PAGE, pwrite(self->cached, self->buf, PAGE, PAGE));
	EXPECT_EQ(0, SERVER_IO(&self->s, ({
		n = preadv2(self->pass, &iov, 1, PAGE, RWF_NOWAIT);
		/* The kernel may have written it back by itself. */
		if (!variant->writeback ||
		    fuse_server_count(&self->s, FUSE_WRITE) == wrote) {
			EXPECT_EQ(can && !variant->writeback ? PAGE : -1, n);
		}
		EXPECT_EQ(can ? PAGE : -1,
			  preadv2(self->pass, &iov, 1, 2 * PAGE, RWF_NOWAIT));
	})));
	EXPECT_EQ(PAGE, uring_do(&u, IORING_OP_READ, self->pass, self->buf,
				 PAGE, PAGE));
	EXPECT_EQ(-1, pattern_differs(self->buf, PAGE, PAGE, 2));
	uring_destroy(&u);
}

/*
 * The buffer is a cached mapping whose page is not present.  With RWF_NOWAIT the
 * call gives EAGAIN and sends no READ for the page; otherwise the page is read.
 */
TEST_F_TIMEOUT(mixed, nowait_on_cached_mapping, IO_TIMEOUT)
{
	char *p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED,
		       self->cached, 0);
	struct iovec to = { p, PAGE }, from = { p + PAGE, PAGE };
	int again = lower_nowait(&self->s) ? EAGAIN : EOPNOTSUPP;

	ASSERT_NE(MAP_FAILED, p);
	EXPECT_EQ(0, SERVER_IO(&self->s, ({
		EXPECT_EQ(-1, preadv2(self->pass, &to, 1, 8 * PAGE, RWF_NOWAIT));
		EXPECT_EQ(again, errno);
		EXPECT_EQ(-1, pwritev2(self->pass, &from, 1, 9 * PAGE, RWF_NOWAIT));
		EXPECT_EQ(again, errno);
	})));

	ASSERT_EQ(PAGE, preadv2(self->pass, &to, 1, 8 * PAGE, 0));
	EXPECT_EQ(-1, pattern_differs(p, PAGE, 8 * PAGE, 1));
	ASSERT_EQ(PAGE, pwritev2(self->pass, &from, 1, 9 * PAGE, 0));
	ASSERT_EQ(PAGE, pread(self->pass, self->buf, PAGE, 9 * PAGE));
	EXPECT_EQ(-1, pattern_differs(self->buf, PAGE, PAGE, 1));
	munmap(p, LEN);
}

/* io_uring and native AIO, buffered and direct, are as coherent. */
TEST_F_TIMEOUT(mixed, async, IO_TIMEOUT)
{
	struct iocb iocb, *iop = &iocb;
	struct io_event ev;
	aio_context_t ctx;
	struct uring u;
	int round;

	ASSERT_EQ(0, uring_setup(&u, 4));
	ASSERT_EQ(0, aio_setup(1, &ctx));
	for (round = 0; round < 8; round++) {
		bool o_direct = round & 1, aio = round & 2;
		unsigned int seed = 10 + 2 * round;

		if (fcntl(self->pass, F_SETFL, o_direct ? O_DIRECT : 0))
			break;
		/* Tmpfs has none. */
		if (o_direct && pread(self->pass, self->buf, BLOCK, 0) < 0) {
			ASSERT_EQ(EINVAL, errno);
			continue;
		}
		pattern(self->buf, PAGE, PAGE, seed);
		ASSERT_EQ(PAGE, pwrite(self->cached, self->buf, PAGE, PAGE));
		memset(self->buf, 0, PAGE);
		if (aio) {
			aio_prep(&iocb, IOCB_CMD_PREAD, self->pass, self->buf,
				 PAGE, PAGE, 0);
			ASSERT_EQ(1, aio_submit(ctx, 1, &iop));
			ASSERT_EQ(1, aio_wait(ctx, 1, &ev));
			ASSERT_EQ(PAGE, ev.res);
		} else {
			ASSERT_EQ(PAGE, uring_do(&u, IORING_OP_READ, self->pass,
						 self->buf, PAGE, PAGE));
		}
		EXPECT_EQ(-1, pattern_differs(self->buf, PAGE, PAGE, seed));

		/* Cached again, then changed underneath. */
		ASSERT_EQ(PAGE, pread(self->cached, self->buf, PAGE, PAGE));
		pattern(self->buf, PAGE, PAGE, seed + 1);
		if (aio) {
			aio_prep(&iocb, IOCB_CMD_PWRITE, self->pass, self->buf,
				 PAGE, PAGE, 0);
			ASSERT_EQ(1, aio_submit(ctx, 1, &iop));
			ASSERT_EQ(1, aio_wait(ctx, 1, &ev));
			ASSERT_EQ(PAGE, ev.res);
		} else {
			ASSERT_EQ(PAGE, uring_do(&u, IORING_OP_WRITE, self->pass,
						 self->buf, PAGE, PAGE));
		}
		memset(self->buf, 0, PAGE);
		ASSERT_EQ(PAGE, pread(self->cached, self->buf, PAGE, PAGE));
		EXPECT_EQ(-1, pattern_differs(self->buf, PAGE, PAGE, seed + 1));
	}
	EXPECT_EQ(0, aio_destroy(ctx));
	uring_destroy(&u);
}

struct one_io {
	int fd;
	char *buf;
	ssize_t ret;
	off_t off;
	bool aio;
};

static void call_read(void *arg)
{
	struct one_io *io = arg;

	io->ret = pread(io->fd, io->buf, PAGE, io->off);
}

static void call_write(void *arg)
{
	struct one_io *io = arg;

	io->ret = pwrite(io->fd, io->buf, 100, io->off);
}

/* Dirty the page at 0 with pattern 2, and write it back.  The server holds the WRITE. */
static int in_flight(struct fuse_server *s, int cached, char **map)
{
	*map = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, cached, 0);
	if (*map == MAP_FAILED)
		return -1;
	fuse_server_hold(s, pattern_at(PAGE - 1, 2));
	/* Store the byte that identifies the page first: writeback may start at any moment. */
	(*map)[PAGE - 1] = pattern_at(PAGE - 1, 2);
	pattern(*map, PAGE, 0, 2);
	if (sync_file_range(cached, 0, PAGE, SYNC_FILE_RANGE_WRITE))
		return -1;
	fuse_server_wait_held(s, 1);
	return 0;
}

/*
 * A passthrough read waits for a WRITE in flight: page writeback has ended, the
 * page may be gone, and the lower file still lacks the data.
 */
TEST_F_TIMEOUT(mixed, read_waits_for_write, IO_TIMEOUT)
{
	struct one_io io = { .fd = self->pass, .buf = self->buf };
	struct blocker b;
	char *p;

	ASSERT_EQ(0, in_flight(&self->s, self->cached, &p));
	munmap(p, PAGE);
	/* Drop the page from the cache. */
	posix_fadvise(self->cached, 0, 0, POSIX_FADV_DONTNEED);
	EXPECT_TRUE(blocker_start(&b, call_read, &io));
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, PAGE, 1));
	fuse_server_release(&self->s);
	blocker_join(&b);
	EXPECT_EQ(PAGE, io.ret);
	EXPECT_EQ(-1, pattern_differs(self->buf, PAGE, 0, 2));
}

/* A passthrough write waits for a WRITE in flight too, so that its own data stays. */
TEST_F_TIMEOUT(mixed, write_waits_for_write, IO_TIMEOUT)
{
	struct one_io io = { .fd = self->pass, .buf = self->buf, .off = 200 };
	struct blocker b;
	char *p;

	pattern(self->buf, 100, 200, 3);
	ASSERT_EQ(0, in_flight(&self->s, self->cached, &p));
	munmap(p, PAGE);
	posix_fadvise(self->cached, 0, 0, POSIX_FADV_DONTNEED);
	EXPECT_TRUE(blocker_start(&b, call_write, &io));
	fuse_server_release(&self->s);
	blocker_join(&b);
	EXPECT_EQ(100, io.ret);
	ASSERT_EQ(0, fsync(self->cached));
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 200, 100, 3));
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, 200, 2));
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 300, PAGE - 300, 2));
}

/*
 * A mapping of the lower file waits too, and shows the data of the WRITE in
 * flight.  Another process makes it: mmap() waits with the mmap lock of its
 * process held, and the server thread cannot run without that of its own.
 */
TEST_F_TIMEOUT(mixed, mmap_waits_for_write, IO_TIMEOUT)
{
	int status;
	pid_t pid;
	char *p;

	ASSERT_EQ(0, in_flight(&self->s, self->cached, &p));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		char *q = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, self->pass, 0);

		_exit(q == MAP_FAILED ? 1 :
		      pattern_differs(q, PAGE, 0, 2) != -1 ? 2 : 0);
	}
	EXPECT_TRUE(falls_asleep(pid));
	fuse_server_release(&self->s);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	munmap(p, PAGE);
}

/*
 * A process that makes a mapping of the page.  It shares the table of files, so
 * that its end closes none, which would wait for the WRITE.
 */
static pid_t mapper(int fd)
{
	pid_t pid = syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);

	if (!pid)
		_exit(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED);
	return pid;
}

/* A process that waits in mmap() for the server can be killed; an abort ends the wait, too. */
TEST_F_TIMEOUT(mixed, mmap_wait_ends, IO_TIMEOUT)
{
	int status;
	pid_t pid;
	char *p;

	ASSERT_EQ(0, in_flight(&self->s, self->cached, &p));
	munmap(p, PAGE);
	pid = mapper(self->pass);
	EXPECT_TRUE(falls_asleep(pid));
	kill(pid, SIGKILL);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));

	pid = mapper(self->pass);
	EXPECT_TRUE(falls_asleep(pid));
	fuse_server_die(&self->s);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFEXITED(status));
}

/*
 * A mapping of other pages does not wait, since mmap() holds the mmap
 * lock.  When mmap() returns, the WRITEs of dirty pages have been sent.
 */
TEST_F_TIMEOUT(mixed, mmap_elsewhere_goes_on, IO_TIMEOUT)
{
	char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
		       self->cached, 0);
	/* Result of the child, whose exit would send WRITEs and wait for them */
	char *seen = mmap(NULL, 1, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct statfs st;
	int status, stay[2];
	pid_t pid;

	ASSERT_NE(MAP_FAILED, p);
	ASSERT_NE(MAP_FAILED, seen);
	ASSERT_EQ(0, pipe(stay));
	fuse_server_hold(&self->s, 'h');
	p[PAGE - 1] = 'h';
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		char *q = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, self->pass,
			       8 * PAGE);

		*seen = q == MAP_FAILED ? 'f' :
			pattern_differs(q, PAGE, 8 * PAGE, 1) != -1 ? 'd' : 'y';
		_exit(read(stay[0], self->buf, 1) != 1);
	}
	falls_asleep(pid);
	EXPECT_EQ('y', *seen);
	/* The server handles requests in order: when it answers this one, it has the WRITE. */
	ASSERT_EQ(0, statfs(self->s.mnt, &st));
	EXPECT_EQ(1, self->s.nr_held);
	fuse_server_release(&self->s);
	ASSERT_EQ(1, write(stay[1], "x", 1));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	close(stay[0]);
	close(stay[1]);
	munmap(p, PAGE);
}

/*
 * A mapping beyond the end of the lower file waits for later pages, whose WRITE
 * moves the end.  It then shows the hole before them.
 */
TEST_F_TIMEOUT(mixed, mmap_waits_for_end, IO_TIMEOUT)
{
	int status;
	pid_t pid;

	/* Without a write-back cache the write does not return before its WRITE is answered. */
	if (!variant->writeback)
		return;

	fuse_server_hold(&self->s, 'h');
	memset(self->buf, 'h', PAGE);
	ASSERT_EQ(PAGE, pwrite(self->cached, self->buf, PAGE, LEN + 3 * PAGE));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		char *q = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, self->pass,
			       LEN + PAGE);

		_exit(q == MAP_FAILED || !all_zero(q, PAGE));
	}
	EXPECT_TRUE(falls_asleep(pid));
	fuse_server_release(&self->s);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

/* A write of a block and, if it is asynchronous, its completion */
static void call_block(void *arg)
{
	struct one_io *io = arg;

	io->ret = io->aio ? aio_once(IOCB_CMD_PWRITE, io->fd, io->buf, 512, io->off) :
			    pwrite(io->fd, io->buf, 512, io->off);
}

/*
 * A passthrough write to a page does not drop the page while a cached writer
 * has a WRITE of other bytes in flight: a page read again would lack the
 * writer's data for good.
 */
TEST_F_TIMEOUT(mixed, page_of_write, IO_TIMEOUT)
{
	struct one_io slow = { .fd = self->cached, .buf = self->buf };
	struct one_io io = { .buf = self->buf + PAGE, .off = 2048 };
	struct blocker by_slow, b;
	char *in = self->buf + 2 * PAGE;
	int i;

	/* With a write-back cache the page stays dirty, and its WRITE comes later. */
	if (variant->writeback)
		return;

	for (i = 0; i < 3; i++) {
		io.aio = i == 2;
		io.fd = fs_open(&self->s, variant->how, "f",
				O_RDWR | (i ? O_DIRECT : 0));
		if (io.fd < 0 && errno == EINVAL)
			break;
		ASSERT_LE(0, io.fd);
		ASSERT_EQ(PAGE, pread(self->cached, in, PAGE, 0));
		pattern(self->buf, 100, 0, 2 * i + 2);
		pattern(io.buf, 512, io.off, 2 * i + 3);
		fuse_server_hold(&self->s, pattern_at(99, 2 * i + 2));
		ASSERT_TRUE(blocker_start(&by_slow, call_write, &slow));
		fuse_server_wait_held(&self->s, 1);
		EXPECT_TRUE(blocker_start(&b, call_block, &io));
		ASSERT_EQ(PAGE, pread(self->cached, in, PAGE, 0));
		EXPECT_EQ(-1, pattern_differs(in, 100, 0, 2 * i + 2));
		fuse_server_release(&self->s);
		blocker_join(&by_slow);
		blocker_join(&b);
		EXPECT_EQ(100, slow.ret);
		EXPECT_EQ(512, io.ret);

		ASSERT_EQ(PAGE, pread(self->cached, in, PAGE, 0));
		EXPECT_EQ(-1, pattern_differs(in, 100, 0, 2 * i + 2));
		EXPECT_EQ(-1, pattern_differs(in + io.off, 512, io.off, 2 * i + 3));
		close(io.fd);
	}
}

/* Passthrough I/O elsewhere in the file does not wait for a WRITE in flight. */
TEST_F_TIMEOUT(mixed, elsewhere_goes_on, IO_TIMEOUT)
{
	struct one_io io = { .fd = self->pass, .buf = self->buf, .off = 8 * PAGE };
	struct blocker b;
	char *p;

	ASSERT_EQ(0, in_flight(&self->s, self->cached, &p));
	EXPECT_FALSE(blocker_start(&b, call_read, &io));
	blocker_join(&b);
	EXPECT_EQ(PAGE, io.ret);
	EXPECT_EQ(-1, pattern_differs(self->buf, PAGE, 8 * PAGE, 1));
	fuse_server_release(&self->s);
	munmap(p, PAGE);
}

/* RWF_NOWAIT gives EAGAIN beside a WRITE in flight, and does not wait for it. */
TEST_F_TIMEOUT(mixed, nowait_beside_write, IO_TIMEOUT)
{
	struct iovec iov = { self->buf, PAGE };
	char *p;

	ASSERT_EQ(0, in_flight(&self->s, self->cached, &p));
	munmap(p, PAGE);
	EXPECT_EQ(-1, preadv2(self->pass, &iov, 1, 0, RWF_NOWAIT));
	EXPECT_TRUE(errno == EAGAIN || errno == EOPNOTSUPP);
	fuse_server_release(&self->s);
}

/* FOPEN_KEEP_CACHE keeps no page that passthrough has overwritten. */
TEST_F_TIMEOUT(mixed, keep_cache, IO_TIMEOUT)
{
	int fd;

	/* Let the server answer further opens. */
	inode_detach(&self->s, "f");
	self->s.open_flags = FOPEN_KEEP_CACHE;
	ASSERT_EQ(LEN, pread(self->cached, self->buf, LEN, 0));
	pattern(self->buf, 100, 5000, 2);
	ASSERT_EQ(100, pwrite(self->pass, self->buf, 100, 5000));

	fd = fs_open(&self->s, OPEN_CACHED, "f", O_RDONLY);
	ASSERT_LE(0, fd);
	ASSERT_EQ(100, pread(fd, self->buf, 100, 5000));
	EXPECT_EQ(-1, pattern_differs(self->buf, 100, 5000, 2));

	/* The other pages were kept: another open reads them without a READ. */
	ASSERT_EQ(LEN, pread(fd, self->buf, LEN, 0));
	close(fd);
	fd = fs_open(&self->s, OPEN_CACHED, "f", O_RDONLY);
	EXPECT_EQ(0, SERVER_IO(&self->s, ({
		ASSERT_EQ(LEN, pread(fd, self->buf, LEN, 0));
	})));
	close(fd);
}

/*
 * After a writable passthrough mapping each open drops cached pages, despite
 * FOPEN_KEEP_CACHE.
 */
TEST_F_TIMEOUT(mixed, keep_cache_after_mapping, IO_TIMEOUT)
{
	char *p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED,
		       self->pass, 0);
	unsigned int i;

	ASSERT_NE(MAP_FAILED, p);
	/* Let the server answer further opens. */
	inode_detach(&self->s, "f");
	self->s.open_flags = FOPEN_KEEP_CACHE;
	for (i = 0; i < 3; i++) {
		int fd = fs_open(&self->s, OPEN_CACHED, "f", O_RDONLY);

		ASSERT_LE(0, fd);
		ASSERT_EQ(PAGE, pread(fd, self->buf, PAGE, 0));
		EXPECT_EQ(-1, pattern_differs(self->buf, PAGE, 0, 1 + i));
		close(fd);
		pattern(p, PAGE, 0, 2 + i);
	}
	munmap(p, LEN);

	/* This holds after munmap() too. */
	i = fs_open(&self->s, OPEN_CACHED, "f", O_RDONLY);
	ASSERT_EQ(PAGE, pread(i, self->buf, PAGE, 0));
	EXPECT_EQ(-1, pattern_differs(self->buf, PAGE, 0, 4));
	close(i);
}

/* Evict the FUSE inode, which must not be in use. */
static bool evict(struct fuse_server *s, int tries)
{
	int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);
	bool evicted = false;

	while (!evicted && tries-- && write(fd, "2", 1) == 1) {
		sched_yield();
		evicted = fuse_server_count(s, FUSE_FORGET) ||
			fuse_server_count(s, FUSE_BATCH_FORGET);
	}
	close(fd);
	return evicted;
}

/*
 * On newer kernels a file that the kernel opens itself records the client's
 * path: mappings of the file show that path, and pin it.
 */
static bool names_the_mount(struct fuse_server *s, const void *map)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512], start[32];
	bool found = false;

	snprintf(start, sizeof(start), "%lx-", (unsigned long)map);
	while (maps && !found && fgets(line, sizeof(line), maps))
		found = !strncmp(line, start, strlen(start)) &&
			strstr(line, fuse_path(s, "f"));
	if (maps)
		fclose(maps);
	return found;
}

/*
 * A writable mapping that does not pin the FUSE inode outlives it.  The next
 * inode of the file finds the mapping at the first passthrough open: from then
 * on a stat sends GETATTR, and each open drops cached pages.
 */
TEST_F_TIMEOUT(mixed, mapping_outlives_inode, IO_TIMEOUT)
{
	char *p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED,
		       self->pass, 0);
	unsigned long asked;
	struct stat st;
	unsigned int i;
	bool pins;

	ASSERT_NE(MAP_FAILED, p);
	pins = names_the_mount(&self->s, p);
	close(self->pass);
	close(self->cached);
	close(self->direct);
	self->pass = -1;
	self->cached = -1;
	self->direct = -1;
	fuse_server_wait(&self->s, FUSE_RELEASE,
			 variant->how == OPEN_BY_INODE ? 2 : 3);
	if (pins) {
		EXPECT_FALSE(evict(&self->s, 10));
		munmap(p, LEN);
	}
	ASSERT_TRUE(evict(&self->s, 10000));
	if (pins)
		return;
	self->pass = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDONLY);
	ASSERT_LE(0, self->pass);
	ASSERT_EQ(0, fstat(self->pass, &st));

	self->s.open_flags = FOPEN_KEEP_CACHE;
	for (i = 0; i < 3; i++) {
		asked = fuse_server_count(&self->s, FUSE_GETATTR);
		ASSERT_EQ(0, fstat(self->pass, &st));
		EXPECT_EQ(asked + 1, fuse_server_count(&self->s, FUSE_GETATTR));
		self->cached = fs_open(&self->s, OPEN_CACHED, "f", O_RDONLY);
		ASSERT_LE(0, self->cached);
		ASSERT_EQ(PAGE, pread(self->cached, self->buf, PAGE, 0));
		EXPECT_EQ(-1, pattern_differs(self->buf, PAGE, 0, 1 + i));
		close(self->cached);
		self->cached = -1;
		pattern(p, PAGE, 0, 2 + i);
	}
	munmap(p, LEN);
}

/* Opens of one inode with different lower files do not affect each other. */
TEST_F_TIMEOUT(mixed, two_lower_files, IO_TIMEOUT)
{
	int other;

	ASSERT_EQ(0, lower_make(&self->s, "other", LEN, 7));
	/* Let the server answer a further open. */
	inode_detach(&self->s, "f");
	self->s.open_lower = "other";
	other = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDWR);
	self->s.open_lower = NULL;
	ASSERT_LE(0, other);

	EXPECT_EQ(0, SERVER_IO(&self->s, ({
		ASSERT_EQ(LEN, pread(other, self->buf, LEN, 0));
		EXPECT_EQ(-1, pattern_differs(self->buf, LEN, 0, 7));
		ASSERT_EQ(LEN, pread(self->pass, self->buf, LEN, 0));
		EXPECT_EQ(-1, pattern_differs(self->buf, LEN, 0, 1));

		pattern(self->buf, PAGE, 0, 8);
		ASSERT_EQ(PAGE, pwrite(other, self->buf, PAGE, 0));
		pattern(self->buf, PAGE, PAGE, 9);
		ASSERT_EQ(PAGE, pwrite(self->pass, self->buf, PAGE, PAGE));
	})));
	EXPECT_EQ(-1, lower_differs(&self->s, "other", 0, PAGE, 8));
	EXPECT_EQ(-1, lower_differs(&self->s, "other", PAGE, PAGE, 7));
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, PAGE, 1));
	EXPECT_EQ(-1, lower_differs(&self->s, "f", PAGE, PAGE, 9));
	close(other);
}

#define ROUNDS	60

struct slot_writer {
	int fd;
	unsigned int slot;	/* part of each page that only this thread writes */
	int error;
	long differs;
};

/* FUSE itself loses direct writes to a page that is dirty in its cache. */
static off_t slot_at(unsigned int slot, unsigned int round)
{
	return slot * 512 + round % 2 * PAGE + (slot % 3 == 2 ? 8 * PAGE : 0);
}

static void *write_slots(void *arg)
{
	struct slot_writer *w = arg;
	char out[512], in[512];
	unsigned int i;

	for (i = 0; i < ROUNDS && !w->error && w->differs < 0; i++) {
		off_t at = slot_at(w->slot, i);

		pattern(out, sizeof(out), at, i);
		if (pwrite(w->fd, out, sizeof(out), at) != sizeof(out) ||
		    pread(w->fd, in, sizeof(in), at) != sizeof(in))
			w->error = errno ?: EIO;
		w->differs = pattern_differs(in, sizeof(in), at, i);
	}
	return NULL;
}

/* One thread for each handle writes its own parts of pages: no write is lost. */
TEST_F_TIMEOUT(mixed, threads, IO_TIMEOUT)
{
	int fd[] = { self->pass, self->cached, self->direct };
	struct slot_writer w[6];
	pthread_t t[6];
	unsigned int i;

	for (i = 0; i < 6; i++) {
		w[i] = (struct slot_writer){
			.fd = fd[i % 3], .slot = i, .differs = -1,
		};
		ASSERT_EQ(0, pthread_create(&t[i], NULL, write_slots, &w[i]));
	}
	for (i = 0; i < 6; i++) {
		pthread_join(t[i], NULL);
		EXPECT_EQ(0, w[i].error) TH_LOG("writer %u", i);
		EXPECT_EQ(-1, w[i].differs) TH_LOG("writer %u", i);
	}
	ASSERT_EQ(0, fsync(self->cached));
	for (i = 0; i < 12; i++) {
		EXPECT_EQ(-1, lower_differs(&self->s, "f", slot_at(i / 2, i), 512,
					    ROUNDS - 2 + i % 2)) TH_LOG("writer %u", i / 2);
	}
	EXPECT_EQ(LEN, size_of(self->pass));
}

/* A truncate by one handle truncates the other handles' cache and view of the file. */
TEST_F_TIMEOUT(mixed, truncate, IO_TIMEOUT)
{
	int fd[] = { self->pass, self->cached, self->direct };
	unsigned int i, j;

	for (i = 0; i < 3; i++) {
		pattern(self->buf, LEN, 0, 2 + i);
		ASSERT_EQ(LEN, pwrite(fd[(i + 1) % 3], self->buf, LEN, 0));
		ASSERT_EQ(0, ftruncate(fd[i], 5000));
		ASSERT_EQ(0, ftruncate(fd[(i + 2) % 3], LEN));
		for (j = 0; j < 3; j++) {
			ASSERT_EQ(LEN, pread(fd[j], self->buf, LEN, 0));
			EXPECT_EQ(-1, pattern_differs(self->buf, 5000, 0, 2 + i));
			EXPECT_TRUE(all_zero(self->buf + 5000, LEN - 5000));
			EXPECT_EQ(LEN, size_of(fd[j]));
		}
	}
}

TEST_HARNESS_MAIN
