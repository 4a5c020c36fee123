/* SPDX-License-Identifier: MIT */
/*
 * fds.c - the descriptor rules of POSIX, on forwarded files
 *
 * `fds --fd N TEXT` is the other side of exec: descriptor N must read TEXT;
 * `fds --no-fd N`: it must be closed.
 */
#include "victim.h"

#include <poll.h>
#include <pthread.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/select.h>

static int open_text(const char *name, const char *text, int flags)
{
	put(in(name), text);
	return (int)sys(open(in(name), flags));
}

/* Executes this program again in a child to look at a descriptor. */
static void after_exec(int fd, const char *text)
{
	char number[16];
	pid_t pid;

	snprintf(number, sizeof(number), "%d", fd);
	spawned(pid) {
		if (text)
			execl(victim_self, victim_self, "--fd", number, text,
			      NULL);
		else
			execl(victim_self, victim_self, "--no-fd", number,
			      NULL);
		check(false, "exec of %s: %s", victim_self, strerror(errno));
	}
	reap(pid);
}

static int probe(char **argv)
{
	int fd = atoi(argv[2]);

	victim_doing = "after exec";
	if (strcmp(argv[1], "--fd") == 0) {
		fd_holds(fd, argv[3]);
		return 0;
	}
	refused(fcntl(fd, F_GETFD), EBADF);
	return 0;
}

static void lowest(void)
{
	int a = open_text("a", "a", O_RDONLY);
	int b = open_text("b", "b", O_RDONLY);
	int l = (int)sys(open("/dev/null", O_RDONLY));
	int c = open_text("c", "c", O_RDONLY);

	same(b, a + 1);
	same(l, a + 2);
	same(c, a + 3);
	sys(close(b));
	same(open("/dev/null", O_RDONLY), b);
	sys(close(l));
	same(open(in("b"), O_RDONLY), l);
	fd_holds(l, "b");
	sys(close(a));
	sys(close(b));
	same(openat(AT_FDCWD, in("a"), O_RDONLY), a);
	same(creat(in("d"), 0600), b);
	for (int fd = a; fd <= c; fd++)
		sys(close(fd));
}

static void lowest_zero(void)
{
	pid_t pid;

	put(in("x"), "zero");
	spawned(pid) {
		sys(close(0));
		same(open(in("x"), O_RDONLY), 0);
		fd_holds(0, "zero");
		sys(close(0));
		same(open("/dev/null", O_RDONLY), 0);
	}
	reap(pid);
}

/* A failed open must not use up a number. */
static void failed_open(void)
{
	int fd = open_text("a", "a", O_RDONLY);

	for (int i = 0; i < 20; i++) {
		refused(open(in("none"), O_RDONLY), ENOENT);
		refused(open(in("a"), O_WRONLY | O_CREAT | O_EXCL, 0600),
			EEXIST);
	}
	same(open(in("a"), O_RDONLY), fd + 1);
	sys(close(fd + 1));
	sys(close(fd));
}

static void dup_shares(void)
{
	int fd = open_text("x", "abcdef", O_RDONLY);
	int copy = (int)sys(dup(fd));

	same(copy, fd + 1);
	fd_holds(fd, "ab");
	fd_holds(copy, "cd");
	same(lseek(copy, 0, SEEK_SET), 0);
	fd_holds(fd, "abc");
	sys(close(fd));
	refused(read(fd, &(char){ 0 }, 1), EBADF);
	fd_holds(copy, "def");
	same(dup(copy), fd);
	sys(close(fd));
	sys(close(copy));
	refused(dup(copy), EBADF);
}

static void dup2_std(void)
{
	pid_t pid;

	put(in("in"), "input");
	spawned(pid) {
		int from = (int)sys(open(in("in"), O_RDONLY));
		int to = (int)sys(creat(in("out"), 0600));
		int err = (int)sys(creat(in("err"), 0600));
		char buf[5];

		same(dup2(from, 0), 0);
		same(dup2(to, 1), 1);
		same(dup2(err, 2), 2);
		sys(close(from));
		sys(close(to));
		sys(close(err));
		same(read(0, buf, 5), 5);
		check(printf("%.5s\n", buf) == 6 && fflush(stdout) == 0,
		      "printf to a forwarded stdout failed");
		same(write(2, "error\n", 6), 6);
	}
	reap(pid);
	holds(in("out"), "input\n");
	holds(in("err"), "error\n");
}

