/* SPDX-License-Identifier: MIT */
/* mm.c - a target's address space as the tracer knows it */
#include "guest/mm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/array.h"
#include "base/fd.h"
#include "base/num.h"
#include "capsule/abi.h"
#include "guest/stub.h"

int mm_new(struct memory *memory, struct mm **out)
{
	struct mm *mm = calloc(1, sizeof(*mm));

	if (!mm)
		return -ENOMEM;
	mm->slots_used = calloc(SLOT_MAX / 64, sizeof(*mm->slots_used));
	if (!mm->slots_used) {
		free(mm);
		return -ENOMEM;
	}
	mm->slots_used[0] = (1ULL << SLOT_FIRST) - 1;
	mm->refs = 1;
	mm->memory = memory;
	*out = mm;
	return 0;
}

/* --- files --------------------------------------------------------------- */

/* What was never linked is known by the name that the kernel gives it. */
static bool is_sysv(int fd, const struct stat *st)
{
	char path[64], name[64];
	ssize_t n;

	if (st->st_nlink)
		return false;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, name, sizeof(name));
	return n >= 5 && memcmp(name, "/SYSV", 5) == 0;
}

/* The lowest that is free: the daemon has a table of them. */
static bool has_id(const struct memory *m, uint32_t id)
{
	const struct mapfile *f = m->files;

	while (f && f->id != id)
		f = f->next;
	return f;
}

static uint32_t new_id(const struct memory *m)
{
	uint32_t id = 0;

	while (has_id(m, id))
		id++;
	return id;
}

static struct mapfile *new_file(struct memory *m, int fd)
{
	struct mapfile *f = calloc(1, sizeof(*f));

	if (!f) {
		close_fd(&fd);
		return NULL;
	}
	*f = (struct mapfile){ .next = m->files, .refs = 1, .fd = fd,
			       .id = new_id(m) };
	m->files = f;
	return f;
}

int memory_device(struct memory *m, int fd, struct mapfile **out)
{
	*out = new_file(m, fd);
	if (!*out)
		return -ENOMEM;
	(*out)->device = true;
	return 0;
}

int memory_file(struct memory *m, int fd, struct mapfile **out)
{
	int flags = fcntl(fd, F_GETFL);
	const bool writable = (flags & O_ACCMODE) == O_RDWR;
	struct mapfile *f;
	struct stat st;
	bool sysv;

	if (fstat(fd, &st) < 0) {
		close(fd);
		return -EBADF;
	}
	sysv = is_sysv(fd, &st);
	for (f = m->files; f; f = f->next) {
		if (f->device || f->dev != st.st_dev || f->ino != st.st_ino ||
		    f->sysv != sysv ||
		    (writable && !f->writable))
			continue;
		close(fd);
		f->refs++;
		*out = f;
		return 0;
	}
	f = new_file(m, fd);
	if (!f)
		return -ENOMEM;
	f->dev = st.st_dev;
	f->ino = st.st_ino;
	f->sysv = sysv;
	f->writable = writable;
	*out = f;
	return 0;
}

void memory_file_unref(struct memory *m, struct mapfile *file)
{
	struct mapfile **p = &m->files;

	if (--file->refs)
		return;
	while (*p != file)
		p = &(*p)->next;
	*p = file->next;
	m->file_gone(m->ctx, file);
	file_frames_free(m->pinner, &file->frames);
	close_fd(&file->fd);
	bar_close(&file->own);
	free(file);
}

void *mm_map_slots(const struct mm *mm, int first, size_t n)
{
	void *p = mmap(NULL, n * SLOT_STRIDE, PROT_READ | PROT_WRITE, MAP_SHARED,
		       mm->memory->arena.fd,
		       (off_t)(mm->slots_off + (uint64_t)first * SLOT_STRIDE));

	return p == MAP_FAILED ? NULL : p;
}

struct slot *mm_lane(const struct mm *mm, int i)
{
	return (struct slot *)((char *)mm->ctl +
			       (size_t)(LANE_FIRST + i) * SLOT_STRIDE);
}

/* --- regions ------------------------------------------------------------- */

static void region_drop(struct mm *mm, struct region *r)
{
	struct arena *a = &mm->memory->arena;

	switch (r->kind) {
	case REGION_SLOTS:
		break;		/* go with the address space */
	case REGION_PRIVATE:
		arena_discard(a, r->off, r->end - r->start);
		break;
	case REGION_SHARED:
		if (--r->shared->refs == 0) {
			arena_discard(a, r->shared->off, r->shared->len);
			free(r->shared);
		}
		break;
	case REGION_FILE:
		memory_file_unref(mm->memory, r->file);
		break;
	case REGION_FRAMES:
		if (!r->file)
			break;
		file_frames_unref(mm->memory->pinner, r->frames);
		memory_file_unref(mm->memory, r->file);
		break;
	}
}

