// SPDX-License-Identifier: GPL-2.0
/*
 * ACLs of inodes that have extended attributes attached: the server's, or with
 * FUSE_POSIX_ACL those of the lower file
 */
#define _GNU_SOURCE
#include <string.h>
#include <sys/xattr.h>

#include "inode_test.h"
#include "../../kselftest_harness.h"

#define OPS	(OP(GETATTR) | OPS_XATTR)

static bool serve(struct fuse_server *s)
{
	s->xattrs = true;
	if (serve_inodes(s))
		return false;
	s->how = OPEN_CACHED;
	s->new_ops = OPS;
	return pair_make(s, 0644, USER, GROUP) && !lookup(s, "f") &&
		!s->inode_error && inodes_attached(s) == 2;
}

FIXTURE(inode_acl) {
	struct fuse_server s;
};

FIXTURE_SETUP(inode_acl)
{
	self->s.init = init_acl;
	ASSERT_TRUE(serve(&self->s));
}

FIXTURE_TEARDOWN(inode_acl)
{
	fuse_server_stop(&self->s);
}

/* A connection without FUSE_POSIX_ACL */
FIXTURE(inode_acl_off) {
	struct fuse_server s;
};

FIXTURE_SETUP(inode_acl_off)
{
	ASSERT_TRUE(serve(&self->s));
}

FIXTURE_TEARDOWN(inode_acl_off)
{
	fuse_server_stop(&self->s);
}

static unsigned long asked(struct fuse_server *s)
{
	return fuse_server_count(s, FUSE_GETXATTR) +
		fuse_server_count(s, FUSE_SETXATTR) +
		fuse_server_count(s, FUSE_REMOVEXATTR);
}

/* The server handles ACLs, because nothing else checks who owns the file. */
TEST_F_TIMEOUT(inode_acl_off, servers_acls, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	char acl[64];

	if (set_acl(lower_path(s, "peer")) == EOPNOTSUPP)
		SKIP(return, "has no ACLs");
	set_acl(fuse_path(s, "f"));
	EXPECT_EQ(1, fuse_server_count(s, FUSE_SETXATTR));
	getxattr(fuse_path(s, "f"), ACL, acl, sizeof(acl));
	EXPECT_EQ(1, fuse_server_count(s, FUSE_GETXATTR));
	removexattr(fuse_path(s, "f"), ACL);
	EXPECT_EQ(1, fuse_server_count(s, FUSE_REMOVEXATTR));
}

/*
 * The kernel sets ACLs of the lower file, for clients that may do so on the
 * lower file system, and drops setgid as there.
 */
TEST_F_TIMEOUT(inode_acl, as_on_the_lower_file_system, IO_TIMEOUT)
{
	static const mode_t modes[] = { 0644, 02755, 06755, 02644, 04711 };
	struct fuse_server *s = &self->s;
	enum client client;
	unsigned int i;
	char acl[64];
	int f, peer;

	peer = set_acl(lower_path(s, "peer"));
	if (peer == EOPNOTSUPP)
		SKIP(return, "has no ACLs");
	for (client = 0; client < CLIENTS; client++) {
		for (i = 0; i < ARRAY_SIZE(modes); i++) {
			removexattr(lower_path(s, "f"), ACL);
			removexattr(lower_path(s, "peer"), ACL);
			ASSERT_TRUE(pair_make(s, modes[i], USER, GROUP));
			client_become(client);
			peer = set_acl(lower_path(s, "peer"));
			f = set_acl(fuse_path(s, "f"));
			thread_become_root();
			EXPECT_EQ(peer, f)
				TH_LOG("client %d, mode %o", client, modes[i]);
			EXPECT_TRUE(pair_alike(s))
				TH_LOG("client %d, mode %o", client, modes[i]);
			EXPECT_EQ(getxattr(lower_path(s, "peer"), ACL, acl, sizeof(acl)),
				  getxattr(fuse_path(s, "f"), ACL, acl, sizeof(acl)));
		}
	}
	/* An ACL that was removed from the lower file is gone from the mount. */
	ASSERT_EQ(0, set_acl(fuse_path(s, "f")));
	ASSERT_EQ(0, removexattr(lower_path(s, "f"), ACL));
	EXPECT_EQ(-1, getxattr(fuse_path(s, "f"), ACL, acl, sizeof(acl)));
	EXPECT_EQ(ENODATA, errno);
	EXPECT_EQ(0, asked(s));
}

/*
 * The client's groups decide whether an ACL takes setgid away, not those of a
 * server without privilege that owns the file and is in its group.
 */
