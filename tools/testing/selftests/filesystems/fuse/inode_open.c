// SPDX-License-Identifier: GPL-2.0
/*
 * OPEN attached: the kernel opens the lower file itself, with the permissions
 * of both the client and the server.  The server sees neither the open nor its
 * close.
 */
#define _GNU_SOURCE
#include <linux/fs.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/xattr.h>

#include "inode_test.h"
#include "../../kselftest_harness.h"

#define LEN	(4 * PAGE)
#define OPS	(OP(GETATTR) | OP(OPEN))

FIXTURE(inode_open) {
	struct fuse_server s;
	char *buf;
};

FIXTURE_VARIANT(inode_open) { bool writeback, atomic_trunc; };
FIXTURE_VARIANT_ADD(inode_open, plain) { .writeback = false };
FIXTURE_VARIANT_ADD(inode_open, writeback) { .writeback = true };
FIXTURE_VARIANT_ADD(inode_open, atomic_o_trunc) { .atomic_trunc = true };

static void init_atomic(struct fuse_server *s, struct fuse_init_out *out)
{
	out->flags |= FUSE_ATOMIC_O_TRUNC;
}

FIXTURE_SETUP(inode_open)
{
	struct fuse_server *s = &self->s;

	s->writeback = variant->writeback;
	if (variant->atomic_trunc)
		s->init = init_atomic;
	ASSERT_EQ(0, serve_inodes(s));
	s->how = OPEN_CACHED;
	ASSERT_EQ(0, lower_make(s, "f", LEN, 1));
	self->buf = pages(2 * LEN);
	ASSERT_NE(NULL, self->buf);
	fuse_server_node(s, "f")->ops = OPS;
	ASSERT_EQ(0, lookup(s, "f"));
	ASSERT_EQ(0, s->inode_error);
	ASSERT_EQ(2, inodes_attached(s));
	/* The server answers ENOSYS, and the kernel sends no further GETXATTR. */
	getxattr(fuse_path(s, "f"), "user.x", self->buf, 1);
}

FIXTURE_TEARDOWN(inode_open)
{
	fuse_server_stop(&self->s);
}

static int try_open_lower(struct fuse_server *s, const char *name, int flags)
{
	int fd = open(lower_path(s, name), flags | O_CLOEXEC);
	int err = fd < 0 ? errno : 0;

	close(fd);
	return err;
}

/* Open, read, write, mmap, lseek, stat and close send no request. */
TEST_F_TIMEOUT(inode_open, no_request, IO_TIMEOUT)
{
	static const int modes[] = { O_RDONLY, O_WRONLY, O_RDWR };
	struct fuse_server *s = &self->s;
	unsigned long requests = fuse_server_requests(s);
	unsigned int i;
	struct stat st;
	char *p;
	int fd;

	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		fd = open_f(s, modes[i]);
		ASSERT_LE(0, fd);
		if (modes[i] != O_RDONLY)
			EXPECT_TRUE(writes_pattern(s, fd, "f", LEN, i, true));
		if (modes[i] != O_WRONLY)
			EXPECT_TRUE(reads_pattern(s, fd, LEN, i ?: 1, true));
		if (modes[i] == O_RDWR) {
			p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
			ASSERT_NE(MAP_FAILED, p);
			pattern(p, LEN, 0, 7);
			munmap(p, LEN);
			EXPECT_EQ(-1, lower_differs(s, "f", 0, LEN, 7));
		}
		EXPECT_EQ(0, fstat(fd, &st));
		EXPECT_EQ(LEN, lseek(fd, 0, SEEK_END));
		EXPECT_EQ(0, close(fd));
	}
	EXPECT_EQ(requests, fuse_server_requests(s));
	EXPECT_EQ(0, fuse_server_count(s, FUSE_OPEN));
	EXPECT_EQ(0, fuse_server_count(s, FUSE_RELEASE));
	EXPECT_EQ(0, fuse_server_count(s, FUSE_FLUSH));
}

