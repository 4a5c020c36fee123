/* SPDX-License-Identifier: MIT */
/*
 * stub.c - what the stub decides about a call, on a lane's stack (gate.S)
 *
 * Freestanding, no writable memory but the lane, no vector registers. What
 * cannot be decided here, quickly and for certain, is the tracer's.
 */
#include <asm/unistd_64.h>

#include "capsule/abi.h"

/* fcntl.h and sys/ioctl.h are not for freestanding code. */
#define O_CREAT		0100
#define O_EXCL		0200
#define O_NOFOLLOW	0400000
#define O_CLOEXEC	02000000
#define F_DUPFD		0
#define F_GETFD		1
#define F_SETFD		2
#define F_GETLK		5
#define F_DUPFD_CLOEXEC	1030
#define FIONCLEX	0x5450
#define FIOCLEX		0x5451
#define AT_FDCWD	(-100)
#define AT_SYMLINK_NOFOLLOW	0x100
#define AT_SYMLINK_FOLLOW	0x400
#define AT_EMPTY_PATH	0x1000
#define PATH_BYTES	4096	/* PATH_MAX */

/* At its place behind the gate (the linker is told): one an address space. */
extern struct stub_ctl stub_ctl __attribute__((visibility("hidden")));

uint64_t stub_decide(struct slot *lane);
void stub_undo(struct slot *lane);
void stub_finish(struct slot *lane);

/* A call from here, which is not traced. */
static long call4(long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	register uint64_t r10 __asm__("r10") = d;
	long r;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10)
			 : "rcx", "r11", "memory");
	return r;
}

/* A path, and the part of it that names the directory. */
struct path {
	const char *text;
	uint32_t len, dir;	/* dir: with the last slash, or 0 */
	int dots;		/* there is a ".." */
};

static int is_in(const uint32_t *set, uint32_t fd)
{
	return fd < STUB_FDS && set[fd / 32] >> fd % 32 & 1;
}

/*
 * In the shadow the capsule stands where the target has nothing: the tracer
 * looks closer.
 */
static int aims_at_capsule(const struct slot *lane)
{
	unsigned int pointers = stub_ctl.what[lane->nr] & 0x3f;

	for (int i = 0; pointers; i++, pointers >>= 1)
		if (pointers & 1 &&
		    lane->args[i] - CAPSULE_BASE < CAPSULE_SIZE)
			return 1;
	return 0;
}

static uint64_t forward(struct slot *lane)
{
	if (!stub_ctl.ready || aims_at_capsule(lane))
		return DECIDED_TRAP;
	lane->op = SLOT_CALL;
	return DECIDED_FORWARD;
}

/* --- notes ------------------------------------------------------------------ */

/* NULL: the tracer has to write some down first. */
static struct stub_note *take_note(struct slot *lane, int fd, int closed)
{
	for (uint32_t i = 0; i < STUB_NOTES; i++) {
		struct stub_note *n = &stub_ctl.notes[i];
		uint32_t free = NOTE_FREE;

		if (n->state != NOTE_FREE ||
		    !__atomic_compare_exchange_n(&n->state, &free, NOTE_TAKEN,
						 0, __ATOMIC_SEQ_CST,
						 __ATOMIC_SEQ_CST))
			continue;
		n->order = __atomic_add_fetch(&stub_ctl.order, 1,
					      __ATOMIC_SEQ_CST);
		n->fd = fd;
		n->closed = closed;
		lane->note = i + 1;
		return n;
	}
	lane->note = 0;
	return 0;
}

static void settle_note(struct slot *lane, uint32_t state)
{
	if (!lane->note)
		return;
	__atomic_store_n(&stub_ctl.notes[lane->note - 1].state, state,
			 __ATOMIC_SEQ_CST);
	if (state == NOTE_TRUE)
		__atomic_add_fetch(&stub_ctl.ntrue, 1, __ATOMIC_SEQ_CST);
	lane->note = 0;
}

static void set_bit(uint32_t *set, uint32_t fd, int on)
{
	if (on)
		__atomic_fetch_or(&set[fd / 32], 1u << fd % 32,
				  __ATOMIC_SEQ_CST);
	else
		__atomic_fetch_and(&set[fd / 32], ~(1u << fd % 32),
				   __ATOMIC_SEQ_CST);
}

/* --- descriptors -------------------------------------------------------------- */

static uint64_t finish_early(struct slot *lane, long value)
{
	lane->value = value;
	lane->stage = STAGE_DONE;
	return DECIDED_DONE;
}

/* Nothing has been published: as if nothing had been begun. */
void stub_undo(struct slot *lane)
{
	const uint32_t fd = lane->newfd;

	lane->post = 0;		/* the tracer has the signal in mind */
	if (lane->stage == STAGE_NONE)
		return;
	settle_note(lane, NOTE_FREE);
	if (lane->op != SLOT_CLOSE)
		call4(__NR_close, fd, 0, 0, 0);
	lane->stage = STAGE_NONE;
}

