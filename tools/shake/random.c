// SPDX-License-Identifier: GPL-2.0
/* Random choices.  Each step of each role has its own sequence. */
#include "common.h"

uint64_t random_seed;

static __thread uint64_t state;

/* splitmix64 */
uint64_t random_bits(void)
{
	uint64_t z = (state += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

void random_begin(unsigned int role, uint64_t number)
{
	state = random_seed;
	state = random_bits() + role;
	state = random_bits() + number;
	random_bits();
}

unsigned int rnd(unsigned int n)
{
	return (random_bits() >> 32) % n;
}

bool percent(unsigned int p)
{
	return rnd(100) < p;
}
