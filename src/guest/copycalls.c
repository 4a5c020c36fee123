/* SPDX-License-Identifier: MIT */
/*
 * copycalls.c - calls that move bytes between two descriptors
 *
 * Both of one side: that side's kernel has the call. One of each: the bytes
 * go through memory of the target, read by one side and written by the other,
 * a piece at a time. Every piece is a call of the thread itself or of its
 * shadow, so it may block, and a signal ends the copy after what is done.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/num.h"
#include "guest/tracer.h"

/* Room for a piece: a device may want to give all that it has at once (a request
 * of /dev/fuse: 1 MiB and more). */
#define BOUNCE_MAX	(2u << 20)
#define COPY_MAX	0x7ffff000u	/* MAX_RW_COUNT, include/linux/fs.h */

struct end {
	int fd;
	bool host;
	bool has_off;
	uint64_t off_at;	/* GVA of the offset, 0: the file's own */
	uint64_t off;
};

struct copy {
	struct end in, out;
	uint64_t len;		/* left to do */
	uint64_t done;
	uint64_t bounce, room;	/* GVA, and bytes there */
	uint64_t piece;		/* bytes read and ... */
	uint64_t written;	/* ... of them written */
	bool last;		/* the source had no more */
	int pipe[2];		/* tee: a pipe on the source's side, or -1 */
};

static void next_piece(struct tracer *tr, struct task *t);

/* A call, at once, by the side that has the source. */
static int64_t at_source(struct tracer *tr, struct task *t, bool host,
			 uint64_t nr, uint64_t a0, uint64_t a1)
{
	uint64_t args[6] = { a0, a1 };
	int err;

	if (!host)
		return task_native(tr, t, nr, a0, a1, 0, 0, 0, 0);
	err = shadow_ready(tr, t);
	return err ? err : shadow_sync(tr, t, SLOT_CALL, nr, args, -1);
}

static void drop_pipe(struct tracer *tr, struct task *t, struct copy *c)
{
	for (int i = 0; i < 2; i++)
		if (c->pipe[i] >= 0)
			at_source(tr, t, c->in.host, SYS_close,
				  (uint64_t)c->pipe[i], 0);
}

static void finish(struct tracer *tr, struct task *t, int64_t result)
{
	struct copy *c = t->copy;

	t->copy = NULL;
	if (c->done > 0)
		result = (int64_t)c->done;
	if (c->in.has_off && result > 0)
		task_write(t, c->in.off_at, &c->in.off, sizeof(c->in.off));
	if (c->out.has_off && result > 0)
		task_write(t, c->out.off_at, &c->out.off, sizeof(c->out.off));
	drop_pipe(tr, t, c);
	mem_unmap_private(tr, t, c->bounce, c->room);
	free(c);
	task_return(tr, t, result);
}

/* A read or write by the side that has the descriptor. */
static void do_end(struct tracer *tr, struct task *t, const struct end *e,
		   bool write, uint64_t at, uint64_t len, then_fn then)
{
	uint64_t nr = e->has_off ? (write ? SYS_pwrite64 : SYS_pread64) :
				   (write ? SYS_write : SYS_read);
	uint64_t args[6] = { (uint64_t)e->fd, at, len, e->off };

	if (e->host)
		task_forward(tr, t, SLOT_CALL, nr, args, -1, then);
	else
		task_native_later(tr, t, nr, args, then);
}

static void wrote(struct tracer *tr, struct task *t, int64_t result);

static void write_rest(struct tracer *tr, struct task *t, int64_t ignored)
{
	struct copy *c = t->copy;

	(void)ignored;
	do_end(tr, t, &c->out, true, c->bounce + c->written,
	       c->piece - c->written, wrote);
}

/*
 * The sink takes no more now, and the source could not take back what was
 * read: a non-blocking copy waits here for what it has begun.
 */
static void await_sink(struct tracer *tr, struct task *t)
{
	struct copy *c = t->copy;
	struct pollfd p = { .fd = c->out.fd, .events = POLLOUT };
	uint64_t args[6] = { task_scratch(t), 1, (uint64_t)-1 };

	memcpy((char *)t->slot + SLOT_SCRATCH, &p, sizeof(p));
	if (c->out.host)
		task_forward(tr, t, SLOT_CALL, SYS_poll, args, -1, write_rest);
	else
		task_native_later(tr, t, SYS_poll, args, write_rest);
}

