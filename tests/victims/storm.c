/* SPDX-License-Identifier: MIT */
/*
 * storm.c - random calls of many threads under a hail of signals
 *
 *	storm [OPTION]... DIR		on files below DIR
 *	storm [OPTION]... --local	on files below a temporary directory
 *
 *	--seed N	of all that is chosen (else: another one each time)
 *	--calls N	that all threads together make (50000)
 *	--threads N	1 to 64 (16)
 *	--hz N		signals of one timer in a second; 0: no timers (1000)
 *	--strict	rcx and r11 are watched, too
 *
 * build: -Wl,-z,now
 *
 * What holds natively has to hold forwarded, so nothing here knows where it
 * runs. It prints one line of what it did and exits 0, or one sentence about
 * the first thing that differs from what a kernel does and exits 1.
 *
 * Theory of operation. A thread goes through *operations*, chosen at random: a
 * few calls whose results are known beforehand. Every call is made in one of
 * three ways: by libc's wrapper, by syscall(2), or by a *site* of our own.
 * Sites are functions in assembly, one for each manner in which compilers and
 * libraries write a system call. They fill every register that a kernel
 * preserves, the flags, the red zone and the stack above it with random
 * values, make the call and store all of it where neither a register nor the
 * stack is needed to get at it: in thread-local storage, by %fs. The words in
 * registers that the call has no use for are random, too.
 *
 * Two timers per thread interrupt all this. Their handlers look at the
 * registers they interrupted (rip in the text of the program or a library,
 * rsp in a stack of the thread; in a site, what the site put there), make
 * calls of their own, and now and then leave by siglongjmp(). Then the
 * operation is done again, from the same random number on, so an operation
 * that may be left this way (jumps) is one that may be done twice.
 *
 * A timer is set again when its handler ends, and not by its interval: where
 * a handler takes longer than that, the thread would do nothing else.
 */
#include "victim.h"
#include "storm-sites.h"

#include <getopt.h>
#include <link.h>
#include <linux/futex.h>
#include <pthread.h>
#include <setjmp.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stddef.h>

#define MAX_THREADS	64
#define CONTENT_MAX	65536		/* of a thread's own file */
#define FIXED_SIZE	65536		/* of the file that nobody changes */
#define PAGE		4096
#define BUF_SIZE	(4 * PAGE)	/* and a page behind it: no access */
#define STACK_SIZE	(256 * 1024)
#define ALTSTACK_SIZE	(128 * 1024)
#define BAD_FD		9999
#define STUCK_S		60		/* no call in this time: it hangs */

/* ---- threads and what they know ---- */

/* Where signal(7) lets a handler interrupt a call. */
enum eintr { NEVER, UNLESS_RESTART, EVER };

enum way { BY_LIBC, BY_SYSCALL, BY_SITE };

struct worker;

struct op {
	const char *name;
	void (*run)(struct worker *w);
	size_t weight;
	bool forwarded, jumps;
	enum eintr eintr;
};

struct worker {
	int index;
	pthread_t thread;
	uint64_t rng, rng_of_op, rng_of_handlers;
	unsigned long quota;

	/* What handlers and messages look at. */
	const struct op *volatile op;
	volatile long nr;		/* the call that is being made */
	volatile enum way way;
	const struct site *volatile site;	/* NULL: none is entered */
	const struct regs *volatile in;
	volatile sig_atomic_t in_call, depth;
	atomic_int wake_fd;		/* a byte wakes who reads; or -1 */
	bool eintr_ok, is_child;
	sigjmp_buf env;

	int fd, zero, null, fifo, pipe[2];
	char *stack, *altstack;
	unsigned char *buf;
	unsigned char content[CONTENT_MAX];
	size_t size;

	timer_t timers[2];
	int kinds[2];
	bool interrupts;		/* a handler without SA_RESTART */

	_Atomic unsigned long calls;	/* those of handlers, too */
	_Atomic unsigned long progress;	/* without those */
	atomic_bool finished;
	unsigned long forwarded, ways[3], signals, inside, jumps, eintrs,
		children;
};

/* The signals: who they are and how their handlers are installed. */
#define REALTIME 0x100		/* ... counted from SIGRTMIN */

static const struct kind {
	int signal, flags;
} kinds[] = {
	{ SIGUSR1, SA_SIGINFO | SA_RESTART },
	{ SIGUSR2, SA_SIGINFO },
	{ REALTIME | 1, SA_SIGINFO | SA_RESTART | SA_ONSTACK },
	{ REALTIME | 2, SA_ONSTACK },
};

static int kind_signal(int kind)
{
	int sig = kinds[kind].signal;

	return sig & REALTIME ? SIGRTMIN + sig - REALTIME : sig;
}

static struct worker *workers[MAX_THREADS];
static __thread struct worker *self;

static struct {
	uint64_t seed;
	unsigned long calls;
	int threads;
	long hz;
	bool strict, local;
} option = { .calls = 50000, .threads = 16, .hz = 1000 };

static pid_t own_pid;
static int fixed_fd;			/* pattern() from end to end */
static struct stat true_stat;
static atomic_int telling;

static struct text {
	uintptr_t start, end;
} texts[64];
static size_t ntexts, sum_of_weights;

static const char *call_name(long nr)
{
	static const struct { long nr; const char *name; } names[] = {
		{ SYS_read, "read" }, { SYS_write, "write" },
		{ SYS_pread64, "pread64" }, { SYS_pwrite64, "pwrite64" },
		{ SYS_fstat, "fstat" }, { SYS_lseek, "lseek" },
		{ SYS_fsync, "fsync" }, { SYS_openat, "openat" },
		{ SYS_close, "close" }, { SYS_dup, "dup" },
		{ SYS_ftruncate, "ftruncate" }, { SYS_getpid, "getpid" },
		{ SYS_mmap, "mmap" }, { SYS_munmap, "munmap" },
		{ SYS_mprotect, "mprotect" }, { SYS_futex, "futex" },
		{ SYS_newfstatat, "newfstatat" },
		{ SYS_sched_yield, "sched_yield" },
		{ SYS_clock_nanosleep, "clock_nanosleep" },
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].nr == nr)
			return names[i].name;
	return "?";
}

static const char *file_name(const char *what, int index)
{
	static __thread char buf[PATH_MAX];

	snprintf(buf, sizeof(buf), "%.2000s/storm.%d.%s%d", victim_dir,
		 (int)own_pid, what, index);
	return buf;
}

