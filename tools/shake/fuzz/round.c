// SPDX-License-Identifier: GPL-2.0
/* A round: its configuration, start and end, and the check that nothing is left of it */
#include "shake.h"

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static uint64_t choose_flags(void)
{
	static const struct { unsigned int chance; uint64_t flag; } optional[] = {
		{ 35, FUSE_WRITEBACK_CACHE }, { 30, FUSE_HANDLE_KILLPRIV },
		{ 25, FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT }, { 30, FUSE_ATOMIC_O_TRUNC },
		{ 30, FUSE_POSIX_ACL }, { 15, FUSE_POSIX_LOCKS }, { 15, FUSE_FLOCK_LOCKS },
		{ 20, FUSE_SPLICE_READ }, { 20, FUSE_SPLICE_WRITE | FUSE_SPLICE_MOVE },
		{ 30, FUSE_DONT_MASK }, { 15, FUSE_AUTO_INVAL_DATA },
		{ 10, FUSE_EXPLICIT_INVAL_DATA }, { 20, FUSE_NO_OPEN_SUPPORT },
		{ 20, FUSE_NO_OPENDIR_SUPPORT }, { 20, FUSE_CACHE_SYMLINKS },
		{ 20, FUSE_EXPORT_SUPPORT }, { 80, FUSE_PARALLEL_DIROPS },
	};
	uint64_t flags = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_MAX_PAGES | FUSE_INIT_EXT;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(optional); i++)
		if (percent(optional[i].chance))
			flags |= optional[i].flag;
	if (percent(95))
		flags |= FUSE_PASSTHROUGH;
	return flags;
}

static enum lower_kind choose_lower(void)
{
	enum lower_kind kind = percent(35) ? LOWER_EXT4 : percent(25) ? LOWER_XFS :
		percent(25) ? LOWER_BTRFS : percent(60) ? LOWER_TMPFS : LOWER_OVERLAYFS;

	return lower_has(kind) ? kind : LOWER_EXT4;
}

void configure(uint64_t seed, unsigned int ops)
{
	struct config *c = &sh->cfg;

	memset(c, 0, sizeof(*c));
	c->seed = seed;
	random_seed = seed;
	random_begin(ROLE_ROUND, 0);
	c->calm = percent(40);
	c->lower = choose_lower();
	/* Most calm rounds stay calm to the end. */
	c->ending = percent(c->calm ? 60 : 30) ? END_QUIET : rnd(NR_ENDINGS);
	c->init_flags = choose_flags();
	c->checked = percent(70);
	c->rootless = percent(25);
	c->silent = !c->calm && percent(25);
	c->own_files = !c->calm && percent(20);
	c->map_buffers = !c->calm && percent(20);
	c->signals = percent(40);
	c->no_open = percent(6);
	c->no_opendir = percent(20);
	/*
	 * overlayfs takes locks in an order that a freeze of its file system
	 * does not permit.
	 */
	c->freezes = c->lower < NR_DISKS && percent(50);
	c->remounts = percent(30);
	c->threads = 1 + rnd(THREADS);
	c->clones = rnd(DEVICES);
	/* Only a single client's data can be compared without interference. */
	c->clients = percent(40) ? 1 : 1 + rnd(CLIENTS);
	c->depth = c->lower == LOWER_OVERLAYFS ? 2 : rnd(3);
	if (!c->calm && percent(8))
		c->depth = rnd(5);
	c->ops = ops / c->clients;
}

static void show(const struct config *c)
{
	static const char *const endings[] = { "quiet", "kill", "abort", "umount -f",
		"umount -l", "umount -l of the lower", "read-only lower",
		"shutdown of the lower" };
	char line[400];

	snprintf(line, sizeof(line),
		 "round seed %llu: %s, %s%s, ends by %s, %u clients of %u operations, %u threads, %u clones, INIT %#llx depth %u%s%s%s%s%s%s%s%s",
		 (unsigned long long)c->seed, lower_names[c->lower], c->calm ? "calm" : "not calm",
		 c->silent ? " and silent" : "", endings[c->ending], c->clients, c->ops,
		 c->threads, c->clones, (unsigned long long)c->init_flags, c->depth,
		 c->checked ? ", default_permissions" : "", c->rootless ? ", rootless" : "",
		 c->own_files ? ", own files" : "", c->map_buffers ? ", mapped buffers" : "",
		 c->signals ? ", signals" : "", c->no_open ? ", no open" : "",
		 c->freezes ? ", freezes" : "", c->remounts ? ", remounts" : "");
	dprintf(1, "# %s\n", line);
	/* Put the line among the kernel's own messages. */
	snprintf(line, sizeof(line), "fuzz: round seed %llu\n", (unsigned long long)c->seed);
	put("/dev/kmsg", line);
}