static void wrote(struct tracer *tr, struct task *t, int64_t result)
{
	struct copy *c = t->copy;

	if (result == -EAGAIN && !t->remote.masked && task_slot(t) == 0) {
		await_sink(tr, t);
		return;
	}
	if (result <= 0) {
		/* What was read and not written goes back where it can. */
		uint64_t args[6] = { (uint64_t)c->in.fd,
				     c->written - c->piece, SEEK_CUR };

		if (c->in.has_off)
			c->in.off -= c->piece - c->written;
		else if (c->in.host)
			shadow_sync(tr, t, SLOT_CALL, SYS_lseek, args, -1);
		else
			task_native(tr, t, SYS_lseek, args[0], args[1],
				    args[2], 0, 0, 0);
		finish(tr, t, result);
		return;
	}
	c->written += (uint64_t)result;
	c->out.off += (uint64_t)result;
	c->done += (uint64_t)result;
	c->len -= (uint64_t)result;
	if (c->written < c->piece)
		write_rest(tr, t, 0);
	else if (c->len == 0 || c->last)
		finish(tr, t, 0);
	else
		next_piece(tr, t);
}

static void got(struct tracer *tr, struct task *t, int64_t result)
{
	struct copy *c = t->copy;

	if (result <= 0) {
		finish(tr, t, result);
		return;
	}
	c->in.off += (uint64_t)result;
	c->last = (uint64_t)result < min_u64(c->len, c->room);
	c->piece = (uint64_t)result;
	c->written = 0;
	do_end(tr, t, &c->out, true, c->bounce, c->piece, wrote);
}

static void next_piece(struct tracer *tr, struct task *t)
{
	struct copy *c = t->copy;

	do_end(tr, t, &c->in, false, c->bounce, min_u64(c->len, c->room), got);
}

static int set_end(struct task *t, struct end *e, int fd, uint64_t off_at)
{
	*e = (struct end){ .fd = fd, .host = is_host_fd(t, fd),
			   .has_off = off_at != 0, .off_at = off_at };
	if (off_at && task_read(t, off_at, &e->off, sizeof(e->off)) !=
	    sizeof(e->off))
		return -EFAULT;
	return 0;
}

static mode_t type_of(struct tracer *tr, struct task *t, const struct end *e)
{
	struct stat st = { 0 };
	uint64_t args[6] = { (uint64_t)e->fd };
	char path[64];

	if (!e->host) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", t->tid, e->fd);
		return stat(path, &st) < 0 ? 0 : st.st_mode & S_IFMT;
	}
	if (shadow_ready(tr, t) < 0)
		return 0;
	args[1] = task_scratch(t);
	if (shadow_sync(tr, t, SLOT_CALL, SYS_fstat, args, -1) < 0)
		return 0;
	memcpy(&st, (char *)t->slot + SLOT_SCRATCH, sizeof(st));
	return st.st_mode & S_IFMT;
}

/* What the kernel would refuse: splice(2), sendfile(2), ... 0 or -errno. */
static int refuse(struct tracer *tr, struct task *t, const struct copy *c)
{
	mode_t in = type_of(tr, t, &c->in), out = type_of(tr, t, &c->out);
	const unsigned int flags = (unsigned int)t->args[5];

	if (!in || !out)
		return -EBADF;
	switch (t->nr) {
	case SYS_tee:
		return in != S_IFIFO || out != S_IFIFO ? -EINVAL : 0;
	case SYS_splice:
		if (in != S_IFIFO && out != S_IFIFO)
			return -EINVAL;
		if ((in == S_IFIFO && c->in.has_off) ||
		    (out == S_IFIFO && c->out.has_off))
			return -ESPIPE;
		if (in == S_IFIFO && flags & SPLICE_F_NONBLOCK && !c->in.host) {
			struct pollfd p = { .fd = c->in.fd, .events = POLLIN };

			if (task_slot(t) < 0)
				return -EAGAIN;
			memcpy((char *)t->slot + SLOT_SCRATCH, &p, sizeof(p));
			if (task_native(tr, t, SYS_poll, task_scratch(t), 1, 0,
					0, 0, 0) == 0)
				return -EAGAIN;
		}
		return 0;
	case SYS_copy_file_range:
		if (flags)
			return -EINVAL;
		if (in == S_IFDIR || out == S_IFDIR)
			return -EISDIR;
		return in != S_IFREG || out != S_IFREG ? -EINVAL : 0;
	}
	return in == S_IFIFO || in == S_IFSOCK ? -EINVAL : 0;
}