static void clean_up(void)
{
	for (int i = 0; i < option.threads; i++) {
		unlink(file_name("file", i));
		unlink(file_name("fifo", i));
	}
	unlink(file_name("fixed", 0));
	if (option.local)
		rmdir(victim_dir);
}

/* wrong() - says what the thread was at and what of it is wrong; the end */
__attribute__((noreturn, format(printf, 2, 3)))
static void wrong(const struct worker *w, const char *fmt, ...)
{
	static const char *const ways[] = { "libc", "syscall()", "a site" };
	char text[1024];
	sigset_t all;
	va_list ap;

	/* What is wrong may well be so in the next handler, too. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (atomic_fetch_add(&telling, 1))
		for (;;)
			pause();
	dprintf(2, "storm: seed %llu, thread %d%s, call %lu (%s: %s by %s%s%s)"
		"%s: %s\n", (unsigned long long)option.seed, w->index,
		w->is_child ? "'s child" : "", atomic_load(&w->calls),
		w->op ? w->op->name : "start-up", call_name(w->nr),
		ways[w->way], w->site ? " " : "", w->site ? w->site->name : "",
		w->depth ? ", in a handler" : "", text);
	if (!w->is_child)
		clean_up();
	_exit(1);
}

#define must(w, cond, ...) do {						\
	if (!(cond))							\
		wrong(w, __VA_ARGS__);					\
} while (0)

static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

/* Handlers draw from a source of their own: see the theory of operation. */
static uint64_t draw(struct worker *w)
{
	return next_random(w->depth ? &w->rng_of_handlers : &w->rng);
}

static size_t below(struct worker *w, size_t limit)
{
	return (size_t)(draw(w) % limit);
}

/* ---- making a call ---- */

static void fill_regs(struct worker *w, const struct site *site, long nr,
		      const long *args, int nargs, struct regs *in)
{
	static const int arg_regs[] = { RDI, RSI, RDX, R10, R8, R9 };
	uint64_t *words = (uint64_t *)in;

	for (size_t i = 0; i < sizeof(*in) / sizeof(*words); i++)
		words[i] = draw(w);
	for (int i = 0; i < nargs; i++)
		in->gpr[arg_regs[i]] = (uint64_t)args[i];
	in->gpr[RAX] = (uint64_t)nr;
	if (site->nr < 0) {
		in->gpr[RBX] = in->gpr[RBX] << 32 | (uint64_t)nr;
		in->gpr[R12] = (uint64_t)nr;
		in->above[0] = (uint64_t)nr;
	}
	in->flags &= FLAGS_OURS;
	/* Any rounding, flushing and sticky flags; no exception is raised. */
	in->mxcsr = 0x1f80 | (in->mxcsr & 0xe03f);
	/* A precision of 1 is reserved. */
	in->fcw = (uint16_t)(0x007f | (in->fcw & 0x0e00));
	in->st0 = (double)(int64_t)draw(w);
}

/* The flags as the site's own instructions leave them before the call. */
static uint64_t flags_expected(const struct site *site, const struct regs *in,
			       uint64_t *mask)
{
	*mask = FLAGS_OURS;
	if (!(site->flags & XORED))
		return in->flags;
	*mask &= ~(uint64_t)FLAG_AF;
	return (in->flags & FLAG_DF) | FLAG_ZF | FLAG_PF;
}

static void check_call_regs(struct worker *w, const struct site *site,
			    uint64_t rcx, uint64_t r11, const struct regs *in,
			    const char *where)
{
	uint64_t mask, flags = flags_expected(site, in, &mask);

	must(w, rcx == (uintptr_t)site->after,
	     "%s: rcx is %#llx instead of %#llx, where the call returns to",
	     where, (unsigned long long)rcx,
	     (unsigned long long)(uintptr_t)site->after);
	must(w, (r11 & (mask | ~(uint64_t)FLAGS_OURS)) ==
	     ((flags & mask) | FLAGS_ALWAYS),
	     "%s: r11 is %#llx instead of %#llx, the flags", where,
	     (unsigned long long)r11,
	     (unsigned long long)(flags | FLAGS_ALWAYS));
}

static void check_words(struct worker *w, const uint64_t *got,
			const uint64_t *want, int n, const char *where,
			const char *what)
{
	for (int i = 0; i < n; i++)
		must(w, got[i] == want[i],
		     "%s: word %d of %s is %#llx instead of %#llx", where, i,
		     what, (unsigned long long)got[i],
		     (unsigned long long)want[i]);
}

static void check_regs(struct worker *w, const struct site *site,
		       const struct regs *in, const struct regs *out)
{
	const char *where = "after the call";
	uint64_t mask, flags = flags_expected(site, in, &mask);

	for (int i = RBX; i <= R15; i++) {
		if (i == RCX || i == R11 || i == RSP)
			continue;
		must(w, out->gpr[i] == in->gpr[i],
		     "%s: %s is %#llx instead of %#llx", where, gpr_names[i],
		     (unsigned long long)out->gpr[i],
		     (unsigned long long)in->gpr[i]);
	}
	must(w, out->gpr[RSP] == storm_sp, "%s: rsp is %#llx instead of %#llx",
	     where, (unsigned long long)out->gpr[RSP],
	     (unsigned long long)storm_sp);
	if (site->flags & COMPARED)
		mask = FLAG_DF;
	must(w, (out->flags & mask) == (flags & mask),
	     "%s: the flags are %#llx instead of %#llx", where,
	     (unsigned long long)out->flags, (unsigned long long)flags);
	must(w, out->mxcsr == in->mxcsr, "%s: mxcsr is %#x instead of %#x",
	     where, out->mxcsr, in->mxcsr);
	must(w, out->fcw == in->fcw,
	     "%s: the x87 control word is %#x instead of %#x", where,
	     out->fcw, in->fcw);
	must(w, memcmp(&out->st0, &in->st0, 8) == 0,
	     "%s: st(0) is %a instead of %a", where, out->st0, in->st0);
	check_words(w, out->below, in->below, 16, where, "the red zone");
	check_words(w, out->above, in->above, 8, where, "the stack");
	for (int i = 0; i < 16; i++) {
		char name[16];

		snprintf(name, sizeof(name), "%s%d",
			 storm_avx ? "ymm" : "xmm", i);
		check_words(w, out->ymm[i], in->ymm[i], storm_avx ? 4 : 2,
			    where, name);
	}
	if (option.strict)
		check_call_regs(w, site, out->gpr[RCX], out->gpr[R11], in,
				where);
}

static const struct site *choose_site(struct worker *w, long nr)
{
	size_t i = below(w, NSITES);

	while (sites[i].nr >= 0 && sites[i].nr != nr)
		i = (i + 1) % NSITES;
	return &sites[i];
}

/* A handler may be inside another site of the same thread. */
static long by_site(struct worker *w, long nr, const long *args, int nargs)
{
	const struct site *site = choose_site(w, nr);
	struct regs in, out;

	fill_regs(w, site, nr, args, nargs, &in);
	w->in = &in;
	w->site = site;
	site->make(&in);
	out = storm_out;
	check_regs(w, site, &in, &out);
	w->site = NULL;
	return (long)out.gpr[RAX];
}

static long by_libc(long nr, const long *a)
{
	long r;

	switch (nr) {
	case SYS_read: r = read((int)a[0], (void *)a[1], (size_t)a[2]); break;
	case SYS_write: r = write((int)a[0], (void *)a[1], (size_t)a[2]); break;
	case SYS_pread64:
		r = pread((int)a[0], (void *)a[1], (size_t)a[2], a[3]);
		break;
	case SYS_pwrite64:
		r = pwrite((int)a[0], (void *)a[1], (size_t)a[2], a[3]);
		break;
	case SYS_fstat: r = fstat((int)a[0], (struct stat *)a[1]); break;
	case SYS_newfstatat:
		r = fstatat((int)a[0], (char *)a[1], (struct stat *)a[2],
			    (int)a[3]);
		break;
	case SYS_lseek: r = lseek((int)a[0], a[1], (int)a[2]); break;
	case SYS_fsync: r = fsync((int)a[0]); break;
	case SYS_openat:
		r = openat((int)a[0], (char *)a[1], (int)a[2], (int)a[3]);
		break;
	case SYS_close: r = close((int)a[0]); break;
	case SYS_dup: r = dup((int)a[0]); break;
	case SYS_ftruncate: r = ftruncate((int)a[0], a[1]); break;
	case SYS_getpid: r = getpid(); break;
	case SYS_mmap:
		r = (long)mmap((void *)a[0], (size_t)a[1], (int)a[2],
			       (int)a[3], (int)a[4], a[5]);
		break;
	case SYS_munmap: r = munmap((void *)a[0], (size_t)a[1]); break;
	case SYS_mprotect:
		r = mprotect((void *)a[0], (size_t)a[1], (int)a[2]);
		break;
	case SYS_sched_yield: r = sched_yield(); break;
	case SYS_clock_nanosleep:
		return -clock_nanosleep((int)a[0], (int)a[1],
					(struct timespec *)a[2],
					(struct timespec *)a[3]);
	default: r = syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	}
	return r == -1 ? -errno : r;
}

/* make_call() - its result as the kernel gives it: -errno on failure */
static long make_call(struct worker *w, long nr, const long *args, int nargs)
{
	unsigned long signals = w->signals;
	long a[6] = { 0 }, r;

	memcpy(a, args, (size_t)nargs * sizeof(*a));
	w->nr = nr;
	w->way = (enum way)below(w, 4);
	if (w->way > BY_SITE)
		w->way = BY_SITE;
	w->in_call = 1;
	switch (w->way) {
	case BY_LIBC: r = by_libc(nr, a); break;
	case BY_SYSCALL:
		r = syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
		if (r == -1)
			r = -errno;
		break;
	default: r = by_site(w, nr, a, nargs);
	}
	w->in_call = 0;
	atomic_fetch_add_explicit(&w->calls, 1, memory_order_relaxed);
	if (!w->depth)
		atomic_fetch_add_explicit(&w->progress, 1,
					  memory_order_relaxed);
	w->ways[w->way]++;
	must(w, r > -4096 || nr == SYS_mmap, "%ld is no result", r);
	must(w, r < -516 || r > -512, "%ld is the kernel's own affair", r);
	if (r == -EINTR) {
		w->eintrs++;
		must(w, w->eintr_ok && !w->depth, "EINTR");
		must(w, w->signals != signals, "EINTR without a signal");
	}
	return r;
}

#define CALL(w, nr, ...) \
	make_call(w, nr, (const long[]){ __VA_ARGS__ }, \
		  (int)(sizeof((const long[]){ __VA_ARGS__ }) / sizeof(long)))

static void expect(struct worker *w, long r, long want)
{
	if (r == want)
		return;
	if (r < 0 && want < 0)
		wrong(w, "the result is %s instead of %s",
		      strerrorname_np((int)-r), strerrorname_np((int)-want));
	if (r < 0)
		wrong(w, "the result is %s instead of %ld",
		      strerrorname_np((int)-r), want);
	wrong(w, "the result is %ld instead of %ld", r, want);
}

/* ---- operations on the thread's own file ---- */

/* A place in the buffer, with filled bytes before and behind it. */
static unsigned char *place(struct worker *w, size_t len)
{
	unsigned char *p = w->buf + 16 + below(w, BUF_SIZE - 32 - len);

	memset(p - 16, 0xa5, len + 32);
	return p;
}

static void check_around(struct worker *w, const unsigned char *p, size_t got,
			 size_t len)
{
	for (int i = -16; i < 0; i++)
		must(w, p[i] == 0xa5, "byte %d before the buffer is written",
		     -i);
	for (size_t i = got; i < len + 16; i++)
		must(w, p[i] == 0xa5,
		     "byte %zu is written, the result was %zu of %zu", i, got,
		     len);
}

static void check_bytes(struct worker *w, const unsigned char *got,
			const unsigned char *want, size_t len, size_t off)
{
	for (size_t i = 0; i < len; i++)
		must(w, got[i] == want[i],
		     "byte %zu of the file is %#x instead of %#x (%zu bytes "
		     "from %zu on)", off + i, got[i], want[i], len, off);
}

static size_t left_at(const struct worker *w, size_t off, size_t len)
{
	size_t left = off < w->size ? w->size - off : 0;

	return len < left ? len : left;
}

static void read_at(struct worker *w, int fd)
{
	size_t len = 1 + below(w, 4096), off = below(w, CONTENT_MAX + 100);
	unsigned char *p = place(w, len);
	size_t want = left_at(w, off, len);

	expect(w, CALL(w, SYS_pread64, fd, (long)p, (long)len, (long)off),
	       (long)want);
	check_bytes(w, p, w->content + off, want, off);
	check_around(w, p, want, len);
}

static void op_pread(struct worker *w)
{
	read_at(w, w->fd);
}

static void op_pwrite(struct worker *w)
{
	size_t len = 1 + below(w, 4096), off = below(w, w->size + 1);
	unsigned char *p;
	uint64_t seed;

	if (off + len > CONTENT_MAX)
		off = CONTENT_MAX - len;
	p = place(w, len);
	seed = draw(w);
	for (size_t i = 0; i < len; i++)
		p[i] = (unsigned char)(next_random(&seed) >> 24);
	expect(w, CALL(w, SYS_pwrite64, w->fd, (long)p, (long)len, (long)off),
	       (long)len);
	memcpy(w->content + off, p, len);
	check_around(w, p, len, len);
	if (off + len > w->size)
		w->size = off + len;
}

static void op_seek_read(struct worker *w)
{
	size_t len = 1 + below(w, 4096), off = below(w, w->size + 1);
	unsigned char *p = place(w, len);
	size_t want = left_at(w, off, len);

	expect(w, CALL(w, SYS_lseek, w->fd, (long)off, SEEK_SET), (long)off);
	expect(w, CALL(w, SYS_read, w->fd, (long)p, (long)len), (long)want);
	check_bytes(w, p, w->content + off, want, off);
	check_around(w, p, want, len);
	expect(w, CALL(w, SYS_lseek, w->fd, 0, SEEK_CUR), (long)(off + want));
}

static void op_fstat(struct worker *w)
{
	struct stat st;

	memset(&st, 0xa5, sizeof(st));
	expect(w, CALL(w, SYS_fstat, w->fd, (long)&st), 0);
	must(w, S_ISREG(st.st_mode) && st.st_size == (off_t)w->size,
	     "mode %o, size %lld instead of %zu", st.st_mode,
	     (long long)st.st_size, w->size);
}

static void op_fsync(struct worker *w)
{
	expect(w, CALL(w, SYS_fsync, w->fd), 0);
}

static void op_open(struct worker *w)
{
	int flags = below(w, 2) ? O_RDWR | O_CLOEXEC : O_RDONLY;
	long fd = CALL(w, SYS_openat, AT_FDCWD,
		       (long)file_name("file", w->index), flags, 0);

	must(w, fd > 2, "the descriptor is %ld", fd);
	read_at(w, (int)fd);
	expect(w, CALL(w, SYS_close, fd), 0);
}

static void op_dup(struct worker *w)
{
	long fd = CALL(w, SYS_dup, w->fd);

	must(w, fd > 2, "the descriptor is %ld", fd);
	read_at(w, (int)fd);
	expect(w, CALL(w, SYS_close, fd), 0);
}

static void op_truncate(struct worker *w)
{
	size_t size = below(w, CONTENT_MAX + 1);

	expect(w, CALL(w, SYS_ftruncate, w->fd, (long)size), 0);
	memset(w->content + size, 0, CONTENT_MAX - size);
	w->size = size;
}

/* The page behind the buffer cannot be written; half of it may have been. */
static void pread_over_end(struct worker *w)
{
	size_t fits = 1 + below(w, 64);
	unsigned char *p = w->buf + BUF_SIZE - fits;
	long r;

	if (w->size < 256)
		return;
	r = CALL(w, SYS_pread64, w->fd, (long)p, 256, 0);
	must(w, r == -EFAULT || (r > 0 && r <= (long)fits),
	     "the result is %ld where %zu bytes can be written", r, fits);
	if (r > 0)
		check_bytes(w, p, w->content, (size_t)r, 0);
}

static void op_bad_forwarded(struct worker *w)
{
	static const long bad[] = { 8, 0x7ffffffff000, 1L << 47, -4096, };
	long none = (long)(w->buf + BUF_SIZE), where;

	where = below(w, 2) ? none : bad[below(w, 4)];
	switch (below(w, 8)) {
	case 0:
		/* At the end of the file nothing is written. */
		expect(w, CALL(w, SYS_pread64, fixed_fd, where, 10, 0),
		       -EFAULT);
		break;
	case 1:
		expect(w, CALL(w, SYS_fstat, w->fd, where), -EFAULT);
		break;
	case 2:
		expect(w, CALL(w, SYS_openat, AT_FDCWD,
			       (long)file_name("none", w->index), O_RDONLY, 0),
		       -ENOENT);
		break;
	case 3:
		expect(w, CALL(w, SYS_pread64, w->fd, (long)w->buf, 10, -1),
		       -EINVAL);
		break;
	case 4:
		expect(w, CALL(w, SYS_lseek, w->fd, 0, 99), -EINVAL);
		break;
	case 5:
		expect(w, CALL(w, SYS_pwrite64, w->fd, none, 10,
			       (long)w->size), -EFAULT);
		break;
	case 6:
		pread_over_end(w);
		break;
	default:
		expect(w, CALL(w, SYS_openat, fixed_fd, (long)"x", O_RDONLY, 0),
		       -ENOTDIR);
	}
}

/* Memory that came a moment ago, and goes. */
static void op_fresh(struct worker *w)
{
	size_t pages = 1 + below(w, 8), off = below(w, FIXED_SIZE - 4096);
	size_t len = 1 + below(w, 4096), at;
	long p = CALL(w, SYS_mmap, 0, (long)(pages * PAGE),
		      PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		      0);
	unsigned char *mem = (unsigned char *)p;

	must(w, p > 0 && p % PAGE == 0, "mmap gave %#lx", (unsigned long)p);
	if (len > pages * PAGE)
		len = pages * PAGE;
	at = below(w, pages * PAGE - len + 1);
	expect(w, CALL(w, SYS_pread64, fixed_fd, p + (long)at, (long)len,
		       (long)off), (long)len);
	for (size_t i = 0; i < pages * PAGE; i++) {
		unsigned char want = i < at || i >= at + len ? 0 :
			pattern(off + i - at);

		must(w, mem[i] == want,
		     "byte %zu of fresh memory is %#x instead of %#x", i,
		     mem[i], want);
	}
	if (below(w, 2)) {
		expect(w, CALL(w, SYS_mprotect, p, PAGE, PROT_READ), 0);
		expect(w, CALL(w, SYS_pread64, fixed_fd, p, 10, 0), -EFAULT);
	}
	expect(w, CALL(w, SYS_munmap, p, (long)(pages * PAGE)), 0);
}

/* A read that waits until a handler writes. */
static void wait_for_byte(struct worker *w, int from, int to)
{
	unsigned char *p = place(w, 1);
	long r;

	if (!option.hz)
		return;
	atomic_store(&w->wake_fd, to);
	do
		r = CALL(w, SYS_read, from, (long)p, 1);
	while (r == -EINTR);
	expect(w, r, 1);
	must(w, *p == 'w', "the byte is %#x", *p);
	must(w, atomic_load(&w->wake_fd) < 0, "nobody has written");
}

static void op_wait_forwarded(struct worker *w)
{
	wait_for_byte(w, w->fifo, w->fifo);
}

/* ---- operations that are local ---- */

static void op_getpid(struct worker *w)
{
	expect(w, make_call(w, SYS_getpid, NULL, 0), getpid());
}

static void op_zero(struct worker *w)
{
	size_t len = 1 + below(w, 4096);
	unsigned char *p = place(w, len);

	expect(w, CALL(w, SYS_read, w->zero, (long)p, (long)len), (long)len);
	for (size_t i = 0; i < len; i++)
		must(w, p[i] == 0, "/dev/zero gave %#x", p[i]);
	check_around(w, p, len, len);
}

static void op_null(struct worker *w)
{
	size_t len = 1 + below(w, 4096);

	expect(w, CALL(w, SYS_write, w->null, (long)w->buf, (long)len),
	       (long)len);
}

static void op_pipe(struct worker *w)
{
	size_t len = 1 + below(w, 4096);
	unsigned char *p = place(w, len), *q = w->content + CONTENT_MAX - len;

	expect(w, CALL(w, SYS_write, w->pipe[1], (long)q, (long)len),
	       (long)len);
	expect(w, CALL(w, SYS_read, w->pipe[0], (long)p, (long)len), (long)len);
	must(w, memcmp(p, q, len) == 0, "a pipe of %zu bytes gave others", len);
	check_around(w, p, len, len);
}

static void op_wait_local(struct worker *w)
{
	wait_for_byte(w, w->pipe[0], w->pipe[1]);
}

static void op_stat(struct worker *w)
{
	struct stat st;

	expect(w, CALL(w, SYS_newfstatat, AT_FDCWD, (long)"/bin/true",
		       (long)&st, 0), 0);
	must(w, st.st_ino == true_stat.st_ino && st.st_dev == true_stat.st_dev,
	     "/bin/true is another file");
}

static void op_map(struct worker *w)
{
	size_t pages = 1 + below(w, 64);
	long p = CALL(w, SYS_mmap, 0, (long)(pages * PAGE),
		      PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		      0);

	must(w, p > 0 && p % PAGE == 0, "mmap gave %#lx", (unsigned long)p);
	for (size_t i = 0; i < pages; i += 1 + below(w, 8)) {
		unsigned char *at = (unsigned char *)p + i * PAGE;

		must(w, *at == 0, "fresh memory holds %#x", *at);
		*at = 1;
	}
	expect(w, CALL(w, SYS_munmap, p, (long)(pages * PAGE)), 0);
}

static void op_sleep(struct worker *w)
{
	struct timespec ts = { 0, 1 + (long)below(w, 20000) };
	struct timespec left = { 0, -1 };
	long r = CALL(w, SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, (long)&ts,
		      (long)&left);

	if (r != -EINTR)
		expect(w, r, 0);
	else
		/* What is left counts from the end of the timer's slack. */
		must(w, left.tv_sec == 0 && left.tv_nsec >= 0 &&
		     left.tv_nsec <= ts.tv_nsec + 1000000, "%lld.%09ld s are "
		     "left of %ld ns", (long long)left.tv_sec, left.tv_nsec,
		     ts.tv_nsec);
}

static void op_futex(struct worker *w)
{
	struct timespec ts = { 0, 1 + (long)below(w, 20000) };
	uint32_t word = 1;
	long r;

	switch (below(w, 3)) {
	case 0:
		expect(w, CALL(w, SYS_futex, (long)&word, FUTEX_WAIT_PRIVATE,
			       2, 0), -EAGAIN);
		break;
	case 1:
		expect(w, CALL(w, SYS_futex, (long)&word, FUTEX_WAKE_PRIVATE,
			       1), 0);
		break;
	default:
		/* With a timeout no kernel restarts it behind a handler. */
		r = CALL(w, SYS_futex, (long)&word, FUTEX_WAIT_PRIVATE, 1,
			 (long)&ts);
		if (r != -EINTR)
			expect(w, r, -ETIMEDOUT);
	}
}

static void op_yield(struct worker *w)
{
	expect(w, make_call(w, SYS_sched_yield, NULL, 0), 0);
}

static void op_bad_local(struct worker *w)
{
	struct stat st;
	long none = (long)(w->buf + BUF_SIZE);

	switch (below(w, 6)) {
	case 0:
		expect(w, CALL(w, SYS_read, BAD_FD, (long)w->buf, 1), -EBADF);
		break;
	case 1:
		expect(w, CALL(w, SYS_close, BAD_FD), -EBADF);
		break;
	case 2:
		expect(w, CALL(w, SYS_read, w->zero, none, 10), -EFAULT);
		break;
	case 3:
		expect(w, CALL(w, SYS_write, w->pipe[1], 8, 10), -EFAULT);
		break;
	case 4:
		expect(w, CALL(w, SYS_newfstatat, AT_FDCWD, (long)"/nowhere",
			       (long)&st, 0), -ENOENT);
		break;
	default:
		expect(w, CALL(w, SYS_munmap, 1, PAGE), -EINVAL);
	}
}

/* ---- children ---- */

static void child_reads(struct worker *w)
{
	w->is_child = true;
	w->eintr_ok = false;
	for (int i = 0; i < 4; i++) {
		size_t len = 1 + below(w, 4096);
		unsigned char *p = place(w, len);

		expect(w, CALL(w, SYS_pread64, fixed_fd, (long)p, (long)len, 0),
		       (long)len);
		for (size_t k = 0; k < len; k++)
			must(w, p[k] == pattern(k), "byte %zu is %#x", k, p[k]);
		op_getpid(w);
	}
	must(w, getpid() != own_pid, "a child has its parent's pid");
}

__attribute__((noinline))
static pid_t vfork_true(void)
{
	pid_t pid = vfork();

	if (pid == 0) {
		execl("/bin/true", "true", NULL);
		_exit(127);
	}
	return pid;
}

static void op_child(struct worker *w)
{
	static char *const argv[] = { "true", NULL };
	int status, r;
	pid_t pid;

	switch (below(w, 3)) {
	case 0:
		pid = fork();
		if (pid == 0) {
			child_reads(w);
			_exit(0);
		}
		break;
	case 1:
		pid = vfork_true();
		break;
	default:
		r = posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environ);
		must(w, r == 0, "posix_spawn: %s", strerror(r));
	}
	must(w, pid > 0, "no child: %s", strerror(errno));
	while (waitpid(pid, &status, 0) != pid)
		must(w, errno == EINTR && w->eintr_ok, "waitpid: %s",
		     strerror(errno));
	must(w, status == 0, "a child ended with wait status %#x",
	     (unsigned)status);
	w->children++;
}

