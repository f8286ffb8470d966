/* SPDX-License-Identifier: GPL-2.0 */
/* Shared by the files of the daemon */
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

/* An inode that the kernel knows; an O_PATH descriptor holds it. */
struct node {
	int fd;			/* -1: free */
	dev_t dev;
	ino_t ino;
	uint64_t generation;
	uint64_t lookups;
	uint64_t ops;		/* attached to the inode, as far as the daemon knows */
};

struct handle {
	int fd;			/* -1: free */
	int id;			/* backing id, 0: none */
	bool passes;		/* has a lower file: no READ, no WRITE */
};

/* State of the daemon's threads.  The lock protects all but dev and devs. */
struct daemon {
	pthread_mutex_t lock;
	int dev[DEVICES];
	unsigned int devs;
	struct node nodes[NODES];	/* by nodeid */
	struct handle handles[HANDLES];	/* by fh - 1 */
	uint64_t recent[RECENT];	/* uniques of recent requests, answered or not */
	int ids[RECENT];		/* recent backing ids, closed or not */
	unsigned int nr_recent, nr_ids;
};

extern struct daemon d;

struct path { char s[32]; };

typedef void (*answer_fn)(const struct request *rq, char *buf);

/* server.c */

/*
 * Answer a request, in some steps wrongly.  Returns false if the kernel may not
 * have taken the answer.
 */
bool reply(const struct request *rq, int error, const void *out, size_t len);
/* Reply with 0, or with the errno of a call that returned @ret < 0. */
bool reply_call(const struct request *rq, long ret);
/* A random device of the connection */
int any_device(void);
void server_sleep(unsigned int ms);

/* server_node.c */

void nodes_init(void);
/* Path of the node's descriptor; without a descriptor, a path that does not exist */
const char *node_path(uint64_t nodeid, struct path *p);
int node_fd(uint64_t nodeid);
int node_attr(uint64_t nodeid, struct fuse_attr *a);
/* Fill in an entry and count a lookup. Returns 0 or a negative errno. */
int node_entry(uint64_t parent, const char *name, struct fuse_entry_out *e);
void node_unentry(const struct fuse_entry_out *e);

extern const answer_fn node_answers[64], file_answers[64];

/* attach.c */

void odd_init(void);
/* Choose what to attach to the open in @rq, and attach it. */
void attach_open(const struct request *rq, int fd, unsigned int flags,
		 struct handle *h, struct fuse_open_out *out);
/* Choose what to attach to the inode in the answer to @rq, and attach it. */
void attach_inode(const struct request *rq, uint64_t nodeid);
void close_id(int id);
/* An ioctl outside of any request */
void attach_stray(void);

/* notify.c */

void *notifier(void *arg);

#endif /* SHAKE_SERVER_H */
