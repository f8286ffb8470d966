// SPDX-License-Identifier: GPL-2.0
/*
 * Attributes other than the size after passthrough I/O are right with the next
 * stat, although the server allows an hour of caching.
 */
#define _GNU_SOURCE
#include <sys/mount.h>

#include "async_test.h"
#include "attr_test.h"
#include "../../kselftest_harness.h"

#define LEN	(64 * KIB)

FIXTURE(attr_times) {
	struct fuse_server s;
	char *buf;
	int fd, lower;
};

FIXTURE_VARIANTS_WRITEBACK(attr_times);

FIXTURE_SETUP(attr_times)
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

FIXTURE_TEARDOWN(attr_times)
{
	EXPECT_EQ(0, server_io(&self->s));
	close(self->fd);
	close(self->lower);
	fuse_server_stop(&self->s);
}

/*
 * A stat shows mtime, ctime and blocks of the lower file after each kind of
 * write.
 */
TEST_F_TIMEOUT(attr_times, times_after_write, IO_TIMEOUT)
{
	struct uring u;
	struct stat st;
	int i, p[2];

	ASSERT_EQ(0, uring_setup(&u, 4));
	ASSERT_EQ(0, pipe(p));
	for (i = 0; i < 5; i++) {
		make_old(&self->s, "f");
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
TEST_F_TIMEOUT(attr_times, times_after_mapping, IO_TIMEOUT)
{
	char *p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, self->fd, 0);
	struct stat st;
	int i;

	ASSERT_NE(MAP_FAILED, p);
	for (i = 0; i < 3; i++) {
		make_old(&self->s, "f");
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
TEST_F_TIMEOUT(attr_times, times_set, IO_TIMEOUT)
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
TEST_F_TIMEOUT(attr_times, no_times_flushed, IO_TIMEOUT)
{
	struct stat before, after;

	ASSERT_EQ(10, pwrite(self->fd, self->buf, 10, 0));
	make_old(&self->s, "f");
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
TEST_F_TIMEOUT(attr_times, asked_once, IO_TIMEOUT)
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
TEST_F_TIMEOUT(attr_times, asked_after_setattr, IO_TIMEOUT)
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

/*
 * Attributes of a LOOKUP after a write do not hide the next write, after which
 * no GETATTR was sent yet.
 */
TEST_F_TIMEOUT(attr_times, lookup_between_writes, IO_TIMEOUT)
{
	unsigned long lookups = fuse_server_count(&self->s, FUSE_LOOKUP);

	ASSERT_EQ(10, pwrite(self->fd, self->buf, 10, 0));
	ASSERT_EQ(0, forget_dentry(&self->s, "f"));
	ASSERT_EQ(0, access(fuse_path(&self->s, "f"), F_OK));
	ASSERT_EQ(lookups + 1, fuse_server_count(&self->s, FUSE_LOOKUP));
	wait_tick();
	ASSERT_EQ(10, pwrite(self->fd, self->buf, 10, 0));
	EXPECT_TRUE(same_attrs(&self->s, self->fd));
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

TEST_HARNESS_MAIN
