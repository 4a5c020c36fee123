/* SPDX-License-Identifier: MIT */
/*
 * rules.h - what the guest asks for and what the host allows
 *
 * One grammar for `run --forward RULE`, `host --allow RULE` and policy files
 * (darkshadow-policy(5)):
 *
 *	path:GUEST=HOST[:ro|:rw]	the tree HOST under the name GUEST
 *	path:GUEST[:ro|:rw]		the same name on both sides
 *	dev:GUEST[=HOST][:ro|:rw][:ioctl=LIST]
 *					a device node; LIST: the numbers of the
 *					ioctl requests that are allowed, and
 *					ranges of them, or none
 *	net				sockets of the host's network
 *	eventfd				eventfds are the host's
 *	fuse				file systems that a target serves
 *					by /dev/fuse are mounted
 *	all				everything that is not the process's own
 *
 * Names are absolute and stored without "." or ".." components, doubled or
 * trailing slashes; a name that holds such a component is refused.
 */
#ifndef WIRE_RULES_H
#define WIRE_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum rule_kind { RULE_PATH, RULE_DEV, RULE_NET, RULE_EVENTFD,
		 RULE_FUSE, RULE_ALL };

/* Requests of ioctl(2), from first to last. */
struct request_range {
	uint32_t first, last;
};

#define RULE_REQUESTS_MAX 64

struct rule {
	enum rule_kind kind;
	bool ro;		/* RULE_PATH, RULE_DEV */
	bool limited;		/* RULE_DEV: to these: */
	struct request_range *requests;	/* owned */
	size_t nrequests;
	char *guest;		/* owned; RULE_PATH, RULE_DEV */
	char *host;		/* owned; RULE_PATH, RULE_DEV */
	char *base;		/* owned; host name of the policy's rule, or NULL */
};

struct rules {
	struct rule *v;		/* owned */
	size_t n;
};

#define RULES_ERR_MAX 512

void rules_fini(struct rules *rules);

/*
 * rules_add() - parse one rule and append it
 *
 * Returns 0, -EINVAL (err says what was wrong with what part, and shows the
 * form that was expected) or -ENOMEM. Two rules for one guest name: -EINVAL.
 */
int rules_add(struct rules *rules, const char *text, char err[RULES_ERR_MAX]);

/*
 * rules_load() - append the rules of a file, one a line
 *
 * Empty lines and what follows # are ignored. Returns 0 or -errno; err then
 * begins with "FILE:LINE: " or "FILE: ".
 */
int rules_load(struct rules *rules, const char *file, char err[RULES_ERR_MAX]);

/* rules_format() - the rule as text that rules_add() takes; snprintf(3)'s
 * return value */
int rules_format(const struct rule *rule, char *buf, size_t size);

/*
 * rules_below() - what follows dir in name, "" or beginning with a slash; NULL
 * where name is neither dir nor below it
 *
 * Whole components. Both are in normal form.
 */
const char *rules_below(const char *dir, const char *name);

/*
 * rules_cover() - does the policy allow what the rule asks for?
 *
 * A path is covered by a path rule whose guest name is the same or a leading
 * part of it, whose host name leads to the same place by the same remainder,
 * and that is not ro where rw is asked for; of a device, one that allows the
 * requests that are asked for, if some are named; "all" covers everything.
 * Returns the rule that covers it, or NULL.
 */
const struct rule *rules_cover(const struct rules *policy,
			       const struct rule *asked);

/*
 * rules_match() - the path rule or dev rule whose guest name is the absolute,
 * normal path or a leading part of it (whole components), longest first; or
 * NULL. "all" is not considered.
 */
const struct rule *rules_match(const struct rules *rules, const char *path);

bool rules_has(const struct rules *rules, enum rule_kind kind);

/* rule_limit() - to the requests that another allows; 0 or -ENOMEM */
int rule_limit(struct rule *rule, const struct rule *by);

#endif
