// SPDX-License-Identifier: GPL-2.0
/*
 * The lower file system: ext4, xfs or btrfs on a loop device, tmpfs, or
 * overlayfs on that ext4.  A file system that was unmounted lazily is gone when
 * its device is free.
 */
#include "shake.h"

#include <linux/loop.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/wait.h>

/* Of ext4 and xfs, XFS_IOC_GOINGDOWN in the latter's header */
#define IOC_SHUTDOWN	_IOR('X', 125, uint32_t)

const char *const lower_names[] = {
	[LOWER_EXT4] = "ext4",
	[LOWER_XFS] = "xfs",
	[LOWER_BTRFS] = "btrfs",
	[LOWER_TMPFS] = "tmpfs",
	[LOWER_OVERLAYFS] = "overlayfs",
};

char mnt[64], lower[64], served[80];
static char base[64];		/* the file system below overlayfs */

/* The files are sparse.  mkfs.xfs makes no smaller file system. */
static struct disk {
	unsigned int mib;
	const char *mkfs[8];
	char file[80], loop[32];
} disks[NR_DISKS] = {
	[LOWER_EXT4] = { 48, { "mke2fs", "-q", "-F", "-t", "ext4", "-E",
		"lazy_itable_init=0,lazy_journal_init=0,nodiscard" } },
	[LOWER_XFS] = { 300, { "mkfs.xfs", "-q", "-f", "-K" } },
	[LOWER_BTRFS] = { 128, { "mkfs.btrfs", "-q", "-f", "-K" } },
};

static struct disk *disk_of(enum lower_kind kind)
{
	return kind < NR_DISKS ? &disks[kind] :
		kind == LOWER_OVERLAYFS ? &disks[LOWER_EXT4] : NULL;
}

static int run(const char *const argv[])
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		int null = open("/dev/null", O_RDWR);

		dup2(null, 1);
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -errno;
	return status ? -EIO : 0;
}

static int loop_attach(struct disk *d)
{
	int ctl = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int nr = ctl < 0 ? -1 : ioctl(ctl, LOOP_CTL_GET_FREE);
	int dev, file, err = 0;

	if (ctl >= 0)
		close(ctl);
	if (nr < 0)
		return -errno;
	snprintf(d->loop, sizeof(d->loop), "/dev/loop%d", nr);
	dev = open(d->loop, O_RDWR | O_CLOEXEC);
	file = open(d->file, O_RDWR | O_CLOEXEC);
	if (dev < 0 || file < 0 || ioctl(dev, LOOP_SET_FD, file))
		err = -errno;
	close(dev);
	close(file);
	return err;
}

