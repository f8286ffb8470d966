// SPDX-License-Identifier: GPL-2.0
/*
 * Lower files by backing id: errors, permissions, lifetime of ids, races, and
 * large numbers of ids.
 */
#define _GNU_SOURCE
#include <limits.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/landlock.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "attach_test.h"
#include "../../kselftest_harness.h"

#define LEN	10000
#define USER	1000

/* How the server answers the next OPEN, CREATE or TMPFILE. */
struct answer {
	int32_t id;
	uint32_t flags;		/* FOPEN_* */
	bool attach;		/* "other" to the request as well */
	int attached;
};

/* A file system that only ids and opens pin, and a file on it */
struct pin {
	char dir[64];
	char file[80];
};

FIXTURE(backing_id) {
	struct fuse_server s;
	struct answer a;
	struct pin p;
};

/* Returns an id or a negative errno. */
static int id_map(int dev, const struct fuse_backing_map *map)
{
	int id = ioctl(dev, FUSE_DEV_IOC_BACKING_OPEN, map);

	return id < 0 ? -errno : id;
}

static int id_open(int dev, int fd)
{
	struct fuse_backing_map map = { .fd = fd };

	return id_map(dev, &map);
}

/* Returns 0 or an errno. */
static int id_close(int dev, uint32_t id)
{
	return ioctl(dev, FUSE_DEV_IOC_BACKING_CLOSE, &id) ? errno : 0;
}

/* Register a file of the served directory; the server keeps no descriptor. */
static int id_of(struct fuse_server *s, const char *name, int flags)
{
	int fd = lower_open(s, name, flags);
	int id = id_open(s->dev, fd);

	close(fd);
	return id;
}

static int id_of_path(struct fuse_server *s, const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);
	int id = id_open(s->dev, fd);

	close(fd);
	return id;
}

static bool by_id(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct answer *a = s->arg;
	struct {
		struct fuse_entry_out e;
		struct fuse_open_out o;
	} out = {
		.e.nodeid = 50,
		.e.attr.ino = 50,
		.e.attr.mode = S_IFREG | 0600,
		.e.attr.nlink = 1,
		.o.open_flags = a->flags,
		.o.backing_id = a->id,
	};
	bool open = in->opcode == FUSE_OPEN;
	int fd;

	if (!open && in->opcode != FUSE_CREATE && in->opcode != FUSE_TMPFILE)
		return false;

	if (a->attach) {
		fd = lower_open(s, "other", O_RDWR);
		a->attached = attach(s->dev, in->unique, fd);
		close(fd);
	}
	/* READ and WRITE requests, if any, go to "f". */
	out.o.fh = lower_open(s, "f", O_RDWR);
	if (open)
		fuse_server_reply(s, in->unique, 0, &out.o, sizeof(out.o));
	else
		fuse_server_reply(s, in->unique, 0, &out, sizeof(out));
	return true;
}

