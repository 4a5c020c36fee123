/* SPDX-License-Identifier: MIT */
/*
 * agent.c - process 1 of a test's virtual machine: runs the host's commands
 *
 *	agent LINE KIND		LINE leads to the mux; KIND is uml or qemu
 *
 * It has no standard output of its own worth the name: what goes wrong before
 * a command runs is said on the command's standard error, by the child that
 * was to become the command. A command is a session of its own; its process
 * group is what dies with its client.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "link.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>

#define GRACE_MS 2000		/* between SIGTERM and SIGKILL */
#define LINE_FULL (256u << 10)	/* then commands have to wait */

/*
 * How much may be on its way to us. UML's serial line stalls for good when the
 * tty's 4 KiB are full and it has to be throttled.
 */
#define UML_WINDOW 3072
#define QEMU_WINDOW (256u << 10)

struct command {
	struct command *next;
	uint32_t id;
	uint32_t flags;
	pid_t pid;
	int fd[LINK_NSTREAM];		/* our ends; -1: closed */
	size_t credit[LINK_NSTREAM];	/* what we may send */
	struct queue in;
	bool in_ended;			/* close once "in" is empty */
	bool gone;			/* nobody is interested any more */
	bool exited, told;		/* has ended; the client knows */
	int status;
	int64_t kill_at_ms;		/* 0: never */
};

struct agent {
	int line, signals;
	bool uml;
	struct queue in, out;
	struct command *commands;
};

/* What a command is made of, as it lies in a MSG_START. */
struct order {
	struct start head;
	const char *groups;		/* head.ngroups times u32 */
	char *dir;
	char **argv, **envp;
};

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void stream_close(struct command *c, int stream)
{
	if (c->fd[stream] >= 0)
		close(c->fd[stream]);
	c->fd[stream] = -1;
}

static char **strings(char **at, const char *end, uint32_t count)
{
	char **list = calloc(count + 1, sizeof(*list));
	uint32_t i;

	for (i = 0; list && i < count; i++) {
		size_t left = (size_t)(end - *at);
		size_t len = strnlen(*at, left);

		if (len == left) {
			free(list);
			return NULL;
		}
		list[i] = *at;
		*at += len + 1;
	}
	return list;
}

static int order_read(struct order *o, char *data, size_t size)
{
	char *end = data + size, *at;
	char **dir;

	*o = (struct order){ 0 };
	if (size < sizeof(o->head))
		return -EPROTO;
	memcpy(&o->head, data, sizeof(o->head));
	at = data + sizeof(o->head);
	o->groups = at;
	if (o->head.ngroups > (size_t)(end - at) / sizeof(gid_t) ||
	    o->head.argc > size || o->head.envc > size || !o->head.argc)
		return -EPROTO;
	at += o->head.ngroups * sizeof(gid_t);
	dir = strings(&at, end, 1);
	if (!dir)
		return -EPROTO;
	o->dir = dir[0];
	free(dir);
	o->argv = strings(&at, end, o->head.argc);
	o->envp = strings(&at, end, o->head.envc);
	return o->argv && o->envp ? 0 : -EPROTO;
}

static void order_free(struct order *o)
{
	free(o->argv);
	free(o->envp);
}

static _Noreturn void give_up(int status, const char *what, const char *name)
{
	dprintf(2, "guest: cannot %s %s in the guest: %s\n", what, name,
		strerror(errno));
	_exit(status);
}

/* Runs in the child. Descriptors 0 to 2 are the command's already. */
static _Noreturn void become(const struct order *o)
{
	const struct start *h = &o->head;
	gid_t *groups = calloc(h->ngroups + 1, sizeof(*groups));
	sigset_t none;
	int sig;

	setsid();
	umask((mode_t)h->umask);
	for (sig = 1; sig < NSIG; sig++) {
		bool ignored = h->ignored >> (sig - 1) & 1;

		signal(sig, ignored ? SIG_IGN : SIG_DFL);
	}
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (groups)
		memcpy(groups, o->groups, h->ngroups * sizeof(*groups));
	if (!groups || setgroups(h->ngroups, groups) ||
	    setresgid(h->gid, h->gid, h->gid) ||
	    setresuid(h->uid, h->uid, h->uid))
		give_up(126, "become the user of", o->argv[0]);
	if (chdir(o->dir))
		give_up(126, "enter directory", o->dir);
	environ = o->envp;
	execvp(o->argv[0], o->argv);
	give_up(errno == ENOENT ? 127 : 126, "run", o->argv[0]);
}

