// SPDX-License-Identifier: GPL-2.0
/*
 * Requests whose answers attach a lower file to an inode: by which task and
 * device, and answers that do not attach.
 */
#define _GNU_SOURCE
#include <string.h>
#include <sys/statfs.h>

#include "inode_test.h"
#include "../../kselftest_harness.h"

#define LEN	10000
#define GET	OP(GETATTR)

FIXTURE(inode_request) {
	struct fuse_server s;
	struct attempt a;
	struct own_fs fs;
};

FIXTURE_SETUP(inode_request)
{
	self->s.permissions = true;
	ASSERT_EQ(0, serve_attempts(&self->s, &self->a, LEN, LEN / 2));
	ASSERT_EQ(0, mkdirat(self->s.dirfd, "d", 0755));
	ASSERT_EQ(0, symlinkat("f", self->s.dirfd, "l"));
	ASSERT_TRUE(own_fs_mount(&self->fs));
	self->a.fs = &self->fs;
}

FIXTURE_TEARDOWN(inode_request)
{
	fuse_server_stop(&self->s);
	/* No test leaves a reference to the lower file system. */
	EXPECT_TRUE(own_fs_free(&self->fs));
	own_fs_end(&self->fs);
}

/* Cause a request with this opcode, for "f", "d" or a new name. */
static int send_request(struct fuse_server *s, int opcode)
{
	char path[256];
	struct stat st;
	int fd;

	snprintf(path, sizeof(path), "%s/new", s->mnt);
	switch (opcode) {
	case FUSE_LOOKUP:
		return stat(fuse_path(s, "f"), &st);
	case FUSE_GETATTR:
		return stat_costs(s, "f", FUSE_GETATTR) != 1;
	case FUSE_MKNOD:
		return mknod(path, S_IFREG | 0644, 0);
	case FUSE_MKDIR:
		return mkdir(path, 0755);
	case FUSE_SYMLINK:
		return symlink("f", path);
	case FUSE_LINK:
		return link(fuse_path(s, "f"), path);
	case FUSE_OPENDIR:
		fd = open(fuse_path(s, "d"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		break;
	default:
		fd = open_as(s, opcode);
	}
	if (fd >= 0)
		close(fd);
	return fd < 0 ? -1 : 0;
}

/* Requests that can carry a lower file for an inode */
static const int carriers[] = {
	FUSE_LOOKUP, FUSE_CREATE, FUSE_MKNOD, FUSE_MKDIR, FUSE_SYMLINK, FUSE_LINK,
	FUSE_TMPFILE, FUSE_GETATTR, FUSE_OPEN, FUSE_OPENDIR,
};

/* The answer to each of these requests attaches to the inode that it is about. */
TEST_F_TIMEOUT(inode_request, each_request, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	struct statx stx;
	unsigned int i;
	int fd;

	s->how = OPEN_CACHED;
	fuse_server_node(s, "f")->ops = GET;
	fuse_server_node(s, "d")->ops = GET;
	s->new_ops = GET;
	for (i = 0; i < ARRAY_SIZE(carriers); i++) {
		const char *name = "new";

		if (carriers[i] == FUSE_TMPFILE)
			continue;
		if (carriers[i] == FUSE_LOOKUP || carriers[i] == FUSE_GETATTR ||
		    carriers[i] == FUSE_OPEN)
			name = "f";
		else if (carriers[i] == FUSE_OPENDIR)
			name = "d";
		s->attach_in = FUSE_PASSTHROUGH_OP(carriers[i]);
		ASSERT_EQ(0, send_request(s, carriers[i]))
			TH_LOG("opcode %d: %d", carriers[i], errno);
		EXPECT_EQ(0, s->inode_error) TH_LOG("opcode %d", carriers[i]);
		EXPECT_EQ(1, inodes_attached(s)) TH_LOG("opcode %d", carriers[i]);
		EXPECT_EQ(0, stat_costs(s, name, FUSE_GETATTR))
			TH_LOG("opcode %d", carriers[i]);
		EXPECT_EQ(0, inode_detach(s, name));
		unlink(fuse_path(s, "new"));
		rmdir(fuse_path(s, "new"));
		/* The next request has to look the names up again. */
		forget_dentry(s, "f");
		forget_dentry(s, "d");
	}

	/* An inode without a name exists while it is open. */
	s->attach_in = OP(TMPFILE);
	fd = open_as(s, FUSE_TMPFILE);
	if (fd < 0 && errno == EOPNOTSUPP)
		return;	/* overlayfs of 6.1 has none */
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, s->inode_error);
	EXPECT_EQ(1, inodes_attached(s));
	i = fuse_server_count(s, FUSE_GETATTR);
	EXPECT_EQ(0, statx(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC,
			   STATX_BASIC_STATS, &stx));
	EXPECT_EQ(i, fuse_server_count(s, FUSE_GETATTR));
	close(fd);
	EXPECT_EQ(0, inodes_attached(s));
}

/* Any other request cannot carry a lower file for an inode: EINVAL. */
TEST_F_TIMEOUT(inode_request, other_requests, IO_TIMEOUT)
{
	static const struct trial t = { "", EINVAL, other, .in = { .ops = GET } };
	static const int opcodes[] = {
		FUSE_READ, FUSE_WRITE, FUSE_STATFS, FUSE_UNLINK, FUSE_RELEASE,
		FUSE_SETATTR, FUSE_READDIR, FUSE_RELEASEDIR, FUSE_RENAME, FUSE_RMDIR,
		FUSE_READLINK,
	};
	struct fuse_server *s = &self->s;
	char buf[256], to[256];
	struct statfs st;
	unsigned int i;
	int fd;

	self->a.t = &t;
	s->request = try_inode;
	snprintf(to, sizeof(to), "%s/renamed", s->mnt);
	for (i = 0; i < ARRAY_SIZE(opcodes); i++) {
		self->a.got = -1;
		self->a.opcode = opcodes[i];
		fd = fs_open(s, OPEN_DIRECT, "x", O_RDWR | O_CREAT);
		ASSERT_LE(0, fd);
		EXPECT_EQ(1, pwrite(fd, "x", 1, 0));
		EXPECT_EQ(1, pread(fd, buf, 1, 0));
		EXPECT_EQ(0, fchmod(fd, 0600));
		close(fd);
		EXPECT_EQ(0, rename(fuse_path(s, "x"), to));
		unlink(to);
		EXPECT_EQ(1, readlink(fuse_path(s, "l"), buf, sizeof(buf)));
		fd = open(s->mnt, O_RDONLY | O_DIRECTORY);
		EXPECT_LT(0, syscall(SYS_getdents64, fd, buf, sizeof(buf)));
		close(fd);
		mkdir(to, 0700);
		rmdir(to);
		/* RELEASE is sent in the background: wait until it is served. */
		fuse_server_wait(s, FUSE_RELEASE, i + 1);
		fuse_server_wait(s, FUSE_RELEASEDIR, i + 1);
		statfs(s->mnt, &st);
		EXPECT_EQ(EINVAL, self->a.got) TH_LOG("opcode %d", opcodes[i]);
		EXPECT_EQ(0, inodes_attached(s));
	}
}

/* Answer the request, and then try to attach to it. */
static bool answer_and_try(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct attempt *a = s->arg;
	struct fuse_attr_out out = {};
	struct fuse_passthrough_inode arg = { .unique = in->unique, .ops = GET };

	if (in->opcode != FUSE_GETATTR || in->nodeid == FUSE_ROOT_ID)
		return false;
	fuse_server_attr(s, in->nodeid, "f", &out.attr);
	fuse_server_reply(s, in->unique, 0, &out, sizeof(out));
	arg.fd = open(a->fs->path, O_PATH | O_CLOEXEC);
	a->got = inode_ioctl(s->dev, &arg);
	close(arg.fd);
	__atomic_store_n(&a->last, in->unique, __ATOMIC_RELEASE);
	return true;
}

/*
 * Right after the answer, and later, an attach to the request is ENOENT, and so
 * is one to the request that comes next, or to no request and no inode.
 */
TEST_F_TIMEOUT(inode_request, answered, IO_TIMEOUT)
{
	struct fuse_passthrough_inode in = { .ops = GET };
	uint64_t last = 0;
	int i;

	ASSERT_EQ(0, lookup(&self->s, "f"));
	self->s.request = answer_and_try;
	in.fd = open(self->fs.path, O_PATH | O_CLOEXEC);
	ASSERT_LE(0, in.fd);
	for (i = 0; i < 50; i++) {
		self->a.got = -1;
		EXPECT_EQ(1, stat_costs(&self->s, "f", FUSE_GETATTR));
		/* The client may go on before the attempt. */
		while (__atomic_load_n(&self->a.last, __ATOMIC_ACQUIRE) == last)
			sched_yield();
		last = self->a.last;
		EXPECT_EQ(ENOENT, self->a.got);
		in.unique = last;
		EXPECT_EQ(ENOENT, inode_ioctl(self->s.dev, &in));
		in.unique = last + 2;
		EXPECT_EQ(ENOENT, inode_ioctl(self->s.dev, &in));
	}
	in.unique = 0;
	EXPECT_EQ(ENOENT, inode_ioctl(self->s.dev, &in));
	close(in.fd);
	EXPECT_EQ(0, inodes_attached(&self->s));
	EXPECT_TRUE(own_fs_free(&self->fs));
}

static bool try_twice(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct attempt *a = s->arg;

	if (in->opcode != (uint32_t)a->opcode)
		return false;
	try_inode(s, in);
	if (a->got)
		return false;
	/* The refused attach keeps no reference to this file. */
	a->given = open(a->fs->path, O_PATH | O_CLOEXEC);
	try_inode(s, in);
	close(a->given);
	return false;
}

static int given_or_other(struct fuse_server *s)
{
	struct attempt *a = s->arg;

	return a->given >= 0 ? dup(a->given) : other(s);
}

/* A second lower file for the same request is EBUSY, and the first one stays. */
TEST_F_TIMEOUT(inode_request, twice, IO_TIMEOUT)
{
	static const struct trial t = { "", EBUSY, given_or_other, .in = { .ops = GET } };
	struct stat st;
	unsigned int i;
	int err;

	self->a.t = &t;
	self->s.how = OPEN_CACHED;
	for (i = 0; i < ARRAY_SIZE(carriers); i++) {
		self->a.opcode = carriers[i];
		self->s.request = NULL;
		if (carriers[i] == FUSE_OPEN || carriers[i] == FUSE_GETATTR)
			ASSERT_EQ(0, lookup(&self->s, "f"));
		self->a.got = -1;
		self->a.given = -1;
		self->s.request = try_twice;
		err = send_request(&self->s, carriers[i]) ? errno : 0;
		/* overlayfs of 6.1 has no TMPFILE. */
		if (carriers[i] == FUSE_TMPFILE && err == EOPNOTSUPP)
			continue;
		ASSERT_EQ(0, err);
		EXPECT_EQ(EBUSY, self->a.got) TH_LOG("opcode %d", carriers[i]);
		if (carriers[i] == FUSE_LOOKUP || carriers[i] == FUSE_OPEN) {
			ASSERT_EQ(0, stat(fuse_path(&self->s, "f"), &st));
			EXPECT_EQ(LEN / 2, st.st_size);
		}
		EXPECT_TRUE(own_fs_free(&self->fs)) TH_LOG("opcode %d", carriers[i]);
		unlink(fuse_path(&self->s, "new"));
		rmdir(fuse_path(&self->s, "new"));
		inode_detach_all(&self->s);
		forget_dentry(&self->s, "f");
	}
}

/* An OPEN can carry a lower file for the open and another one for the inode. */
TEST_F_TIMEOUT(inode_request, beside_an_open, IO_TIMEOUT)
{
	int fd;

	self->s.attach_in = OP(OPEN);
	fuse_server_node(&self->s, "f")->ops = GET;
	fd = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, self->s.inode_error);
	EXPECT_EQ(1, inodes_attached(&self->s));
	EXPECT_TRUE(reads_pattern(&self->s, fd, LEN, 1, true));
	EXPECT_EQ(0, stat_costs(&self->s, "f", FUSE_GETATTR));
	close(fd);
	EXPECT_EQ(1, inodes_attached(&self->s));
}

