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

/*
 * now_ns(), now_ms() - of CLOCK_MONOTONIC: it is set by nobody, and stands still
 * while the machine is suspended
 */
static inline uint64_t now_ns(void)
{
	return (uint64_t)clock_ns(CLOCK_MONOTONIC);
}

static inline uint64_t now_ms(void)
{
	return now_ns() / NS_PER_MS;
}

/* clock_sleep() - for so long, or until a signal */
static inline void clock_sleep(clockid_t clock, int64_t ns)
{
	struct timespec ts = { .tv_sec = ns / NS_PER_S,
			       .tv_nsec = ns % NS_PER_S };

	clock_nanosleep(clock, 0, &ts, NULL);
}

#endif
