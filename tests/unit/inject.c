/* SPDX-License-Identifier: MIT */
/*
 * inject.c - a process that makes calls for us goes on as it was
 *
 * The process compares all that it has in registers, in its red zone and in its
 * signal state with what it put there, again and again, in loops and in calls
 * that are interrupted. Whoever makes it call is killed at every step, and at
 * any moment. Then it is one with seccomp filters.
 */
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/num.h"
#include "process/proc.h"
#include "vm/inject.h"
#include "tap.h"

#define WORD	0x5a17c0de00000000ULL
#define ROUNDS	400

/* What the process shares with us. */
struct seen {
	uint64_t turns;
	uint64_t wrong;		/* what was not as it was: WRONG_ */
	uint64_t page;		/* address of memory that we may map over */
};

#define WRONG_REGS	1
#define WRONG_RED	2
#define WRONG_VECTOR	3
#define WRONG_CONTROL	4
#define WRONG_MASK	5
#define WRONG_ALTSTACK	6
#define WRONG_CALL	7

static volatile sig_atomic_t rang;

static void ring(int sig)
{
	(void)sig;
	rang++;
}

/*
 * One turn: all registers hold numbers made from WORD, and so does the red
 * zone. nr: a call to make meanwhile (its arguments are the registers'), or -1:
 * turns of a loop instead. Returns a sum that is the same every time, and by
 * *rax what the call returned.
 */
static uint64_t turn(int64_t nr, int64_t *rax, const uint64_t args[6])
{
	uint64_t sum = 0, ret;

	__asm__ volatile(
		"sub $256, %%rsp\n\t"
		"push %%rbp\n\t"
		"push %%rbx\n\t"
		"mov %[nr], %%rax\n\t"
		"mov %[args], %%rbx\n\t"
		"mov (%%rbx), %%rdi\n\t"
		"mov 8(%%rbx), %%rsi\n\t"
		"mov 16(%%rbx), %%rdx\n\t"
		"mov 24(%%rbx), %%r10\n\t"
		"mov 32(%%rbx), %%r8\n\t"
		"mov 40(%%rbx), %%r9\n\t"
		"mov $0x1111, %%rbx\n\t"
		"mov $0x2222, %%rbp\n\t"
		"mov $0x3333, %%r12\n\t"
		"mov $0x4444, %%r13\n\t"
		"mov $0x5555, %%r14\n\t"
		"mov $0x6666, %%r15\n\t"
		"movq $0x7777, -8(%%rsp)\n\t"
		"movq $0x8888, -128(%%rsp)\n\t"
		"cmp $-1, %%rax\n\t"
		"je 1f\n\t"
		"syscall\n\t"
		"jmp 2f\n"
		"1:\n\t"
		"mov $20000, %%rcx\n"
		"3:\n\t"
		"dec %%rcx\n\t"
		"jnz 3b\n"
		"2:\n\t"
		"add %%rdi, %%rbx\n\t"
		"add %%rsi, %%rbx\n\t"
		"add %%rdx, %%rbx\n\t"
		"add %%r10, %%rbx\n\t"
		"add %%r8, %%rbx\n\t"
		"add %%r9, %%rbx\n\t"
		"add %%rbp, %%rbx\n\t"
		"add %%r12, %%rbx\n\t"
		"add %%r13, %%rbx\n\t"
		"add %%r14, %%rbx\n\t"
		"add %%r15, %%rbx\n\t"
		"add -8(%%rsp), %%rbx\n\t"
		"add -128(%%rsp), %%rbx\n\t"
		"mov %%rbx, %%rdx\n\t"
		"pop %%rbx\n\t"
		"pop %%rbp\n\t"
		"add $256, %%rsp\n\t"
		: "=&a"(ret), "=&d"(sum)
		: [nr] "S"(nr), [args] "D"(args)
		: "rcx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
		  "memory", "cc");
	*rax = (int64_t)ret;
	return sum;
}

static uint64_t sum_of(const uint64_t args[6])
{
	uint64_t sum = 0x1111ULL * (1 + 2 + 3 + 4 + 5 + 6 + 7 + 8);

	for (int i = 0; i < 6; i++)
		sum += args[i];
	return sum;
}

