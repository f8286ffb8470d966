/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Native AIO and io_uring by plain system calls, so that the tests need no
 * library.  A ring has one submitter; errors are negative errno values.
 */
#ifndef _SELFTESTS_FUSE_ASYNC_TEST_H
#define _SELFTESTS_FUSE_ASYNC_TEST_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>

#include <linux/aio_abi.h>
#include <linux/io_uring.h>

int aio_setup(unsigned int nr, aio_context_t *ctx);
int aio_destroy(aio_context_t ctx);
int aio_submit(aio_context_t ctx, long nr, struct iocb **iocbs);
int aio_wait(aio_context_t ctx, long nr, struct io_event *events);
void aio_prep(struct iocb *iocb, int op, int fd, void *buf, size_t len,
	      off_t off, uint64_t data);
/* Submit one request to an idle context.  Returns its result. */
long aio_do(aio_context_t ctx, int op, int fd, void *buf, size_t len,
	    off_t off);
/* The same with a context made for this request. */
long aio_once(int op, int fd, void *buf, size_t len, off_t off);

struct uring {
	int fd;
	struct io_uring_params p;
	void *sq, *cq;
	struct io_uring_sqe *sqes;
	unsigned int queued;	/* prepared, but not submitted yet */
};

int uring_setup(struct uring *u, unsigned int entries);
int uring_setup_flags(struct uring *u, unsigned int entries,
		      unsigned int flags);
void uring_destroy(struct uring *u);
int uring_register(struct uring *u, unsigned int op, const void *arg,
		   unsigned int nr);
/* The caller must not prepare more requests than the ring has entries. */
struct io_uring_sqe *uring_prep(struct uring *u, int op, int fd,
				const void *addr, unsigned int len, off_t off,
				uint64_t data);
/* Submit the prepared requests and wait for @wait completions. */
int uring_enter(struct uring *u, unsigned int wait);
bool uring_peek(struct uring *u, struct io_uring_cqe *cqe);
int uring_wait(struct uring *u, struct io_uring_cqe *cqe);
/* Make one request in an idle ring. Returns its result. */
int uring_do(struct uring *u, int op, int fd, const void *addr,
	     unsigned int len, off_t off);
/* Make one request in a new ring. Returns its result. */
int uring_once(int op, int fd, const void *addr, unsigned int len, off_t off);
/* Number of io_uring worker threads of this process */
int uring_workers(void);

#endif /* _SELFTESTS_FUSE_ASYNC_TEST_H */
