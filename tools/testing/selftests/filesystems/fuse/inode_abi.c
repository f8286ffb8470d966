// SPDX-License-Identifier: GPL-2.0
/*
 * The ABI of attaching a lower file to an inode: layout, errors, to which requests,
 * what makes no sense, how it is counted, and when it ends.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/statfs.h>

#include "inode_test.h"
#include "../../kselftest_harness.h"

#define LEN	10000
#define RACES	200

/* The number and the layout are those that servers are built with. */
TEST(layout)
{
	struct fuse_passthrough_inode in;

	EXPECT_EQ(0x4020e540, FUSE_DEV_IOC_PASSTHROUGH_INODE);
	EXPECT_EQ(32, sizeof(in));
	EXPECT_EQ(0, offsetof(struct fuse_passthrough_inode, unique));
	EXPECT_EQ(8, offsetof(struct fuse_passthrough_inode, nodeid));
	EXPECT_EQ(16, offsetof(struct fuse_passthrough_inode, fd));
	EXPECT_EQ(20, offsetof(struct fuse_passthrough_inode, flags));
	EXPECT_EQ(24, offsetof(struct fuse_passthrough_inode, ops));
	EXPECT_EQ(8, sizeof(in.unique));
	EXPECT_EQ(8, sizeof(in.nodeid));
	EXPECT_EQ(4, sizeof(in.fd));
	EXPECT_EQ(4, sizeof(in.flags));
	EXPECT_EQ(8, sizeof(in.ops));
	EXPECT_EQ(1, FUSE_PASSTHROUGH_RDONLY);
	EXPECT_EQ(1, FUSE_PASSTHROUGH_OP(FUSE_LOOKUP));
	EXPECT_EQ(4, FUSE_PASSTHROUGH_OP(FUSE_GETATTR));
	EXPECT_EQ(1ULL << 46, FUSE_PASSTHROUGH_OP(FUSE_COPY_FILE_RANGE));
	EXPECT_EQ(8, sizeof(FUSE_PASSTHROUGH_OP(FUSE_OPEN)));
}

/* What to try while a request waits for its answer, and what comes of it. */
struct trial {
	const char *what;
	int want;
	int (*lower)(struct fuse_server *s);
	struct fuse_passthrough_inode in;	/* unique: added to the right one */
};

struct attempt {
	const struct trial *t;
	int opcode;
	int got;
	int dev;			/* to ask at; -1: the server's */
	int fd;
	int given;			/* of twice: the second lower file */
	struct own_fs *fs;
	uint64_t last;			/* unique of the last request */
};

FIXTURE(inode_abi) {
	struct fuse_server s;
	struct attempt a;
	struct own_fs fs;
};

static void set_up(struct __test_metadata *_metadata, FIXTURE_DATA(inode_abi) *self)
{
	struct stat st;

	self->a.dev = -1;
	self->a.fs = &self->fs;
	self->s.arg = &self->a;
	ASSERT_EQ(0, fuse_server_start(&self->s));
	ASSERT_EQ(0, lower_make(&self->s, "f", LEN, 1));
	ASSERT_EQ(0, lower_make(&self->s, "other", LEN / 2, 2));
	ASSERT_EQ(0, mkdirat(self->s.dirfd, "d", 0755));
	ASSERT_EQ(0, symlinkat("f", self->s.dirfd, "l"));
	ASSERT_TRUE(own_fs_mount(&self->fs));
	ASSERT_EQ(0, stat(self->s.mnt, &st));
	ASSERT_TRUE(self->s.init_flags & FUSE_PASSTHROUGH);
}

FIXTURE_SETUP(inode_abi)
{
	self->s.permissions = true;
	set_up(_metadata, self);
}

FIXTURE_TEARDOWN(inode_abi)
{
	fuse_server_stop(&self->s);
	/* Nothing is left, whatever the test did. */
	EXPECT_TRUE(own_fs_free(&self->fs));
	own_fs_end(&self->fs);
}

static int dir(struct fuse_server *s)
{
	return lower_opath(s, "d");
}

static int link_path(struct fuse_server *s)
{
	return lower_opath(s, "l");
}

static int minus_two(struct fuse_server *s)
{
	return -2;
}

static int sysctl_path(struct fuse_server *s)
{
	return open("/proc/sys/kernel/core_pattern", O_PATH);
}

static int proc_dir(struct fuse_server *s)
{
	return open("/proc/self", O_PATH);
}

static int sysfs_file(struct fuse_server *s)
{
	return open("/sys/module/fuse/parameters/max_user_bgreq", O_PATH);
}

static int device_path(struct fuse_server *s)
{
	return open("/dev/zero", O_PATH);
}

/* The mount itself, asked without a request. */
static int on_fuse(struct fuse_server *s)
{
	return open(s->mnt, O_PATH);
}

static int attempt_dev(struct fuse_server *s)
{
	struct attempt *a = s->arg;

	return a->dev < 0 ? s->dev : a->dev;
}

static bool try_it(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct attempt *a = s->arg;
	struct fuse_passthrough_inode arg = a->t->in;

	if (in->opcode != (uint32_t)a->opcode)
		return false;
	a->last = in->unique;
	arg.unique += in->unique;
	arg.fd = a->t->lower(s);
	a->fd = arg.fd;
	a->got = inode_ioctl(attempt_dev(s), &arg);
	close(arg.fd);
	return false;
}

#define GET	OP(GETATTR)

static const struct trial refused[] = {
	{ "unique 2 further on", ENOENT, other, { .unique = 2, .ops = GET } },
	{ "unique of its interrupt", ENOENT, other, { .unique = 1, .ops = GET } },
	{ "unique far off", ENOENT, other, { .unique = 1ULL << 40, .ops = GET } },
	{ "nodeid beside unique", EINVAL, other, { .nodeid = 1, .ops = GET } },
	{ "no operation", EINVAL, other, { .ops = 0 } },
	{ "unknown flag", EINVAL, other, { .flags = 2, .ops = GET } },
	{ "unknown flag, last bit", EINVAL, other, { .flags = 1U << 31, .ops = GET } },
	{ "unknown operation", EINVAL, other, { .ops = GET | 1ULL << 63 } },
	{ "descriptor closed", EBADF, closed, { .ops = GET } },
	{ "descriptor -1", EBADF, minus_one, { .ops = GET } },
	{ "descriptor -2", EBADF, minus_two, { .ops = GET } },
	{ "pipe", EINVAL, pipe_end, { .ops = GET } },
	{ "socket", EINVAL, unix_socket, { .ops = GET } },
	{ "eventfd", EINVAL, event_fd, { .ops = GET } },
	{ "character device", EINVAL, char_device, { .ops = GET } },
	{ "path of a device", EINVAL, device_path, { .ops = GET } },
	{ "fifo", EINVAL, fifo_path, { .ops = GET } },
	{ "memfd", EINVAL, memfd, { .ops = GET } },
	{ "hugetlb memfd", EINVAL, huge_memfd, { .ops = GET } },
	{ "hugetlbfs", EINVAL, huge_file, { .ops = GET } },
	{ "sysctl", EINVAL, sysctl_path, { .ops = GET } },
	{ "directory of proc", EINVAL, proc_dir, { .ops = GET } },
	{ "sysfs", EINVAL, sysfs_file, { .ops = GET } },
	{ "on fuse", EINVAL, on_fuse, { .ops = GET } },
};