/* The shadow has opened or closed. */
void stub_finish(struct slot *lane)
{
	const uint32_t fd = lane->newfd;

	if (lane->op == SLOT_CLOSE) {
		/* In this order: what is not simply the target's is not read
		 * as if it were. */
		set_bit(stub_ctl.hosts, fd, 0);
		set_bit(stub_ctl.trees, fd, 0);
		set_bit(stub_ctl.fds, fd, 0);
		settle_note(lane, NOTE_TRUE);
		call4(__NR_close, fd, 0, 0, 0);
	} else if (lane->value < 0) {
		settle_note(lane, NOTE_FREE);
		call4(__NR_close, fd, 0, 0, 0);
	} else {
		set_bit(stub_ctl.fds, fd, 1);
		set_bit(stub_ctl.hosts, fd, 1);
		set_bit(stub_ctl.trees, fd, !stub_ctl.all);
		settle_note(lane, NOTE_TRUE);
	}
	lane->stage = STAGE_DONE;
}

/*
 * A call that makes a descriptor. The target's number for it is the lowest that
 * is free, taken by a placeholder; the shadow's moves there. p NULL: it is a copy
 * of dirfd.
 */
static uint64_t new_fd(struct slot *lane, uint64_t cloexec, uint64_t lowest,
		       const struct path *p, uint32_t dirfd, uint64_t flags)
{
	struct stub_note *n;
	long fd;

	if (!stub_ctl.ready)
		return DECIDED_TRAP;
	lane->stage = STAGE_BEGUN;
	lane->op = SLOT_OPEN;
	fd = call4(__NR_fcntl, (uint64_t)stub_ctl.placeholder,
		   cloexec ? F_DUPFD_CLOEXEC : F_DUPFD, lowest, 0);
	if (fd < 0)
		return finish_early(lane, fd);
	n = fd < STUB_FDS ? take_note(lane, (int)fd, 0) : 0;
	lane->newfd = (uint32_t)fd;
	if (!n) {
		stub_undo(lane);
		return DECIDED_TRAP;
	}
	n->flags = (int)flags;
	n->dirfd = (int)dirfd;
	n->text[0] = '\0';
	for (uint32_t i = 0; p && i <= p->len; i++)
		n->text[i] = p->text[i];
	return DECIDED_FORWARD;
}

static uint64_t copy_host(struct slot *lane, uint64_t cloexec, uint64_t lowest)
{
	lane->nr = __NR_dup;
	return new_fd(lane, cloexec, lowest, 0, (uint32_t)lane->args[0], 0);
}

/* The shadow's goes first, then the placeholder: stub_finish(). */
static uint64_t close_host(struct slot *lane)
{
	if (!stub_ctl.ready || !take_note(lane, (int)lane->args[0], 1))
		return DECIDED_TRAP;
	lane->op = SLOT_CLOSE;
	lane->stage = STAGE_BEGUN;
	lane->newfd = (uint32_t)lane->args[0];
	return DECIDED_FORWARD;
}

/* Close-on-exec is the placeholder's, new numbers are the target's. */
static uint64_t by_command(struct slot *lane)
{
	const uint32_t command = (uint32_t)lane->args[1];

	if (lane->nr == __NR_ioctl)
		return command == FIOCLEX || command == FIONCLEX ?
		       DECIDED_TRAP : forward(lane);
	switch (command) {
	case F_GETFD:
	case F_SETFD:
		return DECIDED_LOCAL;
	case F_DUPFD:
	case F_DUPFD_CLOEXEC:
		return copy_host(lane, command == F_DUPFD_CLOEXEC,
				 lane->args[2]);
	case F_GETLK:		/* has to name the owner of a lock */
		return DECIDED_TRAP;
	}
	return forward(lane);
}

/* By a descriptor that is not simply the target's own. */
static uint64_t by_descriptor(struct slot *lane)
{
	const uint32_t fd = (uint32_t)lane->args[0];

	if (!(stub_ctl.what[lane->nr] & STUB_MAY_FORWARD) ||
	    !is_in(stub_ctl.hosts, fd))
		return DECIDED_TRAP;
	if (lane->nr == __NR_fcntl || lane->nr == __NR_ioctl)
		return by_command(lane);
	if (lane->nr == __NR_close)
		return close_host(lane);
	if (lane->nr == __NR_dup)
		return copy_host(lane, 0, 0);
	return forward(lane);
}

/* --- paths ---------------------------------------------------------------- */

/*
 * Reads a path as far as memory is known to be readable; false: the tracer has
 * to look at it. What it ends with is a name, not "." or "..", or it is empty.
 */