static const struct op ops[] = {
	{ "pread", op_pread, 160, true, true, NEVER },
	{ "pwrite", op_pwrite, 140, true, true, NEVER },
	{ "lseek and read", op_seek_read, 60, true, true, NEVER },
	{ "fstat", op_fstat, 60, true, true, NEVER },
	{ "fsync", op_fsync, 4, true, false, NEVER },
	{ "open and close", op_open, 20, true, false, NEVER },
	{ "dup and close", op_dup, 20, true, false, NEVER },
	{ "ftruncate", op_truncate, 8, true, true, NEVER },
	{ "what fails on files", op_bad_forwarded, 30, true, true, NEVER },
	{ "fresh memory", op_fresh, 10, true, false, NEVER },
	{ "wait for a FIFO", op_wait_forwarded, 3, true, false,
	  UNLESS_RESTART },
	{ "getpid", op_getpid, 120, false, true, NEVER },
	{ "read of /dev/zero", op_zero, 80, false, true, NEVER },
	{ "write to /dev/null", op_null, 80, false, true, NEVER },
	{ "pipe", op_pipe, 40, false, false, NEVER },
	{ "wait for a pipe", op_wait_local, 3, false, false, UNLESS_RESTART },
	{ "stat", op_stat, 20, false, true, NEVER },
	{ "mmap and munmap", op_map, 20, false, false, NEVER },
	{ "sleep", op_sleep, 10, false, true, EVER },
	{ "futex", op_futex, 40, false, true, EVER },
	{ "sched_yield", op_yield, 30, false, true, NEVER },
	{ "what fails", op_bad_local, 40, false, true, NEVER },
	{ "child", op_child, 1, false, false, UNLESS_RESTART },
};

