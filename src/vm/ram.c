/* SPDX-License-Identifier: MIT */
/* ram.c - guest RAM: a sorted table of ranges */
#include "vm/ram.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/num.h"

void ram_init(struct ram *ram, int fd, uint64_t file_size)
{
	*ram = (struct ram){ .fd = fd, .file_size = file_size,
			     .page = PAGE_BYTES };
}

void ram_fini(struct ram *ram)
{
	close_fd(&ram->fd);
	free(ram->v);
	ram_init(ram, -1, 0);
}

/* The first range that ends behind gpa; n if there is none. */
static size_t range_at(const struct ram *ram, uint64_t gpa)
{
	size_t lo = 0, hi = ram->n;

	while (lo < hi) {
		const size_t mid = lo + (hi - lo) / 2;

		if (ram->v[mid].gpa + ram->v[mid].len > gpa)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

int ram_add(struct ram *ram, uint64_t gpa, uint64_t len, uint64_t off)
{
	const size_t at = range_at(ram, gpa);
	struct ram_range *v;

	if (len == 0 || ((gpa | len | off) & (ram->page - 1)) ||
	    !range_inside(gpa, len, INT64_MAX) ||
	    !range_inside(off, len, ram->file_size))
		return -EINVAL;
	if (at < ram->n && ram->v[at].gpa < gpa + len)
		return -EEXIST;
	v = realloc(ram->v, (ram->n + 1) * sizeof(*v));
	if (!v)
		return -ENOMEM;
	memmove(v + at + 1, v + at, (ram->n - at) * sizeof(*v));
	v[at] = (struct ram_range){ .gpa = gpa, .len = len, .off = off };
	ram->v = v;
	ram->n++;
	return 0;
}

/* Does what follows r in both spaces begin with next? */
static bool follows(const struct ram_range *r, const struct ram_range *next)
{
	return next->gpa == r->gpa + r->len && next->off == r->off + r->len;
}

int ram_find(const struct ram *ram, uint64_t gpa, uint64_t len, uint64_t *off)
{
	size_t i = range_at(ram, gpa);
	const struct ram_range *first = ram->v + i;

	if (len == 0 || len > UINT64_MAX - gpa || i == ram->n ||
	    first->gpa > gpa)
		return -EFAULT;
	while (gpa + len > ram->v[i].gpa + ram->v[i].len) {
		if (++i == ram->n || !follows(&ram->v[i - 1], &ram->v[i]))
			return -EFAULT;
	}
	*off = first->off + (gpa - first->gpa);
	return 0;
}
