/* SPDX-License-Identifier: MIT */
/*
 * signals.c - signals that meet a forwarded call in flight
 *
 * Blocking calls are reads of a FIFO. Nothing here waits a fixed time for a
 * call to have blocked: a timer that goes on ticking hits it at last.
 */
#include "victim.h"

#include <poll.h>
#include <sys/epoll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/ucontext.h>

static volatile sig_atomic_t caught, last_signal;
static int fifo_fd = -1;

static void count(int sig)
{
	caught++;
	last_signal = sig;
}

static void handle(int sig, void (*fn)(int), int flags)
{
	struct sigaction sa = { .sa_handler = fn, .sa_flags = flags };

	sys(sigaction(sig, &sa, NULL));
}

/* A FIFO that never reports its end: both ends are open. */
static int fifo(void)
{
	if (access(in("fifo"), F_OK))
		sys(mkfifo(in("fifo"), 0600));
	caught = 0;
	fifo_fd = (int)sys(open(in("fifo"), O_RDWR));
	return fifo_fd;
}

/* Returns when nothing is left in the FIFO: its reader is back in read(). */
static void drained(int fd)
{
	int n = 1;

	while (sys(ioctl(fd, FIONREAD, &n)), n)
		nap_ms(1);
}

static void eintr(void)
{
	int fd = fifo();
	char byte;

	handle(SIGALRM, count, 0);
	tick(20000);
	for (int i = 0; i < 5; i++) {
		refused(read(fd, &byte, 1), EINTR);
		check(caught > i, "EINTR without a signal");
	}
	tick(0);
	same(write(fd, "x", 1), 1);
	fd_holds(fd, "x");
	sys(close(fd));
}

static void eintr_open(void)
{
	int fd = fifo();

	sys(close(fd));
	handle(SIGALRM, count, 0);
	tick(20000);
	refused(open(in("fifo"), O_RDONLY), EINTR);
	refused(open(in("fifo"), O_WRONLY), EINTR);
	tick(0);
	/* The number that the interrupted open would have had is free. */
	same(open(in("fifo"), O_RDWR), fd);
	sys(close(fd));
}

static void write_later(int sig)
{
	(void)sig;
	if (++caught == 5)
		same(write(fifo_fd, "h", 1), 1);
}

/* With SA_RESTART the read goes on; the handler itself forwards. */
static void restart(void)
{
	int fd = fifo();

	handle(SIGALRM, write_later, SA_RESTART);
	tick(20000);
	fd_holds(fd, "h");
	check(caught >= 5, "the read ended after %d signals", caught);
	tick(0);
	sys(close(fd));
}

/* A handler that reads a file does not disturb the read it interrupted. */
static void read_in_handler(int sig)
{
	int err = errno;
	unsigned char buf[3000];
	int fd = (int)sys(open(in("pattern"), O_RDONLY));

	pattern_read(fd, buf, sizeof(buf), 5, "handler");
	sys(close(fd));
	errno = err;
	write_later(sig);
}

static void nested(void)
{
	int fd;
	stack_t ss = { .ss_sp = malloc(65536), .ss_size = 65536 };

	pattern_file(in("pattern"), 65536);
	fd = fifo();
	handle(SIGALRM, read_in_handler, SA_RESTART);
	tick(20000);
	fd_holds(fd, "h");
	tick(0);
	sys(sigaltstack(&ss, NULL));
	caught = 0;
	handle(SIGALRM, read_in_handler, SA_RESTART | SA_ONSTACK);
	tick(20000);
	fd_holds(fd, "h");
	tick(0);
	ss.ss_flags = SS_DISABLE;
	sys(sigaltstack(&ss, NULL));
	sys(close(fd));
}

/*
 * raw_read() - read() with known values in every register
 *
 * regs[] comes back as: rbx rbp r12 r13 r14 r15 rdi rsi rdx r8 r9 r10.
 * raw_site and raw_after are the addresses of the system call instruction
 * and of the one behind it.
 */
