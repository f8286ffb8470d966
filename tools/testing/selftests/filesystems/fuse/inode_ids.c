// SPDX-License-Identifier: GPL-2.0
/*
 * Owners of attached inodes where ids are mapped: by the lower mount, or by the
 * user namespace of the server.
 */
#define _GNU_SOURCE
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "inode_test.h"
#include "../../kselftest_harness.h"

#define LEN	10000
#define MAPPED	2000
#define INNER	100000	/* first id of the user namespace, seen from outside */

/* Each test starts the server itself, with the lower file "f". */
FIXTURE(inode_ids) {
	struct fuse_server s;
};

FIXTURE_SETUP(inode_ids)
{
	self->s.permissions = true;
	ASSERT_EQ(0, chmod("/dev/fuse", 0666));
}

FIXTURE_TEARDOWN(inode_ids)
{
}

/*
 * On an idmapped lower mount, stats and permission checks use owners as that
 * mount maps them, at once after a chown of the lower file.
 */
TEST_F_TIMEOUT(inode_ids, idmapped_lower, IO_TIMEOUT)
{
	char at[] = "/tmp/idmap.XXXXXX", path[64];
	struct fuse_server *s = &self->s;
	struct stat st;
	int err, i;

	ASSERT_EQ(0, fuse_server_start(s));
	ASSERT_EQ(0, fchmodat(s->dirfd, ".", 0755, 0));
	ASSERT_EQ(0, lower_make(s, "f", LEN, 1));
	ASSERT_NE(NULL, mkdtemp(at));
	err = idmapped(s->dirfd, at, USER, MAPPED);
	if (err) {
		EXPECT_EQ(EINVAL, err);
		fuse_server_stop(s);
		rmdir(at);
		SKIP(return, "idmapped_lower");
	}
	snprintf(path, sizeof(path), "%s/f", at);
	fuse_server_node(s, "f")->ops = OP(GETATTR);
	fuse_server_node(s, "f")->lower = path;
	s->how = OPEN_CACHED;
	ASSERT_EQ(0, fchmodat(s->dirfd, "f", 0600, 0));
	ASSERT_EQ(0, lookup(s, "f"));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, fchownat(s->dirfd, "f", USER, USER, 0));
		ASSERT_EQ(0, stat(fuse_path(s, "f"), &st));
		EXPECT_EQ(MAPPED, st.st_uid);
		EXPECT_EQ(MAPPED, st.st_gid);
		EXPECT_EQ(0, open_by(s, "f", MAPPED, MAPPED, O_RDWR));
		EXPECT_EQ(EACCES, open_by(s, "f", USER, USER, O_RDONLY));
		ASSERT_EQ(0, fchownat(s->dirfd, "f", 0, 0, 0));
		EXPECT_EQ(EACCES, open_by(s, "f", MAPPED, MAPPED, O_RDONLY));
		/*
		 * An owner that the mount does not map is shown as the overflow
		 * id, and owns the file for no client.
		 */
		ASSERT_EQ(0, fchownat(s->dirfd, "f", OTHER, OTHER, 0));
		EXPECT_EQ(EACCES, open_by(s, "f", OTHER, OTHER, O_RDONLY));
		EXPECT_EQ(EACCES, open_by(s, "f", 65534, 65534, O_RDONLY));
		ASSERT_EQ(0, stat(fuse_path(s, "f"), &st));
		EXPECT_EQ(65534, st.st_uid);
		EXPECT_EQ(65534, st.st_gid);
		/* Without a mapped owner the file cannot be opened for writing. */
		ASSERT_EQ(0, fchmodat(s->dirfd, "f", 0666, 0));
		EXPECT_EQ(EACCES, open_by(s, "f", USER, USER, O_WRONLY));
		EXPECT_EQ(0, open_by(s, "f", USER, USER, O_RDONLY));
		ASSERT_EQ(0, fchmodat(s->dirfd, "f", 0600, 0));
	}
	EXPECT_EQ(1, inodes_attached(s));
	fuse_server_stop(s);
	umount2(at, MNT_DETACH);
	rmdir(at);
}

static int sock[2];

