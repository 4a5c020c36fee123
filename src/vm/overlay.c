/* SPDX-License-Identifier: MIT */
/*
 * overlay.c - a device's memory over a part of the memory that is shared
 *
 * Theory of operation. What is behind the channels in the memory that guest and
 * host share (wire/channel.h) is the *window*: for each mapping that a target
 * makes of a device's memory, a part of it is *overlaid* in the VMM: mapped from
 * the device instead of the shared file, at the address where the VMM has that
 * part. So the guest's physical address leads to the device's page, for any
 * device that mmap(2) works with, and with KVM and TCG alike. The VMM does that
 * itself, made by us (inject.h).
 *
 * One mremap(2) over what is mapped, and one mmap(2) on the way back: there is
 * never a hole. What a daemon leaves, the next one finds in the VMM's memory map.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/log.h"
#include "base/num.h"
#include "process/maps.h"
#include "process/proc.h"
#include "vm/inject.h"
#include "vm/ways.h"

/* --- where the VMM has it -------------------------------------------------- */

/*
 * The shared memory in the VMM. Its file may be larger than what the VMM has
 * mapped of it, and what lies behind that is the VMM's own. So the first and the
 * last page of the mapping are never overlaid: what is between them is the
 * device's memory, whatever we find there.
 */
struct there {
	struct maps maps;	/* owned */
	struct stat st;		/* of the file */
	uint64_t base;		/* of its first byte */
	uint64_t end;		/* what is below may be overlaid; an offset */
};

static void there_fini(struct there *t)
{
	maps_fini(&t->maps);
}

static bool is_shared_memory(const struct there *t, const struct map_line *line)
{
	return line->shared && line->ino == t->st.st_ino &&
	       line->dev == t->st.st_dev;
}

/* -ENOENT: it is not mapped; -ENOTUNIQ: twice, and one is the device's. */
static int find_mapping(struct there *t, const struct window_place *place)
{
	int found = 0;

	for (size_t i = 0; i < t->maps.n; i++) {
		if (!is_shared_memory(t, &t->maps.v[i]) || t->maps.v[i].off)
			continue;
		t->base = t->maps.v[i].start;
		found++;
	}
	if (found != 1)
		return found ? -ENOTUNIQ : -ENOENT;
	for (size_t i = 0; i < t->maps.n; i++) {
		const struct map_line *line = &t->maps.v[i];

		if (is_shared_memory(t, line) && line->start >= t->base &&
		    line->off == line->start - t->base)
			t->end = max_u64(t->end, line->end - t->base);
	}
	t->end = min_u64(t->end - PAGE_BYTES, place->end);
	return 0;
}

static int locate(const struct vm *vm, const struct window_place *place,
		  struct there *t, char *err)
{
	int rc;

	*t = (struct there){ .base = 0 };
	if (fstat(place->fd, &t->st) < 0)
		return vm_fail(err, -ENODEV, "the shared memory: %s",
			       strerror(errno));
	rc = maps_read(vm->seen.pid, &t->maps);
	if (!rc)
		rc = find_mapping(t, place);
	if (rc)
		there_fini(t);
	if (rc == -ENOTUNIQ)
		return vm_fail(err, -ENODEV, "the VMM has the shared memory"
			       " mapped twice: give it one ivshmem device");
	if (rc)
		return vm_fail(err, -ENODEV, "the VMM has not mapped the memory"
			       " that --transport names: %s", strerror(-rc));
	return 0;
}

/* --- overlaying ------------------------------------------------------------ */

#define UNDO_MAPPING	3	/* beside those of inject_fd() */

static int64_t map_there(struct inject *in, uint64_t at, uint64_t len, int prot,
			 int there, uint64_t off)
{
	return INJECT(in, SYS_mmap, at, len, (uint64_t)prot,
		      MAP_SHARED | (at ? MAP_FIXED : 0), (uint64_t)there, off);
}

static int is_file(pid_t pid, int fd, void *arg)
{
	const struct stat *want = arg;
	char path[64];
	struct stat st, link;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
	/* The link's mode has the descriptor's (proc_pid_fd(5)). */
	return stat(path, &st) == 0 && lstat(path, &link) == 0 &&
	       st.st_dev == want->st_dev && st.st_ino == want->st_ino &&
	       (link.st_mode & 0600) == 0600 ? fd + 1 : 0;
}

