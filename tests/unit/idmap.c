/* SPDX-License-Identifier: MIT */
/* idmap.c - the map by small numbers, against an array that is one */
#include "base/idmap.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "tap.h"

#define IDS	4096
#define ROUNDS	200000

/* Ids that share their low bits, as thread ids of one process do not. */
static uint32_t id_of(unsigned int i)
{
	return i % 2 ? i : (i + 1) * 4096;
}

int main(void)
{
	static void *model[IDS];
	struct idmap m = { 0 };
	bool same = true, walked = true;
	size_t n = 0, pos = 0, seen = 0;
	unsigned int seed = 1;
	void *value;

	ok(!idmap_get(&m, 7) && !idmap_take(&m, 7), "an empty map has nothing");
	for (int round = 0; round < ROUNDS && same; round++) {
		unsigned int i = (unsigned int)rand_r(&seed) % IDS;

		switch (rand_r(&seed) % 3) {
		case 0:
			value = (char *)model + rand_r(&seed) % 1000 + 1;
			n += !model[i];
			model[i] = value;
			same = idmap_put(&m, id_of(i), value) == 0;
			break;
		case 1:
			same = idmap_take(&m, id_of(i)) == model[i];
			n -= !!model[i];
			model[i] = NULL;
			break;
		default:
			same = idmap_get(&m, id_of(i)) == model[i];
		}
		same = same && m.n == n;
	}
	ok(same, "put, get and take agree with an array");
	for (unsigned int i = 0; i < IDS; i++)
		same = same && idmap_get(&m, id_of(i)) == model[i];
	ok(same, "nothing is lost or left in the end");
	while ((value = idmap_next(&m, &pos))) {
		bool known = false;

		for (unsigned int i = 0; i < IDS && !known; i++)
			known = model[i] == value;
		walked = walked && known;
		seen++;
	}
	ok(walked && seen == n, "a walk sees every value once");
	idmap_fini(&m);
	ok(m.n == 0 && !idmap_get(&m, 1), "a finished map is empty");
	return tap_end();
}
