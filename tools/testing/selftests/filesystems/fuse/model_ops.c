// SPDX-License-Identifier: GPL-2.0
/* The operations of the model test. */
#define _GNU_SOURCE
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

#include "model.h"
#include "../../kselftest.h"

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
	/* Split it into parts whose offset and length are known in advance. */
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
	 * Where blocks came to be shared, XFS of 6.1 may fail a direct read
	 * after a buffered append with EIO: seen without FUSE.
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
	/* If the kernel fell back to reads and writes, it used this handle. */
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
	/* Readahead over stale pages does no harm. */
	c->op->ret = posix_fadvise(h->fd, c->op->off, c->op->len, c->op->how);
	if (c->op->ret)
		fail(c, -1, "fadvise: %s", strerror(c->op->ret));
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

#define OP(name)	FUSE_PASSTHROUGH_OP(FUSE_##name)

/* Attach operations to the inode; 0: detach. */
static void set_inode(struct client *c, uint64_t ops)
{
	struct fuse_passthrough_inode in = {
		.nodeid = c->nodeid,
		.fd = ops ? c->lower : -1,
		.ops = ops,
	};

	if (ioctl(c->shared->s.dev, FUSE_DEV_IOC_PASSTHROUGH_INODE, &in))
		fail(c, -1, "%s: %m", ops ? "attach" : "detach");
	c->attached = ops;
}

/* The operations that an open needs, and some that otherwise go to the server */
static uint64_t choose_ops(struct client *c)
{
	static const uint64_t some[] = {
		OP(SETATTR), OP(FSYNC), OP(FALLOCATE), OP(LSEEK), OP(COPY_FILE_RANGE),
	};
	uint64_t ops = OP(GETATTR) | OP(OPEN);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(some); i++)
		if (one_in(c, 2))
			ops |= some[i];
	return ops;
}

/* Open files, by inode or not, outlive attach and detach. */
static bool do_attach(struct client *c)
{
	if (!(c->kinds & BIT(BY_INODE)))
		return false;
	if (c->attached)
		c->op->name = "detach";
	set_inode(c, c->attached ? 0 : choose_ops(c) & ~(one_in(c, 2) ? OP(OPEN) : 0));
	return true;
}

/* The operations attached when the open begins decide whether the server gets an OPEN. */
static void before_open(struct client *c, enum kind kind)
{
	bool by_inode = kind == BY_INODE;

	if (c->attached && by_inode != !!(c->attached & OP(OPEN)))
		set_inode(c, 0);
	if (by_inode && !c->attached)
		set_inode(c, choose_ops(c));
}

/* Check that the cache has no stale pages left. */
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

void open_handle(struct client *c, unsigned int i)
{
	static const int modes[] = { O_RDWR, O_RDWR, O_RDWR, O_RDONLY, O_WRONLY };
	struct handle *h = &c->h[i];
	struct fuse_server *s = &c->shared->s;
	int flags;

	do {
		h->kind = rnd(c, NR_KINDS);
		/* Often test whether KEEP_CACHE drops stale pages. */
		if (c->stale_from < c->stale_to && c->mapped && one_in(c, 2))
			h->kind = KEEP_CACHE;
	} while (!(c->kinds & BIT(h->kind)));
	/* The first handle can read and write. */
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
	before_open(c, h->kind);
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
	/*
	 * Each open without FOPEN_KEEP_CACHE drops cached pages; after a
	 * writable mapping of the lower file an open with it does so too.
	 */
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
	{ "setfl", do_setfl, 1 },
	{ "reopen", do_reopen, 2 },
	{ "attach", do_attach, 1 },
};

void begin(struct client *c, const char *name)
{
	c->op = &c->log[c->nr % MODEL_LOG];
	*c->op = (struct op){ .name = name, .handle = -1 };
}

void operate(struct client *c)
{
	unsigned int i, r, sum = 0;

	random_begin(c);
	for (i = 0; i < ARRAY_SIZE(ops); i++)
		sum += ops[i].weight;
	/* Sometimes drop the stale pages first. */
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
