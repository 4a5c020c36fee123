/* SPDX-License-Identifier: MIT */
/*
 * memcalls.c - the address space of a target, kept in guest RAM (DESIGN 4)
 *
 * Theory of operation. Loopback has no page tables to read: "guest RAM" is the
 * arena, a memfd, and whatever a target may write privately is moved into it
 * (at exec) or made in it (later), as a shared mapping that only this target
 * and its shadow have. Read-only private file mappings stay as they are and
 * are described to the shadow as the file.
 *
 * Private memory that is a shared mapping needs help where the kernel treats
 * the two differently: fork copies it here, MADV_DONTNEED punches the file,
 * growth by mremap needs offsets of its own behind the mapping (every region
 * is given some to spare, its limit; beyond that it is copied).
 *
 * Every change is made by the target itself, by the calls that its kernel
 * would make of it, and only then written down; other threads of the target
 * run meanwhile and see nothing but what they would see natively.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/num.h"
#include "guest/source.h"
#include "guest/tracer.h"
#include "process/maps.h"
#include "process/pagemap.h"

#define STACK_MAX	(1ULL << 30)	/* of an unlimited stack */
#define HEAP_SPARE	(1ULL << 36)	/* offsets kept for brk */
#define MAP_SPARE_MAX	(1ULL << 40)
#define LINE_PAGES	512		/* looked at at once */

/* What of mmap's flags still means the same in the arena. */
#define MAP_KEPT	(MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_32BIT | \
			 MAP_POPULATE | MAP_NONBLOCK | MAP_LOCKED)

/* --- arena mappings ------------------------------------------------------ */

/* Offsets for len bytes, with some to grow into. */
static int arena_region(struct tracer *tr, uint64_t len, uint64_t spare,
			struct region *r)
{
	int err = arena_alloc(&tr->memory.arena, len + spare, &r->off);

	r->limit = r->off + len + spare;
	return err;
}

static uint64_t spare_of(uint64_t len)
{
	return page_down(min_u64(3 * len, MAP_SPARE_MAX));
}

static int64_t map_arena(struct tracer *tr, struct task *t, uint64_t addr,
			 uint64_t len, int prot, uint64_t flags, uint64_t off)
{
	return task_native(tr, t, SYS_mmap, addr, len, (uint64_t)prot,
			   MAP_SHARED | MAP_NORESERVE | (flags & MAP_KEPT),
			   hidden_fd(tr, HIDDEN_ARENA), off);
}

