/* SPDX-License-Identifier: MIT */
/*
 * mapped.c - memory of which it is known what is present
 *
 *	mapped [STATUS [WAY]]
 *
 * Prints "NAME ADDRESS" of every piece, waits for the end of standard input and
 * ends with STATUS. WAY: `huge`, huge pages may be made of what is scattered
 * from then on; `thread`, another thread does that, which the first one waits
 * for; `alone`, the first thread has ended before; `signal`, by the signal
 * STATUS.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE	4096UL
#define SCATTERED (8UL << 20)
#define SPARSE	(64UL << 30)

static int status;
static char *scattered;

static char *map(const char *name, size_t len, int prot, int flags, int fd)
{
	/* Not beside others of its kind, which would be one mapping. */
	char *p = mmap(NULL, len + 2 * PAGE, PROT_NONE, MAP_PRIVATE |
		       MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	p = mmap(p + PAGE, len, prot, flags | MAP_FIXED | MAP_NORESERVE, fd,
		 0);
	if (p == MAP_FAILED) {
		perror(name);
		exit(1);
	}
	printf("%s 0x%lx\n", name, (unsigned long)p);
	return p;
}

static void touch(char *p, size_t from, size_t to, size_t step, int write)
{
	for (size_t at = from * PAGE; at < to * PAGE; at += step * PAGE) {
		if (write)
			p[at] = 1;
		else
			(void)*(volatile char *)(p + at);
	}
}

static void make(void)
{
	const int anon = MAP_PRIVATE | MAP_ANONYMOUS, rw = PROT_READ |
							   PROT_WRITE;
	int fd = memfd_create("mapped", MFD_CLOEXEC);
	char *p = scattered = map("scattered", SCATTERED, rw, anon, -1);

	madvise(p, SCATTERED, MADV_NOHUGEPAGE);
	touch(p, 0, SCATTERED / PAGE, 2, 1);
	p = map("zero", 64 * PAGE, rw, anon, -1);
	touch(p, 0, 16, 1, 0);
	if (fd < 0 || ftruncate(fd, 32 * PAGE))
		exit(1);
	p = map("file", 32 * PAGE, rw, MAP_SHARED, fd);
	touch(p, 0, 8, 1, 1);
	p = map("sparse", SPARSE, rw, anon, -1);
	madvise(p, SPARSE, MADV_NOHUGEPAGE);
	touch(p, 0, 4, 1, 1);
	touch(p, SPARSE / PAGE / 2, SPARSE / PAGE / 2 + 3, 1, 1);
	touch(p, SPARSE / PAGE - 1, SPARSE / PAGE, 1, 1);
	p = map("protected", 8 * PAGE, rw, anon, -1);
	touch(p, 0, 8, 1, 1);
	mprotect(p + 4 * PAGE, 4 * PAGE, PROT_READ);
}

/* A child that has everything, too, until we are gone. */
static void share(void)
{
	char *p = map("forked", 16 * PAGE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1);
	int ends[2];

	touch(p, 0, 16, 1, 1);
	if (pipe(ends))
		exit(1);
	if (fork() == 0) {
		char byte;

		close(ends[1]);
		(void)!read(ends[0], &byte, 1);
		_exit(0);
	}
	touch(p, 0, 4, 1, 1);
}

static void *end(void *how)
{
	char byte;

	while (read(0, &byte, 1) > 0)
		;
	if (how && strcmp(how, "huge") == 0)
		madvise(scattered, SCATTERED, MADV_HUGEPAGE);
	if (how && strcmp(how, "signal") == 0)
		raise(status);
	_exit(status);
}

int main(int argc, char **argv)
{
	char *how = argc > 2 ? argv[2] : NULL;
	pthread_t thread;

	status = argc > 1 ? atoi(argv[1]) : 0;
	make();
	share();
	puts("ready");
	fflush(stdout);
	if (!how || strcmp(how, "signal") == 0 || strcmp(how, "huge") == 0)
		end(how);
	pthread_create(&thread, NULL, end, NULL);
	if (strcmp(how, "alone") == 0)
		pthread_exit(NULL);
	pthread_join(thread, NULL);
	return 1;
}
