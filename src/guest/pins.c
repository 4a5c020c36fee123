/* SPDX-License-Identifier: MIT */
/* pins.c - frames of targets that stay where they are */
#include "guest/pins.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/num.h"
#include "process/pagemap.h"

/* Past this much, what was dropped is let go now and not in a second. */
#define DROPPED_MAX	(32ULL << 20)

/* Pages of a file that are pinned together. */
#define PART_PAGES	1024

/* How often a page is looked for that is not there at the moment. */
#define PRESENT_TRIES	20

/* --- rings --------------------------------------------------------------- */

static int ring_register(int ring, unsigned int op, void *arg, unsigned int n)
{
	return syscall(SYS_io_uring_register, ring, op, arg, n) < 0 ? -errno :
								      0;
}

/* A ring with a table of buffers, all of them empty. */
static int ring_new(void)
{
	static struct iovec empty[PIN_RING_SLOTS];	/* never written */
	struct io_uring_params params = { 0 };
	int ring cleanup_fd = -1;
	int err;

	ring = (int)syscall(SYS_io_uring_setup, 1, &params);
	if (ring < 0)
		return -errno;
	err = ring_register(ring, IORING_REGISTER_BUFFERS, empty,
			    PIN_RING_SLOTS);
	return err ? err : steal_fd(&ring);
}

static int rings_init(struct pinner *p)
{
	for (int i = 0; i < PIN_RINGS; i++) {
		p->rings[i] = ring_new();
		if (p->rings[i] < 0)
			return p->rings[i];
	}
	return 0;
}

/* --- sockets ------------------------------------------------------------- */

