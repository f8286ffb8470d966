// SPDX-License-Identifier: GPL-2.0
/* Data, limits and errors of each synchronous way to read and write */
#define _GNU_SOURCE
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "io_test.h"
#include "../../kselftest_harness.h"

#define LEN	(64 * KIB + 123)

FIXTURE(io_data) {
	struct fuse_server s;
	char *buf;
};

FIXTURE_VARIANTS_HOW(io_data);
FIXTURE_VARIANT_ADD(io_data, by_inode) { .how = OPEN_BY_INODE };

FIXTURE_SETUP(io_data)
{
	self->s.permissions = variant->how == OPEN_BY_INODE;
	ASSERT_EQ(0, fuse_server_start(&self->s));
	ASSERT_EQ(0, lower_make(&self->s, "f", LEN, 1));
	ASSERT_EQ(0, lower_make(&self->s, "empty", 0, 0));
	self->buf = pages(2 * LEN);
	ASSERT_NE(NULL, self->buf);
}

FIXTURE_TEARDOWN(io_data)
{
	EXPECT_EQ(0, self->s.inode_error);
	EXPECT_EQ(0, server_bypassed(&self->s, variant->how));
	fuse_server_stop(&self->s);
}

static const struct {
	off_t off;
	size_t len;
} ranges[] = {
	{ 0, 1 }, { 0, 4096 }, { 1, 4095 }, { 4095, 2 }, { 4096, 8192 },
	{ 777, 20000 }, { 0, LEN }, { LEN - 1, 1 }, { LEN - 100, 100 },
};

enum way { WAY_RW, WAY_P, WAY_V, WAY_PV, WAY_PV2, WAY_PV2_CUR, WAYS };

static ssize_t way_io(enum way way, bool write_it, int fd, char *buf, size_t len,
		      off_t off)
{
	struct iovec iov[] = {
		{ buf, len / 3 }, { buf + len / 3, 0 },
		{ buf + len / 3, len - len / 3 },
	};

	if (way == WAY_RW || way == WAY_V || way == WAY_PV2_CUR)
		lseek(fd, off, SEEK_SET);
	switch (way) {
	case WAY_RW:
		return write_it ? write(fd, buf, len) : read(fd, buf, len);
	case WAY_P:
		return write_it ? pwrite(fd, buf, len, off) : pread(fd, buf, len, off);
	case WAY_V:
		return write_it ? writev(fd, iov, 3) : readv(fd, iov, 3);
	case WAY_PV:
		return write_it ? pwritev(fd, iov, 3, off) : preadv(fd, iov, 3, off);
	case WAY_PV2:
		return write_it ? pwritev2(fd, iov, 3, off, 0) :
			preadv2(fd, iov, 3, off, 0);
	default:
		return write_it ? pwritev2(fd, iov, 3, -1, 0) :
			preadv2(fd, iov, 3, -1, 0);
	}
}

static bool way_moves(enum way way)
{
	return way == WAY_RW || way == WAY_V || way == WAY_PV2_CUR;
}

/* Each way to read returns the lower file's bytes and moves the file offset. */
TEST_F_TIMEOUT(io_data, reads, IO_TIMEOUT)
{
	int fd = fs_open(&self->s, variant->how, "f", O_RDONLY);
	unsigned int i;
	enum way way;

	ASSERT_LE(0, fd);
	for (way = 0; way < WAYS; way++) {
		for (i = 0; i < ARRAY_SIZE(ranges); i++) {
			off_t off = ranges[i].off;
			size_t len = ranges[i].len;

			memset(self->buf, 0, len + 1);
			ASSERT_EQ(len, way_io(way, false, fd, self->buf, len, off));
			ASSERT_EQ(-1, pattern_differs(self->buf, len, off, 1));
			ASSERT_EQ(0, self->buf[len]);
			if (way_moves(way)) {
				ASSERT_EQ(off + len, lseek(fd, 0, SEEK_CUR));
			}
		}
	}
	close(fd);
}

