// SPDX-License-Identifier: GPL-2.0
/*
 * Attributes after passthrough I/O: the size is right at once, other attributes
 * with the next stat, although the server allows an hour of caching.
 */
#define _GNU_SOURCE
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "async_test.h"
#include "io_test.h"
#include "../../kselftest_harness.h"

#define LEN	(64 * KIB)

FIXTURE(attrs) {
	struct fuse_server s;
	char *buf;
	int fd, lower;
};

FIXTURE_VARIANT(attrs) { bool writeback; };
FIXTURE_VARIANT_ADD(attrs, writethrough) { .writeback = false };
FIXTURE_VARIANT_ADD(attrs, writeback) { .writeback = true };

FIXTURE_SETUP(attrs)
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

FIXTURE_TEARDOWN(attrs)
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
TEST_F_TIMEOUT(attrs, seek_end_at_once, IO_TIMEOUT)
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
TEST_F_TIMEOUT(attrs, size_after_write, IO_TIMEOUT)
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
TEST_F_TIMEOUT(attrs, size_after_async, IO_TIMEOUT)
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
TEST_F_TIMEOUT(attrs, size_after_truncate, IO_TIMEOUT)
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
TEST_F_TIMEOUT(attrs, seek_data_hole, IO_TIMEOUT)
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
TEST_F_TIMEOUT(attrs, copies_see_all, IO_TIMEOUT)
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

static bool same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool later(struct timespec a, struct timespec b)
{
	return a.tv_sec > b.tv_sec ||
		(a.tv_sec == b.tv_sec && a.tv_nsec > b.tv_nsec);
}

/* Wait until the lower file system would set a later timestamp. */
static void wait_tick(void)
{
	struct timespec now, then;

	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	do {
		clock_gettime(CLOCK_REALTIME_COARSE, &then);
	} while (!later(then, now));
}

static bool same_attrs(struct fuse_server *s, int fd)
{
	struct stat a, b, c;

	if (fstat(fd, &a) || stat(fuse_path(s, "f"), &c) ||
	    fstatat(s->dirfd, "f", &b, 0))
		return false;
	return same_time(a.st_mtim, b.st_mtim) && same_time(a.st_ctim, b.st_ctim) &&
		same_time(a.st_atim, b.st_atim) && a.st_size == b.st_size &&
		a.st_blocks == b.st_blocks && a.st_mode == b.st_mode &&
		same_time(c.st_mtim, b.st_mtim);
}

static void make_old(struct fuse_server *s)
{
	struct timespec ts[2] = { { .tv_sec = 1000 }, { .tv_sec = 2000 } };

	utimensat(s->dirfd, "f", ts, 0);
}

/*
 * A stat shows mtime, ctime and blocks of the lower file after each kind of
 * write.
 */
TEST_F_TIMEOUT(attrs, times_after_write, IO_TIMEOUT)
{
	struct uring u;
	struct stat st;
	int i, p[2];

	ASSERT_EQ(0, uring_setup(&u, 4));
	ASSERT_EQ(0, pipe(p));
	for (i = 0; i < 5; i++) {
		make_old(&self->s);
		switch (i) {
		case 0:
			ASSERT_EQ(10, pwrite(self->fd, self->buf, 10, 0));
			break;
		case 1:
			ASSERT_EQ(LEN, pwrite(self->fd, self->buf, LEN, LEN));
			break;
		case 2:
			ASSERT_EQ(10, uring_do(&u, IORING_OP_WRITE, self->fd,
					       self->buf, 10, 0));
			break;
		case 3:
			ASSERT_EQ(1, write(p[1], "x", 1));
			ASSERT_EQ(1, splice(p[0], NULL, self->fd, NULL, 1, 0));
			break;
		case 4:
			ASSERT_EQ(0, ftruncate(self->fd, 100));
			break;
		}
		EXPECT_TRUE(same_attrs(&self->s, self->fd)) TH_LOG("case %d", i);
		ASSERT_EQ(0, fstat(self->fd, &st));
		EXPECT_LT(2000, st.st_mtim.tv_sec) TH_LOG("case %d", i);
	}
	close(p[0]);
	close(p[1]);
	uring_destroy(&u);
}

/*
 * Writes by a shared mapping change the times of the lower file, and a stat
 * shows them.
 */
TEST_F_TIMEOUT(attrs, times_after_mapping, IO_TIMEOUT)
{
	char *p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, self->fd, 0);
	struct stat st;
	int i;

	ASSERT_NE(MAP_FAILED, p);
	for (i = 0; i < 3; i++) {
		make_old(&self->s);
		ASSERT_EQ(0, fstat(self->fd, &st));
		p[i * 4096] = 'x';
		ASSERT_EQ(0, msync(p, LEN, MS_SYNC));
		EXPECT_TRUE(same_attrs(&self->s, self->fd));
		ASSERT_EQ(0, fstat(self->fd, &st));
		EXPECT_LT(2000, st.st_mtim.tv_sec);
	}
	munmap(p, LEN);
}

