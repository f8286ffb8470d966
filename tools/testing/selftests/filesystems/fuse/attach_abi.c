// SPDX-License-Identifier: GPL-2.0
/* The ABI of attaching a lower file to an open: layout, which files, errors */
#define _GNU_SOURCE
#include <stddef.h>
#include <sys/uio.h>

#include "attach_test.h"
#include "../../kselftest_harness.h"

#define LEN	10000

/* Servers are built with these numbers and layouts. */
TEST(layout)
{
	struct fuse_passthrough_out out;
	struct fuse_backing_map map;

	EXPECT_EQ(0x4018e501, FUSE_DEV_IOC_PASSTHROUGH_OPEN);
	EXPECT_EQ(24, sizeof(out));
	EXPECT_EQ(0, offsetof(struct fuse_passthrough_out, unique));
	EXPECT_EQ(8, offsetof(struct fuse_passthrough_out, fd));
	EXPECT_EQ(12, offsetof(struct fuse_passthrough_out, len));
	EXPECT_EQ(16, offsetof(struct fuse_passthrough_out, vec));
	EXPECT_EQ(8, sizeof(out.unique));
	EXPECT_EQ(4, sizeof(out.fd));
	EXPECT_EQ(4, sizeof(out.len));
	EXPECT_EQ(8, sizeof(out.vec));

	EXPECT_EQ(0x4010e501, FUSE_DEV_IOC_BACKING_OPEN);
	EXPECT_EQ(0x4004e502, FUSE_DEV_IOC_BACKING_CLOSE);
	EXPECT_EQ(16, sizeof(map));
	EXPECT_EQ(0, offsetof(struct fuse_backing_map, fd));
	EXPECT_EQ(4, offsetof(struct fuse_backing_map, flags));
	EXPECT_EQ(8, offsetof(struct fuse_backing_map, padding));
	EXPECT_EQ(0x80, FOPEN_PASSTHROUGH);
	EXPECT_EQ(12, offsetof(struct fuse_open_out, backing_id));
	EXPECT_EQ(16, sizeof(struct fuse_open_out));

	EXPECT_EQ(1ULL << 37, FUSE_PASSTHROUGH);
	EXPECT_EQ(36, offsetof(struct fuse_init_out, max_stack_depth));
	EXPECT_EQ(64, sizeof(struct fuse_init_out));
}

FIXTURE(attach_abi) {
	struct fuse_server s;
	struct attempt a;
};

FIXTURE_SETUP(attach_abi)
{
	ASSERT_EQ(0, serve_attempts(&self->s, &self->a, LEN, LEN));
}

FIXTURE_TEARDOWN(attach_abi)
{
	fuse_server_stop(&self->s);
}

static int given(struct fuse_server *s)
{
	struct attempt *a = s->arg;

	return dup(a->given);
}

static int proc_file(struct fuse_server *s)
{
	return open("/proc/self/oom_score_adj", O_RDWR);
}

static int sysfs_file(struct fuse_server *s)
{
	return open("/sys/module/fuse/parameters/max_user_bgreq", O_RDWR);
}

