// SPDX-License-Identifier: GPL-2.0
/*
 * Attributes of an inode with GETATTR attached: each stat returns those of the
 * lower file, without a request.
 */
#define _GNU_SOURCE
#include <string.h>

#include "attr_test.h"
#include "inode_test.h"
#include "../../kselftest_harness.h"

#define LEN	(4 * PAGE)

FIXTURE(inode_attr) {
	struct fuse_server s;
	char *buf;
	unsigned long asked;	/* GETATTRs that the test expects */
};

FIXTURE_VARIANTS_WRITEBACK(inode_attr);

FIXTURE_SETUP(inode_attr)
{
	struct fuse_server *s = &self->s;

	s->writeback = variant->writeback;
	ASSERT_EQ(0, serve_tree(s, LEN));
	self->buf = pages(2 * LEN);
	ASSERT_NE(NULL, self->buf);
	self->asked = fuse_server_count(s, FUSE_GETATTR);
}

FIXTURE_TEARDOWN(inode_attr)
{
	EXPECT_EQ(self->asked, fuse_server_count(&self->s, FUSE_GETATTR));
	fuse_server_stop(&self->s);
}

static bool same_stat(const struct stat *a, const struct stat *b)
{
	return a->st_mode == b->st_mode && a->st_nlink == b->st_nlink &&
		a->st_uid == b->st_uid && a->st_gid == b->st_gid &&
		a->st_size == b->st_size && a->st_blocks == b->st_blocks &&
		same_time(a->st_mtim, b->st_mtim) && same_time(a->st_atim, b->st_atim) &&
		same_time(a->st_ctim, b->st_ctim);
}

/* Every kind of stat returns the lower file's attributes, except st_ino and st_dev. */
static bool stat_is_lower(struct fuse_server *s, const char *name)
{
	static const int flags[] = {
		0, AT_STATX_FORCE_SYNC, AT_STATX_DONT_SYNC,
	};
	struct stat mnt, st, low;
	struct statx stx;
	unsigned int i;
	bool ok;

	ok = !stat(s->mnt, &mnt) && !lstat(fuse_path(s, name), &st) &&
		!fstatat(s->dirfd, name, &low, AT_SYMLINK_NOFOLLOW) &&
		same_stat(&st, &low) && st.st_dev == mnt.st_dev &&
		st.st_dev != low.st_dev &&
		st.st_ino == fuse_server_nodeid(s, name);
	for (i = 0; i < ARRAY_SIZE(flags); i++)
		ok = ok && !statx(AT_FDCWD, fuse_path(s, name),
				  AT_SYMLINK_NOFOLLOW | flags[i], STATX_BASIC_STATS,
				  &stx) &&
			stx.stx_mode == low.st_mode && stx.stx_uid == low.st_uid &&
			stx.stx_gid == low.st_gid &&
			(off_t)stx.stx_size == low.st_size &&
			stx.stx_nlink == low.st_nlink &&
			stx.stx_mtime.tv_sec == low.st_mtim.tv_sec &&
			stx.stx_mtime.tv_nsec == (unsigned int)low.st_mtim.tv_nsec &&
			stx.stx_ino == st.st_ino;
	return ok;
}

/*
 * Files, directories and symlinks have the attributes of the lower file without
 * a request.  Inode and device number remain those of FUSE.
 */
TEST_F_TIMEOUT(inode_attr, each_type, IO_TIMEOUT)
{
	static const char *names[] = { "f", "d", "d/g", "l", "." };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		make_old(&self->s, names[i]);
		EXPECT_TRUE(stat_is_lower(&self->s, names[i])) TH_LOG("%s", names[i]);
	}
}