/* fdinfo shows an open by inode as it shows any passthrough file. */
TEST_F_TIMEOUT(inode_open, visible, IO_TIMEOUT)
{
	char path[64], buf[4096] = "", want[512];
	int fd = open_f(&self->s, O_RDWR), info;

	ASSERT_LE(0, fd);
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	info = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LT(0, read(info, buf, sizeof(buf) - 1));
	close(info);
	snprintf(want, sizeof(want), "passthrough-lower:\t%s\n",
		 lower_path(&self->s, "f"));
	EXPECT_NE(NULL, strstr(buf, want)) TH_LOG("%s", buf);
	EXPECT_NE(NULL, strstr(buf, "passthrough-attach:\tinode\n")) TH_LOG("%s", buf);
	close(fd);
}

/* O_TRUNC truncates the lower file without a request, with and without FUSE_ATOMIC_O_TRUNC. */
TEST_F_TIMEOUT(inode_open, truncates, IO_TIMEOUT)
{
	static const int flags[] = { O_WRONLY, O_RDWR, O_RDONLY, O_RDWR | O_CREAT };
	struct fuse_server *s = &self->s;
	unsigned long requests = fuse_server_requests(s);
	struct stat low;
	unsigned int i;
	int fd, other;

	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		ASSERT_EQ(0, lower_make(s, "f", LEN, 1));
		other = open_f(s, O_RDONLY);
		ASSERT_EQ(LEN, pread(other, self->buf, 2 * LEN, 0));
		fd = open(fuse_path(s, "f"), flags[i] | O_TRUNC | O_CLOEXEC, 0600);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, fstatat(s->dirfd, "f", &low, 0));
		EXPECT_EQ(0, low.st_size) TH_LOG("case %u", i);
		EXPECT_EQ(0, size_of(fd));
		EXPECT_EQ(0, pread(other, self->buf, LEN, 0));
		if (flags[i] != O_RDONLY) {
			EXPECT_EQ(10, write(fd, self->buf, 10));
			EXPECT_EQ(10, size_of(fd));
		}
		close(other);
		close(fd);
	}
	EXPECT_EQ(requests, fuse_server_requests(s));
}

/* O_TRUNC drops setuid and setgid bits as on the lower file system, for each client. */
TEST_F_TIMEOUT(inode_open, truncate_takes_bits, IO_TIMEOUT)
{
	static const mode_t modes[] = { 04777, 02777, 06777, 02666, 06666, 0666 };
	struct fuse_server *s = &self->s;
	enum client client;
	unsigned int i;
	int f, peer;

	for (client = 0; client < CLIENTS; client++) {
		for (i = 0; i < ARRAY_SIZE(modes); i++) {
			ASSERT_TRUE(pair_make(s, modes[i], USER, GROUP));
			client_become(client);
			peer = try_open_lower(s, "peer", O_WRONLY | O_TRUNC);
			f = try_open(s, O_WRONLY | O_TRUNC);
			thread_become_root();
			EXPECT_EQ(peer, f);
			EXPECT_TRUE(pair_alike(s))
				TH_LOG("client %d, mode %o", client, modes[i]);
		}
	}
	EXPECT_EQ(0, fuse_server_count(s, FUSE_SETATTR));
	EXPECT_EQ(0, fuse_server_count(s, FUSE_OPEN));
}

/* With FUSE_PASSTHROUGH_RDONLY, opens for writing and opens with O_TRUNC go to the server. */
TEST_F_TIMEOUT(inode_open, rdonly, IO_TIMEOUT)
{
	static const struct { int flags; int asks; } c[] = {
		{ O_RDONLY, 0 }, { O_WRONLY, 1 }, { O_RDWR, 1 }, { O_RDONLY | O_TRUNC, 1 },
		{ O_RDONLY | O_NOATIME, 0 }, { O_RDONLY, 0 },
	};
	struct fuse_server *s = &self->s;
	unsigned long opens;
	unsigned int i;

	s->attach_in = OP(LOOKUP);
	fuse_server_node(s, "f")->flags = FUSE_PASSTHROUGH_RDONLY;
	ASSERT_EQ(0, inode_detach(s, "f"));
	ASSERT_EQ(0, forget_dentry(s, "f"));
	ASSERT_EQ(0, lookup(s, "f"));
	ASSERT_EQ(0, s->inode_error);
	for (i = 0; i < ARRAY_SIZE(c); i++) {
		opens = fuse_server_count(s, FUSE_OPEN);
		EXPECT_EQ(0, try_open(s, c[i].flags));
		EXPECT_EQ(opens + c[i].asks, fuse_server_count(s, FUSE_OPEN))
			TH_LOG("case %u", i);
	}
}

