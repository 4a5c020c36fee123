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
	return forward(lane);
}

/* --- paths ---------------------------------------------------------------- */

/* A path, and the part of it that names the directory. */
struct path {
	const char *text;
	uint32_t len, dir;	/* dir: with the last slash, or 0 */
	int dots;		/* there is a ".." */
};

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
	char *const target = (char *)lane + SLOT_ASIDE;
	long r;
	register long r10 __asm__("r10") = 1;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "a"(__NR_readlinkat), "D"(dirfd), "S"(path),
			   "d"(target), "r"(r10)
			 : "rcx", "r11", "memory");
	return r >= 0;
}

static uint64_t by_path(struct slot *lane)
{
	const uint32_t what = stub_ctl.path[lane->nr];
	const uint32_t i = what & STUB_PATH_INDEX;
	const uint32_t dirfd = what & STUB_PATH_DIRFD ?
			       (uint32_t)lane->args[i - 1] :
			       (uint32_t)AT_FDCWD;
	const uint64_t flags = what >> STUB_PATH_FLAGS ?
			       lane->args[what >> STUB_PATH_FLAGS] : 0;
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
		return forward(lane);
	if (side != STUB_DIR_LOCAL)
		return DECIDED_TRAP;
	if (flags & AT_SYMLINK_NOFOLLOW)
		follow = 0;
	else if (flags & AT_SYMLINK_FOLLOW)
		follow = 1;
	if (p.len && follow && is_link(lane, dirfd, lane->args[i]))
		return DECIDED_TRAP;
	return DECIDED_LOCAL;
}

uint64_t stub_decide(struct slot *lane)
{
	return stub_ctl.class[lane->nr] == STUB_PATH ? by_path(lane) :
						       by_descriptor(lane);
}
