/* SPDX-License-Identifier: MIT */
/* loopback.c - tracer and daemon on one machine: an AF_UNIX seqpacket pair */
#include "wire/loopback.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"

static int address(const char *path, struct sockaddr_un *addr)
{
	*addr = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (!path || !*path)
		return -EINVAL;
	if (strlen(path) >= sizeof(addr->sun_path))
		return -ENAMETOOLONG;
	memcpy(addr->sun_path, path, strlen(path));
	return 0;
}

static int loopback_connect(struct transport *t, const char *args)
{
	int fd cleanup_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct sockaddr_un addr;
	int err = address(args, &addr);

	if (err)
		return err;
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	transport_adopt(t, steal_fd(&fd));
	return 0;
}

/* A socket file that nobody listens on is what a killed daemon left. */
int loopback_bind(const char *path, int type, int *out)
{
	int fd cleanup_fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	int probe cleanup_fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	struct sockaddr_un addr;
	struct stat st;
	mode_t mask;
	int err = address(path, &addr);

	if (err)
		return err;
	if (fd < 0 || probe < 0)
		return -errno;
	if (connect(probe, (struct sockaddr *)&addr, sizeof(addr)) == 0)
		return -EADDRINUSE;
	if (errno == ECONNREFUSED && lstat(path, &st) == 0 &&
	    S_ISSOCK(st.st_mode))
		unlink(path);
	mask = umask(0177);
	err = bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : 0;
	umask(mask);
	if (err)
		return err;
	if (listen(fd, 16) < 0)
		return -errno;
	*out = steal_fd(&fd);
	return 0;
}

static int loopback_listen(struct listener *l, const char *args)
{
	char *path = args ? strdup(args) : NULL;
	int err;

	if (!path)
		return args ? -ENOMEM : -EINVAL;
	err = loopback_bind(path, SOCK_SEQPACKET, &l->fd);
	if (err)
		free(path);
	else
		l->priv = path;
	return err;
}

static int loopback_accept(struct listener *l, struct transport *t)
{
	int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return -errno;
	transport_adopt(t, fd);
	return 0;
}

static void loopback_handed(struct listener *l, struct transport *t, pid_t pid)
{
	(void)l;
	(void)pid;
	transport_fini(t);
}

static void loopback_leave(struct listener *l)
{
	close_fd(&l->fd);
	free(l->priv);
}

static void loopback_unlisten(struct listener *l)
{
	unlink(l->priv);
	loopback_leave(l);
}

static ssize_t loopback_send(struct transport *t, const struct msg *msg,
			     int fd)
{
	return fd_send(t->fd, msg, msg->len, &fd, fd >= 0 ? 1 : 0);
}

static ssize_t loopback_recv(struct transport *t, struct msg *msg, int *fd)
{
	int fds[FD_PASS_MAX];
	size_t nfds;
	ssize_t n;

	*fd = -1;
	n = fd_recv(t->fd, msg, sizeof(*msg), fds, &nfds, 0);
	/* A peer that was killed with our message unread. */
	if (n == -ECONNRESET)
		return 0;
	if (nfds > 0)
		*fd = fds[0];
	for (size_t i = 1; i < nfds; i++)
		close(fds[i]);
	return n;
}

static void loopback_close(struct transport *t)
{
	close_fd(&t->fd);
}

const struct transport_ops loopback_ops = {
	.name = "loopback",
	.connect = loopback_connect,
	.listen = loopback_listen,
	.accept = loopback_accept,
	.handed = loopback_handed,
	.leave = loopback_leave,
	.unlisten = loopback_unlisten,
	.send = loopback_send,
	.recv = loopback_recv,
	.close = loopback_close,
};
