/* SPDX-License-Identifier: MIT */
/*
 * siphash.c - SipHash-2-4
 *
 * Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012: words of
 * eight bytes, little-endian, go into a state of four words with two rounds
 * each. The last word has the length in its upper byte; four rounds finish.
 */
#include "base/siphash.h"

#include <string.h>

struct state {
	uint64_t a, b, c, d;
};

static uint64_t left(uint64_t x, int by)
{
	return x << by | x >> (64 - by);
}

static void rounds(struct state *s, int n)
{
	while (n-- > 0) {
		s->a += s->b;
		s->c += s->d;
		s->b = left(s->b, 13) ^ s->a;
		s->d = left(s->d, 16) ^ s->c;
		s->a = left(s->a, 32) + s->d;
		s->c += s->b;
		s->d = left(s->d, 21) ^ s->a;
		s->b = left(s->b, 17) ^ s->c;
		s->c = left(s->c, 32);
	}
}

static void take(struct state *s, uint64_t word)
{
	s->d ^= word;
	rounds(s, 2);
	s->a ^= word;
}

uint64_t siphash(const struct siphash_key *key, const void *data, size_t len)
{
	struct state s = {
		.a = key->v[0] ^ 0x736f6d6570736575ULL,
		.b = key->v[1] ^ 0x646f72616e646f6dULL,
		.c = key->v[0] ^ 0x6c7967656e657261ULL,
		.d = key->v[1] ^ 0x7465646279746573ULL,
	};
	const char *p = data;
	size_t rest = len;
	uint64_t word;

	for (; rest >= sizeof(word); rest -= sizeof(word), p += sizeof(word)) {
		memcpy(&word, p, sizeof(word));
		take(&s, word);
	}
	word = 0;
	memcpy(&word, p, rest);
	take(&s, word | (uint64_t)len << 56);
	s.c ^= 0xff;
	rounds(&s, 4);
	return s.a ^ s.b ^ s.c ^ s.d;
}
