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
#define F_GETFL		3
#define F_SETFL		4
#define F_GETLK		5
#define F_SETOWN	8
#define F_GETOWN	9
#define F_SETSIG	10
#define F_GETSIG	11
#define F_SETOWN_EX	15
#define F_GETOWN_EX	16
#define F_DUPFD_CLOEXEC	1030
#define FIONCLEX	0x5450
#define FIOCLEX		0x5451
#define AT_FDCWD	(-100)
#define AT_SYMLINK_NOFOLLOW	0x100
#define AT_SYMLINK_FOLLOW	0x400
#define AT_EMPTY_PATH	0x1000
#define PATH_BYTES	4096	/* PATH_MAX */
#define PROT_RW		3	/* PROT_READ | PROT_WRITE */
#define MAP_SHARED	0x01
#define MAP_PRIVATE	0x02
#define MAP_ANONYMOUS	0x20
#define MAP_NORESERVE	0x4000
#define MAP_STACK	0x20000
#define MADV_DONTNEED	4
#define MADV_FREE	8
#define CLONE_OF_THREAD	0x10f00	/* CLONE_VM, FS, FILES, SIGHAND and THREAD */
#define CLONE_TOLD	0x8040ff	/* CLONE_UNTRACED, VFORK, and a signal */
#define PUNCH_HOLE	3	/* FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE */
#define PAGE		4096
#define LANE_LOOKS	64	/* for a lane with an executor, before a pause */
#define LANE_PAUSES	8	/* until it is asked whether others get on, ... */
#define LANE_ROUNDS	16	/* ... so often: 10 ms */
#define STILL_PAUSES	16	/* for the tracer to be done with memory */
#define PAUSE_NS	20000	/* some 70 us, by the kernel's slack */
#define ROOMS		4	/* times as many offsets as a mapping needs: to grow
				 * into, or for those that follow it */

/* At its place behind the gate (the linker is told): one an address space. */
extern struct stub_ctl stub_ctl __attribute__((visibility("hidden")));
extern char stub_lanes[] __attribute__((visibility("hidden")));
_Static_assert(SLOT_BASE - GATE_BASE == 0x400000 &&
	       LANE_FIRST * SLOT_STRIDE == 0x10000, "gate.ld");

/* What is decided, and the lane that has it: in rax and rdx. */
struct decision {
	uint64_t decided;
	struct slot *lane;
};

struct decision stub_decide(struct slot *lane);
void stub_undo(struct slot *lane);
void stub_finish(struct slot *lane);

/* A call from here, which is not traced. */
static long call6(long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
		  uint64_t e, uint64_t f)
{
	register uint64_t r10 __asm__("r10") = d;
	register uint64_t r8 __asm__("r8") = e;
	register uint64_t r9 __asm__("r9") = f;
	long r;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8),
			   "r"(r9)
			 : "rcx", "r11", "memory");
	return r;
}

static long call4(long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	return call6(nr, a, b, c, d, 0, 0);
}

static void sleep_for(int64_t ns)
{
	const int64_t pause[2] = { 0, ns };

	call4(__NR_nanosleep, (uint64_t)pause, 0, 0, 0);
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
	unsigned int pointers = stub_ctl.what[lane->nr] & STUB_POINTERS;

	for (int i = 0; pointers; i++, pointers >>= 1)
		if (pointers & 1 &&
		    lane->args[i] - CAPSULE_BASE < CAPSULE_SIZE)
			return 1;
	return 0;
}

/* Has the shadow all that is mapped? Otherwise: what shadowed says. */
static int is_told(void)
{
	/* In this order: the tracer clears told before it counts down. */
	return !__atomic_load_n(&stub_ctl.nyoung, __ATOMIC_ACQUIRE) &&
	       __atomic_load_n(&stub_ctl.told, __ATOMIC_ACQUIRE);
}

static int is_shadowed(uint64_t at, uint64_t len)
{
	for (int i = 0; i < STUB_RANGES; i++) {
		const struct stub_range *r = &stub_ctl.shadowed[i];
		const uint64_t end = __atomic_load_n(&r->end, __ATOMIC_ACQUIRE);
		const uint64_t start = __atomic_load_n(&r->start,
						       __ATOMIC_ACQUIRE);

		if (start <= at && at < end && len <= end - at &&
		    __atomic_load_n(&r->end, __ATOMIC_ACQUIRE) == end)
			return 1;
	}
	return len == 0;
}

