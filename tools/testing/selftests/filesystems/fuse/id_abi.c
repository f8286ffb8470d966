// SPDX-License-Identifier: GPL-2.0
/* The ABI of backing ids: which files can be registered, at which device, errors */
#define _GNU_SOURCE
#include <limits.h>

#include "id_test.h"
#include "../../kselftest_harness.h"

FIXTURE(id_abi) {
	struct fuse_server s;
	struct id_answer a;
	struct own_fs fs;
};

FIXTURE_SETUP(id_abi)
{
	ASSERT_EQ(0, serve_ids(&self->s, &self->a, &self->fs));
}

FIXTURE_TEARDOWN(id_abi)
{
	fuse_server_stop(&self->s);
	/* Ids end with the connection. */
	EXPECT_TRUE(own_fs_free(&self->fs));
	own_fs_end(&self->fs);
}

struct registration {
	const char *what;
	int want;
	int (*lower)(struct fuse_server *s);
	uint32_t flags;
	uint64_t padding;
};

static int file(struct fuse_server *s)
{
	return lower_open(s, "f", O_RDWR);
}

static int path_of_directory(struct fuse_server *s)
{
	return lower_open(s, ".", O_PATH);
}

static int path_of_symlink(struct fuse_server *s)
{
	symlinkat("f", s->dirfd, "link");
	return lower_open(s, "link", O_PATH | O_NOFOLLOW);
}

static const struct registration refused[] = {
	{ "flags", EINVAL, file, .flags = 1 },
	{ "flags, last bit", EINVAL, file, .flags = 1U << 31 },
	{ "padding", EINVAL, file, .padding = 1 },
	{ "padding, last bit", EINVAL, file, .padding = 1ULL << 63 },
	{ "flags before the descriptor", EINVAL, minus_one, .flags = 1 },
	{ "descriptor closed", EBADF, closed },
	{ "descriptor -1", EBADF, minus_one },
	{ "directory", EISDIR, directory },
	{ "O_PATH of a directory", EISDIR, path_of_directory },
	{ "O_PATH of a symbolic link", EINVAL, path_of_symlink },
	{ "O_PATH of a fifo", EINVAL, fifo_path },
	{ "pipe", EINVAL, pipe_end },
	{ "socket", EINVAL, unix_socket },
	{ "character device", EINVAL, char_device },
	{ "memfd", EINVAL, memfd },
	{ "sysctl", EINVAL, sysctl_file },
};

/* Each descriptor or argument that cannot be registered gives its errno. */
TEST_F_TIMEOUT(id_abi, refused, IO_TIMEOUT)
{
	unsigned int i;
	int fd;

	for (i = 0; i < ARRAY_SIZE(refused); i++) {
		const struct registration *t = &refused[i];
		struct fuse_backing_map map = {
			.fd = t->lower(&self->s),
			.flags = t->flags,
			.padding = t->padding,
		};

		if (t->lower != minus_one)
			ASSERT_LE(0, map.fd) TH_LOG("%s: no such file", t->what);
		EXPECT_EQ(-t->want, id_map(self->s.dev, &map))
			TH_LOG("%s", t->what);
		close(map.fd);
	}
	/* A later registration succeeds. */
	fd = client_open(&self->s, id_of(&self->s, "f", O_RDWR), O_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 1, true));
	close(fd);
}

/* A configfs file is refused, whatever kind of descriptor is passed. */
TEST_F_TIMEOUT(id_abi, configfs, IO_TIMEOUT)
{
	static const int flags[] = { O_RDWR, O_RDONLY, O_PATH };
	unsigned int i;
	int fd;

	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		fd = configfs_file(flags[i]);
		if (fd < 0)
			SKIP(return, "no file on configfs");
		EXPECT_EQ(-EINVAL, id_open(self->s.dev, fd));
		close(fd);
	}
}

/* A file on FUSE, plain or passthrough, cannot be a lower file: ELOOP. */
TEST_F_TIMEOUT(id_abi, lower_on_fuse, IO_TIMEOUT)
{
	int fd;

	self->a.flags = 0;
	fd = client_open(&self->s, 0, O_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_EQ(-ELOOP, id_open(self->s.dev, fd));
	close(fd);

	self->a.flags = FOPEN_PASSTHROUGH;
	fd = client_open(&self->s, id_of(&self->s, "f", O_RDWR), O_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_EQ(-ELOOP, id_open(self->s.dev, fd));
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 1, true));
	close(fd);
}

/* Closing an unknown id is EINVAL or ENOENT; an id can be closed once. */
TEST_F_TIMEOUT(id_abi, close_unknown, IO_TIMEOUT)
{
	int id = id_of(&self->s, "f", O_RDWR);

	ASSERT_LT(0, id);
	EXPECT_EQ(EINVAL, id_close(self->s.dev, 0));
	EXPECT_EQ(EINVAL, id_close(self->s.dev, -1));
	EXPECT_EQ(EINVAL, id_close(self->s.dev, INT_MIN));
	EXPECT_EQ(ENOENT, id_close(self->s.dev, INT_MAX));
	EXPECT_EQ(ENOENT, id_close(self->s.dev, id + 1));
	EXPECT_EQ(0, id_close(self->s.dev, id));
	EXPECT_EQ(ENOENT, id_close(self->s.dev, id));
}

/* An argument that is not fully readable is EFAULT. */
TEST_F_TIMEOUT(id_abi, bad_pointer, IO_TIMEOUT)
{
	char *edge = (char *)pages(2 * PAGE) + PAGE;
	int dev = self->s.dev;

	munmap(edge, PAGE);
	EXPECT_EQ(-EFAULT, id_map(dev, NULL));
	EXPECT_EQ(-EFAULT, id_map(dev, (void *)(edge - 8)));
	EXPECT_EQ(-1, ioctl(dev, FUSE_DEV_IOC_BACKING_CLOSE, NULL));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, ioctl(dev, FUSE_DEV_IOC_BACKING_CLOSE, edge - 2));
	EXPECT_EQ(EFAULT, errno);
}

/*
 * Ids belong to a connection: all its devices can use them, other connections
 * cannot.
 */
TEST_F_TIMEOUT(id_abi, device, IO_TIMEOUT)
{
	struct id_answer a2 = { .flags = FOPEN_PASSTHROUGH };
	struct fuse_server s2 = { .arg = &a2, .request = by_id };
	int id, fd, low = lower_open(&self->s, "other", O_RDWR);
	int dev = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	struct stat st;

	EXPECT_EQ(-EPERM, id_open(dev, low));
	EXPECT_EQ(EPERM, id_close(dev, 1));
	close(dev);

	dev = clone_dev(self->s.dev);
	ASSERT_LE(0, dev);
	id = id_open(dev, low);
	ASSERT_LT(0, id);
	close(dev);
	fd = client_open(&self->s, id, O_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 2, true));
	close(fd);

	ASSERT_EQ(0, fuse_server_start(&s2));
	ASSERT_EQ(0, lower_make(&s2, "f", LEN, 7));
	ASSERT_EQ(0, stat(s2.mnt, &st));
	EXPECT_EQ(ENOENT, id_close(s2.dev, id));
	EXPECT_EQ(-1, client_open(&s2, id, O_RDWR));
	EXPECT_EQ(EIO, errno);
	EXPECT_EQ(0, id_close(self->s.dev, id));
	fuse_server_stop(&s2);
	close(low);
}

TEST_HARNESS_MAIN
