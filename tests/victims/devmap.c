/* SPDX-License-Identifier: MIT */
/*
 * devmap.c - memory of a device, mapped
 *
 * VICTIM_BLOCK is a block device (in `once`: or a file) that may be overwritten,
 * of 1 MiB at least;
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

/* Calls of the host on memory of a device, there and back. */
static void calls(void)
{
	int fd = open_block(), file, pipe_fds[2];
	uint8_t *p = map_fd(fd, NULL, 2, 0, MAP_SHARED), buf[16];

	memcpy(p, "of the device", 13);
	file = (int)sys(open(in("file"), O_RDWR | O_CREAT, 0600));
	same(pwrite(file, p, 13, 0), 13);
	holds(in("file"), "of the device");
	same(pread(file, p + PAGE - 4, 13, 0), 13);
	same(memcmp(p + PAGE - 4, "of the device", 13), 0);
	same(pread(fd, buf, 9, (off_t)PAGE), 9);
	same(memcmp(buf, "he device", 9), 0);
	/* And of the target's own kernel. */
	sys(pipe(pipe_fds));
	same(write(pipe_fds[1], p, 13), 13);
	same(read(pipe_fds[0], p + 64, 13), 13);
	same(memcmp(p + 64, "of the device", 13), 0);
	/* Not any more. */
	sys(munmap(p, 2 * PAGE));
	refused(pwrite(file, p, 13, 0), EFAULT);
	refused(pread(file, p, 13, 0), EFAULT);
	sys(close(file));
	sys(close(fd));
}

/* What was opened to be read is not written to by a mapping. */
static void read_only(void)
{
	int fd = (int)sys(open(getenv("VICTIM_BLOCK"), O_RDONLY));
	void *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	check(p == MAP_FAILED && errno == EACCES, "mmap for writing: %s",
	      strerror(errno));
	p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	check(p != MAP_FAILED, "mmap: %s", strerror(errno));
	refused(mprotect(p, PAGE, PROT_READ | PROT_WRITE), EACCES);
	check(*(volatile uint8_t *)p < 255, "a byte");
	sys(munmap(p, PAGE));
	sys(close(fd));
}

/* So many mappings that ids, parts of a window, and the like are used again. */
static void again(void)
{
	int fd = open_block();

	for (int i = 0; i < fewer(500); i++) {
		uint8_t *p = map_fd(fd, NULL, 1 + (size_t)i % 5, 0, MAP_SHARED);
		uint8_t *q = map_fd(fd, NULL, 1, (off_t)PAGE, MAP_SHARED);

		p[0] = (uint8_t)i;
		q[0] = (uint8_t)~i;
		same(p[0], (uint8_t)i);
		sys(munmap(p, (1 + (size_t)i % 5) * PAGE));
		same(q[0], (uint8_t)~i);
		sys(munmap(q, PAGE));
	}
	sys(close(fd));
}

static volatile bool enough;

/* Maps and unmaps one page after the other. */
static void *keeps_mapping(void *arg)
{
	const int fd = *(int *)arg;

	for (unsigned int i = 0; !enough; i++) {
		uint8_t *p = map_fd(fd, NULL, 1, (off_t)(i % 64 * PAGE),
				    MAP_SHARED);

		sys(munmap(p, PAGE));
	}
	return NULL;
}

/* What it is mapped by is nobody else's descriptor meanwhile. */
static void descriptor(void)
{
	int fd = open_block(), want = (int)sys(dup(0));
	char link[PATH_MAX], name[64];
	pthread_t thread;

	sys(close(want));
	same(pthread_create(&thread, NULL, keeps_mapping, &fd), 0);
	for (int i = 0; i < fewer(20000); i++) {
		int copy = dup(want);
		ssize_t n;

		if (copy < 0)
			continue;
		snprintf(name, sizeof(name), "/proc/self/fd/%d", copy);
		n = sys(readlink(name, link, sizeof(link) - 1));
		link[n] = '\0';
		check(!strstr(link, "resource"), "%s has been had", link);
		sys(close(copy));
	}
	enough = true;
	same(pthread_join(thread, NULL), 0);
	sys(close(fd));
}

/* What is mapped in this process, by its name; or NULL. */
static const uint8_t *find_mapping(const char *name)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[PATH_MAX + 128];
	unsigned long start = 0;

	check(maps, "/proc/self/maps: %s", strerror(errno));
	while (!start && fgets(line, sizeof(line), maps))
		if (strstr(line, name))
			sscanf(line, "%lx", &start);
	fclose(maps);
	return (const uint8_t *)start;
}

/*
 * A child that has inherited a mapping has the device's page there, whatever
 * its parent's other thread does meanwhile.
 */
