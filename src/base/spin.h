/* SPDX-License-Identifier: MIT */
/* spin.h - for how long to look for something before one sleeps */
#ifndef BASE_SPIN_H
#define BASE_SPIN_H

#include <stdbool.h>
#include <stdint.h>

/*
 * spin_looks() - how many turns of a loop with `pause` in it take so long
 *
 * Measured, which takes some 20 us: `pause` takes 10 to 140 cycles, depending
 * on the processor. 0 where there is one processor only, and what is waited for
 * could not happen; unless it happens elsewhere, on the host of a VM.
 */
uint32_t spin_looks(unsigned int us, bool elsewhere);

#endif