/* Parent's ends in c->fd, the child's in theirs. */
static int make_pipes(struct command *c, int theirs[LINK_NSTREAM])
{
	int i, ends[2];

	for (i = 0; i < LINK_NSTREAM; i++) {
		if (i == 2 && (c->flags & START_MERGE)) {
			theirs[2] = theirs[1];
			continue;
		}
		if (pipe2(ends, O_CLOEXEC))
			return -errno;
		c->fd[i] = ends[i == 0];
		theirs[i] = ends[i != 0];
		fcntl(c->fd[i], F_SETFL, O_NONBLOCK);
	}
	return 0;
}

static int command_spawn(struct command *c, const struct order *o)
{
	int theirs[LINK_NSTREAM] = { -1, -1, -1 };
	int i, err;

	err = make_pipes(c, theirs);
	if (!err) {
		c->pid = fork();
		if (c->pid < 0)
			err = -errno;
	}
	if (!err && c->pid == 0) {
		for (i = 0; i < LINK_NSTREAM; i++)
			dup2(theirs[i], i);
		become(o);
	}
	for (i = 0; i < LINK_NSTREAM; i++)
		if ((i < 2 || theirs[2] != theirs[1]) && theirs[i] >= 0)
			close(theirs[i]);
	return err;
}

static void command_start(struct agent *a, uint32_t id, char *data, size_t size)
{
	struct command *c = calloc(1, sizeof(*c));
	struct order o;
	char text[128];
	int i, err;

	err = c ? order_read(&o, data, size) : -ENOMEM;
	if (!err) {
		c->id = id;
		c->flags = o.head.flags;
		for (i = 0; i < LINK_NSTREAM; i++) {
			c->fd[i] = -1;
			c->credit[i] = LINK_WINDOW;
		}
		err = command_spawn(c, &o);
		order_free(&o);
	}
	if (!err) {
		c->next = a->commands;
		a->commands = c;
		return;
	}
	snprintf(text, sizeof(text), "guest: cannot start a command in the "
		 "guest: %s\n", strerror(-err));
	link_send(&a->out, id, MSG_DATA, 2, text, strlen(text));
	link_send_u32(&a->out, id, MSG_EXIT, 0, 125 << 8);
	link_send(&a->out, id, MSG_DONE, 0, NULL, 0);
	for (i = 0; c && i < LINK_NSTREAM; i++)
		stream_close(c, i);
	free(c);
}

static void command_gone(struct command *c)
{
	int i;

	c->gone = true;
	for (i = 0; i < LINK_NSTREAM; i++)
		stream_close(c, i);
	if (c->exited)
		return;
	if (c->flags & START_KILL) {
		kill(-c->pid, SIGKILL);
	} else {
		kill(-c->pid, SIGTERM);
		kill(-c->pid, SIGCONT);
		c->kill_at_ms = now_ms() + GRACE_MS;
	}
}

static void command_input(struct agent *a, struct command *c)
{
	size_t before = c->in.len;
	ssize_t n = 0;

	while (c->fd[0] >= 0 && c->in.len) {
		n = link_write(c->fd[0], &c->in, LINK_DATA);
		if (n < 0)
			break;
	}
	if (c->fd[0] >= 0 && n < 0 && n != -EAGAIN) {
		stream_close(c, 0);
		link_send(&a->out, c->id, MSG_CLOSE, 0, NULL, 0);
	}
	if (c->fd[0] < 0)
		link_take(&c->in, c->in.len);
	if (before != c->in.len && !c->gone)
		link_send_u32(&a->out, c->id, MSG_CREDIT, 0,
			      (uint32_t)(before - c->in.len));
	if (c->in_ended && !c->in.len)
		stream_close(c, 0);
}

