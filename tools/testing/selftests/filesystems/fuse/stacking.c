// SPDX-License-Identifier: GPL-2.0
/*
 * Stacked file systems: the depth that a lower file may have, FUSE on FUSE,
 * overlayfs below and above.
 */
#define _GNU_SOURCE
#include <sys/mount.h>

#include "inode_test.h"
#include "../../kselftest_harness.h"

#define LEN	10000

/* A plain file system, an overlay on it, and an overlay on that */
enum { DEPTHS = 3 };

FIXTURE(stacking) {
	struct fuse_server s;
	char dir[64];
	char path[DEPTHS][160];		/* of a file at each depth */
	bool no_overlay;
};

FIXTURE_VARIANT(stacking) {
	uint32_t depth;			/* max_stack_depth of the server */
	enum fuse_server_open how;
	int refused;			/* errno of a refused open */
};

FIXTURE_VARIANT_ADD(stacking, request_0) {
	.depth = 0, .how = OPEN_PASSTHROUGH, .refused = EINVAL,
};

FIXTURE_VARIANT_ADD(stacking, request_1) {
	.depth = 1, .how = OPEN_PASSTHROUGH, .refused = EINVAL,
};

FIXTURE_VARIANT_ADD(stacking, request_2) {
	.depth = 2, .how = OPEN_PASSTHROUGH, .refused = EINVAL,
};

FIXTURE_VARIANT_ADD(stacking, id_1) {
	.depth = 1, .how = OPEN_BACKING_ID, .refused = ELOOP,
};

FIXTURE_VARIANT_ADD(stacking, id_2) {
	.depth = 2, .how = OPEN_BACKING_ID, .refused = ELOOP,
};

static void init_depth(struct fuse_server *s, struct fuse_init_out *out)
{
	const FIXTURE_VARIANT(stacking) *variant = s->arg;

	out->max_stack_depth = variant->depth;
}

static bool make_file(const char *path, unsigned int seed)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	char buf[LEN];
	bool ok;

	pattern(buf, LEN, 0, seed);
	ok = pwrite(fd, buf, LEN, 0) == LEN;
	close(fd);
	return ok;
}

static bool file_is(const char *path, unsigned int seed)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char buf[LEN];
	bool ok;

	ok = pread(fd, buf, LEN, 0) == LEN &&
		pattern_differs(buf, LEN, 0, seed) == -1;
	close(fd);
	return ok;
}

static void sub(char *path, size_t len, const char *dir, const char *name)
{
	snprintf(path, len, "%s/%s", dir, name);
}

/* An overlay of @lower at @dir/@name, with the other directories beside it. */
static int overlay(const char *dir, const char *name, const char *lower,
		   char *at, size_t len)
{
	char opts[512], upper[128], work[128];

	snprintf(upper, sizeof(upper), "%s/%s.upper", dir, name);
	snprintf(work, sizeof(work), "%s/%s.work", dir, name);
	snprintf(opts, sizeof(opts), "lowerdir=%s,upperdir=%s,workdir=%s", lower,
		 upper, work);
	sub(at, len, dir, name);
	mkdir(at, 0755);
	mkdir(upper, 0755);
	mkdir(work, 0755);
	return mount("overlay", at, "overlay", 0, opts) ? errno : 0;
}