static bool lower_missing(const struct trial *t, int fd)
{
	return fd < 0 && t->lower != minus_one && t->lower != minus_two;
}

/*
 * Each row of errors that is about the request or the lower file; a refusal changes
 * nothing: stats ask as before, and what is fit is attached to the next answer.
 */
TEST_F_TIMEOUT(inode_abi, refused, IO_TIMEOUT)
{
	static const struct trial fit = { "fit", 0, other, { .ops = GET } };
	unsigned int i;

	self->a.opcode = FUSE_LOOKUP;
	self->s.request = try_it;
	for (i = 0; i < ARRAY_SIZE(refused); i++) {
		const struct trial *t = &refused[i];

		self->a.t = t;
		self->a.got = -1;
		forget_dentry(&self->s, "f");
		EXPECT_EQ(1, stat_costs(&self->s, "f", FUSE_GETATTR));
		ASSERT_FALSE(lower_missing(t, self->a.fd))
			TH_LOG("%s: no such file", t->what);
		EXPECT_EQ(t->want, self->a.got) TH_LOG("%s", t->what);
		EXPECT_EQ(0, inodes_attached(&self->s)) TH_LOG("%s", t->what);
	}
	self->a.t = &fit;
	forget_dentry(&self->s, "f");
	EXPECT_EQ(0, stat_costs(&self->s, "f", FUSE_GETATTR));
	EXPECT_EQ(0, self->a.got);
	EXPECT_EQ(1, inodes_attached(&self->s));
}

/* The same files are refused by nodeid. */
TEST_F_TIMEOUT(inode_abi, refused_by_nodeid, IO_TIMEOUT)
{
	unsigned int i;

	ASSERT_EQ(0, lookup(&self->s, "f"));
	for (i = 0; i < ARRAY_SIZE(refused); i++) {
		const struct trial *t = &refused[i];
		struct fuse_passthrough_inode in = t->in;

		if (in.unique || in.nodeid || t->lower == minus_one)
			continue;
		in.nodeid = fuse_server_nodeid(&self->s, "f");
		in.fd = t->lower(&self->s);
		EXPECT_EQ(t->want, inode_ioctl(self->s.dev, &in))
			TH_LOG("%s", t->what);
		close(in.fd);
	}
	EXPECT_EQ(0, inodes_attached(&self->s));
	EXPECT_EQ(1, stat_costs(&self->s, "f", FUSE_GETATTR));
}

/* Files that are made up as they are read are refused, whatever their file system says. */
TEST_F_TIMEOUT(inode_abi, pseudo, IO_TIMEOUT)
{
	const struct { const char *what; int fd; } files[] = {
		{ "configfs", configfs_file(O_RDWR) },
		{ "tracefs", file_on("tracefs", NULL, "trace", O_RDONLY) },
		{ "tracefs, directory", file_on("tracefs", NULL, ".", O_RDONLY) },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(files); i++) {
		if (files[i].fd < 0)
			SKIP(return, "no file on %s", files[i].what);
		EXPECT_EQ(EINVAL, inode_attach_fd(&self->s, ".", files[i].fd, GET))
			TH_LOG("%s", files[i].what);
		close(files[i].fd);
	}
}

/* Any descriptor of a file, a directory or a symlink will do; its access mode says nothing. */
TEST_F_TIMEOUT(inode_abi, descriptors, IO_TIMEOUT)
{
	static const struct { const char *name; int (*lower)(struct fuse_server *s); } c[] = {
		{ "f", other }, { "f", other_rdonly }, { "f", other_wronly },
		{ "f", other_path }, { "d", dir }, { "d", directory },
		{ ".", dir }, { "l", link_path },
	};
	unsigned int i;
	int fd;

	for (i = 0; i < ARRAY_SIZE(c); i++) {
		ASSERT_EQ(0, lookup(&self->s, c[i].name));
		fd = c[i].lower(&self->s);
		ASSERT_LE(0, fd);
		EXPECT_EQ(0, inode_attach_fd(&self->s, c[i].name, fd, GET))
			TH_LOG("case %u", i);
		close(fd);
		EXPECT_EQ(0, stat_costs(&self->s, c[i].name, FUSE_GETATTR))
			TH_LOG("case %u", i);
		EXPECT_EQ(0, inode_detach(&self->s, c[i].name));
		EXPECT_LT(0, stat_costs(&self->s, c[i].name, FUSE_GETATTR))
			TH_LOG("case %u", i);
	}
}

/* A file that has no write operation has attributes. */
TEST_F_TIMEOUT(inode_abi, read_only, IO_TIMEOUT)
{
	int fd = squashfs_file(O_RDONLY);

	if (fd < 0)
		SKIP(return, "no squashfs, or no loop devices");
	ASSERT_EQ(0, lookup(&self->s, "f"));
	EXPECT_EQ(0, inode_attach_fd(&self->s, "f", fd, GET));
	EXPECT_EQ(0, stat_costs(&self->s, "f", FUSE_GETATTR));
	close(fd);
}

static bool try_bad_pointers(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct attempt *a = s->arg;
	struct fuse_passthrough_inode arg = { .unique = in->unique, .ops = GET };
	char *edge;

	if (in->opcode != FUSE_LOOKUP)
		return false;
	arg.fd = other(s);
	edge = (char *)pages(2 * PAGE) + PAGE;
	munmap(edge, PAGE);
	/* All but the last byte is readable. */
	memcpy(edge - sizeof(arg) + 1, &arg, sizeof(arg) - 1);

	a->got = inode_ioctl(s->dev, NULL);
	if (a->got == EFAULT)
		a->got = inode_ioctl(s->dev, (void *)(edge - sizeof(arg) + 1));
	if (a->got == EFAULT)
		a->got = inode_ioctl(s->dev, (void *)-4096L);
	munmap(edge - PAGE, PAGE);
	close(arg.fd);
	return false;
}

/* An argument that cannot be read in whole is EFAULT. */
TEST_F_TIMEOUT(inode_abi, bad_pointer, IO_TIMEOUT)
{
	self->s.request = try_bad_pointers;
	EXPECT_EQ(1, stat_costs(&self->s, "f", FUSE_GETATTR));
	EXPECT_EQ(EFAULT, self->a.got);
	EXPECT_EQ(0, inodes_attached(&self->s));
}

static bool try_numbers(struct fuse_server *s, const struct fuse_in_header *in)
{
	static const unsigned long cmds[] = {
		_IOW(FUSE_DEV_IOC_MAGIC, 64, uint64_t),
		_IOR(FUSE_DEV_IOC_MAGIC, 64, struct fuse_passthrough_inode),
		_IOWR(FUSE_DEV_IOC_MAGIC, 64, struct fuse_passthrough_inode),
		_IO(FUSE_DEV_IOC_MAGIC, 64),
		_IOW(FUSE_DEV_IOC_MAGIC, 65, struct fuse_passthrough_inode),
		_IOW(FUSE_DEV_IOC_MAGIC, 1, struct fuse_passthrough_inode),
		_IOW(FUSE_DEV_IOC_MAGIC + 1, 64, struct fuse_passthrough_inode),
	};
	struct attempt *a = s->arg;
	struct fuse_passthrough_inode arg = { .unique = in->unique, .ops = GET };
	unsigned int i;

	if (in->opcode != FUSE_LOOKUP)
		return false;
	arg.fd = other(s);
	a->got = ENOTTY;
	for (i = 0; i < ARRAY_SIZE(cmds) && a->got == ENOTTY; i++)
		a->got = ioctl(s->dev, cmds[i], &arg) ? errno : 0;
	close(arg.fd);
	return false;
}

