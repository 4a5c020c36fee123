/* SPDX-License-Identifier: MIT */
/* copycalls.c - calls that move bytes between two descriptors */
#include "guest/tracer.h"

void call_copy(struct tracer *tr, struct task *t)
{
	call_general(tr, t);
}
