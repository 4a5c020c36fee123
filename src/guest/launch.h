/* SPDX-License-Identifier: MIT */
/* launch.h - from a command line to the first traced target */
#ifndef GUEST_LAUNCH_H
#define GUEST_LAUNCH_H

#include "base/exit.h"
#include "guest/tracer.h"

/* launch_memory() - the arena with the gate in it; 0 or -errno */
int launch_memory(struct tracer *tr);

/*
 * launch_vm_memory() - targets keep their memory; what pins it
 *
 * After launch_memory(). 0 or -errno; *what then says what failed and what to
 * do about it.
 */
int launch_vm_memory(struct tracer *tr, enum pin_kind pins, const char **what);

/* launch_fini() - lets go of all memory */
void launch_fini(struct tracer *tr);

/*
 * launch() - fork, seize, filter, exec
 *
 * tr->memory and tr->client are ready. A command that cannot be executed is
 * reported by the child, which ends with EXIT_CANNOT_EXEC or EXIT_NOT_FOUND.
 * 0 or -errno; *what then says what failed and what to do about it.
 */
int launch(struct tracer *tr, char **argv, const char **what);

#endif
