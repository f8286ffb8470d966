// SPDX-License-Identifier: GPL-2.0
/*
 * FSYNC, FALLOCATE and LSEEK attached: on an open that has a lower file these
 * calls act on the lower file, without a request.
 */
#define _GNU_SOURCE
#include <linux/falloc.h>
#include <linux/fs.h>
#include <string.h>

#include "inode_test.h"
#include "../../kselftest_harness.h"

#define LEN	(16 * PAGE)
#define OPS	(OP(GETATTR) | OP(OPEN) | OP(FSYNC) | OP(FALLOCATE) | OP(LSEEK))

FIXTURE(inode_file) {
	struct fuse_server s;
	char *buf;
	int fd, lower;
	unsigned long requests;
};

FIXTURE_VARIANT(inode_file) { bool writeback; enum fuse_server_open how; };
FIXTURE_VARIANT_ADD(inode_file, by_inode) { .how = OPEN_CACHED };
FIXTURE_VARIANT_ADD(inode_file, by_inode_writeback) {
	.how = OPEN_CACHED, .writeback = true
};

FIXTURE_VARIANT_ADD(inode_file, by_request) { .how = OPEN_PASSTHROUGH };
FIXTURE_VARIANT_ADD(inode_file, by_id) { .how = OPEN_BACKING_ID };

FIXTURE_SETUP(inode_file)
{
	struct fuse_server *s = &self->s;

	s->writeback = variant->writeback;
	ASSERT_EQ(0, serve_inodes(s));
	ASSERT_EQ(0, lower_make(s, "f", LEN, 1));
	self->buf = pages(2 * LEN);
	ASSERT_NE(NULL, self->buf);
	fuse_server_node(s, "f")->ops = variant->how == OPEN_CACHED ? OPS :
		OPS & ~OP(OPEN);
	self->fd = fs_open(s, variant->how, "f", O_RDWR);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, s->inode_error);
	self->lower = lower_open(s, "f", O_RDWR);
	self->requests = fuse_server_requests(s);
}

FIXTURE_TEARDOWN(inode_file)
{
	fuse_server_stop(&self->s);
}

/* Has the server got no request? */
static bool silent(FIXTURE_DATA(inode_file) *self)
{
	return self->requests == fuse_server_requests(&self->s);
}

/* fsync and fdatasync write the lower file to disk. */
TEST_F_TIMEOUT(inode_file, fsync, IO_TIMEOUT)
{
	long long before;
	int i;

	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, fsync(self->lower));
		pattern(self->buf, LEN, 0, 2 + i);
		ASSERT_EQ(LEN, pwrite(self->fd, self->buf, LEN, 0));
		before = sectors_written(&self->s);
		ASSERT_EQ(0, i ? fdatasync(self->fd) : fsync(self->fd));
		if (before >= 0)
			EXPECT_LE(LEN / 512, sectors_written(&self->s) - before);
	}
	EXPECT_TRUE(silent(self));
}

/* fallocate has the effect and the errors that it has on the lower file, in each mode. */
TEST_F_TIMEOUT(inode_file, fallocate, IO_TIMEOUT)
{
	static const struct { int mode; off_t off, len; } c[] = {
		{ 0, 0, LEN + 1000 }, { FALLOC_FL_KEEP_SIZE, LEN, 10 * PAGE },
		{ FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PAGE, 2 * PAGE },
		{ FALLOC_FL_ZERO_RANGE, 5 * PAGE + 10, PAGE },
		{ FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, LEN - 10, LEN },
		{ FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100, 50 },
		{ FALLOC_FL_COLLAPSE_RANGE, 0, 10 }, { FALLOC_FL_PUNCH_HOLE, 0, PAGE },
		{ 0, -1, 5 }, { 0, 0, 0 },
	};
	char *two = pages(2 * LEN);
	unsigned int i;
	int ret, err, peer;
	struct stat a, b;

	ASSERT_EQ(0, lower_make(&self->s, "peer", LEN, 1));
	peer = lower_open(&self->s, "peer", O_RDWR);
	for (i = 0; i < ARRAY_SIZE(c); i++) {
		errno = 0;
		ret = fallocate(peer, c[i].mode, c[i].off, c[i].len);
		err = errno;
		errno = 0;
		EXPECT_EQ(ret, fallocate(self->fd, c[i].mode, c[i].off, c[i].len));
		EXPECT_EQ(err, errno) TH_LOG("case %u", i);
		ASSERT_EQ(0, fstat(self->fd, &a));
		ASSERT_EQ(0, fstat(peer, &b));
		EXPECT_EQ(b.st_size, a.st_size) TH_LOG("case %u", i);
		EXPECT_EQ(b.st_size, lseek(self->fd, 0, SEEK_END));
		ret = pread(peer, two, 2 * LEN, 0);
		EXPECT_EQ(ret, pread(self->fd, self->buf, 2 * LEN, 0));
		EXPECT_EQ(0, memcmp(two, self->buf, ret)) TH_LOG("case %u", i);
	}
	EXPECT_TRUE(silent(self));
}

