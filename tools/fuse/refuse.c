// SPDX-License-Identifier: GPL-2.0
/*
 * For LD_PRELOAD: simulates a kernel that fails FUSE_DEV_IOC_PASSTHROUGH_INODE
 * with ENOTTY, or with EINVAL if the environment has REFUSE=EINVAL.  Each
 * attempt adds a byte to the file REFUSED.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FUSE_DEV_IOC_PASSTHROUGH_INODE	0x4020e540U

int ioctl(int fd, unsigned long request, ...)
{
	int log;
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	if ((unsigned int)request != FUSE_DEV_IOC_PASSTHROUGH_INODE)
		return syscall(SYS_ioctl, fd, request, arg);

	log = open(getenv("REFUSED"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (log == -1 || write(log, ".", 1) != 1)
		abort();
	close(log);
	errno = strcmp(getenv("REFUSE"), "EINVAL") ? ENOTTY : EINVAL;
	return -1;
}
