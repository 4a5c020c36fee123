/* SPDX-License-Identifier: MIT */
/*
 * shadow.c - does host/shadow.c hold what it says?
 *
 * Theory of operation. This process is daemon and guest at once: it has the
 * arena mapped, writes requests into slots there and waits for the replies,
 * taking the stops of executors meanwhile as the daemon's loop would. A model
 * with one entry a page says what guest memory a shadow must have; after
 * every change /proc/PID/maps is held against it, and whatever is neither in
 * the model nor the capsule is an error. All of it is done as root and as an
 * ordinary user, each in a child of its own that ends with an alarm.
 */
#include "host/shadow.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/num.h"
#include "capsule/abi.h"
#include "guest/arena.h"
#include "process/maps.h"

#define NOBODY		65534
#define LIMIT_S		180	/* for everything, as one user */
#define CALL_LIMIT_MS	5000
#define USER_END	0x7ffffffff000ULL

#define SLOTS		8
#define DATA		0x10000000ULL	/* in a shadow: paths and buffers */
#define DATA_SIZE	0x10000ULL
#define BUF		(DATA + 0x8000)
#define SPARE		0x20000000ULL	/* nothing is there */
#define AREA		(64ULL << 20)	/* of guest RAM, mapped here too */
#define MODEL_MAX	8192
#define ROUNDS		24

#define CONTENT		"abcdefghijklmnopqrstuvwxyz"

/* ---- verdicts ---- */

struct counts {
	int done, failed;
};

static struct counts *counts;	/* shared with the children */
static const char *who;

static bool __attribute__((format(printf, 2, 3)))
ok(bool good, const char *fmt, ...)
{
	va_list ap;

	printf("%sok %d - %s: ", good ? "" : "not ", ++counts->done, who);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	counts->failed += !good;
	return good;
}

static _Noreturn void bail(const char *what)
{
	printf("Bail out! %s: %s\n", what, strerror(errno));
	exit(1);
}

/* ---- what is played with ---- */

static char top[64];		/* a fresh directory: /x for the shadows */
static int fifo = -1;		/* both ends of /x/fifo, so nobody waits */
static struct arena arena;
static uint8_t *ram;		/* AREA bytes of the arena, from ram_off */
static uint64_t ram_off, ram_next;
static struct nursery *nursery;
static struct shadow *gone;	/* the last one that nursery_stopped() told */

static const char *under(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", top, name);
	return path;
}

