// SPDX-License-Identifier: GPL-2.0
/*
 * Names, attributes and the other operations of a client.  An operation whose
 * name begins with a slash needs no open file.
 */
#include "client.h"

#include <dirent.h>
#include <linux/fs.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#define ACL_XATTR	"system.posix_acl_access"

static long stat_op(struct client *c, int fd)
{
	struct stat st;
	struct statx stx;

	switch (rnd(3)) {
	case 0:
		return statx(AT_FDCWD, c->path, percent(50) ? 0 : AT_STATX_FORCE_SYNC,
			     STATX_ALL, &stx);
	case 1:
		return lstat(c->path, &st);
	default:
		return fd < 0 ? 0 : fstat(fd, &st);
	}
}

static long chmod_op(struct client *c, int fd)
{
	static const mode_t modes[] = { 0666, 0666, 0666, 04777, 02777, 06755, 02644, 0600, 0 };

	return chmod(c->path, modes[rnd(ARRAY_SIZE(modes))]);
}

static long chown_op(struct client *c, int fd)
{
	return lchown(c->path, percent(50) ? rnd(2) * 65534 : -1u,
		      percent(50) ? rnd(2) * 65534 : -1u);
}

static long utimes_op(struct client *c, int fd)
{
	struct timespec t[2] = {
		{ .tv_sec = rnd(100000) },
		{ .tv_nsec = percent(50) ? UTIME_NOW : UTIME_OMIT },
	};

	return utimensat(AT_FDCWD, c->path, percent(30) ? NULL : t, 0);
}

static long xattr_op(struct client *c, int fd)
{
	static const char *const names[] = { "user.a", "user.b", "trusted.a",
		"security.capability", "security.a", ACL_XATTR };
	const char *name = names[rnd(ARRAY_SIZE(names))];
	char value[256];

	memset(value, 'x', sizeof(value));
	switch (rnd(4)) {
	case 0:
		return getxattr(c->path, name, value, percent(80) ? sizeof(value) : 0);
	case 1:
		return listxattr(c->path, value, percent(80) ? sizeof(value) : 0);
	case 2:
		return removexattr(c->path, name);
	default:
		return setxattr(c->path, name, value, rnd(sizeof(value)), rnd(3));
	}
}

static long acl_op(struct client *c, int fd)
{
	struct {
		uint32_t version;
		struct { uint16_t tag, perm; uint32_t id; } e[5];
	} __attribute__((packed)) acl = { 2, {
		{ 0x01, rnd(8), -1u }, { 0x02, rnd(8), 65534 }, { 0x04, rnd(8), -1u },
		{ 0x10, rnd(8), -1u }, { 0x20, rnd(8), -1u } } };

	return setxattr(c->path, ACL_XATTR, &acl, sizeof(acl), 0);
}

static long names_op(struct client *c, int fd)
{
	char other[96];

	snprintf(other, sizeof(other), "%s/f%u", mnt, rnd(FILES));
	switch (rnd(7)) {
	case 0:
		return percent(50) ? unlink(c->path) : 0;
	case 1:
		return rename(c->path, other);
	case 2:
		return link(c->path, other);
	case 3:
		return mknod(c->path, S_IFREG | 0666, 0);
	case 4:
		fd = open(other, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
		if (fd >= 0)
			close(fd);
		return fd;
	case 5:
		snprintf(other, sizeof(other), "%s/n%u", mnt, rnd(3));
		return percent(50) ? mkdir(other, 0777) : rmdir(other);
	default:
		snprintf(other, sizeof(other), "%s/s%u", mnt, rnd(3));
		return percent(50) ? symlink("f1", other) : unlink(other);
	}
}

static long list_op(struct client *c, int fd)
{
	char path[96];
	struct dirent *e;
	DIR *dir;

	snprintf(path, sizeof(path), "%s%s", mnt, percent(50) ? "" : "/d");
	dir = opendir(path);
	if (!dir)
		return -1;
	while ((e = readdir(dir)))
		if (percent(3))
			seekdir(dir, e->d_off);
	if (percent(20))
		fsync(dirfd(dir));
	return closedir(dir);
}

static long readlink_op(struct client *c, int fd)
{
	char path[96], target[256];
	struct stat st;

	snprintf(path, sizeof(path), "%s/l", mnt);
	return percent(70) ? readlink(path, target, sizeof(target)) : stat(path, &st);
}

static long exec_op(struct client *c, int fd)
{
	char path[96];
	int status;
	pid_t pid;

	snprintf(path, sizeof(path), "%s/program", mnt);
	/* An open by id reports ETXTBSY as EIO, which a calm round does not accept. */
	if (!sh->cfg.calm && percent(20))
		snprintf(path, sizeof(path), "%s", c->path);
	pid = vfork();
	if (!pid) {
		execl(path, "fuzz", "--nothing", NULL);
		_exit(0);
	}
	if (pid < 0)
		return -1;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return 0;
}

/* A child shares the open files, and has copies of the mappings. */
static long fork_op(struct client *c, int fd)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		if (pwrite(fd, c->buf, 100, c->off) > 0 && c->map)
			(void)*(volatile char *)c->map;
		_exit(0);
	}
	if (pid < 0)
		return -1;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return 0;
}

static long flags_op(struct client *c, int fd)
{
	static const int flags[] = { O_APPEND, O_DIRECT, O_NOATIME, O_NONBLOCK };

	return fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) ^ flags[rnd(4)]);
}

