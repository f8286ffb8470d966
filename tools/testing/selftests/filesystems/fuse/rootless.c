// SPDX-License-Identifier: GPL-2.0
/*
 * A server without privileges, in a user and mount namespace made by a user:
 * what it is permitted to do, which processes may use its mount, and that no
 * process gains credentials of another.
 */
#define _GNU_SOURCE
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "async_test.h"
#include "attach_test.h"
#include "../../kselftest_harness.h"

#define USER	1000
#define OTHER	1001
#define MAPPED	2000
#define LEN	10000

/* The line of the first failure in another process, or 0. */
struct shared {
	int line;
};

FIXTURE(rootless) {
	struct shared *sh;
	char secret[64];	/* a file of root */
};

/* For children: returns @cond, and records the line of the first false one. */
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

/* Become @uid, without other groups. Called in a child; cannot be undone. */
static bool become(uid_t uid)
{
	return !setgroups(0, NULL) && !setresgid(uid, uid, uid) &&
		!setresuid(uid, uid, uid) &&
		!prctl(PR_SET_DUMPABLE, 1);
}

/* Become root of a new user namespace, which is this user outside. */
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

/* The caller lacks the privilege to open @self's secret. */
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
 * Read pattern 1, write, map, and leave pattern 1.  The server process checks
 * that all I/O passed through, because the children do not see its counts.
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

/* A user cannot force the unmount that ends the thread; the exit of the process ends it. */
static void stop(struct fuse_server *s)
{
	umount2(s->mnt, MNT_DETACH);
	rmdir(s->mnt);
	unlinkat(s->dirfd, "f", 0);
	unlinkat(s->dirfd, "new", 0);
	rmdir(s->lower);
	_exit(0);
}

/* Run the server and the clients that @clients starts, all in a child. */
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

	/* A client that has dropped all capabilities. */
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
	/* After a refusal it serves the open itself. */
	fd = fs_open(s, OPEN_CACHED, "f", O_RDWR);
	NEED(fd >= 0 && reads_pattern(s, fd, LEN, 1, false));
	close(fd);
	NEED(s->count[FUSE_WRITE] == 0);
}

/* Attaching by id is EPERM for a server without privileges. */
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

/* A client in a nested user namespace uses the mount, with passthrough. */
TEST_F_TIMEOUT(rootless, inner_client, IO_TIMEOUT)
{
	struct fuse_server s = {};

	EXPECT_TRUE(serve(self, &s, inner_namespace));
}

static int sock[2];

/* Hands out an open file, then reports whether everything passed through. */
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
 * Root outside cannot open files of the mount by any path.  It may use an open
 * file that it receives, whose I/O has the credentials of the server:
 * set-user-ID is dropped, which a write of root itself would keep.  Root stays
 * root, the server nobody.
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

/* The server is root; the client is a user in its own user namespace. */
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

/*
 * allow_other admits the user namespace of the server and its descendants, but
 * no sibling.
 */
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
		/*
		 * The same user outside may walk to the mount, but not into it.
		 */
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

/*
 * Without allow_other only the owner opens files; each process may use an open
 * file that it receives.
 */
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

#define MAPLEN	(2 * PAGE)

/* Map two pages of a file of this mount, which are not faulted in. */
static char *untouched(struct fuse_server *s, const char *name, int flags)
{
	int fd = fs_open(s, OPEN_CACHED, name, O_RDWR);
	char *p = MAP_FAILED;

	/* The open has dropped the pages that the last open cached. */
	if (fd >= 0)
		p = mmap(NULL, MAPLEN, PROT_READ | PROT_WRITE, flags, fd, 0);
	close(fd);
	return p;
}

enum call { PLAIN, VECTOR, ASYNC, NOWAIT };

static long one_call(enum call call, bool write_it, int fd, char *buf)
{
	struct iovec iov[] = {
		{ buf, PAGE }, { buf + PAGE, PAGE },
	};
	long ret;

	if (call == ASYNC)
		return aio_once(write_it ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD, fd,
				buf, MAPLEN, 0);
	if (call == PLAIN)
		ret = write_it ? pwrite(fd, buf, MAPLEN, 0) :
				 pread(fd, buf, MAPLEN, 0);
	else if (write_it)
		ret = pwritev2(fd, iov, 2, 0, call == NOWAIT ? RWF_NOWAIT : 0);
	else
		ret = preadv2(fd, iov, 2, 0, call == NOWAIT ? RWF_NOWAIT : 0);
	return ret < 0 ? -errno : ret;
}

