/* SPDX-License-Identifier: MIT */
/* stub.c - the fast tier as the tracer sees it */
#include "guest/stub.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#include "base/log.h"
#include "base/num.h"
#include "guest/path.h"
#include "guest/source.h"
#include "guest/tracer.h"
#include "wire/calls.h"

extern const uint8_t blob_gate[];

#define YOUNG_POOL	(1ULL << 36)	/* offsets in the arena */
#define LANE_STOPS	4	/* calls that would have liked a lane, for one */
#define LANE_STUCK_S	5e-4	/* a request that takes longer may block */
#define LANE_TRIES	64	/* of calls in a row that find no lane */
#define LEFT_TIMES	4	/* that a call is left to the stub: others may have
				 * had all lanes when it looked for one */
#define EFLAGS_ARITH	0x8d5	/* OF SF ZF AF PF CF */
#define EFLAGS_DF	0x400

_Static_assert(STUB_NRS == CALL_NR_MAX, "one class for every number");

struct gate_header gate_header(void)
{
	struct gate_header h;

	memcpy(&h, blob_gate, sizeof(h));
	return h;
}

struct stub_ctl *stub_ctl_of(const struct proc *p)
{
	return p->files->ctl == p->mm->ctl ? p->mm->ctl : NULL;
}

/* What the task's stub makes of the call that the task has stopped at. */
static uint8_t stub_class(const struct task *t)
{
	const struct stub_ctl *ctl = stub_ctl_of(t->proc);

	return ctl ? ctl->class[t->nr] : STUB_TRAP;
}

/* --- what the stub may decide ----------------------------------------------- */

/* Special calls of which the stub knows enough, by a host descriptor. */
static bool is_known(unsigned int nr)
{
	return nr == SYS_fcntl || nr == SYS_ioctl || nr == SYS_getdents ||
	       nr == SYS_getdents64 || nr == SYS_close || nr == SYS_dup ||
	       nr == SYS_epoll_wait;
}

/* By the table: is the first argument, a descriptor, all that decides? */
static bool by_descriptor(const struct call *c)
{
	if (c->args[0] != 'f' || strpbrk(c->args + 1, "fdpP"))
		return false;
	return !(c->flags & (CALL_SPECIAL | CALL_NEWFD | CALL_MEMORY)) ||
	       c->flags & CALL_OWN_FD;
}

/* By the table: is it one path that decides? */
static bool by_path(const struct call *c)
{
	const char *path = strpbrk(c->args, "pP");

	return path && !strpbrk(path + 1, "pP") && !strchr(c->args, 'f') &&
	       c->flags & CALL_FORWARD &&
	       !(c->flags & (CALL_SPECIAL | CALL_NEWFD | CALL_MEMORY |
			     CALL_NAMES));
}

static uint8_t path_of(const struct call *c)
{
	const char *path = strpbrk(c->args, "pP");
	const char *flags = strpbrk(c->args, "to");
	uint8_t what = (uint8_t)(path - c->args);

	if (path > c->args && path[-1] == 'd')
		what |= STUB_PATH_DIRFD;
	if (*path == 'p')
		what |= STUB_PATH_FOLLOW;
	if (flags)
		what |= (uint8_t)((flags - c->args) << STUB_PATH_FLAGS);
	return what;
}

static uint8_t class_of(unsigned int nr, const struct call *c)
{
	if (!c)
		return STUB_TRAP;
	if (!(c->flags & CALL_TRACED))
		return STUB_LOCAL;
	if (by_descriptor(c))
		return STUB_FD;
	if (by_path(c))
		return STUB_PATH;
	if (nr == SYS_open || nr == SYS_openat)
		return STUB_OPEN;
	if (nr == SYS_mmap || nr == SYS_munmap || nr == SYS_mprotect ||
	    nr == SYS_madvise)
		return STUB_MEMORY;
	if (nr == SYS_clone || nr == SYS_clone3)
		return STUB_CLONE;
	return is_known(nr) ? STUB_HOST_FD : STUB_TRAP;
}

static uint8_t what_of(unsigned int nr, const struct call *c)
{
	uint8_t what = 0;

	for (int i = 0; c && c->args[i]; i++)
		if (strchr("*bBVTpP", c->args[i]))
			what |= (uint8_t)(1 << i);
	if (c && (c->flags & CALL_NESTED || strpbrk(c->args, "VT")))
		what |= STUB_FAR;
	if (c && c->flags & CALL_FORWARD &&
	    (!(c->flags & (CALL_SPECIAL | CALL_NEWFD)) || is_known(nr)))
		what |= STUB_MAY_FORWARD;
	return what;
}

static uint8_t sized_of(const struct call *c)
{
	uint8_t sized = 0;

	for (int i = 0; c && c->args[i]; i++)
		if (strchr("bB", c->args[i]) && c->args[i + 1] == 'n')
			sized |= (uint8_t)(1 << i);
	return sized;
}

void stub_rules_init(struct stub_rules *rules)
{
	*rules = (struct stub_rules){ 0 };
	for (unsigned int nr = 0; nr < STUB_NRS; nr++) {
		const struct call *c = calls_get(nr);
		const uint8_t class = class_of(nr, c);

		rules->class[nr] = class;
		rules->what[nr] = what_of(nr, c);
		rules->sized[nr] = sized_of(c);
		if (class == STUB_PATH || class == STUB_OPEN)
			rules->path[nr] = path_of(c);
	}
}

int stub_ctl_new(const struct stub_rules *rules, struct mm *mm)
{
	mm->ctl = mm_map_slots(mm, 0, SLOT_FIRST);
	if (!mm->ctl)
		return -errno;
	memset(mm->ctl->class, STUB_TRAP, sizeof(mm->ctl->class));
	memcpy(mm->ctl->what, rules->what, sizeof(mm->ctl->what));
	memcpy(mm->ctl->sized, rules->sized, sizeof(mm->ctl->sized));
	memcpy(mm->ctl->path, rules->path, sizeof(mm->ctl->path));
	mm->ctl->pause_ns = mm->memory->pinner ? SLOT_PAUSE_MIN_NS : 0;
	return 0;
}

static void write_fds(const struct tracer *tr, struct stub_ctl *ctl,
		      const struct files *files)
{
	memset(ctl->fds, 0, sizeof(ctl->fds));
	memset(ctl->hosts, 0, sizeof(ctl->hosts));
	memset(ctl->trees, 0, sizeof(ctl->trees));
	for (int fd = 0; (size_t)fd < files->n && fd < STUB_FDS; fd++)
		if (files->v[fd].path)
			stub_set_fd(ctl, fd, &files->v[fd]);
	for (int fd = tr->hidden; fd < tr->hidden + HIDDEN_FDS; fd++)
		if (fd < STUB_FDS)
			ctl->fds[fd / 32] |= 1u << fd % 32;
}

