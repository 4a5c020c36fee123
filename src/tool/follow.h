/* SPDX-License-Identifier: MIT */
/* follow.h - a command that is launched to be looked at when it ends */
#ifndef TOOL_FOLLOW_H
#define TOOL_FOLLOW_H

#include <sys/types.h>

enum follow_when {
	FOLLOW_ASKED,		/* SIGUSR1 was sent to us; it goes on running */
	FOLLOW_ENDING,		/* it stands still, its memory all there */
};

/* tid: a thread of the process whose /proc/TID shows its memory; the first one,
 * unless that has ended before the others. */
typedef void (*follow_fn)(void *ctx, pid_t pid, pid_t tid,
			  enum follow_when when);

/*
 * follow() - run a command and call fn as above
 *
 * Returns its exit status (128+n after signal n), or -errno: it could not be
 * launched or traced; *what then says what failed and what to do about it. Not
 * called for a command that cannot be executed, which the child reports. Only
 * the process itself is looked at, not those that it starts. If we are ended
 * it goes on without us.
 */
int follow(char **argv, follow_fn fn, void *ctx, const char **what);

#endif
