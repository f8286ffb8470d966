// SPDX-License-Identifier: GPL-2.0
/*
 * The ioctls of passthrough: valid ones, ones with a wrong field, ones outside
 * a request, and files that cannot be lower files, or only in some ways.
 */
#include "server.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <linux/io_uring.h>

#define OP(opcode)	FUSE_PASSTHROUGH_OP(opcode)
#define BY(by)		(1u << (by))
#define BY_ANY		(BY(BY_REQUEST) | BY(BY_ID) | BY(BY_INODE))

/* Lower files that no ordinary daemon attaches */
struct odd {
	int fd;
	unsigned int fit;	/* BY(), the ways to attach that accept the file */
	const char *what;
};

static struct odd odd[48];
static unsigned int nr_odd;

static void add(int fd, unsigned int fit, const char *what)
{
	if (fd >= 0 && nr_odd < ARRAY_SIZE(odd))
		odd[nr_odd++] = (struct odd){ fd, fit, what };
}

static void add_in(const char *dir, const char *name, int flags, unsigned int fit)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	add(open(path, flags | O_CLOEXEC, 0600), fit, name);
}

static int sealed(void)
{
	int fd = memfd_create("sealed", MFD_ALLOW_SEALING | MFD_CLOEXEC);

	if (fd >= 0 && (write(fd, "sealed", 6) != 6 ||
			fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK)))
		return -1;
	return fd;
}

static int named_pipe(void)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/pipe", lower);
	unlink(path);
	if (mknod(path, S_IFIFO | 0666, 0))
		return -1;
	return open(path, O_RDWR | O_CLOEXEC);
}

void odd_init(void)
{
	struct io_uring_params params = {};
	char other[] = "/dev/shm/shake.XXXXXX";
	int pair[2];

	add_in(served, ".", O_RDONLY | O_DIRECTORY, BY(BY_INODE));
	add_in(served, ".", O_PATH, BY(BY_INODE));
	add_in(served, "l", O_PATH | O_NOFOLLOW, BY(BY_INODE));
	add_in(served, "f0", O_PATH, BY(BY_ID) | BY(BY_INODE));
	add_in(served, "f1", O_RDONLY, BY_ANY);
	add_in(served, "f2", O_WRONLY, BY_ANY);
	add_in(served, "f3", O_RDWR | O_APPEND, BY_ANY);
	add_in(served, "f4", O_RDWR | O_DIRECT, BY_ANY);
	add_in(lower, ".", O_RDWR | O_TMPFILE, BY_ANY);
	add(named_pipe(), 0, "named pipe");
	add(mkstemp(other), BY_ANY, "deleted file of another file system");
	unlink(other);
	if (!pipe2(pair, O_CLOEXEC)) {
		add(pair[0], 0, "pipe");
		add(pair[1], 0, "pipe");
	}
	add(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), 0, "socket");
	add(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), 0, "socket");
	add(memfd_create("memory", MFD_CLOEXEC), 0, "memfd");
	add(memfd_create("huge", MFD_HUGETLB | MFD_CLOEXEC), 0, "memfd of huge pages");
	add(sealed(), 0, "sealed memfd");
	add(epoll_create1(EPOLL_CLOEXEC), 0, "epoll");
	add(eventfd(0, EFD_CLOEXEC), 0, "eventfd");
	add(syscall(SYS_io_uring_setup, 4, &params), 0, "io_uring");
	add(syscall(SYS_userfaultfd, O_NONBLOCK | O_CLOEXEC), 0, "userfaultfd");
	add(syscall(SYS_pidfd_open, getpid(), 0), 0, "pidfd");
	add_in("/proc", "version", O_RDONLY, 0);
	add_in("/proc/self", "mem", O_RDWR, 0);
	add_in("/proc/self", "oom_score_adj", O_RDWR, 0);
	add_in("/proc", "self", O_PATH | O_NOFOLLOW, 0);
	add_in("/sys/kernel/mm/transparent_hugepage", "enabled", O_RDWR, 0);
	add_in("/sys/kernel/tracing", "trace", O_RDONLY, 0);
	add_in("/sys/fs/cgroup", "cgroup.procs", O_RDONLY, 0);
	add_in("/dev", "null", O_RDWR, 0);
	add_in("/dev", "zero", O_RDWR, 0);
	add_in("/dev", "ptmx", O_RDWR | O_NOCTTY, 0);
	add_in("/dev", "fuse", O_RDWR, 0);
	add_in("/dev", "vda", O_RDONLY, 0);
	/* An open by path would send a request to this daemon. */
	if (sh->conn >= 0) {
		char path[64];

		snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%d", sh->conn);
		add_in(path, "waiting", O_RDONLY, 0);
	}
	add(d.dev[0], 0, "its own device");
}

