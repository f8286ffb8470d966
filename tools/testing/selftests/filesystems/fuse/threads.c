// SPDX-License-Identifier: GPL-2.0
/*
 * A server cannot make the kernel keep threads, neither by mounts nor by waits.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/uio.h>

#include "async_test.h"
#include "io_test.h"
#include "../../kselftest_harness.h"

#define NR	200	/* mounts, connections */
#define SPARE	50	/* other threads that may start meanwhile */
#define ROUNDS	5	/* of measuring memory, which other tasks use too */
#define PAGES	8

/* Number of threads in the whole system */
static int threads(void)
{
	FILE *f = fopen("/proc/loadavg", "r");
	int ret = -1;

	if (f && fscanf(f, "%*s %*s %*s %*d/%d", &ret) != 1)
		ret = -1;
	if (f)
		fclose(f);
	return ret;
}

/* Memory of the kernel itself, in KiB */
static long kernel_memory(void)
{
	static const char * const names[] = {
		"SUnreclaim:", "KernelStack:", "Percpu:",
	};
	char line[128], name[64];
	long kib, sum = 0;
	unsigned int i;
	FILE *f;

	f = fopen("/proc/meminfo", "r");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%63s %ld", name, &kib) != 2)
			continue;
		for (i = 0; i < 3; i++)
			if (!strcmp(name, names[i]))
				sum += kib;
	}
	if (f)
		fclose(f);
	return sum;
}

/*
 * Mount, answer INIT, and leave the mount without a server.  Returns 0 or
 * -errno.
 */
static int mount_and_leave(const char *dir, bool passthrough)
{
	struct {
		struct fuse_out_header h;
		struct fuse_init_out o;
	} out = {
		.h.len = sizeof(out),
		.o.major = FUSE_KERNEL_VERSION,
		.o.minor = FUSE_KERNEL_MINOR_VERSION,
		.o.max_write = PAGE,
		.o.flags = FUSE_INIT_EXT,
		.o.flags2 = passthrough ? FUSE_PASSTHROUGH >> 32 : 0,
		.o.max_stack_depth = 1,
	};
	static char in[FUSE_MIN_READ_BUFFER];
	int dev = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	char opts[64];
	int ret = 0;

	snprintf(opts, sizeof(opts), "fd=%d,rootmode=40000,user_id=0,group_id=0",
		 dev);
	if (dev < 0 || mount("fuse", dir, "fuse", MS_NOSUID | MS_NODEV, opts) ||
	    read(dev, in, sizeof(in)) < (ssize_t)sizeof(struct fuse_in_header))
		ret = -errno;
	out.h.unique = ((struct fuse_in_header *)in)->unique;
	if (!ret && write(dev, &out, sizeof(out)) != sizeof(out))
		ret = -errno;
	close(dev);
	return ret;
}

FIXTURE(threads) {
	char dir[20];
};

FIXTURE_SETUP(threads)
{
	struct rlimit files = { 8 * NR, 8 * NR };

	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &files));
	strcpy(self->dir, "/tmp/fuse.XXXXXX");
	ASSERT_NE(NULL, mkdtemp(self->dir));
	ASSERT_EQ(0, unshare(CLONE_NEWNS));
	ASSERT_EQ(0, mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
}

FIXTURE_TEARDOWN(threads)
{
	while (!umount2(self->dir, MNT_DETACH))
		;
	rmdir(self->dir);
}

/*
 * A mount whose server negotiates passthrough needs no thread, and at most 1
 * KiB more than a mount without.
 */
TEST_F_TIMEOUT(threads, mounts, 2 * IO_TIMEOUT)
{
	int before = threads();
	long taken[2] = { 0, NR + 1 };
	int round, i, pass;

	for (round = 0; round < ROUNDS && taken[1] > taken[0] + NR; round++) {
		for (pass = 0; pass < 2; pass++) {
			taken[pass] = -kernel_memory();
			for (i = 0; i < NR; i++)
				ASSERT_EQ(0, mount_and_leave(self->dir, pass));
			taken[pass] += kernel_memory();
		}
		TH_LOG("KiB taken without and with: %ld %ld", taken[0], taken[1]);
	}
	EXPECT_GE(taken[0] + NR, taken[1]);
	EXPECT_GT(before + SPARE, threads());
}

/*
 * A connection with a file of PAGES pages, open for cached and for direct
 * passthrough I/O.  The server holds each READ of the pages in hold.
 */
struct conn {
	struct fuse_server s;
	unsigned int hold;		/* bit mask of pages */
	uint64_t held[PAGES];		/* unique of the READ, under s.lock */
	int cached, direct;
	char *map;			/* mapping by the cached open */
	struct iocb iocb[3];
};

