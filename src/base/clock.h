/* SPDX-License-Identifier: MIT */
/* clock.h - times, and spans of them, in nanoseconds */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define NS_PER_MS	1000000LL
#define NS_PER_S	1000000000LL

static inline int64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

/* clock_sleep() - for so long, or until a signal */
static inline void clock_sleep(clockid_t clock, int64_t ns)
{
	struct timespec ts = { .tv_sec = ns / NS_PER_S,
			       .tv_nsec = ns % NS_PER_S };

	clock_nanosleep(clock, 0, &ts, NULL);
}

#endif