/*
 * If the inode already has a lower file, or the new lower file has another
 * type, the attach succeeds, and the answer silently drops the new lower file.
 */
TEST_F_TIMEOUT(inode_request, dropped, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	struct fuse_server_node *node = fuse_server_node(s, "f");
	struct stat st;
	unsigned int i;

	s->how = OPEN_CACHED;
	s->entries_expire = true;
	node->ops = GET;
	node->lower = "other";
	ASSERT_EQ(0, stat(fuse_path(s, "f"), &st));
	EXPECT_EQ(LEN / 2, st.st_size);
	node->lower = self->fs.path;
	for (i = 0; i < ARRAY_SIZE(carriers); i++) {
		if (carriers[i] != FUSE_LOOKUP && carriers[i] != FUSE_OPEN)
			continue;
		s->attach_in = FUSE_PASSTHROUGH_OP(carriers[i]);
		ASSERT_EQ(0, send_request(s, carriers[i]));
		EXPECT_EQ(0, s->inode_error) TH_LOG("opcode %d", carriers[i]);
		EXPECT_EQ(1, inodes_attached(s));
		EXPECT_EQ(0, stat(fuse_path(s, "f"), &st));
		EXPECT_EQ(LEN / 2, st.st_size) TH_LOG("opcode %d", carriers[i]);
		EXPECT_TRUE(own_fs_free(&self->fs)) TH_LOG("opcode %d", carriers[i]);
	}
	EXPECT_EQ(0, inode_detach(s, "f"));

	node->lower = self->fs.dir;
	for (i = 0; i < ARRAY_SIZE(carriers); i++) {
		if (carriers[i] != FUSE_LOOKUP && carriers[i] != FUSE_OPEN &&
		    carriers[i] != FUSE_GETATTR)
			continue;
		s->attach_in = FUSE_PASSTHROUGH_OP(carriers[i]);
		ASSERT_EQ(0, send_request(s, carriers[i]));
		EXPECT_EQ(0, s->inode_error) TH_LOG("opcode %d", carriers[i]);
		EXPECT_EQ(0, inodes_attached(s)) TH_LOG("opcode %d", carriers[i]);
		EXPECT_TRUE(own_fs_free(&self->fs)) TH_LOG("opcode %d", carriers[i]);
	}
}

