// SPDX-License-Identifier: GPL-2.0
/*
 * Credentials: lower calls use those of the task that attached; checks that
 * limit the client use those of the client.
 */
#define _GNU_SOURCE
#include <grp.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/quota.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/swap.h>
#include <sys/xattr.h>

#include "async_test.h"
#include "attach_test.h"
#include "../../kselftest_harness.h"

#define USER	1000
#define LEN	(16 * KIB)
#define SUID	(S_ISUID | S_ISGID | 0755)

FIXTURE(creds) {
	struct fuse_server s;
	uid_t attach_as;
	int got;
	char *buf;
};

static void become(uid_t euid)
{
	/*
	 * The raw system call changes this thread only, setresuid(3) changes
	 * all threads.
	 */
	syscall(SYS_setresuid, -1, euid, -1);
}

/* Root opens and replies; the test chooses the task that attaches. */
static bool attach_as(struct fuse_server *s, const struct fuse_in_header *in)
{
	FIXTURE_DATA(creds) *self = s->arg;
	const struct fuse_open_in *open_in = (const void *)(in + 1);
	int fd;

	if (in->opcode != FUSE_OPEN)
		return false;
	fd = lower_open(s, "f", open_in->flags & O_ACCMODE);
	become(self->attach_as);
	self->got = attach(s->dev, in->unique, fd);
	become(0);
	close(fd);
	reply_open(s, in->unique);
	return true;
}

FIXTURE_SETUP(creds)
{
	self->s.arg = self;
	ASSERT_EQ(0, fuse_server_start(&self->s));
	ASSERT_EQ(0, lower_make(&self->s, "f", LEN, 1));
	ASSERT_EQ(0, lower_make(&self->s, "secret", LEN, 2));
	ASSERT_EQ(0, fchmodat(self->s.dirfd, "secret", 0600, 0));
	self->buf = pages(LEN);
	ASSERT_NE(NULL, self->buf);
	self->s.request = attach_as;
}

FIXTURE_TEARDOWN(creds)
{
	EXPECT_EQ(0, server_io(&self->s));
	fuse_server_stop(&self->s);
}

/* Called in a child; cannot be undone. */
static void drop_privileges(void)
{
	if (setgroups(0, NULL) || setresgid(USER, USER, USER) ||
	    setresuid(USER, USER, USER))
		_exit(100);
}

/* The caller has none of the server's privileges after the call. */
static bool unprivileged(struct fuse_server *s)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2] = {};

	if (syscall(SYS_capget, &h, d) || d[0].effective || d[1].effective)
		return false;
	if (geteuid() != USER || getegid() != USER)
		return false;
	return open(lower_path(s, "secret"), O_RDONLY) < 0 && errno == EACCES;
}

/* An unprivileged client reads and writes a lower file that it cannot open itself. */
TEST_F_TIMEOUT(creds, unprivileged_client, IO_TIMEOUT)
{
	pid_t pid;

	ASSERT_EQ(0, fchmodat(self->s.dirfd, "f", 0600, 0));
	pid = fork();
	if (!pid) {
		char *map;
		int fd;

		drop_privileges();
		if (open(lower_path(&self->s, "f"), O_RDONLY) >= 0)
			_exit(1);
		fd = open(fuse_path(&self->s, "f"), O_RDWR);
		if (fd < 0)
			_exit(2);
		if (pread(fd, self->buf, LEN, 0) != LEN ||
		    pattern_differs(self->buf, LEN, 0, 1) != -1)
			_exit(3);
		pattern(self->buf, LEN, 0, 3);
		if (pwrite(fd, self->buf, LEN, 0) != LEN)
			_exit(4);
		map = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (map == MAP_FAILED || pattern_differs(map, LEN, 0, 3) != -1)
			_exit(5);
		_exit(unprivileged(&self->s) ? 0 : 6);
	}
	EXPECT_EQ(0, child_status(pid));
	EXPECT_EQ(0, self->got);
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, LEN, 3));
}

/* Each way to write. */
enum way {
	WAY_PWRITE, WAY_PWRITEV2, WAY_DIRECT, WAY_SPLICE, WAY_SENDFILE,
	WAY_AIO, WAY_AIO_DIRECT, WAY_URING, WAY_URING_DIRECT, WAYS
};

static bool way_is_direct(enum way way)
{
	return way == WAY_DIRECT || way == WAY_AIO_DIRECT ||
		way == WAY_URING_DIRECT;
}

