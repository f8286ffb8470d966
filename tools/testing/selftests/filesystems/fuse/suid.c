// SPDX-License-Identifier: GPL-2.0
/*
 * Writes drop setuid and setgid bits as the lower file system does for the same
 * client, whatever the credentials of the server are.
 */
#define _GNU_SOURCE
#include <grp.h>
#include <linux/userfaultfd.h>

#include "async_test.h"
#include "attach_test.h"
#include "../../kselftest_harness.h"

#define USER		1000
#define LEN		4096
#define NOBODYS_GROUP	2000
#define SERVERS_GROUP	3000	/* a supplementary group */

/* Mode of a server that does not keep modes in the lower file */
struct own_mode {
	bool on;
	mode_t mode;
	int error;		/* answer to SETATTR */
	mode_t set;		/* mode in the last SETATTR */
};

FIXTURE(suid) {
	struct fuse_server s;
	struct own_mode own;
	struct uring uring;
	aio_context_t aio;
	char *buf;
};

FIXTURE_VARIANT(suid) {
	enum fuse_server_open how;
	bool writeback;
	uint32_t init;
};

FIXTURE_VARIANT_ADD(suid, request) { .how = OPEN_PASSTHROUGH };
FIXTURE_VARIANT_ADD(suid, id) { .how = OPEN_BACKING_ID };

FIXTURE_VARIANT_ADD(suid, writeback) {
	.how = OPEN_PASSTHROUGH, .writeback = true
};

FIXTURE_VARIANT_ADD(suid, by_inode) { .how = OPEN_BY_INODE };

FIXTURE_VARIANT_ADD(suid, by_inode_writeback) {
	.how = OPEN_BY_INODE, .writeback = true
};

FIXTURE_VARIANT_ADD(suid, killpriv) {
	.how = OPEN_PASSTHROUGH, .init = FUSE_HANDLE_KILLPRIV
};

FIXTURE_VARIANT_ADD(suid, killpriv_v2) {
	.how = OPEN_BACKING_ID, .init = FUSE_HANDLE_KILLPRIV_V2
};

FIXTURE_VARIANT_ADD(suid, writeback_killpriv_v2) {
	.how = OPEN_PASSTHROUGH, .writeback = true,
	.init = FUSE_HANDLE_KILLPRIV_V2
};

static uint32_t more_init_flags;

static void add_init(struct fuse_server *s, struct fuse_init_out *out)
{
	out->flags |= more_init_flags;
}

/* Answer with the attributes of the lower file, but with its own mode. */
static bool answer_own_mode(struct fuse_server *s,
			    const struct fuse_in_header *in)
{
	FIXTURE_DATA(suid) *self = s->arg;
	const struct fuse_setattr_in *set = (const void *)(in + 1);
	struct fuse_attr_out out = { .attr_valid = s->attr_valid };
	struct own_mode *own = &self->own;
	int err = 0;

	if (!own->on || in->nodeid == FUSE_ROOT_ID)
		return false;
	if (in->opcode == FUSE_SETATTR && (set->valid & FATTR_MODE)) {
		own->set = set->mode & 07777;
		err = own->error;
		if (!err)
			own->mode = own->set;
	} else if (in->opcode != FUSE_GETATTR) {
		return false;
	}
	if (!err)
		err = fuse_server_attr(s, in->nodeid, "f", &out.attr);
	out.attr.mode = S_IFREG | own->mode;
	fuse_server_reply(s, in->unique, err, &out, sizeof(out));
	return true;
}

FIXTURE_SETUP(suid)
{
	gid_t gid = SERVERS_GROUP;

	/* Groups of this thread, and of the server thread that it starts */
	ASSERT_EQ(0, syscall(SYS_setgroups, 1, &gid));
	more_init_flags = variant->init;
	self->s.init = add_init;
	self->s.writeback = variant->writeback;
	self->s.arg = self;
	self->s.request = answer_own_mode;
	self->s.permissions = variant->how == OPEN_BY_INODE;
	ASSERT_EQ(0, fuse_server_start(&self->s));
	self->s.how = variant->how;
	self->s.attr_valid = 0;
	ASSERT_EQ(0, lower_make(&self->s, "f", LEN, 1));
	ASSERT_EQ(0, lower_make(&self->s, "peer", LEN, 1));
	self->buf = pages(LEN);
	ASSERT_NE(NULL, self->buf);
	pattern(self->buf, LEN, 0, 2);
	ASSERT_EQ(0, uring_setup(&self->uring, 1));
	ASSERT_EQ(0, aio_setup(1, &self->aio));
}

