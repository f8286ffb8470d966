// SPDX-License-Identifier: GPL-2.0
/*
 * A client: a sequence of operations on a few open files of the mount.
 *
 * In a calm round an operation may fail for many reasons (flags, modes,
 * permissions, RLIMIT_FSIZE, a signal), but not with an errno that a daemon
 * which keeps the rules cannot cause.
 */
#include "client.h"

#include <grp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>

/* ERESTARTSYS and other errnos that never reach user space */
#define FIRST_INTERNAL_ERRNO	512

static sigjmp_buf no_page;
static volatile sig_atomic_t in_op;

/* The page is beyond the end of the file, or its mount is gone. */
static void on_bus(int sig)
{
	if (in_op)
		siglongjmp(no_page, 1);
	_exit(0);
}

static void on_alarm(int sig)
{
}

int other_fd(struct client *c, int fd)
{
	int other = c->fd[rnd(CLIENT_FDS)];

	return other >= 0 ? other : fd;
}

char *buffer(struct client *c)
{
	if (sh->cfg.map_buffers && c->map && percent(20) && c->len <= c->map_len)
		return c->map;
	return c->buf + PAGE * rnd(8) + (percent(80) ? 0 : rnd(PAGE));
}

void choose_range(struct client *c)
{
	bool aligned = percent(50);

	c->len = aligned ? PAGE * (1 + rnd(8)) : 1 + rnd(percent(80) ? 300 : 70000);
	c->off = aligned ? PAGE * rnd(MAX_FILE / PAGE) : rnd(percent(50) ? 300 : MAX_FILE);
	if (!sh->cfg.calm && percent(2))
		c->off = random_bits() >> (1 + rnd(30));
}

/* Errnos that a daemon which keeps the rules cannot cause */
static bool never(int error)
{
	switch (error) {
	case EIO:
		/* Writeback fails where the daemon may not write what its client may. */
		return !sh->cfg.rootless && !(sh->cfg.init_flags & FUSE_WRITEBACK_CACHE);
	case EFAULT:
	case ENOMEM:
	case ENODEV:
	case ENOSYS:
	case ENOTTY:
	case EPROTO:
	case ENOTCONN:
	case ECONNABORTED:
	case EBADFD:
	case ELOOP:
	case EDEADLK:
	case EROFS:
	case EBUSY:
		return true;
	}
	return error > EHWPOISON;
}

static void judge(const struct op *op, long ret)
{
	const int *e = op->expected;
	int error = errno;

	if (ret >= 0)
		return;
	if (error >= FIRST_INTERNAL_ERRNO) {
		bad(V_ERRNO, "%s: errno %d", op->name, error);
		return;
	}
	for (; e && *e; e++)
		if (*e == error)
			return;
	if (strict() && never(error))
		bad(V_ERRNO, "%s: %s", op->name, strerror(error));
}

/* Most paths are in the root, some in the directory d. */
static void choose_path(struct client *c)
{
	if (percent(85))
		snprintf(c->path, sizeof(c->path), "%s/f%u", mnt, rnd(FILES));
	else
		snprintf(c->path, sizeof(c->path), "%s/d/g%u", mnt, rnd(4));
}

static long open_op(struct client *c, int fd)
{
	static const int modes[] = { O_RDONLY, O_RDWR, O_RDWR, O_RDWR, O_WRONLY };
	int flags = modes[rnd(ARRAY_SIZE(modes))] | O_CLOEXEC;
	unsigned int slot = rnd(CLIENT_FDS);
	struct { unsigned int chance; int flag; } extra[] = {
		{ 15, O_APPEND }, { 25, O_DIRECT }, { 5, O_TRUNC }, { 5, O_SYNC },
		{ 3, O_DSYNC }, { 40, O_CREAT }, { 2, O_CREAT | O_EXCL }, { 4, O_NOATIME },
		{ 4, O_NONBLOCK }, { 2, O_PATH },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(extra); i++)
		if (percent(extra[i].chance))
			flags |= extra[i].flag;
	if (percent(2)) {
		snprintf(c->path, sizeof(c->path), "%s", mnt);
		flags = O_TMPFILE | O_RDWR | O_CLOEXEC;
	}
	if (c->fd[slot] >= 0)
		close(c->fd[slot]);
	c->fd[slot] = open(c->path, flags, 0666);
	count(&sh->opened[c->fd[slot] >= 0]);
	return c->fd[slot];
}

static const struct op open_entry = { "open", open_op, 0, true };

static const struct op *const tables[] = { io_ops, async_ops, name_ops };

