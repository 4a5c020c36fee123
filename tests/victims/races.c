/* SPDX-License-Identifier: MIT */
/*
 * races.c - what a review found: dying threads, own filters, borders
 *
 * Every case failed once. The races are run a number of rounds, which is what
 * made them fail reliably; what they find is a hang or a wrong result, never
 * a wrong time.
 */
#include "victim.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>

#define PAGE 4096

static volatile sig_atomic_t caught;

static void count(int sig)
{
	(void)sig;
	caught++;
}

static void handle(int sig, int flags)
{
	struct sigaction sa = { .sa_handler = count, .sa_flags = flags };

	caught = 0;
	sys(sigaction(sig, &sa, NULL));
}

static bool is_blocked(int sig)
{
	sigset_t set;

	same(pthread_sigmask(SIG_BLOCK, NULL, &set), 0);
	return sigismember(&set, sig) == 1;
}

/* Changes the address space until the process ends or is replaced. */
static void *churn(void *arg)
{
	for (;;) {
		void *p = map(2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);

		sys(munmap(p, 2 * PAGE));
	}
	return arg;
}

static void *exit_soon(void *arg)
{
	usleep(*(const useconds_t *)arg);
	_exit(0);
}

/* A thread that dies while a call is made in it holds nobody up. */
static void thread_exits(void)
{
	for (useconds_t i = 0; i < 25; i++) {
		useconds_t delay = 1000 + i * 137;
		pthread_t thread;
		pid_t pid;

		spawned(pid) {
			same(pthread_create(&thread, NULL, churn, NULL), 0);
			same(pthread_create(&thread, NULL, exit_soon, &delay),
			     0);
			churn(NULL);
		}
		reap(pid);
	}
}

/* What the rounds of thread_execs hand on to each other. */
#define ROUND "--round"

static const char *round_file;
static int rounds_left;

static void *exec_soon(void *arg)
{
	char left[16];

	usleep((useconds_t)(1000 + rounds_left * 311));
	snprintf(left, sizeof(left), "%d", rounds_left - 1);
	execl(victim_self, victim_self, ROUND, round_file, left, (char *)NULL);
	check(false, "exec from a thread: %s", strerror(errno));
	return arg;
}

static void exec_round(void)
{
	pthread_t thread;

	holds(round_file, "read after exec");
	if (rounds_left == 0)
		exit(0);
	same(pthread_create(&thread, NULL, exec_soon, NULL), 0);
	churn(NULL);
}

/* What a thread executes forwards, whatever the leader was in. */
static void thread_execs(void)
{
	pid_t pid;

	put(in("x"), "read after exec");
	spawned(pid) {
		round_file = in("x");
		rounds_left = fewer(40);
		exec_round();
	}
	reap(pid);
}

/* The thread block, by which recursive mutexes know their owner. */
static void forked_mutex(void)
{
	pthread_mutexattr_t attr;
	pthread_mutex_t held, fresh;
	pid_t pid;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&held, &attr);
	pthread_mutex_init(&fresh, &attr);
	same(pthread_mutex_lock(&held), 0);
	spawned(pid) {
		same(pthread_mutex_trylock(&held), EBUSY);
		same(pthread_mutex_trylock(&fresh), 0);
		same(pthread_mutex_trylock(&fresh), 0);
		same(fresh.__data.__owner, getpid());
	}
	reap(pid);
	same(pthread_mutex_trylock(&held), 0);
	same(held.__data.__owner, gettid());
	same(pthread_mutex_unlock(&held), 0);
	same(pthread_mutex_unlock(&held), 0);
	same(pthread_mutex_trylock(&fresh), 0);
	same(fresh.__data.__owner, gettid());
}

#define ALLOW(nr) \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1), \
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static void install(struct sock_filter *insns, size_t n)
{
	struct sock_fprog prog = { .len = (unsigned short)n, .filter = insns };

	sys(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog)) {
		if (errno == EINVAL || errno == ENOSYS)
			victim_skip("this kernel has no seccomp filters");
		check(false, "installing a filter: %s", strerror(errno));
	}
}