/*
 * If the answer to CREATE or TMPFILE attaches OPEN to the new inode, that open
 * is an open by inode: its I/O sends no request, and its close no RELEASE.
 */
TEST_F_TIMEOUT(inode_open, created, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	static const int opcodes[] = { FUSE_CREATE, FUSE_TMPFILE };
	unsigned long requests;
	unsigned int i;
	int fd;

	s->new_ops = OPS;
	for (i = 0; i < ARRAY_SIZE(opcodes); i++) {
		fd = open_as(s, opcodes[i]);
		/* overlayfs of 6.1 has no TMPFILE. */
		if (opcodes[i] == FUSE_TMPFILE && fd < 0 && errno == EOPNOTSUPP)
			continue;
		ASSERT_LE(0, fd);
		EXPECT_EQ(0, s->inode_error);
		EXPECT_EQ(3, inodes_attached(s));
		requests = fuse_server_requests(s);
		pattern(self->buf, LEN, 0, 3);
		EXPECT_EQ(LEN, pwrite(fd, self->buf, LEN, 0));
		EXPECT_EQ(LEN, size_of(fd));
		EXPECT_TRUE(reads_pattern(s, fd, LEN, 3, true));
		EXPECT_EQ(3, inodes_attached(s));
		close(fd);
		EXPECT_EQ(requests, fuse_server_requests(s)) TH_LOG("opcode %d", opcodes[i]);
		EXPECT_EQ(0, fuse_server_count(s, FUSE_RELEASE));
		inode_detach(s, "new");
	}
	EXPECT_EQ(-1, lower_differs(s, "new", 0, LEN, 3));
}

/* For each client, mode and access mode an open ends as on the lower file system. */
TEST_F_TIMEOUT(inode_open, clients_rights, IO_TIMEOUT)
{
	static const mode_t modes[] = { 0644, 0640, 0600, 0444, 0222, 0000, 0060, 0604 };
	static const int flags[] = {
		O_RDONLY, O_WRONLY, O_RDWR, O_RDONLY | O_TRUNC, O_WRONLY | O_APPEND,
		O_RDONLY | O_NOATIME, O_ACCMODE,
	};
	struct fuse_server *s = &self->s;
	unsigned long requests;
	enum client client;
	unsigned int i, j;
	int f, peer;

	ASSERT_TRUE(pair_make(s, 0644, USER, GROUP));
	requests = fuse_server_requests(s);
	for (client = 0; client < CLIENTS; client++) {
		for (i = 0; i < ARRAY_SIZE(modes); i++) {
			ASSERT_EQ(0, fchmodat(s->dirfd, "f", modes[i], 0));
			ASSERT_EQ(0, fchmodat(s->dirfd, "peer", modes[i], 0));
			for (j = 0; j < ARRAY_SIZE(flags); j++) {
				client_become(client);
				peer = try_open_lower(s, "peer", flags[j]);
				f = try_open(s, flags[j]);
				thread_become_root();
				EXPECT_EQ(peer, f)
					TH_LOG("client %d, mode %o, flags %o", client,
					       modes[i], flags[j]);
			}
		}
	}
	EXPECT_EQ(requests, fuse_server_requests(s));
}

/*
 * Root's open through an unprivileged server ends as that server's own open of
 * the lower file.
 */
TEST_F_TIMEOUT(inode_open, servers_rights, IO_TIMEOUT)
{
	static const mode_t modes[] = { 0644, 0640, 0600, 0444, 0222, 0000, 0604, 0666 };
	static const int flags[] = {
		O_RDONLY, O_WRONLY, O_RDWR, O_RDONLY | O_TRUNC, O_WRONLY | O_APPEND,
		O_RDONLY | O_NOATIME, O_ACCMODE,
	};
	struct fuse_server *s = &self->s;
	unsigned int i, j, owned;
	int f, peer;

	ASSERT_EQ(0, inode_detach(s, "f"));
	ASSERT_EQ(0, inode_attach_as(s, "f", USER, OPS));
	for (owned = 0; owned < 2; owned++) {
		for (i = 0; i < ARRAY_SIZE(modes); i++) {
			for (j = 0; j < ARRAY_SIZE(flags); j++) {
				ASSERT_TRUE(pair_make(s, modes[i], owned ? USER : 0, 0));
				f = try_open(s, flags[j]);
				client_become(OWNER);
				peer = try_open_lower(s, "peer", flags[j]);
				thread_become_root();
				EXPECT_EQ(peer, f)
					TH_LOG("owned %u, mode %o, flags %o", owned,
					       modes[i], flags[j]);
				if (f && (flags[j] & O_TRUNC))
					EXPECT_EQ(-1, lower_differs(s, "f", 0, BLOCK, 1));
			}
		}
	}
	EXPECT_EQ(0, fuse_server_count(s, FUSE_OPEN));
}

