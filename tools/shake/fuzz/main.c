// SPDX-License-Identifier: GPL-2.0
/*
 * The command line, the rounds, the check for leftovers, and the verdict as
 * TAP.  The first line is the seed.
 */
#include "shake.h"

#include <dirent.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#define ROUND_OPS	300
/* So many rounds choose every way to attach */
#define MANY_ROUNDS	10

/* How long clients wait for leases of others; the default is 45 s */
#define LEASE_BREAK_TIME	"/proc/sys/fs/lease-break-time"

struct shared *sh;

static const char usage[] =
	"usage: fuzz [--seed N] [--operations N] [--seconds N] [--limit N] [--verbose]\n"
	"\n"
	"  --seed N        of the first round, the next ones follow (another each time)\n"
	"  --operations N  of clients, at least; rounds are not cut short (20000)\n"
	"  --seconds N     no operation begins later (no limit)\n"
	"  --limit N       seconds that one call may take (60)\n"
	"  --verbose       each operation\n"
	"\n"
	"Run as root. To replay a round, give its seed and --operations 1.\n";

void bad(enum verdict v, const char *fmt, ...)
{
	char line[400];
	va_list ap;
	int n;

	count(&sh->bad[v]);
	n = snprintf(line, sizeof(line), "# seed %llu: ", (unsigned long long)sh->cfg.seed);
	va_start(ap, fmt);
	vsnprintf(line + n, sizeof(line) - n, fmt, ap);
	va_end(ap);
	dprintf(1, "%s\n", line);
}

/* Resources that a run must not leave behind */
struct left {
	long files, threads, connections;
};

#define PF_KTHREAD	0x00200000

/* Indices of fields in /proc/PID/stat, counted after the name */
enum { STAT_FLAGS = 6, STAT_THREADS = 17 };