/*
 * Times set by the client stay until its next write; no flush overwrites them.
 */
TEST_F_TIMEOUT(attrs, times_set, IO_TIMEOUT)
{
	struct timespec ts[2] = { { .tv_sec = 5000 }, { .tv_sec = 6000 } };
	struct stat st;

	ASSERT_EQ(10, pwrite(self->fd, self->buf, 10, 0));
	ASSERT_EQ(0, futimens(self->fd, ts));
	EXPECT_TRUE(same_attrs(&self->s, self->fd));
	ASSERT_EQ(0, fstat(self->fd, &st));
	EXPECT_EQ(6000, st.st_mtim.tv_sec);
	ASSERT_EQ(0, fsync(self->fd));
	close(self->fd);
	ASSERT_EQ(0, fstat(self->lower, &st));
	EXPECT_EQ(6000, st.st_mtim.tv_sec);

	self->fd = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDWR);
	ASSERT_EQ(10, pwrite(self->fd, self->buf, 10, 0));
	EXPECT_TRUE(same_attrs(&self->s, self->fd));
	ASSERT_EQ(0, fstat(self->lower, &st));
	EXPECT_LT(6000, st.st_mtim.tv_sec);
}

/*
 * A write causes no SETATTR, neither at fsync nor at close, with a write-back
 * cache either.
 */
TEST_F_TIMEOUT(attrs, no_times_flushed, IO_TIMEOUT)
{
	struct stat before, after;

	ASSERT_EQ(10, pwrite(self->fd, self->buf, 10, 0));
	make_old(&self->s);
	ASSERT_EQ(0, fstat(self->lower, &before));
	ASSERT_EQ(0, fsync(self->fd));
	close(self->fd);
	self->fd = -1;
	fuse_server_wait(&self->s, FUSE_RELEASE, 1);
	EXPECT_EQ(0, fuse_server_count(&self->s, FUSE_SETATTR));
	ASSERT_EQ(0, fstat(self->lower, &after));
	EXPECT_TRUE(same_time(before.st_mtim, after.st_mtim));
}

/* Number of GETATTRs that a stat of "f" causes */
static unsigned long asked(struct fuse_server *s)
{
	unsigned long count = fuse_server_count(s, FUSE_GETATTR);
	struct stat st;

	if (stat(fuse_path(s, "f"), &st))
		return -1;
	return fuse_server_count(s, FUSE_GETATTR) - count;
}

/*
 * After a write one stat sends GETATTR, further stats do not, whether the file
 * is open or not.
 */
TEST_F_TIMEOUT(attrs, asked_once, IO_TIMEOUT)
{
	EXPECT_EQ(0, asked(&self->s));
	ASSERT_EQ(10, pwrite(self->fd, self->buf, 10, LEN));
	EXPECT_EQ(1, asked(&self->s));
	EXPECT_EQ(0, asked(&self->s));
	ASSERT_EQ(10, pwrite(self->fd, self->buf, 10, 0));
	ASSERT_EQ(10, pwrite(self->fd, self->buf, 10, LEN));
	close(self->fd);
	self->fd = -1;
	fuse_server_wait(&self->s, FUSE_RELEASE, 1);
	EXPECT_EQ(1, asked(&self->s));
	EXPECT_EQ(0, asked(&self->s));
}

/*
 * After chmod or utimensat one stat sends GETATTR if passthrough has ever
 * written to the inode, since a write may have overtaken the SETATTR.
 * Otherwise no stat does.
 */
TEST_F_TIMEOUT(attrs, asked_after_setattr, IO_TIMEOUT)
{
	struct timespec times[2] = { { .tv_sec = 5000 }, { .tv_sec = 6000 } };

	EXPECT_EQ(0, asked(&self->s));
	ASSERT_EQ(0, fchmod(self->fd, 0640));
	EXPECT_EQ(0, asked(&self->s));

	ASSERT_EQ(10, pwrite(self->fd, self->buf, 10, LEN));
	ASSERT_EQ(0, fchmod(self->fd, 0600));
	EXPECT_EQ(1, asked(&self->s));
	EXPECT_TRUE(same_attrs(&self->s, self->fd));
	ASSERT_EQ(0, futimens(self->fd, times));
	EXPECT_EQ(1, asked(&self->s));
	EXPECT_EQ(0, asked(&self->s));
	EXPECT_TRUE(same_attrs(&self->s, self->fd));
}

/* Make the kernel drop the dentry "f", but not its inode. */
static int forget_name(struct fuse_server *s)
{
	struct {
		struct fuse_out_header h;
		struct fuse_notify_inval_entry_out e;
		char name[2];
	} __attribute__((packed)) out = {
		.h.len = sizeof(out),
		.h.error = FUSE_NOTIFY_INVAL_ENTRY,
		.e.parent = FUSE_ROOT_ID,
		.e.namelen = 1,
		.name = "f",
	};

	return write(s->dev, &out, sizeof(out)) == sizeof(out) ? 0 : errno;
}

