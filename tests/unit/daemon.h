/* SPDX-License-Identifier: MIT */
/* daemon.h - daemons that unit tests of transports talk to */
#ifndef TESTS_DAEMON_H
#define TESTS_DAEMON_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "host/serve.h"
#include "wire/rules.h"
#include "wire/transport.h"

static void nap(unsigned int n)
{
	usleep(n * 1000);
}

/* What `darkshadow host` does, with one rule. */
static _Noreturn void real_daemon(struct listener *l)
{
	struct rules policy = { 0 };
	struct serve conf = { .policy = &policy, .listener = l };
	char err[RULES_ERR_MAX];

	log_set_level(LOG_ERROR);
	if (rules_add(&policy, "net", err) < 0)
		_exit(2);
	if (serve_run(&conf, NULL) < 0)
		_exit(3);
	listener_fini(l);
	_exit(0);
}

/* And what it answers when it is asked for its only rule. */
static bool ask(struct transport *t)
{
	struct msg m = { .type = MSG_POLICY };
	int fd;

	return transport_send(t, &m, -1) == 0 &&
	       transport_recv(t, &m, &fd) == 0 && m.type == MSG_REPLY_TEXT &&
	       strncmp(m.reply_text.text, "net", 3) == 0;
}

static int ram_fd = -1;		/* of daemons that are started */

/*
 * A daemon with nothing of ours open. Its process id; it serves when this
 * returns. Negative: -errno of listen.
 */
static pid_t daemon_at(const char *spec, void (*run)(struct listener *))
{
	const char *args;
	const struct transport_ops *ops = transport_find(spec, &args);
	int fds[2], err = -EIO;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		abort();
	pid = fork();
	if (pid == 0) {
		struct listener l;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (int fd = 3; fd < 256; fd++)
			if (fd != fds[1] && fd != ram_fd)
				close(fd);
		err = listener_open(&l, ops, args, ram_fd, 0);
		if (write(fds[1], &err, sizeof(err)) < 0 || err)
			_exit(4);
		close(fds[1]);
		run(&l);
		_exit(5);
	}
	close(fds[1]);
	if (read(fds[0], &err, sizeof(err)) != (ssize_t)sizeof(err))
		err = -EIO;
	close(fds[0]);
	if (err)
		waitpid(pid, NULL, 0);
	return err ? err : pid;
}

/* Its wait status, or -1 if it is none. */
static int end(pid_t pid, int sig)
{
	int status;

	if (pid <= 0)
		return -1;
	kill(pid, sig);
	return waitpid(pid, &status, 0) == pid ? status : -1;
}

#endif
