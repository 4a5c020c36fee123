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

static bool is_shared_memory(const struct map_line *line, const struct stat *st)
{
	return line->shared && line->ino == st->st_ino &&
	       line->dev == st->st_dev;
}

/*
 * The address of the shared memory's first byte. What lies before the window
 * is never overlaid, so its mapping is there. -ENOENT: there is none, -ENOTUNIQ:
 * or there are several, and only one of them is the device's.
 */
static int find_base(const struct maps *maps, const struct stat *st,
		     uint64_t *base)
{
	int found = 0;

	for (size_t i = 0; i < maps->n; i++) {
		const struct map_line *line = &maps->v[i];

		if (!is_shared_memory(line, st) || line->off != 0)
			continue;
		*base = line->start;
		found++;
	}
	return found == 1 ? 0 : found ? -ENOTUNIQ : -ENOENT;
}

static int locate(const struct vm *vm, const struct window_place *place,
		  uint64_t *base, char *err)
{
	struct maps maps = { 0 };
	struct stat st;
	int rc;

	if (fstat(place->fd, &st) < 0)
		return vm_fail(err, -ENODEV, "the shared memory: %s",
			       strerror(errno));
	rc = maps_read(vm->seen.pid, &maps);
	if (!rc)
		rc = find_base(&maps, &st, base);
	maps_fini(&maps);
	if (rc == -ENOTUNIQ)
		return vm_fail(err, -ENODEV, "the VMM has the shared memory"
			       " mapped twice: give it one ivshmem device");
	if (rc)
		return vm_fail(err, -ENODEV, "the VMM has not mapped the memory"
			       " that --transport names: %s", strerror(-rc));
	return 0;
}

/* --- overlaying ------------------------------------------------------------ */

/* One mmap(2) by the VMM over [at, at + len): 0 or -errno. */
static int64_t map_own(struct inject *in, uint64_t at, uint64_t len, int prot,
		       int there, uint64_t off)
{
	int64_t r = INJECT(in, SYS_mmap, at, len, (uint64_t)prot,
			   MAP_SHARED | MAP_FIXED, (uint64_t)there, off);

	return r == (int64_t)at ? 0 : r < 0 ? r : -EIO;
}

/* The same, from a file of ours. */
static int64_t map_ours(struct inject *in, uint64_t at, uint64_t len, int prot,
			int fd, uint64_t off)
{
	int there = inject_fd(in, fd);
	int64_t r;

	if (there < 0)
		return there;
	r = map_own(in, at, len, prot, there, off);
	INJECT(in, SYS_close, (uint64_t)there);
	return r;
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
 * The shared memory again. By the VMM's own descriptor, where it has kept it:
 * then this mapping and those beside it become one again.
 */
static int64_t map_back(struct inject *in, uint64_t at, uint64_t len, int fd,
			uint64_t off)
{
	const int prot = PROT_READ | PROT_WRITE;
	struct stat st;
	int own = fstat(fd, &st) < 0 ? 0 :
		  proc_each_fd(in->remote.tid, is_file, &st);
	int64_t r = -EBADF;

	if (own > 0)
		r = map_own(in, at, len, prot, own - 1, off);
	return r ? map_ours(in, at, len, prot, fd, off) : 0;
}

static int overlay(const struct vm *vm, uint64_t hva, const struct window_map *m,
		   int prot, char *err)
{
	struct inject in;
	int rc = inject_begin(&in, vm->seen.pid, err);

	if (rc)
		return -ENODEV;
	rc = (int)map_ours(&in, hva, m->len, prot, m->fd, m->off);
	inject_end(&in);
	return rc;
}

/* The shared memory itself again. */
static void take_away(const struct vm *vm, const struct window_place *place,
		      uint64_t at, uint64_t len)
{
	char err[VM_ERR_MAX] = "";
	struct inject in;
	uint64_t base = 0;
	int64_t r;

	if (vm_ended(vm))
		return;
	r = locate(vm, place, &base, err);
	if (!r)
		r = inject_begin(&in, vm->seen.pid, err);
	if (!r) {
		r = map_back(&in, base + at, len, place->fd, at);
		inject_end(&in);
	}
	if (r && !vm_ended(vm))
		log_warn("a device's memory could not be taken from the VM:"
			 " %s", *err ? err : strerror((int)-r));
}

/* --- what can be overlaid -------------------------------------------------- */

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
	struct stat st;

	if (fstat(m->fd, &st) < 0)
		return -errno;
	if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) {
		if (p != MAP_FAILED)
			munmap(p, m->len);
		return vm_fail(err, -ENODEV, "a file of the host cannot be"
			       " mapped shared: who cuts it would end the VM");
	}
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

