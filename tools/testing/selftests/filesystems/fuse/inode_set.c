// SPDX-License-Identifier: GPL-2.0
/*
 * SETATTR attached: chmod, chown, utimes and truncate change the lower file
 * without a request, with the permissions of both the client and the server.
 */
#define _GNU_SOURCE
#include <linux/fs.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>

#include "inode_test.h"
#include "../../kselftest_harness.h"

#define LEN	BLOCK
#define MAPPED	2000
#define OPS	(OP(GETATTR) | OP(SETATTR))

FIXTURE(inode_set) {
	struct fuse_server s;
	char *buf;
	unsigned long requests;
};

FIXTURE_VARIANTS_WRITEBACK(inode_set);

FIXTURE_SETUP(inode_set)
{
	struct fuse_server *s = &self->s;

	s->writeback = variant->writeback;
	s->how = OPEN_PASSTHROUGH;
	ASSERT_EQ(0, serve_inodes(s));
	ASSERT_TRUE(pair_make(s, 0644, USER, GROUP));
	ASSERT_EQ(0, mkdirat(s->dirfd, "d", 0755));
	ASSERT_EQ(0, symlinkat("f", s->dirfd, "l"));
	self->buf = pages(2 * LEN);
	ASSERT_NE(NULL, self->buf);
	s->new_ops = OPS;
	ASSERT_EQ(0, lookup(s, "f"));
	ASSERT_EQ(0, lookup(s, "d"));
	ASSERT_EQ(0, lookup(s, "l"));
	ASSERT_EQ(0, s->inode_error);
	ASSERT_EQ(4, inodes_attached(s));
	self->requests = fuse_server_requests(s);
}

FIXTURE_TEARDOWN(inode_set)
{
	EXPECT_EQ(0, fuse_server_count(&self->s, FUSE_SETATTR));
	fuse_server_stop(&self->s);
}

static bool same_as_lower(struct fuse_server *s, const char *name)
{
	struct stat a, b;

	return !lstat(fuse_path(s, name), &a) &&
		!fstatat(s->dirfd, name, &b, AT_SYMLINK_NOFOLLOW) &&
		a.st_mode == b.st_mode && a.st_uid == b.st_uid && a.st_gid == b.st_gid &&
		a.st_size == b.st_size && a.st_mtim.tv_sec == b.st_mtim.tv_sec &&
		a.st_mtim.tv_nsec == b.st_mtim.tv_nsec &&
		a.st_atim.tv_sec == b.st_atim.tv_sec;
}

/* Each call changes the lower file, directory or symlink, without a request. */
TEST_F_TIMEOUT(inode_set, each_call, IO_TIMEOUT)
{
	static const struct timespec ts[2] = { { .tv_sec = 1000 }, { .tv_sec = 2000 } };
	static const char *names[] = { "f", "d", "l" };
	struct fuse_server *s = &self->s;
	unsigned int i;
	struct stat st;
	int fd;

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		const char *path = fuse_path(s, names[i]);

		ASSERT_EQ(0, lchown(path, OTHER, GROUP));
		ASSERT_EQ(0, fstatat(s->dirfd, names[i], &st, AT_SYMLINK_NOFOLLOW));
		EXPECT_EQ(OTHER, st.st_uid);
		EXPECT_EQ(GROUP, st.st_gid);
		ASSERT_EQ(0, utimensat(AT_FDCWD, path, ts, AT_SYMLINK_NOFOLLOW));
		ASSERT_EQ(0, fstatat(s->dirfd, names[i], &st, AT_SYMLINK_NOFOLLOW));
		EXPECT_EQ(2000, st.st_mtim.tv_sec);
		ASSERT_EQ(0, utimensat(AT_FDCWD, path, NULL, AT_SYMLINK_NOFOLLOW));
		ASSERT_EQ(0, fstatat(s->dirfd, names[i], &st, AT_SYMLINK_NOFOLLOW));
		EXPECT_LT(2000, st.st_mtim.tv_sec);
		EXPECT_TRUE(same_as_lower(s, names[i])) TH_LOG("%s", names[i]);
		if (!strcmp(names[i], "l"))
			continue;
		ASSERT_EQ(0, chmod(path, 01751));
		ASSERT_EQ(0, fstatat(s->dirfd, names[i], &st, 0));
		EXPECT_EQ(01751, st.st_mode & 07777);
		EXPECT_TRUE(same_as_lower(s, names[i])) TH_LOG("%s", names[i]);
	}

	ASSERT_EQ(0, truncate(fuse_path(s, "f"), 10));
	EXPECT_EQ(-1, lower_differs(s, "f", 0, 10, 1));
	EXPECT_TRUE(same_as_lower(s, "f"));
	fd = fs_open(s, OPEN_CACHED, "f", O_RDWR);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, 100000));
	EXPECT_TRUE(same_as_lower(s, "f"));
	EXPECT_EQ(100000, lseek(fd, 0, SEEK_END));
	ASSERT_EQ(0, fchmod(fd, 0600));
	ASSERT_EQ(0, fchown(fd, USER, USER));
	ASSERT_EQ(0, futimens(fd, ts));
	EXPECT_TRUE(same_as_lower(s, "f"));
	close(fd);
}

