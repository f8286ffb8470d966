// SPDX-License-Identifier: GPL-2.0
/* The counts of requests, and the file of statistics. */

#include "passthroughfs.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const operation_names[] = {
#define X(name) #name,
	OPERATIONS(X)
#undef X
};

static struct {
	unsigned long requests[OP_COUNT];
	unsigned long attached;
	unsigned long refused;
	unsigned long inodes;
	char *part;		/* written, then renamed to config.stats */
	pthread_mutex_t lock;	/* one writer of the file at a time */
} stats = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void bump(unsigned long *counter)
{
	__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

void count(enum operation op)
{
	bump(&stats.requests[op]);
}

void count_attached(void)
{
	bump(&stats.attached);
}

void count_refused(void)
{
	bump(&stats.refused);
}

void count_inode(void)
{
	bump(&stats.inodes);
}

static unsigned long counted(const unsigned long *counter)
{
	return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

/* The umask does not narrow the mode: it is 0, or a client's. */
static FILE *open_stats(void)
{
	int fd = open(stats.part, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW |
		      O_CLOEXEC, 0644);
	FILE *f = fd == -1 ? NULL : fdopen(fd, "w");

	if (!f && fd != -1)
		close(fd);
	return f;
}

/* The rename makes the update atomic for readers of the file. */
void write_stats(void)
{
	unsigned long total = 0;
	FILE *f;
	int i;

	if (!config.stats)
		return;

	pthread_mutex_lock(&stats.lock);
	f = open_stats();
	if (!f)
		goto fail;
	fputs("{\"requests\": {", f);
	for (i = 0; i < OP_COUNT; i++) {
		unsigned long n = counted(&stats.requests[i]);

		total += n;
		fprintf(f, "%s\"%s\": %lu", i ? ", " : "", operation_names[i], n);
	}
	fprintf(f, "}, \"total\": %lu, \"passthrough\": {\"attached\": %lu, \"refused\": %lu, \"inodes\": %lu}}\n",
		total, counted(&stats.attached), counted(&stats.refused),
		counted(&stats.inodes));
	if (fclose(f) || rename(stats.part, config.stats))
		goto fail;
	pthread_mutex_unlock(&stats.lock);
	return;

fail:
	fuse_log(FUSE_LOG_ERR, "passthroughfs: cannot write %s: %m\n",
		 config.stats);
	pthread_mutex_unlock(&stats.lock);
}

void *stats_thread(void *arg)
{
	sigset_t *set = arg;
	int sig;

	while (!sigwait(set, &sig))
		write_stats();
	return NULL;
}

/* Make the path absolute: the daemon changes to /. */
void prepare_stats(void)
{
	char *cwd, *path;
	struct stat st;
	FILE *f;

	if (!config.stats)
		return;
	if (config.stats[0] != '/') {
		cwd = getcwd(NULL, 0);
		if (!cwd || asprintf(&path, "%s/%s", cwd, config.stats) == -1)
			fail("no current directory: %s", strerror(errno));
		free(cwd);
		free(config.stats);
		config.stats = path;
	}
	if (asprintf(&stats.part, "%s.part", config.stats) == -1)
		fail("out of memory");
	/* The rename would replace a device, and fail on a directory. */
	if (lstat(config.stats, &st) == 0 && !S_ISREG(st.st_mode))
		fail("cannot write %s: it is not a regular file", config.stats);
	f = open_stats();
	if (!f)
		fail("cannot write %s: %s", config.stats, strerror(errno));
	fclose(f);
	unlink(stats.part);
}
