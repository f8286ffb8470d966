// SPDX-License-Identifier: GPL-2.0
/*
 * many: opens many files at once, each with content of its own, and reads all of
 * them back.
 *
 *	many [--kill PID] DIRECTORY FILES
 *
 * All files of DIRECTORY, on a FUSE mount, have to pass through.  --kill: kill
 * the daemon before reading.  Prints how much memory a file takes.
 */
#include "common.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>

#define AVAILABLE	"MemAvailable: %ld kB"

int main(int argc, char **argv)
{
	bool kills = argc > 1 && !strcmp(argv[1], "--kill");
	char path[300], text[32], got[32];
	unsigned int i, n, len;
	struct rlimit lim;
	struct stat st;
	long before;
	int *fd;

	if (argc != 3 + 2 * kills) {
		fprintf(stderr, "usage: many [--kill PID] DIRECTORY FILES\n");
		return 2;
	}
	argv += 2 * kills;
	n = atoi(argv[2]);
	lim.rlim_cur = lim.rlim_max = n + 100;
	fd = calloc(n, sizeof(*fd));
	if (!fd || setrlimit(RLIMIT_NOFILE, &lim) || stat(argv[1], &st)) {
		fprintf(stderr, "many: %s: %m\n", argv[1]);
		return 1;
	}
	before = number_in("/proc/meminfo", AVAILABLE);
	for (i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "%s/%u", argv[1], i);
		fd[i] = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		len = snprintf(text, sizeof(text), "content of %u", i);
		if (fd[i] < 0 || write(fd[i], text, len) != len) {
			fprintf(stderr, "many: %s: %m\n", path);
			return 1;
		}
	}
	printf("%u files open, %ld bytes each\n", n,
	       (before - number_in("/proc/meminfo", AVAILABLE)) * 1024 / n);
	snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%u/passthrough", minor(st.st_dev));
	if (number_in(path, "%ld") != n) {
		fprintf(stderr, "many: %ld files pass through\n", number_in(path, "%ld"));
		return 1;
	}
	if (kills && kill(atoi(argv[0]), SIGKILL)) {
		fprintf(stderr, "many: kill: %m\n");
		return 1;
	}
	for (i = 0; i < n; i++) {
		len = snprintf(text, sizeof(text), "content of %u", i);
		if (pread(fd[i], got, sizeof(got), 0) != len || memcmp(text, got, len)) {
			fprintf(stderr, "many: file %u has other content\n", i);
			return 1;
		}
	}
	return 0;
}
