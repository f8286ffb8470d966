// SPDX-License-Identifier: GPL-2.0
/*
 * Direct writes that the server takes in parallel, beside passthrough opens of
 * the inode.
 */
#define _GNU_SOURCE
#include "inode_test.h"
#include "io_test.h"
#include "../../kselftest_harness.h"

#define LEN	(4 * PAGE)

FIXTURE(parallel) {
	struct fuse_server s;
	int direct;
};

FIXTURE_VARIANT(parallel) { enum fuse_server_open how; };
FIXTURE_VARIANT_ADD(parallel, by_request) { .how = OPEN_PASSTHROUGH };
FIXTURE_VARIANT_ADD(parallel, by_id) { .how = OPEN_BACKING_ID };
FIXTURE_VARIANT_ADD(parallel, by_inode) { .how = OPEN_BY_INODE };

FIXTURE_SETUP(parallel)
{
	self->s.permissions = variant->how == OPEN_BY_INODE;
	self->s.open_flags = FOPEN_PARALLEL_DIRECT_WRITES;
	self->direct = serve_file(&self->s, OPEN_DIRECT, LEN);
	ASSERT_LE(0, self->direct);
	self->s.open_flags = 0;
	if (variant->how == OPEN_BY_INODE)
		ASSERT_EQ(0, inode_attach(&self->s, "f", FUSE_SERVER_BY_INODE));
}

FIXTURE_TEARDOWN(parallel)
{
	fuse_server_release(&self->s);
	close(self->direct);
	fuse_server_stop(&self->s);
}

struct one_write {
	int fd;
	off_t off;
	ssize_t ret;
};

static void call_write(void *arg)
{
	struct one_write *w = arg;
	char buf[PAGE];

	memset(buf, 'h', sizeof(buf));
	w->ret = pwrite(w->fd, buf, sizeof(buf), w->off);
}

/* Number of WRITEs that the server has before it answers one; -1 if a write fails */
static int writes_at_once(struct fuse_server *s, int fd)
{
	struct one_write w[2] = { { .fd = fd }, { .fd = fd, .off = 2 * PAGE } };
	struct blocker b[2];
	bool blocked;
	int nr;

	fuse_server_hold(s, 'h');
	blocked = blocker_start(&b[0], call_write, &w[0]);
	blocked &= blocker_start(&b[1], call_write, &w[1]);
	/* The server reads requests in order, and answers this one. */
	access(fuse_path(s, "none"), F_OK);
	pthread_mutex_lock(&s->lock);
	nr = s->nr_held;
	pthread_mutex_unlock(&s->lock);
	fuse_server_release(s);
	blocker_join(&b[0]);
	blocker_join(&b[1]);

	return blocked && w[0].ret == PAGE && w[1].ret == PAGE ? nr : -1;
}

/* While the inode is open with passthrough, the server still gets them in parallel. */
TEST_F_TIMEOUT(parallel, beside, IO_TIMEOUT)
{
	char c;
	int fd;

	ASSERT_EQ(2, writes_at_once(&self->s, self->direct));
	fd = fs_open(&self->s, variant->how, "f", O_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_EQ(2, writes_at_once(&self->s, self->direct));

	ASSERT_EQ(1, pwrite(fd, "x", 1, 0));
	ASSERT_EQ(1, pread(fd, &c, 1, 2 * PAGE));
	EXPECT_EQ('h', c);
	EXPECT_EQ(4, server_io(&self->s));

	close(fd);
	EXPECT_EQ(2, writes_at_once(&self->s, self->direct));
}

TEST_HARNESS_MAIN