#define NOPS (sizeof(ops) / sizeof(ops[0]))

/* ---- handlers ---- */

static bool within(uintptr_t at, const void *start, size_t len)
{
	return at >= (uintptr_t)start && at <= (uintptr_t)start + len;
}

static void check_site_context(struct worker *w, const struct site *site,
			       const ucontext_t *uc)
{
	const greg_t *g = uc->uc_mcontext.gregs;
	const struct _libc_fpstate *fp = uc->uc_mcontext.fpregs;
	const char *where = "at the signal";
	const struct regs *in = w->in;
	uint64_t rip = (uint64_t)g[REG_RIP], mask;
	uint64_t flags = flags_expected(site, in, &mask);

	for (int i = RBX; i <= R15; i++) {
		uint64_t want = i == RSP ? storm_sp : in->gpr[i];

		if (i == RCX || i == R11)
			continue;
		must(w, (uint64_t)g[gpr_greg[i]] == want,
		     "%s: %s is %#llx instead of %#llx, rip is %+ld from the "
		     "call", where, gpr_names[i],
		     (unsigned long long)g[gpr_greg[i]],
		     (unsigned long long)want,
		     (long)(rip - (uintptr_t)site->call));
	}
	if (rip < (uintptr_t)site->call) {
		flags = in->flags;
		if (site->flags & XORED)
			mask = FLAG_DF;
	}
	must(w, ((uint64_t)g[REG_EFL] & mask) == (flags & mask),
	     "%s: the flags are %#llx instead of %#llx", where,
	     (unsigned long long)g[REG_EFL], (unsigned long long)flags);
	must(w, fp && fp->cwd == in->fcw && fp->mxcsr == in->mxcsr,
	     "%s: another mxcsr or x87 control word", where);
	for (int i = 0; fp && i < 16; i++)
		must(w, memcmp(&fp->_xmm[i], in->ymm[i], 16) == 0,
		     "%s: xmm%d is another", where, i);
	check_words(w, (const uint64_t *)(storm_sp - 128), in->below, 16,
		    where, "the red zone");
	check_words(w, (const uint64_t *)storm_sp, in->above, 8, where,
		    "the stack");
	if (rip == (uintptr_t)site->call)
		must(w, g[REG_RAX] == w->nr,
		     "%s: rax is %lld instead of %ld, which is to be called",
		     where, (long long)g[REG_RAX], w->nr);
	if (rip != (uintptr_t)site->after)
		return;
	must(w, g[REG_RAX] < -516 || g[REG_RAX] > -512,
	     "%s: rax is %lld, the kernel's own affair", where,
	     (long long)g[REG_RAX]);
	if (option.strict)
		check_call_regs(w, site, (uint64_t)g[REG_RCX],
				(uint64_t)g[REG_R11], in, where);
}

