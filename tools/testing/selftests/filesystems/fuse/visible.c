// SPDX-License-Identifier: GPL-2.0
/*
 * Passthrough as an administrator sees it: fdinfo, the control file system and
 * tracepoints
 */
#define _GNU_SOURCE
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "inode_test.h"
#include "../../kselftest_harness.h"

#define CONTROL	"/sys/fs/fuse/connections"

FIXTURE(visible) {
	struct fuse_server s;
	char control[64];	/* the connection's count of passthrough files */
};

FIXTURE_SETUP(visible)
{
	struct stat st;

	ASSERT_EQ(0, fuse_server_start(&self->s));
	ASSERT_EQ(0, stat(self->s.mnt, &st));
	snprintf(self->control, sizeof(self->control), CONTROL "/%u/passthrough",
		 minor(st.st_dev));
	ASSERT_EQ(0, lower_make(&self->s, "f", 100, 1));
	ASSERT_EQ(0, lower_make(&self->s, "with space", 100, 1));
}

FIXTURE_TEARDOWN(visible)
{
	fuse_server_stop(&self->s);
}

static bool read_all(const char *path, char *buf, size_t len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = 0, done = 0;

	while (fd >= 0 && done < (ssize_t)len - 1 &&
	       (n = read(fd, buf + done, len - 1 - done)) > 0)
		done += n;
	buf[done] = 0;
	close(fd);
	return fd >= 0 && n >= 0;
}

/* Value of a line of fdinfo; "" if there is none */
static const char *fdinfo(int fd, const char *key)
{
	static char buf[4096];
	char path[64], *p;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	if (!read_all(path, buf, sizeof(buf)))
		return "";
	p = strstr(buf, key);
	if (!p || (p != buf && p[-1] != '\n') || p[strlen(key)] != ':')
		return "";
	p += strlen(key) + 1;
	p += *p == '\t';
	p[strcspn(p, "\n")] = 0;
	return p;
}

/* fdinfo names the lower file, its mode, and how it was attached. */
TEST_F_TIMEOUT(visible, fdinfo, IO_TIMEOUT)
{
	static const struct { int flags, lower; const char *mode; } m[] = {
		{ O_RDWR, -1, "rw" }, { O_RDONLY, -1, "r" }, { O_WRONLY, -1, "w" },
		{ O_RDONLY, O_RDWR, "rw" },
	};
	unsigned int i;
	int fd;

	for (i = 0; i < ARRAY_SIZE(m); i++) {
		fd = fs_open_mode(&self->s, OPEN_PASSTHROUGH, "f", m[i].flags,
				  m[i].lower);
		ASSERT_LE(0, fd);
		EXPECT_STREQ(lower_path(&self->s, "f"),
			     fdinfo(fd, "passthrough-lower"));
		EXPECT_STREQ(m[i].mode, fdinfo(fd, "passthrough-mode"));
		EXPECT_STREQ("request", fdinfo(fd, "passthrough-attach"));
		close(fd);
	}
	fd = fs_open(&self->s, OPEN_BACKING_ID, "f", O_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_STREQ(lower_path(&self->s, "f"), fdinfo(fd, "passthrough-lower"));
	EXPECT_STREQ("id", fdinfo(fd, "passthrough-attach"));
	close(fd);
}

/* A file name cannot add lines. */
TEST_F_TIMEOUT(visible, fdinfo_escapes, IO_TIMEOUT)
{
	char want[300];
	int fd = fs_open(&self->s, OPEN_PASSTHROUGH, "with space", O_RDWR);

	ASSERT_LE(0, fd);
	snprintf(want, sizeof(want), "%s/with\\040space", self->s.lower);
	EXPECT_STREQ(want, fdinfo(fd, "passthrough-lower"));
	close(fd);
}

/* Other opens have no such lines. */
TEST_F_TIMEOUT(visible, fdinfo_of_others, IO_TIMEOUT)
{
	enum fuse_server_open how;

	for (how = OPEN_CACHED; how <= OPEN_DIRECT; how++) {
		int fd = fs_open(&self->s, how, "f", O_RDWR);

		ASSERT_LE(0, fd);
		EXPECT_STREQ("", fdinfo(fd, "passthrough-lower"));
		EXPECT_STREQ("", fdinfo(fd, "passthrough-mode"));
		EXPECT_STREQ("", fdinfo(fd, "passthrough-attach"));
		close(fd);
	}
}

/* Number of open passthrough files, from the control file system */
static int control_count(const char *control)
{
	char buf[32];

	return read_all(control, buf, sizeof(buf)) ? atoi(buf) : -1;
}

static bool has_control(void)
{
	return !access(CONTROL, R_OK);
}

/* The control file system counts passthrough files from open to close. */
TEST_F_TIMEOUT(visible, control_count, IO_TIMEOUT)
{
	int fd[4];

	if (!has_control())
		SKIP(return, "no control file system");

	EXPECT_EQ(0, control_count(self->control));
	fd[0] = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDWR);
	fd[1] = fs_open(&self->s, OPEN_BACKING_ID, "f", O_RDONLY);
	fd[2] = fs_open(&self->s, OPEN_CACHED, "f", O_RDONLY);
	fd[3] = fs_open(&self->s, OPEN_DIRECT, "f", O_RDONLY);
	EXPECT_EQ(2, control_count(self->control));
	close(fd[0]);
	EXPECT_EQ(1, control_count(self->control));
	close(fd[1]);
	EXPECT_EQ(0, control_count(self->control));
	close(fd[2]);
	close(fd[3]);

	/* A lower file whose open was refused does not stay. */
	EXPECT_EQ(-1, fs_open_mode(&self->s, OPEN_PASSTHROUGH, "f", O_RDWR,
				   O_RDONLY));
	EXPECT_EQ(0, control_count(self->control));
}