/* A change by a client.  Returns 0 or an errno. */
static int change(int what, const char *path)
{
	static const struct timespec ts[2] = { { .tv_sec = 1000 }, { .tv_sec = 2000 } };
	static const struct timespec atime_now[2] = {
		{ .tv_nsec = UTIME_NOW }, { .tv_nsec = UTIME_OMIT },
	};
	int ret;

	errno = 0;
	switch (what) {
	case 0:
		ret = chmod(path, 0600);
		break;
	case 1:
		ret = chmod(path, 04755);
		break;
	case 2:
		ret = chmod(path, 02755);
		break;
	case 3:
		ret = chmod(path, 02644);
		break;
	case 4:
		ret = chown(path, OTHER, -1);
		break;
	case 5:
		ret = chown(path, -1, OTHER);
		break;
	case 6:
		ret = chown(path, -1, GROUP);
		break;
	case 7:
		ret = chown(path, USER, GROUP);
		break;
	case 8:
		ret = chown(path, -1, -1);
		break;
	case 9:
		ret = utimensat(AT_FDCWD, path, ts, 0);
		break;
	case 10:
		ret = utimensat(AT_FDCWD, path, NULL, 0);
		break;
	case 11:
		ret = utimensat(AT_FDCWD, path, atime_now, 0);
		break;
	case 12:
		ret = truncate(path, 10);
		break;
	case 13:
		ret = truncate(path, 2 * LEN);
		break;
	case 14:
		ret = truncate(path, LEN);
		break;
	default:
		return -1;
	}
	return ret ? errno : 0;
}

#define CHANGES	15

static const mode_t modes[] = {
	0644, 0666, 0600, 0444, 0000, 04755, 02755, 06755, 02644, 06644, 02664, 06664,
	02666, 06666, 06777, 04777,
};

/*
 * For each client, mode and change, the result and then mode, owner and size
 * are those of the same change on the lower file system.  setuid and setgid bits
 * are dropped as there.
 */
TEST_F_TIMEOUT(inode_set, as_on_the_lower_file_system, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	enum client client;
	unsigned int i, owned;
	int what, f, peer;

	for (client = 0; client < CLIENTS; client++) {
		for (i = 0; i < ARRAY_SIZE(modes); i++) {
			for (what = 0; what < CHANGES; what++) {
				owned = (i + what) % 3 != 0;
				ASSERT_TRUE(pair_make(s, modes[i], owned ? USER : 0,
						      GROUP));
				client_become(client);
				peer = change(what, lower_path(s, "peer"));
				f = change(what, fuse_path(s, "f"));
				thread_become_root();
				EXPECT_EQ(peer, f)
					TH_LOG("client %d, mode %o, change %d",
					       client, modes[i], what);
				EXPECT_TRUE(pair_alike(s))
					TH_LOG("client %d, mode %o, change %d",
					       client, modes[i], what);
			}
		}
	}
	EXPECT_EQ(self->requests, fuse_server_requests(s));
}