FIXTURE_SETUP(stacking)
{
	char lower[128], at[128];
	struct stat st;
	int err;

	self->s.init = init_depth;
	self->s.arg = (void *)variant;
	ASSERT_EQ(0, fuse_server_start(&self->s));
	ASSERT_EQ(0, lower_make(&self->s, "f", LEN, 1));
	ASSERT_EQ(0, stat(self->s.mnt, &st));
	ASSERT_TRUE(self->s.init_flags & FUSE_PASSTHROUGH);

	strcpy(self->dir, "/tmp/stack.XXXXXX");
	ASSERT_NE(NULL, mkdtemp(self->dir));
	ASSERT_EQ(0, mount("stack", self->dir, "tmpfs", 0, NULL));
	sub(lower, sizeof(lower), self->dir, "base");
	ASSERT_EQ(0, mkdir(lower, 0755));
	sub(self->path[0], sizeof(self->path[0]), lower, "f");
	ASSERT_TRUE(make_file(self->path[0], 2));

	err = overlay(self->dir, "one", lower, at, sizeof(at));
	self->no_overlay = err == ENODEV;
	if (self->no_overlay)
		return;
	ASSERT_EQ(0, err);
	sub(self->path[1], sizeof(self->path[1]), at, "f");
	strcpy(lower, at);
	ASSERT_EQ(0, overlay(self->dir, "two", lower, at, sizeof(at)));
	sub(self->path[2], sizeof(self->path[2]), at, "f");
}

FIXTURE_TEARDOWN(stacking)
{
	fuse_server_stop(&self->s);
	umount2(self->dir, MNT_DETACH);
	rmdir(self->dir);
}

/* The same limit holds for lower files of inodes; a refused one leaves the server asked. */
TEST_F_TIMEOUT(stacking, depth_by_inode, IO_TIMEOUT)
{
	unsigned int max = variant->depth ?: 1;
	struct fuse_server *s = &self->s;
	unsigned int i;
	int err;

	if (self->no_overlay)
		SKIP(return, "overlayfs");
	/* The limit does not depend on how opens are attached. */
	if (variant->how != OPEN_PASSTHROUGH)
		return;
	ASSERT_EQ(0, lookup(s, "f"));
	for (i = 0; i < DEPTHS; i++) {
		err = inode_attach_path(s, "f", self->path[i], OP(GETATTR));
		EXPECT_EQ(i < max ? 0 : EINVAL, err) TH_LOG("depth %u", i);
		EXPECT_EQ(i < max, inodes_attached(s)) TH_LOG("depth %u", i);
		EXPECT_EQ(i >= max, stat_costs(s, "f", FUSE_GETATTR));
		inode_detach(s, "f");
	}
}

/*
 * A lower file is accepted if its file system is less deep than max_stack_depth
 * of the server, where 0 means 1, and its data then pass through.  Other lower
 * files are refused, and the open can be answered without.
 */
TEST_F_TIMEOUT(stacking, depth, IO_TIMEOUT)
{
	unsigned int max = variant->depth ?: 1;
	unsigned long io;
	unsigned int i;
	char buf[LEN];
	int fd;

	if (self->no_overlay)
		SKIP(return, "overlayfs");
	/* Begin with the topmost file: a write to it copies up nothing below. */
	for (i = DEPTHS; i-- > 0; ) {
		self->s.open_lower = self->path[i];
		io = server_io(&self->s);
		fd = fs_open(&self->s, variant->how, "f", O_RDWR);
		if (i >= max) {
			EXPECT_EQ(-1, fd);
			EXPECT_EQ(variant->refused, errno) TH_LOG("depth %u", i);
			fd = fs_open(&self->s, OPEN_CACHED, "f", O_RDWR);
			ASSERT_LE(0, fd);
			EXPECT_EQ(1, pread(fd, buf, 1, 0));
			EXPECT_LT(io, server_io(&self->s));
			close(fd);
			continue;
		}
		ASSERT_LE(0, fd) TH_LOG("depth %u: %d", i, errno);
		EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 2, true));
		pattern(buf, LEN, 0, 3 + i);
		EXPECT_EQ(LEN, pwrite(fd, buf, LEN, 0));
		EXPECT_TRUE(file_is(self->path[i], 3 + i));
		EXPECT_EQ(io, server_io(&self->s));
		close(fd);
	}
}

/*
 * A lower file on overlayfs may be copied up while it is open: its readers then
 * see new data, as without passthrough.
 */