/*
 * A reader that reads the count byte by byte gets one number, whatever opens
 * come in between.
 */
TEST_F_TIMEOUT(visible, control_count_in_parts, IO_TIMEOUT)
{
	char buf[16] = "";
	unsigned int i;
	int fd[12], ctl;

	if (!has_control())
		SKIP(return, "no control file system");

	for (i = 0; i < 9; i++)
		fd[i] = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDONLY);
	ctl = open(self->control, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, ctl);
	ASSERT_EQ(1, read(ctl, buf, 1));
	for (; i < 12; i++)
		fd[i] = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDONLY);
	for (i = 1; i < sizeof(buf) - 1 && read(ctl, buf + i, 1) == 1; i++)
		;
	EXPECT_STREQ("9\n", buf);
	EXPECT_EQ(12, control_count(self->control));
	close(ctl);
	for (i = 0; i < 12; i++)
		close(fd[i]);
	EXPECT_EQ(0, control_count(self->control));
}

/* How to answer a CREATE after its attach */
struct create_end {
	int error;
	uint64_t nodeid;
	int attached;
};

static bool attach_and_end(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct create_end *end = s->arg;
	struct {
		struct fuse_entry_out e;
		struct fuse_open_out o;
	} out = {
		.e.nodeid = end->nodeid,
		.e.attr.ino = end->nodeid,
		.e.attr.mode = S_IFREG | 0600,
		.e.attr.nlink = 1,
		.o.fh = -1,
	};
	struct fuse_passthrough_out p = { .unique = in->unique };

	if (in->opcode != FUSE_CREATE)
		return false;

	p.fd = lower_open(s, "f", O_RDWR);
	end->attached = ioctl(s->dev, FUSE_DEV_IOC_PASSTHROUGH_OPEN, &p);
	close(p.fd);
	fuse_server_reply(s, in->unique, end->error, &out, sizeof(out));
	return true;
}