/* Host over local, local over host, host over host, and back again. */
static void dup2_replaces(void)
{
	int a = open_text("a", "aaaa", O_RDONLY);
	int b = open_text("b", "bbbb", O_RDONLY);
	int null = (int)sys(open("/dev/null", O_RDONLY));
	int zero = (int)sys(open("/dev/zero", O_RDONLY));
	char byte = 'x';

	same(dup2(a, null), null);
	fd_holds(null, "aa");
	same(dup2(b, null), null);
	fd_holds(null, "b");
	fd_holds(a, "aa");
	same(dup2(zero, b), b);
	same(read(b, &byte, 1), 1);
	same(byte, 0);
	fd_holds(null, "bbb");
	same(dup2(zero, null), null);
	same(read(null, &byte, 1), 1);
	sys(close(a));
	sys(close(b));
	sys(close(null));
	sys(close(zero));
}

static void dup2_edges(void)
{
	int fd = open_text("x", "self", O_RDONLY);
	struct rlimit lim;

	same(dup2(fd, fd), fd);
	fd_holds(fd, "se");
	refused(dup3(fd, fd, 0), EINVAL);
	refused(dup3(fd, fd + 5, O_APPEND), EINVAL);
	refused(dup2(fd + 20, fd), EBADF);
	fd_holds(fd, "lf");
	refused(dup2(fd, -1), EBADF);
	sys(getrlimit(RLIMIT_NOFILE, &lim));
	refused(dup2(fd, (int)lim.rlim_cur), EBADF);
	refused(dup2(fd, INT_MAX), EBADF);
	sys(close(fd));
	refused(dup2(fd, fd), EBADF);
}

static void dup3_cloexec(void)
{
	int fd = open_text("x", "dup3", O_RDONLY);

	same(dup3(fd, fd + 7, O_CLOEXEC), fd + 7);
	same(fcntl(fd + 7, F_GETFD), FD_CLOEXEC);
	same(fcntl(fd, F_GETFD), 0);
	after_exec(fd + 7, NULL);
	same(dup3(fd, fd + 7, 0), fd + 7);
	same(fcntl(fd + 7, F_GETFD), 0);
	after_exec(fd + 7, "dup3");
	sys(close(fd + 7));
	sys(close(fd));
}

static void dupfd(void)
{
	int fd = open_text("x", "dupfd", O_RDONLY);
	struct rlimit lim;

	same(fcntl(fd, F_DUPFD, 0), fd + 1);
	same(fcntl(fd, F_DUPFD, 40), 40);
	same(fcntl(fd, F_DUPFD, 40), 41);
	same(fcntl(fd, F_DUPFD_CLOEXEC, 40), 42);
	same(fcntl(42, F_GETFD), FD_CLOEXEC);
	same(fcntl(41, F_GETFD), 0);
	fd_holds(40, "du");
	fd_holds(42, "pfd");
	refused(fcntl(fd, F_DUPFD, -1), EINVAL);
	sys(getrlimit(RLIMIT_NOFILE, &lim));
	refused(fcntl(fd, F_DUPFD, lim.rlim_cur), EINVAL);
	sys(close(fd + 1));
	for (int n = 40; n <= 42; n++)
		sys(close(n));
	sys(close(fd));
	refused(fcntl(fd, F_DUPFD, 0), EBADF);
}

static void cloexec(void)
{
	int fd = open_text("x", "exec", O_RDONLY);
	int ce = (int)sys(open(in("x"), O_RDONLY | O_CLOEXEC));

	same(fcntl(fd, F_GETFD), 0);
	same(fcntl(ce, F_GETFD), FD_CLOEXEC);
	after_exec(ce, NULL);
	after_exec(fd, "ex");
	/* What was read over there moved the offset here. */
	fd_holds(fd, "ec");
	sys(fcntl(ce, F_SETFD, 0));
	same(fcntl(ce, F_GETFD), 0);
	after_exec(ce, "exec");
	sys(fcntl(fd, F_SETFD, FD_CLOEXEC));
	same(fcntl(fd, F_GETFD), FD_CLOEXEC);
	after_exec(fd, NULL);
	sys(ioctl(fd, FIONCLEX));
	same(fcntl(fd, F_GETFD), 0);
	sys(ioctl(fd, FIOCLEX));
	same(fcntl(fd, F_GETFD), FD_CLOEXEC);
	after_exec(fd, NULL);
	/* FD_CLOEXEC belongs to the number, not to the open file. */
	same(fcntl((int)sys(dup(fd)), F_GETFD), 0);
	sys(close(ce + 1));
	sys(close(ce));
	sys(close(fd));
}

