// SPDX-License-Identifier: GPL-2.0
/* Extended attributes and symlink targets of inodes that have these operations attached */
#define _GNU_SOURCE
#include <sched.h>
#include <string.h>
#include <linux/fs.h>
#include <sys/xattr.h>

#include "inode_test.h"
#include "../../kselftest_harness.h"

#define LEN	BLOCK
#define OPS	(OP(GETATTR) | OPS_XATTR)

FIXTURE(inode_xattr) {
	struct fuse_server s;
	bool user;		/* the lower file system has user.* */
};

FIXTURE_VARIANT(inode_xattr) { bool posix_acl; };
FIXTURE_VARIANT_ADD(inode_xattr, plain) { .posix_acl = false };
FIXTURE_VARIANT_ADD(inode_xattr, posix_acl) { .posix_acl = true };

FIXTURE_SETUP(inode_xattr)
{
	struct fuse_server *s = &self->s;

	s->xattrs = true;
	if (variant->posix_acl)
		s->init = init_acl;
	ASSERT_EQ(0, serve_inodes(s));
	s->how = OPEN_CACHED;
	ASSERT_TRUE(pair_make(s, 0644, USER, GROUP));
	ASSERT_EQ(0, mkdirat(s->dirfd, "d", 0755));
	self->user = !setxattr(lower_path(s, "f"), "user.a", "1", 1, 0) &&
		!setxattr(lower_path(s, "peer"), "user.a", "1", 1, 0);
	s->new_ops = OPS;
	ASSERT_EQ(0, lookup(s, "f"));
	ASSERT_EQ(0, lookup(s, "d"));
	ASSERT_EQ(0, s->inode_error);
	ASSERT_EQ(3, inodes_attached(s));
}

FIXTURE_TEARDOWN(inode_xattr)
{
	fuse_server_stop(&self->s);
}

static unsigned long asked(struct fuse_server *s)
{
	return fuse_server_count(s, FUSE_GETXATTR) +
		fuse_server_count(s, FUSE_LISTXATTR) +
		fuse_server_count(s, FUSE_SETXATTR) +
		fuse_server_count(s, FUSE_REMOVEXATTR);
}

/*
 * setxattr(), getxattr(), listxattr() and removexattr() of files and
 * directories act on the lower file, without a request.
 */
TEST_F_TIMEOUT(inode_xattr, each_call, IO_TIMEOUT)
{
	static const char *names[] = { "user.x", "trusted.x", "security.x" };
	static const char *files[] = { "f", "d" };
	struct fuse_server *s = &self->s;
	char value[300], big[300], list[2][1024];
	unsigned int i, j;
	ssize_t n;

	if (!self->user)
		SKIP(return, "has no user.*");
	memset(big, 'b', sizeof(big));
	for (i = 0; i < ARRAY_SIZE(files); i++) {
		const char *path = fuse_path(s, files[i]);
		char *low = strdup(lower_path(s, files[i]));

		for (j = 0; j < ARRAY_SIZE(names); j++) {
			ASSERT_EQ(0, setxattr(path, names[j], big, 257, 0))
				TH_LOG("%s: %d", names[j], errno);
			EXPECT_EQ(257, getxattr(low, names[j], value, sizeof(value)));
			EXPECT_EQ(0, memcmp(value, big, 257));
			EXPECT_EQ(257, getxattr(path, names[j], NULL, 0));
			EXPECT_EQ(-1, getxattr(path, names[j], value, 10));
			EXPECT_EQ(ERANGE, errno);
			EXPECT_EQ(-1, setxattr(path, names[j], "v", 1, XATTR_CREATE));
			EXPECT_EQ(EEXIST, errno);
			ASSERT_EQ(0, setxattr(low, names[j], "new", 3, 0));
			EXPECT_EQ(3, getxattr(path, names[j], value, sizeof(value)));
			n = listxattr(path, list[0], sizeof(list[0]));
			EXPECT_EQ(n, listxattr(low, list[1], sizeof(list[1])));
			EXPECT_EQ(0, memcmp(list[0], list[1], n));
			EXPECT_EQ(n, listxattr(path, NULL, 0));
			ASSERT_EQ(0, removexattr(path, names[j]));
			EXPECT_EQ(-1, getxattr(low, names[j], value, sizeof(value)));
			EXPECT_EQ(ENODATA, errno);
			EXPECT_EQ(-1, getxattr(path, names[j], value, sizeof(value)));
			EXPECT_EQ(ENODATA, errno);
			EXPECT_EQ(-1, removexattr(path, names[j]));
			EXPECT_EQ(ENODATA, errno);
		}
		free(low);
	}
	EXPECT_EQ(0, asked(s));
}