static void check_context(struct worker *w, const ucontext_t *uc)
{
	uintptr_t rip = (uintptr_t)uc->uc_mcontext.gregs[REG_RIP];
	uintptr_t rsp = (uintptr_t)uc->uc_mcontext.gregs[REG_RSP];
	const struct site *site = w->site;
	size_t i = 0;

	while (i < ntexts && !(rip >= texts[i].start && rip < texts[i].end))
		i++;
	must(w, i < ntexts, "the signal came at rip %#lx, which is no text of "
	     "the program or a library", rip);
	must(w, within(rsp, w->stack, STACK_SIZE) ||
	     within(rsp, w->altstack, ALTSTACK_SIZE),
	     "the signal came with rsp %#lx, which is no stack of the thread",
	     rsp);
	if (!site || rip < (uintptr_t)site->ready ||
	    rip > (uintptr_t)site->after)
		return;
	w->inside++;
	check_site_context(w, site, uc);
}

static void set_timer(struct worker *w, int which)
{
	long mean = 1000000000 / option.hz;
	struct itimerspec it = { .it_value.tv_nsec =
		mean / 2 + (long)(next_random(&w->rng_of_handlers) %
				  (uint64_t)mean) };

	it.it_value.tv_sec = it.it_value.tv_nsec / 1000000000;
	it.it_value.tv_nsec %= 1000000000;
	if (timer_settime(w->timers[which], 0, &it, NULL))
		wrong(w, "timer_settime: %s", strerror(errno));
}

