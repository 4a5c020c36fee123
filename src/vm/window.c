/* SPDX-License-Identifier: MIT */
/* window.c - memory of devices, in the memory of a VM: the table of it */
#include "vm/window.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/num.h"
#include "vm/ways.h"

static const struct window_ops *const ways[] = {
	&window_overlay, &window_plug,
};

int windows_new(const struct window_ops *ops, struct windows **out)
{
	struct windows *w = mmap(NULL, sizeof(*w), PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pthread_mutexattr_t attr;

	if (w == MAP_FAILED)
		return -errno;
	w->ops = ops;
	w->daemon = getpid();
	w->unsure = ops == &window_plug;
	if (getrandom(&w->nonce, sizeof(w->nonce), 0) != sizeof(w->nonce)) {
		windows_free(w);
		return -EIO;
	}
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

struct window *windows_enter(struct windows *w, uint32_t id, uint64_t at,
			     uint64_t len)
{
	for (size_t i = 0; i < WINDOWS_MAX; i++) {
		struct window *v = &w->v[i];

		if (v->owner)
			continue;
		v->id = id;
		v->at = at;
		v->len = len;
		v->owner = getpid();
		return v;
	}
	return NULL;
}

/* --- what can be there ----------------------------------------------------- */

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

int window_probe(int fd, uint64_t off, uint64_t len, bool *written, char *err)
{
	const int access = fcntl(fd, F_GETFL) & O_ACCMODE;
	int prot = access == O_RDWR ? PROT_READ | PROT_WRITE : PROT_READ;
	void *p = mmap(NULL, len, prot, MAP_SHARED, fd, (off_t)off);
	int rc = 0;

	if (p == MAP_FAILED && prot & PROT_WRITE) {
		prot = PROT_READ;
		p = mmap(NULL, len, prot, MAP_SHARED, fd, (off_t)off);
	}
	if (p == MAP_FAILED)
		return -errno;
	/* EINVAL: of memory that has no pages, nothing is to be feared. */
	if (madvise(p, len, MADV_POPULATE_READ) < 0 && errno != EINVAL)
		rc = vm_fail(err, -ENXIO, "not all of the %" PRIu64 " KiB at"
			     " offset %#" PRIx64 " of a device are there: %s",
			     len >> 10, off, strerror(errno));
	munmap(p, len);
	*written = prot & PROT_WRITE;
	return rc;
}

int window_open(struct windows *w, const struct vm *vm,
		const struct window_place *place, const struct window_map *map,
		struct window_at *out, char err[VM_ERR_MAX])
{
	int rc;

	*out = (struct window_at){ .at = 0 };
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
	rc = w->ops->check(vm, place, map, out, err);
	if (rc)
		return rc;
	lock(w);
	rc = w->ops->open(w, vm, place, map, out, err);
	unlock(w);
	return rc;
}

/* --- taking away ----------------------------------------------------------- */

/* Entries of a process, all or those of an id. */
static void close_all(struct windows *w, const struct vm *vm,
		      const struct window_place *place, pid_t owner,
		      const uint32_t *id)
{
	const bool gone = !vm || vm_ended(vm);
	struct window *v[WINDOWS_MAX];
	size_t n = 0;

	lock(w);
	for (size_t i = 0; i < WINDOWS_MAX; i++) {
		if (w->v[i].owner != owner || (id && w->v[i].id != *id))
			continue;
		if (gone)
			w->v[i].owner = 0;
		else
			v[n++] = &w->v[i];
	}
	if (n)
		w->ops->close(w, vm, place, v, n);
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

bool windows_stray(struct windows *w, const struct vm *vm,
		   const struct window_place *place)
{
	bool found = false;
	int rc;

	if (vm->seen.kind != VM_QEMU)
		return false;
	/* Somebody is at it: another time. */
	rc = pthread_mutex_trylock(&w->lock);
	if (rc == EBUSY)
		return false;
	if (rc == EOWNERDEAD)
		pthread_mutex_consistent(&w->lock);
	for (size_t i = 0; i < ARRAY_SIZE(ways) && !found; i++)
		found = ways[i]->stray(w, vm, place);
	unlock(w);
	return found;
}

void windows_recover(struct windows *w, const struct vm *vm,
		     const struct window_place *place)
{
	lock(w);
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++)
		if (ways[i]->stray(w, vm, place))
			ways[i]->recover(w, vm, place);
	unlock(w);
}