/* A number whose close-on-exec file is gone is free again after exec. */
static void cloexec_frees(void)
{
	pid_t pid;

	put(in("x"), "x");
	spawned(pid) {
		int fd = (int)sys(open(in("x"), O_RDONLY | O_CLOEXEC));
		char script[PATH_MAX * 2];

		check(fd < 10, "too many descriptors are open: %d", fd);
		snprintf(script, sizeof(script),
			 "exec %d</dev/null && read -r line <&%d; "
			 "test \"$line\" = ''", fd, fd);
		execl("/bin/sh", "sh", "-c", script, NULL);
		check(false, "exec of /bin/sh: %s", strerror(errno));
	}
	reap(pid);
}

static void close_ranges(void)
{
	int fd = open_text("x", "range", O_RDONLY);
	pid_t pid;

	for (int n = 50; n < 60; n++)
		same(dup2(fd, n), n);
	sys(syscall(SYS_close_range, 52, 54, 0));
	refused(fcntl(52, F_GETFD), EBADF);
	refused(read(54, &(char){ 0 }, 1), EBADF);
	same(fcntl(51, F_GETFD), 0);
	same(fcntl(55, F_GETFD), 0);
	sys(syscall(SYS_close_range, 55, 56, 4 /* CLOEXEC */));
	same(fcntl(55, F_GETFD), FD_CLOEXEC);
	same(fcntl(57, F_GETFD), 0);
	after_exec(55, NULL);
	after_exec(57, "range");
	same(lseek(fd, 0, SEEK_SET), 0);
	refused(syscall(SYS_close_range, 9, 8, 0), EINVAL);
	spawned(pid) {
		sys(syscall(SYS_close_range, 55, ~0u, 2 /* UNSHARE */));
		refused(fcntl(57, F_GETFD), EBADF);
		fd_holds(fd, "ra");
	}
	reap(pid);
	fd_holds(57, "nge");
	sys(syscall(SYS_close_range, 50, ~0u, 0));
	for (int n = 50; n < 60; n++)
		refused(close(n), EBADF);
	same(lseek(fd, 0, SEEK_SET), 0);
	fd_holds(fd, "range");
	sys(close(fd));
}

static void offset_fork(void)
{
	int fd = open_text("x", "0123456789", O_RDWR);
	int other = (int)sys(open(in("x"), O_RDONLY));
	char byte;
	pid_t pid;

	fd_holds(fd, "01");
	spawned(pid) {
		fd_holds(fd, "234");
		fd_holds(other, "01");
	}
	reap(pid);
	fd_holds(fd, "5");
	fd_holds(other, "2");
	same(pread(fd, &byte, 1, 0), 1);
	fd_holds(fd, "6");
	/* A child's close is the child's alone. */
	spawned(pid)
		sys(close(fd));
	reap(pid);
	fd_holds(fd, "7");
	sys(close(fd));
	sys(close(other));
}

static void getfl(void)
{
	int mask = O_ACCMODE | O_APPEND | O_NONBLOCK | O_PATH | O_DIRECTORY;
	int rd = open_text("x", "x", O_RDONLY);
	int rw = (int)sys(open(in("x"), O_RDWR | O_APPEND));
	int wr = (int)sys(open(in("x"), O_WRONLY | O_NONBLOCK));
	int path = (int)sys(open(in("x"), O_PATH));
	int copy;

	same(fcntl(rd, F_GETFL) & mask, O_RDONLY);
	same(fcntl(rw, F_GETFL) & mask, O_RDWR | O_APPEND);
	same(fcntl(wr, F_GETFL) & mask, O_WRONLY | O_NONBLOCK);
	same(fcntl(path, F_GETFL) & O_PATH, O_PATH);
	refused(read(path, &(char){ 0 }, 1), EBADF);
	refused(write(rd, "y", 1), EBADF);
	refused(read(wr, &(char){ 0 }, 1), EBADF);
	/* Status flags belong to the open file: a copy shows the change. */
	copy = (int)sys(dup(wr));
	sys(fcntl(copy, F_SETFL, O_APPEND));
	same(fcntl(wr, F_GETFL) & mask, O_WRONLY | O_APPEND);
	same(write(wr, "yz", 2), 2);
	holds(in("x"), "xyz");
	for (int fd = rd; fd <= copy; fd++)
		sys(close(fd));
}