/* Each way to write puts its bytes, and no others, into the lower file. */
TEST_F_TIMEOUT(io_data, writes, IO_TIMEOUT)
{
	int fd = fs_open(&self->s, variant->how, "f", O_RDWR);
	int lower = lower_open(&self->s, "f", O_RDONLY);
	unsigned int i, seed = 2;
	enum way way;

	ASSERT_LE(0, fd);
	for (way = 0; way < WAYS; way++) {
		for (i = 0; i < ARRAY_SIZE(ranges); i++, seed++) {
			off_t off = ranges[i].off;
			size_t len = ranges[i].len;
			unsigned char before, after;

			ASSERT_LE(0, pread(lower, &before, 1, off ? off - 1 : 0));
			pattern(self->buf, len, off, seed);
			ASSERT_EQ(len, way_io(way, true, fd, self->buf, len, off));
			ASSERT_EQ(-1, lower_differs(&self->s, "f", off, len, seed));
			if (off) {
				ASSERT_EQ(1, pread(lower, &after, 1, off - 1));
				ASSERT_EQ(before, after);
			}
			ASSERT_EQ(LEN, size_of(fd));
			if (way_moves(way)) {
				ASSERT_EQ(off + len, lseek(fd, 0, SEEK_CUR));
			}
		}
	}
	close(lower);
	close(fd);
}

/* Reads at, across and beyond the end are short; reads of a hole are zero. */
TEST_F_TIMEOUT(io_data, end_of_file, IO_TIMEOUT)
{
	int fd = fs_open(&self->s, variant->how, "f", O_RDWR);

	ASSERT_LE(0, fd);
	EXPECT_EQ(10, pread(fd, self->buf, 4096, LEN - 10));
	EXPECT_EQ(-1, pattern_differs(self->buf, 10, LEN - 10, 1));
	EXPECT_EQ(0, pread(fd, self->buf, 4096, LEN));
	EXPECT_EQ(0, pread(fd, self->buf, 4096, LEN + 100000));
	EXPECT_EQ(0, pread(fd, self->buf, 0, 0));
	EXPECT_EQ(-1, pread(fd, self->buf, 1, -1));
	EXPECT_EQ(EINVAL, errno);

	ASSERT_EQ(1, pwrite(fd, "x", 1, LEN + 10000));
	EXPECT_EQ(LEN + 10001, size_of(fd));
	ASSERT_EQ(10001, pread(fd, self->buf, 20000, LEN));
	EXPECT_TRUE(all_zero(self->buf, 10000));
	EXPECT_EQ('x', self->buf[10000]);
	close(fd);
}

/*
 * O_APPEND applies at the write, be it set at open, set or cleared later, or
 * RWF_APPEND.
 */
TEST_F_TIMEOUT(io_data, append, IO_TIMEOUT)
{
	int fd = fs_open(&self->s, variant->how, "empty", O_RDWR | O_APPEND);
	struct iovec iov = { "ef", 2 };
	char buf[16] = "";

	ASSERT_LE(0, fd);
	ASSERT_EQ(2, write(fd, "ab", 2));
	ASSERT_EQ(0, lseek(fd, 0, SEEK_SET));
	ASSERT_EQ(2, write(fd, "cd", 2));
	EXPECT_EQ(4, lseek(fd, 0, SEEK_CUR));

	ASSERT_EQ(0, fcntl(fd, F_SETFL, 0));
	ASSERT_EQ(1, pwrite(fd, "A", 1, 0));
	ASSERT_EQ(2, pwritev2(fd, &iov, 1, 0, RWF_APPEND));
	EXPECT_EQ(4, lseek(fd, 0, SEEK_CUR));

	ASSERT_EQ(0, fcntl(fd, F_SETFL, O_APPEND));
	ASSERT_EQ(2, write(fd, "gh", 2));
	EXPECT_EQ(8, size_of(fd));
	EXPECT_EQ(8, pread(fd, buf, sizeof(buf), 0));
	EXPECT_STREQ("Abcdefgh", buf);
	close(fd);
}

#define RECORDS	64
#define RECORD	200
#define WRITERS	4

