/* SPDX-License-Identifier: GPL-2.0 */
/* What the files of the daemon share. */
#ifndef SHAKE_SERVER_H
#define SHAKE_SERVER_H

#include "shake.h"

#include <pthread.h>

#define NODES		512
#define HANDLES		1024
#define RECENT		16

struct request {
	struct fuse_in_header h;
	char body[];
};

/* An inode that the kernel knows, held by an O_PATH descriptor. */
struct node {
	int fd;			/* -1: free */
	dev_t dev;
	ino_t ino;
	uint64_t generation;
	uint64_t lookups;
	uint64_t ops;		/* attached by inode, as far as the daemon knows */
};

struct handle {
	int fd;			/* -1: free */
	int id;			/* backing id, 0: none */
	bool passes;		/* a lower file is attached: no READ, no WRITE */
};

/* What the daemon's threads share; lock protects all but dev. */
struct daemon {
	pthread_mutex_t lock;
	int dev[DEVICES];
	unsigned int devs;
	struct node nodes[NODES];	/* by nodeid */
	struct handle handles[HANDLES];	/* by fh - 1 */
	uint64_t recent[RECENT];	/* uniques that were answered, or are */
	int ids[RECENT];		/* backing ids, perhaps closed again */
	unsigned int nr_recent, nr_ids;
};

extern struct daemon d;

struct path { char s[32]; };

typedef void (*answer_fn)(const struct request *rq, char *buf);

/* server.c */

/*
 * Answer a request, or do something else if that is what this step is about.
 * Returns false if the answer may not have been taken.
 */
bool reply(const struct request *rq, int error, const void *out, size_t len);
/* The answer to what a call returned */
bool reply_call(const struct request *rq, long ret);
/* One of the devices of the connection */
int any_device(void);
void server_sleep(unsigned int ms);

/* server_node.c */

void nodes_init(void);
/* Its path by way of the descriptor; one that does not exist if there is none. */
const char *node_path(uint64_t nodeid, struct path *p);
int node_fd(uint64_t nodeid);
int node_attr(uint64_t nodeid, struct fuse_attr *a);
/* Fill in an entry and count a lookup. Returns 0 or a negative errno. */
int node_entry(uint64_t parent, const char *name, struct fuse_entry_out *e);
void node_unentry(const struct fuse_entry_out *e);

extern const answer_fn node_answers[64], file_answers[64];

/* attach.c */

void odd_init(void);
/* Attach to the open that @rq asks for, as this step says. */
void attach_open(const struct request *rq, int fd, unsigned int flags,
		 struct handle *h, struct fuse_open_out *out);
/* Attach to the inode that the answer to @rq tells of, as this step says. */
void attach_inode(const struct request *rq, uint64_t nodeid);
void close_id(int id);
/* An ioctl that nothing called for */
void attach_stray(void);

/* notify.c */

void *notifier(void *arg);

#endif /* SHAKE_SERVER_H */
