// SPDX-License-Identifier: GPL-2.0
/*
 * Make a file without a name in DIR, write "data" to it, read that again, print
 * owner, group, mode, links and size, and give it the name NAME.
 *
 *	unnamed [-x] [-p] DIR NAME
 *
 * -x: with O_EXCL.  -p: by its path in /proc, not by its descriptor.
 */
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int fd, c, excl = 0, by_path = 0;
	char buf[8] = "", path[40];
	struct stat st;

	while ((c = getopt(argc, argv, "xp")) != -1)
		*(c == 'x' ? &excl : &by_path) = 1;
	fd = open(argv[optind], O_TMPFILE | O_RDWR | (excl ? O_EXCL : 0), 0666);
	if (fd == -1)
		err(1, "open");
	if (write(fd, "data", 4) != 4 || pread(fd, buf, sizeof(buf), 0) != 4 || strcmp(buf, "data"))
		err(1, "data");
	if (fstat(fd, &st))
		err(1, "fstat");
	printf("%u %u %o %lu %lu\n", st.st_uid, st.st_gid, st.st_mode, (long)st.st_nlink, (long)st.st_size);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (by_path ? linkat(AT_FDCWD, path, AT_FDCWD, argv[optind + 1], AT_SYMLINK_FOLLOW) :
	    linkat(fd, "", AT_FDCWD, argv[optind + 1], AT_EMPTY_PATH))
		err(1, "linkat");
	if (fstat(fd, &st) || st.st_nlink != 1)
		err(1, "%lu links", (long)st.st_nlink);
	return 0;
}
