// SPDX-License-Identifier: GPL-2.0
#define _GNU_SOURCE
#include "lower_test.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>

#ifndef MFD_HUGETLB
#define MFD_HUGETLB 0x0004U
#endif

int other(struct fuse_server *s)
{
	return lower_open(s, "other", O_RDWR);
}

int other_rdonly(struct fuse_server *s)
{
	return lower_open(s, "other", O_RDONLY);
}

int other_wronly(struct fuse_server *s)
{
	return lower_open(s, "other", O_WRONLY);
}

int other_path(struct fuse_server *s)
{
	return lower_open(s, "other", O_PATH);
}

int closed(struct fuse_server *s)
{
	int fd = other(s);

	close(fd);
	return fd;
}

int minus_one(struct fuse_server *s)
{
	return -1;
}

int minus_two(struct fuse_server *s)
{
	return -2;
}

int directory(struct fuse_server *s)
{
	return lower_open(s, ".", O_RDONLY);
}

int pipe_end(struct fuse_server *s)
{
	int fd[2];

	if (pipe(fd))
		return -1;
	close(fd[1]);
	return fd[0];
}

int unix_socket(struct fuse_server *s)
{
	return socket(AF_UNIX, SOCK_STREAM, 0);
}

int char_device(struct fuse_server *s)
{
	return open("/dev/zero", O_RDWR);
}

int event_fd(struct fuse_server *s)
{
	return eventfd(0, 0);
}

int fifo_path(struct fuse_server *s)
{
	mkfifoat(s->dirfd, "fifo", 0600);
	return lower_open(s, "fifo", O_PATH);
}

int memfd(struct fuse_server *s)
{
	return syscall(SYS_memfd_create, "m", 0);
}

int huge_memfd(struct fuse_server *s)
{
	return syscall(SYS_memfd_create, "m", MFD_HUGETLB);
}

int huge_file(struct fuse_server *s)
{
	return file_on("hugetlbfs", NULL, "h", O_RDWR | O_CREAT);
}

int sysctl_file(struct fuse_server *s)
{
	return open("/proc/sys/kernel/core_pattern", O_RDWR);
}

int file_on(const char *type, const char *sub, const char *name, int flags)
{
	char dir[] = "/tmp/on.XXXXXX";
	int root, fd = -1;

	if (!mkdtemp(dir))
		return -1;
	if (!mount(type, dir, type, 0, NULL)) {
		root = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (!sub || !mkdirat(root, sub, 0700))
			fd = openat(root, name, flags | O_CLOEXEC, 0600);
		if (sub)
			unlinkat(root, sub, AT_REMOVEDIR);
		close(root);
		umount2(dir, MNT_DETACH);
	}
	rmdir(dir);
	return fd;
}

bool can_direct(int fd)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	close(fd);
	return fd >= 0;
}

int configfs_file(int flags)
{
	char dir[] = "/tmp/on.XXXXXX";
	int fd = -1;

	/*
	 * Mount before the module does: a superblock that the kernel mounts
	 * first has SB_KERNMOUNT.
	 */
	if (mkdtemp(dir) && !mount("configfs", dir, "configfs", 0, NULL)) {
		/* modprobe fails if null_blk is built in, and thus already there. */
		system("modprobe -q null_blk nr_devices=0 2>/dev/null");
		fd = file_on("configfs", "nullb/fuse_test",
			     "nullb/fuse_test/size", flags);
		umount2(dir, MNT_DETACH);
	}
	rmdir(dir);
	return fd;
}

/*
 * The image is a directory with the file "f", packed by mksquashfs -noI -noD
 * -no-xattrs -no-exports -no-fragments -nopad -all-root.
 */