/*
 * Attributes of a LOOKUP after a write do not hide the next write, after which
 * no GETATTR was sent yet.
 */
TEST_F_TIMEOUT(attrs, lookup_between_writes, IO_TIMEOUT)
{
	unsigned long lookups = fuse_server_count(&self->s, FUSE_LOOKUP);

	ASSERT_EQ(10, pwrite(self->fd, self->buf, 10, 0));
	ASSERT_EQ(0, forget_name(&self->s));
	ASSERT_EQ(0, access(fuse_path(&self->s, "f"), F_OK));
	ASSERT_EQ(lookups + 1, fuse_server_count(&self->s, FUSE_LOOKUP));
	wait_tick();
	ASSERT_EQ(10, pwrite(self->fd, self->buf, 10, 0));
	EXPECT_TRUE(same_attrs(&self->s, self->fd));
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
TEST_F_TIMEOUT(attrs, truncate_races, IO_TIMEOUT)
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

/*
 * A reply that the server prepares early and sends late, after passthrough
 * writes
 */
struct late_answer {
	uint64_t unique;
	bool getattr, open;	/* reply late to the next one */
	union {
		struct fuse_attr_out attr;
		struct fuse_entry_out entry;
	} out;
	size_t len;
};

FIXTURE(late) {
	struct fuse_server s;
	struct late_answer a;
	char *buf;
	int fd, cached;
};

FIXTURE_VARIANT(late) { bool writeback; };
FIXTURE_VARIANT_ADD(late, writethrough) { .writeback = false };
FIXTURE_VARIANT_ADD(late, writeback) { .writeback = true };

static void late_attr(struct fuse_server *s, uint64_t nodeid)
{
	struct late_answer *a = s->arg;

	memset(&a->out, 0, sizeof(a->out));
	a->out.attr.attr_valid = s->attr_valid;
	fuse_server_attr(s, nodeid, "f", &a->out.attr.attr);
	a->len = sizeof(a->out.attr);
}

/* Execute the request at once, and send the reply later. */
static bool answer_late(struct fuse_server *s, const struct fuse_in_header *in)
{
	const struct fuse_setattr_in *set = (const void *)(in + 1);
	const struct fuse_link_in *link = (const void *)(in + 1);
	struct late_answer *a = s->arg;

	/*
	 * Reply at once to the SETATTRs of times that a write-back cache sends.
	 */
	if (in->opcode == FUSE_SETATTR &&
	    (set->valid & (FATTR_SIZE | FATTR_MODE))) {
		if (set->valid & FATTR_SIZE)
			truncate(lower_path(s, "f"), set->size);
		if (set->valid & FATTR_MODE)
			fchmodat(s->dirfd, "f", set->mode & 07777, 0);
		late_attr(s, in->nodeid);
	} else if (in->opcode == FUSE_GETATTR &&
		   __atomic_exchange_n(&a->getattr, false, __ATOMIC_ACQ_REL)) {
		late_attr(s, in->nodeid);
	} else if (in->opcode == FUSE_LINK) {
		linkat(s->dirfd, "f", s->dirfd, (const char *)(link + 1), 0);
		memset(&a->out, 0, sizeof(a->out));
		a->out.entry.nodeid = link->oldnodeid;
		a->out.entry.attr_valid = s->attr_valid;
		fuse_server_attr(s, link->oldnodeid, "f",
				 &a->out.entry.attr);
		a->len = sizeof(a->out.entry);
	} else if (in->opcode != FUSE_OPEN ||
		   !__atomic_exchange_n(&a->open, false, __ATOMIC_ACQ_REL)) {
		return false;
	}
	__atomic_store_n(&a->unique, in->unique, __ATOMIC_RELEASE);
	return true;
}

FIXTURE_SETUP(late)
{
	self->s.writeback = variant->writeback;
	self->s.request = answer_late;
	self->s.arg = &self->a;
	ASSERT_EQ(0, fuse_server_start(&self->s));
	ASSERT_EQ(0, lower_make(&self->s, "f", LEN, 1));
	self->buf = pages(2 * LEN);
	ASSERT_NE(NULL, self->buf);
	self->fd = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDONLY);
	self->cached = fs_open(&self->s, OPEN_CACHED, "f", O_RDONLY);
	ASSERT_LE(0, self->fd);
	ASSERT_LE(0, self->cached);
}

FIXTURE_TEARDOWN(late)
{
	EXPECT_EQ(0, fuse_server_count(&self->s, FUSE_WRITE));
	close(self->fd);
	close(self->cached);
	fuse_server_stop(&self->s);
}

