// SPDX-License-Identifier: GPL-2.0
/*
 * Random operations on one file by several handles, each opened in another way,
 * are compared with a model in memory, as fsx does for a local file system.
 *
 * FUSE_TEST_OPS: the number of operations, of all variants together.
 * FUSE_TEST_SEED: the same seed gives the same operations.
 *
 * Some accesses are not coherent by contract.  The client compensates before it
 * compares:
 * - FUSE leaves old pages in its cache under a FOPEN_DIRECT_IO write, and does
 *   not notice stores to a passthrough mapping: drop these pages before the
 *   next use of the cache, see stale();
 * - FOPEN_DIRECT_IO ignores dirty pages of the cache, and a mapping of the
 *   lower file writes them back only when it is made: write them back first,
 *   see dirty.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "async_test.h"
#include "io_test.h"
#include "../../kselftest_harness.h"

#define MODEL_OPS	200000
#define MODEL_TIMEOUT	3600
#define MODEL_MAX	(160 * KIB)	/* maximum file size */
#define MODEL_SPARE	(2 * PAGE)	/* spare bytes of buffers */
#define MODEL_EVERY	256		/* operations until a full check */
#define MODEL_HANDLES	6
#define MODEL_MAPPINGS	3
#define MODEL_LOG	4096
#define MODEL_FDS	256
#define MODEL_AIO	3

#ifndef RWF_NOWAIT
#define RWF_NOWAIT	0x00000008
#endif
#ifndef RWF_APPEND
#define RWF_APPEND	0x00000010
#endif

enum kind {
	BY_REQUEST,
	BY_ID,
	BY_ID_DIRECT,	/* beside FOPEN_DIRECT_IO: only mappings pass through */
	CACHED,
	KEEP_CACHE,
	DIRECT,
	NR_KINDS
};

#define BIT(n)		(1u << (n))
#define WITH_CACHE	(BIT(BY_REQUEST) | BIT(BY_ID) | BIT(CACHED) | BIT(KEEP_CACHE))
#define WITH_ALL	(BIT(NR_KINDS) - 1)

static const struct {
	const char *name;
	enum fuse_server_open how;
	uint32_t flags;
	bool passes;		/* reads and writes go to the lower file */
	bool maps_lower;
	bool cached;
} kinds[NR_KINDS] = {
	[BY_REQUEST]	= { "request", OPEN_PASSTHROUGH, 0, true, true },
	[BY_ID]		= { "id", OPEN_BACKING_ID, 0, true, true },
	[BY_ID_DIRECT]	= { "id+direct", OPEN_BACKING_ID, FOPEN_DIRECT_IO, false, true },
	[CACHED]	= { "cached", OPEN_CACHED, 0, .cached = true },
	[KEEP_CACHE]	= { "keep", OPEN_CACHED, FOPEN_KEEP_CACHE, .cached = true },
	[DIRECT]	= { "direct", OPEN_DIRECT, 0 },
};

/* Counters of the server, shared with the client, which is another process. */
struct shared {
	struct fuse_server s;
	bool passes[MODEL_FDS];		/* by fh */
	unsigned long stray;		/* their READs and WRITEs */
};

struct handle {
	int fd;
	enum kind kind;
	int flags;
};

struct mapping {
	char *p;
	enum kind kind;
	bool writable;
};

struct op {
	const char *name;
	enum kind kind;
	int handle, flags;	/* of the handle that it used, -1: none */
	int how;		/* RWF_*, FALLOC_FL_* and the like */
	off_t off, from;
	size_t len;
	long ret;
};

struct client {
	struct shared *shared;
	unsigned int kinds;
	uint64_t seed, random;
	unsigned long nr;
	struct op *log, *op;
	struct handle h[MODEL_HANDLES];
	struct mapping m[MODEL_MAPPINGS];
	char *image;		/* zeros beyond the size */
	char *buf;
	off_t size;
	off_t last;		/* position of a recent write */
	bool dirty;		/* FUSE's cache may have dirty pages */
	bool mapped;		/* there was a writable mapping of the lower file */
	off_t stale_from, stale_to;
	uint64_t nodeid;
	int lower, mem, pipe[2];
	bool odirect;		/* the lower file system has O_DIRECT */
	bool xfs;		/* the lower file system is XFS */
	aio_context_t aio;
};

static sigjmp_buf no_page;

static void on_sigbus(int sig)
{
	siglongjmp(no_page, sig);
}

/*
 * Each operation depends only on the seed and its number, not on earlier ones.
 */
static void random_begin(struct client *c)
{
	c->random = (c->seed * 1000003 + c->nr) * 0x9e3779b97f4a7c15ull + 1;
}

static unsigned int rnd(struct client *c, unsigned int n)
{
	c->random ^= c->random << 13;
	c->random ^= c->random >> 7;
	c->random ^= c->random << 17;
	return (c->random >> 20) % n;
}

static bool one_in(struct client *c, unsigned int n)
{
	return !rnd(c, n);
}

/* On failure: print the last operations, and those on the same range */

static void print_op(const struct client *c, unsigned long nr, off_t at)
{
	const struct op *op = &c->log[nr % MODEL_LOG];
	bool there = at >= 0 && op->off <= at && at < op->off + (off_t)op->len;
	char how[64] = "-";

	if (op->handle >= 0)
		snprintf(how, sizeof(how), "%d %s%s%s%s", op->handle,
			 kinds[op->kind].name,
			 op->flags & O_APPEND ? "+append" : "",
			 (op->flags & O_DIRECT) ? "+O_DIRECT" : "",
			 (op->flags & O_ACCMODE) == O_RDONLY ? " ro" :
			 (op->flags & O_ACCMODE) == O_WRONLY ? " wo" : "");
	printf("# %c%7lu %-14s %-26s 0x%-3x at 0x%05jx len 0x%05zx from 0x%05jx = %ld\n",
	       there ? '*' : ' ', nr, op->name, how, op->how,
	       (uintmax_t)op->off, op->len, (uintmax_t)op->from, op->ret);
}

