/* SPDX-License-Identifier: MIT */
/* memory.c - what both sources of memory have in common */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#include "base/num.h"
#include "guest/pointers.h"
#include "guest/source.h"
#include "process/maps.h"

bool mem_is_ours(const struct memory *m, uint64_t start, uint64_t end)
{
	return start < memory_slots(m) + SLOT_AREA && m->base < end;
}

/* Gate, slots, or what sites jump to. */
static bool is_ours(const struct task *t, struct range at)
{
	const struct mm *mm = t->proc->mm;

	return mem_is_ours(mm->memory, at.start, at.end) || patch_owns(mm, at);
}

bool mem_range(uint64_t addr, uint64_t len, struct range *out)
{
	if (len == 0 || addr + len < addr || addr + len > ~0ULL - PAGE_BYTES)
		return false;
	*out = (struct range){ page_down(addr), page_up(addr + len) };
	return true;
}

bool mem_range_arg(struct tracer *tr, struct task *t, int refusal,
		   struct range *out)
{
	if (!mem_range(t->args[0], t->args[1], out) ||
	    t->args[0] % PAGE_BYTES) {
		task_allow(tr, t);
		return false;
	}
	if (is_ours(t, *out)) {
		task_return(tr, t, refusal);
		return false;
	}
	return true;
}

int mem_map_refusal(const struct tracer *tr, const struct task *t,
		    struct range at)
{
	const uint64_t flags = t->args[3];

	if (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) && is_ours(t, at))
		return flags & MAP_FIXED ? -ENOMEM : -EEXIST;
	if (!(flags & MAP_ANONYMOUS) && is_hidden_fd(tr, (int)t->args[4]))
		return -EBADF;
	return 0;
}

