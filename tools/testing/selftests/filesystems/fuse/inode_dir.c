// SPDX-License-Identifier: GPL-2.0
/*
 * OPENDIR, READDIR and FSYNCDIR attached: the kernel opens and lists the lower
 * directory itself, with the permissions of both the client and the server.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <string.h>
#include <sys/xattr.h>

#include "inode_test.h"
#include "../../kselftest_harness.h"

#define LEN	BLOCK
#define FILES	200
#define OPS	(OP(GETATTR) | OP(OPENDIR) | OP(READDIR))

FIXTURE(inode_dir) {
	struct fuse_server s;
};

FIXTURE_SETUP(inode_dir)
{
	struct fuse_server *s = &self->s;
	char name[32];
	int i;

	ASSERT_EQ(0, serve_inodes(s));
	ASSERT_EQ(0, mkdirat(s->dirfd, "d", 0755));
	ASSERT_EQ(0, mkdirat(s->dirfd, "peer", 0755));
	for (i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "d/name %d", i);
		ASSERT_EQ(0, lower_make(s, name, i, 1));
	}
	ASSERT_EQ(0, mkdirat(s->dirfd, "d/sub", 0755));
	ASSERT_EQ(0, symlinkat("x", s->dirfd, "d/link"));
	fuse_server_node(s, "d")->ops = OPS;
	ASSERT_EQ(0, lookup(s, "d"));
	ASSERT_EQ(0, s->inode_error);
	ASSERT_EQ(2, inodes_attached(s));
}

FIXTURE_TEARDOWN(inode_dir)
{
	EXPECT_EQ(0, fuse_server_count(&self->s, FUSE_OPENDIR));
	EXPECT_EQ(0, fuse_server_count(&self->s, FUSE_READDIR));
	EXPECT_EQ(0, fuse_server_count(&self->s, FUSE_RELEASEDIR));
	fuse_server_stop(&self->s);
}

static int open_d(struct fuse_server *s)
{
	return open(fuse_path(s, "d"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* Do both directories list the same entries, in the same order? */
static bool same_entries(DIR *a, DIR *b, unsigned int *nr)
{
	struct dirent *x, *y;

	*nr = 0;
	do {
		x = readdir(a);
		y = readdir(b);
		if (!x || !y)
			return x == y;
		(*nr)++;
	} while (!strcmp(x->d_name, y->d_name) && x->d_ino == y->d_ino &&
		 x->d_type == y->d_type && telldir(a) == telldir(b));
	return false;
}

/*
 * A listing has exactly the entries of the lower directory; open, listing and
 * close send no request.
 */
TEST_F_TIMEOUT(inode_dir, entries, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	unsigned long requests = fuse_server_requests(s);
	DIR *f = opendir(fuse_path(s, "d")), *low = opendir(lower_path(s, "d"));
	unsigned int nr;
	long at;
	int i;

	ASSERT_NE(NULL, f);
	ASSERT_NE(NULL, low);
	EXPECT_TRUE(same_entries(f, low, &nr));
	EXPECT_EQ(FILES + 4, nr);

	/* Repeat it from the beginning and from a position in between. */
	rewinddir(f);
	rewinddir(low);
	EXPECT_TRUE(same_entries(f, low, &nr));
	EXPECT_EQ(FILES + 4, nr);
	rewinddir(f);
	rewinddir(low);
	for (i = 0; i < FILES / 2; i++) {
		ASSERT_NE(NULL, readdir(f));
		ASSERT_NE(NULL, readdir(low));
	}
	at = telldir(f);
	EXPECT_TRUE(same_entries(f, low, &nr));
	seekdir(f, at);
	seekdir(low, at);
	EXPECT_TRUE(same_entries(f, low, &nr));
	EXPECT_EQ(FILES / 2 + 4, nr);
	closedir(f);
	closedir(low);
	EXPECT_EQ(requests, fuse_server_requests(s));
}

