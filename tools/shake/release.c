// SPDX-License-Identifier: GPL-2.0
/*
 * The races of a release: a client closes its file, or ends, while its
 * asynchronous direct I/O is in flight, and the connection dies meanwhile.
 */
#include "race.h"
#include "async_test.h"

#include <signal.h>

#define NR	8

enum event { NOTHING, ABORT, LAZY, KILL, EVENTS };

static struct seen *seen;
static struct race r;
static bool leaves;	/* the client ends with its I/O in flight */

static void __attribute__((noreturn)) client(char *buf)
{
	struct iocb iocbs[NR], *list[NR];
	struct io_event events[NR];
	aio_context_t ctx;
	int fd, i, n;

	close(r.s.dev);
	fd = open(fuse_path(&r.s, "f"), O_RDWR | O_DIRECT | O_CLOEXEC);
	seen->opened = fd < 0 ? errno : aio_setup(NR, &ctx);
	for (i = 0; i < NR; i++) {
		aio_prep(&iocbs[i], IOCB_CMD_PWRITE, fd, buf + i * BLOCK, BLOCK, i * BLOCK, i);
		list[i] = &iocbs[i];
	}
	__atomic_store_n(&seen->ready, true, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&seen->go, __ATOMIC_ACQUIRE))
		sched_yield();
	n = seen->opened ? 0 : aio_submit(ctx, NR, list);
	spin(r.delay[0]);
	close(fd);
	if (leaves)
		_exit(0);
	seen->wrong = n != NR || aio_wait(ctx, NR, events) != NR;
	for (i = 0; !seen->wrong && i < NR; i++)
		seen->wrong = events[i].res != BLOCK;
	seen->complete = !seen->wrong;
	_exit(0);
}

static void happen(enum event event)
{
	char path[64];

	switch (event) {
	case ABORT:
		snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%u/abort", r.conn);
		put(path, "1");
		break;
	case LAZY:
		umount2(r.s.mnt, MNT_DETACH);
		break;
	case KILL:
		kill(r.client, SIGKILL);
		break;
	default:
		break;
	}
}

/* Each block is as before or as written, and written if the client has seen that. */
static void judge(struct tally *t)
{
	unsigned int i;

	t->attached += !seen->opened;
	t->passed += seen->complete;
	if (seen->opened)
		race_bad(t, "the open: %s", strerror(seen->opened));
	if (seen->wrong)
		race_bad(t, "a write does not complete");
	for (i = 0; i < NR; i++)
		if (lower_differs(&r.s, "f", i * BLOCK, BLOCK, 2) >= 0 &&
		    (seen->complete || lower_differs(&r.s, "f", i * BLOCK, BLOCK, 1) >= 0))
			race_bad(t, "wrong data in block %u", i);
}

static void round_of(enum way way, char *buf, struct tally *t)
{
	static const enum fuse_server_open how[] = {
		[BY_REQUEST] = OPEN_PASSTHROUGH,
		[BY_ID] = OPEN_BACKING_ID,
		[BY_INODE] = OPEN_BY_INODE,
	};
	/* Nothing happens in the first round, whose client sees all writes complete. */
	bool first = !t->rounds++;
	enum event event = first ? NOTHING : rnd(EVENTS);

	memset(&r, 0, sizeof(r));
	memset(seen, 0, sizeof(*seen));
	r.way = way;
	leaves = !first && percent(30);
	r.delay[0] = rnd(percent(50) ? 50 : 1000);
	r.delay[1] = rnd(percent(50) ? 50 : 1000);
	race_serve(&r, NULL);
	r.s.how = how[way];
	if (lower_make(&r.s, "f", NR * BLOCK, 1))
		race_bail("no file");
	r.client = fork();
	if (!r.client)
		client(buf);
	while (!__atomic_load_n(&seen->ready, __ATOMIC_ACQUIRE))
		sched_yield();
	__atomic_store_n(&seen->go, true, __ATOMIC_RELEASE);
	spin(r.delay[1]);
	happen(event);
	race_reap(&r);
	if (server_io(&r.s))
		race_bad(t, "the server got a READ or WRITE");
	judge(t);
	race_end(&r, t, event == ABORT);
}

void races_of_release(unsigned long rounds)
{
	static const char *const ways[] = { "by request", "by id", "by inode" };
	char *buf = pages(NR * BLOCK);
	unsigned long i;
	enum way way;

	seen = mmap(NULL, sizeof(*seen), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (seen == MAP_FAILED || !buf)
		race_bail("no memory");
	pattern(buf, NR * BLOCK, 0, 2);
	for (way = 0; way < WAYS; way++) {
		struct tally t = {};

		for (i = 0; i < rounds && t.bad < MANY_BAD; i++) {
			random_begin(100 + way, i);
			round_of(way, buf, &t);
		}
		result(!t.bad && t.passed,
		       "races: close %s against asynchronous writes: %u rounds, %u see all complete",
		       ways[way], t.rounds, t.passed);
	}
}
