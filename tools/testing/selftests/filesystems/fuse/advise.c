// SPDX-License-Identifier: GPL-2.0
/* fadvise and readahead on a passthrough open act on the lower file. */
#define _GNU_SOURCE
#include <linux/magic.h>

#include "io_test.h"
#include "../../kselftest_harness.h"

#define LEN	(512 * KIB)

FIXTURE(advise) {
	struct fuse_server s;
	int fd, twin;
	bool evicts;	/* the lower file system's pages can be dropped */
};

/* Number of pages of a lower file in its page cache */
static int resident(struct fuse_server *s, const char *name)
{
	size_t page = sysconf(_SC_PAGESIZE), i, nr = 0;
	unsigned char vec[LEN / PAGE];
	int fd = lower_open(s, name, O_RDWR);
	void *p = mmap(NULL, LEN, PROT_READ, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED || mincore(p, LEN, vec))
		return -1;
	for (i = 0; i < LEN / page; i++)
		nr += vec[i] & 1;
	munmap(p, LEN);
	close(fd);
	return nr;
}

/* Readahead continues after the call that started it. */
static bool becomes_resident(struct fuse_server *s, const char *name, int least)
{
	int nr;

	do {
		sched_yield();
		nr = resident(s, name);
	} while (nr >= 0 && nr < least);
	return nr >= least;
}

static int evict(struct fuse_server *s, const char *name)
{
	int fd = lower_open(s, name, O_RDWR), ret;

	ret = fsync(fd) ?: syncfs(s->dirfd);
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	close(fd);
	return ret ?: resident(s, name);
}

FIXTURE_SETUP(advise)
{
	ASSERT_EQ(0, fuse_server_start(&self->s));
	ASSERT_EQ(0, lower_make(&self->s, "f", LEN, 1));
	ASSERT_EQ(0, lower_make(&self->s, "twin", LEN, 1));
	self->evicts = !evict(&self->s, "f");
	ASSERT_EQ(self->evicts, !evict(&self->s, "twin"));
	self->fd = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDONLY);
	self->twin = lower_open(&self->s, "twin", O_RDONLY);
	ASSERT_LE(0, self->fd);
	ASSERT_LE(0, self->twin);
}

FIXTURE_TEARDOWN(advise)
{
	EXPECT_EQ(0, server_io(&self->s));
	close(self->fd);
	close(self->twin);
	fuse_server_stop(&self->s);
}

/* DONTNEED empties the lower file's page cache, as on the lower file itself. */
TEST_F_TIMEOUT(advise, dontneed, IO_TIMEOUT)
{
	char buf[4096];
	off_t off;

	for (off = 0; off < LEN; off += sizeof(buf)) {
		ASSERT_EQ(sizeof(buf), pread(self->fd, buf, sizeof(buf), off));
		ASSERT_EQ(sizeof(buf), pread(self->twin, buf, sizeof(buf), off));
	}
	ASSERT_EQ(resident(&self->s, "twin"), resident(&self->s, "f"));
	ASSERT_LT(0, resident(&self->s, "f"));
	ASSERT_EQ(0, posix_fadvise(self->fd, 0, 0, POSIX_FADV_DONTNEED));
	ASSERT_EQ(0, posix_fadvise(self->twin, 0, 0, POSIX_FADV_DONTNEED));
	EXPECT_EQ(resident(&self->s, "twin"), resident(&self->s, "f"));
	if (self->evicts) {
		EXPECT_EQ(0, resident(&self->s, "f"));
	}
}

/* WILLNEED and readahead() fill it. */
TEST_F_TIMEOUT(advise, willneed, IO_TIMEOUT)
{
	ASSERT_EQ(0, posix_fadvise(self->fd, 0, 64 * KIB, POSIX_FADV_WILLNEED));
	EXPECT_TRUE(becomes_resident(&self->s, "f", 64 * KIB / sysconf(_SC_PAGESIZE)));

	evict(&self->s, "f");
	ASSERT_EQ(0, readahead(self->fd, 0, 64 * KIB));
	EXPECT_TRUE(becomes_resident(&self->s, "f", 64 * KIB / sysconf(_SC_PAGESIZE)));
}

/* RANDOM stops the lower file's readahead, NORMAL brings it back. */
TEST_F_TIMEOUT(advise, random, IO_TIMEOUT)
{
	char c;

	ASSERT_EQ(0, posix_fadvise(self->fd, 0, 0, POSIX_FADV_RANDOM));
	ASSERT_EQ(1, pread(self->fd, &c, 1, 0));
	/*
	 * If the first read had started readahead, its pages would arrive
	 * before those of the second file.
	 */
	ASSERT_EQ(1, pread(self->twin, &c, 1, 0));
	EXPECT_TRUE(becomes_resident(&self->s, "twin", 2));
	if (self->evicts) {
		EXPECT_EQ(1, resident(&self->s, "f"));
	}

	evict(&self->s, "f");
	ASSERT_EQ(0, posix_fadvise(self->fd, 0, 0, POSIX_FADV_NORMAL));
	ASSERT_EQ(1, pread(self->fd, &c, 1, 0));
	EXPECT_TRUE(becomes_resident(&self->s, "f", 2));
}

/* Invalid arguments fail as on any regular file. */
TEST_F_TIMEOUT(advise, errors, IO_TIMEOUT)
{
	EXPECT_EQ(EINVAL, posix_fadvise(self->fd, 0, 0, 99));
	EXPECT_EQ(EINVAL, posix_fadvise(self->fd, 0, -1, POSIX_FADV_NORMAL));
}

/* A passthrough read leaves no pages in the page cache of the FUSE inode. */
TEST_F_TIMEOUT(advise, cached_once, IO_TIMEOUT)
{
	int direct = fs_open(&self->s, OPEN_CACHED, "f", O_RDONLY);
	size_t page = sysconf(_SC_PAGESIZE);
	static char buf[64 * KIB];
	unsigned char vec[LEN / PAGE] = {};
	void *p;

	ASSERT_LE(0, direct);
	ASSERT_EQ(sizeof(buf), pread(self->fd, buf, sizeof(buf), 0));
	/* A mapping of the cached open maps pages of the FUSE inode. */
	p = mmap(NULL, LEN, PROT_READ, MAP_SHARED, direct, 0);
	ASSERT_NE(MAP_FAILED, p);
	ASSERT_EQ(0, mincore(p, LEN, vec));
	EXPECT_TRUE(all_zero(vec, LEN / page));
	EXPECT_LE(64 * KIB / page, resident(&self->s, "f"));
	munmap(p, LEN);
	close(direct);
}

TEST_HARNESS_MAIN
