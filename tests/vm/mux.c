/* SPDX-License-Identifier: MIT */
/*
 * mux.c - starts a virtual machine and shares the line to its agent
 *
 *	mux DIR VMM [ARG]...
 *
 * The VMM gets the line as descriptor 3. Once the agent has said hello, DIR
 * gets a "socket", which guest.c connects to; that it exists says that the
 * machine runs. DIR/vmm.pid is the VMM's process.
 *
 * Whatever happens, nothing stays: all processes that the VMM starts are our
 * descendants, since we take the orphans (a subreaper), and when the VMM ends
 * they are killed; if we are killed, so is the VMM. SIGTERM has the agent halt
 * the machine; when that takes more than a few seconds, or with SIGINT, the
 * VMM is killed.
 *
 * Who a client is, the kernel says (SO_PEERCRED), not the client: the guest's
 * root writes the host's files as root.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "link.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#define LINE_FD 3
#define HALT_S 5
#define LINE_FULL (1u << 20)	/* then clients have to wait */
#define MAX_CLIENTS 512

struct client {
	int fd;
	uint32_t id;
	bool done;		/* the agent knows nothing of it any more */
	struct queue in, out;
};

struct mux {
	const char *dir;
	struct sockaddr_un where;
	pid_t vmm;
	int line, listener, signals;
	bool ended;
	uint32_t last_id;
	size_t credit;		/* bytes that the line takes */
	struct queue in, out;
	struct client *clients[MAX_CLIENTS];
	size_t nclients;
};

static void say(const char *what, int err)
{
	fprintf(stderr, "mux: %s%s%s\n", what, err ? ": " : "",
		err ? strerror(err) : "");
}

static void vmm_start(struct mux *m, char **argv)
{
	pid_t self = getpid();
	sigset_t none;
	char path[256];
	int ends[2];
	FILE *f;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends)) {
		say("cannot make the line to the guest", errno);
		exit(1);
	}
	m->vmm = fork();
	if (m->vmm < 0) {
		say("cannot fork", errno);
		exit(1);
	}
	if (m->vmm == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != self)
			_exit(1);
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		if (ends[1] == LINE_FD)
			fcntl(LINE_FD, F_SETFD, 0);
		else
			dup2(ends[1], LINE_FD);
		execvp(argv[0], argv);
		say(argv[0], errno);
		_exit(127);
	}
	close(ends[1]);
	m->line = ends[0];
	fcntl(m->line, F_SETFL, O_NONBLOCK);
	snprintf(path, sizeof(path), "%s/vmm.pid", m->dir);
	f = fopen(path, "we");
	if (f) {
		fprintf(f, "%d\n", m->vmm);
		fclose(f);
	}
}

static void kill_all(void)
{
	char path[64];
	FILE *f;
	int pid;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
	do {
		f = fopen(path, "re");
		while (f && fscanf(f, "%d", &pid) == 1)
			kill(pid, SIGKILL);
		if (f)
			fclose(f);
	} while (waitpid(-1, NULL, 0) > 0 || errno == EINTR);
}

static void listen_now(struct mux *m)
{
	m->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC |
			     SOCK_NONBLOCK, 0);
	unlink(m->where.sun_path);
	umask(0);
	if (m->listener < 0 || bind(m->listener, (struct sockaddr *)&m->where,
				    sizeof(m->where)) ||
	    listen(m->listener, 128)) {
		say(m->where.sun_path, errno);
		m->ended = true;
	}
	umask(077);
}

static void client_new(struct mux *m)
{
	int fd = accept4(m->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct client *c;

	if (fd < 0)
		return;
	c = m->nclients < MAX_CLIENTS ? calloc(1, sizeof(*c)) : NULL;
	if (!c) {
		say("too many clients", 0);
		close(fd);
		return;
	}
	c->fd = fd;
	c->id = ++m->last_id;
	m->clients[m->nclients++] = c;
}

static void client_free(struct mux *m, size_t i)
{
	struct client *c = m->clients[i];

	if (!c->done)
		link_send(&m->out, c->id, MSG_GONE, 0, NULL, 0);
	close(c->fd);
	link_free(&c->in);
	link_free(&c->out);
	free(c);
	m->clients[i] = m->clients[--m->nclients];
}

/* Who the client is goes into the order, whatever it says of itself. */
static int send_start(struct mux *m, struct client *c, const struct frame *f,
		      const char *payload)
{
	struct start head;
	struct ucred cred;
	gid_t groups[256];
	struct queue q = { 0 };
	socklen_t len = sizeof(cred);

	if (f->size < sizeof(head))
		return -EPROTO;
	memcpy(&head, payload, sizeof(head));
	if (getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &cred, &len))
		return -errno;
	len = sizeof(groups);
	if (getsockopt(c->fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len))
		return -errno;
	head.uid = cred.uid;
	head.gid = cred.gid;
	head.ngroups = len / sizeof(gid_t);
	link_put(&q, &head, sizeof(head));
	link_put(&q, groups, len);
	link_put(&q, payload + sizeof(head), f->size - sizeof(head));
	link_send(&m->out, c->id, MSG_START, 0, q.data, q.len);
	link_free(&q);
	return 0;
}

