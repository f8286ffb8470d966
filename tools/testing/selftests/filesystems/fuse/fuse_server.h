/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A FUSE server in a thread, on /dev/fuse itself: the files of one directory,
 * each open answered as the test wants it.  It counts requests by opcode.
 */
#ifndef _SELFTESTS_FUSE_SERVER_H
#define _SELFTESTS_FUSE_SERVER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <linux/fuse.h>

#define FUSE_SERVER_OPCODES	64
#define FUSE_SERVER_NODES	64
#define FUSE_SERVER_HELD	64
#define FUSE_SERVER_BUF		(1 << 20)

enum fuse_server_open {
	OPEN_CACHED,
	OPEN_DIRECT,
	OPEN_PASSTHROUGH,	/* FUSE_DEV_IOC_PASSTHROUGH_OPEN */
	OPEN_BACKING_ID,	/* FUSE_DEV_IOC_BACKING_OPEN */
};

struct fuse_server {
	/* Set before fuse_server_start(). */
	bool writeback;			/* negotiate FUSE_WRITEBACK_CACHE */
	unsigned int attr_valid;	/* seconds, of attributes and entries */
	bool owner_only;		/* mount without allow_other */
	/* Has the last word on the answer to INIT. */
	void (*init)(struct fuse_server *s, struct fuse_init_out *out);

	/* Where it is mounted; the directory that it serves. */
	char mnt[64];
	char lower[128];
	int dirfd;
	int dev;
	uint64_t init_flags;		/* both sides have these */

	/* How the next opens are answered. */
	enum fuse_server_open how;
	uint32_t open_flags;		/* FOPEN_* beside that */
	int open_mode;			/* of the lower file; -1: the client's */
	const char *open_lower;		/* another lower file; NULL: its own */

	/*
	 * Sees each request first, in the thread that serves.  True: it has been
	 * answered, or will be, by fuse_server_reply().
	 */
	bool (*request)(struct fuse_server *s, const struct fuse_in_header *in);
	void *arg;			/* for these two */

	/* The rest is the thread's, see the functions. */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t change;
	unsigned long count[FUSE_SERVER_OPCODES];
	int open_error;			/* errno of the last failed attach */
	bool hold;
	unsigned char hold_last;
	unsigned int nr_held;
	void *held[FUSE_SERVER_HELD];
	char *nodes[FUSE_SERVER_NODES];
};

/* In a mount namespace of its own.  0 or a negative errno. */
int fuse_server_start(struct fuse_server *s);
/* Unmount, end the thread, remove both directories and what is in them. */
void fuse_server_stop(struct fuse_server *s);
/* Abort the connection: the server is gone, the mount stays. */
void fuse_server_die(struct fuse_server *s);

/* 0 or a negative errno of the answer; of writing it, as is returned. */
int fuse_server_reply(struct fuse_server *s, uint64_t unique, int error,
		      const void *out, size_t len);
/* Attributes of a lower file, as answers have them.  0 or a negative errno. */
int fuse_server_attr(struct fuse_server *s, uint64_t nodeid, const char *name,
		     struct fuse_attr *a);

unsigned long fuse_server_count(struct fuse_server *s, int opcode);
/* Wait until there were that many of these requests. */
void fuse_server_wait(struct fuse_server *s, int opcode, unsigned long count);

/*
 * Keep back WRITE requests whose last byte is this, from now on; let them go.
 * Writeback may begin while a page is still being filled: not to be held.
 */
void fuse_server_hold(struct fuse_server *s, unsigned char last);
void fuse_server_wait_held(struct fuse_server *s, unsigned int nr);
void fuse_server_release(struct fuse_server *s);

#endif /* _SELFTESTS_FUSE_SERVER_H */
