// SPDX-License-Identifier: GPL-2.0
/*
 * death: kills the daemon while workers write, read and compare.
 *
 * The daemon is passthroughfs, or the server of the kselftests in a process of
 * its own, which may kill itself when it gets a certain request, or right after
 * it has attached a lower file to that.  Another process opens and closes files
 * meanwhile.  After the kill the workers have to go on, each new open is
 * ENOTCONN, and the mount can be unmounted.  Half of the mounts are detached
 * first.
 *
 *	death [--seed N] [--rounds N] DIRECTORY
 *
 * DIRECTORY is on the lower file system.  The caller unmounts it afterwards, so
 * that it must not be busy.  Prints TAP.
 */
#include "workers.h"
#include "inode_test.h"

#include <linux/magic.h>
#include <stdarg.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/sysmacros.h>

#define LIMIT	60000
#define MANY_BAD	5
/* Operations that each worker makes after the kill */
#define GO_ON	8

enum way { BY_REQUEST, BY_ID, BY_INODE, WAYS };

/* Shared with the processes of a round */
struct state {
	struct fuse_server s;
	bool ready;
	bool dead;
	enum way way;
	int point;			/* opcode at which the server dies, 0: it is killed */
	unsigned int nth;		/* such request at which it does */
	bool attaches;			/* first, if it can */
	unsigned long opens, refused, bad;
};

static struct state *st;
static struct workers *w;
static char mnt[256], lower[256];	/* of this round */
static int own_ns;

struct tally {
	unsigned long rounds, ops, after, opens, bad;
};

static void __attribute__((format(printf, 2, 3))) bad(struct tally *t, const char *fmt, ...)
{
	va_list ap;

	t->bad++;
	printf("# seed %llu, kill %lu: ", (unsigned long long)random_seed, t->rounds - 1);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
}

static void __attribute__((noreturn)) bail(const char *what)
{
	printf("Bail out! %s: %m\n", what);
	exit(2);
}

/* Runs in the server thread. */
static bool dies_at(struct fuse_server *s, const struct fuse_in_header *in)
{
	struct fuse_passthrough_inode inode = { .unique = in->unique, .ops = FUSE_SERVER_BY_INODE };

	if ((int)in->opcode != st->point || st->nth--)
		return false;
	if (st->attaches) {
		inode.fd = lower_open(s, "sync", O_RDWR);
		if (st->way == BY_INODE)
			inode_ioctl(s->dev, &inode);
		else
			attach(s->dev, in->unique, inode.fd);
	}
	kill(getpid(), SIGKILL);
	return true;
}

static void __attribute__((noreturn)) raw_server(void)
{
	static const enum fuse_server_open how[] = {
		[BY_REQUEST] = OPEN_PASSTHROUGH,
		[BY_ID] = OPEN_BACKING_ID,
		[BY_INODE] = OPEN_BY_INODE,
	};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	st->s.permissions = true;
	if (fuse_server_start(&st->s))
		_exit(1);
	st->s.how = how[st->way];
	__atomic_store_n(&st->ready, true, __ATOMIC_RELEASE);
	for (;;)
		pause();
}

static void __attribute__((noreturn)) passthroughfs(void)
{
	static char *const options[] = {
		[BY_REQUEST] = "--attach=request",
		[BY_ID] = "--attach=id",
		[BY_INODE] = "--inodes=all",
	};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	execlp("passthroughfs", "passthroughfs", "-f", options[st->way],
	       st->way == BY_INODE ? "--attach=auto" : "--inodes=none", lower, mnt, NULL);
	_exit(127);
}

static void wait_for_mount(pid_t pid)
{
	int64_t end = now() + LIMIT;
	struct statfs fs;

	while (statfs(mnt, &fs) || fs.f_type != FUSE_SUPER_MAGIC) {
		if (now() > end || task_state(pid) == 'Z')
			bail("passthroughfs does not mount");
		pause_ms(1);
	}
}

/* Mount DIRECTORY/lower at DIRECTORY/mnt, or what the kselftests' server chooses. */
static pid_t start(bool raw, const char *directory)
{
	char path[64];
	pid_t pid;
	int ns;

	if (!raw) {
		snprintf(lower, sizeof(lower), "%s/lower", directory);
		snprintf(mnt, sizeof(mnt), "/tmp/death.%d", getpid());
		if (mkdir(lower, 0755) || mkdir(mnt, 0755))
			bail("no directories");
	}
	pid = fork();
	if (!pid && raw)
		raw_server();
	if (!pid)
		passthroughfs();
	if (!raw) {
		wait_for_mount(pid);
		return pid;
	}
	while (!__atomic_load_n(&st->ready, __ATOMIC_ACQUIRE)) {
		if (task_state(pid) == 'Z')
			bail("no server");
		pause_ms(1);
	}
	/* The mount is in the server's namespace. */
	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", pid);
	ns = open(path, O_RDONLY | O_CLOEXEC);
	if (setns(ns, CLONE_NEWNS))
		bail("setns");
	close(ns);
	snprintf(lower, sizeof(lower), "%s", st->s.lower);
	snprintf(mnt, sizeof(mnt), "%s", st->s.mnt);
	return pid;
}