static void call_chmod(void *arg)
{
	chmod(fuse_path(arg, "f"), 0640);
}

static void call_truncate(void *arg)
{
	truncate(fuse_path(arg, "f"), LEN / 2);
}

static void call_link(void *arg)
{
	char path[256];

	snprintf(path, sizeof(path), "%s", fuse_path(arg, "f"));
	link(path, fuse_path(arg, "g"));
}

struct extender {
	int fd;
	char byte;
	char *buf;
	off_t size;
	ssize_t ret;
};

/* Close the descriptor too, so that no passthrough writer is left. */
static void call_extend(void *arg)
{
	struct extender *e = arg;

	e->ret = pwrite(e->fd, e->buf, 100, e->size);
	close(e->fd);
}

static void keep_back(FIXTURE_DATA(late) *self, struct blocker *caller,
		      void (*call)(void *))
{
	self->a.unique = 0;
	blocker_start(caller, call, &self->s);
	while (!__atomic_load_n(&self->a.unique, __ATOMIC_ACQUIRE))
		sched_yield();
}

static bool let_go(FIXTURE_DATA(late) *self, struct blocker *caller)
{
	int err = fuse_server_reply(&self->s, self->a.unique, 0, &self->a.out,
				    self->a.len);

	blocker_join(caller);
	return !err;
}

/*
 * Make the reply to @call older than a write of 100 bytes that ends at the new
 * size.  The writer's open is closed before the reply; its close does not wait
 * for the server.  With a write-back cache the write itself waits for the
 * reply.
 */
static bool overtake(FIXTURE_DATA(late) *self, void (*call)(void *), off_t size)
{
	struct extender e = { .buf = self->buf, .size = size - 100 };
	struct blocker caller, writer;
	bool ok;

	self->s.open_flags = FOPEN_NOFLUSH;
	e.fd = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_WRONLY);
	self->s.open_flags = 0;
	if (e.fd < 0)
		return false;

	pattern(self->buf, 100, e.size, 1);
	/* Make the cached attributes valid, so that the reply could be used. */
	size_of(e.fd);
	keep_back(self, &caller, call);
	ok = blocker_start(&writer, call_extend, &e) == self->s.writeback;
	ok &= let_go(self, &caller);
	blocker_join(&writer);
	return ok && e.ret == 100;
}

static bool size_of_seek(FIXTURE_DATA(late) *self, off_t size)
{
	return lseek(self->fd, 0, SEEK_END) == size;
}

static bool size_of_stat(FIXTURE_DATA(late) *self, off_t size)
{
	return size_of(self->fd) == size;
}

static bool size_of_statx(FIXTURE_DATA(late) *self, off_t size)
{
	struct statx stx;

	return !statx(AT_FDCWD, fuse_path(&self->s, "f"), 0, STATX_SIZE, &stx) &&
		(off_t)stx.stx_size == size;
}

static bool size_of_cached(FIXTURE_DATA(late) *self, off_t size)
{
	return pread(self->cached, self->buf, 200, size - 100) == 100 &&
		pattern_differs(self->buf, 100, size - 100, 1) == -1;
}

/* The size in the inode, without a request: the write has raised it. */
static bool size_of_inode(FIXTURE_DATA(late) *self, off_t size)
{
	struct statx stx;

	return !statx(AT_FDCWD, fuse_path(&self->s, "f"), AT_STATX_DONT_SYNC,
		      STATX_SIZE, &stx) && (off_t)stx.stx_size == size;
}

/*
 * Ways to get the size first after the reply; later ones find refreshed
 * attributes.
 */
static bool (*const asks[])(FIXTURE_DATA(late) *self, off_t size) = {
	size_of_seek, size_of_stat, size_of_statx, size_of_cached, size_of_inode,
};

/*
 * A late reply to chmod, with an older size, does not change the size of the
 * write.
 */
TEST_F_TIMEOUT(late, chmod, IO_TIMEOUT)
{
	off_t size = LEN;
	unsigned int i;
	struct stat st;

	for (i = 0; i < ARRAY_SIZE(asks); i++) {
		ASSERT_LT(0, pread(self->cached, self->buf, LEN, size - 100));
		ASSERT_TRUE(overtake(self, call_chmod, size += 100));
		EXPECT_TRUE(asks[i](self, size)) TH_LOG("way %u", i);
		ASSERT_EQ(0, fstat(self->fd, &st));
		EXPECT_EQ(0640, st.st_mode & 07777);
	}
}

/*
 * Likewise for truncate and a write beyond the new end: only the server knows
 * their order.
 */
TEST_F_TIMEOUT(late, truncate, IO_TIMEOUT)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(asks); i++) {
		if (asks[i] == size_of_inode)
			continue;
		ASSERT_EQ(100, pread(self->cached, self->buf, 100, LEN / 2 - 100));
		ASSERT_TRUE(overtake(self, call_truncate, LEN / 2 + 100));
		EXPECT_TRUE(asks[i](self, LEN / 2 + 100)) TH_LOG("way %u", i);
	}
}