static ssize_t write_by_splice(int fd, char *buf)
{
	int p[2];

	if (pipe(p) || write(p[1], buf, LEN) != LEN)
		return -1;
	return splice(p[0], NULL, fd, NULL, LEN, 0);
}

static ssize_t write_by_sendfile(int fd, char *buf)
{
	int from = open("/tmp", O_TMPFILE | O_RDWR, 0600);

	if (from < 0 || pwrite(from, buf, LEN, 0) != LEN)
		return -1;
	return sendfile(fd, from, NULL, LEN);
}

static ssize_t write_by(enum way way, int fd, char *buf)
{
	struct iovec iov = { buf, LEN };

	switch (way) {
	case WAY_SPLICE:
		return write_by_splice(fd, buf);
	case WAY_SENDFILE:
		return write_by_sendfile(fd, buf);
	case WAY_AIO:
	case WAY_AIO_DIRECT:
		return aio_once(IOCB_CMD_PWRITE, fd, buf, LEN, 0);
	case WAY_URING:
	case WAY_URING_DIRECT:
		return uring_once(IORING_OP_WRITE, fd, buf, LEN, 0);
	case WAY_PWRITEV2:
		return pwritev2(fd, &iov, 1, 0, 0);
	default:
		return pwrite(fd, buf, LEN, 0);
	}
}

/* Open and write in a child, which exits with 0 on success. */
static pid_t write_in_child(struct fuse_server *s, enum way way, bool user,
			    char *buf)
{
	pid_t pid = fork();
	struct stat st, low;
	struct statx stx;
	int fd, lower;

	if (pid)
		return pid;

	lower = lower_open(s, "f", O_PATH);
	if (fstat(lower, &low) || (low.st_mode & 07777) != SUID)
		_exit(1);
	if (user)
		drop_privileges();
	fd = open(fuse_path(s, "f"),
		  O_RDWR | (way_is_direct(way) ? O_DIRECT : 0));
	if (fd < 0 || fstat(fd, &st) || (st.st_mode & 07777) != SUID)
		_exit(2);
	if (write_by(way, fd, buf) != LEN)
		_exit(3);
	if (user && !unprivileged(s))
		_exit(4);
	/*
	 * The mount shows the mode at once, also to exec, which uses cached
	 * attributes.
	 */
	if (fstat(lower, &low) ||
	    statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_MODE, &stx) ||
	    stx.stx_mode != low.st_mode || access(fuse_path(s, "f"), X_OK))
		_exit(6);
	if (fstat(fd, &st) || st.st_mode != low.st_mode)
		_exit(5);
	_exit(0);
}

/*
 * Each way to write drops setuid and setgid, unless both client and server may
 * keep them.  The mount shows the mode at once, without a request.
 */
TEST_F_TIMEOUT(creds, setuid_falls, IO_TIMEOUT)
{
	static const struct { bool user; uid_t server; bool falls; } c[] = {
		{ true, 0, true }, { true, USER, true },
		{ false, USER, true }, { false, 0, false },
	};
	bool direct;
	struct stat st;
	unsigned int i;
	enum way way;
	int fd;

	fd = lower_open(&self->s, "f", O_RDWR | O_DIRECT);
	direct = fd >= 0;
	close(fd);
	for (i = 0; i < ARRAY_SIZE(c); i++) {
		for (way = 0; way < WAYS; way++) {
			if (way_is_direct(way) && !direct)
				continue;
			ASSERT_EQ(0, chmod(fuse_path(&self->s, "f"), SUID));
			self->attach_as = c[i].server;
			pattern(self->buf, LEN, 0, way + 5);
			EXPECT_EQ(0, child_status(write_in_child(&self->s, way,
								 c[i].user,
								 self->buf)))
				TH_LOG("case %u, way %d", i, way);
			EXPECT_EQ(0, self->got);
			ASSERT_EQ(0, fstatat(self->s.dirfd, "f", &st, 0));
			EXPECT_EQ(c[i].falls ? 0755 : SUID, st.st_mode & 07777)
				TH_LOG("case %u, way %d", i, way);
			EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, LEN, way + 5));
		}
	}
}