static const struct trial refused[] = {
	{ "unique 2 further on", ENOENT, other, O_RDWR, .out.unique = 2 },
	{ "unique of its interrupt", ENOENT, other, O_RDWR, .out.unique = 1 },
	{ "unique far off", ENOENT, other, O_RDWR, .out.unique = 1ULL << 40 },
	{ "len", EINVAL, other, O_RDWR, .out.len = 1 },
	{ "len, last bit", EINVAL, other, O_RDWR, .out.len = 1U << 31 },
	{ "len and vec", EINVAL, other, O_RDWR, .out = { .len = 8, .vec = 4096 } },
	{ "len before vec is read", EINVAL, other, O_RDWR, .out = { .len = 8, .vec = -1 } },
	{ "len before the descriptor", EINVAL, minus_one, O_RDWR, .out.len = 8 },
	{ "descriptor closed", EBADF, closed, O_RDWR },
	{ "descriptor -1", EBADF, minus_one, O_RDWR },
	{ "O_PATH", EBADF, other_path, O_RDONLY },
	{ "directory", EINVAL, directory, O_RDONLY },
	{ "pipe", EINVAL, pipe_end, O_RDONLY },
	{ "socket", EINVAL, unix_socket, O_RDWR },
	{ "eventfd", EINVAL, event_fd, O_RDWR },
	{ "character device", EINVAL, char_device, O_RDWR },
	{ "memfd", EINVAL, memfd, O_RDWR },
	{ "hugetlb memfd", EINVAL, huge_memfd, O_RDWR },
	{ "hugetlbfs", EINVAL, huge_file, O_RDWR },
	{ "sysctl", EINVAL, sysctl_file, O_RDWR },
	{ "proc", EINVAL, proc_file, O_RDWR },
	{ "sysfs", EINVAL, sysfs_file, O_RDWR },
	{ "O_RDWR on O_RDONLY", EACCES, other_rdonly, O_RDWR },
	{ "O_RDWR on O_WRONLY", EACCES, other_wronly, O_RDWR },
	{ "O_WRONLY on O_RDONLY", EACCES, other_rdonly, O_WRONLY },
	{ "O_RDONLY on O_WRONLY", EACCES, other_wronly, O_RDONLY },
};

/*
 * Each row of the errno table that concerns the request or the lower file.  A
 * refusal changes nothing: the open then has no passthrough, or passes through
 * to another file.
 */
TEST_F_TIMEOUT(attach_abi, refused, IO_TIMEOUT)
{
	static const enum fuse_server_open hows[] = { OPEN_CACHED, OPEN_PASSTHROUGH };
	unsigned int i, j;
	bool pass;
	int fd;

	self->a.opcode = FUSE_OPEN;
	self->s.request = try_attach;
	for (i = 0; i < ARRAY_SIZE(refused); i++) {
		const struct trial *t = &refused[i];

		self->a.t = t;
		for (j = 0; j < ARRAY_SIZE(hows); j++) {
			pass = hows[j] == OPEN_PASSTHROUGH;
			self->a.got = -1;
			fd = fs_open(&self->s, hows[j], "f", t->flags);
			ASSERT_LE(0, fd) TH_LOG("%s: %d", t->what, errno);
			ASSERT_FALSE(lower_missing(t, self->a.fd))
				TH_LOG("%s: no such file", t->what);
			EXPECT_EQ(t->want, self->a.got) TH_LOG("%s", t->what);
			if (t->flags == O_WRONLY) {
				EXPECT_TRUE(writes_pattern(&self->s, fd, "f", LEN,
							   1, pass))
					TH_LOG("%s", t->what);
			} else {
				EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 1, pass))
					TH_LOG("%s", t->what);
			}
			close(fd);
		}
	}
}

/*
 * Files whose contents are generated at each read are refused, even if their
 * file system has no flag for this.
 */
TEST_F_TIMEOUT(attach_abi, pseudo, IO_TIMEOUT)
{
	const struct { struct trial t; int given; } files[] = {
		{ { "configfs", EINVAL, given, O_RDWR }, configfs_file(O_RDWR) },
		{ { "configfs to read", EINVAL, given, O_RDONLY },
		  configfs_file(O_RDONLY) },
		{ { "tracefs", EINVAL, given, O_RDONLY },
		  file_on("tracefs", NULL, "trace", O_RDONLY) },
	};
	unsigned int i;
	int fd;

	self->a.opcode = FUSE_OPEN;
	self->s.request = try_attach;
	for (i = 0; i < ARRAY_SIZE(files); i++) {
		if (files[i].given < 0)
			SKIP(return, "no file on %s", files[i].t.what);
		self->a.given = files[i].given;
		self->a.t = &files[i].t;
		self->a.got = -1;
		fd = fs_open(&self->s, OPEN_CACHED, "f", files[i].t.flags);
		ASSERT_LE(0, fd);
		EXPECT_EQ(EINVAL, self->a.got) TH_LOG("%s", files[i].t.what);
		EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 1, false));
		close(fd);
		close(self->a.given);
	}
}