/* Other opens no longer have data in the cache that fallocate has removed. */
TEST_F_TIMEOUT(inode_file, fallocate_and_cache, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	int cached;

	ASSERT_EQ(0, inode_detach(s, "f"));
	s->attach_in = 0;
	cached = fs_open(s, OPEN_CACHED, "f", O_RDWR);
	ASSERT_LE(0, cached);
	ASSERT_EQ(0, inode_attach(s, "f", OP(GETATTR) | OP(FALLOCATE)));
	pattern(self->buf, LEN, 0, 4);
	ASSERT_EQ(LEN, pwrite(cached, self->buf, LEN, 0));
	if (fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PAGE, PAGE))
		SKIP(return, "fallocate_and_cache");
	EXPECT_EQ(0, fuse_server_count(s, FUSE_FALLOCATE));
	ASSERT_EQ(LEN, pread(cached, self->buf, LEN, 0));
	EXPECT_EQ(-1, pattern_differs(self->buf, PAGE, 0, 4));
	EXPECT_TRUE(all_zero(self->buf + PAGE, PAGE));
	EXPECT_EQ(-1, pattern_differs(self->buf + 2 * PAGE, LEN - 2 * PAGE, 2 * PAGE, 4));
	close(cached);
}

/* fallocate drops setuid and setgid bits as on the lower file system. */
TEST_F_TIMEOUT(inode_file, fallocate_takes_bits, IO_TIMEOUT)
{
	static const mode_t modes[] = {
		04777, 02777, 06777, 02666, 06666, 04644, 02644, 0644,
	};
	struct fuse_server *s = &self->s;
	enum client client;
	unsigned int i;
	int peer;

	ASSERT_TRUE(pair_make(s, 0666, USER, GROUP));
	peer = lower_open(s, "peer", O_RDWR);
	for (client = 0; client < CLIENTS; client++) {
		for (i = 0; i < ARRAY_SIZE(modes); i++) {
			ASSERT_TRUE(pair_make(s, modes[i], USER, GROUP));
			client_become(client);
			EXPECT_EQ(0, fallocate(peer, 0, 0, LEN));
			EXPECT_EQ(0, fallocate(self->fd, 0, 0, LEN));
			thread_become_root();
			EXPECT_TRUE(pair_alike(s))
				TH_LOG("client %d, mode %o", client, modes[i]);
		}
	}
	EXPECT_EQ(0, fuse_server_count(s, FUSE_FALLOCATE));
	EXPECT_EQ(0, fuse_server_count(s, FUSE_SETATTR));
}

/* SEEK_DATA and SEEK_HOLE give the results of the lower file, and move the file position. */
TEST_F_TIMEOUT(inode_file, lseek, IO_TIMEOUT)
{
	off_t at, want;
	int whence;

	ASSERT_EQ(0, ftruncate(self->lower, 0));
	ASSERT_EQ(PAGE, pwrite(self->lower, self->buf, PAGE, 1 << 20));
	ASSERT_EQ(PAGE, pwrite(self->fd, self->buf, PAGE, 3 << 20));
	ASSERT_EQ(0, ftruncate(self->lower, 5 << 20));
	for (at = 0; at < 6 << 20; at += 300000) {
		for (whence = SEEK_DATA; whence <= SEEK_HOLE; whence++) {
			want = lseek(self->lower, at, whence);
			EXPECT_EQ(want, lseek(self->fd, at, whence));
			if (want >= 0)
				EXPECT_EQ(want, lseek(self->fd, 0, SEEK_CUR));
		}
	}
	/* btrfs treats a negative offset as 0. */
	want = lseek(self->lower, -5, SEEK_DATA);
	EXPECT_EQ(want, lseek(self->fd, -5, SEEK_DATA));
	EXPECT_TRUE(silent(self));
}

