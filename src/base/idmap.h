/* SPDX-License-Identifier: MIT */
/* idmap.h - pointers by a small number that is not 0 (thread ids and such) */
#ifndef BASE_IDMAP_H
#define BASE_IDMAP_H

#include <stddef.h>
#include <stdint.h>

struct idmap_entry {
	uint32_t id;
	void *value;
};

/* Zeroed memory is an empty map. Values are borrowed. */
struct idmap {
	struct idmap_entry *v;
	size_t cap;		/* a power of two */
	size_t n;
};

int idmap_put(struct idmap *m, uint32_t id, void *value); /* 0 or -ENOMEM */
void *idmap_get(const struct idmap *m, uint32_t id);	  /* or NULL */
void *idmap_take(struct idmap *m, uint32_t id);	  /* removes; or NULL */
void idmap_fini(struct idmap *m);

/* idmap_next() - walk: start with *pos = 0; NULL at the end. The map must not
 * change meanwhile. */
void *idmap_next(const struct idmap *m, size_t *pos);

#endif