static void calls_of_handler(struct worker *w)
{
	unsigned char buf[300];
	size_t len = 1 + below(w, sizeof(buf));
	size_t off = below(w, FIXED_SIZE - sizeof(buf));

	switch (below(w, 4)) {
	case 0:
		expect(w, make_call(w, SYS_getpid, NULL, 0), getpid());
		break;
	case 1:
		expect(w, CALL(w, SYS_write, w->null, (long)buf, (long)len),
		       (long)len);
		break;
	default:
		expect(w, CALL(w, SYS_pread64, fixed_fd, (long)buf, (long)len,
			       (long)off), (long)len);
		for (size_t i = 0; i < len; i++)
			must(w, buf[i] == pattern(off + i),
			     "byte %zu of the fixed file is %#x instead of "
			     "%#x", off + i, buf[i], pattern(off + i));
	}
}

static void wake(struct worker *w)
{
	/* At once: another handler may come in between. */
	int fd = atomic_exchange(&w->wake_fd, -1);

	if (fd >= 0)
		expect(w, CALL(w, SYS_write, fd, (long)"w", 1), 1);
}

/* What a handler changes of what the interrupted code goes on with. */
struct state {
	struct regs out;
	uint64_t sp;
	const struct site *site;
	const struct regs *in;
	long nr;
	enum way way;
	int in_call, err;
};