static int sockets_init(void)
{
	int fd;

	if (access("/proc/self/ns/net", F_OK) < 0)
		return -errno;
	fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

/* Whoever gets at a socket all the same could bind it to a device, and send
 * what it likes: it is to find none. */
static int seclude(struct pinner *p)
{
	if (!p->secluded && unshare(CLONE_NEWNET) < 0)
		return -errno;
	p->secluded = true;
	return 0;
}

/* There is a descriptor for every pin: room for twice as many, if we may
 * (CAP_SYS_RESOURCE), or as many as we may. */
static void raise_nofile(void)
{
	struct rlimit lim, more;

	if (getrlimit(RLIMIT_NOFILE, &lim) < 0)
		return;
	more.rlim_cur = 2 * lim.rlim_cur;
	more.rlim_max = max_u64(more.rlim_cur, lim.rlim_max);
	if (setrlimit(RLIMIT_NOFILE, &more) == 0)
		return;
	lim.rlim_cur = lim.rlim_max;
	setrlimit(RLIMIT_NOFILE, &lim);
}

int pinner_socket(struct pinner *p, uint32_t slot)
{
	int fd, err = seclude(p);

	if (err)
		return err;
	fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (fd < 0 && errno == EMFILE) {
		raise_nofile();
		fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
	}
	if (fd < 0)
		return -errno;
	p->sockets[slot] = fd;
	return fd;
}

static void drop_socket(struct pinner *p, uint32_t slot)
{
	if (p->sockets[slot])
		close(p->sockets[slot]);
	p->sockets[slot] = 0;
}

int pinner_init(struct pinner *p, enum pin_kind kind, const bool *unsure)
{
	int err = -EINVAL;

	*p = (struct pinner){ .unsure = unsure };
	for (int i = 0; i < PIN_RINGS; i++)
		p->rings[i] = -1;
	if (kind != PIN_XDP) {
		p->kind = PIN_IO_URING;
		err = rings_init(p);
	}
	if (kind == PIN_XDP || (kind == PIN_ANY && err)) {
		p->kind = PIN_XDP;
		err = sockets_init();
	}
	if (err)
		pinner_fini(p);
	return err;
}

/* --- slots ---------------------------------------------------------------- */

static void free_files(struct pinner *p)
{
	while (p->late_files) {
		struct file_frames *f = p->late_files;

		p->late_files = f->next;
		close_fd(&f->pipe);
		free(f);
	}
}

void pinner_fini(struct pinner *p)
{
	free_files(p);
	for (int i = 0; i < PIN_RINGS; i++)
		close_fd(&p->rings[i]);
	for (size_t i = 0; i < PIN_SLOTS; i++)
		drop_socket(p, (uint32_t)i);
}

int pinner_take(struct pinner *p, uint32_t *slot)
{
	const size_t words = ARRAY_SIZE(p->used);

	for (size_t i = 0; i < words; i++) {
		size_t w = (p->next / 64 + i) % words;

		if (p->used[w] == ~0ULL)
			continue;
		*slot = (uint32_t)(w * 64 +
				   (size_t)__builtin_ctzll(~p->used[w]));
		p->used[w] |= 1ULL << (*slot % 64);
		p->next = *slot;
		return 0;
	}
	return -EAGAIN;
}

/*
 * Until Linux 6.4 a dropped buffer is let go by work that is delayed for a
 * second (io_rsrc_node_ref_zero() in io_uring/rsrc.c); taking a table of files
 * away waits for all such work of the ring.
 */
static void flush_dropped(struct pinner *p)
{
	int none = -1;

	for (int i = 0; i < PIN_RINGS && p->kind == PIN_IO_URING; i++) {
		ring_register(p->rings[i], IORING_REGISTER_FILES, &none, 1);
		ring_register(p->rings[i], IORING_UNREGISTER_FILES, NULL, 0);
	}
	p->dropped = 0;
}

static void drop_buffer(const struct pinner *p, uint32_t slot)
{
	struct iovec none = { 0 };
	struct io_uring_rsrc_update2 update = {
		.offset = slot % PIN_RING_SLOTS,
		.data = (uint64_t)(uintptr_t)&none,
		.nr = 1,
	};

	ring_register(p->rings[slot / PIN_RING_SLOTS],
		      IORING_REGISTER_BUFFERS_UPDATE, &update, sizeof(update));
}

static void drop(struct pinner *p, uint32_t slot)
{
	if (p->kind == PIN_XDP)
		drop_socket(p, slot);
	else
		drop_buffer(p, slot);
	p->used[slot / 64] &= ~(1ULL << (slot % 64));
}

static bool must_wait(const struct pinner *p)
{
	return *p->unsure || p->held;
}

void pinner_drop(struct pinner *p, uint32_t slot, uint64_t bytes)
{
	p->dropped += bytes;
	if (must_wait(p)) {
		p->late[slot / 64] |= 1ULL << (slot % 64);
		p->any_late = true;
		return;
	}
	drop(p, slot);
	if (p->dropped > DROPPED_MAX)
		flush_dropped(p);
}

bool pinner_waits(const struct pinner *p)
{
	return p->any_late || p->late_files;
}

void pinner_release(struct pinner *p)
{
	if (must_wait(p))
		return;
	free_files(p);
	if (!p->any_late)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(p->late); i++) {
		for (uint64_t left = p->late[i]; left; left &= left - 1)
			drop(p, (uint32_t)(i * 64 + (size_t)
					   __builtin_ctzll(left)));
		p->late[i] = 0;
	}
	p->any_late = false;
	flush_dropped(p);
}

/* --- files --------------------------------------------------------------- */

/* References to every page that is mapped at p, up to the first bad one. */
static ssize_t splice_pages(int pipe, char *p, uint64_t n)
{
	uint64_t done = 0;

	while (done < n) {
		struct iovec iov = { p + done * PAGE_BYTES,
				     (n - done) * PAGE_BYTES };
		ssize_t got = vmsplice(pipe, &iov, 1, SPLICE_F_NONBLOCK);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return done ? (ssize_t)done : got < 0 ? -errno : -EIO;
		done += (uint64_t)got / PAGE_BYTES;
	}
	return (ssize_t)done;
}

/*
 * A reference does not make a page present in our page table, and one that the
 * kernel is trying to move is not present for a while. Pages that are gone
 * meanwhile (a truncation) are an error of the madvise(), no signal.
 */
