/* SPDX-License-Identifier: GPL-2.0 */
/* Shared by the tests of backing ids, in addition to attach_test.h. */
#ifndef _SELFTESTS_FUSE_ID_TEST_H
#define _SELFTESTS_FUSE_ID_TEST_H

#include "attach_test.h"

/* FUSE_DEV_IOC_BACKING_OPEN. Returns an id or a negative errno. */
int id_map(int dev, const struct fuse_backing_map *map);
int id_open(int dev, int fd);
/* FUSE_DEV_IOC_BACKING_CLOSE. Returns 0 or a positive errno. */
int id_close(int dev, uint32_t id);

/* Register a file of the served directory; the server keeps no descriptor. */
int id_of(struct fuse_server *s, const char *name, int flags);
int id_of_path(struct fuse_server *s, const char *path, int flags);

/* How the server answers the next OPEN, CREATE or TMPFILE. */
struct id_answer {
	int32_t id;
	uint32_t flags;		/* FOPEN_* */
	bool attach;		/* "other" to the request as well */
	int attached;
};

#define LEN	OWN_FS_LEN	/* of each lower file */

/* The request() of serve_ids(); READ and WRITE, if any, go to "f". */
bool by_id(struct fuse_server *s, const struct fuse_in_header *in);
/*
 * Start a server that answers as @a says, with the lower files "f" of pattern 1
 * and "other" of pattern 2, and mount @fs.  Returns 0 or a negative errno.
 */
int serve_ids(struct fuse_server *s, struct id_answer *a, struct own_fs *fs);
/* Open "f" through the mount by @id. Returns an fd or -1. */
int client_open(struct fuse_server *s, int id, int flags);

#endif /* _SELFTESTS_FUSE_ID_TEST_H */
