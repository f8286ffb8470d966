// SPDX-License-Identifier: GPL-2.0
/*
 * Replies that passthrough writes have overtaken: their attributes are older
 * than the write, and do not replace newer ones.
 */
#define _GNU_SOURCE
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "attr_test.h"
#include "../../kselftest_harness.h"

#define LEN	(64 * KIB)

/*
 * A reply that the server prepares early and sends late, after passthrough
 * writes
 */
struct late_answer {
	uint64_t unique;
	bool getattr, open;	/* reply late to the next one */
	union {
		struct fuse_attr_out attr;
		struct fuse_entry_out entry;
	} out;
	size_t len;
};

FIXTURE(late) {
	struct fuse_server s;
	struct late_answer a;
	char *buf;
	int fd, cached;
};

FIXTURE_VARIANTS_WRITEBACK(late);

static void late_attr(struct fuse_server *s, uint64_t nodeid)
{
	struct late_answer *a = s->arg;

	memset(&a->out, 0, sizeof(a->out));
	a->out.attr.attr_valid = s->attr_valid;
	fuse_server_attr(s, nodeid, "f", &a->out.attr.attr);
	a->len = sizeof(a->out.attr);
}

/* Execute the request at once, and send the reply later. */
static bool answer_late(struct fuse_server *s, const struct fuse_in_header *in)
{
	const struct fuse_setattr_in *set = (const void *)(in + 1);
	const struct fuse_link_in *link = (const void *)(in + 1);
	struct late_answer *a = s->arg;

	/*
	 * Reply at once to the SETATTRs of times that a write-back cache sends.
	 */
	if (in->opcode == FUSE_SETATTR &&
	    (set->valid & (FATTR_SIZE | FATTR_MODE))) {
		if (set->valid & FATTR_SIZE)
			truncate(lower_path(s, "f"), set->size);
		if (set->valid & FATTR_MODE)
			fchmodat(s->dirfd, "f", set->mode & 07777, 0);
		late_attr(s, in->nodeid);
	} else if (in->opcode == FUSE_GETATTR &&
		   __atomic_exchange_n(&a->getattr, false, __ATOMIC_ACQ_REL)) {
		late_attr(s, in->nodeid);
	} else if (in->opcode == FUSE_LINK) {
		linkat(s->dirfd, "f", s->dirfd, (const char *)(link + 1), 0);
		memset(&a->out, 0, sizeof(a->out));
		a->out.entry.nodeid = link->oldnodeid;
		a->out.entry.attr_valid = s->attr_valid;
		fuse_server_attr(s, link->oldnodeid, "f",
				 &a->out.entry.attr);
		a->len = sizeof(a->out.entry);
	} else if (in->opcode != FUSE_OPEN ||
		   !__atomic_exchange_n(&a->open, false, __ATOMIC_ACQ_REL)) {
		return false;
	}
	__atomic_store_n(&a->unique, in->unique, __ATOMIC_RELEASE);
	return true;
}

FIXTURE_SETUP(late)
{
	self->s.writeback = variant->writeback;
	self->s.request = answer_late;
	self->s.arg = &self->a;
	ASSERT_EQ(0, fuse_server_start(&self->s));
	ASSERT_EQ(0, lower_make(&self->s, "f", LEN, 1));
	self->buf = pages(2 * LEN);
	ASSERT_NE(NULL, self->buf);
	self->fd = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDONLY);
	self->cached = fs_open(&self->s, OPEN_CACHED, "f", O_RDONLY);
	ASSERT_LE(0, self->fd);
	ASSERT_LE(0, self->cached);
}

FIXTURE_TEARDOWN(late)
{
	EXPECT_EQ(0, fuse_server_count(&self->s, FUSE_WRITE));
	close(self->fd);
	close(self->cached);
	fuse_server_stop(&self->s);
}

static void call_chmod(void *arg)
{
	chmod(fuse_path(arg, "f"), 0640);
}

static void call_truncate(void *arg)
{
	truncate(fuse_path(arg, "f"), LEN / 2);
}

