/* SPDX-License-Identifier: MIT */
/* idmap.c - open addressing with linear probing, back-shifting on removal */
#include "base/idmap.h"

#include <errno.h>
#include <stdlib.h>

static size_t home(const struct idmap *m, uint32_t id)
{
	return (size_t)(id * 2654435761u) & (m->cap - 1);
}

static size_t find(const struct idmap *m, uint32_t id)
{
	size_t i = home(m, id);

	while (m->v[i].id && m->v[i].id != id)
		i = (i + 1) & (m->cap - 1);
	return i;
}

static int grow(struct idmap *m)
{
	struct idmap bigger = { .cap = m->cap ? m->cap * 2 : 64, .n = m->n };

	bigger.v = calloc(bigger.cap, sizeof(*bigger.v));
	if (!bigger.v)
		return -ENOMEM;
	for (size_t i = 0; i < m->cap; i++)
		if (m->v[i].id)
			bigger.v[find(&bigger, m->v[i].id)] = m->v[i];
	free(m->v);
	*m = bigger;
	return 0;
}

int idmap_put(struct idmap *m, uint32_t id, void *value)
{
	size_t i;

	if (m->n * 2 >= m->cap && grow(m) < 0)
		return -ENOMEM;
	i = find(m, id);
	if (!m->v[i].id)
		m->n++;
	m->v[i] = (struct idmap_entry){ .id = id, .value = value };
	return 0;
}

void *idmap_get(const struct idmap *m, uint32_t id)
{
	return m->cap ? m->v[find(m, id)].value : NULL;
}

void *idmap_take(struct idmap *m, uint32_t id)
{
	size_t hole, i;
	void *value;

	if (!m->cap)
		return NULL;
	hole = find(m, id);
	if (!m->v[hole].id)
		return NULL;
	value = m->v[hole].value;
	for (i = (hole + 1) & (m->cap - 1); m->v[i].id;
	     i = (i + 1) & (m->cap - 1)) {
		size_t h = home(m, m->v[i].id);

		/* Does the hole lie between its home and where it is? */
		if (((i - h) & (m->cap - 1)) >= ((i - hole) & (m->cap - 1))) {
			m->v[hole] = m->v[i];
			hole = i;
		}
	}
	m->v[hole] = (struct idmap_entry){ 0 };
	m->n--;
	return value;
}

void *idmap_next(const struct idmap *m, size_t *pos)
{
	while (*pos < m->cap) {
		const struct idmap_entry *e = &m->v[(*pos)++];

		if (e->id)
			return e->value;
	}
	return NULL;
}

void idmap_fini(struct idmap *m)
{
	free(m->v);
	*m = (struct idmap){ 0 };
}