/* SEEK_DATA of another open finds dirty pages of the write-back cache. */
TEST_F_TIMEOUT(inode_file, lseek_and_cache, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	int cached;

	ASSERT_EQ(0, inode_detach(s, "f"));
	s->attach_in = 0;
	cached = fs_open(s, OPEN_CACHED, "f", O_RDWR);
	ASSERT_LE(0, cached);
	ASSERT_EQ(0, inode_attach(s, "f", OP(GETATTR) | OP(LSEEK)));
	ASSERT_EQ(0, ftruncate(self->lower, 0));
	ASSERT_EQ(0, size_of(cached));
	ASSERT_EQ(PAGE, pwrite(cached, self->buf, PAGE, 1 << 20));
	EXPECT_EQ(lseek(self->lower, 0, SEEK_DATA) >= 0 ? lseek(self->lower, 0, SEEK_DATA) :
		  1 << 20, lseek(self->fd, 0, SEEK_DATA));
	EXPECT_EQ(0, fuse_server_count(s, FUSE_LSEEK));
	close(cached);
}

/* FALLOCATE, LSEEK and FSYNC of an open without a lower file go to the server. */
TEST_F_TIMEOUT(inode_file, plain_open_asks, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	int fd;

	ASSERT_EQ(0, inode_detach(s, "f"));
	s->attach_in = 0;
	fd = fs_open(s, OPEN_CACHED, "f", O_RDWR);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, inode_attach(s, "f", OPS & ~OP(OPEN)));
	EXPECT_EQ(0, fallocate(fd, 0, 0, 2 * LEN));
	EXPECT_EQ(1, fuse_server_count(s, FUSE_FALLOCATE));
	EXPECT_EQ(2 * LEN, size_of(fd));
	EXPECT_EQ(0, lseek(fd, 0, SEEK_DATA));
	EXPECT_EQ(1, fuse_server_count(s, FUSE_LSEEK));
	EXPECT_EQ(0, fsync(fd));
	EXPECT_EQ(1, fuse_server_count(s, FUSE_FSYNC));
	close(fd);
}

/* Is this call, which returned @ret, ENOTCONN? */
static bool lost(int ret)
{
	return ret < 0 && errno == ENOTCONN;
}

/*
 * After an abort an open file can still be read, written, mapped and synced to
 * disk.  The inode is detached: other calls of the open, and new opens, fail.
 */
TEST_F_TIMEOUT(inode_file, not_connected, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	int busy = open(s->mnt, O_PATH | O_CLOEXEC);
	long long before;
	struct stat st;
	char *map;

	ASSERT_EQ(0, fsync(self->lower));
	fuse_server_die(s);
	EXPECT_EQ(0, inodes_attached(s));
	pattern(self->buf, LEN, 0, 6);
	EXPECT_EQ(LEN, pwrite(self->fd, self->buf, LEN, 0));
	memset(self->buf, 0, LEN);
	EXPECT_EQ(LEN, pread(self->fd, self->buf, LEN, 0));
	EXPECT_EQ(-1, pattern_differs(self->buf, LEN, 0, 6));
	before = sectors_written(s);
	EXPECT_EQ(0, fsync(self->fd));
	if (before >= 0)
		EXPECT_LE(LEN / 512, sectors_written(s) - before);
	map = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, self->fd, 0);
	ASSERT_NE(MAP_FAILED, map);
	pattern(map, PAGE, 0, 7);
	EXPECT_EQ(-1, lower_differs(s, "f", 0, PAGE, 7));
	EXPECT_EQ(-1, lower_differs(s, "f", PAGE, LEN - PAGE, 6));
	munmap(map, PAGE);

	EXPECT_TRUE(lost(fallocate(self->fd, 0, 0, 2 * LEN)));
	EXPECT_TRUE(lost(lseek(self->fd, 0, SEEK_DATA)));
	EXPECT_TRUE(lost(lseek(self->fd, 0, SEEK_END)));
	EXPECT_TRUE(lost(fstat(self->fd, &st)));
	EXPECT_TRUE(lost(open_f(s, O_RDONLY)));
	EXPECT_EQ(LEN, size_of(self->lower));
	close(busy);
}

/* Opens of an inode with GETATTR attached, but not LSEEK */
FIXTURE(inode_seek) {
	struct fuse_server s;
	int cached, lower;
	unsigned long asked;	/* GETATTRs before the test */
};

FIXTURE_VARIANTS_WRITEBACK(inode_seek);

FIXTURE_SETUP(inode_seek)
{
	struct fuse_server *s = &self->s;

	s->writeback = variant->writeback;
	ASSERT_EQ(0, serve_tree(s, LEN));
	self->cached = fs_open(s, OPEN_CACHED, "f", O_RDWR);
	ASSERT_LE(0, self->cached);
	self->lower = lower_open(s, "f", O_RDWR);
	self->asked = fuse_server_count(s, FUSE_GETATTR);
}

FIXTURE_TEARDOWN(inode_seek)
{
	EXPECT_EQ(self->asked, fuse_server_count(&self->s, FUSE_GETATTR));
	close(self->cached);
	close(self->lower);
	fuse_server_stop(&self->s);
}