/* Opens of append-only and immutable files end as on the lower file system. */
TEST_F_TIMEOUT(inode_open, append_only_and_immutable, IO_TIMEOUT)
{
	static const int file_flags[] = { FS_APPEND_FL, FS_IMMUTABLE_FL };
	static const int flags[] = {
		O_RDONLY, O_WRONLY, O_RDWR, O_WRONLY | O_APPEND, O_RDWR | O_APPEND,
		O_RDONLY | O_TRUNC, O_WRONLY | O_APPEND | O_TRUNC,
	};
	struct fuse_server *s = &self->s;
	unsigned int i, j;
	int fd;

	for (i = 0; i < ARRAY_SIZE(file_flags); i++) {
		ASSERT_TRUE(pair_make(s, 0644, 0, 0));
		if (lower_flags(s, "f", file_flags[i]))
			SKIP(return, "append_only_and_immutable");
		ASSERT_EQ(0, lower_flags(s, "peer", file_flags[i]));
		for (j = 0; j < ARRAY_SIZE(flags); j++)
			EXPECT_EQ(try_open_lower(s, "peer", flags[j]),
				  try_open(s, flags[j]))
				TH_LOG("flag %u, open %o", i, flags[j]);
		EXPECT_EQ(-1, lower_differs(s, "f", 0, BLOCK, 1));
		if (!i) {
			/*
			 * F_SETFL must not make a write to an append-only file
			 * overwrite data.
			 */
			fd = open_f(s, O_RDWR | O_APPEND);
			ASSERT_LE(0, fd);
			fcntl(fd, F_SETFL, 0);
			pwrite(fd, self->buf, 5, 0);
			EXPECT_EQ(-1, lower_differs(s, "f", 0, BLOCK, 1));
			close(fd);
		}
		ASSERT_EQ(0, lower_flags(s, "f", 0));
		ASSERT_EQ(0, lower_flags(s, "peer", 0));
	}
}

/*
 * Through a read-only mount of the lower file system an open for reading
 * succeeds; an open for writing is EROFS.
 */
TEST_F_TIMEOUT(inode_open, read_only_mount, IO_TIMEOUT)
{
	char at[] = "/tmp/ro.XXXXXX", path[64];
	struct fuse_server *s = &self->s;

	ASSERT_NE(NULL, mkdtemp(at));
	ASSERT_EQ(0, mount(s->lower, at, NULL, MS_BIND, NULL));
	ASSERT_EQ(0, mount(NULL, at, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL));
	snprintf(path, sizeof(path), "%s/f", at);
	ASSERT_EQ(0, inode_detach(s, "f"));
	ASSERT_EQ(0, inode_attach_path(s, "f", path, OPS));
	EXPECT_EQ(0, try_open(s, O_RDONLY));
	EXPECT_EQ(EROFS, try_open(s, O_WRONLY));
	EXPECT_EQ(EROFS, try_open(s, O_RDWR));
	EXPECT_EQ(EROFS, try_open(s, O_RDONLY | O_TRUNC));
	EXPECT_EQ(-1, lower_differs(s, "f", 0, LEN, 1));
	EXPECT_EQ(0, inode_detach(s, "f"));
	umount(at);
	rmdir(at);
}

static int lease_breaks;

static void on_lease_break(int sig)
{
	lease_breaks++;
}

static void open_for_writing(void *arg)
{
	if (try_open(arg, O_WRONLY))
		abort();
}

/*
 * An open for writing breaks a lease of the lower file, and waits until the
 * lease is released; with O_NONBLOCK the open is EWOULDBLOCK.
 */