/* Near misses of the number are unknown: ENOTTY. */
TEST_F_TIMEOUT(inode_abi, other_numbers, IO_TIMEOUT)
{
	self->s.request = try_numbers;
	EXPECT_EQ(1, stat_costs(&self->s, "f", FUSE_GETATTR));
	EXPECT_EQ(ENOTTY, self->a.got);
}

/* Sets that make no sense, whatever the inode. */
TEST_F_TIMEOUT(inode_abi, senseless_sets, IO_TIMEOUT)
{
	static const struct { const char *name; uint64_t ops; uint32_t flags; } c[] = {
		{ "d", GET | OP(OPENDIR) },
		{ "d", GET | OP(READDIR) },
		{ "d", GET | OP(FSYNCDIR) },
		{ "d", GET | OP(FSYNCDIR) | OP(OPENDIR) },
		{ "d", GET | OP(FSYNCDIR) | OP(READDIR) },
		{ "f", OPS_FILE, FUSE_PASSTHROUGH_RDONLY },
		{ "f", GET | OP(SETATTR), FUSE_PASSTHROUGH_RDONLY },
		{ "f", GET | OP(OPEN) | OP(SETXATTR), FUSE_PASSTHROUGH_RDONLY },
		{ "f", GET | OP(OPEN) | OP(REMOVEXATTR), FUSE_PASSTHROUGH_RDONLY },
		{ "f", GET | OP(OPEN) | OP(FALLOCATE), FUSE_PASSTHROUGH_RDONLY },
	};
	struct fuse_passthrough_inode in;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(c); i++) {
		ASSERT_EQ(0, lookup(&self->s, c[i].name));
		in = (struct fuse_passthrough_inode) {
			.nodeid = fuse_server_nodeid(&self->s, c[i].name),
			.fd = lower_opath(&self->s, c[i].name),
			.ops = c[i].ops,
			.flags = c[i].flags,
		};
		EXPECT_EQ(EINVAL, inode_ioctl(self->s.dev, &in)) TH_LOG("case %u", i);
		close(in.fd);
	}
	EXPECT_EQ(0, inodes_attached(&self->s));
}

/* Send a request of this kind, about "f", "d" or a new name. */
static int send_request(struct fuse_server *s, int opcode)
{
	char path[256];
	struct stat st;
	int fd;

	snprintf(path, sizeof(path), "%s/new", s->mnt);
	switch (opcode) {
	case FUSE_LOOKUP:
		return stat(fuse_path(s, "f"), &st);
	case FUSE_GETATTR:
		return stat_costs(s, "f", FUSE_GETATTR) != 1;
	case FUSE_MKNOD:
		return mknod(path, S_IFREG | 0644, 0);
	case FUSE_MKDIR:
		return mkdir(path, 0755);
	case FUSE_SYMLINK:
		return symlink("f", path);
	case FUSE_LINK:
		return link(fuse_path(s, "f"), path);
	case FUSE_OPENDIR:
		fd = open(fuse_path(s, "d"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		break;
	default:
		fd = open_as(s, opcode);
	}
	if (fd >= 0)
		close(fd);
	return fd < 0 ? -1 : 0;
}

/* Of each request that may carry a lower file. */
static const int carriers[] = {
	FUSE_LOOKUP, FUSE_CREATE, FUSE_MKNOD, FUSE_MKDIR, FUSE_SYMLINK, FUSE_LINK,
	FUSE_TMPFILE, FUSE_GETATTR, FUSE_OPEN, FUSE_OPENDIR,
};

/* The answer to each kind of request attaches to the inode that it is about. */
TEST_F_TIMEOUT(inode_abi, each_request, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	struct statx stx;
	unsigned int i;
	int fd;

	s->how = OPEN_CACHED;
	fuse_server_node(s, "f")->ops = GET;
	fuse_server_node(s, "d")->ops = GET;
	s->new_ops = GET;
	for (i = 0; i < ARRAY_SIZE(carriers); i++) {
		const char *name = "new";

		if (carriers[i] == FUSE_TMPFILE)
			continue;
		if (carriers[i] == FUSE_LOOKUP || carriers[i] == FUSE_GETATTR ||
		    carriers[i] == FUSE_OPEN)
			name = "f";
		else if (carriers[i] == FUSE_OPENDIR)
			name = "d";
		s->attach_in = FUSE_PASSTHROUGH_OP(carriers[i]);
		ASSERT_EQ(0, send_request(s, carriers[i]))
			TH_LOG("opcode %d: %d", carriers[i], errno);
		EXPECT_EQ(0, s->inode_error) TH_LOG("opcode %d", carriers[i]);
		EXPECT_EQ(1, inodes_attached(s)) TH_LOG("opcode %d", carriers[i]);
		EXPECT_EQ(0, stat_costs(s, name, FUSE_GETATTR))
			TH_LOG("opcode %d", carriers[i]);
		EXPECT_EQ(0, inode_detach(s, name));
		unlink(fuse_path(s, "new"));
		rmdir(fuse_path(s, "new"));
		/* The next one is asked for again. */
		forget_dentry(s, "f");
		forget_dentry(s, "d");
	}

	/* One that has no name is there while it is open. */
	s->attach_in = OP(TMPFILE);
	fd = open_as(s, FUSE_TMPFILE);
	if (fd < 0 && errno == EOPNOTSUPP)
		return;	/* overlayfs of 6.1 has none */
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, s->inode_error);
	EXPECT_EQ(1, inodes_attached(s));
	i = fuse_server_count(s, FUSE_GETATTR);
	EXPECT_EQ(0, statx(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC,
			   STATX_BASIC_STATS, &stx));
	EXPECT_EQ(i, fuse_server_count(s, FUSE_GETATTR));
	close(fd);
	EXPECT_EQ(0, inodes_attached(s));
}

/* Any other request takes no lower file of an inode: EINVAL. */
TEST_F_TIMEOUT(inode_abi, other_requests, IO_TIMEOUT)
{
	static const struct trial t = { "", EINVAL, other, { .ops = GET } };
	static const int opcodes[] = {
		FUSE_READ, FUSE_WRITE, FUSE_STATFS, FUSE_UNLINK, FUSE_RELEASE,
		FUSE_SETATTR, FUSE_READDIR, FUSE_RELEASEDIR, FUSE_RENAME, FUSE_RMDIR,
		FUSE_READLINK,
	};
	struct fuse_server *s = &self->s;
	char buf[256], to[256];
	struct statfs st;
	unsigned int i;
	int fd;

	self->a.t = &t;
	s->request = try_it;
	snprintf(to, sizeof(to), "%s/renamed", s->mnt);
	for (i = 0; i < ARRAY_SIZE(opcodes); i++) {
		self->a.got = -1;
		self->a.opcode = opcodes[i];
		fd = fs_open(s, OPEN_DIRECT, "x", O_RDWR | O_CREAT);
		ASSERT_LE(0, fd);
		EXPECT_EQ(1, pwrite(fd, "x", 1, 0));
		EXPECT_EQ(1, pread(fd, buf, 1, 0));
		EXPECT_EQ(0, fchmod(fd, 0600));
		close(fd);
		EXPECT_EQ(0, rename(fuse_path(s, "x"), to));
		unlink(to);
		EXPECT_EQ(1, readlink(fuse_path(s, "l"), buf, sizeof(buf)));
		fd = open(s->mnt, O_RDONLY | O_DIRECTORY);
		EXPECT_LT(0, syscall(SYS_getdents64, fd, buf, sizeof(buf)));
		close(fd);
		mkdir(to, 0700);
		rmdir(to);
		/* RELEASE is sent in the background: let it be served. */
		fuse_server_wait(s, FUSE_RELEASE, i + 1);
		fuse_server_wait(s, FUSE_RELEASEDIR, i + 1);
		statfs(s->mnt, &st);
		EXPECT_EQ(EINVAL, self->a.got) TH_LOG("opcode %d", opcodes[i]);
		EXPECT_EQ(0, inodes_attached(s));
	}
}

/* After the answer it is too late, and nobody knows of a request 0: ENOENT. */
TEST_F_TIMEOUT(inode_abi, answered, IO_TIMEOUT)
{
	static const struct trial t = { "", ENOENT, other, { .unique = 2, .ops = GET } };
	struct fuse_passthrough_inode in = { .ops = GET };

	self->a.t = &t;
	self->a.opcode = FUSE_LOOKUP;
	self->s.request = try_it;
	ASSERT_EQ(0, lookup(&self->s, "f"));
	in.unique = self->a.last;
	in.fd = other(&self->s);
	EXPECT_EQ(ENOENT, inode_ioctl(self->s.dev, &in));
	in.unique = 0;
	EXPECT_NE(0, inode_ioctl(self->s.dev, &in));
	close(in.fd);
	EXPECT_EQ(0, inodes_attached(&self->s));
}

static bool try_twice(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct attempt *a = s->arg;

	if (in->opcode != (uint32_t)a->opcode)
		return false;
	try_it(s, in);
	if (a->got)
		return false;
	/* The second one stays with nobody. */
	a->given = open(a->fs->path, O_PATH | O_CLOEXEC);
	try_it(s, in);
	close(a->given);
	return false;
}

static int given_or_other(struct fuse_server *s)
{
	struct attempt *a = s->arg;

	return a->given >= 0 ? dup(a->given) : other(s);
}

/* A second lower file for the same request is EBUSY, and the first one stays. */
TEST_F_TIMEOUT(inode_abi, twice, IO_TIMEOUT)
{
	static const struct trial t = { "", EBUSY, given_or_other, { .ops = GET } };
	struct stat st;
	unsigned int i;
	int err;

	self->a.t = &t;
	self->s.how = OPEN_CACHED;
	for (i = 0; i < ARRAY_SIZE(carriers); i++) {
		self->a.opcode = carriers[i];
		self->s.request = NULL;
		if (carriers[i] == FUSE_OPEN || carriers[i] == FUSE_GETATTR)
			ASSERT_EQ(0, lookup(&self->s, "f"));
		self->a.got = -1;
		self->a.given = -1;
		self->s.request = try_twice;
		err = send_request(&self->s, carriers[i]) ? errno : 0;
		/* overlayfs of 6.1 has none. */
		if (carriers[i] == FUSE_TMPFILE && err == EOPNOTSUPP)
			continue;
		ASSERT_EQ(0, err);
		EXPECT_EQ(EBUSY, self->a.got) TH_LOG("opcode %d", carriers[i]);
		if (carriers[i] == FUSE_LOOKUP || carriers[i] == FUSE_OPEN) {
			ASSERT_EQ(0, stat(fuse_path(&self->s, "f"), &st));
			EXPECT_EQ(LEN / 2, st.st_size);
		}
		EXPECT_TRUE(own_fs_free(&self->fs)) TH_LOG("opcode %d", carriers[i]);
		unlink(fuse_path(&self->s, "new"));
		rmdir(fuse_path(&self->s, "new"));
		inode_detach_all(&self->s);
		forget_dentry(&self->s, "f");
	}
}

/* An OPEN carries both, a lower file for itself and one for its inode. */
TEST_F_TIMEOUT(inode_abi, beside_an_open, IO_TIMEOUT)
{
	int fd;

	self->s.attach_in = OP(OPEN);
	fuse_server_node(&self->s, "f")->ops = GET;
	fd = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, self->s.inode_error);
	EXPECT_EQ(1, inodes_attached(&self->s));
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 1, true));
	EXPECT_EQ(0, stat_costs(&self->s, "f", FUSE_GETATTR));
	close(fd);
	EXPECT_EQ(1, inodes_attached(&self->s));
}