/* 16 vector registers, over a loop of our own. */
static bool vectors_hold(void)
{
	static uint8_t in[16][32] __attribute__((aligned(32)));
	static uint8_t out[16][32] __attribute__((aligned(32)));

	for (int i = 0; i < 16; i++)
		memset(in[i], 0x31 + i, sizeof(in[i]));
	if (!__builtin_cpu_supports("avx"))
		return true;
	memset(out, 0, sizeof(out));
#define LOAD(n)	 "vmovdqa " #n "*32(%0), %%ymm" #n "\n\t"
#define STORE(n) "vmovdqa %%ymm" #n ", " #n "*32(%1)\n\t"
#define ALL(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) \
	       X(12) X(13) X(14) X(15)
	__asm__ volatile(
		ALL(LOAD)
		"mov $20000, %%rcx\n"
		"1:\n\t"
		"dec %%rcx\n\t"
		"jnz 1b\n\t"
		ALL(STORE)
		"vzeroupper\n\t"
		: : "r"(in), "r"(out)
		: "rcx", "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3",
		  "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
		  "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
	return memcmp(in, out, sizeof(in)) == 0;
}

#define MXCSR_CHOP	0x7f80u	/* rounds towards 0 */

static bool control_holds(void)
{
	uint32_t mxcsr;

	__asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
	return (mxcsr & ~0x3fu) == MXCSR_CHOP;
}

static void look(struct seen *seen, bool good, uint64_t what)
{
	if (!good && !seen->wrong)
		seen->wrong = what;
}

static uint8_t alt_stack[65536];

static _Noreturn void live(struct seen *seen)
{
	const uint32_t chop = MXCSR_CHOP;
	const struct itimerval often = { { 0, 3000 }, { 0, 3000 } };
	const struct sigaction sa = { .sa_handler = ring };
	const stack_t alt = { .ss_sp = alt_stack,
			      .ss_size = sizeof(alt_stack) };
	struct timespec ns = { .tv_nsec = 200000 };
	sigset_t blocked, now;
	stack_t alt_now;
	int64_t r;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigaltstack(&alt, NULL);
	sigaction(SIGALRM, &sa, NULL);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR2);
	sigprocmask(SIG_SETMASK, &blocked, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	__asm__ volatile("ldmxcsr %0" : : "m"(chop));
	for (;;) {
		const uint64_t none[6] = { WORD, WORD + 1, WORD + 2, WORD + 3,
					   WORD + 4, WORD + 5 };
		const uint64_t polls[6] = { 0, 0, (uintptr_t)&ns, 0, 8, WORD };
		const uint64_t poll1[6] = { 0, 0, 1, WORD, WORD, WORD };

		look(seen, turn(-1, &r, none) == sum_of(none), WRONG_REGS);
		ns = (struct timespec){ .tv_nsec = 200000 };
		look(seen, turn(SYS_ppoll, &r, polls) == sum_of(polls),
		     WRONG_REGS);
		look(seen, r == 0 || r == -EINTR, WRONG_CALL);
		look(seen, turn(SYS_poll, &r, poll1) == sum_of(poll1),
		     WRONG_REGS);
		look(seen, r == 0 || r == -EINTR, WRONG_CALL);
		look(seen, vectors_hold(), WRONG_VECTOR);
		look(seen, control_holds(), WRONG_CONTROL);
		sigprocmask(SIG_SETMASK, NULL, &now);
		look(seen, memcmp(&now, &blocked, 8) == 0, WRONG_MASK);
		sigaltstack(NULL, &alt_now);
		look(seen, alt_now.ss_sp == alt.ss_sp, WRONG_ALTSTACK);
		__atomic_add_fetch(&seen->turns, 1, __ATOMIC_RELEASE);
	}
}

static struct seen *seen;
static pid_t victim;
static struct inject_code code;

/* Of these calls the first filter says one thing, of others that they may be. */
#define FILTER_CALLS	8

static void install(const int *calls, uint32_t action)
{
	struct sock_filter v[2 * FILTER_CALLS + 2] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr)),
	};
	struct sock_fprog prog = { 1, v };

	for (; *calls; calls++) {
		v[prog.len++] = (struct sock_filter)BPF_JUMP(
			BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)*calls, 0, 1);
		v[prog.len++] = (struct sock_filter)BPF_STMT(
			BPF_RET | BPF_K, action);
	}
	v[prog.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K,
						     SECCOMP_RET_ALLOW);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0)
		_exit(1);
}

