// SPDX-License-Identifier: GPL-2.0
/*
 * Mappings show the lower file's pages, with the access mode of the client's
 * open.
 */
#define _GNU_SOURCE
#include <linux/fs.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "io_test.h"
#include "../../kselftest_harness.h"

#define LEN	(16 * PAGE)
#define TAIL	100		/* the file ends in the middle of a page */

FIXTURE(io_mmap) {
	struct fuse_server s;
	size_t page;
	int fd;
};

FIXTURE_VARIANT(io_mmap) { enum fuse_server_open how; };
FIXTURE_VARIANT_ADD(io_mmap, passthrough) { .how = OPEN_PASSTHROUGH };
FIXTURE_VARIANT_ADD(io_mmap, cached) { .how = OPEN_CACHED };
FIXTURE_VARIANT_ADD(io_mmap, by_inode) { .how = OPEN_BY_INODE };

FIXTURE_SETUP(io_mmap)
{
	self->page = sysconf(_SC_PAGESIZE);
	self->fd = serve_file(&self->s, variant->how, LEN + TAIL);
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(io_mmap)
{
	EXPECT_EQ(0, server_bypassed(&self->s, variant->how));
	close(self->fd);
	fuse_server_stop(&self->s);
}

static char *map_file(int fd, size_t len, int prot, int flags)
{
	return mmap(NULL, len, prot, flags, fd, 0);
}

static sigjmp_buf fault_env;

static void on_fault(int sig)
{
	siglongjmp(fault_env, sig);
}

/* Returns the signal that an access to @p raises, or 0. */
static int touch(volatile char *p, bool write_it)
{
	struct sigaction act = { .sa_handler = on_fault }, bus, segv;
	int sig;

	sigaction(SIGBUS, &act, &bus);
	sigaction(SIGSEGV, &act, &segv);
	sig = sigsetjmp(fault_env, 1);
	if (!sig) {
		if (write_it)
			*p = 'w';
		else
			(void)*p;
	}
	sigaction(SIGBUS, &bus, NULL);
	sigaction(SIGSEGV, &segv, NULL);
	return sig;
}

/* A shared mapping and I/O of the same open show each other's data. */
TEST_F_TIMEOUT(io_mmap, shared, IO_TIMEOUT)
{
	char *p = map_file(self->fd, LEN, PROT_READ | PROT_WRITE, MAP_SHARED);
	char buf[PAGE];

	ASSERT_NE(MAP_FAILED, p);
	EXPECT_EQ(-1, pattern_differs(p, LEN, 0, 1));
	pattern(p + PAGE, PAGE, PAGE, 2);
	ASSERT_EQ(PAGE, pread(self->fd, buf, PAGE, PAGE));
	EXPECT_EQ(-1, pattern_differs(buf, PAGE, PAGE, 2));

	pattern(buf, PAGE, 2 * PAGE, 3);
	ASSERT_EQ(PAGE, pwrite(self->fd, buf, PAGE, 2 * PAGE));
	EXPECT_EQ(-1, pattern_differs(p + 2 * PAGE, PAGE, 2 * PAGE, 3));

	ASSERT_EQ(0, msync(p, LEN, MS_SYNC));
	EXPECT_EQ(-1, lower_differs(&self->s, "f", PAGE, PAGE, 2));
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 2 * PAGE, PAGE, 3));
	munmap(p, LEN);
}

/*
 * Writes to a private mapping do not reach the file; the rest of it shows the
 * file.
 */
TEST_F_TIMEOUT(io_mmap, private, IO_TIMEOUT)
{
	char *p = map_file(self->fd, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	char buf[PAGE];

	ASSERT_NE(MAP_FAILED, p);
	memset(p, 'p', PAGE);
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, PAGE, 1));
	ASSERT_EQ(PAGE, pread(self->fd, buf, PAGE, 0));
	EXPECT_EQ(-1, pattern_differs(buf, PAGE, 0, 1));

	pattern(buf, PAGE, PAGE, 2);
	ASSERT_EQ(PAGE, pwrite(self->fd, buf, PAGE, PAGE));
	EXPECT_EQ(-1, pattern_differs(p + PAGE, PAGE, PAGE, 2));
	EXPECT_EQ('p', p[0]);
	munmap(p, LEN);
}

