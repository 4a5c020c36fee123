/* SPDX-License-Identifier: MIT */
/* window.c - memory of devices, in the memory of a VM */
#include "vm/window.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/log.h"
#include "base/num.h"
#include "process/maps.h"
#include "process/proc.h"
#include "vm/inject.h"

#define WINDOWS_MAX	1024

struct window {
	pid_t owner;		/* 0: free */
	uint32_t id;
	uint64_t at, len;	/* bytes in the shared memory */
};

struct windows {
	pthread_mutex_t lock;
	struct inject_code code;
	/* Behind the last one: a part that was in use is in use again as late
	 * as can be, for a target may have it that does not know yet that its
	 * session is over. */
	uint64_t next;
	struct window v[WINDOWS_MAX];
};

int windows_new(struct windows **out)
{
	struct windows *w = mmap(NULL, sizeof(*w), PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pthread_mutexattr_t attr;

	if (w == MAP_FAILED)
		return -errno;
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	/* Whoever has it may be killed: what is in the table holds anyway. */
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&w->lock, &attr);
	pthread_mutexattr_destroy(&attr);
	*out = w;
	return 0;
}

void windows_free(struct windows *w)
{
	if (w)
		munmap(w, sizeof(*w));
}

static void lock(struct windows *w)
{
	if (pthread_mutex_lock(&w->lock) == EOWNERDEAD)
		pthread_mutex_consistent(&w->lock);
}

static void unlock(struct windows *w)
{
	pthread_mutex_unlock(&w->lock);
}

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

/* --- what can be overlaid -------------------------------------------------- */

static int refuse_kind(const struct window_map *m, char *err)
{
	struct stat st;

	if (fstat(m->fd, &st) < 0)
		return -errno;
	if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))
		return vm_fail(err, -ENODEV, "a file of the host cannot be"
			       " mapped shared: who cuts it would end the VM");
	if (S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 5))
		return vm_fail(err, -ENODEV, "/dev/zero gives every mapping"
			       " memory of its own, which cannot be shared with"
			       " the VM");
	return 0;
}

/*
 * As what it can be mapped, all of it: PROT_ bits or -errno. Memory of devices
 * that the kernel has no pages for (VM_PFNMAP) is mapped when it is mapped, or
 * not at all; madvise(2) says EINVAL of it.
 */