static const struct trial accepted[] = {
	{ "O_RDONLY", 0, other_rdonly, O_RDONLY },
	{ "O_RDONLY on O_RDWR", 0, other, O_RDONLY },
	{ "O_WRONLY", 0, other_wronly, O_WRONLY },
	{ "O_WRONLY on O_RDWR", 0, other, O_WRONLY },
	{ "O_RDWR", 0, other, O_RDWR },
	{ "neither on O_RDONLY", 0, other_rdonly, O_ACCMODE },
	{ "vec", 0, other, O_RDWR, .out.vec = 1 },
	{ "vec, upper half", 0, other, O_RDWR, .out.vec = 1ULL << 32 },
	{ "vec of no memory", 0, other, O_RDWR, .out.vec = -1 },
};

/*
 * A lower file whose access mode covers the client's is accepted.  No other
 * flag matters, nor does the value of vec while len is 0.
 */
TEST_F_TIMEOUT(attach_abi, accepted, IO_TIMEOUT)
{
	unsigned int i;
	int fd;

	self->a.opcode = FUSE_OPEN;
	self->s.request = try_attach;
	for (i = 0; i < ARRAY_SIZE(accepted); i++) {
		const struct trial *t = &accepted[i];

		self->a.t = t;
		fd = fs_open(&self->s, OPEN_CACHED, "f", t->flags);
		ASSERT_LE(0, fd);
		EXPECT_EQ(0, self->a.got) TH_LOG("%s", t->what);
		if (t->flags == O_WRONLY || t->flags == O_RDWR) {
			EXPECT_TRUE(writes_pattern(&self->s, fd, "other", LEN, 2,
						   true)) TH_LOG("%s", t->what);
		}
		if (t->flags == O_RDONLY || t->flags == O_RDWR) {
			EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 2, true))
				TH_LOG("%s", t->what);
		}
		close(fd);
	}
	EXPECT_EQ(0, server_io(&self->s));
}

/*
 * A file system without a write operation serves clients that only read.  For
 * other clients the attach is refused.
 */
TEST_F_TIMEOUT(attach_abi, read_only, IO_TIMEOUT)
{
	static const struct trial trials[] = {
		{ "O_RDONLY", 0, given, O_RDONLY },
		{ "O_RDWR", EINVAL, given, O_RDWR },
		{ "O_WRONLY", EINVAL, given, O_WRONLY },
	};
	unsigned int i;
	int fd;

	self->a.given = squashfs_file(O_RDONLY);
	if (self->a.given < 0)
		SKIP(return, "no squashfs, or no loop devices");
	self->a.opcode = FUSE_OPEN;
	self->s.request = try_attach;
	for (i = 0; i < ARRAY_SIZE(trials); i++) {
		const struct trial *t = &trials[i];

		self->a.t = t;
		self->a.got = -1;
		fd = fs_open(&self->s, OPEN_CACHED, "f", t->flags);
		ASSERT_LE(0, fd);
		EXPECT_EQ(t->want, self->a.got) TH_LOG("%s", t->what);
		if (!t->want) {
			EXPECT_TRUE(reads_pattern(&self->s, fd, SQUASHFS_LEN,
						  SQUASHFS_SEED, true));
		} else {
			EXPECT_TRUE(writes_pattern(&self->s, fd, "f", LEN, i,
						   false));
		}
		close(fd);
	}
	close(self->a.given);
}

/*
 * A lower file without O_DIRECT is refused for an open with O_DIRECT, which the
 * server can then serve.  Without O_DIRECT it is accepted, and O_DIRECT that is
 * set later makes each call fail with EINVAL until it is cleared.
 */