static void call_link(void *arg)
{
	char path[256];

	snprintf(path, sizeof(path), "%s", fuse_path(arg, "f"));
	link(path, fuse_path(arg, "g"));
}

struct extender {
	int fd;
	char byte;
	char *buf;
	off_t size;
	ssize_t ret;
};

/* Close the descriptor too, so that no passthrough writer is left. */
static void call_extend(void *arg)
{
	struct extender *e = arg;

	e->ret = pwrite(e->fd, e->buf, 100, e->size);
	close(e->fd);
}

static void keep_back(FIXTURE_DATA(late) *self, struct blocker *caller,
		      void (*call)(void *))
{
	self->a.unique = 0;
	blocker_start(caller, call, &self->s);
	while (!__atomic_load_n(&self->a.unique, __ATOMIC_ACQUIRE))
		sched_yield();
}

static bool let_go(FIXTURE_DATA(late) *self, struct blocker *caller)
{
	int err = fuse_server_reply(&self->s, self->a.unique, 0, &self->a.out,
				    self->a.len);

	blocker_join(caller);
	return !err;
}

/*
 * Make the reply to @call older than a write of 100 bytes that ends at the new
 * size.  The writer's open is closed before the reply; its close does not wait
 * for the server.  With a write-back cache the write itself waits for the
 * reply.
 */
static bool overtake(FIXTURE_DATA(late) *self, void (*call)(void *), off_t size)
{
	struct extender e = { .buf = self->buf, .size = size - 100 };
	struct blocker caller, writer;
	bool ok;

	self->s.open_flags = FOPEN_NOFLUSH;
	e.fd = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_WRONLY);
	self->s.open_flags = 0;
	if (e.fd < 0)
		return false;

	pattern(self->buf, 100, e.size, 1);
	/* Make the cached attributes valid, so that the reply could be used. */
	size_of(e.fd);
	keep_back(self, &caller, call);
	ok = blocker_start(&writer, call_extend, &e) == self->s.writeback;
	ok &= let_go(self, &caller);
	blocker_join(&writer);
	return ok && e.ret == 100;
}

static bool size_of_seek(FIXTURE_DATA(late) *self, off_t size)
{
	return lseek(self->fd, 0, SEEK_END) == size;
}

static bool size_of_stat(FIXTURE_DATA(late) *self, off_t size)
{
	return size_of(self->fd) == size;
}

static bool size_of_statx(FIXTURE_DATA(late) *self, off_t size)
{
	struct statx stx;

	return !statx(AT_FDCWD, fuse_path(&self->s, "f"), 0, STATX_SIZE, &stx) &&
		(off_t)stx.stx_size == size;
}

static bool size_of_cached(FIXTURE_DATA(late) *self, off_t size)
{
	return pread(self->cached, self->buf, 200, size - 100) == 100 &&
		pattern_differs(self->buf, 100, size - 100, 1) == -1;
}

/* The size in the inode, without a request: the write has raised it. */
static bool size_of_inode(FIXTURE_DATA(late) *self, off_t size)
{
	struct statx stx;

	return !statx(AT_FDCWD, fuse_path(&self->s, "f"), AT_STATX_DONT_SYNC,
		      STATX_SIZE, &stx) && (off_t)stx.stx_size == size;
}

/*
 * Ways to get the size first after the reply; later ones find refreshed
 * attributes.
 */
static bool (*const asks[])(FIXTURE_DATA(late) *self, off_t size) = {
	size_of_seek, size_of_stat, size_of_statx, size_of_cached, size_of_inode,
};

/*
 * A late reply to chmod, with an older size, does not change the size of the
 * write.
 */
TEST_F_TIMEOUT(late, chmod, IO_TIMEOUT)
{
	off_t size = LEN;
	unsigned int i;
	struct stat st;

	for (i = 0; i < ARRAY_SIZE(asks); i++) {
		ASSERT_LT(0, pread(self->cached, self->buf, LEN, size - 100));
		ASSERT_TRUE(overtake(self, call_chmod, size += 100));
		EXPECT_TRUE(asks[i](self, size)) TH_LOG("way %u", i);
		ASSERT_EQ(0, fstat(self->fd, &st));
		EXPECT_EQ(0640, st.st_mode & 07777);
	}
}

