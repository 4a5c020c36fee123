/* SPDX-License-Identifier: MIT */
/*
 * devmap.c - memory of a device, mapped
 *
 * VICTIM_BLOCK is a block device that may be overwritten, of 1 MiB at least;
 * VICTIM_NODES are names of character devices, separated by blanks.
 */
#include "victim.h"

#include <linux/fs.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <time.h>

#define PAGE	4096UL
#define PAGES	16UL

static int open_block(void)
{
	const char *name = getenv("VICTIM_BLOCK");

	if (!name)
		victim_skip("VICTIM_BLOCK is not set");
	return (int)sys(open(name, O_RDWR | O_CLOEXEC));
}

static uint8_t *map_fd(int fd, void *at, size_t pages, off_t offset, int flags)
{
	uint8_t *p = mmap(at, pages * PAGE, PROT_READ | PROT_WRITE, flags, fd,
			  offset);

	check(p != MAP_FAILED, "mmap: %s", strerror(errno));
	check(!(flags & MAP_FIXED) || p == at, "not at the address");
	return p;
}

/* What is written by a mapping is read by a call, and the other way round. */
static void shares(void)
{
	int fd = open_block();
	uint8_t *p = map_fd(fd, NULL, PAGES, (off_t)PAGE, MAP_SHARED);
	uint8_t buf[8];

	memcpy(p + PAGE, "by store", 8);
	same(pread(fd, buf, 8, (off_t)(2 * PAGE)), 8);
	same(memcmp(buf, "by store", 8), 0);
	same(pwrite(fd, "by write", 8, (off_t)(3 * PAGE)), 8);
	same(memcmp(p + 2 * PAGE, "by write", 8), 0);
	sys(munmap(p, PAGES * PAGE));
	sys(close(fd));
}

/* Over memory of the target's own, in parts, moved, and protected. */
static void lives(void)
{
	const int fixed = MAP_SHARED | MAP_FIXED;
	int fd = open_block();
	uint8_t *own = map_fd(-1, NULL, PAGES, 0, MAP_PRIVATE | MAP_ANONYMOUS);
	uint8_t *p = map_fd(fd, own + 4 * PAGE, 4, 0, fixed), *moved;
	uint8_t buf[8];

	memset(own, 'o', 4 * PAGE);
	for (size_t i = 0; i < 4; i++)
		p[i * PAGE] = (uint8_t)('0' + i);
	/* A hole in its middle, and something else there. */
	sys(munmap(p + PAGE, PAGE));
	map_fd(-1, p + PAGE, 1, 0, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED);
	same(pread(fd, p + PAGE, 1, (off_t)(2 * PAGE)), 1);
	same(p[PAGE], '2');
	same(p[0], '0');
	same(p[3 * PAGE], '3');
	/* Calls that point beside it. */
	same(pread(fd, own, 1, (off_t)(3 * PAGE)), 1);
	same(own[0], '3');
	moved = mremap(p + 2 * PAGE, 2 * PAGE, 4 * PAGE, MREMAP_MAYMOVE);
	check(moved != MAP_FAILED, "mremap: %s", strerror(errno));
	same(moved[0], '2');
	same(moved[PAGE], '3');
	moved[2 * PAGE] = 'm';
	same(pread(fd, buf, 1, (off_t)(4 * PAGE)), 1);
	same(buf[0], 'm');
	sys(mprotect(moved, PAGE, PROT_READ));
	same(moved[0], '2');
	same(pwrite(fd, "r", 1, (off_t)(2 * PAGE)), 1);
	same(moved[0], 'r');
	sys(mprotect(moved, PAGE, PROT_READ | PROT_WRITE));
	moved[0] = 'w';
	/* It outlives its descriptor. */
	sys(close(fd));
	moved[1] = 'c';
	fd = open_block();
	same(pread(fd, buf, 2, (off_t)(2 * PAGE)), 2);
	same(memcmp(buf, "wc", 2), 0);
	sys(munmap(moved, 4 * PAGE));
	sys(munmap(own, PAGES * PAGE));
	sys(close(fd));
}

