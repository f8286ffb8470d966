// SPDX-License-Identifier: GPL-2.0
/*
 * A server without any privilege: its own user and mount namespace, made by a
 * user.  What it may, who may use its mount, and that nobody's credentials reach
 * somebody else.
 */
#define _GNU_SOURCE
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "attach_test.h"

#define USER	1000
#define OTHER	1001
#define MAPPED	2000
#define LEN	10000

/* What goes wrong in other processes: the line, or 0. */
struct shared {
	int line;
};

FIXTURE(rootless) {
	struct shared *sh;
	char secret[64];	/* root's alone */
};

/* In a child, or something that a child calls: true, or this line is remembered. */
#define NEED(cond) need(self->sh, cond, __LINE__)

static bool need(struct shared *sh, bool ok, int line)
{
	if (!ok && !sh->line)
		sh->line = line;
	return ok;
}

FIXTURE_SETUP(rootless)
{
	int fd;

	self->sh = mmap(NULL, sizeof(*self->sh), PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->sh);
	/* As anywhere with udev; opening it gives no privilege. */
	ASSERT_EQ(0, chmod("/dev/fuse", 0666));
	strcpy(self->secret, "/tmp/secret.XXXXXX");
	fd = mkstemp(self->secret);
	ASSERT_LE(0, fd);
	close(fd);
}

FIXTURE_TEARDOWN(rootless)
{
	EXPECT_EQ(0, self->sh->line) TH_LOG("line %d", self->sh->line);
	unlink(self->secret);
}

static bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok = write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	close(fd);
	return ok;
}

/* For good: @uid, in no group but its own. */
static bool become(uid_t uid)
{
	return !setgroups(0, NULL) && !setresgid(uid, uid, uid) &&
		!setresuid(uid, uid, uid) &&
		!prctl(PR_SET_DUMPABLE, 1);
}

/* Root of a user namespace of its own, which this user is from outside. */
static bool new_namespace(void)
{
	uid_t uid = geteuid(), gid = getegid();
	char map[64];

	if (unshare(CLONE_NEWUSER))
		return false;
	snprintf(map, sizeof(map), "0 %u 1", uid);
	if (!write_file("/proc/self/uid_map", map) ||
	    !write_file("/proc/self/setgroups", "deny"))
		return false;
	snprintf(map, sizeof(map), "0 %u 1", gid);
	return write_file("/proc/self/gid_map", map);
}

static uint64_t effective(void)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2] = {};

	syscall(SYS_capget, &h, d);
	return d[0].effective | (uint64_t)d[1].effective << 32;
}

/* Nothing that @self's secret could be read with. */
static bool powerless(FIXTURE_DATA(rootless) *self)
{
	return open(self->secret, O_RDONLY | O_CLOEXEC) < 0 && errno == EACCES;
}

static bool waited(pid_t pid)
{
	int status;

	return waitpid(pid, &status, 0) == pid && !status;
}

static bool start(FIXTURE_DATA(rootless) *self, struct fuse_server *s)
{
	struct stat st;

	return NEED(become(USER)) && NEED(new_namespace()) &&
		NEED(!fuse_server_start(s)) && NEED(!stat(s->mnt, &st)) &&
		NEED(s->init_flags & FUSE_PASSTHROUGH) &&
		NEED(!lower_make(s, "f", LEN, 1)) && NEED(powerless(self));
}

/*
 * Read pattern 1, write, map, and leave pattern 1.  That all of it passes through
 * is for the server's process to say: children have no part in its counts.
 */
static void use_file(FIXTURE_DATA(rootless) *self, int fd)
{
	char buf[LEN];
	char *map;

	if (!NEED(fd >= 0) || !NEED(pread(fd, buf, LEN, 0) == LEN))
		return;
	NEED(pattern_differs(buf, LEN, 0, 1) == -1);
	pattern(buf, LEN, 0, 2);
	NEED(pwrite(fd, buf, LEN, 0) == LEN);
	map = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (!NEED(map != MAP_FAILED))
		return;
	NEED(pattern_differs(map, LEN, 0, 2) == -1);
	pattern(map, LEN, 0, 1);
	munmap(map, LEN);
}