/* An open that fails after the attach is not counted, one that succeeds is. */
TEST_F_TIMEOUT(visible, control_count_of_failed, IO_TIMEOUT)
{
	static const struct create_end fails[] = {
		{ -ENOSPC, 50 },	/* the server's error */
		{ 0, 0 },		/* an invalid answer */
	};
	struct create_end end;
	unsigned int i;
	int fd;

	if (!has_control())
		SKIP(return, "no control file system");

	self->s.arg = &end;
	self->s.request = attach_and_end;
	for (i = 0; i < ARRAY_SIZE(fails); i++) {
		end = fails[i];
		end.attached = -1;
		EXPECT_EQ(-1, open(fuse_path(&self->s, "new"),
				   O_RDWR | O_CREAT | O_CLOEXEC, 0600));
		EXPECT_EQ(end.error ? ENOSPC : EIO, errno);
		EXPECT_EQ(0, end.attached);
		EXPECT_EQ(0, control_count(self->control));
	}
	end = (struct create_end){ .nodeid = 50, .attached = -1 };
	fd = open(fuse_path(&self->s, "new"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, end.attached);
	EXPECT_EQ(1, control_count(self->control));
	close(fd);
	EXPECT_EQ(0, control_count(self->control));

	/* An unknown backing id */
	self->s.open_flags = FOPEN_PASSTHROUGH;
	EXPECT_EQ(-1, fs_open(&self->s, OPEN_CACHED, "f", O_RDWR));
	EXPECT_EQ(0, control_count(self->control));
}

/* Files that outlive the connection are counted until they are closed. */
TEST_F_TIMEOUT(visible, control_count_after_abort, IO_TIMEOUT)
{
	int fd[2];

	if (!has_control())
		SKIP(return, "no control file system");

	fd[0] = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDWR);
	fd[1] = fs_open(&self->s, OPEN_BACKING_ID, "f", O_RDWR);
	ASSERT_LE(0, fd[0]);
	ASSERT_LE(0, fd[1]);
	fuse_server_die(&self->s);
	EXPECT_EQ(2, control_count(self->control));
	close(fd[0]);
	EXPECT_EQ(1, control_count(self->control));
	close(fd[1]);
	EXPECT_EQ(0, control_count(self->control));
}

/*
 * Only the owner can read the count; after the end of the connection a reader
 * gets no count.
 */
TEST_F_TIMEOUT(visible, control_of_gone, IO_TIMEOUT)
{
	struct stat st;
	char buf[16];
	int ctl;

	if (!has_control())
		SKIP(return, "no control file system");

	ASSERT_EQ(0, stat(self->control, &st));
	EXPECT_EQ(S_IFREG | 0400, st.st_mode);
	EXPECT_EQ(1, st.st_nlink);
	ctl = open(self->control, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, ctl);
	fuse_server_die(&self->s);
	EXPECT_EQ(0, read(ctl, buf, sizeof(buf)));
	close(ctl);
}

/* Renew the control file system of init's mount namespace, if it has one. */
static int renew_control(void)
{
	int status, ns;
	pid_t pid;

	/* Tests have a mount namespace of their own. */
	if (umount(CONTROL))
		return -errno;
	pid = fork();
	if (!pid) {
		ns = open("/proc/1/ns/mnt", O_RDONLY | O_CLOEXEC);
		if (setns(ns, CLONE_NEWNS))
			_exit(1);
		if (!umount(CONTROL) &&
		    mount("fusectl", CONTROL, "fusectl", 0, NULL))
			_exit(2);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || status)
		return -EIO;
	return mount("fusectl", CONTROL, "fusectl", 0, NULL) ? -errno : 0;
}

/*
 * A new mount of the control file system has the counts of older connections.
 */
TEST_F_TIMEOUT(visible, control_count_renewed, IO_TIMEOUT)
{
	struct stat before, after;
	int fd[2];

	if (!has_control())
		SKIP(return, "no control file system");

	ASSERT_EQ(0, stat(self->control, &before));
	fd[0] = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDWR);
	ASSERT_EQ(0, renew_control());
	ASSERT_EQ(0, stat(self->control, &after));
	if (before.st_ino == after.st_ino)
		SKIP(return, "somebody else has it mounted");
	EXPECT_EQ(1, control_count(self->control));
	fd[1] = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDWR);
	EXPECT_EQ(2, control_count(self->control));
	close(fd[0]);
	close(fd[1]);
	EXPECT_EQ(0, control_count(self->control));

	/* The directory ends with the connection. */
	fuse_server_die(&self->s);
	EXPECT_EQ(-1, stat(self->control, &after));
	EXPECT_EQ(ENOENT, errno);
}

/* A trace instance without events of other tests */
FIXTURE(trace) {
	struct fuse_server s;
	char dir[128];
	char buf[16384];
	char *lower;
};

