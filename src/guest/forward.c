/* SPDX-License-Identifier: MIT */
/*
 * forward.c - calls that a shadow carries out
 *
 * A process gets its shadow when it first needs one. Before a request is
 * published the shadow has been told of every change of the address space
 * made until then (DESIGN 4: the order is the correctness contract).
 */
#include "guest/tracer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/num.h"
#include "guest/callfmt.h"
#include "guest/source.h"
#include "wire/calls.h"

static void futex_wake(uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

/* --- shadows ------------------------------------------------------------- */

static int request_shadow(struct tracer *tr, struct proc *p, uint32_t parent,
			  uint32_t flags)
{
	struct msg m = { .type = MSG_SHADOW_NEW };
	int err;

	if (++tr->next_shadow == 0)
		tr->next_shadow = 1;
	m.shadow.id = tr->next_shadow;
	m.shadow.parent = parent;
	m.shadow.umask = p->fs->umask;
	m.shadow.clone_flags = flags;
	err = client_request(&tr->client, &m, -1, NULL);
	if (err == -EINPROGRESS)
		tr->client.unsure = true;	/* half of it, and it hangs */
	if (err)
		return err;
	p->shadow = m.shadow.id;
	p->shadow_pid = (pid_t)tr->client.value;
	p->shadow_gone = false;
	mm_view_attach(p->mm, &p->view);
	tr->stats.shadows++;
	if (!parent && p->fsize != RLIM_INFINITY)
		shadow_tell_fsize(tr, p);
	return 0;
}

/* All that is mapped, for a view that knows nothing. */
static void view_fresh(struct proc *p)
{
	for (size_t i = 0; i < p->mm->n; i++)
		mm_dirty(p->mm, p->mm->v[i].start, p->mm->v[i].end);
}

static int tell_file(struct tracer *tr, struct mapfile *f)
{
	struct msg m = { .type = MSG_FILE };
	int err;

	if (f->told)
		return 0;
	m.file.file = f->id;
	err = client_ask(&tr->client, &m, f->fd);
	f->told = !err;
	return err;
}

static struct mapfile *find_file(const struct tracer *tr, uint32_t id)
{
	struct mapfile *f = tr->memory.files;

	while (f && f->id != id)
		f = f->next;
	return f;
}

/* While the daemon makes a shadow: what that is going to map first. */
static void tell_files(struct tracer *tr, const struct mm *mm)
{
	for (size_t i = 0; i < mm->n; i++)
		if (mm->v[i].kind == REGION_FILE)
			(void)tell_file(tr, mm->v[i].file);
}

/* One of them the daemon could not take: which, is not known. */
static void forget_files(struct tracer *tr)
{
	for (struct mapfile *f = tr->memory.files; f; f = f->next)
		if (f->fd >= 0)
			f->told = false;
}

static int tell_map(struct tracer *tr, struct proc *p)
{
	for (;;) {
		struct msg m = { .type = MSG_MAP };
		int err = 0, untold;

		m.map.shadow = p->shadow;
		m.map.n = (uint32_t)mm_view_next(p->mm, &p->view, m.map.v,
						 MSG_EXTENTS_MAX);
		if (!m.map.n)
			return 0;
		for (uint32_t i = 0; i < m.map.n && !err; i++) {
			const struct extent *e = &m.map.v[i];
			struct mapfile *f = e->kind == EXTENT_FILE ?
					    find_file(tr, e->file) : NULL;

			if (f)
				err = tell_file(tr, f);
			if (e->kind != EXTENT_NONE)
				tr->stats.bytes_mapped += e->len;
		}
		if (!err)
			err = client_request(&tr->client, &m, -1, NULL);
		untold = client_asked(&tr->client);
		if (untold)
			forget_files(tr);
		if (err || untold) {
			/* It has yet to hear of them. */
			for (uint32_t i = 0; i < m.map.n; i++)
				mm_view_add(&p->view, m.map.v[i].gva,
					    m.map.v[i].gva + m.map.v[i].len);
			return err ? err : untold;
		}
		tr->stats.map_requests++;
		tr->stats.extents += m.map.n;
	}
}

static void send_drop(struct tracer *tr, const struct proc *p)
{
	struct msg m = { .type = MSG_SHADOW_DROP };

	m.shadow.id = p->shadow;
	client_drop(&tr->client, &m);
}

/* It could not be told what has changed, and must not go on without. */
static void lose_shadow(struct tracer *tr, struct proc *p)
{
	if (!tr->client.dead) {
		(void)client_dropped(&tr->client);
		send_drop(tr, p);
		if (client_dropped(&tr->client))
			client_note_gone(&tr->client, p->shadow);
	}
	p->shadow_gone = true;
	stub_abandon(p);
}

static void tell_or_lose(struct tracer *tr, struct proc *p)
{
	if (p->shadow_gone || tell_map(tr, p) == 0)
		return;
	lose_shadow(tr, p);
}

void shadow_tell_all(struct tracer *tr, struct mm *mm)
{
	for (struct mm_view *v = mm->views; v; v = v->next)
		tell_or_lose(tr, (struct proc *)((char *)v -
				 offsetof(struct proc, view)));
}

/* The guest physical address of a slot; 0: not in a VM. */
static uint64_t slot_gpa(const struct tracer *tr, const struct mm *mm,
			 uint64_t gva)
{
	const struct region *r = mm_find(mm, gva);

	return tracer_in_vm(tr) && r && r->start <= gva ? r->off + (gva - r->start) :
						   0;
}

int executor_new(struct tracer *tr, struct proc *p, int index, uint32_t seq)
{
	struct msg m = { .type = MSG_THREAD_NEW };
	int err;

	m.thread.shadow = p->shadow;
	m.thread.thread = (uint32_t)index;
	m.thread.slot = memory_slot(&tr->memory, index);
	m.thread.seq = seq;
	m.thread.slot_gpa = slot_gpa(tr, p->mm, m.thread.slot);
	/* Of a process that is being killed nothing can be looked at; who does
	 * not know the slot can never wake who sleeps on it. */
	if (tracer_in_vm(tr) && !m.thread.slot_gpa)
		return -EIO;
	err = client_request(&tr->client, &m, -1, NULL);
	if (!err)
		tr->stats.executors++;
	return err;
}

static int make_executor(struct tracer *tr, struct task *t)
{
	int err = executor_new(tr, t->proc, t->slot_index, t->seq);

	if (err)
		return err;
	t->executor = true;
	placement_new_executor(tr, t);
	return 0;
}

/*
 * A shadow without descriptors to inherit still has a directory to be in. -EIO: it
 * could not be asked.
 */
static int enter_cwd(struct tracer *tr, struct task *t)
{
	char *scratch = (char *)t->slot + SLOT_SCRATCH;
	const char *cwd = t->proc->fs->cwd;
	uint64_t args[6] = { task_scratch(t) };

	if (!t->proc->fs->host || !cwd)
		return 0;
	if (strlen(cwd) >= SLOT_SCRATCH_SIZE)
		return -ENAMETOOLONG;
	strcpy(scratch, cwd);
	/* Gone meanwhile: the calls that need it will say ENOENT. */
	return shadow_sync(tr, t, SLOT_CALL, SYS_chdir, args, -1) == -EIO ?
	       -EIO : 0;
}

int shadow_ready_for(struct tracer *tr, struct task *t,
		     const struct forward_call *call)
{
	struct proc *p = t->proc;
	struct stub_ctl *ctl = stub_ctl_of(p);
	bool manned;
	int err;

	if (tr->client.dead || p->shadow_gone)
		return -EIO;
	err = task_slot(t);
	if (!err)
		stub_first_lane(tr, t);
	if (!err && !p->shadow) {
		tell_files(tr, p->mm);
		err = request_shadow(tr, p, 0, 0);
		if (!err)
			view_fresh(p);
		p->outside = !err;
	}
	if (!err)
		err = tr->source->settle(tr, t, call);
	if (!err)
		err = tell_map(tr, p);
	manned = !err && ctl && stub_man_lanes(tr, t) == 0;
	if (!err && p->outside) {
		err = enter_cwd(tr, t);
		p->outside = err != 0;
	}
	if (!err && manned) {
		if (call)
			mem_told(t, call);
		stub_set_told(ctl, !tracer_in_vm(tr));
		stub_set_ready(ctl, true);
	}
	return err;
}

int shadow_ready(struct tracer *tr, struct task *t)
{
	return shadow_ready_for(tr, t, NULL);
}

int shadow_fork(struct tracer *tr, struct proc *parent, struct proc *child,
		unsigned long flags)
{
	int err;

	/* Nothing to inherit: it gets one of its own when it needs one. */
	if (!parent->shadow || parent->shadow_gone || tr->client.dead ||
	    (child->files->nhost == 0 && !child->fs->host &&
	     !(flags & CLONE_FILES)))
		return 0;
	err = request_shadow(tr, child, parent->shadow,
			     (uint32_t)flags & (CLONE_FILES | CLONE_FS));
	if (err == -EIO) {
		child->shadow_gone = true;	/* as every call will say */
		return 0;
	}
	if (err)
		return err;
	/* It maps what its parent's shadow mapped: what that one has not been
	 * told, and what is the child's own now, is to be told. */
	for (size_t i = 0; i < parent->view.ndirty; i++)
		mm_dirty(child->mm, parent->view.dirty[i].start,
			 parent->view.dirty[i].end);
	if (child->mm == parent->mm)
		return 0;
	if (tracer_in_vm(tr)) {
		/* Not one frame is the child's, and its parent may let them
		 * go at once. */
		mm_dirty(child->mm, PAGE_BYTES, USER_END);
		return tell_map(tr, child);
	}
	for (size_t i = 0; i < child->mm->n; i++) {
		const struct region *r = &child->mm->v[i];

		if (r->kind == REGION_PRIVATE || r->kind == REGION_SLOTS)
			mm_dirty(child->mm, r->start, r->end);
	}
	/* Regions that are not inherited (MADV_DONTFORK). */
	for (size_t i = 0; i < parent->mm->n; i++)
		if (parent->mm->v[i].dontfork)
			mm_dirty(child->mm, parent->mm->v[i].start,
				 parent->mm->v[i].end);
	return 0;
}

void shadow_begin_drop(struct tracer *tr, struct proc *p)
{
	if (!p->shadow)
		return;
	if (!p->shadow_gone)
		send_drop(tr, p);
	mm_view_detach(p->mm, &p->view);
	p->shadow = 0;
}

void shadow_drop(struct tracer *tr, struct proc *p)
{
	shadow_begin_drop(tr, p);
	(void)client_dropped(&tr->client);
}

void executor_drop(struct tracer *tr, struct task *t)
{
	struct msg m = { .type = MSG_THREAD_DROP };

	if (!t->executor)
		return;
	m.thread.shadow = t->proc->shadow;
	m.thread.thread = (uint32_t)t->slot_index;
	client_drop(&tr->client, &m);
	t->executor = false;
}

void shadow_tell_fsize(struct tracer *tr, struct proc *p)
{
	struct msg m = { .type = MSG_FSIZE };

	if (!p->shadow || p->shadow_gone)
		return;
	m.fsize.shadow = p->shadow;
	m.fsize.bytes = p->fsize;
	(void)client_request(&tr->client, &m, -1, NULL);
}

void shadow_close_fd(struct tracer *tr, struct proc *p, int fd)
{
	struct msg m = { .type = MSG_CLOSE };

	if (!p->shadow || p->shadow_gone)
		return;
	m.fd.shadow = p->shadow;
	m.fd.fd = (uint32_t)fd;
	(void)client_request(&tr->client, &m, -1, NULL);
}

/* The target's kernel has closed the placeholders that were close-on-exec. */
static void close_on_exec(struct tracer *tr, struct task *t)
{
	struct files *files = t->proc->files;

	for (size_t fd = 0; fd < files->n; fd++) {
		if (!files->v[fd].path || fd_is_open(t, (int)fd))
			continue;
		files_clear(files, (int)fd);
		shadow_close_fd(tr, t->proc, (int)fd);
	}
}

/*
 * exec: a shadow that holds nothing the new program inherits is let go, any
 * other forgets memory and threads.
 */
void shadow_exec(struct tracer *tr, struct task *t)
{
	struct msg m = { .type = MSG_SHADOW_RESET };
	struct proc *p = t->proc;

	if (p->files->refs > 1) {
		/* exec gives it a descriptor table of its own. */
		struct files *own = files_copy(p->files);

		if (own) {
			files_unref(p->files);
			p->files = own;
		}
	}
	close_on_exec(tr, t);
	if (!p->shadow)
		return;
	if (p->files->nhost == 0 && !p->fs->host) {
		shadow_drop(tr, p);
		return;
	}
	mm_view_detach(p->mm, &p->view);
	m.shadow.id = p->shadow;
	if (client_request(&tr->client, &m, -1, NULL) < 0)
		lose_shadow(tr, p);
}

/* --- requests ------------------------------------------------------------ */

/*
 * In a VM a futex reaches only one's own side: what the host waits for is told
 * to the daemon, and what it answers is looked for, by a pause that grows.
 */
void executor_ring(struct tracer *tr, const struct proc *p, struct slot *slot,
		   int index)
{
	struct msg m = { .type = MSG_RING };

	if (!tracer_in_vm(tr)) {
		futex_wake(&slot->req_seq);
		return;
	}
	m.thread.shadow = p->shadow;
	m.thread.thread = (uint32_t)index;
	client_notify(&tr->client, &m);
}

/*
 * What a request goes by: a lane, for the first few of a thread, so that most
 * threads need no executor of their own; then the thread's own slot, whose answer
 * does not have to stop the thread.
 */
#define LANE_LOANS	4

static bool borrow(struct task *t)
{
	if (!stub_borrow_lane(t))
		return false;
	t->loans++;
	t->proc->loans++;
	return true;
}

static int take_own_seat(struct tracer *tr, struct task *t)
{
	int err = t->executor ? 0 : make_executor(tr, t);

	if (err)
		return err;
	t->seq += 2;
	t->pending = (struct pending){ t->slot, t->slot_index, t->seq };
	return 0;
}

static int take_seat(struct tracer *tr, struct task *t)
{
	int err;

	if (!t->executor && t->loans < LANE_LOANS && borrow(t))
		return 0;
	err = take_own_seat(tr, t);
	/* Without one of its own (too many processes): better late. */
	return err && borrow(t) ? 0 : err;
}

/* By the seat that has been taken. */
static void publish(struct tracer *tr, struct task *t, uint32_t op,
		    uint64_t nr, const uint64_t args[6], int newfd)
{
	struct slot *s = t->pending.slot;
	uint32_t old;

	s->op = op;
	s->nr = (uint32_t)nr;
	s->newfd = (uint32_t)newfd;
	memcpy(s->args, args, sizeof(s->args));
	s->signal = 0;
	if (s == t->slot)
		s->spin = s->spin_max = tracer_in_vm(tr) ? tr->spin : 0;
	s->pause_s = 0;
	s->pause_ns = tracer_in_vm(tr) ? SLOT_PAUSE_MIN_NS : 0;
	old = __atomic_exchange_n(&s->req_seq, t->pending.seq,
				  __ATOMIC_SEQ_CST);
	if (old & 1)		/* it sleeps */
		executor_ring(tr, t->proc, s, t->pending.index);
}

/* Waits for a word that is seen to be changed by the host, or for a while. */
static int await_word(const struct tracer *tr, uint32_t *word, uint32_t seen,
		      uint64_t *pause_ns)
{
	struct timespec ts = { .tv_nsec = 100 * 1000 * 1000 };

	if (!tracer_in_vm(tr)) {
		/* The executor wakes only who says that he sleeps. */
		uint32_t old = __atomic_fetch_or(word, 1, __ATOMIC_SEQ_CST);

		if ((old & ~1u) != (seen & ~1u))
			return 0;
		seen = old | 1;
	} else {
		for (uint32_t i = 0; i < tr->spin; i++) {
			if (__atomic_load_n(word, __ATOMIC_ACQUIRE) != seen)
				return 0;
			__builtin_ia32_pause();
		}
		ts.tv_nsec = (long)*pause_ns;
		*pause_ns = min_u64(*pause_ns + *pause_ns / 8,
				    SLOT_PAUSE_MAX_NS);
	}
	return syscall(SYS_futex, word, FUTEX_WAIT, seen, &ts, NULL, 0) < 0 ?
	       -errno : 0;
}

/* The answer to what has been published, or -EIO. */
static int64_t await_answer(struct tracer *tr, struct task *t)
{
	uint64_t pause_ns = SLOT_PAUSE_MIN_NS;
	struct slot *s = t->pending.slot;

	for (;;) {
		int err;
		uint32_t seen = __atomic_load_n(&s->resp_seq,
						__ATOMIC_ACQUIRE);

		if ((seen & ~1u) == t->pending.seq)
			return s->result;
		/* Our own tick interrupts it more often than it times out. */
		err = await_word(tr, &s->resp_seq, seen, &pause_ns);
		if (err && err != -EAGAIN) {
			client_poll(&tr->client);
			for (size_t i = 0; i < tr->client.ngone; i++)
				if (tr->client.gone[i] == t->proc->shadow)
					return -EIO;
			if (tr->client.dead)
				return -EIO;
		}
	}
}

int64_t shadow_sync(struct tracer *tr, struct task *t, uint32_t op,
		    uint64_t nr, const uint64_t args[6], int newfd)
{
	int64_t r;

	if (tr->client.dead || t->proc->shadow_gone ||
	    take_seat(tr, t) < 0)
		return -EIO;
	publish(tr, t, op, nr, args, newfd);
	r = await_answer(tr, t);
	stub_settled(t);
	return r;
}

int shadow_open(struct tracer *tr, struct task *t, int dirfd, const char *path,
		int flags)
{
	uint64_t args[6] = { (uint64_t)(int64_t)dirfd, 0, (uint64_t)flags };
	int err = shadow_ready(tr, t);

	if (err)
		return err;
	args[1] = task_scratch(t);
	strcpy((char *)t->slot + SLOT_SCRATCH, path);
	return (int)shadow_sync(tr, t, SLOT_CALL, SYS_openat, args, -1);
}

void shadow_close_made(struct tracer *tr, struct task *t, int there)
{
	const uint64_t args[6] = { (uint64_t)there };

	shadow_sync(tr, t, SLOT_CALL, SYS_close, args, -1);
}

/*
 * In the shadow the capsule stands where the target has nothing: what the
 * target's kernel would answer with EFAULT must not read the capsule's text.
 */
static bool aims_at_capsule(const struct task *t, uint64_t nr,
			    const uint64_t args[6])
{
	const struct call *c = calls_get(nr);

	for (int i = 0; c && c->args[i]; i++) {
		const struct region *r;

		if (!strchr("*bBVTpP", c->args[i]) ||
		    args[i] - CAPSULE_BASE >= CAPSULE_SIZE)
			continue;
		r = mm_find(t->proc->mm, args[i]);
		if (!r || r->start > args[i])
			return true;
	}
	return false;
}

/* What it goes on with when the gate lets it go by itself. */
static void save_regs(struct task *t)
{
	struct slot *s = t->pending.slot;

	s->rdi = t->regs.rdi;
	s->rsi = t->regs.rsi;
	s->rdx = t->regs.rdx;
	s->r10 = t->regs.r10;
	s->r8 = t->regs.r8;
	s->r9 = t->regs.r9;
	s->r12 = t->regs.r12;
	s->rsp = t->regs.rsp;
	s->rip = t->regs.rip;
	s->rflags = t->regs.eflags;
	s->flags = (t->regs.eflags & 0xff) << 8 | (t->regs.eflags >> 11 & 1);
	s->site = 0;
	s->stage = STAGE_NONE;
}

/* The thread waits in the gate for what has been published. */
static void enter_gate(struct tracer *tr, struct task *t, then_fn then)
{
	struct user_regs_struct regs = t->regs;
	struct slot *s = t->pending.slot;

	save_regs(t);
	t->then = then;
	/* A lane is ours to let go. */
	s->post = s != t->slot || then || tr->trace || tr->want_stats ||
		  t->remote.masked || t->proc->mm->writes_files;
	t->in_gate = true;
	task_wait_regs(t, &regs);
	remote_set_regs(t->tid, &regs);
	ptrace(PTRACE_CONT, t->tid, NULL, NULL);
}

void task_forward(struct tracer *tr, struct task *t, uint32_t op, uint64_t nr,
		  const uint64_t args[6], int newfd, then_fn then)
{
	const struct forward_call call = { nr, args };
	int err;

	t->left.nr = ~0ULL;
	err = t->remote.fate ? -EIO : shadow_ready_for(tr, t, &call);
	if (!err && aims_at_capsule(t, nr, args))
		err = -EFAULT;
	else if (!err)
		err = take_seat(tr, t);
	if (err && err != -EIO && err != -EFAULT) {
		log_err("process %d: its shadow could not be prepared: %s",
			t->tid, strerror(-err));
		err = -EIO;
	}
	if (err) {
		t->then = NULL;
		if (then)
			then(tr, t, err);
		else
			task_return(tr, t, err);
		return;
	}
	t->cancelled = false;
	tr->stats.forwarded++;
	if (tr->trace || tr->want_stats)
		t->started = now_seconds();
	if (nr == SYS_ioctl && tracer_has_devices(tr)) {
		op = SLOT_MAKES;
		newfd = (int)files_free_made(t->proc->files, t->proc->ntasks);
	}
	publish(tr, t, op, nr, args, newfd);
	enter_gate(tr, t, then);
	/* A signal came while this was prepared, and waits: as natively, the
	 * call is made but does not block. */
	if (t->remote.masked)
		forward_cancel(tr, t);
}

/* --- beside a call of the thread's own --------------------------------------- */

static int ready_watch(struct tracer *tr)
{
	return tr->watch ? 0 : watch_new(!tracer_in_vm(tr), &tr->watch);
}

int forward_beside(struct tracer *tr, struct task *t, uint64_t nr,
		   const uint64_t args[6])
{
	const struct forward_call call = { nr, args };
	int err = t->remote.fate ? -EIO : shadow_ready_for(tr, t, &call);

	if (!err)
		err = ready_watch(tr);
	if (!err)
		err = take_own_seat(tr, t);
	if (!err)
		err = watch_add(tr->watch, &t->slot->resp_seq, t->pending.seq,
				t->tid);
	if (err)
		return err;
	t->beside = true;
	t->cancelled = false;
	t->started = now_seconds();
	publish(tr, t, SLOT_CALL, nr, args, -1);
	return 0;
}

void forward_beside_end(struct tracer *tr, struct task *t, then_fn then)
{
	forward_unwatch(tr, t);
	if (!slot_answered(t->pending.slot, t->pending.seq))
		forward_cancel(tr, t);
	enter_gate(tr, t, then);
}

void forward_unwatch(struct tracer *tr, struct task *t)
{
	if (t->beside)
		watch_remove(tr->watch, t->tid);
	t->beside = false;
}

/* --- what may be let go ---------------------------------------------------- */

static bool is_under_way(const struct task *t)
{
	return forward_waits(t) &&
	       !slot_answered(t->pending.slot, t->pending.seq);
}

bool call_uses(uint64_t nr, const uint64_t args[6], struct range at)
{
	const struct call *c = calls_get(nr);

	for (int i = 0; c && i < 6 && c->args[i]; i++) {
		const bool sized = strchr("bB", c->args[i]) &&
				   c->args[i + 1] == 'n';
		const uint64_t len = sized ? args[i + 1] :
				     strchr("TpP", c->args[i]) ? PATH_MAX :
				     strchr("*bBV", c->args[i]) ? STUB_STRUCT : 0;

		if (args[i] < at.end &&
		    (args[i] >= at.start ? len > 0 : at.start - args[i] < len))
			return true;
	}
	return false;
}

/*
 * Direct I/O goes on in frames that the shadow maps no more, where a thread
 * gives back memory that another's call uses. What a call points to through
 * memory may have changed since: any range may be its.
 */
static bool may_use(uint64_t nr, const uint64_t args[6], struct range at)
{
	const struct call *c = calls_get(nr);

	return nr == SYS_ioctl || (c && strchr(c->args, 'V')) ||
	       call_uses(nr, args, at);
}

static void hold_lanes(struct tracer *tr, struct proc *p, struct range at)
{
	for (int i = 0; i < p->nlanes; i++) {
		const struct slot *lane = p->lanes[i];
		const uint32_t seq = __atomic_load_n(&lane->req_seq,
						     __ATOMIC_ACQUIRE) & ~1u;

		if (slot_answered(lane, seq) ||
		    !may_use(lane->nr, lane->args, at))
			continue;
		/* One that was held before has been answered: it goes on as
		 * this one. */
		if (!p->held[i])
			tr->memory.pinner->held++;
		p->held[i] = seq | 1;
	}
}

void forward_hold(struct tracer *tr, const struct mm *mm, struct range at)
{
	struct task *t;
	size_t pos = 0;

	while ((t = idmap_next(&tr->tasks, &pos))) {
		if (t->proc->mm != mm)
			continue;
		hold_lanes(tr, t->proc, at);
		if (t->holds || !is_under_way(t) ||
		    !may_use(t->nr, t->args, at))
			continue;
		t->holds = true;
		tr->memory.pinner->held++;
	}
}

/* Answered requests of lanes, and what was followed by others. */
static void unhold_lanes(struct tracer *tr, struct proc *p)
{
	for (int i = 0; i < p->nlanes; i++) {
		const struct slot *lane = p->lanes[i];
		const uint32_t seq = p->held[i] & ~1u;

		if (!p->held[i] || (!slot_answered(lane, seq) &&
				    (lane->req_seq & ~1u) == seq))
			continue;
		p->held[i] = 0;
		tr->memory.pinner->held--;
	}
}

bool forward_uses(const struct tracer *tr, const struct mm *mm,
		  struct range at)
{
	const struct proc *seen = NULL;
	const struct task *t;
	size_t pos = 0;

	while ((t = idmap_next(&tr->tasks, &pos))) {
		if (t->proc->mm != mm)
			continue;
		if (is_under_way(t) && call_uses(t->nr, t->args, at))
			return true;
		/* Threads of one process mostly follow each other. */
		if (t->proc != seen && stub_uses(t->proc, at))
			return true;
		seen = t->proc;
	}
	return false;
}

void forward_unhold(struct tracer *tr, struct task *t)
{
	if (t->holds)
		tr->memory.pinner->held--;
	t->holds = false;
}

void shadow_release(struct tracer *tr)
{
	struct pinner *pinner = tr->memory.pinner;
	size_t pos = 0;
	struct task *t;

	if (!pinner || !pinner_waits(pinner))
		return;
	client_settle(&tr->client);
	while (!tr->client.unsure && (t = idmap_next(&tr->tasks, &pos))) {
		if (t->proc->shadow && t->proc->view.ndirty)
			tell_or_lose(tr, t->proc);
		if (!is_under_way(t))
			forward_unhold(tr, t);
		unhold_lanes(tr, t->proc);
	}
	pinner_release(pinner);
}

/* --- answers ------------------------------------------------------------- */

static ssize_t fmt_read(void *ctx, uint64_t addr, void *buf, size_t len)
{
	return task_read(ctx, addr, buf, len);
}

static const char *fmt_fd_path(void *ctx, int fd)
{
	struct task *t = ctx;
	const struct hostfd *h = files_get(t->proc->files, fd);

	return h ? h->path : NULL;
}

void forward_trace(struct tracer *tr, struct task *t, int64_t result,
		   double began)
{
	struct callfmt fmt = { .read = fmt_read, .ctx = t,
			       .fd_path = fmt_fd_path, .str_max = 32 };
	char line[8192];

	if (!tr->trace || is_restart_code(result))
		return;
	callfmt_call(&fmt, t->nr, t->args, result, now_seconds() - began, line,
		     sizeof(line));
	fprintf(tr->trace, "%d %s%s\n", t->tid, line,
		t->nr == SYS_ioctl && result == -EBADF ?
		" # was it told a descriptor that is the target's own?" : "");
	fflush(tr->trace);
}

void forward_answered(struct tracer *tr, struct task *t)
{
	const struct forward_call call = { t->nr, t->args };
	int64_t result = t->pending.slot->result;
	const uint32_t signal = t->pending.slot->signal;
	const int sig = (int)(signal & 0xff);
	then_fn then = t->then;

	t->in_gate = false;
	stub_settled(t);
	if (signal & SLOT_FRESH)
		result = adopt_descriptors(tr, t, result);
	if (tr->want_stats)
		tr->stats.forwarded_time += now_seconds() - t->started;
	if (!t->wait)	/* else it is a part of the call */
		forward_trace(tr, t, result, t->started);
	tr->source->answered(tr, t, &call);
	/* The host's kernel sent it for this call: it is the target's. */
	if (sig > 0 && sig < 65)
		syscall(SYS_tkill, t->tid, sig);
	if (then)
		then(tr, t, result);
	else
		task_return(tr, t, result);
}

void forward_cancel(struct tracer *tr, struct task *t)
{
	struct msg m = { .type = MSG_CANCEL };

	if (t->cancelled)
		return;
	t->cancelled = true;
	tr->stats.cancelled++;
	m.thread.shadow = t->proc->shadow;
	m.thread.thread = (uint32_t)t->pending.index;
	m.thread.seq = t->pending.seq;
	(void)client_request(&tr->client, &m, -1, NULL);
}

/* As the executor would have published it; the gate finds it. */
void slot_abandon(struct slot *s, uint32_t seq)
{
	s->result = -EIO;
	s->signal = 0;
	__atomic_store_n(&s->resp_seq, seq, __ATOMIC_RELEASE);
	futex_wake(&s->resp_seq);
}