/* A file on the daemon's own mount that a client has open */
static int own_file(void)
{
	const struct slot *s = &sh->slots[rnd(sh->cfg.clients)];
	int pidfd, fd;

	pidfd = syscall(SYS_pidfd_open, s->pid, 0);
	if (pidfd < 0)
		return -1;
	fd = syscall(SYS_pidfd_getfd, pidfd, 3 + rnd(16), 0);
	close(pidfd);
	return fd;
}

/* Choose a file.  The caller does not close it. */
static struct odd choose_odd(void)
{
	int fd;

	/* The descriptor stays open: its close would send a request to this daemon. */
	if (sh->cfg.own_files && nr_odd < ARRAY_SIZE(odd) && percent(5)) {
		fd = own_file();
		/* The descriptor number is a guess: the client may have any file there. */
		if (fd >= 0)
			return odd[nr_odd++] = (struct odd){ fd, BY_ANY, "client's file" };
	}
	return odd[rnd(nr_odd)];
}

static void counted_by(enum attach_by by, long ret)
{
	count(ret < 0 ? &sh->refused[by] : &sh->attached[by]);
}

static void judge(enum attach_by by, const struct odd *o, long ret)
{
	counted_by(by, ret);
	if (!o)
		return;
	count(&sh->odd);
	if (ret >= 0 && !(o->fit & BY(by)))
		bad(V_ERRNO, "%s was attached, way %d", o->what, by);
}

/* Attach by request, in some steps with one wrong field. */
static long by_request(uint64_t unique, int fd, const struct odd *o)
{
	struct fuse_passthrough_out out = { .unique = unique, .fd = fd };
	void *arg = &out;
	long ret;

	if (!sh->cfg.calm && percent(8)) {
		switch (rnd(5)) {
		case 0:
			out.unique ^= 1ull << rnd(64);
			break;
		case 1:
			out.len = random_bits();
			break;
		case 2:
			out.vec = random_bits();
			break;
		case 3:
			out.fd = random_bits(); o = NULL;
			break;
		case 4:
			arg = percent(50) ? NULL : (void *)-PAGE;
			break;
		}
	}
	ret = ioctl(any_device(), FUSE_DEV_IOC_PASSTHROUGH_OPEN, arg);
	judge(BY_REQUEST, o, ret);
	return ret;
}

static long open_id(int fd, const struct odd *o)
{
	struct fuse_backing_map map = { .fd = fd };
	void *arg = &map;
	long ret;

	if (!sh->cfg.calm && percent(8)) {
		switch (rnd(4)) {
		case 0:
			map.flags = random_bits();
			break;
		case 1:
			map.padding = random_bits();
			break;
		case 2:
			map.fd = random_bits(); o = NULL;
			break;
		case 3:
			arg = percent(50) ? NULL : (void *)-PAGE;
			break;
		}
	}
	ret = ioctl(any_device(), FUSE_DEV_IOC_BACKING_OPEN, arg);
	judge(BY_ID, o, ret);
	if (ret > 0) {
		pthread_mutex_lock(&d.lock);
		d.ids[d.nr_ids++ % RECENT] = ret;
		pthread_mutex_unlock(&d.lock);
	}
	return ret;
}

void close_id(int id)
{
	uint32_t arg = id;

	ioctl(any_device(), FUSE_DEV_IOC_BACKING_CLOSE,
	      sh->cfg.calm || !percent(2) ? &arg : NULL);
}

static int recent_id(void)
{
	int id;

	pthread_mutex_lock(&d.lock);
	id = d.ids[rnd(RECENT)];
	pthread_mutex_unlock(&d.lock);
	return id;
}

/* A valid attach can fail if the request was interrupted, or if the open is O_DIRECT. */
static void judge_right(const char *what, long ret, unsigned int flags)
{
	if (ret >= 0 || !strict() || errno == ENOENT ||
	    (errno == EINVAL && (flags & O_DIRECT)))
		return;
	if (errno == EPERM && !(sh->cfg.init_flags & FUSE_PASSTHROUGH))
		return;
	bad(V_ERRNO, "attach by %s: %m", what);
}

static void attach_odd(const struct request *rq, struct handle *h,
		       struct fuse_open_out *out)
{
	struct odd o = choose_odd();
	long id;

