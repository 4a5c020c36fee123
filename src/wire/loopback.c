/* SPDX-License-Identifier: MIT */
/* loopback.c - tracer and daemon on one machine: an AF_UNIX seqpacket pair */
#include "wire/loopback.h"

#include <errno.h>
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

static int loopback_listen(const char *args, int *out)
{
	int fd cleanup_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct transport probe;
	struct sockaddr_un addr;
	struct stat st;
	mode_t mask;
	int err = address(args, &addr);

	if (err)
		return err;
	if (fd < 0)
		return -errno;
	/* A socket file that nobody listens on is what a killed daemon left. */
	err = loopback_connect(&probe, args);
	if (!err) {
		transport_fini(&probe);
		return -EADDRINUSE;
	}
	if (err == -ECONNREFUSED && lstat(args, &st) == 0 &&
	    S_ISSOCK(st.st_mode))
		unlink(args);
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

static int loopback_accept(struct transport *t, int listen_fd)
{
	int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return -errno;
	transport_adopt(t, fd);
	return 0;
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
	.send = loopback_send,
	.recv = loopback_recv,
	.close = loopback_close,
};
