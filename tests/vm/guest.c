/* SPDX-License-Identifier: MIT */
/*
 * guest.c - run a command in the virtual machine of $DS_VM_DIR
 *
 *	guest [-e] [-k] COMMAND [ARG]...
 *
 *	-e	with a small environment instead of this one
 *	-k	the command gets SIGKILL at once if this process is killed; else
 *		it gets SIGTERM, and SIGKILL two seconds later
 *
 * The command has this process's directory, umask, user, environment and
 * ignored signals, and three streams that lead here. Output and error that
 * are one file here are one stream there, so that their order is kept. Signals
 * are passed on, and this process ends as the command did. 125: it could not
 * be run.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "link.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

struct client {
	int sock, signals;
	struct queue in, out;
	struct queue data[LINK_NSTREAM];	/* not yet written, [0] unused */
	size_t credit;				/* for standard input */
	bool open[LINK_NSTREAM];
	bool exited, done;
	int status;
};

static const int passed_on[] = {
	SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM,
};

/* Names of things that do not exist in the guest, or differ there. */
static const char *const left_out[] = {
	"XDG_RUNTIME_DIR=", "DBUS_SESSION_BUS_ADDRESS=", "DISPLAY=",
	"WAYLAND_DISPLAY=", "SSH_AUTH_SOCK=", "NOTIFY_SOCKET=",
	"INVOCATION_ID=", "JOURNAL_STREAM=", "LISTEN_FDS=", "LISTEN_PID=",
	"HOSTNAME=",
};

static const char *const small[] = { "PATH=", "HOME=", "TERM=", "LANG=" };

static _Noreturn void fail(const char *what, const char *remedy)
{
	fprintf(stderr, "guest: %s: %s%s%s\n", what, strerror(errno),
		*remedy ? "; " : "", remedy);
	exit(125);
}

static bool one_of(const char *var, const char *const *list, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (!strncmp(var, list[i], strlen(list[i])))
			return true;
	return false;
}

static bool env_wanted(const char *var, bool few)
{
	if (few)
		return one_of(var, small, sizeof(small) / sizeof(*small));
	return !one_of(var, left_out, sizeof(left_out) / sizeof(*left_out));
}

static uint64_t ignored_signals(void)
{
	struct sigaction sa;
	uint64_t set = 0;
	int sig;

	for (sig = 1; sig < NSIG; sig++)
		if (!sigaction(sig, NULL, &sa) && sa.sa_handler == SIG_IGN)
			set |= UINT64_C(1) << (sig - 1);
	return set;
}

static bool same_file(int a, int b)
{
	struct stat x, y;

	return !fstat(a, &x) && !fstat(b, &y) && x.st_dev == y.st_dev &&
		x.st_ino == y.st_ino;
}

static void put_string(struct queue *q, const char *s)
{
	link_put(q, s, strlen(s) + 1);
}

static void send_start(struct client *c, char **argv, uint32_t flags, bool few)
{
	struct start head = { .flags = flags, .ignored = ignored_signals() };
	struct queue q = { 0 };
	char *dir = getcwd(NULL, 0);
	mode_t mask = umask(0);
	char **p;

	umask(mask);
	head.umask = mask;
	if (!dir)
		fail("cannot tell the working directory", "");
	for (p = argv; *p; p++)
		head.argc++;
	for (p = environ; *p; p++)
		head.envc += env_wanted(*p, few);
	link_put(&q, &head, sizeof(head));
	put_string(&q, dir);
	for (p = argv; *p; p++)
		put_string(&q, *p);
	for (p = environ; *p; p++)
		if (env_wanted(*p, few))
			put_string(&q, *p);
	link_send(&c->out, 0, MSG_START, 0, q.data, q.len);
	link_free(&q);
	free(dir);
}

static int connect_mux(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	const char *dir = getenv("DS_VM_DIR");
	int fd;

	if (!dir) {
		errno = EINVAL;
		fail("DS_VM_DIR is not set",
		     "set it to the folder that tests/vm/vm.sh was given");
	}
	if (snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/socket", dir) >=
	    (int)sizeof(sa.sun_path)) {
		errno = ENAMETOOLONG;
		fail("cannot use DS_VM_DIR", "use a shorter name");
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)))
		fail(sa.sun_path, "does the virtual machine run? Start it "
		     "with tests/vm/vm.sh start");
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

