/* SPDX-License-Identifier: GPL-2.0 */
/*
 * passthroughfs --check: is passthrough possible here?  It shares nothing with the
 * daemon but the command line.
 *
 *   check.c        what is said, and the exit status
 *   check_place.c  the file system of a path, a lower file there, and what passes
 *                  through on a FUSE mount
 *   check_try.c    the attempt: a file system of our own that attaches that file
 */
#ifndef CHECK_H
#define CHECK_H

#include "passthroughfs.h"

#include <limits.h>

/* check_place.c */

struct place_mount {
	uint64_t id;			/* in mountinfo */
	unsigned int connection;	/* if it is FUSE */
	bool is_top;			/* the path is the mount point */
	char root[PATH_MAX];		/* what is mounted, in its file system */
	char point[PATH_MAX];
	char type[64];
	char source[PATH_MAX];
	char options[256];		/* of the mount and of the superblock */
};

int find_mount(const char *path, struct place_mount *mount);
bool is_on_fuse(const struct place_mount *mount);
bool is_stacked(const struct place_mount *mount);
int open_lower(const char *path, bool *ours);
bool can_direct(int fd);
void say_passing(const struct place_mount *mount);

/* check_try.c */

enum form { BY_REQUEST, BY_ID, BY_INODE, FORMS };

/* Errors are errnos; 0 is none. */
struct attempt {
	int attach;		/* what the kernel answered */
	int open;		/* the client's open after that */
	int io;			/* its write and read */
	unsigned int requests;	/* that came although the file was attached */
};

struct try {
	/* What to try */
	int lower;
	bool writable;		/* lower is a file of ours, to be written and read */
	unsigned int depth;	/* max_backing_stack_depth */

	/* What came of it */
	char obstacle[256];	/* why there is no FUSE file system, or "" */
	bool offered;		/* the kernel has passthrough */
	unsigned int minor;	/* of the FUSE protocol */
	struct attempt form[FORMS];
};

void try_forms(struct try *try);
bool works(const struct attempt *a);

#endif