TEST_F_TIMEOUT(attach_abi, direct_that_cannot, IO_TIMEOUT)
{
	struct trial t = { "tmpfs", 0, given, O_RDWR | O_DIRECT };
	struct attempt *a = &self->a;
	char *buf = pages(BLOCK);
	int fd;

	a->given = file_on("tmpfs", NULL, "t", O_RDWR | O_CREAT);
	ASSERT_LE(0, a->given);
	ASSERT_EQ(0, ftruncate(a->given, LEN));
	a->opcode = FUSE_OPEN;
	a->t = &t;
	self->s.request = try_attach;
	t.want = can_direct(a->given) ? 0 : EINVAL;
	a->got = -1;
	fd = fs_open(&self->s, OPEN_CACHED, "f", t.flags);
	ASSERT_LE(0, fd);
	EXPECT_EQ(t.want, a->got);
	if (t.want)
		EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 1, false));
	close(fd);

	t.flags = O_RDWR;
	fd = fs_open(&self->s, OPEN_CACHED, "f", t.flags);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, a->got);
	ASSERT_EQ(0, fcntl(fd, F_SETFL, O_DIRECT));
	errno = 0;
	EXPECT_EQ(t.want ? -1 : BLOCK, pread(fd, buf, BLOCK, 0));
	EXPECT_EQ(t.want, errno);
	errno = 0;
	EXPECT_EQ(t.want ? -1 : BLOCK, pwrite(fd, buf, BLOCK, 0));
	EXPECT_EQ(t.want, errno);
	ASSERT_EQ(0, fcntl(fd, F_SETFL, 0));
	EXPECT_EQ(BLOCK, pread(fd, buf, BLOCK, 0));
	close(fd);
	close(a->given);
	munmap(buf, BLOCK);
}

/* Passthrough wins over FOPEN_DIRECT_IO and FOPEN_KEEP_CACHE in the answer. */
TEST_F_TIMEOUT(attach_abi, wins_over_direct, IO_TIMEOUT)
{
	int fd;

	self->s.open_flags = FOPEN_DIRECT_IO | FOPEN_KEEP_CACHE;
	fd = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 1, true));
	EXPECT_TRUE(writes_pattern(&self->s, fd, "f", LEN, 3, true));
	close(fd);
}

static bool try_twice(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct attempt *a = s->arg;
	int f, o;

	if (in->opcode != FUSE_OPEN)
		return false;
	f = lower_open(s, "f", O_RDWR);
	o = other(s);
	a->got = attach(s->dev, in->unique, f) ?: -1;
	if (a->got < 0)
		a->got = attach(s->dev, in->unique, o);
	if (a->got == EBUSY)
		a->got = attach(s->dev, in->unique, f);
	close(f);
	close(o);
	return false;
}

/* A second lower file, or the same again, is EBUSY, and the first one stays. */
TEST_F_TIMEOUT(attach_abi, busy, IO_TIMEOUT)
{
	int fd;

	self->s.request = try_twice;
	fd = fs_open(&self->s, OPEN_CACHED, "f", O_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_EQ(EBUSY, self->a.got);
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 1, true));
	close(fd);
}

static bool try_fuse(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct attempt *a = s->arg;

	if (in->opcode == FUSE_OPEN)
		a->got = attach(s->dev, in->unique, a->fd);
	return false;
}

/* A file on FUSE, plain or passthrough, cannot be a lower file. */
TEST_F_TIMEOUT(attach_abi, lower_on_fuse, IO_TIMEOUT)
{
	static const enum fuse_server_open hows[] = { OPEN_CACHED, OPEN_PASSTHROUGH };
	unsigned int i;
	int fd;

	for (i = 0; i < ARRAY_SIZE(hows); i++) {
		self->s.request = NULL;
		self->a.fd = fs_open(&self->s, hows[i], "other", O_RDWR);
		ASSERT_LE(0, self->a.fd);
		self->s.request = try_fuse;
		self->a.got = -1;
		fd = fs_open(&self->s, OPEN_CACHED, "f", O_RDWR);
		ASSERT_LE(0, fd);
		EXPECT_EQ(EINVAL, self->a.got);
		EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 1, false));
		close(fd);
		close(self->a.fd);
	}
}

static bool try_bad_pointers(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct attempt *a = s->arg;
	struct fuse_passthrough_out out = { .unique = in->unique };

	if (in->opcode != FUSE_OPEN)
		return false;
	out.fd = other(s);
	a->got = ioctl_unreadable(s->dev, FUSE_DEV_IOC_PASSTHROUGH_OPEN, &out,
				  sizeof(out));
	close(out.fd);
	return false;
}