FIXTURE_TEARDOWN(suid)
{
	uring_destroy(&self->uring);
	aio_destroy(self->aio);
	EXPECT_EQ(0, self->s.inode_error);
	EXPECT_EQ(0, server_bypassed(&self->s, variant->how));
	fuse_server_stop(&self->s);
}

/* The writer: root, a user in the group of the file, or another user */
enum client { CAPABLE, IN_GROUP, STRANGER, CLIENTS };

/* Changes this thread only; the C library would change all threads. */
static void become(enum client client, gid_t group)
{
	if (client == CAPABLE)
		return;
	if (syscall(SYS_setgroups, client == IN_GROUP, &group) ||
	    syscall(SYS_setresgid, -1, USER, -1) ||
	    syscall(SYS_setresuid, -1, USER, -1))
		abort();
}

static void become_root(void)
{
	gid_t gid = SERVERS_GROUP;

	if (syscall(SYS_setresuid, -1, 0, -1) ||
	    syscall(SYS_setresgid, -1, 0, -1) ||
	    syscall(SYS_setgroups, 1, &gid))
		abort();
}

/* WAY_NOTHING writes 0 bytes, and drops no bits. */
enum way {
	WAY_WRITE, WAY_APPEND, WAY_SPLICE, WAY_URING, WAY_DIRECT, WAY_AIO_DIRECT,
	WAY_TRUNCATE, WAY_FALLOCATE, WAY_NOTHING, WAYS
};

/*
 * The server truncates and allocates, unless that is attached.  Plain FUSE then
 * handles the bits.
 */
static bool way_is_servers(const struct fuse_server *s, enum way way)
{
	return s->how != OPEN_BY_INODE &&
		(way == WAY_TRUNCATE || way == WAY_FALLOCATE);
}

static const int way_flags[WAYS] = {
	[WAY_APPEND] = O_APPEND,
	[WAY_DIRECT] = O_DIRECT,
	[WAY_AIO_DIRECT] = O_DIRECT,
};

static ssize_t by_splice(int fd, char *buf)
{
	loff_t pos = 0;
	ssize_t ret = -1;
	int p[2];

	if (pipe(p))
		return -1;
	if (write(p[1], buf, LEN) == LEN)
		ret = splice(p[0], NULL, fd, &pos, LEN, 0);
	close(p[0]);
	close(p[1]);
	return ret;
}

static ssize_t or_errno(ssize_t ret)
{
	if (ret >= 0)
		return ret;
	errno = -ret;
	return -1;
}

static ssize_t change_by(FIXTURE_DATA(suid) *self, enum way way, int fd)
{
	char *buf = self->buf;

	switch (way) {
	case WAY_SPLICE:
		return by_splice(fd, buf);
	case WAY_URING:
		return or_errno(uring_do(&self->uring, IORING_OP_WRITE, fd,
					 buf, LEN, 0));
	case WAY_AIO_DIRECT:
		return or_errno(aio_do(self->aio, IOCB_CMD_PWRITE, fd, buf,
				       LEN, 0));
	case WAY_APPEND:
		return write(fd, buf, LEN);
	case WAY_TRUNCATE:
		return ftruncate(fd, LEN / 2) ? -1 : LEN;
	case WAY_FALLOCATE:
		return fallocate(fd, 0, 0, 2 * LEN) ? -1 : LEN;
	case WAY_NOTHING:
		return pwrite(fd, buf, 0, 0) ? -1 : LEN;
	default:
		return pwrite(fd, buf, LEN, 0);
	}
}

