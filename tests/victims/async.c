/* SPDX-License-Identifier: MIT */
/* async.c - signals of descriptors: F_SETOWN, F_SETSIG and O_ASYNC */
#include "victim.h"

#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>

#define SIG	(SIGRTMIN + 3)

static volatile sig_atomic_t caught;
static volatile siginfo_t info;
static volatile pid_t caught_by;

static void on_signal(int sig, siginfo_t *si, void *uc)
{
	(void)sig;
	(void)uc;
	info = *si;
	caught_by = (pid_t)syscall(SYS_gettid);
	caught++;
}

static void handle(int sig)
{
	const struct sigaction sa = { .sa_sigaction = on_signal,
				      .sa_flags = SA_SIGINFO };

	caught = 0;
	sys(sigaction(sig, &sa, NULL));
}

/* A FIFO that is read and written by one descriptor. */
static int fifo(const char *name)
{
	sys(mkfifo(in(name), 0600));
	return (int)sys(open(in(name), O_RDWR | O_NONBLOCK));
}

static void make_async(int fd)
{
	sys(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_ASYNC));
}

static void await(int n)
{
	for (int i = 0; i < 2000 && caught < n; i++)
		nap_ms(5);
	check(caught >= n, "%d signals instead of %d", (int)caught, n);
}

static void plain(void)
{
	int fd = fifo("fifo");

	handle(SIGIO);
	sys(fcntl(fd, F_SETOWN, getpid()));
	same(fcntl(fd, F_GETOWN), getpid());
	same(fcntl(fd, F_GETSIG), 0);
	make_async(fd);
	same(write(fd, "x", 1), 1);
	await(1);
	same(info.si_signo, SIGIO);
	same(info.si_code, SI_KERNEL);
	/* Nobody's any more. */
	sys(fcntl(fd, F_SETOWN, 0));
	same(fcntl(fd, F_GETOWN), 0);
	nap_ms(100);
	caught = 0;
	same(write(fd, "x", 1), 1);
	nap_ms(300);
	same(caught, 0);
	sys(close(fd));
}

static void with_number(void)
{
	int first = fifo("first"), second = fifo("second");

	handle(SIG);
	refused(fcntl(first, F_SETSIG, 65), EINVAL);
	sys(fcntl(first, F_SETSIG, SIG));
	sys(fcntl(second, F_SETSIG, SIG));
	same(fcntl(second, F_GETSIG), SIG);
	sys(fcntl(first, F_SETOWN, getpid()));
	sys(fcntl(second, F_SETOWN, getpid()));
	make_async(first);
	make_async(second);
	same(write(second, "x", 1), 1);
	await(1);
	same(info.si_fd, second);
	same(info.si_code, POLL_IN);
	check(info.si_band & POLLIN, "the band is %#lx", (long)info.si_band);
	/* The reader wakes writers, too: what comes last is first's. */
	nap_ms(100);
	caught = 0;
	same(write(first, "x", 1), 1);
	await(1);
	same(info.si_fd, first);
	sys(close(first));
	sys(close(second));
}

static void *waits(void *arg)
{
	*(pid_t *)arg = (pid_t)syscall(SYS_gettid);
	while (!caught)
		nap_ms(5);
	return NULL;
}

static void of_threads(void)
{
	struct f_owner_ex owner = { .type = F_OWNER_TID }, now;
	int fd = fifo("fifo");
	volatile pid_t tid = 0;
	pthread_t thread;

	handle(SIG);
	same(pthread_create(&thread, NULL, waits, (void *)&tid), 0);
	while (!tid)
		nap_ms(5);
	owner.pid = tid;
	sys(fcntl(fd, F_SETSIG, SIG));
	sys(fcntl(fd, F_SETOWN_EX, &owner));
	sys(fcntl(fd, F_GETOWN_EX, &now));
	same(now.type, F_OWNER_TID);
	same(now.pid, tid);
	make_async(fd);
	same(write(fd, "x", 1), 1);
	same(pthread_join(thread, NULL), 0);
	same(caught_by, tid);
	owner.type = 7;
	refused(fcntl(fd, F_SETOWN_EX, &owner), EINVAL);
	refused(fcntl(fd, F_SETOWN_EX, NULL), EFAULT);
	sys(close(fd));
}

/* Taken as it waits for it. */
static void awaited(void)
{
	const struct timespec limit = { .tv_sec = 10 };
	int fd = fifo("fifo");
	siginfo_t si;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIG);
	sys(sigprocmask(SIG_BLOCK, &set, NULL));
	sys(fcntl(fd, F_SETSIG, SIG));
	sys(fcntl(fd, F_SETOWN, getpid()));
	make_async(fd);
	same(write(fd, "x", 1), 1);
	same(sigtimedwait(&set, &si, &limit), SIG);
	same(si.si_fd, fd);
	check(si.si_band & POLLIN, "the band is %#lx", (long)si.si_band);
	sys(close(fd));
}

static volatile bool enough;

/* Again and again: the first may be before it is waited for. */
static void *write_often(void *arg)
{
	while (!enough) {
		nap_ms(50);
		same(write(*(int *)arg, "x", 1), 1);
	}
	return NULL;
}

/* It ends a call of the same process that waits on the host. */
static void interrupts(void)
{
	int fd = fifo("fifo"), empty = fifo("empty");
	pthread_t thread;
	char byte;

	handle(SIGIO);
	sys(fcntl(empty, F_SETFL, 0));
	sys(fcntl(fd, F_SETOWN_EX, &(struct f_owner_ex){
		  F_OWNER_TID, (pid_t)syscall(SYS_gettid) }));
	make_async(fd);
	same(pthread_create(&thread, NULL, write_often, &fd), 0);
	refused(read(empty, &byte, 1), EINTR);
	enough = true;
	await(1);
	same(pthread_join(thread, NULL), 0);
	sys(close(fd));
	sys(close(empty));
}

/* What a child does with it is the parent's to hear, by the group as well. */
static void of_a_group(void)
{
	int fd = fifo("fifo");
	pid_t pid;

	handle(SIGIO);
	sys(setpgid(0, 0));
	sys(fcntl(fd, F_SETOWN, -getpid()));
	same(fcntl(fd, F_GETOWN), -getpid());
	make_async(fd);
	spawned(pid)
		same(write(fd, "x", 1), 1);
	await(1);
	reap(pid);
	sys(close(fd));
}

/* Who else could be signalled is the host's affair, or other targets'. */
static void others(void)
{
	int fd = fifo("fifo");

	if (!victim_shadowed())
		victim_skip("natively everybody may be an owner");
	refused(fcntl(fd, F_SETOWN, 1), EPERM);
	refused(fcntl(fd, F_SETOWN, getppid()), EPERM);
	refused(fcntl(fd, F_SETOWN, -1), EPERM);
	refused(fcntl(fd, F_SETOWN, INT_MIN), EINVAL);
	same(fcntl(fd, F_GETOWN), 0);
	sys(close(fd));
}

int main(int argc, char **argv)
{
	static const struct victim_case cases[] = {
		CASE(plain), CASE(with_number), CASE(of_threads),
		CASE(awaited), CASE(interrupts), CASE(of_a_group),
		CASE(others),
	};

	return VICTIM_MAIN(argc, argv, cases);
}