/* The next stat shows each change of the lower file. */
TEST_F_TIMEOUT(inode_attr, changed_below, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	int dirfd = s->dirfd, low;

	ASSERT_TRUE(stat_is_lower(s, "f"));
	ASSERT_EQ(0, fchmodat(dirfd, "f", 04751, 0));
	EXPECT_TRUE(stat_is_lower(s, "f"));
	ASSERT_EQ(0, fchownat(dirfd, "f", USER, GROUP, 0));
	EXPECT_TRUE(stat_is_lower(s, "f"));
	make_old(s, "f");
	EXPECT_TRUE(stat_is_lower(s, "f"));
	ASSERT_EQ(0, linkat(dirfd, "f", dirfd, "second", 0));
	EXPECT_TRUE(stat_is_lower(s, "f"));
	ASSERT_EQ(0, truncate(lower_path(s, "f"), 5));
	EXPECT_TRUE(stat_is_lower(s, "f"));
	ASSERT_EQ(0, truncate(lower_path(s, "f"), 1 << 20));
	EXPECT_TRUE(stat_is_lower(s, "f"));
	low = lower_open(s, "f", O_RDWR | O_APPEND);
	ASSERT_EQ(100, write(low, self->buf, 100));
	EXPECT_TRUE(stat_is_lower(s, "f"));
	close(low);

	ASSERT_EQ(0, mkdirat(dirfd, "d/sub", 0700));
	EXPECT_TRUE(stat_is_lower(s, "d"));
	ASSERT_EQ(0, fchmodat(dirfd, "d", 01777, 0));
	EXPECT_TRUE(stat_is_lower(s, "d"));
	ASSERT_EQ(0, fchownat(dirfd, "l", USER, GROUP, AT_SYMLINK_NOFOLLOW));
	EXPECT_TRUE(stat_is_lower(s, "l"));
}

/* The next fstat shows a write through the mount, by any kind of open. */
TEST_F_TIMEOUT(inode_attr, written_through, IO_TIMEOUT)
{
	enum fuse_server_open how;
	struct stat st, low;
	int fd;

	for (how = OPEN_CACHED; how <= OPEN_BACKING_ID; how++) {
		fd = fs_open(&self->s, how, "f", O_RDWR | O_APPEND);
		ASSERT_LE(0, fd);
		make_old(&self->s, "f");
		ASSERT_EQ(10, write(fd, self->buf, 10));
		ASSERT_EQ(0, fstat(fd, &st));
		ASSERT_EQ(0, fstatat(self->s.dirfd, "f", &low, 0));
		EXPECT_TRUE(same_stat(&st, &low)) TH_LOG("how %d", how);
		EXPECT_EQ(LEN + 10 * (how + 1), st.st_size) TH_LOG("how %d", how);
		EXPECT_LT(2000, st.st_mtim.tv_sec) TH_LOG("how %d", how);
		EXPECT_EQ(st.st_size, lseek(fd, 0, SEEK_END));
		close(fd);
	}
}

/* The next fstat shows a store to a mapping too, before writeback. */
TEST_F_TIMEOUT(inode_attr, mapped_stores, IO_TIMEOUT)
{
	enum fuse_server_open how;
	struct stat st, low;
	char *p;
	int fd;

	for (how = OPEN_CACHED; how <= OPEN_BACKING_ID; how++) {
		if (how == OPEN_DIRECT)
			continue;
		fd = fs_open(&self->s, how, "f", O_RDWR);
		ASSERT_LE(0, fd);
		p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		ASSERT_NE(MAP_FAILED, p);
		make_old(&self->s, "f");
		ASSERT_EQ(0, fstat(fd, &st));
		EXPECT_EQ(2000, st.st_mtim.tv_sec);
		p[0] = 'a' + how;
		ASSERT_EQ(0, fstat(fd, &st));
		ASSERT_EQ(0, fstatat(self->s.dirfd, "f", &low, 0));
		EXPECT_TRUE(same_stat(&st, &low)) TH_LOG("how %d", how);
		EXPECT_LT(2000, st.st_mtim.tv_sec) TH_LOG("how %d", how);
		munmap(p, LEN);
		close(fd);
	}
}

