/* SPDX-License-Identifier: MIT */
/*
 * torture.c - memory that changes at random, and is all the time what a host's
 * file is read into and written from
 *
 *	torture DIR SECONDS SEED
 *
 * Theory of operation. Memory and files consist of cells; what a cell holds
 * follows from its tag, and a model says which tag every cell has to have. A
 * *world* is a file in DIR, some mappings and the model of both; every thread
 * and every process has a world of its own, a child one that it inherited. So
 * whatever is found where it should not be is somebody's error, and never a
 * race between two of us.
 *
 * What a target may do between two calls is done here in any order: map, unmap,
 * move, grow, shrink, protect, give back, share, fork, exec, start threads,
 * grow stack and heap, truncate what is mapped. Every byte that the host wrote
 * is looked at, and everything written is read again, into other memory.
 *
 * The first error ends all: the cell, what was expected there, what was found,
 * the seed and the step. Without one a line of counts is printed.
 */
#include "victim.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/uio.h>

#define PAGE		4096ul
#define CELL		256ul
#define CELLS		(PAGE / CELL)
#define FILE_CELLS	4096ul		/* of a world's file */
#define AREAS		14
#define AREA_PAGES	1536ul		/* the largest is "large": --eager */
#define WORLD_PAGES	5120ul
#define SEGS		8
#define CHILDREN	2
#define THREADS		2

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

enum kind { PRIVATE, HEAP, SHARED, FILE_SHARED, FILE_PRIVATE, NKINDS };

static const char *const kind_names[NKINDS] = {
	"private", "heap", "shared", "shared file", "private file",
};

enum state { CLOSED, READABLE, WRITABLE };

/* A row of pages, in one mapping or in several. */
struct area {
	unsigned char *at;	/* NULL: none */
	unsigned char *alias;	/* the same pages once more, or NULL */
	size_t n;		/* pages */
	enum kind kind;
	int fd;			/* of what is mapped, or -1 */
	uint64_t (*tags)[CELLS];
	unsigned char *state;
	unsigned char *lazy;	/* MADV_FREE: may be zeros at any time */
};

struct world {
	struct area areas[AREAS];
	size_t pages;
	int fd;			/* of the host's file */
	uint64_t file[FILE_CELLS];
	uint64_t rng, seed, step, next_tag;
	unsigned int depth;	/* of processes */
	pid_t children[CHILDREN];
	bool main;		/* has the heap */
	unsigned char *check;	/* FILE_CELLS that are nothing else */
};

static struct counts {
	atomic_ulong steps, calls, bytes, forks, execs, threads, killed;
} *counts;		/* shared by all processes */

static double deadline;

/* What is unmapped here is not mapped by another thread meanwhile. */
static pthread_mutex_t maps_lock = PTHREAD_MUTEX_INITIALIZER;

static struct area local_file;	/* tags of what private mappings map */

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static uint64_t rnd(struct world *w, uint64_t below)
{
	uint64_t z = w->rng += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return (z ^ z >> 31) % below;
}

static bool one_in(struct world *w, uint64_t n)
{
	return rnd(w, n) == 0;
}

/* --- cells ---------------------------------------------------------------- */

static uint64_t word_of(uint64_t tag, size_t i)
{
	if (!tag || !i)
		return tag;
	return (tag + i) * 0x9e3779b97f4a7c15ull ^ tag >> 7;
}

static uint64_t new_tag(struct world *w)
{
	return (uint64_t)getpid() << 40 | (++w->next_tag & 0xffffffffff);
}

static void fill(void *cell, uint64_t tag)
{
	for (size_t i = 0; i < CELL / 8; i++)
		((volatile uint64_t *)cell)[i] = word_of(tag, i);
}

__attribute__((noreturn))
static void corrupt(const struct world *w, const char *where, const void *at,
		    size_t i, uint64_t want, uint64_t tag)
{
	const uint64_t *found = at;

	dprintf(2, "torture: corrupt: seed %lu step %lu process %d: %s, page"
		" %p offset %#lx: expected %#lx (tag %#lx), found %#lx (the"
		" cell begins with %#lx)\n", (unsigned long)w->seed,
		(unsigned long)w->step, (int)getpid(), where,
		(void *)((uintptr_t)at & ~(PAGE - 1)),
		((uintptr_t)at & (PAGE - 1)) + i * 8, (unsigned long)want,
		(unsigned long)tag, (unsigned long)found[i],
		(unsigned long)found[0]);
	_exit(1);
}