/* Requests that a write might send to check privileges */
static unsigned long asked(struct fuse_server *s)
{
	return fuse_server_count(s, FUSE_SETATTR) +
		fuse_server_count(s, FUSE_FALLOCATE) +
		fuse_server_count(s, FUSE_GETATTR) +
		fuse_server_count(s, FUSE_GETXATTR);
}

/* A passthrough open, and a file on the lower file system itself */
struct pair {
	int fd, peer;
};

static bool pair_open(struct fuse_server *s, enum fuse_server_open how,
		      enum way way, struct pair *p)
{
	p->peer = lower_open(s, "peer", O_RDWR | way_flags[way]);
	if (p->peer < 0)
		return false;
	p->fd = fs_open(s, how, "f", O_RDWR | way_flags[way]);
	return p->fd >= 0;
}

static void pair_close(struct pair *p)
{
	close(p->fd);
	close(p->peer);
}

static const mode_t modes[] = {
	04755, 02755, 06755, 02644, 06644, 02664, 06664, 02666, 06666, 06777,
	04644, 00644,
};

static void each_mode(struct __test_metadata *_metadata,
		      FIXTURE_DATA(suid) *self, enum way way, struct pair *p,
		      enum client client, gid_t group)
{
	struct fuse_server *s = &self->s;
	unsigned long before;
	ssize_t ret, peer;
	unsigned int i;
	struct stat st;

	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		/* Tests of plain FUSE cover these. */
		if (way_is_servers(&self->s, way) &&
		    (modes[i] & (S_ISGID | 0010)) == S_ISGID)
			continue;
		ASSERT_EQ(0, fchmodat(s->dirfd, "f", modes[i], 0));
		ASSERT_EQ(0, fchmodat(s->dirfd, "peer", modes[i], 0));
		ASSERT_EQ(0, fstat(p->fd, &st));
		ASSERT_EQ(modes[i], st.st_mode & 07777);

		before = asked(s);
		become(client, group);
		peer = change_by(self, way, p->peer);
		ret = change_by(self, way, p->fd);
		become_root();

		EXPECT_EQ(LEN, peer);
		EXPECT_EQ(LEN, ret);
		EXPECT_EQ(lower_mode(s, "peer"), lower_mode(s, "f"))
			TH_LOG("mode %o, client %d, group %d, way %d",
			       modes[i], client, group, way);
		if (way_is_servers(&self->s, way))
			continue;
		EXPECT_EQ(lower_mode(s, "f"), cached_mode(p->fd));
		EXPECT_EQ(before, asked(s));
	}
}

/*
 * For all bits, groups, client privileges and ways to write, the mode
 * afterwards is that of a file on the lower file system after the same write.
 * The server is root, in the group of the file or not.  Writes send no request.
 */
TEST_F_TIMEOUT(suid, as_on_the_lower_file_system, IO_TIMEOUT)
{
	static const gid_t groups[] = { 0, NOBODYS_GROUP, SERVERS_GROUP };
	enum client client;
	struct pair p;
	unsigned int i;
	enum way way;

	for (way = 0; way < WAYS; way++) {
		if (way_is_servers(&self->s, way) && variant->init)
			continue;
		if (!pair_open(&self->s, variant->how, way, &p)) {
			ASSERT_NE(0, way_flags[way] & O_DIRECT);
			continue;
		}
		for (i = 0; i < ARRAY_SIZE(groups); i++) {
			ASSERT_EQ(0, fchownat(self->s.dirfd, "f", 0, groups[i], 0));
			ASSERT_EQ(0, fchownat(self->s.dirfd, "peer", 0, groups[i],
					      0));
			for (client = 0; client < CLIENTS; client++)
				each_mode(_metadata, self, way, &p, client,
					  groups[i]);
		}
		pair_close(&p);
	}
}

/* Set the mode that the server keeps, and cache it in the mount. */
static bool own_mode_is(FIXTURE_DATA(suid) *self, int fd, mode_t mode)
{
	struct statx stx;

	self->own = (struct own_mode) { .on = true, .mode = mode };
	return !statx(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_MODE,
		      &stx) && (stx.stx_mode & 07777) == mode;
}

