// SPDX-License-Identifier: GPL-2.0
/* Opens by backing id: access modes, flags, and what else the answer says */
#define _GNU_SOURCE
#include <limits.h>
#include <linux/fs.h>

#include "id_test.h"
#include "../../kselftest_harness.h"

FIXTURE(id_open) {
	struct fuse_server s;
	struct id_answer a;
	struct own_fs fs;
};

FIXTURE_SETUP(id_open)
{
	ASSERT_EQ(0, serve_ids(&self->s, &self->a, &self->fs));
}

FIXTURE_TEARDOWN(id_open)
{
	fuse_server_stop(&self->s);
	/* Ids end with the connection. */
	EXPECT_TRUE(own_fs_free(&self->fs));
	own_fs_end(&self->fs);
}

/*
 * The kernel reopens the registered file for each client, with the client's
 * flags.  The flags of the server's descriptor, such as O_PATH, do not matter.
 */
TEST_F_TIMEOUT(id_open, any_access_mode, IO_TIMEOUT)
{
	static const int modes[] = { O_RDONLY, O_WRONLY, O_RDWR, O_PATH };
	static const int clients[] = { O_RDONLY, O_WRONLY, O_RDWR };
	unsigned int i, j;
	int fd, id;
	char c;

	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		id = id_of(&self->s, "f", modes[i]);
		ASSERT_LT(0, id);
		for (j = 0; j < ARRAY_SIZE(clients); j++) {
			fd = client_open(&self->s, id, clients[j]);
			ASSERT_LE(0, fd);
			if (clients[j] != O_RDONLY) {
				EXPECT_TRUE(writes_pattern(&self->s, fd, "f",
							   LEN, i, true));
			}
			if (clients[j] == O_RDWR) {
				EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, i,
							  true));
			}
			if (clients[j] == O_RDONLY)
				EXPECT_EQ(1, read(fd, &c, 1));
			close(fd);
		}
		EXPECT_EQ(0, id_close(self->s.dev, id));
	}
	EXPECT_EQ(0, server_io(&self->s));
}

static const int opcodes[] = { FUSE_OPEN, FUSE_CREATE, FUSE_TMPFILE };

/* A reply with an unknown id fails the open with EIO and sends RELEASE. */
TEST_F_TIMEOUT(id_open, unknown_id, IO_TIMEOUT)
{
	int id = id_of(&self->s, "f", O_RDWR);
	int gone = id_of(&self->s, "f", O_RDWR);
	const int ids[] = { 0, -1, INT_MIN, INT_MAX, gone + 1, gone };
	unsigned int i, j, released = 0;
	int fd;

	ASSERT_LT(0, id);
	ASSERT_EQ(0, id_close(self->s.dev, gone));
	for (i = 0; i < ARRAY_SIZE(ids); i++) {
		self->a.id = ids[i];
		for (j = 0; j < ARRAY_SIZE(opcodes); j++) {
			EXPECT_EQ(-1, open_as(&self->s, opcodes[j]));
			EXPECT_EQ(EIO, errno) TH_LOG("id %d", ids[i]);
			/* Hangs without a RELEASE */
			fuse_server_wait(&self->s, FUSE_RELEASE, ++released);
		}
	}
	self->a.id = id;
	for (j = 0; j < ARRAY_SIZE(opcodes); j++) {
		fd = open_as(&self->s, opcodes[j]);
		ASSERT_LE(0, fd);
		EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, j ? j + 3 : 1, true));
		EXPECT_TRUE(writes_pattern(&self->s, fd, "f", LEN, j + 4, true));
		close(fd);
	}
}

/*
 * FOPEN_* flags that exclude FOPEN_PASSTHROUGH fail the open; other flags do
 * not.
 */
TEST_F_TIMEOUT(id_open, flags_beside, IO_TIMEOUT)
{
	static const struct { uint32_t flag; bool ok; } f[] = {
		{ FOPEN_KEEP_CACHE, false }, { FOPEN_NONSEEKABLE, false },
		{ FOPEN_CACHE_DIR, false }, { FOPEN_STREAM, false },
		{ FOPEN_NOFLUSH, true }, { FOPEN_PARALLEL_DIRECT_WRITES, true },
		{ 1U << 30, false },
	};
	int fd, id = id_of(&self->s, "f", O_RDWR);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(f); i++) {
		self->a.flags = FOPEN_PASSTHROUGH | f[i].flag;
		fd = client_open(&self->s, id, O_RDWR);
		if (f[i].ok) {
			ASSERT_LE(0, fd);
			EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 1, true));
			close(fd);
		} else {
			EXPECT_EQ(-1, fd) TH_LOG("flag %#x", f[i].flag);
			EXPECT_EQ(EIO, errno);
		}
	}
}