static void verify(const struct world *w, const void *cell, uint64_t tag,
		   const char *where)
{
	const volatile uint64_t *p = cell;

	for (size_t i = 0; i < CELL / 8; i++)
		if (p[i] != word_of(tag, i))
			corrupt(w, where, cell, i, word_of(tag, i), tag);
}

__attribute__((noreturn, format(printf, 2, 3)))
static void broken(const struct world *w, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	dprintf(2, "torture: seed %lu step %lu process %d: %s\n",
		(unsigned long)w->seed, (unsigned long)w->step, (int)getpid(),
		text);
	_exit(1);
}

/* --- areas ---------------------------------------------------------------- */

static void *must_map(size_t len, int prot, int flags, int fd)
{
	void *p;

	pthread_mutex_lock(&maps_lock);
	p = mmap(NULL, len, prot, flags, fd, 0);
	pthread_mutex_unlock(&maps_lock);
	check(p != MAP_FAILED, "mmap of %zu: %s", len, strerror(errno));
	return p;
}

static void area_models(struct area *a)
{
	a->tags = must_map(AREA_PAGES * sizeof(*a->tags), PROT_READ |
			   PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	a->state = must_map(2 * AREA_PAGES, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1);
	a->lazy = a->state + AREA_PAGES;
}

static void area_set(struct area *a, size_t from, size_t to, uint64_t tag,
		     enum state state)
{
	for (; from < to; from++) {
		for (size_t c = 0; c < CELLS; c++)
			a->tags[from][c] = tag;
		a->state[from] = (unsigned char)state;
		a->lazy[from] = 0;
	}
}

/* Through which of its mappings a page is looked at. */
static unsigned char *page_of(struct world *w, const struct area *a, size_t i)
{
	if (a->alias && one_in(w, 3))
		return a->alias + i * PAGE;
	return a->at + i * PAGE;
}

static struct area *free_area(struct world *w)
{
	for (size_t i = 1; i < AREAS; i++)
		if (!w->areas[i].at)
			return &w->areas[i];
	return NULL;
}

/* Pages of private memory that are not the area's any more. */
static void area_cut(struct world *w, struct area *a, size_t from, size_t to)
{
	const size_t n = a->n - to;
	struct area *b = free_area(w);

	w->pages -= to - from;
	if (n && b) {
		b->at = a->at + to * PAGE;
		b->alias = NULL;
		b->n = n;
		b->kind = a->kind;
		b->fd = a->fd < 0 ? -1 : dup(a->fd);
		memcpy(b->tags, a->tags + to, n * sizeof(*a->tags));
		memcpy(b->state, a->state + to, n);
		memcpy(b->lazy, a->lazy + to, n);
	} else if (n) {
		sys(munmap(a->at + to * PAGE, n * PAGE));
		w->pages -= n;
	}
	a->n = from;
	if (!from)
		a->at = NULL;
	if (!from && a->fd >= 0)
		close(a->fd);
}

static void area_drop(struct world *w, struct area *a)
{
	munmap(a->at, a->n * PAGE);
	if (a->alias)
		munmap(a->alias, a->n * PAGE);
	if (a->fd >= 0)
		close(a->fd);
	w->pages -= a->n;
	a->at = NULL;
	a->alias = NULL;
}

/* A page that may have been given back: what is it now? */
static void lazy_settle(struct area *a, size_t i, unsigned char *page)
{
	bool zero = true;

	/* A write that changes nothing ends the doubt; a read does not. */
	if (a->state[i] == WRITABLE)
		__atomic_fetch_or((uint64_t *)page, 0, __ATOMIC_SEQ_CST);
	for (size_t c = 0; c < CELLS && zero; c++)
		zero = *(uint64_t *)(page + c * CELL) == 0;
	if (zero)
		memset(a->tags[i], 0, sizeof(a->tags[i]));
	if (a->state[i] == WRITABLE)
		a->lazy[i] = 0;
}

static void area_check(struct world *w, struct area *a, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++) {
		unsigned char *page = page_of(w, a, i);

		if (a->state[i] < READABLE)
			continue;
		if (a->lazy[i])
			lazy_settle(a, i, page);
		/* Still in doubt: it may be given back under our eyes. */
		for (size_t c = 0; c < CELLS && !a->lazy[i]; c++)
			verify(w, page + c * CELL, a->tags[i][c],
			       kind_names[a->kind]);
	}
}

static struct area *any_area(struct world *w)
{
	for (int i = 0; i < 40; i++) {
		struct area *a = &w->areas[rnd(w, AREAS)];

		if (a->at && a->n)
			return a;
	}
	return NULL;
}

