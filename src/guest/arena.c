/* SPDX-License-Identifier: MIT */
/* arena.c - guest RAM of loopback: a sparse memfd */
#include "guest/arena.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/num.h"

#define ARENA_SIZE	(1ULL << 62)
#define COPY_WINDOW	(64ULL << 20)

/* A limit on files' sizes (ulimit -f) is an error, EFBIG, and no signal. */
static int set_size(const struct arena *a)
{
	const sighandler_t was = signal(SIGXFSZ, SIG_IGN);
	const int err = ftruncate(a->fd, (off_t)a->size) < 0 ? -errno : 0;

	signal(SIGXFSZ, was);
	return err;
}

int arena_init(struct arena *a)
{
	int err;

	a->size = ARENA_SIZE;
	a->next = PAGE_BYTES;
	a->fd = memfd_create("darkshadow-arena",
			     MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (a->fd < 0)
		return -errno;
	/* Nobody who maps it can then get SIGBUS from a shorter file. */
	err = set_size(a);
	if (!err &&
	    fcntl(a->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0)
		err = -errno;
	if (err)
		close_fd(&a->fd);
	return err;
}

void arena_fini(struct arena *a)
{
	close_fd(&a->fd);
}

int arena_alloc(struct arena *a, uint64_t len, uint64_t *off)
{
	/* Aligned as the kernel likes it for huge pages. */
	const uint64_t align = len >= (2 << 20) ? 2 << 20 : PAGE_BYTES;
	uint64_t at = (a->next + align - 1) & ~(align - 1);

	if (!range_inside(at, len, a->size))
		return -ENOMEM;
	a->next = at + len;
	*off = at;
	return 0;
}

void arena_discard(struct arena *a, uint64_t off, uint64_t len)
{
	fallocate(a->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		  (off_t)off, (off_t)len);
}

/* One stretch of data: read through a mapping, written to the file. */
static int copy_data(struct arena *a, uint64_t from, uint64_t to,
		     uint64_t len)
{
	while (len > 0) {
		uint64_t part = min_u64(len, COPY_WINDOW);
		void *src = mmap(NULL, part, PROT_READ, MAP_SHARED, a->fd,
				 (off_t)from);
		int err;

		if (src == MAP_FAILED)
			return -errno;
		err = fd_pwrite_all(a->fd, src, part, to);
		munmap(src, part);
		if (err)
			return err;
		from += part;
		to += part;
		len -= part;
	}
	return 0;
}

int arena_copy(struct arena *a, uint64_t from, uint64_t to, uint64_t len)
{
	const uint64_t end = from + len;
	uint64_t pos = from;

	while (pos < end) {
		off_t data = lseek(a->fd, (off_t)pos, SEEK_DATA), hole;
		uint64_t stop;
		int err;

		if (data < 0)
			return errno == ENXIO ? 0 : -errno;
		if ((uint64_t)data >= end)
			break;
		hole = lseek(a->fd, data, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		stop = min_u64((uint64_t)hole, end);
		err = copy_data(a, (uint64_t)data,
				to + ((uint64_t)data - from),
				stop - (uint64_t)data);
		if (err)
			return err;
		pos = stop;
	}
	return 0;
}