/* A chown of the lower file counts at once: the new owner may chmod, the old owner may not. */
TEST_F_TIMEOUT(inode_set, new_owner, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	int i;

	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, fchownat(s->dirfd, "f", OTHER, OTHER, 0));
		client_become(OWNER);
		EXPECT_EQ(EPERM, change(0, fuse_path(s, "f")));
		EXPECT_EQ(EPERM, change(9, fuse_path(s, "f")));
		thread_become_root();
		client_become(STRANGER);
		EXPECT_EQ(0, change(0, fuse_path(s, "f")));
		thread_become_root();
		ASSERT_EQ(0, fchownat(s->dirfd, "f", USER, GROUP, 0));
		client_become(STRANGER);
		EXPECT_EQ(EPERM, change(1, fuse_path(s, "f")));
		EXPECT_EQ(EACCES, change(12, fuse_path(s, "f")));
		thread_become_root();
		client_become(OWNER);
		EXPECT_EQ(0, change(3, fuse_path(s, "f")));
		thread_become_root();
	}
	EXPECT_TRUE(same_as_lower(s, "f"));
}

/* Answer that a client owns the file. */
static bool lie(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct fuse_entry_out e = {
		.nodeid = fuse_server_nodeid(s, "f"), .attr_valid = 3600,
		.attr.mode = S_IFREG | 0777, .attr.uid = USER, .attr.gid = USER,
		.attr.nlink = 1, .attr.size = LEN, .attr.ino = fuse_server_nodeid(s, "f"),
	};
	struct fuse_attr_out a = { .attr_valid = 3600, .attr = e.attr };

	if (in->nodeid == FUSE_ROOT_ID && in->opcode == FUSE_LOOKUP)
		return fuse_server_reply(s, in->unique, 0, &e, sizeof(e)), true;
	if (in->nodeid != FUSE_ROOT_ID && in->opcode == FUSE_GETATTR)
		return fuse_server_reply(s, in->unique, 0, &a, sizeof(a)), true;
	return false;
}

/*
 * If the server may not write to the lower file, no client can truncate or
 * chmod it, not even root, whatever owner the server reports.
 */
TEST_F_TIMEOUT(inode_set, lying_server, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	enum client client;
	int what;

	ASSERT_EQ(0, inode_detach(s, "f"));
	ASSERT_EQ(0, fchownat(s->dirfd, "f", 0, 0, 0));
	ASSERT_EQ(0, fchmodat(s->dirfd, "f", 0644, 0));
	fuse_server_node(s, "f")->ops = 0;
	s->request = lie;
	forget_dentry(s, "f");
	ASSERT_EQ(0, lookup(s, "f"));
	ASSERT_EQ(0, inode_attach_as(s, "f", USER, OPS));
	for (client = 0; client < CLIENTS; client++) {
		for (what = 0; what < CHANGES; what++) {
			client_become(client);
			/* This call changes nothing and may succeed. */
			if (what == 8)
				change(what, fuse_path(s, "f"));
			else
				EXPECT_NE(0, change(what, fuse_path(s, "f")))
					TH_LOG("client %d, change %d", client, what);
			thread_become_root();
		}
	}
	EXPECT_EQ(-1, lower_differs(s, "f", 0, LEN, 1));
	EXPECT_TRUE(same_as_lower(s, "f"));
}

/*
 * Root's change through an unprivileged server ends as that server's own change
 * on the lower file system.
 */