static long lock_op(struct client *c, int fd)
{
	static const int types[] = { F_UNLCK, F_WRLCK, F_RDLCK };
	struct flock lock = { .l_type = types[rnd(3)], .l_start = rnd(1000), .l_len = 10 };

	switch (rnd(3)) {
	case 0:
		return flock(fd, (percent(50) ? LOCK_EX : LOCK_SH) | LOCK_NB);
	case 1:
		return fcntl(fd, F_SETLK, &lock);
	default:
		fcntl(fd, F_SETLEASE, types[rnd(3)]);
		return 0;
	}
}

static long ioctl_op(struct client *c, int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int flags;

	if (percent(50))
		return poll(&p, 1, 0);
	ioctl(fd, percent(50) ? FIONREAD : FS_IOC_GETFLAGS, &flags);
	return 0;
}

static long reopen_op(struct client *c, int fd)
{
	char path[64];
	int again;
	long n;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, O_RDWR | O_CLOEXEC | (percent(30) ? O_TRUNC : 0));
	if (again < 0)
		return -1;
	n = pwrite(again, c->buf, c->len, c->off);
	close(again);
	return n;
}

/* For a while only a message holds the open file. */
static long pass_op(struct client *c, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = {};
	struct iovec iov = { "", 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
		.msg_controllen = sizeof(control) };
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&m);
	int pair[2];
	unsigned int i;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return 0;
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(int));
	sendmsg(pair[0], &m, MSG_DONTWAIT);
	for (i = 0; i < CLIENT_FDS; i++)
		if (c->fd[i] == fd && percent(50)) {
			close(fd);
			c->fd[i] = -1;
			break;
		}
	close(pair[0]);
	close(pair[1]);
	return 0;
}

static long close_op(struct client *c, int fd)
{
	unsigned int i;

	for (i = 0; i < CLIENT_FDS; i++)
		if (c->fd[i] == fd)
			c->fd[i] = -1;
	return close(fd);
}

static void set_flags(int fd, int add)
{
	int flags;

	if (ioctl(fd, FS_IOC_GETFLAGS, &flags))
		return;
	flags |= add;
	ioctl(fd, FS_IOC_SETFLAGS, &flags);
	pause_ms(2);
	flags &= ~(FS_APPEND_FL | FS_IMMUTABLE_FL);
	ioctl(fd, FS_IOC_SETFLAGS, &flags);
}

/* Change the lower file by its own name. */
static long below_op(struct client *c, int fd)
{
	char path[96];
	int below, ignored = 0;

	snprintf(path, sizeof(path), "%s/f%u", served, rnd(FILES));
	below = open(path, O_RDWR | O_CLOEXEC | (percent(30) ? O_DIRECT : 0));
	if (below < 0)
		return 0;
	switch (rnd(7)) {
	case 0:
		ignored |= pwrite(below, c->buf, c->len, c->off) < 0;
		break;
	case 1:
		ignored |= pread(below, c->buf, c->len, c->off) < 0;
		break;
	case 2:
		ignored |= ftruncate(below, rnd(80000));
		break;
	case 3:
		fallocate(below, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PAGE * rnd(10),
			  2 * PAGE);
		break;
	case 4:
		/* These flags make writeback fail. */
		if (sh->cfg.calm)
			break;
		set_flags(below, percent(50) ? FS_APPEND_FL : FS_IMMUTABLE_FL);
		break;
	case 5:
		fchmod(below, percent(50) ? 0666 : 06777);
		break;
	case 6:
		ignored |= fchown(below, rnd(2) * 65534, -1);
		break;
	}
	close(below);
	return 0;
}

static long control_op(struct client *c, int fd)
{
	char path[96], text[1024];
	int f, i;

	for (i = 0; i < 3; i++) {
		if (!i)
			snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
		else
			snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%d/passthrough%s",
				 sh->conn, i == 1 ? "" : "_inodes");
		f = open(path, O_RDONLY | O_CLOEXEC);
		if (f < 0)
			continue;
		while (read(f, text, percent(50) ? sizeof(text) : 1) > 0)
			;
		close(f);
	}
	return 0;
}

/* Another client renamed, unlinked or changed the file meanwhile. */
static const int name_errnos[] = { EBUSY, ELOOP, ENOTEMPTY, 0 };
/* The daemon supports no locks. */
static const int lock_errnos[] = { ENOSYS, 0 };
static const int ioctl_errnos[] = { ENOTTY, ENOSYS, EIO, 0 };

const struct op name_ops[] = {
	{ "/stat", stat_op, 8, false },
	{ "/chmod", chmod_op, 4, true },
	{ "/chown", chown_op, 2, true },
	{ "/utimes", utimes_op, 2, true },
	{ "/xattr", xattr_op, 6, true },
	{ "/acl", acl_op, 3, true },
	{ "/names", names_op, 5, true, name_errnos },
	{ "/readdir", list_op, 4, false },
	{ "/readlink", readlink_op, 2, false },
	{ "/exec", exec_op, 1, false },
	{ "/below", below_op, 4, true },
	{ "fork", fork_op, 1, true },
	{ "fcntl", flags_op, 2, false },
	{ "lock", lock_op, 2, false, lock_errnos },
	{ "ioctl", ioctl_op, 1, false, ioctl_errnos },
	{ "reopen", reopen_op, 2, true },
	{ "pass", pass_op, 1, true },
	{ "close", close_op, 4, true },
	{ "control", control_op, 1, false },
	{}
};