static void __attribute__((noreturn, format(printf, 3, 4)))
fail(const struct client *c, off_t at, const char *fmt, ...)
{
	unsigned long first = c->nr > 40 ? c->nr - 40 : 0;
	unsigned long i = c->nr > MODEL_LOG - 1 ? c->nr - MODEL_LOG + 1 : 0;
	va_list ap;

	printf("# seed %llu, operation %lu (size 0x%jx%s): ", (unsigned long long)c->seed,
	       c->nr, (uintmax_t)c->size, c->dirty ? ", dirty" : "");
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n# the last ones, and earlier ones that were there (*):\n");
	for (; i < first; i++) {
		const struct op *op = &c->log[i % MODEL_LOG];

		if (at >= 0 && op->off <= at && at < op->off + (off_t)op->len)
			print_op(c, i, at);
	}
	for (; i <= c->nr; i++)
		print_op(c, i, at);
	fflush(stdout);
	_exit(1);
}

/* Handles and ranges */

static bool can(const struct handle *h, int mode)
{
	int acc = h->flags & O_ACCMODE;

	return h->fd >= 0 && (acc == O_RDWR || acc == mode || mode == -1);
}

/* A handle that permits @mode: O_RDONLY, O_WRONLY, O_RDWR, or -1 for any. */
static struct handle *choose(struct client *c, int mode)
{
	unsigned int i, first = rnd(c, MODEL_HANDLES);

	for (i = 0; i < MODEL_HANDLES; i++) {
		struct handle *h = &c->h[(first + i) % MODEL_HANDLES];

		if (!can(h, mode))
			continue;
		c->op->handle = h - c->h;
		c->op->kind = h->kind;
		c->op->flags = h->flags;
		return h;
	}
	return NULL;
}

static void choose_len(struct client *c)
{
	unsigned int r = rnd(c, 16);

	c->op->len = 1 + rnd(c, r < 11 ? 500 : r < 15 ? 2 * PAGE : 40 * KIB);
}

static void choose_off(struct client *c)
{
	off_t off;

	switch (rnd(c, 8)) {
	case 0:
		off = rnd(c, MODEL_MAX);
		break;
	case 1:		/* Around the end. */
		off = c->size - rnd(c, 300) + rnd(c, 40);
		break;
	case 2:
	case 3:		/* Around a page's end. */
		off = (1 + rnd(c, c->size / PAGE + 1)) * PAGE - 20 + rnd(c, 40);
		break;
	case 4:
		off = rnd(c, c->size + 1);
		break;
	default:	/* Where somebody wrote. */
		off = c->last - 300 + rnd(c, 600);
	}
	if (off < 0)
		off = 0;
	if (off >= MODEL_MAX)
		off = MODEL_MAX - 1;
	c->op->off = off;
	if ((off_t)c->op->len > MODEL_MAX - off)
		c->op->len = MODEL_MAX - off;
}

/* @direct: aligned for O_DIRECT on any file system */
static void choose_range(struct client *c, bool direct)
{
	struct op *op = c->op;
	off_t end;

	choose_len(c);
	choose_off(c);
	if (!direct)
		return;
	end = op->off + op->len + BLOCK - 1;
	op->off -= op->off % BLOCK;
	op->len = end - end % BLOCK - op->off;
}

/* A range within the file, for mappings. Returns false if the file is empty. */
static bool choose_inside(struct client *c)
{
	struct op *op = c->op;

	choose_range(c, false);
	if (op->off >= c->size)
		op->off = c->size - 1;
	if (op->off < 0)
		return false;
	if ((off_t)op->len > c->size - op->off)
		op->len = c->size - op->off;
	return true;
}

/* The position of an append. Returns false if no append is possible. */
static bool choose_end(struct client *c, const struct handle *h)
{
	struct op *op = c->op;

	op->off = c->size;
	if (op->off + (off_t)op->len > MODEL_MAX)
		op->len = MODEL_MAX - op->off;
	if (h->flags & O_DIRECT) {
		op->len -= op->len % BLOCK;
		if (op->off % BLOCK)
			return false;
	}
	return op->len;
}

/* Only O_DIRECT needs alignment in memory. */
static char *buffer(struct client *c, const struct handle *h)
{
	return h && (h->flags & O_DIRECT) ? c->buf : c->buf + rnd(c, 200);
}

/* Coherence that FUSE does not promise */

static void stale(struct client *c, off_t off, size_t len)
{
	if (c->stale_from >= c->stale_to) {
		c->stale_from = off;
		c->stale_to = off + len;
		return;
	}
	if (off < c->stale_from)
		c->stale_from = off;
	if (off + (off_t)len > c->stale_to)
		c->stale_to = off + len;
}

static void drop_stale(struct client *c)
{
	struct fuse_notify_inval_inode_out out = {
		.ino = c->nodeid,
		.off = c->stale_from,
		.len = c->stale_to - c->stale_from,
	};
	struct fuse_out_header h = {
		.len = sizeof(h) + sizeof(out),
		.error = FUSE_NOTIFY_INVAL_INODE,
	};
	struct iovec iov[] = {
		{ &h, sizeof(h) },
		{ &out, sizeof(out) },
	};

	if (c->stale_from >= c->stale_to)
		return;
	if (writev(c->shared->s.dev, iov, 2) != h.len)
		fail(c, -1, "inval_inode: %m");
	c->stale_to = c->stale_from;
}