TEST_F_TIMEOUT(inode_set, servers_rights, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	static const mode_t some[] = { 0644, 0600, 0622, 0400, 0666 };
	unsigned int i, owner;
	int what, f, peer;

	ASSERT_EQ(0, inode_detach(s, "f"));
	ASSERT_EQ(0, inode_attach_as(s, "f", USER, OPS));
	for (owner = 0; owner < 2; owner++) {
		for (i = 0; i < ARRAY_SIZE(some); i++) {
			for (what = 0; what < CHANGES; what++) {
				ASSERT_TRUE(pair_make(s, some[i], owner ? USER : 0, 0));
				f = change(what, fuse_path(s, "f"));
				client_become(OWNER);
				peer = change(what, lower_path(s, "peer"));
				thread_become_root();
				EXPECT_EQ(peer, f)
					TH_LOG("owner %u, mode %o, change %d", owner,
					       some[i], what);
			}
		}
	}
}

/*
 * A truncate and a cached write by a stranger drop setuid and setgid as on the
 * lower file system, if the server may write to the file, even if neither
 * client nor server owns it.
 */
TEST_F_TIMEOUT(inode_set, bits_of_another_owner, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	int what, f, peer;

	ASSERT_EQ(0, inode_detach(s, "f"));
	ASSERT_EQ(0, inode_attach_as(s, "f", USER, OPS));
	for (what = 12; what < CHANGES; what++) {
		ASSERT_TRUE(pair_make(s, 06777, 0, 0));
		client_become(STRANGER);
		EXPECT_EQ(0, change(what, lower_path(s, "peer")));
		EXPECT_EQ(0, change(what, fuse_path(s, "f"))) TH_LOG("change %d", what);
		thread_become_root();
		EXPECT_TRUE(pair_alike(s)) TH_LOG("change %d", what);
	}

	ASSERT_TRUE(pair_make(s, 06777, 0, 0));
	client_become(STRANGER);
	f = fs_open(s, OPEN_CACHED, "f", O_WRONLY);
	peer = lower_open(s, "peer", O_WRONLY);
	EXPECT_EQ(1, pwrite(f, "x", 1, 0));
	EXPECT_EQ(1, pwrite(peer, "x", 1, 0));
	thread_become_root();
	EXPECT_TRUE(pair_alike(s));
	close(f);
	close(peer);
}

/* Changes of append-only and immutable files end as on the lower file system, for root too. */
TEST_F_TIMEOUT(inode_set, append_only_and_immutable, IO_TIMEOUT)
{
	static const int flags[] = { FS_APPEND_FL, FS_IMMUTABLE_FL };
	struct fuse_server *s = &self->s;
	int what, f, peer, err;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		ASSERT_TRUE(pair_make(s, 0644, USER, GROUP));
		err = lower_flags(s, "f", flags[i]);
		if (err)
			SKIP(return, "append_only_and_immutable");
		ASSERT_EQ(0, lower_flags(s, "peer", flags[i]));
		for (what = 0; what < CHANGES; what++) {
			peer = change(what, lower_path(s, "peer"));
			f = change(what, fuse_path(s, "f"));
			EXPECT_EQ(peer, f) TH_LOG("flag %u, change %d", i, what);
		}
		EXPECT_EQ(EPERM, change(12, fuse_path(s, "f")));
		EXPECT_EQ(-1, lower_differs(s, "f", 0, LEN, 1));
		ASSERT_EQ(0, lower_flags(s, "f", 0));
		ASSERT_EQ(0, lower_flags(s, "peer", 0));
	}
}