static bool all_passed_through(struct fuse_server *s)
{
	return !server_io(s) && !s->open_error &&
		lower_differs(s, "f", 0, LEN, 1) == -1;
}

/* A user may not force the unmount that would end the thread: it ends with us. */
static void stop(struct fuse_server *s)
{
	umount2(s->mnt, MNT_DETACH);
	rmdir(s->mnt);
	unlinkat(s->dirfd, "f", 0);
	unlinkat(s->dirfd, "new", 0);
	rmdir(s->lower);
	_exit(0);
}

/* The server, and clients as @clients makes them, all in a child. */
static bool serve(FIXTURE_DATA(rootless) *self, struct fuse_server *s,
		  void (*clients)(FIXTURE_DATA(rootless) *self,
				  struct fuse_server *s))
{
	pid_t pid = fork();

	if (!pid) {
		if (start(self, s))
			clients(self, s);
		stop(s);
	}
	return waited(pid);
}

static void same_namespace(FIXTURE_DATA(rootless) *self, struct fuse_server *s)
{
	int fd = fs_open(s, OPEN_PASSTHROUGH, "f", O_RDWR);
	pid_t pid;

	NEED(effective() & 1ULL << CAP_SYS_ADMIN);
	use_file(self, fd);
	NEED(all_passed_through(s));
	close(fd);

	fd = fs_open(s, OPEN_PASSTHROUGH, "new", O_RDWR | O_CREAT);
	NEED(fd >= 0 && writes_pattern(s, fd, "new", LEN, 3, true));
	close(fd);

	/* A client that has dropped all that the namespace gives. */
	pid = fork();
	if (!pid) {
		struct __user_cap_header_struct h = {
			.version = _LINUX_CAPABILITY_VERSION_3,
		};
		struct __user_cap_data_struct d[2] = {};

		NEED(!syscall(SYS_capset, &h, d));
		fd = open(fuse_path(s, "f"), O_RDWR | O_CLOEXEC);
		use_file(self, fd);
		NEED(!effective());
		NEED(powerless(self));
		_exit(0);
	}
	NEED(waited(pid));
	NEED(all_passed_through(s));
}

/*
 * A server that is root in its own namespace, and a plain user outside, passes
 * through by request.
 */
TEST_F_TIMEOUT(rootless, by_request, IO_TIMEOUT)
{
	struct fuse_server s = {};

	EXPECT_TRUE(serve(self, &s, same_namespace));
}

static void try_ids(FIXTURE_DATA(rootless) *self, struct fuse_server *s)
{
	uint32_t id = 1;
	int fd;

	fd = fs_open(s, OPEN_BACKING_ID, "f", O_RDWR);
	NEED(fd == -1 && errno == EPERM);
	NEED(ioctl(s->dev, FUSE_DEV_IOC_BACKING_CLOSE, &id) && errno == EPERM);
	/* Refused, it serves the open itself. */
	fd = fs_open(s, OPEN_CACHED, "f", O_RDWR);
	NEED(fd >= 0 && reads_pattern(s, fd, LEN, 1, false));
	close(fd);
	NEED(s->count[FUSE_WRITE] == 0);
}

/* By id it may not: EPERM. */
TEST_F_TIMEOUT(rootless, not_by_id, IO_TIMEOUT)
{
	struct fuse_server s = {};

	EXPECT_TRUE(serve(self, &s, try_ids));
}

static void inner_namespace(FIXTURE_DATA(rootless) *self, struct fuse_server *s)
{
	pid_t pid = fork();

	if (!pid) {
		int fd;

		NEED(new_namespace());
		fd = open(fuse_path(s, "f"), O_RDWR | O_CLOEXEC);
		use_file(self, fd);
		NEED(powerless(self));
		_exit(0);
	}
	NEED(waited(pid));
	NEED(all_passed_through(s));
}