/*
 * Dirty pages in FUSE's page cache are written back before the stat reads the
 * attributes of the lower file.
 */
TEST_F_TIMEOUT(inode_attr, dirty_pages, IO_TIMEOUT)
{
	int fd = fs_open(&self->s, OPEN_CACHED, "f", O_RDWR);
	unsigned long writes;
	struct stat st;
	char *p;

	ASSERT_LE(0, fd);
	p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, p);
	pattern(p, LEN, 0, 5);
	writes = fuse_server_count(&self->s, FUSE_WRITE);
	ASSERT_EQ(0, stat(fuse_path(&self->s, "f"), &st));
	EXPECT_LT(writes, fuse_server_count(&self->s, FUSE_WRITE));
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, LEN, 5));
	munmap(p, LEN);

	pattern(self->buf, LEN, LEN, 5);
	ASSERT_EQ(LEN, pwrite(fd, self->buf, LEN, LEN));
	ASSERT_EQ(0, stat(fuse_path(&self->s, "f"), &st));
	EXPECT_EQ(2 * LEN, st.st_size);
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, 2 * LEN, 5));
	EXPECT_TRUE(stat_is_lower(&self->s, "f"));
	close(fd);
}

/* Reads, lseek and mappings use the size that a stat has returned. */
TEST_F_TIMEOUT(inode_attr, size_moves, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	int fd = fs_open(s, OPEN_CACHED, "f", O_RDWR);
	char *path = strdup(lower_path(s, "f"));
	int low = lower_open(s, "f", O_RDWR);

	ASSERT_LE(0, fd);
	/* Cache the whole file. */
	ASSERT_EQ(LEN, pread(fd, self->buf, 2 * LEN, 0));

	ASSERT_EQ(0, truncate(path, 100));
	ASSERT_EQ(100, size_of(fd));
	EXPECT_EQ(100, lseek(fd, 0, SEEK_END));
	EXPECT_EQ(100, pread(fd, self->buf, LEN, 0));
	EXPECT_EQ(0, pread(fd, self->buf, LEN, PAGE));

	/* Truncated data does not reappear. */
	ASSERT_EQ(0, truncate(path, LEN));
	ASSERT_EQ(LEN, size_of(fd));
	ASSERT_EQ(LEN, pread(fd, self->buf, 2 * LEN, 0));
	EXPECT_EQ(-1, pattern_differs(self->buf, 100, 0, 1));
	EXPECT_TRUE(all_zero(self->buf + 100, LEN - 100));

	pattern(self->buf, LEN, LEN, 1);
	ASSERT_EQ(LEN, pwrite(low, self->buf, LEN, LEN));
	ASSERT_EQ(2 * LEN, size_of(fd));
	ASSERT_EQ(LEN, pread(fd, self->buf, LEN, LEN));
	EXPECT_EQ(-1, pattern_differs(self->buf, LEN, LEN, 1));
	EXPECT_EQ(2 * LEN, lseek(fd, 0, SEEK_END));
	close(low);
	close(fd);
	free(path);
}

/* Cached appends and appends to the lower file, with a stat after each, lose no data. */
TEST_F_TIMEOUT(inode_attr, appends, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	int fd = fs_open(s, OPEN_CACHED, "f", O_RDWR | O_APPEND);
	int low = lower_open(s, "f", O_RDWR | O_APPEND);
	off_t off;

	ASSERT_LE(0, fd);
	for (off = LEN; off < LEN + 600; off += 200) {
		pattern(self->buf, 200, off, 1);
		ASSERT_EQ(100, write(fd, self->buf, 100));
		EXPECT_EQ(off + 100, size_of(fd));
		ASSERT_EQ(100, write(low, self->buf + 100, 100));
		EXPECT_EQ(off + 200, size_of(fd));
	}
	ASSERT_EQ(0, fsync(fd));
	close(fd);
	EXPECT_EQ(LEN + 600, size_of(low));
	EXPECT_EQ(-1, lower_differs(s, "f", 0, LEN + 600, 1));
	close(low);
}