static void some_pages(struct world *w, const struct area *a, size_t *from,
		       size_t *to)
{
	size_t most = one_in(w, 4) ? a->n : 1 + rnd(w, 16);

	*from = rnd(w, a->n);
	*to = *from + 1 + rnd(w, most);
	if (*to > a->n)
		*to = a->n;
}

static int shared_fd(const struct world *w, size_t n)
{
	char name[PATH_MAX];
	int fd;

	if (w->step & 1) {
		fd = (int)sys(memfd_create("torture", MFD_CLOEXEC));
	} else {
		/* Parent and children do this at once, and may be killed. */
		snprintf(name, sizeof(name), "%s.XXXXXX",
			 local("torture-shared"));
		fd = (int)sys(mkostemp(name, O_CLOEXEC));
		sys(unlink(name));
	}
	sys(ftruncate(fd, (off_t)(n * PAGE)));
	return fd;
}

static void op_map(struct world *w)
{
	struct area *a = &w->areas[rnd(w, AREAS)];
	size_t n = one_in(w, 12) ? 1 + rnd(w, AREA_PAGES) : 1 + rnd(w, 48);
	int flags = MAP_PRIVATE;

	if (a->kind == HEAP && a->at)
		return;
	if (a->at)
		area_drop(w, a);
	if (w->pages + n > WORLD_PAGES)
		return;
	a->kind = (enum kind)rnd(w, NKINDS);
	if (a->kind == HEAP || one_in(w, 3))
		a->kind = PRIVATE;
	a->fd = -1;
	a->n = n;
	area_set(a, 0, n, 0, WRITABLE);
	switch (a->kind) {
	case FILE_PRIVATE:
		if (n > local_file.n)
			a->n = n = local_file.n;
		a->fd = dup(local_file.fd);
		memcpy(a->tags, local_file.tags, n * sizeof(*a->tags));
		break;
	case FILE_SHARED:
		flags = MAP_SHARED;
		a->fd = shared_fd(w, n);
		a->alias = must_map(n * PAGE, PROT_READ | PROT_WRITE, flags,
				    a->fd);
		break;
	case SHARED:
		flags = MAP_SHARED | MAP_ANONYMOUS;
		break;
	default:
		flags |= MAP_ANONYMOUS | (one_in(w, 4) ? MAP_NORESERVE : 0);
	}
	a->at = must_map(n * PAGE, PROT_READ | PROT_WRITE, flags, a->fd);
	w->pages += n;
}

static void op_unmap(struct world *w)
{
	struct area *a = any_area(w);
	size_t from, to;

	if (!a || a->kind == HEAP)
		return;
	if (a->alias || one_in(w, 3)) {
		area_drop(w, a);
		return;
	}
	some_pages(w, a, &from, &to);
	sys(munmap(a->at + from * PAGE, (to - from) * PAGE));
	area_cut(w, a, from, to);
}

/* Fresh memory over whatever is there. */
static void op_replace(struct world *w)
{
	struct area *a = any_area(w);
	size_t from, to;

	if (!a || a->kind != PRIVATE)
		return;
	some_pages(w, a, &from, &to);
	check(mmap(a->at + from * PAGE, (to - from) * PAGE, PROT_READ |
		   PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		   0) != MAP_FAILED, "mmap: %s", strerror(errno));
	area_set(a, from, to, 0, WRITABLE);
}

/* The pages that were to be replaced by a move that failed may be gone. */
static void move_failed(struct world *w, struct area *a, size_t from,
			size_t to)
{
	unsigned char vec;

	if (mincore(a->at + from * PAGE, PAGE, &vec) < 0)
		area_cut(w, a, from, to);
}

/* Some pages of one area take the place of some of another. */
static void op_move(struct world *w)
{
	struct area *a = any_area(w), *b = any_area(w);
	size_t from, to, at, n;

	if (!a || !b || a == b || a->kind != PRIVATE || b->kind != PRIVATE)
		return;
	some_pages(w, a, &from, &to);
	at = rnd(w, b->n);
	n = to - from < b->n - at ? to - from : b->n - at;
	pthread_mutex_lock(&maps_lock);
	if (mremap(a->at + from * PAGE, n * PAGE, n * PAGE, MREMAP_MAYMOVE |
		   MREMAP_FIXED, b->at + at * PAGE) == MAP_FAILED) {
		move_failed(w, b, at, at + n);
		pthread_mutex_unlock(&maps_lock);
		return;
	}
	pthread_mutex_unlock(&maps_lock);
	for (size_t i = 0; i < n; i++) {
		memcpy(b->tags[at + i], a->tags[from + i], sizeof(*b->tags));
		b->state[at + i] = a->state[from + i];
		b->lazy[at + i] = a->lazy[from + i];
	}
	area_cut(w, a, from, from + n);
}