/* calls: as install() takes them; NULL: no filter */
static void start(const int *calls, uint32_t action)
{
	seen = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	seen->page = (uintptr_t)mmap(NULL, 4096, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	victim = fork();
	if (victim == 0) {
		if (calls)
			install(calls, action);
		live(seen);
	}
}

static void end(void)
{
	kill(victim, SIGKILL);
	waitpid(victim, NULL, 0);
	munmap(seen, 4096);
}

static void nap(long us)
{
	nanosleep(&(struct timespec){ us / 1000000, us % 1000000 * 1000 },
		  NULL);
}

/* It gets on, nobody traces it, and nothing was wrong. */
static bool lives(void)
{
	const uint64_t then = __atomic_load_n(&seen->turns, __ATOMIC_ACQUIRE);
	struct proc_status st;

	for (int i = 0; i < 5000; i++) {
		if (waitpid(victim, NULL, WNOHANG) != 0) {
			printf("# it has ended\n");
			return false;
		}
		if (seen->wrong) {
			printf("# wrong: %lu\n", seen->wrong);
			return false;
		}
		if (__atomic_load_n(&seen->turns, __ATOMIC_ACQUIRE) > then + 2)
			return proc_status_read(victim, &st) == 0 &&
			       st.tracer == 0;
		nap(1000);
	}
	printf("# it does not get on\n");
	return false;
}

/* Every step of a mapping; the process ends itself before step `end`. */
static bool map_file(int fd, int end)
{
	char err[VM_ERR_MAX] = "";
	struct inject in;
	int there, step = 0;
	int64_t r;

#define STEP() do { if (step++ == end) raise(SIGKILL); } while (0)
	if (inject_begin(&in, victim, &code, err) < 0) {
		printf("# %s\n", err);
		return false;
	}
	STEP();
	there = inject_fd(&in, fd);
	STEP();
	r = INJECT(&in, SYS_mmap, seen->page, 4096, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_FIXED, (uint64_t)there, 0);
	STEP();
	inject_close_fd(&in, there);
	STEP();
	inject_end(&in);
	return there >= 0 && r == (int64_t)seen->page;
}

static int count_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 1024; fd++) {
		char path[64];

		snprintf(path, sizeof(path), "/proc/%d/fd/%d", victim, fd);
		n += faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
	}
	return n;
}

static void test_maps(int fd)
{
	const int before = count_fds();
	char word[8] = "";
	struct iovec here = { word, 4 };
	struct iovec there = { (void *)(uintptr_t)seen->page, 4 };

	ok(map_file(fd, -1), "a process maps a file of ours");
	ok(process_vm_readv(victim, &here, 1, &there, 1, 0) == 4 &&
	   memcmp(word, "file", 4) == 0, "and has what is in it");
	ok(lives(), "and goes on as it was");
	ok(count_fds() == before, "with the descriptors that it had");
}

static void test_often(int fd)
{
	bool good = true;

	for (int i = 0; i < ROUNDS && good; i++) {
		good = map_file(fd, -1) && !seen->wrong;
		if (i % 8 == 0)
			nap(500);
	}
	ok(good && lives(), "hundreds of times, wherever it is");
}

static void kill_round(int fd, int step, long us)
{
	pid_t pid = fork();

	if (pid == 0) {
		while (map_file(fd, step))
			;
		_exit(1);
	}
	if (step < 0) {
		nap(us);
		kill(pid, SIGKILL);
	}
	waitpid(pid, NULL, 0);
}

static void test_killed(int fd)
{
	const int before = count_fds();

	for (int step = 0; step < 4; step++) {
		bool good = true;

		for (int i = 0; i < ROUNDS / 10 && good; i++) {
			kill_round(fd, step, 0);
			good = lives();
		}
		okf(good, "whoever makes it call ends at step %d: it goes on",
		    step);
	}
	ok(count_fds() == before, "with the descriptors that it had");
}

static void test_killed_any(int fd)
{
	unsigned int seed = 1;
	bool good = true;

	for (int i = 0; i < ROUNDS && good; i++) {
		kill_round(fd, -1, 300 + rand_r(&seed) % 3000);
		good = lives();
	}
	ok(good, "or is killed at any moment: it goes on");
}