/* Is what can be decided without the tracer left to the stub? */
static bool is_fast(const struct tracer *tr, const struct proc *p)
{
	return stub_ctl_of(p) && p->mm->refs == 1 && p->files->refs == 1 &&
	       !p->filtered && tr->patching && !tr->trace && !tr->verify;
}

static void write_ctl(struct tracer *tr, struct proc *p)
{
	struct stub_ctl *ctl = p->mm->ctl;
	bool fast;

	if (!ctl)
		return;
	/* Once they belong together the sets are true whatever is shared: a
	 * thread may be anywhere in the stub. */
	if (!p->files->ctl && p->mm->refs == 1) {
		write_fds(tr, ctl, p->files);
		p->files->ctl = ctl;
	}
	fast = is_fast(tr, p);
	stub_set_ready(ctl, false);
	ctl->generation = tr->moving ? 0 : tr->generation;
	ctl->placeholder = (int32_t)hidden_fd(tr, HIDDEN_PLACEHOLDER);
	ctl->all = tr->all;
	stub_set_makes(tr, p);
	ctl->arena = (int32_t)hidden_fd(tr, HIDDEN_ARENA);
	stub_set_cwd(tr, p);
	for (unsigned int nr = 0; nr < STUB_NRS; nr++) {
		const uint8_t class = tr->stub_rules.class[nr];

		ctl->class[nr] = class == STUB_LOCAL ||
				 (fast && !(class == STUB_MEMORY &&
					    tracer_in_vm(tr))) ? class :
				 STUB_TRAP;
	}
}

void stub_set_makes(const struct tracer *tr, const struct proc *p)
{
	if (p->mm->ctl)
		p->mm->ctl->makes = !tracer_has_devices(tr) ? 0 :
				    files_free_made(p->files, p->ntasks);
}

void stub_detached(struct tracer *tr, const struct mm *mm,
		   const struct files *files)
{
	size_t pos = 0;
	struct task *t;

	while ((t = idmap_next(&tr->tasks, &pos)))
		if (t->proc->mm == mm || t->proc->files == files)
			write_ctl(tr, t->proc);
}

void stub_leave_memory(struct proc *p)
{
	if (p->mm->refs == 1 && p->files->ctl == p->mm->ctl)
		p->files->ctl = NULL;
}

void stub_attach(struct tracer *tr, struct proc *p)
{
	write_ctl(tr, p);
	if (p->mm->refs > 1 || p->files->refs > 1)
		stub_detached(tr, p->mm, p->files);
}

static void set_bit(uint32_t *set, int fd, bool on)
{
	const uint32_t bit = 1u << fd % 32;

	if (on)
		__atomic_fetch_or(&set[fd / 32], bit, __ATOMIC_SEQ_CST);
	else
		__atomic_fetch_and(&set[fd / 32], ~bit, __ATOMIC_SEQ_CST);
}

void stub_set_fd(struct stub_ctl *ctl, int fd, const struct hostfd *host)
{
	if (!ctl || fd >= STUB_FDS)
		return;
	/* In this order: what is the host's is never simply the target's. */
	if (host)
		set_bit(ctl->fds, fd, true);
	set_bit(ctl->hosts, fd, host && !(host->flags & HOSTFD_TWIN));
	set_bit(ctl->trees, fd, host && host->tree);
	if (!host)
		set_bit(ctl->fds, fd, false);
}

/* --- names -------------------------------------------------------------------- */

void stub_set_cwd(const struct tracer *tr, const struct proc *p)
{
	const struct fs *fs = p->fs;
	uint32_t cwd = STUB_DIR_UNKNOWN;

	if (fs->cwd && fs->refs == 1 && !path_is_mixed(tr, fs->cwd))
		cwd = fs->host ? STUB_DIR_HOST : STUB_DIR_LOCAL;
	if (p->mm->ctl)
		p->mm->ctl->cwd = cwd;
}

void stub_forget_names(struct tracer *tr)
{
	size_t pos = 0;
	struct task *t;

	if (++tr->generation == 0)
		tr->generation = 1;
	while ((t = idmap_next(&tr->tasks, &pos)))
		if (t->proc->mm->ctl)
			t->proc->mm->ctl->generation =
				tr->moving ? 0 : tr->generation;
}

static void set_range(struct stub_range *r, uint64_t start, uint64_t end)
{
	__atomic_store_n(&r->end, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&r->start, start, __ATOMIC_SEQ_CST);
	__atomic_store_n(&r->end, end, __ATOMIC_SEQ_CST);
}

static void forget_in(struct stub_range v[STUB_RANGES], uint64_t start,
		      uint64_t end)
{
	for (int i = 0; i < STUB_RANGES; i++)
		if (v[i].start < end && start < v[i].end)
			__atomic_store_n(&v[i].end, 0, __ATOMIC_SEQ_CST);
}

void stub_forget_range(struct stub_ctl *ctl, uint64_t start, uint64_t end)
{
	if (!ctl)
		return;
	forget_in(ctl->readable, start, end);
	forget_in(ctl->shadowed, start, end);
}

bool stub_shadowed(const struct stub_ctl *ctl, struct range at)
{
	for (int i = 0; i < STUB_RANGES; i++)
		if (ctl->shadowed[i].start <= at.start &&
		    at.end <= ctl->shadowed[i].end)
			return true;
	return false;
}

/* What has been changed since it was looked at is the stub's to forget, or has
 * been forgotten too early. */
static bool is_changed(const struct stub_ctl *ctl, struct range at)
{
	for (int i = 0; i < STUB_CHANGES; i++) {
		const struct stub_change *c = &ctl->changes[i];

		if (__atomic_load_n(&c->log.state, __ATOMIC_SEQ_CST) !=
		    LOG_FREE && c->start < at.end && at.start < c->end)
			return true;
	}
	return false;
}

void stub_learn_shadowed(struct stub_ctl *ctl, struct range at)
{
	struct stub_range *r;

	for (int i = 0; i < STUB_RANGES; i++) {
		r = &ctl->shadowed[i];
		if (r->start > at.end || at.start > r->end)
			continue;
		at.start = min_u64(at.start, r->start);
		at.end = max_u64(at.end, r->end);
		__atomic_store_n(&r->end, 0, __ATOMIC_SEQ_CST);
	}
	r = NULL;
	for (int i = 0; i < STUB_RANGES && !r; i++)
		if (!ctl->shadowed[i].end)
			r = &ctl->shadowed[i];
	if (!r)
		r = &ctl->shadowed[ctl->next_shadowed++ % STUB_RANGES];
	set_range(r, at.start, at.end);
	if (is_changed(ctl, at))
		forget_in(ctl->shadowed, at.start, at.end);
}