extern const char raw_site[], raw_after[];
long raw_read(long fd, void *buf, size_t len, uint64_t regs[12]);
__asm__(
"	.text\n"
"	.globl raw_read, raw_site, raw_after\n"
"	.type raw_read, @function\n"
"raw_read:\n"
"	push %rbx\n	push %rbp\n	push %r12\n	push %r13\n"
"	push %r14\n	push %r15\n	push %rcx\n"
"	mov $0x1b1b, %ebx\n	mov $0x1b1c, %ebp\n"
"	mov $0x1212, %r12d\n	mov $0x1313, %r13d\n"
"	mov $0x1414, %r14d\n	mov $0x1515, %r15d\n"
"	mov $0x0808, %r8d\n	mov $0x0909, %r9d\n"
"	mov $0x1010, %r10d\n"
"	xor %eax, %eax\n"
"raw_site:\n"
"	syscall\n"
"raw_after:\n"
"	pop %rcx\n"
"	mov %rbx, (%rcx)\n	mov %rbp, 8(%rcx)\n	mov %r12, 16(%rcx)\n"
"	mov %r13, 24(%rcx)\n	mov %r14, 32(%rcx)\n"
"	mov %r15, 40(%rcx)\n	mov %rdi, 48(%rcx)\n"
"	mov %rsi, 56(%rcx)\n	mov %rdx, 64(%rcx)\n	mov %r8, 72(%rcx)\n"
"	mov %r9, 80(%rcx)\n	mov %r10, 88(%rcx)\n"
"	pop %r15\n	pop %r14\n	pop %r13\n	pop %r12\n"
"	pop %rbp\n	pop %rbx\n"
"	ret\n"
"	.size raw_read, . - raw_read\n");

static const uint64_t raw_values[6] = { 0x1b1b, 0x1b1c, 0x1212, 0x1313, 0x1414,
					0x1515 };

static void check_registers(const uint64_t regs[12], long fd, const void *buf,
			    uint64_t len)
{
	static const char *const names[] = { "rbx", "rbp", "r12", "r13", "r14",
					     "r15" };

	for (int i = 0; i < 6; i++)
		check(regs[i] == raw_values[i], "%s is %#llx instead of %#llx",
		      names[i], (unsigned long long)regs[i],
		      (unsigned long long)raw_values[i]);
	same(regs[6], fd);
	same(regs[7], (uintptr_t)buf);
	same(regs[8], len);
	same(regs[9], 0x0808);
	same(regs[10], 0x0909);
	same(regs[11], 0x1010);
}

/* Only rax, rcx and r11 change over a system call, signals or not. */
static void registers(void)
{
	uint64_t regs[12];
	int fd = fifo();
	char buf[16];

	same(write(fd, "abc", 3), 3);
	same(raw_read(fd, buf, 3, regs), 3);
	check_registers(regs, fd, buf, 3);
	same(raw_read(99, buf, 3, regs), -EBADF);
	check_registers(regs, 99, buf, 3);
	handle(SIGALRM, count, 0);
	tick(20000);
	same(raw_read(fd, buf, 7, regs), -EINTR);
	check_registers(regs, fd, buf, 7);
	handle(SIGALRM, write_later, SA_RESTART);
	caught = 0;
	same(raw_read(fd, buf, 8, regs), 1);
	tick(0);
	check_registers(regs, fd, buf, 8);
	sys(close(fd));
}

static ucontext_t seen;
static siginfo_t seen_info;
static int seen_sig;
static bool restarting;

static void look(int sig, siginfo_t *info, void *uc)
{
	uintptr_t frame = (uintptr_t)__builtin_frame_address(0);

	check(frame % 16 == 0, "the stack of the handler is not aligned");
	/* It may have come before the read, or after it; a slow machine ticks
	 * once more before the registers are back. */
	if (((ucontext_t *)uc)->uc_mcontext.gregs[REG_RBX] != 0x1b1b ||
	    seen_sig)
		return;
	/* A call that is not made again and has not been made yet. */
	if (!restarting && (const char *)((ucontext_t *)uc)->uc_mcontext
			   .gregs[REG_RIP] == raw_site)
		return;
	seen_sig = sig;
	seen_info = *info;
	seen = *(ucontext_t *)uc;
	same(write(fifo_fd, "c", 1), 1);
}