/* One piece of output goes on its way; false: there is none, or no credit. */
static bool command_output(struct agent *a, struct command *c, int stream)
{
	char piece[LINK_DATA];
	size_t max = c->credit[stream];
	ssize_t n;

	if (c->fd[stream] < 0 || !max || a->out.len >= LINE_FULL)
		return false;
	n = read(c->fd[stream], piece, max < sizeof(piece) ?
		 max : sizeof(piece));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0)
		stream_close(c, stream);
	else
		c->credit[stream] -= (size_t)n;
	link_send(&a->out, c->id, MSG_DATA, (unsigned int)stream, piece,
		  n > 0 ? (size_t)n : 0);
	return n > 0;
}

/* It has ended: all that it wrote goes first, then its status. */
static void command_settle(struct agent *a, struct command *c)
{
	int stream;
	bool open = false;
	struct pollfd p = { .events = POLLIN };

	for (stream = 1; stream < LINK_NSTREAM; stream++) {
		while (command_output(a, c, stream))
			;
		p.fd = c->fd[stream];
		if (p.fd < 0)
			continue;
		open = true;
		if (!c->told && poll(&p, 1, 0) > 0)
			return;		/* waits for credit or the line */
	}
	if (!c->told && !c->gone)
		link_send_u32(&a->out, c->id, MSG_EXIT, open,
			      (uint32_t)c->status);
	c->told = true;
	if (!open || c->gone) {
		stream_close(c, 0);
		if (!c->gone)
			link_send(&a->out, c->id, MSG_DONE, 0, NULL, 0);
		c->id = 0;
	}
}

static struct command *by_id(struct agent *a, uint32_t id)
{
	struct command *c = a->commands;

	while (c && c->id != id)
		c = c->next;
	return c;
}

static void reap(struct agent *a)
{
	struct command *c;
	siginfo_t info;

	for (;;) {
		info.si_pid = 0;
		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) ||
		    !info.si_pid)
			return;
		c = a->commands;
		while (c && (c->exited || c->pid != info.si_pid))
			c = c->next;
		/* While the number is still taken, it names only its group. */
		if (c && c->gone)
			kill(-c->pid, SIGKILL);
		if (!c)
			waitpid(info.si_pid, NULL, 0);
		else if (waitpid(c->pid, &c->status, 0) == c->pid)
			c->exited = true;
	}
}

static _Noreturn void halt(struct agent *a)
{
	fprintf(stderr, "agent: halting\n");
	kill(-1, SIGKILL);
	sync();
	/* QEMU is told not to reboot; not every machine type can power off. */
	reboot(a->uml ? RB_POWER_OFF : RB_AUTOBOOT);
	for (;;)
		pause();
}

static void handle(struct agent *a, const struct frame *f, char *payload)
{
	struct command *c;

	if (f->type == MSG_HALT)
		halt(a);
	if (f->type == MSG_START) {
		command_start(a, f->id, payload, f->size);
		return;
	}
	c = by_id(a, f->id);
	if (!c || f->arg >= NSIG)
		return;
	switch (f->type) {
	case MSG_DATA:
		if (c->fd[0] >= 0)
			link_put(&c->in, payload, f->size);
		if (!f->size)
			c->in_ended = true;
		command_input(a, c);
		break;
	case MSG_CREDIT:
		if (f->arg < LINK_NSTREAM)
			c->credit[f->arg] += link_u32(f, payload);
		break;
	case MSG_CLOSE:
		if (f->arg < LINK_NSTREAM)
			stream_close(c, f->arg);
		break;
	case MSG_SIGNAL:
		if (!c->exited)
			kill(c->pid, f->arg);
		break;
	case MSG_GONE:
		command_gone(c);
		break;
	}
}

static void line_read(struct agent *a)
{
	struct frame f;
	char *payload;
	ssize_t n;
	int got;

	n = link_read(a->line, &a->in, 1 << 16);
	if (n == 0 || (n < 0 && n != -EAGAIN)) {
		fprintf(stderr, "agent: the line to the host is cut: %s\n",
			n ? strerror((int)-n) : "end of file");
		halt(a);
	}
	if (n > 0)
		link_send_u32(&a->out, 0, MSG_CREDIT, 0, (uint32_t)n);
	while ((got = link_frame(&a->in, &f, &payload)) > 0) {
		handle(a, &f, payload);
		link_take(&a->in, sizeof(f) + f.size);
	}
	if (got < 0) {
		fprintf(stderr, "agent: what the line brings are no frames\n");
		halt(a);
	}
}

