/* SPDX-License-Identifier: GPL-2.0 */
/* What the files of a client share. */
#ifndef SHAKE_CLIENT_H
#define SHAKE_CLIENT_H

#include <linux/aio_abi.h>

#include "shake.h"

#define CLIENT_FDS	8

struct ring;

struct client {
	unsigned int nr;
	int fd[CLIENT_FDS];
	char *buf;		/* BUF bytes */
	char *map;
	size_t map_len;
	int pipe[2];
	aio_context_t aio;
	struct ring *ring;
	bool drained;		/* nothing asynchronous is in flight */
	char path[96];		/* a file of the mount, of this step */
	size_t len;		/* a length and an offset, of this step */
	off_t off;
};

/*
 * An operation on an open file, or on c->path.  Returns what its main call did, with
 * errno, which is judged.
 */
typedef long (*op_fn)(struct client *c, int fd);

struct op {
	const char *name;
	op_fn fn;
	unsigned int weight;
	bool changes;		/* it may change data: see struct shared */
	const int *expected;	/* errnos beside the common ones, ends with 0 */
	bool pipe;		/* it may write with a pipe locked */
};

extern const struct op io_ops[], async_ops[], name_ops[];

/* Another of its open files, or @fd */
int other_fd(struct client *c, int fd);
/* A buffer for a read or a write; it may be a mapping of the mount. */
char *buffer(struct client *c);
/* Choose a length and an offset; for O_DIRECT most of the time aligned. */
void choose_range(struct client *c);

void async_begin(struct client *c);

#endif /* SHAKE_CLIENT_H */