/* False: the client is to be dropped. */
static bool client_read(struct mux *m, struct client *c)
{
	struct frame f;
	char *payload;
	ssize_t n = link_read(c->fd, &c->in, 1 << 16);
	int got, err = 0;

	if (n == -EAGAIN)
		return true;
	if (n <= 0)
		return false;
	while ((got = link_frame(&c->in, &f, &payload)) > 0) {
		if (f.type == MSG_START)
			err = send_start(m, c, &f, payload);
		else if (f.type >= MSG_DATA && f.type <= MSG_SIGNAL)
			link_send(&m->out, c->id, f.type, f.arg, payload,
				  f.size);
		if (err)
			say("cannot tell who a client is", -err);
		link_take(&c->in, sizeof(f) + f.size);
	}
	return !got && !err;
}

static bool client_write(struct client *c)
{
	ssize_t n = 0;

	while (c->out.len && n >= 0)
		n = link_write(c->fd, &c->out, 1 << 16);
	return n >= 0 || n == -EAGAIN;
}

static void handle(struct mux *m, const struct frame *f, const char *payload)
{
	size_t i;

	if (f->type == MSG_HELLO) {
		fprintf(stderr, "mux: the guest runs Linux %.*s\n",
			(int)f->size, payload);
		listen_now(m);
		return;
	}
	if (f->type == MSG_CREDIT && !f->id) {
		m->credit += link_u32(f, payload);
		return;
	}
	for (i = 0; i < m->nclients; i++) {
		struct client *c = m->clients[i];

		if (c->id != f->id)
			continue;
		link_send(&c->out, 0, f->type, f->arg, payload, f->size);
		if (f->type == MSG_DONE)
			c->done = true;
	}
}

static void line_read(struct mux *m)
{
	struct frame f;
	char *payload;
	ssize_t n = link_read(m->line, &m->in, 1 << 16);
	int got;

	if (n == -EAGAIN)
		return;
	if (n <= 0) {
		m->ended = true;
		return;
	}
	while ((got = link_frame(&m->in, &f, &payload)) > 0) {
		handle(m, &f, payload);
		link_take(&m->in, sizeof(f) + f.size);
	}
	if (got < 0) {
		say("what the guest sends are no frames", 0);
		m->ended = true;
	}
}

static void line_write(struct mux *m)
{
	while (m->out.len && m->credit) {
		ssize_t n = link_write(m->line, &m->out, m->credit);

		if (n < 0)
			break;
		m->credit -= (size_t)n;
	}
}

static void on_signal(struct mux *m)
{
	struct signalfd_siginfo info;
	int status;
	pid_t pid;

	while (read(m->signals, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGTERM) {
			link_send(&m->out, 0, MSG_HALT, 0, NULL, 0);
			alarm(HALT_S);
		} else if (info.ssi_signo != SIGCHLD) {
			say("killing the virtual machine", 0);
			m->ended = true;
		}
	}
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid != m->vmm)
			continue;
		fprintf(stderr, "mux: the VMM has ended, status %d, signal "
			"%d\n", WEXITSTATUS(status), WTERMSIG(status));
		m->ended = true;
	}
}

static void serve(struct mux *m)
{
	static struct pollfd p[MAX_CLIENTS + 3];
	size_t i, n = m->nclients;
	bool full = m->out.len > LINE_FULL;

	p[0] = (struct pollfd){ .fd = m->line, .events = POLLIN };
	if (m->out.len && m->credit)
		p[0].events |= POLLOUT;
	p[1] = (struct pollfd){ .fd = m->listener, .events = POLLIN };
	p[2] = (struct pollfd){ .fd = m->signals, .events = POLLIN };
	for (i = 0; i < n; i++) {
		struct client *c = m->clients[i];

		p[i + 3] = (struct pollfd){ .fd = c->fd };
		p[i + 3].events = (short)((full ? 0 : POLLIN) |
					  (c->out.len ? POLLOUT : 0));
	}
	if (poll(p, n + 3, -1) < 0)
		return;
	/* Backwards: client_free() moves the last one into the gap. */
	for (i = n; i-- > 0;) {
		struct client *c = m->clients[i];
		bool keep = true;

		if (p[i + 3].revents & (POLLIN | POLLHUP | POLLERR))
			keep = client_read(m, c);
		if (keep && c->out.len)
			keep = client_write(c);
		if (!keep || (c->done && !c->out.len))
			client_free(m, i);
	}
	if (p[0].revents & ~POLLOUT)
		line_read(m);
	if (p[1].revents)
		client_new(m);
	if (p[2].revents)
		on_signal(m);
	line_write(m);
}

int main(int argc, char **argv)
{
	static struct mux m = { .line = -1, .listener = -1 };
	sigset_t set;

	if (argc < 3) {
		fprintf(stderr, "usage: mux DIR VMM [ARG]...\n");
		return 2;
	}
	m.dir = argv[1];
	m.where.sun_family = AF_UNIX;
	if (snprintf(m.where.sun_path, sizeof(m.where.sun_path), "%s/socket",
		     m.dir) >= (int)sizeof(m.where.sun_path)) {
		say("the name of the folder is too long", ENAMETOOLONG);
		return 2;
	}
	closefrom(3);
	umask(077);
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGALRM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	m.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	vmm_start(&m, argv + 2);
	while (!m.ended)
		serve(&m);
	unlink(m.where.sun_path);
	kill_all();
	return 0;
}
