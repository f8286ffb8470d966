// SPDX-License-Identifier: GPL-2.0
/*
 * Connections that have attached a lower file to an inode send no LOOKUP before
 * an O_EXCL create, because their servers honour O_EXCL.
 */
#define _GNU_SOURCE
#include <string.h>

#include "inode_test.h"
#include "../../kselftest_harness.h"

#define LEN	BLOCK
#define EXCL	(O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC)

FIXTURE(inode_excl) {
	struct fuse_server s;
	unsigned long lookups;
};

FIXTURE_SETUP(inode_excl)
{
	struct fuse_server *s = &self->s;

	ASSERT_EQ(0, serve_inodes(s));
	s->how = OPEN_CACHED;
	ASSERT_EQ(0, lower_make(s, "f", LEN, 1));
	self->lookups = fuse_server_count(s, FUSE_LOOKUP);
}

FIXTURE_TEARDOWN(inode_excl)
{
	fuse_server_stop(&self->s);
}

static unsigned long lookups(FIXTURE_DATA(inode_excl) *self)
{
	unsigned long now = fuse_server_count(&self->s, FUSE_LOOKUP);
	unsigned long since = now - self->lookups;

	self->lookups = now;
	return since;
}

/* One CREATE creates a new name; later calls find the name without a LOOKUP. */
TEST_F_TIMEOUT(inode_excl, creates, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	struct stat st, st2;
	int fd;

	fd = open(fuse_path(s, "new"), EXCL, 0600);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, lookups(self));
	EXPECT_EQ(1, fuse_server_count(s, FUSE_CREATE));
	ASSERT_EQ(5, write(fd, "12345", 5));
	ASSERT_EQ(0, fstat(fd, &st));
	ASSERT_EQ(0, stat(fuse_path(s, "new"), &st2));
	EXPECT_EQ(st.st_ino, st2.st_ino);
	EXPECT_EQ(5, st2.st_size);
	EXPECT_EQ(0, lookups(self));
	close(fd);
	EXPECT_EQ(0, unlink(fuse_path(s, "new")));
	EXPECT_EQ(-1, stat(fuse_path(s, "new"), &st));
}

/*
 * An O_EXCL create of a name that exists is EEXIST, whether or not the kernel
 * knows the name.
 */
TEST_F_TIMEOUT(inode_excl, exists, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	struct stat st;

	EXPECT_EQ(-1, open(fuse_path(s, "f"), EXCL, 0600));
	EXPECT_EQ(EEXIST, errno);
	EXPECT_EQ(0, lookups(self));
	EXPECT_EQ(1, fuse_server_count(s, FUSE_CREATE));
	ASSERT_EQ(0, stat(fuse_path(s, "f"), &st));
	EXPECT_EQ(LEN, st.st_size);
	EXPECT_EQ(1, lookups(self));
	EXPECT_EQ(-1, open(fuse_path(s, "f"), EXCL, 0600));
	EXPECT_EQ(EEXIST, errno);
	EXPECT_EQ(-1, lower_differs(s, "f", 0, LEN, 1));
}

/* A client that may not write to the directory gets EACCES, and nothing is created. */
TEST_F_TIMEOUT(inode_excl, no_permission, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	int fd;

	thread_become(USER, USER);
	fd = open(fuse_path(s, "new"), EXCL, 0600);
	EXPECT_EQ(-1, fd);
	EXPECT_EQ(EACCES, errno);
	/* A name that exists is EEXIST for every client. */
	fd = open(fuse_path(s, "f"), EXCL, 0600);
	EXPECT_EQ(-1, fd);
	EXPECT_EQ(EEXIST, errno);
	thread_become_root();
	EXPECT_EQ(0, fuse_server_count(s, FUSE_CREATE));
	EXPECT_EQ(-1, faccessat(s->dirfd, "new", F_OK, 0));
}

static bool no_create(struct fuse_server *s, const struct fuse_in_header *in)
{
	if (in->opcode != FUSE_CREATE)
		return false;
	fuse_server_reply(s, in->unique, -ENOSYS, NULL, 0);
	return true;
}

/* A server without CREATE gets LOOKUP, MKNOD and OPEN, for the first file too. */
TEST_F_TIMEOUT(inode_excl, no_create, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	char name[] = "new0";
	int fd, i;

	s->request = no_create;
	for (i = 0; i < 2; i++, name[3]++) {
		fd = open(fuse_path(s, name), EXCL, 0600);
		ASSERT_LE(0, fd) TH_LOG("%d", errno);
		EXPECT_EQ(1, lookups(self));
		EXPECT_EQ(1, fuse_server_count(s, FUSE_CREATE));
		EXPECT_EQ(i + 1, fuse_server_count(s, FUSE_MKNOD));
		ASSERT_EQ(5, write(fd, "12345", 5));
		close(fd);
		EXPECT_EQ(-1, open(fuse_path(s, name), EXCL, 0600));
		EXPECT_EQ(EEXIST, errno);
		/* O_EXCL sends LOOKUP for a known name too, as without passthrough. */
		EXPECT_EQ(1, lookups(self));
	}
}

/* Creates without O_EXCL still send LOOKUP first. */
TEST_F_TIMEOUT(inode_excl, not_exclusive, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	int fd = open(fuse_path(s, "new"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	ASSERT_LE(0, fd);
	EXPECT_EQ(1, lookups(self));
	close(fd);
}

static bool ignores_excl(struct fuse_server *s, const struct fuse_in_header *in)
{
	if (in->opcode == FUSE_CREATE)
		((struct fuse_create_in *)(in + 1))->flags &= ~O_EXCL;
	return false;
}

/*
 * A connection that never attached to an inode sends LOOKUP first: there the
 * kernel itself returns EEXIST.
 */
TEST_F_TIMEOUT(inode_excl, other_connections, IO_TIMEOUT)
{
	struct fuse_server s = { .permissions = true };
	struct stat st;

	ASSERT_EQ(0, fuse_server_start(&s));
	ASSERT_EQ(0, lower_make(&s, "f", LEN, 1));
	ASSERT_EQ(0, stat(s.mnt, &st));
	s.request = ignores_excl;
	EXPECT_EQ(-1, open(fuse_path(&s, "f"), EXCL, 0600));
	EXPECT_EQ(EEXIST, errno);
	EXPECT_EQ(1, fuse_server_count(&s, FUSE_LOOKUP));
	EXPECT_EQ(0, fuse_server_count(&s, FUSE_CREATE));
	fuse_server_stop(&s);
}

TEST_HARNESS_MAIN