/* The next listing shows files created and removed below or through the mount. */
TEST_F_TIMEOUT(inode_dir, changes, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	unsigned int nr;
	DIR *f, *low;
	int i, err;

	for (i = 0; i < 4; i++) {
		f = opendir(fuse_path(s, "d"));
		low = opendir(lower_path(s, "d"));
		EXPECT_TRUE(same_entries(f, low, &nr));
		EXPECT_EQ(FILES + 4 + i % 2, nr);
		closedir(f);
		closedir(low);
		if (i % 2)
			err = unlinkat(s->dirfd, "d/new", 0);
		else if (i)
			err = lower_make(s, "d/new", 1, 1);
		else
			err = mknod(fuse_path(s, "d/new"), S_IFREG | 0644, 0);
		EXPECT_EQ(0, err);
	}
}

/* Returns the result of an open and a listing of a directory: 0 or an errno. */
static int try_list(const char *path)
{
	char buf[1024];
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int err = 0;

	if (fd < 0 || syscall(SYS_getdents64, fd, buf, sizeof(buf)) < 0)
		err = errno;
	close(fd);
	return err;
}

/* For each mode and client a listing ends as on the lower file system. */
TEST_F_TIMEOUT(inode_dir, clients_rights, IO_TIMEOUT)
{
	static const mode_t modes[] = { 0755, 0700, 0711, 0744, 0070, 0007, 0000 };
	struct fuse_server *s = &self->s;
	enum client client;
	unsigned int i;
	int f, peer;

	ASSERT_EQ(0, fchownat(s->dirfd, "d", USER, GROUP, 0));
	ASSERT_EQ(0, fchownat(s->dirfd, "peer", USER, GROUP, 0));
	for (client = 0; client < CLIENTS; client++) {
		for (i = 0; i < ARRAY_SIZE(modes); i++) {
			ASSERT_EQ(0, fchmodat(s->dirfd, "d", modes[i], 0));
			ASSERT_EQ(0, fchmodat(s->dirfd, "peer", modes[i], 0));
			client_become(client);
			peer = try_list(lower_path(s, "peer"));
			f = try_list(fuse_path(s, "d"));
			thread_become_root();
			EXPECT_EQ(peer, f)
				TH_LOG("client %d, mode %o", client, modes[i]);
		}
	}
}

/* Root cannot list a directory through a server that may not read it. */
TEST_F_TIMEOUT(inode_dir, servers_rights, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;

	ASSERT_EQ(0, inode_detach(s, "d"));
	ASSERT_EQ(0, inode_attach_as(s, "d", USER, OPS));
	EXPECT_EQ(0, try_list(fuse_path(s, "d")));
	ASSERT_EQ(0, fchmodat(s->dirfd, "d", 0711, 0));
	EXPECT_EQ(EACCES, try_list(fuse_path(s, "d")));
	ASSERT_EQ(0, fchownat(s->dirfd, "d", USER, USER, 0));
	EXPECT_EQ(0, try_list(fuse_path(s, "d")));
}

static uint64_t fsyncdir_fh;

static bool note_fsyncdir(struct fuse_server *s, const struct fuse_in_header *in)
{
	if (in->opcode == FUSE_FSYNCDIR)
		fsyncdir_fh = ((const struct fuse_fsync_in *)(in + 1))->fh;
	return false;
}

/*
 * FSYNCDIR is attached separately: without it fsync sends FSYNCDIR with handle
 * 0, with it fsync sends no request.
 */
TEST_F_TIMEOUT(inode_dir, fsyncdir, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	int fd = open_d(s);

	ASSERT_LE(0, fd);
	fsyncdir_fh = -1;
	s->request = note_fsyncdir;
	EXPECT_EQ(0, fsync(fd));
	EXPECT_EQ(1, fuse_server_count(s, FUSE_FSYNCDIR));
	EXPECT_EQ(0, fsyncdir_fh);
	close(fd);

	ASSERT_EQ(0, inode_detach(s, "d"));
	ASSERT_EQ(0, inode_attach(s, "d", OPS | OP(FSYNCDIR)));
	fd = open_d(s);
	EXPECT_EQ(0, fsync(fd));
	EXPECT_EQ(0, fdatasync(fd));
	EXPECT_EQ(1, fuse_server_count(s, FUSE_FSYNCDIR));
	close(fd);
}