/* What a handler sees of the call is what the kernel would show. */
static void check_context(int fd, const void *buf, bool restarted)
{
	greg_t *r = seen.uc_mcontext.gregs;
	uint64_t regs[12] = {
		(uint64_t)r[REG_RBX], (uint64_t)r[REG_RBP],
		(uint64_t)r[REG_R12], (uint64_t)r[REG_R13],
		(uint64_t)r[REG_R14], (uint64_t)r[REG_R15],
		(uint64_t)r[REG_RDI], (uint64_t)r[REG_RSI],
		(uint64_t)r[REG_RDX], (uint64_t)r[REG_R8],
		(uint64_t)r[REG_R9], (uint64_t)r[REG_R10],
	};

	same(seen_sig, SIGALRM);
	same(seen_info.si_signo, SIGALRM);
	same(seen_info.si_code, SI_KERNEL);
	check_registers(regs, fd, buf, 9);
	check((const char *)r[REG_RIP] == (restarted ? raw_site : raw_after),
	      "the handler sees rip %#llx, the call is at %#llx",
	      (unsigned long long)r[REG_RIP],
	      (unsigned long long)(uintptr_t)raw_site);
	same(r[REG_RAX], restarted ? SYS_read : -EINTR);
}

static void context(void)
{
	uint64_t regs[12];
	char buf[16];
	int fd = fifo();
	struct sigaction sa = { .sa_sigaction = look, .sa_flags = SA_SIGINFO };

	seen_sig = 0;
	restarting = false;
	sys(sigaction(SIGALRM, &sa, NULL));
	tick(20000);
	same(raw_read(fd, buf, 9, regs), -EINTR);
	tick(0);
	check_context(fd, buf, false);
	same(read(fd, buf, 9), 1);
	seen_sig = 0;
	restarting = true;
	sa.sa_flags |= SA_RESTART;
	sys(sigaction(SIGALRM, &sa, NULL));
	tick(20000);
	same(raw_read(fd, buf, 9, regs), 1);
	tick(0);
	check_context(fd, buf, true);
	sys(close(fd));
}

static void died_of(pid_t pid, int sig)
{
	int status;

	same(waitpid(pid, &status, 0), pid);
	check(WIFSIGNALED(status) && WTERMSIG(status) == sig,
	      "wait status %#x instead of death by signal %d",
	      (unsigned)status, sig);
}

static int broken_pipe(void)
{
	int rd, wr;

	unlink(in("broken"));
	sys(mkfifo(in("broken"), 0600));
	rd = (int)sys(open(in("broken"), O_RDONLY | O_NONBLOCK));
	wr = (int)sys(open(in("broken"), O_WRONLY));
	sys(close(rd));
	return wr;
}

static void sigpipe(void)
{
	pid_t pid;
	int fd = broken_pipe();

	handle(SIGPIPE, SIG_DFL, 0);
	spawned(pid) {
		write(fd, "x", 1);
		check(false, "SIGPIPE did not kill");
	}
	died_of(pid, SIGPIPE);
	handle(SIGPIPE, SIG_IGN, 0);
	refused(write(fd, "x", 1), EPIPE);
	caught = 0;
	handle(SIGPIPE, count, 0);
	refused(write(fd, "x", 1), EPIPE);
	same(caught, 1);
	same(last_signal, SIGPIPE);
	handle(SIGPIPE, SIG_DFL, 0);
	sys(close(fd));
}

static void sigxfsz(void)
{
	struct rlimit lim = { 1000, RLIM_INFINITY };
	char buf[600] = "";
	pid_t pid;

	spawned(pid) {
		int fd = (int)sys(creat(in("x"), 0600));

		sys(setrlimit(RLIMIT_FSIZE, &lim));
		handle(SIGXFSZ, SIG_IGN, 0);
		same(write(fd, buf, 600), 600);
		same(write(fd, buf, 600), 400);
		refused(write(fd, buf, 1), EFBIG);
		handle(SIGXFSZ, SIG_DFL, 0);
		write(fd, buf, 1);
		check(false, "SIGXFSZ did not kill");
	}
	died_of(pid, SIGXFSZ);
}

