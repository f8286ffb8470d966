// SPDX-License-Identifier: GPL-2.0
/* libaio and io_uring, by system calls */
#include "client.h"

#include <linux/io_uring.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define DEPTH	8

struct ring {
	int fd;
	struct io_uring_params p;
	char *sq, *cq;
	struct io_uring_sqe *sqes;
};

static void *ring_map(struct ring *r, size_t len, off_t off)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, off);

	return p == MAP_FAILED ? NULL : p;
}

static struct ring *ring_new(void)
{
	struct ring *r = calloc(1, sizeof(*r));

	r->fd = syscall(SYS_io_uring_setup, DEPTH, &r->p);
	if (r->fd < 0)
		return r;
	r->sq = ring_map(r, r->p.sq_off.array + r->p.sq_entries * sizeof(__u32),
			 IORING_OFF_SQ_RING);
	r->cq = ring_map(r, r->p.cq_off.cqes + r->p.cq_entries * sizeof(struct io_uring_cqe),
			 IORING_OFF_CQ_RING);
	r->sqes = ring_map(r, r->p.sq_entries * sizeof(*r->sqes), IORING_OFF_SQES);
	if (!r->sq || !r->cq || !r->sqes) {
		close(r->fd);
		r->fd = -1;
	}
	return r;
}

static void ring_free(struct ring *r)
{
	if (r->sq)
		munmap(r->sq, r->p.sq_off.array + r->p.sq_entries * sizeof(__u32));
	if (r->cq)
		munmap(r->cq, r->p.cq_off.cqes +
		       r->p.cq_entries * sizeof(struct io_uring_cqe));
	if (r->sqes)
		munmap(r->sqes, r->p.sq_entries * sizeof(*r->sqes));
	if (r->fd >= 0)
		close(r->fd);
	free(r);
}

void async_begin(struct client *c)
{
	syscall(SYS_io_setup, DEPTH * 4, &c->aio);
	c->ring = ring_new();
}

static void fill_iocb(struct client *c, struct iocb *cb, int fd, unsigned int i,
		      struct iovec *iov)
{
	static const int ops[] = { IOCB_CMD_PWRITE, IOCB_CMD_PWRITE, IOCB_CMD_PREAD,
		IOCB_CMD_PREAD, IOCB_CMD_FSYNC, IOCB_CMD_PWRITEV, IOCB_CMD_PREADV };
	char *buf = c->buf + i * (BUF / 8);
	size_t len = PAGE * (1 + rnd(8));

	memset(cb, 0, sizeof(*cb));
	cb->aio_fildes = percent(50) ? fd : other_fd(c, fd);
	cb->aio_lio_opcode = ops[rnd(ARRAY_SIZE(ops))];
	if (cb->aio_lio_opcode == IOCB_CMD_FSYNC)
		return;
	cb->aio_offset = PAGE * rnd(MAX_FILE / PAGE);
	cb->aio_buf = (uintptr_t)buf;
	cb->aio_nbytes = len;
	if (cb->aio_lio_opcode == IOCB_CMD_PWRITEV || cb->aio_lio_opcode == IOCB_CMD_PREADV) {
		*iov = (struct iovec){ buf, len };
		cb->aio_buf = (uintptr_t)iov;
		cb->aio_nbytes = 1;
	}
	if (percent(10))
		cb->aio_rw_flags = 1 << rnd(5);
}

