/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Shared by most tests: files on a server, patterns in which each byte depends
 * on its offset, and threads with a call that is expected to block.
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
#include <sys/vfs.h>
#include <linux/magic.h>
#include <unistd.h>

#include "fuse_server.h"

#define IO_TIMEOUT	300
#define KIB		1024
#define PAGE		4096	/* the unit of the tests, on any architecture */
#define BLOCK		4096	/* suits direct I/O of any file system */

/*
 * Open through the mount; the server answers as @how says.  Returns an fd or
 * -1.
 */
int fs_open(struct fuse_server *s, enum fuse_server_open how, const char *name,
	    int flags);
/* Likewise; the server opens the lower file with access mode @lower_mode. */
int fs_open_mode(struct fuse_server *s, enum fuse_server_open how,
		 const char *name, int flags, int lower_mode);
/*
 * Start the server, make the lower file "f" with @len bytes of pattern 1, and
 * open it O_RDWR through the mount.  Returns an fd or a negative value.
 */
int serve_file(struct fuse_server *s, enum fuse_server_open how, size_t len);

/* Open the lower file itself. */
int lower_open(struct fuse_server *s, const char *name, int flags);
/* Each function has a static buffer. */
char *lower_path(struct fuse_server *s, const char *name);
char *fuse_path(struct fuse_server *s, const char *name);

/* Look up a name, so that the kernel knows it.  Returns 0 or -1. */
int lookup(struct fuse_server *s, const char *name);
/* Make the kernel forget a name, and the inode too unless it is in use. */
int forget_dentry(struct fuse_server *s, const char *name);

/* The byte at file offset @off of pattern @seed; never 0. */
unsigned char pattern_at(off_t off, unsigned int seed);
void pattern(void *buf, size_t len, off_t off, unsigned int seed);
/* Returns the first index at which @buf differs from the pattern, or -1. */
long pattern_differs(const void *buf, size_t len, off_t off, unsigned int seed);
bool all_zero(const void *buf, size_t len);

/* Make a lower file with @len bytes of pattern @seed. Returns 0 or -1. */
int lower_make(struct fuse_server *s, const char *name, size_t len,
	       unsigned int seed);
/* Likewise for a lower file, read without FUSE */
long lower_differs(struct fuse_server *s, const char *name, off_t off,
		   size_t len, unsigned int seed);
/* Does the lower file system have this magic number? */
bool lower_is(struct fuse_server *s, long magic);
/*
 * Sectors written so far to the disk of the lower file system; -1 without a
 * disk
 */
long long sectors_written(struct fuse_server *s);

off_t size_of(int fd);
/* The permission bits of a lower file, or 0 */
mode_t lower_mode(struct fuse_server *s, const char *name);
/* The mode that the mount has cached and exec uses, without a request */
mode_t cached_mode(int fd);
/* Anonymous memory or NULL */
void *pages(size_t len);

/* Number of READ and WRITE requests so far */
unsigned long server_io(struct fuse_server *s);
/* Does a lower file serve such opens? */
bool passes_through(enum fuse_server_open how);
/* Number of requests so far that such opens must not send */
unsigned long server_bypassed(struct fuse_server *s, enum fuse_server_open how);

/* Set the module parameter passthrough_mprotect_exec. Returns 0 or -1. */
int set_mprotect_exec(bool may);

/* Write a text to an existing file. */
bool write_file(const char *path, const char *text);
/* The number in the first line that fits @format, which has a %ld; -1 if none does */
long number_in(const char *path, const char *format);

/* Wait for a child.  Returns its exit status, or -1 if a signal killed it. */
int child_status(pid_t pid);

/* A thread that makes one call, which is expected to block */
struct blocker {
	pthread_t thread;
	pid_t tid;
	bool done;
	void (*call)(void *arg);
	void *arg;
};

/* State letter in /proc/PID/stat; 0 if there is no such task */
char task_state(pid_t tid);
/*
 * Watch a process, or a thread of this process, until it has slept many times
 * in a row, or has ended.  Returns true if it sleeps.
 */
bool falls_asleep(pid_t tid);
/* Start @call in a thread. Returns true if it blocks. */
bool blocker_start(struct blocker *b, void (*call)(void *), void *arg);
bool blocker_done(struct blocker *b);
void blocker_join(struct blocker *b);

/* The three kinds of open, as variants of a fixture */
#define FIXTURE_VARIANTS_HOW(fixture)					\
FIXTURE_VARIANT(fixture) { enum fuse_server_open how; };		\
FIXTURE_VARIANT_ADD(fixture, passthrough) { .how = OPEN_PASSTHROUGH };	\
FIXTURE_VARIANT_ADD(fixture, cached) { .how = OPEN_CACHED };		\
FIXTURE_VARIANT_ADD(fixture, direct) { .how = OPEN_DIRECT }

/* Without and with FUSE_WRITEBACK_CACHE, as variants of a fixture */
#define FIXTURE_VARIANTS_WRITEBACK(fixture)				\
FIXTURE_VARIANT(fixture) { bool writeback; };				\
FIXTURE_VARIANT_ADD(fixture, writethrough) { .writeback = false };	\
FIXTURE_VARIANT_ADD(fixture, writeback) { .writeback = true }

#endif /* _SELFTESTS_FUSE_IO_TEST_H */