/* Put wrong attributes into every answer that has attributes. */
static bool lie(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct fuse_attr a = {
		.ino = in->nodeid, .size = 5, .mode = S_IFREG | 0777, .nlink = 7,
		.uid = USER, .gid = GROUP, .mtime = 7, .ctime = 8, .blksize = 512,
	};
	struct fuse_entry_out e = {
		.nodeid = fuse_server_nodeid(s, "f"), .attr_valid = 3600, .attr = a,
	};
	struct fuse_attr_out o = { .attr_valid = 3600, .attr = a };

	if (in->opcode == FUSE_LOOKUP && !strcmp((const char *)(in + 1), "f")) {
		e.attr.ino = e.nodeid;
		return fuse_server_reply(s, in->unique, 0, &e, sizeof(e)), true;
	}
	if (in->opcode == FUSE_SETATTR || in->opcode == FUSE_GETATTR)
		return fuse_server_reply(s, in->unique, 0, &o, sizeof(o)), true;
	return false;
}

/* Attributes in later answers, of LOOKUP and SETATTR, change nothing. */
TEST_F_TIMEOUT(inode_attr, answers_ignored, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	int fd = fs_open(s, OPEN_CACHED, "f", O_RDWR);
	unsigned long lookups;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, fchmodat(s->dirfd, "f", 0600, 0));
	ASSERT_EQ(0, forget_dentry(s, "f"));
	lookups = fuse_server_count(s, FUSE_LOOKUP);
	s->request = lie;
	/* access() comes first: a stat would correct the attributes. */
	ASSERT_EQ(0, access(fuse_path(s, "f"), F_OK));
	EXPECT_LT(lookups, fuse_server_count(s, FUSE_LOOKUP));
	EXPECT_EQ(LEN, lseek(fd, 0, SEEK_END));
	EXPECT_EQ(LEN, pread(fd, self->buf, 2 * LEN, 0));
	EXPECT_TRUE(stat_is_lower(s, "f"));
	EXPECT_EQ(LEN, lseek(fd, 0, SEEK_END));
	EXPECT_EQ(LEN, pread(fd, self->buf, 2 * LEN, 0));
	EXPECT_EQ(EACCES, open_by(s, "f", USER, USER, O_RDONLY));

	/* The server does not execute the SETATTR, but answers with success. */
	EXPECT_EQ(0, fchmod(fd, 0644));
	EXPECT_EQ(LEN, lseek(fd, 0, SEEK_END));
	EXPECT_EQ(LEN, pread(fd, self->buf, 2 * LEN, 0));
	EXPECT_TRUE(stat_is_lower(s, "f"));
	EXPECT_EQ(LEN, pread(fd, self->buf, 2 * LEN, 0));
	EXPECT_EQ(EACCES, open_by(s, "f", USER, USER, O_RDONLY));
	close(fd);
}

/* A stat of a detached inode sends GETATTR and shows the server's attributes. */
TEST_F_TIMEOUT(inode_attr, detached, IO_TIMEOUT)
{
	struct stat st;

	ASSERT_TRUE(stat_is_lower(&self->s, "f"));
	ASSERT_EQ(0, fchmodat(self->s.dirfd, "f", 0600, 0));
	ASSERT_EQ(0, inode_detach(&self->s, "f"));
	ASSERT_EQ(0, stat(fuse_path(&self->s, "f"), &st));
	EXPECT_EQ(0600, st.st_mode & 07777);
	EXPECT_EQ(LEN, st.st_size);
	EXPECT_EQ(self->asked + 1, fuse_server_count(&self->s, FUSE_GETATTR));
	/* The answer has attached the lower file again. */
	EXPECT_EQ(5, inodes_attached(&self->s));
	EXPECT_TRUE(stat_is_lower(&self->s, "f"));
	self->asked++;
}

/*
 * A stat that finds no link left detaches the inode, even if the inode is open,
 * by O_PATH too, or is a working directory.  Later stats send GETATTR.
 */
