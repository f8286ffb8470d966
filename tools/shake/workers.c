// SPDX-License-Identifier: GPL-2.0
#include "workers.h"
#include "async_test.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define BLOCKS	32
#define BATCH	4
#define LEN	(BLOCKS * BLOCK)

static const char *const names[WORKERS] = {
	[WORK_SYNC] = "sync", [WORK_AIO] = "aio", [WORK_URING] = "uring", [WORK_MMAP] = "mmap",
};

/* State of a worker's process */
static struct {
	enum worker_kind kind;
	int fd;
	unsigned int version[BLOCKS];
	char *buf;			/* BATCH blocks */
	char *map;
	aio_context_t aio;
	struct uring ring;
} me;

static char *file_of(const char *dir, enum worker_kind kind)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", dir, names[kind]);
	return path;
}

static bool fails(const char *what, long ret)
{
	if (ret < 0)
		errno = -ret;
	printf("# seed %llu, worker %s: %s: %ld%s%s\n", (unsigned long long)random_seed,
	       names[me.kind], what, ret, ret < 0 ? ", " : "", ret < 0 ? strerror(errno) : "");
	fflush(stdout);
	return false;
}

static bool same(const char *what, const char *buf, unsigned int block)
{
	long at = pattern_differs(buf, BLOCK, block * BLOCK, me.version[block]);

	return at < 0 || fails(what, block * BLOCK + at);
}

/* Returns the result of a call, or its negative errno. */
static long ret_of(long ret)
{
	return ret < 0 ? -errno : ret;
}

static bool work_sync(void)
{
	unsigned int block = rnd(BLOCKS);
	long ret;

	if (percent(6)) {
		ret = ret_of(fsync(me.fd));
		return !ret || fails("fsync", ret);
	}
	if (percent(50)) {
		pattern(me.buf, BLOCK, block * BLOCK, ++me.version[block]);
		ret = ret_of(pwrite(me.fd, me.buf, BLOCK, block * BLOCK));
		return ret == BLOCK || fails("write", ret);
	}
	ret = ret_of(pread(me.fd, me.buf, BLOCK, block * BLOCK));
	return ret == BLOCK ? same("read", me.buf, block) : fails("read", ret);
}

static bool work_mmap(void)
{
	unsigned int block = rnd(BLOCKS);
	long ret;

	if (percent(3)) {
		ret = ret_of(msync(me.map, LEN, MS_SYNC));
		return !ret || fails("msync", ret);
	}
	if (percent(50)) {
		pattern(me.map + block * BLOCK, BLOCK, block * BLOCK, ++me.version[block]);
		return true;
	}
	return same("mapping", me.map + block * BLOCK, block);
}

/* A batch of blocks, some of them written, the others read */
static bool work_batch(void)
{
	unsigned int first = rnd(BLOCKS / BATCH) * BATCH, writes = rnd(1 << BATCH), i;
	struct iocb iocbs[BATCH], *list[BATCH];
	struct io_event events[BATCH];
	long ret;

	for (i = 0; i < BATCH; i++) {
		bool out = writes & 1 << i;
		off_t off = (first + i) * BLOCK;
		char *buf = me.buf + i * BLOCK;

		if (out)
			pattern(buf, BLOCK, off, ++me.version[first + i]);
		if (me.kind == WORK_URING)
			uring_prep(&me.ring, out ? IORING_OP_WRITE : IORING_OP_READ, me.fd, buf,
				   BLOCK, off, i);
		aio_prep(&iocbs[i], out ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD, me.fd, buf, BLOCK,
			 off, i);
		list[i] = &iocbs[i];
	}
	if (me.kind == WORK_URING) {
		ret = uring_enter(&me.ring, BATCH);
		for (i = 0; !ret && i < BATCH; i++) {
			struct io_uring_cqe cqe;

			ret = uring_wait(&me.ring, &cqe);
			events[i].res = cqe.res;
		}
	} else {
		ret = aio_submit(me.aio, BATCH, list);
		if (ret == BATCH)
			ret = aio_wait(me.aio, BATCH, events) - BATCH;
	}
	if (ret)
		return fails("submission", ret);
	for (i = 0; i < BATCH; i++)
		if (events[i].res != BLOCK)
			return fails("request", events[i].res);
	for (i = 0; i < BATCH; i++)
		if (!same("batch", me.buf + i * BLOCK, first + i))
			return false;
	return true;
}