/* A file's contents into the arena; what is behind its end stays zero. */
static int fill_from_file(struct tracer *tr, int fd, uint64_t file_off,
			  uint64_t off, uint64_t len)
{
	while (len > 0) {
		ssize_t n = pread(fd, tr->passing, min_u64(len, PASSING),
				  (off_t)file_off);
		int err;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0;
		err = fd_pwrite_all(tr->memory.arena.fd, tr->passing, (size_t)n, off);
		if (err)
			return err;
		file_off += (uint64_t)n;
		off += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

static bool all_zero(const char *p, size_t n)
{
	return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

/* What has been copied; pages of zeros stay holes. */
static int fill_from_copy(struct tracer *tr, uint64_t off, uint64_t len)
{
	uint64_t at = 0, end;
	int err = 0;

	while (at < len && !err) {
		for (end = at; end < len && !all_zero(tr->passing + end, PAGE_BYTES);
		     end += PAGE_BYTES)
			;
		if (end > at)
			err = fd_pwrite_all(tr->memory.arena.fd, tr->passing + at,
					    end - at, off + at);
		at = end + PAGE_BYTES;
	}
	return err;
}

/* A target's memory into the arena, all of it. */
static int fill_from_task(struct tracer *tr, struct task *t, uint64_t addr,
			  uint64_t off, uint64_t len)
{
	while (len > 0) {
		size_t part = min_u64(len, PASSING);
		ssize_t n = task_read(t, addr, tr->passing, part);
		int err;

		if (n < (ssize_t)PAGE_BYTES) {	/* PROT_NONE, behind EOF */
			n = (ssize_t)PAGE_BYTES;
			memset(tr->passing, 0, PAGE_BYTES);
		}
		n = (ssize_t)page_down((uint64_t)n);
		err = fill_from_copy(tr, off, (uint64_t)n);
		if (err)
			return err;
		addr += (uint64_t)n;
		off += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

static int64_t arena_map_private(struct tracer *tr, struct task *t,
				 uint64_t len)
{
	struct region r = { .prot = PROT_READ | PROT_WRITE,
			    .kind = REGION_PRIVATE };
	int err = arena_region(tr, len, 0, &r);
	int64_t at;

	if (err)
		return err;
	at = map_arena(tr, t, 0, len, r.prot, 0, r.off);
	if (at < 0 && at > -4096)
		return at;
	r.start = (uint64_t)at;
	r.end = r.start + len;
	err = mm_insert(t->proc->mm, &r);
	return err ? err : at;
}

/* --- mmap ---------------------------------------------------------------- */

static void finish_map(struct tracer *tr, struct task *t, struct region *r,
		       int64_t result, uint64_t len)
{
	if (result < 0 && result > -4096) {
		if (r->kind == REGION_PRIVATE && r->limit)
			arena_discard(&tr->memory.arena, r->off, len);
		task_return(tr, t, result);
		return;
	}
	r->start = (uint64_t)result;
	r->end = r->start + len;
	if (mm_insert(t->proc->mm, r) < 0)
		result = -ENOMEM;
	task_return(tr, t, result);
}

static void map_anonymous(struct tracer *tr, struct task *t, bool shared)
{
	const uint64_t len = page_up(t->args[1]);
	struct region r = { .prot = (int)t->args[2] & 7,
			    .kind = shared ? REGION_SHARED : REGION_PRIVATE };
	int64_t result;

	if (arena_region(tr, len, spare_of(len), &r) < 0) {
		task_return(tr, t, -ENOMEM);
		return;
	}
	if (shared) {
		r.shared = calloc(1, sizeof(*r.shared));
		if (!r.shared) {
			task_return(tr, t, -ENOMEM);
			return;
		}
		*r.shared = (struct shared_mem){ 1, r.off, r.limit - r.off };
	}
	result = map_arena(tr, t, t->args[0], len, (int)t->args[2],
			   t->args[3], r.off);
	if (result < 0 && result > -4096)
		free(r.shared);
	finish_map(tr, t, &r, result, len);
	if (!shared && r.start && !(r.prot & PROT_EXEC))
		stub_learn_own(t->proc->mm->ctl, &r);
}

/* A private, writable mapping of a file: its contents, in the arena. */
static void map_file_copy(struct tracer *tr, struct task *t, int fd)
{
	const uint64_t len = page_up(t->args[1]);
	struct region r = { .prot = (int)t->args[2] & 7,
			    .kind = REGION_PRIVATE };
	int64_t result;
	int err;

	if ((fcntl(fd, F_GETFL) & O_ACCMODE) == O_WRONLY) {
		task_return(tr, t, -EACCES);
		return;
	}
	err = arena_region(tr, len, spare_of(len), &r);
	if (!err)
		err = fill_from_file(tr, fd, t->args[5], r.off, len);
	if (err) {
		task_return(tr, t, err);
		return;
	}
	result = map_arena(tr, t, t->args[0], len, (int)t->args[2],
			   t->args[3], r.off);
	finish_map(tr, t, &r, result, len);
}

enum known {
	KNOWN_NOT,		/* the shadow cannot have it */
	KNOWN_FILE,
	KNOWN_DEVICE,
};

/* A private mapping of a device is its driver's to understand. */
static enum known known_as(const struct stat *st, bool shared)
{
	if (S_ISREG(st->st_mode))
		return KNOWN_FILE;
	return shared ? KNOWN_DEVICE : KNOWN_NOT;
}

static int know_file(struct tracer *tr, int fd, enum known known,
		     struct mapfile **out)
{
	switch (known) {
	case KNOWN_FILE:
		return memory_file(&tr->memory, fd, out);
	case KNOWN_DEVICE:
		return memory_device(&tr->memory, fd, out);
	case KNOWN_NOT:
		break;
	}
	close(fd);
	return -ENODEV;
}

/* The mapping itself is the kernel's; the shadow is told of the file. */
static void map_file(struct tracer *tr, struct task *t, int fd, bool host,
		     bool shared, enum known known)
{
	const uint64_t len = page_up(t->args[1]);
	struct region r = { .prot = (int)t->args[2] & 7, .kind = REGION_FILE,
			    .off = t->args[5], .file_shared = shared };
	uint64_t there = t->args[4];
	int64_t result;
	int installed = -1;

	if (host) {
		installed = fd_install(tr, t, fd);
		if (installed < 0) {
			close(fd);
			task_return(tr, t, installed);
			return;
		}
		there = (uint64_t)installed;
	}
	result = task_native(tr, t, SYS_mmap, t->args[0], t->args[1],
			     t->args[2], t->args[3], there, t->args[5]);
	if (installed >= 0)
		task_native(tr, t, SYS_close, (uint64_t)installed, 0, 0, 0, 0,
			    0);
	if (result < 0 && result > -4096) {
		close(fd);
		task_return(tr, t, result);
		return;
	}
	if (know_file(tr, fd, known, &r.file) < 0) {
		mm_remove(t->proc->mm, (uint64_t)result,
			  (uint64_t)result + len);
		task_return(tr, t, result);
		return;
	}
	finish_map(tr, t, &r, result, len);
}

static void arena_mmap(struct tracer *tr, struct task *t)
{
	const uint64_t flags = t->args[3];
	const int fd = (int)t->args[4];
	const bool shared = (flags & MAP_TYPE) == MAP_SHARED ||
			    (flags & MAP_TYPE) == MAP_SHARED_VALIDATE;
	struct range at;
	struct stat st;
	bool host;
	int copy, err;

	if (t->args[1] == 0 || (flags & MAP_TYPE) == 0 ||
	    (!(flags & MAP_ANONYMOUS) && t->args[5] % PAGE_BYTES)) {
		task_return(tr, t, -EINVAL);
		return;
	}
	if (!mem_range(t->args[0], t->args[1], &at)) {
		task_return(tr, t, -ENOMEM);
		return;
	}
	err = mem_map_refusal(tr, t, at);
	if (err) {
		task_return(tr, t, err);
		return;
	}
	if (flags & MAP_ANONYMOUS) {
		map_anonymous(tr, t, shared);
		return;
	}
	host = is_host_fd(t, fd);
	copy = fuse_file(tr, t, fd) ? -1 : fd_fetch(tr, t, fd);
	if (copy < 0 || fstat(copy, &st) < 0) {
		int64_t r = host ? -ENODEV : task_native_same(tr, t);

		/* Whatever it is, the shadow cannot have it. */
		close_fd(&copy);
		if (r > 0 || r < -4095)
			mm_remove(t->proc->mm, (uint64_t)r,
				  (uint64_t)r + page_up(t->args[1]));
		task_return(tr, t, r);
		return;
	}
	if (S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 5)) {
		close(copy);		/* /dev/zero */
		map_anonymous(tr, t, shared);
	} else if (S_ISREG(st.st_mode) && !shared &&
		   t->args[2] & PROT_WRITE) {
		map_file_copy(tr, t, copy);
		close(copy);
	} else {
		map_file(tr, t, copy, host, shared, known_as(&st, shared));
	}
}

/* A device may be nobody else's as long as a shadow maps it, too. */
static int arena_unmapped(struct tracer *tr, struct task *t, struct range at)
{
	const bool device = mm_find_device(t->proc->mm, at);
	int err = mm_remove(t->proc->mm, at.start, at.end);

	if (device)
		shadow_tell_all(tr, t->proc->mm);
	return err;
}

/* --- mprotect ------------------------------------------------------------ */

/* A private file mapping that is about to be written: into the arena. */
static int make_own(struct tracer *tr, struct task *t, struct range at)
{
	struct mm *mm = t->proc->mm;
	int err = 0;

	if (mm_split(mm, at.start) < 0 || mm_split(mm, at.end) < 0)
		return -ENOMEM;
	for (uint64_t pos = at.start; pos < at.end && !err;) {
		struct region *r = mm_find(mm, pos);
		struct region own = { .kind = REGION_PRIVATE };
		int64_t got;

		if (!r || r->start >= at.end)
			break;
		pos = r->end;
		if (r->kind != REGION_FILE || r->file_shared)
			continue;
		own.start = r->start;
		own.end = r->end;
		own.prot = r->prot;
		err = arena_region(tr, r->end - r->start, 0, &own);
		if (!err)
			err = fill_from_file(tr, r->file->fd, r->off, own.off,
					     r->end - r->start);
		if (err)
			break;
		got = map_arena(tr, t, own.start, own.end - own.start,
				own.prot, MAP_FIXED, own.off);
		err = got < 0 && got > -4096 ? (int)got :
					       mm_insert(mm, &own);
	}
	return err;
}

/* Failing, the kernel came as far as a hole, or as it had room for mappings. */
static void note_prot(struct task *t, struct range at)
{
	struct maps maps = { 0 };

	if (maps_read(t->tid, &maps) < 0)
		return;
	for (size_t i = 0; i < maps.n; i++) {
		const struct map_line *line = &maps.v[i];
		const struct range part = { max_u64(line->start, at.start),
					    min_u64(line->end, at.end) };

		if (part.start < part.end)
			(void)mm_protect_older(t->proc->mm, part, line->prot,
					       MM_NOW);
	}
	maps_fini(&maps);
}

static int64_t arena_mprotect(struct tracer *tr, struct task *t,
			      struct range at)
{
	int prot = (int)t->args[2];
	int64_t r;
	int err = 0;

	if (prot & PROT_GROWSDOWN) {
		/* The stack does not grow here: it is all there. */
		struct region *s = mm_find(t->proc->mm, at.start);

		if (s && s->start < at.start)
			at.start = s->start;
		prot &= ~PROT_GROWSDOWN;
	}
	if (prot & PROT_WRITE)
		err = make_own(tr, t, at);
	if (err)
		return err;
	r = task_native(tr, t, t->nr, at.start, at.end - at.start,
			(uint64_t)prot, t->args[3], 0, 0);
	if (r == 0)
		(void)mm_protect_older(t->proc->mm, at, prot & 7, MM_NOW);
	else
		note_prot(t, at);
	return r;
}

/* --- brk ----------------------------------------------------------------- */

static int64_t arena_brk(struct tracer *tr, struct task *t)
{
	struct mm *mm = t->proc->mm;
	const uint64_t want = t->args[0];
	const uint64_t old_end = page_up(mm->brk), new_end = page_up(want);
	struct region heap = { .prot = PROT_READ | PROT_WRITE,
			       .kind = REGION_PRIVATE };
	struct region *last;
	int64_t r = 0;

	if (want < mm->brk_start || want > 1ULL << 47)
		return (int64_t)mm->brk;
	if (new_end < old_end) {
		uint64_t from = max_u64(new_end, page_up(mm->brk_start));

		r = task_native(tr, t, SYS_munmap, from, old_end - from, 0, 0,
				0, 0);
		if (r == 0)
			mm_remove(mm, from, old_end);
	} else if (new_end > old_end) {
		const uint64_t len = new_end - old_end;

		heap.start = old_end;
		heap.end = new_end;
		/* Offsets that go on make one mapping of it. */
		last = mm_find(mm, old_end - 1);
		if (old_end > page_up(mm->brk_start) && last &&
		    last->end == old_end && last->kind == REGION_PRIVATE &&
		    last->off + (last->end - last->start) + len <=
		    last->limit) {
			heap.off = last->off + (last->end - last->start);
			heap.limit = last->limit;
			last->limit = heap.off;
		} else if (arena_region(tr, len, HEAP_SPARE, &heap) < 0) {
			r = -ENOMEM;
		}
		if (r == 0)
			r = map_arena(tr, t, old_end, len, heap.prot,
				      MAP_FIXED_NOREPLACE, heap.off);
		if (r > 0)
			r = mm_insert(mm, &heap);
	}
	if (r == 0)
		mm->brk = want;
	return (int64_t)mm->brk;
}

/* --- madvise ------------------------------------------------------------- */

#define MADV_DONTNEED_LOCKED_ 24

static bool forgets(int advice)
{
	return advice == MADV_DONTNEED || advice == MADV_FREE ||
	       advice == MADV_DONTNEED_LOCKED_;
}

static bool about_fork(int advice)
{
	return advice == MADV_DONTFORK || advice == MADV_DOFORK ||
	       advice == MADV_WIPEONFORK || advice == MADV_KEEPONFORK;
}

static int64_t advise_region(struct tracer *tr, struct task *t,
			     struct region *r, struct range at, int advice)
{
	const bool own = r->kind == REGION_PRIVATE;

	switch (advice) {
	case MADV_DONTNEED:
	case MADV_FREE:
	case MADV_DONTNEED_LOCKED_:
		if (!own)
			break;
		arena_discard(&tr->memory.arena, r->off + (at.start - r->start),
			      at.end - at.start);
		return 0;
	case MADV_WIPEONFORK:
	case MADV_KEEPONFORK:
		if (!own)
			break;
		r->wipeonfork = advice == MADV_WIPEONFORK;
		return 0;
	case MADV_DONTFORK:
	case MADV_DOFORK:
		r->dontfork = advice == MADV_DONTFORK;
		break;
	}
	return task_native(tr, t, SYS_madvise, at.start, at.end - at.start,
			   (uint64_t)advice, 0, 0, 0);
}

static void arena_madvise(struct tracer *tr, struct task *t)
{
	const int advice = (int)t->args[2];
	struct mm *mm = t->proc->mm;
	struct range at;
	int64_t r = 0;

	if (!forgets(advice) && !about_fork(advice)) {
		task_allow(tr, t);
		return;
	}
	if (!mem_range_arg(tr, t, -EINVAL, &at))
		return;
	if (about_fork(advice) &&
	    (mm_split(mm, at.start) < 0 || mm_split(mm, at.end) < 0)) {
		task_return(tr, t, -ENOMEM);
		return;
	}
	for (uint64_t pos = at.start; pos < at.end && r == 0;) {
		struct region *reg = mm_find(mm, pos);
		struct range part = { pos, at.end };

		if (reg && reg->start <= pos) {
			part.end = min_u64(reg->end, at.end);
			r = advise_region(tr, t, reg, part, advice);
		} else {
			/* Nothing of ours: the kernel knows what is there. */
			if (reg && reg->start < at.end)
				part.end = reg->start;
			r = task_native(tr, t, SYS_madvise, part.start,
					part.end - part.start,
					(uint64_t)advice, 0, 0, 0);
		}
		pos = part.end;
	}
	task_return(tr, t, r);
}

/* --- mremap -------------------------------------------------------------- */

/* Take [start, end) out of the list without giving its memory back. */
static int lift(struct mm *mm, struct range at, struct region *out)
{
	struct region *r;
	size_t i;

	if (mm_split(mm, at.start) < 0 || mm_split(mm, at.end) < 0)
		return -ENOMEM;
	r = mm_find(mm, at.start);
	if (!r || r->start != at.start || r->end != at.end)
		return -EFAULT;
	*out = *r;
	i = (size_t)(r - mm->v);
	memmove(r, r + 1, (mm->n - i - 1) * sizeof(*r));
	mm->n--;
	mm_dirty(mm, at.start, at.end);
	return 0;
}

/* Can the kernel grow this mapping over offsets that are its own? */
static bool may_grow(const struct region *r, struct range old,
		     uint64_t new_len)
{
	uint64_t off = r->off + (old.start - r->start);

	if (r->kind == REGION_FILE)
		return true;
	return r->end == old.end && off + new_len <= r->limit;
}

/*
 * Private memory that cannot be moved or grown as it is: new offsets, a copy,
 * and the new mapping in the place of the old one.
 */
static int64_t remap_copy(struct tracer *tr, struct task *t, struct range old,
			  uint64_t new_len)
{
	const uint64_t old_len = old.end - old.start;
	const int flags = (int)t->args[3];
	struct mm *mm = t->proc->mm;
	struct region *first = mm_find(mm, old.start);
	struct region own = { .kind = REGION_PRIVATE, .prot = first->prot };
	int64_t at;
	int err;

	for (uint64_t pos = old.start; pos < old.end;) {
		struct region *r = mm_find(mm, pos);

		if (!r || r->start > pos || r->kind != REGION_PRIVATE ||
		    r->prot != own.prot)
			return -EFAULT;
		pos = r->end;
	}
	err = arena_region(tr, new_len, spare_of(new_len), &own);
	for (uint64_t pos = old.start; pos < old.end && !err;) {
		struct region *r = mm_find(mm, pos);
		uint64_t end = min_u64(r->end, old.end);

		end = min_u64(end, old.start + new_len);
		if (end <= pos)
			break;
		err = arena_copy(&tr->memory.arena, r->off + (pos - r->start),
				 own.off + (pos - old.start), end - pos);
		pos = end;
	}
	if (err)
		return err;
	if (flags & MREMAP_FIXED) {
		at = map_arena(tr, t, t->args[4], new_len, own.prot, MAP_FIXED,
			       own.off);
	} else if (new_len <= old_len) {
		at = map_arena(tr, t, old.start, new_len, own.prot, MAP_FIXED,
			       own.off);
	} else {
		/* In place, if there is room behind it. */
		at = map_arena(tr, t, old.end, new_len - old_len, own.prot,
			       MAP_FIXED_NOREPLACE, own.off + old_len);
		if (at == (int64_t)old.end)
			at = map_arena(tr, t, old.start, old_len, own.prot,
				       MAP_FIXED, own.off);
		else if (flags & MREMAP_MAYMOVE)
			at = map_arena(tr, t, 0, new_len, own.prot, 0,
				       own.off);
		else
			at = -ENOMEM;
	}
	if (at < 0 && at > -4096) {
		arena_discard(&tr->memory.arena, own.off, new_len);
		return at;
	}
	own.start = (uint64_t)at;
	own.end = own.start + new_len;
	if (own.start != old.start) {
		task_native(tr, t, SYS_munmap, old.start, old_len, 0, 0, 0, 0);
		mm_remove(mm, old.start, old.end);
	} else if (new_len < old_len) {
		task_native(tr, t, SYS_munmap, own.end, old_len - new_len, 0,
			    0, 0, 0);
		mm_remove(mm, own.end, old.end);
	}
	err = mm_insert(mm, &own);
	return err ? err : at;
}

static int64_t remap_as_is(struct tracer *tr, struct task *t,
			   struct range old, uint64_t new_len)
{
	struct mm *mm = t->proc->mm;
	struct region r;
	int64_t at = task_native_same(tr, t);
	int err;

	if (at < 0 && at > -4096)
		return at;
	if (new_len < old.end - old.start) {
		mm_remove(mm, old.start + new_len, old.end);
		old.end = old.start + new_len;
	}
	if (lift(mm, old, &r) < 0) {
		/* Nothing that we knew was moved. */
		mm_remove(mm, (uint64_t)at, (uint64_t)at + new_len);
		return at;
	}
	r.start = (uint64_t)at;
	r.end = r.start + new_len;
	err = mm_insert(mm, &r);
	return err ? err : at;
}

static int64_t arena_mremap(struct tracer *tr, struct task *t,
			    struct range old, uint64_t new_len)
{
	const int flags = (int)t->args[3];
	struct region *r;
	int64_t at;

	r = mm_find(t->proc->mm, old.start);
	if (!r || r->start > old.start) {
		at = remap_as_is(tr, t, old, new_len);
	} else if (old.start == old.end || flags & MREMAP_DONTUNMAP) {
		/* Of private memory there is no second mapping; of shared
		 * memory one is made, and both hold it. */
		struct region second = *r;

		if (r->kind == REGION_PRIVATE)
			return -EINVAL;
		at = task_native_same(tr, t);
		if (at > 0 || at < -4095) {
			second.off += old.start - r->start;
			second.start = (uint64_t)at;
			second.end = second.start + new_len;
			if (second.kind == REGION_FILE)
				second.file->refs++;
			if (second.kind == REGION_SHARED)
				second.shared->refs++;
			mm_insert(t->proc->mm, &second);
		}
	} else if (r->kind == REGION_PRIVATE &&
		   (r->end < old.end ||
		    (new_len > old.end - old.start &&
		     !may_grow(r, old, new_len)))) {
		at = remap_copy(tr, t, old, new_len);
	} else if (r->kind == REGION_SHARED &&
		   new_len > old.end - old.start &&
		   !may_grow(r, old, new_len)) {
		at = -ENOMEM;
	} else {
		at = remap_as_is(tr, t, old, new_len);
	}
	return at;
}

/* --- System V shared memory ---------------------------------------------- */

/*
 * The segment has no name and no descriptor. Its file can be opened by way of
 * /proc/PID/map_files where that is allowed (CAP_CHECKPOINT_RESTORE or
 * CAP_SYS_ADMIN, proc_pid_map_files(5)); elsewhere the shadow does without.
 */
static int64_t arena_shmat(struct tracer *tr, struct task *t)
{
	int64_t at = task_native_same(tr, t);
	struct maps maps = { 0 };

	if (mem_errno(at) || maps_read(t->tid, &maps) < 0)
		return at;
	for (size_t i = 0; i < maps.n; i++) {
		const struct map_line *line = &maps.v[i];
		struct region r = { .start = line->start, .end = line->end,
				    .off = line->off, .prot = line->prot,
				    .kind = REGION_FILE, .file_shared = true };
		int fd;

		if (line->start != (uint64_t)at)
			continue;
		fd = mem_open_line(t, line);
		if (fd < 0)
			mm_remove(t->proc->mm, line->start, line->end);
		else if (memory_file(&tr->memory, fd, &r.file) == 0)
			mm_insert(t->proc->mm, &r);
		break;
	}
	maps_fini(&maps);
	return at;
}

static int64_t arena_shmdt(struct tracer *tr, struct task *t)
{
	struct region *r = mm_find(t->proc->mm, t->args[0]);
	int64_t result = task_native_same(tr, t);

	if (result == 0 && r && r->start == t->args[0])
		mm_remove(t->proc->mm, r->start, r->end);
	return result;
}

/* --- exec ---------------------------------------------------------------- */

#define SETUP_MAX 128

struct setup {
	struct batch_call calls[SETUP_MAX];
	size_t n;
	int pagemap;		/* of the task */
};

static int add_call(struct setup *s, struct batch_call call)
{
	if (s->n == SETUP_MAX)
		return -E2BIG;
	s->calls[s->n++] = call;
	return 0;
}

static bool is_anonymous(const struct map_line *line)
{
	return !line->ino && !line->dev && line->name[0] != '/';
}

static bool is_there(uint64_t entry)
{
	return entry & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED);
}

/*
 * What a mapping has come to be in memory, by offsets that it is to have: of an
 * anonymous one the rest is zeros, which to look at would make pages of.
 */
static int fill_from_line(struct tracer *tr, struct task *t,
			  const struct setup *s, const struct map_line *line,
			  uint64_t off)
{
	uint64_t entries[LINE_PAGES], n;
	int err = 0;

	for (uint64_t at = line->start; at < line->end && !err;
	     at += n * PAGE_BYTES) {
		bool there = true;

		n = min_u64(LINE_PAGES, (line->end - at) / PAGE_BYTES);
		if (is_anonymous(line) && pagemap_read(s->pagemap, at, n, entries) == 0) {
			uint64_t alike = 1;

			there = is_there(entries[0]);
			while (alike < n && is_there(entries[alike]) == there)
				alike++;
			n = alike;
		}
		if (there)
			err = fill_from_task(tr, t, at, off + (at - line->start),
					     n * PAGE_BYTES);
	}
	return err;
}

static int move_region(struct tracer *tr, struct task *t, struct setup *s,
		       const struct map_line *line, uint64_t start)
{
	struct region r = { .start = start, .end = line->end,
			    .prot = line->prot, .kind = REGION_PRIVATE };
	int err;

	err = arena_region(tr, r.end - r.start, 0, &r);
	if (!err && line->prot & PROT_READ)
		err = fill_from_line(tr, t, s, line,
				     r.off + (line->start - start));
	if (!err)
		err = add_call(s, (struct batch_call){ SYS_mmap, {
			r.start, r.end - r.start, (uint64_t)r.prot,
			MAP_SHARED | MAP_FIXED | MAP_NORESERVE,
			hidden_fd(tr, HIDDEN_ARENA), r.off } });
	if (!err)
		err = mm_insert(t->proc->mm, &r);
	return err;
}

/* The stack as large as it may become: a shared mapping does not grow. */
static uint64_t stack_start(struct task *t, const struct map_line *line,
			    uint64_t below)
{
	struct rlimit lim = { .rlim_cur = 8 << 20 };
	uint64_t size, start;

	prlimit(t->tid, RLIMIT_STACK, NULL, &lim);
	size = page_up(min_u64(lim.rlim_cur, STACK_MAX));
	size = max_u64(size, line->end - line->start);
	start = line->end - min_u64(size, line->end);
	/* One page stays between it and whatever is below. */
	return max_u64(start, below + PAGE_BYTES);
}

static int open_mapped(struct task *t, const struct map_line *line)
{
	char exe[64];
	struct stat st;
	const char *names[] = { exe, line->name };

	snprintf(exe, sizeof(exe), "/proc/%d/exe", t->tid);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		int fd = open(names[i], O_RDONLY | O_CLOEXEC | O_NONBLOCK);

		if (fd < 0)
			continue;
		/* The device numbers of maps and stat differ on btrfs and
		 * overlayfs: the inode and the name must do. */
		if (fstat(fd, &st) == 0 && st.st_ino == line->ino)
			return fd;
		close(fd);
	}
	return -ENOENT;
}

static int keep_region(struct tracer *tr, struct task *t,
		       const struct map_line *line)
{
	struct region r = { .start = line->start, .end = line->end,
			    .off = line->off, .prot = line->prot,
			    .kind = REGION_FILE };
	int fd = open_mapped(t, line);

	/* What we cannot read ourselves the shadow does not get: EFAULT. */
	if (fd < 0 || memory_file(&tr->memory, fd, &r.file) < 0)
		return 0;
	return mm_insert(t->proc->mm, &r);
}

static bool is_special(const struct tracer *tr, const struct map_line *line)
{
	return strncmp(line->name, "[v", 2) == 0 ||	/* vdso, vvar ... */
	       mem_is_ours(&tr->memory, line->start, line->end);
}

static int take_over(struct tracer *tr, struct task *t, struct setup *s,
		     const struct maps *maps)
{
	uint64_t below = 0;
	int err = 0;

	for (size_t i = 0; i < maps->n && !err; i++) {
		const struct map_line *line = &maps->v[i];

		if (is_special(tr, line) || line->shared) {
			/* stays as it is, unknown to the shadow */
		} else if (strcmp(line->name, "[stack]") == 0) {
			err = move_region(tr, t, s, line,
					  stack_start(t, line, below));
		} else if (line->ino && !(line->prot & PROT_WRITE)) {
			err = keep_region(tr, t, line);
		} else {
			err = move_region(tr, t, s, line, line->start);
		}
		below = line->end;
	}
	return err;
}

static int arena_setup(struct tracer *tr, struct task *t)
{
	struct setup *s cleanup_free = calloc(1, sizeof(*s));
	struct maps maps = { 0 };
	char pagemap[64];
	int64_t brk = 0;
	int err;

	if (!s)
		return -ENOMEM;
	snprintf(pagemap, sizeof(pagemap), "/proc/%d/pagemap", t->tid);
	s->pagemap = open(pagemap, O_RDONLY | O_CLOEXEC);
	err = maps_read(t->tid, &maps);
	if (!err)
		err = take_over(tr, t, s, &maps);
	maps_fini(&maps);
	close_fd(&s->pagemap);
	if (!err)
		err = add_call(s, (struct batch_call){ SYS_brk, { 0 } });
	if (!err)
		err = task_batch(t, s->calls, s->n, &brk);
	t->proc->mm->brk = t->proc->mm->brk_start = (uint64_t)brk;
	return err;
}

/* --- fork ---------------------------------------------------------------- */

static int fork_region(struct tracer *tr, struct mm *to,
		       const struct region *from)
{
	const uint64_t len = from->end - from->start;
	struct region r = *from;
	int err = 0;

	switch (from->kind) {
	case REGION_SHARED:
		r.shared->refs++;
		break;
	case REGION_FILE:
		r.file->refs++;
		break;
	case REGION_SLOTS:
	case REGION_FRAMES:
		return 0;	/* it has its own; there are none here */
	case REGION_PRIVATE:
		/* As much room to grow as the parent's has. */
		err = arena_region(tr, len, max_u64(from->limit - from->off,
						    len) - len, &r);
		if (!err && !from->wipeonfork)
			err = arena_copy(&tr->memory.arena, from->off, r.off,
					 len);
		break;
	}
	return err ? err : mm_insert(to, &r);
}

static int arena_fork(struct tracer *tr, struct task *parent,
		      struct task *child)
{
	struct mm *from = parent->proc->mm, *to = child->proc->mm;
	struct batch_call *calls cleanup_free =
		calloc(from->n + 1, sizeof(*calls));
	size_t n = 0;
	int err = 0;

	if (!calls)
		return -ENOMEM;
	for (size_t i = 0; i < from->n && !err; i++) {
		const struct region *r = &from->v[i], *own;

		if (r->dontfork)
			continue;
		err = fork_region(tr, to, r);
		if (err || r->kind != REGION_PRIVATE)
			continue;
		own = mm_find(to, r->start);
		calls[n++] = (struct batch_call){ SYS_mmap, {
			own->start, own->end - own->start, (uint64_t)own->prot,
			MAP_SHARED | MAP_FIXED | MAP_NORESERVE,
			hidden_fd(tr, HIDDEN_ARENA), own->off } };
	}
	return err ? err : mem_fork_slots(tr, parent, child, calls, n);
}

/* Regions are always true here, and all memory is. */
static int arena_settle(struct tracer *tr, struct task *t,
			const struct forward_call *call)
{
	(void)tr;
	(void)t;
	(void)call;
	return 0;
}

static void arena_answered(struct tracer *tr, struct task *t,
			   const struct forward_call *call)
{
	(void)tr;
	(void)t;
	(void)call;
}

/* The shadow has the file's own text, which is as good to read. */
static void arena_text_changed(struct mm *mm, struct range at)
{
	(void)mm;
	(void)at;
}

const struct source arena_source = {
	.mmap = arena_mmap,
	.madvise = arena_madvise,
	/* AIO rings: the shadow has none, and calls that point there are
	 * EFAULT. */
	.other = call_general,
	.mprotect = arena_mprotect,
	.brk = arena_brk,
	.mremap = arena_mremap,
	.shmat = arena_shmat,
	.shmdt = arena_shmdt,
	.unmapped = arena_unmapped,
	.text_changed = arena_text_changed,
	.setup = arena_setup,
	.fork = arena_fork,
	.map_private = arena_map_private,
	.settle = arena_settle,
	.answered = arena_answered,
};