/* Only what the two cases below call, and what check() reports with. */
static void allow_little(void)
{
	struct sock_filter insns[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr)),
		ALLOW(SYS_mmap), ALLOW(SYS_munmap), ALLOW(SYS_openat),
		ALLOW(SYS_read), ALLOW(SYS_pread64), ALLOW(SYS_write),
		ALLOW(SYS_close), ALLOW(SYS_exit_group),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct rlimit no_core = { 0, 0 };

	sys(setrlimit(RLIMIT_CORE, &no_core));
	install(insns, sizeof(insns) / sizeof(insns[0]));
}

/* The filter is for the calls of the program, not for those made in it. */
static void own_filter(void)
{
	const char *here = local("x");	/* the child's name would differ */
	const size_t size = 20 * PAGE;
	pid_t pid;

	pattern_file(in("x"), size);
	put(here, "local");
	spawned(pid) {
		allow_little();
		for (int i = 0; i < 3; i++) {
			char *mem = map(size, PROT_READ | PROT_WRITE,
					MAP_PRIVATE);
			int fd = (int)sys(open(in("x"), O_RDONLY));

			pattern_read(fd, mem, size, 0, "behind a filter");
			sys(close(fd));
			sys(munmap(mem, size));
			holds(here, "local");
		}
	}
	reap(pid);
	sys(unlink(here));
}

/* ... and it goes on forbidding what it forbids. */
static void own_filter_kills(void)
{
	int status;
	pid_t pid;

	spawned(pid) {
		allow_little();
		syscall(SYS_getppid);
	}
	same(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == VICTIM_SKIP)
		_exit(VICTIM_SKIP);
	check(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS,
	      "the child ended with wait status %#x", (unsigned)status);
}