/* An open keeps the credentials of its attach when another task attaches later. */
TEST_F_TIMEOUT(creds, each_open_has_its_own, IO_TIMEOUT)
{
	static const uid_t as[] = { 0, USER, 0, 0, USER };
	int fd[ARRAY_SIZE(as)];
	struct stat st;
	int i;

	for (i = 0; i < ARRAY_SIZE(as); i++) {
		self->attach_as = as[i];
		fd[i] = open(fuse_path(&self->s, "f"), O_RDWR);
		ASSERT_LE(0, fd[i]);
		ASSERT_EQ(0, self->got);
	}
	for (i = 0; i < ARRAY_SIZE(as); i++) {
		ASSERT_EQ(0, chmod(fuse_path(&self->s, "f"), SUID));
		EXPECT_EQ(LEN, pwrite(fd[i], self->buf, LEN, 0));
		ASSERT_EQ(0, fstatat(self->s.dirfd, "f", &st, 0));
		EXPECT_EQ(as[i] ? 0755 : SUID, st.st_mode & 07777)
			TH_LOG("open %d", i);
		close(fd[i]);
	}
}

/*
 * setgid without group-exec, which the client's group would keep, is dropped if
 * the server is neither in that group nor can join it.
 */
TEST_F_TIMEOUT(creds, setgid_goes_no_further_than_the_server, IO_TIMEOUT)
{
	static const gid_t group = 2000;
	static const uid_t as[] = { 0, USER };
	struct stat st;
	unsigned int i;
	pid_t pid;

	for (i = 0; i < ARRAY_SIZE(as); i++) {
		ASSERT_EQ(0, fchownat(self->s.dirfd, "f", 0, group, 0));
		ASSERT_EQ(0, chmod(fuse_path(&self->s, "f"), 02666));
		self->attach_as = as[i];
		pid = fork();
		if (!pid) {
			int fd;

			if (setgroups(1, &group) ||
			    setresgid(USER, USER, USER) ||
			    setresuid(USER, USER, USER))
				_exit(100);
			fd = open(fuse_path(&self->s, "f"), O_RDWR);
			_exit(pwrite(fd, self->buf, LEN, 0) != LEN);
		}
		EXPECT_EQ(0, child_status(pid));
		EXPECT_EQ(0, self->got);
		ASSERT_EQ(0, fstatat(self->s.dirfd, "f", &st, 0));
		EXPECT_EQ(as[i] ? 0666 : 02666, st.st_mode & 07777);
	}
}

static unsigned long all_requests(struct fuse_server *s)
{
	unsigned long sum = 0;
	int i;

	for (i = 0; i < FUSE_SERVER_OPCODES; i++)
		sum += fuse_server_count(s, i);
	return sum;
}

/* 1,000 writes check and drop privileges without a request. */
TEST_F_TIMEOUT(creds, writes_ask_nobody, IO_TIMEOUT)
{
	unsigned long before;
	int fd, i, ret = 0;
	pid_t pid;

	fd = open(fuse_path(&self->s, "f"), O_RDWR);
	ASSERT_LE(0, fd);
	/* The server has no FLUSH: let the kernel learn that now. */
	close(dup(fd));
	before = all_requests(&self->s);
	pid = fork();
	if (!pid) {
		drop_privileges();
		for (i = 0; i < 1000; i++)
			ret |= pwrite(fd, self->buf, 512, i % 32 * 512) != 512;
		_exit(ret);
	}
	EXPECT_EQ(0, child_status(pid));
	EXPECT_EQ(before, all_requests(&self->s));
	close(fd);
}

static const struct vfs_cap_data net_raw = {
	.magic_etc = VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE,
	.data[0].permitted = 1 << CAP_NET_RAW,
};

/* A write drops file capabilities, also a write by a privileged client. */
TEST_F_TIMEOUT(creds, file_capabilities_fall, IO_TIMEOUT)
{
	char path[256];
	char cap[64];
	int user;

	strcpy(path, lower_path(&self->s, "f"));
	for (user = 0; user < 2; user++) {
		pid_t pid;

		ASSERT_EQ(0, setxattr(path, "security.capability", &net_raw,
				      XATTR_CAPS_SZ_2, 0));
		ASSERT_EQ(XATTR_CAPS_SZ_2, getxattr(path, "security.capability",
						    cap, sizeof(cap)));
		pid = fork();
		if (!pid) {
			int fd;

			if (user)
				drop_privileges();
			fd = open(fuse_path(&self->s, "f"), O_RDWR);
			_exit(pwrite(fd, "x", 1, 0) != 1);
		}
		EXPECT_EQ(0, child_status(pid));
		EXPECT_EQ(0, self->got);
		EXPECT_EQ(-1, getxattr(path, "security.capability", cap,
				       sizeof(cap))) TH_LOG("user %d", user);
		EXPECT_EQ(ENODATA, errno);
	}
	EXPECT_EQ(0, fuse_server_count(&self->s, FUSE_GETXATTR));
}