static int probe(const struct window_map *m, char *err)
{
	const int access = fcntl(m->fd, F_GETFL) & O_ACCMODE;
	int prot = access == O_RDWR ? PROT_READ | PROT_WRITE : PROT_READ;
	void *p = mmap(NULL, m->len, prot, MAP_SHARED, m->fd, (off_t)m->off);

	if (p == MAP_FAILED && prot & PROT_WRITE) {
		prot = PROT_READ;
		p = mmap(NULL, m->len, prot, MAP_SHARED, m->fd, (off_t)m->off);
	}
	if (p == MAP_FAILED)
		return -errno;
	if (madvise(p, m->len, MADV_POPULATE_READ) < 0 && errno != EINVAL)
		prot = vm_fail(err, -ENXIO, "not all of the %" PRIu64 " KiB at"
			       " offset %#" PRIx64 " of a device are there: %s",
			       m->len >> 10, m->off, strerror(errno));
	munmap(p, m->len);
	return prot;
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

static struct window *allocate(struct windows *w, uint64_t start, uint64_t end,
			       const struct window_map *map)
{
	struct window *v = NULL;
	uint64_t at;

	for (size_t i = 0; i < WINDOWS_MAX && !v; i++)
		if (!w->v[i].owner)
			v = &w->v[i];
	if (!v || (!find_part(w, max_u64(w->next, start), end, map->len, &at) &&
		   !find_part(w, start, end, map->len, &at)))
		return NULL;
	w->next = at + map->len;
	v->id = map->id;
	v->at = at;
	v->len = map->len;
	v->owner = getpid();
	return v;
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
		      const struct window_map *map, int prot, uint64_t *at,
		      char *err)
{
	struct window *v = allocate(w, place->start, t->end, map);
	struct inject in;
	int rc;

	if (!v)
		return refuse_size(place->start, t->end, map->len, err);
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
		*at = v->at;
	return rc;
}

int window_open(struct windows *w, const struct vm *vm,
		const struct window_place *place, const struct window_map *map,
		uint64_t *at, bool *written, char err[VM_ERR_MAX])
{
	struct there t;
	int prot, rc;

	rc = refuse_kind(map, err);
	if (rc)
		return rc;
	if (vm->seen.kind != VM_QEMU)
		return vm_fail(err, -ENODEV, "in User-Mode Linux a device's"
			       " memory cannot be mapped, for its processes are"
			       " traced by it and not by us; in QEMU it can");
	if (map->len == 0 || (map->off | map->len) & (PAGE_BYTES - 1) ||
	    !range_inside(map->off, map->len, INT64_MAX))
		return -EINVAL;
	if (place->fd < 0 || place->start >= place->end ||
	    map->len > place->end - place->start)
		return refuse_size(place->start, place->end, map->len, err);
	prot = probe(map, err);
	if (prot < 0)
		return prot;
	*written = prot & PROT_WRITE;
	lock(w);
	rc = locate(vm, place, &t, err);
	if (!rc) {
		rc = open_there(w, vm, place, &t, map, prot, at, err);
		there_fini(&t);
	}
	unlock(w);
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

/* Entries that are chosen; those that cannot be taken away stay. */
static void close_all(struct windows *w, const struct vm *vm,
		      const struct window_place *place, pid_t owner,
		      const uint32_t *id)
{
	struct there t;
	struct inject in;
	bool begun = false;

	lock(w);
	for (size_t i = 0; i < WINDOWS_MAX; i++) {
		struct window *v = &w->v[i];

		if (v->owner != owner || (id && v->id != *id))
			continue;
		if (vm && !vm_ended(vm)) {
			if (!begun && begin(w, vm, place, &t, &in) != 0)
				break;
			begun = true;
			if (map_back(&in, &t, place->fd, v->at, v->len) != 0)
				continue;
		}
		v->owner = 0;
	}
	if (begun)
		finish(&t, &in);
	unlock(w);
}

void window_close(struct windows *w, const struct vm *vm,
		  const struct window_place *place, uint32_t id)
{
	close_all(w, vm, place, getpid(), &id);
}

void windows_end(struct windows *w, const struct vm *vm,
		 const struct window_place *place, pid_t owner)
{
	close_all(w, vm, place, owner, NULL);
}

bool windows_has(const struct windows *w, pid_t owner)
{
	for (size_t i = 0; w && i < WINDOWS_MAX; i++)
		if (w->v[i].owner == owner)
			return true;
	return false;
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

bool windows_stray(struct windows *w, const struct vm *vm,
		   const struct window_place *place)
{
	char err[VM_ERR_MAX];
	uint64_t at = 0, end = 0;
	bool found = false;
	struct there t;

	int rc;

	if (vm->seen.kind != VM_QEMU)
		return false;
	/* Somebody is at it: another time. */
	rc = pthread_mutex_trylock(&w->lock);
	if (rc == EBUSY)
		return false;
	if (rc == EOWNERDEAD)
		pthread_mutex_consistent(&w->lock);
	if (locate(vm, place, &t, err) == 0) {
		found = find_stray(w, &t, place->start, &at, &end);
		there_fini(&t);
	}
	unlock(w);
	return found;
}

void windows_recover(struct windows *w, const struct vm *vm,
		     const struct window_place *place)
{
	uint64_t at = 0, end = 0;
	struct inject in;
	struct there t;

	lock(w);
	if (begin(w, vm, place, &t, &in) == 0) {
		for (; find_stray(w, &t, place->start, &at, &end); at = end)
			(void)map_back(&in, &t, place->fd, at, end - at);
		finish(&t, &in);
	}
	unlock(w);
}
