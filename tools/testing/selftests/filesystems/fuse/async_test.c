// SPDX-License-Identifier: GPL-2.0
#define _GNU_SOURCE
#include "async_test.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

int aio_setup(unsigned int nr, aio_context_t *ctx)
{
	*ctx = 0;
	return syscall(__NR_io_setup, nr, ctx) ? -errno : 0;
}

int aio_destroy(aio_context_t ctx)
{
	return syscall(__NR_io_destroy, ctx) ? -errno : 0;
}

int aio_submit(aio_context_t ctx, long nr, struct iocb **iocbs)
{
	long ret = syscall(__NR_io_submit, ctx, nr, iocbs);

	return ret < 0 ? -errno : ret;
}

int aio_wait(aio_context_t ctx, long nr, struct io_event *events)
{
	long ret;

	do {
		ret = syscall(__NR_io_getevents, ctx, nr, nr, events, NULL);
	} while (ret < 0 && errno == EINTR);

	return ret < 0 ? -errno : ret;
}

void aio_prep(struct iocb *iocb, int op, int fd, void *buf, size_t len,
	      off_t off, uint64_t data)
{
	memset(iocb, 0, sizeof(*iocb));
	iocb->aio_lio_opcode = op;
	iocb->aio_fildes = fd;
	iocb->aio_buf = (uintptr_t)buf;
	iocb->aio_nbytes = len;
	iocb->aio_offset = off;
	iocb->aio_data = data;
}

long aio_do(aio_context_t ctx, int op, int fd, void *buf, size_t len, off_t off)
{
	struct io_event ev = { .res = -EIO };
	struct iocb iocb, *p = &iocb;
	long ret;

	aio_prep(&iocb, op, fd, buf, len, off, 0);
	ret = aio_submit(ctx, 1, &p);
	if (ret == 1)
		ret = aio_wait(ctx, 1, &ev);
	return ret == 1 ? ev.res : ret;
}

long aio_once(int op, int fd, void *buf, size_t len, off_t off)
{
	aio_context_t ctx;
	long ret;

	ret = aio_setup(1, &ctx);
	if (!ret)
		ret = aio_do(ctx, op, fd, buf, len, off);
	aio_destroy(ctx);
	return ret;
}

static unsigned int *uring_sq(struct uring *u, uint32_t off)
{
	return (unsigned int *)((char *)u->sq + off);
}

static unsigned int *uring_cq(struct uring *u, uint32_t off)
{
	return (unsigned int *)((char *)u->cq + off);
}

static size_t uring_sq_size(const struct uring *u)
{
	return u->p.sq_off.array + u->p.sq_entries * sizeof(unsigned int);
}

static size_t uring_cq_size(const struct uring *u)
{
	return u->p.cq_off.cqes + u->p.cq_entries * sizeof(struct io_uring_cqe);
}

static void *uring_map(const struct uring *u, size_t len, off_t off)
{
	return mmap(NULL, len, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_POPULATE, u->fd, off);
}

int uring_setup_flags(struct uring *u, unsigned int entries, unsigned int flags)
{
	memset(u, 0, sizeof(*u));
	u->p.flags = flags;
	u->fd = syscall(__NR_io_uring_setup, entries, &u->p);
	if (u->fd < 0)
		return -errno;

	u->sq = uring_map(u, uring_sq_size(u), IORING_OFF_SQ_RING);
	u->cq = uring_map(u, uring_cq_size(u), IORING_OFF_CQ_RING);
	u->sqes = uring_map(u, u->p.sq_entries * sizeof(*u->sqes),
			    IORING_OFF_SQES);
	if (u->sq == MAP_FAILED || u->cq == MAP_FAILED || u->sqes == MAP_FAILED)
		return -errno;
	return 0;
}

int uring_setup(struct uring *u, unsigned int entries)
{
	return uring_setup_flags(u, entries, 0);
}

