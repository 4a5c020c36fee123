/* SPDX-License-Identifier: MIT */
/* pins.c - pinned frames stay; needs to see page frame numbers (root) */
#include "guest/pins.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_xdp.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/num.h"
#include "process/pagemap.h"
#include "tap.h"

#define PAGES	64
#define LEN	(PAGES * PAGE_BYTES)

static bool unsure;

static void frames(const void *p, uint64_t n, uint64_t *out)
{
	int fd cleanup_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	if (pagemap_read(fd, (uint64_t)(uintptr_t)p, n, out) < 0)
		memset(out, 0, n * sizeof(*out));
}

static char *map(size_t len)
{
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE |
		       MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		exit(1);
	return p;
}

/* What the tracer has a target do: 0 or -1. */
static int pin(struct pinner *p, void *addr, size_t len, uint32_t slot)
{
	struct iovec iov = { addr, len };
	struct io_uring_rsrc_update2 update = {
		.offset = slot % PIN_RING_SLOTS,
		.data = (uint64_t)(uintptr_t)&iov, .nr = 1,
	};
	struct xdp_umem_reg umem = { .addr = (uint64_t)(uintptr_t)addr,
				     .len = len, .chunk_size = PAGE_BYTES };

	if (p->kind == PIN_XDP)
		return setsockopt(pinner_socket(p, slot), SOL_XDP,
				  XDP_UMEM_REG, &umem, sizeof(umem));
	return syscall(SYS_io_uring_register, p->rings[slot / PIN_RING_SLOTS],
		       IORING_REGISTER_BUFFERS_UPDATE, &update,
		       sizeof(update)) == 1 ? 0 : -1;
}

/* Writes to every page while a child has them, too: how many moved? */
static int moved_by_fork(char *p)
{
	uint64_t before[PAGES], after[PAGES];
	int status, moved = 0;
	pid_t pid;

	frames(p, PAGES, before);
	pid = fork();
	if (pid == 0) {
		pause();
		_exit(0);
	}
	for (size_t i = 0; i < LEN; i += PAGE_BYTES)
		p[i]++;
	frames(p, PAGES, after);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	for (int i = 0; i < PAGES; i++)
		moved += (before[i] & PAGEMAP_PFN) != (after[i] & PAGEMAP_PFN);
	return moved;
}

static void test_private(struct pinner *p)
{
	char *mem = map(LEN);
	uint64_t pfns[PAGES];
	uint32_t slot = 0, other = 0;
	int present = 0, moved = 0;

	memset(mem, 1, LEN);
	ok(moved_by_fork(mem) == PAGES, "unpinned, a write after fork moves");
	munmap(mem, LEN);
	mem = map(LEN);
	ok(pinner_take(p, &slot) == 0 && pin(p, mem, LEN, slot) == 0,
	   "fresh memory is pinned");
	frames(mem, PAGES, pfns);
	for (int i = 0; i < PAGES; i++)
		present += (pfns[i] & PAGEMAP_PRESENT) &&
			   (pfns[i] & PAGEMAP_EXCLUSIVE) &&
			   !(pfns[i] & PAGEMAP_FILE) &&
			   (pfns[i] & PAGEMAP_PFN);
	ok(present == PAGES, "and so present, and its own");
	ok(moved_by_fork(mem) == 0, "pinned, it stays where it is");
	ok(pinner_take(p, &other) == 0 && other != slot,
	   "a second slot is another one");
	pinner_drop(p, slot, LEN);
	pinner_drop(p, other, 0);
	/* Before Linux 6.4 a second later (pins.c). */
	for (int i = 0; i < 50 && moved == 0; i++) {
		usleep(100000);
		moved = moved_by_fork(mem);
	}
	ok(moved == PAGES, "let go, it moves again");
	munmap(mem, LEN);
}

