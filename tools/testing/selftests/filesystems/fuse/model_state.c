// SPDX-License-Identifier: GPL-2.0
/*
 * The model of a file, and the functions that choose operations and compare
 * results.
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
#include <stdarg.h>
#include <sys/uio.h>

#include "model.h"

const struct kind_info kinds[NR_KINDS] = {
	[BY_REQUEST]	= { "request", OPEN_PASSTHROUGH, 0, true, true },
	[BY_ID]		= { "id", OPEN_BACKING_ID, 0, true, true },
	[BY_ID_DIRECT]	= { "id+direct", OPEN_BACKING_ID, FOPEN_DIRECT_IO, false, true },
	[CACHED]	= { "cached", OPEN_CACHED, 0, .cached = true },
	[KEEP_CACHE]	= { "keep", OPEN_CACHED, FOPEN_KEEP_CACHE, .cached = true },
	[DIRECT]	= { "direct", OPEN_DIRECT, 0 },
	[BY_INODE]	= { "inode", OPEN_BY_INODE, 0, true, true },
};

sigjmp_buf no_page;

void random_begin(struct client *c)
{
	c->random = (c->seed * 1000003 + c->nr) * 0x9e3779b97f4a7c15ull + 1;
}

unsigned int rnd(struct client *c, unsigned int n)
{
	c->random ^= c->random << 13;
	c->random ^= c->random >> 7;
	c->random ^= c->random << 17;
	return (c->random >> 20) % n;
}

bool one_in(struct client *c, unsigned int n)
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

void fail(const struct client *c, off_t at, const char *fmt, ...)
{
	unsigned long first = c->nr > 40 ? c->nr - 40 : 0;
	unsigned long i = c->nr > MODEL_LOG - 1 ? c->nr - MODEL_LOG + 1 : 0;
	va_list ap;

	printf("# seed %llu, operation %lu (size 0x%jx%s, attached 0x%llx): ",
	       (unsigned long long)c->seed, c->nr, (uintmax_t)c->size,
	       c->dirty ? ", dirty" : "", (unsigned long long)c->attached);
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

bool can(const struct handle *h, int mode)
{
	int acc = h->flags & O_ACCMODE;

	return h->fd >= 0 && (acc == O_RDWR || acc == mode || mode == -1);
}

struct handle *choose(struct client *c, int mode)
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

void choose_off(struct client *c)
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
	default:	/* Around a recent write. */
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

void choose_range(struct client *c, bool direct)
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

bool choose_inside(struct client *c)
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

bool choose_end(struct client *c, const struct handle *h)
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

char *buffer(struct client *c, const struct handle *h)
{
	return h && (h->flags & O_DIRECT) ? c->buf : c->buf + rnd(c, 200);
}

/* Coherence that FUSE does not promise */

void stale(struct client *c, off_t off, size_t len)
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

void drop_stale(struct client *c)
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

void write_back(struct client *c)
{
	if (!c->dirty)
		return;
	if (fsync(c->h[0].fd))
		fail(c, -1, "fsync: %m");
	c->dirty = false;
}

void before(struct client *c, const struct handle *h)
{
	if (kinds[h->kind].cached)
		drop_stale(c);
	else if (!kinds[h->kind].passes)
		write_back(c);
}

/* The model */

void wrote(struct client *c, const char *buf, off_t off, size_t len)
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

void resized(struct client *c, off_t size)
{
	if (size < c->size)
		memset(c->image + size, 0, c->size - size);
	c->size = size;
}

size_t expected(const struct client *c, off_t off, size_t len)
{
	if (off >= c->size)
		return 0;
	return off + (off_t)len > c->size ? (size_t)(c->size - off) : len;
}

void compare(struct client *c, const char *what, const char *buf, off_t off,
	     size_t len)
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

void was_read(struct client *c, const char *buf, ssize_t n)
{
	struct op *op = c->op;

	op->ret = n < 0 ? -errno : n;
	if (n != (ssize_t)expected(c, op->off, op->len))
		fail(c, op->off, "read %zd, not %zu: %s", n,
		     expected(c, op->off, op->len), n < 0 ? strerror(errno) : "");
	compare(c, op->name, buf, op->off, n);
}

void was_written(struct client *c, const struct handle *h, const char *buf,
		 ssize_t n)
{
	struct op *op = c->op;

	op->ret = n < 0 ? -errno : n;
	if (n != (ssize_t)op->len)
		fail(c, op->off, "wrote %zd, not %zu: %s", n, op->len,
		     n < 0 ? strerror(errno) : "");
	after_write(c, h, buf, op->off, n);
}

void moved(struct client *c, off_t at, off_t from, ssize_t n)
{
	if (n > 0 && at != from + n)
		fail(c, -1, "left at 0x%jx after %zd from 0x%jx", (uintmax_t)at,
		     n, (uintmax_t)from);
}

void was_refused(struct client *c, long n, int error)
{
	c->op->ret = n < 0 ? -errno : n;
	if (n != -1 || errno != error)
		fail(c, -1, "%ld (%m) instead of: %s", n, strerror(error));
	c->op->len = 0;
}

/* Few loops, because emulated CPUs are slow. */
void fill(struct client *c, char *buf, size_t len)
{
	size_t i, odd = 251;

	for (i = 0; i < len && i < odd; i++)
		buf[i] = 1 + (c->nr * 7 + i * 3) % 255;
	for (; i < len; i += odd)
		memcpy(buf + i, buf, len - i < odd ? len - i : odd);
}