/* Whether the stub may read what is there. */
static bool learn_range(struct stub_ctl *ctl, const struct mm *mm,
			uint64_t addr)
{
	const struct region *r = mm_find(mm, addr);

	if (!r || r->start > addr || !(r->prot & PROT_READ) || r->file_shared)
		return false;
	for (int i = 0; i < STUB_RANGES; i++)
		if (ctl->readable[i].start <= addr &&
		    addr < ctl->readable[i].end)
			return true;
	set_range(&ctl->readable[ctl->next_range++ % STUB_RANGES], r->start,
		  r->end);
	return true;
}

void stub_learn_readable(const struct task *t, uint64_t addr)
{
	struct stub_ctl *ctl = stub_ctl_of(t->proc);

	if (ctl)
		(void)learn_range(ctl, t->proc->mm, addr);
}

/*
 * What holds for all names in a directory, whose name ends with a slash; or for
 * this one name.
 */
static uint8_t judge(struct tracer *tr, struct task *t, int dirfd,
		     const char *name, size_t len)
{
	const bool is_dir = name[len - 1] == '/';
	char text[PATH_MAX];
	struct place place;

	memcpy(text, name, len);
	while (len > 1 && text[len - 1] == '/')
		len--;
	text[len] = '\0';
	if (path_resolve(tr, t, dirfd, text, is_dir, &place) < 0 ||
	    place.rewritten)
		return STUB_DIR_UNKNOWN;
	/* A local name may be above the host's: the names below it are others. */
	if ((is_dir || place.kind != PLACE_LOCAL) &&
	    path_is_mixed(tr, place.abs))
		return STUB_DIR_UNKNOWN;
	return place.kind == PLACE_LOCAL ? STUB_DIR_LOCAL :
	       place.kind == PLACE_HOST ? STUB_DIR_HOST : STUB_DIR_UNKNOWN;
}

/* Where the first directory of a name ends that is the host's, if any is. */
static size_t border(struct tracer *tr, struct task *t, int dirfd,
		     const char *text, size_t len)
{
	for (size_t i = 1; i < len; i++)
		if (text[i - 1] == '/' &&
		    judge(tr, t, dirfd, text, i) == STUB_DIR_HOST)
			return i;
	return len;
}

static struct stub_dir *dir_of(struct stub_ctl *ctl, const char *text,
			       size_t len, uint32_t relative)
{
	uint32_t hash = stub_dir_hash(relative);

	for (size_t i = 0; i < len; i++)
		hash = stub_dir_step(hash, text[i]);
	return &ctl->dirs[stub_dir_slot(hash)];
}

/* What is known now of the name's first len bytes, a directory or all of it. */
static uint8_t learn_name(struct tracer *tr, struct task *t, int dirfd,
		       const char *text, size_t len)
{
	const uint32_t relative = text[0] != '/';
	struct stub_dir *d;
	uint8_t verdict;

	if (!len)
		return STUB_DIR_UNKNOWN;
	d = dir_of(t->proc->mm->ctl, text, len, relative);
	if (d->generation == tr->generation && d->len == len &&
	    d->relative == relative && memcmp(d->text, text, len) == 0)
		return d->verdict;
	verdict = judge(tr, t, dirfd, text, len);
	if (verdict == STUB_DIR_HOST && !strstr(text, ".."))
		len = border(tr, t, dirfd, text, len);
	if (verdict == STUB_DIR_UNKNOWN || len > STUB_DIR_MAX)
		return STUB_DIR_UNKNOWN;
	d = dir_of(t->proc->mm->ctl, text, len, relative);
	__atomic_fetch_add(&d->seq, 1, __ATOMIC_SEQ_CST);
	d->generation = tr->generation;
	d->verdict = verdict;
	d->relative = (uint8_t)relative;
	d->len = (uint16_t)len;
	memcpy(d->text, text, len);
	__atomic_fetch_add(&d->seq, 1, __ATOMIC_SEQ_CST);
	return verdict;
}

static bool is_tree(const struct stub_ctl *ctl, int fd)
{
	return fd >= 0 && fd < STUB_FDS && ctl->trees[fd / 32] >> fd % 32 & 1;
}

bool stub_learn(struct tracer *tr, struct task *t, int dirfd, uint64_t addr,
		const char *text)
{
	struct stub_ctl *ctl = stub_ctl_of(t->proc);
	const char *slash = strrchr(text, '/');
	const size_t len = slash ? (size_t)(slash - text) + 1 : 0;
	const bool relative = text[0] != '/';
	const uint8_t class = stub_class(t);
	uint8_t side;

	if ((class != STUB_PATH && class != STUB_OPEN) ||
	    !learn_range(ctl, t->proc->mm, addr))
		return false;
	if (relative && dirfd != AT_FDCWD)
		return is_tree(ctl, dirfd) && !strstr(text, "..");
	if (relative)
		stub_set_cwd(tr, t->proc);
	if (relative && ctl->cwd == STUB_DIR_HOST)
		return !strstr(text, "..");
	/* Where the working directory has names of both, the stub asks. */
	if (tr->moving || (relative && ctl->cwd != STUB_DIR_LOCAL))
		return false;
	side = learn_name(tr, t, dirfd, text, len);
	if (side == STUB_DIR_UNKNOWN && text[len])
		side = learn_name(tr, t, dirfd, text, strlen(text));
	return side == STUB_DIR_HOST;
}

/* --- what the stub writes down --------------------------------------------------- */

static struct stub_log *first_true(void *v, int n, size_t size)
{
	struct stub_log *next = NULL;

	for (int i = 0; i < n; i++) {
		struct stub_log *log = (void *)((char *)v + (size_t)i * size);

		if (__atomic_load_n(&log->state, __ATOMIC_ACQUIRE) == LOG_TRUE &&
		    (!next || log->order < next->order))
			next = log;
	}
	return next;
}

/*
 * While one looks, what has been looked at may come to be true, and what follows
 * from it as well: a descriptor is opened and closed. But what comes before an entry
 * that was found is true by then, and found by another look.
 */
static struct stub_log *next_log(void *v, int n, size_t size)
{
	struct stub_log *next = first_true(v, n, size), *again;

	while (next && (again = first_true(v, n, size)) != next)
		next = again;
	return next;
}

/* --- memory ------------------------------------------------------------------- */

