/* SPDX-License-Identifier: MIT */
/*
 * victim.h - what victims share: cases, checks and names
 *
 * A victim is run as `NAME DIR [CASE]...` and carries out its cases (all of
 * them when none is named) on files below DIR, which is a real directory
 * natively and a forwarded one under darkshadow: what holds natively has to
 * hold there. It prints nothing and exits 0; what does not hold is one
 * sentence on stderr and exit status 1; 77 says that this machine cannot do
 * what the case is about. `NAME --list` prints the cases.
 *
 * `NAME DIR --each [CASE]...` carries out every case in a child, whatever becomes of the
 * others, and tells how it ended by a line "== CASE STATUS" on stderr, behind
 * what the case said. VICTIM_TIMEOUT limits each (seconds).
 *
 * VICTIM_SLOW says how many times slower than others the machine is: what is
 * repeated hundreds of times is then repeated so much less.
 *
 * VICTIM_LOCAL names a directory that is not forwarded (DIR when unset), and
 * VICTIM_SHADOWED says that DIR is forwarded, for the few checks of what
 * darkshadow refuses and the kernel does not.
 */
#ifndef TESTS_VICTIM_H
#define TESTS_VICTIM_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define VICTIM_SKIP 77
#define VICTIM_FN __attribute__((unused)) static

struct victim_case {
	const char *name;
	void (*run)(void);
};

#define CASE(fn) { #fn, fn }

static const char *victim_self;		/* argv[0], to be executed again */
static const char *victim_dir;
static const char *victim_doing = "start-up";
static char victim_base[PATH_MAX];	/* directory of the current case */

__attribute__((noreturn, format(printf, 3, 4)))
VICTIM_FN void victim_fail(const char *file, int line, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	dprintf(2, "%s: %s (%s:%d)\n", victim_doing, text, file, line);
	_exit(1);
}

__attribute__((noreturn))
VICTIM_FN void victim_skip(const char *reason)
{
	dprintf(2, "%s: skipped: %s\n", victim_doing, reason);
	_exit(VICTIM_SKIP);
}

/* check(condition, "sentence", ...) */
#define check(cond, ...) do {						\
	if (!(cond))							\
		victim_fail(__FILE__, __LINE__, __VA_ARGS__);		\
} while (0)

VICTIM_FN long victim_sys(long r, const char *what, const char *file, int line)
{
	if (r == -1)
		victim_fail(file, line, "%s failed: %s", what,
			    strerror(errno));
	return r;
}

/* sys(call) - its result, which must not be -1 */
#define sys(expr) victim_sys((long)(expr), #expr, __FILE__, __LINE__)

VICTIM_FN void victim_refused(long r, int want, const char *what,
			      const char *file, int line)
{
	int err = errno;

	if (r != -1)
		victim_fail(file, line, "%s gave %ld instead of %s", what, r,
			    strerrorname_np(want));
	if (err != want)
		victim_fail(file, line, "%s failed with %s instead of %s",
			    what, strerrorname_np(err), strerrorname_np(want));
}

/* refused(call, errno) */
#define refused(expr, e) \
	victim_refused((long)(expr), e, #expr, __FILE__, __LINE__)

/* same(call, value) */
#define same(expr, want) do {						\
	long long same_got = (long long)(expr);				\
	long long same_want = (long long)(want);			\
	check(same_got == same_want, "%s is %lld instead of %lld%s%s",	\
	      #expr, same_got, same_want, same_got == -1 ? ": " : "",	\
	      same_got == -1 ? strerror(errno) : "");			\
} while (0)

/*
 * tick() - SIGALRM every so many microseconds, none any more with 0
 *
 * A signal that is to end a wait comes again: the first may be before it.
 */
VICTIM_FN void tick(long us)
{
	struct itimerval it = { { 0, us }, { 0, us } };

	sys(setitimer(ITIMER_REAL, &it, NULL));
}

VICTIM_FN bool victim_shadowed(void)
{
	return getenv("VICTIM_SHADOWED") != NULL;
}

/* fewer() - how often to do what is to be done n times on a fast machine */
VICTIM_FN int fewer(int n)
{
	const char *slow = getenv("VICTIM_SLOW");
	int less = n / (slow ? atoi(slow) : 1);

	return less ? less : 1;
}

/* in() - a name in the directory of the case; eight are valid at a time */
VICTIM_FN const char *in(const char *name)
{
	static __thread char bufs[8][PATH_MAX];
	static __thread unsigned next;
	char *buf = bufs[next++ % 8];

	snprintf(buf, PATH_MAX, "%.2000s/%.2000s", victim_base, name);
	return buf;
}

/* local() - a name that is not forwarded, of this process alone */
VICTIM_FN const char *local(const char *name)
{
	static __thread char bufs[4][PATH_MAX];
	static __thread unsigned next;
	char *buf = bufs[next++ % 4];
	const char *dir = getenv("VICTIM_LOCAL");

	snprintf(buf, PATH_MAX, "%.2000s/%d.%.2000s", dir ? dir : victim_dir,
		 (int)getpid(), name);
	return buf;
}

VICTIM_FN void put(const char *path, const char *text)
{
	int fd = (int)sys(open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644));

	same(write(fd, text, strlen(text)), strlen(text));
	sys(close(fd));
}

/* holds() - fails unless the file's whole contents are the text */
VICTIM_FN void holds(const char *path, const char *text)
{
	char buf[4096];
	int fd = (int)sys(open(path, O_RDONLY));
	ssize_t n = sys(read(fd, buf, sizeof(buf) - 1));

	buf[n] = '\0';
	check(strcmp(buf, text) == 0, "%s holds '%.200s' instead of '%.200s'",
	      path, buf, text);
	sys(close(fd));
}