/* Use up the blocks that unprivileged users can allocate. */
static void fill_as_user(struct fuse_server *s)
{
	int fd = lower_open(s, "fill", O_RDWR | O_CREAT);
	off_t len = 0, step;
	char c[BLOCK] = {};
	pid_t pid;

	pid = fork();
	if (!pid) {
		drop_privileges();
		for (step = 1L << 30; step >= BLOCK; ) {
			if (fallocate(fd, 0, len, step))
				step /= 2;
			else
				len += step;
		}
		_exit(pwrite(fd, c, BLOCK, len) == BLOCK || errno != ENOSPC);
	}
	close(fd);
	if (child_status(pid))
		abort();
}

/*
 * A client writes into a hole, which allocates blocks.  Returns 0 or its errno.
 */
static int write_new_block(FIXTURE_DATA(creds) *self, bool user, int flags,
			   unsigned int i)
{
	pid_t pid;
	int fd;

	pid = fork();
	if (!pid) {
		if (user)
			drop_privileges();
		fd = open(fuse_path(&self->s, "f"), O_RDWR | flags);
		if (pwrite(fd, self->buf, BLOCK, (16 + i) * 16 * BLOCK) == BLOCK)
			_exit(0);
		_exit(errno);
	}
	return child_status(pid);
}

struct client_write {
	bool user;	/* the client is USER, not root */
	uid_t server;	/* the user that attaches */
	int want;	/* 0 or an errno */
};

/* Each write of @c, buffered and then direct */
static void writes_of_each(struct __test_metadata *_metadata,
			   FIXTURE_DATA(creds) *self,
			   const struct client_write *c, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < 2 * nr; i++) {
		self->attach_as = c[i % nr].server;
		EXPECT_EQ(c[i % nr].want,
			  write_new_block(self, c[i % nr].user,
					  i < nr ? 0 : O_DIRECT, i))
			TH_LOG("write %u", i);
		EXPECT_EQ(0, self->got);
	}
}

/*
 * The lower file system checks the task that attached, not the client and not
 * the mounter: here for blocks that are reserved for root.
 */
TEST_F_TIMEOUT(creds, reserved_blocks, IO_TIMEOUT)
{
	static const struct client_write c[] = {
		{ true, 0, 0 }, { false, 0, 0 },
		{ true, USER, ENOSPC }, { false, USER, ENOSPC },
	};

	if (!lower_is(&self->s, EXT4_SUPER_MAGIC))
		SKIP(return, "reserved_blocks");
	fill_as_user(&self->s);
	writes_of_each(_metadata, self, c, ARRAY_SIZE(c));
	unlinkat(self->s.dirfd, "fill", 0);
}

static int add_flag(struct fuse_server *s, const char *name, int flag, bool set)
{
	int fd = lower_open(s, name, O_RDONLY);
	int flags, err;

	err = ioctl(fd, FS_IOC_GETFLAGS, &flags);
	if (!err) {
		flags = set ? flags | flag : flags & ~flag;
		err = ioctl(fd, FS_IOC_SETFLAGS, &flags);
	}
	close(fd);
	return err ? errno : 0;
}

/*
 * An open that is older than the immutable flag of the lower file can do no
 * more than a lower open of the same age.
 */
TEST_F_TIMEOUT(creds, immutable, IO_TIMEOUT)
{
	ssize_t ret;
	int fd, low, err;

	low = lower_open(&self->s, "f", O_RDWR);
	fd = open(fuse_path(&self->s, "f"), O_RDWR);
	ASSERT_LE(0, fd);
	if (add_flag(&self->s, "f", FS_IMMUTABLE_FL, true))
		SKIP(return, "immutable");
	errno = 0;
	ret = pwrite(low, "x", 1, 0);
	err = errno;
	errno = 0;
	EXPECT_EQ(ret, pwrite(fd, "x", 1, 0));
	EXPECT_EQ(err, errno);
	EXPECT_EQ(1, pread(fd, self->buf, 1, 0));
	/* A new open is refused by the lower file system. */
	self->s.request = NULL;
	EXPECT_EQ(-1, fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDWR));
	EXPECT_EQ(EPERM, errno);
	close(fd);
	close(low);
	EXPECT_EQ(0, add_flag(&self->s, "f", FS_IMMUTABLE_FL, false));
}