/*
 * Likewise for truncate and a write beyond the new end: only the server knows
 * their order.
 */
TEST_F_TIMEOUT(late, truncate, IO_TIMEOUT)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(asks); i++) {
		if (asks[i] == size_of_inode)
			continue;
		ASSERT_EQ(100, pread(self->cached, self->buf, 100, LEN / 2 - 100));
		ASSERT_TRUE(overtake(self, call_truncate, LEN / 2 + 100));
		EXPECT_TRUE(asks[i](self, LEN / 2 + 100)) TH_LOG("way %u", i);
	}
}

/*
 * A chmod after that does not make the size valid: a stat still sends GETATTR.
 */
TEST_F_TIMEOUT(late, truncate_and_chmod, IO_TIMEOUT)
{
	struct blocker caller;

	ASSERT_TRUE(overtake(self, call_truncate, LEN / 2 + 100));
	keep_back(self, &caller, call_chmod);
	ASSERT_TRUE(let_go(self, &caller));
	EXPECT_TRUE(size_of_stat(self, LEN / 2 + 100));
}

static void call_chmod_setuid(void *arg)
{
	chmod(fuse_path(arg, "f"), 04755);
}

/* Drops the privileges of the calling thread only */
static void call_write_unprivileged(void *arg)
{
	struct extender *e = arg;

	e->ret = syscall(SYS_setresuid, 1, 1, 1) ? -1 :
		pwrite(e->fd, &e->byte, 1, 0);
}

/*
 * A late reply to chmod does not bring back a setuid bit that a write has
 * dropped meanwhile.  After a read the bit stays.
 */
TEST_F_TIMEOUT(late, setuid, IO_TIMEOUT)
{
	struct blocker caller, writer;
	struct extender e = {};
	struct stat low;

	/* With a write-back cache the write waits for the SETATTR. */
	if (variant->writeback)
		return;

	e.fd = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDWR);
	ASSERT_LE(0, e.fd);
	ASSERT_EQ(1, pwrite(e.fd, "x", 1, 0));
	keep_back(self, &caller, call_chmod_setuid);
	ASSERT_EQ(1, pread(e.fd, self->buf, 1, 0));
	ASSERT_TRUE(let_go(self, &caller));
	EXPECT_EQ(04755, cached_mode(e.fd));

	keep_back(self, &caller, call_chmod_setuid);
	blocker_start(&writer, call_write_unprivileged, &e);
	blocker_join(&writer);
	ASSERT_EQ(1, e.ret);
	ASSERT_EQ(0, fstatat(self->s.dirfd, "f", &low, 0));
	ASSERT_EQ(0755, low.st_mode & 07777);
	ASSERT_TRUE(let_go(self, &caller));
	EXPECT_EQ(0755, cached_mode(e.fd));

	/* Likewise, but the server does the chmod after the write. */
	ASSERT_EQ(0, fchmodat(self->s.dirfd, "f", 04755, 0));
	ASSERT_EQ(0, fstat(e.fd, &low));
	keep_back(self, &caller, call_chmod_setuid);
	blocker_start(&writer, call_write_unprivileged, &e);
	blocker_join(&writer);
	ASSERT_EQ(0, fchmodat(self->s.dirfd, "f", 04755, 0));
	ASSERT_TRUE(let_go(self, &caller));
	EXPECT_EQ(04755, cached_mode(e.fd));

	/* exec sends GETATTR after a write, even if no bit was dropped. */
	ASSERT_EQ(0, fchmodat(self->s.dirfd, "f", 0755, 0));
	ASSERT_EQ(1, pwrite(e.fd, "x", 1, 0));
	ASSERT_EQ(0, access(fuse_path(&self->s, "f"), X_OK));
	EXPECT_EQ(0755, cached_mode(e.fd));
	close(e.fd);
}