/* The target can write what is said there: may it be a mapping of its own? */
static bool may_be_own(const struct mm *mm, struct range at)
{
	return !((at.start | at.end) % PAGE_BYTES) && at.start < at.end &&
	       at.end <= USER_END &&
	       !mem_is_ours(mm->memory, at.start, at.end);
}

static bool is_young(const struct mm *mm, const struct region *r)
{
	return !((r->off | r->limit) % PAGE_BYTES) &&
	       may_be_own(mm, (struct range){ r->start, r->end }) &&
	       r->off <= r->limit && r->limit - r->off >= r->end - r->start &&
	       r->limit <= mm->memory->arena.next;
}

/* false: the stub is not to count on it any more. */
static bool take_young(struct mm *mm, struct stub_young *y)
{
	struct region r = { .start = y->start, .end = y->start + y->len,
			    .off = y->at, .limit = y->off + y->room,
			    .born = y->order,
			    .prot = (int)(y->prot & (PROT_READ | PROT_WRITE)),
			    .kind = REGION_PRIVATE };

	const uint64_t used = y->at - y->off;

	y->room = 0;
	if (!is_young(mm, &r) || used > r.off)
		return false;
	if (used)
		arena_discard(&mm->memory->arena, r.off - used, used);
	if (mm_insert(mm, &r) == 0)
		return true;
	log_err("%#lx bytes at %#lx are lost to shadows: no memory",
		r.end - r.start, r.start);
	return false;
}

static void write_down_change(struct mm *mm, const struct stub_change *c)
{
	const struct range at = { c->start, c->end };
	const int prot = c->prot & (PROT_READ | PROT_WRITE);

	if (!may_be_own(mm, at))
		return;
	if ((c->prot < 0 ? mm_remove_older(mm, at, c->log.order) :
			   mm_protect_older(mm, at, prot, c->log.order)) < 0)
		log_err("what has become of %#lx bytes at %#lx is lost to"
			" shadows: no memory", at.end - at.start, at.start);
}

/*
 * While nobody is at it: what is mapped, then what has become of it. What was changed
 * where a mapping is now, before it was made, is of an earlier order.
 */
static void take_all_young(struct mm *mm)
{
	struct stub_ctl *ctl = mm->ctl;
	struct stub_log *log;

	if (!ctl || !ctl->nyoung)
		return;
	for (int i = 0; i < STUB_YOUNG; i++) {
		struct stub_young *y = &ctl->young[i];
		uint32_t state = YOUNG_MAPPED;

		if (!__atomic_compare_exchange_n(&y->state, &state,
						 YOUNG_TAKEN, false,
						 __ATOMIC_SEQ_CST,
						 __ATOMIC_SEQ_CST))
			continue;
		/* First, or else it might seem that the shadow knows. */
		state = take_young(mm, y) ? YOUNG_KNOWN : YOUNG_FREE;
		__atomic_sub_fetch(&ctl->nyoung, 1, __ATOMIC_SEQ_CST);
		__atomic_store_n(&y->state, state, __ATOMIC_SEQ_CST);
	}
	while ((log = next_log(ctl->changes, STUB_CHANGES,
			       sizeof(struct stub_change)))) {
		write_down_change(mm, (struct stub_change *)log);
		__atomic_sub_fetch(&ctl->nyoung, 1, __ATOMIC_SEQ_CST);
		__atomic_store_n(&log->state, LOG_FREE, __ATOMIC_SEQ_CST);
	}
}

void stub_discard_young(struct mm *mm)
{
	for (int i = 0; mm->ctl && i < STUB_YOUNG; i++) {
		const struct stub_young *y = &mm->ctl->young[i];

		if (y->room && range_inside(y->off, y->room,
					    mm->memory->arena.next))
			arena_discard(&mm->memory->arena, y->off, y->room);
	}
}

void stub_forget_own(struct stub_ctl *ctl, struct range at)
{
	for (int i = 0; ctl && i < STUB_YOUNG; i++) {
		struct stub_young *y = &ctl->young[i];

		if (y->state == YOUNG_KNOWN && y->start < at.end &&
		    at.start < y->start + y->len)
			__atomic_store_n(&y->state, YOUNG_FREE,
					 __ATOMIC_SEQ_CST);
	}
}

/* One that is free and has no offsets, or else one that is known already. */
static struct stub_young *own_place(struct stub_ctl *ctl)
{
	for (uint64_t i = 0; i < 2 * STUB_YOUNG; i++) {
		struct stub_young *y =
			&ctl->young[(ctl->order + i) % STUB_YOUNG];

		if (i < STUB_YOUNG ? y->state == YOUNG_FREE && !y->room :
				     y->state == YOUNG_KNOWN)
			return y;
	}
	return NULL;
}

void stub_learn_own(struct stub_ctl *ctl, const struct region *r)
{
	struct stub_young *y = ctl ? own_place(ctl) : NULL;

	if (!y)
		return;
	y->start = r->start;
	y->len = r->end - r->start;
	y->off = y->at = r->off;
	y->room = 0;
	__atomic_store_n(&y->state, YOUNG_KNOWN, __ATOMIC_SEQ_CST);
}

/* New offsets, while nobody takes any. */
static void fill_pool(struct mm *mm)
{
	struct stub_ctl *ctl = mm->ctl;

	if (ctl->pool < ctl->pool_end && ctl->pool_end - ctl->pool >
	    YOUNG_POOL / 2)
		return;
	ctl->pool_end = 0;
	if (arena_alloc(&mm->memory->arena, YOUNG_POOL, &ctl->pool) == 0)
		ctl->pool_end = ctl->pool + YOUNG_POOL;
}

static bool keep_still(struct task *t, struct stub_ctl *ctl)
{
	if (t->still == STILL)
		return true;
	if (t->still == MOVING)
		__atomic_add_fetch(&ctl->still, 1, __ATOMIC_SEQ_CST);
	t->still = STOPPING;
	if (__atomic_load_n(&ctl->changing, __ATOMIC_SEQ_CST))
		return false;
	t->still = STILL;
	take_all_young(t->proc->mm);
	fill_pool(t->proc->mm);
	return true;
}

bool stub_settle(struct task *t, bool still)
{
	struct stub_ctl *ctl = t->proc->mm->ctl;

	return !ctl ||
	       !(still || __atomic_load_n(&ctl->nyoung, __ATOMIC_SEQ_CST)) ||
	       keep_still(t, ctl);
}

void stub_move(struct task *t)
{
	if (t->still != MOVING)
		__atomic_sub_fetch(&t->proc->mm->ctl->still, 1,
				   __ATOMIC_SEQ_CST);
	t->still = MOVING;
}