TEST_F_TIMEOUT(stacking, copied_up, IO_TIMEOUT)
{
	bool pass = variant->depth > 1;
	enum fuse_server_open how = pass ? variant->how : OPEN_DIRECT;
	char buf[LEN];
	int rd, wr;

	if (self->no_overlay)
		SKIP(return, "overlayfs");
	self->s.open_lower = self->path[1];
	rd = fs_open(&self->s, how, "f", O_RDONLY);
	ASSERT_LE(0, rd);
	EXPECT_TRUE(reads_pattern(&self->s, rd, LEN, 2, pass));
	wr = fs_open(&self->s, how, "f", O_RDWR);
	ASSERT_LE(0, wr);
	pattern(buf, LEN, 0, 5);
	EXPECT_EQ(LEN, pwrite(wr, buf, LEN, 0));
	EXPECT_TRUE(reads_pattern(&self->s, wr, LEN, 5, pass));
	EXPECT_TRUE(reads_pattern(&self->s, rd, LEN, 5, pass));
	EXPECT_TRUE(file_is(self->path[0], 2));
	EXPECT_EQ(pass, !server_io(&self->s));
	close(wr);
	close(rd);
}

/*
 * A file on FUSE, even of another server, cannot be a lower file, whatever the
 * depth.
 */