static bool keep_read(struct fuse_server *s, const struct fuse_in_header *h)
{
	const struct fuse_read_in *in = (const void *)(h + 1);
	struct conn *c = s->arg;
	unsigned int page;

	if (h->opcode != FUSE_READ)
		return false;
	page = in->offset / PAGE;
	if (page >= PAGES || !(c->hold & 1 << page))
		return false;
	pthread_mutex_lock(&s->lock);
	c->held[page] = h->unique;
	pthread_cond_broadcast(&s->change);
	pthread_mutex_unlock(&s->lock);
	return true;
}

/* Wait until the server got the READ of @page, which it holds. */
static void wait_held(struct conn *c, unsigned int page)
{
	pthread_mutex_lock(&c->s.lock);
	while (!c->held[page])
		pthread_cond_wait(&c->s.change, &c->s.lock);
	pthread_mutex_unlock(&c->s.lock);
}

/* Answer the READ of @page with its contents before any write. */
static int let_go(struct conn *c, unsigned int page)
{
	char buf[PAGE];

	pattern(buf, PAGE, page * PAGE, 1);
	return fuse_server_reply(&c->s, c->held[page], 0, buf, PAGE);
}

static int conn_start(struct conn *c, bool writeback)
{
	int err;

	c->s.writeback = writeback;
	c->s.request = keep_read;
	c->s.arg = c;
	err = fuse_server_start(&c->s);
	if (err)
		return err;
	if (lower_make(&c->s, "f", PAGES * PAGE, 1))
		return -EIO;
	c->cached = fs_open(&c->s, OPEN_CACHED, "f", O_RDWR);
	c->direct = fs_open(&c->s, OPEN_PASSTHROUGH, "f", O_RDWR);
	c->map = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
		      c->cached, 0);
	if (c->cached < 0 || c->direct < 0 || c->map == MAP_FAILED)
		return -errno;
	/* A READ has one page, not more. */
	return -posix_fadvise(c->cached, 0, 0, POSIX_FADV_RANDOM);
}

static void conn_close(struct conn *c)
{
	munmap(c->map, PAGES * PAGE);
	close(c->cached);
	close(c->direct);
}

/* Is @page in FUSE's cache? A page that is being read is not. */
static bool is_cached(struct conn *c, unsigned int page)
{
	unsigned char in = 0;

	return !mincore(c->map + page * PAGE, PAGE, &in) && (in & 1);
}

/* Cache all pages below @nr except page 1, whose READ the server holds. */
static int fill(struct conn *c, unsigned int nr)
{
	unsigned int i;
	char buf[PAGE];

	for (i = 0; i < nr; i++)
		if (i != 1 && pread(c->cached, buf, PAGE, i * PAGE) != PAGE)
			return -EIO;
	c->hold |= 1 << 1;
	/* This locks the page and sends the READ, without waiting. */
	if (posix_fadvise(c->cached, PAGE, PAGE, POSIX_FADV_WILLNEED))
		return -EIO;
	wait_held(c, 1);
	return is_cached(c, 0) && !is_cached(c, 1) ? 0 : -EIO;
}

static struct iocb *prepare(struct conn *c, unsigned int i, char *buf,
			    unsigned int first, unsigned int nr)
{
	pattern(buf + first * PAGE, nr * PAGE, first * PAGE, 2);
	aio_prep(&c->iocb[i], IOCB_CMD_PWRITE, c->direct, buf + first * PAGE,
		 nr * PAGE, first * PAGE, first);
	return &c->iocb[i];
}

/*
 * Write @nr pages of pattern 2 asynchronously, until the completion reaches
 * page 1.  Three writes are submitted together, because the block layer starts
 * none of them before all are submitted: a write that completes before its
 * submission ends would be synchronous.
 */
static int submit(struct conn *c, aio_context_t ctx, char *buf, unsigned int nr)
{
	struct iocb *p[] = {
		prepare(c, 0, buf, 0, nr), prepare(c, 1, buf, 6, 1),
		prepare(c, 2, buf, 7, 1),
	};
	struct io_event ev[2];

	if (aio_submit(ctx, 3, p) != 3 || aio_wait(ctx, 2, ev) != 2 ||
	    ev[0].data < 6 || ev[1].data < 6)
		return -EIO;
	while (is_cached(c, 0))
		sched_yield();
	return 0;
}

static int completed(aio_context_t ctx)
{
	struct io_event ev;

	return syscall(__NR_io_getevents, ctx, 0, 1, &ev, NULL);
}

