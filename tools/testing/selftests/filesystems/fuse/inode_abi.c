// SPDX-License-Identifier: GPL-2.0
/*
 * The ABI of attaching a lower file to an inode: layout, lower files that are
 * accepted, attaches by nodeid, senseless arguments, errors.
 */
#define _GNU_SOURCE
#include <stddef.h>
#include <string.h>

#include "inode_test.h"
#include "../../kselftest_harness.h"

#define LEN	10000
#define GET	OP(GETATTR)

/* Servers are built with this number and this layout. */
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

FIXTURE(inode_abi) {
	struct fuse_server s;
	struct attempt a;
	struct own_fs fs;
};

FIXTURE_SETUP(inode_abi)
{
	self->s.permissions = true;
	ASSERT_EQ(0, serve_attempts(&self->s, &self->a, LEN, LEN / 2));
	ASSERT_EQ(0, mkdirat(self->s.dirfd, "d", 0755));
	ASSERT_EQ(0, symlinkat("f", self->s.dirfd, "l"));
	ASSERT_TRUE(own_fs_mount(&self->fs));
	self->a.fs = &self->fs;
}

FIXTURE_TEARDOWN(inode_abi)
{
	fuse_server_stop(&self->s);
	/* No test leaves a reference to the lower file system. */
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

/* The mount itself; an O_PATH open of it sends no request. */
static int on_fuse(struct fuse_server *s)
{
	return open(s->mnt, O_PATH);
}

static const struct trial refused[] = {
	{ "unique 2 further on", ENOENT, other, .in = { .unique = 2, .ops = GET } },
	{ "unique of its interrupt", ENOENT, other, .in = { .unique = 1, .ops = GET } },
	{ "unique far off", ENOENT, other, .in = { .unique = 1ULL << 40, .ops = GET } },
	{ "nodeid beside unique", EINVAL, other, .in = { .nodeid = 1, .ops = GET } },
	{ "no operation", EINVAL, other, .in = { .ops = 0 } },
	{ "unknown flag", EINVAL, other, .in = { .flags = 2, .ops = GET } },
	{ "unknown flag, last bit", EINVAL, other, .in = { .flags = 1U << 31, .ops = GET } },
	{ "unknown operation", EINVAL, other, .in = { .ops = GET | 1ULL << 63 } },
	{ "descriptor closed", EBADF, closed, .in = { .ops = GET } },
	{ "descriptor -1", EBADF, minus_one, .in = { .ops = GET } },
	{ "descriptor -2", EBADF, minus_two, .in = { .ops = GET } },
	{ "pipe", EINVAL, pipe_end, .in = { .ops = GET } },
	{ "socket", EINVAL, unix_socket, .in = { .ops = GET } },
	{ "eventfd", EINVAL, event_fd, .in = { .ops = GET } },
	{ "character device", EINVAL, char_device, .in = { .ops = GET } },
	{ "path of a device", EINVAL, device_path, .in = { .ops = GET } },
	{ "fifo", EINVAL, fifo_path, .in = { .ops = GET } },
	{ "memfd", EINVAL, memfd, .in = { .ops = GET } },
	{ "hugetlb memfd", EINVAL, huge_memfd, .in = { .ops = GET } },
	{ "hugetlbfs", EINVAL, huge_file, .in = { .ops = GET } },
	{ "sysctl", EINVAL, sysctl_path, .in = { .ops = GET } },
	{ "directory of proc", EINVAL, proc_dir, .in = { .ops = GET } },
	{ "sysfs", EINVAL, sysfs_file, .in = { .ops = GET } },
	{ "on fuse", EINVAL, on_fuse, .in = { .ops = GET } },
};

/*
 * Each row of the table of errors that concerns the request or the lower
 * file.  A refused attach changes nothing: a stat still sends GETATTR, and the
 * next answer can attach a valid lower file.
 */
TEST_F_TIMEOUT(inode_abi, refused, IO_TIMEOUT)
{
	static const struct trial fit = { "fit", 0, other, .in = { .ops = GET } };
	unsigned int i;

	self->a.opcode = FUSE_LOOKUP;
	self->s.request = try_inode;
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

/*
 * Files whose contents are generated at each read are refused, even if their
 * file system has no flag for this.
 */
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

/* Any descriptor of a file, a directory or a symlink is accepted, whatever its access mode. */
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

/* A lower file without a write operation can have GETATTR attached. */
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

	if (in->opcode != FUSE_LOOKUP)
		return false;
	arg.fd = other(s);
	a->got = ioctl_unreadable(s->dev, FUSE_DEV_IOC_PASSTHROUGH_INODE, &arg,
				  sizeof(arg));
	close(arg.fd);
	return false;
}

/* An argument that cannot be read completely is EFAULT. */
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
		a->got = ioctl_errno(s->dev, cmds[i], &arg);
	close(arg.fd);
	return false;
}

/* Ioctl numbers close to the right one are ENOTTY. */
TEST_F_TIMEOUT(inode_abi, other_numbers, IO_TIMEOUT)
{
	self->s.request = try_numbers;
	EXPECT_EQ(1, stat_costs(&self->s, "f", FUSE_GETATTR));
	EXPECT_EQ(ENOTTY, self->a.got);
}

/* Sets of operations that contradict each other or the flags are EINVAL. */
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

/*
 * By nodeid an inode takes one lower file: a second one is EBUSY, a file of
 * another type EINVAL.
 */
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

/* The root is attached and detached by nodeid like any other inode. */
TEST_F_TIMEOUT(inode_abi, root, IO_TIMEOUT)
{
	EXPECT_EQ(1, stat_costs(&self->s, ".", FUSE_GETATTR));
	EXPECT_EQ(0, inode_attach(&self->s, ".", GET));
	EXPECT_EQ(1, inodes_attached(&self->s));
	EXPECT_EQ(0, stat_costs(&self->s, ".", FUSE_GETATTR));
	EXPECT_EQ(0, inode_detach(&self->s, "."));
	EXPECT_LT(0, stat_costs(&self->s, ".", FUSE_GETATTR));
}

/* A detach that names operations, flags or a request is EINVAL and detaches nothing. */
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

/*
 * ENOENT is returned for an unknown or forgotten inode, and for a detach of an
 * inode, or of all inodes, without a lower file.
 */
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
 * A device attaches only to inodes of its own connection.  A device without a
 * connection is EPERM.
 */
TEST_F_TIMEOUT(inode_abi, other_connections, IO_TIMEOUT)
{
	struct fuse_passthrough_inode in = { .ops = GET };
	struct fuse_server s2 = { .permissions = true };
	struct stat st;
	int dev;

	/* This /dev/fuse belongs to no connection. */
	dev = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, dev);
	in.nodeid = FUSE_ROOT_ID;
	in.fd = dir(&self->s);
	EXPECT_EQ(EPERM, inode_ioctl(dev, &in));
	close(dev);

	/* Another connection has different inodes. */
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

static void init_without(struct fuse_server *s, struct fuse_init_out *out)
{
	out->flags2 &= ~(FUSE_PASSTHROUGH >> 32);
}

/*
 * Without FUSE_PASSTHROUGH each call is EPERM.  GETATTR alone does not require
 * default_permissions.
 */
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