TEST_F_TIMEOUT(inode_open, breaks_lease, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	int fd = lower_open(s, "f", O_RDONLY);
	struct blocker b;

	lease_breaks = 0;
	signal(SIGIO, on_lease_break);
	ASSERT_EQ(0, fcntl(fd, F_SETLEASE, F_RDLCK));
	EXPECT_EQ(0, try_open(s, O_RDONLY));
	EXPECT_EQ(0, lease_breaks);
	EXPECT_EQ(EWOULDBLOCK, try_open(s, O_WRONLY | O_NONBLOCK));
	EXPECT_EQ(1, lease_breaks);
	EXPECT_TRUE(blocker_start(&b, open_for_writing, s));
	EXPECT_EQ(0, fcntl(fd, F_SETLEASE, F_UNLCK));
	blocker_join(&b);
	close(fd);
}

/*
 * An open with O_DIRECT is EINVAL if the lower file has no O_DIRECT; otherwise
 * its I/O is direct.
 */
TEST_F_TIMEOUT(inode_open, direct, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	int low = lower_open(s, "f", O_RDONLY | O_DIRECT), fd;
	struct own_fs fs;

	EXPECT_EQ(low < 0 ? EINVAL : 0, try_open(s, O_RDWR | O_DIRECT));
	fd = open_f(s, O_RDWR | O_DIRECT);
	if (fd >= 0) {
		EXPECT_EQ(BLOCK, pread(fd, self->buf, BLOCK, 0));
		EXPECT_EQ(-1, pattern_differs(self->buf, BLOCK, 0, 1));
		/* overlayfs may ignore O_DIRECT of an iocb. */
		if (!lower_is(s, OVERLAYFS_SUPER_MAGIC))
			EXPECT_EQ(pread(low, self->buf + 1, BLOCK, 0),
				  pread(fd, self->buf + 1, BLOCK, 0));
	}
	close(low);
	close(fd);

	ASSERT_TRUE(own_fs_mount(&fs));
	low = open(fs.path, O_RDWR | O_CLOEXEC);
	ASSERT_EQ(0, inode_detach(s, "f"));
	ASSERT_EQ(0, inode_attach_path(s, "f", fs.path, OPS));
	EXPECT_EQ(can_direct(low) ? 0 : EINVAL, try_open(s, O_RDWR | O_DIRECT));
	close(low);
	EXPECT_EQ(0, inode_detach(s, "f"));
	EXPECT_TRUE(own_fs_free(&fs));
	own_fs_end(&fs);
}

/*
 * An unlinked inode stays attached while it is open by inode; a stat after the
 * last close detaches it.
 */
TEST_F_TIMEOUT(inode_open, no_link, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	int fd = open_f(s, O_RDWR), fd2 = dup(fd);
	int opath = open(fuse_path(s, "f"), O_PATH | O_CLOEXEC);
	unsigned long asked = fuse_server_count(s, FUSE_GETATTR);
	struct stat st;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, unlinkat(s->dirfd, "f", 0));
	ASSERT_EQ(0, fstat(fd, &st));
	EXPECT_EQ(0, st.st_nlink);
	EXPECT_EQ(2, inodes_attached(s));
	close(fd);
	ASSERT_EQ(0, fstat(fd2, &st));
	EXPECT_EQ(2, inodes_attached(s));
	EXPECT_TRUE(reads_pattern(s, fd2, LEN, 1, true));
	close(fd2);
	fstat(opath, &st);
	EXPECT_EQ(1, inodes_attached(s));
	EXPECT_EQ(asked, fuse_server_count(s, FUSE_GETATTR));
	close(opath);
}

/* An open by inode outlives the detach, and then alone pins the lower file system. */
TEST_F_TIMEOUT(inode_open, outlives_detach, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	struct own_fs fs;
	int fd;

	ASSERT_TRUE(own_fs_mount(&fs));
	ASSERT_EQ(0, inode_detach(s, "f"));
	ASSERT_EQ(0, inode_attach_path(s, "f", fs.path, OPS));
	fd = open_f(s, O_RDWR);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, inode_detach(s, "f"));
	EXPECT_TRUE(own_fs_busy(&fs));
	EXPECT_TRUE(reads_pattern(s, fd, OWN_FS_LEN, OWN_FS_SEED, true));
	close(fd);
	EXPECT_EQ(0, fuse_server_count(s, FUSE_RELEASE));
	EXPECT_TRUE(own_fs_free(&fs));
	/* Later opens go to the server. */
	fuse_server_node(s, "f")->ops = 0;
	EXPECT_EQ(0, try_open(s, O_RDONLY));
	EXPECT_EQ(1, fuse_server_count(s, FUSE_OPEN));
	own_fs_end(&fs);
}