/* --- notes -------------------------------------------------------------------- */

/* The name that a descriptor was opened by, as the tracer would write it. */
static void note_path(struct tracer *tr, struct task *t,
		      const struct stub_note *n, char out[PATH_MAX])
{
	const struct hostfd *dir = files_get(t->proc->files, n->dirfd);
	const char *base = n->dirfd == AT_FDCWD ? t->proc->fs->cwd :
			   dir ? dir->path : NULL;
	struct place place;

	if (!n->text[0]) {	/* a copy */
		snprintf(out, PATH_MAX, "%s", dir ? dir->path : "");
		return;
	}
	if (n->text[0] == '/')
		base = "";
	if (base && !strstr(n->text, "/.") && !strstr(n->text, "//") &&
	    n->text[0] != '.' && n->text[strlen(n->text) - 1] != '/')
		snprintf(out, PATH_MAX, "%s%s%s", strcmp(base, "/") ? base : "",
			 n->text[0] == '/' ? "" : "/", n->text);
	else if (path_resolve(tr, t, n->dirfd, n->text, true, &place) == 0)
		strcpy(out, place.abs);
	else
		out[0] = '\0';
}

static int note_flags(const struct files *files, const struct stub_note *n)
{
	const struct hostfd *of = n->text[0] ? NULL :
				  files_get(files, n->dirfd);

	return of ? of->flags : n->flags;
}

void stub_write_down(struct tracer *tr, struct task *t)
{
	struct files *files = t->proc->files;
	struct stub_ctl *ctl = stub_ctl_of(t->proc);
	struct stub_note *n;
	char path[PATH_MAX];

	if (!ctl || !__atomic_exchange_n(&ctl->ntrue, 0, __ATOMIC_SEQ_CST))
		return;
	/* The stub's sets are ahead of what is written down here. */
	files->ctl = NULL;
	while ((n = (struct stub_note *)next_log(ctl->notes, STUB_NOTES,
						 sizeof(*n)))) {
		n->text[STUB_NOTE_MAX - 1] = '\0';
		if (n->closed) {
			files_clear(files, n->fd);
		} else {
			note_path(tr, t, n, path);
			if (files_set(files, n->fd, path,
				      note_flags(files, n)) < 0)
				log_err("process %d: descriptor %d is lost: no"
					" memory", t->proc->pid, n->fd);
		}
		__atomic_store_n(&n->log.state, LOG_FREE, __ATOMIC_SEQ_CST);
	}
	files->ctl = ctl;
}

/* A request that opens or closes is the tracer's to finish. */
static void take_over(struct tracer *tr, struct task *t, struct slot *lane)
{
	struct stub_ctl *ctl = t->proc->mm->ctl;
	const uint32_t note = lane->note - 1;
	char path[PATH_MAX] = "";

	if (lane->stage == STAGE_NONE)
		return;
	lane->stage = STAGE_NONE;
	lane->note = 0;
	t->u.fd = (int)lane->newfd;
	t->u.flags = 0;
	if (note < STUB_NOTES) {
		struct stub_note *n = &ctl->notes[note];

		n->text[STUB_NOTE_MAX - 1] = '\0';
		if (!n->closed)
			note_path(tr, t, n, path);
		t->u.flags = note_flags(t->proc->files, n);
		__atomic_store_n(&n->log.state, LOG_FREE, __ATOMIC_SEQ_CST);
	}
	task_set_path(t, path);
	t->then = lane->op == SLOT_CLOSE ? call_closed : call_opened;
}

/* --- lanes ------------------------------------------------------------------- */

static bool is_free(const struct slot *lane)
{
	return __atomic_load_n(&lane->free, __ATOMIC_ACQUIRE) & 1;
}

static void let_go(struct slot *lane)
{
	lane->post = 0;
	lane->signal = 0;
	__atomic_store_n(&lane->free, 1, __ATOMIC_RELEASE);
}

struct slot *stub_lane(const struct proc *p, uint64_t gva, int *index)
{
	const uint64_t first = memory_slot(p->mm->memory, LANE_FIRST);
	const uint64_t i = (gva - first) / SLOT_STRIDE;

	if (gva < first || i >= (uint64_t)p->nlanes)
		return NULL;
	if (index)
		*index = (int)i + LANE_FIRST;
	return p->lanes[i];
}

static bool has_free(const struct proc *p, int n)
{
	for (int i = 0; i < n; i++)
		if (is_free(p->lanes[i]))
			return true;
	return false;
}

static bool has_free_lane(const struct proc *p)
{
	return has_free(p, p->nserved);
}

static bool add_spare(const struct tracer *tr, struct proc *p)
{
	struct slot *lane;

	if (p->nlanes == LANES)
		return false;
	lane = mm_lane(p->mm, p->nlanes);
	lane->req_seq = lane->resp_seq = 0;
	lane->spin = lane->spin_max = tr->spin;
	lane->pause_s = 0;
	p->lanes[p->nlanes++] = lane;
	let_go(lane);
	return true;
}

void stub_spare_lanes(const struct tracer *tr, struct proc *p)
{
	while (p->nlanes && p->nlanes < (int)p->ntasks && add_spare(tr, p))
		;
}

/* One more is to have an executor. */
static void add_lane(struct tracer *tr, struct task *t)
{
	struct proc *p = t->proc;

	if (p->nlanes == p->nserved && !add_spare(tr, p))
		return;
	p->nserved++;
	/* In a VM the shadow has to be told of it first, at the next call that is
	 * forwarded. */
	if (p->mm->ctl->ready)
		stub_set_ready(p->mm->ctl, !tracer_in_vm(tr) &&
			       stub_man_lanes(tr, t) == 0);
}

/* Lanes whose requests have been without an answer for a while. */
static int stuck_lanes(struct proc *p)
{
	const double now = now_seconds();
	int n = 0;

	for (int i = 0; i < p->nserved; i++) {
		const struct slot *lane = p->lanes[i];
		const uint32_t seq = lane->req_seq & ~1u;
		double *since = &p->waits[i].since;

		if (is_free(lane) || slot_answered(lane, seq)) {
			*since = 0;
		} else if (!*since || p->waits[i].seq != seq) {
			*since = now;
			p->waits[i].seq = seq;
		} else if (now - *since > LANE_STUCK_S) {
			n++;
		}
	}
	return n;
}

/* A thread that waits and an executor that works take two processors: more have
 * something to do only while others are stuck. */
int stub_busy_lanes(const struct tracer *tr)
{
	return (tr->ncpus + 1) / 2;
}

