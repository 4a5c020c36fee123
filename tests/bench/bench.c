/* SPDX-License-Identifier: MIT */
/*
 * bench.c - how long things take, as the program that does them sees it
 *
 *	bench DIR
 *		times calls on a file in DIR and local ones, and prints "NAME
 *		NANOSECONDS" lines
 *	bench --pingpong
 *		times a round trip between two threads that spin, which no
 *		forwarded call can be faster than
 *	bench --memory DIR MIB
 *		times the first call on a file in DIR whose buffer is in MIB
 *		MiB of memory that has been touched
 *	bench --device DEVICE
 *		times loads and stores of 64 KiB, 8 bytes at a time, of a block
 *		device that is mapped and of memory of its own, and how long it
 *		takes to have a page of the device mapped
 *	bench --pagemap MIB [CMD...]
 *		times reading the page table of MIB MiB that have been touched
 *		in order, and of such that were not, by pread() or by CMD...,
 *		in which the word PID stands for ours; processor time, of a
 *		million pages
 *	bench --startup CMD...
 *		times from fork() to main() of the program that CMD ends with:
 *		CMD... bench --stamp
 *	bench --wall NAME CMD...
 *		times a whole program, its output thrown away
 *	bench --rest DIR SECONDS
 *		forwards in several threads, prints "at rest" and rests
 *
 * Every figure is the median of several rounds, each round the mean of many
 * repetitions; but for *_p50 and *_p99, which are of single calls, the reading
 * of the clock included. Run natively and under darkshadow by bench.sh, which
 * makes ratios of them; nothing here knows where it runs.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB (1 << 20)
#define SPAN 65536		/* of a device */
#define ROUNDS 7
#define ROUND_NS 200000000u
#define SAMPLES 50000		/* single calls */
#define THREADS 8
#define THREAD_CALLS 16000	/* of all threads, in one round */
#define TRIPS 200000

struct ctx {
	int host;		/* a file of 1 MiB in DIR */
	int zero;		/* /dev/zero, which is not forwarded */
	char *mem;		/* 1 MiB */
	int device;
	volatile uint64_t *words; /* SPAN bytes, of the device or our own */
};

struct figure {
	const char *name;
	void (*once)(struct ctx *c);
	int repeat;		/* in one round, unless that takes too long */
};

static void fail(const char *what)
{
	fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *v, size_t n)
{
	qsort(v, n, sizeof(*v), by_value);
	return v[n / 2];
}

static void pread_1(struct ctx *c)
{
	if (pread(c->host, c->mem, 1, 0) != 1)
		fail("pread of 1 byte");
}

static void pread_1m(struct ctx *c)
{
	if (pread(c->host, c->mem, MIB, 0) != MIB)
		fail("pread of 1 MiB");
}

static void fstat_host(struct ctx *c)
{
	struct stat st;

	if (fstat(c->host, &st))
		fail("fstat");
}