static int put(const char *dir, const char *file, const char *value)
{
	char path[256];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = write(fd, value, strlen(value));
	close(fd);
	return n < 0 ? -errno : 0;
}

FIXTURE_SETUP(trace)
{
	const char *top = "/sys/kernel/tracing";
	char id[64];
	struct stat st;

	self->s.permissions = true;
	ASSERT_EQ(0, fuse_server_start(&self->s));
	ASSERT_EQ(0, lower_make(&self->s, "f", 100, 1));
	/* A test has its own mount namespace. */
	if (access("/sys/kernel/tracing/instances", F_OK)) {
		ASSERT_EQ(0, mount("trace", top, "tracefs", 0, NULL));
	}
	snprintf(self->dir, sizeof(self->dir), "%s/instances/fuse.%d", top,
		 getpid());
	ASSERT_EQ(0, mkdir(self->dir, 0700));
	ASSERT_EQ(0, put(self->dir, "events/fuse_passthrough/enable", "1"));

	ASSERT_EQ(0, fstatat(self->s.dirfd, "f", &st, 0));
	snprintf(id, sizeof(id), "ino=%llu", (unsigned long long)st.st_ino);
	self->lower = strdup(id);
}

FIXTURE_TEARDOWN(trace)
{
	EXPECT_EQ(0, put(self->dir, "events/fuse_passthrough/enable", "0"));
	fuse_server_stop(&self->s);
	rmdir(self->dir);
}

/* Number of lines in the trace so far that contain both strings */
static int traced(FIXTURE_DATA(trace) *self, const char *event, const char *what)
{
	char path[256], *line, *save;
	int nr = 0;

	snprintf(path, sizeof(path), "%s/trace", self->dir);
	if (!read_all(path, self->buf, sizeof(self->buf)))
		return -1;
	for (line = strtok_r(self->buf, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save))
		nr += line[0] != '#' && strstr(line, event) && strstr(line, what);
	return nr;
}

