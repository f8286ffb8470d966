// SPDX-License-Identifier: GPL-2.0
#define _GNU_SOURCE
#include "server_i.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/uio.h>
#include <unistd.h>

int fuse_server_reply(struct fuse_server *s, uint64_t unique, int error,
		      const void *out, size_t len)
{
	struct fuse_out_header h = {
		.unique = unique,
		.error = error,
		.len = sizeof(h) + (error ? 0 : len),
	};
	struct iovec iov[] = {
		{ .iov_base = &h, .iov_len = sizeof(h) },
		{ .iov_base = (void *)out, .iov_len = error ? 0 : len },
	};

	return writev(s->dev, iov, 2) < 0 ? -errno : 0;
}

/*
 * The tests see the effect of errors: ENOENT after an interrupt, ENODEV after
 * umount.
 */
void server_reply(struct fuse_server *s, const struct request *rq, int error,
		  const void *out, size_t len)
{
	fuse_server_reply(s, rq->h.unique, error, out, len);
}

void server_reply_call(struct fuse_server *s, const struct request *rq, int ret)
{
	server_reply(s, rq, ret < 0 ? -errno : 0, NULL, 0);
}

static void server_init(struct fuse_server *s, const struct request *rq, char *buf)
{
	const struct fuse_init_in *in = (const void *)rq->body;
	uint64_t want = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_MAX_PAGES |
		FUSE_INIT_EXT | FUSE_PASSTHROUGH;
	struct fuse_init_out out = {
		.major = FUSE_KERNEL_VERSION,
		.minor = FUSE_KERNEL_MINOR_VERSION,
		.max_readahead = in->max_readahead,
		.max_background = 64,
		.congestion_threshold = 48,
		.max_write = 128 * 1024,
		.max_pages = 32,
		.time_gran = 1,
		.max_stack_depth = 2,
	};

	if (s->writeback)
		want |= FUSE_WRITEBACK_CACHE;
	want &= in->flags | (uint64_t)in->flags2 << 32;
	out.flags = want;
	out.flags2 = want >> 32;
	if (s->init)
		s->init(s, &out);
	s->init_flags = out.flags | (uint64_t)out.flags2 << 32;
	server_reply(s, rq, 0, &out, sizeof(out));
}

static bool keep_back(struct fuse_server *s, const struct request *rq)
{
	unsigned char last = ((const char *)rq)[rq->h.len - 1];
	bool held = false;

	pthread_mutex_lock(&s->lock);
	if (s->hold && last == s->hold_last && s->nr_held < FUSE_SERVER_HELD) {
		void *copy = malloc(rq->h.len);

		memcpy(copy, rq, rq->h.len);
		s->held[s->nr_held++] = copy;
		held = true;
		pthread_cond_broadcast(&s->change);
	}
	pthread_mutex_unlock(&s->lock);
	return held;
}

/* The answer to each request; NULL: ENOSYS */
static const answer_fn answers[FUSE_SERVER_OPCODES] = {
	[FUSE_INIT] = server_init,
	[FUSE_LOOKUP] = server_lookup,
	[FUSE_MKNOD] = server_mknod,
	[FUSE_MKDIR] = server_mkdir,
	[FUSE_SYMLINK] = server_symlink,
	[FUSE_LINK] = server_link,
	[FUSE_READLINK] = server_readlink,
	[FUSE_UNLINK] = server_unlink,
	[FUSE_RMDIR] = server_unlink,
	[FUSE_RENAME] = server_rename,
	[FUSE_GETATTR] = server_getattr,
	[FUSE_SETATTR] = server_setattr,
	[FUSE_GETXATTR] = server_getxattr,
	[FUSE_LISTXATTR] = server_getxattr,
	[FUSE_SETXATTR] = server_setxattr,
	[FUSE_REMOVEXATTR] = server_removexattr,
	[FUSE_STATFS] = server_statfs,
	[FUSE_OPEN] = server_open,
	[FUSE_CREATE] = server_create,
	[FUSE_TMPFILE] = server_tmpfile,
	[FUSE_READ] = server_read,
	[FUSE_WRITE] = server_write,
	[FUSE_LSEEK] = server_lseek,
	[FUSE_FALLOCATE] = server_fallocate,
	[FUSE_COPY_FILE_RANGE] = server_copy,
	[FUSE_FSYNC] = server_fsync,
	[FUSE_FSYNCDIR] = server_fsync,
	[FUSE_RELEASE] = server_release,
	[FUSE_RELEASEDIR] = server_release,
	[FUSE_OPENDIR] = server_opendir,
	[FUSE_READDIR] = server_readdir,
};

/* These requests have no answer. */
static bool is_silent(uint32_t opcode)
{
	return opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET ||
		opcode == FUSE_INTERRUPT;
}

static void handle(struct fuse_server *s, const struct request *rq, char *buf)
{
	if (is_silent(rq->h.opcode) ||
	    (rq->h.opcode == FUSE_WRITE && keep_back(s, rq)))
		return;
	if (rq->h.opcode < FUSE_SERVER_OPCODES && answers[rq->h.opcode])
		answers[rq->h.opcode](s, rq, buf);
	else
		server_reply(s, rq, -ENOSYS, NULL, 0);
}

