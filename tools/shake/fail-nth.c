// SPDX-License-Identifier: GPL-2.0
/*
 * fail-nth: makes each call in which passthrough takes part with its first
 * allocation failing, then with its second, and so on until the call succeeds.
 *
 * A kernel with FAULT_INJECTION fails the Nth allocation, or the Nth copy from
 * or to user space, of a task that writes N to its fail-nth.  The task is the
 * client, or the server thread while it attaches or answers.  Each failure has
 * to return an errno that fits it, and the same call without a fault has to
 * work afterwards.
 *
 *	fail-nth [--short] DIRECTORY
 *
 * DIRECTORY is on the lower file system.  The caller unmounts it afterwards, so
 * that it must not be busy.  --short: attach, open and write only.  Prints TAP.
 */
#include "common.h"

#include <linux/aio_abi.h>
#include <linux/capability.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/uio.h>

#define LEN	(4 * PAGE)
/* More than any call has */
#define MAX_FAULTS	400

#define ALL_OPS	(FUSE_SERVER_BY_INODE | FUSE_PASSTHROUGH_OP(FUSE_GETXATTR))

struct state;

/* A call: in the client's task, or in the server's while it handles @opcode */
struct fault_case {
	const char *name;
	enum fuse_server_open how;
	bool rest;		/* not in the short form */
	bool open;		/* the call needs the open file s->fd */
	int flags;		/* flags of that open */
	int opcode;		/* request in which the server calls; 0: the client calls */
	long (*call)(struct state *s);
	void (*before)(struct state *s);
	void (*after)(struct state *s);
};

struct state {
	struct fuse_server server;
	const struct fault_case *c;
	int fd, made;
	char *buf, *map;
	int pipe[2];
	aio_context_t aio;
	/* The fault, armed for the task that makes the call */
	unsigned int nth;	/* 0: the call has been made */
	bool hit;
	long ret;
	int error;
	/* For calls of the server */
	const struct fuse_in_header *in;
	int lower, kept, id;
};

static unsigned int calls, faults;

/* Let allocations that may sleep fail too, without a message. */
static bool set_up(void)
{
	static const char *const which[] = { "failslab", "fail_page_alloc", "fail_usercopy" };
	char path[96];
	unsigned int i;

	if (access("/proc/self/fail-nth", W_OK))
		return false;
	for (i = 0; i < ARRAY_SIZE(which); i++) {
		snprintf(path, sizeof(path), "/sys/kernel/debug/%s/ignore-gfp-wait", which[i]);
		put(path, "N");
		snprintf(path, sizeof(path), "/sys/kernel/debug/%s/verbose", which[i]);
		put(path, "0");
	}
	put("/sys/kernel/debug/fail_page_alloc/min-order", "0");
	return true;
}

/* Without this capability a write drops setuid and setgid bits. */
static void drop_fsetid(void)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &h, data))
		return;
	data[0].effective &= ~(1u << CAP_FSETID);
	if (syscall(SYS_capset, &h, data))
		printf("# capset: %m\n");
}

static int nth_file(void)
{
	static __thread int fd = -1;

	if (fd < 0)
		fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	return fd;
}

static void arm(unsigned int nth)
{
	char text[16];
	int n = snprintf(text, sizeof(text), "%u", nth);

	if (pwrite(nth_file(), text, n, 0) != n)
		printf("# arming: %m\n");
}

/* Returns whether the fault was hit; the read itself may hit it. */
static bool disarm(void)
{
	char text[16] = "";
	bool hit = pread(nth_file(), text, sizeof(text) - 1, 0) > 0 && text[0] == '0';
	int i;

	for (i = 0; i < 3 && pwrite(nth_file(), "0", 1, 0) != 1; i++)
		;
	return hit;
}

/* Make the call with the fault. */
static void inject(struct state *s)
{
	arm(s->nth);
	errno = 0;
	s->ret = s->c->call(s);
	s->error = errno;
	s->hit = disarm();
	__atomic_store_n(&s->nth, 0, __ATOMIC_SEQ_CST);
}

/* Calls of the server */

static long attach_request(struct state *s)
{
	struct fuse_passthrough_out p = { .unique = s->in->unique, .fd = s->lower };

	return ioctl(s->server.dev, FUSE_DEV_IOC_PASSTHROUGH_OPEN, &p);
}

static long attach_id(struct state *s)
{
	struct fuse_backing_map map = { .fd = s->lower };

	s->id = ioctl(s->server.dev, FUSE_DEV_IOC_BACKING_OPEN, &map);
	return s->id;
}

static void close_id(struct state *s)
{
	uint32_t id = s->id;

	if (s->id > 0 && ioctl(s->server.dev, FUSE_DEV_IOC_BACKING_CLOSE, &id))
		printf("# closing the id: %m\n");
	s->id = 0;
}

