// SPDX-License-Identifier: GPL-2.0
/*
 * Durability of passthrough writes when the server is gone.
 */
#define _GNU_SOURCE
#include <sys/uio.h>

#include "attach_test.h"
#include "../../kselftest_harness.h"

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

/* The file is on disk and the server is gone. */
FIXTURE_SETUP(fsync_abort)
{
	int lower;

	self->fd = serve_file(&self->s, variant->how, LEN);
	self->buf = pages(LEN);
	ASSERT_NE(NULL, self->buf);
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

/*
 * Was the whole file written to disk since that number of sectors?  True
 * without a disk, as on tmpfs.
 */
static bool all_written(struct fuse_server *s, long long sectors)
{
	return sectors < 0 || sectors_written(s) - sectors >= LEN / 512;
}

static bool on_disk(FIXTURE_DATA(fsync_abort) * self)
{
	return all_written(&self->s, self->sectors);
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

/* Stores to a mapping are durable after msync. */
TEST_F_TIMEOUT(fsync_abort, msync, IO_TIMEOUT)
{
	char *p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, self->fd, 0);

	ASSERT_NE(MAP_FAILED, p);
	pattern(p, LEN, 0, 2);
	ASSERT_EQ(0, msync(p, LEN, MS_SYNC));
	EXPECT_TRUE(on_disk(self));
	munmap(p, LEN);
}

/* Operations that need the server fail, also on the same open file. */
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

/* The server dies, or answers with an error, while it has an FSYNC. */
FIXTURE(fsync_flight) {
	struct fuse_server s;
	char *buf;
	int fd, lower;
	/* Handles each FSYNC, in the server thread. */
	bool (*on_fsync)(FIXTURE_DATA(fsync_flight) * self, uint64_t unique);
	int clone, error;
	long long sectors;
};

FIXTURE_VARIANTS_WRITEBACK(fsync_flight);

static bool flight_request(struct fuse_server *s, const struct fuse_in_header *in)
{
	FIXTURE_DATA(fsync_flight) *self = s->arg;

	return in->opcode == FUSE_FSYNC && self->on_fsync &&
		self->on_fsync(self, in->unique);
}

FIXTURE_SETUP(fsync_flight)
{
	self->s.writeback = variant->writeback;
	self->s.request = flight_request;
	self->s.arg = self;
	self->clone = -1;
	self->fd = serve_file(&self->s, OPEN_PASSTHROUGH, LEN);
	self->buf = pages(LEN);
	ASSERT_NE(NULL, self->buf);
	self->lower = lower_open(&self->s, "f", O_RDWR);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, fsync(self->lower));
	pattern(self->buf, LEN, 0, 2);
	ASSERT_EQ(LEN, pwrite(self->fd, self->buf, LEN, 0));
	self->sectors = sectors_written(&self->s);
}

FIXTURE_TEARDOWN(fsync_flight)
{
	EXPECT_EQ(0, server_io(&self->s));
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, LEN, 2));
	close(self->fd);
	close(self->lower);
	fuse_server_stop(&self->s);
}

/* Continue on the clone; closing the other device ends its requests. */
static bool next_device(FIXTURE_DATA(fsync_flight) * self, uint64_t unique)
{
	int dev = self->s.dev;

	self->on_fsync = NULL;
	self->s.dev = self->clone;
	close(dev);
	return true;
}

/*
 * One of two devices is closed while it has the FSYNC: FSYNC is sent again and
 * answered on the other device.  The lower file is not synced in addition.
 */
TEST_F_TIMEOUT(fsync_flight, one_device, IO_TIMEOUT)
{
	self->clone = clone_dev(self->s.dev);
	ASSERT_LE(0, self->clone);
	self->on_fsync = next_device;
	ASSERT_EQ(0, fsync(self->fd));
	EXPECT_EQ(2, fuse_server_count(&self->s, FUSE_FSYNC));
	EXPECT_TRUE(all_written(&self->s, self->sectors));
	/* The server is alive. */
	EXPECT_EQ(0, ftruncate(self->fd, LEN));
	EXPECT_EQ(0, fsync(self->fd));
	EXPECT_EQ(3, fuse_server_count(&self->s, FUSE_FSYNC));
}

static bool no_device(FIXTURE_DATA(fsync_flight) * self, uint64_t unique)
{
	int dev = self->s.dev;

	self->s.dev = -1;
	close(dev);
	return true;
}

/* The last device is closed: fsync syncs the lower file. */
TEST_F_TIMEOUT(fsync_flight, last_device, IO_TIMEOUT)
{
	self->on_fsync = no_device;
	ASSERT_EQ(0, fsync(self->fd));
	EXPECT_EQ(1, fuse_server_count(&self->s, FUSE_FSYNC));
	EXPECT_TRUE(all_written(&self->s, self->sectors));
	EXPECT_EQ(-1, ftruncate(self->fd, LEN));
	EXPECT_EQ(ENOTCONN, errno);
}