/* Can @s' lower file system do direct I/O? */
static bool can_direct(struct fuse_server *s)
{
	int fd = lower_open(s, "f", O_RDWR | O_CREAT | O_DIRECT);

	close(fd);
	return fd >= 0;
}

static struct conn conns[NR];

/*
 * A completion that finds a page with a READ in flight occupies no thread.  It
 * ends after the server has answered, and drops the page.
 */
TEST_F_TIMEOUT(threads, held_pages, IO_TIMEOUT)
{
	char *buf = pages(2 * PAGE), *now = pages(2 * PAGE);
	static struct iocb *iocbs[NR];
	static struct io_event ev[NR];
	aio_context_t ctx;
	int before, i;

	ASSERT_EQ(0, aio_setup(NR, &ctx));
	for (i = 0; i < NR; i++) {
		ASSERT_EQ(0, conn_start(&conns[i], false));
		if (!can_direct(&conns[i].s))
			goto stop;
		ASSERT_EQ(0, fcntl(conns[i].direct, F_SETFL, O_DIRECT));
		ASSERT_EQ(0, fill(&conns[i], 1));
	}

	/* ext4 writes data that is not on disk synchronously. */
	ASSERT_EQ(0, syncfs(conns[0].s.dirfd));
	before = threads();
	for (i = 0; i < NR; i++)
		iocbs[i] = prepare(&conns[i], 0, buf, 0, 2);
	ASSERT_EQ(NR, aio_submit(ctx, NR, iocbs));
	/* When the first page is gone the completion has reached the second. */
	for (i = 0; i < NR; i++)
		while (is_cached(&conns[i], 0))
			sched_yield();
	EXPECT_GT(before + SPARE, threads());
	EXPECT_EQ(0, completed(ctx));

	for (i = 0; i < NR; i++)
		ASSERT_EQ(0, let_go(&conns[i], 1));
	ASSERT_EQ(NR, aio_wait(ctx, NR, ev));
	for (i = 0; i < NR; i++) {
		conns[i].hold = 0;
		EXPECT_EQ(2 * PAGE, ev[i].res);
		ASSERT_EQ(2 * PAGE, pread(conns[i].cached, now, 2 * PAGE, 0));
		EXPECT_EQ(-1, pattern_differs(now, 2 * PAGE, 0, 2));
	}
	i--;
stop:
	for (; i >= 0; i--) {
		conn_close(&conns[i]);
		fuse_server_stop(&conns[i].s);
	}
	EXPECT_EQ(0, aio_destroy(ctx));
}

FIXTURE(wait) {
	struct conn c;
	aio_context_t ctx;
	char *buf;
	bool can;		/* the lower file has O_DIRECT */
};

FIXTURE_VARIANT(wait) { bool writeback; };
FIXTURE_VARIANT_ADD(wait, through) { .writeback = false };
FIXTURE_VARIANT_ADD(wait, back) { .writeback = true };

FIXTURE_SETUP(wait)
{
	self->buf = pages(PAGES * PAGE);
	ASSERT_NE(NULL, self->buf);
	ASSERT_EQ(0, aio_setup(3, &self->ctx));
	ASSERT_EQ(0, conn_start(&self->c, variant->writeback));
	ASSERT_EQ(0, syncfs(self->c.s.dirfd));
	self->can = can_direct(&self->c.s);
	if (self->can) {
		ASSERT_EQ(0, fcntl(self->c.direct, F_SETFL, O_DIRECT));
	}
}

FIXTURE_TEARDOWN(wait)
{
	conn_close(&self->c);
	fuse_server_stop(&self->c.s);
	EXPECT_EQ(0, aio_destroy(self->ctx));
}

/* A store to a page of the range, while the completion waits, is not lost. */
TEST_F_TIMEOUT(wait, store, IO_TIMEOUT)
{
	struct conn *c = &self->c;
	struct io_event ev;
	char byte;
	int lower;

	if (!self->can)
		return;

	ASSERT_EQ(0, fill(c, 3));
	ASSERT_EQ(0, submit(c, self->ctx, self->buf, 3));
	c->map[2 * PAGE + 7] = 0;

	ASSERT_EQ(0, let_go(c, 1));
	ASSERT_EQ(1, aio_wait(self->ctx, 1, &ev));
	EXPECT_EQ(3 * PAGE, ev.res);
	c->hold = 0;
	EXPECT_EQ(0, c->map[2 * PAGE + 7]);
	ASSERT_EQ(2 * PAGE, pread(c->cached, self->buf, 2 * PAGE, 0));
	EXPECT_EQ(-1, pattern_differs(self->buf, 2 * PAGE, 0, 2));

	ASSERT_EQ(0, fsync(c->cached));
	lower = lower_open(&c->s, "f", O_RDONLY);
	ASSERT_EQ(1, pread(lower, &byte, 1, 2 * PAGE + 7));
	EXPECT_EQ(0, byte);
	close(lower);
}