static void forks(void)
{
	const char *name = victim_shadowed() ? "resource2" :
			   getenv("VICTIM_BLOCK");
	int fd = open_block();
	pthread_t thread;

	for (int i = 0; i < 64; i++)
		same(pwrite(fd, "PAGE", 4, (off_t)(i * PAGE)), 4);
	same(pthread_create(&thread, NULL, keeps_mapping, &fd), 0);
	for (int i = 0; i < fewer(300); i++) {
		pid_t pid;

		spawned(pid) {
			const uint8_t *p = find_mapping(name);

			for (int look = 0; p && look < 5; look++) {
				same(memcmp(p, "PAGE", 4), 0);
				nap_ms(2);
			}
		}
		reap(pid);
	}
	enough = true;
	same(pthread_join(thread, NULL), 0);
	sys(close(fd));
}

/* Unmapped and closed, it is nobody's: the next may have it alone. */
static void alone(void)
{
	for (int i = 0; i < 3; i++) {
		int fd = (int)sys(open(getenv("VICTIM_BLOCK"), O_RDWR |
				       O_EXCL));
		uint8_t *p = map_fd(fd, NULL, 1, 0, MAP_SHARED), byte;

		p[0] = (uint8_t)i;
		same(pread(fd, &byte, 1, 0), 1);
		same(byte, i);
		sys(munmap(p, PAGE));
		sys(close(fd));
	}
}

/* Every mapping of /dev/zero has memory of its own. */
static void zeros(void)
{
	const char *name = getenv("VICTIM_ZERO");
	int fd = (int)sys(open(name ? name : "/dev/zero", O_RDWR));
	uint8_t *p = map_fd(fd, NULL, 2, 0, MAP_SHARED);
	uint8_t *q = map_fd(fd, NULL, 1, 0, MAP_PRIVATE);
	pid_t pid;

	memset(p, 'p', 2 * PAGE);
	same(q[0], 0);
	same(pread(fd, p + PAGE - 4, 8, 0), 8);
	same(p[PAGE - 5], 'p');
	same(p[PAGE - 4], 0);
	same(p[PAGE + 4], 'p');
	spawned(pid)
		p[0] = 'c';
	reap(pid);
	same(p[0], 'c');
	sys(munmap(p, 2 * PAGE));
	sys(munmap(q, PAGE));
	sys(close(fd));
}

static uint64_t number(const char *name, uint64_t unset)
{
	const char *value = getenv(name);

	return value ? strtoull(value, NULL, 0) : unset;
}

/* As many pages as the environment says, at the page that it says. */
static void once(void)
{
	int fd = open_block();
	uint8_t *p = map_fd(fd, NULL, number("VICTIM_PAGES", 1),
			    (off_t)(number("VICTIM_FIRST", 0) * PAGE),
			    MAP_SHARED);

	memcpy(p, "hello", 5);
	/* It goes by exec. */
	execl("/bin/true", "true", NULL);
	check(false, "exec: %s", strerror(errno));
}

/* So many at once, each of one page. */
static void several(void)
{
	const size_t n = number("VICTIM_BLOCK_MAPS", 2);
	int fd = open_block();
	uint8_t *p[64], byte;

	check(n <= 64, "more than 64");
	for (size_t i = 0; i < n; i++) {
		p[i] = map_fd(fd, NULL, 1, (off_t)(i * PAGE), MAP_SHARED);
		p[i][0] = (uint8_t)('a' + i);
	}
	for (size_t i = 0; i < n; i++) {
		same(p[i][0], 'a' + i);
		same(pread(fd, &byte, 1, (off_t)(i * PAGE)), 1);
		same(byte, 'a' + i);
		sys(munmap(p[i], PAGE));
	}
	sys(close(fd));
}

/* Until somebody ends it. */
static void for_ever(void)
{
	int fd = open_block(), begun = (int)sys(open(in("begun"), O_CREAT |
						     O_WRONLY, 0600));

	sys(close(begun));
	for (;;) {
		uint8_t *p = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE,
				  MAP_SHARED, fd, 0);

		if (p == MAP_FAILED)
			_exit(errno == EIO ? 0 : 1);
		p[PAGE]++;
		munmap(p, 4 * PAGE);
	}
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
		CASE(shares), CASE(lives), CASE(inherited), CASE(calls),
		CASE(read_only), CASE(again), CASE(descriptor), CASE(forks),
		CASE(alone), CASE(zeros), CASE(once), CASE(live), CASE(stress),
		CASE(for_ever), CASE(several),
	};

	return VICTIM_MAIN(argc, argv, cases);
}