/* Through a read-only mount of the lower file system each change is EROFS. */
TEST_F_TIMEOUT(inode_set, read_only_mount, IO_TIMEOUT)
{
	char at[] = "/tmp/ro.XXXXXX", path[64];
	struct fuse_server *s = &self->s;
	int what;

	ASSERT_NE(NULL, mkdtemp(at));
	ASSERT_EQ(0, mount(s->lower, at, NULL, MS_BIND, NULL));
	ASSERT_EQ(0, mount(NULL, at, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL));
	snprintf(path, sizeof(path), "%s/f", at);
	ASSERT_EQ(0, inode_detach(s, "f"));
	ASSERT_EQ(0, inode_attach_path(s, "f", path, OPS));
	for (what = 0; what < CHANGES; what++)
		EXPECT_EQ(EROFS, change(what, fuse_path(s, "f")))
			TH_LOG("change %d", what);
	EXPECT_EQ(-1, lower_differs(s, "f", 0, LEN, 1));
	EXPECT_EQ(0, inode_detach(s, "f"));
	umount(at);
	rmdir(at);
}

/* A program that runs cannot be truncated: ETXTBSY. */
TEST_F_TIMEOUT(inode_set, running_program, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	char cmd[512];
	struct stat st;
	int in[2], status;
	off_t size;
	pid_t pid;

	snprintf(cmd, sizeof(cmd), "cp /bin/cat %s", lower_path(s, "f"));
	ASSERT_EQ(0, system(cmd));
	ASSERT_EQ(0, fchmodat(s->dirfd, "f", 0755, 0));
	ASSERT_EQ(0, fstatat(s->dirfd, "f", &st, 0));
	ASSERT_EQ(0, pipe2(in, O_CLOEXEC));
	pid = vfork();
	if (!pid) {
		dup2(in[0], 0);
		execl(lower_path(s, "f"), "cat", NULL);
		_exit(127);
	}
	EXPECT_EQ(ETXTBSY, change(12, fuse_path(s, "f")));
	size = st.st_size;
	ASSERT_EQ(0, fstatat(s->dirfd, "f", &st, 0));
	EXPECT_EQ(size, st.st_size);
	EXPECT_EQ(0, change(0, fuse_path(s, "f")));
	close(in[1]);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, change(12, fuse_path(s, "f")));
}

static int lease_breaks;

static void on_lease_break(int sig)
{
	lease_breaks++;
}

static void truncate_f(void *arg)
{
	struct fuse_server *s = arg;

	if (truncate(fuse_path(s, "f"), 10))
		abort();
}

/* A truncate breaks a lease of the lower file, and waits until the lease is released. */
TEST_F_TIMEOUT(inode_set, breaks_lease, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	int fd = lower_open(s, "f", O_RDONLY);
	struct blocker b;

	lease_breaks = 0;
	signal(SIGIO, on_lease_break);
	ASSERT_EQ(0, fcntl(fd, F_SETLEASE, F_RDLCK));
	EXPECT_TRUE(blocker_start(&b, truncate_f, s));
	EXPECT_EQ(1, lease_breaks);
	EXPECT_EQ(LEN, size_of(fd));
	EXPECT_EQ(0, fcntl(fd, F_SETLEASE, F_UNLCK));
	blocker_join(&b);
	EXPECT_EQ(10, size_of(fd));
	close(fd);
}

static bool limit_size(rlim_t size)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_FSIZE, &r))
		return false;
	r.rlim_cur = size;
	return !setrlimit(RLIMIT_FSIZE, &r);
}

static volatile sig_atomic_t signals;

static void count_signal(int sig)
{
	signals++;
}

/* Truncates by a client with this limit */
static int truncates_within(const char *path, rlim_t size)
{
	signal(SIGXFSZ, count_signal);
	if (!limit_size(size))
		return 1;
	if (!truncate(path, size + 1) || errno != EFBIG || signals != 1)
		return 2;
	if (truncate(path, size) || truncate(path, size / 2) || truncate(path, size))
		return 3;
	return signals == 1 ? 0 : 4;
}

/*
 * A truncate beyond the client's RLIMIT_FSIZE is EFBIG, with SIGXFSZ, and changes
 * nothing.  The server's limit does not count.
 */