/*
 * A chmod after that does not make the size valid: a stat still sends GETATTR.
 */
TEST_F_TIMEOUT(late, truncate_and_chmod, IO_TIMEOUT)
{
	struct blocker caller;

	ASSERT_TRUE(overtake(self, call_truncate, LEN / 2 + 100));
	keep_back(self, &caller, call_chmod);
	ASSERT_TRUE(let_go(self, &caller));
	EXPECT_TRUE(size_of_stat(self, LEN / 2 + 100));
}

static void call_chmod_setuid(void *arg)
{
	chmod(fuse_path(arg, "f"), 04755);
}

/* Drops the privileges of the calling thread only */
static void call_write_unprivileged(void *arg)
{
	struct extender *e = arg;

	e->ret = syscall(SYS_setresuid, 1, 1, 1) ? -1 :
		pwrite(e->fd, &e->byte, 1, 0);
}

static int mode_of_inode(int fd)
{
	struct statx stx;

	return statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_MODE, &stx) ?
		-1 : stx.stx_mode & 07777;
}

/*
 * A late reply to chmod does not bring back a setuid bit that a write has
 * dropped meanwhile.  After a read the bit stays.
 */
TEST_F_TIMEOUT(late, setuid, IO_TIMEOUT)
{
	struct blocker caller, writer;
	struct extender e = {};
	struct stat low;

	/* With a write-back cache the write waits for the SETATTR. */
	if (variant->writeback)
		return;

	e.fd = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDWR);
	ASSERT_LE(0, e.fd);
	ASSERT_EQ(1, pwrite(e.fd, "x", 1, 0));
	keep_back(self, &caller, call_chmod_setuid);
	ASSERT_EQ(1, pread(e.fd, self->buf, 1, 0));
	ASSERT_TRUE(let_go(self, &caller));
	EXPECT_EQ(04755, mode_of_inode(e.fd));

	keep_back(self, &caller, call_chmod_setuid);
	blocker_start(&writer, call_write_unprivileged, &e);
	blocker_join(&writer);
	ASSERT_EQ(1, e.ret);
	ASSERT_EQ(0, fstatat(self->s.dirfd, "f", &low, 0));
	ASSERT_EQ(0755, low.st_mode & 07777);
	ASSERT_TRUE(let_go(self, &caller));
	EXPECT_EQ(0755, mode_of_inode(e.fd));

	/* Likewise, but the server does the chmod after the write. */
	ASSERT_EQ(0, fchmodat(self->s.dirfd, "f", 04755, 0));
	ASSERT_EQ(0, fstat(e.fd, &low));
	keep_back(self, &caller, call_chmod_setuid);
	blocker_start(&writer, call_write_unprivileged, &e);
	blocker_join(&writer);
	ASSERT_EQ(0, fchmodat(self->s.dirfd, "f", 04755, 0));
	ASSERT_TRUE(let_go(self, &caller));
	EXPECT_EQ(04755, mode_of_inode(e.fd));

	/* exec sends GETATTR after a write, even if no bit was dropped. */
	ASSERT_EQ(0, fchmodat(self->s.dirfd, "f", 0755, 0));
	ASSERT_EQ(1, pwrite(e.fd, "x", 1, 0));
	ASSERT_EQ(0, access(fuse_path(&self->s, "f"), X_OK));
	EXPECT_EQ(0755, mode_of_inode(e.fd));
	close(e.fd);
}

/* Executed with ANSWER_EUID, exit with 1 if the program runs as root. */
static void __attribute__((constructor)) answer_euid(void)
{
	if (getenv("ANSWER_EUID"))
		_exit(geteuid() == 0);
}

static int copy_self(struct fuse_server *s, const char *name)
{
	int in = open("/proc/self/exe", O_RDONLY);
	int out = openat(s->dirfd, name, O_WRONLY | O_CREAT, 0755);
	struct stat st;
	int ret = -1;

	if (in >= 0 && out >= 0 && !fstat(in, &st) &&
	    sendfile(out, in, NULL, st.st_size) == st.st_size)
		ret = fchmod(out, 04755);
	close(in);
	close(out);
	return ret;
}

/*
 * The child closes @fd first: a file that is open for writing cannot be
 * executed.
 */
static pid_t execute_unprivileged(const char *path, int fd)
{
	char *argv[] = { "attrs", NULL }, *envp[] = { "ANSWER_EUID=1", NULL };
	pid_t pid = fork();

	if (!pid) {
		close(fd);
		if (!syscall(SYS_setresuid, 1, 1, 1))
			execve(path, argv, envp);
		_exit(2);
	}
	return pid;
}

/*
 * A setuid file that is written after the open of exec, and before exec reads
 * its mode, gives no privilege.
 */