static void save_state(const struct worker *w, struct state *s)
{
	s->err = errno;
	s->out = storm_out;
	s->sp = storm_sp;
	s->site = w->site;
	s->in = w->in;
	s->nr = w->nr;
	s->way = w->way;
	s->in_call = w->in_call;
}

static void restore_state(struct worker *w, const struct state *s)
{
	w->in_call = s->in_call;
	w->way = s->way;
	w->nr = s->nr;
	w->in = s->in;
	w->site = s->site;
	storm_sp = s->sp;
	storm_out = s->out;
	errno = s->err;
}

static void handler(int sig, const ucontext_t *uc)
{
	struct worker *w = self;
	struct state state;
	bool jump;
	int which;

	save_state(w, &state);
	w->depth++;
	w->signals++;
	which = sig == kind_signal(w->kinds[0]) ? 0 : 1;
	if (uc)
		check_context(w, uc);
	w->site = NULL;
	w->in = NULL;
	calls_of_handler(w);
	wake(w);
	jump = w->depth == 1 && state.in_call && w->op->jumps &&
		below(w, 20) == 0;
	set_timer(w, which);
	w->depth--;
	restore_state(w, &state);
	if (jump)
		siglongjmp(w->env, 1);
}

static void on_signal(int sig)
{
	handler(sig, NULL);
}

static void on_signal_info(int sig, siginfo_t *info, void *uc)
{
	must(self, info->si_signo == sig && info->si_code == SI_TIMER &&
	     info->si_value.sival_ptr == self,
	     "the signal's code is %d, its value %p", info->si_code,
	     info->si_value.sival_ptr);
	handler(sig, uc);
}

/* ---- threads ---- */

static void start_timers(struct worker *w)
{
	for (int i = 0; i < 2; i++) {
		struct sigevent ev = {
			.sigev_notify = SIGEV_THREAD_ID,
			.sigev_signo = kind_signal(w->kinds[i]),
			.sigev_value.sival_ptr = w,
		};

		ev._sigev_un._tid = gettid();
		sys(timer_create(CLOCK_MONOTONIC, &ev, &w->timers[i]));
	}
}

static void stop_timers(struct worker *w)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	for (int i = 0; i < 2; i++)
		sys(timer_delete(w->timers[i]));
}

static const struct op *choose_op(struct worker *w)
{
	size_t at = below(w, sum_of_weights);
	const struct op *op = ops;

	while (at >= op->weight) {
		at -= op->weight;
		op++;
	}
	return op;
}

static void one_op(struct worker *w)
{
	const struct op *op;
	unsigned long before;

	w->rng_of_op = w->rng;
	op = choose_op(w);
	w->eintr_ok = option.hz && (op->eintr == EVER ||
				    (op->eintr == UNLESS_RESTART &&
				     w->interrupts));
	w->op = op;
	before = atomic_load(&w->calls);
	op->run(w);
	if (op->forwarded)
		w->forwarded += atomic_load(&w->calls) - before;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	stack_t alt = { .ss_sp = w->altstack, .ss_size = ALTSTACK_SIZE };

	self = w;
	sys(sigaltstack(&alt, NULL));
	if (sigsetjmp(w->env, 1)) {
		/* Out of an operation: once more, with the same choices. */
		w->jumps++;
		w->site = NULL;
		w->in_call = 0;
		w->rng = w->rng_of_op;
	} else if (option.hz) {
		start_timers(w);
	}
	/* A handler may have been left that another one interrupted. */
	for (int i = 0; option.hz && i < 2; i++)
		set_timer(w, i);
	while (atomic_load(&w->calls) < w->quota)
		one_op(w);
	if (option.hz)
		stop_timers(w);
	atomic_store(&w->finished, true);
	return NULL;
}

static void *map_memory(size_t len)
{
	return map(len, PROT_READ | PROT_WRITE, MAP_PRIVATE);
}

static struct worker *new_worker(int index)
{
	struct worker *w = map_memory(sizeof(*w));
	int combination = (int)((unsigned)index + option.seed % 4) % 4;

	w->index = index;
	w->rng = option.seed * 0x10001 + (uint64_t)index;
	w->rng = next_random(&w->rng);
	w->rng_of_handlers = ~w->rng;
	w->quota = option.calls / (unsigned long)option.threads +
		((unsigned long)index < option.calls %
		 (unsigned long)option.threads);
	atomic_init(&w->wake_fd, -1);
	w->stack = map_memory(STACK_SIZE);
	w->altstack = map_memory(ALTSTACK_SIZE);
	w->buf = map_memory(BUF_SIZE + PAGE);
	sys(mprotect(w->buf + BUF_SIZE, PAGE, PROT_NONE));
	/* Both with SA_RESTART, one, one, none. */
	w->kinds[0] = combination & 1 ? 1 : 0;
	w->kinds[1] = combination & 2 ? 3 : 2;
	w->interrupts = combination != 0;