FIXTURE_SETUP(backing_id)
{
	char buf[LEN];
	struct stat st;
	int fd;

	self->a.flags = FOPEN_PASSTHROUGH;
	self->s.arg = &self->a;
	self->s.request = by_id;
	ASSERT_EQ(0, fuse_server_start(&self->s));
	ASSERT_EQ(0, lower_make(&self->s, "f", LEN, 1));
	ASSERT_EQ(0, lower_make(&self->s, "other", LEN, 2));
	ASSERT_EQ(0, stat(self->s.mnt, &st));
	ASSERT_TRUE(self->s.init_flags & FUSE_PASSTHROUGH);

	strcpy(self->p.dir, "/tmp/pin.XXXXXX");
	ASSERT_NE(NULL, mkdtemp(self->p.dir));
	snprintf(self->p.file, sizeof(self->p.file), "%s/pinned", self->p.dir);
	ASSERT_EQ(0, mount("pin", self->p.dir, "tmpfs", 0, NULL));
	fd = open(self->p.file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	pattern(buf, LEN, 0, 3);
	ASSERT_EQ(LEN, write(fd, buf, LEN));
	close(fd);
}

FIXTURE_TEARDOWN(backing_id)
{
	fuse_server_stop(&self->s);
	/* Ids end with the connection. */
	if (self->p.dir[0]) {
		EXPECT_EQ(0, umount(self->p.dir));
		umount2(self->p.dir, MNT_DETACH);
		rmdir(self->p.dir);
	}
}

static int client_open(struct fuse_server *s, int id, int flags)
{
	struct answer *a = s->arg;

	a->id = id;
	return open(fuse_path(s, "f"), flags | O_CLOEXEC);
}

/* A reference to the lower file keeps its file system busy. */
static bool is_pinned(struct pin *p)
{
	return umount(p->dir) && errno == EBUSY;
}

/* Without a reference the file system is unmounted, for good. */
static bool is_free(struct pin *p)
{
	if (umount(p->dir))
		return false;
	rmdir(p->dir);
	p->dir[0] = 0;
	return true;
}

/* Wait until the server thread has served all earlier requests. */
static void settle(struct fuse_server *s)
{
	struct statfs st;

	statfs(s->mnt, &st);
}

struct trial {
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

static const struct trial refused[] = {
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
TEST_F_TIMEOUT(backing_id, refused, IO_TIMEOUT)
{
	unsigned int i;
	int fd;

	for (i = 0; i < ARRAY_SIZE(refused); i++) {
		const struct trial *t = &refused[i];
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
TEST_F_TIMEOUT(backing_id, configfs, IO_TIMEOUT)
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
TEST_F_TIMEOUT(backing_id, lower_on_fuse, IO_TIMEOUT)
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
TEST_F_TIMEOUT(backing_id, close_unknown, IO_TIMEOUT)
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
TEST_F_TIMEOUT(backing_id, bad_pointer, IO_TIMEOUT)
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
 * The kernel reopens the registered file for each client, with the client's
 * flags.  The flags of the server's descriptor, such as O_PATH, do not matter.
 */
TEST_F_TIMEOUT(backing_id, any_access_mode, IO_TIMEOUT)
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
TEST_F_TIMEOUT(backing_id, unknown_id, IO_TIMEOUT)
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
TEST_F_TIMEOUT(backing_id, flags_beside, IO_TIMEOUT)
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
TEST_F_TIMEOUT(backing_id, direct_io_beside, IO_TIMEOUT)
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
TEST_F_TIMEOUT(backing_id, both_forms, IO_TIMEOUT)
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
TEST_F_TIMEOUT(backing_id, shared, IO_TIMEOUT)
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

/* An id pins its lower file until it is closed, and so does each open by it. */
TEST_F_TIMEOUT(backing_id, pins_until_closed, IO_TIMEOUT)
{
	int fd, id = id_of_path(&self->s, self->p.file, O_RDWR);
	int again = id_of_path(&self->s, self->p.file, O_RDWR);
	char *map;

	ASSERT_LT(0, id);
	ASSERT_LT(0, again);
	EXPECT_NE(id, again);
	EXPECT_TRUE(is_pinned(&self->p));
	fd = client_open(&self->s, id, O_RDWR);
	ASSERT_LE(0, fd);
	map = mmap(NULL, LEN, PROT_READ, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(0, id_close(self->s.dev, again));
	EXPECT_EQ(0, id_close(self->s.dev, id));
	EXPECT_TRUE(is_pinned(&self->p));
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 3, true));
	close(fd);
	EXPECT_TRUE(is_pinned(&self->p));
	EXPECT_EQ(-1, pattern_differs(map, LEN, 0, 3));
	munmap(map, LEN);
	EXPECT_TRUE(is_free(&self->p));
}

/*
 * An id that is not closed lives as long as the connection, not only as the
 * process.
 */
TEST_F_TIMEOUT(backing_id, pins_until_the_end, IO_TIMEOUT)
{
	int status;
	pid_t pid = fork();

	if (!pid)
		_exit(id_of_path(&self->s, self->p.file, O_RDWR) < 0);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);
	EXPECT_TRUE(is_pinned(&self->p));
	fuse_server_die(&self->s);
	EXPECT_TRUE(is_free(&self->p));
}

/* After an abort, ids can still be closed, and opens by id still work. */
TEST_F_TIMEOUT(backing_id, aborted, IO_TIMEOUT)
{
	int id = id_of_path(&self->s, self->p.file, O_RDWR);
	int fd = client_open(&self->s, id, O_RDWR);

	ASSERT_LE(0, fd);
	EXPECT_EQ(-1, umount2(self->s.mnt, MNT_FORCE));
	EXPECT_EQ(EBUSY, errno);
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 3, true));
	EXPECT_EQ(0, id_close(self->s.dev, id));
	EXPECT_EQ(ENOENT, id_close(self->s.dev, id));
	EXPECT_TRUE(is_pinned(&self->p));
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 3, true));
	close(fd);
	EXPECT_TRUE(is_free(&self->p));
}