/* By nodeid an inode takes one lower file, of its type; EBUSY, EINVAL. */
TEST_F_TIMEOUT(inode_abi, by_nodeid, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	struct stat st;
	int fd;

	ASSERT_EQ(0, lookup(s, "f"));
	ASSERT_EQ(0, lookup(s, "d"));
	fd = dir(s);
	EXPECT_EQ(EINVAL, inode_attach_fd(s, "f", fd, GET));
	EXPECT_EQ(0, inode_attach_fd(s, "d", fd, GET));
	EXPECT_EQ(EBUSY, inode_attach_fd(s, "d", fd, GET));
	close(fd);
	fd = other(s);
	EXPECT_EQ(EINVAL, inode_attach_fd(s, ".", fd, GET));
	EXPECT_EQ(0, inode_attach_fd(s, "f", fd, GET));
	close(fd);
	fd = open(self->fs.path, O_PATH | O_CLOEXEC);
	EXPECT_EQ(EBUSY, inode_attach_fd(s, "f", fd, GET));
	close(fd);
	EXPECT_TRUE(own_fs_free(&self->fs));
	EXPECT_EQ(2, inodes_attached(s));
	EXPECT_EQ(0, stat(fuse_path(s, "f"), &st));
	EXPECT_EQ(LEN / 2, st.st_size);
}

/* The root is attached by nodeid, as any other. */
TEST_F_TIMEOUT(inode_abi, root, IO_TIMEOUT)
{
	EXPECT_EQ(1, stat_costs(&self->s, ".", FUSE_GETATTR));
	EXPECT_EQ(0, inode_attach(&self->s, ".", GET));
	EXPECT_EQ(1, inodes_attached(&self->s));
	EXPECT_EQ(0, stat_costs(&self->s, ".", FUSE_GETATTR));
	EXPECT_EQ(0, inode_detach(&self->s, "."));
	EXPECT_LT(0, stat_costs(&self->s, ".", FUSE_GETATTR));
}

/* A detach says nothing of operations, and names no request. */
TEST_F_TIMEOUT(inode_abi, senseless_detach, IO_TIMEOUT)
{
	struct fuse_passthrough_inode in = { .fd = -1 };

	ASSERT_EQ(0, lookup(&self->s, "f"));
	in.nodeid = fuse_server_nodeid(&self->s, "f");
	EXPECT_EQ(0, inode_attach(&self->s, "f", GET));
	in.ops = GET;
	EXPECT_EQ(EINVAL, inode_ioctl(self->s.dev, &in));
	in.ops = 0;
	in.flags = FUSE_PASSTHROUGH_RDONLY;
	EXPECT_EQ(EINVAL, inode_ioctl(self->s.dev, &in));
	in.flags = 0;
	in.unique = 2;
	EXPECT_EQ(EINVAL, inode_ioctl(self->s.dev, &in));
	EXPECT_EQ(1, inodes_attached(&self->s));
	EXPECT_EQ(0, stat_costs(&self->s, "f", FUSE_GETATTR));
}

