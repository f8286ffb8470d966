// SPDX-License-Identifier: GPL-2.0
#define _GNU_SOURCE
#include "inode_test.h"

#include <linux/fs.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define CONTROL	"/sys/fs/fuse/connections"

int inode_ioctl(int dev, const struct fuse_passthrough_inode *in)
{
	return ioctl_errno(dev, FUSE_DEV_IOC_PASSTHROUGH_INODE, in);
}

bool try_inode(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct attempt *a = s->arg;
	struct fuse_passthrough_inode arg = a->t->in;

	if (in->opcode != (uint32_t)a->opcode)
		return false;
	a->last = in->unique;
	arg.unique += in->unique;
	arg.fd = a->t->lower(s);
	a->fd = arg.fd;
	a->got = inode_ioctl(attempt_dev(s), &arg);
	close(arg.fd);
	return false;
}

int inode_attach_fd(struct fuse_server *s, const char *name, int fd, uint64_t ops)
{
	struct fuse_passthrough_inode in = {
		.nodeid = fuse_server_nodeid(s, name),
		.fd = fd,
		.ops = ops,
	};

	return inode_ioctl(s->dev, &in);
}

int inode_attach(struct fuse_server *s, const char *name, uint64_t ops)
{
	int fd = lower_opath(s, name);
	int err = inode_attach_fd(s, name, fd, ops);

	close(fd);
	return err;
}

int inode_attach_as(struct fuse_server *s, const char *name, uid_t id, uint64_t ops)
{
	int fd = lower_opath(s, name);
	int err;

	thread_become(id, id);
	err = inode_attach_fd(s, name, fd, ops);
	thread_become_root();
	close(fd);
	return err;
}

int inode_attach_path(struct fuse_server *s, const char *name, const char *path,
		      uint64_t ops)
{
	int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	int err = inode_attach_fd(s, name, fd, ops);

	close(fd);
	return err;
}

int inode_detach(struct fuse_server *s, const char *name)
{
	return inode_attach_fd(s, name, -1, 0);
}

int inode_detach_all(struct fuse_server *s)
{
	struct fuse_passthrough_inode in = { .fd = -1 };

	return inode_ioctl(s->dev, &in);
}

/* Look in mountinfo: the mount may be dead, and a stat of it would fail. */
static unsigned int connection(struct fuse_server *s)
{
	unsigned int dev = 0, minor_id;
	char line[512], mnt[256];
	FILE *f;

	f = fopen("/proc/self/mountinfo", "r");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%*d %*d %*u:%u %*s %255s", &minor_id, mnt) == 2 &&
		    !strcmp(mnt, s->mnt))
			dev = minor_id;
	if (f)
		fclose(f);
	return dev;
}

static const char *control(struct fuse_server *s, const char *name)
{
	static char path[128];

	/* A test has its own mount namespace. */
	if (access(CONTROL, R_OK))
		mount("fusectl", CONTROL, "fusectl", 0, NULL);
	snprintf(path, sizeof(path), CONTROL "/%u/%s", connection(s), name);
	return path;
}

static int count_in(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char buf[32] = "";
	int n;

	n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	return fd >= 0 && n > 0 ? atoi(buf) : -1;
}

const char *inodes_control(struct fuse_server *s)
{
	return control(s, "passthrough_inodes");
}

int inodes_attached(struct fuse_server *s)
{
	return count_in(inodes_control(s));
}

int files_attached(struct fuse_server *s)
{
	return count_in(control(s, "passthrough"));
}

int lower_opath(struct fuse_server *s, const char *name)
{
	return lower_open(s, name, O_PATH | O_NOFOLLOW);
}

int serve_inodes(struct fuse_server *s)
{
	int err;

	s->permissions = true;
	err = fuse_server_start(s);
	if (err)
		return err;
	if (fchmodat(s->dirfd, ".", 0755, 0) || lookup(s, "."))
		return -errno;
	return -inode_attach(s, ".", OP(GETATTR));
}

int serve_tree(struct fuse_server *s, size_t len)
{
	int err = serve_inodes(s);

	if (err)
		return err;
	s->new_ops = OP(GETATTR);
	if (lower_make(s, "f", len, 1) || mkdirat(s->dirfd, "d", 0755) ||
	    lower_make(s, "d/g", len, 2) || symlinkat("f", s->dirfd, "l") ||
	    lookup(s, "f") || lookup(s, "d") || lookup(s, "d/g") || lookup(s, "l"))
		return -errno;
	return s->inode_error || inodes_attached(s) != 5 ? -EIO : 0;
}

void init_acl(struct fuse_server *s, struct fuse_init_out *out)
{
	out->flags |= FUSE_POSIX_ACL;
}

int open_f(struct fuse_server *s, int flags)
{
	return open(fuse_path(s, "f"), flags | O_CLOEXEC);
}

int try_open(struct fuse_server *s, int flags)
{
	int fd = open_f(s, flags);
	int err = fd < 0 ? errno : 0;

	close(fd);
	return err;
}

unsigned long stat_costs(struct fuse_server *s, const char *name, int opcode)
{
	unsigned long before = fuse_server_count(s, opcode);
	struct statx stx;

	if (statx(AT_FDCWD, fuse_path(s, name),
		  AT_STATX_FORCE_SYNC | AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &stx))
		return -1;
	return fuse_server_count(s, opcode) - before;
}

void thread_become(uid_t uid, gid_t gid)
{
	if (syscall(SYS_setgroups, 0, NULL) ||
	    syscall(SYS_setresgid, -1, gid, -1) ||
	    syscall(SYS_setresuid, -1, uid, -1))
		abort();
}

