// SPDX-License-Identifier: GPL-2.0
/*
 * Without a server: what passthrough writes can still be made durable.
 */
#define _GNU_SOURCE
#include <sys/uio.h>

#include "io_test.h"

#define LEN	(64 * KIB)

FIXTURE(fsync_abort) {
	struct fuse_server s;
	char *buf;
	int fd, cached;
	long long sectors;
	unsigned long io;
};

FIXTURE_VARIANT(fsync_abort) { enum fuse_server_open how; };
FIXTURE_VARIANT_ADD(fsync_abort, request) { .how = OPEN_PASSTHROUGH };
FIXTURE_VARIANT_ADD(fsync_abort, id) { .how = OPEN_BACKING_ID };

/* The file is on the disk, its server gone. */
FIXTURE_SETUP(fsync_abort)
{
	int lower;

	ASSERT_EQ(0, fuse_server_start(&self->s));
	ASSERT_EQ(0, lower_make(&self->s, "f", LEN, 1));
	self->buf = pages(LEN);
	ASSERT_NE(NULL, self->buf);
	self->fd = fs_open(&self->s, variant->how, "f", O_RDWR);
	self->cached = fs_open(&self->s, OPEN_CACHED, "f", O_RDWR);
	ASSERT_LE(0, self->fd);
	ASSERT_LE(0, self->cached);
	lower = lower_open(&self->s, "f", O_RDWR);
	ASSERT_EQ(0, fsync(lower));
	close(lower);
	self->io = server_io(&self->s);
	fuse_server_die(&self->s);
	self->sectors = sectors_written(&self->s);
}

FIXTURE_TEARDOWN(fsync_abort)
{
	EXPECT_EQ(self->io, server_io(&self->s));
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, LEN, 2));
	close(self->fd);
	close(self->cached);
	fuse_server_stop(&self->s);
}

/* Did all of the file go to the disk?  True where there is none, as of tmpfs. */
static bool on_disk(FIXTURE_DATA(fsync_abort) * self)
{
	return self->sectors < 0 ||
		sectors_written(&self->s) - self->sectors >= LEN / 512;
}

/* fsync writes the lower file out, as does fdatasync. */
TEST_F_TIMEOUT(fsync_abort, fsync, IO_TIMEOUT)
{
	pattern(self->buf, LEN, 0, 3);
	ASSERT_EQ(LEN, pwrite(self->fd, self->buf, LEN, 0));
	ASSERT_EQ(0, fdatasync(self->fd));
	EXPECT_TRUE(on_disk(self));

	self->sectors = sectors_written(&self->s);
	pattern(self->buf, LEN, 0, 2);
	ASSERT_EQ(LEN, pwrite(self->fd, self->buf, LEN, 0));
	ASSERT_EQ(0, fsync(self->fd));
	EXPECT_TRUE(on_disk(self));
}

/* A write with RWF_DSYNC is durable when it returns. */
TEST_F_TIMEOUT(fsync_abort, dsync, IO_TIMEOUT)
{
	struct iovec iov = { self->buf, LEN };

	pattern(self->buf, LEN, 0, 2);
	ASSERT_EQ(LEN, pwritev2(self->fd, &iov, 1, 0, RWF_DSYNC));
	EXPECT_TRUE(on_disk(self));
}

/* So is a mapping after msync. */
TEST_F_TIMEOUT(fsync_abort, msync, IO_TIMEOUT)
{
	char *p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, self->fd, 0);

	ASSERT_NE(MAP_FAILED, p);
	pattern(p, LEN, 0, 2);
	ASSERT_EQ(0, msync(p, LEN, MS_SYNC));
	EXPECT_TRUE(on_disk(self));
	munmap(p, LEN);
}

/* What needs the server fails, also of the very same open file. */
TEST_F_TIMEOUT(fsync_abort, others, IO_TIMEOUT)
{
	pattern(self->buf, LEN, 0, 2);
	ASSERT_EQ(LEN, pwrite(self->fd, self->buf, LEN, 0));
	EXPECT_EQ(-1, ftruncate(self->fd, 0));
	EXPECT_EQ(ENOTCONN, errno);
	EXPECT_EQ(-1, fsync(self->cached));
	EXPECT_EQ(ENOTCONN, errno);
	EXPECT_EQ(-1, open(fuse_path(&self->s, "f"), O_RDONLY));
	EXPECT_EQ(ENOTCONN, errno);
}

TEST_HARNESS_MAIN