static void killed(void)
{
	static const int signals[] = { SIGKILL, SIGTERM, SIGINT };
	int fd = fifo();
	char byte;
	pid_t pid;

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		spawned(pid)
			for (;;)
				sys(read(fd, &byte, 1));
		same(write(fd, "x", 1), 1);
		drained(fd);
		sys(kill(pid, signals[i]));
		died_of(pid, signals[i]);
		/* The dead one takes nothing more from the FIFO. */
		same(write(fd, "y", 1), 1);
		fd_holds(fd, "y");
	}
	sys(close(fd));
}

static void stopped(void)
{
	int fd = fifo(), status;
	pid_t pid;

	spawned(pid) {
		fd_holds(fd, "a");
		fd_holds(fd, "b");
		fd_holds(fd, "c");
	}
	same(write(fd, "a", 1), 1);
	drained(fd);
	for (int i = 0; i < 2; i++) {
		sys(kill(pid, SIGSTOP));
		same(waitpid(pid, &status, WUNTRACED), pid);
		check(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP,
		      "wait status %#x instead of a stop", (unsigned)status);
		sys(kill(pid, SIGCONT));
		same(waitpid(pid, &status, WCONTINUED), pid);
		check(WIFCONTINUED(status), "wait status %#x, not continued",
		      (unsigned)status);
		same(write(fd, i ? "c" : "b", 1), 1);
		drained(fd);
	}
	reap(pid);
	sys(close(fd));
}

/* The timer ticks all the time; not one read may show it. */
static void timer_loop(void)
{
	unsigned char buf[256];
	int fd;

	pattern_file(in("pattern"), 65536);
	fd = (int)sys(open(in("pattern"), O_RDONLY));
	caught = 0;
	handle(SIGALRM, count, SA_RESTART);
	tick(5000);
	for (uint64_t i = 0; i < 2000; i++) {
		ssize_t n = pread(fd, buf, sizeof(buf), (off_t)(i * 16));

		check(n == sizeof(buf), "read %d gave %zd: %s", (int)i, n,
		      strerror(errno));
		pattern_check(buf, sizeof(buf), i * 16, "read");
	}
	tick(0);
	sys(close(fd));
}

/* And through a FIFO, where every byte counts: none lost, none twice. */
static void timer_fifo(void)
{
	int fd = fifo();
	unsigned char byte;
	pid_t pid;

	handle(SIGALRM, count, SA_RESTART);
	spawned(pid)
		for (int i = 0; i < 1000; i++) {
			byte = (unsigned char)i;
			same(write(fd, &byte, 1), 1);
			drained(fd);
		}
	tick(5000);
	for (int i = 0; i < 1000; i++) {
		ssize_t n = read(fd, &byte, 1);

		check(n == 1, "read %d gave %zd: %s", i, n, strerror(errno));
		same(byte, i & 255);
	}
	tick(0);
	reap(pid);
	sys(close(fd));
}

static void blocked_signal(void)
{
	int fd = fifo();
	sigset_t set, pending;
	pid_t pid;

	handle(SIGUSR1, count, 0);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sys(sigprocmask(SIG_BLOCK, &set, NULL));
	spawned(pid) {
		same(write(fd, "a", 1), 1);
		drained(fd);
		sys(kill(getppid(), SIGUSR1));
		same(write(fd, "b", 1), 1);
	}
	fd_holds(fd, "a");
	fd_holds(fd, "b");
	same(caught, 0);
	sys(sigpending(&pending));
	same(sigismember(&pending, SIGUSR1), 1);
	sys(sigprocmask(SIG_UNBLOCK, &set, NULL));
	same(caught, 1);
	reap(pid);
	sys(close(fd));
}

static sigjmp_buf jump;

static void leap(int sig)
{
	(void)sig;
	siglongjmp(jump, 1);
}

/* A read that was left by a jump is over: it takes no byte any more. */
static void jumped(void)
{
	volatile int fd = fifo();
	char byte;

	handle(SIGALRM, leap, 0);
	for (volatile int i = 0; i < 5; i++) {
		struct itimerval once = { { 0, 0 }, { 0, 20000 } };

		if (sigsetjmp(jump, 1) == 0) {
			sys(setitimer(ITIMER_REAL, &once, NULL));
			read(fd, &byte, 1);
			check(false, "the read came back");
		}
		same(write(fd, "j", 1), 1);
		fd_holds(fd, "j");
	}
	sys(close(fd));
}

