// SPDX-License-Identifier: GPL-2.0
/*
 * The daemon: threads that read requests from the devices of the connection,
 * and answer them.  In a round that is not calm, some answers are wrong, late,
 * given twice or on another device; in a silent round some are never given.
 */
#include "server.h"

#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/uio.h>

struct daemon d = { .lock = PTHREAD_MUTEX_INITIALIZER };

static __thread int reading;	/* device that the request came from */

/* Wrong answers; those before WRONG_NOTHING reach the kernel. */
enum wrong {
	WRONG_LATE,
	WRONG_DEVICE,
	WRONG_TWICE,
	WRONG_ERROR,
	WRONG_FLIPPED,
	WRONG_TRUNCATED,
	WRONG_JUNK,
	WRONG_LEN,
	WRONG_UNIQUE,
	WRONG_POINTER,
	WRONG_NEVER,
	NR_WRONG
};

int any_device(void)
{
	return d.dev[rnd(d.devs)];
}

void server_sleep(unsigned int ms)
{
	if (!sh->stop)
		pause_ms(ms);
}

static long send_answer(int dev, struct fuse_out_header *h, const void *out, size_t len)
{
	struct iovec iov[] = {
		{ .iov_base = h, .iov_len = sizeof(*h) },
		{ .iov_base = (void *)out, .iov_len = len },
	};

	return writev(dev, iov, 2);
}

static long right(const struct request *rq, int error, const void *out, size_t len)
{
	struct fuse_out_header h = {
		.unique = rq->h.unique,
		.error = error,
		.len = sizeof(h) + (error ? 0 : len),
	};

	return send_answer(reading, &h, out, error ? 0 : len);
}

static void flip(char *copy, size_t len)
{
	unsigned int i;

	for (i = 0; len && i < 3; i++)
		copy[rnd(len)] ^= 1 << rnd(8);
}

/* Returns false if the request still needs an answer. */
static bool wrong(const struct request *rq, int error, const void *out, size_t len)
{
	struct fuse_out_header h = { .unique = rq->h.unique, .error = error };
	enum wrong how = rnd(NR_WRONG);
	int dev = reading;
	char copy[PAGE];

	if (error)
		len = 0;
	h.len = sizeof(h) + len;
	switch (how) {
	case WRONG_LATE:
		server_sleep(rnd(200));
		break;
	case WRONG_DEVICE:
		dev = any_device();
		break;
	case WRONG_TWICE:
		send_answer(dev, &h, out, len);
		break;
	case WRONG_ERROR:
		h.error = percent(50) ? -(int)rnd(140) : -(int)rnd(UINT_MAX / 2);
		len = percent(80) ? 0 : len;
		h.len = sizeof(h) + len;
		break;
	case WRONG_FLIPPED:
		if (len <= sizeof(copy)) {
			memcpy(copy, out, len);
			flip(copy, len);
			out = copy;
		}
		break;
	case WRONG_TRUNCATED:
		len -= len ? rnd(len) + 1 : 0;
		h.len = sizeof(h) + len;
		break;
	case WRONG_JUNK:
		memset(copy, rnd(256), sizeof(copy));
		out = copy;
		len = rnd(sizeof(copy));
		h.len = sizeof(h) + len;
		break;
	case WRONG_LEN:
		h.len = percent(50) ? h.len + rnd(64) - 32 : (uint32_t)random_bits();
		break;
	case WRONG_UNIQUE:
		h.unique ^= 1ull << rnd(64);
		break;
	case WRONG_POINTER:
		out = (void *)8;
		len = len ?: 1;
		h.len = sizeof(h) + len;
		break;
	case WRONG_NEVER:
		return sh->cfg.silent && rq->h.opcode != FUSE_WRITE;
	default:
		break;
	}
	send_answer(dev, &h, out, len);
	return false;
}

bool reply(const struct request *rq, int error, const void *out, size_t len)
{
	if (sh->cfg.calm || !percent(4))
		return right(rq, error, out, len) >= 0;

	count(&sh->wrong);
	/* Every request gets an answer, except in a silent round. */
	if (!wrong(rq, error, out, len))
		right(rq, error ?: -EIO, NULL, 0);
	return false;
}

bool reply_call(const struct request *rq, long ret)
{
	return reply(rq, ret < 0 ? -errno : 0, NULL, 0);
}