/* A file of root's server: a passthrough open, one with O_DIRECT or -1, the lower file */
struct outside {
	int fd, direct, lower;
};

static bool lower_has(struct outside *o, size_t len, unsigned int seed)
{
	char buf[MAPLEN];

	return pread(o->lower, buf, MAPLEN, 0) == MAPLEN &&
		pattern_differs(buf, len, 0, seed) == -1;
}

/* The error of a non-blocking call that would have to wait */
static int nowait_error(struct outside *o)
{
	struct iovec iov = { &(char){ 0 }, 1 };

	if (preadv2(o->lower, &iov, 1, 0, RWF_NOWAIT) < 0 && errno == EOPNOTSUPP)
		return -EOPNOTSUPP;
	return -EAGAIN;
}

/*
 * All bytes are transferred, and the buffer is faulted in from the client's own
 * server.  btrfs and overlayfs may end direct I/O at the end of the page that
 * was touched.
 */
static void moves(FIXTURE_DATA(rootless) *self, struct fuse_server *s,
		  struct outside *o, int fd, enum call call, bool write_it,
		  int flags, bool touch)
{
	static unsigned int seed = 1;
	unsigned long reads;
	char buf[MAPLEN], *map;
	bool shorter;
	ssize_t done;

	pattern(buf, MAPLEN, 0, ++seed);
	NEED(pwrite(o->lower, buf, MAPLEN, 0) == MAPLEN);
	map = untouched(s, write_it ? "f" : "new", flags);
	if (!NEED(map != MAP_FAILED))
		return;
	if (touch)
		NEED(!madvise(map, MAPLEN, MADV_RANDOM) && map[0]);
	reads = fuse_server_count(s, FUSE_READ);
	done = one_call(call, write_it, fd, map);
	shorter = touch && done == BLOCK;
	if (!NEED(done == MAPLEN || shorter))
		fprintf(stderr, "# call %d, write %d, direct %d, flags %d, touched %d: %zd\n",
			call, write_it, fd == o->direct, flags, touch, done);
	NEED(shorter || fuse_server_count(s, FUSE_READ) > reads);
	NEED(lower_has(o, write_it ? done : MAPLEN, write_it ? 1 : seed));
	NEED(pattern_differs(map, done, 0, write_it ? 1 : seed) == -1);
	/* A dirty page could be written at the next open of the file. */
	NEED(!msync(map, MAPLEN, MS_SYNC));
	munmap(map, MAPLEN);
}

/* No byte is transferred; the call fails with @err. */
static void fails(FIXTURE_DATA(rootless) *self, struct outside *o, int fd,
		  enum call call, char *map, int err)
{
	char before[MAPLEN], after[MAPLEN];
	int write_it;

	/* File systems may refuse any non-blocking write. */
	for (write_it = 0; write_it < (call == NOWAIT ? 1 : 2); write_it++) {
		/*
		 * The data is in the lower file's cache and clean, so that
		 * nothing else has to wait.
		 */
		NEED(!fsync(o->lower));
		NEED(pread(o->lower, before, MAPLEN, 0) == MAPLEN);
		if (!NEED(one_call(call, write_it, fd, map) == -err))
			fprintf(stderr, "# call %d, write %d, direct %d\n", call,
				write_it, fd == o->direct);
		NEED(pread(o->lower, after, MAPLEN, 0) == MAPLEN);
		NEED(!memcmp(before, after, MAPLEN));
	}
}

/*
 * A direct append that has taken the first page of its buffer, and fails at the
 * second one, is not repeated: nothing is appended, or what the call says.
 */
static void appends_once(FIXTURE_DATA(rootless) *self, struct fuse_server *s,
			 struct outside *o)
{
	char *map = untouched(s, "f", MAP_SHARED);
	ssize_t done;

	if (!NEED(map != MAP_FAILED))
		return;
	NEED(!madvise(map, MAPLEN, MADV_RANDOM) && map[0]);
	NEED(!fcntl(o->direct, F_SETFL, O_DIRECT | O_APPEND));
	done = one_call(PLAIN, true, o->direct, map);
	if (!NEED(done == -EFAULT || done == BLOCK))
		fprintf(stderr, "# %zd\n", done);
	NEED(size_of(o->lower) == MAPLEN + (done > 0 ? done : 0));
	NEED(!fcntl(o->direct, F_SETFL, O_DIRECT) && !ftruncate(o->lower, MAPLEN));
	munmap(map, MAPLEN);
}