static void write_back(struct client *c)
{
	if (!c->dirty)
		return;
	if (fsync(c->h[0].fd))
		fail(c, -1, "fsync: %m");
	c->dirty = false;
}

/* Before reads and writes through @h. */
static void before(struct client *c, const struct handle *h)
{
	if (kinds[h->kind].cached)
		drop_stale(c);
	else if (!kinds[h->kind].passes)
		write_back(c);
}

/* The model */

static void wrote(struct client *c, const char *buf, off_t off, size_t len)
{
	memcpy(c->image + off, buf, len);
	if (off + (off_t)len > c->size)
		c->size = off + len;
	c->last = off;
}

static void after_write(struct client *c, const struct handle *h,
			const char *buf, off_t off, size_t len)
{
	wrote(c, buf, off, len);
	if (kinds[h->kind].cached)
		c->dirty |= c->shared->s.writeback;
	else if (!kinds[h->kind].passes)
		stale(c, off, len);
}

static void resized(struct client *c, off_t size)
{
	if (size < c->size)
		memset(c->image + size, 0, c->size - size);
	c->size = size;
}

static size_t expected(const struct client *c, off_t off, size_t len)
{
	if (off >= c->size)
		return 0;
	return off + (off_t)len > c->size ? (size_t)(c->size - off) : len;
}

static void compare(struct client *c, const char *what, const char *buf,
		    off_t off, size_t len)
{
	size_t i;

	if (!memcmp(buf, c->image + off, len))
		return;
	for (i = 0; buf[i] == c->image[off + i];)
		i++;
	fail(c, off + i, "%s: at 0x%jx is 0x%02x, not 0x%02x", what,
	     (uintmax_t)(off + i), (unsigned char)buf[i],
	     (unsigned char)c->image[off + i]);
}

static void was_read(struct client *c, const char *buf, ssize_t n)
{
	struct op *op = c->op;

	op->ret = n < 0 ? -errno : n;
	if (n != (ssize_t)expected(c, op->off, op->len))
		fail(c, op->off, "read %zd, not %zu: %s", n,
		     expected(c, op->off, op->len), n < 0 ? strerror(errno) : "");
	compare(c, op->name, buf, op->off, n);
}

static void was_written(struct client *c, const struct handle *h,
			const char *buf, ssize_t n)
{
	struct op *op = c->op;

	op->ret = n < 0 ? -errno : n;
	if (n != (ssize_t)op->len)
		fail(c, op->off, "wrote %zd, not %zu: %s", n, op->len,
		     n < 0 ? strerror(errno) : "");
	after_write(c, h, buf, op->off, n);
}

/* The file position moves by the bytes that were read or written. */
static void moved(struct client *c, off_t at, off_t from, ssize_t n)
{
	if (n > 0 && at != from + n)
		fail(c, -1, "left at 0x%jx after %zd from 0x%jx", (uintmax_t)at,
		     n, (uintmax_t)from);
}

/* An operation that must fail and change nothing */
static void was_refused(struct client *c, long n, int error)
{
	c->op->ret = n < 0 ? -errno : n;
	if (n != -1 || errno != error)
		fail(c, -1, "%ld (%m) instead of: %s", n, strerror(error));
	c->op->len = 0;
}

/*
 * Never 0; differs between operations and places.  Few loops, because emulated
 * CPUs are slow.
 */
static void fill(struct client *c, char *buf, size_t len)
{
	size_t i, odd = 251;

	for (i = 0; i < len && i < odd; i++)
		buf[i] = 1 + (c->nr * 7 + i * 3) % 255;
	for (; i < len; i += odd)
		memcpy(buf + i, buf, len - i < odd ? len - i : odd);
}

/* Operations. They return false if they are not possible now. */

static int split(struct client *c, const struct handle *h, struct iovec *iov,
		 char *buf, size_t len)
{
	size_t first = rnd(c, len);

	if (h->flags & O_DIRECT)
		first -= first % BLOCK;
	if (!first || one_in(c, 2)) {
		iov[0] = (struct iovec){ buf, len };
		return 1;
	}
	iov[0] = (struct iovec){ buf, first };
	iov[1] = (struct iovec){ buf + first, len - first };
	return 2;
}

static bool do_read(struct client *c)
{
	struct handle *h = choose(c, O_RDONLY);
	struct op *op = c->op;
	struct iovec iov[2];
	ssize_t n;
	char *buf;
	int nr;

	if (!h)
		return false;
	choose_range(c, h->flags & O_DIRECT);
	buf = buffer(c, h);
	before(c, h);
	switch (rnd(c, 6)) {
	case 0:
		nr = split(c, h, iov, buf, op->len);
		n = preadv(h->fd, iov, nr, op->off);
		break;
	case 1:
		op->name = "read";
		lseek(h->fd, op->off, SEEK_SET);
		n = read(h->fd, buf, op->len);
		moved(c, lseek(h->fd, 0, SEEK_CUR), op->off, n);
		break;
	case 2:
		op->name = "pread nowait";
		op->how = RWF_NOWAIT;
		nr = split(c, h, iov, buf, op->len);
		n = preadv2(h->fd, iov, nr, op->off, op->how);
		if (n < 0 && (errno == EAGAIN || errno == EOPNOTSUPP))
			return true;
		if (n >= 0 && n < (ssize_t)expected(c, op->off, op->len))
			op->len = n;
		break;
	default:
		n = pread(h->fd, buf, op->len, op->off);
	}
	was_read(c, buf, n);
	return true;
}