static bool wants_lane(const struct tracer *tr, struct proc *p, int stuck)
{
	if (p->nserved == LANES || p->nserved >= (int)p->ntasks ||
	    p->nserved - stuck >= stub_busy_lanes(tr) ||
	    ++p->lane_wishes < LANE_STOPS)
		return false;
	p->lane_wishes = 0;
	return true;
}

/* From where its `syscall` is made again. */
static uint64_t call_again(const struct task *t)
{
	const struct patch *p = patch_of_tramp(t->proc->mm, t->regs.rip);

	return p ? p->tramp + p->enter : t->regs.rip - 2;
}

/*
 * A lane that is not stuck is free in a moment: who holds it has been preempted.
 * To make another executor takes longer than to look again.
 */
bool stub_seek_lane(struct tracer *tr, struct task *t)
{
	const uint8_t class = stub_class(t);
	struct proc *p = t->proc;
	int stuck;

	stub_spare_lanes(tr, p);
	/* Before anything is forwarded: for what is the target's own. */
	if (!p->nlanes && is_fast(tr, p) &&
	    patch_of_tramp(p->mm, t->regs.rip))
		(void)add_spare(tr, p);
	if (class == STUB_TRAP || class == STUB_LOCAL || class == STUB_CLONE ||
	    class == STUB_MEMORY || !p->nserved || has_free_lane(p)) {
		t->tries = 0;
		return false;
	}
	stuck = stuck_lanes(p);
	if (wants_lane(tr, p, stuck)) {
		add_lane(tr, t);
		return false;
	}
	if (stuck == p->nserved || ++t->tries > LANE_TRIES || t->remote.masked)
		return false;
	sched_yield();
	task_again(t, call_again(t));
	return true;
}

void stub_first_lane(struct tracer *tr, struct task *t)
{
	if (is_fast(tr, t->proc) && !t->proc->nserved)
		add_lane(tr, t);
}

bool stub_borrow_lane(struct task *t)
{
	const struct proc *p = t->proc;

	for (int i = 0; i < p->nmanned; i++) {
		struct slot *lane = p->lanes[i];

		if (!(__atomic_fetch_and(&lane->free, ~1u, __ATOMIC_ACQ_REL) &
		      1))
			continue;
		t->pending = (struct pending){ lane, LANE_FIRST + i,
					       (lane->req_seq & ~1u) + 2 };
		return true;
	}
	return false;
}

static bool may_leave(const struct tracer *tr, const struct task *t)
{
	const uint8_t class = stub_class(t);

	return (class == STUB_FD || class == STUB_HOST_FD ||
		class == STUB_PATH || class == STUB_OPEN) &&
	       !tracer_in_vm(tr) && !tr->client.dead &&
	       !t->proc->shadow_gone && !t->remote.masked && !t->remote.fate;
}

/* Nothing but that kept the stub from a call by a host descriptor. */
static bool lacks_something(const struct proc *p)
{
	const struct stub_ctl *ctl = p->mm->ctl;

	return !ctl->ready || !ctl->told;
}

bool stub_leave_to(struct tracer *tr, struct task *t)
{
	const struct patch *patch = patch_of_tramp(t->proc->mm, t->regs.rip);
	const struct forward_call call = { t->nr, t->args };
	struct proc *p = t->proc;

	if (!patch || !may_leave(tr, t))
		return false;
	/* It has come back again: the stub does not know what we think. */
	if (t->left.nr != t->nr ||
	    memcmp(t->left.args, t->args, sizeof(t->args)) != 0)
		t->left.times = 0;
	if (t->left.times == LEFT_TIMES)
		return false;
	stub_first_lane(tr, t);
	if ((!p->mm->ctl->ready || !p->mm->ctl->told) &&
	    shadow_ready_for(tr, t, &call) < 0)
		return false;
	/* In any it can wait for one with an executor. */
	if (!p->mm->ctl->ready || !has_free(p, p->nlanes))
		return false;
	t->left.times++;
	t->left.nr = t->nr;
	memcpy(t->left.args, t->args, sizeof(t->args));
	task_again(t, patch->tramp + patch->enter);
	return true;
}

bool stub_leave_fd(struct tracer *tr, struct task *t)
{
	const uint8_t class = stub_class(t);

	return (class == STUB_FD || class == STUB_HOST_FD) &&
	       is_host_fd(t, (int)t->args[0]) && lacks_something(t->proc) &&
	       stub_leave_to(tr, t);
}

int stub_man_lanes(struct tracer *tr, struct task *t)
{
	struct proc *p = t->proc;

	while (p->nmanned < p->nserved) {
		const int index = LANE_FIRST + p->nmanned;
		int err = executor_new(tr, p, index,
				       p->lanes[p->nmanned]->req_seq & ~1u);

		if (err)
			return err;
		p->nmanned++;
		placement_new_lane(tr, t, index);
	}
	p->mm->ctl->nmanned = (uint32_t)p->nmanned;
	return 0;
}

void stub_drop_lanes(struct tracer *tr, struct proc *p)
{
	placement_end_crowd(tr, p);
	/* The memory may have an heir, whose lanes are others. */
	if (p->nlanes > 0)
		p->mm->ctl->nmanned = 0;
	while (p->nlanes > 0) {
		struct slot *lane = p->lanes[--p->nlanes];

		tr->stats.fast += lane->req_seq / 2;
		/* The memory may be another process's by now: there is none. */
		lane->free = 0;
		if (p->held[p->nlanes])
			tr->memory.pinner->held--;
		p->held[p->nlanes] = 0;
	}
	tr->stats.fast -= min_u64(p->loans, tr->stats.fast);
	p->loans = 0;
	p->lane_wishes = p->nserved = p->nmanned = 0;
}

void stub_abandon(struct proc *p)
{
	stub_set_ready(p->mm->ctl, false);
	for (int i = 0; i < p->nlanes; i++) {
		struct slot *lane = p->lanes[i];

		if (!is_free(lane) &&
		    !slot_answered(lane, lane->req_seq & ~1u))
			slot_abandon(lane, lane->req_seq & ~1u);
	}
}

bool stub_uses(const struct proc *p, struct range at)
{
	for (int i = 0; i < p->nlanes; i++)
		if (!is_free(p->lanes[i]) &&
		    call_uses(p->lanes[i]->nr, p->lanes[i]->args, at))
			return true;
	return false;
}

void stub_settled(struct task *t)
{
	if (t->pending.index < SLOT_FIRST)
		let_go(t->pending.slot);
}

/* --- a thread in the fast tier -------------------------------------------------- */

bool stub_inside(const struct task *t, uint64_t rip)
{
	const struct mm *mm = t->proc->mm;

	return rip - mm->memory->base < TEXT_SIZE ||
	       (mm->patches.n && patch_of_tramp(mm, rip));
}