	w->fd = (int)sys(open(file_name("file", index),
			      O_RDWR | O_CREAT | O_EXCL, 0600));
	sys(mkfifo(file_name("fifo", index), 0600));
	w->fifo = (int)sys(open(file_name("fifo", index), O_RDWR));
	w->zero = (int)sys(open("/dev/zero", O_RDONLY));
	w->null = (int)sys(open("/dev/null", O_WRONLY));
	sys(pipe(w->pipe));
	return w;
}

static void start(struct worker *w)
{
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	same(pthread_attr_setstack(&attr, w->stack, STACK_SIZE), 0);
	same(pthread_create(&w->thread, &attr, work, w), 0);
	pthread_attr_destroy(&attr);
}

/* watch() - until all have finished; fails when one does no call any more */
static void watch(void)
{
	unsigned long seen[MAX_THREADS] = { 0 };
	int idle[MAX_THREADS] = { 0 }, left;

	do {
		nap_ms(20);
		left = 0;
		for (int i = 0; i < option.threads; i++) {
			const struct worker *w = workers[i];
			unsigned long progress = atomic_load(&w->progress);

			if (atomic_load(&w->finished))
				continue;
			left++;
			if (progress != seen[i])
				idle[i] = 0;
			else if (++idle[i] > STUCK_S * 50)
				wrong(w, "no other call in %d s; %lu signals "
				      "so far", STUCK_S, w->signals);
			seen[i] = progress;
		}
	} while (left);
}

static int note_texts(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size;
	(void)arg;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];

		if (ph->p_type != PT_LOAD || !(ph->p_flags & PF_X))
			continue;
		check(ntexts < 64, "too many libraries");
		texts[ntexts].start = info->dlpi_addr + ph->p_vaddr;
		texts[ntexts].end = texts[ntexts].start + ph->p_memsz;
		ntexts++;
	}
	return 0;
}

static void install_handlers(void)
{
	for (int i = 0; i < 4; i++) {
		struct sigaction sa = { .sa_flags = kinds[i].flags };

		if (sa.sa_flags & SA_SIGINFO)
			sa.sa_sigaction = on_signal_info;
		else
			sa.sa_handler = on_signal;
		sys(sigaction(kind_signal(i), &sa, NULL));
	}
}

static void prepare(void)
{
	static char temporary[PATH_MAX];
	const char *tmp = getenv("TMPDIR");

	own_pid = getpid();
	storm_avx = __builtin_cpu_supports("avx") ? 1 : 0;
	if (option.local) {
		snprintf(temporary, sizeof(temporary), "%.2000s/storm.XXXXXX",
			 tmp ? tmp : "/tmp");
		check(mkdtemp(temporary), "%s: %s", temporary, strerror(errno));
		victim_dir = temporary;
	}
	sys(stat("/bin/true", &true_stat));
	dl_iterate_phdr(note_texts, NULL);
	install_handlers();
	for (size_t i = 0; i < NOPS; i++)
		sum_of_weights += ops[i].weight;
	pattern_file(file_name("fixed", 0), FIXED_SIZE);
	fixed_fd = (int)sys(open(file_name("fixed", 0), O_RDONLY));
	for (int i = 0; i < option.threads; i++)
		workers[i] = new_worker(i);
}

static void report(double seconds)
{
	struct worker all = { .index = 0 };
	unsigned long calls = 0;

	for (int i = 0; i < option.threads; i++) {
		const struct worker *w = workers[i];

		calls += atomic_load(&w->calls);
		all.forwarded += w->forwarded;
		for (int k = 0; k < 3; k++)
			all.ways[k] += w->ways[k];
		all.signals += w->signals;
		all.inside += w->inside;
		all.jumps += w->jumps;
		all.eintrs += w->eintrs;
		all.children += w->children;
	}
	printf("storm: seed %llu: %lu calls of %d threads in %.1f s: "
	       "%lu on files, %lu by libc, %lu by syscall(), %lu by sites; "
	       "%lu signals, %lu in sites, %lu jumps, %lu EINTR, "
	       "%lu children\n", (unsigned long long)option.seed, calls,
	       option.threads, seconds, all.forwarded, all.ways[0],
	       all.ways[1], all.ways[2], all.signals, all.inside, all.jumps,
	       all.eintrs, all.children);
}

static unsigned long number(const char *text, unsigned long least,
			    unsigned long most)
{
	char *end;
	unsigned long n = strtoul(text, &end, 0);

	check(*text && !*end && n >= least && n <= most,
	      "%s is no number from %lu to %lu", text, least, most);
	return n;
}

static void parse(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "seed", required_argument, NULL, 's' },
		{ "calls", required_argument, NULL, 'c' },
		{ "threads", required_argument, NULL, 't' },
		{ "hz", required_argument, NULL, 'h' },
		{ "strict", no_argument, NULL, 'x' },
		{ "local", no_argument, NULL, 'l' },
		{ NULL, 0, NULL, 0 },
	};
	struct timespec now;
	int c;

	clock_gettime(CLOCK_REALTIME, &now);
	option.seed = (uint64_t)now.tv_nsec;
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 's': option.seed = number(optarg, 0, ULONG_MAX); break;
		case 'c': option.calls = number(optarg, 1, LONG_MAX); break;
		case 't':
			option.threads = (int)number(optarg, 1, MAX_THREADS);
			break;
		case 'h': option.hz = (long)number(optarg, 0, 100000); break;
		case 'x': option.strict = true; break;
		case 'l': option.local = true; break;
		default: exit(2);
		}
	}
	check(argc - optind == (option.local ? 0 : 1),
	      "usage: storm [OPTION]... DIR | storm [OPTION]... --local");
	victim_dir = argv[optind];
}

int main(int argc, char **argv)
{
	struct timespec from, to;

	victim_doing = "storm";
	parse(argc, argv);
	prepare();
	clock_gettime(CLOCK_MONOTONIC, &from);
	for (int i = 0; i < option.threads; i++)
		start(workers[i]);
	watch();
	for (int i = 0; i < option.threads; i++)
		same(pthread_join(workers[i]->thread, NULL), 0);
	clock_gettime(CLOCK_MONOTONIC, &to);
	clean_up();
	report((double)(to.tv_sec - from.tv_sec) +
	       (double)(to.tv_nsec - from.tv_nsec) / 1e9);
	return 0;
}