/* Executed with ANSWER_EUID, exit with 1 if the program runs as root. */
static void __attribute__((constructor)) answer_euid(void)
{
	if (getenv("ANSWER_EUID"))
		_exit(geteuid() == 0);
}

static int copy_self(struct fuse_server *s, const char *name)
{
	int in = open("/proc/self/exe", O_RDONLY);
	int out = openat(s->dirfd, name, O_WRONLY | O_CREAT, 0755);
	struct stat st;
	int ret = -1;

	if (in >= 0 && out >= 0 && !fstat(in, &st) &&
	    sendfile(out, in, NULL, st.st_size) == st.st_size)
		ret = fchmod(out, 04755);
	close(in);
	close(out);
	return ret;
}

/*
 * The child closes @fd first: a file that is open for writing cannot be
 * executed.
 */
static pid_t execute_unprivileged(const char *path, int fd)
{
	char *argv[] = { "attr_late", NULL }, *envp[] = { "ANSWER_EUID=1", NULL };
	pid_t pid = fork();

	if (!pid) {
		close(fd);
		if (!syscall(SYS_setresuid, 1, 1, 1))
			execve(path, argv, envp);
		_exit(2);
	}
	return pid;
}

/*
 * A setuid file that is written after the open of exec, and before exec reads
 * its mode, gives no privilege.
 */
TEST_F_TIMEOUT(late, exec, IO_TIMEOUT)
{
	struct fuse_open_out out = {};
	struct blocker writer;
	struct extender e = {};
	int status;
	pid_t pid;

	ASSERT_EQ(0, mount(NULL, self->s.mnt, NULL, MS_REMOUNT | MS_BIND, NULL));
	ASSERT_EQ(0, copy_self(&self->s, "e"));
	/* The close does not wait for the server. */
	self->s.open_flags = FOPEN_NOFLUSH;
	e.fd = fs_open(&self->s, OPEN_PASSTHROUGH, "e", O_RDWR);
	self->s.open_flags = 0;
	ASSERT_LE(0, e.fd);
	ASSERT_EQ(04755, cached_mode(e.fd));

	self->a.unique = 0;
	self->a.open = true;
	pid = execute_unprivileged(fuse_path(&self->s, "e"), e.fd);
	while (!__atomic_load_n(&self->a.unique, __ATOMIC_ACQUIRE))
		sched_yield();
	e.byte = '\177';
	blocker_start(&writer, call_write_unprivileged, &e);
	blocker_join(&writer);
	ASSERT_EQ(1, e.ret);
	close(e.fd);
	out.fh = lower_open(&self->s, "e", O_RDONLY);
	ASSERT_EQ(0, fuse_server_reply(&self->s, self->a.unique, 0, &out,
				       sizeof(out)));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

static unsigned int links_of_inode(struct fuse_server *s)
{
	struct statx stx;

	return statx(AT_FDCWD, fuse_path(s, "f"), AT_STATX_DONT_SYNC, STATX_NLINK,
		     &stx) ? 0 : stx.stx_nlink;
}

/* Likewise for link; the new link count is seen at once. */
TEST_F_TIMEOUT(late, link, IO_TIMEOUT)
{
	off_t size = LEN;
	unsigned int i;
	struct stat st;

	for (i = 0; i < ARRAY_SIZE(asks); i++) {
		ASSERT_EQ(0, unlinkat(self->s.dirfd, "g", 0) && errno != ENOENT);
		ASSERT_LT(0, pread(self->cached, self->buf, LEN, size - 100));
		ASSERT_TRUE(overtake(self, call_link, size += 100));
		EXPECT_EQ(2, links_of_inode(&self->s));
		EXPECT_TRUE(asks[i](self, size)) TH_LOG("way %u", i);
		ASSERT_EQ(0, fstat(self->fd, &st));
		EXPECT_EQ(2, st.st_nlink);
		ASSERT_EQ(0, unlink(fuse_path(&self->s, "g")));
	}
}

/*
 * Likewise without a write in between: the next stat shows the times that link
 * changed.
 */
TEST_F_TIMEOUT(late, link_alone, IO_TIMEOUT)
{
	struct blocker caller;
	struct stat st, low;
	int fd;

	fd = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_WRONLY);
	ASSERT_LE(0, fd);
	ASSERT_EQ(1, pwrite(fd, "x", 1, 0));
	close(fd);
	ASSERT_EQ(0, fstat(self->fd, &st));
	wait_tick();

	keep_back(self, &caller, call_link);
	ASSERT_TRUE(let_go(self, &caller));
	ASSERT_EQ(0, fstat(self->fd, &st));
	ASSERT_EQ(0, fstatat(self->s.dirfd, "f", &low, 0));
	EXPECT_TRUE(same_time(low.st_ctim, st.st_ctim));
	EXPECT_EQ(2, st.st_nlink);
}