/* Open, read and close files that no worker changes.  Only the end of the server is an error. */
static pid_t opener(int dir)
{
	pid_t pid = fork();
	char buf[BLOCK];
	ssize_t n;
	int fd;

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (!w->stop) {
		errno = 0;
		fd = openat(dir, "quiet", O_RDWR | O_CLOEXEC);
		n = fd < 0 ? -1 : pread(fd, buf, BLOCK, 0);
		if (n == BLOCK && pattern_differs(buf, BLOCK, 0, 1) < 0)
			st->opens++;
		else if (n < 0 && (errno == ENOTCONN || errno == ECONNABORTED))
			st->refused++;
		else
			st->bad++;
		if (fd >= 0 && fsync(fd) && errno != ENOTCONN && errno != ECONNABORTED)
			st->bad++;
		if (fd >= 0)
			close(fd);
		if (n < 0)
			pause_ms(1);
	}
	_exit(0);
}

static int fill(void)
{
	char buf[BLOCK], path[300];
	int fd, ret;

	pattern(buf, BLOCK, 0, 1);
	snprintf(path, sizeof(path), "%s/quiet", lower);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	ret = write(fd, buf, BLOCK) == BLOCK ? workers_fill(lower) : -1;
	close(fd);
	return ret;
}

static void reap(pid_t pid, struct tally *t)
{
	int64_t end = now() + LIMIT;

	while (!waitpid(pid, NULL, WNOHANG)) {
		if (now() > end) {
			put("/proc/sysrq-trigger", "w");
			bail("the killed daemon does not end");
		}
		pause_ms(1);
	}
}

static void choose_point(bool raw)
{
	static const int points[] = {
		FUSE_OPEN, FUSE_LOOKUP, FUSE_FSYNC, FUSE_RELEASE, FUSE_FLUSH,
	};

	if (!raw || percent(30))
		return;
	st->attaches = percent(60);
	st->nth = rnd(4);
	st->point = st->attaches ? (st->way == BY_INODE ? FUSE_LOOKUP : FUSE_OPEN) :
		points[rnd(ARRAY_SIZE(points))];
}

static void after_death(struct tally *t, int dir, bool detach)
{
	int fd;

	__atomic_store_n(&w->marked, true, __ATOMIC_RELEASE);
	if (detach && umount2(mnt, MNT_DETACH))
		bad(t, "umount -l: %m");
	fd = openat(dir, "mmap", O_RDWR | O_CLOEXEC);
	if (fd >= 0 || errno != ENOTCONN)
		bad(t, "a new open: %s", fd >= 0 ? "succeeds" : strerror(errno));
	fd = openat(dir, "new", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd >= 0 || errno != ENOTCONN)
		bad(t, "a create: %s", fd >= 0 ? "succeeds" : strerror(errno));
	if (!workers_go_on(w, GO_ON, LIMIT))
		bad(t, "a worker does not go on");
}

static void finish(struct tally *t, bool raw, bool detached)
{
	char path[300];

	/* A worker's mapping and AIO context end with its process. */
	if (!detached && umount(mnt))
		bad(t, "umount: %m");
	if (raw && server_io(&st->s))
		bad(t, "the server got a READ or WRITE");
	if (st->bad)
		bad(t, "%lu opens with a wrong errno or wrong data", st->bad);
	t->ops += workers_total(w->ops);
	t->after += workers_total(w->after);
	t->opens += st->opens;
	workers_remove(lower);
	snprintf(path, sizeof(path), "%s/quiet", lower);
	unlink(path);
	if (rmdir(mnt) || rmdir(lower))
		bad(t, "rmdir: %m");
	if (raw && setns(own_ns, CLONE_NEWNS))
		bail("setns");
}

static void kill_once(bool raw, enum way way, const char *directory, struct tally *t)
{
	bool detach = percent(50);
	unsigned int ms = rnd(60), waited;
	pid_t daemon, other;
	int dir, failed;

	t->rounds++;
	memset(st, 0, sizeof(*st));
	st->way = way;
	daemon = start(raw, directory);
	dir = open(mnt, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || fill() || workers_start(w, mnt, lower))
		bail("no files");
	choose_point(raw);
	if (st->point)
		st->s.request = dies_at;
	other = opener(dir);
	for (waited = 0; st->opens < 3 && waited < 500 && task_state(daemon) != 'Z'; waited++)
		pause_ms(1);
	pause_ms(ms);
	for (waited = 0; st->point && waited < 200 && task_state(daemon) != 'Z'; waited++)
		pause_ms(1);
	kill(daemon, SIGKILL);
	reap(daemon, t);
	after_death(t, dir, detach);
	failed = workers_stop(w);
	if (failed)
		bad(t, "%d workers failed", failed);
	reap(other, t);
	close(dir);
	finish(t, raw, detach);
}

int main(int argc, char **argv)
{
	static const char *const ways[] = { "by request", "by id", "by inode" };
	unsigned long rounds, i, which;
	char *directory = arguments(argc, argv, "death", &rounds);
	struct tally tallies[2 * WAYS] = {}, *t;

	setenv("FUSE_TEST_LOWER", directory, 1);
	st = mmap(NULL, sizeof(*st), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	w = workers_new();
	own_ns = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	if (st == MAP_FAILED || !w || own_ns < 0)
		bail("no memory");
	for (i = 0; i < rounds; i++) {
		random_begin(0, i);
		which = i % (2 * WAYS);
		if (tallies[which].bad < MANY_BAD)
			kill_once(which % 2, which / 2, directory, &tallies[which]);
	}
	for (i = 0; i < 2 * WAYS; i++) {
		t = &tallies[i];
		result(!t->bad && t->rounds && t->after,
		       "death: %s %s: %lu kills, %lu operations, %lu of them after a kill, %lu opens",
		       i % 2 ? "raw server" : "passthroughfs", ways[i / 2], t->rounds, t->ops,
		       t->after, t->opens);
	}
	return plan();
}