/* An open by id obeys restrictions set on the file or file system after registration. */
TEST_F_TIMEOUT(backing_id, forbidden_meanwhile, IO_TIMEOUT)
{
	int fd, low, id, flags = FS_IMMUTABLE_FL;

	/* Read-only: a writable descriptor would prevent the remount. */
	id = id_of_path(&self->s, self->p.file, O_RDONLY);

	ASSERT_EQ(0, mount(NULL, self->p.dir, NULL, MS_REMOUNT | MS_RDONLY, NULL));
	EXPECT_EQ(-1, client_open(&self->s, id, O_RDWR));
	EXPECT_EQ(EROFS, errno);
	fd = client_open(&self->s, id, O_RDONLY);
	ASSERT_LE(0, fd);
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 3, true));
	close(fd);
	ASSERT_EQ(0, mount(NULL, self->p.dir, NULL, MS_REMOUNT, NULL));
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
TEST_F_TIMEOUT(backing_id, read_only, IO_TIMEOUT)
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
TEST_F_TIMEOUT(backing_id, direct_that_cannot, IO_TIMEOUT)
{
	int low = open(self->p.file, O_RDWR | O_CLOEXEC);
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
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 3, true));
	close(fd);
}

/*
 * Become USER with the capabilities @caps.  Called in a child; cannot be
 * undone.
 */
static void become(uint32_t caps)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2] = {
		{ .effective = caps, .permitted = caps },
	};

	if (prctl(PR_SET_KEEPCAPS, 1) || setresuid(USER, USER, USER) ||
	    syscall(SYS_capset, &h, d))
		_exit(255);
}

/* Returns the result of @call in a child, which is below 255, or -1. */
static int in_child(int (*call)(struct fuse_server *s, int arg),
		    struct fuse_server *s, int arg)
{
	int status;
	pid_t pid = fork();

	if (!pid)
		_exit(call(s, arg));
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

/* Returns 0 if neither ioctl is permitted. */
static int neither_permitted(struct fuse_server *s, int id)
{
	int fd = lower_open(s, "f", O_RDWR);

	return fd < 0 || id_open(s->dev, fd) != -EPERM ||
		id_open(s->dev, -1) != -EPERM ||
		id_close(s->dev, id) != EPERM ||
		id_close(s->dev, 0) != EPERM;
}

static int as_root_without_it(struct fuse_server *s, int id)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2];

	if (syscall(SYS_capget, &h, d))
		return 255;
	d[0].effective &= ~(1U << CAP_SYS_ADMIN);
	if (syscall(SYS_capset, &h, d))
		return 255;
	return neither_permitted(s, id);
}

static int as_user_with_others(struct fuse_server *s, int id)
{
	become(1U << CAP_DAC_OVERRIDE | 1U << CAP_SYS_RAWIO);
	return neither_permitted(s, id);
}