/* Attach and release of each form leave one event each that names the lower inode. */
TEST_F_TIMEOUT(trace, attach_and_release, IO_TIMEOUT)
{
	int fd;

	fd = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_EQ(1, traced(self, "fuse_passthrough_attach:", self->lower));
	EXPECT_EQ(1, traced(self, "fuse_passthrough_attach:", "by=request"));
	EXPECT_EQ(0, traced(self, "fuse_passthrough_release:", ""));
	close(fd);
	/* The lower file is released before the server is told. */
	fuse_server_wait(&self->s, FUSE_RELEASE, 1);
	while (traced(self, "fuse_passthrough_release:", self->lower) < 1)
		sched_yield();
	EXPECT_EQ(1, traced(self, "fuse_passthrough_release:", "by=request"));

	fd = fs_open(&self->s, OPEN_BACKING_ID, "f", O_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_EQ(1, traced(self, "fuse_passthrough_attach:", "by=id"));
	close(fd);
	while (traced(self, "fuse_passthrough_release:", "by=id") < 1)
		sched_yield();
	EXPECT_EQ(2, traced(self, "fuse_passthrough_attach:", self->lower));
	EXPECT_EQ(2, traced(self, "fuse_passthrough_release:", self->lower));
	EXPECT_EQ(0, traced(self, "fuse_passthrough_refuse:", ""));
}

/*
 * An attach to an inode leaves one event, and its end leaves another, whatever
 * ends it.  So does each open by inode.
 */
TEST_F_TIMEOUT(trace, inode, IO_TIMEOUT)
{
	static const uint64_t ops = OP(GETATTR) | OP(OPEN);
	struct fuse_server *s = &self->s;
	int fd, way;

	for (way = 0; way < 4; way++) {
		ASSERT_EQ(0, lookup(s, "f"));
		EXPECT_EQ(2 * way, traced(self, "fuse_passthrough_attach:", self->lower));
		ASSERT_EQ(0, inode_attach(s, "f", ops));
		EXPECT_EQ(2 * way + 1, traced(self, "fuse_passthrough_attach:", self->lower));
		fd = open_f(s, O_RDWR);
		ASSERT_LE(0, fd);
		EXPECT_EQ(2 * way + 2, traced(self, "fuse_passthrough_attach:", "by=inode"));
		close(fd);
		while (traced(self, "fuse_passthrough_release:", self->lower) <= 2 * way)
			sched_yield();
		switch (way) {
		case 0:
			EXPECT_EQ(0, inode_detach(s, "f"));
			break;
		case 1:
			EXPECT_EQ(0, inode_detach_all(s));
			break;
		case 2:
			ASSERT_EQ(0, forget_dentry(s, "f"));
			break;
		case 3:
			fuse_server_die(s);
			break;
		}
		EXPECT_EQ(2 * way + 2, traced(self, "fuse_passthrough_release:", "by=inode"))
			TH_LOG("way %d", way);
	}
	EXPECT_EQ(8, traced(self, "fuse_passthrough_attach:", self->lower));
	EXPECT_EQ(8, traced(self, "fuse_passthrough_release:", self->lower));
	EXPECT_EQ(0, traced(self, "fuse_passthrough_refuse:", ""));
}

/* A refused attach to an inode is traced too, by request and by nodeid. */
TEST_F_TIMEOUT(trace, refuse_inode, IO_TIMEOUT)
{
	struct fuse_passthrough_inode in = { .unique = 999999, .ops = OP(GETATTR) };
	static const struct { uint64_t ops; const char *reason; int error; } c[] = {
		{ 1ULL << 63, "unknown operations", EINVAL },
		{ OP(OPEN), "needs GETATTR", EINVAL },
		{ OP(GETATTR), "inode cannot have it", EBUSY },
	};
	struct fuse_server *s = &self->s;
	char want[64];
	unsigned int i;

	ASSERT_EQ(0, lookup(s, "f"));
	in.fd = lower_opath(s, "f");
	EXPECT_EQ(ENOENT, inode_ioctl(s->dev, &in));
	snprintf(want, sizeof(want), "error=%d reason=", -ENOENT);
	EXPECT_EQ(1, traced(self, "fuse_passthrough_refuse:", want));
	ASSERT_EQ(0, inode_attach(s, "f", OP(GETATTR)));
	for (i = 0; i < ARRAY_SIZE(c); i++) {
		EXPECT_EQ(c[i].error, inode_attach(s, "f", c[i].ops));
		snprintf(want, sizeof(want), "error=%d reason=%s", -c[i].error,
			 c[i].reason);
		EXPECT_EQ(1, traced(self, "fuse_passthrough_refuse:", want))
			TH_LOG("case %u", i);
		EXPECT_EQ(2 + i, traced(self, "fuse_passthrough_refuse:", ""));
	}
	EXPECT_EQ(1, traced(self, "fuse_passthrough_attach:", ""));
	close(in.fd);
}

/* A refusal is traced with its reason and the errno of the server. */
TEST_F_TIMEOUT(trace, refuse, IO_TIMEOUT)
{
	struct fuse_passthrough_out out = { .unique = 999999 };
	char want[32];
	int fd;

	out.fd = lower_open(&self->s, "f", O_RDWR);
	ASSERT_EQ(-1, ioctl(self->s.dev, FUSE_DEV_IOC_PASSTHROUGH_OPEN, &out));
	ASSERT_EQ(ENOENT, errno);
	snprintf(want, sizeof(want), "error=%d reason=", -ENOENT);
	EXPECT_EQ(1, traced(self, "fuse_passthrough_refuse:", want));
	EXPECT_EQ(1, traced(self, "fuse_passthrough_refuse:", ""));

	/* The client wants more access than the lower file is open for. */
	fd = fs_open_mode(&self->s, OPEN_PASSTHROUGH, "f", O_RDWR, O_RDONLY);
	EXPECT_EQ(-1, fd);
	EXPECT_EQ(EACCES, errno);
	snprintf(want, sizeof(want), "error=%d reason=", -EACCES);
	EXPECT_EQ(1, traced(self, "fuse_passthrough_refuse:", want));
	EXPECT_EQ(0, traced(self, "fuse_passthrough_attach:", ""));
	close(out.fd);
}

TEST_HARNESS_MAIN