/* ENOENT: an inode that the kernel does not know, or no more; nothing to detach. */
TEST_F_TIMEOUT(inode_abi, no_such_inode, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	struct fuse_passthrough_inode in = { .nodeid = 1ULL << 40, .ops = GET };

	EXPECT_EQ(ENOENT, inode_attach(s, "f", GET));
	EXPECT_EQ(ENOENT, inode_detach(s, "f"));
	in.fd = other(s);
	EXPECT_EQ(ENOENT, inode_ioctl(s->dev, &in));
	close(in.fd);

	ASSERT_EQ(0, lookup(s, "f"));
	EXPECT_EQ(ENOENT, inode_detach(s, "f"));
	EXPECT_EQ(ENOENT, inode_detach_all(s));
	EXPECT_EQ(0, inode_attach(s, "f", GET));
	EXPECT_EQ(0, inode_detach(s, "f"));
	EXPECT_EQ(ENOENT, inode_detach(s, "f"));

	ASSERT_EQ(0, forget_dentry(s, "f"));
	fuse_server_wait(s, FUSE_FORGET, 1);
	EXPECT_EQ(ENOENT, inode_attach(s, "f", GET));
}

/*
 * An answer about an inode that has a lower file drops the new one and says
 * nothing; so does one whose lower file is of another type.
 */
TEST_F_TIMEOUT(inode_abi, dropped, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	struct fuse_server_node *node = fuse_server_node(s, "f");
	struct stat st;
	unsigned int i;

	s->how = OPEN_CACHED;
	s->entries_expire = true;
	node->ops = GET;
	node->lower = "other";
	ASSERT_EQ(0, stat(fuse_path(s, "f"), &st));
	EXPECT_EQ(LEN / 2, st.st_size);
	node->lower = self->fs.path;
	for (i = 0; i < ARRAY_SIZE(carriers); i++) {
		if (carriers[i] != FUSE_LOOKUP && carriers[i] != FUSE_OPEN)
			continue;
		s->attach_in = FUSE_PASSTHROUGH_OP(carriers[i]);
		ASSERT_EQ(0, send_request(s, carriers[i]));
		EXPECT_EQ(0, s->inode_error) TH_LOG("opcode %d", carriers[i]);
		EXPECT_EQ(1, inodes_attached(s));
		EXPECT_EQ(0, stat(fuse_path(s, "f"), &st));
		EXPECT_EQ(LEN / 2, st.st_size) TH_LOG("opcode %d", carriers[i]);
		EXPECT_TRUE(own_fs_free(&self->fs)) TH_LOG("opcode %d", carriers[i]);
	}
	EXPECT_EQ(0, inode_detach(s, "f"));

	node->lower = self->fs.dir;
	for (i = 0; i < ARRAY_SIZE(carriers); i++) {
		if (carriers[i] != FUSE_LOOKUP && carriers[i] != FUSE_OPEN &&
		    carriers[i] != FUSE_GETATTR)
			continue;
		s->attach_in = FUSE_PASSTHROUGH_OP(carriers[i]);
		ASSERT_EQ(0, send_request(s, carriers[i]));
		EXPECT_EQ(0, s->inode_error) TH_LOG("opcode %d", carriers[i]);
		EXPECT_EQ(0, inodes_attached(s)) TH_LOG("opcode %d", carriers[i]);
		EXPECT_TRUE(own_fs_free(&self->fs)) TH_LOG("opcode %d", carriers[i]);
	}
}

static bool has_entry(int opcode)
{
	return opcode != FUSE_GETATTR && opcode != FUSE_OPEN && opcode != FUSE_OPENDIR;
}

/* How the server ends a request after it has attached. */
enum end { END_ERROR, END_SHORT, END_WRONG, END_NONE, ENDS };

static enum end end_as;
static int end_opcode;

static bool attach_and_end(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct attempt *a = s->arg;
	struct fuse_passthrough_inode arg = { .unique = in->unique, .ops = GET };
	struct {
		struct fuse_entry_out e;
		struct fuse_open_out o;
	} out = {
		.e.nodeid = 200, .e.attr.ino = 200, .e.attr.nlink = 1,
		/* A type that none of them may be. */
		.e.attr.mode = S_IFIFO | 0600,
	};
	struct fuse_attr_out attr = { .attr = out.e.attr };
	size_t len = sizeof(out.e);

	if (in->opcode != (uint32_t)end_opcode ||
	    (in->opcode == FUSE_GETATTR && in->nodeid == FUSE_ROOT_ID))
		return false;
	arg.fd = open(a->fs->path, O_PATH | O_CLOEXEC);
	a->got = inode_ioctl(s->dev, &arg);
	close(arg.fd);
	if (in->opcode == FUSE_CREATE || in->opcode == FUSE_TMPFILE)
		len = sizeof(out);
	if (end_as == END_NONE)
		out.e.nodeid = 0;
	if (end_as == END_ERROR)
		fuse_server_reply(s, in->unique, -EDQUOT, NULL, 0);
	else if (end_as == END_SHORT)
		fuse_server_reply(s, in->unique, 0, "x", 1);
	else if (in->opcode == FUSE_GETATTR)
		fuse_server_reply(s, in->unique, 0, &attr, sizeof(attr));
	else if (in->opcode == FUSE_OPEN || in->opcode == FUSE_OPENDIR)
		fuse_server_reply(s, in->unique, -ENOSYS, NULL, 0);
	else
		fuse_server_reply(s, in->unique, 0, &out, len);
	return true;
}

/* An error, no entry, or an answer that is none releases the lower file. */
TEST_F_TIMEOUT(inode_abi, failed_answers, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(carriers); i++) {
		for (end_as = 0; end_as < ENDS; end_as++) {
			end_opcode = 0;
			if (end_as == END_NONE && !has_entry(carriers[i]))
				continue;
			if (carriers[i] != FUSE_LOOKUP)
				lookup(s, "f");
			self->a.got = -1;
			s->request = attach_and_end;
			end_opcode = carriers[i];
			send_request(s, carriers[i]);
			end_opcode = 0;
			EXPECT_EQ(0, self->a.got)
				TH_LOG("opcode %d, end %d", carriers[i], end_as);
			EXPECT_EQ(0, inodes_attached(s))
				TH_LOG("opcode %d, end %d", carriers[i], end_as);
			EXPECT_TRUE(own_fs_free(&self->fs))
				TH_LOG("opcode %d, end %d", carriers[i], end_as);
			forget_dentry(s, "f");
			forget_dentry(s, "d");
		}
	}
}