static int in_user_namespace(struct fuse_server *s, int id)
{
	int fd = lower_open(s, "f", O_RDWR);

	/* All capabilities in the new namespace, none in the initial one. */
	if (unshare(CLONE_NEWUSER))
		return 255;
	return id_open(s->dev, fd) != -EPERM || id_close(s->dev, id) != EPERM;
}

/*
 * Without CAP_SYS_ADMIN in the initial user namespace, registering and closing
 * are EPERM, whatever other error there is.
 */
TEST_F_TIMEOUT(backing_id, not_privileged, IO_TIMEOUT)
{
	int fd, id = id_of(&self->s, "f", O_RDWR);

	ASSERT_LT(0, id);
	ASSERT_EQ(0, fchmodat(self->s.dirfd, "f", 0666, 0));
	EXPECT_EQ(0, in_child(as_root_without_it, &self->s, id));
	EXPECT_EQ(0, in_child(as_user_with_others, &self->s, id));
	EXPECT_EQ(0, in_child(in_user_namespace, &self->s, id));
	fd = client_open(&self->s, id, O_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 1, true));
	close(fd);
}

static int register_as_user(struct fuse_server *s, int arg)
{
	int fd = lower_open(s, "f", O_RDWR);

	become(1U << CAP_SYS_ADMIN);
	return id_open(s->dev, fd);
}

static int write_as_user(struct fuse_server *s, int id)
{
	struct stat st;
	int fd;

	become(0);
	if (open(lower_path(s, "f"), O_RDWR) >= 0)
		return 1;
	fd = client_open(s, id, O_RDWR);
	if (fd < 0 || pwrite(fd, "x", 1, 0) != 1 || fstat(fd, &st))
		return 2;
	return (st.st_mode & 07777) == 0700 ? 0 : 3;
}

static int write_as_root(struct fuse_server *s, int id)
{
	int fd = client_open(s, id, O_RDWR);

	return pwrite(fd, "x", 1, 0) != 1;
}

static mode_t mode_of(struct fuse_server *s)
{
	struct stat st;

	fstatat(s->dirfd, "f", &st, 0);
	return st.st_mode & 07777;
}

/*
 * I/O uses the credentials of the task that registered the id, not of the task
 * that replies: root's writes drop set-user-ID if that task may not keep it,
 * and keep it if it may.  A user can write a file that only the server can
 * open, and drops set-user-ID.
 */
TEST_F_TIMEOUT(backing_id, credentials, IO_TIMEOUT)
{
	int root = id_of(&self->s, "f", O_RDWR);
	int user = in_child(register_as_user, &self->s, 0);

	ASSERT_LT(0, root);
	ASSERT_LT(0, user);
	ASSERT_NE(255, user);
	self->s.attr_valid = 0;
	/* The server replies from this process; a child cannot set this. */
	self->a.id = root;
	ASSERT_EQ(0, fchmodat(self->s.dirfd, "f", 04700, 0));
	EXPECT_EQ(0, write_as_root(&self->s, root));
	EXPECT_EQ(04700, mode_of(&self->s));
	EXPECT_EQ(0, in_child(write_as_user, &self->s, root));
	EXPECT_EQ(0700, mode_of(&self->s));

	ASSERT_EQ(0, chmod(fuse_path(&self->s, "f"), 04700));
	EXPECT_EQ(0, write_as_root(&self->s, user));
	EXPECT_EQ(0700, mode_of(&self->s));
	EXPECT_EQ(0, server_io(&self->s));
}

/*
 * Returns 0 if a client that Landlock limits to the mount reads the lower file
 * only by id; 255 without Landlock.
 */