static int begin(struct tracer *tr, struct task *t, struct copy *c)
{
	const bool sendfile = t->nr == SYS_sendfile;
	int64_t at;
	int err;

	if (sendfile) {
		c->len = t->args[3];
		err = set_end(t, &c->in, (int)t->args[1], t->args[2]);
		if (!err)
			err = set_end(t, &c->out, (int)t->args[0], 0);
	} else if (t->nr == SYS_tee) {
		c->len = t->args[2];
		err = set_end(t, &c->in, (int)t->args[0], 0);
		if (!err)
			err = set_end(t, &c->out, (int)t->args[1], 0);
	} else {
		c->len = t->args[4];
		err = set_end(t, &c->in, (int)t->args[0], t->args[1]);
		if (!err)
			err = set_end(t, &c->out, (int)t->args[2], t->args[3]);
	}
	if (!err)
		err = refuse(tr, t, c);
	if (err || c->len == 0)
		return err;
	c->len = min_u64(c->len, COPY_MAX);
	c->room = page_up(min_u64(c->len, BOUNCE_MAX));
	at = mem_map_private(tr, t, c->room);
	if (at < 0 && at > -4096)
		return (int)at;
	c->bounce = (uint64_t)at;
	return 0;
}

/*
 * tee: the source's side duplicates into a pipe of its own, which is then
 * read: the source keeps what it had.
 */
static void teed(struct tracer *tr, struct task *t, int64_t result)
{
	struct copy *c = t->copy;

	if (result <= 0) {
		finish(tr, t, result);
		return;
	}
	c->len = (uint64_t)result;
	c->in.fd = c->pipe[0];
	next_piece(tr, t);
}

static void begin_tee(struct tracer *tr, struct task *t)
{
	struct copy *c = t->copy;
	int64_t r = at_source(tr, t, c->in.host, SYS_pipe2, c->bounce,
			      O_CLOEXEC);
	uint64_t args[6] = { (uint64_t)c->in.fd, 0, c->len, t->args[3] };

	if (r == 0)
		r = task_read(t, c->bounce, c->pipe, sizeof(c->pipe));
	if (r < 0) {
		finish(tr, t, r);
		return;
	}
	/* No more than its pipe holds, or it would wait for a reader. */
	args[2] = min_u64(c->len, 65536);
	args[1] = (uint64_t)c->pipe[1];
	if (c->in.host)
		task_forward(tr, t, SLOT_CALL, SYS_tee, args, -1, teed);
	else
		task_native_later(tr, t, SYS_tee, args, teed);
}

void call_copy(struct tracer *tr, struct task *t)
{
	const int a = (int)t->args[0];
	const int b = (int)t->args[t->nr == SYS_sendfile || t->nr == SYS_tee ?
				   1 : 2];
	struct copy *c;
	int err;

	if (is_hidden_fd(tr, a) || is_hidden_fd(tr, b) ||
	    is_host_fd(t, a) == is_host_fd(t, b)) {
		call_general(tr, t);
		return;
	}
	/* As file systems say that have no way of their own. */
	if (fuse_file(tr, t, a) || fuse_file(tr, t, b)) {
		task_return(tr, t, t->nr == SYS_copy_file_range ? -EXDEV :
							       -EINVAL);
		return;
	}
	c = calloc(1, sizeof(*c));
	if (c)
		c->pipe[0] = c->pipe[1] = -1;
	err = c ? begin(tr, t, c) : -ENOMEM;
	if (err || c->len == 0) {
		free(c);
		task_return(tr, t, err);
		return;
	}
	t->copy = c;
	if (t->nr == SYS_tee)
		begin_tee(tr, t);
	else
		next_piece(tr, t);
}