static void op_resize(struct world *w)
{
	struct area *a = any_area(w);
	size_t n;
	unsigned char *p;

	if (!a || a->kind != PRIVATE)
		return;
	n = 1 + rnd(w, 2 * a->n);
	if (n > AREA_PAGES || w->pages + n > WORLD_PAGES + a->n)
		return;
	pthread_mutex_lock(&maps_lock);
	p = mremap(a->at, a->n * PAGE, n * PAGE, MREMAP_MAYMOVE);
	pthread_mutex_unlock(&maps_lock);
	if (p == MAP_FAILED)
		return;		/* it is not one mapping any more */
	if (n > a->n)
		area_set(a, a->n, n, 0, (enum state)a->state[a->n - 1]);
	w->pages += n - a->n;
	a->at = p;
	a->n = n;
}

static void op_protect(struct world *w)
{
	static const int prots[] = {
		[CLOSED] = PROT_NONE, [READABLE] = PROT_READ,
		[WRITABLE] = PROT_READ | PROT_WRITE,
	};
	struct area *a = any_area(w);
	enum state s = one_in(w, 2) ? WRITABLE : (enum state)rnd(w, 3);
	size_t from, to;

	if (!a || a->alias)
		return;
	some_pages(w, a, &from, &to);
	sys(mprotect(a->at + from * PAGE, (to - from) * PAGE, prots[s]));
	for (size_t i = from; i < to; i++)
		a->state[i] = (unsigned char)s;
}

static void op_discard(struct world *w)
{
	struct area *a = any_area(w);
	const bool lazy = one_in(w, 3);
	size_t from, to;

	if (!a || (a->kind != PRIVATE && a->kind != HEAP))
		return;
	some_pages(w, a, &from, &to);
	/* What is locked is not given back. */
	sys(munlock(a->at + from * PAGE, (to - from) * PAGE));
	sys(madvise(a->at + from * PAGE, (to - from) * PAGE,
		    lazy ? MADV_FREE : MADV_DONTNEED));
	for (size_t i = from; i < to; i++) {
		a->lazy[i] = lazy;
		if (!lazy)
			memset(a->tags[i], 0, sizeof(*a->tags));
	}
}

static void op_advise(struct world *w)
{
	static const int advice[] = {
		MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_COLLAPSE, MADV_MERGEABLE,
		MADV_UNMERGEABLE, MADV_COLD, MADV_PAGEOUT, MADV_WILLNEED,
		MADV_POPULATE_READ, MADV_RANDOM, MADV_NORMAL, MADV_SEQUENTIAL,
	};
	struct area *a = any_area(w);
	size_t from, to;

	if (!a)
		return;
	some_pages(w, a, &from, &to);
	/* It may refuse; it may not change what is there. */
	madvise(a->at + from * PAGE, (to - from) * PAGE,
		advice[rnd(w, sizeof(advice) / sizeof(*advice))]);
	if (one_in(w, 8))
		mlock(a->at + from * PAGE, (to - from) * PAGE);
	else if (one_in(w, 8))
		munlock(a->at, a->n * PAGE);
}

/* What is mapped shrinks and grows again, or gets a hole: zeros. */
static void op_truncate(struct world *w)
{
	struct area *a = any_area(w);
	size_t from, to;

	if (!a || a->kind != FILE_SHARED)
		return;
	some_pages(w, a, &from, &to);
	if (one_in(w, 2)) {
		sys(ftruncate(a->fd, (off_t)(from * PAGE)));
		sys(ftruncate(a->fd, (off_t)(a->n * PAGE)));
		to = a->n;
	} else if (fallocate(a->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			     (off_t)(from * PAGE),
			     (off_t)((to - from) * PAGE)) < 0) {
		return;
	}
	area_set(a, from, to, 0, WRITABLE);
}

/* The same file, by the guest's own calls. */
static void op_local_write(struct world *w)
{
	struct area *a = any_area(w);
	uint64_t cell[CELL / 8];
	size_t i, c;

	if (!a || a->kind != FILE_SHARED)
		return;
	i = rnd(w, a->n);
	c = rnd(w, CELLS);
	a->tags[i][c] = new_tag(w);
	fill(cell, a->tags[i][c]);
	same(pwrite(a->fd, cell, CELL, (off_t)(i * PAGE + c * CELL)), CELL);
}