static void line_write(struct agent *a)
{
	while (a->out.len)
		if (link_write(a->line, &a->out, 1 << 16) < 0)
			break;
}

static int kill_overdue(struct agent *a)
{
	struct command *c;
	int64_t now = now_ms(), next = -1;

	for (c = a->commands; c; c = c->next) {
		if (!c->kill_at_ms || c->exited)
			continue;
		if (c->kill_at_ms <= now) {
			kill(-c->pid, SIGKILL);
			c->kill_at_ms = 0;
		} else if (next < 0 || c->kill_at_ms - now < next) {
			next = c->kill_at_ms - now;
		}
	}
	return (int)next;
}

static void forget_done(struct agent *a)
{
	struct command **at = &a->commands, *c;

	while ((c = *at)) {
		if (c->exited)
			command_settle(a, c);
		if (c->id) {
			at = &c->next;
			continue;
		}
		*at = c->next;
		link_free(&c->in);
		free(c);
	}
}

/* What a descriptor is not watched for is left out: POLLHUP would not be. */
static size_t watch(struct agent *a, struct pollfd **pfds)
{
	static struct pollfd *set;
	static size_t size;
	struct command *c;
	size_t n = 2;
	int i;

	for (c = a->commands; c; c = c->next)
		n += LINK_NSTREAM;
	if (n > size) {
		size = n * 2;
		set = realloc(set, size * sizeof(*set));
		if (!set)
			halt(a);
	}
	set[0] = (struct pollfd){ .fd = a->line, .events = POLLIN };
	if (a->out.len)
		set[0].events |= POLLOUT;
	set[1] = (struct pollfd){ .fd = a->signals, .events = POLLIN };
	n = 2;
	for (c = a->commands; c; c = c->next) {
		for (i = 0; i < LINK_NSTREAM; i++, n++) {
			bool wanted = i ? c->credit[i] &&
				a->out.len < LINE_FULL : c->in.len > 0;

			set[n].fd = wanted ? c->fd[i] : -1;
			set[n].events = i ? POLLIN : POLLOUT;
			set[n].revents = 0;
		}
	}
	*pfds = set;
	return n;
}

static void serve(struct agent *a)
{
	struct signalfd_siginfo info;
	struct command *c;
	struct pollfd *set;
	size_t n, i;
	int wait_ms;

	wait_ms = kill_overdue(a);
	forget_done(a);
	line_write(a);
	n = watch(a, &set);
	if (poll(set, n, wait_ms) < 0)
		return;
	/* Before the line is read: a new command would shift the others. */
	i = 2;
	for (c = a->commands; c; c = c->next, i += LINK_NSTREAM) {
		if (set[i].revents)
			command_input(a, c);
		if (set[i + 1].revents)
			command_output(a, c, 1);
		if (set[i + 2].revents)
			command_output(a, c, 2);
	}
	if (set[1].revents) {
		while (read(a->signals, &info, sizeof(info)) > 0)
			;
		reap(a);
	}
	if (set[0].revents & ~POLLOUT)
		line_read(a);
}

static int line_open(const char *path)
{
	struct termios t;
	int fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0 && !tcgetattr(fd, &t)) {
		cfmakeraw(&t);
		tcsetattr(fd, TCSANOW, &t);
	}
	return fd;
}

int main(int argc, char **argv)
{
	struct agent a = { .line = -1 };
	struct utsname u;
	sigset_t set;

	if (argc != 3) {
		fprintf(stderr, "usage: agent LINE uml|qemu\n");
		return 2;
	}
	a.uml = !strcmp(argv[2], "uml");
	a.line = line_open(argv[1]);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	a.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	signal(SIGPIPE, SIG_IGN);
	if (a.line < 0 || a.signals < 0 || uname(&u)) {
		fprintf(stderr, "agent: cannot open the line to the host, %s: "
			"%s\n", argv[1], strerror(errno));
		halt(&a);
	}
	link_send(&a.out, 0, MSG_HELLO, 0, u.release, strlen(u.release));
	link_send_u32(&a.out, 0, MSG_CREDIT, 0,
		      a.uml ? UML_WINDOW : QEMU_WINDOW);
	for (;;)
		serve(&a);
}