TEST_F_TIMEOUT(stacking, lower_on_fuse, IO_TIMEOUT)
{
	struct fuse_server s2 = { .init = init_depth, .arg = (void *)variant };
	struct stat st;
	char path[128];
	int fd;

	self->s.open_lower = self->path[0];
	strcpy(path, fuse_path(&self->s, "f"));
	ASSERT_EQ(0, fuse_server_start(&s2));
	ASSERT_EQ(0, lower_make(&s2, "f", LEN, 7));
	ASSERT_EQ(0, stat(s2.mnt, &st));

	s2.open_lower = path;
	fd = fs_open(&s2, variant->how, "f", O_RDWR);
	EXPECT_EQ(-1, fd);
	EXPECT_EQ(variant->refused, errno);
	/* A plain server can use a passthrough mount of another server. */
	fd = fs_open(&s2, OPEN_DIRECT, "f", O_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_TRUE(reads_pattern(&s2, fd, LEN, 2, false));
	EXPECT_EQ(0, server_io(&self->s));
	close(fd);
	fuse_server_stop(&s2);
}

/*
 * An overlay works on a FUSE mount of depth 1; its reads, mappings and copy-ups
 * pass through.  On a mount of depth 2 overlayfs refuses to mount.
 */
TEST_F_TIMEOUT(stacking, overlay_on_top, IO_TIMEOUT)
{
	char at[128], path[160], buf[LEN];
	char *map;
	int fd, err;

	if (self->no_overlay)
		SKIP(return, "overlayfs");
	self->s.how = variant->how;
	self->s.open_lower = self->path[0];
	err = overlay(self->dir, "top", self->s.mnt, at, sizeof(at));
	if (variant->depth > 1) {
		EXPECT_EQ(EINVAL, err);
		return;
	}
	ASSERT_EQ(0, err);
	sub(path, sizeof(path), at, "f");

	fd = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	EXPECT_EQ(LEN, pread(fd, buf, LEN, 0));
	EXPECT_EQ(-1, pattern_differs(buf, LEN, 0, 2));
	map = mmap(NULL, LEN, PROT_READ, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(-1, pattern_differs(map, LEN, 0, 2));
	munmap(map, LEN);
	close(fd);
	EXPECT_LT(0, fuse_server_count(&self->s, FUSE_OPEN));
	EXPECT_EQ(0, self->s.open_error);

	/* A write copies the file up; the lower file stays. */
	fd = open(path, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fd);
	EXPECT_EQ(LEN, pread(fd, buf, LEN, 0));
	EXPECT_EQ(-1, pattern_differs(buf, LEN, 0, 2));
	pattern(buf, LEN, 0, 6);
	EXPECT_EQ(LEN, pwrite(fd, buf, LEN, 0));
	close(fd);
	EXPECT_TRUE(file_is(path, 6));
	EXPECT_TRUE(file_is(self->path[0], 2));
	EXPECT_EQ(0, self->s.open_error);
	EXPECT_EQ(0, server_io(&self->s));
	ASSERT_EQ(0, umount(at));
}

/* The lower file is on an overlay, whose own lower files are on another server. */
FIXTURE(flush) {
	struct fuse_server s, below;
	char dir[64];
	int fd;
	int error;		/* answer to FLUSH */
};

static void init_flush(struct fuse_server *s, struct fuse_init_out *out)
{
	/* With FUSE_PASSTHROUGH the mount would add to the stack depth. */
	out->flags2 &= ~(FUSE_PASSTHROUGH >> 32);
}

static bool answer_flush(struct fuse_server *s, const struct fuse_in_header *in)
{
	FIXTURE_DATA(flush) *self = s->arg;

	if (in->opcode != FUSE_FLUSH)
		return false;
	fuse_server_reply(s, in->unique, -self->error, NULL, 0);
	return true;
}

FIXTURE_SETUP(flush)
{
	char at[128], path[160];
	int err;

	self->fd = -1;
	self->below.init = init_flush;
	self->below.request = answer_flush;
	self->below.arg = self;
	ASSERT_EQ(0, fuse_server_start(&self->below));
	self->below.how = OPEN_CACHED;
	ASSERT_EQ(0, lower_make(&self->below, "f", LEN, 1));
	self->s.permissions = true;
	ASSERT_EQ(0, fuse_server_start(&self->s));
	ASSERT_EQ(0, lower_make(&self->s, "f", LEN, 2));

	strcpy(self->dir, "/tmp/stack.XXXXXX");
	ASSERT_NE(NULL, mkdtemp(self->dir));
	ASSERT_EQ(0, mount("stack", self->dir, "tmpfs", 0, NULL));
	err = overlay(self->dir, "one", self->below.mnt, at, sizeof(at));
	if (err == ENODEV)
		SKIP(return, "no overlayfs");
	ASSERT_EQ(0, err);
	sub(path, sizeof(path), at, "f");
	ASSERT_EQ(0, lookup(&self->s, "f"));
	ASSERT_EQ(0, inode_attach_path(&self->s, "f", path, OP(GETATTR) | OP(OPEN)));
	self->fd = open_f(&self->s, O_RDONLY);
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(flush)
{
	inode_detach_all(&self->s);
	fuse_server_stop(&self->s);
	umount2(self->dir, MNT_DETACH);
	rmdir(self->dir);
	fuse_server_stop(&self->below);
}

/*
 * Each close of an open by inode flushes the lower file if its file system has
 * ->flush, and returns the error.  The server gets no request.
 */
TEST_F_TIMEOUT(flush, by_inode, IO_TIMEOUT)
{
	unsigned long requests = fuse_server_requests(&self->s);
	char buf[LEN];
	int fd;

	ASSERT_EQ(LEN, pread(self->fd, buf, LEN, 0));
	EXPECT_EQ(-1, pattern_differs(buf, LEN, 0, 1));
	fd = dup(self->fd);
	EXPECT_EQ(0, fuse_server_count(&self->below, FUSE_FLUSH));
	EXPECT_EQ(0, close(fd));
	EXPECT_EQ(1, fuse_server_count(&self->below, FUSE_FLUSH));
	self->error = EDQUOT;
	EXPECT_EQ(-1, close(self->fd));
	EXPECT_EQ(EDQUOT, errno);
	EXPECT_EQ(2, fuse_server_count(&self->below, FUSE_FLUSH));
	EXPECT_EQ(requests, fuse_server_requests(&self->s));
}

TEST_HARNESS_MAIN