static void op_write(struct world *w)
{
	struct area *a = any_area(w);
	size_t from, to;

	if (!a)
		return;
	some_pages(w, a, &from, &to);
	for (size_t i = from; i < to; i++) {
		unsigned char *page = page_of(w, a, i);
		size_t c = rnd(w, CELLS);

		if (a->state[i] != WRITABLE)
			continue;
		if (a->lazy[i])
			lazy_settle(a, i, page);
		a->tags[i][c] = new_tag(w);
		fill(page + c * CELL, a->tags[i][c]);
	}
}

static void op_check(struct world *w)
{
	struct area *a = any_area(w);
	size_t from, to;

	if (!a)
		return;
	some_pages(w, a, &from, &to);
	area_check(w, a, from, to);
}

static void op_heap(struct world *w)
{
	struct area *a = &w->areas[0];
	size_t n = 1 + rnd(w, 400);

	if (!w->main)
		return;
	for (size_t i = 0; i < a->n; i++)
		if (a->state[i] != WRITABLE)
			return;		/* brk(2) would not join it */
	if (brk(a->at + n * PAGE) < 0)
		return;
	if (n > a->n)
		area_set(a, a->n, n, 0, WRITABLE);
	w->pages += n - a->n;
	a->n = n;
}

/* --- calls ---------------------------------------------------------------- */

struct seg {
	struct area *a;
	size_t cell, n;
};

/* Memory that a call may use: up to so many cells. */
static size_t pick_segs(struct world *w, struct seg *v, enum state state,
			size_t most, size_t *total)
{
	size_t want = 1 + (one_in(w, 2) ? rnd(w, SEGS) : 0), n = 0;

	*total = 0;
	for (int tries = 0; n < want && tries < 30; tries++) {
		struct area *a = any_area(w);
		size_t cell, len, i;

		if (!a)
			break;
		cell = rnd(w, a->n * CELLS);
		len = 1 + (one_in(w, 4) ? rnd(w, 1024) : rnd(w, 48));
		if (len > most - *total)
			len = most - *total;
		if (len > a->n * CELLS - cell)
			len = a->n * CELLS - cell;
		for (i = 0; i < len && a->state[(cell + i) / CELLS] >= state;
		     i++)
			;
		if (!i)
			continue;
		v[n++] = (struct seg){ a, cell, i };
		*total += i;
		if (*total == most)
			break;
	}
	return n;
}

/* A call that may be cut short by nothing but an error of somebody's. */
static void transfer(struct world *w, const struct iovec *iov, size_t n,
		     size_t cell, size_t cells, bool write_it)
{
	const off_t off = (off_t)(cell * CELL);
	const char *name;
	ssize_t r;

	if (n == 1 && one_in(w, 2)) {
		name = write_it ? "pwrite" : "pread";
		r = write_it ? pwrite(w->fd, iov->iov_base, iov->iov_len, off) :
			       pread(w->fd, iov->iov_base, iov->iov_len, off);
	} else if (one_in(w, 2)) {
		name = write_it ? "writev" : "readv";
		same(lseek(w->fd, off, SEEK_SET), off);
		r = write_it ? writev(w->fd, iov, (int)n) :
			       readv(w->fd, iov, (int)n);
	} else {
		name = write_it ? "pwritev" : "preadv";
		r = write_it ? pwritev(w->fd, iov, (int)n, off) :
			       preadv(w->fd, iov, (int)n, off);
	}
	if (r != (ssize_t)(cells * CELL))
		broken(w, "%s of %zu bytes, %zu buffers, the first %zu at %p:"
		       " %zd %s", name, cells * CELL, n, iov->iov_len,
		       iov->iov_base, r, r < 0 ? strerror(errno) : "");
	atomic_fetch_add(&counts->calls, 1);
	atomic_fetch_add(&counts->bytes, cells * CELL);
}

static size_t seg_iov(struct world *w, struct seg *v, size_t n,
		      struct iovec *iov)
{
	for (size_t i = 0; i < n; i++) {
		struct area *a = v[i].a;
		unsigned char *base = a->alias && one_in(w, 3) ? a->alias :
								 a->at;

		iov[i].iov_base = base + v[i].cell * CELL;
		iov[i].iov_len = v[i].n * CELL;
	}
	return n;
}

static void seg_settle_lazy(const struct seg *s)
{
	for (size_t c = s->cell; c < s->cell + s->n; c++)
		if (s->a->lazy[c / CELLS])
			lazy_settle(s->a, c / CELLS,
				    s->a->at + c / CELLS * PAGE);
}

