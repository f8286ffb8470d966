// SPDX-License-Identifier: GPL-2.0
/*
 * COPY_FILE_RANGE attached to both inodes: the lower file system does copies
 * and clones between opens that have lower files.
 */
#define _GNU_SOURCE
#include <linux/fs.h>
#include <string.h>

#include "inode_test.h"
#include "../../kselftest_harness.h"

#define LEN	(16 * PAGE)
#define OPS	(OP(GETATTR) | OP(OPEN) | OP(COPY_FILE_RANGE))

FIXTURE(inode_copy) {
	struct fuse_server s;
	char *buf;
	int from, to;
	unsigned long requests;
};

FIXTURE_VARIANT(inode_copy) { bool writeback; enum fuse_server_open how; };
FIXTURE_VARIANT_ADD(inode_copy, by_inode) { .how = OPEN_CACHED };
FIXTURE_VARIANT_ADD(inode_copy, by_inode_writeback) {
	.how = OPEN_CACHED, .writeback = true
};

FIXTURE_VARIANT_ADD(inode_copy, by_request) { .how = OPEN_PASSTHROUGH };
FIXTURE_VARIANT_ADD(inode_copy, by_id) { .how = OPEN_BACKING_ID };

FIXTURE_SETUP(inode_copy)
{
	struct fuse_server *s = &self->s;

	s->writeback = variant->writeback;
	ASSERT_EQ(0, serve_inodes(s));
	ASSERT_EQ(0, lower_make(s, "from", LEN, 1));
	ASSERT_TRUE(pair_make(s, 0666, USER, GROUP));
	self->buf = pages(2 * LEN);
	ASSERT_NE(NULL, self->buf);
	s->new_ops = variant->how == OPEN_CACHED ? OPS : OPS & ~OP(OPEN);
	self->from = fs_open(s, variant->how, "from", O_RDONLY);
	self->to = fs_open(s, variant->how, "f", O_RDWR);
	ASSERT_LE(0, self->from);
	ASSERT_LE(0, self->to);
	ASSERT_EQ(0, s->inode_error);
	ASSERT_EQ(3, inodes_attached(s));
	self->requests = fuse_server_requests(s);
}

FIXTURE_TEARDOWN(inode_copy)
{
	fuse_server_stop(&self->s);
}

static ssize_t copy(int from, loff_t in, int to, loff_t out, size_t len)
{
	return copy_file_range(from, &in, to, &out, len, 0);
}

/* A copy into the middle and beyond the end is made below, without a request. */
TEST_F_TIMEOUT(inode_copy, copies, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;

	EXPECT_EQ(LEN, copy(self->from, 0, self->to, 0, LEN));
	EXPECT_EQ(LEN, size_of(self->to));
	EXPECT_EQ(-1, lower_differs(s, "f", 0, LEN, 1));
	EXPECT_EQ(100, copy(self->from, 10, self->to, LEN, 100));
	EXPECT_EQ(LEN + 100, lseek(self->to, 0, SEEK_END));
	ASSERT_EQ(100, pread(self->to, self->buf, 200, LEN));
	EXPECT_EQ(-1, pattern_differs(self->buf, 100, 10, 1));
	/* A copy ends at the end of the source. */
	EXPECT_EQ(50, copy(self->from, LEN - 50, self->to, 0, LEN));
	EXPECT_EQ(0, copy(self->from, LEN, self->to, 0, LEN));
	EXPECT_EQ(-1, copy(self->to, 0, self->to, 10, 100));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(self->requests, fuse_server_requests(s));
}

/*
 * A copy takes cached data of the source into account, and drops cached data of
 * the destination.
 */
TEST_F_TIMEOUT(inode_copy, caches, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	int from, to;

	s->new_ops = 0;
	ASSERT_EQ(0, inode_detach(s, "from"));
	ASSERT_EQ(0, inode_detach(s, "f"));
	s->attach_in = 0;
	from = fs_open(s, OPEN_CACHED, "from", O_RDWR);
	to = fs_open(s, OPEN_CACHED, "f", O_RDWR);
	ASSERT_LE(0, from);
	ASSERT_LE(0, to);
	ASSERT_EQ(0, inode_attach(s, "from", OP(GETATTR) | OP(COPY_FILE_RANGE)));
	ASSERT_EQ(0, inode_attach(s, "f", OP(GETATTR) | OP(COPY_FILE_RANGE)));
	pattern(self->buf, LEN, 0, 2);
	ASSERT_EQ(LEN, pwrite(from, self->buf, LEN, 0));
	pattern(self->buf, LEN, 0, 3);
	ASSERT_EQ(LEN, pwrite(to, self->buf, LEN, 0));
	EXPECT_EQ(2 * PAGE, copy(self->from, 0, self->to, PAGE, 2 * PAGE));
	EXPECT_EQ(0, fuse_server_count(s, FUSE_COPY_FILE_RANGE));
	ASSERT_EQ(LEN, pread(to, self->buf, LEN, 0));
	EXPECT_EQ(-1, pattern_differs(self->buf, PAGE, 0, 3));
	EXPECT_EQ(-1, pattern_differs(self->buf + PAGE, 2 * PAGE, 0, 2));
	EXPECT_EQ(-1, pattern_differs(self->buf + 3 * PAGE, LEN - 3 * PAGE, 3 * PAGE, 3));
	close(from);
	close(to);
	EXPECT_EQ(-1, lower_differs(s, "f", 0, PAGE, 3));
	EXPECT_EQ(-1, lower_differs(s, "f", 3 * PAGE, LEN - 3 * PAGE, 3));
}

/*
 * If one open has no lower file, or one inode has no COPY_FILE_RANGE attached,
 * the copy is a request.
 */
