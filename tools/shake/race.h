/* SPDX-License-Identifier: GPL-2.0 */
/* Shared by the files of races */
#ifndef SHAKE_RACE_H
#define SHAKE_RACE_H

#include "common.h"
#include "id_test.h"
#include "inode_test.h"

#include <stddef.h>

enum way { BY_REQUEST, BY_ID, BY_INODE, WAYS };

#define BIT(n)		(1u << (n))
#define ANY		(BIT(WAYS) - 1)
/* The first id of a connection */
#define FIRST_ID	1
#define MANY_BAD	5
#define NOT_OPENED	-1

struct pair {
	const char *what;		/* happens while the server attaches */
	void (*call)(void);
	unsigned int ways;
	/* errnos, each list ends with 0 */
	const int *attach_errors, *open_errors;
	const int *second;		/* of the call, if it has a result */
	bool answers;			/* the call is the answer */
	bool dies;			/* the call ends the connection */
	bool clone;			/* attach by a clone of the device */
};

/* What the client sees; shared with its process */
struct seen {
	int opened, data;		/* 0 or an errno; NOT_OPENED */
	bool lower;			/* it has read the lower file */
	bool wrong;			/* or other data than that of any file */
	bool ready, go, complete;	/* for the races of a release */
};

struct tally {
	unsigned int rounds, attached, passed, bad;
};

struct race {
	struct fuse_server s;
	const struct pair *pair;
	enum way way;
	unsigned int conn;		/* number in /sys/fs/fuse/connections */
	uint64_t unique;
	int lower, other, clone;	/* descriptors; clone may be -1 */
	bool lower_closed;
	bool refuse;			/* the answer is an error */
	int attached, second;		/* 0 or an errno */
	pid_t client;
	enum { ATTACH_FIRST, CALL_FIRST, RANDOM_ORDER } order;
	bool go, met, tried, done;	/* of both threads */
	unsigned int delay[2];
	struct own_fs fs;		/* of the lower file, for all rounds */
};

void spin(unsigned int n);

/* Is 0 or one of the errnos */
bool race_names(const int *errors, int error);
void __attribute__((format(printf, 2, 3))) race_bad(struct tally *t, const char *fmt, ...);
void __attribute__((noreturn)) race_bail(const char *what);

/* Start a server for a round. */
void race_serve(struct race *r, bool (*request)(struct fuse_server *s,
						const struct fuse_in_header *in));
/* Wait for the client's end. */
void race_reap(struct race *r);
/* End the server.  Nothing may be left of the round. */
void race_end(struct race *r, struct tally *t, bool dead);

/* release.c: closes against asynchronous I/O in flight */
void races_of_release(unsigned long rounds);

#endif /* SHAKE_RACE_H */
