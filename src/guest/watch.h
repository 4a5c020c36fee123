/* SPDX-License-Identifier: MIT */
/*
 * watch.h - answers of the host's that nobody waits for in the gate
 *
 * A thread that waits for both sides at once sleeps in its own kernel while an
 * executor waits on the host. A helper thread of ours looks at the answers of
 * such requests; the thread that traces makes the target's stop when there is
 * one.
 */
#ifndef GUEST_WATCH_H
#define GUEST_WATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct watch;

/*
 * watch_new() - watch answers for the calling thread, which traces
 *
 * by_futex: the host's futex calls reach us, as they do without a VM;
 * otherwise answers are looked for, by a pause that grows. 0 or -errno.
 * SIGRTMIN is ours from then on.
 */
int watch_new(bool by_futex, struct watch **out);
void watch_free(struct watch *w);

/*
 * watch_add() - the tracee tid is interrupted (PTRACE_INTERRUPT) once *word,
 * but for its bit 0, is seq
 *
 * word: a slot's resp_seq, mapped until watch_remove(). One for each tid. 0 or
 * -ENOMEM.
 */
int watch_add(struct watch *w, uint32_t *word, uint32_t seq, pid_t tid);
void watch_remove(struct watch *w, pid_t tid);

#endif