/* The smallest swap header. */
static int make_swap(struct fuse_server *s, const char *name)
{
	static char buf[16 * PAGE];
	int fd = lower_open(s, name, O_RDWR | O_CREAT);
	uint32_t *info = (uint32_t *)(buf + 1024);
	size_t page = getpagesize();
	int ret = -1;

	info[0] = 1;
	info[1] = sizeof(buf) / page - 1;
	memcpy(buf + page - 10, "SWAPSPACE2", 10);
	fchmod(fd, 0600);
	if (write(fd, buf, sizeof(buf)) == sizeof(buf) && !fsync(fd))
		ret = 0;
	close(fd);
	return ret;
}

/* An open from before the lower file became a swap file cannot write to it. */
TEST_F_TIMEOUT(creds, swapfile, IO_TIMEOUT)
{
	char path[256];
	int fd;

	ASSERT_EQ(0, make_swap(&self->s, "swap"));
	strcpy(path, lower_path(&self->s, "swap"));
	self->s.request = NULL;
	fd = fs_open(&self->s, OPEN_PASSTHROUGH, "swap", O_RDWR);
	ASSERT_LE(0, fd);
	if (swapon(path, 0)) {
		ASSERT_EQ(EINVAL, errno);
		SKIP(return, "swapfile");
	}
	EXPECT_EQ(-1, pwrite(fd, "x", 1, 0));
	EXPECT_EQ(ETXTBSY, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
				   fd, 0));
	EXPECT_EQ(ETXTBSY, errno);
	EXPECT_NE(MAP_FAILED, mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0));
	EXPECT_EQ(1, pread(fd, self->buf, 1, 0));
	EXPECT_EQ(0, swapoff(path));
	EXPECT_EQ(1, pwrite(fd, "x", 1, 0));
	close(fd);
}

/*
 * Mount a small ext4 with quota over the server's directory, in this namespace.
 */
static int mount_with_quota(struct fuse_server *s, const char *image)
{
	char cmd[512];
	int fd;

	fd = open(image, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, 64 << 20))
		return -1;
	close(fd);
	snprintf(cmd, sizeof(cmd),
		 "{ modprobe -q -a loop quota_v2; mkfs.ext4 -q -O quota %s && mount -o loop,usrquota %s %s; } >/dev/null 2>&1",
		 image, image, s->lower);
	if (system(cmd))
		return -1;
	close(s->dirfd);
	s->dirfd = open(s->lower, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return s->dirfd < 0 ? -1 : 0;
}

/*
 * The quota is that of the file's owner.  Only if root attached may a write
 * exceed it; otherwise it is EDQUOT.
 */
TEST_F_TIMEOUT(creds, quota, IO_TIMEOUT)
{
	static const struct client_write c[] = {
		{ true, 0, 0 }, { false, 0, 0 },
		{ true, USER, EDQUOT }, { false, USER, EDQUOT },
	};
	/* In KiB: the present size of the file */
	struct if_dqblk limit = {
		.dqb_bhardlimit = LEN / KIB,
		.dqb_bsoftlimit = LEN / KIB,
		.dqb_valid = QIF_BLIMITS,
	};
	char image[64];

	snprintf(image, sizeof(image), "/tmp/quota.%d", getpid());
	if (mount_with_quota(&self->s, image)) {
		unlink(image);
		SKIP(return, "quota");
	}
	ASSERT_EQ(0, lower_make(&self->s, "f", LEN, 1));
	ASSERT_EQ(0, fchownat(self->s.dirfd, "f", USER, USER, 0));
	ASSERT_EQ(0, syscall(__NR_quotactl_fd, self->s.dirfd,
			     QCMD(Q_SETQUOTA, USRQUOTA), USER, &limit));
	writes_of_each(_metadata, self, c, ARRAY_SIZE(c));
	close(self->s.dirfd);
	umount2(self->s.lower, MNT_DETACH);
	unlink(image);
	self->s.dirfd = open(self->s.lower, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

TEST_HARNESS_MAIN