/* The number of the connection, without a request to the daemon */
static int connection(void)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char line[1024], point[256];
	int minor, found = -1;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%*d %*d %*d:%d %*s %255s", &minor, point) == 2 &&
		    !strcmp(point, mnt))
			found = minor;
	if (f)
		fclose(f);
	return found;
}

void abort_connection(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%d/abort", sh->conn);
	if (sh->conn >= 0)
		put(path, "1");
}

static void __attribute__((noreturn)) broken(const char *what, int err)
{
	dprintf(1, "Bail out! %s: %s\n", what, strerror(-err));
	_exit(2);
}

static pid_t start(void)
{
	int dev = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	int64_t end = now() + sh->limit;
	char options[128];
	pid_t pid;

	snprintf(options, sizeof(options),
		 "fd=%d,rootmode=40777,user_id=0,group_id=0,allow_other%s", dev,
		 sh->cfg.checked ? ",default_permissions" : "");
	if (dev < 0 ||
	    mount("fuzz", mnt, "fuse", percent(10) ? MS_SYNCHRONOUS : 0, options))
		broken("no mount", -errno);
	sh->conn = connection();
	pid = fork();
	if (!pid)
		server(dev);
	close(dev);
	while (pid > 0 && !__atomic_load_n(&sh->ready, __ATOMIC_SEQ_CST)) {
		if (now() > end)
			broken("no INIT", -ETIMEDOUT);
		pause_ms(1);
	}
	return pid;
}

/* When all clients have ended, no passthrough file is left while the daemon serves. */
static void files_gone(void)
{
	int64_t end = now() + sh->limit;
	char path[80];

	snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%d/passthrough", sh->conn);
	while (number_in(path, "%ld") > 0) {
		if (now() > end) {
			bad(V_UNMOUNT, "%ld passthrough files are left", number_in(path, "%ld"));
			return;
		}
		pause_ms(5);
	}
}

static void stop(pid_t server, unsigned int gone)
{
	int err;

	random_begin(ROLE_ROUND, 1);
	if (strict())
		files_gone();
	__atomic_store_n(&sh->stop, true, __ATOMIC_SEQ_CST);
	/*
	 * A daemon that has files of its own mount open keeps the mount
	 * busy.  When it dies, it closes them and waits for itself.
	 */
	if (sh->cfg.own_files)
		abort_connection();
	if (sh->cfg.own_files || sh->cfg.silent || percent(40)) {
		kill(server, SIGKILL);
		if (!reap(server, sh->limit))
			bad(V_HANG, "the daemon does not die");
	}
	if (!(gone & 1)) {
		err = unmount_wait(mnt);
		if (err) {
			bad(V_UNMOUNT, "the mount: %s", strerror(-err));
			abort_connection();
			umount2(mnt, MNT_DETACH);
		}
	}
	if (!reap(server, sh->limit)) {
		bad(V_HANG, "the daemon does not end after umount");
		kill(server, SIGKILL);
		reap(server, sh->limit);
	}
	err = lower_unmount(gone & 2);
	if (err) {
		bad(V_UNMOUNT, "the lower file system: %s", strerror(-err));
		umount2(lower, MNT_DETACH);
	}
}

void run_round(void)
{
	unsigned int gone = 0, i;
	pid_t server_pid;
	int err;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGINT, SIG_DFL);
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		broken("no mount namespace", -errno);
	show(&sh->cfg);
	random_begin(ROLE_ROUND, 2);
	err = lower_mount() ?: lower_fill();
	if (err)
		broken("no lower file system", err);
	server_pid = start();
	for (i = 0; i < sh->cfg.clients; i++) {
		pid_t pid = fork();

		if (!pid)
			client(i);
		sh->slots[i].pid = pid;
	}
	operate(server_pid, &gone);
	stop(server_pid, gone);
	_exit(0);
}