struct appender {
	int fd;
	unsigned int id;
	bool rwf;
	int error;
};

static void *append_records(void *arg)
{
	struct appender *a = arg;
	char rec[RECORD];
	struct iovec iov[] = { { rec, 50 }, { rec + 50, RECORD - 50 } };
	int i;

	for (i = 0; i < RECORDS && !a->error; i++) {
		memset(rec, 'a' + a->id, sizeof(rec));
		snprintf(rec, sizeof(rec), "%u %d", a->id, i);
		if (pwritev2(a->fd, iov, 2, a->rwf ? 0 : -1,
			     a->rwf ? RWF_APPEND : 0) != RECORD)
			a->error = errno ?: EIO;
	}
	return NULL;
}

/* Many appenders, each with its own open, neither lose nor tear records. */
TEST_F_TIMEOUT(io_data, append_many, IO_TIMEOUT)
{
	unsigned int next[WRITERS] = {}, id, nr, i;
	struct appender a[WRITERS];
	pthread_t t[WRITERS];
	char rec[RECORD];
	int fd;

	for (i = 0; i < WRITERS; i++) {
		a[i] = (struct appender){ .id = i, .rwf = i == WRITERS - 1 };
		a[i].fd = fs_open(&self->s, variant->how, "empty",
				  O_WRONLY | (a[i].rwf ? 0 : O_APPEND));
		ASSERT_LE(0, a[i].fd);
	}
	for (i = 0; i < WRITERS; i++)
		ASSERT_EQ(0, pthread_create(&t[i], NULL, append_records, &a[i]));
	for (i = 0; i < WRITERS; i++) {
		pthread_join(t[i], NULL);
		ASSERT_EQ(0, a[i].error);
	}
	for (i = 0; i < WRITERS; i++) {
		EXPECT_EQ(WRITERS * RECORDS * RECORD, size_of(a[i].fd));
		close(a[i].fd);
	}

	fd = lower_open(&self->s, "empty", O_RDONLY);
	for (nr = 0; read(fd, rec, RECORD) == RECORD; nr++) {
		ASSERT_EQ(2, sscanf(rec, "%u %u", &id, &i));
		ASSERT_GT(WRITERS, id);
		ASSERT_EQ(next[id], i);
		ASSERT_EQ('a' + id, rec[RECORD - 1]);
		next[id]++;
	}
	EXPECT_EQ(WRITERS * RECORDS, nr);
	close(fd);
}

static volatile sig_atomic_t signals;

static void count_signal(int sig)
{
	signals++;
}

/* RLIMIT_FSIZE is the client's: a short write up to it, then EFBIG and SIGXFSZ. */
TEST_F_TIMEOUT(io_data, rlimit_fsize, IO_TIMEOUT)
{
	struct rlimit lim = { .rlim_cur = LEN + 1000, .rlim_max = RLIM_INFINITY };
	int fd = fs_open(&self->s, variant->how, "f", O_RDWR);

	ASSERT_LE(0, fd);
	signals = 0;
	signal(SIGXFSZ, count_signal);
	ASSERT_EQ(0, setrlimit(RLIMIT_FSIZE, &lim));

	EXPECT_EQ(1000, pwrite(fd, self->buf, 4096, LEN));
	EXPECT_EQ(0, signals);
	EXPECT_EQ(-1, pwrite(fd, self->buf, 1, LEN + 1000));
	EXPECT_EQ(EFBIG, errno);
	EXPECT_EQ(1, signals);
	EXPECT_EQ(LEN + 1000, size_of(fd));
	close(fd);
}