static int read_in_landlock(struct fuse_server *s, int arg)
{
	struct landlock_ruleset_attr files = {
		.handled_access_fs = LANDLOCK_ACCESS_FS_READ_FILE |
			LANDLOCK_ACCESS_FS_WRITE_FILE,
	};
	struct landlock_path_beneath_attr beneath = {
		.allowed_access = files.handled_access_fs,
		.parent_fd = open(s->mnt, O_PATH | O_CLOEXEC),
	};
	char buf[LEN];
	int rules, fd;

	rules = syscall(SYS_landlock_create_ruleset, &files, sizeof(files), 0);
	if (rules < 0)
		return 255;
	if (syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH,
		    &beneath, 0) ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    syscall(SYS_landlock_restrict_self, rules, 0))
		return 1;
	if (open(lower_path(s, "f"), O_RDONLY) >= 0 || errno != EACCES)
		return 2;
	fd = open(fuse_path(s, "f"), O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return 3;
	return pread(fd, buf, LEN, 0) != LEN ||
		pattern_differs(buf, LEN, 0, 1) != -1 ? 4 : 0;
}

/*
 * The lower open uses the server's credentials: Landlock limits only the
 * client.
 */
TEST_F_TIMEOUT(backing_id, confined_client, IO_TIMEOUT)
{
	int ret;

	self->a.id = id_of(&self->s, "f", O_RDWR);
	ASSERT_LT(0, self->a.id);
	ret = in_child(read_in_landlock, &self->s, 0);
	if (ret == 255)
		SKIP(return, "no Landlock");
	EXPECT_EQ(0, ret);
	EXPECT_EQ(0, server_io(&self->s));
}

/*
 * Ids belong to a connection: all its devices can use them, other connections
 * cannot.
 */
TEST_F_TIMEOUT(backing_id, device, IO_TIMEOUT)
{
	struct answer a2 = { .flags = FOPEN_PASSTHROUGH };
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

static bool fleeting(struct fuse_server *s, const struct fuse_in_header *in)
{
	static unsigned int round;
	struct answer *a = s->arg;
	unsigned int i;

	if (in->opcode != FUSE_OPEN)
		return false;
	a->id = id_of_path(s, lower_path(s, "link"), O_RDWR);
	by_id(s, in);
	for (i = 0; i < round % 20 * 4; i++)
		getppid();
	round++;
	if (id_close(s->dev, a->id))
		abort();
	return true;
}

struct opener {
	struct fuse_server *s;
	pthread_t thread;
	int opened, refused, wrong;
};

static void *open_often(void *arg)
{
	struct opener *o = arg;
	char path[256];
	char buf[LEN];
	int i, fd;

	snprintf(path, sizeof(path), "%s/f", o->s->mnt);
	for (i = 0; i < 300; i++) {
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0) {
			if (errno == EIO)
				o->refused++;
			else
				o->wrong++;
			continue;
		}
		o->opened++;
		if (pread(fd, buf, LEN, 0) != LEN ||
		    pattern_differs(buf, LEN, 0, 3) != -1)
			o->wrong++;
		close(fd);
	}
	return NULL;
}

/*
 * An id is closed while opens by it are in flight: each open has the lower file
 * of the id or fails with EIO, and nothing stays pinned.
 */
TEST_F_TIMEOUT(backing_id, close_races_with_open, IO_TIMEOUT)
{
	struct opener o[3] = {};
	int i, opened = 0, refused = 0;

	ASSERT_EQ(0, symlink(self->p.file, lower_path(&self->s, "link")));
	self->s.request = fleeting;
	for (i = 0; i < 3; i++) {
		o[i].s = &self->s;
		pthread_create(&o[i].thread, NULL, open_often, &o[i]);
	}
	for (i = 0; i < 3; i++) {
		pthread_join(o[i].thread, NULL);
		EXPECT_EQ(0, o[i].wrong);
		opened += o[i].opened;
		refused += o[i].refused;
	}
	TH_LOG("%d opened, %d refused", opened, refused);
	EXPECT_EQ(900, opened + refused);
	EXPECT_LT(0, opened);
	EXPECT_EQ(0, server_io(&self->s));
	settle(&self->s);
	EXPECT_TRUE(is_free(&self->p));
}

#define THREADS	8
#define EACH	1000

struct worker {
	struct fuse_server *s;
	pthread_t thread;
	int nr, kept, id[EACH], wrong;
};