/* A lower file that FUSE stacks too deep is refused, as with opens. */
TEST_F_TIMEOUT(inode_abi, other_connections, IO_TIMEOUT)
{
	struct fuse_passthrough_inode in = { .ops = GET };
	struct fuse_server s2 = { .permissions = true };
	struct stat st;
	int dev;

	/* A /dev/fuse that belongs to no connection. */
	dev = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, dev);
	in.nodeid = FUSE_ROOT_ID;
	in.fd = dir(&self->s);
	EXPECT_EQ(EPERM, inode_ioctl(dev, &in));
	close(dev);

	/* Another connection has inodes of its own. */
	ASSERT_EQ(0, fuse_server_start(&s2));
	ASSERT_EQ(0, stat(s2.mnt, &st));
	ASSERT_EQ(0, lookup(&self->s, "f"));
	in.nodeid = fuse_server_nodeid(&self->s, "f");
	EXPECT_EQ(ENOENT, inode_ioctl(s2.dev, &in));
	in.nodeid = FUSE_ROOT_ID;
	EXPECT_EQ(0, inode_ioctl(s2.dev, &in));
	EXPECT_EQ(1, inodes_attached(&s2));
	EXPECT_EQ(0, inodes_attached(&self->s));
	EXPECT_EQ(1, stat_costs(&self->s, ".", FUSE_GETATTR));
	close(in.fd);
	fuse_server_stop(&s2);
}

static void answer_in_thread(void *arg)
{
	struct fuse_server *s = arg;
	struct attempt *a = s->arg;
	struct fuse_in_header in = { .unique = a->last, .opcode = a->opcode };

	try_it(s, &in);
}

static bool by_thread(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct attempt *a = s->arg;
	struct blocker b;

	if (in->opcode != (uint32_t)a->opcode)
		return false;
	a->last = in->unique;
	blocker_start(&b, answer_in_thread, s);
	blocker_join(&b);
	return false;
}

static bool by_process(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct attempt *a = s->arg;
	int status = -1;
	pid_t pid;

	if (in->opcode != (uint32_t)a->opcode)
		return false;
	pid = fork();
	if (!pid) {
		try_it(s, in);
		_exit(a->got);
	}
	waitpid(pid, &status, 0);
	a->got = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	return false;
}

/* Any thread and any process that has the device may attach, by request and by nodeid. */
TEST_F_TIMEOUT(inode_abi, other_tasks, IO_TIMEOUT)
{
	static const struct trial t = { "", 0, other, { .ops = GET } };
	int status;
	pid_t pid;

	self->a.t = &t;
	self->a.opcode = FUSE_LOOKUP;
	self->a.got = -1;
	self->s.request = by_thread;
	EXPECT_EQ(0, stat_costs(&self->s, "f", FUSE_GETATTR));
	EXPECT_EQ(0, self->a.got);
	EXPECT_EQ(0, inode_detach_all(&self->s));
	forget_dentry(&self->s, "f");

	self->a.got = -1;
	self->s.request = by_process;
	EXPECT_EQ(0, stat_costs(&self->s, "f", FUSE_GETATTR));
	EXPECT_EQ(0, self->a.got);

	pid = fork();
	if (!pid)
		_exit(inode_detach(&self->s, "f"));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, inodes_attached(&self->s));
}

/* The next request is read from the other device; answers go with requests. */
static bool switch_dev(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct attempt *a = s->arg;
	int dev = s->dev;

	if (in->opcode != FUSE_STATFS)
		return try_it(s, in);
	fuse_server_reply(s, in->unique, -EIO, NULL, 0);
	s->dev = a->dev;
	a->dev = dev;
	return true;
}

/*
 * A request is found from any device of the connection, whichever read it, and so
 * is an inode; closing one device of several detaches nothing.
 */
TEST_F_TIMEOUT(inode_abi, cloned_device, IO_TIMEOUT)
{
	static const struct trial t = { "", 0, other, { .ops = GET } };
	struct statfs st;
	int i, extra;

	self->a.dev = clone_dev(self->s.dev);
	extra = clone_dev(self->s.dev);
	ASSERT_LE(0, self->a.dev);
	ASSERT_LE(0, extra);
	self->a.opcode = FUSE_LOOKUP;
	self->a.t = &t;
	self->s.request = switch_dev;
	for (i = 0; i < 4; i++) {
		self->a.got = -1;
		EXPECT_EQ(0, stat_costs(&self->s, "f", FUSE_GETATTR));
		EXPECT_EQ(0, self->a.got);
		EXPECT_EQ(0, inode_detach_all(&self->s));
		forget_dentry(&self->s, "f");
		/* The thread then reads at the device that was asked before. */
		statfs(self->s.mnt, &st);
	}
	self->s.request = NULL;
	ASSERT_EQ(0, lookup(&self->s, "f"));
	EXPECT_EQ(0, inode_attach(&self->s, "f", GET));
	close(extra);
	close(self->a.dev);
	EXPECT_EQ(1, inodes_attached(&self->s));
	EXPECT_EQ(0, stat_costs(&self->s, "f", FUSE_GETATTR));
}

/* Attach a file of a file system of its own to "f", which is known then. */
static int attach_own(FIXTURE_DATA(inode_abi) *self)
{
	int fd, err;

	if (lookup(&self->s, "f"))
		return -1;
	fd = open(self->fs.path, O_RDWR | O_CLOEXEC);
	err = inode_attach_fd(&self->s, "f", fd, GET);
	close(fd);
	return err;
}

/*
 * Attached inodes are counted, and pin the lower file system until they are
 * detached, one by one or all at once.
 */
TEST_F_TIMEOUT(inode_abi, detach, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;

	EXPECT_EQ(0, inodes_attached(s));
	ASSERT_EQ(0, attach_own(self));
	EXPECT_EQ(1, inodes_attached(s));
	EXPECT_TRUE(own_fs_busy(&self->fs));
	EXPECT_EQ(0, inode_detach(s, "f"));
	EXPECT_EQ(0, inodes_attached(s));
	EXPECT_TRUE(own_fs_free(&self->fs));
	EXPECT_EQ(1, stat_costs(s, "f", FUSE_GETATTR));

	ASSERT_EQ(0, attach_own(self));
	ASSERT_EQ(0, lookup(s, "d"));
	ASSERT_EQ(0, lookup(s, "l"));
	EXPECT_EQ(0, inode_attach(s, "d", GET));
	EXPECT_EQ(0, inode_attach(s, "l", GET));
	EXPECT_EQ(0, inode_attach(s, ".", GET));
	EXPECT_EQ(4, inodes_attached(s));
	EXPECT_TRUE(own_fs_busy(&self->fs));
	EXPECT_EQ(0, inode_detach_all(s));
	EXPECT_EQ(0, inodes_attached(s));
	EXPECT_TRUE(own_fs_free(&self->fs));
	EXPECT_LT(0, stat_costs(s, "f", FUSE_GETATTR));
	EXPECT_LT(0, stat_costs(s, "d", FUSE_GETATTR));
	EXPECT_LT(0, stat_costs(s, "l", FUSE_GETATTR));
	EXPECT_LT(0, stat_costs(s, ".", FUSE_GETATTR));
	/* And may be attached again. */
	ASSERT_EQ(0, attach_own(self));
	EXPECT_EQ(0, inode_detach_all(s));
}

/* The count is the owner's to read. */
TEST_F_TIMEOUT(inode_abi, count_mode, IO_TIMEOUT)
{
	struct stat st;

	ASSERT_EQ(0, inodes_attached(&self->s));
	ASSERT_EQ(0, stat(inodes_control(&self->s), &st));
	EXPECT_EQ(S_IFREG | 0400, st.st_mode);
	EXPECT_EQ(1, st.st_nlink);
}