static void ebadf(void)
{
	int fd = open_text("x", "x", O_RDWR);
	struct stat st;
	char byte;

	sys(close(fd));
	refused(close(fd), EBADF);
	refused(read(fd, &byte, 1), EBADF);
	refused(write(fd, "x", 1), EBADF);
	refused(pread(fd, &byte, 1, 0), EBADF);
	refused(lseek(fd, 0, SEEK_SET), EBADF);
	refused(fstat(fd, &st), EBADF);
	refused(fsync(fd), EBADF);
	refused(ftruncate(fd, 0), EBADF);
	refused(fcntl(fd, F_GETFL), EBADF);
	refused(dup(fd), EBADF);
	refused(mmap(NULL, 1, PROT_READ, MAP_PRIVATE, fd, 0), EBADF);
	refused(ioctl(fd, FIONREAD, &byte), EBADF);
	refused(fchdir(fd), EBADF);
	refused(openat(fd, "x", O_RDONLY), EBADF);
}

static void many(void)
{
	enum { N = 600 };
	static int fds[N];
	struct rlimit lim;
	char name[16];
	pid_t pid;

	sys(getrlimit(RLIMIT_NOFILE, &lim));
	if (lim.rlim_max < N + 32)
		victim_skip("RLIMIT_NOFILE is too low");
	if (lim.rlim_cur < N + 32) {
		lim.rlim_cur = N + 32;
		sys(setrlimit(RLIMIT_NOFILE, &lim));
	}
	for (int i = 0; i < N; i++) {
		snprintf(name, sizeof(name), "%d", i);
		put(in(name), name);
		fds[i] = (int)sys(open(in(name), O_RDONLY));
		same(fds[i], fds[0] + i);
	}
	spawned(pid)
		for (int i = 0; i < N; i += 7) {
			snprintf(name, sizeof(name), "%d", i);
			fd_holds(fds[i], name);
		}
	reap(pid);
	for (int i = 0; i < N; i++) {
		snprintf(name, sizeof(name), "%d", i);
		if (i % 7)
			fd_holds(fds[i], name);
		same(read(fds[i], name, 1), 0);
		sys(close(fds[i]));
	}
	same(open(in("0"), O_RDONLY), fds[0]);
	sys(close(fds[0]));
}

/* Numbers around those that a shadow keeps for itself (capsule/abi.h). */
static void high_numbers(void)
{
	static const int numbers[] = { 510, 511, 512, 513, 600, 900 };
	int fd = open_text("x", "high", O_RDONLY);
	struct rlimit lim;

	sys(getrlimit(RLIMIT_NOFILE, &lim));
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		int n = numbers[i];

		if ((rlim_t)n >= lim.rlim_cur)
			continue;
		refused(close(n), EBADF);
		same(dup2(fd, n), n);
		same(lseek(n, 0, SEEK_SET), 0);
		fd_holds(n, "high");
		same(fcntl(n, F_GETFD), 0);
		sys(close(n));
		refused(read(n, &(char){ 0 }, 1), EBADF);
		same(lseek(fd, 0, SEEK_SET), 0);
		same(fcntl(fd, F_DUPFD_CLOEXEC, n), n);
		fd_holds(n, "high");
		sys(close(n));
		same(open(in("x"), O_RDONLY), fd + 1);
		sys(close(fd + 1));
	}
	sys(close(fd));
}

static void limit(void)
{
	pid_t pid;

	put(in("x"), "limit");
	spawned(pid) {
		struct rlimit lim = { 32, 32 };
		int fd, first = -1, last = -1;

		sys(setrlimit(RLIMIT_NOFILE, &lim));
		while ((fd = open(in("x"), O_RDONLY)) >= 0) {
			if (first < 0)
				first = fd;
			last = fd;
		}
		same(errno, EMFILE);
		same(last, 31);
		refused(dup(first), EMFILE);
		fd_holds(last, "limit");
		sys(close(first));
		same(open(in("x"), O_RDONLY), first);
	}
	reap(pid);
}

extern char **environ;

