// SPDX-License-Identifier: GPL-2.0
/* Who may register and close backing ids, and whose credentials I/O by id uses */
#define _GNU_SOURCE
#include <linux/capability.h>
#include <linux/landlock.h>
#include <sys/prctl.h>

#include "id_test.h"
#include "../../kselftest_harness.h"

#define USER	1000

FIXTURE(id_creds) {
	struct fuse_server s;
	struct id_answer a;
	struct own_fs fs;
};

FIXTURE_SETUP(id_creds)
{
	ASSERT_EQ(0, serve_ids(&self->s, &self->a, &self->fs));
}

FIXTURE_TEARDOWN(id_creds)
{
	fuse_server_stop(&self->s);
	/* Ids end with the connection. */
	EXPECT_TRUE(own_fs_free(&self->fs));
	own_fs_end(&self->fs);
}

/*
 * Become USER with the capabilities @caps.  Called in a child; cannot be
 * undone.
 */
static void become(uint32_t caps)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2] = {
		{ .effective = caps, .permitted = caps },
	};

	if (prctl(PR_SET_KEEPCAPS, 1) || setresuid(USER, USER, USER) ||
	    syscall(SYS_capset, &h, d))
		_exit(255);
}

/* Returns the result of @call in a child, which is below 255, or -1. */
static int in_child(int (*call)(struct fuse_server *s, int arg),
		    struct fuse_server *s, int arg)
{
	pid_t pid = fork();

	if (!pid)
		_exit(call(s, arg));
	return child_status(pid);
}

/* Returns 0 if neither ioctl is permitted. */
static int neither_permitted(struct fuse_server *s, int id)
{
	int fd = lower_open(s, "f", O_RDWR);

	return fd < 0 || id_open(s->dev, fd) != -EPERM ||
		id_open(s->dev, -1) != -EPERM ||
		id_close(s->dev, id) != EPERM ||
		id_close(s->dev, 0) != EPERM;
}

static int as_root_without_it(struct fuse_server *s, int id)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2];

	if (syscall(SYS_capget, &h, d))
		return 255;
	d[0].effective &= ~(1U << CAP_SYS_ADMIN);
	if (syscall(SYS_capset, &h, d))
		return 255;
	return neither_permitted(s, id);
}

static int as_user_with_others(struct fuse_server *s, int id)
{
	become(1U << CAP_DAC_OVERRIDE | 1U << CAP_SYS_RAWIO);
	return neither_permitted(s, id);
}

static int in_user_namespace(struct fuse_server *s, int id)
{
	int fd = lower_open(s, "f", O_RDWR);

	/* All capabilities in the new namespace, none in the initial one. */
	if (unshare(CLONE_NEWUSER))
		return 255;
	return id_open(s->dev, fd) != -EPERM || id_close(s->dev, id) != EPERM;
}

/*
 * Without CAP_SYS_ADMIN in the initial user namespace, registering and closing
 * are EPERM, whatever other error there is.
 */
TEST_F_TIMEOUT(id_creds, not_privileged, IO_TIMEOUT)
{
	int fd, id = id_of(&self->s, "f", O_RDWR);

	ASSERT_LT(0, id);
	ASSERT_EQ(0, fchmodat(self->s.dirfd, "f", 0666, 0));
	EXPECT_EQ(0, in_child(as_root_without_it, &self->s, id));
	EXPECT_EQ(0, in_child(as_user_with_others, &self->s, id));
	EXPECT_EQ(0, in_child(in_user_namespace, &self->s, id));
	fd = client_open(&self->s, id, O_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 1, true));
	close(fd);
}

static int register_as_user(struct fuse_server *s, int arg)
{
	int fd = lower_open(s, "f", O_RDWR);

	become(1U << CAP_SYS_ADMIN);
	return id_open(s->dev, fd);
}

static int write_as_user(struct fuse_server *s, int id)
{
	struct stat st;
	int fd;

	become(0);
	if (open(lower_path(s, "f"), O_RDWR) >= 0)
		return 1;
	fd = client_open(s, id, O_RDWR);
	if (fd < 0 || pwrite(fd, "x", 1, 0) != 1 || fstat(fd, &st))
		return 2;
	return (st.st_mode & 07777) == 0700 ? 0 : 3;
}

static int write_as_root(struct fuse_server *s, int id)
{
	int fd = client_open(s, id, O_RDWR);

	return pwrite(fd, "x", 1, 0) != 1;
}

/*
 * I/O uses the credentials of the task that registered the id, not of the task
 * that replies: root's writes drop set-user-ID if that task may not keep it,
 * and keep it if it may.  A user can write a file that only the server can
 * open, and drops set-user-ID.
 */
TEST_F_TIMEOUT(id_creds, credentials, IO_TIMEOUT)
{
	int root = id_of(&self->s, "f", O_RDWR);
	int user = in_child(register_as_user, &self->s, 0);

	ASSERT_LT(0, root);
	ASSERT_LT(0, user);
	ASSERT_NE(255, user);
	self->s.attr_valid = 0;
	/* The server replies from this process; a child cannot set this. */
	self->a.id = root;
	ASSERT_EQ(0, fchmodat(self->s.dirfd, "f", 04700, 0));
	EXPECT_EQ(0, write_as_root(&self->s, root));
	EXPECT_EQ(04700, lower_mode(&self->s, "f"));
	EXPECT_EQ(0, in_child(write_as_user, &self->s, root));
	EXPECT_EQ(0700, lower_mode(&self->s, "f"));

	ASSERT_EQ(0, chmod(fuse_path(&self->s, "f"), 04700));
	EXPECT_EQ(0, write_as_root(&self->s, user));
	EXPECT_EQ(0700, lower_mode(&self->s, "f"));
	EXPECT_EQ(0, server_io(&self->s));
}

/*
 * Returns 0 if a client that Landlock limits to the mount reads the lower file
 * only by id; 255 without Landlock.
 */
static int read_in_landlock(struct fuse_server *s, int arg)
{
	struct landlock_ruleset_attr files = {
		.handled_access_fs = LANDLOCK_ACCESS_FS_READ_FILE |
			LANDLOCK_ACCESS_FS_WRITE_FILE,
	};
	struct landlock_path_beneath_attr beneath = {
		.allowed_access = files.handled_access_fs,
		.parent_fd = open(s->mnt, O_PATH | O_CLOEXEC),
	};
	char buf[LEN];
	int rules, fd;

	rules = syscall(SYS_landlock_create_ruleset, &files, sizeof(files), 0);
	if (rules < 0)
		return 255;
	if (syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH,
		    &beneath, 0) ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    syscall(SYS_landlock_restrict_self, rules, 0))
		return 1;
	if (open(lower_path(s, "f"), O_RDONLY) >= 0 || errno != EACCES)
		return 2;
	fd = open(fuse_path(s, "f"), O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return 3;
	return pread(fd, buf, LEN, 0) != LEN ||
		pattern_differs(buf, LEN, 0, 1) != -1 ? 4 : 0;
}

/*
 * The lower open uses the server's credentials: Landlock limits only the
 * client.
 */
TEST_F_TIMEOUT(id_creds, confined_client, IO_TIMEOUT)
{
	int ret;

	self->a.id = id_of(&self->s, "f", O_RDWR);
	ASSERT_LT(0, self->a.id);
	ret = in_child(read_in_landlock, &self->s, 0);
	if (ret == 255)
		SKIP(return, "no Landlock");
	EXPECT_EQ(0, ret);
	EXPECT_EQ(0, server_io(&self->s));
}

TEST_HARNESS_MAIN
