/* SPDX-License-Identifier: MIT */
/*
 * path.h - does a path lead into what is forwarded?
 *
 * A path is followed, symbolic links included, through the target's own names
 * until it crosses into the guest name of a rule. Beyond that border it is the
 * host kernel's business, except that ".." which leads back across the border
 * by the letter leads back here.
 */
#ifndef GUEST_PATH_H
#define GUEST_PATH_H

#include <limits.h>
#include <stdbool.h>

#include "guest/tracer.h"

enum place_kind {
	PLACE_LOCAL,
	PLACE_HOST,
	PLACE_OWN_FD,		/* /dev/stdin, /proc/self/fd/N: a host fd */
	PLACE_FD_ITSELF,	/* "" with a host dirfd: the descriptor */
};

struct place {
	enum place_kind kind;
	bool rewritten;		/* text must be used instead of what was given */
	int fd;			/* PLACE_OWN_FD, PLACE_FD_ITSELF */
	char abs[PATH_MAX];	/* normal absolute guest name; "" if unknown */
	char text[PATH_MAX];	/* the same place as the kernel finds it: beyond
				 * a rule's border ".." is left to it */
};

/*
 * path_resolve() - where (dirfd, text) leads
 *
 * follow: a final symbolic link is followed. 0; -ENAMETOOLONG; -ELOOP.
 */
int path_resolve(struct tracer *tr, struct task *t, int dirfd,
		 const char *text, bool follow, struct place *out);

/*
 * path_is_mixed() - can a name below that directory lead to the other side, but
 * by a symbolic link? abs: a normal absolute name
 */
bool path_is_mixed(const struct tracer *tr, const char *abs);

/* path_read() - a path argument from target memory: 0, -EFAULT,
 * -ENAMETOOLONG */
int path_read(struct task *t, uint64_t addr, char out[PATH_MAX]);

#endif
