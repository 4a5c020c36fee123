/* SPDX-License-Identifier: MIT */
/*
 * mortal.c - a family that forwards all it can until somebody dies
 *
 * build: -pthread
 *
 *	mortal DIR WORKERS SEED [STOP]
 *
 * WORKERS processes read and write files and FIFOs in DIR, which is forwarded,
 * with threads, children and programs of their own; one that gets EIO, or is
 * killed, is replaced. Ends with 0 when the local file STOP is there, with 3
 * when nobody answers any more, with 9 when something read is not what was
 * written. Its own process forwards nothing, and so lives on.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXIT_EIO	5
#define EXIT_GONE	3
#define EXIT_CORRUPT	9
#define WORKERS_MAX	64
#define HOPELESS	30	/* failures in a row, with nothing done */
#define BYTES		20000

static const char *dir;
static unsigned int seed;

/* An error is an end of ours; what can be heard of it, the parent says. */
static void check(long result)
{
	if (result < 0)
		_exit(errno == EIO ? EXIT_EIO : errno == EINTR ? 0 : 1);
}

static char *name(char *buf, const char *kind)
{
	static _Thread_local unsigned int n;

	snprintf(buf, 256, "%s/%s.%d.%lx.%u", dir, kind, getpid(),
		 (unsigned long)pthread_self() >> 12 & 0xfffff, n++);
	return buf;
}

static unsigned char *memory(void)
{
	unsigned char *p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		_exit(1);
	return p;
}

static void file_once(void)
{
	unsigned char *out = memory(), *in = memory();
	unsigned char key = (unsigned char)rand_r(&seed);
	char path[256];
	int fd = open(name(path, "file"), O_RDWR | O_CREAT | O_EXCL, 0600);

	check(fd);
	for (size_t i = 0; i < BYTES; i++)
		out[i] = (unsigned char)(i * 7 + key);
	check(pwrite(fd, out, BYTES, 0));
	check(pread(fd, in, BYTES, 0));
	if (memcmp(in, out, BYTES) != 0)
		_exit(EXIT_CORRUPT);
	check(unlink(path));
	check(close(fd));
	munmap(out, BYTES);
	munmap(in, BYTES);
}

static void *waiter(void *arg)
{
	uint64_t got = 0;

	check(read(*(int *)arg, &got, sizeof(got)));
	return (void *)(uintptr_t)got;
}

static void fifo_once(void)
{
	uint64_t sent = (uint64_t)rand_r(&seed) + 1;
	char path[256];
	pthread_t thread;
	void *got;
	int fd;

	check(mkfifo(name(path, "fifo"), 0600));
	fd = open(path, O_RDWR);
	check(fd);
	if (pthread_create(&thread, NULL, waiter, &fd) != 0)
		_exit(1);
	usleep((useconds_t)rand_r(&seed) % 20000);
	check(write(fd, &sent, sizeof(sent)));
	pthread_join(thread, &got);
	if ((uint64_t)(uintptr_t)got != sent)
		_exit(EXIT_CORRUPT);
	check(unlink(path));
	check(close(fd));
}

/* A child that inherits a descriptor, and may become another program. */
static void child_once(void)
{
	char path[256], number[16];
	int status, fd;
	pid_t pid;

	fd = open(name(path, "child"), O_RDWR | O_CREAT | O_EXCL, 0600);
	check(fd);
	pid = fork();
	if (pid == 0) {
		check(write(fd, "hello", 5));
		snprintf(number, sizeof(number), "%d", fd);
		if (rand_r(&seed) % 2)
			execl("/proc/self/exe", "mortal", "--look", number,
			      (char *)NULL);
		_exit(0);
	}
	while (waitpid(pid, &status, 0) < 0)
		check(errno == EINTR ? 0 : -1);
	if (WIFEXITED(status) && WEXITSTATUS(status))
		_exit(WEXITSTATUS(status));
	check(unlink(path));
	check(close(fd));
}

static int look(int fd)
{
	char buf[8] = "";

	check(pread(fd, buf, 5, 0));
	return memcmp(buf, "hello", 5) == 0 ? 0 : EXIT_CORRUPT;
}

/* Reads what nobody writes: only a death ends it. */
static void wait_for_ever(void)
{
	char path[256], c;
	int fd;

	check(mkfifo(name(path, "ever"), 0600));
	fd = open(path, O_RDWR);
	check(fd);
	check(read(fd, &c, 1));
}

/* done: shared; how much anybody has got done */
static _Noreturn void work(pid_t parent, unsigned int n,
			   volatile unsigned int *done)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(0);	/* too late for that */
	seed += n * 977;
	if (n % 4 == 3)
		wait_for_ever();
	for (;;) {
		switch (rand_r(&seed) % 4) {
		case 0:
			fifo_once();
			break;
		case 1:
			child_once();
			break;
		default:
			file_once();
		}
		++*done;
	}
}

int main(int argc, char **argv)
{
	unsigned int workers, born = 0, bad = 0, before = 0;
	const pid_t parent = getpid();
	volatile unsigned int *done;

	if (argc == 3 && strcmp(argv[1], "--look") == 0)
		return look(atoi(argv[2]));
	if (argc < 4) {
		fprintf(stderr, "usage: mortal DIR WORKERS SEED [STOP]\n");
		return 2;
	}
	dir = argv[1];
	workers = (unsigned int)atoi(argv[2]);
	seed = (unsigned int)atoi(argv[3]);
	done = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (done == MAP_FAILED || workers > WORKERS_MAX)
		return 2;
	for (unsigned int running = 0;;) {
		int status;
		pid_t pid;

		while (running < workers) {
			pid = fork();
			if (pid == 0)
				work(parent, born, done);
			born++;
			running++;
		}
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
			running--;
			if (WIFEXITED(status) &&
			    WEXITSTATUS(status) == EXIT_CORRUPT) {
				printf("mortal: corrupt\n");
				return EXIT_CORRUPT;
			}
			bad = *done == before ? bad + 1 : 0;
			before = *done;
		}
		if (bad >= HOPELESS)
			return EXIT_GONE;
		if (argc > 4 && access(argv[4], F_OK) == 0)
			break;
		usleep(10000);
	}
	printf("mortal: %u born, %u done\n", born, *done);
	return 0;
}