static void *register_often(void *arg)
{
	struct worker *w = arg;
	char name[16];
	int i, fd;

	snprintf(name, sizeof(name), "t%d", w->nr);
	fd = lower_open(w->s, name, O_PATH);
	for (i = 0; i < 2 * EACH; i++) {
		int id = id_open(w->s->dev, fd);

		if (id <= 0)
			w->wrong++;
		else if (i % 2)
			w->id[w->kept++] = id;
		else
			w->wrong += !!id_close(w->s->dev, id);
	}
	close(fd);
	return NULL;
}

static int compare(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/*
 * Ids that many threads register at once are distinct, and each selects its own
 * file.
 */
TEST_F_TIMEOUT(backing_id, threads, IO_TIMEOUT)
{
	static struct worker w[THREADS];
	static int all[THREADS * EACH];
	char name[16];
	int i, fd;

	for (i = 0; i < THREADS; i++) {
		snprintf(name, sizeof(name), "t%d", i);
		ASSERT_EQ(0, lower_make(&self->s, name, LEN, 10 + i));
		w[i].s = &self->s;
		w[i].nr = i;
		pthread_create(&w[i].thread, NULL, register_often, &w[i]);
	}
	for (i = 0; i < THREADS; i++) {
		pthread_join(w[i].thread, NULL);
		EXPECT_EQ(0, w[i].wrong);
		ASSERT_EQ(EACH, w[i].kept);
		memcpy(all + i * EACH, w[i].id, sizeof(w[i].id));
	}
	for (i = 0; i < THREADS * 10; i++) {
		struct worker *t = &w[i % THREADS];

		fd = client_open(&self->s, t->id[i * 7 % EACH], O_RDONLY);
		ASSERT_LE(0, fd);
		EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 10 + t->nr, true));
		close(fd);
	}
	qsort(all, THREADS * EACH, sizeof(int), compare);
	for (i = 1; i < THREADS * EACH; i++)
		ASSERT_LT(all[i - 1], all[i]);
	for (i = 0; i < THREADS * EACH; i++)
		ASSERT_EQ(0, id_close(self->s.dev, all[i]));
	EXPECT_EQ(0, server_io(&self->s));
}

struct rusher {
	int dev, fd;
	bool stop;
	pthread_t thread;
	unsigned long ids;
};

static void *rush(void *arg)
{
	struct rusher *r = arg;
	int id;

	while (!__atomic_load_n(&r->stop, __ATOMIC_ACQUIRE)) {
		id = id_open(r->dev, r->fd);
		if (id > 0 && ++r->ids % 2)
			id_close(r->dev, id);
	}
	return NULL;
}

/* Registering and closing in a race with an abort leave nothing pinned. */
TEST_F_TIMEOUT(backing_id, races_with_abort, IO_TIMEOUT)
{
	struct rusher r[4] = {};
	int i, fd;

	fd = client_open(&self->s, id_of_path(&self->s, self->p.file, O_RDWR),
			 O_RDWR);
	ASSERT_LE(0, fd);
	for (i = 0; i < 4; i++) {
		r[i].dev = self->s.dev;
		r[i].fd = open(self->p.file, O_RDWR | O_CLOEXEC);
		pthread_create(&r[i].thread, NULL, rush, &r[i]);
	}
	for (i = 0; i < 100; i++)
		settle(&self->s);
	for (i = 0; i < 4; i++)
		while (!__atomic_load_n(&r[i].ids, __ATOMIC_ACQUIRE))
			sched_yield();
	umount2(self->s.mnt, MNT_FORCE);
	close(fd);
	for (i = 0; i < 4; i++) {
		__atomic_store_n(&r[i].stop, true, __ATOMIC_RELEASE);
		pthread_join(r[i].thread, NULL);
		EXPECT_LT(0, r[i].ids);
		close(r[i].fd);
	}
	EXPECT_TRUE(is_pinned(&self->p));
	fuse_server_die(&self->s);
	EXPECT_TRUE(is_free(&self->p));
}

#define FILES	1000