static int take_signals(void)
{
	struct sigaction sa;
	sigset_t set;
	size_t i;

	sigemptyset(&set);
	for (i = 0; i < sizeof(passed_on) / sizeof(*passed_on); i++)
		if (!sigaction(passed_on[i], NULL, &sa) &&
		    sa.sa_handler != SIG_IGN)
			sigaddset(&set, passed_on[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* Ends as the command did: a signal that kills it kills us. */
static _Noreturn void end(int status)
{
	struct rlimit none = { 0 };
	sigset_t set;
	int sig;

	if (WIFSIGNALED(status)) {
		sig = WTERMSIG(status);
		setrlimit(RLIMIT_CORE, &none);
		signal(sig, SIG_DFL);
		sigemptyset(&set);
		sigaddset(&set, sig);
		raise(sig);
		sigprocmask(SIG_UNBLOCK, &set, NULL);
		_exit(128 + sig);
	}
	_exit(WEXITSTATUS(status));
}

static void stream_end(struct client *c, int stream)
{
	c->open[stream] = false;
	link_take(&c->data[stream], c->data[stream].len);
	close(stream);
	link_send(&c->out, 0, MSG_CLOSE, (unsigned int)stream, NULL, 0);
}

static void handle(struct client *c, const struct frame *f,
		   const char *payload)
{
	int stream = f->arg < LINK_NSTREAM ? f->arg : 0;

	switch (f->type) {
	case MSG_DATA:
		if (c->open[stream])
			link_put(&c->data[stream], payload, f->size);
		break;
	case MSG_CREDIT:
		c->credit += link_u32(f, payload);
		break;
	case MSG_CLOSE:
		c->open[0] = false;
		close(0);
		break;
	case MSG_EXIT:
		c->exited = true;
		c->status = (int)link_u32(f, payload);
		c->done |= !f->arg;
		break;
	case MSG_DONE:
		c->done = true;
		break;
	}
}

static void sock_read(struct client *c)
{
	struct frame f;
	char *payload;
	ssize_t n;

	n = link_read(c->sock, &c->in, 1 << 16);
	if (n == -EAGAIN)
		return;
	if (n <= 0) {
		errno = n ? (int)-n : ECONNRESET;
		fail("the virtual machine has ended while the command ran",
		     "see console.log and mux.log in DS_VM_DIR");
	}
	while (link_frame(&c->in, &f, &payload) > 0) {
		handle(c, &f, payload);
		link_take(&c->in, sizeof(f) + f.size);
	}
}

static void stdin_read(struct client *c)
{
	struct queue q = { 0 };
	ssize_t n = link_read(0, &q, c->credit < LINK_DATA ?
			      c->credit : LINK_DATA);

	if (n == -EAGAIN)
		return;
	if (n <= 0) {
		n = 0;
		c->open[0] = false;
	}
	c->credit -= (size_t)n;
	link_send(&c->out, 0, MSG_DATA, 0, q.data, (size_t)n);
	link_free(&q);
}

/*
 * The description behind a stream is shared with others, so it has to stay as
 * it is, blocking: but PIPE_BUF bytes do not block where poll() says so.
 */
static void stream_write(struct client *c, int stream)
{
	ssize_t n = link_write(stream, &c->data[stream], 4096);

	if (n == -EAGAIN)
		return;
	if (n < 0)
		stream_end(c, stream);
	else
		link_send_u32(&c->out, 0, MSG_CREDIT, (unsigned int)stream,
			      (uint32_t)n);
}

static void pass_signals(struct client *c)
{
	struct signalfd_siginfo info;

	while (read(c->signals, &info, sizeof(info)) == sizeof(info))
		link_send(&c->out, 0, MSG_SIGNAL, info.ssi_signo, NULL, 0);
}

static void serve(struct client *c)
{
	struct pollfd p[] = {
		{ .fd = c->open[0] && c->credit && c->out.len < LINK_WINDOW ?
			0 : -1, .events = POLLIN },
		{ .fd = c->open[1] ? 1 : -1,
		  .events = c->data[1].len ? POLLOUT : 0 },
		{ .fd = c->open[2] ? 2 : -1,
		  .events = c->data[2].len ? POLLOUT : 0 },
		{ .fd = c->done ? -1 : c->sock, .events = c->out.len ?
			POLLIN | POLLOUT : POLLIN },
		{ .fd = c->signals, .events = POLLIN },
	};
	int i;

	if (poll(p, sizeof(p) / sizeof(*p), -1) < 0)
		return;
	if (p[0].revents)
		stdin_read(c);
	for (i = 1; i < LINK_NSTREAM; i++) {
		if (p[i].revents & POLLERR)
			stream_end(c, i);
		else if (p[i].revents & POLLOUT)
			stream_write(c, i);
		else if (p[i].revents & POLLNVAL)
			c->open[i] = false;
	}
	if (p[4].revents)
		pass_signals(c);
	if (p[3].revents)
		sock_read(c);
	while (c->out.len)
		if (link_write(c->sock, &c->out, 1 << 16) < 0)
			break;
}

static bool written(const struct client *c)
{
	return !c->data[1].len && !c->data[2].len;
}

int main(int argc, char **argv)
{
	struct client c = {
		.credit = LINK_WINDOW,
		.open = { true, true, true },
	};
	uint32_t flags = 0;
	bool few = false;
	int i, opt;

	while ((opt = getopt(argc, argv, "+ek")) != -1) {
		if (opt == 'e')
			few = true;
		else if (opt == 'k')
			flags |= START_KILL;
		else
			argc = 0;
	}
	if (optind >= argc) {
		fprintf(stderr, "usage: guest [-e] [-k] COMMAND [ARG]...\n");
		return 125;
	}
	/* Or what is opened next would take the place of a closed stream. */
	for (i = 0; i < LINK_NSTREAM; i++)
		if (fcntl(i, F_GETFD) < 0)
			open("/dev/null", i ? O_WRONLY : O_RDONLY);
	if (same_file(1, 2))
		flags |= START_MERGE;
	c.sock = connect_mux();
	send_start(&c, argv + optind, flags, few);
	c.signals = take_signals();
	while (!c.exited || !written(&c))
		serve(&c);
	/* Somebody still holds the command's output: so does our child. */
	if (!c.done && fork() > 0)
		end(c.status);
	if (c.open[0]) {
		c.open[0] = false;
		link_send(&c.out, 0, MSG_DATA, 0, NULL, 0);
	}
	while (!c.done || !written(&c))
		serve(&c);
	end(c.status);
}
