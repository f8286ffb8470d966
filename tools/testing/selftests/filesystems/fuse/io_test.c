// SPDX-License-Identifier: GPL-2.0
#define _GNU_SOURCE
#include "io_test.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

int fs_open_mode(struct fuse_server *s, enum fuse_server_open how,
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

int fs_open(struct fuse_server *s, enum fuse_server_open how, const char *name,
	    int flags)
{
	return fs_open_mode(s, how, name, flags, -1);
}

int serve_file(struct fuse_server *s, enum fuse_server_open how, size_t len)
{
	int err;

	s->permissions |= how == OPEN_BY_INODE;
	err = fuse_server_start(s);
	if (err)
		return err;
	if (lower_make(s, "f", len, 1))
		return -EIO;
	return fs_open(s, how, "f", O_RDWR);
}

int lower_open(struct fuse_server *s, const char *name, int flags)
{
	return openat(s->dirfd, name, flags | O_CLOEXEC, 0644);
}

char *lower_path(struct fuse_server *s, const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", s->lower, name);
	return path;
}

char *fuse_path(struct fuse_server *s, const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", s->mnt, name);
	return path;
}

int lookup(struct fuse_server *s, const char *name)
{
	struct stat st;

	return lstat(fuse_path(s, name), &st);
}

int forget_dentry(struct fuse_server *s, const char *name)
{
	struct fuse_notify_inval_entry_out e = {
		.parent = FUSE_ROOT_ID,
		.namelen = strlen(name),
	};
	char buf[256];
	struct fuse_out_header h = {
		.error = FUSE_NOTIFY_INVAL_ENTRY,
		.len = sizeof(h) + sizeof(e) + e.namelen + 1,
	};

	memcpy(buf, &h, sizeof(h));
	memcpy(buf + sizeof(h), &e, sizeof(e));
	strcpy(buf + sizeof(h) + sizeof(e), name);
	return write(s->dev, buf, h.len) == (ssize_t)h.len ? 0 : errno;
}

unsigned char pattern_at(off_t off, unsigned int seed)
{
	return 1 + (off * 7 + (off >> 8) * 13 + (off >> 16) * 29 + seed * 101) % 251;
}

void pattern(void *buf, size_t len, off_t off, unsigned int seed)
{
	unsigned char *p = buf;
	size_t i;

	for (i = 0; i < len; i++)
		p[i] = pattern_at(off + i, seed);
}

long pattern_differs(const void *buf, size_t len, off_t off, unsigned int seed)
{
	const unsigned char *p = buf;
	size_t i;

	for (i = 0; i < len; i++)
		if (p[i] != pattern_at(off + i, seed))
			return i;
	return -1;
}

bool all_zero(const void *buf, size_t len)
{
	const unsigned char *p = buf;
	size_t i;

	for (i = 0; i < len; i++)
		if (p[i])
			return false;
	return true;
}

long lower_differs(struct fuse_server *s, const char *name, off_t off,
		   size_t len, unsigned int seed)
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

int lower_make(struct fuse_server *s, const char *name, size_t len,
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

off_t size_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) ? -1 : st.st_size;
}

void *pages(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

mode_t lower_mode(struct fuse_server *s, const char *name)
{
	struct stat st;

	return fstatat(s->dirfd, name, &st, 0) ? 0 : st.st_mode & 07777;
}

mode_t cached_mode(int fd)
{
	struct statx stx;

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_MODE, &stx))
		return 0;
	return stx.stx_mode & 07777;
}

unsigned long server_io(struct fuse_server *s)
{
	return fuse_server_count(s, FUSE_READ) + fuse_server_count(s, FUSE_WRITE);
}

bool passes_through(enum fuse_server_open how)
{
	return how != OPEN_CACHED && how != OPEN_DIRECT;
}

unsigned long server_bypassed(struct fuse_server *s, enum fuse_server_open how)
{
	if (!passes_through(how))
		return 0;
	return server_io(s) + (how == OPEN_BY_INODE ? fuse_server_count(s, FUSE_OPEN) +
			       fuse_server_count(s, FUSE_RELEASE) : 0);
}

bool lower_is(struct fuse_server *s, long magic)
{
	struct statfs st;

	return !fstatfs(s->dirfd, &st) && st.f_type == magic;
}

long long sectors_written(struct fuse_server *s)
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

int set_mprotect_exec(bool may)
{
	int fd = open("/sys/module/fuse/parameters/passthrough_mprotect_exec",
		      O_WRONLY | O_CLOEXEC);
	int ret = fd >= 0 && write(fd, may ? "Y" : "N", 1) == 1 ? 0 : -1;

	close(fd);
	return ret;
}

bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok = write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	close(fd);
	return ok;
}

long number_in(const char *path, const char *format)
{
	FILE *f = fopen(path, "r");
	char line[128];
	long n = -1;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, format, &n) == 1)
			break;
	if (f)
		fclose(f);
	return n;
}

int child_status(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

static void *blocker_run(void *arg)
{
	struct blocker *b = arg;

	__atomic_store_n(&b->tid, syscall(SYS_gettid), __ATOMIC_RELEASE);
	b->call(b->arg);
	__atomic_store_n(&b->done, true, __ATOMIC_RELEASE);
	return NULL;
}

char task_state(pid_t tid)
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

bool falls_asleep(pid_t tid)
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

bool blocker_start(struct blocker *b, void (*call)(void *), void *arg)
{
	*b = (struct blocker){ .call = call, .arg = arg };
	pthread_create(&b->thread, NULL, blocker_run, b);
	while (!__atomic_load_n(&b->tid, __ATOMIC_ACQUIRE))
		sched_yield();
	return falls_asleep(b->tid) &&
		!__atomic_load_n(&b->done, __ATOMIC_ACQUIRE);
}

bool blocker_done(struct blocker *b)
{
	return __atomic_load_n(&b->done, __ATOMIC_ACQUIRE);
}

void blocker_join(struct blocker *b)
{
	pthread_join(b->thread, NULL);
}