/*
 * With FOPEN_DIRECT_IO and FOPEN_PASSTHROUGH, reads and writes go to the
 * server, and mappings map the lower file.
 */
TEST_F_TIMEOUT(id_open, direct_io_beside, IO_TIMEOUT)
{
	unsigned long io;
	char *map;
	int fd;

	self->a.flags = FOPEN_PASSTHROUGH | FOPEN_DIRECT_IO;
	fd = client_open(&self->s, id_of(&self->s, "other", O_RDWR), O_RDWR);
	ASSERT_LE(0, fd);
	/* The server has "f", the lower file is "other". */
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 1, false));
	EXPECT_TRUE(writes_pattern(&self->s, fd, "f", LEN, 4, false));
	EXPECT_EQ(-1, lower_differs(&self->s, "other", 0, LEN, 2));

	io = server_io(&self->s);
	map = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(-1, pattern_differs(map, LEN, 0, 2));
	pattern(map, LEN, 0, 5);
	EXPECT_EQ(-1, lower_differs(&self->s, "other", 0, LEN, 5));
	munmap(map, LEN);
	EXPECT_EQ(io, server_io(&self->s));
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, LEN, 4));
	close(fd);
}

/*
 * By request and by id serve opens of one inode at the same time; both on one
 * request are EBUSY.
 */
TEST_F_TIMEOUT(id_open, both_forms, IO_TIMEOUT)
{
	int by_id, by_request, id = id_of(&self->s, "f", O_RDWR);

	by_id = client_open(&self->s, id, O_RDWR);
	ASSERT_LE(0, by_id);
	self->a.attach = true;
	self->a.flags = 0;
	by_request = client_open(&self->s, 0, O_RDWR);
	ASSERT_LE(0, by_request);
	EXPECT_EQ(0, self->a.attached);
	EXPECT_TRUE(reads_pattern(&self->s, by_id, LEN, 1, true));
	EXPECT_TRUE(reads_pattern(&self->s, by_request, LEN, 2, true));
	EXPECT_TRUE(writes_pattern(&self->s, by_id, "f", LEN, 4, true));
	EXPECT_TRUE(writes_pattern(&self->s, by_request, "other", LEN, 5, true));

	self->a.flags = FOPEN_PASSTHROUGH;
	EXPECT_EQ(-1, client_open(&self->s, id, O_RDWR));
	EXPECT_EQ(EBUSY, errno);
	EXPECT_EQ(0, self->a.attached);
	/* An id without FOPEN_PASSTHROUGH is ignored. */
	self->a.flags = 0;
	close(by_request);
	by_request = client_open(&self->s, id, O_RDWR);
	ASSERT_LE(0, by_request);
	EXPECT_TRUE(reads_pattern(&self->s, by_request, LEN, 5, true));
	close(by_request);
	close(by_id);
}

static bool fdinfo_has(int fd, const char *line)
{
	char path[64], buf[512];
	bool has = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	f = fopen(path, "r");
	while (f && fgets(buf, sizeof(buf), f))
		has |= !strcmp(buf, line);
	if (f)
		fclose(f);
	return has;
}

/* Opens by one id share the lower file, but each has its own flags. */
TEST_F_TIMEOUT(id_open, shared, IO_TIMEOUT)
{
	int fd[64], i, append, id = id_of(&self->s, "f", O_PATH);

	ASSERT_LT(0, id);
	for (i = 0; i < 64; i++) {
		fd[i] = client_open(&self->s, id, i % 2 ? O_RDWR : O_RDONLY);
		ASSERT_LE(0, fd[i]);
	}
	append = client_open(&self->s, id, O_WRONLY | O_APPEND);
	ASSERT_LE(0, append);
	EXPECT_TRUE(fdinfo_has(fd[0], "passthrough-attach:\tid\n"));
	EXPECT_TRUE(fdinfo_has(fd[0], "passthrough-mode:\tr\n"));
	EXPECT_TRUE(fdinfo_has(fd[1], "passthrough-mode:\trw\n"));
	EXPECT_TRUE(fdinfo_has(append, "passthrough-mode:\tw\n"));

	EXPECT_EQ(0, id_close(self->s.dev, id));
	for (i = 0; i < 64; i++) {
		if (i % 2) {
			EXPECT_TRUE(writes_pattern(&self->s, fd[i], "f", LEN, i,
						   true));
		} else {
			EXPECT_TRUE(reads_pattern(&self->s, fd[i], LEN,
						  i ? i - 1 : 1, true));
		}
		close(fd[i]);
	}
	EXPECT_EQ(3, pwrite(append, "end", 3, 0));
	EXPECT_EQ(LEN + 3, size_of(append));
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, LEN, 63));
	close(append);
	EXPECT_EQ(0, server_io(&self->s));
}