static void op_file_write(struct world *w)
{
	struct iovec iov[SEGS];
	struct seg v[SEGS];
	size_t cell = rnd(w, FILE_CELLS), total, n;

	n = pick_segs(w, v, READABLE, FILE_CELLS - cell, &total);
	if (!n)
		return;
	for (size_t i = 0; i < n; i++) {
		seg_settle_lazy(&v[i]);
		/* Read-only and in doubt stays in doubt. */
		for (size_t c = 0; c < v[i].n; c++)
			if (v[i].a->lazy[(v[i].cell + c) / CELLS])
				return;
	}
	transfer(w, iov, seg_iov(w, v, n, iov), cell, total, true);
	for (size_t i = 0; i < n; i++)
		for (size_t c = v[i].cell; c < v[i].cell + v[i].n; c++)
			w->file[cell++] = v[i].a->tags[c / CELLS][c % CELLS];
}

/* Pages in doubt that the host writes to: what of the rest was zeroed? */
static void seg_read_lazy(struct world *w, const struct seg *s)
{
	struct area *a = s->a;
	const size_t last = (s->cell + s->n - 1) / CELLS;

	for (size_t i = s->cell / CELLS; i <= last; i++) {
		if (!a->lazy[i])
			continue;
		for (size_t c = 0; c < CELLS; c++) {
			uint64_t *p = (uint64_t *)(a->at + i * PAGE + c * CELL);

			if (i * CELLS + c >= s->cell &&
			    i * CELLS + c < s->cell + s->n)
				continue;
			if (*p == 0)
				a->tags[i][c] = 0;
			verify(w, p, a->tags[i][c], "beside what was read");
		}
		/* It was written to: nobody may give it back any more. */
		a->lazy[i] = 0;
	}
}

static void op_file_read(struct world *w)
{
	struct iovec iov[SEGS];
	struct seg v[SEGS];
	size_t cell = rnd(w, FILE_CELLS), total, n;

	n = pick_segs(w, v, WRITABLE, FILE_CELLS - cell, &total);
	if (!n)
		return;
	transfer(w, iov, seg_iov(w, v, n, iov), cell, total, false);
	for (size_t i = 0; i < n; i++) {
		for (size_t c = v[i].cell; c < v[i].cell + v[i].n; c++)
			v[i].a->tags[c / CELLS][c % CELLS] = w->file[cell++];
	}
	for (size_t i = 0; i < n; i++)
		seg_read_lazy(w, &v[i]);
	for (size_t i = 0; i < n; i++)
		area_check(w, v[i].a, v[i].cell / CELLS,
			   (v[i].cell + v[i].n + CELLS - 1) / CELLS);
}

/* What may not be written has to refuse. */
static void op_refused(struct world *w)
{
	struct area *a = any_area(w);
	size_t i;
	ssize_t r;

	if (!a)
		return;
	i = rnd(w, a->n);
	if (a->state[i] == WRITABLE || a->kind != PRIVATE)
		return;
	r = pread(w->fd, a->at + i * PAGE, CELL, 0);
	if (r != -1 || errno != EFAULT)
		broken(w, "pread into a page that is %s at %p: %zd",
		       a->state[i] == READABLE ? "read-only" : "closed",
		       (void *)(a->at + i * PAGE), r);
}

static void op_file_check(struct world *w)
{
	const size_t cell = rnd(w, FILE_CELLS);
	const size_t n = 1 + rnd(w, FILE_CELLS - cell);
	struct iovec iov = { w->check, n * CELL };

	transfer(w, &iov, 1, cell, n, false);
	for (size_t i = 0; i < n; i++)
		verify(w, w->check + i * CELL, w->file[cell + i], "the file");
}

__attribute__((noinline))
static void deeper(struct world *w, size_t frames)
{
	const size_t cell = rnd(w, FILE_CELLS - 256);
	unsigned char frame[PAGE + CELL];
	struct iovec iov = { frame, sizeof(frame) };

	if (frames == 0 || one_in(w, 16)) {
		transfer(w, &iov, 1, cell, sizeof(frame) / CELL, false);
		for (size_t i = 0; i < sizeof(frame) / CELL; i++)
			verify(w, frame + i * CELL, w->file[cell + i],
			       "the stack");
	} else {
		fill(frame, frames);
	}
	if (frames)
		deeper(w, frames - 1);
	__asm__ volatile("" : : "r"(frame) : "memory");
}

/* A frame that nobody has touched before the host writes to it. */
__attribute__((noinline))
static void large_frame(struct world *w)
{
	unsigned char frame[40 * PAGE];
	struct iovec iov = { frame, sizeof(frame) };
	const size_t n = sizeof(frame) / CELL;
	const size_t cell = rnd(w, FILE_CELLS - n);

	transfer(w, &iov, 1, cell, n, false);
	for (size_t i = 0; i < n; i++)
		verify(w, frame + i * CELL, w->file[cell + i], "a large frame");
}