static void make_world(void)
{
	int fd;

	snprintf(top, sizeof(top), "/tmp/ds-shadow-XXXXXX");
	if (!mkdtemp(top) || chmod(top, 0755))
		bail(top);
	fd = open(under("file"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0 || fd_pwrite_all(fd, CONTENT, strlen(CONTENT), 0))
		bail("file");
	close(fd);
	if (mkfifo(under("fifo"), 0600))
		bail("fifo");
	fifo = open(under("fifo"), O_RDWR | O_CLOEXEC);
	if (fifo < 0)
		bail("fifo");
}

static void remove_world(void)
{
	close_fd(&fifo);
	unlink(under("file"));
	unlink(under("fifo"));
	rmdir(top);
}

static uint64_t ram_alloc(uint64_t len)
{
	uint64_t off = ram_next;

	if (!range_inside(off, len, AREA))
		bail("out of guest RAM");
	ram_next += len;
	return ram_off + off;
}

static void make_ram(void)
{
	void *p;

	if (arena_init(&arena) || arena_alloc(&arena, AREA, &ram_off))
		bail("arena");
	p = mmap(NULL, AREA, PROT_READ | PROT_WRITE, MAP_SHARED, arena.fd,
		 (off_t)ram_off);
	if (p == MAP_FAILED)
		bail("mmap of the arena");
	ram = p;
}

/* ---- the model ---- */

struct page {
	uint64_t gva, off;
};

struct guest {
	struct shadow *s;
	struct page v[MODEL_MAX];
	size_t n;
	uint64_t slots, data;	/* where they are in guest RAM */
};

static struct page *model_find(struct guest *g, uint64_t gva)
{
	for (size_t i = 0; i < g->n; i++)
		if (g->v[i].gva == gva)
			return &g->v[i];
	return NULL;
}

static void model_apply(struct guest *g, const struct extent *e)
{
	for (uint64_t at = 0; at < e->len; at += PAGE_BYTES) {
		struct page *p = model_find(g, e->gva + at);

		if (e->kind == EXTENT_NONE) {
			if (p)
				*p = g->v[--g->n];
			continue;
		}
		if (!p) {
			if (g->n == MODEL_MAX)
				bail("the model is full");
			p = &g->v[g->n++];
		}
		*p = (struct page){ e->gva + at, e->off + at };
	}
}

static struct extent ram_extent(uint64_t gva, uint64_t len, uint64_t off)
{
	return (struct extent){ .gva = gva, .len = len, .off = off,
				.kind = EXTENT_RAM,
				.flags = EXTENT_READ | EXTENT_WRITE };
}

static bool is_capsule(const struct guest *g, const struct map_line *l)
{
	const uint64_t text_end = g->s->base + CAPSULE_TEXT;

	return l->start == g->s->base && l->end == text_end &&
	       l->prot == (PROT_READ | PROT_EXEC) &&
	       strstr(l->name, "/memfd:darkshadow-capsule");
}

static bool is_ctl(const struct guest *g, const struct map_line *l)
{
	return l->start == g->s->base + CAPSULE_TEXT &&
	       l->end == g->s->base + CAPSULE_SIZE && l->prot == PROT_READ &&
	       strstr(l->name, "/memfd:darkshadow-ctl");
}

static bool is_modelled(struct guest *g, const struct map_line *l)
{
	if (!strstr(l->name, "/memfd:darkshadow-arena") || !l->shared ||
	    l->prot & PROT_EXEC)
		return false;
	for (uint64_t at = l->start; at < l->end; at += PAGE_BYTES) {
		const struct page *p = model_find(g, at);

		if (!p || p->off != l->off + (at - l->start))
			return false;
	}
	return true;
}

/* Capsule, ctl page, what the model has, and not one page more. */
static bool memory_right(struct guest *g)
{
	size_t pages = 0, capsules = 0, ctls = 0;
	bool good = true;
	struct maps maps;

	if (maps_read(g->s->leader, &maps))
		return false;
	for (size_t i = 0; i < maps.n; i++) {
		const struct map_line *l = &maps.v[i];

		if (l->start >= USER_END)
			continue;	/* [vsyscall] */
		if (is_capsule(g, l)) {
			capsules++;
		} else if (is_ctl(g, l)) {
			ctls++;
		} else if (is_modelled(g, l)) {
			pages += (l->end - l->start) / PAGE_BYTES;
		} else {
			printf("# unexpected: %lx-%lx prot %d off %lx %s\n",
			       l->start, l->end, l->prot, l->off, l->name);
			good = false;
		}
	}
	if (capsules != 1 || ctls != 1 || pages != g->n)
		printf("# %zu texts, %zu ctl pages, %zu of %zu pages\n",
		       capsules, ctls, pages, g->n);
	maps_fini(&maps);
	return good && capsules == 1 && ctls == 1 && pages == g->n;
}

/* Apply extents to shadow and model. */
static int put_extents(struct guest *g, const struct extent *v, size_t n)
{
	int rc = shadow_map(g->s, v, n);

	for (size_t i = 0; i < n && !rc; i++)
		model_apply(g, &v[i]);
	return rc;
}

/* ---- calls ---- */

/* What the daemon's loop does on SIGCHLD. */
static void pump(void)
{
	int status;
	pid_t tid;

	while ((tid = waitpid(-1, &status, __WALL | WNOHANG)) > 0) {
		struct shadow *s = nursery_stopped(nursery, tid, status);

		if (s)
			gone = s;
	}
}

static void pause_ms(unsigned int ms)
{
	struct timespec t = { .tv_sec = ms / 1000,
			      .tv_nsec = ms % 1000 * 1000000L };

	nanosleep(&t, NULL);
}

static void pump_for(unsigned int ms)
{
	for (; ms > 0; ms--) {
		pump();
		pause_ms(1);
	}
}

static struct slot *slot_of(const struct guest *g, uint32_t thread)
{
	return (void *)(ram + (g->slots - ram_off) + thread * SLOT_STRIDE);
}

static uint64_t slot_gva(uint32_t thread)
{
	return SLOT_BASE + thread * SLOT_STRIDE;
}

static void *data_of(const struct guest *g, uint64_t gva)
{
	return ram + (g->data - ram_off) + (gva - DATA);
}

static uint32_t seq_of(const struct guest *g, uint32_t thread)
{
	return slot_of(g, thread)->req_seq & ~1u;
}

static void begin(struct guest *g, uint32_t thread, uint32_t op,
		  uint32_t newfd, uint32_t nr, const uint64_t args[6])
{
	struct slot *s = slot_of(g, thread);

	s->op = op;
	s->newfd = newfd;
	s->nr = nr;
	memcpy(s->args, args, sizeof(s->args));
	__atomic_exchange_n(&s->req_seq, seq_of(g, thread) + 2,
			    __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &s->req_seq, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static bool is_done(const struct guest *g, uint32_t thread)
{
	const struct slot *s = slot_of(g, thread);

	return slot_answered(s, seq_of(g, thread));
}

#define NO_REPLY	(-99999)

static int64_t finish(struct guest *g, uint32_t thread)
{
	const struct timespec ms = { .tv_nsec = 1000000 };
	struct slot *s = slot_of(g, thread);

	for (int i = 0; i < CALL_LIMIT_MS; i++) {
		uint32_t seen = __atomic_or_fetch(&s->resp_seq, 1,
						  __ATOMIC_SEQ_CST);

		pump();
		if (is_done(g, thread))
			return s->result;
		syscall(SYS_futex, &s->resp_seq, FUTEX_WAIT, seen, &ms, NULL,
			0);
	}
	return NO_REPLY;
}

#define BEGIN(g, thread, op, newfd, nr, ...) \
	begin(g, thread, op, newfd, nr, (uint64_t[6]){ __VA_ARGS__ })
#define CALL(g, thread, nr, ...) \
	(BEGIN(g, thread, SLOT_CALL, 0, nr, __VA_ARGS__), finish(g, thread))

static int64_t open_as(struct guest *g, uint32_t thread, const char *name,
		       int flags, uint32_t newfd)
{
	strcpy(data_of(g, DATA + thread * 256), name);
	BEGIN(g, thread, SLOT_OPEN, newfd, SYS_openat, (uint64_t)AT_FDCWD,
	      DATA + thread * 256, (uint64_t)flags);
	return finish(g, thread);
}

static int64_t close_slot(struct guest *g, uint32_t thread, uint32_t fd)
{
	BEGIN(g, thread, SLOT_CLOSE, fd, 0, 0);
	return finish(g, thread);
}

/* Descriptor 10 is /x/file: do calls work, into any memory of the guest? */
static bool works(struct guest *g, uint32_t thread)
{
	void *p = data_of(g, BUF);

	memset(p, 0, 64);
	return CALL(g, thread, SYS_pread64, 10, BUF, 5, 2) == 5 &&
	       !memcmp(p, CONTENT + 2, 5) && ((char *)p)[5] == 0;
}

static bool reads_to(struct guest *g, uint32_t thread, uint64_t gva,
		     uint64_t off)
{
	memset(ram + (off - ram_off), 0, 8);
	return CALL(g, thread, SYS_pread64, 10, gva, 7, 3) == 7 &&
	       !memcmp(ram + (off - ram_off), CONTENT + 3, 7);
}

/* Nothing of the guest's is there, nor anything writable. */
static bool is_hole(struct guest *g, uint64_t gva)
{
	return CALL(g, 0, SYS_pread64, 10, gva, 7, 3) == -EFAULT;
}

/* Until the executor is in the call, and asleep. */
static bool blocked_in(struct guest *g, uint32_t thread, long nr)
{
	struct executor *e;
	char path[64], text[256];

	for (int i = 0; i < CALL_LIMIT_MS; i++) {
		int fd cleanup_fd = -1;

		pump();
		pause_ms(1);
		for (e = g->s->executors; e; e = e->next)
			if (e->thread == thread && !e->ending)
				break;
		if (!e || is_done(g, thread))
			return false;
		snprintf(path, sizeof(path), "/proc/%d/syscall", e->tid);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		memset(text, 0, sizeof(text));
		if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0) {
			pump_for(100);	/* a kernel without that file */
			return !is_done(g, thread);
		}
		if (text[0] != 'r' && text[0] != '-' &&
		    strtol(text, NULL, 10) == nr)
			return true;
	}
	return false;
}

static bool block_on_fifo(struct guest *g, uint32_t thread)
{
	BEGIN(g, thread, SLOT_CALL, 0, SYS_read, 11, BUF + 0x1000, 6);
	return blocked_in(g, thread, SYS_read);
}

static bool unblock(struct guest *g, uint32_t thread)
{
	memset(data_of(g, BUF + 0x1000), 0, 6);
	if (is_done(g, thread) || write(fifo, "tomato", 6) != 6)
		return false;
	return finish(g, thread) == 6 &&
	       !memcmp(data_of(g, BUF + 0x1000), "tomato", 6);
}

static bool was_cut(int64_t result)
{
	return result == -ERESTARTSYS || result == -ERESTARTNOINTR ||
	       result == -ERESTARTNOHAND || result == -ERESTART_RESTARTBLOCK;
}

/* ---- the tests ---- */

static int map_basics(struct guest *g)
{
	const struct extent v[] = {
		ram_extent(SLOT_BASE, SLOTS * SLOT_STRIDE, g->slots),
		ram_extent(DATA, DATA_SIZE, g->data),
	};

	return put_extents(g, v, ARRAY_SIZE(v));
}

static int start_thread(struct guest *g, uint32_t thread)
{
	return shadow_thread_new(g->s, thread, slot_gva(thread), 0,
				 seq_of(g, thread));
}

static void guest_init(struct guest *g)
{
	g->n = 0;
	g->slots = ram_alloc(SLOTS * SLOT_STRIDE);
	g->data = ram_alloc(DATA_SIZE);
}

static void test_calls(struct guest *g)
{
	ok(memory_right(g), "a new shadow has its capsule and no memory");
	ok(map_basics(g) == 0 && memory_right(g), "slots and data are mapped");
	ok(start_thread(g, 0) == 0 && start_thread(g, 1) == 0,
	   "executors are made");
	ok(start_thread(g, 1) == -EEXIST, "but not twice for a thread");
	ok(open_as(g, 0, "/x/file", O_RDONLY, 10) == 10,
	   "a file of the rule opens as the number asked for");
	ok(open_as(g, 0, "/etc/passwd", O_RDONLY, 12) == -ENOENT,
	   "another does not");
	ok(works(g, 0) && works(g, 1), "pread into guest memory");
	ok(CALL(g, 0, SYS_getcwd, BUF, 64) == 2 &&
	   !strcmp(data_of(g, BUF), "/"), "getcwd");
	ok(CALL(g, 0, SYS_pread64, 10, SPARE, 4, 0) == -EFAULT,
	   "pread into nothing is EFAULT");
	ok(CALL(g, 0, SYS_pread64, 10, g->s->base, 4, 0) == -EFAULT &&
	   CALL(g, 0, SYS_pread64, 10, g->s->base + CAPSULE_TEXT, 4, 0) ==
	   -EFAULT, "and into the capsule too");
	ok(CALL(g, 0, SYS_getpid, 0) == -EPERM &&
	   CALL(g, 0, SYS_munmap, DATA, PAGE_BYTES) == -EPERM,
	   "what is not forwarded is refused");
	ok(open_as(g, 1, "/x/fifo", O_RDONLY, 11) == 11 &&
	   block_on_fifo(g, 1) && works(g, 0) && unblock(g, 1),
	   "a read of a fifo waits, and others go on meanwhile");
}

static void test_refused(struct guest *g)
{
	const uint64_t p = PAGE_BYTES, o = ram_alloc(4 * PAGE_BYTES);
	struct extent rw = ram_extent(SPARE, p, o);
	const struct {
		const char *what;
		uint64_t gva, len, off;
		uint16_t kind;
	} bad[] = {
		{ "an unaligned address", SPARE + 8, p, o, EXTENT_RAM },
		{ "an unaligned length", SPARE, p + 8, o, EXTENT_RAM },
		{ "an unaligned offset", SPARE, p, o + 8, EXTENT_RAM },
		{ "no length", SPARE, 0, o, EXTENT_RAM },
		{ "no length, none", SPARE, 0, 0, EXTENT_NONE },
		{ "wrapping", SPARE, -p, o, EXTENT_RAM },
		{ "wrapping, none", SPARE, -p, 0, EXTENT_NONE },
		{ "wrapping to 0", SPARE, -SPARE, o, EXTENT_RAM },
		{ "address 0", 0, p, o, EXTENT_RAM },
		{ "address 0, none", 0, 2 * p, 0, EXTENT_NONE },
		{ "beyond the user half", USER_END, p, o, EXTENT_RAM },
		{ "over its end", USER_END - p, 2 * p, o, EXTENT_RAM },
		{ "over its end, none", USER_END - p, 2 * p, 0, EXTENT_NONE },
		{ "the kernel's half", 0xffff888000000000ULL, p, o,
		  EXTENT_RAM },
		{ "behind RAM", SPARE, p, arena.size, EXTENT_RAM },
		{ "over the end of RAM", SPARE, 2 * p, arena.size - p,
		  EXTENT_RAM },
		{ "a wrapping offset", SPARE, 2 * p, -p, EXTENT_RAM },
		{ "a file's negative offset", SPARE, p, 1ULL << 63,
		  EXTENT_FILE },
		{ "an unknown kind", SPARE, p, o, 3 },
	};
	struct extent top_page = ram_extent(USER_END - p, p, o);

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct extent v[] = { rw, rw };
		int rc;

		v[0].gva = bad[i].gva;
		v[0].len = bad[i].len;
		v[0].off = bad[i].off;
		v[0].kind = bad[i].kind;
		v[1].gva = SPARE + 16 * p;
		rc = shadow_map(g->s, v, ARRAY_SIZE(v));
		ok(rc == -EINVAL && memory_right(g),
		   "%s is refused (%d), and nothing after it done",
		   bad[i].what, rc);
	}
	ok(put_extents(g, &top_page, 1) == 0 && memory_right(g) &&
	   reads_to(g, 0, USER_END - p, o), "the last page is allowed");
	top_page.kind = EXTENT_NONE;
	ok(put_extents(g, &top_page, 1) == 0 && memory_right(g) &&
	   is_hole(g, USER_END - p), "and taken away again");
	rw.kind = EXTENT_FILE;
	rw.file = 5000;
	ok(shadow_map(g->s, &rw, 1) == 0 && memory_right(g),
	   "a file that nobody has is a hole");
	ok(works(g, 0) && works(g, 1), "calls go on");
}

/* Some of the arena is RAM at HIGH, too, as no file offset could be. */
#define HIGH		(3ULL << 61)
#define HIGH_LEN	(64 * PAGE_BYTES)
static uint64_t high_off;

static void test_elsewhere(struct guest *g)
{
	const uint64_t p = PAGE_BYTES;
	struct extent e = ram_extent(SPARE, 2 * p, HIGH);

	ok(shadow_map(g->s, &e, 1) == 0 && reads_to(g, 0, SPARE, high_off) &&
	   reads_to(g, 0, SPARE + p, high_off + p),
	   "RAM is where the table says, not where the guest counts");
	e.off = HIGH + HIGH_LEN - p;
	ok(shadow_map(g->s, &e, 1) == -EINVAL, "and ends where it says");
	e.len = p;
	ok(shadow_map(g->s, &e, 1) == 0 &&
	   reads_to(g, 0, SPARE, high_off + HIGH_LEN - p), "not before");
	e.off = HIGH - p;
	ok(shadow_map(g->s, &e, 1) == -EINVAL, "a hole is refused");
	e.kind = EXTENT_NONE;
	e.len = 2 * p;
	ok(shadow_map(g->s, &e, 1) == 0 && memory_right(g),
	   "and taken away again");
}

static void test_moved(struct guest *g)
{
	const uint64_t base = g->s->base, len = 0x10000;
	const uint64_t off = ram_alloc(len);
	const struct extent over = ram_extent(base - 0x4000, len, off);

	ok(block_on_fifo(g, 1), "an executor is blocked in a read");
	ok(put_extents(g, &over, 1) == 0 && g->s->base != base &&
	   memory_right(g), "RAM over the capsule moves it");
	ok(works(g, 0) && reads_to(g, 0, base, off + 0x4000) &&
	   reads_to(g, 0, base + CAPSULE_SIZE, off + 0x4000 + CAPSULE_SIZE),
	   "calls go on, also into what is there now");
	ok(unblock(g, 1) && works(g, 1),
	   "the blocked read is completed afterwards");
	ok(start_thread(g, 2) == 0 && works(g, 2),
	   "a new executor works in the new place");
}

/* Next to the capsule and over it, in one go: variants of order and shape. */
static size_t around(uint64_t base, unsigned int variant, struct extent v[3])
{
	const struct extent below = ram_extent(base - 0x4000, 0x4000,
					       ram_alloc(0x4000));
	const struct extent above = ram_extent(base + CAPSULE_SIZE, 0x3000,
					       ram_alloc(0x3000));
	const struct extent text = ram_extent(base, 0x1000,
					      ram_alloc(0x1000));
	const struct extent ctl = ram_extent(base + 0x2000, 0x1000,
					     ram_alloc(0x1000));
	const struct extent all = ram_extent(base - 0x1000,
					     CAPSULE_SIZE + 0x2000,
					     ram_alloc(CAPSULE_SIZE + 0x2000));

	switch (variant % 6) {
	case 0:
		v[0] = below;
		v[1] = text;
		return 2;
	case 1:
		v[0] = text;
		v[1] = below;
		return 2;
	case 2:
		v[0] = below;
		v[1] = above;
		v[2] = ctl;
		return 3;
	case 3:
		v[0] = all;
		v[1] = below;
		v[2] = above;
		return 3;
	case 4:
		v[0] = ram_extent(base - (32 << 20), 4096,
				  ram_alloc(0x1000));
		v[1] = ctl;
		v[2] = text;
		return 3;
	}
	v[0] = (struct extent){ .gva = base - 0x8000, .len = 0x20000,
				.kind = EXTENT_NONE };
	v[1] = above;
	v[2] = all;
	return 3;
}

static bool overlaps(const struct guest *g, const struct extent *e)
{
	return e->kind != EXTENT_NONE &&
	       e->gva < g->s->base + CAPSULE_SIZE &&
	       g->s->base < e->gva + e->len;
}

static void test_chased(struct guest *g)
{
	bool mapped = true, clear = true, right = true, calls = true;
	bool holes = true, moved = true;
	int rc = 0;
	unsigned int i;

	for (i = 0; i < ROUNDS && mapped && clear && right && calls; i++) {
		const uint64_t old = g->s->base;
		struct extent v[3];
		size_t n;
		bool wait = i % 4 == 3 && block_on_fifo(g, 1);

		n = around(old, i, v);
		rc = put_extents(g, v, n);
		mapped = rc == 0;
		moved = moved && g->s->base != old;
		for (size_t k = 0; k < n; k++)
			clear = clear && !overlaps(g, &v[k]);
		right = memory_right(g);
		calls = works(g, 0) && works(g, 2) &&
			reads_to(g, 0, v[n - 1].gva, v[n - 1].off);
		for (uint64_t at = old; at < old + CAPSULE_SIZE;
		     at += PAGE_BYTES)
			if (!model_find(g, at) &&
			    (at < g->s->base ||
			     at >= g->s->base + CAPSULE_SIZE))
				holes = holes && is_hole(g, at);
		if (i % 4 == 3)
			calls = calls && wait && unblock(g, 1);
	}
	ok(mapped, "the capsule is chased %u times (%d)", i, rc);
	ok(moved && clear, "it has moved and meets no extent");
	ok(right, "text and ctl page are where they are said to be");
	ok(calls, "calls go on");
	ok(holes, "and unmapped addresses are unmapped");
}

static void test_spared(struct guest *g)
{
	const uint64_t base = g->s->base;
	const struct extent none[] = {
		{ .gva = base - 0x8000, .len = 0x20000, .kind = EXTENT_NONE },
		{ .gva = base, .len = 0x1000, .kind = EXTENT_NONE },
		{ .gva = base + 0x2000, .len = 0x1000, .kind = EXTENT_NONE },
		{ .gva = base + 0x4000, .len = 0x8000, .kind = EXTENT_NONE },
	};

	ok(put_extents(g, none, ARRAY_SIZE(none)) == 0 &&
	   g->s->base == base && memory_right(g) && works(g, 0) && works(g, 1),
	   "unmapping spares the capsule");
}

static void test_closed(struct guest *g)
{
	char path[64];
	bool full = true;
	int64_t raw;

	ok(open_as(g, 0, "/x/file", O_RDONLY, 20) == 20 &&
	   shadow_close(g->s, 20) == 0, "a descriptor is closed");
	ok(CALL(g, 0, SYS_pread64, 20, BUF, 4, 0) == -EBADF,
	   "its number is no file any more");
	ok(open_as(g, 0, "/x/file", O_RDONLY, 21) == 21 &&
	   close_slot(g, 0, 21) == 0 &&
	   CALL(g, 0, SYS_pread64, 21, BUF, 4, 0) == -EBADF,
	   "and another by its executor");
	ok(open_as(g, 0, "/x/file", O_RDONLY, 20) == 20,
	   "what is opened next gets what it was given");
	for (int fd = 0; fd < SHADOW_FD_BASE; fd++) {
		struct stat st;

		snprintf(path, sizeof(path), "/proc/%d/fd/%d", g->s->leader,
			 fd);
		full = full && lstat(path, &st) == 0;
	}
	ok(full, "no low number is free");
	raw = CALL(g, 0, SYS_openat, (uint64_t)AT_FDCWD, DATA, O_RDONLY);
	ok(raw == SHADOW_FD_BASE && close_slot(g, 0, (uint32_t)raw) == 0,
	   "a call of its own gets the first high one (%ld)", raw);
	ok(shadow_close(g->s, SHADOW_FD_FILLER) == -EBADF &&
	   shadow_close(g->s, 1U << 31) < 0 && works(g, 0),
	   "neither the filler nor nonsense can be closed");
	ok(shadow_close(g->s, 20) == 0, "the file is closed");
}

static void test_cancelled(struct guest *g)
{
	int64_t r = 0;
	int cut = 0, i;

	ok(block_on_fifo(g, 1), "an executor is blocked in a read");
	shadow_cancel(g->s, 1, seq_of(g, 1) - 2);
	pump_for(50);
	ok(!is_done(g, 1), "cancelling the request before does nothing");
	shadow_cancel(g->s, 1, seq_of(g, 1));
	r = finish(g, 1);
	ok(was_cut(r), "cancelling it cuts it short (%ld)", r);
	ok(works(g, 1), "the next request works");
	shadow_cancel(g->s, 1, seq_of(g, 1));
	pump_for(50);
	ok(is_done(g, 1) && slot_of(g, 1)->result == 5,
	   "cancelling a finished request does nothing");
	ok(block_on_fifo(g, 1) && unblock(g, 1) && works(g, 1),
	   "also to the next one, which blocks");
	shadow_cancel(g->s, 1, seq_of(g, 1));
	ok(block_on_fifo(g, 1) && unblock(g, 1),
	   "also if that begins at once");
	for (i = 0; i < 200; i++) {
		BEGIN(g, 1, SLOT_CALL, 0, SYS_read, 11, BUF + 0x1000, 6);
		if (i & 1)
			sched_yield();
		shadow_cancel(g->s, 1, seq_of(g, 1));
		cut += was_cut(finish(g, 1));
	}
	ok(cut == i, "%d of %d are cut when cancelled at once", cut, i);
	for (i = cut = 0; i < 50; i++) {
		shadow_cancel(g->s, 1, seq_of(g, 1) + 2);
		BEGIN(g, 1, SLOT_CALL, 0, SYS_read, 11, BUF + 0x1000, 6);
		cut += was_cut(finish(g, 1));
	}
	ok(cut == i, "%d of %d are cut when cancelled before", cut, i);
	ok(works(g, 1) && block_on_fifo(g, 1) && unblock(g, 1),
	   "and then requests work");
	/* The capsule moves while a cancellation is on its way. */
	for (i = cut = 0; i < 20; i++) {
		const struct extent e = ram_extent(g->s->base, PAGE_BYTES,
						   ram_alloc(PAGE_BYTES));

		BEGIN(g, 1, SLOT_CALL, 0, SYS_read, 11, BUF + 0x1000, 6);
		if (i & 1)
			blocked_in(g, 1, SYS_read);
		shadow_cancel(g->s, 1, seq_of(g, 1));
		if (put_extents(g, &e, 1))
			break;
		cut += was_cut(finish(g, 1));
	}
	ok(cut == i && i == 20 && works(g, 1) && memory_right(g),
	   "%d of 20 are cut while the capsule moves", cut);
}

static void test_forked(struct guest *g)
{
	static struct guest child;
	int fd;

	guest_init(&child);
	memcpy(child.v, g->v, sizeof(child.v));
	child.n = g->n;
	ok(CALL(g, 0, SYS_lseek, 10, 0, SEEK_SET) == 0 &&
	   CALL(g, 0, SYS_read, 10, BUF, 4) == 4, "a file is read");
	ok(shadow_new(nursery, g->s, 1, 022, CLONE_VM, &child.s) == -EINVAL,
	   "memory cannot be shared");
	if (!ok(shadow_new(nursery, g->s, 2, 022, 0, &child.s) == 0,
		"a shadow forks"))
		return;
	ok(child.s->base == g->s->base && memory_right(&child),
	   "its capsule and memory are where they were");
	ok(shadow_reset(child.s) == 0 && (child.n = 0, memory_right(&child)) &&
	   map_basics(&child) == 0 && start_thread(&child, 0) == 0 &&
	   works(&child, 0), "it gets memory of its own, and works");
	ok(CALL(&child, 0, SYS_read, 10, BUF, 4) == 4 &&
	   !memcmp(data_of(&child, BUF), CONTENT + 4, 4),
	   "it reads on where its parent was");
	ok(CALL(g, 0, SYS_read, 10, BUF, 4) == 4 &&
	   !memcmp(data_of(g, BUF), CONTENT + 8, 4), "and the other way round");
	ok(shadow_close(child.s, 10) == 0 && works(g, 0),
	   "its descriptors are its own");
	fd = shadow_getfd(g->s, 10);
	ok(fd >= 0 && lseek(fd, 0, SEEK_CUR) == 12,
	   "the daemon can have a copy");
	close_fd(&fd);
	ok(memory_right(&child) && memory_right(g), "no memory is mixed up");
	shadow_free(child.s);
	pump();
	ok(works(g, 0), "the parent outlives it");
}

static void test_reset(struct guest *g)
{
	ok(block_on_fifo(g, 1), "an executor is blocked in a read");
	ok(shadow_reset(g->s) == 0 && !g->s->executors,
	   "reset, and no executor is left");
	g->n = 0;
	ok(memory_right(g), "nor any memory");
	pump_for(50);
	ok(map_basics(g) == 0 && start_thread(g, 0) == 0 &&
	   start_thread(g, 1) == 0 && memory_right(g), "executors are made");
	ok(works(g, 0) && works(g, 1), "calls work, descriptors are there");
	ok(block_on_fifo(g, 1) && unblock(g, 1),
	   "nobody of before takes what is in the fifo");
	shadow_thread_end(g->s, 1);
	ok(start_thread(g, 1) == 0 && works(g, 1),
	   "a thread's number can be taken again at once");
	pump_for(50);
	ok(works(g, 1) && works(g, 0) && !gone, "and stays");
}

static void test_killed(struct guest *g)
{
	static struct guest other;

	guest_init(&other);
	ok(shadow_new(nursery, NULL, 3, 022, 0, &other.s) == 0 &&
	   memory_right(&other) && map_basics(&other) == 0 &&
	   start_thread(&other, 0) == 0 &&
	   open_as(&other, 0, "/x/file", O_RDONLY, 10) == 10 &&
	   works(&other, 0), "there is another shadow");
	gone = NULL;
	/* kill(0) would be for all of us. */
	if (!ok(g->s->leader > 0, "the first is still alive"))
		return;
	kill(g->s->leader, SIGKILL);
	for (int i = 0; i < CALL_LIMIT_MS && !gone; i++)
		pump_for(1);
	ok(gone == g->s, "a shadow that is killed is told of");
	if (gone == g->s)
		shadow_free(g->s);
	ok(works(&other, 0), "the other works");
	ok(!nursery_dead(nursery), "the nursery is alive");
	gone = NULL;
	if (nursery->first.leader > 0)
		kill(nursery->first.leader, SIGKILL);
	for (int i = 0; i < CALL_LIMIT_MS && !nursery_dead(nursery); i++)
		pump_for(1);
	ok(nursery_dead(nursery), "and dead when it is killed");
	if (gone)
		shadow_free(gone);
}

static void test_all(void)
{
	static struct guest g;
	char err[RULES_ERR_MAX] = "", rule[128];
	struct rules rules = { 0 };
	struct ram table;

	alarm(LIMIT_S);
	make_world();
	make_ram();
	high_off = ram_alloc(HIGH_LEN);
	ram_init(&table, dup(arena.fd), arena.size);
	if (ram_add(&table, 0, arena.size, 0) ||
	    ram_add(&table, HIGH, HIGH_LEN, high_off))
		bail("the table of RAM");
	guest_init(&g);
	snprintf(rule, sizeof(rule), "path:/x=%s", top);
	if (rules_add(&rules, rule, err))
		bail(err);
	if (!ok(nursery_new(&rules, &table, &nursery, err) == 0,
		"a nursery is built %s", err))
		exit(0);
	if (!ok(shadow_new(nursery, NULL, 1, 022, 0, &g.s) == 0,
		"a shadow is made"))
		exit(0);
	test_calls(&g);
	test_refused(&g);
	test_elsewhere(&g);
	test_moved(&g);
	test_chased(&g);
	test_spared(&g);
	test_closed(&g);
	test_cancelled(&g);
	test_forked(&g);
	test_reset(&g);
	test_killed(&g);
	nursery_free(nursery);
	ram_fini(&table);
	ok(waitpid(-1, NULL, __WALL | WNOHANG) < 0 && errno == ECHILD,
	   "no process is left");
	rules_fini(&rules);
	munmap(ram, AREA);
	arena_fini(&arena);
	remove_world();
}

/* ---- all of it ---- */

static void become(uid_t uid)
{
	if (uid == getuid())
		return;
	if (setgroups(0, NULL) || setresgid(uid, uid, uid) ||
	    setresuid(uid, uid, uid))
		bail("becoming an ordinary user");
	/* As any process that was begun by this user would be. */
	prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

static void run_as(uid_t uid)
{
	int status;
	pid_t pid;

	who = uid ? "user" : "root";
	fflush(stdout);
	pid = fork();
	if (pid < 0)
		bail("fork");
	if (pid == 0) {
		become(uid);
		test_all();
		exit(0);
	}
	if (waitpid(pid, &status, 0) < 0)
		bail("waitpid");
	ok(WIFEXITED(status) && WEXITSTATUS(status) == 0,
	   "the child ends well (%#x)", status);
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	counts = mmap(NULL, sizeof(*counts), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (counts == MAP_FAILED)
		bail("mmap");
	if (getuid() == 0) {
		run_as(0);
		run_as(NOBODY);
	} else {
		printf("ok %d - as root # SKIP not started as root\n",
		       ++counts->done);
		run_as(getuid());
	}
	printf("1..%d\n", counts->done);
	return counts->failed != 0;
}
