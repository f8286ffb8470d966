/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of I/O share: files on a server, patterns that say where a
 * byte belongs, and the states of threads that are to block.
 */
#ifndef _SELFTESTS_FUSE_IO_TEST_H
#define _SELFTESTS_FUSE_IO_TEST_H

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <linux/magic.h>
#include <unistd.h>

#include "fuse_server.h"
#include "../../kselftest_harness.h"

#define IO_TIMEOUT	300
#define KIB		1024
#define PAGE		4096	/* the unit of the tests, on any architecture */
#define BLOCK		4096	/* fits any file system's direct I/O */

/* Open through the mount, answered in the way @how. */
static inline int fs_open_mode(struct fuse_server *s, enum fuse_server_open how,
			       const char *name, int flags, int lower_mode)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", s->mnt, name);
	s->how = how;
	s->open_mode = lower_mode;
	s->open_error = 0;
	fd = open(path, flags | O_CLOEXEC, 0644);
	if (fd >= 0 && s->open_error) {
		errno = s->open_error;
		close(fd);
		return -1;
	}
	return fd;
}

static inline int fs_open(struct fuse_server *s, enum fuse_server_open how,
			  const char *name, int flags)
{
	return fs_open_mode(s, how, name, flags, -1);
}

/* Open the lower file itself. */
static inline int lower_open(struct fuse_server *s, const char *name, int flags)
{
	return openat(s->dirfd, name, flags | O_CLOEXEC, 0644);
}

static inline char *lower_path(struct fuse_server *s, const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", s->lower, name);
	return path;
}

static inline char *fuse_path(struct fuse_server *s, const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", s->mnt, name);
	return path;
}

/* The byte at file offset @off of the pattern @seed; never 0. */
static inline unsigned char pattern_at(off_t off, unsigned int seed)
{
	return 1 + (off * 7 + (off >> 8) * 13 + (off >> 16) * 29 + seed * 101) % 251;
}

static inline void pattern(void *buf, size_t len, off_t off, unsigned int seed)
{
	unsigned char *p = buf;
	size_t i;

	for (i = 0; i < len; i++)
		p[i] = pattern_at(off + i, seed);
}

/* Where @buf leaves the pattern, or -1. */
static inline long pattern_differs(const void *buf, size_t len, off_t off,
				   unsigned int seed)
{
	const unsigned char *p = buf;
	size_t i;

	for (i = 0; i < len; i++)
		if (p[i] != pattern_at(off + i, seed))
			return i;
	return -1;
}

static inline bool all_zero(const void *buf, size_t len)
{
	const unsigned char *p = buf;
	size_t i;

	for (i = 0; i < len; i++)
		if (p[i])
			return false;
	return true;
}

/* The lower file as a program beside FUSE sees it: -1 or where it differs. */
static inline long lower_differs(struct fuse_server *s, const char *name,
				 off_t off, size_t len, unsigned int seed)
{
	int fd = lower_open(s, name, O_RDONLY);
	char *buf = malloc(len);
	long ret = 0;

	if (fd >= 0 && pread(fd, buf, len, off) == (ssize_t)len)
		ret = pattern_differs(buf, len, off, seed);
	free(buf);
	close(fd);
	return ret;
}

/* Make the lower file, @len bytes of pattern @seed. */
static inline int lower_make(struct fuse_server *s, const char *name, size_t len,
			     unsigned int seed)
{
	int fd = lower_open(s, name, O_RDWR | O_CREAT | O_TRUNC);
	char *buf = malloc(len + 1);
	int ret = -1;

	pattern(buf, len, 0, seed);
	if (fd >= 0 && pwrite(fd, buf, len, 0) == (ssize_t)len)
		ret = 0;
	free(buf);
	close(fd);
	return ret;
}

static inline off_t size_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) ? -1 : st.st_size;
}

