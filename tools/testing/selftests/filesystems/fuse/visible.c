// SPDX-License-Identifier: GPL-2.0
/*
 * What an administrator sees of passthrough: fdinfo, the control file system and
 * tracepoints.
 */
#define _GNU_SOURCE
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>

#include "io_test.h"

FIXTURE(visible) {
	struct fuse_server s;
};

FIXTURE_SETUP(visible)
{
	ASSERT_EQ(0, fuse_server_start(&self->s));
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

/* The value of a line of fdinfo, "" where there is none. */
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

/* A name cannot make lines of its own. */
TEST_F_TIMEOUT(visible, fdinfo_escapes, IO_TIMEOUT)
{
	char want[300];
	int fd = fs_open(&self->s, OPEN_PASSTHROUGH, "with space", O_RDWR);

	ASSERT_LE(0, fd);
	snprintf(want, sizeof(want), "%s/with\\040space", self->s.lower);
	EXPECT_STREQ(want, fdinfo(fd, "passthrough-lower"));
	close(fd);
}

/* Other opens say nothing of it. */
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

/* The number of open passthrough files that the control file system tells. */
static int control_count(struct fuse_server *s)
{
	char path[128], buf[32];
	struct stat st;

	if (stat(s->mnt, &st))
		return -1;
	snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%u/passthrough",
		 minor(st.st_dev));
	return read_all(path, buf, sizeof(buf)) ? atoi(buf) : -1;
}

/* The control file system counts passthrough files from open to close. */
TEST_F_TIMEOUT(visible, control_count, IO_TIMEOUT)
{
	int fd[4];

	if (access("/sys/fs/fuse/connections", R_OK))
		SKIP(return, "no control file system");

	EXPECT_EQ(0, control_count(&self->s));
	fd[0] = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDWR);
	fd[1] = fs_open(&self->s, OPEN_BACKING_ID, "f", O_RDONLY);
	fd[2] = fs_open(&self->s, OPEN_CACHED, "f", O_RDONLY);
	fd[3] = fs_open(&self->s, OPEN_DIRECT, "f", O_RDONLY);
	EXPECT_EQ(2, control_count(&self->s));
	close(fd[0]);
	EXPECT_EQ(1, control_count(&self->s));
	close(fd[1]);
	EXPECT_EQ(0, control_count(&self->s));
	close(fd[2]);
	close(fd[3]);

	/* One that the open was refused for does not stay. */
	EXPECT_EQ(-1, fs_open_mode(&self->s, OPEN_PASSTHROUGH, "f", O_RDWR,
				   O_RDONLY));
	EXPECT_EQ(0, control_count(&self->s));
}

/* An instance of its own, so that nobody else's events are in the way. */
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

	ASSERT_EQ(0, fuse_server_start(&self->s));
	ASSERT_EQ(0, lower_make(&self->s, "f", 100, 1));
	/* This is the test's own mount namespace. */
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

/* Lines of the trace so far that have both. */
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
	/* Before the server hears of it, the lower file is let go of. */
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

/* A refusal says why, and what error the server got. */
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

	/* The client wants more than the lower file was opened for. */
	fd = fs_open_mode(&self->s, OPEN_PASSTHROUGH, "f", O_RDWR, O_RDONLY);
	EXPECT_EQ(-1, fd);
	EXPECT_EQ(EACCES, errno);
	snprintf(want, sizeof(want), "error=%d reason=", -EACCES);
	EXPECT_EQ(1, traced(self, "fuse_passthrough_refuse:", want));
	EXPECT_EQ(0, traced(self, "fuse_passthrough_attach:", ""));
	close(out.fd);
}

TEST_HARNESS_MAIN
