/* SPDX-License-Identifier: MIT */
/* qmp.c - asking QEMU by its machine protocol */
#include "vm/qmp.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"

/* 0 when events are there, -ETIMEDOUT, or -errno */
static int wait_for(int fd, short events, uint64_t until)
{
	for (;;) {
		struct pollfd p = { .fd = fd, .events = events };
		const int64_t left = (int64_t)(until - now_ms());
		int n = poll(&p, 1, left > 0 ? (int)left : 0);

		if (n > 0)
			return 0;
		if (n == 0)
			return -ETIMEDOUT;
		if (errno != EINTR)
			return -errno;
	}
}

static int send_all(struct qmp *q, const char *text, uint64_t until)
{
	size_t len = strlen(text);

	while (len > 0) {
		ssize_t n = send(q->fd, text, len, MSG_NOSIGNAL);
		int rc;

		if (n >= 0) {
			text += n;
			len -= (size_t)n;
			continue;
		}
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		rc = wait_for(q->fd, POLLOUT, until);
		if (rc)
			return rc;
	}
	return 0;
}

/* More of what the other end says. 0 or -errno. */
static int fill(struct qmp *q, uint64_t until)
{
	ssize_t n;
	int rc;

	if (q->len == q->cap) {
		size_t more = q->cap ? q->cap * 2 : 8192;
		char *v;

		if (more > QMP_LINE_MAX)
			return -EMSGSIZE;
		v = realloc(q->buf, more);
		if (!v)
			return -ENOMEM;
		q->buf = v;
		q->cap = more;
	}
	rc = wait_for(q->fd, POLLIN, until);
	if (rc)
		return rc;
	n = recv(q->fd, q->buf + q->len, q->cap - q->len, 0);
	if (n < 0)
		return errno == EINTR || errno == EAGAIN ? 0 : -errno;
	q->len += (size_t)n;
	return n ? 0 : -EPIPE;
}

/* The next line as an object. */
static int read_object(struct qmp *q, uint64_t until, json_t **out)
{
	size_t seen = 0, len;
	char *end = NULL;
	int rc;

	for (;;) {
		if (q->len > seen)
			end = memchr(q->buf + seen, '\n', q->len - seen);
		if (end)
			break;
		seen = q->len;
		rc = fill(q, until);
		if (rc)
			return rc;
	}
	len = (size_t)(end - q->buf) + 1;
	*out = json_loadb(q->buf, len, 0, NULL);
	memmove(q->buf, q->buf + len, q->len - len);
	q->len -= len;
	if (json_is_object(*out))
		return 0;
	json_decref(*out);
	*out = NULL;
	return -EPROTO;
}

/* The next object that is no event; *out is NULL without one. */
static int read_answer(struct qmp *q, uint64_t until, json_t **out)
{
	for (;;) {
		int rc = read_object(q, until, out);

		if (rc || !json_object_get(*out, "event"))
			return rc;
		json_decref(*out);
		*out = NULL;
		/* Events without end are no answer either. */
		if (now_ms() > until)
			return -ETIMEDOUT;
	}
}

static int explain(int rc, const char *what, char *err)
{
	switch (rc) {
	case -ETIMEDOUT:
		return vm_fail(err, rc, "%s: no answer within %d s: is another"
			       " client connected, or the VMM stopped? (a"
			       " monitor serves one client at a time: give the"
			       " VM a second one)", what,
			       QMP_TIMEOUT_MS / 1000);
	case -EPIPE:
	case -ECONNRESET:
		return vm_fail(err, -EPIPE, "%s: the VMM closed the monitor:"
			       " has it ended?", what);
	case -EPROTO:
	case -EMSGSIZE:
		return vm_fail(err, rc, "%s: what answers is no QMP: expected"
			       " the socket of -qmp unix:PATH,server=on", what);
	default:
		return vm_fail(err, rc, "%s: %s", what, strerror(-rc));
	}
}

/*
 * The path may be longer than an address can hold, so it is opened, and named
 * by our descriptor.
 */