/* More sockets than a process may have descriptors, at first. */
static void test_many(struct pinner *p)
{
	struct rlimit lim = { 100, 1000 };
	uint32_t slots[300];
	char *mem = map(LEN);
	bool good = setrlimit(RLIMIT_NOFILE, &lim) == 0;
	int fd;

	for (size_t i = 0; i < ARRAY_SIZE(slots) && good; i++)
		good = pinner_take(p, &slots[i]) == 0 &&
		       pin(p, mem, PAGE_BYTES, slots[i]) == 0;
	ok(good, "there may be more sockets than descriptors");
	fd = p->sockets[slots[0]];
	pinner_drop(p, slots[0], PAGE_BYTES);
	ok(fcntl(fd, F_GETFD) < 0, "one that is dropped is closed");
	munmap(mem, LEN);
}

static void test_slots(struct pinner *p)
{
	uint32_t first = 0, slot = 0;
	bool good = pinner_take(p, &first) == 0;

	for (uint32_t i = 1; i < PIN_SLOTS && good; i++)
		good = pinner_take(p, &slot) == 0;
	ok(good && pinner_take(p, &slot) == -EAGAIN, "slots are used up");
	pinner_drop(p, first, 0);
	ok(pinner_take(p, &slot) == 0 && slot == first,
	   "one that is dropped is had again");
}

static void test_file(struct pinner *pinner)
{
	int fd = memfd_create("pins", MFD_CLOEXEC);
	struct file_frames *list = NULL, *f = NULL, *again = NULL;
	uint64_t pfns[PAGES];
	bool same = true;
	char *p;

	if (ftruncate(fd, LEN + 100) < 0)
		exit(1);
	p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	for (size_t i = 0; i < LEN; i += PAGE_BYTES)
		p[i] = 1;
	frames(p, PAGES, pfns);
	ok(file_frames_get(&list, fd, 8, 16, &f) == 0 && f->first == 8 &&
	   f->n == 16, "a part of a file is pinned");
	for (uint64_t i = 0; f && i < f->n; i++)
		same &= f->pfn[i] == (pfns[f->first + i] & PAGEMAP_PFN);
	ok(same, "its frames are those of everyone who maps it");
	ok(file_frames_get(&list, fd, 20, 1, &again) == 0 && again == f,
	   "it is known the second time");
	ok(file_frames_get(&list, fd, 0, 64, &again) == 0 &&
	   again->first == 0 && again->n == 8,
	   "another part ends where a known one begins");
	ok(file_frames_get(&list, fd, PAGES, 10, &again) == 0 &&
	   again->n == 1, "the last page need not be whole");
	ok(file_frames_get(&list, fd, PAGES + 1, 1, &again) == -ENXIO,
	   "behind the end there is nothing");
	file_frames_drop(pinner, &list, 0, 8);
	ok(file_frames_get(&list, fd, 8, 1, &again) == 0 && again == f,
	   "a part that a drop does not touch stays");
	f->refs++;
	file_frames_drop(pinner, &list, 0, 9);
	ok(file_frames_get(&list, fd, 8, 1, &again) == 0 && again != f &&
	   f->pfn[0] == again->pfn[0],
	   "one that it touches is looked for again");
	file_frames_unref(pinner, f);
	file_frames_free(pinner, &list);
	ok(!list && pinner_waits(pinner), "all are to be let go");
	unsure = true;
	pinner_release(pinner);
	ok(pinner_waits(pinner), "but not while nobody knows the shadows");
	unsure = false;
	pinner_release(pinner);
	ok(!pinner_waits(pinner), "then they are");
	munmap(p, LEN);
	close(fd);
}

int main(void)
{
	static struct pinner p;

	ok(pagemap_visible() == 0, "page frame numbers are visible");
	if (failed) {
		printf("# run as root\n");
		return tap_end();
	}
	ok(pinner_init(&p, PIN_XDP, &unsure) == 0, "sockets are made");
	test_private(&p);
	test_many(&p);
	pinner_fini(&p);
	ok(pinner_init(&p, PIN_ANY, &unsure) == 0 && p.kind == PIN_IO_URING,
	   "rings are made, where that may be");
	test_private(&p);
	test_slots(&p);
	test_file(&p);
	pinner_fini(&p);
	return tap_end();
}