/* The next read sees the effect of fallocate and hole punching. */
TEST_F_TIMEOUT(io_data, fallocate, IO_TIMEOUT)
{
	int fd = fs_open(&self->s, variant->how, "f", O_RDWR);
	int ret;

	ASSERT_LE(0, fd);
	ASSERT_EQ(LEN, pread(fd, self->buf, LEN, 0));
	ASSERT_EQ(0, fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			       4096, 8192));
	ASSERT_EQ(LEN, pread(fd, self->buf, LEN, 0));
	EXPECT_EQ(-1, pattern_differs(self->buf, 4096, 0, 1));
	EXPECT_TRUE(all_zero(self->buf + 4096, 8192));
	EXPECT_EQ(-1, pattern_differs(self->buf + 12288, LEN - 12288, 12288, 1));

	pattern(self->buf, 100, 5000, 9);
	ASSERT_EQ(100, pwrite(fd, self->buf, 100, 5000));
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 5000, 100, 9));

	ret = fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 5000, 50);
	if (ret) {
		EXPECT_EQ(EOPNOTSUPP, errno);
	}
	ASSERT_EQ(100, pread(fd, self->buf, 100, 5000));
	EXPECT_EQ(ret ? -1 : 0, pattern_differs(self->buf, 50, 5000, 9));
	EXPECT_EQ(-1, pattern_differs(self->buf + 50, 50, 5050, 9));

	ret = fallocate(fd, 0, LEN, 5000);
	if (ret) {
		EXPECT_EQ(EOPNOTSUPP, errno);
	}
	EXPECT_EQ(LEN + (ret ? 0 : 5000), size_of(fd));
	close(fd);
}

/* The output of a shell command; "" if it failed. */
static const char *shell(const char *fmt, ...)
{
	static char out[256];
	char cmd[1024];
	va_list ap;
	size_t n;
	FILE *f;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	f = popen(cmd, "r");
	if (!f)
		return "";
	n = fread(out, 1, sizeof(out) - 1, f);
	out[n] = 0;
	return pclose(f) ? "" : out;
}

/* cp, cat, wc and tail see data that was just written. */
TEST_F_TIMEOUT(io_data, programs, IO_TIMEOUT)
{
	int fd = fs_open(&self->s, variant->how, "f", O_RDWR | O_APPEND);
	char want[32];
	int i;

	ASSERT_LE(0, fd);
	EXPECT_STRNE("", shell("stat %s/f", self->s.mnt));
	ASSERT_EQ(1, write(fd, "\n", 1));
	for (i = 0; i < 3; i++) {
		int len = snprintf(want, sizeof(want), "the end %d\n", i);

		ASSERT_EQ(len, write(fd, want, len));
		EXPECT_STREQ(want, shell("tail -n 1 %s/f", self->s.mnt));
		EXPECT_STREQ(want, shell("tail -c %d %s/f", len, self->s.mnt));
		EXPECT_STREQ("same\n", shell("cp %s/f %s/copy && cmp %s/copy %s/f && echo same",
					     self->s.mnt, self->s.mnt, self->s.lower,
					     self->s.lower));
		EXPECT_STREQ("same\n", shell("cat %s/f | cmp - %s/f && echo same",
					     self->s.mnt, self->s.lower));
		snprintf(want, sizeof(want), "%d\n", LEN + 1 + (i + 1) * len);
		EXPECT_STREQ(want, shell("wc -c <%s/f", self->s.mnt));
	}
	close(fd);
}

/* Passthrough only: results are the same as on the lower file. */
FIXTURE(same) {
	struct fuse_server s;
	char *buf;
	int fd[2];		/* through FUSE; another lower file */
};

FIXTURE_VARIANT(same) { enum fuse_server_open how; };
FIXTURE_VARIANT_ADD(same, by_request) { .how = OPEN_PASSTHROUGH };
FIXTURE_VARIANT_ADD(same, by_inode) { .how = OPEN_BY_INODE };

FIXTURE_SETUP(same)
{
	self->s.permissions = variant->how == OPEN_BY_INODE;
	ASSERT_EQ(0, fuse_server_start(&self->s));
	ASSERT_EQ(0, lower_make(&self->s, "f", LEN, 1));
	ASSERT_EQ(0, lower_make(&self->s, "twin", LEN, 1));
	self->buf = pages(2 * LEN);
	ASSERT_NE(NULL, self->buf);
	self->fd[0] = fs_open(&self->s, variant->how, "f", O_RDWR);
	self->fd[1] = lower_open(&self->s, "twin", O_RDWR);
	ASSERT_LE(0, self->fd[0]);
	ASSERT_LE(0, self->fd[1]);
}