TEST_F_TIMEOUT(inode_set, size_limit, IO_TIMEOUT)
{
	const char *path = fuse_path(&self->s, "f");
	pid_t pid = fork();

	/* The server is a thread of this process. */
	if (!pid)
		_exit(truncates_within(path, LEN + 100));
	ASSERT_EQ(0, child_status(pid));
	EXPECT_TRUE(same_as_lower(&self->s, "f"));
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, LEN / 2, 1));

	ASSERT_TRUE(limit_size(LEN + 100));
	pid = fork();
	if (!pid)
		_exit(!limit_size(RLIM_INFINITY) || truncate(path, LEN + 101));
	EXPECT_EQ(0, child_status(pid));
	ASSERT_TRUE(limit_size(RLIM_INFINITY));
	EXPECT_TRUE(same_as_lower(&self->s, "f"));
}

/* A truncate drops cached data beyond the new end, and keeps the rest. */
TEST_F_TIMEOUT(inode_set, truncated_cache, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	int fd = fs_open(s, OPEN_CACHED, "f", O_RDWR);

	ASSERT_LE(0, fd);
	pattern(self->buf, 2 * LEN, 0, 3);
	ASSERT_EQ(2 * LEN, pwrite(fd, self->buf, 2 * LEN, 0));
	ASSERT_EQ(0, ftruncate(fd, 100));
	ASSERT_EQ(0, ftruncate(fd, LEN));
	ASSERT_EQ(LEN, pread(fd, self->buf, 2 * LEN, 0));
	EXPECT_EQ(-1, pattern_differs(self->buf, 100, 0, 3));
	EXPECT_TRUE(all_zero(self->buf + 100, LEN - 100));
	ASSERT_EQ(0, fsync(fd));
	EXPECT_EQ(-1, lower_differs(s, "f", 0, 100, 3));
	close(fd);
	fd = lower_open(s, "f", O_RDONLY);
	ASSERT_EQ(LEN, pread(fd, self->buf, 2 * LEN, 0));
	EXPECT_TRUE(all_zero(self->buf + 100, LEN - 100));
	close(fd);
}

/* After an abort each change is ENOTCONN, and the lower file keeps its data. */
TEST_F_TIMEOUT(inode_set, not_connected, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	int busy = open(s->mnt, O_PATH | O_CLOEXEC);
	int fd = open(fuse_path(s, "f"), O_RDWR | O_CLOEXEC);

	ASSERT_LE(0, fd);
	fuse_server_die(s);
	EXPECT_EQ(-1, fchmod(fd, 0600));
	EXPECT_EQ(ENOTCONN, errno);
	EXPECT_EQ(-1, ftruncate(fd, 5));
	EXPECT_EQ(ENOTCONN, errno);
	EXPECT_EQ(-1, fchown(fd, 0, 0));
	EXPECT_EQ(ENOTCONN, errno);
	EXPECT_EQ(-1, lower_differs(s, "f", 0, LEN, 1));
	close(fd);
	close(busy);
}

/*
 * On an idmapped lower mount, chown and permission checks use owners as that
 * mount maps them.
 */