static int read_present(int pagemap, char *p, struct file_frames *f)
{
	for (int tries = 0; tries < PRESENT_TRIES; tries++) {
		uint64_t missing = 0;
		int err;

		(void)!madvise(p, f->n * PAGE_BYTES, MADV_POPULATE_READ);
		err = pagemap_read(pagemap, (uint64_t)(uintptr_t)p, f->n,
				  f->pfn);
		if (err)
			return err;
		for (uint64_t i = 0; i < f->n; i++) {
			missing += !(f->pfn[i] & PAGEMAP_PRESENT);
			f->pfn[i] = f->pfn[i] & PAGEMAP_PRESENT ?
				    f->pfn[i] & PAGEMAP_PFN : 0;
		}
		if (!missing)
			break;
	}
	return 0;
}

static int pin_mapped(struct file_frames *f, char *p, uint64_t n)
{
	int pipes[2], pagemap cleanup_fd = -1, err = 0;
	ssize_t got;

	if (pipe2(pipes, O_CLOEXEC) < 0)
		return -errno;
	f->pipe = pipes[1];
	/* Room for a reference a page (pipe(7)). */
	if (fcntl(pipes[1], F_SETPIPE_SZ, n * PAGE_BYTES) < 0)
		err = -errno;
	got = err ? err : splice_pages(pipes[1], p, n);
	close(pipes[0]);
	if (got < 0)
		return (int)got;
	f->n = (uint64_t)got;
	pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (pagemap < 0)
		return -errno;
	return read_present(pagemap, p, f);
}

static int part_new(int fd, uint64_t page, uint64_t n,
		    struct file_frames **out)
{
	struct file_frames *f = calloc(1, sizeof(*f) + n * sizeof(*f->pfn));
	char *p;
	int err;

	if (!f)
		return -ENOMEM;
	f->refs = 1;
	f->first = page;
	f->pipe = -1;
	p = mmap(NULL, n * PAGE_BYTES, PROT_READ, MAP_SHARED, fd,
		 (off_t)(page * PAGE_BYTES));
	err = p == MAP_FAILED ? -errno : pin_mapped(f, p, n);
	if (p != MAP_FAILED)
		munmap(p, n * PAGE_BYTES);
	if (err) {
		close_fd(&f->pipe);
		free(f);
		return err;
	}
	*out = f;
	return 0;
}

int file_frames_get(struct file_frames **list, int fd, uint64_t page,
		    uint64_t npages, struct file_frames **out)
{
	uint64_t end = page + npages;
	struct file_frames *f;
	struct stat st;
	int err;

	for (f = *list; f; f = f->next) {
		if (page >= f->first && page < f->first + f->n) {
			*out = f;
			return 0;
		}
		if (f->first > page)
			end = min_u64(end, f->first);
	}
	if (fstat(fd, &st) < 0)
		return -errno;
	end = min_u64(end, page_up((uint64_t)st.st_size) / PAGE_BYTES);
	end = min_u64(end, page + PART_PAGES);
	if (end <= page)
		return -ENXIO;
	err = part_new(fd, page, end - page, out);
	if (err)
		return err;
	(*out)->next = *list;
	*list = *out;
	return 0;
}

void file_frames_unref(struct pinner *p, struct file_frames *f)
{
	if (--f->refs)
		return;
	f->next = p->late_files;
	p->late_files = f;
}

void file_frames_drop(struct pinner *p, struct file_frames **list,
		      uint64_t page, uint64_t npages)
{
	while (*list) {
		struct file_frames *f = *list;

		if (f->first + f->n <= page || (f->first > page &&
						f->first - page >= npages)) {
			list = &f->next;
			continue;
		}
		*list = f->next;
		file_frames_unref(p, f);
	}
}

void file_frames_free(struct pinner *p, struct file_frames **list)
{
	file_frames_drop(p, list, 0, UINT64_MAX);
}

int pins_possible(void)
{
	/* Of no pages at all: only the advice is looked at. */
	return madvise(NULL, 0, MADV_POPULATE_WRITE) < 0 ? -errno : 0;
}
