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
	if (n != BYTES)
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

int main(int argc, char **argv)
{
	pthread_t writer;

	if (argc != 4 && argc != 5)
		return 2;
	buf = memory(2 * BYTES);
	spare = buf + BYTES;
	memset(buf, 'a', BYTES);
	fd = open(argv[1], O_WRONLY | O_DIRECT);
	if (fd < 0)
		die(argv[1]);
	if (argc == 5)
		other = open(argv[4], O_RDWR | O_CREAT, 0600);
	pthread_create(&writer, NULL, write_it,
		       other < 0 && strcmp(argv[3], "munmap") == 0 ? argv[1] :
		       NULL);
	if (other < 0)
		sleep(1);
	else
		warm_up();
	give_back(argv[3]);
	/* Some kernels let go of a dropped pin a second later. */
	sleep(2);
	memset(memory(OTHER), 'b', OTHER);
	if (mkdir(argv[2], 0755) < 0)
		die(argv[2]);
	pthread_join(writer, NULL);
	return 0;
}