static bool do_write(struct client *c)
{
	static const int flags[] = { RWF_APPEND, RWF_APPEND, RWF_NOWAIT, RWF_NOWAIT, 0 };
	struct handle *h = choose(c, O_WRONLY);
	unsigned int way = rnd(c, 16);
	struct op *op = c->op;
	struct iovec iov[2];
	ssize_t n;
	off_t at;
	char *buf;
	int nr;

	if (!h)
		return false;
	choose_range(c, h->flags & O_DIRECT);
	/* An append ignores the position. */
	at = op->off;
	op->how = way < ARRAY_SIZE(flags) ? flags[way] : 0;
	if (one_in(c, 80))
		op->how |= RWF_DSYNC;
	if (((op->how & RWF_APPEND) || (h->flags & O_APPEND)) && !choose_end(c, h))
		return false;
	buf = buffer(c, h);
	fill(c, buf, op->len);
	before(c, h);
	if (way < 8) {
		nr = split(c, h, iov, buf, op->len);
		n = pwritev2(h->fd, iov, nr, at, op->how);
		if (n < 0 && (op->how & RWF_NOWAIT) &&
		    (errno == EAGAIN || errno == EOPNOTSUPP))
			return true;
		if (n > 0 && (op->how & RWF_NOWAIT))
			op->len = n;
	} else if (way < 11) {
		op->name = "write";
		lseek(h->fd, at, SEEK_SET);
		n = write(h->fd, buf, op->len);
		moved(c, lseek(h->fd, 0, SEEK_CUR), op->off, n);
	} else {
		n = pwrite(h->fd, buf, op->len, at);
	}
	was_written(c, h, buf, n);
	return true;
}

/* Several concurrent requests that do not overlap */
static bool do_aio(struct client *c)
{
	bool writing = one_in(c, 2);
	struct handle *h = choose(c, writing ? O_WRONLY : O_RDONLY);
	struct iocb iocb[MODEL_AIO], *iocbs[MODEL_AIO];
	struct io_event ev[MODEL_AIO];
	struct op *op = c->op;
	unsigned int i, nr = 1;
	off_t start;
	char *buf;

	if (!h)
		return false;
	op->name = writing ? "aio write" : "aio read";
	choose_range(c, h->flags & O_DIRECT);
	start = op->off;
	if (writing && (h->flags & O_APPEND) && !choose_end(c, h))
		return false;
	buf = buffer(c, h);
	if (writing)
		fill(c, buf, op->len);
	/* In parts, where each has its place and its length is known before. */
	if (!(writing && (h->flags & O_APPEND)) && op->len >= MODEL_AIO * BLOCK &&
	    (writing || op->off + (off_t)op->len <= c->size))
		nr = MODEL_AIO;
	for (i = 0; i < nr; i++) {
		size_t at = op->len / nr / BLOCK * BLOCK * i;
		size_t to = i == nr - 1 ? op->len : op->len / nr / BLOCK * BLOCK * (i + 1);

		iocbs[i] = &iocb[i];
		aio_prep(&iocb[i], writing ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
			 h->fd, buf + at, to - at, start + at, to - at);
	}
	before(c, h);
	if (aio_submit(c->aio, nr, iocbs) != (int)nr ||
	    aio_wait(c->aio, nr, ev) != (int)nr)
		fail(c, -1, "io_submit: %m");
	for (i = 0; nr > 1 && i < nr; i++)
		if (ev[i].res != (int64_t)ev[i].data)
			fail(c, op->off, "a part gave %lld, not %lld",
			     (long long)ev[i].res, (long long)ev[i].data);
	if (nr == 1 && ev[0].res < 0) {
		errno = -ev[0].res;
		ev[0].res = -1;
	}
	if (writing)
		was_written(c, h, buf, nr > 1 ? (ssize_t)op->len : ev[0].res);
	else
		was_read(c, buf, nr > 1 ? (ssize_t)op->len : ev[0].res);
	return true;
}

/* Load from a mapping, or store to it. */
static void touch(struct client *c, const char *p, enum kind kind, bool store)
{
	struct op *op = c->op;

	if (!kinds[kind].maps_lower)
		drop_stale(c);
	if (sigsetjmp(no_page, 1))
		fail(c, op->off, "SIGBUS");
	if (!store) {
		/* All loads fault alike: copy, then compare. */
		memcpy(c->buf, p + op->off, op->len);
		compare(c, op->name, c->buf, op->off, op->len);
		return;
	}
	fill(c, c->buf, op->len);
	memcpy((char *)p + op->off, c->buf, op->len);
	wrote(c, c->buf, op->off, op->len);
	if (kinds[kind].maps_lower)
		stale(c, op->off, op->len);
	else
		c->dirty = true;
}

static char *map(struct client *c, const struct handle *h, bool writable)
{
	char *p = mmap(NULL, MODEL_MAX, writable ? PROT_READ | PROT_WRITE : PROT_READ,
		       MAP_SHARED, h->fd, 0);

	if (p == MAP_FAILED)
		fail(c, -1, "mmap: %m");
	/* The access mode of the open decides, not the current protection. */
	if (kinds[h->kind].maps_lower && (h->flags & O_ACCMODE) == O_RDWR)
		c->mapped = true;
	return p;
}

static bool do_mmap(struct client *c)
{
	bool store = one_in(c, 2);
	struct handle *h = choose(c, store ? O_RDWR : O_RDONLY);
	char *p;

	if (!h || (h->flags & O_ACCMODE) == O_WRONLY || !choose_inside(c))
		return false;
	c->op->name = store ? "mmap store" : "mmap load";
	if (h->kind == DIRECT) {
		p = mmap(NULL, MODEL_MAX, PROT_READ, MAP_SHARED, h->fd, 0);
		was_refused(c, p == MAP_FAILED ? -1 : 0, ENODEV);
		return true;
	}
	p = map(c, h, store);
	touch(c, p, h->kind, store);
	munmap(p, MODEL_MAX);
	return true;
}