/* After an abort, open files still work, and new opens are ENOTCONN. */
TEST_F_TIMEOUT(inode_open, not_connected, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	int busy = open(s->mnt, O_PATH | O_CLOEXEC);
	int fd = open_f(s, O_RDWR);

	ASSERT_LE(0, fd);
	fuse_server_die(s);
	EXPECT_EQ(0, inodes_attached(s));
	pattern(self->buf, LEN, 0, 2);
	EXPECT_EQ(LEN, pwrite(fd, self->buf, LEN, 0));
	EXPECT_TRUE(reads_pattern(s, fd, LEN, 2, true));
	EXPECT_EQ(0, fsync(fd));
	EXPECT_EQ(ENOTCONN, try_open(s, O_RDONLY));
	EXPECT_EQ(ENOTCONN, try_open(s, O_RDWR | O_TRUNC));
	EXPECT_EQ(0, close(fd));
	EXPECT_EQ(-1, lower_differs(s, "f", 0, LEN, 2));
	close(busy);
}

static void lock_f(void *arg)
{
	struct fuse_server *s = arg;
	int fd = open_f(s, O_RDWR);

	if (flock(fd, LOCK_EX))
		abort();
	close(fd);
}

static int try_setlk(int fd)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	return fcntl(fd, F_SETLK, &l) ? errno : 0;
}

/*
 * The kernel alone handles flock and POSIX locks of an open by inode: the close
 * releases them without a request.
 */
TEST_F_TIMEOUT(inode_open, locks, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	int fd[2] = { open_f(s, O_RDWR), open_f(s, O_RDWR) };
	struct blocker b;
	int status;
	pid_t pid;

	ASSERT_LE(0, fd[1]);
	ASSERT_EQ(0, flock(fd[0], LOCK_EX));
	EXPECT_EQ(-1, flock(fd[1], LOCK_EX | LOCK_NB));
	EXPECT_TRUE(blocker_start(&b, lock_f, s));
	close(fd[0]);
	blocker_join(&b);
	EXPECT_EQ(0, flock(fd[1], LOCK_EX | LOCK_NB));

	EXPECT_EQ(0, try_setlk(fd[1]));
	pid = fork();
	if (!pid)
		_exit(try_setlk(open_f(s, O_RDWR)));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(EAGAIN, WEXITSTATUS(status));
	/* The close of any descriptor of the file by this process releases its locks. */
	close(open_f(s, O_RDONLY));
	pid = fork();
	if (!pid)
		_exit(try_setlk(open_f(s, O_RDWR)));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, WEXITSTATUS(status));
	close(fd[1]);
	EXPECT_EQ(0, fuse_server_count(s, FUSE_SETLK));
	EXPECT_EQ(0, fuse_server_count(s, FUSE_FLUSH));
}

/* The handle in requests on an open that the server has not seen */
struct handles {
	int opcode;
	uint64_t fh;
	bool told;		/* the request has a handle */
};

static bool note_handle(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct handles *h = s->arg;
	const void *body = in + 1;

	if (in->opcode != (uint32_t)h->opcode)
		return false;
	h->told = true;
	switch (in->opcode) {
	case FUSE_SETATTR:
		h->told = ((const struct fuse_setattr_in *)body)->valid & FATTR_FH;
		h->fh = ((const struct fuse_setattr_in *)body)->fh;
		break;
	case FUSE_FSYNC:
		h->fh = ((const struct fuse_fsync_in *)body)->fh;
		break;
	case FUSE_FALLOCATE:
		h->fh = ((const struct fuse_fallocate_in *)body)->fh;
		break;
	case FUSE_LSEEK:
		h->fh = ((const struct fuse_lseek_in *)body)->fh;
		break;
	case FUSE_COPY_FILE_RANGE:
		h->fh = ((const struct fuse_copy_file_range_in *)body)->fh_in |
			((const struct fuse_copy_file_range_in *)body)->fh_out;
		break;
	case FUSE_IOCTL:
		h->fh = ((const struct fuse_ioctl_in *)body)->fh;
		break;
	}
	return false;
}

