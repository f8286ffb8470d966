// SPDX-License-Identifier: GPL-2.0
/*
 * What disturbs a round: freezes, remounts, dropped caches, killed clients,
 * and its end.  The operator also ends operations that take too long.
 */
#include "shake.h"

#include <linux/fs.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>

bool reap(pid_t pid, int64_t limit)
{
	int64_t end = now() + limit;

	while (!waitpid(pid, NULL, WNOHANG)) {
		if (now() > end)
			return false;
		pause_ms(5);
	}
	return true;
}

void thaw(void)
{
	int fd = open(lower, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0) {
		ioctl(fd, FITHAW, 0);
		close(fd);
	}
}

static void freeze(void)
{
	unsigned int ms = 1 + rnd(200);
	int fd = open(lower, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0 && !ioctl(fd, FIFREEZE, 0)) {
		count(&sh->freezes);
		pause_ms(ms);
		ioctl(fd, FITHAW, 0);
	}
}

/* For a while with other flags; read-only only where no result is judged */
static void remount(void)
{
	static const unsigned long flags[] = { MS_NOATIME, MS_STRICTATIME, MS_NODIRATIME,
		MS_SYNCHRONOUS, MS_NOEXEC | MS_NOSUID, MS_RDONLY, MS_RDONLY };
	const char *path = percent(50) ? mnt : lower;
	unsigned long one = MS_REMOUNT | (percent(50) ? MS_BIND : 0);
	unsigned long flag = flags[rnd(ARRAY_SIZE(flags) - (sh->cfg.calm ? 3 : 0))];
	unsigned int ms = 1 + rnd(200);

	if (mount(NULL, path, NULL, one | flag, NULL))
		return;
	count(&sh->remounts);
	pause_ms(ms);
	mount(NULL, path, NULL, one, NULL);
}

/* In a child: these calls may wait for clients that wait for the daemon. */
static pid_t apart(void (*disturb)(void))
{
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	disturb();
	_exit(0);
}

/* Kill a client in the middle of an operation.  No other client replaces it. */
static void kill_client(struct slot *s)
{
	if (!s->pid)
		return;
	/* The operation has no defined result. */
	__atomic_store_n(&sh->disturbed, true, __ATOMIC_SEQ_CST);
	kill(s->pid, SIGKILL);
	count(&sh->kills);
}

static void end(pid_t server, unsigned int *gone)
{
	__atomic_store_n(&sh->disturbed, sh->cfg.ending != END_QUIET, __ATOMIC_SEQ_CST);
	switch (sh->cfg.ending) {
	case END_KILL:
		kill(server, SIGKILL);
		count(&sh->kills);
		break;
	case END_ABORT:
		abort_connection();
		break;
	case END_FORCE:
		/* This aborts, whether or not the mount is busy. */
		if (!umount2(mnt, MNT_FORCE))
			*gone |= 1;
		break;
	case END_LAZY:
		if (!umount2(mnt, MNT_DETACH))
			*gone |= 1;
		break;
	case END_LOWER_LAZY:
		if (!umount2(lower, MNT_DETACH))
			*gone |= 2;
		break;
	case END_LOWER_READ_ONLY:
		/* This fails if a file is open for writing. */
		mount(NULL, lower, NULL, MS_REMOUNT | MS_RDONLY, NULL);
		break;
	case END_LOWER_SHUTDOWN:
		if (!lower_shutdown())
			count(&sh->shutdowns);
		break;
	default:
		break;
	}
}

/* Thaw, abort and kill, with a pause after each */
static void watch(struct slot *s, unsigned int *stage)
{
	/* Requests may have no answer, and daemons and clients may wait for themselves. */
	bool expected = sh->cfg.silent || sh->cfg.own_files || sh->cfg.map_buffers;
	int64_t limit = expected ? sh->limit / 20 : sh->limit;
	int64_t since = __atomic_load_n(&s->since, __ATOMIC_SEQ_CST);
	int64_t late = since ? now() - since - limit : -1;

	if (late < 0) {
		*stage = 0;
		return;
	}
	if (*stage == 0) {
		thaw();
		*stage = 1;
	} else if (*stage == 1 && late > 1000) {
		__atomic_store_n(&sh->disturbed, true, __ATOMIC_SEQ_CST);
		if (!expected) {
			bad(V_HANG, "operation %u, %s, of process %d takes too long",
			    s->nr, s->what, s->pid);
			put("/proc/sysrq-trigger", "w");
		}
		abort_connection();
		*stage = 2;
	} else if (*stage == 2 && late > 1000 + sh->limit) {
		bad(V_HANG, "operation %u, %s, of process %d goes on after an abort",
		    s->nr, s->what, s->pid);
		put("/proc/sysrq-trigger", "w");
		kill(s->pid, SIGKILL);
		*stage = 3;
	}
}

static unsigned int clients_left(void)
{
	unsigned int left = 0, i;
	int status;

	for (i = 0; i < sh->cfg.clients; i++) {
		struct slot *s = &sh->slots[i];

		if (!s->pid)
			continue;
		if (waitpid(s->pid, &status, WNOHANG) != s->pid) {
			left++;
			continue;
		}
		s->pid = 0;
		s->since = 0;
		if (s->changing)
			count(&sh->ended);
		s->changing = false;
		if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
			bad(V_REQUEST, "client %u ended by signal %d in operation %u, %s",
			    i, WTERMSIG(status), s->nr, s->what);
	}
	return left;
}

void operate(pid_t server, unsigned int *gone)
{
	unsigned long total = (unsigned long)sh->cfg.ops * sh->cfg.clients;
	unsigned int stage[CLIENTS] = {}, i;
	unsigned long end_at;
	uint64_t number = 0;
	pid_t child = 0;
	bool ended = false;

	random_begin(ROLE_OPERATOR, -1);
	end_at = total * (20 + rnd(70)) / 100;
	while (clients_left()) {
		random_begin(ROLE_OPERATOR, number++);
		pause_ms(10 + rnd(20));
		for (i = 0; i < sh->cfg.clients; i++)
			watch(&sh->slots[i], &stage[i]);
		if (child && waitpid(child, NULL, WNOHANG) == child)
			child = 0;
		if (sh->cfg.freezes && !child && !(*gone & 2) && percent(4))
			child = apart(freeze);
		if (sh->cfg.remounts && !child && !*gone && percent(4))
			child = apart(remount);
		if (percent(4))
			put("/proc/sys/vm/drop_caches", percent(50) ? "1" : "3");
		if (!sh->cfg.calm && percent(1))
			kill_client(&sh->slots[rnd(sh->cfg.clients)]);
		if (!ended && counted(&sh->round_ops) >= end_at) {
			ended = true;
			end(server, gone);
		}
	}
	if (child) {
		/* A remount writes back, and the daemon may not answer. */
		if (!sh->cfg.calm)
			abort_connection();
		if (!reap(child, sh->limit)) {
			bad(V_HANG, "a freeze or remount takes too long");
			abort_connection();
			kill(child, SIGKILL);
			reap(child, sh->limit);
		}
		thaw();
	}
}