static void write_one(void *arg)
{
	struct conn *c = arg;

	if (pwrite(c->cached, "x", 1, 5 * PAGE + 7) != 1)
		c->hold = -1;
}

/*
 * A completion that waits for a page blocks no task that wants the inode
 * lock.  It keeps waiting while a task that waits for the server has the lock.
 */
TEST_F_TIMEOUT(wait, inode_lock, IO_TIMEOUT)
{
	struct conn *c = &self->c;
	struct io_event ev;
	struct blocker b;

	if (!self->can || !variant->writeback)
		return;

	ASSERT_EQ(0, fill(c, 1));
	ASSERT_EQ(0, submit(c, self->ctx, self->buf, 2));

	/* A write to a part of an uncached page has to read the page. */
	c->hold |= 1 << 5;
	ASSERT_TRUE(blocker_start(&b, write_one, c));
	wait_held(c, 5);
	ASSERT_EQ(0, let_go(c, 1));
	EXPECT_FALSE(blocker_done(&b));
	EXPECT_EQ(0, completed(self->ctx));

	ASSERT_EQ(0, let_go(c, 5));
	ASSERT_EQ(1, aio_wait(self->ctx, 1, &ev));
	EXPECT_EQ(2 * PAGE, ev.res);
	blocker_join(&b);
	ASSERT_NE(-1, c->hold);
	c->hold = 0;
	ASSERT_EQ(2 * PAGE, pread(c->cached, self->buf, 2 * PAGE, 0));
	EXPECT_EQ(-1, pattern_differs(self->buf, 2 * PAGE, 0, 2));
	EXPECT_EQ('x', c->map[5 * PAGE + 7]);
}

/*
 * The wait ends when the server dies.  The completion drops the last reference
 * to the file of the client, to the mount and to the connection.
 */
TEST_F_TIMEOUT(wait, server_dies, IO_TIMEOUT)
{
	struct conn *c = &self->c;
	struct io_event ev;

	if (!self->can)
		return;

	ASSERT_EQ(0, fill(c, 1));
	ASSERT_EQ(0, submit(c, self->ctx, self->buf, 2));
	fuse_server_die(&c->s);
	ASSERT_EQ(0, umount2(c->s.mnt, MNT_DETACH));
	conn_close(c);

	ASSERT_EQ(1, aio_wait(self->ctx, 1, &ev));
	EXPECT_EQ(2 * PAGE, ev.res);
	EXPECT_EQ(-1, lower_differs(&c->s, "f", 0, 2 * PAGE, 2));
}

/* Can one such write to a file with current times be non-blocking? */
static bool nowait_works(struct conn *c, int fd, aio_context_t ctx, char *buf)
{
	int lower = lower_open(&c->s, "f", O_WRONLY | O_DIRECT);
	struct conn by = { .direct = fd };
	struct iocb *p = prepare(&by, 0, buf, 0, 1);
	struct io_event ev = {};
	bool works = false;
	int i;

	p->aio_rw_flags = RWF_NOWAIT;
	for (i = 0; i < 500 && !works; i++)
		works = pwrite(lower, buf, PAGE, 0) == PAGE &&
			aio_submit(ctx, 1, &p) == 1 &&
			aio_wait(ctx, 1, &ev) == 1 && ev.res == PAGE;
	close(lower);
	return works;
}

/* The first write that may block allocates what completions need. */
TEST_F_TIMEOUT(wait, nowait, IO_TIMEOUT)
{
	struct conn *c = &self->c;
	struct io_event ev;
	struct iocb *p;
	bool can;
	int lower;

	if (!self->can)
		return;

	/* While FUSE's cache is mapped, such a write is refused too. */
	ASSERT_EQ(c->map, mmap(c->map, PAGES * PAGE, PROT_NONE, MAP_PRIVATE |
			       MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	lower = lower_open(&c->s, "f", O_RDWR | O_DIRECT);
	can = nowait_works(c, lower, self->ctx, self->buf);
	close(lower);

	EXPECT_FALSE(nowait_works(c, c->direct, self->ctx, self->buf));
	p = prepare(c, 0, self->buf, 0, 1);
	ASSERT_EQ(1, aio_submit(self->ctx, 1, &p));
	ASSERT_EQ(1, aio_wait(self->ctx, 1, &ev));
	EXPECT_EQ(PAGE, ev.res);
	EXPECT_EQ(can, nowait_works(c, c->direct, self->ctx, self->buf));
}

TEST_HARNESS_MAIN
