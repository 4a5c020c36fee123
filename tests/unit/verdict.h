/* SPDX-License-Identifier: MIT */
/* verdict.h - what a filter says */
#ifndef UNIT_VERDICT_H
#define UNIT_VERDICT_H

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <string.h>

#include "base/bpf.h"

/* verdict() - run the program on a call; 0xdead: it is none */
static inline uint32_t verdict(const struct sock_fprog *prog,
			       const struct seccomp_data *call)
{
	struct bpf_data data = { .unknown = 0 };
	uint32_t action;

	memcpy(data.w, call, sizeof(data.w));
	return bpf_run(prog->filter, prog->len, &data, &action) ? 0xdead :
								  action;
}

#endif
