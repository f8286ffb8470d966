// SPDX-License-Identifier: GPL-2.0
/* The flags of the mount. */

#include "passthroughfs.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * No request has noatime and nodiratime, which a remount can change.  They are
 * read from mountinfo, and read again when poll() reports a change.
 */
static struct {
	pthread_mutex_t lock;	/* for all below, once requests arrive */
	FILE *table;		/* mountinfo; NULL if the mount is not known */
	uint64_t id;		/* of the mount, in mountinfo */
	bool noatime;		/* for files */
	bool nodiratime;	/* for directories */
} mounted = { .lock = PTHREAD_MUTEX_INITIALIZER };

static bool has_option(const char *list, const char *option)
{
	size_t n = strlen(option);

	while (list && (strncmp(list, option, n) || (list[n] && list[n] != ','))) {
		list = strchr(list, ',');
		if (list)
			list++;
	}
	return list;
}

/* Skips mounts that are not FUSE: mount(8) can hand over a descriptor. */
static void read_mount(void)
{
	char *line = NULL, options[256];
	size_t size = 0;
	uint64_t id;

	rewind(mounted.table);
	while (getline(&line, &size, mounted.table) != -1) {
		if (sscanf(line, "%" SCNu64 " %*s %*s %*s %*s %255s", &id,
			   options) != 2 || id != mounted.id ||
		    !strstr(line, " - fuse"))
			continue;
		mounted.noatime = has_option(options, "noatime");
		mounted.nodiratime = mounted.noatime ||
			has_option(options, "nodiratime");
		break;
	}
	free(line);
}

/* AT_STATX_DONT_SYNC avoids a request: no thread would answer it yet. */
void mount_find(const char *mountpoint)
{
	struct statx stx;

	if (statx(AT_FDCWD, mountpoint, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT,
		  STATX_MNT_ID, &stx) == -1 || !(stx.stx_mask & STATX_MNT_ID))
		return;
	mounted.id = stx.stx_mnt_id;
	mounted.table = fopen("/proc/self/mountinfo", "re");
	if (mounted.table)
		read_mount();
}

bool is_noatime(bool directory)
{
	struct pollfd changed = { .events = POLLPRI };
	bool noatime;

	if (!mounted.table)
		return false;
	changed.fd = fileno(mounted.table);
	pthread_mutex_lock(&mounted.lock);
	if (poll(&changed, 1, 0) > 0)
		read_mount();
	noatime = directory ? mounted.nodiratime : mounted.noatime;
	pthread_mutex_unlock(&mounted.lock);
	return noatime;
}

/* O_NOATIME needs the owner or CAP_FOWNER; without it reads update atime. */
void follow_noatime(int fd, bool directory)
{
	int flags;

	if (!is_noatime(directory))
		return;
	flags = fcntl(fd, F_GETFL);
	if (flags != -1)
		fcntl(fd, F_SETFL, flags | O_NOATIME);
}