/* tmpfs of Linux 6.1 has no direct I/O. */
static bool begin(const char *path)
{
	bool async = me.kind == WORK_AIO || me.kind == WORK_URING;

	me.fd = open(path, O_RDWR | O_CLOEXEC | (async ? O_DIRECT : 0));
	if (me.fd < 0 && errno == EINVAL)
		me.fd = open(path, O_RDWR | O_CLOEXEC);
	if (me.fd < 0)
		return fails("open", -errno);
	me.buf = pages(BATCH * BLOCK);
	if (me.kind == WORK_AIO && aio_setup(BATCH, &me.aio))
		return fails("io_setup", -errno);
	if (me.kind == WORK_URING && uring_setup(&me.ring, BATCH))
		return fails("io_uring_setup", -errno);
	if (me.kind == WORK_MMAP)
		me.map = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, me.fd, 0);
	return me.map != MAP_FAILED || fails("mmap", -errno);
}

static bool compare(const char *what, int fd)
{
	char *buf = pages(BLOCK);
	unsigned int i;
	long ret;

	for (i = 0; i < BLOCKS; i++) {
		ret = ret_of(pread(fd, buf, BLOCK, i * BLOCK));
		if (ret != BLOCK)
			return fails(what, ret);
		if (!same(what, buf, i))
			return false;
	}
	return true;
}

static bool finish(const char *below)
{
	int fd = open(below, O_RDONLY | O_CLOEXEC);
	long ret = ret_of(fsync(me.fd));

	return (!ret || fails("last fsync", ret)) && compare("open file", me.fd) &&
		compare("lower file", fd);
}

static bool work(struct workers *w, const char *path, const char *below)
{
	static bool (*const works[WORKERS])(void) = {
		[WORK_SYNC] = work_sync, [WORK_AIO] = work_batch,
		[WORK_URING] = work_batch, [WORK_MMAP] = work_mmap,
	};

	if (!begin(path))
		return false;
	__atomic_store_n(&w->ready[me.kind], true, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&w->stop, __ATOMIC_ACQUIRE)) {
		if (!works[me.kind]())
			return false;
		w->ops[me.kind]++;
		if (__atomic_load_n(&w->marked, __ATOMIC_ACQUIRE))
			w->after[me.kind]++;
	}
	return finish(below);
}

struct workers *workers_new(void)
{
	struct workers *w = mmap(NULL, sizeof(*w), PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return w == MAP_FAILED ? NULL : w;
}

int workers_fill(const char *lower)
{
	char *buf = malloc(LEN);
	unsigned int i;
	int fd, ret = 0;

	pattern(buf, LEN, 0, 0);
	for (i = 0; !ret && i < WORKERS; i++) {
		fd = open(file_of(lower, i), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
		if (fd < 0 || write(fd, buf, LEN) != LEN)
			ret = -1;
		close(fd);
	}
	free(buf);
	return ret;
}

int workers_start(struct workers *w, const char *dir, const char *lower)
{
	char path[256];
	unsigned int i;
	pid_t pid;

	memset(w, 0, sizeof(*w));
	for (i = 0; i < WORKERS; i++) {
		pid = fork();
		if (pid) {
			w->pid[i] = pid;
			continue;
		}
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		/* A signal to the program is for its main process. */
		signal(SIGTERM, SIG_IGN);
		signal(SIGUSR1, SIG_IGN);
		me.kind = i;
		random_begin(i, random_bits());
		snprintf(path, sizeof(path), "%s", file_of(dir, i));
		_exit(!work(w, path, file_of(lower, i)));
	}
	for (i = 0; i < WORKERS; i++)
		while (!__atomic_load_n(&w->ready[i], __ATOMIC_ACQUIRE)) {
			if (task_state(w->pid[i]) == 'Z') {
				workers_stop(w);
				return -1;
			}
			pause_ms(1);
		}
	return 0;
}

bool workers_go_on(struct workers *w, unsigned long n, int64_t limit)
{
	int64_t end = now() + limit;
	unsigned int i;

	for (i = 0; i < WORKERS; i++)
		while (__atomic_load_n(&w->after[i], __ATOMIC_ACQUIRE) < n) {
			if (now() > end || task_state(w->pid[i]) == 'Z')
				return false;
			pause_ms(1);
		}
	return true;
}

int workers_stop(struct workers *w)
{
	unsigned int i;
	int failed = 0;

	__atomic_store_n(&w->stop, true, __ATOMIC_RELEASE);
	for (i = 0; i < WORKERS; i++)
		failed += child_status(w->pid[i]) != 0;
	return failed;
}

unsigned long workers_total(const unsigned long *n)
{
	unsigned long total = 0;
	unsigned int i;

	for (i = 0; i < WORKERS; i++)
		total += n[i];
	return total;
}

void workers_remove(const char *lower)
{
	unsigned int i;

	for (i = 0; i < WORKERS; i++)
		unlink(file_of(lower, i));
}