/* Let the parent, which is root outside, chown the lower "f". */
static bool chown_outside(struct fuse_server *s, uid_t uid)
{
	struct { char path[256]; uid_t uid; } m = { .uid = uid };
	char c;

	snprintf(m.path, sizeof(m.path), "%s/f", s->lower);
	return write(sock[1], &m, sizeof(m)) == sizeof(m) && read(sock[1], &c, 1) == 1;
}

#define NEED(cond)	do { if (!(cond)) return __LINE__; } while (0)

/*
 * Run in a user namespace that maps its first 70000 ids to INNER and
 * up.  Returns 0 or the line of the first failure.
 */
static int inner_server(struct fuse_server *s)
{
	struct stat st;
	char c;
	int fd;

	NEED(!unshare(CLONE_NEWUSER));
	NEED(write(sock[1], "", 1) == 1 && read(sock[1], &c, 1) == 1);
	NEED(!setresgid(0, 0, 0) && !setresuid(0, 0, 0) && !prctl(PR_SET_DUMPABLE, 1));
	NEED(!fuse_server_start(s) && !fchmodat(s->dirfd, ".", 0755, 0));
	NEED(!lower_make(s, "f", LEN, 1) && !fchmodat(s->dirfd, "f", 0600, 0));
	/* This descriptor stays open when the owner of the file changes. */
	s->how = OPEN_CACHED;
	fuse_server_node(s, "f")->ops = OP(GETATTR);
	NEED(!lookup(s, "f") && !s->inode_error);
	fd = open(fuse_path(s, "f"), O_RDONLY | O_CLOEXEC);
	NEED(fd >= 0);

	NEED(chown_outside(s, INNER + 5));
	NEED(!fstat(fd, &st) && st.st_uid == 5 && st.st_gid == 5);
	NEED(!open_by(s, "f", 5, 5, O_RDONLY));
	NEED(open_by(s, "f", 6, 6, O_RDONLY) == EACCES);
	NEED(chown_outside(s, INNER + 6));
	NEED(open_by(s, "f", 5, 5, O_RDONLY) == EACCES);

	/*
	 * For an unmapped owner no client is the owner: neither root nor a
	 * client that has the overflow id, which stat shows.
	 */
	NEED(chown_outside(s, 7));
	NEED(!fstat(fd, &st) && st.st_uid == 65534 && st.st_gid == 65534);
	NEED(open_by(s, "f", 65534, 65534, O_RDONLY) == EACCES);
	NEED(open_by(s, "f", 7, 7, O_RDONLY) == EACCES);
	NEED(open_by(s, "f", 0, 0, O_RDONLY) == EACCES);
	/* The root has nothing attached, so that its attributes cost one GETATTR. */
	NEED(fuse_server_count(s, FUSE_GETATTR) <= 1);
	return 0;
}

/*
 * In a user namespace, stats and permission checks use owners as that namespace
 * maps them.  An unmapped owner is shown as the overflow id, and is no client.
 */
TEST_F_TIMEOUT(inode_ids, user_namespace, IO_TIMEOUT)
{
	struct { char path[256]; uid_t uid; } m;
	char path[64], map[64], c;
	int status;
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sock));
	pid = fork();
	if (!pid) {
		int line = inner_server(&self->s);

		if (line)
			fprintf(stderr, "# line %d, %d\n", line, errno);
		close(sock[1]);
		_exit(!!line);
	}
	close(sock[1]);
	ASSERT_EQ(1, read(sock[0], &c, 1));
	snprintf(map, sizeof(map), "0 %u 70000", INNER);
	snprintf(path, sizeof(path), "/proc/%d/uid_map", pid);
	ASSERT_TRUE(write_file(path, map));
	snprintf(path, sizeof(path), "/proc/%d/gid_map", pid);
	ASSERT_TRUE(write_file(path, map));
	ASSERT_EQ(1, write(sock[0], "", 1));
	while (read(sock[0], &m, sizeof(m)) == sizeof(m)) {
		EXPECT_EQ(0, chown(m.path, m.uid, m.uid));
		ASSERT_EQ(1, write(sock[0], "", 1));
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	unlink(m.path);
	*strrchr(m.path, '/') = 0;
	rmdir(m.path);
}

TEST_HARNESS_MAIN