static void *serve(void *arg)
{
	struct fuse_server *s = arg;
	struct request *rq = malloc(FUSE_SERVER_BUF);
	char *buf = malloc(FUSE_SERVER_BUF);

	for (;;) {
		ssize_t n = read(s->dev, rq, FUSE_SERVER_BUF);

		if (n < 0 && (errno == EINTR || errno == EAGAIN ||
			      errno == ENOENT))
			continue;
		if (n < (ssize_t)sizeof(*rq))
			break;
		pthread_mutex_lock(&s->lock);
		if (rq->h.opcode < FUSE_SERVER_OPCODES)
			s->count[rq->h.opcode]++;
		pthread_cond_broadcast(&s->change);
		pthread_mutex_unlock(&s->lock);
		if (!s->request || !s->request(s, &rq->h))
			handle(s, rq, buf);
	}
	free(buf);
	free(rq);
	return NULL;
}

int fuse_server_start(struct fuse_server *s)
{
	const char *base = getenv("FUSE_TEST_LOWER") ?: getenv("TMPDIR") ?: "/tmp";
	static pid_t own_mounts;	/* process with its own mount namespace */
	char opts[128];

	snprintf(s->mnt, sizeof(s->mnt), "/tmp/fuse.XXXXXX");
	snprintf(s->lower, sizeof(s->lower), "%s/lower.XXXXXX", base);
	s->how = OPEN_PASSTHROUGH;
	s->open_mode = -1;
	s->attr_valid = 3600;
	s->attach_in = -1;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->change, NULL);
	/* New nodes come after that of the root. */
	s->nodes[0].name = "";
	s->nodes[FUSE_ROOT_ID].name = ".";

	if (own_mounts != getpid() &&
	    (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)))
		return -errno;
	own_mounts = getpid();
	if (!mkdtemp(s->mnt) || !mkdtemp(s->lower))
		return -errno;
	s->dirfd = open(s->lower, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	s->dev = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (s->dirfd < 0 || s->dev < 0)
		return -errno;

	snprintf(opts, sizeof(opts),
		 "fd=%d,rootmode=40000,user_id=0,group_id=0%s%s", s->dev,
		 s->owner_only ? "" : ",allow_other",
		 s->permissions ? ",default_permissions" : "");
	if (mount("fuse", s->mnt, "fuse", MS_NOSUID | MS_NODEV, opts))
		return -errno;
	return -pthread_create(&s->thread, NULL, serve, s);
}

void fuse_server_die(struct fuse_server *s)
{
	if (s->dev < 0)
		return;
	/* The abort ends the thread's read with ENODEV. */
	umount2(s->mnt, MNT_FORCE);
	pthread_join(s->thread, NULL);
	close(s->dev);
	s->dev = -1;
}

/* Empty a directory, and close it. */
static void empty(int dirfd)
{
	DIR *dir = fdopendir(dirfd);
	struct dirent *d;

	while (dir && (d = readdir(dir))) {
		if (!unlinkat(dirfd, d->d_name, 0) || !strcmp(d->d_name, ".") ||
		    !strcmp(d->d_name, ".."))
			continue;
		empty(openat(dirfd, d->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
		unlinkat(dirfd, d->d_name, AT_REMOVEDIR);
	}
	closedir(dir);
}

void fuse_server_stop(struct fuse_server *s)
{
	umount2(s->mnt, MNT_FORCE | MNT_DETACH);
	fuse_server_die(s);
	rmdir(s->mnt);

	empty(s->dirfd);
	rmdir(s->lower);
}

unsigned long fuse_server_count(struct fuse_server *s, int opcode)
{
	unsigned long count;

	pthread_mutex_lock(&s->lock);
	count = s->count[opcode];
	pthread_mutex_unlock(&s->lock);
	return count;
}

unsigned long fuse_server_requests(struct fuse_server *s)
{
	unsigned long count = 0;
	unsigned int i;

	pthread_mutex_lock(&s->lock);
	for (i = 0; i < FUSE_SERVER_OPCODES; i++)
		count += is_silent(i) ? 0 : s->count[i];
	pthread_mutex_unlock(&s->lock);
	return count;
}

void fuse_server_wait(struct fuse_server *s, int opcode, unsigned long count)
{
	pthread_mutex_lock(&s->lock);
	while (s->count[opcode] < count)
		pthread_cond_wait(&s->change, &s->lock);
	pthread_mutex_unlock(&s->lock);
}

void fuse_server_hold(struct fuse_server *s, unsigned char last)
{
	pthread_mutex_lock(&s->lock);
	s->hold_last = last;
	s->hold = true;
	pthread_mutex_unlock(&s->lock);
}

void fuse_server_wait_held(struct fuse_server *s, unsigned int nr)
{
	pthread_mutex_lock(&s->lock);
	while (s->nr_held < nr)
		pthread_cond_wait(&s->change, &s->lock);
	pthread_mutex_unlock(&s->lock);
}

void fuse_server_release(struct fuse_server *s)
{
	unsigned int i;

	pthread_mutex_lock(&s->lock);
	s->hold = false;
	for (i = 0; i < s->nr_held; i++) {
		server_write(s, s->held[i], NULL);
		free(s->held[i]);
	}
	s->nr_held = 0;
	pthread_mutex_unlock(&s->lock);
}
