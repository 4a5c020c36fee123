/* SPDX-License-Identifier: MIT */
/*
 * siphash.h - SipHash-2-4: short text as 64 bits, under a secret key
 *
 * Without the key nobody can tell which text it was by trying those that are
 * likely, nor find two that collide.
 */
#ifndef BASE_SIPHASH_H
#define BASE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

struct siphash_key {
	uint64_t v[2];
};

uint64_t siphash(const struct siphash_key *key, const void *data, size_t len);

#endif
