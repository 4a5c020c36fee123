/* SPDX-License-Identifier: MIT */
/*
 * direct.c - memory that is given back while direct I/O writes it to a disk
 *
 * build: -pthread
 *
 *	direct FILE SIGN HOW [OTHER]
 *
 * Writes a buffer to FILE (on a disk that stands still), O_DIRECT; another
 * thread gives the buffer back meanwhile, HOW being munmap, dontneed, remap or
 * replace, and fills much other memory, so that the kernel uses its frames
 * again. Then it makes the directory SIGN, upon which the disk is to go on.
 * What is on the disk in the end has to be what the buffer was.
 *
 * With a file OTHER the call is a hot one, which has been made on that many times
 * before, from another buffer, that was given back time and again meanwhile.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define BYTES	(1 << 16)
#define OTHER	(64 << 20)

static char *buf, *spare;
static int fd, other = -1;
static atomic_bool now;
static atomic_bool late;		/* it was given back before it was written */

static void die(const char *what)
{
	perror(what);
	_exit(1);
}

static char *memory(size_t len)
{
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		die("mmap");
	return p;
}

static void *write_it(void *vector)
{
	struct iovec v = { buf, BYTES };
	ssize_t n;

	/* Where it is being given back, it may not be there. */
	while (other >= 0 && !atomic_load(&now))
		if (pwrite(other, spare, BYTES, 0) < 0 && errno != EFAULT)
			die("pwrite");
	n = vector ? pwritev(fd, &v, 1, 0) : pwrite(fd, buf, BYTES, 0);
	if (other >= 0 && n < 0 && errno == EFAULT)
		atomic_store(&late, true);
	else if (n != BYTES)
		die("pwrite");
	return NULL;
}

static void warm_up(void)
{
	sleep(1);
	for (int i = 0; i < 200; i++)
		madvise(spare, BYTES, MADV_DONTNEED);
	usleep(2000);
	atomic_store(&now, true);
	usleep(20000);		/* sooner than anybody looks at what has ended */
}

static void give_back(const char *how)
{
	char *moved;

	if (strcmp(how, "munmap") == 0) {
		munmap(buf, BYTES);
	} else if (strcmp(how, "dontneed") == 0) {
		madvise(buf, BYTES, MADV_DONTNEED);
	} else if (strcmp(how, "remap") == 0) {
		moved = mremap(buf, BYTES, BYTES, MREMAP_MAYMOVE | MREMAP_FIXED,
			       memory(BYTES));
		munmap(moved, BYTES);
	} else {
		mmap(buf, BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS |
		     MAP_FIXED, -1, 0);
	}
}

/* The writer is writing, and the buffer is gone; false: it was gone before. */
static bool given_back(const char *how, void *vector, pthread_t *writer)
{
	buf = memory(2 * BYTES);
	spare = buf + BYTES;
	memset(buf, 'a', BYTES);
	atomic_store(&now, false);
	atomic_store(&late, false);
	pthread_create(writer, NULL, write_it, vector);
	if (other < 0)
		sleep(1);
	else
		warm_up();
	give_back(how);
	/* Some kernels let go of a dropped pin a second later. */
	sleep(2);
	if (!atomic_load(&late))
		return true;
	pthread_join(*writer, NULL);
	return false;
}

int main(int argc, char **argv)
{
	pthread_t writer;
	void *vector;
	int tries = 0;

	if (argc != 4 && argc != 5)
		return 2;
	fd = open(argv[1], O_WRONLY | O_DIRECT);
	if (fd < 0)
		die(argv[1]);
	if (argc == 5)
		other = open(argv[4], O_RDWR | O_CREAT, 0600);
	vector = other < 0 && strcmp(argv[3], "munmap") == 0 ? argv[1] : NULL;
	/* Nobody tells when a call has begun: a slow machine has another try. */
	while (!given_back(argv[3], vector, &writer))
		if (++tries == 3) {
			fprintf(stderr, "it is never written in time\n");
			return 1;
		}
	memset(memory(OTHER), 'b', OTHER);
	if (mkdir(argv[2], 0755) < 0)
		die(argv[2]);
	pthread_join(writer, NULL);
	return 0;
}