/* A mapping that may outlive its open file. */
static bool do_mapping(struct client *c)
{
	struct mapping *m = &c->m[rnd(c, MODEL_MAPPINGS)];
	bool store = one_in(c, 2);
	struct handle *h;

	if (!m->p) {
		h = choose(c, O_RDONLY);
		if (!h || h->kind == DIRECT)
			return false;
		c->op->name = "map";
		m->writable = (h->flags & O_ACCMODE) == O_RDWR;
		m->kind = h->kind;
		m->p = map(c, h, m->writable);
	} else if (one_in(c, 12)) {
		c->op->name = "unmap";
		munmap(m->p, MODEL_MAX);
		m->p = NULL;
	} else if (one_in(c, 8)) {
		c->op->name = "msync";
		c->op->ret = msync(m->p, MODEL_MAX, one_in(c, 2) ? MS_SYNC : MS_ASYNC);
		if (c->op->ret)
			fail(c, -1, "msync: %m");
	} else {
		if (!choose_inside(c))
			return false;
		store = store && m->writable;
		c->op->kind = m->kind;
		c->op->handle = MODEL_HANDLES + (m - c->m);
		c->op->name = store ? "store" : "load";
		if (kinds[m->kind].maps_lower)
			write_back(c);
		touch(c, m->p, m->kind, store);
	}
	return true;
}

static bool do_truncate(struct client *c)
{
	bool path = one_in(c, 2);
	struct handle *h = NULL;
	struct op *op = c->op;
	off_t size;

	if (!path) {
		h = choose(c, O_WRONLY);
		if (!h)
			return false;
	}
	choose_off(c);
	if (one_in(c, 3))
		op->off -= op->off % PAGE;
	op->name = path ? "truncate" : "ftruncate";
	size = op->off;
	op->len = MODEL_MAX - size;
	if (path)
		op->ret = truncate(fuse_path(&c->shared->s, "f"), size);
	else
		op->ret = ftruncate(h->fd, size);
	if (op->ret)
		fail(c, -1, "truncate: %m");
	resized(c, size);
	return true;
}