/* A call by a client.  Returns 0 or an errno. */
static int try_xattr(int what, const char *path)
{
	char value[100];
	int ret;

	errno = 0;
	switch (what) {
	case 0:
		ret = getxattr(path, "user.a", value, sizeof(value));
		break;
	case 1:
		ret = setxattr(path, "user.a", "2", 1, 0);
		break;
	case 2:
		ret = setxattr(path, "user.b", "2", 1, 0);
		break;
	case 3:
		ret = removexattr(path, "user.b");
		break;
	case 4:
		ret = getxattr(path, "trusted.t", value, sizeof(value));
		break;
	case 5:
		ret = setxattr(path, "trusted.t", "2", 1, 0);
		break;
	case 6:
		ret = removexattr(path, "trusted.t");
		break;
	case 7:
		ret = setxattr(path, "security.s", "2", 1, 0);
		break;
	case 8:
		ret = getxattr(path, "security.s", value, sizeof(value));
		break;
	case 9:
		ret = removexattr(path, "security.s");
		break;
	case 10:
		ret = listxattr(path, value, sizeof(value));
		break;
	default:
		return -1;
	}
	return ret < 0 ? errno : 0;
}

#define TRIALS	11

/* For each client, mode and call the result is that on the lower file system. */
TEST_F_TIMEOUT(inode_xattr, clients_rights, IO_TIMEOUT)
{
	static const mode_t modes[] = { 0644, 0600, 0660, 0444, 0622, 0000, 0666, 01777 };
	struct fuse_server *s = &self->s;
	enum client client;
	unsigned int i, owned;
	int what, f, peer;

	if (!self->user)
		SKIP(return, "has no user.*");
	for (client = 0; client < CLIENTS; client++) {
		for (i = 0; i < ARRAY_SIZE(modes); i++) {
			for (owned = 0; owned < 2; owned++) {
				ASSERT_TRUE(pair_make(s, modes[i], owned ? USER : 0,
						      GROUP));
				for (what = 0; what < TRIALS; what++) {
					client_become(client);
					peer = try_xattr(what, lower_path(s, "peer"));
					f = try_xattr(what, fuse_path(s, "f"));
					thread_become_root();
					EXPECT_EQ(peer, f)
						TH_LOG("client %d, mode %o, call %d",
						       client, modes[i], what);
				}
			}
		}
	}
	EXPECT_EQ(0, asked(s));
}

/* btrfs lists trusted.* for every client; FUSE lists it only for clients that may read it. */
static ssize_t without_trusted(char *list, ssize_t n)
{
	ssize_t kept = 0, len;
	char *name;

	for (name = list; name < list + n; name += len) {
		len = strlen(name) + 1;
		if (strncmp(name, "trusted.", 8)) {
			memmove(list + kept, name, len);
			kept += len;
		}
	}
	return kept;
}

/* listxattr() returns the names that the client may see, not those that the server may see. */
TEST_F_TIMEOUT(inode_xattr, clients_list, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	char f[200], peer[200];
	enum client client;
	ssize_t n;

	if (!self->user)
		SKIP(return, "has no user.*");
	ASSERT_EQ(0, try_xattr(5, lower_path(s, "f")));
	ASSERT_EQ(0, try_xattr(5, lower_path(s, "peer")));
	ASSERT_EQ(0, try_xattr(2, lower_path(s, "f")));
	ASSERT_EQ(0, try_xattr(2, lower_path(s, "peer")));
	for (client = 0; client < CLIENTS; client++) {
		client_become(client);
		n = listxattr(lower_path(s, "peer"), peer, sizeof(peer));
		if (client != ROOT)
			n = without_trusted(peer, n);
		EXPECT_EQ(n, listxattr(fuse_path(s, "f"), f, sizeof(f)));
		thread_become_root();
		EXPECT_LT(0, n);
		EXPECT_EQ(0, memcmp(f, peer, n)) TH_LOG("client %d", client);
	}
	EXPECT_EQ(0, asked(s));
}