TEST_F_TIMEOUT(inode_copy, asks, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	int plain;

	ASSERT_EQ(0, inode_detach(s, "from"));
	EXPECT_EQ(100, copy(self->from, 0, self->to, 0, 100));
	EXPECT_EQ(1, fuse_server_count(s, FUSE_COPY_FILE_RANGE));
	ASSERT_EQ(0, inode_attach(s, "from", OP(GETATTR) | OP(COPY_FILE_RANGE)));
	EXPECT_EQ(100, copy(self->from, 0, self->to, 0, 100));
	EXPECT_EQ(1, fuse_server_count(s, FUSE_COPY_FILE_RANGE));
	ASSERT_EQ(0, inode_detach(s, "f"));
	EXPECT_EQ(100, copy(self->from, 0, self->to, 100, 100));
	EXPECT_EQ(2, fuse_server_count(s, FUSE_COPY_FILE_RANGE));
	ASSERT_EQ(0, inode_attach(s, "f", OP(GETATTR) | OP(COPY_FILE_RANGE)));
	s->attach_in = 0;
	plain = fs_open(s, OPEN_CACHED, "f", O_RDWR);
	ASSERT_LE(0, plain);
	EXPECT_EQ(100, copy(self->from, 0, plain, 200, 100));
	EXPECT_EQ(3, fuse_server_count(s, FUSE_COPY_FILE_RANGE));
	EXPECT_LE(300, size_of(plain));
	close(plain);
}

static int clone_file(int from, int to)
{
	return ioctl(to, FICLONE, from) ? errno : 0;
}

static int clone_range(int from, int to)
{
	struct file_clone_range r = { .src_fd = from, .src_length = BLOCK };

	return ioctl(to, FICLONERANGE, &r) ? errno : 0;
}

static int copy_all(int from, int to)
{
	return copy(from, 0, to, 0, BLOCK) == BLOCK ? 0 : errno;
}

/* Copies and clones drop setuid and setgid bits as on the lower file system. */
TEST_F_TIMEOUT(inode_copy, takes_bits, IO_TIMEOUT)
{
	static int (*const ways[])(int, int) = { copy_all, clone_file, clone_range };
	static const mode_t modes[] = {
		04777, 02777, 06777, 02666, 06666, 04644, 02644, 0644,
	};
	struct fuse_server *s = &self->s;
	int low_from, low_to, f, peer;
	enum client client;
	unsigned int i, w;

	low_from = lower_open(s, "from", O_RDONLY);
	low_to = lower_open(s, "peer", O_RDWR);
	for (w = 0; w < ARRAY_SIZE(ways); w++) {
		for (client = 0; client < CLIENTS; client++) {
			for (i = 0; i < ARRAY_SIZE(modes); i++) {
				ASSERT_TRUE(pair_make(s, modes[i], USER, GROUP));
				client_become(client);
				peer = ways[w](low_from, low_to);
				f = ways[w](self->from, self->to);
				thread_become_root();
				EXPECT_EQ(peer, f) TH_LOG("way %u", w);
				EXPECT_TRUE(pair_alike(s))
					TH_LOG("way %u, client %d, mode %o", w, client,
					       modes[i]);
			}
		}
	}
	EXPECT_EQ(0, fuse_server_count(s, FUSE_COPY_FILE_RANGE));
	EXPECT_EQ(0, fuse_server_count(s, FUSE_SETATTR));
}

/* Open it by inode, attached by a server of this user. */
static int open_of(struct fuse_server *s, const char *name, uid_t server, int flags)
{
	if (inode_detach(s, name) || inode_attach_as(s, name, server, OPS))
		return -1;
	return open(fuse_path(s, name), flags | O_CLOEXEC);
}

/*
 * A copy has the credentials of the destination's server: where the client may
 * keep setgid without group-exec, the bit stays if that server may keep it.
 */
TEST_F_TIMEOUT(inode_copy, credentials, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	int from, to, keeps;

	/* The others are opened by one server. */
	if (variant->how != OPEN_CACHED)
		return;
	for (keeps = 0; keeps < 2; keeps++) {
		ASSERT_TRUE(pair_make(s, 02666, USER, GROUP));
		from = open_of(s, "from", keeps ? USER : 0, O_RDONLY);
		to = open_of(s, "f", keeps ? 0 : USER, O_RDWR);
		ASSERT_LE(0, from);
		ASSERT_LE(0, to);
		client_become(MEMBER);
		EXPECT_EQ(0, copy_all(from, to));
		thread_become_root();
		EXPECT_EQ(keeps, !!(lower_mode(s, "f") & S_ISGID));
		close(from);
		close(to);
	}
	EXPECT_EQ(self->requests, fuse_server_requests(s));
}

/* A clone succeeds or fails as on the lower file system, without a request. */
TEST_F_TIMEOUT(inode_copy, clones, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	int low_from = lower_open(s, "from", O_RDONLY);
	int low_to = lower_open(s, "peer", O_RDWR);
	int err = clone_file(low_from, low_to);

	EXPECT_EQ(err, clone_file(self->from, self->to));
	EXPECT_EQ(self->requests, fuse_server_requests(s));
	if (err)
		return;
	EXPECT_EQ(LEN, size_of(self->to));
	EXPECT_TRUE(reads_pattern(s, self->to, LEN, 1, true));
	EXPECT_EQ(-1, lower_differs(s, "f", 0, LEN, 1));
	EXPECT_TRUE(writes_pattern(s, self->to, "f", LEN, 2, true));
	EXPECT_EQ(-1, lower_differs(s, "from", 0, LEN, 1));
}

TEST_HARNESS_MAIN