TEST_F_TIMEOUT(inode_attr, no_link, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	int fd = fs_open(s, OPEN_CACHED, "f", O_RDWR);
	int opath = open(fuse_path(s, "f"), O_PATH | O_CLOEXEC);
	struct stat st;

	ASSERT_LE(0, fd);
	ASSERT_LE(0, opath);
	ASSERT_EQ(0, linkat(s->dirfd, "f", s->dirfd, "second", 0));
	ASSERT_EQ(0, unlinkat(s->dirfd, "f", 0));
	ASSERT_EQ(0, fstat(fd, &st));
	EXPECT_EQ(5, inodes_attached(s));
	EXPECT_EQ(1, st.st_nlink);
	ASSERT_EQ(0, unlinkat(s->dirfd, "second", 0));
	ASSERT_EQ(0, fstat(fd, &st));
	EXPECT_EQ(0, st.st_nlink);
	EXPECT_EQ(4, inodes_attached(s));
	fuse_server_node(s, "f")->ops = 0;
	fstat(fd, &st);
	EXPECT_EQ(++self->asked, fuse_server_count(s, FUSE_GETATTR));
	close(opath);
	close(fd);

	ASSERT_EQ(0, unlinkat(s->dirfd, "d/g", 0));
	ASSERT_EQ(0, chdir(fuse_path(s, "d")));
	ASSERT_EQ(0, unlinkat(s->dirfd, "d", AT_REMOVEDIR));
	ASSERT_EQ(0, stat(".", &st));
	EXPECT_EQ(0, st.st_nlink);
	EXPECT_EQ(3, inodes_attached(s));
	fuse_server_node(s, "d")->ops = 0;
	stat(".", &st);
	EXPECT_EQ(++self->asked, fuse_server_count(s, FUSE_GETATTR));
	ASSERT_EQ(0, chdir("/"));
}

/* The blocks of an unlinked lower file are free once a stat has seen that it has no link. */
TEST_F_TIMEOUT(inode_attr, no_link_frees, IO_TIMEOUT)
{
	struct own_fs fs;
	struct stat st;
	int fd;

	ASSERT_TRUE(own_fs_mount(&fs));
	ASSERT_EQ(0, inode_detach(&self->s, "f"));
	fd = open(fs.path, O_PATH | O_CLOEXEC);
	ASSERT_EQ(0, inode_attach_fd(&self->s, "f", fd, OP(GETATTR)));
	close(fd);
	fd = fs_open(&self->s, OPEN_CACHED, "f", O_RDONLY);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, unlink(fs.path));
	EXPECT_TRUE(own_fs_busy(&fs));
	ASSERT_EQ(0, fstat(fd, &st));
	EXPECT_EQ(0, st.st_nlink);
	EXPECT_TRUE(own_fs_free(&fs));
	close(fd);
	own_fs_end(&fs);
}

/*
 * After an abort, and after the close of the last device, stats and permission
 * checks of attached inodes are ENOTCONN.
 */