static const uint32_t cap[5] = { 0x02000001, 1 << 13 };

#define CAPS	"security.capability"

/* Does the file have @cap, or no capability? */
static bool caps_are(const char *path, bool any)
{
	char value[64];
	ssize_t len = getxattr(path, CAPS, value, sizeof(value));

	if (!any)
		return len < 0 && errno == ENODATA;
	return len == sizeof(cap) && !memcmp(value, cap, sizeof(cap));
}

/*
 * Only a privileged client can set and remove the file capabilities of the lower
 * file.  The owner may not remove them either, although the lower file system
 * permits that if the kernel has the BPF LSM of Linux 6.1.
 */
TEST_F_TIMEOUT(inode_xattr, capabilities, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	const char *path = fuse_path(s, "f");
	char *low = strdup(lower_path(s, "f"));
	enum client client;
	int err, remove;

	for (client = 0; client < CLIENTS; client++) {
		for (remove = 0; remove < 2; remove++) {
			ASSERT_TRUE(pair_make(s, 0755, USER, GROUP));
			removexattr(low, CAPS);
			if (remove)
				ASSERT_EQ(0, setxattr(low, CAPS, cap, sizeof(cap), 0));
			client_become(client);
			if (remove)
				err = removexattr(path, CAPS) ? errno : 0;
			else
				err = setxattr(path, CAPS, cap, sizeof(cap), 0) ?
					errno : 0;
			thread_become_root();
			EXPECT_EQ(client == ROOT ? 0 : EPERM, err)
				TH_LOG("client %d, remove %d", client, remove);
			EXPECT_TRUE(caps_are(low, (client == ROOT) != remove))
				TH_LOG("client %d, remove %d", client, remove);
			EXPECT_TRUE(caps_are(path, (client == ROOT) != remove))
				TH_LOG("client %d, remove %d", client, remove);
		}
	}
	EXPECT_EQ(0, asked(s));
	free(low);
}

/*
 * A server in a user namespace of its own mounts a file system there, of which
 * it is the administrator, and attaches a file of it.
 */
static int attach_own_fs(struct fuse_server *s, uint64_t ops)
{
	int fd;

	if (unshare(CLONE_NEWUSER | CLONE_NEWNS) ||
	    !write_file("/proc/self/uid_map", "0 0 1") ||
	    !write_file("/proc/self/setgroups", "deny") ||
	    !write_file("/proc/self/gid_map", "0 0 1") ||
	    mount("own", s->lower, "tmpfs", 0, NULL))
		return 1;
	fd = open(lower_path(s, "f"), O_RDWR | O_CREAT | O_CLOEXEC, 0755);
	if (fd < 0 || fsetxattr(fd, "security.s", "1", 1, 0))
		return 2;
	return inode_attach_fd(s, "f", fd, ops) ? 3 : 0;
}

/*
 * A server of another user namespace than the FUSE file system's cannot have a
 * client set or remove capabilities, or another attribute in "security.", not
 * even on a file system of which it is the administrator.
 */
TEST_F_TIMEOUT(inode_xattr, servers_namespace, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	const char *path = fuse_path(s, "f");
	char value[64];
	pid_t pid;

	ASSERT_EQ(0, inode_detach(s, "f"));
	pid = fork();
	if (!pid)
		_exit(attach_own_fs(s, OPS));
	ASSERT_EQ(0, child_status(pid));
	EXPECT_EQ(1, getxattr(path, "security.s", value, sizeof(value)));
	EXPECT_EQ(-1, setxattr(path, CAPS, cap, sizeof(cap), 0));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(-1, getxattr(path, CAPS, value, sizeof(value)));
	EXPECT_EQ(ENODATA, errno);
	EXPECT_EQ(-1, setxattr(path, "security.s", "2", 1, 0));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(-1, removexattr(path, "security.s"));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(1, getxattr(path, "security.s", value, sizeof(value)));
	EXPECT_EQ('1', value[0]);
	EXPECT_EQ(0, asked(s));
}

