/* SPDX-License-Identifier: MIT */
/* files.c - host descriptors and working directories of targets */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "guest/path.h"
#include "guest/tracer.h"

#define HOSTFDS_MAX (1 << 20)	/* fs.nr_open */

struct files *files_new(const struct tracer *tr)
{
	struct files *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->refs = 1;
	f->tr = tr;
	return f;
}

void files_unref(struct files *f)
{
	if (!f || --f->refs)
		return;
	for (size_t i = 0; i < f->n; i++)
		free(f->v[i].path);
	free(f->v);
	free(f);
}

struct files *files_copy(const struct files *from)
{
	struct files *f = files_new(from->tr);

	for (size_t i = 0; f && i < from->n; i++) {
		if (!from->v[i].path)
			continue;
		if (files_set(f, (int)i, from->v[i].path,
			      from->v[i].flags) < 0) {
			files_unref(f);
			return NULL;
		}
	}
	return f;
}

const struct hostfd *files_get(const struct files *f, int fd)
{
	if (fd < 0 || (size_t)fd >= f->n || !f->v[fd].path)
		return NULL;
	return &f->v[fd];
}

struct hostfd *files_at(struct files *f, int fd)
{
	return files_get(f, fd) ? &f->v[fd] : NULL;
}

int files_set(struct files *f, int fd, const char *path, int flags)
{
	char *copy = strdup(path);

	if (!copy || fd < 0 || fd >= HOSTFDS_MAX) {
		free(copy);
		return -ENOMEM;
	}
	if ((size_t)fd >= f->n) {
		size_t n = ((size_t)fd + 64) & ~(size_t)63;
		struct hostfd *v = realloc(f->v, n * sizeof(*v));

		if (!v) {
			free(copy);
			return -ENOMEM;
		}
		memset(v + f->n, 0, (n - f->n) * sizeof(*v));
		f->v = v;
		f->n = n;
	}
	files_clear(f, fd);
	f->v[fd] = (struct hostfd){ .path = copy, .flags = flags,
				    .tree = !path_is_mixed(f->tr, path) };
	f->nhost++;
	stub_set_fd(f->ctl, fd, &f->v[fd]);
	return 0;
}

void files_clear(struct files *f, int fd)
{
	if (!files_get(f, fd))
		return;
	free(f->v[fd].path);
	f->v[fd] = (struct hostfd){ 0 };
	f->nhost--;
	stub_set_fd(f->ctl, fd, NULL);
}

uint32_t files_free_made(const struct files *f, unsigned int nthreads)
{
	uint32_t count = nthreads < SLOT_MAKES_MAX ? nthreads : SLOT_MAKES_MAX;
	int fd = SHADOW_FD_BASE;

	while (files_get(f, fd) || fd == SHADOW_FD_ROOM)
		fd++;
	/* Not more than are free in a row, or else one that is not: then the
	 * answer is that there may be new ones. */
	for (uint32_t i = 1; i < count; i++)
		if (files_get(f, fd + (int)i))
			return (uint32_t)(fd + (int)i) | 1u << SLOT_MAKES_COUNT;
	return (uint32_t)fd | count << SLOT_MAKES_COUNT;
}

struct fs *fs_new(void)
{
	struct fs *fs = calloc(1, sizeof(*fs));

	if (fs)
		fs->refs = 1;
	return fs;
}

struct fs *fs_copy(const struct fs *from)
{
	struct fs *fs = fs_new();

	if (!fs)
		return NULL;
	fs->host = from->host;
	fs->umask = from->umask;
	fs->cwd = from->cwd ? strdup(from->cwd) : NULL;
	if (from->cwd && !fs->cwd) {
		free(fs);
		return NULL;
	}
	return fs;
}

void fs_unref(struct fs *fs)
{
	if (!fs || --fs->refs)
		return;
	free(fs->cwd);
	free(fs);
}

#define FETCH_CHUNK (64u << 10)

/* The file's bytes, by way of a chunk of the target's memory. */
static int copy_bytes(struct tracer *tr, struct task *t, int fd, int to,
		      uint64_t at)
{
	char buf[FETCH_CHUNK];
	uint64_t args[6] = { (uint64_t)fd, at, sizeof(buf) };
	const struct forward_call call = { SYS_pread64, args };
	int ready = shadow_ready_for(tr, t, &call);

	if (ready)
		return ready;
	for (;;) {
		int64_t n = shadow_sync(tr, t, SLOT_CALL, SYS_pread64, args,
					-1);
		int err;

		if (n <= 0)
			return (int)n;
		if ((uint64_t)n > sizeof(buf) ||
		    task_read(t, at, buf, (size_t)n) != n)
			return -EIO;
		err = fd_pwrite_all(to, buf, (size_t)n, args[3]);
		if (err)
			return err;
		args[3] += (uint64_t)n;
	}
}