/*
 * Operations without their bit go to the server.  They have the handle 0, since
 * the server has not seen the open; SETATTR has no handle.
 */
TEST_F_TIMEOUT(inode_open, handle_0, IO_TIMEOUT)
{
	static const int opcodes[] = {
		FUSE_SETATTR, FUSE_FSYNC, FUSE_FALLOCATE, FUSE_LSEEK, FUSE_COPY_FILE_RANGE,
		FUSE_IOCTL,
	};
	struct fuse_server *s = &self->s;
	struct handles h = {};
	unsigned long before;
	unsigned int i;
	int fd, flags;

	fd = open_f(s, O_RDWR);
	ASSERT_LE(0, fd);
	s->arg = &h;
	s->request = note_handle;
	for (i = 0; i < ARRAY_SIZE(opcodes); i++) {
		loff_t in = 0, out = LEN;

		before = fuse_server_count(s, opcodes[i]);
		h = (struct handles) { .opcode = opcodes[i], .fh = 5 };
		switch (opcodes[i]) {
		case FUSE_SETATTR:
			EXPECT_EQ(0, fchmod(fd, 0640));
			EXPECT_FALSE(h.told);
			break;
		case FUSE_FSYNC:
			EXPECT_EQ(0, fsync(fd));
			break;
		case FUSE_FALLOCATE:
			EXPECT_EQ(0, fallocate(fd, 0, 0, LEN));
			break;
		case FUSE_LSEEK:
			EXPECT_EQ(0, lseek(fd, 0, SEEK_DATA));
			break;
		case FUSE_COPY_FILE_RANGE:
			EXPECT_EQ(10, copy_file_range(fd, &in, fd, &out, 10, 0));
			break;
		case FUSE_IOCTL:
			EXPECT_EQ(-1, ioctl(fd, _IOR('t', 1, int), &flags));
			break;
		}
		EXPECT_LT(before, fuse_server_count(s, opcodes[i]))
			TH_LOG("opcode %d", opcodes[i]);
		EXPECT_EQ(0, h.fh) TH_LOG("opcode %d", opcodes[i]);
	}
	close(fd);
	EXPECT_EQ(0, fuse_server_count(s, FUSE_OPEN));
	EXPECT_EQ(0, fuse_server_count(s, FUSE_RELEASE));
}

/* Earlier cached opens and opens by inode see each other's writes and sizes. */
TEST_F_TIMEOUT(inode_open, mixed, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	int cached, fd;

	ASSERT_EQ(0, inode_detach(s, "f"));
	s->attach_in = 0;
	cached = fs_open(s, OPEN_CACHED, "f", O_RDWR);
	ASSERT_LE(0, cached);
	ASSERT_EQ(0, inode_attach(s, "f", OPS));
	fd = open_f(s, O_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_EQ(1, fuse_server_count(s, FUSE_OPEN));

	pattern(self->buf, LEN, 0, 2);
	ASSERT_EQ(LEN, pwrite(cached, self->buf, LEN, 0));
	EXPECT_TRUE(reads_pattern(s, fd, LEN, 2, true));
	EXPECT_EQ(LEN, pread(cached, self->buf, LEN, 0));
	EXPECT_TRUE(writes_pattern(s, fd, "f", LEN, 3, true));
	EXPECT_EQ(LEN, pread(cached, self->buf, LEN, 0));
	EXPECT_EQ(-1, pattern_differs(self->buf, LEN, 0, 3));
	pattern(self->buf, LEN, LEN, 3);
	ASSERT_EQ(LEN, pwrite(fd, self->buf, LEN, LEN));
	EXPECT_EQ(2 * LEN, size_of(cached));
	EXPECT_EQ(LEN, pread(cached, self->buf, LEN, LEN));
	EXPECT_EQ(-1, pattern_differs(self->buf, LEN, LEN, 3));
	close(fd);
	close(cached);
	EXPECT_EQ(-1, lower_differs(s, "f", 0, 2 * LEN, 3));
}

TEST_HARNESS_MAIN