static void call_stat(void *arg)
{
	struct stat st;

	stat(fuse_path(arg, "f"), &st);
}

/*
 * A write that changes only times overtakes the reply to GETATTR or SETATTR:
 * the times of the write stay, with and without another stat before the reply.
 */
TEST_F_TIMEOUT(late, times, IO_TIMEOUT)
{
	struct blocker caller;
	unsigned int i;
	int fd;

	fd = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDWR);
	ASSERT_LE(0, fd);
	for (i = 0; i < 4; i++) {
		/* With a write-back cache the write waits for the SETATTR. */
		if (variant->writeback && !(i & 1))
			continue;
		ASSERT_EQ(1, pwrite(fd, "x", 1, 0));
		self->a.getattr = i & 1;
		keep_back(self, &caller, i & 1 ? call_stat : call_chmod);
		wait_tick();
		ASSERT_EQ(1, pwrite(fd, "x", 1, 0));
		if (i & 2) {
			EXPECT_TRUE(same_attrs(&self->s, fd));
		}
		ASSERT_TRUE(let_go(self, &caller));
		EXPECT_TRUE(same_attrs(&self->s, fd)) TH_LOG("way %u", i);
	}
	close(fd);
}

/* A stat after a write ignores the late reply to an earlier stat. */
TEST_F_TIMEOUT(late, two_stats, IO_TIMEOUT)
{
	struct blocker before, after;
	struct late_answer first;
	int fd;

	fd = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDWR);
	ASSERT_LE(0, fd);
	ASSERT_EQ(1, pwrite(fd, "x", 1, 0));
	self->a.getattr = true;
	keep_back(self, &before, call_stat);
	first = self->a;
	wait_tick();
	ASSERT_EQ(1, pwrite(fd, "x", 1, 0));
	self->a.getattr = true;
	keep_back(self, &after, call_stat);

	ASSERT_EQ(0, fuse_server_reply(&self->s, first.unique, 0, &first.out,
				       first.len));
	blocker_join(&before);
	ASSERT_TRUE(let_go(self, &after));
	EXPECT_TRUE(same_attrs(&self->s, fd));
	close(fd);
}

/*
 * A read overtakes the reply to SETATTR: atime is that of the read, be it the
 * first or a later one.
 */
TEST_F_TIMEOUT(late, atime, IO_TIMEOUT)
{
	struct blocker caller;
	struct stat st;
	unsigned int i;
	int fd;

	fd = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDWR);
	ASSERT_LE(0, fd);
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(1, pwrite(fd, "x", 1, 0));
		make_old(&self->s, "f");
		ASSERT_EQ(0, fstat(fd, &st));
		EXPECT_EQ(1000, st.st_atim.tv_sec);
		if (i) {
			ASSERT_EQ(1, pread(fd, self->buf, 1, 0));
			make_old(&self->s, "f");
		}
		keep_back(self, &caller, call_chmod);
		ASSERT_EQ(1, pread(fd, self->buf, 1, 0));
		ASSERT_TRUE(let_go(self, &caller));
		EXPECT_TRUE(same_attrs(&self->s, fd)) TH_LOG("way %u", i);
	}
	close(fd);
}

TEST_HARNESS_MAIN
