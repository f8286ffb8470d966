// SPDX-License-Identifier: GPL-2.0
/*
 * Open FILE, which the kernel itself opens.  Rename it to NEW, whose requests
 * the daemon serves, and make all calls on the open file that can reach the
 * daemon.  OTHER is a file that the daemon has opened.
 *
 *	unseen FILE NEW OTHER
 *	unseen DIRECTORY NEW
 */
#include <err.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

static void must(int ok, const char *what)
{
	if (!ok)
		err(1, "%s", what);
}

static void as_file(int fd, const char *name)
{
	int other = open(name, O_RDWR);
	off_t in = 0, out = 0;
	struct stat st;

	must(other != -1, name);
	must(pwrite(fd, "data", 4, 0) == 4, "pwrite");
	must(fallocate(fd, 0, 0, 65536) == 0, "fallocate");
	must(lseek(fd, 0, SEEK_DATA) == 0, "lseek");
	must(fsync(fd) == 0, "fsync");
	must(fdatasync(fd) == 0, "fdatasync");
	must(copy_file_range(fd, &in, other, &out, 4, 0) == 4, "copy from it");
	out = 4;
	in = 0;
	must(copy_file_range(other, &in, fd, &out, 4, 0) == 4, "copy to it");
	must(ftruncate(fd, 8) == 0, "ftruncate");
	must(fstat(fd, &st) == 0 && st.st_size == 8, "fstat");
	must(close(dup(fd)) == 0, "close");
}

int main(int argc, char **argv)
{
	int fd = open(argv[1], argc > 3 ? O_RDWR : O_RDONLY | O_DIRECTORY);
	int flags;

	must(fd != -1, argv[1]);
	must(rename(argv[1], argv[2]) == 0, "rename");
	must(ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0, "ioctl");
	if (argc > 3)
		as_file(fd, argv[3]);
	else
		must(fsync(fd) == 0, "fsync");
	must(close(fd) == 0, "close");
	return 0;
}