TEST_F_TIMEOUT(late, exec, IO_TIMEOUT)
{
	struct fuse_open_out out = {};
	struct blocker writer;
	struct extender e = {};
	int status;
	pid_t pid;

	ASSERT_EQ(0, mount(NULL, self->s.mnt, NULL, MS_REMOUNT | MS_BIND, NULL));
	ASSERT_EQ(0, copy_self(&self->s, "e"));
	/* The close does not wait for the server. */
	self->s.open_flags = FOPEN_NOFLUSH;
	e.fd = fs_open(&self->s, OPEN_PASSTHROUGH, "e", O_RDWR);
	self->s.open_flags = 0;
	ASSERT_LE(0, e.fd);
	ASSERT_EQ(04755, mode_of_inode(e.fd));

	self->a.unique = 0;
	self->a.open = true;
	pid = execute_unprivileged(fuse_path(&self->s, "e"), e.fd);
	while (!__atomic_load_n(&self->a.unique, __ATOMIC_ACQUIRE))
		sched_yield();
	e.byte = '\177';
	blocker_start(&writer, call_write_unprivileged, &e);
	blocker_join(&writer);
	ASSERT_EQ(1, e.ret);
	close(e.fd);
	out.fh = lower_open(&self->s, "e", O_RDONLY);
	ASSERT_EQ(0, fuse_server_reply(&self->s, self->a.unique, 0, &out,
				       sizeof(out)));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

static unsigned int links_of_inode(struct fuse_server *s)
{
	struct statx stx;

	return statx(AT_FDCWD, fuse_path(s, "f"), AT_STATX_DONT_SYNC, STATX_NLINK,
		     &stx) ? 0 : stx.stx_nlink;
}

/* Likewise for link; the new link count is seen at once. */
TEST_F_TIMEOUT(late, link, IO_TIMEOUT)
{
	off_t size = LEN;
	unsigned int i;
	struct stat st;

	for (i = 0; i < ARRAY_SIZE(asks); i++) {
		ASSERT_EQ(0, unlinkat(self->s.dirfd, "g", 0) && errno != ENOENT);
		ASSERT_LT(0, pread(self->cached, self->buf, LEN, size - 100));
		ASSERT_TRUE(overtake(self, call_link, size += 100));
		EXPECT_EQ(2, links_of_inode(&self->s));
		EXPECT_TRUE(asks[i](self, size)) TH_LOG("way %u", i);
		ASSERT_EQ(0, fstat(self->fd, &st));
		EXPECT_EQ(2, st.st_nlink);
		ASSERT_EQ(0, unlink(fuse_path(&self->s, "g")));
	}
}

/*
 * Likewise without a write in between: the next stat shows the times that link
 * changed.
 */
TEST_F_TIMEOUT(late, link_alone, IO_TIMEOUT)
{
	struct blocker caller;
	struct stat st, low;
	int fd;

	fd = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_WRONLY);
	ASSERT_LE(0, fd);
	ASSERT_EQ(1, pwrite(fd, "x", 1, 0));
	close(fd);
	ASSERT_EQ(0, fstat(self->fd, &st));
	wait_tick();

	keep_back(self, &caller, call_link);
	ASSERT_TRUE(let_go(self, &caller));
	ASSERT_EQ(0, fstat(self->fd, &st));
	ASSERT_EQ(0, fstatat(self->s.dirfd, "f", &low, 0));
	EXPECT_TRUE(same_time(low.st_ctim, st.st_ctim));
	EXPECT_EQ(2, st.st_nlink);
}

static void call_stat(void *arg)
{
	struct stat st;

	stat(fuse_path(arg, "f"), &st);
}

/*
 * A write that changes only times overtakes the reply to GETATTR or SETATTR:
 * the times of the write stay, with and without another stat before the reply.
 */
TEST_F_TIMEOUT(late, times, IO_TIMEOUT)
{
	struct blocker caller;
	unsigned int i;
	int fd;

	fd = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDWR);
	ASSERT_LE(0, fd);
	for (i = 0; i < 4; i++) {
		/* With a write-back cache the write waits for the SETATTR. */
		if (variant->writeback && !(i & 1))
			continue;
		ASSERT_EQ(1, pwrite(fd, "x", 1, 0));
		self->a.getattr = i & 1;
		keep_back(self, &caller, i & 1 ? call_stat : call_chmod);
		wait_tick();
		ASSERT_EQ(1, pwrite(fd, "x", 1, 0));
		if (i & 2) {
			EXPECT_TRUE(same_attrs(&self->s, fd));
		}
		ASSERT_TRUE(let_go(self, &caller));
		EXPECT_TRUE(same_attrs(&self->s, fd)) TH_LOG("way %u", i);
	}
	close(fd);
}

