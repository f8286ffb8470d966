// SPDX-License-Identifier: GPL-2.0
/* Results, time, files with a number or a word */
#include "common.h"

#include <getopt.h>
#include <stdarg.h>
#include <time.h>

static unsigned int tests, failures;

char *arguments(int argc, char **argv, const char *program, unsigned long *rounds)
{
	static const struct option options[] = {
		{ "seed", required_argument, NULL, 's' },
		{ "rounds", required_argument, NULL, 'r' },
		{}
	};
	int o;

	random_seed = time(NULL) % 1000000;
	*rounds = 1000;
	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (o == 's')
			random_seed = strtoull(optarg, NULL, 0);
		else if (o == 'r')
			*rounds = strtoul(optarg, NULL, 0);
		else
			break;
	}
	if (o != -1 || optind != argc - 1) {
		fprintf(stderr, "usage: %s [--seed N] [--rounds N] DIRECTORY\n", program);
		exit(2);
	}
	printf("# %s: seed %llu\n", program, (unsigned long long)random_seed);
	fflush(stdout);
	return argv[optind];
}

void result(bool ok, const char *fmt, ...)
{
	va_list ap;

	tests++;
	failures += !ok;
	printf("%sok %u - ", ok ? "" : "not ", tests);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
}

int plan(void)
{
	printf("1..%u\n", tests);
	return failures != 0;
}

int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000ll + t.tv_nsec / 1000000;
}

void pause_ms(unsigned int ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000l };

	nanosleep(&t, NULL);
}

int put(const char *path, const char *s)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, s, strlen(s)) < 0)
		err = -errno;
	close(fd);
	return err;
}
