/* SPDX-License-Identifier: GPL-2.0 */
/* Shared by the tests of attributes, in addition to io_test.h. */
#ifndef _SELFTESTS_FUSE_ATTR_TEST_H
#define _SELFTESTS_FUSE_ATTR_TEST_H

#include "io_test.h"

bool same_time(struct timespec a, struct timespec b);
bool later(struct timespec a, struct timespec b);
/* Wait until the lower file system would set a later timestamp. */
void wait_tick(void);
/* Set the lower file's atime to 1000, and its mtime to 2000. */
void make_old(struct fuse_server *s, const char *name);

/* Do stats of "f", by @fd and by name, show what its lower file has? */
bool same_attrs(struct fuse_server *s, int fd);

#endif /* _SELFTESTS_FUSE_ATTR_TEST_H */