int squashfs_file(int flags)
{
	static const unsigned char image[] = {
		0x68, 0x73, 0x71, 0x73, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
		0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x11, 0x00,
		0x5b, 0x02, 0x01, 0x00, 0x04, 0x00, 0x00, 0x00, 0x24, 0x00, 0x00, 0x00,
		0x00, 0x00, 0x00, 0x00, 0x0b, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
		0x03, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff,
		0xff, 0xff, 0xff, 0xff, 0xa0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
		0xe6, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xfd, 0x00, 0x00, 0x00,
		0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		0x9a, 0xa1, 0xa8, 0xaf, 0xb6, 0xbd, 0xc4, 0xcb, 0xd2, 0xd9, 0xe0, 0xe7,
		0xee, 0xf5, 0x01, 0x08, 0x0f, 0x16, 0x1d, 0x24, 0x2b, 0x32, 0x39, 0x40,
		0x47, 0x4e, 0x55, 0x5c, 0x63, 0x6a, 0x71, 0x78, 0x7f, 0x86, 0x8d, 0x94,
		0x9b, 0xa2, 0xa9, 0xb0, 0xb7, 0xbe, 0xc5, 0xcc, 0xd3, 0xda, 0xe1, 0xe8,
		0xef, 0xf6, 0x02, 0x09, 0x10, 0x17, 0x1e, 0x25, 0x2c, 0x33, 0x3a, 0x41,
		0x48, 0x4f, 0x56, 0x5d, 0x44, 0x80, 0x02, 0x00, 0xa4, 0x01, 0x00, 0x00,
		0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x60, 0x00,
		0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0x40, 0x00,
		0x00, 0x00, 0x40, 0x00, 0x00, 0x01, 0x01, 0x00, 0xed, 0x01, 0x00, 0x00,
		0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00,
		0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x18, 0x00, 0x00, 0x00, 0x03, 0x00,
		0x00, 0x00, 0x15, 0x80, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
		0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00,
		0x66, 0x04, 0x80, 0x00, 0x00, 0x00, 0x00, 0xfd, 0x00, 0x00, 0x00, 0x00,
		0x00, 0x00, 0x00,
	};
	char path[] = "/tmp/squashfs.XXXXXX", dir[] = "/tmp/on.XXXXXX", cmd[160];
	int root, fd = mkstemp(path);

	if (fd < 0 || !mkdtemp(dir))
		return -1;
	/* Whole sectors */
	if (write(fd, image, sizeof(image)) != sizeof(image) ||
	    ftruncate(fd, BLOCK))
		return -1;
	close(fd);
	fd = -1;
	snprintf(cmd, sizeof(cmd),
		 "{ modprobe -q -a loop squashfs; mount -t squashfs -o loop %s %s; } >/dev/null 2>&1",
		 path, dir);
	if (!system(cmd)) {
		root = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		fd = openat(root, "f", flags | O_CLOEXEC);
		close(root);
		umount2(dir, MNT_DETACH);
	}
	rmdir(dir);
	unlink(path);
	return fd;
}

static bool own_fs_fill(struct own_fs *fs)
{
	char buf[OWN_FS_LEN];
	bool ok;
	int fd;

	if (mount("lower", fs->dir, "tmpfs", 0, NULL))
		return false;
	fd = open(fs->path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	pattern(buf, OWN_FS_LEN, 0, OWN_FS_SEED);
	ok = write(fd, buf, OWN_FS_LEN) == OWN_FS_LEN;
	close(fd);
	return ok;
}

bool own_fs_mount(struct own_fs *fs)
{
	strcpy(fs->dir, "/tmp/own.XXXXXX");
	if (!mkdtemp(fs->dir))
		return false;
	snprintf(fs->path, sizeof(fs->path), "%s/file", fs->dir);
	return own_fs_fill(fs);
}

bool own_fs_free(struct own_fs *fs)
{
	return !umount(fs->dir) && own_fs_fill(fs);
}

bool own_fs_busy(struct own_fs *fs)
{
	return umount(fs->dir) && errno == EBUSY;
}

void own_fs_end(struct own_fs *fs)
{
	umount2(fs->dir, MNT_DETACH);
	rmdir(fs->dir);
}

/* Make a user namespace that maps @from, of a file system, to @to, and root to root. */
static int map_users(uid_t from, uid_t to)
{
	char path[64], map[64];
	int fd, p[2];
	pid_t pid;
	char c;

	if (pipe(p))
		return -1;
	pid = fork();
	if (!pid) {
		if (unshare(CLONE_NEWUSER) || write(p[1], "", 1) != 1)
			_exit(1);
		pause();
	}
	if (read(p[0], &c, 1) != 1)
		return -1;
	close(p[0]);
	close(p[1]);
	snprintf(map, sizeof(map), "0 0 1\n%u %u 1", from, to);
	snprintf(path, sizeof(path), "/proc/%d/uid_map", pid);
	if (!write_file(path, map))
		return -1;
	snprintf(path, sizeof(path), "/proc/%d/gid_map", pid);
	if (!write_file(path, map))
		return -1;
	snprintf(path, sizeof(path), "/proc/%d/ns/user", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return fd;
}

int idmapped(int dirfd, const char *at, uid_t from, uid_t to)
{
	struct mount_attr attr = {
		.attr_set = MOUNT_ATTR_IDMAP,
		.userns_fd = map_users(from, to),
	};
	int tree, err = 0;

	tree = open_tree(dirfd, "",
			 AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0)
		return errno;
	if (mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) ||
	    move_mount(tree, "", AT_FDCWD, at, MOVE_MOUNT_F_EMPTY_PATH))
		err = errno;
	close(tree);
	close(attr.userns_fd);
	return err;
}