static bool has_entry(int opcode)
{
	return opcode != FUSE_GETATTR && opcode != FUSE_OPEN && opcode != FUSE_OPENDIR;
}

/* How the server answers a request after an attach */
enum end { END_ERROR, END_SHORT, END_WRONG, END_NONE, ENDS };

static enum end end_as;
static int end_opcode;

static bool attach_and_end(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct attempt *a = s->arg;
	struct fuse_passthrough_inode arg = { .unique = in->unique, .ops = GET };
	struct {
		struct fuse_entry_out e;
		struct fuse_open_out o;
	} out = {
		.e.nodeid = 200, .e.attr.ino = 200, .e.attr.nlink = 1,
		/* None of the requests can create this type. */
		.e.attr.mode = S_IFIFO | 0600,
	};
	struct fuse_attr_out attr = { .attr = out.e.attr };
	size_t len = sizeof(out.e);

	if (in->opcode != (uint32_t)end_opcode ||
	    (in->opcode == FUSE_GETATTR && in->nodeid == FUSE_ROOT_ID))
		return false;
	arg.fd = open(a->fs->path, O_PATH | O_CLOEXEC);
	a->got = inode_ioctl(s->dev, &arg);
	close(arg.fd);
	if (in->opcode == FUSE_CREATE || in->opcode == FUSE_TMPFILE)
		len = sizeof(out);
	if (end_as == END_NONE)
		out.e.nodeid = 0;
	if (end_as == END_ERROR)
		fuse_server_reply(s, in->unique, -EDQUOT, NULL, 0);
	else if (end_as == END_SHORT)
		fuse_server_reply(s, in->unique, 0, "x", 1);
	else if (in->opcode == FUSE_GETATTR)
		fuse_server_reply(s, in->unique, 0, &attr, sizeof(attr));
	else if (in->opcode == FUSE_OPEN || in->opcode == FUSE_OPENDIR)
		fuse_server_reply(s, in->unique, -ENOSYS, NULL, 0);
	else
		fuse_server_reply(s, in->unique, 0, &out, len);
	return true;
}