/*
 * The shared memory again: 0 or -errno. By the VMM's own descriptor, where it
 * has kept it: then this mapping and those beside it become one again.
 */
static int map_back(struct inject *in, const struct there *t, int fd,
		    uint64_t at, uint64_t len)
{
	const int prot = PROT_READ | PROT_WRITE;
	struct stat want = t->st;
	int own = proc_each_fd(in->remote.tid, is_file, &want), ours;
	int64_t r = -EBADF;

	if (own > 0)
		r = map_there(in, t->base + at, len, prot, own - 1, at);
	if (r == (int64_t)(t->base + at))
		return 0;
	ours = inject_fd(in, fd);
	if (ours < 0)
		return ours;
	r = map_there(in, t->base + at, len, prot, ours, at);
	inject_close_fd(in, ours);
	return r < 0 ? (int)r : 0;
}

/*
 * Mapped elsewhere first, and moved over the part when that has worked: a
 * mmap(2) over it that fails may leave a hole.
 */
static int64_t move_over(struct inject *in, uint64_t hva, uint64_t len,
			 int64_t from)
{
	int64_t r;

	inject_undo(in, UNDO_MAPPING, SYS_munmap, (uint64_t)from, len);
	r = INJECT(in, SYS_mremap, (uint64_t)from, len, len,
		   MREMAP_MAYMOVE | MREMAP_FIXED, hva);
	inject_undo(in, UNDO_MAPPING, 0, 0, 0);
	if (r < 0)
		INJECT(in, SYS_munmap, (uint64_t)from, len);
	return r;
}

static int overlay(struct inject *in, const struct there *t,
		   const struct window_place *place, uint64_t at,
		   const struct window_map *m, int prot)
{
	int there = inject_fd(in, m->fd);
	int64_t r;

	if (there < 0)
		return there;
	r = map_there(in, 0, m->len, prot, there, m->off);
	inject_close_fd(in, there);
	if (r < 0)
		return (int)r;
	r = move_over(in, t->base + at, m->len, r);
	if (r >= 0)
		return 0;
	(void)map_back(in, t, place->fd, at, m->len);
	return (int)r;
}

/* --- the table ------------------------------------------------------------- */

/* The first free part of [from, end), or false. */
static bool find_part(const struct windows *w, uint64_t from, uint64_t end,
		      uint64_t len, uint64_t *out)
{
	bool moved = true;

	while (moved) {
		moved = false;
		if (!range_inside(from, len, end))
			return false;
		for (size_t i = 0; i < WINDOWS_MAX; i++) {
			const struct window *v = &w->v[i];

			if (v->owner && v->at < from + len &&
			    from < v->at + v->len) {
				from = v->at + v->len;
				moved = true;
			}
		}
	}
	*out = from;
	return true;
}

/* A free part of it for an entry; false: there is none. */
static bool place_entry(struct windows *w, uint64_t start, uint64_t end,
			struct window *v, uint64_t len)
{
	uint64_t at;

	if (!find_part(w, max_u64(w->next, start), end, len, &at) &&
	    !find_part(w, start, end, len, &at))
		return false;
	w->next = at + len;
	v->at = at;
	v->len = len;
	return true;
}

static int refuse_size(uint64_t start, uint64_t end, uint64_t len, char *err)
{
	return vm_fail(err, -ENOMEM, "no %" PRIu64 " KiB are left for a"
		       " device's memory in the window of %" PRIu64 " KiB:"
		       " enlarge the memory of the ivshmem device (the size= of"
		       " its memory backend, or --window with hypercall)",
		       len >> 10, end > start ? (end - start) >> 10 : 0);
}

static int open_there(struct windows *w, const struct vm *vm,
		      const struct window_place *place, const struct there *t,
		      const struct window_map *map, struct window_at *out,
		      char *err)
{
	const int prot = PROT_READ | (out->written ? PROT_WRITE : 0);
	struct window entry, *v;
	struct inject in;
	int rc;

	if (!place_entry(w, place->start, t->end, &entry, map->len))
		return refuse_size(place->start, t->end, map->len, err);
	v = windows_enter(w, map->id, entry.at, entry.len);
	if (!v)
		return -ENOMEM;
	rc = inject_begin(&in, vm->seen.pid, &w->code, err);
	if (rc) {
		v->owner = 0;
		return -ENODEV;
	}
	rc = overlay(&in, t, place, v->at, map, prot);
	inject_end(&in);
	if (rc)
		v->owner = 0;
	else
		out->at = v->at;
	return rc;
}

