// SPDX-License-Identifier: GPL-2.0
/*
 * races: a server attaches a lower file while something happens to the request,
 * the client, the connection or the lower file.
 *
 * Each pair of events runs for many rounds, each with a mount of its own: first the
 * event comes between attach and answer, then before the attach, then at random.
 * The lower file is on a file system that can be unmounted after each round.  The
 * attach and the open have to succeed, or fail with an errno that
 * fuse-passthrough.rst names, and an open file has the data of the lower file, or
 * of the served one if nothing was attached.
 *
 *	races [--seed N] [--rounds N] DIRECTORY
 *
 * DIRECTORY is on a lower file system with direct I/O.  The caller unmounts it
 * afterwards, so that it must not be busy.  Prints TAP.
 */
#include "race.h"

#include <signal.h>

static struct seen *seen;
static struct race r;

/* The answer to OPEN, or to LOOKUP.  With handle 0 the server opens "f" for each request. */
static void answer(void)
{
	struct fuse_entry_out e = { .entry_valid = 3600, .attr_valid = 3600 };
	struct fuse_open_out o = {};

	if (r.refuse) {
		fuse_server_reply(&r.s, r.unique, -EIO, NULL, 0);
	} else if (r.way == BY_INODE) {
		e.nodeid = fuse_server_nodeid(&r.s, "f");
		fuse_server_attr(&r.s, e.nodeid, "f", &e.attr);
		fuse_server_reply(&r.s, r.unique, 0, &e, sizeof(e));
	} else {
		o.backing_id = r.way == BY_ID ? FIRST_ID : 0;
		o.open_flags = r.way == BY_ID ? FOPEN_PASSTHROUGH : 0;
		fuse_server_reply(&r.s, r.unique, 0, &o, sizeof(o));
	}
}

static int attach_file(int dev, int fd)
{
	struct fuse_passthrough_inode in = {
		.unique = r.unique,
		.fd = fd,
		.ops = FUSE_SERVER_BY_INODE,
	};
	int id;

	switch (r.way) {
	case BY_REQUEST:
		return attach(dev, r.unique, fd);
	case BY_ID:
		id = id_open(dev, fd);
		return id < 0 ? -id : 0;
	default:
		return inode_ioctl(dev, &in);
	}
}

/* What happens meanwhile */

static void do_answer(void)
{
	answer();
}

static void do_attach(void)
{
	r.second = attach_file(r.s.dev, r.other);
}

static void do_abort(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%u/abort", r.conn);
	put(path, "1");
}

static void do_force(void)
{
	umount2(r.s.mnt, MNT_FORCE);
}

static void do_lazy(void)
{
	umount2(r.s.mnt, MNT_DETACH);
}

static void do_exit(void)
{
	close_device(&r.s);
}

static void do_interrupt(void)
{
	kill(r.client, SIGUSR1);
}

static void do_kill(void)
{
	kill(r.client, SIGKILL);
}

static void do_close(void)
{
	close(r.lower);
	r.lower_closed = true;
}

static void do_close_id(void)
{
	r.second = id_close(r.s.dev, FIRST_ID);
}

static void do_detach(void)
{
	r.second = inode_detach_all(&r.s);
}

static const int none[] = { 0 };
static const int late[] = { ENOENT, 0 };
static const int twice[] = { EBUSY, ENOENT, 0 };
static const int no_file[] = { EBADF, 0 };
static const int gone[] = { ENOENT, EPERM, ENOTCONN, 0 };
/* The descriptor is then of /dev/null. */
static const int no_device[] = { ENOENT, EPERM, ENOTCONN, ENOTTY, 0 };
static const int dead[] = { ENOTCONN, ECONNABORTED, 0 };
static const int interrupted[] = { EINTR, 0 };
static const int no_id[] = { EIO, 0 };

static const struct pair pairs[] = {
	{ "the answer", do_answer, ANY & ~BIT(BY_ID), late, none, .answers = true },
	{ "another attach", do_attach, ANY & ~BIT(BY_ID), twice, none, .second = twice },
	{ "an interrupt", do_interrupt, ANY, late, interrupted },
	{ "SIGKILL of the opener", do_kill, ANY, late, none },
	{ "an abort", do_abort, ANY, gone, dead, .dies = true },
	{ "umount -f", do_force, ANY, gone, dead, .dies = true },
	{ "umount -l", do_lazy, ANY, none, none },
	{ "the close of the last device", do_exit, ANY, no_device, dead, .dies = true },
	{ "the close of the device that has the request", do_exit, ANY, gone, dead,
	  .dies = true, .clone = true },
	{ "the close of the lower descriptor", do_close, ANY, no_file, no_id },
	{ "the close of the id", do_close_id, BIT(BY_ID), none, no_id, .second = late },
	{ "a detach", do_detach, BIT(BY_INODE), none, none, .second = late },
};

static void *meanwhile(void *arg)
{
	while (!__atomic_load_n(&r.go, __ATOMIC_ACQUIRE) ||
	       !__atomic_load_n(&r.client, __ATOMIC_ACQUIRE))
		sched_yield();
	__atomic_store_n(&r.met, true, __ATOMIC_RELEASE);
	while (r.order == ATTACH_FIRST && !__atomic_load_n(&r.tried, __ATOMIC_ACQUIRE))
		sched_yield();
	spin(r.delay[1]);
	r.pair->call();
	__atomic_store_n(&r.done, true, __ATOMIC_RELEASE);
	return NULL;
}