/* A call that a tracer is to see fails where the program has none. */
static void own_filter_traces(void)
{
	struct sock_filter insns[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	int status;
	pid_t pid;

	put(in("x"), "x");
	spawned(pid) {
		install(insns, sizeof(insns) / sizeof(insns[0]));
		refused(syscall(SYS_getppid), ENOSYS);
		holds(in("x"), "x");
	}
	same(waitpid(pid, &status, 0), pid);
	if (status)
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

static atomic_bool stop_pelting;

static void *pelt(void *arg)
{
	while (!atomic_load(&stop_pelting)) {
		same(pthread_kill(*(pthread_t *)arg, SIGUSR1), 0);
		usleep(30);
	}
	return NULL;
}

/* A signal at any step of a call leaves the program its own mask. */
static void mask_kept(void)
{
	pthread_t self = pthread_self(), thread;
	const int calls = fewer(20000);
	sigset_t before, after;
	int fd;

	put(in("x"), "x");
	fd = (int)sys(open(in("x"), O_RDONLY));
	handle(SIGUSR1, SA_RESTART);
	same(pthread_sigmask(SIG_BLOCK, NULL, &before), 0);
	atomic_store(&stop_pelting, false);
	same(pthread_create(&thread, NULL, pelt, &self), 0);
	for (int i = 0; i < calls; i++) {
		char byte;

		same(pread(fd, &byte, 1, 0), 1);
		same(byte, 'x');
		if (i % 16 == 0)
			check(!is_blocked(SIGUSR1),
			      "the signal is blocked after call %d", i);
	}
	atomic_store(&stop_pelting, true);
	same(pthread_join(thread, NULL), 0);
	same(pthread_sigmask(SIG_BLOCK, NULL, &after), 0);
	for (int sig = 1; sig <= SIGRTMAX; sig++)
		check(sigismember(&before, sig) == sigismember(&after, sig),
		      "signal %d changed its place in the mask", sig);
	check(caught > 0, "no signal arrived");
	sys(close(fd));
}

/* A mapping whose parts were once protected differently is one mapping. */
static void shrunk(void)
{
	char *p = map(4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	unsigned char vec[2];
	int fd;

	pattern_file(in("x"), 4 * PAGE);
	fd = (int)sys(open(in("x"), O_RDONLY));
	sys(mprotect(p + PAGE, PAGE, PROT_READ));
	sys(mprotect(p + PAGE, PAGE, PROT_READ | PROT_WRITE));
	pattern_read(fd, p, 4 * PAGE, 0, "before");
	check(mremap(p, 4 * PAGE, 2 * PAGE, MREMAP_MAYMOVE) == p,
	      "a shrinking mapping moved");
	refused(mincore(p + 2 * PAGE, 2 * PAGE, vec), ENOMEM);
	refused(pread(fd, p + 2 * PAGE, PAGE, 0), EFAULT);
	pattern_check(p, 2 * PAGE, 0, "what is left");
	pattern_read(fd, p, 2 * PAGE, PAGE, "after");
	sys(munmap(p, 2 * PAGE));
	sys(close(fd));
}

/* A FIFO that never reports its end: both ends are open. */
static int fifo(int flags)
{
	sys(mkfifo(in("fifo"), 0600));
	return (int)sys(open(in("fifo"), O_RDWR | flags));
}

/* The mask holds during the wait and not after it. */
static void epoll_mask(void)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int fd = fifo(0), ep = (int)sys(epoll_create1(0));
	sigset_t block, open_mask;

	handle(SIGALRM, SA_RESTART);
	sigemptyset(&block);
	sigaddset(&block, SIGALRM);
	same(pthread_sigmask(SIG_BLOCK, &block, &open_mask), 0);
	sys(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
	tick(20000);
	/* Blocked: it interrupts nothing. */
	same(epoll_pwait(ep, &ev, 1, 60, &block), 0);
	same(caught, 0);
	refused(epoll_pwait(ep, &ev, 1, 20000, &open_mask), EINTR);
	tick(0);
	check(caught > 0, "the handler has not run");
	check(is_blocked(SIGALRM), "the mask of the wait outlived it");
	same(write(fd, "x", 1), 1);
	same(epoll_pwait(ep, &ev, 1, 20000, &block), 1);
	same(pthread_sigmask(SIG_SETMASK, &open_mask, NULL), 0);
	sys(close(ep));
	sys(close(fd));
}

/* --- waiting for both sides --------------------------------------------------- */

static long switches(void)
{
	struct rusage used;

	sys(getrusage(RUSAGE_THREAD, &used));
	return used.ru_nvcsw;
}

/* A second in which nothing happens: whoever waits for it sleeps. */
static void wait_asleep(void)
{
	struct epoll_event ev = { .events = EPOLLIN };
	struct pollfd p[2] = { { .events = POLLIN }, { .events = POLLIN } };
	int ep = (int)sys(epoll_create1(0)), ends[2];
	long before;

	sys(pipe(ends));
	p[0].fd = fifo(0);
	p[1].fd = ends[0];
	sys(epoll_ctl(ep, EPOLL_CTL_ADD, p[0].fd, &ev));
	sys(epoll_ctl(ep, EPOLL_CTL_ADD, p[1].fd, &ev));
	same(poll(p, 2, 1), 0);
	same(epoll_wait(ep, &ev, 1, 1), 0);
	before = switches();
	same(poll(p, 2, 1000), 0);
	check(switches() - before < 25, "poll woke up %ld times",
	      switches() - before);
	before = switches();
	same(epoll_wait(ep, &ev, 1, 1000), 0);
	check(switches() - before < 25, "epoll_wait woke up %ld times",
	      switches() - before);
	sys(close(ep));
	sys(close(p[0].fd));
	sys(close(ends[0]));
	sys(close(ends[1]));
}

#define TURNS 400

/* Who answers, on the side that was asked. */
static void *answer(void *arg)
{
	const int *fds = arg;
	char c;

	for (int i = 0; i < TURNS; i++) {
		same(read(fds[0], &c, 1), 1);
		same(write(fds[c == 'h' ? 1 : 2], &c, 1), 1);
	}
	return NULL;
}

/* One side is answered while the other's wait begins, goes on or ends: no answer
 * is missed. Signals come all the time. */
static void wait_turns(void)
{
	struct epoll_event ev = { .events = EPOLLIN };
	struct pollfd p[2] = { { .events = POLLIN }, { .events = POLLIN } };
	int ep = (int)sys(epoll_create1(0)), ask[2], local_ends[2];
	pthread_t thread;

	handle(SIGALRM, SA_RESTART);
	sys(pipe(ask));
	sys(pipe(local_ends));
	p[0].fd = fifo(0);
	p[1].fd = local_ends[0];
	ev.data.fd = p[0].fd;
	sys(epoll_ctl(ep, EPOLL_CTL_ADD, p[0].fd, &ev));
	ev.data.fd = p[1].fd;
	sys(epoll_ctl(ep, EPOLL_CTL_ADD, p[1].fd, &ev));
	same(pthread_create(&thread, NULL, answer,
			    (int[3]){ ask[0], p[0].fd, local_ends[1] }), 0);
	tick(2000);
	for (int i = 0; i < TURNS; i++) {
		const int fd = p[i % 2].fd;
		char c = i % 2 ? 'l' : 'h';
		int n;

		while (write(ask[1], &c, 1) < 0)
			same(errno, EINTR);
		do
			n = i % 4 < 2 ? poll(p, 2, 20000) :
					epoll_wait(ep, &ev, 1, 20000);
		while (n < 0 && errno == EINTR);
		same(n, 1);
		same(i % 4 < 2 ? p[i % 2].revents : (short)ev.events, POLLIN);
		while (read(fd, &c, 1) < 0)
			same(errno, EINTR);
		same(c, i % 2 ? 'l' : 'h');
	}
	tick(0);
	same(pthread_join(thread, NULL), 0);
	for (int i = 0; i < 2; i++) {
		sys(close(p[i].fd));
		sys(close(ask[i]));
	}
	sys(close(local_ends[1]));
	sys(close(ep));
}

#define WAITERS 150	/* more than one futex_waitv(2) waits for */

static int waited_for[2];

static void *wait_one(void *arg)
{
	struct pollfd p[2] = { { waited_for[0], POLLIN, 0 },
			       { waited_for[1], POLLIN, 0 } };

	same(poll(p, 2, 60000), 1);
	same(p[0].revents, POLLIN);
	return arg;
}

/* All of many threads wake up when there is something on the host. */
static void wait_many(void)
{
	pthread_t threads[WAITERS];
	int ends[2];
	char c;

	sys(pipe(ends));
	waited_for[0] = fifo(0);
	waited_for[1] = ends[0];
	for (int i = 0; i < WAITERS; i++)
		same(pthread_create(&threads[i], NULL, wait_one, NULL), 0);
	usleep(300000);
	same(write(waited_for[0], "x", 1), 1);
	for (int i = 0; i < WAITERS; i++)
		same(pthread_join(threads[i], NULL), 0);
	same(read(waited_for[0], &c, 1), 1);
	sys(close(waited_for[0]));
	sys(close(ends[0]));
	sys(close(ends[1]));
}

/* Code that was never run before, so that each call's site is new. */
static void *new_sites(void *arg)
{
	static const unsigned char site[] = { 0xb8, SYS_getppid, 0, 0, 0,
					      0x0f, 5, 0xc3 };
	unsigned char *page = map(PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);

	for (size_t at = 0; at + 64 <= PAGE; at += 64)
		memcpy(page + at, site, sizeof(site));
	sys(mprotect(page, PAGE, PROT_READ | PROT_EXEC));
	for (size_t at = 0; at + 64 <= PAGE; at += 64) {
		union {
			unsigned char *code;
			long (*call)(void);
		} f = { page + at };

		for (int i = 0; i < 4; i++)
			same(f.call(), getppid());
		usleep(1000);
	}
	sys(munmap(page, PAGE));
	same(write(*(int *)arg, "x", 1), 1);
	return NULL;
}

/* Stops of ours, when sites are patched or somebody forks, are no signals. */
static void wait_stopped(void)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int ep = (int)sys(epoll_create1(0)), ends[2];
	pthread_t thread;
	pid_t pid;

	sys(pipe(ends));
	sys(epoll_ctl(ep, EPOLL_CTL_ADD, ends[0], &ev));
	same(pthread_create(&thread, NULL, new_sites, &ends[1]), 0);
	same(epoll_wait(ep, &ev, 1, -1), 1);
	same(pthread_join(thread, NULL), 0);
	spawned(pid) {
		for (int i = 0; i < 50; i++)
			usleep(1000);
	}
	reap(pid);
	sys(close(ep));
	sys(close(ends[0]));
	sys(close(ends[1]));
}

static volatile bool stop_opening;

static void *open_and_close(void *arg)
{
	while (!stop_opening) {
		int fd = (int)sys(open(arg, O_RDONLY | O_CLOEXEC));

		sys(close(fd));
	}
	return NULL;
}

/* A number that is free in the child is not somebody else's file of the host. */
static void fork_descriptors(void)
{
	char name[PATH_MAX];
	pthread_t threads[2];
	int ends[2];
	pid_t pid;

	snprintf(name, sizeof(name), "%s", in("opened"));
	sys(close((int)sys(open(name, O_RDWR | O_CREAT, 0600))));
	sys(pipe(ends));
	for (int i = 0; i < 2; i++)
		same(pthread_create(&threads[i], NULL, open_and_close, name),
		     0);
	for (int round = 0; round < 150; round++) {
		spawned(pid) {
			int copies[3];
			struct stat st;

			for (int i = 0; i < 3; i++)
				copies[i] = (int)sys(dup(ends[i % 2]));
			for (int i = 0; i < 3; i++) {
				sys(fstat(copies[i], &st));
				check(S_ISFIFO(st.st_mode), "a copy of a pipe"
				      " is a file of mode %o", st.st_mode);
			}
		}
		reap(pid);
	}
	stop_opening = true;
	for (int i = 0; i < 2; i++)
		same(pthread_join(threads[i], NULL), 0);
	sys(close(ends[0]));
	sys(close(ends[1]));
}

/* select() counts what was asked for: a hang-up is no exception. */
static void select_hangup(void)
{
	struct timeval tv = { 0, 50000 };
	int fd = fifo(0), ends[2];
	fd_set rd, ex;

	sys(pipe(ends));
	sys(close(ends[1]));
	FD_ZERO(&rd);
	FD_ZERO(&ex);
	FD_SET(fd, &rd);
	FD_SET(ends[0], &ex);
	same(select(64, &rd, NULL, &ex, &tv), 0);
	check(!FD_ISSET(fd, &rd) && !FD_ISSET(ends[0], &ex),
	      "a set still has members after the timeout");

	/* Asked for reading, the hang-up is the end of the file. */
	FD_SET(fd, &rd);
	FD_SET(ends[0], &rd);
	tv = (struct timeval){ 20, 0 };
	same(select(64, &rd, NULL, NULL, &tv), 1);
	check(FD_ISSET(ends[0], &rd) && !FD_ISSET(fd, &rd),
	      "the wrong descriptor is ready");
	sys(close(ends[0]));
	sys(close(fd));
}

static void select_closed(void)
{
	struct timeval tv = { 0, 50000 };
	int fd = fifo(0), ends[2];
	fd_set rd, ex;

	sys(pipe(ends));
	sys(close(ends[0]));
	sys(close(ends[1]));
	FD_ZERO(&rd);
	FD_ZERO(&ex);
	FD_SET(fd, &rd);
	FD_SET(ends[0], &ex);
	refused(select(64, &rd, NULL, &ex, &tv), EBADF);
	sys(close(fd));
}

/* fill() - writes a pattern until nothing more fits; returns how much did */
static size_t fill(int fd)
{
	unsigned char page[PAGE];
	size_t done = 0;
	ssize_t n;

	do {
		for (size_t i = 0; i < sizeof(page); i++)
			page[i] = pattern(done + i);
		n = write(fd, page, sizeof(page));
		done += n > 0 ? (size_t)n : 0;
	} while (n > 0);
	refused(n, EAGAIN);
	return done;
}

/* drain() - reads a pattern from off on, up to end; returns where it ended */
static size_t drain(int fd, size_t off, size_t end, const char *where)
{
	static unsigned char buf[8 * PAGE];

	while (off < end) {
		size_t want = end - off < sizeof(buf) ? end - off : sizeof(buf);
		ssize_t n = read(fd, buf, want);

		if (n == 0 || (n < 0 && errno == EAGAIN))
			break;
		check(n > 0, "%s: read gave %zd", where, n);
		pattern_check(buf, (size_t)n, off, where);
		off += (size_t)n;
	}
	return off;
}

/* The reader of splice_full: a pattern's rest, then another from its start. */
static void read_all(const char *name, size_t off, size_t end, int result)
{
	int fd = (int)sys(open(name, O_RDONLY));
	size_t moved;

	same(write(result, "r", 1), 1);
	nap_ms(50);
	same(drain(fd, off, end, "in the FIFO before"), end);
	moved = drain(fd, 0, SIZE_MAX, "moved");
	same(write(result, &moved, sizeof(moved)), sizeof(moved));
	sys(close(fd));
}

/*
 * What the full FIFO does not take stays in the pipe. (Or waits for its
 * reader: both are allowed, to lose it is not.)
 */
static void splice_full(void)
{
	int out = fifo(O_NONBLOCK), ends[2], result[2];
	size_t there, here, arrived;
	ssize_t moved;
	pid_t pid;
	char byte;

	sys(pipe2(ends, O_NONBLOCK));
	sys(pipe(result));
	here = fill(ends[1]);
	there = fill(out);
	same(drain(out, 0, 2 * PAGE, "room"), 2 * PAGE);
	spawned(pid) {
		sys(close(out));
		read_all(in("fifo"), 2 * PAGE, there, result[1]);
	}
	sys(close(result[1]));
	same(read(result[0], &byte, 1), 1);

	moved = sys(splice(ends[0], NULL, out, NULL, here, SPLICE_F_NONBLOCK));
	check(moved > 0 && (size_t)moved <= here, "splice moved %zd of %zu",
	      moved, here);
	sys(close(out));
	same(drain(ends[0], (size_t)moved, here, "left in the pipe"), here);
	refused(read(ends[0], &byte, 1), EAGAIN);
	same(read(result[0], &arrived, sizeof(arrived)), sizeof(arrived));
	same(arrived, moved);
	reap(pid);
	sys(close(result[0]));
	sys(close(ends[0]));
	sys(close(ends[1]));
}

/* The link of a descriptor is no name of the file. */
static void unlink_proc(void)
{
	char link[64];
	int fd;

	put(in("x"), "still here");
	fd = (int)sys(open(in("x"), O_RDONLY));
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	same(unlink(link), -1);
	check(errno == EPERM || errno == EACCES, "unlink of %s: %s", link,
	      strerror(errno));
	same(unlinkat(AT_FDCWD, link, 0), -1);
	holds(in("x"), "still here");
	fd_holds(fd, "still here");
	sys(close(fd));
}

/* A process that hides its memory goes on opening files. */
static void undumpable(void)
{
	pid_t pid;

	put(in("x"), "forwarded");
	spawned(pid) {
		char here[PATH_MAX];

		put(local("x"), "local");
		snprintf(here, sizeof(here), "%s", local("x"));
		sys(prctl(PR_SET_DUMPABLE, 0));
		same(prctl(PR_GET_DUMPABLE), 0);
		holds(here, "local");
		holds(in("x"), "forwarded");
		put(in("y"), "written");
		holds(in("y"), "written");
		sys(unlink(here));
		refused(open(here, O_RDONLY), ENOENT);
		sys(prctl(PR_SET_DUMPABLE, 1));
		same(prctl(PR_GET_DUMPABLE), 1);
	}
	reap(pid);
}

/* `..` behind a link is the parent of what the link names. */
static void dotdot_link(void)
{
	char parent[PATH_MAX], *name;
	char relative[PATH_MAX];
	pid_t pid;

	sys(mkdir(in("d"), 0755));
	sys(mkdir(in("d/e"), 0755));
	put(in("f"), "top");
	put(in("d/f"), "deep");
	sys(symlink("d/e", in("link")));

	snprintf(parent, sizeof(parent), "%s", victim_dir);
	name = strrchr(parent, '/');
	check(name && name != parent && name[1],
	      "%s is not an absolute name two levels deep", victim_dir);
	snprintf(relative, sizeof(relative), "%.2000s/link/../f",
		 victim_base + (name + 1 - parent));
	*name = '\0';
	spawned(pid) {
		sys(chdir(parent));
		holds(relative, "deep");
		holds(in("link/../f"), "deep");
		holds(in("link/../../f"), "top");
	}
	reap(pid);
}

static void *bear(void *thread)
{
	for (;;) {
		pthread_t other;

		if (thread)
			pthread_create(&other, NULL, bear, NULL);
		else if (fork() == 0)
			_exit(0);
	}
	return NULL;
}

static pthread_barrier_t executing;

static void *exec_over(void *arg)
{
	(void)arg;
	pthread_barrier_wait(&executing);
	execlp("true", "true", NULL);
	_exit(1);
}

/*
 * Whoever is killed while it forks, or creates a thread, leaves nobody who
 * waits for ever: all that it left can be reaped.
 */
static void killed_forking(void)
{
	sys(prctl(PR_SET_CHILD_SUBREAPER, 1));
	for (int i = 0; i < fewer(300); i++) {
		pid_t pid = (pid_t)sys(fork());

		if (pid == 0) {
			pthread_t thread;

			setpgid(0, 0);
			if (i % 3 == 2) {
				pthread_barrier_init(&executing, NULL, 2);
				pthread_create(&thread, NULL, exec_over, NULL);
				pthread_barrier_wait(&executing);
			}
			bear(i % 3 == 1 ? &thread : NULL);
		}
		usleep((useconds_t)(rand() % 5000));
		kill(pid, SIGKILL);
		while (wait(NULL) > 0)
			;
	}
}

static char first_mapped(int fd)
{
	char *p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0), c;

	check(p != MAP_FAILED, "mmap: %s", strerror(errno));
	c = *p;
	sys(munmap(p, 4096));
	return c;
}

/* Whoever is killed while it maps a file leaves no trace of it to others. */
static void killed_mapping(void)
{
	int mine, other;

	put(in("mine"), "m");
	put(in("other"), "o");
	mine = (int)sys(open(in("mine"), O_RDONLY));
	other = (int)sys(open(in("other"), O_RDONLY));
	for (int i = 0; i < fewer(300); i++) {
		pid_t pid = (pid_t)sys(fork());

		while (pid == 0)
			first_mapped(other);
		usleep((useconds_t)(rand() % 3000));
		kill(pid, SIGKILL);
		sys(waitpid(pid, NULL, 0));
		check(first_mapped(mine) == 'm', "another file is mapped");
	}
	close(mine);
	close(other);
}

int main(int argc, char **argv)
{
	static const struct victim_case cases[] = {
		CASE(thread_exits), CASE(thread_execs), CASE(forked_mutex),
		CASE(own_filter), CASE(own_filter_kills), CASE(mask_kept),
		CASE(own_filter_traces),
		CASE(shrunk), CASE(epoll_mask), CASE(select_hangup),
		CASE(select_closed), CASE(splice_full), CASE(unlink_proc),
		CASE(undumpable), CASE(dotdot_link), CASE(killed_forking),
		CASE(killed_mapping), CASE(wait_asleep), CASE(wait_turns),
		CASE(wait_many),
		CASE(wait_stopped), CASE(fork_descriptors),
	};

	if (argc == 4 && strcmp(argv[1], ROUND) == 0) {
		victim_doing = "thread_execs";
		victim_self = argv[0];
		round_file = argv[2];
		rounds_left = atoi(argv[3]);
		exec_round();
	}
	return VICTIM_MAIN(argc, argv, cases);
}