TEST_F_TIMEOUT(inode_attr, not_connected, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	int busy = open(s->mnt, O_PATH | O_CLOEXEC);
	int fd = fs_open(s, OPEN_PASSTHROUGH, "f", O_RDWR);
	struct statfs fs;
	struct statx stx;
	struct stat st;

	ASSERT_LE(0, fd);
	ASSERT_TRUE(stat_is_lower(s, "f"));
	if (variant->writeback) {
		s->request = die_at_statfs;
		EXPECT_EQ(-1, statfs(s->mnt, &fs));
		wait_for_close();
	} else {
		fuse_server_die(s);
	}
	EXPECT_EQ(0, inodes_attached(s));
	errno = 0;
	EXPECT_EQ(-1, fstat(fd, &st));
	EXPECT_EQ(ENOTCONN, errno);
	errno = 0;
	EXPECT_EQ(-1, stat(fuse_path(s, "f"), &st));
	EXPECT_EQ(ENOTCONN, errno);
	errno = 0;
	EXPECT_EQ(-1, stat(fuse_path(s, "d"), &st));
	EXPECT_EQ(ENOTCONN, errno);
	/* The kernel has no cached attributes to return instead. */
	errno = 0;
	EXPECT_EQ(-1, statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC,
			    STATX_BASIC_STATS, &stx));
	EXPECT_EQ(ENOTCONN, errno);
	EXPECT_EQ(ENOTCONN, access_by(s, "f", USER, R_OK));
	EXPECT_EQ(ENOTCONN, access_by(s, "d/g", USER, R_OK));

	/* I/O on the open file still works. */
	EXPECT_EQ(PAGE, pread(fd, self->buf, PAGE, 0));
	EXPECT_EQ(-1, pattern_differs(self->buf, PAGE, 0, 1));
	close(fd);
	close(busy);
}

static void init_auto_inval(struct fuse_server *s, struct fuse_init_out *out)
{
	out->flags |= FUSE_AUTO_INVAL_DATA;
}

struct cached_write {
	int fd;
	char *buf;
};

static void write_100(void *arg)
{
	struct cached_write *w = arg;

	if (pwrite(w->fd, w->buf, 100, 0) != 100)
		abort();
}

/* A cached write; each test starts its own servers. */
FIXTURE(inode_page) {
	struct cached_write w;
};

FIXTURE_SETUP(inode_page)
{
	self->w.buf = pages(PAGE);
	ASSERT_NE(NULL, self->w.buf);
}

FIXTURE_TEARDOWN(inode_page)
{
}

static void stat_f(void *arg)
{
	struct stat st;

	stat(fuse_path(arg, "f"), &st);
}

/*
 * A stat that finds another mtime or another size does not drop the page of a
 * cached writer whose WRITE is in flight: a page read again would lack the
 * writer's data for good.
 */
TEST_F_TIMEOUT(inode_page, page_of_write, IO_TIMEOUT)
{
	struct blocker writer, b;
	char *map;
	int i;

	for (i = 0; i < 2; i++) {
		/* With this flag, another mtime drops pages. */
		struct fuse_server s = { .init = i ? NULL : init_auto_inval };

		ASSERT_EQ(0, fuse_server_start(&s));
		ASSERT_EQ(0, lower_make(&s, "f", LEN, 1));
		s.new_ops = OP(GETATTR);
		self->w.fd = fs_open(&s, OPEN_CACHED, "f", O_RDWR);
		ASSERT_LE(0, self->w.fd);
		ASSERT_EQ(1, inodes_attached(&s));
		ASSERT_EQ(LEN, size_of(self->w.fd));
		map = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, self->w.fd, 0);
		ASSERT_NE(MAP_FAILED, map);
		EXPECT_EQ(-1, pattern_differs(map, PAGE, 0, 1));
		pattern(self->w.buf, 100, 0, 2);
		fuse_server_hold(&s, pattern_at(99, 2));
		ASSERT_TRUE(blocker_start(&writer, write_100, &self->w));
		fuse_server_wait_held(&s, 1);
		make_old(&s, "f");
		ASSERT_EQ(0, truncate(lower_path(&s, "f"), LEN + i));
		/* The stat may wait for the writer or not. */
		blocker_start(&b, stat_f, &s);
		EXPECT_EQ(-1, pattern_differs(map, 100, 0, 2)) TH_LOG("case %d", i);
		fuse_server_release(&s);
		blocker_join(&writer);
		blocker_join(&b);
		EXPECT_EQ(-1, pattern_differs(map, 100, 0, 2)) TH_LOG("case %d", i);
		EXPECT_EQ(-1, lower_differs(&s, "f", 0, 100, 2));
		munmap(map, PAGE);
		close(self->w.fd);
		fuse_server_stop(&s);
	}
}

TEST_HARNESS_MAIN