/* The first free part from `from` on, or false. */
static bool find_part(const struct windows *w, const struct window_place *place,
		      uint64_t from, uint64_t len, uint64_t *out)
{
	uint64_t at = max_u64(from, place->start);
	bool moved = true;

	while (moved) {
		moved = false;
		if (!range_inside(at, len, place->end))
			return false;
		for (size_t i = 0; i < WINDOWS_MAX; i++) {
			const struct window *v = &w->v[i];

			if (v->owner && v->at < at + len &&
			    at < v->at + v->len) {
				at = v->at + v->len;
				moved = true;
			}
		}
	}
	*out = at;
	return true;
}

static struct window *allocate(struct windows *w,
			       const struct window_place *place,
			       const struct window_map *map)
{
	struct window *v = NULL;
	uint64_t at;

	for (size_t i = 0; i < WINDOWS_MAX && !v; i++)
		if (!w->v[i].owner)
			v = &w->v[i];
	if (!v || (!find_part(w, place, w->next, map->len, &at) &&
		   !find_part(w, place, 0, map->len, &at)))
		return NULL;
	w->next = at + map->len;
	v->id = map->id;
	v->at = at;
	v->len = map->len;
	v->owner = getpid();
	return v;
}

static int open_locked(struct windows *w, const struct vm *vm,
		       const struct window_place *place,
		       const struct window_map *map, int prot, uint64_t *at,
		       char *err)
{
	struct window *v;
	uint64_t base;
	int rc = locate(vm, place, &base, err);

	if (rc)
		return rc;
	v = allocate(w, place, map);
	if (!v)
		return vm_fail(err, -ENOMEM, "no %" PRIu64 " KiB are left for a"
			       " device's memory in the window of %" PRIu64
			       " KiB: enlarge the memory of the ivshmem device"
			       " (the size= of its memory backend, or --window"
			       " with hypercall)", map->len >> 10,
			       (place->end - place->start) >> 10);
	rc = overlay(vm, base + v->at, map, prot, err);
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
	int prot, rc;

	if (vm->seen.kind != VM_QEMU)
		return vm_fail(err, -ENODEV, "in User-Mode Linux a device's"
			       " memory cannot be mapped, for its processes are"
			       " traced by it and not by us; in QEMU it can");
	if (place->fd < 0 || place->start >= place->end)
		return vm_fail(err, -ENODEV, "the memory that --transport names"
			       " has no room behind its channels for a device's"
			       " memory: enlarge it");
	if (map->len == 0 || (map->off | map->len) & (PAGE_BYTES - 1) ||
	    !range_inside(map->off, map->len, INT64_MAX))
		return -EINVAL;
	prot = probe(map, err);
	if (prot < 0)
		return prot;
	lock(w);
	rc = open_locked(w, vm, place, map, prot, at, err);
	unlock(w);
	*written = prot & PROT_WRITE;
	return rc;
}

static void close_one(struct window *v, const struct vm *vm,
		      const struct window_place *place)
{
	take_away(vm, place, v->at, v->len);
	v->owner = 0;
}

void window_close(struct windows *w, const struct vm *vm,
		  const struct window_place *place, uint32_t id)
{
	lock(w);
	for (size_t i = 0; i < WINDOWS_MAX; i++)
		if (w->v[i].owner == getpid() && w->v[i].id == id)
			close_one(&w->v[i], vm, place);
	unlock(w);
}

void windows_end(struct windows *w, const struct vm *vm,
		 const struct window_place *place, pid_t owner)
{
	lock(w);
	for (size_t i = 0; i < WINDOWS_MAX; i++)
		if (w->v[i].owner == owner)
			close_one(&w->v[i], vm, place);
	unlock(w);
}

/* Is it somebody's of ours? */
static bool is_known(const struct windows *w, uint64_t at)
{
	for (size_t i = 0; i < WINDOWS_MAX; i++)
		if (w->v[i].owner && at >= w->v[i].at &&
		    at < w->v[i].at + w->v[i].len)
			return true;
	return false;
}

void windows_recover(struct windows *w, const struct vm *vm,
		     const struct window_place *place)
{
	struct maps maps = { 0 };
	struct stat st;
	uint64_t base;

	if (vm->seen.kind != VM_QEMU || fstat(place->fd, &st) < 0 ||
	    maps_read(vm->seen.pid, &maps) < 0)
		return;
	lock(w);
	for (size_t i = 0; find_base(&maps, &st, &base) == 0 && i < maps.n;
	     i++) {
		const struct map_line *line = &maps.v[i];
		const uint64_t from = max_u64(line->start, base + place->start);
		const uint64_t to = min_u64(line->end, base + place->end);

		if (from >= to || is_shared_memory(line, &st) ||
		    is_known(w, from - base))
			continue;
		log_info("a device's memory that an earlier daemon left in the"
			 " VM is taken away");
		take_away(vm, place, from - base, to - from);
	}
	unlock(w);
	maps_fini(&maps);
}