static void spawn_actions(void)
{
	posix_spawn_file_actions_t acts;
	char *argv[] = { (char *)"sh", (char *)"-c",
			 (char *)"read -r l; echo got $l; echo err >&2",
			 NULL };
	pid_t pid;
	int fd = open_text("in", "spawned\n", O_RDONLY | O_CLOEXEC);

	same(posix_spawn_file_actions_init(&acts), 0);
	posix_spawn_file_actions_adddup2(&acts, fd, 0);
	posix_spawn_file_actions_addopen(&acts, 1, in("out"),
					 O_WRONLY | O_CREAT, 0600);
	posix_spawn_file_actions_adddup2(&acts, 1, 2);
	same(posix_spawn(&pid, "/bin/sh", &acts, NULL, argv, environ), 0);
	posix_spawn_file_actions_destroy(&acts);
	reap(pid);
	holds(in("out"), "got spawned\nerr\n");
	same(read(fd, &(char){ 0 }, 1), 0);
	sys(close(fd));
}

static void poll_host(void)
{
	struct pollfd p[2];
	fd_set set;
	struct timeval now = { 0, 0 };

	sys(mkfifo(in("fifo"), 0600));
	p[0].fd = (int)sys(open(in("fifo"), O_RDWR));
	p[0].events = POLLIN;
	p[1].fd = open_text("x", "x", O_RDONLY);
	p[1].events = POLLIN;
	same(poll(p, 1, 0), 0);
	same(poll(p, 2, -1), 1);
	same(p[1].revents, POLLIN);
	same(write(p[0].fd, "x", 1), 1);
	same(poll(p, 2, -1), 2);
	same(p[0].revents, POLLIN);
	FD_ZERO(&set);
	FD_SET(p[0].fd, &set);
	same(select(p[0].fd + 1, &set, NULL, NULL, &now), 1);
	fd_holds(p[0].fd, "x");
	same(select(p[0].fd + 1, &set, NULL, NULL, &now), 0);
	sys(close(p[0].fd));
	sys(close(p[1].fd));
}

/* A forwarded FIFO and a local pipe in one set, either one being ready. */
static void poll_mixed(void)
{
	struct pollfd p[2];
	int pipe_fds[2];
	pid_t pid;

	sys(mkfifo(in("fifo"), 0600));
	sys(pipe(pipe_fds));
	p[0].fd = (int)sys(open(in("fifo"), O_RDWR));
	p[0].events = POLLIN;
	p[1].fd = pipe_fds[0];
	p[1].events = POLLIN;
	same(poll(p, 2, 0), 0);
	spawned(pid)
		same(write(pipe_fds[1], "p", 1), 1);
	same(poll(p, 2, -1), 1);
	same(p[0].revents, 0);
	same(p[1].revents, POLLIN);
	fd_holds(pipe_fds[0], "p");
	reap(pid);
	spawned(pid)
		same(write(p[0].fd, "f", 1), 1);
	same(poll(p, 2, -1), 1);
	same(p[0].revents, POLLIN);
	same(p[1].revents, 0);
	fd_holds(p[0].fd, "f");
	reap(pid);
	sys(close(p[0].fd));
	sys(close(pipe_fds[0]));
	sys(close(pipe_fds[1]));
}

static void epoll_host(void)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = 42 };
	int ep = (int)sys(epoll_create1(0));
	int fifo, file = open_text("x", "x", O_RDONLY);

	sys(mkfifo(in("fifo"), 0600));
	fifo = (int)sys(open(in("fifo"), O_RDWR));
	/* A regular file cannot be polled so. */
	refused(epoll_ctl(ep, EPOLL_CTL_ADD, file, &ev), EPERM);
	sys(epoll_ctl(ep, EPOLL_CTL_ADD, fifo, &ev));
	same(epoll_wait(ep, &ev, 1, 0), 0);
	same(write(fifo, "x", 1), 1);
	ev.data.u64 = 0;
	same(epoll_wait(ep, &ev, 1, -1), 1);
	same(ev.data.u64, 42);
	sys(epoll_ctl(ep, EPOLL_CTL_DEL, fifo, NULL));
	sys(close(file));
	sys(close(fifo));
	sys(close(ep));
}

/* The one event that there is within ten seconds, of what, and its events. */
static void one_event(int ep, uint64_t data, uint32_t events)
{
	struct epoll_event ev[4];

	same(epoll_wait(ep, ev, 4, 10000), 1);
	same(ev[0].data.u64, data);
	same(ev[0].events, events);
}