/* An error, an answer without an entry, or a malformed answer releases the lower file. */
TEST_F_TIMEOUT(inode_request, failed_answers, IO_TIMEOUT)
{
	struct fuse_server *s = &self->s;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(carriers); i++) {
		for (end_as = 0; end_as < ENDS; end_as++) {
			end_opcode = 0;
			if (end_as == END_NONE && !has_entry(carriers[i]))
				continue;
			if (carriers[i] != FUSE_LOOKUP)
				lookup(s, "f");
			self->a.got = -1;
			s->request = attach_and_end;
			end_opcode = carriers[i];
			send_request(s, carriers[i]);
			end_opcode = 0;
			EXPECT_EQ(0, self->a.got)
				TH_LOG("opcode %d, end %d", carriers[i], end_as);
			EXPECT_EQ(0, inodes_attached(s))
				TH_LOG("opcode %d, end %d", carriers[i], end_as);
			EXPECT_TRUE(own_fs_free(&self->fs))
				TH_LOG("opcode %d, end %d", carriers[i], end_as);
			forget_dentry(s, "f");
			forget_dentry(s, "d");
		}
	}
}

static void answer_in_thread(void *arg)
{
	struct fuse_server *s = arg;
	struct attempt *a = s->arg;
	struct fuse_in_header in = { .unique = a->last, .opcode = a->opcode };

	try_inode(s, &in);
}