void uring_destroy(struct uring *u)
{
	munmap(u->sq, uring_sq_size(u));
	munmap(u->cq, uring_cq_size(u));
	munmap(u->sqes, u->p.sq_entries * sizeof(*u->sqes));
	close(u->fd);
}

int uring_register(struct uring *u, unsigned int op, const void *arg,
		   unsigned int nr)
{
	return syscall(__NR_io_uring_register, u->fd, op, arg, nr) < 0 ?
		-errno : 0;
}

struct io_uring_sqe *uring_prep(struct uring *u, int op, int fd,
				const void *addr, unsigned int len, off_t off,
				uint64_t data)
{
	unsigned int mask = *uring_sq(u, u->p.sq_off.ring_mask);
	unsigned int tail = *uring_sq(u, u->p.sq_off.tail) + u->queued++;
	struct io_uring_sqe *sqe = &u->sqes[tail & mask];

	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = op;
	sqe->fd = fd;
	sqe->addr = (uintptr_t)addr;
	sqe->len = len;
	sqe->off = off;
	sqe->user_data = data;
	uring_sq(u, u->p.sq_off.array)[tail & mask] = tail & mask;
	return sqe;
}

int uring_enter(struct uring *u, unsigned int wait)
{
	unsigned int *tail = uring_sq(u, u->p.sq_off.tail);
	unsigned int nr = u->queued;
	int ret;

	__atomic_store_n(tail, *tail + nr, __ATOMIC_RELEASE);
	u->queued = 0;
	do {
		ret = syscall(__NR_io_uring_enter, u->fd, nr, wait,
			      wait ? IORING_ENTER_GETEVENTS : 0, NULL, 0);
		if (ret > 0)
			nr -= ret;
	} while ((ret < 0 && errno == EINTR) || (ret > 0 && nr));

	return ret < 0 ? -errno : 0;
}

bool uring_peek(struct uring *u, struct io_uring_cqe *cqe)
{
	unsigned int *head = uring_cq(u, u->p.cq_off.head);
	unsigned int mask = *uring_cq(u, u->p.cq_off.ring_mask);
	struct io_uring_cqe *cqes = (struct io_uring_cqe *)
		((char *)u->cq + u->p.cq_off.cqes);

	if (*head == __atomic_load_n(uring_cq(u, u->p.cq_off.tail),
				     __ATOMIC_ACQUIRE))
		return false;

	*cqe = cqes[*head & mask];
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	return true;
}

int uring_wait(struct uring *u, struct io_uring_cqe *cqe)
{
	int err = 0;

	while (!uring_peek(u, cqe)) {
		err = uring_enter(u, 1);
		if (err)
			return err;
	}
	return 0;
}

int uring_do(struct uring *u, int op, int fd, const void *addr,
	     unsigned int len, off_t off)
{
	struct io_uring_cqe cqe;
	int err;

	uring_prep(u, op, fd, addr, len, off, 0);
	err = uring_enter(u, 1);
	if (!err)
		err = uring_wait(u, &cqe);
	return err ?: cqe.res;
}

int uring_once(int op, int fd, const void *addr, unsigned int len, off_t off)
{
	struct uring u;
	int ret = uring_setup(&u, 1);

	if (ret)
		return ret;
	ret = uring_do(&u, op, fd, addr, len, off);
	uring_destroy(&u);
	return ret;
}

int uring_workers(void)
{
	char path[64], comm[32];
	struct dirent *d;
	int nr = 0;
	DIR *dir;
	FILE *f;

	dir = opendir("/proc/self/task");
	if (!dir)
		return -errno;
	while ((d = readdir(dir))) {
		snprintf(path, sizeof(path), "/proc/self/task/%.16s/comm",
			 d->d_name);
		f = fopen(path, "r");
		if (!f)
			continue;
		if (fgets(comm, sizeof(comm), f) && !strncmp(comm, "iou-wrk", 7))
			nr++;
		fclose(f);
	}
	closedir(dir);
	return nr;
}