/* An argument that cannot be read completely is EFAULT. */
TEST_F_TIMEOUT(attach_abi, bad_pointer, IO_TIMEOUT)
{
	int fd;

	self->s.request = try_bad_pointers;
	fd = fs_open(&self->s, OPEN_CACHED, "f", O_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_EQ(EFAULT, self->a.got);
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 1, false));
	close(fd);
}

static bool try_numbers(struct fuse_server *s, const struct fuse_in_header *in)
{
	static const unsigned long cmds[] = {
		_IOW(FUSE_DEV_IOC_MAGIC, 1, uint32_t),
		_IOR(FUSE_DEV_IOC_MAGIC, 1, struct fuse_passthrough_out),
		_IOWR(FUSE_DEV_IOC_MAGIC, 1, struct fuse_passthrough_out),
		_IO(FUSE_DEV_IOC_MAGIC, 1),
		_IOW(FUSE_DEV_IOC_MAGIC, 3, struct fuse_passthrough_out),
		_IOW(FUSE_DEV_IOC_MAGIC + 1, 1, struct fuse_passthrough_out),
	};
	struct attempt *a = s->arg;
	struct fuse_passthrough_out out = { .unique = in->unique };
	unsigned int i;

	if (in->opcode != FUSE_OPEN)
		return false;
	out.fd = other(s);
	a->got = ENOTTY;
	for (i = 0; i < ARRAY_SIZE(cmds) && a->got == ENOTTY; i++)
		a->got = ioctl_errno(s->dev, cmds[i], &out);
	close(out.fd);
	return false;
}

/* Near misses of the number are unknown: ENOTTY. */
TEST_F_TIMEOUT(attach_abi, other_numbers, IO_TIMEOUT)
{
	int fd;

	self->s.request = try_numbers;
	fd = fs_open(&self->s, OPEN_CACHED, "f", O_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_EQ(ENOTTY, self->a.got);
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 1, false));
	close(fd);
}

#if __SIZEOF_LONG__ == 4

/*
 * A client without O_LARGEFILE, which only a 32-bit client can be, writes up to
 * 2 GiB and no further, whatever flags the lower file has.
 */
TEST_F_TIMEOUT(attach_abi, not_large, IO_TIMEOUT)
{
	const off_t limit = INT32_MAX;
	enum fuse_server_open how;
	int fd, p[2];
	loff_t off;

	self->s.request = NULL;
	for (how = OPEN_PASSTHROUGH; how <= OPEN_BACKING_ID; how++) {
		self->s.how = how;
		fd = syscall(SYS_openat, AT_FDCWD, fuse_path(&self->s, "f"), O_RDWR);
		ASSERT_LE(0, fd);
		EXPECT_EQ(0, self->s.open_error);
		EXPECT_EQ(3, pwrite(fd, "abcdef", 6, limit - 3));
		EXPECT_EQ(-1, pwrite(fd, "a", 1, limit));
		EXPECT_EQ(EFBIG, errno);
		EXPECT_EQ(limit, size_of(fd));

		/* An append begins at the end of the file. */
		EXPECT_EQ(-1, pwritev2(fd, &(struct iovec){ "a", 1 }, 1, 0, RWF_APPEND));
		EXPECT_EQ(EFBIG, errno);

		ASSERT_EQ(0, pipe2(p, O_NONBLOCK));
		ASSERT_EQ(3, write(p[1], "abc", 3));
		off = limit - 1;
		EXPECT_EQ(1, splice(p[0], NULL, fd, &off, 3, 0));
		EXPECT_EQ(-1, splice(p[0], NULL, fd, &off, 2, 0));
		EXPECT_EQ(EFBIG, errno);
		EXPECT_EQ(limit, size_of(fd));
		close(p[0]);
		close(p[1]);
		close(fd);
		ASSERT_EQ(0, truncate(lower_path(&self->s, "f"), LEN));
	}
	EXPECT_EQ(0, server_io(&self->s));
}

#endif

TEST_HARNESS_MAIN