static bool do_fallocate(struct client *c)
{
	static const int modes[] = {
		0, FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
	};
	struct handle *h = choose(c, O_WRONLY);
	struct op *op = c->op;
	off_t end;

	if (!h)
		return false;
	choose_range(c, one_in(c, 3));
	op->how = modes[rnd(c, ARRAY_SIZE(modes))];
	op->name = op->how & FALLOC_FL_PUNCH_HOLE ? "punch" :
		op->how & FALLOC_FL_ZERO_RANGE ? "zero range" : "fallocate";
	op->ret = fallocate(h->fd, op->how, op->off, op->len);
	if (op->ret && errno == EOPNOTSUPP) {
		op->len = 0;
		return true;
	}
	if (op->ret)
		fail(c, -1, "fallocate: %m");
	end = op->off + op->len;
	if (op->how & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		memset(c->image + op->off, 0, op->len);
	if (!(op->how & FALLOC_FL_KEEP_SIZE) && end > c->size)
		c->size = end;
	c->last = op->off;
	return true;
}

static bool do_splice_out(struct client *c)
{
	struct handle *h = choose(c, O_RDONLY);
	struct op *op = c->op;
	size_t done = 0;
	loff_t at;
	ssize_t n;

	if (!h)
		return false;
	choose_range(c, h->flags & O_DIRECT);
	before(c, h);
	at = op->off;
	do {
		n = splice(h->fd, &at, c->pipe[1], NULL, op->len - done, 0);
		if (n > 0 && read(c->pipe[0], c->buf + done, n) != n)
			fail(c, -1, "read of a pipe: %m");
		if (n > 0)
			done += n;
	} while (n > 0 && done < op->len);
	was_read(c, c->buf, n < 0 ? n : (ssize_t)done);
	moved(c, at, op->off, done);
	return true;
}

static bool do_splice_in(struct client *c)
{
	struct handle *h = choose(c, O_WRONLY);
	struct op *op = c->op;
	size_t done = 0;
	ssize_t n = 0;
	loff_t at;

	if (!h)
		return false;
	choose_range(c, h->flags & O_DIRECT);
	at = op->off;
	if (h->flags & O_APPEND) {
		if (write(c->pipe[1], "x", 1) != 1)
			fail(c, -1, "write to a pipe: %m");
		was_refused(c, splice(c->pipe[0], NULL, h->fd, &at, 1, 0), EINVAL);
		if (read(c->pipe[0], c->buf, 1) != 1)
			fail(c, -1, "read of a pipe: %m");
		return true;
	}
	fill(c, c->buf, op->len);
	if (write(c->pipe[1], c->buf, op->len) != (ssize_t)op->len)
		fail(c, -1, "write to a pipe: %m");
	before(c, h);
	while (done < op->len) {
		n = splice(c->pipe[0], NULL, h->fd, &at, op->len - done, 0);
		if (n <= 0)
			break;
		done += n;
	}
	was_written(c, h, c->buf, n < 0 ? n : (ssize_t)done);
	moved(c, at, op->off, done);
	return true;
}

static bool do_sendfile(struct client *c)
{
	bool writing = one_in(c, 2);
	struct handle *h = choose(c, writing ? O_WRONLY : O_RDONLY);
	struct op *op = c->op;
	size_t done = 0;
	off_t at;
	ssize_t n;

	if (!h)
		return false;
	op->name = writing ? "sendfile to" : "sendfile from";
	choose_range(c, h->flags & O_DIRECT);
	fill(c, c->buf, op->len);
	if (pwrite(c->mem, c->buf, op->len, 0) != (ssize_t)op->len)
		fail(c, -1, "memfd: %m");
	at = writing ? 0 : op->off;
	lseek(c->mem, 0, SEEK_SET);
	if (writing && (h->flags & O_APPEND)) {
		was_refused(c, sendfile(h->fd, c->mem, &at, op->len), EINVAL);
		return true;
	}
	lseek(h->fd, op->off, SEEK_SET);
	before(c, h);
	do {
		n = writing ? sendfile(h->fd, c->mem, &at, op->len - done) :
			sendfile(c->mem, h->fd, &at, op->len - done);
		if (n > 0)
			done += n;
	} while (n > 0 && done < op->len);
	if (n >= 0)
		n = done;
	if (writing) {
		moved(c, lseek(h->fd, 0, SEEK_CUR), op->off, n);
		was_written(c, h, c->buf, n);
	} else {
		moved(c, at, op->off, n);
		if (n > 0 && pread(c->mem, c->buf, n, 0) != n)
			fail(c, -1, "memfd: %m");
		was_read(c, c->buf, n);
	}
	return true;
}

static bool do_copy(struct client *c)
{
	struct handle *in = choose(c, O_RDONLY), *out = choose(c, O_WRONLY);
	struct op *op = c->op;
	loff_t from, to;
	ssize_t n;

	if (!in || !out)
		return false;
	choose_range(c, one_in(c, 3));
	from = rnd(c, MODEL_MAX - op->len + 1);
	if (one_in(c, 3))
		from -= from % BLOCK;
	if (from < op->off + (off_t)op->len && op->off < from + (off_t)op->len)
		return false;
	/*
	 * Where blocks came to be shared, XFS of 6.1 may fail a direct read after
	 * a buffered append with EIO: seen without FUSE.
	 */
	if (c->xfs && !(from % BLOCK) && !(op->off % BLOCK))
		return false;
	to = op->off;
	op->from = from;
	/*
	 * The server copies within the lower file, even if the cache has old
	 * pages.
	 */
	write_back(c);
	drop_stale(c);
	n = copy_file_range(in->fd, &from, out->fd, &to, op->len, 0);
	if (out->flags & O_APPEND) {
		was_refused(c, n, EBADF);
		return true;
	}
	op->ret = n < 0 ? -errno : n;
	if (n < 0 || n > (ssize_t)expected(c, op->from, op->len) ||
	    (!n && expected(c, op->from, op->len)))
		fail(c, op->off, "copied %zd of %zu: %s", n,
		     expected(c, op->from, op->len), n < 0 ? strerror(errno) : "");
	moved(c, from, op->from, n);
	moved(c, to, op->off, n);
	op->len = n;
	memcpy(c->buf, c->image + op->from, n);
	if (n)
		wrote(c, c->buf, op->off, n);
	/*
	 * If the kernel fell back to reads and writes, they were by this
	 * handle.
	 */
	if (!kinds[out->kind].passes)
		stale(c, op->off, n);
	c->dirty |= c->shared->s.writeback;
	return true;
}

static bool do_sync(struct client *c)
{
	struct handle *h = choose(c, -1);

	switch (rnd(c, 4)) {
	case 0:
		c->op->name = "fsync";
		c->op->ret = fsync(h->fd);
		break;
	case 1:
		c->op->name = "fdatasync";
		c->op->ret = fdatasync(h->fd);
		break;
	default:
		choose_range(c, false);
		c->op->name = "sync range";
		c->op->ret = sync_file_range(h->fd, c->op->off, c->op->len,
					     SYNC_FILE_RANGE_WRITE);
	}
	if (c->op->ret)
		fail(c, -1, "%s: %m", c->op->name);
	return true;
}

static bool do_advise(struct client *c)
{
	static const int advice[] = {
		POSIX_FADV_DONTNEED, POSIX_FADV_DONTNEED, POSIX_FADV_WILLNEED,
		POSIX_FADV_RANDOM, POSIX_FADV_SEQUENTIAL,
	};
	struct handle *h = choose(c, -1);

	choose_range(c, one_in(c, 2));
	c->op->how = advice[rnd(c, ARRAY_SIZE(advice))];
	/* It may read ahead over what is old: then that is all the same. */
	c->op->ret = posix_fadvise(h->fd, c->op->off, c->op->len, c->op->how);
	if (c->op->ret)
		fail(c, -1, "fadvise: %s", strerror(c->op->ret));
	return true;
}

static bool do_stat(struct client *c)
{
	struct handle *h = choose(c, -1);
	struct stat st;

	if (one_in(c, 2))
		c->op->ret = fstat(h->fd, &st);
	else
		c->op->ret = stat(fuse_path(&c->shared->s, "f"), &st);
	if (c->op->ret)
		fail(c, -1, "stat: %m");
	if (st.st_size != c->size)
		fail(c, -1, "stat has size 0x%jx", (uintmax_t)st.st_size);
	return true;
}

static bool may_odirect(const struct client *c, enum kind kind)
{
	return c->odirect || !kinds[kind].maps_lower;
}

static bool do_setfl(struct client *c)
{
	struct handle *h = choose(c, -1);
	int flag = one_in(c, 2) ? O_APPEND : O_DIRECT;

	if (flag == O_DIRECT && !may_odirect(c, h->kind))
		return false;
	h->flags ^= flag;
	c->op->flags = h->flags;
	if (fcntl(h->fd, F_SETFL, h->flags & (O_APPEND | O_DIRECT)))
		fail(c, -1, "F_SETFL: %m");
	return true;
}

/* The cache has no old pages any more. */
static void look_at_dropped(struct client *c, const struct handle *h)
{
	size_t len = expected(c, c->stale_from, c->stale_to - c->stale_from);
	ssize_t n;

	if (c->stale_from >= c->stale_to)
		return;
	c->stale_to = c->stale_from;
	if (!can(h, O_RDONLY) || (h->flags & O_DIRECT))
		return;
	n = pread(h->fd, c->buf, len, c->stale_from);
	if (n != (ssize_t)len)
		fail(c, -1, "read %zd of what was old, not %zu: %m", n, len);
	compare(c, "what was old", c->buf, c->stale_from, n);
}

static void open_handle(struct client *c, unsigned int i)
{
	static const int modes[] = { O_RDWR, O_RDWR, O_RDWR, O_RDONLY, O_WRONLY };
	struct handle *h = &c->h[i];
	struct fuse_server *s = &c->shared->s;
	int flags;

	do {
		h->kind = rnd(c, NR_KINDS);
		/* Does it have to drop pages? */
		if (c->stale_from < c->stale_to && c->mapped && one_in(c, 2))
			h->kind = KEEP_CACHE;
	} while (!(c->kinds & BIT(h->kind)));
	/* The first handle can do everything. */
	flags = i ? modes[rnd(c, ARRAY_SIZE(modes))] : O_RDWR;
	if (one_in(c, 5))
		flags |= O_APPEND;
	if (one_in(c, 8) && may_odirect(c, h->kind))
		flags |= O_DIRECT;
	if (one_in(c, 80))
		flags |= O_DSYNC;
	if ((flags & O_ACCMODE) != O_RDONLY && one_in(c, 12)) {
		flags |= O_TRUNC;
		c->op->len = MODEL_MAX;
	}
	s->open_flags = kinds[h->kind].flags;
	h->fd = fs_open(s, kinds[h->kind].how, "f", flags);
	h->flags = flags & ~O_TRUNC;
	c->op->handle = i;
	c->op->kind = h->kind;
	c->op->flags = h->flags;
	c->op->ret = h->fd;
	if (h->fd < 0)
		fail(c, -1, "open: %m");
	if (flags & O_TRUNC) {
		c->op->name = "reopen trunc";
		resized(c, 0);
	}
	/* Each open but with FOPEN_KEEP_CACHE drops what is cached; then so, too. */
	if (h->kind == CACHED || (h->kind == KEEP_CACHE && c->mapped))
		look_at_dropped(c, h);
}

static bool do_reopen(struct client *c)
{
	unsigned int i = rnd(c, MODEL_HANDLES);

	close(c->h[i].fd);
	c->h[i].fd = -1;
	open_handle(c, i);
	return true;
}

static const struct {
	const char *name;
	bool (*run)(struct client *c);
	unsigned int weight;
} ops[] = {
	{ "pread", do_read, 26 },
	{ "pwrite", do_write, 24 },
	{ "aio", do_aio, 8 },
	{ "mmap", do_mmap, 7 },
	{ "mapping", do_mapping, 9 },
	{ "truncate", do_truncate, 3 },
	{ "fallocate", do_fallocate, 3 },
	{ "splice from", do_splice_out, 3 },
	{ "splice to", do_splice_in, 3 },
	{ "sendfile", do_sendfile, 3 },
	{ "copy range", do_copy, 3 },
	{ "sync", do_sync, 1 },
	{ "fadvise", do_advise, 2 },
	{ "stat", do_stat, 4 },
	{ "setfl", do_setfl, 1 },
	{ "reopen", do_reopen, 2 },
};

static void begin(struct client *c, const char *name)
{
	c->op = &c->log[c->nr % MODEL_LOG];
	*c->op = (struct op){ .name = name, .handle = -1 };
}

static void operate(struct client *c)
{
	unsigned int i, r, sum = 0;

	random_begin(c);
	for (i = 0; i < ARRAY_SIZE(ops); i++)
		sum += ops[i].weight;
	/* Sometimes drop the old pages first. */
	if (c->stale_from < c->stale_to && one_in(c, 8)) {
		begin(c, "reopen");
		do_reopen(c);
		return;
	}
	do {
		r = rnd(c, sum);
		for (i = 0; r >= ops[i].weight; i++)
			r -= ops[i].weight;
		begin(c, ops[i].name);
	} while (!ops[i].run(c));
}

/* Compare the size after each operation, by a random handle. */
static void look(struct client *c)
{
	unsigned int i = rnd(c, MODEL_HANDLES);
	off_t end = lseek(c->h[i].fd, 0, SEEK_END);
	struct stat st;

	if (end != c->size)
		fail(c, -1, "SEEK_END of %d (%s) is 0x%jx", i,
		     kinds[c->h[i].kind].name, (uintmax_t)end);
	if (!one_in(c, 8))
		return;
	if (fstat(c->h[i].fd, &st))
		fail(c, -1, "fstat: %m");
	if (st.st_size != c->size)
		fail(c, -1, "fstat of %d (%s) has size 0x%jx", i,
		     kinds[c->h[i].kind].name, (uintmax_t)st.st_size);
}

static void look_by(struct client *c, const char *what, int fd)
{
	ssize_t n = pread(fd, c->buf, MODEL_MAX + BLOCK, 0);

	if (n != c->size)
		fail(c, -1, "the whole file by %s: %zd: %s", what, n,
		     n < 0 ? strerror(errno) : "not its size");
	compare(c, what, c->buf, 0, n);
}

/* Compare the whole file through every handle and mapping, and the lower file. */
static void look_at_all(struct client *c)
{
	unsigned int i;
	struct stat st;
	char name[64];

	for (i = 0; i < MODEL_HANDLES; i++) {
		if (!can(&c->h[i], O_RDONLY))
			continue;
		before(c, &c->h[i]);
		snprintf(name, sizeof(name), "handle %u, %s", i,
			 kinds[c->h[i].kind].name);
		look_by(c, name, c->h[i].fd);
	}
	write_back(c);
	drop_stale(c);
	for (i = 0; i < MODEL_MAPPINGS; i++) {
		if (!c->m[i].p)
			continue;
		if (sigsetjmp(no_page, 1))
			fail(c, -1, "SIGBUS of mapping %u", i);
		memcpy(c->buf, c->m[i].p, c->size);
		compare(c, "mapping", c->buf, 0, c->size);
	}
	look_by(c, "the lower file", c->lower);
	if (fstat(c->lower, &st) || st.st_size != c->size)
		fail(c, -1, "the lower file has size 0x%jx", (uintmax_t)st.st_size);
}

static unsigned long number(const char *name, unsigned long otherwise)
{
	const char *value = getenv(name);

	return value && *value ? strtoul(value, NULL, 0) : otherwise;
}

static void client_init(struct client *c)
{
	struct stat st;
	unsigned int i;
	int fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGBUS, on_sigbus);
	c->log = calloc(MODEL_LOG, sizeof(*c->log));
	c->image = pages(MODEL_MAX + MODEL_SPARE);
	c->buf = pages(MODEL_MAX + MODEL_SPARE);
	begin(c, "open");
	c->mem = memfd_create("model", MFD_CLOEXEC);
	c->lower = lower_open(&c->shared->s, "f", O_RDONLY);
	c->xfs = lower_is(&c->shared->s, XFS_SUPER_MAGIC);
	if (!c->log || !c->image || !c->buf || c->mem < 0 || c->lower < 0 ||
	    pipe2(c->pipe, O_CLOEXEC) ||
	    fcntl(c->pipe[0], F_SETPIPE_SZ, 1 << 20) < 0 ||
	    aio_setup(MODEL_AIO, &c->aio) ||
	    stat(fuse_path(&c->shared->s, "f"), &st))
		fail(c, -1, "set-up: %m");
	c->nodeid = st.st_ino;
	fd = lower_open(&c->shared->s, "f", O_RDONLY | O_DIRECT);
	c->odirect = fd >= 0;
	close(fd);
	for (i = 0; i < MODEL_HANDLES; i++)
		open_handle(c, i);
}