/*
 * Direct reads into a shared mapping are left out: they may dirty its pages
 * late, when no process has the file open any more, and plain FUSE warns of
 * that.
 */
static void use_buffers(FIXTURE_DATA(rootless) *self, struct fuse_server *s,
			struct outside *o)
{
	static const enum call calls[] = { PLAIN, VECTOR, ASYNC };
	unsigned int i;
	char *map;

	for (i = 0; i < ARRAY_SIZE(calls); i++) {
		moves(self, s, o, o->fd, calls[i], true, MAP_SHARED, false);
		moves(self, s, o, o->fd, calls[i], false, MAP_PRIVATE, false);
		moves(self, s, o, o->fd, calls[i], false, MAP_SHARED, false);
		if (o->direct < 0)
			continue;
		moves(self, s, o, o->direct, calls[i], true, MAP_SHARED, false);
		moves(self, s, o, o->direct, calls[i], false, MAP_PRIVATE, false);
	}
	if (o->direct >= 0) {
		/* The first page is transferred before the second one fails. */
		moves(self, s, o, o->direct, PLAIN, true, MAP_SHARED, true);
		moves(self, s, o, o->direct, VECTOR, true, MAP_SHARED, true);
		moves(self, s, o, o->direct, PLAIN, false, MAP_PRIVATE, true);
		moves(self, s, o, o->direct, VECTOR, false, MAP_PRIVATE, true);
		appends_once(self, s, o);
	}

	map = untouched(s, "f", MAP_SHARED);
	if (!NEED(map != MAP_FAILED))
		return;
	fails(self, o, o->fd, NOWAIT, map, -nowait_error(o));
	if (o->direct >= 0)
		fails(self, o, o->direct, NOWAIT, map, -nowait_error(o));
	munmap(map, MAPLEN);
	/* The address range is unmapped now. */
	for (i = 0; i < ARRAY_SIZE(calls); i++) {
		fails(self, o, o->fd, calls[i], map, EFAULT);
		if (o->direct >= 0)
			fails(self, o, o->direct, calls[i], map, EFAULT);
	}
}

/*
 * A user's buffer may map the user's own FUSE mount, which serves no other
 * user.  If the lower call faults it in with the credentials of root's server,
 * the call does not fail with EFAULT, except an append of which a part was done.
 * RWF_NOWAIT is EAGAIN, a bad pointer EFAULT.
 */
TEST_F_TIMEOUT(rootless, own_mount_as_buffer, IO_TIMEOUT)
{
	static const enum fuse_server_open hows[] = { OPEN_PASSTHROUGH, OPEN_BACKING_ID };
	struct fuse_server s = {}, own = {};
	struct outside o;
	unsigned int i;
	pid_t pid;

	ASSERT_EQ(0, fuse_server_start(&s));
	ASSERT_EQ(0, lower_make(&s, "a", MAPLEN, 2));
	o.lower = lower_open(&s, "a", O_RDWR);
	ASSERT_LE(0, o.lower);
	for (i = 0; i < ARRAY_SIZE(hows); i++) {
		o.fd = fs_open(&s, hows[i], "a", O_RDWR);
		ASSERT_LE(0, o.fd);
		o.direct = lower_open(&s, "a", O_RDWR | O_DIRECT);
		if (o.direct >= 0) {
			close(o.direct);
			o.direct = fs_open(&s, hows[i], "a", O_RDWR | O_DIRECT);
			ASSERT_LE(0, o.direct);
		}
		pid = fork();
		if (!pid) {
			if (start(self, &own) &&
			    NEED(!lower_make(&own, "new", LEN, 1)))
				use_buffers(self, &own, &o);
			stop(&own);
		}
		EXPECT_TRUE(waited(pid));
		close(o.fd);
		close(o.direct);
	}
	close(o.lower);
	EXPECT_EQ(0, server_io(&s));
	fuse_server_stop(&s);
}

/*
 * A lower file on an idmapped mount passes through, by request and by id, and a
 * write changes its attributes as that mount maps users.
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
	err = idmapped(s.dirfd, at, USER, MAPPED);
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
