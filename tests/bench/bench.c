/* SPDX-License-Identifier: MIT */
/*
 * bench.c - how long things take, as the program that does them sees it
 *
 *	bench DIR		times calls on a file in DIR and local ones, and
 *				prints "NAME NANOSECONDS" lines
 *	bench --memory DIR MIB	times the first call on a file in DIR whose buffer
 *				is in MIB MiB of memory that has been touched
 *	bench --startup CMD...	times from fork() to main() of the program that
 *				CMD ends with: CMD... bench --stamp
 *
 * Every figure is the median of several rounds, each round the mean of many
 * repetitions. Run natively and under darkshadow by bench.sh, which makes
 * ratios of them; nothing here knows where it runs.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB (1 << 20)
#define ROUNDS 7
#define ROUND_NS 200000000u

struct ctx {
	int host;		/* a file of 1 MiB in DIR */
	int zero;		/* /dev/zero, which is not forwarded */
	char *mem;		/* 1 MiB */
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

static void map_unmap(struct ctx *c)
{
	char *p = mmap(NULL, MIB, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)c;
	if (p == MAP_FAILED)
		fail("mmap");
	p[0] = 1;
	if (munmap(p, MIB))
		fail("munmap");
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
	{ "map_pread", map_pread, 500 },
	{ "getpid", getpid_local, 100000 },
	{ "read_local", read_local, 20000 },
	{ "mmap_munmap", map_unmap, 500 },
	{ "fork_exec", fork_exec, 10 },
};

static void measure(const struct figure *f, struct ctx *c)
{
	double rounds[ROUNDS];
	uint64_t start, once;
	int repeat = f->repeat;

	f->once(c);
	start = now_ns();
	f->once(c);
	once = now_ns() - start;
	if (once * (uint64_t)repeat > ROUND_NS)
		repeat = (int)(ROUND_NS / once) + 1;
	for (int r = 0; r < ROUNDS; r++) {
		start = now_ns();
		for (int i = 0; i < repeat; i++)
			f->once(c);
		rounds[r] = (double)(now_ns() - start) / repeat;
	}
	printf("%s %.1f\n", f->name, median(rounds, ROUNDS));
	fflush(stdout);
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

static int calls(const char *dir)
{
	char name[PATH_MAX];
	struct ctx c;

	snprintf(name, sizeof(name), "%s/bench.data", dir);
	c.mem = malloc(MIB);
	if (!c.mem)
		fail("malloc");
	memset(c.mem, 'b', MIB);
	c.host = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (c.host < 0 || write(c.host, c.mem, MIB) != MIB)
		fail(name);
	c.zero = open("/dev/zero", O_RDONLY);
	if (c.zero < 0)
		fail("/dev/zero");
	for (size_t i = 0; i < sizeof(figures) / sizeof(figures[0]); i++)
		measure(&figures[i], &c);
	unlink(name);
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
	if (argc == 4 && strcmp(argv[1], "--memory") == 0)
		return memory(argv[2], strtoul(argv[3], NULL, 10));
	if (argc > 2 && strcmp(argv[1], "--startup") == 0)
		return startup(argv + 2);
	if (argc == 2 && argv[1][0] != '-')
		return calls(argv[1]);
	fprintf(stderr, "usage: bench DIR | --memory DIR MIB |"
		" --startup CMD... bench --stamp\n");
	return 125;
}