/* A stat after a write ignores the late reply to an earlier stat. */
TEST_F_TIMEOUT(late, two_stats, IO_TIMEOUT)
{
	struct blocker before, after;
	struct late_answer first;
	int fd;

	fd = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDWR);
	ASSERT_LE(0, fd);
	ASSERT_EQ(1, pwrite(fd, "x", 1, 0));
	self->a.getattr = true;
	keep_back(self, &before, call_stat);
	first = self->a;
	wait_tick();
	ASSERT_EQ(1, pwrite(fd, "x", 1, 0));
	self->a.getattr = true;
	keep_back(self, &after, call_stat);

	ASSERT_EQ(0, fuse_server_reply(&self->s, first.unique, 0, &first.out,
				       first.len));
	blocker_join(&before);
	ASSERT_TRUE(let_go(self, &after));
	EXPECT_TRUE(same_attrs(&self->s, fd));
	close(fd);
}

/*
 * A read overtakes the reply to SETATTR: atime is that of the read, be it the
 * first or a later one.
 */
TEST_F_TIMEOUT(late, atime, IO_TIMEOUT)
{
	struct blocker caller;
	struct stat st;
	unsigned int i;
	int fd;

	fd = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDWR);
	ASSERT_LE(0, fd);
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(1, pwrite(fd, "x", 1, 0));
		make_old(&self->s);
		ASSERT_EQ(0, fstat(fd, &st));
		EXPECT_EQ(1000, st.st_atim.tv_sec);
		if (i) {
			ASSERT_EQ(1, pread(fd, self->buf, 1, 0));
			make_old(&self->s);
		}
		keep_back(self, &caller, call_chmod);
		ASSERT_EQ(1, pread(fd, self->buf, 1, 0));
		ASSERT_TRUE(let_go(self, &caller));
		EXPECT_TRUE(same_attrs(&self->s, fd)) TH_LOG("way %u", i);
	}
	close(fd);
}

/* The server truncates for O_TRUNC itself, and then lets the opener wait. */
FIXTURE(otrunc) {
	struct fuse_server s;
	uint64_t unique;	/* of the request without a reply */
	int fd;
};

FIXTURE_VARIANT(otrunc) { bool writeback; };
FIXTURE_VARIANT_ADD(otrunc, writethrough) { .writeback = false };
FIXTURE_VARIANT_ADD(otrunc, writeback) { .writeback = true };

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

/*
 * atime follows the options of the mount through which the server opened the
 * file.
 */
FIXTURE(atime) {
	struct fuse_server s;
	int fd;
};

FIXTURE_VARIANT(atime) {
	unsigned long flags;
	bool first;	/* the first read of a modified file changes atime */
	bool second;	/* the second read does too */
};

FIXTURE_VARIANT_ADD(atime, strict) { MS_STRICTATIME, true, true };
FIXTURE_VARIANT_ADD(atime, relative) { MS_RELATIME, true, false };
FIXTURE_VARIANT_ADD(atime, none) { MS_NOATIME, false, false };