/* What nobody hears of interrupts nobody: SIGCHLD, and what SIG_IGN is for. */
static void ignored(void)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int pipe_fds[2], ep = (int)sys(epoll_create1(0));
	pid_t pid;

	handle(SIGUSR1, SIG_IGN, 0);
	handle(SIGCHLD, SIG_DFL, 0);
	sys(pipe(pipe_fds));
	sys(epoll_ctl(ep, EPOLL_CTL_ADD, pipe_fds[0], &ev));
	spawned(pid) {
		pid_t child;

		spawned(child)
			;
		for (int i = 0; i < 5; i++) {
			nap_ms(30);
			sys(kill(getppid(), SIGCHLD));
			sys(kill(getppid(), SIGUSR1));
			sys(kill(getppid(), SIGWINCH));
		}
		same(write(pipe_fds[1], "x", 1), 1);
		reap(child);
	}
	same(epoll_wait(ep, &ev, 1, -1), 1);
	reap(pid);
	sys(close(ep));
	sys(close(pipe_fds[0]));
	sys(close(pipe_fds[1]));
}

static atomic_int interrupted;

static void *interruptible(void *arg)
{
	char byte;
	ssize_t n = read(*(int *)arg, &byte, 1);

	if (n == -1 && errno == EINTR)
		atomic_fetch_add(&interrupted, 1);
	else
		same(n, 1);
	return NULL;
}

/* A signal for one thread interrupts the call of that thread alone. */
static void directed(void)
{
	int fd = fifo();
	pthread_t a, b;

	handle(SIGUSR2, count, 0);
	same(pthread_create(&a, NULL, interruptible, &fd), 0);
	same(pthread_create(&b, NULL, interruptible, &fd), 0);
	while (atomic_load(&interrupted) == 0) {
		same(pthread_kill(a, SIGUSR2), 0);
		nap_ms(5);
	}
	same(pthread_join(a, NULL), 0);
	same(write(fd, "x", 1), 1);
	same(pthread_join(b, NULL), 0);
	same(atomic_load(&interrupted), 1);
	sys(close(fd));
}

/* Locks wait as reads do. */
static void lock_wait(void)
{
	int fd = fifo(), go[2];
	struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char byte;
	pid_t pid;

	sys(close(fd));
	put(in("x"), "x");
	fd = (int)sys(open(in("x"), O_RDWR));
	sys(pipe(go));
	handle(SIGALRM, count, 0);
	spawned(pid) {
		sys(fcntl(fd, F_SETLK, &fl));
		same(write(go[1], "x", 1), 1);
		pause();
	}
	same(read(go[0], &byte, 1), 1);
	tick(20000);
	refused(fcntl(fd, F_SETLKW, &fl), EINTR);
	tick(0);
	sys(kill(pid, SIGTERM));
	died_of(pid, SIGTERM);
	sys(fcntl(fd, F_SETLKW, &fl));
	sys(close(fd));
	sys(close(go[0]));
	sys(close(go[1]));
}

/* poll() is never restarted; the time it had left is its own affair. */
static void poll_eintr(void)
{
	int fd = fifo();
	struct pollfd p = { .fd = fd, .events = POLLIN };

	handle(SIGALRM, count, SA_RESTART);
	tick(20000);
	refused(poll(&p, 1, -1), EINTR);
	tick(0);
	same(poll(&p, 1, 10), 0);
	sys(close(fd));
}

int main(int argc, char **argv)
{
	static const struct victim_case cases[] = {
		CASE(eintr), CASE(eintr_open), CASE(restart), CASE(nested),
		CASE(registers), CASE(context), CASE(sigpipe), CASE(sigxfsz),
		CASE(killed), CASE(stopped), CASE(timer_loop),
		CASE(timer_fifo), CASE(blocked_signal), CASE(jumped),
		CASE(directed), CASE(ignored), CASE(lock_wait), CASE(poll_eintr),
	};

	return VICTIM_MAIN(argc, argv, cases);
}