/* Runs in the server thread. */
static bool on_request(struct fuse_server *s, const struct fuse_in_header *in)
{
	if (in->opcode != (r.way == BY_INODE ? FUSE_LOOKUP : FUSE_OPEN) || r.go)
		return false;
	r.unique = in->unique;
	__atomic_store_n(&r.go, true, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&r.met, __ATOMIC_ACQUIRE))
		sched_yield();
	while (r.order == CALL_FIRST && !__atomic_load_n(&r.done, __ATOMIC_ACQUIRE))
		sched_yield();
	spin(r.delay[0]);
	r.attached = attach_file(r.clone >= 0 ? r.clone : s->dev, r.lower);
	__atomic_store_n(&r.tried, true, __ATOMIC_RELEASE);
	while (r.order == ATTACH_FIRST && !__atomic_load_n(&r.done, __ATOMIC_ACQUIRE))
		sched_yield();
	if (!r.pair->answers)
		answer();
	while (!__atomic_load_n(&r.done, __ATOMIC_ACQUIRE))
		sched_yield();
	/* Nothing reads from it: this ends the connection. */
	if (r.clone >= 0)
		close(r.clone);
	return true;
}

static void on_signal(int sig)
{
}

/* The process has a copy of the server's descriptors, which must not keep the device. */
static void __attribute__((noreturn)) client(void)
{
	struct sigaction sa = { .sa_handler = on_signal };
	static char buf[OWN_FS_LEN];
	ssize_t n;
	int fd;

	sigaction(SIGUSR1, &sa, NULL);
	close(r.s.dev);
	close(r.clone);
	close(r.lower);
	close(r.other);
	fd = open(fuse_path(&r.s, "f"), O_RDWR | O_CLOEXEC);
	seen->opened = fd < 0 ? errno : 0;
	if (fd >= 0) {
		n = pread(fd, buf, sizeof(buf), 0);
		seen->data = n < 0 ? errno : 0;
		if (n == sizeof(buf) && pattern_differs(buf, n, 0, OWN_FS_SEED) < 0)
			seen->lower = true;
		else if (n >= 0 && (n < sizeof(buf) || pattern_differs(buf, n, 0, 1) >= 0))
			seen->wrong = true;
	}
	_exit(0);
}

static void judge(struct tally *t)
{
	const struct pair *p = r.pair;

	t->attached += !r.attached;
	t->passed += seen->lower;
	if (!race_names(p->attach_errors, r.attached))
		race_bad(t, "the attach: %s", strerror(r.attached));
	if (p->second && !race_names(p->second, r.second))
		race_bad(t, "%s: %s", p->what, strerror(r.second));
	if (p->second == twice && !r.second && !r.attached)
		race_bad(t, "both are attached");
	if (seen->opened == NOT_OPENED) {
		if (p->call != do_kill)
			race_bad(t, "the client ended before its open");
		return;
	}
	if (seen->opened && !race_names(p->open_errors, seen->opened) &&
	    !(r.refuse && seen->opened == EIO))
		race_bad(t, "the open: %s", strerror(seen->opened));
	if (seen->opened)
		return;
	if (!race_names(p->open_errors, seen->data) || seen->wrong)
		race_bad(t, "the read: %s", seen->wrong ? "wrong data" : strerror(seen->data));
	/* One of two attaches holds; an inode may be detached meanwhile. */
	if (!r.attached && !seen->lower && r.way != BY_INODE)
		race_bad(t, "attached and opened, but not passed through");
}

static void round_of(const struct pair *p, enum way way, struct tally *t)
{
	pthread_t thread;
	pid_t pid;

	memset(&r, 0, offsetof(struct race, fs));
	r.pair = p;
	r.way = way;
	r.order = t->rounds < RANDOM_ORDER ? t->rounds : RANDOM_ORDER;
	t->rounds++;
	r.refuse = r.order == RANDOM_ORDER && percent(15);
	r.delay[0] = rnd(percent(50) ? 50 : 1000);
	r.delay[1] = rnd(percent(50) ? 50 : 1000);
	memset(seen, 0, sizeof(*seen));
	seen->opened = NOT_OPENED;
	race_serve(&r, on_request);
	pthread_create(&thread, NULL, meanwhile, NULL);
	pid = fork();
	if (!pid)
		client();
	__atomic_store_n(&r.client, pid, __ATOMIC_RELEASE);
	race_reap(&r);
	/* Without a request nothing has happened yet. */
	if (!__atomic_exchange_n(&r.go, true, __ATOMIC_ACQ_REL))
		race_bad(t, "the server got no request");
	pthread_join(thread, NULL);
	race_end(&r, t, p->dies);
	judge(t);
}

int main(int argc, char **argv)
{
	static const char *const ways[] = { "by request", "by id", "by inode" };
	unsigned long rounds, i, passed[WAYS] = {};
	unsigned int p, way;

	setenv("FUSE_TEST_LOWER", arguments(argc, argv, "races", &rounds), 1);
	seen = mmap(NULL, sizeof(*seen), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	/* The server copies this namespace, which then ends. */
	if (seen == MAP_FAILED || unshare(CLONE_NEWNS) ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) || !own_fs_mount(&r.fs))
		race_bail("no lower file system");
	for (p = 0; p < ARRAY_SIZE(pairs); p++) {
		for (way = 0; way < WAYS; way++) {
			struct tally t = {};

			if (!(pairs[p].ways & BIT(way)))
				continue;
			for (i = 0; i < rounds && t.bad < MANY_BAD; i++) {
				random_begin(p * WAYS + way, i);
				round_of(&pairs[p], way, &t);
			}
			passed[way] += t.passed;
			result(!t.bad && t.attached,
			       "races: attach %s against %s: %u rounds, %u attached, %u passed through",
			       ways[way], pairs[p].what, t.rounds, t.attached, t.passed);
		}
	}
	own_fs_end(&r.fs);
	result(passed[BY_REQUEST] && passed[BY_ID] && passed[BY_INODE],
	       "races: files passed through in every way");
	races_of_release(rounds);
	return plan();
}
