// SPDX-License-Identifier: GPL-2.0
/*
 * OPEN attached: programs run from the lower file, as the modes and the mounts
 * of both file systems permit.
 */
#define _GNU_SOURCE
#include <string.h>
#include <sys/xattr.h>

#include "inode_test.h"
#include "../../kselftest_harness.h"

#define OPS	(OP(GETATTR) | OP(OPEN))

FIXTURE(inode_exec) {
	struct fuse_server s;
	unsigned long requests;
};

/* A copy of cat */
static int make_program(const char *path)
{
	char cmd[512];

	snprintf(cmd, sizeof(cmd), "cp /bin/cat %s", path);
	return system(cmd) || chmod(path, 0755);
}

FIXTURE_SETUP(inode_exec)
{
	struct fuse_server *s = &self->s;

	s->permissions = true;
	ASSERT_EQ(0, fuse_server_start(s));
	s->how = OPEN_CACHED;
	ASSERT_EQ(0, fchmodat(s->dirfd, ".", 0755, 0));
	ASSERT_EQ(0, make_program(lower_path(s, "f")));
	ASSERT_EQ(0, lookup(s, "."));
	ASSERT_EQ(0, inode_attach(s, ".", OP(GETATTR)));
	fuse_server_node(s, "f")->ops = OPS;
	ASSERT_EQ(0, lookup(s, "f"));
	ASSERT_EQ(0, s->inode_error);
	ASSERT_EQ(2, inodes_attached(s));
	/* The server says that it has none, and is not asked again. */
	getxattr(fuse_path(s, "f"), "user.x", NULL, 0);
	self->requests = fuse_server_requests(s);
}

FIXTURE_TEARDOWN(inode_exec)
{
	EXPECT_EQ(self->requests, fuse_server_requests(&self->s));
	fuse_server_stop(&self->s);
}

/* Ends with what the program returns, or 100 and the errno of exec. */
static pid_t start(const char *path, enum client client, int input, const char *arg)
{
	pid_t pid = fork();
	int null;

	if (!pid) {
		null = open("/dev/null", O_WRONLY | O_CLOEXEC);
		dup2(input, 0);
		dup2(null, 1);
		dup2(null, 2);
		client_become(client);
		execl(path, "cat", arg, NULL);
		_exit(100 + errno);
	}
	return pid;
}

static int end(pid_t pid)
{
	int status;

	return waitpid(pid, &status, 0) == pid ? WEXITSTATUS(status) : -1;
}

static int run(const char *path, enum client client, const char *arg)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int ret = end(start(path, client, null, arg));

	close(null);
	return ret;
}

/*
 * Start a copy of cat, which runs when this returns, until its input is closed.
 */
static pid_t start_running(const char *path, int *input)
{
	int in[2];
	pid_t pid;

	if (pipe2(in, O_CLOEXEC))
		return -1;
	pid = vfork();
	if (!pid) {
		dup2(in[0], 0);
		execl(path, "cat", NULL);
		_exit(100 + errno);
	}
	close(in[0]);
	*input = in[1];
	return pid;
}

/*
 * A program runs from the mount without a request, unless it is open for
 * writing there; while it runs, there or below, it cannot be opened for
 * writing.
 */
TEST_F_TIMEOUT(inode_exec, programs, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	char *path;
	int fd, in, i;
	pid_t pid;

	for (i = 0; i < 2; i++) {
		path = strdup(i ? fuse_path(s, "f") : lower_path(s, "f"));
		pid = start_running(path, &in);
		EXPECT_EQ(ETXTBSY, try_open(s, O_WRONLY)) TH_LOG("case %d", i);
		EXPECT_EQ(ETXTBSY, try_open(s, O_RDONLY | O_TRUNC)) TH_LOG("case %d", i);
		EXPECT_EQ(0, try_open(s, O_RDONLY));
		close(in);
		EXPECT_EQ(0, end(pid)) TH_LOG("case %d", i);

		fd = open_f(s, O_WRONLY);
		ASSERT_LE(0, fd);
		EXPECT_EQ(100 + ETXTBSY, run(path, ROOT, NULL)) TH_LOG("case %d", i);
		close(fd);
		free(path);
	}
}

TEST_HARNESS_MAIN