/* An open by id obeys restrictions set on the file or file system after registration. */
TEST_F_TIMEOUT(id_open, forbidden_meanwhile, IO_TIMEOUT)
{
	int fd, low, id, flags = FS_IMMUTABLE_FL;

	/* Read-only: a writable descriptor would prevent the remount. */
	id = id_of_path(&self->s, self->fs.path, O_RDONLY);

	ASSERT_EQ(0, mount(NULL, self->fs.dir, NULL, MS_REMOUNT | MS_RDONLY, NULL));
	EXPECT_EQ(-1, client_open(&self->s, id, O_RDWR));
	EXPECT_EQ(EROFS, errno);
	fd = client_open(&self->s, id, O_RDONLY);
	ASSERT_LE(0, fd);
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, OWN_FS_SEED, true));
	close(fd);
	ASSERT_EQ(0, mount(NULL, self->fs.dir, NULL, MS_REMOUNT, NULL));
	fd = client_open(&self->s, id, O_RDWR);
	ASSERT_LE(0, fd);
	close(fd);

	id = id_of(&self->s, "f", O_RDWR);
	low = lower_open(&self->s, "f", O_RDONLY);
	if (ioctl(low, FS_IOC_SETFLAGS, &flags))
		SKIP(return, "immutable");
	EXPECT_EQ(-1, client_open(&self->s, id, O_RDWR));
	EXPECT_EQ(EIO, errno);
	fd = client_open(&self->s, id, O_RDONLY);
	ASSERT_LE(0, fd);
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 1, true));
	close(fd);
	flags = 0;
	EXPECT_EQ(0, ioctl(low, FS_IOC_SETFLAGS, &flags));
	close(low);
}

/*
 * A file system without a write operation serves opens for reading, whatever
 * descriptor was registered.  Opens for writing are EROFS.
 */
TEST_F_TIMEOUT(id_open, read_only, IO_TIMEOUT)
{
	static const int registered[] = { O_RDONLY, O_PATH };
	unsigned int i, j, released = 0;
	int fd, low, id;

	for (i = 0; i < ARRAY_SIZE(registered); i++) {
		low = squashfs_file(registered[i]);
		if (low < 0)
			SKIP(return, "no squashfs, or no loop devices");
		id = id_open(self->s.dev, low);
		close(low);
		ASSERT_LT(0, id);
		fd = client_open(&self->s, id, O_RDONLY);
		ASSERT_LE(0, fd);
		EXPECT_TRUE(reads_pattern(&self->s, fd, SQUASHFS_LEN,
					  SQUASHFS_SEED, true));
		close(fd);
		fuse_server_wait(&self->s, FUSE_RELEASE, ++released);

		EXPECT_EQ(-1, client_open(&self->s, id, O_WRONLY));
		EXPECT_EQ(EROFS, errno);
		fuse_server_wait(&self->s, FUSE_RELEASE, ++released);
		for (j = 0; j < ARRAY_SIZE(opcodes); j++) {
			EXPECT_EQ(-1, open_as(&self->s, opcodes[j]));
			EXPECT_EQ(EROFS, errno) TH_LOG("opcode %d", opcodes[j]);
			fuse_server_wait(&self->s, FUSE_RELEASE, ++released);
		}
		EXPECT_EQ(0, id_close(self->s.dev, id));
	}
}

/*
 * O_DIRECT on a lower file without it is EINVAL, as on the lower file system.
 */
TEST_F_TIMEOUT(id_open, direct_that_cannot, IO_TIMEOUT)
{
	int low = open(self->fs.path, O_RDWR | O_CLOEXEC);
	int id = id_open(self->s.dev, low);
	bool can = can_direct(low);
	unsigned int i;
	int fd;

	close(low);
	ASSERT_LT(0, id);
	for (i = O_RDONLY; i <= O_RDWR; i++) {
		fd = client_open(&self->s, id, i | O_DIRECT);
		if (can) {
			EXPECT_LE(0, fd);
		} else {
			EXPECT_EQ(-1, fd);
			EXPECT_EQ(EINVAL, errno);
		}
		close(fd);
	}
	fd = client_open(&self->s, id, O_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, OWN_FS_SEED, true));
	close(fd);
}

TEST_HARNESS_MAIN
