// SPDX-License-Identifier: GPL-2.0
/*
 * Permissions of the client on an inode with GETATTR attached: those of mode,
 * owner and ACL that the lower file has at that moment.
 */
#define _GNU_SOURCE
#include <string.h>
#include <sys/xattr.h>

#include "inode_test.h"
#include "../../kselftest_harness.h"

#define LEN	10000

FIXTURE(inode_rights) {
	struct fuse_server s;
	unsigned long asked;	/* GETATTRs before the test */
};

FIXTURE_VARIANTS_WRITEBACK(inode_rights);

FIXTURE_SETUP(inode_rights)
{
	struct fuse_server *s = &self->s;

	s->writeback = variant->writeback;
	ASSERT_EQ(0, serve_tree(s, LEN));
	self->asked = fuse_server_count(s, FUSE_GETATTR);
}

FIXTURE_TEARDOWN(inode_rights)
{
	EXPECT_EQ(self->asked, fuse_server_count(&self->s, FUSE_GETATTR));
	fuse_server_stop(&self->s);
}

/* Number of requests so far that tell of rights, except GETATTR */
static unsigned long other_requests(struct fuse_server *s)
{
	return fuse_server_count(s, FUSE_LOOKUP) + fuse_server_count(s, FUSE_ACCESS) +
		fuse_server_count(s, FUSE_GETXATTR);
}

/*
 * The next permission check of an open uses the mode and owner that a chmod or
 * chown of the lower file has set, and so does O_NOATIME, which looks for the
 * owner in the FUSE inode itself.  No request but OPEN is sent.
 */
TEST_F_TIMEOUT(inode_rights, rights_of_file, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	unsigned long others = other_requests(s);
	int dirfd = s->dirfd, i;

	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, fchownat(dirfd, "f", 0, 0, 0));
		ASSERT_EQ(0, fchmodat(dirfd, "f", 0600, 0));
		EXPECT_EQ(EACCES, open_by(s, "f", USER, USER, O_RDONLY));
		EXPECT_EQ(EACCES, open_by(s, "f", OTHER, GROUP, O_RDONLY));
		ASSERT_EQ(0, fchmodat(dirfd, "f", 0604, 0));
		EXPECT_EQ(0, open_by(s, "f", USER, USER, O_RDONLY));
		EXPECT_EQ(EPERM, open_by(s, "f", USER, USER, O_RDONLY | O_NOATIME));
		EXPECT_EQ(EACCES, open_by(s, "f", USER, USER, O_RDWR));
		ASSERT_EQ(0, fchownat(dirfd, "f", USER, GROUP, 0));
		EXPECT_EQ(0, open_by(s, "f", USER, USER, O_RDWR | O_NOATIME));
		EXPECT_EQ(EACCES, open_by(s, "f", OTHER, GROUP, O_RDONLY));
		ASSERT_EQ(0, fchmodat(dirfd, "f", 0460, 0));
		EXPECT_EQ(EACCES, open_by(s, "f", USER, USER, O_WRONLY));
		EXPECT_EQ(0, open_by(s, "f", OTHER, GROUP, O_RDWR));
		EXPECT_EQ(EACCES, open_by(s, "f", OTHER, OTHER, O_RDONLY));
		ASSERT_EQ(0, fchownat(dirfd, "f", OTHER, 0, 0));
		EXPECT_EQ(EACCES, open_by(s, "f", USER, USER, O_RDONLY));
		EXPECT_EQ(0, open_by(s, "f", OTHER, GROUP, O_RDONLY | O_NOATIME));
	}
	EXPECT_EQ(others, other_requests(s));
}

/*
 * A path walk through attached directories uses the current permissions of the
 * lower directories, even if every name is cached.
 */
TEST_F_TIMEOUT(inode_rights, rights_of_walk, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	unsigned long requests = fuse_server_requests(s);
	int i;

	for (i = 0; i < 20; i++) {
		ASSERT_EQ(0, fchmodat(s->dirfd, "d", 0755, 0));
		EXPECT_EQ(0, access_by(s, "d/g", USER, R_OK));
		EXPECT_EQ(0, access_by(s, "d/g", USER, R_OK));
		ASSERT_EQ(0, fchmodat(s->dirfd, "d", 0700, 0));
		EXPECT_EQ(EACCES, access_by(s, "d/g", USER, R_OK));
		ASSERT_EQ(0, fchmodat(s->dirfd, "d", 0701, 0));
		EXPECT_EQ(0, access_by(s, "d/g", USER, F_OK));
		ASSERT_EQ(0, fchmodat(s->dirfd, ".", 0700, 0));
		EXPECT_EQ(EACCES, access_by(s, "d/g", USER, F_OK));
		ASSERT_EQ(0, fchmodat(s->dirfd, ".", 0755, 0));
		ASSERT_EQ(0, fchmodat(s->dirfd, "d", 0611, 0));
		EXPECT_EQ(0, access_by(s, "d/g", USER, F_OK));
		ASSERT_EQ(0, fchownat(s->dirfd, "d", USER, 0, 0));
		EXPECT_EQ(EACCES, access_by(s, "d/g", USER, F_OK));
		ASSERT_EQ(0, fchownat(s->dirfd, "d", 0, 0, 0));
	}
	EXPECT_EQ(requests, fuse_server_requests(s));
}