static void epoll_has(int ep, int fifo, const int pipe_fds[2])
{
	struct epoll_event ev[4];
	pid_t pid;

	same(epoll_wait(ep, ev, 4, 0), 0);
	same(epoll_wait(ep, ev, 4, 30), 0);
	spawned(pid)
		same(write(fifo, "f", 1), 1);
	one_event(ep, 1, EPOLLIN);
	fd_holds(fifo, "f");
	reap(pid);
	spawned(pid)
		same(write(pipe_fds[1], "p", 1), 1);
	one_event(ep, 2, EPOLLIN);
	fd_holds(pipe_fds[0], "p");
	reap(pid);
	same(write(fifo, "f", 1), 1);
	same(write(pipe_fds[1], "p", 1), 1);
	same(epoll_wait(ep, ev, 1, -1), 1);
	same(epoll_wait(ep, ev, 4, -1), 2);
	same(ev[0].data.u64 + ev[1].data.u64, 3);
	fd_holds(fifo, "f");
	fd_holds(pipe_fds[0], "p");
}

/* One epoll for both sides, whichever is there first; its copies; edges. */
static void epoll_mixed(void)
{
	struct epoll_event host = { .events = EPOLLIN, .data.u64 = 1 };
	struct epoll_event own = { .events = EPOLLIN, .data.u64 = 2 };
	int fifo, file = open_text("x", "x", O_RDONLY), pipe_fds[2], ep, copy;
	pid_t pid;

	sys(mkfifo(in("fifo"), 0600));
	sys(pipe2(pipe_fds, O_NONBLOCK));
	fifo = (int)sys(open(in("fifo"), O_RDWR | O_NONBLOCK));
	for (int first = 0; first < 2; first++) {
		ep = (int)sys(epoll_create1(first ? EPOLL_CLOEXEC : 0));
		if (first)
			sys(epoll_ctl(ep, EPOLL_CTL_ADD, fifo, &host));
		sys(epoll_ctl(ep, EPOLL_CTL_ADD, pipe_fds[0], &own));
		if (!first)
			sys(epoll_ctl(ep, EPOLL_CTL_ADD, fifo, &host));
		refused(epoll_ctl(ep, EPOLL_CTL_ADD, fifo, &host), EEXIST);
		refused(epoll_ctl(ep, EPOLL_CTL_ADD, pipe_fds[0], &own),
			EEXIST);
		refused(epoll_ctl(ep, EPOLL_CTL_ADD, file, &host), EPERM);
		refused(epoll_ctl(ep, EPOLL_CTL_DEL, 99, NULL), EBADF);
		refused(epoll_wait(ep, &host, 0, 0), EINVAL);
		same(fcntl(ep, F_GETFD), first ? FD_CLOEXEC : 0);
		epoll_has(ep, fifo, pipe_fds);
		copy = (int)sys(dup(ep));
		epoll_has(copy, fifo, pipe_fds);
		spawned(pid)
			epoll_has(copy, fifo, pipe_fds);
		reap(pid);
		sys(epoll_ctl(copy, EPOLL_CTL_DEL, fifo, NULL));
		same(write(fifo, "f", 1), 1);
		same(epoll_wait(ep, &host, 1, 20), 0);
		/* By edge: once, though it stays ready. */
		host = (struct epoll_event){ EPOLLIN | EPOLLET, { .u64 = 1 } };
		sys(epoll_ctl(ep, EPOLL_CTL_ADD, fifo, &host));
		one_event(ep, 1, EPOLLIN);
		same(epoll_wait(ep, &host, 1, 20), 0);
		host = (struct epoll_event){ EPOLLIN | EPOLLONESHOT,
					     { .u64 = 1 } };
		sys(epoll_ctl(ep, EPOLL_CTL_MOD, fifo, &host));
		one_event(ep, 1, EPOLLIN);
		same(epoll_wait(ep, &host, 1, 20), 0);
		host = (struct epoll_event){ EPOLLIN, { .u64 = 1 } };
		sys(epoll_ctl(ep, EPOLL_CTL_MOD, fifo, &host));
		one_event(ep, 1, EPOLLIN);
		fd_holds(fifo, "f");
		sys(close(copy));
		epoll_has(ep, fifo, pipe_fds);
		sys(close(ep));
		refused(epoll_wait(ep, &host, 1, 0), EBADF);
	}
	sys(close(file));
	sys(close(fifo));
	sys(close(pipe_fds[0]));
	sys(close(pipe_fds[1]));
}

static volatile sig_atomic_t rang;