static int read_path(uint64_t at, struct path *p)
{
	const char *text = (const char *)at;
	uint64_t room = 0;
	uint32_t i = 0, begin = 0;

	for (int k = 0; k < STUB_RANGES && !room; k++) {
		const struct stub_range *r = &stub_ctl.readable[k];

		if (r->start <= at && at < r->end)
			room = r->end - at;
	}
	*p = (struct path){ .text = text };
	for (;; i++) {
		if (i == room || i == PATH_BYTES)
			return 0;
		if (text[i] && text[i] != '/')
			continue;
		if (i - begin == 2 && text[begin] == '.' &&
		    text[begin + 1] == '.')
			p->dots = 1;
		if (!text[i])
			break;
		begin = i + 1;
	}
	p->len = i;
	p->dir = begin;
	if (!i)
		return 1;
	/* A final slash, ".", "..": what they lead to is more than a name. */
	return i > begin && !(text[begin] == '.' &&
			      (i - begin == 1 ||
			       (i - begin == 2 && text[begin + 1] == '.')));
}

static uint32_t known_dir(const struct path *p, uint32_t relative)
{
	const struct stub_dir *d;
	uint32_t seq, verdict;

	if (p->dir > STUB_DIR_MAX)
		return STUB_DIR_UNKNOWN;
	d = &stub_ctl.dirs[stub_dir_slot(p->text, p->dir, relative)];
	seq = __atomic_load_n(&d->seq, __ATOMIC_ACQUIRE);
	if (seq & 1 || d->generation != stub_ctl.generation ||
	    d->len != p->dir || d->relative != relative)
		return STUB_DIR_UNKNOWN;
	for (uint32_t i = 0; i < p->dir; i++)
		if (d->text[i] != p->text[i])
			return STUB_DIR_UNKNOWN;
	verdict = d->verdict;
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return d->seq == seq ? verdict : STUB_DIR_UNKNOWN;
}

/* Whose is what the path names? dirfd: AT_FDCWD where the call has none. */
static uint32_t whose(const struct path *p, uint32_t dirfd)
{
	const int at_cwd = dirfd == (uint32_t)AT_FDCWD;

	if (p->text[0] == '/')
		return known_dir(p, 0);
	if (at_cwd ? stub_ctl.cwd == STUB_DIR_HOST :
		     is_in(stub_ctl.trees, dirfd))
		return p->dots ? STUB_DIR_UNKNOWN : STUB_DIR_HOST;
	if (!at_cwd || stub_ctl.cwd != STUB_DIR_LOCAL)
		return STUB_DIR_UNKNOWN;
	return p->dir ? known_dir(p, 1) : STUB_DIR_LOCAL;
}

/* A local name: is it that of a symbolic link, which may lead elsewhere? */
static int is_link(const struct slot *lane, uint64_t dirfd, uint64_t path)
{
	return call4(__NR_readlinkat, dirfd, path,
		     (uint64_t)((const char *)lane + SLOT_ASIDE), 1) >= 0;
}

/* What is noted of a copy is of whom: text is empty. */
static uint64_t open_host(struct slot *lane, const struct path *p,
			  uint32_t dirfd, uint64_t flags)
{
	if (p->len >= STUB_NOTE_MAX || aims_at_capsule(lane))
		return DECIDED_TRAP;
	return new_fd(lane, flags & O_CLOEXEC, 0, p, dirfd, flags);
}

static uint64_t by_path(struct slot *lane)
{
	const uint32_t what = stub_ctl.path[lane->nr];
	const uint32_t i = what & STUB_PATH_INDEX;
	const uint32_t dirfd = what & STUB_PATH_DIRFD ?
			       (uint32_t)lane->args[i - 1] :
			       (uint32_t)AT_FDCWD;
	const int opens = stub_ctl.class[lane->nr] == STUB_OPEN;
	const uint64_t last = what >> STUB_PATH_FLAGS ?
			      lane->args[what >> STUB_PATH_FLAGS] : 0;
	const uint64_t flags = opens ? 0 : last;
	int follow = what & STUB_PATH_FOLLOW;
	uint32_t side;
	struct path p;

	if (!read_path(lane->args[i], &p))
		return DECIDED_TRAP;
	if (p.len)
		side = whose(&p, dirfd);
	else if (!(flags & AT_EMPTY_PATH))
		return DECIDED_TRAP;
	else	/* the descriptor itself */
		side = is_in(stub_ctl.hosts, dirfd) ? STUB_DIR_HOST :
		       dirfd < STUB_FDS && !is_in(stub_ctl.fds, dirfd) ?
		       STUB_DIR_LOCAL : STUB_DIR_UNKNOWN;
	if (side == STUB_DIR_HOST)
		return opens ? open_host(lane, &p, dirfd, last) : forward(lane);
	if (side != STUB_DIR_LOCAL)
		return DECIDED_TRAP;
	if (flags & AT_SYMLINK_NOFOLLOW)
		follow = 0;
	else if (flags & AT_SYMLINK_FOLLOW)
		follow = 1;
	if (opens && (last & O_NOFOLLOW ||
		      (last & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL)))
		follow = 0;
	if (p.len && follow && is_link(lane, dirfd, lane->args[i]))
		return DECIDED_TRAP;
	return DECIDED_LOCAL;
}

uint64_t stub_decide(struct slot *lane)
{
	const uint8_t class = stub_ctl.class[lane->nr];

	return class == STUB_PATH || class == STUB_OPEN ? by_path(lane) :
							  by_descriptor(lane);
}