TEST_F_TIMEOUT(inode_acl, servers_group, IO_TIMEOUT)
{
	static const mode_t modes[] = { 02755, 02644 };
	struct fuse_server *s = &self->s;
	enum client client;
	unsigned int i;
	int fd;

	if (set_acl(lower_path(s, "peer")) == EOPNOTSUPP)
		SKIP(return, "has no ACLs");
	ASSERT_EQ(0, inode_detach(s, "f"));
	fd = lower_opath(s, "f");
	thread_become(USER, GROUP);
	EXPECT_EQ(0, inode_attach_fd(s, "f", fd, OPS));
	thread_become_root();
	close(fd);
	for (client = OWNER; client <= OWNER_MEMBER; client++) {
		for (i = 0; i < ARRAY_SIZE(modes); i++) {
			removexattr(lower_path(s, "f"), ACL);
			removexattr(lower_path(s, "peer"), ACL);
			ASSERT_TRUE(pair_make(s, modes[i], USER, GROUP));
			client_become(client);
			EXPECT_EQ(0, set_acl(lower_path(s, "peer")));
			EXPECT_EQ(0, set_acl(fuse_path(s, "f")));
			thread_become_root();
			EXPECT_TRUE(pair_alike(s))
				TH_LOG("client %d, mode %o", client, modes[i]);
			EXPECT_EQ(client == OWNER_MEMBER,
				  !!(lower_mode(s, "f") & S_ISGID));
		}
	}
	EXPECT_EQ(0, asked(s));
}

#define MANY	600	/* entries, more than an ext4 block can hold */

/* An ACL with an entry for each of many users.  Returns 0 or an errno. */
static int set_long_acl(const char *path)
{
	static char acl[64 + 8 * MANY];
	struct { uint16_t tag, perm; uint32_t id; } user = { 2, 7 };
	size_t len = acl_of(acl, OTHER, 5);
	unsigned int i;

	/* Insert them after the owner and the first user. */
	memmove(acl + 20 + 8 * MANY, acl + 20, len - 20);
	for (i = 0; i < MANY; i++) {
		user.id = 10000 + i;
		memcpy(acl + 20 + 8 * i, &user, 8);
	}
	return setxattr(path, ACL, acl, len + 8 * MANY, 0) ? errno : 0;
}

/*
 * An ACL that the lower file system does not take, because it has none, or none
 * of this length, leaves setgid as it was.
 */
TEST_F_TIMEOUT(inode_acl, refused, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	int f, peer, fd;
	struct stat st;

	ASSERT_TRUE(pair_make(s, 02755, USER, GROUP));
	client_become(OWNER);
	peer = set_long_acl(lower_path(s, "peer"));
	f = set_long_acl(fuse_path(s, "f"));
	thread_become_root();
	EXPECT_EQ(peer, f);
	EXPECT_TRUE(pair_alike(s)) TH_LOG("result %d", f);

	fd = file_on("ramfs", NULL, "f", O_RDWR | O_CREAT);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, fchown(fd, USER, GROUP));
	ASSERT_EQ(0, fchmod(fd, 02755));
	ASSERT_EQ(0, inode_detach(s, "f"));
	ASSERT_EQ(0, inode_attach_fd(s, "f", fd, OPS));
	client_become(OWNER);
	EXPECT_EQ(EOPNOTSUPP, set_acl(fuse_path(s, "f")));
	thread_become_root();
	ASSERT_EQ(0, fstat(fd, &st));
	EXPECT_EQ(02755, st.st_mode & 07777);
	EXPECT_EQ(0, inode_detach(s, "f"));
	close(fd);
	EXPECT_EQ(0, asked(s));
}

static void change_acl(struct queued *q)
{
	client_become(q->client);
	if (q->what)
		q->err = set_acl(fuse_path(q->s, "f"));
	else
		q->err = removexattr(fuse_path(q->s, "f"), ACL) ? errno : 0;
}

/*
 * An owner sets or removes an ACL, and waits for the lower inode's lock behind
 * a chown by the administrator.  The call is checked again with the lock held,
 * and refused, because the client is no longer the owner.
 */
TEST_F_TIMEOUT(inode_acl, races_with_chown, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	ssize_t had = 0;
	char acl[64];
	int what, i;

	if (set_acl(lower_path(s, "peer")) == EOPNOTSUPP)
		SKIP(return, "has no ACLs");
	for (what = 0; what < 2; what++) {
		struct queued below = { .call = chown_queued };
		struct queued client = {
			.call = change_acl, .client = OWNER_MEMBER, .what = what,
		};

		for (i = 0; i < TRIES && !client.err; i++) {
			removexattr(lower_path(s, "f"), ACL);
			ASSERT_TRUE(pair_make(s, 0644, USER, GROUP));
			if (!what)
				ASSERT_EQ(0, set_acl(lower_path(s, "f")));
			had = getxattr(lower_path(s, "f"), ACL, acl, sizeof(acl));
			/* The VFS checks the owner that was seen last. */
			ASSERT_EQ(0, lookup(s, "f"));
			if (!race(s, &below, &client))
				SKIP(return, "races_with_chown");
			ASSERT_EQ(0, below.err);
		}
		EXPECT_EQ(EPERM, client.err) TH_LOG("case %d", what);
		EXPECT_EQ(had, getxattr(lower_path(s, "f"), ACL, acl, sizeof(acl)));
	}
	EXPECT_EQ(0, asked(s));
}

TEST_HARNESS_MAIN