static void __attribute__((noreturn)) client(struct client *c, unsigned long nr)
{
	random_begin(c);
	client_init(c);
	for (c->nr = 1; c->nr <= nr; c->nr++) {
		operate(c);
		look(c);
		if (c->nr % MODEL_EVERY == 0 || c->nr == nr)
			look_at_all(c);
	}
	_exit(0);
}

/* Note which fh pass through, and count their READs and WRITEs. */
static bool watch(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct shared *shared = s->arg;
	const struct fuse_read_in *io = (const void *)(in + 1);	/* WRITE's fh, too */
	int fd;

	switch (in->opcode) {
	case FUSE_OPEN:
		/* The lowest that is free, which the lower file will get. */
		fd = dup(s->dev);
		close(fd);
		if (fd >= 0 && fd < MODEL_FDS)
			shared->passes[fd] = (s->how == OPEN_PASSTHROUGH ||
					      s->how == OPEN_BACKING_ID) &&
				!(s->open_flags & FOPEN_DIRECT_IO);
		break;
	case FUSE_READ:
	case FUSE_WRITE:
		if (io->fh >= MODEL_FDS || shared->passes[io->fh])
			shared->stray++;
		break;
	}
	return false;
}

FIXTURE(model) {
	struct shared *shared;
};

FIXTURE_VARIANT(model) { unsigned int kinds; bool writeback; };
FIXTURE_VARIANT_ADD(model, passthrough) { BIT(BY_REQUEST) | BIT(BY_ID), false };
FIXTURE_VARIANT_ADD(model, cached) { WITH_CACHE, false };
FIXTURE_VARIANT_ADD(model, all) { WITH_ALL, false };
FIXTURE_VARIANT_ADD(model, writeback) { WITH_CACHE, true };
FIXTURE_VARIANT_ADD(model, writeback_all) { WITH_ALL, true };
#define MODEL_VARIANTS	5