static const struct op *choose_op(void)
{
	unsigned int sum = 0, at, i;
	const struct op *op;

	for (i = 0; i < ARRAY_SIZE(tables); i++)
		for (op = tables[i]; op->fn; op++)
			sum += op->weight;
	/* One operation in seven is an open. */
	at = rnd(sum + sum / 6);
	for (i = 0; i < ARRAY_SIZE(tables); i++) {
		for (op = tables[i]; op->fn; op++) {
			if (at < op->weight)
				return op;
			at -= op->weight;
		}
	}
	return &open_entry;
}

static void slot_begin(struct slot *s, const struct op *op, unsigned int nr)
{
	s->nr = nr;
	s->what = op->name;
	if (op->changes) {
		count(&sh->begun);
		s->changing = true;
	}
	__atomic_store_n(&s->since, now(), __ATOMIC_SEQ_CST);
}

static void slot_end(struct slot *s)
{
	__atomic_store_n(&s->since, 0, __ATOMIC_SEQ_CST);
	if (s->changing) {
		s->changing = false;
		count(&sh->ended);
	}
}

static void step(struct client *c, unsigned int nr)
{
	const struct op *op;
	int fd;
	long ret;

	random_begin(ROLE_CLIENT + c->nr, nr);
	op = choose_op();
	fd = c->fd[rnd(CLIENT_FDS)];
	choose_path(c);
	choose_range(c);
	/* Operations on names need no open file. */
	if (fd < 0 && op->name[0] != '/')
		op = &open_entry;
	/*
	 * A known limit of overlayfs in its lock order; lockdep would be off
	 * after its report.
	 */
	if (op->pipe && sh->cfg.lower == LOWER_OVERLAYFS)
		op = &open_entry;

	slot_begin(&sh->slots[c->nr], op, nr);
	if (sh->verbose)
		dprintf(1, "# client %u: %u: %s\n", c->nr, nr, op->name);
	if (!sigsetjmp(no_page, 1)) {
		in_op = 1;
		errno = 0;
		ret = op->fn(c, fd);
		judge(op, ret);
	}
	in_op = 0;
	slot_end(&sh->slots[c->nr]);
	count(&sh->ops);
	count(&sh->round_ops);
}

static void limits(void)
{
	struct rlimit size = { 4 * MAX_FILE, 4 * MAX_FILE }, none = { 0, 0 };

	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &size);
	setrlimit(RLIMIT_CORE, &none);
}

static void privileges(void)
{
	if (!percent(35))
		return;
	if (percent(50)) {
		prctl(PR_CAPBSET_DROP, 4 /* CAP_FSETID */, 0, 0, 0);
		return;
	}
	if (setgroups(0, NULL) || setresgid(65534, 65534, 65534) ||
	    setresuid(65534, 65534, 65534))
		_exit(1);
	/* The daemon may copy descriptors of the client, and the operator read its fdinfo. */
	prctl(PR_SET_DUMPABLE, 1);
}

void client(unsigned int nr)
{
	struct client c = { .nr = nr, .pipe = { -1, -1 } };
	struct sigaction bus = { .sa_handler = on_bus, .sa_flags = SA_NODEFER };
	struct sigaction alarm = { .sa_handler = on_alarm };
	struct itimerval every = { { 0, 30000 }, { 0, 30000 } };
	unsigned int i;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigaction(SIGBUS, &bus, NULL);
	sigaction(SIGSEGV, &bus, NULL);
	sigaction(SIGALRM, &alarm, NULL);
	signal(SIGPIPE, SIG_IGN);
	/* SIGIO tells that a lease breaks. */
	signal(SIGIO, SIG_IGN);
	limits();
	umask(0);
	for (i = 0; i < CLIENT_FDS; i++)
		c.fd[i] = -1;
	c.buf = mmap(NULL, BUF, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	/* Data depends on its offset, so that a comparison notices moved data. */
	for (i = 0; i < BUF; i++)
		c.buf[i] = 'A' + (i + nr + (i >> 8)) % 26;
	if (pipe2(c.pipe, O_NONBLOCK | O_CLOEXEC))
		_exit(1);

	random_begin(ROLE_CLIENT + nr, -1);
	async_begin(&c);
	privileges();
	if (sh->cfg.signals && percent(50))
		setitimer(ITIMER_REAL, &every, NULL);
	for (i = 0; i < sh->cfg.ops && !sh->stop; i++)
		step(&c, i);
	/* The exit closes and unmaps the rest, as after a crash. */
	_exit(0);
}