static void init(const struct request *rq)
{
	const struct fuse_init_in *in = (const void *)rq->body;
	uint64_t offered = in->flags | (uint64_t)in->flags2 << 32;
	uint64_t want = sh->cfg.init_flags;
	struct fuse_init_out out = {
		.major = FUSE_KERNEL_VERSION,
		.minor = FUSE_KERNEL_MINOR_VERSION,
		.max_readahead = in->max_readahead,
		.max_background = 16,
		.congestion_threshold = 12,
		.max_write = 64 * 1024,
		.max_pages = 16,
		.time_gran = 1,
		.max_stack_depth = sh->cfg.depth,
	};

	if (sh->cfg.calm || percent(90))
		want &= offered;
	out.flags = want;
	out.flags2 = want >> 32;
	if (!sh->cfg.calm && percent(5))
		flip((char *)&out, sizeof(out));
	if (!sh->cfg.calm && percent(3))
		right(rq, -EINVAL, NULL, 0);
	else if (!sh->cfg.calm && percent(3))
		right(rq, 0, &out, FUSE_COMPAT_22_INIT_OUT_SIZE);
	else
		right(rq, 0, &out, sizeof(out));
	__atomic_store_n(&sh->ready, true, __ATOMIC_SEQ_CST);
}

static void handle(const struct request *rq, char *buf)
{
	uint32_t opcode = rq->h.opcode;

	switch (opcode) {
	case FUSE_INIT:
		init(rq);
		return;
	case FUSE_DESTROY:
		reply(rq, 0, NULL, 0);
		return;
	case FUSE_INTERRUPT: {
		const struct fuse_interrupt_in *in = (const void *)rq->body;
		struct request interrupted = { .h.unique = in->unique };

		/* A calm daemon lets only the thread that has a request answer it. */
		if (!sh->cfg.calm && percent(20))
			right(&interrupted, -EINTR, NULL, 0);
		return;
	}
	}
	if (opcode < ARRAY_SIZE(node_answers) && node_answers[opcode])
		node_answers[opcode](rq, buf);
	else if (opcode < ARRAY_SIZE(file_answers) && file_answers[opcode])
		file_answers[opcode](rq, buf);
	else
		reply(rq, -ENOSYS, NULL, 0);
}

/* Replace a device of the connection by a new one, while it may have requests. */
static void change_devices(unsigned int i)
{
	uint32_t first = d.dev[0];
	int dev = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (dev < 0)
		return;
	/* dup3() keeps the number valid for the threads that use it. */
	if (ioctl(dev, FUSE_DEV_IOC_CLONE, &first) || dup3(dev, d.dev[i], O_CLOEXEC) < 0)
		count(&sh->wrong);
	close(dev);
}

static void *serve(void *arg)
{
	unsigned int me = (uintptr_t)arg;
	char *in = malloc(BUF + PAGE), *buf = malloc(BUF);
	struct request *rq = (struct request *)in;
	uint64_t number = 0;

	for (;;) {
		struct pollfd p = { .events = POLLIN };
		ssize_t n;

		random_begin(ROLE_SERVER + me, number++);
		/* Each device has a thread that reads it. */
		reading = me < d.devs ? d.dev[me] : any_device();
		if (d.devs > sh->cfg.threads && percent(50))
			reading = any_device();
		if (!sh->cfg.calm && percent(2))
			attach_stray();
		if (!sh->cfg.calm && d.devs > 1 && percent(1))
			change_devices(1 + rnd(d.devs - 1));
		p.fd = reading;
		if (poll(&p, 1, 20) <= 0)
			continue;
		n = read(reading, in, BUF);
		if (n < 0 && (errno == ENODEV || errno == ECONNABORTED))
			_exit(0);
		if (n < (ssize_t)sizeof(*rq))
			continue;
		in[n] = 0;
		count(&sh->requests);
		handle(rq, buf);
	}
	return NULL;
}

static void drop_privileges(void)
{
	if (setgroups(0, NULL) || setresgid(1000, 1000, 1000) ||
	    setresuid(1000, 1000, 1000))
		_exit(1);
	/* Otherwise /proc/self/fd belongs to root. */
	prctl(PR_SET_DUMPABLE, 1);
}

void server(int dev)
{
	pthread_t thread;
	uint32_t first = dev;
	unsigned int i;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	umask(0);
	random_begin(ROLE_SERVER, -1);
	d.dev[d.devs++] = dev;
	for (i = 0; i < sh->cfg.clones; i++) {
		int clone = open("/dev/fuse", O_RDWR | O_CLOEXEC);

		if (clone >= 0 && !ioctl(clone, FUSE_DEV_IOC_CLONE, &first))
			d.dev[d.devs++] = clone;
	}
	nodes_init();
	odd_init();
	if (sh->cfg.rootless)
		drop_privileges();
	if (!sh->cfg.calm)
		pthread_create(&thread, NULL, notifier, NULL);
	for (i = 1; i < sh->cfg.threads; i++)
		pthread_create(&thread, NULL, serve, (void *)(uintptr_t)i);
	serve(NULL);
	_exit(0);
}