static long attach_inode(struct state *s)
{
	struct fuse_passthrough_inode p = {
		.unique = s->in->unique,
		.fd = s->lower,
		.ops = ALL_OPS,
	};

	return ioctl(s->server.dev, FUSE_DEV_IOC_PASSTHROUGH_INODE, &p);
}

static long attach_nodeid(struct state *s)
{
	struct fuse_passthrough_inode p = {
		.nodeid = s->in->nodeid,
		.fd = s->lower,
		.ops = ALL_OPS,
	};

	return ioctl(s->server.dev, FUSE_DEV_IOC_PASSTHROUGH_INODE, &p);
}

static void detach(struct state *s)
{
	struct fuse_passthrough_inode p = { .fd = -1 };

	ioctl(s->server.dev, FUSE_DEV_IOC_PASSTHROUGH_INODE, &p);
}

/* An OPEN that is answered with a lower file attached */
static long answer_open(struct state *s)
{
	struct fuse_passthrough_out p = { .unique = s->in->unique, .fd = s->lower };
	struct fuse_open_out out = { .fh = s->kept };
	int err;

	if (ioctl(s->server.dev, FUSE_DEV_IOC_PASSTHROUGH_OPEN, &p))
		return -1;
	err = fuse_server_reply(&s->server, s->in->unique, 0, &out, sizeof(out));
	errno = -err;
	return err ? -1 : 0;
}

/* Each mount has one INIT. */
static long answer_init(struct state *s)
{
	struct fuse_init_out out = {
		.major = FUSE_KERNEL_VERSION,
		.minor = FUSE_KERNEL_MINOR_VERSION,
		.max_write = 64 * KIB,
		.time_gran = 1,
		.flags = FUSE_INIT_EXT,
		.flags2 = FUSE_PASSTHROUGH >> 32,
		.max_stack_depth = 1,
	};
	int err = fuse_server_reply(&s->server, s->in->unique, 0, &out, sizeof(out));

	errno = -err;
	return err ? -1 : 0;
}

/* Runs in the server thread. */
static bool on_request(struct fuse_server *server, const struct fuse_in_header *in)
{
	struct state *s = server->arg;

	if (!s->nth || !s->c->opcode || (int)in->opcode != s->c->opcode)
		return false;
	s->in = in;
	s->lower = openat(server->dirfd, "f", O_RDWR | O_CLOEXEC);
	s->kept = dup(s->lower);
	inject(s);
	close(s->lower);
	/* If the call has given the answer, RELEASE will close the handle. */
	if ((s->c->call == answer_open || s->c->call == answer_init) && s->ret >= 0)
		return true;
	close(s->kept);
	return false;
}

/* Calls of the client */

static void open_fd(struct state *s)
{
	s->fd = fs_open(&s->server, s->c->how, "f", s->c->flags ?: O_RDWR);
}

static void close_fd(struct state *s)
{
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
}

static long call_open(struct state *s)
{
	s->server.how = s->c->how;
	s->fd = open(fuse_path(&s->server, "f"), O_RDWR | O_CLOEXEC);
	return s->fd;
}

static void unlink_made(struct state *s)
{
	close_fd(s);
	unlink(lower_path(&s->server, "new"));
}

static long call_create(struct state *s)
{
	s->server.how = s->c->how;
	s->fd = open(fuse_path(&s->server, "new"), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	return s->fd;
}

static long call_read(struct state *s)
{
	return pread(s->fd, s->buf, LEN, 0);
}

static long call_write(struct state *s)
{
	return pwrite(s->fd, s->buf, LEN, 0);
}

static void set_bits(struct state *s)
{
	open_fd(s);
	chmod(lower_path(&s->server, "f"), 06755);
}

static long call_aio(struct state *s)
{
	struct iocb cb = {
		.aio_fildes = s->fd,
		.aio_lio_opcode = IOCB_CMD_PWRITE,
		.aio_buf = (uintptr_t)s->buf,
		.aio_nbytes = LEN,
	}, *cbs[] = { &cb };
	struct io_event event;
	long ret = syscall(SYS_io_submit, s->aio, 1, cbs);

	if (ret != 1)
		return ret;
	while (syscall(SYS_io_getevents, s->aio, 1, 1, &event, NULL) != 1)
		;
	errno = (long)event.res < 0 ? -event.res : 0;
	return (long)event.res < 0 ? -1 : 0;
}

static long call_mmap(struct state *s)
{
	s->map = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, 0);
	return s->map == MAP_FAILED ? -1 : 0;
}

static void unmap(struct state *s)
{
	if (s->map && s->map != MAP_FAILED)
		munmap(s->map, LEN);
	s->map = NULL;
	close_fd(s);
}