/* fd_holds() - fails unless what follows at the offset begins with the text */
VICTIM_FN void fd_holds(int fd, const char *text)
{
	char buf[4096];
	size_t len = strlen(text);

	same(read(fd, buf, len), len);
	check(memcmp(buf, text, len) == 0,
	      "descriptor %d gave '%.*s' instead of '%s'", fd, (int)len, buf,
	      text);
}

/* The byte that pattern files hold at an offset. */
VICTIM_FN unsigned char pattern(uint64_t off)
{
	return (unsigned char)((off * 2654435761u) >> 11 ^ off >> 3);
}

VICTIM_FN void pattern_file(const char *path, size_t size)
{
	int fd = (int)sys(open(path, O_RDWR | O_CREAT | O_TRUNC, 0644));
	static __thread unsigned char buf[65536];

	for (size_t off = 0; off < size; off += sizeof(buf)) {
		size_t n = size - off < sizeof(buf) ? size - off : sizeof(buf);

		for (size_t i = 0; i < n; i++)
			buf[i] = pattern(off + i);
		same(pwrite(fd, buf, n, (off_t)off), n);
	}
	sys(close(fd));
}

VICTIM_FN void pattern_check(const void *mem, size_t len, uint64_t off,
			     const char *where)
{
	const unsigned char *p = mem;

	for (size_t i = 0; i < len; i++)
		check(p[i] == pattern(off + i),
		      "%s: byte %zu of %zu is %#x instead of %#x", where, i,
		      len, p[i], pattern(off + i));
}

/* pattern_read() - a forwarded read of a pattern file into mem, checked */
VICTIM_FN void pattern_read(int fd, void *mem, size_t len, uint64_t off,
			    const char *where)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, (char *)mem + done, len - done,
				  (off_t)(off + done));

		check(n > 0, "%s: read of %zu bytes to %p gave %zd: %s", where,
		      len - done, (void *)((char *)mem + done), n,
		      n < 0 ? strerror(errno) : "end of file");
		done += (size_t)n;
	}
	pattern_check(mem, len, off, where);
}

VICTIM_FN void *map(size_t len, int prot, int flags)
{
	void *p = mmap(NULL, len, prot, flags | MAP_ANONYMOUS, -1, 0);

	check(p != MAP_FAILED, "mmap of %zu bytes: %s", len, strerror(errno));
	return p;
}

VICTIM_FN void nap_ms(long ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };

	while (nanosleep(&ts, &ts) && errno == EINTR)
		;
}

/* reap() - the child must exit with status 0 */
VICTIM_FN void reap(pid_t pid)
{
	int status;

	same(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == VICTIM_SKIP)
		_exit(VICTIM_SKIP);
	check(status == 0, "child %d ended with wait status %#x", (int)pid,
	      (unsigned)status);
}

/* spawned(child) { runs in a child, which then exits 0 } reap(child); */
#define spawned(pid) \
	for (pid = (pid_t)sys(fork()); pid == 0; _exit(0), pid = -1)

VICTIM_FN void victim_run(const struct victim_case *c)
{
	victim_doing = c->name;
	snprintf(victim_base, sizeof(victim_base), "%.2000s/%s.%d", victim_dir,
		 c->name, (int)getpid());
	sys(mkdir(victim_base, 0755));
	c->run();
}

VICTIM_FN const struct victim_case *victim_find(const struct victim_case *cases,
						size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(cases[i].name, name) == 0)
			return &cases[i];
	check(false, "there is no case '%s'", name);
	return NULL;
}

/* victim_wait() - exit status of a case's child, 128 + n after a signal */
VICTIM_FN int victim_wait(pid_t pid)
{
	const char *limit = getenv("VICTIM_TIMEOUT");
	long left_ms = 1000 * (limit ? atol(limit) : 60);
	int status;

	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (left_ms <= 0) {
			dprintf(2, "%s: does not end\n", victim_doing);
			kill(-pid, SIGKILL);
			sys(waitpid(pid, &status, 0));
			break;
		}
		nap_ms(5);
		left_ms -= 5;
	}
	/* What the case has left behind is not for the next one to meet. */
	kill(-pid, SIGKILL);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) :
				     WEXITSTATUS(status);
}

/* victim_each() - as --each does; of nobody but itself does it fail */
VICTIM_FN void victim_each(const struct victim_case *c)
{
	pid_t pid = (pid_t)sys(fork());

	if (pid == 0) {
		setpgid(0, 0);
		victim_run(c);
		exit(0);
	}
	setpgid(pid, pid);
	victim_doing = c->name;
	dprintf(2, "== %s %d\n", c->name, victim_wait(pid));
}

VICTIM_FN int victim_main(int argc, char **argv,
			  const struct victim_case *cases, size_t n)
{
	void (*run)(const struct victim_case *c) = victim_run;
	int first = 2;

	victim_self = argv[0];
	if (argc == 2 && strcmp(argv[1], "--list") == 0) {
		for (size_t i = 0; i < n; i++)
			puts(cases[i].name);
		return 0;
	}
	check(argc >= 2, "usage: %s DIR [CASE]...", argv[0]);
	victim_dir = argv[1];
	umask(022);
	/* What the caller left open would blur "the lowest free number". */
	sys(syscall(SYS_close_range, 3, ~0u, 0));
	if (argc > 2 && strcmp(argv[2], "--each") == 0) {
		run = victim_each;
		first = 3;
	}
	for (int i = first; i < argc; i++)
		run(victim_find(cases, n, argv[i]));
	for (size_t i = 0; argc == first && i < n; i++)
		run(&cases[i]);
	return 0;
}

#define VICTIM_MAIN(argc, argv, cases) \
	victim_main(argc, argv, cases, sizeof(cases) / sizeof((cases)[0]))

#endif