/* After a detach an open directory pins the lower file system until the directory is closed. */
TEST_F_TIMEOUT(inode_dir, outlives_detach, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	char buf[1024];
	struct own_fs fs;
	int fd;

	ASSERT_TRUE(own_fs_mount(&fs));
	ASSERT_EQ(0, inode_detach(s, "d"));
	ASSERT_EQ(0, inode_attach_path(s, "d", fs.dir, OPS));
	fd = open_d(s);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, inode_detach(s, "d"));
	EXPECT_TRUE(own_fs_busy(&fs));
	EXPECT_LT(0, syscall(SYS_getdents64, fd, buf, sizeof(buf)));
	close(fd);
	EXPECT_TRUE(own_fs_free(&fs));
	own_fs_end(&fs);
}

/* After an abort an open is ENOTCONN. */
TEST_F_TIMEOUT(inode_dir, not_connected, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	int busy = open(s->mnt, O_PATH | O_CLOEXEC);
	int opath = open(fuse_path(s, "d"), O_PATH | O_DIRECTORY | O_CLOEXEC);

	ASSERT_LE(0, opath);
	fuse_server_die(s);
	EXPECT_EQ(-1, openat(opath, ".", O_RDONLY | O_DIRECTORY));
	EXPECT_EQ(ENOTCONN, errno);
	close(opath);
	close(busy);
}

static void init_readdirplus(struct fuse_server *s, struct fuse_init_out *out)
{
	out->flags |= FUSE_DO_READDIRPLUS;
}

/*
 * An attached directory is listed without READDIRPLUS too, which would tell of
 * the names: each of them then costs a LOOKUP.
 */
TEST_F_TIMEOUT(inode_dir, no_readdirplus, IO_TIMEOUT)
{
	struct fuse_server s = { .init = init_readdirplus };
	unsigned long lookups;
	char name[32];
	struct stat st;
	int i;

	ASSERT_EQ(0, serve_inodes(&s));
	ASSERT_TRUE(s.init_flags & FUSE_DO_READDIRPLUS);
	ASSERT_EQ(0, mkdirat(s.dirfd, "d", 0755));
	fuse_server_node(&s, "d")->ops = OPS;
	ASSERT_EQ(0, lookup(&s, "d"));
	for (i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "d/%d", i);
		ASSERT_EQ(0, lower_make(&s, name, i, 1));
	}
	lookups = fuse_server_count(&s, FUSE_LOOKUP);
	EXPECT_EQ(0, try_list(fuse_path(&s, "d")));
	EXPECT_EQ(0, fuse_server_count(&s, FUSE_READDIRPLUS));
	EXPECT_EQ(0, fuse_server_count(&s, FUSE_READDIR));
	EXPECT_EQ(lookups, fuse_server_count(&s, FUSE_LOOKUP));
	for (i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "d/%d", i);
		EXPECT_EQ(0, stat(fuse_path(&s, name), &st));
	}
	EXPECT_EQ(lookups + 20, fuse_server_count(&s, FUSE_LOOKUP));
	fuse_server_stop(&s);
}

/* At a READ, make a file in "d", which waits for the lock of the lower directory. */
static bool make_at_read(struct fuse_server *s, const struct fuse_in_header *in)
{
	if (in->opcode == FUSE_READ)
		lower_make(s, "d/made", 1, 1);
	return false;
}

/*
 * A listing into a mapping of another file of the mount has the server wait for
 * the directory, which the listing holds.  An abort ends both.
 */
TEST_F_TIMEOUT(inode_dir, listing_into_the_mount, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	int dir, file, status;
	char *map;
	pid_t pid;

	ASSERT_EQ(0, lower_make(s, "f", PAGE, 1));
	file = fs_open(s, OPEN_CACHED, "f", O_RDWR);
	dir = open_d(s);
	ASSERT_LE(0, file);
	ASSERT_LE(0, dir);
	map = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	ASSERT_NE(MAP_FAILED, map);
	s->request = make_at_read;
	pid = fork();
	if (!pid)
		_exit(syscall(SYS_getdents64, dir, map, PAGE) >= 0);
	fuse_server_wait(s, FUSE_READ, 1);
	EXPECT_TRUE(falls_asleep(pid));
	fuse_server_die(s);
	EXPECT_EQ(0, child_status(pid));
	EXPECT_EQ(0, faccessat(s->dirfd, "d/made", F_OK, 0));
	munmap(map, PAGE);
	close(dir);
	close(file);
}

TEST_HARNESS_MAIN