/* Flags as lahf and seto have them in ax. */
static uint64_t with_flags(uint64_t eflags, uint64_t ax)
{
	return (eflags & ~(uint64_t)EFLAGS_ARITH) | (ax >> 8 & 0xd5) |
	       (ax & 1) << 11;
}

/* The program's registers are in the lane. */
static void from_lane(const struct slot *lane, struct user_regs_struct *regs)
{
	regs->rdi = lane->rdi;
	regs->rsi = lane->rsi;
	regs->rdx = lane->rdx;
	regs->r10 = lane->r10;
	regs->r8 = lane->r8;
	regs->r9 = lane->r9;
	regs->r12 = lane->r12;
	regs->rsp = lane->rsp;
	regs->rax = (uint64_t)lane->value;
	regs->eflags = with_flags(regs->eflags, lane->flags);
}

/* ... those that C code may have changed, too. */
static void from_lane_all(const struct slot *lane,
			  struct user_regs_struct *regs)
{
	from_lane(lane, regs);
	regs->rbx = lane->rbx;
	regs->rbp = lane->rbp;
	regs->r13 = lane->r13;
	regs->r14 = lane->r14;
	regs->r15 = lane->r15;
}

static void about_to_call(const struct patch *p, struct user_regs_struct *regs)
{
	regs->rip = p->site;
	regs->orig_rax = ~0ULL;
}

/* As `syscall` leaves it, but for r11. */
static void has_called(const struct patch *p, struct user_regs_struct *regs)
{
	regs->rip = regs->rcx = p->site + 2;
}

/* In site_code, at this offset. */
static void leave_site(const struct task *t, const struct patch *p,
		       uint64_t at, struct user_regs_struct *regs)
{
	const struct gate_header h = gate_header();
	struct slot *lane = stub_lane(t->proc, regs->r11, NULL);

	if (at == h.site_leave_trap || at == h.site_leave_local ||
	    at == h.site_leave_done)
		if (lane)
			let_go(lane);
	if (at >= h.site_leave_done) {
		regs->r11 = regs->rcx;
		has_called(p, regs);
		return;
	}
	if (at >= h.site_called && at < h.site_more) {
		has_called(p, regs);
		return;
	}
	if ((at >= h.site_save_rcx && at < h.site_saved) ||
	    (at >= h.site_local_rcx && at < h.site_call) ||
	    (at >= h.site_refuse_rcx && at < h.site_refused))
		regs->rax = regs->rcx;
	if ((at >= h.site_saved && at < h.site_local_flags) ||
	    (at >= h.site_more && at < h.site_refuse_flags) ||
	    (at >= h.site_stub && at < h.site_leave_trap))
		regs->eflags = with_flags(regs->eflags, regs->r11);
	about_to_call(p, regs);
}

/* In the search for a lane, or where registers are put into it. */
static void leave_search(const struct task *t, uint64_t at,
			 struct user_regs_struct *regs)
{
	const struct gate_header h = gate_header();
	const struct patch *p = patch_of_code(t->proc->mm, regs->rcx);
	struct slot *lane = NULL;

	if (at >= h.stub_enter) {
		lane = stub_lane(t->proc, regs->r12, NULL);
	} else if (at < h.stub_refuse) {
		const uint64_t i = (at - h.stub) / STUB_LANE_SIZE;
		const uint64_t in = (at - h.stub) % STUB_LANE_SIZE;

		if (in > h.lane_taken || (in == h.lane_taken &&
					  regs->eflags & 1))
			lane = stub_lane(t->proc, memory_slot(t->proc->mm->memory,
					 LANE_FIRST + (int)i), NULL);
		if (lane && in < h.lane_r12)
			lane->r12 = regs->r12;
	}
	if (lane) {
		regs->r12 = lane->r12;
		let_go(lane);
	}
	regs->eflags = with_flags(regs->eflags, regs->r11);
	if (p)
		about_to_call(p, regs);
}

/* Something has been done: the signal comes when all is, or it is undone. */
static void hold_begun(struct task *t, struct slot *lane, uint64_t at,
		       struct user_regs_struct *regs)
{
	const struct gate_header h = gate_header();

	if (remote_hold(&t->remote) < 0)
		return;
	lane->post = 1;
	/* It may be past the look at that: back to it. */
	if (at >= h.stub_commit && at < h.stub_published)
		regs->rip = t->proc->mm->memory->base + h.stub_commit;
}

/* The lane that a thread goes on with; another that it has yet to let go of. */
struct in_use {
	struct slot *lane, *former;
	int index;		/* of lane */
};

/* A thread that runs on the stack of a lane. */
static struct in_use lane_in_use(const struct task *t, uint64_t at,
				 const struct user_regs_struct *regs)
{
	const struct gate_header h = gate_header();
	const struct proc *p = t->proc;
	struct in_use u = { .index = LANE_FIRST };

	u.lane = stub_lane(p, regs->rsp - 1, &u.index);
	if (!u.lane)
		return u;
	if (at >= h.stub_moved && at < h.stub_let_go) {
		u.former = stub_lane(p, regs->rcx, NULL);
	} else if (u.lane->moved && u.lane->moved <= (uint32_t)p->nlanes) {
		u.former = u.lane;
		u.index = LANE_FIRST + (int)u.lane->moved - 1;
		u.lane = p->lanes[u.lane->moved - 1];
	} else {
		/* Taken, but not moved to. */
		for (int i = 0; i < p->nlanes && !u.former; i++)
			if (p->lanes[i]->free ==
			    slot_taken_by((uint32_t)(u.index - LANE_FIRST)))
				u.former = p->lanes[i];
	}
	return u;
}

/* Before it is another's, nothing says that it was taken by this one. */
static void let_go_former(const struct in_use *u)
{
	if (!u->lane || !u->former)
		return;
	u->lane->free = 0;
	let_go(u->former);
}

/* With a lane that has all of the program, before anything has been published. */
static void leave_early(struct task *t, uint64_t at,
			struct user_regs_struct *regs)
{
	const struct in_use u = lane_in_use(t, at, regs);
	struct slot *lane = u.lane;
	const struct patch *p;

	if (!lane)
		lane = stub_lane(t->proc, regs->r12, NULL);
	p = lane ? patch_of_code(t->proc->mm, lane->site) : NULL;
	if (!p)
		return;
	if (lane->stage != STAGE_NONE) {
		hold_begun(t, lane, at, regs);
		return;
	}
	from_lane_all(lane, regs);
	if (at >= gate_header().stub_flags && lane->rflags & EFLAGS_DF)
		regs->eflags |= EFLAGS_DF;
	let_go_former(&u);
	let_go(lane);
	about_to_call(p, regs);
}