static inline void *pages(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* Requests at the server that passthrough is to spare. */
static inline unsigned long server_io(struct fuse_server *s)
{
	return fuse_server_count(s, FUSE_READ) + fuse_server_count(s, FUSE_WRITE);
}

static inline bool lower_is(struct fuse_server *s, long magic)
{
	struct statfs st;

	return !fstatfs(s->dirfd, &st) && st.f_type == magic;
}

/* Sectors written so far on the disk of the lower file; -1 if it has none. */
static inline long long sectors_written(struct fuse_server *s)
{
	unsigned long long v[7];
	char path[64], line[512], dev[256];
	unsigned int major_id, minor_id;
	long long ret = -1;
	struct stat st;
	FILE *f;

	fstat(s->dirfd, &st);
	f = fopen("/proc/self/mountinfo", "r");
	while (f && fgets(line, sizeof(line), f)) {
		char *dash = strstr(line, " - ");

		if (sscanf(line, "%*d %*d %u:%u", &major_id, &minor_id) == 2 &&
		    makedev(major_id, minor_id) == st.st_dev && dash &&
		    sscanf(dash, " - %*s %255s", dev) == 1 && dev[0] == '/')
			break;
		dev[0] = 0;
	}
	if (f)
		fclose(f);
	if (!dev[0] || stat(dev, &st) || !S_ISBLK(st.st_mode))
		return -1;

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/stat",
		 major(st.st_rdev), minor(st.st_rdev));
	f = fopen(path, "r");
	if (f && fscanf(f, "%llu %llu %llu %llu %llu %llu %llu", &v[0], &v[1],
			&v[2], &v[3], &v[4], &v[5], &v[6]) == 7)
		ret = v[6];
	if (f)
		fclose(f);
	return ret;
}

/* A thread that makes one call which is to block. */
struct blocker {
	pthread_t thread;
	pid_t tid;
	bool done;
	void (*call)(void *arg);
	void *arg;
};

static inline void *blocker_run(void *arg)
{
	struct blocker *b = arg;

	__atomic_store_n(&b->tid, syscall(SYS_gettid), __ATOMIC_RELEASE);
	b->call(b->arg);
	__atomic_store_n(&b->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static inline char task_state(pid_t tid)
{
	char path[64], line[256], *p;
	char state = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", tid);
	f = fopen(path, "r");
	if (f && fgets(line, sizeof(line), f)) {
		p = strrchr(line, ')');
		state = p ? p[2] : 0;
	}
	if (f)
		fclose(f);
	return state;
}

/*
 * Look on until the task sleeps for good, seen asleep in many looks in a row,
 * or has ended.  Does it sleep?  Pid or, of this process, thread id.
 */
static inline bool falls_asleep(pid_t tid)
{
	int asleep = 0;
	char state;

	while (asleep < 200) {
		sched_yield();
		state = task_state(tid);
		if (!state || state == 'Z' || state == 'X')
			return false;
		asleep = state == 'S' || state == 'D' ? asleep + 1 : 0;
	}
	return true;
}

/* Start @call: does it block? */
static inline bool blocker_start(struct blocker *b, void (*call)(void *),
				 void *arg)
{
	*b = (struct blocker){ .call = call, .arg = arg };
	pthread_create(&b->thread, NULL, blocker_run, b);
	while (!__atomic_load_n(&b->tid, __ATOMIC_ACQUIRE))
		sched_yield();
	return falls_asleep(b->tid) &&
		!__atomic_load_n(&b->done, __ATOMIC_ACQUIRE);
}

static inline bool blocker_done(struct blocker *b)
{
	return __atomic_load_n(&b->done, __ATOMIC_ACQUIRE);
}

static inline void blocker_join(struct blocker *b)
{
	pthread_join(b->thread, NULL);
}

/* The three ways to open, as variants of a fixture that has a member how. */
#define FIXTURE_VARIANTS_HOW(fixture)					\
FIXTURE_VARIANT(fixture) { enum fuse_server_open how; };		\
FIXTURE_VARIANT_ADD(fixture, passthrough) { .how = OPEN_PASSTHROUGH };	\
FIXTURE_VARIANT_ADD(fixture, cached) { .how = OPEN_CACHED };		\
FIXTURE_VARIANT_ADD(fixture, direct) { .how = OPEN_DIRECT }

#endif /* _SELFTESTS_FUSE_IO_TEST_H */