static bool by_thread(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct attempt *a = s->arg;
	struct blocker b;

	if (in->opcode != (uint32_t)a->opcode)
		return false;
	a->last = in->unique;
	blocker_start(&b, answer_in_thread, s);
	blocker_join(&b);
	return false;
}

static void detach_in_thread(void *arg)
{
	struct queued *q = arg;

	q->err = inode_detach(q->s, "f");
}

static bool by_process(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct attempt *a = s->arg;
	int status = -1;
	pid_t pid;

	if (in->opcode != (uint32_t)a->opcode)
		return false;
	pid = fork();
	if (!pid) {
		try_inode(s, in);
		_exit(a->got);
	}
	waitpid(pid, &status, 0);
	a->got = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	return false;
}

/* The lower file "other", with a number that is another file in the parent */
static int other_as_given(struct fuse_server *s)
{
	struct attempt *a = s->arg;
	int fd = other(s);

	if (dup2(fd, a->given) < 0)
		return -1;
	close(fd);
	return a->given;
}

/* A stat of "f" sends no GETATTR and shows the size of the lower file "other". */
static bool shows_other(struct fuse_server *s)
{
	struct stat st;

	return stat_costs(s, "f", FUSE_GETATTR) == 0 &&
		!stat(fuse_path(s, "f"), &st) && st.st_size == LEN / 2 &&
		inodes_attached(s) == 1;
}

/*
 * Any thread and any process that has the device can attach a file of its own
 * by request, and detach by nodeid.
 */
TEST_F_TIMEOUT(inode_request, other_tasks, IO_TIMEOUT)
{
	static const struct trial t = { "", 0, other, .in = { .ops = GET } };
	static const struct trial given = { "", 0, other_as_given, .in = { .ops = GET } };
	struct queued q = { .s = &self->s, .err = -1 };
	int status;
	pid_t pid;

	self->a.t = &t;
	self->a.opcode = FUSE_LOOKUP;
	self->a.got = -1;
	self->s.request = by_thread;
	EXPECT_TRUE(shows_other(&self->s));
	EXPECT_EQ(0, self->a.got);
	blocker_start(&q.b, detach_in_thread, &q);
	blocker_join(&q.b);
	EXPECT_EQ(0, q.err);
	EXPECT_EQ(0, inodes_attached(&self->s));
	forget_dentry(&self->s, "f");

	self->a.got = -1;
	self->a.given = open(self->fs.path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, self->a.given);
	self->a.t = &given;
	self->s.request = by_process;
	EXPECT_TRUE(shows_other(&self->s));
	EXPECT_EQ(0, self->a.got);
	close(self->a.given);

	pid = fork();
	if (!pid)
		_exit(inode_detach(&self->s, "f"));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, inodes_attached(&self->s));
}

