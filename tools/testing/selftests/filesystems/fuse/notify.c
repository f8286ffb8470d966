// SPDX-License-Identifier: GPL-2.0
/*
 * Notification, locks and leases: those of the FUSE file and those of the lower
 * file
 */
#define _GNU_SOURCE
#include <poll.h>
#include <signal.h>
#include <sys/fanotify.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/wait.h>

#include "async_test.h"
#include "io_test.h"
#include "../../kselftest_harness.h"

#define LEN	8192

FIXTURE(notify) {
	struct fuse_server s;
	char *buf;
	int fd;
	int fuse, lower;	/* inotify, each on its file */
};

FIXTURE_SETUP(notify)
{
	self->fd = serve_file(&self->s, OPEN_PASSTHROUGH, LEN);
	self->buf = pages(LEN);
	ASSERT_NE(NULL, self->buf);
	ASSERT_LE(0, self->fd);
	self->fuse = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	self->lower = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	ASSERT_LE(0, inotify_add_watch(self->fuse, fuse_path(&self->s, "f"),
				       IN_ACCESS | IN_MODIFY | IN_CLOSE));
	ASSERT_LE(0, inotify_add_watch(self->lower, lower_path(&self->s, "f"),
				       IN_ACCESS | IN_MODIFY | IN_CLOSE));
}

FIXTURE_TEARDOWN(notify)
{
	EXPECT_EQ(0, server_io(&self->s));
	close(self->fd);
	close(self->fuse);
	close(self->lower);
	fuse_server_stop(&self->s);
}

/* The mask of all pending events. */
static uint32_t events(int fd)
{
	char buf[4096] __attribute__((aligned(8)));
	uint32_t mask = 0;
	ssize_t n, at;

	while ((n = read(fd, buf, sizeof(buf))) > 0)
		for (at = 0; at < n;) {
			struct inotify_event *e = (void *)(buf + at);

			mask |= e->mask;
			at += sizeof(*e) + e->len;
		}
	return mask;
}

/* A read or write by the client is an event of the FUSE file and of the lower file. */
TEST_F_TIMEOUT(notify, inotify_sync, IO_TIMEOUT)
{
	int p[2];

	ASSERT_EQ(10, pread(self->fd, self->buf, 10, 0));
	EXPECT_EQ(IN_ACCESS, events(self->fuse));
	EXPECT_EQ(IN_ACCESS, events(self->lower));

	ASSERT_EQ(10, pwrite(self->fd, self->buf, 10, 0));
	EXPECT_EQ(IN_MODIFY, events(self->fuse));
	EXPECT_EQ(IN_MODIFY, events(self->lower));

	ASSERT_EQ(0, pipe2(p, O_CLOEXEC));
	ASSERT_EQ(10, splice(self->fd, NULL, p[1], NULL, 10, 0));
	EXPECT_EQ(IN_ACCESS, events(self->lower));
	ASSERT_EQ(10, splice(p[0], NULL, self->fd, NULL, 10, 0));
	/* Splice itself reports nothing to the outer file in 6.1. */
	events(self->fuse);
	EXPECT_EQ(IN_MODIFY, events(self->lower) & IN_MODIFY);
	close(p[0]);
	close(p[1]);
}

/* Likewise by io_uring */
TEST_F_TIMEOUT(notify, inotify_uring, IO_TIMEOUT)
{
	struct uring u;

	ASSERT_EQ(0, uring_setup(&u, 4));
	ASSERT_EQ(10, uring_do(&u, IORING_OP_WRITE, self->fd, self->buf, 10, 0));
	EXPECT_EQ(IN_MODIFY, events(self->fuse));
	EXPECT_EQ(IN_MODIFY, events(self->lower));
	ASSERT_EQ(10, uring_do(&u, IORING_OP_READ, self->fd, self->buf, 10, 0));
	EXPECT_EQ(IN_ACCESS, events(self->fuse));
	EXPECT_EQ(IN_ACCESS, events(self->lower));
	uring_destroy(&u);
}

/* The client's close is an event of the FUSE file, and then of the lower file. */
TEST_F_TIMEOUT(notify, inotify_close, IO_TIMEOUT)
{
	uint32_t mask = 0;

	close(self->fd);
	self->fd = -1;
	EXPECT_EQ(IN_CLOSE_WRITE, events(self->fuse));
	/* The server's descriptor is the last reference. */
	fuse_server_wait(&self->s, FUSE_RELEASE, 1);
	while (!mask) {
		mask = events(self->lower);
		sched_yield();
	}
	EXPECT_EQ(IN_CLOSE_WRITE, mask);
}

