// SPDX-License-Identifier: GPL-2.0
/*
 * work: the workers as a command, for scripts.
 *
 *	work [--seed N] DIRECTORY LOWER
 *
 * It works on files of DIRECTORY until SIGTERM.  LOWER is the same directory
 * below.  "ready" is printed when the files are open; after SIGUSR1 each worker
 * has to go on.  The last line has the number of operations, and of those after
 * the signal.
 */
#include "workers.h"

#include <signal.h>
#include <time.h>

#define LIMIT	60000

static struct workers *w;
static volatile sig_atomic_t ended;

static void mark(int sig)
{
	__atomic_store_n(&w->marked, true, __ATOMIC_RELEASE);
}

static void end(int sig)
{
	ended = 1;
}

int main(int argc, char **argv)
{
	struct sigaction on_mark = { .sa_handler = mark }, on_end = { .sa_handler = end };
	bool goes_on;
	int failed;

	random_seed = time(NULL);
	if (argc == 5 && !strcmp(argv[1], "--seed")) {
		random_seed = strtoull(argv[2], NULL, 0);
	} else if (argc != 3) {
		fprintf(stderr, "usage: work [--seed N] DIRECTORY LOWER\n");
		return 2;
	}
	random_begin(0, 0);
	w = workers_new();
	sigaction(SIGUSR1, &on_mark, NULL);
	sigaction(SIGTERM, &on_end, NULL);
	if (!w || workers_fill(argv[argc - 1]) ||
	    workers_start(w, argv[argc - 2], argv[argc - 1])) {
		fprintf(stderr, "work: no files: %m\n");
		return 1;
	}
	printf("ready\n");
	fflush(stdout);
	while (!ended)
		pause_ms(10);
	goes_on = !w->marked || workers_go_on(w, 1, LIMIT);
	failed = workers_stop(w);
	printf("%lu operations, %lu since the signal%s\n", workers_total(w->ops),
	       workers_total(w->after), goes_on ? "" : ", but not of all workers");
	return failed || !goes_on;
}