	if (percent(60)) {
		h->passes = !by_request(rq->h.unique, o.fd, &o);
	} else {
		id = open_id(o.fd, &o);
		if (id > 0 && !sh->cfg.calm) {
			out->open_flags |= FOPEN_PASSTHROUGH;
			out->backing_id = id;
		}
		h->id = id > 0 ? id : 0;
	}
}

static void remember(const struct request *rq)
{
	pthread_mutex_lock(&d.lock);
	d.recent[d.nr_recent++ % RECENT] = rq->h.unique;
	pthread_mutex_unlock(&d.lock);
}

void attach_open(const struct request *rq, int fd, unsigned int flags,
		 struct handle *h, struct fuse_open_out *out)
{
	unsigned int way = rnd(100);
	long ret;

	remember(rq);
	if (way < 40) {
		ret = by_request(rq->h.unique, fd, NULL);
		judge_right("request", ret, flags);
		h->passes = !ret;
		if (!sh->cfg.calm && percent(8))
			by_request(rq->h.unique, choose_odd().fd, NULL);
	} else if (way < 65) {
		if (sh->cfg.calm && sh->cfg.rootless)
			return;
		ret = open_id(fd, NULL);
		if (ret <= 0) {
			judge_right("id", ret, 0);
			return;
		}
		h->id = ret;
		h->passes = !(out->open_flags & FOPEN_DIRECT_IO);
		out->open_flags |= FOPEN_PASSTHROUGH;
		out->open_flags &= ~(sh->cfg.calm ? FOPEN_KEEP_CACHE : 0);
		out->backing_id = ret;
		if (sh->cfg.calm)
			return;
		if (percent(4))
			by_request(rq->h.unique, fd, NULL);
		if (percent(4))
			out->backing_id = percent(50) ? recent_id() : (int)random_bits();
		if (percent(4))
			close_id(ret);
	} else if (way < 75) {
		/* In a calm round, use only a file that is refused. */
		struct odd o = choose_odd();

		if (!sh->cfg.calm)
			attach_odd(rq, h, out);
		else if (!o.fit)
			by_request(rq->h.unique, o.fd, &o);
	}
}

/* Valid sets of operations for a type of inode */
static uint64_t sensible_ops(mode_t mode)
{
	static const uint64_t attr = OP(FUSE_GETATTR), set = attr | OP(FUSE_SETATTR);
	static const uint64_t xattr = OP(FUSE_GETXATTR) | OP(FUSE_LISTXATTR) |
		OP(FUSE_SETXATTR) | OP(FUSE_REMOVEXATTR);
	static const uint64_t file = OP(FUSE_OPEN) | OP(FUSE_FSYNC) | OP(FUSE_FALLOCATE) |
		OP(FUSE_LSEEK) | OP(FUSE_COPY_FILE_RANGE);
	static const uint64_t dir = OP(FUSE_OPENDIR) | OP(FUSE_READDIR) | OP(FUSE_FSYNCDIR);
	uint64_t ops = percent(70) ? set : attr;

	if (percent(60))
		ops |= xattr;
	if (S_ISREG(mode) && percent(70))
		ops |= file;
	if (S_ISDIR(mode) && percent(60))
		ops |= dir;
	if (S_ISLNK(mode))
		ops |= OP(FUSE_READLINK);
	/* No request would end the locks of an open by inode. */
	if (sh->cfg.init_flags & (FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS))
		ops &= ~OP(FUSE_OPEN);
	return ops;
}

static void mutate(struct fuse_passthrough_inode *in, const struct odd **o)
{
	switch (rnd(7)) {
	case 0:
		in->unique ^= 1ull << rnd(64);
		break;
	case 1:
		in->nodeid ^= 1ull << rnd(64);
		break;
	case 2:
		in->fd = percent(50) ? -1 : (int)random_bits(); *o = NULL;
		break;
	case 3:
		in->flags ^= 1u << rnd(32);
		break;
	case 4:
		in->ops ^= 1ull << rnd(64);
		break;
	case 5:
		in->ops = random_bits();
		break;
	case 6:
		in->ops = 0;
		break;
	}
}

static long by_inode(const struct fuse_passthrough_inode *right, const struct odd *o)
{
	struct fuse_passthrough_inode in = *right;
	void *arg = &in;
	long ret;

	if (!sh->cfg.calm && percent(15))
		mutate(&in, &o);
	if (!sh->cfg.calm && percent(1))
		arg = percent(50) ? NULL : (void *)-PAGE;
	ret = ioctl(any_device(), FUSE_DEV_IOC_PASSTHROUGH_INODE, arg);
	judge(BY_INODE, o, ret);
	return ret;
}