/*
 * Is all that the call points to in the shadow? not: bits of arguments that point
 * to the lane, or to nothing.
 */
static int has_shadow(const struct slot *lane, unsigned int not)
{
	const unsigned int what = stub_ctl.what[lane->nr];
	const unsigned int sized = stub_ctl.sized[lane->nr];
	const unsigned int pointers = what & STUB_POINTERS & ~not;

	if (is_told())
		return 1;
	if (what & STUB_FAR)
		return 0;
	/* Who takes memory from the shadow looks at the arguments of lanes when
	 * it is no more in shadowed (keep_budget() in guest/vmcalls.c). */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	for (int i = 0; pointers >> i; i++) {
		const uint64_t len = sized >> i & 1 ? lane->args[i + 1] :
				     lane->args[i] ? STUB_STRUCT : 0;

		if (pointers >> i & 1 && !is_shadowed(lane->args[i], len))
			return 0;
	}
	return 1;
}

static struct slot *nth_lane(uint32_t i)
{
	return (struct slot *)(stub_lanes + (uint64_t)i * SLOT_STRIDE);
}

static uint32_t lane_number(const struct slot *lane)
{
	return (uint32_t)(((const char *)lane - stub_lanes) / SLOT_STRIDE);
}

static int is_manned(const struct slot *lane)
{
	return lane_number(lane) < stub_ctl.nmanned;
}

static uint64_t forward(struct slot *lane, unsigned int not)
{
	if (!stub_ctl.ready || aims_at_capsule(lane) || !has_shadow(lane, not))
		return DECIDED_TRAP;
	if (!is_manned(lane))
		return DECIDED_WAIT;
	lane->op = SLOT_CALL;
	return DECIDED_FORWARD;
}

/* --- notes ------------------------------------------------------------------ */

static uint64_t next_order(void)
{
	return __atomic_add_fetch(&stub_ctl.order, 1, __ATOMIC_SEQ_CST);
}

/* The head of an entry of v that is free, or NULL: the tracer has to write some
 * down first. */
static struct stub_log *take_log(void *v, uint32_t n, uint32_t size)
{
	for (uint32_t i = 0; i < n; i++) {
		struct stub_log *log = (void *)((char *)v + i * size);
		uint32_t free = LOG_FREE;

		if (log->state != LOG_FREE ||
		    !__atomic_compare_exchange_n(&log->state, &free, LOG_TAKEN,
						 0, __ATOMIC_SEQ_CST,
						 __ATOMIC_SEQ_CST))
			continue;
		log->order = next_order();
		return log;
	}
	return 0;
}

static void settle_log(struct stub_log *log, uint32_t state)
{
	__atomic_store_n(&log->state, state, __ATOMIC_SEQ_CST);
}

static struct stub_note *take_note(struct slot *lane, int fd, int closed)
{
	struct stub_note *n = (void *)take_log(stub_ctl.notes, STUB_NOTES,
					       sizeof(*n));

	lane->note = 0;
	if (!n)
		return 0;
	n->fd = fd;
	n->closed = closed;
	lane->note = (uint32_t)(n - stub_ctl.notes) + 1;
	return n;
}

