// SPDX-License-Identifier: GPL-2.0
/*
 * OPEN attached: programs run from the lower file, as the modes and the mounts
 * of both file systems permit.
 */
#define _GNU_SOURCE
#include <signal.h>
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

	ASSERT_EQ(0, serve_inodes(s));
	s->how = OPEN_CACHED;
	ASSERT_EQ(0, make_program(lower_path(s, "f")));
	fuse_server_node(s, "f")->ops = OPS;
	ASSERT_EQ(0, lookup(s, "f"));
	ASSERT_EQ(0, s->inode_error);
	ASSERT_EQ(2, inodes_attached(s));
	/* The server answers ENOSYS, and the kernel sends no further GETXATTR. */
	getxattr(fuse_path(s, "f"), "user.x", NULL, 0);
	self->requests = fuse_server_requests(s);
}

FIXTURE_TEARDOWN(inode_exec)
{
	EXPECT_EQ(self->requests, fuse_server_requests(&self->s));
	fuse_server_stop(&self->s);
}

/* The child exits with the status of the program, or with 100 plus the errno of exec. */
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

/* Start a copy of cat.  It runs when this function returns, until its input is closed. */
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
 * A program on the mount runs without a request, unless it is open for writing
 * there.  While it runs, from the mount or from the lower file, it cannot be
 * opened for writing.
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

static volatile sig_atomic_t lease_breaks;

static void on_lease_break(int sig)
{
	lease_breaks++;
}

/*
 * Take a write lease.  F_SETLEASE is EAGAIN until the delayed close of the last
 * program has closed the lower file.
 */
static int hold(struct fuse_server *s)
{
	int fd = lower_open(s, "f", O_RDONLY);

	lease_breaks = 0;
	signal(SIGIO, on_lease_break);
	while (fcntl(fd, F_SETLEASE, F_WRLCK)) {
		if (errno != EAGAIN)
			return -1;
		sched_yield();
	}
	return fd;
}

/*
 * Permission to execute is checked again once the lower file is open, so that a
 * chmod or chown of the lower file counts if the open waits for a lease
 * meanwhile.
 */
TEST_F_TIMEOUT(inode_exec, races_with_chmod, IO_TIMEOUT)
{
	static const struct { enum client client; mode_t mode; uid_t uid; int err; } c[] = {
		{ STRANGER, 0711, USER, 0 }, { STRANGER, 0754, USER, EACCES },
		{ OWNER, 0655, USER, EACCES }, { OWNER, 0700, USER, 0 },
		{ OWNER, 0700, OTHER, EACCES }, { STRANGER, 0700, OTHER, 0 },
		{ ROOT, 0644, USER, EACCES }, { ROOT, 0100, OTHER, 0 },
	};
	struct fuse_server *s = &self->s;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), fd;
	unsigned int i;
	pid_t pid;

	for (i = 0; i < ARRAY_SIZE(c); i++) {
		ASSERT_EQ(0, fchownat(s->dirfd, "f", USER, GROUP, 0));
		ASSERT_EQ(0, fchmodat(s->dirfd, "f", 0755, 0));
		fd = hold(s);
		if (fd < 0)
			SKIP(return, "no leases");
		pid = start(fuse_path(s, "f"), c[i].client, null, NULL);
		while (!lease_breaks && falls_asleep(pid))
			;
		EXPECT_EQ(1, lease_breaks) TH_LOG("case %u", i);
		ASSERT_EQ(0, fchownat(s->dirfd, "f", c[i].uid, GROUP, 0));
		ASSERT_EQ(0, fchmodat(s->dirfd, "f", c[i].mode, 0));
		/*
		 * The child has a copy of the descriptor, so that close() alone
		 * would keep the lease.
		 */
		ASSERT_EQ(0, fcntl(fd, F_SETLEASE, F_UNLCK));
		close(fd);
		EXPECT_EQ(c[i].err ? 100 + c[i].err : 0, end(pid)) TH_LOG("case %u", i);
	}
	close(null);
}

static int remount(const char *path, unsigned long flags)
{
	return mount(NULL, path, NULL, MS_BIND | MS_REMOUNT | flags, NULL);
}

/* Attach a program on its own file system to "f". */
static bool attach_program(struct fuse_server *s, struct own_fs *fs)
{
	return own_fs_mount(fs) && !chmod(fs->dir, 0755) && !make_program(fs->path) &&
		!inode_detach(s, "f") && !inode_attach_path(s, "f", fs->path, OPS);
}

static void own_fs_drop(struct fuse_server *s, struct own_fs *fs)
{
	inode_detach(s, "f");
	own_fs_end(fs);
}

/*
 * Programs on a noexec mount of the lower file system do not run, but can be
 * read and written.
 */
TEST_F_TIMEOUT(inode_exec, noexec_mount, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	enum client client;
	struct own_fs fs;

	ASSERT_TRUE(attach_program(s, &fs));
	for (client = 0; client < CLIENTS; client++) {
		EXPECT_EQ(0, run(fuse_path(s, "f"), client, NULL));
		ASSERT_EQ(0, remount(fs.dir, MS_NOEXEC));
		EXPECT_EQ(100 + EACCES, run(fuse_path(s, "f"), client, NULL))
			TH_LOG("client %d", client);
		EXPECT_EQ(0, try_open(s, O_RDWR));
		ASSERT_EQ(0, remount(fs.dir, 0));
	}
	own_fs_drop(s, &fs);
}

/*
 * Only the nosuid flag of the FUSE mount decides whether a setuid program gets
 * its privileges, as on overlayfs and as without passthrough.
 */
TEST_F_TIMEOUT(inode_exec, nosuid_mount, IO_TIMEOUT)
{
	static const struct { unsigned long fuse, lower; int ret; } c[] = {
		{ MS_NOSUID, 0, 1 }, { MS_NOSUID, MS_NOSUID, 1 },
		{ 0, 0, 0 }, { 0, MS_NOSUID, 0 },
	};
	struct fuse_server *s = &self->s;
	char *secret = strdup(lower_path(s, "secret"));
	struct own_fs fs;
	unsigned int i;

	ASSERT_EQ(0, lower_make(s, "secret", 1, 0));
	ASSERT_EQ(0, chmod(secret, 0600));
	ASSERT_TRUE(attach_program(s, &fs));
	ASSERT_EQ(0, chmod(fs.path, 04755));
	for (i = 0; i < ARRAY_SIZE(c); i++) {
		ASSERT_EQ(0, remount(s->mnt, c[i].fuse));
		ASSERT_EQ(0, remount(fs.dir, c[i].lower));
		EXPECT_EQ(c[i].ret, run(fuse_path(s, "f"), STRANGER, secret))
			TH_LOG("case %u", i);
	}
	own_fs_drop(s, &fs);
	free(secret);
}

TEST_HARNESS_MAIN