/* A client in a namespace further in uses the mount, its data pass through. */
TEST_F_TIMEOUT(rootless, inner_client, IO_TIMEOUT)
{
	struct fuse_server s = {};

	EXPECT_TRUE(serve(self, &s, inner_namespace));
}

static bool send_fd(int sock, int fd, const char *text)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} u = {};
	struct iovec iov = { (void *)text, strlen(text) + 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = u.buf,
		.msg_controllen = sizeof(u.buf),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	return sendmsg(sock, &msg, 0) == (ssize_t)iov.iov_len;
}

static int receive_fd(int sock, char *text, size_t len)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} u = {};
	struct iovec iov = { text, len };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = u.buf,
		.msg_controllen = sizeof(u.buf),
	};
	int fd = -1;

	if (recvmsg(sock, &msg, MSG_CMSG_CLOEXEC) > 0 && CMSG_FIRSTHDR(&msg))
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(int));
	return fd;
}

static int sock[2];

/* Hands out an open file, then says whether all passed through. */
static void hand_out(FIXTURE_DATA(rootless) *self, struct fuse_server *s)
{
	struct stat st;
	char c;
	int fd;

	NEED(!fchmodat(s->dirfd, "f", 06755, 0));
	fd = fs_open(s, OPEN_PASSTHROUGH, "f", O_RDWR);
	NEED(fd >= 0 && send_fd(sock[1], fd, fuse_path(s, "f")));
	close(fd);
	NEED(read(sock[1], &c, 1) == 1);
	NEED(!server_io(s));
	NEED(lower_differs(s, "f", 0, LEN, 4) == -1);
	NEED(!fstatat(s->dirfd, "f", &st, 0) && (st.st_mode & 07777) == 0755);
	NEED(powerless(self));
}

/*
 * Root outside cannot open files of the mount, by whatever path; it may use a
 * file that it is handed, which is then read and written as the server: set-user-ID
 * falls, which root's own write would leave.  Root stays root, the server nobody.
 */
TEST_F_TIMEOUT(rootless, root_outside, IO_TIMEOUT)
{
	struct fuse_server s = {};
	char name[256], path[512];
	uint64_t caps = effective();
	char buf[LEN];
	pid_t pid;
	int fd;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sock));
	pid = fork();
	if (!pid) {
		close(sock[0]);
		if (start(self, &s))
			hand_out(self, &s);
		stop(&s);
	}
	close(sock[1]);
	fd = receive_fd(sock[0], name, sizeof(name));
	ASSERT_LE(0, fd);
	snprintf(path, sizeof(path), "/proc/%d/root%s", pid, name);
	EXPECT_EQ(-1, open(path, O_RDONLY));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(-1, access(path, F_OK));

	EXPECT_EQ(LEN, pread(fd, buf, LEN, 0));
	EXPECT_EQ(-1, pattern_differs(buf, LEN, 0, 1));
	pattern(buf, LEN, 0, 4);
	EXPECT_EQ(LEN, pwrite(fd, buf, LEN, 0));
	EXPECT_EQ(0, geteuid());
	EXPECT_EQ(caps, effective());
	EXPECT_EQ(0, access(self->secret, R_OK | W_OK));
	close(fd);
	EXPECT_EQ(1, write(sock[0], "", 1));
	EXPECT_TRUE(waited(pid));
}