static int connect_to(struct qmp *q, const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int at cleanup_fd = open(path, O_PATH | O_CLOEXEC);
	struct stat st;

	if (at < 0 || fstat(at, &st) < 0)
		return -errno;
	if (!S_ISSOCK(st.st_mode))
		return -ENOTSOCK;
	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d", at);
	q->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (q->fd < 0 ||
	    connect(q->fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return errno == EAGAIN ? -ETIMEDOUT : -errno;
	return 0;
}

static int explain_connect(int rc, const char *path, char *err)
{
	switch (rc) {
	case -EACCES:
		return vm_fail(err, rc, "no permission to use the QMP socket"
			       " %s: run darkshadow as the user who owns it"
			       " or as root", path);
	case -ENOENT:
	case -ENOTSOCK:
		return vm_fail(err, rc, "there is no QMP socket %s: start the"
			       " VM with -qmp unix:%s,server=on,wait=off",
			       path, path);
	case -ECONNREFUSED:
		return vm_fail(err, rc, "nobody listens at the QMP socket %s:"
			       " has the VMM ended?", path);
	}
	return explain(rc, path, err);
}

int qmp_open(struct qmp *q, const char *path, char err[VM_ERR_MAX])
{
	json_t *greeting = NULL, *ret = NULL;
	int rc;

	*q = (struct qmp){ .fd = -1 };
	rc = connect_to(q, path);
	if (rc) {
		qmp_close(q);
		return explain_connect(rc, path, err);
	}
	rc = read_answer(q, now_ms() + QMP_TIMEOUT_MS, &greeting);
	if (!rc && !json_object_get(greeting, "QMP"))
		rc = -EPROTO;
	json_decref(greeting);
	if (rc)
		rc = explain(rc, path, err);
	else
		rc = qmp_command(q, "qmp_capabilities", NULL, &ret, err);
	if (!rc)
		json_decref(ret);
	else
		qmp_close(q);
	return rc;
}

void qmp_close(struct qmp *q)
{
	close_fd(&q->fd);
	free(q->buf);
	*q = (struct qmp){ .fd = -1 };
}

pid_t qmp_peer(const struct qmp *q)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(q->fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return -errno;
	return cred.pid > 0 ? cred.pid : -ESRCH;
}

/* Takes the answer over. */
static int answered(json_t *answer, const char *name, json_t **ret, char *err)
{
	json_t *value = json_object_get(answer, "return");
	int rc = 0;

	if (value) {
		*ret = json_incref(value);
	} else {
		const json_t *e = json_object_get(answer, "error");
		const char *desc = json_string_value(
					json_object_get(e, "desc"));

		rc = vm_fail(err, -EREMOTEIO, "QEMU refused %s: %s", name,
			     desc ? desc : "without a reason");
	}
	json_decref(answer);
	return rc;
}

int qmp_command(struct qmp *q, const char *name, json_t *args, json_t **ret,
		char err[VM_ERR_MAX])
{
	const uint64_t until = now_ms() + QMP_TIMEOUT_MS;
	json_t *ask = json_pack("{s:s}", "execute", name), *answer = NULL;
	char *text cleanup_free = NULL;
	int rc = 0;

	if (args && (!ask || json_object_set(ask, "arguments", args)))
		rc = -ENOMEM;
	json_decref(args);
	if (!rc)
		text = json_dumps(ask, JSON_COMPACT);
	json_decref(ask);
	if (!text)
		return explain(-ENOMEM, name, err);
	rc = send_all(q, text, until);
	if (!rc)
		rc = send_all(q, "\r\n", until);
	if (!rc)
		rc = read_answer(q, until, &answer);
	if (rc)
		return explain(rc, name, err);
	return answered(answer, name, ret, err);
}

int qmp_monitor(struct qmp *q, const char *line, char **text,
		char err[VM_ERR_MAX])
{
	json_t *args = json_pack("{s:s}", "command-line", line), *ret = NULL;
	int rc;

	if (!args)
		return explain(-ENOMEM, line, err);
	rc = qmp_command(q, "human-monitor-command", args, &ret, err);
	if (rc)
		return rc;
	*text = NULL;
	if (json_is_string(ret))
		*text = strdup(json_string_value(ret));
	rc = *text ? 0 : json_is_string(ret) ? -ENOMEM : -EPROTO;
	json_decref(ret);
	return rc ? explain(rc, line, err) : 0;
}