/* Make the server thread read the next request from the other device. */
static bool switch_or_try(struct fuse_server *s, const struct fuse_in_header *in)
{
	if (in->opcode != FUSE_STATFS)
		return try_inode(s, in);
	switch_dev(s, in);
	return true;
}

/*
 * A request is found from any device of the connection, whichever device read
 * it, and so is an inode.  The close of one of several devices detaches nothing.
 */
TEST_F_TIMEOUT(inode_request, cloned_device, IO_TIMEOUT)
{
	static const struct trial t = { "", 0, other, .in = { .ops = GET } };
	struct statfs st;
	int i, extra;

	self->a.dev = clone_dev(self->s.dev);
	extra = clone_dev(self->s.dev);
	ASSERT_LE(0, self->a.dev);
	ASSERT_LE(0, extra);
	self->a.opcode = FUSE_LOOKUP;
	self->a.t = &t;
	self->s.request = switch_or_try;
	for (i = 0; i < 4; i++) {
		self->a.got = -1;
		EXPECT_EQ(0, stat_costs(&self->s, "f", FUSE_GETATTR));
		EXPECT_EQ(0, self->a.got);
		EXPECT_EQ(0, inode_detach_all(&self->s));
		forget_dentry(&self->s, "f");
		/* The thread then reads from the device that did the last attach. */
		statfs(self->s.mnt, &st);
	}
	self->s.request = NULL;
	ASSERT_EQ(0, lookup(&self->s, "f"));
	EXPECT_EQ(0, inode_attach(&self->s, "f", GET));
	close(extra);
	close(self->a.dev);
	EXPECT_EQ(1, inodes_attached(&self->s));
	EXPECT_EQ(0, stat_costs(&self->s, "f", FUSE_GETATTR));
}

static bool hold_only(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct attempt *a = s->arg;

	if (in->opcode != (uint32_t)a->opcode)
		return false;
	try_inode(s, in);
	return true;
}

static int own_path(struct fuse_server *s)
{
	struct attempt *a = s->arg;

	return open(a->fs->path, O_PATH | O_CLOEXEC);
}

static void blocked_request(void *arg)
{
	struct fuse_server *s = arg;
	struct attempt *a = s->arg;

	send_request(s, a->opcode);
}

/* An abort between the ioctl and the answer leaves no reference. */
TEST_F_TIMEOUT(inode_request, aborted_before_answer, IO_TIMEOUT)
{
	static const struct trial t = { "", 0, own_path, .in = { .ops = GET } };
	static const int opcodes[] = { FUSE_LOOKUP, FUSE_CREATE, FUSE_MKDIR, FUSE_OPENDIR };
	struct blocker b;
	unsigned int i;
	struct stat st;

	for (i = 0; i < ARRAY_SIZE(opcodes); i++) {
		struct fuse_server s = { .permissions = true, .arg = &self->a };
		int busy;

		ASSERT_EQ(0, fuse_server_start(&s));
		ASSERT_EQ(0, lower_make(&s, "f", LEN, 1));
		ASSERT_EQ(0, mkdirat(s.dirfd, "d", 0755));
		ASSERT_EQ(0, stat(s.mnt, &st));
		busy = open(s.mnt, O_PATH | O_CLOEXEC);
		self->a = (struct attempt) {
			.t = &t, .opcode = opcodes[i], .fs = &self->fs, .got = -1,
			.dev = -1,
		};
		s.request = hold_only;
		ASSERT_TRUE(blocker_start(&b, blocked_request, &s));
		while (__atomic_load_n(&self->a.got, __ATOMIC_ACQUIRE) == -1)
			sched_yield();
		EXPECT_EQ(0, self->a.got);
		EXPECT_TRUE(own_fs_busy(&self->fs));
		umount2(s.mnt, MNT_FORCE);
		blocker_join(&b);
		EXPECT_TRUE(own_fs_free(&self->fs)) TH_LOG("opcode %d", opcodes[i]);
		EXPECT_EQ(0, inodes_attached(&s));
		close(busy);
		fuse_server_stop(&s);
	}
}

TEST_HARNESS_MAIN