/* io_destroy() reaps requests that are in flight when the operation ends. */
static long aio_op(struct client *c, int fd)
{
	struct iocb cb[4], *cbs[4];
	struct iovec iov[4];
	struct io_event events[4];
	unsigned int n = 1 + rnd(4), i;
	bool close_it = percent(15);
	long ret, got;

	for (i = 0; i < n; i++) {
		fill_iocb(c, &cb[i], fd, i, &iov[i]);
		cbs[i] = &cb[i];
	}
	ret = syscall(SYS_io_submit, c->aio, n, cbs);
	if (ret <= 0)
		return ret;
	if (close_it) {
		for (i = 0; i < CLIENT_FDS; i++)
			if (c->fd[i] == fd)
				c->fd[i] = -1;
		close(fd);
	}
	if (percent(15)) {
		syscall(SYS_io_destroy, c->aio);
		c->aio = 0;
		syscall(SYS_io_setup, DEPTH * 4, &c->aio);
		return 0;
	}
	for (i = 0; i < ret; i += got) {
		got = syscall(SYS_io_getevents, c->aio, 1, ret - i, events, NULL);
		if (got < 0 && errno == EINTR)
			got = 0;
		else if (got <= 0)
			break;
	}
	if (i == ret && (long)events[0].res < 0) {
		errno = -(long)events[0].res;
		return -1;
	}
	return ret;
}

static void fill_sqe(struct client *c, struct io_uring_sqe *sqe, int fd, unsigned int i)
{
	static const int ops[] = { IORING_OP_WRITE, IORING_OP_WRITE, IORING_OP_READ,
		IORING_OP_READ, IORING_OP_FSYNC, IORING_OP_FADVISE, IORING_OP_NOP };

	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = ops[rnd(ARRAY_SIZE(ops))];
	sqe->fd = percent(50) ? fd : other_fd(c, fd);
	if (percent(20))
		sqe->flags |= IOSQE_ASYNC;
	if (percent(10))
		sqe->flags |= IOSQE_IO_LINK;
	if (sqe->opcode != IORING_OP_WRITE && sqe->opcode != IORING_OP_READ)
		return;
	sqe->addr = (uintptr_t)(c->buf + i * (BUF / 8) + (percent(80) ? 0 : rnd(PAGE)));
	sqe->len = percent(70) ? PAGE * (1 + rnd(8)) : 1 + rnd(5000);
	sqe->off = percent(10) ? -1ull : PAGE * rnd(MAX_FILE / PAGE);
	if (percent(15))
		sqe->rw_flags = 1 << rnd(5);
}

static long uring_op(struct client *c, int fd)
{
	struct ring *r = c->ring;
	unsigned int n = 1 + rnd(4), i, at, mask;
	unsigned int *tail, *array, *head, *cq_tail;
	bool leave = !sh->cfg.calm && percent(10);
	long ret;

	if (r->fd < 0)
		return 0;
	tail = (unsigned int *)(r->sq + r->p.sq_off.tail);
	mask = *(unsigned int *)(r->sq + r->p.sq_off.ring_mask);
	array = (unsigned int *)(r->sq + r->p.sq_off.array);
	head = (unsigned int *)(r->cq + r->p.cq_off.head);
	cq_tail = (unsigned int *)(r->cq + r->p.cq_off.tail);
	for (i = 0; i < n; i++) {
		at = (*tail + i) & mask;
		fill_sqe(c, &r->sqes[at], fd, i);
		array[at] = at;
	}
	__atomic_store_n(tail, *tail + n, __ATOMIC_RELEASE);
	ret = syscall(SYS_io_uring_enter, r->fd, n, leave ? 0 : n, IORING_ENTER_GETEVENTS,
		      NULL, 0);
	/* After a signal, wait for the other requests, so that none outlives the operation. */
	while (!leave && ret >= 0 &&
	       __atomic_load_n(cq_tail, __ATOMIC_ACQUIRE) - *head < (unsigned int)ret) {
		if (syscall(SYS_io_uring_enter, r->fd, 0, 1, IORING_ENTER_GETEVENTS,
			    NULL, 0) < 0 && errno != EINTR)
			break;
	}
	__atomic_store_n(head, __atomic_load_n(cq_tail, __ATOMIC_ACQUIRE), __ATOMIC_RELEASE);
	/* Replace a ring that has requests in flight, or that took only some of them. */
	if (leave || ret != n) {
		ring_free(r);
		c->ring = ring_new();
		return 0;
	}
	return ret;
}

const struct op async_ops[] = {
	{ "libaio", aio_op, 8, true },
	{ "io_uring", uring_op, 7, true },
	{}
};