/* Returns the number of SETATTRs that one change by a client causes. */
static unsigned long setattrs(FIXTURE_DATA(suid) *self, enum client client,
			      enum way way, int fd, ssize_t *ret, int *err)
{
	unsigned long before = fuse_server_count(&self->s, FUSE_SETATTR);

	become(client, NOBODYS_GROUP);
	errno = 0;
	*ret = change_by(self, way, fd);
	*err = errno;
	become_root();
	return fuse_server_count(&self->s, FUSE_SETATTR) - before;
}

/*
 * Bits that only the FUSE inode has, because the server keeps modes elsewhere,
 * are dropped by one SETATTR, whatever killpriv flags were negotiated.  No
 * SETATTR is sent if they may stay, by a write of nothing, or after they are
 * dropped.
 */
TEST_F_TIMEOUT(suid, servers_own_mode, IO_TIMEOUT)
{
	static const struct {
		mode_t mode;
		enum client client;
		mode_t then;
	} c[] = {
		{ 06777, STRANGER, 0777 }, { 06777, IN_GROUP, 0777 },
		{ 06777, CAPABLE, 06777 },
		{ 02666, STRANGER, 0666 }, { 02666, IN_GROUP, 02666 },
		{ 02666, CAPABLE, 02666 },
		{ 06666, STRANGER, 0666 }, { 06666, IN_GROUP, 02666 },
		{ 06666, CAPABLE, 06666 },
	};
	unsigned long before;
	struct pair p;
	unsigned int i;
	enum way way;
	mode_t then;
	ssize_t ret;
	int err;

	if (variant->how == OPEN_BY_INODE)
		SKIP(return, "by_inode");
	ASSERT_EQ(0, fchownat(self->s.dirfd, "f", 0, NOBODYS_GROUP, 0));
	ASSERT_EQ(0, fchmodat(self->s.dirfd, "f", 0666, 0));
	for (way = 0; way < WAYS; way++) {
		if (way_is_servers(&self->s, way) ||
		    !pair_open(&self->s, variant->how, way, &p))
			continue;
		for (i = 0; i < ARRAY_SIZE(c); i++) {
			then = way == WAY_NOTHING ? c[i].mode : c[i].then;
			ASSERT_TRUE(own_mode_is(self, p.fd, c[i].mode));
			EXPECT_EQ(c[i].mode != then,
				  setattrs(self, c[i].client, way, p.fd, &ret,
					   &err))
				TH_LOG("case %u, way %d", i, way);
			EXPECT_EQ(LEN, ret);
			EXPECT_EQ(then, self->own.mode);
			EXPECT_EQ(then, cached_mode(p.fd));
			before = asked(&self->s);
			EXPECT_EQ(0, setattrs(self, c[i].client, way, p.fd,
					      &ret, &err));
			EXPECT_EQ(LEN, ret);
			EXPECT_EQ(before, asked(&self->s));
			EXPECT_EQ(0666, lower_mode(&self->s, "f"));
		}
		pair_close(&p);
	}
}

/* If the server refuses to drop them, the write fails with its error. */
TEST_F_TIMEOUT(suid, refused, IO_TIMEOUT)
{
	struct pair p;
	enum way way;
	ssize_t ret;
	int err;

	if (variant->how == OPEN_BY_INODE)
		SKIP(return, "by_inode");
	ASSERT_EQ(0, fchmodat(self->s.dirfd, "f", 0666, 0));
	for (way = 0; way < WAY_NOTHING; way++) {
		if (way_is_servers(&self->s, way) ||
		    !pair_open(&self->s, variant->how, way, &p))
			continue;
		ASSERT_TRUE(own_mode_is(self, p.fd, 06777));
		self->own.error = -EDQUOT;
		EXPECT_EQ(1, setattrs(self, STRANGER, way, p.fd, &ret, &err));
		EXPECT_EQ(-1, ret);
		EXPECT_EQ(EDQUOT, err) TH_LOG("way %d", way);
		EXPECT_EQ(-1, lower_differs(&self->s, "f", 0, LEN, 1));
		EXPECT_EQ(LEN, size_of(p.peer));
		pair_close(&p);
	}
}