/* Eviction detaches: the kernel forgets the inode, and what was attached to it. */
TEST_F_TIMEOUT(inode_abi, eviction, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;

	ASSERT_EQ(0, attach_own(self));
	ASSERT_EQ(0, forget_dentry(s, "f"));
	EXPECT_EQ(0, inodes_attached(s));
	EXPECT_TRUE(own_fs_free(&self->fs));
	EXPECT_EQ(1, stat_costs(s, "f", FUSE_GETATTR));
}

/* An unmount leaves nothing behind. */
TEST_F_TIMEOUT(inode_abi, unmounted, IO_TIMEOUT)
{
	ASSERT_EQ(0, attach_own(self));
	EXPECT_TRUE(own_fs_busy(&self->fs));
	ASSERT_EQ(0, umount(self->s.mnt));
	EXPECT_TRUE(own_fs_free(&self->fs));
}

/* What an attach keeps is a path: it neither denies writing, leases, nor read-only remounts. */
TEST_F_TIMEOUT(inode_abi, pins_no_file, IO_TIMEOUT)
{
	char *argv[] = { "x", NULL };
	int fd, status;
	pid_t pid;

	ASSERT_EQ(0, attach_own(self));
	fd = open(self->fs.path, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, fcntl(fd, F_SETLEASE, F_WRLCK));
	close(fd);
	ASSERT_EQ(0, chmod(self->fs.path, 0755));
	pid = fork();
	if (!pid) {
		/* It is no program, but may be executed. */
		execv(self->fs.path, argv);
		_exit(errno);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(ENOEXEC, WEXITSTATUS(status));
	EXPECT_EQ(0, mount(NULL, self->fs.dir, NULL, MS_REMOUNT | MS_RDONLY, NULL));
	EXPECT_EQ(0, mount(NULL, self->fs.dir, NULL, MS_REMOUNT, NULL));
	EXPECT_EQ(0, stat_costs(&self->s, "f", FUSE_GETATTR));
}

/* Abort detaches every inode: the count is 0 and the lower file system free. */
TEST_F_TIMEOUT(inode_abi, aborted, IO_TIMEOUT)
{
	int busy = open(self->s.mnt, O_PATH | O_CLOEXEC);
	int held;

	ASSERT_EQ(0, attach_own(self));
	held = open(fuse_path(&self->s, "f"), O_PATH | O_CLOEXEC);
	ASSERT_LE(0, busy);
	ASSERT_LE(0, held);
	EXPECT_EQ(1, inodes_attached(&self->s));
	EXPECT_EQ(-1, umount2(self->s.mnt, MNT_FORCE));
	EXPECT_EQ(EBUSY, errno);
	EXPECT_EQ(0, inodes_attached(&self->s));
	EXPECT_TRUE(own_fs_free(&self->fs));
	close(held);
	close(busy);
}

static bool die_at_statfs(struct fuse_server *s, const struct fuse_in_header *in)
{
	if (in->opcode != FUSE_STATFS)
		return false;
	close_device(s);
	return true;
}

/* So does the close of the last device. */
TEST_F_TIMEOUT(inode_abi, device_closed, IO_TIMEOUT)
{
	struct statfs st;
	int clone;

	clone = clone_dev(self->s.dev);
	ASSERT_LE(0, clone);
	ASSERT_EQ(0, attach_own(self));
	self->s.request = die_at_statfs;
	close(clone);
	EXPECT_EQ(1, inodes_attached(&self->s));
	EXPECT_EQ(-1, statfs(self->s.mnt, &st));
	EXPECT_EQ(ECONNABORTED, errno);
	wait_for_close();
	EXPECT_EQ(0, inodes_attached(&self->s));
	EXPECT_TRUE(own_fs_free(&self->fs));
}

/* Nothing is attached after death. */
TEST_F_TIMEOUT(inode_abi, attach_after_death, IO_TIMEOUT)
{
	struct fuse_passthrough_inode in = { .nodeid = FUSE_ROOT_ID, .ops = GET };
	int busy = open(self->s.mnt, O_PATH | O_CLOEXEC);
	int dev = clone_dev(self->s.dev);

	ASSERT_LE(0, dev);
	ASSERT_LE(0, busy);
	fuse_server_die(&self->s);
	in.fd = open(self->fs.dir, O_PATH | O_CLOEXEC);
	EXPECT_NE(0, inode_ioctl(dev, &in));
	close(in.fd);
	EXPECT_EQ(0, inodes_attached(&self->s));
	EXPECT_TRUE(own_fs_free(&self->fs));
	close(dev);
	close(busy);
}

static bool hold_only(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct attempt *a = s->arg;

	if (in->opcode != (uint32_t)a->opcode)
		return false;
	try_it(s, in);
	return true;
}

static int own_path(struct fuse_server *s)
{
	struct attempt *a = s->arg;

	return open(a->fs->path, O_PATH | O_CLOEXEC);
}

static void blocked_request(void *arg)
{
	struct fuse_server *s = arg;
	struct attempt *a = s->arg;

	send_request(s, a->opcode);
}

/* An abort between the ioctl and the answer leaves no reference. */
TEST_F_TIMEOUT(inode_abi, aborted_before_answer, IO_TIMEOUT)
{
	static const struct trial t = { "", 0, own_path, { .ops = GET } };
	static const int opcodes[] = { FUSE_LOOKUP, FUSE_CREATE, FUSE_MKDIR, FUSE_OPENDIR };
	struct blocker b;
	unsigned int i;
	struct stat st;

	for (i = 0; i < ARRAY_SIZE(opcodes); i++) {
		struct fuse_server s = { .permissions = true, .arg = &self->a };
		int busy;

		ASSERT_EQ(0, fuse_server_start(&s));
		ASSERT_EQ(0, lower_make(&s, "f", LEN, 1));
		ASSERT_EQ(0, mkdirat(s.dirfd, "d", 0755));
		ASSERT_EQ(0, stat(s.mnt, &st));
		busy = open(s.mnt, O_PATH | O_CLOEXEC);
		self->a = (struct attempt) {
			.t = &t, .opcode = opcodes[i], .fs = &self->fs, .got = -1,
			.dev = -1,
		};
		s.request = hold_only;
		ASSERT_TRUE(blocker_start(&b, blocked_request, &s));
		while (__atomic_load_n(&self->a.got, __ATOMIC_ACQUIRE) == -1)
			sched_yield();
		EXPECT_EQ(0, self->a.got);
		EXPECT_TRUE(own_fs_busy(&self->fs));
		umount2(s.mnt, MNT_FORCE);
		blocker_join(&b);
		EXPECT_TRUE(own_fs_free(&self->fs)) TH_LOG("opcode %d", opcodes[i]);
		EXPECT_EQ(0, inodes_attached(&s));
		close(busy);
		fuse_server_stop(&s);
	}
}

/*
 * A daemon that is killed while names are cached and the mount stays: the lower
 * file system can be unmounted, and the inodes answer ENOTCONN.
 */
TEST_F_TIMEOUT(inode_abi, daemon_killed, IO_TIMEOUT)
{
	struct fuse_server *s;
	int status, ns, p[2];
	char path[64], c;
	struct stat st;
	pid_t pid;

	s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(s != MAP_FAILED);
	ASSERT_EQ(0, pipe(p));
	pid = fork();
	if (!pid) {
		s->permissions = true;
		if (fuse_server_start(s) || stat(s->mnt, &st) ||
		    lower_make(s, "f", LEN, 1))
			_exit(1);
		fuse_server_node(s, "f")->ops = GET;
		fuse_server_node(s, "f")->lower = self->fs.path;
		if (stat_costs(s, "f", FUSE_GETATTR) || inodes_attached(s) != 1 ||
		    write(p[1], "", 1) != 1)
			_exit(2);
		pause();
	}
	close(p[1]);
	ASSERT_EQ(1, read(p[0], &c, 1));
	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", pid);
	ns = open(path, O_RDONLY | O_CLOEXEC);
	/* Who shares a working directory with threads cannot go there. */
	ASSERT_EQ(0, unshare(CLONE_FS));
	ASSERT_EQ(0, setns(ns, CLONE_NEWNS));
	EXPECT_EQ(1, inodes_attached(s));
	EXPECT_TRUE(own_fs_busy(&self->fs));
	kill(pid, SIGKILL);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFSIGNALED(status));
	/* The last device is closed before this. */
	EXPECT_EQ(0, read(p[0], &c, 1));
	EXPECT_EQ(0, inodes_attached(s));
	EXPECT_EQ(0, umount(self->fs.dir));
	EXPECT_EQ(-1, stat(fuse_path(s, "f"), &st));
	EXPECT_EQ(ENOTCONN, errno);
	umount2(s->mnt, MNT_DETACH);
	rmdir(s->mnt);
	unlink(lower_path(s, "f"));
	rmdir(s->lower);
	/* The fixture has it in another namespace. */
	ASSERT_EQ(0, mount("lower", self->fs.dir, "tmpfs", 0, NULL));
}