static long call_splice_from(struct state *s)
{
	loff_t off = 0;

	return splice(s->fd, &off, s->pipe[1], NULL, PAGE, SPLICE_F_NONBLOCK);
}

static void drain(struct state *s)
{
	while (read(s->pipe[0], s->buf, LEN) > 0)
		;
	close_fd(s);
}

static void fill_pipe(struct state *s)
{
	open_fd(s);
	if (write(s->pipe[1], s->buf, PAGE) != PAGE)
		printf("# pipe: %m\n");
}

static long call_splice_to(struct state *s)
{
	loff_t off = 0;

	return splice(s->pipe[0], NULL, s->fd, &off, PAGE, SPLICE_F_NONBLOCK);
}

static void dirty(struct state *s)
{
	open_fd(s);
	if (pwrite(s->fd, s->buf, PAGE, 0) != PAGE)
		printf("# write: %m\n");
}

static long call_fsync(struct state *s)
{
	return fsync(s->fd);
}

static long call_close(struct state *s)
{
	long ret = close(s->fd);

	s->fd = -1;
	return ret;
}

static long call_stat(struct state *s)
{
	struct stat st;

	return fstat(s->fd, &st);
}

static long call_chmod(struct state *s)
{
	return fchmod(s->fd, 0666);
}

static long call_truncate(struct state *s)
{
	return ftruncate(s->fd, LEN);
}

static long call_fallocate(struct state *s)
{
	return fallocate(s->fd, 0, 0, LEN);
}

static const struct fault_case cases[] = {
	{ "answer INIT", OPEN_CACHED, .opcode = FUSE_INIT, .call = answer_init, .rest = true },
	{ "attach by request", OPEN_CACHED, .opcode = FUSE_OPEN, .call = attach_request,
	  .after = close_fd },
	{ "register an id", OPEN_CACHED, .opcode = FUSE_OPEN, .call = attach_id,
	  .after = close_id },
	{ "attach by inode", OPEN_CACHED, .opcode = FUSE_OPEN, .call = attach_inode,
	  .after = detach },
	{ "attach by nodeid", OPEN_CACHED, .opcode = FUSE_OPEN, .call = attach_nodeid,
	  .after = detach },
	{ "answer OPEN", OPEN_DIRECT, .opcode = FUSE_OPEN, .call = answer_open, .rest = true },
	{ "open by request", OPEN_PASSTHROUGH, .call = call_open, .after = close_fd },
	{ "open by id", OPEN_BACKING_ID, .call = call_open, .after = close_fd },
	{ "open by inode", OPEN_BY_INODE, .call = call_open, .after = close_fd },
	{ "create", OPEN_PASSTHROUGH, .call = call_create, .after = unlink_made, .rest = true },
	{ "write", OPEN_PASSTHROUGH, .open = true, .call = call_write },
	{ "write by inode", OPEN_BY_INODE, .open = true, .call = call_write },
	{ "write with setuid bits", OPEN_PASSTHROUGH, .call = call_write,
	  .before = set_bits, .after = close_fd, .rest = true },
	{ "read", OPEN_PASSTHROUGH, .open = true, .call = call_read, .rest = true },
	{ "direct AIO", OPEN_PASSTHROUGH, .open = true, .flags = O_RDWR | O_DIRECT,
	  .call = call_aio, .rest = true },
	{ "mmap", OPEN_PASSTHROUGH, .before = open_fd, .call = call_mmap, .after = unmap,
	  .rest = true },
	{ "splice from", OPEN_PASSTHROUGH, .before = open_fd, .call = call_splice_from,
	  .after = drain, .rest = true },
	{ "splice to", OPEN_PASSTHROUGH, .before = fill_pipe, .call = call_splice_to,
	  .after = drain, .rest = true },
	{ "fsync", OPEN_PASSTHROUGH, .before = dirty, .call = call_fsync, .after = close_fd,
	  .rest = true },
	{ "fsync by inode", OPEN_BY_INODE, .before = dirty, .call = call_fsync,
	  .after = close_fd, .rest = true },
	{ "release", OPEN_PASSTHROUGH, .before = open_fd, .call = call_close,
	  .after = close_fd, .rest = true },
	{ "stat by inode", OPEN_BY_INODE, .open = true, .call = call_stat, .rest = true },
	{ "chmod by inode", OPEN_BY_INODE, .open = true, .call = call_chmod, .rest = true },
	{ "truncate by inode", OPEN_BY_INODE, .open = true, .call = call_truncate, .rest = true },
	{ "fallocate by inode", OPEN_BY_INODE, .open = true, .call = call_fallocate,
	  .rest = true },
};