static int overlay_check(const struct vm *vm, const struct window_place *place,
			 const struct window_map *map, struct window_at *out,
			 char *err)
{
	(void)vm;
	if (place->fd < 0 || place->start >= place->end ||
	    map->len > place->end - place->start)
		return refuse_size(place->start, place->end, map->len, err);
	return window_probe(map->fd, map->off, map->len, &out->written, err);
}

static int overlay_open(struct windows *w, const struct vm *vm,
			const struct window_place *place,
			const struct window_map *map, struct window_at *out,
			char *err)
{
	struct there t;
	int rc = locate(vm, place, &t, err);

	if (rc)
		return rc;
	rc = open_there(w, vm, place, &t, map, out, err);
	there_fini(&t);
	return rc;
}

/* --- taking away ------------------------------------------------------------ */

/* Where there is nothing any more, nothing has to be taken away. */
static int begin(struct windows *w, const struct vm *vm,
		 const struct window_place *place, struct there *t,
		 struct inject *in)
{
	char err[VM_ERR_MAX] = "";
	int rc = locate(vm, place, t, err);

	if (!rc) {
		rc = inject_begin(in, vm->seen.pid, &w->code, err);
		if (rc)
			there_fini(t);
	}
	if (rc && !vm_ended(vm))
		log_warn("a device's memory could not be taken from the VM:"
			 " %s", err);
	return rc;
}

static void finish(struct there *t, struct inject *in)
{
	inject_end(in);
	there_fini(t);
}

static void overlay_close(struct windows *w, const struct vm *vm,
			  const struct window_place *place,
			  struct window *const *v, size_t n)
{
	struct inject in;
	struct there t;

	if (begin(w, vm, place, &t, &in) != 0)
		return;
	for (size_t i = 0; i < n; i++)
		if (map_back(&in, &t, place->fd, v[i]->at, v[i]->len) == 0)
			v[i]->owner = 0;
	finish(&t, &in);
}

/* From *at on, the first byte that is nobody's; *end: of what follows it. */
static bool next_stray(const struct windows *w, uint64_t *at, uint64_t *end)
{
	for (size_t i = 0; i < WINDOWS_MAX && *at < *end;) {
		const struct window *v = &w->v[i++];

		if (!v->owner || *at < v->at || *at >= v->at + v->len)
			continue;
		*at = v->at + v->len;
		i = 0;
	}
	for (size_t i = 0; i < WINDOWS_MAX; i++)
		if (w->v[i].owner && w->v[i].at > *at)
			*end = min_u64(*end, w->v[i].at);
	return *at < *end;
}

/* Something in the window is neither the shared memory nor an entry's. */
static bool find_stray(const struct windows *w, const struct there *t,
		       uint64_t start, uint64_t *at, uint64_t *end)
{
	for (size_t i = 0; i < t->maps.n; i++) {
		const struct map_line *line = &t->maps.v[i];
		const uint64_t from = max_u64(line->start,
					      t->base + max_u64(start, *at));
		const uint64_t to = min_u64(line->end, t->base + t->end);

		if (from >= to || is_shared_memory(t, line))
			continue;
		*at = from - t->base;
		*end = to - t->base;
		if (next_stray(w, at, end))
			return true;
		*at = to - t->base;
	}
	return false;
}

static bool overlay_stray(const struct windows *w, const struct vm *vm,
			  const struct window_place *place)
{
	char err[VM_ERR_MAX];
	uint64_t at = 0, end = 0;
	bool found = false;
	struct there t;

	if (place->fd >= 0 && locate(vm, place, &t, err) == 0) {
		found = find_stray(w, &t, place->start, &at, &end);
		there_fini(&t);
	}
	return found;
}

static void overlay_recover(struct windows *w, const struct vm *vm,
			    const struct window_place *place)
{
	uint64_t at = 0, end = 0;
	struct inject in;
	struct there t;

	if (begin(w, vm, place, &t, &in) != 0)
		return;
	for (; find_stray(w, &t, place->start, &at, &end); at = end)
		(void)map_back(&in, &t, place->fd, at, end - at);
	finish(&t, &in);
}

const struct window_ops window_overlay = {
	.check = overlay_check,
	.open = overlay_open,
	.close = overlay_close,
	.stray = overlay_stray,
	.recover = overlay_recover,
};