FIXTURE_TEARDOWN(same)
{
	EXPECT_EQ(0, server_bypassed(&self->s, variant->how));
	close(self->fd[0]);
	close(self->fd[1]);
	fuse_server_stop(&self->s);
}

/* fcntl(O_DIRECT) applies at once, with the lower file system's alignment. */
TEST_F_TIMEOUT(same, direct_alignment, IO_TIMEOUT)
{
	static const size_t off[] = { 0, 4096, 512, 1, 256 };
	static const size_t len[] = { 4096, 512, 100, 8192 };
	static const size_t mem[] = { 0, 512, 4, 1 };
	bool can = !fcntl(self->fd[1], F_SETFL, O_DIRECT);
	unsigned int i, j, k;

	if (lower_is(&self->s, OVERLAYFS_SUPER_MAGIC))
		SKIP(return, "overlayfs may ignore O_DIRECT of an iocb");
	ASSERT_EQ(0, fcntl(self->fd[0], F_SETFL, O_DIRECT));
	for (i = 0; i < ARRAY_SIZE(off); i++)
	for (j = 0; j < ARRAY_SIZE(len); j++)
	for (k = 0; k < ARRAY_SIZE(mem); k++) {
		ssize_t r[4];
		int e[4], n;

		for (n = 0; n < 4; n++) {
			char *buf = self->buf + mem[k];
			int fd = self->fd[n & 1];

			errno = 0;
			if (n & 1 && !can) {
				r[n] = -1;
				e[n] = EINVAL;
				continue;
			}
			memset(buf, 0, len[j]);
			r[n] = n < 2 ? pread(fd, buf, len[j], off[i]) : 0;
			if (n < 2 && r[n] > 0) {
				ASSERT_EQ(-1, pattern_differs(buf, r[n], off[i], 1));
			}
			pattern(buf, len[j], off[i], 1);
			r[n] = n < 2 ? r[n] : pwrite(fd, buf, len[j], off[i]);
			e[n] = errno;
		}
		EXPECT_EQ(r[1], r[0]);
		EXPECT_EQ(e[1], e[0]);
		EXPECT_EQ(r[3], r[2]);
		EXPECT_EQ(e[3], e[2]);
	}
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, LEN, 1));

	/* Buffered I/O again needs no alignment. */
	ASSERT_EQ(0, fcntl(self->fd[0], F_SETFL, 0));
	EXPECT_EQ(1, pread(self->fd[0], self->buf + 1, 1, 3));
	EXPECT_EQ(pattern_at(3, 1), (unsigned char)self->buf[1]);
}

/*
 * RWF_NOWAIT and RWF_HIPRI give the results of the lower file, cached or not.
 */
TEST_F_TIMEOUT(same, rwf_flags, IO_TIMEOUT)
{
	static const int flags[] = { RWF_NOWAIT, RWF_HIPRI, RWF_NOWAIT | RWF_HIPRI,
				     RWF_DSYNC, RWF_SYNC, RWF_APPEND, 0x40000000 };
	unsigned int i;
	int n, cold, o_direct, can, e[4];
	ssize_t r[4];

	can = !fcntl(self->fd[1], F_SETFL, O_DIRECT);
	for (o_direct = 0; o_direct <= can; o_direct++)
	for (cold = 0; cold < 2; cold++)
	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		for (n = 0; n < 4; n++) {
			struct iovec iov = { self->buf, 4096 };
			int fd = self->fd[n & 1];

			ASSERT_EQ(0, fsync(fd));
			ASSERT_EQ(0, fcntl(fd, F_SETFL, o_direct ? O_DIRECT : 0));
			/*
			 * On the lower file: passthrough of fadvise has its own
			 * test.
			 */
			if (cold) {
				int lower = lower_open(&self->s, n & 1 ? "twin" : "f",
						       O_RDWR);

				posix_fadvise(lower, 0, 0, POSIX_FADV_DONTNEED);
				close(lower);
			}
			errno = 0;
			pattern(self->buf, 4096, 4096, 1);
			r[n] = n < 2 ? preadv2(fd, &iov, 1, 4096, flags[i]) :
				pwritev2(fd, &iov, 1, 4096, flags[i]);
			e[n] = errno;
		}
		/*
		 * Dropping the cache is only advice: results may differ if one
		 * file still has a page in the cache.
		 */
		if (cold && (flags[i] & RWF_NOWAIT))
			for (n = 0; n < 4; n++)
				if (r[n] == -1 && e[n] == EAGAIN) {
					r[n] = 4096;
					e[n] = 0;
				}
		if (r[1] != r[0] || r[2] != r[3] || e[0] != e[1] || e[2] != e[3])
			TH_LOG("flags %#x direct %d cold %d", flags[i], o_direct, cold);
		EXPECT_EQ(r[1], r[0]);
		EXPECT_EQ(e[1], e[0]);
		EXPECT_EQ(r[3], r[2]);
		EXPECT_EQ(e[3], e[2]);
	}
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, LEN, 1));
}