FIXTURE_SETUP(atime)
{
	char *dir = self->s.lower;

	ASSERT_EQ(0, fuse_server_start(&self->s));
	ASSERT_EQ(0, lower_make(&self->s, "f", 4096, 1));
	ASSERT_EQ(0, mount(dir, dir, NULL, MS_BIND, NULL));
	ASSERT_EQ(0, mount(NULL, dir, NULL, MS_BIND | MS_REMOUNT | variant->flags,
			   NULL));
	close(self->s.dirfd);
	self->s.dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ASSERT_LE(0, self->s.dirfd);
	self->fd = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDWR);
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(atime)
{
	EXPECT_EQ(0, server_io(&self->s));
	close(self->fd);
	umount2(self->s.lower, MNT_DETACH);
	close(self->s.dirfd);
	self->s.dirfd = open(self->s.lower, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fuse_server_stop(&self->s);
}

/*
 * A read changes the lower file's atime as its mount options say, and a stat
 * shows it.
 */
TEST_F_TIMEOUT(atime, after_read, IO_TIMEOUT)
{
	/* The last read is long before the last change. */
	struct timespec old[2] = { { .tv_sec = 1000 }, { .tv_sec = 2000 } };
	struct timespec read_since[2] = { { .tv_nsec = UTIME_NOW }, { .tv_sec = 2000 } };
	struct stat st, low;
	char buf[16];

	ASSERT_EQ(0, utimensat(self->s.dirfd, "f", old, 0));
	ASSERT_EQ(0, fstat(self->fd, &st));
	ASSERT_EQ(16, pread(self->fd, buf, 16, 0));
	ASSERT_EQ(0, fstat(self->fd, &st));
	ASSERT_EQ(0, fstatat(self->s.dirfd, "f", &low, 0));
	EXPECT_TRUE(same_time(low.st_atim, st.st_atim));
	EXPECT_EQ(variant->first, st.st_atim.tv_sec > 2000);

	/*
	 * The last read is after the last change, and the clock has advanced.
	 */
	ASSERT_EQ(0, utimensat(self->s.dirfd, "f", read_since, 0));
	do {
		ASSERT_EQ(16, pread(self->fd, buf, 16, 0));
		ASSERT_EQ(0, fstatat(self->s.dirfd, "f", &low, 0));
	} while (variant->first && !later(low.st_atim, low.st_ctim));
	wait_tick();
	ASSERT_EQ(16, pread(self->fd, buf, 16, 0));
	ASSERT_EQ(0, fstat(self->fd, &st));
	EXPECT_EQ(variant->second, later(st.st_atim, low.st_atim));
}

/*
 * Attributes of a directory with default_permissions: a change of its entries
 * does not invalidate attributes that it does not affect.
 */
FIXTURE(dir_attrs) {
	struct fuse_server s;
	unsigned int asked;
};

/* Counts GETATTRs of the directory */
static bool dir_request(struct fuse_server *s, const struct fuse_in_header *in)
{
	FIXTURE_DATA(dir_attrs) *self = s->arg;

	if (in->opcode == FUSE_GETATTR && in->nodeid == FUSE_ROOT_ID)
		__atomic_add_fetch(&self->asked, 1, __ATOMIC_RELAXED);
	return false;
}

FIXTURE_SETUP(dir_attrs)
{
	struct stat st;

	self->s.permissions = true;
	self->s.request = dir_request;
	self->s.arg = self;
	ASSERT_EQ(0, fuse_server_start(&self->s));
	/* Cached now. */
	ASSERT_EQ(0, stat(self->s.mnt, &st));
	self->asked = 0;
}

FIXTURE_TEARDOWN(dir_attrs)
{
	fuse_server_stop(&self->s);
}

static char *in_dir(struct fuse_server *s, const char *name)
{
	static char path[2][256];
	static int i;

	i = !i;
	snprintf(path[i], sizeof(path[i]), "%s/%s", s->mnt, name);
	return path[i];
}

/*
 * Creates, renames and unlinks check access with the cached mode of the
 * directory.
 */
TEST_F_TIMEOUT(dir_attrs, changes_do_not_ask, IO_TIMEOUT)
{
	int i;

	for (i = 0; i < 10; i++) {
		int fd = fs_open(&self->s, OPEN_CACHED, "a", O_RDWR | O_CREAT | O_EXCL);

		ASSERT_LE(0, fd);
		close(fd);
		ASSERT_EQ(0, rename(in_dir(&self->s, "a"), in_dir(&self->s, "b")));
		ASSERT_EQ(0, unlink(in_dir(&self->s, "b")));
		ASSERT_EQ(0, mkdir(in_dir(&self->s, "d"), 0755));
		ASSERT_EQ(0, rmdir(in_dir(&self->s, "d")));
	}
	EXPECT_EQ(0, self->asked);
}

/*
 * A stat of only mode and owner uses the cache; a full stat sends one GETATTR.
 */
static bool dir_is_right(FIXTURE_DATA(dir_attrs) * self)
{
	unsigned int asked = self->asked;
	struct statx stx;
	struct stat st, low;
	bool ok;

	ok = !statx(AT_FDCWD, self->s.mnt, 0, STATX_MODE | STATX_UID | STATX_GID,
		    &stx) && self->asked == asked &&
		!stat(self->s.mnt, &st) && self->asked == asked + 1 &&
		!fstat(self->s.dirfd, &low) && st.st_nlink == low.st_nlink &&
		st.st_size == low.st_size && st.st_blocks == low.st_blocks &&
		same_time(st.st_mtim, low.st_mtim) &&
		same_time(st.st_ctim, low.st_ctim);
	/* The next change has to set other times. */
	wait_tick();
	return ok;
}

/* A stat after each kind of change shows new times, size, blocks and links. */
TEST_F_TIMEOUT(dir_attrs, fresh_after_changes, IO_TIMEOUT)
{
	int fd;

	wait_tick();
	ASSERT_EQ(0, mkdir(in_dir(&self->s, "d"), 0755));
	EXPECT_TRUE(dir_is_right(self));
	fd = fs_open(&self->s, OPEN_CACHED, "a", O_RDWR | O_CREAT | O_EXCL);
	ASSERT_LE(0, fd);
	close(fd);
	EXPECT_TRUE(dir_is_right(self));
	ASSERT_EQ(0, rename(in_dir(&self->s, "a"), in_dir(&self->s, "b")));
	EXPECT_TRUE(dir_is_right(self));
	ASSERT_EQ(0, unlink(in_dir(&self->s, "b")));
	EXPECT_TRUE(dir_is_right(self));
	ASSERT_EQ(0, rmdir(in_dir(&self->s, "d")));
	EXPECT_TRUE(dir_is_right(self));
}

TEST_HARNESS_MAIN