static bool no_answer(FIXTURE_DATA(fsync_flight) * self, uint64_t unique)
{
	return true;
}

static void call_fsync(void *arg)
{
	FIXTURE_DATA(fsync_flight) *self = arg;

	self->error = fsync(self->fd) ? errno : 0;
}

/* If the connection is aborted before the answer, fsync syncs the lower file. */
TEST_F_TIMEOUT(fsync_flight, abort, IO_TIMEOUT)
{
	struct blocker b;

	self->on_fsync = no_answer;
	EXPECT_TRUE(blocker_start(&b, call_fsync, self));
	fuse_server_wait(&self->s, FUSE_FSYNC, 1);
	fuse_server_die(&self->s);
	blocker_join(&b);
	EXPECT_EQ(0, self->error);
	EXPECT_EQ(1, fuse_server_count(&self->s, FUSE_FSYNC));
	EXPECT_TRUE(all_written(&self->s, self->sectors));
}

static bool answer_error(FIXTURE_DATA(fsync_flight) * self, uint64_t unique)
{
	fuse_server_reply(&self->s, unique, -self->error, NULL, 0);
	return true;
}

/*
 * A server that itself answers with these errors gets at most two FSYNCs, and its
 * error is returned.
 */
TEST_F_TIMEOUT(fsync_flight, own_error, IO_TIMEOUT)
{
	self->on_fsync = answer_error;
	self->error = ECONNABORTED;
	EXPECT_EQ(-1, fsync(self->fd));
	EXPECT_EQ(ECONNABORTED, errno);
	EXPECT_EQ(2, fuse_server_count(&self->s, FUSE_FSYNC));
	self->error = ENOTCONN;
	EXPECT_EQ(-1, fsync(self->fd));
	EXPECT_EQ(ENOTCONN, errno);
	EXPECT_EQ(3, fuse_server_count(&self->s, FUSE_FSYNC));
}

/*
 * Dirty pages of a cached handle are lost with the server: fsync of a
 * passthrough handle makes its own writes durable, and reports the loss once.
 */
FIXTURE(fsync_lost) {
	struct fuse_server s;
	char *buf;
	int fd, cached;
};

FIXTURE_VARIANT(fsync_lost) { enum fuse_server_open how; };
FIXTURE_VARIANT_ADD(fsync_lost, request) { .how = OPEN_PASSTHROUGH };
FIXTURE_VARIANT_ADD(fsync_lost, id) { .how = OPEN_BACKING_ID };

FIXTURE_SETUP(fsync_lost)
{
	self->s.writeback = true;
	self->fd = serve_file(&self->s, variant->how, LEN);
	self->buf = pages(LEN);
	ASSERT_NE(NULL, self->buf);
	self->cached = fs_open(&self->s, OPEN_CACHED, "f", O_RDWR);
	ASSERT_LE(0, self->fd);
	ASSERT_LE(0, self->cached);

	pattern(self->buf, LEN, 0, 2);
	ASSERT_EQ(LEN, pwrite(self->fd, self->buf, LEN, 0));
	/* The WRITE, which may be sent at any time, has no effect. */
	fuse_server_hold(&self->s, 'l');
	memset(self->buf, 'l', PAGE);
	ASSERT_EQ(PAGE, pwrite(self->cached, self->buf, PAGE, PAGE));
}

FIXTURE_TEARDOWN(fsync_lost)
{
	long long sectors = sectors_written(&self->s);

	EXPECT_EQ(-1, fsync(self->fd));
	EXPECT_TRUE(errno == ENOTCONN || errno == ECONNABORTED) {
		TH_LOG("errno %d", errno);
	}
	EXPECT_TRUE(all_written(&self->s, sectors));
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, LEN, 2));
	EXPECT_EQ(0, fsync(self->fd));
	close(self->fd);
	if (self->cached >= 0)
		close(self->cached);
	fuse_server_stop(&self->s);
}

/* The pages are dirty when fsync is called. */
TEST_F_TIMEOUT(fsync_lost, dirty, IO_TIMEOUT)
{
	fuse_server_die(&self->s);
}

/* The WRITE of the pages was in flight when the server died. */
TEST_F_TIMEOUT(fsync_lost, in_flight, IO_TIMEOUT)
{
	ASSERT_EQ(0, sync_file_range(self->cached, 0, 0, SYNC_FILE_RANGE_WRITE));
	fuse_server_wait_held(&self->s, 1);
	fuse_server_die(&self->s);
}

/* Writeback of the pages failed before fsync. */
TEST_F_TIMEOUT(fsync_lost, written_back, IO_TIMEOUT)
{
	fuse_server_die(&self->s);
	ASSERT_EQ(0, sync_file_range(self->cached, 0, 0, SYNC_FILE_RANGE_WRITE));
}

/* The handle that dirtied the pages was closed before. */
TEST_F_TIMEOUT(fsync_lost, closed, IO_TIMEOUT)
{
	fuse_server_die(&self->s);
	close(self->cached);
	self->cached = -1;
}

TEST_HARNESS_MAIN