/*
 * The SETATTR has the current mode of the server, not a mode that the mount has
 * cached.
 */
TEST_F_TIMEOUT(suid, stale_mode, IO_TIMEOUT)
{
	struct pair p;
	ssize_t ret;
	int err;

	if (variant->how == OPEN_BY_INODE)
		SKIP(return, "by_inode");
	ASSERT_EQ(0, fchmodat(self->s.dirfd, "f", 0666, 0));
	ASSERT_EQ(true, pair_open(&self->s, variant->how, WAY_WRITE, &p));
	self->s.attr_valid = 3600;
	ASSERT_TRUE(own_mode_is(self, p.fd, 06777));
	self->own.mode = 04700;
	EXPECT_EQ(1, setattrs(self, STRANGER, WAY_WRITE, p.fd, &ret, &err));
	EXPECT_EQ(LEN, ret);
	EXPECT_EQ(0700, self->own.set);

	/* No SETATTR if the server has no such bit any more */
	ASSERT_TRUE(own_mode_is(self, p.fd, 06777));
	self->own.mode = 0600;
	EXPECT_EQ(0, setattrs(self, STRANGER, WAY_WRITE, p.fd, &ret, &err));
	EXPECT_EQ(LEN, ret);
	EXPECT_EQ(0600, cached_mode(p.fd));
	pair_close(&p);
}

/*
 * The lower file system may wait to update times: write just before, which
 * updates them.
 */
static ssize_t write_nowait(int fd, const struct iovec *iov)
{
	ssize_t ret = -1;
	int i;

	for (i = 0; i < 100 && ret < 0; i++)
		if (pwritev(fd, iov, 1, 0) > 0)
			ret = pwritev2(fd, iov, 1, 0, RWF_NOWAIT);
	return ret;
}

/*
 * A non-blocking write is EAGAIN, without a request or a change, if bits of
 * either inode have to be dropped.  It is not refused if there are no bits, or
 * if they may stay.
 */
TEST_F_TIMEOUT(suid, nowait, IO_TIMEOUT)
{
	struct iovec iov = { self->buf, LEN };
	struct fuse_server *s = &self->s;
	unsigned long before;
	ssize_t low, ret;
	struct stat st;
	struct pair p;
	int own, err;

	if (!pair_open(s, variant->how, WAY_DIRECT, &p) ||
	    (write_nowait(p.peer, &iov) < 0 && errno == EOPNOTSUPP))
		SKIP(return, "nowait");
	for (own = 0; own < (variant->how == OPEN_BY_INODE ? 1 : 2); own++) {
		self->own.on = own;
		self->own.mode = 06777;
		ASSERT_EQ(0, fchmodat(s->dirfd, "f", own ? 0666 : 06777, 0));
		ASSERT_EQ(0, fchmodat(s->dirfd, "peer", own ? 0666 : 06777, 0));
		ASSERT_EQ(0, fstat(p.fd, &st));
		ASSERT_EQ(06777, st.st_mode & 07777);
		/*
		 * With such bits the lower file system itself may return
		 * EAGAIN.
		 */
		low = write_nowait(p.peer, &iov);
		before = asked(s);
		EXPECT_EQ(low, write_nowait(p.fd, &iov));
		become(STRANGER, 0);
		errno = 0;
		ret = pwritev2(p.fd, &iov, 1, 0, RWF_NOWAIT);
		err = errno;
		become_root();
		EXPECT_EQ(-1, ret);
		EXPECT_EQ(EAGAIN, err);
		EXPECT_EQ(before, asked(s));
		EXPECT_EQ(own ? 0666 : 06777, lower_mode(s, "f"));
	}

	ASSERT_EQ(0, fchmodat(s->dirfd, "peer", 0666, 0));
	low = write_nowait(p.peer, &iov);
	become(STRANGER, 0);
	EXPECT_EQ(LEN, pwritev(p.fd, &iov, 1, 0));
	EXPECT_EQ(low, write_nowait(p.fd, &iov));
	become_root();
	pair_close(&p);
}