static void op_stack(struct world *w)
{
	if (one_in(w, 2))
		large_frame(w);
	else
		deeper(w, rnd(w, 60));
}

/* --- processes and threads -------------------------------------------------- */

static void world_file(struct world *w)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%.2000s/torture.%d.%lu", victim_dir,
		 (int)getpid(), (unsigned long)w->seed);
	w->fd = (int)sys(open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC,
			      0600));
	sys(unlink(path));
	sys(ftruncate(w->fd, (off_t)(FILE_CELLS * CELL)));
	memset(w->file, 0, sizeof(w->file));
}

static void world_run(struct world *w, uint64_t steps);

__attribute__((noreturn))
static void exec_again(struct world *w)
{
	char seconds[32], seed[32];

	snprintf(seconds, sizeof(seconds), "%f", (double)(1 + rnd(w, 9)) / 10);
	snprintf(seed, sizeof(seed), "%lu", (unsigned long)rnd(w, 1ul << 40));
	atomic_fetch_add(&counts->execs, 1);
	execl(victim_self, victim_self, victim_dir, seconds, seed, "leaf",
	      NULL);
	broken(w, "exec: %s", strerror(errno));
}

/* What is shared is the parent's; all else is as it was, and is our own. */
__attribute__((noreturn))
static void child_main(struct world *w)
{
	pthread_mutex_init(&maps_lock, NULL);
	w->depth++;
	w->seed ^= ++w->next_tag << 20;
	w->rng = w->seed;
	memset(w->children, 0, sizeof(w->children));
	for (size_t i = 0; i < AREAS; i++) {
		struct area *a = &w->areas[i];

		if (!a->at || (a->kind != SHARED && a->kind != FILE_SHARED))
			continue;
		if (one_in(w, 2)) {
			area_drop(w, a);
		} else {
			w->pages -= a->n;
			a->at = a->alias = NULL;
		}
	}
	if (one_in(w, 3))
		close(w->fd);
	world_file(w);
	world_run(w, 5 + rnd(w, 120));
	for (size_t i = 0; i < AREAS; i++)
		if (w->areas[i].at)
			area_check(w, &w->areas[i], 0, w->areas[i].n);
	if (one_in(w, 4))
		exec_again(w);
	_exit(0);
}