/*
 * An unmapped page in the buffer gives short I/O or EFAULT, as on the lower
 * file.
 */
TEST_F_TIMEOUT(same, faults, IO_TIMEOUT)
{
	char *p = pages(3 * 4096);
	ssize_t r[2];
	int e[2], n, i;

	ASSERT_EQ(0, munmap(p + 4096, 4096));
	for (i = 0; i < 6; i++) {
		for (n = 0; n < 2; n++) {
			int fd = self->fd[n];
			struct iovec iov[] = { { p, 4096 }, { p + 4096, 10 } };

			pattern(p, 4096, 0, 1);
			errno = 0;
			switch (i) {
			case 0:
				r[n] = pread(fd, p, 3 * 4096, 0);
				break;
			case 1:
				r[n] = pread(fd, p + 4096, 10, 0);
				break;
			case 2:
				r[n] = pwrite(fd, p, 3 * 4096, 0);
				break;
			case 3:
				r[n] = pwrite(fd, p + 4096, 10, 0);
				break;
			case 4:
				r[n] = preadv(fd, iov, 2, 0);
				break;
			case 5:
				r[n] = pwritev(fd, iov, 2, 0);
				break;
			}
			e[n] = errno;
		}
		EXPECT_EQ(r[1], r[0]) TH_LOG("case %d", i);
		EXPECT_EQ(e[1], e[0]) TH_LOG("case %d", i);
	}
	EXPECT_EQ(LEN, size_of(self->fd[0]));
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, LEN, 1));
}

/*
 * A direct write whose buffer ends in an unmapped page gives the result that it
 * gives on the lower file, and does not change later data.
 */
TEST_F_TIMEOUT(same, faults_direct, IO_TIMEOUT)
{
	char *p = pages(2 * BLOCK);
	ssize_t r[2];
	int e[2], n;

	if (lower_is(&self->s, OVERLAYFS_SUPER_MAGIC))
		SKIP(return, "overlayfs may ignore O_DIRECT of an iocb");
	if (fcntl(self->fd[1], F_SETFL, O_DIRECT))
		SKIP(return, "no O_DIRECT on this lower file system");
	ASSERT_EQ(0, munmap(p + BLOCK, BLOCK));
	pattern(p, BLOCK, BLOCK, 1);
	for (n = 0; n < 2; n++) {
		ASSERT_EQ(0, fcntl(self->fd[n], F_SETFL, O_DIRECT));
		errno = 0;
		r[n] = pwrite(self->fd[n], p, 2 * BLOCK, BLOCK);
		e[n] = errno;
	}
	EXPECT_EQ(r[1], r[0]);
	EXPECT_EQ(e[1], e[0]);
	EXPECT_EQ(LEN, size_of(self->fd[0]));
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, LEN, 1));
}