void mm_unref(struct mm *mm)
{
	if (!mm || --mm->refs)
		return;
	for (size_t i = 0; i < mm->n; i++)
		region_drop(mm, &mm->v[i]);
	stub_discard_young(mm);
	if (mm->slots_off) {
		if (mm->memory->arena_file)
			file_frames_drop(mm->memory->pinner,
					 &mm->memory->arena_file->frames,
					 mm->slots_off / PAGE_BYTES,
					 SLOT_AREA / PAGE_BYTES);
		arena_discard(&mm->memory->arena, mm->slots_off, SLOT_AREA);
	}
	while (mm->npins)
		mm_pin_drop(mm, mm->npins - 1);
	if (mm->ctl)
		munmap(mm->ctl, SLOT_FIRST * SLOT_STRIDE);
	patches_fini(mm->memory, &mm->patches);
	idmap_fini(&mm->sites);
	free(mm->pins);
	free(mm->v);
	free(mm->slots_used);
	free(mm);
}

static size_t find_index(const struct mm *mm, uint64_t addr)
{
	size_t lo = 0, hi = mm->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (mm->v[mid].end <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

struct region *mm_find(const struct mm *mm, uint64_t addr)
{
	size_t i = find_index(mm, addr);

	return i < mm->n ? &mm->v[i] : NULL;
}

const struct region *mm_find_device(const struct mm *mm, struct range at)
{
	for (size_t i = find_index(mm, at.start);
	     i < mm->n && mm->v[i].start < at.end; i++)
		if (mm->v[i].kind == REGION_FILE && mm->v[i].file->device)
			return &mm->v[i];
	return NULL;
}

static int reserve(struct mm *mm, size_t more)
{
	struct region *v = array_room(mm->v, &mm->cap, mm->n + more,
				      sizeof(*v));

	if (!v)
		return -ENOMEM;
	mm->v = v;
	return 0;
}

int mm_split(struct mm *mm, uint64_t addr)
{
	size_t i = find_index(mm, addr);
	struct region *r;

	if (i == mm->n || mm->v[i].start >= addr)
		return 0;
	if (reserve(mm, 1) < 0)
		return -ENOMEM;
	memmove(mm->v + i + 1, mm->v + i, (mm->n - i) * sizeof(*mm->v));
	mm->n++;
	r = &mm->v[i];
	if (r->kind == REGION_SHARED)
		r->shared->refs++;
	if (r->file)
		r->file->refs++;
	if (r->frames)
		r->frames->refs++;
	r[1].off += addr - r->start;
	r[1].start = addr;
	r->end = addr;
	/* What lies behind the border belongs to the upper part. */
	r->limit = r[1].off;
	return 0;
}

int mm_remove_older(struct mm *mm, struct range at, uint64_t when)
{
	size_t i, kept;

	if (mm_split(mm, at.start) < 0 || mm_split(mm, at.end) < 0)
		return -ENOMEM;
	kept = i = find_index(mm, at.start);
	for (; i < mm->n && mm->v[i].start < at.end; i++) {
		if (mm->v[i].born < when)
			region_drop(mm, &mm->v[i]);
		else
			mm->v[kept++] = mm->v[i];
	}
	if (i > kept)
		memmove(mm->v + kept, mm->v + i, (mm->n - i) * sizeof(*mm->v));
	mm->n -= i - kept;
	mm_dirty(mm, at.start, at.end);
	return 0;
}

int mm_remove(struct mm *mm, uint64_t start, uint64_t end)
{
	return mm_remove_older(mm, (struct range){ start, end }, MM_NOW);
}

int mm_protect_older(struct mm *mm, struct range at, int prot, uint64_t when)
{
	if (mm_split(mm, at.start) < 0 || mm_split(mm, at.end) < 0)
		return -ENOMEM;
	for (struct region *r = mm_find(mm, at.start);
	     r && r < mm->v + mm->n && r->start < at.end; r++)
		if (r->born < when)
			r->prot = prot;
	mm_dirty(mm, at.start, at.end);
	return 0;
}

int mm_replace(struct mm *mm, uint64_t start, uint64_t end,
	       const struct region *v, size_t n)
{
	size_t i;

	if (mm_remove(mm, start, end) < 0 || reserve(mm, n) < 0)
		return -ENOMEM;
	i = find_index(mm, start);
	memmove(mm->v + i + n, mm->v + i, (mm->n - i) * sizeof(*mm->v));
	memcpy(mm->v + i, v, n * sizeof(*v));
	mm->n += n;
	for (; n--; i++)
		if (!mm->v[i].born)
			mm->v[i].born = stub_order(mm->ctl);
	return 0;
}

int mm_insert(struct mm *mm, const struct region *r)
{
	return mm_replace(mm, r->start, r->end, r, 1);
}

/* --- pins ---------------------------------------------------------------- */

size_t mm_pin_find(const struct mm *mm, uint64_t addr)
{
	size_t lo = 0, hi = mm->npins;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (mm->pins[mid].end <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

int mm_pin_add(struct mm *mm, const struct pin *pin)
{
	const size_t i = mm_pin_find(mm, pin->start);
	struct pin *v = array_room(mm->pins, &mm->pins_cap, mm->npins + 1,
				   sizeof(*v));

	if (!v)
		return -ENOMEM;
	mm->pins = v;
	memmove(mm->pins + i + 1, mm->pins + i,
		(mm->npins - i) * sizeof(*mm->pins));
	mm->pins[i] = *pin;
	mm->npins++;
	return 0;
}

void mm_pin_drop(struct mm *mm, size_t index)
{
	struct pin *pin = &mm->pins[index];
	const struct pin old = *pin;

	memmove(pin, pin + 1, (--mm->npins - index) * sizeof(*pin));
	for (size_t i = 0; old.shared && i < mm->npins; i++)
		if (mm->pins[i].slot == old.slot)
			return;
	pinner_drop(mm->memory->pinner, old.slot, old.end - old.start);
}

/* --- views --------------------------------------------------------------- */

void mm_view_add(struct mm_view *view, uint64_t start, uint64_t end)
{
	struct range *d = view->dirty;
	size_t n = view->ndirty;

	for (size_t i = 0; i < n; i++) {
		if (start <= d[i].end && d[i].start <= end) {
			d[i].start = min_u64(d[i].start, start);
			d[i].end = max_u64(d[i].end, end);
			return;
		}
	}
	if (n == DIRTY_MAX) {
		/* Telling more than needed is slow, never wrong. */
		for (size_t i = 0; i < n; i++) {
			start = min_u64(start, d[i].start);
			end = max_u64(end, d[i].end);
		}
		view->ndirty = 0;
	}
	d[view->ndirty++] = (struct range){ start, end };
}

void mm_dirty(struct mm *mm, uint64_t start, uint64_t end)
{
	stub_forget_range(mm->ctl, start, end);
	stub_set_told(mm->ctl, false);
	for (struct mm_view *v = mm->views; v; v = v->next)
		mm_view_add(v, start, end);
}

void mm_view_attach(struct mm *mm, struct mm_view *view)
{
	view->next = mm->views;
	mm->views = view;
}

void mm_view_detach(struct mm *mm, struct mm_view *view)
{
	struct mm_view **p = &mm->views;

	while (*p && *p != view)
		p = &(*p)->next;
	if (*p)
		*p = view->next;
	view->next = NULL;
	view->ndirty = 0;
}

static struct extent extent_of(const struct region *r, uint64_t start,
			       uint64_t end)
{
	struct extent e = { .gva = start, .len = end - start,
			    .off = r->off + (start - r->start),
			    .kind = EXTENT_RAM };

	/* What can be executed can be read, as far as system calls go. */
	if (r->prot & (PROT_READ | PROT_EXEC | PROT_WRITE))
		e.flags = EXTENT_READ;
	if (r->prot & PROT_WRITE)
		e.flags |= EXTENT_WRITE;
	if (r->kind == REGION_FILE) {
		e.kind = EXTENT_FILE;
		e.file = r->file->id;
		if (r->file_shared)
			e.flags |= EXTENT_SHARED;
	}
	if (!e.flags || (e.flags == EXTENT_SHARED))
		e.kind = EXTENT_NONE;
	return e;
}

static bool joins(const struct extent *a, const struct extent *b)
{
	return a->gva + a->len == b->gva && a->kind == b->kind &&
	       (a->kind == EXTENT_NONE ||
		(a->flags == b->flags && a->off + a->len == b->off &&
		 a->file == b->file));
}

/* The truth about [*pos, end): one extent, and *pos moves behind it. */
static struct extent next_extent(const struct mm *mm, uint64_t *pos,
				 uint64_t end)
{
	const struct region *r = mm_find(mm, *pos);
	uint64_t start = *pos;

	if (!r || r->start >= end)
		*pos = end;
	else if (r->start > start)
		*pos = r->start;
	else
		*pos = min_u64(r->end, end);
	if (!r || r->start > start)
		return (struct extent){ .gva = start, .len = *pos - start,
					.kind = EXTENT_NONE };
	return extent_of(r, start, *pos);
}

size_t mm_view_next(struct mm *mm, struct mm_view *view, struct extent *out,
		    size_t max)
{
	size_t n = 0;

	while (view->ndirty) {
		struct range *d = &view->dirty[view->ndirty - 1];

		while (d->start < d->end) {
			uint64_t pos = d->start;
			struct extent e = next_extent(mm, &pos, d->end);

			if (n && joins(&out[n - 1], &e)) {
				out[n - 1].len += e.len;
			} else {
				if (n == max)
					return n;
				out[n++] = e;
			}
			d->start = pos;
		}
		view->ndirty--;
	}
	return n;
}