FIXTURE_SETUP(model)
{
	cpu_set_t one;

	self->shared = mmap(NULL, sizeof(*self->shared), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->shared);
	/*
	 * On one CPU server and client are faster, and vary less, than on two.
	 */
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(one), &one));
	self->shared->s.writeback = variant->writeback;
	self->shared->s.request = watch;
	self->shared->s.arg = self->shared;
	ASSERT_EQ(0, fuse_server_start(&self->shared->s));
	ASSERT_EQ(0, lower_make(&self->shared->s, "f", 0, 1));
	/* The first lookup also waits for the end of INIT. */
	ASSERT_EQ(0, access(fuse_path(&self->shared->s, "f"), F_OK));
	ASSERT_EQ(variant->writeback,
		  !!(self->shared->s.init_flags & FUSE_WRITEBACK_CACHE));
}

FIXTURE_TEARDOWN(model)
{
	fuse_server_stop(&self->shared->s);
}

/*
 * Every handle sees every operation of every other one, and no passthrough handle
 * causes a READ or WRITE.  The client is a process of its own: mmap() waits for the
 * server while it holds the mmap lock of its process.
 */
TEST_F_TIMEOUT(model, random, MODEL_TIMEOUT)
{
	struct client c = {
		.shared = self->shared,
		.kinds = variant->kinds,
		.seed = number("FUSE_TEST_SEED", 1),
	};
	unsigned long nr = number("FUSE_TEST_OPS", MODEL_OPS) / MODEL_VARIANTS;
	int status;
	pid_t pid;

	printf("# seed %llu, %lu operations\n", (unsigned long long)c.seed, nr);
	fflush(stdout);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		client(&c, nr);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, self->shared->stray);
	if (variant->kinds & BIT(CACHED)) {
		EXPECT_LT(0, server_io(&self->shared->s));
	}
}

TEST_HARNESS_MAIN