/* A child inherits it: one page for both. */
static void inherited(void)
{
	int fd = open_block();
	uint8_t *p = map_fd(fd, NULL, 1, 0, MAP_SHARED);
	pid_t pid;

	p[0] = 'p';
	spawned(pid) {
		same(p[0], 'p');
		p[1] = 'c';
	}
	reap(pid);
	same(p[1], 'c');
	sys(munmap(p, PAGE));
	sys(close(fd));
}

/* Someone else counts word 0 up; word 1 is what of it has been seen here. */
static void live(void)
{
	const uint32_t turns = 1000;
	int fd = open_block();
	uint8_t *p = map_fd(fd, NULL, 1, 0, MAP_SHARED);
	uint32_t *word = (uint32_t *)p, seen;

	alarm(60);
	do {
		seen = __atomic_load_n(&word[0], __ATOMIC_ACQUIRE);
		__atomic_store_n(&word[1], seen, __ATOMIC_RELEASE);
	} while (seen < turns);
	sys(munmap(p, PAGE));
	sys(close(fd));
}

struct stress {
	const char **nodes;
	size_t nnodes;
	double until;
	unsigned int seed;
};

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void mixes_block(int fd, unsigned int *seed)
{
	const size_t pages = 1 + (size_t)rand_r(seed) % PAGES;
	uint8_t *p = map_fd(fd, NULL, pages, 0, MAP_SHARED);
	uint8_t own[PAGE];
	uint64_t size;

	for (size_t i = 0; i < pages; i++)
		p[i * PAGE + (size_t)rand_r(seed) % PAGE] = (uint8_t)i;
	sys(ioctl(fd, BLKGETSIZE64, &size));
	check(size >= 1UL << 20, "it has shrunk");
	same(pread(fd, own, PAGE, (off_t)((pages - 1) * PAGE)), PAGE);
	sys(munmap(p, pages * PAGE));
}

static void *mixes(void *arg)
{
	const struct stress *s = arg;
	unsigned int seed = s->seed;
	uint64_t turns = 0;

	for (; now() < s->until; turns++) {
		const char *name = s->nodes[(size_t)rand_r(&seed) % s->nnodes];
		int fd = turns % 3 ? (int)sys(open(name, O_RDONLY)) :
				     open_block();
		struct pollfd p = { .fd = fd, .events = POLLIN };
		int pending;

		same(poll(&p, 1, 0) >= 0, 1);
		if (turns % 3 == 0)
			mixes_block(fd, &seed);
		else
			check(ioctl(fd, FIONREAD, &pending) == 0 ||
			      errno == ENOTTY || errno == EINVAL ||
			      errno == ENOSYS,
			      "%s: FIONREAD: %s", name, strerror(errno));
		sys(close(fd));
	}
	return (void *)turns;
}

/* Eight threads with all of it at once, for VICTIM_SECONDS. */
static void stress(void)
{
	const char *seconds = getenv("VICTIM_SECONDS");
	char *names = strdup(getenv("VICTIM_NODES") ?: ""), *name;
	const char *nodes[8];
	struct stress s[8];
	pthread_t threads[8];
	size_t nnodes = 0;

	while (nnodes < 8 && (name = strsep(&names, " ")))
		if (*name)
			nodes[nnodes++] = name;
	if (!nnodes)
		victim_skip("VICTIM_NODES is not set");
	for (unsigned int i = 0; i < 8; i++) {
		s[i] = (struct stress){ nodes, nnodes,
			now() + (seconds ? atoi(seconds) : 2), i };
		same(pthread_create(&threads[i], NULL, mixes, &s[i]), 0);
	}
	for (unsigned int i = 0; i < 8; i++) {
		void *turns;

		same(pthread_join(threads[i], &turns), 0);
		check((uintptr_t)turns > 0, "a thread has done nothing");
	}
	/* Nothing is left open: the lowest number is what it was. */
	same(open(nodes[0], O_RDONLY), 3);
}

int main(int argc, char **argv)
{
	static const struct victim_case cases[] = {
		CASE(shares), CASE(lives), CASE(inherited), CASE(live),
		CASE(stress),
	};

	return VICTIM_MAIN(argc, argv, cases);
}
