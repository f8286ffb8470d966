/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Shared by the programs of tools/shake: random choices, results as TAP, time.
 * io_test.h and what it includes are those of the kselftests.
 */
#ifndef SHAKE_COMMON_H
#define SHAKE_COMMON_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "io_test.h"

#include <errno.h>
#include <string.h>

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

/* random.c */

/*
 * The seed determines all choices.  A choice depends on the role and on the
 * number of the step, and not on earlier choices.
 */
extern uint64_t random_seed;
void random_begin(unsigned int role, uint64_t number);
uint64_t random_bits(void);
unsigned int rnd(unsigned int n);	/* below n */
bool percent(unsigned int p);

/* common.c */

/*
 * Parse [--seed N] [--rounds N] DIRECTORY, and print the seed, another one each
 * time by default.  Returns the directory; exits after an error.
 */
char *arguments(int argc, char **argv, const char *program, unsigned long *rounds);

/* Print and count a result. */
void __attribute__((format(printf, 2, 3))) result(bool ok, const char *fmt, ...);
/* Print the plan.  Returns the exit status. */
int plan(void);

int64_t now(void);		/* milliseconds */
void pause_ms(unsigned int ms);
/* Write a string to a file, such as one of /proc. Returns 0 or -errno. */
int put(const char *path, const char *s);

#endif /* SHAKE_COMMON_H */