static void child_end(struct world *w, pid_t *pid)
{
	const bool killed = one_in(w, 4);
	int status;

	if (!*pid)
		return;
	if (killed)
		kill(*pid, SIGKILL);
	same(waitpid(*pid, &status, 0), *pid);
	*pid = 0;
	if (killed && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
		atomic_fetch_add(&counts->killed, 1);
	else if (status)
		broken(w, "a child ended with wait status %#x", status);
}

static void op_fork(struct world *w)
{
	pid_t *pid = &w->children[rnd(w, CHILDREN)];

	if (w->depth >= 2)
		return;
	child_end(w, pid);
	*pid = (pid_t)sys(fork());
	if (*pid == 0)
		child_main(w);
	atomic_fetch_add(&counts->forks, 1);
	/* Both go on with what both have: at once, or after a while. */
	if (one_in(w, 2))
		op_write(w);
}

static void op_wait(struct world *w)
{
	child_end(w, &w->children[rnd(w, CHILDREN)]);
}

static const struct {
	void (*run)(struct world *w);
	unsigned int weight;
} ops[] = {
	{ op_map, 8 }, { op_unmap, 3 }, { op_replace, 3 }, { op_move, 4 },
	{ op_resize, 4 }, { op_protect, 7 }, { op_discard, 6 },
	{ op_advise, 6 }, { op_truncate, 3 }, { op_local_write, 3 },
	{ op_write, 10 }, { op_check, 8 }, { op_heap, 3 },
	{ op_file_write, 22 }, { op_file_read, 28 }, { op_refused, 3 },
	{ op_file_check, 6 }, { op_stack, 2 }, { op_fork, 1 }, { op_wait, 1 },
};

static void world_step(struct world *w)
{
	unsigned int sum = 0, pick;
	size_t i;

	for (i = 0; i < sizeof(ops) / sizeof(*ops); i++)
		sum += ops[i].weight;
	pick = (unsigned int)rnd(w, sum);
	for (i = 0; pick >= ops[i].weight; i++)
		pick -= ops[i].weight;
	w->step++;
	atomic_fetch_add(&counts->steps, 1);
	ops[i].run(w);
}

static void world_run(struct world *w, uint64_t steps)
{
	while (steps-- && now() < deadline)
		world_step(w);
	for (size_t i = 0; i < CHILDREN; i++)
		child_end(w, &w->children[i]);
}

static struct world *world_new(uint64_t seed)
{
	struct world *w = must_map(sizeof(*w), PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1);

	w->seed = w->rng = seed;
	w->next_tag = seed << 24 & 0xffffffffff;
	for (size_t i = 0; i < AREAS; i++)
		area_models(&w->areas[i]);
	w->check = must_map(FILE_CELLS * CELL, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1);
	world_file(w);
	return w;
}

static void world_free(struct world *w)
{
	for (size_t i = 0; i < AREAS; i++) {
		struct area *a = &w->areas[i];

		if (a->at)
			area_check(w, a, 0, a->n);
		if (a->at && a->kind != HEAP)
			area_drop(w, a);
		munmap(a->tags, AREA_PAGES * sizeof(*a->tags));
		munmap(a->state, 2 * AREA_PAGES);
	}
	munmap(w->check, FILE_CELLS * CELL);
	close(w->fd);
	munmap(w, sizeof(*w));
}

static void *thread_main(void *arg)
{
	struct world *w = world_new((uint64_t)(uintptr_t)arg);

	w->depth = 1;
	world_run(w, 100 + rnd(w, 400));
	world_free(w);
	return NULL;
}

/* A file of the guest's that private mappings map. */
static void make_local_file(struct world *w)
{
	const char *name = local("torture-private");
	uint64_t cell[CELL / 8];

	area_models(&local_file);
	local_file.n = 64;
	local_file.fd = (int)sys(open(name, O_RDWR | O_CREAT | O_CLOEXEC,
				      0600));
	unlink(name);
	for (size_t i = 0; i < local_file.n * CELLS; i++) {
		uint64_t tag = new_tag(w);

		local_file.tags[i / CELLS][i % CELLS] = tag;
		fill(cell, tag);
		same(write(local_file.fd, cell, CELL), CELL);
	}
}

/* Nothing of ours asks for heap later: it is the world's. */
static void take_heap(struct world *w)
{
	struct area *a = &w->areas[0];
	uintptr_t top = (uintptr_t)sbrk(0);

	a->at = (unsigned char *)((top + PAGE - 1) & ~(PAGE - 1)) + 4 * PAGE;
	a->kind = HEAP;
	a->fd = -1;
	a->n = 1;
	w->main = brk(a->at + PAGE) == 0;
	if (!w->main)
		a->at = NULL;
	else
		area_set(a, 0, 1, 0, WRITABLE);
	w->pages += a->n;
}

static void with_threads(struct world *w)
{
	pthread_t threads[THREADS];

	for (uint64_t round = 1; now() < deadline; round++) {
		pthread_mutex_lock(&maps_lock);
		for (uint64_t i = 0; i < THREADS; i++)
			same(pthread_create(&threads[i], NULL, thread_main,
					    (void *)(uintptr_t)((w->seed <<
					    16) + round * THREADS + i)), 0);
		pthread_mutex_unlock(&maps_lock);
		atomic_fetch_add(&counts->threads, THREADS);
		world_run(w, 600);
		for (int i = 0; i < THREADS; i++)
			same(pthread_join(threads[i], NULL), 0);
	}
}

int main(int argc, char **argv)
{
	const bool leaf = argc == 5;
	struct world *w;

	check(argc >= 4, "usage: %s DIR SECONDS SEED", argv[0]);
	victim_self = argv[0];
	victim_dir = argv[1];
	victim_doing = "torture";
	deadline = now() + strtod(argv[2], NULL);
	counts = must_map(PAGE, PROT_READ | PROT_WRITE, MAP_SHARED |
			  MAP_ANONYMOUS, -1);
	w = world_new(strtoull(argv[3], NULL, 0));
	make_local_file(w);
	if (leaf) {
		w->depth = 2;
		take_heap(w);
		world_run(w, ~0ull);
	} else {
		/* The first threads' stacks and all else of the library's. */
		pthread_t t;

		same(pthread_create(&t, NULL, thread_main,
				    (void *)(uintptr_t)(w->seed << 16)), 0);
		same(pthread_join(t, NULL), 0);
		take_heap(w);
		with_threads(w);
	}
	world_free(w);
	if (!leaf)
		printf("%lu steps, %lu calls, %lu bytes, %lu forks (%lu killed,"
		       " %lu executed again), %lu threads\n", counts->steps,
		       counts->calls, counts->bytes, counts->forks,
		       counts->killed, counts->execs, counts->threads);
	return 0;
}