/*
 * Root's call through an unprivileged server ends as that server's own call on
 * the lower file system.
 */
TEST_F_TIMEOUT(inode_xattr, servers_rights, IO_TIMEOUT)
{
	static const mode_t modes[] = { 0644, 0600, 0444, 0622, 0000, 0666 };
	struct fuse_server *s = &self->s;
	int what, f, peer, owned;
	unsigned int i;

	if (!self->user)
		SKIP(return, "has no user.*");
	ASSERT_EQ(0, inode_detach(s, "f"));
	ASSERT_EQ(0, inode_attach_as(s, "f", USER, OPS));
	for (owned = 0; owned < 2; owned++) {
		for (i = 0; i < ARRAY_SIZE(modes); i++) {
			ASSERT_TRUE(pair_make(s, modes[i], owned ? USER : 0, 0));
			for (what = 0; what < TRIALS; what++) {
				f = try_xattr(what, fuse_path(s, "f"));
				client_become(OWNER);
				peer = try_xattr(what, lower_path(s, "peer"));
				thread_become_root();
				EXPECT_EQ(peer, f)
					TH_LOG("owned %d, mode %o, call %d", owned,
					       modes[i], what);
			}
		}
	}
}

/* A read-only mount and an immutable file accept no setxattr() and no removexattr(). */
TEST_F_TIMEOUT(inode_xattr, not_written, IO_TIMEOUT)
{
	char at[] = "/tmp/ro.XXXXXX", path[64];
	struct fuse_server *s = &self->s;

	if (!self->user)
		SKIP(return, "has no user.*");
	ASSERT_NE(NULL, mkdtemp(at));
	ASSERT_EQ(0, mount(s->lower, at, NULL, MS_BIND, NULL));
	ASSERT_EQ(0, mount(NULL, at, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL));
	snprintf(path, sizeof(path), "%s/f", at);
	ASSERT_EQ(0, inode_detach(s, "f"));
	ASSERT_EQ(0, inode_attach_path(s, "f", path, OPS));
	EXPECT_EQ(0, try_xattr(0, fuse_path(s, "f")));
	EXPECT_EQ(EROFS, try_xattr(1, fuse_path(s, "f")));
	EXPECT_EQ(EROFS, try_xattr(5, fuse_path(s, "f")));
	EXPECT_EQ(-1, removexattr(fuse_path(s, "f"), "user.a"));
	EXPECT_EQ(EROFS, errno);
	EXPECT_EQ(0, inode_detach(s, "f"));
	umount(at);
	rmdir(at);

	ASSERT_EQ(0, inode_attach(s, "f", OPS));
	if (lower_flags(s, "f", FS_IMMUTABLE_FL))
		SKIP(return, "not_written");
	EXPECT_EQ(EPERM, try_xattr(1, fuse_path(s, "f")));
	EXPECT_EQ(EPERM, try_xattr(5, fuse_path(s, "f")));
	EXPECT_EQ(-1, removexattr(fuse_path(s, "f"), "user.a"));
	EXPECT_EQ(EPERM, errno);
	ASSERT_EQ(0, lower_flags(s, "f", 0));
	EXPECT_EQ(0, asked(s));
}

static void change_attribute(struct queued *q)
{
	client_become(q->client);
	q->err = setxattr(fuse_path(q->s, "f"), "user.a", "9", 1, 0) ? errno : 0;
}

/*
 * The owner of a file that only the owner may write to sets an attribute, and
 * waits for the lower inode's lock behind a chown by the administrator.  The call
 * is checked again with the lock held, and refused.
 */
TEST_F_TIMEOUT(inode_xattr, attribute_races_with_chown, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	struct queued below = { .call = chown_queued };
	struct queued client = { .call = change_attribute, .client = OWNER_MEMBER };
	char value[10];
	int i;

	if (!self->user)
		SKIP(return, "has no user.*");
	for (i = 0; i < TRIES && !client.err; i++) {
		ASSERT_TRUE(pair_make(s, 0644, USER, GROUP));
		ASSERT_EQ(0, setxattr(lower_path(s, "f"), "user.a", "1", 1, 0));
		ASSERT_EQ(0, lookup(s, "f"));
		if (!race(s, &below, &client))
			SKIP(return, "attribute_races_with_chown");
		ASSERT_EQ(0, below.err);
	}
	EXPECT_EQ(EACCES, client.err);
	EXPECT_EQ(1, getxattr(lower_path(s, "f"), "user.a", value, sizeof(value)));
	EXPECT_EQ('1', value[0]);
	EXPECT_EQ(0, asked(s));
}