/*
 * A file opened for reading has no writable shared mapping, but a private one.
 */
TEST_F_TIMEOUT(io_mmap, read_only_open, IO_TIMEOUT)
{
	/* The lower file is open for writing, the client's file is not. */
	int fd = fs_open_mode(&self->s, variant->how, "f", O_RDONLY, O_RDWR);
	char *p;

	ASSERT_LE(0, fd);
	EXPECT_EQ(MAP_FAILED, map_file(fd, LEN, PROT_READ | PROT_WRITE, MAP_SHARED));
	EXPECT_EQ(EACCES, errno);

	p = map_file(fd, LEN, PROT_READ, MAP_SHARED);
	ASSERT_NE(MAP_FAILED, p);
	EXPECT_EQ(-1, mprotect(p, LEN, PROT_READ | PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(SIGSEGV, touch(p, true));
	munmap(p, LEN);

	p = map_file(fd, LEN, PROT_READ, MAP_PRIVATE);
	ASSERT_NE(MAP_FAILED, p);
	ASSERT_EQ(0, mprotect(p, LEN, PROT_READ | PROT_WRITE));
	EXPECT_EQ(0, touch(p, true));
	munmap(p, LEN);
	close(fd);
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, LEN, 1));
}

/* A file opened for writing only cannot be mapped. */
TEST_F_TIMEOUT(io_mmap, write_only_open, IO_TIMEOUT)
{
	int fd = fs_open(&self->s, variant->how, "f", O_WRONLY);

	ASSERT_LE(0, fd);
	EXPECT_EQ(MAP_FAILED, map_file(fd, LEN, PROT_READ, MAP_SHARED));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(MAP_FAILED, map_file(fd, LEN, PROT_WRITE, MAP_SHARED));
	EXPECT_EQ(EACCES, errno);
	close(fd);
}

/*
 * mprotect in both directions on a writable open, MAP_POPULATE, mremap in place
 * and elsewhere
 */
TEST_F_TIMEOUT(io_mmap, protect_populate_remap, IO_TIMEOUT)
{
	unsigned char resident[LEN / PAGE];
	char *p, *q;

	p = map_file(self->fd, 4 * self->page, PROT_READ, MAP_SHARED | MAP_POPULATE);
	ASSERT_NE(MAP_FAILED, p);
	ASSERT_EQ(0, mincore(p, 4 * self->page, resident));
	EXPECT_EQ(4, (resident[0] & 1) + (resident[1] & 1) + (resident[2] & 1) +
		  (resident[3] & 1));
	q = mremap(p, 4 * self->page, LEN, MREMAP_MAYMOVE);
	ASSERT_NE(MAP_FAILED, q);
	EXPECT_EQ(-1, pattern_differs(q, LEN, 0, 1));

	ASSERT_EQ(0, mprotect(q, self->page, PROT_READ | PROT_WRITE));
	EXPECT_EQ(0, touch(q, true));
	ASSERT_EQ(0, mprotect(q, self->page, PROT_READ));
	EXPECT_EQ(SIGSEGV, touch(q, true));
	EXPECT_EQ('w', q[0]);
	munmap(q, LEN);
}

/* Map with @prot, and make the mapping executable. Returns 0 or an errno. */
static int make_executable(int fd, int prot, int flags)
{
	char *p = map_file(fd, PAGE, prot, flags);
	int err;

	if (p == MAP_FAILED)
		return -1;
	err = mprotect(p, PAGE, PROT_READ | PROT_EXEC) ? errno : 0;
	munmap(p, PAGE);
	return err;
}

