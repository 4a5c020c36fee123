/* SPDX-License-Identifier: MIT */
/*
 * probe.h - trying one thing out, so that nothing comes of it
 *
 * A probe is a function that is called in a process of its own, with no
 * standard streams, and says what it has found. It may do there what it likes
 * to itself, and start children by probe_child(): all of them are gone when
 * probe_run() returns.
 */
#ifndef TOOL_PROBE_H
#define TOOL_PROBE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum verdict { PASS, WARN, FAIL, SKIP };

#define FINDING_TEXT	1280
#define FINDING_REMEDY	512

/* Both are one line of printable ASCII. */
struct finding {
	enum verdict verdict;
	char text[FINDING_TEXT];
	char remedy[FINDING_REMEDY];	/* what to type; "": nothing */
};

typedef void probe_fn(struct finding *f);

/* --- for probes ----------------------------------------------------------- */

void __attribute__((format(printf, 3, 4)))
finding_say(struct finding *f, enum verdict verdict, const char *fmt, ...);
void __attribute__((format(printf, 2, 3)))
finding_remedy(struct finding *f, const char *fmt, ...);

/*
 * finding_refused() - a failure with the words for an errno
 *
 * The remedy is what helps against this errno as a rule; or, if the process has
 * a seccomp filter around it, what helps against that. false: there is none,
 * and whoever knows more had better say so.
 */
bool finding_refused(struct finding *f, const char *what, int err);

/* finding_killed() - a failure: a signal ended a child that tried something */
void finding_killed(struct finding *f, int sig);

/* probe_child() - fork() of a child that ends with us; -1: errno says why */
pid_t probe_child(void);

/* probe_idler() - such a child that does nothing until it is killed */
pid_t probe_idler(void);

/*
 * probe_wait() - the wait(2) status of a child when it has ended, or -1
 *
 * One that is traced by us goes on from whatever stop it is in.
 */
int probe_wait(pid_t pid);

/* probe_kill() - end a child, traced or not, and wait for it */
void probe_kill(pid_t pid);

/* probe_sysctl() - a setting as a number, "kernel.x"; -1: there is none */
long probe_sysctl(const char *name);

/* probe_as_root() - " (as root)" behind a command, unless one is root */
const char *probe_as_root(void);

/* probe_caps() - our effective capabilities, 1ULL << CAP_ */
uint64_t probe_caps(void);

/* --- for who runs them ---------------------------------------------------- */

/*
 * probe_run() - call fn in a process of its own, for no longer than limit_ms
 *
 * What takes longer is a warning; what kills that process is a failure.
 */
void probe_run(probe_fn *fn, unsigned int limit_ms, struct finding *out);

#endif