/* Each kind of open; one more by backing id passes through mappings only. */
#define ONLY_MAPS	(OPEN_BY_INODE + 1)

/* The server sees each open but the one by inode. */
static int open_kind(struct fuse_server *s, int kind)
{
	bool by_inode = kind == OPEN_BY_INODE;
	unsigned long n;
	int fd;

	if (inode_detach(s, "f") ||
	    inode_attach(s, "f", OP(GETATTR) | (by_inode ? OP(OPEN) : 0)))
		return -1;
	n = fuse_server_count(s, FUSE_OPEN);
	s->open_flags = kind == ONLY_MAPS ? FOPEN_DIRECT_IO : 0;
	fd = fs_open(s, kind == ONLY_MAPS ? OPEN_BACKING_ID : kind, "f", O_RDWR);
	s->open_flags = 0;
	return fuse_server_count(s, FUSE_OPEN) == n + !by_inode ? fd : -1;
}

/*
 * SEEK_END of each kind of open finds the end after a cached write, and after a
 * write to or truncate of the lower file, without a stat in between.
 */
TEST_F_TIMEOUT(inode_seek, end, IO_TIMEOUT)
{
	static const char buf[PAGE] = "x";
	int kind, fd;

	for (kind = OPEN_CACHED; kind <= ONLY_MAPS; kind++) {
		ASSERT_EQ(0, ftruncate(self->lower, LEN));
		fd = open_kind(&self->s, kind);
		ASSERT_LE(0, fd) TH_LOG("kind %d", kind);
		EXPECT_EQ(LEN, lseek(fd, 0, SEEK_END)) TH_LOG("kind %d", kind);
		ASSERT_EQ(PAGE, pwrite(self->cached, buf, PAGE, LEN));
		EXPECT_EQ(LEN + PAGE - 1, lseek(fd, -1, SEEK_END))
			TH_LOG("kind %d", kind);
		ASSERT_EQ(PAGE, pwrite(self->lower, buf, PAGE, LEN + PAGE));
		EXPECT_EQ(LEN + 2 * PAGE, lseek(fd, 0, SEEK_END))
			TH_LOG("kind %d", kind);
		EXPECT_EQ(LEN + 2 * PAGE, lseek(fd, 0, SEEK_CUR));
		ASSERT_EQ(0, ftruncate(self->lower, 100));
		EXPECT_EQ(100, lseek(fd, 0, SEEK_END)) TH_LOG("kind %d", kind);
		EXPECT_EQ(-1, lseek(fd, -101, SEEK_END));
		EXPECT_EQ(EINVAL, errno);
		close(fd);
	}
}

static bool no_lseek(struct fuse_server *s, const struct fuse_in_header *in)
{
	if (in->opcode != FUSE_LSEEK)
		return false;
	fuse_server_reply(s, in->unique, -ENOSYS, NULL, 0);
	return true;
}

/*
 * If the server has no LSEEK, SEEK_DATA and SEEK_HOLE of each kind of open go by
 * the size that the lower file has at that moment.
 */
TEST_F_TIMEOUT(inode_seek, server_without_lseek, IO_TIMEOUT)
{
	int kind, fd;

	self->s.request = no_lseek;
	for (kind = OPEN_CACHED; kind <= ONLY_MAPS; kind++) {
		ASSERT_EQ(0, ftruncate(self->lower, LEN));
		fd = open_kind(&self->s, kind);
		ASSERT_LE(0, fd) TH_LOG("kind %d", kind);
		EXPECT_EQ(LEN, lseek(fd, 0, SEEK_HOLE)) TH_LOG("kind %d", kind);
		ASSERT_EQ(0, ftruncate(self->lower, 2 * LEN));
		EXPECT_EQ(LEN + 1, lseek(fd, LEN + 1, SEEK_DATA))
			TH_LOG("kind %d", kind);
		EXPECT_EQ(2 * LEN, lseek(fd, 0, SEEK_HOLE)) TH_LOG("kind %d", kind);
		ASSERT_EQ(0, ftruncate(self->lower, 100));
		EXPECT_EQ(100, lseek(fd, 0, SEEK_HOLE)) TH_LOG("kind %d", kind);
		EXPECT_EQ(-1, lseek(fd, 100, SEEK_DATA)) TH_LOG("kind %d", kind);
		EXPECT_EQ(ENXIO, errno);
		close(fd);
	}
	EXPECT_EQ(1, fuse_server_count(&self->s, FUSE_LSEEK));
}

TEST_HARNESS_MAIN
