/* SPDX-License-Identifier: MIT */
/* wait.c - waiting for memory that somebody else writes, and for descriptors */
#include "wire/wait.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>

#include "base/clock.h"

/*
 * One side spins for longer than the other's first sleep takes, timer slack
 * and waking included: else a conversation in which one has slept once goes on
 * from sleep to sleep.
 */
#define SPIN_NS		(200 * 1000ULL)
#define FIRST_STEP_NS	(50 * 1000ULL)
/* Each sleep adds at most this part of the time that it has been quiet. */
#define STEP_PART	16
#define IDLE_NS		NS_PER_S

void backoff_init(struct backoff *b, uint64_t busy_max_ns,
		  uint64_t idle_max_ns)
{
	cpu_set_t cpus;

	b->busy_max_ns = busy_max_ns;
	b->idle_max_ns = idle_max_ns;
	/* With one CPU whoever spins keeps its peer from answering. */
	b->spins = sched_getaffinity(0, sizeof(cpus), &cpus) == 0 &&
		   CPU_COUNT(&cpus) > 1;
	backoff_active(b);
}

void backoff_active(struct backoff *b)
{
	b->active_ns = now_ns();
}

void backoff_rest(struct backoff *b)
{
	b->active_ns = now_ns() - SPIN_NS;
}

bool backoff_spins(const struct backoff *b)
{
	return b->spins && now_ns() - b->active_ns < SPIN_NS;
}

uint64_t backoff_step(const struct backoff *b)
{
	const uint64_t quiet = now_ns() - b->active_ns;
	const uint64_t max = quiet >= IDLE_NS ? b->idle_max_ns :
						b->busy_max_ns;
	const uint64_t step = quiet / STEP_PART;

	if (step < FIRST_STEP_NS)
		return FIRST_STEP_NS;
	return step < max ? step : max;
}

int wait_fds(int fd, int other, uint64_t timeout_ns)
{
	struct pollfd p[] = {
		{ .fd = fd, .events = POLLIN },
		{ .fd = other, .events = POLLIN },
	};
	const struct timespec ts = {
		.tv_sec = (time_t)(timeout_ns / NS_PER_S),
		.tv_nsec = (long)(timeout_ns % NS_PER_S),
	};

	if (ppoll(p, 2, timeout_ns == UINT64_MAX ? NULL : &ts, NULL) < 0)
		return errno == EINTR ? 0 : -errno;
	return (p[0].revents ? WAIT_READY : 0) |
	       (p[1].revents ? WAIT_OTHER : 0);
}

void wait_drain(int epoll_fd)
{
	struct epoll_event ev[8];

	(void)epoll_wait(epoll_fd, ev, 8, 0);
}