/* A watch of the FUSE file does not see writes to the lower file itself. */
TEST_F_TIMEOUT(notify, inotify_lower_alone, IO_TIMEOUT)
{
	int fd = lower_open(&self->s, "f", O_RDWR);

	ASSERT_EQ(10, pwrite(fd, self->buf, 10, 0));
	EXPECT_EQ(0, events(self->fuse));
	EXPECT_EQ(IN_MODIFY, events(self->lower));
	close(fd);
}

/* fanotify inode marks report the same events, with the pid of the client. */
TEST_F_TIMEOUT(notify, fanotify, IO_TIMEOUT)
{
	struct fanotify_event_metadata ev[4] = {};
	const char *path[] = { fuse_path(&self->s, "f"), lower_path(&self->s, "f") };
	unsigned int i;

	for (i = 0; i < 2; i++) {
		int fan = fanotify_init(FAN_CLASS_NOTIF | FAN_NONBLOCK | FAN_CLOEXEC,
					O_RDONLY | O_CLOEXEC);

		ASSERT_LE(0, fan);
		ASSERT_EQ(0, fanotify_mark(fan, FAN_MARK_ADD, FAN_MODIFY,
					   AT_FDCWD, path[i]));
		ASSERT_EQ(10, pwrite(self->fd, self->buf, 10, 0));
		/* read() opens the file again, as the server answers opens now. */
		self->s.open_mode = -1;
		ASSERT_EQ(sizeof(ev[0]), read(fan, ev, sizeof(ev)));
		EXPECT_EQ(FAN_MODIFY, ev[0].mask);
		EXPECT_EQ(getpid(), ev[0].pid);
		close(ev[0].fd);
		close(fan);
	}
}

static ssize_t read_way(bool by_splice, int fd, char *buf)
{
	int p[2];

	if (!by_splice)
		return pread(fd, buf, 10, 0);
	return pipe2(p, O_CLOEXEC) ? -1 : splice(fd, NULL, p[1], NULL, 10, 0);
}

/* Wait for an event or for the end of the process that should cause it. */
static bool event_comes(int fan, pid_t pid)
{
	int pidfd = syscall(__NR_pidfd_open, pid, 0);
	struct pollfd p[] = {
		{ .fd = fan, .events = POLLIN },
		{ .fd = pidfd, .events = POLLIN },
	};

	poll(p, 2, -1);
	close(pidfd);
	return p[0].revents & POLLIN;
}

/* A listener for permission events of either file can deny or allow a client's read. */
TEST_F_TIMEOUT(notify, fanotify_permission, IO_TIMEOUT)
{
	const char *path[] = { fuse_path(&self->s, "f"), lower_path(&self->s, "f") };
	struct fanotify_event_metadata ev;
	unsigned int i;

	for (i = 0; i < 8; i++) {
		struct fanotify_response r = {
			.response = i & 2 ? FAN_DENY : FAN_ALLOW,
		};
		int status, fan = fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC,
						O_RDONLY | O_CLOEXEC);
		pid_t pid;
		int fd;

		ASSERT_LE(0, fan);
		ASSERT_EQ(0, fanotify_mark(fan, FAN_MARK_ADD, FAN_ACCESS_PERM,
					   AT_FDCWD, path[i & 1]));
		/* A file that was opened before may never ask a listener. */
		fd = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDONLY);
		ASSERT_LE(0, fd);
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid)
			_exit(read_way(i & 4, fd, self->buf) == 10 ? 0 : errno);
		ASSERT_TRUE(event_comes(fan, pid)) TH_LOG("case %u", i);
		ASSERT_EQ(sizeof(ev), read(fan, &ev, sizeof(ev)));
		EXPECT_EQ(FAN_ACCESS_PERM, ev.mask);
		EXPECT_EQ(pid, ev.pid);
		r.fd = ev.fd;
		ASSERT_EQ(sizeof(r), write(fan, &r, sizeof(r)));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(i & 2 ? EPERM : 0, WEXITSTATUS(status)) TH_LOG("case %u", i);
		close(ev.fd);
		close(fd);
		close(fan);
	}
}

/* A lock of the FUSE file excludes other FUSE opens, and is not one of the lower file. */
TEST_F_TIMEOUT(notify, locks, IO_TIMEOUT)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int other = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDWR);
	int lower = lower_open(&self->s, "f", O_RDWR);

	ASSERT_LE(0, other);
	ASSERT_EQ(0, fcntl(self->fd, F_OFD_SETLK, &l));
	EXPECT_EQ(-1, fcntl(other, F_OFD_SETLK, &l));
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_EQ(0, fcntl(lower, F_OFD_SETLK, &l));
	/* Locks are advisory: the I/O continues. */
	EXPECT_EQ(10, pwrite(other, self->buf, 10, 0));

	ASSERT_EQ(0, flock(self->fd, LOCK_EX));
	EXPECT_EQ(-1, flock(other, LOCK_EX | LOCK_NB));
	EXPECT_EQ(EWOULDBLOCK, errno);
	EXPECT_EQ(0, flock(lower, LOCK_EX | LOCK_NB));
	close(lower);
	close(other);
}