/*
 * The module parameter decides whether mprotect() can make a passthrough
 * mapping executable, private or shared.  Mappings that were mapped executable,
 * and mappings of other opens, are not affected.
 */
TEST_F_TIMEOUT(io_mmap, protect_exec, IO_TIMEOUT)
{
	bool pass = passes_through(variant->how);
	int may, flags, want, old;

	for (may = 1; may >= 0; may--) {
		ASSERT_EQ(0, set_mprotect_exec(may));
		want = may || !pass ? 0 : EACCES;
		for (flags = MAP_SHARED; flags <= MAP_PRIVATE; flags++) {
			EXPECT_EQ(want, make_executable(self->fd, PROT_READ, flags));
			EXPECT_EQ(want, make_executable(self->fd, PROT_NONE, flags));
			EXPECT_EQ(0, make_executable(self->fd,
						     PROT_READ | PROT_EXEC, flags));
			old = personality(0xffffffff);
			personality(old | READ_IMPLIES_EXEC);
			EXPECT_EQ(0, make_executable(self->fd, PROT_READ, flags));
			personality(old);
		}
	}
	EXPECT_EQ(0, set_mprotect_exec(true));
}

/*
 * The rest of the last page is zero and does not reach the file; an access
 * beyond it is SIGBUS.
 */
TEST_F_TIMEOUT(io_mmap, end_of_file, IO_TIMEOUT)
{
	size_t last = (LEN + TAIL) / self->page * self->page;
	char *p = map_file(self->fd, last + 4 * self->page,
			   PROT_READ | PROT_WRITE, MAP_SHARED);

	ASSERT_NE(MAP_FAILED, p);
	EXPECT_EQ(-1, pattern_differs(p + LEN, TAIL, LEN, 1));
	EXPECT_EQ(0, touch(p + LEN + TAIL, false));
	EXPECT_TRUE(all_zero(p + LEN + TAIL, last + self->page - LEN - TAIL));
	EXPECT_EQ(0, touch(p + LEN + TAIL, true));
	EXPECT_EQ(SIGBUS, touch(p + last + self->page, false));
	EXPECT_EQ(SIGBUS, touch(p + last + self->page, true));
	EXPECT_EQ(LEN + TAIL, size_of(self->fd));

	/* The file grows, and the mapping shows that. */
	ASSERT_EQ(0, ftruncate(self->fd, last + 2 * self->page));
	EXPECT_EQ(0, touch(p + last + self->page, true));
	EXPECT_EQ(SIGBUS, touch(p + last + 2 * self->page, false));

	/* The file shrinks. */
	ASSERT_EQ(0, ftruncate(self->fd, self->page));
	EXPECT_EQ(SIGBUS, touch(p + self->page, false));
	EXPECT_EQ(0, touch(p, false));
	munmap(p, last + 4 * self->page);
}

/* A hole that a mapping writes to is filled in the file. */
TEST_F_TIMEOUT(io_mmap, hole, IO_TIMEOUT)
{
	char buf[PAGE];
	char *p;

	ASSERT_EQ(0, ftruncate(self->fd, 0));
	ASSERT_EQ(0, ftruncate(self->fd, LEN));
	p = map_file(self->fd, LEN, PROT_READ | PROT_WRITE, MAP_SHARED);
	ASSERT_NE(MAP_FAILED, p);
	EXPECT_TRUE(all_zero(p, LEN));
	pattern(p + 3 * PAGE, PAGE, 3 * PAGE, 2);
	ASSERT_EQ(PAGE, pread(self->fd, buf, PAGE, 3 * PAGE));
	EXPECT_EQ(-1, pattern_differs(buf, PAGE, 3 * PAGE, 2));
	ASSERT_EQ(0, msync(p, LEN, MS_SYNC));
	munmap(p, LEN);
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 3 * PAGE, PAGE, 2));
	EXPECT_EQ(LEN, size_of(self->fd));
}