void thread_become_root(void)
{
	if (syscall(SYS_setresuid, -1, 0, -1) || syscall(SYS_setresgid, -1, 0, -1) ||
	    syscall(SYS_setgroups, 0, NULL))
		abort();
}

int open_by(struct fuse_server *s, const char *name, uid_t uid, gid_t gid,
	    int flags)
{
	unsigned long opens = fuse_server_count(s, FUSE_OPEN);
	int fd, err;

	thread_become(uid, gid);
	fd = open(fuse_path(s, name), flags | O_CLOEXEC);
	err = fd < 0 ? errno : 0;
	thread_become_root();
	close(fd);
	if (fuse_server_count(s, FUSE_OPEN) - opens != !err)
		return -1;
	return err;
}

int access_by(struct fuse_server *s, const char *name, uid_t uid, int mode)
{
	int err;

	thread_become(uid, uid);
	err = syscall(SYS_faccessat2, AT_FDCWD, fuse_path(s, name), mode, AT_EACCESS) ?
		errno : 0;
	thread_become_root();
	return err;
}

void client_become(enum client client)
{
	if (client == OWNER)
		thread_become(USER, USER);
	else if (client == OWNER_MEMBER)
		thread_become(USER, GROUP);
	else if (client == MEMBER)
		thread_become(OTHER, GROUP);
	else if (client == STRANGER)
		thread_become(OTHER, OTHER);
}

bool pair_make(struct fuse_server *s, mode_t mode, uid_t uid, gid_t gid)
{
	static const char *names[] = { "f", "peer" };
	unsigned int i;

	for (i = 0; i < 2; i++)
		if (lower_make(s, names[i], BLOCK, 1) ||
		    fchownat(s->dirfd, names[i], uid, gid, 0) ||
		    fchmodat(s->dirfd, names[i], mode, 0))
			return false;
	return true;
}

bool pair_alike(struct fuse_server *s)
{
	struct stat f, low, peer;

	if (stat(fuse_path(s, "f"), &f) || fstatat(s->dirfd, "f", &low, 0) ||
	    fstatat(s->dirfd, "peer", &peer, 0))
		return false;
	return low.st_mode == peer.st_mode && low.st_uid == peer.st_uid &&
		low.st_gid == peer.st_gid && low.st_size == peer.st_size &&
		f.st_mode == low.st_mode && f.st_uid == low.st_uid &&
		f.st_gid == low.st_gid && f.st_size == low.st_size &&
		f.st_mtim.tv_sec == low.st_mtim.tv_sec;
}

/* A write to the lower "f" that holds the inode lock and blocks at the page of its buffer */
struct stopped {
	struct blocker b;
	int fd, uffd;
	char *page;
};

static void stopped_write(void *arg)
{
	struct stopped *w = arg;

	if (pwrite(w->fd, w->page, PAGE, 0) != PAGE)
		abort();
}

static bool stop_write(struct stopped *w, struct fuse_server *s)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register r = {
		.range.len = PAGE,
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	w->uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	if (w->uffd < 0 || ioctl(w->uffd, UFFDIO_API, &api))
		return false;
	w->page = pages(PAGE);
	w->fd = lower_open(s, "f", O_WRONLY);
	r.range.start = (uintptr_t)w->page;
	return w->fd >= 0 && !ioctl(w->uffd, UFFDIO_REGISTER, &r) &&
		blocker_start(&w->b, stopped_write, w);
}

static void go_on(struct stopped *w)
{
	struct uffdio_zeropage z = {
		.range = { .start = (uintptr_t)w->page, .len = PAGE },
	};

	ioctl(w->uffd, UFFDIO_ZEROPAGE, &z);
	blocker_join(&w->b);
	close(w->fd);
	close(w->uffd);
	munmap(w->page, PAGE);
}

static void call_queued(void *arg)
{
	struct queued *q = arg;

	q->call(q);
}

bool race(struct fuse_server *s, struct queued *below, struct queued *client)
{
	struct stopped w;
	bool ok;

	below->s = s;
	client->s = s;
	if (!stop_write(&w, s))
		return false;
	ok = blocker_start(&below->b, call_queued, below);
	ok &= blocker_start(&client->b, call_queued, client);
	go_on(&w);
	blocker_join(&below->b);
	blocker_join(&client->b);
	return ok;
}

void chown_queued(struct queued *q)
{
	q->err = fchownat(q->s->dirfd, "f", 0, 0, 0) ? errno : 0;
}

int lower_flags(struct fuse_server *s, const char *name, int flags)
{
	int fd = lower_open(s, name, O_RDONLY);
	int all, err = 0;

	if (ioctl(fd, FS_IOC_GETFLAGS, &all))
		err = errno;
	all = (all & ~(FS_APPEND_FL | FS_IMMUTABLE_FL)) | flags;
	if (!err && ioctl(fd, FS_IOC_SETFLAGS, &all))
		err = errno;
	close(fd);
	return err;
}

size_t acl_of(void *buf, uid_t uid, int other)
{
	struct { uint16_t tag, perm; uint32_t id; } e[] = {
		{ 1, 7, -1 }, { 2, 7, uid }, { 4, 5, -1 }, { 16, 7, -1 }, { 32, other, -1 },
	};
	uint32_t version = 2;

	memcpy(buf, &version, 4);
	memcpy((char *)buf + 4, e, sizeof(e));
	return 4 + sizeof(e);
}

int set_acl(const char *path)
{
	char acl[64];
	size_t len = acl_of(acl, OTHER, 5);

	return setxattr(path, ACL, acl, len, 0) ? errno : 0;
}