/* A write that blocks in the lower file system, at the page of its buffer */
struct stopped {
	struct blocker b;
	char *page;
	int fd;
	enum client client;
	ssize_t ret;
};

static char *missing_page(int uffd)
{
	struct uffdio_register r = {
		.range.len = LEN,
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	char *p = pages(LEN);

	r.range.start = (uintptr_t)p;
	return p && !ioctl(uffd, UFFDIO_REGISTER, &r) ? p : NULL;
}

static int fill_page(int uffd, char *page, const char *from)
{
	struct uffdio_copy c = {
		.dst = (uintptr_t)page,
		.src = (uintptr_t)from,
		.len = LEN,
	};

	return ioctl(uffd, UFFDIO_COPY, &c);
}

static void stopped_write(void *arg)
{
	struct stopped *w = arg;

	become(w->client, NOBODYS_GROUP);
	w->ret = pwrite(w->fd, w->page, LEN, 0);
}

static void chmod_f(void *arg)
{
	FIXTURE_DATA(suid) *self = arg;

	fchmodat(self->s.dirfd, "f", 06777, 0);
}

/*
 * Returns the mode after a chmod u+s that comes while writes wait for the lower
 * inode's lock; -1 after an error; -2 if the second write got the lock before
 * the chmod, as rwsem lock stealing allows.
 */
static int mode_after_race(FIXTURE_DATA(suid) *self, int uffd, int fd,
			   enum client client)
{
	struct stopped w[2] = {
		{ .fd = fd, .client = client }, { .fd = fd, .client = client },
	};
	struct blocker chmod;
	bool blocked, overtaken;

	w[0].page = missing_page(uffd);
	w[1].page = missing_page(uffd);
	if (!w[0].page || !w[1].page)
		return -1;
	/*
	 * The first write has the lock, the chmod and the second write queue
	 * for it.
	 */
	blocked = blocker_start(&w[0].b, stopped_write, &w[0]);
	blocked &= blocker_start(&chmod, chmod_f, self);
	blocked &= blocker_start(&w[1].b, stopped_write, &w[1]);
	fill_page(uffd, w[0].page, self->buf);
	blocker_join(&w[0].b);
	overtaken = falls_asleep(chmod.tid) && !blocker_done(&chmod);
	fill_page(uffd, w[1].page, self->buf);
	blocker_join(&chmod);
	blocker_join(&w[1].b);
	if (!blocked || w[0].ret != LEN || w[1].ret != LEN)
		return -1;
	return overtaken ? -2 : (int)lower_mode(&self->s, "f");
}

/*
 * A chmod u+s that gets the lower inode's lock after a write has checked the
 * mode, and before the lower write, does not leave the bits on the written
 * file.  The file has no bits before, or bits that the writer may keep.
 */
TEST_F_TIMEOUT(suid, race_with_chmod, IO_TIMEOUT)
{
	struct uffdio_api api = { .api = UFFD_API };
	static const struct {
		mode_t mode;
		enum client client;
	} c[] = {
		{ 0777, STRANGER }, { 0666, IN_GROUP }, { 02666, IN_GROUP },
		{ 02666, STRANGER },
	};
	struct pair p;
	unsigned int i;
	int uffd;

	uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		SKIP(return, "race_with_chmod");
	ASSERT_EQ(0, fchownat(self->s.dirfd, "f", 0, NOBODYS_GROUP, 0));
	ASSERT_EQ(true, pair_open(&self->s, variant->how, WAY_WRITE, &p));
	for (i = 0; i < ARRAY_SIZE(c); i++) {
		struct stat st;
		int mode;

		do {
			ASSERT_EQ(0, fchmodat(self->s.dirfd, "f", c[i].mode, 0));
			ASSERT_EQ(0, fstat(p.fd, &st));
			mode = mode_after_race(self, uffd, p.fd, c[i].client);
		} while (mode == -2);
		EXPECT_EQ(0777, mode) TH_LOG("case %u", i);
		EXPECT_EQ(0, fstat(p.fd, &st));
		EXPECT_EQ(0777, st.st_mode & 07777);
	}
	pair_close(&p);
	close(uffd);
}

TEST_HARNESS_MAIN