TEST_F_TIMEOUT(inode_set, idmapped_lower, IO_TIMEOUT)
{
	char at[] = "/tmp/idmap.XXXXXX", path[64];
	struct fuse_server *s = &self->s;
	struct stat st;
	int err;

	ASSERT_NE(NULL, mkdtemp(at));
	err = idmapped(s->dirfd, at, USER, MAPPED);
	if (err) {
		rmdir(at);
		SKIP(return, "idmapped_lower");
	}
	snprintf(path, sizeof(path), "%s/f", at);
	ASSERT_EQ(0, inode_detach(s, "f"));
	ASSERT_EQ(0, inode_attach_path(s, "f", path, OPS));
	ASSERT_EQ(0, fchownat(s->dirfd, "f", USER, USER, 0));

	client_become(OWNER);
	EXPECT_EQ(EPERM, change(0, fuse_path(s, "f")));
	thread_become_root();
	thread_become(MAPPED, MAPPED);
	EXPECT_EQ(0, change(0, fuse_path(s, "f")));
	EXPECT_EQ(0, change(12, fuse_path(s, "f")));
	thread_become_root();
	ASSERT_EQ(0, chown(fuse_path(s, "f"), 0, 0));
	ASSERT_EQ(0, fstatat(s->dirfd, "f", &st, 0));
	EXPECT_EQ(0, st.st_uid);
	ASSERT_EQ(0, chown(fuse_path(s, "f"), MAPPED, MAPPED));
	ASSERT_EQ(0, fstatat(s->dirfd, "f", &st, 0));
	EXPECT_EQ(USER, st.st_uid);
	EXPECT_EQ(USER, st.st_gid);
	/* The mount does not map this owner. */
	EXPECT_EQ(-1, chown(fuse_path(s, "f"), OTHER, OTHER));
	EXPECT_EQ(EOVERFLOW, errno);
	EXPECT_EQ(0, inode_detach(s, "f"));
	umount2(at, MNT_DETACH);
	rmdir(at);
}

static void administrate(struct queued *q)
{
	if (q->what < 0)
		q->err = fchmodat(q->s->dirfd, "f", -q->what, 0);
	else
		q->err = fchownat(q->s->dirfd, "f", 0, 0, 0);
}

static void change_queued(struct queued *q)
{
	client_become(q->client);
	q->err = change(q->what, fuse_path(q->s, "f"));
}

/*
 * A client's chmod u+s or g+s waits for the lower inode's lock behind a chown
 * by the administrator.  It is checked again with the lock held, and refused,
 * because the client is no longer the owner.
 */
TEST_F_TIMEOUT(inode_set, chmod_races_with_chown, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	struct stat st;
	int what, i;

	for (what = 1; what <= 3; what++) {
		struct queued below = { .call = administrate };
		struct queued client = {
			.call = change_queued, .client = OWNER_MEMBER, .what = what,
		};

		for (i = 0; i < TRIES; i++) {
			ASSERT_TRUE(pair_make(s, 0755, USER, GROUP));
			if (!race(s, &below, &client))
				SKIP(return, "chmod_races_with_chown");
			ASSERT_EQ(0, below.err);
			ASSERT_EQ(0, fstatat(s->dirfd, "f", &st, 0));
			EXPECT_EQ(0, st.st_uid);
			EXPECT_EQ(0, st.st_mode & S_ISUID);
			EXPECT_TRUE(same_as_lower(s, "f"));
			if (client.err)
				break;
			/* The chmod was first, and the chown has dropped the bits. */
		}
		EXPECT_EQ(EPERM, client.err) TH_LOG("change %d", what);
	}
}

/*
 * A stranger's truncate waits for the lower inode's lock while the
 * administrator sets setuid and setgid.  It drops these bits too, because it
 * looks for them with the lock held.
 */
TEST_F_TIMEOUT(inode_set, truncate_races_with_chmod, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	struct queued below = { .call = administrate, .what = -06777 };
	struct queued client = { .call = change_queued, .client = STRANGER, .what = 12 };
	struct stat st = {};
	int i;

	for (i = 0; i < TRIES && (st.st_mode & 07777) != 0777; i++) {
		ASSERT_TRUE(pair_make(s, 0666, 0, GROUP));
		if (!race(s, &below, &client))
			SKIP(return, "truncate_races_with_chmod");
		ASSERT_EQ(0, below.err);
		EXPECT_EQ(0, client.err);
		ASSERT_EQ(0, fstatat(s->dirfd, "f", &st, 0));
		EXPECT_EQ(10, st.st_size);
	}
	EXPECT_EQ(0777, st.st_mode & 07777);
	EXPECT_TRUE(same_as_lower(s, "f"));
}

TEST_HARNESS_MAIN