/* The ACL xattr, as the lower file system takes it */
struct acl_entry {
	uint16_t tag, perm;
	uint32_t id;
};

enum { ACL_USER_OBJ = 1, ACL_USER = 2, ACL_GROUP_OBJ = 4, ACL_MASK = 16, ACL_OTHER = 32 };

/* An ACL that permits @perm to @uid, and nothing to the group and to others */
static int lower_acl(struct fuse_server *s, const char *name, uid_t uid, int perm)
{
	struct {
		uint32_t version;
		struct acl_entry e[5];
	} acl = { 2, {
		{ ACL_USER_OBJ, 7, -1 }, { ACL_USER, perm, uid },
		{ ACL_GROUP_OBJ, 0, -1 }, { ACL_MASK, 7, -1 }, { ACL_OTHER, 0, -1 },
	} };

	return setxattr(lower_path(s, name), ACL, &acl,
			sizeof(acl), 0) ? errno : 0;
}

static int lower_no_acl(struct fuse_server *s, const char *name)
{
	return removexattr(lower_path(s, name), ACL) ? errno : 0;
}

FIXTURE(inode_acl) {
	struct fuse_server s;
};

FIXTURE_VARIANT(inode_acl) { bool posix_acl; };
FIXTURE_VARIANT_ADD(inode_acl, negotiated) { .posix_acl = true };
FIXTURE_VARIANT_ADD(inode_acl, not_negotiated) { .posix_acl = false };

FIXTURE_SETUP(inode_acl)
{
	struct fuse_server *s = &self->s;
	int err;

	s->xattrs = true;
	if (variant->posix_acl)
		s->init = init_acl;
	ASSERT_EQ(0, serve_inodes(s));
	s->how = OPEN_CACHED;
	ASSERT_EQ(0, lower_make(s, "f", LEN, 1));
	ASSERT_EQ(0, mkdirat(s->dirfd, "d", 0700));
	ASSERT_EQ(0, lower_make(s, "d/g", LEN, 1));
	ASSERT_EQ(0, fchmodat(s->dirfd, "f", 0600, 0));
	err = lower_acl(s, "f", USER, 4);
	if (err) {
		ASSERT_EQ(EOPNOTSUPP, err);
		SKIP(return, "has no ACLs");
	}
	ASSERT_EQ(0, lower_no_acl(s, "f"));
	ASSERT_EQ(0, fchmodat(s->dirfd, "f", 0600, 0));
	s->new_ops = OP(GETATTR);
	ASSERT_EQ(0, lookup(s, "f"));
	ASSERT_EQ(0, lookup(s, "d"));
	ASSERT_EQ(0, lookup(s, "d/g"));
	ASSERT_EQ(4, inodes_attached(s));
}

FIXTURE_TEARDOWN(inode_acl)
{
	EXPECT_EQ(0, fuse_server_count(&self->s, FUSE_GETXATTR));
	fuse_server_stop(&self->s);
}

/*
 * The ACL of the lower file decides as soon as it is set and until it is
 * removed.  The group bits of the mode, which then are the mask, permit nothing
 * to the group.  No GETXATTR is sent.
 */
TEST_F_TIMEOUT(inode_acl, rights_of_file, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	int i;

	ASSERT_EQ(0, fchownat(s->dirfd, "f", 0, GROUP, 0));
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(EACCES, open_by(s, "f", USER, USER, O_RDONLY));
		ASSERT_EQ(0, lower_acl(s, "f", USER, 4));
		EXPECT_EQ(0, open_by(s, "f", USER, USER, O_RDONLY));
		EXPECT_EQ(EACCES, open_by(s, "f", USER, USER, O_RDWR));
		EXPECT_EQ(EACCES, open_by(s, "f", OTHER, OTHER, O_RDONLY));
		EXPECT_EQ(EACCES, open_by(s, "f", OTHER, GROUP, O_RDONLY));
		ASSERT_EQ(0, lower_acl(s, "f", USER, 6));
		EXPECT_EQ(0, open_by(s, "f", USER, USER, O_RDWR));
		ASSERT_EQ(0, lower_acl(s, "f", OTHER, 6));
		EXPECT_EQ(EACCES, open_by(s, "f", USER, USER, O_RDONLY));
		EXPECT_EQ(0, open_by(s, "f", OTHER, OTHER, O_RDWR));
		ASSERT_EQ(0, lower_no_acl(s, "f"));
		ASSERT_EQ(0, fchmodat(s->dirfd, "f", 0600, 0));
		EXPECT_EQ(EACCES, open_by(s, "f", OTHER, OTHER, O_RDONLY));
	}
}