struct racer {
	char *path;
	int stop, bad;
	int err;			/* of the last bad one, or its size */
	pthread_t thread;
};

static void *stat_often(void *arg)
{
	struct racer *r = arg;
	struct stat st;

	while (!__atomic_load_n(&r->stop, __ATOMIC_ACQUIRE)) {
		if (stat(r->path, &st)) {
			r->bad++;
			r->err = errno;
		} else if (st.st_size != OWN_FS_LEN) {
			r->bad++;
			r->err = -st.st_size;
		}
	}
	return NULL;
}

/* Attach and detach while others stat: each stat is right, and nothing is left. */
TEST_F_TIMEOUT(inode_abi, races_with_stat, IO_TIMEOUT)
{
	/* fuse_path() has one buffer for all threads. */
	struct racer r = { .path = strdup(fuse_path(&self->s, "f")) };
	int i, errors = 0;

	ASSERT_EQ(0, attach_own(self));
	pthread_create(&r.thread, NULL, stat_often, &r);
	for (i = 0; i < RACES; i++) {
		errors += !!inode_detach_all(&self->s);
		errors += !!inode_attach(&self->s, "f", GET);
		errors += !!inode_detach(&self->s, "f");
		errors += !!attach_own(self);
	}
	__atomic_store_n(&r.stop, 1, __ATOMIC_RELEASE);
	pthread_join(r.thread, NULL);
	EXPECT_EQ(0, r.bad) TH_LOG("%d", r.err);
	EXPECT_EQ(0, errors);
	EXPECT_EQ(0, inode_detach(&self->s, "f"));
	EXPECT_EQ(0, inodes_attached(&self->s));
	EXPECT_TRUE(own_fs_free(&self->fs));
}

struct attacher {
	FIXTURE_DATA(inode_abi) *self;
	pthread_t thread;
	int fd, got;
};

static int race_go;

static void *attach_once(void *arg)
{
	struct attacher *r = arg;

	while (!__atomic_load_n(&race_go, __ATOMIC_ACQUIRE))
		sched_yield();
	r->got = inode_attach_fd(&r->self->s, "f", r->fd, GET);
	close(r->fd);
	return NULL;
}

/* Of two that attach at once one gets EBUSY, whose lower file stays with nobody. */
TEST_F_TIMEOUT(inode_abi, races_with_attach, IO_TIMEOUT)
{
	struct attacher r[2];
	int i, j;

	ASSERT_EQ(0, lookup(&self->s, "f"));
	for (i = 0; i < RACES; i++) {
		__atomic_store_n(&race_go, 0, __ATOMIC_RELEASE);
		for (j = 0; j < 2; j++) {
			r[j] = (struct attacher) { .self = self };
			r[j].fd = open(self->fs.path, O_PATH | O_CLOEXEC);
			pthread_create(&r[j].thread, NULL, attach_once, &r[j]);
		}
		__atomic_store_n(&race_go, 1, __ATOMIC_RELEASE);
		for (j = 0; j < 2; j++)
			pthread_join(r[j].thread, NULL);
		ASSERT_EQ(EBUSY, r[0].got + r[1].got);
		ASSERT_EQ(1, inodes_attached(&self->s));
		ASSERT_EQ(0, inode_detach(&self->s, "f"));
		ASSERT_TRUE(own_fs_free(&self->fs));
	}
}

/* Attaches race with an abort: whichever is first, nothing is left. */
TEST_F_TIMEOUT(inode_abi, races_with_abort, IO_TIMEOUT)
{
	volatile int spin;
	int i;

	for (i = 0; i < RACES / 8; i++) {
		FIXTURE_DATA(inode_abi) own = { .s = { .permissions = true } };
		struct attacher r = { .self = &own };
		int busy;

		ASSERT_EQ(0, fuse_server_start(&own.s));
		ASSERT_EQ(0, lower_make(&own.s, "f", LEN, 9));
		ASSERT_EQ(0, lookup(&own.s, "f"));
		busy = open(own.s.mnt, O_PATH | O_CLOEXEC);
		r.fd = open(self->fs.path, O_PATH | O_CLOEXEC);
		__atomic_store_n(&race_go, 0, __ATOMIC_RELEASE);
		pthread_create(&r.thread, NULL, attach_once, &r);
		__atomic_store_n(&race_go, 1, __ATOMIC_RELEASE);
		for (spin = 0; spin < i * 200; spin++)
			;
		umount2(own.s.mnt, MNT_FORCE);
		pthread_join(r.thread, NULL);
		EXPECT_EQ(0, inodes_attached(&own.s)) TH_LOG("round %d", i);
		ASSERT_TRUE(own_fs_free(&self->fs)) TH_LOG("round %d", i);
		close(busy);
		fuse_server_stop(&own.s);
	}
}

static void init_without(struct fuse_server *s, struct fuse_init_out *out)
{
	out->flags2 &= ~(FUSE_PASSTHROUGH >> 32);
}

/* EPERM where passthrough was not negotiated; default_permissions is no condition. */
TEST_F_TIMEOUT(inode_abi, negotiated, IO_TIMEOUT)
{
	struct fuse_server s[2] = {
		{ .permissions = true, .init = init_without }, { .permissions = false },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(s); i++) {
		ASSERT_EQ(0, fuse_server_start(&s[i]));
		ASSERT_EQ(0, lower_make(&s[i], "f", LEN, 1));
		ASSERT_EQ(0, lookup(&s[i], "f"));
		EXPECT_EQ(i ? 0 : EPERM, inode_attach(&s[i], "f", GET));
		EXPECT_EQ(i ? 0 : EPERM, inode_detach(&s[i], "f"));
		EXPECT_EQ(i ? ENOENT : EPERM, inode_detach_all(&s[i]));
		EXPECT_EQ(1, stat_costs(&s[i], "f", FUSE_GETATTR));
		fuse_server_stop(&s[i]);
	}
}

TEST_HARNESS_MAIN