int mem_open_line(const struct task *t, const struct map_line *line)
{
	char path[96];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/map_files/%lx-%lx", t->tid,
		 line->start, line->end);
	fd = open(path, (line->shared && line->prot & PROT_WRITE ? O_RDWR :
			 O_RDONLY) | O_CLOEXEC | O_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

static void call_munmap(struct tracer *tr, struct task *t)
{
	struct range at;
	int64_t r;

	if (!mem_range_arg(tr, t, -EINVAL, &at))
		return;
	patch_undo(tr, t, at, false);
	r = task_native_same(tr, t);
	task_return(tr, t, r == 0 ? tr->source->unmapped(tr, t, at) : r);
}

static void call_mprotect(struct tracer *tr, struct task *t)
{
	struct range at;

	if (!mem_range_arg(tr, t, -EACCES, &at))
		return;
	if (t->args[2] & PROT_WRITE)
		patch_undo(tr, t, at, true);
	task_return(tr, t, tr->source->mprotect(tr, t, at));
}

static void call_mremap(struct tracer *tr, struct task *t)
{
	const uint64_t new_len = page_up(t->args[2]);
	struct range old, to;

	if (t->args[0] % PAGE_BYTES || t->args[1] > 1ULL << 47 ||
	    t->args[2] == 0 || t->args[2] > 1ULL << 47) {
		task_allow(tr, t);
		return;
	}
	old = (struct range){ t->args[0], t->args[0] + page_up(t->args[1]) };
	to = (struct range){ t->args[4], t->args[4] + new_len };
	if (is_ours(t, old) || (t->args[3] & MREMAP_FIXED && is_ours(t, to))) {
		task_return(tr, t, -EINVAL);
		return;
	}
	patch_undo(tr, t, old, true);
	if (t->args[3] & MREMAP_FIXED)
		patch_undo(tr, t, to, false);
	task_return(tr, t, tr->source->mremap(tr, t, old, new_len));
}

/* What the call may take away, or put something in the place of; or code, which may
 * have been looked at (patch_undo()). */
static void forget_own(const struct task *t)
{
	const bool fixed = (t->nr == SYS_mmap && t->args[3] & MAP_FIXED) ||
			   (t->nr == SYS_mremap && t->args[3] & MREMAP_FIXED);
	const struct mm *mm = t->proc->mm;
	struct stub_ctl *ctl = mm->ctl;
	struct range at;

	if ((t->nr == SYS_munmap || t->nr == SYS_mremap ||
	     (t->nr == SYS_mmap && fixed) ||
	     (t->nr == SYS_mprotect && t->args[2] & PROT_EXEC)) &&
	    mem_range(t->args[0], t->args[1], &at))
		stub_forget_own(ctl, at);
	if (t->nr == SYS_mremap && fixed &&
	    mem_range(t->args[4], t->args[2], &at))
		stub_forget_own(ctl, at);
	if (t->nr == SYS_brk)
		stub_forget_own(ctl, (struct range){
				page_down(min_u64(t->args[0], mm->brk)),
				page_up(mm->brk) });
	if (t->nr == SYS_shmat)
		stub_forget_own(ctl, (struct range){ 0, USER_END });
}

static void handle(struct tracer *tr, struct task *t)
{
	const struct source *source = tr->source;
	struct range at;

	switch (t->nr) {
	case SYS_mmap:
		if (t->args[3] & MAP_FIXED && mem_range(t->args[0], t->args[1],
							&at))
			patch_undo(tr, t, at, false);
		source->mmap(tr, t);
		break;
	case SYS_munmap:
		call_munmap(tr, t);
		break;
	case SYS_mprotect:
	case SYS_pkey_mprotect:
		call_mprotect(tr, t);
		break;
	case SYS_brk:
		task_return(tr, t, source->brk(tr, t));
		break;
	case SYS_madvise:
		source->madvise(tr, t);
		break;
	case SYS_mremap:
		call_mremap(tr, t);
		break;
	case SYS_shmat:
		task_return(tr, t, source->shmat(tr, t));
		break;
	case SYS_shmdt:
		task_return(tr, t, source->shmdt(tr, t));
		break;
	case SYS_remap_file_pages:
		/* Emulated since Linux 4.0, and used by nobody. */
		task_return(tr, t, -ENOSYS);
		break;
	default:
		source->other(tr, t);
	}
}

void memcall_handle(struct tracer *tr, struct task *t)
{
	forget_own(t);
	handle(tr, t);
}

int mem_slots(struct tracer *tr, struct mm *mm)
{
	const uint64_t at = memory_slots(&tr->memory);
	struct region slots = { .start = at, .end = at + SLOT_AREA,
				.prot = PROT_READ | PROT_WRITE,
				.kind = REGION_SLOTS };
	int err = arena_alloc(&tr->memory.arena, SLOT_AREA, &mm->slots_off);

	if (!err)
		err = stub_ctl_new(&tr->stub_rules, mm);
	if (err || tr->memory.pinner)
		return err;
	slots.off = mm->slots_off;
	slots.limit = slots.off + SLOT_AREA;
	return mm_insert(mm, &slots);
}

/* Gate and slots, by calls made at the program's first instruction. */
static int map_gate(struct tracer *tr, struct task *t)
{
	void *at = (void *)t->regs.rip;
	int64_t r = 0;
	long word;
	int err;

	errno = 0;
	word = ptrace(PTRACE_PEEKTEXT, t->tid, at, NULL);
	if (errno || ptrace(PTRACE_POKETEXT, t->tid, at,
			    (word & ~0xffffL) | 0x050f) < 0)
		return -errno;
	t->remote.insn = t->regs.rip;
	err = remote_call(&t->remote, SYS_mmap, (uint64_t[6]){
			  tr->memory.base, TEXT_SIZE, PROT_READ | PROT_EXEC,
			  MAP_SHARED | MAP_FIXED_NOREPLACE,
			  hidden_fd(tr, HIDDEN_ARENA),
			  t->proc->mm->patches.text->off }, &r);
	if (!err && r > 0)
		err = remote_call(&t->remote, SYS_mmap, (uint64_t[6]){
				  memory_slots(&tr->memory), SLOT_AREA,
				  PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_FIXED_NOREPLACE |
				  MAP_NORESERVE, hidden_fd(tr, HIDDEN_ARENA),
				  t->proc->mm->slots_off }, &r);
	if (err)
		return err;
	if (ptrace(PTRACE_POKETEXT, t->tid, at, word) < 0)
		return -errno;
	return mem_errno(r);
}

int mem_setup(struct tracer *tr, struct task *t)
{
	int64_t r;
	int err = mem_slots(tr, t->proc->mm);

	t->proc->mm->program = true;
	if (!err)
		err = patches_text(&tr->memory, &t->proc->mm->patches);
	if (!err)
		err = map_gate(tr, t);
	if (!err)
		err = tr->source->setup(tr, t);
	if (err)
		return err;
	/* Where the capsule is in the shadow nothing should come to be here. */
	r = task_native(tr, t, SYS_mmap, CAPSULE_BASE, CAPSULE_SIZE, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE |
			MAP_FIXED_NOREPLACE, ~0ULL, 0);
	err = mem_errno(r);
	/* ENOMEM: nothing can. */
	return err == -ENOMEM ? 0 : err;
}

/*
 * The child still has its parent's memory. A first batch is read from the
 * parent's slot, which the child shares until its last call; that call gives
 * it slots of its own.
 */
int mem_fork_slots(struct tracer *tr, struct task *parent, struct task *child,
		   const struct batch_call *calls, size_t n)
{
	struct mm *mm = child->proc->mm;
	const struct batch_call last = { SYS_mmap, {
		memory_slots(&tr->memory), SLOT_AREA, PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_FIXED | MAP_NORESERVE,
		hidden_fd(tr, HIDDEN_ARENA), mm->slots_off } };
	int err = task_slot(parent);

	if (err)
		return err;
	child->slot_index = parent->slot_index;
	child->slot = parent->slot;
	err = task_batch(child, calls, n, NULL);
	if (!err)
		err = task_batch(child, &last, 1, NULL);
	child->slot = NULL;
	child->slot_index = -1;
	return err;
}

int mem_fork(struct tracer *tr, struct task *parent, struct task *child)
{
	struct mm *from = parent->proc->mm, *to = child->proc->mm;
	int err = task_slot(parent);

	to->program = from->program;
	to->brk = from->brk;
	to->brk_start = from->brk_start;
	if (!err)
		err = patches_fork(&from->patches, &to->patches);
	if (!err)
		err = mem_slots(tr, to);
	return err ? err : tr->source->fork(tr, parent, child);
}

int64_t mem_map_private(struct tracer *tr, struct task *t, uint64_t len)
{
	return tr->source->map_private(tr, t, len);
}

void mem_unmap_private(struct tracer *tr, struct task *t, uint64_t at,
		       uint64_t len)
{
	if (task_native(tr, t, SYS_munmap, at, len, 0, 0, 0, 0) == 0)
		(void)tr->source->unmapped(tr, t, (struct range){ at,
					   at + page_up(len) });
}

/* --- what the stub may count on -------------------------------------------- */

/* The target's own, pinned: of a file's frames it has to be asked each time. */
static bool is_own(const struct region *r)
{
	return !r->file && r->prot & PROT_READ && r->prot & PROT_WRITE;
}

/* A range that a call points to, with what there is of the kind around it. */
static void tell_stub(void *ctx, struct range at, bool written)
{
	const struct mm *mm = ctx;
	const struct region *r = mm_find(mm, at.start), *first, *last;

	(void)written;
	if (stub_shadowed(mm->ctl, at) || !r || r->start > at.start ||
	    !is_own(r))
		return;
	for (first = r; first > mm->v && is_own(first - 1) &&
			first[-1].end == first->start; first--)
		;
	for (last = r; last + 1 < mm->v + mm->n && is_own(last + 1) &&
		       last[1].start == last->end; last++)
		;
	stub_learn_shadowed(mm->ctl, (struct range){ first->start, last->end });
}

void mem_told(struct task *t, const struct forward_call *call)
{
	visit_pointers(&(struct visit){ tell_stub, t->proc->mm }, t, call);
}