/* A write beyond the maximum file size of the lower file system is EFBIG. */
TEST_F_TIMEOUT(same, efbig, IO_TIMEOUT)
{
	static const off_t off[] = { 1LL << 40, 1LL << 44, 1LL << 60, INT64_MAX - 1 };
	unsigned int i;
	ssize_t r[2];
	int e[2], n;

	for (i = 0; i < ARRAY_SIZE(off); i++) {
		for (n = 0; n < 2; n++) {
			errno = 0;
			r[n] = pwrite(self->fd[n], "x", 1, off[i]);
			e[n] = errno;
		}
		EXPECT_EQ(r[1], r[0]) TH_LOG("at %lld", (long long)off[i]);
		EXPECT_EQ(e[1], e[0]) TH_LOG("at %lld", (long long)off[i]);
		EXPECT_EQ(size_of(self->fd[1]), size_of(self->fd[0]));
	}
}

/* Writes to an append-only lower file append, whatever the client's flags. */
TEST_F_TIMEOUT(same, append_only, IO_TIMEOUT)
{
	int none, attr;

	close(self->fd[1]);
	self->fd[1] = lower_open(&self->s, "f", O_RDONLY);
	if (ioctl(self->fd[1], FS_IOC_GETFLAGS, &none)) {
		ASSERT_EQ(ENOTTY, errno);
		SKIP(return, "no append-only files on this lower file system");
	}
	attr = none | FS_APPEND_FL;
	/* The open of the fixture is older than the flag. */
	ASSERT_EQ(0, ioctl(self->fd[1], FS_IOC_SETFLAGS, &attr));

	EXPECT_EQ(3, pwrite(self->fd[0], "new", 3, 0));
	EXPECT_EQ(LEN + 3, size_of(self->fd[0]));
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, LEN, 1));

	ASSERT_EQ(0, ioctl(self->fd[1], FS_IOC_SETFLAGS, &none));
}

static int wait_fsync(struct fuse_server *s, int fd)
{
	return fsync(fd) ?: syncfs(s->dirfd);
}

/*
 * O_DSYNC, O_SYNC and their RWF_ forms have written the data to disk on return.
 */
TEST_F_TIMEOUT(same, synchronous_writes, IO_TIMEOUT)
{
	static const int oflags[] = { O_DSYNC, O_SYNC, 0, 0 };
	static const int rwf[] = { 0, 0, RWF_DSYNC, RWF_SYNC };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(rwf); i++) {
		struct iovec iov = { self->buf, 16384 };
		long long before, after;
		int fd;

		fd = fs_open(&self->s, variant->how, "f", O_RDWR | oflags[i]);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, wait_fsync(&self->s, fd));
		pattern(self->buf, 16384, 0, i + 5);
		before = sectors_written(&self->s);
		ASSERT_EQ(16384, pwritev2(fd, &iov, 1, 0, rwf[i]));
		after = sectors_written(&self->s);
		if (before >= 0) {
			EXPECT_LE(before + 32, after) TH_LOG("case %u", i);
		}
		EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, 16384, i + 5));
		close(fd);
	}
}

/*
 * On a full lower file system writes are short, then ENOSPC, and lose no data.
 */