/* The ACL of a directory on the path decides likewise, even if every name is cached. */
TEST_F_TIMEOUT(inode_acl, rights_of_walk, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	int i;

	ASSERT_EQ(0, fchownat(s->dirfd, "d", 0, GROUP, 0));
	for (i = 0; i < 10; i++) {
		EXPECT_EQ(EACCES, access_by(s, "d/g", USER, F_OK));
		ASSERT_EQ(0, lower_acl(s, "d", USER, 1));
		EXPECT_EQ(0, access_by(s, "d/g", USER, F_OK));
		EXPECT_EQ(EACCES, access_by(s, "d/g", OTHER, F_OK));
		EXPECT_EQ(EACCES, access_by(s, "d/g", GROUP, F_OK));
		ASSERT_EQ(0, lower_acl(s, "d", USER, 0));
		EXPECT_EQ(EACCES, access_by(s, "d/g", USER, F_OK));
		ASSERT_EQ(0, lower_no_acl(s, "d"));
		ASSERT_EQ(0, fchmodat(s->dirfd, "d", 0700, 0));
	}
}

/* The test itself starts the server. */
FIXTURE(own_server) {
	struct fuse_server s;
};

FIXTURE_SETUP(own_server)
{
	self->s.permissions = true;
}

FIXTURE_TEARDOWN(own_server)
{
}

/* Without default_permissions the server checks, whatever the lower mode is. */
TEST_F_TIMEOUT(own_server, server_checks, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;

	s->permissions = false;
	ASSERT_EQ(0, fuse_server_start(s));
	ASSERT_EQ(0, fchmodat(s->dirfd, ".", 0700, 0));
	ASSERT_EQ(0, lower_make(s, "f", LEN, 1));
	ASSERT_EQ(0, fchmodat(s->dirfd, "f", 0600, 0));
	s->new_ops = OP(GETATTR);
	s->how = OPEN_CACHED;
	ASSERT_EQ(0, lookup(s, "f"));
	ASSERT_EQ(0, inode_attach(s, ".", OP(GETATTR)));
	ASSERT_EQ(2, inodes_attached(s));
	EXPECT_EQ(0, open_by(s, "f", USER, USER, O_RDWR));
	fuse_server_stop(s);
}

/*
 * Without default_permissions the lower mode still decides, at once, whether a
 * file can be executed at all.
 */
TEST_F_TIMEOUT(own_server, exec_bit, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	int i;

	s->permissions = false;
	ASSERT_EQ(0, fuse_server_start(s));
	ASSERT_EQ(0, lower_make(s, "f", LEN, 1));
	s->new_ops = OP(GETATTR);
	ASSERT_EQ(0, lookup(s, "f"));
	ASSERT_EQ(1, inodes_attached(s));
	for (i = 0; i < 5; i++) {
		char *argv[] = { "f", NULL };
		int status;
		pid_t pid;

		ASSERT_EQ(0, fchmodat(s->dirfd, "f", i & 1 ? 0755 : 0644, 0));
		pid = fork();
		if (!pid) {
			execv(fuse_path(s, "f"), argv);
			_exit(errno);
		}
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		/* The file is not a program. */
		EXPECT_EQ(i & 1 ? ENOEXEC : EACCES, WEXITSTATUS(status));
	}
	EXPECT_EQ(0, fuse_server_count(s, FUSE_GETATTR));
	fuse_server_stop(s);
}

/*
 * In a sticky directory the lower owner of a file decides who may remove the
 * file, at once after a chown of the lower file.
 */
TEST_F_TIMEOUT(own_server, sticky, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	int i, err;

	ASSERT_EQ(0, fuse_server_start(s));
	ASSERT_EQ(0, fchmodat(s->dirfd, ".", 0755, 0));
	ASSERT_EQ(0, mkdirat(s->dirfd, "d", 0755));
	s->new_ops = OP(GETATTR);
	ASSERT_EQ(0, lookup(s, "d"));
	ASSERT_EQ(0, fchmodat(s->dirfd, "d", 01777, 0));
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, lower_make(s, "d/g", LEN, 1));
		ASSERT_EQ(0, fchownat(s->dirfd, "d/g", i ? OTHER : USER, 0, 0));
		ASSERT_EQ(0, lookup(s, "d/g"));
		ASSERT_EQ(0, fchownat(s->dirfd, "d/g", i ? USER : OTHER, 0, 0));
		thread_become(USER, USER);
		err = unlink(fuse_path(s, "d/g")) ? errno : 0;
		thread_become_root();
		EXPECT_EQ(i ? 0 : EPERM, err);
		EXPECT_EQ(i, fuse_server_count(s, FUSE_UNLINK));
	}
	fuse_server_stop(s);
}

TEST_HARNESS_MAIN