static void test_refused(void)
{
	char err[VM_ERR_MAX] = "";
	struct inject in;
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		prctl(PR_SET_SECCOMP, 1);
		for (;;)
			;
	}
	nap(50000);
	ok(inject_begin(&in, pid, &code, err) == -ENOTSUP && strstr(err, "seccomp"),
	   "a process in a sandbox is refused, and told why");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	ok(inject_begin(&in, pid, &code, err) == -ESRCH, "and one that has ended");
	ptrace(PTRACE_SEIZE, victim, NULL, NULL);
	pid = fork();
	if (pid == 0)
		_exit(inject_begin(&in, victim, &code, err) ==
		      -EPERM ? 0 : 1);
	int status = 0;
	waitpid(pid, &status, 0);
	ok(status == 0, "and one that somebody traces");
	ptrace(PTRACE_INTERRUPT, victim, NULL, NULL);
	waitpid(victim, NULL, 0);
	ptrace(PTRACE_DETACH, victim, NULL, NULL);
	ok(lives(), "which goes on");
}

/* As QEMU's: what it forbids ends it, and is none of ours. */
static void test_sandboxed(int fd)
{
	static const int others[] = { SYS_execve, SYS_fork, SYS_vfork,
				      SYS_ptrace, SYS_setpriority, 0 };
	bool good = true;

	start(others, SECCOMP_RET_KILL_PROCESS);
	test_maps(fd);
	for (int step = 0; step < 4 && good; step++) {
		kill_round(fd, step, 0);
		good = lives();
	}
	ok(good, "and whoever makes it call may end at every step");
	end();
}

/* Every call of ours that a filter has something against. */
static void test_forbidden(void)
{
	static const struct {
		int calls[2];
		const char *name;
	} cases[] = {
		{ { SYS_mmap }, "mmap" }, { { SYS_mremap }, "mremap" },
		{ { SYS_munmap }, "munmap" }, { { SYS_close }, "close" },
		{ { SYS_socketpair }, "socketpair" },
		{ { SYS_recvmsg }, "recvmsg" },
		{ { SYS_rt_sigreturn }, "rt_sigreturn" },
		{ { -1 }, "number -1" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char err[VM_ERR_MAX] = "", want[64];
		struct inject in;
		const pid_t pid = fork();

		if (pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			install(cases[i].calls, SECCOMP_RET_ERRNO | EPERM);
			for (;;)
				pause();
		}
		nap(50000);
		snprintf(want, sizeof(want), "forbids %s, which", cases[i].name);
		if (!okf(inject_begin(&in, pid, &code, err) == -ENOTSUP &&
			 strstr(err, want) && strstr(err, "ERRNO (EPERM)") &&
			 strstr(err, "-sandbox off"),
			 "a sandbox that forbids %s is named", cases[i].name))
			printf("# %s\n", err);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
}

/* Who is not root can find out nothing, and says so. */
static void test_unread(void)
{
	static const int others[] = { SYS_ptrace, 0 };
	int status = 1;
	pid_t pid = fork();

	if (pid == 0) {
		char err[VM_ERR_MAX] = "";
		struct inject in;

		if (setresuid(65534, 65534, 65534) < 0)
			_exit(2);
		prctl(PR_SET_DUMPABLE, 1);
		start(others, SECCOMP_RET_KILL_PROCESS);
		nap(50000);
		code = (struct inject_code){ 0 };
		_exit(inject_begin(&in, victim, &code, err) == -ENOTSUP &&
		      strstr(err, "told to root only") ? 0 : 1);
	}
	waitpid(pid, &status, 0);
	ok(status == 0, "an ordinary user is told that root could find out");
}

int main(void)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, 4096) < 0 || pwrite(fd, "file", 4, 0) != 4)
		return 1;
	start(NULL, 0);
	test_maps(fd);
	test_often(fd);
	test_killed(fd);
	test_killed_any(fd);
	test_refused();
	end();
	if (geteuid() != 0) {
		ok(true, "filters are read # SKIP only root may");
		return tap_end();
	}
	test_sandboxed(fd);
	test_forbidden();
	test_unread();
	return tap_end();
}
