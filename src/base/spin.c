/* SPDX-License-Identifier: MIT */
/* spin.c - for how long to look for something before one sleeps */
#include "base/spin.h"

#include <sched.h>

#include "base/clock.h"

#define TURNS 64

uint32_t spin_looks(unsigned int us, bool elsewhere)
{
	uint64_t began, took, least = UINT64_MAX;
	cpu_set_t set;

	if (!elsewhere && sched_getaffinity(0, sizeof(set), &set) == 0 &&
	    CPU_COUNT(&set) < 2)
		return 0;
	/* The quickest of some: the others were interrupted. */
	for (int i = 0; i < 3; i++) {
		began = now_ns();
		for (int n = 0; n < TURNS; n++)
			__builtin_ia32_pause();
		took = now_ns() - began;
		if (took < least)
			least = took;
	}
	return (uint32_t)(us * 1000ULL * TURNS / (least + 1));
}
