// SPDX-License-Identifier: GPL-2.0
#define _GNU_SOURCE
#include "attr_test.h"

#include <time.h>

bool same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

bool later(struct timespec a, struct timespec b)
{
	return a.tv_sec > b.tv_sec ||
		(a.tv_sec == b.tv_sec && a.tv_nsec > b.tv_nsec);
}

void wait_tick(void)
{
	struct timespec now, then;

	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	do {
		clock_gettime(CLOCK_REALTIME_COARSE, &then);
	} while (!later(then, now));
}

bool same_attrs(struct fuse_server *s, int fd)
{
	struct stat a, b, c;

	if (fstat(fd, &a) || stat(fuse_path(s, "f"), &c) ||
	    fstatat(s->dirfd, "f", &b, 0))
		return false;
	return same_time(a.st_mtim, b.st_mtim) && same_time(a.st_ctim, b.st_ctim) &&
		same_time(a.st_atim, b.st_atim) && a.st_size == b.st_size &&
		a.st_blocks == b.st_blocks && a.st_mode == b.st_mode &&
		same_time(c.st_mtim, b.st_mtim);
}

void make_old(struct fuse_server *s, const char *name)
{
	struct timespec ts[2] = { { .tv_sec = 1000 }, { .tv_sec = 2000 } };

	utimensat(s->dirfd, name, ts, AT_SYMLINK_NOFOLLOW);
}