static void settle_note(struct slot *lane, uint32_t state)
{
	if (!lane->note)
		return;
	settle_log(&stub_ctl.notes[lane->note - 1].log, state);
	if (state == LOG_TRUE)
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

static void begin_again(struct slot *lane)
{
	lane->stage = STAGE_NONE;
	lane->post = 0;		/* the tracer has the signal in mind */
}

/* Nothing has been published: as if nothing had been begun. */
void stub_undo(struct slot *lane)
{
	const uint32_t fd = lane->newfd;

	if (lane->stage != STAGE_NONE) {
		settle_note(lane, LOG_FREE);
		if (lane->op == SLOT_OPEN)
			call4(__NR_close, fd, 0, 0, 0);
	}
	begin_again(lane);
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
		settle_note(lane, LOG_TRUE);
		call4(__NR_close, fd, 0, 0, 0);
	} else if (lane->value < 0) {
		settle_note(lane, LOG_FREE);
		call4(__NR_close, fd, 0, 0, 0);
	} else {
		set_bit(stub_ctl.fds, fd, 1);
		set_bit(stub_ctl.hosts, fd, 1);
		set_bit(stub_ctl.trees, fd, !stub_ctl.all);
		settle_note(lane, LOG_TRUE);
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
	if (!is_manned(lane))
		return DECIDED_WAIT;
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
	/* A number that no filler is to have is freed by the tracer. */
	if (!stub_ctl.ready || (uint32_t)lane->args[0] >= SHADOW_FD_BASE)
		return DECIDED_TRAP;
	if (!is_manned(lane))
		return DECIDED_WAIT;
	if (!take_note(lane, (int)lane->args[0], 1))
		return DECIDED_TRAP;
	lane->op = SLOT_CLOSE;
	lane->stage = STAGE_BEGUN;
	lane->newfd = (uint32_t)lane->args[0];
	return DECIDED_FORWARD;
}

static uint64_t forward_ioctl(struct slot *lane)
{
	const uint64_t decided = forward(lane, 0);

	if (decided == DECIDED_FORWARD && stub_ctl.makes) {
		lane->op = SLOT_MAKES;
		lane->newfd = stub_ctl.makes;
	}
	return decided;
}

/* Close-on-exec is the placeholder's, new numbers are the target's. */
static uint64_t by_command(struct slot *lane)
{
	const uint32_t command = (uint32_t)lane->args[1];

	if (lane->nr == __NR_ioctl)
		return command == FIOCLEX || command == FIONCLEX ?
		       DECIDED_TRAP : forward_ioctl(lane);
	switch (command) {
	case F_GETFD:
	case F_SETFD:
		return DECIDED_LOCAL;
	case F_DUPFD:
	case F_DUPFD_CLOEXEC:
		return copy_host(lane, command == F_DUPFD_CLOEXEC,
				 lane->args[2]);
	case F_GETLK:		/* has to name the owner of a lock */
	case F_SETOWN:		/* the guest's alone (guest/owner.c) */
	case F_GETOWN:
	case F_SETSIG:
	case F_GETSIG:
	case F_SETOWN_EX:
	case F_GETOWN_EX:
		return DECIDED_TRAP;
	case F_GETFL:
	case F_SETFL:		/* have no structure */
		return forward(lane, 1u << 2);
	}
	return forward(lane, 0);
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
	return forward(lane, 0);
}

/* --- paths ---------------------------------------------------------------- */

/* How many bytes from there on are known to be. */
static uint64_t readable(uint64_t at)
{
	for (int i = 0; i < STUB_RANGES; i++) {
		const struct stub_range *r = &stub_ctl.readable[i];

		if (r->start <= at && at < r->end)
			return r->end - at;
	}
	return 0;
}

/*
 * Reads a path as far as memory is known to be readable; false: the tracer has
 * to look at it. With a final slash or "." it names the directory itself, which
 * is where the names in it are; a final ".." is elsewhere.
 */
static int read_path(uint64_t at, struct path *p)
{
	const char *text = (const char *)at;
	const uint64_t room = readable(at);
	uint32_t i = 0, begin = 0;

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
	return !(i - begin == 2 && text[begin] == '.' &&
		 text[begin + 1] == '.');
}

static uint32_t look_up(const char *text, uint32_t len, uint32_t relative,
			uint32_t hash)
{
	const struct stub_dir *d;
	uint32_t seq, verdict;

	if (len > STUB_DIR_MAX)
		return STUB_DIR_UNKNOWN;
	d = &stub_ctl.dirs[stub_dir_slot(hash)];
	seq = __atomic_load_n(&d->seq, __ATOMIC_ACQUIRE);
	if (seq & 1 || d->generation != stub_ctl.generation ||
	    d->len != len || d->relative != relative)
		return STUB_DIR_UNKNOWN;
	for (uint32_t i = 0; i < len; i++)
		if (d->text[i] != text[i])
			return STUB_DIR_UNKNOWN;
	verdict = d->verdict;
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return d->seq == seq ? verdict : STUB_DIR_UNKNOWN;
}

/*
 * By its directory, or else by its whole name. What is below a directory of the
 * host's is the host's, unless ".." may lead out of it.
 */
static uint32_t known(const struct path *p, uint32_t relative)
{
	uint32_t hash = stub_dir_hash(relative), side;

	for (uint32_t i = 1; i <= p->len; i++) {
		hash = stub_dir_step(hash, p->text[i - 1]);
		if (p->text[i - 1] != '/' && i != p->len)
			continue;
		side = look_up(p->text, i, relative, hash);
		if (side == STUB_DIR_HOST && !p->dots)
			return side;
		if (side != STUB_DIR_UNKNOWN && (i == p->dir || i == p->len))
			return side;
	}
	return STUB_DIR_UNKNOWN;
}

/* Whose is what the path names? dirfd: AT_FDCWD where the call has none. */
static uint32_t whose(const struct path *p, uint32_t dirfd)
{
	const int at_cwd = dirfd == (uint32_t)AT_FDCWD;

	if (p->text[0] == '/')
		return known(p, 0);
	if (at_cwd ? stub_ctl.cwd == STUB_DIR_HOST :
		     is_in(stub_ctl.trees, dirfd))
		return p->dots ? STUB_DIR_UNKNOWN : STUB_DIR_HOST;
	if (!at_cwd || stub_ctl.cwd != STUB_DIR_LOCAL)
		return STUB_DIR_UNKNOWN;
	return p->dir ? known(p, 1) : STUB_DIR_LOCAL;
}

/* A local name: is it that of a symbolic link, which may lead elsewhere? */
static int is_link(const struct slot *lane, uint64_t dirfd, uint64_t path)
{
	return call4(__NR_readlinkat, dirfd, path,
		     (uint64_t)((const char *)lane + SLOT_ASIDE), 1) >= 0;
}

/*
 * A path may be in memory that the shadow does not have, or in a VM in pages of
 * files that it has no more: the call gets a copy of it, in the lane. Below the
 * lane's stack, that is, which needs no more than half of the scratch.
 */
static void copy_path(struct slot *lane, const struct path *p, uint32_t index)
{
	char *to = (char *)lane + SLOT_SCRATCH;

	if (is_told())
		return;
	for (uint32_t i = 0; i < p->len; i++)
		to[i] = p->text[i];
	to[p->len] = '\0';
	lane->args[index] = (uint64_t)to;
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
	if (side == STUB_DIR_HOST) {
		copy_path(lane, &p, i);
		return opens ? open_host(lane, &p, dirfd, last) :
			       forward(lane, 1u << i);
	}
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

/* --- memory --------------------------------------------------------------- */

static int take_young(struct stub_young *y, uint32_t state)
{
	return y->state == state &&
	       __atomic_compare_exchange_n(&y->state, &state, YOUNG_TAKEN, 0,
					   __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static void settle_young(struct stub_young *y, uint32_t state)
{
	__atomic_store_n(&y->state, state, __ATOMIC_SEQ_CST);
}

static void punch(uint64_t off, uint64_t len)
{
	call4(__NR_fallocate, (uint64_t)stub_ctl.arena, PUNCH_HOLE, off, len);
}

/* One that is free, or of which the tracer knows: with offsets for len bytes; or
 * NULL. */
static struct stub_young *new_young(uint64_t len)
{
	/* Where huge pages may be. */
	const uint64_t room = ROOMS * len;
	const uint64_t align = len >= 2 << 20 ? 2 << 20 : PAGE;
	struct stub_young *y = 0;
	uint64_t off;

	for (int i = 0; i < STUB_YOUNG && !y; i++)
		if (stub_ctl.young[i].room == room &&
		    take_young(&stub_ctl.young[i], YOUNG_FREE))
			y = &stub_ctl.young[i];
	/* Of those that are known the one that was so for long, perhaps. */
	for (uint32_t i = 0; i < 2 * STUB_YOUNG && !y; i++) {
		const uint64_t k = (stub_ctl.order + i) % STUB_YOUNG;

		if (take_young(&stub_ctl.young[k],
			       i < STUB_YOUNG ? YOUNG_FREE : YOUNG_KNOWN))
			y = &stub_ctl.young[k];
	}
	if (!y || y->room == room)
		return y;
	if (y->room && y->at > y->off)
		punch(y->off, y->at - y->off);
	off = __atomic_fetch_add(&stub_ctl.pool, room + align,
				 __ATOMIC_SEQ_CST);
	y->off = y->at = (off + align - 1) & ~(align - 1);
	y->room = room;
	if (off + room + align <= stub_ctl.pool_end)
		return y;
	y->room = 0;
	settle_young(y, YOUNG_FREE);
	return 0;
}

/*
 * The tracer writes down what it has unmapped after the fact, when another thread
 * may have mapped there already: what the shadow still has there is not this.
 */
static void forget_shadowed(uint64_t start, uint64_t end)
{
	for (int i = 0; i < STUB_RANGES; i++) {
		struct stub_range *r = &stub_ctl.shadowed[i];

		if (r->start < end && start < r->end)
			__atomic_store_n(&r->end, 0, __ATOMIC_SEQ_CST);
	}
}

/* What the target sees of it is what the tracer would have made. */
static uint64_t map_young(struct slot *lane)
{
	const uint64_t *args = lane->args;
	const uint64_t len = (args[1] + PAGE - 1) & ~(uint64_t)(PAGE - 1);
	struct stub_young *y;
	long at;

	if (!args[1] || args[1] > STUB_YOUNG_MAX || args[2] & ~(uint64_t)PROT_RW ||
	    (args[3] & ~(uint64_t)(MAP_NORESERVE | MAP_STACK)) !=
		    (MAP_PRIVATE | MAP_ANONYMOUS) ||
	    args[5] % PAGE)
		return DECIDED_TRAP;
	y = new_young(len);
	if (!y)
		return DECIDED_TRAP;
	/* Before it is there, so that it cannot be used without. */
	__atomic_add_fetch(&stub_ctl.nyoung, 1, __ATOMIC_SEQ_CST);
	at = call6(__NR_mmap, args[0], len, args[2], MAP_SHARED | MAP_NORESERVE,
		   (uint64_t)stub_ctl.arena, y->at);
	if (at < 0 && at > -PAGE) {
		__atomic_sub_fetch(&stub_ctl.nyoung, 1, __ATOMIC_SEQ_CST);
		settle_young(y, YOUNG_FREE);
	} else {
		y->start = (uint64_t)at;
		y->len = len;
		y->prot = (uint32_t)args[2];
		y->order = next_order();
		forget_shadowed(y->start, y->start + len);
		settle_young(y, YOUNG_MAPPED);
	}
	return finish_early(lane, at);
}

/* What was there is to read as zeros when it is mapped again. */
static void leave_room(struct stub_young *y)
{
	const uint64_t next = y->room / ROOMS;

	y->at += y->len;
	if (next <= STUB_YOUNG_SMALL && y->at + next <= y->off + y->room)
		return;
	punch(y->off, y->at - y->off);
	y->at = y->off;
}

/* A range inside one of the mappings that the stub has made. */
struct part {
	uint64_t start, len;
	struct stub_young *y;	/* taken */
	uint32_t was;		/* YOUNG_MAPPED or YOUNG_KNOWN */
	struct stub_change *change;
};

static int has_part(const struct stub_young *y, const struct part *part)
{
	return part->start >= y->start && part->start - y->start < y->len &&
	       part->len <= y->len - (part->start - y->start);
}

/* What the call's first two arguments say; 0: it is the tracer's. */
static int take_part(const struct slot *lane, struct part *part)
{
	const uint64_t len = lane->args[1];

	part->start = lane->args[0];
	part->len = (len + PAGE - 1) & ~(uint64_t)(PAGE - 1);
	part->change = 0;
	if (part->start % PAGE || !len || part->len < len)
		return 0;
	for (int i = 0; i < STUB_YOUNG; i++) {
		part->y = &stub_ctl.young[i];
		part->was = part->y->state;
		if ((part->was != YOUNG_MAPPED && part->was != YOUNG_KNOWN) ||
		    !has_part(part->y, part) ||
		    !take_young(part->y, part->was))
			continue;
		if (has_part(part->y, part))
			return 1;
		settle_young(part->y, part->was);
	}
	return 0;
}

static int is_all(const struct part *part)
{
	return part->len == part->y->len;
}

static uint64_t offset(const struct part *part)
{
	return part->y->at + (part->start - part->y->start);
}

/* From here on the shadow does not have all that is mapped. */
static int begin_change(struct part *part, int prot)
{
	struct stub_change *c = (void *)take_log(stub_ctl.changes, STUB_CHANGES,
						 sizeof(*c));

	if (!c)
		return 0;
	c->prot = prot;
	c->start = part->start;
	c->end = part->start + part->len;
	part->change = c;
	__atomic_add_fetch(&stub_ctl.nyoung, 1, __ATOMIC_SEQ_CST);
	return 1;
}

static void end_change(const struct part *part, int done)
{
	if (!part->change)
		return;
	/* Again: meanwhile the tracer may have learned what was. */
	forget_shadowed(part->start, part->start + part->len);
	settle_log(&part->change->log, done ? LOG_TRUE : LOG_FREE);
	if (!done)
		__atomic_sub_fetch(&stub_ctl.nyoung, 1, __ATOMIC_SEQ_CST);
}

/* What the stub knows of is one piece: from the middle, the upper one is lost. */
static void cut(const struct part *part)
{
	struct stub_young *y = part->y;

	if (part->start == y->start) {
		y->start += part->len;
		y->at += part->len;
		y->len -= part->len;
	} else {
		y->len = part->start - y->start;
	}
}

/* What is in it goes with it. What is young the tracer has yet to know whole. */
static uint64_t unmap_part(struct slot *lane)
{
	struct part part;
	long r;

	if (!take_part(lane, &part))
		return DECIDED_TRAP;
	if (part.was == YOUNG_MAPPED ?
	    part.start != part.y->start &&
	    part.start + part.len != part.y->start + part.y->len :
	    !begin_change(&part, -1)) {
		settle_young(part.y, part.was);
		return DECIDED_TRAP;
	}
	forget_shadowed(part.start, part.start + part.len);
	r = call4(__NR_munmap, part.start, part.len, 0, 0);
	if (r < 0) {
		settle_young(part.y, part.was);
		end_change(&part, 0);
		return finish_early(lane, r);
	}
	if (part.was == YOUNG_MAPPED && is_all(&part)) {
		leave_room(part.y);
		__atomic_sub_fetch(&stub_ctl.nyoung, 1, __ATOMIC_SEQ_CST);
		settle_young(part.y, YOUNG_FREE);
		return finish_early(lane, r);
	}
	/* Otherwise the tracer empties it when it hears of it. */
	if (part.was == YOUNG_MAPPED || part.len > STUB_YOUNG_SMALL)
		punch(offset(&part), part.len);
	cut(&part);
	settle_young(part.y, part.y->len ? part.was : YOUNG_FREE);
	end_change(&part, 1);
	return finish_early(lane, r);
}

/* What fails may have been done in part: the tracer does it again, and looks. */
static uint64_t protect_part(struct slot *lane)
{
	const int prot = (int)lane->args[2];
	struct part part;
	long r;

	if (lane->args[2] & ~(uint64_t)PROT_RW || !take_part(lane, &part))
		return DECIDED_TRAP;
	if (!(part.was == YOUNG_MAPPED && is_all(&part)) &&
	    !begin_change(&part, prot)) {
		settle_young(part.y, part.was);
		return DECIDED_TRAP;
	}
	forget_shadowed(part.start, part.start + part.len);
	r = call4(__NR_mprotect, part.start, part.len, (uint64_t)prot, 0);
	if (r == 0 && !part.change) {
		/* Nor is it what earlier changes have left there. */
		part.y->prot = (uint32_t)prot;
		part.y->order = next_order();
	}
	settle_young(part.y, part.was);
	end_change(&part, r == 0);
	return r == 0 ? finish_early(lane, r) : DECIDED_TRAP;
}

/* The mapping stays as it is. */
static uint64_t empty_part(struct slot *lane)
{
	struct part part;

	if ((lane->args[2] != MADV_DONTNEED && lane->args[2] != MADV_FREE) ||
	    !take_part(lane, &part))
		return DECIDED_TRAP;
	punch(offset(&part), part.len);
	settle_young(part.y, part.was);
	return finish_early(lane, 0);
}

/*
 * The tracer is at a call of another thread's, which takes no longer than to stop
 * for it, and then have others stop for us.
 */
static void await_tracer(void)
{
	for (int n = 0; n < STILL_PAUSES &&
			__atomic_load_n(&stub_ctl.still, __ATOMIC_SEQ_CST); n++)
		sleep_for(PAUSE_NS);
}

static uint64_t by_memory(struct slot *lane)
{
	uint64_t decided = DECIDED_TRAP;

	await_tracer();
	lane->op = SLOT_CALL;
	lane->stage = STAGE_BEGUN;
	__atomic_add_fetch(&stub_ctl.changing, 1, __ATOMIC_SEQ_CST);
	if (!__atomic_load_n(&stub_ctl.still, __ATOMIC_SEQ_CST))
		switch (lane->nr) {
		case __NR_mmap:
			decided = map_young(lane);
			break;
		case __NR_munmap:
			decided = unmap_part(lane);
			break;
		case __NR_mprotect:
			decided = protect_part(lane);
			break;
		case __NR_madvise:
			decided = empty_part(lane);
			break;
		}
	__atomic_sub_fetch(&stub_ctl.changing, 1, __ATOMIC_SEQ_CST);
	if (decided == DECIDED_TRAP)
		begin_again(lane);
	return decided;
}

/* The tracer hears of a thread when it is there, and needs not be asked before. */
static uint64_t by_clone(const struct slot *lane)
{
	uint64_t flags = lane->args[0];

	if (lane->nr == __NR_clone3 && readable(flags) >= sizeof(flags))
		flags = *(const uint64_t *)flags;
	else if (lane->nr != __NR_clone)
		return DECIDED_TRAP;
	return (flags & (CLONE_OF_THREAD | CLONE_TOLD)) == CLONE_OF_THREAD ?
	       DECIDED_LOCAL : DECIDED_TRAP;
}

static uint64_t decide(struct slot *lane)
{
	lane->pause_ns = stub_ctl.pause_ns;
	switch (stub_ctl.class[lane->nr]) {
	case STUB_PATH:
	case STUB_OPEN:
		return by_path(lane);
	case STUB_MEMORY:
		return by_memory(lane);
	case STUB_CLONE:
		return by_clone(lane);
	}
	return by_descriptor(lane);
}

/* Changes as long as lanes with executors are used. */
static uint32_t progress(void)
{
	uint32_t sum = 0;

	for (uint32_t i = 0; i < stub_ctl.nmanned && i < LANES; i++)
		sum += nth_lane(i)->req_seq & ~1u;
	return sum;
}

static struct slot *try_manned(const struct slot *from)
{
	for (uint32_t i = 0; i < stub_ctl.nmanned && i < LANES; i++) {
		struct slot *lane = nth_lane(i);
		uint32_t free = 1;

		if (lane->free == 1 &&
		    __atomic_compare_exchange_n(&lane->free, &free,
				slot_taken_by(lane_number(from)), 0,
				__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
			return lane;
	}
	return 0;
}

/*
 * Who has a lane with an executor has it for a microsecond, unless he has been
 * preempted, by ourselves perhaps: we sleep, so that he is not. If nobody gets on
 * meanwhile, it may be that he waits for something for long, which the tracer
 * finds out.
 */
static struct slot *take_manned(const struct slot *from)
{
	for (int r = 0; r < LANE_ROUNDS; r++) {
		const uint32_t was = progress();

		for (int n = 0; n < LANE_PAUSES; n++) {
			for (int k = 0; k < LANE_LOOKS; k++) {
				struct slot *lane = try_manned(from);

				if (lane)
					return lane;
				__builtin_ia32_pause();
			}
			sleep_for(PAUSE_NS);
		}
		if (progress() == was)
			break;
	}
	return 0;
}

/* The call is as it came in. Whoever finds `moved` set finds all of it there. */
static struct slot *move(struct slot *from)
{
	struct slot *to = take_manned(from);

	if (!to)
		return 0;
	to->rdi = to->args[0] = from->rdi;
	to->rsi = to->args[1] = from->rsi;
	to->rdx = to->args[2] = from->rdx;
	to->r10 = to->args[3] = from->r10;
	to->r8 = to->args[4] = from->r8;
	to->r9 = to->args[5] = from->r9;
	to->r12 = from->r12;
	to->rsp = from->rsp;
	to->rbx = from->rbx;
	to->rbp = from->rbp;
	to->r13 = from->r13;
	to->r14 = from->r14;
	to->r15 = from->r15;
	to->flags = from->flags;
	to->rflags = from->rflags;
	to->value = from->value;
	to->site = from->site;
	to->nr = (uint32_t)from->value;
	to->stage = STAGE_NONE;
	to->moved = 0;
	__atomic_store_n(&from->moved, lane_number(to) + 1, __ATOMIC_SEQ_CST);
	return to;
}

struct decision stub_decide(struct slot *lane)
{
	uint64_t decided = decide(lane);
	struct slot *to;

	if (decided != DECIDED_WAIT)
		return (struct decision){ decided, lane };
	to = move(lane);
	if (!to)
		return (struct decision){ DECIDED_TRAP, lane };
	decided = decide(to);
	/* Not even that one has an executor any more. */
	if (decided == DECIDED_WAIT)
		decided = DECIDED_TRAP;
	return (struct decision){ decided, to };
}
