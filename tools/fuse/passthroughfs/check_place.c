// SPDX-License-Identifier: GPL-2.0
/* The file system of a path, a lower file there, and what passes through on a FUSE mount. */

#include "check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define MAX_SHOWN 8	/* files, for all to fit on a screen */

/* mountinfo writes a blank as \040, for instance. */
static void unescape(char *s)
{
	char *to = s;

	while (*s) {
		if (*s == '\\' && strspn(s + 1, "01234567") >= 3) {
			*to++ = (s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0');
			s += 4;
		} else {
			*to++ = *s++;
		}
	}
	*to = '\0';
}

static bool parse_mount(char *line, struct place_mount *mount)
{
	char *rest = strstr(line, " - ");
	char super[160];
	uint64_t id;
	size_t n;

	if (!rest || sscanf(line, "%" SCNu64 " %*s %*s %4095s %4095s %95s", &id,
			    mount->root, mount->point, mount->options) != 4 ||
	    id != mount->id ||
	    sscanf(rest, " - %63s %4095s %159s", mount->type, mount->source,
		   super) != 3)
		return false;
	unescape(mount->root);
	unescape(mount->point);
	unescape(mount->source);
	/* What the superblock has beside ro or rw is the file system's own affair. */
	n = strlen(mount->options);
	if (!strncmp(super, "ro", 2) && strncmp(mount->options, "ro", 2))
		snprintf(mount->options + n, sizeof(mount->options) - n,
			 "; the file system itself ro");
	return true;
}

/* AT_STATX_DONT_SYNC sends no request to a daemon that may not answer. */
int find_mount(const char *path, struct place_mount *mount)
{
	struct statx stx;
	char *line = NULL;
	size_t size = 0;
	FILE *f;
	int res = ENOENT;

	if (statx(AT_FDCWD, path, AT_STATX_DONT_SYNC, STATX_TYPE | STATX_MNT_ID,
		  &stx) == -1)
		return errno;
	memset(mount, 0, sizeof(*mount));
	mount->id = stx.stx_mnt_id;
	mount->connection = stx.stx_dev_minor;
	mount->is_top = stx.stx_attributes & STATX_ATTR_MOUNT_ROOT;
	f = fopen("/proc/self/mountinfo", "re");
	if (!f)
		return errno;
	while (res && getline(&line, &size, f) != -1)
		if (parse_mount(line, mount))
			res = 0;
	free(line);
	fclose(f);
	return res;
}

bool is_on_fuse(const struct place_mount *mount)
{
	return !strncmp(mount->type, "fuse.", 5) ||
		!strncmp(mount->type, "fuseblk", 7) || !strcmp(mount->type, "fuse");
}

bool is_stacked(const struct place_mount *mount)
{
	return !strcmp(mount->type, "overlay") || !strcmp(mount->type, "ecryptfs");
}

/* A regular file to read, or -1; no open waits, and none changes the time of access. */
static int open_regular(int dir, const char *name, int flags)
{
	struct stat st;
	int fd;

	flags |= O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
	/* A FIFO or a device is not even opened. */
	if (fstatat(dir, name, &st, flags & O_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0) == -1)
		return -1;
	if (!S_ISREG(st.st_mode)) {
		errno = EINVAL;
		return -1;
	}
	fd = openat(dir, name, flags | O_NOATIME);
	return fd == -1 && errno == EPERM ? openat(dir, name, flags) : fd;
}

static int open_first(const char *path)
{
	DIR *dp = opendir(path);
	struct dirent *d;
	int fd = -1;

	if (!dp)
		return -1;
	while (fd == -1 && (d = readdir(dp)))
		if (d->d_type == DT_REG || d->d_type == DT_UNKNOWN)
			fd = open_regular(dirfd(dp), d->d_name, O_NOFOLLOW);
	closedir(dp);
	errno = ENOENT;
	return fd;
}

/*
 * A file of the file system of path: without a name, and gone at its close (ours), or
 * else one that is there, to be opened and not read.
 */
int open_lower(const char *path, bool *ours)
{
	struct stat st;
	int fd;

	*ours = false;
	if (stat(path, &st) == -1)
		return -1;
	if (!S_ISDIR(st.st_mode))
		return open_regular(AT_FDCWD, path, 0);
	fd = open(path, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	*ours = fd != -1;
	return *ours ? fd : open_first(path);
}

bool can_direct(int fd)
{
	char path[40];
	int direct;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	direct = open(path, O_RDONLY | O_NONBLOCK | O_DIRECT | O_CLOEXEC);
	if (direct != -1)
		close(direct);
	return direct != -1;
}

/* What passes through */

/* A number of /sys/fs/fuse/connections/N, or -1 */
static long connection_number(const struct place_mount *mount, const char *name)
{
	char path[80];
	long n = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%u/%s",
		 mount->connection, name);
	f = fopen(path, "re");
	if (!f)
		return -1;
	if (fscanf(f, "%ld", &n) != 1)
		n = -1;
	fclose(f);
	return n;
}

/* The value, if the line is that field of fdinfo */
static const char *field(const char *line, const char *name)
{
	size_t n = strlen(name);

	return strncmp(line, name, n) ? NULL : line + n + strspn(line + n, " \t");
}

/* One open file, by its fdinfo: says so if it is on the mount and passes through. */
static bool say_file(const char *pid, FILE *info, uint64_t id)
{
	char line[PATH_MAX + 32], lower[PATH_MAX] = "", how[16] = "?", mode[8] = "?";
	const char *value;
	uint64_t mnt_id = 0;

	while (fgets(line, sizeof(line), info)) {
		line[strcspn(line, "\n")] = '\0';
		value = field(line, "mnt_id:");
		if (value)
			mnt_id = strtoull(value, NULL, 10);
		value = field(line, "passthrough-lower:");
		if (value)
			snprintf(lower, sizeof(lower), "%s", value);
		value = field(line, "passthrough-mode:");
		if (value)
			snprintf(mode, sizeof(mode), "%s", value);
		value = field(line, "passthrough-attach:");
		if (value)
			snprintf(how, sizeof(how), "%s", value);
	}
	if (mnt_id != id || !*lower)
		return false;
	printf("             %s (%s, by %s, process %s)\n", lower, mode, how, pid);
	return true;
}

static unsigned int say_files_of(const char *pid, uint64_t id, unsigned int room)
{
	unsigned int shown = 0;
	struct dirent *d;
	char path[300];
	DIR *dp;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/fdinfo", pid);
	dp = opendir(path);
	if (!dp)
		return 0;
	while (shown < room && (d = readdir(dp))) {
		int fd = openat(dirfd(dp), d->d_name, O_RDONLY | O_CLOEXEC);

		f = fd == -1 ? NULL : fdopen(fd, "r");
		if (!f)
			continue;
		shown += say_file(pid, f, id);
		fclose(f);
	}
	closedir(dp);
	return shown;
}

static void say_files(const struct place_mount *mount, unsigned long count)
{
	DIR *dp = opendir("/proc");
	unsigned int shown = 0;
	struct dirent *d;

	while (dp && shown < MAX_SHOWN && (d = readdir(dp)))
		if (d->d_name[0] >= '0' && d->d_name[0] <= '9')
			shown += say_files_of(d->d_name, mount->id, MAX_SHOWN - shown);
	if (dp)
		closedir(dp);
	if (shown < count)
		printf("             %s%lu that %s not shown (mapped, or open by others)\n",
		       shown ? "and " : "", count - shown,
		       count - shown == 1 ? "is" : "are");
}

void say_passing(const struct place_mount *mount)
{
	long files = connection_number(mount, "passthrough");
	long inodes = connection_number(mount, "passthrough_inodes");

	printf("mount      %s: %s of %s, connection %u\n", mount->point, mount->type,
	       mount->source, mount->connection);
	if (files > 0 || inodes > 0) {
		printf("           passthrough is on: %ld files open, %ld inodes attached\n",
		       files, inodes);
		if (files > 0)
			say_files(mount, files);
	} else if (files == 0) {
		puts("           no file is open with passthrough, no inode is attached");
	} else if (errno == EACCES) {
		puts("           only its owner and root can see whether passthrough is on");
	} else if (connection_number(mount, "waiting") == -1) {
		puts("           more shows after mount -t fusectl none /sys/fs/fuse/connections");
	} else {
		puts("           this kernel does not tell whether passthrough is on");
	}
}