/* An open by id returns EIO for every failure; files and inodes have ENFILE and ENOSPC too. */
static bool clean(const struct fault_case *c, int error)
{
	return error == ENOMEM || error == EFAULT || error == ENFILE || error == ENOSPC ||
		error == EAGAIN || (error == EIO && c->how == OPEN_BACKING_ID);
}

/* Set up the server before it starts. */
static void describe(struct state *s)
{
	memset(&s->server, 0, sizeof(s->server));
	s->server.permissions = true;
	s->server.arg = s;
	s->server.request = on_request;
}

/* Make the call with its Nth fault.  Returns whether the fault was hit. */
static bool step(struct state *s, unsigned int nth, bool *ok)
{
	const struct fault_case *c = s->c;

	if (c->before)
		c->before(s);
	s->ret = -1;
	s->error = 0;
	s->hit = false;
	s->nth = nth;
	if (c->opcode == FUSE_INIT) {
		describe(s);
		if (fuse_server_start(&s->server)) {
			*ok = false;
			return false;
		}
		while (__atomic_load_n(&s->nth, __ATOMIC_SEQ_CST))
			sched_yield();
		fuse_server_stop(&s->server);
	} else if (c->opcode) {
		/* The server makes the call while this open waits. */
		s->fd = fs_open(&s->server, c->how, "f", O_RDWR);
		while (__atomic_load_n(&s->nth, __ATOMIC_SEQ_CST))
			sched_yield();
		close_fd(s);
	} else {
		inject(s);
	}
	if (c->after)
		c->after(s);
	if (s->ret < 0 && !s->hit) {
		printf("# %s: fails without a fault: %s\n", c->name, strerror(s->error));
		*ok = false;
	}
	if (s->ret < 0 && s->hit && !clean(c, s->error)) {
		printf("# %s: fault %u gives %s\n", c->name, nth, strerror(s->error));
		*ok = false;
	}
	return s->hit;
}

/* Returns false if the lower file system lacks the feature, or after an error. */
static bool prepare(struct state *s)
{
	const struct fault_case *c = s->c;

	s->fd = -1;
	describe(s);
	s->buf = pages(LEN);
	memset(s->buf, 'b', LEN);
	if (pipe2(s->pipe, O_NONBLOCK | O_CLOEXEC) || syscall(SYS_io_setup, 1, &s->aio)) {
		result(false, "fail-nth: %s: cannot be set up: %s", c->name, strerror(errno));
		return false;
	}
	if (c->opcode == FUSE_INIT)
		return true;
	if (fuse_server_start(&s->server) || lower_make(&s->server, "f", LEN, 1)) {
		result(false, "fail-nth: %s: no server: %s", c->name, strerror(errno));
		return false;
	}
	s->server.attr_valid = 0;
	if (c->how == OPEN_BY_INODE)
		fuse_server_node(&s->server, "f")->ops = ALL_OPS;
	if (c->open)
		open_fd(s);
	if (c->open && s->fd < 0 && errno == EINVAL && (c->flags & O_DIRECT)) {
		printf("# %s: the lower file system has no O_DIRECT\n", c->name);
		return false;
	}
	return true;
}

static void run(const struct fault_case *c)
{
	static struct state s;
	unsigned int nth = 0, failed = 0;
	bool ok = true, hit = true;

	memset(&s, 0, sizeof(s));
	s.c = c;
	if (prepare(&s)) {
		while (ok && hit && nth < MAX_FAULTS) {
			hit = step(&s, ++nth, &ok);
			failed += s.ret < 0;
		}
		faults += nth - 1;
		calls++;
		result(ok && !hit, "fail-nth: %s: %u faults, %u of them fail it", c->name,
		       nth - 1, failed);
	}
	close_fd(&s);
	syscall(SYS_io_destroy, s.aio);
	close(s.pipe[0]);
	close(s.pipe[1]);
	munmap(s.buf, LEN);
	if (c->opcode != FUSE_INIT)
		fuse_server_stop(&s.server);
}

int main(int argc, char **argv)
{
	bool brief = argc > 1 && !strcmp(argv[1], "--short");
	unsigned int i;

	if (argc != 2 + brief) {
		fprintf(stderr, "usage: fail-nth [--short] DIRECTORY\n");
		return 2;
	}
	setenv("FUSE_TEST_LOWER", argv[1 + brief], 1);
	if (!set_up()) {
		printf("1..0 # SKIP the kernel injects no faults\n");
		return 4;
	}
	drop_fsetid();
	for (i = 0; i < ARRAY_SIZE(cases); i++)
		if (!brief || !cases[i].rest)
			run(&cases[i]);
	/* Some calls allocate nothing, but on average a call has a fault. */
	result(faults >= calls, "fail-nth: all: %u faults", faults);
	return plan();
}