/* On the way back to the program; SLOT_RIP says with what. */
static void leave_late(const struct task *t, struct user_regs_struct *regs)
{
	const struct gate_header h = gate_header();
	struct slot *lane = stub_lane(t->proc, regs->r12, NULL);
	const struct patch *p;

	if (!lane)
		lane = stub_lane(t->proc, regs->r11, NULL);
	p = lane ? patch_of_code(t->proc->mm, lane->site) : NULL;
	if (!p)
		return;
	from_lane(lane, regs);
	regs->eflags = (regs->eflags & ~(uint64_t)EFLAGS_DF) |
		       (lane->rflags & EFLAGS_DF);
	if (lane->rip == p->code + h.site_leave_done) {
		has_called(p, regs);
		regs->r11 = lane->rflags;
		regs->orig_rax = ~0ULL;
	} else {
		about_to_call(p, regs);
	}
	let_go(lane);
}

bool stub_fault(struct task *t)
{
	const struct gate_header h = gate_header();
	const uint64_t base = t->proc->mm->memory->base;
	struct user_regs_struct regs;
	siginfo_t info;
	struct in_use u;
	uint64_t at, gva;

	/* Not one that was sent. */
	if (ptrace(PTRACE_GETSIGINFO, t->tid, NULL, &info) < 0 ||
	    info.si_code <= 0 || remote_get_regs(t->tid, &regs) < 0)
		return false;
	at = regs.rip - base;
	if (at < h.site_code + SITE_CODE_SIZE || at >= GATE_SIZE)
		return false;
	u = lane_in_use(t, at, &regs);
	if (!u.lane)
		return false;
	gva = memory_slot(t->proc->mm->memory, u.index);
	let_go_former(&u);
	from_lane_all(u.lane, &regs);
	regs.eflags |= u.lane->rflags & EFLAGS_DF;
	regs.r12 = gva;
	regs.rsp = gva + SLOT_STRIDE;
	regs.rip = base + (u.lane->stage ? h.stub_undone : h.stub_trap);
	regs.orig_rax = ~0ULL;
	return remote_set_regs(t->tid, &regs) == 0;
}

void stub_leave(struct task *t)
{
	const struct gate_header h = gate_header();
	const struct mm *mm = t->proc->mm;
	struct user_regs_struct regs;
	const struct patch *p;
	uint64_t at;

	if (remote_get_regs(t->tid, &regs) < 0)
		return;
	at = regs.rip - mm->memory->base;
	if ((p = patch_of_tramp(mm, regs.rip))) {
		const uint64_t in = regs.rip - p->tramp;

		if (in > p->trap && in < p->after)
			regs.rcx = p->site + 2;
		regs.rip = patch_back(p, regs.rip);
	} else if ((p = patch_of_code(mm, regs.rip))) {
		leave_site(t, p, regs.rip - p->code, &regs);
	} else if (at >= h.stub && at < h.stub_saved) {
		leave_search(t, at, &regs);
	} else if ((at >= h.stub_saved && at < h.stub_published) ||
		   (at >= h.stub_undone && at < h.stub_done) ||
		   (at >= h.stub_back && at < h.stub_end) ||
		   (at >= h.finish && at < h.finished) ||
		   (at >= h.site_code + SITE_CODE_SIZE && at < GATE_SIZE)) {
		leave_early(t, at, &regs);
	} else if ((at >= h.finished && at < h.left) ||
		   (at >= h.stub_done && at < h.stub_back)) {
		leave_late(t, &regs);
	} else {
		return;
	}
	remote_set_regs(t->tid, &regs);
}

bool stub_rings(struct tracer *tr, struct task *t)
{
	const struct gate_header h = gate_header();
	struct user_regs_struct regs;
	struct slot *lane;
	uint64_t at;
	int index;

	if (remote_get_regs(t->tid, &regs) < 0)
		return false;
	at = regs.rip - t->proc->mm->memory->base;
	lane = stub_lane(t->proc, regs.r12, &index);
	if (!lane || at < h.left || at >= h.one ||
	    slot_answered(lane, lane->req_seq & ~1u))
		return false;
	executor_ring(tr, t->proc, lane, index);
	regs.rip = t->proc->mm->memory->base + h.wait;
	regs.orig_rax = ~0ULL;
	remote_set_regs(t->tid, &regs);
	return true;
}

bool stub_completed(struct task *t)
{
	struct user_regs_struct regs;
	struct slot *lane;

	if (remote_get_regs(t->tid, &regs) < 0)
		return false;
	lane = stub_lane(t->proc, regs.r12, NULL);
	if (!lane || lane->stage != STAGE_DONE)
		return false;
	leave_late(t, &regs);
	regs.orig_rax = ~0ULL;
	remote_set_regs(t->tid, &regs);
	remote_end(&t->remote);
	return true;
}

bool stub_adopt(struct tracer *tr, struct task *t)
{
	const struct gate_header h = gate_header();
	struct user_regs_struct regs;
	const struct patch *p;
	struct slot *lane;
	uint64_t at;
	int index;

	if (remote_get_regs(t->tid, &regs) < 0)
		return false;
	at = regs.rip - t->proc->mm->memory->base;
	if (!((at >= h.wait && at < h.finish) ||
	      (at >= h.left && at < h.one) ||
	      (at >= h.stub_published && at < h.stub_undone)))
		return false;
	lane = stub_lane(t->proc, regs.r12, &index);
	p = lane ? patch_of_code(t->proc->mm, lane->site) : NULL;
	if (!p)
		return false;
	t->regs = regs;
	from_lane(lane, &t->regs);
	t->nr = (uint32_t)lane->value;
	memcpy(t->args, (uint64_t[6]){ lane->rdi, lane->rsi, lane->rdx,
		       lane->r10, lane->r8, lane->r9 }, sizeof(t->args));
	t->regs.rip = p->tramp + p->trap + 2;
	t->regs.rcx = p->site + 2;
	t->regs.r11 = lane->rflags;
	t->pending = (struct pending){ .slot = lane, .index = index,
				    .seq = lane->req_seq & ~1u };
	t->in_gate = true;
	t->cancelled = false;
	t->then = NULL;
	t->started = now_seconds();
	take_over(tr, t, lane);
	tr->stats.adopted++;
	/* The wake-up that the stub was about to make, or stop for. */
	if (!slot_answered(lane, t->pending.seq))
		executor_ring(tr, t->proc, lane, index);
	return true;
}