/* Names in "system." other than those of ACLs go to the server. */
TEST_F_TIMEOUT(inode_xattr, other_system_names, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	const char *path = fuse_path(s, "f");
	char value[10];

	EXPECT_EQ(-1, getxattr(path, "system.other", value, sizeof(value)));
	EXPECT_EQ(1, fuse_server_count(s, FUSE_GETXATTR));
	EXPECT_EQ(-1, setxattr(path, "system.other", "1", 1, 0));
	EXPECT_EQ(1, fuse_server_count(s, FUSE_SETXATTR));
	EXPECT_EQ(-1, removexattr(path, "system.other"));
	EXPECT_EQ(1, fuse_server_count(s, FUSE_REMOVEXATTR));
}

/* After an abort each call is ENOTCONN. */
TEST_F_TIMEOUT(inode_xattr, not_connected, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	int busy = open(s->mnt, O_PATH | O_CLOEXEC);
	int fd = open(fuse_path(s, "f"), O_RDWR | O_CLOEXEC);
	char value[10];

	if (!self->user)
		SKIP(return, "has no user.*");
	ASSERT_LE(0, fd);
	fuse_server_die(s);
	EXPECT_EQ(-1, fgetxattr(fd, "trusted.x", value, sizeof(value)));
	EXPECT_EQ(ENOTCONN, errno);
	EXPECT_EQ(-1, fsetxattr(fd, "user.a", "9", 1, 0));
	EXPECT_EQ(ENOTCONN, errno);
	EXPECT_EQ(1, getxattr(lower_path(s, "f"), "user.a", value, sizeof(value)));
	EXPECT_EQ('1', value[0]);
	close(fd);
	close(busy);
}

FIXTURE(inode_link) {
	struct fuse_server s;
};

FIXTURE_SETUP(inode_link)
{
	struct fuse_server *s = &self->s;

	s->permissions = true;
	ASSERT_EQ(0, fuse_server_start(s));
	ASSERT_EQ(0, lower_make(s, "f", LEN, 1));
	ASSERT_EQ(0, symlinkat("f", s->dirfd, "l"));
	s->new_ops = OP(READLINK) | OP(GETATTR);
	ASSERT_EQ(0, lookup(s, "l"));
	ASSERT_EQ(0, s->inode_error);
	ASSERT_EQ(1, inodes_attached(s));
	s->new_ops = 0;
}

FIXTURE_TEARDOWN(inode_link)
{
	fuse_server_stop(&self->s);
}

/* A symlink, a long one too, is read and followed without a READLINK. */
TEST_F_TIMEOUT(inode_link, readlink, IO_TIMEOUT)
{
	static char target[1000], got[4096];
	struct fuse_server *s = &self->s;
	struct stat st;

	EXPECT_EQ(1, readlink(fuse_path(s, "l"), got, sizeof(got)));
	EXPECT_EQ('f', got[0]);
	EXPECT_EQ(0, stat(fuse_path(s, "l"), &st));
	EXPECT_EQ(LEN, st.st_size);

	memset(target, 'x', sizeof(target) - 1);
	ASSERT_EQ(0, symlinkat(target, s->dirfd, "long"));
	s->new_ops = OP(READLINK);
	EXPECT_EQ(sizeof(target) - 1, readlink(fuse_path(s, "long"), got, sizeof(got)));
	EXPECT_EQ(0, memcmp(target, got, sizeof(target) - 1));
	EXPECT_EQ(2, inodes_attached(s));
	EXPECT_EQ(0, fuse_server_count(s, FUSE_READLINK));

	/* Without the attached operation readlink() sends READLINK. */
	ASSERT_EQ(0, inode_detach(s, "l"));
	EXPECT_EQ(1, readlink(fuse_path(s, "l"), got, sizeof(got)));
	EXPECT_EQ(1, fuse_server_count(s, FUSE_READLINK));
}

TEST_HARNESS_MAIN