/* Number of threads of a process; of kernel threads, only those of FUSE count */
static long threads_of(const char *pid)
{
	char path[300], line[512], *p, *word;
	long flags = 0, threads = 0;
	bool fuse;
	FILE *f;
	int i;

	snprintf(path, sizeof(path), "/proc/%s/stat", pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	p = fgets(line, sizeof(line), f);
	fclose(f);
	fuse = p && strstr(line, "(fuse");
	p = p ? strrchr(line, ')') : NULL;
	if (!p)
		return 0;
	p += 2;
	for (i = 0; (word = strsep(&p, " ")); i++) {
		if (i == STAT_FLAGS)
			flags = atol(word);
		else if (i == STAT_THREADS)
			threads = atol(word);
	}
	return flags & PF_KTHREAD ? fuse : threads;
}

static void look(struct left *left)
{
	DIR *proc = opendir("/proc"), *conn = opendir("/sys/fs/fuse/connections");
	struct dirent *e;

	memset(left, 0, sizeof(*left));
	left->files = number_in("/proc/sys/fs/file-nr", "%ld");
	while (proc && (e = readdir(proc)))
		if (e->d_name[0] >= '0' && e->d_name[0] <= '9')
			left->threads += threads_of(e->d_name);
	while (conn && (e = readdir(conn)))
		left->connections++;
	if (proc)
		closedir(proc);
	if (conn)
		closedir(conn);
}

/* Each CPU counts files itself, and the sum is updated only now and then. */
#define FILES_SLACK	128

static bool all_gone(const struct left *before)
{
	int64_t end = now() + sh->limit;
	struct left after;

	for (;;) {
		look(&after);
		if (after.files <= before->files + FILES_SLACK &&
		    after.threads <= before->threads &&
		    after.connections <= before->connections)
			return true;
		if (now() > end)
			break;
		pause_ms(50);
	}
	dprintf(1, "# files %ld, then %ld; threads %ld, then %ld; connections %ld, then %ld\n",
		before->files, after.files, before->threads, after.threads,
		before->connections, after.connections);
	return false;
}

static void summary(void)
{
	dprintf(1, "# %lu rounds, %lu operations, %lu requests, opens %lu and %lu refused\n",
		sh->rounds, sh->ops, sh->requests, sh->opened[1], sh->opened[0]);
	dprintf(1, "# attached %lu by request, %lu by id, %lu by inode\n",
		sh->attached[BY_REQUEST], sh->attached[BY_ID], sh->attached[BY_INODE]);
	dprintf(1, "# refused %lu by request, %lu by id, %lu by inode; odd files %lu\n",
		sh->refused[BY_REQUEST], sh->refused[BY_ID], sh->refused[BY_INODE], sh->odd);
	dprintf(1, "# %lu wrong answers, %lu notifications, %lu kills\n",
		sh->wrong, sh->notified, sh->kills);
	dprintf(1, "# %lu freezes, %lu remounts, %lu shutdowns\n", sh->freezes, sh->remounts,
		sh->shutdowns);
	dprintf(1, "# of %lu passthrough files seen, %lu compared\n", sh->passed,
		sh->compared);
}

static int verdict(const struct left *before)
{
	static const char *const what[NR_VERDICTS] = {
		[V_HANG] = "no operation hangs",
		[V_ERRNO] = "errors are those that the rules allow",
		[V_DATA] = "data is that of the lower file",
		[V_REQUEST] = "no READ and no WRITE of a passthrough file",
		[V_UNMOUNT] = "nothing stays mounted",
	};
	unsigned int v;

	summary();
	for (v = 0; v < NR_VERDICTS; v++)
		result(!sh->bad[v], "fuzz: %s", what[v]);
	result(all_gone(before), "fuzz: files, threads and connections are gone");
	if (sh->rounds >= MANY_ROUNDS)
		result(sh->attached[BY_REQUEST] && sh->attached[BY_ID] &&
		       sh->attached[BY_INODE] && sh->refused[BY_REQUEST] &&
		       sh->refused[BY_ID] && sh->refused[BY_INODE] && sh->compared,
		       "fuzz: files passed through in every way");
	return plan();
}

/* Each wait of a round has a limit.  Returns false if the round did not end. */
static bool wait_round(pid_t pid, int64_t deadline)
{
	int64_t hopeless = now() + 10 * sh->limit + 120000;
	int status;

	while (!waitpid(pid, &status, WNOHANG)) {
		if (now() > deadline)
			__atomic_store_n(&sh->stop, true, __ATOMIC_SEQ_CST);
		if (now() > hopeless) {
			bad(V_HANG, "the round does not end");
			put("/proc/sysrq-trigger", "w");
			abort_connection();
			kill(pid, SIGKILL);
			return false;
		}
		pause_ms(20);
	}
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		exit(2);
	return true;
}

static void begin_round(void)
{
	sh->ready = false;
	sh->stop = false;
	sh->disturbed = false;
	sh->conn = -1;
	sh->round_ops = 0;
	sh->begun = 0;
	sh->ended = 0;
	memset(sh->slots, 0, sizeof(sh->slots));
}

static void rounds(uint64_t seed, unsigned long operations, int64_t deadline)
{
	pid_t pid;

	while (sh->ops < operations && now() < deadline) {
		begin_round();
		configure(seed++, ROUND_OPS);
		pid = fork();
		if (!pid)
			run_round();
		if (!wait_round(pid, deadline))
			return;
		sh->rounds++;
	}
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seed", required_argument, NULL, 's' },
		{ "operations", required_argument, NULL, 'o' },
		{ "seconds", required_argument, NULL, 't' },
		{ "limit", required_argument, NULL, 'l' },
		{ "verbose", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' },
		{ "nothing", no_argument, NULL, 'n' },	/* for clients that execute the program */
		{}
	};
	unsigned long operations = 20000, seconds = 0, limit = 60;
	uint64_t seed = time(NULL) % 1000000;
	char dir[] = "/tmp/fuzz.XXXXXX";
	bool verbose = false;
	struct left before;
	char text[32];
	long lease;
	int o, err;

	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (o) {
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 'o':
			operations = strtoul(optarg, NULL, 0);
			break;
		case 't':
			seconds = strtoul(optarg, NULL, 0);
			break;
		case 'l':
			limit = strtoul(optarg, NULL, 0);
			break;
		case 'v':
			verbose = true;
			break;
		case 'n':
			return 0;
		case 'h':
			fputs(usage, stdout);
			return 0;
		default:
			fputs(usage, stderr); return 2;
		}
	}
	dprintf(1, "seed %llu\n", (unsigned long long)seed);
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (sh == MAP_FAILED)
		return 2;
	sh->limit = limit * 1000;
	sh->verbose = verbose;
	if (!mkdtemp(dir))
		return 2;
	err = lower_setup(dir);
	if (err) {
		dprintf(1, "Bail out! no lower file system: %s\n", strerror(-err));
		return 2;
	}
	look(&before);
	lease = number_in(LEASE_BREAK_TIME, "%ld");
	put(LEASE_BREAK_TIME, "1");
	rounds(seed, operations, seconds ? now() + seconds * 1000 : INT64_MAX);
	lower_cleanup();
	rmdir(dir);
	snprintf(text, sizeof(text), "%ld", lease);
	put(LEASE_BREAK_TIME, text);
	return verdict(&before);
}