TEST_F_TIMEOUT(same, enospc, IO_TIMEOUT)
{
	size_t done = 0;
	ssize_t n;
	int fd;

	/*
	 * Mount a small lower file system on the same directory, in this
	 * namespace.
	 */
	ASSERT_EQ(0, mount("small", self->s.lower, "tmpfs", 0, "size=256k"));
	close(self->s.dirfd);
	self->s.dirfd = open(self->s.lower, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	fd = fs_open(&self->s, variant->how, "full", O_RDWR | O_CREAT);
	ASSERT_LE(0, fd);
	for (;;) {
		pattern(self->buf, 50000, done, 3);
		n = pwrite(fd, self->buf, 50000, done);
		if (n <= 0)
			break;
		done += n;
	}
	EXPECT_EQ(-1, n);
	EXPECT_EQ(ENOSPC, errno);
	EXPECT_EQ(256 * KIB, done);
	EXPECT_EQ(done, size_of(fd));
	EXPECT_EQ(-1, lower_differs(&self->s, "full", 0, done, 3));
	close(fd);
	close(self->s.dirfd);
	umount2(self->s.lower, MNT_DETACH);
	self->s.dirfd = open(self->s.lower, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/*
 * A fatal signal ends a large write: the process dies, the mount still works.
 */
TEST_F_TIMEOUT(same, killed, IO_TIMEOUT)
{
	int status, pipefd[2];
	pid_t pid;
	char c;

	ASSERT_EQ(0, pipe(pipefd));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		for (;;) {
			if (pwrite(self->fd[0], self->buf, LEN, 0) != LEN)
				_exit(1);
			if (write(pipefd[1], "x", 1) != 1)
				_exit(1);
		}
	}
	ASSERT_EQ(1, read(pipefd[0], &c, 1));
	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(SIGKILL, WTERMSIG(status));

	pattern(self->buf, LEN, 0, 4);
	EXPECT_EQ(LEN, pwrite(self->fd[0], self->buf, LEN, 0));
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, LEN, 4));
	close(pipefd[0]);
	close(pipefd[1]);
}

#define LARGE	(256 << 20)

/*
 * A fatal signal ends a large write in the middle, where the lower file system
 * checks for signals: the size covers the data written so far.
 */
TEST_F_TIMEOUT(same, killed_in_the_middle, IO_TIMEOUT)
{
	char *zeros = mmap(NULL, LARGE, PROT_READ,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	off_t size = LARGE;
	int fd, lower, status, i;
	pid_t pid;

	ASSERT_NE(MAP_FAILED, zeros);
	/* On a busy machine the write may complete before the signal. */
	for (i = 0; i < 5 && size == LARGE; i++) {
		fd = fs_open(&self->s, variant->how, "large",
			     O_RDWR | O_CREAT);
		lower = lower_open(&self->s, "large", O_RDONLY);
		ASSERT_LE(0, fd);
		ASSERT_LE(0, lower);
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid)
			_exit(pwrite(fd, zeros, LARGE, 0) != LARGE);
		while (!size_of(lower) && task_state(pid) != 'Z')
			sched_yield();
		kill(pid, SIGKILL);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		size = size_of(lower);
		EXPECT_LT(0, size);
		EXPECT_EQ(size, lseek(fd, 0, SEEK_END));
		EXPECT_EQ(size, size_of(fd));
		close(lower);
		close(fd);
		ASSERT_EQ(0, unlink(fuse_path(&self->s, "large")));
	}
	/* The next write writes everything. */
	if (!lower_is(&self->s, BTRFS_SUPER_MAGIC))
		EXPECT_GT(LARGE, size);
	munmap(zeros, LARGE);
}

/*
 * sync_file_range() and syncfs() on the mount send no request and write no
 * passthrough data; syncfs() of the lower file system writes it.
 */
TEST_F_TIMEOUT(same, syncfs, IO_TIMEOUT)
{
	int mnt = open(self->s.mnt, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	long long before, after;
	unsigned long asked = 0;
	unsigned int i;

	ASSERT_LE(0, mnt);
	ASSERT_EQ(0, wait_fsync(&self->s, self->fd[0]));
	pattern(self->buf, LEN, 0, 5);
	ASSERT_EQ(LEN, pwrite(self->fd[0], self->buf, LEN, 0));
	for (i = 0; i < FUSE_SERVER_OPCODES; i++)
		asked += fuse_server_count(&self->s, i);
	EXPECT_EQ(0, sync_file_range(self->fd[0], 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE |
				     SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER));
	EXPECT_EQ(0, syncfs(mnt));
	for (i = 0; i < FUSE_SERVER_OPCODES; i++)
		asked -= fuse_server_count(&self->s, i);
	EXPECT_EQ(0, asked);

	before = sectors_written(&self->s);
	ASSERT_EQ(0, syncfs(self->s.dirfd));
	after = sectors_written(&self->s);
	if (before >= 0) {
		EXPECT_LE(before + LEN / 512, after);
	}
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, LEN, 5));
	close(mnt);
}

TEST_HARNESS_MAIN