/* Parent and child share a shared mapping; each has its own private mapping. */
TEST_F_TIMEOUT(io_mmap, fork, IO_TIMEOUT)
{
	char *s = map_file(self->fd, LEN, PROT_READ | PROT_WRITE, MAP_SHARED);
	char *p = map_file(self->fd, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	int status;
	pid_t pid;

	ASSERT_NE(MAP_FAILED, s);
	ASSERT_NE(MAP_FAILED, p);
	p[PAGE] = 'P';
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		s[0] = 'S';
		p[PAGE] = 'C';
		_exit(p[PAGE] == 'C' && p[PAGE + 1] == s[PAGE + 1] ? 0 : 1);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ('S', s[0]);
	EXPECT_EQ('P', p[PAGE]);
	munmap(s, LEN);
	munmap(p, LEN);
}

/*
 * A mapping outlives the descriptor: it can be read and written, and its writes
 * reach the file.
 */
TEST_F_TIMEOUT(io_mmap, after_close, IO_TIMEOUT)
{
	char *p = map_file(self->fd, LEN, PROT_READ | PROT_WRITE, MAP_SHARED);

	ASSERT_NE(MAP_FAILED, p);
	close(self->fd);
	self->fd = -1;
	EXPECT_EQ(-1, pattern_differs(p, LEN, 0, 1));
	pattern(p + PAGE, PAGE, PAGE, 2);
	ASSERT_EQ(0, msync(p, LEN, MS_SYNC));
	munmap(p, LEN);
	EXPECT_EQ(-1, lower_differs(&self->s, "f", PAGE, PAGE, 2));
}

/* Direct I/O of another file into and from a mapping */
TEST_F_TIMEOUT(io_mmap, get_user_pages, IO_TIMEOUT)
{
	char *p = map_file(self->fd, LEN, PROT_READ | PROT_WRITE, MAP_SHARED);
	int other, flags = O_RDWR | O_CREAT;

	ASSERT_NE(MAP_FAILED, p);
	/* Buffered I/O, if the lower file system has no direct I/O. */
	other = lower_open(&self->s, "other", flags | O_DIRECT);
	if (other < 0)
		other = lower_open(&self->s, "other", flags);
	ASSERT_LE(0, other);
	ASSERT_EQ(LEN, pwrite(other, p, LEN, 0));
	EXPECT_EQ(-1, lower_differs(&self->s, "other", 0, LEN, 1));

	ASSERT_EQ(PAGE, pread(other, p + 5 * PAGE, PAGE, 0));
	EXPECT_EQ(-1, pattern_differs(p + 5 * PAGE, PAGE, 0, 1));
	ASSERT_EQ(0, msync(p, LEN, MS_SYNC));
	munmap(p, LEN);
	p = map_file(other, PAGE, PROT_READ, MAP_SHARED);
	ASSERT_NE(MAP_FAILED, p);
	EXPECT_EQ(-1, pattern_differs(p, PAGE, 0, 1));
	munmap(p, PAGE);
	close(other);
}

/* A read into a mapping of the same range of the file, and a write from it */
TEST_F_TIMEOUT(io_mmap, onto_itself, IO_TIMEOUT)
{
	char *p = map_file(self->fd, LEN, PROT_READ | PROT_WRITE, MAP_SHARED);

	ASSERT_NE(MAP_FAILED, p);
	/* The page is not faulted in yet: the copy hits its own page. */
	ASSERT_EQ(PAGE, pread(self->fd, p, PAGE, 0));
	ASSERT_EQ(PAGE, pwrite(self->fd, p + PAGE, PAGE, PAGE));
	EXPECT_EQ(-1, pattern_differs(p, LEN, 0, 1));
	munmap(p, LEN);
}

static int copy_program(struct fuse_server *s, enum fuse_server_open how,
			const char *from, const char *name)
{
	static char buf[64 * KIB];
	int in = open(from, O_RDONLY | O_CLOEXEC);
	int out = fs_open(s, how, name, O_RDWR | O_CREAT);
	ssize_t n;

	while ((n = read(in, buf, sizeof(buf))) > 0)
		if (write(out, buf, n) != n)
			n = -1;
	fchmod(out, 0755);
	close(in);
	close(out);
	return n;
}

/*
 * A program runs from the mount; meanwhile opens of the FUSE file for writing
 * are ETXTBSY.
 */
TEST_F_TIMEOUT(io_mmap, execute, IO_TIMEOUT)
{
	int in[2], out[2], status, fd;
	char c = 0;
	pid_t pid;

	ASSERT_EQ(0, copy_program(&self->s, variant->how, "/bin/cat", "cat"));
	ASSERT_EQ(0, pipe2(in, O_CLOEXEC));
	ASSERT_EQ(0, pipe2(out, O_CLOEXEC));

	/* It is open for writing and cannot be executed. */
	fd = fs_open(&self->s, variant->how, "cat", O_RDWR);
	ASSERT_LE(0, fd);
	pid = fork();
	if (!pid) {
		execl(fuse_path(&self->s, "cat"), "cat", NULL);
		_exit(errno == ETXTBSY ? 42 : 1);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(42, WEXITSTATUS(status));
	close(fd);

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		execl(fuse_path(&self->s, "cat"), "cat", NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	ASSERT_EQ(1, write(in[1], "!", 1));
	ASSERT_EQ(1, read(out[0], &c, 1));
	EXPECT_EQ('!', c);

	/* It runs now. */
	EXPECT_EQ(-1, fs_open(&self->s, variant->how, "cat", O_WRONLY));
	EXPECT_EQ(ETXTBSY, errno);
	/* The lower file is not write-protected by this, as documented. */
	fd = lower_open(&self->s, "cat", O_WRONLY);
	EXPECT_LE(0, fd);
	close(fd);

	close(in[1]);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	close(out[0]);
}

/* A passthrough mapping shares the page cache of the lower file. */
FIXTURE(lower_map) {
	struct fuse_server s;
	int fd, lower;
};

FIXTURE_SETUP(lower_map)
{
	self->fd = serve_file(&self->s, OPEN_PASSTHROUGH, LEN);
	self->lower = lower_open(&self->s, "f", O_RDWR);
	ASSERT_LE(0, self->fd);
	ASSERT_LE(0, self->lower);
}

FIXTURE_TEARDOWN(lower_map)
{
	EXPECT_EQ(0, server_io(&self->s));
	close(self->fd);
	close(self->lower);
	fuse_server_stop(&self->s);
}

/*
 * The mapping is coherent with reads, writes and mappings of the lower file,
 * without msync.
 */
TEST_F_TIMEOUT(lower_map, same_pages, IO_TIMEOUT)
{
	char *p = map_file(self->fd, LEN, PROT_READ | PROT_WRITE, MAP_SHARED);
	char *q = map_file(self->lower, LEN, PROT_READ | PROT_WRITE, MAP_SHARED);
	char c = 0;
	int i;

	ASSERT_NE(MAP_FAILED, p);
	ASSERT_NE(MAP_FAILED, q);
	for (i = 0; i < 200; i++) {
		off_t off = (i * 331) % LEN;

		p[off] = i;
		ASSERT_EQ((char)i, q[off]);
		ASSERT_EQ(1, pread(self->lower, &c, 1, off));
		ASSERT_EQ((char)i, c);
		q[off] = i + 1;
		ASSERT_EQ((char)(i + 1), p[off]);
		c = i + 2;
		ASSERT_EQ(1, pwrite(self->lower, &c, 1, off));
		ASSERT_EQ((char)(i + 2), p[off]);
		c = i + 3;
		ASSERT_EQ(1, pwrite(self->fd, &c, 1, off));
		ASSERT_EQ((char)(i + 3), q[off]);
	}
	munmap(p, LEN);
	munmap(q, LEN);
}

/*
 * A FOPEN_DIRECT_IO open sees what the mapping wrote, and the mapping sees what
 * that open wrote.
 */
TEST_F_TIMEOUT(lower_map, direct_handle, IO_TIMEOUT)
{
	char *p = map_file(self->fd, LEN, PROT_READ | PROT_WRITE, MAP_SHARED);
	int fd = fs_open(&self->s, OPEN_DIRECT, "f", O_RDWR);
	char buf[PAGE];

	ASSERT_NE(MAP_FAILED, p);
	ASSERT_LE(0, fd);
	pattern(p, PAGE, 0, 2);
	ASSERT_EQ(PAGE, pread(fd, buf, PAGE, 0));
	EXPECT_EQ(-1, pattern_differs(buf, PAGE, 0, 2));
	pattern(buf, PAGE, 0, 3);
	ASSERT_EQ(PAGE, pwrite(fd, buf, PAGE, 0));
	EXPECT_EQ(-1, pattern_differs(p, PAGE, 0, 3));
	EXPECT_EQ(1, fuse_server_count(&self->s, FUSE_READ));
	EXPECT_EQ(1, fuse_server_count(&self->s, FUSE_WRITE));
	/* These two are of the direct open; the teardown counts the others. */
	self->s.count[FUSE_READ] = 0;
	self->s.count[FUSE_WRITE] = 0;
	munmap(p, LEN);
	close(fd);
}

/* A mapping pins only the lower file: RELEASE is sent at the last close. */
TEST_F_TIMEOUT(lower_map, released_at_close, IO_TIMEOUT)
{
	char *p = map_file(self->fd, LEN, PROT_READ | PROT_WRITE, MAP_SHARED);

	ASSERT_NE(MAP_FAILED, p);
	close(self->fd);
	self->fd = -1;
	fuse_server_wait(&self->s, FUSE_RELEASE, 1);
	ASSERT_EQ(0, unlinkat(self->s.dirfd, "f", 0));
	pattern(p, LEN, 0, 2);
	EXPECT_EQ(-1, pattern_differs(p, LEN, 0, 2));
	munmap(p, LEN);
}

/*
 * An append-only lower file has no writable shared mapping, however it was
 * opened.
 */
TEST_F_TIMEOUT(lower_map, append_only, IO_TIMEOUT)
{
	int none, attr;
	char *p;

	if (ioctl(self->lower, FS_IOC_GETFLAGS, &none)) {
		ASSERT_EQ(ENOTTY, errno);
		SKIP(return, "no append-only files on this lower file system");
	}
	attr = none | FS_APPEND_FL;
	ASSERT_EQ(0, ioctl(self->lower, FS_IOC_SETFLAGS, &attr));
	EXPECT_EQ(MAP_FAILED, map_file(self->fd, LEN, PROT_READ | PROT_WRITE,
				       MAP_SHARED));
	EXPECT_EQ(EACCES, errno);
	p = map_file(self->fd, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	EXPECT_NE(MAP_FAILED, p);
	ASSERT_EQ(0, ioctl(self->lower, FS_IOC_SETFLAGS, &none));
	munmap(p, LEN);
}

/* Without the server the mapping still works, and msync writes to disk. */
TEST_F_TIMEOUT(lower_map, server_gone, IO_TIMEOUT)
{
	char *p = map_file(self->fd, LEN, PROT_READ | PROT_WRITE, MAP_SHARED);
	char *q;

	ASSERT_NE(MAP_FAILED, p);
	fuse_server_die(&self->s);
	pattern(p, LEN, 0, 2);
	EXPECT_EQ(0, msync(p, LEN, MS_SYNC));
	EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, LEN, 2));
	q = map_file(self->fd, LEN, PROT_READ, MAP_SHARED);
	ASSERT_NE(MAP_FAILED, q);
	EXPECT_EQ(-1, pattern_differs(q, LEN, 0, 2));
	munmap(q, LEN);
	munmap(p, LEN);
}

TEST_HARNESS_MAIN
