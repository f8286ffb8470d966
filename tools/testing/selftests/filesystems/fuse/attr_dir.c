// SPDX-License-Identifier: GPL-2.0
/*
 * Attributes of a directory with default_permissions: a change of its entries
 * does not invalidate attributes that it does not affect.
 */
#define _GNU_SOURCE
#include "attr_test.h"
#include "../../kselftest_harness.h"

FIXTURE(attr_dir) {
	struct fuse_server s;
	unsigned int asked;
};

/* Counts GETATTRs of the directory */
static bool dir_request(struct fuse_server *s, const struct fuse_in_header *in)
{
	FIXTURE_DATA(attr_dir) *self = s->arg;

	if (in->opcode == FUSE_GETATTR && in->nodeid == FUSE_ROOT_ID)
		__atomic_add_fetch(&self->asked, 1, __ATOMIC_RELAXED);
	return false;
}

FIXTURE_SETUP(attr_dir)
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

FIXTURE_TEARDOWN(attr_dir)
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
TEST_F_TIMEOUT(attr_dir, changes_do_not_ask, IO_TIMEOUT)
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
static bool dir_is_right(FIXTURE_DATA(attr_dir) * self)
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
TEST_F_TIMEOUT(attr_dir, fresh_after_changes, IO_TIMEOUT)
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