static void lock_file(void *arg)
{
	flock(*(int *)arg, LOCK_EX);
}

/* A blocked lock is granted when the other open is closed. */
TEST_F_TIMEOUT(notify, lock_waits, IO_TIMEOUT)
{
	int other = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDWR);
	struct blocker b;

	ASSERT_LE(0, other);
	ASSERT_EQ(0, flock(self->fd, LOCK_EX));
	EXPECT_TRUE(blocker_start(&b, lock_file, &other));
	close(self->fd);
	self->fd = -1;
	blocker_join(&b);
	EXPECT_TRUE(blocker_done(&b));
	close(other);
}

static volatile sig_atomic_t signals;

static void count_signal(int sig)
{
	signals++;
}

/* A lease of the FUSE file is broken by opens of the FUSE file, not by writes to the lower one. */
TEST_F_TIMEOUT(notify, lease, IO_TIMEOUT)
{
	int rd, lower;

	signal(SIGIO, count_signal);
	close(self->fd);
	self->fd = -1;

	rd = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDONLY);
	ASSERT_LE(0, rd);
	ASSERT_EQ(0, fcntl(rd, F_SETLEASE, F_RDLCK));
	lower = lower_open(&self->s, "f", O_WRONLY);
	ASSERT_EQ(10, pwrite(lower, self->buf, 10, 0));
	close(lower);
	EXPECT_EQ(F_RDLCK, fcntl(rd, F_GETLEASE));

	EXPECT_EQ(-1, fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_WRONLY | O_NONBLOCK));
	EXPECT_EQ(EWOULDBLOCK, errno);
	while (!signals)
		sched_yield();
	ASSERT_EQ(0, fcntl(rd, F_SETLEASE, F_UNLCK));
	self->fd = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_WRONLY | O_NONBLOCK);
	EXPECT_LE(0, self->fd);
	close(rd);
}

/*
 * A write lease of the FUSE file is broken by an open for reading, and does not
 * block passthrough.
 */
TEST_F_TIMEOUT(notify, write_lease, IO_TIMEOUT)
{
	int rd;

	signal(SIGIO, count_signal);
	ASSERT_EQ(0, fcntl(self->fd, F_SETLEASE, F_WRLCK));
	EXPECT_EQ(10, pwrite(self->fd, self->buf, 10, 0));
	EXPECT_EQ(F_WRLCK, fcntl(self->fd, F_GETLEASE));
	EXPECT_EQ(-1, fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDONLY | O_NONBLOCK));
	EXPECT_EQ(EWOULDBLOCK, errno);
	while (!signals)
		sched_yield();
	ASSERT_EQ(0, fcntl(self->fd, F_SETLEASE, F_UNLCK));
	rd = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDONLY | O_NONBLOCK);
	EXPECT_LE(0, rd);
	close(rd);
}

static void open_to_write(void *arg)
{
	FIXTURE_DATA(notify) *self = arg;

	self->fd = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDWR);
}

/*
 * A passthrough open conflicts with a lease of the lower file like an open by
 * the server: an open for writing excludes leases and waits until a lease is
 * released, an open for reading does neither.
 */
TEST_F_TIMEOUT(notify, lease_of_lower, IO_TIMEOUT)
{
	int lower = lower_open(&self->s, "f", O_RDONLY), rd;
	struct blocker b;

	signal(SIGIO, count_signal);
	EXPECT_EQ(-1, fcntl(lower, F_SETLEASE, F_RDLCK));
	EXPECT_EQ(EAGAIN, errno);
	close(self->fd);
	/* F_SETLEASE is EAGAIN until the server has closed the file too. */
	while (fcntl(lower, F_SETLEASE, F_RDLCK)) {
		ASSERT_EQ(EAGAIN, errno);
		sched_yield();
	}

	rd = fs_open(&self->s, OPEN_PASSTHROUGH, "f", O_RDONLY);
	ASSERT_LE(0, rd);
	EXPECT_EQ(10, pread(rd, self->buf, 10, 0));
	close(rd);
	EXPECT_EQ(0, signals);
	EXPECT_EQ(F_RDLCK, fcntl(lower, F_GETLEASE));

	EXPECT_TRUE(blocker_start(&b, open_to_write, self));
	while (!signals)
		sched_yield();
	ASSERT_EQ(0, fcntl(lower, F_SETLEASE, F_UNLCK));
	blocker_join(&b);
	ASSERT_LE(0, self->fd);
	EXPECT_EQ(10, pwrite(self->fd, self->buf, 10, 0));
	close(lower);
}

TEST_HARNESS_MAIN
