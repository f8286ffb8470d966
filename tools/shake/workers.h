/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Workers: processes that write to files of their own, read them back and
 * compare, until they are told to stop.  Each block has a version, from which its
 * data follows.  In the end the file is compared once more, through the open
 * descriptor and below.
 */
#ifndef SHAKE_WORKERS_H
#define SHAKE_WORKERS_H

#include "common.h"

enum worker_kind { WORK_SYNC, WORK_AIO, WORK_URING, WORK_MMAP, WORKERS };

/* Shared with the processes */
struct workers {
	bool stop;
	bool marked;		/* count operations in after[] too */
	bool ready[WORKERS];
	unsigned long ops[WORKERS], after[WORKERS];
	pid_t pid[WORKERS];
};

/* Returns shared memory. */
struct workers *workers_new(void);
/* Make the files of the workers in the directory @lower.  Returns 0 or -1. */
int workers_fill(const char *lower);
/*
 * Start all of them on the files of the directory @dir, and wait until each has
 * its file open.  @lower is the same directory below.
 */
int workers_start(struct workers *w, const char *dir, const char *lower);
/* Wait until each has made @n operations since it was marked.  Returns false after @limit ms. */
bool workers_go_on(struct workers *w, unsigned long n, int64_t limit);
/* Stop all.  Returns the number of workers that failed. */
int workers_stop(struct workers *w);
unsigned long workers_total(const unsigned long *n);
void workers_remove(const char *lower);

#endif /* SHAKE_WORKERS_H */