static void detach(uint64_t nodeid)
{
	struct fuse_passthrough_inode in = { .nodeid = nodeid, .fd = -1 };

	ioctl(any_device(), FUSE_DEV_IOC_PASSTHROUGH_INODE, &in);
}

static void judge_inode(long ret)
{
	/* EBUSY: the inode is attached by nodeid.  ENOENT: the request was interrupted. */
	if (!ret || !strict() || errno == ENOENT || errno == EBUSY)
		return;
	if (errno == EPERM && !(sh->cfg.init_flags & FUSE_PASSTHROUGH))
		return;
	bad(V_ERRNO, "attach by inode: %m");
}

void attach_inode(const struct request *rq, uint64_t nodeid)
{
	struct fuse_passthrough_inode in = { .unique = rq->h.unique };
	struct odd o = {}, *odd_one = NULL;
	uint64_t ops;
	struct stat st;

	remember(rq);
	pthread_mutex_lock(&d.lock);
	ops = nodeid < NODES ? d.nodes[nodeid].ops : 0;
	in.fd = nodeid < NODES ? d.nodes[nodeid].fd : -1;
	pthread_mutex_unlock(&d.lock);
	if (!sh->cfg.checked || (ops && (sh->cfg.calm || percent(95)))) {
		if (ops && percent(3)) {
			detach(nodeid);
			ops = 0;
		}
		goto out;
	}
	if (!percent(40) || in.fd < 0 || fstatat(in.fd, "", &st, AT_EMPTY_PATH) ||
	    !(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode) || S_ISLNK(st.st_mode)))
		return;
	in.ops = sensible_ops(st.st_mode);
	if (percent(10) && !(in.ops & (OP(FUSE_SETATTR) | OP(FUSE_SETXATTR) |
				       OP(FUSE_REMOVEXATTR) | OP(FUSE_FALLOCATE))))
		in.flags = FUSE_PASSTHROUGH_RDONLY;
	/* The kernel knows these nodes already.  The root can only be attached by nodeid. */
	if ((rq->h.opcode == FUSE_GETATTR || rq->h.opcode == FUSE_OPEN ||
	     rq->h.opcode == FUSE_OPENDIR) && (nodeid == FUSE_ROOT_ID || percent(30))) {
		in.unique = 0;
		in.nodeid = nodeid;
	}
	if (!sh->cfg.calm && percent(10)) {
		o = choose_odd();
		odd_one = &o;
		in.fd = o.fd;
	}
	if (by_inode(&in, odd_one)) {
		judge_inode(-1);
		return;
	}
	ops = in.ops;
out:
	pthread_mutex_lock(&d.lock);
	if (nodeid < NODES)
		d.nodes[nodeid].ops = ops;
	pthread_mutex_unlock(&d.lock);
}

void attach_stray(void)
{
	struct odd o = choose_odd();
	struct fuse_passthrough_inode in = { .fd = o.fd, .ops = random_bits() };
	uint64_t unique, nodeid = rnd(NODES / 8);
	int fd;

	pthread_mutex_lock(&d.lock);
	unique = d.recent[rnd(RECENT)];
	fd = d.nodes[nodeid].fd;
	pthread_mutex_unlock(&d.lock);
	if (percent(20))
		unique = rnd(10000);
	switch (rnd(8)) {
	case 0:
		by_request(unique, percent(50) ? o.fd : fd, NULL);
		break;
	case 1:
		close_id(recent_id());
		break;
	case 2:
		close_id(random_bits());
		break;
	case 3:
		open_id(percent(50) ? o.fd : fd, NULL);
		break;
	case 4:
		in.unique = unique;
		in.ops = percent(50) ? in.ops : OP(FUSE_GETATTR);
		by_inode(&in, &o);
		break;
	case 5:
		in.nodeid = nodeid;
		in.fd = fd;
		in.ops = sensible_ops(percent(80) ? S_IFREG : S_IFDIR);
		by_inode(&in, NULL);
		break;
	case 6:
		detach(percent(80) ? nodeid : 0);
		break;
	case 7:
		/* Wrong sizes and numbers */
		ioctl(any_device(), _IOC(_IOC_READ | _IOC_WRITE, FUSE_DEV_IOC_MAGIC,
					 rnd(66), rnd(64)), &in);
		break;
	}
}
