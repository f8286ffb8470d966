/* SPDX-License-Identifier: GPL-2.0 */
/* Shared by the files of a client */
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
	char path[96];		/* file of the mount for this step */
	size_t len;		/* length and offset for this step */
	off_t off;
};

/*
 * An operation on an open file, or on c->path.  Returns the result of its main
 * call and leaves its errno; both are judged.
 */
typedef long (*op_fn)(struct client *c, int fd);

struct op {
	const char *name;
	op_fn fn;
	unsigned int weight;
	bool changes;		/* may change data, see struct shared */
	const int *expected;	/* errnos that are expected here, ends with 0 */
	bool pipe;		/* may write with a pipe locked */
};

extern const struct op io_ops[], async_ops[], name_ops[];

/* Another open file of the client, or @fd */
int other_fd(struct client *c, int fd);
/* A buffer for a read or a write, which may be a mapping of the mount */
char *buffer(struct client *c);
/* Choose a length and an offset; half of them are aligned, for O_DIRECT. */
void choose_range(struct client *c);

void async_begin(struct client *c);

#endif /* SHAKE_CLIENT_H */