/* Number of ids in the large tests; FUSE_TEST_IDS limits it on slow kernels. */
static int many(int otherwise)
{
	const char *e = getenv("FUSE_TEST_IDS");

	return e && atoi(e) < otherwise ? atoi(e) : otherwise;
}

static long slab_kib(void)
{
	char line[128];
	long kib = 0;
	FILE *f = fopen("/proc/meminfo", "r");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "Slab: %ld kB", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib;
}

static int open_files(struct pin *p, int *fd)
{
	struct rlimit lim = { 2 * FILES, 2 * FILES };
	char path[128];
	int i;

	setrlimit(RLIMIT_NOFILE, &lim);
	for (i = 0; i < FILES; i++) {
		snprintf(path, sizeof(path), "%s/%d", p->dir, i);
		fd[i] = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (fd[i] < 0 || write(fd[i], &i, sizeof(i)) != sizeof(i))
			return -1;
	}
	return 0;
}

/*
 * A million ids of 1,000 files: each leads to its file.  Half are closed, the
 * others end with the connection.  An id needs little memory.
 */
TEST_F_TIMEOUT(backing_id, million, 3 * IO_TIMEOUT)
{
	int i, n = many(1000000), fd[FILES];
	int *id = malloc(n * sizeof(*id));
	long before, bytes;

	ASSERT_NE(NULL, id);
	memset(id, 0, n * sizeof(*id));
	ASSERT_EQ(0, open_files(&self->p, fd));
	before = slab_kib();
	for (i = 0; i < n; i++) {
		id[i] = id_open(self->s.dev, fd[i % FILES]);
		ASSERT_LT(0, id[i]) TH_LOG("after %d", i);
	}
	bytes = (slab_kib() - before) * 1024;
	TH_LOG("%d ids, %ld bytes of slab each", n, bytes / n);
	for (i = 0; i < FILES; i++)
		close(fd[i]);

	for (i = 0; i < n; i += n / 50 + 1) {
		int c, seen = -1;

		c = client_open(&self->s, id[i], O_RDONLY);
		ASSERT_LE(0, c);
		EXPECT_EQ(sizeof(seen), pread(c, &seen, sizeof(seen), 0));
		EXPECT_EQ(i % FILES, seen);
		close(c);
	}
	EXPECT_EQ(0, server_io(&self->s));
	for (i = 0; i < n; i += 2)
		ASSERT_EQ(0, id_close(self->s.dev, id[i]));
	EXPECT_EQ(ENOENT, id_close(self->s.dev, id[0]));
	free(id);
	EXPECT_TRUE(is_pinned(&self->p));
	fuse_server_die(&self->s);
	EXPECT_TRUE(is_free(&self->p));
}

/*
 * An abort with 100,000 ids, some of them in use, ends, and then all are free.
 */
TEST_F_TIMEOUT(backing_id, abort_with_many, 3 * IO_TIMEOUT)
{
	int i, n = many(100000), fd[FILES], c[16], id;

	ASSERT_EQ(0, open_files(&self->p, fd));
	for (i = 0; i < n; i++) {
		id = id_open(self->s.dev, fd[i % FILES]);
		ASSERT_LT(0, id);
		if (i < 16) {
			c[i] = client_open(&self->s, id, O_RDWR);
			ASSERT_LE(0, c[i]);
		}
	}
	for (i = 0; i < FILES; i++)
		close(fd[i]);

	ASSERT_EQ(0, umount2(self->s.mnt, MNT_FORCE | MNT_DETACH));
	fuse_server_die(&self->s);
	for (i = 0; i < 16; i++) {
		int seen = -1;

		EXPECT_TRUE(is_pinned(&self->p));
		EXPECT_EQ(sizeof(seen), pread(c[i], &seen, sizeof(seen), 0));
		EXPECT_EQ(i, seen);
		EXPECT_EQ(sizeof(i), pwrite(c[i], &i, sizeof(i), 4096));
		close(c[i]);
	}
	EXPECT_TRUE(is_free(&self->p));
}

TEST_HARNESS_MAIN