static int make_disk(struct disk *d)
{
	const char *mkfs[ARRAY_SIZE(d->mkfs) + 1] = {};
	int fd = open(d->file, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	unsigned int i;
	int err;

	if (fd < 0)
		return -errno;
	err = ftruncate(fd, d->mib * 1024l * 1024) ? -errno : 0;
	close(fd);
	for (i = 0; d->mkfs[i]; i++)
		mkfs[i] = d->mkfs[i];
	mkfs[i] = d->file;
	return err ?: run(mkfs) ?: loop_attach(d);
}

/* Is the file system in the kernel, or a module that can be loaded? */
static bool known(const char *name)
{
	const char *const modprobe[] = { "modprobe", "-q", name, NULL };
	char line[80];
	bool found = false;
	FILE *f;

	run(modprobe);
	f = fopen("/proc/filesystems", "re");
	while (f && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = 0;
		found = found || !strcmp(strrchr(line, '\t') + 1, name);
	}
	if (f)
		fclose(f);
	return found;
}

bool lower_has(enum lower_kind kind)
{
	const struct disk *d = disk_of(kind);

	return !d || d->loop[0];
}

int lower_setup(const char *dir)
{
	const char *const modprobe[] = { "modprobe", "-q", "loop", NULL };
	unsigned int i;
	int err = 0;

	snprintf(mnt, sizeof(mnt), "%s/mnt", dir);
	snprintf(lower, sizeof(lower), "%s/lower", dir);
	snprintf(base, sizeof(base), "%s/base", dir);
	snprintf(served, sizeof(served), "%s/served", lower);
	if (mkdir(mnt, 0755) || mkdir(lower, 0755) || mkdir(base, 0755))
		return -errno;
	/* This fails if loop is built in. */
	run(modprobe);
	for (i = 0; !err && i < NR_DISKS; i++) {
		snprintf(disks[i].file, sizeof(disks[i].file), "%s/%s", dir, lower_names[i]);
		if (known(lower_names[i]))
			err = make_disk(&disks[i]);
	}
	return err;
}

/* After umount -l clients work in the directory under the mount. */
static void clear_mount_point(void)
{
	const char *const rm[] = { "rm", "-rf", mnt, NULL };

	run(rm);
}

void lower_cleanup(void)
{
	unsigned int i;
	int dev;

	for (i = 0; i < NR_DISKS; i++) {
		if (!disks[i].loop[0])
			continue;
		dev = open(disks[i].loop, O_RDWR | O_CLOEXEC);
		if (dev >= 0 && ioctl(dev, LOOP_CLR_FD, 0))
			bad(V_UNMOUNT, "%s stays in use: %m", disks[i].loop);
		close(dev);
		unlink(disks[i].file);
	}
	rmdir(base);
	rmdir(lower);
	clear_mount_point();
}

static int mount_overlayfs(void)
{
	const char *const names[] = { "low", "up", "work" };
	char path[96], options[320];
	unsigned int i;

	if (mount(disks[LOWER_EXT4].loop, base, "ext4", 0, NULL))
		return -errno;
	for (i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", base, names[i]);
		if (mkdir(path, 0755) && errno != EEXIST)
			return -errno;
	}
	snprintf(options, sizeof(options),
		 "lowerdir=%s/low,upperdir=%s/up,workdir=%s/work", base, base, base);
	return mount("overlay", lower, "overlay", 0, options) ? -errno : 0;
}

int lower_mount(void)
{
	clear_mount_point();
	if (mkdir(mnt, 0755))
		return -errno;
	switch (sh->cfg.lower) {
	case LOWER_EXT4:
	case LOWER_XFS:
	case LOWER_BTRFS:
		return mount(disks[sh->cfg.lower].loop, lower, lower_names[sh->cfg.lower], 0, NULL) ?
			-errno : 0;
	case LOWER_TMPFS:
		return mount("tmpfs", lower, "tmpfs", 0, "size=48m") ? -errno : 0;
	case LOWER_OVERLAYFS:
		return mount_overlayfs();
	}
	return -EINVAL;
}

int lower_shutdown(void)
{
	/* Flags: freeze first, or flush the log first, or neither */
	uint32_t how = rnd(3);
	int fd = open(sh->cfg.lower == LOWER_OVERLAYFS ? base : lower,
		      O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int err = fd < 0 || ioctl(fd, IOC_SHUTDOWN, &how) ? -errno : 0;

	close(fd);
	return err;
}

int unmount_wait(const char *path)
{
	int64_t end = now() + sh->limit;

	while (umount2(path, 0)) {
		if (errno != EBUSY || now() > end)
			return -errno;
		pause_ms(10);
	}
	return 0;
}

/* An exclusive open fails while a file system uses the device, mounted or not. */
static int device_wait(const char *loop)
{
	int64_t end = now() + sh->limit;
	int fd;

	while ((fd = open(loop, O_RDWR | O_EXCL | O_CLOEXEC)) < 0) {
		if (errno != EBUSY || now() > end)
			return -errno;
		pause_ms(10);
	}
	close(fd);
	return 0;
}

int lower_unmount(bool detached)
{
	int err = detached ? 0 : unmount_wait(lower);

	if (!err && sh->cfg.lower == LOWER_OVERLAYFS)
		err = unmount_wait(base);
	if (!err && disk_of(sh->cfg.lower))
		err = device_wait(disk_of(sh->cfg.lower)->loop);
	return err;
}

static int fill_file(const char *path, const char *buf, size_t len)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	int err = 0;

	if (fd < 0 || fchmod(fd, 0666) ||
	    pwrite(fd, buf, len, 0) != (ssize_t)len)
		err = -errno;
	close(fd);
	return err;
}

/* A copy of this program, for clients to execute */
static int fill_program(char *path, char *buf)
{
	int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	int to = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0777);
	ssize_t n = -1;
	int err;

	while (from >= 0 && to >= 0 && (n = read(from, buf, BUF)) > 0)
		if (write(to, buf, n) != n)
			n = -1;
	err = n || fchmod(to, 0777) ? -errno : 0;
	close(from);
	close(to);
	return err;
}

/* Fill the served directory: f0 to f5, program, d with g0 and g1, and the link l. */
int lower_fill(void)
{
	const char *const clear[] = { "rm", "-rf", served, NULL };
	const char *const free_all[] = { "chattr", "-R", "-f", "-ia", served, NULL };
	char *buf = malloc(BUF);
	unsigned int i, at, len;
	char path[128];
	int err = 0;

	/* A killed client may have left an immutable file. */
	if (run(clear)) {
		run(free_all);
		err = run(clear);
	}
	if (!err && (mkdir(served, 0777) || chmod(served, 0777)))
		err = -errno;
	for (i = 0; !err && i < FILES; i++) {
		snprintf(path, sizeof(path), "%s/f%u", served, i);
		len = rnd(64 * 1024);
		for (at = 0; at < len; at++)
			buf[at] = 'a' + (at + i + (at >> 8)) % 26;
		err = fill_file(path, buf, len);
	}
	snprintf(path, sizeof(path), "%s/d", served);
	if (!err && (mkdir(path, 0777) || chmod(path, 0777)))
		err = -errno;
	for (i = 0; !err && i < 2; i++) {
		snprintf(path, sizeof(path), "%s/d/g%u", served, i);
		err = fill_file(path, buf, 100);
	}
	snprintf(path, sizeof(path), "%s/l", served);
	if (!err && symlink("f0", path))
		err = -errno;
	snprintf(path, sizeof(path), "%s/program", served);
	err = err ?: fill_program(path, buf);
	free(buf);
	return err;
}
