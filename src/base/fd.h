/* SPDX-License-Identifier: MIT */
/* fd.h - owning file descriptors, reading and writing all of something */
#ifndef BASE_FD_H
#define BASE_FD_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

static inline void cleanup_fd_fn(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void cleanup_free_fn(void *p)
{
	free(*(void **)p);
}

/* int fd cleanup_fd = -1; closes it at the end of the scope */
#define cleanup_fd	__attribute__((cleanup(cleanup_fd_fn)))
#define cleanup_free	__attribute__((cleanup(cleanup_free_fn)))

/* steal_fd() - take a descriptor out of its owner, which holds -1 after it */
static inline int steal_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

/* close_fd() - close what is open, and remember that it is not any more */
static inline void close_fd(int *fd)
{
	if (*fd >= 0)
		close(steal_fd(fd));
}

/* fd_reopen() - another open file of the same: a descriptor, or -errno */
int fd_reopen(int fd, int flags);

/*
 * fd_read_all() - a whole (small) file as a NUL-terminated string
 *
 * Returns its length and *out, to be freed by the caller, or -errno. A file
 * of more than max bytes is -EFBIG.
 */
ssize_t fd_read_all(const char *path, size_t max, char **out);

/*
 * fd_create_at() - a new, empty file to write and read, in place of any that
 * has this name: a link is not followed, and nobody else has it open
 *
 * A descriptor, or -errno.
 */
int fd_create_at(int dirfd, const char *name);

/*
 * fd_stream() - a descriptor, or -errno, as a stream that owns it
 *
 * NULL, and errno, if it was none or cannot be; then it is closed.
 */
FILE *fd_stream(int fd, const char *mode);

/* fd_write_all() - 0 once every byte is written at off, or -errno */
int fd_pwrite_all(int fd, const void *buf, size_t len, uint64_t off);

/*
 * fd_send(), fd_recv() - one datagram with up to FD_PASS_MAX descriptors
 * over an AF_UNIX socket. Sent descriptors stay the caller's. Received ones
 * are the caller's, close-on-exec. Return bytes, or -errno; fd_recv() gives
 * 0 when the peer has gone.
 */
#define FD_PASS_MAX 4
ssize_t fd_send(int sock, const void *buf, size_t len, const int *fds,
		size_t nfds);
ssize_t fd_recv(int sock, void *buf, size_t len, int *fds, size_t *nfds,
		int flags);

#endif