/*
 * In a VM no descriptor crosses, and the host's pages are not the guest's: a
 * regular file that is executed or mapped privately is copied.
 */
static int copy_host_file(struct tracer *tr, struct task *t, int fd)
{
	uint64_t args[6] = { (uint64_t)fd, task_scratch(t) };
	int to cleanup_fd = memfd_create("darkshadow-copy", MFD_CLOEXEC);
	struct stat st;
	int64_t at, r;
	int err;

	if (to < 0)
		return -errno;
	r = shadow_sync(tr, t, SLOT_CALL, SYS_fstat, args, -1);
	if (r < 0)
		return (int)r;
	memcpy(&st, (char *)t->slot + SLOT_SCRATCH, sizeof(st));
	if (!S_ISREG(st.st_mode))
		return -ENODEV;
	fchmod(to, st.st_mode & 0777);
	at = mem_map_private(tr, t, FETCH_CHUNK);
	if (at < 0)
		return (int)at;
	err = copy_bytes(tr, t, fd, to, (uint64_t)at);
	mem_unmap_private(tr, t, (uint64_t)at, FETCH_CHUNK);
	return err ? err : steal_fd(&to);
}

int fd_fetch_host(struct tracer *tr, struct task *t, int fd)
{
	struct msg m = { .type = MSG_GETFD };
	int got = -1, err;

	if (tracer_in_vm(tr))
		return copy_host_file(tr, t, fd);
	m.fd.shadow = t->proc->shadow;
	m.fd.fd = (uint32_t)fd;
	err = client_request(&tr->client, &m, -1, &got);
	return err ? err : got < 0 ? -EBADF : got;
}

int fd_fetch(struct tracer *tr, struct task *t, int fd)
{
	int pidfd cleanup_fd = -1;
	int got;

	if (is_host_fd(t, fd)) {
		int err = shadow_ready(tr, t);

		return err ? err : fd_fetch_host(tr, t, fd);
	}
	/* By the thread (PIDFD_THREAD, Linux 6.9): the first one may be gone. */
	pidfd = (int)syscall(SYS_pidfd_open, t->tid, O_EXCL);
	if (pidfd < 0)
		pidfd = (int)syscall(SYS_pidfd_open, t->proc->pid, 0);
	if (pidfd < 0)
		return -errno;
	got = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	return got < 0 ? -errno : got;
}

bool fd_is_open(const struct task *t, int fd)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", t->tid, fd);
	return faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/*
 * The way that needs no privilege and no path: sent over the hidden socket,
 * received by a call made in the target. The message header and its room for
 * the descriptor stand aside of the task's scratch.
 */
int fd_install(struct tracer *tr, struct task *t, int fd)
{
	struct {
		struct msghdr msg;
		struct iovec iov;
		char byte;
		union {
			char buf[CMSG_SPACE(sizeof(int))];
			struct cmsghdr align;
		} ctl;
	} *m;
	uint64_t at;
	int64_t n;
	int there, err = task_slot(t);

	if (err)
		return err;
	if (fd_send(tr->sock, "", 1, &fd, 1) != 1)
		return -EIO;
	at = task_slot_gva(t) + SLOT_ASIDE;
	m = (void *)((char *)t->slot + SLOT_ASIDE);
	memset(m, 0, sizeof(*m));
	m->iov.iov_base = (void *)(at + offsetof(typeof(*m), byte));
	m->iov.iov_len = 1;
	m->msg.msg_iov = (void *)(at + offsetof(typeof(*m), iov));
	m->msg.msg_iovlen = 1;
	m->msg.msg_control = (void *)(at + offsetof(typeof(*m), ctl));
	m->msg.msg_controllen = sizeof(m->ctl);
	n = task_native(tr, t, SYS_recvmsg, hidden_fd(tr, HIDDEN_SOCK), at,
			MSG_CMSG_CLOEXEC | MSG_DONTWAIT, 0, 0, 0);
	if (n != 1) {
		char byte;

		/* The next to receive would take it for its own. */
		(void)!recv(tr->sock_there, &byte, 1, MSG_DONTWAIT);
		return n < 0 ? (int)n : -EIO;
	}
	if (m->msg.msg_controllen < CMSG_LEN(sizeof(int)))
		return -EMFILE;	/* the kernel had no number for it */
	memcpy(&there, CMSG_DATA(&m->ctl.align), sizeof(there));
	return there;
}