/* Root's server; a client that is a user in a namespace of its own. */
TEST_F_TIMEOUT(rootless, server_outside, IO_TIMEOUT)
{
	static const enum fuse_server_open hows[] = { OPEN_PASSTHROUGH, OPEN_BACKING_ID };
	struct fuse_server s = {};
	unsigned int i;
	struct stat st;
	pid_t pid;

	ASSERT_EQ(0, fuse_server_start(&s));
	ASSERT_EQ(0, lower_make(&s, "f", LEN, 1));
	ASSERT_EQ(0, stat(s.mnt, &st));
	for (i = 0; i < ARRAY_SIZE(hows); i++) {
		ASSERT_EQ(0, fchmodat(s.dirfd, "f", 04700, 0));
		s.how = hows[i];
		s.attr_valid = 0;
		pid = fork();
		if (!pid) {
			int fd;

			NEED(become(USER));
			NEED(new_namespace());
			NEED(open(lower_path(&s, "f"), O_RDONLY) < 0);
			fd = open(fuse_path(&s, "f"), O_RDWR | O_CLOEXEC);
			use_file(self, fd);
			NEED(powerless(self));
			NEED(open(lower_path(&s, "f"), O_RDONLY) < 0);
			_exit(0);
		}
		EXPECT_TRUE(waited(pid));
		EXPECT_EQ(0, s.open_error);
		ASSERT_EQ(0, fstatat(s.dirfd, "f", &st, 0));
		EXPECT_EQ(0700, st.st_mode & 07777);
		EXPECT_EQ(-1, lower_differs(&s, "f", 0, LEN, 1));
	}
	EXPECT_EQ(0, server_io(&s));
	fuse_server_stop(&s);
}

static void sibling(FIXTURE_DATA(rootless) *self, struct fuse_server *s)
{
	char c;

	NEED(send_fd(sock[1], s->dirfd, s->mnt));
	NEED(read(sock[1], &c, 1) == 1);
	NEED(!fuse_server_count(s, FUSE_OPEN));
}

/* allow_other is for the server's namespace and those in it: not for a sibling. */
TEST_F_TIMEOUT(rootless, sibling_namespace, IO_TIMEOUT)
{
	struct fuse_server s = {};
	char mnt[64], path[128];
	pid_t server, pid;
	int dir;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sock));
	server = fork();
	if (!server) {
		close(sock[0]);
		if (start(self, &s))
			sibling(self, &s);
		stop(&s);
	}
	close(sock[1]);
	ASSERT_LE(0, receive_fd(sock[0], mnt, sizeof(mnt)));
	pid = fork();
	if (!pid) {
		/* The same user outside may walk there, and no further. */
		NEED(become(USER));
		snprintf(path, sizeof(path), "/proc/%d/root%s", server, mnt);
		dir = open(path, O_PATH | O_DIRECTORY);
		NEED(dir >= 0);
		NEED(openat(dir, "f", O_RDONLY) < 0 && errno == EACCES);
		NEED(new_namespace());
		NEED(openat(dir, "f", O_RDONLY) < 0 && errno == EACCES);
		_exit(0);
	}
	EXPECT_TRUE(waited(pid));
	EXPECT_EQ(1, write(sock[0], "", 1));
	EXPECT_TRUE(waited(server));
}

/* Without allow_other only its owner opens files; whoever has one open may use it. */
TEST_F_TIMEOUT(rootless, owner_only, IO_TIMEOUT)
{
	struct fuse_server s = { .owner_only = true };
	struct stat st;
	pid_t pid;
	int fd;

	ASSERT_EQ(0, fuse_server_start(&s));
	ASSERT_EQ(0, lower_make(&s, "f", LEN, 1));
	ASSERT_EQ(0, stat(s.mnt, &st));
	fd = fs_open(&s, OPEN_PASSTHROUGH, "f", O_RDWR);
	ASSERT_LE(0, fd);
	pid = fork();
	if (!pid) {
		NEED(become(OTHER));
		NEED(open(fuse_path(&s, "f"), O_RDONLY) < 0 && errno == EACCES);
		use_file(self, fd);
		NEED(powerless(self));
		_exit(0);
	}
	EXPECT_TRUE(waited(pid));
	close(fd);
	EXPECT_EQ(0, server_io(&s));
	fuse_server_stop(&s);
}