static void ring(int sig)
{
	(void)sig;
	rang++;
}

static void epoll_signalled(void)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int pipe_fds[2], ep = (int)sys(epoll_create1(0)), fifo;
	const struct sigaction sa = { .sa_handler = ring,
				      .sa_flags = SA_RESTART };
	sigset_t blocked, none;

	sigemptyset(&none);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGALRM);
	sys(sigaction(SIGALRM, &sa, NULL));
	sys(mkfifo(in("fifo"), 0600));
	sys(pipe(pipe_fds));
	fifo = (int)sys(open(in("fifo"), O_RDWR | O_NONBLOCK));
	sys(epoll_ctl(ep, EPOLL_CTL_ADD, fifo, &ev));
	sys(epoll_ctl(ep, EPOLL_CTL_ADD, pipe_fds[0], &ev));
	for (int i = 0; i < 3; i++) {
		rang = 0;
		if (i == 2)
			sys(sigprocmask(SIG_BLOCK, &blocked, NULL));
		tick(30000);
		refused(i == 0 ? epoll_wait(ep, &ev, 1, 10000) :
				 epoll_pwait(ep, &ev, 1, 10000, &none), EINTR);
		tick(0);
		check(rang > 0, "the handler has not run");
	}
	sys(sigprocmask(SIG_UNBLOCK, &blocked, NULL));
	sys(close(ep));
	sys(close(fifo));
	sys(close(pipe_fds[0]));
	sys(close(pipe_fds[1]));
}

static void *add_later(void *arg)
{
	const uint64_t one = 1;

	nap_ms(50);
	same(write(*(int *)arg, &one, sizeof(one)), sizeof(one));
	return NULL;
}

/* Of the host or one's own (rule "eventfd"): eventfd(2). */
static void eventfds(void)
{
	const struct sigaction sa = { .sa_handler = ring };
	const uint64_t most = UINT64_MAX - 1;
	int fd = (int)sys(eventfd(2, EFD_SEMAPHORE | EFD_CLOEXEC));
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLOUT };
	pthread_t thread;
	uint64_t value;
	pid_t pid;

	same(fcntl(fd, F_GETFD), FD_CLOEXEC);
	refused(eventfd(0, 0x10), EINVAL);
	refused(read(fd, &value, 4), EINVAL);
	for (int i = 0; i < 2; i++) {
		same(read(fd, &value, sizeof(value)), sizeof(value));
		same(value, 1);
	}
	same(poll(&p, 1, 0), 1);
	same(p.revents, POLLOUT);
	/* A thread wakes one that waits, and so does a signal. */
	same(pthread_create(&thread, NULL, add_later, &fd), 0);
	same(read(fd, &value, sizeof(value)), sizeof(value));
	same(pthread_join(thread, NULL), 0);
	sys(sigaction(SIGALRM, &sa, NULL));
	tick(30000);
	refused(read(fd, &value, sizeof(value)), EINTR);
	tick(0);
	/* A child has the same one. */
	spawned(pid)
		add_later(&fd);
	same(read(fd, &value, sizeof(value)), sizeof(value));
	reap(pid);
	sys(fcntl(fd, F_SETFL, O_NONBLOCK));
	refused(read(fd, &value, sizeof(value)), EAGAIN);
	same(write(fd, &most, sizeof(most)), sizeof(most));
	refused(write(fd, &most, sizeof(most)), EAGAIN);
	same(poll(&p, 1, 0), 1);
	same(p.revents, POLLIN);
	sys(close(fd));
}

int main(int argc, char **argv)
{
	static const struct victim_case cases[] = {
		CASE(lowest), CASE(lowest_zero), CASE(failed_open),
		CASE(dup_shares), CASE(dup2_std), CASE(dup2_replaces),
		CASE(dup2_edges), CASE(dup3_cloexec), CASE(dupfd),
		CASE(cloexec), CASE(cloexec_frees), CASE(close_ranges),
		CASE(offset_fork), CASE(getfl), CASE(ebadf), CASE(many),
		CASE(high_numbers), CASE(limit), CASE(spawn_actions),
		CASE(poll_host), CASE(poll_mixed), CASE(epoll_host),
		CASE(epoll_mixed), CASE(epoll_signalled),
		CASE(eventfds),
	};

	if (argc > 2 && strncmp(argv[1], "--", 2) == 0)
		return probe(argv);
	return VICTIM_MAIN(argc, argv, cases);
}