/* A change of the address space that a shadow has to hear of, twice. */
static void map_pread(struct ctx *c)
{
	char *p = mmap(NULL, 65536, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		fail("mmap");
	if (pread(c->host, p, 1, 0) != 1)
		fail("pread into fresh memory");
	if (munmap(p, 65536))
		fail("munmap");
}

static void getpid_local(struct ctx *c)
{
	(void)c;
	syscall(SYS_getpid);
}

static void read_local(struct ctx *c)
{
	if (read(c->zero, c->mem, 1) != 1)
		fail("read of /dev/zero");
}

/* Of 1 MiB are touched: nothing, a page, or every page. */
static void map_touch_unmap(size_t step)
{
	char *p = mmap(NULL, MIB, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		fail("mmap");
	for (size_t i = 0; step && i < MIB; i += step)
		p[i] = 1;
	if (munmap(p, MIB))
		fail("munmap");
}

static void map_untouched(struct ctx *c)
{
	(void)c;
	map_touch_unmap(0);
}

static void map_unmap(struct ctx *c)
{
	(void)c;
	map_touch_unmap(MIB);
}

static void map_touched(struct ctx *c)
{
	(void)c;
	map_touch_unmap(4096);
}

static void load_words(struct ctx *c)
{
	volatile uint64_t *words = c->words;

	for (size_t i = 0; i < SPAN / sizeof(*words); i++)
		(void)words[i];
}

static void store_words(struct ctx *c)
{
	volatile uint64_t *words = c->words;

	for (size_t i = 0; i < SPAN / sizeof(*words); i++)
		words[i] = i;
}

static void map_device(struct ctx *c)
{
	char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED,
		       c->device, 0);

	if (p == MAP_FAILED)
		fail("mmap of a page of a device");
	*p = 1;
	if (munmap(p, 4096))
		fail("munmap of a page of a device");
}

static void fork_exec(struct ctx *c)
{
	int status;
	pid_t pid = fork();

	(void)c;
	if (pid == 0) {
		execl("/bin/true", "true", NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		fail("fork and exec of /bin/true");
}

static const struct figure figures[] = {
	{ "pread_1", pread_1, 2000 },
	{ "pread_1m", pread_1m, 100 },
	{ "fstat", fstat_host, 2000 },
	{ "map_pread", map_pread, 500 },
	{ "getpid", getpid_local, 100000 },
	{ "read_local", read_local, 20000 },
	{ "mmap_untouched", map_untouched, 500 },
	{ "mmap_munmap", map_unmap, 500 },
	{ "mmap_touched", map_touched, 100 },
	{ "fork_exec", fork_exec, 10 },
};

static const struct figure of_device[] = {
	{ "device_load", load_words, 5000 },
	{ "device_store", store_words, 5000 },
	{ "device_map", map_device, 500 },
};

static const struct figure of_own[] = {
	{ "own_load", load_words, 5000 },
	{ "own_store", store_words, 5000 },
};

/* As often as was asked for, unless that takes too long. */
static int affordable(void (*once)(struct ctx *c), struct ctx *c, int repeat)
{
	uint64_t start, took;

	once(c);
	start = now_ns();
	once(c);
	took = now_ns() - start;
	if (took * (uint64_t)repeat > ROUND_NS)
		repeat = (int)(ROUND_NS / took) + 1;
	return repeat;
}

static void measure(const struct figure *f, struct ctx *c)
{
	const int repeat = affordable(f->once, c, f->repeat);
	double rounds[ROUNDS];
	uint64_t start;

	for (int r = 0; r < ROUNDS; r++) {
		start = now_ns();
		for (int i = 0; i < repeat; i++)
			f->once(c);
		rounds[r] = (double)(now_ns() - start) / repeat;
	}
	printf("%s %.1f\n", f->name, median(rounds, ROUNDS));
	fflush(stdout);
}

static void percentiles(const char *name, double *v, size_t n)
{
	qsort(v, n, sizeof(*v), by_value);
	printf("%s_p50 %.1f\n%s_p99 %.1f\n", name, v[n / 2], name,
	       v[n * 99 / 100]);
	fflush(stdout);
}

static void single_calls(struct ctx *c)
{
	static double times[SAMPLES];
	const int samples = affordable(pread_1, c, SAMPLES);

	for (int i = 0; i < samples; i++) {
		uint64_t start = now_ns();

		pread_1(c);
		times[i] = (double)(now_ns() - start);
	}
	percentiles("pread_1", times, (size_t)samples);
}

struct crowd {
	struct ctx *ctx;
	pthread_barrier_t start, end;
	int calls;			/* of each thread, in one round */
};

static void *of_crowd(void *arg)
{
	struct crowd *crowd = arg;
	char byte;

	for (int r = 0; r <= ROUNDS; r++) {
		pthread_barrier_wait(&crowd->start);
		for (int i = 0; i < crowd->calls; i++)
			if (pread(crowd->ctx->host, &byte, 1, 0) != 1)
				fail("pread of one of many");
		pthread_barrier_wait(&crowd->end);
	}
	return NULL;
}

/* One call's share of the time in which n threads make theirs at once. */
static void at_once(struct ctx *c, unsigned n)
{
	const int calls_each = affordable(pread_1, c, THREAD_CALLS) / (int)n;
	struct crowd crowd = { .ctx = c, .calls = calls_each };
	pthread_t threads[THREADS];
	double rounds[ROUNDS];

	pthread_barrier_init(&crowd.start, NULL, n + 1);
	pthread_barrier_init(&crowd.end, NULL, n + 1);
	for (unsigned i = 0; i < n; i++)
		if (pthread_create(&threads[i], NULL, of_crowd, &crowd))
			fail("pthread_create");
	for (int r = 0; r <= ROUNDS; r++) {
		uint64_t start = now_ns();

		pthread_barrier_wait(&crowd.start);
		pthread_barrier_wait(&crowd.end);
		/* The first round finds nobody forwarding yet. */
		if (r > 0)
			rounds[r - 1] = (double)(now_ns() - start) /
				(calls_each * (int)n);
	}
	for (unsigned i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	printf("threads_%u %.1f\n", n, median(rounds, ROUNDS));
	fflush(stdout);
}

/* Two cache lines, and nothing else near them. */
static struct {
	_Alignas(256) atomic_uint ping;
	_Alignas(256) atomic_uint pong;
	_Alignas(256) char end;
} lines;

/* The nth processor that we may use; fails where there are not so many. */
static void run_on(int n)
{
	cpu_set_t may, one;

	if (sched_getaffinity(0, sizeof(may), &may))
		fail("sched_getaffinity");
	for (int i = 0; i < CPU_SETSIZE; i++) {
		if (!CPU_ISSET(i, &may) || n--)
			continue;
		CPU_ZERO(&one);
		CPU_SET(i, &one);
		if (pthread_setaffinity_np(pthread_self(), sizeof(one), &one))
			fail("pthread_setaffinity_np");
		return;
	}
	errno = ENODEV;
	fail("a second processor");
}

static void *answer(void *arg)
{
	run_on(1);
	for (unsigned i = 1; i <= (ROUNDS + 2) * TRIPS; i++) {
		while (atomic_load_explicit(&lines.ping,
					    memory_order_acquire) != i)
			;
		atomic_store_explicit(&lines.pong, i, memory_order_release);
	}
	return arg;
}

static void trip(unsigned i)
{
	atomic_store_explicit(&lines.ping, i, memory_order_release);
	while (atomic_load_explicit(&lines.pong, memory_order_acquire) != i)
		;
}

/* One round to begin with, some as a whole, one of single trips. */
static int pingpong(void)
{
	static double times[TRIPS];
	double rounds[ROUNDS];
	unsigned i = 0;
	pthread_t other;
	cpu_set_t all;

	if (sched_getaffinity(0, sizeof(all), &all))
		fail("sched_getaffinity");
	if (CPU_COUNT(&all) < 2) {
		fprintf(stderr, "bench: one processor: no ping-pong\n");
		return 0;
	}
	if (pthread_create(&other, NULL, answer, NULL))
		fail("pthread_create");
	run_on(0);
	while (i < TRIPS)
		trip(++i);
	for (int r = 0; r < ROUNDS; r++) {
		uint64_t start = now_ns();

		for (int k = 0; k < TRIPS; k++)
			trip(++i);
		rounds[r] = (double)(now_ns() - start) / TRIPS;
	}
	for (int k = 0; k < TRIPS; k++) {
		uint64_t start = now_ns();

		trip(++i);
		times[k] = (double)(now_ns() - start);
	}
	pthread_join(other, NULL);
	printf("pingpong %.1f\n", median(rounds, ROUNDS));
	percentiles("pingpong", times, TRIPS);
	return 0;
}

static int memory(const char *dir, size_t mib)
{
	struct ctx c = { .host = -1 };
	char name[PATH_MAX];
	size_t len = mib * MIB;
	uint64_t start;
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		fail("mmap");
	for (size_t i = 0; i < len; i += 4096)
		p[i] = 1;
	snprintf(name, sizeof(name), "%s/bench.data", dir);
	c.host = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (c.host < 0)
		fail(name);
	start = now_ns();
	/* All of it is pointed to, though nothing of it is read. */
	if (pread(c.host, p, len, 0) != 0)
		fail("pread at the end of the file");
	printf("memory_%zu %" PRIu64 "\n", mib, now_ns() - start);
	unlink(name);
	return 0;
}

static volatile uint64_t *map_span(int flags, int fd)
{
	void *p = mmap(NULL, SPAN, PROT_READ | PROT_WRITE, flags, fd, 0);

	if (p == MAP_FAILED)
		fail("mmap of 64 KiB");
	return p;
}

static int device(const char *name)
{
	struct ctx c = { .device = open(name, O_RDWR) };

	if (c.device < 0)
		fail(name);
	c.words = map_span(MAP_SHARED, c.device);
	for (size_t i = 0; i < sizeof(of_device) / sizeof(of_device[0]); i++)
		measure(&of_device[i], &c);
	c.words = map_span(MAP_PRIVATE | MAP_ANONYMOUS, -1);
	for (size_t i = 0; i < sizeof(of_own) / sizeof(of_own[0]); i++)
		measure(&of_own[i], &c);
	return 0;
}

static void open_files(struct ctx *c, const char *dir, char name[PATH_MAX])
{
	snprintf(name, PATH_MAX, "%s/bench.data", dir);
	c->mem = malloc(MIB);
	if (!c->mem)
		fail("malloc");
	memset(c->mem, 'b', MIB);
	c->host = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (c->host < 0 || write(c->host, c->mem, MIB) != MIB)
		fail(name);
	c->zero = open("/dev/zero", O_RDONLY);
	if (c->zero < 0)
		fail("/dev/zero");
}

static int calls(const char *dir)
{
	char name[PATH_MAX];
	struct ctx c;

	open_files(&c, dir, name);
	for (size_t i = 0; i < sizeof(figures) / sizeof(figures[0]); i++)
		measure(&figures[i], &c);
	single_calls(&c);
	at_once(&c, 1);
	at_once(&c, THREADS);
	unlink(name);
	return 0;
}

static void *forward_and_rest(void *ctx)
{
	for (int i = 0; i < 1000; i++)
		pread_1(ctx);
	for (;;)
		pause();
	return NULL;
}

static int rest(const char *dir, unsigned seconds)
{
	char name[PATH_MAX];
	pthread_t thread;
	struct ctx c;

	open_files(&c, dir, name);
	for (int i = 1; i < 4; i++)
		if (pthread_create(&thread, NULL, forward_and_rest, &c))
			fail("pthread_create");
	for (int i = 0; i < 1000; i++)
		pread_1(&c);
	unlink(name);
	printf("at rest\n");
	fflush(stdout);
	sleep(seconds);
	return 0;
}

static int wall(const char *name, char **cmd)
{
	uint64_t start = now_ns();
	int status, null;
	pid_t pid = fork();

	if (pid == 0) {
		null = open("/dev/null", O_RDWR);
		dup2(null, 0);
		dup2(null, 1);
		execvp(cmd[0], cmd);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		fail(cmd[0]);
	if (status) {
		fprintf(stderr, "bench: %s: %s ended with wait status %#x\n",
			name, cmd[0], (unsigned)status);
		return 1;
	}
	printf("%s %" PRIu64 "\n", name, now_ns() - start);
	return 0;
}

static double used_ns(int who)
{
	struct rusage use;

	getrusage(who, &use);
	return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1e9 +
	       (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) * 1e3;
}

/* The kernel's own part of it: every entry, and nothing done with it. */
static double read_entries(const char *p, size_t npages)
{
	static uint64_t entries[4096];
	const size_t size = sizeof(entries);
	int fd = open("/proc/self/pagemap", O_RDONLY);
	off_t off = (off_t)((uintptr_t)p / 4096 * 8);
	double start = used_ns(RUSAGE_SELF);

	for (size_t i = 0; i < npages; i += 4096, off += (off_t)size)
		if (pread(fd, entries, size, off) != (ssize_t)size)
			fail("pread of /proc/self/pagemap");
	close(fd);
	return used_ns(RUSAGE_SELF) - start;
}

/* No copy of our page table is made for it, which would be counted. */
static double spawn(char **cmd)
{
	double start = used_ns(RUSAGE_CHILDREN);
	posix_spawn_file_actions_t actions;
	int status;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	errno = posix_spawnp(&pid, cmd[0], &actions, NULL, cmd, environ);
	if (errno || waitpid(pid, &status, 0) != pid)
		fail(cmd[0]);
	if (status) {
		errno = ECHILD;
		fail(cmd[0]);
	}
	posix_spawn_file_actions_destroy(&actions);
	return used_ns(RUSAGE_CHILDREN) - start;
}

static void pagemap_of(const char *name, char **cmd, size_t npages,
		       size_t stride)
{
	double times[ROUNDS];
	char *p = mmap(NULL, npages * 4096, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		fail("mmap");
	madvise(p, npages * 4096, MADV_NOHUGEPAGE);
	/* Every page once: the stride is odd, and their number a power of 2. */
	for (size_t i = 0; i < npages; i++)
		p[i * stride % npages * 4096] = 1;
	for (int i = 0; i < ROUNDS; i++)
		times[i] = (*cmd ? spawn(cmd) : read_entries(p, npages)) /
			   (double)npages * 1e6;
	printf("%s %.1f\n", name, median(times, ROUNDS));
	munmap(p, npages * 4096);
}

static int pagemap(size_t mib, char **cmd)
{
	size_t npages = 4096;
	char pid[16];

	while (npages * 2 <= mib * (MIB / 4096))
		npages *= 2;
	snprintf(pid, sizeof(pid), "%d", getpid());
	for (char **word = cmd; *word; word++)
		if (strcmp(*word, "PID") == 0)
			*word = pid;
	pagemap_of("pagemap", cmd, npages, 1);
	pagemap_of("pagemap_scattered", cmd, npages, 2654435761u);
	return 0;
}

/* The time that the other side stamps at its main(), less ours at fork(). */
static double startup_once(char **cmd)
{
	uint64_t start = now_ns(), stamp;
	int ends[2], status;
	char text[32];
	ssize_t n;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC))
		fail("pipe");
	start = now_ns();
	pid = fork();
	if (pid == 0) {
		dup2(ends[1], 1);
		execvp(cmd[0], cmd);
		_exit(127);
	}
	close(ends[1]);
	n = read(ends[0], text, sizeof(text) - 1);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status || n <= 0) {
		errno = ECHILD;
		fail(cmd[0]);
	}
	close(ends[0]);
	text[n] = '\0';
	stamp = strtoull(text, NULL, 10);
	return (double)(stamp - start);
}

static int startup(char **cmd)
{
	double times[3 * ROUNDS];

	startup_once(cmd);
	for (int i = 0; i < 3 * ROUNDS; i++)
		times[i] = startup_once(cmd);
	printf("startup %.1f\n", median(times, 3 * ROUNDS));
	return 0;
}

int main(int argc, char **argv)
{
	uint64_t at = now_ns();

	if (argc == 2 && strcmp(argv[1], "--stamp") == 0)
		return printf("%" PRIu64 "\n", at) < 0;
	if (argc > 2 && strcmp(argv[1], "--pagemap") == 0)
		return pagemap(strtoul(argv[2], NULL, 10), argv + 3);
	if (argc == 4 && strcmp(argv[1], "--memory") == 0)
		return memory(argv[2], strtoul(argv[3], NULL, 10));
	if (argc == 3 && strcmp(argv[1], "--device") == 0)
		return device(argv[2]);
	if (argc > 2 && strcmp(argv[1], "--startup") == 0)
		return startup(argv + 2);
	if (argc == 2 && strcmp(argv[1], "--pingpong") == 0)
		return pingpong();
	if (argc > 3 && strcmp(argv[1], "--wall") == 0)
		return wall(argv[2], argv + 3);
	if (argc == 4 && strcmp(argv[1], "--rest") == 0)
		return rest(argv[2], (unsigned)strtoul(argv[3], NULL, 10));
	if (argc == 2 && argv[1][0] != '-')
		return calls(argv[1]);
	fprintf(stderr, "usage: bench DIR | --memory DIR MIB |"
		" --device DEVICE | --pagemap MIB [CMD... PID] | --pingpong |"
		" --rest DIR SECONDS | --wall NAME CMD... |"
		" --startup CMD... bench --stamp\n");
	return 125;
}