/* A user namespace where @from, of a file system, is @to, and root is root. */
static int map_users(uid_t from, uid_t to)
{
	char path[64], map[64];
	int fd, p[2];
	pid_t pid;
	char c;

	if (pipe(p))
		return -1;
	pid = fork();
	if (!pid) {
		if (unshare(CLONE_NEWUSER) || write(p[1], "", 1) != 1)
			_exit(1);
		pause();
	}
	if (read(p[0], &c, 1) != 1)
		return -1;
	snprintf(map, sizeof(map), "0 0 1\n%u %u 1", from, to);
	snprintf(path, sizeof(path), "/proc/%d/uid_map", pid);
	if (!write_file(path, map))
		return -1;
	snprintf(path, sizeof(path), "/proc/%d/gid_map", pid);
	if (!write_file(path, map))
		return -1;
	snprintf(path, sizeof(path), "/proc/%d/ns/user", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return fd;
}

/*
 * The server's directory, where USER's files are MAPPED's: a mount of its own,
 * at @at.  An errno if this file system cannot.
 */
static int idmapped(struct fuse_server *s, const char *at)
{
	struct mount_attr attr = {
		.attr_set = MOUNT_ATTR_IDMAP,
		.userns_fd = map_users(USER, MAPPED),
	};
	int tree, err = 0;

	tree = open_tree(s->dirfd, "",
			 AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0)
		return errno;
	if (mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) ||
	    move_mount(tree, "", AT_FDCWD, at, MOVE_MOUNT_F_EMPTY_PATH))
		err = errno;
	close(tree);
	close(attr.userns_fd);
	return err;
}

/*
 * A lower file on an idmapped mount: passed through by either form, and what a
 * write changes of it is changed as that mount maps users.
 */
TEST_F_TIMEOUT(rootless, idmapped_lower, IO_TIMEOUT)
{
	static const enum fuse_server_open hows[] = { OPEN_PASSTHROUGH, OPEN_BACKING_ID };
	char at[] = "/tmp/idmap.XXXXXX";
	struct fuse_server s = {};
	char path[64];
	unsigned int i;
	struct stat st;
	pid_t pid;
	int err;

	ASSERT_EQ(0, fuse_server_start(&s));
	ASSERT_EQ(0, lower_make(&s, "f", LEN, 1));
	ASSERT_EQ(0, fchownat(s.dirfd, "f", USER, USER, 0));
	ASSERT_NE(NULL, mkdtemp(at));
	err = idmapped(&s, at);
	if (err) {
		EXPECT_EQ(EINVAL, err);
		fuse_server_stop(&s);
		rmdir(at);
		SKIP(return, "idmapped_lower");
	}
	snprintf(path, sizeof(path), "%s/f", at);
	ASSERT_EQ(0, stat(path, &st));
	ASSERT_EQ(MAPPED, st.st_uid);

	s.open_lower = path;
	s.attr_valid = 0;
	for (i = 0; i < ARRAY_SIZE(hows); i++) {
		ASSERT_EQ(0, fchmodat(s.dirfd, "f", 04700, 0));
		s.how = hows[i];
		pid = fork();
		if (!pid) {
			int fd;

			NEED(become(OTHER));
			fd = open(fuse_path(&s, "f"), O_RDWR | O_CLOEXEC);
			use_file(self, fd);
			NEED(powerless(self));
			_exit(0);
		}
		EXPECT_TRUE(waited(pid));
		EXPECT_EQ(0, s.open_error);
		ASSERT_EQ(0, fstatat(s.dirfd, "f", &st, 0));
		EXPECT_EQ(USER, st.st_uid);
		EXPECT_EQ(0700, st.st_mode & 07777);
	}
	EXPECT_EQ(0, server_io(&s));
	fuse_server_stop(&s);
	umount2(at, MNT_DETACH);
	rmdir(at);
}

TEST_HARNESS_MAIN
